//! The properties of version 5 (OASIS MQTT 5.0 section 2.2.2): walked where they lie, checked, and written.
//!
//! A section of properties is kept as the bytes that came, without its length: a relay hands on what it does not understand. [`check`]
//! walks a section once and says which rule it breaks; [`Properties`] is a checked section that can be asked.

use std::ops::Range;

use super::frame::{put_field, put_length};
use super::reader::Reader;
use super::rule::{self, Violation};
use super::text;

/// Identifiers (MQTT 5 table 2-4).
#[allow(missing_docs)]
pub mod id {
    pub const PAYLOAD_FORMAT: u8 = 1;
    pub const MESSAGE_EXPIRY: u8 = 2;
    pub const CONTENT_TYPE: u8 = 3;
    pub const RESPONSE_TOPIC: u8 = 8;
    pub const CORRELATION_DATA: u8 = 9;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 11;
    pub const SESSION_EXPIRY: u8 = 17;
    pub const ASSIGNED_CLIENT_ID: u8 = 18;
    pub const SERVER_KEEP_ALIVE: u8 = 19;
    pub const AUTH_METHOD: u8 = 21;
    pub const AUTH_DATA: u8 = 22;
    pub const REQUEST_PROBLEM: u8 = 23;
    pub const WILL_DELAY: u8 = 24;
    pub const REQUEST_RESPONSE: u8 = 25;
    pub const RESPONSE_INFORMATION: u8 = 26;
    pub const SERVER_REFERENCE: u8 = 28;
    pub const REASON_STRING: u8 = 31;
    pub const RECEIVE_MAXIMUM: u8 = 33;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 34;
    pub const TOPIC_ALIAS: u8 = 35;
    pub const MAXIMUM_QOS: u8 = 36;
    pub const RETAIN_AVAILABLE: u8 = 37;
    pub const USER: u8 = 38;
    pub const MAXIMUM_PACKET: u8 = 39;
    pub const WILDCARD_AVAILABLE: u8 = 40;
    pub const IDENTIFIERS_AVAILABLE: u8 = 41;
    pub const SHARED_AVAILABLE: u8 = 42;
}

/// Which packet a section belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// CONNECT itself.
    Connect,
    /// The will in CONNECT.
    Will,
    /// CONNACK.
    ConnAck,
    /// A PUBLISH from a client.
    Publish,
    /// A PUBLISH from a server, which may have Subscription Identifiers, and more than one.
    Delivery,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
    Ack,
    /// SUBSCRIBE.
    Subscribe,
    /// UNSUBSCRIBE.
    Unsubscribe,
    /// DISCONNECT.
    Disconnect,
    /// AUTH.
    Auth,
}

/// The form of a property's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Byte,
    Two,
    Four,
    Variable,
    Text,
    Binary,
    Pair,
}

