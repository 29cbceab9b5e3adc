//! AWS IoT fleet provisioning by claim: from nothing to the first message, and everything that can stand in the way.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use onyx::bench::clouds::aws_iot::document::Document;
use onyx::bench::clouds::aws_iot::registry::Status;
use onyx::bench::clouds::aws_iot::script::Entry;
use onyx::bench::clouds::{Cloud, Clouds, Event, Protocol, What};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;

use crate::krypton::assert_arrived;
use crate::stage::{Agent, Bench, IMEI, IMSI, PATIENCE, Toml, auth_name, now, onyx_agent, wait_for};
use crate::{mosquitto, stage};

const N: u64 = 3;
const CREATE: &str = "$aws/certificates/create-from-csr/json";
const PROVISION: &str = "$aws/provisioning-templates/onyx-bench/provision/json";

/// Clouds with a claim certificate in `clouds/devices/claim.pem`.
fn clouds(bench: &Bench) -> Clouds {
    bench.clouds_with(|c| c.aws_claims = vec!["claim".into()])
}

/// What the operator of a fleet writes, for a door.
fn fleet(clouds: &Clouds, protocol: Protocol) -> Toml {
    let at = clouds.door(Cloud::AwsIot, protocol).unwrap();
    let port = match protocol {
        Protocol::MqttsAlpn => 443,
        _ => at.port(),
    };
    let session = format!(
        "to = 'aws-iot'\nhost = '{}'\nport = {port}\naddress = '{at}'\nca_file = 'clouds/ca.pem'\n",
        host(clouds)
    );
    let credentials = "source = 'aws-fleet'\ntemplate = 'onyx-bench'\ntimeout = '3s'\n\
                       certificate = 'clouds/devices/claim.pem'\nkey = 'clouds/devices/claim.key'\n";
    let mut toml = Toml::new(credentials, &session);
    toml.delivery += "topic = 'exampletopics/topic1'\n";
    toml
}

fn host(clouds: &Clouds) -> String {
    let found = clouds.stand_ins().iter().find(|s| s.name == Cloud::AwsIot).unwrap();
    found.host.clone()
}

fn set(bench: &Bench) -> PathBuf {
    bench.path(&format!("state/credentials/aws-fleet-{IMSI}/current"))
}

fn forget(bench: &Bench) {
    std::fs::remove_dir_all(bench.path("state/credentials")).unwrap();
}

/// Collects events until one fits; answers all.
fn until(events: &mut Receiver<Event>, what: &str, fits: impl Fn(&What) -> bool) -> Vec<What> {
    let mut seen = Vec::new();
    wait_for(
        what,
        || {
            while let Ok(event) = events.try_recv() {
                seen.push(event.what);
                if seen.last().is_some_and(&fits) {
                    return Some(());
                }
            }
            None
        },
        String::new,
    );
    seen
}

fn is_claim(id: &str) -> bool {
    id.starts_with("onyx-claim-")
}

