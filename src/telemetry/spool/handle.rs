//! The spool on a thread of its own, for async code.
//!
//! Requests queue up to [`QUEUE`]; whoever comes then waits. Appends that wait together are written together and, where the policy is
//! [`super::SyncPolicy::EachAppend`] or the caller asked for durability, share one sync.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::{Record, Seq, Spool, SpoolError, SpoolId, Stats, SyncPolicy};
use crate::clock::Clock;

/// Requests that wait for the thread.
pub const QUEUE: usize = 256;
/// After a failed tick (disk full, disk gone) the next comes so much later.
const RETRY: Duration = Duration::from_secs(1);

type Reply<T> = oneshot::Sender<Result<T, SpoolError>>;

enum Request {
    Append(Vec<Vec<u8>>, bool, Reply<Vec<Seq>>),
    Peek(Seq, usize, usize, Reply<Vec<Record>>),
    Ack(Vec<Seq>, Reply<u64>),
    Stats(Reply<Stats>),
    Close(Reply<()>),
}

/// Talks to the spool's thread; clones talk to the same. When the last is dropped the thread closes the spool in order.
#[derive(Debug, Clone)]
pub struct SpoolHandle {
    id: SpoolId,
    requests: mpsc::Sender<Request>,
    durable: watch::Receiver<Seq>,
}

impl SpoolHandle {
    /// Gives the spool to a new thread.
    ///
    /// # Errors
    /// When the operating system has no thread to give.
    pub fn start(spool: Spool, clock: Clock) -> io::Result<Self> {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let (durable, watcher) = watch::channel(Seq::new(spool.durable));
        let id = spool.id();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || runtime.block_on(serve(spool, clock, receiver, durable)))?;
        Ok(Self {
            id,
            requests,
            durable: watcher,
        })
    }

    /// The spool's id.
    #[must_use]
    pub fn id(&self) -> SpoolId {
        self.id
    }

    /// Stores the payloads under the spool's policy; see [`Spool::append`].
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn append(&self, payloads: Vec<Vec<u8>>) -> Result<Vec<Seq>, SpoolError> {
        self.ask(|reply| Request::Append(payloads, false, reply)).await
    }

    /// Stores the payloads and answers when they are durable, whatever the policy.
    ///
    /// # Errors
    /// [`SpoolError`]. When the sync failed under [`SyncPolicy::Interval`], the records may be delivered all the same: the interval
    /// syncs again, and taking them back would take back others' too.
    pub async fn append_durably(&self, payloads: Vec<Vec<u8>>) -> Result<Vec<Seq>, SpoolError> {
        self.ask(|reply| Request::Append(payloads, true, reply)).await
    }

    /// [`Spool::peek`].
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn peek(&self, from: Seq, max_records: usize, max_bytes: usize) -> Result<Vec<Record>, SpoolError> {
        self.ask(|reply| Request::Peek(from, max_records, max_bytes, reply))
            .await
    }

    /// [`Spool::ack`].
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn ack(&self, seqs: Vec<Seq>) -> Result<u64, SpoolError> {
        self.ask(|reply| Request::Ack(seqs, reply)).await
    }

    /// [`Spool::stats`].
    ///
    /// # Errors
    /// [`SpoolError::Closed`].
    pub async fn stats(&self) -> Result<Stats, SpoolError> {
        self.ask(Request::Stats).await
    }

    /// [`Spool::close`]; what was asked before is done first, other clones get [`SpoolError::Closed`] from then on.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn close(&self) -> Result<(), SpoolError> {
        self.ask(Request::Close).await
    }

    /// Changes whenever more records can be peeked: all below the value are durable.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<Seq> {
        self.durable.clone()
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, SpoolError> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(request(reply))
            .await
            .map_err(|_| SpoolError::Closed)?;
        answer.await.map_err(|_| SpoolError::Closed)?
    }
}

async fn serve(mut spool: Spool, clock: Clock, mut requests: mpsc::Receiver<Request>, durable: watch::Sender<Seq>) {
    let mut not_before = Duration::ZERO;
    let mut waiting = VecDeque::with_capacity(QUEUE);
    loop {
        let now = clock.monotonic();
        let due = spool.next_tick().map(|t| t.max(not_before));
        // Before any request: a busy queue must not put it off.
        if due.is_some_and(|t| t <= now) {
            if let Err(e) = spool.tick(now) {
                tracing::warn!("{e}");
                not_before = now + RETRY;
            }
            tell(&durable, &spool);
            continue;
        }
        let request = match due {
            None => requests.recv().await,
            Some(due) => match tokio::time::timeout(due - now, requests.recv()).await {
                Ok(request) => request,
                Err(_) => continue,
            },
        };
        let Some(request) = request else { break };
        waiting.push_back(request);
        while waiting.len() < QUEUE {
            match requests.try_recv() {
                Ok(r) => waiting.push_back(r),
                Err(_) => break,
            }
        }
        let now = clock.monotonic();
        while let Some(request) = waiting.pop_front() {
            match request {
                Request::Append(..) => {
                    waiting.push_front(request);
                    append(&mut spool, &mut waiting, now, &durable);
                }
                Request::Peek(from, records, bytes, reply) => {
                    let _ = reply.send(spool.peek(from, records, bytes));
                }
                Request::Ack(seqs, reply) => {
                    let _ = reply.send(spool.ack(&seqs, now));
                }
                Request::Stats(reply) => {
                    let _ = reply.send(Ok(spool.stats()));
                }
                Request::Close(reply) => {
                    let result = spool.close();
                    // The last news must be true before the answer is.
                    drop((requests, durable));
                    let _ = reply.send(result);
                    return;
                }
            }
        }
    }
    if let Err(e) = spool.close() {
        tracing::warn!("the spool was not closed in order: {e}");
    }
}

/// All appends at the head of the queue, with one sync if any of them needs it.
fn append(spool: &mut Spool, waiting: &mut VecDeque<Request>, now: Duration, durable: &watch::Sender<Seq>) {
    let mut replies = Vec::new();
    let each = spool.options.sync == SyncPolicy::EachAppend;
    let mut sync = each;
    while let Some(Request::Append(..)) = waiting.front() {
        let Some(Request::Append(payloads, durably, reply)) = waiting.pop_front() else {
            break;
        };
        match spool.write(&payloads, now) {
            Ok(seqs) => {
                sync |= durably;
                replies.push((seqs, durably || each, reply));
            }
            Err(e) => {
                let _ = reply.send(Err(e));
            }
        }
    }
    let mut failure = match (each, sync) {
        (true, _) => spool.commit(),
        (false, true) => spool.sync(),
        (false, false) => spool.sync_if_due(now),
    }
    .err();
    // Announced before it is answered: who has the answer finds the announcement true.
    tell(durable, spool);
    for (seqs, must, reply) in replies {
        // A roll in between may have made some durable although the last sync failed; those that were taken back are not stored.
        let stored = seqs.last().is_none_or(|s| spool.is_stored(*s, must));
        let answer = match failure.take() {
            Some(e) if !stored => {
                failure = Some(SpoolError::Io {
                    doing: "sync",
                    path: spool.directory.clone(),
                    source: io::Error::other(e.to_string()),
                });
                Err(e)
            }
            other => {
                failure = other;
                Ok(seqs)
            }
        };
        let _ = reply.send(answer);
    }
    if let Some(e) = failure {
        tracing::warn!("{e}");
    }
}

fn tell(durable: &watch::Sender<Seq>, spool: &Spool) {
    let now = Seq::new(spool.durable);
    durable.send_if_modified(|seq| std::mem::replace(seq, now) != now);
}
