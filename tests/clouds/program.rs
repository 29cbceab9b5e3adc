//! The program `onyx-bench clouds` itself.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::tools::{LIMIT, Lines, command, output, spawn, succeed};

fn clouds(dir: &Path) -> Command {
    let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
    c.args(["clouds", "--dir"]).arg(dir);
    c
}

async fn start(c: &mut Command) -> (Child, Lines) {
    let mut child = spawn(c.stdout(Stdio::piped()));
    let mut lines = Lines::of(&mut child);
    let first = lines.next().await;
    assert!(
        first.starts_with("clouds ready: ") && first.ends_with("/clouds.json") || first.contains(r#""event":"ready""#),
        "{first}"
    );
    (child, lines)
}

async fn stop(mut child: Child) {
    let id = child.id().unwrap().to_string();
    succeed(command("kill").args(["-TERM", &id])).await;
    let status = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

fn port(dir: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(dir.join("clouds.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let list = all["stand_ins"].as_array().unwrap();
    let one = list.iter().find(|s| s["name"] == name).unwrap();
    assert!(one["host"].is_string() && one["protocol"].is_string());
    assert_eq!(one["address"], "127.0.0.77");
    one["port"].to_string()
}

#[tokio::test]
async fn devices_keep_their_credentials_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let bind = ["--bind", "127.0.0.77"];
    let (child, _lines) = start(
        clouds(d)
            .args(bind)
            .args(["--device", "pi-1", "--device", "pi-2", "--quiet"]),
    )
    .await;
    let ca = std::fs::read_to_string(d.join("ca.pem")).unwrap();
    for secret in ["ca.key", "intermediate.key", "devices/pi-1.key", "devices/pi-2.key"] {
        let mode = std::fs::metadata(d.join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    stop(child).await;

    let (child, mut lines) = start(clouds(d).args(bind).arg("--json")).await;
    assert_eq!(std::fs::read_to_string(d.join("ca.pem")).unwrap(), ca);
    let mut c = command("mosquitto_pub");
    c.args([
        "-h",
        "127.0.0.77",
        "-p",
        &port(d, "event-grid"),
        "-u",
        "pi-1",
        "-i",
        "pi-1",
    ]);
    c.arg("--cafile").arg(d.join("ca.pem"));
    c.arg("--cert").arg(d.join("devices/pi-1.pem"));
    c.arg("--key").arg(d.join("devices/pi-1.key"));
    succeed(c.args(["-t", "exampletopics/a", "-q", "1", "-m", "hello"])).await;
    for want in ["connected", "message", "disconnected"] {
        let event: Value = serde_json::from_str(&lines.next().await).unwrap();
        assert_eq!((&event["event"], &event["cloud"]), (&want.into(), &"event-grid".into()));
    }
    stop(child).await;
}

#[tokio::test]
async fn options_that_cannot_be_are_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    for (args, sentence) in [
        (&["--bind", "0.0.0.0"][..], "--allow-non-loopback"),
        (&["--device-id-pattern", "same"], "$imsi"),
        (&["--device", "../escape"], "cannot be a device's name"),
        (&["--krypton-fault", "explode"], "no Krypton fault"),
        (&["--mqtt-fault", "moon:refuse-5"], "none of event-grid"),
        (&["--subscriber", "x@127.0.0.1"], "IMSI"),
        (&["--imsi", "12"], "IMSI"),
    ] {
        let out = output(clouds(dir.path()).args(args)).await;
        assert!(!out.status.success(), "{args:?}");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(said.contains(sentence), "{args:?}: {said}");
    }
}

#[tokio::test]
async fn a_bench_may_have_some_stand_ins_only() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let (child, _lines) = start(clouds(d).args(["--only", "krypton", "--only", "event-grid", "--quiet"])).await;
    let all: Value = serde_json::from_str(&std::fs::read_to_string(d.join("clouds.json")).unwrap()).unwrap();
    let names: Vec<_> = all["stand_ins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["name"])
        .collect();
    assert_eq!(names, ["krypton", "event-grid"]);
    // A fault for one that is not there is a mistake, not a fault that never happens.
    let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
    let out = output(c.args(["clouds", "fault", "--dir"]).arg(d).arg("iot-hub:refuse-5")).await;
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("iot-hub"), "{out:?}");
    stop(child).await;
    let out = output(clouds(d).args(["--only", "azure"])).await;
    assert!(String::from_utf8_lossy(&out.stderr).contains("event-grid"), "{out:?}");
}

#[tokio::test]
async fn one_directory_is_for_one_bench() {
    let dir = tempfile::tempdir().unwrap();
    let (child, _lines) = start(clouds(dir.path()).arg("--quiet")).await;
    let before = std::fs::read_to_string(dir.path().join("clouds.json")).unwrap();
    let out = output(clouds(dir.path()).arg("--quiet")).await;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && said.contains("another bench is running in"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(dir.path().join("clouds.json")).unwrap(), before);
    stop(child).await;
    let (child, _lines) = start(clouds(dir.path()).arg("--quiet")).await;
    stop(child).await;
}
