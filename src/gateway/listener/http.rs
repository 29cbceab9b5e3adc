//! Serving the doors that speak HTTP, within bounds: how many connections, how long a head may take, how long an answer, how large a body,
//! how long a connection lives. What is answered is [`crate::gateway::http`]'s.
//!
//! hyper below, and not `axum::serve`, because the latter has no time-out for a request's head: somebody who sends a byte a minute would
//! keep a connection for ever.
//!
//! The other side's address is in each request's extensions as [`ConnectInfo<SocketAddr>`], with its certificate as [`ConnectInfo<Asker>`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::tls::DoorTls;
use crate::clock::Clock;
use crate::gateway::refusal::Refusal;
use crate::gateway::subscriber::PeerCertificate;
use crate::gateway::wire::Wire;

/// Connections at once, on each door.
pub const CONNECTIONS_MAX: usize = 128;
/// How long the head of a request may take, from the moment the connection waits for it.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take until its answer begins.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may live.
pub const LIFE_MAX: Duration = Duration::from_secs(300);
/// Largest body of a request, in bytes: a credential with a chain of RSA certificates has 20 KiB.
pub const BODY_MAX: usize = 1 << 20;
/// Largest head of a request, in bytes.
pub const HEAD_MAX: usize = 16 << 10;
/// How long answers may go on when the gateway stops.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause when the operating system refuses to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Who is at the other end of a connection; in each request's extensions as [`ConnectInfo<Asker>`].
#[derive(Debug, Clone)]
pub struct Asker {
    /// Where it calls from.
    pub peer: SocketAddr,
    /// The certificate it has shown, at a door with TLS.
    pub certificate: Option<PeerCertificate>,
}

/// A door's TLS, and the time by which certificates are judged.
#[derive(Debug, Clone)]
pub struct Secure {
    /// Certificate, key and authorities.
    pub tls: DoorTls,
    /// The time.
    pub clock: Clock,
}

/// Serves a plain door until `stop`; then answers that have begun may end.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_with(listener, None, router, stop).await;
}

/// The same with TLS, if it is given.
pub async fn serve_with(listener: TcpListener, secure: Option<Secure>, router: Router, stop: CancellationToken) {
    let router = router.layer(DefaultBodyLimit::max(BODY_MAX));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        // A place first: while there is none, whoever comes waits in the operating system's queue, which is bounded too.
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                warn!("cannot accept an HTTP connection: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (router, stop, secure) = (router.clone(), stop.clone(), secure.clone());
        tasks.spawn(async move {
            match tokio::time::timeout(HEAD_TIMEOUT, enter(stream, peer, secure.as_ref())).await {
                Ok(Ok((wire, asker))) => one(TokioIo::new(wire), asker, router, stop).await,
                Ok(Err(why)) => debug!(%peer, "an HTTP connection ended: {why}"),
                Err(_) => debug!(%peer, "an HTTP connection ended: no TLS handshake in time"),
            }
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    let _ = tokio::time::timeout(END_TIMEOUT, tasks.wait()).await;
}

async fn enter(stream: TcpStream, peer: SocketAddr, secure: Option<&Secure>) -> Result<(Wire, Asker), Refusal> {
    let (wire, certificate) = match secure {
        None => (Wire::Plain(stream), None),
        Some(Secure { tls, clock }) => {
            let accepted = TlsAcceptor::from(tls.config.clone()).accept(stream).await;
            let wire = accepted.map(Wire::from).map_err(|e| super::tls::failed(&e))?;
            let certificate = tls.certificate(&wire, clock)?;
            (wire, certificate)
        }
    };
    Ok((wire, Asker { peer, certificate }))
}

async fn one(io: TokioIo<Wire>, asker: Asker, router: Router, stop: CancellationToken) {
    let peer = asker.peer;
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(ConnectInfo(asker.clone()));
        // Whoever announces too much is told before the first byte of it.
        let large = request.body().size_hint().lower() > BODY_MAX as u64;
        let answer = inner.call(request);
        async move {
            if large {
                return Ok(refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"));
            }
            let answer = match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
                Ok(answer) => answer?,
                Err(_) => refusal(StatusCode::GATEWAY_TIMEOUT, "it took too long\n"),
            };
            Ok::<Response<Body>, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(LIFE_MAX) => {} } } => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(END_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(e) = ended {
        debug!(%peer, "an HTTP connection ended: {e}");
    }
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::from(text));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn door(router: Router) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let served = tokio::spawn(serve(listener, router, stop.clone()));
        (address, stop, served)
    }

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn answers_know_who_asks_and_bodies_are_bounded() {
        let router = Router::new()
            .route(
                "/who",
                get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }),
            )
            .route(
                "/body",
                post(|body: axum::body::Bytes| async move { body.len().to_string() }),
            );
        let (address, stop, served) = door(router).await;
        let who = ask(address, b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(who.starts_with("HTTP/1.1 200") && who.ends_with("127.0.0.1"), "{who}");
        let head = format!(
            "POST /body HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            BODY_MAX + 1
        );
        assert!(ask(address, head.as_bytes()).await.starts_with("HTTP/1.1 413"));
        let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(HEAD_MAX));
        assert!(ask(address, long.as_bytes()).await.starts_with("HTTP/1.1 431"));
        stop.cancel();
        served.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn slow_heads_and_slow_answers_end() {
        let router = Router::new().route("/slow", get(|| async { std::future::pending::<()>().await }));
        let (address, _stop, _served) = door(router).await;
        let begin = tokio::time::Instant::now();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nx").await.unwrap();
        let mut answer = Vec::new();
        let _ = slow.read_to_end(&mut answer).await;
        assert!(begin.elapsed() >= HEAD_TIMEOUT && begin.elapsed() < 2 * HEAD_TIMEOUT);
        let late = ask(address, b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(late.starts_with("HTTP/1.1 504"), "{late}");
        // Between requests too, nobody keeps a connection for nothing.
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /none HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let begin = tokio::time::Instant::now();
        let _ = idle.read_to_end(&mut answer).await;
        assert!(
            begin.elapsed() <= HEAD_TIMEOUT + Duration::from_secs(1),
            "{:?}",
            begin.elapsed()
        );
    }
}
