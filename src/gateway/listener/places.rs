//! Places: how many connections there may be, and how many of them strangers.
//!
//! A connection is a **stranger** until its CONNECT has made it a known device. Strangers cost nothing to send, so they must not be able to
//! keep known devices out:
//!
//! - Of `listen.max_connections` places, strangers hold at most a quarter ([`STRANGERS_SHARE`]). One more, and a stranger that is there has
//!   to go: the oldest one of the address that has the most of them. Who opens connections by the thousand from one address loses his
//!   own; a device that has just arrived stays. When no address has more than one, it is the oldest of all.
//! - When known devices hold the places, a newcomer takes a stranger's place, and is turned away only when there is none.
//! - A known device is never made to go for a newcomer.
//! - `listen.max_per_address` bounds what one address holds, of either kind.
//! - The doors for HTTP have places of their own, of which strangers hold another share ([`Places::with_strangers`]).
//! - Those that were told to go and have not yet are bounded too (as many again as strangers); beyond that, newcomers are turned away.
//!
//! Addresses are [`Origin`]s: an IPv6 address counts with its /64. A connection through a trusted proxy has no address of its own before the
//! PROXY header; until then it counts as the proxy's stranger and against no address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::gateway::guess::Origin;
use crate::gateway::refusal::Refusal;

/// Strangers hold at most one in so many places.
pub const STRANGERS_SHARE: usize = 4;

#[derive(Debug)]
struct Seat {
    origin: Option<Origin>,
    known: bool,
    go: CancellationToken,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    all: usize,
    known: usize,
}

#[derive(Debug, Default)]
struct State {
    most: usize,
    most_each: usize,
    /// How many strangers, where it is not [`STRANGERS_SHARE`].
    strangers_most: Option<usize>,
    next: u64,
    seats: HashMap<u64, Seat>,
    by_origin: HashMap<Origin, Count>,
    /// Strangers by age, and by address.
    strangers: BTreeSet<u64>,
    crowds: HashMap<Option<Origin>, BTreeSet<u64>>,
    by_size: BTreeMap<usize, BTreeSet<Option<Origin>>>,
    /// Told to go.
    leaving: usize,
}

impl State {
    fn strangers_most(&self) -> usize {
        self.strangers_most.unwrap_or((self.most / STRANGERS_SHARE).max(1))
    }

    /// Moves a crowd from one size to the next.
    fn resize(&mut self, origin: Option<Origin>, from: usize, to: usize) {
        if let Some(peers) = self.by_size.get_mut(&from) {
            peers.remove(&origin);
            if peers.is_empty() {
                self.by_size.remove(&from);
            }
        }
        if to > 0 {
            self.by_size.entry(to).or_default().insert(origin);
        }
    }

    fn join(&mut self, id: u64, origin: Option<Origin>) {
        self.strangers.insert(id);
        let crowd = self.crowds.entry(origin).or_default();
        crowd.insert(id);
        let size = crowd.len();
        self.resize(origin, size - 1, size);
    }

    fn part(&mut self, id: u64, origin: Option<Origin>) {
        if !self.strangers.remove(&id) {
            return;
        }
        let Some(crowd) = self.crowds.get_mut(&origin) else {
            return;
        };
        crowd.remove(&id);
        let size = crowd.len();
        if size == 0 {
            self.crowds.remove(&origin);
        }
        self.resize(origin, size + 1, size);
    }

    /// The stranger that goes first.
    fn first_to_go(&self) -> Option<u64> {
        let (size, crowds) = self.by_size.last_key_value()?;
        if *size == 1 {
            return self.strangers.first().copied();
        }
        let oldest = |origin| self.crowds.get(origin).and_then(|crowd| crowd.first().copied());
        crowds.iter().filter_map(oldest).min()
    }

    fn leave(&mut self, id: u64) -> Option<Seat> {
        let seat = self.seats.remove(&id)?;
        self.part(id, seat.origin);
        if let Some(origin) = seat.origin {
            if let Some(count) = self.by_origin.get_mut(&origin) {
                count.all -= 1;
                count.known -= usize::from(seat.known);
                if count.all == 0 {
                    self.by_origin.remove(&origin);
                }
            }
        }
        Some(seat)
    }

    fn evict(&mut self) -> bool {
        let Some(seat) = self.first_to_go().and_then(|id| self.leave(id)) else {
            return false;
        };
        seat.go.cancel();
        self.leaving += 1;
        true
    }
}

