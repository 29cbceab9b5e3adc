//! Certificate and key that the operator puts on the device, for clouds that Krypton does not serve (Event Grid) or fleets with their
//! own authority. The paths may hold `#{imsi}` and its kin, so that one image serves every SIM.

use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Credentials, Unusable};
use crate::config::agent::Files;
use crate::files::read_small;
use crate::identity::{NameTemplate, Subscriber};
use crate::tls::{self, Identity};

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 256 * 1024;

/// Why the files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// A file cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// They can be read, but not used.
    #[error("{0}")]
    Unusable(String),
}

impl Files {
    /// The paths for a subscriber.
    ///
    /// # Errors
    /// When a template needs a number that is not known.
    pub fn paths(&self, who: &Subscriber) -> Result<(PathBuf, PathBuf), FilesError> {
        let fill = |t: &NameTemplate| {
            t.fill(who)
                .map(PathBuf::from)
                .map_err(|e| FilesError::Unusable(e.to_string()))
        };
        Ok((fill(&self.certificate)?, fill(&self.key)?))
    }

    /// Reads and checks the files. `ca_pem` is the broker's authority, `None` trusts the system's.
    ///
    /// # Errors
    /// [`FilesError`], naming the file.
    pub fn load(&self, who: &Subscriber, ca_pem: Option<&[u8]>, now: Duration) -> Result<Credentials, FilesError> {
        let (certificate, key) = self.paths(who)?;
        let chain = read_limited(&certificate)?;
        let key_pem = Zeroizing::new(read_limited(&key)?);
        let unusable = |e: tls::TlsError| FilesError::Unusable(e.to_string());
        let what = format!("{} and {}", certificate.display(), key.display());
        let credentials = Credentials {
            identity: Identity::from_pem(&chain, &key_pem, &what).map_err(unusable)?,
            roots: match ca_pem {
                Some(pem) => tls::roots(pem, "session.ca_file").map_err(unusable)?,
                None => tls::system_roots().map_err(unusable)?,
            },
            host: None,
            client_id: None,
        };
        credentials
            .check_time(now)
            .map_err(|e: Unusable| FilesError::Unusable(format!("{what}: {e}")))?;
        Ok(credentials)
    }
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
