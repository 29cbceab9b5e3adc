//! The spool: numbered records on disk until they are acknowledged. It alone owns acknowledgements.
//!
//! A directory holds `lock` (flock: one process), `cursor` (see [`mod@cursor`]), segment files named by the first number they may hold
//! (see [`mod@segment`], [`mod@record`]) and `quarantine/`. Any other file is left alone.
//!
//! **Promises.**
//! - A number is given once in the life of the directory. What [`Spool::peek`] shows is durable, so a number that left the machine
//!   names the same bytes for ever.
//! - [`SyncPolicy::EachAppend`]: what [`Spool::append`] returned survives a power cut. [`SyncPolicy::Interval`]: what was appended
//!   in the last interval (default 1 s, never more than [`UNSYNCED_MAX`] records) may be lost by a power cut, not by a crash of the
//!   program.
//! - Nothing acknowledged comes back after [`Spool::close`]. After a crash at most [`Options::cursor_acks`] acknowledged records, or
//!   those of the last [`Options::cursor_interval`], come back, whichever is less (plus acknowledgements out of order beyond 251
//!   separate holes).
//! - A failed append leaves all that is stored, and the room the failed record took is given back.
//! - Full: the oldest segment goes as a whole; the records in it that nobody acknowledged are counted in [`Stats::dropped`].
//!
//! **Numbers after a crash.** A torn tail may hold numbers that somebody saw. So recovery skips as many as its bytes could hold, and
//! when the machine itself restarted (boot id) under `Interval`, [`UNSYNCED_MAX`] more. Skipped numbers are gaps, never repeats. Segments that
//! vanished altogether after a crash give no bound; the spool then gets a new id and starts as another one.
//!
//! **Costs.** Opening reads every segment once. Memory: 24 bytes per segment and 16 per hole in the acknowledgements; no index by
//! record. Going on with a peek where the last one ended is a read at a known offset; anywhere else it walks one segment.
//!
//! Wear, counted in write calls for samples of 240 bytes (`tests/rate.rs`): 0.5 MB per 1,000 appended (half of it zeros ahead), 0.57 MB
//! with a sample each second and its acknowledgements, 1.2 MB with one each 10 s (a cursor page every sixth). A device writes at
//! least a page per sync besides; with one sample per sync that is what counts.
//!
//! All calls block; [`SpoolHandle`] is the way from async code. `now` is monotonic.

mod cursor;
mod done;
mod error;
mod handle;
mod open;
mod options;
mod read;
mod record;
mod recovery;
mod segment;
mod space;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::Flock;

use cursor::{Cursor, State};
use done::Done;
pub use error::SpoolError;
pub use handle::{QUEUE, SpoolHandle};
pub use options::{Options, Stats, SyncPolicy, UNSYNCED_MAX};
use record::{HEADER, OVERHEAD};
pub use record::{Record, Seq, SpoolId};
use segment::{Active, Segment};

/// The spool; see the module's documentation. Dropping it without [`Spool::close`] is what a crash does.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    options: Options,
    id: SpoolId,
    boot: u128,
    /// Ascending; the last is the active one. Never empty.
    segments: Vec<Segment>,
    active: Active,
    next: u64,
    /// The first number that is not durable yet, and where its segment's durable bytes end.
    durable: u64,
    durable_end: u64,
    unsynced_since: Option<Duration>,
    sync_failed: bool,
    done: Done,
    cursor: Cursor,
    acks_unwritten: u64,
    ack_since: Option<Duration>,
    reader: read::Reader,
    stats: Counters,
    buffer: Vec<u8>,
    _lock: Flock<File>,
}

#[derive(Debug, Default)]
struct Counters {
    dropped: u64,
    lost: u64,
    damaged_segments: u64,
    torn_bytes: u64,
    bytes_written: u64,
    syncs: u64,
}

impl Spool {
    /// The id made with the directory.
    #[must_use]
    pub fn id(&self) -> SpoolId {
        self.id
    }

