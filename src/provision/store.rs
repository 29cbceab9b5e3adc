//! Credential sets on disk.
//!
//! ```text
//! <state_dir>/credentials/            0700
//!   krypton-azure-295012345678901/    one directory per source and SIM
//!     set-1/                          a complete set: never changed once it is named by `current`
//!       manifest.json                 whose it is, host, client id
//!       certificate.pem  private.key (0600)  ca.pem
//!     set-2/
//!     current -> set-2                replaced by rename: the old or the new set, never a mixture
//! ```
//!
//! A set is written whole into a new directory and synced before `current` names it, so a crash at any point leaves the old set or
//! the new one. The set before the current one is kept (the last that worked); older ones and unfinished ones are removed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Credentials, Grant, Material, Unusable};
use crate::files::{PUBLIC, SECRET, write_atomically};
use crate::identity::{ClientId, Imsi};

const MANIFEST: &str = "manifest.json";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "private.key";
const CA: &str = "ca.pem";
const CURRENT: &str = "current";
const SET: &str = "set-";
/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Of this format.
    version: u32,
    source: String,
    imsi: String,
    host: String,
    client_id: String,
    /// Seconds since the Unix epoch.
    fetched: u64,
}

/// The version of [`Manifest`] that is written and read.
const VERSION: u32 = 1;

/// The sets of one source and one SIM.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    source: &'static str,
    imsi: Imsi,
}

impl Store {
    /// The store below `state_dir`; nothing is touched yet.
    #[must_use]
    pub fn new(state_dir: &Path, source: &'static str, imsi: &Imsi) -> Self {
        Self {
            directory: state_dir.join("credentials").join(format!("{source}-{imsi}")),
            source,
            imsi: imsi.clone(),
        }
    }

    /// Where the current set is.
    #[must_use]
    pub fn current(&self) -> PathBuf {
        self.directory.join(CURRENT)
    }

