//! Keeps the clock informed: restores the last confirmed time and saves the next ([`crate::clock::saved`]), asks whether NTP
//! disciplines the system clock, and says on the clock's rung when another witness vouches for the time.
//!
//! NTP: timesyncd leaves a file, which the clock looks for by itself; chrony, ntpd and the others leave nothing but the kernel's state
//! (adjtimex(2)). No safe wrapper of that call builds with our oldest compiler (nix and rustix have none, clock-steering does not give
//! the status away, rtime-clock wants Rust 1.89), and in the unit's sandbox (`ProtectClock=`) the call is forbidden even for reading. So systemd's own answer
//! is asked for: `timedatectl show` prints the property `NTPSynchronized` of systemd-timedated, which reads the kernel's state
//! (org.freedesktop.timedate1(5)). It is a short-lived program on the side, so it is asked seldom ([`ASK_EVERY`], [`ASK_AGAIN`]) and
//! with a limit; where there is no systemd, or no bus, timesyncd's file alone counts. In a container the kernel, and so its clock, is
//! the host's; a kernel that never says "synchronised" leaves the network's time or an unconfirmed system clock, which is as before.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use super::ladder::{Ladder, Rung, State};
use crate::clock::saved::{self, due};
use crate::clock::{Clock, Source, TOLERANCE, View, rfc3339};
use crate::config::agent::AgentConfig;

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often timedatectl is asked while NTP has not synchronised the clock.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// How often while it has; the kernel takes nine hours to lose faith without NTP (16 s of error at 500 ppm).
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// Limit for one answer; starting timedated takes a Pi Zero about a second.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Bytes read of an answer, which is `yes` or `no`.
const ANSWER_MAX: u64 = 16;

/// What a clock must be told before anybody asks it for the time.
pub(super) fn prepare(config: &AgentConfig, clock: &Clock) {
    clock.trust_ntp(config.clock.trust_ntp);
    clock.saved_after(config.clock.saved_time_after);
    saved::restore(&config.state_dir, clock);
}

/// The clock in `status --json`: `source` (one of [`Source::word`], null while the time is unknown), whether it is `confirmed`, what the
/// `system` clock says and by how many seconds it is ahead (`system_ahead_s`), the `network`'s time, its last word if
/// that was not believed (`network_refused`), and the last confirmed time with its witness (`saved`, `saved_by`).
pub(super) fn to_json(view: &View) -> Value {
    json!({
        "source": view.now.map(|(_, source)| source.word()),
        "confirmed": view.now.is_some_and(|(_, source)| source.is_confirmed()),
        "why": view.why(),
        "system": rfc3339(view.system),
        "system_ahead_s": view.system_ahead_s(),
        "network": view.network.map(rfc3339),
        "network_refused": view.refused.map(rfc3339),
        "saved": view.saved.map(|s| rfc3339(s.time)),
        "saved_by": view.saved.map(|s| s.by.word()),
    })
}

/// Whether NTP disciplines the system clock, by systemd-timedated; `None` if it cannot be asked.
async fn ask_timedated() -> Option<bool> {
    let ask = async {
        let mut child = tokio::process::Command::new("timedatectl")
            .args(["show", "--property=NTPSynchronized", "--value"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let mut text = String::new();
        let out = child.stdout.take()?;
        out.take(ANSWER_MAX).read_to_string(&mut text).await.ok()?;
        child.wait().await.ok()?.success().then_some(text)
    };
    match tokio::time::timeout(ANSWER_WITHIN, ask).await.ok()??.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// The task.
pub(super) struct Timekeeper {
    state_dir: PathBuf,
    trust_ntp: bool,
    clock: Clock,
    ladder: Ladder,
    stop: CancellationToken,
    /// When timedated answered last, and what.
    asked: Option<(Duration, Option<bool>)>,
    /// System clock minus monotonic clock at the last look, in seconds: it changes when somebody steps the system clock.
    offset: Option<Duration>,
    source: Option<Source>,
    /// A failure to save is said once.
    save_failed: bool,
}

impl Timekeeper {
    pub(super) fn new(config: &AgentConfig, clock: Clock, ladder: Ladder, stop: CancellationToken) -> Self {
        Self {
            state_dir: config.state_dir.clone(),
            trust_ntp: config.clock.trust_ntp,
            clock,
            ladder,
            stop,
            asked: None,
            offset: None,
            source: None,
            save_failed: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let stepped = self.stepped();
            if self.trust_ntp && (stepped || self.is_due()) {
                let stop = self.stop.clone();
                tokio::select! {
                    answer = ask_timedated() => {
                        self.asked = Some((self.clock.monotonic(), answer));
                        self.clock.heard_kernel(answer);
                    }
                    () = stop.cancelled() => {}
                }
            }
            self.say(stepped);
            self.save(self.stop.is_cancelled()).await;
            if self.stop.is_cancelled() {
                return;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn is_due(&self) -> bool {
        self.asked.is_none_or(|(at, answer)| {
            let pause = if answer == Some(true) { ASK_AGAIN } else { ASK_EVERY };
            self.clock.monotonic().saturating_sub(at) >= pause
        })
    }

    /// Whether the system clock jumped since the last look; said in the log, in case somebody wonders about its other lines.
    fn stepped(&mut self) -> bool {
        let offset = self.clock.system().saturating_sub(self.clock.monotonic());
        let before = self.offset.replace(offset);
        let stepped = before.is_some_and(|before| before.abs_diff(offset) > TOLERANCE);
        if stepped {
            tracing::info!(
                system = rfc3339(self.clock.system()),
                time = self.clock.now().map(|(t, _)| rfc3339(t)),
                "the system clock was stepped; nothing here waits by it"
            );
        }
        stepped
    }

    /// A rung that is up says who vouches for the time now.
    fn say(&mut self, stepped: bool) {
        let view = self.clock.view();
        let source = view.now.map(|(_, source)| source);
        let other = std::mem::replace(&mut self.source, source) != source;
        if source.is_some() && (other || stepped) && self.ladder.state(Rung::Clock) == State::Up {
            self.ladder.up(Rung::Clock, &view.why());
        }
    }

    async fn save(&mut self, ending: bool) {
        let view = self.clock.view();
        let Some(now) = due(view.saved, view.now, ending) else {
            return;
        };
        let directory = self.state_dir.clone();
        let written = tokio::task::spawn_blocking(move || saved::write(&directory, now)).await;
        match written {
            Ok(Ok(())) => self.save_failed = false,
            Ok(Err(e)) if !std::mem::replace(&mut self.save_failed, true) => tracing::warn!(
                "the time cannot be saved in {}: {e}; after a restart without network time and NTP it will not be known",
                saved::path(&self.state_dir).display()
            ),
            _ => {}
        }
        // Remembered even if it was not written: a disk that is full is not tried every two seconds.
        self.clock.remember(now);
    }
}
