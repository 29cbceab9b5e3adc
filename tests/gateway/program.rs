//! The program: what it prints, what it answers, how it ends.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::certs::Kind;
use crate::mosquitto::client;
use crate::stage::{A, IMEI, IMSI_A, IMSI_B, Stage, TOKEN, client_id, name};

fn gateway(args: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"));
    command
        .args(args)
        .arg("--config")
        .arg(config)
        .env_remove("NOTIFY_SOCKET")
        .env_remove("JOURNAL_STREAM");
    command
}

fn output(args: &[&str], config: &Path) -> (Output, String) {
    let output = gateway(args, config).output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, text)
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn run_status_and_sigterm() {
    let stage = Stage::new();
    let config = stage.path("gateway.toml");
    std::fs::write(&config, stage.config_text(stage.upstream(), "")).unwrap();
    let notify = std::os::unix::net::UnixDatagram::bind(stage.path("notify")).unwrap();
    notify.set_read_timeout(Some(crate::mosquitto::PATIENCE)).unwrap();
    let mut command = gateway(&["run"], &config);
    command
        .env("NOTIFY_SOCKET", stage.path("notify"))
        .env("WATCHDOG_USEC", "1000000")
        .env_remove("WATCHDOG_PID");
    let mut child = Killed(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let address = line
        .strip_prefix("listening ")
        .expect("the first line")
        .trim()
        .parse()
        .unwrap();
    let mut told = String::new();
    let mut buffer = [0; 512];
    while !(told.contains("READY=1") && told.contains("WATCHDOG=1")) {
        let n = notify.recv(&mut buffer).expect("systemd is told");
        told += &String::from_utf8_lossy(&buffer[..n]);
    }
    let (id, from) = (client_id(IMSI_A), A.to_string());
    let args = [
        "-i", &id, "-V", "mqttv311", "-t", "t", "-m", "m", "-q", "1", "-A", &from,
    ];
    assert!(client("mosquitto_pub", address, &args).status.success());
    let said = client(
        "mosquitto_pub",
        address,
        &[
            "-i",
            "stranger",
            "-u",
            "x",
            "-P",
            "a-token-nobody-has",
            "-t",
            "t",
            "-m",
            "m",
        ],
    );
    assert!(!said.status.success());
    let held = crate::mosquitto::Client::spawn("mosquitto_sub", address, &["-d", "-i", &id, "-t", "t", "-A", &from]);
    held.wait_until(|t| t.contains("Subscribed"));

    let (out, text) = output(&["status", "--json"], &config);
    assert!(out.status.success(), "{text}");
    let status: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (status["open"].as_u64(), status["refused"]["unknown_device"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(status["connections"][0]["imsi"], "29501********01");
    let (_, text) = output(&["status"], &config);
    assert!(text.contains("29501********01 myClient-29501********01-"), "{text}");
    // A second one does not take the first one's port or socket.
    let (out, text) = output(&["run"], &config);
    assert!(
        !out.status.success() && text.contains("another instance already answers"),
        "{text}"
    );

    kill(Pid::from_raw(child.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let mut log = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(child.0.wait().unwrap().success(), "{log}");
    for part in [
        "connected",
        "refused: no subscriber has this address",
        "SIGTERM",
        "stopped: 1 connections ended in order, 0 were cut",
    ] {
        assert!(log.contains(part), "{part:?} is not in\n{log}");
    }
    for secret in [IMSI_A, IMEI, TOKEN, "a-token-nobody-has"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    assert!(!stage.path("status.sock").exists());
    let (out, text) = output(&["status"], &config);
    assert!(
        !out.status.success() && text.contains("no onyx-gateway is running"),
        "{text}"
    );
}

#[test]
fn check_says_what_is_wrong_with_each_subscriber() {
    let stage = Stage::new();
    let config = stage.path("gateway.toml");
    std::fs::write(&config, stage.config_text(stage.upstream(), "")).unwrap();
    let (out, text) = output(&["check"], &config);
    assert!(out.status.success() && text.contains("0 errors"), "{text}");
    // 20 days are left: worth a warning.
    assert!(text.contains("the certificate expires in 19 days"), "{text}");

    stage
        .authority
        .device(Kind::V1, &name(IMSI_A), "another", &stage.credentials());
    std::fs::remove_file(stage.credentials().join(format!("{}.key", name(IMSI_B)))).unwrap();
    let token = stage.path("token");
    std::fs::write(&token, "short").unwrap();
    let (out, text) = output(&["check"], &config);
    assert_eq!(out.status.code(), Some(1), "{text}");
    for want in [
        "X.509 version 1",
        "CN=\"another\"",
        "ERROR   credential: cannot read",
        "must have 16 to 256",
        "2 errors",
    ] {
        assert!(text.contains(want), "{want:?} is not in\n{text}");
    }
    let (out, _) = output(&["check", "--json"], &config);
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (report["worst"].as_str(), report["subscribers"][0]["imsi"].as_str()),
        (Some("error"), Some(IMSI_A))
    );

    std::fs::write(&config, "[listen]\nadress = 'x'\n").unwrap();
    let (out, text) = output(&["check"], &config);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text.contains("gateway.toml:2:1: unknown key \"listen.adress\"; did you mean \"address\"?"),
        "{text}"
    );
    let (out, _) = output(&["check", "--json"], &config);
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (out.status.code(), report["configuration"][0]["line"].as_u64()),
        (Some(1), Some(2))
    );
}
