//! The bench's hand on the running stand-ins: faults, restarts, clocks, cuts. Tests hold it as a value ([`Controls`]), scenario files use
//! it by [time and events](super::scenario), and people and scripts by HTTP:
//!
//! | request | what it does |
//! |---|---|
//! | `GET /status` | doors, connections, counts, faults in force, clocks |
//! | `GET /events` | everything that happens from now on, as JSON lines, until the client goes |
//! | `GET /messages?cloud=&after=N` | accepted messages in memory after number N |
//! | `GET /faults` | the faults in force |
//! | `PUT /faults` `{"fault": "SPEC"}` | one more fault; the grammar is that of [`super::fault`] |
//! | `DELETE /faults?cloud=&id=` | takes faults away: one, a stand-in's, or all |
//! | `POST /restart` `{"cloud", "forget_sessions", "closed_for"}` | cuts everything; the doors stay closed for a while |
//! | `POST /clock` `{"cloud", "by": "+2h"}` | the stand-in's clock jumps |
//! | `POST /connections/N/cut` | cuts one connection |
//!
//! A stand-in's own control (messages to devices, twins, shadows) is a router of its own: see `http::nested`.
//!
//! The endpoint is for this machine: it listens on loopback only, and it answers nobody whose `Host` or `Origin` is not a loopback one,
//! so that no web page can use it, not even by making its own name resolve to 127.0.0.1. There is no password: whoever runs programs on
//! this machine may use it.

pub mod client;
mod few;
pub(crate) mod http;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::fault::{Board, Fault, InForce, Spec};
use super::journal::{Journal, What};
use super::stand_in::Cloud;
use super::visit::{DoorCounts, Open};
use crate::clock::Clock;
use crate::config::units;

/// Doors stay closed no longer than this.
pub const CLOSED_MAX: Duration = Duration::from_secs(3_600);
/// A clock jumps no further than this at a time: a hundred years.
pub const JUMP_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A fault that was put in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Put {
    /// Where.
    pub cloud: Cloud,
    /// By which it can be taken away.
    pub id: u64,
}

/// A stand-in's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClockState {
    /// Whose.
    pub cloud: Cloud,
    /// By how much it is ahead of this machine's, in milliseconds.
    pub ahead_ms: i64,
}

/// Everything at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Every door with what it has seen.
    pub doors: Vec<DoorCounts>,
    /// Connections open now.
    pub connections: Vec<Open>,
    /// Faults in force.
    pub faults: BTreeMap<Cloud, Vec<InForce>>,
    /// Clocks that were put wrong.
    pub clocks: Vec<ClockState>,
}

/// The running stand-ins, to be disturbed.
#[derive(Debug)]
pub struct Controls {
    pub(crate) journal: Arc<Journal>,
    pub(crate) boards: BTreeMap<Cloud, Arc<Board>>,
    pub(crate) clocks: BTreeMap<Cloud, Clock>,
    pub(crate) endpoints: BTreeMap<Cloud, Arc<Endpoint>>,
}

impl Controls {
    /// The stand-ins that run, of one or of all. What has several names and one board (Krypton's two doors) is one of them.
    fn chosen(&self, cloud: Option<Cloud>) -> Result<Vec<Cloud>, String> {
        match cloud {
            None => {
                let first = |c: &Cloud| self.one_with(*c).next() == Some(*c);
                Ok(self.boards.keys().copied().filter(first).collect())
            }
            Some(cloud) if self.boards.contains_key(&cloud) => Ok(vec![cloud]),
            Some(cloud) => Err(format!("{cloud} does not run here")),
        }
    }

    /// Every name of the stand-in that has this one.
    fn one_with(&self, cloud: Cloud) -> impl Iterator<Item = Cloud> {
        let own = self.boards.get(&cloud);
        let same = move |board: &Arc<Board>| own.is_some_and(|own| Arc::ptr_eq(own, board));
        self.boards
            .iter()
            .filter(move |(_, board)| same(board))
            .map(|(c, _)| *c)
    }

