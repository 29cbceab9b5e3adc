//! How a fault is written: `[CLOUD:]KIND[*N] [for …]`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::Fault;
use crate::bench::clouds::stand_in::Cloud;

/// The most connections that `for next N connections` may pick: it remembers each.
pub const NEXT_MAX: u32 = 1_000;

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

/// Whom a fault is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Every connection.
    Everybody,
    /// The MQTT client of this id, once its CONNECT was read.
    Client(String),
    /// Connections from this address.
    Address(IpAddr),
    /// The connection from this address and port.
    Peer(SocketAddr),
    /// The connection of this number, as events give it.
    Connection(u64),
    /// The first so many connections after the fault was asked for.
    Next(u32),
}

impl FromStr for Whom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is nobody: write for client \"ID\", for peer ADDRESS[:PORT], for connection NUMBER or for next N connections"
            )
        };
        let (word, rest) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let rest = rest.trim();
        match word {
            "client" => {
                let bare = rest.strip_prefix('"').and_then(|r| r.strip_suffix('"')).unwrap_or(rest);
                if bare.is_empty() {
                    return Err(wrong());
                }
                Ok(Self::Client(bare.to_owned()))
            }
            "peer" => rest
                .parse()
                .map(Self::Address)
                .or_else(|_| rest.parse().map(Self::Peer))
                .map_err(|_| wrong()),
            "connection" => rest.parse().map(Self::Connection).map_err(|_| wrong()),
            "next" => {
                let mut words = rest.split_whitespace();
                let count: Option<u32> = words.next().and_then(|n| n.parse().ok());
                let unit = words.next();
                match (count, unit, words.next()) {
                    (Some(n), Some("connection" | "connections"), None) if (1..=NEXT_MAX).contains(&n) => {
                        Ok(Self::Next(n))
                    }
                    _ => Err(format!(
                        "{text:?}: write next N connections, where N is 1 to {NEXT_MAX}"
                    )),
                }
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("everybody"),
            Self::Client(id) => write!(f, "client \"{id}\""),
            Self::Address(address) => write!(f, "peer {address}"),
            Self::Peer(address) => write!(f, "peer {address}"),
            Self::Connection(number) => write!(f, "connection {number}"),
            Self::Next(n) => write!(f, "next {n} connections"),
        }
    }
}

/// A fault as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The stand-in; `None` means all that can have it.
    pub cloud: Option<Cloud>,
    /// Which, and how often.
    pub fault: Limited<Fault>,
    /// For whom.
    pub whom: Whom,
}

impl Spec {
    /// The stand-ins that are meant.
    #[must_use]
    pub fn clouds(&self) -> Vec<Cloud> {
        match self.cloud {
            Some(cloud) => vec![cloud],
            None => Cloud::ALL.into_iter().filter(|c| self.fault.fault.fits(*c)).collect(),
        }
    }

    /// Why the stand-in cannot have this fault, if it cannot.
    pub(crate) fn misfit(&self) -> Option<String> {
        let fault = self.fault.fault;
        let cloud = self.cloud.filter(|c| !fault.fits(*c))?;
        Some(format!(
            "{cloud} cannot have {fault}: it can have {}",
            Fault::names(cloud)
        ))
    }

    /// Why this fault would never come to the client that it is for, if so.
    pub(crate) fn misdirected(&self) -> Option<String> {
        let fault = self.fault.fault;
        let why = match (&self.whom, self.cloud) {
            (Whom::Client(_), _) if fault.before_connect() => format!("{fault} happens before the client id is known"),
            (Whom::Client(_), Some(cloud)) if !super::mqtt(cloud) => format!("{cloud} has no MQTT clients"),
            _ => return None,
        };
        Some(format!("{why}: write for peer ADDRESS instead"))
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, whom) = match text.trim().split_once(" for ") {
            None => (text.trim(), Whom::Everybody),
            Some((what, whom)) => (what.trim(), whom.parse()?),
        };
        let (cloud, kind) = match what.split_once(':') {
            None => (None, what),
            Some((name, kind)) => (Some(name.parse()?), kind.trim()),
        };
        let fault: Limited<Fault> = match (kind.parse(), cloud) {
            (Ok(fault), _) => fault,
            (Err(_), Some(cloud)) if kind.split('*').next().is_some_and(|k| k.parse::<Fault>().is_err()) => {
                return Err(format!(
                    "{kind:?} is no fault of {cloud}: write one of {}",
                    Fault::names(cloud)
                ));
            }
            (Err(why), _) => return Err(why),
        };
        let spec = Self { cloud, fault, whom };
        spec.misfit().or_else(|| spec.misdirected()).map_or(Ok(spec), Err)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cloud) = self.cloud {
            write!(f, "{cloud}:")?;
        }
        self.fault.fault.fmt(f)?;
        if let Some(n) = self.fault.times {
            write!(f, "*{n}")?;
        }
        match self.whom {
            Whom::Everybody => Ok(()),
            _ => write!(f, " for {}", self.whom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_as_they_are_written() {
        for text in [
            "iot-hub:stall@client-hello*2",
            "event-grid:cut-down@4096",
            "aws-iot:throttle=1000",
            "krypton:http-500",
            "krypton:stall@response",
            "dps:cert-expired",
            "iot-hub:no-puback for client \"dev-1\"",
            "refuse-5*2",
            "cut@100 for peer 127.0.0.9",
            "cut-up@100 for peer 127.0.0.9:4000",
            "stall@9 for connection 12",
            "tls-alert-40 for next 3 connections",
            "client-certs-expired",
            "stall@accept",
            "beam:refuse-tcp",
        ] {
            assert_eq!(text.parse::<Spec>().unwrap().to_string(), text);
        }
        let spec: Spec = "refuse-5*2".parse().unwrap();
        assert_eq!(spec.clouds(), Cloud::MQTT);
        assert_eq!("throttle=1".parse::<Spec>().unwrap().clouds(), Cloud::ALL);
    }

    #[test]
    fn mistakes_say_what_there_is() {
        for (text, wanted) in [
            ("moon:refuse-5", "none of krypton, krypton-sim, event-grid"),
            ("iot-hub:http-500", "cannot have http-500: it can have refuse-tcp"),
            ("iot-hub:explode", "no fault of iot-hub: write one of refuse-tcp"),
            ("krypton:no-puback", "krypton cannot have no-puback"),
            ("beam:tls-alert-40", "beam cannot have tls-alert-40"),
            ("explode", "is no fault"),
            ("iot-hub:refuse-5*0", "no number of times"),
            ("stall@noon", "accept, client-hello"),
            ("cut-up@connect", "number of bytes"),
            ("throttle=0", "bytes a second"),
            ("tls-alert-256", "0 to 255"),
            ("iot-hub:tls-alert-40 for client \"d\"", "before the client id is known"),
            ("krypton:cut@100 for client \"d\"", "krypton has no MQTT clients"),
            ("no-puback for fun", "is nobody"),
            ("no-puback for peer me", "is nobody"),
            ("no-puback for next 0 connections", "1 to 1000"),
            ("", "is no fault"),
            (":refuse-5", "none of krypton"),
        ] {
            let error = text.parse::<Spec>().unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn limits_are_at_least_one() {
        for bad in ["html*0", "html*", "*2", "html*x"] {
            assert!(bad.parse::<Limited<super::super::KryptonFault>>().is_err(), "{bad}");
        }
    }
}
