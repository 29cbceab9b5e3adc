//! One TCP connection at a door, from accept to close: its number, its bytes, its faults. What is recorded or taken from a
//! [board](super::fault::Board) while a task serves it belongs to it without being told so ([`current`]).
//!
//! The [`Register`] knows every connection that is open, and counts what each door has seen.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::fault::{Board, CertificateFault, Place, Spec, Step, Tap, Whom, WireFault};
use super::journal::{Journal, What};
use super::policy::{Look, Refusal, mqtt};
use super::stand_in::{Cloud, Protocol};
use super::wardrobe::Wardrobe;

/// A connection that a fault holds still is let go after this long.
pub const STALL_MAX: Duration = Duration::from_secs(3_600);
/// Longest client id that a connection is known by; longer ones (none is documented) are cut.
const CLIENT_ID_SHOWN: usize = 256;

tokio::task_local! {
    static CURRENT: Arc<Visit>;
}

/// The connection that this task serves.
#[must_use]
pub fn current() -> Option<Arc<Visit>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// The connection of this task has told its client id.
pub(crate) fn named(client_id: &str) {
    if let Some(visit) = current() {
        visit.named(client_id);
    }
}

/// The connection of this task has come this far; a fault may hold it here.
pub(crate) async fn step(step: Step) {
    if let Some(visit) = current() {
        visit.step(step).await;
    }
}

/// By how much the stand-in's clock runs ahead for the connection of this task.
pub(crate) fn clock_ahead() -> Duration {
    current().map_or(Duration::ZERO, |v| v.clock_ahead())
}

/// What a door is, and what it has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoorCounts {
    /// Which stand-in.
    pub cloud: Cloud,
    /// What it speaks there.
    pub protocol: Protocol,
    /// Where.
    pub address: SocketAddr,
    /// Open now.
    pub connections: u64,
    /// TCP connections so far.
    pub accepted: u64,
    /// Devices admitted so far.
    pub connects: u64,
    /// Broken rules so far.
    pub refusals: u64,
    /// Messages, requests to the cloud and HTTP requests so far.
    pub messages: u64,
    /// Bytes from clients so far, as on the wire.
    pub bytes_up: u64,
    /// Bytes to clients so far, as on the wire.
    pub bytes_down: u64,
}

/// A connection that is open now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Open {
    /// Its number, as events give it.
    pub connection: u64,
    /// At which stand-in.
    pub cloud: Cloud,
    /// Speaking what.
    pub protocol: Protocol,
    /// From where.
    pub peer: SocketAddr,
    /// The MQTT client id, once CONNECT was read.
    pub client_id: Option<String>,
    /// For how long, in milliseconds.
    pub age_ms: u64,
    /// Bytes from the client.
    pub bytes_up: u64,
    /// Bytes to the client.
    pub bytes_down: u64,
    /// Whether a fault holds it still.
    pub stalled: bool,
}

#[derive(Debug, Default)]
struct Counts {
    last: u64,
    open: BTreeMap<u64, Weak<Visit>>,
    doors: Vec<DoorCounts>,
}

/// Every door and every open connection of a bench. What is open is bounded by what the doors take.
#[derive(Debug, Default)]
pub struct Register(Mutex<Counts>);

impl Register {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A door has opened; the answer is what [`Visit::open`] wants to know.
    pub(crate) fn door(&self, cloud: Cloud, protocol: Protocol, address: SocketAddr) -> usize {
        let mut counts = self.counts();
        counts.doors.push(DoorCounts {
            cloud,
            protocol,
            address,
            connections: 0,
            accepted: 0,
            connects: 0,
            refusals: 0,
            messages: 0,
            bytes_up: 0,
            bytes_down: 0,
        });
        counts.doors.len() - 1
    }

