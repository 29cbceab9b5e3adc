//! One segment file: its name, its making, writing at its end.
//!
//! The file grows ahead of its records by zeros in steps of [`super::Options::zero_ahead`], so that most syncs write data pages only
//! and no new file length (measured: half the device bytes for single records). A full segment is cut to its records.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::{HEADER, SpoolId, header};

const SUFFIX: &str = ".seg";
/// Digits of the first number in a segment's name: all of a `u64`, so names sort as numbers.
const DIGITS: usize = 20;

/// What the spool remembers of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// The first number it may hold.
    pub(super) first: u64,
    /// Where its last record ends, bytes.
    pub(super) end: u64,
    /// The file's length, bytes.
    pub(super) len: u64,
}

/// `00000000000000000001.seg`
pub(super) fn name(first: u64) -> String {
    format!("{first:0DIGITS$}{SUFFIX}")
}

/// The first number of a segment's file name.
pub(super) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
        .filter(|n| *n > 0)
}

/// The file that takes appends.
#[derive(Debug)]
pub(super) struct Active {
    file: File,
    pub(super) path: PathBuf,
    /// Bytes handed to the operating system, for the wear figure.
    pub(super) written: u64,
}

impl Active {
    /// Makes a segment, durable with its name.
    pub(super) fn create(directory: &Path, id: SpoolId, first: u64, len: u64) -> io::Result<(Self, Segment)> {
        let path = directory.join(name(first));
        let len = len.max(HEADER);
        let result = (|| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            let mut bytes = header(id, first);
            bytes.resize(len as usize, 0);
            file.write_all_at(&bytes, 0)?;
            file.sync_all()?;
            File::open(directory)?.sync_all()?;
            Ok(file)
        })();
        match result {
            Ok(file) => Ok((
                Self {
                    file,
                    path,
                    written: len,
                },
                Segment {
                    first,
                    end: HEADER,
                    len,
                },
            )),
            Err(e) => {
                let _ = std::fs::remove_file(&path);
                Err(e)
            }
        }
    }

    /// Goes on with a segment whose records end at `segment.end`; cuts off what follows.
    pub(super) fn reopen(directory: &Path, segment: &mut Segment) -> io::Result<Self> {
        let path = directory.join(name(segment.first));
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        file.set_len(segment.end)?;
        file.sync_all()?;
        segment.len = segment.end;
        Ok(Self { file, path, written: 0 })
    }

    /// Writes `bytes` after the last record; on an error the file holds what it held before.
    pub(super) fn append(&mut self, segment: &mut Segment, bytes: &[u8], zero_ahead: u64, max: u64) -> io::Result<()> {
        let end = segment.end + bytes.len() as u64;
        if end > segment.len && zero_ahead > 0 {
            self.extend(segment, (end + zero_ahead).min(max));
        }
        if let Err(e) = self.file.write_all_at(bytes, segment.end) {
            // A part may have been written: it must not be taken for a torn record, nor keep the room it took.
            let _ = self.file.set_len(segment.end);
            segment.len = segment.end;
            return Err(e);
        }
        self.written += bytes.len() as u64;
        segment.end = end;
        segment.len = segment.len.max(end);
        Ok(())
    }

    /// Zeros up to `to`; without room for them the append is tried all the same.
    fn extend(&mut self, segment: &mut Segment, to: u64) {
        let Some(len) = to.checked_sub(segment.len).filter(|n| *n > 0) else {
            return;
        };
        if self.file.write_all_at(&vec![0; len as usize], segment.len).is_ok() {
            self.written += len;
            segment.len = to;
        } else {
            let _ = self.file.set_len(segment.len);
        }
    }

    /// Makes everything appended durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Takes back what was appended after `end`.
    pub(super) fn cut(&self, segment: &mut Segment, end: u64) -> io::Result<()> {
        self.file.set_len(end)?;
        segment.end = end;
        segment.len = end;
        self.file.sync_all()
    }

    /// Writes the bytes from `from` once more: after a failed sync the kernel takes them for clean although the device has not got
    /// them, and only a new write makes the next sync try again.
    pub(super) fn dirty(&mut self, from: u64, end: u64) -> io::Result<()> {
        let mut bytes = vec![0; (end - from) as usize];
        self.file.read_exact_at(&mut bytes, from)?;
        self.file.write_all_at(&bytes, from)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        assert_eq!(parse_name(&name(1)), Some(1));
        assert_eq!(parse_name(&name(u64::MAX)), Some(u64::MAX));
        for bad in [
            "1.seg",
            "00000000000000000000.seg",
            "99999999999999999999.seg",
            "0000000000000000000x.seg",
            "00000000000000000001.seg.tmp",
            "cursor",
        ] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }
}
