//! A child process whose every file system call below one directory is numbered, traced, and made to fail or to be its last: see
//! `tests/support/killer.c`. The C compiler is the one that Rust links with.
//!
//! Scenarios: what is there before, and which states the roles may be seen in while the child stages and promotes the set `new`.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use super::*;

const DIR: &str = "ONYX_TEST_STORE_CHILD";
const SEALING: &str = "ONYX_TEST_STORE_SEALING";
/// Names that the child tries to remove, so that the trace shows where it is.
pub(super) const STAGED: &str = "marker-staged";
pub(super) const PROMOTED: &str = "marker-promoted";
/// The new set's name.
pub(super) const NEW: &str = "new";
/// Where a scenario has its sealing key, beside the state directory.
const SECRETS: &str = "secrets";

/// The child: stages and promotes over what is there, and ends with the error if there is one.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    let seal = std::env::var_os(SEALING).map(|secrets| Seal::from_directory(Path::new(&secrets), "key").unwrap());
    let store = sealing(dir, seal);
    let new = grant(NEW);
    let marker = |name: &str| drop(fs::remove_file(dir.join(name)));
    let done = store.stage(&new, NOW).and_then(|_| {
        marker(STAGED);
        store.promote()?;
        marker(PROMOTED);
        Ok(())
    });
    if let Err(e) = done {
        eprintln!("failed: {e}");
        std::process::exit(FAILED);
    }
}

const FAILED: i32 = 9;

/// How a child ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed(String),
    Killed,
}

/// What is there before.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) sealing: bool,
    prepare: fn(&Path),
    /// In this order.
    pub(super) states: &'static [[&'static str; 3]],
}

pub(super) const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "nothing is there",
        sealing: false,
        prepare: |_| {},
        states: &[["-", "-", "-"], ["-", NEW, "-"], [NEW, "-", "-"]],
    },
    Scenario {
        name: "good sets and an older candidate",
        sealing: false,
        prepare: full,
        states: &[
            ["old", "older-candidate", "oldest"],
            ["old", NEW, "oldest"],
            ["old", NEW, "old"],
            [NEW, "-", "old"],
        ],
    },
    Scenario {
        name: "a set of the first release",
        sealing: false,
        prepare: |dir| upgrade::first_release(&store(dir), "old"),
        states: &[
            ["old", "-", "-"],
            ["old", NEW, "-"],
            ["old", NEW, "old"],
            [NEW, "-", "old"],
        ],
    },
    Scenario {
        name: "plain keys to be sealed",
        sealing: true,
        prepare: full,
        states: &[
            ["old", "older-candidate", "oldest"],
            ["old", NEW, "oldest"],
            ["old", NEW, "old"],
            [NEW, "-", "old"],
        ],
    },
];

fn full(dir: &Path) {
    let store = store(dir);
    keep(&store, "oldest");
    keep(&store, "old");
    store.stage(&grant("older-candidate"), NOW).unwrap();
}

/// A scenario as it stands on disk, to begin from again and again.
pub(super) struct Stage {
    pub(super) scenario: &'static Scenario,
    dir: tempfile::TempDir,
}

impl Stage {
    pub(super) fn new(scenario: &'static Scenario) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stage = Self { scenario, dir };
        fs::create_dir(stage.path("template")).unwrap();
        fs::create_dir(stage.path(SECRETS)).unwrap();
        fs::write(stage.path(SECRETS).join("key"), [7; 32]).unwrap();
        (scenario.prepare)(&stage.path("template"));
        let built = Command::new("cc")
            .args([
                "-std=gnu11",
                "-O1",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-shared",
                "-fPIC",
                "-o",
            ])
            .arg(stage.path("killer.so"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/killer.c"))
            .arg("-ldl")
            .output()
            .expect("cc, with which Rust links (apt-get install gcc)");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        stage.reset();
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    /// Everything as it was in the beginning.
    pub(super) fn reset(&self) {
        let _ = fs::remove_dir_all(self.state_dir());
        let copied = Command::new("cp")
            .arg("-a")
            .args([self.path("template"), self.state_dir()])
            .status();
        assert!(copied.unwrap().success());
    }

    pub(super) fn store(&self) -> Store {
        let secrets = self.path(SECRETS);
        let seal = self
            .scenario
            .sealing
            .then(|| Seal::from_directory(&secrets, "key").unwrap());
        sealing(&self.state_dir(), seal)
    }

    /// Runs the child with something happening at call number `at` (0: nothing); its end, and its calls.
    pub(super) fn run(&self, at: usize, action: &str) -> (End, Vec<Call>) {
        let trace = self.path("trace");
        let _ = fs::remove_file(&trace);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "provision::store::tests::shim::child", "--nocapture"])
            .env(DIR, self.state_dir())
            .env("LD_PRELOAD", self.path("killer.so"))
            .env("ONYX_SHIM_BELOW", self.state_dir())
            .env("ONYX_SHIM_TRACE", &trace)
            .env("ONYX_SHIM_AT", at.to_string())
            .env("ONYX_SHIM_DO", action);
        if self.scenario.sealing {
            command.env(SEALING, self.path(SECRETS));
        }
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let end = match (output.status.code(), output.status.signal()) {
            (Some(0), _) => End::Done,
            (Some(FAILED), _) => End::Failed(err),
            (None, Some(signal)) if signal == Signal::SIGKILL as i32 => End::Killed,
            _ => panic!("{at} {action}: the child ended with {:?}: {err}", output.status),
        };
        let trace = fs::read_to_string(&trace).unwrap_or_default();
        (end, trace.lines().map(|l| Call::parse(l, &self.state_dir())).collect())
    }

    /// Where the roles stand among the scenario's states.
    pub(super) fn state(&self, what: &str) -> usize {
        let seen = names(&self.store());
        let states = self.scenario.states;
        states
            .iter()
            .position(|state| *state == seen)
            .unwrap_or_else(|| panic!("{}, {what}: {seen:?} is none of {states:?}", self.scenario.name))
    }

    /// A second writer finishes the work, and leaves nothing behind.
    pub(super) fn finish(&self, what: &str) {
        let store = self.store();
        store
            .stage(&grant("last"), NOW)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        store.promote().unwrap_or_else(|e| panic!("{what}: {e}"));
        let seen = names(&store);
        assert_eq!((seen[0].as_str(), seen[1].as_str()), ("last", "-"), "{what}");
        assert_ne!(seen[2], "damaged", "{what}");
        let list = listing(&store);
        let sets = list.iter().filter(|n| n.starts_with("set-")).count();
        let roles = list
            .iter()
            .filter(|n| matches!(n.as_str(), "current" | "previous"))
            .count();
        assert_eq!((sets, sets + roles), (roles, list.len()), "{what}: {list:?}");
    }
}

/// A line of the trace; paths are relative to the identity's directory where they are below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) second: String,
}

impl Call {
    fn parse(line: &str, state_dir: &Path) -> Self {
        let identity = sealing(state_dir, None).directory().display().to_string();
        let short = |path: &str| match path.strip_prefix(&identity) {
            Some("") => ".".to_owned(),
            Some(rest) => rest.trim_start_matches('/').to_owned(),
            None => path.to_owned(),
        };
        let words: Vec<_> = line.split(' ').collect();
        Self {
            name: words[1].to_owned(),
            path: short(words[2]),
            second: words.get(3).map_or_else(String::new, |w| short(w)),
        }
    }
}

/// A line of the test's output, capturing or not.
pub(super) fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "| store: {line}");
}
