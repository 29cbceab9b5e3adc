//! What goes into the broker and what comes out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::SESSIONS_MAX;
use crate::bench::clouds::codec::Properties;

/// A connection, for its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(super) u64);

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
