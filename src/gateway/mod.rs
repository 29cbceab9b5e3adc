//! The gateway: what SORACOM Beam's MQTT entry point is in the cloud, on a host of your own.
//!
//! A device speaks plain MQTT 3.1.1; the gateway knows it by its address or token, and speaks for it to the cloud over TLS with the
//! device's own certificate. The rooms, in the order a connection walks through them:
//!
//! | room | job | I/O |
//! |---|---|---|
//! | [`config`] | `gateway.toml` | - |
//! | [`book`], [`store`] | who may connect, as what, proved how: in files or a database | files, SQL |
//! | this file | the listener: accept, bound, stop | yes |
//! | `connection` | one device from its first byte to its last | yes |
//! | [`subscriber`] | who is this? | - |
//! | [`group`], [`credential`] | what devices share; what proves one | - |
//! | [`connect`] | the rewritten CONNECT, or a refusal | - |
//! | [`upstream`] | TLS tickets by credential and version; dial, TLS, CONNACK | yes |
//! | [`rules`], [`flow`], [`relay`] | what may pass; what becomes of it; passing it | -, -, yes |
//! | [`ca`] | an authority for those who have none | files |
//! | [`admin`], [`http`], [`cli`] | what an operator may do with a store, and the ways to it | SQL, HTTP |
//! | [`refusal`], [`status`], [`check`] | why not; what goes on; is it right before a device calls? | -, -, files |
//!
//! One task serves one connection and shares nothing with another but counters and the credential cache, so a slow, silent or broken
//! device harms itself alone. (A stranger who opens connections by the thousand can still take all places for as long as
//! `listen.connect_timeout`: the port belongs on a private network.) Everything is bounded: connections (`listen.max_connections`), the wait for CONNECT
//! (`listen.connect_timeout`), a packet (`listen.max_packet`), the way upstream (`upstream.connect_timeout`), a stuck write
//! (`listen.write_timeout`), silence (one and a half times the keep-alive), and the end of the program ([`STOP_TIMEOUT`]).

pub mod admin;
pub mod book;
pub mod ca;
pub mod check;
pub mod cli;
pub mod config;
pub mod connect;
mod connection;
pub mod credential;
pub mod flow;
pub mod group;
mod guess;
pub mod http;
mod json;
pub mod refusal;
pub mod relay;
pub mod reload;
pub mod rules;
mod socket;
pub mod status;
pub mod store;
pub mod subscriber;
pub mod upstream;
pub mod wire;
pub mod workers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use config::Config;
pub use status::Status;

use crate::clock::Clock;
use crate::control::StatusSocket;
use book::{Book, BookError};
use connection::Shared;
use refusal::Refusal;
use upstream::tickets::Tickets;

/// How long connections may take to end once the gateway stops.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause when the operating system refuses to accept (out of descriptors), so that this does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another broker or gateway running there? see listen.address")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Who may connect cannot be read.
    #[error("{0}")]
    Book(#[from] BookError),
    /// The authorities for upstream cannot be read.
    #[error("upstream.ca_file: {0}")]
    Authorities(String),
    /// The status socket cannot be made.
    #[error("status.socket: cannot listen on {path}: {source}")]
    Socket {
        /// The configured path.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
}

/// A gateway that listens and does not serve yet.
#[derive(Debug)]
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    socket: Option<StatusSocket>,
    shared: Arc<Shared>,
}

