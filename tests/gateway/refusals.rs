//! Who does not get through, what they are told, and that it is counted.

use std::io::{Read, Write};
use std::net::Ipv4Addr;

use onyx::mqtt::Connect;

use crate::certs::{Authority, Kind};
use crate::mosquitto::{client, free_port};
use crate::stage::{A, B, IMSI_A, IMSI_B, Running, Stage, name};

/// Sends the bytes as a first packet; the return code of the CONNACK, or `None` when the connection is closed without one.
pub fn connack(gateway: &Running, source: Ipv4Addr, bytes: &[u8]) -> Option<u8> {
    let mut stream = gateway.dial(source);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 64];
    while answer.len() < 4 {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(e) => panic!("{e}"),
        }
    }
    match answer.as_slice() {
        [] => None,
        [0x20, 2, 0, code] => Some(*code),
        other => panic!("{other:02x?} is no CONNACK"),
    }
}

fn hello(id: &str, keep_alive: u16) -> Vec<u8> {
    Connect::new(id, true, keep_alive).encode().unwrap()
}

#[test]
fn an_unknown_device_is_told_that_it_is_not_authorised() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let said = client(
        "mosquitto_pub",
        gateway.address,
        &["-d", "-V", "mqttv311", "-i", "x", "-t", "t", "-m", "m"],
    );
    assert!(!said.status.success(), "{}", said.text);
    assert!(
        said.text.contains("received CONNACK (5)") && said.text.contains("not authorised"),
        "{}",
        said.text
    );
    assert_eq!(gateway.status.refused("unknown_device"), 1);
    assert!(
        !stage.broker.log().iter().any(|l| l.contains(" as x ")),
        "upstream never heard of it"
    );
}

#[test]
fn mqtt_3_1_and_versions_to_come_are_told_that_they_are_not_taken() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let from = A.to_string();
    let said = client(
        "mosquitto_pub",
        gateway.address,
        &["-d", "-V", "mqttv31", "-i", "x", "-t", "t", "-m", "m", "-A", &from],
    );
    assert!(
        !said.status.success() && !said.text.contains("PUBLISH") && said.text.contains("CONNACK (1)"),
        "{}",
        said.text
    );
    assert_eq!(
        connack(&gateway, A, b"\x10\x0e\x00\x04MQTT\x06\x02\x00\x3c\x00\x00\x01x"),
        Some(1)
    );
    assert_eq!(gateway.status.refused("version"), 2);
}

#[test]
fn upstream_down_and_up_again() {
    let mut stage = Stage::new();
    let gateway = stage.gateway();
    stage.broker.stop();
    let from = A.to_string();
    let publish = || {
        client(
            "mosquitto_pub",
            gateway.address,
            &["-d", "-V", "mqttv311", "-i", "x", "-t", "t", "-m", "m", "-A", &from],
        )
    };
    let said = publish();
    assert!(said.text.contains("received CONNACK (3)"), "{}", said.text);
    assert_eq!(gateway.status.refused("upstream_unreachable"), 1);
    assert!(stage.broker.start_again());
    assert!(publish().status.success());
}

#[test]
fn what_upstream_refuses_is_relayed_as_it_came() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    // No client id and a session to keep: MQTT 3.1.1 section 3.1.3.1 wants return code 2.
    let bytes = Connect::new("", false, 60).encode().unwrap();
    assert_eq!(connack(&gateway, A, &bytes), Some(2));
    assert_eq!(gateway.status.refused("upstream_refused"), 1);
}

