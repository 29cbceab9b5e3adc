//! The book: who may connect, as what, proved how. The one place that a connection asks, whatever lies behind.
//!
//! | file | behind it |
//! |---|---|
//! | `files` | `gateway.toml` with its subscribers, and a folder of credentials |
//! | `stored`, `views`, `kept` | the [store](super::store): SQLite, or PostgreSQL shared by several gateways |
//!
//! A [`View`] is what was true at one moment, in memory, for the price of a pointer: subscribers by address and token, groups by
//! name. [`Book::view`] gives the newest; where a store is behind it, that is one small question ("has anything changed?"), and when the
//! store does not answer, the last view goes on being used, which keeps known devices connected while a database restarts.
//!
//! Credentials are not in the view: there may be as many as devices, and each is needed once a connect. [`Book::credential`] reads one.

mod files;
mod health;
mod kept;
mod stored;
mod views;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use files::{FILE_MAX, Files, FolderError, Paths, view};
pub use health::{Away, Health};

use super::config::Config;
use super::credential::{Credential, CredentialId};
use super::group::{Group, GroupId};
use super::store::{Store, StoreError};
use super::subscriber::{Directory, TokenError};
use crate::clock::Clock;
use crate::identity::Imsi;

/// The group of subscribers of a store that are in none. No group can have this name there.
pub(super) const NO_GROUP: &str = ".none";

/// What was true at one moment.
#[derive(Debug)]
pub struct View {
    /// Who is known by what.
    pub directory: Arc<Directory>,
    /// Their groups.
    pub groups: HashMap<GroupId, Arc<Group>>,
    /// Groups that are there and cannot be used, and why.
    pub broken: BTreeMap<GroupId, String>,
    /// Why no group is given at all: the store has been away for longer than it may be.
    pub closed: Option<String>,
}

impl View {
    /// A group by its name.
    #[must_use]
    pub fn group(&self, id: &GroupId) -> Option<&Arc<Group>> {
        if self.closed.is_some() {
            return None;
        }
        self.groups.get(id)
    }

    /// Why [`Self::group`] gives none, for the log and for `check`.
    #[must_use]
    pub fn why_no_group(&self, id: &GroupId) -> String {
        match (&self.closed, self.broken.get(id)) {
            (Some(why), _) => why.clone(),
            (None, Some(why)) if id.as_str() == NO_GROUP => why.clone(),
            (None, Some(why)) => format!("group {id} cannot be used: {why}"),
            (None, None) => format!("there is no group {id}"),
        }
    }
}

/// Why the book cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// A subscriber's token cannot be used.
    #[error("subscriber.token_file: {0}")]
    Token(#[from] TokenError),
    /// A credential's files cannot be used.
    #[error("{0}")]
    Folder(#[from] FolderError),
    /// The store does not answer, or refuses.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A credential of the store cannot be used.
    #[error("{0}")]
    Credential(String),
    /// A configuration of a group is wrong.
    #[error("group {group}:{}{why}", if why.contains('\n') { "\n" } else { " " })]
    Group {
        /// Which.
        group: GroupId,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl BookError {
    /// What went wrong with numbers hidden, for logs.
    #[must_use]
    pub fn redacted(&self) -> String {
        crate::identity::redact_digits(&self.to_string())
    }
}

/// Who may connect.
#[derive(Debug)]
pub enum Book {
    /// From `gateway.toml` and a folder.
    Files(Files),
    /// From a store.
    Stored(stored::Stored),
}

impl Book {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// [`BookError`].
    pub async fn open(config: &Config, clock: &Clock) -> Result<Self, BookError> {
        match &config.source {
            super::config::Source::Files(files) => Ok(Self::Files(Files::open(files.clone())?)),
            super::config::Source::Store(settings) => {
                let store = Arc::new(Store::open(settings, clock).await?);
                let me = stored::gateway_name(config.listen.address);
                Ok(Self::Stored(stored::Stored::open(store, settings.stale_for, me).await?))
            }
        }
    }

    /// What is true now.
    pub async fn view(&self) -> Arc<View> {
        match self {
            Self::Files(files) => files.view(),
            Self::Stored(stored) => stored.view().await,
        }
    }

    /// What was true at the last question, without asking again.
    #[must_use]
    pub fn latest(&self) -> Arc<View> {
        match self {
            Self::Files(files) => files.view(),
            Self::Stored(stored) => stored.latest(),
        }
    }

    /// A credential as it is now; `None` when there is none of that name.
    ///
    /// # Errors
    /// [`BookError`]; a broken credential is not replaced by its older version.
    pub async fn credential(&self, id: &CredentialId) -> Result<Option<Arc<Credential>>, BookError> {
        match self {
            Self::Files(files) => files.credential(id).await,
            Self::Stored(stored) => stored.credential(id).await,
        }
    }

    /// Reads everything again (SIGHUP). `config` is the new configuration; where it names another kind of book, that is an error,
    /// for it needs a restart.
    ///
    /// # Errors
    /// [`BookError`]; then the old content stays.
    pub async fn reload(&self, config: &Config) -> Result<(), BookError> {
        match (self, &config.source) {
            (Self::Files(files), super::config::Source::Files(new)) => files.reload(new.clone()),
            (Self::Stored(stored), super::config::Source::Store(_)) => stored.reload().await,
            _ => Err(BookError::Group {
                group: GroupId::default(),
                why: "from files to a store, or back, takes a restart".to_owned(),
            }),
        }
    }

    /// A device is connected: where there is a store, that is noted there (later, and many at once).
    pub fn connected(&self, imsi: &Imsi, credential: Option<&CredentialId>) {
        if let Self::Stored(stored) = self {
            stored.collector().connected(imsi, credential);
        }
    }

    /// Writes down what was noted; before the program ends. Takes no longer than the store's questions may.
    pub async fn flush(&self) {
        if let Self::Stored(stored) = self {
            stored.collector().flush().await;
        }
    }

    /// How the store is, if there is one.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        match self {
            Self::Files(_) => None,
            Self::Stored(stored) => Some(stored.health()),
        }
    }

    /// The store behind it, if there is one.
    #[must_use]
    pub fn store(&self) -> Option<&Arc<Store>> {
        match self {
            Self::Files(_) => None,
            Self::Stored(stored) => Some(stored.store()),
        }
    }
}