    /// The number of the last connection.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.counts().last
    }

    fn visits(&self) -> Vec<Arc<Visit>> {
        let all: Vec<_> = self.counts().open.values().cloned().collect();
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// What each door has seen, open connections included.
    #[must_use]
    pub fn doors(&self) -> Vec<DoorCounts> {
        let visits = self.visits();
        let mut doors = self.counts().doors.clone();
        for visit in visits {
            if let Some(door) = doors.get_mut(visit.door) {
                let (up, down) = visit.tap().bytes();
                door.connections += 1;
                door.bytes_up += up;
                door.bytes_down += down;
            }
        }
        doors
    }

    /// The connections that are open, oldest first.
    #[must_use]
    pub fn open(&self) -> Vec<Open> {
        self.visits().iter().map(|v| v.show()).collect()
    }

    /// Cuts a connection; the answer is whether it was there.
    pub fn cut(&self, number: u64, why: &'static str) -> bool {
        let visit = self.counts().open.get(&number).and_then(Weak::upgrade);
        visit.is_some_and(|v| {
            v.cut(why);
            true
        })
    }

    /// Cuts the connections of a stand-in that no broker can end: those that a fault holds still, and those that no client has named.
    pub(crate) fn cut_the_rest(&self, cloud: Cloud, why: &'static str) {
        for visit in self.visits().iter().filter(|v| v.cloud == cloud) {
            if visit.tap().is_stalled() || visit.client_id().is_none() {
                visit.cut(why);
            }
        }
    }

    /// Cuts every connection that a fault holds still.
    pub(crate) fn cut_stalled(&self, why: &'static str) {
        for visit in self.visits() {
            if visit.tap().is_stalled() {
                visit.cut(why);
            }
        }
    }

    /// A fault for a connection that is open already reaches it here.
    pub(crate) fn arm(&self, spec: &Spec) {
        if let Whom::Connection(number) = spec.whom {
            let visit = self.counts().open.get(&number).and_then(Weak::upgrade);
            if let Some(visit) = visit {
                visit.arm(|whom| matches!(whom, Whom::Connection(_)));
            }
        }
    }

    fn count(&self, door: usize, change: impl FnOnce(&mut DoorCounts)) {
        if let Some(door) = self.counts().doors.get_mut(door) {
            change(door);
        }
    }

    /// Counts what was recorded.
    pub(crate) fn saw(&self, what: &What) {
        let Some(visit) = current() else { return };
        self.count(visit.door, |door| match what {
            What::Connected { .. } => door.connects += 1,
            What::Refused { .. } => door.refusals += 1,
            What::Message { .. } | What::Request { .. } | What::Http { .. } => door.messages += 1,
            _ => {}
        });
    }
}

/// One TCP connection at a door.
pub struct Visit {
    /// The same in all its events; never used again in a run.
    pub number: u64,
    /// At which stand-in.
    pub cloud: Cloud,
    /// From where.
    pub peer: SocketAddr,
    pub(crate) started: Instant,
    protocol: Protocol,
    door: usize,
    tap: Mutex<Tap>,
    client_id: Mutex<Option<String>>,
    cut: CancellationToken,
    why: Mutex<Option<&'static str>>,
    board: Arc<Board>,
    wardrobe: Option<Arc<Wardrobe>>,
    certificate: Option<CertificateFault>,
    clients_expired: bool,
    journal: Option<Arc<Journal>>,
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Visit({} at {} from {})", self.number, self.cloud, self.peer)
    }
}

/// The door that a connection came in by.
pub(crate) struct Entry<'a> {
    pub(crate) cloud: Cloud,
    pub(crate) protocol: Protocol,
    pub(crate) door: usize,
    pub(crate) board: &'a Arc<Board>,
    pub(crate) wardrobe: Option<&'a Arc<Wardrobe>>,
    pub(crate) journal: &'a Arc<Journal>,
}

impl Visit {
    /// A connection was accepted.
    pub(crate) fn open(entry: &Entry<'_>, peer: SocketAddr) -> Arc<Self> {
        let register = entry.journal.register();
        let number = {
            let mut counts = register.counts();
            counts.last += 1;
            if let Some(door) = counts.doors.get_mut(entry.door) {
                door.accepted += 1;
            }
            counts.last
        };
        let mut visit = Self::blank(number, peer);
        visit.cloud = entry.cloud;
        visit.protocol = entry.protocol;
        visit.door = entry.door;
        visit.board = Arc::clone(entry.board);
        visit.wardrobe = entry.wardrobe.cloned();
        if visit.wardrobe.is_some() {
            let expired = |f: CertificateFault| f == CertificateFault::Clients;
            visit.clients_expired = entry.board.take(Some(&visit), expired).is_some();
            visit.certificate = entry
                .board
                .take(Some(&visit), |f: CertificateFault| f != CertificateFault::Clients);
        }
        visit.arm(|whom| !matches!(whom, Whom::Client(_)));
        visit.journal = Some(Arc::clone(entry.journal));
        let visit = Arc::new(visit);
        register.counts().open.insert(number, Arc::downgrade(&visit));
        visit
    }

