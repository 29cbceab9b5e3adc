//! Finding or building the real programs, starting and watching them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::screen::Screen;
use crate::clock::Clock;

/// How long a program may take to end after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The programs to run.
pub(super) struct Programs {
    agent: PathBuf,
    gateway: PathBuf,
    runner: Vec<String>,
}

/// How a run of the agent went.
pub(super) struct AgentRun {
    pub(super) acknowledged: u64,
    pub(super) took: Duration,
    /// Largest resident set, as last seen.
    pub(super) rss_kib: u64,
}

/// A gateway that runs.
pub(super) struct Gateway {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Programs {
    /// The programs beside this one. Under `cargo run` they are built first, so that `cargo demo` is one command.
    pub(super) async fn find(
        agent: &Option<PathBuf>,
        gateway: &Option<PathBuf>,
        runner: &str,
        screen: &mut Screen,
    ) -> anyhow::Result<Self> {
        let here = std::env::current_exe()?;
        let beside = |name: &str| here.with_file_name(name);
        if let (Some(cargo), Some(manifest)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR")) {
            if agent.is_none() || gateway.is_none() {
                build(&cargo, Path::new(&manifest), &here, screen).await?;
            }
        }
        let find = |given: &Option<PathBuf>, name: &str| -> anyhow::Result<PathBuf> {
            let path = given.clone().unwrap_or_else(|| beside(name));
            if path.exists() {
                return Ok(path);
            }
            bail!(
                "{} is not there: build it (cargo build --bins), or name it with --{}",
                path.display(),
                &name[5..]
            )
        };
        Ok(Self {
            agent: find(agent, "onyx-agent")?,
            gateway: find(gateway, "onyx-gateway")?,
            runner: runner.split_whitespace().map(str::to_owned).collect(),
        })
    }

    pub(super) fn is_emulated(&self) -> bool {
        !self.runner.is_empty()
    }

    fn agent_command(&self) -> Command {
        match self.runner.split_first() {
            None => Command::new(&self.agent),
            Some((runner, arguments)) => {
                let mut command = Command::new(runner);
                command.args(arguments).arg(&self.agent);
                command
            }
        }
    }

    /// Runs the agent until `samples` are acknowledged, showing its ladder.
    pub(super) async fn run_agent(
        &self,
        config: &Path,
        log: &Path,
        samples: u64,
        within: Duration,
        screen: &mut Screen,
    ) -> anyhow::Result<AgentRun> {
        let clock = Clock::new();
        let mut command = self.agent_command();
        command
            .arg("run")
            .arg("--config")
            .arg(config)
            .args(["--json", "--exit-after"])
            .arg(samples.to_string());
        let mut child = start(command, &self.agent)?;
        let mut kept = tokio::fs::File::create(log)
            .await
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut lines = BufReader::new(child.stderr.take().context("the agent has no standard error")?).lines();
        let mut rss_kib = 0;
        let mut last = String::new();
        let watched = tokio::time::timeout(within, async {
            while let Some(line) = lines.next_line().await? {
                rss_kib = peak_rss(child.id()).unwrap_or(rss_kib).max(rss_kib);
                kept.write_all(line.as_bytes()).await?;
                kept.write_all(b"\n").await?;
                match serde_json::from_str::<Value>(&line) {
                    Ok(event) => screen.agent(&event),
                    Err(_) => last = line,
                }
            }
            kept.flush().await?;
            let output = child.wait_with_output().await?;
            anyhow::Ok(output)
        })
        .await;
        let Ok(output) = watched else {
            bail!(
                "the agent did not deliver {samples} samples within {} s; its log is {}",
                within.as_secs(),
                log.display()
            );
        };
        let output = output?;
        if !output.status.success() {
            bail!(
                "the agent ended with {}: {last}; its log is {}",
                output.status,
                log.display()
            );
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let result: Value =
            serde_json::from_str(text.trim()).with_context(|| format!("the agent's result {text:?} is not JSON"))?;
        Ok(AgentRun {
            acknowledged: result["acknowledged"]
                .as_u64()
                .context("the agent does not say how many samples were acknowledged")?,
            took: clock.monotonic(),
            rss_kib,
        })
    }

    /// Starts the gateway and waits until it listens.
    pub(super) async fn start_gateway(&self, config: &Path, log: &Path, within: Duration) -> anyhow::Result<Gateway> {
        let mut command = Command::new(&self.gateway);
        command.arg("run").arg("--config").arg(config).arg("--json");
        command.stderr(std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?);
        let mut child = start_with(command, &self.gateway)?;
        let mut lines = BufReader::new(child.stdout.take().context("the gateway has no standard output")?).lines();
        let address = tokio::time::timeout(within, async {
            while let Some(line) = lines.next_line().await? {
                let said = serde_json::from_str::<Value>(&line).unwrap_or_default();
                if let Some(address) = said["listening"].as_str() {
                    return Ok(address.parse::<SocketAddr>()?);
                }
            }
            bail!("the gateway ended before it listened")
        })
        .await
        .unwrap_or_else(|_| bail!("the gateway did not listen within {} s", within.as_secs()))
        .with_context(|| format!("its log is {}", log.display()))?;
        Ok(Gateway { child, address })
    }
}

impl Gateway {
    pub(super) async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = tokio::time::timeout(STOP_WITHIN, self.child.wait()).await;
    }
}

fn start(mut command: Command, program: &Path) -> anyhow::Result<Child> {
    command.stderr(Stdio::piped());
    start_with(command, program)
}

fn start_with(mut command: Command, program: &Path) -> anyhow::Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

async fn build(cargo: &std::ffi::OsStr, manifest: &Path, here: &Path, screen: &mut Screen) -> anyhow::Result<()> {
    screen.say("building onyx-agent and onyx-gateway");
    let mut command = Command::new(cargo);
    command
        .current_dir(manifest)
        .args(["build", "--quiet", "--bin", "onyx-agent", "--bin", "onyx-gateway"]);
    // What `cargo run` told us about this package would make build scripts that watch the environment (ring's) run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    if here
        .parent()
        .and_then(Path::file_name)
        .is_some_and(|profile| profile == "release")
    {
        command.arg("--release");
    }
    let status = command
        .stdin(Stdio::null())
        .status()
        .await
        .context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "cargo build failed");
    Ok(())
}

/// The kernel's high-water mark of the resident set (proc(5), VmHWM).
fn peak_rss(pid: Option<u32>) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", pid?)).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
