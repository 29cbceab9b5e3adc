//! What `onyx-bench clouds` shows: one line an event, and on a terminal a table of the doors below them that changes in place. Piped text
//! is plain lines; `--json` is one object a line with the same facts.
//!
//! A thread of its own writes them, because standard output may be a pipe that nobody reads or a terminal that is held still, and neither may
//! keep the bench from its clients or from its end: what does not fit into the thread's queue is counted, and the count is shown instead.

use std::io::{IsTerminal, Write};
use std::sync::mpsc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::journal::{EVENTS_BEHIND, Event};
use super::stand_in::StandIn;
use super::visit::DoorCounts;

/// How often the table changes.
pub const REFRESH: Duration = Duration::from_millis(250);

/// What is waiting to be written has this long when the bench ends.
const END_MAX: Duration = Duration::from_millis(500);

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

/// What the thread writes.
enum Show {
    Line(String),
    Table(String),
}

/// The thread that writes.
struct Writer {
    /// At most [`EVENTS_BEHIND`] wait.
    queue: mpsc::SyncSender<Show>,
    /// Closed when all is written.
    done: mpsc::Receiver<()>,
}

impl Writer {
    fn start(mut write: impl FnMut(Show) + Send + 'static) -> std::io::Result<Self> {
        let (queue, shows) = mpsc::sync_channel(EVENTS_BEHIND);
        let (finished, done) = mpsc::channel();
        std::thread::Builder::new().name("view".into()).spawn(move || {
            shows.iter().for_each(&mut write);
            // What `write` holds (the table) is put in order before the end is told.
            drop(write);
            drop(finished);
        })?;
        Ok(Self { queue, done })
    }
}

/// Standard output.
pub struct View {
    form: Form,
    live: bool,
    writer: Option<Writer>,
    /// Events that did not fit into the queue since the last that did.
    lost: u64,
}

/// The whole table is one bar of several lines: several bars would each be drawn as often as indicatif sees fit.
struct Table(ProgressBar);

impl Drop for Table {
    /// It stays as it is.
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl View {
    /// Not shown yet.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self {
            form,
            live: false,
            writer: None,
            lost: 0,
        }
    }

    /// The stand-ins are there: their addresses, and on a terminal the table.
    pub fn ready(&mut self, stand_ins: &[StandIn], control: &str, counts: &[DoorCounts]) {
        if self.form == Form::Quiet {
            return;
        }
        if self.form == Form::Text {
            for s in stand_ins {
                let (name, protocol) = (s.name, s.protocol.as_str());
                put(&format!(
                    "{name:<11} {protocol:<10} {}:{} as {}",
                    s.address, s.port, s.host
                ));
            }
            put(&format!("{:<11} {:<10} {control}", "control", "http"));
            self.live = std::io::stdout().is_terminal();
        }
        let table = self.live.then(|| {
            let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            Table(ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout()).with_style(style))
        });
        let writer = Writer::start(move |show| match (show, &table) {
            (Show::Line(text), Some(Table(bar))) => bar.println(text),
            (Show::Line(text), None) => put(&text),
            (Show::Table(text), Some(Table(bar))) => bar.set_message(text),
            (Show::Table(_), None) => {}
        });
        match writer {
            Ok(writer) => self.writer = Some(writer),
            Err(e) => put(&format!("events cannot be shown: {e}")),
        }
        self.refresh(counts);
    }

    /// The counts have changed.
    pub fn refresh(&mut self, counts: &[DoorCounts]) {
        if self.live {
            self.show(Show::Table(doors(counts).join("\n")));
        }
    }

    /// Whether there is a table to be refreshed.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Something happened.
    pub fn event(&mut self, event: &Event) {
        match self.form {
            Form::Quiet => {}
            Form::Text => self.show(Show::Line(printable(&event.to_string()))),
            Form::Json => {
                if let Ok(line) = serde_json::to_string(event) {
                    self.show(Show::Line(line));
                }
            }
        }
    }

    /// Events were lost because they came faster than they could be shown.
    pub fn lost(&mut self, events: u64) {
        self.lost += events;
        self.show_lost();
    }

    /// The answer is whether there is nothing more to be told of lost ones.
    fn show_lost(&mut self) -> bool {
        let (events, Some(writer)) = (self.lost, &self.writer) else {
            return false;
        };
        if events == 0 {
            return true;
        }
        let line = if self.form == Form::Json {
            json!({"event": "lost", "events": events}).to_string()
        } else {
            format!("{events} events came too fast to be shown")
        };
        let told = writer.queue.try_send(Show::Line(line)).is_ok();
        if told {
            self.lost = 0;
        }
        told
    }

    fn show(&mut self, show: Show) {
        let is_event = matches!(show, Show::Line(_));
        let shown = self.show_lost() && self.writer.as_ref().is_some_and(|w| w.queue.try_send(show).is_ok());
        // The table comes again.
        if !shown && is_event {
            self.lost += 1;
        }
    }

    /// Waits a moment for what is not written yet; the table stays as it is.
    pub fn end(&mut self) {
        self.show_lost();
        self.live = false;
        if let Some(Writer { queue, done }) = self.writer.take() {
            drop(queue);
            // An error: it is done, or it has had its time.
            let _ = done.recv_timeout(END_MAX);
        }
    }
}

/// What a peer has sent does not get to command the terminal.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// A line for whoever reads; a reader that has gone away is no reason to stop.
pub(super) fn put(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests;
