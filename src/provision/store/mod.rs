//! Credential sets on disk.
//!
//! ```text
//! <state_dir>/credentials/            0700
//!   krypton-azure-295012345678901/    one directory per identity: source and SIM
//!     .lock                           held by the one who writes
//!     set-1/ set-2/ set-3/            complete sets: never changed once a role names them
//!       manifest.json                 whose it is, host, client id, SHA-256 of every file
//!       certificate.pem  ca.pem
//!       private.key (0600)            or private.key.sealed, with `credentials.encrypt_with`
//!     current   -> set-2              proven by a connection, or the first that there was
//!     candidate -> set-3              granted, durable, not proven yet
//!     previous  -> set-1              the last good one before the current
//! ```
//!
//! # How a set gets there
//! [`Store::stage`]: the set is written whole into a directory that has no role, everything is synced (files, the set's directory, the
//! identity's directory), and then `candidate` names it, by one rename. A connection proves it. [`Store::promote`]: `previous` names what
//! `current` names, by one rename, and then `candidate` itself is renamed to `current`. A crash between any two steps leaves every
//! role on a whole set, the old or the new one; nothing is ever read that is not named. What an unfinished write leaves is removed by the
//! next writer.
//!
//! # Who may write
//! One process at a time: a lock file in the directory (an agent that runs, and `onyx-agent provision` or `credentials forget`). Readers
//! take no lock: they read the links, then the sets, and begin again if the links have changed meanwhile.
//!
//! # What is on disk after a write
//! The first release's sets (manifest version 1, only `current`) and, once `encrypt_with` is set, sets with a plain key still load; the next
//! write puts them into the present form, as new sets under the same roles. The plain key's file is removed then, but a flash card keeps
//! blocks that nobody can overwrite: only new credentials make an old plain key worthless. A set that cannot be opened (sealed under
//! another key, damaged) is never rewritten.

mod heir;
mod manifest;
mod role;
mod set;
mod writer;

#[cfg(feature = "bench")]
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::manifest::Holds;
use self::role::Name;
use self::set::{Draft, Opened, leaf_fingerprint};
use self::writer::{LOCK, Writer};
use super::seal::Seal;
use super::{Credentials, Grant, Material, Unusable};
use crate::identity::Imsi;
use crate::tls::{self, Identity, Leaf};

pub use role::Role;

/// The directory below the state directory.
const CREDENTIALS: &str = "credentials";
/// Sources whose credentials are kept: [`crate::config::agent::CredentialsConfig::source`] of those that are fetched.
pub const SOURCES: [&str; 4] = ["krypton-azure", "krypton-aws", "dps", "aws-fleet"];
/// How often a reader begins again because a writer was faster.
const READ_TRIES: u32 = 5;
/// How often it does so before and after waiting half a second for the writers' lock.
const READ_ROUNDS: u32 = 4;
/// Most identities that [`Store::list`] tells of.
const IDENTITIES_MAX: usize = 4096;

/// The sets of one source and one SIM.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    source: &'static str,
    imsi: Imsi,
    seal: Option<Seal>,
}

/// A set that can be used.
#[derive(Debug, Clone)]
pub struct Kept {
    /// What it holds.
    pub credentials: Credentials,
    /// When it was granted, since the Unix epoch.
    pub fetched: Duration,
    /// Where it is.
    pub directory: PathBuf,
}

/// All that is kept of an identity. [`Unusable::Absent`] where a role names no set. Whether a certificate is still valid is not looked at:
/// ask [`Credentials::check_time`].
#[derive(Debug, Clone)]
pub struct Contents {
    /// Proven by a connection.
    pub current: Result<Kept, Unusable>,
    /// Granted, but not proven yet.
    pub candidate: Result<Kept, Unusable>,
    /// The last good one before the current.
    pub previous: Result<Kept, Unusable>,
}

