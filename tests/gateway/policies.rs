//! Policies where somebody else judges: mosquitto that takes QoS 1 at most and closes on more, and the stand-ins of AWS IoT Core and
//! Event Grid, which obey their clouds' rules and punish. Each test first lets the judge punish what the gateway will not let it see.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use onyx::bench::clouds::{Cloud, Clouds, Config};
use onyx::mqtt::properties::{self, Value, id};
use onyx::mqtt::{ConnAck, Connect, Frame, Level, PacketType, split_frame};

use crate::certs::{Authority, Kind};
use crate::mosquitto::{Mosquitto, PATIENCE, Tls, free_port};
use crate::stage::{A, IMSI_A, IMSI_B, IMSI_T, Running, Stage, client_id, name};

/// A client of either version that speaks bytes.
pub struct Client {
    level: Level,
    stream: TcpStream,
    buffer: BytesMut,
}

impl Client {
    /// Connected; with the CONNACK it got.
    pub fn start(stream: TcpStream, connect: &Connect) -> (Self, ConnAck) {
        let mut client = Self {
            level: connect.level,
            stream,
            buffer: BytesMut::new(),
        };
        client.send(&connect.encode().unwrap());
        let frame = client.next().expect("a CONNACK");
        assert_eq!(frame.packet, PacketType::ConnAck);
        let connack = ConnAck::decode(connect.level, frame.body()).unwrap();
        (client, connack)
    }

    fn through(gateway: &Running, connect: &Connect) -> (Self, ConnAck) {
        Self::start(gateway.dial(A), connect)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet, or `None` when the connection was closed.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = split_frame(&mut self.buffer, 1 << 20).unwrap() {
                return Some(frame);
            }
            let mut bytes = [0; 4_096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&bytes[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came within {PATIENCE:?}"),
                Err(_) => return None,
            }
        }
    }

    /// The next packet of that kind; its bytes. What else comes is an error.
    pub fn expect(&mut self, packet: PacketType) -> Bytes {
        let frame = self.next().unwrap_or_else(|| panic!("closed instead of {packet:?}"));
        assert_eq!(frame.packet, packet, "{:02x?}", frame.bytes);
        frame.bytes
    }

    pub fn publish(&mut self, qos: u8, packet_id: u16, topic: &str, payload: &[u8]) {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend_from_slice(topic.as_bytes());
        if qos > 0 {
            body.extend_from_slice(&packet_id.to_be_bytes());
        }
        if self.level == Level::V5 {
            body.push(0);
        }
        body.extend_from_slice(payload);
        self.packet(0x30 | qos << 1, &body);
    }

    pub fn subscribe(&mut self, packet_id: u16, filters: &[String], qos: u8) {
        let mut body = packet_id.to_be_bytes().to_vec();
        if self.level == Level::V5 {
            body.push(0);
        }
        for filter in filters {
            body.extend_from_slice(&u16::try_from(filter.len()).unwrap().to_be_bytes());
            body.extend_from_slice(filter.as_bytes());
            body.push(qos);
        }
        self.packet(0x82, &body);
    }

    pub fn packet(&mut self, first: u8, body: &[u8]) {
        let mut bytes = vec![first];
        let mut length = body.len();
        loop {
            let byte = u8::try_from(length & 0x7f).unwrap();
            length >>= 7;
            bytes.push(if length > 0 { byte | 0x80 } else { byte });
            if length == 0 {
                break;
            }
        }
        bytes.extend_from_slice(body);
        self.send(&bytes);
    }
}

fn connect(level: Level, keep_alive: u16) -> Connect {
    let mut c = Connect::new(client_id(IMSI_A), true, keep_alive);
    c.level = level;
    c
}

/// A broker whose plain listener closes on QoS 2, and the stage around it.
fn strict() -> (Stage, SocketAddr) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(&dir.path().join("ca"));
    let (certificate, key) = authority.server();
    let tls = Tls {
        client_ca: authority.file("clients.pem"),
        certificate,
        key,
        version: None,
        identity_as_username: true,
    };
    let port = free_port();
    let broker = Mosquitto::start_with(
        dir.path(),
        Some(tls),
        &format!("listener {port} 127.0.0.1\nmax_qos 1\n"),
    );
    let stage = Stage { broker, authority, dir };
    for imsi in [IMSI_A, IMSI_B, IMSI_T] {
        stage
            .authority
            .device(Kind::Ec, &name(imsi), &name(imsi), &stage.credentials());
    }
    (stage, (Ipv4Addr::LOCALHOST, port).into())
}

