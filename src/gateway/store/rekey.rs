//! Another `store.key`: all that is sealed is sealed anew, in one transaction.
//!
//! With the key in a file, the new key lies beside it as `FILE.new` before the database changes, and takes its place afterwards. A program
//! that is killed in between leaves both, and the database under one of them: [`finish`], which every opening begins with, puts the new one
//! in place if it is the database's, and otherwise leaves it for the next try. Running gateways go on with what they have in memory and
//! refuse what they have not until they are restarted with the new key: they say so.

use std::path::PathBuf;

use super::key::{KeyPlace, StoreKey};
use super::schema::TOKEN_KEY;
use super::seal::Seal;
use super::tx::Tx;
use super::{About, Store, StoreConfig, StoreError, WHOLE_TIMES, credentials, groups, raise};
use crate::clock::Clock;

pub(super) fn beside(settings: &StoreConfig) -> Result<Option<(PathBuf, PathBuf)>, StoreError> {
    Ok(match KeyPlace::of(settings)? {
        KeyPlace::File(path) => {
            let mut new = path.clone().into_os_string();
            new.push(".new");
            Some((path, new.into()))
        }
        KeyPlace::Credential(_) => None,
    })
}

fn put_in_place(path: &std::path::Path, new: &std::path::Path) -> Result<(), StoreError> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(std::path::Path::new("."));
    std::fs::rename(new, path)
        .and_then(|()| std::fs::File::open(folder)?.sync_all())
        .map_err(|e| {
            StoreError::Key(format!(
                "the database is under the new key {}, which cannot be moved to {}: {e}; move it by hand",
                new.display(),
                path.display()
            ))
        })
}

/// Ends a change of keys that was cut off.
pub(super) async fn finish(settings: &StoreConfig, clock: &Clock) -> Result<(), StoreError> {
    let Some((path, new)) = beside(settings)? else {
        return Ok(());
    };
    if !new.exists() {
        return Ok(());
    }
    let with_new = super::schema::Boot::new(KeyPlace::File(new.clone()), clock, super::schema::Opening::Make);
    match Store::boot(settings, with_new).await {
        Ok(_) => {
            tracing::warn!(
                "a change of the store's key was cut off: {} takes its place",
                new.display()
            );
            put_in_place(&path, &new)
        }
        // Not its key: the change had not happened.
        Err(StoreError::Key(_)) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Gives the store a new key. In a file, it is made and put in place; where the key is a systemd credential, `new` is the operator's new
/// one, which has to be put in place by the operator. The answer is how many credentials were sealed anew.
///
/// # Errors
/// [`StoreError`]; then the old key stays in force.
pub async fn rekey(settings: &StoreConfig, clock: &Clock, new: Option<StoreKey>) -> Result<u64, StoreError> {
    let store = Store::open(settings, clock).await?;
    match (beside(settings)?, new) {
        (Some((path, beside)), None) => {
            let key = KeyPlace::File(beside.clone()).make()?;
            let count = store.reseal(&key).await?;
            put_in_place(&path, &beside)?;
            Ok(count)
        }
        (None, Some(key)) => store.reseal(&key).await,
        (Some(_), Some(_)) => Err(StoreError::Key(
            "the key is in store.key_file: the new one is made there".to_owned(),
        )),
        (None, None) => Err(StoreError::Key(
            "the key is a systemd credential: make the new one with systemd-creds first, and name its file".to_owned(),
        )),
    }
}

impl Store {
    async fn reseal(&self, key: &StoreKey) -> Result<u64, StoreError> {
        let (old, new) = (self.keys(), Seal::derive(key)?);
        let to = new.clone();
        let count = self
            .owner
            .write_long(WHOLE_TIMES, move |tx: &Tx<'_>| {
                let (from, to) = (old.seal.clone(), to.clone());
                Box::pin(async move {
                    raise(tx, About::All).await?;
                    let state = tx
                        .row("SELECT sealed_token_key FROM store_state WHERE one = 1", &[])
                        .await?;
                    let sealed = state.ok_or_else(super::stateless)?.bytes()?;
                    let token_key = from
                        .open(&sealed, TOKEN_KEY)
                        .map_err(|e| StoreError::Key(e.to_string()))?;
                    let values = [to.name().to_vec().into(), to.seal(&token_key, TOKEN_KEY)?.into()];
                    let sql = "UPDATE store_state SET key_name = $1, sealed_token_key = $2 WHERE one = 1";
                    tx.change(sql, &values).await?;
                    groups::reseal(tx, &from, &to).await?;
                    credentials::reseal(tx, &from, &to).await
                })
            })
            .await?;
        self.keys
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .seal = new;
        Ok(count)
    }
}