fn from_nothing(protocol: Protocol) {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let toml = fleet(&clouds, protocol);
    let mut events = clouds.events();
    let begin = now();
    let agent = Agent::until(&bench, &toml, N);
    let seen = until(&mut events, "the first message", |w| matches!(w, What::Message { .. }));
    let took = begin.elapsed();
    agent.delivers(N);
    assert_arrived(&bench, &clouds, Cloud::AwsIot, N);
    let at = |fits: &dyn Fn(&What) -> bool| seen.iter().position(fits).unwrap();
    let claim = at(&|w| {
        matches!(w, What::Connected { client_id, cn, sni, .. }
        if is_claim(client_id) && cn == "claim" && *sni == Some(host(&clouds)))
    });
    let gone = at(&|w| matches!(w, What::Disconnected { client_id, .. } if is_claim(client_id)));
    let thing = at(&|w| matches!(w, What::Connected { client_id, cn, .. } if client_id == IMEI && *cn == auth_name()));
    assert!(claim < gone && gone < thing, "{seen:#?}");
    let asked: Vec<_> = seen
        .iter()
        .filter_map(|w| match w {
            What::Request { topic, .. } => Some(topic.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [CREATE, PROVISION]);
    let (up, down) = seen
        .iter()
        .find_map(|w| match w {
            What::Closed {
                client_id: Some(id),
                bytes_up,
                bytes_down,
                protocol: p,
                ..
            } if is_claim(id) && *p == protocol => Some((*bytes_up, *bytes_down)),
            _ => None,
        })
        .unwrap();
    eprintln!(
        "fleet provisioning over {}: {up} bytes up, {down} bytes down, TLS and MQTT included; first message {} ms after the start",
        protocol.as_str(),
        took.as_millis()
    );
    assert!(up < 8_000 && down < 12_000, "{up} {down}");
    // What AWS has of it: one certificate, ACTIVE, with the thing.
    let made = clouds.aws_iot().registry(|r| {
        let ours = |c: &&_| -> bool { certificate_is_ours(c) };
        r.certificates()
            .filter(ours)
            .map(|c| (c.status, c.things.clone(), c.id.clone()))
            .collect::<Vec<_>>()
    });
    assert!(
        matches!(made.as_slice(), [(Status::Active, things, _)] if *things == [IMEI]),
        "{made:?}"
    );
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&set(&bench).join("private.key")), 0o600);
    // The next start asks nobody.
    Agent::until(&bench, &toml, N).delivers(N);
    let again = until(
        &mut events,
        "the second run",
        |w| matches!(w, What::Connected { client_id, .. } if !is_claim(client_id)),
    );
    assert!(
        !again.iter().any(|w| matches!(w, What::Request { .. })),
        "it was provisioned again: {again:#?}"
    );
}

fn certificate_is_ours(c: &onyx::bench::clouds::aws_iot::registry::Certificate) -> bool {
    c.subject.get("CommonName").is_some_and(|n| *n == auth_name()) && c.authority.is_none()
}

#[test]
fn from_nothing_to_the_first_message_at_8883() {
    from_nothing(Protocol::Mqtts);
}

#[test]
fn from_nothing_to_the_first_message_at_443() {
    from_nothing(Protocol::MqttsAlpn);
}

/// The command and its result, before others' programs: openssl says that key and certificate are a pair, and mosquitto_pub is let in
/// with them under the thing's name.
#[test]
fn the_command_provisions_and_others_can_use_what_it_got() {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let mut toml = fleet(&clouds, Protocol::Mqtts);
    // Whoever runs the command stands elsewhere.
    for text in [&mut toml.credentials, &mut toml.session, &mut toml.top] {
        for name in ["clouds/", "state'", "agent.sock"] {
            *text = text.replace(&format!("'{name}"), &format!("'{}", bench.path(name).display()));
        }
    }
    let config = toml.write(&bench);
    let config = config.to_str().unwrap();
    let (output, out, err) = onyx_agent(&["provision", "--json", "--timeout", "60", "--config", config]);
    assert!(output.status.success(), "{out}\n{err}");
    stage::assert_discreet(&err);
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&said["host"], &said["client_id"]),
        (&json!(host(&clouds)), &json!(IMEI)),
        "{said}"
    );

    let file = |name: &str| set(&bench).join(name).to_str().unwrap().to_owned();
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let pem = file("certificate.pem");
    let public = openssl(&["x509", "-in", &pem, "-noout", "-pubkey"]);
    assert_eq!(public, openssl(&["pkey", "-in", &file("private.key"), "-pubout"]));
    let subject = openssl(&["x509", "-in", &pem, "-noout", "-subject", "-nameopt", "RFC2253"]);
    assert_eq!(subject.trim(), format!("subject=CN={}", auth_name()));

    let publish = |topic: &str| {
        let at = clouds.door(Cloud::AwsIot, Protocol::Mqtts).unwrap();
        let (ca, key) = (bench.path("clouds/ca.pem"), file("private.key"));
        let mut c = Command::new(mosquitto::program("mosquitto_pub", "mosquitto-clients"));
        c.args(["-h", "localhost", "-p", &at.port().to_string(), "--cafile"])
            .arg(ca);
        c.args([
            "--cert",
            &pem,
            "--key",
            &key,
            "-i",
            IMEI,
            "-q",
            "1",
            "-t",
            topic,
            "-m",
            "by mosquitto",
        ]);
        c.output().unwrap()
    };
    let output = publish("exampletopics/topic2");
    assert!(output.status.success(), "{output:?}");
    let is_there = |all: &[_]| {
        all.iter()
            .any(|m: &onyx::bench::clouds::Message| m.topic == "exampletopics/topic2")
    };
    assert!(bench.rt.block_on(clouds.wait_for_messages(PATIENCE, is_there)));

    // Another one by force, for the same thing.
    let before = std::fs::read(&pem).unwrap();
    let (output, _, err) = onyx_agent(&["provision", "--force", "--timeout", "60", "--config", config]);
    assert!(output.status.success(), "{err}");
    assert_ne!(std::fs::read(&pem).unwrap(), before);
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
        let down = ended
            .log
            .lines()
            .filter(|l| l.contains("\"rung\":\"credentials\"") && l.contains("cure"));
        let down = down.collect::<Vec<_>>().join("\n");
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
        ("tls-alert-40", &[connecting, "AlertReceived"]),
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
    for bytes in (150_u64..).step_by(350) {
        let spec = format!("aws-iot:cut-up@{bytes} for next 1 connections");
        clouds.put_fault(&spec.parse().unwrap()).unwrap();
        let ended = Agent::until(&bench, &toml, 1).delivers(1);
        clouds.controls().clear(Some(Cloud::AwsIot)).unwrap();
        forget(&bench);
        if !ended.log.contains("\"rung\":\"credentials\",\"state\":\"down\"")
            && !ended.log.contains("with the claim")
            && !ended.log.contains("asking for")
        {
            break;
        }
        cut += 1;
    }
    eprintln!("cut at {cut} places");
    assert!(cut >= 5, "{cut}");
}

