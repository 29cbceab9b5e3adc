//! The commands of SORACOM's Beam and Event Grid guide, with the gateway in the place of beam.soracom.io. (`-A` is the source address
//! that the SIM's session would give.)

use std::net::SocketAddr;

use bytes::Bytes;
use onyx::mqtt::{Connect, Will};

use crate::mosquitto::{Client, client};
use crate::stage::{A, B, IMSI_A, IMSI_B, IMSI_T, Stage, TOKEN, client_id, name};

const TOPIC: &str = "exampletopics/topic1";
const HELLO: &str = "Hello from Client via Beam!";

/// A subscriber at the broker's own door; returns when it is subscribed.
pub fn witness(address: SocketAddr, topic: &str, more: &[&str]) -> Client {
    let sub = Client::spawn(
        "mosquitto_sub",
        address,
        &[&["-d", "-v", "-t", topic][..], more].concat(),
    );
    sub.wait_until(|t| t.contains("Subscribed (mid"));
    sub
}

#[test]
fn publish_as_in_the_guide_at_every_qos() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let witness = witness(stage.broker.plain(), TOPIC, &["-q", "2"]);
    for qos in ["0", "1", "2"] {
        let (id, message, from) = (client_id(IMSI_A), format!("{HELLO} {qos}"), A.to_string());
        let mut args = vec![
            "-d", "-V", "mqttv311", "-i", &id, "-t", TOPIC, "-m", &message, "-A", &from,
        ];
        args.extend(["-q", qos]);
        let said = client("mosquitto_pub", gateway.address, &args);
        assert!(said.status.success(), "{}", said.text);
        for line in [
            "sending CONNECT",
            "received CONNACK (0)",
            "sending PUBLISH (d0",
            "sending DISCONNECT",
        ] {
            assert!(said.text.contains(line), "{line:?} is not in\n{}", said.text);
        }
        assert_eq!(said.text.contains("received PUBACK"), qos == "1", "{}", said.text);
        witness.wait_until(|t| t.contains(&format!("{TOPIC} {message}")));
    }
    stage.broker.wait_for(&[
        "New client connected",
        &client_id(IMSI_A),
        &format!("u'{}'", name(IMSI_A)),
    ]);
    gateway.wait_until("all ended", |s| s["relayed"] == 3 && s["open"] == 0);
}

#[test]
fn subscribe_as_in_the_guide_and_receive_from_another_device() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    for qos in ["0", "1"] {
        let (id, from) = (client_id(IMSI_B), B.to_string());
        let args = [
            "-d", "-V", "mqttv311", "-i", &id, "-t", TOPIC, "-A", &from, "-C", "1", "-q", qos,
        ];
        let sub = Client::spawn("mosquitto_sub", gateway.address, &args);
        sub.wait_until(|t| t.contains(&format!("Subscribed (mid: 1): {qos}")));
        let (id, from) = (client_id(IMSI_A), A.to_string());
        let args = [
            "-V", "mqttv311", "-i", &id, "-t", TOPIC, "-m", HELLO, "-A", &from, "-q", qos,
        ];
        assert!(client("mosquitto_pub", gateway.address, &args).status.success());
        let said = sub.wait();
        assert!(
            said.status.success() && said.text.contains(&format!("\n{HELLO}\n")),
            "{}",
            said.text
        );
    }
    stage.broker.wait_for(&[
        "New client connected",
        &client_id(IMSI_B),
        &format!("u'{}'", name(IMSI_B)),
    ]);
}

#[test]
fn a_token_in_the_password_identifies_from_any_address() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let id = client_id(IMSI_T);
    let args = |token| {
        [
            "-d", "-V", "mqttv311", "-i", &id, "-t", TOPIC, "-m", HELLO, "-u", "x", "-P", token, "-q", "1",
        ]
    };
    let said = client("mosquitto_pub", gateway.address, &args(TOKEN));
    assert!(
        said.status.success() && said.text.contains("received PUBACK"),
        "{}",
        said.text
    );
    stage
        .broker
        .wait_for(&["New client connected", &id, &format!("u'{}'", name(IMSI_T))]);
    let said = client("mosquitto_pub", gateway.address, &args("5f1d7c0b2a9e4c3d8b6b"));
    assert!(
        !said.status.success() && said.text.contains("not authorised"),
        "{}",
        said.text
    );
    assert_eq!(gateway.status.refused("unknown_device"), 1);
}

#[test]
fn the_user_name_is_the_template_and_the_token_stays_here() {
    let stage = Stage::with(None, false, crate::certs::Kind::Ec);
    let gateway = stage.gateway();
    let id = client_id(IMSI_T);
    let args = [
        "-V", "mqttv311", "-i", &id, "-t", TOPIC, "-m", HELLO, "-u", "x", "-P", TOKEN,
    ];
    let said = client("mosquitto_pub", gateway.address, &args);
    assert!(said.status.success(), "{}", said.text);
    let line = stage.broker.wait_for(&["New client connected", &id]);
    assert!(
        line.contains(&format!("u'{}'", name(IMSI_T))) && line.contains("p2, c1, k60"),
        "{line}"
    );
}

#[test]
fn wills_retained_messages_and_large_binary_payloads_pass() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let watch = witness(stage.broker.plain(), "#", &["-q", "1", "-F", "%t %r %l"]);
    let mut connect = Connect::new("w", true, 60);
    connect.will = Some(Will {
        topic: "gone".into(),
        payload: Bytes::from_static(&[0, 255]),
        qos: 1,
        retain: false,
        properties: bytes::Bytes::new(),
    });
    // DISCONNECT: no will. Then a line that breaks: the will.
    let mut device = gateway.device(A, &connect);
    device.send(b"\xe0\x00");
    assert!(device.next().is_none());
    gateway.wait_until("the first is gone", |s| s["open"] == 0);
    assert!(!watch.text().contains("gone"));
    drop(gateway.device(A, &connect));
    let text = watch.wait_until(|t| t.contains("gone 0 2"));
    assert_eq!(text.matches("gone 0 2").count(), 1, "DISCONNECT takes the will back");
    let file = stage.path("payload");
    let payload: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(&file, &payload).unwrap();
    let (from, path) = (A.to_string(), file.display().to_string());
    let args = [
        "-V", "mqttv311", "-i", "big", "-t", "big", "-f", &path, "-A", &from, "-q", "1", "-r",
    ];
    assert!(client("mosquitto_pub", gateway.address, &args).status.success());
    watch.wait_until(|t| t.contains("big 0 200000"));
    // And back: the retained message through the gateway, byte for byte.
    let out = client(
        "mosquitto_sub",
        gateway.address,
        &["-i", "r", "-t", "big", "-A", &from, "-C", "1", "-F", "%r %x"],
    );
    let hex: String = payload.iter().map(|b| format!("{b:02x}")).collect();
    assert!(
        out.text.trim() == format!("1 {hex}"),
        "{} characters came",
        out.text.len()
    );
}
