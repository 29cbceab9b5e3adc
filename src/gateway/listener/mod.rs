//! The doors: where connections arrive, and what a stranger can do there, which is little.
//!
//! | file | subject | I/O |
//! |---|---|---|
//! | this file | accepting; the [`Hall`] that all doors share | yes |
//! | `inherited` | sockets that systemd opened for us | yes |
//! | `places` | how many connections, how many of them strangers, and who makes room | - |
//! | `enter` | PROXY header, TLS: from a socket to a device that can be heard | yes |
//! | [`proxy`] | the PROXY protocol, version 2 | - |
//! | `tls` | the door with TLS and its certificates | files |
//! | `hush` | few log lines about strangers | - |
//! | [`http`] | the doors for those who speak HTTP | yes |
//!
//! A connection comes by in this order: is its address heard at all ([`super::guess`])? is there a place ([`Places`])? then, on a worker,
//! `enter`, CONNECT, and who is it ([`super::subscriber`]); all of that before one deadline, `listen.connect_timeout`, which is counted from
//! the moment of accepting. Bytes that come one by one, an oversized packet and silence all end there.
//!
//! No answer is larger than its question before a device is known: a refusal is a CONNACK of a few bytes to a CONNECT of at least twelve, or
//! nothing. (A TLS handshake answers with a certificate, but only over TCP, whose sender's address has been proved by then.)

mod enter;
pub mod http;
mod hush;
mod inherited;
mod places;
pub mod proxy;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use enter::Peer;
#[cfg(any(test, fuzzing))]
pub(super) use enter::header;
pub(super) use enter::stranger;
pub use inherited::{Inherited, InheritedError, NAMES};
pub use places::{Place, Places, STRANGERS_SHARE};
pub use tls::DoorTls;

use super::connection::{self, Shared, Through};
use super::guess::{Guesses, Origin, Verdict};
use super::refusal::Refusal;
use super::status::Listed;
use super::subscriber::Prefix;
use super::workers::Workers;
use crate::clock::Clock;
use hush::Hush;

/// Largest CONNECT, in bytes: a will of 64 KiB (MQTT 3.1.1 section 3.1.3.3 gives its length two bytes) with its topic, a client id and a
/// login fit well; a stranger cannot make us keep more.
pub const CONNECT_MAX: usize = 256 << 10;
/// Pause when the operating system refuses to accept (out of descriptors), so that this does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What is spoken at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// MQTT.
    Plain,
    /// MQTT over TLS.
    Tls,
}

/// How everything ends: `drain` first, `now` later. Whoever is relayed hears of it by an order
/// ([`Orders`](super::relay::Orders)), which costs a connection less than to watch a token.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    /// No more newcomers; whoever is here should come to an end.
    pub(super) drain: CancellationToken,
    /// Whoever is still here is closed.
    pub(super) now: CancellationToken,
    cut: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself, or with nothing under way.
    InOrder,
    /// With something under way, because the gateway stops.
    Cut,
}

impl Stop {
    /// A connection ended; what came before the draining does not count.
    fn count(&self, how: Ended) {
        match how {
            Ended::Cut => self.cut.fetch_add(1, Relaxed),
            Ended::InOrder if self.drain.is_cancelled() => self.ended.fetch_add(1, Relaxed),
            Ended::InOrder => 0,
        };
    }

    /// How many connections were cut, and how many ended in order, since the draining began.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.cut.load(Relaxed), self.ended.load(Relaxed))
    }
}

