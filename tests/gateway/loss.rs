//! What was acknowledged has arrived, whatever breaks; and one device's trouble is its own.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use onyx::mqtt::{Connect, PacketType};

use crate::guide::witness;
use crate::mosquitto::Client;
use crate::stage::{A, B, Running, Stage, Wire};

const MESSAGES: u16 = 1_000;
const WINDOW: usize = 50;

/// The sequence numbers the witness has seen.
fn arrived(text: &str) -> BTreeSet<u16> {
    text.lines()
        .filter_map(|l| l.strip_prefix("seq "))
        .filter_map(|n| n.parse().ok())
        .collect()
}

/// Publishes what is not acknowledged yet, at most [`WINDOW`] in flight, until all is, the connection ends, or `enough` says so.
fn publish(device: &mut crate::stage::Device, acked: &mut BTreeSet<u16>, again: bool, enough: impl Fn(usize)) {
    let mut todo: Vec<u16> = (1..=MESSAGES).filter(|n| !acked.contains(n)).rev().collect();
    let mut flying = BTreeSet::new();
    loop {
        while flying.len() < WINDOW {
            let Some(n) = todo.pop() else { break };
            if !device.publish(n, again, "seq", n.to_string().as_bytes()) {
                return;
            }
            flying.insert(n);
        }
        if flying.is_empty() {
            return;
        }
        let Some(frame) = device.next() else { return };
        assert_eq!(frame.packet, PacketType::PubAck);
        let id = frame.packet_id().unwrap();
        assert!(flying.remove(&id), "{id} was not in flight");
        acked.insert(id);
        enough(acked.len());
    }
}

fn seq_witness(stage: &Stage) -> Client {
    witness(stage.broker.plain(), "seq", &["-q", "1", "-i", "witness", "-c"])
}

#[test]
fn a_thousand_messages_and_a_cut_in_the_middle() {
    let stage = Stage::new();
    let wire = Wire::new(stage.upstream());
    let gateway = Running::start(&stage.config_text(wire.address, ""), stage.dir.path());
    let witness = seq_witness(&stage);
    let connect = Connect::new("counter", true, 60);
    let mut acked = BTreeSet::new();
    let mut device = gateway.device(A, &connect);
    publish(&mut device, &mut acked, false, |n| {
        if n == 500 {
            wire.cut();
        }
    });
    let first = acked.len();
    assert!(
        (500..usize::from(MESSAGES)).contains(&first),
        "the cut came in the middle: {first}"
    );
    let seen = arrived(&witness.wait_until(|t| arrived(t).is_superset(&acked)));
    assert!(
        seen.len() - first <= WINDOW,
        "only what was in flight can have arrived without its PUBACK"
    );
    // The device comes back and sends again what was not acknowledged.
    let mut device = gateway.device(A, &connect);
    publish(&mut device, &mut acked, true, |_| ());
    assert_eq!(acked.len(), usize::from(MESSAGES));
    let seen = arrived(&witness.wait_until(|t| arrived(t).is_superset(&acked)));
    assert_eq!(seen, acked);
    println!(
        "acknowledged before the cut {first}, after it {}; arrived {}",
        acked.len() - first,
        seen.len()
    );
}

#[test]
fn a_device_that_waits_for_nothing_loses_nothing() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let witness = seq_witness(&stage);
    // CONNECT, a publication and DISCONNECT at once, in two pieces cut anywhere, and the line closed behind them.
    let bytes = [
        &Connect::new("hasty", true, 60).encode().unwrap()[..],
        b"\x30\x06\x00\x03seq",
        b"x\xe0\x00",
    ]
    .concat();
    for cut in (1..bytes.len()).step_by(5) {
        let mut payload = bytes.clone();
        let at = payload.len() - 3;
        payload[at] = b'0' + u8::try_from(cut % 10).unwrap();
        let mut stream = gateway.dial(A);
        stream.write_all(&payload[..cut]).unwrap();
        stream.write_all(&payload[cut..]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0]);
    }
    let count = (1..bytes.len()).step_by(5).count();
    witness.wait_until(|t| t.lines().filter(|l| l.starts_with("seq ")).count() == count);
}

#[test]
fn upstream_restarts_while_a_device_is_connected() {
    let mut stage = Stage::new();
    let gateway = stage.gateway();
    let mut device = gateway.device(A, &Connect::new("d", true, 60));
    stage.broker.stop();
    assert!(
        device.next().is_none(),
        "the device is told by the end of its connection"
    );
    gateway.wait_until("it is gone", |s| s["open"] == 0);
    assert!(stage.broker.start_again());
    let mut device = gateway.device(A, &Connect::new("d", true, 60));
    assert!(device.publish(1, false, "t", b"m"));
    assert_eq!(device.next().unwrap().packet_id(), Some(1));
}

#[test]
fn a_device_that_reads_nothing_stops_nobody_and_is_given_up() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let mut stalled = gateway.device(A, &Connect::new("stalled", true, 60));
    stalled.send(b"\x82\x0a\x00\x01\x00\x05flood\x00");
    assert_eq!(stalled.next().unwrap().packet, PacketType::SubAck);
    let mut other = gateway.device(B, &Connect::new("other", true, 60));
    // 32 MB for somebody who does not read: more than all kernel buffers on the way.
    let file = stage.path("flood");
    std::fs::write(&file, vec![b'x'; 200_000]).unwrap();
    let path = file.display().to_string();
    let flood = ["-t", "flood", "-f", &path, "--repeat", "160"];
    let flood = Client::spawn("mosquitto_pub", stage.broker.plain(), &flood);
    assert!(flood.wait().status.success());
    for n in 1..=200 {
        assert!(other.publish(n, false, "t", b"m"));
        assert_eq!(other.next().unwrap().packet_id(), Some(n));
    }
    let answer = gateway.wait_until("the stalled one was given up", |s| s["open"] == 1);
    assert_eq!(answer["connections"][0]["client_id"], "other");
    assert!(other.publish(201, false, "t", b"m"));
    assert_eq!(other.next().unwrap().packet_id(), Some(201));
}

#[test]
fn a_silent_device_is_cut_after_one_and_a_half_keep_alives() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let mut device = gateway.device(A, &Connect::new("quiet", true, 5));
    assert!(device.next().is_none());
    let lines = stage.broker.log();
    assert!(lines.iter().any(|l| l.contains("quiet")), "it was connected");
}
