//! The stage of every test: a simulated dongle, a folder, clouds when they are wanted, and patience.

use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use onyx::bench::clouds::{self, Clouds};
use onyx::bench::dongle::period::Period;
use onyx::bench::dongle::scenario::{Event, Scenario};
use onyx::bench::dongle::{self, Dongle};
use tokio::runtime::Runtime;

pub use crate::program::{Agent, assert_discreet, onyx_agent, rung_of};
pub use crate::toml::Toml;

/// The longest that anything here may take; normally it takes a fraction.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two questions.
const AGAIN: Duration = Duration::from_millis(25);
pub const IMSI: &str = "295012345678901";
pub const OTHER_IMSI: &str = "295012345678902";
pub const IMEI: &str = "123456789011111";

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
