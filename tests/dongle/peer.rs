//! A host that knows nothing but read(2), write(2) and poll(2).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Peer {
    file: File,
    /// Everything read so far and not yet asked for.
    unread: Vec<u8>,
}

impl Peer {
    pub(crate) fn open(path: &Path) -> Self {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NOCTTY | nix::libc::O_NONBLOCK)
            .open(path)
            .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        Self {
            file,
            unread: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "the port takes no more");
                    self.wait(PollFlags::POLLOUT, deadline).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Sends as much as the line takes now.
    pub(crate) fn flood(&mut self, text: &str) -> io::Result<usize> {
        self.file.write(text.as_bytes())
    }

    /// Reads up to and including `text`.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let wanted = text.as_bytes();
            if let Some(at) = self.unread.windows(wanted.len()).position(|window| window == wanted) {
                let found: Vec<u8> = self.unread.drain(..at + wanted.len()).collect();
                return String::from_utf8_lossy(&found).into_owned();
            }
            let so_far = String::from_utf8_lossy(&self.unread).into_owned();
            assert!(Instant::now() < deadline, "no {text:?} came, only {so_far:?}");
            self.read_some(deadline)
                .unwrap_or_else(|error| panic!("no {text:?} came, only {so_far:?}, then: {error}"));
        }
    }

    /// Reads until the port hangs up.
    pub(crate) fn expect_hang_up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.read_some(deadline).is_ok() {
            assert!(Instant::now() < deadline, "the port did not hang up");
        }
    }

    fn read_some(&mut self, deadline: Instant) -> io::Result<()> {
        let left = u16::try_from(deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(left))? == 0 {
            return Ok(());
        }
        let mut buffer = [0; 4096];
        match self.file.read(&mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn wait(&self, what: PollFlags, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut fds = [PollFd::new(self.file.as_fd(), what)];
        poll(&mut fds, PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX)))?;
        Ok(())
    }

    /// What has not been asked for.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread
    }
}

/// A scenario with everything ready at once.
pub(crate) const QUICK: &str = "boot_time = '0s'\n[sim]\nready_after = '0s'\n[network]\nregister_after = '0s'\n";
