//! Messages: as many as a window of unacknowledged ones lets through, or so many a second, and what a stall of upstream does to them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ArgGroup;
use futures_util::future::try_join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::device::{Device, Run, STAMP};
use super::ledger::{Ledger, Phase};
use super::listener::Listener;
use super::names::DEVICES_MAX;
use super::watch::{Watch, Watched};

/// Publishing goes on for so long before anything counts: buffers and caches have their size then.
const WARM_UP: Duration = Duration::from_millis(500);
/// An open loop sends what is due at each tick.
const TICK: Duration = Duration::from_millis(1);
/// How often memory is looked at when upstream stalls.
const LOOK: Duration = Duration::from_millis(50);
/// At the end, nothing more is expected when nothing came for so long, or when it took so long in all.
const QUIET: Duration = Duration::from_secs(2);
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// What `onyx-bench load flow` takes.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("loop").required(true).args(["window", "rate"])))]
pub(super) struct Args {
    /// Where devices connect
    #[arg(long)]
    to: SocketAddr,
    /// Where the listener connects: upstream's plain MQTT door
    #[arg(long)]
    listen: SocketAddr,
    /// How many devices
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    devices: u32,
    /// Closed loop: each device has so many messages without PUBACK under way
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    window: Option<u16>,
    /// Open loop: so many messages a second, all devices together
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Seconds that are measured
    #[arg(long, default_value_t = 3.5)]
    seconds: f64,
    /// Bytes of payload
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(STAMP as i64..=65_536))]
    payload: u32,
    /// Processes whose CPU time is measured: NAME=PID or NAME=PID+PID
    #[arg(long, value_name = "NAME=PID")]
    watch: Vec<Watched>,
    /// Stop this process (SIGSTOP) one second after measuring begins
    #[arg(long, value_name = "PID", requires = "rate")]
    stall: Option<i32>,
    /// Seconds after which it goes on (SIGCONT)
    #[arg(long, default_value_t = 5.0)]
    stall_for: f64,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<Value> {
    let run = Rc::new(Run {
        ledger: RefCell::new(Ledger::new(usize::try_from(args.devices)?)),
        began: Instant::now(),
        payload: usize::try_from(args.payload)?,
        window: args.window.map(usize::from),
    });
    let listener = Listener::open(args.listen).await?;
    let devices = try_join_all((0..args.devices).map(|n| Device::open(n, args.to, run.clone()))).await?;
    let devices: Rc<[Device]> = devices.into();
    let mut tasks = JoinSet::new();
    tasks.spawn_local(listener.serve(run.clone()));
    for at in 0..devices.len() {
        let devices = devices.clone();
        tasks.spawn_local(async move { devices.get(at).context("a device")?.serve().await });
    }
    if let Some(rate) = args.rate {
        tasks.spawn_local(pace(devices.clone(), run.clone(), rate));
    }
    tokio::select! {
        ended = tasks.join_next() => match ended.context("no task")?? {
            Err(e) => Err(e),
            Ok(never) => match never {},
        },
        result = measure(args, &run) => result,
    }
}

/// Sends at a rate, spread over the devices one after another; a tick that came late sends what was due.
async fn pace(devices: Rc<[Device]>, run: Rc<Run>, rate: u32) -> anyhow::Result<std::convert::Infallible> {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let began = Instant::now();
    let mut sent = 0_u64;
    let mut turn = devices.iter().cycle();
    loop {
        tick.tick().await;
        if run.ledger.borrow().phase == Phase::Drain {
            return std::future::pending().await;
        }
        let due = u64::try_from(began.elapsed().as_micros())? * u64::from(rate) / 1_000_000;
        for _ in sent..due {
            turn.next().context("no device")?.publish()?;
        }
        sent = due;
    }
}

async fn measure(args: &Args, run: &Run) -> anyhow::Result<Value> {
    let watch = Watch(args.watch.clone());
    let seconds = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    tokio::time::sleep(WARM_UP).await;
    let from = watch.mark()?;
    run.ledger.borrow_mut().measure(run.now());
    let end = Instant::now() + seconds;
    let stall = match args.stall {
        Some(pid) => Some(stall(args, pid, &watch, end).await?),
        None => None,
    };
    sleep_until(end).await;
    run.ledger.borrow_mut().phase = Phase::Drain;
    let passed = watch.between(&from, &watch.mark()?);
    let drained = drain(run).await;
    let mut ledger = run.ledger.borrow_mut();
    let measured = passed["seconds"].as_f64().context("seconds")?;
    Ok(
        json!({"flow": ledger.result(measured), "machine": passed, "stall": stall, "drain_seconds": drained.as_secs_f64()}),
    )
}

/// Waits until all that was sent has been acknowledged and has arrived, or nothing comes any more.
async fn drain(run: &Run) -> Duration {
    let began = Instant::now();
    let count = || {
        let l = run.ledger.borrow();
        (l.sent, l.acks, l.arrivals)
    };
    let mut last = (count(), began);
    let mut look = interval(Duration::from_millis(10));
    loop {
        look.tick().await;
        let now = count();
        if now != last.0 {
            last = (now, Instant::now());
        }
        let all = now.0 == now.1 && now.0 == now.2;
        if all || last.1.elapsed() > QUIET || began.elapsed() > DRAIN_LIMIT {
            return began.elapsed();
        }
    }
}

/// A stopped process that goes on when this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: Pid) -> anyhow::Result<Self> {
        kill(pid, Signal::SIGSTOP).with_context(|| format!("cannot stop {pid}"))?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It has ended, or it goes on.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// Stops upstream for a while; memory is looked at until the measurement's end.
async fn stall(args: &Args, pid: i32, watch: &Watch, end: Instant) -> anyhow::Result<Value> {
    let length = Duration::try_from_secs_f64(args.stall_for).context("--stall-for")?;
    let begin = Instant::now() + Duration::from_secs(1);
    if begin + length >= end {
        bail!("--seconds must be over --stall-for and one second");
    }
    sleep_until(begin).await;
    let before = watch.rss()?;
    let mut stopped = Some(Stopped::new(Pid::from_raw(pid))?);
    let mut most = watch.0.iter().map(Watched::rss).collect::<Result<Vec<_>, _>>()?;
    let mut look = interval(LOOK);
    while Instant::now() < end {
        look.tick().await;
        for (most, watched) in most.iter_mut().zip(&watch.0) {
            *most = watched.rss()?.max(*most);
        }
        if begin.elapsed() >= length {
            stopped = None;
        }
    }
    drop(stopped);
    let most: Vec<_> = watch
        .rss()?
        .as_object()
        .into_iter()
        .flatten()
        .zip(most)
        .map(|((name, _), n)| (name.clone(), n.into()))
        .collect();
    let most: serde_json::Map<String, Value> = most.into_iter().collect();
    Ok(json!({"seconds": length.as_secs_f64(), "rss_before": before, "rss_most": most}))
}
