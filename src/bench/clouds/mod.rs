//! The simulated clouds: SORACOM Krypton's cellular door, and MQTT endpoints that behave as Azure Event Grid, Azure IoT Hub and AWS IoT
//! Core do, with required client certificates.
//!
//! | file | what it is |
//! |---|---|
//! | [`policy`] | the rule books, one file a cloud; every rule with its source |
//! | [`broker`], [`topic`] | one broker core for all, no I/O |
//! | [`backend`] | what a cloud does beyond passing messages on, no I/O |
//! | [`iot_hub`] | the hub's registry, twins, methods and messages to devices |
//! | [`monitor`] | what arrives at the hub, printed |
//! | [`chain`] | from a client's certificate to a registered authority |
//! | [`dps`] | what the device provisioning service knows and answers; its HTTPS |
//! | `wire`, `connection`, `endpoint` | bytes of a connection; what a device does on it; a stand-in's listener |
//! | `krypton`, `subscribers`, `door` | what Krypton answers; who is calling; its HTTPS |
//! | [`fault`] | misbehaviour on demand |
//! | [`journal`] | events, and accepted messages as `messages.jsonl` |
//! | [`authority`] | the certificate authority kept in the directory |
//! | [`stand_in`], [`service`] | configuration; all of it together as [`Clouds`] |
//!
//! A refusal always names the rule that was broken and looks to the device as the real cloud's would.

pub mod authority;
pub mod backend;
pub mod broker;
pub mod chain;
mod connection;
mod door;
pub mod dps;
mod endpoint;
pub mod fault;
pub mod iot_hub;
pub mod journal;
mod krypton;
pub mod monitor;
pub mod policy;
pub mod service;
pub mod stand_in;
mod subscribers;
pub mod topic;
mod wire;

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;

pub use dps::Dps;
pub use fault::{KryptonFault, Limited, MqttFault};
pub use journal::{Event, Message, Payload, What};
pub use service::{Clouds, StartError};
pub use stand_in::{Cloud, Config, Hosts, Protocol, StandIn};
pub use subscribers::{DEFAULT_IMSI, Subscribers};

use self::dps::registration::Setup;
use crate::config::units;

/// What `onyx-bench clouds` takes.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Box<Options>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print messages that arrive at the IoT Hub stand-in, as `az iot hub monitor-events` does
    Monitor(monitor::Args),
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Where ca.pem, clouds.json, messages.jsonl and devices/ are written; an authority from an earlier run is taken up.
    #[arg(long, value_name = "DIRECTORY", required = true)]
    dir: Option<PathBuf>,
    /// Address to listen on: any of 127.0.0.0/8.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Listen on an address that others can reach.
    #[arg(long)]
    allow_non_loopback: bool,
    /// The real ports (8036, 8883, 443), with the MQTT stand-ins on addresses in a row; otherwise free ports, see clouds.json.
    #[arg(long)]
    standard_ports: bool,
    /// Write credentials for a device of this name into devices/; may be repeated.
    #[arg(long, value_name = "NAME")]
    device: Vec<String>,
    /// The SIM that Krypton takes every caller for.
    #[arg(long, value_name = "IMSI", conflicts_with = "subscriber")]
    imsi: Option<String>,
    /// The SIM behind a source address (without one: everybody else); may be repeated. Callers without SIM are refused.
    #[arg(long, value_name = "IMSI[@ADDRESS]")]
    subscriber: Vec<String>,
    /// Azure device ids that Krypton gives.
    #[arg(long, value_name = "PATTERN", default_value = "myDevice-$imsi")]
    device_id_pattern: String,
    /// AWS thing names that Krypton gives.
    #[arg(long, value_name = "PATTERN", default_value = "myThing-$imsi")]
    thing_name_pattern: String,
    /// How many status requests Krypton answers "assigning".
    #[arg(long, value_name = "N", default_value_t = 0)]
    assigning_polls: u32,
    /// For how long Krypton answers "assigning", e.g. 3s.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = units::duration)]
    assigning_for: Duration,
    /// A template of Event Grid's topic space, with + # ${client.authenticationName}; may be repeated.
    #[arg(long, value_name = "TEMPLATE", default_value = "exampletopics/#")]
    topic_template: Vec<String>,
    /// Topics that the AWS policy allows; may be repeated.
    #[arg(long, value_name = "FILTER", default_value = "#")]
    aws_topic: Vec<String>,
    /// Krypton's host name.
    #[arg(long, value_name = "NAME", default_value_t = Hosts::default().krypton)]
    krypton_host: String,
    /// The Event Grid namespace's MQTT host name.
    #[arg(long, value_name = "NAME", default_value_t = Hosts::default().event_grid)]
    event_grid_host: String,
    /// The IoT hub's host name.
    #[arg(long, value_name = "NAME", default_value_t = Hosts::default().iot_hub)]
    iot_hub_host: String,
    /// The AWS IoT Core endpoint's host name.
    #[arg(long, value_name = "NAME", default_value_t = Hosts::default().aws_iot)]
    aws_iot_host: String,
    /// Misbehave: http-403, http-404, http-500, html, truncated, empty, slow, wrong-key, expired, garbage-cert, never-assigned, failed;
    /// KIND*N does so N times.
    #[arg(long, value_name = "KIND[*N]")]
    krypton_fault: Option<Limited<KryptonFault>>,
    /// Misbehave: refuse-5, refuse-3, close-after-connack, no-puback, cut-after-N; on all MQTT stand-ins or on one; may be repeated.
    #[arg(long, value_name = "[CLOUD:]KIND[*N]")]
    mqtt_fault: Vec<String>,
    /// The IoT hub knows registered devices only; otherwise every certificate of the authority makes its device known.
    #[arg(long)]
    hub_closed: bool,
    /// The device provisioning service's global endpoint.
    #[arg(long, value_name = "NAME", default_value_t = Hosts::default().dps)]
    dps_host: String,
    /// The device provisioning service's id scope.
    #[arg(long, value_name = "SCOPE", default_value_t = Setup::default().id_scope)]
    dps_id_scope: String,
    /// How many status requests the device provisioning service answers "assigning".
    #[arg(long, value_name = "N", default_value_t = Setup::default().assigning_polls)]
    dps_assigning_polls: u32,
    /// For how long the device provisioning service answers "assigning", e.g. 3s.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = units::duration)]
    dps_assigning_for: Duration,
    /// What the device provisioning service's Retry-After says, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = Setup::default().retry_after)]
    dps_retry_after: u64,
    /// JSON lines instead of text.
    #[arg(long)]
    json: bool,
    /// Nothing but the first line.
    #[arg(long)]
    quiet: bool,
}

