//! What an operator sees of a gateway besides the page: metrics as Prometheus reads them, the status socket's answer, JSON log lines,
//! and what the page's data routes answer to whom. Sources are 127.0.44.0/24.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use onyx::gateway::status::text;
use onyx::mqtt::Connect;
use serde_json::{Value, json};

use crate::judges;
use crate::mosquitto::{PATIENCE, client};
use crate::refusals::connack;
use crate::stage::{A, B, IMSI_A, IMSI_B, Running, Stage, name};

/// The API's token in these tests.
pub const TOKEN: &str = "seeing-0123456789abcdef";
const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 0, 44, 7);
/// A client id that would be a script, were it ever read as markup.
pub const HOSTILE: &str = "<img src=x onerror=document.title='taken'>";

/// A gateway with its API; `more` goes into `[api]`.
pub fn with_api(stage: &Stage, more: &str) -> Running {
    let token = stage.path("api.token");
    onyx::files::write_atomically(&token, format!("{TOKEN}\n").as_bytes(), 0o600).unwrap();
    let config = stage.config_text(stage.upstream(), "");
    let config = format!("{config}[api]\naddress = '127.0.0.1:0'\ntoken_file = 'api.token'\n{more}\n");
    Running::start(&config, stage.dir.path())
}

/// Asks the API: status, headers in small letters, body.
pub fn ask(api: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (u16, String, String) {
    let mut stream = TcpStream::connect(api).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = if headers.iter().any(|(name, _)| *name == "Host") {
        String::new()
    } else {
        format!("Host: {api}\r\n")
    };
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

fn data(api: SocketAddr, path: &str) -> Value {
    let (status, _, body) = ask(api, path, &[("Authorization", &bearer())]);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
}

/// A stage where the second subscriber's certificate is missing.
fn broken_stage() -> Stage {
    let stage = Stage::new();
    std::fs::remove_file(stage.credentials().join(format!("{}.pem", name(IMSI_B)))).unwrap();
    stage
}

/// One device connected, one refused, one stranger; two messages have passed.
fn some_life(gateway: &Running) -> crate::stage::Device {
    let mut device = gateway.device(A, &Connect::new(HOSTILE, true, 60));
    for id in 1..=2 {
        assert!(device.publish(id, false, "t", b"four"));
        assert_eq!(device.next().unwrap().body(), id.to_be_bytes());
    }
    let hello = |id: &str| Connect::new(id, true, 60).encode().unwrap();
    for _ in 0..3 {
        assert_eq!(connack(gateway, B, &hello("broken")), Some(3));
    }
    assert_eq!(connack(gateway, NOBODY, &hello(HOSTILE)), Some(5));
    gateway.wait_until("all three are gone", |s| s["open"] == 1 && s["up"]["packets"] == 2);
    device
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_own_parser_reads_the_metrics() {
    let stage = broken_stage();
    let gateway = tokio::task::block_in_place(|| with_api(&stage, "open_metrics = true"));
    let device = tokio::task::block_in_place(|| some_life(&gateway));
    let (status, head, body) = ask(gateway.api.unwrap(), "/metrics", &[]);
    assert_eq!(status, 200, "{body}");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    let file = stage.path("metrics.txt");
    std::fs::write(&file, &body).unwrap();
    let families = judges::run(judges::python().arg(judges::script("metrics.py")).arg(&file)).await;
    for family in &families {
        let (name, help) = (family["name"].as_str().unwrap(), family["help"].as_str().unwrap());
        assert!(
            name.starts_with("onyx_gateway_") || name.starts_with("process_"),
            "{name}"
        );
        assert!(help.len() > 5, "{name}: {help:?}");
        let unit = family["unit"].as_str().unwrap();
        assert!(name.ends_with(unit), "{name} in {unit}");
        for base in ["bytes", "seconds"] {
            assert!(
                !name.contains(&format!("_{base}")) || unit == base,
                "{name} has no unit"
            );
        }
    }
    let sample = |name: &str, labels: Value| {
        let all = families.iter().flat_map(|f| f["samples"].as_array().unwrap());
        let hits: Vec<f64> = all
            .filter(|s| s[0] == name && s[1] == labels)
            .map(|s| s[2].as_f64().unwrap())
            .collect();
        assert_eq!(hits.len(), 1, "{name} {labels}");
        hits[0]
    };
    for (name, labels, want) in [
        ("onyx_gateway_connections", json!({"state": "relayed"}), 1.0),
        ("onyx_gateway_connections_accepted_total", json!({}), 5.0),
        ("onyx_gateway_connections_relayed_total", json!({}), 1.0),
        (
            "onyx_gateway_connections_refused_total",
            json!({"reason": "credential"}),
            3.0,
        ),
        (
            "onyx_gateway_connections_refused_total",
            json!({"reason": "unknown_device"}),
            1.0,
        ),
        (
            "onyx_gateway_connections_ended_total",
            json!({"reason": "device_closed"}),
            0.0,
        ),
        ("onyx_gateway_mqtt_packets_total", json!({"direction": "up"}), 2.0),
        ("onyx_gateway_mqtt_packets_total", json!({"direction": "down"}), 2.0),
        ("onyx_gateway_mqtt_bytes_total", json!({"direction": "up"}), 22.0),
        (
            "onyx_gateway_group_mqtt_bytes_total",
            json!({"group": "default", "direction": "up"}),
            22.0,
        ),
        ("onyx_gateway_group_connections", json!({"group": "default"}), 1.0),
        (
            "onyx_gateway_group_connections_refused_total",
            json!({"group": "default"}),
            3.0,
        ),
        (
            "onyx_gateway_upstream_handshakes_total",
            json!({"tls": "1.3", "kind": "full"}),
            1.0,
        ),
        (
            "onyx_gateway_upstream_handshake_seconds_count",
            json!({"kind": "full"}),
            1.0,
        ),
        (
            "onyx_gateway_upstream_handshake_seconds_bucket",
            json!({"kind": "full", "le": "+Inf"}),
            1.0,
        ),
        ("onyx_gateway_subscribers", json!({}), 3.0),
        ("onyx_gateway_connections_limit", json!({}), 1_000.0),
    ] {
        assert_eq!(sample(name, labels.clone()), want, "{name} {labels}");
    }
    assert!(sample("process_resident_memory_bytes", json!({})) > 1e6);
    assert!(sample("process_open_fds", json!({})) > 5.0);
    for secret in [IMSI_A, "onerror", "127.0.44"] {
        assert!(!body.contains(secret), "{secret} is a label");
    }
    tokio::task::block_in_place(|| drop((device, gateway)));
}

#[test]
fn the_pages_data_is_for_those_with_the_token_and_of_this_origin() {
    let stage = broken_stage();
    let gateway = with_api(&stage, "");
    let device = some_life(&gateway);
    let api = gateway.api.unwrap();
    let paths = ["status", "devices", "history", "certificates"].map(|p| format!("/v1/gateway/{p}"));
    let one = format!("/v1/gateway/device/{IMSI_A}");
    for path in paths.iter().chain([&one, &"/metrics".to_owned()]) {
        assert_eq!(ask(api, path, &[]).0, 401, "{path}");
        let foreign = [("Authorization", &*bearer()), ("Origin", "https://evil.example")];
        assert_eq!(ask(api, path, &foreign).0, 403, "{path}");
        let rebound = [("Authorization", &*bearer()), ("Host", "evil.example")];
        assert_eq!(ask(api, path, &rebound).0, 403, "{path}");
        let (status, head, body) = ask(api, path, &[("Authorization", &bearer())]);
        assert_eq!(status, 200, "{path}: {body}");
        assert!(
            head.contains("cache-control: no-store") && head.contains("nosniff"),
            "{path}: {head}"
        );
        assert!(!head.contains("access-control"), "{path}: {head}");
    }
    for (path, status) in [
        ("/v1/gateway/device/295019999999999", 404),
        ("/v1/gateway/device/me", 400),
        ("/v1/gateway/history?range=year", 400),
        ("/v1/gateway/devices?limit=501", 400),
        ("/v1/gateway/devices?limits=1", 400),
        ("/v1/gateway/devices?state=asleep", 400),
    ] {
        let (got, _, body) = ask(api, path, &[("Authorization", &bearer())]);
        assert_eq!(got, status, "{path}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(
            body["message"].as_str().is_some_and(|m| !m.is_empty()) && body["code"].is_string(),
            "{path}: {body}"
        );
    }

    let all = data(api, "/v1/gateway/devices");
    assert_eq!((&all["total"], &all["online"]), (&json!(3), &json!(1)));
    let first = &all["devices"][0];
    assert_eq!(
        (&first["imsi"], &first["client_id"], &first["online"]),
        (&json!(IMSI_A), &json!(HOSTILE), &json!(true))
    );
    assert_eq!(
        all["devices"][1]["last_event"]["reason"], "credential",
        "the next in order of last seen"
    );
    let page = data(api, "/v1/gateway/devices?limit=1&offset=1");
    assert_eq!(
        (&page["total"], page["devices"].as_array().unwrap().len()),
        (&json!(3), 1)
    );
    assert_eq!(page["devices"][0]["imsi"], IMSI_B);
    for (query, total) in [
        ("q=onerror", 1),
        ("q=127.0.0.20%20default", 1),
        ("q=29501", 3),
        ("state=offline", 2),
        ("q=nobody", 0),
    ] {
        assert_eq!(
            data(api, &format!("/v1/gateway/devices?{query}"))["total"],
            total,
            "{query}"
        );
    }
    let broken = data(api, &format!("/v1/gateway/device/{IMSI_B}"));
    assert_eq!(broken["events"].as_array().unwrap().len(), 1, "{broken:#}");
    assert_eq!(
        (&broken["events"][0]["what"], &broken["events"][0]["times"]),
        (&json!("refused"), &json!(3))
    );
    let status = data(api, "/v1/gateway/status");
    assert_eq!(
        (&status["strangers"][0]["client_id"], &status["strangers"][0]["times"]),
        (&json!(HOSTILE), &json!(1))
    );
    let certificates = data(api, "/v1/gateway/certificates");
    assert_eq!(
        certificates["certificates"][0]["id"],
        name(IMSI_B),
        "the broken one first: {certificates:#}"
    );
    assert_eq!(certificates["certificates"][1]["days_left"], 19);
    // A message more is in the newest points of every range.
    for range in ["hour", "day", "fortnight"] {
        let history = data(api, &format!("/v1/gateway/history?range={range}"));
        let points = history["points"].as_array().unwrap();
        assert_eq!(
            points.iter().map(|p| p[5].as_u64().unwrap()).sum::<u64>(),
            2,
            "{history:#}"
        );
        let refused = history["refused"]["credential"].as_array().unwrap();
        assert_eq!(refused.iter().map(|n| n.as_u64().unwrap()).sum::<u64>(), 3);
    }
    drop(device);
    gateway.wait_until("it is gone", |s| s["open"] == 0);
    let gone = data(api, &format!("/v1/gateway/device/{IMSI_A}"));
    assert_eq!(
        (&gone["online"], &gone["events"][0]["reason"]),
        (&json!(false), &json!("device_closed")),
        "{gone:#}"
    );
    assert_eq!(
        (&gone["events"][1]["what"], &gone["events"][1]["upstream"]),
        (&json!("connected"), &json!("TLS 1.3"))
    );
    assert_eq!(gone["events"][0]["up"], json!({"packets": 2, "bytes": 22}));
}

#[test]
fn a_new_version_of_a_credential_is_in_the_timeline() {
    let stage = Stage::new();
    let gateway = with_api(&stage, "");
    let connect = Connect::new("x", true, 60);
    drop(gateway.device(A, &connect));
    stage.authority.device(
        crate::certs::Kind::Ec,
        &name(IMSI_A),
        &name(IMSI_A),
        &stage.credentials(),
    );
    drop(gateway.device(A, &connect));
    drop(gateway.device(A, &connect));
    gateway.wait_until("all are gone", |s| s["open"] == 0);
    let device = data(gateway.api.unwrap(), &format!("/v1/gateway/device/{IMSI_A}"));
    let what = |e: &Value| e["what"].as_str().unwrap().to_owned();
    let story: Vec<String> = device["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(what)
        .filter(|w| w != "ended")
        .collect();
    assert_eq!(
        story,
        ["connected", "connected", "rotated", "connected"],
        "newest first: {device:#}"
    );
    let tls = gateway.status.json();
    assert_eq!(
        tls["handshakes"]["full"], 2,
        "a new version starts anew, the third resumes: {tls:#}"
    );
    assert_eq!(tls["handshakes"]["resumed"], 1);
}

#[test]
fn the_status_socket_tells_groups_refusals_and_what_is_wrong_and_no_number() {
    let stage = broken_stage();
    let gateway = with_api(&stage, "");
    let device = some_life(&gateway);
    // Credentials are looked at in the background, right after the start.
    let answer = gateway.wait_until("certificates are known", |s| {
        s["health"].to_string().contains("end within")
    });
    let said = text(&answer);
    for want in [
        "warning: certificates that end within 30 days: 2, the first is myClient-29501********01",
        "warning: credentials that cannot be used: 1, the first is myClient-29501********02: cannot read",
        "refused, credential: 3",
        "refused, unknown_device: 1",
        "group default: 1 open, 1 relayed, 3 refused; up 2 packets 22 bytes",
        "TLS with upstream: 1 whole handshakes, 0 resumed",
        "addresses slowed for guessing: 0",
    ] {
        assert!(said.contains(want), "{want:?} is not in\n{said}");
    }
    for number in [IMSI_A, IMSI_B] {
        assert!(!answer.to_string().contains(number), "{answer:#}");
    }
    drop(device);
}

#[test]
fn json_log_lines_carry_the_connection_the_group_and_no_number() {
    let stage = Stage::new();
    let config = stage.path("gateway.toml");
    std::fs::write(&config, stage.config_text(stage.upstream(), "")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
        .args(["run", "--json", "--config"])
        .arg(&config)
        .env_remove("NOTIFY_SOCKET")
        .env_remove("JOURNAL_STREAM")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let listening: Value = serde_json::from_str(&line).unwrap();
    let address = listening["listening"].as_str().unwrap().parse().unwrap();
    let publish = |from: Ipv4Addr, id: &str| {
        let from = from.to_string();
        client(
            "mosquitto_pub",
            address,
            &["-V", "mqttv311", "-i", id, "-t", "t", "-m", "m", "-q", "1", "-A", &from],
        )
        .status
        .success()
    };
    assert!(publish(A, IMSI_A) && publish(B, "b") && !publish(NOBODY, "n\"}"));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(child.wait().unwrap().success());
    let lines: Vec<Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect();
    let about = |begin: &str| -> Vec<&Value> {
        let begins = |l: &&Value| l["fields"]["message"].as_str().is_some_and(|m| m.starts_with(begin));
        lines.iter().filter(begins).map(|l| &l["fields"]).collect()
    };
    let (connected, ended, refused) = (about("connected"), about("ended:"), about("refused:"));
    assert_eq!((connected.len(), ended.len(), refused.len()), (2, 2, 1), "{log}");
    for fields in connected.iter().chain(&ended).chain(&refused) {
        for field in ["connection", "peer", "imsi", "client_id", "group"] {
            assert!(!fields[field].is_null(), "{field} is missing: {fields:#}");
        }
        assert!(fields["connection"].as_u64().is_some_and(|n| n > 0), "{fields:#}");
    }
    let a = connected
        .iter()
        .find(|f| f["client_id"] == "29501********01")
        .unwrap_or_else(|| panic!("{log}"));
    assert_eq!(
        (&a["imsi"], &a["group"], &a["upstream"]),
        (&json!("29501********01"), &json!("default"), &json!("TLS 1.3"))
    );
    assert!(
        a["handshake_ms"].is_u64() && a["credential"] == "myClient-29501********01",
        "{a:#}"
    );
    let end = ended
        .iter()
        .find(|f| f["connection"] == a["connection"])
        .unwrap_or_else(|| panic!("{log}"));
    assert_eq!(
        (&end["peer"], &end["up"], &end["reason"]),
        (&a["peer"], &json!(2), &json!("device_disconnected")),
        "{end:#}"
    );
    for field in ["down", "up_bytes", "down_bytes", "seconds"] {
        assert!(end[field].is_u64(), "{field}: {end:#}");
    }
    assert_eq!(
        (&refused[0]["reason"], &refused[0]["connack"], &refused[0]["imsi"]),
        (&json!("unknown_device"), &json!(5), &json!(""))
    );
    for number in [IMSI_A, IMSI_B] {
        assert!(!log.contains(number), "{log}");
    }
}
