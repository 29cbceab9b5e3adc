//! The account through its backend, as the broker uses it.

use bytes::Bytes;
use serde_json::{Value, json};

use super::registry::{Registration, Status, fingerprint};
use super::testing::{Account, at, der};
use super::*;
use crate::bench::clouds::policy::Policy;
use crate::bench::clouds::policy::testing::connect;

fn request(a: &Account, session: &Session, topic: &str, payload: &str, ms: u64) -> Vec<Act> {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let received = Received {
        topic,
        payload: &payload,
        qos: 1,
        retain: false,
    };
    match a.aws.received(session, received, at(ms)).unwrap() {
        Handling::Request(acts) => acts,
        other => panic!("{topic} was taken for {other:?}"),
    }
}

/// Topic and body of everything that is sent to somebody.
fn sent(acts: &[Act]) -> Vec<(String, Value)> {
    acts.iter()
        .filter_map(|act| match act {
            Act::Send { topic, payload, .. } | Act::Publish { topic, payload, .. } => {
                Some((topic.to_string(), serde_json::from_slice(payload).unwrap()))
            }
            _ => None,
        })
        .collect()
}

/// The one answer to a provisioning request.
fn answer(a: &Account, session: &Session, topic: &str, payload: &str, ms: u64, end: &str) -> Value {
    let mut all = sent(&request(a, session, topic, payload, ms));
    assert_eq!(all.len(), 1, "{all:?}");
    let (at, body) = all.remove(0);
    assert_eq!(at, format!("{topic}/{end}"), "{body}");
    body
}

const CREATE: &str = "$aws/certificates/create/json";
const FROM_CSR: &str = "$aws/certificates/create-from-csr/json";
const PROVISION: &str = "$aws/provisioning-templates/onyx-bench/provision/json";

fn peer_of(pem: &str, cn: &str) -> Peer {
    Peer {
        chain: vec![der(pem)],
        ..crate::bench::clouds::policy::testing::peer(cn)
    }
}

fn claim(a: &Account) -> Session {
    let peer = a.peer("claim");
    a.aws.claim(&peer.chain[0], at(0)).unwrap();
    a.aws.greet(&peer, at(0)).1.unwrap();
    a.policy.connect(&peer, &connect("anything", None)).unwrap()
}

#[test]
fn a_claim_becomes_a_thing_by_key_and_certificate() {
    let a = Account::new(&["a/#"]);
    let claim = claim(&a);
    let publish = |topic: &str| {
        let p = crate::bench::clouds::policy::Publication {
            topic,
            qos: 1,
            payload: 1,
        };
        a.policy.publish(&claim, p).map_err(|r| r.rule.id)
    };
    assert_eq!(
        publish("a/b"),
        Err("aws-iot/publish-permission"),
        "a claim may provision only"
    );
    assert_eq!(publish(CREATE), Ok(()));
    let made = answer(&a, &claim, CREATE, "", 0, "accepted");
    let pem = made["certificatePem"].as_str().unwrap();
    assert!(made["privateKey"].as_str().unwrap().contains("PRIVATE KEY"));
    assert_eq!(made["certificateId"], fingerprint(&der(pem)));
    let peer = peer_of(pem, "AWS IoT Certificate");
    let refusal = a.aws.greet(&peer, at(0)).1.unwrap_err();
    assert_eq!(
        refusal.rule.id, "aws-iot/certificate-status",
        "it waits for provisioning"
    );
    let token = &made["certificateOwnershipToken"];
    let body = json!({"certificateOwnershipToken": token, "parameters": {"SerialNumber": "lamp-1"}}).to_string();
    let done = answer(&a, &claim, PROVISION, &body, 0, "accepted");
    assert_eq!(done, json!({"deviceConfiguration": {}, "thingName": "lamp-1"}));
    a.aws.greet(&peer, at(0)).1.unwrap();
    let session = a.policy.connect(&peer, &connect("lamp-1", None)).unwrap();
    let other = a.policy.connect(&peer, &connect("lamp-2", None)).unwrap_err();
    assert_eq!(other.rule.id, "aws-iot/connect-permission");
    for (filter, allowed) in [("a/#", true), ("b", false), ("$aws/things/lamp-1/shadow/get/+", true)] {
        assert_eq!(a.policy.subscribe(&session, filter, 1, 0).is_ok(), allowed, "{filter}");
    }
    let again = answer(&a, &claim, PROVISION, &body, 0, "rejected");
    assert_eq!(
        again["errorCode"], "InvalidCertificateOwnershipToken",
        "a token is for one use"
    );
}

