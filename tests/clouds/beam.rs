//! The Beam stand-in and mosquitto: plain MQTT on the way in, the SIM known by the source address.

use std::process::Stdio;

use onyx::bench::clouds::{Cloud, Subscribers};

use crate::tools::{Bench, Lines, command, fail, output, spawn, succeed};

const IMSI: &str = "440103123456789";

fn mosquitto(b: &Bench, program: &str) -> tokio::process::Command {
    let mut c = command(program);
    // Without a name of its own mosquitto sends none, which Beam's brokers refuse.
    c.args(["-h", "127.0.0.1", "-p", &b.port(Cloud::Beam), "-i", program]);
    c
}

#[tokio::test]
async fn messages_pass_without_tls_and_without_certificates() {
    let mut b = Bench::start(|_| {}).await;
    let mut subscriber = mosquitto(&b, "mosquitto_sub");
    let mut child = spawn(
        subscriber
            .args(["-t", "a/#", "-C", "1", "-q", "1"])
            .stdout(Stdio::piped()),
    );
    let mut lines = Lines::of(&mut child);
    b.subscribed().await;
    succeed(mosquitto(&b, "mosquitto_pub").args(["-t", "a/b", "-q", "1", "-m", "through Beam"])).await;
    assert_eq!(lines.next().await, "through Beam");
    assert_eq!(b.payloads(Cloud::Beam), ["through Beam"]);
}

#[tokio::test]
async fn the_imsi_gets_into_the_topic() {
    let b = Bench::start(|c| {
        c.subscribers = Subscribers::everybody(IMSI.parse().unwrap());
        c.beam_append_imsi = true;
        c.beam_imsi_in_topics = true;
    })
    .await;
    succeed(mosquitto(&b, "mosquitto_pub").args(["-t", "sim/{{imsi}}/t", "-q", "1", "-m", "x"])).await;
    let topics: Vec<_> = b.clouds.messages().into_iter().map(|m| m.topic).collect();
    assert_eq!(topics, [format!("sim/{IMSI}/t/{IMSI}")]);
}

#[tokio::test]
async fn keep_alive_has_its_limits() {
    let mut b = Bench::start(|_| {}).await;
    let out = output(mosquitto(&b, "mosquitto_pub").args(["-t", "a", "-m", "x", "-k", "1201"])).await;
    assert_eq!(out.status.code(), Some(5));
    assert!(b.refusal("beam/keep-alive").await.starts_with("CONNACK 5"));
    for good in ["5", "1200"] {
        succeed(mosquitto(&b, "mosquitto_pub").args(["-t", "a", "-m", "x", "-k", good])).await;
    }
}

#[tokio::test]
async fn a_sim_outside_the_group_has_no_connection() {
    let mut b = Bench::start(|c| c.subscribers = Subscribers::parse(&[format!("{IMSI}@127.0.84.7")]).unwrap()).await;
    fail(mosquitto(&b, "mosquitto_pub").args(["-t", "a", "-m", "x"])).await;
    assert_eq!(b.refusal("beam/subscriber").await, "connection closed");
    let bound = ["-A", "127.0.84.7", "-t", "a", "-m", "x", "-q", "1"];
    succeed(mosquitto(&b, "mosquitto_pub").args(bound)).await;
    assert_eq!(b.payloads(Cloud::Beam), ["x"]);
}

#[tokio::test]
async fn qos_2_closes() {
    let mut b = Bench::start(|_| {}).await;
    let child = spawn(mosquitto(&b, "mosquitto_pub").args(["-t", "a", "-m", "x", "-q", "2"]));
    assert_eq!(b.refusal("beam/qos-2").await, "connection closed");
    drop(child);
}
