//! When subscribers were last connected and credentials last used, written many at once: a row a connect would cost a disk sync each.
//!
//! Notes go into a bounded queue; one task keeps the newest of each name and writes them every [`EVERY`] or at [`AT_ONCE`] names, whichever is
//! first. When the store is away, the names are kept up to [`AT_ONCE`] and tried again; more are dropped and counted. Nothing waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Store, time};
use crate::gateway::credential::CredentialId;
use crate::identity::Imsi;

/// How often is written.
pub const EVERY: Duration = Duration::from_secs(30);
/// How many subscribers, or credentials, are written at the latest.
pub const AT_ONCE: usize = 1_000;
/// Notes that may wait for the task.
const QUEUE_MAX: usize = 4 * AT_ONCE;

enum Note {
    Connected(Imsi, Option<CredentialId>, Duration),
    Flush(oneshot::Sender<()>),
}

/// Takes notes.
#[derive(Debug)]
pub struct Collector {
    notes: mpsc::Sender<Note>,
    dropped: Arc<AtomicU64>,
    store: std::sync::Weak<Store>,
}

impl Collector {
    /// Starts the task on the current runtime. `gateway` is this gateway's name in what is written.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn start(store: &Arc<Store>, gateway: String) -> Self {
        let (notes, queue) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let task = Task {
            store: store.clone(),
            gateway,
            seen: HashMap::new(),
            used: HashMap::new(),
            dropped: dropped.clone(),
            failing: false,
        };
        tokio::spawn(task.run(queue));
        Self {
            notes,
            dropped,
            store: Arc::downgrade(store),
        }
    }

    /// A subscriber is connected, with this credential. Never waits.
    pub fn connected(&self, imsi: &Imsi, credential: Option<&CredentialId>) {
        let Some(store) = self.store.upgrade() else { return };
        let note = Note::Connected(imsi.clone(), credential.cloned(), time(&store.clock));
        if self.notes.try_send(note).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// How many notes were dropped, because there were too many at once or the store was away for too long.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Writes what there is; before the program ends.
    pub async fn flush(&self) {
        let (done, told) = oneshot::channel();
        if self.notes.send(Note::Flush(done)).await.is_ok() {
            let _ = told.await;
        }
    }
}

struct Task {
    store: Arc<Store>,
    gateway: String,
    seen: HashMap<Imsi, Duration>,
    used: HashMap<CredentialId, Duration>,
    dropped: Arc<AtomicU64>,
    failing: bool,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Note>) {
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + EVERY, EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                note = queue.recv() => match note {
                    Some(Note::Connected(imsi, credential, at)) => self.note(imsi, credential, at).await,
                    Some(Note::Flush(done)) => {
                        self.write().await;
                        let _ = done.send(());
                    }
                    None => return self.write().await,
                },
                _ = tick.tick() => self.write().await,
            }
        }
    }

    async fn note(&mut self, imsi: Imsi, credential: Option<CredentialId>, at: Duration) {
        if keep(&mut self.seen, imsi, at) | credential.is_some_and(|id| keep(&mut self.used, id, at)) {
            self.dropped.fetch_add(1, Relaxed);
        }
        // While the store is away this would be a try for every note: then the clock decides.
        if !self.failing && (self.seen.len() >= AT_ONCE || self.used.len() >= AT_ONCE) {
            self.write().await;
        }
    }

    async fn write(&mut self) {
        let seen: Vec<_> = self.seen.iter().map(|(k, v)| (k.clone(), *v)).collect();
        let used: Vec<_> = self.used.iter().map(|(k, v)| (k.clone(), *v)).collect();
        let mut result = Ok(());
        if !seen.is_empty() {
            result = self.store.seen(&seen, &self.gateway).await;
            if result.is_ok() {
                self.seen.clear();
            }
        }
        if result.is_ok() && !used.is_empty() {
            result = self.store.used(&used).await;
            if result.is_ok() {
                self.used.clear();
            }
        }
        match result {
            Ok(()) => self.failing = false,
            Err(e) if !self.failing => {
                self.failing = true;
                let e = crate::identity::redact_digits(&e.to_string());
                tracing::warn!(
                    "when devices were last seen cannot be written, and is tried again every {} s: {e}",
                    EVERY.as_secs()
                );
            }
            Err(_) => {}
        }
    }
}

/// Keeps the newest; says whether there was no room.
fn keep<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Duration>, key: K, at: Duration) -> bool {
    if map.len() >= AT_ONCE && !map.contains_key(&key) {
        return true;
    }
    map.insert(key, at);
    false
}
