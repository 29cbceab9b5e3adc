//! Certificate and key that the operator puts on the device, for clouds that Krypton does not serve (Event Grid) or fleets with their
//! own authority. The paths may hold `#{imsi}` and its kin, so that one image serves every SIM.
//!
//! Nobody renews these files and nobody sees the device: what will not work is refused before a broker is asked, by name and with what
//! to do ([`FilesError`]); what works but should be looked at is a [`Remark`], said once in the log and each time by `onyx-agent check`.

mod name;
mod remark;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Credentials, Failure};
use crate::clock::rfc3339;
use crate::config::credentials::Files;
use crate::files::read_small;
use crate::identity::Subscriber;
use crate::tls::{self, Identity, Pem, TlsError};

pub use name::{Proof, proves};
pub use remark::{Remark, remarks};

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 256 * 1024;

/// Why the files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesError {
    /// A file cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// They can be read, but not used.
    Unusable(String),
    /// They do not hold what they should.
    Tls(TlsError),
    /// The certificate is no longer valid.
    Expired {
        /// Its file.
        path: String,
        /// Since when, since the Unix epoch.
        since: Duration,
    },
    /// The certificate proves another name than the one that is needed.
    Name {
        /// What the configuration says, and whom it is for.
        said: String,
        /// What the certificate proves.
        proved: String,
        /// What a person can do.
        cure: String,
    },
}

impl FilesError {
    /// What was found, without what to do.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Unreadable { path, why } => format!("cannot read {}: {why}", path.display()),
            Self::Unusable(why) => why.clone(),
            Self::Tls(e) => e.what(),
            Self::Expired { path, since } => format!("the certificate in {path} expired on {}", rfc3339(*since)),
            Self::Name { said, proved, .. } => format!("{said}, the certificate proves {proved}"),
        }
    }

    /// What a person can do.
    #[must_use]
    pub fn cure(&self) -> String {
        match self {
            Self::Unreadable { .. } => "put the file there, readable by the service's user".to_owned(),
            Self::Unusable(_) => "put a valid certificate and its key where the configuration says".to_owned(),
            Self::Tls(e) => e.cure(),
            Self::Expired { .. } => {
                "nobody renews an operator's files: put a new certificate and its key there (onyx-gateway ca issue --renew makes them)"
                    .to_owned()
            }
            Self::Name { cure, .. } => cure.clone(),
        }
    }
}

impl std::fmt::Display for FilesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable { .. } | Self::Unusable(_) => f.write_str(&self.what()),
            _ => write!(f, "{}: {}", self.what(), self.cure()),
        }
    }
}

impl std::error::Error for FilesError {}

impl From<TlsError> for FilesError {
    fn from(e: TlsError) -> Self {
        Self::Tls(e)
    }
}

impl From<FilesError> for Failure {
    fn from(e: FilesError) -> Self {
        Self {
            cause: crate::identity::redact_digits(&e.what()),
            cure: crate::identity::redact_digits(&e.cure()),
            after: None,
            spent: false,
        }
    }
}

impl Files {
    /// The paths for a subscriber.
    ///
    /// # Errors
    /// When a template needs a number that is not known.
    pub fn paths(&self, who: &Subscriber) -> Result<(PathBuf, PathBuf), FilesError> {
        let fill = |t: &crate::identity::NameTemplate| {
            t.fill(who)
                .map(PathBuf::from)
                .map_err(|e| FilesError::Unusable(e.to_string()))
        };
        Ok((fill(&self.certificate)?, fill(&self.key)?))
    }

    /// Reads and checks the files, and says in the log what should be looked at. `ca_pem` is the broker's authority, `None` trusts the
    /// system's. Reads files: call it off the async threads. Whether the certificate proves the right name is asked with [`proves`],
    /// by who knows which name that is.
    ///
    /// # Errors
    /// [`FilesError`], naming the file.
    pub fn load(&self, who: &Subscriber, ca_pem: Option<&[u8]>, now: Duration) -> Result<Credentials, FilesError> {
        let (certificate, key) = self.paths(who)?;
        let identity = read_pair(&certificate, &key, Some(now))?;
        let from = certificate.display().to_string();
        for remark in remarks(&identity, Some(now), &from) {
            remark.warn_once();
        }
        Ok(Credentials {
            identity,
            roots: match ca_pem {
                Some(pem) => tls::roots(pem, "session.ca_file")?,
                None => tls::system_roots()?,
            },
            host: None,
            client_id: None,
        })
    }
}

/// Reads a certificate and its key, and checks that they fit and, if it is known what time it is, that the certificate is still valid.
/// One that is not valid *yet* is left to TLS, which knows how sure the clock is.
///
/// # Errors
/// [`FilesError`], naming the file.
pub fn read_pair(certificate: &Path, key: &Path, now: Option<Duration>) -> Result<Identity, FilesError> {
    let chain = read_limited(certificate)?;
    let key_pem = Zeroizing::new(read_limited(key)?);
    let (from, key_from) = (certificate.display().to_string(), key.display().to_string());
    let identity = Identity::of(
        Pem {
            text: &chain,
            from: &from,
        },
        Pem {
            text: &key_pem,
            from: &key_from,
        },
    )?;
    let since = identity.leaf.not_after;
    if now.is_some_and(|now| now > since) {
        return Err(FilesError::Expired { path: from, since });
    }
    Ok(identity)
}

/// Reads a file of at most 256 KiB.
///
/// # Errors
/// [`FilesError::Unreadable`].
pub fn read_limited(path: &Path) -> Result<Vec<u8>, FilesError> {
    read_small(path, FILE_MAX).map_err(|e| FilesError::Unreadable {
        path: path.to_owned(),
        why: e.to_string(),
    })
}
