//! What waits to be written to one side: nothing, most of the time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::look::Pieces;

/// Most pieces handed to one write (Linux takes 1,024).
const PIECES_MAX: usize = 64;

/// What could not be written yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: BytesMut,
    /// How many of them are answers to what this side itself has sent.
    backs: usize,
    /// The stream may hold something encrypted.
    unflushed: bool,
    /// When this side took something last, or began to owe.
    since: Duration,
    broken: Option<io::Error>,
}

impl Outbox {
    /// Whether everything was written, and more may be.
    pub(super) fn is_clear(&self) -> bool {
        self.is_done() && self.broken.is_none()
    }

    /// Whether nothing waits, or nothing waits with hope.
    pub(super) fn is_done(&self) -> bool {
        self.broken.is_some() || self.bytes.is_empty() && !self.unflushed
    }

    /// Whether nothing can be written any more.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Bytes of answers that wait.
    pub(super) fn backs(&self) -> usize {
        self.backs
    }

    /// Since when this side owes a sign of life; `None` when it owes none.
    pub(super) fn owes_since(&self) -> Option<Duration> {
        (!self.is_clear()).then_some(self.since)
    }

    /// Why nothing can be written any more.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.broken.take()
    }

    /// What waits is waited for no longer. Answers why it is broken, if it is.
    pub(super) fn give_up(&mut self) -> Option<io::Error> {
        let error = self.broken.take();
        self.fail(io::ErrorKind::TimedOut.into());
        error
    }

    /// Puts something behind all the rest.
    pub(super) fn add(&mut self, bytes: &[u8], now: Duration) {
        if self.broken.is_none() {
            if self.is_done() {
                self.since = now;
            }
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The same, for an answer to this side's own packet.
    pub(super) fn add_back(&mut self, bytes: &[u8], now: Duration) {
        self.add(bytes, now);
        self.backs += bytes.len();
    }

    /// Writes pieces at once, as far as the stream takes them, and keeps the rest. Nothing else may be waiting.
    pub(super) fn write<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
        front: &[u8],
        pieces: &Pieces,
        now: Duration,
    ) {
        let last = front.get(pieces.run.clone()).unwrap_or_default();
        if pieces.before.is_empty() && last.is_empty() {
            return;
        }
        self.since = now;
        self.unflushed = true;
        let mut written = if pieces.before.is_empty() {
            Pin::new(&mut *to).poll_write(cx, last)
        } else {
            let slices: Vec<IoSlice<'_>> = pieces
                .before
                .iter()
                .map(|p| p.of(front))
                .chain([last])
                .take(PIECES_MAX)
                .map(IoSlice::new)
                .collect();
            Pin::new(&mut *to).poll_write_vectored(cx, &slices)
        };
        if let Poll::Ready(Ok(0)) = written {
            written = Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let mut skip = match written {
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(e)) => return self.fail(e),
            Poll::Pending => 0,
        };
        for piece in pieces.before.iter().map(|p| p.of(front)).chain([last]) {
            match piece.get(skip..) {
                Some(rest) => {
                    self.bytes.extend_from_slice(rest);
                    skip = 0;
                }
                None => skip -= piece.len(),
            }
        }
    }

    /// Writes and flushes what waits, as far as the stream takes it.
    pub(super) fn push<W: AsyncWrite + Unpin>(&mut self, to: &mut W, cx: &mut Context<'_>, now: Duration) {
        if self.is_done() {
            return;
        }
        while !self.bytes.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, &self.bytes) {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => return self.fail(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    self.bytes.advance(n);
                    self.unflushed = true;
                    self.since = now;
                }
                Poll::Ready(Err(e)) => return self.fail(e),
            }
        }
        match Pin::new(to).poll_flush(cx) {
            Poll::Pending => {}
            // An idle connection keeps no buffer.
            Poll::Ready(Ok(())) => {
                self.bytes = BytesMut::new();
                self.backs = 0;
                self.unflushed = false;
            }
            Poll::Ready(Err(e)) => self.fail(e),
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.bytes = BytesMut::new();
        self.broken = Some(error);
    }
}
