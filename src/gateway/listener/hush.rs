//! Log lines about strangers, few of them: anybody can be refused as often as he likes, and a log that he can fill is a weapon.
//!
//! One line for each address and reason in [`EVERY`], which says how many more there were since the last; at most [`REMEMBERED`] pairs are
//! remembered, and while there are more than that, the lines of all others share one such bound. Counters count every refusal.
//!
//! Pure: time comes in as an argument, monotonic.

use std::collections::HashMap;
use std::time::Duration;

use crate::gateway::guess::Origin;

/// How often a line tells of one address and reason.
pub(super) const EVERY: Duration = Duration::from_secs(60);
/// Most pairs of address and reason that are remembered.
pub(super) const REMEMBERED: usize = 4_096;
/// How often old pairs are looked for, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

type About = Option<(Origin, &'static str)>;

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Hush {
    /// When a line was written, and how many were not since.
    said: HashMap<About, (Duration, u64)>,
    /// When old ones were last thrown out.
    swept: Duration,
}

impl Hush {
    /// Whether to write a line now, and how many were not written since the last one.
    pub(super) fn say(&mut self, origin: Origin, reason: &'static str, now: Duration) -> Option<u64> {
        let mut about = Some((origin, reason));
        if !self.said.contains_key(&about) && self.said.len() >= REMEMBERED {
            // Not at each refusal of a flood: looking through all of them costs more than the line.
            if now >= self.swept + SWEEP_EVERY {
                self.swept = now;
                self.said.retain(|_, (at, _)| now < *at + EVERY);
            }
            if self.said.len() >= REMEMBERED {
                about = None;
            }
        }
        match self.said.get_mut(&about) {
            Some((at, more)) if now < *at + EVERY => {
                *more += 1;
                None
            }
            Some(entry) => Some(std::mem::replace(entry, (now, 0)).1),
            None => {
                self.said.insert(about, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_for_each_address_and_reason() {
        let mut hush = Hush::default();
        let at = Duration::from_secs;
        let a = Origin::of([192, 0, 2, 1].into());
        let b = Origin::of([192, 0, 2, 2].into());
        assert_eq!(hush.say(a, "unknown", at(0)), Some(0));
        assert_eq!(
            (hush.say(a, "unknown", at(1)), hush.say(a, "unknown", at(59))),
            (None, None)
        );
        assert_eq!(
            (hush.say(a, "silent", at(1)), hush.say(b, "unknown", at(1))),
            (Some(0), Some(0))
        );
        assert_eq!(hush.say(a, "unknown", at(60)), Some(2));
    }

    #[test]
    fn a_flood_of_addresses_does_not_grow_it() {
        let mut hush = Hush::default();
        let lines = (0..100_000_u32)
            .filter_map(|n| hush.say(Origin::of(n.to_be_bytes().into()), "x", Duration::from_secs(1)))
            .count();
        assert_eq!((lines, hush.said.len()), (REMEMBERED + 1, REMEMBERED + 1));
        let later = Duration::from_secs(100);
        assert_eq!(hush.say(Origin::of([9, 9, 9, 9].into()), "x", later), Some(0));
        assert!(hush.said.len() < 3);
    }
}
