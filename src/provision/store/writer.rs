//! The one writer of an identity's directory: its lock, its links, and cleaning up.
//!
//! A link is replaced by making it under a temporary name, which the lock makes ours alone, and renaming it over the old one. Every
//! rename is followed by a sync of the directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use super::heir::{Heir, sync};
use super::role::{Name, Role};
use super::set::{self, Draft};
use crate::files;

/// The lock file of an identity's directory.
pub(super) const LOCK: &str = ".lock";
/// How often the lock is asked for; each time takes half a second ([`files::lock`]), and a write on a slow card seconds.
const LOCK_ROUNDS: u32 = 20;
/// How often the directory or the lock file may be gone again before it is held: `forget` removes both, at once and without a wait.
const LOST_ROUNDS: u32 = 10_000;

/// Holds an identity's directory for writing.
pub(super) struct Writer<'a> {
    directory: &'a Path,
    pub(super) heir: Heir,
    /// `None` only while it is dropped.
    lock: Option<Flock<File>>,
}

impl Drop for Writer<'_> {
    /// [`Flock`] panics when it cannot unlock (a network disk may refuse); the descriptor is then left to the process's end.
    fn drop(&mut self) {
        if let Some(Err((lock, _))) = self.lock.take().map(Flock::unlock) {
            std::mem::forget(lock);
        }
    }
}

impl<'a> Writer<'a> {
    /// Makes the directory if it is missing, waits for the lock (bounded), and removes what unfinished writes left.
    ///
    /// # Errors
    /// From the file system; `ResourceBusy` when another process keeps the lock.
    pub(super) fn begin(directory: &'a Path) -> io::Result<Self> {
        let heir = Heir::of(directory);
        let path = directory.join(LOCK);
        let (mut waited, mut lost) = (0, 0);
        while waited < LOCK_ROUNDS && lost < LOST_ROUNDS {
            heir.make_directories(directory)?;
            let lock = match files::lock(&path) {
                Ok(Some(lock)) => lock,
                Ok(None) => {
                    waited += 1;
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    lost += 1;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let held = lock.metadata()?.ino();
            let writer = Self {
                directory,
                heir,
                lock: Some(lock),
            };
            // `forget` removes the lock file too: a lock on a file that has no name any more keeps nobody out.
            if fs::metadata(&path).is_ok_and(|named| named.ino() == held) {
                heir.give_name(&path)?;
                writer.clean();
                return Ok(writer);
            }
            lost += 1;
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another onyx-agent is writing there (its lock file .lock is held): let it finish and try again",
        ))
    }

    /// The set that a role names.
    pub(super) fn named(&self, role: Role) -> io::Result<Option<Name>> {
        role.read(self.directory)
    }

    pub(super) fn path(&self, name: Name) -> PathBuf {
        self.directory.join(name.to_string())
    }

    /// Writes a set under the next free number; durable, but not named yet. What was begun is removed when it fails.
    pub(super) fn write(&self, draft: &Draft<'_>) -> io::Result<Name> {
        let name = self.free()?;
        let path = self.path(name);
        let written = set::write(&path, name, draft, self.heir).and_then(|()| sync(self.directory));
        if written.is_err() {
            let _ = fs::remove_dir_all(&path);
        }
        written.map(|()| name)
    }

    /// Writes and syncs a directory as large as a set may be, and removes it; one that stays behind is a set that no role names.
    pub(super) fn rehearse(&self) -> io::Result<()> {
        let path = self.path(self.free()?);
        let written = set::rehearse(&path, self.heir).and_then(|()| self.sync());
        let removed = fs::remove_dir_all(&path);
        written.and(removed)
    }

    fn free(&self) -> io::Result<Name> {
        // Also after a name whose set is gone: a role must not come to name a set that was not made for it.
        let mut taken = self.sets()?;
        taken.extend(Role::ALL.into_iter().filter_map(|role| self.named(role).ok().flatten()));
        Name::after(taken.last().copied())
    }

    /// Makes a role name a set, durably.
    pub(super) fn point(&self, role: Role, name: Name) -> io::Result<()> {
        let fresh = self.directory.join(role.temporary());
        absent(fs::remove_file(&fresh))?;
        let pointed = symlink(name.to_string(), &fresh)
            .and_then(|()| self.heir.give_name(&fresh))
            .and_then(|()| self.clear_way(role))
            .and_then(|()| fs::rename(&fresh, role.path(self.directory)));
        if pointed.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        pointed?;
        self.sync()
    }

    /// A role takes over the set of another one, which then names none; durable. One rename: there is no moment between.
    pub(super) fn take_over(&self, from: Role, to: Role) -> io::Result<()> {
        self.clear_way(to)?;
        fs::rename(from.path(self.directory), to.path(self.directory))?;
        self.sync()
    }

    /// A directory in a role's place (a copy that followed the links) cannot be renamed over, and was never read.
    fn clear_way(&self, role: Role) -> io::Result<()> {
        let path = role.path(self.directory);
        match fs::symlink_metadata(&path) {
            Ok(there) if there.is_dir() => fs::remove_dir_all(&path),
            _ => Ok(()),
        }
    }

    /// A role names no set any more; durable.
    pub(super) fn drop_role(&self, role: Role) -> io::Result<()> {
        absent(fs::remove_file(role.path(self.directory)))?;
        self.sync()
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        sync(self.directory)
    }

    /// Removes temporary names and the sets that no role names. What cannot be removed is left for the next writer: it changes nothing.
    pub(super) fn clean(&self) {
        let mut keep = BTreeSet::new();
        for role in Role::ALL {
            let _ = fs::remove_file(self.directory.join(role.temporary()));
            match self.named(role) {
                Ok(name) => keep.extend(name),
                // It names something, but what? Nothing is removed that could be it.
                Err(e) if e.kind() != io::ErrorKind::InvalidData => return,
                Err(_) => {}
            }
        }
        for name in self.sets().unwrap_or_default().difference(&keep) {
            if let Err(why) = fs::remove_dir_all(self.path(*name)) {
                tracing::warn!("an unused set of credentials ({name}) cannot be removed: {why}");
            }
        }
    }

    /// Removes everything, the names first; the directory too if nothing else is in it.
    pub(super) fn remove_all(self) -> io::Result<()> {
        for role in Role::ALL {
            absent(fs::remove_file(role.path(self.directory)))?;
        }
        self.sync()?;
        for name in self.sets()? {
            fs::remove_dir_all(self.path(name))?;
        }
        self.clean();
        absent(fs::remove_file(self.directory.join(LOCK)))?;
        match fs::remove_dir(self.directory) {
            Ok(()) => self.directory.parent().map_or(Ok(()), sync),
            // Somebody put something else there: it stays.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => self.sync(),
            Err(e) => Err(e),
        }
    }

    fn sets(&self) -> io::Result<BTreeSet<Name>> {
        let mut sets = BTreeSet::new();
        for entry in fs::read_dir(self.directory)? {
            sets.extend(entry?.file_name().to_str().and_then(|n| n.parse::<Name>().ok()));
        }
        Ok(sets)
    }
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
