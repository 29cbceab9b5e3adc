//! The command line of `onyx-agent`.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use super::check::{self, Verdict};
use super::{credentials_cli, inspect, ladder};
use crate::clock::Clock;
use crate::config::agent::{AgentConfig, DEFAULT_PATH, DEFAULT_SOCKET};
use crate::logging;
use crate::report::out;

/// Gets a Raspberry Pi's telemetry over a SORACOM Onyx LTE dongle to Azure Event Grid, Azure IoT Hub or AWS IoT Core.
///
/// The agent climbs a ladder: modem, sim, network, link, clock, credentials, session, delivery. Each command below speaks of the same
/// eight rungs.
#[derive(Debug, Parser)]
#[command(name = "onyx-agent", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct ConfigArg {
    /// The configuration file; examples/agent.toml explains every key
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct JsonArg {
    /// Print one JSON object, for machines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Climb the ladder and deliver telemetry until told to stop
    ///
    /// SIGTERM and Ctrl-C stop it in order: what is not acknowledged stays in the spool for the next start. A rung that fails is tried
    /// again for ever; the program ends by itself only if it cannot start, or with --exit-after.
    Run {
        #[command(flatten)]
        config: ConfigArg,
        /// End with status 0 once N samples are acknowledged, measuring no more than N; for scripts
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        exit_after: Option<u64>,
        /// Print how the run ended as one JSON object
        #[command(flatten)]
        json: JsonArg,
    },
    /// Show modem, SIM, registration and signal
    ///
    /// The port has one user at a time: stop a running agent first. What the modem does not know is shown as "unknown", null in JSON.
    Modem {
        /// The AT port; without it the one of the configuration file, or /dev/onyx-at
        #[arg(long, value_name = "PATH")]
        port: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Climb as far as the credentials: fetch them if they are missing, and show them
    ///
    /// Shows what a session would use: host, client id, user name, topic, certificate. Stop a running agent first. The fetched
    /// files belong to the owner of the state directory, also when root runs this.
    Provision {
        #[command(flatten)]
        config: ConfigArg,
        /// Fetch new credentials even if those on disk are good
        #[arg(long)]
        force: bool,
        /// Give up after so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: u64,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Check the configuration and the files it names; needs no modem and no network
    ///
    /// Prints every mistake with line and column, and then one line for each thing that was looked at: good, note (it works, but look
    /// at it) or BAD. Status 0 if nothing is bad, 1 otherwise.
    Check {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Ask the running agent how every rung stands, since when and why
    ///
    /// The lowest rung that is not up is the one to look at; a rung that is down says what to do. JSON also has the signal and the
    /// spool's figures. Root and the group onyx may ask.
    Status {
        #[command(flatten)]
        config: ConfigArg,
        /// The agent's socket, instead of looking it up in the configuration file
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Ask SORACOM Krypton for credentials, tokens, keys or data of this SIM, once
    ///
    /// By the cellular door (over the SORACOM line, needs no configuration file) or by SIM authentication (over any line).
    Krypton(Box<super::krypton_cli::KryptonArgs>),
    /// Show, export or forget the credentials on disk; needs no modem and no network
    Credentials {
        #[command(subcommand)]
        command: credentials_cli::Command,
    },
}

/// Runs the program; its exit status is 0 for good, 1 for bad, 2 for a wrong command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("onyx-agent: cannot start threads: {e}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(execute(cli.command));
    // A thread that is stuck in a dead serial port must not hold the exit.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("onyx-agent: {}", crate::report::sentence(&e));
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run {
            config,
            exit_after,
            json,
        } => {
            abort_on_panic();
            let config = load(&config.config)?;
            let outcome = super::run(config, exit_after).await?;
            if json.json {
                let result = json!({"accepted": outcome.accepted, "acknowledged": outcome.acknowledged});
                out(&format!("{result}\n"))?;
            }
            match exit_after.filter(|n| outcome.acknowledged < *n) {
                None => Ok(ExitCode::SUCCESS),
                Some(n) => anyhow::bail!("stopped after {} of {n} acknowledgements", outcome.acknowledged),
            }
        }
        Command::Modem { port, config, json } => modem(port, &config.config, json.json).await,
        Command::Provision {
            config,
            force,
            timeout,
            json,
        } => {
            let config = load(&config.config)?;
            let within = std::time::Duration::from_secs(timeout);
            let value = inspect::provision(config, force, within).await?;
            print(&value, json.json, inspect::render_provision)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { config, json } => Ok(check_config(&config.config, json.json)?),
        Command::Status { config, socket, json } => {
            let socket = socket.unwrap_or_else(|| socket_of(&config.config));
            let value = crate::control::ask("onyx-agent", &socket)?;
            print(&value, json.json, render_status)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Krypton(args) => super::krypton_cli::main(*args).await,
        Command::Credentials { command } => credentials_cli::execute(command),
    }
}

fn load(path: &Path) -> anyhow::Result<AgentConfig> {
    let config = AgentConfig::load(path)?;
    logging::start(&config.log.filter, config.log.format)
        .map_err(anyhow::Error::msg)
        .context("log.filter")?;
    Ok(config)
}

/// A task that died alone would leave an agent that only seems to live: systemd starts a whole one.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn print(value: &Value, json: bool, render: fn(&Value) -> String) -> std::io::Result<()> {
    out(&if json { format!("{value}\n") } else { render(value) })
}

/// The socket that the configuration names; `status` must work even when the file has mistakes or cannot be read.
fn socket_of(path: &Path) -> PathBuf {
    AgentConfig::load(path).map_or_else(|_| DEFAULT_SOCKET.into(), |c| c.status_socket)
}

async fn modem(port: Option<PathBuf>, config: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let port = match port {
        Some(port) => port,
        None if config.exists() => AgentConfig::load(config)?.modem.port,
        None => "/dev/onyx-at".into(),
    };
    if !json && std::io::stderr().is_terminal() {
        eprintln!("asking the modem at {} …", port.display());
    }
    let value = inspect::modem(&port).await?;
    print(&value, json, inspect::render_modem)?;
    Ok(ExitCode::SUCCESS)
}

fn check_config(path: &Path, json: bool) -> std::io::Result<ExitCode> {
    let config = match AgentConfig::load(path) {
        Ok(config) => config,
        Err(e) => {
            if json {
                let report = json!({"ok": false, "config": path, "mistakes": mistakes(&e), "checks": []});
                out(&format!("{report}\n"))?;
            } else {
                eprintln!("{e}");
            }
            return Ok(ExitCode::FAILURE);
        }
    };
    let clock = Clock::new();
    super::timekeeper::prepare(&config, &clock);
    let checks = check::all(&config, &clock);
    let ok = checks.iter().all(|c| c.verdict != Verdict::Bad);
    let mut text = String::new();
    if json {
        let report = json!({"ok": ok, "config": path, "mistakes": [], "checks": checks});
        let _ = writeln!(text, "{report}");
    } else {
        let _ = writeln!(
            text,
            "{:<12} good  {} can be read and has no mistakes",
            "config",
            path.display()
        );
        for c in &checks {
            let verdict = match c.verdict {
                Verdict::Good => "good",
                Verdict::Note => "note",
                Verdict::Bad => "BAD ",
            };
            let _ = writeln!(text, "{:<12} {verdict}  {}", c.rung, c.found);
            if !c.cure.is_empty() {
                let _ = writeln!(text, "{:<12}       → {}", "", c.cure);
            }
        }
    }
    out(&text)?;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn mistakes(e: &crate::config::ConfigError) -> Value {
    match e {
        crate::config::ConfigError::Mistakes { mistakes, .. } => mistakes
            .iter()
            .map(|m| json!({"line": m.line, "column": m.column, "message": m.message}))
            .collect(),
        e @ crate::config::ConfigError::Unreadable { .. } => {
            json!([{"line": null, "column": null, "message": e.to_string()}])
        }
    }
}

/// When the credentials are renewed, and why they were not; nothing for those that nobody renews.
fn render_renewal(v: &Value) -> String {
    let text = |key: &str| v[key].as_str();
    let (Some(until), Some(from)) = (text("not_after"), text("renew_from")) else {
        return String::new();
    };
    let failed = text("renew_failure").map_or(String::new(), |why| {
        let next = text("renew_next").unwrap_or("soon");
        format!("; the last try failed: {why}; next try {next}")
    });
    format!(
        "credentials: {} set, valid until {until}, renewed from {from} on{failed}\n",
        text("set").unwrap_or("no")
    )
}

fn render_status(v: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or("unknown").to_owned();
    let number = |v: &Value| v.as_u64().unwrap_or(0);
    let d = &v["delivery"];
    let last = d["last_acknowledged_s_ago"]
        .as_u64()
        .map_or(String::new(), |s| format!(", the last {s} s ago"));
    let dropped = number(&d["spool"]["dropped"]) + number(&d["spool"]["lost"]);
    let mut losses = String::new();
    for (count, what) in [
        (dropped, "dropped or lost in the spool"),
        (number(&d["not_stored"]), "could not be stored"),
        (number(&d["set_aside"]), "set aside, no broker takes them"),
    ] {
        if count > 0 {
            let _ = write!(losses, "; {count} {what}");
        }
    }
    format!(
        "onyx-agent {} runs since {} (process {}), IMSI {}, IMEI {}, to {}\n{}{}delivery: {} accepted, {} acknowledged{last}; {} wait in the spool{}\n",
        text(&v["version"]),
        text(&v["started"]),
        number(&v["pid"]),
        text(&v["imsi"]),
        text(&v["imei"]),
        text(&v["to"]),
        ladder::render(&v["ladder"]),
        render_renewal(&v["credentials"]),
        number(&d["accepted"]),
        number(&d["acknowledged"]),
        number(&d["spool"]["waiting"]),
        losses,
    )
}
