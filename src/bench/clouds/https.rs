//! HTTPS for stand-ins: a TLS listener of our own behind axum, which shakes hands in tasks of their own so that one slow client holds up
//! nobody, and bounds how many connections there are and how long each may live.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use super::endpoint::ACCEPT_PAUSE;
use super::journal::{Journal, What};
use super::policy::{Look, Refusal, mqtt};
use super::stand_in::Cloud;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// The TLS handshake has to be over by then.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A connection lives no longer than this, busy or not.
const CONNECTION_MAX: Duration = Duration::from_secs(600);

/// Whose door it is.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) cloud: Cloud,
    pub(crate) journal: Arc<Journal>,
    pub(crate) stop: CancellationToken,
}

/// The caller's address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, Tls>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Tls>) -> Self {
        Self(*stream.remote_addr())
    }
}

type Ready = (Connection, SocketAddr);

/// Hands finished TLS connections to axum.
struct Tls {
    ready: mpsc::Receiver<Ready>,
    local: SocketAddr,
}

impl Listener for Tls {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Ready {
        match self.ready.recv().await {
            Some(ready) => ready,
            // The accepting task has stopped: axum is stopping too.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.local)
    }
}

/// A TLS connection that ends with the stand-in, or when its time is up.
struct Connection {
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

/// Serves until told to stop.
pub(crate) async fn serve(
    host: Host,
    router: Router,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    tasks: TaskTracker,
) -> std::io::Result<()> {
    let local = listener.local_addr()?;
    let (send, ready) = mpsc::channel(CONNECTIONS_MAX);
    let stop = host.stop.clone();
    tasks.clone().spawn(accept(host, listener, tls, send, tasks));
    let service = router.into_make_service_with_connect_info::<Caller>();
    axum::serve(Tls { ready, local }, service)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
}

async fn accept(
    host: Host,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    ready: mpsc::Sender<Ready>,
    tasks: TaskTracker,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let acceptor = TlsAcceptor::from(tls);
    let note = |text: String| host.journal.record(host.cloud, What::Note { text });
    loop {
        let accepted = tokio::select! {
            () = host.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(both) => both,
            Err(e) => {
                note(format!("cannot accept a connection: {e}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            note(format!(
                "{CONNECTIONS_MAX} connections are open: {peer} was turned away"
            ));
            continue;
        };
        let (acceptor, ready, host) = (acceptor.clone(), ready.clone(), host.clone());
        tasks.spawn(async move {
            let shaken = tokio::select! {
                () = host.stop.cancelled() => return,
                shaken = timeout(HANDSHAKE_MAX, acceptor.accept(stream)) => shaken,
            };
            let problem = match shaken {
                Ok(Ok(stream)) => {
                    let connection = Connection {
                        stream,
                        deadline: Box::pin(tokio::time::sleep(CONNECTION_MAX)),
                        stop: Box::pin(host.stop.clone().cancelled_owned()),
                        _permit: permit,
                    };
                    let _ = ready.send((connection, peer)).await;
                    return;
                }
                Ok(Err(e)) => e.to_string(),
                Err(_) => format!("not over after {} s", HANDSHAKE_MAX.as_secs()),
            };
            let refusal = Refusal::new(&mqtt::TLS_SERVER_ONLY, Look::Close, problem);
            host.journal.refused(host.cloud, &refusal, None, &peer.to_string());
        });
    }
}
