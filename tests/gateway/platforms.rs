//! Three things whose pieces have unit tests, whole: IoT Hub's rules by the stand-in that punishes, Beam's old platform before mosquitto, and the one
//! bucket that all connections of a subscriber draw from. Sources are 127.0.46.0/24.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use onyx::bench::clouds::{Cloud, Clouds, Config, Hosts, What};
use onyx::mqtt::{Connect, Level, PacketType, Will};

use crate::certs::Kind;
use crate::policies::Client;
use crate::stage::{IMSI_A, IMSI_B, Running, Stage};

const A: Ipv4Addr = Ipv4Addr::new(127, 0, 46, 1);
const B: Ipv4Addr = Ipv4Addr::new(127, 0, 46, 2);

const DEVICE: &str = "dev-1";

/// A gateway before the hub's stand-in, for the device that it knows; `policy` is what stands in that section.
fn before_the_hub(clouds: &Clouds, dir: &Path, policy: &str) -> Running {
    let (host, address) = (Hosts::default().iot_hub, clouds.address(Cloud::IotHub).unwrap());
    let config = format!(
        "[listen]\naddress = '127.0.0.1:0'\nmax_packet = '1MiB'\ndrain_timeout = '0s'\n\
         [upstream]\nhost = '{host}'\naddress = '{address}'\nca_file = 'ca.pem'\nkind = 'iot-hub'\n\
         [device]\ncredential = '{DEVICE}'\nusername = '{host}/{DEVICE}/?api-version={}'\n[credentials]\nfolder = 'devices'\n\
         [policy]\n{policy}\n\
         [[subscriber]]\nimsi = '{IMSI_A}'\nsource = '{A}'\n[status]\nsocket = 'status.sock'\n",
        onyx::cloud::iot_hub::API_VERSION
    );
    Running::start(&config, dir)
}

fn connect(keep_alive: u16) -> Connect {
    Connect::new(DEVICE, true, keep_alive)
}

/// A PUBLISH at QoS 1 with the retain flag.
fn publish_retained(client: &mut Client, id: u16, topic: &str, payload: &[u8]) {
    let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&id.to_be_bytes());
    body.extend_from_slice(payload);
    client.packet(0x33, &body);
}

/// What the hub would close for goes on in a form that it takes, or ends here with its name; the hub itself never refuses anything.
#[test]
fn the_hub_that_punishes_has_nothing_to_punish() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut config = Config::new(dir.path());
    config.only = vec![Cloud::IotHub];
    let clouds = runtime.block_on(Clouds::start(config)).unwrap();
    clouds.write_device(DEVICE).unwrap();
    let mut events = clouds.events();
    let topic = format!("devices/{DEVICE}/messages/events/");

    let gateway = before_the_hub(&clouds, dir.path(), "");
    // 1,200 s is over the hub's longest, and 0 would be none.
    for keep_alive in [1_200, 0] {
        let (mut c, connack) = Client::start(gateway.dial(A), &connect(keep_alive));
        assert_eq!(connack.code, 0);
        c.publish(2, 9, &topic, b"twice over once");
        assert_eq!(c.expect(PacketType::PubRec), &b"\x50\x02\x00\x09"[..]);
        c.send(b"\x62\x02\x00\x09");
        assert_eq!(c.expect(PacketType::PubComp), &b"\x70\x02\x00\x09"[..]);
        // The hub grants less by itself, which is no punishment.
        c.subscribe(3, &[format!("devices/{DEVICE}/messages/devicebound/#")], 2);
        assert_eq!(c.expect(PacketType::SubAck), &b"\x90\x03\x00\x03\x01"[..]);
        publish_retained(&mut c, 10, &topic, b"flagged");
        assert_eq!(c.expect(PacketType::PubAck), &b"\x40\x02\x00\x0a"[..]);
        c.send(b"\xe0\x00");
        assert!(c.next().is_none());
    }
    // Above `$` there is only what the hub itself has; its answer would be the end without a word.
    let (mut c, _) = Client::start(gateway.dial(A), &connect(60));
    c.publish(1, 11, "$other/topic", b"x");
    assert!(c.next().is_none());
    gateway.wait_until("ended by the policy", |s| s["ended"]["policy"] == 1);

    let plain = before_the_hub(&clouds, dir.path(), "retain = 'adapt'");
    let (mut c, _) = Client::start(plain.dial(A), &connect(60));
    publish_retained(&mut c, 12, &topic, b"flag taken off");
    assert_eq!(c.expect(PacketType::PubAck), &b"\x40\x02\x00\x0c"[..]);

    let arrived: Vec<_> = clouds
        .messages()
        .into_iter()
        .map(|m| {
            let flagged = m.properties.is_some_and(|p| p.to_string().contains("mqtt-retain"));
            (format!("{:?}", m.payload), m.qos, flagged)
        })
        .collect();
    let text = |payload: &str, flagged| (format!("Text({payload:?})"), 1, flagged);
    let once = [text("twice over once", false), text("flagged", true)];
    assert_eq!(arrived, [&once[..], &once, &[text("flag taken off", false)]].concat());
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event.what, What::Refused { .. }), "{:?}", event.what);
    }
    runtime.block_on(clouds.stop());
}

