//! The decision of [`super`], without I/O: the system clock, NTP's word and the monotonic `now` come in as arguments.

use std::time::Duration;

use super::{Source, TOLERANCE, Witness, is_plausible};

/// How long NTP's word is carried by the monotonic clock before the network's is preferred: a crystal that is 50 ppm off (a bad one)
/// loses two minutes in it.
const CARRY_MAX: Duration = Duration::from_secs(30 * 86_400);

/// The modem says whole seconds, and its answer takes a moment: a word that differs by less from the one before, carried forward, is
/// the same word, or the time would go back and forth with each.
const SAME_WORD: Duration = Duration::from_secs(2);

/// A time that was confirmed once, and is kept over restarts; see [`super::saved`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// Since the Unix epoch.
    pub time: Duration,
    /// Who confirmed it.
    pub by: Witness,
}

/// A time somebody said, and when, by the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    time: Duration,
    at: Duration,
}

impl Heard {
    /// The same time now.
    fn carried(self, now: Duration) -> Duration {
        self.time.saturating_add(now.saturating_sub(self.at))
    }
}

/// What NTP says of the system clock, and when it said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NtpWord {
    pub(super) synchronised: bool,
    /// Monotonic.
    pub(super) at: Duration,
}

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Judge {
    ntp: Option<Heard>,
    network: Option<Heard>,
    saved: Option<Saved>,
    /// After how long without any witness the saved time is taken; `None` for never.
    pub(super) saved_after: Option<Duration>,
    /// The last time of the network's that was not believed.
    pub(super) refused: Option<Duration>,
}

impl Judge {
    /// The network said this just now; the answer is whether that can be.
    pub(super) fn heard_network(&mut self, time: Duration, now: Duration) -> bool {
        // A network that once said a wrong time must be able to correct itself, so its own saved word does not bind it.
        let bound = self.saved.filter(|s| s.by == Witness::Ntp);
        let ok = is_plausible(time) && bound.is_none_or(|s| time.saturating_add(TOLERANCE) >= s.time);
        if ok {
            if self.network(now).is_none_or(|t| t.abs_diff(time) > SAME_WORD) {
                self.network = Some(Heard { time, at: now });
            }
            self.refused = None;
        } else {
            self.refused = Some(time);
        }
        ok
    }

    pub(super) fn save(&mut self, saved: Saved) {
        self.saved = Some(saved);
    }

    pub(super) fn saved(&self) -> Option<Saved> {
        self.saved
    }

    /// The network's time now, if it ever said one.
    pub(super) fn network(&self, now: Duration) -> Option<Duration> {
        self.network.map(|h| h.carried(now))
    }

    /// An unconfirmed system clock below this is wrong.
    pub(super) fn floor(&self) -> Duration {
        let saved = self.saved.map_or(Duration::ZERO, |s| s.time.saturating_sub(TOLERANCE));
        super::FLOOR.max(saved)
    }

    /// The best word that was heard in this run, carried to now.
    fn carried(&self, now: Duration) -> Option<(Duration, Witness)> {
        let ntp = self.ntp.map(|h| (h, Witness::Ntp));
        let network = self.network.map(|h| (h, Witness::Network));
        let (heard, by) = match ntp.filter(|(h, _)| now.saturating_sub(h.at) <= CARRY_MAX) {
            Some(recent) => Some(recent),
            None => network.or(ntp),
        }?;
        let time = heard.carried(now);
        is_plausible(time).then_some((time, by))
    }

