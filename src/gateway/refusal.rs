//! Why a device does not get through, what it is told, and what the operator is told.
//!
//! | case | CONNACK 3.1.1 | 5 | why this code |
//! |---|---|---|---|
//! | another MQTT version, or MQTT 5 where upstream has none | 1 | 0x84 | [MQTT-3.1.2-2] |
//! | unknown or disabled device, a SIM in another modem than its own | 5 | 0x87 | nobody to be |
//! | keep-alive outside the group's rule | 5 | 0x87 | what Beam answers |
//! | something that upstream would punish (policy) | the nearest | its own | so that the device's log names it |
//! | credential missing or broken, name cannot be built | 3 | 0x88 | the operator's to mend; the device is right to try again |
//! | upstream down, too slow, or TLS fails | 3 | 0x88 | the same |
//! | upstream's own refusal | as it came, or the nearest | the same | it is upstream's answer |
//! | not a CONNECT, malformed, too large, too late, gateway full, guessing, a wrong PROXY header or certificate | none | none | the specification closes without an answer |
//!
//! The nearest of a reason code of MQTT 5 is 1, 2, 4 or 5 where 3.1.1 has the same word, and else 3, so that the device tries again; for a
//! policy's QoS, retain and size it is 5, because trying again does not help.

use crate::mqtt::{ConnAck, Level, connack, reason};

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
    #[error(
        "keep-alive {asked} s: it must be 0 or {min} to {max} s (the group's rule; SORACOM Beam's is 0 or 5 to 1200 s)"
    )]
    KeepAlive {
        /// What the device asked for, in seconds.
        asked: u16,
        /// Shortest, in seconds.
        min: u16,
        /// Longest, in seconds.
        max: u16,
    },
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
    /// Upstream's own CONNACK of MQTT 5.
    #[error("upstream refuses with reason code {0:#04x} ({meaning})", meaning = reason::meaning(*.0))]
    Upstream5(u8),
    /// Something in CONNECT that upstream would punish.
    #[error("{word}: {why}")]
    Policy {
        /// The matter's word in the group's policy.
        word: &'static str,
        /// Offending and expected value.
        why: String,
        /// The reason code of MQTT 5.
        reason: u8,
    },
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
    /// The device's group is switched off.
    #[error("its group {0} is not enabled: set enabled to true in the group's configuration")]
    GroupDisabled(String),
}

/// The keys of [`Refusal::key`], for counters.
pub const KEYS: [&str; 22] = [
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
    "policy",
    "group_disabled",
];

impl Refusal {
    /// The return code of the CONNACK the device gets; `None` closes without an answer.
    #[must_use]
    pub fn code(&self) -> Option<u8> {
        match self {
            Self::Full(_) | Self::Silent(_) | Self::Gone | Self::Malformed(_) => None,
            Self::Version(_) => Some(connack::BAD_PROTOCOL),
            Self::Unknown | Self::KeepAlive { .. } | Self::GroupDisabled(_) => Some(connack::NOT_AUTHORIZED),
            Self::Credential(_) | Self::Unreachable(_) | Self::Tls(_) | Self::NoAnswer(_) => Some(connack::UNAVAILABLE),
            Self::Upstream(code) => Some(*code),
            Self::Upstream5(code) => Some(connack::code_for(*code)),
            Self::Policy { reason, .. } => match connack::code_for(*reason) {
                connack::UNAVAILABLE => Some(connack::NOT_AUTHORIZED),
                code => Some(code),
            },
            Self::Disabled | Self::Imei => Some(connack::NOT_AUTHORIZED),
            Self::Proxy(_)
            | Self::DoorTls(_)
            | Self::Certificate(_)
            | Self::TooManyFrom(_)
            | Self::Evicted
            | Self::Guessing(_) => None,
        }
    }

    /// The CONNACK for a device that speaks this version; `None` closes without an answer. MQTT 5 has its own codes, and gets
    /// upstream's own where upstream speaks it too.
    #[must_use]
    pub fn connack(&self, level: Level) -> Option<ConnAck> {
        let code = self.code()?;
        let mut connack = ConnAck::refusal(level, code);
        if let (Level::V5, Self::Upstream5(reason) | Self::Policy { reason, .. }) = (level, self) {
            connack.code = *reason;
        }
        Some(connack)
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
            Self::KeepAlive { .. } => 6,
            Self::Credential(_) => 7,
            Self::Unreachable(_) => 8,
            Self::Tls(_) => 9,
            Self::NoAnswer(_) => 10,
            Self::Upstream(_) | Self::Upstream5(_) => 11,
            Self::Disabled => 12,
            Self::Imei => 13,
            Self::Proxy(_) => 14,
            Self::DoorTls(_) => 15,
            Self::Certificate(_) => 16,
            Self::TooManyFrom(_) => 17,
            Self::Evicted => 18,
            Self::Guessing(_) => 19,
            Self::Policy { .. } => 20,
            Self::GroupDisabled(_) => 21,
        }
    }

    /// A word for counters and JSON.
    #[must_use]
    pub fn key(&self) -> &'static str {
        KEYS.get(self.index()).copied().unwrap_or("other")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_gets_its_own_word() {
        let policy = |reason| Refusal::Policy {
            word: "w",
            why: "y".into(),
            reason,
        };
        for (refusal, three, five) in [
            (Refusal::Version(String::new()), 1, 0x84),
            (Refusal::Unknown, 5, 0x87),
            (
                Refusal::KeepAlive {
                    asked: 3,
                    min: 5,
                    max: 1_200,
                },
                5,
                0x87,
            ),
            (Refusal::Credential(String::new()), 3, 0x88),
            (Refusal::Unreachable(String::new()), 3, 0x88),
            (Refusal::Upstream(2), 2, 0x85),
            (Refusal::Upstream(5), 5, 0x87),
            (Refusal::Upstream5(0x8c), 5, 0x8c),
            (Refusal::Upstream5(0x97), 3, 0x97),
            (policy(reason::BAD_CLIENT_ID), 2, 0x85),
            (policy(reason::QOS_NOT_SUPPORTED), 5, 0x9b),
        ] {
            let code = |level| refusal.connack(level).unwrap().code;
            assert_eq!((code(Level::V3), code(Level::V5)), (three, five), "{refusal:?}");
            assert!(KEYS.contains(&refusal.key()));
        }
        assert!(Refusal::Gone.connack(Level::V5).is_none());
    }
}
