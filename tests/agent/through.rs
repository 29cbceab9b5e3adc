//! Through `onyx-gateway`, which adds the certificate, and plain to a broker in Beam's place.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::certs::Kind;
use crate::mosquitto::Mosquitto;
use crate::mosquitto_direct::{Broker, witness};
use crate::seqs::Arrived;
use crate::stage::{Agent, Bench, IMSI, Toml, assert_discreet, auth_name, client_id};

const N: u64 = 50;

pub struct Gateway {
    child: Child,
    pub address: std::net::SocketAddr,
}

impl Gateway {
    fn start(bench: &Bench, broker: &Broker) -> Self {
        Self::spawn(bench, broker, |_| {})
    }

    pub fn spawn(bench: &Bench, broker: &Broker, change: impl FnOnce(&mut Command)) -> Self {
        let config = bench.write(
            "gateway.toml",
            &format!(
                "[listen]\naddress = '127.0.0.1:0'\n[upstream]\nhost = 'localhost'\naddress = '{}'\nca_file = 'ca/root.pem'\n\
                 [device]\nusername = 'myClient-#{{imsi}}'\ncredential = 'myClient-#{{imsi}}'\n[credentials]\nfolder = 'credentials'\n\
                 [[subscriber]]\nimsi = '{IMSI}'\nsource = '127.0.0.1'\n[status]\nsocket = 'gateway.sock'\n",
                broker.tls()
            ),
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"));
        command
            .args(["run", "--config"])
            .arg(config)
            .env_remove("NOTIFY_SOCKET")
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(bench.path("gateway.log")).unwrap());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.strip_prefix("listening ").expect("the first line").trim();
        Self {
            address: address.parse().unwrap(),
            child,
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn through_our_gateway(version: &'static str, kind: Kind) {
    let bench = Bench::new();
    let broker = Broker::new(&bench, Some(version), true);
    broker
        .authority
        .device(kind, &auth_name(), &auth_name(), &bench.path("credentials"));
    let gateway = Gateway::start(&bench, &broker);
    let agent = Agent::until(&bench, &Toml::gateway(gateway.address), N);
    agent.delivers(N);
    let arrived = broker.wait_arrived(N);
    assert_eq!(arrived.numbers(), (1..=N).collect());
    broker.mosquitto.wait_for(&[
        "New client connected",
        &format!("as {} (", client_id()),
        &format!("u'{}'", auth_name()),
    ]);
    drop(gateway);
    assert_discreet(&std::fs::read_to_string(bench.path("gateway.log")).unwrap());
}

#[test]
fn through_our_gateway_tls_1_2() {
    through_our_gateway("tlsv1.2", Kind::Rsa);
}

#[test]
fn through_our_gateway_tls_1_3() {
    through_our_gateway("tlsv1.3", Kind::Ec);
}

#[test]
fn plain_to_a_broker_in_beams_place() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let witness = witness(&mosquitto);
    Agent::until(&bench, &Toml::gateway(mosquitto.plain()), N).delivers(N);
    let text = witness.wait_until(|t| Arrived::of_witness(t).count() >= N);
    assert_eq!(Arrived::of_witness(&text).numbers(), (1..=N).collect());
    // Beam knows the SIM by the line: no user name.
    let line = mosquitto.wait_for(&["New client connected", &format!("as {} (", client_id())]);
    assert!(!line.contains("u'"), "{line}");
}
