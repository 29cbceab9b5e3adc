//! What time it is, and how sure we are. A Pi has no battery clock: it wakes with the time of its last shutdown, or 1970, and no TLS
//! handshake makes sense before that is cured.
//!
//! A [`Clock`] has up to three witnesses: the system clock, whether NTP has set it, and the network's time read from the modem
//! (NITZ, by `AT+QLTS` or `AT+CCLK`). The rule, in order:
//!
//! 1. The system clock, if NTP has synchronised it.
//! 2. The network's time carried forward by the monotonic clock, when the system clock differs from it by over [`TOLERANCE`].
//! 3. The system clock, when it lies at or after [`FLOOR`].
//! 4. Otherwise nobody knows, and [`Clock::now`] is `None`.
//!
//! Deadlines and waits never use this clock: they are monotonic, so a jump of years fires none of them. This room and the places it
//! names are the only ones that may call `SystemTime::now` and `Instant::now` (a lint sees to it).

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls_pki_types::UnixTime;

/// No plausible time is earlier: 2026-11-01T00:00:00Z, before this version was released. The modem's 1980-01-06 (GPS epoch, before
/// any network time) and a Pi's 1970 both fall below.
pub const FLOOR: Duration = Duration::from_secs(1_793_491_200);

/// No plausible time is later: 50 years after [`FLOOR`]; a corrupted clock says 2099 or 2106.
const CEILING: Duration = Duration::from_secs(FLOOR.as_secs() + 50 * 365 * 86_400);

/// The system clock may differ from the network's time by this much before the network is believed instead: NITZ has been seen
/// minutes off, certificates do not mind an hour.
pub const TOLERANCE: Duration = Duration::from_secs(3_600);

/// systemd-timesyncd creates this file once NTP has set the clock (systemd-timesyncd.service(8)).
const TIMESYNC_FLAG: &str = "/run/systemd/timesync/synchronized";

/// Who vouches for the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The system clock, set by NTP.
    Ntp,
    /// The mobile network, through the modem.
    Network,
    /// The system clock, plausible but unconfirmed.
    System,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ntp => "system clock, synchronised by NTP",
            Self::Network => "network time from the modem",
            Self::System => "system clock, unconfirmed",
        })
    }
}

/// What the machine says, gathered in one place so that the decision is a pure function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witnesses {
    /// The system clock, since the Unix epoch.
    pub system: Duration,
    /// Whether NTP has set it.
    pub synchronised: bool,
    /// The network's time, carried forward to now.
    pub network: Option<Duration>,
}

/// Whether a time since the Unix epoch can be true.
#[must_use]
pub fn is_plausible(time: Duration) -> bool {
    (FLOOR..CEILING).contains(&time)
}

/// The rule of this module.
#[must_use]
pub fn decide(w: Witnesses) -> Option<(Duration, Source)> {
    let system_ok = is_plausible(w.system);
    if system_ok && w.synchronised {
        return Some((w.system, Source::Ntp));
    }
    match w.network.filter(|t| is_plausible(*t)) {
        Some(network) if !system_ok || network.abs_diff(w.system) > TOLERANCE => Some((network, Source::Network)),
        _ if system_ok => Some((w.system, Source::System)),
        _ => None,
    }
}

/// The clock that everything in a program shares; clones are the same clock.
#[derive(Clone)]
pub struct Clock {
    started: Instant,
    network: Arc<Mutex<Option<(Duration, Instant)>>>,
    /// By how many milliseconds this clock is wrong on purpose: only ever the bench's stand-ins.
    skew: Arc<AtomicI64>,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods)] // the room that owns time
