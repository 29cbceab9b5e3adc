//! Credentials: the questions about them. Their SQL is in `rows`.

mod rows;

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use rows::SECRET_MAX;
pub(super) use rows::reseal;

use super::list::page_limit;
use super::{CredentialSecret, CredentialSummary, Page, Store, StoreError, time};
use crate::gateway::credential::{CredentialId, Version};

/// All of these give [`StoreError`]: [`StoreError::Unreachable`] while the database is away, and what the method itself says.
#[allow(clippy::missing_errors_doc)]
impl Store {
    /// Credentials by id, those after the key `after`, at most `limit` and at most [`super::PAGE_MAX`]. Secrets are not opened.
    pub async fn credentials(&self, after: Option<&str>, limit: usize) -> Result<Page<CredentialSummary>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.owner
            .glance(move |tx| {
                let after = after.clone();
                Box::pin(async move { rows::page(tx, &after, page_limit(limit), None).await })
            })
            .await
    }

    /// The same, and each secret is opened (and forgotten): one that does not open is damaged.
    pub async fn proven_credentials(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<CredentialSummary>, StoreError> {
        let with = (after.unwrap_or_default().to_owned(), self.keys().seal);
        self.owner
            .glance(move |tx| {
                let (after, seal) = with.clone();
                Box::pin(async move { rows::page(tx, &after, page_limit(limit), Some(&seal)).await })
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
                Box::pin(async move { rows::one(tx, &id, &seal).await })
            })
            .await
    }

    /// In which version a credential is, without unsealing it.
    pub async fn credential_version(&self, id: &CredentialId) -> Result<Option<Version>, StoreError> {
        let id = id.clone();
        self.owner
            .glance(move |tx| {
                let id = id.clone();
                Box::pin(async move { rows::version_of(tx, &id).await })
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
        let written = Arc::new(rows::New {
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
                Box::pin(async move { rows::put(tx, &written, &seal).await })
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
                Box::pin(async move { rows::delete(tx, &id).await })
            })
            .await
    }

    /// Notes that credentials were used, many at once. The generation stays.
    pub async fn used(&self, used: &[(CredentialId, Duration)]) -> Result<(), StoreError> {
        let used = Arc::new(used.to_vec());
        self.owner
            .write(move |tx| {
                let used = used.clone();
                Box::pin(async move { rows::used(tx, &used).await })
            })
            .await
    }
}
