use std::time::Duration;

use serde_json::json;

use super::*;
use crate::identity::AuthName;
use crate::pki::Authority;
use crate::provision::fleet::refusal::Class;
use crate::provision::request::Kind;

const CREATED: &str = "$aws/certificates/create-from-csr/json/accepted";
const REGISTERED: &str = "$aws/provisioning-templates/T/provision/json/accepted";
const TOKEN: &str = "t0ken-of-ownership";

fn request() -> SigningRequest {
    SigningRequest::new(Kind::P256, &AuthName::new("myClient-1".into()).unwrap()).unwrap()
}

fn machine() -> Machine {
    let parameters = BTreeMap::from([("SerialNumber".to_owned(), "77".to_owned())]);
    Machine::new(Topics::new("T"), request(), parameters)
}

/// What AWS would answer to a signing request.
fn created(csr_pem: &str) -> String {
    let now = crate::clock::Clock::new().system();
    let day = Duration::from_secs(86_400);
    let authority = Authority::generate("Test", now, 2 * day).unwrap();
    let pem = authority.sign_request(csr_pem, now, day).unwrap();
    json!({"certificateId": "ab12", "certificatePem": pem, "certificateOwnershipToken": TOKEN}).to_string()
}

/// A machine that has its certificate, and the request that it sends next.
fn with_certificate() -> (Machine, Publication, String) {
    let mut machine = machine();
    let first = machine.subscribed().unwrap();
    assert_eq!(
        (first.request, first.topic.as_str()),
        (Request::Create, "$aws/certificates/create-from-csr/json")
    );
    let body: Value = serde_json::from_slice(&first.payload).unwrap();
    let answer = created(body["certificateSigningRequest"].as_str().unwrap());
    match machine.received(CREATED, answer.as_bytes()).unwrap() {
        Some(Next::Publish(next)) => (machine, next, answer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn from_nothing_to_a_thing() {
    let (mut machine, next, _) = with_certificate();
    let body: Value = serde_json::from_slice(&next.payload).unwrap();
    assert_eq!(next.topic, "$aws/provisioning-templates/T/provision/json");
    assert_eq!(
        body,
        json!({"certificateOwnershipToken": TOKEN, "parameters": {"SerialNumber": "77"}})
    );
    assert!(!format!("{next:?} {machine:?}").contains(TOKEN));
    let answer = br#"{"deviceConfiguration":{"interval":"10"},"thingName":"lamp"}"#;
    let Some(Next::Done(done)) = machine.received(REGISTERED, answer).unwrap() else {
        panic!("not done");
    };
    assert_eq!(
        (done.certificate_id.as_str(), done.thing_name.as_deref()),
        ("ab12", Some("lamp"))
    );
    assert_eq!(done.device_configuration["interval"], "10");
    Identity::from_pem(done.certificate_pem.as_bytes(), done.private_key_pem.as_bytes(), "done").unwrap();
    assert!(!format!("{done:?}").contains("PRIVATE"));
    // A second delivery of the same.
    assert!(machine.received(REGISTERED, answer).unwrap().is_none());
}

#[test]
fn the_private_key_is_in_no_request() {
    let mut machine = machine();
    let first = machine.subscribed().unwrap();
    let key = machine.request.private_key_pem.clone();
    let inner = key.lines().nth(1).unwrap();
    let (_, second, _) = with_certificate();
    for payload in [first.payload, second.payload] {
        let text = String::from_utf8(payload.to_vec()).unwrap();
        assert!(!text.contains("PRIVATE KEY") && !text.contains(inner));
    }
}

#[test]
fn answers_to_something_else_are_passed_over() {
    let mut early = machine();
    assert!(
        early.received(CREATED, b"{}").unwrap().is_none(),
        "nothing was asked yet"
    );
    let (mut machine, _, answer) = with_certificate();
    for (topic, payload) in [
        // The first answer again, and a late refusal of what was granted.
        (CREATED, answer.as_str()),
        ("$aws/certificates/create-from-csr/json/rejected", "{}"),
        ("$aws/certificates/create/json/accepted", "{}"),
        ("$aws/provisioning-templates/Other/provision/json/accepted", "{}"),
        ("", ""),
    ] {
        assert!(
            machine.received(topic, payload.as_bytes()).unwrap().is_none(),
            "{topic}"
        );
    }
    assert!(machine.received(REGISTERED, b"{}").unwrap().is_some());
}

#[test]
fn a_certificate_that_is_not_ours_is_not_provisioned() {
    for (body, why) in [
        (created(&request().pem), "does not fit"),
        (
            json!({"certificatePem": "none", "certificateOwnershipToken": "t"}).to_string(),
            "no certificate",
        ),
        (
            created(&machine().request.pem).replace(TOKEN, ""),
            "ownership token is empty",
        ),
        ("<html>".to_owned(), "no JSON"),
        (r#"{"certificateId":"x"}"#.to_owned(), "missing"),
    ] {
        let mut machine = machine();
        machine.subscribed().unwrap();
        let error = machine.received(CREATED, body.as_bytes()).unwrap_err();
        assert!(matches!(error, FleetError::Unusable(Request::Create, _)), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(machine.received(CREATED, b"{}").unwrap().is_none(), "it is over");
    }
}

#[test]
fn a_refusal_ends_it_and_never_shows_the_token() {
    let (mut machine, _, _) = with_certificate();
    let body = json!({"statusCode": 400, "errorCode": "InvalidCertificateOwnershipToken", "errorMessage": format!("{TOKEN} is used")});
    let error = machine
        .received(
            "$aws/provisioning-templates/T/provision/json/rejected",
            body.to_string().as_bytes(),
        )
        .unwrap_err();
    assert!(!error.to_string().contains(TOKEN), "{error}");
    assert!(matches!(error, FleetError::Refused(r) if r.class == Class::Token));
}
