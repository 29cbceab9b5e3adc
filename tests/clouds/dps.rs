//! The device provisioning service over HTTPS, before curl with the requests of Microsoft's documentation and openssl with the commands of
//! the guides.

use std::net::SocketAddr;
use std::path::Path;

use onyx::bench::clouds::dps::routes;
use onyx::bench::clouds::{Cloud, Protocol, What};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::tools::{Bench, LIMIT, command, fail, output, succeed};

const HOST: &str = "global.azure-devices-provisioning.net";
const SCOPE: &str = "0ne00111111";
const HUB: &str = "onyx-hub.azure-devices.net";

/// An answer as `curl -i` prints it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn parse(text: &str) -> Self {
        // An interim answer comes first when curl asks whether to send a large body.
        let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(text);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|l| l.split_once(": "));
        Self {
            status,
            headers: headers.map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        &found.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).1
    }
}

impl Bench {
    pub(crate) fn dps(&self) -> SocketAddr {
        self.clouds.door(Cloud::Dps, Protocol::Https).unwrap()
    }

    /// curl as the documentation has it, with what leads it to the bench.
    pub(crate) fn curl(&self, cert_and_key: Option<(&str, &str)>) -> Command {
        let mut c = command("curl");
        let to = format!("{HOST}:443:{}", self.dps());
        c.args(["-sS", "--cacert", &self.path("ca.pem"), "--connect-to", &to, "-L", "-i"]);
        if let Some((cert, key)) = cert_and_key {
            c.args(["--cert", cert, "--key", key]);
        }
        c
    }

    async fn register(&self, cert: &str, key: &str, id: &str) -> Answer {
        let mut c = self.curl(Some((cert, key)));
        c.args([
            "-X",
            "PUT",
            "-H",
            "Content-Type: application/json",
            "-H",
            "Content-Encoding:  utf-8",
        ]);
        c.args(["-d", &json!({"registrationId": id}).to_string()]);
        c.arg(format!(
            "https://{HOST}/{SCOPE}/registrations/{id}/register?api-version=2019-03-31"
        ));
        Answer::parse(&succeed(&mut c).await)
    }

    pub(crate) async fn poll(&self, cert: &str, key: &str, id: &str, operation: &str) -> Answer {
        let mut c = self.curl(Some((cert, key)));
        c.args([
            "-X",
            "GET",
            "-H",
            "Content-Type: application/json",
            "-H",
            "Content-Encoding:  utf-8",
        ]);
        c.arg(format!(
            "https://{HOST}/{SCOPE}/registrations/{id}/operations/{operation}?api-version=2019-03-31"
        ));
        Answer::parse(&succeed(&mut c).await)
    }

    /// Registers and asks once.
    async fn provision(&self, cert: &str, key: &str, id: &str) -> Value {
        let first = self.register(cert, key, id).await;
        assert_eq!(first.status, 202, "{first:?}");
        let operation = first.body["operationId"].as_str().unwrap();
        let last = self.poll(cert, key, id, operation).await;
        assert_eq!(last.status, 200, "{last:?}");
        last.body
    }

    async fn telemetry(&self, cert: &str, key: &str, id: &str, count: usize) {
        for n in 0..count {
            let mut c = command("mosquitto_pub");
            c.args(["-h", "127.0.0.1", "-p", &self.port(Cloud::IotHub), "-q", "1"]);
            c.args(["--cafile", &self.path("ca.pem"), "--cert", cert, "--key", key, "-i", id]);
            c.args(["-u", &format!("{HUB}/{id}/?api-version=2021-04-12")]);
            c.args(["-t", &format!("devices/{id}/messages/events/"), "-m", &n.to_string()]);
            succeed(&mut c).await;
        }
        let want: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        assert_eq!(self.payloads(Cloud::IotHub), want);
    }

    pub(crate) fn device(&self, name: &str) -> (String, String) {
        self.clouds.write_device(name).unwrap();
        let path = |suffix: &str| self.path(&format!("devices/{name}.{suffix}"));
        (path("pem"), path("key"))
    }
}

