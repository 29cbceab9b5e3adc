//! How much a subscriber may send: token buckets for messages and for bytes. No I/O; time is an argument.
//!
//! What is over the rate waits in the device's own TCP window: nothing is dropped and, beyond one read, nothing is stored. Messages are
//! counted before they are taken, bytes after, because a packet's bytes come as they come and a PUBLISH that has begun is not held: a bucket of
//! bytes may so be in debt by one read or one packet, and the next packet waits until that is paid. All connections of a subscriber share one [`Bucket`], and it outlives them, so that connecting
//! anew does not fill it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::gateway::group::Rate;
use crate::identity::Imsi;

/// Tokens are counted in millionths: a rate a second times elapsed microseconds.
const MICRO: i128 = 1_000_000;
/// Longest pause that is asked for at once; a longer debt is asked for again.
pub const HOLD_MAX: Duration = Duration::from_secs(10);
/// Shortest pause, so that nobody spins.
const HOLD_MIN: Duration = Duration::from_millis(1);

/// One kind of token.
#[derive(Debug, Clone, Copy)]
struct Tokens {
    /// A second; 0 is no limit.
    rate: i128,
    /// Most that it holds, in millionths.
    most: i128,
    /// What it holds, in millionths; below 0 is debt.
    held: i128,
}

impl Tokens {
    fn full(rate: u32, burst: u32) -> Self {
        let rate = i128::from(rate);
        // At least one token, or nothing would ever pass.
        let most = (rate * i128::from(burst.max(1))).max(1) * MICRO;
        Self { rate, most, held: most }
    }

    fn fill(&mut self, elapsed: Duration) {
        let micros = i128::try_from(elapsed.as_micros()).unwrap_or(i128::MAX / (MICRO * MICRO));
        self.held = self
            .held
            .saturating_add(self.rate.saturating_mul(micros))
            .min(self.most);
    }

    /// How long until there are `want` millionths.
    fn wait(&self, want: i128) -> Option<Duration> {
        let missing = want - self.held;
        if self.rate == 0 || missing <= 0 {
            return None;
        }
        let micros = u64::try_from(missing.div_euclid(self.rate) + 1).unwrap_or(u64::MAX);
        Some(Duration::from_micros(micros).clamp(HOLD_MIN, HOLD_MAX))
    }

    fn take(&mut self, tokens: u64) {
        if self.rate > 0 {
            self.held = self.held.saturating_sub(i128::from(tokens) * MICRO);
        }
    }
}

#[derive(Debug)]
struct State {
    messages: Tokens,
    bytes: Tokens,
    /// When it was filled last, in monotonic time.
    at: Duration,
}

/// The tokens of one subscriber.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    state: Mutex<State>,
}

impl Bucket {
    /// A full bucket; `now` is monotonic time.
    #[must_use]
    pub fn new(rate: Rate, now: Duration) -> Self {
        Self {
            rate,
            state: Mutex::new(State {
                messages: Tokens::full(rate.messages, rate.burst),
                bytes: Tokens::full(rate.bytes, rate.burst),
                at: now,
            }),
        }
    }

    fn with<T>(&self, now: Duration, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_sub(state.at);
        state.messages.fill(elapsed);
        state.bytes.fill(elapsed);
        state.at = state.at.max(now);
        look(&mut state)
    }

    /// How many messages may come now, at least one.
    ///
    /// # Errors
    /// How long to wait until one may.
    pub fn ask(&self, now: Duration) -> Result<u64, Duration> {
        self.with(now, |s| match s.messages.wait(MICRO).max(s.bytes.wait(1)) {
            Some(wait) => Err(wait),
            None if s.messages.rate == 0 => Ok(u64::MAX),
            None => Ok(u64::try_from(s.messages.held / MICRO).unwrap_or(u64::MAX)),
        })
    }

    /// Takes what has come; how long to wait before more may.
    pub fn charge(&self, now: Duration, messages: u64, bytes: u64) -> Option<Duration> {
        self.with(now, |s| {
            s.messages.take(messages);
            s.bytes.take(bytes);
            s.messages.wait(MICRO).max(s.bytes.wait(1))
        })
    }

    fn is_full(&self, now: Duration) -> bool {
        self.with(now, |s| {
            s.messages.held == s.messages.most && s.bytes.held == s.bytes.most
        })
    }
}

/// Most subscribers whose buckets are remembered.
pub const BUCKETS_MAX: usize = 65_536;

