//! What a connection may send in a second, and what becomes of the excess. No I/O; the time is an argument.
//!
//! A token bucket for messages and one for bytes, each as large as one second's worth: a burst of that size passes, and after it the
//! rate. Event Grid and AWS IoT Core publish rates and not how they measure them, so the bucket is the bench's choice.

use std::time::Duration;

/// What becomes of what is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// It is thrown away and not acknowledged (AWS IoT Core, messages).
    Discard,
    /// Reading stops until it fits (AWS IoT Core, bytes).
    Delay,
    /// The connection ends (Event Grid).
    Close,
}

/// A rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many in a second; 0 lets nothing through.
    pub per_second: u32,
    /// What becomes of more.
    pub excess: Excess,
}

/// The rates of a connection; `None` has no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// PUBLISH packets.
    pub publishes: Option<Rate>,
    /// Bytes of MQTT.
    pub bytes: Option<Rate>,
}

/// What to do with what just came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is within the rate.
    Take,
    /// It is taken, and nothing more before this time has passed.
    Wait(Duration),
    /// It is thrown away.
    Discard,
    /// The connection ends.
    Close,
}

/// Units in one token: a nanosecond of filling at one token a second.
const UNIT: u128 = 1_000_000_000;

/// Measures one rate.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: Rate,
    /// Tokens there, in units.
    level: u128,
    at: Duration,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(rate: Rate, now: Duration) -> Self {
        Self {
            rate,
            level: u128::from(rate.per_second) * UNIT,
            at: now,
        }
    }

    /// So many want to pass.
    pub fn take(&mut self, tokens: usize, now: Duration) -> Verdict {
        let per_second = u128::from(self.rate.per_second);
        let full = per_second * UNIT;
        let passed = now.saturating_sub(self.at).as_nanos();
        self.at = self.at.max(now);
        // `passed` times the rate cannot overflow: u64 seconds of nanoseconds have 94 bits, the rate 32.
        self.level = full.min(self.level + passed * per_second);
        let wanted = tokens as u128 * UNIT;
        if wanted <= self.level {
            self.level -= wanted;
            return Verdict::Take;
        }
        match self.rate.excess {
            Excess::Discard => Verdict::Discard,
            Excess::Close => Verdict::Close,
            Excess::Delay => {
                let missing = wanted - self.level;
                let nanoseconds = missing.div_ceil(per_second.max(1));
                // The bucket is empty at the end of the wait and fills from there.
                self.level = 0;
                let wait = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
                self.at += wait;
                Verdict::Wait(wait)
            }
        }
    }
}

/// Measures one connection.
#[derive(Debug, Clone)]
pub struct Meter {
    publishes: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Meter {
    /// A full bucket of each.
    #[must_use]
    pub fn new(rates: Rates, now: Duration) -> Self {
        // A connection that may send nothing at all is none.
        let bucket = |rate: Rate| {
            let per_second = rate.per_second.max(1);
            Bucket::new(Rate { per_second, ..rate }, now)
        };
        Self {
            publishes: rates.publishes.map(bucket),
            bytes: rates.bytes.map(bucket),
        }
    }

    /// A PUBLISH came.
    pub fn publish(&mut self, now: Duration) -> Verdict {
        self.publishes.as_mut().map_or(Verdict::Take, |b| b.take(1, now))
    }

    /// Bytes came.
    pub fn bytes(&mut self, count: usize, now: Duration) -> Verdict {
        self.bytes.as_mut().map_or(Verdict::Take, |b| b.take(count, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meter(per_second: u32, excess: Excess) -> Meter {
        let rate = Some(Rate { per_second, excess });
        let rates = Rates {
            publishes: rate,
            bytes: rate,
        };
        Meter::new(rates, Duration::from_secs(7))
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_secs(7) + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_second_s_worth_passes_at_once_and_then_the_rate() {
        for (excess, verdict) in [(Excess::Discard, Verdict::Discard), (Excess::Close, Verdict::Close)] {
            let mut m = meter(100, excess);
            for _ in 0..100 {
                assert_eq!(m.publish(at(0)), Verdict::Take);
            }
            assert_eq!(m.publish(at(0)), verdict);
            assert_eq!(m.publish(at(9)), verdict);
            assert_eq!(m.publish(at(10)), Verdict::Take);
            assert_eq!(m.publish(at(10)), verdict);
            // An hour of silence is worth one second.
            let hour = at(3_600_000);
            assert_eq!((0..200).filter(|_| m.publish(hour) == Verdict::Take).count(), 100);
        }
    }

    #[test]
    fn bytes_beyond_the_rate_wait_exactly_as_long_as_they_need() {
        let mut m = meter(1_000, Excess::Delay);
        assert_eq!(m.bytes(1_000, at(0)), Verdict::Take);
        assert_eq!(m.bytes(500, at(0)), Verdict::Wait(Duration::from_millis(500)));
        assert_eq!(m.bytes(0, at(500)), Verdict::Take);
        assert_eq!(m.bytes(250, at(750)), Verdict::Take);
        assert_eq!(m.bytes(3_000, at(750)), Verdict::Wait(Duration::from_secs(3)));
    }

    #[test]
    fn a_bucket_by_itself() {
        let excess = Excess::Discard;
        let mut b = Bucket::new(Rate { per_second: 10, excess }, Duration::ZERO);
        let mut take = |now| b.take(1, now) == Verdict::Take;
        let t = Duration::from_secs(7);
        assert_eq!((0..20).filter(|_| take(t)).count(), 10);
        assert!(!take(t + Duration::from_millis(99)));
        assert!(take(t + Duration::from_millis(100)));
        assert!(!take(t + Duration::from_millis(100)));
        assert_eq!((0..20).filter(|_| take(t + Duration::from_secs(60))).count(), 10);
        for excess in [Excess::Discard, Excess::Close] {
            let mut nothing = Bucket::new(Rate { per_second: 0, excess }, Duration::ZERO);
            assert_ne!(nothing.take(1, t), Verdict::Take);
        }
    }

    proptest! {
        /// Whatever comes and however time goes, no more than the rate and one burst is let through.
        #[test]
        fn the_rate_holds(per_second in 1u32..200, steps in proptest::collection::vec((0u64..400, 0usize..5), 1..60)) {
            let mut m = meter(per_second, Excess::Discard);
            let (mut now, mut taken) = (0, 0_u64);
            for (passed, burst) in steps {
                now += passed;
                for _ in 0..burst { if m.publish(at(now)) == Verdict::Take { taken += 1; } }
            }
            prop_assert!(taken * 1_000 <= u64::from(per_second) * (now + 1_000));
        }

        /// Delayed bytes come at the rate too.
        #[test]
        fn delays_add_up(chunks in proptest::collection::vec(1usize..5_000, 1..40)) {
            let mut m = meter(1_000, Excess::Delay);
            let start = at(0);
            let mut now = start;
            for &bytes in &chunks {
                if let Verdict::Wait(more) = m.bytes(bytes, now) { now += more; }
            }
            let total: usize = chunks.iter().sum();
            let least = Duration::from_millis(total.saturating_sub(1_000) as u64);
            prop_assert!(now - start >= least && now - start <= least + Duration::from_millis(1));
        }
    }
}