    /// The rule. NTP's word is kept for later.
    pub(super) fn decide(&mut self, system: Duration, word: NtpWord, now: Duration) -> Option<(Duration, Source)> {
        if word.synchronised && is_plausible(system) {
            // Who puts the clock off by hand does not take back what NTP said before: its word must be newer than the step.
            let stepped = self
                .ntp
                .is_some_and(|h| h.carried(now).abs_diff(system) > TOLERANCE && word.at <= h.at);
            if !stepped {
                self.ntp = Some(Heard { time: system, at: now });
                return Some((system, Source::Ntp));
            }
        }
        if let Some((time, by)) = self.carried(now) {
            return Some(if time.abs_diff(system) <= TOLERANCE {
                (system, Source::Confirmed(by))
            } else {
                (time, Source::Carried(by))
            });
        }
        if system >= self.floor() && is_plausible(system) {
            return Some((system, Source::System));
        }
        let patient = self.saved_after.is_none_or(|after| now < after);
        let saved = self.saved.filter(|_| !patient)?;
        let time = saved.time.saturating_add(now);
        is_plausible(time).then_some((time, Source::Saved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FLOOR;

    const S: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86_400);
    const T: Duration = Duration::from_secs(FLOOR.as_secs() + 86_400 * 100);
    const NO: NtpWord = NtpWord {
        synchronised: false,
        at: Duration::ZERO,
    };

    fn yes(at: Duration) -> NtpWord {
        NtpWord { synchronised: true, at }
    }

    fn heard(time: Duration) -> Judge {
        let mut j = Judge::default();
        assert!(j.heard_network(time, Duration::ZERO));
        j
    }

    fn saved(time: Duration, by: Witness) -> Judge {
        Judge {
            saved: Some(Saved { time, by }),
            ..Judge::default()
        }
    }

    #[test]
    fn the_rule_in_order() {
        let z = Duration::ZERO;
        assert_eq!(heard(T + DAY).decide(T, yes(z), z), Some((T, Source::Ntp)));
        let network = Source::Carried(Witness::Network);
        assert_eq!(
            heard(T + DAY).decide(T, NO, z),
            Some((T + DAY, network)),
            "a Pi that slept a day"
        );
        assert_eq!(
            heard(T).decide(T + 900 * DAY, NO, z),
            Some((T, network)),
            "from the future"
        );
        assert_eq!(heard(T).decide(z, NO, 5 * S), Some((T + 5 * S, network)), "1970");
        let confirmed = Source::Confirmed(Witness::Network);
        assert_eq!(heard(T + TOLERANCE).decide(T, NO, z), Some((T, confirmed)));
        assert_eq!(Judge::default().decide(T, NO, z), Some((T, Source::System)));
        for nonsense in [z, Duration::from_secs(315_964_800), Duration::from_secs(4_294_967_295)] {
            assert_eq!(Judge::default().decide(nonsense, NO, z), None);
            assert_eq!(
                Judge::default().decide(nonsense, yes(z), z),
                None,
                "synchronised to nonsense"
            );
            assert!(!Judge::default().heard_network(nonsense, z));
        }
    }

    #[test]
    fn the_network_says_whole_seconds() {
        let mut j = heard(T);
        for (word, now, want) in [
            (T + S, 2 * S, T + 2 * S),
            (T + 5 * S, 3 * S, T + 3 * S),
            (T + 7 * S, 4 * S, T + 7 * S),
            (T - DAY, 5 * S, T - DAY),
        ] {
            assert!(j.heard_network(word, now));
            assert_eq!(j.network(now), Some(want));
        }
    }

    #[test]
    fn a_saved_time_raises_the_floor_of_what_is_unconfirmed() {
        let z = Duration::ZERO;
        let mut j = saved(T, Witness::Ntp);
        assert_eq!(j.decide(T - TOLERANCE, NO, z), Some((T - TOLERANCE, Source::System)));
        assert_eq!(j.decide(T - TOLERANCE - S, NO, z), None, "a clock that went back");
        assert!(!j.heard_network(T - DAY, z), "the network is older than NTP's word");
        assert_eq!(j.refused, Some(T - DAY));
        assert!(j.heard_network(T - 300 * S, z), "minutes do not matter");
        assert_eq!(j.refused, None);
        assert_eq!(j.decide(T - DAY, yes(S), S), Some((T - DAY, Source::Ntp)), "NTP wins");
        assert!(
            saved(T, Witness::Network).heard_network(T - DAY, z),
            "the network corrects itself"
        );
    }

    #[test]
    fn the_saved_time_is_the_last_resort() {
        let mut j = saved(T, Witness::Network);
        let after = 600 * S;
        assert_eq!(j.decide(S, NO, 2 * after), None, "never, unless told so");
        j.saved_after = Some(after);
        assert_eq!(j.decide(S, NO, after - S), None);
        assert_eq!(j.decide(S, NO, after), Some((T + after, Source::Saved)));
        assert!(!Source::Saved.is_confirmed());
        assert!(j.heard_network(T + DAY, after));
        assert_eq!(
            j.decide(S, NO, after),
            Some((T + DAY, Source::Carried(Witness::Network)))
        );
        let mut bare = Judge {
            saved_after: Some(S),
            ..Judge::default()
        };
        assert_eq!(bare.decide(S, NO, DAY), None, "nothing was ever saved");
    }

    #[test]
    fn a_step_by_hand_does_not_undo_what_ntp_said() {
        let mut j = Judge::default();
        let carried = Source::Carried(Witness::Ntp);
        assert_eq!(j.decide(T, yes(S), S), Some((T, Source::Ntp)));
        for stepped in [T + 3_650 * DAY, T - 30 * 365 * DAY, Duration::ZERO] {
            assert_eq!(
                j.decide(stepped, yes(S), 11 * S),
                Some((T + 10 * S, carried)),
                "an old word"
            );
            assert_eq!(j.decide(stepped, NO, 11 * S), Some((T + 10 * S, carried)));
        }
        assert_eq!(
            j.decide(T + 12 * S, NO, 12 * S),
            Some((T + 12 * S, Source::Confirmed(Witness::Ntp)))
        );
        // The network does not outvote it before long.
        assert!(j.heard_network(T + DAY, 12 * S));
        assert_eq!(j.decide(Duration::ZERO, NO, 12 * S), Some((T + 11 * S, carried)));
        let later = CARRY_MAX + 2 * S;
        let (time, source) = j.decide(Duration::ZERO, NO, later).unwrap();
        assert_eq!(
            (time, source),
            (T + DAY + (later - 12 * S), Source::Carried(Witness::Network))
        );
        // A word from after the step counts.
        assert_eq!(
            j.decide(T + 3_650 * DAY, yes(later), later),
            Some((T + 3_650 * DAY, Source::Ntp))
        );
    }

    use proptest::prelude::*;

    proptest! {
        /// Whatever is heard and however the system clock is stepped: an answer is plausible, it is the system clock or somebody's
        /// word, and once somebody confirmed a time the agent never goes back to knowing none.
        #[test]
        fn an_answer_is_always_plausible(
            system_days in proptest::collection::vec(0u64..60_000, 1..40),
            network_days in proptest::collection::vec(proptest::option::of(0u64..60_000), 40),
            words in proptest::collection::vec(any::<bool>(), 40),
            saved in proptest::option::of((0u64..30_000, any::<bool>())),
        ) {
            let day = |n: u64| Duration::from_secs(n * 86_400);
            let mut j = Judge {
                saved_after: Some(10 * S),
                saved: saved.map(|(n, ntp)| Saved {
                    time: FLOOR + day(n) / 2,
                    by: if ntp { Witness::Ntp } else { Witness::Network },
                }),
                ..Judge::default()
            };
            let mut confirmed = false;
            for (i, days) in system_days.iter().enumerate() {
                let now = S * u32::try_from(i).unwrap();
                let system = day(*days);
                if let Some(n) = network_days[i] {
                    confirmed |= j.heard_network(day(n), now);
                }
                let word = NtpWord { synchronised: words[i], at: now };
                let answer = j.decide(system, word, now);
                if let Some((time, source)) = answer {
                    prop_assert!(is_plausible(time));
                    let of_system = matches!(source, Source::Ntp | Source::Confirmed(_) | Source::System);
                    prop_assert!(!of_system || time == system);
                    prop_assert!(source != Source::Ntp || words[i]);
                    prop_assert!(source != Source::System || system >= j.floor());
                    prop_assert!(source.is_confirmed() || !confirmed);
                    confirmed |= source.is_confirmed();
                } else {
                    prop_assert!(!confirmed);
                }
            }
        }
    }
}
