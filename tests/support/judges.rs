//! The vendors' own clients, which judge our simulated clouds: Python and Node with what `tests/setup judges` installed below
//! cargo's target folder, and nothing of the user's own set-up.
//!
//! A judge is a script in tests/judges. It gets what it needs as arguments, prints what it found as JSON, one value a line, and
//! ends with status 0. Node's scripts use `require`: `import` does not look at `NODE_PATH`.
#![allow(unreachable_pub, dead_code)] // shared: no test target uses all of it

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// A judge that has not ended by then is stuck: the slowest waits 2 s between two polls, and this machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where `tests/setup judges` installs. Cargo says where its target folder is only through the folder for tests in it.
fn installed() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the target folder");
    let judges = target.join("judges");
    // The last thing that the installation writes.
    let key = judges.join("key");
    assert!(
        key.is_file(),
        "the vendors' clients are not installed ({} is missing): run tests/setup judges",
        key.display()
    );
    judges
}

/// A script in tests/judges.
pub fn script(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges").join(name);
    assert!(path.is_file(), "there is no judge {}", path.display());
    path
}

/// A program that dies with its test, trusts only the authorities it is told, and finds no module but its own.
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut c = Command::new(program);
    c.kill_on_drop(true).stdin(Stdio::null());
    for inherited in [
        "PYTHONHOME",
        "PYTHONPATH",
        "NODE_OPTIONS",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "NODE_EXTRA_CA_CERTS",
    ] {
        c.env_remove(inherited);
    }
    c
}

/// Python with azure-iot-device, awsiotsdk and gmqtt.
pub fn python() -> Command {
    let mut c = command(installed().join("python/bin/python"));
    // Lines are there as soon as they are printed; the source tree gets no folder of compiled files.
    c.env("PYTHONUNBUFFERED", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONNOUSERSITE", "1");
    c
}

/// The same Python with aiomqtt and the paho-mqtt that it needs, which comes before the older one.
pub fn python_with_aiomqtt() -> Command {
    let modules = installed().join("aiomqtt");
    let mut c = python();
    c.env("PYTHONPATH", modules);
    c
}

/// Node with azure-iot-device, azure-iot-provisioning-device-http, mqtt and what belongs to them.
pub fn node() -> Command {
    let modules = installed().join("node/node_modules");
    let mut c = command("node");
    c.env("NODE_PATH", modules);
    c
}

/// Reads to the end; what was read before the wait was given up stays in `into`.
async fn read(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) {
    while from.read_buf(into).await.expect("a judge's output") > 0 {}
}

/// Runs a judge to its end, which has to come within [`PATIENCE`] and with status 0. Answers the JSON lines that it printed.
pub async fn run(judge: &mut Command) -> Vec<Value> {
    let mut child = judge
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {judge:?}: {e}; run tests/setup judges"));
    let (stdout, stderr) = (
        child.stdout.take().expect("stdout"),
        child.stderr.take().expect("stderr"),
    );
    let (mut printed, mut complained) = (Vec::new(), Vec::new());
    let all = async { tokio::join!(read(stdout, &mut printed), read(stderr, &mut complained), child.wait()).2 };
    let end = tokio::time::timeout(PATIENCE, all).await;
    let printed = String::from_utf8_lossy(&printed);
    let said = || {
        let complained = String::from_utf8_lossy(&complained);
        format!("{judge:?}\nstdout:\n{printed}\nstderr:\n{complained}")
    };
    match end {
        Err(_) => panic!("the judge did not end within {PATIENCE:?}: {}", said()),
        Ok(Err(e)) => panic!("cannot wait for the judge: {e}: {}", said()),
        Ok(Ok(status)) if !status.success() => panic!("the judge failed ({status}): {}", said()),
        Ok(Ok(_)) => {}
    }
    let value = |line: &str| {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("not a line of JSON ({e}): {line}\n{}", said()))
    };
    printed.lines().filter(|l| !l.trim().is_empty()).map(value).collect()
}
