//! What the gateway is doing now: who is connected, what has passed, who was refused and why, what is wrong.
//!
//! | file | subject | pure |
//! |---|---|---|
//! | `connection` | one open connection | yes |
//! | `ledger` | the counters | yes |
//! | `told` | what is said when a device comes, is turned away, or goes: counters, timeline, log line | logs |
//! | `ends`, `handshake` | why connections ended; TLS with upstream | yes |
//! | `expiry` | credentials by days left | the scan reads them |
//! | `process` | memory, descriptors, CPU | reads `/proc` |
//! | `health` | what is wrong, in words | yes |
//! | `answer`, `text` | what the status socket answers; the same for people | yes |
//! | `watch` | the task that looks at the counters, the store and the credentials from time to time | yes, no |
//!
//! What it costs: a connection has four atomic counters of its own, which its two directions add to and nobody else writes; they are
//! folded into the sums when it ends, and added up when somebody reads. One lock is taken when a device comes, is let in or turned
//! away, and goes; never while it is relayed.
//!
//! Identities are redacted in what the status socket answers (its readers are this machine's users) and in the log; those who have the
//! API's token see them whole (`super::http::page`).

mod answer;
mod connection;
pub mod ends;
pub mod expiry;
pub mod handshake;
pub mod health;
pub mod ledger;
pub mod process;
mod text;
mod told;
mod watch;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use connection::{Connection, Listed, Open, Who};
pub use ends::ENDS;
pub use handshake::{Handshake, Tls};
pub use text::text;
pub(super) use watch::watch;

use super::history::History;
use super::history::series::Range;
use super::refusal::KEYS;
use crate::clock::Clock;
use expiry::Expiries;
use health::{Facts, Finding, LATELY, StoreState};
use ledger::{Counts, Ledger};
use process::Process;

/// All counters of a gateway.
#[derive(Debug)]
pub struct Status {
    clock: Clock,
    listening: SocketAddr,
    upstream: String,
    subscribers: AtomicUsize,
    /// `listen.max_connections`; 0 until it is known.
    places: AtomicUsize,
    started: Duration,
    next: AtomicU64,
    ledger: Mutex<Ledger>,
    history: History,
    expiries: Expiries,
    store: Mutex<Option<StoreState>>,
    /// Addresses that must wait because they guessed; `None` until somebody counts them.
    slow: Mutex<Option<usize>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Status {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(clock: Clock, listening: SocketAddr, upstream: String, subscribers: usize) -> Self {
        Self {
            started: clock.monotonic(),
            clock,
            listening,
            upstream,
            subscribers: subscribers.into(),
            places: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            ledger: Mutex::default(),
            history: History::default(),
            expiries: Expiries::default(),
            store: Mutex::default(),
            slow: Mutex::default(),
        }
    }

    /// With `listen.max_connections`, so that the status can say when it is nearly reached.
    pub(super) fn with_places(self, places: usize) -> Self {
        self.set_places(places);
        self
    }

    fn set_places(&self, places: usize) {
        self.places.store(places, Relaxed);
    }

    /// The number of a connection.
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    pub(super) fn list(self: &Arc<Self>, peer: SocketAddr) -> Listed {
        let connection = Arc::new(Connection::new(self.number(), peer, self.clock.monotonic()));
        held(&self.ledger).opened(&connection);
        Listed {
            status: self.clone(),
            connection,
        }
    }

    fn closed(&self, connection: &Connection) {
        held(&self.ledger).closed(connection.id());
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        held(&self.ledger).open.len()
    }

    /// How many connections were relayed since the start, those still open included.
    #[must_use]
    pub fn relayed(&self) -> u64 {
        held(&self.ledger).relayed_so_far()
    }

    /// How many were refused for a reason of [`KEYS`].
    #[must_use]
    pub fn refused(&self, key: &str) -> u64 {
        let index = KEYS.iter().position(|k| *k == key);
        index.map_or(0, |i| held(&self.ledger).refused_so_far(i))
    }

    /// All counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        held(&self.ledger).counts()
    }

    /// What was.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Credentials by days left.
    #[must_use]
    pub fn expiries(&self) -> &Expiries {
        &self.expiries
    }

    /// What is known of the store; `None` where there is none.
    #[must_use]
    pub fn store(&self) -> Option<StoreState> {
        held(&self.store).clone()
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.subscribers.load(Relaxed)
    }

    /// Tells how many addresses must wait because they guessed.
    pub(super) fn set_slow_addresses(&self, count: usize) {
        *held(&self.slow) = Some(count);
    }

    /// How many addresses must wait because they guessed, if that is known.
    #[must_use]
    pub fn slow_addresses(&self) -> Option<usize> {
        *held(&self.slow)
    }

    /// How many connections may be open at once, if that is known.
    #[must_use]
    pub fn places(&self) -> Option<usize> {
        Some(self.places.load(Relaxed)).filter(|n| *n > 0)
    }

    /// How long it has been running.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.started)
    }

    /// The clock it all happens by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Where it listens.
    #[must_use]
    pub fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// Where data goes, for people.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Puts the counters as they stand into the history.
    pub fn sample(&self) {
        let totals = self.counts().totals();
        self.history.sample(self.clock.monotonic(), &totals);
    }

    /// All open connections, oldest first.
    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        held(&self.ledger).open.values().cloned().collect()
    }

    /// The open connections of devices that are known, newest last.
    pub(super) fn of_devices(&self) -> Vec<Open> {
        let (now, system) = (self.clock.monotonic(), self.clock.system());
        let ledger = held(&self.ledger);
        ledger.open.values().filter_map(|c| c.open(now, system)).collect()
    }

    /// What is wrong, worst first.
    #[must_use]
    pub fn findings(&self, counts: &Counts, process: &Process) -> Vec<Finding> {
        let hour = self.history.series(Range::Hour);
        let slots = usize::try_from(LATELY.as_secs() / Range::Hour.step().as_secs()).unwrap_or(usize::MAX);
        let mut lately = [0; KEYS.len()];
        let mut relayed_lately = 0;
        for slot in hour.slots.iter().rev().take(slots) {
            for (sum, n) in lately.iter_mut().zip(slot.refused) {
                *sum += u64::from(n);
            }
            relayed_lately += u64::from(slot.relayed);
        }
        health::findings(&Facts {
            now: self.clock.system(),
            counts,
            lately: &lately,
            relayed_lately,
            places: self.places(),
            process,
            store: self.store().as_ref(),
            found: self.expiries.last().as_deref(),
            subscribers: self.subscribers(),
        })
    }
}

#[cfg(test)]
mod tests;
