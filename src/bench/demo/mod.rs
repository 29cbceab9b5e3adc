//! The demo: the whole product on one machine in one go, without root, network, SIM or account.
//!
//! The simulated dongle and clouds run in this process; `onyx-agent` and `onyx-gateway` are the real programs, started as a user would
//! start them, with configuration files that can be kept. Two ways are shown: directly (credentials from Krypton, then mTLS to the IoT
//! Hub stand-in) and through the gateway (plain MQTT to `onyx-gateway`, which adds the SIM's certificate and connects to the Event
//! Grid stand-in).
//!
//! - [`files`]: the configuration it writes; [`programs`]: finding or building the programs, starting and watching them;
//! - [`screen`]: the ladder before the user's eyes; [`ledger`]: what was acknowledged against what arrived.

mod files;
mod ledger;
mod programs;
mod screen;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use self::files::Files;
use self::ledger::Ledger;
use self::programs::{AgentRun, Programs};
use self::screen::Screen;
use super::clouds::{self, Cloud, Clouds};
use super::dongle::{self, Dongle};
use crate::clock::Clock;

/// Samples for each way.
pub const SAMPLES: u64 = 10;

/// What `onyx-bench demo` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// JSON lines instead of text; the last one is the result
    #[arg(long)]
    json: bool,
    /// Keep configuration, keys, logs and what the clouds received in this directory
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
    /// Leave dongle, clouds and gateway running afterwards, until Ctrl-C, to go on by hand
    #[arg(long, requires = "keep")]
    stay: bool,
    /// The agent to run instead of the one beside this program
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// The gateway to run instead of the one beside this program
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// A command that runs the agent, split at spaces, for one built for another machine: "qemu-arm-static -L /usr/arm-linux-gnueabihf"
    #[arg(long, value_name = "COMMAND", default_value = "")]
    agent_runner: String,
    /// Seconds that each way may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    timeout: u64,
}

/// Runs the demo; an error is its failure. A signal ends it, and the programs that it started with it.
///
/// # Errors
/// When a program cannot be started, not every sample arrived, or a signal came before the end.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let shown = Cell::new(false);
    tokio::select! {
        result = show(args, &shown) => result,
        _ = tokio::signal::ctrl_c() => ended(shown.get()),
        _ = terminated.recv() => ended(shown.get()),
    }
}

/// After the result a signal is the way to end `--stay`; before it the demo has failed.
fn ended(shown: bool) -> anyhow::Result<()> {
    anyhow::ensure!(shown, "stopped before the end");
    Ok(())
}

async fn show(args: Args, shown: &Cell<bool>) -> anyhow::Result<()> {
    let clock = Clock::new();
    let scratch; // removed when it goes out of scope
    let directory: &Path = match &args.keep {
        Some(directory) => directory,
        None => {
            scratch = Scratch::new()?;
            &scratch.0
        }
    };
    let directory = std::path::absolute(directory)?;
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut screen = Screen::new(args.json, &clock);

    screen.say("looking for onyx-agent and onyx-gateway");
    let programs = Programs::find(&args.agent, &args.gateway, &args.agent_runner, &mut screen).await?;

    let files = Files::new(&directory);
    std::fs::create_dir_all(files.logs())?;
    let dongle = Dongle::start(dongle::Config {
        link: Some(files.port()),
        log: Some(files.logs().join("dongle.jsonl")),
        ..dongle::Config::default()
    })?;
    screen.say(&format!("a simulated EG25-G is at {}", files.port().display()));
    let auth_name = format!("myClient-{}", dongle::Config::default().imsi);
    let clouds = Clouds::start(clouds::Config {
        subscribers: clouds::Subscribers::everybody(dongle::Config::default().imsi.to_string().parse()?),
        assigning_polls: 2,
        devices: vec![auth_name.clone()],
        ..clouds::Config::new(files.clouds())
    })
    .await?;
    screen.say("stand-ins for Krypton, IoT Hub, Event Grid and AWS IoT Core listen on this machine");

    let within = Duration::from_secs(args.timeout);
    let mut ledger = Ledger::new(&clouds);

    files.write_direct(&clouds)?;
    screen.way(
        "direct",
        "Krypton gives the credentials, then mTLS to the IoT Hub stand-in",
    );
    let direct = programs
        .run_agent(&files.direct(), &files.log("direct"), SAMPLES, within, &mut screen)
        .await;
    screen.way_ends();
    let direct = direct.with_context(|| "the direct way failed")?;
    ledger.close("direct", Cloud::IotHub, &direct).await;

    files.write_gateway(&clouds, &auth_name)?;
    let gateway = programs
        .start_gateway(&files.gateway_config(), &files.log("onyx-gateway"), within)
        .await?;
    files.write_through(gateway.address)?;
    screen.way(
        "gateway",
        &format!(
            "plain MQTT to onyx-gateway at {}, which adds the certificate, to the Event Grid stand-in",
            gateway.address
        ),
    );
    let through = programs
        .run_agent(&files.through(), &files.log("gateway"), SAMPLES, within, &mut screen)
        .await;
    screen.way_ends();
    let through = through.with_context(|| "the way through the gateway failed")?;
    ledger.close("gateway", Cloud::EventGrid, &through).await;

    for message in ledger.messages() {
        screen.message(message);
    }
    figures(&mut screen, &programs, &direct, &through, &clock);
    if let Some(directory) = &args.keep {
        screen.say(&format!("kept: {}", directory.display()));
        screen.hints(&files, &clouds, gateway.address, args.stay);
    }
    if args.stay {
        screen.say("everything stays up until Ctrl-C");
    }
    screen.result(&ledger);
    shown.set(ledger.is_complete());
    anyhow::ensure!(
        ledger.is_complete(),
        "not every sample arrived; the logs are in {}",
        files.logs().display()
    );
    if args.stay {
        return std::future::pending().await;
    }
    gateway.stop().await;
    dongle.stop().await?;
    clouds.stop().await;
    Ok(())
}

fn figures(screen: &mut Screen, programs: &Programs, direct: &AgentRun, through: &AgentRun, clock: &Clock) {
    let rss = direct.rss_kib.max(through.rss_kib);
    screen.figures(&json!({
        "seconds": clock.monotonic().as_secs_f64(),
        "direct_seconds": direct.took.as_secs_f64(),
        "gateway_seconds": through.took.as_secs_f64(),
        // Under an emulator the figure is the emulator's.
        "agent_peak_rss_kib": (!programs.is_emulated()).then_some(rss),
    }));
}

/// A directory that goes away with the demo.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("onyx-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
