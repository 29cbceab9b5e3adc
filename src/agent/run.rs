//! `onyx-agent run`: starts the tasks, answers `status`, and ends in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dongle::{Dongle, View};
use super::ground::Ground;
use super::keeper;
use super::ladder::Ladder;
use super::retime::Retime;
use super::sampler::Sampler;
use super::timekeeper::{self, Timekeeper};
use super::uplink::{Kept, Uplink};
use super::watchdog::Pulses;
use crate::clock::{Clock, rfc3339};
use crate::config::agent::AgentConfig;
use crate::control::StatusSocket;
use crate::link::External;
use crate::modem::usim::SimDoor;
use crate::telemetry::spool::SpoolHandle;
use crate::telemetry::spool::{Options, Spool, Stats, SyncPolicy};

/// How long the tasks may take to end after a stop.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// How often the spool's figures in `status` are refreshed.
const STATS_EVERY: Duration = Duration::from_secs(1);
/// Largest record in the spool, in bytes: the largest message of the strictest cloud.
const RECORD_MAX: usize = 128 * 1024;
/// Segments of the spool: it drops and deletes in steps of its size divided by this.
const SPOOL_SEGMENTS: u64 = 32;

/// What is counted, for `status` and `--exit-after`.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Samples put into the spool.
    pub(super) accepted: AtomicU64,
    /// Samples the spool did not take.
    pub(super) refused: AtomicU64,
    /// Samples acknowledged by the broker.
    pub(super) acknowledged: AtomicU64,
    /// Samples that no broker would take.
    pub(super) set_aside: AtomicU64,
    /// Monotonic second of the last acknowledgement.
    pub(super) last_acknowledged: AtomicU64,
    /// Stop after so many acknowledgements.
    pub(super) exit_after: Option<u64>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Samples put into the spool by this run.
    pub accepted: u64,
    /// Samples acknowledged in this run.
    pub acknowledged: u64,
}

/// Runs until SIGTERM or SIGINT, or until `exit_after` samples are acknowledged.
///
/// # Errors
/// When it cannot start (state directory, status socket) or does not end in time.
pub async fn run(config: AgentConfig, exit_after: Option<u64>) -> anyhow::Result<Outcome> {
    let signals = Signals::catch().context("signals cannot be caught")?;
    let clock = Clock::new();
    let config = Arc::new(config);
    timekeeper::prepare(&config, &clock);
    let spool = open_spool(&config, &clock)?;
    let retime = Retime::new(clock.clone());
    let socket = StatusSocket::bind(&config.status_socket).with_context(|| {
        format!(
            "cannot answer 'status' on {}: set status_socket",
            config.status_socket.display()
        )
    })?;
    let ladder = Ladder::new(clock.clone());
    let stop = CancellationToken::new();
    let spool_gone = CancellationToken::new();
    let pulses = Pulses::new(clock.clone());
    let counters = Arc::new(Counters {
        exit_after,
        ..Counters::default()
    });
    let (view_out, view) = watch::channel(View::default());
    let (stats_out, stats) = watch::channel(None);
    let (credentials_out, credentials) = watch::channel(keeper::View::nothing(config.credentials.source()));

    let (sim, asks) = SimDoor::new();
    let dongle = Dongle {
        config: config.clone(),
        ladder: ladder.clone(),
        clock: clock.clone(),
        view: view_out,
        pulse: pulses.add("dongle"),
        stop: stop.clone(),
        asks,
    };
    let sampler = Sampler {
        interval: config.delivery.interval,
        disk: config.delivery.disk.clone(),
        limit: exit_after,
        clock: clock.clone(),
        view: view.clone(),
        retime: retime.clone(),
        spool: spool.clone(),
        counters: counters.clone(),
        pulse: pulses.add("sampler"),
        stop: stop.clone(),
    };
    let uplink = Uplink {
        ground: Ground::new(
            config.clone(),
            ladder.clone(),
            clock.clone(),
            pulses.add("uplink"),
            Box::new(External::new(config.link.interface.clone())),
            sim,
            credentials_out,
        ),
        view: view.clone(),
        spool: spool.clone(),
        retime,
        counters: counters.clone(),
        stop: stop.clone(),
        kept: Kept::default(),
    };
    let status = Status {
        config: config.clone(),
        ladder: ladder.clone(),
        clock: clock.clone(),
        view,
        stats,
        credentials,
        counters: counters.clone(),
        started: clock.now().map(|(t, _)| t),
    };

    let timekeeper = Timekeeper::new(&config, clock.clone(), ladder.clone(), stop.clone());

    let background = [
        tokio::spawn(signals.stop(stop.clone())),
        tokio::spawn(watch_directory(
            spool_directory(&config),
            spool_gone.clone(),
            stop.clone(),
        )),
        tokio::spawn(refresh_stats(spool.clone(), stats_out, stop.clone())),
        tokio::spawn(socket.serve(move || status.to_json())),
    ];
    let watch = tokio::spawn(pulses.watch(ladder, stop.clone()));
    let tasks = [
        tokio::spawn(dongle.run()),
        tokio::spawn(sampler.run()),
        tokio::spawn(uplink.run()),
        tokio::spawn(timekeeper.run()),
    ];
    tracing::info!(version = env!("CARGO_PKG_VERSION"), state = %config.state_dir.display(), "onyx-agent runs");

    stop.cancelled().await;
    let ended = tokio::time::timeout(STOP_WITHIN, async {
        for task in tasks {
            let _ = task.await;
        }
        let _ = watch.await;
        spool.close().await
    })
    .await;
    for task in background {
        task.abort();
        let _ = task.await; // the status socket's file goes with its task
    }
    match ended {
        Ok(closed) => closed.context("the spool was not closed in order; what it holds is safe")?,
        Err(_) => anyhow::bail!(
            "the tasks did not end within {} s of the stop; what the spool holds is safe",
            STOP_WITHIN.as_secs()
        ),
    }
    anyhow::ensure!(
        !spool_gone.is_cancelled(),
        "the spool directory {} was removed while it was in use: the samples that waited there are lost; it is made anew at the next start",
        spool_directory(&config).display()
    );
    let outcome = Outcome {
        accepted: counters.accepted.load(Ordering::Relaxed),
        acknowledged: counters.acknowledged.load(Ordering::Relaxed),
    };
    tracing::info!(
        accepted = outcome.accepted,
        acknowledged = outcome.acknowledged,
        "onyx-agent ends"
    );
    Ok(outcome)
}

