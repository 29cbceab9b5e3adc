//! Krypton's HTTPS: an axum router behind a TLS listener of our own, which shakes hands in tasks of their own so that one slow client
//! holds up nobody, and bounds how many connections there are and how long each may live.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::{IncomingStream, Listener};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use super::endpoint::ACCEPT_PAUSE;
use super::fault::{self, KryptonFault, Tapped};
use super::gate::Gate;
use super::journal::{Journal, What};
use super::krypton::{ApiError, Krypton};
use super::policy::{Look, Refusal, mqtt};
use super::stand_in::Cloud;
use super::visit::Visit;
use crate::identity::Imsi;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// The TLS handshake has to be over by then.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A connection lives no longer than this, busy or not.
const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// Largest request body, in bytes: the largest documented one has a handful of names.
const BODY_MAX: usize = 16 * 1024;
/// Largest answer that can be cut in the middle, in bytes.
const ANSWER_MAX: usize = 256 * 1024;
/// How long the fault `slow` keeps silent.
const STALL: Duration = Duration::from_secs(300);
/// What a captive portal might say.
const PORTAL: &str =
    "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in to this network.</body></html>\n";

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) krypton: Arc<Krypton>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) stop: CancellationToken,
}

/// The caller's address and connection.
#[derive(Debug, Clone)]
struct Caller(SocketAddr, Arc<Visit>);

impl Connected<IncomingStream<'_, Tls>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Tls>) -> Self {
        Self(*stream.remote_addr(), Arc::clone(&stream.io().visit))
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
    stream: TlsStream<Tapped<TcpStream>>,
    visit: Arc<Visit>,
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
    door: Door,
    gate: Gate,
    tls: Arc<rustls::ServerConfig>,
    tasks: TaskTracker,
) -> std::io::Result<()> {
    let local = gate.local_addr();
    let (send, ready) = mpsc::channel(CONNECTIONS_MAX);
    let stop = door.stop.clone();
    tasks.clone().spawn(accept(door.clone(), gate, tls, send, tasks));
    let service = router(door).into_make_service_with_connect_info::<Caller>();
    axum::serve(Tls { ready, local }, service)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
}