/// All places of a gateway.
#[derive(Debug, Default)]
pub struct Places(Mutex<State>);

impl Places {
    /// So many places, and so many for one address.
    #[must_use]
    pub fn new(most: usize, most_each: usize) -> Arc<Self> {
        let places = Self::default();
        places.limit(most, most_each);
        Arc::new(places)
    }

    /// The same with another bound for strangers than a share of all.
    #[must_use]
    pub fn with_strangers(most: usize, most_each: usize, strangers: usize) -> Arc<Self> {
        let places = Self::new(most, most_each);
        places.state().strangers_most = Some(strangers);
        places
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other bounds from now on; nobody who is there has to go for it.
    pub fn limit(&self, most: usize, most_each: usize) {
        let mut state = self.state();
        (state.most, state.most_each) = (most, most_each);
    }

    /// A place for a new connection; `origin` when it is known already.
    ///
    /// # Errors
    /// [`Refusal::Full`], [`Refusal::TooManyFrom`].
    pub fn take(self: &Arc<Self>, origin: Option<Origin>) -> Result<Place, Refusal> {
        let mut state = self.state();
        let most_strangers = state.strangers_most();
        if let Some(origin) = origin {
            state.may_come(origin)?;
        }
        let full = Refusal::Full(state.most);
        let crowded = state.strangers.len() >= most_strangers || state.seats.len() >= state.most;
        if crowded && (state.leaving >= most_strangers || !state.evict()) {
            return Err(full);
        }
        let id = state.next;
        state.next += 1;
        let go = CancellationToken::new();
        let seat = Seat {
            origin,
            known: false,
            go: go.clone(),
        };
        state.seats.insert(id, seat);
        state.join(id, origin);
        if let Some(origin) = origin {
            state.by_origin.entry(origin).or_default().all += 1;
        }
        drop(state);
        Ok(Place {
            places: self.clone(),
            id,
            go,
        })
    }

    /// How many places are taken, and how many of them by strangers.
    #[must_use]
    pub fn taken(&self) -> (usize, usize) {
        let state = self.state();
        (state.seats.len(), state.strangers.len())
    }

    /// Whether a known device is connected from there.
    #[must_use]
    pub fn has_known(&self, origin: Origin) -> bool {
        self.state().by_origin.get(&origin).is_some_and(|c| c.known > 0)
    }

    /// Tells every stranger to go (the gateway stops).
    pub fn clear(&self) {
        let mut state = self.state();
        while state.evict() {}
    }
}

impl State {
    fn may_come(&self, origin: Origin) -> Result<(), Refusal> {
        let there = self.by_origin.get(&origin).map_or(0, |c| c.all);
        if there >= self.most_each {
            return Err(Refusal::TooManyFrom(self.most_each));
        }
        Ok(())
    }
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    id: u64,
    go: CancellationToken,
}

impl Place {
    /// Resolves when this connection has to make room.
    pub async fn must_go(&self) {
        self.go.cancelled().await;
    }

    /// The address came to light (by a PROXY header).
    ///
    /// # Errors
    /// [`Refusal::TooManyFrom`].
    pub fn comes_from(&self, origin: Origin) -> Result<(), Refusal> {
        let mut state = self.places.state();
        state.may_come(origin)?;
        let Some(seat) = state.seats.get_mut(&self.id) else {
            return Err(Refusal::Evicted);
        };
        let before = seat.origin.replace(origin);
        state.part(self.id, before);
        state.join(self.id, Some(origin));
        state.by_origin.entry(origin).or_default().all += 1;
        Ok(())
    }

