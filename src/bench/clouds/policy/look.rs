//! How a refusal looks from the device: in MQTT 3.1.1, which can say little, and in MQTT 5, which has a reason for everything.

/// How a refusal looks from the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// CONNACK with this code (MQTT 3.1.1 table 3.1), then the connection is closed.
    ConnAck(u8),
    /// The connection is closed without a word.
    Close,
    /// SUBACK with failure (0x80) for this filter; the connection stays.
    SubAckFailure,
    /// No answer at all; the connection stays.
    Silence,
    /// An answer with this status, as in HTTP; the connection stays.
    Answer(u16),
    /// To a device that speaks MQTT 5.
    In5(Look5),
}

/// How a refusal looks in MQTT 5; the number is the reason code. Before CONNACK every one of them but [`Self::Close`] is a CONNACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look5 {
    /// CONNACK, then the connection is closed.
    ConnAck(u8),
    /// PUBACK, the connection stays; a message of QoS 0 has none, and the connection ends with DISCONNECT.
    PubAck(u8),
    /// SUBACK for this filter; the connection stays.
    SubAck(u8),
    /// DISCONNECT, then the connection is closed.
    Disconnect(u8),
    /// The connection is closed without a word.
    Close,
    /// No answer at all; the connection stays.
    Silence,
}

impl Look {
    /// What a refusal that says nothing about MQTT 5 looks like there.
    #[must_use]
    pub fn in_5(self) -> Look5 {
        match self {
            Self::ConnAck(code) => Look5::ConnAck(reason::of_return_code(code)),
            Self::Close => Look5::Disconnect(reason::UNSPECIFIED),
            Self::SubAckFailure => Look5::SubAck(reason::UNSPECIFIED),
            Self::Silence | Self::Answer(_) => Look5::Silence,
            Self::In5(look) => look,
        }
    }
}

impl Look5 {
    /// The reason code, if one is said.
    #[must_use]
    pub fn reason(self) -> Option<u8> {
        match self {
            Self::ConnAck(r) | Self::PubAck(r) | Self::SubAck(r) | Self::Disconnect(r) => Some(r),
            Self::Close | Self::Silence => None,
        }
    }
}

impl std::fmt::Display for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConnAck(code) => write!(f, "CONNACK {code} ({})", crate::mqtt::connack::meaning(*code)),
            Self::Close => f.write_str("connection closed"),
            Self::SubAckFailure => f.write_str("SUBACK 128 (failure)"),
            Self::Silence => f.write_str("no answer"),
            Self::Answer(status) => write!(f, "status {status}"),
            Self::In5(look) => look.fmt(f),
        }
    }
}

impl std::fmt::Display for Look5 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (packet, code) = match self {
            Self::ConnAck(code) => ("CONNACK", code),
            Self::PubAck(code) => ("PUBACK", code),
            Self::SubAck(code) => ("SUBACK", code),
            Self::Disconnect(code) => ("DISCONNECT", code),
            Self::Close => return f.write_str("connection closed"),
            Self::Silence => return f.write_str("no answer"),
        };
        write!(f, "{packet} 0x{code:02X} ({})", reason::meaning(*code))
    }
}

/// Reason codes of MQTT 5 (OASIS MQTT 5.0 section 2.4).
pub mod reason {
    #![allow(missing_docs)]
    pub const SUCCESS: u8 = 0x00;
    pub const WITH_WILL: u8 = 0x04;
    pub const NO_SUBSCRIPTION: u8 = 0x11;
    pub const UNSPECIFIED: u8 = 0x80;
    pub const MALFORMED: u8 = 0x81;
    pub const PROTOCOL_ERROR: u8 = 0x82;
    pub const IMPLEMENTATION: u8 = 0x83;
    pub const UNSUPPORTED_VERSION: u8 = 0x84;
    pub const BAD_CLIENT_ID: u8 = 0x85;
    pub const BAD_CREDENTIALS: u8 = 0x86;
    pub const NOT_AUTHORIZED: u8 = 0x87;
    pub const UNAVAILABLE: u8 = 0x88;
    pub const BAD_METHOD: u8 = 0x8c;
    pub const KEEP_ALIVE: u8 = 0x8d;
    pub const TAKEN_OVER: u8 = 0x8e;
    pub const FILTER_INVALID: u8 = 0x8f;
    pub const TOPIC_INVALID: u8 = 0x90;
    pub const RECEIVE_MAXIMUM: u8 = 0x93;
    pub const ALIAS_INVALID: u8 = 0x94;
    pub const PACKET_TOO_LARGE: u8 = 0x95;
    pub const RATE: u8 = 0x96;
    pub const QUOTA: u8 = 0x97;
    pub const ADMINISTRATIVE: u8 = 0x98;
    pub const RETAIN: u8 = 0x9a;
    pub const QOS: u8 = 0x9b;
    pub const SHARED: u8 = 0x9e;
    pub const IDENTIFIERS: u8 = 0xa1;

    /// What a code means, for people.
    #[must_use]
    pub fn meaning(code: u8) -> &'static str {
        match code {
            SUCCESS => "success",
            WITH_WILL => "disconnect with will",
            NO_SUBSCRIPTION => "no subscription existed",
            UNSPECIFIED => "unspecified error",
            MALFORMED => "malformed packet",
            PROTOCOL_ERROR => "protocol error",
            IMPLEMENTATION => "implementation specific error",
            UNSUPPORTED_VERSION => "protocol version not supported",
            BAD_CLIENT_ID => "client id not valid",
            BAD_CREDENTIALS => "bad user name or password",
            NOT_AUTHORIZED => "not authorized",
            UNAVAILABLE => "server unavailable",
            BAD_METHOD => "bad authentication method",
            KEEP_ALIVE => "keep alive timeout",
            TAKEN_OVER => "session taken over",
            FILTER_INVALID => "topic filter invalid",
            TOPIC_INVALID => "topic name invalid",
            RECEIVE_MAXIMUM => "receive maximum exceeded",
            ALIAS_INVALID => "topic alias invalid",
            PACKET_TOO_LARGE => "packet too large",
            RATE => "message rate too high",
            QUOTA => "quota exceeded",
            ADMINISTRATIVE => "administrative action",
            RETAIN => "retain not supported",
            QOS => "QoS not supported",
            SHARED => "shared subscriptions not supported",
            IDENTIFIERS => "subscription identifiers not supported",
            _ => "another reason",
        }
    }

    /// The reason of MQTT 5 that says what a return code of 3.1.1 says.
    #[must_use]
    pub fn of_return_code(code: u8) -> u8 {
        use crate::mqtt::connack;
        match code {
            connack::BAD_PROTOCOL => UNSUPPORTED_VERSION,
            connack::BAD_CLIENT_ID => BAD_CLIENT_ID,
            connack::UNAVAILABLE => UNAVAILABLE,
            connack::BAD_CREDENTIALS => BAD_CREDENTIALS,
            connack::NOT_AUTHORIZED => NOT_AUTHORIZED,
            // Already a code of version 5: an unsupported protocol version is answered in the version that was asked for.
            already if already >= UNSPECIFIED => already,
            _ => UNSPECIFIED,
        }
    }
}
