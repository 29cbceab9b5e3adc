//! One TLS client configuration for each upstream, credential and version.
//!
//! A rustls `ClientConfig` holds the session tickets; a ticket resumes the session, and with it the identity, it was given for. A
//! gateway that shares tickets between devices (nginx with its default session reuse does) makes one device appear as another. So each
//! credential has its own configuration with its own ticket store for each upstream it is used with, and a new version drops the old
//! configuration, tickets included.
//!
//! Bounded by [`ENTRIES_MAX`]: beyond it, those that were not used for longest go; that costs a full handshake and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;

use crate::clock::Clock;
use crate::files::read_small;
use crate::gateway::book::FILE_MAX;
use crate::gateway::credential::{Credential, CredentialId, Version};
use crate::gateway::group::{Trust, Upstream};
use crate::tls::{self, TlsError, Versions};

/// Most configurations that are kept.
pub const ENTRIES_MAX: usize = 100_000;

/// All of an upstream that matters to TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    host: String,
    port: u16,
    address: Option<String>,
    trust: Trust,
    versions: Versions,
    alpn: Option<String>,
}

impl Place {
    fn of(upstream: &Upstream) -> Self {
        Self {
            host: upstream.host.clone(),
            port: upstream.port,
            address: upstream.address.clone(),
            trust: upstream.trust.clone(),
            versions: upstream.versions,
            alpn: upstream.alpn.clone(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    version: Option<Version>,
    config: Arc<ClientConfig>,
    used: u64,
}

#[derive(Debug, Default)]
struct Kept {
    /// How to be a client of a place without a certificate: the authorities are loaded once.
    bases: HashMap<Place, Arc<ClientConfig>>,
    entries: HashMap<(Place, Option<CredentialId>), Entry>,
    turn: u64,
}

/// All configurations of a gateway.
#[derive(Debug)]
pub struct Tickets {
    clock: Clock,
    kept: Mutex<Kept>,
}

impl Tickets {
    /// None yet.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            kept: Mutex::default(),
        }
    }

    /// The configuration for a credential at an upstream. May read files (authorities): call it off the async threads.
    ///
    /// # Errors
    /// A sentence about the authorities, or about TLS itself.
    pub fn config(&self, upstream: &Upstream, credential: Option<&Credential>) -> Result<Arc<ClientConfig>, String> {
        let place = Place::of(upstream);
        let key = (place, credential.map(|c| c.id.clone()));
        let version = credential.map(|c| c.version.clone());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.turn += 1;
        let turn = kept.turn;
        if let Some(entry) = kept.entries.get_mut(&key).filter(|e| e.version == version) {
            entry.used = turn;
            return Ok(entry.config.clone());
        }
        kept.entries.remove(&key);
        let config = match credential.and_then(|c| c.authorities.clone()) {
            Some(roots) => self.client(upstream, roots, credential).map_err(|e| e.to_string())?,
            None => {
                let base = match kept.bases.get(&key.0) {
                    Some(base) => base.clone(),
                    None => {
                        let roots = roots(&upstream.trust)?;
                        let base = self.client(upstream, roots, None).map_err(|e| e.to_string())?;
                        kept.bases.insert(key.0.clone(), base.clone());
                        base
                    }
                };
                match credential {
                    Some(credential) => tls::for_identity(&base, &credential.identity),
                    None => base,
                }
            }
        };
        if kept.entries.len() >= ENTRIES_MAX {
            let oldest = kept.entries.iter().min_by_key(|(_, e)| e.used).map(|(k, _)| k.clone());
            if let Some(oldest) = oldest {
                kept.entries.remove(&oldest);
            }
        }
        let entry = Entry {
            version,
            config: config.clone(),
            used: turn,
        };
        kept.entries.insert(key, entry);
        Ok(config)
    }

    /// Forgets all of them (a reload: authorities may have changed).
    pub fn clear(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }

    fn client(
        &self,
        upstream: &Upstream,
        roots: rustls::RootCertStore,
        credential: Option<&Credential>,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let alpn: Vec<&str> = upstream.alpn.as_deref().into_iter().collect();
        tls::Client {
            identity: credential.map(|c| &c.identity),
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
pub fn roots(trust: &Trust) -> Result<rustls::RootCertStore, String> {
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
