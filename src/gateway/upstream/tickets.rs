//! One TLS client configuration for each upstream, credential and version.
//!
//! A rustls `ClientConfig` holds the session tickets; a ticket resumes the session, and with it the identity, it was given for. A
//! gateway that shares tickets between devices (nginx with its default session reuse does) makes one device appear as another. So each
//! credential has its own configuration with its own ticket store for each upstream it is used with, and a new version drops the old
//! configuration, tickets included.
//!
//! What they share is what costs memory and time and tells nobody apart: the authorities, read and parsed once for each place (and once
//! for each private set of authorities that credentials bring along). Files are read outside of the lock: a connect that finds all it
//! needs never waits for one that reads.
//!
//! Bounded by [`ENTRIES_MAX`]: beyond it, the one that was not used for longest goes; that costs a full handshake and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use rustls::{ClientConfig, RootCertStore};

use crate::clock::Clock;
use crate::files::read_small;
use crate::gateway::book::FILE_MAX;
use crate::gateway::credential::{Credential, CredentialId, Version};
use crate::gateway::group::{Trust, Upstream};
use crate::tls::{self, TlsError, Versions};

/// Most configurations that are kept.
pub const ENTRIES_MAX: usize = 100_000;
/// Most places, each with its authorities, that are kept; beyond it all are forgotten and come again as they are needed.
pub const PLACES_MAX: usize = 1_000;

/// All of an upstream that matters to TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    host: String,
    port: u16,
    address: Option<String>,
    trust: Trust,
    versions: Versions,
    alpn: Option<String>,
    /// Authorities that a credential brought along, as a set.
    private: Option<Vec<Vec<u8>>>,
}

impl Place {
    fn of(upstream: &Upstream, credential: Option<&Credential>) -> Self {
        let private = credential.and_then(|c| c.authorities.as_ref());
        Self {
            host: upstream.host.clone(),
            port: upstream.port,
            address: upstream.address.clone(),
            trust: match private {
                Some(_) => Trust::System,
                None => upstream.trust.clone(),
            },
            versions: upstream.versions,
            alpn: super::alpn(upstream).map(str::to_owned),
            private: private.map(fingerprint),
        }
    }
}

/// What tells one set of authorities from another: names and keys, in order.
fn fingerprint(roots: &RootCertStore) -> Vec<Vec<u8>> {
    let one = |a: &rustls_pki_types::TrustAnchor<'_>| {
        let constraints = a.name_constraints.as_ref().map_or(&[][..], |c| c.as_ref());
        let parts = [a.subject.as_ref(), a.subject_public_key_info.as_ref(), constraints];
        parts.concat()
    };
    let mut all: Vec<_> = roots.roots.iter().map(one).collect();
    all.sort();
    all
}

/// How to be a client of a place without a certificate, once the authorities are read.
type Base = Arc<Mutex<Option<Arc<ClientConfig>>>>;
/// A place's number, and who goes there.
type Key = (u32, Option<CredentialId>);

#[derive(Debug)]
struct Entry {
    version: Option<Version>,
    config: Arc<ClientConfig>,
    used: u64,
}

#[derive(Debug, Default)]
struct Kept {
    places: HashMap<Place, (u32, Base)>,
    entries: HashMap<Key, Entry>,
    /// Who was used when, the longest ago first.
    order: BTreeMap<u64, Key>,
    turn: u64,
    /// Counts how often all was forgotten.
    era: u64,
}

impl Kept {
    fn place(&mut self, place: Place) -> (u32, Base) {
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&place) {
            self.forget();
        }
        let next = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let (number, base) = self.places.entry(place).or_insert_with(|| (next, Base::default()));
        (*number, base.clone())
    }

    fn forget(&mut self) {
        *self = Self {
            turn: self.turn,
            era: self.era + 1,
            ..Self::default()
        };
    }

    /// The configuration of that version, as used now; one of another version is dropped.
    fn find(&mut self, key: &Key, version: Option<&Version>) -> Option<Arc<ClientConfig>> {
        let entry = self.entries.get_mut(key)?;
        if entry.version.as_ref() != version {
            let old = self.entries.remove(key)?;
            self.order.remove(&old.used);
            return None;
        }
        self.turn += 1;
        self.order.remove(&entry.used);
        self.order.insert(self.turn, key.clone());
        entry.used = self.turn;
        Some(entry.config.clone())
    }

    fn insert(&mut self, key: Key, version: Option<Version>, config: Arc<ClientConfig>, max: usize) {
        while self.entries.len() >= max {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            self.entries.remove(&oldest);
        }
        self.turn += 1;
        let used = self.turn;
        self.order.insert(used, key.clone());
        self.entries.insert(key, Entry { version, config, used });
    }
}