    /// The current set, if it can be used at `now` (since the Unix epoch).
    ///
    /// # Errors
    /// [`Unusable`]: why new credentials are needed.
    pub fn load(&self, now: Duration) -> Result<Credentials, Unusable> {
        let set = self.current();
        match fs::symlink_metadata(&set) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Unusable::Absent),
            _ => {}
        }
        let read = |name: &str| read(&set.join(name));
        let manifest: Manifest = serde_json::from_slice(&read(MANIFEST)?).map_err(|e| damaged(MANIFEST, &e))?;
        if manifest.version != VERSION {
            return Err(Unusable::Damaged(format!(
                "{MANIFEST} has version {}, not {VERSION}",
                manifest.version
            )));
        }
        if manifest.imsi != self.imsi.as_str() {
            return Err(Unusable::OtherSim);
        }
        let text = |name: &str| -> Result<Zeroizing<String>, Unusable> {
            let bytes = Zeroizing::new(read(name)?);
            std::str::from_utf8(&bytes)
                .map(|t| Zeroizing::new(t.to_owned()))
                .map_err(|e| damaged(name, &e))
        };
        let ca = text(CA)?;
        let grant = Grant {
            host: manifest.host,
            client_id: ClientId::new(manifest.client_id).map_err(|e| damaged(MANIFEST, &e))?,
            material: Material::Issued {
                certificate_pem: text(CERTIFICATE)?.to_string(),
                private_key_pem: text(KEY)?,
            },
            root_ca_pem: Some(ca.to_string()).filter(|pem| !pem.is_empty()),
        };
        let credentials = grant
            .check(&set.display().to_string())
            .map_err(|e| Unusable::Damaged(e.to_string()))?;
        credentials.check_time(now)?;
        Ok(credentials)
    }

    /// Keeps a new set and makes it the current one. `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// From the file system, with the path; the old set is then still the current one.
    pub fn save(&self, grant: &Grant, now: Duration) -> io::Result<()> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", self.directory.display()));
        self.write_set(grant, now).map_err(named)
    }

    fn write_set(&self, grant: &Grant, now: Duration) -> io::Result<()> {
        let heir = self.heir();
        private_directories(&self.directory)?;
        let kept = fs::read_link(self.current()).ok();
        let number = self.sets()?.into_iter().max().unwrap_or(0) + 1;
        let name = format!("{SET}{number}");
        let set = self.directory.join(&name);
        DirBuilder::new().mode(0o700).create(&set)?;
        let manifest = Manifest {
            version: VERSION,
            source: self.source.to_owned(),
            imsi: self.imsi.to_string(),
            host: grant.host.clone(),
            client_id: grant.client_id.to_string(),
            fetched: now.as_secs(),
        };
        if let Material::Issued {
            certificate_pem,
            private_key_pem,
        } = &grant.material
        {
            write_atomically(&set.join(KEY), private_key_pem.as_bytes(), SECRET)?;
            write_atomically(&set.join(CERTIFICATE), certificate_pem.as_bytes(), PUBLIC)?;
        }
        write_atomically(
            &set.join(CA),
            grant.root_ca_pem.as_deref().unwrap_or("").as_bytes(),
            PUBLIC,
        )?;
        write_atomically(&set.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?, SECRET)?;
        let fresh = self.directory.join(".current.tmp");
        match fs::remove_file(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        symlink(&name, &fresh)?;
        if let Some(heir) = &heir {
            heir.hand_over(&[
                &set,
                &fresh,
                &set.join(KEY),
                &set.join(CERTIFICATE),
                &set.join(CA),
                &set.join(MANIFEST),
            ])?;
        }
        fs::rename(&fresh, self.current())?;
        File::open(&self.directory)?.sync_all()?;
        for old in self.sets()? {
            let old = format!("{SET}{old}");
            if old != name && kept.as_deref() != Some(Path::new(&old)) {
                let _ = fs::remove_dir_all(self.directory.join(old));
            }
        }
        Ok(())
    }

    /// `provision` run by root for the service's user: what is made belongs to whom the state directory belongs to.
    fn heir(&self) -> Option<Heir> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let above = self.directory.ancestors().find(|p| p.exists())?;
        let owner = fs::metadata(above).ok()?;
        Some(Heir {
            uid: owner.uid(),
            gid: owner.gid(),
            made: self
                .directory
                .ancestors()
                .take_while(|p| *p != above)
                .map(Path::to_owned)
                .collect(),
        })
    }

    fn sets(&self) -> io::Result<Vec<u64>> {
        Ok(fs::read_dir(&self.directory)?
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.strip_prefix(SET)?.parse().ok())
            .collect())
    }
}

/// Who is to own what root makes.
struct Heir {
    uid: u32,
    gid: u32,
    /// Directories that root makes on the way.
    made: Vec<PathBuf>,
}

impl Heir {
    fn hand_over(&self, paths: &[&Path]) -> io::Result<()> {
        self.made
            .iter()
            .map(PathBuf::as_path)
            .chain(paths.iter().copied())
            .try_for_each(|path| lchown(path, Some(self.uid), Some(self.gid)))
    }
}

/// Makes the directory and its parents; those that are new are for the owner alone.
fn private_directories(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn damaged(name: &str, why: &dyn std::fmt::Display) -> Unusable {
    Unusable::Damaged(format!("{name}: {why}"))
}

fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    use io::Read as _;
    let name = path
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|f| f.take(FILE_MAX).read_to_end(&mut bytes))
        .map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => Unusable::Forbidden(format!("{}: {e}", path.display())),
            _ => damaged(&name, &e),
        })?;
    Ok(bytes)
}

