//! Brokers that refuse, drop, fall silent, or are none: the line names the rung, the cause and the cure; what was accepted arrives once
//! the fault is gone.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use onyx::bench::clouds::{Cloud, MqttFault};

use crate::krypton::{asked, assert_arrived};
use crate::mosquitto::{Mosquitto, free_port};
use crate::mosquitto_direct::{Broker, witness};
use crate::seqs::Arrived;
use crate::stage::{Agent, Bench, Toml, auth_name, rung_of};
use crate::wire::Wire;

const N: u64 = 20;

/// The Event Grid stand-in with a fault, which is then lifted.
fn heals(fault: MqttFault, why: &[&str], cure: &[&str]) {
    let bench = Bench::new();
    let clouds = bench.clouds();
    clouds.set_mqtt_fault(Cloud::EventGrid, Some(fault.into()));
    let mut toml = Toml::stand_in(&clouds, Cloud::EventGrid);
    toml.session += "answer_timeout = '500ms'\n";
    let agent = Agent::until(&bench, &toml, N);
    agent.wait_down("session", why, cure);
    let status = agent.wait_status("all accepted", |v| v["delivery"]["accepted"] == N);
    assert_eq!(rung_of(&status, "credentials")["state"], "up");
    clouds.set_mqtt_fault(Cloud::EventGrid, None);
    agent.delivers(N);
    let arrived = assert_arrived(&bench, &clouds, Cloud::EventGrid, N);
    assert_eq!(arrived.numbers(), (1..=N).collect());
}

#[test]
fn connack_5() {
    let why = ["refuses the connection", "CONNACK 5"];
    heals(
        MqttFault::Refuse(5),
        &why,
        &["registered there under this name", "CA uploaded"],
    );
}

#[test]
fn connack_3() {
    heals(MqttFault::Refuse(3), &["CONNACK 3"], &["nothing to do here but wait"]);
}

#[test]
fn closed_after_connack() {
    let why = ["closed the connection before it worked"];
    heals(
        MqttFault::CloseAfterConnack,
        &why,
        &["client id, user name and topic are allowed"],
    );
}

#[test]
fn never_acknowledged() {
    heals(
        MqttFault::NoPuback,
        &["no acknowledgement", "the broker is stuck"],
        &["new connection"],
    );
}

#[test]
fn cut_at_every_message() {
    heals(
        MqttFault::CutAfter(1),
        &["closed the connection after it worked"],
        &["another client with the same client id"],
    );
}

#[test]
fn a_refusal_of_kryptons_credentials_fetches_others_once() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    clouds.set_mqtt_fault(Cloud::IotHub, Some(MqttFault::Refuse(5).into()));
    let mut events = clouds.events();
    let agent = Agent::until(&bench, &Toml::krypton(&clouds, Cloud::IotHub), N);
    agent.wait_down_times("credentials", &["CONNACK 5"], &["registered there under this name"], 5);
    assert_eq!(asked(&mut events), 2, "the first ones, and others once");
    clouds.set_mqtt_fault(Cloud::IotHub, None);
    agent.delivers(N);
    assert_arrived(&bench, &clouds, Cloud::IotHub, N);
}

#[test]
fn an_authority_that_is_not_the_brokers() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    // The agent trusts another authority; a new start with the right one delivers what waits.
    let toml = Toml::stand_in(&clouds, Cloud::EventGrid);
    let mut wrong = toml.clone();
    let time = onyx::clock::Clock::new().now().unwrap().0;
    let stranger = onyx::pki::Authority::generate("Stranger", time, std::time::Duration::from_secs(86_400)).unwrap();
    bench.write("stranger.pem", &stranger.root_pem());
    wrong.session = wrong.session.replace("clouds/ca.pem", "stranger.pem");
    let agent = Agent::until(&bench, &wrong, N);
    agent.wait_down(
        "session",
        &["TLS with", "eventgrid.azure.net", "UnknownIssuer"],
        &["session.ca_file"],
    );
    agent.wait_status("all accepted", |v| v["delivery"]["accepted"] == N);
    agent.terminate();
    // A script that asked for N must not take this for success.
    let ended = agent.wait();
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.log.contains("stopped after 0 of 20 acknowledgements"),
        "{}",
        ended.log
    );
    deliver_the_rest(&bench, &toml, &clouds);
}

/// After a fault that only a new configuration ends: everything that waited in the spool arrives.
fn deliver_the_rest(bench: &Bench, toml: &Toml, clouds: &onyx::bench::clouds::Clouds) {
    let mut slow = toml.clone();
    slow.delivery = slow.delivery.replace("'20ms'", "'1h'");
    let agent = Agent::start(bench, &slow, &[]);
    // The N that waited and the first of this start.
    agent.wait_acknowledged(N + 1);
    let arrived = assert_arrived(bench, clouds, Cloud::EventGrid, N + 1);
    assert_eq!(arrived.numbers(), (1..=N + 1).collect());
}

