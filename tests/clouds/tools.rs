//! What the tests share: a bench with everything on free ports, and outside programs with a time limit.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use onyx::bench::clouds::{Cloud, Clouds, Config, Event, What};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::broadcast::Receiver;

/// Nothing in these tests takes longer, even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A bench in a directory of its own.
pub(crate) struct Bench {
    pub(crate) clouds: Clouds,
    pub(crate) dir: tempfile::TempDir,
    events: Receiver<Event>,
}

impl Bench {
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path());
        change(&mut config);
        let clouds = Clouds::start(config).await.unwrap();
        let events = clouds.events();
        Self { clouds, dir, events }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn port(&self, cloud: Cloud) -> String {
        self.clouds.address(cloud).unwrap().port().to_string()
    }

    /// A mosquitto program on its way to a stand-in as this device, dialling `host`.
    pub(crate) fn mosquitto(&self, program: &str, cloud: Cloud, host: &str, device: &str) -> Command {
        self.clouds.write_device(device).unwrap();
        let mut c = command(program);
        c.args(["-h", host, "-p", &self.port(cloud), "--cafile", &self.path("ca.pem")]);
        c.args(["--cert", &self.path(&format!("devices/{device}.pem"))]);
        c.args(["--key", &self.path(&format!("devices/{device}.key"))]);
        c
    }

    /// The next event that satisfies `wanted`.
    pub(crate) async fn event(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if wanted(&event) {
                    return event;
                }
                seen.push(event.to_string());
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(event) => event,
            Err(_) => panic!("no event {what:?} among:\n{}", seen.join("\n")),
        }
    }

    /// The next refusal has to be under this rule; answers how it looked.
    pub(crate) async fn refusal(&mut self, id: &str) -> String {
        let event = self.event(id, |e| matches!(e.what, What::Refused { .. })).await;
        match event.what {
            What::Refused { rule, ref look, .. } => {
                assert_eq!(rule, id, "{event}");
                look.clone()
            }
            _ => unreachable!(),
        }
    }

    pub(crate) async fn subscribed(&mut self) {
        self.event("subscribed", |e| matches!(e.what, What::Subscribed { .. }))
            .await;
    }

    /// The payloads accepted so far at one stand-in.
    pub(crate) fn payloads(&self, cloud: Cloud) -> Vec<String> {
        let text = |p: onyx::bench::clouds::Payload| match p {
            onyx::bench::clouds::Payload::Text(t) | onyx::bench::clouds::Payload::Base64(t) => t,
        };
        let all = self.clouds.messages().into_iter();
        all.filter(|m| m.cloud == cloud).map(|m| text(m.payload)).collect()
    }
}

/// A program that dies with its test.
pub(crate) fn command(program: &str) -> Command {
    let mut c = Command::new(program);
    c.kill_on_drop(true).stdin(Stdio::null());
    c
}

fn package(program: &str) -> &str {
    match program {
        "mosquitto_pub" | "mosquitto_sub" | "mosquitto_rr" => "mosquitto-clients",
        other => other,
    }
}

pub(crate) fn spawn(c: &mut Command) -> Child {
    let program = PathBuf::from(c.as_std().get_program());
    c.spawn().unwrap_or_else(|e| {
        let name = program.to_string_lossy();
        panic!("cannot run {name}: {e}; install the Debian package {}", package(&name))
    })
}

/// Runs a program to its end.
pub(crate) async fn output(c: &mut Command) -> Output {
    let child = spawn(c.stdout(Stdio::piped()).stderr(Stdio::piped()));
    tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .expect("the program did not end in time")
        .unwrap()
}

/// Runs a program that has to succeed; answers what it printed.
pub(crate) async fn succeed(c: &mut Command) -> String {
    let out = output(c).await;
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert!(
        out.status.success(),
        "{c:?} failed: {}{}",
        text(&out.stdout),
        text(&out.stderr)
    );
    text(&out.stdout)
}

/// Runs a program that has to fail.
pub(crate) async fn fail(c: &mut Command) {
    let out = output(c).await;
    assert!(!out.status.success(), "{c:?} should have failed");
}

/// Lines of a running program's standard output.
pub(crate) struct Lines(tokio::io::Lines<BufReader<tokio::process::ChildStdout>>);

impl Lines {
    pub(crate) fn of(child: &mut Child) -> Self {
        Self(BufReader::new(child.stdout.take().unwrap()).lines())
    }

    pub(crate) async fn next(&mut self) -> String {
        tokio::time::timeout(LIMIT, self.0.next_line())
            .await
            .expect("no line in time")
            .unwrap()
            .expect("the program ended without this line")
    }
}