    /// It is a known device's from now on, and nobody takes it away.
    ///
    /// # Errors
    /// [`Refusal::Evicted`] when it was taken a moment ago.
    pub fn keep(&self) -> Result<(), Refusal> {
        let mut state = self.places.state();
        let Some(seat) = state.seats.get_mut(&self.id) else {
            return Err(Refusal::Evicted);
        };
        let origin = seat.origin;
        let first = !std::mem::replace(&mut seat.known, true);
        state.part(self.id, origin);
        if let Some(count) = origin.and_then(|o| state.by_origin.get_mut(&o)) {
            count.known += usize::from(first);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        if state.leave(self.id).is_none() {
            state.leaving -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(n: u8) -> Origin {
        Origin::of([192, 0, 2, n].into())
    }

    fn gone(place: &Place) -> bool {
        place.go.is_cancelled()
    }

    #[test]
    fn a_flood_from_one_address_loses_its_own() {
        let places = Places::new(40, 40);
        let device = places.take(Some(origin(1))).unwrap();
        let flood: Vec<_> = (0..2_000)
            .map(|_| {
                let place = places.take(Some(origin(2))).unwrap();
                let (taken, strangers) = places.taken();
                assert!(taken <= 10 && strangers <= 10, "a quarter is for strangers");
                assert!(!gone(&place));
                // Whoever was told to go goes: here at once, for it is dropped.
                place
            })
            .fold(Vec::new(), |mut kept: Vec<Place>, place| {
                kept.push(place);
                kept.retain(|p| !gone(p));
                kept
            });
        assert_eq!(flood.len(), 9);
        assert!(!gone(&device), "the device that waits among them is left alone");
        device.keep().unwrap();
        assert!(places.has_known(origin(1)) && !places.has_known(origin(2)));
        drop((device, flood));
        let state = places.state();
        assert_eq!((state.seats.len(), state.leaving, state.by_origin.len()), (0, 0, 0));
        assert!(state.crowds.is_empty() && state.by_size.is_empty());
    }

    #[test]
    fn among_equals_the_oldest_goes() {
        let places = Places::new(12, 12);
        let all: Vec<_> = (0..4).map(|n| places.take(Some(origin(n))).unwrap()).collect();
        assert_eq!(all.iter().map(gone).collect::<Vec<_>>(), [true, false, false, false]);
    }

    #[test]
    fn known_devices_are_not_sent_away() {
        let places = Places::new(2, 2);
        let known: Vec<_> = (0..2)
            .map(|n| {
                let place = places.take(Some(origin(n))).unwrap();
                place.keep().unwrap();
                place
            })
            .collect();
        assert!(matches!(places.take(Some(origin(9))), Err(Refusal::Full(2))));
        assert!(!known.iter().any(gone));
        drop(known);
        assert!(places.take(Some(origin(9))).is_ok());
    }

    #[test]
    fn who_does_not_go_is_not_replaced_for_ever() {
        let places = Places::new(8, 8);
        let mut held = vec![];
        let refused = loop {
            match places.take(None) {
                Ok(place) => held.push(place),
                Err(e) => break e,
            }
            assert!(held.len() < 100);
        };
        assert_eq!((refused, held.len()), (Refusal::Full(8), 4));
        assert!(matches!(held[0].keep(), Err(Refusal::Evicted)));
    }

    #[test]
    fn one_address_has_a_bound_of_its_own() {
        let places = Places::new(100, 2);
        let a = places.take(Some(origin(1))).unwrap();
        let b = places.take(None).unwrap();
        b.comes_from(origin(1)).unwrap();
        assert_eq!(places.take(Some(origin(1))).unwrap_err(), Refusal::TooManyFrom(2));
        assert_eq!(
            places.take(None).unwrap().comes_from(origin(1)),
            Err(Refusal::TooManyFrom(2))
        );
        drop(a);
        assert!(places.take(Some(origin(1))).is_ok());
    }

    proptest! {
        /// Whatever comes and goes, the sums are right.
        #[test]
        fn the_books_balance(steps in proptest::collection::vec((0_u8..5, 0_u8..4, 0_usize..20), 0..200)) {
            let places = Places::new(16, 6);
            let mut held: Vec<Place> = vec![];
            for (what, n, which) in steps {
                match what {
                    0 | 1 => held.extend(places.take(Some(origin(n))).ok()),
                    2 => held.extend(places.take(None).ok()),
                    3 if !held.is_empty() => { let i = which % held.len(); let _ = held[i].keep(); }
                    4 if !held.is_empty() => { held.swap_remove(which % held.len()); }
                    _ => {}
                }
                let state = places.state();
                let strangers = state.seats.values().filter(|s| !s.known).count();
                prop_assert_eq!(strangers, state.strangers.len());
                prop_assert_eq!(strangers, state.crowds.values().map(BTreeSet::len).sum::<usize>());
                prop_assert_eq!(state.crowds.len(), state.by_size.values().map(BTreeSet::len).sum::<usize>());
                prop_assert_eq!(held.len(), state.seats.len() + state.leaving);
                prop_assert!(state.seats.len() <= 16 && strangers <= 4 && state.leaving <= 4);
                let sum: usize = state.by_origin.values().map(|c| c.all).sum();
                prop_assert_eq!(sum, state.seats.values().filter(|s| s.origin.is_some()).count());
            }
        }
    }
}
