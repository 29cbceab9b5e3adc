//! What time it is, and how sure we are. A Pi has no battery clock: it wakes with the time of its last shutdown, or 1970, and no TLS
//! handshake makes sense before that is cured.
//!
//! A [`Clock`] has the system clock and up to four witnesses: NTP, which may have set it; the network's time read from the modem (NITZ,
//! by `AT+QLTS` or `AT+CCLK`); what was confirmed in the last run ([`saved`]); and the date of the program ([`FLOOR`]). A time that
//! was heard is carried forward by the monotonic clock. The rule, in order:
//!
//! 1. The system clock, if NTP has synchronised it. NTP's word must be newer than any step by hand.
//! 2. NTP's word of before, or else the network's: when the system clock is within [`TOLERANCE`] of it, the system clock, confirmed;
//!    otherwise the word itself, carried forward.
//! 3. The system clock, unconfirmed, when it is not before [`FLOOR`] and not over [`TOLERANCE`] before the last confirmed time.
//! 4. The last confirmed time carried forward, when nobody has said better for as long as the configuration says
//!    (`clock.saved_time_after`): it is behind by as long as the device was off, which certificates mostly do not mind, and a device
//!    whose network says no time and lets no NTP through must come up by itself all the same.
//! 5. Otherwise nobody knows, and [`Clock::now`] is `None`: no TLS handshake begins (rustls asks this clock).
//!
//! The network is believed too, if it comes to that, against what only the network said before (a network that was wrong once must be
//! able to correct itself), but not against what NTP confirmed in the last run: an old time makes old certificates valid.
//!
//! Deadlines and waits never use this clock: they are monotonic, so a jump of years fires none of them. This room and the places it
//! names are the only ones that may call `SystemTime::now` and `Instant::now` (a lint sees to it; it also sees to it that nobody sets
//! rustls or reqwest up without this clock).
//!
//! The decision is in `judge`; this file asks the machine.

mod judge;
pub mod saved;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls_pki_types::UnixTime;

pub use self::judge::Saved;
use self::judge::{Judge, NtpWord};

/// 2026-11-01T00:00:00Z, before this version was released.
const RELEASED: Duration = Duration::from_secs(1_793_491_200);

/// No plausible time is earlier: when the program was built, if its builder says so in `SOURCE_DATE_EPOCH` (seconds since the Unix epoch, see
/// reproducible-builds.org; packagers set it), and otherwise the date of the release. Never the build machine's own clock: the same source must
/// give the same program, and a wrong clock there would make every true time implausible here. The modem's 1980-01-06 (GPS epoch, before
/// any network time) and a Pi's 1970 both fall below.
pub const FLOOR: Duration = built(option_env!("SOURCE_DATE_EPOCH"));

/// No plausible time is later: 50 years after the release; a corrupted clock says 2099 or 2106.
const CEILING: Duration = Duration::from_secs(RELEASED.as_secs() + 50 * 365 * 86_400);

/// The system clock may differ from a witness by this much before the witness is believed instead: NITZ has been seen minutes off,
/// certificates do not mind an hour.
pub const TOLERANCE: Duration = Duration::from_secs(3_600);

/// systemd-timesyncd creates this file once NTP has set the clock (systemd-timesyncd.service(8)).
const TIMESYNC_FLAG: &str = "/run/systemd/timesync/synchronized";
/// The file is looked for at most so often.
const FLAG_FOR: Duration = Duration::from_secs(1);

/// The build's time. What is no number, or lies before the release (distributions put 0, 1 or 1980 there), says nothing.
const fn built(epoch: Option<&str>) -> Duration {
    let Some(text) = epoch else { return RELEASED };
    match u64::from_str_radix(text, 10) {
        Ok(seconds) if seconds > RELEASED.as_secs() => {
            assert!(
                seconds < CEILING.as_secs(),
                "SOURCE_DATE_EPOCH lies more than 50 years ahead: no time would be plausible"
            );
            Duration::from_secs(seconds)
        }
        _ => RELEASED,
    }
}

/// Who can confirm a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witness {
    /// NTP.
    Ntp,
    /// The mobile network, through the modem.
    Network,
}

impl Witness {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ntp => "ntp",
            Self::Network => "network",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Ntp, Self::Network].into_iter().find(|w| w.word() == word)
    }
}

/// Who vouches for the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The system clock, set by NTP.
    Ntp,
    /// The system clock, and a witness says nearly the same.
    Confirmed(Witness),
    /// A witness's word, carried forward; the system clock says something else.
    Carried(Witness),
    /// The system clock, plausible but unconfirmed.
    System,
    /// The last time that was confirmed in an earlier run, carried forward since this one began: behind by as long as it was off.
    Saved,
}

impl Source {
    /// Who confirms it, if anybody does.
    #[must_use]
    pub fn confirmed_by(self) -> Option<Witness> {
        match self {
            Self::Ntp => Some(Witness::Ntp),
            Self::Confirmed(by) | Self::Carried(by) => Some(by),
            Self::System | Self::Saved => None,
        }
    }

