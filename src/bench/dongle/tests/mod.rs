//! The engine on virtual time, by bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clock;
mod faults;
mod line;
mod network;
mod properties;
mod sim;
mod uicc;

use std::time::Duration;

use super::config::Config;
use super::engine::Engine;
use super::scenario::{Event, Scenario};

/// An engine, its time, and short words to talk to it.
struct Bench {
    engine: Engine,
    now: Duration,
}

impl Bench {
    /// Just switched on.
    fn cold(scenario: &str) -> Self {
        let scenario = Scenario::parse(scenario).unwrap();
        let host = "2026-11-21T12:00:00Z".parse().unwrap();
        let engine = Engine::new(
            Config {
                scenario,
                ..Config::default()
            },
            Some(host),
        );
        Self {
            engine,
            now: Duration::ZERO,
        }
    }

    /// Ten seconds later, with echo off and what came out so far taken away.
    fn warm(scenario: &str) -> Self {
        let mut bench = Self::cold(scenario);
        bench.wait(10_000);
        bench.say("ATE0\r");
        bench
    }

    fn take(&mut self) -> String {
        let bytes = self.engine.output().to_vec();
        self.engine.sent(bytes.len());
        bytes.iter().map(|b| char::from(*b)).collect()
    }

    /// Bytes now; what comes out at once.
    fn say(&mut self, text: &str) -> String {
        self.engine.input(self.now, text.as_bytes());
        self.take()
    }

    /// Lets time pass.
    fn wait(&mut self, ms: u64) -> String {
        self.now += Duration::from_millis(ms);
        self.engine.tick(self.now);
        self.take()
    }

    fn happen(&mut self, event: Event) -> String {
        self.engine.inject(self.now, event);
        self.take()
    }
}

/// Information lines of one command and OK, with echo off.
fn ok(lines: &[&str]) -> String {
    let mut text = String::new();
    if !lines.is_empty() {
        text = format!("\r\n{}\r\n", lines.join("\r\n"));
    }
    text + "\r\nOK\r\n"
}

fn cme(code: u16) -> String {
    format!("\r\n+CME ERROR: {code}\r\n")
}

fn urc(text: &str) -> String {
    format!("\r\n{text}\r\n")
}
