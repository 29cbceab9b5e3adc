//! The dialogue over a real port: reads, writes and waits, each of them bounded.
//!
//! A future of this module may be dropped at any point (a shutdown, a `select!`): the command in flight is then abandoned, and the next
//! one resynchronises first.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;
use zeroize::Zeroize;

use crate::identity::{Imei, redact_digits};

use super::at::{Final, Noise};
use super::cme::CmeError;
use super::command::Command;
use super::dialogue::{Dialogue, Event, Outcome};
use super::error::ModemError;
use super::port::{self, Port};
use super::urc::Urc;

/// Our commands have under 300 bytes and the driver's queue has 16 KiB: a write that waits this long waits for ever.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// Bytes taken from the port at once.
const READ_SIZE: usize = 512;
/// Longest time listened at a stretch.
pub const LISTEN_MAX: Duration = Duration::from_secs(3_600);
/// Reads done at most before a command, to hear what came since the last one.
const DRAIN_MAX: usize = 64;
/// Unsolicited codes kept until somebody takes them; the oldest go first.
pub const URCS_MAX: usize = 64;

/// The modem, over a port or anything else that carries bytes.
#[derive(Debug)]
pub struct Modem<IO> {
    io: IO,
    path: String,
    dialogue: Dialogue,
    /// Tokio's clock and not [`crate::clock::Clock`]: the waits are Tokio's, and tests stop both together.
    origin: Instant,
    urcs: VecDeque<Urc>,
    urcs_dropped: u64,
    /// The modem has our settings.
    pub(super) configured: bool,
    /// `RDY` came although it had.
    rebooted: bool,
    /// Read once; a modem does not change it.
    pub(super) imei: Option<Imei>,
}

