//! Every operation of Krypton by the built program, by both doors where there are two; the SIM's key, which is made once; refusals and
//! faults explained; files that never replace others; and what was granted used by those who did not grant it: azure-iot-device and
//! mosquitto_pub.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use onyx::bench::clouds::{Cloud, Clouds, Event, Group, KryptonFault, What};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;

use crate::judges;
use crate::krypton::assert_arrived;
use crate::stage::{Agent, Bench, IMSI, Toml, onyx_agent};

/// Every operation's name.
const ALL: [&str; 8] = [
    "azure",
    "aws",
    "cognito-credentials",
    "cognito-token",
    "inventory",
    "arc",
    "metadata",
    "userdata",
];
/// What has its own place in an answer and must never be in the text form.
const SECRETS: [&str; 6] = [
    "privateKey",
    "secretKey",
    "sessionToken",
    "token",
    "applicationKey",
    "arcClientPeerPrivateKey",
];

/// The program's door to the stand-in.
pub struct Door<'a> {
    bench: &'a Bench,
    clouds: &'a Clouds,
    sim: bool,
}

impl<'a> Door<'a> {
    pub fn cellular(bench: &'a Bench, clouds: &'a Clouds) -> Self {
        Self {
            bench,
            clouds,
            sim: false,
        }
    }

    pub fn sim(bench: &'a Bench, clouds: &'a Clouds) -> Self {
        Self {
            bench,
            clouds,
            sim: true,
        }
    }

    fn endpoint(&self) -> [String; 6] {
        let cloud = if self.sim { Cloud::KryptonSim } else { Cloud::Krypton };
        let at = self.clouds.address(cloud).unwrap();
        let host = &self.clouds.stand_ins().iter().find(|s| s.name == cloud).unwrap().host;
        let ca = self.bench.path("clouds/ca.pem").display().to_string();
        let url = format!("https://{host}:{}", at.port());
        [
            "--url".into(),
            url,
            "--address".into(),
            at.to_string(),
            "--ca-file".into(),
            ca,
        ]
    }

    /// A file that has the modem, and the endpoint if it is the SIM's.
    fn config(&self) -> PathBuf {
        let path = |name: &str| self.bench.path(name).display().to_string();
        let [_, url, _, at, _, ca] = self.endpoint();
        let text = format!(
            "client_authname = 'myClient-#{{imsi}}'\nstate_dir = '{}'\nstatus_socket = '{}'\n[modem]\nport = '{}'\n\
             [credentials]\nsource = 'krypton-azure'\nauth = '{}'\nurl = '{url}'\naddress = '{at}'\nca_file = '{ca}'\npoll = '50ms'\n\
             polls_max = 3\n[session]\nto = 'iot-hub'\n",
            path("state"),
            path("agent.sock"),
            path("onyx-at"),
            if self.sim { "sim" } else { "cellular" },
        );
        self.bench.write("krypton.toml", &text)
    }

