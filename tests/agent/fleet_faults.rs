//! What can stand in the way of fleet provisioning: the line, TLS, MQTT, AWS's refusals, the claim and its policy.

use onyx::bench::clouds::aws_iot::document::Document;
use onyx::bench::clouds::aws_iot::registry::{Certificate, Status};
use onyx::bench::clouds::{Cloud, Protocol, What};
use serde_json::{Value, json};

use crate::fleet::{CREATE, N, PROVISION, clouds, fleet, forget, tell, until};
use crate::krypton::assert_arrived;
use crate::stage::{Agent, Bench, IMEI};

/// What a log says of the rung "credentials" when it fell.
fn down(log: &str) -> String {
    let lines = log
        .lines()
        .filter(|l| l.contains("\"rung\":\"credentials\"") && l.contains("\"cure\""));
    lines.collect::<Vec<_>>().join("\n")
}

/// Each fault hits the first connection, which is the claim's; the agent says what happened and what to do, and provisions at the next.
/// Those without words do no harm: one conversation is enough.
fn survives(faults: &[(&str, &[&str])]) {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let toml = fleet(&clouds, Protocol::Mqtts);
    for (n, (fault, words)) in faults.iter().enumerate() {
        let spec = format!("aws-iot:{fault} for next 1 connections");
        clouds.put_fault(&spec.parse().unwrap()).unwrap();
        let mut events = clouds.events();
        let ended = Agent::until(&bench, &toml, N).delivers(N);
        assert_arrived(&bench, &clouds, Cloud::AwsIot, N * (n as u64 + 1));
        let down = down(&ended.log);
        assert_eq!(down.is_empty(), words.is_empty(), "{fault}:\n{down}");
        for word in *words {
            assert!(down.contains(word), "{fault}: {word:?} is not in\n{down}");
        }
        let seen = until(
            &mut events,
            "the thing",
            |w| matches!(w, What::Connected { client_id, .. } if client_id == IMEI),
        );
        let provisioned = seen
            .iter()
            .filter(|w| matches!(w, What::Request { topic, .. } if topic == PROVISION));
        assert!(provisioned.count() >= 1, "{fault}: {seen:#?}");
        clouds.controls().clear(Some(Cloud::AwsIot)).unwrap();
        forget(&bench);
    }
}

#[test]
fn faults_of_connections_and_of_tls() {
    let connecting = "connecting with the claim certificate";
    survives(&[
        ("refuse-tcp", &[connecting, "session.host"]),
        ("tls-alert-40", &[connecting, "HandshakeFailure"]),
        ("cert-expired", &[connecting, "clock is ahead"]),
        ("cert-wrong-name", &[connecting, "for another name"]),
        ("cert-unknown-authority", &[connecting, "session.ca_file"]),
        ("client-certs-expired", &[connecting, "claim certificate ACTIVE"]),
        ("cut-down@300", &[connecting]),
        ("throttle=20000", &[]),
    ]);
}

#[test]
fn faults_of_mqtt() {
    let (connecting, subscribing) = ("connecting with the claim certificate", "subscribing to the answers");
    survives(&[
        (
            "refuse-5",
            &[connecting, "CONNACK 5", "iot:Connect on client/onyx-claim-*"],
        ),
        ("refuse-3", &[connecting, "CONNACK 3"]),
        (
            "close-after-connack",
            &[
                subscribing,
                "iot:Subscribe on topicfilter/$aws/certificates/create-from-csr/json/*",
            ],
        ),
        (
            "cut-after-1",
            &[
                "asking for a certificate",
                "iot:Publish on topic/$aws/certificates/create-from-csr/json",
            ],
        ),
        (
            "cut-after-2",
            &[
                "asking for the thing",
                "iot:Publish on topic/$aws/provisioning-templates/onyx-bench/provision/json",
            ],
        ),
        ("no-puback", &[]),
        ("duplicate", &[]),
        ("late-acks=300ms", &[]),
    ]);
}

#[test]
fn silence_at_each_step() {
    let connecting = "connecting with the claim certificate";
    survives(&[
        ("stall@accept", &[connecting]),
        ("stall@server-hello", &[connecting]),
        ("stall@finished", &[connecting]),
        ("stall@connect", &[connecting, "no answer to CONNECT"]),
        (
            "stall@subscribe",
            &["subscribing to the answers", "no answer to SUBSCRIBE"],
        ),
        ("no-suback", &["subscribing to the answers", "no answer to SUBSCRIBE"]),
        (
            "stall@publish",
            &["asking for a certificate", "no answer within", "iot:Receive"],
        ),
    ]);
}