impl Gateway {
    /// Loads what is shared (tokens, authorities) and takes the port and the status socket.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn bind(config: Config, clock: &Clock) -> Result<Self, StartError> {
        let book = Arc::new(Book::open(&config, clock).await?);
        let view = book.view().await;
        let tickets = Tickets::new(clock);
        for group in view
            .groups
            .values()
            .filter(|g| g.upstream.scheme == group::Scheme::Mqtts)
        {
            tickets.config(&group.upstream, None).map_err(StartError::Authorities)?;
        }
        let address = config.listen.address;
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let socket = match &config.socket {
            Some(path) => Some(StatusSocket::bind(path).map_err(|source| StartError::Socket {
                path: path.display().to_string(),
                source,
            })?),
            None => StatusSocket::bind(config::DEFAULT_SOCKET.as_ref())
                .inspect_err(|e| warn!("no status socket: {e}; name one with status.socket"))
                .ok(),
        };
        let mut to: Vec<String> = view.groups.values().map(|g| g.upstream.shown()).collect();
        to.sort();
        let status = Arc::new(Status::new(clock.clone(), address, to.join(", "), view.directory.len()));
        let shared = Shared {
            listen: config.listen,
            book,
            tickets,
            status,
            epoch: tokio::time::Instant::now(),
        };
        Ok(Self {
            listener,
            address,
            socket,
            shared: Arc::new(shared),
        })
    }

    /// Where it listens, with the real port when 0 was configured.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The counters; they stay readable after [`Gateway::serve`].
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.shared.status.clone()
    }

    /// Serves until `stop` is cancelled; then closes every connection and says how many there were.
    pub async fn serve(self, stop: CancellationToken) -> usize {
        let Self {
            listener,
            address,
            socket,
            shared,
        } = self;
        let answers = tokio::spawn({
            let (status, book) = (shared.status.clone(), shared.book.clone());
            async move {
                if let Some(socket) = socket {
                    let answer = || {
                        let mut answer = status.json();
                        if let Some(health) = book.health() {
                            answer["store"] = health.json();
                        }
                        answer
                    };
                    socket.serve(answer).await;
                }
            }
        });
        let places = Arc::new(Semaphore::new(shared.listen.max_connections));
        let tasks = TaskTracker::new();
        let cut = Arc::new(AtomicUsize::new(0));
        warn_of_few_files(shared.listen.max_connections);
        info!(%address, "listening");
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok(x) => x,
                    Err(e) => {
                        warn!("cannot accept a connection: {e}; is the limit of open files (LimitNOFILE) too low?");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                let refusal = Refusal::Full(shared.listen.max_connections);
                shared.status.count_refused(&refusal);
                warn!(%peer, reason = refusal.key(), "refused: {refusal}");
                continue;
            };
            let (shared, stop, cut) = (shared.clone(), stop.clone(), cut.clone());
            tasks.spawn(async move {
                let listed = shared.status.list(peer);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => { cut.fetch_add(1, Relaxed); }
                    () = connection::serve(&shared, stream, peer, &listed.connection) => {}
                }
                drop(place);
            });
        }
        drop(listener);
        tasks.close();
        if tokio::time::timeout(STOP_TIMEOUT, tasks.wait()).await.is_err() {
            warn!(
                "{} connections did not end within {} s",
                tasks.len(),
                STOP_TIMEOUT.as_secs()
            );
        }
        // A store that hangs must not hold the end.
        let _ = tokio::time::timeout(STOP_TIMEOUT, shared.book.flush()).await;
        answers.abort();
        // The socket's file is removed when its task is gone.
        let _ = answers.await;
        let cut = cut.load(Relaxed);
        info!("stopped: {cut} connections closed");
        cut
    }
}

/// Each connection has two sockets; the rest is for the program itself.
const FILES_BESIDES: usize = 64;

/// Says so early when the limit of open files is below what `listen.max_connections` needs.
fn warn_of_few_files(max_connections: usize) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"));
    let soft = line.and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok());
    let need = 2 * max_connections + FILES_BESIDES;
    if let Some(soft) = soft.filter(|soft| *soft < need) {
        warn!(
            "{soft} open files are allowed, {max_connections} connections need {need}: set LimitNOFILE= in the unit or \
             'ulimit -n', or lower listen.max_connections"
        );
    }
}

/// Binds and serves in one go.
///
/// # Errors
/// [`StartError`].
pub async fn run(config: Config, clock: &Clock, stop: CancellationToken) -> Result<usize, StartError> {
    Ok(Gateway::bind(config, clock).await?.serve(stop).await)
}
