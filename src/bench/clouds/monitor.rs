//! `onyx-bench clouds monitor`: what arrives at the IoT Hub stand-in, as `az iot hub monitor-events` prints it (azure-iot-cli-extension,
//! `monitor/parsers/common_parser.py`: names, order and indentation of four).
//!
//! It follows `messages.jsonl`, looking for more a few times a second, and so needs no connection to the stand-ins and survives their
//! restart. A file that was moved away or cut short is read from its beginning. Memory is bounded by one line.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::view::put as say;
use super::wildcard;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longest line: 256 KiB of payload, each byte escaped to six, and a topic; in bytes.
const LINE_MAX: usize = 2 << 20;
/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;
/// How the real hub describes a device with an X.509 certificate (IoT Hub documentation, message format).
const AUTH_METHOD: &str =
    r#"{"scope":"device","type":"x509Certificate","issuer":"external","acceptingIpFilterRule":null}"#;

/// Which properties are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Properties {
    /// All of them.
    All,
    /// What the hub and the protocol define.
    Sys,
    /// The sender's own.
    App,
    /// What the hub adds.
    Anno,
}

/// What `onyx-bench clouds monitor` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of `onyx-bench clouds`.
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// Messages of this device only; * and ? stand for any characters and any one.
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    /// Print these properties too; may be repeated.
    #[arg(long, value_name = "WHICH", num_args = 1..)]
    properties: Vec<Properties>,
    /// Take every payload for this type, e.g. application/json, whatever the message says.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Stop when no message has come for so many seconds; 0 waits for ever.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Begin with the messages that are there already.
    #[arg(long)]
    all: bool,
    /// One line a message.
    #[arg(long)]
    json: bool,
}

/// A line of `messages.jsonl`, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Line {
    time: String,
    cloud: String,
    client_id: String,
    payload: Option<String>,
    payload_base64: Option<String>,
    #[serde(default)]
    properties: Decoded,
}

#[derive(Debug, Default, Deserialize)]
struct Decoded {
    #[serde(default)]
    system: Map<String, Value>,
    #[serde(default)]
    application: Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<Map<String, Value>>,
}

/// Members in the order of the original.
#[derive(Debug, Serialize)]
struct Event {
    origin: String,
    module: &'static str,
    interface: &'static str,
    component: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Map<String, Value>>,
    payload: Value,
}

#[derive(Debug, Serialize)]
struct Document {
    event: Event,
}

impl Args {
    fn wants(&self, which: Properties) -> bool {
        self.properties.contains(&which) || self.properties.contains(&Properties::All)
    }

