//! Krypton's internet door, from the SIM in the dongle to the certificate: by a device written in Python that shares nothing with the bench
//! (`tests/judges`), and by curl.

use std::path::Path;

use onyx::bench::clouds::{ChallengeStatus, Cloud, Config};
use onyx::bench::dongle::{self, Dongle, scenario::Scenario};
use onyx::bench::subscriber::{Sim, TEST_K, TEST_OPC};
use serde_json::{Value, json};

use crate::tools::{Bench, command, output, succeed};

const IMSI: &str = "295012345678901";

fn dongle(scenario: &str) -> Dongle {
    let quick = format!("boot_time = '0s'\n[sim]\nready_after = '0s'\n[usim]\n{scenario}\n");
    let config = dongle::Config {
        scenario: Scenario::parse(&quick).unwrap(),
        ..dongle::Config::default()
    };
    Dongle::start(config).unwrap()
}

/// What the judge needs to know of dongle and door, with the calls of the Go client's way.
fn job(b: &Bench, port: &Path, way: &str, calls: &Value) -> Value {
    let door = b.clouds.address(Cloud::KryptonSim).unwrap();
    json!({
        "port": port, "way": way, "k": TEST_K, "opc": TEST_OPC, "host": "g.api.soracom.io",
        "address": door.ip(), "tcp": door.port(), "ca": b.path("ca.pem"), "proof": "res", "calls": calls,
    })
}

async fn judge(job: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges/krypton_sim.py");
    let out = succeed(command("python3").args(["-B"]).arg(script).arg(job.to_string())).await;
    serde_json::from_str(&out).unwrap()
}

fn agreed(report: &Value) {
    for right in ["autn_is_right", "card_is_right"] {
        assert_eq!(report[right], true, "{right}: {report}");
    }
    assert_eq!(
        (&report["verify"], &report["replay"]),
        (&json!(200), &json!(409)),
        "{report}"
    );
}