    /// Whether anybody does.
    #[must_use]
    pub fn is_confirmed(self) -> bool {
        self.confirmed_by().is_some()
    }

    /// One word, for `status --json`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ntp => "ntp",
            Self::Confirmed(_) => "system-confirmed",
            Self::Carried(Witness::Ntp) => "ntp-carried",
            Self::Carried(Witness::Network) => "network",
            Self::System => "system",
            Self::Saved => "saved",
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ntp => "system clock, synchronised by NTP",
            Self::Confirmed(Witness::Ntp) => "system clock, which NTP confirmed before",
            Self::Confirmed(Witness::Network) => "system clock, which the network's time confirms",
            Self::Carried(Witness::Ntp) => "NTP's time, kept since it was last synchronised",
            Self::Carried(Witness::Network) => "network time from the modem",
            Self::System => "system clock, unconfirmed",
            Self::Saved => "last confirmed time, from before the restart, because nobody says better",
        })
    }
}

/// Whether a time since the Unix epoch can be true.
#[must_use]
pub fn is_plausible(time: Duration) -> bool {
    (FLOOR..CEILING).contains(&time)
}

/// All that is known at one moment, for people and `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The time, and who vouches for it.
    pub now: Option<(Duration, Source)>,
    /// What the system clock says.
    pub system: Duration,
    /// The network's time, carried forward to now.
    pub network: Option<Duration>,
    /// The network's last word, if it was not believed.
    pub refused: Option<Duration>,
    /// What was confirmed last, by this run or an earlier one.
    pub saved: Option<Saved>,
    /// An unconfirmed system clock below this is wrong.
    pub floor: Duration,
}

impl View {
    /// By how many seconds the system clock is ahead of the time; negative when it is behind.
    #[must_use]
    pub fn system_ahead_s(&self) -> Option<i64> {
        let signed = |t: Duration| i64::try_from(t.as_secs()).unwrap_or(i64::MAX);
        self.now.map(|(now, _)| signed(self.system).saturating_sub(signed(now)))
    }

    /// Why the time is known, or is not, in one sentence that does not change from second to second.
    #[must_use]
    pub fn why(&self) -> String {
        match self.now {
            Some((now, source)) if now.abs_diff(self.system) > TOLERANCE => {
                format!("{source}; the system clock says {}", day(self.system))
            }
            Some((_, source)) => source.to_string(),
            None => {
                let floor = match self.saved {
                    Some(saved) if self.floor > FLOOR => {
                        format!("is before {}, the last time that was confirmed", rfc3339(saved.time))
                    }
                    _ => "cannot be".to_owned(),
                };
                let floor = if is_plausible(self.system) {
                    floor
                } else {
                    "cannot be".to_owned()
                };
                let network = self.refused.map_or_else(
                    || "neither NTP nor the network has said better".to_owned(),
                    |t| {
                        format!(
                            "the network says {}, which cannot be either, and NTP nothing",
                            rfc3339(t)
                        )
                    },
                );
                format!(
                    "the system clock says {}, which {floor}; {network}",
                    rfc3339(self.system)
                )
            }
        }
    }
}

/// The date alone.
fn day(time: Duration) -> String {
    let text = rfc3339(time);
    text.split('T').next().unwrap_or_default().to_owned()
}

/// The clock that everything in a program shares; clones are the same clock.
#[derive(Clone)]
pub struct Clock {
    started: Instant,
    judge: Arc<Mutex<Judge>>,
    ntp: Arc<Ntp>,
    /// By how many milliseconds this clock is wrong on purpose: only ever the bench's stand-ins.
    skew: Arc<AtomicI64>,
}

/// What is known of NTP without asking anybody.
#[derive(Debug)]
struct Ntp {
    /// Whether NTP's word counts at all.
    trusted: AtomicBool,
    /// What timesyncd's file said when it was looked for last.
    flag: Mutex<Option<NtpWord>>,
    /// The kernel's word ([`Clock::heard_kernel`]), which covers every NTP daemon.
    kernel: Mutex<Option<NtpWord>>,
}

impl Default for Ntp {
    fn default() -> Self {
        Self {
            trusted: AtomicBool::new(true),
            flag: Mutex::default(),
            kernel: Mutex::default(),
        }
    }
}

