//! Serving the doors that speak HTTP, within bounds: how many connections, and from one address; how long a head may take, a body, an
//! answer; how large they may be; how long a connection lives. What is answered is [`crate::gateway::http`]'s.
//!
//! Places are given as at the doors for devices ([`Places`]): each door has [`CONNECTIONS_MAX`], one address holds [`PER_ADDRESS_MAX`] of
//! them, and who has not yet shown who he is ([`Asker::stays`]) makes room for the next one when [`STRANGERS_MAX`] are there: first the
//! oldest connection of the address that has the most. So nobody keeps an operator or a device out by opening connections.
//!
//! The PROXY protocol is not read here. What comes from `listen.proxies` counts for no address (the balancer's would be everybody's), and
//! says by its address nothing about who asks ([`crate::gateway::provisioning::door`]).
//!
//! hyper below, and not `axum::serve`, because the latter has no time-out for a request's head: somebody who sends a byte a minute would
//! keep a connection for ever.
//!
//! The other side's address is in each request's extensions as [`ConnectInfo<SocketAddr>`], with its certificate as [`ConnectInfo<Asker>`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::tls::DoorTls;
use super::{Hall, Place, Places};
use crate::gateway::guess::Origin;
use crate::gateway::refusal::Refusal;
use crate::gateway::reload::Current;
use crate::gateway::subscriber::PeerCertificate;
use crate::gateway::wire::Wire;

/// Connections at once, on each door.
pub const CONNECTIONS_MAX: usize = 128;
/// How many of them one address may hold; a browser takes six.
pub const PER_ADDRESS_MAX: usize = 32;
/// How many of them those may hold who have not shown who they are.
pub const STRANGERS_MAX: usize = 96;
/// How long the head of a request may take, from the moment the connection waits for it.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the body of a request may take, from the end of its head.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long bytes of an answer may lie unacknowledged before the connection is given up.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
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
    place: Arc<Place>,
}

impl Asker {
    /// It has shown who it is: nobody takes its place from now on.
    pub(in crate::gateway) fn stays(&self) {
        // Whoever lost it a moment ago notices by itself.
        let _ = self.place.keep();
    }
}

/// One door for HTTP: its places, its TLS, and what it shares with the doors for devices.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct Entrance {
    hall: Arc<Hall>,
    places: Arc<Places>,
    secure: Option<Arc<Current<DoorTls>>>,
}

impl Entrance {
    /// A door with its own places; all its sockets share them.
    pub(in crate::gateway) fn new(hall: Arc<Hall>, secure: Option<Arc<Current<DoorTls>>>) -> Self {
        Self {
            hall,
            places: Places::with_strangers(CONNECTIONS_MAX, PER_ADDRESS_MAX, STRANGERS_MAX),
            secure,
        }
    }

    /// Whether it speaks TLS.
    pub(in crate::gateway) fn is_secure(&self) -> bool {
        self.secure.is_some()
    }

    fn place(&self, peer: SocketAddr) -> Option<Place> {
        let ip = peer.ip().to_canonical();
        let origin = (!self.hall.trusts(ip)).then(|| Origin::of(ip));
        match self.places.take(origin) {
            Ok(place) => Some(place),
            Err(refusal) => {
                if let Some(more) = self.hall.say(Origin::of(ip), refusal.key()) {
                    warn!(from = %ip, reason = refusal.key(), more, "HTTP: refused: {}", full(&refusal));
                }
                None
            }
        }
    }
}

/// The bounds of these doors in words: those of a [`Refusal`] name the keys of the doors for devices.
fn full(refusal: &Refusal) -> String {
    match refusal {
        Refusal::TooManyFrom(n) => format!("{n} connections are open from this address, and no more are taken"),
        _ => format!("all {CONNECTIONS_MAX} places are taken"),
    }
}

/// What to say of a door without TLS whose address others reach; nothing, if it never leaves this machine.
pub(in crate::gateway) fn plain_warning(section: &str, at: SocketAddr) -> Option<String> {
    if at.ip().to_canonical().is_loopback() {
        return None;
    }
    let (what, cure) = match section {
        "api" => (
            "its token",
            "set api.address to a loopback address, and put a proxy with TLS before it",
        ),
        _ => (
            "private keys",
            "set provisioning.certificate and key, or a loopback address",
        ),
    };
    Some(format!(
        "[{section}] listens without TLS at {at}, which others reach: {what} can be read on the way; {cure}"
    ))
}

