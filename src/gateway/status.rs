//! What the gateway is doing now: who is connected, what has passed, who was refused and why. Identities are redacted here, once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::refusal::{KEYS, Refusal};
use super::relay::Traffic;
use crate::clock::{Clock, rfc3339};

/// Most connections that one answer lists (an answer is at most 1 MiB long, a connection about 400 bytes).
pub const LISTED_MAX: usize = 2_000;

/// Who a connection belongs to, once that is known; redacted.
#[derive(Debug, Clone, Default)]
pub(super) struct Who {
    pub(super) imsi: String,
    pub(super) client_id: String,
    pub(super) credential: String,
    /// `dialling`, then the TLS version.
    pub(super) upstream: String,
}

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    peer: SocketAddr,
    since: Duration,
    who: Mutex<Option<Who>>,
    pub(super) up: Traffic,
    pub(super) down: Traffic,
}

impl Connection {
    pub(super) fn set(&self, who: Who) {
        *self.who.lock().unwrap_or_else(PoisonError::into_inner) = Some(who);
    }

    fn json(&self, now: Duration, clock: &Clock) -> Value {
        let who = self.who.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let way = |t: &Traffic| json!({"packets": t.packets.load(Relaxed), "bytes": t.bytes.load(Relaxed)});
        let age = now.saturating_sub(self.since);
        json!({
            "peer": self.peer.to_string(),
            "imsi": who.as_ref().map(|w| &w.imsi),
            "client_id": who.as_ref().map(|w| &w.client_id),
            "credential": who.as_ref().map(|w| &w.credential),
            "upstream": who.as_ref().map_or("before CONNECT", |w| &w.upstream),
            "since": rfc3339(clock.system().saturating_sub(age)),
            "seconds": age.as_secs(),
            "up": way(&self.up),
            "down": way(&self.down),
        })
    }
}

/// All counters of a gateway.
#[derive(Debug)]
pub struct Status {
    clock: Clock,
    listening: SocketAddr,
    upstream: String,
    subscribers: usize,
    started: Duration,
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    relayed: AtomicU64,
    refused: [AtomicU64; KEYS.len()],
}

/// Keeps a connection in the list until it is dropped.
#[derive(Debug)]
pub(super) struct Listed {
    status: Arc<Status>,
    id: u64,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.status
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

impl Status {
    pub(super) fn new(clock: Clock, listening: SocketAddr, upstream: String, subscribers: usize) -> Self {
        Self {
            started: clock.monotonic(),
            clock,
            listening,
            upstream,
            subscribers,
            next: AtomicU64::new(0),
            open: Mutex::default(),
            relayed: AtomicU64::new(0),
            refused: Default::default(),
        }
    }

    pub(super) fn list(self: &Arc<Self>, peer: SocketAddr) -> Listed {
        let id = self.next.fetch_add(1, Relaxed);
        let connection = Arc::new(Connection {
            peer,
            since: self.clock.monotonic(),
            who: Mutex::default(),
            up: Traffic::default(),
            down: Traffic::default(),
        });
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, connection.clone());
        Listed {
            status: self.clone(),
            id,
            connection,
        }
    }

    pub(super) fn count_refused(&self, refusal: &Refusal) {
        if let Some(n) = self.refused.get(refusal.index()) {
            n.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn count_relayed(&self) {
        self.relayed.fetch_add(1, Relaxed);
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many connections were relayed since the start, those still open included.
    #[must_use]
    pub fn relayed(&self) -> u64 {
        self.relayed.load(Relaxed)
    }

    /// How many were refused for a reason of [`KEYS`].
    #[must_use]
    pub fn refused(&self, key: &str) -> u64 {
        KEYS.iter()
            .position(|k| *k == key)
            .and_then(|i| self.refused.get(i))
            .map_or(0, |n| n.load(Relaxed))
    }

    /// Everything, as the status socket answers it.
    #[must_use]
    pub fn json(&self) -> Value {
        let now = self.clock.monotonic();
        let (open, list): (usize, Vec<Arc<Connection>>) = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            (open.len(), open.values().take(LISTED_MAX).cloned().collect())
        };
        let refused: serde_json::Map<String, Value> = KEYS
            .iter()
            .zip(&self.refused)
            .map(|(k, n)| ((*k).to_owned(), n.load(Relaxed).into()))
            .collect();
        json!({
            "program": "onyx-gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "listening": self.listening.to_string(),
            "upstream": self.upstream,
            "subscribers": self.subscribers,
            "seconds": now.saturating_sub(self.started).as_secs(),
            "open": open,
            "relayed": self.relayed(),
            "refused": refused,
            "connections": list.iter().map(|c| c.json(now, &self.clock)).collect::<Vec<_>>(),
        })
    }
}

/// The answer of a status socket, for people.
#[must_use]
pub fn text(answer: &Value) -> String {
    use std::fmt::Write as _;
    let s = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    let n = |v: &Value| v.as_u64().unwrap_or(0);
    let mut out = format!(
        "listening on {}, subscribers: {}, upstream: {}\nconnections: {} open now, {} relayed in {} s\n",
        s(&answer["listening"]),
        n(&answer["subscribers"]),
        s(&answer["upstream"]),
        n(&answer["open"]),
        n(&answer["relayed"]),
        n(&answer["seconds"]),
    );
    for (key, count) in answer["refused"].as_object().into_iter().flatten() {
        if n(count) > 0 {
            let _ = writeln!(out, "refused, {key}: {}", n(count));
        }
    }
    for c in answer["connections"].as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "{} {} from {} since {} ({} s): {}; up {} packets {} bytes, down {} packets {} bytes",
            s(&c["imsi"]),
            s(&c["client_id"]),
            s(&c["peer"]),
            s(&c["since"]),
            n(&c["seconds"]),
            s(&c["upstream"]),
            n(&c["up"]["packets"]),
            n(&c["up"]["bytes"]),
            n(&c["down"]["packets"]),
            n(&c["down"]["bytes"]),
        );
    }
    let listed = answer["connections"].as_array().map_or(0, Vec::len) as u64;
    if n(&answer["open"]) > listed {
        let _ = writeln!(out, "and {} more", n(&answer["open"]) - listed);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_and_go_and_refusals_add_up() {
        let status = Arc::new(Status::new(
            Clock::new(),
            ([127, 0, 0, 1], 1883).into(),
            "h:8883".into(),
            3,
        ));
        let listed = status.list(([127, 0, 0, 9], 4711).into());
        listed.connection.set(Who {
            imsi: "29501********01".into(),
            client_id: "c".into(),
            credential: "c".into(),
            upstream: "TLS 1.3".into(),
        });
        listed.connection.up.bytes.fetch_add(7, Relaxed);
        status.count_refused(&Refusal::Unknown);
        let answer = status.json();
        assert_eq!(answer["connections"][0]["up"]["bytes"], 7);
        assert_eq!(answer["refused"]["unknown_device"], 1);
        let text = text(&answer);
        for want in [
            "127.0.0.1:1883",
            "29501********01 c from 127.0.0.9:4711",
            "refused, unknown_device: 1",
        ] {
            assert!(text.contains(want), "{want:?} is not in\n{text}");
        }
        drop(listed);
        assert_eq!(status.open(), 0);
    }
}
