//! One set: a directory that is written whole, synced, and never changed once a role names it.
//!
//! Every file is made new (no temporary names inside: the directory itself has no role yet), given to its owner, and synced; then the
//! directory is synced. Reading checks every file against the manifest's hashes before anything is made of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::heir::{Heir, sync};
use super::manifest::{About, Holds, Manifest, fingerprint};
use super::role::Name;
use crate::files::{PUBLIC, SECRET};
use crate::identity::{ClientId, Imsi};
use crate::provision::seal::{OpenError, Seal};
use crate::provision::{Credentials, Grant, Material, Unusable};
use crate::tls::Identity;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const KEY: &str = "private.key";
pub(super) const SEALED: &str = "private.key.sealed";
pub(super) const CA: &str = "ca.pem";
/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 64 * 1024;
/// What [`rehearse`] writes, in bytes: more than the sets of all sources have (under 20 KiB, most of it certificates).
const REHEARSED: usize = 32 * 1024;

/// A set to be written.
pub(super) struct Draft<'a> {
    pub(super) source: &'a str,
    pub(super) imsi: &'a Imsi,
    pub(super) grant: &'a Grant,
    /// Of the grant's leaf, [`leaf_fingerprint`].
    pub(super) leaf: String,
    pub(super) fetched: Duration,
    pub(super) seal: Option<&'a Seal>,
}

/// SHA-256 of an identity's first certificate.
pub(super) fn leaf_fingerprint(identity: &Identity) -> String {
    identity
        .chain()
        .first()
        .map_or_else(String::new, |der| fingerprint(der))
}

/// What the seal authenticates besides the key: nobody can move a sealed key to another place.
fn sealed_about(source: &str, imsi: &str, name: Name) -> String {
    format!("{source}|{imsi}|{name}|{SEALED}")
}

/// Writes a set; durable when it returns, except for its own name in the directory above.
pub(super) fn write(path: &Path, name: Name, draft: &Draft<'_>, heir: Heir) -> io::Result<()> {
    heir.make_directory(path)?;
    let mut files = BTreeMap::new();
    let mut put = |file: &str, content: &[u8], mode: u32| {
        files.insert(file.to_owned(), fingerprint(content));
        create(&path.join(file), content, mode, heir)
    };
    let mut sealed = false;
    let holds = match &draft.grant.material {
        Material::Files { .. } => Holds::OperatorsFiles,
        Material::Issued {
            certificate_pem,
            private_key_pem,
        } => {
            match draft.seal {
                None => put(KEY, private_key_pem.as_bytes(), SECRET)?,
                Some(seal) => {
                    let about = sealed_about(draft.source, draft.imsi.as_str(), name);
                    let bytes = seal
                        .seal(private_key_pem.as_bytes(), &about)
                        .map_err(io::Error::other)?;
                    put(SEALED, &bytes, SECRET)?;
                    sealed = true;
                }
            }
            put(CERTIFICATE, certificate_pem.as_bytes(), PUBLIC)?;
            Holds::Issued
        }
    };
    put(CA, draft.grant.root_ca_pem.as_deref().unwrap_or("").as_bytes(), PUBLIC)?;
    let about = About {
        source: draft.source.to_owned(),
        imsi: draft.imsi.to_string(),
        host: draft.grant.host.clone(),
        client_id: draft.grant.client_id.to_string(),
        fetched: draft.fetched.as_secs(),
        holds,
        leaf_sha256: draft.leaf.clone(),
        sealed,
        files_sha256: files,
    };
    create(&path.join(MANIFEST), &about.to_bytes()?, SECRET, heir)?;
    sync(path)
}

/// Writes as much as a set may hold: a key, certificates, an authority and a manifest.
pub(super) fn rehearse(path: &Path, heir: Heir) -> io::Result<()> {
    heir.make_directory(path)?;
    create(&path.join(MANIFEST), &[0; REHEARSED], SECRET, heir)?;
    sync(path)
}

fn create(path: &Path, content: &[u8], mode: u32, heir: Heir) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    heir.give(&file)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A set that was read whole: every file is what the manifest says.
pub(super) struct Opened {
    pub(super) name: Name,
    pub(super) directory: PathBuf,
    pub(super) manifest: Manifest,
    /// Empty for the operator's files.
    pub(super) certificate: String,
    /// As it is in the file, sealed or not; `None` for the operator's files.
    key: Option<Zeroizing<Vec<u8>>>,
    pub(super) ca: String,
}

