//! The account behind the AWS IoT Core stand-in, before mosquitto, openssl and curl: certificates of other authorities, the door at 443,
//! shadows, presence, and the account's own side over HTTP.

use std::process::Stdio;

use onyx::bench::clouds::{Cloud, Config, Protocol, What};
use serde_json::{Value, json};

use crate::tools::{Bench, Lines, command, fail, output, spawn, succeed};

const CLOUD: Cloud = Cloud::AwsIot;

/// A bench where AWS registers the certificates of an authority of openssl's just in time; `fleet-lamp.pem` and `.key` are one, as
/// `openssl x509 -req` of OpenSSL 3.0 makes it: X.509 version 1.
pub(crate) async fn with_own_authority(change: impl FnOnce(&mut Config)) -> Bench {
    let made = tempfile::tempdir().unwrap();
    let path = |name: &str| made.path().join(name).to_str().unwrap().to_owned();
    let mut ca = command("openssl");
    ca.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=Fleet CA",
        "-days",
        "30",
    ]);
    succeed(ca.args(["-keyout", &path("fleet-ca.key"), "-out", &path("fleet-ca.pem")])).await;
    let mut csr = command("openssl");
    csr.args(["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=lamp"]);
    succeed(csr.args(["-keyout", &path("fleet-lamp.key"), "-out", &path("lamp.csr")])).await;
    let mut sign = command("openssl");
    sign.args(["x509", "-req", "-in", &path("lamp.csr"), "-CA", &path("fleet-ca.pem")]);
    sign.args(["-CAkey", &path("fleet-ca.key"), "-CAcreateserial", "-days", "30"]);
    succeed(sign.args(["-out", &path("fleet-lamp.pem")])).await;
    let b = Bench::start(|c| {
        c.aws_jitr = vec![made.path().join("fleet-ca.pem")];
        change(c);
    })
    .await;
    for name in ["fleet-lamp.pem", "fleet-lamp.key"] {
        std::fs::copy(path(name), b.path(name)).unwrap();
    }
    b
}

/// mosquitto_pub as the device of `fleet-lamp`.
fn lamp(b: &Bench) -> tokio::process::Command {
    let mut c = command("mosquitto_pub");
    c.args(["-h", "localhost", "-p", &b.port(CLOUD), "--cafile", &b.path("ca.pem")]);
    c.args(["--cert", &b.path("fleet-lamp.pem"), "--key", &b.path("fleet-lamp.key")]);
    c.args(["-i", "lamp", "-t", "a/b", "-q", "1", "-m", "hello"]);
    c
}

