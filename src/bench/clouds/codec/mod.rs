//! Packets of MQTT 3.1.1 and 5 as one broker sees them: one set of types, a codec for each version. No I/O.
//!
//! rumqttc's `mqttbytes` reads packets of both versions and writes those with properties. What it lets pass or gets wrong is dealt with
//! here, so that nothing above needs to know:
//!
//! - [`properties`] walks the properties of a packet of version 5 first: a property that is repeated, of the wrong packet, or longer than
//!   its section is refused (rumqttc 0.25 takes the last one, and reads beyond the section);
//! - DISCONNECT and PUBACK of version 5 may end after any field; rumqttc refuses the short DISCONNECT and writes one byte too many, so
//!   acknowledgements and DISCONNECT are written here (they are two to six bytes);
//! - packet identifier 0, empty filter lists, topics that are not UTF-8, receive maximum 0 and such are refused here.
//!
//! Sources: OASIS MQTT 3.1.1 and OASIS MQTT 5.0; section numbers beside the code are those of the version concerned.

mod properties;
mod v4;
mod v5;

#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

use crate::mqtt::{Connect, ConnectError, Frame, Level, PacketType, connect};

/// Protocol level of MQTT 5 (section 3.1.2.2).
pub(super) const LEVEL_5: u8 = 5;

/// Which MQTT a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V4,
    /// 5.0.
    V5,
}

/// Why bytes are no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Bytes that break the packet's form.
    #[error("{0}")]
    Form(String),
    /// A packet of good form that the specification forbids here (version 5 tells the two apart).
    #[error("{0}")]
    Protocol(String),
}

impl Malformed {
    fn form(why: impl std::fmt::Display) -> Self {
        Self::Form(why.to_string())
    }

    fn protocol(why: impl Into<String>) -> Self {
        Self::Protocol(why.into())
    }
}

/// What version 5 says about a message and hands on to subscribers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// 0: bytes, 1: UTF-8 text.
    pub payload_format: Option<u8>,
    /// MIME type or whatever the parties agreed on.
    pub content_type: Option<String>,
    /// Where an answer goes.
    pub response_topic: Option<String>,
    /// What an answer has to carry.
    pub correlation: Option<Bytes>,
    /// Name and value.
    pub user: Vec<(String, String)>,
}

impl Properties {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What they take in memory, in bytes, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        let text = |t: &Option<String>| t.as_ref().map_or(0, String::len);
        text(&self.content_type)
            + text(&self.response_topic)
            + self.correlation.as_ref().map_or(0, Bytes::len)
            + self
                .user
                .iter()
                .map(|(k, v)| k.len() + v.len() + USER_PROPERTY_COST)
                .sum::<usize>()
    }
}

/// What a user property takes beside its text, in bytes: two strings' headers.
const USER_PROPERTY_COST: usize = 48;

/// A PUBLISH.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publish {
    /// Sent before.
    pub dup: bool,
    /// 0, 1 or 2.
    pub qos: u8,
    /// To be kept, or was kept.
    pub retain: bool,
    /// Where; may be empty with an alias.
    pub topic: String,
    /// Packet identifier; 0 with QoS 0.
    pub id: u16,
    /// What.
    pub payload: Bytes,
    /// Topic alias (version 5).
    pub alias: Option<u16>,
    /// For how long it is of use, in seconds (version 5).
    pub expiry: Option<u32>,
    /// Everything else (version 5).
    pub properties: Properties,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The filter as it came.
    pub filter: String,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Own messages are not wanted back.
    pub no_local: bool,
    /// Messages keep their RETAIN flag.
    pub retain_as_published: bool,
    /// When kept messages are sent.
    pub retained: RetainHandling,
}

/// When kept messages are sent to a new subscription (MQTT 5 section 3.8.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RetainHandling {
    /// At every SUBSCRIBE, as in 3.1.1.
    #[default]
    Always,
    /// When the subscription did not exist.
    WhenNew,
    /// Never.
    Never,
}

/// What a device sends after CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// A message.
    Publish(Publish),
    /// An acknowledgement.
    PubAck {
        /// Of which message.
        id: u16,
        /// 0 in 3.1.1.
        reason: u8,
        /// Whether user properties came with it.
        user_properties: bool,
    },
    /// SUBSCRIBE.
    Subscribe {
        /// Packet identifier.
        id: u16,
        /// At least one.
        filters: Vec<Wanted>,
        /// Whether a subscription identifier came with it.
        identifier: bool,
        /// Whether user properties came with it.
        user_properties: bool,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// Packet identifier.
        id: u16,
        /// At least one.
        filters: Vec<String>,
    },
    /// PINGREQ.
    PingReq,
    /// DISCONNECT.
    Disconnect {
        /// 0 in 3.1.1.
        reason: u8,
        /// The session's expiry is changed to this, in seconds.
        expiry: Option<u32>,
        /// Whether user properties came with it.
        user_properties: bool,
    },
    /// A kind of packet that is not expected.
    Other(PacketType),
}

