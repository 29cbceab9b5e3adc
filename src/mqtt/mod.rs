//! MQTT as bytes: splitting a stream into packets, the specification's rules, and the packets a relay reads and writes. No I/O.
//!
//! The session, the gateway and the bench share this room. Ordinary packets of the agent are read and written by `rumqttc::mqttbytes`;
//! what is our own is so because a relay must not change what it does not understand, and must not let through what the other side
//! would punish:
//!
//! | module | what it is for |
//! |---|---|
//! | [`frame`] | cutting a byte stream into whole packets without decoding them |
//! | [`connect`], [`connack`] | CONNECT and CONNACK of 3.1.1 and 5; passwords, wills and properties stay the bytes that came |
//! | [`answer`] | the short packets that a gateway sends of its own |
//! | [`properties`] | the properties of version 5 |
//! | [`rule`], [`reason`] | every rule a packet can break, with its number; the reason codes of version 5 |
//! | [`text`], [`reader`] | strings, topic names, topic filters; fields |
//!
//! Sources of every number here: OASIS MQTT 3.1.1 and OASIS MQTT 5.0.

pub mod answer;
pub mod connack;
pub mod connect;
pub mod frame;
pub mod properties;
pub mod reader;
pub mod reason;
pub mod rule;
pub mod text;

pub use connack::ConnAck;
pub use connect::{Connect, ConnectError, Will};
pub use frame::{Frame, FrameError, Head, PacketType, peek_frame, split_frame};
pub use properties::Properties;
pub use rule::{Rule, Violation};

/// A version of MQTT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// 3.1.1, which says 4 in CONNECT.
    #[default]
    V3,
    /// 5.
    V5,
}

impl Level {
    /// The protocol level in CONNECT (3.1.1 and 5: section 3.1.2.2).
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::V3 => 4,
            Self::V5 => 5,
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V3 => "3.1.1",
            Self::V5 => "5",
        })
    }
}
