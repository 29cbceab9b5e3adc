//! The simulated clouds: Azure Event Grid, IoT Hub and the device provisioning service, AWS IoT Core, SORACOM Krypton with its key service,
//! and Beam, each strict where the real one is.
//!
//! | file | what it is |
//! |---|---|
//! | [`policy`] | the rule books, one file a cloud; every rule with its source |
//! | [`broker`], [`topic`] | one broker core for all, no I/O |
//! | [`codec`], [`rate`] | packets of MQTT 3.1.1 and 5; what a connection may send in a second |
//! | [`backend`] | what a cloud does beyond passing messages on, no I/O |
//! | [`iot_hub`] | the hub's registry, twins, methods and messages to devices |
//! | [`monitor`] | what arrives at the hub, printed |
//! | [`chain`], [`thumbprint`] | from a client's certificate to a registered authority; a certificate known by itself |
//! | [`dps`] | what the device provisioning service knows and answers; its HTTPS |
//! | `wire`, `connection`, `endpoint` | bytes of a connection; what a device does on it; a stand-in's listener |
//! | `krypton`, `keys`, `subscribers` | what Krypton answers; the key service and its HSS; who is calling |
//! | `door`, `https` | Krypton's two doors; HTTPS for any stand-in |
//! | [`aws_iot`] | the account behind AWS's broker |
//! | [`fault`] | misbehaviour on demand |
//! | [`visit`], `gate` | one TCP connection, and the listener it came in by |
//! | `wardrobe` | server certificates that are wrong on demand |
//! | [`control`], [`scenario`] | faults by HTTP and by file, while the stand-ins run |
//! | [`view`] | what is shown |
//! | [`journal`] | events, and accepted messages as `messages.jsonl` |
//! | [`authority`] | the certificate authority kept in the directory |
//! | [`stand_in`], `options` | configuration, in code and on the command line |
//! | `opening`, `doors`, [`service`] | all of it together as [`Clouds`]: how it begins, and what one can do with it |
//!
//! A refusal always names the rule that was broken and looks to the device as the real cloud's would.

pub mod authority;
pub mod aws_iot;
pub mod backend;
pub mod broker;
pub mod chain;
pub mod codec;
mod connection;
pub mod control;
mod door;
mod doors;
pub mod dps;
mod endpoint;
pub mod fault;
mod gate;
mod https;
pub mod iot_hub;
pub mod journal;
mod keys;
mod krypton;
pub mod monitor;
mod opening;
mod options;
pub mod policy;
pub mod rate;
pub mod scenario;
pub mod service;
pub mod stand_in;
pub mod start_error;
mod subscribers;
pub mod thumbprint;
pub mod topic;
mod uuid;
pub mod view;
pub mod visit;
mod wardrobe;
mod wildcard;
mod wire;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;

pub use control::Controls;
pub use dps::Dps;
pub use dps::registration::Setup;
pub use fault::{Fault, KryptonFault, Limited, MqttFault, Spec};
pub use journal::{Event, Message, Payload, What};
pub use keys::{ChallengeStatus, PLANS};
pub use krypton::{Group, Service};
pub use scenario::Scenario;
pub use service::Clouds;
pub use stand_in::{Cloud, Config, Hosts, Protocol, StandIn};
pub use start_error::StartError;
pub use subscribers::{DEFAULT_IMSI, Subscribers};

use options::Options;
use view::{Form, View};

/// What `onyx-bench clouds` takes.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_long_help = scenario::HELP)]
pub struct Args {
    #[command(subcommand)]
    command: Option<control::client::Command>,
    #[command(flatten)]
    options: Box<Options>,
}

/// Runs the simulated clouds until SIGTERM or SIGINT, or asks those that run already.
///
/// # Errors
/// Wrong options, addresses that cannot be had, a directory that cannot be written; no bench to ask.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if let Some(command) = args.command {
        return control::client::run(command).await;
    }
    let args = args.options;
    let mut terminated = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let clouds = Clouds::start(args.config()?).await?;
    let mut events = clouds.events();
    let file = clouds.directory().join("clouds.json");
    if args.json {
        view::put(&serde_json::json!({"event": "ready", "clouds": file}).to_string());
    } else {
        view::put(&format!("clouds ready: {}", file.display()));
    }
    let mut view = View::new(match (args.quiet, args.json) {
        (true, _) => Form::Quiet,
        (false, true) => Form::Json,
        (false, false) => Form::Text,
    });
    let doors = || clouds.controls().status().doors;
    view.ready(clouds.stand_ins(), &clouds.control_url(), &doors());
    let mut refresh = tokio::time::interval(view::REFRESH);
    loop {
        let event = tokio::select! {
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
            _ = refresh.tick(), if view.is_live() => {
                view.refresh(&doors());
                continue;
            }
            event = events.recv() => event,
        };
        match event {
            Ok(event) => view.event(&event),
            Err(RecvError::Lagged(n)) => view.lost(n),
            Err(RecvError::Closed) => break,
        }
    }
    view.end();
    clouds.stop().await;
    Ok(())
}
