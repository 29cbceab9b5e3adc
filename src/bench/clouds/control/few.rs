//! A listener with a bound on its connections: further ones wait until one ends. So that this is soon, a connection on which no request
//! has come in time ends, and so does every one when the bench stops.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::bench::clouds::endpoint::ACCEPT_PAUSE;

/// A request has to be there by then, head and body each: half of what our own client waits for an answer.
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

/// Whether a request has come on a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    /// One has.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Few>> for Asked {
    fn connect_info(stream: IncomingStream<'_, Few>) -> Self {
        stream.io().asked.clone()
    }
}

/// One of them.
pub(super) struct One {
    stream: TcpStream,
    /// For the head of the first request; afterwards a connection may be as quiet as the events are, or as late as a device's answer.
    deadline: Option<Pin<Box<Sleep>>>,
    asked: Asked,
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
                    asked: Asked::default(),
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
        if self.asked.0.load(Ordering::Relaxed) {
            self.deadline = None;
        }
        let late = self.deadline.as_mut().is_some_and(|d| d.as_mut().poll(cx).is_ready());
        if late || self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for One {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
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
    use tokio::io::AsyncReadExt;

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
        one.asked.set();
        let waited = tokio::time::timeout(REQUEST_MAX * 100, one.read_u8()).await;
        assert!(waited.is_err(), "an answer may take its time: {waited:?}");
        stop.cancel();
        assert!(one.read_u8().await.is_err());
    }
}