/// A property's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'b> {
    /// One byte.
    Byte(u8),
    /// Two bytes.
    Two(u16),
    /// Four bytes.
    Four(u32),
    /// A variable byte integer.
    Variable(u32),
    /// A string.
    Text(&'b str),
    /// Binary data.
    Binary(&'b [u8]),
    /// A name and what it is.
    Pair(&'b str, &'b str),
}

/// Form of each property, and where it belongs (table 2-4).
fn form(id: u8) -> Option<(Form, &'static [Place])> {
    use Place::{Ack, Auth, ConnAck, Connect, Delivery, Disconnect, Publish, Subscribe, Unsubscribe, Will};
    Some(match id {
        id::PAYLOAD_FORMAT => (Form::Byte, &[Publish, Delivery, Will]),
        id::MESSAGE_EXPIRY => (Form::Four, &[Publish, Delivery, Will]),
        id::CONTENT_TYPE | id::RESPONSE_TOPIC => (Form::Text, &[Publish, Delivery, Will]),
        id::CORRELATION_DATA => (Form::Binary, &[Publish, Delivery, Will]),
        // In a PUBLISH from a client it has a rule of its own, see `value`.
        id::SUBSCRIPTION_IDENTIFIER => (Form::Variable, &[Publish, Delivery, Subscribe]),
        id::SESSION_EXPIRY => (Form::Four, &[Connect, ConnAck, Disconnect]),
        id::ASSIGNED_CLIENT_ID | id::RESPONSE_INFORMATION => (Form::Text, &[ConnAck]),
        id::SERVER_KEEP_ALIVE => (Form::Two, &[ConnAck]),
        id::AUTH_METHOD => (Form::Text, &[Connect, ConnAck, Auth]),
        id::AUTH_DATA => (Form::Binary, &[Connect, ConnAck, Auth]),
        id::REQUEST_PROBLEM | id::REQUEST_RESPONSE => (Form::Byte, &[Connect]),
        id::WILL_DELAY => (Form::Four, &[Will]),
        id::SERVER_REFERENCE => (Form::Text, &[ConnAck, Disconnect]),
        id::REASON_STRING => (Form::Text, &[ConnAck, Ack, Disconnect, Auth]),
        id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM => (Form::Two, &[Connect, ConnAck]),
        id::TOPIC_ALIAS => (Form::Two, &[Publish, Delivery]),
        id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_AVAILABLE
        | id::IDENTIFIERS_AVAILABLE
        | id::SHARED_AVAILABLE => (Form::Byte, &[ConnAck]),
        id::USER => (
            Form::Pair,
            &[
                Connect,
                Will,
                ConnAck,
                Publish,
                Delivery,
                Ack,
                Subscribe,
                Unsubscribe,
                Disconnect,
                Auth,
            ],
        ),
        id::MAXIMUM_PACKET => (Form::Four, &[Connect, ConnAck]),
        _ => return None,
    })
}

/// The property at the front.
fn next<'b>(r: &mut Reader<'b>) -> Result<(u8, &'static [Place], Value<'b>), Violation> {
    let id = r.byte()?;
    let (form, places) = form(id).ok_or_else(|| rule::PROPERTY_UNKNOWN.found(id))?;
    let value = match form {
        Form::Byte => r.byte().map(Value::Byte),
        Form::Two => r.two().map(Value::Two),
        Form::Four => r.four().map(Value::Four),
        Form::Variable => r.variable().map(Value::Variable),
        Form::Text => r.text().map(Value::Text),
        Form::Binary => r.field().map(Value::Binary),
        Form::Pair => r.text().and_then(|name| Ok(Value::Pair(name, r.text()?))),
    };
    match value {
        Ok(value) => Ok((id, places, value)),
        Err(v) if v.rule == &rule::TRUNCATED => Err(rule::PROPERTY_VALUE.found(id)),
        Err(v) => Err(v),
    }
}

/// The rules about values.
fn check_value(place: Place, id: u8, value: Value<'_>) -> Result<(), Violation> {
    let broken = match (id, value) {
        (id::PAYLOAD_FORMAT, Value::Byte(n @ 2..)) => rule::PAYLOAD_FORMAT.found(n),
        (id::REQUEST_PROBLEM, Value::Byte(n @ 2..)) => rule::REQUEST_PROBLEM.found(n),
        (id::REQUEST_RESPONSE, Value::Byte(n @ 2..)) => rule::REQUEST_RESPONSE.found(n),
        (id::RECEIVE_MAXIMUM, Value::Two(0)) => (&rule::RECEIVE_MAXIMUM_ZERO).into(),
        (id::MAXIMUM_PACKET, Value::Four(0)) => (&rule::MAXIMUM_PACKET_ZERO).into(),
        (id::TOPIC_ALIAS, Value::Two(0)) => (&rule::ALIAS_ZERO).into(),
        (id::SUBSCRIPTION_IDENTIFIER, _) if place == Place::Publish => (&rule::IDENTIFIER_UP).into(),
        (id::SUBSCRIPTION_IDENTIFIER, Value::Variable(0)) => (&rule::IDENTIFIER_ZERO).into(),
        (id::RESPONSE_TOPIC, Value::Text(topic)) if text::has_wildcards(topic) => (&rule::RESPONSE_TOPIC).into(),
        _ => return Ok(()),
    };
    Err(broken)
}

/// Whether more than one may be there.
fn may_repeat(place: Place, id: u8) -> bool {
    id == id::USER || (id == id::SUBSCRIPTION_IDENTIFIER && place == Place::Delivery)
}

