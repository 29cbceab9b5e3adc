//! What the spool knows beside its records: its id, which numbers are done, whether it was closed in order.
//!
//! The file `cursor` has two slots of one page each, written in turn, in place, each with a generation and a checksum: a torn write
//! leaves the other slot, and no write changes the file's size, so it costs one page and no journal entry of the file system.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::done::Done;
use super::record::{SpoolId, u32_at, u64_at};

/// One page, the unit in which file systems write.
const SLOT: u64 = 4096;
const MAGIC: &[u8; 8] = b"ONYXCUR1";
/// Bytes before the ranges.
const FIXED: usize = 8 + 8 * 6 + 16 + 4;
/// As many ranges as fit a slot before its checksum; acknowledgements beyond are forgotten by a restart and sent again.
pub(super) const RANGES_MAX: usize = (SLOT as usize - FIXED - 4) / 16;

/// The content of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) id: SpoolId,
    /// The next number at the time of writing.
    pub(super) next: u64,
    /// Records dropped because the spool was full, since it was made.
    pub(super) dropped: u64,
    /// Records lost to damage, since the spool was made.
    pub(super) lost: u64,
    /// How many numbers may have been given out without being durable: 0 when each append is synced.
    pub(super) unsynced_max: u64,
    /// The kernel's boot id; what the page cache held survives until it changes.
    pub(super) boot: u128,
    pub(super) clean: bool,
    pub(super) done: Done,
}

/// The open cursor file.
#[derive(Debug)]
pub(super) struct Cursor {
    file: File,
    generation: u64,
}

impl Cursor {
    /// Opens or makes the file; the newest valid slot, if any.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<State>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let len = file.metadata()?.len();
        if len < 2 * SLOT {
            // Real zeros, no hole: later writes must not need room that a full disk has not got.
            file.write_all_at(&vec![0; (2 * SLOT - len) as usize], len)?;
            file.sync_all()?;
        }
        let mut best = None;
        for n in 0..2 {
            let mut bytes = vec![0; SLOT as usize];
            // An unreadable slot is as good as a damaged one.
            if file.read_exact_at(&mut bytes, n * SLOT).is_ok() {
                if let Some(found) = decode(&bytes) {
                    if best.as_ref().is_none_or(|(g, _)| found.0 > *g) {
                        best = Some(found);
                    }
                }
            }
        }
        let generation = best.as_ref().map_or(0, |(g, _)| *g);
        Ok((Self { file, generation }, best.map(|(_, s)| s)))
    }

    /// Writes and syncs the slot that does not hold the newest state. Answers how many bytes that was.
    pub(super) fn write(&mut self, state: &State) -> io::Result<u64> {
        let generation = self.generation + 1;
        self.file
            .write_all_at(&encode(generation, state), (generation % 2) * SLOT)?;
        self.file.sync_data()?;
        self.generation = generation;
        Ok(SLOT)
    }
}

fn encode(generation: u64, s: &State) -> Vec<u8> {
    let mut out = Vec::with_capacity(SLOT as usize);
    out.extend_from_slice(MAGIC);
    for n in [generation, s.id.get(), s.next, s.dropped, s.lost, s.unsynced_max] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(&s.boot.to_le_bytes());
    let ranges: Vec<_> = s.done.ranges().take(RANGES_MAX).collect();
    out.extend_from_slice(&(ranges.len() as u32 | u32::from(s.clean) << 31).to_le_bytes());
    for (from, to) in ranges {
        out.extend_from_slice(&from.to_le_bytes());
        out.extend_from_slice(&to.to_le_bytes());
    }
    out.resize(SLOT as usize - 4, 0);
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<(u64, State)> {
    let body = bytes.get(..SLOT as usize - 4)?;
    if !body.starts_with(MAGIC) || u32_at(bytes, body.len())? != crc32fast::hash(body) {
        return None;
    }
    let number = |i: usize| u64_at(body, 8 + 8 * i);
    let boot = u128::from(number(6)?) | u128::from(number(7)?) << 64;
    let flags = u32_at(body, FIXED - 4)?;
    let mut done = Done::default();
    for i in 0..(flags & !(1 << 31)) as usize {
        done.insert(u64_at(body, FIXED + 16 * i)?, u64_at(body, FIXED + 16 * i + 8)?);
    }
    let state = State {
        id: SpoolId::from_u64(number(1)?),
        next: number(2)?,
        dropped: number(3)?,
        lost: number(4)?,
        unsynced_max: number(5)?,
        boot,
        clean: flags >> 31 == 1,
        done,
    };
    Some((number(0)?, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(next: u64, ranges: u64) -> State {
        let mut done = Done::default();
        for i in 0..ranges {
            done.insert(1 + 10 * i, 3 + 10 * i);
        }
        State {
            id: SpoolId::from_u64(7),
            next,
            dropped: 2,
            lost: 3,
            unsynced_max: 4096,
            boot: 0x1234_5678_9abc_def0_0fed_cba9_8765_4321,
            clean: true,
            done,
        }
    }

    #[test]
    fn the_newest_slot_counts_and_damage_to_it_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let (mut cursor, none) = Cursor::open(&path).unwrap();
        assert_eq!(none, None);
        cursor.write(&state(5, 2)).unwrap();
        cursor.write(&state(6, RANGES_MAX as u64)).unwrap();
        assert_eq!(Cursor::open(&path).unwrap().1, Some(state(6, RANGES_MAX as u64)));
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..SLOT as usize {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10; // generation 2 lies in slot 0
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(Cursor::open(&path).unwrap().1, Some(state(5, 2)), "byte {at}");
        }
        std::fs::write(&path, &bytes[..100]).unwrap();
        assert_eq!(Cursor::open(&path).unwrap().1, None);
        cursor.write(&state(9, RANGES_MAX as u64 + 5)).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_forgotten_from_the_far_end() {
        let bytes = encode(1, &state(9, RANGES_MAX as u64 + 5));
        assert_eq!(bytes.len() as u64, SLOT);
        assert_eq!(decode(&bytes).unwrap().1, state(9, RANGES_MAX as u64));
    }
}
