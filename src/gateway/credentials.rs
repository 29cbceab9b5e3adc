//! The credential folder, and one TLS client configuration for each credential.
//!
//! A credential `ID` is `ID.pem` (the certificate, then any intermediates), `ID.key` (its private key) and, if upstream is behind a
//! private authority, `ID.ca.pem`. The folder is flat and the names are those that SORACOM's Event Grid guide gives its files.
//!
//! **One configuration per credential and version.** A rustls `ClientConfig` holds the session tickets; a ticket resumes the session,
//! and with it the identity, it was given for. A gateway that shares tickets between devices (nginx with its default session reuse
//! does) makes one device appear as another. So each credential has its own configuration with its own ticket store, and when a file
//! of the credential changes (inode, length, modification or change time), the configuration is made anew and the old one, tickets
//! included, is dropped. The files' state is read before and after their content: a rotation in between is read again.
//!
//! The cache holds at most one entry for each credential id, and ids come from the subscriber list alone, so it is bounded by it.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::config::Upstream;
use crate::clock::Clock;
use crate::files::read_small;
use crate::tls::{self, Identity, TlsError};

/// Largest certificate, key or CA file that is read, in bytes.
pub const FILE_MAX: u64 = 1 << 20;
/// Longest credential id, in characters (with its suffix it must fit a file name of 255 bytes).
const ID_MAX: usize = 128;
/// How often a credential is read again because it changed while it was read.
const REREADS: usize = 3;

/// The name of a credential: a plain file name, never a path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CredentialId(String);

impl CredentialId {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id with long digit runs hidden, for logs.
    #[must_use]
    pub fn redacted(&self) -> String {
        crate::identity::redact_digits(&self.0)
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialId({})", self.redacted())
    }
}

impl FromStr for CredentialId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let problem = if text.is_empty() {
            "is empty"
        } else if text.chars().count() > ID_MAX || text.len() > 240 {
            "is longer than 128 characters"
        } else if text.starts_with('.') {
            "begins with '.'"
        } else if text.contains(['/', '\\']) || text.chars().any(char::is_control) {
            "has '/', '\\' or control characters, which could lead out of the credential folder"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(format!(
            "the credential id {:?} {problem}",
            crate::identity::redact_digits(text)
        ))
    }
}

/// Why a credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file is missing or cannot be read.
    #[error("cannot read {}: {source}; the credential's files are <id>.pem, <id>.key and optionally <id>.ca.pem", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The content is not usable.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// It changed each time it was looked at.
    #[error("the files of {0} keep changing while they are read: put new ones in place with a rename")]
    Changing(String),
}

impl CredentialError {
    /// What went wrong without the path, which carries the IMSI; for logs.
    #[must_use]
    pub fn redacted(&self) -> String {
        crate::identity::redact_digits(&self.to_string())
    }
}

/// Paths of a credential's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Certificate and intermediates.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Private authorities of upstream; may be absent.
    pub ca: PathBuf,
}

impl Files {
    /// The files of one credential.
    #[must_use]
    pub fn of(folder: &Path, id: &CredentialId) -> Self {
        let file = |suffix: &str| folder.join(format!("{}.{suffix}", id.as_str()));
        Self {
            certificate: file("pem"),
            key: file("key"),
            ca: file("ca.pem"),
        }
    }

    fn state(&self) -> Version {
        Version([&self.certificate, &self.key, &self.ca].map(|p| {
            std::fs::metadata(p).ok().map(|m| {
                (
                    m.dev(),
                    m.ino(),
                    m.len(),
                    (m.mtime(), m.mtime_nsec()),
                    (m.ctime(), m.ctime_nsec()),
                )
            })
        }))
    }

    /// Reads and checks all three.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn load(&self) -> Result<(Identity, Option<RootCertStore>), CredentialError> {
        let certificate = read(&self.certificate)?;
        let key = read(&self.key)?;
        let identity = Identity::from_pem(&certificate, &key, &self.certificate.display().to_string())?;
        let roots = match read(&self.ca) {
            Ok(pem) => Some(tls::roots(&pem, &self.ca.display().to_string())?),
            Err(CredentialError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        Ok((identity, roots))
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    read_small(path, FILE_MAX)
        .map(Zeroizing::new)
        .map_err(|source| CredentialError::Unreadable {
            path: path.to_owned(),
            source,
        })
}

type FileState = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// What tells one state of a credential's files from the next: device, inode, length, modification and change time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version([FileState; 3]);

#[derive(Debug)]
struct Entry {
    version: Version,
    config: Arc<ClientConfig>,
}

/// The folder and what was made of it.
pub struct Credentials {
    folder: PathBuf,
    clock: Clock,
    upstream: Upstream,
    /// How to be a client with the shared authorities and no certificate yet.
    base: Arc<ClientConfig>,
    cache: Mutex<HashMap<CredentialId, Entry>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.folder.display())
    }
}

impl Credentials {
    /// Loads the shared authorities; credentials themselves are loaded when they are needed.
    ///
    /// # Errors
    /// [`CredentialError`] about `upstream.ca_file`.
    pub fn open(folder: &Path, upstream: &Upstream, clock: &Clock) -> Result<Self, CredentialError> {
        let roots = match &upstream.ca_file {
            Some(path) => tls::roots(&read(path)?, &path.display().to_string())?,
            None => tls::system_roots()?,
        };
        Ok(Self {
            folder: folder.to_owned(),
            clock: clock.clone(),
            upstream: upstream.clone(),
            base: client(upstream, roots, None, clock)?,
            cache: Mutex::default(),
        })
    }

