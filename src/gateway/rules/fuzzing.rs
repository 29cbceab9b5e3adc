//! What fuzzing calls, and a quick seeded run of the same in the unit tests. Compiled for tests and for `tests/fuzz` (`--cfg fuzzing`).
//!
//! | entry | what the bytes are | what must hold beside no panic |
//! |---|---|---|
//! | [`checker()`] | one direction of a connection of 3.1.1 or 5 | what passes is cut as `split_frame` cuts it; every prefix says the same or waits; positions point at what is shown; rumqttc reads what passes of 3.1.1 from a device |
//! | [`connect()`] | the body of a CONNECT or CONNACK | what is read is written again byte for byte, and rumqttc reads the same CONNECT |
//!
//! A panic is how a fuzzing target fails, so assertions and `expect` are right here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::{Bytes, BytesMut};

use super::{Checker, Direction, Look, What};
use crate::mqtt::{ConnAck, Connect, Level, PacketType, Violation, peek_frame, split_frame};

/// Largest packet taken, in bytes.
const LIMIT: usize = 8 * 1024;
/// Most prefixes of one packet that are tried.
const CUTS_MAX: usize = 64;

/// An entry point: any bytes will do.
pub type Target = fn(&[u8]);

/// Every entry point with its name, which is that of the binary and of the directory of its seeds.
pub const TARGETS: [(&str, Target); 2] = [("checker", checker), ("connect", connect)];

/// The first byte says which version, which direction and what was agreed in CONNECT, the second up to which topic alias.
///
/// # Panics
/// Something is wrong with the code under test.
pub fn checker(data: &[u8]) {
    let [how, most, stream @ ..] = data else { return };
    let level = if how & 1 == 0 { Level::V3 } else { Level::V5 };
    let direction = if how & 2 == 0 { Direction::Up } else { Direction::Down };
    let mut checker = Checker::new(level, direction, LIMIT)
        .with_topic_aliases(u16::from(*most))
        .with_authentication(how & 4 != 0)
        .with_session_expiry(how & 8 != 0);
    let mut rest = stream;
    loop {
        let before = checker.clone();
        let said = checker.look(rest);
        prefixes(&before, rest, &said);
        match said {
            Ok(Some(look)) => {
                assert_eq!(peek_frame(rest, LIMIT), Ok(Some(look.head)));
                let Some(whole) = rest.get(..look.head.size) else {
                    assert_eq!(
                        look.head.packet,
                        PacketType::Publish,
                        "only a PUBLISH is shown before it is whole"
                    );
                    return;
                };
                shown(whole, &look);
                let frame = split_frame(&mut BytesMut::from(rest), LIMIT).unwrap().unwrap();
                assert_eq!((frame.packet, &frame.bytes[..]), (look.head.packet, whole));
                if (level, direction) == (Level::V3, Direction::Up) {
                    oracle(whole, &look);
                }
                if matches!(look.what, What::Disconnect { .. }) {
                    return;
                }
                rest = &rest[look.head.size..];
            }
            Ok(None) => {
                let wanted = before.wanted(rest);
                assert!(wanted > rest.len() && wanted <= LIMIT, "{wanted} at {}", rest.len());
                return;
            }
            Err(violation) => {
                assert_eq!(violation.level, level);
                assert!(violation.reason() >= 0x80 && !violation.to_string().is_empty());
                assert!(
                    !violation.number().is_empty() || violation.id() == "packet-size",
                    "{violation}"
                );
                return;
            }
        }
    }
}

/// However a packet is cut, the same is said of it: each prefix waits, or says what the whole says.
fn prefixes(before: &Checker, rest: &[u8], said: &Result<Option<Look<'_>>, Violation>) {
    let step = 1 + rest.len() / CUTS_MAX;
    for cut in (0..rest.len()).step_by(step) {
        let part = &rest[..cut];
        let mut checker = before.clone();
        match checker.look(part) {
            Ok(None) => assert!(before.wanted(part) > cut, "it waits at {cut} for what it has"),
            // A look into a part borrows the same bytes.
            early => assert_eq!(&early, said, "cut at {cut}"),
        }
    }
}

/// Positions point at what is shown.
fn shown(whole: &[u8], look: &Look<'_>) {
    match &look.what {
        What::Publish(p) => {
            assert_eq!(&whole[p.topic_at.clone()], p.topic.as_bytes());
            assert_eq!(&whole[p.properties_at.clone()], p.properties.bytes());
            assert!(p.head_size <= whole.len() && p.properties_at.end <= p.head_size);
            if let Some(id) = p.id {
                assert_eq!(whole[p.id_at..p.id_at + 2], id.to_be_bytes());
            }
        }
        What::Subscribe(s) | What::Unsubscribe(s) => {
            assert_eq!(&whole[s.properties_at.clone()], s.properties.bytes());
            let option = usize::from(look.head.packet == PacketType::Subscribe);
            let size: usize = s.filters.map(|(filter, _)| 2 + filter.len() + option).sum();
            assert_eq!(s.filters_at + size, whole.len(), "every filter is shown");
        }
        _ => {}
    }
}