    /// Stores the payloads in order, all or none, and gives each its number.
    ///
    /// # Errors
    /// [`SpoolError`]; nothing of the batch is stored then, and everything else still is. A failure of the interval's sync is not
    /// the caller's: it is logged and tried again, until [`UNSYNCED_MAX`] records wait for it.
    pub fn append<P: AsRef<[u8]>>(&mut self, payloads: &[P], now: Duration) -> Result<Vec<Seq>, SpoolError> {
        let seqs = self.write(payloads, now)?;
        match self.options.sync {
            SyncPolicy::EachAppend => self.commit()?,
            SyncPolicy::Interval(_) => {
                if let Err(e) = self.sync_if_due(now) {
                    tracing::warn!("{e}; it is tried again");
                }
            }
        }
        Ok(seqs)
    }

    /// Stores without syncing: for a caller that commits several batches at once.
    fn write<P: AsRef<[u8]>>(&mut self, payloads: &[P], now: Duration) -> Result<Vec<Seq>, SpoolError> {
        let max = self.options.record_max;
        let room = self.options.segment_bytes - HEADER;
        let size: u64 = payloads.iter().map(|p| p.as_ref().len() as u64 + OVERHEAD).sum();
        if let Some(p) = payloads.iter().find(|p| p.as_ref().len() > max) {
            return Err(SpoolError::RecordTooLarge {
                size: p.as_ref().len(),
                max,
            });
        }
        if size > room {
            return Err(SpoolError::BatchTooLarge { size, max: room });
        }
        if payloads.is_empty() {
            return Ok(Vec::new());
        }
        let count = payloads.len() as u64;
        if self.next - self.durable + count > UNSYNCED_MAX {
            self.sync()?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let result = self.write_batch(payloads, size, &mut buffer);
        self.buffer = buffer;
        let seqs = result?;
        self.unsynced_since.get_or_insert(now);
        if count > UNSYNCED_MAX {
            self.commit()?; // nothing else is unsynced, so this batch alone is at stake
        }
        Ok(seqs)
    }

    fn write_batch<P: AsRef<[u8]>>(
        &mut self,
        payloads: &[P],
        size: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Vec<Seq>, SpoolError> {
        let end = self.last().end;
        if end > HEADER && end + size > self.options.segment_bytes {
            self.roll()?;
        }
        let growth = (self.last().end + size + self.options.zero_ahead).min(self.options.segment_bytes);
        self.make_room(growth.saturating_sub(self.last().len));
        let first = self.next;
        for (seq, payload) in (first..).zip(payloads) {
            record::encode(self.id, seq, payload.as_ref(), buffer);
        }
        let Some(segment) = self.segments.last_mut() else {
            return Err(SpoolError::Closed); // never: there is always an active segment
        };
        self.active
            .append(segment, buffer, self.options.zero_ahead, self.options.segment_bytes)
            .map_err(SpoolError::io("append to", &self.active.path))?;
        self.next += payloads.len() as u64;
        Ok((first..self.next).map(Seq::new).collect())
    }

    /// Makes all appended records durable now, whatever the policy.
    ///
    /// # Errors
    /// [`SpoolError`]; the records stay and the next sync tries again.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        if self.durable == self.next {
            self.unsynced_since = None;
            return Ok(());
        }
        let end = self.last().end;
        let result = if self.sync_failed {
            self.active.dirty(self.durable_end, end)
        } else {
            Ok(())
        };
        let result = result.and_then(|()| self.active.sync());
        self.stats.syncs += 1;
        self.sync_failed = result.is_err();
        result.map_err(SpoolError::io("sync", &self.active.path))?;
        self.unsynced_since = None;
        self.durable = self.next;
        self.durable_end = end;
        Ok(())
    }

    /// Sync, or take back what is not durable; its numbers are spent.
    fn commit(&mut self) -> Result<(), SpoolError> {
        let Err(e) = self.sync() else { return Ok(()) };
        let end = self.durable_end;
        if let Some(segment) = self.segments.last_mut() {
            // If even that fails, the records stay and are delivered: better twice than never.
            if self.active.cut(segment, end).is_ok() {
                self.done.insert(self.durable, self.next - 1);
                self.durable = self.next;
                self.unsynced_since = None;
                self.sync_failed = false;
            }
        }
        Err(e)
    }

    /// Whether the record is kept, and, if it must be, durable.
    fn is_stored(&self, seq: Seq, must_be_durable: bool) -> bool {
        !self.done.contains(seq.get()) && (!must_be_durable || seq.get() < self.durable)
    }

