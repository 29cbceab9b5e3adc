//! A book in a [store](crate::gateway::store).
//!
//! **The view.** Each connect asks the store one small question: the number of its last change. Many connects at once share one question (it
//! must have begun after they came, so that nobody misses a change that was made before it). When the number is another, everything is read
//! again, once, while the others wait for it. What is asked runs to its end on the gateway's main runtime, whoever goes away meanwhile.
//!
//! **When the store does not answer**, the last view goes on being used, at once and without asking; one task asks every [`ASK_AGAIN`] until
//! there is an answer. That is logged when it begins and when it ends, and stands in [`Health`]. After `store.stale_for` the view is closed:
//! nobody knows any more who was removed, so nobody is let in.
//!
//! **Groups** whose configuration is wrong are out of the view, each with its reason; the others are not affected.
//!
//! **Credentials** are unsealed when they are first needed, and kept with their version and the generation in which they were last known to
//! be current: in the same generation nothing is asked; in a later one, only the version. While the store is away what is kept is used. At
//! most [`CREDENTIALS_MAX`] are kept; the oldest goes first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::{BookError, NO_GROUP, View};
use crate::gateway::credential::{Credential, CredentialId};
use crate::gateway::group::{self, GroupId};
use crate::gateway::store::{Collector, CredentialSecret, Snapshot, Store, StoreError, SubscriberRecord, TokenDigest};
use crate::gateway::subscriber::{Digester, Directory, Known, Secret};
use crate::identity::redact_digits;
use crate::tls::{self, Identity};

/// While the store is away, it is asked this often.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Credentials that are kept unsealed: some 60 MiB.
pub const CREDENTIALS_MAX: usize = 10_000;
/// SORACOM's type of a credential with key, certificate and authorities (its API's `x509`).
const X509: &str = "x509";

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The number of the last change that is known here.
    pub generation: u64,
    /// Subscribers in the view.
    pub subscribers: usize,
    /// Groups that can be used.
    pub groups: usize,
    /// Groups that cannot, and why.
    pub broken: BTreeMap<GroupId, String>,
    /// Rows of subscribers that cannot be read.
    pub damaged: usize,
    /// Credentials that are kept.
    pub credentials: usize,
    /// Notes of when devices were last seen that were dropped.
    pub notes_dropped: u64,
    /// Set while the store does not answer.
    pub away: Option<Away>,
}

/// The store does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// For so long.
    pub since: Duration,
    /// Whether that is longer than `store.stale_for`: nobody is let in.
    pub closed: bool,
    /// What it said last.
    pub why: String,
}

/// This gateway's name among several: its host's and its address.
#[must_use]
pub(super) fn gateway_name(address: std::net::SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} {address}", host.trim())
}

#[derive(Debug)]
struct State {
    view: Arc<View>,
    /// The same devices without any group, for when the view is too old.
    generation: u64,
    damaged: usize,
    /// Monotonic time of the last answer.
    answered: Duration,
    /// What it said, while it is away.
    away: Option<String>,
}

#[derive(Debug)]
struct Kept {
    generation: u64,
    /// `None`: there was none of this name.
    credential: Option<Arc<Credential>>,
}

#[derive(Debug, Default)]
struct Cache {
    kept: HashMap<CredentialId, Kept>,
    /// In the order in which they came.
    order: VecDeque<CredentialId>,
}

