//! What was sent, accepted and received, by device and sequence number; what was lost, and why something came twice.
//!
//! A message may come twice at QoS 1 for two reasons, both of which are counted: its device sent it again because it had no PUBACK, and
//! upstream handed it to the receiver again, with DUP, because it had no PUBACK from there. What came more often than both explain was
//! doubled on the way.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::super::ledger::Seen;

/// How many lost or doubled messages are named in a result.
const NAMED_MAX: usize = 20;

/// How one message came to be there more than once.
#[derive(Debug, Default)]
struct Again {
    /// How often the device sent it again.
    sent: u32,
    /// How often upstream sent it again to the receiver.
    redelivered: u32,
    /// How often it arrived after the first time.
    arrived: u32,
}

/// The books of one run.
#[derive(Debug)]
pub(super) struct Books {
    accepted: Vec<Seen>,
    arrived: Vec<Seen>,
    /// Messages that were sent or arrived more than once: they are few.
    again: HashMap<(u32, u32), Again>,
    sent: u64,
    accepts: u64,
    arrivals: u64,
    /// Messages without PUBACK that still have a device.
    open: u64,
    /// Messages that were due while the window was full.
    held_back: u64,
    /// Named counts: connects, ends, refusals.
    events: BTreeMap<String, u64>,
    /// Devices that are connected now.
    connected: u64,
    /// What no device may see, in words.
    wrong: Vec<String>,
}

impl Books {
    pub(super) fn new(devices: usize) -> Self {
        let seen = || std::iter::repeat_with(Seen::default).take(devices).collect();
        Self {
            accepted: seen(),
            arrived: seen(),
            again: HashMap::new(),
            sent: 0,
            accepts: 0,
            arrivals: 0,
            open: 0,
            held_back: 0,
            events: BTreeMap::new(),
            connected: 0,
            wrong: Vec::new(),
        }
    }

    /// A device sends a message for the first time.
    pub(super) fn sent(&mut self) {
        self.sent += 1;
        self.open += 1;
    }

    /// A device sends a message once more.
    pub(super) fn sent_again(&mut self, device: u32, n: u32) {
        self.again.entry((device, n)).or_default().sent += 1;
    }

    /// A device had no room in its window.
    pub(super) fn held_back(&mut self) {
        self.held_back += 1;
    }

    /// A device has its PUBACK; it is in nobody's hands but upstream's now.
    pub(super) fn accepted(&mut self, device: u32, n: u32) {
        self.accepts += 1;
        self.open -= 1;
        let seen = usize::try_from(device).ok().and_then(|d| self.accepted.get_mut(d));
        if !seen.is_some_and(|seen| seen.mark(n)) {
            self.wrong(format!("device {device} had a second PUBACK for message {n}"));
        }
    }

    /// A device was removed, or its message refused: so many messages will never have a PUBACK.
    pub(super) fn given_up(&mut self, messages: u64) {
        self.open -= messages;
    }

    /// The receiver has a message.
    pub(super) fn arrived(&mut self, device: u32, n: u32, redelivered: bool) {
        let Some(seen) = usize::try_from(device).ok().and_then(|d| self.arrived.get_mut(d)) else {
            return self.wrong(format!("a message of device {device}, which is none of ours"));
        };
        if seen.mark(n) {
            self.arrivals += 1;
            return;
        }
        let again = self.again.entry((device, n)).or_default();
        again.arrived += 1;
        again.redelivered += u32::from(redelivered);
    }

    pub(super) fn event(&mut self, name: &str) {
        if let Some(count) = self.events.get_mut(name) {
            *count += 1;
        } else {
            self.events.insert(name.to_owned(), 1);
        }
    }

    pub(super) fn connected(&mut self, now: bool) {
        if now {
            self.connected += 1;
        } else {
            self.connected -= 1;
        }
    }

    /// Something that must not be.
    pub(super) fn wrong(&mut self, what: String) {
        self.event("wrong");
        if self.wrong.len() < NAMED_MAX {
            self.wrong.push(what);
        }
    }

