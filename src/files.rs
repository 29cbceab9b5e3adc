//! Lock files, reading small files safely, and writing files so that a power cut leaves the old or the new content, never a mixture: a temporary file beside the target, synced,
//! renamed over it, and the directory synced.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A lock that is held is asked for again, every 20 ms for half a second.
const LOCK_TRIES: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Permission bits of a private key.
pub const SECRET: u32 = 0o600;
/// Permission bits of what anybody may read.
pub const PUBLIC: u32 = 0o644;

/// Takes the lock file at `path`, made if it is not there, for this process alone (flock); `None` if another one has it.
///
/// # Errors
/// From the file system.
pub fn lock(path: &Path) -> io::Result<Option<Flock<File>>> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(SECRET);
    hold(options.open(path)?)
}

/// Takes a directory itself for this process alone, without a file in it; `None` if another one has it.
///
/// # Errors
/// From the file system.
pub fn lock_directory(path: &Path) -> io::Result<Option<Flock<File>>> {
    hold(File::open(path)?)
}

fn hold(mut file: File) -> io::Result<Option<Flock<File>>> {
    // A process that is just ending, or a child between fork and exec with copies of our own descriptors, holds the lock a moment longer.
    for _ in 0..LOCK_TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(Some(locked)),
            Err((unlocked, Errno::EWOULDBLOCK)) => file = unlocked,
            Err((_, e)) => return Err(e.into()),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Ok(None)
}

/// Reads a regular file of at most `limit` bytes. A FIFO or device, which might never end, is refused before it is opened.
///
/// # Errors
/// `InvalidInput` for what is no regular file, `FileTooLarge` for a larger one; otherwise from the file system.
pub fn read_small(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let why = format!("it is larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// Replaces `path` with `content`.
///
/// # Errors
/// From the file system; the old content is then still there.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{} names no file", path.display())))?;
    let temporary = directory.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let result = (|| {
        // A leftover of a killed run may have other permissions: never write a secret into it.
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// Root makes files for a service: a new file belongs to whom its directory belongs to, or the service could not open what root's command
/// has made. For anybody else this does nothing.
///
/// # Errors
/// From the file system.
pub fn give_to_owner_of_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let directory = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let owner = std::fs::metadata(directory)?;
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn replaces_whole_with_the_right_mode_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        for content in ["first", "second, longer", "3"] {
            write_atomically(&path, content.as_bytes(), SECRET).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, SECRET);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_regular_files_of_a_sane_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_small(&path, 5).unwrap(), b"12345");
        assert_eq!(read_small(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for endless in ["/dev/zero", "/dev/full", dir.path().to_str().unwrap()] {
            assert_eq!(
                read_small(Path::new(endless), 9).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        }
    }

    #[test]
    fn a_directory_is_held_by_one_and_nothing_is_written_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock_directory(dir.path()).unwrap().unwrap();
        assert!(lock_directory(dir.path()).unwrap().is_none());
        drop(held);
        assert!(lock_directory(dir.path()).unwrap().is_some());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failure_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("no/such/key.pem");
        assert!(write_atomically(&missing, b"x", SECRET).is_err());
    }
}