#[test]
fn a_certificate_by_signing_request_has_no_private_key_in_its_answer() {
    let a = Account::new(&["a/#"]);
    let claim = claim(&a);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wish = rcgen::CertificateParams::new(Vec::new()).unwrap();
    wish.distinguished_name = rcgen::DistinguishedName::new();
    wish.distinguished_name.push(rcgen::DnType::CommonName, "lamp-9");
    let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
    let body = json!({"certificateSigningRequest": csr}).to_string();
    let made = answer(&a, &claim, FROM_CSR, &body, 0, "accepted");
    assert!(made.get("privateKey").is_none());
    let pem = made["certificatePem"].as_str().unwrap();
    crate::tls::Identity::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes(), "made").unwrap();
    for bad in ["", "{}", r#"{"certificateSigningRequest": "x"}"#, "[]"] {
        let e = answer(&a, &claim, FROM_CSR, bad, 0, "rejected");
        assert_eq!(e["statusCode"], 400, "{bad}");
    }
}

#[test]
fn tokens_end_after_an_hour_and_their_certificate_with_them() {
    let a = Account::new(&["a/#"]);
    let claim = claim(&a);
    let made = answer(&a, &claim, CREATE, "{}", 0, "accepted");
    let id = made["certificateId"].as_str().unwrap();
    let token = &made["certificateOwnershipToken"];
    let with = |parameters: Value| json!({"certificateOwnershipToken": token, "parameters": parameters}).to_string();
    let good = with(json!({"SerialNumber": "lamp"}));
    let missing = answer(&a, &claim, PROVISION, &with(json!({})), 3_599_000, "rejected");
    assert_eq!(missing["errorCode"], "InvalidParameters");
    let unknown = "$aws/provisioning-templates/none/provision/json";
    assert_eq!(
        answer(&a, &claim, unknown, &good, 3_599_000, "rejected")["statusCode"],
        404
    );
    let empty = answer(&a, &claim, PROVISION, "{}", 3_599_000, "rejected");
    assert_eq!(empty["errorMessage"], "Certificate ownership token cannot be empty.");
    assert!(a.aws.registry(|r| r.certificate(id).is_some()));
    let late = answer(&a, &claim, PROVISION, &good, 3_600_000, "rejected");
    assert_eq!(late["errorCode"], "InvalidCertificateOwnershipToken");
    assert!(a.aws.registry(|r| r.certificate(id).is_none()), "nobody claimed it");
}

#[test]
fn cbor_is_refused_in_cbor() {
    let a = Account::new(&["a/#"]);
    let claim = claim(&a);
    let acts = request(&a, &claim, "$aws/certificates/create/cbor", "", 0);
    let Some(Act::Send { topic, payload, .. }) = acts.last() else {
        panic!("{acts:?}")
    };
    assert_eq!(&**topic, "$aws/certificates/create/cbor/rejected");
    // map(3), text(10) "statusCode", unsigned(415), text(9) "errorCode" …
    assert!(
        payload.starts_with(b"\xa3\x78\x0astatusCode\x19\x01\x9f\x78\x09errorCode\x78\x18Unsupported"),
        "{payload:?}"
    );
}