/// Serves a door until `stop`; then answers that have begun may end.
pub(in crate::gateway) async fn serve(
    listener: TcpListener,
    entrance: Entrance,
    router: Router,
    stop: CancellationToken,
) {
    let router = router.layer(DefaultBodyLimit::max(BODY_MAX));
    let tasks = TaskTracker::new();
    loop {
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
        let Some(place) = entrance.place(peer).map(Arc::new) else {
            continue;
        };
        let (router, stop, entrance) = (router.clone(), stop.clone(), entrance.clone());
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = place.must_go() => debug!(%peer, "an HTTP connection made room for another"),
                () = visit(stream, peer, &entrance, place.clone(), router, stop) => {}
            }
        });
    }
    drop(listener);
    tasks.close();
    let _ = tokio::time::timeout(END_TIMEOUT, tasks.wait()).await;
}

async fn visit(
    stream: TcpStream,
    peer: SocketAddr,
    entrance: &Entrance,
    place: Arc<Place>,
    router: Router,
    stop: CancellationToken,
) {
    crate::gateway::socket::tune(&stream, WRITE_TIMEOUT);
    match tokio::time::timeout(HEAD_TIMEOUT, enter(stream, entrance)).await {
        Ok(Ok((wire, certificate))) => {
            let asker = Asker {
                peer,
                certificate,
                place,
            };
            one(TokioIo::new(wire), asker, router, stop).await;
        }
        Ok(Err(why)) => {
            // An attempt to be somebody, as at the doors for devices; a balancer's address stands for nobody.
            if matches!(why, Refusal::Certificate(_)) && !entrance.hall.trusts(peer.ip()) {
                entrance.hall.guessed(Origin::of(peer.ip()));
            }
            debug!(%peer, "an HTTP connection ended: {why}");
        }
        Err(_) => debug!(%peer, "an HTTP connection ended: no TLS handshake in time"),
    }
}

async fn enter(stream: TcpStream, entrance: &Entrance) -> Result<(Wire, Option<PeerCertificate>), Refusal> {
    let Some(tls) = entrance.secure.as_ref().map(|tls| tls.get()) else {
        return Ok((Wire::Plain(stream), None));
    };
    let accepted = TlsAcceptor::from(tls.config.clone()).accept(stream).await;
    let wire = accepted.map(Wire::from).map_err(|e| super::tls::failed(&e))?;
    let certificate = tls.certificate(&wire, &entrance.hall.clock)?;
    Ok((wire, certificate))
}

/// A request's body that fails when it is not whole in time.
struct Hurried {
    body: Incoming,
    until: Pin<Box<Sleep>>,
    late: Arc<AtomicBool>,
}