    fn blank(number: u64, peer: SocketAddr) -> Self {
        Self {
            number,
            cloud: Cloud::EventGrid,
            peer,
            started: Instant::now(),
            protocol: Protocol::Mqtts,
            door: 0,
            tap: Mutex::default(),
            client_id: Mutex::default(),
            cut: CancellationToken::new(),
            why: Mutex::default(),
            board: Arc::default(),
            wardrobe: None,
            certificate: None,
            clients_expired: false,
            journal: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(number: u64, peer: SocketAddr) -> Self {
        Self::blank(number, peer)
    }

    /// Puts the board's faults of the byte stream on this connection.
    fn arm(&self, applies: impl Fn(&Whom) -> bool) {
        let faults = self
            .board
            .take_all(self, |f: WireFault, whom| f.is_for_the_tap() && applies(whom));
        let mut tap = self.tap();
        for fault in faults {
            // More than a connection can have are of no use to anybody.
            let _ = tap.add(fault);
        }
    }

    /// Whether TCP itself is to refuse it.
    pub(crate) fn is_refused(&self) -> bool {
        self.board
            .take(Some(self), |f: WireFault| f == WireFault::RefuseTcp)
            .is_some()
    }

    /// The server configuration for this connection: the door's own, or one with a certificate that is wrong on demand.
    pub(crate) fn tls(&self, own: &Arc<rustls::ServerConfig>) -> Arc<rustls::ServerConfig> {
        let Some(wardrobe) = &self.wardrobe else {
            return Arc::clone(own);
        };
        match wardrobe.dress(own, self.certificate, self.clients_expired) {
            Ok(config) => config,
            Err(e) => {
                if let Some(journal) = &self.journal {
                    let text = format!("a fault of certificates cannot be shown: {e}");
                    journal.record(self.cloud, What::Note { text });
                }
                Arc::clone(own)
            }
        }
    }

    /// By how much the stand-in's clock runs ahead for this connection's certificates.
    pub(crate) fn clock_ahead(&self) -> Duration {
        if self.clients_expired {
            super::wardrobe::CLIENTS_EXPIRE_AFTER
        } else {
            Duration::ZERO
        }
    }

    pub(crate) fn tap(&self) -> MutexGuard<'_, Tap> {
        self.tap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn ended(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }

    /// Ends it at once.
    pub(crate) fn cut(&self, why: &'static str) {
        self.why
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(why);
        self.cut.cancel();
    }

    fn client_id(&self) -> Option<String> {
        self.client_id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_client(&self, id: &str) -> bool {
        let own = self.client_id.lock().unwrap_or_else(PoisonError::into_inner);
        own.as_deref() == Some(id)
    }

    /// CONNECT told who this is: the faults for this client begin.
    pub(crate) fn named(&self, client_id: &str) {
        let shown: String = client_id.chars().take(CLIENT_ID_SHOWN).collect();
        *self.client_id.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        self.arm(|whom| matches!(whom, Whom::Client(_)));
    }

    /// Whether a fault wants this connection to stop here; it is written down.
    pub(crate) fn stalls_at(&self, step: Step) -> bool {
        let wanted = WireFault::Stall(Place::Step(step));
        let stalls = self.board.take(Some(self), |f: WireFault| f == wanted).is_some();
        if stalls {
            if let Some(journal) = &self.journal {
                let refusal = Refusal::new(&mqtt::FAULT, Look::Silence, wanted.to_string());
                journal.refused(
                    self.cloud,
                    &refusal,
                    self.client_id().as_deref(),
                    &self.peer.to_string(),
                );
            }
        }
        stalls
    }

    /// Waits here until the connection is cut, if a fault wants it.
    pub(crate) async fn step(&self, step: Step) {
        if self.stalls_at(step) {
            self.tap().stall();
            self.ended().await;
        }
    }

    /// Runs what serves this connection. A stalled one is not run on: no timer of it fires, nothing is read, written or closed.
    pub(crate) async fn serve(self: &Arc<Self>, serving: impl Future<Output = ()>) {
        let mut serving = pin!(serving);
        let run = poll_fn(|cx| match serving.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if self.tap().is_stalled() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        });
        if CURRENT.scope(Arc::clone(self), run).await {
            return;
        }
        if tokio::time::timeout(STALL_MAX, self.ended()).await.is_err() {
            self.cut("held still long enough");
        }
        // Its next read or write fails now, and it ends as it does when the network breaks.
        CURRENT.scope(Arc::clone(self), serving).await;
    }

    /// Runs a part of what is served, in a task that others share.
    pub(crate) async fn within<F: Future>(self: Arc<Self>, part: F) -> F::Output {
        CURRENT.scope(self, part).await
    }

    fn show(&self) -> Open {
        let tap = self.tap();
        let (bytes_up, bytes_down) = tap.bytes();
        Open {
            connection: self.number,
            cloud: self.cloud,
            protocol: self.protocol,
            peer: self.peer,
            client_id: self.client_id(),
            age_ms: u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX),
            bytes_up,
            bytes_down,
            stalled: tap.is_stalled(),
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Some(journal) = self.journal.take() else { return };
        let open = self.show();
        let register = journal.register();
        register.counts().open.remove(&self.number);
        register.count(self.door, |door| {
            door.bytes_up += open.bytes_up;
            door.bytes_down += open.bytes_down;
        });
        let why = *self.why.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = What::Closed {
            client_id: open.client_id,
            peer: open.peer.to_string(),
            protocol: open.protocol,
            bytes_up: open.bytes_up,
            bytes_down: open.bytes_down,
            age_ms: open.age_ms,
            stalled: open.stalled,
            why,
        };
        journal.record_for(self.cloud, Some(self.number), closed);
    }
}
