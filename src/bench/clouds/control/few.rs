//! A listener with a bound on its connections: further ones wait until one ends. So that this is soon, a connection on which no answer has
//! begun in time ends, and so does every one when the bench stops.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::bench::clouds::endpoint::ACCEPT_PAUSE;

/// A request has to be there, and its answer begun, by then: half of what our own client waits for an answer.
pub(super) const REQUEST_MAX: Duration = Duration::from_secs(5);

/// A listener with a bound on its connections.
pub(super) struct Few {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Few {
    pub(super) fn new(listener: TcpListener, connections_max: usize, stop: CancellationToken) -> Self {
        Self {
            listener,
            permits: Arc::new(Semaphore::new(connections_max)),
            stop,
        }
    }
}

/// One of them.
pub(super) struct One {
    stream: TcpStream,
    /// Until the first answer begins; afterwards a connection may be as quiet as the events are.
    deadline: Option<Pin<Box<Sleep>>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
}

impl Listener for Few {
    type Io = One;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (One, SocketAddr) {
        loop {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
                // Never closed.
                return std::future::pending().await;
            };
            if let Ok((stream, peer)) = self.listener.accept().await {
                let one = One {
                    stream,
                    deadline: Some(Box::pin(tokio::time::sleep(REQUEST_MAX))),
                    stop: Box::pin(self.stop.clone().cancelled_owned()),
                    _permit: permit,
                };
                return (one, peer);
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for One {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let late = self.deadline.as_mut().is_some_and(|d| d.as_mut().poll(cx).is_ready());
        if late || self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for One {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.deadline = None;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_or_outlives_the_bench_is_let_go() {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut few = Few::new(listener, 1, stop.clone());
        let _slow = TcpStream::connect(address).await.unwrap();
        let (mut one, _) = few.accept().await;
        let error = one.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        drop(one);
        let _quiet = TcpStream::connect(address).await.unwrap();
        let (mut one, _) = few.accept().await;
        one.write_all(b"answer").await.unwrap();
        let waited = tokio::time::timeout(REQUEST_MAX * 100, one.read_u8()).await;
        assert!(waited.is_err(), "events may be far between: {waited:?}");
        stop.cancel();
        assert!(one.read_u8().await.is_err());
    }
}
