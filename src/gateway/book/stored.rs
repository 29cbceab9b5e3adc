//! A book in a [store](crate::gateway::store).
//!
//! **The view.** Each connect asks the store one small question: the number of its last change. Many connects at once share one question (it
//! must have begun after they came, so that nobody misses a change that was made before it). When the number is another, what has
//! changed since is read (or everything, where that cannot be told), once, while the others wait for it. What is asked runs to its end on the gateway's main runtime, whoever goes away meanwhile.
//!
//! **When the store does not answer**, the last view goes on being used, at once and without asking; one task asks every [`ASK_AGAIN`] until
//! there is an answer. That is logged when it begins and when it ends, and stands in [`Health`]. After `store.stale_for` the view is closed:
//! nobody knows any more who was removed, so nobody is let in.
//!
//! **Groups** whose configuration is wrong are out of the view, each with its reason; the others are not affected.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::health::{Away, Health};
use super::kept::Credentials;
use super::views::{build, rebuild, told};
use super::{BookError, NO_GROUP, View};
use crate::gateway::credential::{Credential, CredentialId};
use crate::gateway::store::{Collector, Edition, News, Snapshot, Store, StoreError};
use crate::identity::redact_digits;

/// While the store is away, it is asked this often.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// This gateway's name among several: its host's and its address.
#[must_use]
pub(super) fn gateway_name(address: std::net::SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} {address}", host.trim())
}

#[derive(Debug)]
struct State {
    view: Arc<View>,
    edition: Edition,
    damaged: Vec<String>,
    /// Monotonic time of the last answer.
    answered: Duration,
    /// What it said, while it is away.
    away: Option<String>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    stale_for: Duration,
    state: Mutex<State>,
    credentials: Credentials,
    /// Held by the one who asks: answers are taken in the order in which they were given.
    asking: Arc<tokio::sync::Mutex<()>>,
    begun: AtomicU64,
    ended: AtomicU64,
    home: Handle,
}

/// A book in a store.
#[derive(Debug)]
pub struct Stored {
    inner: Arc<Inner>,
    collector: Collector,
}

pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stored {
    /// Reads everything; what is asked later runs on the runtime of this call.
    pub(super) async fn open(store: Arc<Store>, stale_for: Duration, me: String) -> Result<Self, BookError> {
        let snapshot = store.snapshot().await?;
        let (edition, damaged) = (snapshot.edition, told(&snapshot, &[]));
        let view = Arc::new(build(snapshot, &store, &BTreeMap::new()));
        let answered = store.clock().monotonic();
        let collector = Collector::start(&store, me);
        let inner = Inner {
            store,
            stale_for,
            state: Mutex::new(State {
                view,
                edition,
                damaged,
                answered,
                away: None,
            }),
            credentials: Credentials::default(),
            asking: Arc::default(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            home: Handle::current(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            collector,
        })
    }

    pub(super) async fn view(&self) -> Arc<View> {
        let inner = &self.inner;
        let before = inner.begun.load(SeqCst);
        if let Some(old) = inner.while_away() {
            return old;
        }
        let turn = inner.asking.clone().lock_owned().await;
        // Somebody's question began after this connect did, and has been answered.
        if inner.ended.load(SeqCst) <= before {
            let asker = inner.clone();
            let asked = inner.home.spawn(async move {
                let number = asker.begun.fetch_add(1, SeqCst) + 1;
                asker.ask().await;
                asker.ended.store(number, SeqCst);
                drop(turn);
            });
            // It ends early only with the runtime, and then the last view is as good as any.
            let _ = asked.await;
        }
        inner.while_away().unwrap_or_else(|| held(&inner.state).view.clone())
    }

    pub(super) fn latest(&self) -> Arc<View> {
        held(&self.inner.state).view.clone()
    }

    pub(super) async fn credential(&self, id: &CredentialId) -> Result<Option<Arc<Credential>>, BookError> {
        let (generation, away) = {
            let state = held(&self.inner.state);
            (state.edition.generation, state.away.clone())
        };
        self.inner
            .credentials
            .get(&self.inner.store, id, generation, away)
            .await
    }

    pub(super) async fn reload(&self) -> Result<(), BookError> {
        let inner = &self.inner;
        let _turn = inner.asking.lock().await;
        let (known, view) = {
            let state = held(&inner.state);
            (state.edition, state.view.clone())
        };
        let news = inner.store.news(known, true).await?;
        inner.take(&view, news);
        inner.credentials.doubt();
        Ok(())
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    pub(super) fn collector(&self) -> &Collector {
        &self.collector
    }

    pub(super) fn health(&self) -> Health {
        let now = self.inner.store.clock().monotonic();
        let credentials = self.inner.credentials.len();
        let state = held(&self.inner.state);
        let since = now.saturating_sub(state.answered);
        Health {
            generation: state.edition.generation,
            subscribers: state.view.directory.len(),
            groups: state.view.groups.len(),
            broken: state
                .view
                .broken
                .clone()
                .into_iter()
                .filter(|(id, _)| id.as_str() != NO_GROUP)
                .collect(),
            damaged: state.damaged.clone(),
            credentials,
            notes_dropped: self.collector.dropped(),
            away: state.away.clone().map(|why| Away {
                since,
                closed: since > self.inner.stale_for,
                why,
            }),
        }
    }
}

impl Inner {
    /// The view to go on with while the store does not answer.
    fn while_away(&self) -> Option<Arc<View>> {
        let mut state = held(&self.state);
        let why = state.away.as_ref()?;
        let since = self.store.clock().monotonic().saturating_sub(state.answered);
        if since > self.stale_for && state.view.closed.is_none() {
            let closed = format!(
                "the store has not answered for longer than store.stale_for ({} s), so nobody knows who may still connect: {why}",
                self.stale_for.as_secs()
            );
            tracing::error!("no device is let in any more: {}", redact_digits(&closed));
            let view = &state.view;
            state.view = Arc::new(View {
                directory: view.directory.clone(),
                groups: view.groups.clone(),
                broken: view.broken.clone(),
                closed: Some(closed),
            });
        }
        Some(state.view.clone())
    }

    /// Asks whether anything changed, and reads what did. One at a time: who calls it holds `asking`.
    async fn ask(self: &Arc<Self>) {
        let (known, view, damaged) = {
            let state = held(&self.state);
            (state.edition, state.view.clone(), !state.damaged.is_empty())
        };
        // A closed view has to be opened again, changed or not.
        let closed = view.closed.is_some();
        let answer = match self.store.edition().await {
            Ok(now) if now == known && !closed => Ok(None),
            // What is damaged may have been mended: only reading everything tells what still is.
            Ok(_) => self.store.news(known, closed || damaged).await.map(Some),
            Err(e) => Err(e),
        };
        match answer {
            Ok(None) => self.answered(),
            Ok(Some(news)) => self.take(&view, news),
            Err(e) => self.went_away(&e),
        }
    }

    /// `before` is the view that the news are news to.
    fn take(&self, before: &View, news: News) {
        let (edition, view, damaged) = match news {
            News::Changes(changes) => (changes.edition, rebuild(before, changes), Vec::new()),
            News::All(snapshot) => self.whole(snapshot),
            News::Anew(snapshot) => {
                tracing::warn!(
                    "the store has another history than before: was it restored from a backup? nothing of what was known counts"
                );
                self.credentials.clear();
                self.whole(snapshot)
            }
        };
        {
            let mut state = held(&self.state);
            (state.view, state.edition, state.damaged) = (Arc::new(view), edition, damaged);
        }
        self.answered();
    }

    fn whole(&self, snapshot: Snapshot) -> (Edition, View, Vec<String>) {
        let (broken, before) = {
            let state = held(&self.state);
            (state.view.broken.clone(), state.damaged.clone())
        };
        let (edition, damaged) = (snapshot.edition, told(&snapshot, &before));
        (edition, build(snapshot, &self.store, &broken), damaged)
    }

    fn answered(&self) {
        let mut state = held(&self.state);
        state.answered = self.store.clock().monotonic();
        if state.away.take().is_some() {
            tracing::warn!("the store answers again");
        }
    }

    fn went_away(self: &Arc<Self>, e: &StoreError) {
        let why = redact_digits(&e.to_string());
        let mut state = held(&self.state);
        if state.away.replace(why.clone()).is_some() {
            return;
        }
        drop(state);
        tracing::error!(
            "the store does not answer; devices are let in as it was known last, for {} s at most (store.stale_for): {why}",
            self.stale_for.as_secs()
        );
        let book = Arc::downgrade(self);
        self.home.spawn(async move {
            loop {
                tokio::time::sleep(ASK_AGAIN).await;
                let Some(book) = book.upgrade() else { return };
                let _turn = book.asking.clone().lock_owned().await;
                book.ask().await;
                if held(&book.state).away.is_none() {
                    return;
                }
            }
        });
    }
}