#[tokio::test]
async fn the_documented_requests_assign_a_device_which_then_sends_telemetry() {
    let b = Bench::start(|c| c.hub_open = false).await;
    let (cert, key) = b.device("device1");
    let first = b.register(&cert, &key, "device1").await;
    assert_eq!((first.status, first.header("retry-after")), (202, "3"));
    assert_eq!(first.header("content-type"), "application/json; charset=utf-8");
    assert_eq!(first.header("x-ms-request-id").len(), 36);
    assert_eq!(first.body["status"], "assigning");
    let operation = first.body["operationId"].as_str().unwrap();
    assert!(first.header("location").ends_with(&format!(
        "/{SCOPE}/registrations/device1/operations/{operation}?api-version=2019-03-31"
    )));
    let last = b.poll(&cert, &key, "device1", operation).await;
    assert_eq!(last.status, 200);
    let state = &last.body["registrationState"];
    assert_eq!(
        (&state["status"], &state["assignedHub"], &state["deviceId"]),
        (&json!("assigned"), &json!(HUB), &json!("device1"))
    );
    b.telemetry(&cert, &key, "device1", 3).await;
    let mut c = b.curl(Some((&cert, &key)));
    c.args(["-X", "POST", "-H", "Content-Type: application/json", "-d", "{}"]);
    c.arg(format!(
        "https://{HOST}/{SCOPE}/registrations/device1?api-version=2021-10-01"
    ));
    let looked_up = Answer::parse(&succeed(&mut c).await);
    assert_eq!((looked_up.status, &looked_up.body["assignedHub"]), (200, &json!(HUB)));
}

/// Method, path, Content-Type and Content-Encoding, body; status and rule.
type Row<'a> = (&'a str, String, &'a [&'a str], &'a str, u16, &'a str);

#[tokio::test]
async fn mistakes_get_the_documented_statuses() {
    let mut b = Bench::start(|_| {}).await;
    let (cert, key) = b.device("dev");
    std::fs::write(b.path("large"), format!("{{\"payload\":\"{}\"}}", "x".repeat(100_000))).unwrap();
    let large = format!("@{}", b.path("large"));
    let device = format!("/{SCOPE}/registrations/dev");
    let version = "api-version=2021-06-01";
    let register = format!("{device}/register?{version}");
    let json = "application/json";
    let rows: [Row<'_>; 20] = [
        ("PUT", "/".into(), &[json], "{}", 404, "dps/path"),
        // Percent-encoded bytes that are no UTF-8.
        (
            "PUT",
            format!("/{SCOPE}/registrations/%ff/register?{version}"),
            &[json],
            "{}",
            400,
            "dps/path",
        ),
        (
            "POST",
            format!("/%c3%28/registrations/dev?{version}"),
            &[json],
            "{}",
            400,
            "dps/path",
        ),
        (
            "GET",
            format!("{device}/operations/%80?{version}"),
            &[json],
            "",
            400,
            "dps/path",
        ),
        (
            "PUT",
            format!("{register}&{version}"),
            &[json],
            "{}",
            400,
            "dps/api-version",
        ),
        (
            "GET",
            format!("{device}/operations/5.x.y?{version}&api-version=2019-03-31"),
            &[json],
            "",
            400,
            "dps/api-version",
        ),
        (
            "PUT",
            format!("{device}/register?api-version=%ff"),
            &[json],
            "{}",
            400,
            "dps/api-version",
        ),
        (
            "GET",
            format!("{device}/nothing?{version}"),
            &[json],
            "",
            404,
            "dps/path",
        ),
        ("POST", register.clone(), &[json], "{}", 405, "dps/method"),
        ("DELETE", format!("{device}?{version}"), &[json], "", 405, "dps/method"),
        ("PUT", register.clone(), &["text/plain"], "{}", 415, "dps/media-type"),
        ("PUT", register.clone(), &[json, "gzip"], "{}", 415, "dps/media-type"),
        (
            "PUT",
            format!("{device}/register"),
            &[json],
            "{}",
            400,
            "dps/api-version",
        ),
        (
            "PUT",
            format!("{device}/register?api-version=2018-01-01"),
            &[json],
            "{}",
            400,
            "dps/api-version",
        ),
        (
            "PUT",
            format!("/0ne00999999/registrations/dev/register?{version}"),
            &[json],
            "{}",
            404,
            "dps/id-scope",
        ),
        (
            "PUT",
            format!("/{SCOPE}/registrations/dev./register?{version}"),
            &[json],
            "{}",
            400,
            "dps/registration-id",
        ),
        (
            "PUT",
            register.clone(),
            &[json],
            r#"{"registrationId":"other"}"#,
            400,
            "dps/body",
        ),
        ("PUT", register.clone(), &[json], "not json", 400, "dps/body"),
        ("PUT", register.clone(), &[json], &large, 400, "dps/message-size"),
        (
            "GET",
            format!("{device}/operations/5.x.y?{version}"),
            &[json],
            "",
            404,
            "dps/operation",
        ),
    ];
    for (method, path, kinds, body, status, rule) in rows {
        let mut c = b.curl(Some((&cert, &key)));
        c.args(["-X", method, "-H", &format!("Content-Type: {}", kinds[0])]);
        if let Some(coding) = kinds.get(1) {
            c.args(["-H", &format!("Content-Encoding: {coding}")]);
        }
        if !body.is_empty() {
            c.args(["-d", body]);
        }
        let answer = Answer::parse(&succeed(c.arg(format!("https://{HOST}{path}"))).await);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(b.refusal(rule).await, format!("status {status}"));
        let code = answer.body["errorCode"].as_u64().unwrap();
        assert_eq!(code / 1_000, u64::from(status));
        assert_eq!(answer.header("x-ms-error-code"), code.to_string());
        assert_eq!(answer.body["trackingId"], answer.header("x-ms-request-id"));
        for field in ["message", "timestampUtc"] {
            assert!(!answer.body[field].as_str().unwrap().is_empty(), "{field}");
        }
    }
    // Somebody else's certificate, and none.
    let (other, other_key) = b.device("other");
    for (shown, rule) in [
        (Some((other.as_str(), other_key.as_str())), "dps/common-name"),
        (None, "dps/certificate"),
    ] {
        let mut c = b.curl(shown);
        c.args([
            "-X",
            "PUT",
            "-H",
            "Content-Type: application/json; charset=utf-8",
            "-d",
            "{}",
        ]);
        let answer = Answer::parse(&succeed(c.arg(format!("https://{HOST}{register}"))).await);
        assert_eq!((answer.status, &answer.body["errorCode"]), (401, &json!(401_002)));
        assert_eq!(answer.body["message"], "Invalid certificate.");
        b.refusal(rule).await;
    }
}

