//! TLS connections for the service's HTTPS, each with what its client showed. Handshakes run in tasks of their own so that one slow client
//! holds up nobody; connections are bounded in number and life.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use crate::bench::clouds::endpoint::ACCEPT_PAUSE;
use crate::bench::clouds::journal::{Journal, What};
use crate::bench::clouds::policy::{Look, Refusal, dps, mqtt};
use crate::bench::clouds::stand_in::Cloud;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// The TLS handshake has to be over by then.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A connection lives no longer than this, busy or not.
const CONNECTION_MAX: Duration = Duration::from_secs(600);

/// Who is calling.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// From where.
    pub(super) address: SocketAddr,
    /// The certificates shown, leaf first; the client has the key of the first.
    pub(super) chain: Arc<[CertificateDer<'static>]>,
}

impl Connected<IncomingStream<'_, Tls>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Tls>) -> Self {
        stream.remote_addr().clone()
    }
}

type Ready = (Connection, Caller);

/// Hands finished TLS connections to axum.
pub(super) struct Tls {
    ready: mpsc::Receiver<Ready>,
    local: SocketAddr,
}

impl Listener for Tls {
    type Io = Connection;
    type Addr = Caller;

    async fn accept(&mut self) -> Ready {
        match self.ready.recv().await {
            Some(ready) => ready,
            // The accepting task has stopped: axum is stopping too.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Caller> {
        Ok(Caller {
            address: self.local,
            chain: Vec::new().into(),
        })
    }
}

/// A TLS connection that ends with the stand-in, or when its time is up.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    deadline: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.stop.as_mut().poll(cx).is_ready() || self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Begins to take connections.
pub(super) fn listen(
    journal: Arc<Journal>,
    stop: CancellationToken,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    tasks: &TaskTracker,
) -> std::io::Result<Tls> {
    let local = listener.local_addr()?;
    let (send, ready) = mpsc::channel(CONNECTIONS_MAX);
    let accepting = Accepting {
        journal,
        stop,
        acceptor: TlsAcceptor::from(tls),
        ready: send,
    };
    tasks.spawn(accepting.run(listener, tasks.clone()));
    Ok(Tls { ready, local })
}

#[derive(Clone)]
struct Accepting {
    journal: Arc<Journal>,
    stop: CancellationToken,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<Ready>,
}

impl Accepting {
    fn note(&self, text: String) {
        self.journal.record(Cloud::Dps, What::Note { text });
    }

    async fn run(self, listener: TcpListener, tasks: TaskTracker) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(both) => both,
                Err(e) => {
                    self.note(format!("cannot accept a connection: {e}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                self.note(format!(
                    "{CONNECTIONS_MAX} connections are open: {peer} was turned away"
                ));
                continue;
            };
            tasks.spawn(self.clone().shake(stream, peer, permit));
        }
    }

    async fn shake(self, stream: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit) {
        let shaken = tokio::select! {
            () = self.stop.cancelled() => return,
            shaken = timeout(HANDSHAKE_MAX, self.acceptor.accept(stream)) => shaken,
        };
        let (rule, problem) = match shaken {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let chain: Vec<_> = shown.iter().map(|c| c.clone().into_owned()).collect();
                let connection = Connection {
                    stream,
                    deadline: Box::pin(tokio::time::sleep(CONNECTION_MAX)),
                    stop: Box::pin(self.stop.clone().cancelled_owned()),
                    _permit: permit,
                };
                let caller = Caller {
                    address,
                    chain: chain.into(),
                };
                let _ = self.ready.send((connection, caller)).await;
                return;
            }
            Ok(Err(e)) if is_version(&e) => (&dps::TLS_1_2, e.to_string()),
            Ok(Err(e)) => (&mqtt::TLS, e.to_string()),
            Err(_) => (&mqtt::TLS, format!("not over after {} s", HANDSHAKE_MAX.as_secs())),
        };
        let refusal = Refusal::new(rule, Look::Close, problem);
        self.journal.refused(Cloud::Dps, &refusal, None, &address.to_string());
    }
}

/// Whether the client did not offer TLS 1.2.
fn is_version(error: &std::io::Error) -> bool {
    use rustls::PeerIncompatible::{Tls12NotOffered, Tls12NotOfferedOrEnabled};
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::PeerIncompatible(
            Tls12NotOffered | Tls12NotOfferedOrEnabled
        ))
    )
}