    /// Asks, with the configuration file if the SIM is needed and with options alone otherwise.
    fn ask(&self, operation: &str, more: &[&str]) -> (bool, String, String) {
        let mut args: Vec<String> = vec!["krypton".into(), operation.into()];
        if self.sim {
            args.extend(["--config".into(), self.config().display().to_string()]);
        } else {
            args.extend(self.endpoint());
        }
        args.extend(more.iter().map(|a| (*a).to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (output, out, err) = onyx_agent(&args);
        (output.status.success(), out, err)
    }

    fn json(&self, operation: &str, more: &[&str]) -> Value {
        let (good, out, err) = self.ask(operation, &[more, &["--json"]].concat());
        assert!(good, "{operation}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// It fails, and says all of this; nothing on standard output, no number of the subscriber.
    fn fails(&self, operation: &str, more: &[&str], wants: &[&str]) {
        let (good, out, err) = self.ask(operation, more);
        assert!(!good && out.is_empty(), "{operation} {more:?}: {out}");
        for want in wants {
            assert!(err.contains(want), "{operation}: {want:?} is not in\n{err}");
        }
        assert!(!err.contains("PRIVATE KEY"), "{err}");
    }
}

/// `METHOD path` of everything that was asked at Krypton's doors since the last look.
fn asked(events: &mut Receiver<Event>) -> Vec<String> {
    std::iter::from_fn(|| events.try_recv().ok())
        .filter_map(|e| match e.what {
            What::Http { method, path, .. } => Some(format!("{method} {path}")),
            _ => None,
        })
        .collect()
}

fn authentications(asked: &[String]) -> usize {
    asked.iter().filter(|a| *a == "POST /v1/keys").count()
}

fn key_file(bench: &Bench) -> PathBuf {
    bench.path(&format!("state/credentials/soracom-key-{IMSI}.json"))
}

fn is_pem(value: &Value) -> bool {
    value.as_str().is_some_and(|t| t.starts_with("-----BEGIN "))
}

fn looks_right(operation: &str, v: &Value) {
    match operation {
        "azure" => {
            assert_eq!(
                (&v["deviceId"], &v["host"]),
                (&json!(format!("myDevice-{IMSI}")), &json!("onyx-hub.azure-devices.net"))
            );
            assert!(is_pem(&v["certificate"]) && is_pem(&v["privateKey"]) && is_pem(&v["rootCaCertificate"]));
        }
        "aws" => {
            assert_eq!(
                (&v["clientId"], &v["region"]),
                (&json!(format!("myThing-{IMSI}")), &json!("ap-northeast-1"))
            );
            assert!(is_pem(&v["certificate"]) && is_pem(&v["privateKey"]) && is_pem(&v["rootCaCertificate"]));
            assert!(v["certificateId"].is_string());
        }
        "cognito-credentials" => {
            assert!(v["accessKeyId"].as_str().unwrap().starts_with("ASIA") && v["expiration"].is_u64());
            assert!(v["secretKey"].is_string() && v["sessionToken"].is_string());
        }
        "cognito-token" => assert_eq!(v["token"].as_str().unwrap().matches('.').count(), 2),
        "inventory" => assert!(v["serverUri"].as_str().unwrap().starts_with("coaps://")),
        "arc" => {
            assert_eq!(v["arcAllowedIPs"], json!(["100.127.0.0/16"]));
            assert!(v["arcServerPeerPublicKey"].is_string() && v["arcClientPeerPrivateKey"].is_string());
        }
        "metadata" => assert_eq!((&v["imsi"], &v["plan"]), (&json!(IMSI), &json!("plan01s"))),
        "userdata" => assert_eq!(v["userdata"], "from the group\n"),
        other => panic!("{other}"),
    }
}

#[test]
fn the_cellular_door_needs_no_file_and_has_all_but_airs() {
    let bench = Bench::without_dongle();
    let clouds = bench.clouds_with(|c| c.assigning_polls = 1);
    let door = Door::cellular(&bench, &clouds);
    let mut events = clouds.events();
    for operation in &ALL[..6] {
        looks_right(operation, &door.json(operation, &[]));
    }
    let all = asked(&mut events);
    assert_eq!(
        all.iter()
            .filter(|a| a.starts_with("GET /v1/provisioning/azure/iot/registrations/5."))
            .count(),
        2
    );
    assert_eq!(all.len(), 3 + 5, "{all:?}");
    let v = door.json("inventory", &["--endpoint", "sensor"]);
    assert_eq!(
        clouds.inventory_key(v["pskId"].as_str().unwrap()).unwrap(),
        v["applicationKey"]
    );
    assert!(v["pskId"].as_str().unwrap().starts_with("sensor-"));
    asked(&mut events);
    for (operation, more) in [("metadata", &[][..]), ("userdata", &[]), ("azure", &["--at-once"])] {
        door.fails(operation, more, &["cellular door has no", "--auth sim"]);
    }
    door.fails(
        "azure",
        &["--parameter", "deviceId=d-#{imsi}"],
        &["needs the modem", "--config"],
    );
    door.fails(
        "metadata",
        &["--auth", "sim"],
        &["SIM authentication needs the modem", "--config"],
    );
    assert!(asked(&mut events).is_empty());
}

#[test]
fn by_sim_authentication_everything_is_had_with_one_challenge() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| {
        c.userdata = "from the group\n".into();
        c.assigning_polls = 1;
    });
    let door = Door::sim(&bench, &clouds);
    let mut events = clouds.events();
    for operation in ALL {
        let v = door.json(operation, &[]);
        looks_right(operation, &v);
        if operation == "inventory" {
            let theirs = clouds.inventory_key(v["pskId"].as_str().unwrap()).unwrap();
            assert_eq!(theirs, v["applicationKey"], "both sides derive the same key");
        }
    }
    let v = door.json("azure", &["--at-once", "--parameter", "deviceId=d-#{imsi}"]);
    assert_eq!(v["deviceId"], format!("d-{IMSI}"));
    let all = asked(&mut events);
    assert_eq!(authentications(&all), 1, "{all:?}");
    assert!(
        all.iter().all(|a| a.starts_with("POST ")),
        "the internet door knows POST alone: {all:?}"
    );
    let polls = all.iter().filter(|a| a.contains("azure/iot/registrations/")).count();
    assert_eq!((polls, all.len()), (2, 2 + 3 + 7 + 1), "{all:?}");
    let mode = std::fs::metadata(key_file(&bench)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let key: Value = serde_json::from_slice(&std::fs::read(key_file(&bench)).unwrap()).unwrap();
    assert_eq!((&key["version"], &key["imsi"]), (&json!(1), &json!(IMSI)));
}

#[test]
fn the_text_form_shows_no_secret_and_says_how_to_get_them() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.userdata = "from the group\n".into());
    let (cellular, sim) = (Door::cellular(&bench, &clouds), Door::sim(&bench, &clouds));
    for operation in ALL {
        let door = if ["metadata", "userdata"].contains(&operation) {
            &sim
        } else {
            &cellular
        };
        let (good, out, err) = door.ask(operation, &[]);
        assert!(good, "{err}");
        assert!(!out.contains("BEGIN"), "{out}");
        for secret in SECRETS {
            if let Some(line) = out.lines().find(|l| l.split(' ').next() == Some(secret)) {
                assert!(line.ends_with("(secret)"), "{line}");
                assert!(out.contains("--out DIR") && out.contains("--json"), "{out}");
            }
        }
        match operation {
            "userdata" => assert_eq!(out, "from the group\n"),
            "metadata" => assert!(out.contains("plan01s") && !out.contains("--out"), "{out}"),
            "azure" => assert!(out.contains(&format!("of myDevice-{IMSI}, valid 20")), "{out}"),
            _ => assert!(out.contains("(secret)"), "{out}"),
        }
    }
}

#[test]
fn aws_piece_by_piece_and_by_another_name() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let mut events = clouds.events();
    for (door, doors) in [(Door::cellular(&bench, &clouds), 0), (Door::sim(&bench, &clouds), 2)] {
        let whole = door.json("aws", &["--parameter", "thingName=my:thing_1-a"]);
        asked(&mut events);
        let pieces = door.json("aws", &["--skip-certificates", "--parameter", "thingName=my:thing_1-a"]);
        let all = asked(&mut events);
        let id = pieces["certificateId"].as_str().unwrap();
        assert_eq!(
            all,
            [
                "POST /v1/provisioning/aws/iot/bootstrap".to_owned(),
                format!("POST /v1/provisioning/aws/iot/certificates/{id}"),
                "POST /v1/provisioning/aws/iot/ca_certificate".to_owned(),
            ],
            "{doors}"
        );
        for v in [&whole, &pieces] {
            assert_eq!(v["clientId"], "my:thing_1-a");
            assert!(is_pem(&v["certificate"]) && is_pem(&v["privateKey"]));
        }
        assert_eq!(
            whole["rootCaCertificate"].as_str().unwrap().trim(),
            pieces["rootCaCertificate"].as_str().unwrap().trim()
        );
        assert_ne!(whole["certificate"], pieces["certificate"], "every call makes new ones");
        door.fails("aws", &["--parameter", "thingName=my thing"], &["thingName", "letters"]);
        assert!(asked(&mut events).is_empty());
        door.fails(
            "azure",
            &["--parameter", "deviceId=a b"],
            &["refuses (HTTP 400)", "deviceId", "--parameter"],
        );
        asked(&mut events);
    }
}

