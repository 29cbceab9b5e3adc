//! The gateway: what SORACOM Beam's MQTT entry point is in the cloud, on a host of your own.
//!
//! A device speaks plain MQTT, 3.1.1 or 5; the gateway knows it by its address or token, and speaks for it to the cloud over TLS with the
//! device's own certificate. The rooms, in the order a connection walks through them:
//!
//! | room | job | I/O |
//! |---|---|---|
//! | [`config`] | `gateway.toml` | - |
//! | [`book`], [`store`] | who may connect, as what, proved how: in files or a database | files, SQL |
//! | this file | start, drain, stop | yes |
//! | [`listener`], [`guess`] | the doors: accept, PROXY header, TLS, bounds; guessing is slowed | yes, - |
//! | [`workers`], `pace`, [`wire`] | the threads that serve devices, and when they look for work; one type for plain and encrypted | yes |
//! | `connection` | one device from its first byte to its last | yes |
//! | [`subscriber`] | who is this? | - |
//! | [`group`], [`credential`] | what devices share; what proves one | - |
//! | [`connect`] | the rewritten CONNECT, or a refusal | - |
//! | [`upstream`] | TLS tickets by credential and version; dial, TLS, CONNACK | yes |
//! | [`rules`], [`flow`], [`relay`] | what may pass; what becomes of it; passing it | -, -, yes |
//! | [`sweep`] | who may no longer be connected is told to leave | - |
//! | [`ca`] | an authority for those who have none | files |
//! | [`admin`], [`http`], [`cli`] | what an operator may do with a store, and the ways to it | SQL, HTTP |
//! | [`refusal`], [`status`], [`check`] | why not; what goes on; is it right before a device calls? | -, -, files |
//!
//! One task serves one connection and shares nothing with another but counters and the credential cache, so a slow, silent or broken
//! device harms itself alone. A stranger can hold a quarter of the places at most, and loses them to whoever comes next
//! ([`listener::Places`]). Everything is bounded: connections (`listen.max_connections`, `listen.max_per_address`), the wait for CONNECT
//! (`listen.connect_timeout`), a packet (`listen.max_packet`), the way upstream (`upstream.connect_timeout`), a stuck write
//! (`listen.write_timeout`), silence (one and a half times the keep-alive), and the end of the program:
//!
//! 1. SIGTERM: no door accepts any more; strangers are closed; whoever is connected is told to leave ([`relay::Order::Drain`]): what has begun is
//!    finished, upstream's outstanding answers are delivered, and the connection ends with a last word. Not all at the same moment, because
//!    they all come back at once to this gateway or to another one: [`PARTING_PACE`] a second, and faster where half of
//!    `listen.drain_timeout` would not do for all.
//! 2. After `listen.drain_timeout`, or at a second SIGTERM, the rest is cut, and [`STOP_TIMEOUT`] later the program ends whatever hangs.

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
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod group;
pub mod guess;
pub mod history;
pub mod http;
mod json;
pub mod listener;
mod pace;
pub mod provisioning;
pub mod refusal;
pub mod relay;
pub mod reload;
pub mod rules;
mod socket;
pub mod status;
pub mod store;
pub mod subscriber;
pub mod sweep;
pub mod upstream;
pub mod wire;
pub mod workers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use config::Config;
pub use status::Status;

use crate::clock::Clock;
use crate::control::StatusSocket;
use book::{Book, BookError};
use connection::Shared;
use http::App;
use http::auth::Gate;
use listener::{Door, DoorTls, Hall, Inherited, Kind, Stop};
use provisioning::Provisioning;
use relay::Order;
use reload::{Current, Reload, Reloads};
use status::Connection;
use upstream::tickets::Tickets;
use workers::Workers;

