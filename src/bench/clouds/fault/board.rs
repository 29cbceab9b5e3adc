//! The faults in force at one stand-in, changed while it runs, and whether its doors are shut.
//!
//! What is asked for by `put` adds up; the first that applies and is for this connection happens. A [`Switch`] is the same board seen by
//! one kind of fault, for a door that knows only that kind.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::spec::{Limited, Whom};
use super::{Fault, Kind};
use crate::bench::clouds::visit::{self, Visit};

/// Faults in force at one stand-in at a time.
pub const FAULTS_MAX: usize = 100;

/// A fault in force, as the control endpoint shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// By which it can be taken away.
    pub id: u64,
    /// Which.
    pub fault: String,
    /// For whom.
    pub whom: String,
    /// How often it will still happen; `None` for ever.
    pub left: Option<u32>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    fault: Fault,
    left: Option<u32>,
    whom: Whom,
    /// The connections that `next N` picked; no connection up to `after` is one.
    picked: Vec<u64>,
    after: u64,
}

impl Entry {
    fn is_for(&mut self, visit: Option<&Visit>) -> bool {
        let Some(visit) = visit else {
            return self.whom == Whom::Everybody;
        };
        match &self.whom {
            Whom::Everybody => true,
            Whom::Client(id) => visit.is_client(id),
            Whom::Address(address) => visit.peer.ip() == *address,
            Whom::Peer(peer) => visit.peer == *peer,
            Whom::Connection(number) => visit.number == *number,
            Whom::Next(n) => {
                if self.picked.contains(&visit.number) {
                    return true;
                }
                let room = self.picked.len() < *n as usize && visit.number > self.after;
                if room {
                    self.picked.push(visit.number);
                }
                room
            }
        }
    }
}

/// The faults in force at one stand-in.
#[derive(Debug)]
pub struct Board {
    entries: Mutex<Vec<Entry>>,
    shut: watch::Sender<Option<Instant>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            shut: watch::Sender::new(None),
        }
    }
}

impl Board {
    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a fault in force; the answer is its id. Connections up to number `after` are not among `next N`.
    ///
    /// # Errors
    /// There are [`FAULTS_MAX`] already.
    pub fn put(&self, fault: Limited<Fault>, whom: Whom, after: u64) -> Result<u64, String> {
        /// Ids are never used again in a process.
        static IDS: AtomicU64 = AtomicU64::new(1);
        let mut entries = self.entries();
        if entries.len() >= FAULTS_MAX {
            return Err(format!("{FAULTS_MAX} faults are in force already: take some away"));
        }
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        entries.push(Entry {
            id,
            fault: fault.fault,
            left: fault.times,
            whom,
            picked: Vec::new(),
            after,
        });
        Ok(id)
    }

    /// Takes one fault away; the answer is whether it was there.
    pub fn remove(&self, id: u64) -> bool {
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|e| e.id != id);
        entries.len() < before
    }

    /// Takes away every fault that fits, and tells how many there were.
    pub fn clear(&self, fits: impl Fn(Fault, &Whom) -> bool) -> usize {
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|e| !fits(e.fault, &e.whom));
        before - entries.len()
    }

    /// What is in force, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<InForce> {
        let show = |e: &Entry| InForce {
            id: e.id,
            fault: e.fault.to_string(),
            whom: e.whom.to_string(),
            left: e.left,
        };
        self.entries().iter().map(show).collect()
    }

    /// The first fault that applies, for this connection; counts as one time.
    pub fn take<F: Kind>(&self, visit: Option<&Visit>, applies: impl Fn(F) -> bool) -> Option<F> {
        let mut entries = self.entries();
        let at = entries
            .iter_mut()
            .position(|e| F::of(e.fault).is_some_and(&applies) && e.is_for(visit))?;
        Self::count(&mut entries, at)
    }

    /// Every fault that applies, for this connection; each counts as one time.
    pub fn take_all<F: Kind>(&self, visit: &Visit, applies: impl Fn(F, &Whom) -> bool) -> Vec<F> {
        let mut entries = self.entries();
        let mut taken = Vec::new();
        let mut at = 0;
        while at < entries.len() {
            let before = entries.len();
            let entry = &mut entries[at];
            if F::of(entry.fault).is_some_and(|f| applies(f, &entry.whom)) && entry.is_for(Some(visit)) {
                taken.extend(Self::count::<F>(&mut entries, at));
            }
            at += usize::from(entries.len() == before);
        }
        taken
    }

    fn count<F: Kind>(entries: &mut Vec<Entry>, at: usize) -> Option<F> {
        let entry = entries.get_mut(at)?;
        let fault = F::of(entry.fault);
        match &mut entry.left {
            None => {}
            Some(1) => drop(entries.remove(at)),
            Some(n) => *n -= 1,
        }
        fault
    }

    /// Shuts the doors until then: whoever dials meanwhile is refused by TCP.
    pub(crate) fn shut_until(&self, then: Instant) {
        self.shut.send_replace(Some(then));
    }

    /// Until when the doors are shut.
    pub(crate) fn shut(&self) -> watch::Receiver<Option<Instant>> {
        self.shut.subscribe()
    }
}

