//! The broker core: sessions, subscriptions, queues, acknowledgements, kept messages. No I/O and no clock; what a cloud allows was
//! decided by its [policy](super::policy) before anything gets here. Both versions of MQTT meet here: what only one of them can say is in
//! the message's properties and in how a session starts.
//!
//! - A **session** (`session`) is known by its client id and belongs to an owner. At most one connection holds it; a new one takes it
//!   over. A session that is away counts as one of its owner's.
//! - Messages for a session wait in its queue, bounded by number and bytes; what does not fit is dropped and reported, or ends the
//!   session, as the cloud has it. QoS 0 is not kept for a device that is away (MQTT 3.1.1 section 4.3.1).
//! - QoS 1 messages stay in flight until acknowledged, at most a window of them, and are sent again with DUP when the session goes on
//!   over another connection (section 4.4).
//! - **Kept** messages (`retained`) are bounded by number and bytes too.
//! - A message that has expired is neither sent nor kept (MQTT 5 section 3.3.2.3.3); it takes its room until then.

mod retained;
mod session;
mod types;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use super::codec::RetainHandling;
use super::policy::{Keeping, Limits, Session};
use retained::Retained;
use session::{Full, State};

pub use retained::{RETAINED_BYTES_MAX, RETAINED_MAX};
pub use session::QUEUE_BYTES_MAX;
pub use types::{AttachError, Attached, ConnectionId, Message, Outgoing, Routed, Start, Subscription};

/// Sessions a stand-in keeps, connected or away.
pub const SESSIONS_MAX: usize = 256;
/// Subscriptions of one session, whatever the cloud (AWS has 50, IoT Hub 5, Event Grid publishes no number).
pub const FILTERS_MAX: usize = 100;

/// The broker of one stand-in.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    keeping: Keeping,
    sessions: HashMap<String, State>,
    retained: Retained,
    /// Whose wills wait, by the connection that left them; no more than there are connections.
    wills: HashMap<ConnectionId, String>,
    connections: u64,
}

impl Broker {
    /// An empty broker.
    #[must_use]
    pub fn new(limits: Limits, keeping: Keeping) -> Self {
        Self {
            limits,
            keeping,
            sessions: HashMap::new(),
            retained: Retained::default(),
            wills: HashMap::new(),
            connections: 0,
        }
    }

