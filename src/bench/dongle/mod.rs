//! The simulated EG25-G: a dongle on a pseudo-terminal, for tests, the demo and trying things out.
//!
//! It is the agent's judge and shares nothing with it: every answer is written after Quectel's manual and logs of real dongles.
//!
//! - [`engine`]: bytes and time in, bytes out; no I/O. Its subjects: the line discipline (`line`, `command`, `reply`), general commands
//!   (`commands`), the card (`sim`), the network (`radio`), data contexts (`pdp`), time (`clock`), what is remembered (`state`).
//! - [`scenario`]: what goes wrong and when; its format is in [`scenario::HELP`].
//! - `pty` and [`device`]: the port, and the task that puts engine and port together.
//!
//! In a test:
//!
//! ```no_run
//! # async fn test() -> Result<(), Box<dyn std::error::Error>> {
//! use onyx::bench::dongle::{Config, Dongle, scenario::{Event, Scenario}};
//!
//! let scenario = Scenario::parse("[sim]\nready_after = '0s'")?;
//! let dongle = Dongle::start(Config { scenario, ..Config::default() })?;
//! println!("talk to {:?}", dongle.path());
//! dongle.inject(Event::LoseNetwork(None)).await?;
//! dongle.stop().await?;
//! # Ok(())
//! # }
//! ```

use std::path::PathBuf;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

mod clock;
mod command;
mod commands;
mod config;
pub mod device;
pub mod engine;
mod faults;
pub mod identity;
mod line;
mod pdp;
pub mod period;
mod pty;
mod radio;
mod reply;
pub mod scenario;
mod sim;
mod state;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use device::{Dongle, DongleError};
pub use pty::PortError;

use identity::{Iccid, Imei, Imsi, Plmn};
use period::Period;
use scenario::{NetworkTime, Scenario};

/// What `onyx-bench dongle` takes. An option wins over the same thing in a scenario file.
#[derive(Debug, Default, clap::Args)]
#[command(after_long_help = scenario::HELP)]
pub struct Args {
    /// The subscriber's number.
    #[arg(long, value_name = "DIGITS")]
    imsi: Option<Imsi>,
    /// The modem's number.
    #[arg(long, value_name = "DIGITS")]
    imei: Option<Imei>,
    /// The card's number.
    #[arg(long, value_name = "DIGITS")]
    iccid: Option<Iccid>,
    /// The network's name.
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// The network's code.
    #[arg(long, value_name = "DIGITS")]
    plmn: Option<Plmn>,
    /// Signal strength (RSRP) in dBm.
    #[arg(long, value_name = "DBM", allow_negative_numbers = true)]
    rsrp: Option<i16>,
    /// The firmware's name.
    #[arg(long, value_name = "NAME")]
    firmware: Option<String>,
    /// Power-on to the first sign of life, such as 300ms.
    #[arg(long, value_name = "TIME")]
    boot_time: Option<Period>,
    /// The card is busy for this long after power-on.
    #[arg(long, value_name = "TIME")]
    sim_ready_after: Option<Period>,
    /// The search for a network takes this long once the card is ready.
    #[arg(long, value_name = "TIME")]
    register_after: Option<Period>,
    /// The time the network tells: `host`, `none`, or the time at power-on (RFC 3339).
    #[arg(long, value_name = "TIME")]
    network_time: Option<NetworkTime>,
    /// A symbolic link to the pseudo-terminal; removed at the end.
    #[arg(long, value_name = "PATH")]
    link: Option<PathBuf>,
    /// A scenario (TOML): what goes wrong, and when. `--help` describes it.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Write every command and its answer to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Tell the port as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The dongle these options describe.
    ///
    /// # Errors
    /// When the scenario cannot be read or means nothing.
    pub fn config(self) -> anyhow::Result<Config> {
        let mut scenario = match &self.scenario {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the scenario {}", path.display()))?;
                Scenario::parse(&text).with_context(|| format!("in {}", path.display()))?
            }
            None => Scenario::default(),
        };
        set(&mut scenario.boot_time, self.boot_time);
        set(&mut scenario.sim.ready_after, self.sim_ready_after);
        set(&mut scenario.network.register_after, self.register_after);
        set(&mut scenario.network.rsrp, self.rsrp);
        set(&mut scenario.network.time, self.network_time);
        let default = Config::default();
        Ok(Config {
            imsi: self.imsi.unwrap_or_default(),
            imei: self.imei.unwrap_or_default(),
            iccid: self.iccid.unwrap_or_default(),
            operator: self.operator.unwrap_or(default.operator),
            plmn: self.plmn.unwrap_or_default(),
            firmware: self.firmware.unwrap_or(default.firmware),
            scenario,
            link: self.link,
            log: self.log,
        })
    }
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

#[derive(serde::Serialize)]
struct Ready {
    event: &'static str,
    /// What to open: the link if there is one.
    path: PathBuf,
    imsi: String,
    imei: String,
    iccid: String,
}

/// Runs the simulated dongle until it is told to stop (SIGTERM, SIGINT).
///
/// # Errors
/// When it cannot start, or its port or log fails.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let json = args.json;
    let config = args.config()?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let (imsi, imei, iccid) = (
        config.imsi.to_string(),
        config.imei.to_string(),
        config.iccid.to_string(),
    );
    let mut dongle = Dongle::start(config)?;
    let path = dongle
        .link()
        .map(PathBuf::from)
        .or_else(|| dongle.path())
        .context("the dongle has no port")?;
    if json {
        println!(
            "{}",
            serde_json::to_string(&Ready {
                event: "ready",
                path,
                imsi,
                imei,
                iccid
            })?
        );
    } else {
        println!("dongle ready: {}", path.display());
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = dongle.ended() => return Ok(ended?),
    }
    Ok(dongle.stop().await?)
}
