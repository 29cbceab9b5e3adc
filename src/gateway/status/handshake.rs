//! TLS handshakes with upstream: which version, resumed or whole, how long.

use std::fmt;
use std::time::Duration;

use rustls::{HandshakeKind, ProtocolVersion};

use crate::gateway::wire::Wire;

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tls {
    /// 1.2.
    V12,
    /// 1.3.
    V13,
}

impl Tls {
    /// All of them, in the order of the counters.
    pub const ALL: [Self; 2] = [Self::V12, Self::V13];

    /// `1.3`.
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }
}

/// How the way upstream was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// Plain MQTT.
    Plain,
    /// TLS.
    Tls {
        /// Its version.
        version: Tls,
        /// Whether an earlier session was resumed.
        resumed: bool,
        /// From the first byte to the last, without TCP and MQTT.
        took: Duration,
    },
}

impl Handshake {
    /// Of a connection that is open now, which took so long to encrypt.
    #[must_use]
    pub fn of(wire: &Wire, took: Duration) -> Self {
        let Some(session) = wire.session() else {
            return Self::Plain;
        };
        Self::Tls {
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => Tls::V12,
                // rustls speaks these two.
                _ => Tls::V13,
            },
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            took,
        }
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::Tls { version, resumed, .. } => {
                let how = if *resumed { ", resumed" } else { "" };
                write!(f, "TLS {}{how}", version.number())
            }
        }
    }
}

/// Upper ends of the buckets for [`Times`], in seconds: a LAN takes a few milliseconds, LTE and an ocean some hundred.
pub const BUCKETS: [f64; 10] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Durations by bucket; what is longer than the last bucket counts in `count` alone.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Times {
    /// How many fell into each bucket of [`BUCKETS`], not cumulative.
    pub buckets: [u64; BUCKETS.len()],
    /// How many in all.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum: f64,
}

impl Times {
    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(n) = BUCKETS
            .iter()
            .position(|end| seconds <= *end)
            .and_then(|i| self.buckets.get_mut(i))
        {
            *n += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        for (n, m) in self.buckets.iter_mut().zip(other.buckets) {
            *n += m;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    /// The mean, in milliseconds.
    #[must_use]
    pub fn mean_ms(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss)] // counts stay far below 2^52
        (self.count > 0).then(|| self.sum * 1_000.0 / self.count as f64)
    }
}

/// All handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Handshakes {
    /// By version ([`Tls::ALL`]), each whole and resumed.
    by: [[Times; 2]; Tls::ALL.len()],
    /// Ways without TLS.
    pub plain: u64,
}

impl Handshakes {
    pub(super) fn add(&mut self, handshake: &Handshake) {
        match handshake {
            Handshake::Plain => self.plain += 1,
            Handshake::Tls { version, resumed, took } => {
                if let Some(times) = self
                    .by
                    .get_mut(*version as usize)
                    .and_then(|v| v.get_mut(usize::from(*resumed)))
                {
                    times.add(*took);
                }
            }
        }
    }

    /// Each version, resumed or not, with its times.
    pub fn each(&self) -> impl Iterator<Item = (Tls, bool, &Times)> {
        Tls::ALL.into_iter().zip(&self.by).flat_map(|(version, kinds)| {
            kinds
                .iter()
                .zip([false, true])
                .map(move |(times, resumed)| (version, resumed, times))
        })
    }

    /// How many in all were whole, and how many resumed.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        self.each().fold((0, 0), |(full, resumed), (_, r, t)| {
            if r {
                (full, resumed + t.count)
            } else {
                (full + t.count, resumed)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_fall_into_their_buckets() {
        let mut all = Handshakes::default();
        let one = |version, resumed, ms| Handshake::Tls {
            version,
            resumed,
            took: Duration::from_millis(ms),
        };
        for ms in [1, 2, 3, 400, 60_000] {
            all.add(&one(Tls::V13, false, ms));
        }
        all.add(&one(Tls::V12, true, 1));
        all.add(&Handshake::Plain);
        assert_eq!((all.counts(), all.plain), ((5, 1), 1));
        let (_, _, times) = all.each().find(|(v, r, _)| (*v, *r) == (Tls::V13, false)).unwrap();
        assert_eq!(times.buckets, [2, 1, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(times.mean_ms().unwrap().round(), 12_081.0);
        assert_eq!(one(Tls::V12, true, 1).to_string(), "TLS 1.2, resumed");
        assert_eq!(one(Tls::V13, false, 1).to_string(), "TLS 1.3");
    }
}