/// A board as one kind of fault sees it.
#[derive(Debug)]
pub struct Switch<F> {
    board: Arc<Board>,
    kind: PhantomData<fn() -> F>,
}

impl<F: Kind> Switch<F> {
    /// A board of its own that begins with this fault, or none.
    #[must_use]
    pub fn new(fault: Option<Limited<F>>) -> Self {
        let switch = Self {
            board: Arc::default(),
            kind: PhantomData,
        };
        switch.set(fault);
        switch
    }

    /// A board that others share.
    #[must_use]
    pub fn on(board: Arc<Board>) -> Self {
        Self {
            board,
            kind: PhantomData,
        }
    }

    /// The board.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Puts another fault of this kind in force instead of all of them, or none.
    pub fn set(&self, fault: Option<Limited<F>>) {
        self.board.clear(|f, _| F::of(f).is_some());
        if let Some(Limited { fault, times }) = fault {
            let fault = fault.fault();
            // There is room: FAULTS_MAX others cannot have come by other ways than `put`, which tells its caller.
            let _ = self.board.put(Limited { fault, times }, Whom::Everybody, 0);
        }
    }

    /// The fault in force if it `applies` to the connection that this task serves; counts as one time.
    pub fn take(&self, applies: impl Fn(F) -> bool) -> Option<F> {
        self.board.take(visit::current().as_deref(), applies)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KryptonFault, MqttFault};
    use super::*;

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

    fn put(board: &Board, fault: MqttFault, times: Option<u32>, whom: &str) -> u64 {
        let fault = fault.fault();
        let whom = if whom.is_empty() {
            Whom::Everybody
        } else {
            whom.parse().unwrap()
        };
        board.put(Limited { fault, times }, whom, 1).unwrap()
    }

    #[test]
    fn faults_add_up_and_are_for_whom_they_are_for() {
        let board = Board::default();
        let one = put(&board, MqttFault::NoPuback, None, "client a");
        put(&board, MqttFault::NoPuback, Some(1), "peer 127.0.0.9");
        put(&board, MqttFault::NoSuback, None, "");
        let visit = |number, peer: &str| Visit::for_tests(number, peer.parse().unwrap());
        let any = |board: &Board, v: &Visit| board.take(Some(v), |f| f == MqttFault::NoPuback);
        let a = visit(2, "127.0.0.1:1");
        assert_eq!(any(&board, &a), None);
        a.named("a");
        assert_eq!(any(&board, &a), Some(MqttFault::NoPuback));
        let nine = visit(3, "127.0.0.9:1");
        assert_eq!(any(&board, &nine), Some(MqttFault::NoPuback));
        assert_eq!(any(&board, &nine), None);
        assert_eq!(board.take(Some(&nine), |_| true), Some(MqttFault::NoSuback));
        assert!(board.remove(one) && !board.remove(one));
        assert_eq!(any(&board, &a), None);
        let left: Vec<_> = board.list().into_iter().map(|f| f.fault).collect();
        assert_eq!(left, ["no-suback"]);
    }

    #[test]
    fn the_next_connections_are_picked_once() {
        let board = Board::default();
        put(&board, MqttFault::NoPuback, None, "next 2 connections");
        let mut hit = Vec::new();
        for number in [1, 2, 3, 2, 4, 3] {
            let v = Visit::for_tests(number, "127.0.0.1:1".parse().unwrap());
            if board.take(Some(&v), |_: MqttFault| true).is_some() {
                hit.push(number);
            }
        }
        assert_eq!(hit, [2, 3, 2, 3], "1 was there before");
    }

    #[test]
    fn a_board_has_an_end() {
        let board = Board::default();
        for _ in 0..FAULTS_MAX {
            put(&board, MqttFault::NoPuback, None, "");
        }
        let more = board.put(MqttFault::NoSuback.fault().into(), Whom::Everybody, 0);
        assert!(more.unwrap_err().contains("100"));
        assert_eq!(board.clear(|_, _| true), FAULTS_MAX);
    }

    #[test]
    fn all_that_apply_are_taken_together() {
        let board = Board::default();
        put(&board, MqttFault::NoPuback, Some(1), "");
        put(&board, MqttFault::NoSuback, Some(2), "");
        let v = Visit::for_tests(1, "127.0.0.1:1".parse().unwrap());
        assert_eq!(board.take_all::<MqttFault>(&v, |_, _| true).len(), 2);
        assert_eq!(board.take_all::<MqttFault>(&v, |_, _| true), [MqttFault::NoSuback]);
        assert!(board.list().is_empty());
    }
}
