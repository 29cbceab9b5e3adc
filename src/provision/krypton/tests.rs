//! Requests and answers as bytes.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::answer::*;
use super::fields::Fields;
use super::operation::{Method, Operation, Parameters};
use super::refusal::Why;
use super::reply::Reply;
use super::segment::Segment;
use super::*;
use crate::provision::keys::Key;

const NOW: Duration = Duration::from_millis(1_700_000_000_000);

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        retry_after: None,
        body: Zeroizing::new(body.as_bytes().to_vec()),
    }
}

fn segment(id: &str) -> Segment {
    Segment::try_from(id.to_owned()).unwrap()
}

fn key() -> Key {
    let ck = std::array::from_fn(|i| u8::try_from(i).unwrap());
    Key::new("440101234567890".parse().unwrap(), segment("0123456789abcdef"), ck)
}

fn parameters(list: &[(&str, &str)]) -> Parameters {
    Parameters::new(list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))).unwrap()
}

#[test]
fn the_table_at_both_doors() {
    use Method::{Get, Post};
    let none = Parameters::default;
    let null = r#"{"keyId":"0123456789abcdef","requestParameters":null}"#;
    let bare = r#"{"keyId":"0123456789abcdef"}"#;
    let mut skip = parameters(&[("thingName", "my-thing")]);
    skip.skip_certificates();
    let thing = r#""requestParameters":{"skipCertificates":true,"thingName":"my-thing"}}"#;
    let device = r#""requestParameters":{"deviceId":"dev1","idScope":"0ne"}}"#;
    let with = |rest: &str| format!(r#"{{"keyId":"0123456789abcdef",{rest}"#);
    for (operation, path, cellular, signed) in [
        (
            Operation::BootstrapAwsIotThing(none()),
            "aws/iot/bootstrap",
            Some((Post, "")),
            bare,
        ),
        (
            Operation::BootstrapAwsIotThing(skip),
            "aws/iot/bootstrap",
            Some((Post, &*format!("{{{thing}"))),
            &with(thing),
        ),
        (
            Operation::AwsCertificate(segment("ab12")),
            "aws/iot/certificates/ab12",
            Some((Post, "")),
            bare,
        ),
        (
            Operation::AwsCaCertificate,
            "aws/iot/ca_certificate",
            Some((Post, "")),
            bare,
        ),
        (
            Operation::RegisterAzureIotDevice(none()),
            "azure/iot/register",
            Some((Post, "")),
            null,
        ),
        (
            Operation::RegisterAzureIotDevice(parameters(&[("deviceId", "dev1"), ("idScope", "0ne")])),
            "azure/iot/register",
            Some((Post, &*format!("{{{device}"))),
            &with(device),
        ),
        (
            Operation::AzureRegistration(segment("5.x-y")),
            "azure/iot/registrations/5.x-y",
            Some((Get, "")),
            bare,
        ),
        (
            Operation::BootstrapAzureIotDevice(parameters(&[("registerDevice", "true")])),
            "azure/iot/bootstrap",
            None,
            &with(r#""requestParameters":{"registerDevice":true}}"#),
        ),
        (
            Operation::CognitoCredentials,
            "aws/cognito/credentials",
            Some((Post, "")),
            null,
        ),
        (
            Operation::CognitoToken,
            "aws/cognito/open_id_tokens",
            Some((Post, "")),
            null,
        ),
        (
            Operation::BootstrapInventoryDevice(None),
            "soracom/inventory/bootstrap",
            Some((Post, "")),
            null,
        ),
        (
            Operation::BootstrapInventoryDevice(Some("sensor".into())),
            "soracom/inventory/bootstrap",
            Some((Post, r#"{"endpoint":"sensor"}"#)),
            &with(r#""endpoint":"sensor","requestParameters":null}"#),
        ),
        (
            Operation::BootstrapArc,
            "soracom/arc/bootstrap",
            Some((Post, "{}")),
            null,
        ),
        (
            Operation::SubscriberMetadata,
            "soracom/air/subscriber_metadata",
            None,
            null,
        ),
        (Operation::Userdata, "soracom/air/userdata", None, null),
    ] {
        let path = format!("/v1/provisioning/{path}");
        match (operation.cellular(), cellular) {
            (Ok(request), Some((method, body))) => {
                assert_eq!(
                    (request.method, request.path, request.body),
                    (method, path.clone(), body.into())
                );
                assert!(request.headers.is_empty());
            }
            (Err(e), None) => {
                assert!(e.to_string().contains("cellular door has no") && e.cure().contains("--auth sim"))
            }
            (other, _) => panic!("{operation:?}: {other:?}"),
        }
        let request = operation.signed(&key(), NOW);
        assert_eq!((request.method, request.path), (Post, path));
        assert_eq!(String::from_utf8_lossy(&request.body), signed);
        assert_eq!(request.headers, key().sign(signed.as_bytes(), NOW));
    }
}

#[test]
fn parameters_that_cannot_be_are_named() {
    let long = "x".repeat(129);
    for (name, value, want) in [
        ("thingName", "a b", "letters"),
        ("thingName", &*long, "1 to 128"),
        ("thingName", "", "1 to 128"),
        ("skipCertificates", "yes", "true or false"),
        ("", "x", "has no name"),
    ] {
        let e = Parameters::new([(name.to_owned(), value.to_owned())]).unwrap_err();
        assert!(
            e.to_string().contains(want) && e.cure().contains("credentials.parameters"),
            "{e}"
        );
    }
}

#[test]
fn the_articles_two_requests() {
    let id = registered(&reply(200, r#"{"operationId":"5.50b3f-76fe_1","status":"assigning"}"#)).unwrap();
    assert_eq!(id.as_str(), "5.50b3f-76fe_1");
    let r = registration(&reply(202, r#"{"operationId":"x","status":"assigning"}"#)).unwrap();
    assert!(matches!(r, Registration::Pending(s) if s == "assigning"));
}

#[test]
fn every_bad_answer_gets_its_own_words() {
    for (status, body, want) in [
        (
            403,
            r#"{"code":"SEM0001","message":"SIM is not in a group"}"#,
            "refuses (HTTP 403): SEM0001: SIM is not in a group",
        ),
        (404, "<html>not here</html>", "refuses (HTTP 404): <html>not here"),
        (500, "", "in trouble (HTTP 500)"),
        (
            429,
            r#"{"code":"X","message":"slow down"}"#,
            "in trouble (HTTP 429): X: slow down",
        ),
        (302, "", "another address (HTTP 302)"),
        (100, "", "in trouble (HTTP 100)"),
        (
            200,
            "<!DOCTYPE html><title>Wi-Fi login</title>",
            "begins with \"<!DOCTYPE html>",
        ),
        (200, "", "it is empty"),
        (200, r#"{"operationId":"5.5"#, "cut off after 19 bytes"),
        (200, r#"{"status":"assigning"}"#, "missing field `operationId`"),
        (200, r#"{"operationId":"../../evil?x"}"#, "cannot be asked for"),
        (200, r#"{"operationId":7}"#, "does not fit"),
    ] {
        let e = registered(&reply(status, body)).unwrap_err();
        assert!(e.to_string().contains(want), "{want:?} is not in {e}");
        assert!(!e.cure().is_empty());
    }
    let ended = registration(&reply(200, r#"{"status":"disabled"}"#)).unwrap_err();
    assert_eq!(ended, KryptonError::Ended("disabled".into()));
    let e = registration(&reply(200, r#"{"status":"assigned","deviceId":"a"}"#)).unwrap_err();
    assert!(e.to_string().contains("is missing"));
    let e = Thing::read(&reply(200, r#"{"host":"h","clientId":"c","privateKey":"k"}"#)).unwrap_err();
    assert!(e.to_string().contains("neither certificate nor certificateId"), "{e}");
    for (status, body, want) in [
        (200, "{}", "no PEM certificate"),
        (200, "", "empty"),
        (404, "no", "refuses"),
    ] {
        let e = reply(status, body).pem().unwrap_err();
        assert!(e.to_string().contains(want), "{e}");
    }
    let busy = Reply {
        retry_after: Some(Duration::from_secs(7)),
        ..reply(503, "")
    };
    assert_eq!(
        Failure::from(busy.good().unwrap_err()).after,
        Some(Duration::from_secs(7))
    );
}

#[test]
fn refusals_are_explained_and_unknown_ones_get_the_general_cure() {
    for (status, message, why, cure, about_key) in [
        (403, "KRY0403: the SIM is in no group", Why::Group, "SIM group", false),
        (403, "SEM0001: SIM is not in a group", Why::Group, "SIM group", false),
        (
            403,
            "KRY0403: the group's SoracomKrypton configuration is not enabled",
            Why::Disabled,
            "enabled: true",
            false,
        ),
        (
            400,
            "KRY0400: … has nothing for azure",
            Why::Service,
            "credential store",
            false,
        ),
        (
            403,
            "KRY0403: 10.0.0.1 does not come in over a SORACOM SIM",
            Why::NotOverSim,
            "link.interface",
            false,
        ),
        (
            401,
            "KRY0401: x-soracom-timestamp is 1, 900 s away",
            Why::Clock,
            "clock",
            false,
        ),
        (
            400,
            "KRY0400: thingName \"a b\" is not",
            Why::Name,
            "--parameter",
            false,
        ),
        (401, "X: invalid credentials", Why::Service, "credential store", true),
        (
            401,
            "KRY0401: there is no key \"abc\"",
            Why::Unknown,
            "Krypton settings are enabled",
            true,
        ),
        (403, "", Why::Unknown, "Krypton settings are enabled", true),
        (404, "", Why::Unknown, "Krypton settings are enabled", false),
    ] {
        let r = refusal::Refusal::read(status, message.to_owned());
        assert_eq!((r.why, r.is_about_the_key()), (why, about_key), "{message}");
        assert!(r.cure().contains(cure), "{}", r.cure());
    }
}

#[test]
fn secrets_and_subscribers_stay_out_of_messages() {
    let secret = "-----BEGIN PRIVATE KEY-----SECRET";
    let body =
        json!({"privateKey": secret, "host": "h", "clientId": "d-295012345678901", "certificate": "no"}).to_string();
    let r = reply(200, &body);
    let thing = Thing::read(&r).unwrap();
    let shown = format!("{r:?} {thing:?}");
    let device = thing.complete(None).unwrap();
    let fields = format!("{:?}", device.clone().aws());
    let e = device.clone().grant().unwrap_err();
    assert!(!format!("{shown} {device:?} {fields} {e} {e:?}").contains("SECRET"));
    assert!(!format!("{device:?}").contains("295012345678901"));
    // A secret in a place where something else belongs, and in an answer that is none.
    let misplaced = json!({"region": "r", "identityId": "i", "credentials": "SECRET \"SECRET\" SECRET"}).to_string();
    let e = reply(200, &misplaced).json::<CognitoCredentials>().unwrap_err();
    assert!(
        e.to_string().contains("does not fit: invalid type: string …") && !e.to_string().contains("SECRET"),
        "{e}"
    );
    for status in [400, 500] {
        let e = reply(status, r#"{"privateKey":"SECRET"}"#).good().unwrap_err();
        assert!(
            e.to_string().contains("without code and message") && !e.to_string().contains("SECRET"),
            "{e}"
        );
    }
    for stray in [r#"{"privateKey":"SECRET"}"#, "-----BEGIN PRIVATE KEY-----SECRET"] {
        let e = [
            reply(200, stray).pem().unwrap_err(),
            reply(500, stray).pem().unwrap_err(),
        ];
        assert!(!format!("{e:?}").contains("SECRET"), "{e:?}");
    }
    let parameters = [("deviceId".to_owned(), "d-295012345678901".to_owned())];
    let operation = Operation::RegisterAzureIotDevice(Parameters::new(parameters).unwrap());
    let request = operation.signed(&key(), Duration::from_secs(1));
    let shown = format!("{operation:?} {request:?}");
    let [_, _, (_, signature)] = &request.headers[..] else {
        panic!()
    };
    assert!(
        !shown.contains("295012345678901") && !shown.contains(signature),
        "{shown}"
    );
    let e = registered(&reply(403, r#"{"code":"X","message":"IMSI 295012345678901 unknown"}"#)).unwrap_err();
    assert!(!e.to_string().contains("295012345678901"), "{e}");
    let e = registered(&reply(200, r#"{"operationId":295012345678901}"#)).unwrap_err();
    assert!(!e.to_string().contains("295012345678901"), "{e}");
    let arc = json!({"arcServerPeerPublicKey": "p", "arcServerEndpoint": "h:1", "arcAllowedIPs": ["100.127.0.0/16"],
        "arcClientPeerPrivateKey": "SECRET", "arcClientPeerIpAddress": "10.0.0.1"});
    let session: ArcSession = reply(200, &arc.to_string()).json().unwrap();
    let fields = Fields::from(session.clone());
    assert!(!format!("{session:?} {fields:?}").contains("SECRET"));
    let told: Value = serde_json::from_slice(&fields.json(reply::BODY_MAX).unwrap()).unwrap();
    assert_eq!(told, arc, "whoever asks for everything gets it, in SORACOM's names");
}

#[test]
fn cognitos_answers_with_either_expiration() {
    for expiration in [json!(1_800_000_000_000_u64), json!("2027-01-15T08:00:00Z")] {
        let body = json!({"region": "ap-northeast-1", "identityId": "ap-northeast-1:x", "credentials": {
            "accessKeyId": "ASIAX", "secretKey": "s", "sessionToken": "t", "expiration": expiration}});
        let c: CognitoCredentials = reply(200, &body.to_string()).json().unwrap();
        assert_eq!(
            (c.credentials.secret_key.reveal(), c.credentials.session_token.reveal()),
            ("s", "t")
        );
        let fields: Value = serde_json::from_slice(&Fields::from(c).json(4096).unwrap()).unwrap();
        assert_eq!(fields["expiration"], expiration);
    }
}

#[test]
fn inventorys_key_is_told_or_derived() {
    let base = json!({"serverUri": "coaps://x:5684", "pskId": "p"});
    let read = |more: Value, key: Option<&Key>| {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Inventory::read(&reply(200, &body.to_string()), key)
    };
    let told = read(json!({"applicationKey": "AAAA"}), None).unwrap();
    assert_eq!(told.application_key.reveal(), "AAAA");
    let nonce = json!({"nonce": "EBESExQVFhcYGRobHB0eHw==", "timestamp": "1700000000000"});
    let derived = read(nonce.clone(), Some(&key())).unwrap();
    assert_eq!(derived.application_key.reveal(), "d5Q8vpeLlo19ZhvH/9MnFg==");
    for (more, key, want) in [
        (nonce, None, "only SIM authentication"),
        (json!({"nonce": "x", "timestamp": "1"}), Some(&key()), "no base64"),
        (json!({}), Some(&key()), "neither applicationKey nor nonce"),
    ] {
        let e = read(more, key).unwrap_err();
        assert!(e.to_string().contains(want), "{e}");
    }
}

proptest::proptest! {
    #[test]
    fn any_answer_is_survived(status in 0u16..700, body: Vec<u8>) {
        let r = Reply { status, retry_after: None, body: Zeroizing::new(body) };
        let _ = registered(&r);
        let _ = registration(&r);
        let _ = Thing::read(&r);
        let _ = r.pem();
        let _ = Inventory::read(&r, Some(&key()));
        let _ = Metadata::read(&r);
        let _ = Userdata::read(&r);
        let _ = r.json::<CognitoCredentials>();
    }
}
