//! Limits and policies, and what the spool reports of itself.

use std::time::Duration;

use super::SpoolError;
use super::record::{HEADER, OVERHEAD, PAYLOAD_LIMIT, Seq};

/// Under [`SyncPolicy::Interval`] this many records force a sync before the interval is over.
pub const UNSYNCED_MAX: u64 = 4096;

/// When appended records are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before each append returns.
    EachAppend,
    /// At most so long after it: the window that a power cut loses.
    Interval(Duration),
}

/// Limits and policies. All sizes in bytes.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment's length; what is dropped and deleted at once. Default 1 MiB.
    pub segment_bytes: u64,
    /// All segments together, at least two; quarantine and cursor (8 KiB) not counted. Default 64 MiB.
    pub max_bytes: u64,
    /// The longest payload. Default 128 KiB (the brokers take 128 to 512 KiB).
    pub record_max: usize,
    /// Default: an interval of one second.
    pub sync: SyncPolicy,
    /// How far a segment grows ahead of its records; 0 = not at all. Default 64 KiB.
    pub zero_ahead: u64,
    /// The cursor is written after this many acknowledgements. Default 256.
    pub cursor_acks: u64,
    /// And at the latest this long after one. Default 60 s.
    pub cursor_interval: Duration,
    /// Copies of damaged segments together. Default 1 MiB.
    pub quarantine_bytes: u64,
    /// This boot of the machine; `None` reads the kernel's (random(4): /proc/sys/kernel/random/boot_id).
    pub boot: Option<u128>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 20,
            max_bytes: 64 << 20,
            record_max: 128 << 10,
            sync: SyncPolicy::Interval(Duration::from_secs(1)),
            zero_ahead: 64 << 10,
            cursor_acks: 256,
            cursor_interval: Duration::from_secs(60),
            quarantine_bytes: 1 << 20,
            boot: None,
        }
    }
}

impl Options {
    /// Whether the limits fit each other.
    pub(super) fn check(&self) -> Result<(), SpoolError> {
        let o = self;
        let wrong = |text: String| Err(SpoolError::Options(text));
        if o.segment_bytes < 4096 || o.segment_bytes > u64::from(u32::MAX) {
            return wrong(format!(
                "segment_bytes is {}, it must be 4 KiB to 4 GiB",
                o.segment_bytes
            ));
        }
        if o.max_bytes < 2 * o.segment_bytes {
            return wrong(format!(
                "max_bytes is {}, it must hold two segments of {} bytes",
                o.max_bytes, o.segment_bytes
            ));
        }
        let max = (o.segment_bytes - HEADER - OVERHEAD).min(PAYLOAD_LIMIT as u64);
        if o.record_max as u64 > max {
            return wrong(format!("record_max is {}, a segment has room for {max}", o.record_max));
        }
        Ok(())
    }
}

/// What the spool can say of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Records that wait for an acknowledgement.
    pub waiting: u64,
    /// The oldest of them.
    pub oldest: Option<Seq>,
    /// The number the next record gets.
    pub next: Seq,
    /// All below are durable.
    pub durable: Seq,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Segment files.
    pub segments: usize,
    /// Unacknowledged records dropped because the spool was full, since it was made.
    pub dropped: u64,
    /// Records lost to damage, since the spool was made.
    pub lost: u64,
    /// Segments found damaged since it was opened.
    pub damaged_segments: u64,
    /// Bytes of a torn tail cut off when it was opened.
    pub torn_bytes: u64,
    /// Bytes written since it was opened: records, zeros ahead of them, cursor.
    pub bytes_written: u64,
    /// Syncs since it was opened.
    pub syncs: u64,
}
