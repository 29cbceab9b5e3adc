//! SORACOM's API at a gateway with a store: curl as the guides would use it, mosquitto as the cloud, and a look everywhere for secrets.
//! Sources are 127.0.32.0/24.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use onyx::clock::Clock;
use onyx::gateway::Config;
use onyx::gateway::http::auth::Gate;
use serde_json::{Value, json};

use crate::certs::Kind;
use crate::mosquitto::client;
use crate::stage::{IMSI_A, IMSI_B, Running, Stage, client_id};

const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 32, 1);
pub const TOKEN: &str = "api-token-0123456789abcdef";

/// A configuration with a store in the stage's folder.
pub fn store_config(stage: &Stage) -> String {
    let token = stage.path("api.token");
    onyx::files::write_atomically(&token, format!("{TOKEN}\n").as_bytes(), 0o600).unwrap();
    "[listen]\naddress = '127.0.0.1:0'\n[store]\nfile = 'store.db'\nkey_file = 'store.key'\n[status]\nsocket = 'status.sock'\n\
     [api]\naddress = '127.0.0.1:0'\ntoken_file = 'api.token'\nhosts = ['gw.example']\n"
        .to_owned()
}

/// A gateway with its API.
struct Api {
    gateway: Running,
    address: SocketAddr,
    dir: PathBuf,
}

/// What curl got.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: String,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

impl Api {
    fn new(stage: &Stage, config: &str) -> Self {
        let gateway = Running::start(config, stage.dir.path());
        let address = gateway.api.expect("[api]");
        Self {
            gateway,
            address,
            dir: stage.dir.path().to_owned(),
        }
    }

