//! The property section of a packet of version 5 (OASIS MQTT 5.0 section 2.2.2), walked to see that it keeps the rules.

use super::Malformed;
use crate::mqtt::PacketType;

/// The form of a property's value.
#[derive(Clone, Copy)]
enum Form {
    Byte,
    Two,
    Four,
    Variable,
    /// Bytes.
    Field,
    /// UTF-8 without U+0000 (section 1.5.4).
    Text,
    /// Two such texts.
    Pair,
}

const USER_PROPERTY: u8 = 38;

/// Form of each property, and the packets that a client may send it in (table 2-4); `Will` is written as CONNACK, which no client sends.
fn form(id: u8) -> Option<(Form, &'static [PacketType])> {
    use PacketType::{
        ConnAck as Will, Connect, Disconnect, PubAck, PubComp, PubRec, PubRel, Publish, Subscribe, Unsubscribe,
    };
    Some(match id {
        1 => (Form::Byte, &[Publish, Will]),
        2 => (Form::Four, &[Publish, Will]),
        3 | 8 => (Form::Text, &[Publish, Will]),
        9 => (Form::Field, &[Publish, Will]),
        11 => (Form::Variable, &[Subscribe]),
        17 => (Form::Four, &[Connect, Disconnect]),
        21 => (Form::Text, &[Connect]),
        22 => (Form::Field, &[Connect]),
        23 | 25 => (Form::Byte, &[Connect]),
        24 => (Form::Four, &[Will]),
        31 => (Form::Text, &[PubAck, PubRec, PubRel, PubComp, Disconnect]),
        33 | 34 => (Form::Two, &[Connect]),
        35 => (Form::Two, &[Publish]),
        USER_PROPERTY => (
            Form::Pair,
            &[
                Connect,
                Publish,
                Will,
                PubAck,
                PubRec,
                PubRel,
                PubComp,
                Subscribe,
                Unsubscribe,
                Disconnect,
            ],
        ),
        39 => (Form::Four, &[Connect]),
        _ => return None,
    })
}

/// A number of one to four bytes (section 1.5.5) and what follows it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    for (index, &byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

/// The binary data at the front and what follows it.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
    bytes.get(2..)?.split_at_checked(length)
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0)
}

/// Checks the section at the front of `bytes` and answers what follows it.
pub(super) fn check(bytes: &[u8], packet: PacketType) -> Result<&[u8], Malformed> {
    let short = || Malformed::form("the properties are longer than the packet");
    let (length, rest) = number(bytes).ok_or_else(short)?;
    let (mut section, rest) = rest.split_at_checked(length).ok_or_else(short)?;
    let mut seen = 0_u64;
    while let Some((&id, value)) = section.split_first() {
        let (form, packets) = form(id).ok_or_else(|| Malformed::form(format!("{id} is no property of a client")))?;
        if !packets.contains(&packet) {
            return Err(Malformed::form(format!("property {id} does not belong here")));
        }
        if id != USER_PROPERTY && seen & (1 << id) != 0 {
            return Err(Malformed::protocol(format!("property {id} comes twice")));
        }
        seen |= 1 << id;
        let mut is_good = true;
        section = match form {
            Form::Byte => value.get(1..),
            Form::Two => value.get(2..),
            Form::Four => value.get(4..),
            Form::Variable => number(value).map(|(_, rest)| rest),
            Form::Field => field(value).map(|(_, rest)| rest),
            Form::Text => field(value).map(|(text, rest)| {
                is_good &= is_text(text);
                rest
            }),
            Form::Pair => field(value).and_then(|(name, rest)| {
                let (value, rest) = field(rest)?;
                is_good &= is_text(name) && is_text(value);
                Some(rest)
            }),
        }
        .ok_or_else(|| Malformed::form(format!("property {id} is longer than its section")))?;
        if !is_good {
            let why = format!("property {id} is not UTF-8 without U+0000 [MQTT-1.5.4-1, MQTT-1.5.4-2]");
            return Err(Malformed::form(why));
        }
    }
    Ok(rest)
}