/// What the hub cannot see is seen by mosquitto: the keep-alive that goes up is the hub's longest.
#[test]
fn a_hub_is_asked_for_no_longer_keep_alive_than_it_has() {
    let stage = Stage::new();
    let config = format!(
        "[listen]\naddress = '127.0.0.1:0'\n[upstream]\nhost = 'localhost'\naddress = '{}'\ntls = 'off'\nkind = 'iot-hub'\n\
         [[subscriber]]\nimsi = '{IMSI_A}'\nsource = '{A}'\n[status]\nsocket = 'status.sock'\n",
        stage.broker.plain()
    );
    let gateway = Running::start(&config, stage.dir.path());
    for (asked, given) in [(1_200, 1_177), (1_177, 1_177), (60, 60), (0, 1_177)] {
        let id = format!("asks-{asked}");
        let (_client, connack) = Client::start(gateway.dial(A), &Connect::new(&id, true, asked));
        assert_eq!(connack.code, 0);
        stage.broker.wait_for(&[&format!(" as {id} "), &format!(" k{given}")]);
    }
}

/// Version 201804 of Beam: QoS 0 only, and no will.
#[test]
fn beams_old_platform_forwards_qos_0_and_no_will() {
    let stage = Stage::with(None, false, Kind::Ec);
    let mut text = String::from(
        "[listen]\naddress = '127.0.0.1:0'\ndrain_timeout = '0s'\n[credentials]\nfolder = 'credentials'\n[status]\nsocket = 'status.sock'\n",
    );
    for (name, version, imsi, source) in [("old", "201804", IMSI_A, A), ("new", "201912", IMSI_B, B)] {
        let json = format!(
            r#"[{{"key": "mqtt://beam.soracom.io:1883", "value": {{"destination": "mqtt://localhost", "version": "{version}"}}}}]"#
        );
        std::fs::write(stage.path(&format!("{name}.json")), json).unwrap();
        text += &format!(
            "[[group]]\nname = '{name}'\nfile = '{name}.json'\naddress = '{}'\n\
             [[subscriber]]\nimsi = '{imsi}'\nsource = '{source}'\ngroup = '{name}'\n",
            stage.broker.plain()
        );
    }
    let gateway = Running::start(&text, stage.dir.path());
    let with_will = |id: &str| {
        let mut connect = Connect::new(id, true, 60);
        connect.will = Some(Will {
            topic: "will".to_owned(),
            payload: Bytes::from_static(b"gone"),
            qos: 1,
            retain: false,
            properties: Bytes::new(),
        });
        connect
    };

    let (mut old, connack) = Client::start(gateway.dial(A), &with_will("old-1"));
    assert_eq!((connack.code, connack.level), (0, Level::V3));
    stage.broker.wait_for(&["No will message specified"]);
    assert!(!stage.broker.log().iter().any(|l| l.contains("Will message specified")));
    old.subscribe(7, &["a/#".to_owned()], 1);
    assert_eq!(old.expect(PacketType::SubAck), &b"\x90\x03\x00\x07\x00"[..]);
    old.publish(0, 0, "a/b", b"passes");
    let frame = old.expect(PacketType::Publish);
    assert!(frame.ends_with(b"passes") && frame[0] == 0x30, "{frame:02x?}");
    old.publish(1, 8, "a/b", b"does not");
    assert!(old.next().is_none(), "QoS 1 ends the connection");

    let (mut new, _) = Client::start(gateway.dial(B), &with_will("new-1"));
    stage.broker.wait_for(&["Will message specified (4 bytes)"]);
    new.subscribe(7, &["a/#".to_owned()], 1);
    assert_eq!(new.expect(PacketType::SubAck), &b"\x90\x03\x00\x07\x01"[..]);
    new.publish(1, 8, "a/b", b"passes");
    let (mut acked, mut came) = (false, false);
    while !(acked && came) {
        let frame = new.next().expect("PUBACK and the message");
        match frame.packet {
            PacketType::PubAck => acked = true,
            PacketType::Publish => came = frame.body().ends_with(b"passes"),
            other => panic!("{other:?}"),
        }
    }
}

/// Two connections at once and a third after them: what one takes the others do not have.
#[test]
fn all_connections_of_a_subscriber_draw_from_one_bucket() {
    let stage = Stage::with(None, false, Kind::Ec);
    let config = format!(
        "[listen]\naddress = '127.0.0.1:0'\ndrain_timeout = '0s'\n[upstream]\nhost = 'localhost'\naddress = '{}'\ntls = 'off'\n\
         [rate]\nmessages = 20\nburst = 1\n\
         [[subscriber]]\nimsi = '{IMSI_A}'\nsource = '{A}'\n[[subscriber]]\nimsi = '{IMSI_B}'\nsource = '{B}'\n\
         [status]\nsocket = 'status.sock'\n",
        stage.broker.plain()
    );
    let gateway = Running::start(&config, stage.dir.path());
    let start = |source, id: &str| Client::start(gateway.dial(source), &Connect::new(id, true, 60)).0;
    let acked = |client: &mut Client, most: u16| {
        for n in 1..=most {
            assert_eq!(client.expect(PacketType::PubAck)[2..], n.to_be_bytes());
        }
    };
    let begin = Instant::now();
    let mut both = [start(A, "one"), start(A, "two")];
    for client in &mut both {
        for n in 1..=30 {
            client.publish(1, n, "t", b"x");
        }
    }
    // Another subscriber has a bucket of its own; that both get all their PUBACKs shows that nobody waits for ever.
    let mut other = start(B, "other");
    for n in 1..=20 {
        other.publish(1, n, "t", b"x");
    }
    acked(&mut other, 20);
    for client in &mut both {
        acked(client, 30);
    }
    let took = begin.elapsed();
    // 60 messages: 20 are in the bucket, 40 come at 20 a second. Two buckets would need half a second.
    assert!(took > Duration::from_millis(1_900), "{took:?}");
    drop(both);
    let mut third = start(A, "three");
    for n in 1..=20 {
        third.publish(1, n, "t", b"x");
    }
    acked(&mut third, 20);
    // The bucket was empty when the first two were done; a new one would have had 20.
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(2_850), "{took:?}");
}
