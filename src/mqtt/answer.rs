//! The short packets that a gateway sends of its own, in both versions: refusals of single messages and subscriptions, and the end.
//!
//! They are a few bytes each, made when a policy refuses what upstream would punish; the answers of a good day come from upstream.
//! Version 5 can say why in words (Reason String); 3.1.1 cannot, nor has it a negative PUBACK or a DISCONNECT from a server: what it has
//! no packet for gives `None`, and the connection's end is the answer.

use bytes::Bytes;

use super::frame::packet;
use super::properties::{Value, id, put, put_section};
use super::{Level, reason};

/// Longest Reason String that is sent, in bytes: a sentence.
pub const WHY_MAX: usize = 256;

/// A failed filter in SUBACK of 3.1.1 (section 3.9.3).
pub const SUBACK_FAILURE: u8 = 0x80;

/// Properties with a Reason String, and their length in front.
fn words(why: Option<&str>) -> Vec<u8> {
    let (mut section, mut out) = (Vec::new(), Vec::new());
    if let Some(why) = why.filter(|w| w.len() <= WHY_MAX) {
        if put(&mut section, id::REASON_STRING, Value::Text(why)).is_err() {
            section.clear();
        }
    }
    put_section(&mut out, &section);
    out
}

fn made(first: u8, parts: &[&[u8]]) -> Bytes {
    // These are at most some hundred bytes; only a SUBACK grows, and with the SUBSCRIBE that it answers.
    packet(first, parts).unwrap_or_default().into()
}

fn acknowledged(first: u8, level: Level, id: u16, code: u8, why: Option<&str>) -> Option<Bytes> {
    let id = id.to_be_bytes();
    match (level, code) {
        (_, reason::SUCCESS) => Some(made(first, &[&id])),
        (Level::V3, _) => None,
        (Level::V5, code) => Some(made(first, &[&id, &[code], &words(why)])),
    }
}

/// PUBACK. `None`: 3.1.1 cannot refuse.
#[must_use]
pub fn puback(level: Level, id: u16, code: u8, why: Option<&str>) -> Option<Bytes> {
    acknowledged(0x40, level, id, code, why)
}

/// PUBREC. `None`: 3.1.1 cannot refuse.
#[must_use]
pub fn pubrec(level: Level, id: u16, code: u8, why: Option<&str>) -> Option<Bytes> {
    acknowledged(0x50, level, id, code, why)
}

/// SUBACK with one code for each filter: granted QoS or a reason code of version 5, which 3.1.1 gets as [`SUBACK_FAILURE`].
#[must_use]
pub fn suback(level: Level, id: u16, codes: &[u8], why: Option<&str>) -> Bytes {
    let id = id.to_be_bytes();
    match level {
        Level::V3 => {
            let codes: Vec<u8> = codes.iter().map(|&c| if c > 2 { SUBACK_FAILURE } else { c }).collect();
            made(0x90, &[&id, &codes])
        }
        Level::V5 => made(0x90, &[&id, &words(why), codes]),
    }
}

/// UNSUBACK; 3.1.1 has no codes in it.
#[must_use]
pub fn unsuback(level: Level, id: u16, codes: &[u8], why: Option<&str>) -> Bytes {
    let id = id.to_be_bytes();
    match level {
        Level::V3 => made(0xb0, &[&id]),
        Level::V5 => made(0xb0, &[&id, &words(why), codes]),
    }
}

/// DISCONNECT from a server. `None`: 3.1.1 has none.
#[must_use]
pub fn disconnect(level: Level, code: u8, why: Option<&str>) -> Option<Bytes> {
    (level == Level::V5).then(|| made(0xe0, &[&[code], &words(why)]))
}

/// PINGRESP.
pub const PINGRESP: [u8; 2] = [0xd0, 0x00];
/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let three = Level::V3;
        assert_eq!(puback(three, 9, 0, None).unwrap(), &b"\x40\x02\x00\x09"[..]);
        assert_eq!(puback(three, 9, 0x87, None), None);
        assert_eq!(puback(Level::V5, 9, 0, None).unwrap(), &b"\x40\x02\x00\x09"[..]);
        assert_eq!(
            pubrec(Level::V5, 9, 0x97, Some("no")).unwrap(),
            &b"\x50\x09\x00\x09\x97\x05\x1f\x00\x02no"[..]
        );
        assert_eq!(
            suback(three, 9, &[1, 0x87], Some("no")),
            &b"\x90\x04\x00\x09\x01\x80"[..]
        );
        assert_eq!(
            suback(Level::V5, 9, &[1, 0x87], None),
            &b"\x90\x05\x00\x09\x00\x01\x87"[..]
        );
        assert_eq!(unsuback(three, 9, &[0], None), &b"\xb0\x02\x00\x09"[..]);
        assert_eq!(unsuback(Level::V5, 9, &[0x11], None), &b"\xb0\x04\x00\x09\x00\x11"[..]);
        assert_eq!(disconnect(three, 0x8b, None), None);
        assert_eq!(disconnect(Level::V5, 0x8b, None).unwrap(), &b"\xe0\x02\x8b\x00"[..]);
        let long = "x".repeat(WHY_MAX + 1);
        assert_eq!(disconnect(Level::V5, 0x8b, Some(&long)).unwrap().len(), 4);
    }

    /// rumqttc reads the same out of them.
    #[test]
    fn rumqttc_reads_what_we_write() {
        use bytes::BytesMut;
        use rumqttc::v5::mqttbytes::v5;
        let read = |b: Bytes| v5::Packet::read(&mut BytesMut::from(&b[..]), None).unwrap();
        let v5::Packet::PubAck(ack) = read(puback(Level::V5, 9, 0x97, Some("no")).unwrap()) else {
            panic!()
        };
        assert_eq!((ack.pkid, ack.reason), (9, v5::PubAckReason::QuotaExceeded));
        assert_eq!(ack.properties.unwrap().reason_string.as_deref(), Some("no"));
        let v5::Packet::SubAck(ack) = read(suback(Level::V5, 9, &[1, 0x87], Some("no"))) else {
            panic!()
        };
        assert_eq!(ack.return_codes.len(), 2);
        let v5::Packet::Disconnect(d) = read(disconnect(Level::V5, 0x8b, Some("bye")).unwrap()) else {
            panic!()
        };
        assert_eq!(d.reason_code, v5::DisconnectReasonCode::ServerShuttingDown);
    }
}
