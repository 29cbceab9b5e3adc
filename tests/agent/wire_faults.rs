//! The byte stream and TLS misbehave under the agent: the line names the rung, the cause and the cure; what was accepted arrives once the
//! fault is gone.

use onyx::bench::clouds::Cloud;

use crate::krypton::assert_arrived;
use crate::stage::{Agent, Bench, Toml};

const N: u64 = 20;

/// Event Grid with a fault, which is then taken away.
fn heals(fault: &str, why: &[&str], cure: &[&str]) {
    let bench = Bench::new();
    let clouds = bench.clouds();
    clouds.put_fault(&fault.parse().unwrap()).unwrap();
    let mut toml = Toml::stand_in(&clouds, Cloud::EventGrid);
    toml.session += "answer_timeout = '500ms'\nconnect_timeout = '1s'\n";
    let agent = Agent::until(&bench, &toml, N);
    agent.wait_down("session", why, cure);
    agent.wait_status("all accepted", |v| v["delivery"]["accepted"] == N);
    assert_eq!(clouds.controls().clear(Some(Cloud::EventGrid)), Ok(1));
    agent.delivers(N);
    let arrived = assert_arrived(&bench, &clouds, Cloud::EventGrid, N);
    assert_eq!(arrived.numbers(), (1..=N).collect());
}

#[test]
fn the_brokers_certificate_has_expired() {
    heals(
        "event-grid:cert-expired",
        &["TLS with", "xpired"],
        &["this machine's clock is ahead"],
    );
}

#[test]
fn the_brokers_certificate_is_for_another_name() {
    heals("event-grid:cert-wrong-name", &["TLS with"], &["for another name"]);
}

#[test]
fn the_brokers_authority_is_unknown() {
    heals("event-grid:cert-unknown-authority", &["TLS with"], &["session.ca_file"]);
}

#[test]
fn our_certificate_has_expired_for_the_broker() {
    heals(
        "event-grid:client-certs-expired",
        &["TLS with"],
        &["refuses our certificate"],
    );
}

#[test]
fn the_handshake_stalls_before_its_end() {
    heals("event-grid:stall@finished", &["eventgrid.azure.net"], &["session"]);
}

#[test]
fn the_broker_never_answers_connect() {
    heals("event-grid:stall@connect", &["eventgrid.azure.net"], &["session"]);
}

#[test]
fn every_handshake_is_cut() {
    heals("event-grid:cut-down@300", &["eventgrid.azure.net"], &[]);
}
