//! The ladder as everybody sees it: eight rungs, each with a state, since when, and why.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::fault::STABLE_AFTER;
use crate::clock::{Clock, rfc3339};
use crate::identity::redact_digits;

/// The rungs, from the ground up; the same words and order in the configuration, the log, `status` and `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// The dongle's AT port answers.
    Modem,
    /// The SIM is ready; IMSI and IMEI are read.
    Sim,
    /// Registered, at home or roaming.
    Network,
    /// IP goes through the cellular interface.
    Link,
    /// The time is plausible.
    Clock,
    /// Key and certificate fit, are valid, and belong to this SIM.
    Credentials,
    /// MQTT is up, and a round trip proved it.
    Session,
    /// Samples are acknowledged.
    Delivery,
}

impl Rung {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Modem,
        Self::Sim,
        Self::Network,
        Self::Link,
        Self::Clock,
        Self::Credentials,
        Self::Session,
        Self::Delivery,
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Modem => "modem",
            Self::Sim => "sim",
            Self::Network => "network",
            Self::Link => "link",
            Self::Clock => "clock",
            Self::Credentials => "credentials",
            Self::Session => "session",
            Self::Delivery => "delivery",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// How a rung stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has climbed this far yet.
    Below,
    /// Being climbed.
    Climbing,
    /// It holds.
    Up,
    /// It failed, and is tried again.
    Down,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Below => "below",
            Self::Climbing => "climbing",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// One rung's line in `status`.
#[derive(Debug, Clone)]
struct Line {
    state: State,
    since: Option<Duration>,
    since_monotonic: Duration,
    why: String,
    cure: Option<String>,
    failures: u32,
    retry_at: Option<Duration>,
}

/// The shared ladder; clones are the same ladder.
#[derive(Clone)]
pub struct Ladder {
    lines: Arc<Mutex<Vec<Line>>>,
    changes: watch::Sender<u64>,
    clock: Clock,
}

impl std::fmt::Debug for Ladder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ladder")
    }
}

impl Ladder {
    /// Nothing is climbed.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let now = clock.monotonic();
        let line = Line {
            state: State::Below,
            since: clock.now().map(|(t, _)| t),
            since_monotonic: now,
            why: "not reached yet".to_owned(),
            cure: None,
            failures: 0,
            retry_at: None,
        };
        Self {
            lines: Arc::new(Mutex::new(vec![line; Rung::ALL.len()])),
            changes: watch::Sender::new(0),
            clock,
        }
    }

    /// Whatever is said of a rung goes to the log and to `status`, and causes quote paths and answers that hold the SIM's numbers: they
    /// are hidden here, once for all.
    fn set(&self, rung: Rung, state: State, why: &str, cure: Option<&str>, retry_in: Option<Duration>) {
        let why = &redact_digits(why);
        let cure = cure.map(redact_digits);
        let cure = cure.as_deref();
        let mut changed = false;
        {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(line) = lines.get_mut(rung.index()) {
                let now = self.clock.monotonic();
                if line.state == State::Up
                    && state != State::Up
                    && now.saturating_sub(line.since_monotonic) >= STABLE_AFTER
                {
                    line.failures = 0;
                }
                if line.state != state {
                    line.since = self.clock.now().map(|(t, _)| t);
                    line.since_monotonic = now;
                }
                changed = line.state != state || line.why != *why;
                line.state = state;
                why.clone_into(&mut line.why);
                line.cure = cure.map(str::to_owned);
                line.retry_at = retry_in.map(|d| now.saturating_add(d));
                if state == State::Down {
                    line.failures = line.failures.saturating_add(1);
                }
            }
        }
        if changed {
            let (rung, state) = (rung.word(), state.word());
            match cure {
                Some(cure) => {
                    // Nobody reads nanoseconds.
                    let retry_s = retry_in.map_or(0.0, |d| (d.as_secs_f64() * 100.0).round() / 100.0);
                    tracing::warn!(rung, state, cure, retry_s, "{why}");
                }
                None => tracing::info!(rung, state, "{why}"),
            }
            self.changes.send_modify(|n| *n += 1);
        }
    }

    /// A rung is being climbed. It keeps quiet when the rung is already up.
    pub fn climbing(&self, rung: Rung, why: &str) {
        self.set(rung, State::Climbing, why, None, None);
    }

    /// A rung holds.
    pub fn up(&self, rung: Rung, why: &str) {
        self.set(rung, State::Up, why, None, None);
    }

    /// A rung failed; it is tried again in `retry_in`.
    pub fn down(&self, rung: Rung, why: &str, cure: &str, retry_in: Duration) {
        self.set(rung, State::Down, why, Some(cure), Some(retry_in));
    }

    /// The rungs above `rung` are no longer held up by it.
    pub fn fall_above(&self, rung: Rung) {
        for above in Rung::ALL.into_iter().filter(|r| *r > rung) {
            if self.state(above) != State::Below {
                self.below(above, rung);
            }
        }
    }

    /// A rung cannot be climbed before another is up.
    pub fn below(&self, rung: Rung, waits_for: Rung) {
        self.set(rung, State::Below, &format!("waits for {waits_for}"), None, None);
    }

    /// How a rung stands.
    #[must_use]
    pub fn state(&self, rung: Rung) -> State {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.get(rung.index()).map_or(State::Below, |l| l.state)
    }

    /// Tells of every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The lowest rung that is not up, in one line, for a service manager.
    #[must_use]
    pub fn headline(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Rung::ALL
            .into_iter()
            .zip(lines.iter())
            .find(|(_, l)| l.state != State::Up)
            .map_or_else(
                || "all rungs are up".to_owned(),
                |(rung, l)| format!("{rung} {}: {}", l.state.word(), l.why),
            )
    }

    /// The rungs as JSON: `rung`, `state`, `since` (RFC 3339, null while the time is unknown), `for_s`, `why`, and for a rung that is
    /// down `cure`, `failures` and `retry_in_s`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let now = self.clock.monotonic();
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Rung::ALL
            .into_iter()
            .zip(lines.iter())
            .map(|(rung, l)| {
                let mut v = json!({
                    "rung": rung.word(),
                    "state": l.state.word(),
                    "since": l.since.map(rfc3339),
                    "for_s": now.saturating_sub(l.since_monotonic).as_secs(),
                    "why": l.why,
                });
                if l.state == State::Down {
                    v["cure"] = json!(l.cure);
                    v["failures"] = json!(l.failures);
                    v["retry_in_s"] = json!(l.retry_at.map(|t| t.saturating_sub(now).as_secs()));
                }
                v
            })
            .collect()
    }
}

