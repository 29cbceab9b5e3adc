//! What one side writes the other reads, and nothing that comes does harm.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rumqttc::mqttbytes::v4 as peer4;
use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5 as peer5;

use super::*;
use crate::mqtt::split_frame;

/// Larger than any packet of these tests, in bytes.
const LIMIT: usize = 1 << 20;

fn frame(bytes: &[u8]) -> Frame {
    split_frame(&mut BytesMut::from(bytes), LIMIT).unwrap().unwrap()
}

fn read5(bytes: &[u8]) -> Result<Packet, Malformed> {
    read(Version::V5, frame(bytes))
}

/// What a client of rumqttc makes of our bytes.
fn peer_reads(bytes: &[u8]) -> peer5::Packet {
    peer5::Packet::read(&mut BytesMut::from(bytes), None).unwrap()
}

#[test]
fn short_forms_of_version_5_are_read_and_written() {
    let normal = Packet::Disconnect {
        reason: 0,
        expiry: None,
        user_properties: false,
    };
    assert_eq!(read5(b"\xe0\x00"), Ok(normal.clone()));
    assert_eq!(read5(b"\xe0\x02\x00\x00"), Ok(normal));
    let with_will = Packet::Disconnect {
        reason: 4,
        expiry: None,
        user_properties: false,
    };
    assert_eq!(read5(b"\xe0\x01\x04"), Ok(with_will));
    let expiry = Packet::Disconnect {
        reason: 0,
        expiry: Some(1),
        user_properties: true,
    };
    assert_eq!(
        read5(b"\xe0\x0e\x00\x0c\x11\x00\x00\x00\x01\x26\x00\x01a\x00\x01b"),
        Ok(expiry)
    );
    for (bytes, want) in [
        (&b"\x40\x02\x00\x07"[..], 0),
        (b"\x40\x03\x00\x07\x00", 0),
        (b"\x40\x04\x00\x07\x87\x00", 0x80),
    ] {
        let ack = Packet::PubAck {
            id: 7,
            reason: want,
            user_properties: false,
        };
        assert_eq!(read5(bytes), Ok(ack), "{bytes:x?}");
    }
    for (out, bytes) in [
        (Out::PubAck(7, 0), &b"\x40\x02\x00\x07"[..]),
        (Out::PubAck(7, 0x87), b"\x40\x04\x00\x07\x87\x00"),
        (Out::SubAck(7, vec![1, 0x87]), b"\x90\x05\x00\x07\x00\x01\x87"),
        (Out::UnsubAck(7, vec![0x11]), b"\xb0\x04\x00\x07\x00\x11"),
        (Out::Disconnect(0x8e), b"\xe0\x02\x8e\x00"),
        (Out::Refused(0x87), b"\x20\x03\x00\x87\x00"),
        (Out::PingResp, b"\xd0\x00"),
    ] {
        assert_eq!(write(Version::V5, &out).unwrap(), bytes, "{out:?}");
        // rumqttc reads all of them; of the size of a DISCONNECT it has its own idea.
        let theirs = peer_reads(bytes);
        let is_disconnect = matches!(&theirs, peer5::Packet::Disconnect(d) if d.reason_code as u8 == 0x8e);
        assert!(is_disconnect || theirs.size() == bytes.len(), "{theirs:?}");
    }
    assert_eq!(
        write(Version::V4, &Out::Disconnect(0x8e)).unwrap(),
        b""[..],
        "3.1.1 has none"
    );
}

