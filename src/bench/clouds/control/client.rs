//! Asking the control endpoint of a running bench: `onyx-bench clouds status`, `fault` and `events`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::tls;

/// `clouds.json` is no larger, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// An answer is no larger, in bytes; events have no end and no bound.
const ANSWER_MAX: usize = 16 << 20;
/// One event is no larger, in bytes.
const LINE_MAX: usize = 1 << 20;
/// An answer has to be there by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be asked of a running bench.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// What the running stand-ins see: doors, connections, counts, faults in force
    Status {
        /// Which bench.
        #[command(flatten)]
        bench: Bench,
        /// JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Make a running stand-in misbehave, or behave again
    Fault {
        /// Which bench.
        #[command(flatten)]
        bench: Bench,
        /// [CLOUD:]KIND[*N] [for client "ID" | for peer ADDRESS | for connection N | for next N connections]
        #[arg(value_name = "SPEC", required_unless_present = "clear")]
        spec: Vec<String>,
        /// Take away all faults first, or those of one stand-in.
        #[arg(long, value_name = "CLOUD", num_args = 0..=1, default_missing_value = "", require_equals = true)]
        clear: Option<String>,
    },
    /// What happens from now on, as JSON lines
    Events {
        /// Which bench.
        #[command(flatten)]
        bench: Bench,
    },
    /// Print messages that arrive at the IoT Hub stand-in, as `az iot hub monitor-events` does
    Monitor(super::super::monitor::Args),
}

/// Which bench.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// The directory that it was started with.
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
}

/// A running bench.
struct Remote {
    client: Client,
    url: Url,
}

impl Remote {
    fn of(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("clouds.json");
        let text = crate::files::read_small(&path, FILE_MAX).with_context(|| {
            format!(
                "cannot read {}: start onyx-bench clouds --dir {}",
                path.display(),
                directory.display()
            )
        })?;
        let all: Value = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        let control = all["control"]
            .as_str()
            .with_context(|| format!("{} names no control endpoint", path.display()))?;
        let url = Url::parse(control).with_context(|| format!("the control endpoint in {}", path.display()))?;
        // Plain HTTP to this machine; reqwest wants a TLS configuration all the same.
        let unused = tls::Client {
            identity: None,
            roots: rustls::RootCertStore::empty(),
            versions: tls::Versions::Both,
            alpn: &[],
        }
        .build(&Clock::new())?;
        let client = Client::builder()
            .tls_backend_preconfigured((*unused).clone())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(PATIENCE)
            .build()?;
        Ok(Self { client, url })
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<reqwest::Response> {
        let mut url = self.url.join(path)?;
        if let Some((path, query)) = path.split_once('?') {
            url.set_path(path);
            url.set_query(Some(query));
        }
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let asked = tokio::time::timeout(PATIENCE, request.send()).await;
        asked
            .ok()
            .and_then(Result::ok)
            .with_context(|| format!("nobody answers at {}: is the bench still running?", self.url))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let mut response = self.send(method, path, body).await?;
        let status = response.status();
        let mut text = Vec::new();
        while let Some(chunk) = tokio::time::timeout(PATIENCE, response.chunk()).await?? {
            if text.len() + chunk.len() > ANSWER_MAX {
                bail!("the answer is longer than {ANSWER_MAX} bytes");
            }
            text.extend_from_slice(&chunk);
        }
        let answer: Value = serde_json::from_slice(&text).context("the answer is no JSON")?;
        if !status.is_success() {
            bail!("{}", answer["error"].as_str().unwrap_or("refused without a reason"));
        }
        Ok(answer)
    }
}

/// Asks a running bench.
///
/// # Errors
/// No bench there, or what it refuses.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Monitor(args) => return super::super::monitor::run(args).await,
        Command::Status { bench, json } => {
            let status = Remote::of(&bench.dir)?.ask(Method::GET, "/status", None).await?;
            if json {
                say(&status.to_string());
            } else {
                say(&super::super::view::status(&status));
            }
        }
        Command::Fault { bench, spec, clear } => {
            let remote = Remote::of(&bench.dir)?;
            if let Some(cloud) = clear {
                let path = if cloud.is_empty() {
                    "/faults".to_owned()
                } else {
                    // A name that is refused anyway must not become another path.
                    cloud.parse::<super::super::Cloud>().map_err(anyhow::Error::msg)?;
                    format!("/faults?cloud={cloud}")
                };
                let answer = remote.ask(Method::DELETE, &path, None).await?;
                say(&format!("{} faults taken away", answer["cleared"]));
            }
            for text in spec {
                let answer = remote.ask(Method::PUT, "/faults", Some(json!({"fault": text}))).await?;
                for one in answer["in_force"].as_array().into_iter().flatten() {
                    let cloud = one["cloud"].as_str().unwrap_or_default();
                    say(&format!("fault {} at {cloud}: {text}", one["id"]));
                }
            }
        }
        Command::Events { bench } => {
            let remote = Remote::of(&bench.dir)?;
            let mut response = remote.send(Method::GET, "/events", None).await?;
            let mut rest = Vec::new();
            while let Some(chunk) = response.chunk().await.context("the bench has gone")? {
                rest.extend_from_slice(&chunk);
                while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    if !say(String::from_utf8_lossy(&line).trim_end()) {
                        return Ok(());
                    }
                }
                if rest.len() > LINE_MAX {
                    bail!("an event is longer than {LINE_MAX} bytes");
                }
            }
        }
    }
    Ok(())
}

/// A line; the answer is whether anybody still reads.
fn say(line: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}
