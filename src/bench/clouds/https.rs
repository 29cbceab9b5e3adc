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
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use super::endpoint::ACCEPT_PAUSE;
use super::fault::answer::Answers;
use super::fault::{self, Tapped};
use super::gate::Gate;
use super::journal::{Journal, What};
use super::policy::{Look, Refusal, Rule};
use super::stand_in::Cloud;
use super::visit::Visit;

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
    /// The rule that a failed handshake has broken.
    pub(crate) handshake: fn(&std::io::Error) -> &'static Rule,
    /// An error of this status in the stand-in's own words, for faults that ask for one.
    pub(crate) error: fn(StatusCode) -> Response,
}

/// Who is calling.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// From where.
    pub(crate) address: SocketAddr,
    /// The certificates shown, leaf first; the client has the key of the first. Empty where none was asked for, or none shown.
    pub(crate) chain: Arc<[CertificateDer<'static>]>,
    /// The connection.
    visit: Option<Arc<Visit>>,
}

#[cfg(any(test, fuzzing))]
impl Caller {
    /// Somebody whose connection is no socket.
    pub(super) fn by_hand(address: SocketAddr, chain: Arc<[CertificateDer<'static>]>) -> Self {
        let visit = None;
        Self { address, chain, visit }
    }
}

impl Connected<IncomingStream<'_, Tls>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Tls>) -> Self {
        stream.remote_addr().clone()
    }
}

type Ready = (Connection, Caller);

/// Hands finished TLS connections to axum.
struct Tls {
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
            visit: None,
        })
    }
}

/// A TLS connection that ends with the stand-in, or when its time is up.
struct Connection {
    stream: TlsStream<Tapped<TcpStream>>,
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
    gate: Gate,
    tls: Arc<rustls::ServerConfig>,
    tasks: TaskTracker,
) -> std::io::Result<()> {
    let local = gate.local_addr();
    let (send, ready) = mpsc::channel(CONNECTIONS_MAX);
    let stop = host.stop.clone();
    let answers = Answers {
        cloud: host.cloud,
        board: Arc::clone(gate.board()),
        journal: Arc::clone(&host.journal),
        stop: host.stop.clone(),
        error: host.error,
    };
    let accepting = Accepting { host, tls, ready: send };
    tasks.clone().spawn(accepting.run(gate, tasks));
    let service = router
        .layer(middleware::from_fn_with_state(answers, fault::answer::around))
        .layer(middleware::from_fn(in_visit))
        .into_make_service_with_connect_info::<Caller>();
    axum::serve(Tls { ready, local }, service)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
}

/// Outermost: what happens now belongs to the connection, and a fault may hold it still.
async fn in_visit(ConnectInfo(caller): ConnectInfo<Caller>, request: Request, next: Next) -> Response {
    match caller.visit {
        Some(visit) => fault::http::steps(visit, next.run(request)).await,
        None => next.run(request).await,
    }
}

#[derive(Clone)]
struct Accepting {
    host: Host,
    tls: Arc<rustls::ServerConfig>,
    ready: mpsc::Sender<Ready>,
}

impl Accepting {
    fn note(&self, text: String) {
        self.host.journal.record(self.host.cloud, What::Note { text });
    }

    async fn run(self, mut gate: Gate, tasks: TaskTracker) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = self.host.stop.cancelled() => return,
                accepted = gate.accept() => accepted,
            };
            let (stream, visit) = match accepted {
                Ok(both) => both,
                Err(e) => {
                    self.note(format!("cannot accept a connection: {e}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                self.note(format!(
                    "{CONNECTIONS_MAX} connections are open: {} was turned away",
                    visit.peer
                ));
                continue;
            };
            let shaking = self.clone().shake(stream, Arc::clone(&visit), permit);
            tasks.spawn(async move { visit.serve(shaking).await });
        }
    }

    async fn shake(self, stream: TcpStream, visit: Arc<Visit>, permit: OwnedSemaphorePermit) {
        let address = visit.peer;
        let acceptor = TlsAcceptor::from(visit.tls(&self.tls));
        let shaken = tokio::select! {
            () = self.host.stop.cancelled() => return,
            shaken = timeout(HANDSHAKE_MAX, acceptor.accept(Tapped::new(stream, &visit))) => shaken,
        };
        let problem = match shaken {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let chain: Vec<_> = shown.iter().map(|c| c.clone().into_owned()).collect();
                let connection = Connection {
                    stream,
                    deadline: Box::pin(tokio::time::sleep(CONNECTION_MAX)),
                    stop: Box::pin(self.host.stop.clone().cancelled_owned()),
                    _permit: permit,
                };
                let caller = Caller {
                    address,
                    chain: chain.into(),
                    visit: Some(visit),
                };
                let _ = self.ready.send((connection, caller)).await;
                return;
            }
            Ok(Err(e)) => e,
            Err(_) => {
                let detail = format!("not over after {} s", HANDSHAKE_MAX.as_secs());
                std::io::Error::new(std::io::ErrorKind::TimedOut, detail)
            }
        };
        let refusal = Refusal::new((self.host.handshake)(&problem), Look::Close, problem.to_string());
        let from = address.to_string();
        self.host.journal.refused(self.host.cloud, &refusal, None, &from);
    }
}
