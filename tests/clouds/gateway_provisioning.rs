//! `onyx-gateway` in Krypton's place: curl with the two requests of SORACOM's article, `onyx-agent krypton`, and what they get before the
//! clouds' rules, with DPS, with one hub, and with AWS's just-in-time registration.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;

use onyx::bench::clouds::dps::directory::{Kind, Owner};
use onyx::bench::clouds::{Cloud, Config, Protocol};
use serde_json::{Value, json};

use crate::postgres::Postgres;
use crate::tools::{Bench, Lines, command, fail, output, spawn, succeed};

const IMSI: &str = "295012345678901";
const OTHER: &str = "295012345678902";
const TOKEN: &str = "0123456789abcdef-of-the-other";
const SCOPE: &str = "0ne00111111";

/// A gateway with an authority of its own. Its devices: [`IMSI`] by address, [`OTHER`] by token.
struct Gateway {
    dir: tempfile::TempDir,
    url: String,
    _child: tokio::process::Child,
    _lines: Lines,
}

async fn tool(args: &[&str]) -> String {
    succeed(command(env!("CARGO_BIN_EXE_onyx-gateway")).args(args)).await
}

/// An authority in a folder, with a certificate for the gateway's own door.
async fn authority() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca").to_str().unwrap().to_owned();
    tool(&["ca", "init", "--dir", &ca, "--name", "Field"]).await;
    let out = dir.path().to_str().unwrap().to_owned();
    tool(&["ca", "server", "--dir", &ca, "--out", &out, "localhost"]).await;
    dir
}

