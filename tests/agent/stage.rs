//! A simulated dongle, and the real agent as a child.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onyx::bench::clouds::{self, Cloud, Clouds};
use onyx::bench::dongle::period::Period;
use onyx::bench::dongle::scenario::{Event, Scenario};
use onyx::bench::dongle::{self, Dongle};
use serde_json::Value;
use tokio::runtime::Runtime;

/// The longest that anything here may take; normally it takes a fraction.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two questions.
const AGAIN: Duration = Duration::from_millis(25);
pub const IMSI: &str = "295012345678901";
pub const OTHER_IMSI: &str = "295012345678902";
pub const IMEI: &str = "123456789011111";
const ICCID: &str = "8942310022000012345";
/// What no log may hold.
const SECRETS: [&str; 4] = [IMSI, OTHER_IMSI, IMEI, ICCID];

/// `myClient-<imsi>`: the name that the certificate proves.
pub fn auth_name() -> String {
    format!("myClient-{IMSI}")
}

/// The client id: `<client_authname>-<imei>`.
pub fn client_id() -> String {
    format!("{}-{IMEI}", auth_name())
}

#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks until the answer is there.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>, last: impl Fn() -> String) -> T {
    let begin = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "never {what}: {}", last());
        thread::sleep(AGAIN);
    }
}

/// The dongle and a folder. Fields are dropped in this order.
pub struct Bench {
    dongle: Mutex<Option<Dongle>>,
    pub rt: Runtime,
    pub dir: tempfile::TempDir,
}

impl Bench {
    /// A healthy dongle that is quick.
    pub fn new() -> Self {
        Self::with("")
    }

    /// A dongle by a scenario; what the scenario does not say about time takes none.
    pub fn with(scenario: &str) -> Self {
        let bench = Self::without_dongle();
        bench.plug(scenario, IMSI);
        bench
    }

