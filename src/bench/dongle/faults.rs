//! What a scenario puts in the place of the modem's own answers.

use super::reply;
use super::scenario::Override;

/// The most rubbish bytes in one go.
const MAX_RUBBISH: usize = 64;

/// The scenario's other answers and how often each has been used.
#[derive(Debug)]
pub(super) struct Overrides {
    entries: Vec<(Override, u32)>,
}

impl Overrides {
    pub(super) fn new(overrides: &[Override]) -> Self {
        Self {
            entries: overrides.iter().cloned().map(|entry| (entry, 0)).collect(),
        }
    }

    /// The first that fits this line and is not used up; it counts as used.
    pub(super) fn take(&mut self, line: &str) -> Option<Override> {
        let (entry, used) = self.entries.iter_mut().find(|(entry, used)| {
            entry.command.trim().eq_ignore_ascii_case(line) && entry.times.is_none_or(|times| *used < times)
        })?;
        *used = used.saturating_add(1);
        Some(entry.clone())
    }
}

/// The bytes of another answer.
pub(super) fn override_bytes(instead: &Override) -> Vec<u8> {
    if instead.silent {
        return Vec::new();
    }
    if let Some(raw) = &instead.raw {
        return raw.clone().into_bytes();
    }
    let lines: Vec<String> = instead.answer.lines().map(str::to_owned).collect();
    let mut bytes = reply::info(&lines, true);
    if !instead.result.is_empty() {
        bytes.extend_from_slice(format!("\r\n{}\r\n", instead.result).as_bytes());
    }
    bytes
}

/// Binary rubbish, the same for the same seed.
#[derive(Debug)]
pub(super) struct Rubbish {
    random: fastrand::Rng,
}

impl Rubbish {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
        }
    }

    pub(super) fn next(&mut self) -> Vec<u8> {
        let count = self.random.usize(1..=MAX_RUBBISH);
        (0..count).map(|_| self.random.u8(..)).collect()
    }
}
