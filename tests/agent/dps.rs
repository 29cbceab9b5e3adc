//! Credentials from Azure's provisioning service: the program registers with its own certificate over HTTPS or MQTT, takes hub and device
//! id from the answer, and delivers there.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use onyx::bench::clouds::dps::directory::Kind;
use onyx::bench::clouds::{Cloud, Clouds, Config, Event, Protocol, What};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;

use crate::certs;
use crate::judges;
use crate::krypton::assert_arrived;
use crate::stage::{Agent, Bench, IMSI, Toml, assert_discreet, auth_name, now, onyx_agent};

pub const N: u64 = 5;
pub const HUB: &str = "onyx-hub.azure-devices.net";
const SCOPE: &str = "0ne00111111";
const GROUPS: [&str; 2] = ["onyx-root", "onyx-intermediate"];

/// Both ways to ask.
pub const PROTOCOLS: [&str; 2] = ["https", "mqtt"];

/// A bench whose hub knows nobody but whom DPS tells it.
pub fn clouds_with(bench: &Bench, change: impl FnOnce(&mut Config)) -> Clouds {
    bench.clouds_with(|c| {
        c.hub_open = false;
        c.dps.retry_after = 0;
        change(c);
    })
}

pub fn toml(clouds: &Clouds, protocol: &str) -> Toml {
    let door = match protocol {
        "https" => Protocol::Https,
        _ => Protocol::Mqtts,
    };
    let (dps, hub) = (
        clouds.door(Cloud::Dps, door).unwrap(),
        clouds.address(Cloud::IotHub).unwrap(),
    );
    let credentials = format!(
        "source = 'dps'\nprotocol = '{protocol}'\nid_scope = '{SCOPE}'\naddress = '{dps}'\nca_file = 'clouds/ca.pem'\npoll = '50ms'\n\
         certificate = 'clouds/devices/myClient-#{{imsi}}.pem'\nkey = 'clouds/devices/myClient-#{{imsi}}.key'\n"
    );
    let session = format!("to = 'iot-hub'\nport = {}\naddress = '{hub}'\n", hub.port());
    Toml::new(&credentials, &session)
}

/// Enrols everybody whom one of the bench's authorities signed.
pub fn group(clouds: &Clouds, name: &str, more: &Value) {
    let mut body = json!({"attestation": {"type": "x509", "x509": {"caReferences": {"primary": name}}}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    clouds.dps().put(Kind::Group, name, &body, None).unwrap();
}

/// Certificates are issued for 30 days.
pub fn issues(clouds: &Clouds) {
    group(
        clouds,
        "onyx-intermediate",
        &json!({"credentialPolicy": {"validityInDays": 30}}),
    );
}

/// How often a device asked to be registered since the last look, over either protocol.
pub fn registers(events: &mut Receiver<Event>) -> usize {
    std::iter::from_fn(|| events.try_recv().ok())
        .filter(|e| e.cloud == Cloud::Dps)
        .filter(|e| match &e.what {
            What::Http { method, .. } => method == "PUT",
            What::Request { topic, .. } => topic.contains("iotdps-register"),
            _ => false,
        })
        .count()
}

fn devices_of_messages(clouds: &Clouds) -> Vec<String> {
    let all = clouds.messages().into_iter().filter(|m| m.cloud == Cloud::IotHub);
    let mut ids: Vec<_> = all.map(|m| m.client_id).collect();
    ids.dedup();
    ids
}

#[test]
fn a_device_of_a_group_finds_its_hub_and_does_not_ask_again() {
    for protocol in PROTOCOLS {
        let bench = Bench::new();
        let clouds = clouds_with(&bench, |c| c.dps.assigning_polls = 2);
        let toml = toml(&clouds, protocol);
        let mut events = clouds.events();
        let ended = Agent::until(&bench, &toml, N).delivers(N);
        assert_eq!(registers(&mut events), 1, "{protocol}");
        assert!(
            !ended.log.contains("version 1"),
            "a good certificate is not warned about"
        );
        assert_arrived(&bench, &clouds, Cloud::IotHub, N);
        assert_eq!(devices_of_messages(&clouds), [auth_name()]);
        // The next start uses what is kept: the assignment. The key stays where the operator put it, and nowhere else.
        let ended = Agent::until(&bench, &toml, N).delivers(N);
        assert_eq!(
            registers(&mut events),
            0,
            "{protocol}: DPS was asked again\n{}",
            ended.log
        );
        assert_arrived(&bench, &clouds, Cloud::IotHub, 2 * N);
        assert!(
            !bench
                .path(&format!("state/credentials/dps-{IMSI}/current/private.key"))
                .exists()
        );
    }
}

#[test]
fn an_individual_enrolment_decides_hub_and_device_id() {
    for protocol in PROTOCOLS {
        let bench = Bench::new();
        let clouds = clouds_with(&bench, |_| {});
        let own = std::fs::read_to_string(bench.path(&format!("clouds/devices/{}.pem", auth_name()))).unwrap();
        let body = json!({
            "attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": own}}}},
            "deviceId": "garden-7", "iotHubHostName": HUB,
        });
        clouds.dps().put(Kind::Individual, &auth_name(), &body, None).unwrap();
        for name in GROUPS {
            clouds.dps().remove(Kind::Group, name, None).unwrap();
        }
        let mut toml = toml(&clouds, protocol);
        // Upper and lower case are the same to DPS.
        toml.credentials += "registration_id = 'MYCLIENT-#{imsi}'\n";
        Agent::until(&bench, &toml, N).delivers(N);
        assert_arrived(&bench, &clouds, Cloud::IotHub, N);
        assert_eq!(devices_of_messages(&clouds), ["garden-7"], "{protocol}");
    }
}

