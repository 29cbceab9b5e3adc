//! Credentials of a store, unsealed when they are first needed and kept.
//!
//! Each is kept with its version and the generation in which it was last known to be current: in the same generation nothing is asked; in a
//! later one, only the version. While the store is away what is kept is used. At most [`CREDENTIALS_MAX`] are kept; the oldest goes first.
//!
//! A store with another history than before (a backup was brought back) may have given one version to two states. So the versions that go out of
//! here begin with the era, which counts how often that has happened, and nothing of one era passes for what another has.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::BookError;
use super::stored::held;
use crate::gateway::credential::{Credential, CredentialId, Version};
use crate::gateway::store::{CredentialSecret, Store, StoreError};
use crate::tls::{self, Identity};

/// Credentials that are kept unsealed: some 60 MiB.
const CREDENTIALS_MAX: usize = 10_000;
/// SORACOM's type of a credential with key, certificate and authorities (its API's `x509`).
const X509: &str = "x509";

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
    /// How often the store's history was another.
    era: u64,
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

/// What is kept of a store's credentials.
#[derive(Debug, Default)]
pub(super) struct Credentials(Mutex<Cache>);

impl Credentials {
    pub(super) fn len(&self) -> usize {
        held(&self.0).kept.len()
    }

    /// Nothing is known to be current any more.
    pub(super) fn doubt(&self) {
        held(&self.0).kept.values_mut().for_each(|k| k.generation = 0);
    }

    /// Nothing is kept.
    pub(super) fn clear(&self) {
        let mut cache = held(&self.0);
        *cache = Cache {
            era: cache.era + 1,
            ..Cache::default()
        };
    }

    /// A credential as it is in this generation; `away` is why the store cannot be asked.
    pub(super) async fn get(
        &self,
        store: &Store,
        id: &CredentialId,
        generation: u64,
        away: Option<String>,
    ) -> Result<Option<Arc<Credential>>, BookError> {
        let (era, kept) = {
            let cache = held(&self.0);
            let kept = cache.kept.get(id).map(|k| (k.generation, k.credential.clone()));
            (cache.era, kept)
        };
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
        match fresh(store, id, era, kept.as_ref().and_then(|(_, c)| c.as_ref())).await {
            Ok(credential) => {
                let mut cache = held(&self.0);
                if cache.era != era {
                    // It serves its caller, and nobody after.
                    return Ok(credential);
                }
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
}

/// As it is in the store now; `old` if it is still that.
async fn fresh(
    store: &Store,
    id: &CredentialId,
    era: u64,
    old: Option<&Arc<Credential>>,
) -> Result<Option<Arc<Credential>>, BookError> {
    if let Some(old) = old {
        let now = store.credential_version(id).await?;
        if now.is_some_and(|now| in_era(era, &now) == old.version) {
            return Ok(Some(old.clone()));
        }
    }
    let Some(secret) = store.credential(id).await? else {
        return Ok(None);
    };
    // Checking an RSA key takes a millisecond or more.
    let read = tokio::task::spawn_blocking(move || x509(&secret, era)).await;
    let credential = read.map_err(|e| BookError::Credential(e.to_string()))??;
    Ok(Some(Arc::new(credential)))
}

#[derive(Deserialize)]
struct X509Secret {
    key: Option<Zeroizing<String>>,
    cert: Option<Zeroizing<String>>,
    ca: Option<String>,
}

fn in_era(era: u64, version: &Version) -> Version {
    Version([&era.to_be_bytes()[..], &version.0].concat())
}

/// A credential of SORACOM's type `x509`.
fn x509(stored: &CredentialSecret, era: u64) -> Result<Credential, BookError> {
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
        version: in_era(era, &stored.summary.version),
        identity,
        authorities: authorities.transpose()?,
    })
}
