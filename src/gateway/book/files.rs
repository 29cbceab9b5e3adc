//! A book in files: subscribers stand in `gateway.toml`, credentials lie in a folder.
//!
//! A credential `ID` is `ID.pem` (the certificate, then any intermediates), `ID.key` (its private key) and, if upstream is behind a
//! private authority, `ID.ca.pem`. The folder is flat and the names are those that SORACOM's Event Grid guide gives its files. The files'
//! state (device, inode, length, modification and change time) is read before and after their content: a rotation in between is read
//! again, and the state is the credential's version.
//!
//! The cache holds at most one entry for each credential id, and ids come from the subscriber list alone, so it is bounded by it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use zeroize::Zeroizing;

use super::{BookError, View};
use crate::files::read_small;
use crate::gateway::config::FilesConfig;
use crate::gateway::credential::{Credential, CredentialId, Version};
use crate::gateway::group::read_files;
use crate::gateway::subscriber::{Directory, Known, Secret, Token, TokenError};
use crate::tls::{self, Identity, TlsError};

/// Largest certificate, key or CA file that is read, in bytes.
pub const FILE_MAX: u64 = 1 << 20;
/// How often a credential is read again because it changed while it was read.
const REREADS: usize = 3;

/// Why a credential of the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
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
    /// Neither certificate nor key is there.
    #[error("there is no such credential")]
    Absent,
    /// It changed each time it was looked at.
    #[error("the files of {0} keep changing while they are read: put new ones in place with a rename")]
    Changing(String),
    /// The task that read it is gone.
    #[error("the files of a credential could not be read: {0}")]
    Task(String),
}

/// Paths of a credential's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Certificate and intermediates.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Private authorities of upstream; may be absent.
    pub ca: PathBuf,
}

impl Paths {
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

    fn are_absent(&self) -> bool {
        let absent =
            |path: &Path| matches!(std::fs::symlink_metadata(path), Err(e) if e.kind() == std::io::ErrorKind::NotFound);
        absent(&self.certificate) && absent(&self.key)
    }

    /// What tells one state of the files from the next.
    fn state(&self) -> Version {
        let mut out = Vec::new();
        for path in [&self.certificate, &self.key, &self.ca] {
            match std::fs::metadata(path) {
                Err(_) => out.push(0),
                Ok(m) => {
                    out.push(1);
                    for n in [m.dev(), m.ino(), m.len()] {
                        out.extend_from_slice(&n.to_be_bytes());
                    }
                    for n in [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()] {
                        out.extend_from_slice(&n.to_be_bytes());
                    }
                }
            }
        }
        Version(out)
    }

    /// Reads and checks all three.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn load(&self) -> Result<(Identity, Option<RootCertStore>), FolderError> {
        let certificate = read(&self.certificate)?;
        let key = read(&self.key)?;
        let identity = Identity::from_pem(&certificate, &key, &self.certificate.display().to_string())?;
        let roots = match read(&self.ca) {
            Ok(pem) => Some(tls::roots(&pem, &self.ca.display().to_string())?),
            Err(FolderError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        Ok((identity, roots))
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FolderError> {
    read_small(path, FILE_MAX)
        .map(Zeroizing::new)
        .map_err(|source| FolderError::Unreadable {
            path: path.to_owned(),
            source,
        })
}

/// Reads the tokens and the groups' files, and builds the view.
///
/// # Errors
/// [`BookError`]: the first subscriber whose token cannot be used, or every mistake in the groups' files.
pub fn view(config: &FilesConfig) -> Result<View, BookError> {
    let mut seen = HashSet::new();
    let mut all = Vec::with_capacity(config.subscribers.len());
    for rule in &config.subscribers {
        let token = rule.token_file.as_deref().map(Token::read).transpose()?;
        if let (Some(token), Some(path)) = (&token, &rule.token_file) {
            if !seen.insert(token.clone()) {
                return Err(TokenError::Twice { path: path.clone() }.into());
            }
        }
        all.push(Known {
            subscriber: rule.subscriber.clone(),
            group: rule.group.clone(),
            enabled: rule.enabled,
            imei_lock: rule.imei_lock,
            source: rule.source,
            token: token.map(Secret::Token),
            certificate: rule.certificate,
        });
    }
    let (read, warnings) = read_files(&config.group_files).map_err(|(group, why)| BookError::Group { group, why })?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let groups = config.groups.iter().cloned().chain(read);
    Ok(View {
        directory: Arc::new(Directory::new(all)),
        groups: groups.map(|g| (g.id.clone(), Arc::new(g))).collect(),
        broken: BTreeMap::new(),
        closed: None,
    })
}

/// A book in files.
#[derive(Debug)]
pub struct Files {
    now: Mutex<(PathBuf, Arc<View>)>,
    cache: Arc<Mutex<HashMap<CredentialId, Arc<Credential>>>>,
}

impl Files {
    pub(super) fn open(config: FilesConfig) -> Result<Self, BookError> {
        let view = view(&config)?;
        Ok(Self {
            now: Mutex::new((config.folder, Arc::new(view))),
            cache: Arc::default(),
        })
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    pub(super) fn reload(&self, config: FilesConfig) -> Result<(), BookError> {
        let view = view(&config)?;
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = (config.folder, Arc::new(view));
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    pub(super) async fn credential(&self, id: &CredentialId) -> Result<Option<Arc<Credential>>, BookError> {
        let folder = self.now.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
        let (cache, id) = (self.cache.clone(), id.clone());
        let looking = tokio::task::spawn_blocking(move || load(&cache, &folder, &id));
        match looking.await {
            Ok(Ok(found)) => Ok(Some(found)),
            Ok(Err(FolderError::Absent)) => Ok(None),
            Ok(Err(e)) => Err(e.into()),
            Err(e) => Err(FolderError::Task(e.to_string()).into()),
        }
    }
}

fn load(
    cache: &Mutex<HashMap<CredentialId, Arc<Credential>>>,
    folder: &Path,
    id: &CredentialId,
) -> Result<Arc<Credential>, FolderError> {
    let paths = Paths::of(folder, id);
    let cached = |version: &Version| {
        let cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(id).filter(|c| c.version == *version).cloned()
    };
    for _ in 0..REREADS {
        let version = paths.state();
        if let Some(known) = cached(&version) {
            return Ok(known);
        }
        let loaded = paths.load();
        if paths.state() != version {
            continue;
        }
        // Two devices of one credential may come at once: the first one's object stays.
        if let Some(known) = cached(&version) {
            return Ok(known);
        }
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.remove(id);
        // Half a credential is a broken one, and no reason to be somebody else.
        let (identity, authorities) = loaded.map_err(|e| if paths.are_absent() { FolderError::Absent } else { e })?;
        let credential = Arc::new(Credential {
            id: id.clone(),
            version,
            identity,
            authorities,
        });
        cache.insert(id.clone(), credential.clone());
        return Ok(credential);
    }
    Err(FolderError::Changing(id.redacted()))
}
