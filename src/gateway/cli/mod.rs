//! The command line of `onyx-gateway`. What works on a store is in `desk`.

mod desk;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{
    Config, Gateway, check,
    config::{DEFAULT_PATH, DEFAULT_SOCKET},
    listener::Inherited,
    status,
};
use crate::clock::Clock;
use crate::config::ConfigError;
use crate::report::out;
use crate::{control, logging};
use anyhow::Context as _;
use clap::Parser;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// What SORACOM Beam's MQTT entry point does, on a host of your own: devices speak plain MQTT (3.1.1 or 5) to it, it speaks TLS with
/// each device's own certificate to the cloud.
#[derive(Debug, Parser)]
#[command(name = "onyx-gateway", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct ConfigArg {
    /// The configuration; examples/gateway.toml and examples/gateway-store.toml explain every key.
    #[arg(long, short, env = "ONYX_GATEWAY_CONFIG", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve devices until SIGTERM or SIGINT.
    Run {
        #[command(flatten)]
        config: ConfigArg,
        /// Log lines and the line with the address as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look at the configuration, at the doors' certificates and tokens, and at every subscriber's token and credential; status 1 if a
    /// device could not get through.
    Check {
        #[command(flatten)]
        config: ConfigArg,
        /// One JSON object.
        #[arg(long)]
        json: bool,
        /// Call the hosts that [provisioning] sends devices to.
        #[arg(long)]
        reach: bool,
    },
    /// Ask a running gateway who is connected and who was refused.
    Status {
        /// The configuration of the running gateway; its status.socket is asked.
        #[arg(long, short, env = "ONYX_GATEWAY_CONFIG")]
        config: Option<PathBuf>,
        /// The socket to ask.
        #[arg(long, short, conflicts_with = "config")]
        socket: Option<PathBuf>,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// An authority of your own: make it, issue certificates for devices and servers, prove it to a cloud.
    Ca {
        #[command(subcommand)]
        command: super::ca::Command,
    },
    /// Who may connect (in a store; without one, gateway.toml says it).
    Subscriber {
        #[command(subcommand)]
        command: desk::Subscriber,
    },
    /// What devices share: SORACOM's groups (in a store).
    Group {
        #[command(subcommand)]
        command: desk::Group,
    },
    /// What proves devices upstream (in a store).
    Credential {
        #[command(subcommand)]
        command: desk::Credential,
    },
    /// Tokens, by which devices without a fixed address are known (in a store).
    Token {
        #[command(subcommand)]
        command: desk::Token,
    },
    /// Take an export, or a gateway in files, into the store.
    Import(desk::Import),
    /// Write the whole store as JSON; secrets only on demand, and sealed.
    Export(desk::Export),
    /// The database itself.
    #[command(after_help = desk::KEY_HELP)]
    Store {
        #[command(subcommand)]
        command: desk::StoreCommand,
    },
}

/// Runs the program; its exit status is 0 for good, 1 for bad, 2 for a wrong command line.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run { config, json } => run(&config.config, json),
        Command::Check { config, json, reach } => look(&config.config, json, reach),
        Command::Status { config, socket, json } => ask(config, socket, json),
        Command::Ca { command } => {
            super::ca::run(&command).map(|good| if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Subscriber { command } => desk::subscriber(command),
        Command::Group { command } => desk::group(command),
        Command::Credential { command } => desk::credential(command),
        Command::Token { command } => desk::token(command),
        Command::Import(command) => desk::import(&command),
        Command::Export(command) => desk::export(&command),
        Command::Store { command } => desk::the_store(command),
    };
    result.unwrap_or_else(|e| {
        eprintln!("onyx-gateway: {}", crate::report::sentence(&e));
        ExitCode::FAILURE
    })
}

fn run(path: &std::path::Path, json: bool) -> anyhow::Result<ExitCode> {
    let config = Config::read(path)?;
    logging::start(
        &config.log,
        if json {
            logging::Format::Json
        } else {
            logging::Format::Text
        },
    )
    .map_err(anyhow::Error::msg)
    .context("log.filter")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let inherited = Inherited::take()?;
        let gateway = Gateway::bind_with(config, &Clock::new(), inherited).await?;
        let gateway = gateway.from_file(path.to_owned());
        stop_on_signal(&stop, gateway.at_once())?;
        reload_on_signal(gateway.reloader())?;
        let address = gateway.local_addr();
        let mut out = std::io::stdout().lock();
        // For scripts: whoever configured port 0 reads the real one here. A closed standard output is no reason to stop.
        let _ = if json {
            writeln!(out, "{}", serde_json::json!({"listening": address.to_string()}))
        } else {
            writeln!(out, "listening {address}")
        };
        let _ = out.flush();
        drop(out);
        let status = gateway.status();
        let told = tokio::spawn(tell_systemd(status, address));
        let cut = gateway.serve(stop).await;
        told.abort();
        let text = format!("stopped: {cut} connections were cut");
        let _ = sd_notify::notify(&[NotifyState::Status(&text)]);
        Ok(ExitCode::SUCCESS)
    });
    // A file that hangs (a dead network disk) must not hold the end.
    runtime.shutdown_background();
    result
}