/// Checks a section (without its length) by every rule for its place.
///
/// # Errors
/// The first [`Violation`].
pub fn check(section: &[u8], place: Place) -> Result<Properties<'_>, Violation> {
    let mut r = Reader(section);
    let mut seen = 0_u64;
    while !r.is_empty() {
        let (id, places, value) = next(&mut r)?;
        if !places.contains(&place) {
            return Err(rule::PROPERTY_PLACE.found(id));
        }
        let bit = 1_u64 << id;
        if seen & bit != 0 && !may_repeat(place, id) {
            return Err(rule::PROPERTY_TWICE.found(id));
        }
        seen |= bit;
        check_value(place, id, value)?;
    }
    let has = |id: u8| seen & (1 << id) != 0;
    if has(id::AUTH_DATA) && !has(id::AUTH_METHOD) {
        return Err((&rule::AUTH_DATA).into());
    }
    Ok(Properties(section))
}

/// Checks that a section can be walked, and nothing else: for what comes from a server.
///
/// # Errors
/// The first [`Violation`].
pub fn walk(section: &[u8]) -> Result<Properties<'_>, Violation> {
    let mut r = Reader(section);
    while !r.is_empty() {
        next(&mut r)?;
    }
    Ok(Properties(section))
}

/// A section that can be asked; its length is not part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'b>(&'b [u8]);

/// One property and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property<'b> {
    /// Which, see [`id`].
    pub id: u8,
    /// Its value.
    pub value: Value<'b>,
    /// Identifier and value, in the section.
    pub at: Range<usize>,
}

impl<'b> Properties<'b> {
    /// A section that was checked before. What cannot be walked is not seen.
    #[must_use]
    pub fn checked(section: &'b [u8]) -> Self {
        Self(section)
    }

    /// The section's bytes, without its length.
    #[must_use]
    pub fn bytes(self) -> &'b [u8] {
        self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// All of them, as they came.
    pub fn iter(self) -> impl Iterator<Item = Property<'b>> {
        let mut r = Reader(self.0);
        let whole = self.0.len();
        std::iter::from_fn(move || {
            let begin = whole - r.0.len();
            let (id, _, value) = if r.is_empty() { None } else { next(&mut r).ok() }?;
            let at = begin..whole - r.0.len();
            Some(Property { id, value, at })
        })
    }

    /// The first of that identifier.
    #[must_use]
    pub fn find(self, id: u8) -> Option<Value<'b>> {
        self.iter().find(|p| p.id == id).map(|p| p.value)
    }

    /// A value of one byte.
    #[must_use]
    pub fn byte(self, id: u8) -> Option<u8> {
        match self.find(id)? {
            Value::Byte(n) => Some(n),
            _ => None,
        }
    }

    /// A value of two bytes.
    #[must_use]
    pub fn two(self, id: u8) -> Option<u16> {
        match self.find(id)? {
            Value::Two(n) => Some(n),
            _ => None,
        }
    }

    /// A value of four bytes, or a variable byte integer.
    #[must_use]
    pub fn four(self, id: u8) -> Option<u32> {
        match self.find(id)? {
            Value::Four(n) | Value::Variable(n) => Some(n),
            _ => None,
        }
    }

    /// A string.
    #[must_use]
    pub fn text(self, id: u8) -> Option<&'b str> {
        match self.find(id)? {
            Value::Text(t) => Some(t),
            _ => None,
        }
    }

    /// The section without those of these identifiers.
    #[must_use]
    pub fn without(self, ids: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(self.0.len());
        for p in self.iter().filter(|p| !ids.contains(&p.id)) {
            kept.extend_from_slice(self.0.get(p.at).unwrap_or_default());
        }
        kept
    }
}

/// Appends a property. The caller gives each identifier the form it has.
///
/// # Errors
/// [`rule::FIELD_SIZE`].
pub fn put(out: &mut Vec<u8>, id: u8, value: Value<'_>) -> Result<(), Violation> {
    out.push(id);
    match value {
        Value::Byte(n) => out.push(n),
        Value::Two(n) => out.extend_from_slice(&n.to_be_bytes()),
        Value::Four(n) => out.extend_from_slice(&n.to_be_bytes()),
        Value::Variable(n) => put_length(out, n as usize),
        Value::Text(t) => put_field(out, t.as_bytes())?,
        Value::Binary(b) => put_field(out, b)?,
        Value::Pair(name, value) => {
            put_field(out, name.as_bytes())?;
            put_field(out, value.as_bytes())?;
        }
    }
    Ok(())
}

/// Appends a section with its length in front.
pub fn put_section(out: &mut Vec<u8>, section: &[u8]) {
    put_length(out, section.len());
    out.extend_from_slice(section);
}

#[cfg(test)]
mod tests;