#[test]
fn retry_after_is_waited_for_and_the_limit_for_questions_is_kept() {
    for protocol in PROTOCOLS {
        let bench = Bench::new();
        let clouds = clouds_with(&bench, |c| {
            c.dps.assigning_polls = 2;
            c.dps.retry_after = 1;
        });
        let begin = now();
        Agent::until(&bench, &toml(&clouds, protocol), N).delivers(N);
        assert!(
            begin.elapsed() >= Duration::from_secs(3),
            "{protocol}: three questions, a second before each"
        );
    }
    let bench = Bench::new();
    let clouds = clouds_with(&bench, |c| c.dps.assigning_polls = 6);
    let mut events = clouds.events();
    Agent::until(&bench, &toml(&clouds, "https"), N).delivers(N);
    let all: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
    let polls = all
        .iter()
        .filter(|e| matches!(&e.what, What::Http { path, .. } if path.contains("/operations/")));
    assert_eq!(polls.count(), 7);
    let refused = all.iter().find(|e| matches!(e.what, What::Refused { .. }));
    assert!(refused.is_none(), "{refused:?}");
}

/// The hub forgets the device: a definite identity error, after which DPS is asked again.
#[test]
fn a_hub_that_does_not_know_the_device_any_more_leads_back_to_dps() {
    for protocol in PROTOCOLS {
        let bench = Bench::new();
        let clouds = clouds_with(&bench, |_| {});
        let toml = toml(&clouds, protocol);
        let mut events = clouds.events();
        Agent::until(&bench, &toml, N).delivers(N);
        assert_eq!(registers(&mut events), 1);
        clouds.hub().unwrap().remove(&auth_name()).unwrap();
        let ended = Agent::until(&bench, &toml, N).delivers(N);
        assert_eq!(registers(&mut events), 1, "{protocol}: {}", ended.log);
        assert!(
            ended.log.contains("the broker refuses these credentials"),
            "{}",
            ended.log
        );
        assert_arrived(&bench, &clouds, Cloud::IotHub, 2 * N);
    }
}

