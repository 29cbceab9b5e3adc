//! The bytes of a record and of a segment's header. No I/O.
//!
//! ```text
//! segment = header record* zero*
//! header  = "ONYXSPL1" spool-id:u64 first-seq:u64 crc32(the 24 bytes before):u32            28 bytes
//! record  = length:u32 crc32(spool-id seq length payload):u32 seq:u64 payload[length]       16 bytes + payload
//! ```
//! Integers are little-endian. The spool's id is part of every checksum, so a block of some other spool that the file system left
//! behind is never taken for a record of this one. A record names its own number: after damage the reader finds its place again.

use std::fmt;

/// Bytes before the first record.
pub(super) const HEADER: u64 = 28;
/// Bytes a record takes beside its payload.
pub(super) const OVERHEAD: u64 = 16;
/// The longest payload the format admits, bytes; [`super::Options::record_max`] is the limit in use.
pub(super) const PAYLOAD_LIMIT: usize = 16 << 20;

const MAGIC: &[u8; 8] = b"ONYXSPL1";

/// A record's number: from 1, strictly increasing for the life of the spool directory, never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// The first number.
    pub const FIRST: Self = Self(1);

    /// The number `n`.
    #[must_use]
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// As an integer.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a spool directory for ever: random, made with it. Prints as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpoolId(u64);

impl SpoolId {
    /// The id with this value.
    #[must_use]
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }

    /// As an integer.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What comes out of the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub seq: Seq,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// The 16 bytes before a payload, read but not yet believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) len: usize,
    crc: u32,
    pub(super) seq: u64,
}

impl Head {
    /// `None` when the bytes cannot be a record's beginning.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let len = u32_at(bytes, 0)? as usize;
        let head = Self {
            len,
            crc: u32_at(bytes, 4)?,
            seq: u64_at(bytes, 8)?,
        };
        (len <= PAYLOAD_LIMIT && head.seq != 0).then_some(head)
    }

    /// Bytes of the whole record.
    pub(super) fn size(self) -> u64 {
        OVERHEAD + self.len as u64
    }

    /// Whether this is that head's payload, undamaged.
    pub(super) fn fits(self, id: SpoolId, payload: &[u8]) -> bool {
        payload.len() == self.len && checksum(id, self.seq, payload) == self.crc
    }
}

/// The whole record at the beginning of `bytes`.
pub(super) fn decode(id: SpoolId, bytes: &[u8]) -> Option<(Head, &[u8])> {
    let head = Head::read(bytes)?;
    let payload = bytes.get(OVERHEAD as usize..)?.get(..head.len)?;
    head.fits(id, payload).then_some((head, payload))
}

/// Appends a record to `out`. The caller has checked the payload's length.
pub(super) fn encode(id: SpoolId, seq: u64, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(id, seq, payload).to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(payload);
}

/// A segment's header.
pub(super) fn header(id: SpoolId, first: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER as usize);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&id.0.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// The spool's id and the first number in a valid header.
pub(super) fn read_header(bytes: &[u8]) -> Option<(SpoolId, u64)> {
    let crc = u32_at(bytes, 24)?;
    (bytes.starts_with(MAGIC) && crc32fast::hash(&bytes[..24]) == crc)
        .then(|| Some((SpoolId(u64_at(bytes, 8)?), u64_at(bytes, 16)?)))
        .flatten()
}

fn checksum(id: SpoolId, seq: u64, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&id.0.to_le_bytes());
    crc.update(&seq.to_le_bytes());
    crc.update(&(payload.len() as u32).to_le_bytes());
    crc.update(payload);
    crc.finalize()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
