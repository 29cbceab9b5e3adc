//! A SIM's key on disk: `<state_dir>/credentials/soracom-key-<imsi>.json`, 0600, one for each SIM, replaced whole or not at all.
//!
//! The key is good at the endpoint that made it (that it is good at another one is not known), so the file names it. A file that cannot be
//! read, or is for another SIM or endpoint, is no key: another one is made and takes its place.
//!
//! With `credentials.encrypt_with` what is written is [sealed](crate::provision::seal), under the same name; a plain file from before is
//! read and sealed when a key is written next. A file that is sealed under a key that is not here is no key either, but it is not
//! replaced: whoever has the sealing key can still read it. And nothing is written in plain where encryption is wanted and impossible.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Key;
use crate::files::{SECRET, read_small, write_atomically};
use crate::identity::Imsi;
use crate::provision::krypton::segment::Segment;
use crate::provision::seal::{OpenError, Seal, SealError};

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 4 * 1024;
/// The version of [`Kept`] that is written and read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    version: u32,
    endpoint: String,
    imsi: String,
    key_id: Segment,
    /// 16 bytes in base64.
    ck: Zeroizing<String>,
}

/// In which form a key is written.
#[derive(Debug, Clone)]
pub enum Form {
    /// As it is.
    Plain,
    /// Sealed.
    Sealed(Seal),
    /// It should be sealed, and cannot be.
    Unable(SealError),
}

impl From<Option<&Seal>> for Form {
    fn from(seal: Option<&Seal>) -> Self {
        seal.map_or(Self::Plain, |seal| Self::Sealed(seal.clone()))
    }
}

impl From<Result<Option<Seal>, SealError>> for Form {
    fn from(configured: Result<Option<Seal>, SealError>) -> Self {
        configured.map_or_else(Self::Unable, |seal| Self::from(seal.as_ref()))
    }
}

/// Where a SIM's key is kept.
#[derive(Clone)]
pub struct Cache {
    path: PathBuf,
    endpoint: String,
    imsi: Imsi,
    form: Form,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The path holds the IMSI.
        write!(f, "Cache({:?})", self.imsi)
    }
}

impl Cache {
    /// The place below `state_dir`; nothing is touched yet. `endpoint` is the scheme and host of the service.
    #[must_use]
    pub fn new(state_dir: &Path, endpoint: String, imsi: &Imsi, form: Form) -> Self {
        Self {
            path: state_dir.join("credentials").join(format!("soracom-key-{imsi}.json")),
            endpoint,
            imsi: imsi.clone(),
            form,
        }
    }

    /// What is authenticated with a sealed key: what it is, and whose.
    fn about(&self) -> String {
        format!("soracom key\n{}", self.imsi)
    }

    /// Opens what is sealed, passes on what is not.
    fn clear(&self, content: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        match &self.form {
            _ if !Seal::is_sealed(&content) => Ok(content),
            Form::Sealed(seal) => seal.open(&content, &self.about()),
            Form::Plain | Form::Unable(_) => Err(OpenError::OtherKey),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key, if there is one for this SIM and this endpoint.
    #[must_use]
    pub fn load(&self) -> Option<Key> {
        let content = Zeroizing::new(read_small(&self.path, FILE_MAX).ok()?);
        let text = self.clear(content).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        let fits = kept.version == VERSION && kept.endpoint == self.endpoint && kept.imsi == self.imsi.as_str();
        let bytes = Zeroizing::new(STANDARD.decode(kept.ck.as_bytes()).ok()?);
        let ck: [u8; 16] = bytes.as_slice().try_into().ok()?;
        fits.then(|| Key::new(self.imsi.clone(), kept.key_id, ck))
    }

    /// Keeps a key. What root makes belongs to whom the directory above belongs to.
    ///
    /// # Errors
    /// From the file system; also when the key should be sealed and cannot be, or would replace one that is sealed under another key.
    pub fn save(&self, key: &Key) -> io::Result<()> {
        if let Ok(there) = read_small(&self.path, FILE_MAX) {
            if matches!(self.clear(Zeroizing::new(there)), Err(OpenError::OtherKey)) {
                return Err(io::Error::other(format!(
                    "{} is encrypted with a key that is not here: give the systemd credential of credentials.encrypt_with, or remove it \
                     with 'onyx-agent credentials forget'",
                    self.path.display()
                )));
            }
        }
        let kept = Kept {
            version: VERSION,
            endpoint: self.endpoint.clone(),
            imsi: self.imsi.to_string(),
            key_id: key.id.clone(),
            ck: Zeroizing::new(STANDARD.encode(*key.ck)),
        };
        // Never grows: no copy of the key stays behind.
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_MAX as usize));
        serde_json::to_writer(&mut *text, &kept)?;
        let content = match &self.form {
            Form::Plain => text,
            Form::Sealed(seal) => {
                let sealed = seal.seal(&text, &self.about());
                Zeroizing::new(sealed.map_err(|e| io::Error::other(e.to_string()))?)
            }
            Form::Unable(e) => return Err(io::Error::other(format!("{e}; {}", e.cure()))),
        };
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let missing: Vec<&Path> = directory.ancestors().take_while(|p| !p.exists()).collect();
        let above = missing.last().map_or(Some(directory), |top| top.parent());
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        write_atomically(&self.path, &content, SECRET)?;
        if nix::unistd::geteuid().is_root() {
            // A relative path's top has the parent "", which is the working directory.
            let above = above.filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let owner = std::fs::metadata(above)?;
            for path in missing.into_iter().chain([self.path.as_path()]) {
                lchown(path, Some(owner.uid()), Some(owner.gid()))?;
            }
        }
        Ok(())
    }

    /// Forgets the key.
    ///
    /// # Errors
    /// From the file system; that there was none is no error.
    pub fn forget(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
