//! The last events of each device: came, was turned away, went, changed its credential. No I/O.
//!
//! Bounded three ways: [`EVENTS_MAX`] a device, [`ALL_EVENTS_MAX`] together, [`DEVICES_MAX`] devices. When a bound is reached, the device
//! that was least recently heard of goes. What repeats (the same refusal of the same caller, again and again) is one event with a count,
//! so a device that knocks every second does not wash away why it began to.
//!
//! Text that a device sent is cut to [`TEXT_MAX`] bytes here and escaped where it is shown.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::gateway::credential::Credential;
use crate::identity::Imsi;

/// Most events of one device.
pub const EVENTS_MAX: usize = 32;
/// Most events of all devices; an event is about 350 bytes, with the longest texts 800: 11 MB, at worst 26 MB.
pub const ALL_EVENTS_MAX: usize = 32_768;
/// Most devices.
pub const DEVICES_MAX: usize = 20_000;
/// Most strangers, each an address and a reason.
pub const STRANGERS_MAX: usize = 64;
/// Longest text that is kept, in bytes.
pub const TEXT_MAX: usize = 160;

/// The kinds of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It got through to upstream.
    Connected {
        /// `TLS 1.3, resumed`, or `plain`.
        upstream: Box<str>,
    },
    /// It did not.
    Refused {
        /// A key of [`crate::gateway::refusal::KEYS`].
        reason: &'static str,
        /// For people.
        why: Box<str>,
    },
    /// It was relayed, and that ended.
    Ended {
        /// A key of [`crate::gateway::status::ENDS`].
        reason: &'static str,
        /// For people.
        why: Box<str>,
        /// Packets from and to the device.
        packets: (u64, u64),
        /// Bytes from and to the device.
        bytes: (u64, u64),
    },
    /// It came with another credential, or another version of it, than last time.
    Rotated,
}

impl What {
    /// The word for it in the API.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "connected",
            Self::Refused { .. } => "refused",
            Self::Ended { .. } => "ended",
            Self::Rotated => "rotated",
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, Unix time.
    pub at: Duration,
    /// Which connection, as in the log.
    pub connection: u64,
    /// From where.
    pub peer: SocketAddr,
    /// The client id as the device sent it, cut to [`TEXT_MAX`]; hostile until escaped.
    pub client_id: Arc<str>,
    /// The credential and its version, when one was chosen.
    pub credential: Option<Used>,
    /// What.
    pub what: What,
}

/// The state of a credential that a connection used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Its id.
    pub id: Arc<str>,
    /// A digest of its version: equal versions have equal ones.
    pub version: u64,
}

impl Used {
    /// Of a credential that was read.
    #[must_use]
    pub fn of(credential: &Credential) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        credential.version.hash(&mut hasher);
        Self {
            id: credential.id.as_str().into(),
            version: hasher.finish(),
        }
    }
}

/// An event and how often it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The newest of them.
    pub event: Event,
    /// When it came first, Unix time.
    pub first: Duration,
    /// How often.
    pub times: u32,
}

/// What is known of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// Oldest first.
    pub events: VecDeque<Noted>,
    /// The credential of its last connection that had one.
    pub credential: Option<Used>,
    turn: u64,
}

impl Device {
    /// When it was last heard of, Unix time.
    #[must_use]
    pub fn seen(&self) -> Option<Duration> {
        self.events.back().map(|n| n.event.at)
    }
}

/// The events of all devices.
#[derive(Debug, Default)]
pub struct Timelines {
    devices: HashMap<Imsi, Device>,
    /// Who was heard of when: the first is the next to go.
    heard: BTreeMap<u64, Imsi>,
    turn: u64,
    events: usize,
    strangers: VecDeque<Noted>,
}

/// Cuts a text to [`TEXT_MAX`] bytes, between characters.
#[must_use]
pub fn cut(text: &str) -> &str {
    let end = (0..=TEXT_MAX.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// Whether `next` is the same thing again.
fn repeats(last: &Event, next: &Event) -> bool {
    match (&last.what, &next.what) {
        (What::Refused { reason: a, .. }, What::Refused { reason: b, .. }) => {
            a == b && last.peer.ip() == next.peer.ip() && last.client_id == next.client_id
        }
        _ => false,
    }
}

impl Noted {
    fn new(event: Event) -> Self {
        Self {
            first: event.at,
            event,
            times: 1,
        }
    }

    fn again(&mut self, event: Event) {
        self.times = self.times.saturating_add(1);
        self.event = event;
    }
}

impl Timelines {
    /// Something happened to a device.
    pub fn note(&mut self, imsi: &Imsi, event: Event) {
        self.turn += 1;
        let device = self.devices.entry(imsi.clone()).or_default();
        if device.turn != 0 {
            self.heard.remove(&device.turn);
        }
        device.turn = self.turn;
        self.heard.insert(self.turn, imsi.clone());
        let before = device.events.len();
        match device.events.back_mut() {
            Some(last) if repeats(&last.event, &event) => last.again(event),
            _ => {
                let connected = matches!(event.what, What::Connected { .. });
                if let Some(used) = event.credential.as_ref().filter(|_| connected) {
                    if device.credential.as_ref().is_some_and(|last| last != used) {
                        device.events.push_back(Noted::new(Event {
                            what: What::Rotated,
                            ..event.clone()
                        }));
                    }
                    device.credential = Some(used.clone());
                }
                device.events.push_back(Noted::new(event));
                while device.events.len() > EVENTS_MAX {
                    device.events.pop_front();
                }
            }
        }
        self.events = self.events + device.events.len() - before;
        while self.devices.len() > DEVICES_MAX || self.events > ALL_EVENTS_MAX {
            let Some((_, oldest)) = self.heard.pop_first() else {
                break;
            };
            if let Some(gone) = self.devices.remove(&oldest) {
                self.events -= gone.events.len();
            }
        }
    }

    /// Something happened to a caller whom nobody knows.
    pub fn stranger(&mut self, event: Event) {
        let same = |n: &Noted| {
            n.event.peer.ip() == event.peer.ip()
                && matches!((&n.event.what, &event.what),
                    (What::Refused { reason: a, .. }, What::Refused { reason: b, .. }) if a == b)
        };
        let mut noted = match self
            .strangers
            .iter()
            .position(same)
            .and_then(|i| self.strangers.remove(i))
        {
            Some(mut noted) => {
                noted.again(event);
                noted
            }
            None => Noted::new(event),
        };
        noted.event.credential = None;
        self.strangers.push_back(noted);
        while self.strangers.len() > STRANGERS_MAX {
            self.strangers.pop_front();
        }
    }

    /// What is known of one.
    #[must_use]
    pub fn device(&self, imsi: &Imsi) -> Option<&Device> {
        self.devices.get(imsi)
    }

    /// What is known of all.
    pub fn devices(&self) -> impl Iterator<Item = (&Imsi, &Device)> {
        self.devices.iter()
    }

    /// Callers whom nobody knows, newest first.
    #[must_use]
    pub fn strangers(&self) -> Vec<Noted> {
        self.strangers.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests;