/// What all doors share.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) clock: Clock,
    pub(super) places: Arc<Places>,
    guesses: Mutex<Guesses>,
    hush: Mutex<Hush>,
    tls: Mutex<Option<Arc<DoorTls>>>,
    /// `listen.proxies`.
    proxies: Mutex<Vec<Prefix>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hall {
    pub(super) fn new(listen: &super::config::Listen, tls: Option<DoorTls>, clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            places: Places::new(listen.max_connections, listen.max_per_address),
            guesses: Mutex::new(Guesses::new(listen.guesses)),
            hush: Mutex::default(),
            tls: Mutex::new(tls.map(Arc::new)),
            proxies: Mutex::new(listen.proxies.clone()),
        }
    }

    /// Whether this is a load balancer's address, which says nothing about who calls through it.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        held(&self.proxies).iter().any(|p| p.contains(address))
    }

    /// New bounds and certificates (a reload). Who was unknown may be known now, so nobody's guesses count any more.
    pub(super) fn change(&self, listen: &super::config::Listen, tls: Option<DoorTls>) {
        self.places.limit(listen.max_connections, listen.max_per_address);
        let mut guesses = held(&self.guesses);
        guesses.limit(listen.guesses);
        guesses.forget();
        drop(guesses);
        held(&self.proxies).clone_from(&listen.proxies);
        // A door goes and comes with a restart only.
        if let Some(tls) = tls {
            *held(&self.tls) = Some(Arc::new(tls));
        }
    }

    fn tls(&self) -> Option<Arc<DoorTls>> {
        held(&self.tls).clone()
    }

    /// Whether an address is heard now; if it is not, that has been logged as often as it should.
    pub(super) fn hear(&self, origin: Origin) -> Result<(), Refusal> {
        let good = self.places.has_known(origin);
        let verdict = held(&self.guesses).hear(origin, good, self.clock.monotonic());
        match verdict {
            Verdict::Heard => Ok(()),
            Verdict::Quiet { left, log } => {
                let refusal = Refusal::Guessing(left.as_secs() + 1);
                if let Some(more) = log {
                    warn!(from = %origin, reason = refusal.key(), more, "refused: {refusal}");
                }
                Err(refusal)
            }
        }
    }

    /// An unknown device, a wrong modem or a bad certificate came from there.
    pub(super) fn guessed(&self, origin: Origin) {
        let quiet = held(&self.guesses).refused(origin, self.clock.monotonic());
        if let Some(quiet) = quiet {
            warn!(from = %origin, "too many unknown devices come from this address: it is not heard for {} s (listen.guesses)", quiet.as_secs());
        }
    }

    /// How many addresses are not heard now.
    pub(super) fn quiet(&self) -> usize {
        held(&self.guesses).quiet(self.clock.monotonic())
    }

    /// A known device came from there.
    pub(super) fn welcomed(&self, origin: Origin) {
        held(&self.guesses).welcomed(origin, self.clock.monotonic());
    }

    /// Whether a line about a stranger may be written, and how many of its kind were not since the last.
    pub(super) fn say(&self, origin: Origin, reason: &'static str) -> Option<u64> {
        held(&self.hush).say(origin, reason, self.clock.monotonic())
    }
}

/// One connection on its way in.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) kind: Kind,
    /// The other end of the socket: the device, or the proxy.
    address: SocketAddr,
    /// It comes from a trusted proxy and must begin with a PROXY header.
    proxied: bool,
    deadline: Instant,
    patience: Duration,
    pub(super) place: Place,
    hall: Arc<Hall>,
    /// Whom its refusals are counted against: known at once, or by the PROXY header.
    origin: OnceLock<Origin>,
}

impl Visit {
    /// The device's address has come to light.
    fn arrived(&self, peer: &Peer) -> Result<(), Refusal> {
        let origin = peer.origin();
        let _ = self.origin.set(origin);
        if peer.via.is_some() {
            self.hall.hear(origin)?;
        }
        self.place.comes_from(origin)
    }
}

/// A door that listens.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) kind: Kind,
}

