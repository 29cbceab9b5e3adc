//! The CONNECT packet (MQTT 3.1.1 and 5 section 3.1), read and written without losing anything: passwords, wills and properties stay
//! bytes.
//!
//! A CONNECT that was read and is written again is the same packet, whatever its version; what the gateway replaces it replaces in
//! [`Connect`]'s fields. Other protocols are told apart by [`protocol`]: MQTT 3.1 (`MQIsdp`, level 3), versions to come, and what is no
//! MQTT at all.

use bytes::Bytes;

use super::frame::{packet, put_field};
use super::properties::{self, Place, Properties};
use super::reader::Reader;
use super::rule::{self, Violation};
use super::{Level, PacketType};

/// Protocol level of MQTT 3.1.1.
pub const LEVEL_3_1_1: u8 = 4;
/// Protocol version of MQTT 5.
pub const LEVEL_5: u8 = 5;
/// The protocol's name (MQTT 3.1.1 and 5 section 3.1.2.1).
const NAME: &str = "MQTT";
/// The name and level of MQTT 3.1, whose CONNECT begins in the same way.
const NAME_3_1: (&str, u8) = ("MQIsdp", 3);

/// The flags of CONNECT (MQTT 3.1.1 and 5 section 3.1.2.3).
const RESERVED: u8 = 0x01;
const CLEAN: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// A will message.
#[derive(Clone, PartialEq, Eq)]
pub struct Will {
    /// Where it is published.
    pub topic: String,
    /// What is published.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// Version 5's will properties as they came, without their length.
    pub properties: Bytes,
}

impl std::fmt::Debug for Will {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Will({:?}, {} bytes, QoS {})",
            crate::identity::redact_digits(&self.topic),
            self.payload.len(),
            self.qos
        )
    }
}

/// A CONNECT of MQTT 3.1.1 or 5.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// Which version.
    pub level: Level,
    /// The client identifier; may be empty, in 3.1.1 with `clean_session` only (the broker answers CONNACK 2 otherwise).
    pub client_id: String,
    /// Whether the broker forgets an earlier session; version 5 calls it Clean Start.
    pub clean_session: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// The will, if any.
    pub will: Option<Will>,
    /// The user name, if any.
    pub username: Option<String>,
    /// The password, if any; never printed.
    pub password: Option<Bytes>,
    /// Version 5's properties as they came, without their length.
    pub properties: Bytes,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("level", &self.level)
            .field("client_id", &crate::identity::redact_digits(&self.client_id))
            .field("clean_session", &self.clean_session)
            .field("keep_alive", &self.keep_alive)
            .field("will", &self.will)
            .field(
                "username",
                &self.username.as_deref().map(crate::identity::redact_digits),
            )
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("properties", &format_args!("{} bytes", self.properties.len()))
            .finish()
    }
}

/// Why a CONNECT cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Another protocol version: the answer is CONNACK 1.
    #[error("protocol {name:?} level {level} is neither MQTT 3.1.1 nor 5{hint}; use protocol version 4 (mqttv311) or 5 (mqttv5)", hint = hint(name, *level))]
    Protocol {
        /// The protocol name sent, as a reader can bear it: it may be any text of up to 64 KiB.
        name: String,
        /// The protocol level sent.
        level: u8,
    },
    /// A rule of the specification is broken: the connection is closed, in version 5 after a CONNACK with its reason code.
    #[error("{0}")]
    Malformed(#[from] Violation),
}

fn hint(name: &str, level: u8) -> &'static str {
    if (name, level & !BRIDGE) == NAME_3_1 {
        ", it is MQTT 3.1"
    } else {
        ""
    }
}

/// mosquitto's bridges set this bit in the level to say what they are; it is in no specification.
const BRIDGE: u8 = 0x80;

/// What a CONNECT says to be, which is readable in every version: the protocol's name and level. Its body need not be whole.
///
/// # Errors
/// [`Violation`]: not even that can be read.
pub fn protocol(body: &[u8]) -> Result<(&str, u8), Violation> {
    let mut r = Reader(body);
    let name = r.text()?;
    Ok((name, r.byte()?))
}

/// The version of a CONNECT, if it is one of ours.
///
/// # Errors
/// As [`Connect::decode`].
pub fn level(body: &[u8]) -> Result<Level, ConnectError> {
    let unnamed = |v: Violation| v.in_packet(Level::V3, PacketType::Connect);
    match protocol(body).map_err(unnamed)? {
        (NAME, LEVEL_3_1_1) => Ok(Level::V3),
        (NAME, LEVEL_5) => Ok(Level::V5),
        (name, level) => Err(ConnectError::Protocol {
            name: name.to_owned(),
            level,
        }),
    }
}