/// The first SIGTERM or SIGINT begins the end, the second one hurries it.
fn stop_on_signal(stop: &CancellationToken, at_once: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        let name = tokio::select! { _ = term.recv() => "SIGTERM", _ = int.recv() => "SIGINT" };
        tracing::info!("{name}: stopping; once more ends it at once");
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        stop.cancel();
        let name = tokio::select! { _ = term.recv() => "SIGTERM", _ = int.recv() => "SIGINT" };
        tracing::info!("{name} again: ending at once");
        at_once.cancel();
    });
    Ok(())
}

/// SIGHUP reads the configuration again. systemd (`Type=notify-reload`) is told when that begins and when it is over: sd_notify(3).
fn reload_on_signal(reload: super::reload::Reload) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hup.recv().await.is_some() {
            let mut begin = vec![NotifyState::Reloading];
            begin.extend(NotifyState::monotonic_usec_now());
            let _ = sd_notify::notify(&begin);
            // What came of it has been logged; systemd knows no failed reload, so the status line says it.
            let text = reload
                .now()
                .await
                .unwrap_or_else(|_| "not reloaded: see the log".to_owned());
            let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&text)]);
        }
    });
    Ok(())
}

/// How often systemd is told the status when it asks for no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(30);

/// Ready, a status line, and the watchdog at half its time: this task runs as long as the runtime makes progress.
async fn tell_systemd(status: std::sync::Arc<super::Status>, address: std::net::SocketAddr) {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let watchdog = sd_notify::watchdog_enabled();
    let mut tick = tokio::time::interval(watchdog.map_or(STATUS_EVERY, |w| w / 2).max(Duration::from_millis(100)));
    loop {
        tick.tick().await;
        let text = format!("{address}: {} open, {} relayed", status.open(), status.relayed());
        let mut states = vec![NotifyState::Status(&text)];
        if watchdog.is_some() {
            states.push(NotifyState::Watchdog);
        }
        let _ = sd_notify::notify(&states);
    }
}

fn look(path: &std::path::Path, json: bool, reach: bool) -> anyhow::Result<ExitCode> {
    let config = match Config::read(path) {
        Ok(config) => config,
        Err(e) if json => {
            let mistakes: Vec<_> = match &e {
                ConfigError::Mistakes { mistakes, .. } => mistakes
                    .iter()
                    .map(|m| serde_json::json!({"line": m.line, "column": m.column, "message": m.message}))
                    .collect(),
                ConfigError::Unreadable { .. } => vec![serde_json::json!({"message": e.to_string()})],
            };
            let report = serde_json::json!({"worst": "error", "configuration": mistakes});
            out(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
            return Ok(ExitCode::FAILURE);
        }
        Err(e) => return Err(e.into()),
    };
    let report = check::check(&config, &Clock::new(), reach);
    if json {
        out(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        out(&report.text())?;
    }
    Ok(if report.worst == check::Level::Error {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn ask(config: Option<PathBuf>, socket: Option<PathBuf>, json: bool) -> anyhow::Result<ExitCode> {
    let socket = match (socket, config) {
        (Some(socket), _) => socket,
        (None, Some(config)) => Config::read(&config)?.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
        (None, None) => DEFAULT_SOCKET.into(),
    };
    let answer = control::ask("onyx-gateway", &socket)?;
    if json {
        out(&format!("{}\n", serde_json::to_string_pretty(&answer)?))?;
    } else {
        out(&status::text(&answer))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The README's section on the gateway.
    fn section() -> &'static str {
        let readme = include_str!("../../../README.md");
        let from = readme.find("\n## The gateway\n").expect("the section");
        let rest = &readme[from + 1..];
        &rest[..rest[3..].find("\n## ").expect("the next section") + 3]
    }

    #[test]
    fn the_readme_says_what_help_says() {
        let section = section();
        let command = Cli::command();
        let mut table: Vec<&str> = section.lines().filter(|l| l.starts_with("| `")).collect();
        for sub in command.get_subcommands() {
            let about = sub.get_about().expect("an about").to_string();
            let want = format!("| `{}` | {about} |", sub.get_name());
            assert!(table.contains(&want.as_str()), "the README lacks the line\n{want}");
            table.retain(|line| *line != want);
        }
        assert!(
            table.is_empty(),
            "the README has commands that are not there: {table:?}"
        );
    }

    #[test]
    fn every_command_of_the_readme_can_be_given() {
        let mut seen = 0;
        for line in section().lines() {
            let line = line.strip_prefix("sudo ").unwrap_or(line);
            if !line.starts_with("onyx-gateway ") {
                continue;
            }
            let words = line.split(" #").next().unwrap_or(line).split_whitespace();
            Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
            seen += 1;
        }
        assert!(seen >= 6, "{seen} commands");
    }

    #[test]
    fn help_names_the_files_that_explain_every_key() {
        let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for sub in ["run", "check"] {
            let mut command = Cli::command();
            let help = command
                .find_subcommand_mut(sub)
                .expect(sub)
                .render_long_help()
                .to_string();
            for file in ["examples/gateway.toml", "examples/gateway-store.toml"] {
                assert!(help.contains(file) && section().contains(file), "{help}");
                assert!(examples.join(file).exists());
            }
        }
    }
}
