//! MQTT as bytes: splitting a stream into packets, and the CONNECT packet. No I/O.
//!
//! The session, the gateway and the bench share this room. Ordinary packets are read and written by `rumqttc::mqttbytes`; two things
//! are our own because a relay must not change what it does not understand: [`frame`] cuts a byte stream into whole packets without
//! decoding them, and [`connect`] reads and writes CONNECT keeping binary passwords, wills and unknown protocol levels as they came.
//!
//! Source of every number here: OASIS MQTT 3.1.1.

pub mod connect;
pub mod frame;

pub use connect::{Connect, ConnectError, Will};
pub use frame::{Frame, FrameError, Head, PacketType, peek_frame, split_frame};

/// CONNACK return codes (MQTT 3.1.1 table 3.1).
pub mod connack {
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

    /// What a code means, for people.
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

    /// The four bytes of a CONNACK without session.
    #[must_use]
    pub fn packet(code: u8) -> [u8; 4] {
        [0x20, 0x02, 0x00, code]
    }
}
