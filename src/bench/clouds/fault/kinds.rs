//! Faults of what is said over a connection: by Krypton and other HTTPS doors, and by MQTT stand-ins.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::config::units;

/// What Krypton does wrong; the first five, which concern whole answers, other HTTPS doors can do too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KryptonFault {
    /// Every request is answered with this status, 400 to 599, and a `{code,message}` body.
    Http(u16),
    /// 200 with a web page, as a captive portal does.
    Html,
    /// The right answer, cut in the middle.
    Truncated,
    /// 200 without a body.
    Empty,
    /// No answer for as long as the client waits.
    Slow,
    /// The private key belongs to another certificate.
    WrongKey,
    /// The certificate has expired already.
    Expired,
    /// The certificate is PEM around something else.
    GarbageCertificate,
    /// Azure: `assigning` for ever.
    NeverAssigned,
    /// Azure: `failed`.
    Failed,
}

/// What an MQTT stand-in does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttFault {
    /// CONNACK with this code, 1 to 5, then close.
    Refuse(u8),
    /// CONNACK 0, then close: what AWS does to a client that its policy denies.
    CloseAfterConnack,
    /// Messages are taken and never acknowledged.
    NoPuback,
    /// The connection is cut as its n-th PUBLISH arrives, which is not taken; n is at least 1.
    CutAfter(u32),
    /// Subscriptions are made and never acknowledged.
    NoSuback,
    /// PINGREQ has no answer.
    NoPingresp,
    /// Every acknowledgement (PUBACK, SUBACK, PINGRESP) comes this much later, one after the other: the connection does nothing else
    /// meanwhile. At most [`LATE_MAX`].
    Late(Duration),
    /// A QoS 1 message goes to its subscriber twice over the same connection, the second time marked DUP.
    Duplicate,
}

/// Longest delay of an acknowledgement.
pub const LATE_MAX: Duration = Duration::from_secs(3_600);

/// Names of faults of whole answers, for people.
pub(super) const ANSWER_NAMES: &str = "http-400 … http-599, html, truncated, empty, slow";
/// Names of faults of the credentials that Krypton gives.
pub(super) const CREDENTIAL_NAMES: &str = "wrong-key, expired, garbage-cert, never-assigned, failed";
/// Names of faults of MQTT.
pub(super) const MQTT_NAMES: &str = "refuse-1 … refuse-5, close-after-connack, no-puback, no-suback, no-pingresp, late-acks=DURATION, cut-after-N, duplicate";

impl KryptonFault {
    /// Whether any HTTPS door can have it.
    #[must_use]
    pub fn concerns_whole_answers(self) -> bool {
        matches!(
            self,
            Self::Http(_) | Self::Html | Self::Truncated | Self::Empty | Self::Slow
        )
    }
}

impl FromStr for KryptonFault {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(status) = text.strip_prefix("http-").and_then(|n| n.parse().ok()) {
            if (400..600).contains(&status) {
                return Ok(Self::Http(status));
            }
        }
        Ok(match text {
            "html" => Self::Html,
            "truncated" => Self::Truncated,
            "empty" => Self::Empty,
            "slow" => Self::Slow,
            "wrong-key" => Self::WrongKey,
            "expired" => Self::Expired,
            "garbage-cert" => Self::GarbageCertificate,
            "never-assigned" => Self::NeverAssigned,
            "failed" => Self::Failed,
            _ => {
                return Err(format!(
                    "{text:?} is no Krypton fault: write one of {ANSWER_NAMES}, {CREDENTIAL_NAMES}"
                ));
            }
        })
    }
}

impl fmt::Display for KryptonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http(status) => return write!(f, "http-{status}"),
            Self::Html => "html",
            Self::Truncated => "truncated",
            Self::Empty => "empty",
            Self::Slow => "slow",
            Self::WrongKey => "wrong-key",
            Self::Expired => "expired",
            Self::GarbageCertificate => "garbage-cert",
            Self::NeverAssigned => "never-assigned",
            Self::Failed => "failed",
        })
    }
}

impl FromStr for MqttFault {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(code) = text.strip_prefix("refuse-").and_then(|n| n.parse().ok()) {
            if (1..=5).contains(&code) {
                return Ok(Self::Refuse(code));
            }
        }
        if let Some(count) = text.strip_prefix("cut-after-").and_then(|n| n.parse().ok()) {
            if count > 0 {
                return Ok(Self::CutAfter(count));
            }
        }
        if let Some(by) = text.strip_prefix("late-acks=") {
            let by = units::duration(by)?;
            if by > LATE_MAX {
                return Err(format!("{by:?} is too late: at most {} s", LATE_MAX.as_secs()));
            }
            return Ok(Self::Late(by));
        }
        match text {
            "close-after-connack" => Ok(Self::CloseAfterConnack),
            "no-puback" => Ok(Self::NoPuback),
            "no-suback" => Ok(Self::NoSuback),
            "no-pingresp" => Ok(Self::NoPingresp),
            "duplicate" => Ok(Self::Duplicate),
            _ => Err(format!("{text:?} is no MQTT fault: write one of {MQTT_NAMES}")),
        }
    }
}

impl fmt::Display for MqttFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse(code) => write!(f, "refuse-{code}"),
            Self::CloseAfterConnack => f.write_str("close-after-connack"),
            Self::NoPuback => f.write_str("no-puback"),
            Self::CutAfter(n) => write!(f, "cut-after-{n}"),
            Self::NoSuback => f.write_str("no-suback"),
            Self::NoPingresp => f.write_str("no-pingresp"),
            Self::Late(by) => write!(f, "late-acks={}ms", by.as_millis()),
            Self::Duplicate => f.write_str("duplicate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in [
            "http-403",
            "html",
            "truncated",
            "empty",
            "slow",
            "wrong-key",
            "expired",
            "garbage-cert",
            "never-assigned",
            "failed",
        ] {
            assert_eq!(name.parse::<KryptonFault>().unwrap().to_string(), name);
        }
        for name in [
            "refuse-5",
            "refuse-3",
            "close-after-connack",
            "no-puback",
            "cut-after-7",
            "no-suback",
            "no-pingresp",
            "late-acks=1500ms",
            "duplicate",
        ] {
            assert_eq!(name.parse::<MqttFault>().unwrap().to_string(), name);
        }
        for bad in ["", "http-200", "http-x"] {
            assert!(bad.parse::<KryptonFault>().is_err(), "{bad}");
        }
        for bad in [
            "refuse-0",
            "refuse-6",
            "cut-after-0",
            "cut-after--1",
            "late-acks=2",
            "late-acks=2h",
        ] {
            assert!(bad.parse::<MqttFault>().is_err(), "{bad}");
        }
    }
}
