//! Our own PINGREQs among the device's. Answers come in the order of questions, so one bit for each unanswered question says whose
//! answer the next PINGRESP is: exactly our own are swallowed.

use std::time::Duration;

/// Most PINGREQs without an answer: the bits of a word.
pub(super) const UNANSWERED_MAX: u32 = u64::BITS;

/// Keeps upstream awake for a device that need not be, or may not speak (a bucket is empty).
#[derive(Debug, Clone, Copy)]
pub(super) struct Pings {
    /// Upstream hears something at least so often.
    every: Duration,
    /// When it heard something last.
    sent: Duration,
    /// Unanswered questions, the oldest in the lowest bit; 1 is ours.
    ours: u64,
    count: u32,
}

impl Pings {
    /// For a keep-alive of so many seconds upstream: a ping goes after three quarters of it, so that one can be late.
    pub(super) fn new(keep_alive: u16, now: Duration) -> Self {
        Self {
            every: Duration::from_millis(u64::from(keep_alive) * 750),
            sent: now,
            ours: 0,
            count: 0,
        }
    }

    /// Something went up.
    pub(super) fn sent(&mut self, now: Duration) {
        self.sent = now;
    }

    pub(super) fn deadline(&self) -> Duration {
        self.sent + self.every
    }

    /// Whether a PINGREQ of ours is due; it is counted as sent.
    pub(super) fn due(&mut self, now: Duration) -> bool {
        let due = now >= self.deadline();
        if due {
            self.sent = now;
        }
        due && self.ask(true)
    }

    /// A PINGREQ goes up; false when too many are unanswered.
    pub(super) fn ask(&mut self, ours: bool) -> bool {
        let room = self.count < UNANSWERED_MAX;
        if room {
            self.ours |= u64::from(ours) << self.count;
            self.count += 1;
        }
        room
    }

    /// Whether every PINGREQ has been answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.count == 0
    }

    /// A PINGRESP came down; whether it is the answer to one of ours.
    pub(super) fn answered(&mut self) -> bool {
        let ours = self.count > 0 && self.ours & 1 == 1;
        self.ours >>= 1;
        self.count = self.count.saturating_sub(1);
        ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_questions() {
        let mut p = Pings::new(100, Duration::ZERO);
        for ours in [true, false, false, true] {
            assert!(p.ask(ours));
        }
        assert!(p.answered() && !p.answered());
        assert!(p.ask(true));
        assert!(!p.answered() && p.answered() && p.answered());
        assert!(!p.answered(), "one that nobody asked for is not ours");
        for n in 0..UNANSWERED_MAX {
            assert!(p.ask(n % 2 == 0));
        }
        assert!(!p.ask(false));
        assert!(p.answered() && p.ask(true));
    }

    #[test]
    fn it_speaks_only_in_silence() {
        let s = Duration::from_secs;
        let mut p = Pings::new(100, s(0));
        assert!(!p.due(s(74)));
        p.sent(s(70));
        assert!(!p.due(s(75)) && p.due(s(145)) && !p.due(s(146)));
        assert_eq!(p.deadline(), s(220));
    }
}