impl Connect {
    /// A CONNECT of 3.1.1 without will and login.
    #[must_use]
    pub fn new(client_id: impl Into<String>, clean_session: bool, keep_alive: u16) -> Self {
        Self {
            level: Level::V3,
            client_id: client_id.into(),
            clean_session,
            keep_alive,
            will: None,
            username: None,
            password: None,
            properties: Bytes::new(),
        }
    }

    /// Version 5's properties.
    #[must_use]
    pub fn properties(&self) -> Properties<'_> {
        Properties::checked(&self.properties)
    }

    /// Reads the variable header and payload of a CONNECT of 3.1.1 or 5.
    ///
    /// # Errors
    /// [`ConnectError::Protocol`] for another version, [`ConnectError::Malformed`] for a broken rule.
    pub fn decode(body: &[u8]) -> Result<Self, ConnectError> {
        let level = level(body)?;
        Self::read(level, body).map_err(|v| v.in_packet(level, PacketType::Connect).into())
    }

    fn read(level: Level, body: &[u8]) -> Result<Self, Violation> {
        let mut r = Reader(body);
        let (_name, _level) = (r.field()?, r.byte()?);
        let flags = r.byte()?;
        if flags & RESERVED != 0 {
            return Err((&rule::CONNECT_RESERVED).into());
        }
        let has = |flag: u8| flags & flag != 0;
        let will_qos = (flags >> WILL_QOS_SHIFT) & 0x03;
        if will_qos == 3 {
            return Err(rule::WILL_QOS.found(3_u8));
        }
        if !has(WILL) && (will_qos != 0 || has(WILL_RETAIN)) {
            return Err((&rule::WILL_FLAGS).into());
        }
        if level == Level::V3 && has(PASSWORD) && !has(USERNAME) {
            return Err((&rule::PASSWORD_ALONE).into());
        }
        let keep_alive = r.two()?;
        let properties = section(&mut r, level, Place::Connect)?;
        let client_id = r.text()?.to_owned();
        let will = if has(WILL) {
            let properties = section(&mut r, level, Place::Will)?;
            let topic = super::text::topic_name(r.field()?)?;
            if topic.is_empty() {
                return Err((&rule::TOPIC_EMPTY).into());
            }
            Some(Will {
                topic: topic.to_owned(),
                payload: Bytes::copy_from_slice(r.field()?),
                qos: will_qos,
                retain: has(WILL_RETAIN),
                properties,
            })
        } else {
            None
        };
        let username = if has(USERNAME) {
            Some(r.text()?.to_owned())
        } else {
            None
        };
        let password = if has(PASSWORD) {
            Some(Bytes::copy_from_slice(r.field()?))
        } else {
            None
        };
        if !r.is_empty() {
            return Err((&rule::LEFT_OVER).into());
        }
        Ok(Self {
            level,
            client_id,
            clean_session: has(CLEAN),
            keep_alive,
            will,
            username,
            password,
            properties,
        })
    }

    /// The whole packet, fixed header included.
    ///
    /// # Errors
    /// [`ConnectError::Malformed`] when a field is over 65,535 bytes, or the packet over what MQTT can say.
    pub fn encode(&self) -> Result<Vec<u8>, ConnectError> {
        self.write()
            .map_err(|v| v.in_packet(self.level, PacketType::Connect).into())
    }

    fn write(&self) -> Result<Vec<u8>, Violation> {
        let mut flags = if self.clean_session { CLEAN } else { 0 };
        let mut payload = Vec::with_capacity(128);
        put_section(&mut payload, self.level, &self.properties);
        put_field(&mut payload, self.client_id.as_bytes())?;
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos & 0x03) << WILL_QOS_SHIFT | if will.retain { WILL_RETAIN } else { 0 };
            put_section(&mut payload, self.level, &will.properties);
            put_field(&mut payload, will.topic.as_bytes())?;
            put_field(&mut payload, &will.payload)?;
        }
        if let Some(username) = &self.username {
            flags |= USERNAME;
            put_field(&mut payload, username.as_bytes())?;
        }
        if let Some(password) = &self.password {
            flags |= PASSWORD;
            put_field(&mut payload, password)?;
        }
        let mut head = Vec::with_capacity(10);
        put_field(&mut head, NAME.as_bytes())?;
        head.extend_from_slice(&[self.level.byte(), flags]);
        head.extend_from_slice(&self.keep_alive.to_be_bytes());
        packet(0x10, &[&head, &payload])
    }
}

/// The properties at the front; none in 3.1.1.
fn section(r: &mut Reader<'_>, level: Level, place: Place) -> Result<Bytes, Violation> {
    if level == Level::V3 {
        return Ok(Bytes::new());
    }
    let length = r.variable()?;
    let section = r.bytes(length as usize).map_err(|_| &rule::PROPERTY_LENGTH)?;
    properties::check(section, place)?;
    Ok(Bytes::copy_from_slice(section))
}

fn put_section(out: &mut Vec<u8>, level: Level, section: &[u8]) {
    if level == Level::V5 {
        properties::put_section(out, section);
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
