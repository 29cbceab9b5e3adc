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

#[test]
fn other_versions_and_broken_rules_are_told_apart() {
    assert!(matches!(
        Connect::decode(b"\x00\x04MQTT\x05\x02\x00\x3c"),
        Err(ConnectError::Protocol { level: 5, .. })
    ));
    assert!(matches!(
        Connect::decode(b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a"),
        Err(ConnectError::Protocol { level: 3, .. })
    ));
    for (bytes, why) in [
        (&b"\x00\x04MQTT\x04\x03\x00\x3c\x00\x01a"[..], "reserved"),
        (b"\x00\x04MQTT\x04\x42\x00\x3c\x00\x01a\x00\x01p", "without a user name"),
        (b"\x00\x04MQTT\x04\x0a\x00\x3c\x00\x01a", "without a will"),
        (b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x09a", "longer"),
        (b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01az", "left over"),
        (b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\x00", "U+0000"),
    ] {
        let e = Connect::decode(bytes).unwrap_err().to_string();
        assert!(e.contains(why), "{e} should say {why}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        client_id in "[a-zA-Z0-9-]{0,40}", clean: bool, keep_alive: u16,
        login in proptest::option::of(("[^\0]{0,20}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)))),
        will in proptest::option::of(("[a-z/]{1,20}", proptest::collection::vec(any::<u8>(), 0..20), 0u8..3, any::<bool>())),
    ) {
        let mut c = Connect::new(client_id, clean, keep_alive);
        if let Some((u, p)) = login { c.username = Some(u); c.password = p.map(Bytes::from); }
        c.will = will.map(|(topic, payload, qos, retain)| Will { topic, payload: payload.into(), qos, retain, properties: Bytes::new() });
        prop_assert_eq!(Connect::decode(&body(&c.encode().unwrap())).unwrap(), c);
    }

    #[test]
    fn any_body_is_survived(bytes: Vec<u8>) { let _ = Connect::decode(&bytes); }

    /// rumqttc's decoder is the oracle for what it can represent.
    #[test]
    fn rumqttc_reads_what_we_write(client_id in "[a-zA-Z0-9-]{1,40}", keep_alive: u16, user in proptest::option::of("[a-z]{1,9}")) {
        let mut c = Connect::new(client_id, true, keep_alive);
        c.username = user;
        let mut bytes = BytesMut::from(&c.encode().unwrap()[..]);
        let rumqttc::mqttbytes::v4::Packet::Connect(theirs) = rumqttc::mqttbytes::v4::Packet::read(&mut bytes, 1 << 20).unwrap() else { panic!("not a CONNECT") };
        prop_assert_eq!(&theirs.client_id, &c.client_id);
        prop_assert_eq!(theirs.keep_alive, c.keep_alive);
        prop_assert_eq!(theirs.login.map(|l| l.username), c.username);
    }
}