    /// The TLS configuration of a credential as its files are now. Reads files: call it off the async threads.
    ///
    /// # Errors
    /// [`CredentialError`]; a broken credential is not replaced by its older version.
    pub fn config(&self, id: &CredentialId) -> Result<Arc<ClientConfig>, CredentialError> {
        let files = Files::of(&self.folder, id);
        for _ in 0..REREADS {
            let version = files.state();
            if let Some(entry) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
                if entry.version == version {
                    return Ok(entry.config.clone());
                }
            }
            let loaded = files.load();
            if files.state() != version {
                continue;
            }
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            // Two devices of one credential may come at once: the first one's tickets stay.
            if let Some(entry) = cache.get(id).filter(|e| e.version == version) {
                return Ok(entry.config.clone());
            }
            cache.remove(id);
            let (identity, roots) = loaded?;
            let config = match roots {
                Some(roots) => client(&self.upstream, roots, Some(&identity), &self.clock)?,
                None => tls::for_identity(&self.base, &identity),
            };
            cache.insert(
                id.clone(),
                Entry {
                    version,
                    config: config.clone(),
                },
            );
            return Ok(config);
        }
        Err(CredentialError::Changing(id.redacted()))
    }
}

fn client(
    upstream: &Upstream,
    roots: RootCertStore,
    identity: Option<&Identity>,
    clock: &Clock,
) -> Result<Arc<ClientConfig>, TlsError> {
    let alpn: Vec<&str> = upstream.alpn.as_deref().into_iter().collect();
    tls::Client {
        identity,
        roots,
        versions: upstream.versions,
        alpn: &alpn,
    }
    .build(clock)
}

#[cfg(all(test, feature = "bench"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::files::{PUBLIC, SECRET, write_atomically};
    use crate::gateway::config::Group;
    use crate::pki::{Authority, Purpose};
    use std::time::Duration;

    const NOW: Duration = crate::clock::FLOOR;
    const DAY: Duration = Duration::from_secs(86_400);

    fn put(dir: &Path, ca: &Authority, id: &str) {
        let issued = ca.issue(id, &Purpose::Device, NOW, DAY).unwrap();
        write_atomically(&dir.join(format!("{id}.pem")), issued.chain_pem.as_bytes(), PUBLIC).unwrap();
        write_atomically(&dir.join(format!("{id}.key")), issued.key_pem.as_bytes(), SECRET).unwrap();
    }

    #[test]
    fn one_configuration_per_credential_and_version() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::generate("T", NOW, DAY).unwrap();
        let ca_file = dir.path().join("upstream.pem");
        write_atomically(&ca_file, ca.root_pem().as_bytes(), PUBLIC).unwrap();
        let mut upstream = Group::for_tests("localhost", "x").upstream;
        upstream.ca_file = Some(ca_file);
        let store = Credentials::open(dir.path(), &upstream, &Clock::new()).unwrap();
        let (a, b): (CredentialId, CredentialId) = ("a".parse().unwrap(), "b".parse().unwrap());
        put(dir.path(), &ca, "a");
        put(dir.path(), &ca, "b");
        let first = store.config(&a).unwrap();
        assert!(
            Arc::ptr_eq(&first, &store.config(&a).unwrap()),
            "tickets are kept between connects"
        );
        assert!(!Arc::ptr_eq(&first, &store.config(&b).unwrap()));
        // Half a rotation: refused, and the old version is not used in its place.
        let other = ca.issue("a", &Purpose::Device, NOW, DAY).unwrap();
        write_atomically(&dir.path().join("a.pem"), other.chain_pem.as_bytes(), PUBLIC).unwrap();
        assert!(matches!(
            store.config(&a),
            Err(CredentialError::Tls(TlsError::Mismatch(_)))
        ));
        write_atomically(&dir.path().join("a.key"), other.key_pem.as_bytes(), SECRET).unwrap();
        let second = store.config(&a).unwrap();
        assert!(
            !Arc::ptr_eq(&first, &second),
            "a rotated credential has its own tickets"
        );
        // A private authority that appears is used, one that is damaged is told.
        write_atomically(&dir.path().join("a.ca.pem"), ca.root_pem().as_bytes(), PUBLIC).unwrap();
        assert!(!Arc::ptr_eq(&second, &store.config(&a).unwrap()));
        write_atomically(&dir.path().join("a.ca.pem"), b"rubbish", PUBLIC).unwrap();
        assert!(store.config(&a).is_err());
        let e = store.config(&"myClient-295012345678901".parse().unwrap()).unwrap_err();
        assert!(
            !e.redacted().contains("295012345678901") && e.redacted().contains("<id>.key"),
            "{}",
            e.redacted()
        );
    }

    #[test]
    fn ids_stay_in_the_folder() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/x",
            ".hidden",
            "a\\b",
            "a\0b",
            "a\nb",
            &"x".repeat(129),
        ] {
            assert!(bad.parse::<CredentialId>().is_err(), "{bad:?}");
        }
        assert!("myClient-295012345678901".parse::<CredentialId>().is_ok());
    }
}
