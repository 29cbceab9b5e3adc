//! Guessing is slowed: an address from which unknown devices keep coming is not heard for a while, each time for longer.
//!
//! - What counts is an attempt to be somebody: an unknown device, a SIM in another modem than the one it is locked to, a certificate that
//!   leads to no authority of ours. A packet that is no MQTT proves nothing and is bounded elsewhere ([`super::listener`]).
//! - After `listen.guesses` of them within [`WINDOW`], the address is **quiet**: its connections are closed before a byte is read, for
//!   [`QUIET_FIRST`]. One more refusal after that and it is quiet for twice as long, up to [`QUIET_MAX`]. After [`FORGET`] without one
//!   it is a new address.
//! - IPv6 counts by /64, which is what one customer has (RFC 6177 section 2): otherwise each guess could come from an address of its own.
//! - **Good devices behind the same address** (a NAT, a carrier's gateway) are not locked out by a bad neighbour: an address where a known
//!   device is connected, or was let in within [`GOOD_FOR`], is heard once each [`GOOD_EVERY`] even while it is quiet. Guessing stays
//!   slow (one a second), and a good device gets in as soon as its attempt is the one that is heard. A device known by its address alone
//!   never comes here for being unknown.
//! - A device that was refused and is then entered in the book waits for at most [`QUIET_MAX`]; a reload forgets all that was counted.
//! - At most [`ADDRESSES_MAX`] addresses are remembered; when there are more, the one refused longest ago is forgotten first, so a flood
//!   of addresses can make us forget and never makes us grow.
//!
//! Pure: time comes in as an argument, monotonic.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Refusals are counted over this long.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How long an address is not heard for the first time.
pub const QUIET_FIRST: Duration = Duration::from_secs(10);
/// The longest that an address is not heard.
pub const QUIET_MAX: Duration = Duration::from_secs(5 * 60);
/// Without a refusal for this long, an address starts anew. Longer than any quiet.
pub const FORGET: Duration = Duration::from_secs(60 * 60);
/// An address where a known device was let in counts as good for this long.
pub const GOOD_FOR: Duration = Duration::from_secs(60 * 60);
/// A good address is heard this often while it is quiet.
pub const GOOD_EVERY: Duration = Duration::from_secs(1);
/// Most addresses that are remembered.
pub const ADDRESSES_MAX: usize = 65_536;
/// How often a log line tells of one address.
pub const LOG_EVERY: Duration = Duration::from_secs(60);

/// Whom a refusal is counted against: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(IpAddr);

impl Origin {
    /// The origin of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(u128::from(a) & (u128::MAX << 64))),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(a) => write!(f, "{a}"),
            IpAddr::V6(a) => write!(f, "{a}/64"),
        }
    }
}

/// What becomes of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is heard.
    Heard,
    /// It is closed. `log`: say so, with how many more there were since it was last said.
    Quiet {
        /// How much longer the address is not heard.
        left: Duration,
        /// How many were closed since the last line; `None` when it is too early for another line.
        log: Option<u64>,
    },
}

#[derive(Debug, Clone)]
struct Entry {
    /// Refusals since `since`.
    refusals: u32,
    since: Duration,
    /// Of the last refusal.
    last: Duration,
    /// Place in the order of refusals.
    turn: u64,
    /// How often it was made quiet.
    offences: u32,
    until: Duration,
    good_until: Duration,
    heard: Option<Duration>,
    logged: Option<Duration>,
    closed: u64,
}

/// Every address that was refused lately.
#[derive(Debug)]
pub struct Guesses {
    limit: u32,
    most: usize,
    entries: HashMap<Origin, Entry>,
    /// Longest ago first.
    order: BTreeMap<u64, Origin>,
    turn: u64,
}

