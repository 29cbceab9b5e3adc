//! Misbehaviour on demand. A fault is named on the command line or set while the stand-ins run, and may be limited to a number of
//! times: `http-500*2` fails two requests and then all is well again.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// What Krypton does wrong.
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
}

/// What a fault's name may be, for people.
const KRYPTON_NAMES: &str =
    "http-400 … http-599, html, truncated, empty, slow, wrong-key, expired, garbage-cert, never-assigned, failed";
const MQTT_NAMES: &str = "refuse-1 … refuse-5, close-after-connack, no-puback, cut-after-N";

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
            _ => return Err(format!("{text:?} is no Krypton fault: write one of {KRYPTON_NAMES}")),
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
        match text {
            "close-after-connack" => Ok(Self::CloseAfterConnack),
            "no-puback" => Ok(Self::NoPuback),
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
        }
    }
}

/// A fault and how often it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited<F> {
    /// Which.
    pub fault: F,
    /// How many times; `None` until it is taken away.
    pub times: Option<u32>,
}

impl<F> From<F> for Limited<F> {
    fn from(fault: F) -> Self {
        Self { fault, times: None }
    }
}

impl<F: FromStr<Err = String>> FromStr for Limited<F> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, times) = match text.split_once('*') {
            None => (text, None),
            Some((kind, count)) => match count.parse() {
                Ok(n) if n > 0 => (kind, Some(n)),
                _ => return Err(format!("{count:?} is no number of times: write for example {kind}*2")),
            },
        };
        Ok(Self {
            fault: kind.parse()?,
            times,
        })
    }
}

/// The fault in force, changed while the stand-in runs.
#[derive(Debug)]
pub struct Switch<F>(Mutex<Option<Limited<F>>>);

impl<F: Copy> Switch<F> {
    /// Begins with this fault, or none.
    #[must_use]
    pub fn new(fault: Option<Limited<F>>) -> Self {
        Self(Mutex::new(fault))
    }

    /// Puts another fault in force, or none.
    pub fn set(&self, fault: Option<Limited<F>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// The fault in force if it `applies` here and now; counts as one time.
    pub fn take(&self, applies: impl FnOnce(F) -> bool) -> Option<F> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limited = slot.as_mut().filter(|l| applies(l.fault))?;
        let fault = limited.fault;
        match &mut limited.times {
            None => {}
            Some(1) => *slot = None,
            Some(n) => *n -= 1,
        }
        Some(fault)
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
        ] {
            assert_eq!(name.parse::<MqttFault>().unwrap().to_string(), name);
        }
        for bad in ["", "http-200", "http-x", "html*0", "html*", "*2"] {
            assert!(bad.parse::<Limited<KryptonFault>>().is_err(), "{bad}");
        }
        for bad in ["refuse-0", "refuse-6", "cut-after-0", "cut-after--1"] {
            assert!(bad.parse::<Limited<MqttFault>>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limited_fault_ends_and_counts_only_where_it_applies() {
        let s = Switch::new(Some("html*2".parse::<Limited<KryptonFault>>().unwrap()));
        assert_eq!(s.take(|f| f == KryptonFault::Slow), None);
        assert_eq!(s.take(|_| true), Some(KryptonFault::Html));
        assert_eq!(s.take(|_| true), Some(KryptonFault::Html));
        assert_eq!(s.take(|_| true), None);
        s.set(Some(KryptonFault::Slow.into()));
        for _ in 0..10 {
            assert_eq!(s.take(|_| true), Some(KryptonFault::Slow));
        }
    }
}
