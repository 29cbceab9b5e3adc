//! Counters over time: three rings of slots, from fine and short to coarse and long ([`Range`]). No I/O.
//!
//! [`Series::sample`] gets the counters as they stand; what was added since the last sample goes into the slot in the middle between
//! the two, in every ring. A slot knows how many milliseconds it really covers, so the first, the newest, and one after a pause give
//! true rates. Slots are numbered in monotonic time: a clock that jumps moves the labels on the axis, not the data.
//!
//! Memory: [`SLOTS`] slots, each the size of [`Slot`]; a build where that is more than [`MEMORY_MAX`] fails.

use std::collections::VecDeque;
use std::time::Duration;

use crate::gateway::refusal;

/// Most bytes that all slots together take.
pub const MEMORY_MAX: usize = 1 << 20;
/// How many slots there are in all.
pub const SLOTS: usize = Range::Hour.slots() + Range::Day.slots() + Range::Fortnight.slots();
/// How many reasons for refusals are told apart.
pub const REASONS: usize = refusal::KEYS.len();

const _: () = assert!(SLOTS * size_of::<Slot>() <= MEMORY_MAX);

/// Which ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// One hour in slots of 10 s.
    Hour,
    /// One day in slots of 1 minute.
    Day,
    /// Two weeks in slots of 15 minutes.
    Fortnight,
}

impl Range {
    /// All of them, finest first.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Fortnight];

    /// The length of a slot.
    #[must_use]
    pub const fn step(self) -> Duration {
        Duration::from_secs(match self {
            Self::Hour => 10,
            Self::Day => 60,
            Self::Fortnight => 15 * 60,
        })
    }

    /// How many slots.
    #[must_use]
    pub const fn slots(self) -> usize {
        match self {
            Self::Hour => 360,
            Self::Day => 24 * 60,
            Self::Fortnight => 14 * 24 * 4,
        }
    }

    /// The word for it in the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Fortnight => "fortnight",
        }
    }

    /// The range of that word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.word() == word)
    }
}

/// Counters as they stand since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Bytes of MQTT from devices.
    pub up_bytes: u64,
    /// Bytes of MQTT to devices.
    pub down_bytes: u64,
    /// Packets from devices.
    pub up_packets: u64,
    /// Packets to devices.
    pub down_packets: u64,
    /// Connections that got through to upstream.
    pub relayed: u64,
    /// Connections that did not, by reason ([`refusal::KEYS`]).
    pub refused: [u64; REASONS],
    /// Connections open now; a level, not a counter.
    pub open: usize,
}

/// What happened in one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slot {
    /// Bytes of MQTT from devices.
    pub up_bytes: u64,
    /// Bytes of MQTT to devices.
    pub down_bytes: u64,
    /// Packets from devices.
    pub up_packets: u64,
    /// Packets to devices.
    pub down_packets: u64,
    /// Milliseconds that were watched; 0 when the process slept.
    pub covered_ms: u32,
    /// Most connections that were open at a sample.
    pub open: u32,
    /// Connections that got through.
    pub relayed: u32,
    /// Connections that did not, by reason.
    pub refused: [u32; REASONS],
}

fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Slot {
    /// What happened between two samples that are `span` apart.
    fn between(from: &Totals, to: &Totals, span: Duration) -> Self {
        let mut refused = [0; REASONS];
        for ((slot, to), from) in refused.iter_mut().zip(to.refused).zip(from.refused) {
            *slot = small(to.saturating_sub(from));
        }
        Self {
            up_bytes: to.up_bytes.saturating_sub(from.up_bytes),
            down_bytes: to.down_bytes.saturating_sub(from.down_bytes),
            up_packets: to.up_packets.saturating_sub(from.up_packets),
            down_packets: to.down_packets.saturating_sub(from.down_packets),
            covered_ms: u32::try_from(span.as_millis()).unwrap_or(u32::MAX),
            open: u32::try_from(to.open).unwrap_or(u32::MAX),
            relayed: small(to.relayed.saturating_sub(from.relayed)),
            refused,
        }
    }

    fn add(&mut self, more: &Self) {
        self.up_bytes = self.up_bytes.saturating_add(more.up_bytes);
        self.down_bytes = self.down_bytes.saturating_add(more.down_bytes);
        self.up_packets = self.up_packets.saturating_add(more.up_packets);
        self.down_packets = self.down_packets.saturating_add(more.down_packets);
        self.covered_ms = self.covered_ms.saturating_add(more.covered_ms);
        self.open = self.open.max(more.open);
        self.relayed = self.relayed.saturating_add(more.relayed);
        for (n, m) in self.refused.iter_mut().zip(more.refused) {
            *n = n.saturating_add(m);
        }
    }
}

/// Slots of one length, without a gap between them.
#[derive(Debug)]
struct Ring {
    range: Range,
    /// Number of the newest slot: its start in steps since the clock's zero.
    newest: u64,
    slots: VecDeque<Slot>,
}

impl Ring {
    fn new(range: Range) -> Self {
        Self {
            range,
            newest: 0,
            slots: VecDeque::new(),
        }
    }

    fn add(&mut self, at: Duration, more: &Slot) {
        let number = u64::try_from(at.as_millis() / self.range.step().as_millis()).unwrap_or(u64::MAX);
        if self.slots.is_empty() {
            self.newest = number;
            self.slots.push_back(Slot::default());
        }
        let missing = usize::try_from(number.saturating_sub(self.newest)).unwrap_or(usize::MAX);
        for _ in 0..missing.min(self.range.slots()) {
            if self.slots.len() == self.range.slots() {
                self.slots.pop_front();
            }
            self.slots.push_back(Slot::default());
        }
        self.newest = self.newest.max(number);
        if let Some(slot) = self.slots.back_mut() {
            slot.add(more);
        }
    }
}

/// One ring, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which.
    pub range: Range,
    /// Start of the first slot, in monotonic time.
    pub first: Duration,
    /// Oldest first, [`Range::step`] apart.
    pub slots: Vec<Slot>,
}

/// All rings.
#[derive(Debug)]
pub struct Series {
    last: Option<(Duration, Totals)>,
    rings: [Ring; 3],
}

impl Default for Series {
    fn default() -> Self {
        Self {
            last: None,
            rings: Range::ALL.map(Ring::new),
        }
    }
}

impl Series {
    /// Counters as they stand at `now`. The first call only remembers them.
    pub fn sample(&mut self, now: Duration, totals: &Totals) {
        if let Some((then, before)) = &self.last {
            let span = now.saturating_sub(*then);
            if span.is_zero() {
                return;
            }
            let more = Slot::between(before, totals, span);
            let middle = *then + span / 2;
            for ring in &mut self.rings {
                ring.add(middle, &more);
            }
        }
        self.last = Some((now, *totals));
    }

    /// What one ring holds.
    #[must_use]
    pub fn answer(&self, range: Range) -> Answer {
        let [hour, day, fortnight] = &self.rings;
        let ring = match range {
            Range::Hour => hour,
            Range::Day => day,
            Range::Fortnight => fortnight,
        };
        let before = (ring.slots.len() as u64).saturating_sub(1);
        let first = ring
            .newest
            .saturating_sub(before)
            .saturating_mul(range.step().as_secs());
        Answer {
            range,
            first: Duration::from_secs(first),
            slots: ring.slots.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests;
