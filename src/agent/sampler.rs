//! Taking samples and putting them into the spool, online or not. What is measured before anybody confirms the time is noted in
//! [`super::retime`], which corrects it when it is sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dongle::View;
use super::retime::Retime;
use super::run::Counters;
use super::watchdog::Pulse;
use crate::clock::Clock;
use crate::telemetry::sample::Sample;
use crate::telemetry::sources::HostSource;
use crate::telemetry::spool::SpoolHandle;

/// Samples that cannot be stored are counted each, and spoken of once in so long.
const SAY_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Sampler {
    pub(super) interval: Duration,
    pub(super) disk: PathBuf,
    /// Take at most so many; `None` for ever.
    pub(super) limit: Option<u64>,
    pub(super) clock: Clock,
    pub(super) retime: Retime,
    pub(super) view: watch::Receiver<View>,
    pub(super) spool: SpoolHandle,
    pub(super) counters: Arc<Counters>,
    pub(super) pulse: Pulse,
    pub(super) stop: CancellationToken,
}

impl Sampler {
    pub(super) async fn run(self) {
        let mut host = HostSource::new("/".as_ref(), &self.disk);
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut taken = 0_u64;
        let mut said: Option<Duration> = None;
        while self.limit.is_none_or(|limit| taken < limit) {
            self.pulse.promise(self.interval);
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            // Reading /proc and /sys takes microseconds; a stuck disk is statvfs' affair, so it goes to a blocking thread.
            let reading = tokio::task::spawn_blocking(move || {
                let reading = host.read();
                (host, reading)
            });
            let Ok((returned, reading)) = reading.await else {
                tracing::error!("the host's measurements cannot be taken: their thread failed");
                break;
            };
            host = returned;
            let measured_at = self.clock.monotonic();
            let time = self.clock.now();
            let sample = Sample {
                time: time.map(|(t, _)| t),
                host: Some(reading),
                modem: self.view.borrow().reading.clone(),
            };
            let payloads = vec![sample.encode()];
            let stored = if time.is_some_and(|(_, source)| source.is_confirmed()) {
                self.spool.append(payloads).await.map(drop)
            } else {
                self.retime.append(&self.spool, payloads, measured_at).await
            };
            match stored {
                Ok(()) => {
                    taken += 1;
                    self.counters.accepted.fetch_add(1, Ordering::Relaxed);
                }
                Err(e) => {
                    let lost = self.counters.refused.fetch_add(1, Ordering::Relaxed) + 1;
                    let now = self.clock.monotonic();
                    if said.is_none_or(|last| now.saturating_sub(last) >= SAY_EVERY) {
                        said = Some(now);
                        tracing::error!(lost, "a sample could not be stored: {e}");
                    }
                }
            }
        }
        self.pulse.rest();
    }
}
