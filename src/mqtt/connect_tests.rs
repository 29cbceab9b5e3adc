use super::*;
use bytes::BytesMut;
use proptest::prelude::*;

fn body(packet: &[u8]) -> Bytes {
    let f = crate::mqtt::split_frame(&mut BytesMut::from(packet), 1 << 20)
        .unwrap()
        .unwrap();
    f.bytes.slice(f.body_at..)
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let mut c = Connect::new("id", true, 60);
    c.username = Some("u".into());
    c.password = Some(Bytes::from_static(&[0xff, 0x00]));
    let bytes = c.encode().unwrap();
    assert_eq!(
        bytes,
        b"\x10\x15\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02id\x00\x01u\x00\x02\xff\x00"
    );
    assert_eq!(Connect::decode(&body(&bytes)).unwrap(), c);
    assert!(!format!("{c:?}").contains("255"));
}

/// Properties of CONNECT and of its will, of every kind.
const CONNECT: &[u8] = b"\x11\x00\x00\x00\x3c\x21\x00\x14\x27\x00\x00\x10\x00\x22\x00\x05\x19\x01\x17\x00\x15\x00\x01m\x16\x00\x01d\x26\x00\x01k\x00\x01v";
const WILL: &[u8] =
    b"\x18\x00\x00\x00\x05\x01\x01\x02\x00\x00\x00\x3c\x03\x00\x02ct\x08\x00\x01r\x09\x00\x01c\x26\x00\x01k\x00\x01v";

#[test]
fn version_5_keeps_its_properties_as_they_came() {
    let mut c = Connect::new("id", true, 60);
    c.level = Level::V5;
    c.properties = Bytes::from_static(CONNECT);
    c.password = Some(Bytes::from_static(&[0xff, 0x00]));
    c.will = Some(Will {
        topic: "w".into(),
        payload: Bytes::from_static(b"x"),
        qos: 2,
        retain: true,
        properties: Bytes::from_static(WILL),
    });
    let bytes = c.encode().unwrap();
    let want = [
        b"\x00\x04MQTT\x05\x76\x00\x3c".as_slice(),
        &[u8::try_from(CONNECT.len()).unwrap()],
        CONNECT,
        b"\x00\x02id",
        &[u8::try_from(WILL.len()).unwrap()],
        WILL,
        b"\x00\x01w\x00\x01x\x00\x02\xff\x00",
    ]
    .concat();
    assert_eq!(&body(&bytes)[..], want);
    let read = Connect::decode(&want).unwrap();
    assert_eq!(read, c);
    assert_eq!(read.properties().four(properties::id::SESSION_EXPIRY), Some(60));
    assert_eq!(read.properties().two(properties::id::RECEIVE_MAXIMUM), Some(20));
    for cut in 0..want.len() {
        assert!(Connect::decode(&want[..cut]).is_err(), "cut at {cut}");
    }
    let shown = format!("{c:?}");
    assert!(!shown.contains("255") && !shown.contains("0xff"), "{shown}");
}

