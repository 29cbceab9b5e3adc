//! Which segments there are: a new one when the active one is full, the oldest dropped when the bound is reached, those deleted in
//! which all is done.

use super::record::HEADER;
use super::segment::{self, Active};
use super::{Spool, SpoolError};

impl Spool {
    /// Starts a new segment; the old one is durable and cut to its records.
    pub(super) fn roll(&mut self) -> Result<(), SpoolError> {
        self.sync()?;
        let len = (HEADER + self.options.zero_ahead).min(self.options.segment_bytes);
        self.make_room(len);
        let path = self.directory.join(segment::name(self.next));
        let (active, segment) = Active::create(&self.directory, self.id, self.next, len)
            .map_err(SpoolError::io("make the segment", &path))?;
        if let Some(old) = self.segments.last_mut() {
            let end = old.end;
            // Failing to give back the zeros costs room, nothing else.
            let _ = self.active.cut(old, end);
        }
        self.stats.bytes_written += self.active.written;
        self.stats.syncs += 2;
        self.active = active;
        self.segments.push(segment);
        self.durable_end = segment.end;
        self.delete_done();
        Ok(())
    }

    /// Drops the oldest segments until `need` more bytes fit; never the active one.
    pub(super) fn make_room(&mut self, need: u64) {
        while self.segments.len() > 1 && self.total() + need > self.options.max_bytes {
            let (first, last) = (self.segments[0].first, self.last_of(0));
            let dropped = self.done.insert(first, last);
            if dropped > 0 && self.stats.dropped == 0 {
                tracing::warn!("the spool is full: the oldest samples are dropped from now on");
            }
            self.stats.dropped += dropped;
            self.remove(0);
        }
    }

    pub(super) fn delete_done(&mut self) {
        let mut i = 0;
        while i + 1 < self.segments.len() {
            if self.done.covers(self.segments[i].first, self.last_of(i)) {
                self.remove(i);
            } else {
                i += 1;
            }
        }
    }

    fn remove(&mut self, i: usize) {
        let segment = self.segments.remove(i);
        let path = self.directory.join(segment::name(segment.first));
        if let Err(e) = std::fs::remove_file(&path) {
            tracing::warn!(
                "cannot remove {}: {e}; it is tried again at the next start",
                path.display()
            );
        }
        // Its numbers are gone even if there were none to acknowledge.
        let next = self.segments.get(i).map_or(self.next, |s| s.first);
        self.done.insert(segment.first, next - 1);
        self.reader.forget(segment.first);
    }
}
