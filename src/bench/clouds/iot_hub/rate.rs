//! A throttle of the hub: so many operations a second, with one second's worth at once. No I/O; `now` is monotonic.

use std::time::Duration;

/// A bucket that fills at a constant rate.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u32,
    /// Filled as of `at`, in thousandths of an operation.
    level: u64,
    at: Duration,
}

impl Rate {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            level: u64::from(per_second) * 1_000,
            at: Duration::ZERO,
        }
    }

    /// Whether one more operation is allowed now.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let passed = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        if passed > 0 {
            let full = u64::from(self.per_second) * 1_000;
            self.level = passed
                .saturating_mul(u64::from(self.per_second))
                .saturating_add(self.level)
                .min(full);
            self.at = now;
        }
        let allowed = self.level >= 1_000;
        if allowed {
            self.level -= 1_000;
        }
        allowed
    }

    /// Another rate from now on.
    pub(super) fn set(&mut self, per_second: u32) {
        *self = Self::new(per_second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_at_once_and_then_the_rate() {
        let mut r = Rate::new(10);
        let t = Duration::from_secs(7);
        assert_eq!((0..20).filter(|_| r.take(t)).count(), 10);
        assert!(!r.take(t + Duration::from_millis(99)));
        assert!(r.take(t + Duration::from_millis(100)));
        assert!(!r.take(t + Duration::from_millis(100)));
        assert_eq!((0..20).filter(|_| r.take(t + Duration::from_secs(60))).count(), 10);
    }
}
