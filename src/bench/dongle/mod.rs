//! The simulated EG25-G: a dongle on a pseudo-terminal, for tests, the demo and trying things out.
//!
//! It is the agent's judge and shares nothing with it: every answer is written after Quectel's manual and logs of real dongles.
//!
//! - [`engine`]: bytes and time in, bytes out; no I/O. Its subjects: the line discipline (`line`, `command`, `reply`), general commands
//!   (`commands`), the card (`sim`), APDUs to it (`uicc`) and what it makes of them (`usim`), the network (`radio`), data contexts (`pdp`), time (`clock`), what is remembered (`state`).
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
mod uicc;
mod usim;

pub use config::Config;
pub use device::{Dongle, DongleError};
pub use pty::PortError;

use crate::bench::subscriber;
use identity::{Iccid, Imei, Imsi, Plmn};
use period::Period;
use scenario::{NetworkTime, Scenario};

/// What `onyx-bench dongle` takes. An option wins over the same thing in a scenario file.
#[derive(Debug, Default, clap::Args)]
#[command(after_long_help = scenario::HELP)]
pub struct Args {
    // Boxed to keep the program's enumeration of commands small.
    #[command(flatten)]
    options: Box<Options>,
}

#[derive(Debug, Default, clap::Args)]
struct Options {
    /// The subscriber's number (IMSI) [default: 295012345678901].
    #[arg(long, value_name = "DIGITS")]
    imsi: Option<Imsi>,
    #[command(flatten)]
    card: subscriber::CardOptions,
    /// The modem's number (IMEI) [default: 123456789011111].
    #[arg(long, value_name = "DIGITS")]
    imei: Option<Imei>,
    /// The card's number (ICCID) [default: 8942310022000012345F].
    #[arg(long, value_name = "DIGITS")]
    iccid: Option<Iccid>,
    /// The network's name [default: NTT DOCOMO].
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// The network's code (PLMN) [default: 44010].
    #[arg(long, value_name = "DIGITS")]
    plmn: Option<Plmn>,
    /// Signal strength (RSRP) in dBm [default: -95].
    #[arg(long, value_name = "DBM", allow_negative_numbers = true)]
    rsrp: Option<i16>,
    /// The firmware's name [default: EG25GGBR07A08M2G].
    #[arg(long, value_name = "NAME")]
    firmware: Option<String>,
    /// Power-on to the first sign of life [default: 300ms].
    #[arg(long, value_name = "TIME")]
    boot_time: Option<Period>,
    /// The card is busy for this long after power-on [default: 1s].
    #[arg(long, value_name = "TIME")]
    sim_ready_after: Option<Period>,
    /// The search for a network takes this long once the card is ready [default: 2s].
    #[arg(long, value_name = "TIME")]
    register_after: Option<Period>,
    /// The time the network tells: `host`, `none`, or the time at power-on (RFC 3339) [default: host].
    #[arg(long, value_name = "TIME")]
    network_time: Option<NetworkTime>,
    /// A symbolic link to the pseudo-terminal; removed at the end.
    #[arg(long, value_name = "PATH")]
    link: Option<PathBuf>,
    /// A scenario (TOML): what goes wrong, and when; `--help` describes it. The other options win over it.
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
        let options = self.options;
        let mut scenario = match &options.scenario {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the scenario {}", path.display()))?;
                Scenario::parse(&text).with_context(|| format!("in {}", path.display()))?
            }
            None => Scenario::default(),
        };
        set(&mut scenario.boot_time, options.boot_time);
        set(&mut scenario.sim.ready_after, options.sim_ready_after);
        set(&mut scenario.network.register_after, options.register_after);
        set(&mut scenario.network.rsrp, options.rsrp);
        set(&mut scenario.network.time, options.network_time);
        let default = Config::default();
        let sims = options.card.sims()?;
        let sim = match <[_; 1]>::try_from(sims) {
            Ok([sim]) => sim,
            Err(sims) => anyhow::bail!("a dongle has one card: give --sim once, not {} times", sims.len()),
        };
        let of_file = match &sim.imsi {
            Some(imsi) => Some(imsi.as_str().parse().context("the SIM file's IMSI")?),
            None => None,
        };
        Ok(Config {
            imsi: options.imsi.or(of_file).unwrap_or_default(),
            sim,
            imei: options.imei.unwrap_or_default(),
            iccid: options.iccid.unwrap_or_default(),
            operator: options.operator.unwrap_or(default.operator),
            plmn: options.plmn.unwrap_or_default(),
            firmware: options.firmware.unwrap_or(default.firmware),
            scenario,
            link: options.link,
            log: options.log,
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
    let json = args.options.json;
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