/// How long connections may take to end once the gateway stops.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How many connections are told to leave in a second when the gateway stops, so that those who come back do not come all at once. An
/// EC handshake costs 0.8 ms of a core: a gateway with two cores takes twice as many. Inferred: no specification gives a figure.
pub const PARTING_PACE: u32 = 500;
/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another broker or gateway running there? see {key}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// Where it is configured.
        key: &'static str,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Who may connect cannot be read.
    #[error("{0}")]
    Book(#[from] BookError),
    /// The authorities for upstream cannot be read.
    #[error("upstream.ca_file: {0}")]
    Authorities(String),
    /// The door with TLS has no good certificate, key or authorities.
    #[error("{0}")]
    Tls(String),
    /// The authority that signs, or what devices are told to trust, cannot be used.
    #[error("{0}")]
    Provisioning(String),
    /// A socket that systemd passed has no door.
    #[error(
        "systemd passes a socket for the door {0:?}, which gateway.toml does not have: add its section, or remove the .socket unit"
    )]
    NoDoor(String),
    /// The token for the API cannot be used.
    #[error("{0}")]
    Api(String),
    /// The threads that serve devices cannot be started.
    #[error("listen.workers: cannot start a thread: {0}")]
    Workers(std::io::Error),
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
    doors: Vec<Door>,
    api: Option<(Vec<TcpListener>, Arc<Gate>)>,
    provisioning: Option<ProvisioningDoor>,
    clock: Clock,
    address: SocketAddr,
    socket: Option<StatusSocket>,
    shared: Arc<Shared>,
    config: Config,
    reload: Reload,
    reloads: Reloads,
    path: Option<PathBuf>,
    workers: Workers,
}

/// The door for devices that ask for credentials.
#[derive(Debug)]
struct ProvisioningDoor {
    sockets: Vec<TcpListener>,
    secure: Option<Arc<Current<DoorTls>>>,
    service: Arc<Current<Provisioning>>,
}

/// The sockets of a door: those from systemd, or one of our own.
async fn listen(
    inherited: &mut Inherited,
    name: &str,
    address: SocketAddr,
    key: &'static str,
) -> Result<Vec<TcpListener>, StartError> {
    let wrong = |source| StartError::Listen { address, key, source };
    let passed = inherited.of(name);
    if passed.is_empty() {
        return Ok(vec![TcpListener::bind(address).await.map_err(wrong)?]);
    }
    passed
        .into_iter()
        .map(|s| TcpListener::from_std(s).map_err(wrong))
        .collect()
}

