//! Groups: the questions about them. Their SQL is in `rows`.

mod rows;

use std::sync::Arc;

use serde_json::Value;

pub use rows::{CONFIGURATION_MAX, Configuration};
pub(super) use rows::{all, reseal};

use super::{GroupRecord, Judge, Page, Store, StoreError, time};
use crate::gateway::group::GroupId;
use crate::gateway::json::short;

/// All of these give [`StoreError`]: [`StoreError::Unreachable`] while the database is away, and what the method itself says.
#[allow(clippy::missing_errors_doc)]
impl Store {
    /// All groups (at most 1,000), by id; one page.
    pub async fn groups(&self) -> Result<Page<GroupRecord>, StoreError> {
        let seal = self.keys().seal;
        self.owner
            .glance(move |tx| {
                let seal = seal.clone();
                Box::pin(async move { rows::all(tx, &seal).await })
            })
            .await
    }

    /// One.
    pub async fn group(&self, id: &GroupId) -> Result<Option<GroupRecord>, StoreError> {
        let with = (id.clone(), self.keys().seal);
        self.owner
            .glance(move |tx| {
                let (id, seal) = with.clone();
                Box::pin(async move { rows::one(tx, &id, &seal).await })
            })
            .await
    }

    /// Makes one, or renames it; its configuration stays.
    pub async fn put_group(&self, id: &GroupId, name: &str) -> Result<GroupRecord, StoreError> {
        self.put(id, name, rows::Wanted::Either).await
    }

    /// Makes one that is not there yet.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is.
    pub async fn make_group(&self, id: &GroupId, name: &str) -> Result<GroupRecord, StoreError> {
        self.put(id, name, rows::Wanted::New).await
    }

    /// Renames one that is there.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub async fn rename_group(&self, id: &GroupId, name: &str) -> Result<GroupRecord, StoreError> {
        self.put(id, name, rows::Wanted::Old).await
    }

    async fn put(&self, id: &GroupId, name: &str, wanted: rows::Wanted) -> Result<GroupRecord, StoreError> {
        let with = (id.clone(), name.to_owned(), time(&self.clock), self.keys().seal);
        self.owner
            .write(move |tx| {
                let (id, name, now, seal) = with.clone();
                Box::pin(async move { rows::put(tx, (&id, &name), wanted, now, &seal).await })
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
                Box::pin(async move { rows::delete(tx, &id).await })
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
                    rows::change(tx, id, now, &seal, Some(judge), &edit).await
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
        self.remove(id, namespace, Some(key)).await
    }

    /// Removes a namespace with all its keys.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub async fn delete_namespace(&self, id: &GroupId, namespace: &str) -> Result<GroupRecord, StoreError> {
        self.remove(id, namespace, None).await
    }

    async fn remove(&self, id: &GroupId, namespace: &str, key: Option<&str>) -> Result<GroupRecord, StoreError> {
        let with = Arc::new((id.clone(), namespace.to_owned(), key.map(str::to_owned)));
        let (now, seal) = (time(&self.clock), self.keys().seal);
        self.owner
            .write(move |tx| {
                let (with, seal) = (with.clone(), seal.clone());
                Box::pin(async move {
                    let (id, namespace, key) = &*with;
                    let missing = |what: String| StoreError::Missing(format!("{what} of group {id}"));
                    let edit = |all: &mut Configuration| {
                        match key {
                            Some(key) => {
                                let keys = all.get_mut(namespace);
                                keys.and_then(|keys| keys.remove(key))
                                    .ok_or_else(|| missing(format!("key {key:?} in {namespace}")))?;
                            }
                            None => {
                                all.remove(namespace)
                                    .ok_or_else(|| missing(format!("namespace {}", short(namespace))))?;
                            }
                        }
                        all.retain(|_, keys| !keys.is_empty());
                        Ok(())
                    };
                    rows::change(tx, id, now, &seal, None, &edit).await
                })
            })
            .await
    }
}
