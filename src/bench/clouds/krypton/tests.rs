//! Krypton's core: who may ask for what, and what comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use axum::http::HeaderValue;
use serde_json::json;

use super::super::subscribers::DEFAULT_IMSI;
use super::*;

pub(super) fn krypton(change: impl FnOnce(&mut Config)) -> (tempfile::TempDir, Krypton) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    change(&mut config);
    let ca = Arc::new(Ca::open(dir.path(), Clock::new()).unwrap());
    let k = Krypton::new(&config, ca, Clock::new());
    (dir, k)
}

fn caller(imsi: &str) -> Caller {
    Caller {
        imsi: imsi.parse().unwrap(),
        ck: None,
    }
}

/// An operation at the cellular door.
fn ask_as(k: &Krypton, imsi: &str, method: &str, path: &str, body: &[u8]) -> Result<Answer, Denied> {
    let operation = Operation::find(Entry::Cellular, method, &format!("/v1/provisioning/{path}"))?;
    k.perform(&caller(imsi), &operation, body)
}

fn ask(k: &Krypton, method: &str, path: &str, body: &[u8]) -> Result<Value, Denied> {
    ask_as(k, DEFAULT_IMSI, method, path, body).map(value)
}

pub(super) fn value(answer: Answer) -> Value {
    match answer {
        Answer::Json(value) => value,
        Answer::Pem(text) | Answer::Text(text) => text.into(),
    }
}

const REGISTER: &str = "azure/iot/register";
const BOOTSTRAP: &str = "aws/iot/bootstrap";

fn register(k: &Krypton, body: &[u8]) -> String {
    let answer = ask(k, "POST", REGISTER, body).unwrap();
    answer["operationId"].as_str().unwrap().to_owned()
}

fn status(k: &Krypton, id: &str) -> Value {
    ask(k, "GET", &format!("azure/iot/registrations/{id}"), b"").unwrap()
}

pub(super) fn rule<T: std::fmt::Debug>(outcome: Result<T, Denied>) -> &'static str {
    let denied = outcome.unwrap_err();
    let Denied::Rule(article, detail) = &denied else {
        panic!("{denied:?}");
    };
    assert!(!detail.is_empty() && !article.rule.source.is_empty() && !article.ja.is_ascii());
    article.rule.id
}

#[test]
fn assigning_then_assigned_and_stays_so() {
    let (_dir, k) = krypton(|c| c.assigning_polls = 2);
    let id = register(&k, b"");
    for _ in 0..2 {
        assert_eq!(status(&k, &id)["status"], "assigning");
    }
    let assigned = status(&k, &id);
    assert_eq!(assigned["status"], "assigned");
    assert_eq!(assigned["deviceId"], format!("myDevice-{DEFAULT_IMSI}"));
    assert_eq!(assigned["host"], "onyx-hub.azure-devices.net");
    assert_eq!(status(&k, &id), assigned);
    let path = format!("azure/iot/registrations/{id}");
    let other = ask_as(&k, "440103123456789", "GET", &path, b"");
    assert_eq!(rule(other), "krypton/registration");
}

#[test]
fn keys_are_in_answers_and_never_in_debug() {
    let (_dir, k) = krypton(|_| {});
    let id = register(&k, b"");
    let ck = [0xa5; 16];
    let signing = Caller {
        imsi: DEFAULT_IMSI.parse().unwrap(),
        ck: Some(ck.into()),
    };
    let bootstrap = Operation::BootstrapAwsIotThing;
    let thing = k.perform(&signing, &bootstrap, b"").unwrap();
    let shown = format!("{thing:?}");
    let secrets = [
        status(&k, &id)["privateKey"].as_str().unwrap().to_owned(),
        value(thing)["privateKey"].as_str().unwrap().to_owned(),
        ask(&k, "POST", "soracom/inventory/bootstrap", b"").unwrap()["applicationKey"]
            .as_str()
            .unwrap()
            .to_owned(),
        format!("{ck:?}"),
    ];
    let shown = format!("{shown} {k:?} {signing:?}");
    assert!(shown.contains(&id), "what it remembers is shown");
    for secret in &secrets {
        // As `Debug` would write a text.
        let escaped = format!("{secret:?}");
        assert!(
            !shown.contains(secret) && !shown.contains(escaped.trim_matches('"')),
            "{shown}"
        );
    }
}

#[test]
fn assigning_for_a_while() {
    let (_dir, k) = krypton(|c| c.assigning_for = Duration::from_secs(3_600));
    let id = register(&k, b"");
    assert_eq!(status(&k, &id)["status"], "assigning");
    let k = Krypton {
        assigning_for: Duration::ZERO,
        ..k
    };
    assert_eq!(status(&k, &id)["status"], "assigned");
}