    /// What each stand-in that runs has, once.
    fn each<'a, T>(&'a self, all: &'a BTreeMap<Cloud, T>) -> impl Iterator<Item = (Cloud, &'a T)> {
        let chosen = self.chosen(None).unwrap_or_default();
        chosen.into_iter().filter_map(|c| all.get(&c).map(|one| (c, one)))
    }

    /// Puts a fault in force, beside those that are.
    ///
    /// # Errors
    /// A stand-in that does not run; too many faults.
    pub fn put(&self, spec: &Spec) -> Result<Vec<Put>, String> {
        let mut put = Vec::new();
        self.chosen(spec.cloud)?;
        let after = self.journal.register().last();
        for cloud in spec.clouds() {
            if let Some(board) = self.boards.get(&cloud) {
                let id = board.put(spec.fault, spec.whom.clone(), after)?;
                put.push(Put { cloud, id });
            }
        }
        self.journal.register().arm(spec);
        Ok(put)
    }

    /// Takes away every fault of one stand-in or of all; the answer is how many there were.
    ///
    /// # Errors
    /// A stand-in that does not run.
    pub fn clear(&self, cloud: Option<Cloud>) -> Result<usize, String> {
        let boards = self.chosen(cloud)?;
        let cleared = boards.iter().filter_map(|c| self.boards.get(c));
        Ok(cleared.map(|b| b.clear(|_, _| true)).sum())
    }

    /// Takes away every fault of this kind; the answer is how many there were.
    ///
    /// # Errors
    /// A stand-in that does not run.
    pub fn clear_kind(&self, cloud: Option<Cloud>, fault: Fault) -> Result<usize, String> {
        let boards = self.chosen(cloud)?;
        let cleared = boards.iter().filter_map(|c| self.boards.get(c));
        Ok(cleared.map(|b| b.clear(|f, _| f == fault)).sum())
    }

    /// Takes one fault away; the answer is whether it was there.
    #[must_use]
    pub fn remove(&self, id: u64) -> bool {
        self.boards.values().any(|b| b.remove(id))
    }

    /// The faults in force.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<Cloud, Vec<InForce>> {
        let lists = self.each(&self.boards).map(|(cloud, board)| (cloud, board.list()));
        lists.filter(|(_, list)| !list.is_empty()).collect()
    }

    /// Cuts every connection of one stand-in or of all, as a restart does. With `forget_sessions` subscriptions and queues are gone too;
    /// for `closed_for` (at most [`CLOSED_MAX`]) nobody listens.
    ///
    /// # Errors
    /// A stand-in that does not run.
    pub fn restart(&self, cloud: Option<Cloud>, forget_sessions: bool, closed_for: Duration) -> Result<(), String> {
        for cloud in self.chosen(cloud)? {
            if closed_for > Duration::ZERO {
                if let Some(board) = self.boards.get(&cloud) {
                    board.shut_until(Instant::now() + closed_for.min(CLOSED_MAX));
                }
            }
            let text = format!(
                "restarts, sessions {}, closed for {} ms",
                if forget_sessions { "forgotten" } else { "kept" },
                closed_for.as_millis()
            );
            self.journal.record(cloud, What::Note { text });
            match self.endpoints.get(&cloud) {
                Some(endpoint) => endpoint.restart(forget_sessions),
                None => {
                    for door in self.one_with(cloud) {
                        self.journal.register().cut_the_rest(door, "the stand-in restarts");
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts the clock of one stand-in, or of all, forward by so many milliseconds, or back: for certificates and time stamps.
    ///
    /// # Errors
    /// A stand-in that does not run.
    pub fn jump(&self, cloud: Option<Cloud>, milliseconds: i64) -> Result<(), String> {
        for one in self.chosen(cloud)? {
            // Krypton's two doors have one clock: of all clocks it jumps once.
            if cloud.is_none() && one == Cloud::KryptonSim {
                continue;
            }
            let cloud = one;
            if let Some(clock) = self.clocks.get(&cloud) {
                clock.jump(milliseconds);
                let text = format!("its clock jumps by {milliseconds} ms");
                self.journal.record(cloud, What::Note { text });
            }
        }
        Ok(())
    }

    /// Cuts one connection; the answer is whether it was there.
    #[must_use]
    pub fn cut(&self, connection: u64) -> bool {
        self.journal.register().cut(connection, "cut by hand")
    }

    /// Cuts every connection of an MQTT client; the answer is how many there were.
    #[must_use]
    pub fn cut_client(&self, cloud: Option<Cloud>, client_id: &str) -> usize {
        let open = self.journal.register().open();
        let of = |o: &&Open| o.client_id.as_deref() == Some(client_id) && cloud.is_none_or(|c| c == o.cloud);
        open.iter().filter(of).filter(|o| self.cut(o.connection)).count()
    }

    /// Everything at a glance.
    #[must_use]
    pub fn status(&self) -> Status {
        let clocks = self.each(&self.clocks).map(|(cloud, clock)| ClockState {
            cloud,
            ahead_ms: clock.skew(),
        });
        Status {
            doors: self.journal.register().doors(),
            connections: self.journal.register().open(),
            faults: self.faults(),
            clocks: clocks.filter(|c| c.ahead_ms != 0).collect(),
        }
    }
}

/// Reads how far a clock jumps: a duration with a sign, `+2h` or `-400d`; in milliseconds.
///
/// # Errors
/// A sentence for the user.
pub fn offset(text: &str) -> Result<i64, String> {
    let wrong =
        || format!("{text:?} is no jump: write a sign and a duration of at most 100 years, for example +2h or -400d");
    let (sign, rest) = match text.as_bytes().first() {
        Some(b'+') => (1, &text[1..]),
        Some(b'-') => (-1, &text[1..]),
        _ => return Err(wrong()),
    };
    let by = units::duration(rest).map_err(|_| wrong())?;
    if by > JUMP_MAX {
        return Err(wrong());
    }
    i64::try_from(by.as_millis()).map(|ms| sign * ms).map_err(|_| wrong())
}

/// Reads for how long doors stay closed.
///
/// # Errors
/// A sentence for the user.
pub fn closed_for(text: &str) -> Result<Duration, String> {
    let closed = units::duration(text)?;
    if closed > CLOSED_MAX {
        return Err(format!("{text:?} is too long: at most {} s", CLOSED_MAX.as_secs()));
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_have_a_sign_and_an_end() {
        assert_eq!(offset("+2h"), Ok(7_200_000));
        assert_eq!(offset("-1d"), Ok(-86_400_000));
        for bad in ["", "2h", "+", "+2", "-999999999d", "++2h", "é"] {
            assert!(offset(bad).unwrap_err().contains("+2h"), "{bad}");
        }
        assert!(closed_for("2h").is_err() && closed_for("2s").is_ok());
    }
}