impl Gateway {
    /// Loads what is shared (tokens, authorities) and takes the ports and the status socket.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn bind(config: Config, clock: &Clock) -> Result<Self, StartError> {
        Self::bind_with(config, clock, Inherited::default()).await
    }

    /// The same with sockets that systemd has opened; they go before the configured addresses.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn bind_with(config: Config, clock: &Clock, mut inherited: Inherited) -> Result<Self, StartError> {
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
        let tls = config.listen.tls.as_ref();
        let door_tls = tls
            .map(|tls| DoorTls::read("listen.tls", tls, clock))
            .transpose()
            .map_err(StartError::Tls)?;
        let mut doors = Vec::new();
        let plain = listen(&mut inherited, "mqtt", config.listen.address, "listen.address").await?;
        doors.extend(plain.into_iter().map(|listener| (listener, Kind::Plain)));
        if let Some(tls) = tls {
            let sockets = listen(&mut inherited, "mqtts", tls.address, "listen.tls.address").await?;
            doors.extend(sockets.into_iter().map(|listener| (listener, Kind::Tls)));
        }
        let api = match &config.api {
            Some(api) => {
                let gate = Gate::open(api, clock).map_err(|e| StartError::Api(e.to_string()))?;
                let sockets = listen(&mut inherited, "api", api.address, "api.address").await?;
                Some((sockets, Arc::new(gate)))
            }
            None => None,
        };
        let provisioning = match &config.provisioning {
            Some(settings) => Some(ProvisioningDoor {
                sockets: listen(&mut inherited, "provisioning", settings.address, "provisioning.address").await?,
                secure: settings
                    .tls
                    .as_ref()
                    .map(|tls| DoorTls::read("provisioning", tls, clock))
                    .transpose()
                    .map_err(StartError::Tls)?
                    .map(|tls| Arc::new(Current::new(tls))),
                service: Arc::new(Current::new(
                    Provisioning::open(settings, clock).map_err(StartError::Provisioning)?,
                )),
            }),
            None => None,
        };
        if let Some(name) = inherited.left().into_iter().next() {
            return Err(StartError::NoDoor(name));
        }
        let doors: Vec<_> = doors
            .into_iter()
            .map(|(listener, kind)| Door { listener, kind })
            .collect();
        let address = doors
            .first()
            .and_then(|d| d.listener.local_addr().ok())
            .unwrap_or(config.listen.address);
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
        let status = Status::new(clock.clone(), address, to.join(", "), view.directory.len());
        let status = Arc::new(status.with_places(config.listen.max_connections));
        let workers = Workers::start(config.listen.workers).map_err(StartError::Workers)?;
        let shared = Shared {
            hall: Arc::new(Hall::new(&config.listen, door_tls, clock)),
            listen: Current::new(config.listen.clone()),
            stop: Stop::default(),
            book,
            tickets,
            status,
            buckets: flow::bucket::Buckets::default(),
            epoch: tokio::time::Instant::now(),
        };
        let (reload, reloads) = reload::channel();
        Ok(Self {
            doors,
            api,
            provisioning,
            clock: clock.clone(),
            address,
            socket,
            shared: Arc::new(shared),
            config,
            reload,
            reloads,
            path: None,
            workers,
        })
    }

    /// The file that a reload reads again; without it, there is nothing to reload.
    #[must_use]
    pub fn from_file(mut self, path: PathBuf) -> Self {
        self.path = Some(path);
        self
    }

    /// Where it listens, with the real port when 0 was configured.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens with TLS.
    #[must_use]
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        let door = self.doors.iter().find(|d| d.kind == Kind::Tls)?;
        door.listener.local_addr().ok()
    }

    /// Where the API is.
    #[must_use]
    pub fn api_addr(&self) -> Option<SocketAddr> {
        self.api.as_ref()?.0.first()?.local_addr().ok()
    }

    /// Where devices ask for credentials.
    #[must_use]
    pub fn provisioning_addr(&self) -> Option<SocketAddr> {
        self.provisioning.as_ref()?.sockets.first()?.local_addr().ok()
    }

    /// The counters; they stay readable after [`Gateway::serve`].
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.shared.status.clone()
    }

    /// Asks for reloads while it serves.
    #[must_use]
    pub fn reloader(&self) -> Reload {
        self.reload.clone()
    }

    /// Ends the draining early when it is cancelled (a second SIGTERM).
    #[must_use]
    pub fn at_once(&self) -> CancellationToken {
        self.shared.stop.now.clone()
    }

    /// Serves until `stop` is cancelled; then accepts no more, lets connections come to an end for `listen.drain_timeout`, cuts the rest, and
    /// says how many those were.
    pub async fn serve(self, stop: CancellationToken) -> usize {
        let listen = self.config.listen.clone();
        let (shared, address) = (self.shared, self.address);
        let workers = Arc::new(self.workers);
        let answers = tokio::spawn({
            let (socket, status, book) = (self.socket, shared.status.clone(), shared.book.clone());
            async move {
                if let Some(socket) = socket {
                    let answer = || {
                        let mut answer = status.json();
                        if let Some(health) = book.health() {
                            health.add_to(&mut answer["store"]);
                        }
                        answer
                    };
                    socket.serve(answer).await;
                }
            }
        });
        let watch = tokio::spawn(status::watch(shared.clone()));
        let sweeping = tokio::spawn(sweep::watch(shared.clone()));
        let rooms = reload::Rooms {
            gate: self.api.as_ref().map(|(_, gate)| gate.clone()),
            provisioning: self.provisioning.as_ref().map(|d| d.service.clone()),
            provisioning_tls: self.provisioning.as_ref().and_then(|d| d.secure.clone()),
        };
        let reloading = self.path.map(|path| {
            let (reloads, config, shared) = (self.reloads, self.config, shared.clone());
            tokio::spawn(async move { reload::serve(reloads, &path, config, &shared, &rooms).await })
        });
        warn_of_few_files(listen.max_connections);
        let (tasks, rooms) = (TaskTracker::new(), TaskTracker::new());
        for door in self.doors {
            let (at, tls) = (door.listener.local_addr().unwrap_or(address), door.kind == Kind::Tls);
            info!(address = %at, tls, "listening");
            tasks.spawn(listener::accept(door, shared.clone(), workers.clone()));
        }
        if let Some(door) = self.provisioning {
            let book = shared.book.clone();
            let router = provisioning::door::routes(Arc::new(provisioning::door::Door {
                book,
                provisioning: door.service,
                hall: shared.hall.clone(),
            }));
            let entrance = listener::http::Entrance::new(shared.hall.clone(), door.secure);
            for socket in door.sockets {
                let (at, tls) = (socket.local_addr().unwrap_or(address), entrance.is_secure());
                info!(address = %at, tls, "provisioning");
                if let Some(why) = listener::http::plain_warning("provisioning", at).filter(|_| !tls) {
                    warn!("{why}");
                }
                let served = listener::http::serve(socket, entrance.clone(), router.clone(), shared.stop.drain.clone());
                rooms.spawn(served);
            }
        }
        let quit = shared.stop.clone();
        if let Some((sockets, gate)) = self.api {
            let app = Arc::new(App {
                book: shared.book.clone(),
                status: shared.status.clone(),
                reload: self.reload.clone(),
                clock: self.clock.clone(),
            });
            let entrance = listener::http::Entrance::new(shared.hall.clone(), None);
            for socket in sockets {
                let at = socket.local_addr().unwrap_or(address);
                info!(address = %at, "the API is");
                if let Some(why) = listener::http::plain_warning("api", at) {
                    warn!("{why}");
                }
                let router = http::router(app.clone(), gate.clone());
                rooms.spawn(listener::http::serve(
                    socket,
                    entrance.clone(),
                    router,
                    quit.drain.clone(),
                ));
            }
        }
        stop.cancelled().await;
        quit.drain.cancel();
        tasks.close();
        tasks.wait().await;
        shared.hall.places.clear();
        let drain = shared.listen.get().drain_timeout;
        let open = workers.len();
        if open > 0 {
            info!(
                "{open} connections may come to an end within {} s (listen.drain_timeout)",
                drain.as_secs_f32()
            );
        }
        let drained = async {
            dismiss(&shared.status.connections(), drain).await;
            workers.wait(drain).await
        };
        tokio::select! {
            biased;
            () = quit.now.cancelled() => {}
            _ = tokio::time::timeout(drain, drained) => {}
        }
        quit.now.cancel();
        for connection in shared.status.connections() {
            connection.orders.give(Order::Now);
        }
        let left = workers.wait(STOP_TIMEOUT).await;
        if left > 0 {
            warn!("{left} connections did not end within {} s", STOP_TIMEOUT.as_secs());
        }
        if let Some(workers) = Arc::into_inner(workers) {
            workers.stop().await;
        }
        rooms.close();
        rooms.wait().await;
        // A store that hangs must not hold the end.
        let _ = tokio::time::timeout(STOP_TIMEOUT, shared.book.flush()).await;
        watch.abort();
        sweeping.abort();
        answers.abort();
        // The socket's file is removed when its task is gone.
        let _ = answers.await;
        if let Some(reloading) = reloading {
            reloading.abort();
        }
        let (cut, ended) = quit.counts();
        let cut = cut + left;
        info!("stopped: {ended} connections ended in order, {cut} were cut");
        cut
    }
}

/// Tells connections to leave, one after the other: at [`PARTING_PACE`], and all within half of `drain`.
async fn dismiss(connections: &[Arc<Connection>], drain: Duration) {
    let count = u32::try_from(connections.len()).unwrap_or(u32::MAX).max(1);
    let spread = (Duration::from_secs(1) * count / PARTING_PACE).min(drain / 2);
    let begin = tokio::time::Instant::now();
    for (n, connection) in (0_u32..).zip(connections) {
        tokio::time::sleep_until(begin + spread.mul_f64(f64::from(n) / f64::from(count))).await;
        connection.orders.give(Order::Drain);
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