    /// curl with these arguments and no token.
    fn bare(&self, method: &str, path: &str, more: &[&str]) -> Got {
        let output = Command::new("curl")
            .args(["-s", "-i", "--path-as-is", "-X", method, "--max-time", "20"])
            .args(more)
            .arg(format!("http://{}{path}", self.address))
            .current_dir(&self.dir)
            .output()
            .unwrap_or_else(|e| panic!("curl: {e}: apt-get install curl"));
        let text = String::from_utf8(output.stdout).unwrap();
        // A "100 Continue" may stand in front.
        let text = text
            .rsplit_once("HTTP/1.1 ")
            .map_or(text.as_str(), |(_, last)| last)
            .to_owned();
        let (headers, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer to {method} {path}"));
        Got {
            status: headers[..3].parse().unwrap(),
            headers: headers.to_lowercase(),
            body: body.to_owned(),
        }
    }

    /// As a client written for SORACOM asks.
    fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Got {
        let token = format!("X-Soracom-Token: {TOKEN}");
        let mut args = vec!["-H", "X-Soracom-API-Key: any", "-H", &token];
        if let Some(body) = body {
            args.extend(["-H", "Content-Type: application/json", "-d", body]);
        }
        self.bare(method, path, &args)
    }
}

fn pem(stage: &Stage, file: &str) -> String {
    std::fs::read_to_string(stage.path(file)).unwrap()
}

/// The body of the guides' "register a credential", from files of the credential folder.
fn credential(stage: &Stage, id: &str) -> String {
    let value = json!({"type": "x509", "description": "test", "credentials": {
        "key": pem(stage, &format!("credentials/{id}.key")), "cert": pem(stage, &format!("credentials/{id}.pem")),
        "ca": pem(stage, "ca/root.pem"),
    }});
    value.to_string()
}

fn hands_on() -> String {
    json!([{"key": "mqtt://beam.soracom.io:1883", "value": {
        "name": "AWS IoT", "destination": "mqtts://a1b2c3d4e5f6g7-ats.iot.ap-northeast-1.amazonaws.com:8883", "enabled": true,
        "addSubscriberHeader": false, "useClientCert": true,
        "clientCerts": {"default": {"$credentialsId": "handson-aws-iot-#{imsi}"}},
    }}])
    .to_string()
}

#[test]
fn the_hands_on_by_api_from_nothing_to_a_message() {
    let stage = Stage::new();
    let config = store_config(&stage);
    let own = format!("handson-aws-iot-{IMSI_A}");
    for id in [own.as_str(), "first-boot"] {
        stage.authority.device(Kind::Ec, id, id, &stage.credentials());
    }
    let api = Api::new(&stage, &config);
    // Log in as soracom does, and go on with what it gives.
    let asked = json!({"authKeyId": "keyId-x", "authKey": TOKEN}).to_string();
    let login = api
        .bare(
            "POST",
            "/v1/auth",
            &["-H", "Content-Type: application/json", "-d", &asked],
        )
        .is(200)
        .json();
    let session = format!("X-Soracom-Token: {}", login["token"].as_str().unwrap());
    api.bare("GET", "/v1/groups", &["-H", "X-Soracom-API-Key: api", "-H", &session])
        .is(200);

    let group = api
        .ask("POST", "/v1/groups", Some(r#"{"tags": {"name": "beam"}}"#))
        .is(201)
        .json();
    let id = group["groupId"].as_str().unwrap().to_owned();
    assert_eq!((id.len(), group["tags"]["name"].as_str()), (36, Some("beam")));
    let configuration = format!("/v1/groups/{id}/configuration");
    let put = api
        .ask("PUT", &format!("{configuration}/SoracomBeam"), Some(&hands_on()))
        .is(200)
        .json();
    assert_eq!(
        put["configuration"]["SoracomBeam"]["mqtt://beam.soracom.io:1883"]["name"],
        "AWS IoT"
    );
    let address = json!([{"key": "address", "value": stage.upstream().to_string()},
        {"key": "defaultCredentialsId", "value": "first-boot"}]);
    api.ask(
        "PUT",
        &format!("{configuration}/OnyxGateway"),
        Some(&address.to_string()),
    )
    .is(200);
    api.ask(
        "POST",
        "/v1/credentials/first-boot",
        Some(&credential(&stage, "first-boot")),
    )
    .is(201);
    let subscriber = json!({"source": FROM.to_string(), "tags": {"name": "pi"}}).to_string();
    api.ask("PUT", &format!("/v1/subscribers/{IMSI_A}"), Some(&subscriber))
        .is(201);
    let in_group = json!({"groupId": id}).to_string();
    api.ask("POST", &format!("/v1/subscribers/{IMSI_A}/set_group"), Some(&in_group))
        .is(200);

    let gateway = &api.gateway;
    let publish = |client_id: &str| {
        let from = FROM.to_string();
        let args = [
            "-d", "-V", "mqttv311", "-i", client_id, "-t", "topic", "-m", "test", "-q", "1", "-A", &from,
        ];
        client("mosquitto_pub", gateway.address, &args)
    };
    let said = publish("before");
    assert!(said.text.contains("received PUBACK"), "{}", said.text);
    stage
        .broker
        .wait_for(&["New client connected", " as before ", "u'first-boot'"]);
    // The own credential is there from the next connect on, without a restart.
    api.ask(
        "POST",
        &format!("/v1/credentials/{own}"),
        Some(&credential(&stage, &own)),
    )
    .is(201);
    assert!(publish("after").text.contains("received PUBACK"));
    stage
        .broker
        .wait_for(&["New client connected", " as after ", &format!("u'{own}'")]);
    api.ask("POST", &format!("/v1/subscribers/{IMSI_A}/deactivate"), None)
        .is(200);
    assert!(publish("off").text.contains("CONNACK (5)"));
    api.ask("POST", &format!("/v1/subscribers/{IMSI_A}/activate"), None)
        .is(200);
    assert!(publish("on").text.contains("received PUBACK"));
    // Without the entry point nobody gets through; its key is percent-encoded as SORACOM's API says.
    api.ask(
        "DELETE",
        &format!("{configuration}/SoracomBeam/mqtt%3A%2F%2Fbeam.soracom.io%3A1883"),
        None,
    )
    .is(204);
    assert!(publish("gone").text.contains("CONNACK (3)"));
    api.ask("DELETE", &format!("/v1/groups/{id}"), None).is(409);
    api.ask("POST", &format!("/v1/subscribers/{IMSI_A}/unset_group"), None)
        .is(200);
    api.ask("DELETE", &format!("/v1/groups/{id}"), None).is(204);
    api.ask("GET", &format!("/v1/groups/{id}"), None).is(404);
    assert_eq!(gateway.status.refused("credential"), 1);
}

#[test]
fn lists_come_in_pages_and_errors_in_soracoms_shape() {
    let stage = Stage::new();
    let api = Api::new(&stage, &store_config(&stage));
    for n in 0..7 {
        let group = json!({"groupId": format!("g{n}"), "tags": {"name": format!("name-{n}")}}).to_string();
        api.ask("POST", "/v1/groups", Some(&group)).is(201);
        let status = if n % 2 == 0 { "active" } else { "inactive" };
        let body = json!({"groupId": "g0", "status": status, "imeiLock": {"imei": "123456789011111"}, "iccid": "8942310022000012345"});
        api.ask(
            "PUT",
            &format!("/v1/subscribers/29501234567890{n}"),
            Some(&body.to_string()),
        )
        .is(201);
    }
    for path in ["/v1/groups", "/v1/subscribers", "/v1/groups/g0/subscribers"] {
        let (mut seen, mut key, mut pages) = (0, String::new(), 0);
        loop {
            let got = api.ask("GET", &format!("{path}?limit=3{key}"), None).is(200);
            seen += got.json().as_array().unwrap().len();
            pages += 1;
            let next = got
                .headers
                .lines()
                .find_map(|l| l.strip_prefix("x-soracom-next-key: ").map(str::to_owned));
            let Some(next) = next else { break };
            key = format!("&last_evaluated_key={next}");
        }
        assert_eq!((seen, pages), (7, 3), "{path}");
    }
    let active = api.ask("GET", "/v1/subscribers?status_filter=active", None).json();
    assert_eq!(active.as_array().unwrap().len(), 4);
    let one = api.ask("GET", "/v1/subscribers/295012345678903", None).is(200).json();
    assert_eq!(
        (one["status"].as_str(), one["imeiLock"]["imei"].as_str()),
        (Some("inactive"), Some("123456789011111"))
    );
    assert_eq!(
        api.ask("GET", "/v1/groups?tag_name=name&tag_value=name-3", None).json()[0]["groupId"],
        "g3"
    );
    let renamed = api
        .ask(
            "PUT",
            "/v1/groups/g3/tags",
            Some(r#"[{"tagName": "name", "tagValue": "new"}]"#),
        )
        .is(200)
        .json();
    assert_eq!(renamed["tags"]["name"], "new");
    for (method, path, body, status, word) in [
        ("GET", "/v1/groups/none", None, 404, "there is no group none"),
        ("GET", "/v1/subscribers/12345", None, 400, "6 to 15"),
        ("GET", "/v1/nothing", None, 404, "no such address"),
        ("PATCH", "/v1/groups", None, 405, "other methods"),
        ("GET", "/v1/groups?limit=0", None, 400, "limit must be 1 to 100"),
        (
            "POST",
            "/v1/groups",
            Some("{\"tags\": {\"nmae\": 1}}"),
            400,
            "1:11: tags.nmae: unknown key \"nmae\"; did you mean \"name\"?",
        ),
        ("POST", "/v1/groups", Some("{"), 400, "this is not JSON"),
        ("POST", "/v1/groups", Some("{\"groupId\": \"g1\"}"), 409, "already"),
        (
            "PUT",
            "/v1/subscribers/295012345678901",
            Some("{\"groupId\": \"zz\"}"),
            400,
            "there is no group zz",
        ),
        (
            "POST",
            "/v1/subscribers/295012345678901/set_group",
            Some("{}"),
            400,
            "groupId is missing",
        ),
        ("POST", "/v1/subscribers/295012345678901/fly", None, 404, "no action"),
        (
            "PUT",
            "/v1/groups/g1/configuration/SoracomBeam",
            Some("[{\"key\": \"x\", \"value\": {}}]"),
            400,
            "1:10: [0].key: unknown key \"x\"",
        ),
        (
            "PUT",
            "/v1/groups/g1/configuration/OnyxGateway",
            Some("[{\"key\": \"kind\", \"value\": \"gcp\"}]"),
            400,
            "OnyxGateway.kind: is none of",
        ),
        ("PUT", "/v1/credentials/none", Some("{}"), 404, "create it with POST"),
        (
            "POST",
            "/v1/credentials/c",
            Some("{\"type\": \"psk\", \"credentials\": {\"key\": \"a\"}}"),
            400,
            "\"psk\" is of no use",
        ),
    ] {
        let got = api.ask(method, path, body).is(status).json();
        let message = got["message"].as_str().unwrap();
        assert!(
            message.contains(word) && got["code"].is_string(),
            "{method} {path}: {word:?} is not in {message}"
        );
    }
}

#[test]
fn nobody_asks_without_the_token_or_from_another_site() {
    let stage = Stage::new();
    let api = Api::new(&stage, &store_config(&stage));
    let bearer = format!("Authorization: Bearer {TOKEN}");
    api.bare("GET", "/v1/groups", &["-H", &bearer]).is(200);
    let none = api.bare("GET", "/v1/groups", &[]).is(401);
    assert!(!none.headers.contains("access-control"), "{none:?}");
    for path in [
        "/v1/credentials",
        "/v1/subscribers/295012345678901",
        "/v1/gateway/reload",
    ] {
        let method = if path.ends_with("reload") { "POST" } else { "GET" };
        api.bare(method, path, &[]).is(401);
    }
    for (header, status) in [
        ("Origin: http://evil.example", 403),
        ("Origin: null", 403),
        ("Sec-Fetch-Site: cross-site", 403),
        ("Host: evil.example", 403),
        ("Host: gw.example", 200),
        ("Host: localhost", 200),
    ] {
        let got = api.bare("GET", "/v1/groups", &["-H", &bearer, "-H", header]).is(status);
        assert!(!got.headers.contains("access-control") && got.headers.contains("cache-control: no-store"));
    }
    // A browser asks first whether it may; nobody answers that it may.
    let asked = [
        "-H",
        "Origin: http://evil.example",
        "-H",
        "Access-Control-Request-Method: PUT",
    ];
    assert!(
        !api.bare("OPTIONS", "/v1/groups", &asked)
            .is(403)
            .headers
            .contains("access-control")
    );
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let kind = format!("Content-Type: {kind}");
        api.bare("POST", "/v1/groups", &["-H", &bearer, "-H", &kind, "-d", "{}"])
            .is(415);
    }
    std::fs::write(stage.path("big"), vec![b' '; (256 << 10) + 1]).unwrap();
    let big = ["-H", &bearer, "-H", "Content-Type: application/json", "-d", "@big"];
    api.bare("POST", "/v1/groups", &[&big[..], &["-H", "Expect:"]].concat())
        .is(413);
    // Guesses are slowed, by the token and by the login together, and then the right token has to wait as well.
    let wrong = json!({"authKeyId": "x", "authKey": "wrong-wrong-wrong-wrong"}).to_string();
    for _ in 0..5 {
        api.bare(
            "GET",
            "/v1/groups",
            &["-H", "Authorization: Bearer wrong-wrong-wrong-wrong"],
        )
        .is(401);
        api.bare(
            "POST",
            "/v1/auth",
            &["-H", "Content-Type: application/json", "-d", &wrong],
        )
        .is(401);
    }
    let slow = api.bare("GET", "/v1/groups", &["-H", &bearer]).is(429);
    assert!(slow.headers.contains("retry-after: "), "{slow:?}");
    // Another address is heard.
    api.bare("GET", "/v1/groups", &["-H", &bearer, "--interface", "127.0.32.9"])
        .is(200);

    let config = Config::from_text(&stage.path("gateway.toml"), store_config(&stage)).unwrap();
    for (text, mode, want) in [(TOKEN, 0o644, "chmod 600"), ("short", 0o600, "16 to 256")] {
        onyx::files::write_atomically(&stage.path("api.token"), text.as_bytes(), mode).unwrap();
        let why = Gate::open(config.api.as_ref().unwrap(), &Clock::new())
            .unwrap_err()
            .to_string();
        assert!(why.contains("api.token_file") && why.contains(want), "{why}");
    }
}

#[test]
fn a_gateway_in_files_says_so() {
    let stage = Stage::new();
    store_config(&stage);
    let api = Api::new(
        &stage,
        &(stage.config_text(stage.upstream(), "") + "[api]\naddress = '127.0.0.1:0'\ntoken_file = 'api.token'\n"),
    );
    let got = api.ask("GET", "/v1/subscribers", None).is(409).json();
    assert!(
        got["code"] == "in_files" && got["message"].as_str().unwrap().contains("onyx-gateway import"),
        "{got}"
    );
}

#[test]
fn a_secret_that_was_put_is_nowhere_to_be_read() {
    let stage = Stage::new();
    let api = Api::new(&stage, &store_config(&stage));
    let id = format!("myClient-{IMSI_B}");
    let key = pem(&stage, &format!("credentials/{id}.key"));
    // A line in the middle of the key, and two passwords.
    let line = key.lines().nth(1).unwrap().to_owned();
    let secrets = [
        line.as_str(),
        "hunter2-password",
        "hunter2-psk",
        "hunter2-token-0123456789",
        "hunter2-login",
        "hunter2-path",
        "hunter2-query",
        "hunter2-header",
        "hunter2-unknown",
        "hunter2-krypton",
    ];
    let mut said = String::new();
    let mut keep = |got: Got| said += &format!("{got:?}\n");
    keep(
        api.ask("POST", &format!("/v1/credentials/{id}"), Some(&credential(&stage, &id)))
            .is(201),
    );
    keep(
        api.ask("PUT", &format!("/v1/credentials/{id}"), Some(&credential(&stage, &id)))
            .is(200),
    );
    keep(api.ask("POST", "/v1/groups", Some(r#"{"groupId": "g"}"#)).is(201));
    let body = json!([
        {"key": "mqtt://beam.soracom.io:1883", "value": {
            "destination": "mqtts://localhost", "username": "u", "password": "hunter2-password", "useClientCert": true,
            "clientCerts": {"default": {"cert": pem(&stage, &format!("credentials/{id}.pem")), "key": key}}}},
        {"key": "http://beam.soracom.io:8888/", "value": {
            "psk": "hunter2-psk", "destination": "https://u:hunter2-login@h.example/hunter2-path?key=hunter2-query",
            "customHeaders": {"Authorization": {"headerValue": "hunter2-header"}}, "webhook": ["hunter2-unknown"]}},
    ]);
    keep(
        api.ask("PUT", "/v1/groups/g/configuration/SoracomBeam", Some(&body.to_string()))
            .is(200),
    );
    let krypton = json!([{"key": "aws", "value": {"account": "hunter2-krypton"}}]).to_string();
    keep(
        api.ask("PUT", "/v1/groups/g/configuration/SoracomKrypton", Some(&krypton))
            .is(200),
    );
    let subscriber = json!({"groupId": "g", "token": "hunter2-token-0123456789"}).to_string();
    keep(
        api.ask("PUT", &format!("/v1/subscribers/{IMSI_B}"), Some(&subscriber))
            .is(201),
    );
    // Errors about them.
    let bad = body.to_string().replace("\"username\"", "\"usernam\"");
    keep(
        api.ask("PUT", "/v1/groups/g/configuration/SoracomBeam", Some(&bad))
            .is(400),
    );
    for url in [
        "mqtts://u:hunter2-login@localhost",
        "mqtts://u:hunter2/login@localhost",
        "mqtts://localhost/hunter2-path",
        "mqtts://localhost:8883?hunter2-query",
        "hunter2-unknown://localhost",
        "mqtts://localhost:hunter2-unknown",
    ] {
        let bad = body.to_string().replace("mqtts://localhost", url);
        let got = api
            .ask("PUT", "/v1/groups/g/configuration/SoracomBeam", Some(&bad))
            .is(400);
        assert!(got.body.contains("destination"), "{got:?}");
        keep(got);
    }
    for key in [
        "kind",
        "address",
        "tls",
        "ca",
        "connectTimeout",
        "keepAlive",
        "rate",
        "policy",
        "apiToken",
    ] {
        for value in [
            json!("hunter2-unknown"),
            json!({"retain": "hunter2-unknown", "key": "hunter2-unknown"}),
        ] {
            let bad = json!([{"key": key, "value": value}]).to_string();
            keep(
                api.ask("PUT", "/v1/groups/g/configuration/OnyxGateway", Some(&bad))
                    .is(400),
            );
        }
    }
    let bad = credential(&stage, &id).replace("BEGIN CERTIFICATE", "BEGIN SOMETHING");
    keep(api.ask("PUT", &format!("/v1/credentials/{id}"), Some(&bad)).is(400));
    keep(
        api.ask(
            "PUT",
            &format!("/v1/credentials/{id}"),
            Some(&credential(&stage, &id)[..400]),
        )
        .is(400),
    );
    for path in [
        "/v1/groups",
        "/v1/groups/g",
        "/v1/credentials",
        "/v1/subscribers",
        "/v1/groups/g/subscribers",
    ] {
        keep(api.ask("GET", path, None).is(200));
    }
    keep(api.ask("GET", &format!("/v1/credentials/{id}"), None).is(200));
    keep(api.ask("GET", &format!("/v1/subscribers/{IMSI_B}"), None).is(200));
    // What was shown cannot be put back by accident.
    let shown = api.ask("GET", "/v1/groups/g", None).json();
    let entry = &shown["configuration"]["SoracomBeam"]["mqtt://beam.soracom.io:1883"];
    assert_eq!(
        (
            entry["password"].as_str(),
            entry["clientCerts"]["default"]["key"].as_str()
        ),
        (Some("********"), Some("********"))
    );
    let back = json!([{"key": "mqtt://beam.soracom.io:1883", "value": entry}]).to_string();
    let refused = api
        .ask("PUT", "/v1/groups/g/configuration/SoracomBeam", Some(&back))
        .is(400);
    assert!(
        refused.body.contains("stands for a secret") || refused.body.contains("cert and key"),
        "{refused:?}"
    );
    let config = stage.path("gateway.toml");
    std::fs::write(&config, store_config(&stage)).unwrap();
    for args in [
        &["export"][..],
        &["export", "--secrets", "--key-file", "parcel.key"],
        &["group", "show", "g"],
        &["group", "list", "--json"],
        &["credential", "list", "--json"],
        &["credential", "show", &id],
        &["subscriber", "list", "--json"],
        &["subscriber", "show", IMSI_B],
        &["check"],
        &["check", "--json"],
        &["store", "info"],
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
            .args(args)
            .arg("--config")
            .arg(&config)
            .current_dir(stage.dir.path())
            .output()
            .unwrap();
        said += &format!(
            "{args:?} {}{}\n",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    // A gateway in files: what it says and logs when the same stands in a group's file.
    let files = stage.path("files.toml");
    let text = stage.config_text(stage.upstream(), "") + "[[group]]\nname = 'g'\nfile = 'g.json'\n";
    std::fs::write(&files, text).unwrap();
    let bad = body
        .to_string()
        .replace("mqtts://localhost", "mqtts://u:hunter2-login@localhost");
    std::fs::write(stage.path("g.json"), bad).unwrap();
    for args in [&["check"][..], &["check", "--json"], &["run"], &["run", "--json"]] {
        let out = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
            .args(args)
            .arg("--config")
            .arg(&files)
            .output()
            .unwrap();
        assert!(!out.status.success());
        let text = [out.stdout, out.stderr].concat();
        assert!(String::from_utf8_lossy(&text).contains("destination"), "{args:?}");
        said += &String::from_utf8_lossy(&text);
    }
    assert!(said.contains(&client_id(IMSI_B)[..20]), "the answers are there");
    for secret in secrets {
        assert!(!said.contains(secret), "{secret} is in\n{said}");
    }
    // Nor in the database's files.
    for entry in std::fs::read_dir(stage.dir.path()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("store.db") {
            let bytes = std::fs::read(entry.path()).unwrap();
            for secret in secrets {
                assert!(
                    !bytes.windows(secret.len()).any(|w| w == secret.as_bytes()),
                    "{secret} is in {:?}",
                    entry.path()
                );
            }
        }
    }
}
