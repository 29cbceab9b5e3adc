//! When a certificate is renewed. No I/O; all times are given.
//!
//! - At a share of its life (80 % unless configured), spread over [`SPREAD`] of that life before it, by the identity: a fleet that was
//!   provisioned on one day does not ask on one day.
//! - A try that fails is repeated after an eighth of the time that is left, at most a day and at least a quarter of an hour (or half a
//!   percent of a shorter life): seldom at first, often near the end. With 73 days left that is daily; in the last two hours it is every
//!   15 minutes.

use std::time::Duration;

use crate::digest::sha256;
use crate::tls::Leaf;

/// Share of the life over which the moment is spread, as its divisor: 5 %.
pub const SPREAD: u32 = 20;
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(86_400);
/// Shortest pause between two tries, for a life that is long enough.
const PAUSE_MIN: Duration = Duration::from_secs(15 * 60);
/// A short life's shortest pause, as the life's divisor.
const PAUSE_SHARE: u32 = 200;
/// A try after a failure comes after this part of the time that is left.
const REMAINDER: u32 = 8;

/// A certificate's life with us, since the Unix epoch. It begins when it was fetched, if that is later than its own beginning: services
/// backdate, and a short certificate would be past its share of life at once, and so would the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Its beginning.
    pub from: Duration,
    /// Its end.
    pub until: Duration,
}

impl Life {
    /// Of a certificate that was fetched at this time.
    #[must_use]
    pub fn new(leaf: &Leaf, fetched: Duration) -> Self {
        Self {
            from: leaf.not_before.max(fetched).min(leaf.not_after),
            until: leaf.not_after,
        }
    }

    fn length(self) -> Duration {
        self.until.saturating_sub(self.from)
    }
}

/// The moment, since the Unix epoch, from which a new certificate is asked for. `identity` spreads the fleet: the same always gives the
/// same moment, so a restart changes nothing.
#[must_use]
pub fn due(life: Life, percent: u8, identity: &str) -> Duration {
    let hash = sha256(&[identity.as_bytes(), &life.until.as_secs().to_be_bytes()]);
    let draw = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    let latest = life.length().mul_f64(f64::from(percent.min(100)) / 100.0);
    let early = (life.length() / SPREAD).mul_f64(f64::from(draw) / f64::from(u32::MAX));
    life.from.saturating_add(latest.saturating_sub(early))
}

/// How long to wait after a try that failed at `now`. `after` is what the service asked for.
#[must_use]
pub fn pause(life: Life, now: Duration, after: Option<Duration>) -> Duration {
    let least = (life.length() / PAUSE_SHARE).clamp(Duration::from_secs(1), PAUSE_MIN);
    let left = life.until.saturating_sub(now);
    (left / REMAINDER)
        .clamp(least, PAUSE_MAX)
        .max(after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn life(length: Duration) -> Life {
        Life {
            from: NOW,
            until: NOW + length,
        }
    }

    #[test]
    fn a_backdated_certificate_lives_from_when_it_was_fetched() {
        let leaf = Leaf {
            not_before: NOW - DAY,
            not_after: NOW + DAY / 24,
            ..Leaf::default()
        };
        let life = Life::new(&leaf, NOW);
        assert_eq!((life.from, life.until), (NOW, NOW + DAY / 24));
        assert!(due(life, 80, "x") > NOW + DAY / 24 / 10 * 7);
        // The clock was wrong when it was fetched.
        assert_eq!(Life::new(&leaf, Duration::ZERO).from, leaf.not_before);
        assert_eq!(due(Life::new(&leaf, NOW + 900 * DAY), 80, "x"), leaf.not_after);
    }

    #[test]
    fn at_the_share_or_a_little_before_and_always_at_the_same_moment() {
        let year = life(365 * DAY);
        let moments: Vec<_> = (0..1_000).map(|n| due(year, 80, &format!("2950{n}"))).collect();
        let (from, to) = (NOW + 365 * DAY * 75 / 100, NOW + 365 * DAY * 80 / 100);
        assert!(moments.iter().all(|m| (from..=to).contains(m)));
        // A day of the spread gets about a thousandth of it: no day may get a tenth of the fleet.
        for day in 0..19 {
            let of_day = |m: &&Duration| (from + DAY * day..from + DAY * (day + 1)).contains(*m);
            assert!(moments.iter().filter(of_day).count() < 100);
        }
        assert_eq!(due(year, 80, "295012"), due(year, 80, "295012"));
        assert!(due(year, 50, "x") < due(year, 80, "x"));
    }

    #[test]
    fn absurd_certificates_do_no_harm() {
        let upside_down = Life {
            from: NOW,
            until: NOW - DAY,
        };
        assert_eq!(due(upside_down, 80, "x"), NOW);
        assert_eq!(pause(upside_down, NOW, None), Duration::from_secs(1));
        let for_ever = Life {
            from: Duration::ZERO,
            until: Duration::from_secs(u64::MAX / 2),
        };
        assert!(due(for_ever, 95, "x") > NOW);
        assert_eq!(pause(for_ever, NOW, None), PAUSE_MAX);
    }

    #[test]
    fn seldom_at_first_and_often_near_the_end() {
        let year = life(365 * DAY);
        let minute = Duration::from_secs(60);
        assert_eq!(pause(year, NOW + 292 * DAY, None), DAY);
        assert_eq!(pause(year, NOW + 363 * DAY, None), DAY / 4);
        assert_eq!(pause(year, NOW + 365 * DAY - minute, None), 15 * minute);
        assert_eq!(pause(year, NOW + 400 * DAY, None), 15 * minute, "also when it is over");
        assert_eq!(pause(life(100 * minute), NOW + 99 * minute, None), minute / 2);
        assert_eq!(
            pause(year, NOW + 364 * DAY, Some(2 * DAY)),
            2 * DAY,
            "the service's word counts"
        );
        // From 80 % of a year to its end: how often the service is asked if it never answers.
        let (mut now, mut tries) = (NOW + 292 * DAY, 0);
        while now < NOW + 365 * DAY {
            now += pause(year, now, None);
            tries += 1;
        }
        assert!((70..130).contains(&tries), "{tries}");
    }
}