fn tell(clouds: &Clouds, entry: Value) {
    let entry: Entry = serde_json::from_value(entry).unwrap();
    assert!(clouds.aws_iot().script(|s| s.add(entry)));
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
    tell(&clouds, rejected(create, 429, "ThrottlingException"));
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
    Agent::until(&bench, &toml, N).delivers(N);
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
        let is_claim = |c: &&onyx::bench::clouds::aws_iot::registry::Certificate| {
            c.subject.get("CommonName").is_some_and(|n| n == "claim")
        };
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

/// kill -9 when AWS has made the certificate and not yet the thing: that certificate is lost (AWS deletes it after an hour), and the
/// next start gets another.
#[test]
fn killed_between_certificate_and_thing() {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let mut toml = fleet(&clouds, Protocol::Mqtts);
    toml.credentials = toml.credentials.replace("timeout = '3s'", "timeout = '60s'");
    let mut events = clouds.events();
    tell(&clouds, json!({"operation": "provision", "reply": "silence"}));
    let agent = Agent::start(&bench, &toml, &[]);
    until(
        &mut events,
        "asked for the thing",
        |w| matches!(w, What::Request { topic, .. } if topic == PROVISION),
    );
    agent.kill();
    let all = || {
        clouds.aws_iot().registry(|r| {
            let of = r.certificates().filter(|c| certificate_is_ours(c));
            of.map(|c| (c.status, c.things.len())).collect::<Vec<_>>()
        })
    };
    assert_eq!(all(), [(Status::PendingActivation, 0)]);
    assert!(!set(&bench).exists());
    Agent::until(&bench, &toml, N).delivers(N);
    assert_arrived(&bench, &clouds, Cloud::AwsIot, N);
    assert_eq!(all(), [(Status::PendingActivation, 0), (Status::Active, 1)]);
}

/// Killed at any moment, whatever is on disk is whole.
#[test]
fn killed_at_any_moment_it_starts_again_and_delivers() {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let toml = fleet(&clouds, Protocol::Mqtts);
    for n in 0..8_u64 {
        let agent = Agent::start(&bench, &toml, &[]);
        // The moment is a stimulus and proves nothing: some fall before the conversation, some into it, some after it.
        std::thread::sleep(Duration::from_millis(20 + 40 * n));
        agent.kill();
        if set(&bench).exists() {
            let read = |name: &str| std::fs::read(set(&bench).join(name)).unwrap();
            onyx::tls::Identity::from_pem(&read("certificate.pem"), &read("private.key"), "the set").unwrap();
            forget(&bench);
        }
    }
    Agent::until(&bench, &toml, N).delivers(N);
}
