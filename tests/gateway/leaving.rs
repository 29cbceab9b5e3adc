//! Ends that the gateway orders: it stops under load and nothing that was accepted is lost or sent twice, and whoever may no longer be
//! connected is told to leave, from files and from a store. mosquitto's log is the witness that nobody said DISCONNECT in a device's stead.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onyx::clock::Clock;
use onyx::gateway::history::timeline::What;
use onyx::gateway::store::{Store, SubscriberRecord, TokenChange};
use onyx::mqtt::{Connect, Level, PacketType};

use crate::certs::Kind;
use crate::mosquitto::PATIENCE;
use crate::stage::{A, B, Device, IMEI, IMSI_A, IMSI_B, IMSI_T, Running, Stage, TOKEN, client_id, dial, name};
use crate::store::{runtime, settings};
use crate::two_instances;

/// Unacknowledged messages of one device.
const WINDOW: usize = 10;
/// Devices that publish at once.
const DEVICES: usize = 4;
/// Messages that each has acknowledged before the gateway stops, and again after.
const SOME: usize = 50;

fn connect(level: Level, id: &str) -> Connect {
    let mut connect = Connect::new(id, true, 60);
    connect.level = level;
    connect
}

/// A device of either version that is taken.
fn taken(stream: std::net::TcpStream, connect: &Connect) -> Device {
    let mut device = Device::new(stream);
    device.send(&connect.encode().unwrap());
    let answer = device.next().expect("a CONNACK");
    assert_eq!((answer.packet, answer.body()[1]), (PacketType::ConnAck, 0));
    device
}

/// Publishes at QoS 1 until its gateway has sent it away and the next one has taken some more. How many messages that were, and how often it
/// was sent away.
fn publish_over(gateways: &[SocketAddr], id: &str, acknowledged: &AtomicUsize) -> (u32, usize) {
    let from = |which: usize| Device::connected(dial(gateways[which], A), &connect(Level::V3, id));
    let (mut device, mut which) = (from(0), 0);
    let (mut sent, mut open, mut after) = (0_u32, VecDeque::new(), 0);
    let packet_id = |n: u32| u16::try_from(n % 60_000 + 1).unwrap();
    while after < SOME || !open.is_empty() {
        while open.len() < WINDOW && after < SOME {
            sent += 1;
            open.push_back(sent);
            // Whether the line has gone is seen at its other end, behind what is still to come from there.
            let _ = device.publish(packet_id(sent), false, "t", format!("{id} {sent}").as_bytes());
        }
        match device.next() {
            Some(frame) => {
                assert_eq!(frame.packet, PacketType::PubAck);
                let oldest = open.pop_front().expect("an answer to something sent");
                assert_eq!(frame.body()[..2], packet_id(oldest).to_be_bytes());
                acknowledged.fetch_add(1, SeqCst);
                after += which;
            }
            None => {
                which += 1;
                assert!(which < gateways.len(), "sent away once more than gateways stop");
                device = from(which);
                for n in &open {
                    assert!(device.publish(packet_id(*n), true, "t", format!("{id} {n}").as_bytes()));
                }
            }
        }
    }
    device.send(b"\xe0\x00");
    (sent, which)
}