#[test]
fn a_card_that_is_ahead_resynchronises_once() {
    let bench = Bench::with("[usim]\nsqn_ahead = 5000\n");
    let clouds = bench.clouds();
    let mut events = clouds.events();
    let door = Door::sim(&bench, &clouds);
    looks_right("metadata", &door.json("metadata", &[]));
    let all = asked(&mut events);
    let verified = all.iter().filter(|a| a.ends_with("/verify")).count();
    assert_eq!((authentications(&all), verified, all.len()), (2, 1, 4), "{all:?}");
    door.json("metadata", &[]);
    assert_eq!(asked(&mut events).len(), 1, "the key is kept");
}

#[test]
fn a_kept_key_that_soracom_has_forgotten_is_replaced_once() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let mut events = clouds.events();
    let door = Door::sim(&bench, &clouds);
    door.json("arc", &[]);
    let read = || serde_json::from_slice::<Value>(&std::fs::read(key_file(&bench)).unwrap()).unwrap();
    let first = read();
    // Unknown to SORACOM; right name and wrong key; damaged.
    for change in [
        json!({"keyId": "gone"}),
        json!({"ck": "AAAAAAAAAAAAAAAAAAAAAA=="}),
        json!({"ck": "short"}),
        json!({"version": 2}),
        json!({"endpoint": "https://elsewhere"}),
    ] {
        asked(&mut events);
        let mut key = read();
        key.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        std::fs::write(key_file(&bench), key.to_string()).unwrap();
        door.json("arc", &[]);
        let all = asked(&mut events);
        assert_eq!(authentications(&all), 1, "{change}: {all:?}");
        assert!(all.len() <= 4, "{change}: {all:?}");
        assert_ne!(read()["keyId"], first["keyId"]);
        door.json("arc", &[]);
        assert_eq!(asked(&mut events).len(), 1, "{change}");
    }
    // Everything is answered with 401: one try with the kept key, one challenge, no more.
    clouds.set_krypton_fault(Some(KryptonFault::Http(401).into()));
    door.fails("arc", &[], &["gives no challenge for this SIM (HTTP 401)", "plan01s"]);
    let all = asked(&mut events);
    assert_eq!(all, ["POST /v1/provisioning/soracom/arc/bootstrap", "POST /v1/keys"]);
    assert!(!key_file(&bench).exists(), "it is forgotten");
}

