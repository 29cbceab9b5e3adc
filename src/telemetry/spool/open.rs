//! Opening a spool: whatever the last owner left, in order or not.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::fcntl::Flock;

use super::cursor::{Cursor, State};
use super::done::Done;
use super::read::Reader;
use super::record::{HEADER, SpoolId, read_header};
use super::recovery::{self, Healer, Scan};
use super::segment::{self, Active, Segment};
use super::{Counters, Options, Spool, SpoolError, UNSYNCED_MAX};
use crate::files;

pub(super) const CURSOR: &str = "cursor";
pub(super) const QUARANTINE: &str = "quarantine";
const LOCK: &str = "lock";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Spool {
    /// Opens the spool in `directory`, making it if there is none. Reads all of it once.
    ///
    /// # Errors
    /// [`SpoolError`]; damage to what is stored is not one, it shows in [`Spool::stats`].
    pub fn open(directory: &Path, options: Options) -> Result<Self, SpoolError> {
        options.check()?;
        let io = |doing, path: &Path| SpoolError::io(doing, path);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io("make the spool directory", directory))?;
        let lock = lock(directory)?;
        let path = directory.join(CURSOR);
        let (cursor, state) = Cursor::open(&path).map_err(io("open the cursor", &path))?;
        let firsts = list(directory).map_err(io("list", directory))?;
        // Without any segment nobody knows which numbers were given after the cursor was written: only another id keeps
        // (id, number) unique.
        let vanished = firsts.is_empty() && state.as_ref().is_some_and(|s| !s.clean);
        let id = match state
            .as_ref()
            .filter(|_| !vanished)
            .map(|s| s.id)
            .or_else(|| id_of(directory, &firsts))
        {
            Some(id) => id,
            None => new_id().map_err(io("read", Path::new("/dev/urandom")))?,
        };
        let boot = options.boot.unwrap_or_else(boot_id);
        let mut found = Found::new(state, boot);
        for (i, first) in firsts.iter().enumerate() {
            found.take(directory, id, &options, *first, firsts.get(i + 1).copied())?;
        }
        let next = found.next;
        let (active, segment) = match found.segments.pop() {
            Some(mut last) => {
                let path = directory.join(segment::name(last.first));
                let active = Active::reopen(directory, &mut last).map_err(io("reopen", &path))?;
                (active, last)
            }
            None => {
                let len = (HEADER + options.zero_ahead).min(options.segment_bytes);
                let path = directory.join(segment::name(next));
                Active::create(directory, id, next, len).map_err(io("make the segment", &path))?
            }
        };
        found
            .done
            .insert(1, found.segments.first().unwrap_or(&segment).first - 1);
        found.segments.push(segment);
        let mut spool = Self {
            directory: directory.to_owned(),
            options,
            id,
            boot,
            segments: found.segments,
            active,
            next,
            durable: next,
            durable_end: segment.end,
            unsynced_since: None,
            sync_failed: false,
            done: found.done,
            cursor,
            acks_unwritten: 0,
            ack_since: None,
            reader: Reader::default(),
            stats: found.stats,
            buffer: Vec::new(),
            _lock: lock,
        };
        spool.make_room(0);
        spool.delete_done();
        spool.write_cursor(false)?;
        Ok(spool)
    }
}

/// What is on the disk, segment by segment.
struct Found {
    segments: Vec<Segment>,
    done: Done,
    stats: Counters,
    next: u64,
    clean: bool,
    /// Numbers that may have been given out and left no trace.
    untraced: u64,
}

impl Found {
    fn new(state: Option<State>, boot: u128) -> Self {
        let Some(s) = state else {
            // The cursor is lost, or there never was one: then there are no segments either and no number was given.
            return Self {
                segments: Vec::new(),
                done: Done::default(),
                stats: Counters::default(),
                next: 1,
                clean: false,
                untraced: UNSYNCED_MAX,
            };
        };
        Self {
            segments: Vec::new(),
            stats: Counters {
                dropped: s.dropped,
                lost: s.lost,
                ..Counters::default()
            },
            next: s.next,
            clean: s.clean,
            untraced: if s.clean || (boot == s.boot && boot != 0) {
                0
            } else {
                s.unsynced_max
            },
            done: s.done,
        }
    }

    fn take(
        &mut self,
        directory: &Path,
        id: SpoolId,
        options: &Options,
        first: u64,
        following: Option<u64>,
    ) -> Result<(), SpoolError> {
        let path = directory.join(segment::name(first));
        let (bytes, unreadable) = recovery::read_lossy(&path).map_err(SpoolError::io("read", &path))?;
        let scan = recovery::scan(id, first, following.map(|f| f - 1), &bytes);
        let is_last = following.is_none();
        // A crash tears only the end of the last segment, or its making.
        let torn = is_last && !self.clean;
        let unmade = torn && scan.good.is_empty() && read_header(&bytes) != Some((id, first));
        let damaged = unreadable > 0 || scan.damaged || (scan.trailing > 0 && !torn);
        if is_last {
            self.number(first, &scan);
        }
        let last = following.unwrap_or(if torn { scan.next } else { self.next }) - 1;
        if unmade {
            self.stats.torn_bytes += scan.trailing;
            std::fs::remove_file(&path).map_err(SpoolError::io("remove", &path))?;
        } else {
            let mut segment = Segment {
                first,
                end: scan.end,
                len: bytes.len() as u64,
            };
            if damaged {
                Healer {
                    directory,
                    id,
                    budget: options.quarantine_bytes,
                    done: &mut self.done,
                    stats: &mut self.stats,
                }
                .set_aside(first, &scan, &bytes, last)?;
                segment.end = scan.healed(id, first, &bytes).len() as u64;
                segment.len = segment.end;
            } else {
                self.stats.torn_bytes += scan.trailing;
            }
            self.segments.push(segment);
        }
        for (from, to) in scan.gaps.iter().copied() {
            self.done.insert(from, to);
        }
        self.done.insert(scan.next, following.unwrap_or(self.next) - 1);
        Ok(())
    }

    /// The next number, past all that the last owner may have given.
    fn number(&mut self, first: u64, scan: &Scan) {
        let torn = if self.clean { 0 } else { scan.trailing_records() };
        self.next = self.next.max(scan.next).max(first) + torn + self.untraced;
    }
}

fn lock(directory: &Path) -> Result<Flock<File>, SpoolError> {
    let path = directory.join(LOCK);
    files::lock(&path)
        .map_err(SpoolError::io("lock", &path))?
        .ok_or_else(|| SpoolError::Locked(directory.to_owned()))
}

/// First numbers of the segments, ascending. Other files are nobody's business here.
fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            firsts.extend(entry.file_name().to_str().and_then(segment::parse_name));
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// The id that the newest segment with a valid header has.
fn id_of(directory: &Path, firsts: &[u64]) -> Option<SpoolId> {
    firsts.iter().rev().find_map(|first| {
        let mut bytes = [0; HEADER as usize];
        let mut file = File::open(directory.join(segment::name(*first))).ok()?;
        file.read_exact(&mut bytes).ok()?;
        read_header(&bytes).filter(|(_, f)| f == first).map(|(id, _)| id)
    })
}

fn new_id() -> io::Result<SpoolId> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(SpoolId::from_u64(u64::from_le_bytes(bytes)))
}

/// 0 when the kernel does not say.
fn boot_id() -> u128 {
    std::fs::read_to_string(BOOT_ID)
        .ok()
        .and_then(|t| u128::from_str_radix(&t.trim().replace('-', ""), 16).ok())
        .unwrap_or(0)
}