#[tokio::test]
async fn a_certificate_of_a_registered_authority_is_registered_then_let_in() {
    let mut b = with_own_authority(|_| {}).await;
    let mut watch = b.mosquitto("mosquitto_sub", CLOUD, "localhost", "watcher");
    watch.args([
        "-i",
        "watcher",
        "-t",
        "$aws/events/certificates/registered/+",
        "-q",
        "1",
    ]);
    let mut watch = spawn(watch.stdout(Stdio::piped()));
    let mut events = Lines::of(&mut watch);
    b.subscribed().await;
    fail(&mut lamp(&b)).await;
    assert_eq!(b.refusal("aws-iot/first-connection").await, "connection closed");
    let event: Value = serde_json::from_str(&events.next().await).unwrap();
    assert_eq!(event["certificateStatus"], "PENDING_ACTIVATION");
    succeed(&mut lamp(&b)).await;
    assert_eq!(b.payloads(CLOUD), ["hello"]);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_not_let_in() {
    let mut b = Bench::start(|_| {}).await;
    let stranger = Bench::start(|_| {}).await;
    stranger.clouds.write_device("thing").unwrap();
    let mut c = command("mosquitto_pub");
    c.args(["-h", "localhost", "-p", &b.port(CLOUD), "--cafile", &b.path("ca.pem")]);
    c.args([
        "--cert",
        &stranger.path("devices/thing.pem"),
        "--key",
        &stranger.path("devices/thing.key"),
    ]);
    fail(c.args(["-i", "thing", "-t", "a", "-m", "x"])).await;
    assert_eq!(b.refusal("aws-iot/certificate").await, "connection closed");
}

#[tokio::test]
async fn the_door_at_443_wants_its_protocol_named() {
    let mut b = Bench::start(|_| {}).await;
    let port = b.clouds.door(CLOUD, Protocol::MqttsAlpn).unwrap().port().to_string();
    let publish = |alpn: Option<&str>| {
        let mut c = b.mosquitto("mosquitto_pub", CLOUD, "localhost", "thing");
        c.args(["-p", &port, "-i", "thing", "-t", "a", "-q", "1", "-m", "x"]);
        c.args(alpn.iter().flat_map(|a| ["--tls-alpn", a]));
        c
    };
    let (right, wrong, none) = (publish(Some("x-amzn-mqtt-ca")), publish(Some("mqtt")), publish(None));
    for mut refused in [wrong, none] {
        fail(&mut refused).await;
        assert_eq!(b.refusal("tls/alpn").await, "connection closed");
    }
    let mut right = right;
    succeed(&mut right).await;
    assert_eq!(b.payloads(CLOUD), ["x"]);
}

#[tokio::test]
async fn openssl_sees_the_names_and_protocols_refused() {
    let mut b = Bench::start(|_| {}).await;
    b.clouds.write_device("thing").unwrap();
    let door = b.clouds.door(CLOUD, Protocol::MqttsAlpn).unwrap().to_string();
    let s_client = |more: &[&str]| {
        let mut c = command("openssl");
        c.args([
            "s_client",
            "-connect",
            &door,
            "-CAfile",
            &b.path("ca.pem"),
            "-verify_return_error",
        ]);
        c.args([
            "-cert",
            &b.path("devices/thing.pem"),
            "-key",
            &b.path("devices/thing.key"),
        ]);
        c.args(more);
        c
    };
    let host = "onyx-ats.iot.ap-northeast-1.amazonaws.com";
    let named = ["-servername", host, "-verify_hostname", host, "-alpn", "x-amzn-mqtt-ca"];
    let (mut good, mut other, mut nameless) = (
        s_client(&named),
        s_client(&["-servername", host, "-alpn", "http/1.1"]),
        s_client(&["-noservername", "-alpn", "x-amzn-mqtt-ca"]),
    );
    let good = succeed(&mut good).await;
    assert!(
        good.contains("ALPN protocol: x-amzn-mqtt-ca") && good.contains("Verify return code: 0 (ok)"),
        "{good}"
    );
    // Its handshake was fine; it said nothing more.
    assert_eq!(b.refusal("mqtt/connect-first").await, "connection closed");
    let other = output(&mut other).await;
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("no application protocol"),
        "{other:?}"
    );
    assert_eq!(b.refusal("tls/alpn").await, "connection closed");
    fail(&mut nameless).await;
    assert_eq!(b.refusal("aws-iot/sni").await, "connection closed");
}

#[tokio::test]
async fn a_second_connection_with_the_same_client_id_takes_over() {
    let mut b = Bench::start(|_| {}).await;
    let mut watch = b.mosquitto("mosquitto_sub", CLOUD, "localhost", "watcher");
    watch.args([
        "-i",
        "watcher",
        "-t",
        "$aws/events/presence/disconnected/thing",
        "-q",
        "1",
    ]);
    let mut watch = spawn(watch.stdout(Stdio::piped()));
    let mut events = Lines::of(&mut watch);
    b.subscribed().await;
    let mut first = b.mosquitto("mosquitto_sub", CLOUD, "localhost", "thing");
    let first = spawn(first.args(["-i", "thing", "-t", "a"]).stderr(Stdio::null()));
    b.subscribed().await;
    let mut second = b.mosquitto("mosquitto_pub", CLOUD, "localhost", "thing");
    second.args(["-i", "thing", "-t", "b", "-q", "1", "-m", "x"]);
    // Within a second of the first CONNECT it is refused, and the next time not.
    while !output(&mut second).await.status.success() {
        assert_eq!(b.refusal("aws-iot/connect-rate").await, "connection closed");
    }
    drop(first);
    let event: Value = serde_json::from_str(&events.next().await).unwrap();
    assert_eq!(event["disconnectReason"], "DUPLICATE_CLIENTID");
    assert_eq!(event["clientInitiatedDisconnect"], false);
}

/// What curl gets: status and body.
async fn curl(base: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut c = command("curl");
    c.args(["-sS", "-X", method, "-w", "\n%{http_code}", &format!("{base}{path}")]);
    if !body.is_empty() {
        c.args(["--data-binary", body]);
    }
    let out = succeed(&mut c).await;
    let (body, status) = out.rsplit_once('\n').unwrap();
    (
        status.parse().unwrap(),
        serde_json::from_str(body).unwrap_or(Value::Null),
    )
}

