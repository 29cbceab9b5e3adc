//! The CONNACK packet of both versions (MQTT 3.1.1 and 5 section 3.2), and the return codes of 3.1.1 (its table 3.1).

use bytes::Bytes;

use super::frame;
use super::properties::{self, Place, Properties, Value, id};
use super::reader::Reader;
use super::rule::{self, Violation};
use super::{Level, PacketType, reason};

/// Connection accepted.
pub const ACCEPTED: u8 = 0;
/// The server does not support the protocol level.
pub const BAD_PROTOCOL: u8 = 1;
/// The client identifier is not allowed.
pub const BAD_CLIENT_ID: u8 = 2;
/// The server is unavailable.
pub const UNAVAILABLE: u8 = 3;
/// The user name or password is malformed.
pub const BAD_CREDENTIALS: u8 = 4;
/// The client is not authorized to connect.
pub const NOT_AUTHORIZED: u8 = 5;

/// What a return code of 3.1.1 means, for people.
#[must_use]
pub fn meaning(code: u8) -> &'static str {
    match code {
        ACCEPTED => "accepted",
        BAD_PROTOCOL => "protocol version not supported",
        BAD_CLIENT_ID => "client id refused",
        UNAVAILABLE => "server unavailable",
        BAD_CREDENTIALS => "user name or password malformed",
        NOT_AUTHORIZED => "not authorized",
        _ => "unknown return code",
    }
}

/// The four bytes of a CONNACK of 3.1.1 without session.
#[must_use]
pub fn packet(code: u8) -> [u8; 4] {
    [0x20, 0x02, 0x00, code]
}

/// Version 5's reason code for a return code of 3.1.1 (MQTT 5 section 3.2.2.2).
#[must_use]
pub fn reason_for(code: u8) -> u8 {
    match code {
        ACCEPTED => reason::SUCCESS,
        BAD_PROTOCOL => reason::UNSUPPORTED_VERSION,
        BAD_CLIENT_ID => reason::BAD_CLIENT_ID,
        UNAVAILABLE => reason::UNAVAILABLE,
        BAD_CREDENTIALS => reason::BAD_CREDENTIALS,
        NOT_AUTHORIZED => reason::NOT_AUTHORIZED,
        _ => reason::UNSPECIFIED,
    }
}

/// 3.1.1's return code for a reason code of version 5. What 3.1.1 has no word for becomes [`UNAVAILABLE`], so that the device tries
/// again.
#[must_use]
pub fn code_for(reason: u8) -> u8 {
    match reason {
        reason::SUCCESS => ACCEPTED,
        reason::UNSUPPORTED_VERSION => BAD_PROTOCOL,
        reason::BAD_CLIENT_ID => BAD_CLIENT_ID,
        reason::BAD_CREDENTIALS => BAD_CREDENTIALS,
        reason::NOT_AUTHORIZED | reason::BANNED | reason::BAD_AUTH_METHOD => NOT_AUTHORIZED,
        _ => UNAVAILABLE,
    }
}

/// A CONNACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnAck {
    /// Which version it is of: [`ConnAck::code`] is one of its codes.
    pub level: Level,
    /// An earlier session goes on.
    pub session_present: bool,
    /// 0 when accepted; otherwise a return code of 3.1.1 or a reason code of 5.
    pub code: u8,
    /// Version 5's properties as they came, without their length.
    pub properties: Bytes,
}

impl ConnAck {
    /// A refusal; `code` is a return code of 3.1.1, which version 5 has its own words for.
    #[must_use]
    pub fn refusal(level: Level, code: u8) -> Self {
        Self {
            level,
            session_present: false,
            code: match level {
                Level::V3 => code,
                Level::V5 => reason_for(code),
            },
            properties: Bytes::new(),
        }
    }

    /// A refusal of version 5 that says in words what to do (Reason String). Of a text over 65,535 bytes nothing is said.
    #[must_use]
    pub fn refusal_5(reason: u8, why: Option<&str>) -> Self {
        let mut section = Vec::new();
        if let Some(why) = why {
            if properties::put(&mut section, id::REASON_STRING, Value::Text(why)).is_err() {
                section.clear();
            }
        }
        Self {
            level: Level::V5,
            session_present: false,
            code: reason,
            properties: section.into(),
        }
    }