#[test]
fn tls_trouble_and_broken_credentials_are_server_unavailable() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let file = |suffix: &str| stage.credentials().join(format!("{}.{suffix}", name(IMSI_A)));
    // A certificate of an authority that upstream does not know.
    let strangers = Authority::new(&stage.path("strangers"));
    strangers.device(Kind::Ec, &name(IMSI_A), &name(IMSI_A), &stage.credentials());
    assert_eq!(connack(&gateway, A, &hello("x", 60)), Some(3));
    assert_eq!(gateway.status.refused("upstream_tls"), 1);
    // A key that does not fit, rubbish, nothing.
    std::fs::copy(stage.credentials().join(format!("{}.key", name(IMSI_B))), file("key")).unwrap();
    assert_eq!(connack(&gateway, A, &hello("x", 60)), Some(3));
    std::fs::write(file("pem"), "rubbish").unwrap();
    assert_eq!(connack(&gateway, A, &hello("x", 60)), Some(3));
    std::fs::remove_file(file("pem")).unwrap();
    assert_eq!(connack(&gateway, A, &hello("x", 60)), Some(3));
    assert_eq!(gateway.status.refused("credential"), 3);
    // The other device does not notice.
    drop(gateway.device(B, &Connect::new("b", true, 60)));
    // Upstream's own certificate is for another name.
    let config = stage
        .config_text(stage.upstream(), "")
        .replace("'localhost'", "'cloud.example'");
    let other = Running::start(&config, stage.dir.path());
    assert_eq!(connack(&other, B, &hello("x", 60)), Some(3));
    assert_eq!(other.status.refused("upstream_tls"), 1);
    // Upstream speaks no TLS.
    let plain = Running::start(&stage.config_text(stage.broker.plain(), ""), stage.dir.path());
    assert_eq!(connack(&plain, B, &hello("x", 60)), Some(3));
}

#[test]
fn a_silent_upstream_has_a_deadline() {
    let stage = Stage::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Running::start(&stage.config_text(silent.local_addr().unwrap(), ""), stage.dir.path());
    assert_eq!(connack(&gateway, A, &hello("x", 60)), Some(3));
    assert_eq!(gateway.status.refused("upstream_unreachable"), 1);
    assert_ne!(free_port(), 0);
}

#[test]
fn beams_keep_alive_rule() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    for (seconds, code) in [(0, 0), (4, 5), (5, 0), (1_200, 0), (1_201, 5)] {
        assert_eq!(connack(&gateway, A, &hello("k", seconds)), Some(code), "{seconds}");
    }
    assert_eq!(gateway.status.refused("keep_alive"), 2);
}

#[test]
fn what_is_not_mqtt_gets_no_answer() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\xc0\x00",
        b"\x00\x00",
        b"\x10\xff\xff\xff\x7f",
        b"\x10\xff\xff\xff\xff\xff",
        b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x3c\x00\x01x",
    ] {
        assert_eq!(connack(&gateway, A, bytes), None, "{bytes:02x?}");
    }
    assert_eq!(gateway.status.refused("malformed"), 6);
    // Half a CONNECT, and then nothing: the connection is closed after listen.connect_timeout.
    assert_eq!(connack(&gateway, A, b"\x10\x0d\x00\x04MQ"), None);
    assert_eq!(gateway.status.refused("silent"), 1);
}

#[test]
fn a_device_that_breaks_a_rule_is_closed_and_its_neighbour_is_not() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let mut neighbour = gateway.device(B, &Connect::new("neighbour", true, 60));
    let oversize = [&b"\x30\x81\x80\x10"[..], &[0; 64]].concat();
    for (i, bytes) in [
        &hello("again", 60)[..],
        b"\x20\x02\x00\x00",
        b"\xf0\x00",
        &oversize,
        b"\xc1\x00",
    ]
    .iter()
    .enumerate()
    {
        let mut device = gateway.device(A, &Connect::new(format!("rude{i}"), true, 60));
        // What came before is still delivered.
        assert!(device.publish(7, false, "t", b"m"));
        device.send(bytes);
        while let Some(frame) = device.next() {
            assert_eq!(frame.bytes[0], 0x40, "only the PUBACK may come");
        }
        stage.broker.wait_for(&["Received PUBLISH from", &format!("rude{i} ")]);
    }
    neighbour.send(b"\xc0\x00");
    assert!(neighbour.next().is_some());
}

#[test]
fn there_are_only_so_many_places() {
    let stage = Stage::new();
    let config = stage
        .config_text(stage.upstream(), "")
        .replace("[listen]", "[listen]\nmax_connections = 2");
    let mut gateway = Running::start(&config, stage.dir.path());
    let first = gateway.device(A, &Connect::new("1", true, 60));
    let _second = gateway.device(A, &Connect::new("2", true, 60));
    let mut third = gateway.dial(A);
    assert_eq!(third.read(&mut [0; 4]).unwrap(), 0);
    assert_eq!(gateway.status.refused("full"), 1);
    drop(first);
    gateway.wait_until("a place is free", |s| s["open"] == 1);
    let _third = gateway.device(A, &Connect::new("3", true, 60));
    assert_eq!(gateway.stop(), 0, "both leave in order, although there is no time");
}
