//! Byte vectors for every rule and every packet, each cut at every position.

mod oracle;
mod seeds;

use super::*;
use crate::mqtt::properties::Value;

/// For which versions and directions a vector holds.
type Sides = &'static [(Level, Direction)];

const UP3: (Level, Direction) = (Level::V3, Direction::Up);
const UP5: (Level, Direction) = (Level::V5, Direction::Up);
const DOWN3: (Level, Direction) = (Level::V3, Direction::Down);
const DOWN5: (Level, Direction) = (Level::V5, Direction::Down);

/// Largest packet in these tests, in bytes.
const LIMIT: usize = 1_024;

/// Five aliases, no authentication, no expiry.
fn checker((level, direction): (Level, Direction)) -> Checker {
    Checker::new(level, direction, LIMIT).with_topic_aliases(5)
}

/// What is said of the whole, having seen that every prefix waits or says the same, and that waiting for exactly what is wanted
/// leads there.
fn said(of: &Checker, bytes: &[u8]) -> Result<Option<Head>, Violation> {
    let whole = of.clone().look(bytes);
    for cut in 0..bytes.len() {
        match of.clone().look(&bytes[..cut]) {
            Ok(None) => {}
            early => assert_eq!(early, whole, "{bytes:02x?} cut at {cut}"),
        }
    }
    let mut have = 0;
    while have < bytes.len() && of.clone().look(&bytes[..have]) == Ok(None) {
        let wanted = of.wanted(&bytes[..have]);
        assert!(wanted > have, "{bytes:02x?}: {wanted} at {have}");
        have = wanted.min(bytes.len());
    }
    assert_eq!(of.clone().look(&bytes[..have]), whole, "{bytes:02x?} fed as wanted");
    whole.map(|look| look.map(|l| l.head))
}

fn broken(of: &Checker, bytes: &[u8]) -> &'static str {
    match said(of, bytes) {
        Err(v) => {
            assert_eq!(v.level, of.level());
            v.id()
        }
        Ok(_) => "passed",
    }
}

