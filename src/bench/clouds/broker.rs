//! The broker core: sessions, subscriptions, queues, acknowledgements. No I/O and no clock; what a cloud allows was decided by its
//! [policy](super::policy) before anything gets here.
//!
//! - A **session** is known by its client id and belongs to an owner. At most one connection holds it; a new one takes it over.
//! - Messages for a session wait in its queue, bounded by number and bytes; what does not fit is dropped and reported. QoS 0 is not kept
//!   for a device that is away (MQTT 3.1.1 section 4.3.1).
//! - QoS 1 messages stay in flight until acknowledged, at most a window of them, and are sent again with DUP when the session goes on
//!   over another connection (section 4.4).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::policy::{Limits, Session};
use super::topic;

/// Sessions a stand-in keeps, connected or away.
pub const SESSIONS_MAX: usize = 256;
/// Bytes that wait for one session, queue and flight together (Event Grid ends a session at 1 MB).
pub const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Subscriptions of one session, whatever the cloud (AWS has 50, IoT Hub 5, Event Grid publishes no number).
pub const FILTERS_MAX: usize = 100;

/// A connection, for its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

/// A message on its way to subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: Arc<str>,
    /// What was published.
    pub payload: Bytes,
    /// 0 or 1.
    pub qos: u8,
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

#[derive(Debug)]
struct Flight {
    id: u16,
    message: Message,
    /// Over how many connections it went already; `waiting` when not yet over this one.
    waiting: bool,
}

#[derive(Debug)]
struct State {
    owner: String,
    connection: Option<ConnectionId>,
    persistent: bool,
    left_at: Duration,
    filters: Vec<(String, u8)>,
    queue: VecDeque<Message>,
    in_flight: VecDeque<Flight>,
    bytes: usize,
    last_id: u16,
}

impl State {
    /// The highest quality of service among the filters that match.
    fn granted(&self, topic: &str, limits: &Limits) -> Option<u8> {
        self.filters
            .iter()
            .filter(|(f, _)| topic::matches(f, topic, limits.hash_covers_parent))
            .map(|(_, qos)| *qos)
            .max()
    }

    fn enqueue(&mut self, client_id: &str, message: &Message, granted: u8, limits: &Limits, routed: &mut Routed) {
        let qos = granted.min(message.qos);
        if qos == 0 && self.connection.is_none() {
            return;
        }
        let size = message.topic.len() + message.payload.len();
        if self.queue.len() >= limits.queue || self.bytes + size > QUEUE_BYTES_MAX {
            routed.dropped.push(client_id.to_owned());
            return;
        }
        self.bytes += size;
        self.queue.push_back(Message { qos, ..message.clone() });
        routed.wake.extend(self.connection);
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.iter().any(|f| f.id == self.last_id) {
                return self.last_id;
            }
        }
    }
}

/// The broker of one stand-in.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    sessions: HashMap<String, State>,
    connections: u64,
}