#[cfg(feature = "bench")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Authority, Purpose};
    use std::os::unix::fs::PermissionsExt;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn grant(name: &str) -> Grant {
        let ca = Authority::generate("Test", NOW, 9 * DAY).unwrap();
        let issued = ca.issue(name, &Purpose::Device, NOW, DAY).unwrap();
        Grant {
            host: "hub.example".into(),
            client_id: ClientId::new(name.into()).unwrap(),
            material: Material::Issued {
                certificate_pem: issued.chain_pem.clone(),
                private_key_pem: issued.key_pem.clone(),
            },
            root_ca_pem: Some(ca.root_pem()),
        }
    }

    fn store(dir: &Path) -> Store {
        Store::new(dir, "krypton-azure", &"295012345678901".parse().unwrap())
    }

    #[test]
    fn what_is_saved_is_loaded_and_the_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert_eq!(store.load(NOW).unwrap_err(), Unusable::Absent);
        for name in ["dev-1", "dev-2", "dev-3"] {
            store.save(&grant(name), NOW).unwrap();
            assert_eq!(store.load(NOW).unwrap().client_id.unwrap().as_str(), name);
        }
        let mode = |p: &str| fs::metadata(store.current().join(p)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(KEY), mode(".")), (0o600, 0o700));
        let mut sets = store.sets().unwrap();
        sets.sort_unstable();
        assert_eq!(
            sets,
            [2, 3],
            "the set before the current one is kept, older ones are not"
        );
    }

    #[test]
    fn damage_expiry_and_another_sim_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.save(&grant("dev"), NOW).unwrap();
        assert_eq!(
            store.load(NOW + 2 * DAY).unwrap_err(),
            Unusable::Expired { since: NOW + DAY }
        );
        let manifest = store.current().join(MANIFEST);
        let good = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, good.replace("295012345678901", "295012345678902")).unwrap();
        assert_eq!(store.load(NOW).unwrap_err(), Unusable::OtherSim);
        fs::write(&manifest, &good).unwrap();
        for file in [KEY, CERTIFICATE, CA, MANIFEST] {
            let path = store.current().join(file);
            let good = fs::read(&path).unwrap();
            for damage in [&b""[..], b"\xff\xfe garbage", &good[..good.len() / 2]] {
                if file == CA && damage.is_empty() {
                    continue; // no authority of its own: the system's are trusted
                }
                fs::write(&path, damage).unwrap();
                assert!(
                    matches!(store.load(NOW), Err(Unusable::Damaged(_))),
                    "{file} {damage:?}"
                );
            }
            fs::remove_file(&path).unwrap();
            assert!(matches!(store.load(NOW), Err(Unusable::Damaged(_))), "{file} missing");
            fs::write(&path, &good).unwrap();
            assert!(store.load(NOW).is_ok());
        }
    }

    /// Only root can show it; CI runs as root, and for others there is nothing to hand over.
    #[test]
    fn what_root_provisions_belongs_to_the_owner_of_the_state_directory() {
        let dir = tempfile::tempdir().unwrap();
        let me = nix::unistd::geteuid().as_raw();
        let owner = if me == 0 { 12_345 } else { me };
        lchown(dir.path(), Some(owner), None).unwrap();
        let store = store(dir.path());
        store.save(&grant("dev"), NOW).unwrap();
        let uid = |p: &Path| fs::symlink_metadata(p).unwrap().uid();
        for path in [
            "credentials".into(),
            store.directory.clone(),
            store.current(),
            store.current().join(KEY),
        ] {
            assert_eq!(uid(&dir.path().join(&path)), owner, "{}", path.display());
        }
    }

    #[test]
    fn an_unfinished_set_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.save(&grant("dev"), NOW).unwrap();
        // Killed while writing set 2: its files are there in part, `current` still names set 1.
        fs::create_dir(store.directory.join("set-2")).unwrap();
        fs::write(store.directory.join("set-2").join(KEY), "half").unwrap();
        symlink("set-2", store.directory.join(".current.tmp")).unwrap();
        assert_eq!(store.load(NOW).unwrap().client_id.unwrap().as_str(), "dev");
        store.save(&grant("dev-3"), NOW).unwrap();
        assert_eq!(store.load(NOW).unwrap().client_id.unwrap().as_str(), "dev-3");
    }

    #[test]
    fn a_full_or_forbidden_disk_keeps_the_old_set() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        fs::write(&file, "in the way").unwrap();
        let e = store(dir.path()).save(&grant("dev"), NOW).unwrap_err().to_string();
        assert!(e.contains("credentials"), "{e}");
    }
}
