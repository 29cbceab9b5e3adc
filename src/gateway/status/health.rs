//! What is wrong, in words: from figures to sentences, worst first. No I/O.

use std::time::Duration;

use serde::Serialize;

use super::expiry::{Found, SOON_DAYS, days_left};
use super::ledger::Counts;
use super::process::Process;
use crate::gateway::refusal::KEYS;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Devices do not get through.
    Error,
    /// They will not for long, or some do not.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// What, and what to do.
    pub text: String,
}

/// What is known of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreState {
    /// The number of its last change, as last read.
    pub generation: Option<u64>,
    /// Questions of the watch that it did not answer.
    pub errors: u64,
    /// The last of them: when (Unix time), and what it said.
    pub last_error: Option<(Duration, String)>,
    /// Since when it does not answer, Unix time; `None` while it does.
    pub silent_since: Option<Duration>,
}

/// All that is judged.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Unix time.
    pub now: Duration,
    /// The counters.
    pub counts: &'a Counts,
    /// Refusals of the last [`LATELY`], by reason.
    pub lately: &'a [u64; KEYS.len()],
    /// Connections that got through in the same time.
    pub relayed_lately: u64,
    /// `listen.max_connections`.
    pub places: Option<usize>,
    /// The process.
    pub process: &'a Process,
    /// The store, if there is one.
    pub store: Option<&'a StoreState>,
    /// The credentials.
    pub found: Option<&'a Found>,
    /// How many subscribers there are.
    pub subscribers: usize,
}

/// What counts as "lately".
pub const LATELY: Duration = Duration::from_secs(600);
/// From this share on, a bounded thing counts as nearly used up, in percent.
const NEARLY: u64 = 90;

fn nearly(used: u64, of: u64) -> bool {
    used.saturating_mul(100) >= of.saturating_mul(NEARLY)
}

/// What to do about refusals of one kind; `None` for what is no trouble of ours.
fn advice(key: &str) -> Option<(Level, &'static str)> {
    let error = |text| Some((Level::Error, text));
    let warning = |text| Some((Level::Warning, text));
    match key {
        "upstream_unreachable" => {
            error("upstream cannot be reached: look at DNS, routes, firewalls and the cloud's own status")
        }
        "upstream_tls" => {
            error("TLS with upstream fails: look at the certificates' ends, the authorities and the clock")
        }
        "upstream_no_answer" => {
            error("upstream does not answer CONNECT: look there for the reason (policy, client id in use)")
        }
        "upstream_refused" => {
            warning("upstream refuses devices: are they registered there, with this certificate and name?")
        }
        "credential" => error("a credential is missing or broken: 'onyx-gateway check' names it"),
        "full" => error("all places were taken: raise listen.max_connections"),
        "unknown_device" => warning("callers that no subscriber has the address or token of; see the strangers below"),
        "keep_alive" => warning("devices ask for a keep-alive that is not taken"),
        "malformed" | "version" => warning("callers do not speak MQTT as they must; the log names the rule"),
        "silent" => warning("callers connect and say nothing"),
        "too_many_from_address" => warning("one address has all the places it may have: see listen.max_per_address"),
        "guessing" => warning("addresses that guessed are not heard for a while (listen.guesses)"),
        "disabled" => warning("subscribers or groups that are switched off still call"),
        "imei_mismatch" => warning("a SIM calls from another modem than its own: was it moved, or stolen?"),
        "proxy" => warning("a trusted proxy sends no PROXY header: see listen.proxies"),
        "tls" | "certificate" => {
            warning("devices fail at the door with TLS: look at their certificates' ends and authority")
        }
        "evicted" | "gone" => None,
        _ => warning("devices were turned away; the log says why"),
    }
}

/// All that is wrong, worst first.
#[must_use]
pub fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut say = |level, text: String| all.push(Finding { level, text });
    if let Some(store) = facts.store {
        if let (Some(since), Some((_, error))) = (store.silent_since, &store.last_error) {
            let minutes = facts.now.saturating_sub(since).as_secs() / 60;
            say(
                Level::Error,
                format!(
                    "the store has not answered for {minutes} min ({error}); known devices are let in for store.stale_for"
                ),
            );
        }
    }
    if let Some(found) = facts.found {
        certificates(found, facts.now, &mut say);
    }
    for (key, n) in KEYS.iter().zip(facts.lately) {
        if let Some((level, text)) = advice(key).filter(|_| *n > 0) {
            // One device among many that get through is not the gateway's own trouble.
            let level = if facts.relayed_lately > *n {
                Level::Warning
            } else {
                level
            };
            let minutes = LATELY.as_secs() / 60;
            say(
                level,
                format!("refused {n} times in {minutes} min, {}: {text}", key.replace('_', " ")),
            );
        }
    }
    if let Some(places) = facts.places.filter(|p| nearly(facts.counts.open as u64, *p as u64)) {
        say(
            Level::Warning,
            format!(
                "{} of {places} places are taken (listen.max_connections)",
                facts.counts.open
            ),
        );
    }
    if let (Some(fds), Some(max)) = (facts.process.fds, facts.process.fds_max) {
        if nearly(fds, max) {
            say(
                Level::Warning,
                format!("{fds} of {max} file descriptors are in use: raise LimitNOFILE"),
            );
        }
    }
    if facts.subscribers == 0 {
        say(
            Level::Warning,
            "there are no subscribers: nobody can connect".to_owned(),
        );
    }
    all.sort_by_key(|f| f.level);
    all
}