/// What CONNECT of version 5 says besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello5 {
    /// How long the session outlives the connection, in seconds; `u32::MAX` is for ever.
    pub session_expiry: u32,
    /// Messages without acknowledgement that the device takes.
    pub receive_maximum: u16,
    /// Largest packet that the device takes, in bytes.
    pub packet_maximum: Option<u32>,
    /// Whether user properties came with it.
    pub user_properties: bool,
    /// An enhanced authentication method was asked for.
    pub authentication: Option<String>,
    /// How long the will waits, in seconds.
    pub will_delay: u32,
    /// The will's expiry, in seconds.
    pub will_expiry: Option<u32>,
    /// The will's properties.
    pub will: Properties,
}

/// A CONNECT of either version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What both versions say; `clean_session` is version 5's clean start.
    pub connect: Connect,
    /// What only version 5 says; none for 3.1.1.
    pub five: Option<Hello5>,
}

impl Hello {
    /// Which version it is of.
    #[must_use]
    pub fn version(&self) -> Version {
        if self.five.is_some() { Version::V5 } else { Version::V4 }
    }
}

/// Reads CONNECT; `five` says whether version 5 is taken.
///
/// # Errors
/// [`ConnectError`] as a 3.1.1 server sees it, or what is wrong with a CONNECT of version 5.
pub fn read_connect(frame: &Frame, five: bool) -> Result<Hello, ConnectRefused> {
    match connect::level(frame.body()).map_err(ConnectRefused::Four)? {
        Level::V3 => {
            let connect = Connect::decode(frame.body()).map_err(ConnectRefused::Four)?;
            Ok(Hello { connect, five: None })
        }
        Level::V5 if five => v5::connect(frame).map_err(ConnectRefused::Five),
        Level::V5 => Err(ConnectRefused::Four(ConnectError::Protocol {
            name: "MQTT".into(),
            level: LEVEL_5,
        })),
    }
}

/// Why a CONNECT cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectRefused {
    /// By the rules of 3.1.1, or of an unknown version.
    #[error(transparent)]
    Four(ConnectError),
    /// By the rules of 5.
    #[error("CONNECT: {0}")]
    Five(Malformed),
}

/// Reads what comes after CONNECT.
///
/// # Errors
/// [`Malformed`].
pub fn read(version: Version, frame: Frame) -> Result<Packet, Malformed> {
    // The flags of the fixed header (table 2.2 of both).
    let wanted = match frame.packet {
        PacketType::Publish => frame.flags(),
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0x02,
        _ => 0,
    };
    if frame.flags() != wanted {
        return Err(Malformed::form(format!(
            "its flags are {:#x}, not {wanted:#x}",
            frame.flags()
        )));
    }
    match version {
        Version::V4 => v4::read(frame),
        Version::V5 => v5::read(frame),
    }
}

/// What CONNACK of version 5 says about the server (section 3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// When it is not what the device asked for, in seconds.
    pub session_expiry: Option<u32>,
    /// Messages without acknowledgement that the server takes.
    pub receive_maximum: u16,
    /// Largest packet that the server takes, in bytes.
    pub packet_maximum: u32,
    /// Highest topic alias that the server takes.
    pub topic_alias_maximum: u16,
    /// Whether messages can be kept.
    pub retain: bool,
    /// Whether there are shared subscriptions.
    pub shared: bool,
    /// Whether there are subscription identifiers.
    pub identifiers: bool,
    /// When it is not what the device asked for, in seconds.
    pub keep_alive: Option<u16>,
}

/// What a stand-in sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    /// The device is admitted; terms go with version 5.
    Welcome {
        /// An earlier session goes on.
        present: bool,
        /// Ignored for 3.1.1.
        terms: Option<Terms>,
    },
    /// A refused CONNECT; the code is the version's own.
    Refused(u8),
    /// A message.
    Publish(Publish),
    /// An acknowledgement.
    PubAck(u16, u8),
    /// One code for each filter.
    SubAck(u16, Vec<u8>),
    /// One code for each filter; 3.1.1 sends none.
    UnsubAck(u16, Vec<u8>),
    /// PINGRESP.
    PingResp,
    /// DISCONNECT with a reason; 3.1.1 has none for servers and nothing is sent.
    Disconnect(u8),
}

/// The bytes of a packet; empty when this version has no such packet.
///
/// # Errors
/// What cannot be written: a field over 65,535 bytes, a packet over 256 MiB.
pub fn write(version: Version, out: &Out) -> Result<Bytes, Malformed> {
    let mut bytes = BytesMut::new();
    match (version, out) {
        (_, Out::PingResp) => bytes.extend_from_slice(&[0xd0, 0x00]),
        (Version::V4, out) => v4::write(out, &mut bytes)?,
        (Version::V5, out) => v5::write(out, &mut bytes)?,
    }
    Ok(bytes.freeze())
}

/// A packet of an identifier, perhaps a property section, and codes.
fn acknowledgement(bytes: &mut BytesMut, first: u8, id: u16, rest: &[&[u8]]) {
    let mut head = vec![first];
    crate::mqtt::frame::put_length(&mut head, 2 + rest.iter().map(|r| r.len()).sum::<usize>());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&id.to_be_bytes());
    for part in rest {
        bytes.extend_from_slice(part);
    }
}