impl Modem<Port> {
    /// Opens the AT port and brings the dialogue in step.
    ///
    /// # Errors
    /// [`ModemError::Open`] or those of [`Modem::resync`].
    pub async fn open(path: &Path) -> Result<Self, ModemError> {
        let mut modem = Self::over(port::open(path).await?);
        modem.path = path.display().to_string();
        modem.resync().await?;
        Ok(modem)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Modem<IO> {
    /// A modem behind an open connection. The first command resynchronises.
    pub fn over(io: IO) -> Self {
        Self {
            io,
            path: "this port".to_owned(),
            dialogue: Dialogue::default(),
            origin: Instant::now(),
            urcs: VecDeque::new(),
            urcs_dropped: 0,
            configured: false,
            rebooted: false,
            imei: None,
        }
    }

    /// The unsolicited codes since the last call, oldest first, and how many more were dropped because nobody took them.
    pub fn take_urcs(&mut self) -> (Vec<Urc>, u64) {
        (self.urcs.drain(..).collect(), std::mem::take(&mut self.urcs_dropped))
    }

    /// What had to be thrown away on this port so far.
    #[must_use]
    pub fn noise(&self) -> Noise {
        self.dialogue.noise()
    }

    /// Brings the dialogue in step: `AT` until `OK`, then silence.
    ///
    /// # Errors
    /// [`ModemError::Unresponsive`], [`ModemError::Garbage`], [`ModemError::Stuck`] or [`ModemError::Gone`].
    pub async fn resync(&mut self) -> Result<(), ModemError> {
        let bytes = self.dialogue.resync(self.now());
        self.write(&bytes).await?;
        loop {
            match self.pump(None).await? {
                Some(Outcome::InStep) => {
                    debug!(target: "onyx::modem", port = %self.path, "in step");
                    return Ok(());
                }
                Some(Outcome::Lost { waited, garbage: None }) => {
                    return Err(ModemError::Unresponsive {
                        path: self.path.clone(),
                        waited,
                    });
                }
                Some(Outcome::Lost {
                    garbage: Some(sample), ..
                }) => return Err(garbage("AT".to_owned(), &sample)),
                None => {}
                // None of the others comes from a resync.
                Some(_) => {
                    return Err(ModemError::Unresponsive {
                        path: self.path.clone(),
                        waited: Duration::ZERO,
                    });
                }
            }
        }
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// Any [`ModemError`] but `Open`. [`ModemError::Rebooted`] comes once, before the command is sent or instead of its answer.
    pub async fn execute<C: Command>(&mut self, command: &C) -> Result<C::Answer, ModemError> {
        self.hear()?;
        self.tell_reboot()?;
        self.dialogue.abandon();
        if !self.dialogue.is_in_step() {
            self.resync().await?;
            self.tell_reboot()?;
        }
        let shown = command.shown();
        let mut line = command.line();
        debug!(target: "onyx::modem", port = %self.path, "> {shown}");
        let sent = self
            .dialogue
            .send(&line, command.expect(), self.now(), command.timeout());
        line.zeroize();
        let mut bytes = sent.map_err(|_| ModemError::Unresponsive {
            path: self.path.clone(),
            waited: Duration::ZERO,
        })?;
        let written = self.write(&bytes).await;
        bytes.zeroize();
        written?;
        loop {
            match self.pump(None).await? {
                Some(Outcome::Answered {
                    mut lines,
                    code,
                    cut,
                    garbage: bad,
                }) => {
                    let answer = if command.answer_is_secret() {
                        "****".to_owned()
                    } else {
                        super::urc::discreet(&lines.join(" | "))
                    };
                    debug!(target: "onyx::modem", port = %self.path, "< {answer} {code:?}");
                    let bad = bad.map(|sample| discreet(command, sample));
                    let judged = self.judge(command, shown, &lines, &code, cut, bad, answer);
                    if command.answer_is_secret() {
                        lines.zeroize();
                    }
                    return judged;
                }
                Some(Outcome::TimedOut { waited, garbage: bad }) => {
                    debug!(target: "onyx::modem", port = %self.path, ?waited, "no answer");
                    return Err(match bad {
                        Some(sample) => garbage(shown, &discreet(command, sample)),
                        None => ModemError::Timeout { command: shown, waited },
                    });
                }
                None => {}
                // The last two do not come from a command.
                Some(Outcome::Interrupted | Outcome::InStep | Outcome::Lost { .. }) => {
                    self.rebooted = false;
                    return Err(ModemError::Rebooted);
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // one answer, taken apart
    fn judge<C: Command>(
        &mut self,
        command: &C,
        shown: String,
        lines: &[String],
        code: &Final,
        cut: bool,
        bad: Option<String>,
        answer: String,
    ) -> Result<C::Answer, ModemError> {
        if let Some(error) = CmeError::of(code) {
            return Err(ModemError::Refused { command: shown, error });
        }
        let parsed = if cut { None } else { command.parse(lines).ok() };
        parsed.ok_or_else(|| {
            // Perhaps the answer of something else: nothing is believed before the dialogue is in step again.
            self.dialogue.lose_step();
            match bad {
                Some(sample) => garbage(shown, &sample),
                None => ModemError::Unparsable { command: shown, answer },
            }
        })
    }

    /// Waits for the modem to say something by itself, for at most `max` (and [`LISTEN_MAX`]). An empty answer is no failure.
    ///
    /// # Errors
    /// [`ModemError::Gone`], or [`ModemError::Rebooted`].
    pub async fn listen(&mut self, max: Duration) -> Result<Vec<Urc>, ModemError> {
        let until = self.now().saturating_add(max.min(LISTEN_MAX));
        while self.urcs.is_empty() && self.now() < until {
            self.pump(Some(until)).await?;
            self.tell_reboot()?;
        }
        Ok(self.take_urcs().0)
    }

    /// The reboot, once.
    fn tell_reboot(&mut self) -> Result<(), ModemError> {
        if std::mem::take(&mut self.rebooted) {
            return Err(ModemError::Rebooted);
        }
        Ok(())
    }

    /// Forgets that the modem has rebooted, because it is about to be configured.
    pub(super) fn forget_reboot(&mut self) {
        self.rebooted = false;
        self.configured = false;
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Takes what has already come, without waiting.
    fn hear(&mut self) -> Result<(), ModemError> {
        let mut buf = [0; READ_SIZE];
        for _ in 0..DRAIN_MAX {
            let Some(read) = self.io.read(&mut buf).now_or_never() else {
                break;
            };
            let n = self.read_result(read)?;
            let events = self.dialogue.receive(&buf[..n], self.now());
            for event in events {
                self.note(event);
            }
        }
        Ok(())
    }

    /// Waits for bytes or for the next deadline, and gives what came to an end.
    async fn pump(&mut self, until: Option<Duration>) -> Result<Option<Outcome>, ModemError> {
        let Some(deadline) = self.dialogue.next_deadline().into_iter().chain(until).min() else {
            // Nothing is going on, so nothing can come of it: no caller may wait for ever.
            return Ok(Some(Outcome::Interrupted));
        };
        let wake = self.origin + deadline;
        let mut buf = [0; READ_SIZE];
        let read = tokio::select! {
            read = self.io.read(&mut buf) => Some(read),
            () = sleep_until(wake) => None,
        };
        let mut events = match read {
            Some(read) => {
                let n = self.read_result(read)?;
                self.dialogue.receive(&buf[..n], self.now())
            }
            None => Vec::new(),
        };
        events.extend(self.dialogue.tick(self.now()));
        let mut outcome = None;
        for event in events {
            match event {
                Event::Write(bytes) => self.write(&bytes).await?,
                Event::Done(done) => outcome = Some(done),
                event @ Event::Unsolicited(_) => self.note(event),
            }
        }
        Ok(outcome)
    }

    fn note(&mut self, event: Event) {
        let Event::Unsolicited(urc) = event else { return };
        debug!(target: "onyx::modem", port = %self.path, "! {}", redact_digits(&format!("{urc:?}")));
        if urc == Urc::Ready && std::mem::take(&mut self.configured) {
            self.rebooted = true;
        }
        if self.urcs.len() == URCS_MAX {
            self.urcs.pop_front();
            self.urcs_dropped = self.urcs_dropped.saturating_add(1);
        }
        self.urcs.push_back(urc);
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ModemError> {
        match timeout(WRITE_MAX, self.io.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(self.gone(&e)),
            Err(_) => {
                self.dialogue.lose_step();
                Err(ModemError::Stuck {
                    path: self.path.clone(),
                    waited: WRITE_MAX,
                })
            }
        }
    }

    /// How many bytes came. No bytes are the end of the device, and so is every error: a serial port has no errors that pass.
    fn read_result(&self, read: io::Result<usize>) -> Result<usize, ModemError> {
        match read {
            Ok(0) => Err(ModemError::Gone {
                path: self.path.clone(),
                why: "hang-up".to_owned(),
            }),
            Ok(n) => Ok(n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(e) => Err(self.gone(&e)),
        }
    }

    fn gone(&self, error: &io::Error) -> ModemError {
        ModemError::Gone {
            path: self.path.clone(),
            why: error.to_string(),
        }
    }
}

/// Garbage may be a secret answer with one wrong byte in it.
fn discreet<C: Command>(command: &C, sample: String) -> String {
    if command.answer_is_secret() {
        "****".to_owned()
    } else {
        sample
    }
}

fn garbage(command: String, sample: &str) -> ModemError {
    ModemError::Garbage {
        command,
        sample: super::urc::discreet(sample),
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
