//! The set of numbers that need no delivery any more: acknowledged, dropped, lost to damage, or skipped. No I/O.
//!
//! Kept as ranges: acknowledgements arrive nearly in order, so there are few.

use std::collections::BTreeMap;

/// A set of `u64`, as inclusive ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Done {
    ranges: BTreeMap<u64, u64>,
}

impl Done {
    /// Adds `from..=to`; says how many of them are new.
    pub(super) fn insert(&mut self, from: u64, to: u64) -> u64 {
        if from > to {
            return 0;
        }
        let (mut start, mut end) = (from, to);
        let mut known = 0;
        // Every range that overlaps or touches lies at or before `to + 1`; walk them from the right.
        while let Some((&s, &e)) = self.ranges.range(..=end.saturating_add(1)).next_back() {
            if e.saturating_add(1) < start {
                break;
            }
            let (low, high) = (s.max(from), e.min(to));
            if low <= high {
                known += high - low + 1;
            }
            start = start.min(s);
            end = end.max(e);
            self.ranges.remove(&s);
        }
        self.ranges.insert(start, end);
        (to - from + 1) - known
    }

    pub(super) fn contains(&self, n: u64) -> bool {
        self.end_of(n).is_some()
    }

    /// Whether all of `from..=to` are in; true of an empty range.
    pub(super) fn covers(&self, from: u64, to: u64) -> bool {
        from > to || self.end_of(from).is_some_and(|e| e >= to)
    }

    /// The smallest number at or after `n` that is not in the set.
    pub(super) fn first_missing(&self, n: u64) -> u64 {
        self.end_of(n).map_or(n, |e| e.saturating_add(1))
    }

    /// How many of `from..=to` are not in.
    pub(super) fn missing(&self, from: u64, to: u64) -> u64 {
        if from > to {
            return 0;
        }
        let mut missing = to - from + 1;
        let first = self.ranges.range(..=from).next_back().map_or(from, |(&s, _)| s);
        for (&s, &e) in self.ranges.range(first..=to) {
            let (low, high) = (s.max(from), e.min(to));
            if low <= high {
                missing -= high - low + 1;
            }
        }
        missing
    }

    /// In ascending order.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(&s, &e)| (s, e))
    }

    fn end_of(&self, n: u64) -> Option<u64> {
        self.ranges.range(..=n).next_back().map(|(_, &e)| e).filter(|&e| e >= n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_a_plain_set(ops in proptest::collection::vec((1u64..60, 0u64..8), 0..60)) {
            let mut done = Done::default();
            let mut model = BTreeSet::new();
            for (from, len) in ops {
                let fresh = (from..from + len).filter(|n| model.insert(*n)).count() as u64;
                prop_assert_eq!(done.insert(from, (from + len).saturating_sub(1)), fresh);
                for n in 0..70 {
                    prop_assert_eq!(done.contains(n), model.contains(&n));
                    prop_assert_eq!(done.first_missing(n), (n..).find(|m| !model.contains(m)).unwrap());
                    let want = (n..=65).filter(|m| !model.contains(m)).count() as u64;
                    prop_assert_eq!(done.missing(n, 65), want);
                    prop_assert_eq!(done.covers(n, 65), want == 0);
                }
                let r: Vec<_> = done.ranges().collect();
                prop_assert!(r.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{:?}", r);
            }
        }
    }
}