#[test]
fn qos_2_and_many_filters_reach_a_broker_that_takes_neither() {
    let (stage, upstream) = strict();
    let plain = TcpStream::connect(upstream).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut alone, _) = Client::start(plain, &connect(Level::V3, 60));
    alone.publish(2, 7, "t", b"x");
    assert!(alone.next().is_none(), "the judge closes on QoS 2");

    let gateway = Running::start(
        &stage.config_text(upstream, "kind = 'aws-iot'\ntls = 'off'"),
        stage.dir.path(),
    );
    let (mut device, _) = Client::through(&gateway, &connect(Level::V3, 0));
    let filters: Vec<String> = (0..20).map(|n| format!("f/{n}")).collect();
    device.subscribe(7, &filters, 2);
    let suback = device.expect(PacketType::SubAck);
    assert_eq!(
        suback,
        [&[0x90, 22, 0, 7][..], &[1; 20]].concat(),
        "one answer for three SUBSCRIBEs"
    );
    device.publish(2, 9, "f/19", b"twice adapted");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let frame = device.next().unwrap();
        if frame.packet == PacketType::Publish {
            assert!(frame.bytes.ends_with(b"twice adapted"));
        } else {
            assert_eq!(frame.bytes, &b"\x50\x02\x00\x09"[..], "PUBREC");
        }
        seen.push(frame.packet);
    }
    assert!(
        seen.contains(&PacketType::Publish) && seen.contains(&PacketType::PubRec),
        "{seen:?}"
    );
    device.send(b"\x62\x02\x00\x09");
    assert_eq!(device.expect(PacketType::PubComp), &b"\x70\x02\x00\x09"[..]);
    device.send(b"\xc0\x00");
    device.expect(PacketType::PingResp);
    let log = stage.broker.log().join("\n");
    let subscribes = log
        .lines()
        .filter(|l| l.contains("Received SUBSCRIBE from myClient-"))
        .count();
    assert_eq!(subscribes, 3, "{log}");
    assert!(log.contains("k1200"), "keep-alive 0 becomes upstream's longest:\n{log}");
    // What AWS IoT Core would close on is told.
    device.subscribe(8, &["$SYS/#".to_owned(), "ok".to_owned()], 1);
    assert_eq!(device.expect(PacketType::SubAck), &b"\x90\x04\x00\x08\x80\x01"[..]);
    device.publish(1, 11, "1/2/3/4/5/6/7/8/9", b"x");
    assert!(device.next().is_none(), "no acknowledgement for what did not arrive");
    assert!(!stage.broker.log().iter().any(|l| l.contains("1/2/3/4/5")));
}