/// Reads a set of `source` and `imsi`.
///
/// # Errors
/// [`Unusable`], all of it but `Absent`, `Expired`, `Sealed` and `OtherCertificate`.
pub(super) fn open(directory: &Path, name: Name, source: &str, imsi: &Imsi) -> Result<Opened, Unusable> {
    let manifest = Manifest::parse(&read(directory, MANIFEST)?).map_err(|e| damaged(MANIFEST, &e))?;
    let about = manifest.about();
    if about.imsi != imsi.as_str() {
        return Err(Unusable::OtherSim);
    }
    if about.source != source {
        return Err(damaged(MANIFEST, &format!("it is of the source {:?}", about.source)));
    }
    let checked = |file: &str| -> Result<Zeroizing<Vec<u8>>, Unusable> {
        let bytes = read(directory, file)?;
        match (&manifest, about.files_sha256.get(file)) {
            (Manifest::First(_), _) => Ok(bytes),
            (Manifest::Second(_), Some(hash)) if *hash == fingerprint(&bytes) => Ok(bytes),
            _ => Err(damaged(file, &"its SHA-256 is not the one in the manifest")),
        }
    };
    let (certificate, key) = match about.holds {
        Holds::OperatorsFiles => (String::new(), None),
        Holds::Issued => {
            let key = checked(if about.sealed { SEALED } else { KEY })?;
            (text(CERTIFICATE, &checked(CERTIFICATE)?)?, Some(key))
        }
    };
    Ok(Opened {
        ca: text(CA, &checked(CA)?)?,
        name,
        directory: directory.to_owned(),
        certificate,
        key,
        manifest,
    })
}

impl Opened {
    /// What was granted. `own` is the operator's identity, for sets that hold none.
    ///
    /// # Errors
    /// [`Unusable::Sealed`], [`Unusable::OtherCertificate`], [`Unusable::Damaged`].
    pub(super) fn grant(&self, seal: Option<&Seal>, own: Option<&Identity>) -> Result<Grant, Unusable> {
        let about = self.manifest.about();
        let material = match &self.key {
            Some(key) => Material::Issued {
                certificate_pem: self.certificate.clone(),
                private_key_pem: self.clear_key(key, seal)?,
            },
            None => Material::Files {
                identity: own
                    .filter(|own| leaf_fingerprint(own) == about.leaf_sha256)
                    .cloned()
                    .ok_or(Unusable::OtherCertificate)?,
            },
        };
        Ok(Grant {
            host: about.host.clone(),
            client_id: ClientId::new(about.client_id.clone()).map_err(|e| damaged(MANIFEST, &e))?,
            material,
            root_ca_pem: Some(self.ca.clone()).filter(|pem| !pem.is_empty()),
        })
    }

    /// What can be used.
    ///
    /// # Errors
    /// Those of [`grant`](Self::grant), and [`Unusable::Damaged`] when the parts do not fit.
    pub(super) fn credentials(&self, seal: Option<&Seal>, own: Option<&Identity>) -> Result<Credentials, Unusable> {
        let about = self.manifest.about();
        let credentials = self
            .grant(seal, own)?
            .check(&self.directory.display().to_string())
            .map_err(|e| Unusable::Damaged(e.to_string()))?;
        let fits =
            matches!(self.manifest, Manifest::First(_)) || leaf_fingerprint(&credentials.identity) == about.leaf_sha256;
        if fits {
            Ok(credentials)
        } else {
            Err(damaged(CERTIFICATE, &"it is not the one that was granted"))
        }
    }

    fn clear_key(&self, key: &[u8], seal: Option<&Seal>) -> Result<Zeroizing<String>, Unusable> {
        let about = self.manifest.about();
        if !about.sealed {
            return secret_text(KEY, key);
        }
        let sealed = |why: &str| Unusable::Sealed(format!("{}: {why}", self.directory.join(SEALED).display()));
        let seal = seal.ok_or_else(|| {
            sealed("it is encrypted, and credentials.encrypt_with is not set: set it to the systemd credential it was encrypted with")
        })?;
        let opened = seal.open(key, &sealed_about(&about.source, &about.imsi, self.name));
        match opened {
            Ok(plain) => secret_text(SEALED, &plain),
            Err(OpenError::OtherKey) => Err(sealed(
                "it is encrypted with another key than the systemd credential of credentials.encrypt_with: bring the old one back, or \
                 give these up with 'onyx-agent credentials forget'",
            )),
            Err(OpenError::Changed) => Err(damaged(SEALED, &"it is not what was encrypted at this place")),
        }
    }

    /// Whether it is written as this version and this configuration would write it.
    pub(super) fn is_in_form(&self, seal: bool) -> bool {
        matches!(self.manifest, Manifest::Second(_)) && (!seal || self.key.is_none() || self.manifest.about().sealed)
    }
}

fn damaged(file: &str, why: &dyn std::fmt::Display) -> Unusable {
    Unusable::Damaged(format!("{file}: {why}"))
}

fn text(file: &str, bytes: &[u8]) -> Result<String, Unusable> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|e| damaged(file, &e))
}

fn secret_text(file: &str, bytes: &[u8]) -> Result<Zeroizing<String>, Unusable> {
    std::str::from_utf8(bytes)
        .map(|t| Zeroizing::new(t.to_owned()))
        .map_err(|e| damaged(file, &e))
}

fn read(directory: &Path, file: &str) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    let path = directory.join(file);
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::PermissionDenied => Unusable::Forbidden(format!("{}: {e}", path.display())),
        _ => damaged(file, &e),
    };
    // A FIFO would never end.
    if !fs::metadata(&path).map_err(failed)?.is_file() {
        return Err(damaged(file, &"it is no regular file"));
    }
    // Room for all of it at once: growing would leave copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(FILE_MAX + 1).unwrap_or(0)));
    File::open(&path)
        .and_then(|f| f.take(FILE_MAX + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(damaged(file, &format!("it is larger than {FILE_MAX} bytes")));
    }
    Ok(bytes)
}