    /// Whether the device is in.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.code == ACCEPTED
    }

    /// Version 5's properties.
    #[must_use]
    pub fn properties(&self) -> Properties<'_> {
        Properties::checked(&self.properties)
    }

    /// What the code means, for people.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        match self.level {
            Level::V3 => meaning(self.code),
            Level::V5 if self.is_accepted() => meaning(ACCEPTED),
            Level::V5 => reason::meaning(self.code),
        }
    }

    /// Reads the variable header of a CONNACK that answers a CONNECT of this version. A server that knows 3.1.1 only answers a CONNECT
    /// of version 5 with a refusal of 3.1.1, and this reads it as such.
    ///
    /// # Errors
    /// [`Violation`]: the server cannot be understood.
    pub fn decode(level: Level, body: &[u8]) -> Result<Self, Violation> {
        Self::read(level, body).map_err(|v| v.in_packet(level, PacketType::ConnAck))
    }

    fn read(asked: Level, body: &[u8]) -> Result<Self, Violation> {
        let mut r = Reader(body);
        let flags = r.byte()?;
        if flags > 1 {
            return Err(rule::CONNACK_FLAGS.found(flags));
        }
        let code = r.byte()?;
        let level = match asked {
            Level::V5 if r.is_empty() && (BAD_PROTOCOL..=NOT_AUTHORIZED).contains(&code) => Level::V3,
            asked => asked,
        };
        let properties = match level {
            Level::V3 => Bytes::new(),
            Level::V5 => {
                let length = r.variable()?;
                let section = r.bytes(length as usize).map_err(|_| &rule::PROPERTY_LENGTH)?;
                properties::check(section, Place::ConnAck)?;
                Bytes::copy_from_slice(section)
            }
        };
        if !r.is_empty() {
            return Err((&rule::LEFT_OVER).into());
        }
        Ok(Self {
            level,
            session_present: flags == 1,
            code,
            properties,
        })
    }

    /// The whole packet, fixed header included.
    ///
    /// # Errors
    /// [`rule::WHOLE_SIZE`].
    pub fn encode(&self) -> Result<Vec<u8>, Violation> {
        let head = [u8::from(self.session_present), self.code];
        match self.level {
            Level::V3 => frame::packet(0x20, &[&head]),
            Level::V5 => {
                let mut section = Vec::with_capacity(self.properties.len() + 1);
                properties::put_section(&mut section, &self.properties);
                frame::packet(0x20, &[&head, &section])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_and_written() {
        let four = ConnAck::decode(Level::V3, &[1, 0]).unwrap();
        assert!(four.session_present && four.is_accepted());
        assert_eq!(four.encode().unwrap(), b"\x20\x02\x01\x00");
        let body = b"\x00\x00\x10\x21\x00\x0a\x22\x00\x05\x24\x01\x27\x00\x00\x10\x00\x13\x00\x3c";
        let five = ConnAck::decode(Level::V5, body).unwrap();
        let p = five.properties();
        assert_eq!(
            (p.two(id::RECEIVE_MAXIMUM), p.two(id::TOPIC_ALIAS_MAXIMUM)),
            (Some(10), Some(5))
        );
        assert_eq!(
            (p.byte(id::MAXIMUM_QOS), p.four(id::MAXIMUM_PACKET)),
            (Some(1), Some(4_096))
        );
        assert_eq!(p.two(id::SERVER_KEEP_ALIVE), Some(60));
        assert_eq!(&five.encode().unwrap()[2..], body);
    }

    #[test]
    fn refusals_have_the_code_of_their_version() {
        assert_eq!(ConnAck::refusal(Level::V3, NOT_AUTHORIZED).encode().unwrap(), packet(5));
        assert_eq!(
            ConnAck::refusal(Level::V5, NOT_AUTHORIZED).encode().unwrap(),
            b"\x20\x03\x00\x87\x00"
        );
        let said = ConnAck::refusal_5(reason::BUSY, Some("later")).encode().unwrap();
        assert_eq!(said, b"\x20\x0b\x00\x89\x08\x1f\x00\x05later");
        for code in ACCEPTED..=NOT_AUTHORIZED {
            assert_eq!(code_for(reason_for(code)), code);
        }
    }

    #[test]
    fn a_server_of_3_1_1_is_understood_and_nonsense_is_not() {
        let old = ConnAck::decode(Level::V5, &[0, 1]).unwrap();
        assert_eq!(
            (old.level, old.meaning()),
            (Level::V3, "protocol version not supported")
        );
        for (level, body, id) in [
            (Level::V5, &[0, 0][..], "truncated"),
            (Level::V5, &[0, 0, 3, 0], "property-length"),
            (Level::V5, &[0, 0, 0, 0], "left-over"),
            (Level::V5, &[0, 0, 3, 35, 0, 1], "property-place"),
            (Level::V3, &[2, 0], "connack-flags"),
            (Level::V3, &[0], "truncated"),
            (Level::V3, &[0, 0, 0], "left-over"),
        ] {
            assert_eq!(ConnAck::decode(level, body).unwrap_err().id(), id, "{body:?}");
        }
    }
}