impl Ntp {
    fn word(&self, now: Duration) -> NtpWord {
        let never = NtpWord {
            synchronised: false,
            at: now,
        };
        if !self.trusted.load(Ordering::Relaxed) {
            return never;
        }
        if let Some(word) = *held(&self.kernel) {
            return word;
        }
        let mut flag = held(&self.flag);
        match *flag {
            Some(word) if now.saturating_sub(word.at) < FLAG_FOR => word,
            _ => *flag.insert(NtpWord {
                synchronised: std::path::Path::new(TIMESYNC_FLAG).exists(),
                at: now,
            }),
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// A clock that knows the system clock and timesyncd's word, and no more.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            judge: Arc::default(),
            ntp: Arc::default(),
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
        held(&self.judge).heard_network(time, self.monotonic())
    }

    /// The kernel said just now whether NTP disciplines the system clock; `None` if there is nobody to ask. It outranks
    /// timesyncd's file, which stays when somebody puts the clock off by hand.
    pub fn heard_kernel(&self, synchronised: Option<bool>) {
        *held(&self.ntp.kernel) = synchronised.map(|synchronised| NtpWord {
            synchronised,
            at: self.monotonic(),
        });
    }

    /// Whether NTP's word counts; it does, unless somebody says otherwise.
    pub fn trust_ntp(&self, trusted: bool) {
        self.ntp.trusted.store(trusted, Ordering::Relaxed);
    }

    /// This was confirmed in an earlier run, or is now saved for the next.
    pub fn remember(&self, saved: Saved) {
        held(&self.judge).save(saved);
    }

    /// Take the saved time when nobody has said better for so long; without this it is never taken.
    pub fn saved_after(&self, wait: Duration) {
        held(&self.judge).saved_after = Some(wait);
    }

    /// The time since the Unix epoch and who vouches for it; `None` while nobody does.
    #[must_use]
    pub fn now(&self) -> Option<(Duration, Source)> {
        self.view().now
    }

    /// The time, and all that it was decided from.
    #[must_use]
    pub fn view(&self) -> View {
        let mut judge = held(&self.judge);
        let now = self.monotonic();
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let decided = judge.decide(system, self.ntp.word(now), now);
        View {
            now: decided.map(|(time, source)| (self.skewed(time), source)),
            system: self.skewed(system),
            network: judge.network(now),
            refused: judge.refused,
            saved: judge.saved(),
            floor: judge.floor(),
        }
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

    #[test]
    fn the_floor_is_the_release_or_the_build() {
        assert_eq!(rfc3339(RELEASED), "2026-11-01T00:00:00Z");
        for says_nothing in [
            None,
            Some(""),
            Some("0"),
            Some("1"),
            Some("315532800"),
            Some("-5"),
            Some("now"),
        ] {
            assert_eq!(built(says_nothing), RELEASED, "{says_nothing:?}");
        }
        assert_eq!(rfc3339(built(Some("1800000000"))), "2027-01-15T08:00:00Z");
        assert!(FLOOR >= RELEASED);
        assert!(std::panic::catch_unwind(|| built(Some("9999999999"))).is_err());
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
        clock.trust_ntp(false);
        assert!(!clock.heard_network(Duration::from_secs(315_964_815)));
        let view = clock.view();
        assert_eq!(view.refused, Some(Duration::from_secs(315_964_815)));
        assert!(clock.heard_network(FLOOR + 9_000 * DAY));
        let view = clock.view();
        let (now, source) = view.now.unwrap();
        assert_eq!(source, Source::Carried(Witness::Network));
        assert!(now >= FLOOR + 9_000 * DAY);
        assert_eq!((view.refused, view.network), (None, Some(now)));
        assert!(view.system_ahead_s().unwrap() < 0, "unless it is 2051");
        assert!(
            view.why()
                .starts_with("network time from the modem; the system clock says 20")
        );
    }

    #[test]
    fn the_kernels_word_outranks_the_file_and_trust_outranks_both() {
        let clock = Clock::new();
        clock.heard_kernel(Some(true));
        assert_eq!(clock.now().unwrap().1, Source::Ntp);
        clock.heard_kernel(Some(false));
        assert_eq!(clock.now().unwrap().1, Source::Confirmed(Witness::Ntp));
        let clock = Clock::new();
        clock.heard_kernel(Some(true));
        clock.trust_ntp(false);
        assert_eq!(clock.now().unwrap().1, Source::System);
    }

    #[test]
    fn the_reasons_say_what_is_wrong() {
        let view = View {
            now: None,
            system: Duration::from_secs(100),
            network: None,
            refused: None,
            saved: None,
            floor: FLOOR,
        };
        let nobody = "neither NTP nor the network has said better";
        assert_eq!(
            view.why(),
            format!("the system clock says 1970-01-01T00:01:40Z, which cannot be; {nobody}")
        );
        let time = RELEASED + 100 * DAY;
        let behind = View {
            system: time - DAY,
            saved: Some(Saved { time, by: Witness::Ntp }),
            floor: time - TOLERANCE,
            refused: Some(time - 2 * DAY),
            ..view
        };
        assert_eq!(
            behind.why(),
            "the system clock says 2027-02-08T00:00:00Z, which is before 2027-02-09T00:00:00Z, the last time that was confirmed; the network says 2027-02-07T00:00:00Z, which cannot be either, and NTP nothing"
        );
        assert_eq!(behind.system_ahead_s(), None);
        let slow = View {
            now: Some((time, Source::Carried(Witness::Network))),
            ..view
        };
        assert_eq!(
            slow.why(),
            "network time from the modem; the system clock says 1970-01-01"
        );
        assert_eq!(
            slow.system_ahead_s(),
            Some(100 - i64::try_from(time.as_secs()).unwrap())
        );
        let good = View {
            now: Some((time, Source::Ntp)),
            system: time,
            ..view
        };
        assert_eq!(good.why(), "system clock, synchronised by NTP");
    }
}
