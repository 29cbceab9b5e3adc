//! Krypton's cellular door, asked by curl.

use onyx::bench::clouds::{Cloud, Subscribers};
use serde_json::Value;

use crate::tools::{Bench, command, output, succeed};

/// curl as in the article, with the stand-in where DNS would say krypton.soracom.io is.
pub(crate) async fn curl(b: &Bench, more: &[&str], path: &str) -> (u16, String) {
    let port = b.port(Cloud::Krypton);
    let mut c = command("curl");
    c.args(["-s", "-w", "\n%{http_code}", "--cacert", &b.path("ca.pem")]);
    c.args(["--resolve", &format!("krypton.soracom.io:{port}:127.0.0.1")]);
    c.args(more).arg(format!("https://krypton.soracom.io:{port}{path}"));
    let text = String::from_utf8(output(&mut c).await.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

pub(crate) async fn register(b: &Bench) -> String {
    let (status, body) = curl(b, &["-X", "POST"], "/v1/provisioning/azure/iot/register").await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    answer["operationId"].as_str().unwrap().to_owned()
}

pub(crate) async fn registration(b: &Bench, id: &str) -> (u16, String) {
    curl(b, &[], &format!("/v1/provisioning/azure/iot/registrations/{id}")).await
}

#[tokio::test]
async fn the_articles_two_requests_give_what_openssl_verifies() {
    let b = Bench::start(|c| c.assigning_polls = 1).await;
    let id = register(&b).await;
    let (_, pending) = registration(&b, &id).await;
    let pending: Value = serde_json::from_str(&pending).unwrap();
    assert_eq!(
        (&pending["status"], &pending["certificate"]),
        (&"assigning".into(), &Value::Null)
    );
    let (status, body) = registration(&b, &id).await;
    assert_eq!(status, 200);
    let res: Value = serde_json::from_str(&body).unwrap();
    for (field, file) in [
        ("certificate", "certificate.pem"),
        ("privateKey", "privatekey.pem"),
        ("rootCaCertificate", "rootCaCertificate.pem"),
    ] {
        std::fs::write(b.path(file), res[field].as_str().unwrap()).unwrap();
    }
    let certificate = b.path("certificate.pem");
    let root = b.path("rootCaCertificate.pem");
    let verify = [
        "verify",
        "-purpose",
        "sslclient",
        "-CAfile",
        &root,
        "-untrusted",
        &certificate,
        &certificate,
    ];
    assert!(succeed(command("openssl").args(verify)).await.contains("OK"));
    let subject = succeed(command("openssl").args(["x509", "-noout", "-subject", "-in", &certificate])).await;
    assert!(subject.contains("CN = myDevice-295012345678901"), "{subject}");
    // The two public keys are one.
    let of_certificate = succeed(command("openssl").args(["x509", "-noout", "-pubkey", "-in", &certificate])).await;
    let of_key = succeed(command("openssl").args(["pkey", "-pubout", "-in", &b.path("privatekey.pem")])).await;
    assert_eq!(of_certificate, of_key);
}

#[tokio::test]
async fn aws_bootstrap_in_one_go_and_piece_by_piece() {
    let b = Bench::start(|_| {}).await;
    let (status, body) = curl(&b, &["-X", "POST"], "/v1/provisioning/aws/iot/bootstrap").await;
    assert_eq!(status, 200);
    let all: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(all["clientId"], "myThing-295012345678901");
    assert_eq!(all["rootCaCertificate"].as_str().unwrap(), b.clouds.ca_pem());
    let body = r#"{"requestParameters":{"thingName":"my-thing","skipCertificates":true}}"#;
    let json = ["-H", "Content-Type: application/json", "-d", body];
    let (_, body) = curl(&b, &json, "/v1/provisioning/aws/iot/bootstrap").await;
    let some: Value = serde_json::from_str(&body).unwrap();
    assert!(some["certificate"].is_null() && some["privateKey"].is_string());
    let id = some["certificateId"].as_str().unwrap();
    let path = format!("/v1/provisioning/aws/iot/certificates/{id}");
    let (status, pem) = curl(&b, &["-X", "POST"], &path).await;
    assert!(status == 200 && pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    let (_, root) = curl(&b, &["-X", "POST"], "/v1/provisioning/aws/iot/ca_certificate").await;
    assert_eq!(root.trim(), b.clouds.ca_pem().trim());
}

#[tokio::test]
async fn mistakes_get_a_code_and_a_message() {
    let mut b = Bench::start(|c| {
        c.subscribers = Subscribers::parse(&["440103123456789@127.0.0.9".into()]).unwrap();
    })
    .await;
    let sim = ["--interface", "127.0.0.9"];
    let large = format!("@{}", b.path("large"));
    std::fs::write(b.path("large"), vec![b' '; 17 * 1024]).unwrap();
    let azure = "/v1/provisioning/azure/iot";
    let post = [&sim[..], &["-X", "POST"]].concat();
    for (more, path, want, rule) in [
        (
            vec!["-X", "POST"],
            format!("{azure}/register"),
            403,
            Some("krypton/no-sim"),
        ),
        (post.clone(), format!("{azure}/register"), 200, None),
        (
            [&sim[..], &["-d", "{oops"]].concat(),
            format!("{azure}/register"),
            400,
            Some("krypton/body"),
        ),
        (
            sim.to_vec(),
            format!("{azure}/registrations/none"),
            404,
            Some("krypton/registration"),
        ),
        (
            post.clone(),
            format!("{azure}/registrations/none"),
            405,
            Some("krypton/method"),
        ),
        (sim.to_vec(), format!("{azure}/register"), 405, Some("krypton/method")),
        (sim.to_vec(), "/v2/else".into(), 404, Some("krypton/path")),
        (post.clone(), "/v1/keys".into(), 404, Some("krypton/path")),
        (
            post,
            "/v1/provisioning/soracom/air/userdata".into(),
            404,
            Some("krypton/path"),
        ),
    ] {
        let (status, body) = curl(&b, &more, &path).await;
        assert_eq!(status, want, "{path}: {body}");
        if want >= 400 {
            let error: Value = serde_json::from_str(&body).unwrap();
            assert!(error["code"].is_string() && error["message"].is_string(), "{body}");
        }
        if let Some(rule) = rule {
            assert_eq!(b.refusal(rule).await, format!("status {want}"));
        }
    }
    let too_large = [&sim[..], &["--data-binary", &large]].concat();
    assert_eq!(curl(&b, &too_large, &format!("{azure}/register")).await.0, 413);
    assert_eq!(b.refusal("krypton/body-size").await, "status 413");
}

#[tokio::test]
async fn a_sim_outside_of_a_krypton_group_is_turned_away() {
    for (group, want, rule) in [
        ("none", 403, "krypton/group"),
        ("disabled", 403, "krypton/disabled"),
        ("azure", 400, "krypton/service"),
    ] {
        let mut b = Bench::start(|c| c.krypton_group = group.parse().unwrap()).await;
        let (status, body) = curl(&b, &["-X", "POST"], "/v1/provisioning/aws/iot/bootstrap").await;
        assert_eq!(status, want, "{body}");
        assert_eq!(b.refusal(rule).await, format!("status {want}"));
    }
}

#[tokio::test]
async fn what_krypton_assigns_is_known_to_a_hub_that_knows_nobody_else() {
    let b = Bench::start(|c| c.hub_open = false).await;
    let id = register(&b).await;
    let (status, body) = registration(&b, &id).await;
    let assigned: Value = serde_json::from_str(&body).unwrap();
    let device = assigned["deviceId"].as_str().unwrap().to_owned();
    assert_eq!(status, 200);
    std::fs::write(b.path("k.pem"), assigned["certificate"].as_str().unwrap()).unwrap();
    std::fs::write(b.path("k.key"), assigned["privateKey"].as_str().unwrap()).unwrap();
    let mut c = command("mosquitto_pub");
    c.args([
        "-h",
        "127.0.0.1",
        "-p",
        &b.port(Cloud::IotHub),
        "--cafile",
        &b.path("ca.pem"),
    ]);
    c.args([
        "--cert",
        &b.path("k.pem"),
        "--key",
        &b.path("k.key"),
        "-i",
        &device,
        "-q",
        "1",
    ]);
    let user = format!(
        "{}/{device}/?api-version=2021-04-12",
        assigned["host"].as_str().unwrap()
    );
    let topic = format!("devices/{device}/messages/events/");
    succeed(c.args(["-u", &user, "-t", &topic, "-m", "known"])).await;
    assert_eq!(b.payloads(Cloud::IotHub), ["known"]);
}