#[tokio::test]
async fn the_account_s_own_side_over_http() {
    let mut b = Bench::start(|c| c.aws_topics = vec!["a/#".into()]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/aws-iot", listener.local_addr().unwrap());
    let app = axum::Router::new().nest("/aws-iot", b.clouds.aws_iot_routes());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut sub = b.mosquitto("mosquitto_sub", CLOUD, "localhost", "thing");
    sub.args([
        "-i",
        "thing",
        "-q",
        "1",
        "-t",
        "$aws/things/thing/shadow/update/delta",
        "-t",
        "a/#",
    ]);
    let mut sub = spawn(sub.stdout(Stdio::piped()));
    let mut lines = Lines::of(&mut sub);
    b.subscribed().await;
    b.subscribed().await;

    let shadow = "/things/thing/shadow";
    assert_eq!(curl(&base, "GET", shadow, "").await.0, 404);
    let (status, _) = curl(&base, "POST", shadow, r#"{"state": {"desired": {"on": true}}}"#).await;
    assert_eq!(status, 200);
    let delta: Value = serde_json::from_str(&lines.next().await).unwrap();
    assert_eq!(delta["state"], json!({"on": true}));
    assert_eq!(
        curl(&base, "GET", shadow, "").await.1["state"]["delta"],
        json!({"on": true})
    );
    assert_eq!(curl(&base, "POST", &format!("{shadow}?name=n"), "{").await.0, 400);
    assert_eq!(curl(&base, "DELETE", shadow, "").await.0, 200);

    assert_eq!(curl(&base, "POST", "/topics/a/b?qos=1", "from the cloud").await.0, 200);
    assert_eq!(lines.next().await, "from the cloud");
    assert_eq!(curl(&base, "POST", "/topics/a/b?qos=2", "x").await.0, 400);
    assert_eq!(curl(&base, "POST", "/topics/$aws/x", "x").await.0, 400);

    // A policy of its own, attached to the certificate that is there: it takes effect at once, on what is delivered.
    let statement = json!({"Effect": "Allow", "Action": ["iot:Connect", "iot:Receive"], "Resource": [
        "arn:aws:iot:ap-northeast-1:123456789012:client/*", "arn:aws:iot:ap-northeast-1:123456789012:topic/a/heard"]});
    let document = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
    assert_eq!(curl(&base, "PUT", "/policies/narrow", &document).await.0, 200);
    assert_eq!(curl(&base, "PUT", "/policies/bad", "{}").await.0, 400);
    let (_, all) = curl(&base, "GET", "/certificates", "").await;
    let id = all["certificates"][0]["certificateId"].as_str().unwrap().to_owned();
    let path = format!("/certificates/{id}");
    let (status, changed) = curl(&base, "POST", &path, r#"{"policies": ["narrow"]}"#).await;
    assert_eq!((status, &changed["policies"]), (200, &json!(["narrow"])));
    assert_eq!(curl(&base, "POST", &path, r#"{"policies": ["none"]}"#).await.0, 404);
    assert_eq!(curl(&base, "POST", "/topics/a/unheard?qos=1", "unheard").await.0, 200);
    assert_eq!(curl(&base, "POST", "/topics/a/heard?qos=1", "heard").await.0, 200);
    assert_eq!(lines.next().await, "heard");

    let pem = b.clouds.ca_pem();
    let authority = json!({"caCertificate": pem, "registration": {"template": "onyx-bench"}}).to_string();
    assert_eq!(curl(&base, "POST", "/cas", &authority).await.0, 200);
    assert_eq!(
        curl(&base, "GET", "/cas", "").await.1["certificates"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let (_, claim) = curl(&base, "POST", "/claims/first-boot", "").await;
    assert!(claim["privateKey"].as_str().unwrap().contains("PRIVATE KEY"));
    let told = r#"{"operation": "provision", "times": 2, "reply": {"rejected": {"statusCode": 429, "errorCode": "E", "errorMessage": "m"}}}"#;
    assert_eq!(curl(&base, "POST", "/provisioning", told).await.0, 200);
    assert_eq!(
        curl(&base, "POST", "/provisioning", r#"{"operation": "all"}"#).await.0,
        400
    );
    assert_eq!(curl(&base, "DELETE", "/provisioning", "").await.0, 200);
    assert_eq!(
        curl(&base, "POST", &path, r#"{"status": "INACTIVE"}"#).await.1["status"],
        "INACTIVE"
    );
    drop(sub);
    let mut again = b.mosquitto("mosquitto_pub", CLOUD, "localhost", "other");
    again.args(["-i", "other", "-t", "$SYS/x", "-m", "x", "-q", "1"]);
    fail(&mut again).await;
    assert_eq!(b.refusal("aws-iot/reserved-topic").await, "connection closed");
    let event = b.event(
        "gone",
        |e| matches!(&e.what, What::Disconnected { client_id, .. } if client_id == "other"),
    );
    event.await;
}
