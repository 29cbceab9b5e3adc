//! The real agent as a child, and its commands.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::stage::{Bench, IMEI, IMSI, OTHER_IMSI, wait_for};
use crate::toml::Toml;

const ICCID: &str = "8942310022000012345";
/// What no log may hold.
const SECRETS: [&str; 4] = [IMSI, OTHER_IMSI, IMEI, ICCID];

/// A command of the agent, not started yet.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onyx-agent"));
    command
        .args(args)
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null());
    command
}

/// A command of the agent that ends by itself: status, standard output, standard error.
pub fn onyx_agent(args: &[&str]) -> (Output, String, String) {
    let output = command(args).output().unwrap();
    let out = String::from_utf8(output.stdout.clone()).unwrap();
    let err = String::from_utf8(output.stderr.clone()).unwrap();
    (output, out, err)
}

/// No log may hold an identity in full.
pub fn assert_discreet(log: &str) {
    for secret in SECRETS {
        if let Some(line) = log.lines().find(|l| l.contains(secret)) {
            panic!("{secret} is in the log:\n{line}");
        }
    }
}

/// Nor any line of a key that lies below `directory`, nor a whole PEM key that was there once.
fn assert_no_key(log: &str, directory: &Path) {
    for end in ["PRIVATE KEY-----\n", "PRIVATE KEY-----\\n"] {
        assert!(!log.contains(end), "a private key is in the log");
    }
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            assert_no_key(log, &path);
        } else if path.extension().is_some_and(|e| e == "key") {
            let pem = std::fs::read_to_string(&path).unwrap_or_default();
            for line in pem.lines().filter(|l| l.len() >= 40 && !l.starts_with('-')) {
                assert!(!log.contains(line), "{} is in the log", path.display());
            }
        }
    }
}

/// A running agent. When it is dropped, its log is searched for secrets.
pub struct Agent {
    child: Child,
    directory: PathBuf,
    socket: PathBuf,
    log: Arc<Mutex<String>>,
    out: Option<JoinHandle<String>>,
    reader: Option<JoinHandle<()>>,
}

/// How a run ended.
pub struct Ended {
    pub status: ExitStatus,
    pub accepted: u64,
    pub acknowledged: u64,
    pub log: String,
}

impl Agent {
    pub fn start(bench: &Bench, toml: &Toml, args: &[&str]) -> Self {
        let config = toml.write(bench);
        Self::spawn(bench, &config, args, |_| {})
    }

    /// Takes `n` samples and ends when they are acknowledged.
    pub fn until(bench: &Bench, toml: &Toml, n: u64) -> Self {
        Self::start(bench, toml, &["--exit-after", &n.to_string()])
    }

    pub fn spawn(bench: &Bench, config: &Path, args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = command(&["run", "--json", "--config"]);
        // Relative paths in the file are the working directory's.
        command.current_dir(bench.dir.path());
        command
            .arg(config)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let log: Arc<Mutex<String>> = Arc::default();
        let kept = log.clone();
        let lines = BufReader::new(child.stderr.take().unwrap());
        let reader = thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut stdout = child.stdout.take().unwrap();
        let out = thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        });
        Self {
            child,
            directory: bench.dir.path().to_owned(),
            socket: bench.path("agent.sock"),
            log,
            out: Some(out),
            reader: Some(reader),
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Lines of the log that say something of a rung, for messages.
    fn story(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().filter(|l| !l.contains("\"DEBUG\"")).collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// What `onyx-agent status --json` says; `None` while it does not run.
    pub fn status(&self) -> Option<Value> {
        let (output, out, _) = onyx_agent(&["status", "--socket", self.socket.to_str().unwrap(), "--json"]);
        output.status.success().then(|| serde_json::from_str(&out).unwrap())
    }

    pub fn wait_status(&self, what: &str, enough: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || self.status().filter(|v| enough(v)), || self.story())
    }

    /// Waits until a rung is down for the second time at least, and checks that its line names cause and cure.
    pub fn wait_down(&self, rung: &str, why: &[&str], cure: &[&str]) -> Value {
        self.wait_down_times(rung, why, cure, 2)
    }

    pub fn wait_down_times(&self, rung: &str, why: &[&str], cure: &[&str], times: u64) -> Value {
        let line = wait_for(
            &format!("{rung} down {times} times because of {why:?}, {cure:?}"),
            || {
                let line = rung_of(&self.status()?, rung);
                let fits =
                    |key: &str, words: &[&str]| words.iter().all(|w| line[key].as_str().is_some_and(|t| t.contains(w)));
                (line["state"] == "down"
                    && line["failures"].as_u64()? >= times
                    && fits("why", why)
                    && fits("cure", cure))
                .then_some(line)
            },
            || self.story(),
        );
        assert!(line["retry_in_s"].is_u64(), "{line}");
        line
    }

    pub fn wait_up(&self, rung: &str) -> Value {
        rung_of(
            &self.wait_status(&format!("{rung} up"), |v| rung_of(v, rung)["state"] == "up"),
            rung,
        )
    }

    pub fn wait_acknowledged(&self, n: u64) -> Value {
        self.wait_status(&format!("{n} acknowledged"), |v| {
            v["delivery"]["acknowledged"].as_u64().unwrap() >= n
        })
    }

    pub fn terminate(&self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    }

    /// kill -9: no goodbye, no flush.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let story = self.log.clone();
        let status = wait_for(
            "ended",
            || self.child.try_wait().unwrap(),
            || {
                story
                    .lock()
                    .unwrap()
                    .lines()
                    .rev()
                    .take(20)
                    .collect::<Vec<_>>()
                    .join("\n")
            },
        );
        let out = self.out.take().unwrap().join().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let v: Value = serde_json::from_str(&out).unwrap_or_default();
        Ended {
            status,
            accepted: v["accepted"].as_u64().unwrap_or(0),
            acknowledged: v["acknowledged"].as_u64().unwrap_or(0),
            log: self.log(),
        }
    }

    /// Waits for its end, which must be a good one.
    pub fn ends_well(self) -> Ended {
        let ended = self.wait();
        assert!(ended.status.success(), "{:?}\n{}", ended.status, ended.log);
        ended
    }

    /// Waits until it has delivered `n` samples and ended well.
    pub fn delivers(self, n: u64) -> Ended {
        let ended = self.ends_well();
        assert_eq!((ended.accepted, ended.acknowledged), (n, n));
        ended
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if !thread::panicking() {
            assert_discreet(&self.log());
            assert_no_key(&self.log(), &self.directory);
        }
    }
}

/// A rung's line in a status answer.
pub fn rung_of(status: &Value, rung: &str) -> Value {
    let lines = status["ladder"].as_array().unwrap();
    lines.iter().find(|l| l["rung"] == rung).unwrap().clone()
}
