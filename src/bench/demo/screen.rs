//! What the user sees: on a terminal the eight rungs that change in place, elsewhere one line an event, or JSON lines.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::files::Files;
use super::ledger::Ledger;
use crate::agent::ladder::Rung;
use crate::bench::clouds::{Cloud, Clouds, Message, Payload};
use crate::clock::Clock;

/// How often a spinner moves.
const SPIN: Duration = Duration::from_millis(100);
/// Characters of a message that are shown.
const PAYLOAD_SHOWN: usize = 260;

pub(super) struct Screen {
    json: bool,
    clock: Clock,
    way: &'static str,
    rungs: Option<(MultiProgress, Vec<ProgressBar>)>,
}

impl Screen {
    pub(super) fn new(json: bool, clock: &Clock) -> Self {
        Self {
            json,
            clock: clock.clone(),
            way: "",
            rungs: None,
        }
    }

    fn line(&self, text: &str) {
        let seconds = self.clock.monotonic().as_secs_f64();
        put(&format!("{seconds:6.2} s  {text}"));
    }

    pub(super) fn say(&mut self, text: &str) {
        if self.json {
            put(&json!({"event": "note", "text": text}).to_string());
        } else {
            self.line(text);
        }
    }

    /// A way begins: its ladder is shown.
    pub(super) fn way(&mut self, way: &'static str, text: &str) {
        self.way = way;
        self.say(&format!("{way}: {text}"));
        if self.json || !std::io::stdout().is_terminal() {
            return;
        }
        let all = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("          {spinner} {prefix:<12} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bars = Rung::ALL
            .iter()
            .map(|rung| {
                let bar = all.add(ProgressBar::new_spinner().with_style(style.clone().tick_strings(&["○", "○"])));
                bar.set_prefix(rung.word());
                bar.tick();
                bar
            })
            .collect();
        self.rungs = Some((all, bars));
    }

    pub(super) fn way_ends(&mut self) {
        if let Some((_, bars)) = self.rungs.take() {
            for bar in bars {
                bar.abandon();
            }
        }
    }

    /// A log line of the agent.
    pub(super) fn agent(&mut self, event: &Value) {
        let fields = &event["fields"];
        let text = |key: &str| fields[key].as_str().unwrap_or("");
        let Some(index) = Rung::ALL.iter().position(|r| r.word() == text("rung")) else {
            return;
        };
        let (rung, state, why) = (text("rung"), text("state"), text("message"));
        if self.json {
            put(&json!({"event": "rung", "way": self.way, "rung": rung, "state": state, "why": why}).to_string());
            return;
        }
        match self.rungs.as_ref().and_then(|(_, bars)| bars.get(index)) {
            None => self.line(&format!("{:<8} {rung:<12} {state:<9} {why}", self.way)),
            Some(bar) => {
                let ticks: &[&str] = match state {
                    "up" => &["\x1b[32m●\x1b[0m", "\x1b[32m●\x1b[0m"],
                    "climbing" => &["◐", "◓", "◑", "◒", "◐"],
                    "down" => &["\x1b[31m✗\x1b[0m", "\x1b[31m✗\x1b[0m"],
                    _ => &["○", "○"],
                };
                bar.set_style(bar.style().tick_strings(ticks));
                bar.set_message(why.to_owned());
                if state == "climbing" {
                    bar.enable_steady_tick(SPIN);
                } else {
                    bar.disable_steady_tick();
                    bar.tick();
                }
            }
        }
    }

    /// Something that a cloud received.
    pub(super) fn message(&mut self, m: &Message) {
        if self.json {
            if let Ok(mut v) = serde_json::to_value(m) {
                v["event"] = json!("message");
                put(&v.to_string());
            }
            return;
        }
        let text = match &m.payload {
            Payload::Text(text) => readings(text),
            Payload::Base64(text) => format!("{} characters of base64", text.len()),
        };
        let shown: String = text.chars().take(PAYLOAD_SHOWN).collect();
        put(&format!("          {:<10} received {shown}", m.cloud.to_string()));
    }

    pub(super) fn figures(&mut self, figures: &Value) {
        if self.json {
            put(&json!({"event": "figures", "figures": figures}).to_string());
            return;
        }
        let seconds = |key: &str| figures[key].as_f64().unwrap_or(0.0);
        let rss = figures["agent_peak_rss_kib"]
            .as_u64()
            .map_or(String::new(), |kib| format!("; the agent's peak RSS {kib} KiB"));
        self.line(&format!(
            "took {:.1} s: direct {:.1} s, gateway {:.1} s{rss}",
            seconds("seconds"),
            seconds("direct_seconds"),
            seconds("gateway_seconds")
        ));
    }

    /// How to go on by hand.
    pub(super) fn hints(&mut self, files: &Files, clouds: &Clouds, gateway: SocketAddr, stays: bool) {
        let hub = clouds.address(Cloud::IotHub);
        self.say(&format!(
            "logs, also the dongle's AT dialogue: {}",
            files.logs().display()
        ));
        if !stays {
            self.say("add --stay to keep dongle, clouds and gateway running and go on by hand in another terminal");
            return;
        }
        self.say(&format!("onyx-agent modem --port {}", files.port().display()));
        self.say(&format!("onyx-agent run --config {}", files.direct().display()));
        self.say(&format!("onyx-agent run --config {}", files.through().display()));
        self.say(&format!(
            "mosquitto_pub -d -h {} -p {} -V mqttv311 -i by-hand -q 1 -t exampletopics/topic1 -m hello",
            gateway.ip(),
            gateway.port()
        ));
        if let Some(hub) = hub {
            self.say(&format!(
                "the IoT Hub stand-in is at {hub}; its authority is {}",
                files.clouds().join("ca.pem").display()
            ));
        }
    }

    pub(super) fn result(&mut self, ledger: &Ledger<'_>) {
        if self.json {
            put(&ledger.to_json().to_string());
        } else {
            put(&ledger.line());
        }
    }
}

/// A sample as `seq 3 load1=0.42 … rsrp_dbm=-92`; what is no sample as it is.
fn readings(text: &str) -> String {
    let Ok(sample) = serde_json::from_str::<Value>(text) else {
        return text.to_owned();
    };
    let mut out = format!("seq {:<2}", sample["seq"]);
    for part in ["host", "modem"] {
        for (key, value) in sample[part].as_object().into_iter().flatten() {
            out.push_str(&format!(" {key}={value}"));
        }
    }
    out
}

/// `println!` panics when the reader of a pipe has gone; the demo then simply goes on silently.
fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
