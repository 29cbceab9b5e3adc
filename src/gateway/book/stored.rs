//! A book in a [store](crate::gateway::store).

use std::sync::Arc;

use super::{BookError, View};
use crate::gateway::credential::{Credential, CredentialId};
use crate::gateway::store::Store;

/// A book in a store.
#[derive(Debug)]
pub struct Stored {
    store: Arc<Store>,
}

impl Stored {
    pub(super) async fn open(store: Arc<Store>) -> Result<Self, BookError> {
        Ok(Self { store })
    }

    pub(super) async fn view(&self) -> Arc<View> {
        todo!("the store's helper")
    }

    pub(super) async fn credential(&self, _id: &CredentialId) -> Result<Option<Arc<Credential>>, BookError> {
        todo!("the store's helper")
    }

    pub(super) async fn reload(&self) -> Result<(), BookError> {
        todo!("the store's helper")
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }
}