#[test]
fn mqtt_5_is_told_beforehand_and_refused_by_name() {
    let (stage, _) = strict();
    let config = stage.config_text(stage.upstream(), "kind = 'event-grid'\n[policy]\nretain = 'adapt'\n");
    let config = config.replace(
        "[credentials]",
        "append_imsi = true\ntopic_placeholders = true\n[credentials]",
    );
    let gateway = Running::start(&config, stage.dir.path());
    let mut hello = connect(Level::V5, 60);
    let mut section = Vec::new();
    properties::put(&mut section, id::RECEIVE_MAXIMUM, Value::Two(5)).unwrap();
    hello.properties = section.into();
    let (mut device, connack) = Client::through(&gateway, &hello);
    let told = connack.properties();
    assert_eq!((connack.code, told.byte(id::MAXIMUM_QOS)), (0, Some(1)));
    assert_eq!(
        told.four(id::MAXIMUM_PACKET),
        Some(256 << 10),
        "the listener's, which is the lowest"
    );
    assert_eq!(
        (told.byte(id::SHARED_AVAILABLE), told.byte(id::IDENTIFIERS_AVAILABLE)),
        (Some(0), Some(0))
    );
    assert_eq!(told.two(id::TOPIC_ALIAS_MAXIMUM), Some(10), "mosquitto's");

    device.subscribe(3, &["d/{{imsi}}/#".to_owned(), "$share/g/x".to_owned()], 1);
    assert_eq!(device.expect(PacketType::SubAck), &b"\x90\x05\x00\x03\x00\x01\x9e"[..]);
    // A message to be retained, on a topic with a placeholder: it comes back on the real one, and is not kept.
    let topic = "d/{{imsi}}";
    let body = [&[0, 10][..], topic.as_bytes(), &[0, 4, 0], b"hello"].concat();
    device.packet(0x33, &body);
    let mut delivered = None;
    for _ in 0..2 {
        let frame = device.next().unwrap();
        match frame.packet {
            PacketType::PubAck => assert_eq!(frame.bytes[..4], b"\x40\x02\x00\x04"[..]),
            _ => delivered = Some(frame),
        }
    }
    let delivered = delivered.unwrap();
    let real = format!("d/{IMSI_A}/{IMSI_A}");
    assert_eq!(delivered.publish_topic(), Some(real.as_bytes()));
    let (mut witness, _) = Client::start(
        {
            let s = TcpStream::connect((Ipv4Addr::LOCALHOST, stage.broker.plain_port)).unwrap();
            s.set_read_timeout(Some(PATIENCE)).unwrap();
            s
        },
        &Connect::new("witness", true, 60),
    );
    witness.subscribe(1, &["#".to_owned()], 0);
    witness.expect(PacketType::SubAck);
    witness.send(b"\xc0\x00");
    assert_eq!(
        witness.next().unwrap().packet,
        PacketType::PingResp,
        "nothing was retained"
    );
    // Too large: told, discarded, and the connection stays.
    device.publish(1, 5, "big", &vec![b'x'; 300 << 10]);
    let puback = device.expect(PacketType::PubAck);
    assert_eq!((puback[3], puback[4]), (5, 0x97), "{puback:02x?}");
    device.publish(1, 6, "e", b"x");
    let puback = device.expect(PacketType::PubAck);
    assert_eq!((puback[1].min(3), puback[3]), (puback[1], 6), "{puback:02x?}");
    assert!(puback.get(4).is_none_or(|code| *code < 0x80));
    device.publish(2, 7, "e", b"x");
    let goodbye = device.expect(PacketType::Disconnect);
    assert_eq!(goodbye[2], 0x9b);
    assert!(device.next().is_none());
}

#[test]
fn mqtt_5_before_a_hub_that_has_none() {
    let (stage, _) = strict();
    let gateway = Running::start(
        &stage.config_text(stage.upstream(), "kind = 'iot-hub'"),
        stage.dir.path(),
    );
    let (mut device, connack) = Client::through(&gateway, &connect(Level::V5, 60));
    assert_eq!(connack.code, 0x84);
    assert!(device.next().is_none());
    assert_eq!(gateway.status.refused("version"), 1);
    let (_device, connack) = Client::through(&gateway, &connect(Level::V3, 60));
    assert_eq!(connack.code, 0);
    let (_device, connack) = Client::through(&gateway, &Connect::new("", true, 60));
    assert_eq!(connack.code, 2);
    assert_eq!(gateway.status.refused("policy"), 1);
}

#[test]
fn over_the_rate_a_device_waits_and_nothing_is_lost() {
    let (stage, _) = strict();
    let config = stage.config_text(stage.upstream(), "[rate]\nmessages = 20\nburst = 1\n");
    let gateway = Running::start(&config, stage.dir.path());
    let (mut device, _) = Client::through(&gateway, &connect(Level::V3, 60));
    let begin = Instant::now();
    for n in 1..=60 {
        device.publish(1, n, "t", b"x");
    }
    for n in 1..=60_u16 {
        let puback = device.expect(PacketType::PubAck);
        assert_eq!(puback[2..], n.to_be_bytes());
    }
    let took = begin.elapsed();
    assert!(
        took > Duration::from_millis(1_900),
        "60 messages, 20 at once and 20 a second, took {took:?}"
    );
}

