//! Which packets may pass in which direction (MQTT 3.1.1 sections 2.2 and 3). No I/O, no state: bytes in, how many may go on out.
//!
//! Packets are looked at where they lie and forwarded as they came. From a device the header and the fixed parts are checked, because
//! a cloud answers a broken packet by closing without a word; from upstream only what would confuse the relay is checked.

use crate::mqtt::{FrameError, Head, PacketType, peek_frame};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the device to upstream.
    Up,
    /// From upstream to the device.
    Down,
}

/// A broken rule; the connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The stream cannot be cut into packets.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A packet that this side never sends.
    #[error("{packet:?} is not allowed here: {why}")]
    Forbidden {
        /// Which kind.
        packet: PacketType,
        /// By which rule.
        why: &'static str,
    },
    /// A packet that breaks its own format.
    #[error("malformed {packet:?}: {why}")]
    Malformed {
        /// Which kind.
        packet: PacketType,
        /// By which rule.
        why: &'static str,
    },
}

/// What [`inspect`] found at the front of a buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass {
    /// So many bytes, whole packets all, may go on.
    pub bytes: usize,
    /// So many packets are in them.
    pub packets: u64,
    /// The last of them is a DISCONNECT: what follows is not looked at.
    pub disconnect: bool,
    /// What follows them breaks a rule.
    pub violation: Option<Violation>,
    /// The incomplete packet that follows has this size in bytes, if that is known yet.
    pub wanted: usize,
}

/// Looks at the packets at the front of `buffer`. `limit` bounds one packet, in bytes.
#[must_use]
pub fn inspect(direction: Direction, buffer: &[u8], limit: usize) -> Pass {
    let mut pass = Pass::default();
    while let Some(rest) = buffer.get(pass.bytes..) {
        let head = match peek_frame(rest, limit) {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err(e) => {
                pass.violation = Some(e.into());
                break;
            }
        };
        // Refuse by the first byte, before the body has arrived.
        if let Err(v) = may_pass(direction, head.packet) {
            pass.violation = Some(v);
            break;
        }
        let Some(packet) = rest.get(..head.size) else {
            pass.wanted = head.size;
            break;
        };
        if let Err(v) = check(direction, head, packet) {
            pass.violation = Some(v);
            break;
        }
        pass.bytes += head.size;
        pass.packets += 1;
        if head.packet == PacketType::Disconnect {
            pass.disconnect = true;
            break;
        }
    }
    pass
}

fn may_pass(direction: Direction, packet: PacketType) -> Result<(), Violation> {
    use PacketType::{
        ConnAck, Connect, Disconnect, PingReq, PingResp, PubAck, PubComp, PubRec, PubRel, Publish, SubAck, Subscribe,
        UnsubAck, Unsubscribe,
    };
    let why = match (direction, packet) {
        (_, Publish | PubAck | PubRec | PubRel | PubComp)
        | (Direction::Up, Subscribe | Unsubscribe | PingReq | Disconnect)
        | (Direction::Down, SubAck | UnsubAck | PingResp) => return Ok(()),
        (Direction::Up, Connect) => "a second CONNECT [MQTT-3.1.0-2]",
        (Direction::Up, ConnAck | SubAck | UnsubAck | PingResp) => "only a server sends it (MQTT 3.1.1 table 2.1)",
        (Direction::Down, ConnAck) => "a second CONNACK (MQTT 3.1.1 section 3.2)",
        (Direction::Down, Connect | Subscribe | Unsubscribe | PingReq | Disconnect) => {
            "only a client sends it (MQTT 3.1.1 table 2.1)"
        }
    };
    Err(Violation::Forbidden { packet, why })
}

fn check(direction: Direction, head: Head, bytes: &[u8]) -> Result<(), Violation> {
    use PacketType::{Disconnect, PingReq, PubAck, PubComp, PubRec, PubRel, Publish, Subscribe, Unsubscribe};
    let packet = head.packet;
    let malformed = |why| Err(Violation::Malformed { packet, why });
    let flags = bytes.first().copied().unwrap_or(0) & 0x0f;
    if packet == Publish && flags & 0x06 == 0x06 {
        return malformed("QoS 3 [MQTT-3.3.1-4]");
    }
    if direction == Direction::Down {
        return Ok(());
    }
    let body = bytes.get(head.body_at..).unwrap_or(&[]);
    let id_at = |at: usize| match body.get(at..at + 2) {
        Some([0, 0]) => malformed("packet identifier 0 [MQTT-2.3.1-1]"),
        Some(_) => Ok(()),
        None => malformed("it ends before its packet identifier"),
    };
    let want_flags = if matches!(packet, PubRel | Subscribe | Unsubscribe) {
        0x02
    } else {
        0
    };
    if packet != Publish && flags != want_flags {
        return malformed("reserved header flags [MQTT-2.2.2-2]");
    }
    match packet {
        Publish => {
            let [high, low, rest @ ..] = body else {
                return malformed("it ends before its topic");
            };
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(topic) = rest.get(..length) else {
                return malformed("the topic is longer than the packet");
            };
            if topic.is_empty() {
                return malformed("an empty topic [MQTT-4.7.3-1]");
            }
            if topic.iter().any(|b| matches!(b, b'#' | b'+')) {
                return malformed("a wildcard in the topic [MQTT-3.3.2-2]");
            }
            match std::str::from_utf8(topic) {
                Ok(text) if !text.contains('\0') => {}
                _ => return malformed("the topic is not UTF-8 without U+0000 [MQTT-1.5.3-1, -2]"),
            }
            if flags & 0x06 != 0 {
                id_at(2 + length)
            } else if flags & 0x08 != 0 {
                malformed("DUP with QoS 0 [MQTT-3.3.1-2]")
            } else {
                Ok(())
            }
        }
        PubAck | PubRec | PubRel | PubComp => {
            if body.len() == 2 {
                id_at(0)
            } else {
                malformed("its remaining length is not 2")
            }
        }
        Subscribe => filters(body, true).or_else(malformed).and_then(|()| id_at(0)),
        Unsubscribe => filters(body, false).or_else(malformed).and_then(|()| id_at(0)),
        PingReq | Disconnect if !body.is_empty() => malformed("its remaining length is not 0"),
        _ => Ok(()),
    }
}