impl Clock {
    /// A clock without network time.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            network: Arc::default(),
            skew: Arc::default(),
        }
    }

    /// A clock with the same witnesses that can be put wrong by itself.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            skew: Arc::new(AtomicI64::new(self.skew.load(Ordering::Relaxed))),
            ..self.clone()
        }
    }

    /// Puts this clock, and its clones, forward by so many milliseconds, or back. [`Self::monotonic`] does not jump.
    pub fn jump(&self, milliseconds: i64) {
        let add = |skew: i64| Some(skew.saturating_add(milliseconds));
        let _ = self.skew.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// By how many milliseconds this clock was put forward.
    #[must_use]
    pub fn skew(&self) -> i64 {
        self.skew.load(Ordering::Relaxed)
    }

    fn skewed(&self, time: Duration) -> Duration {
        let skew = self.skew();
        let by = Duration::from_millis(skew.unsigned_abs());
        if skew < 0 {
            time.saturating_sub(by)
        } else {
            time.saturating_add(by)
        }
    }

    /// The network said this time (since the Unix epoch) just now. An implausible time is not taken; the answer says whether it was.
    pub fn heard_network(&self, time: Duration) -> bool {
        let ok = is_plausible(time);
        if ok {
            *self.network.lock().unwrap_or_else(PoisonError::into_inner) = Some((time, Instant::now()));
        }
        ok
    }

    /// The time since the Unix epoch and who vouches for it; `None` while nobody does.
    #[must_use]
    pub fn now(&self) -> Option<(Duration, Source)> {
        let network = *self.network.lock().unwrap_or_else(PoisonError::into_inner);
        let decided = decide(Witnesses {
            system: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            synchronised: std::path::Path::new(TIMESYNC_FLAG).exists(),
            network: network.map(|(time, at)| time.saturating_add(at.elapsed())),
        });
        decided.map(|(time, source)| (self.skewed(time), source))
    }

    /// What the system clock says, right or wrong; for messages that must say it.
    #[must_use]
    pub fn system(&self) -> Duration {
        self.skewed(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Time since this clock was made; never jumps. The `now` of every protocol core.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        self.now().map(|(time, _)| UnixTime::since_unix_epoch(time))
    }
}

/// A time since the Unix epoch as RFC 3339 in UTC, whole seconds; for people.
#[must_use]
pub fn rfc3339(time: Duration) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok())
        .map_or_else(|| format!("{} s after 1970", time.as_secs()), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn w(system: Duration, synchronised: bool, network: Option<Duration>) -> Option<(Duration, Source)> {
        decide(Witnesses {
            system,
            synchronised,
            network,
        })
    }

    #[test]
    fn the_floor_is_the_date_it_says() {
        assert_eq!(rfc3339(FLOOR), "2026-11-01T00:00:00Z");
    }

    #[test]
    fn the_rule_in_order() {
        let t = FLOOR + DAY;
        let gps_epoch = Duration::from_secs(315_964_800);
        assert_eq!(w(t, true, Some(t + DAY)), Some((t, Source::Ntp)));
        assert_eq!(
            w(t, false, Some(t + DAY)),
            Some((t + DAY, Source::Network)),
            "a Pi that slept a day"
        );
        assert_eq!(
            w(t + 900 * DAY, false, Some(t)),
            Some((t, Source::Network)),
            "a clock from the future"
        );
        assert_eq!(w(t, false, Some(t + TOLERANCE)), Some((t, Source::System)));
        assert_eq!(w(t, false, None), Some((t, Source::System)));
        assert_eq!(w(Duration::ZERO, false, Some(t)), Some((t, Source::Network)));
        assert_eq!(
            w(Duration::ZERO, true, None),
            None,
            "synchronised to nonsense is nonsense"
        );
        assert_eq!(w(Duration::ZERO, false, Some(gps_epoch)), None);
        assert_eq!(w(Duration::from_secs(4_294_967_295), false, None), None, "2106");
    }

    #[test]
    fn a_fork_jumps_alone() {
        let clock = Clock::new();
        let fork = clock.fork();
        let clone = fork.clone();
        fork.jump(86_400_000 * 400);
        assert!(clone.system() > clock.system() + 399 * DAY);
        assert!(clone.now().unwrap().0 > clock.now().unwrap().0 + 399 * DAY);
        fork.jump(-86_400_000 * 401);
        assert!(clone.system() < clock.system());
        assert!(clone.monotonic() < DAY && clock.skew() == 0);
        fork.jump(i64::MIN);
        assert_eq!(fork.system(), Duration::ZERO);
    }

    #[test]
    fn network_time_is_checked_and_moves_on() {
        let clock = Clock::new();
        assert!(!clock.heard_network(Duration::from_secs(315_964_815)));
        assert!(clock.heard_network(FLOOR + 9_000 * DAY));
        let (now, source) = clock.now().unwrap();
        assert_eq!(source, Source::Network);
        assert!(now >= FLOOR + 9_000 * DAY);
    }
}