#[test]
fn a_stop_under_load_loses_nothing_and_repeats_nothing() {
    let stage = Stage::new();
    let text = stage
        .config_text(stage.upstream(), "")
        .replace("drain_timeout = '0s'", "drain_timeout = '30s'");
    let mut first = Running::start(&text, stage.dir.path());
    let second = Running::start(&text, stage.dir.path());
    // Everything that reaches mosquitto, in its order, until the last word.
    let seen: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let mut witness = Device::connected(dial(stage.broker.plain(), B), &connect(Level::V3, "witness"));
    witness.send(b"\x82\x06\x00\x01\x00\x01t\x00");
    assert_eq!(witness.next().unwrap().packet, PacketType::SubAck);
    let watching = std::thread::spawn({
        let seen = seen.clone();
        move || {
            while let Some(frame) = witness.next() {
                let text = String::from_utf8_lossy(&frame.body()[3..]).into_owned();
                if text == "the end" {
                    return;
                }
                *seen.lock().unwrap().entry(text).or_default() += 1;
            }
            panic!("the witness was cut");
        }
    });
    let mut idle = first.device(B, &connect(Level::V3, "idle"));
    let gateways = [first.address, second.address];
    let acknowledged: Vec<_> = (0..DEVICES).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let publishing: Vec<_> = acknowledged
        .iter()
        .enumerate()
        .map(|(n, count)| {
            let count = count.clone();
            std::thread::spawn(move || publish_over(&gateways, &format!("d{n}"), &count))
        })
        .collect();
    let begin = Instant::now();
    while acknowledged.iter().any(|n| n.load(SeqCst) < SOME) {
        assert!(begin.elapsed() < PATIENCE, "the load never began");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(first.stop(), 0, "everybody left in order");
    assert!(idle.next().is_none());
    let sent: Vec<_> = publishing.into_iter().map(|p| p.join().unwrap()).collect();
    let mut last = Device::connected(dial(stage.broker.plain(), B), &connect(Level::V3, "last"));
    assert!(last.publish(1, false, "t", b"the end"));
    watching.join().unwrap();
    let seen = seen.lock().unwrap();
    for (n, (count, which)) in sent.iter().enumerate() {
        assert_eq!(*which, 1, "d{n} was sent away once");
        for message in 1..=*count {
            assert_eq!(
                seen.get(&format!("d{n} {message}")),
                Some(&1),
                "d{n} {message} of {count}"
            );
        }
    }
    // To upstream a device that was sent away is one whose line broke.
    stage.broker.wait_for(&["Client idle closed its connection"]);
    let ended = first.status.counts().ended.iter().sum::<u64>();
    assert_eq!(ended, DEVICES as u64 + 1);
}

/// Reads to the end, of which the last packet is this one.
fn is_told(device: &mut Device, last: &[u8]) {
    let frame = device.next().expect("a last word");
    assert_eq!(&frame.bytes[..], last);
    assert!(device.next().is_none());
}

fn works(device: &mut Device, level: Level) {
    match level {
        Level::V3 => device.send(b"\x32\x06\x00\x01t\x00\x07m"),
        Level::V5 => device.send(b"\x32\x07\x00\x01t\x00\x07\x00m"),
    }
    assert_eq!(device.next().expect("a PUBACK").packet, PacketType::PubAck);
}

#[test]
fn a_reload_ends_those_who_may_not_stay_and_nobody_else() {
    const IMSI_D: &str = "295012345678904";
    let from_d = Ipv4Addr::new(127, 0, 93, 4);
    let stage = Stage::new();
    stage
        .authority
        .device(Kind::Ec, &name(IMSI_D), &name(IMSI_D), &stage.credentials());
    let more =
        format!("[[subscriber]]\nimsi = '{IMSI_D}'\nimei = '{IMEI}'\nimei_lock = true\nsource = '{from_d}'\n[status]");
    let text = stage.config_text(stage.upstream(), "").replace("[status]", &more);
    let gateway = Running::start(&text, stage.dir.path());
    let mut locked = taken(gateway.dial(A), &connect(Level::V5, &client_id(IMSI_A)));
    let mut removed = taken(gateway.dial(B), &connect(Level::V3, "removed"));
    let mut with_token = connect(Level::V5, "deactivated");
    with_token.username = Some("anybody".to_owned());
    with_token.password = Some(TOKEN.into());
    let mut deactivated = taken(gateway.dial(Ipv4Addr::new(127, 0, 93, 3)), &with_token);
    let mut stays = taken(gateway.dial(from_d), &connect(Level::V5, &client_id(IMSI_D)));
    // A lock on the modem that it has, another group's configuration, a rotated credential: nothing to leave for.
    let path = stage.path("gateway.toml");
    std::fs::write(
        &path,
        text.replace("username = 'myClient-#{imsi}'", "username = 'other-#{imsi}'"),
    )
    .unwrap();
    stage
        .authority
        .device(Kind::Ec, &name(IMSI_D), "rotated", &stage.credentials());
    let said = gateway.reload().unwrap();
    assert!(
        said.starts_with("reloaded: 4 subscribers") && !said.contains("ended"),
        "{said}"
    );
    for (device, level) in [
        (&mut locked, Level::V5),
        (&mut removed, Level::V3),
        (&mut deactivated, Level::V5),
        (&mut stays, Level::V5),
    ] {
        works(device, level);
    }
    let of_b = format!("[[subscriber]]\nimsi = '{IMSI_B}'\nsource = '127.0.0.20/30'\n");
    assert!(text.contains(&of_b));
    let less = text
        .replace(&of_b, "")
        .replace("token_file = 'token'", "token_file = 'token'\nenabled = false")
        .replace(
            &format!("imei = '{IMEI}'\nsource = '{A}'"),
            &format!("imei = '999999999999999'\nimei_lock = true\nsource = '{A}'"),
        );
    std::fs::write(&path, less).unwrap();
    let said = gateway.reload().unwrap();
    assert!(
        said.starts_with("reloaded: 3 subscribers; 3 connections ended"),
        "{said}"
    );
    is_told(&mut locked, b"\xe0\x01\x98");
    is_told(&mut deactivated, b"\xe0\x01\x98");
    assert!(removed.next().is_none());
    gateway.wait_until("three are counted", |s| s["ended"]["administrative"] == 3);
    for (imsi, word) in [(IMSI_A, "another IMEI"), (IMSI_B, "removed"), (IMSI_T, "deactivated")] {
        let story = gateway
            .status
            .history()
            .device(&imsi.parse().unwrap())
            .expect("a timeline");
        let What::Ended { reason, why, .. } = &story.events.back().unwrap().event.what else {
            panic!("{:?}", story.events);
        };
        assert!(*reason == "administrative" && why.contains(word), "{why}");
    }
    stage.broker.wait_for(&["Client removed closed its connection"]);
    // Who may stay does, with the credential it came with.
    works(&mut stays, Level::V5);
    drop(stays);
    let _again = taken(gateway.dial(from_d), &connect(Level::V5, &client_id(IMSI_D)));
    stage.broker.wait_for(&["New client connected", "u'rotated'"]);
}

/// Nobody connects, so nobody asks the store whether anything has changed: the gateway does from time to time.
#[test]
fn a_quiet_gateway_notices_what_others_have_written_to_its_store() {
    let stage = Stage::new();
    let runtime = runtime();
    let place = "file = 'store.db'\nkey_file = 'store.key'\n";
    let store = runtime
        .block_on(Store::open(&settings(stage.dir.path(), place), &Clock::new()))
        .unwrap();
    runtime.block_on(two_instances::fill(&stage, &store));
    let (from_a, from_b) = (two_instances::A, two_instances::B);
    let put = |record: SubscriberRecord| {
        runtime
            .block_on(store.put_subscriber(&record, TokenChange::Keep))
            .unwrap()
    };
    put(two_instances::device(IMSI_B, from_b));
    let text = format!(
        "[listen]\naddress = '127.0.0.1:0'\ndrain_timeout = '0s'\n[store]\n{place}[status]\nsocket = 'status.sock'\n"
    );
    let gateway = Running::start(&text, stage.dir.path());
    let mut stays = taken(gateway.dial(from_a), &connect(Level::V5, &client_id(IMSI_A)));
    let mut leaves = taken(gateway.dial(from_b), &connect(Level::V5, &client_id(IMSI_B)));
    // A rotated credential is a change too, and no reason to leave.
    stage
        .authority
        .device(Kind::Ec, &name(IMSI_A), "rotated", &stage.credentials());
    runtime.block_on(two_instances::credential(&stage, &store, IMSI_A));
    put(SubscriberRecord {
        enabled: false,
        ..two_instances::device(IMSI_B, from_b)
    });
    is_told(&mut leaves, b"\xe0\x01\x98");
    gateway.wait_until("it is counted", |s| s["ended"]["administrative"] == 1);
    works(&mut stays, Level::V5);
}