/// The certificates of Microsoft's walk-through, version 1 as OpenSSL 3.0 makes them: DPS and the hub take them, and the log says how to
/// do better.
#[test]
fn a_version_1_leaf_is_shown_and_warned_about() {
    let bench = Bench::new();
    let clouds = clouds_with(&bench, |_| {});
    let authority = certs::Authority::new(&bench.path("owner"));
    authority.device(certs::Kind::V1, "dev", &auth_name(), &bench.path("v1"));
    let pem = std::fs::read_to_string(authority.file("v1root.pem")).unwrap();
    let body = json!({"properties": {"certificate": pem, "isVerified": true}});
    clouds.dps().put_certificate("owner", &body).unwrap();
    group(&clouds, "owner", &json!({}));
    let mut toml = toml(&clouds, "https");
    toml.credentials = toml.credentials.replace("clouds/devices/myClient-#{imsi}", "v1/dev");
    let ended = Agent::until(&bench, &toml, N).delivers(N);
    let warned = "is X.509 version 1";
    assert!(
        ended.log.contains(warned) && ended.log.contains("onyx-gateway ca"),
        "{}",
        ended.log
    );
    assert_arrived(&bench, &clouds, Cloud::IotHub, N);
}

fn openssl(args: &[&str]) -> String {
    let out = Command::new("openssl").args(args).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{args:?}: {text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    text
}

fn current(bench: &Bench, name: &str) -> String {
    let path: PathBuf = bench.path(&format!("state/credentials/dps-{IMSI}/current")).join(name);
    path.to_str().unwrap().to_owned()
}

/// The certificates of a PEM file, one file each.
fn split(bench: &Bench, chain: &str) -> Vec<String> {
    let text = std::fs::read_to_string(chain).unwrap();
    let blocks = text.split_inclusive("-----END CERTIFICATE-----\n");
    let write = |(n, block): (usize, &str)| {
        bench
            .write(&format!("part-{n}.pem"), block)
            .to_str()
            .unwrap()
            .to_owned()
    };
    blocks.enumerate().map(write).collect()
}

#[test]
fn an_issued_certificate_is_ours_and_openssl_and_mosquitto_take_it() {
    for protocol in PROTOCOLS {
        let bench = Bench::new();
        let clouds = clouds_with(&bench, |c| c.dps.assigning_polls = 1);
        issues(&clouds);
        let mut toml = toml(&clouds, protocol);
        toml.credentials += "csr = true\n";
        let mut events = clouds.events();
        Agent::until(&bench, &toml, N).delivers(N);
        assert_eq!(registers(&mut events), 1);
        assert_arrived(&bench, &clouds, Cloud::IotHub, N);
        assert_eq!(devices_of_messages(&clouds), [auth_name()]);
        let (chain, key) = (current(&bench, "certificate.pem"), current(&bench, "private.key"));
        let parts = split(&bench, &chain);
        let [leaf, intermediate, root] = parts.as_slice() else {
            panic!("{parts:?}");
        };
        let said = openssl(&[
            "verify",
            "-purpose",
            "sslclient",
            "-CAfile",
            root,
            "-untrusted",
            intermediate,
            leaf,
        ]);
        assert!(said.contains(": OK"), "{said}");
        let (theirs, ours) = (
            openssl(&["x509", "-noout", "-pubkey", "-in", leaf]),
            openssl(&["pkey", "-pubout", "-in", &key]),
        );
        assert_eq!(theirs, ours);
        let text = openssl(&["x509", "-noout", "-text", "-in", leaf]);
        assert!(text.contains("secp384r1") && text.contains(&auth_name()), "{text}");
        // The next start uses it.
        Agent::until(&bench, &toml, N).delivers(N);
        assert_eq!(registers(&mut events), 0);
        // So does somebody else's client.
        let hub = clouds.address(Cloud::IotHub).unwrap().port().to_string();
        let (name, ca) = (auth_name(), bench.path("clouds/ca.pem"));
        let mut c = Command::new("mosquitto_pub");
        c.args([
            "-h",
            "127.0.0.1",
            "-p",
            &hub,
            "-q",
            "1",
            "-i",
            &name,
            "--cafile",
            ca.to_str().unwrap(),
        ]);
        c.args([
            "--cert",
            &chain,
            "--key",
            &key,
            "-u",
            &format!("{HUB}/{name}/?api-version=2021-04-12"),
        ]);
        let status = c
            .args(["-t", &format!("devices/{name}/messages/events/"), "-m", "theirs"])
            .status();
        assert!(status.unwrap().success(), "{protocol}: mosquitto_pub was refused");
        // What it came with is not good for the hub.
        let attested = Toml::stand_in(&clouds, Cloud::IotHub);
        let mut attested = attested;
        attested.delivery = "interval = '20ms'\n".into();
        attested.top = attested.top.replace("'state'", "'other'");
        Agent::start(&bench, &attested, &[]).wait_down("session", &["CONNACK 5"], &[]);
    }
}

/// Microsoft's client with these files, as this device of that hub: sends one message.
fn microsofts_client(bench: &Bench, clouds: &Clouds, device: &str, certificate: &Path, key: &Path, say: &str) {
    let told = [
        json!({"do": "connect"}),
        json!({"do": "send", "data": say, "custom": {}}),
        json!({"do": "end"}),
    ];
    let told: String = told.iter().map(|line| format!("{line}\n")).collect();
    let told = bench.write("told.jsonl", &told);
    let gateway = clouds.address(Cloud::IotHub).unwrap().ip().to_string();
    let mut judge = judges::python();
    judge.arg(judges::script("iot_hub.py"));
    judge.args([&gateway, HUB, device]).arg(bench.path("clouds/ca.pem"));
    judge.arg(certificate).arg(key);
    judge.stdin(Stdio::from(std::fs::File::open(told).unwrap()));
    let said = bench.rt.block_on(judges::run(&mut judge));
    let good = |what: &str| json!({"event": "done", "do": what});
    assert_eq!(said, [good("connect"), good("send"), json!({"event": "ended"})]);
    let found = clouds
        .messages()
        .iter()
        .any(|m| m.client_id == device && format!("{:?}", m.payload).contains(say));
    assert!(found, "{say:?} has not arrived");
}

/// What `onyx-agent provision` says, as JSON.
fn provision(bench: &Bench, toml: &Toml) -> Value {
    let config = toml.write(bench);
    let mut absolute = std::fs::read_to_string(&config).unwrap();
    for relative in ["'clouds/", "'state'", "'agent.sock'"] {
        let (whole, rest) = (bench.dir.path().display(), &relative[1..]);
        absolute = absolute.replace(relative, &format!("'{whole}/{rest}"));
    }
    let config = bench.write("agent.toml", &absolute);
    let (output, out, err) = onyx_agent(&["provision", "--json", "--config", config.to_str().unwrap()]);
    assert!(output.status.success(), "{err}");
    assert_discreet(&err);
    serde_json::from_str(&out).unwrap()
}

/// At the real ports, because that client knows no others; each test has addresses of its own.
fn at_the_real_ports(bench: &Bench, last: u8) -> Clouds {
    clouds_with(bench, |c| {
        c.bind = IpAddr::V4(Ipv4Addr::new(127, 0, 86, last));
        c.standard_ports = true;
    })
}

#[test]
fn microsofts_client_goes_where_dps_sent_us() {
    let bench = Bench::new();
    let clouds = at_the_real_ports(&bench, 1);
    let found = provision(&bench, &toml(&clouds, "https"));
    assert_eq!((&found["source"], &found["host"]), (&json!("dps"), &json!(HUB)));
    let device = found["client_id"].as_str().unwrap();
    assert_eq!(device, auth_name());
    let file = |suffix: &str| bench.path(&format!("clouds/devices/{}.{suffix}", auth_name()));
    microsofts_client(&bench, &clouds, device, &file("pem"), &file("key"), "from elsewhere");
}

#[test]
fn microsofts_client_takes_the_issued_certificate() {
    let bench = Bench::new();
    let clouds = at_the_real_ports(&bench, 11);
    issues(&clouds);
    let mut toml = toml(&clouds, "mqtt");
    toml.credentials += "csr = true\n";
    let found = provision(&bench, &toml);
    let directory = Path::new(found["directory"].as_str().unwrap()).to_owned();
    let device = found["client_id"].as_str().unwrap();
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("private.key"));
    microsofts_client(&bench, &clouds, device, &certificate, &key, "from elsewhere");
}
