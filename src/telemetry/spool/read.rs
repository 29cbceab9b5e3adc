//! Reading records back in order.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::record::{HEADER, Head, OVERHEAD, Record, Seq};
use super::{Spool, SpoolError, recovery, segment};

/// Bytes read at a time; a record that is longer is read by itself.
const CHUNK: usize = 64 << 10;

/// An open segment and the places in it that are known.
#[derive(Debug, Default)]
pub(super) struct Reader {
    open: Option<(u64, File)>,
    /// Where the last two peeks ended or began: (segment, the number wanted next, offset).
    pub(super) known: [Option<(u64, u64, u64)>; 2],
}

impl Reader {
    /// A segment is gone or was rewritten.
    pub(super) fn forget(&mut self, first: u64) {
        if self.open.as_ref().is_some_and(|(f, _)| *f == first) {
            self.open = None;
        }
        for k in &mut self.known {
            *k = k.filter(|(f, _, _)| *f != first);
        }
    }

    fn start(&self, first: u64, wanted: u64) -> u64 {
        let known = self.known.iter().flatten();
        known
            .filter(|(f, seq, _)| *f == first && *seq <= wanted)
            .map(|(_, _, at)| *at)
            .fold(HEADER, u64::max)
    }
}

/// How a walk through one segment ended.
enum Walk {
    End,
    Full,
    Damage,
}

impl Spool {
    /// The durable records that wait, from number `from` on, in order; at most `max_records`, and at most `max_bytes` of payload
    /// (but the first record whatever its size). Changes nothing. A record found damaged is set aside as at opening, and counted.
    ///
    /// # Errors
    /// From the file system.
    pub fn peek(&mut self, from: Seq, max_records: usize, max_bytes: usize) -> Result<Vec<Record>, SpoolError> {
        let mut out = Vec::new();
        let mut bytes = 0;
        let mut wanted = self.done.first_missing(from.get().max(1));
        let mut healed = 0;
        while wanted < self.durable && out.len() < max_records {
            let i = self.segments.partition_point(|s| s.first <= wanted).saturating_sub(1);
            match self.walk(i, &mut wanted, &mut out, &mut bytes, (max_records, max_bytes))? {
                Walk::Full => break,
                Walk::End if i + 1 == self.segments.len() => break,
                Walk::End => wanted = self.done.first_missing(wanted.max(self.segments[i + 1].first)),
                // Each healing removes what could not be read: one more than there are segments means the disk changes under us.
                Walk::Damage if healed > self.segments.len() => break,
                Walk::Damage => {
                    healed += 1;
                    self.heal(i)?;
                    wanted = self.done.first_missing(wanted);
                }
            }
        }
        Ok(out)
    }

    fn walk(
        &mut self,
        i: usize,
        wanted: &mut u64,
        out: &mut Vec<Record>,
        bytes: &mut usize,
        (max_records, max_bytes): (usize, usize),
    ) -> Result<Walk, SpoolError> {
        let s = self.segments[i];
        let path = self.directory.join(segment::name(s.first));
        let fail = |e| SpoolError::io("read", &path)(e);
        if self.reader.open.as_ref().is_none_or(|(f, _)| *f != s.first) {
            self.reader.open = Some((s.first, File::open(&path).map_err(fail)?));
        }
        let mut at = self.reader.start(s.first, *wanted);
        let Some((_, file)) = &self.reader.open else {
            return Ok(Walk::End);
        };
        let mut window = Window::default();
        let mut began = None;
        let walk = loop {
            if at >= s.end {
                break Walk::End;
            }
            let head = match window.get(file, at, OVERHEAD as usize, s.end) {
                Ok(b) => b.and_then(Head::read),
                Err(e) if is_bad_block(&e) => None,
                Err(e) => return Err(fail(e)),
            };
            let Some(head) = head else { break Walk::Damage };
            if head.seq >= self.durable {
                break Walk::Full;
            }
            if head.seq >= *wanted && !self.done.contains(head.seq) {
                let payload = match window.get(file, at + OVERHEAD, head.len, s.end) {
                    Ok(b) => b.filter(|p| head.fits(self.id, p)),
                    Err(e) if is_bad_block(&e) => None,
                    Err(e) => return Err(fail(e)),
                };
                let Some(payload) = payload else { break Walk::Damage };
                let full = out.len() >= max_records || *bytes + payload.len() > max_bytes;
                if full && !out.is_empty() || max_records == 0 {
                    break Walk::Full;
                }
                began = began.or(Some((s.first, head.seq, at)));
                *bytes += payload.len();
                out.push(Record {
                    seq: Seq::new(head.seq),
                    payload: payload.to_vec(),
                });
            }
            *wanted = (*wanted).max(head.seq + 1);
            at += head.size();
        };
        if !matches!(walk, Walk::Damage) {
            if began.is_some() {
                self.reader.known[0] = began;
            }
            self.reader.known[1] = Some((s.first, *wanted, at));
        }
        Ok(walk)
    }

    /// Sets aside the damage in segment `i` and goes on with what is readable.
    pub(super) fn heal(&mut self, i: usize) -> Result<(), SpoolError> {
        let s = self.segments[i];
        let is_active = i + 1 == self.segments.len();
        if is_active {
            self.sync()?;
        }
        let path = self.directory.join(segment::name(s.first));
        let (bytes, _) = recovery::read_lossy(&path).map_err(SpoolError::io("read", &path))?;
        let scan = recovery::scan(self.id, s.first, Some(self.last_of(i)), &bytes);
        let last = self.last_of(i);
        recovery::Healer {
            directory: &self.directory,
            id: self.id,
            budget: self.options.quarantine_bytes,
            done: &mut self.done,
            stats: &mut self.stats,
        }
        .set_aside(s.first, &scan, &bytes, last)?;
        self.reader.forget(s.first);
        let segment = &mut self.segments[i];
        segment.end = scan.healed(self.id, s.first, &bytes).len() as u64;
        segment.len = segment.end;
        if is_active {
            self.stats.bytes_written += self.active.written;
            self.active = super::Active::reopen(&self.directory, segment).map_err(SpoolError::io("reopen", &path))?;
            self.durable_end = segment.end;
        }
        Ok(())
    }
}

fn is_bad_block(e: &io::Error) -> bool {
    e.raw_os_error() == Some(nix::errno::Errno::EIO as i32)
}

/// A piece of the file in memory.
#[derive(Default)]
struct Window {
    at: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// `len` bytes at `at`; `None` when they reach beyond `end`.
    fn get(&mut self, file: &File, at: u64, len: usize, end: u64) -> io::Result<Option<&[u8]>> {
        if at + len as u64 > end {
            return Ok(None);
        }
        if at < self.at || at + len as u64 > self.at + self.bytes.len() as u64 {
            let size = (len.max(CHUNK) as u64).min(end - at) as usize;
            self.bytes.resize(size, 0);
            self.at = at;
            if let Err(e) = file.read_exact_at(&mut self.bytes, at) {
                self.bytes.clear();
                // A file cut short under us is damage like any other.
                return if e.kind() == io::ErrorKind::UnexpectedEof {
                    Ok(None)
                } else {
                    Err(e)
                };
            }
        }
        let from = (at - self.at) as usize;
        Ok(self.bytes.get(from..from + len))
    }
}