    /// What to print for a line; `None` if it is not for us.
    fn event(&self, line: &[u8], offset: u64) -> Result<Option<String>, String> {
        let line: Line = serde_json::from_slice(line).map_err(|e| format!("not a line of messages.jsonl: {e}"))?;
        let wanted = self
            .device_id
            .as_ref()
            .is_none_or(|id| wildcard::matches(&wildcard::glyphs(id), &line.client_id));
        if line.cloud != "iot-hub" || !wanted {
            return Ok(None);
        }
        let system = |name: &str| {
            line.properties
                .system
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let component = system("subject").to_owned();
        let text = line.payload.or(line.payload_base64).unwrap_or_default();
        let kind = self.content_type.as_deref().unwrap_or_else(|| system("content_type"));
        let payload = if kind.to_lowercase().contains("application/json") {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        } else {
            Value::String(text)
        };
        let annotations = self
            .wants(Properties::Anno)
            .then(|| annotations(&line.client_id, &line.time, offset));
        let properties = (!self.properties.is_empty()).then(|| Shown {
            system: (self.wants(Properties::Sys) && !line.properties.system.is_empty())
                .then_some(line.properties.system),
            application: self.wants(Properties::App).then_some(line.properties.application),
        });
        let document = Document {
            event: Event {
                origin: line.client_id,
                module: "",
                interface: "",
                component,
                properties,
                annotations,
                payload,
            },
        };
        let written = if self.json {
            serde_json::to_string(&document).map_err(|e| e.to_string())?
        } else {
            let mut out = Vec::new();
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut writer = serde_json::Serializer::with_formatter(&mut out, indent);
            document.serialize(&mut writer).map_err(|e| e.to_string())?;
            String::from_utf8(out).map_err(|e| e.to_string())?
        };
        Ok(Some(ascii(&written)))
    }
}

/// What the real hub adds, as far as the stand-in knows it.
fn annotations(device: &str, time: &str, offset: u64) -> Map<String, Value> {
    let mut out = Map::new();
    let millis = time
        .parse::<jiff::Timestamp>()
        .map(jiff::Timestamp::as_millisecond)
        .unwrap_or_default();
    for (name, value) in [
        ("iothub-connection-device-id", Value::from(device)),
        ("iothub-connection-auth-method", AUTH_METHOD.into()),
        ("iothub-enqueuedtime", millis.into()),
        ("iothub-message-source", "Telemetry".into()),
        ("x-opt-offset", offset.to_string().into()),
        ("x-opt-enqueued-time", millis.into()),
    ] {
        out.insert(name.into(), value);
    }
    out
}

/// JSON as Python's `json.dumps` writes it: what is not ASCII is escaped as UTF-16. It can only be within strings.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// A file that grows, is moved away and comes again.
#[derive(Debug)]
struct Follower {
    path: PathBuf,
    file: Option<(File, u64)>,
    /// What was read of a line that has no end yet.
    line: Vec<u8>,
    /// Where the next byte comes from.
    position: u64,
    /// The current line is too long: nothing of it is kept.
    skipping: bool,
}

impl Follower {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            line: Vec::new(),
            position: 0,
            skipping: false,
        }
    }

    /// Passes over what is there already.
    fn skip_all(&mut self) -> std::io::Result<()> {
        if self.open()? {
            if let Some((file, _)) = &mut self.file {
                self.position = file.seek(SeekFrom::End(0))?;
            }
        }
        Ok(())
    }

    /// Whether there is a file; one that is another than before is begun from its start.
    fn open(&mut self) -> std::io::Result<bool> {
        let now = match std::fs::metadata(&self.path) {
            Ok(now) => now,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(self.file.is_some()),
            Err(e) => return Err(e),
        };
        let same = self.file.as_ref().is_some_and(|(_, inode)| *inode == now.ino());
        if same && now.len() >= self.position {
            return Ok(true);
        }
        self.file = Some((File::open(&self.path)?, now.ino()));
        self.position = 0;
        self.line.clear();
        self.skipping = false;
        Ok(true)
    }

    /// Reads once. Every line that is complete goes to `take` with its offset; the answer is whether there may be more.
    fn read(&mut self, mut take: impl FnMut(&[u8], u64)) -> std::io::Result<bool> {
        if !self.open()? {
            return Ok(false);
        }
        let Some((file, _)) = &mut self.file else {
            return Ok(false);
        };
        let mut chunk = vec![0; CHUNK];
        let count = file.read(&mut chunk)?;
        for part in chunk[..count].split_inclusive(|b| *b == b'\n') {
            let start = self.position - self.line.len() as u64;
            self.position += part.len() as u64;
            if self.line.len() + part.len() > LINE_MAX {
                self.skipping = true;
                self.line.clear();
            }
            if !self.skipping {
                self.line.extend_from_slice(part);
            }
            if part.ends_with(b"\n") {
                if self.skipping {
                    take(b"", start);
                } else {
                    take(&self.line, start);
                }
                self.line.clear();
                self.skipping = false;
            }
        }
        Ok(count > 0)
    }
}

/// Prints arriving messages until SIGTERM, SIGINT or the time-out.
///
/// # Errors
/// The file cannot be read.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let path = args.dir.join("messages.jsonl");
    let problem = |path: &Path| format!("cannot read {}", path.display());
    let mut follower = Follower::new(path.clone());
    if !args.all {
        follower.skip_all().with_context(|| problem(&path))?;
    }
    let filter = args
        .device_id
        .as_ref()
        .map(|d| format!(" filtering on device: {d},"))
        .unwrap_or_default();
    eprintln!("Starting event monitor,{filter} use ctrl-c to stop...");
    if !path.exists() {
        eprintln!(
            "there is no {} yet: waiting for 'onyx-bench clouds --dir {}'",
            path.display(),
            args.dir.display()
        );
    }
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
            _ = look.tick() => {}
        }
        let mut came = false;
        while follower
            .read(|line, offset| match args.event(line, offset) {
                Ok(Some(event)) => {
                    came = true;
                    say(&event);
                }
                Ok(None) => {}
                Err(e) => eprintln!("onyx-bench: {}, byte {offset}: {e}", path.display()),
            })
            .with_context(|| problem(&path))?
        {}
        if came {
            heard = Instant::now();
        } else if args.timeout > 0 && heard.elapsed() >= Duration::from_secs(args.timeout) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
