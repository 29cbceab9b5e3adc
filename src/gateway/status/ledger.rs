//! The counters behind [`super::Status`]: what has ended is folded in here, what is open counts for itself. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::connection::Connection;
use super::ends::{self, ENDS};
use super::handshake::{Handshake, Handshakes};
use crate::gateway::history::series::Totals;
use crate::gateway::refusal::KEYS;
use crate::gateway::relay::Traffic;

/// Most groups that are counted apart: a label of a metric must be bounded. The others count together.
pub const GROUPS_MAX: usize = 100;
/// The name they count under; a group cannot have it, for '(' is no letter of a group's name.
pub const OTHER_GROUPS: &str = "(others)";

/// What has passed one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Way {
    /// Whole packets.
    pub packets: u64,
    /// Bytes of MQTT.
    pub bytes: u64,
}

impl Way {
    pub(super) fn of(traffic: &Traffic) -> Self {
        Self {
            packets: traffic.packets.load(Relaxed),
            bytes: traffic.bytes.load(Relaxed),
        }
    }

    fn add(&mut self, traffic: &Traffic) {
        let more = Self::of(traffic);
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

/// What one group did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Connections open now, from the moment the device is known.
    pub open: u64,
    /// Connections that got through.
    pub relayed: u64,
    /// Connections of known devices that did not.
    pub refused: u64,
    /// From devices.
    pub up: Way,
    /// To devices.
    pub down: Way,
}

/// All of it at one moment.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Connections since the start.
    pub accepted: u64,
    /// Open now.
    pub open: usize,
    /// Open now, through to upstream.
    pub relaying: usize,
    /// Got through since the start.
    pub relayed: u64,
    /// Did not, by [`KEYS`].
    pub refused: [u64; KEYS.len()],
    /// Got through and ended, by [`ENDS`].
    pub ended: [u64; ENDS.len()],
    /// From devices.
    pub up: Way,
    /// To devices.
    pub down: Way,
    /// TLS with upstream.
    pub handshakes: Handshakes,
    /// By group.
    pub groups: BTreeMap<String, Tally>,
}

impl Counts {
    /// For the series.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            up_bytes: self.up.bytes,
            down_bytes: self.down.bytes,
            up_packets: self.up.packets,
            down_packets: self.down.packets,
            relayed: self.relayed,
            refused: self.refused,
            open: self.open,
        }
    }
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) open: BTreeMap<u64, Arc<Connection>>,
    /// Of what is open, nothing is in here yet but `accepted`, `relayed`, `refused` and the handshakes.
    past: Counts,
}

impl Ledger {
    pub(super) fn opened(&mut self, connection: &Arc<Connection>) {
        self.past.accepted += 1;
        self.open.insert(connection.id(), connection.clone());
    }

    /// Folds a connection's figures in; from then on it does not count for itself.
    pub(super) fn closed(&mut self, id: u64) {
        if let Some(connection) = self.open.remove(&id) {
            fold(&mut self.past, &connection);
        }
    }

    pub(super) fn refused(&mut self, index: usize, group: Option<&str>) {
        if let Some(n) = self.past.refused.get_mut(index) {
            *n += 1;
        }
        if let Some(group) = group {
            tally(&mut self.past.groups, group).refused += 1;
        }
    }

    pub(super) fn relayed(&mut self, group: &str, handshake: &Handshake) {
        self.past.relayed += 1;
        self.past.handshakes.add(handshake);
        tally(&mut self.past.groups, group).relayed += 1;
    }

    pub(super) fn ended(&mut self, key: &str) {
        if let Some(n) = ends::index(key).and_then(|i| self.past.ended.get_mut(i)) {
            *n += 1;
        }
    }

    /// Everything now.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.past.clone();
        counts.open = self.open.len();
        for connection in self.open.values() {
            fold(&mut counts, connection);
            counts.relaying += usize::from(connection.is_relayed());
            if let Some(group) = connection.group() {
                tally(&mut counts.groups, &group).open += 1;
            }
        }
        counts
    }

    /// How many are open, relayed since the start, and refused for one reason: cheaper than [`Self::counts`].
    pub(super) fn relayed_so_far(&self) -> u64 {
        self.past.relayed
    }

    pub(super) fn refused_so_far(&self, index: usize) -> u64 {
        self.past.refused.get(index).copied().unwrap_or(0)
    }
}

fn fold(counts: &mut Counts, connection: &Connection) {
    counts.up.add(&connection.up);
    counts.down.add(&connection.down);
    if let Some(group) = connection.group() {
        let tally = tally(&mut counts.groups, &group);
        tally.up.add(&connection.up);
        tally.down.add(&connection.down);
    }
}

fn tally<'a>(groups: &'a mut BTreeMap<String, Tally>, group: &str) -> &'a mut Tally {
    let name = if groups.contains_key(group) || groups.len() < GROUPS_MAX {
        group
    } else {
        OTHER_GROUPS
    };
    groups.entry(name.to_owned()).or_default()
}
