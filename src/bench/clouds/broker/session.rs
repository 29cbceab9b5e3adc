//! One session: its subscriptions, its queue, and what is in flight.

use std::collections::VecDeque;
use std::time::Duration;

use super::{ConnectionId, Message, Outgoing, Start, Subscription};
use crate::bench::clouds::policy::Limits;
use crate::bench::clouds::topic;

/// Bytes that wait for one session, queue and flight together (Event Grid ends a session at 1 MB).
pub const QUEUE_BYTES_MAX: usize = 1 << 20;

/// The queue is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug)]
struct Flight {
    id: u16,
    message: Message,
    /// Not yet sent over this connection.
    waiting: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) owner: String,
    pub(super) connection: Option<ConnectionId>,
    /// The connection that began the session.
    pub(super) born: ConnectionId,
    /// The connection that had it last.
    pub(super) latest: ConnectionId,
    pub(super) expiry: Duration,
    pub(super) left_at: Duration,
    pub(super) filters: Vec<Subscription>,
    window: usize,
    queue: VecDeque<Message>,
    in_flight: VecDeque<Flight>,
    bytes: usize,
    last_id: u16,
}

impl State {
    pub(super) fn new(connection: ConnectionId) -> Self {
        Self {
            owner: String::new(),
            connection: None,
            born: connection,
            latest: connection,
            expiry: Duration::ZERO,
            left_at: Duration::ZERO,
            filters: Vec::new(),
            window: 1,
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            bytes: 0,
            last_id: 0,
        }
    }

    pub(super) fn attach(&mut self, owner: &str, start: Start, connection: ConnectionId) {
        owner.clone_into(&mut self.owner);
        self.connection = Some(connection);
        self.latest = connection;
        self.expiry = start.expiry;
        self.window = start.window;
        for flight in &mut self.in_flight {
            flight.waiting = true;
        }
    }

    pub(super) fn is_persistent(&self) -> bool {
        !self.expiry.is_zero()
    }

    pub(super) fn lives(&self, now: Duration) -> bool {
        self.connection.is_some() || now.saturating_sub(self.left_at) < self.expiry
    }

    /// The highest quality of service among the filters that match, and whether one of them keeps the RETAIN flag.
    pub(super) fn granted(&self, topic: &str, is_own: bool, limits: &Limits) -> Option<(u8, bool)> {
        self.filters
            .iter()
            .filter(|f| !(is_own && f.no_local) && topic::matches(&f.filter, topic, limits.hash_covers_parent))
            .map(|f| (f.qos, f.retain_as_published))
            .reduce(|(qos, keep), (other, also)| (qos.max(other), keep || also))
    }

    pub(super) fn enqueue(&mut self, message: Message, limits: &Limits) -> Result<(), Full> {
        if message.qos == 0 && self.connection.is_none() {
            return Ok(());
        }
        let size = message.size();
        if self.queue.len() >= limits.queue || self.bytes + size > QUEUE_BYTES_MAX {
            return Err(Full);
        }
        self.bytes += size;
        self.queue.push_back(message);
        Ok(())
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.iter().any(|f| f.id == self.last_id) {
                return self.last_id;
            }
        }
    }

    pub(super) fn next(&mut self, window: usize, now: Duration) -> Option<Outgoing> {
        let window = window.min(self.window);
        // A window that has become smaller holds for what is sent again too.
        let under_way = self.in_flight.iter().filter(|f| !f.waiting).count();
        if let Some(flight) = self.in_flight.iter_mut().find(|f| f.waiting) {
            if under_way >= window {
                return None;
            }
            flight.waiting = false;
            return Some(Outgoing {
                id: flight.id,
                dup: true,
                message: flight.message.clone(),
            });
        }
        while self.queue.front().is_some_and(|m| !m.is_fresh(now)) {
            let stale = self.queue.pop_front()?;
            self.bytes -= stale.size();
        }
        if self.queue.front()?.qos > 0 && self.in_flight.len() >= window {
            return None;
        }
        let message = self.queue.pop_front()?;
        let id = if message.qos == 0 {
            self.bytes -= message.size();
            0
        } else {
            let id = self.next_id();
            self.in_flight.push_back(Flight {
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

    pub(super) fn acknowledged(&mut self, id: u16) -> Option<Message> {
        let at = self.in_flight.iter().position(|f| f.id == id && !f.waiting)?;
        let message = self.in_flight.remove(at)?.message;
        self.bytes -= message.size();
        Some(message)
    }
}

#[cfg(test)]
impl State {
    /// What has to be true at any time.
    pub(super) fn check(&self, limits: &Limits) {
        assert!(self.queue.len() <= limits.queue && self.in_flight.len() <= limits.in_flight);
        let sum = self
            .queue
            .iter()
            .chain(self.in_flight.iter().map(|f| &f.message))
            .map(Message::size)
            .sum::<usize>();
        assert!(self.bytes == sum && sum <= QUEUE_BYTES_MAX);
        let ids: std::collections::BTreeSet<_> = self.in_flight.iter().map(|f| f.id).collect();
        assert!(ids.len() == self.in_flight.len() && !ids.contains(&0));
    }
}