#[test]
fn every_rule_of_both_versions() {
    let vectors: &[(Sides, &[u8], &str)] = &[
        (&[UP3, UP5, DOWN3, DOWN5], b"\x00\x00", "packet-type"),
        (&[UP3, DOWN3], b"\xf0\x00", "packet-type"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x30\xff\xff\xff\xff", "remaining-length"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x30\xff\xff\x7f", "packet-size"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x30\xfe\x07", "packet-size"),
        (&[UP3, UP5], b"\xc1\x00", "flags"),
        (&[UP3, UP5], b"\x41\x02\x00\x01", "flags"),
        (&[UP3, UP5], b"\xe2\x00", "flags"),
        (&[UP3, UP5], b"\x10\x00", "connect-again"),
        (&[UP3, UP5], b"\x20\x00", "sender"),
        (&[UP3, UP5], b"\x90\x00", "sender"),
        (&[UP3, UP5], b"\xb0\x00", "sender"),
        (&[UP3, UP5], b"\xd0\x00", "sender"),
        (&[DOWN3, DOWN5], b"\x20\x00", "connack-again"),
        (&[DOWN3, DOWN5], b"\x10\x00", "sender"),
        (&[DOWN3, DOWN5], b"\x82\x00", "sender"),
        (&[DOWN3, DOWN5], b"\xa2\x00", "sender"),
        (&[DOWN3, DOWN5], b"\xc0\x00", "sender"),
        (&[DOWN3], b"\xe0\x00", "sender"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x36\x07\x00\x01a\x00\x09hi", "qos"),
        (&[UP3, UP5], b"\x38\x03\x00\x01a", "dup"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x30\x01\x00", "truncated"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x30\x03\x00\x09a", "truncated"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x32\x03\x00\x01a", "truncated"),
        (&[UP5, DOWN5], b"\x30\x03\x00\x01a", "truncated"),
        (&[UP5, DOWN5], b"\x30\x04\x00\x01a\x80", "truncated"),
        (
            &[UP5, DOWN5],
            b"\x30\x08\x00\x01a\x80\x80\x80\x80\x01",
            "remaining-length",
        ),
        (&[UP5, DOWN5], b"\x30\x05\x00\x01a\x80\x00", "length-form"),
        (&[UP5, DOWN5], b"\x30\x04\x00\x01a\x01", "property-length"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x30\x04\x00\x01\xff\x00", "text"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x30\x06\x00\x03\xed\xa0\x80\x00", "text"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x30\x04\x00\x01\x00\x00", "nul"),
        (&[UP3, UP5], b"\x30\x04\x00\x01#\x00", "topic-wildcard"),
        (&[UP3, UP5], b"\x30\x06\x00\x03a/+\x00", "topic-wildcard"),
        (&[UP3, UP5], b"\x30\x03\x00\x00\x00", "topic-empty"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x32\x06\x00\x01a\x00\x00\x00", "packet-id"),
        (&[UP5], b"\x30\x06\x00\x01a\x02\x01\x02", "payload-format"),
        (&[UP5], b"\x30\x07\x00\x01a\x03\x23\x00\x00", "alias-zero"),
        (&[UP5], b"\x30\x07\x00\x01a\x03\x23\x00\x06", "alias-maximum"),
        (&[UP5], b"\x30\x06\x00\x00\x03\x23\x00\x05", "alias-unknown"),
        (&[UP5], b"\x30\x08\x00\x01a\x04\x08\x00\x01#", "response-topic"),
        (&[UP5], b"\x30\x06\x00\x01a\x02\x0b\x01", "identifier-up"),
        (&[UP5, DOWN5], b"\x30\x06\x00\x01a\x02\x7f\x01", "property-unknown"),
        (&[UP5], b"\x30\x07\x00\x01a\x03\x21\x00\x01", "property-place"),
        (&[UP5, DOWN5], b"\x30\x05\x00\x01a\x01\x01", "property-value"),
        (&[UP5], b"\x30\x08\x00\x01a\x04\x01\x01\x01\x01", "property-twice"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x40\x01\x00", "truncated"),
        (&[UP3, UP5], b"\x40\x02\x00\x00", "ack-id"),
        (&[UP3], b"\x40\x03\x00\x01\x00", "left-over"),
        (&[UP5], b"\x40\x05\x00\x01\x00\x00\x00", "left-over"),
        (&[UP5], b"\x40\x03\x00\x01\x92", "puback-reason"),
        (&[UP5], b"\x50\x03\x00\x01\x01", "pubrec-reason"),
        (&[UP5], b"\x40\x04\x00\x01\x00\x01", "property-length"),
        (&[UP5], b"\x40\x06\x00\x01\x00\x02\x01\x01", "property-place"),
        (&[UP3, UP5], b"\x60\x02\x00\x01", "pubrel-flags"),
        (&[UP5], b"\x62\x03\x00\x01\x80", "pubrel-reason"),
        (&[UP5], b"\x70\x03\x00\x01\x80", "pubcomp-reason"),
        (&[UP3, UP5], b"\x80\x06\x00\x01\x00\x01a\x00", "subscribe-flags"),
        (&[UP3], b"\x82\x02\x00\x01", "subscribe-empty"),
        (&[UP5], b"\x82\x03\x00\x01\x00", "subscribe-empty"),
        (&[UP5], b"\x82\x02\x00\x01", "truncated"),
        (&[UP3], b"\x82\x06\x00\x00\x00\x01a\x00", "packet-id"),
        (&[UP5], b"\x82\x07\x00\x00\x00\x00\x01a\x00", "packet-id"),
        (&[UP3], b"\x82\x05\x00\x01\x00\x01a", "truncated"),
        (&[UP3], b"\x82\x06\x00\x01\x00\x09a\x00", "truncated"),
        (&[UP3], b"\x82\x06\x00\x01\x00\x01a\x03", "subscribe-qos"),
        (&[UP3], b"\x82\x06\x00\x01\x00\x01a\x04", "subscribe-options"),
        (&[UP5], b"\x82\x07\x00\x01\x00\x00\x01a\x03", "subscribe-qos"),
        (&[UP5], b"\x82\x07\x00\x01\x00\x00\x01a\x40", "subscribe-options"),
        (&[UP5], b"\x82\x07\x00\x01\x00\x00\x01a\x80", "subscribe-options"),
        (&[UP5], b"\x82\x07\x00\x01\x00\x00\x01a\x30", "retain-handling"),
        (&[UP5], b"\x82\x10\x00\x01\x00\x00\x0a$share/g/a\x04", "no-local-shared"),
        (&[UP5], b"\x82\x09\x00\x01\x02\x0b\x00\x00\x01a\x00", "identifier-zero"),
        (
            &[UP5],
            b"\x82\x0b\x00\x01\x04\x0b\x01\x0b\x02\x00\x01a\x00",
            "property-twice",
        ),
        (&[UP3], b"\x82\x05\x00\x01\x00\x00\x00", "filter-empty"),
        (&[UP3], b"\x82\x07\x00\x01\x00\x02a#\x00", "filter-hash"),
        (&[UP3], b"\x82\x07\x00\x01\x00\x02a+\x00", "filter-plus"),
        (&[UP3], b"\x82\x06\x00\x01\x00\x01\xff\x00", "text"),
        (&[UP5], b"\x82\x0e\x00\x01\x00\x00\x08$share//\x00", "share-name"),
        (&[UP5], b"\x82\x0e\x00\x01\x00\x00\x08$share/g\x00", "share-form"),
        (&[UP3, UP5], b"\xa0\x05\x00\x01\x00\x01a", "unsubscribe-flags"),
        (&[UP3], b"\xa2\x02\x00\x01", "unsubscribe-empty"),
        (&[UP5], b"\xa2\x03\x00\x01\x00", "unsubscribe-empty"),
        (&[UP3], b"\xa2\x05\x00\x00\x00\x01a", "packet-id"),
        (&[UP5], b"\xa2\x08\x00\x01\x02\x0b\x01\x00\x01a", "property-place"),
        (&[UP3], b"\xa2\x06\x00\x01\x00\x02#a", "filter-hash"),
        (&[UP3, UP5], b"\xc0\x01a", "left-over"),
        (&[UP3], b"\xe0\x01\x00", "left-over"),
        (&[UP5], b"\xe0\x01\x8b", "disconnect-reason"),
        (&[UP5], b"\xe0\x07\x00\x05\x11\x00\x00\x00\x01", "session-expiry-raised"),
        (&[UP5], b"\xe0\x04\x00\x02\x17\x00", "property-place"),
        (&[UP5], b"\xf0\x00", "auth-unasked"),
        (&[UP5], b"\xc0\x80\x00", "length-form"),
    ];
    let mut proven: Vec<&str> = Vec::new();
    for (whose, bytes, id) in vectors {
        for who in *whose {
            assert_eq!(broken(&checker(*who), bytes), *id, "{bytes:02x?} of {who:?}");
            // What follows a broken packet changes nothing.
            let more = [bytes, b"\xc0\x00".as_slice()].concat();
            let same = broken(&checker(*who), &more);
            assert_eq!(same, *id, "{bytes:02x?} of {who:?}");
        }
        proven.push(id);
    }
    let authenticated = checker(UP5).with_authentication(true);
    for (bytes, id) in [
        (&b"\xf0\x00"[..], "auth-reason"),
        (b"\xf0\x01\x00", "auth-reason"),
        (b"\xf0\x02\x18\x00", "auth-method"),
        (b"\xf0\x06\x18\x04\x16\x00\x01d", "auth-data"),
        (b"\xf1\x00", "flags"),
    ] {
        assert_eq!(broken(&authenticated, bytes), id, "{bytes:02x?}");
        proven.push(id);
    }
    // CONNECT's and CONNACK's are proven in `mqtt`; these are for the flow, which counts and knows what was granted.
    let elsewhere = [
        "connect-first",
        "connect-reserved",
        "will-flags",
        "will-qos",
        "password-alone",
        "receive-maximum-zero",
        "maximum-packet-zero",
        "request-response",
        "request-problem",
        "connack-flags",
        "granted-qos",
        "granted-retain",
        "receive-maximum",
        "field-size",
        "whole-size",
    ];
    for rule in rule::ALL {
        let here = proven.contains(&rule.id);
        assert!(here != elsewhere.contains(&rule.id), "{} is proven {here}", rule.id);
    }
}

#[test]
fn what_the_specification_allows_passes() {
    let section = |all: &[(u8, Value<'_>)]| {
        let mut out = Vec::new();
        for (id, value) in all {
            crate::mqtt::properties::put(&mut out, *id, *value).unwrap();
        }
        out
    };
    let long = [
        b"\x30\x8b\x01\x00\x01a\x86\x01".as_slice(),
        &section(&[(id::CONTENT_TYPE, Value::Text(&"x".repeat(131)))]),
    ]
    .concat();
    let vectors: &[(Sides, &[u8])] = &[
        (&[UP3, DOWN3], b"\x30\x03\x00\x01a"),
        (&[UP3, DOWN3, UP5, DOWN5], b"\x30\x04\x00\x01a\x00"),
        (&[UP3, UP5], b"\x3b\x06\x00\x01a\x00\x09\x00"),
        (&[UP3, UP5], b"\x34\x06\x00\x01/\xff\xff\x00"),
        (&[UP3, UP5], b"\x30\x08\x00\x05$SYS/\x00"),
        // Version 3.1.1 does not ask for the shortest length.
        (&[UP3, DOWN3, DOWN5], b"\x30\x84\x80\x00\x00\x01a\x00"),
        (&[UP5], &long),
        (&[UP5, DOWN5], b"\x30\x07\x00\x01a\x03\x23\x00\x05"),
        (&[UP5], b"\x30\x07\x00\x01a\x03\x08\x00\x00"),
        (&[DOWN5], b"\x30\x06\x00\x00\x03\x23\x00\x63"),
        (&[DOWN5], b"\x30\x08\x00\x01a\x04\x0b\x01\x0b\x02"),
        (&[UP3, UP5, DOWN3, DOWN5], b"\x40\x02\x00\x09"),
        (&[UP5, DOWN5], b"\x40\x03\x00\x09\x10"),
        (&[UP5, DOWN5], b"\x50\x04\x00\x09\x97\x00"),
        (&[UP5, DOWN5], b"\x62\x08\x00\x09\x92\x04\x1f\x00\x01y"),
        (&[UP3, UP5], b"\x70\x02\x00\x09"),
        (&[UP3], b"\x82\x0a\x00\x01\x00\x01#\x02\x00\x01+\x00"),
        (&[UP3], b"\x82\x0c\x00\x01\x00\x07$share/\x02"),
        (&[UP5], b"\x82\x07\x00\x01\x00\x00\x01a\x2e"),
        (&[UP5], b"\x82\x0c\x00\x01\x05\x0b\xff\xff\xff\x7f\x00\x01a\x01"),
        (&[UP5], b"\x82\x10\x00\x01\x00\x00\x0a$share/g/#\x2a"),
        (&[UP3], b"\xa2\x08\x00\x01\x00\x01#\x00\x01+"),
        (&[UP5], b"\xa2\x06\x00\x01\x00\x00\x01#"),
        (&[UP3, UP5], b"\xc0\x00"),
        (&[DOWN3, DOWN5], b"\xd0\x00"),
        (&[DOWN3], b"\x90\x04\x00\x01\x01\x80"),
        (&[DOWN5], b"\x90\x05\x00\x01\x00\x01\x87"),
        (&[DOWN3], b"\xb0\x02\x00\x01"),
        (&[DOWN5], b"\xb0\x04\x00\x01\x00\x11"),
        (&[UP3, UP5, DOWN5], b"\xe0\x00"),
        (&[UP5, DOWN5], b"\xe0\x01\x04"),
        (&[UP5, DOWN5], b"\xe0\x02\x80\x00"),
        (&[DOWN5], b"\xe0\x01\x8b"),
        (&[UP5], b"\xe0\x07\x00\x05\x11\x00\x00\x00\x00"),
        (&[DOWN5], b"\xf0\x02\x18\x00"),
    ];
    for (whose, bytes) in vectors {
        for who in *whose {
            let head = said(&checker(*who), bytes).unwrap_or_else(|v| panic!("{bytes:02x?} of {who:?}: {v}"));
            assert_eq!(head.map(|h| h.size), Some(bytes.len()), "{bytes:02x?} of {who:?}");
        }
    }
    let asked = checker(UP5).with_authentication(true).with_session_expiry(true);
    for bytes in [
        &b"\xf0\x06\x18\x04\x15\x00\x01m"[..],
        b"\xe0\x07\x00\x05\x11\x00\x00\x00\x01",
    ] {
        assert!(matches!(said(&asked, bytes), Ok(Some(_))), "{bytes:02x?}");
    }
}

#[test]
fn a_publish_is_shown_before_its_payload() {
    let bytes = b"\x3b\x8f\x07\x00\x03a/b\x00\x09\x05\x23\x00\x02\x01\x01payload follows";
    let mut c = checker(UP5);
    assert_eq!(c.look(&bytes[..15]), Ok(None));
    assert_eq!(c.wanted(&bytes[..15]), 16);
    let look = c.look(&bytes[..16]).unwrap().unwrap();
    assert_eq!((look.head.size, look.head.body_at), (3 + 911, 3));
    let What::Publish(p) = look.what else { panic!() };
    assert_eq!((p.dup, p.qos, p.retain, p.topic, p.id), (true, 1, true, "a/b", Some(9)));
    assert_eq!(
        (p.topic_at, p.id_at, p.properties_at, p.head_size),
        (5..8, 8, 11..16, 16)
    );
    assert_eq!((p.alias, p.properties.byte(id::PAYLOAD_FORMAT)), (Some(2), Some(1)));
    // Its alias is set now, and shown twice it is still a good packet.
    assert!(c.look(bytes).unwrap().is_some());
    assert!(c.look(b"\x30\x06\x00\x00\x03\x23\x00\x02").unwrap().is_some());
    assert_eq!(
        c.look(b"\x30\x06\x00\x00\x03\x23\x00\x03").unwrap_err().id(),
        "alias-unknown"
    );
}

#[test]
fn other_packets_are_shown_whole_with_what_is_in_them() {
    let mut up = checker(UP5);
    let bytes = b"\x82\x16\x00\x07\x02\x0b\x09\x00\x0a$share/g/#\x09\x00\x01+\x02";
    let What::Subscribe(s) = up.look(bytes).unwrap().unwrap().what else {
        panic!()
    };
    assert_eq!((s.id, s.properties.four(id::SUBSCRIPTION_IDENTIFIER)), (7, Some(9)));
    assert_eq!((s.properties_at, s.filters_at), (5..7, 7));
    assert_eq!(s.filters.collect::<Vec<_>>(), [("$share/g/#", 9), ("+", 2)]);
    let What::Unsubscribe(s) = up.look(b"\xa2\x06\x00\x07\x00\x00\x01#").unwrap().unwrap().what else {
        panic!()
    };
    assert_eq!((s.id, s.filters.collect::<Vec<_>>()), (7, vec![("#", 0)]));
    let ack = up.look(b"\x50\x03\x00\x07\x97").unwrap().unwrap().what;
    let kind = PacketType::PubRec;
    assert_eq!(
        ack,
        What::Ack {
            kind,
            id: 7,
            reason: Some(0x97)
        }
    );
    let What::Disconnect { reason, properties } = up.look(b"\xe0\x08\x04\x06\x1f\x00\x03bye").unwrap().unwrap().what
    else {
        panic!()
    };
    assert_eq!((reason, properties.text(id::REASON_STRING)), (Some(4), Some("bye")));
    let mut down = checker(DOWN5);
    let suback = down
        .look(b"\x90\x09\x00\x07\x04\x1f\x00\x01x\x01\x87")
        .unwrap()
        .unwrap()
        .what;
    assert_eq!(
        suback,
        What::SubAck {
            id: 7,
            codes: &[1, 0x87]
        }
    );
    let unsuback = down.look(b"\xb0\x04\x00\x07\x00\x11").unwrap().unwrap().what;
    assert_eq!(unsuback, What::UnsubAck { id: 7, codes: &[0x11] });
}

#[test]
fn a_checker_is_made_of_what_was_agreed() {
    let mut connect = Connect::new("d", true, 60);
    let mut connack = ConnAck::refusal(Level::V3, 0);
    assert_eq!(Checker::up(&connect, &connack, 9).limit, 9);
    connect.level = Level::V5;
    connack.level = Level::V5;
    let plain = Checker::up(&connect, &connack, LIMIT);
    assert_eq!(broken(&plain, b"\x30\x07\x00\x01a\x03\x23\x00\x01"), "alias-maximum");
    connect.properties = (&b"\x11\x00\x00\x00\x09\x15\x00\x01m"[..]).into();
    connack.properties = (&b"\x22\x00\x03\x27\x00\x00\x00\x20"[..]).into();
    let agreed = Checker::up(&connect, &connack, LIMIT);
    assert!(agreed.authentication && agreed.expires && agreed.limit == 32);
    assert_eq!(broken(&agreed, b"\x30\x07\x00\x01a\x03\x23\x00\x03"), "passed");
    assert_eq!(broken(&agreed, b"\x30\x07\x00\x01a\x03\x23\x00\x04"), "alias-maximum");
    assert_eq!(broken(&agreed, b"\x30\x1f"), "packet-size");
}

#[test]
fn a_checker_is_small() {
    assert!(size_of::<Checker>() <= 64, "{} bytes", size_of::<Checker>());
    assert!(size_of::<Violation>() <= 40, "{} bytes", size_of::<Violation>());
}
