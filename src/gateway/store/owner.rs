//! The thread that owns the database. Every question is a job in its bounded queue; the asker waits for the answer, for so long and no longer.
//!
//! One thread for either database: SQLite's calls block, and PostgreSQL's connections need one runtime to live on while the askers come
//! from many (each worker of the gateway has its own). SQLite does one job after the other, PostgreSQL as many at once as it has
//! connections.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::schema::Opening;
use super::tx::{Fail, Tx};
use super::{Keys, StoreError};

/// How many questions may wait; more wait outside, and their time runs.
pub(super) const QUEUE_MAX: usize = 256;
/// How much longer than the database an asker waits, so that it hears the database's own reason.
const GRACE: Duration = Duration::from_millis(500);

pub(super) type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Starts the database's thread, and waits until it says that it is open.
pub(super) async fn start(
    opened: oneshot::Receiver<Result<Keys, StoreError>>,
    thread: impl FnOnce() + Send + 'static,
) -> Result<Keys, StoreError> {
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(thread)
        .map_err(|e| StoreError::Unreachable(format!("cannot start the database's thread: {e}")))?;
    opened
        .await
        .map_err(|_| StoreError::Unreachable("the database's thread ended at its start".to_owned()))?
}

/// What is done in a transaction. It may be done again from the start when the database says so, and its changes are forgotten then.
pub(super) type Work<T> = Box<dyn for<'a, 'c> Fn(&'a Tx<'c>) -> Local<'a, Result<T, Fail>> + Send>;

/// What kind of transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// One statement, without the ceremony of a transaction.
    Glance,
    /// One state of everything, unchanged while it is read.
    Read,
    /// Changes; other writers wait.
    Write,
}

/// A question.
pub(super) struct Job<T> {
    pub(super) mode: Mode,
    pub(super) patience: Duration,
    pub(super) work: Work<T>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
}

/// A question, whatever its answer.
pub(super) trait Question: Send {
    fn ask_sqlite(self: Box<Self>, connection: &rusqlite::Connection);
    fn ask_postgres(self: Box<Self>, pool: super::postgres::Pool) -> Local<'static, ()>;
}

impl<T: 'static + Send> Question for Job<T> {
    fn ask_sqlite(self: Box<Self>, connection: &rusqlite::Connection) {
        // Who asked has gone: the answer would be about a moment nobody waits for, and a change one that nobody hears of.
        if self.reply.is_closed() {
            return;
        }
        let answer = super::sqlite::transaction(connection, self.mode, &self.work, || self.reply.is_closed());
        let _ = self.reply.send(answer);
    }

    fn ask_postgres(self: Box<Self>, pool: super::postgres::Pool) -> Local<'static, ()> {
        Box::pin(async move {
            let Self {
                mode,
                patience,
                work,
                mut reply,
            } = *self;
            let answer = tokio::select! {
                biased;
                () = reply.closed() => return,
                answer = pool.transaction(mode, patience, &work) => answer,
            };
            let _ = reply.send(answer);
        })
    }
}

/// The way to the thread. Cheap to clone; the thread ends when the last one is gone.
#[derive(Clone)]
pub(super) struct Owner {
    queue: mpsc::Sender<Box<dyn Question>>,
    timeout: Duration,
    /// Who only reads changes nothing, whatever it is asked for.
    opening: Opening,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Owner {
    pub(super) fn new(timeout: Duration, opening: Opening) -> (Self, mpsc::Receiver<Box<dyn Question>>) {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let owner = Self {
            queue,
            timeout,
            opening,
        };
        (owner, jobs)
    }

    /// Asks with one statement.
    pub(super) async fn glance<T: Send + 'static>(
        &self,
        work: impl for<'a, 'c> Fn(&'a Tx<'c>) -> Local<'a, Result<T, Fail>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(Mode::Glance, 1, Box::new(work)).await
    }

    /// Reads one state that may be large: `times` the usual time.
    pub(super) async fn read_long<T: Send + 'static>(
        &self,
        times: u32,
        work: impl for<'a, 'c> Fn(&'a Tx<'c>) -> Local<'a, Result<T, Fail>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(Mode::Read, times, Box::new(work)).await
    }

    /// Changes something.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl for<'a, 'c> Fn(&'a Tx<'c>) -> Local<'a, Result<T, Fail>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(Mode::Write, 1, Box::new(work)).await
    }

    /// Changes much: `times` the usual time.
    pub(super) async fn write_long<T: Send + 'static>(
        &self,
        times: u32,
        work: impl for<'a, 'c> Fn(&'a Tx<'c>) -> Local<'a, Result<T, Fail>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(Mode::Write, times, Box::new(work)).await
    }

    async fn ask<T: Send + 'static>(&self, mode: Mode, times: u32, work: Work<T>) -> Result<T, StoreError> {
        if mode == Mode::Write && self.opening == Opening::Look {
            return Err(StoreError::Refused("the store was opened to be read alone".to_owned()));
        }
        let patience = self.timeout * times;
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Job {
            mode,
            patience,
            work,
            reply,
        });
        let gone = || StoreError::Unreachable("the thread of the database has ended: restart the gateway".to_owned());
        let asked = async {
            self.queue.send(job).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        tokio::time::timeout(patience + GRACE, asked).await.map_err(|_| {
            let unknown = if mode == Mode::Write {
                "; whether the change was made is not known: look before you repeat it"
            } else {
                ""
            };
            StoreError::Unreachable(format!(
                "the database did not answer within {} s (store.timeout){unknown}",
                patience.as_secs()
            ))
        })?
    }
}