fn spool_directory(config: &AgentConfig) -> PathBuf {
    config.state_dir.join("spool")
}

fn open_spool(config: &AgentConfig, clock: &Clock) -> anyhow::Result<SpoolHandle> {
    use std::os::unix::fs::DirBuilderExt;
    let state = &config.state_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .with_context(|| {
            format!(
                "cannot make the state directory {}: set state_dir, or its owner",
                state.display()
            )
        })?;
    let options = Options {
        max_bytes: config.delivery.spool_max,
        segment_bytes: (config.delivery.spool_max / SPOOL_SEGMENTS).clamp(256 * 1024, 16 << 20),
        record_max: RECORD_MAX,
        sync: if config.delivery.sync.is_zero() {
            SyncPolicy::EachAppend
        } else {
            SyncPolicy::Interval(config.delivery.sync)
        },
        ..Options::default()
    };
    let spool = Spool::open(&spool_directory(config), options)?;
    let stats = spool.stats();
    if stats.waiting > 0 {
        tracing::info!(samples = stats.waiting, "samples from before wait in the spool");
    }
    if stats.damaged_segments > 0 || stats.torn_bytes > 0 {
        tracing::warn!(
            damaged_segments = stats.damaged_segments,
            torn_bytes = stats.torn_bytes,
            lost = stats.lost,
            "the spool was damaged, probably by a power cut; what is readable is delivered"
        );
    }
    Ok(SpoolHandle::start(spool, clock.clone())?)
}

/// The signals that end the agent in order. Caught before anything is made that an end must clean up.
struct Signals {
    term: Signal,
    int: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn stop(mut self, stop: CancellationToken) {
        let name = tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        };
        tracing::info!("{name}: stopping");
        stop.cancel();
    }
}

/// Whoever deletes the spool's directory under a running agent leaves it writing into files without a name: better to end, say so, and
/// be started anew.
async fn watch_directory(directory: PathBuf, gone: CancellationToken, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(STATS_EVERY) => {}
        }
        if matches!(tokio::fs::try_exists(&directory).await, Ok(false)) {
            gone.cancel();
            stop.cancel();
            return;
        }
    }
}

async fn refresh_stats(spool: SpoolHandle, out: watch::Sender<Option<Stats>>, stop: CancellationToken) {
    while let Ok(stats) = spool.stats().await {
        out.send_replace(Some(stats));
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(STATS_EVERY) => {}
        }
    }
}

/// What `status` answers.
struct Status {
    config: Arc<AgentConfig>,
    ladder: Ladder,
    clock: Clock,
    view: watch::Receiver<View>,
    stats: watch::Receiver<Option<Stats>>,
    credentials: watch::Receiver<keeper::View>,
    counters: Arc<Counters>,
    started: Option<Duration>,
}

impl Status {
    fn to_json(&self) -> Value {
        let view = self.view.borrow();
        let open = self.config.log.identities;
        let shown = |full: String, redacted: String| if open { full } else { redacted };
        let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let acknowledged = count(&self.counters.acknowledged);
        json!({
            "program": "onyx-agent",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "started": self.started.map(rfc3339),
            "running_s": self.clock.monotonic().as_secs(),
            "time": self.clock.now().map(|(t, _)| rfc3339(t)),
            "clock": timekeeper::to_json(&self.clock.view()),
            "imsi": view.subscriber.as_ref().map(|s| shown(s.imsi.to_string(), s.imsi.redacted())),
            "imei": view.subscriber.as_ref().and_then(|s| s.imei.as_ref()).map(|i| shown(i.to_string(), i.redacted())),
            "to": self.config.session.to.to_string(),
            "ladder": self.ladder.to_json(),
            "signal": view.reading,
            "credentials": *self.credentials.borrow(),
            "delivery": {
                "accepted": count(&self.counters.accepted),
                "acknowledged": acknowledged,
                "set_aside": count(&self.counters.set_aside),
                "not_stored": count(&self.counters.refused),
                "last_acknowledged_s_ago": (acknowledged > 0).then(|| {
                    self.clock.monotonic().as_secs().saturating_sub(count(&self.counters.last_acknowledged))
                }),
                "spool": *self.stats.borrow(),
            },
        })
    }
}
