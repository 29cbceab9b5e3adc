//! One TCP connection at a door, from accept to close: its number, its bytes, its faults. What is recorded or taken from a
//! [board](super::fault::Board) while a task serves it belongs to it without being told so ([`current`]).
//!
//! The [`Register`] knows every connection that is open, and counts what each door has seen.

mod register;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::fault::{Board, CertificateFault, Place, Step, Tap, Whom, WireFault};
use super::journal::{Journal, What};
use super::policy::{Look, Refusal, mqtt};
use super::stand_in::{Cloud, Protocol};
use super::wardrobe::Wardrobe;

pub use register::{DoorCounts, Open, Register};

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
///
/// # Errors
/// It was held, and what it wanted must not be done any more.
pub(crate) async fn step(step: Step) -> Result<(), String> {
    match current() {
        Some(visit) => visit.step(step).await,
        None => Ok(()),
    }
}

/// By how much the stand-in's clock runs ahead for the connection of this task.
pub(crate) fn clock_ahead() -> Duration {
    current().map_or(Duration::ZERO, |v| v.clock_ahead())
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
    pub(crate) async fn step(&self, step: Step) -> Result<(), String> {
        if !self.stalls_at(step) {
            return Ok(());
        }
        self.tap().stall();
        self.ended().await;
        Err(format!("held still at {} by a fault, then cut", step.as_str()))
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
        journal.record_of(self.cloud, Some(self), closed);
    }
}