#[tokio::test]
async fn asking_too_often_is_429_with_a_time_to_wait() {
    let mut b = Bench::start(|c| c.dps.assigning_polls = 100).await;
    let (cert, key) = b.device("dev");
    let first = b.register(&cert, &key, "dev").await;
    let operation = first.body["operationId"].as_str().unwrap();
    // One curl, one connection, six requests: within ten seconds on any machine. Each has a body, as Microsoft's Node client sends.
    let mut c = b.curl(Some((&cert, &key)));
    let url = format!("https://{HOST}/{SCOPE}/registrations/dev/operations/{operation}?api-version=2019-03-31");
    c.args(["-X", "GET", "-H", "Content-Type: application/json", "-d", "{}"]);
    c.args(std::iter::repeat_n(url.as_str(), 6));
    let said = succeed(&mut c).await;
    let last = said.rfind("HTTP/1.1 ").unwrap();
    assert_eq!(said.matches("HTTP/1.1 202 Accepted").count(), 5, "{said}");
    let last = Answer::parse(&said[last..]);
    assert_eq!(last.status, 429);
    assert!((1..=10).contains(&last.header("retry-after").parse::<u64>().unwrap()));
    b.refusal("dps/poll-rate").await;
}

#[tokio::test]
async fn only_tls_1_2_is_spoken() {
    let mut b = Bench::start(|_| {}).await;
    let (cert, key) = b.device("dev");
    let mut c = b.curl(Some((&cert, &key)));
    fail(c.args(["--tlsv1.3", &format!("https://{HOST}/")])).await;
    b.refusal("dps/tls-1.2").await;
    for (version, good) in [("-tls1_3", false), ("-tls1_2", true)] {
        let mut c = command("openssl");
        let door = b.clouds.door(Cloud::Dps, Protocol::Mqtts).unwrap().to_string();
        c.args([
            "s_client",
            version,
            "-connect",
            &door,
            "-servername",
            HOST,
            "-CAfile",
            &b.path("ca.pem"),
        ]);
        c.args(["-verify_return_error", "-cert", &cert, "-key", &key]);
        assert_eq!(output(&mut c).await.status.success(), good, "{version}");
        if !good {
            assert_eq!(b.refusal("dps/tls-1.2").await, "connection closed");
        }
    }
}

async fn openssl(directory: &Path, line: &str) {
    let mut c = command("openssl");
    succeed(
        c.current_dir(directory)
            .args(line.split(' ').map(|w| w.trim_matches('"').replace('_', " "))),
    )
    .await;
}

