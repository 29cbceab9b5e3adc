//! `store.key`: the one secret that is not in the database, from a file or from a systemd credential.
//!
//! The file is made with the database, at no other time: a database whose key is missing says so, because a new key would open nothing.
//! A systemd credential is made by the operator. Lengths, modes and places are checked here; what is derived from it is in `seal`.

use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{StoreConfig, StoreError};
use crate::files::{SECRET, read_small};

/// Bytes of a key that is made here, and the fewest that are taken: the strength of what is derived from it.
pub const KEY_LEN: usize = 32;
/// Largest key file that is read, in bytes.
const KEY_FILE_MAX: u64 = 4_096;
/// Where systemd says that the decrypted credentials are (systemd.exec(5)).
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The secret itself.
#[derive(Clone)]
pub struct StoreKey(pub(super) Zeroizing<Vec<u8>>);

impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreKey(…)")
    }
}

/// Where the key is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// `store.key_file`.
    File(PathBuf),
    /// `store.key_credential`, a file that systemd makes for the service alone.
    Credential(PathBuf),
}

impl KeyPlace {
    /// The place that the configuration names.
    ///
    /// # Errors
    /// [`StoreError::Key`] when systemd gave this process no credentials.
    pub fn of(settings: &StoreConfig) -> Result<Self, StoreError> {
        match (&settings.key_credential, &settings.key_file) {
            (Some(name), _) => match std::env::var_os(DIRECTORY).filter(|d| !d.is_empty()) {
                Some(directory) => Ok(Self::Credential(PathBuf::from(directory).join(name))),
                None => Err(StoreError::Key(format!(
                    "store.key_credential names the systemd credential {name:?}, but systemd gave this process none \
                     (${DIRECTORY} is not set): run it by systemd with LoadCredentialEncrypted={name} \
                     ('onyx-gateway store --help' has the line for commands), or name a store.key_file"
                ))),
            },
            (None, Some(path)) => Ok(Self::File(path.clone())),
            (None, None) => Err(StoreError::Key(
                "neither store.key_file nor store.key_credential is set".to_owned(),
            )),
        }
    }

    /// The file, whoever made it.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Credential(path) => path,
        }
    }

    /// Reads the key; `None` when there is no file.
    ///
    /// # Errors
    /// [`StoreError::Key`]: unreadable, readable by others, or too short.
    pub fn read(&self) -> Result<Option<StoreKey>, StoreError> {
        let path = self.path();
        let shown = path.display();
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::Key(format!("cannot read the store's key {shown}: {e}"))),
        };
        let mode = meta.permissions().mode() & 0o777;
        // systemd makes credentials 0400 or 0440 in a directory that only the service can enter.
        if matches!(self, Self::File(_)) && mode & 0o077 != 0 {
            return Err(StoreError::Key(format!(
                "the store's key {shown} may be read by others (mode {mode:03o}): run 'chmod 600 {shown}'"
            )));
        }
        let bytes = read_small(path, KEY_FILE_MAX)
            .map(Zeroizing::new)
            .map_err(|e| StoreError::Key(format!("cannot read the store's key {shown}: {e}")))?;
        if bytes.len() < KEY_LEN {
            return Err(StoreError::Key(format!(
                "the store's key {shown} has {} bytes, at least {KEY_LEN} random ones are needed: restore it from its backup",
                bytes.len()
            )));
        }
        Ok(Some(StoreKey(bytes)))
    }

    /// Makes the key, mode 0600, whole or not at all; one that is there stays, and is read.
    ///
    /// # Errors
    /// [`StoreError::Key`].
    pub fn make(&self) -> Result<StoreKey, StoreError> {
        if let Some(key) = self.read()? {
            return Ok(key);
        }
        let path = self.path();
        let Self::File(_) = self else {
            return Err(StoreError::Key(format!(
                "the systemd credential {} is not there: make it with 'head -c {KEY_LEN} /dev/urandom | systemd-creds encrypt --name=NAME - \
                 /etc/credstore.encrypted/NAME' and add LoadCredentialEncrypted=NAME to the unit",
                path.display()
            )));
        };
        let key = StoreKey::random()?;
        place(path, &key)
            .map_err(|e| StoreError::Key(format!("cannot make the store's key {}: {e}", path.display())))?;
        // Another program may have been first: what lies there counts.
        self.read()?.ok_or_else(|| {
            StoreError::Key(format!(
                "the store's key {} went away while it was made",
                path.display()
            ))
        })
    }
}

impl StoreKey {
    /// A new one.
    ///
    /// # Errors
    /// [`StoreError::Key`] without randomness.
    pub fn random() -> Result<Self, StoreError> {
        let mut bytes = Zeroizing::new(vec![0; KEY_LEN]);
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| StoreError::Key("the operating system gives no random numbers".to_owned()))?;
        Ok(Self(bytes))
    }
}

/// Writes beside the place and links into it: nobody sees half a key, and a key that is there is never overwritten.
fn place(path: &Path, key: &StoreKey) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Threads of one process may make it at once, and must not have the same file.
    static MADE: AtomicU32 = AtomicU32::new(0);
    let n = MADE.fetch_add(1, Relaxed);
    let temporary = directory.join(format!(".{name}.{}.{n}.tmp", std::process::id()));
    let written = (|| {
        let _ = std::fs::remove_file(&temporary);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(SECRET)
            .open(&temporary)?;
        file.write_all(&key.0)?;
        file.sync_all()?;
        crate::files::give_to_owner_of_directory(&temporary)?;
        match std::fs::hard_link(&temporary, path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => std::fs::File::open(directory)?.sync_all(),
        }
    })();
    let _ = std::fs::remove_file(&temporary);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_private_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let place = KeyPlace::File(dir.path().join("store.key"));
        assert!(place.read().unwrap().is_none());
        let made = place.make().unwrap();
        assert_eq!(made.0.len(), KEY_LEN);
        assert_eq!(*place.make().unwrap().0, *made.0, "the second call finds the first's");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(place.path()), 0o600);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o640)).unwrap();
        assert!(place.read().unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(place.path(), "short").unwrap();
        assert!(place.read().unwrap_err().to_string().contains("has 5 bytes"));
        let missing = KeyPlace::Credential(dir.path().join("nobody"));
        assert!(
            missing
                .make()
                .unwrap_err()
                .to_string()
                .contains("systemd-creds encrypt")
        );
        assert!(!format!("{made:?}").contains(&made.0[0].to_string()) || !format!("{made:?}").contains('['));
    }

    #[test]
    fn many_makers_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let place = KeyPlace::File(dir.path().join("store.key"));
        let keys: Vec<_> = std::thread::scope(|s| {
            let makers: Vec<_> = (0..4).map(|_| s.spawn(|| place.make().map(|k| k.0.to_vec()))).collect();
            makers.into_iter().map(|m| m.join().unwrap()).collect()
        });
        let keys: Vec<_> = keys.into_iter().map(Result::unwrap).collect();
        assert!(keys.iter().all(|k| *k == keys[0] && k.len() == KEY_LEN));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
