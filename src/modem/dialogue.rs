//! Who speaks when: one command in flight, its answer, and everything that comes in between. No I/O; time is an argument, a
//! [`Duration`] since any fixed moment of a clock that never jumps.
//!
//! ```text
//!            send                    result code
//!   in step ──────▶ waiting ─────────────────────────────▶ in step
//!                     │ time-out, abandoned, RDY
//!                     ▼
//!                out of step ──resync──▶ asking ──OK──▶ quiet ──QUIET without a byte──▶ in step
//!                     ▲                   │ RESYNC_TRIES unanswered       │ RESYNC_MAX over
//!                     └───────────────────┴───────────────────────────────┘
//! ```
//!
//! The modem answers commands in the order in which they came, but nothing in an answer says which command it belongs to. So after
//! a time-out the late answer may still come, and no command is sent before a lone `AT` has been answered `OK` and the line has been
//! quiet for [`QUIET`] after it: whatever was late came before that `OK`, or in the same burst. The same cure ends an echo storm, in
//! which the modem takes its own messages, echoed by the terminal, for commands: `ERROR`s are swallowed until an `OK` comes.
//!
//! A new dialogue is out of step: nobody knows what the port's last user left in the pipe.

use std::time::Duration;

use super::at::{Final, Line, Lines, Noise, is_echo};
use super::urc::{Expect, Place, Urc, sort};

/// How often `AT` is sent before the modem counts as unresponsive. Five, as ModemManager and the bench's measurements suggest.
pub const RESYNC_TRIES: u32 = 5;
/// How long each `AT` may stay unanswered: Quectel's 300 ms and time for USB and a busy host.
pub const RESYNC_WAIT: Duration = Duration::from_millis(1_000);
/// Silence that proves that nothing late is coming.
pub const QUIET: Duration = Duration::from_millis(200);
/// A resync that has not succeeded by then (because the line is never quiet) has failed.
pub const RESYNC_MAX: Duration = Duration::from_secs(15);
/// Most information lines kept of one answer; ours have at most a handful.
pub const ANSWER_LINES_MAX: usize = 64;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The command was answered.
    Answered {
        /// Its information lines.
        lines: Vec<String>,
        /// Its result code.
        code: Final,
        /// There were over [`ANSWER_LINES_MAX`] lines; the rest is lost.
        cut: bool,
        /// Bytes that came meanwhile and are no line, escaped.
        garbage: Option<String>,
    },
    /// No result code in time. The dialogue is out of step.
    TimedOut {
        /// How long it waited.
        waited: Duration,
        /// Bytes that came instead, escaped.
        garbage: Option<String>,
    },
    /// The modem said `RDY` instead of answering. The dialogue is out of step.
    Interrupted,
    /// The resync succeeded.
    InStep,
    /// The resync failed; the dialogue is still out of step.
    Lost {
        /// How long it took.
        waited: Duration,
        /// Bytes that came, escaped.
        garbage: Option<String>,
    },
}

/// What the dialogue tells its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Write these bytes.
    Write(Vec<u8>),
    /// The modem said something by itself.
    Unsolicited(Urc),
    /// The command or resync is over.
    Done(Outcome),
}

/// Why a command cannot be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// Another is in flight.
    Busy,
    /// A resync is needed first.
    OutOfStep,
}

#[derive(Debug)]
struct Waiting {
    expect: Expect,
    sent: Duration,
    deadline: Duration,
    lines: Vec<String>,
    cut: bool,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// `AT` was sent `tries` times, the last one waits until `deadline`.
    Asking { tries: u32, deadline: Duration },
    /// `OK` came; done if nothing comes until then.
    Quiet { until: Duration },
}

#[derive(Debug)]
enum State {
    InStep,
    OutOfStep,
    Waiting(Waiting),
    Resync { since: Duration, step: Step },
}

/// The dialogue.
#[derive(Debug)]
pub struct Dialogue {
    lines: Lines,
    state: State,
    garbage: Option<String>,
    strays: u64,
}

impl Default for Dialogue {
    fn default() -> Self {
        Self {
            lines: Lines::default(),
            state: State::OutOfStep,
            garbage: None,
            strays: 0,
        }
    }
}

