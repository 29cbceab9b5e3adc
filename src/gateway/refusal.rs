//! Why a device does not get through, what it is told, and what the operator is told.
//!
//! | case | CONNACK | why this code |
//! |---|---|---|
//! | another MQTT version | 1 | MQTT 3.1.1 [MQTT-3.1.2-2] |
//! | unknown or disabled device, a SIM in another modem than its own | 5 | nobody to be |
//! | keep-alive outside Beam's rule | 5 | what Beam answers |
//! | credential missing or broken, name cannot be built | 3 | the operator's to mend; the device is right to try again |
//! | upstream down, too slow, or TLS fails | 3 | the same |
//! | upstream's own refusal | as it came | it is upstream's answer |
//! | not a CONNECT, malformed, too large, too late, gateway full, guessing, a wrong PROXY header or certificate | none | the specification closes without an answer |

use crate::mqtt::connack;

/// Why a connection ended before it was relayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// All places are taken.
    #[error("all {0} connections are in use: raise listen.max_connections")]
    Full(usize),
    /// No whole CONNECT in time.
    #[error("no CONNECT within {0} s of the connection (listen.connect_timeout)")]
    Silent(u64),
    /// The device closed before its CONNECT was whole.
    #[error("the device closed the connection before CONNECT")]
    Gone,
    /// The first bytes are no CONNECT or break a rule.
    #[error("{0}")]
    Malformed(String),
    /// Another protocol version.
    #[error("{0}")]
    Version(String),
    /// Nobody knows this address or token.
    #[error("no subscriber has this address or token: add a [[subscriber]] for it")]
    Unknown,
    /// Beam's rule.
    #[error("keep-alive {0} s: it must be 0 or {min} to {max} s, as at SORACOM Beam", min = super::connect::KEEP_ALIVE_MIN, max = super::connect::KEEP_ALIVE_MAX)]
    KeepAlive(u16),
    /// The name or the credential for this subscriber cannot be had.
    #[error("{0}")]
    Credential(String),
    /// No connection to upstream.
    #[error("{0}")]
    Unreachable(String),
    /// TLS with upstream failed.
    #[error("{0}")]
    Tls(String),
    /// Upstream closed, was silent or answered nonsense where a CONNACK was due.
    #[error("{0}")]
    NoAnswer(String),
    /// Upstream's own CONNACK.
    #[error("upstream refuses with CONNACK {0} ({meaning})", meaning = connack::meaning(*.0))]
    Upstream(u8),
    /// A subscriber that may not connect.
    #[error("this subscriber is disabled: enable it to let it in")]
    Disabled,
    /// A SIM in another modem than its own.
    #[error("the client id does not end in the IMEI that this subscriber is locked to: is the SIM in another modem?")]
    Imei,
    /// A PROXY header that is missing, wrong, or from an address that may not send one.
    #[error("{0}")]
    Proxy(String),
    /// TLS with the device failed.
    #[error("{0}")]
    DoorTls(String),
    /// The device's certificate is not a good one.
    #[error("{0}")]
    Certificate(String),
    /// One address holds all that it may.
    #[error("{0} connections come from this address already: see listen.max_per_address")]
    TooManyFrom(usize),
    /// A stranger had to make room.
    #[error("it had sent no CONNECT yet, and its place was needed: many connect without saying who they are")]
    Evicted,
    /// Too many wrong guesses came from this address.
    #[error("too many unknown devices come from this address: it is not heard for {0} s more (listen.guesses)")]
    Guessing(u64),
}

/// The keys of [`Refusal::key`], for counters.
pub const KEYS: [&str; 20] = [
    "full",
    "silent",
    "gone",
    "malformed",
    "version",
    "unknown_device",
    "keep_alive",
    "credential",
    "upstream_unreachable",
    "upstream_tls",
    "upstream_no_answer",
    "upstream_refused",
    "disabled",
    "imei_mismatch",
    "proxy",
    "tls",
    "certificate",
    "too_many_from_address",
    "evicted",
    "guessing",
];

impl Refusal {
    /// The return code of the CONNACK the device gets; `None` closes without an answer.
    #[must_use]
    pub fn code(&self) -> Option<u8> {
        match self {
            Self::Full(_) | Self::Silent(_) | Self::Gone | Self::Malformed(_) => None,
            Self::Version(_) => Some(connack::BAD_PROTOCOL),
            Self::Unknown | Self::KeepAlive(_) => Some(connack::NOT_AUTHORIZED),
            Self::Credential(_) | Self::Unreachable(_) | Self::Tls(_) | Self::NoAnswer(_) => Some(connack::UNAVAILABLE),
            Self::Upstream(code) => Some(*code),
            Self::Disabled | Self::Imei => Some(connack::NOT_AUTHORIZED),
            Self::Proxy(_)
            | Self::DoorTls(_)
            | Self::Certificate(_)
            | Self::TooManyFrom(_)
            | Self::Evicted
            | Self::Guessing(_) => None,
        }
    }

    /// Position in [`KEYS`].
    #[must_use]
    pub fn index(&self) -> usize {
        match self {
            Self::Full(_) => 0,
            Self::Silent(_) => 1,
            Self::Gone => 2,
            Self::Malformed(_) => 3,
            Self::Version(_) => 4,
            Self::Unknown => 5,
            Self::KeepAlive(_) => 6,
            Self::Credential(_) => 7,
            Self::Unreachable(_) => 8,
            Self::Tls(_) => 9,
            Self::NoAnswer(_) => 10,
            Self::Upstream(_) => 11,
            Self::Disabled => 12,
            Self::Imei => 13,
            Self::Proxy(_) => 14,
            Self::DoorTls(_) => 15,
            Self::Certificate(_) => 16,
            Self::TooManyFrom(_) => 17,
            Self::Evicted => 18,
            Self::Guessing(_) => 19,
        }
    }

    /// A word for counters and JSON.
    #[must_use]
    pub fn key(&self) -> &'static str {
        KEYS.get(self.index()).copied().unwrap_or("other")
    }
}