/// The buckets of those who send, or have sent and not yet waited until theirs is full again.
#[derive(Debug, Default)]
pub struct Buckets {
    known: Mutex<HashMap<Imsi, Arc<Bucket>>>,
}

impl Buckets {
    /// The bucket of a subscriber; `None` when its group sets no limit. A rate that was changed begins with a full bucket.
    #[must_use]
    pub fn of(&self, imsi: &Imsi, rate: Rate, now: Duration) -> Option<Arc<Bucket>> {
        if rate.messages == 0 && rate.bytes == 0 {
            return None;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = known.get(imsi).filter(|b| b.rate == rate) {
            return Some(bucket.clone());
        }
        if known.len() >= BUCKETS_MAX {
            known.retain(|_, b| Arc::strong_count(b) > 1 || !b.is_full(now));
        }
        if known.len() >= BUCKETS_MAX {
            known.retain(|_, b| Arc::strong_count(b) > 1);
        }
        let bucket = Arc::new(Bucket::new(rate, now));
        // With as many subscribers sending at once as there are places, the next has a bucket for each connection.
        if known.len() < BUCKETS_MAX || known.contains_key(imsi) {
            known.insert(imsi.clone(), bucket.clone());
        }
        Some(bucket)
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn rate(messages: u32, bytes: u32, burst: u32) -> Rate {
        Rate { messages, bytes, burst }
    }

    #[test]
    fn a_burst_then_the_rate() {
        let b = Bucket::new(rate(10, 0, 2), ms(0));
        assert_eq!(b.ask(ms(0)), Ok(20));
        let wait = b.charge(ms(0), 20, 9_999).unwrap();
        assert!((ms(100)..ms(102)).contains(&wait), "{wait:?}");
        assert!(b.ask(ms(50)).is_err());
        assert_eq!(b.ask(ms(101)), Ok(1));
        assert_eq!(b.ask(ms(60_000)), Ok(20), "it holds a burst and no more");
    }

    #[test]
    fn bytes_may_be_owed_and_are_paid() {
        let b = Bucket::new(rate(0, 1_000, 1), ms(0));
        assert_eq!(b.ask(ms(0)), Ok(u64::MAX));
        let wait = b.charge(ms(0), 1, 4_000).unwrap();
        assert!((ms(3_000)..ms(3_002)).contains(&wait), "{wait:?}");
        assert!(b.ask(ms(2_900)).is_err());
        assert!(b.ask(ms(3_002)).is_ok());
        assert_eq!(b.charge(ms(3_002), 1, 1_000_000), Some(HOLD_MAX));
    }

    #[test]
    fn connections_share_one_bucket_and_there_are_not_for_ever_more() {
        let all = Buckets::default();
        let imsi = |n: u64| format!("{n:015}").parse::<Imsi>().unwrap();
        assert!(all.of(&imsi(1), rate(0, 0, 1), ms(0)).is_none());
        let r = rate(5, 0, 1);
        let a = all.of(&imsi(1), r, ms(0)).unwrap();
        a.charge(ms(0), 5, 0);
        drop(a);
        let again = all.of(&imsi(1), r, ms(0)).unwrap();
        assert!(again.ask(ms(0)).is_err(), "to connect anew fills no bucket");
        assert_eq!(all.of(&imsi(1), rate(6, 0, 1), ms(0)).unwrap().ask(ms(0)), Ok(6));
        for n in 0..BUCKETS_MAX as u64 + 10 {
            let _ = all.of(&imsi(n), r, ms(0));
        }
        assert!(all.len() <= BUCKETS_MAX);
    }

    proptest! {
        /// Whatever the pace of asking, no more passes than burst and rate allow, and it is never starved.
        #[test]
        fn the_rate_holds(messages in 1_u32..1_000, burst in 1_u32..4, pauses in proptest::collection::vec(0_u64..3_000, 1..60)) {
            let b = Bucket::new(rate(messages, 0, burst), ms(0));
            let (mut now, mut passed) = (Duration::ZERO, 0_u64);
            for pause in pauses {
                now += ms(pause);
                match b.ask(now) {
                    Ok(n) => { passed += n; b.charge(now, n, 0); }
                    Err(wait) => { now += wait; prop_assert!(b.ask(now).is_ok()); }
                }
                let most = u128::from(messages) * (u128::from(burst) * 1_000 + now.as_millis()) / 1_000 + 1;
                prop_assert!(u128::from(passed) <= most, "{passed} of {most}");
            }
        }
    }
}
