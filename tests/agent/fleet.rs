//! AWS IoT fleet provisioning by claim: from nothing to the first message, by the command, and killed on the way.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use onyx::bench::clouds::aws_iot::registry::Status;
use onyx::bench::clouds::aws_iot::script::Entry;
use onyx::bench::clouds::{Cloud, Clouds, Event, Protocol, What};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;

use crate::krypton::assert_arrived;
use crate::stage::{Agent, Bench, IMEI, IMSI, PATIENCE, Toml, auth_name, now, onyx_agent, wait_for};
use crate::{mosquitto, stage};

pub const N: u64 = 3;
pub const CREATE: &str = "$aws/certificates/create-from-csr/json";
pub const PROVISION: &str = "$aws/provisioning-templates/onyx-bench/provision/json";

/// Clouds with a claim certificate in `clouds/devices/claim.pem`.
pub fn clouds(bench: &Bench) -> Clouds {
    bench.clouds_with(|c| c.aws_claims = vec!["claim".into()])
}

/// What the operator of a fleet writes, for a door.
pub fn fleet(clouds: &Clouds, protocol: Protocol) -> Toml {
    let at = clouds.door(Cloud::AwsIot, protocol).unwrap();
    let port = match protocol {
        Protocol::MqttsAlpn => 443,
        _ => at.port(),
    };
    let session = format!(
        "to = 'aws-iot'\nhost = '{}'\nport = {port}\naddress = '{at}'\nca_file = 'clouds/ca.pem'\n",
        host(clouds)
    );
    let credentials = "source = 'aws-fleet'\ntemplate = 'onyx-bench'\ntimeout = '3s'\n\
                       certificate = 'clouds/devices/claim.pem'\nkey = 'clouds/devices/claim.key'\n";
    let mut toml = Toml::new(credentials, &session);
    toml.delivery += "topic = 'exampletopics/topic1'\n";
    toml
}

fn host(clouds: &Clouds) -> String {
    let found = clouds.stand_ins().iter().find(|s| s.name == Cloud::AwsIot).unwrap();
    found.host.clone()
}

fn set(bench: &Bench) -> PathBuf {
    bench.path(&format!("state/credentials/aws-fleet-{IMSI}/current"))
}

pub fn forget(bench: &Bench) {
    std::fs::remove_dir_all(bench.path("state/credentials")).unwrap();
}

/// Collects events until one fits; answers all.
pub fn until(events: &mut Receiver<Event>, what: &str, fits: impl Fn(&What) -> bool) -> Vec<What> {
    let mut seen = Vec::new();
    wait_for(
        what,
        || {
            while let Ok(event) = events.try_recv() {
                seen.push(event.what);
                if seen.last().is_some_and(&fits) {
                    return Some(());
                }
            }
            None
        },
        String::new,
    );
    seen
}

fn is_claim(id: &str) -> bool {
    id.starts_with("onyx-claim-")
}

fn from_nothing(protocol: Protocol) {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let toml = fleet(&clouds, protocol);
    let mut events = clouds.events();
    let begin = now();
    let agent = Agent::until(&bench, &toml, N);
    let seen = until(&mut events, "the first message", |w| matches!(w, What::Message { .. }));
    let took = begin.elapsed();
    agent.delivers(N);
    assert_arrived(&bench, &clouds, Cloud::AwsIot, N);
    let at = |fits: &dyn Fn(&What) -> bool| seen.iter().position(fits).unwrap();
    let claim = at(&|w| {
        matches!(w, What::Connected { client_id, cn, sni, .. }
        if is_claim(client_id) && cn == "claim" && *sni == Some(host(&clouds)))
    });
    let gone = at(&|w| matches!(w, What::Disconnected { client_id, .. } if is_claim(client_id)));
    let thing = at(&|w| matches!(w, What::Connected { client_id, cn, .. } if client_id == IMEI && *cn == auth_name()));
    assert!(claim < gone && gone < thing, "{seen:#?}");
    let asked: Vec<_> = seen
        .iter()
        .filter_map(|w| match w {
            What::Request { topic, .. } => Some(topic.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [CREATE, PROVISION]);
    let (up, down) = seen
        .iter()
        .find_map(|w| match w {
            What::Closed {
                client_id: Some(id),
                bytes_up,
                bytes_down,
                protocol: p,
                ..
            } if is_claim(id) && *p == protocol => Some((*bytes_up, *bytes_down)),
            _ => None,
        })
        .unwrap();
    eprintln!(
        "fleet provisioning over {}: {up} bytes up, {down} bytes down, TLS and MQTT included; first message {} ms after the start",
        protocol.as_str(),
        took.as_millis()
    );
    assert!(up < 8_000 && down < 12_000, "{up} {down}");
    // What AWS has of it: one certificate, ACTIVE, with the thing.
    let made = clouds.aws_iot().registry(|r| {
        let ours = |c: &&_| -> bool { certificate_is_ours(c) };
        r.certificates()
            .filter(ours)
            .map(|c| (c.status, c.things.clone(), c.id.clone()))
            .collect::<Vec<_>>()
    });
    assert!(
        matches!(made.as_slice(), [(Status::Active, things, _)] if *things == [IMEI]),
        "{made:?}"
    );
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&set(&bench).join("private.key")), 0o600);
    // The next start asks nobody.
    Agent::until(&bench, &toml, N).delivers(N);
    let again = until(
        &mut events,
        "the second run",
        |w| matches!(w, What::Connected { client_id, .. } if !is_claim(client_id)),
    );
    assert!(
        !again.iter().any(|w| matches!(w, What::Request { .. })),
        "it was provisioned again: {again:#?}"
    );
}

fn certificate_is_ours(c: &onyx::bench::clouds::aws_iot::registry::Certificate) -> bool {
    c.subject.get("CommonName").is_some_and(|n| *n == auth_name()) && c.authority.is_none()
}

