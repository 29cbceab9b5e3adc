//! A byte stream under a connection's `Tap`: between TCP and TLS at every door.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::tap::Verdict;
use crate::bench::clouds::visit::Visit;

/// A fatal alert record (RFC 8446 sections 5.1 and 6): type 21, version 3.3, two bytes, level 2 (fatal), the description.
fn alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// A byte stream whose bytes are counted, and disturbed as the connection's faults want.
pub(crate) struct Tapped<S> {
    inner: S,
    visit: Arc<Visit>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    reads_again: Option<Pin<Box<Sleep>>>,
    writes_again: Option<Pin<Box<Sleep>>>,
    /// What is left of an alert; empty once it is out.
    alert: Option<Vec<u8>>,
}

impl<S> std::fmt::Debug for Tapped<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tapped").field(&self.visit).finish()
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a fault that was asked for")
}

/// Waits for the moment that the tap named.
fn wait(
    slot: &mut Option<Pin<Box<Sleep>>>,
    started: Instant,
    until: Option<Duration>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if let Some(until) = until {
        *slot = Some(Box::pin(tokio::time::sleep_until(started + until)));
    }
    if let Some(sleep) = slot {
        ready!(sleep.as_mut().poll(cx));
        *slot = None;
    }
    Poll::Ready(())
}

impl<S> Tapped<S> {
    pub(crate) fn new(inner: S, visit: &Arc<Visit>) -> Self {
        Self {
            inner,
            ended: Box::pin(visit.ended()),
            visit: Arc::clone(visit),
            reads_again: None,
            writes_again: None,
            alert: None,
        }
    }

    fn check_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.alert.as_ref().is_some_and(Vec::is_empty) || self.ended.as_mut().poll(cx).is_ready() {
            return Err(cut());
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.check_end(cx)?;
        loop {
            ready!(wait(&mut this.reads_again, this.visit.started, None, cx));
            let verdict = this.visit.tap().before_read(this.visit.age(), buf.remaining());
            match verdict {
                Verdict::Go(n) => {
                    let mut part = buf.take(n);
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
                    let filled = part.filled().len();
                    // `take` shares the memory but not the marks.
                    let bytes = part.filled().to_vec();
                    buf.put_slice(&bytes);
                    this.visit.tap().read(this.visit.age(), filled);
                    return Poll::Ready(Ok(()));
                }
                Verdict::Wait(until) => {
                    ready!(wait(&mut this.reads_again, this.visit.started, Some(until), cx));
                }
                Verdict::Stall => return Poll::Pending,
                Verdict::Cut | Verdict::Alert(_) => return Poll::Ready(Err(cut())),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.check_end(cx)?;
        loop {
            ready!(wait(&mut this.writes_again, this.visit.started, None, cx));
            let verdict = this.visit.tap().before_write(this.visit.age(), bytes);
            match verdict {
                Verdict::Go(n) => {
                    let part = bytes.get(..n).unwrap_or(bytes);
                    let written = ready!(Pin::new(&mut this.inner).poll_write(cx, part))?;
                    this.visit
                        .tap()
                        .wrote(this.visit.age(), part.get(..written).unwrap_or(part));
                    return Poll::Ready(Ok(written));
                }
                Verdict::Wait(until) => {
                    ready!(wait(&mut this.writes_again, this.visit.started, Some(until), cx));
                }
                Verdict::Stall => return Poll::Pending,
                Verdict::Cut => return Poll::Ready(Err(cut())),
                Verdict::Alert(code) => {
                    let mut rest = this.alert.take().unwrap_or_else(|| alert(code).to_vec());
                    while !rest.is_empty() {
                        match Pin::new(&mut this.inner).poll_write(cx, &rest) {
                            Poll::Ready(Ok(n)) => drop(rest.drain(..n.min(rest.len()))),
                            Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                            Poll::Pending => {
                                this.alert = Some(rest);
                                return Poll::Pending;
                            }
                        }
                    }
                    this.visit.tap().wrote(this.visit.age(), &alert(code));
                    this.alert = Some(rest);
                    return Poll::Ready(Err(cut()));
                }
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.visit.tap().is_stalled() {
            let this = &mut *self;
            this.check_end(cx)?;
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::WireFault;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    fn stream(fault: &str) -> (DuplexStream, Tapped<DuplexStream>, Arc<Visit>) {
        let (client, server) = tokio::io::duplex(1 << 16);
        let visit = Arc::new(Visit::for_tests(1, "127.0.0.1:1".parse().unwrap()));
        if !fault.is_empty() {
            assert!(visit.tap().add(WireFault::read(fault).unwrap().unwrap()));
        }
        (client, Tapped::new(server, &visit), visit)
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_stream_takes_its_time_both_ways() {
        let (mut client, mut server, visit) = stream("throttle=1000");
        client.write_all(&[7; 5_000]).await.unwrap();
        let before = Instant::now();
        let mut got = vec![0; 5_000];
        server.read_exact(&mut got).await.unwrap();
        let took = (Instant::now() - before).as_secs_f64();
        assert!((4.8..5.2).contains(&took), "{took}");
        assert_eq!(got, [7; 5_000]);
        server.write_all(&[8; 2_000]).await.unwrap();
        let took = (Instant::now() - before).as_secs_f64() - took;
        assert!((1.8..2.2).contains(&took), "{took}");
        assert_eq!(visit.tap().bytes(), (5_000, 2_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_stream_neither_reads_nor_writes_nor_ends() {
        let (mut client, mut server, visit) = stream("stall-up@3");
        client.write_all(b"abcdef").await.unwrap();
        let mut got = [0; 6];
        let read = tokio::time::timeout(Duration::from_secs(3_600), server.read_exact(&mut got));
        assert!(read.await.is_err());
        assert_eq!(&got, b"abc\0\0\0");
        let write = tokio::time::timeout(Duration::from_secs(3_600), server.write_all(b"x"));
        assert!(write.await.is_err());
        assert!(visit.tap().is_stalled());
        visit.cut("enough");
        assert_eq!(
            server.read(&mut got).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionAborted
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_stream_has_given_exactly_so_many_bytes() {
        let (mut client, mut server, _visit) = stream("cut-down@5");
        assert!(server.write_all(b"0123456789").await.is_err());
        drop(server);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"01234");
    }

    #[tokio::test]
    async fn an_alert_comes_instead_of_the_answer() {
        let (mut client, mut server, _visit) = stream("tls-alert-48");
        client.write_all(b"hello").await.unwrap();
        assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 5);
        assert!(server.write_all(b"0123456789").await.is_err());
        assert!(server.write_all(b"more").await.is_err());
        drop(server);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, [21, 3, 3, 0, 2, 2, 48]);
    }
}