impl hyper::body::Body for Hurried {
    type Data = bytes::Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|f| f.map_err(Into::into)));
        }
        match self.until.as_mut().poll(cx) {
            Poll::Ready(()) => {
                self.late.store(true, Relaxed);
                Poll::Ready(Some(Err("the body did not come in time".into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

async fn one(io: TokioIo<Wire>, asker: Asker, router: Router, stop: CancellationToken) {
    let peer = asker.peer;
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(ConnectInfo(asker.clone()));
        // Whoever announces too much is told before the first byte of it.
        let large = request.body().size_hint().lower() > BODY_MAX as u64;
        let late = Arc::new(AtomicBool::new(false));
        let answer = inner.call(request.map(|body| Hurried {
            body,
            until: Box::pin(tokio::time::sleep(BODY_TIMEOUT)),
            late: late.clone(),
        }));
        async move {
            if large {
                return Ok(refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"));
            }
            let answer = match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
                Ok(answer) => answer?,
                Err(_) => refusal(StatusCode::GATEWAY_TIMEOUT, "it took too long\n"),
            };
            if late.load(Relaxed) {
                let mut answer = refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n");
                answer
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
                return Ok(answer);
            }
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

    fn entrance(proxies: &str) -> Entrance {
        let text = format!("[listen]\nproxies = [{proxies}]\n");
        let config = crate::gateway::Config::from_text("gateway.toml".as_ref(), text).unwrap();
        let hall = Hall::new(&config.listen, None, &crate::clock::Clock::new());
        Entrance::new(Arc::new(hall), None)
    }

    async fn door(router: Router) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        door_of(entrance(""), router).await
    }

    async fn door_of(
        entrance: Entrance,
        router: Router,
    ) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let served = tokio::spawn(serve(listener, entrance, router, stop.clone()));
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

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_cut_by_name() {
        let router = Router::new().route(
            "/body",
            post(|body: axum::body::Bytes| async move { body.len().to_string() }),
        );
        let (address, _stop, _served) = door(router).await;
        let begin = tokio::time::Instant::now();
        let late = ask(
            address,
            b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf",
        )
        .await;
        assert!(
            late.starts_with("HTTP/1.1 408") && late.contains("did not come in time"),
            "{late}"
        );
        assert!(begin.elapsed() >= BODY_TIMEOUT && begin.elapsed() < 2 * BODY_TIMEOUT);
        let whole = ask(
            address,
            b"POST /body HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 4\r\n\r\nhalf",
        )
        .await;
        assert!(whole.starts_with("HTTP/1.1 200") && whole.ends_with('4'), "{whole}");
    }

    /// Asks on a connection that is there already.
    async fn answer_on(stream: &mut TcpStream) -> String {
        let mut answer = String::new();
        let _ = stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await;
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    async fn call(address: SocketAddr, from: [u8; 4]) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(address).await.unwrap()
    }

    const HERE: [u8; 4] = [127, 0, 88, 1];

    #[tokio::test]
    async fn one_address_has_its_share_and_a_balancer_has_none() {
        let router = || Router::new().route("/", get(|| async { "here" }));
        let (address, _stop, _served) = door(router()).await;
        let mut held = Vec::new();
        for _ in 0..PER_ADDRESS_MAX {
            held.push(call(address, HERE).await);
        }
        // The door has taken them when the first of its neighbours is answered, which came later.
        let answer = ask(address, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.ends_with("here"), "another address is served: {answer}");
        let mut more = call(address, HERE).await;
        assert_eq!(more.read(&mut [0; 1]).await.unwrap_or(0), 0, "one too many is closed");
        for stream in &mut held {
            assert!(answer_on(stream).await.ends_with("here"));
        }
        // Whoever comes through a balancer counts for no address.
        let (address, _stop, _served) = door_of(entrance("'127.0.88.0/24'"), router()).await;
        let mut held = Vec::new();
        for _ in 0..=PER_ADDRESS_MAX {
            held.push(call(address, HERE).await);
        }
        for stream in &mut held {
            assert!(answer_on(stream).await.ends_with("here"));
        }
    }

    #[tokio::test]
    async fn strangers_make_room_and_who_is_known_stays() {
        let router = Router::new()
            .route(
                "/known",
                get(|ConnectInfo(asker): ConnectInfo<Asker>| async move { asker.stays() }),
            )
            .route("/", get(|| async { "here" }));
        let (address, _stop, _served) = door(router).await;
        let mut known = call(address, [127, 0, 88, 9]).await;
        known
            .write_all(b"GET /known HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        assert!(known.read(&mut [0; 64]).await.unwrap() > 0);
        let mut crowd = Vec::new();
        for n in 0..u8::try_from(STRANGERS_MAX + 40).unwrap() {
            // Eight addresses, each within its share.
            crowd.push(call(address, [127, 0, 88, 10 + n % 8]).await);
            if n % 20 == 0 {
                let answer = ask(address, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
                assert!(answer.ends_with("here"), "a newcomer is served: {answer}");
            }
        }
        known
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut rest = String::new();
        known.read_to_string(&mut rest).await.unwrap();
        assert!(rest.ends_with("here"), "{rest}");
    }

    #[test]
    fn a_plain_door_that_others_reach_is_told() {
        for (at, told) in [
            ("127.0.0.1:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("0.0.0.0:1", true),
            ("10.0.0.1:1", true),
            ("[::]:1", true),
        ] {
            assert_eq!(plain_warning("api", at.parse().unwrap()).is_some(), told, "{at}");
        }
        let said = plain_warning("provisioning", "10.0.0.1:8036".parse().unwrap()).unwrap();
        assert!(
            said.contains("private keys can be read") && said.contains("provisioning.certificate"),
            "{said}"
        );
    }
}
