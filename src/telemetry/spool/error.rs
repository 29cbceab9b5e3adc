//! What can go wrong, in words for the user.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// Why the spool could not do it.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process has the directory.
    #[error("the spool {} is in use by another process; stop the other agent, or give this one its own spool directory", .0.display())]
    Locked(PathBuf),
    /// No room.
    #[error("no room to {doing} {}: {source}; what is stored is kept; free space on that file system or lower the spool's max_bytes", path.display())]
    NoSpace {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// Another failure of the file system.
    #[error("cannot {doing} {}: {source}; check the disk, its mount and its permissions", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// A payload above the limit.
    #[error("a sample of {size} bytes is over the spool's record limit of {max} bytes; it was not stored")]
    RecordTooLarge {
        /// Its bytes.
        size: usize,
        /// [`super::Options::record_max`].
        max: usize,
    },
    /// A batch above the limit.
    #[error(
        "a batch of {size} bytes is over the {max} bytes of a spool segment; nothing of it was stored, append it in parts"
    )]
    BatchTooLarge {
        /// Its bytes on disk.
        size: u64,
        /// The room in an empty segment.
        max: u64,
    },
    /// Options that contradict each other.
    #[error("the spool cannot work so: {0}")]
    Options(String),
    /// The spool's thread has ended.
    #[error("the spool is closed")]
    Closed,
}

impl SpoolError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| {
            let full = [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG].map(|e| e as i32);
            match source.raw_os_error() {
                Some(e) if full.contains(&e) => Self::NoSpace { doing, path, source },
                _ => Self::Io { doing, path, source },
            }
        }
    }
}