    pub fn without_dongle() -> Self {
        let rt = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self {
            dongle: Mutex::default(),
            rt,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Plugs a dongle in.
    pub fn plug(&self, text: &str, imsi: &str) {
        let mut scenario = Scenario::parse(text).unwrap();
        scenario.boot_time = Period::default();
        if !text.contains("ready_after") {
            scenario.sim.ready_after = Period::default();
        }
        if !text.contains("register_after") {
            scenario.network.register_after = Period::default();
        }
        let _inside = self.rt.enter();
        let config = dongle::Config {
            imsi: imsi.parse().unwrap(),
            scenario,
            link: Some(self.port()),
            log: Some(self.path("dongle.jsonl")),
            ..dongle::Config::default()
        };
        *self.dongle.lock().unwrap() = Some(Dongle::start(config).unwrap());
    }

    /// Pulls it out for good.
    pub fn unplug(&self) {
        if let Some(dongle) = self.dongle.lock().unwrap().take() {
            self.rt.block_on(dongle.stop()).unwrap();
        }
    }

    pub fn inject(&self, event: Event) {
        let dongle = self.dongle.lock().unwrap();
        self.rt.block_on(dongle.as_ref().unwrap().inject(event)).unwrap();
    }

    /// How often the agent sent this command, by the dongle's own log.
    pub fn asked(&self, command: &str) -> usize {
        let log = std::fs::read_to_string(self.path("dongle.jsonl")).unwrap_or_default();
        log.lines().filter(|l| l.contains(command)).count()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn port(&self) -> PathBuf {
        self.path("onyx-at")
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        onyx::files::write_atomically(&path, text.as_bytes(), 0o600).unwrap();
        path
    }

    pub fn clouds(&self) -> Clouds {
        self.clouds_with(|_| {})
    }

    pub fn clouds_with(&self, change: impl FnOnce(&mut clouds::Config)) -> Clouds {
        let mut config = clouds::Config::new(self.path("clouds"));
        config.devices = vec![auth_name()];
        change(&mut config);
        self.rt.block_on(Clouds::start(config)).unwrap()
    }
}

/// `agent.toml`, section by section.
#[derive(Clone)]
pub struct Toml {
    pub top: String,
    pub credentials: String,
    pub session: String,
    pub delivery: String,
    pub more: String,
}

impl Toml {
    pub fn new(credentials: &str, session: &str) -> Self {
        Self {
            top: "client_authname = 'myClient-#{imsi}'\nstate_dir = 'state'\nstatus_socket = 'agent.sock'\n".into(),
            credentials: credentials.into(),
            session: format!("retry_min = '50ms'\nretry_max = '1s'\n{session}"),
            delivery: "interval = '20ms'\n".into(),
            more: String::new(),
        }
    }

    /// Plain, to a broker in Beam's place.
    pub fn gateway(address: SocketAddr) -> Self {
        let session = format!("to = 'gateway'\nhost = '{}'\nport = {}\n", address.ip(), address.port());
        Self::new("source = 'none'\n", &session).topic()
    }

    /// Files made by openssl, to a broker at `address` that calls itself localhost.
    pub fn files(kind: &str, address: SocketAddr) -> Self {
        let credentials = "source = 'files'\ncertificate = 'device.pem'\nkey = 'device.key'\n";
        let session = format!(
            "to = '{kind}'\nhost = 'localhost'\nport = {}\naddress = '{address}'\nca_file = 'ca/root.pem'\n",
            address.port()
        );
        Self::new(credentials, &session)
    }

    /// To a stand-in with the certificate that it issued for [`auth_name`].
    pub fn stand_in(clouds: &Clouds, cloud: Cloud) -> Self {
        let at = clouds.address(cloud).unwrap();
        let host = clouds
            .stand_ins()
            .iter()
            .find(|s| s.name == cloud)
            .unwrap()
            .host
            .clone();
        let credentials = "source = 'files'\ncertificate = 'clouds/devices/myClient-#{imsi}.pem'\nkey = 'clouds/devices/myClient-#{imsi}.key'\n";
        let session = format!(
            "to = '{cloud}'\nhost = '{host}'\nport = {}\naddress = '{at}'\nca_file = 'clouds/ca.pem'\n",
            at.port()
        );
        Self::new(credentials, &session).topic()
    }

    /// Credentials from Krypton for IoT Hub or AWS.
    pub fn krypton(clouds: &Clouds, cloud: Cloud) -> Self {
        let (krypton, broker) = (clouds.address(Cloud::Krypton).unwrap(), clouds.address(cloud).unwrap());
        let (source, hub) = match cloud {
            Cloud::IotHub => ("krypton-azure", true),
            _ => ("krypton-aws", false),
        };
        let host = &clouds
            .stand_ins()
            .iter()
            .find(|s| s.name == Cloud::Krypton)
            .unwrap()
            .host;
        let credentials = format!(
            "source = '{source}'\nurl = 'https://{host}:{}'\naddress = '{krypton}'\nca_file = 'clouds/ca.pem'\npoll = '50ms'\n",
            krypton.port()
        );
        let session = format!("to = '{cloud}'\nport = {}\naddress = '{broker}'\n", broker.port());
        let toml = Self::new(&credentials, &session);
        if hub { toml } else { toml.topic() }
    }

    fn topic(mut self) -> Self {
        self.delivery += "topic = 'exampletopics/topic1'\n";
        self
    }

    pub fn text(&self, bench: &Bench) -> String {
        format!(
            "{}\n[modem]\nport = '{}'\npoll = '1s'\n[credentials]\n{}\n[session]\n{}\n[delivery]\n{}\n{}\n[log]\nfilter = 'debug'\nformat = 'json'\n",
            self.top,
            bench.port().display(),
            self.credentials,
            self.session,
            self.delivery,
            self.more
        )
    }

    pub fn write(&self, bench: &Bench) -> PathBuf {
        bench.write("agent.toml", &self.text(bench))
    }
}

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

    /// Waits until it has delivered `n` samples and ended well.
    pub fn delivers(self, n: u64) -> Ended {
        let ended = self.wait();
        assert!(ended.status.success(), "{}", ended.log);
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
