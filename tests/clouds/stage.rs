//! The program `onyx-bench clouds` with its events, for tests that disturb it from outside.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::tools::{LIMIT, Lines, command, output, spawn, succeed};

/// The device whose credentials are there.
pub(crate) const DEVICE: &str = "dev-1";

/// How a fault is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    CommandLine,
    Scenario,
    Control,
}

/// A running bench.
pub(crate) struct Stage {
    pub(crate) dir: tempfile::TempDir,
    json: Value,
    lines: Lines,
    _child: Child,
}

impl Stage {
    pub(crate) async fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, more).await
    }

    async fn start_in(dir: tempfile::TempDir, more: &[&str]) -> Self {
        let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
        // One device with several client ids at a time is what some of these tests are about.
        c.args([
            "clouds",
            "--json",
            "--event-grid-sessions",
            "8",
            "--device",
            DEVICE,
            "--dir",
        ])
        .arg(dir.path());
        let mut child = spawn(c.args(more).stdout(Stdio::piped()));
        let mut lines = Lines::of(&mut child);
        assert!(lines.next().await.starts_with(r#"{"clouds":""#));
        let text = std::fs::read_to_string(dir.path().join("clouds.json")).unwrap();
        Self {
            dir,
            json: serde_json::from_str(&text).unwrap(),
            lines,
            _child: child,
        }
    }

    /// With this fault in force.
    pub(crate) async fn with(way: Way, fault: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        match way {
            Way::CommandLine => Self::start_in(dir, &["--fault", fault]).await,
            Way::Scenario => {
                let file = dir.path().join("scenario.toml");
                std::fs::write(&file, format!("[[event]]\nat = '0s'\nfault = '{fault}'\n")).unwrap();
                let file = file.to_str().unwrap().to_owned();
                let stage = Self::start_in(dir, &["--scenario", &file]).await;
                stage
                    .until("/faults", |v| v.as_object().is_some_and(|o| !o.is_empty()))
                    .await;
                stage
            }
            Way::Control => {
                let stage = Self::start_in(dir, &[]).await;
                let body = serde_json::json!({"fault": fault}).to_string();
                let answer = stage.ask("PUT", "/faults", &body).await;
                assert!(answer["in_force"][0]["id"].is_u64(), "{answer}");
                stage
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn control(&self) -> String {
        self.json["control"].as_str().unwrap().to_owned()
    }

    pub(crate) fn stand_ins(&self) -> &Vec<Value> {
        self.json["stand_ins"].as_array().unwrap()
    }

    /// Where the first door of a stand-in is.
    pub(crate) fn address(&self, cloud: &str) -> (String, String) {
        let one = self.stand_ins().iter().find(|s| s["name"] == cloud).unwrap();
        (one["address"].as_str().unwrap().to_owned(), one["port"].to_string())
    }

    /// curl to the control endpoint: status code and answer.
    pub(crate) async fn raw(&self, more: &[&str], path: &str) -> (u16, String) {
        let mut c = command("curl");
        c.args(["-s", "-m", "20", "-w", "\n%{http_code}"]).args(more);
        let said = succeed(c.arg(format!("{}{path}", self.control()))).await;
        let (body, status) = said.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let mut more = vec!["-X", method];
        if !body.is_empty() {
            more.extend(["-d", body]);
        }
        let (status, text) = self.raw(&more, path).await;
        assert_eq!(status, 200, "{method} {path} {body}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Asks until the answer is `good`.
    pub(crate) async fn until(&self, path: &str, good: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let answer = self.ask("GET", path, "").await;
                if good(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("never so")
    }

    /// Waits until whoever prints these lines follows the events; what it prints now and later may be notes about a clock.
    pub(crate) async fn is_followed(&self, lines: &mut Lines) {
        let told = async {
            loop {
                self.ask("POST", "/clock", r#"{"cloud":"beam","by":"+0s"}"#).await;
                if let Ok(line) = tokio::time::timeout(Duration::from_millis(100), lines.next()).await {
                    return line;
                }
            }
        };
        let line = tokio::time::timeout(LIMIT, told).await.expect("nobody follows");
        assert!(line.contains("\"note\""), "{line}");
    }

    /// The next event that satisfies `wanted`.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.next().await;
            let event: Value = serde_json::from_str(&line).unwrap();
            if wanted(&event) {
                return event;
            }
        }
    }

    /// The next TCP connection of a stand-in that is closed.
    pub(crate) async fn closed(&mut self, cloud: &str) -> Value {
        self.event(|e| e["event"] == "closed" && e["cloud"] == cloud).await
    }

    /// The next refusal.
    pub(crate) async fn refused(&mut self, cloud: &str) -> Value {
        self.event(|e| e["event"] == "refused" && e["cloud"] == cloud).await
    }

    /// A mosquitto program as the device, at Event Grid.
    pub(crate) fn mosquitto(&self, program: &str) -> Command {
        let (host, port) = self.address("event-grid");
        let mut c = command(program);
        c.args(["-h", &host, "-p", &port, "--cafile", &self.path("ca.pem")]);
        c.args(["--cert", &self.path(&format!("devices/{DEVICE}.pem"))]);
        c.args(["--key", &self.path(&format!("devices/{DEVICE}.key"))]);
        c.args(["-u", DEVICE, "-i", DEVICE, "-t", "exampletopics/a", "-q", "1"]);
        c
    }

    pub(crate) fn publisher(&self) -> Command {
        let mut c = self.mosquitto("mosquitto_pub");
        c.args(["-m", "hello"]);
        c
    }

    /// `openssl s_client` at a stand-in; it ends after its handshake.
    pub(crate) fn openssl(&self, cloud: &str) -> Command {
        let (host, port) = self.address(cloud);
        let mut c = command("openssl");
        c.args([
            "s_client",
            "-connect",
            &format!("{host}:{port}"),
            "-servername",
            "localhost",
        ]);
        c.args(["-CAfile", &self.path("ca.pem"), "-verify_return_error"]);
        c.args(["-verify_hostname", "localhost"]);
        c.args(["-cert", &self.path(&format!("devices/{DEVICE}.pem"))]);
        c.args(["-key", &self.path(&format!("devices/{DEVICE}.key"))]);
        c
    }

    /// curl asking Krypton to register; status 0 is none.
    pub(crate) async fn krypton(&self, more: &[&str]) -> (std::process::Output, String) {
        let (host, port) = self.address("krypton");
        let mut c = command("curl");
        c.args(["-s", "-m", "10", "--cacert", &self.path("ca.pem"), "-X", "POST"]);
        c.args(["-w", "\n%{http_code} %{time_total}"]).args(more);
        let out = output(c.arg(format!("https://{host}:{port}/v1/provisioning/azure/iot/register"))).await;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        (out, text)
    }
}

/// Everything a program said.
pub(crate) fn said(out: &std::process::Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}
