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

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::codec::{Properties, RetainHandling};
use super::policy::{Keeping, Limits, Session};
use retained::Retained;
use session::{Full, State};

pub use retained::{RETAINED_BYTES_MAX, RETAINED_MAX};
pub use session::QUEUE_BYTES_MAX;

/// Sessions a stand-in keeps, connected or away.
pub const SESSIONS_MAX: usize = 256;
/// Subscriptions of one session, whatever the cloud (AWS has 50, IoT Hub 5, Event Grid publishes no number).
pub const FILTERS_MAX: usize = 100;

/// A connection, for its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// A message on its way to subscribers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: Arc<str>,
    /// What was published.
    pub payload: Bytes,
    /// 0 or 1.
    pub qos: u8,
    /// The RETAIN flag it came with, or goes out with.
    pub retain: bool,
    /// The publisher's client id, unless it is the cloud itself.
    pub from: Option<Arc<str>>,
    /// When it is of no use any more, on the monotonic clock.
    pub expires: Option<Duration>,
    /// What MQTT 5 says about it.
    pub properties: Option<Arc<Properties>>,
}

impl Message {
    /// What it takes in a queue, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.as_ref().map_or(0, |p| p.size())
    }

    /// Whether it is still of use.
    #[must_use]
    pub fn is_fresh(&self, now: Duration) -> bool {
        self.expires.is_none_or(|at| now < at)
    }
}

/// How a device wants its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// What was kept is forgotten (clean session, clean start).
    pub clean: bool,
    /// How long the session outlives the connection; zero ends it with the connection.
    pub expiry: Duration,
    /// QoS 1 messages without acknowledgement that the device takes.
    pub window: usize,
}

/// What a subscription is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its filter.
    pub filter: String,
    /// 0 or 1.
    pub qos: u8,
    /// Own messages are not sent back.
    pub no_local: bool,
    /// Messages keep their RETAIN flag.
    pub retain_as_published: bool,
}

/// What CONNECT found.
#[derive(Debug, PartialEq, Eq)]
pub struct Attached {
    /// The new connection.
    pub connection: ConnectionId,
    /// Whether an earlier session goes on.
    pub session_present: bool,
    /// The connection that held the session and must go now.
    pub displaced: Option<ConnectionId>,
}

/// Why a session cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The name is taken by somebody else.
    #[error("the session belongs to {0:?}")]
    Foreign(String),
    /// The owner has all it may have.
    #[error("{owner:?} has {held} sessions already, connected or away, and may have {limit}")]
    TooMany {
        /// Whose.
        owner: String,
        /// How many there are.
        held: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Too many sessions.
    #[error("{SESSIONS_MAX} sessions are kept already")]
    Full,
}

/// What became of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Routed {
    /// Connections that have something to send now.
    pub wake: Vec<ConnectionId>,
    /// Client ids whose queue was full: the message is lost to them.
    pub dropped: Vec<String>,
    /// Sessions that ended because their queue was full, and the connections that held them.
    pub overflowed: Vec<(String, Option<ConnectionId>)>,
}

/// One PUBLISH to send.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The packet identifier; 0 for QoS 0.
    pub id: u16,
    /// Whether it was sent before.
    pub dup: bool,
    /// The message, with the quality of service of this delivery.
    pub message: Message,
}

/// The broker of one stand-in.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    keeping: Keeping,
    sessions: HashMap<String, State>,
    retained: Retained,
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

    /// How long the session outlives its connection.
    #[must_use]
    pub fn expiry(&self, client_id: &str) -> Duration {
        self.sessions.get(client_id).map_or(Duration::ZERO, |s| s.expiry)
    }

    /// Changes how long the session outlives its connection (MQTT 5, DISCONNECT).
    pub fn set_expiry(&mut self, client_id: &str, connection: ConnectionId, expiry: Duration) {
        if let Some(state) = self.held(client_id, connection) {
            state.expiry = expiry;
        }
    }

    /// Whether the session that this connection held has been taken up again, so that a will that waits is not to be published.
    #[must_use]
    pub fn goes_on(&self, client_id: &str, connection: ConnectionId) -> bool {
        self.sessions
            .get(client_id)
            .is_some_and(|s| s.born <= connection && s.latest > connection)
    }

    /// Forgets every session and every kept message, as a broker that lost its store.
    pub fn forget(&mut self) {
        self.sessions.clear();
        self.retained = Retained::default();
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

    /// Queues a message for one session, if it is there and subscribed to it; `anyway` sends it even without a subscription.
    pub fn deliver(&mut self, client_id: &str, message: &Message, anyway: bool) -> Routed {
        let mut routed = Routed::default();
        if let Some(state) = self.sessions.get_mut(client_id) {
            let granted = state.granted(&message.topic, false, &self.limits).map(|(qos, _)| qos);
            if let Some(qos) = granted.or(anyway.then_some(1)) {
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