#[test]
fn a_sim_that_cannot_prove_itself_is_told_why() {
    let plans = ["plan01s", "plan01s-LDV", "planP1", "planX3", "plan-K2"];
    // The plan has no SIM authentication.
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.sim_plan = "plan-D".into());
    let door = Door::sim(&bench, &clouds);
    door.fails(
        "azure",
        &[],
        &[
            &["key service gives no challenge", "(HTTP 403)", "cellular"][..],
            &plans,
        ]
        .concat(),
    );
    // Another operator's challenge.
    drop(door);
    bench.unplug();
    bench.plug("[usim]\nmac_failure = true\n", IMSI);
    let clouds = bench.clouds();
    let door = Door::sim(&bench, &clouds);
    door.fails(
        "azure",
        &[],
        &[&["SIM authentication failed", "9862"][..], &plans].concat(),
    );
    // A modem that does not let the SIM be asked.
    bench.unplug();
    bench.plug("[usim]\nccho = 'error'\ncsim = 'error'\n", IMSI);
    let mut events = clouds.events();
    door.fails("azure", &[], &["SIM authentication failed", "modem"]);
    let all = asked(&mut events);
    assert_eq!(all, ["POST /v1/keys"]);
    assert!(!key_file(&bench).exists());
}

#[test]
fn a_running_agent_has_the_modem() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let agent = Agent::start(&bench, &Toml::krypton(&clouds, Cloud::IotHub), &[]);
    agent.wait_up("session");
    let mut events = clouds.events();
    Door::sim(&bench, &clouds).fails(
        "metadata",
        &[],
        &["the running agent holds", "systemctl stop onyx-agent"],
    );
    assert!(asked(&mut events).is_empty());
    agent.terminate();
    agent.ends_well();
    Door::sim(&bench, &clouds).json("metadata", &[]);
}