    /// Changes as long as anything happens to messages.
    pub(super) fn moved(&self) -> (u64, u64) {
        (self.accepts, self.arrivals)
    }

    /// Every message has its PUBACK, and all that have are here.
    pub(super) fn is_settled(&self) -> bool {
        self.open == 0 && self.lost() == 0
    }

    fn lost(&self) -> u64 {
        self.accepted.iter().zip(&self.arrived).map(|(a, b)| a.without(b)).sum()
    }

    pub(super) fn progress(&self) -> Value {
        json!({
            "sent": self.sent, "accepted": self.accepts, "arrived": self.arrivals, "open": self.open,
            "connected": self.connected, "held_back": self.held_back, "events": self.events,
            "arrived_again": self.again.values().map(|a| u64::from(a.arrived)).sum::<u64>(),
        })
    }

    pub(super) fn result(&self) -> Value {
        let sum = |of: fn(&Again) -> u32| self.again.values().map(|a| u64::from(of(a))).sum::<u64>();
        let unexplained = |a: &Again| a.arrived.saturating_sub(a.sent + a.redelivered);
        let mut doubled: Vec<_> = self
            .again
            .iter()
            .filter(|(_, a)| unexplained(a) > 0)
            .map(|(k, _)| *k)
            .collect();
        doubled.sort_unstable();
        doubled.truncate(NAMED_MAX);
        let mut lost: Vec<(usize, u32)> = Vec::new();
        for (device, (accepted, arrived)) in self.accepted.iter().zip(&self.arrived).enumerate() {
            let room = NAMED_MAX - lost.len();
            lost.extend(accepted.missing(arrived).take(room).map(|n| (device, n)));
        }
        let mut result = self.progress();
        result["lost"] = self.lost().into();
        result["lost_messages"] = json!(lost);
        result["sent_again"] = sum(|a| a.sent).into();
        result["redelivered_by_upstream"] = sum(|a| a.redelivered).into();
        result["arrived_again_unexplained"] = self
            .again
            .values()
            .map(|a| u64::from(unexplained(a)))
            .sum::<u64>()
            .into();
        result["unexplained_messages"] = json!(doubled);
        result["wrong"] = json!(self.wrong);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_is_what_was_accepted_and_is_not_here() {
        let mut b = Books::new(3);
        for n in 0..3 {
            b.sent();
            b.accepted(2, n);
        }
        b.sent();
        assert!(!b.is_settled());
        b.arrived(2, 0, false);
        b.arrived(2, 2, true);
        b.arrived(1, 7, false);
        let r = b.result();
        assert_eq!((&r["lost"], &r["lost_messages"]), (&json!(1), &json!([[2, 1]])));
        assert_eq!((&r["open"], &r["arrived"]), (&json!(1), &json!(3)));
        b.arrived(2, 1, false);
        assert!(!b.is_settled(), "one has no PUBACK yet");
        b.given_up(1);
        assert!(b.is_settled());
        assert_eq!(b.result()["arrived_again"], 0);
    }

    #[test]
    fn what_comes_twice_needs_a_reason() {
        let mut b = Books::new(1);
        // Sent twice, arrived twice; redelivered; and doubled by nobody we know.
        b.sent_again(0, 1);
        for (n, redelivered) in [(1, false), (1, false), (2, false), (2, true), (3, false), (3, false)] {
            b.arrived(0, n, redelivered);
        }
        let r = b.result();
        assert_eq!(r["arrived_again"], 3);
        assert_eq!(
            (&r["sent_again"], &r["redelivered_by_upstream"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(r["arrived_again_unexplained"], 1);
        assert_eq!(r["unexplained_messages"], json!([[0, 3]]));
    }

    #[test]
    fn strangers_and_second_acknowledgements_are_wrong() {
        let mut b = Books::new(1);
        b.arrived(1, 0, false);
        b.sent();
        b.sent();
        b.accepted(0, 0);
        b.accepted(0, 0);
        assert_eq!(b.result()["wrong"].as_array().unwrap().len(), 2);
    }
}
