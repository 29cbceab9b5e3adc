//! Telling the service manager that decisions are being made. Being offline is not a failure of the agent; a task that neither acts
//! nor waits within a bound is.
//!
//! Every task holds a [`Pulse`] and, before it waits, promises when it will be back. The watchdog is fed only while all promises are
//! kept; a broken one is named in the log, and systemd restarts the service (`WatchdogSec=`, sd_notify(3)).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::ladder::Ladder;
use crate::clock::Clock;

/// A promise may be late by this much: the machine may be swapping or its disk slow.
const SLACK: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Promise {
    task: &'static str,
    until: Option<Duration>,
}

/// All promises.
#[derive(Debug, Clone)]
pub(super) struct Pulses {
    promises: Arc<Mutex<Vec<Promise>>>,
    clock: Clock,
}

/// One task's promises.
#[derive(Debug, Clone)]
pub(super) struct Pulse {
    all: Pulses,
    index: usize,
}

impl Pulses {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            promises: Arc::default(),
            clock,
        }
    }

    pub(super) fn add(&self, task: &'static str) -> Pulse {
        let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        promises.push(Promise { task, until: None });
        Pulse {
            all: self.clone(),
            index: promises.len() - 1,
        }
    }

    /// The first task whose promise is broken.
    fn broken(&self, now: Duration) -> Option<&'static str> {
        let promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        promises
            .iter()
            .find(|p| p.until.is_some_and(|t| now > t))
            .map(|p| p.task)
    }

    /// Feeds the service manager until `stop`.
    pub(super) async fn watch(self, ladder: Ladder, stop: CancellationToken) {
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let every = sd_notify::watchdog_enabled().map_or(Duration::from_secs(60), |limit| limit / 3);
        let mut changes = ladder.watch();
        loop {
            let headline = ladder.headline();
            let _ = sd_notify::notify(&[NotifyState::Status(&headline)]);
            match self.broken(self.clock.monotonic()) {
                None => {
                    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
                }
                Some(task) => tracing::error!(
                    task,
                    "the task has made no decision within its promise: the watchdog is not fed"
                ),
            }
            tokio::select! {
                () = stop.cancelled() => break,
                _ = changes.changed() => {}
                () = tokio::time::sleep(every) => {}
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}

impl Pulse {
    /// This task decides something again within `wait` (plus the slack of this module).
    pub(super) fn promise(&self, wait: Duration) {
        let until = self.all.clock.monotonic().saturating_add(wait).saturating_add(SLACK);
        self.set(Some(until));
    }

    /// This task is over, or waits for something that needs no bound.
    pub(super) fn rest(&self) {
        self.set(None);
    }

    fn set(&self, until: Option<Duration>) {
        let mut promises = self.all.promises.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(promise) = promises.get_mut(self.index) {
            promise.until = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_named() {
        let pulses = Pulses::new(Clock::new());
        let a = pulses.add("a");
        let b = pulses.add("b");
        a.promise(Duration::from_secs(5));
        b.promise(Duration::from_secs(500));
        assert_eq!(pulses.broken(Duration::from_secs(30)), None);
        assert_eq!(pulses.broken(Duration::from_secs(60)), Some("a"));
        a.rest();
        assert_eq!(pulses.broken(Duration::from_secs(60)), None);
    }
}