async fn accept(
    door: Door,
    mut gate: Gate,
    tls: Arc<rustls::ServerConfig>,
    ready: mpsc::Sender<Ready>,
    tasks: TaskTracker,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let note = |text: String| door.journal.record(Cloud::Krypton, What::Note { text });
    loop {
        let accepted = tokio::select! {
            () = door.stop.cancelled() => return,
            accepted = gate.accept() => accepted,
        };
        let (stream, visit) = match accepted {
            Ok(both) => both,
            Err(e) => {
                note(format!("cannot accept a connection: {e}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = visit.peer;
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            note(format!(
                "{CONNECTIONS_MAX} connections are open: {peer} was turned away"
            ));
            continue;
        };
        let acceptor = TlsAcceptor::from(visit.tls(&tls));
        let stream = Tapped::new(stream, &visit);
        let (ready, door) = (ready.clone(), door.clone());
        tasks.spawn(async move {
            let serving = Arc::clone(&visit);
            let shaking = async move {
                let shaken = tokio::select! {
                    () = door.stop.cancelled() => return,
                    shaken = timeout(HANDSHAKE_MAX, acceptor.accept(stream)) => shaken,
                };
                let problem = match shaken {
                    Ok(Ok(stream)) => {
                        let connection = Connection {
                            stream,
                            visit,
                            deadline: Box::pin(tokio::time::sleep(CONNECTION_MAX)),
                            stop: Box::pin(door.stop.clone().cancelled_owned()),
                            _permit: permit,
                        };
                        let _ = ready.send((connection, peer)).await;
                        return;
                    }
                    Ok(Err(e)) => e.to_string(),
                    Err(_) => format!("not over after {} s", HANDSHAKE_MAX.as_secs()),
                };
                let refusal = Refusal::new(&mqtt::TLS_SERVER_ONLY, Look::Close, problem);
                door.journal.refused(Cloud::Krypton, &refusal, None, &peer.to_string());
            };
            serving.serve(shaking).await;
        });
    }
}

fn router(door: Door) -> Router {
    const AZURE: &str = "/v1/provisioning/azure/iot";
    const AWS: &str = "/v1/provisioning/aws/iot";
    Router::new()
        .route(&format!("{AZURE}/register"), post(register))
        .route(&format!("{AZURE}/registrations/{{id}}"), get(status))
        .route(&format!("{AWS}/bootstrap"), post(bootstrap))
        .route(&format!("{AWS}/certificates/{{id}}"), post(certificate))
        .route(&format!("{AWS}/ca_certificate"), post(ca_certificate))
        .fallback(|request: Request| async move {
            let message = format!("there is no {} here", request.uri().path());
            ApiError::new(StatusCode::NOT_FOUND, "KRY0404", message)
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "KRY0405",
                "this path takes another method",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(door.clone(), around))
        .layer(middleware::from_fn(in_visit))
        .with_state(door)
}

/// Outermost: what happens now belongs to the connection, and a fault may hold it still.
async fn in_visit(ConnectInfo(Caller(_, visit)): ConnectInfo<Caller>, request: Request, next: Next) -> Response {
    fault::http::steps(visit, next.run(request)).await
}

/// Around every request: the faults that concern whole answers, then who the caller is, and one line in the journal.
async fn around(
    State(door): State<Door>,
    ConnectInfo(Caller(peer, _)): ConnectInfo<Caller>,
    mut request: Request,
    next: Next,
) -> Response {
    use KryptonFault::{Empty, Html, Http, Slow, Truncated};
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let subscriber = door.krypton.subscribers.find(peer.ip()).cloned();
    let asked = |f: KryptonFault| matches!(f, Http(_) | Html | Truncated | Empty | Slow);
    let fault = door.krypton.fault.take(asked);
    let response = match (fault, &subscriber) {
        (Some(Http(status)), _) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            ApiError::new(status, "KRY0000", "this answer was asked for by a fault").into_response()
        }
        (Some(Html), _) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PORTAL).into_response(),
        (Some(Empty), _) => StatusCode::OK.into_response(),
        (Some(Slow), _) => {
            tokio::select! {
                () = door.stop.cancelled() => {}
                () = tokio::time::sleep(STALL) => {}
            }
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        (_, None) => {
            let message = format!("{} does not come in over a SORACOM SIM", peer.ip());
            ApiError::new(StatusCode::FORBIDDEN, "KRY0403", message).into_response()
        }
        (fault, Some(imsi)) => {
            request.extensions_mut().insert(imsi.clone());
            let response = next.run(request).await;
            if fault == Some(Truncated) {
                cut(response).await
            } else {
                response
            }
        }
    };
    door.journal.record(
        Cloud::Krypton,
        What::Http {
            method,
            path,
            status: response.status().as_u16(),
            subscriber: subscriber.map(|i| i.to_string()),
            fault: fault.map(|f| f.to_string()),
        },
    );
    response
}

/// The first half of an answer, as if that were all.
async fn cut(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = to_bytes(body, ANSWER_MAX).await.unwrap_or_default();
    let half = whole.slice(..whole.len() / 2);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(half))
}

type Sim = axum::Extension<Imsi>;
type Answer = Result<axum::Json<Value>, ApiError>;

async fn register(State(door): State<Door>, sim: Sim, body: Bytes) -> Answer {
    door.krypton.register(&sim, &body).map(axum::Json)
}

async fn status(State(door): State<Door>, sim: Sim, Path(id): Path<String>) -> Answer {
    door.krypton.status(&sim, &id).map(axum::Json)
}

async fn bootstrap(State(door): State<Door>, sim: Sim, body: Bytes) -> Answer {
    door.krypton.bootstrap(&sim, &body).map(axum::Json)
}

async fn certificate(State(door): State<Door>, sim: Sim, Path(id): Path<String>) -> Result<Response, ApiError> {
    door.krypton.certificate(&sim, &id).map(pem)
}

async fn ca_certificate(State(door): State<Door>) -> Response {
    pem(door.krypton.ca_certificate())
}

fn pem(text: String) -> Response {
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("application/x-pem-file");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