/// The payload of SUBSCRIBE (with a QoS byte each) and UNSUBSCRIBE.
fn filters(body: &[u8], with_qos: bool) -> Result<(), &'static str> {
    let mut rest = body.get(2..).ok_or("it ends before its packet identifier")?;
    if rest.is_empty() {
        return Err("no topic filter [MQTT-3.8.3-3, MQTT-3.10.3-2]");
    }
    while !rest.is_empty() {
        let [high, low, after @ ..] = rest else {
            return Err("a topic filter is cut off");
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let filter = after.get(..length).ok_or("a topic filter is longer than the packet")?;
        if filter.is_empty() {
            return Err("an empty topic filter [MQTT-4.7.3-1]");
        }
        rest = after.get(length..).unwrap_or(&[]);
        if with_qos {
            match rest {
                [0..=2, after @ ..] => rest = after,
                [_, ..] => return Err("a requested QoS above 2 [MQTT-3-8.3-4]"),
                [] => return Err("a topic filter without its QoS"),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISH: &[u8] = b"\x32\x07\x00\x01a\x00\x09hi";
    const PING: &[u8] = b"\xc0\x00";
    const DISCONNECT: &[u8] = b"\xe0\x00";

    fn up(bytes: &[u8]) -> Pass {
        inspect(Direction::Up, bytes, 1024)
    }

    #[test]
    fn whole_packets_go_on_and_the_rest_waits() {
        let all = [PUBLISH, PING, PUBLISH].concat();
        for cut in 0..=all.len() {
            let p = up(&all[..cut]);
            let want = [0, 9, 11, 20].into_iter().filter(|n| *n <= cut).max().unwrap();
            assert_eq!((p.bytes, p.violation), (want, None), "cut at {cut}");
        }
        assert_eq!(up(&all[..3]).wanted, 9);
        let p = up(&[PING, DISCONNECT, b"\x00garbage"].concat());
        assert_eq!((p.bytes, p.packets, p.disconnect, p.violation), (4, 2, true, None));
    }

    #[test]
    fn what_precedes_a_violation_still_goes_on() {
        let p = up(&[PUBLISH, b"\x10\x02ab"].concat());
        assert_eq!(p.bytes, 9);
        assert!(p.violation.unwrap().to_string().contains("MQTT-3.1.0-2"));
    }

    #[test]
    fn rules_are_named() {
        for (bytes, why) in [
            (&b"\x20\x02\x00\x00"[..], "only a server"),
            (b"\x00\x00", "reserved"),
            (b"\xf0\x00", "reserved"),
            (b"\x30\xff\xff\x7f", "larger than the limit"),
            (b"\x36\x07\x00\x01a\x00\x09hi", "QoS 3"),
            (b"\x32\x07\x00\x01a\x00\x00hi", "identifier 0"),
            (b"\x32\x03\x00\x01a", "before its packet identifier"),
            (b"\x38\x03\x00\x01a", "DUP with QoS 0"),
            (b"\x30\x03\x00\x01#", "wildcard"),
            (b"\x30\x03\x00\x01\xff", "UTF-8"),
            (b"\x30\x02\x00\x00", "empty topic"),
            (b"\x30\x03\x00\x09a", "longer than the packet"),
            (b"\x60\x02\x00\x01", "flags"),
            (b"\x40\x03\x00\x01\x00", "not 2"),
            (b"\x80\x06\x00\x01\x00\x01a\x00", "flags"),
            (b"\x82\x02\x00\x01", "no topic filter"),
            (b"\x82\x06\x00\x01\x00\x01a\x03", "QoS above 2"),
            (b"\x82\x06\x00\x00\x00\x01a\x00", "identifier 0"),
            (b"\xc0\x01a", "not 0"),
        ] {
            let p = up(bytes);
            let text = p.violation.map_or(String::from("passed"), |v| v.to_string());
            assert!(text.contains(why), "{bytes:02x?}: {text:?} should say {why:?}");
            assert_eq!(p.bytes, 0);
        }
        let down = |b: &[u8]| inspect(Direction::Down, b, 1024).violation;
        assert!(down(b"\x20\x02\x00\x00").is_some());
        assert!(down(PING).is_some());
        assert!(down(b"\xd0\x00\x40\x02\x00\x01\x90\x03\x00\x01\x80").is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived_and_only_whole_packets_pass(bytes: Vec<u8>, down: bool) {
            let d = if down { Direction::Down } else { Direction::Up };
            let p = inspect(d, &bytes, 256);
            proptest::prop_assert!(p.bytes <= bytes.len() && p.wanted <= 256);
            let again = inspect(d, &bytes[..p.bytes], 256);
            proptest::prop_assert_eq!((again.bytes, again.packets, again.violation), (p.bytes, p.packets, None));
        }
    }
}
