//! Credentials: where they come from, how they are kept.
//!
//! - [`krypton`]: SORACOM Krypton's answers, read without I/O; [`fetch`] asks for them over HTTPS.
//! - [`store`]: the sets on disk, one directory per source and SIM, each set complete or not there.
//! - [`operator`]: certificate and key files that the operator brings.
//!
//! All of them end in [`Credentials`], which are known to be usable: the key fits the certificate, and the authority can be read.

pub mod fetch;
pub mod krypton;
pub mod operator;
pub mod store;

use std::time::Duration;

use rustls::RootCertStore;
use zeroize::Zeroizing;

use crate::identity::ClientId;
use crate::tls::{self, Identity, TlsError};

/// What a provisioning service grants: everything a device needs to connect.
#[derive(Clone)]
pub struct Grant {
    /// The broker's host name.
    pub host: String,
    /// The device id or thing name, which is the client id there.
    pub client_id: ClientId,
    /// Certificate chain, leaf first.
    pub certificate_pem: String,
    /// Private key; never printed.
    pub private_key_pem: Zeroizing<String>,
    /// The authority of the broker's certificate; `None` trusts the system's.
    pub root_ca_pem: Option<String>,
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
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("there are none for this SIM"),
            Self::Damaged(why) => write!(f, "those on disk are damaged: {why}"),
            Self::Forbidden(why) => write!(f, "those on disk may not be read: {why}"),
            Self::OtherSim => f.write_str("those on disk belong to another SIM"),
            Self::Expired { since } => write!(f, "the certificate expired on {}", crate::clock::rfc3339(*since)),
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
            identity: Identity::from_pem(self.certificate_pem.as_bytes(), self.private_key_pem.as_bytes(), what)?,
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