#[test]
fn parameters_override_and_bad_ones_are_named() {
    let (_dir, k) = krypton(|_| {});
    let nested = br#"{"requestParameters":{"deviceId":"dev1","host":"other.azure-devices.net","idScope":"0ne"}}"#;
    // The Java client merges its parameters into the body.
    let merged = br#"{"keyId":"k","keyLength":32,"deviceId":"dev1","host":"other.azure-devices.net"}"#;
    for body in [&nested[..], merged] {
        let a = status(&k, &register(&k, body));
        assert_eq!(
            (&a["deviceId"], &a["host"]),
            (&"dev1".into(), &"other.azure-devices.net".into())
        );
    }
    assert!(ask(&k, "POST", REGISTER, br#"{"requestParameters":null}"#).is_ok());
    for bad in [&b"{"[..], b"[]x", b"\xff", br#"{"requestParameters":7}"#] {
        assert_eq!(rule(ask(&k, "POST", REGISTER, bad)), "krypton/body");
    }
    let long = json!({"requestParameters": {"thingName": "x".repeat(65)}}).to_string();
    for (path, body) in [
        (REGISTER, r#"{"requestParameters":{"deviceId":"../x"}}"#),
        (BOOTSTRAP, r#"{"requestParameters":{"thingName":""}}"#),
        (BOOTSTRAP, &long),
        ("soracom/inventory/bootstrap", r#"{"endpoint":"a b"}"#),
    ] {
        assert_eq!(rule(ask(&k, "POST", path, body.as_bytes())), "krypton/name", "{body}");
    }
}

#[test]
fn aws_with_and_without_certificates() {
    let (_dir, k) = krypton(|_| {});
    let all = ask(&k, "POST", BOOTSTRAP, b"{}").unwrap();
    assert_eq!(all["region"], "ap-northeast-1");
    assert_eq!(all["clientId"], format!("myThing-{DEFAULT_IMSI}"));
    assert!(all["certificate"].is_string() && all["rootCaCertificate"].is_string());
    let body = br#"{"requestParameters":{"thingName":"t1","skipCertificates":true}}"#;
    let some = ask(&k, "POST", BOOTSTRAP, body).unwrap();
    assert_eq!((&some["clientId"], &some["certificate"]), (&"t1".into(), &Value::Null));
    let path = format!("aws/iot/certificates/{}", some["certificateId"].as_str().unwrap());
    let pem = ask(&k, "POST", &path, b"").unwrap();
    let key = some["privateKey"].as_str().unwrap();
    crate::tls::Identity::from_pem(pem.as_str().unwrap().as_bytes(), key.as_bytes(), "t1").unwrap();
    for (imsi, path) in [
        (DEFAULT_IMSI, "aws/iot/certificates/00"),
        ("440103123456789", path.as_str()),
    ] {
        assert_eq!(rule(ask_as(&k, imsi, "POST", path, b"")), "krypton/certificate");
    }
    let root = ask(&k, "POST", "aws/iot/ca_certificate", b"").unwrap();
    assert_eq!(root, k.ca.root_pem());
}

#[test]
fn faults_spoil_what_they_say() {
    let (_dir, k) = krypton(|_| {});
    let read = |v: &Value| {
        let text = |n: &str| v[n].as_str().unwrap().to_owned();
        crate::tls::Identity::from_pem(text("certificate").as_bytes(), text("privateKey").as_bytes(), "k")
    };
    let fetch = |fault: &str| {
        k.fault.set(Some(fault.parse().unwrap()));
        status(&k, &register(&k, b""))
    };
    assert!(matches!(
        read(&fetch("wrong-key*1")),
        Err(crate::tls::TlsError::Mismatch(_))
    ));
    assert!(matches!(
        read(&fetch("garbage-cert*1")),
        Err(crate::tls::TlsError::BadCertificate { .. })
    ));
    assert!(read(&fetch("expired*1")).unwrap().leaf.not_after < Clock::new().system());
    assert_eq!(fetch("failed*1")["status"], "failed");
    assert_eq!(fetch("never-assigned*1")["status"], "assigning");
    let healthy = status(&k, &register(&k, b""));
    assert!(read(&healthy).is_ok(), "the faults are used up");
}

#[test]
fn patterns_need_the_imsi() {
    assert!(check_pattern("myDevice-$imsi").is_ok());
    assert!(check_pattern("myDevice").is_err());
    assert!(check_pattern(&format!("{}$imsi", "x".repeat(50))).is_err());
}

#[test]
fn the_doors_differ_in_paths_and_methods() {
    let find = |entry, method, path: &str| Operation::find(entry, method, path);
    let azure = "/v1/provisioning/azure/iot/registrations/7";
    assert!(find(Entry::Cellular, "GET", azure).is_ok() && find(Entry::Internet, "POST", azure).is_ok());
    assert_eq!(rule(find(Entry::Cellular, "POST", azure)), "krypton/method");
    assert_eq!(rule(find(Entry::Internet, "GET", azure)), "krypton/method");
    for path in [
        "soracom/air/subscriber_metadata",
        "soracom/air/userdata",
        "azure/iot/bootstrap",
    ] {
        let path = format!("/v1/provisioning/{path}");
        assert!(find(Entry::Internet, "POST", &path).is_ok());
        assert_eq!(rule(find(Entry::Cellular, "POST", &path)), "krypton/path");
    }
    for path in [
        "/",
        "/v1/keys",
        "/v1/provisioning/azure/iot/registrations/",
        "/v1/provisioning/azure/iot/registrations/a/b",
        "/v1/provisioning/aws/iot/bootstrap/",
        "/v2/provisioning/aws/iot/bootstrap",
    ] {
        assert_eq!(rule(find(Entry::Internet, "POST", path)), "krypton/path", "{path}");
    }
}

#[test]
fn the_group_may_forbid() {
    for (group, path, wanted) in [
        ("none", BOOTSTRAP, "krypton/group"),
        ("disabled", BOOTSTRAP, "krypton/disabled"),
        ("azure,arc", BOOTSTRAP, "krypton/service"),
        ("azure,arc", "aws/cognito/credentials", "krypton/service"),
    ] {
        let (_dir, k) = krypton(|c| c.krypton_group = group.parse().unwrap());
        assert_eq!(rule(ask(&k, "POST", path, b"")), wanted, "{group}");
    }
    let (_dir, k) = krypton(|c| c.krypton_group = "azure,arc".parse().unwrap());
    assert!(ask(&k, "POST", REGISTER, b"").is_ok() && ask(&k, "POST", "soracom/arc/bootstrap", b"{}").is_ok());
    let (_dir, k) = krypton(|c| c.krypton_group = Group::None);
    let metadata = k.perform(&caller(DEFAULT_IMSI), &Operation::SubscriberMetadata, b"");
    assert!(metadata.map(value).unwrap()["groupId"].is_null());
    assert!("azure,gcp".parse::<Group>().is_err());
}

#[test]
fn the_other_services_have_the_clients_fields() {
    let (_dir, k) = krypton(|c| c.userdata = "hello".into());
    let credentials = ask(&k, "POST", "aws/cognito/credentials", b"").unwrap();
    for field in ["accessKeyId", "secretKey", "sessionToken"] {
        assert!(credentials["credentials"][field].is_string(), "{credentials}");
    }
    assert!(credentials["credentials"]["expiration"].as_u64().unwrap() > 1_700_000_000_000);
    let token = ask(&k, "POST", "aws/cognito/open_id_tokens", b"").unwrap();
    assert_eq!(token["identityId"], credentials["identityId"], "one SIM, one identity");
    assert_eq!(token["token"].as_str().unwrap().split('.').count(), 3);
    let arc = ask(&k, "POST", "soracom/arc/bootstrap", b"{}").unwrap();
    for field in [
        "arcServerPeerPublicKey",
        "arcServerEndpoint",
        "arcClientPeerPrivateKey",
        "arcClientPeerIpAddress",
    ] {
        assert!(arc[field].is_string(), "{arc}");
    }
    assert!(arc["arcAllowedIPs"].is_array());
    let inventory = ask(&k, "POST", "soracom/inventory/bootstrap", br#"{"endpoint":"sensor"}"#).unwrap();
    let psk_id = inventory["pskId"].as_str().unwrap();
    assert!(psk_id.starts_with("sensor-") && inventory["nonce"].is_null());
    assert_eq!(k.inventory_key(psk_id).unwrap(), inventory["applicationKey"]);
    let userdata = k.perform(&caller(DEFAULT_IMSI), &Operation::Userdata, b"");
    assert_eq!(value(userdata.unwrap()), "hello");
}

pub(super) fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn messages_come_in_two_languages() {
    assert_eq!(Language::of(&headers(&[("x-soracom-lang", "ja")])), Language::Ja);
    for list in [&[][..], &[("x-soracom-lang", "en")], &[("x-soracom-lang", "fr")]] {
        assert_eq!(Language::of(&headers(list)), Language::En);
    }
}

#[test]
fn lists_are_bounded() {
    let mut list = VecDeque::new();
    for n in 0..KEPT_MAX + 3 {
        keep(&mut list, n);
    }
    assert_eq!((list.len(), list[0]), (KEPT_MAX, 3));
}
