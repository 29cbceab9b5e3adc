//! What a person and a program see: plain lines in a pipe, a table on a terminal, JSON.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stage::DEVICE;
use crate::tools::{LIMIT, Lines, command, spawn, succeed};

async fn publish(dir: &std::path::Path) {
    let text = std::fs::read_to_string(dir.join("clouds.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let list = json["stand_ins"].as_array().unwrap();
    let one = list.iter().find(|s| s["name"] == "event-grid").unwrap();
    let mut c = command("mosquitto_pub");
    c.args(["-h", one["address"].as_str().unwrap(), "-p", &one["port"].to_string()]);
    c.arg("--cafile").arg(dir.join("ca.pem"));
    c.arg("--cert").arg(dir.join(format!("devices/{DEVICE}.pem")));
    c.arg("--key").arg(dir.join(format!("devices/{DEVICE}.key")));
    c.args([
        "-u",
        DEVICE,
        "-i",
        DEVICE,
        "-t",
        "exampletopics/a",
        "-q",
        "1",
        "-m",
        "hi",
    ]);
    succeed(&mut c).await;
}

#[tokio::test]
async fn a_pipe_gets_plain_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
    c.args(["clouds", "--device", DEVICE, "--dir"]).arg(dir.path());
    let mut child = spawn(c.stdout(Stdio::piped()));
    let mut lines = Lines::of(&mut child);
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|l: &String| l.starts_with("control")) {
        seen.push(lines.next().await);
    }
    assert!(
        seen[0].starts_with("clouds ready: ") && seen[1].contains("as krypton.soracom.io"),
        "{seen:?}"
    );
    publish(dir.path()).await;
    for wanted in [
        "connected \"dev-1\"",
        "message from \"dev-1\"",
        "disconnected \"dev-1\"",
        "closed \"dev-1\"",
    ] {
        let line = lines.next().await;
        assert!(line.contains(wanted) && !line.contains('\x1b'), "{line:?}");
        if wanted.starts_with("closed") {
            assert!(line.contains(" bytes up, ") && line.ends_with(" s"), "{line}");
        }
    }
}

#[tokio::test]
async fn a_terminal_gets_a_table_that_changes_in_place() {
    let dir = tempfile::tempdir().unwrap();
    // util-linux's script gives the program a terminal.
    let bench = env!("CARGO_BIN_EXE_onyx-bench");
    let line = format!(
        "stty cols 150 rows 40; exec {bench} clouds --device {DEVICE} --dir {}",
        dir.path().display()
    );
    let mut c = command("script");
    c.args(["-q", "-f", "-c", &line, "/dev/null"]).env("TERM", "xterm");
    let mut child = spawn(c.stdout(Stdio::piped()));
    let mut out = child.stdout.take().unwrap();
    let mut shown = String::new();
    let mut read_until = async |words: &[&str]| {
        let wait = async {
            let mut buffer = [0; 4_096];
            while !words.iter().all(|w| shown.contains(w)) {
                let n = out.read(&mut buffer).await.unwrap();
                assert!(n > 0, "it ended: {shown}");
                shown.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        };
        let done = tokio::time::timeout(LIMIT, wait).await;
        assert!(done.is_ok(), "no {words:?} in {shown}");
        std::mem::take(&mut shown)
    };
    read_until(&["stand-in ", "bytes down"]).await;
    publish(dir.path()).await;
    let text = read_until(&["message from \"dev-1\"", "closed \"dev-1\"", "\x1b["]).await;
    assert!(text.contains("connected \"dev-1\""), "{text}");
    // The row of Event Grid has counted the message: no connection, one message, no refusal.
    let counted = async {
        let mut buffer = [0; 4_096];
        let mut text = text;
        // indicatif fills lines with blanks instead of ending them.
        let has = |text: &str| {
            text.split("event-grid").skip(1).any(|row| {
                let mut cells = row.split_whitespace();
                cells.next() == Some("mqtts") && cells.skip(1).take(3).eq(["0", "1", "0"])
            })
        };
        while !has(&text) {
            let n = out.read(&mut buffer).await.unwrap();
            assert!(n > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    };
    assert!(
        tokio::time::timeout(LIMIT, counted).await.is_ok(),
        "the table does not count"
    );
}

/// A pipe that nobody reads fills up; clients are served all the same, and SIGTERM ends the bench.
#[tokio::test]
async fn a_pipe_that_nobody_reads_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
    c.args(["clouds", "--json", "--device", DEVICE, "--dir"])
        .arg(dir.path());
    let mut child = spawn(c.stdout(Stdio::piped()));
    let mut lines = Lines::of(&mut child);
    assert!(lines.next().await.contains(r#""event":"ready""#));
    let json = std::fs::read_to_string(dir.path().join("clouds.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let beam = json["stand_ins"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["name"] == "beam");
    let (address, port) = (&beam.unwrap()["address"], &beam.unwrap()["port"]);
    let beam = format!("{}:{port}", address.as_str().unwrap());
    // A packet of type 0, refused at once: two events each, several hundred bytes together: many times what a pipe holds (64 KiB).
    for _ in 0..1_000 {
        let mut stream = tokio::net::TcpStream::connect(&beam).await.unwrap();
        stream.write_all(b"\0\0").await.unwrap();
        // Until the stand-in has had enough of it; a reset is as good as an end.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    publish(dir.path()).await;
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
}