/// All configurations of a gateway.
#[derive(Debug)]
pub struct Tickets {
    clock: Clock,
    max: usize,
    kept: Mutex<Kept>,
}

impl Tickets {
    /// None yet.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            max: ENTRIES_MAX,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration for a credential at an upstream, if no file need be read for it.
    #[must_use]
    pub fn ready(&self, upstream: &Upstream, credential: Option<&Credential>) -> Option<Arc<ClientConfig>> {
        self.get(upstream, credential, |base| {
            let base = match base.try_lock() {
                Ok(base) => base,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Err(String::new()),
            };
            base.clone().ok_or_else(String::new)
        })
        .ok()
    }

    /// The configuration for a credential at an upstream. May read files (authorities): call it off the async threads, unless
    /// [`Self::ready`] has it.
    ///
    /// # Errors
    /// A sentence about the authorities, or about TLS itself.
    pub fn config(&self, upstream: &Upstream, credential: Option<&Credential>) -> Result<Arc<ClientConfig>, String> {
        self.get(upstream, credential, |base| {
            let mut base = base.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(base) = &*base {
                return Ok(base.clone());
            }
            let roots = match credential.and_then(|c| c.authorities.clone()) {
                Some(roots) => roots,
                None => roots(&upstream.trust)?,
            };
            let made = self.client(upstream, roots).map_err(|e| e.to_string())?;
            Ok(base.insert(made).clone())
        })
    }

    fn get(
        &self,
        upstream: &Upstream,
        credential: Option<&Credential>,
        base_of: impl FnOnce(&Base) -> Result<Arc<ClientConfig>, String>,
    ) -> Result<Arc<ClientConfig>, String> {
        let place = Place::of(upstream, credential);
        let version = credential.map(|c| &c.version);
        let (key, base, era) = {
            let mut kept = self.kept();
            let (number, base) = kept.place(place);
            let key = (number, credential.map(|c| c.id.clone()));
            if let Some(config) = kept.find(&key, version) {
                return Ok(config);
            }
            (key, base, kept.era)
        };
        let base = base_of(&base)?;
        let config = match credential {
            Some(credential) => tls::for_identity(&base, &credential.identity),
            None => base,
        };
        let mut kept = self.kept();
        if kept.era != era {
            // All was forgotten meanwhile: this one serves its caller, and nobody after.
            return Ok(config);
        }
        // Two devices of one credential may come at once: the first one's configuration stays, with its tickets.
        if let Some(first) = kept.find(&key, version) {
            return Ok(first);
        }
        kept.insert(key, version.cloned(), config.clone(), self.max);
        Ok(config)
    }

    /// Forgets all of them (a reload: authorities may have changed).
    pub fn clear(&self) {
        self.kept().forget();
    }

    fn client(&self, upstream: &Upstream, roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
        let alpn: Vec<&str> = super::alpn(upstream).into_iter().collect();
        tls::Client {
            identity: None,
            roots,
            versions: upstream.versions,
            alpn: &alpn,
        }
        .build(&self.clock)
    }
}

/// Reads the authorities.
///
/// # Errors
/// A sentence.
pub fn roots(trust: &Trust) -> Result<RootCertStore, String> {
    match trust {
        Trust::System => tls::system_roots().map_err(|e| e.to_string()),
        Trust::File(path) => {
            let pem = read_small(path, FILE_MAX).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            tls::roots(&pem, &path.display().to_string()).map_err(|e| e.to_string())
        }
        Trust::Pem(pem) => tls::roots(pem.as_bytes(), "the group's authorities").map_err(|e| e.to_string()),
    }
}

#[cfg(all(test, feature = "bench"))]
#[path = "tickets_tests.rs"]
mod tests;