fn answer(report: &Value, place: usize) -> Value {
    let answer = &report["answers"][place];
    assert_eq!(answer["status"], 200, "{report}");
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn on_a_logical_channel_everything_is_had() {
    let b = Bench::start(|c| c.userdata = "from the group".into()).await;
    let dongle = dongle("");
    let calls = json!([
        ["azure/iot/register", {"deviceId": "dev-1"}],
        ["aws/iot/bootstrap", {"thingName": "thing-1"}],
        ["aws/cognito/credentials", {}],
        ["aws/cognito/open_id_tokens", {}],
        ["soracom/inventory/bootstrap", {}],
        ["soracom/arc/bootstrap", {}],
        ["soracom/air/subscriber_metadata", {}],
        ["soracom/air/userdata", {}],
        ["azure/iot/bootstrap", {}],
    ]);
    let report = judge(&job(&b, &dongle.path().unwrap(), "cgla", &calls)).await;
    agreed(&report);
    assert_eq!(
        (&report["challenge"], &report["card"]),
        (&json!([401]), &json!(["db9000"]))
    );
    assert_eq!(answer(&report, 0)["status"], "assigning");
    let assigned = answer(&report, 1);
    assert_eq!(
        (&assigned["status"], &assigned["deviceId"]),
        (&"assigned".into(), &"dev-1".into())
    );
    for (field, file) in [("certificate", "c.pem"), ("privateKey", "c.key")] {
        std::fs::write(b.path(file), assigned[field].as_str().unwrap()).unwrap();
    }
    let certificate = b.path("c.pem");
    let chain = [
        "verify",
        "-CAfile",
        &b.path("ca.pem"),
        "-untrusted",
        &certificate,
        &certificate,
    ];
    assert!(succeed(command("openssl").args(chain)).await.contains("OK"));
    assert_eq!(answer(&report, 2)["clientId"], "thing-1");
    assert_eq!(answer(&report, 3)["identityId"], answer(&report, 4)["identityId"]);
    let psk_id = answer(&report, 5)["pskId"].as_str().unwrap().to_owned();
    let derived = report["answers"][5]["application_key"].as_str().unwrap();
    assert_eq!(
        b.clouds.inventory_key(&psk_id).unwrap(),
        derived,
        "both sides derive the same key"
    );
    assert!(answer(&report, 6)["arcClientPeerPrivateKey"].is_string());
    assert_eq!(answer(&report, 7)["imsi"], IMSI);
    assert_eq!(report["answers"][8]["body"], "from the group");
    assert_eq!(answer(&report, 9)["status"], "assigned");
}

#[tokio::test]
async fn the_other_ways_to_the_card_and_the_java_clients_bodies() {
    let b = Bench::start(|c| c.challenge_status = ChallengeStatus::Ok).await;
    for (way, scenario) in [
        ("cgla", "ccho = 'bare'"),
        ("csim", "ccho = 'error'\ncuad = 'error'"),
        ("bare", "unselected = 'answer'"),
        ("csim", "get_response = 'fetched'\nunselected = 'answer'"),
    ] {
        let dongle = dongle(scenario);
        let calls = json!([["soracom/inventory/bootstrap", {"endpoint": "sensor"}]]);
        let mut job = job(&b, &dongle.path().unwrap(), way, &calls);
        if scenario.contains("fetched") {
            // SELECT comes back with 9000 and the data; nothing is left to select by hand.
            job["way"] = "bare".into();
        }
        job["java"] = true.into();
        job["proof"] = "xres".into();
        let report = judge(&job).await;
        agreed(&report);
        assert_eq!(report["challenge"], json!([200]));
        let psk_id = answer(&report, 0)["pskId"].as_str().unwrap().to_owned();
        assert!(psk_id.starts_with("sensor-"), "{scenario}");
        let derived = report["answers"][0]["application_key"].as_str().unwrap();
        assert_eq!(b.clouds.inventory_key(&psk_id).unwrap(), derived);
    }
}

#[tokio::test]
async fn a_card_ahead_of_its_operator_resynchronises() {
    let b = Bench::start(|_| {}).await;
    let ahead = dongle("sqn_ahead = 5000");
    let calls = json!([["soracom/air/subscriber_metadata", {}]]);
    let job = job(&b, &ahead.path().unwrap(), "cgla", &calls);
    let report = judge(&job).await;
    agreed(&report);
    assert_eq!(report["card"], json!(["dc9000", "db9000"]));
    assert_eq!(
        (&report["auts_is_right"], &report["auts_seq"]),
        (&true.into(), &5000.into())
    );
    assert_eq!(report["challenge"], json!([401, 401]));
    assert_eq!(answer(&report, 0)["imsi"], IMSI);
    // In step from now on.
    let again = judge(&job).await;
    agreed(&again);
    assert_eq!(again["card"], json!(["db9000"]));
}

#[tokio::test]
async fn another_operators_challenge_is_not_believed() {
    let b = Bench::start(|c| {
        c.sims = vec![Sim {
            k: "00112233445566778899aabbccddeeff".parse().unwrap(),
            ..Sim::default()
        }];
    })
    .await;
    let dongle = dongle("");
    let report = judge(&job(&b, &dongle.path().unwrap(), "csim", &json!([]))).await;
    assert_eq!(
        (&report["autn_is_right"], &report["card"]),
        (&false.into(), &json!(["9862"]))
    );
    assert!(report["verify"].is_null());
}

#[tokio::test]
async fn two_programs_share_a_sim_by_its_file() {
    let b = Bench::start(|_| {}).await;
    let (k, opc) = ("00112233445566778899aabbccddeeff", "0123456789abcdef0123456789abcdef");
    let file = b.path("sim.toml");
    std::fs::write(
        &file,
        format!("[sim]\nimsi = '440101234567890'\nk = '{k}'\nopc = '{opc}'\nsqn = '0000000000c3'\n"),
    )
    .unwrap();
    let (link, dir) = (b.path("at"), b.path("own"));
    let start = |args: &[&str]| {
        let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
        crate::tools::spawn(c.args(args).args(["--sim", &file]).stdout(std::process::Stdio::piped()))
    };
    let mut dongle = start(&[
        "dongle",
        "--link",
        &link,
        "--boot-time",
        "0s",
        "--sim-ready-after",
        "0s",
    ]);
    let mut clouds = start(&["clouds", "--dir", &dir, "--quiet"]);
    assert!(
        crate::tools::Lines::of(&mut dongle)
            .next()
            .await
            .starts_with("dongle ready")
    );
    let mut lines = crate::tools::Lines::of(&mut clouds);
    assert!(lines.next().await.starts_with("clouds ready"));
    let all: Value = serde_json::from_str(&std::fs::read_to_string(format!("{dir}/clouds.json")).unwrap()).unwrap();
    let list = all["stand_ins"].as_array().unwrap();
    let door = list.iter().find(|s| s["name"] == "krypton-sim").unwrap();
    assert_eq!(
        (&door["host"], &door["protocol"]),
        (&"g.api.soracom.io".into(), &"https".into())
    );
    let mut job = job(
        &b,
        Path::new(&link),
        "cgla",
        &json!([["soracom/air/subscriber_metadata", {}]]),
    );
    job["tcp"] = door["port"].clone();
    job["ca"] = format!("{dir}/ca.pem").into();
    job["k"] = k.into();
    job["opc"] = opc.into();
    // The certificate is for both names of the door.
    job["host"] = "api.soracom.io".into();
    let report = judge(&job).await;
    agreed(&report);
    assert_eq!(report["card"], json!(["db9000"]));
    assert_eq!(answer(&report, 0)["imsi"], "440101234567890");
}

/// curl at the internet door.
async fn curl(b: &Bench, more: &[&str], path: &str) -> (u16, Value) {
    let port = b.port(Cloud::KryptonSim);
    let mut c = command("curl");
    c.args(["-s", "-w", "\n%{http_code}", "--cacert", &b.path("ca.pem")]);
    c.args(["--resolve", &format!("g.api.soracom.io:{port}:127.0.0.1")]);
    c.args(more).arg(format!("https://g.api.soracom.io:{port}{path}"));
    let text = String::from_utf8(output(&mut c).await.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (
        status.parse().unwrap(),
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}")),
    )
}

#[tokio::test]
async fn refusals_have_a_code_a_message_in_two_languages_and_a_rule_in_the_journal() {
    let mut b = Bench::start(|_| {}).await;
    let aws = "/v1/provisioning/aws/iot/bootstrap";
    let stamp = |ms: &str| format!("x-soracom-timestamp: {ms}");
    let now = unix_now();
    let (now, old) = (stamp(&now), stamp("1700000000000"));
    let sha = "x-soracom-digest-algorithm: SHA-256";
    let signature = "x-soracom-signature: AAAA";
    let large = format!("@{}", b.path("large"));
    std::fs::write(b.path("large"), vec![b' '; 17 * 1024]).unwrap();
    let all = |time: &'static str| ["-H", time, "-H", sha, "-H", signature, "-d"];
    let (now, old): (&'static str, &'static str) = (now.leak(), old.leak());
    for (more, path, status, rule) in [
        (vec![], "/v1/keys", 405, "krypton/method"),
        (vec!["-d", "x"], "/v1/keys/", 404, "krypton/path"),
        (vec!["-d", "x"], "/v1/keys", 400, "keys/body"),
        (
            vec!["-d", r#"{"imsi":"440109999999999"}"#],
            "/v1/keys",
            404,
            "keys/imsi",
        ),
        (
            vec!["-d", r#"{"res":"AAAA"}"#],
            "/v1/keys/0/verify",
            404,
            "keys/challenge",
        ),
        (vec![], "/v1/keys/0/verify", 405, "krypton/method"),
        (vec!["-d", "{}"], aws, 400, "krypton/signature-headers"),
        ([&all(old)[..], &["{}"]].concat(), aws, 401, "krypton/clock"),
        ([&all(now)[..], &["{}"]].concat(), aws, 400, "krypton/body"),
        (
            [&all(now)[..], &[r#"{"keyId":"0"}"#]].concat(),
            aws,
            401,
            "krypton/key-unknown",
        ),
        (vec!["-d", "{}"], "/v1/provisioning/gcp", 404, "krypton/path"),
        (vec!["--data-binary", &large], aws, 413, "krypton/body-size"),
    ] {
        for language in ["en", "ja"] {
            let header = format!("X-Soracom-Lang: {language}");
            let (got, body) = curl(&b, &[&more[..], &["-H", &header]].concat(), path).await;
            assert_eq!(got, status, "{path}: {body}");
            assert!(body["code"].as_str().unwrap().ends_with(&status.to_string()), "{body}");
            let message = body["message"].as_str().unwrap();
            assert_eq!(message.is_ascii(), language == "en", "{message}");
            assert_eq!(b.refusal(rule).await, format!("status {status}"));
        }
    }
    // A challenge that nobody has met signs nothing.
    let (status, challenge) = curl(&b, &["-d", &json!({"imsi": IMSI}).to_string()], "/v1/keys").await;
    assert_eq!(status, 401);
    let key_id = challenge["keyId"].as_str().unwrap();
    let body = json!({"keyId": key_id}).to_string();
    let (status, _) = curl(&b, &[&all(now)[..], &[&body]].concat(), aws).await;
    assert_eq!(
        (status, b.refusal("krypton/key-unverified").await.as_str()),
        (401, "status 401")
    );
    let wrong = r#"{"xres":"AAAAAAAAAAA="}"#;
    let (status, _) = curl(&b, &["-d", wrong], &format!("/v1/keys/{key_id}/verify")).await;
    assert_eq!((status, b.refusal("keys/response").await.as_str()), (401, "status 401"));
}

/// Unix milliseconds, as text.
fn unix_now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis().to_string()
}

#[tokio::test]
async fn a_plan_without_sim_authentication_gets_no_challenge() {
    let mut b = Bench::start(|c: &mut Config| c.sim_plan = "plan-D".into()).await;
    let (status, _) = curl(&b, &["-d", &json!({"imsi": IMSI}).to_string()], "/v1/keys").await;
    assert_eq!((status, b.refusal("keys/plan").await.as_str()), (403, "status 403"));
}
