//! mTLS straight to mosquitto, which requires a certificate and takes the user name from it, as Event Grid compares the two.

use onyx::pki::{Authority as Rcgen, Purpose};

use crate::certs::{Authority, Kind};
use crate::mosquitto::{Client, Mosquitto, Tls};
use crate::seqs::Arrived;
use crate::stage::{Agent, Bench, Toml, auth_name, client_id, onyx_agent};

/// Samples of a run.
const N: u64 = 50;

/// A broker with TLS and a witness at its plain door.
pub struct Broker {
    pub mosquitto: Mosquitto,
    pub witness: Client,
    pub authority: Authority,
}

impl Broker {
    pub fn new(bench: &Bench, version: Option<&'static str>, identity_as_username: bool) -> Self {
        Self::trusting(bench, version, identity_as_username, "")
    }

    /// With one more authority for devices, as PEM.
    pub fn trusting(bench: &Bench, version: Option<&'static str>, identity_as_username: bool, more: &str) -> Self {
        let authority = Authority::new(&bench.path("ca"));
        let (certificate, key) = authority.server();
        let clients = std::fs::read_to_string(authority.file("clients.pem")).unwrap();
        let tls = Tls {
            client_ca: bench.write("clients.pem", &format!("{clients}{more}")),
            certificate,
            key,
            version,
            identity_as_username,
        };
        let mosquitto = Mosquitto::start(bench.dir.path(), Some(tls));
        let witness = witness(&mosquitto);
        Self {
            mosquitto,
            witness,
            authority,
        }
    }

    pub fn tls(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.mosquitto.tls_port).into()
    }

    /// Waits until `n` different samples have arrived; no more than those may.
    pub fn wait_arrived(&self, n: u64) -> Arrived {
        let text = self.witness.wait_until(|t| Arrived::of_witness(t).count() >= n);
        let arrived = Arrived::of_witness(&text);
        assert_eq!(arrived.count(), n);
        arrived
    }
}

/// mosquitto_sub on everything, subscribed already.
pub fn witness(mosquitto: &Mosquitto) -> Client {
    let args = ["-d", "-i", "witness", "-q", "1", "-t", "#"];
    let witness = Client::spawn("mosquitto_sub", mosquitto.plain(), &args);
    witness.wait_until(|t| t.contains("Subscribed"));
    witness
}

/// Runs until `N` are acknowledged, and compares with what the witness saw.
fn fifty_of_fifty(bench: &Bench, broker: &Broker, toml: &Toml) -> String {
    let ended = Agent::until(bench, toml, N).delivers(N);
    let arrived = broker.wait_arrived(N);
    assert_eq!(arrived.numbers(), (1..=N).collect());
    assert_eq!(arrived.duplicates, 0, "an undisturbed line needs no second copy");
    ended.log
}

fn event_grid(kind: Kind, version: Option<&'static str>, tls: &str) -> String {
    let bench = Bench::new();
    let broker = Broker::new(&bench, version, true);
    broker.authority.device(kind, "device", &auth_name(), bench.dir.path());
    let mut toml = Toml::files("event-grid", broker.tls());
    toml.session += tls;
    toml.delivery += "topic = 'exampletopics/topic1'\n";
    let log = fifty_of_fifty(&bench, &broker, &toml);
    // The name the certificate proves and the client id of the guide.
    broker.mosquitto.wait_for(&[
        "New client connected",
        &format!("as {} (", client_id()),
        &format!("u'{}'", auth_name()),
    ]);
    broker.mosquitto.wait_for(&["PUBLISH", "exampletopics/topic1", "q1"]);
    log
}

#[test]
fn ec_p256_with_intermediate_tls_1_3() {
    event_grid(Kind::Ec, Some("tlsv1.3"), "");
}

#[test]
fn ec_p256_with_intermediate_tls_1_2() {
    event_grid(Kind::Ec, Some("tlsv1.2"), "");
}

#[test]
fn rsa_2048_with_intermediate_tls_1_2_asked_for_by_the_agent() {
    event_grid(Kind::Rsa, None, "tls = '1.2'\n");
}

#[test]
fn rsa_2048_with_intermediate_tls_1_3_asked_for_by_the_agent() {
    event_grid(Kind::Rsa, None, "tls = '1.3'\n");
}

#[test]
fn x509_version_1_of_the_dps_walk_through_tls_1_3() {
    let log = event_grid(Kind::V1, Some("tlsv1.3"), "");
    assert!(log.contains("it is X.509 version 1: sign it with extensions"), "{log}");
}

#[test]
fn x509_version_1_of_the_dps_walk_through_tls_1_2_is_named_by_status_and_check() {
    let bench = Bench::new();
    let broker = Broker::new(&bench, Some("tlsv1.2"), true);
    broker
        .authority
        .device(Kind::V1, "device", &auth_name(), bench.dir.path());
    let mut toml = Toml::files("event-grid", broker.tls());
    for name in ["device.pem", "device.key", "ca/root.pem"] {
        let whole = bench.path(name).display().to_string();
        toml.credentials = toml.credentials.replace(&format!("'{name}'"), &format!("'{whole}'"));
        toml.session = toml.session.replace(&format!("'{name}'"), &format!("'{whole}'"));
    }
    let (output, out, _) = onyx_agent(&["check", "--config", toml.write(&bench).to_str().unwrap()]);
    assert!(output.status.success(), "{out}");
    assert!(out.contains("is X.509 version 1") && out.contains("-extfile"), "{out}");
    let agent = Agent::start(&bench, &toml, &[]);
    agent.wait_acknowledged(5);
    let why = agent.wait_up("credentials")["why"].as_str().unwrap().to_owned();
    assert!(why.contains("X.509 version 1") && why.contains("-extfile"), "{why}");
    agent.terminate();
    agent.ends_well();
}

#[test]
fn rcgen_with_intermediate_as_an_aws_thing() {
    let bench = Bench::new();
    let time = onyx::clock::Clock::new().now().unwrap().0;
    let day = std::time::Duration::from_secs(86_400);
    let ca = Rcgen::generate("Test", time, 9 * day).unwrap();
    let broker = Broker::trusting(&bench, None, true, &ca.root_pem());
    let issued = ca.issue(&auth_name(), &Purpose::Device, time, day).unwrap();
    bench.write("device.pem", &issued.chain_pem);
    bench.write("device.key", &issued.key_pem);
    let mut toml = Toml::files("aws-iot", broker.tls());
    toml.delivery += "topic = 'things/data'\n";
    fifty_of_fifty(&bench, &broker, &toml);
    broker
        .mosquitto
        .wait_for(&["New client connected", &format!("as {} (", client_id())]);
    broker.mosquitto.wait_for(&["PUBLISH", "things/data", "q1"]);
}

#[test]
fn an_iot_hub_device_is_known_by_its_common_name() {
    let bench = Bench::new();
    // mosquitto shows the user name as it was sent.
    let broker = Broker::new(&bench, None, false);
    broker
        .authority
        .device(Kind::Rsa, "device", "device1", bench.dir.path());
    let toml = Toml::files("iot-hub", broker.tls());
    fifty_of_fifty(&bench, &broker, &toml);
    broker.mosquitto.wait_for(&[
        "New client connected",
        "as device1 (",
        "u'localhost/device1/?api-version=2021-04-12'",
    ]);
    broker
        .mosquitto
        .wait_for(&["PUBLISH", "devices/device1/messages/events/", "q1"]);
}