#[test]
fn the_groups_settings_are_explained() {
    for (group, operation, why, cure) in [
        ("none", "azure", "in no group", "put this SIM into a SIM group"),
        ("disabled", "aws", "not enabled", "enabled: true"),
        ("azure", "aws", "has nothing for", "credential store"),
        ("aws", "cognito-token", "has nothing for", "credential store"),
        ("aws", "arc", "has nothing for", "credential store"),
        ("arc", "inventory", "has nothing for", "credential store"),
    ] {
        let bench = Bench::new();
        let group: Group = group.parse().unwrap();
        let clouds = bench.clouds_with(|c| c.krypton_group = group);
        for door in [Door::cellular(&bench, &clouds), Door::sim(&bench, &clouds)] {
            door.fails(operation, &[], &["Krypton refuses (HTTP 40", why, cure]);
        }
        if operation == "azure" {
            let mut events = clouds.events();
            Door::sim(&bench, &clouds).fails(operation, &[], &[why]);
            assert_eq!(authentications(&asked(&mut events)), 0, "the key is not to blame");
        }
    }
    let bench = Bench::without_dongle();
    let clouds = bench.clouds_with(|c| {
        c.subscribers = onyx::bench::clouds::Subscribers::parse(&["295012345678901@127.0.0.9".into()]).unwrap();
    });
    let wants = [
        "does not come in over a SORACOM SIM",
        "link.interface",
        "auth = \"sim\"",
    ];
    Door::cellular(&bench, &clouds).fails("azure", &[], &wants);
}

#[test]
fn every_fault_of_krypton_has_its_words_and_leaves_no_file() {
    let whole: [(KryptonFault, &[&str]); 8] = [
        (KryptonFault::Http(403), &["(HTTP 403)"]),
        (KryptonFault::Http(404), &["(HTTP 404)"]),
        (KryptonFault::Http(429), &["in trouble (HTTP 429)", "asked again later"]),
        (KryptonFault::Http(503), &["in trouble (HTTP 503)", "asked again later"]),
        (KryptonFault::Html, &["not Krypton's", "begins with", "captive portal"]),
        (KryptonFault::Truncated, &["not Krypton's", "cut off after"]),
        (KryptonFault::Empty, &["not Krypton's", "it is empty"]),
        (KryptonFault::Slow, &["was not reached", "did not answer in time"]),
    ];
    let credentials: [(KryptonFault, &[&str]); 3] = [
        (KryptonFault::WrongKey, &["cannot be used", "does not fit"]),
        (KryptonFault::GarbageCertificate, &["cannot be used", "damaged"]),
        (KryptonFault::Failed, &["ended as \"failed\"", "enrolment"]),
    ];
    let bench = Bench::new();
    let clouds = bench.clouds();
    let kept = bench.path("kept").display().to_string();
    for door in [Door::cellular(&bench, &clouds), Door::sim(&bench, &clouds)] {
        let put = |fault: Option<KryptonFault>| clouds.set_krypton_fault(fault.map(Into::into));
        for (fault, wants) in whole {
            put(Some(fault));
            door.fails("azure", &["--timeout", "1", "--out", &kept], wants);
        }
        for (fault, wants) in credentials {
            put(Some(fault));
            door.fails("azure", &["--out", &kept], wants);
            if fault != KryptonFault::Failed {
                door.fails("aws", &["--out", &kept], wants);
            }
        }
        if door.sim {
            put(Some(KryptonFault::NeverAssigned));
            door.fails(
                "azure",
                &["--out", &kept],
                &["still \"assigning\" after 3 tries", "Azure is slow"],
            );
        }
        put(None);
        assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 0);
    }
}

