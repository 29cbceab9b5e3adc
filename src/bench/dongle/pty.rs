//! The port: a pseudo-terminal and a stable name for it.
//!
//! The host sees the slave; the simulator holds the master, and one descriptor of the slave as well, so that the port survives a host that
//! closes it (without one, the master reads EIO until the next open). Closing all of them is the unplugging: a host reading the slave is
//! hung up, as when a USB dongle is pulled. The slave is set raw at the start, or its line discipline would echo the modem's own words
//! back to it. What a pseudo-terminal cannot show: DTR, USB enumeration, a close that blocks.
//!
//! One trace of an earlier host can stay, since the slave is never closed altogether: a host that set `TIOCEXCL` and was killed before it
//! took that back leaves the port exclusive (root may still open it). Unplugging gives a fresh port.
//!
//! The master is read and written through tokio's pipe types: they are its safe way to wait for any descriptor, and do nothing but
//! read(2) and write(2).

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use tokio::net::unix::pipe;

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The kernel gave no pseudo-terminal.
    #[error(
        "cannot make a pseudo-terminal ({step}): {source}; is /dev/pts mounted, and are there pseudo-terminals left?"
    )]
    Pty {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The stable name cannot be made.
    #[error(
        "cannot make the link {path}: {source}; choose another --link in a directory that exists and can be written"
    )]
    Link {
        /// The link.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something that is no link has the name.
    #[error("{path} exists and is no symbolic link; it is left alone: choose another --link")]
    LinkTaken {
        /// The link.
        path: PathBuf,
    },
}

/// A plugged-in port. Dropping it unplugs it and takes the link away.
#[derive(Debug)]
pub(super) struct Port {
    reader: pipe::Receiver,
    writer: pipe::Sender,
    /// Keeps the port open when the host closes it.
    _slave: OwnedFd,
    path: PathBuf,
    link: Option<PathBuf>,
}

fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> PortError {
    move |error| PortError::Pty {
        step,
        source: error.into(),
    }
}

impl Port {
    /// Makes a pseudo-terminal and points the link at it. Needs a tokio runtime.
    pub(super) fn open(link: Option<&Path>) -> Result<Self, PortError> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).map_err(step("posix_openpt"))?;
        grantpt(&master).map_err(step("grantpt"))?;
        unlockpt(&master).map_err(step("unlockpt"))?;
        let path = PathBuf::from(ptsname_r(&master).map_err(step("ptsname"))?);
        let slave = open(&path, OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(step("opening the slave"))?;
        let mut termios = tcgetattr(&slave).map_err(step("tcgetattr"))?;
        cfmakeraw(&mut termios);
        tcsetattr(&slave, SetArg::TCSANOW, &termios).map_err(step("tcsetattr"))?;
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).map_err(step("fcntl"))?;
        let write_end = File::from(OwnedFd::from(master));
        let read_end = write_end.try_clone().map_err(step("dup"))?;
        let reader = pipe::Receiver::from_file_unchecked(read_end).map_err(step("epoll"))?;
        let writer = pipe::Sender::from_file_unchecked(write_end).map_err(step("epoll"))?;
        let mut port = Self {
            reader,
            writer,
            _slave: slave,
            path,
            link: None,
        };
        if let Some(link) = link {
            point(link, &port.path)?;
            port.link = Some(link.to_owned());
        }
        Ok(port)
    }

    /// The slave's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for bytes from the host. Cancel-safe.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.reader.readable().await?;
            match self.reader.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// Waits until bytes can be sent and sends some. Cancel-safe: what is not reported as sent is not sent.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.writer.writable().await?;
            match self.writer.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            // Only our own: somebody else's simulator may have taken the name over.
            if fs::read_link(link).is_ok_and(|target| target == self.path) {
                // Nothing can be done about a link that cannot be removed, and the next start replaces it.
                drop(fs::remove_file(link));
            }
        }
    }
}

/// Points `link` at `target` in one step, so that nobody finds it missing.
fn point(link: &Path, target: &Path) -> Result<(), PortError> {
    if fs::symlink_metadata(link).is_ok_and(|meta| !meta.file_type().is_symlink()) {
        return Err(PortError::LinkTaken { path: link.to_owned() });
    }
    let failed = |source| PortError::Link {
        path: link.to_owned(),
        source,
    };
    let mut name = link
        .file_name()
        .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?
        .to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = link.with_file_name(name);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &fresh).map_err(failed)?;
    fs::rename(&fresh, link).map_err(|source| {
        drop(fs::remove_file(&fresh));
        failed(source)
    })
}
