//! Credentials: where they come from, how they are kept.
//!
//! - [`way`]: asks whom the configuration names: [`krypton`] (SORACOM, by the line or by the SIM), [`dps`] (Azure), [`fleet`] (AWS).
//! - [`store`]: the sets on disk, one directory per source and SIM, each set complete or not there; [`seal`]: encrypted at rest.
//! - [`operator`]: certificate and key files that the operator brings.
//!
//! All of them end in [`Credentials`], which are known to be usable: the key fits the certificate, and the authority can be read.

#[cfg(feature = "agent")]
mod asker;
pub mod dps;
#[cfg(feature = "agent")]
pub mod fleet;
pub mod https;
#[cfg(feature = "agent")]
pub mod keys;
#[cfg(feature = "agent")]
pub mod krypton;
pub mod operator;
#[cfg(feature = "agent")]
pub mod renewal;
#[cfg(feature = "agent")]
pub mod request;
#[cfg(feature = "agent")]
pub mod seal;
#[cfg(feature = "agent")]
pub mod store;
#[cfg(feature = "agent")]
pub mod way;

#[cfg(feature = "agent")]
pub use asker::Asker;

use std::time::Duration;

use rustls::RootCertStore;
use zeroize::Zeroizing;

use crate::identity::ClientId;
use crate::tls::{self, Identity, TlsError};

/// Why no credentials were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened, to what.
    pub cause: String,
    /// What a person can do.
    pub cure: String,
    /// The service wants to be left alone for so long (HTTP's `Retry-After`, DPS's `retry-after`).
    pub after: Option<Duration>,
    /// A certificate was made for us that cannot be used: each further try costs another.
    pub spent: bool,
}

/// What a provisioning service grants: everything a device needs to connect.
#[derive(Clone)]
pub struct Grant {
    /// The broker's host name.
    pub host: String,
    /// The device id or thing name, which is the client id there.
    pub client_id: ClientId,
    /// With which key and certificate.
    pub material: Material,
    /// The authority of the broker's certificate; `None` trusts the system's.
    pub root_ca_pem: Option<String>,
}

/// The key and the certificate of a [`Grant`].
#[derive(Clone)]
pub enum Material {
    /// New ones, which are ours to keep.
    Issued {
        /// Certificate chain, leaf first.
        certificate_pem: String,
        /// Private key; never printed.
        private_key_pem: Zeroizing<String>,
    },
    /// Those of the operator's files, which stay where they are (DPS without a signing request).
    Files {
        /// The chain and key that were shown to the service.
        identity: Identity,
    },
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grant({}, {:?})", self.host, self.client_id)
    }
}

/// Usable credentials.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Key and certificate.
    pub identity: Identity,
    /// Whom to trust.
    pub roots: RootCertStore,
    /// The broker that they are for, when the source says so.
    pub host: Option<String>,
    /// The client id that they are for, when the source says so.
    pub client_id: Option<ClientId>,
}

/// Why credentials on disk are not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// There are none for this SIM.
    Absent,
    /// Files are missing, cannot be read or do not fit each other.
    Damaged(String),
    /// They are there, but this user may not read them: new ones could not be stored there either.
    Forbidden(String),
    /// They are for another SIM.
    OtherSim,
    /// The certificate is no longer valid.
    Expired {
        /// Since when, since the Unix epoch.
        since: Duration,
    },
    /// They were granted to another certificate than that of the operator's files.
    OtherCertificate,
    /// The private key is encrypted, and not with the key that there is. Nothing may be fetched in their place unasked.
    Sealed(String),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("there are none for this SIM"),
            Self::Damaged(why) => write!(f, "those on disk are damaged: {why}"),
            Self::Forbidden(why) => write!(f, "those on disk may not be read: {why}"),
            Self::OtherSim => f.write_str("those on disk belong to another SIM"),
            Self::Expired { since } => write!(f, "the certificate expired on {}", crate::clock::rfc3339(*since)),
            Self::OtherCertificate => {
                f.write_str("those on disk were granted to another certificate than the configured one")
            }
            Self::Sealed(why) => write!(f, "those on disk cannot be decrypted: {why}"),
        }
    }
}

impl Grant {
    /// Checks that the parts fit and can be used.
    ///
    /// # Errors
    /// [`TlsError`], which names the part; `what` says who granted.
    pub fn check(&self, what: &str) -> Result<Credentials, TlsError> {
        Ok(Credentials {
            identity: match &self.material {
                Material::Issued {
                    certificate_pem,
                    private_key_pem,
                } => Identity::from_pem(certificate_pem.as_bytes(), private_key_pem.as_bytes(), what)?,
                Material::Files { identity } => identity.clone(),
            },
            roots: match &self.root_ca_pem {
                Some(pem) => tls::roots(pem.as_bytes(), &format!("the root CA of {what}"))?,
                None => tls::system_roots()?,
            },
            host: Some(self.host.clone()),
            client_id: Some(self.client_id.clone()),
        })
    }
}

impl Credentials {
    /// Whether the certificate is still valid at `now`. A certificate that is not valid *yet* is left to TLS, which knows how sure
    /// the clock is.
    ///
    /// # Errors
    /// [`Unusable::Expired`].
    pub fn check_time(&self, now: Duration) -> Result<(), Unusable> {
        let since = self.identity.leaf.not_after;
        if now > since {
            Err(Unusable::Expired { since })
        } else {
            Ok(())
        }
    }
}
