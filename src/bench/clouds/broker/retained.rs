//! The messages that are kept for later subscribers: one a topic (MQTT 3.1.1 section 3.3.1.3).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Message;
use crate::bench::clouds::topic;

/// Kept messages of a stand-in (Event Grid keeps 10,000 for each throughput unit; the bench has its own, smaller bound).
pub const RETAINED_MAX: usize = 1_000;
/// Bytes of all kept messages of a stand-in (Event Grid keeps 640 MB for each throughput unit).
pub const RETAINED_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
pub(super) struct Retained {
    messages: BTreeMap<Arc<str>, Message>,
    bytes: usize,
}

impl Retained {
    /// Keeps a message in place of the last one of its topic; an empty one leaves none. False when there is no room.
    pub(super) fn put(&mut self, message: &Message, now: Duration) -> bool {
        self.remove(&message.topic);
        if message.payload.is_empty() {
            return true;
        }
        let room =
            |this: &Self| this.messages.len() < RETAINED_MAX && this.bytes + message.size() <= RETAINED_BYTES_MAX;
        if !room(self) {
            let stale: Vec<_> = self
                .messages
                .values()
                .filter(|m| !m.is_fresh(now))
                .map(|m| Arc::clone(&m.topic))
                .collect();
            stale.iter().for_each(|topic| self.remove(topic));
        }
        if !room(self) {
            return false;
        }
        self.bytes += message.size();
        self.messages.insert(Arc::clone(&message.topic), message.clone());
        true
    }

    fn remove(&mut self, topic: &str) {
        if let Some(old) = self.messages.remove(topic) {
            self.bytes -= old.size();
        }
    }

    pub(super) fn matching<'a>(
        &'a self,
        filter: &'a str,
        parent: bool,
        now: Duration,
    ) -> impl Iterator<Item = &'a Message> {
        self.messages
            .values()
            .filter(move |m| m.is_fresh(now) && topic::matches(filter, &m.topic, parent))
    }
}
