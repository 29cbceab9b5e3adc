//! A SIM's key on disk: `<state_dir>/credentials/soracom-key-<imsi>.json`, 0600, one for each SIM, replaced whole or not at all.
//!
//! The key is good at the endpoint that made it (that it is good at another one is not known), so the file names it. A file that cannot be
//! read, or is for another SIM or endpoint, is no key: another one is made and takes its place.

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

/// Where a SIM's key is kept.
#[derive(Debug, Clone)]
pub struct Cache {
    path: PathBuf,
    endpoint: String,
    imsi: Imsi,
}

impl Cache {
    /// The place below `state_dir`; nothing is touched yet. `endpoint` is the scheme and host of the service.
    #[must_use]
    pub fn new(state_dir: &Path, endpoint: String, imsi: &Imsi) -> Self {
        Self {
            path: state_dir.join("credentials").join(format!("soracom-key-{imsi}.json")),
            endpoint,
            imsi: imsi.clone(),
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
        let text = Zeroizing::new(read_small(&self.path, FILE_MAX).ok()?);
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        let fits = kept.version == VERSION && kept.endpoint == self.endpoint && kept.imsi == self.imsi.as_str();
        let bytes = Zeroizing::new(STANDARD.decode(kept.ck.as_bytes()).ok()?);
        let ck: [u8; 16] = bytes.as_slice().try_into().ok()?;
        fits.then(|| Key::new(self.imsi.clone(), kept.key_id, ck))
    }

    /// Keeps a key. What root makes belongs to whom the directory above belongs to.
    ///
    /// # Errors
    /// From the file system.
    pub fn save(&self, key: &Key) -> io::Result<()> {
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
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let missing: Vec<&Path> = directory.ancestors().take_while(|p| !p.exists()).collect();
        let above = missing.last().map_or(Some(directory), |top| top.parent());
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        write_atomically(&self.path, &text, SECRET)?;
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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_kept_for_its_sim_and_its_endpoint_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let imsi: Imsi = "295012345678901".parse().unwrap();
        let cache = Cache::new(&state, "https://g.api.soracom.io".into(), &imsi);
        assert!(cache.load().is_none() && cache.forget().is_ok());
        let key = Key::new(imsi.clone(), Segment::try_from("k-1".to_owned()).unwrap(), [7; 16]);
        cache.save(&key).unwrap();
        assert_eq!(cache.load(), Some(key.clone()));
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(cache.path()), mode(&state)), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(state.join("credentials")).unwrap().count(), 1);
        let elsewhere = Cache::new(&state, "https://api.soracom.io".into(), &imsi);
        assert!(elsewhere.load().is_none());
        let other: Imsi = "295012345678902".parse().unwrap();
        let others = Cache::new(&state, "https://g.api.soracom.io".into(), &other);
        assert!(others.load().is_none());
        std::fs::copy(cache.path(), others.path()).unwrap();
        assert!(others.load().is_none(), "the file says whose it is");
        let whole = std::fs::read(cache.path()).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(cache.path(), &whole[..cut]).unwrap();
            assert!(cache.load().is_none(), "{cut}");
        }
        cache.forget().unwrap();
        assert!(cache.load().is_none() && !cache.path().exists());
    }
}