#[test]
fn what_rumqttc_lets_pass_is_refused() {
    for (bytes, why) in [
        (&b"\x30\x05\x00\x01a\x02\x01"[..], "longer than the packet"),
        (b"\x30\x07\x00\x01a\x02\x01\x02x", "payload format 2"),
        (b"\x30\x08\x00\x01a\x04\x01\x01\x01\x01", "twice"),
        (b"\x30\x06\x00\x01a\x02\x24\x01", "no property of a client"),
        (b"\x30\x09\x00\x01a\x05\x11\x00\x00\x00\x01", "does not belong here"),
        (b"\x30\x07\x00\x01a\x02\x03\x00\x09", "longer than its section"),
        (b"\x30\x07\x00\x01a\x02\x01\x01\xff", "not the UTF-8"),
        (b"\x30\x03\x00\x00\x00", "neither topic nor alias"),
        (b"\x30\x04\x00\x01\xff\x00", "UTF-8"),
        (b"\x30\x08\x00\x01a\x04\x08\x00\x01#", "no response topic"),
        (b"\x82\x07\x00\x00\x00\x00\x01a\x01", "identifier 0"),
        (b"\x80\x07\x00\x01\x00\x00\x01a\x01", "flags"),
        (b"\x82\x10\x00\x01\x00\x00\x0a$share/g/a\x04", "no-local"),
        (b"\xa2\x03\x00\x01\x00", "without filter"),
        (b"\xe0\x03\x00\x00\x00", "left over"),
        (b"\xc1\x00", "flags"),
    ] {
        let e = read5(bytes).unwrap_err().to_string();
        assert!(e.contains(why), "{bytes:x?}: {e} should say {why}");
    }
    let hello = |bytes: &[u8]| read_connect(&frame(bytes), true).unwrap_err().to_string();
    for (bytes, why) in [
        (&b"\x10\x0e\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x01s"[..], "reserved"),
        (b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01sx", "left over"),
        (
            b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x03\x21\x00\x00\x00\x01s",
            "maximum is 0",
        ),
        (
            b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x02\x19\x02\x00\x01s",
            "neither 0 nor 1",
        ),
        (b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x3c\x00\x00", "ends too early"),
    ] {
        let e = hello(bytes);
        assert!(e.contains(why), "{bytes:x?}: {e} should say {why}");
    }
    // Where version 5 is not spoken, the same bytes are another version.
    let five = frame(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01s");
    assert!(read_connect(&five, true).is_ok());
    assert!(matches!(
        read_connect(&five, false),
        Err(ConnectRefused::Four(ConnectError::Protocol { level: 5, .. }))
    ));
}

fn user() -> impl Strategy<Value = Vec<(String, String)>> {
    vec(("[a-zé]{0,9}", "[a-zé]{0,9}"), 0..4)
}

prop_compose! {
    fn properties()(payload_format in option::of(0u8..1), content_type in option::of("[a-z/]{0,9}"),
        response_topic in option::of("[a-z/]{1,9}"), correlation in option::of(vec(any::<u8>(), 0..9)), user in user()) -> Properties {
        Properties { payload_format, content_type, response_topic, correlation: correlation.map(Bytes::from), user }
    }
}

prop_compose! {
    fn publish()(dup: bool, qos in 0u8..2, retain: bool, topic in "[a-zé/]{1,30}", id in 1u16.., payload in vec(any::<u8>(), 0..300),
        alias in option::of(1u16..), expiry in option::of(1u32..), properties in properties()) -> Publish {
        Publish { dup, qos, retain, topic, id: if qos == 0 { 0 } else { id }, payload: payload.into(), alias, expiry, properties }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A PUBLISH that we write is what rumqttc's client reads; what it would send back is what we read.
    #[test]
    fn a_publish_goes_there_and_back(p in publish()) {
        let bytes = write(Version::V5, &Out::Publish(p.clone())).unwrap();
        let theirs = peer_reads(&bytes);
        let mut again = BytesMut::new();
        theirs.write(&mut again, None).unwrap();
        prop_assert_eq!(&again[..], &bytes[..]);
        prop_assert_eq!(read5(&bytes).unwrap(), Packet::Publish(p.clone()));
        // In 3.1.1 everything but alias, expiry and properties arrives.
        let bytes = write(Version::V4, &Out::Publish(p.clone())).unwrap();
        let plain = Publish { alias: None, expiry: None, properties: Properties::default(), ..p };
        prop_assert_eq!(read(Version::V4, frame(&bytes)).unwrap(), Packet::Publish(plain));
    }

    /// A CONNECT of rumqttc's client arrives whole.
    #[test]
    fn a_connect_arrives(client in "[a-z]{1,20}", clean: bool, keep_alive: u16, expiry in option::of(any::<u32>()),
        receive in option::of(1u16..), login in option::of(("[a-z]{1,9}", "[a-z]{1,9}")), will in option::of((properties(), any::<u32>(), any::<bool>())), user in user()) {
        let connect = peer5::Connect { keep_alive, client_id: client.clone(), clean_start: clean, properties: Some(peer5::ConnectProperties {
            session_expiry_interval: expiry, receive_maximum: receive, user_properties: user.clone(), ..peer5::ConnectProperties::new() }) };
        let last = will.clone().map(|(p, delay, retain)| peer5::LastWill::new("w/t", b"bye".to_vec(), QoS5::AtLeastOnce, retain, Some(peer5::LastWillProperties {
            delay_interval: Some(delay), payload_format_indicator: p.payload_format, message_expiry_interval: None, content_type: p.content_type,
            response_topic: p.response_topic, correlation_data: p.correlation, user_properties: p.user })));
        let login5 = login.clone().map(|(u, p)| peer5::Login::new(u, p));
        let mut bytes = BytesMut::new();
        peer5::Packet::Connect(connect, last, login5).write(&mut bytes, None).unwrap();
        let hello = read_connect(&frame(&bytes), true).unwrap();
        let five = hello.five.unwrap();
        prop_assert_eq!((hello.connect.client_id, hello.connect.clean_session, hello.connect.keep_alive), (client, clean, keep_alive));
        prop_assert_eq!((five.session_expiry, five.receive_maximum), (expiry.unwrap_or(0), receive.unwrap_or(u16::MAX)));
        prop_assert_eq!(five.user_properties, !user.is_empty());
        prop_assert_eq!(hello.connect.username, login.map(|l| l.0));
        if let Some((p, delay, retain)) = will {
            prop_assert_eq!((five.will, five.will_delay, hello.connect.will.unwrap().retain), (p, delay, retain));
        }
    }

    /// SUBSCRIBE and UNSUBSCRIBE of rumqttc's clients arrive whole.
    #[test]
    fn filters_arrive(filters in vec(("[a-z/+]{1,9}", 0u8..3, any::<bool>(), any::<bool>(), 0u8..3), 1..6), id in 1u16.., user in user()) {
        let five = peer5::Subscribe { pkid: id, properties: Some(peer5::SubscribeProperties { id: None, user_properties: user.clone() }),
            filters: filters.iter().map(|(path, qos, nolocal, preserve_retain, rule)| peer5::Filter { path: path.clone(), nolocal: *nolocal, preserve_retain: *preserve_retain,
                qos: rumqttc::v5::mqttbytes::qos(*qos).unwrap(), retain_forward_rule: match rule { 0 => peer5::RetainForwardRule::OnEverySubscribe,
                    1 => peer5::RetainForwardRule::OnNewSubscribe, _ => peer5::RetainForwardRule::Never } }).collect() };
        let mut bytes = BytesMut::new();
        five.write(&mut bytes).unwrap();
        let Packet::Subscribe { id: got, filters: wanted, identifier, user_properties } = read5(&bytes).unwrap() else { panic!("no SUBSCRIBE") };
        prop_assert_eq!((got, identifier, user_properties), (id, false, !user.is_empty()));
        for (w, (path, qos, no_local, rap, rule)) in wanted.iter().zip(&filters) {
            prop_assert_eq!((&w.filter, w.qos, w.no_local, w.retain_as_published, w.retained as u8), (path, *qos, *no_local, *rap, *rule));
        }
        let four = peer4::Unsubscribe { pkid: id, topics: filters.iter().map(|f| f.0.clone()).collect() };
        let mut bytes = BytesMut::new();
        four.write(&mut bytes).unwrap();
        let Packet::Unsubscribe { filters: got, .. } = read(Version::V4, frame(&bytes)).unwrap() else { panic!("no UNSUBSCRIBE") };
        prop_assert_eq!(got, four.topics);
    }

    /// CONNACK's terms are read by rumqttc's client.
    #[test]
    fn terms_arrive(present: bool, expiry in option::of(any::<u32>()), receive_maximum in 1u16.., packet_maximum in 1u32.., alias: u16, keep_alive in option::of(any::<u16>())) {
        let terms = Terms { session_expiry: expiry, receive_maximum, packet_maximum, topic_alias_maximum: alias, retain: true, shared: false, identifiers: false, keep_alive };
        let peer5::Packet::ConnAck(ack) = peer_reads(&write(Version::V5, &Out::Welcome { present, terms: Some(terms) }).unwrap()) else { panic!("no CONNACK") };
        let p = ack.properties.unwrap();
        prop_assert_eq!((ack.session_present, p.session_expiry_interval, p.receive_max, p.max_packet_size), (present, expiry, Some(receive_maximum), Some(packet_maximum)));
        prop_assert_eq!((p.max_qos, p.shared_subscription_available, p.subscription_identifiers_available, p.retain_available), (Some(1), Some(0), Some(0), None));
        prop_assert_eq!((p.topic_alias_max.unwrap_or(0), p.server_keep_alive), (alias, keep_alive));
    }
}

/// Whole packets of this many bytes or fewer are made up of random bytes.
const RANDOM_MAX: usize = 200;

/// Everything in a stream, read as the wire does, however it is cut.
fn everything(bytes: &[u8], cuts: &[usize], version: Version) -> Vec<Result<Packet, Malformed>> {
    let mut buffer = BytesMut::new();
    let mut all = Vec::new();
    let mut rest = bytes;
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let take = cuts.next().map_or(1, |&c| c.max(1)).min(rest.len());
        let (now, later) = rest.split_at(take);
        buffer.extend_from_slice(now);
        rest = later;
        loop {
            match split_frame(&mut buffer, RANDOM_MAX) {
                Ok(Some(frame)) => {
                    let _ = read_connect(&frame, true);
                    all.push(read(version, frame));
                }
                Ok(None) => break,
                Err(_) => return all,
            }
        }
        assert!(buffer.len() < RANDOM_MAX + take && buffer.capacity() <= 4 * (RANDOM_MAX + bytes.len()));
    }
    all
}

/// A packet of a good fixed header and whatever body.
fn packet_like() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), vec(prop_oneof![any::<u8>(), 0u8..6, Just(38u8)], 0..100)).prop_map(|(first, body)| {
        let mut bytes = vec![first];
        crate::mqtt::frame::put_length(&mut bytes, body.len());
        bytes.extend(body);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Any bytes, cut anywhere: no panic, no hang, no growing, and the same packets however they are cut.
    #[test]
    fn any_bytes_are_survived(stream in prop_oneof![vec(any::<u8>(), 0..400), vec(packet_like(), 1..6).prop_map(|p| p.concat())],
        cuts in vec(1usize..50, 1..5)) {
        for version in [Version::V4, Version::V5] {
            let whole = everything(&stream, &[stream.len().max(1)], version);
            prop_assert_eq!(&everything(&stream, &cuts, version), &whole);
        }
    }

    /// A CONNECT with a good beginning and whatever after it.
    #[test]
    fn any_connect_is_survived(flags: u8, rest in vec(prop_oneof![any::<u8>(), 0u8..40], 0..60)) {
        let mut body = b"\x00\x04MQTT\x05".to_vec();
        body.push(flags);
        body.extend([0, 60]);
        body.extend(rest);
        let mut bytes = vec![0x10];
        crate::mqtt::frame::put_length(&mut bytes, body.len());
        bytes.extend(body);
        let _ = read_connect(&frame(&bytes), true);
    }
}

#[test]
fn what_3_1_1_does_not_know_is_malformed() {
    // MQTT 3.1.1: reserved bits of a filter's QoS (MQTT-3-8.3-4), and bytes after the last field.
    for bytes in [
        &b"\x82\x06\x00\x01\x00\x01a\x04"[..],
        b"\x82\x06\x00\x01\x00\x01a\x81",
        b"\x40\x03\x00\x01\x00",
        b"\xc0\x01\x00",
        b"\xe0\x01\x00",
        b"\xa2\x06\x00\x01\x00\x01a\x00",
        b"\xa2\x02\x00\x01",
        b"\x82\x02\x00\x01",
        b"\x82\x06\x00\x00\x00\x01a\x00",
    ] {
        let got = read(Version::V4, frame(bytes));
        assert!(matches!(got, Err(Malformed::Form(_))), "{bytes:x?}: {got:?}");
    }
}

#[test]
fn what_5_does_not_know_is_malformed() {
    // MQTT 5: a filter's reserved bits (MQTT-3.8.3-5), and bytes after the last property.
    for bytes in [
        &b"\x82\x07\x00\x01\x00\x00\x01a\x40"[..],
        b"\x82\x07\x00\x01\x00\x00\x01a\x03",
        b"\x82\x07\x00\x01\x00\x00\x01a\x30",
        b"\x40\x05\x00\x01\x00\x00\x00",
        b"\xc0\x01\x00",
        // U+0000, and what is no UTF-8, in a content type, a user property, a reason and a filter (MQTT-1.5.4-1, -2).
        b"\x30\x08\x00\x01a\x04\x03\x00\x01\x00",
        b"\x30\x08\x00\x01a\x04\x03\x00\x01\xff",
        b"\x30\x0b\x00\x01a\x07\x26\x00\x01k\x00\x01\x00",
        b"\xe0\x06\x00\x04\x1f\x00\x01\x00",
        b"\xa2\x06\x00\x01\x00\x00\x01\x00",
    ] {
        let got = read5(bytes);
        assert!(matches!(got, Err(Malformed::Form(_))), "{bytes:x?}: {got:?}");
    }
    // The same packets with a letter there are taken.
    for bytes in [
        &b"\x30\x08\x00\x01a\x04\x03\x00\x01x"[..],
        b"\x30\x0b\x00\x01a\x07\x26\x00\x01k\x00\x01x",
        b"\xe0\x06\x00\x04\x1f\x00\x01x",
        b"\xa2\x06\x00\x01\x00\x00\x01x",
    ] {
        assert!(read5(bytes).is_ok(), "{bytes:x?}: {:?}", read5(bytes));
    }
}

#[test]
fn a_user_name_has_no_nul() {
    let connect = |user: u8| {
        let head = b"\x10\x11\x00\x04MQTT\x05\x82\x00\x3c\x00\x00\x01c\x00\x01";
        let bytes = [&head[..], &[user]].concat();
        read_connect(&frame(&bytes), true)
    };
    assert!(connect(b'u').is_ok(), "{:?}", connect(b'u'));
    assert!(
        matches!(connect(0), Err(ConnectRefused::Five(Malformed::Form(_)))),
        "{:?}",
        connect(0)
    );
}