#[test]
fn files_are_written_once_with_their_modes_and_never_over_others() {
    let bench = Bench::without_dongle();
    let clouds = bench.clouds();
    let door = Door::cellular(&bench, &clouds);
    let modes = |dir: &str| -> Vec<(String, u32)> {
        let mut all: Vec<_> = std::fs::read_dir(bench.path(dir))
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| {
                (
                    e.file_name().into_string().unwrap(),
                    e.metadata().unwrap().permissions().mode() & 0o777,
                )
            })
            .collect();
        all.sort();
        all
    };
    let out = |dir: &str| bench.path(dir).display().to_string();
    let (good, text, err) = door.ask("azure", &["--out", &out("new/azure")]);
    assert!(good, "{err}");
    assert!(text.contains("private.key") && !text.contains("BEGIN"), "{text}");
    let wanted = [
        ("answer.json", 0o600),
        ("ca.pem", 0o644),
        ("certificate.pem", 0o644),
        ("private.key", 0o600),
    ];
    let wanted: Vec<_> = wanted.iter().map(|(n, m)| ((*n).to_owned(), *m)).collect();
    assert_eq!(modes("new/azure"), wanted);
    let mode = std::fs::metadata(bench.path("new/azure")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    let answer = std::fs::read_to_string(bench.path("new/azure/answer.json")).unwrap();
    let v: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (&v["deviceId"], &v["privateKey"]),
        (&json!(format!("myDevice-{IMSI}")), &Value::Null)
    );
    // Once more: refused before anybody is asked, whatever the operation; nothing changes.
    let mut events = clouds.events();
    let before = std::fs::read(bench.path("new/azure/private.key")).unwrap();
    for operation in ["azure", "aws", "arc"] {
        door.fails(
            operation,
            &["--out", &out("new/azure")],
            &["private.key is there already", "nothing was asked"],
        );
    }
    assert!(asked(&mut events).is_empty());
    assert_eq!(std::fs::read(bench.path("new/azure/private.key")).unwrap(), before);
    assert_eq!(modes("new/azure"), wanted);
    // Secrets that are no PEM go into the private answer.
    let (good, _, err) = door.ask("cognito-token", &["--out", &out("token")]);
    assert!(good, "{err}");
    assert_eq!(modes("token"), [("answer.json".to_owned(), 0o600)]);
    bench.write("file", "");
    door.fails("arc", &["--out", &out("file/x")], &["cannot be made"]);
}

#[test]
fn the_agent_provisions_itself_by_its_sim_with_parameters() {
    for (cloud, parameters, id) in [
        (Cloud::IotHub, "{ deviceId = 'dev-#{imsi}' }", format!("dev-{IMSI}")),
        (
            Cloud::AwsIot,
            "{ thingName = 'thing-#{imsi}', skipCertificates = 'true' }",
            format!("thing-{IMSI}"),
        ),
    ] {
        let bench = Bench::new();
        let clouds = bench.clouds_with(|c| c.assigning_polls = 2);
        let mut toml = Toml::krypton(&clouds, cloud);
        let [_, url, _, at, ..] = Door::sim(&bench, &clouds).endpoint();
        let lines = toml
            .credentials
            .lines()
            .filter(|l| !l.starts_with("url") && !l.starts_with("address"));
        toml.credentials = lines.map(|l| format!("{l}\n")).collect();
        toml.credentials += &format!("auth = 'sim'\nurl = '{url}'\naddress = '{at}'\nparameters = {parameters}\n");
        let mut events = clouds.events();
        Agent::until(&bench, &toml, 5).delivers(5);
        let all = asked(&mut events);
        assert_eq!(authentications(&all), 1, "{all:?}");
        let one_by_one = all.iter().filter(|a| a.contains("certificate")).count();
        assert_eq!(one_by_one, if cloud == Cloud::AwsIot { 2 } else { 0 }, "{all:?}");
        assert_arrived(&bench, &clouds, cloud, 5);
        assert!(clouds.messages().iter().all(|m| m.client_id == id));
        // The credentials are lost, the key is not.
        let source = if cloud == Cloud::IotHub {
            "krypton-azure"
        } else {
            "krypton-aws"
        };
        std::fs::remove_dir_all(bench.path(&format!("state/credentials/{source}-{IMSI}"))).unwrap();
        Agent::until(&bench, &toml, 5).delivers(5);
        let all = asked(&mut events);
        assert_eq!(authentications(&all), 0, "{all:?}");
        assert!(!all.is_empty());
    }
}