    /// A device was admitted.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(&mut self, who: &Session, start: Start, now: Duration) -> Result<Attached, AttachError> {
        let mut start = start;
        // A cloud without persistent sessions (DPS) has none for whoever takes over either.
        start.clean |= self.limits.session_expiry.is_zero();
        self.sessions.retain(|_, s| s.lives(now));
        match self.sessions.get(&who.client_id) {
            Some(state) if !self.limits.foreign_take_over && !same_owner(&state.owner, &who.owner) => {
                return Err(AttachError::Foreign(state.owner.clone()));
            }
            Some(_) => {}
            None => self.room_for(&who.owner)?,
        }
        let previous = self.sessions.remove(&who.client_id);
        let displaced = previous.as_ref().and_then(|s| s.connection);
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let (mut state, session_present) = match previous {
            Some(kept) if !start.clean && kept.is_persistent() => (kept, true),
            _ => (State::new(connection), false),
        };
        if session_present {
            // A session that goes on has nothing to mourn (MQTT 5, MQTT-3.1.3-9).
            self.wills.retain(|_, client_id| *client_id != who.client_id);
        }
        state.attach(&who.owner, start, connection);
        self.sessions.insert(who.client_id.clone(), state);
        Ok(Attached {
            connection,
            session_present,
            displaced,
        })
    }

    fn room_for(&self, owner: &str) -> Result<(), AttachError> {
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(AttachError::Full);
        }
        let Some(limit) = self.keeping.sessions_per_owner else {
            return Ok(());
        };
        let held = self.sessions.values().filter(|s| same_owner(&s.owner, owner)).count();
        if held < limit {
            return Ok(());
        }
        Err(AttachError::TooMany {
            owner: owner.to_owned(),
            held,
            limit,
        })
    }

    /// A connection has gone. One that was displaced no longer matters.
    pub fn detach(&mut self, client_id: &str, connection: ConnectionId, now: Duration) {
        let Some(state) = self.held(client_id, connection) else {
            return;
        };
        state.connection = None;
        state.left_at = now;
        if !state.is_persistent() {
            self.sessions.remove(client_id);
        }
    }

    /// Changes how long the session outlives its connection (MQTT 5, DISCONNECT).
    pub fn set_expiry(&mut self, client_id: &str, connection: ConnectionId, expiry: Duration) {
        if let Some(state) = self.held(client_id, connection) {
            state.expiry = expiry;
        }
    }

    /// A connection ends, and its will is to wait; false when another connection has taken the session up already, and so no will is due.
    pub fn will_waits(&mut self, client_id: &str, connection: ConnectionId) -> bool {
        if self.goes_on(client_id, connection) {
            return false;
        }
        self.wills.insert(connection, client_id.to_owned());
        true
    }

    /// The wait for a will is over; the answer is whether it is to be published: not if the session was taken up meanwhile.
    pub fn will_is_due(&mut self, connection: ConnectionId) -> bool {
        self.wills.remove(&connection).is_some()
    }

    fn goes_on(&self, client_id: &str, connection: ConnectionId) -> bool {
        self.sessions
            .get(client_id)
            .is_some_and(|s| s.born <= connection && s.latest > connection)
    }

    /// Forgets every session, every kept message and every will that waits, as a broker that lost its store.
    pub fn forget(&mut self) {
        self.sessions.clear();
        self.wills.clear();
        self.retained = Retained::default();
    }

    /// Forgets one session; the answer is the connection that held it.
    pub fn forget_session(&mut self, client_id: &str) -> Option<ConnectionId> {
        self.sessions.remove(client_id).and_then(|s| s.connection)
    }

    /// How many filters a session has, and whether `filter` is one of them.
    #[must_use]
    pub fn subscriptions(&self, client_id: &str, filter: &str) -> (usize, bool) {
        self.sessions.get(client_id).map_or((0, false), |s| {
            (s.filters.len(), s.filters.iter().any(|f| f.filter == filter))
        })
    }

    /// Subscribes, and queues the kept messages that fit; the answer is whether there was room.
    pub fn subscribe(
        &mut self,
        client_id: &str,
        connection: ConnectionId,
        subscription: Subscription,
        handling: RetainHandling,
        now: Duration,
    ) -> bool {
        let limits = self.limits;
        let Some(state) = self
            .sessions
            .get_mut(client_id)
            .filter(|s| s.connection == Some(connection))
        else {
            return false;
        };
        let is_new = state.filters.iter().all(|f| f.filter != subscription.filter);
        if is_new && state.filters.len() >= FILTERS_MAX {
            return false;
        }
        state.filters.retain(|f| f.filter != subscription.filter);
        state.filters.push(subscription.clone());
        let wanted = match handling {
            RetainHandling::Always => true,
            RetainHandling::WhenNew => is_new,
            RetainHandling::Never => false,
        };
        if wanted {
            for kept in self
                .retained
                .matching(&subscription.filter, limits.hash_covers_parent, now)
            {
                // What does not fit the queue is still kept; the next SUBSCRIBE brings it.
                let message = Message {
                    retain: true,
                    qos: kept.qos.min(subscription.qos),
                    ..kept.clone()
                };
                let _ = state.enqueue(message, &limits);
            }
        }
        true
    }

    /// Unsubscribes; the answer is whether there was such a subscription.
    pub fn unsubscribe(&mut self, client_id: &str, connection: ConnectionId, filter: &str) -> bool {
        let Some(state) = self.held(client_id, connection) else {
            return false;
        };
        let before = state.filters.len();
        state.filters.retain(|f| f.filter != filter);
        state.filters.len() < before
    }

    /// Keeps a message for later subscribers, or forgets the kept one if this one is empty; the answer is whether there was room.
    pub fn retain(&mut self, message: &Message, now: Duration) -> bool {
        self.retained.put(message, now)
    }

    /// Queues a message for everybody who subscribed to it, once each, at the lower of both qualities of service.
    pub fn publish(&mut self, message: &Message) -> Routed {
        let mut routed = Routed::default();
        for (client_id, state) in &mut self.sessions {
            let is_own = message.from.as_deref() == Some(client_id.as_str());
            if let Some((qos, keep_flag)) = state.granted(&message.topic, is_own, &self.limits) {
                let copy = Message {
                    qos: qos.min(message.qos),
                    retain: message.retain && keep_flag,
                    ..message.clone()
                };
                Self::hand(client_id, state, copy, &self.limits, self.keeping, &mut routed);
            }
        }
        self.end_overflowed(&routed);
        routed
    }

    /// Queues a message for one session, if it is there and subscribed to it.
    pub fn deliver(&mut self, client_id: &str, message: &Message) -> Routed {
        let mut routed = Routed::default();
        if let Some(state) = self.sessions.get_mut(client_id) {
            if let Some((qos, _)) = state.granted(&message.topic, false, &self.limits) {
                let copy = Message {
                    qos: qos.min(message.qos),
                    retain: false,
                    ..message.clone()
                };
                Self::hand(client_id, state, copy, &self.limits, self.keeping, &mut routed);
            }
        }
        self.end_overflowed(&routed);
        routed
    }

    fn hand(client_id: &str, state: &mut State, copy: Message, limits: &Limits, keeping: Keeping, routed: &mut Routed) {
        let ends = keeping.overflow_ends && copy.qos > 0;
        match state.enqueue(copy, limits) {
            Ok(()) => routed.wake.extend(state.connection),
            Err(Full) if ends => routed.overflowed.push((client_id.to_owned(), state.connection)),
            Err(Full) => routed.dropped.push(client_id.to_owned()),
        }
    }

    fn end_overflowed(&mut self, routed: &Routed) {
        for (client_id, _) in &routed.overflowed {
            self.sessions.remove(client_id);
        }
    }

    /// Which connection holds a session now.
    #[must_use]
    pub fn connection(&self, client_id: &str) -> Option<ConnectionId> {
        self.sessions.get(client_id)?.connection
    }

    /// The next message to send over a connection, if its window has room.
    pub fn next(&mut self, client_id: &str, connection: ConnectionId, now: Duration) -> Option<Outgoing> {
        let window = self.limits.in_flight;
        self.held(client_id, connection)?.next(window, now)
    }

    /// A PUBACK came; the answer is the message it was for. One that fits nothing is ignored.
    pub fn acknowledged(&mut self, client_id: &str, connection: ConnectionId, id: u16) -> Option<Message> {
        self.held(client_id, connection)?.acknowledged(id)
    }

    fn held(&mut self, client_id: &str, connection: ConnectionId) -> Option<&mut State> {
        self.sessions
            .get_mut(client_id)
            .filter(|s| s.connection == Some(connection))
    }
}

fn same_owner(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}