/// Accepts until the draining begins, and gives each connection to a worker.
pub(super) async fn accept(door: Door, shared: Arc<Shared>, workers: Arc<Workers>) {
    let mut complaints = Complaints::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop.drain.cancelled() => return,
            accepted = door.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => arrive(stream, address, door.kind, &shared, &workers),
            // It went before we came to it: the next one is waiting.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                if let Some(more) = complaints.say(shared.hall.clock.monotonic()) {
                    warn!(
                        more,
                        "cannot accept a connection: {e}; is the limit of open files (LimitNOFILE) too low?"
                    );
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn arrive(stream: TcpStream, address: SocketAddr, kind: Kind, shared: &Arc<Shared>, workers: &Workers) {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let (listen, hall) = (shared.listen.get(), &shared.hall);
    let proxied = hall.trusts(address.ip());
    let origin = Origin::of(address.ip());
    let place = if proxied {
        hall.places.take(None)
    } else {
        hall.hear(origin).and_then(|()| hall.places.take(Some(origin)))
    };
    let place = match place {
        Ok(place) => place,
        Err(refusal) => return turn_away(shared, origin, &refusal),
    };
    let visit = Visit {
        kind,
        address,
        proxied,
        deadline: Instant::now() + listen.connect_timeout,
        patience: listen.connect_timeout,
        place,
        hall: hall.clone(),
        origin: if proxied {
            OnceLock::new()
        } else {
            OnceLock::from(origin)
        },
    };
    let Ok(stream) = stream.into_std() else { return };
    let (shared, stop) = (shared.clone(), shared.stop.clone());
    workers.give(async move {
        // The socket belongs to this worker's poller from here on.
        let Ok(stream) = TcpStream::from_std(stream) else {
            return;
        };
        // On its way in it may have to make room, or to go when the gateway stops; a device that is through is told by order.
        let entered = tokio::select! {
            biased;
            () = stop.now.cancelled() => return stop.count(Ended::Cut),
            () = visit.place.must_go() => {
                if stop.drain.is_cancelled() {
                    return stop.count(Ended::Cut);
                }
                return turn_away(&shared, origin, &Refusal::Evicted);
            }
            // Boxed: coming in takes much more room than staying.
            entered = Box::pin(come_in(&shared, stream, &visit, origin)) => entered,
        };
        let how = match entered {
            Some((listed, through)) => connection::stay(&shared, &listed.connection, through).await,
            None => Ended::InOrder,
        };
        stop.count(how);
    });
}

/// Everything before a device is relayed; `None` when it did not get that far.
async fn come_in(
    shared: &Arc<Shared>,
    stream: TcpStream,
    visit: &Visit,
    origin: Origin,
) -> Option<(Listed, Box<Through>)> {
    super::socket::tune(&stream, shared.listen.get().write_timeout);
    let tls = match visit.kind {
        Kind::Plain => None,
        Kind::Tls => visit.hall.tls(),
    };
    // Boxed: a handshake is much larger than the connection that comes of it.
    let entered = Box::pin(enter::enter(stream, visit, tls.as_deref())).await;
    drop(tls);
    match entered {
        Ok((wire, peer)) => {
            let listed = shared.status.list(peer.address);
            let through = Box::pin(connection::enter(shared, wire, &peer, visit, &listed.connection)).await?;
            Some((listed, through))
        }
        Err(refusal) => {
            let told = visit.origin.get().copied();
            if let (Refusal::Certificate(_), Some(origin)) = (&refusal, told) {
                visit.hall.guessed(origin);
            }
            turn_away(shared, told.unwrap_or(origin), &refusal);
            None
        }
    }
}

/// Counts a connection that ended before its CONNECT, and says so within bounds.
fn turn_away(shared: &Shared, origin: Origin, refusal: &Refusal) {
    shared.status.turned_away_early(origin.address(), refusal);
    // Of these there has been a line already.
    if matches!(refusal, Refusal::Guessing(_)) {
        return;
    }
    let reason = refusal.key();
    if let Some(more) = shared.hall.say(origin, reason) {
        match refusal {
            // A port scan or a health check; no device was turned away.
            Refusal::Gone => tracing::info!(from = %origin, reason, more, "ended: {refusal}"),
            _ => warn!(from = %origin, reason, more, "refused: {refusal}"),
        }
    }
}

/// How often one fault of the operating system is told.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// When a fault was last told, and how often it was not since.
#[derive(Debug, Default)]
struct Complaints(Option<Duration>, u64);

impl Complaints {
    fn say(&mut self, now: Duration) -> Option<u64> {
        if self.0.is_some_and(|at| now < at + COMPLAIN_EVERY) {
            self.1 += 1;
            return None;
        }
        self.0 = Some(now);
        Some(std::mem::take(&mut self.1))
    }
}
