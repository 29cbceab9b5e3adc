//! What `onyx-bench clouds` shows: one line an event, and on a terminal a table of the doors below them that changes in place. Piped text
//! is plain lines; `--json` is one object a line with the same facts.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::journal::Event;
use super::stand_in::StandIn;
use super::visit::DoorCounts;

/// How often the table changes.
pub const REFRESH: Duration = Duration::from_millis(250);

const HEAD: [&str; 8] = [
    "stand-in",
    "door",
    "address",
    "connections",
    "messages",
    "refusals",
    "bytes up",
    "bytes down",
];

/// Columns as wide as they need to be; numbers to the right.
fn table(rows: &[[String; 8]]) -> Vec<String> {
    let head = HEAD.map(str::to_owned);
    let all: Vec<&[String; 8]> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| all.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let line = |row: &&[String; 8]| {
        let cells = row.iter().enumerate().map(|(at, cell)| {
            let width = width(at);
            if at < 3 {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

fn row(door: &DoorCounts) -> [String; 8] {
    [
        door.cloud.to_string(),
        door.protocol.as_str().to_owned(),
        door.address.to_string(),
        door.connections.to_string(),
        door.messages.to_string(),
        door.refusals.to_string(),
        door.bytes_up.to_string(),
        door.bytes_down.to_string(),
    ]
}

/// The doors as a table, the first line its head.
#[must_use]
pub fn doors(doors: &[DoorCounts]) -> Vec<String> {
    table(&doors.iter().map(row).collect::<Vec<_>>())
}

/// The answer of `GET /status` for people.
#[must_use]
pub fn status(status: &Value) -> String {
    let list = |key: &str| status[key].as_array().cloned().unwrap_or_default();
    let cell = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let rows: Vec<[String; 8]> = list("doors")
        .iter()
        .map(|d| {
            [
                "cloud",
                "protocol",
                "address",
                "connections",
                "messages",
                "refusals",
                "bytes_up",
                "bytes_down",
            ]
            .map(|key| cell(&d[key]))
        })
        .collect();
    let mut lines = table(&rows);
    for open in list("connections") {
        let client = open["client_id"]
            .as_str()
            .map(|c| format!(" {c:?}"))
            .unwrap_or_default();
        let stalled = if open["stalled"] == true {
            ", held still by a fault"
        } else {
            ""
        };
        lines.push(format!(
            "connection {}{client} from {} at {}: {} bytes up, {} down{stalled}",
            open["connection"],
            cell(&open["peer"]),
            cell(&open["cloud"]),
            open["bytes_up"],
            open["bytes_down"]
        ));
    }
    for (cloud, faults) in status["faults"].as_object().into_iter().flatten() {
        for fault in faults.as_array().into_iter().flatten() {
            let left = fault["left"]
                .as_u64()
                .map(|n| format!(", {n} times"))
                .unwrap_or_default();
            lines.push(format!(
                "fault {} at {cloud}: {} for {}{left}",
                fault["id"],
                cell(&fault["fault"]),
                cell(&fault["whom"])
            ));
        }
    }
    for clock in list("clocks") {
        lines.push(format!(
            "clock of {}: {} ms ahead",
            cell(&clock["cloud"]),
            clock["ahead_ms"]
        ));
    }
    lines.join("\n")
}

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines, with the table when standard output is a terminal.
    Text,
    /// JSON lines.
    Json,
    /// Nothing after the first line.
    Quiet,
}

/// Standard output.
pub struct View {
    form: Form,
    /// The whole table is one bar of several lines: several bars would each be drawn as often as indicatif sees fit.
    live: Option<ProgressBar>,
}

impl View {
    /// Not shown yet.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self { form, live: None }
    }

    /// The stand-ins are there: their addresses, and on a terminal the table.
    pub fn ready(&mut self, stand_ins: &[StandIn], control: &str, counts: &[DoorCounts]) {
        if self.form != Form::Text {
            return;
        }
        for s in stand_ins {
            let (name, protocol) = (s.name, s.protocol.as_str());
            put(&format!(
                "{name:<11} {protocol:<10} {}:{} as {}",
                s.address, s.port, s.host
            ));
        }
        put(&format!("{:<11} {:<10} {control}", "control", "http"));
        if std::io::stdout().is_terminal() {
            let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout()).with_style(style);
            self.live = Some(bar);
            self.refresh(counts);
        }
    }

    /// The counts have changed.
    pub fn refresh(&mut self, counts: &[DoorCounts]) {
        if let Some(live) = &self.live {
            live.set_message(doors(counts).join("\n"));
        }
    }

    /// Whether there is a table to be refreshed.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Something happened.
    pub fn event(&mut self, event: &Event) {
        match self.form {
            Form::Quiet => {}
            Form::Text => self.line(&event.to_string()),
            Form::Json => {
                if let Ok(line) = serde_json::to_string(event) {
                    put(&line);
                }
            }
        }
    }

    /// Events were lost because they came faster than they could be shown.
    pub fn lost(&mut self, events: u64) {
        match self.form {
            Form::Quiet => {}
            Form::Text => self.line(&format!("{events} events came too fast to be shown")),
            Form::Json => put(&json!({"event": "lost", "events": events}).to_string()),
        }
    }

    fn line(&self, text: &str) {
        match &self.live {
            Some(live) => live.println(text),
            None => put(text),
        }
    }

    /// The table stays as it is.
    pub fn end(&mut self) {
        if let Some(live) = self.live.take() {
            live.abandon();
        }
    }
}

/// A line for whoever reads; a reader that has gone away is no reason to stop.
pub(super) fn put(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::super::stand_in::{Cloud, Protocol};
    use super::*;

    #[test]
    fn the_table_is_as_wide_as_its_numbers() {
        let door = DoorCounts {
            cloud: Cloud::IotHub,
            protocol: Protocol::Mqtts,
            address: "127.0.0.1:8883".parse().unwrap(),
            connections: 1,
            accepted: 2,
            connects: 2,
            refusals: 3,
            messages: 4,
            bytes_up: 12_345_678_901,
            bytes_down: 6,
        };
        let lines = doors(std::slice::from_ref(&door));
        assert_eq!(
            lines[0],
            "stand-in  door   address         connections  messages  refusals     bytes up  bytes down"
        );
        assert_eq!(
            lines[1],
            "iot-hub   mqtts  127.0.0.1:8883            1         4         3  12345678901           6"
        );
        let answer = json!({
            "doors": [door],
            "connections": [{"connection": 7, "client_id": "d", "peer": "127.0.0.1:9", "cloud": "iot-hub",
                "bytes_up": 1, "bytes_down": 2, "stalled": true}],
            "faults": {"beam": [{"id": 3, "fault": "throttle=9", "whom": "everybody", "left": 2}]},
            "clocks": [{"cloud": "dps", "ahead_ms": -5}],
        });
        let text = status(&answer);
        assert!(text.starts_with(&lines.join("\n")), "{text}");
        for wanted in [
            "connection 7 \"d\" from 127.0.0.1:9 at iot-hub: 1 bytes up, 2 down, held still by a fault",
            "fault 3 at beam: throttle=9 for everybody, 2 times",
            "clock of dps: -5 ms ahead",
        ] {
            assert!(text.contains(wanted), "{text}");
        }
    }
}