#[test]
fn from_nothing_to_the_first_message_at_8883() {
    from_nothing(Protocol::Mqtts);
}

#[test]
fn from_nothing_to_the_first_message_at_443() {
    from_nothing(Protocol::MqttsAlpn);
}

/// The command and its result, before others' programs: openssl says that key and certificate are a pair, and mosquitto_pub is let in
/// with them under the thing's name.
#[test]
fn the_command_provisions_and_others_can_use_what_it_got() {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let mut toml = fleet(&clouds, Protocol::Mqtts);
    // Whoever runs the command stands elsewhere.
    for text in [&mut toml.credentials, &mut toml.session, &mut toml.top] {
        for name in ["clouds/", "state'", "agent.sock"] {
            *text = text.replace(&format!("'{name}"), &format!("'{}", bench.path(name).display()));
        }
    }
    let config = toml.write(&bench);
    let config = config.to_str().unwrap();
    let (output, out, err) = onyx_agent(&["provision", "--json", "--timeout", "60", "--config", config]);
    assert!(output.status.success(), "{out}\n{err}");
    stage::assert_discreet(&err);
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&said["host"], &said["client_id"]),
        (&json!(host(&clouds)), &json!(IMEI)),
        "{said}"
    );

    let file = |name: &str| set(&bench).join(name).to_str().unwrap().to_owned();
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let pem = file("certificate.pem");
    let public = openssl(&["x509", "-in", &pem, "-noout", "-pubkey"]);
    assert_eq!(public, openssl(&["pkey", "-in", &file("private.key"), "-pubout"]));
    let subject = openssl(&["x509", "-in", &pem, "-noout", "-subject", "-nameopt", "RFC2253"]);
    assert_eq!(subject.trim(), format!("subject=CN={}", auth_name()));

    let publish = |topic: &str| {
        let at = clouds.door(Cloud::AwsIot, Protocol::Mqtts).unwrap();
        let (ca, key) = (bench.path("clouds/ca.pem"), file("private.key"));
        let mut c = Command::new(mosquitto::program("mosquitto_pub", "mosquitto-clients"));
        c.args(["-h", "localhost", "-p", &at.port().to_string(), "--cafile"])
            .arg(ca);
        c.args([
            "--cert",
            &pem,
            "--key",
            &key,
            "-i",
            IMEI,
            "-q",
            "1",
            "-t",
            topic,
            "-m",
            "by mosquitto",
        ]);
        c.output().unwrap()
    };
    let output = publish("exampletopics/topic2");
    assert!(output.status.success(), "{output:?}");
    let is_there = |all: &[_]| {
        all.iter()
            .any(|m: &onyx::bench::clouds::Message| m.topic == "exampletopics/topic2")
    };
    assert!(bench.rt.block_on(clouds.wait_for_messages(PATIENCE, is_there)));

    // Another one by force, for the same thing.
    let before = std::fs::read(&pem).unwrap();
    let (output, _, err) = onyx_agent(&["provision", "--force", "--timeout", "60", "--config", config]);
    assert!(output.status.success(), "{err}");
    assert_eq!(std::fs::read(&pem).unwrap(), before, "nothing has proven the new one");
    assert_ne!(std::fs::read(pem.replace("/current/", "/candidate/")).unwrap(), before);
}

pub fn tell(clouds: &Clouds, entry: Value) {
    let entry: Entry = serde_json::from_value(entry).unwrap();
    assert!(clouds.aws_iot().script(|s| s.add(entry)));
}

/// kill -9 when AWS has made the certificate and not yet the thing: that certificate is lost (AWS deletes it after an hour), and the
/// next start gets another.
#[test]
fn killed_between_certificate_and_thing() {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let mut toml = fleet(&clouds, Protocol::Mqtts);
    toml.credentials = toml.credentials.replace("timeout = '3s'", "timeout = '60s'");
    let mut events = clouds.events();
    tell(&clouds, json!({"operation": "provision", "reply": "silence"}));
    let agent = Agent::start(&bench, &toml, &[]);
    until(
        &mut events,
        "asked for the thing",
        |w| matches!(w, What::Request { topic, .. } if topic == PROVISION),
    );
    agent.kill();
    let all = || {
        clouds.aws_iot().registry(|r| {
            let of = r.certificates().filter(|c| certificate_is_ours(c));
            of.map(|c| (c.status, c.things.len())).collect::<Vec<_>>()
        })
    };
    assert_eq!(all(), [(Status::PendingActivation, 0)]);
    assert!(!set(&bench).exists());
    // More than N: what the first one had taken is delivered too.
    assert!(Agent::until(&bench, &toml, N).ends_well().acknowledged >= N);
    assert_eq!(all(), [(Status::PendingActivation, 0), (Status::Active, 1)]);
}

/// Killed at any moment, whatever is on disk is whole.
#[test]
fn killed_at_any_moment_it_starts_again_and_delivers() {
    let bench = Bench::new();
    let clouds = clouds(&bench);
    let toml = fleet(&clouds, Protocol::Mqtts);
    for n in 0..8_u64 {
        let agent = Agent::start(&bench, &toml, &[]);
        // The moment is a stimulus and proves nothing: some fall before the conversation, some into it, some after it.
        std::thread::sleep(Duration::from_millis(20 + 40 * n));
        agent.kill();
        if set(&bench).exists() {
            let read = |name: &str| std::fs::read(set(&bench).join(name)).unwrap();
            onyx::tls::Identity::from_pem(&read("certificate.pem"), &read("private.key"), "the set").unwrap();
            forget(&bench);
        }
    }
    assert!(Agent::until(&bench, &toml, N).ends_well().acknowledged >= N);
}