impl Guesses {
    /// Quiet comes after `limit` refusals (`listen.guesses`).
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            most: ADDRESSES_MAX,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            turn: 0,
        }
    }

    /// Another limit from now on (a reload).
    pub fn limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Everybody starts anew (the book was read again: who was unknown may be known now).
    pub fn forget(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    /// How many addresses are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a new connection is heard. `good`: a known device is connected from there now.
    pub fn hear(&mut self, origin: Origin, good: bool, now: Duration) -> Verdict {
        let Some(entry) = self.entries.get_mut(&origin) else {
            return Verdict::Heard;
        };
        if now >= entry.until {
            return Verdict::Heard;
        }
        let due = entry.heard.is_none_or(|at| now >= at + GOOD_EVERY);
        if due && (good || now < entry.good_until) {
            entry.heard = Some(now);
            return Verdict::Heard;
        }
        let log = if entry.logged.is_none_or(|at| now >= at + LOG_EVERY) {
            entry.logged = Some(now);
            Some(std::mem::take(&mut entry.closed))
        } else {
            entry.closed += 1;
            None
        };
        Verdict::Quiet {
            left: entry.until - now,
            log,
        }
    }

    /// A device was refused. How long the address is not heard from now on, if this one was too much.
    pub fn refused(&mut self, origin: Origin, now: Duration) -> Option<Duration> {
        self.turn += 1;
        let turn = self.turn;
        if let Some(old) = self.entries.get(&origin) {
            self.order.remove(&old.turn);
            if now >= old.last + FORGET {
                self.entries.remove(&origin);
            }
        } else if self.entries.len() >= self.most {
            if let Some((_, oldest)) = self.order.pop_first() {
                self.entries.remove(&oldest);
            }
        }
        self.order.insert(turn, origin);
        let entry = self.entries.entry(origin).or_insert(Entry {
            refusals: 0,
            since: now,
            last: now,
            turn,
            offences: 0,
            until: Duration::ZERO,
            good_until: Duration::ZERO,
            heard: None,
            logged: None,
            closed: 0,
        });
        (entry.turn, entry.last) = (turn, now);
        if now >= entry.since + WINDOW {
            (entry.since, entry.refusals) = (now, 0);
        }
        entry.refusals = entry.refusals.saturating_add(1);
        // Whoever was quiet before gets no second run-up; a refusal during a quiet (of a good address) does not lengthen it.
        let too_many = if entry.offences == 0 {
            entry.refusals >= self.limit
        } else {
            now >= entry.until
        };
        if !too_many {
            return None;
        }
        let quiet = QUIET_FIRST
            .saturating_mul(2_u32.saturating_pow(entry.offences))
            .min(QUIET_MAX);
        entry.offences = entry.offences.saturating_add(1);
        (entry.until, entry.refusals) = (now + quiet, 0);
        Some(quiet)
    }

    /// A known device was let in from there.
    pub fn welcomed(&mut self, origin: Origin, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&origin) {
            entry.good_until = now + GOOD_FOR;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn origin(address: &str) -> Origin {
        Origin::of(address.parse().unwrap())
    }

    fn quiet(verdict: Verdict) -> bool {
        verdict != Verdict::Heard
    }

    #[test]
    fn too_many_refusals_in_a_window_and_each_quiet_is_longer() {
        let mut g = Guesses::new(3);
        let a = origin("192.0.2.1");
        assert_eq!((g.refused(a, at(0)), g.refused(a, at(10))), (None, None));
        // The window is over: counted anew.
        assert_eq!((g.refused(a, at(60)), g.refused(a, at(61))), (None, None));
        assert!(!quiet(g.hear(a, false, at(61))));
        assert_eq!(g.refused(a, at(62)), Some(QUIET_FIRST));
        assert!(quiet(g.hear(a, false, at(71))) && !quiet(g.hear(a, false, at(72))));
        assert!(
            !quiet(g.hear(origin("192.0.2.2"), false, at(63))),
            "the neighbour does not notice"
        );
        let (mut now, mut waits) = (at(72), vec![]);
        for _ in 0..8 {
            let wait = g.refused(a, now).unwrap();
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [20, 40, 80, 160, 300, 300, 300, 300]);
        // Long after, it is like new.
        let later = now + FORGET;
        assert_eq!(g.refused(a, later), None);
    }

    #[test]
    fn one_customer_of_ipv6_is_one_origin() {
        let mut g = Guesses::new(2);
        g.refused(origin("2001:db8::1"), at(0));
        assert!(g.refused(origin("2001:db8::ffff:1:2:3"), at(1)).is_some());
        assert!(quiet(g.hear(origin("2001:db8::9"), false, at(2))));
        assert!(!quiet(g.hear(origin("2001:db8:0:1::9"), false, at(2))));
        assert_eq!(origin("2001:db8::9").to_string(), "2001:db8::/64");
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
    }

    #[test]
    fn a_good_neighbour_is_heard_once_a_second() {
        let mut g = Guesses::new(1);
        let a = origin("192.0.2.1");
        g.refused(a, at(0));
        let millis = |n| Duration::from_millis(n);
        let heard: Vec<u64> = (0..30)
            .map(|n| n * 100)
            .filter(|n| !quiet(g.hear(a, true, millis(*n))))
            .collect();
        assert_eq!(heard, [0, 1_000, 2_000]);
        assert!(quiet(g.hear(a, false, at(4))), "without a good device, nobody is");
        g.welcomed(a, at(4));
        assert!(!quiet(g.hear(a, false, at(5))) && quiet(g.hear(a, false, at(5))));
        // Refusals of the bad one do not lengthen the quiet.
        assert_eq!(g.refused(a, at(5)), None);
        assert!(!quiet(g.hear(a, false, at(10))));
    }

    #[test]
    fn one_line_a_minute() {
        let mut g = Guesses::new(1);
        let a = origin("192.0.2.1");
        let mut lines = vec![];
        for second in 0..300 {
            if !quiet(g.hear(a, false, at(second))) {
                g.refused(a, at(second));
            } else if let Verdict::Quiet { log: Some(more), .. } = g.hear(a, false, at(second)) {
                lines.push((second, more));
            }
        }
        assert!(lines.len() <= 5, "{lines:?}");
        let Verdict::Quiet { left, log: None } = g.hear(a, false, at(300)) else {
            panic!("quiet, and no line")
        };
        assert!(left > Duration::ZERO && left <= QUIET_MAX);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_was_refused_longest_ago() {
        let mut g = Guesses::new(1);
        g.most = 3;
        for n in 1..=3 {
            g.refused(origin(&format!("192.0.2.{n}")), at(n));
        }
        g.refused(origin("192.0.2.1"), at(11));
        g.refused(origin("192.0.2.4"), at(12));
        assert_eq!((g.len(), g.order.len()), (3, 3));
        assert!(!quiet(g.hear(origin("192.0.2.2"), false, at(11))), "forgotten");
        assert!(quiet(g.hear(origin("192.0.2.1"), false, at(12))));
    }
}
