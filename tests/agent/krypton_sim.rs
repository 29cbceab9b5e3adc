//! SIM authentication: one challenge for many operations, the key kept and replaced, and SIMs that cannot prove themselves.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use onyx::bench::clouds::{Cloud, Clouds, KryptonFault};
use serde_json::{Value, json};

use crate::krypton::assert_arrived;
use crate::krypton_door::{ALL, Door, asked, authentications, looks_right};
use crate::stage::{Agent, Bench, IMSI, Toml};

fn key_file(bench: &Bench) -> PathBuf {
    bench.path(&format!("state/credentials/soracom-key-{IMSI}.json"))
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
    let bench = Bench::with("[usim]\nmac_failure = true\n");
    let clouds = bench.clouds();
    let door = Door::sim(&bench, &clouds);
    door.fails(
        "azure",
        &[],
        &[&["SIM authentication failed", "9862"][..], &plans].concat(),
    );
    // A modem that does not let the SIM be asked.
    bench.unplug();
    bench.plug("[usim]\nccho = 'error'\ncsim = 'refused'\n", IMSI);
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

/// Credentials from Krypton's internet door.
pub fn by_sim(bench: &Bench, clouds: &Clouds, cloud: Cloud, more: &str) -> Toml {
    let mut toml = Toml::krypton(clouds, cloud);
    let [_, url, _, at, ..] = Door::sim(bench, clouds).endpoint();
    let lines = toml.credentials.lines();
    let kept = lines.filter(|l| !l.starts_with("url") && !l.starts_with("address"));
    toml.credentials = kept.map(|l| format!("{l}\n")).collect();
    toml.credentials += &format!("auth = 'sim'\nurl = '{url}'\naddress = '{at}'\n{more}");
    toml
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
        let toml = by_sim(&bench, &clouds, cloud, &format!("parameters = {parameters}\n"));
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

#[test]
fn an_agent_whose_plan_has_no_sim_authentication_says_so() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.sim_plan = "plan-D".into());
    let agent = Agent::start(&bench, &by_sim(&bench, &clouds, Cloud::IotHub, ""), &[]);
    let why = ["key service gives no challenge", "(HTTP 403)"];
    agent.wait_down(
        "credentials",
        &why,
        &["plan01s", "plan-K2", "credentials.auth = \"cellular\""],
    );
}

/// With `credentials.encrypt_with` SORACOM's key is sealed as the private keys are; who has no sealing key uses another and keeps it not.
#[test]
fn soracoms_key_is_sealed_with_the_others() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let mut events = clouds.events();
    let toml = by_sim(&bench, &clouds, Cloud::IotHub, "encrypt_with = 'onyx-store-key'\n");
    let path = toml.write(&bench);
    let folder = bench.path("run-credentials");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("onyx-store-key"), [1; 32]).unwrap();
    Agent::spawn(&bench, &path, &["--exit-after", "1"], |c| {
        c.env("CREDENTIALS_DIRECTORY", &folder);
    })
    .delivers(1);
    assert_eq!(authentications(&asked(&mut events)), 1);
    let sealed = std::fs::read(key_file(&bench)).unwrap();
    assert!(sealed.starts_with(b"onyx-seal-1\n") && !sealed.windows(5).any(|w| w == b"keyId"));
    assert_eq!(
        std::fs::metadata(key_file(&bench)).unwrap().permissions().mode() & 0o777,
        0o600
    );
    for (set, want) in [(true, 0), (false, 1)] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_onyx-agent"));
        command.args(["krypton", "metadata", "--json", "--config"]).arg(&path);
        command.env_remove("CREDENTIALS_DIRECTORY");
        if set {
            command.env("CREDENTIALS_DIRECTORY", &folder);
        }
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{err}");
        assert_eq!(authentications(&asked(&mut events)), want, "{err}");
        assert_eq!(
            err.contains("credentials.encrypt_with") && err.contains("could not be stored"),
            !set,
            "{err}"
        );
        assert_eq!(std::fs::read(key_file(&bench)).unwrap(), sealed);
    }
}