    fn sync_if_due(&mut self, now: Duration) -> Result<(), SpoolError> {
        let SyncPolicy::Interval(interval) = self.options.sync else {
            return Ok(());
        };
        let due = self.unsynced_since.is_some_and(|t| now >= t.saturating_add(interval));
        if due {
            self.sync().inspect_err(|_| self.unsynced_since = Some(now))?;
        }
        Ok(())
    }

    /// Does what has fallen due: the interval's sync, the cursor.
    ///
    /// # Errors
    /// [`SpoolError`]; it is tried again an interval later.
    pub fn tick(&mut self, now: Duration) -> Result<(), SpoolError> {
        self.sync_if_due(now)?;
        let acks = self.acks_unwritten >= self.options.cursor_acks;
        let late = self
            .ack_since
            .is_some_and(|t| now >= t.saturating_add(self.options.cursor_interval));
        if acks || late {
            self.ack_since = Some(now);
            self.write_cursor(false)?;
        }
        Ok(())
    }

    /// When [`Spool::tick`] has something to do next.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        let sync = match self.options.sync {
            SyncPolicy::Interval(interval) => self.unsynced_since.map(|t| t.saturating_add(interval)),
            SyncPolicy::EachAppend => None,
        };
        let cursor = self.ack_since.map(|t| t.saturating_add(self.options.cursor_interval));
        sync.into_iter().chain(cursor).min()
    }

    /// These need no delivery any more; in any order, known or not, once or twice. Says how many were waiting.
    ///
    /// # Errors
    /// When the cursor fell due and cannot be written; the acknowledgements count all the same until the program ends.
    pub fn ack(&mut self, seqs: &[Seq], now: Duration) -> Result<u64, SpoolError> {
        let mut fresh = 0;
        for seq in seqs.iter().filter(|s| (1..self.durable).contains(&s.get())) {
            fresh += self.done.insert(seq.get(), seq.get());
        }
        if fresh > 0 {
            self.acks_unwritten += fresh;
            self.ack_since.get_or_insert(now);
            self.delete_done();
            if self.acks_unwritten >= self.options.cursor_acks {
                self.write_cursor(false)?;
            }
        }
        Ok(fresh)
    }

    /// What the spool can say of itself.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let oldest = self.done.first_missing(1);
        Stats {
            waiting: self.done.missing(1, self.next - 1),
            oldest: (oldest < self.next).then(|| Seq::new(oldest)),
            next: Seq::new(self.next),
            durable: Seq::new(self.durable),
            bytes: self.total(),
            segments: self.segments.len(),
            dropped: self.stats.dropped,
            lost: self.stats.lost,
            damaged_segments: self.stats.damaged_segments,
            torn_bytes: self.stats.torn_bytes,
            bytes_written: self.stats.bytes_written + self.active.written,
            syncs: self.stats.syncs,
        }
    }

    /// Syncs, writes the cursor and lets go of the directory.
    ///
    /// # Errors
    /// [`SpoolError`]; the next start then treats it as a crash.
    pub fn close(mut self) -> Result<(), SpoolError> {
        self.sync()?;
        let last = self.segments.len() - 1;
        let segment = &mut self.segments[last];
        let end = segment.end;
        self.active
            .cut(segment, end)
            .map_err(SpoolError::io("close", &self.active.path))?;
        self.write_cursor(true)
    }

    fn last(&self) -> Segment {
        self.segments[self.segments.len() - 1]
    }

    fn total(&self) -> u64 {
        self.segments.iter().map(|s| s.len).sum()
    }

    /// The last number that segment `i` may hold.
    fn last_of(&self, i: usize) -> u64 {
        self.segments.get(i + 1).map_or(self.next, |s| s.first) - 1
    }

    fn write_cursor(&mut self, clean: bool) -> Result<(), SpoolError> {
        let state = State {
            id: self.id,
            next: self.next,
            dropped: self.stats.dropped,
            lost: self.stats.lost,
            unsynced_max: match self.options.sync {
                SyncPolicy::EachAppend => 0,
                SyncPolicy::Interval(_) => UNSYNCED_MAX,
            },
            boot: self.boot,
            clean,
            done: self.done.clone(),
        };
        let path = self.directory.join(open::CURSOR);
        let bytes = self
            .cursor
            .write(&state)
            .map_err(SpoolError::io("write the cursor", &path))?;
        self.stats.bytes_written += bytes;
        self.stats.syncs += 1;
        self.acks_unwritten = 0;
        self.ack_since = None;
        Ok(())
    }
}