/// The owner's side over HTTP on a free port.
async fn owner(b: &Bench) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = routes(b.clouds.dps().clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn ask(method: &str, url: &str, body: &Value, headers: &[&str]) -> Answer {
    let mut c = command("curl");
    c.args(["-sS", "-i", "-X", method, "-d", &body.to_string(), url]);
    for header in headers {
        c.args(["-H", header]);
    }
    Answer::parse(&succeed(&mut c).await)
}

#[tokio::test]
async fn the_x509_walk_through_from_the_first_command_to_telemetry() {
    let mut b = Bench::start(|c| c.hub_open = false).await;
    let o = owner(&b).await;
    let d = b.dir.path().join("azure-iot-certs");
    std::fs::create_dir(&d).unwrap();
    // The guide's commands; `_` stands for a blank within an argument.
    for line in [
        "genrsa -out root-ca.key 2048",
        "req -new -sha256 -key root-ca.key -out root-ca.csr -subj /CN=Root_CA_for_IoT",
        "x509 -req -sha256 -days 3650 -in root-ca.csr -signkey root-ca.key -out root-ca.pem",
        "genrsa -out device1.key 2048",
        "req -new -key device1.key -out device1.csr -subj /CN=device1",
        "x509 -req -in device1.csr -CA root-ca.pem -CAkey root-ca.key -CAcreateserial -out device1.pem -days 365",
    ] {
        openssl(&d, line).await;
    }
    let read = |name: &str| std::fs::read_to_string(d.join(name)).unwrap();
    let path = |name: &str| d.join(name).to_str().unwrap().to_owned();
    let leaf = &onyx::tls::certificates(read("device1.pem").as_bytes(), "device1").unwrap()[0];
    let version = succeed(command("openssl").arg("version")).await;
    let old = ["OpenSSL 1.", "OpenSSL 3.0.", "OpenSSL 3.1."]
        .iter()
        .any(|v| version.starts_with(v));
    assert_eq!(onyx::tls::Leaf::read(leaf, "device1").unwrap().is_v1, old, "{version}");

    let upload = json!({"properties": {"certificate": read("root-ca.pem")}});
    let certificate = format!("{o}/certificates/root-ca-cert");
    assert_eq!(
        ask("PUT", &certificate, &upload, &[]).await.body["properties"]["isVerified"],
        false
    );
    let group = json!({"attestation": {"type": "x509", "x509": {"caReferences": {"primary": "root-ca-cert"}}}});
    let enrolled = ask(
        "PUT",
        &format!("{o}/enrollmentGroups/cert-enrollment-group"),
        &group,
        &[],
    )
    .await;
    assert_eq!(
        (enrolled.status, &enrolled.body["provisioningStatus"]),
        (200, &json!("enabled"))
    );
    // Without the proof of possession nobody gets in.
    let early = b.register(&path("device1.pem"), &path("device1.key"), "device1").await;
    assert_eq!((early.status, &early.body["errorCode"]), (401, &json!(401_002)));
    b.refusal("dps/possession").await;

    let code = ask(
        "POST",
        &format!("{certificate}/generateVerificationCode"),
        &json!({}),
        &[],
    )
    .await
    .body;
    let code = code["verificationCode"].as_str().unwrap().to_owned();
    for line in [
        "genrsa -out verification-cert.key 2048",
        &format!("req -new -key verification-cert.key -out verification-cert.csr -subj /CN={code}"),
        "x509 -req -in verification-cert.csr -CA root-ca.pem -CAkey root-ca.key -CAcreateserial -out verification-cert.pem -days 365",
    ] {
        openssl(&d, line).await;
    }
    let verify = format!("{certificate}/verify");
    let wrong = ask("POST", &verify, &json!({"certificate": read("device1.pem")}), &[]).await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let right = ask(
        "POST",
        &verify,
        &json!({"certificate": read("verification-cert.pem")}),
        &[],
    )
    .await;
    assert_eq!(right.status, 204, "{right:?}");

    let last = b.provision(&path("device1.pem"), &path("device1.key"), "device1").await;
    assert_eq!(last["status"], "assigned");
    let hub = b.clouds.hub().unwrap();
    assert_eq!(hub.devices(), ["device1"]);
    b.telemetry(&path("device1.pem"), &path("device1.key"), "device1", 3)
        .await;
}

#[tokio::test]
async fn the_owner_enrols_looks_changes_and_removes() {
    let b = Bench::start(|c| c.hub_open = false).await;
    let o = owner(&b).await;
    let (cert, key) = b.device("device1");
    let pem = std::fs::read_to_string(&cert).unwrap();
    let url = format!("{o}/enrollments/device1");
    let body = json!({
        "registrationId": "device1", "deviceId": "shed",
        "attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": pem}}}},
        "initialTwin": {"tags": {"place": "garden"}, "properties": {"desired": {"interval": 5}}},
    });
    let made = ask("PUT", &url, &body, &[]).await;
    assert_eq!((made.status, &made.body["deviceId"]), (200, &json!("shed")));
    assert_eq!(
        made.body["attestation"]["x509"]["clientCertificates"]["primary"]["info"]["subjectName"],
        "CN=device1"
    );
    let last = b.provision(&cert, &key, "device1").await;
    assert_eq!(last["registrationState"]["deviceId"], "shed");
    // The hub knows the device by another name than its certificate's, with the enrolment's twin.
    let hub = b.clouds.hub().unwrap();
    let twin = hub.twin("shed").unwrap();
    assert_eq!(twin["tags"]["place"], "garden", "{twin}");
    assert_eq!(twin["properties"]["desired"]["interval"], 5, "{twin}");
    b.telemetry(&cert, &key, "shed", 1).await;

    let shown = ask("GET", &url, &json!({}), &[]).await.body;
    assert_eq!(shown["registrationState"]["assignedHub"], HUB);
    let stale = ask("PUT", &url, &body, &["If-Match: \"stale\""]).await;
    assert_eq!(stale.status, 412);
    let etag = format!("If-Match: {}", shown["etag"].as_str().unwrap());
    // The device moves to a hub of another name, and is gone from this one.
    assert_eq!(
        ask(
            "PUT",
            &format!("{o}/iotHubs"),
            &json!([HUB, "other.azure-devices.net"]),
            &[]
        )
        .await
        .status,
        204
    );
    let mut moved = body.clone();
    moved["iotHubHostName"] = json!("other.azure-devices.net");
    assert_eq!(ask("PUT", &url, &moved, &[&etag]).await.status, 200);
    let last = b.provision(&cert, &key, "device1").await;
    assert_eq!(last["registrationState"]["substatus"], "deviceDataMigrated");
    assert!(hub.devices().is_empty());
    moved["provisioningStatus"] = json!("disabled");
    assert_eq!(ask("PUT", &url, &moved, &[]).await.status, 200);
    let refused = b.register(&cert, &key, "device1").await;
    assert_eq!(refused.status, 200);
    let state = json!({"registrationId": "device1", "status": "disabled"});
    assert_eq!(
        refused.body,
        json!({"operationId": "", "status": "disabled", "registrationState": state})
    );

    assert_eq!(ask("DELETE", &url, &json!({}), &[]).await.status, 204);
    assert_eq!(ask("GET", &url, &json!({}), &[]).await.status, 404);
    assert_eq!(
        ask("GET", &format!("{o}/registrations/device1"), &json!({}), &[])
            .await
            .status,
        200
    );
    assert_eq!(
        ask("DELETE", &format!("{o}/registrations/device1"), &json!({}), &[])
            .await
            .status,
        204
    );
    assert_eq!(
        ask("GET", &format!("{o}/registrations/device1"), &json!({}), &[])
            .await
            .status,
        404
    );
    for (path, body) in [
        ("enrollments/a", "{"),
        ("enrollments/a", "[]"),
        ("enrollmentGroups/a", "{}"),
    ] {
        let mut c = command("curl");
        let said = succeed(c.args(["-sS", "-i", "-X", "PUT", "-d", body, &format!("{o}/{path}")])).await;
        assert_eq!(Answer::parse(&said).status, 400, "{path} {body}");
    }
    let again = ask(
        "PUT",
        &format!("{o}/enrollmentGroups/again"),
        &json!({"attestation": {"type": "x509",
        "x509": {"caReferences": {"primary": "onyx-root"}}}}),
        &[],
    )
    .await;
    assert_eq!(again.status, 409, "a certificate is in one enrolment only");
}

#[tokio::test]
async fn an_http_request_is_in_the_journal() {
    let mut b = Bench::start(|_| {}).await;
    let (cert, key) = b.device("dev");
    b.register(&cert, &key, "dev").await;
    let event = b.event("http", |e| matches!(e.what, What::Http { .. })).await;
    assert!(event.to_string().contains("-> 202 for dev"), "{event}");
    assert!(
        b.clouds.wait_for_messages(LIMIT, <[_]>::is_empty).await,
        "a request is no telemetry"
    );
}