/// Cut after so many bytes from the device: in the handshake, in CONNECT, in the requests.
#[test]
fn cut_anywhere_it_begins_anew() {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let toml = fleet(&clouds, Protocol::Mqtts);
    let mut cut = 0;
    for bytes in (150_u64..8_000).step_by(350) {
        let spec = format!("aws-iot:cut-up@{bytes} for next 1 connections");
        clouds.put_fault(&spec.parse().unwrap()).unwrap();
        let ended = Agent::until(&bench, &toml, 1).delivers(1);
        clouds.controls().clear(Some(Cloud::AwsIot)).unwrap();
        forget(&bench);
        if down(&ended.log).is_empty() {
            break; // the whole conversation is shorter
        }
        cut += 1;
    }
    eprintln!("cut at {cut} places");
    assert!(cut >= 5, "{cut}");
}

fn rejected(operation: &str, status: u16, code: &str) -> Value {
    json!({"operation": operation, "reply": {"rejected":
        {"statusCode": status, "errorCode": code, "errorMessage": format!("in words, of {IMEI}")}}})
}

#[test]
fn each_refusal_is_explained_and_asked_again() {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let toml = fleet(&clouds, Protocol::Mqtts);
    let (create, provision) = ("create-from-csr", "provision");
    for (entry, words) in [
        (
            rejected(create, 403, "AccessDenied"),
            ["refuses the certificate: 403 AccessDenied", "iot:Publish"],
        ),
        (
            rejected(create, 400, "InvalidCertificateSigningRequest"),
            ["refuses the certificate: 400", "P-256"],
        ),
        (
            rejected(provision, 403, "AccessDenied"),
            ["refuses the thing: 403 AccessDenied", "pre-provisioning hook"],
        ),
        (
            rejected(provision, 404, "ResourceNotFound"),
            ["refuses the thing: 404", "credentials.template"],
        ),
        (
            rejected(provision, 400, "InvalidCertificateOwnershipToken"),
            ["refuses the thing: 400", "the next try asks for another"],
        ),
        (
            rejected(provision, 400, "InvalidParameters"),
            ["refuses the thing: 400", "credentials.parameters"],
        ),
        (
            rejected(provision, 500, "InternalFailure"),
            ["refuses the thing: 500", "AWS failed"],
        ),
        (
            json!({"operation": provision, "reply": "silence"}),
            [
                "asking for the thing",
                "iot:Receive on topic/$aws/provisioning-templates",
            ],
        ),
        (
            json!({"operation": create, "reply": {"accepted": {}}}),
            ["a field is missing", "endpoint of AWS IoT Core"],
        ),
        (
            json!({"operation": create, "reply": {"accepted": {"certificatePem": clouds.ca_pem(), "certificateOwnershipToken": "t"}}}),
            ["the private key does not fit", "endpoint of AWS IoT Core"],
        ),
    ] {
        tell(&clouds, entry.clone());
        let ended = Agent::until(&bench, &toml, 1).delivers(1);
        for word in words {
            assert!(ended.log.contains(word), "{entry}: {word:?} is not in\n{}", ended.log);
        }
        forget(&bench);
    }
    // Too many requests: it is left alone for a while, so the end is not waited for.
    let mut throttled = rejected(create, 429, "ThrottlingException");
    throttled["times"] = json!(1_000);
    tell(&clouds, throttled);
    let agent = Agent::until(&bench, &toml, 1);
    agent.wait_down_times(
        "credentials",
        &["429 ThrottlingException"],
        &["too many devices of this account"],
        1,
    );
}