impl Dialogue {
    /// Whether a command can be sent.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        matches!(self.state, State::InStep)
    }

    /// What was thrown away so far.
    #[must_use]
    pub fn noise(&self) -> Noise {
        self.lines.noise()
    }

    /// Result codes and lines that belonged to nothing, so far.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Starts a command; gives the bytes to write. `timeout` counts from `now`.
    ///
    /// # Errors
    /// A command is in flight, or a resync is needed.
    pub fn send(&mut self, line: &str, expect: Expect, now: Duration, timeout: Duration) -> Result<Vec<u8>, NotReady> {
        match self.state {
            State::InStep => {}
            State::OutOfStep => return Err(NotReady::OutOfStep),
            State::Waiting(_) | State::Resync { .. } => return Err(NotReady::Busy),
        }
        self.garbage = None;
        self.state = State::Waiting(Waiting {
            expect,
            sent: now,
            deadline: now.saturating_add(timeout),
            lines: Vec::new(),
            cut: false,
        });
        Ok(format!("{line}\r").into_bytes())
    }

    /// Gives up whatever is going on; a resync is needed next if something was.
    pub fn abandon(&mut self) {
        if !self.is_in_step() {
            self.state = State::OutOfStep;
        }
    }

    /// Something is wrong with the answers: a resync is needed before the next command.
    pub fn lose_step(&mut self) {
        self.state = State::OutOfStep;
    }

    /// Starts a resync, whatever is going on; gives the bytes to write.
    pub fn resync(&mut self, now: Duration) -> Vec<u8> {
        self.garbage = None;
        self.state = State::Resync {
            since: now,
            step: Step::Asking {
                tries: 1,
                deadline: now.saturating_add(RESYNC_WAIT),
            },
        };
        ATTENTION.to_vec()
    }

    /// When [`Self::tick`] must be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        match &self.state {
            State::InStep | State::OutOfStep => None,
            State::Waiting(w) => Some(w.deadline),
            State::Resync { step, .. } => Some(match *step {
                Step::Asking { deadline, .. } => deadline,
                Step::Quiet { until } => until,
            }),
        }
    }

    /// Bytes came. At most one event per byte and a few more.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        for byte in bytes {
            // Not for NULs: they are what an idle UART may give, not speech.
            if *byte != 0 {
                if let State::Resync {
                    step: Step::Quiet { until },
                    ..
                } = &mut self.state
                {
                    *until = now.saturating_add(QUIET);
                }
            }
            match self.lines.push(*byte) {
                Some(Line::Final(code)) => self.result(code, now, &mut events),
                Some(Line::Text(text)) => self.text(text, &mut events),
                Some(Line::Garbage(sample)) => {
                    self.garbage.get_or_insert(sample);
                }
                None => {}
            }
        }
        events
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) -> Vec<Event> {
        match &mut self.state {
            State::Waiting(w) if now >= w.deadline => {
                let waited = now.saturating_sub(w.sent);
                self.state = State::OutOfStep;
                vec![Event::Done(Outcome::TimedOut {
                    waited,
                    garbage: self.garbage.take(),
                })]
            }
            State::Resync { since, step } => {
                let since = *since;
                let over = now.saturating_sub(since) >= RESYNC_MAX;
                match step {
                    Step::Quiet { until } if now >= *until => {
                        self.lines.clear();
                        self.state = State::InStep;
                        vec![Event::Done(Outcome::InStep)]
                    }
                    Step::Asking { tries, deadline } if now >= *deadline && *tries < RESYNC_TRIES && !over => {
                        *tries += 1;
                        *deadline = now.saturating_add(RESYNC_WAIT);
                        vec![Event::Write(ATTENTION.to_vec())]
                    }
                    Step::Asking { deadline, .. } if now < *deadline && !over => Vec::new(),
                    Step::Quiet { .. } if !over => Vec::new(),
                    _ => {
                        self.state = State::OutOfStep;
                        vec![Event::Done(Outcome::Lost {
                            waited: now.saturating_sub(since),
                            garbage: self.garbage.take(),
                        })]
                    }
                }
            }
            _ => Vec::new(),
        }
    }

    fn result(&mut self, code: Final, now: Duration, events: &mut Vec<Event>) {
        match std::mem::replace(&mut self.state, State::InStep) {
            State::Waiting(w) => {
                let mut lines = w.lines;
                if code != Final::Ok {
                    // A refused command has no information lines: these came by themselves.
                    events.extend(lines.drain(..).filter_map(|l| Urc::parse(&l)).map(Event::Unsolicited));
                }
                events.push(Event::Done(Outcome::Answered {
                    lines,
                    code,
                    cut: w.cut,
                    garbage: self.garbage.take(),
                }));
            }
            State::Resync { since, step } => {
                let step = match (step, code) {
                    (Step::Asking { .. }, Final::Ok) => Step::Quiet {
                        until: now.saturating_add(QUIET),
                    },
                    // An ERROR: part of the storm, or our AT was stuck to somebody's rest. Ask again once it is quiet.
                    (Step::Asking { tries, deadline }, _) => Step::Asking {
                        tries,
                        deadline: deadline.min(now.saturating_add(QUIET)),
                    },
                    (quiet @ Step::Quiet { .. }, _) => quiet,
                };
                self.state = State::Resync { since, step };
            }
            other @ (State::InStep | State::OutOfStep) => {
                self.strays = self.strays.saturating_add(1);
                self.state = other;
            }
        }
    }

    fn text(&mut self, text: String, events: &mut Vec<Event>) {
        if is_echo(&text) {
            return;
        }
        match &mut self.state {
            State::Waiting(w) => match sort(&text, Some(w.expect)) {
                Place::Answer if w.lines.len() < ANSWER_LINES_MAX => w.lines.push(text),
                Place::Answer => w.cut = true,
                Place::Unsolicited(Urc::Ready) => {
                    self.state = State::OutOfStep;
                    events.push(Event::Unsolicited(Urc::Ready));
                    events.push(Event::Done(Outcome::Interrupted));
                }
                Place::Unsolicited(urc) => events.push(Event::Unsolicited(urc)),
            },
            State::InStep => {
                if let Place::Unsolicited(urc) = sort(&text, None) {
                    events.push(Event::Unsolicited(urc));
                }
            }
            // Out of step, an unknown line is somebody's late answer.
            State::OutOfStep | State::Resync { .. } => match Urc::parse(&text) {
                Some(Urc::Other(_)) | None => self.strays = self.strays.saturating_add(1),
                Some(urc) => events.push(Event::Unsolicited(urc)),
            },
        }
    }
}

/// A lone `AT`.
const ATTENTION: &[u8] = b"AT\r";

#[cfg(test)]
#[path = "dialogue_tests.rs"]
mod tests;