#[test]
fn just_in_time_registration_lets_the_second_connection_in() {
    let after = std::time::Duration::from_secs(2);
    let a = Account::with(
        &["a/#"],
        Registration::Jitr {
            activate_after: Some(after),
        },
    );
    let peer = a.peer("lamp");
    let (acts, first) = a.aws.greet(&peer, at(0));
    assert_eq!(first.unwrap_err().rule.id, "aws-iot/first-connection");
    let (topic, event) = sent(&acts).remove(0);
    let ca = fingerprint(&der(&a.ca.intermediate_pem()));
    assert_eq!(topic, format!("$aws/events/certificates/registered/{ca}"));
    assert_eq!(event["certificateStatus"], "PENDING_ACTIVATION");
    assert_eq!(event["certificateId"], fingerprint(&peer.chain[0]));
    let (acts, early) = a.aws.greet(&peer, at(1_999));
    assert_eq!(early.unwrap_err().rule.id, "aws-iot/certificate-status");
    assert_eq!(sent(&acts).len(), 1, "the event comes again");
    assert_eq!(a.aws.greet(&peer, at(2_000)), (Vec::new(), Ok(())));
    assert!(a.policy.connect(&peer, &connect("lamp-1", None)).is_ok());
}

#[test]
fn just_in_time_provisioning_follows_the_template() {
    let a = Account::new(&["a/#"]);
    let text = r#"{"Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"},
                                  "AWS::IoT::Certificate::Id": {"Type": "String"}},
        "Resources": {
            "thing": {"Type": "AWS::IoT::Thing", "Properties": {
                "ThingName": {"Fn::Join": ["", ["jitp-", {"Ref": "AWS::IoT::Certificate::CommonName"}]]}}},
            "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {
                "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument":
                "{\"Version\": \"2012-10-17\", \"Statement\": [{\"Effect\": \"Allow\", \"Action\": \"iot:*\", \"Resource\": \"*\"}]}"}}}}"#;
    let template = template::Template::parse(text).unwrap();
    let ca = der(&a.ca.intermediate_pem());
    a.aws
        .registry(|r| {
            r.put_template("t", text.into(), template)?;
            r.add_authority(ca, Registration::Jitp("t".into()))
        })
        .unwrap();
    let peer = a.peer("lamp");
    let (acts, first) = a.aws.greet(&peer, at(0));
    assert_eq!(first.unwrap_err().rule.id, "aws-iot/first-connection");
    assert_eq!(sent(&acts).len(), 1);
    a.aws.greet(&peer, at(0)).1.unwrap();
    let session = a.policy.connect(&peer, &connect("jitp-lamp", None)).unwrap();
    let things = a
        .aws
        .registry(|r| r.certificate(&session.owner).map(|c| c.things.clone()));
    assert_eq!(things, Some(vec!["jitp-lamp".to_owned()]));
}

#[test]
fn a_certificate_that_is_switched_off_loses_its_permissions_at_once() {
    let a = Account::new(&["a/#"]);
    let session = a.session("lamp", "lamp");
    assert!(a.policy.receive(&session, "a/b"));
    a.aws
        .registry(|r| r.set_status(&session.owner, Status::Inactive))
        .unwrap();
    assert!(!a.policy.receive(&session, "a/b"));
    let refusal = a.policy.subscribe(&session, "a/b", 0, 0).unwrap_err();
    assert_eq!(refusal.rule.id, "aws-iot/subscribe-permission");
}