/// A gateway before a stand-in, with the device that the stand-in knows.
fn before(clouds: &Clouds, cloud: Cloud, dir: &std::path::Path, device: &str, kind: &str) -> Running {
    clouds.write_device(device).unwrap();
    let address = clouds.address(cloud).unwrap();
    let host = match cloud {
        Cloud::AwsIot => onyx::bench::clouds::stand_in::Hosts::default().aws_iot,
        _ => onyx::bench::clouds::stand_in::Hosts::default().event_grid,
    };
    let config = format!(
        "[listen]\naddress = '127.0.0.1:0'\nmax_packet = '1MiB'\ndrain_timeout = '0s'\n\
         [upstream]\nhost = '{host}'\naddress = '{address}'\nca_file = 'ca.pem'\nkind = '{kind}'\n\
         [device]\ncredential = '{device}'\nusername = '{device}'\n[credentials]\nfolder = 'devices'\n\
         [[subscriber]]\nimsi = '{IMSI_A}'\nsource = '{A}'\n[status]\nsocket = 'status.sock'\n"
    );
    Running::start(&config, dir)
}

#[test]
fn stand_ins_that_punish_have_nothing_to_punish() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut config = Config::new(dir.path());
    config.only = vec![Cloud::AwsIot, Cloud::EventGrid];
    let clouds = runtime.block_on(Clouds::start(config)).unwrap();
    let device = "dev-1";
    for (cloud, kind) in [(Cloud::AwsIot, "aws-iot"), (Cloud::EventGrid, "event-grid")] {
        let gateway = before(&clouds, cloud, dir.path(), device, kind);
        let (mut c, connack) = Client::through(&gateway, &Connect::new(device, true, 0));
        assert_eq!(connack.code, 0, "{kind}");
        let topic = onyx::cloud::event_grid::DEFAULT_TOPIC.to_owned();
        c.publish(2, 9, &topic, b"qos 2");
        assert_eq!(c.expect(PacketType::PubRec), &b"\x50\x02\x00\x09"[..], "{kind}");
        c.send(b"\x62\x02\x00\x09");
        c.expect(PacketType::PubComp);
        c.subscribe(3, &["1/2/3/4/5/6/7/8/9".to_owned()], 0);
        assert_eq!(c.expect(PacketType::SubAck), &b"\x90\x03\x00\x03\x80"[..], "{kind}");
        c.publish(1, 10, &topic, b"still there");
        assert_eq!(c.expect(PacketType::PubAck), &b"\x40\x02\x00\x0a"[..], "{kind}");
        let arrived = clouds.messages().iter().filter(|m| m.cloud == cloud).count();
        assert_eq!(arrived, 2, "{kind}: each message once");
    }
    runtime.block_on(clouds.stop());
}

/// More filters than AWS takes go up over several round trips; what the device says about one of them meanwhile must not overtake it.
#[test]
fn an_unsubscribe_does_not_overtake_a_subscribe_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut config = Config::new(dir.path());
    config.only = vec![Cloud::AwsIot];
    let clouds = runtime.block_on(Clouds::start(config)).unwrap();
    let device = "dev-1";
    let gateway = before(&clouds, Cloud::AwsIot, dir.path(), device, "aws-iot");
    let (mut c, connack) = Client::through(&gateway, &Connect::new(device, true, 0));
    assert_eq!(connack.code, 0);
    let filters: Vec<String> = (0..20).map(|n| format!("f/{n}")).collect();
    c.subscribe(3, &filters, 0);
    c.packet(0xa2, b"\x00\x04\x00\x04f/19");
    let suback = c.expect(PacketType::SubAck);
    assert_eq!((suback.len(), &suback[2..4]), (4 + 20, &b"\x00\x03"[..]));
    assert!(suback[4..].iter().all(|code| *code < 3), "{suback:02x?}");
    assert_eq!(c.expect(PacketType::UnsubAck), &b"\xb0\x02\x00\x04"[..]);
    c.publish(0, 0, "f/19", b"unsubscribed");
    c.publish(0, 0, "f/18", b"subscribed");
    let came = c.expect(PacketType::Publish);
    assert!(came.ends_with(b"f/18subscribed"), "{came:02x?}");
    runtime.block_on(clouds.stop());
}
