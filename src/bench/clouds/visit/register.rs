//! Every door and every connection that is open, with their counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::Serialize;

use super::Visit;
use crate::bench::clouds::fault::{Spec, Whom};
use crate::bench::clouds::journal::What;
use crate::bench::clouds::stand_in::{Cloud, Protocol};

/// What a door is, and what it has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoorCounts {
    /// Which stand-in.
    pub cloud: Cloud,
    /// What it speaks there.
    pub protocol: Protocol,
    /// Where.
    pub address: SocketAddr,
    /// Open now.
    pub connections: u64,
    /// TCP connections so far.
    pub accepted: u64,
    /// Devices admitted so far.
    pub connects: u64,
    /// Broken rules so far.
    pub refusals: u64,
    /// Messages, requests to the cloud and HTTP requests so far.
    pub messages: u64,
    /// Bytes from clients so far, as on the wire.
    pub bytes_up: u64,
    /// Bytes to clients so far, as on the wire.
    pub bytes_down: u64,
}

/// A connection that is open now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Open {
    /// Its number, as events give it.
    pub connection: u64,
    /// At which stand-in.
    pub cloud: Cloud,
    /// Speaking what.
    pub protocol: Protocol,
    /// From where.
    pub peer: SocketAddr,
    /// The MQTT client id, once CONNECT was read.
    pub client_id: Option<String>,
    /// For how long, in milliseconds.
    pub age_ms: u64,
    /// Bytes from the client.
    pub bytes_up: u64,
    /// Bytes to the client.
    pub bytes_down: u64,
    /// Whether a fault holds it still.
    pub stalled: bool,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) last: u64,
    pub(super) open: BTreeMap<u64, Weak<Visit>>,
    pub(super) doors: Vec<DoorCounts>,
}

/// Every door and every open connection of a bench. What is open is bounded by what the doors take.
#[derive(Debug, Default)]
pub struct Register(Mutex<Counts>);

impl Register {
    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A door has opened; the answer is what [`Visit::open`] wants to know.
    pub(crate) fn door(&self, cloud: Cloud, protocol: Protocol, address: SocketAddr) -> usize {
        let mut counts = self.counts();
        counts.doors.push(DoorCounts {
            cloud,
            protocol,
            address,
            connections: 0,
            accepted: 0,
            connects: 0,
            refusals: 0,
            messages: 0,
            bytes_up: 0,
            bytes_down: 0,
        });
        counts.doors.len() - 1
    }

    /// The number of the last connection.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.counts().last
    }

    fn visits(&self) -> Vec<Arc<Visit>> {
        let all: Vec<_> = self.counts().open.values().cloned().collect();
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// What each door has seen, open connections included.
    #[must_use]
    pub fn doors(&self) -> Vec<DoorCounts> {
        let visits = self.visits();
        let mut doors = self.counts().doors.clone();
        for visit in visits {
            if let Some(door) = doors.get_mut(visit.door) {
                let (up, down) = visit.tap().bytes();
                door.connections += 1;
                door.bytes_up += up;
                door.bytes_down += down;
            }
        }
        doors
    }

    /// The connections that are open, oldest first.
    #[must_use]
    pub fn open(&self) -> Vec<Open> {
        self.visits().iter().map(|v| v.show()).collect()
    }

    /// Cuts a connection; the answer is whether it was there.
    pub fn cut(&self, number: u64, why: &'static str) -> bool {
        let visit = self.counts().open.get(&number).and_then(Weak::upgrade);
        visit.is_some_and(|v| {
            v.cut(why);
            true
        })
    }

    /// Cuts the connections of a stand-in that no broker can end: those that a fault holds still, and those that no client has named.
    pub(crate) fn cut_the_rest(&self, cloud: Cloud, why: &'static str) {
        for visit in self.visits().iter().filter(|v| v.cloud == cloud) {
            if visit.tap().is_stalled() || visit.client_id().is_none() {
                visit.cut(why);
            }
        }
    }

    /// Cuts every connection that a fault holds still.
    pub(crate) fn cut_stalled(&self, why: &'static str) {
        for visit in self.visits() {
            if visit.tap().is_stalled() {
                visit.cut(why);
            }
        }
    }

    /// A fault for a connection that is open already reaches it here.
    pub(crate) fn arm(&self, spec: &Spec) {
        if let Whom::Connection(number) = spec.whom {
            let visit = self.counts().open.get(&number).and_then(Weak::upgrade);
            if let Some(visit) = visit {
                visit.arm(|whom| matches!(whom, Whom::Connection(_)));
            }
        }
    }

    pub(super) fn count(&self, door: usize, change: impl FnOnce(&mut DoorCounts)) {
        if let Some(door) = self.counts().doors.get_mut(door) {
            change(door);
        }
    }

    /// Counts what was recorded of this connection.
    pub(crate) fn saw(&self, visit: &Visit, what: &What) {
        self.count(visit.door, |door| match what {
            What::Connected { .. } => door.connects += 1,
            What::Refused { .. } => door.refusals += 1,
            What::Message { .. } | What::Request { .. } | What::Http { .. } => door.messages += 1,
            _ => {}
        });
    }
}