/// Prints the rungs of a status answer for people.
#[must_use]
pub fn render(rungs: &Value) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for r in rungs.as_array().into_iter().flatten() {
        let text = |key: &str| r[key].as_str().unwrap_or("");
        let mark = match text("state") {
            "up" => "●",
            "climbing" => "◐",
            "down" => "✗",
            _ => "○",
        };
        let _ = writeln!(
            out,
            "{mark} {:<12} {:<9} {:>9}  {}",
            text("rung"),
            text("state"),
            ago(r["for_s"].as_u64().unwrap_or(0)),
            text("why")
        );
        if let Some(cure) = r["cure"].as_str() {
            let _ = writeln!(out, "  {:<12} → {cure}", "");
            if let Some(retry) = r["retry_in_s"].as_u64() {
                let _ = writeln!(
                    out,
                    "  {:<12}   failed {} times; next try in {retry} s",
                    "",
                    r["failures"].as_u64().unwrap_or(0)
                );
            }
        }
    }
    out
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_is_the_lowest_rung_that_is_not_up() {
        let l = Ladder::new(Clock::new());
        l.up(Rung::Modem, "EG25");
        l.down(Rung::Sim, "no SIM", "insert one", Duration::from_secs(5));
        assert_eq!(l.headline(), "sim down: no SIM");
        for r in Rung::ALL {
            l.up(r, "ok");
        }
        assert_eq!(l.headline(), "all rungs are up");
        l.fall_above(Rung::Link);
        assert_eq!(l.state(Rung::Session), State::Below);
        assert_eq!(l.state(Rung::Link), State::Up);
    }

    #[test]
    fn the_sims_numbers_are_hidden_in_whatever_is_quoted() {
        let l = Ladder::new(Clock::new());
        let path = "/var/lib/onyx/credentials/krypton-azure-295012345678901/current";
        l.down(
            Rung::Credentials,
            &format!("damaged: {path}"),
            &format!("look at {path}"),
            Duration::ZERO,
        );
        let text = l.to_json().to_string();
        assert!(
            !text.contains("295012345678901") && text.contains("krypton-azure-29501"),
            "{text}"
        );
    }

    #[test]
    fn a_rung_that_comes_up_and_falls_at_once_goes_on_counting() {
        let l = Ladder::new(Clock::new());
        for n in 1..4 {
            l.up(Rung::Session, "connected");
            l.down(Rung::Session, "closed", "wait", Duration::ZERO);
            assert_eq!(l.to_json()[Rung::Session.index()]["failures"], n);
        }
    }

    #[test]
    fn a_rung_that_is_down_says_what_to_do_and_counts() {
        let l = Ladder::new(Clock::new());
        for _ in 0..3 {
            l.down(Rung::Session, "refused", "register it", Duration::from_secs(9));
        }
        let v = l.to_json();
        let session = &v[Rung::Session.index()];
        assert_eq!(
            (session["failures"].as_u64(), session["cure"].as_str()),
            (Some(3), Some("register it"))
        );
        let text = render(&v);
        assert!(
            text.contains("→ register it") && text.contains("failed 3 times"),
            "{text}"
        );
        l.up(Rung::Session, "ok");
        assert!(l.to_json()[Rung::Session.index()].get("cure").is_none());
    }
}