impl Broker {
    /// An empty broker.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            sessions: HashMap::new(),
            connections: 0,
        }
    }

    /// A device was admitted. `clean` forgets what was kept for it.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(&mut self, who: &Session, clean: bool, now: Duration) -> Result<Attached, AttachError> {
        let expiry = self.limits.session_expiry;
        // A cloud without persistent sessions (DPS) has none for whoever takes over either.
        let clean = clean || expiry.is_zero();
        self.sessions
            .retain(|_, s| s.connection.is_some() || now.saturating_sub(s.left_at) < expiry);
        if let Some(state) = self.sessions.get(&who.client_id) {
            if !self.limits.foreign_take_over && !state.owner.eq_ignore_ascii_case(&who.owner) {
                return Err(AttachError::Foreign(state.owner.clone()));
            }
        } else if self.sessions.len() >= SESSIONS_MAX {
            return Err(AttachError::Full);
        }
        let previous = self.sessions.remove(&who.client_id);
        let displaced = previous.as_ref().and_then(|s| s.connection);
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let (mut state, session_present) = match previous {
            Some(kept) if !clean && kept.persistent => (kept, true),
            _ => (
                State {
                    owner: who.owner.clone(),
                    connection: None,
                    persistent: !clean,
                    left_at: now,
                    filters: Vec::new(),
                    queue: VecDeque::new(),
                    in_flight: VecDeque::new(),
                    bytes: 0,
                    last_id: 0,
                },
                false,
            ),
        };
        state.owner.clone_from(&who.owner);
        state.connection = Some(connection);
        for flight in &mut state.in_flight {
            flight.waiting = true;
        }
        self.sessions.insert(who.client_id.clone(), state);
        Ok(Attached {
            connection,
            session_present,
            displaced,
        })
    }

    /// A connection has gone. One that was displaced no longer matters.
    pub fn detach(&mut self, client_id: &str, connection: ConnectionId, now: Duration) {
        let Some(state) = self.held(client_id, connection) else {
            return;
        };
        state.connection = None;
        state.left_at = now;
        if !state.persistent {
            self.sessions.remove(client_id);
        }
    }

    /// Forgets every session, as a broker that lost its store.
    pub fn forget(&mut self) {
        self.sessions.clear();
    }

    /// How many filters a session has, and whether `filter` is one of them.
    #[must_use]
    pub fn subscriptions(&self, client_id: &str, filter: &str) -> (usize, bool) {
        self.sessions.get(client_id).map_or((0, false), |s| {
            (s.filters.len(), s.filters.iter().any(|(f, _)| f == filter))
        })
    }

    /// Subscribes; the answer is whether there was room.
    pub fn subscribe(&mut self, client_id: &str, connection: ConnectionId, filter: &str, qos: u8) -> bool {
        let Some(state) = self.held(client_id, connection) else {
            return false;
        };
        if let Some(known) = state.filters.iter_mut().find(|(f, _)| f == filter) {
            known.1 = qos;
        } else if state.filters.len() < FILTERS_MAX {
            state.filters.push((filter.to_owned(), qos));
        } else {
            return false;
        }
        true
    }

    /// Unsubscribes.
    pub fn unsubscribe(&mut self, client_id: &str, connection: ConnectionId, filter: &str) {
        if let Some(state) = self.held(client_id, connection) {
            state.filters.retain(|(f, _)| f != filter);
        }
    }

    /// Queues a message for everybody who subscribed to it, once each, at the lower of both qualities of service.
    pub fn publish(&mut self, message: &Message) -> Routed {
        let mut routed = Routed::default();
        for (client_id, state) in &mut self.sessions {
            if let Some(granted) = state.granted(&message.topic, &self.limits) {
                state.enqueue(client_id, message, granted, &self.limits, &mut routed);
            }
        }
        routed
    }

    /// Queues a message for one session, if it is there and subscribed to it; `anyway` sends it even without a subscription.
    pub fn deliver(&mut self, client_id: &str, message: &Message, anyway: bool) -> Routed {
        let mut routed = Routed::default();
        if let Some(state) = self.sessions.get_mut(client_id) {
            let granted = state.granted(&message.topic, &self.limits);
            if let Some(granted) = granted.or(anyway.then_some(1)) {
                state.enqueue(client_id, message, granted, &self.limits, &mut routed);
            }
        }
        routed
    }

    /// Which connection holds a session now.
    #[must_use]
    pub fn connection(&self, client_id: &str) -> Option<ConnectionId> {
        self.sessions.get(client_id)?.connection
    }

    /// The next message to send over a connection, if its window has room.
    pub fn next(&mut self, client_id: &str, connection: ConnectionId) -> Option<Outgoing> {
        let window = self.limits.in_flight;
        let state = self.held(client_id, connection)?;
        if let Some(flight) = state.in_flight.iter_mut().find(|f| f.waiting) {
            flight.waiting = false;
            return Some(Outgoing {
                id: flight.id,
                dup: true,
                message: flight.message.clone(),
            });
        }
        if state.queue.front()?.qos > 0 && state.in_flight.len() >= window {
            return None;
        }
        let message = state.queue.pop_front()?;
        let id = if message.qos == 0 {
            state.bytes -= message.topic.len() + message.payload.len();
            0
        } else {
            let id = state.next_id();
            state.in_flight.push_back(Flight {
                id,
                message: message.clone(),
                waiting: false,
            });
            id
        };
        Some(Outgoing {
            id,
            dup: false,
            message,
        })
    }

    /// A PUBACK came; the answer is the message it was for. One that fits nothing is ignored.
    pub fn acknowledged(&mut self, client_id: &str, connection: ConnectionId, id: u16) -> Option<Message> {
        let state = self.held(client_id, connection)?;
        let at = state.in_flight.iter().position(|f| f.id == id)?;
        let message = state.in_flight.remove(at)?.message;
        state.bytes -= message.topic.len() + message.payload.len();
        Some(message)
    }

    fn held(&mut self, client_id: &str, connection: ConnectionId) -> Option<&mut State> {
        self.sessions
            .get_mut(client_id)
            .filter(|s| s.connection == Some(connection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(10);

    fn limits() -> Limits {
        Limits {
            packet: 1 << 20,
            in_flight: 2,
            queue: 3,
            session_expiry: Duration::from_secs(100),
            hash_covers_parent: true,
            foreign_take_over: false,
        }
    }

    fn who(client_id: &str, owner: &str) -> Session {
        Session {
            client_id: client_id.into(),
            owner: owner.into(),
            cn: owner.into(),
        }
    }

    fn message(payload: &'static str, qos: u8) -> Message {
        Message {
            topic: "a/b".into(),
            payload: Bytes::from_static(payload.as_bytes()),
            qos,
        }
    }

    fn subscriber(b: &mut Broker, clean: bool) -> ConnectionId {
        let c = b.attach(&who("s", "o"), clean, T0).unwrap().connection;
        assert!(b.subscribe("s", c, "a/+", 1));
        c
    }

    fn drain(b: &mut Broker, c: ConnectionId) -> Vec<(u16, bool, Bytes)> {
        std::iter::from_fn(|| b.next("s", c))
            .map(|o| (o.id, o.dup, o.message.payload))
            .collect()
    }

    #[test]
    fn the_window_holds_until_acknowledged_and_the_queue_is_bounded() {
        let mut b = Broker::new(limits());
        let c = subscriber(&mut b, true);
        for p in ["1", "2", "3"] {
            assert_eq!(b.publish(&message(p, 1)).wake, [c]);
        }
        assert_eq!(b.publish(&message("4", 1)).dropped, ["s"]);
        assert_eq!(drain(&mut b, c), [(1, false, "1".into()), (2, false, "2".into())]);
        b.acknowledged("s", c, 1);
        b.acknowledged("s", c, 77);
        assert_eq!(drain(&mut b, c), [(3, false, "3".into())]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut b = Broker::new(limits());
        let c = subscriber(&mut b, true);
        let big = Message {
            topic: "a/b".into(),
            payload: vec![0; QUEUE_BYTES_MAX - 3].into(),
            qos: 1,
        };
        assert_eq!(b.publish(&big).wake, [c]);
        assert_eq!(b.publish(&message("x", 0)).dropped, ["s"]);
        assert_eq!(drain(&mut b, c).len(), 1);
        assert_eq!(b.publish(&message("x", 0)).dropped, ["s"], "in flight counts");
        b.acknowledged("s", c, 1);
        assert_eq!(b.publish(&message("x", 0)).wake, [c]);
    }

    #[test]
    fn a_session_that_goes_on_gets_what_it_did_not_acknowledge() {
        let mut b = Broker::new(limits());
        let c = subscriber(&mut b, false);
        b.publish(&message("1", 1));
        assert_eq!(drain(&mut b, c).len(), 1);
        b.detach("s", c, T0);
        b.publish(&message("2", 1));
        b.publish(&message("gone", 0));
        let again = b.attach(&who("s", "o"), false, T0).unwrap();
        assert!(again.session_present);
        assert_eq!(
            drain(&mut b, again.connection),
            [(1, true, "1".into()), (2, false, "2".into())]
        );
        assert_eq!(b.next("s", c), None, "the old connection gets nothing");
    }

    #[test]
    fn sessions_end_by_clean_start_expiry_and_forgetting() {
        let mut b = Broker::new(limits());
        let c = subscriber(&mut b, false);
        b.detach("s", c, T0);
        assert!(!b.attach(&who("s", "o"), true, T0).unwrap().session_present);
        let c = subscriber(&mut b, false);
        b.detach("s", c, T0);
        assert!(
            !b.attach(&who("s", "o"), false, T0 + Duration::from_secs(100))
                .unwrap()
                .session_present
        );
        b.forget();
        assert_eq!(b.publish(&message("1", 1)), Routed::default());
    }

    #[test]
    fn take_over_displaces_and_foreigners_are_refused() {
        let mut b = Broker::new(limits());
        let first = b.attach(&who("s", "o"), true, T0).unwrap();
        let second = b.attach(&who("s", "O"), true, T0).unwrap();
        assert_eq!(second.displaced, Some(first.connection));
        b.detach("s", first.connection, T0);
        assert!(
            b.subscribe("s", second.connection, "a", 0),
            "the late goodbye of the displaced does no harm"
        );
        assert_eq!(
            b.attach(&who("s", "p"), true, T0),
            Err(AttachError::Foreign("O".into()))
        );
        let mut aws = Broker::new(Limits {
            foreign_take_over: true,
            ..limits()
        });
        aws.attach(&who("s", "o"), true, T0).unwrap();
        assert!(aws.attach(&who("s", "p"), true, T0).unwrap().displaced.is_some());
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let mut b = Broker::new(limits());
        for i in 0..SESSIONS_MAX {
            b.attach(&who(&i.to_string(), "o"), false, T0).unwrap();
        }
        assert_eq!(b.attach(&who("more", "o"), false, T0), Err(AttachError::Full));
        assert!(b.attach(&who("0", "o"), false, T0).is_ok());
    }
}