#[test]
fn a_template_that_is_not_there_and_parameters_that_it_does_not_know() {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let mut toml = fleet(&clouds, Protocol::Mqtts);
    toml.credentials = toml.credentials.replace("onyx-bench", "elsewhere");
    let agent = Agent::start(&bench, &toml, &[]);
    agent.wait_down(
        "credentials",
        &["404 ResourceNotFound", "elsewhere"],
        &["credentials.template"],
    );
    drop(agent);
    let mut toml = fleet(&clouds, Protocol::Mqtts);
    toml.credentials += "parameters = { Serial = 'of-#{imei}' }\n";
    let agent = Agent::start(&bench, &toml, &[]);
    agent.wait_down(
        "credentials",
        &["400 InvalidParameters", "SerialNumber"],
        &["credentials.parameters"],
    );
    drop(agent);
    toml.credentials = toml.credentials.replace("{ Serial = ", "{ SerialNumber = ");
    let mut events = clouds.events();
    Agent::until(&bench, &toml, N).ends_well();
    let name = format!("of-{IMEI}");
    until(
        &mut events,
        "the thing of that name",
        |w| matches!(w, What::Connected { client_id, .. } if *client_id == name),
    );
}

/// The claim's policy from nothing to what the documentation of `provision::fleet` says: the cure always names what is missing next.
#[test]
fn the_claims_policy_is_built_up_by_what_the_cures_say() {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let toml = fleet(&clouds, Protocol::Mqtts);
    let statement = |actions: &[&str], resources: &[&str]| {
        let arns: Vec<_> = resources
            .iter()
            .map(|r| format!("arn:aws:iot:ap-northeast-1:123456789012:{r}"))
            .collect();
        json!({"Effect": "Allow", "Action": actions, "Resource": arns})
    };
    let connect = statement(&["iot:Connect"], &["client/onyx-claim-*"]);
    let subscribe = statement(
        &["iot:Subscribe"],
        &[
            &format!("topicfilter/{CREATE}/*"),
            &format!("topicfilter/{PROVISION}/*"),
        ],
    );
    let create = statement(&["iot:Publish"], &[&format!("topic/{CREATE}")]);
    let provision = statement(&["iot:Publish"], &[&format!("topic/{PROVISION}")]);
    let receive = statement(
        &["iot:Receive"],
        &[&format!("topic/{CREATE}/*"), &format!("topic/{PROVISION}/*")],
    );
    let claim = clouds.aws_iot().registry(|r| {
        let is_claim = |c: &&Certificate| c.subject.get("CommonName").is_some_and(|n| n == "claim");
        r.certificates().find(is_claim).unwrap().id.clone()
    });
    let may = |statements: &[&Value]| {
        let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        let document = Document::parse(&text).unwrap();
        clouds.aws_iot().registry(|r| {
            r.put_policy("narrow", text, document).unwrap();
            r.attach_policies(&claim, vec!["narrow".into()]).unwrap();
        });
    };
    may(&[&statement(&["iot:Connect"], &["client/somebody"])]);
    let agent = Agent::until(&bench, &toml, N);
    let missing = |why: &str, cure: &str| {
        agent.wait_down_times("credentials", &[why], &[cure], 1);
    };
    missing(
        "connecting with the claim certificate",
        "iot:Connect on client/onyx-claim-*",
    );
    may(&[&connect]);
    missing(
        "subscribing to the answers",
        &format!("iot:Subscribe on topicfilter/{CREATE}/*"),
    );
    may(&[&connect, &subscribe]);
    missing("asking for a certificate", &format!("iot:Publish on topic/{CREATE}"));
    may(&[&connect, &subscribe, &create]);
    missing("no answer within", &format!("iot:Receive on topic/{CREATE}/*"));
    may(&[&connect, &subscribe, &create, &receive]);
    missing("asking for the thing", &format!("iot:Publish on topic/{PROVISION}"));
    may(&[&connect, &subscribe, &create, &provision, &receive]);
    agent.delivers(N);
}

#[test]
fn a_claim_that_is_not_there_or_not_active() {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let mut toml = fleet(&clouds, Protocol::Mqtts);
    toml.credentials = toml.credentials.replace("claim.pem", "nobody.pem");
    let agent = Agent::start(&bench, &toml, &[]);
    agent.wait_down(
        "credentials",
        &["the claim: cannot read", "nobody.pem"],
        &["credentials.certificate"],
    );
    drop(agent);
    clouds.aws_iot().registry(|r| {
        let ids: Vec<_> = r.certificates().map(|c| c.id.clone()).collect();
        for id in ids {
            r.set_status(&id, Status::Inactive).unwrap();
        }
    });
    let agent = Agent::start(&bench, &fleet(&clouds, Protocol::Mqtts), &[]);
    agent.wait_down(
        "credentials",
        &["connecting with the claim"],
        &["claim certificate ACTIVE"],
    );
}
