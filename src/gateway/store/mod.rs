//! The store: subscribers, groups and credentials, in SQLite (one gateway) or PostgreSQL (several, behind a load balancer). The same
//! schema, the same statements, and no other state: any gateway on a store serves any of its devices.
//!
//! | file | subject |
//! |---|---|
//! | `key`, `seal` | `store.key`; what is sealed under it, and the digests of tokens |
//! | `schema` | the steps by which the schema came about; unlocking |
//! | `owner`, `tx` | the thread that owns the database; a transaction in either |
//! | `sqlite`, `postgres` | the two |
//! | `subscribers`, `groups`, `credentials` | what is stored |
//! | `collector` | when things were last in use, written many at once |
//! | `rekey` | another `store.key` |
//!
//! - Every change raises the **generation** in its own transaction, and begins with that: the row of the generation is the lock that
//!   puts writers in a row, in one gateway or many, so what a change was judged by is still so when it is written. A gateway that
//!   sees the old number has the old content (one small query a connect).
//! - Secrets (credentials, configurations of groups, which may hold passwords and keys) are encrypted before they reach the database, under
//!   a key that is not in it (`store.key_file`, or a systemd credential); of tokens there are digests alone. Nothing gives a secret back
//!   to a person.
//! - Every question has a time limit (`store.timeout`), a bounded queue and a bounded answer (pages).

mod collector;
mod credentials;
mod groups;
mod key;
mod owner;
pub mod parcel;
mod postgres;
mod rekey;
mod schema;
mod seal;
mod sqlite;
mod subscribers;
mod tx;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

pub use collector::Collector;
pub use credentials::SECRET_MAX;
pub use groups::{CONFIGURATION_MAX, Configuration};
pub use key::{KEY_LEN, KeyPlace, StoreKey};
pub use rekey::rekey;
pub use seal::TokenKey;

use super::config::{Database, StoreConfig};
use super::credential::{CredentialId, Version};
use super::group::GroupId;
use super::subscriber::{Prefix, TOKEN_MAX, TOKEN_MIN};
use crate::clock::{self, Clock};
use crate::identity::{Iccid, Imei, Imsi, Subscriber};
use owner::Owner;
use seal::Seal;
use subscribers::Digest;
use tx::{Fail, Tx};

/// Longest name of a subscriber or group, in characters.
pub const NAME_MAX: usize = 255;
/// Longest description of a credential, in characters.
pub const DESCRIPTION_MAX: usize = 1_024;
/// Most rows of one page.
pub const PAGE_MAX: usize = 10_000;
/// How many times `store.timeout` reading everything may take.
const WHOLE_TIMES: u32 = 6;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or opened.
    #[error("{0}")]
    Unreachable(String),
    /// The key is missing, wrong, or readable by others.
    #[error("{0}")]
    Key(String),
    /// There is no such thing.
    #[error("there is no {0}")]
    Missing(String),
    /// It would break a rule (the same IMSI, source or token twice, a group still in use).
    #[error("{0}")]
    Conflict(String),
    /// The database refused or its content is damaged.
    #[error("{0}")]
    Broken(String),
    /// What should be written is not allowed: a judge said no, or it is too long.
    #[error("{0}")]
    Refused(String),
}

/// How a subscriber is recognised by a token: a keyed digest of it, never the token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TokenDigest(pub [u8; 32]);

impl std::fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// SHA-256 of a certificate's DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A subscriber as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberRecord {
    /// The SIM.
    pub imsi: Imsi,
    /// The modem, if it is known.
    pub imei: Option<Imei>,
    /// Whether only that modem may use the SIM: the client id must end in the IMEI.
    pub imei_lock: bool,
    /// The card, which is SORACOM's SIM id.
    pub iccid: Option<Iccid>,
    /// Its group; without one it cannot connect, as at SORACOM.
    pub group: Option<GroupId>,
    /// Whether it may connect.
    pub enabled: bool,
    /// Where it calls from.
    pub source: Option<Prefix>,
    /// Whether it has a token (its digest is not given out).
    pub has_token: bool,
    /// Its certificate on the TLS listener, if one is pinned.
    pub certificate: Option<Fingerprint>,
    /// For people.
    pub name: String,
    /// When it was last connected, and through which gateway: Unix time.
    pub last_seen: Option<(Duration, String)>,
}