fn read(dir: &tempfile::TempDir, name: &str) -> String {
    std::fs::read_to_string(dir.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

impl Gateway {
    /// Its devices stand in its own file.
    async fn start(dir: tempfile::TempDir, clouds: &str) -> Self {
        Self::with(dir, clouds, None).await
    }

    /// Its devices stand in a store (the section's text), or in its own file.
    async fn with(dir: tempfile::TempDir, clouds: &str, store: Option<&str>) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let token = dir.path().join("token");
        std::fs::write(&token, TOKEN).unwrap();
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let devices = format!(
            "[upstream]\nhost = 'localhost'\ntls = 'off'\n\
             [[subscriber]]\nimsi = '{IMSI}'\nsource = '127.0.0.1'\n[[subscriber]]\nimsi = '{OTHER}'\ntoken_file = 'token'\n"
        );
        let text = |devices: &str| {
            format!(
                "[listen]\naddress = '127.0.0.1:0'\n[status]\nsocket = 'status.sock'\n{devices}\
                 [provisioning]\naddress = '127.0.0.1:{port}'\nca = 'ca'\ncertificate = 'localhost.pem'\nkey = 'localhost.key'\nper_day = 5\n{clouds}"
            )
        };
        let config = dir.path().join("gateway.toml");
        std::fs::write(&config, text(store.unwrap_or(&devices))).unwrap();
        if store.is_some() {
            // As an operator moves from files to a store.
            let old = dir.path().join("files.toml");
            std::fs::write(&old, text(&devices)).unwrap();
            let (old, config) = (old.to_str().unwrap(), config.to_str().unwrap());
            tool(&["import", old, "--config", config]).await;
        }
        let mut c = command(env!("CARGO_BIN_EXE_onyx-gateway"));
        let mut child = spawn(c.args(["run", "--config"]).arg(&config).stdout(Stdio::piped()));
        let mut lines = Lines::of(&mut child);
        assert!(lines.next().await.starts_with("listening "));
        Self {
            dir,
            url: format!("https://localhost:{port}/v1/provisioning"),
            _child: child,
            _lines: lines,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// curl: status and body.
    async fn curl(&self, args: &[&str], path: &str) -> (u16, String) {
        let mut c = command("curl");
        c.args([
            "-sS",
            "-m",
            "20",
            "-w",
            "\n%{http_code}",
            "--cacert",
            &self.path("ca/root.pem"),
        ]);
        let said = succeed(c.args(args).arg(format!("{}/{path}", self.url))).await;
        let (body, status) = said.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    async fn json(&self, args: &[&str], path: &str) -> (u16, Value) {
        let (status, body) = self.curl(args, path).await;
        (
            status,
            serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}")),
        )
    }

    /// The article's two requests, the second one again until the device is assigned.
    async fn article(&self, who: &[&str]) -> Value {
        let (status, registered) = self.json(&[&["-X", "POST"], who].concat(), "azure/iot/register").await;
        assert_eq!(
            (status, &registered["status"]),
            (200, &json!("assigning")),
            "{registered}"
        );
        let path = format!(
            "azure/iot/registrations/{}",
            registered["operationId"].as_str().unwrap()
        );
        for _ in 0..100 {
            let (status, answer) = self.json(who, &path).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["operationId"], registered["operationId"]);
            if answer["status"] == "assigned" {
                return answer;
            }
            assert_eq!(answer["status"], "assigning", "{answer}");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        panic!("never assigned");
    }

    /// Writes key and certificate of an answer where a client finds them.
    fn keep(&self, answer: &Value, name: &str) {
        for (field, suffix) in [("certificate", "pem"), ("privateKey", "key")] {
            std::fs::write(self.path(&format!("{name}.{suffix}")), answer[field].as_str().unwrap()).unwrap();
        }
    }

    fn publish(
        &self,
        b: &Bench,
        cloud: Cloud,
        name: &str,
        id: &str,
        username: &str,
        topic: &str,
    ) -> tokio::process::Command {
        let mut c = command("mosquitto_pub");
        let host = b.clouds.door(cloud, Protocol::Mqtts).unwrap();
        c.args([
            "-h",
            "localhost",
            "-p",
            &host.port().to_string(),
            "--cafile",
            &b.path("ca.pem"),
        ]);
        if !host.ip().is_loopback() || host.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
            c.args(["--insecure", "-h", &host.ip().to_string()]);
        }
        c.args([
            "--cert",
            &self.path(&format!("{name}.pem")),
            "--key",
            &self.path(&format!("{name}.key")),
        ]);
        c.args(["-i", id, "-u", username, "-t", topic, "-q", "1", "-m", name]);
        c
    }
}

/// A bench whose DPS has an enrollment group for the authority, which is proved.
async fn azure(last: u8, dir: &tempfile::TempDir) -> Bench {
    let b = Bench::start(|c: &mut Config| {
        c.bind = IpAddr::V4(Ipv4Addr::new(127, 0, 97, last));
        c.standard_ports = true;
        c.hub_open = false;
        c.dps.retry_after = 1;
    })
    .await;
    let dps = b.clouds.dps().clone();
    dps.put_certificate(
        "field",
        &json!({"properties": {"certificate": read(dir, "ca/intermediate.pem")}}),
    )
    .unwrap();
    let group = json!({"attestation": {"type": "x509", "x509": {"caReferences": {"primary": "field"}}}});
    dps.put(Kind::Group, "field", &group, None).unwrap();
    let code = dps.verification_code(Owner::Service("field")).unwrap();
    let ca = dir.path().join("ca").to_str().unwrap().to_owned();
    let proof = tool(&["ca", "verify-code", "--dir", &ca, &code]).await;
    dps.verify(Owner::Service("field"), &proof).unwrap();
    b
}

#[tokio::test]
async fn the_articles_two_requests_and_the_agent_get_credentials_that_a_hub_takes() {
    let dir = authority().await;
    let b = azure(1, &dir).await;
    let service = b.clouds.door(Cloud::Dps, Protocol::Https).unwrap();
    let clouds = format!(
        "[provisioning.azure]\nroot_ca_file = '{}'\n[provisioning.azure.dps]\nid_scope = '{SCOPE}'\naddress = '{service}'\n\
         ca_file = '{}'\npoll = '100ms'\n",
        b.path("ca.pem"),
        b.path("ca.pem")
    );
    let gateway = Gateway::start(dir, &clouds).await;
    let answer = gateway.article(&[]).await;
    let device = format!("myDevice-{IMSI}");
    assert_eq!(answer["deviceId"], json!(device));
    assert_eq!(
        answer["rootCaCertificate"].as_str().unwrap(),
        std::fs::read_to_string(b.path("ca.pem")).unwrap()
    );
    gateway.keep(&answer, "curl");
    let hub = answer["host"].as_str().unwrap();
    let username = format!("{hub}/{device}/?api-version=2021-04-12");
    let topic = format!("devices/{device}/messages/events/");
    succeed(&mut gateway.publish(&b, Cloud::IotHub, "curl", &device, &username, &topic)).await;

    // The same by onyx-agent, for the other device, which is known by its token.
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let answer = gateway.article(&["-H", &bearer]).await;
    assert_eq!(answer["deviceId"], json!(format!("myDevice-{OTHER}")));
    let out = gateway.path("agent");
    let mut agent = command(env!("CARGO_BIN_EXE_onyx-agent"));
    agent.args([
        "krypton",
        "azure",
        "--url",
        gateway.url.trim_end_matches("/v1/provisioning"),
    ]);
    agent.args(["--ca-file", &gateway.path("ca/root.pem"), "--out", &out]);
    succeed(&mut agent).await;
    for (from, to) in [("certificate.pem", "agent.pem"), ("private.key", "agent.key")] {
        std::fs::copy(gateway.path(&format!("agent/{from}")), gateway.path(to)).unwrap();
    }
    succeed(&mut gateway.publish(&b, Cloud::IotHub, "agent", &device, &username, &topic)).await;
    assert_eq!(b.payloads(Cloud::IotHub), ["curl", "agent"]);
}

#[tokio::test]
async fn nobody_gets_what_is_anothers() {
    let gateway = Gateway::start(
        authority().await,
        "[provisioning.azure]\nhost = 'hub.azure-devices.net'\n",
    )
    .await;
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let basic = format!("device:{TOKEN}");
    let mine = gateway.article(&[]).await;
    assert_eq!(
        (&mine["host"], &mine["rootCaCertificate"]),
        (&json!("hub.azure-devices.net"), &Value::Null)
    );
    // The same id again gives the same key: the first answer may have been lost.
    let id = mine["operationId"].as_str().unwrap();
    let path = format!("azure/iot/registrations/{id}");
    assert_eq!(gateway.json(&[], &path).await.1, mine);
    // To another subscriber the operation does not exist.
    for who in [["-H", bearer.as_str()], ["-u", basic.as_str()]] {
        let (status, answer) = gateway.json(&who, &path).await;
        assert_eq!((status, &answer["code"]), (404, &json!("ONX0404")), "{answer}");
    }
    let from_afar = ["--interface", "127.0.0.99", "-X", "POST"];
    let (status, answer) = gateway.json(&from_afar, "azure/iot/register").await;
    assert_eq!(status, 401, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("no subscriber"),
        "{answer}"
    );
    // Guessing is slowed: after ten refusals the address is not heard.
    for _ in 0..10 {
        gateway.json(&from_afar, "azure/iot/register").await;
    }
    let (status, answer) = gateway.json(&from_afar, "azure/iot/register").await;
    assert_eq!((status, &answer["code"]), (429, &json!("ONX0429")), "{answer}");
    for (body, path, status, why) in [
        (
            r#"{"requestParameters":{"deviceId":"myDevice-295012345678902"}}"#,
            "azure/iot/register",
            400,
            "must be",
        ),
        (
            r#"{"requestParameters":{"host":"evil.example"}}"#,
            "azure/iot/register",
            400,
            "must be",
        ),
        ("{", "azure/iot/register", 400, "not what is expected"),
        ("", "aws/iot/bootstrap", 404, "[provisioning.aws]"),
        ("", "soracom/arc/bootstrap", 404, "SORACOM's own"),
        ("", "azure/iot/nonsense", 404, "there is no POST"),
        ("", "azure/iot/registrations/nonsense", 404, "register again"),
    ] {
        let (got, answer) = gateway.json(&["-d", body], path).await;
        let message = answer["message"].as_str().unwrap();
        assert!(got == status && message.contains(why), "{body} {path}: {got} {answer}");
    }
    // Five a day: one is taken.
    for _ in 0..4 {
        gateway.article(&[]).await;
    }
    let (_, registered) = gateway.json(&["-X", "POST"], "azure/iot/register").await;
    let path = format!(
        "azure/iot/registrations/{}",
        registered["operationId"].as_str().unwrap()
    );
    let (status, answer) = gateway.json(&[], &path).await;
    assert_eq!((status, &answer["code"]), (429, &json!("ONX0429")), "{answer}");
    gateway.article(&["-H", &bearer]).await;
}

#[tokio::test]
async fn aws_registers_just_in_time_what_the_gateway_has_made() {
    let dir = authority().await;
    let mut b = Bench::start(|_| {}).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let app = b.clouds.aws_iot_routes();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let code = succeed(command("curl").args(["-sS", &format!("{base}/registration-code")])).await;
    let code: Value = serde_json::from_str(&code).unwrap();
    let ca = dir.path().join("ca").to_str().unwrap().to_owned();
    let proof = tool(&[
        "ca",
        "verify-code",
        "--dir",
        &ca,
        code["registrationCode"].as_str().unwrap(),
    ])
    .await;
    let register = json!({"caCertificate": read(&dir, "ca/intermediate.pem"), "registration": "jitr-at-once",
                          "certificateMode": "DEFAULT", "verificationCertificate": proof});
    succeed(command("curl").args(["-sSf", "-d", &register.to_string(), &format!("{base}/cas")])).await;

    let clouds = format!(
        "[provisioning.aws]\nhost = 'x-ats.iot.ap-northeast-1.amazonaws.com'\nroot_ca_file = '{}'\n",
        b.path("ca.pem")
    );
    let gateway = Gateway::start(dir, &clouds).await;
    let (status, answer) = gateway.json(&["-X", "POST"], "aws/iot/bootstrap").await;
    assert_eq!((status, &answer["region"]), (200, &json!("ap-northeast-1")), "{answer}");
    let thing = format!("thing-{IMSI}");
    assert_eq!(answer["clientId"], json!(thing));
    gateway.keep(&answer, "whole");
    let publish =
        |b: &Bench, name: &str| gateway.publish(b, Cloud::AwsIot, name, &thing, &thing, "exampletopics/topic1");
    // The first connection registers the certificate and is closed, the next one is let in.
    fail(&mut publish(&b, "whole")).await;
    b.refusal("aws-iot/first-connection").await;
    succeed(&mut publish(&b, "whole")).await;

    // Piece by piece, as a small device does.
    let body = r#"{"requestParameters":{"skipCertificates":true}}"#;
    let (_, mut pieces) = gateway.json(&["-d", body], "aws/iot/bootstrap").await;
    assert!(pieces["certificate"].is_null() && pieces["rootCaCertificate"].is_null());
    let path = format!("aws/iot/certificates/{}", pieces["certificateId"].as_str().unwrap());
    let (status, pem) = gateway.curl(&["-X", "POST"], &path).await;
    assert_eq!(status, 200);
    std::fs::write(gateway.path("leaf.pem"), &pem).unwrap();
    let digest = command("openssl")
        .args([
            "x509",
            "-noout",
            "-fingerprint",
            "-sha256",
            "-in",
            &gateway.path("leaf.pem"),
        ])
        .kill_on_drop(true)
        .output();
    let digest = String::from_utf8(digest.await.unwrap().stdout)
        .unwrap()
        .replace(':', "")
        .to_lowercase();
    assert!(
        digest.trim().ends_with(pieces["certificateId"].as_str().unwrap()),
        "{digest}"
    );
    pieces["certificate"] = json!(pem);
    gateway.keep(&pieces, "pieces");
    fail(&mut publish(&b, "pieces")).await;
    b.refusal("aws-iot/first-connection").await;
    // One CONNECT a second for a client id: a device tries again, and so do we.
    let tries = std::time::Instant::now();
    while !output(&mut publish(&b, "pieces")).await.status.success() {
        assert!(tries.elapsed() < crate::tools::LIMIT, "never let in");
    }
    let (_, root) = gateway.curl(&["-X", "POST"], "aws/iot/ca_certificate").await;
    assert_eq!(root, std::fs::read_to_string(b.path("ca.pem")).unwrap());
    assert_eq!(b.payloads(Cloud::AwsIot), ["whole", "pieces"]);

    let mut agent = command(env!("CARGO_BIN_EXE_onyx-agent"));
    agent.args([
        "krypton",
        "aws",
        "--url",
        gateway.url.trim_end_matches("/v1/provisioning"),
    ]);
    agent.args(["--ca-file", &gateway.path("ca/root.pem"), "--json"]);
    let out = output(&mut agent).await;
    let answer: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(answer["clientId"], json!(thing), "{answer}");
}

/// Provisioning by a gateway with a store: the same two requests, and what an operator changes counts at the next request.
async fn from_a_store(store: &str) {
    let clouds = "[provisioning.azure]\nhost = 'hub.azure-devices.net'\n[provisioning.aws]\nhost = 'x-ats.iot.eu-west-1.amazonaws.com'\n";
    let gateway = Gateway::with(authority().await, clouds, Some(store)).await;
    let config = gateway.path("gateway.toml");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let as_other = ["-H", bearer.as_str()];
    // By address and by token, each its own.
    let mine = gateway.article(&[]).await;
    let others = gateway.article(&as_other).await;
    for (answer, imsi) in [(&mine, IMSI), (&others, OTHER)] {
        assert_eq!(
            (&answer["deviceId"], &answer["host"]),
            (&json!(format!("myDevice-{imsi}")), &json!("hub.azure-devices.net"))
        );
        gateway.keep(answer, imsi);
        // The key fits the certificate, and the authority has signed it.
        let (leaf, key) = (
            gateway.path(&format!("{imsi}.pem")),
            gateway.path(&format!("{imsi}.key")),
        );
        let certified = succeed(command("openssl").args(["x509", "-in", &leaf, "-pubkey", "-noout"])).await;
        let held = succeed(command("openssl").args(["pkey", "-in", &key, "-pubout"])).await;
        assert_eq!(certified, held, "{imsi}");
        let root = gateway.path("ca/root.pem");
        let between = gateway.path("ca/intermediate.pem");
        let verified =
            succeed(command("openssl").args(["verify", "-CAfile", &root, "-untrusted", &between, &leaf])).await;
        assert!(verified.trim().ends_with("OK"), "{verified}");
    }
    assert_ne!(mine["privateKey"], others["privateKey"]);
    let path = format!("azure/iot/registrations/{}", mine["operationId"].as_str().unwrap());
    assert_eq!(
        gateway.json(&as_other, &path).await.0,
        404,
        "another's operation is none"
    );
    let (status, answer) = gateway.json(&["-X", "POST"], "aws/iot/bootstrap").await;
    assert_eq!(
        (status, &answer["clientId"]),
        (200, &json!(format!("thing-{IMSI}"))),
        "{answer}"
    );

    // The agent asks as a device does.
    let out = gateway.path("agent");
    let mut agent = command(env!("CARGO_BIN_EXE_onyx-agent"));
    agent.args([
        "krypton",
        "azure",
        "--url",
        gateway.url.trim_end_matches("/v1/provisioning"),
    ]);
    agent.args(["--ca-file", &gateway.path("ca/root.pem"), "--out", &out]);
    succeed(&mut agent).await;
    assert!(
        std::fs::read_to_string(gateway.path("agent/private.key"))
            .unwrap()
            .contains("PRIVATE KEY")
    );

    // The operator switches one off, while the gateway runs: at its next request it gets nothing, and the other one still does.
    let set = async |imsi: &str, what: &[&str]| {
        let args = [&["subscriber", "set", imsi, "--config", config.as_str()][..], what].concat();
        tool(&args).await
    };
    set(IMSI, &["--enabled", "false"]).await;
    let (status, answer) = gateway.json(&["-X", "POST"], "azure/iot/register").await;
    assert!(
        status == 403 && answer["message"].as_str().unwrap().contains("disabled"),
        "{status} {answer}"
    );
    let (status, answer) = gateway.json(&[], &path).await;
    assert_eq!(status, 403, "nor what it was given before: {answer}");
    gateway.article(&as_other).await;
    set(IMSI, &["--enabled", "true"]).await;
    gateway.article(&[]).await;
    // A token that was taken away is nobody's, and a new one is known at once. (Its address is still the first one's.)
    set(OTHER, &["--without", "token", "--source", "127.0.0.98"]).await;
    let from_there = ["--interface", "127.0.0.98"];
    assert_eq!(
        gateway.article(&from_there).await["deviceId"],
        json!(format!("myDevice-{OTHER}"))
    );
    let said = tool(&["token", "new", OTHER, "--json", "--config", &config]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    let bearer = format!("Authorization: Bearer {}", said["token"].as_str().unwrap());
    let answer = gateway
        .article(&["-H", bearer.as_str(), "--interface", "127.0.0.98"])
        .await;
    assert_eq!(answer["deviceId"], json!(format!("myDevice-{OTHER}")));
    // How many certificates it has had today is counted as ever: five.
    let (_, registered) = gateway
        .json(
            &["-X", "POST", "-H", &bearer, "--interface", "127.0.0.98"],
            "azure/iot/register",
        )
        .await;
    let path = format!(
        "azure/iot/registrations/{}",
        registered["operationId"].as_str().unwrap()
    );
    let asked = ["-H", bearer.as_str(), "--interface", "127.0.0.98"];
    assert_eq!(gateway.json(&asked, &path).await.0, 200, "the fifth");
    let (_, registered) = gateway
        .json(
            &["-X", "POST", "-H", &bearer, "--interface", "127.0.0.98"],
            "azure/iot/register",
        )
        .await;
    let path = format!(
        "azure/iot/registrations/{}",
        registered["operationId"].as_str().unwrap()
    );
    let (status, answer) = gateway.json(&asked, &path).await;
    assert_eq!((status, &answer["code"]), (429, &json!("ONX0429")), "{answer}");
}

#[tokio::test]
async fn a_gateway_on_sqlite_provisions() {
    from_a_store("[store]\nfile = 'store.db'\nkey_file = 'store.key'\n").await;
}

#[tokio::test]
async fn a_gateway_on_postgresql_provisions() {
    let server = tokio::task::spawn_blocking(|| {
        let server = Postgres::shared();
        server.url(&server.database())
    });
    let url = server.await.unwrap();
    from_a_store(&format!("[store]\ndatabase = '{url}'\nkey_file = 'store.key'\n")).await;
}
