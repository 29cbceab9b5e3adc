//! The store: subscribers, groups and credentials, in SQLite (one gateway) or PostgreSQL (several, behind a load balancer). The same
//! schema, the same statements, and no other state: any gateway on a store serves any of its devices.
//!
//! | file | subject |
//! |---|---|
//! | `key`, `seal` | `store.key`; what is sealed under it, and the digests of tokens |
//! | `error`, `records`, `list` | what the store answers: why not, what, and how much of it |
//! | `schema` | the steps by which the schema came about; unlocking; opening by who only reads |
//! | `owner`, `tx` | the thread that owns the database; a transaction in either |
//! | `sqlite`, `postgres` | the two |
//! | `subscribers`, `groups`, `credentials` | what is stored: the questions, and in `rows` their SQL |
//! | `changes` | the generation, and what changed since one |
//! | `collector` | when things were last in use, written many at once |
//! | `rekey` | another `store.key` |
//!
//! - Every change raises the **generation** in its own transaction, and begins with that: the row of the generation is the lock that
//!   puts writers in a row, in one gateway or many, so what a change was judged by is still so when it is written. A gateway that
//!   sees the old number has the old content (one small query a connect); one that sees a newer number reads what has changed since.
//! - Secrets (credentials, configurations of groups, which may hold passwords and keys) are encrypted before they reach the database, under
//!   a key that is not in it (`store.key_file`, or a systemd credential); of tokens there are digests alone. Nothing gives a secret back
//!   to a person.
//! - What changes something depending on what is there reads, judges and writes in one transaction, never in two: of two people who change
//!   one subscriber at once, none undoes what the other did.
//! - A row that cannot be read is named, and hides no other.
//! - Who only reads neither makes the database nor migrates it.
//! - Every question has a time limit (`store.timeout`), a bounded queue and a bounded answer (pages).

mod changes;
mod collector;
mod credentials;
mod error;
mod groups;
mod key;
mod list;
mod owner;
pub mod parcel;
mod postgres;
mod records;
mod rekey;
mod schema;
mod seal;
mod sqlite;
mod subscribers;
mod tx;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

pub use collector::Collector;
pub use credentials::SECRET_MAX;
pub use error::StoreError;
pub use groups::{CONFIGURATION_MAX, Configuration};
pub use key::{KEY_LEN, KeyPlace, StoreKey};
pub use list::{Damaged, Filter, Named, PAGE_MAX, Page};
pub use records::{
    Changes, CredentialSecret, CredentialSummary, Edition, Fingerprint, GroupRecord, Judge, News, Snapshot,
    SubscriberRecord, TokenChange, TokenDigest,
};
pub use rekey::rekey;
pub use seal::TokenKey;
pub use subscribers::SEARCH_MAX;

use super::config::{Database, StoreConfig};
use super::group::GroupId;
use crate::clock::{self, Clock};
use changes::{About, edition, generation, raise, raise_sealed, same_key, stateless};
use list::page_limit;
use owner::Owner;
use seal::Seal;
use tx::{Fail, Tx};

/// Longest name of a subscriber or group, in characters.
pub const NAME_MAX: usize = 255;
/// Longest description of a credential, in characters.
pub const DESCRIPTION_MAX: usize = 1_024;
/// The version of the schema that this program makes and reads.
pub const SCHEMA: usize = schema::STEPS.len();
/// How many times `store.timeout` reading everything may take.
const WHOLE_TIMES: u32 = 6;

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

async fn snapshot(tx: &Tx<'_>, seal: &Seal) -> Result<Snapshot, Fail> {
    // Under a new key all groups would look broken; the view of before is better than that.
    same_key(tx, seal).await?;
    let mut out = Snapshot {
        edition: edition(tx).await?,
        subscribers: vec![],
        groups: vec![],
        broken: vec![],
        damaged: vec![],
    };
    let groups = groups::all(tx, seal).await?;
    out.groups = groups.items;
    for damaged in groups.damaged {
        match damaged.id.parse::<GroupId>() {
            Ok(id) => out.broken.push((id, damaged.why)),
            Err(_) => out.damaged.push(damaged),
        }
    }
    let mut after = String::new();
    loop {
        let page = subscribers::page(tx, &Filter::default(), &after, page_limit(PAGE_MAX)).await?;
        out.subscribers.extend(page.items);
        out.damaged.extend(page.damaged);
        match page.next {
            Some(last) => after = last,
            None => return Ok(out),
        }
    }
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
        let place = KeyPlace::of(settings)?;
        Self::boot(settings, schema::Boot::new(place, clock, schema::Opening::Make)).await
    }

    /// Opens one that is there, to read and nothing else: no file is made, no schema migrated, and every change is refused.
    ///
    /// # Errors
    /// [`StoreError::Unready`] when there is no database, or its schema is not this program's; [`StoreError`].
    pub async fn open_to_read(settings: &StoreConfig, clock: &Clock) -> Result<Self, StoreError> {
        let place = KeyPlace::of(settings)?;
        let boot = |place| Self::boot(settings, schema::Boot::new(place, clock, schema::Opening::Look));
        match boot(place).await {
            // A change of keys that was cut off: who writes next ends it.
            Err(StoreError::Key(why)) => match rekey::beside(settings)? {
                Some((_, new)) if new.exists() => boot(KeyPlace::File(new)).await.map_err(|_| StoreError::Key(why)),
                _ => Err(StoreError::Key(why)),
            },
            opened => opened,
        }
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

    /// The last change: its number and its mark.
    pub async fn edition(&self) -> Result<Edition, StoreError> {
        self.owner.glance(|tx| Box::pin(edition(tx))).await
    }

    /// What is different since an edition that is known: the changes if they can be told and not the `whole` is wanted, or everything.
    pub async fn news(&self, since: Edition, whole: bool) -> Result<News, StoreError> {
        let seal = self.keys().seal;
        self.owner
            .read_long(WHOLE_TIMES, move |tx| {
                let seal = seal.clone();
                Box::pin(async move { changes::news(tx, since, whole, &seal).await })
            })
            .await
    }
}
