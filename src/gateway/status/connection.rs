//! One open connection, as it is shown.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::Status;
use super::answer::way;
use super::ledger::Way;
use crate::clock::{Clock, rfc3339};
use crate::gateway::history::timeline::Used;
use crate::gateway::relay::{Orders, Traffic};
use crate::gateway::subscriber::{Bar, Directory, Known};
use crate::identity::{Imei, Imsi};

/// Who a connection belongs to, as far as that is known. The first four fields are redacted, for logs and the status socket; `client`,
/// `subscriber` and `used` are as they are, for those who have the API's token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    pub(crate) imsi: String,
    pub(crate) client_id: String,
    pub(crate) credential: String,
    /// `dialling`, then the TLS version.
    pub(crate) upstream: String,
    /// The group's name, once the device is known.
    pub(crate) group: String,
    /// The SIM, once the device is known.
    pub(crate) subscriber: Option<Imsi>,
    /// The modem that the client id names.
    pub(crate) modem: Option<Imei>,
    /// The client id as it was sent, cut to a length that can be kept.
    pub(crate) client: Option<Arc<str>>,
    /// Which credential in which version.
    pub(crate) used: Option<Used>,
}

impl Who {
    /// The device is known now.
    pub(crate) fn is(&mut self, known: &Known) {
        self.imsi = known.subscriber.imsi.redacted();
        self.subscriber = Some(known.subscriber.imsi.clone());
        known.group.as_str().clone_into(&mut self.group);
    }
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    peer: SocketAddr,
    since: Duration,
    who: Mutex<Option<Who>>,
    relayed: AtomicBool,
    pub(crate) up: Traffic,
    pub(crate) down: Traffic,
    /// By which it is told to end.
    pub(crate) orders: Orders,
}

impl Connection {
    pub(super) fn new(id: u64, peer: SocketAddr, since: Duration) -> Self {
        Self {
            id,
            peer,
            since,
            who: Mutex::default(),
            relayed: AtomicBool::new(false),
            up: Traffic::default(),
            down: Traffic::default(),
            orders: Orders::default(),
        }
    }

    /// Its number, which every log line about it carries as `connection`.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn set(&self, who: Who) {
        *self.who.lock().unwrap_or_else(PoisonError::into_inner) = Some(who);
    }

    pub(super) fn who(&self) -> Option<Who> {
        self.who.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why its device may not be connected by this list; `None` also while it is not known who that is.
    pub(crate) fn barred(&self, directory: &Directory) -> Option<Bar> {
        let who = self.who.lock().unwrap_or_else(PoisonError::into_inner);
        let who = who.as_ref()?;
        directory.bars(who.subscriber.as_ref()?, who.modem.as_ref())
    }

    /// What the page shows; `None` while the device is not known.
    pub(super) fn open(&self, now: Duration, system: Duration) -> Option<Open> {
        let who = self.who()?;
        Some(Open {
            id: self.id,
            imsi: who.subscriber?,
            client: who.client,
            peer: self.peer,
            credential: who.used.map(|u| u.id.to_string()),
            upstream: who.upstream,
            since: system.saturating_sub(self.age(now)),
            up: Way::of(&self.up),
            down: Way::of(&self.down),
        })
    }

    /// The group, once the device is known.
    pub(super) fn group(&self) -> Option<String> {
        let who = self.who.lock().unwrap_or_else(PoisonError::into_inner);
        who.as_ref().map(|w| w.group.clone()).filter(|g| !g.is_empty())
    }

    pub(super) fn is_relayed(&self) -> bool {
        self.relayed.load(Relaxed)
    }

    pub(super) fn now_relayed(&self) {
        self.relayed.store(true, Relaxed);
    }

    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    /// For the status socket: redacted.
    pub(super) fn json(&self, now: Duration, clock: &Clock) -> Value {
        let who = self.who();
        let age = self.age(now);
        json!({
            "connection": self.id,
            "peer": self.peer.to_string(),
            "imsi": who.as_ref().map(|w| &w.imsi),
            "client_id": who.as_ref().map(|w| &w.client_id),
            "credential": who.as_ref().map(|w| &w.credential),
            "group": who.as_ref().map(|w| &w.group),
            "upstream": who.as_ref().map_or("before CONNECT", |w| &w.upstream),
            "since": rfc3339(clock.system().saturating_sub(age)),
            "seconds": age.as_secs(),
            "up": way(Way::of(&self.up)),
            "down": way(Way::of(&self.down)),
        })
    }
}

/// An open connection of a known device, for those who have the API's token: nothing is redacted.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) id: u64,
    pub(crate) imsi: Imsi,
    /// Hostile until escaped.
    pub(crate) client: Option<Arc<str>>,
    pub(crate) peer: SocketAddr,
    pub(crate) credential: Option<String>,
    pub(crate) upstream: String,
    /// Unix time.
    pub(crate) since: Duration,
    pub(crate) up: Way,
    pub(crate) down: Way,
}

/// Keeps a connection in the list until it is dropped.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(super) status: Arc<Status>,
    pub(crate) connection: Arc<Connection>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.status.closed(&self.connection);
    }
}