#[test]
fn mosquitto_does_not_know_our_authority() {
    let bench = Bench::new();
    let broker = Broker::new(&bench, None, true);
    let clouds = bench.clouds();
    // The stand-in's certificate at mosquitto, which trusts other authorities.
    let issued = clouds.issue_device(&auth_name()).unwrap();
    bench.write("device.pem", &issued.chain_pem);
    bench.write("device.key", &issued.key_pem);
    for tls in ["1.2", "1.3"] {
        let mut toml = Toml::files("event-grid", broker.tls());
        toml.session += &format!("tls = '{tls}'\n");
        let agent = Agent::start(&bench, &toml, &[]);
        agent.wait_down(
            "session",
            &["TLS with localhost", "alert"],
            &["refuses our certificate"],
        );
    }
}

#[test]
fn nobody_listens_then_somebody_does() {
    let bench = Bench::new();
    let mut mosquitto = Mosquitto::start(bench.dir.path(), None);
    mosquitto.stop();
    let agent = Agent::until(&bench, &Toml::gateway(mosquitto.plain()), N);
    agent.wait_down_times(
        "session",
        &[&mosquitto.plain().to_string(), "does not answer", "onnection refused"],
        &["session.host", "session.port"],
        // More than the failures that send the climb down to the link.
        7,
    );
    agent.wait_status("all accepted", |v| v["delivery"]["accepted"] == N);
    assert!(mosquitto.start_again(), "the port was taken meanwhile");
    agent.delivers(N);
    let delivered = mosquitto.log().iter().filter(|l| l.contains("Sending PUBACK")).count();
    assert!(delivered as u64 >= N);
}

/// A server that answers whatever comes with these bytes and closes.
fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
            // Closed only after the other side has read: a reset would swallow the answer.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    address
}

const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_web_server_is_no_broker() {
    let bench = Bench::new();
    let address = server(HTTP);
    let agent = Agent::start(&bench, &Toml::gateway(address), &[]);
    let port = address.port().to_string();
    agent.wait_down(
        "session",
        &["does not speak MQTT: an HTTP server answers", &port],
        &["session.host, session.port"],
    );
}

#[test]
fn a_port_without_tls_is_named() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    for address in [server(HTTP), Mosquitto::start(bench.dir.path(), None).plain()] {
        let mut toml = Toml::stand_in(&clouds, Cloud::EventGrid);
        let at = clouds.address(Cloud::EventGrid).unwrap();
        toml.session = toml.session.replace(&at.to_string(), &address.to_string());
        let agent = Agent::start(&bench, &toml, &[]);
        agent.wait_down("session", &["TLS", "eventgrid.azure.net"], &["port", "speak TLS"]);
    }
}

#[test]
fn plain_mqtt_spoken_to_a_tls_port_is_named() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let agent = Agent::start(&bench, &Toml::gateway(clouds.address(Cloud::EventGrid).unwrap()), &[]);
    agent.wait_down("session", &["127.0.0.1", "it wants TLS"], &["session.to"]);
}

#[test]
fn cut_after_so_many_bytes_of_every_connection() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let witness = witness(&mosquitto);
    let wire = Wire::new(mosquitto.plain());
    wire.cut_after(700);
    let agent = Agent::until(&bench, &Toml::gateway(wire.address), N);
    agent.wait_down("session", &["closed the connection"], &["broker"]);
    wire.cut_after(0);
    agent.delivers(N);
    let text = witness.wait_until(|t| Arrived::of_witness(t).count() >= N);
    assert_eq!(Arrived::of_witness(&text).numbers(), (1..=N).collect());
    assert!(wire.cuts() >= 2);
}

#[test]
fn the_back_off_grows_and_is_bounded() {
    let bench = Bench::new();
    let mut toml = Toml::gateway(([127, 0, 0, 1], free_port()).into());
    toml.session = toml.session.replace(
        "retry_min = '50ms'\nretry_max = '1s'",
        "retry_min = '100ms'\nretry_max = '3s'",
    );
    let agent = Agent::start(&bench, &toml, &[]);
    agent.wait_down_times("session", &["does not answer"], &["session.port"], 8);
    let waits: Vec<f64> = agent
        .log()
        .lines()
        .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok())
        .filter(|v| v["fields"]["rung"] == "session" && v["fields"]["state"] == "down")
        .map(|v| v["fields"]["retry_s"].as_f64().unwrap())
        .collect();
    assert!(waits[0] <= 0.1 && waits[5] >= 1.5, "{waits:?}");
    assert!(waits.iter().all(|w| *w <= 3.0), "{waits:?}");
}
