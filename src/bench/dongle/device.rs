//! The simulated dongle, running: the engine behind its port, as one task.
//!
//! The task waits for the first of: bytes from the host, room for bytes to the host, the engine's next timer, a message from the
//! [`Dongle`] handle. It never polls.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::config::Config;
use super::engine::{Engine, Record};
use super::pty::{Port, PortError};
use super::scenario::Event;

/// The most events from a handle that wait for the task.
const MAX_MESSAGES: usize = 64;
/// How much is read from the host at once, in bytes.
const READ_SIZE: usize = 1024;

/// Why a dongle does not run.
#[derive(Debug, thiserror::Error)]
pub enum DongleError {
    /// No port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The port broke.
    #[error("the simulated port failed: {0}")]
    Io(#[source] io::Error),
    /// The log cannot be written.
    #[error("cannot write the log {path}: {source}; choose another --log or make room")]
    Log {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The task has ended.
    #[error("the simulated dongle has ended; look at what it said when it was stopped")]
    Ended,
}

/// A running dongle. Dropping it ends it and takes the link away, a moment later; [`Dongle::stop`] waits for that.
#[derive(Debug)]
pub struct Dongle {
    path: watch::Receiver<Option<PathBuf>>,
    channels: watch::Receiver<usize>,
    link: Option<PathBuf>,
    events: mpsc::Sender<(Event, oneshot::Sender<()>)>,
    stop: Option<oneshot::Sender<()>>,
    /// `None` once it has ended.
    task: Option<JoinHandle<Result<(), DongleError>>>,
}

impl Dongle {
    /// Switches a dongle on. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When there is no pseudo-terminal, or the link or the log cannot be made.
    pub fn start(config: Config) -> Result<Self, DongleError> {
        let link = config.link.clone();
        let log = config.log.clone().map(Log::create).transpose()?;
        let port = Port::open(link.as_deref())?;
        let (path_sender, path) = watch::channel(Some(port.path().to_owned()));
        let (channels_sender, channels) = watch::channel(0);
        let (events, event_receiver) = mpsc::channel(MAX_MESSAGES);
        let (stop, stopped) = oneshot::channel();
        let running = Running {
            chunk: config.scenario.line.chunk,
            engine: Engine::new(config, host_time()),
            power_on: now(),
            port: Some(port),
            link: link.clone(),
            path: path_sender,
            channels: channels_sender,
            log,
        };
        let task = tokio::spawn(running.run(event_receiver, stopped));
        Ok(Self {
            path,
            channels,
            link,
            events,
            stop: Some(stop),
            task: Some(task),
        })
    }

    /// The pseudo-terminal's path; `None` while the dongle is unplugged.
    pub fn path(&self) -> Option<PathBuf> {
        self.path.borrow().clone()
    }

    /// The stable link, if one was asked for. It exists while the dongle is plugged in.
    pub fn link(&self) -> Option<&Path> {
        self.link.as_deref()
    }

    /// How many logical channels to the card are open, besides the basic one: what a host has opened and not closed.
    pub fn open_channels(&self) -> usize {
        *self.channels.borrow()
    }

    /// Waits until the dongle is plugged in (its path) or unplugged (`None`).
    ///
    /// # Errors
    /// When the dongle has ended.
    pub async fn wait_plugged(&mut self, plugged: bool) -> Result<Option<PathBuf>, DongleError> {
        let path = self
            .path
            .wait_for(|path| path.is_some() == plugged)
            .await
            .map_err(|_| DongleError::Ended)?;
        Ok(path.clone())
    }

    /// Lets something happen, and returns when it has.
    ///
    /// # Errors
    /// When the dongle has ended.
    pub async fn inject(&self, event: Event) -> Result<(), DongleError> {
        let (done, happened) = oneshot::channel();
        self.events.send((event, done)).await.map_err(|_| DongleError::Ended)?;
        happened.await.map_err(|_| DongleError::Ended)
    }

    /// Waits until the dongle ends by itself, which it only does when its port or log fails. Cancel-safe.
    ///
    /// # Errors
    /// What made it end.
    pub async fn ended(&mut self) -> Result<(), DongleError> {
        let task = self.task.as_mut().ok_or(DongleError::Ended)?;
        let result = task.await;
        self.task = None;
        result.map_err(|_| DongleError::Ended)?
    }

    /// Ends the dongle and waits until its port and link are gone.
    ///
    /// # Errors
    /// What made it end earlier, if something did.
    pub async fn stop(mut self) -> Result<(), DongleError> {
        if let Some(stop) = self.stop.take() {
            // A task that is gone needs no telling.
            let _ = stop.send(());
        }
        self.ended().await
    }
}

/// The bench owns the clock here; the engine below it is told.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)]
fn host_time() -> Option<jiff::Timestamp> {
    Some(jiff::Timestamp::now())
}

struct Running {
    engine: Engine,
    power_on: Instant,
    port: Option<Port>,
    link: Option<PathBuf>,
    path: watch::Sender<Option<PathBuf>>,
    channels: watch::Sender<usize>,
    log: Option<Log>,
    chunk: usize,
}

enum Step {
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Timer,
    Event(Option<(Event, oneshot::Sender<()>)>),
    Stop,
}

impl Running {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<(Event, oneshot::Sender<()>)>,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<(), DongleError> {
        let mut buffer = [0; READ_SIZE];
        loop {
            self.settle()?;
            let wakeup = self.engine.next_wakeup().and_then(|due| self.power_on.checked_add(due));
            let port = self.port.as_ref();
            let out = self.engine.output();
            let out = if self.chunk == 0 {
                out
            } else {
                out.get(..self.chunk).unwrap_or(out)
            };
            let step = tokio::select! {
                biased;
                // A dropped handle counts as told to stop.
                _ = &mut stopped => Step::Stop,
                event = events.recv() => Step::Event(event),
                wrote = write(port, out), if !out.is_empty() => Step::Wrote(wrote),
                read = read(port, &mut buffer) => Step::Read(read),
                () = sleep(wakeup) => Step::Timer,
            };
            let now = self.power_on.elapsed();
            match step {
                Step::Stop | Step::Event(None) => return self.finish(),
                Step::Event(Some((event, done))) => {
                    self.engine.inject(now, event);
                    self.settle()?;
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
                Step::Timer => self.engine.tick(now),
                Step::Wrote(count) => {
                    self.engine.sent(count.map_err(DongleError::Io)?);
                    if self.chunk > 0 {
                        // Let the host see the piece by itself.
                        tokio::task::yield_now().await;
                    }
                }
                Step::Read(count) => match count.map_err(DongleError::Io)? {
                    0 => return Err(DongleError::Io(io::ErrorKind::UnexpectedEof.into())),
                    count => self.engine.input(now, buffer.get(..count).unwrap_or_default()),
                },
            }
        }
    }

    /// Brings log and port in line with the engine.
    fn settle(&mut self) -> Result<(), DongleError> {
        self.channels.send_replace(self.engine.open_channels());
        if let Some(log) = &mut self.log {
            log.write(self.engine.take_records())?;
        }
        match (self.engine.is_plugged(), self.port.is_some()) {
            (true, false) => {
                let port = Port::open(self.link.as_deref())?;
                self.path.send_replace(Some(port.path().to_owned()));
                self.port = Some(port);
            }
            (false, true) => {
                self.port = None;
                self.path.send_replace(None);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), DongleError> {
        let result = self.settle();
        self.port = None;
        self.path.send_replace(None);
        result
    }
}

async fn read(port: Option<&Port>, buffer: &mut [u8]) -> io::Result<usize> {
    match port {
        Some(port) => port.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn write(port: Option<&Port>, bytes: &[u8]) -> io::Result<usize> {
    match port {
        Some(port) => port.write(bytes).await,
        None => std::future::pending().await,
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The log: one JSON object a line. It is small and local, and written between two steps of the task.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: BufWriter<File>,
}

#[derive(serde::Serialize)]
struct LogLine<'a> {
    /// Milliseconds since power-on.
    t_ms: u64,
    command: &'a str,
    answer: &'a str,
}

impl Log {
    fn create(path: PathBuf) -> Result<Self, DongleError> {
        match File::create(&path) {
            Ok(file) => Ok(Self {
                path,
                file: BufWriter::new(file),
            }),
            Err(source) => Err(DongleError::Log { path, source }),
        }
    }

    fn write(&mut self, records: impl Iterator<Item = Record>) -> Result<(), DongleError> {
        let mut any = false;
        let put = || -> io::Result<()> {
            for record in records {
                any = true;
                let line = LogLine {
                    t_ms: millis(record.at),
                    command: &record.command,
                    answer: &record.answer,
                };
                serde_json::to_writer(&mut self.file, &line)?;
                self.file.write_all(b"\n")?;
            }
            if any { self.file.flush() } else { Ok(()) }
        };
        put().map_err(|source| DongleError::Log {
            path: self.path.clone(),
            source,
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