fn mqtt_faults(list: &[String]) -> Result<Vec<(Cloud, Limited<MqttFault>)>, String> {
    let mut faults = Vec::new();
    for text in list {
        let (clouds, fault) = match text.split_once(':') {
            None => (Cloud::MQTT.to_vec(), text.as_str()),
            Some((name, fault)) => {
                let found = Cloud::MQTT.iter().find(|c| c.as_str() == name);
                let cloud =
                    found.ok_or_else(|| format!("{name:?} is none of event-grid, iot-hub, aws-iot, dps, beam"))?;
                (vec![*cloud], fault)
            }
        };
        let fault: Limited<MqttFault> = fault.parse()?;
        faults.extend(clouds.into_iter().map(|c| (c, fault)));
    }
    Ok(faults)
}

impl Options {
    fn config(&self) -> anyhow::Result<Config> {
        let dir = self
            .dir
            .as_ref()
            .context("--dir is missing: where is everything to be written?")?;
        let mut config = Config::new(dir);
        config.bind = self.bind;
        config.allow_non_loopback = self.allow_non_loopback;
        config.standard_ports = self.standard_ports;
        config.hosts = Hosts {
            krypton: self.krypton_host.clone(),
            event_grid: self.event_grid_host.clone(),
            iot_hub: self.iot_hub_host.clone(),
            aws_iot: self.aws_iot_host.clone(),
            dps: self.dps_host.clone(),
            ..Hosts::default()
        };
        if let Some(imsi) = &self.imsi {
            config.subscribers = Subscribers::everybody(imsi.parse()?);
        } else if !self.subscriber.is_empty() {
            config.subscribers = Subscribers::parse(&self.subscriber).map_err(anyhow::Error::msg)?;
        }
        config.device_id_pattern.clone_from(&self.device_id_pattern);
        config.thing_name_pattern.clone_from(&self.thing_name_pattern);
        config.assigning_polls = self.assigning_polls;
        config.assigning_for = self.assigning_for;
        config.topic_templates.clone_from(&self.topic_template);
        config.aws_topics.clone_from(&self.aws_topic);
        config.devices.clone_from(&self.device);
        config.krypton_fault = self.krypton_fault;
        config.hub_open = !self.hub_closed;
        config.dps = Setup {
            id_scope: self.dps_id_scope.clone(),
            assigning_polls: self.dps_assigning_polls,
            assigning_for: self.dps_assigning_for,
            retry_after: self.dps_retry_after,
        };
        config.mqtt_faults = mqtt_faults(&self.mqtt_fault).map_err(anyhow::Error::msg)?;
        Ok(config)
    }
}

/// Runs the simulated clouds until SIGTERM or SIGINT.
///
/// # Errors
/// Wrong options, addresses that cannot be had, a directory that cannot be written.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if let Some(Command::Monitor(args)) = args.command {
        return monitor::run(args).await;
    }
    let args = args.options;
    let mut terminated = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let clouds = Clouds::start(args.config()?).await?;
    let mut events = clouds.events();
    say(&format!(
        "clouds ready: {}",
        clouds.directory().join("clouds.json").display()
    ));
    if !args.quiet && !args.json {
        for s in clouds.stand_ins() {
            say(&format!("{:<10} {}:{} as {}", s.name, s.address, s.port, s.host));
        }
    }
    loop {
        let event = tokio::select! {
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
            event = events.recv() => event,
        };
        match event {
            _ if args.quiet => {}
            Ok(event) if args.json => say(&serde_json::to_string(&event)?),
            Ok(event) => say(&event.to_string()),
            Err(RecvError::Lagged(n)) if args.json => {
                say(&serde_json::json!({"event": "lost", "events": n}).to_string())
            }
            Err(RecvError::Lagged(n)) => say(&format!("{n} events came too fast to be shown")),
            Err(RecvError::Closed) => break,
        }
    }
    clouds.stop().await;
    Ok(())
}

/// A line for whoever reads; a reader that has gone away is no reason to stop.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_go_to_one_or_to_all() {
        let all = mqtt_faults(&["refuse-5*2".into()]).unwrap();
        assert_eq!(all.len(), Cloud::MQTT.len());
        let one = mqtt_faults(&["iot-hub:no-puback".into()]).unwrap();
        assert_eq!(one, [(Cloud::IotHub, MqttFault::NoPuback.into())]);
        for bad in ["krypton:no-puback", "x", ":refuse-5"] {
            assert!(mqtt_faults(&[bad.into()]).is_err(), "{bad}");
        }
    }
}