#[test]
fn shadow_requests_are_answered_on_their_topics() {
    let a = Account::new(&["a/#"]);
    let session = a.session("lamp", "lamp");
    let body = r#"{"state": {"desired": {"on": true}}, "clientToken": "x"}"#;
    let acts = request(&a, &session, "$aws/things/lamp/shadow/name/main/update", body, 0);
    let topics: Vec<_> = sent(&acts).into_iter().map(|(t, _)| t).collect();
    let base = "$aws/things/lamp/shadow/name/main/update";
    assert_eq!(
        topics,
        ["accepted", "delta", "documents"].map(|e| format!("{base}/{e}"))
    );
    let acts = request(&a, &session, "$aws/things/lamp/shadow/get", "", 0);
    assert!(
        matches!(acts.first(), Some(Act::Note(n)) if n.contains("404")),
        "{acts:?}"
    );
    assert_eq!(sent(&acts)[0].0, "$aws/things/lamp/shadow/get/rejected");
    // From the cloud's side the device sees what changed and no errors.
    let key = Key {
        thing: "lamp".into(),
        name: None,
    };
    let (outcome, acts) = a.aws.shadow(&key, Operation::Update, body.as_bytes(), at(0));
    assert_eq!((outcome.status, sent(&acts).len()), (200, 3));
    let (outcome, acts) = a.aws.shadow(&key, Operation::Update, b"{", at(0));
    assert_eq!((outcome.status, acts.len()), (400, 0));
    let noted = request(&a, &session, "$aws/things/lamp/jobs/get", "{}", 0);
    assert!(matches!(noted.as_slice(), [Act::Note(_)]));
}

#[test]
fn presence_has_a_number_a_principal_and_a_reason() {
    let a = Account::new(&["a/#"]);
    let peer = a.greeted("lamp");
    let session = a.policy.connect(&peer, &connect("lamp", None)).unwrap();
    let mut versions = Vec::new();
    for (ms, why, reason) in [
        (1_000, "DISCONNECT", "CLIENT_INITIATED_DISCONNECT"),
        (3_000, "the connection was closed without DISCONNECT", "CONNECTION_LOST"),
        (5_000, "rule aws-iot/publish-permission broken", "AUTH_ERROR"),
        (7_000, "rule aws-iot/payload-size broken", "CLIENT_ERROR"),
        (9_000, "rule mqtt/keep-alive broken", "MQTT_KEEP_ALIVE_TIMEOUT"),
    ] {
        a.aws.admit(&peer, &session, at(ms)).unwrap();
        let (topic, on) = sent(&a.aws.connected(&session, at(ms))).remove(0);
        assert_eq!(topic, "$aws/events/presence/connected/lamp");
        assert_eq!(
            (on["ipAddress"].as_str(), &on["principalIdentifier"]),
            (Some("127.0.0.1"), &json!(session.owner))
        );
        let (topic, off) = sent(&a.aws.gone(&session, why, at(ms))).remove(0);
        assert_eq!(topic, "$aws/events/presence/disconnected/lamp");
        assert_eq!(
            (&off["versionNumber"], &off["sessionIdentifier"]),
            (&on["versionNumber"], &on["sessionIdentifier"])
        );
        assert_eq!(off["disconnectReason"], reason);
        assert_eq!(off["clientInitiatedDisconnect"], why == "DISCONNECT");
        versions.push(on["versionNumber"].as_u64().unwrap());
    }
    assert_eq!(versions, [0, 1, 2, 3, 4]);
    // The one that was taken over is the older one, whichever end is reported first.
    let open = |ms| {
        a.aws.admit(&peer, &session, at(ms)).unwrap();
        sent(&a.aws.connected(&session, at(ms))).remove(0).1["versionNumber"].clone()
    };
    let (old, new) = (open(11_000), open(13_000));
    let why = "taken over by a new connection with the same client id";
    let off = sent(&a.aws.gone(&session, why, at(13_000))).remove(0).1;
    assert_eq!(
        (&off["versionNumber"], off["disconnectReason"].as_str()),
        (&old, Some("DUPLICATE_CLIENTID"))
    );
    assert_eq!(
        sent(&a.aws.gone(&session, "DISCONNECT", at(14_000))).remove(0).1["versionNumber"],
        new
    );
    assert!(a.aws.gone(&session, "DISCONNECT", at(14_000)).is_empty());
}