impl Cache {
    fn keep(&mut self, id: &CredentialId, kept: Kept) {
        if self.kept.insert(id.clone(), kept).is_none() {
            self.order.push_back(id.clone());
        }
        while self.order.len() > CREDENTIALS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.kept.remove(&oldest);
            }
        }
    }
}

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    stale_for: Duration,
    state: Mutex<State>,
    cache: Mutex<Cache>,
    /// Held by the one who asks.
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

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stored {
    /// Reads everything; what is asked later runs on the runtime of this call.
    pub(super) async fn open(store: Arc<Store>, stale_for: Duration, me: String) -> Result<Self, BookError> {
        let snapshot = store.snapshot().await?;
        let (generation, damaged) = (snapshot.generation, snapshot.damaged.len());
        let view = Arc::new(build(snapshot, &store, &BTreeMap::new()));
        let answered = store.clock().monotonic();
        let collector = Collector::start(&store, me);
        let inner = Inner {
            store,
            stale_for,
            state: Mutex::new(State {
                view,
                generation,
                damaged,
                answered,
                away: None,
            }),
            cache: Mutex::default(),
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

    pub(super) async fn credential(&self, id: &CredentialId) -> Result<Option<Arc<Credential>>, BookError> {
        self.inner.credential(id).await
    }

    pub(super) async fn reload(&self) -> Result<(), BookError> {
        let snapshot = self.inner.store.snapshot().await?;
        self.inner.take(snapshot);
        held(&self.inner.cache).kept.values_mut().for_each(|k| k.generation = 0);
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
        let credentials = held(&self.inner.cache).kept.len();
        let state = held(&self.inner.state);
        let since = now.saturating_sub(state.answered);
        Health {
            generation: state.generation,
            subscribers: state.view.directory.len(),
            groups: state.view.groups.len(),
            broken: state
                .view
                .broken
                .clone()
                .into_iter()
                .filter(|(id, _)| id.as_str() != NO_GROUP)
                .collect(),
            damaged: state.damaged,
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

    /// Asks whether anything changed, and reads it if so.
    async fn ask(self: &Arc<Self>) {
        let known = {
            let state = held(&self.state);
            // A closed view has to be opened again, changed or not.
            state.view.closed.is_none().then_some(state.generation)
        };
        let answer = match self.store.generation().await {
            Ok(now) if Some(now) == known => Ok(None),
            Ok(_) => self.store.snapshot().await.map(Some),
            Err(e) => Err(e),
        };
        match answer {
            Ok(None) => self.answered(),
            Ok(Some(snapshot)) => self.take(snapshot),
            Err(e) => self.went_away(&e),
        }
    }

    fn take(&self, snapshot: Snapshot) {
        let broken = held(&self.state).view.broken.clone();
        let (generation, damaged) = (snapshot.generation, snapshot.damaged.len());
        for why in &snapshot.damaged {
            tracing::error!("{}", redact_digits(why));
        }
        let view = Arc::new(build(snapshot, &self.store, &broken));
        {
            let mut state = held(&self.state);
            // Two readings may end in either order; numbers only grow.
            if generation >= state.generation {
                (state.view, state.generation, state.damaged) = (view, generation, damaged);
            }
        }
        self.answered();
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
                book.ask().await;
                if held(&book.state).away.is_none() {
                    return;
                }
            }
        });
    }

    async fn credential(&self, id: &CredentialId) -> Result<Option<Arc<Credential>>, BookError> {
        let (generation, away) = {
            let state = held(&self.state);
            (state.generation, state.away.clone())
        };
        let kept = held(&self.cache)
            .kept
            .get(id)
            .map(|k| (k.generation, k.credential.clone()));
        match (&kept, away) {
            (Some((of, credential)), None) if *of == generation => return Ok(credential.clone()),
            (Some((_, credential)), Some(_)) => return Ok(credential.clone()),
            (None, Some(why)) => {
                let why = format!(
                    "credential {} is not in memory, and the store is away: {why}",
                    id.as_str()
                );
                return Err(StoreError::Unreachable(why).into());
            }
            _ => {}
        }
        match self.fresh(id, kept.as_ref().and_then(|(_, c)| c.as_ref())).await {
            Ok(credential) => {
                let mut cache = held(&self.cache);
                // Two devices of one credential may come at once: the first one's object stays.
                let same = cache.kept.get(id).and_then(|k| k.credential.clone());
                let credential = match (same, credential) {
                    (Some(first), Some(second)) if first.version == second.version => Some(first),
                    (_, second) => second,
                };
                let kept = Kept {
                    generation,
                    credential: credential.clone(),
                };
                cache.keep(id, kept);
                Ok(credential)
            }
            Err(BookError::Store(StoreError::Unreachable(why))) => match kept {
                Some((_, credential)) => Ok(credential),
                None => Err(StoreError::Unreachable(why).into()),
            },
            Err(e) => Err(e),
        }
    }

    /// As it is in the store now; `old` if it is still that.
    async fn fresh(
        &self,
        id: &CredentialId,
        old: Option<&Arc<Credential>>,
    ) -> Result<Option<Arc<Credential>>, BookError> {
        if let Some(old) = old {
            if self.store.credential_version(id).await?.as_ref() == Some(&old.version) {
                return Ok(Some(old.clone()));
            }
        }
        let Some(secret) = self.store.credential(id).await? else {
            return Ok(None);
        };
        // Checking an RSA key takes a millisecond or more.
        let read = tokio::task::spawn_blocking(move || x509(&secret)).await;
        let credential = read.map_err(|e| BookError::Credential(e.to_string()))??;
        Ok(Some(Arc::new(credential)))
    }
}

#[derive(Deserialize)]
struct X509Secret {
    key: Option<Zeroizing<String>>,
    cert: Option<Zeroizing<String>>,
    ca: Option<String>,
}

/// A credential of SORACOM's type `x509`.
fn x509(stored: &CredentialSecret) -> Result<Credential, BookError> {
    let what = format!("credential {}", stored.summary.id.as_str());
    let wrong = |why: &str| BookError::Credential(format!("{what} {why}"));
    if stored.summary.kind != X509 {
        return Err(wrong(&format!(
            "is of type {:?}, and a device is proved by one of type {X509:?}: put a certificate and its key there",
            stored.summary.kind
        )));
    }
    // The parser's message would show what stands there.
    let secret: X509Secret = serde_json::from_str(&stored.secret)
        .map_err(|_| wrong("is not an object of texts key, cert and ca: write it again"))?;
    let (Some(key), Some(cert)) = (secret.key, secret.cert) else {
        return Err(wrong("has no key or no cert: write it again"));
    };
    let tls = |e: tls::TlsError| BookError::Credential(e.to_string());
    let identity = Identity::from_pem(cert.as_bytes(), key.as_bytes(), &what).map_err(tls)?;
    let ca = secret.ca.filter(|ca| !ca.trim().is_empty());
    let authorities = ca.map(|ca| tls::roots(ca.as_bytes(), &format!("{what}, ca")).map_err(tls));
    Ok(Credential {
        id: stored.summary.id.clone(),
        version: stored.summary.version.clone(),
        identity,
        authorities: authorities.transpose()?,
    })
}

/// The view of a snapshot; what was broken `before` is not logged again.
fn build(snapshot: Snapshot, store: &Store, before: &BTreeMap<GroupId, String>) -> View {
    let mut broken: BTreeMap<_, _> = snapshot.broken.into_iter().collect();
    let mut groups = HashMap::new();
    for record in snapshot.groups {
        match group::from_record(&record) {
            Ok(group) => {
                groups.insert(record.id, Arc::new(group));
            }
            Err(why) => {
                broken.insert(record.id, why);
            }
        }
    }
    for (id, why) in &broken {
        if before.get(id) != Some(why) {
            tracing::error!(
                "group {id} cannot be used, and its devices are refused: {}",
                redact_digits(why)
            );
        }
    }
    let nowhere: Option<GroupId> = NO_GROUP.parse().ok();
    if let Some(id) = &nowhere {
        broken.insert(id.clone(), "the subscriber is in no group: put it into one".to_owned());
    }
    let known = snapshot
        .subscribers
        .into_iter()
        .filter_map(|(record, digest)| known(record, digest, nowhere.as_ref()))
        .collect();
    View {
        directory: directory(known, store),
        groups,
        broken,
        closed: None,
    }
}

fn directory(known: Vec<Known>, store: &Store) -> Arc<Directory> {
    let key = store.token_key();
    Arc::new(Directory::with(known, Digester::new(move |token| key.digest(token))))
}

fn known(record: SubscriberRecord, digest: Option<TokenDigest>, nowhere: Option<&GroupId>) -> Option<Known> {
    let group = record.group.clone().or_else(|| nowhere.cloned())?;
    Some(Known {
        subscriber: record.subscriber(),
        group,
        enabled: record.enabled,
        imei_lock: record.imei_lock,
        source: record.source,
        token: digest.map(Secret::Digest),
        certificate: record.certificate,
    })
}
