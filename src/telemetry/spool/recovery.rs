//! Reading a segment that may have been torn or damaged. The scan does no I/O; [`read_lossy`] and [`quarantine`] do.
//!
//! A scan takes records in order. Where none is, it looks byte by byte for the next one: a record proves itself by checksum, and by a
//! number between its predecessor's and the next segment's first.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::done::Done;
use super::record::{HEADER, OVERHEAD, SpoolId, decode, header, read_header};
use super::{Counters, SpoolError, segment};

/// An unreadable block is read as zeros in pieces of this many bytes.
const PAGE: usize = 4096;
/// The numbers in the last segment are believed up to this far beyond its first.
const LAST_SPAN: u64 = 1 << 32;

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Byte ranges of consecutive intact records.
    pub(super) good: Vec<std::ops::Range<usize>>,
    /// Ranges of numbers, inclusive, missing before and between the intact records.
    pub(super) gaps: Vec<(u64, u64)>,
    /// The number after the last intact record's; the segment's first if there is none.
    pub(super) next: u64,
    /// Where the last intact record ends.
    pub(super) end: u64,
    /// Bytes after `end` up to the last that is not zero.
    pub(super) trailing: u64,
    /// The header, or bytes before an intact record, are not what was written.
    pub(super) damaged: bool,
}

/// Scans a segment whose numbers lie in `first..=limit`; no `limit` for the last segment.
pub(super) fn scan(id: SpoolId, first: u64, limit: Option<u64>, bytes: &[u8]) -> Scan {
    let limit = limit.unwrap_or_else(|| first.saturating_add(LAST_SPAN));
    let mut s = Scan {
        next: first,
        end: HEADER,
        damaged: read_header(bytes) != Some((id, first)),
        ..Scan::default()
    };
    let content = bytes.iter().rposition(|b| *b != 0).map_or(0, |p| p + 1);
    let mut at = HEADER as usize;
    let mut skipped = false;
    while at < content {
        match decode(id, &bytes[at..]).filter(|(h, _)| (s.next..=limit).contains(&h.seq)) {
            Some((head, _)) => {
                if head.seq > s.next {
                    s.gaps.push((s.next, head.seq - 1));
                }
                let end = at + head.size() as usize;
                match s.good.last_mut() {
                    Some(run) if run.end == at => run.end = end,
                    _ => s.good.push(at..end),
                }
                s.damaged |= skipped;
                skipped = false;
                s.next = head.seq + 1;
                s.end = end as u64;
                at = end;
            }
            None => {
                skipped = true;
                at += 1;
            }
        }
    }
    s.trailing = (content as u64).saturating_sub(s.end);
    s
}

impl Scan {
    /// The segment with its damage cut out.
    pub(super) fn healed(&self, id: SpoolId, first: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = header(id, first);
        for run in &self.good {
            out.extend_from_slice(&bytes[run.clone()]);
        }
        out
    }

    /// No more records than this can be in the bytes after the last intact one.
    pub(super) fn trailing_records(&self) -> u64 {
        self.trailing.div_ceil(OVERHEAD)
    }
}

/// No segment is longer, in bytes, whatever its file's length says after damage.
const SEGMENT_MAX: u64 = 64 << 20;

/// Reads a whole file; blocks that the device cannot read come as zeros. Says how many bytes those are.
pub(super) fn read_lossy(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    // What is behind belongs to no segment of ours: damage, cut off like a torn tail.
    let mut bytes = Vec::new();
    match File::open(path)?.take(SEGMENT_MAX).read_to_end(&mut bytes) {
        Ok(_) => return Ok((bytes, 0)),
        Err(e) if e.raw_os_error() != Some(nix::errno::Errno::EIO as i32) => return Err(e),
        Err(_) => {}
    }
    let file = File::open(path)?;
    bytes.clear();
    bytes.resize(file.metadata()?.len().min(SEGMENT_MAX) as usize, 0);
    let mut unreadable = 0;
    for (i, page) in bytes.chunks_mut(PAGE).enumerate() {
        if file.read_exact_at(page, (i * PAGE) as u64).is_err() {
            page.fill(0);
            unreadable += page.len() as u64;
        }
    }
    Ok((bytes, unreadable))
}

/// Keeps a copy of damaged bytes in `directory`, at most `budget` bytes of copies there: the oldest make room, a longer one is cut.
pub(super) fn quarantine(directory: &Path, name: &str, bytes: &[u8], budget: u64) -> io::Result<()> {
    let bytes = &bytes[..bytes.len().min(usize::try_from(budget).unwrap_or(usize::MAX))];
    if bytes.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_file() {
            kept.push((meta.modified().ok(), entry.file_name(), meta.len()));
        }
    }
    kept.sort();
    let mut total: u64 = kept.iter().map(|(_, _, len)| len).sum();
    for (_, old, len) in &kept {
        if total + bytes.len() as u64 <= budget {
            break;
        }
        std::fs::remove_file(directory.join(old))?;
        total -= len;
    }
    let free = (0u32..)
        .map(|n| directory.join(format!("{name}.{n}")))
        .find(|p| !p.exists());
    match free {
        Some(path) => crate::files::write_atomically(&path, bytes, crate::files::SECRET),
        None => Ok(()),
    }
}

/// What it takes to set damage aside.
pub(super) struct Healer<'a> {
    pub(super) directory: &'a Path,
    pub(super) id: SpoolId,
    /// Bytes for copies.
    pub(super) budget: u64,
    pub(super) done: &'a mut Done,
    pub(super) stats: &'a mut Counters,
}

impl Healer<'_> {
    /// Copies the segment's bytes to the quarantine, counts what is missing up to number `last` as lost, and replaces the file by its
    /// readable part.
    pub(super) fn set_aside(self, first: u64, scan: &Scan, bytes: &[u8], last: u64) -> Result<(), SpoolError> {
        let path = self.directory.join(segment::name(first));
        let directory = self.directory.join(super::open::QUARANTINE);
        let missing = scan.gaps.iter().copied().chain([(scan.next, last)]);
        let lost: u64 = missing.map(|(from, to)| self.done.insert(from, to)).sum();
        self.stats.lost += lost;
        self.stats.damaged_segments += 1;
        let copied = quarantine(&directory, &segment::name(first), bytes, self.budget);
        tracing::warn!(
            "{} is damaged: {lost} samples lost, the rest is delivered; its bytes {} {}",
            path.display(),
            if copied.is_ok() {
                "are kept in"
            } else {
                "could not be copied to"
            },
            directory.display()
        );
        let healed = scan.healed(self.id, first, bytes);
        crate::files::write_atomically(&path, &healed, crate::files::SECRET)
            .or_else(|_| overwrite(&path, &healed))
            .map_err(SpoolError::io("repair", &path))
    }
}

/// On a full disk there is no room for a second file. A crash in the midst leaves damage, which is healed the same way.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}