fn certificates(found: &Found, now: Duration, say: &mut impl FnMut(Level, String)) {
    let ends = || {
        found
            .all
            .iter()
            .filter_map(|e| Some((e.id.as_str(), days_left(e.not_after?, now))))
    };
    let expired: Vec<_> = ends().filter(|(_, days)| *days < 0).collect();
    if let Some((id, _)) = expired.first() {
        let text = format!(
            "certificates that have expired: {}, the first is {id}: renew them",
            expired.len()
        );
        say(Level::Error, text);
    }
    let soon: Vec<_> = ends().filter(|(_, days)| (0..SOON_DAYS).contains(days)).collect();
    if let Some((id, days)) = soon.first() {
        let n = soon.len();
        say(
            Level::Warning,
            format!("certificates that end within {SOON_DAYS} days: {n}, the first is {id} in {days} days: renew them"),
        );
    }
    let broken: Vec<_> = found
        .all
        .iter()
        .filter_map(|e| Some((e.id.as_str(), e.problem.as_ref()?)))
        .collect();
    if let Some((id, why)) = broken.first() {
        let n = broken.len();
        say(
            Level::Warning,
            format!("credentials that cannot be used: {n}, the first is {id}: {why}"),
        );
    }
    if let Some(problem) = &found.problem {
        say(
            Level::Warning,
            format!("the credentials could not all be looked at: {problem}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::status::expiry::Expiry;

    const NOW: Duration = Duration::from_secs(20_000 * 86_400);

    /// A gateway where all is well.
    struct Case {
        counts: Counts,
        lately: [u64; KEYS.len()],
        relayed_lately: u64,
        process: Process,
        store: Option<StoreState>,
        found: Option<Found>,
        subscribers: usize,
    }

    impl Case {
        fn new() -> Self {
            Self {
                counts: Counts::default(),
                lately: [0; KEYS.len()],
                relayed_lately: 0,
                process: Process::default(),
                store: None,
                found: None,
                subscribers: 1,
            }
        }

        fn judge(&self) -> Vec<(Level, String)> {
            let facts = Facts {
                now: NOW,
                counts: &self.counts,
                lately: &self.lately,
                relayed_lately: self.relayed_lately,
                places: Some(10),
                process: &self.process,
                store: self.store.as_ref(),
                found: self.found.as_ref(),
                subscribers: self.subscribers,
            };
            findings(&facts).into_iter().map(|f| (f.level, f.text)).collect()
        }
    }

    #[test]
    fn all_is_well() {
        assert_eq!(Case::new().judge(), []);
    }

    #[test]
    fn every_reason_that_can_be_mended_has_advice() {
        for (index, key) in KEYS.iter().enumerate() {
            let mut case = Case::new();
            case.lately[index] = 7;
            let said = case.judge();
            if ["gone", "evicted"].contains(key) {
                assert_eq!(said, []);
            } else {
                assert!(said[0].1.starts_with("refused 7 times in 10 min"), "{said:?}");
            }
        }
        let mut case = Case::new();
        let down = KEYS.iter().position(|k| *k == "upstream_unreachable").unwrap();
        case.lately[down] = 7;
        assert_eq!(case.judge()[0].0, Level::Error);
        case.relayed_lately = 1_000;
        assert_eq!(case.judge()[0].0, Level::Warning, "most get through");
    }

    #[test]
    fn the_worst_comes_first() {
        let expiry = |id: &str, days: i64, problem: Option<&str>| Expiry {
            id: id.parse().unwrap(),
            imsi: None,
            not_after: NOW.checked_add_signed(days),
            problem: problem.map(str::to_owned),
        };
        let case = Case {
            counts: Counts {
                open: 9,
                ..Counts::default()
            },
            process: Process {
                fds: Some(95),
                fds_max: Some(100),
                ..Process::default()
            },
            store: Some(StoreState {
                silent_since: Some(NOW - Duration::from_secs(120)),
                last_error: Some((NOW, "connection refused".into())),
                ..StoreState::default()
            }),
            found: Some(Found {
                all: vec![
                    expiry("broken", 400, Some("no key")),
                    expiry("old", -3, None),
                    expiry("soon", 5, None),
                    expiry("fine", 300, None),
                ],
                ..Found::default()
            }),
            subscribers: 0,
            ..Case::new()
        };
        let said = case.judge();
        let text = said.iter().map(|(l, t)| format!("{l:?} {t}\n")).collect::<String>();
        for want in [
            "Error the store has not answered for 2 min (connection refused)",
            "Error certificates that have expired: 1, the first is old",
            "Warning certificates that end within 30 days: 1, the first is soon in 5 days",
            "Warning credentials that cannot be used: 1, the first is broken: no key",
            "Warning 9 of 10 places are taken",
            "Warning 95 of 100 file descriptors",
            "Warning there are no subscribers",
        ] {
            assert!(text.contains(want), "{want:?} is not in\n{text}");
        }
        assert!(said.is_sorted_by_key(|(l, _)| *l));
    }

    trait Signed {
        fn checked_add_signed(self, days: i64) -> Option<Duration>;
    }
    impl Signed for Duration {
        fn checked_add_signed(self, days: i64) -> Option<Duration> {
            let by = Duration::from_secs(days.unsigned_abs() * 86_400 + 60);
            if days < 0 {
                self.checked_sub(by)
            } else {
                self.checked_add(by)
            }
        }
    }
}