impl SubscriberRecord {
    /// What names are made from.
    #[must_use]
    pub fn subscriber(&self) -> Subscriber {
        Subscriber {
            imsi: self.imsi.clone(),
            imei: self.imei.clone(),
            iccid: self.iccid.clone(),
        }
    }
}

/// What becomes of a subscriber's token when it is written.
#[derive(Clone)]
pub enum TokenChange {
    /// Stays as it is.
    Keep,
    /// There is none from now on.
    Remove,
    /// This one.
    Set(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for TokenChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep => "Keep",
            Self::Remove => "Remove",
            Self::Set(_) => "Set(…)",
        })
    }
}

/// A group as stored: its namespaces (`SoracomBeam`, `OnyxGateway`, `SoracomKrypton`), each keys with values.
#[derive(Clone, PartialEq)]
pub struct GroupRecord {
    /// Its id.
    pub id: GroupId,
    /// For people (SORACOM's tag `name`).
    pub name: String,
    /// Namespace, key, value.
    pub configuration: BTreeMap<String, BTreeMap<String, Value>>,
    /// Unix time.
    pub created: Duration,
    /// Unix time.
    pub updated: Duration,
}

impl std::fmt::Debug for GroupRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be passwords and private keys.
        let keys = self
            .configuration
            .iter()
            .map(|(n, c)| (n, c.keys().map(|k| super::group::public::key(k)).collect::<Vec<_>>()));
        f.debug_struct("GroupRecord")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("configuration", &keys.collect::<BTreeMap<_, _>>())
            .finish_non_exhaustive()
    }
}

/// What may be known of a credential: all but its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct CredentialSummary {
    /// Its id.
    pub id: CredentialId,
    /// SORACOM's type: `x509`, `username-password-credentials`.
    pub kind: String,
    /// For people.
    pub description: String,
    /// Unix time.
    pub created: Duration,
    /// Unix time.
    pub updated: Duration,
    /// Unix time; when a device last connected with it.
    pub last_used: Option<Duration>,
    /// End of the certificate's validity, Unix time.
    pub not_after: Option<Duration>,
    /// Which state of it this is.
    pub version: Version,
}

/// A credential with its secret: SORACOM's `credentials` object as JSON text (`{"key":…,"cert":…,"ca":…}`).
#[derive(Clone)]
pub struct CredentialSecret {
    /// All but the secret.
    pub summary: CredentialSummary,
    /// The secret.
    pub secret: Zeroizing<String>,
}

impl std::fmt::Debug for CredentialSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CredentialSecret({:?}, …)", self.summary)
    }
}

/// Everything that a gateway keeps in memory, as it was at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The number of the last change in it.
    pub generation: u64,
    /// Subscribers with their tokens' digests.
    pub subscribers: Vec<(SubscriberRecord, Option<TokenDigest>)>,
    /// Groups.
    pub groups: Vec<GroupRecord>,
    /// Groups whose configuration cannot be read, and why.
    pub broken: Vec<(GroupId, String)>,
    /// Rows of subscribers that cannot be read: why, for each.
    pub damaged: Vec<String>,
}

/// Sees a group as it would be, and can refuse with a reason.
pub type Judge = Arc<dyn Fn(&GroupRecord) -> Result<(), String> + Send + Sync>;

/// What secrets are kept with.
#[derive(Debug, Clone)]
struct Keys {
    seal: Seal,
    tokens: Arc<TokenKey>,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    owner: Owner,
    keys: RwLock<Keys>,
    clock: Clock,
    timeout: Duration,
}