/// A set as a person wants to know it; made without the key that seals it.
#[derive(Debug, Clone)]
pub struct Described {
    /// The broker's host.
    pub host: String,
    /// The client id there.
    pub client_id: String,
    /// When it was granted, since the Unix epoch.
    pub fetched: Duration,
    /// The private key is encrypted.
    pub sealed: bool,
    /// Permission bits of the private key in clear, where there is one.
    pub key_mode: Option<u32>,
    /// Key and certificate are the operator's files: the set holds none.
    pub operators_files: bool,
    /// The certificate's; `None` for the operator's files.
    pub leaf: Option<Leaf>,
    /// Why it cannot be used, as far as can be known without a key that is not given.
    pub unusable: Option<Unusable>,
    /// Where it is.
    pub directory: PathBuf,
}

impl Store {
    /// The store below `state_dir`; nothing is touched yet. With a `seal`, private keys are written encrypted.
    #[must_use]
    pub fn new(state_dir: &Path, source: &'static str, imsi: &Imsi, seal: Option<Seal>) -> Self {
        Self {
            directory: state_dir.join(CREDENTIALS).join(format!("{source}-{imsi}")),
            source,
            imsi: imsi.clone(),
            seal,
        }
    }

    /// With what private keys are written; `None` writes them as they are.
    #[must_use]
    pub fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// The identities that have a directory below `state_dir`, sorted.
    ///
    /// # Errors
    /// From the file system.
    pub fn list(state_dir: &Path) -> io::Result<Vec<(&'static str, Imsi)>> {
        let directory = state_dir.join(CREDENTIALS);
        let entries = match fs::read_dir(&directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| at(&directory, &e))?,
        };
        let mut list = Vec::new();
        for entry in entries.take(IDENTITIES_MAX) {
            let name = entry.map_err(|e| at(&directory, &e))?.file_name();
            let parts = name.to_str().and_then(|n| n.rsplit_once('-'));
            let known = parts.and_then(|(source, imsi)| {
                let source = SOURCES.into_iter().find(|s| *s == source)?;
                Some((source, imsi.parse().ok()?))
            });
            list.extend(known);
        }
        list.sort_unstable();
        Ok(list)
    }

    /// The identity's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The link to the current set.
    #[must_use]
    pub fn current(&self) -> PathBuf {
        Role::Current.path(&self.directory)
    }

    /// What is kept. `own` is the operator's identity, for sets that were granted to it ([`Material::Files`]).
    #[must_use]
    pub fn read(&self, own: Option<&Identity>) -> Contents {
        let read = || Role::ALL.map(|role| self.open(role).and_then(|set| self.kept(&set, own)));
        let [current, candidate, previous] = self.steadily(read);
        Contents {
            current,
            candidate,
            previous,
        }
    }

    /// What is kept, for people: also what cannot be used. `Err` where nothing at all can be said.
    pub fn describe(&self) -> [(Role, Result<Described, Unusable>); 3] {
        self.steadily(|| {
            Role::ALL.map(|role| {
                let described = self.open(role).map(|set| {
                    let about = set.manifest.about();
                    let what = set.directory.display().to_string();
                    Described {
                        host: about.host.clone(),
                        client_id: about.client_id.clone(),
                        fetched: about.fetched(),
                        sealed: about.sealed,
                        key_mode: fs::metadata(set.directory.join(set::KEY))
                            .ok()
                            .map(|key| key.permissions().mode() & 0o777),
                        operators_files: about.holds == Holds::OperatorsFiles,
                        leaf: tls::certificates(set.certificate.as_bytes(), &what)
                            .ok()
                            .and_then(|chain| Leaf::read(chain.first()?, &what).ok()),
                        unusable: match about.holds {
                            Holds::OperatorsFiles => None,
                            Holds::Issued => set.credentials(self.seal.as_ref(), None).err(),
                        },
                        directory: set.directory.clone(),
                    }
                });
                (role, described)
            })
        })
    }

    /// What a role's set holds, key included, with the certificate and authority exactly as they are in the files.
    ///
    /// # Errors
    /// [`Unusable`]; [`Unusable::OtherCertificate`] for a set that goes with the operator's files.
    pub fn granted(&self, role: Role) -> Result<Grant, Unusable> {
        self.steadily(|| {
            self.open(role).and_then(|set| {
                // Not only that it can be read: key and certificate must fit.
                set.credentials(self.seal.as_ref(), None)?;
                set.grant(self.seal.as_ref(), None)
            })
        })
    }

    /// Keeps a grant as the candidate, durably; an older candidate is gone then. `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// `InvalidData` when the parts of the grant do not fit; otherwise from the file system, with the path. All roles are then as they
    /// were, except when only the last sync failed: then the new candidate is there, but a power cut may take it.
    pub fn stage(&self, grant: &Grant, now: Duration) -> io::Result<Kept> {
        let checked = grant.check("the grant").map_err(invalid)?;
        self.writing(|writer| {
            let name = writer.write(&self.draft(grant, leaf_fingerprint(&checked.identity), now))?;
            writer.point(Role::Candidate, name)?;
            let own = match &grant.material {
                Material::Files { identity } => Some(identity),
                Material::Issued { .. } => None,
            };
            // What is used is what was read back.
            self.open(Role::Candidate)
                .and_then(|set| self.kept(&set, own))
                .map_err(invalid)
        })
    }

    /// Whether a set could be kept: as much as one may hold is written, synced and removed again.
    ///
    /// # Errors
    /// From the file system, with the path.
    pub fn rehearse(&self) -> io::Result<()> {
        self.writing(|writer| writer.rehearse())
    }

    /// The candidate has proven itself: it becomes the current set, and the old current one the previous, unless it is damaged. Without a
    /// candidate nothing changes.
    ///
    /// # Errors
    /// `InvalidData` when the candidate is damaged; otherwise from the file system, with the path. Every role then names a whole set.
    pub fn promote(&self) -> io::Result<()> {
        self.writing(|writer| {
            if writer.named(Role::Candidate)?.is_none() {
                // A promotion whose last sync failed is made durable by asking again.
                return writer.sync();
            }
            self.whole(Role::Candidate).map_err(invalid)?;
            if let Ok(current) = self.whole(Role::Current) {
                if writer.named(Role::Previous).ok().flatten() != Some(current) {
                    writer.point(Role::Previous, current)?;
                }
            }
            writer.take_over(Role::Candidate, Role::Current)
        })
    }

    /// Gives the candidate up. Without one nothing changes.
    ///
    /// # Errors
    /// From the file system, with the path.
    pub fn discard(&self) -> io::Result<()> {
        if !self.directory.exists() {
            return Ok(());
        }
        self.writing(|writer| writer.drop_role(Role::Candidate))
    }

    /// The previous set becomes the current one again, and none is previous then.
    ///
    /// # Errors
    /// `InvalidData` when the previous set is damaged or there is none: nothing changes then. Otherwise from the file system.
    pub fn fall_back(&self) -> io::Result<()> {
        self.writing(|writer| {
            self.whole(Role::Previous).map_err(invalid)?;
            writer.take_over(Role::Previous, Role::Current)
        })
    }

    /// Puts what is there into the present form: sets of the first release, and plain keys when there is a seal. Every other write does it
    /// too. Without anything to do, only the directory is read.
    ///
    /// # Errors
    /// From the file system, with the path. Every role then names a whole set.
    pub fn upgrade(&self) -> io::Result<()> {
        let sealing = self.seal.is_some();
        let old = |role: Role| self.open(role).is_ok_and(|set| !set.is_in_form(sealing));
        if Role::ALL.into_iter().any(old) {
            self.writing(|_| Ok(()))
        } else {
            Ok(())
        }
    }

    /// Removes all sets of this identity.
    ///
    /// # Errors
    /// From the file system, with the path.
    pub fn forget(&self) -> io::Result<()> {
        if !self.directory.exists() {
            return Ok(());
        }
        Writer::begin(&self.directory)
            .and_then(Writer::remove_all)
            .map_err(|e| at(&self.directory, &e))
    }

    fn draft<'a>(&'a self, grant: &'a Grant, leaf: String, fetched: Duration) -> Draft<'a> {
        Draft {
            source: self.source,
            imsi: &self.imsi,
            grant,
            leaf,
            fetched,
            seal: self.seal.as_ref(),
        }
    }

    /// Writes with the lock held, what is there brought into form before, and cleaned up after.
    fn writing<T>(&self, write: impl FnOnce(&Writer<'_>) -> io::Result<T>) -> io::Result<T> {
        let written = Writer::begin(&self.directory).and_then(|writer| {
            let written = self.bring_into_form(&writer).and_then(|()| write(&writer));
            writer.clean();
            written
        });
        written.map_err(|e| at(&self.directory, &e))
    }

    /// The set of a role, if it is whole: one that only lacks its key or the operator's files is.
    fn whole(&self, role: Role) -> Result<Name, Unusable> {
        let set = self.open(role)?;
        match set.credentials(self.seal.as_ref(), None) {
            Err(e @ Unusable::Damaged(_)) => Err(e),
            Ok(_) | Err(_) => Ok(set.name),
        }
    }

    /// Writes sets of version 1, and plain ones when there is a seal, anew under the same roles. What cannot be opened stays as it is.
    fn bring_into_form(&self, writer: &Writer<'_>) -> io::Result<()> {
        for role in Role::ALL {
            let Ok(set) = self.open(role) else { continue };
            if set.is_in_form(self.seal.is_some()) {
                continue;
            }
            // Sealed under another key, or parts that do not fit: not ours to rewrite.
            let Ok(credentials) = set.credentials(self.seal.as_ref(), None) else {
                continue;
            };
            let Ok(grant) = set.grant(self.seal.as_ref(), None) else {
                continue;
            };
            let leaf = leaf_fingerprint(&credentials.identity);
            let fresh = writer.write(&self.draft(&grant, leaf, set.manifest.about().fetched()))?;
            for same in Role::ALL {
                if writer.named(same).is_ok_and(|name| name == Some(set.name)) {
                    writer.point(same, fresh)?;
                }
            }
        }
        Ok(())
    }

    fn open(&self, role: Role) -> Result<Opened, Unusable> {
        let name = role.read(&self.directory).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => Unusable::Forbidden(at(&self.directory, &e).to_string()),
            _ => Unusable::Damaged(e.to_string()),
        })?;
        let name = name.ok_or(Unusable::Absent)?;
        set::open(&self.directory.join(name.to_string()), name, self.source, &self.imsi)
    }

    fn kept(&self, set: &Opened, own: Option<&Identity>) -> Result<Kept, Unusable> {
        Ok(Kept {
            credentials: set.credentials(self.seal.as_ref(), own)?,
            fetched: set.manifest.about().fetched(),
            directory: set.directory.clone(),
        })
    }

    /// Reads again when a writer has changed the roles meanwhile, and after [`READ_TRIES`] with the writers kept out. Whoever may not
    /// keep them out, or cannot in [`READ_ROUNDS`], takes what is seen then.
    fn steadily<T>(&self, read: impl Fn() -> T) -> T {
        let links = || Role::ALL.map(|role| role.read(&self.directory).ok().flatten());
        for _ in 0..READ_ROUNDS {
            for _ in 0..READ_TRIES {
                let before = links();
                let value = read();
                if links() == before {
                    return value;
                }
            }
            if let Ok(Some(_held)) = crate::files::lock(&self.directory.join(LOCK)) {
                return read();
            }
        }
        read()
    }
}

fn at(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

fn invalid(e: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e.to_string())
}
