//! The one retry policy: exponential, jittered, and reset only after a stable while.
//!
//! A connection that comes up and falls at once must not reset the delay, or a broker that drops clients right after CONNACK sees a
//! reconnect storm. So success is not enough: [`Backoff::is_up`] marks the moment, and only when the thing stayed up for
//! `stable_after` does the next failure start from the beginning. Jitter is "equal jitter": half of the delay is fixed, half is
//! random, so that a fleet that lost its network together does not come back together.
//!
//! No clock and no random source inside: the caller gives `now` and a random number.

use std::time::Duration;

/// How to space attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The first delay.
    pub min: Duration,
    /// No delay is longer.
    pub max: Duration,
    /// Up for this long: the next failure starts from `min` again.
    pub stable_after: Duration,
}

/// The state of one retried thing.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: Policy,
    failures: u32,
    up_since: Option<Duration>,
}

impl Backoff {
    /// How attempts are spaced.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Nothing failed yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            failures: 0,
            up_since: None,
        }
    }

    /// It works since `now` (any monotonic origin).
    pub fn is_up(&mut self, now: Duration) {
        self.up_since.get_or_insert(now);
    }

    /// It failed at `now`: how long to wait before the next attempt. `unit` is a random number in `0.0..1.0`.
    pub fn failed(&mut self, now: Duration, unit: f64) -> Duration {
        if let Some(since) = self.up_since.take() {
            if now.saturating_sub(since) >= self.policy.stable_after {
                self.failures = 0;
            }
        }
        let doubled = self
            .policy
            .min
            .saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let full = doubled.min(self.policy.max);
        self.failures = self.failures.saturating_add(1);
        let half = full / 2;
        half + half.mul_f64(unit.clamp(0.0, 1.0))
    }

    /// How often it failed since it was last stable.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        min: Duration::from_secs(1),
        max: Duration::from_secs(60),
        stable_after: Duration::from_secs(30),
    };

    #[test]
    fn delays_double_up_to_the_limit_and_stay_within_the_jitter() {
        let mut b = Backoff::new(POLICY);
        for want in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let low = b.clone().failed(Duration::ZERO, 0.0).as_secs_f64();
            let high = b.failed(Duration::ZERO, 1.0).as_secs_f64();
            assert!(
                (low - want / 2.0).abs() < 1e-9 && (high - want).abs() < 1e-9,
                "{low} {high} {want}"
            );
        }
        for _ in 0..100 {
            assert!(b.failed(Duration::ZERO, 1.0) <= POLICY.max);
        }
    }

    #[test]
    fn only_a_stable_while_resets() {
        let mut b = Backoff::new(POLICY);
        for _ in 0..4 {
            b.failed(Duration::ZERO, 0.0);
        }
        b.is_up(Duration::from_secs(100));
        b.failed(Duration::from_secs(101), 0.0);
        assert_eq!(b.failures(), 5, "one second up is not stable");
        b.is_up(Duration::from_secs(200));
        b.is_up(Duration::from_secs(229));
        assert_eq!(b.failed(Duration::from_secs(230), 1.0), Duration::from_secs(1));
    }
}