/// Microsoft's own client connects with what the program wrote, and publishes.
#[test]
fn azure_iot_device_uses_what_was_written() {
    let bench = Bench::new();
    // Its port is fixed, so the stand-ins have addresses of their own.
    let clouds = bench.clouds_with(|c| {
        c.bind = "127.0.93.1".parse().unwrap();
        c.standard_ports = true;
        c.only = vec![Cloud::Krypton, Cloud::KryptonSim, Cloud::IotHub];
    });
    for (n, door) in [Door::cellular(&bench, &clouds), Door::sim(&bench, &clouds)]
        .into_iter()
        .enumerate()
    {
        let dir = bench.path(&format!("azure-{n}"));
        let (good, _, err) = door.ask("azure", &["--out", dir.to_str().unwrap()]);
        assert!(good, "{err}");
        let v: Value = serde_json::from_slice(&std::fs::read(dir.join("answer.json")).unwrap()).unwrap();
        let hub = clouds.address(Cloud::IotHub).unwrap().ip().to_string();
        let told = bench.write(
            "told",
            "{\"do\":\"connect\"}\n{\"do\":\"send\",\"data\":\"from the judge\",\"custom\":{}}\n{\"do\":\"disconnect\"}\n{\"do\":\"end\"}\n",
        );
        let mut judge = judges::python();
        judge
            .arg(judges::script("iot_hub.py"))
            .args([&hub, v["host"].as_str().unwrap(), v["deviceId"].as_str().unwrap()])
            .args([dir.join("ca.pem"), dir.join("certificate.pem"), dir.join("private.key")])
            .stdin(Stdio::from(std::fs::File::open(told).unwrap()));
        let said = bench.rt.block_on(judges::run(&mut judge));
        let done: Vec<_> = said.iter().filter(|s| s["event"] == "done").map(|s| &s["do"]).collect();
        assert_eq!(done, ["connect", "send", "disconnect"], "{said:?}");
        let messages = clouds.messages();
        assert_eq!(messages.len(), n + 1);
        assert_eq!(messages[n].client_id, format!("myDevice-{IMSI}"));
    }
}

#[test]
fn mosquitto_pub_uses_what_was_written() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    for (n, (door, more)) in [
        (Door::cellular(&bench, &clouds), &[][..]),
        (Door::cellular(&bench, &clouds), &["--skip-certificates"]),
        (Door::sim(&bench, &clouds), &[]),
        (Door::sim(&bench, &clouds), &["--skip-certificates"]),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = bench.path(&format!("aws-{n}"));
        // A thing of its own each: AWS takes one CONNECT a second from a client id.
        let thing = format!("thingName=thing-{n}");
        let (good, _, err) = door.ask(
            "aws",
            &[&["--out", dir.to_str().unwrap(), "--parameter", &thing], more].concat(),
        );
        assert!(good, "{err}");
        let v: Value = serde_json::from_slice(&std::fs::read(dir.join("answer.json")).unwrap()).unwrap();
        let path = |name: &str| dir.join(name).display().to_string();
        let port = clouds.address(Cloud::AwsIot).unwrap().port().to_string();
        // A name, because mosquitto sends SNI for names only; the stand-in's certificate has this one too.
        let out = std::process::Command::new(crate::mosquitto::program("mosquitto_pub", "mosquitto-clients"))
            .args(["-h", "localhost", "-p", &port, "-i", v["clientId"].as_str().unwrap()])
            .args([
                "--cafile",
                &path("ca.pem"),
                "--cert",
                &path("certificate.pem"),
                "--key",
                &path("private.key"),
            ])
            .args(["-t", "exampletopics/x", "-q", "1", "-m", "from mosquitto_pub"])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let messages = clouds.messages();
        assert_eq!((messages.len(), &messages[n].client_id), (n + 1, &format!("thing-{n}")));
    }
}