/// Unix milliseconds.
fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// And back.
fn since(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// The time to write down; when nobody knows it, the earliest it can be.
fn time(clock: &Clock) -> Duration {
    clock.now().map_or(clock::FLOOR, |(now, _)| now)
}

/// Raises the generation, and keeps other writers out until the transaction ends.
async fn raise(tx: &Tx<'_>) -> Result<i64, Fail> {
    let row = tx.row(
        "UPDATE store_state SET generation = generation + 1 WHERE one = 1 RETURNING generation",
        &[],
    );
    row.await?.ok_or_else(stateless)?.int()
}

/// As [`raise`], for those who seal: a store that got a new key meanwhile takes nothing sealed under the old one, which nobody could open.
async fn raise_sealed(tx: &Tx<'_>, seal: &Seal) -> Result<i64, Fail> {
    let number = raise(tx).await?;
    same_key(tx, seal).await?;
    Ok(number)
}

async fn same_key(tx: &Tx<'_>, seal: &Seal) -> Result<(), Fail> {
    let row = tx.row("SELECT key_name FROM store_state WHERE one = 1", &[]).await?;
    if row.ok_or_else(stateless)?.bytes()? == seal.name() {
        return Ok(());
    }
    Err(StoreError::Key(
        "the store has got a new key (store rekey): restart this program, so that it uses it".to_owned(),
    )
    .into())
}

fn stateless() -> Fail {
    StoreError::Broken("the database is damaged: store_state is empty; restore it from its backup".to_owned()).into()
}

async fn generation(tx: &Tx<'_>) -> Result<u64, Fail> {
    let row = tx.row("SELECT generation FROM store_state WHERE one = 1", &[]).await?;
    let number = row.ok_or_else(stateless)?.int()?;
    u64::try_from(number).map_err(|_| stateless())
}

async fn snapshot(tx: &Tx<'_>, seal: &Seal) -> Result<Snapshot, Fail> {
    // Under a new key all groups would look broken; the view of before is better than that.
    same_key(tx, seal).await?;
    let mut out = Snapshot {
        generation: generation(tx).await?,
        subscribers: vec![],
        groups: vec![],
        broken: vec![],
        damaged: vec![],
    };
    for read in groups::all(tx, seal).await? {
        match read {
            Ok(group) => out.groups.push(group),
            Err(broken) => out.broken.push(broken),
        }
    }
    let mut after = String::new();
    loop {
        let (last, page) = subscribers::page_after(tx, &after, page_limit(PAGE_MAX)).await?;
        let Some(last) = last else {
            return Ok(out);
        };
        after = last;
        for read in page {
            match read {
                Ok(known) => out.subscribers.push(known),
                Err(e) => out.damaged.push(e.to_string()),
            }
        }
    }
}

fn page_limit(limit: usize) -> i64 {
    i64::try_from(limit.min(PAGE_MAX)).unwrap_or(1)
}

/// All of these give [`StoreError`]: [`StoreError::Unreachable`] while the database is away, and what the method itself says.
#[allow(clippy::missing_errors_doc)]
impl Store {
    /// Opens it, making or migrating the schema.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(settings: &StoreConfig, clock: &Clock) -> Result<Self, StoreError> {
        rekey::finish(settings, clock).await?;
        let boot = schema::Boot {
            place: KeyPlace::of(settings)?,
            clock: clock.clone(),
            steps: &schema::STEPS,
        };
        Self::boot(settings, boot).await
    }

    async fn boot(settings: &StoreConfig, boot: schema::Boot) -> Result<Self, StoreError> {
        let (clock, timeout) = (boot.clock.clone(), settings.timeout);
        let (owner, keys) = match &settings.database {
            Database::Sqlite(path) => sqlite::open(path.clone(), timeout, boot).await?,
            _ => postgres::open(settings.clone(), boot).await?,
        };
        Ok(Self {
            owner,
            keys: RwLock::new(keys),
            clock,
            timeout,
        })
    }

    fn keys(&self) -> Keys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What makes digests of tokens: a password is a subscriber's token when its digest is.
    #[must_use]
    pub fn token_key(&self) -> Arc<TokenKey> {
        self.keys().tokens
    }

    /// How long one question may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The clock that times are written by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The number of the last change.
    pub async fn generation(&self) -> Result<u64, StoreError> {
        self.owner.glance(|tx| Box::pin(generation(tx))).await
    }

    /// Everything but credentials.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let seal = self.keys().seal;
        self.owner
            .read_long(WHOLE_TIMES, move |tx| {
                let seal = seal.clone();
                Box::pin(async move { snapshot(tx, &seal).await })
            })
            .await
    }

    /// Subscribers by IMSI, those after `after`, at most `limit` and at most [`PAGE_MAX`].
    pub async fn subscribers(&self, after: Option<&Imsi>, limit: usize) -> Result<Vec<SubscriberRecord>, StoreError> {
        let after = after.map(|i| i.as_str().to_owned()).unwrap_or_default();
        let page = self.owner.glance(move |tx| {
            let after = after.clone();
            Box::pin(async move { subscribers::page(tx, &after, page_limit(limit)).await })
        });
        page.await?.into_iter().map(|read| Ok(read?.0)).collect()
    }

    /// One.
    pub async fn subscriber(&self, imsi: &Imsi) -> Result<Option<SubscriberRecord>, StoreError> {
        let imsi = imsi.clone();
        self.owner
            .glance(move |tx| {
                let imsi = imsi.clone();
                Box::pin(async move { subscribers::one(tx, &imsi).await })
            })
            .await
    }

    /// Writes one, new or not; `has_token` and `last_seen` of the record are not looked at.
    ///
    /// # Errors
    /// [`StoreError::Missing`] for its group; [`StoreError::Conflict`] when its source (alone: with neither token nor certificate), token or
    /// certificate is another's; [`StoreError::Refused`] for a token that is too short or too long.
    pub async fn put_subscriber(&self, record: &SubscriberRecord, token: TokenChange) -> Result<(), StoreError> {
        let token = match token {
            TokenChange::Keep => Digest::Keep,
            TokenChange::Remove => Digest::Remove,
            TokenChange::Set(token) => {
                if !(TOKEN_MIN..=TOKEN_MAX).contains(&token.len()) {
                    return Err(StoreError::Refused(format!(
                        "the token has {} bytes; it must have {TOKEN_MIN} to {TOKEN_MAX}: make one with 'openssl rand -hex 16'",
                        token.len()
                    )));
                }
                Digest::Set(self.token_key().digest(&token))
            }
        };
        let new = Arc::new((record.clone(), token));
        self.owner
            .write(move |tx| {
                let new = new.clone();
                Box::pin(async move { subscribers::put(tx, &new.0, &new.1).await })
            })
            .await
    }

    /// Removes one.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub async fn delete_subscriber(&self, imsi: &Imsi) -> Result<(), StoreError> {
        let imsi = imsi.clone();
        self.owner
            .write(move |tx| {
                let imsi = imsi.clone();
                Box::pin(async move { subscribers::delete(tx, &imsi).await })
            })
            .await
    }

    /// Notes when subscribers were connected, many at once. The generation stays, and who is not there any more is left out.
    pub async fn seen(&self, seen: &[(Imsi, Duration)], gateway: &str) -> Result<(), StoreError> {
        let seen = Arc::new((seen.to_vec(), gateway.to_owned()));
        self.owner
            .write(move |tx| {
                let seen = seen.clone();
                Box::pin(async move { subscribers::seen(tx, &seen.0, &seen.1).await })
            })
            .await
    }

    /// All groups (at most 1,000), by id.
    ///
    /// # Errors
    /// [`StoreError::Broken`] naming the first that cannot be read.
    pub async fn groups(&self) -> Result<Vec<GroupRecord>, StoreError> {
        let seal = self.keys().seal;
        let all = self.owner.glance(move |tx| {
            let seal = seal.clone();
            Box::pin(async move { groups::all(tx, &seal).await })
        });
        let all = all.await?.into_iter();
        all.map(|read| read.map_err(|(id, why)| StoreError::Broken(format!("group {id}: {why}"))))
            .collect()
    }

    /// One.
    pub async fn group(&self, id: &GroupId) -> Result<Option<GroupRecord>, StoreError> {
        let with = (id.clone(), self.keys().seal);
        self.owner
            .glance(move |tx| {
                let (id, seal) = with.clone();
                Box::pin(async move { groups::one(tx, &id, &seal).await })
            })
            .await
    }

    /// Makes one, or renames it; its configuration stays.
    pub async fn put_group(&self, id: &GroupId, name: &str) -> Result<GroupRecord, StoreError> {
        let with = (id.clone(), name.to_owned(), time(&self.clock), self.keys().seal);
        self.owner
            .write(move |tx| {
                let (id, name, now, seal) = with.clone();
                Box::pin(async move { groups::put(tx, &id, &name, now, &seal).await })
            })
            .await
    }

    /// Removes one that no subscriber is in.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when some are, [`StoreError::Missing`].
    pub async fn delete_group(&self, id: &GroupId) -> Result<(), StoreError> {
        let id = id.clone();
        self.owner
            .write(move |tx| {
                let id = id.clone();
                Box::pin(async move { groups::delete(tx, &id).await })
            })
            .await
    }

    /// Overwrites these keys of one namespace and keeps the others. `judge` sees the whole group as it would be, and can refuse; nothing
    /// else is written between what it saw and this. (It is called on the database's thread, more than once if the database asks for that.)
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the judge's words, [`StoreError::Missing`].
    pub async fn put_configuration(
        &self,
        id: &GroupId,
        namespace: &str,
        pairs: Vec<(String, Value)>,
        judge: Judge,
    ) -> Result<GroupRecord, StoreError> {
        let with = Arc::new((id.clone(), namespace.to_owned(), pairs, judge));
        let (now, seal) = (time(&self.clock), self.keys().seal);
        self.owner
            .write(move |tx| {
                let (with, seal) = (with.clone(), seal.clone());
                Box::pin(async move {
                    let (id, namespace, pairs, judge) = &*with;
                    let edit = |all: &mut Configuration| {
                        all.entry(namespace.clone()).or_default().extend(pairs.iter().cloned());
                        Ok(())
                    };
                    groups::change(tx, id, now, &seal, Some(judge), &edit).await
                })
            })
            .await
    }

    /// Removes one key; a namespace goes with its last key.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub async fn delete_configuration(
        &self,
        id: &GroupId,
        namespace: &str,
        key: &str,
    ) -> Result<GroupRecord, StoreError> {
        let with = Arc::new((id.clone(), namespace.to_owned(), key.to_owned()));
        let (now, seal) = (time(&self.clock), self.keys().seal);
        self.owner
            .write(move |tx| {
                let (with, seal) = (with.clone(), seal.clone());
                Box::pin(async move {
                    let (id, namespace, key) = &*with;
                    let edit = |all: &mut Configuration| {
                        let keys = all.get_mut(namespace);
                        keys.and_then(|keys| keys.remove(key))
                            .ok_or_else(|| StoreError::Missing(format!("key {key:?} in {namespace} of group {id}")))?;
                        all.retain(|_, keys| !keys.is_empty());
                        Ok(())
                    };
                    groups::change(tx, id, now, &seal, None, &edit).await
                })
            })
            .await
    }

    /// Credentials by id, those after `after`, at most `limit` and at most [`PAGE_MAX`].
    pub async fn credentials(
        &self,
        after: Option<&CredentialId>,
        limit: usize,
    ) -> Result<Vec<CredentialSummary>, StoreError> {
        let after = after.map(|i| i.as_str().to_owned()).unwrap_or_default();
        self.owner
            .glance(move |tx| {
                let after = after.clone();
                Box::pin(async move { credentials::page(tx, &after, page_limit(limit)).await })
            })
            .await
    }

    /// One, with its secret. For connecting, never for showing.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when it does not open: a damaged or swapped row.
    pub async fn credential(&self, id: &CredentialId) -> Result<Option<CredentialSecret>, StoreError> {
        let with = (id.clone(), self.keys().seal);
        self.owner
            .glance(move |tx| {
                let (id, seal) = with.clone();
                Box::pin(async move { credentials::one(tx, &id, &seal).await })
            })
            .await
    }

    /// In which version a credential is, without unsealing it.
    pub async fn credential_version(&self, id: &CredentialId) -> Result<Option<Version>, StoreError> {
        let id = id.clone();
        self.owner
            .glance(move |tx| {
                let id = id.clone();
                Box::pin(async move { credentials::version_of(tx, &id).await })
            })
            .await
    }

    /// Writes one that the caller has found good; `new` refuses one that is there.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for a `new` one that is there.
    pub async fn put_credential(
        &self,
        id: &CredentialId,
        kind: &str,
        description: &str,
        secret: Zeroizing<String>,
        not_after: Option<Duration>,
        new: bool,
    ) -> Result<CredentialSummary, StoreError> {
        let written = Arc::new(credentials::New {
            id: id.clone(),
            kind: kind.to_owned(),
            description: description.to_owned(),
            secret,
            not_after,
            new,
            now: time(&self.clock),
        });
        let seal = self.keys().seal;
        self.owner
            .write(move |tx| {
                let (written, seal) = (written.clone(), seal.clone());
                Box::pin(async move { credentials::put(tx, &written, &seal).await })
            })
            .await
    }

    /// Removes one.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub async fn delete_credential(&self, id: &CredentialId) -> Result<(), StoreError> {
        let id = id.clone();
        self.owner
            .write(move |tx| {
                let id = id.clone();
                Box::pin(async move { credentials::delete(tx, &id).await })
            })
            .await
    }

    /// Notes that credentials were used, many at once. The generation stays.
    pub async fn used(&self, used: &[(CredentialId, Duration)]) -> Result<(), StoreError> {
        let used = Arc::new(used.to_vec());
        self.owner
            .write(move |tx| {
                let used = used.clone();
                Box::pin(async move { credentials::used(tx, &used).await })
            })
            .await
    }
}