#[test]
fn other_protocols_are_told_apart() {
    let told = |body: &[u8]| Connect::decode(body).unwrap_err().to_string();
    let old = told(b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a");
    assert!(old.contains("it is MQTT 3.1;"), "{old}");
    assert!(told(b"\x00\x06MQIsdp\x83\x02\x00\x3c\x00\x01a").contains("it is MQTT 3.1;"));
    let six = told(b"\x00\x04MQTT\x06");
    assert!(six.contains("level 6") && !six.contains("3.1;"), "{six}");
    let long = [b"\x10\x00".as_slice(), &[b'x'; 4_096], &[4]].concat();
    assert!(told(&long).len() < 200);
    assert_eq!(protocol(b"\x00\x04MQTT\x05"), Ok(("MQTT", 5)));
    assert_eq!(level(b"\x00\x04MQTT\x05"), Ok(Level::V5));
    assert_eq!(level(b"\x00\x04MQTT\x04"), Ok(Level::V3));
}

#[test]
fn broken_rules_have_their_id() {
    // A CONNECT of 3.1.1 after its level, and one of 5.
    let three = |rest: &[u8]| [b"\x00\x04MQTT\x04", rest].concat();
    let five = |rest: &[u8]| [b"\x00\x04MQTT\x05", rest].concat();
    for (bytes, id) in [
        (b"\x00\x09MQTT".to_vec(), "truncated"),
        (b"\x00\x04MQT\xff\x04".to_vec(), "text"),
        (three(b"\x03\x00\x3c\x00\x01a"), "connect-reserved"),
        (three(b"\x42\x00\x3c\x00\x01a\x00\x01p"), "password-alone"),
        (three(b"\x0a\x00\x3c\x00\x01a"), "will-flags"),
        (three(b"\x22\x00\x3c\x00\x01a"), "will-flags"),
        (three(b"\x1e\x00\x3c\x00\x01a\x00\x01w\x00\x00"), "will-qos"),
        (three(b"\x1a\x00\x3c\x00\x01a"), "will-qos"),
        (three(b"\x06\x00\x3c\x00\x01a\x00\x01#\x00\x00"), "topic-wildcard"),
        (three(b"\x06\x00\x3c\x00\x01a\x00\x00\x00\x00"), "topic-empty"),
        (three(b"\x02\x00\x3c\x00\x09a"), "truncated"),
        (three(b"\x82\x00\x3c\x00\x01a"), "truncated"),
        (three(b"\x02\x00\x3c\x00\x01az"), "left-over"),
        (three(b"\x02\x00\x3c\x00\x01\x00"), "nul"),
        (three(b"\x82\x00\x3c\x00\x01a\x00\x03\xed\xa0\x80"), "text"),
        (five(b"\x02\x00\x3c"), "truncated"),
        (five(b"\x02\x00\x3c\x80\x00\x00\x01a"), "length-form"),
        (five(b"\x02\x00\x3c\xff\xff\xff\xff\x01\x00\x01a"), "remaining-length"),
        (five(b"\x02\x00\x3c\x7f\x00\x01a"), "property-length"),
        (five(b"\x02\x00\x3c\x03\x21\x00\x00\x00\x01a"), "receive-maximum-zero"),
        (
            five(b"\x02\x00\x3c\x05\x27\x00\x00\x00\x00\x00\x01a"),
            "maximum-packet-zero",
        ),
        (five(b"\x02\x00\x3c\x02\x17\x02\x00\x01a"), "request-problem"),
        (five(b"\x02\x00\x3c\x02\x19\x02\x00\x01a"), "request-response"),
        (five(b"\x02\x00\x3c\x04\x16\x00\x01d\x00\x01a"), "auth-data"),
        (five(b"\x02\x00\x3c\x03\x23\x00\x01\x00\x01a"), "property-place"),
        (five(b"\x02\x00\x3c\x01\x7e\x00\x01a"), "property-unknown"),
        (five(b"\x02\x00\x3c\x04\x17\x01\x17\x01\x00\x01a"), "property-twice"),
        (five(b"\x02\x00\x3c\x02\x21\x00\x00\x01a"), "property-value"),
        (
            five(b"\x06\x00\x3c\x00\x00\x01a\x02\x01\x02\x00\x01w\x00\x00"),
            "payload-format",
        ),
        (
            five(b"\x06\x00\x3c\x00\x00\x01a\x05\x11\x00\x00\x00\x01\x00\x01w\x00\x00"),
            "property-place",
        ),
        (
            five(b"\x06\x00\x3c\x00\x00\x01a\x04\x08\x00\x01#\x00\x01w\x00\x00"),
            "response-topic",
        ),
    ] {
        match Connect::decode(&bytes) {
            Err(ConnectError::Malformed(v)) => {
                assert_eq!((v.id(), v.packet), (id, Some(PacketType::Connect)), "{bytes:02x?}: {v}");
                assert!(!v.number().is_empty(), "{v}");
            }
            other => panic!("{bytes:02x?} should break {id}: {other:?}"),
        }
    }
    // What both specifications allow.
    for good in [
        five(b"\x42\x00\x3c\x00\x00\x01a\x00\x01p"),
        five(b"\x00\x00\x00\x00\x00\x00"),
        three(b"\x00\x00\x00\x00\x00"),
    ] {
        Connect::decode(&good).unwrap();
    }
}

#[test]
fn what_cannot_be_said_is_not_written() {
    let mut c = Connect::new("x".repeat(65_536), true, 60);
    let Err(ConnectError::Malformed(v)) = c.encode() else {
        panic!()
    };
    assert_eq!(v.id(), "field-size");
    c.client_id.pop();
    c.encode().unwrap();
}

/// A section of properties that a client may send in CONNECT or its will.
fn section(will: bool) -> impl Strategy<Value = Bytes> {
    use properties::{Value, id};
    let four = prop::option::of(1_u32..);
    let two = prop::option::of(1_u16..);
    let user = prop::collection::vec(("[a-z]{0,9}", "[^\0]{0,9}"), 0..3);
    (four.clone(), four, two.clone(), two, user, any::<Option<bool>>()).prop_map(move |(a, b, c, d, user, e)| {
        let mut out = Vec::new();
        let (numbers, flag) = if will {
            ([(id::WILL_DELAY, a), (id::MESSAGE_EXPIRY, b)], id::PAYLOAD_FORMAT)
        } else {
            ([(id::SESSION_EXPIRY, a), (id::MAXIMUM_PACKET, b)], id::REQUEST_PROBLEM)
        };
        for (id, n) in numbers {
            n.into_iter()
                .for_each(|n| properties::put(&mut out, id, Value::Four(n)).unwrap());
        }
        if !will {
            for (id, n) in [(id::RECEIVE_MAXIMUM, c), (id::TOPIC_ALIAS_MAXIMUM, d)] {
                n.into_iter()
                    .for_each(|n| properties::put(&mut out, id, Value::Two(n)).unwrap());
            }
        }
        e.into_iter()
            .for_each(|e| properties::put(&mut out, flag, Value::Byte(e.into())).unwrap());
        for (name, value) in &user {
            properties::put(&mut out, id::USER, Value::Pair(name, value)).unwrap();
        }
        out.into()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        client_id in "[a-zA-Z0-9-]{0,40}", clean: bool, keep_alive: u16,
        login in prop::option::of(("[^\0]{0,20}", prop::option::of(prop::collection::vec(any::<u8>(), 0..20)))),
        will in prop::option::of(("[a-z/]{1,20}", prop::collection::vec(any::<u8>(), 0..20), 0u8..3, any::<bool>())),
    ) {
        let mut c = Connect::new(client_id, clean, keep_alive);
        if let Some((u, p)) = login { c.username = Some(u); c.password = p.map(Bytes::from); }
        c.will = will.map(|(topic, payload, qos, retain)| Will { topic, payload: payload.into(), qos, retain, properties: Bytes::new() });
        prop_assert_eq!(Connect::decode(&body(&c.encode().unwrap())).unwrap(), c);
    }

    #[test]
    fn version_5_is_read_back_and_rumqttc_reads_the_same(
        client_id in "[a-zA-Z0-9-]{0,40}", clean: bool, keep_alive: u16, own in section(false), wills in section(true),
        login in prop::option::of(("[a-z]{1,20}", "[a-z]{1,20}")), will in prop::option::of(("[a-z/]{1,20}", any::<Vec<u8>>(), 0u8..3, any::<bool>())),
    ) {
        let mut c = Connect::new(client_id, clean, keep_alive);
        c.level = Level::V5;
        c.properties = own;
        c.will = will.map(|(topic, payload, qos, retain)| Will { topic, payload: payload.into(), qos, retain, properties: wills });
        if let Some((u, p)) = login { c.username = Some(u); c.password = Some(p.into()); }
        let bytes = c.encode().unwrap();
        prop_assert_eq!(&Connect::decode(&body(&bytes)).unwrap(), &c);
        use rumqttc::v5::mqttbytes::v5;
        let v5::Packet::Connect(theirs, will, login) = v5::Packet::read(&mut BytesMut::from(&bytes[..]), None).unwrap() else { panic!("not a CONNECT") };
        prop_assert_eq!((&theirs.client_id, theirs.keep_alive, theirs.clean_start), (&c.client_id, keep_alive, clean));
        let p = theirs.properties.unwrap_or_default();
        prop_assert_eq!(p.session_expiry_interval, c.properties().four(properties::id::SESSION_EXPIRY));
        prop_assert_eq!(p.receive_maximum, c.properties().two(properties::id::RECEIVE_MAXIMUM));
        prop_assert_eq!(p.max_packet_size, c.properties().four(properties::id::MAXIMUM_PACKET));
        prop_assert_eq!(p.user_properties.len(), c.properties().iter().filter(|p| p.id == properties::id::USER).count());
        prop_assert_eq!(login.map(|l| l.username), c.username);
        prop_assert_eq!(will.map(|w| (w.message, w.qos as u8, w.retain)), c.will.map(|w| (w.payload, w.qos, w.retain)));
    }

    #[test]
    fn any_body_is_survived(bytes: Vec<u8>, five: bool) {
        let _ = Connect::decode(&bytes);
        let _ = Connect::decode(&[&b"\x00\x04MQTT"[..], &[4 + u8::from(five)], &bytes].concat());
    }

    /// rumqttc's decoder is the oracle for what it can represent.
    #[test]
    fn rumqttc_reads_what_we_write(client_id in "[a-zA-Z0-9-]{1,40}", keep_alive: u16, user in prop::option::of("[a-z]{1,9}")) {
        let mut c = Connect::new(client_id, true, keep_alive);
        c.username = user;
        let mut bytes = BytesMut::from(&c.encode().unwrap()[..]);
        let rumqttc::mqttbytes::v4::Packet::Connect(theirs) = rumqttc::mqttbytes::v4::Packet::read(&mut bytes, 1 << 20).unwrap() else { panic!("not a CONNECT") };
        prop_assert_eq!(&theirs.client_id, &c.client_id);
        prop_assert_eq!(theirs.keep_alive, c.keep_alive);
        prop_assert_eq!(theirs.login.map(|l| l.username), c.username);
    }
}
