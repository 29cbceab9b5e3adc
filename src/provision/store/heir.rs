//! Making directories, and who owns what is made.
//!
//! `onyx-agent provision` may be run by root for the service's user: what root makes below the state directory belongs to whom the state
//! directory belongs to, from before it has a name that is read. For everybody else there is nothing to hand over.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown, lchown};
use std::path::Path;

/// Who is to own what is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heir(Option<(u32, u32)>);

impl Heir {
    /// The owner of `path`, or of the nearest directory above it that is there.
    pub(super) fn of(path: &Path) -> Self {
        if !nix::unistd::geteuid().is_root() {
            return Self(None);
        }
        let above = path.ancestors().find_map(|p| fs::metadata(p).ok());
        Self(above.map(|m| (m.uid(), m.gid())))
    }

    /// Hands over an open file.
    pub(super) fn give(self, file: &File) -> io::Result<()> {
        self.0.map_or(Ok(()), |(uid, gid)| fchown(file, Some(uid), Some(gid)))
    }

    /// Hands over a name, not what it links to.
    pub(super) fn give_name(self, path: &Path) -> io::Result<()> {
        self.0.map_or(Ok(()), |(uid, gid)| lchown(path, Some(uid), Some(gid)))
    }

    /// Makes a directory for its owner alone. The directory above is not synced.
    pub(super) fn make_directory(self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)?;
        self.give_name(path)
    }

    /// Makes a directory and those above it that are missing, durable when it returns.
    pub(super) fn make_directories(self, path: &Path) -> io::Result<()> {
        let missing: Vec<_> = path.ancestors().take_while(|p| !p.exists()).collect();
        for directory in missing.into_iter().rev().filter(|p| !p.as_os_str().is_empty()) {
            match self.make_directory(directory) {
                // Another process was faster.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
                other => other?,
            }
            if let Some(above) = directory.parent().filter(|p| !p.as_os_str().is_empty()) {
                sync(above)?;
            }
        }
        Ok(())
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