/// What passes of 3.1.1 from a device is read alike by rumqttc.
fn oracle(whole: &[u8], look: &Look<'_>) {
    use rumqttc::mqttbytes::v4;
    let theirs = v4::Packet::read(&mut BytesMut::from(whole), usize::MAX);
    let theirs = theirs.unwrap_or_else(|e| panic!("{whole:02x?}: {e}"));
    match (&look.what, theirs) {
        (What::Publish(ours), v4::Packet::Publish(p)) => {
            let qos = p.qos as u8;
            assert_eq!(
                (ours.topic, ours.qos, ours.retain, ours.dup),
                (&p.topic[..], qos, p.retain, p.dup)
            );
            assert_eq!(
                (ours.id.unwrap_or(0), &whole[ours.head_size..]),
                (p.pkid, &p.payload[..])
            );
        }
        (What::Subscribe(ours), v4::Packet::Subscribe(s)) => {
            let filters: Vec<_> = s.filters.iter().map(|f| (&f.path[..], f.qos as u8)).collect();
            assert_eq!((ours.id, ours.filters.collect::<Vec<_>>()), (s.pkid, filters));
        }
        (What::Unsubscribe(ours), v4::Packet::Unsubscribe(u)) => {
            let filters: Vec<_> = u.topics.iter().map(|t| (&t[..], 0)).collect();
            assert_eq!((ours.id, ours.filters.collect::<Vec<_>>()), (u.pkid, filters));
        }
        (What::Ack { id, .. }, v4::Packet::PubAck(v4::PubAck { pkid }))
        | (What::Ack { id, .. }, v4::Packet::PubRec(v4::PubRec { pkid }))
        | (What::Ack { id, .. }, v4::Packet::PubRel(v4::PubRel { pkid }))
        | (What::Ack { id, .. }, v4::Packet::PubComp(v4::PubComp { pkid })) => assert_eq!(*id, pkid),
        (What::PingReq, v4::Packet::PingReq) | (What::Disconnect { .. }, v4::Packet::Disconnect) => {}
        (ours, theirs) => panic!("{ours:?} is {theirs:?} to rumqttc"),
    }
}

/// The first byte says which of the two it is.
///
/// # Panics
/// Something is wrong with the code under test.
pub fn connect(data: &[u8]) {
    let [how, body @ ..] = data else { return };
    match how % 3 {
        0 => hello(body),
        1 => welcome(Level::V3, body),
        _ => welcome(Level::V5, body),
    }
}

fn body_of(packet: &[u8]) -> Bytes {
    let mut buffer = BytesMut::from(packet);
    let frame = split_frame(&mut buffer, usize::MAX).expect("a frame").expect("whole");
    assert!(buffer.is_empty());
    frame.bytes.slice(frame.body_at..)
}

fn hello(body: &[u8]) {
    let read = Connect::decode(body);
    // A CONNECT that is cut off is never taken for a shorter one.
    if read.is_ok() {
        let step = 1 + body.len() / CUTS_MAX;
        assert!(
            (0..body.len())
                .step_by(step)
                .all(|cut| Connect::decode(&body[..cut]).is_err())
        );
    }
    let connect = match read {
        Ok(connect) => connect,
        Err(e) => return assert!(!e.to_string().is_empty()),
    };
    let packet = connect.encode().expect("what was read can be written");
    assert_eq!(&body_of(&packet)[..], body);
    assert_eq!(Connect::decode(&body_of(&packet)), Ok(connect.clone()));
    let password = connect.password.as_deref().unwrap_or_default();
    if connect.level == Level::V3 && std::str::from_utf8(password).is_ok() {
        let theirs = rumqttc::mqttbytes::v4::Packet::read(&mut BytesMut::from(&packet[..]), usize::MAX);
        let Ok(rumqttc::mqttbytes::v4::Packet::Connect(theirs)) = theirs else {
            panic!("{packet:02x?} is {theirs:?} to rumqttc");
        };
        assert_eq!(theirs.client_id, connect.client_id);
        assert_eq!(
            (theirs.keep_alive, theirs.clean_session),
            (connect.keep_alive, connect.clean_session)
        );
        assert_eq!(theirs.last_will.map(|w| w.topic), connect.will.map(|w| w.topic));
    }
}

fn welcome(level: Level, body: &[u8]) {
    if let Ok(connack) = ConnAck::decode(level, body) {
        let packet = connack.encode().expect("what was read can be written");
        assert_eq!(&body_of(&packet)[..], body);
        assert!(!connack.meaning().is_empty());
    }
}
