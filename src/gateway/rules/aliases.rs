//! Which topic aliases a client has set (MQTT 5 section 3.3.2.3.4): a bit for each.

use crate::mqtt::rule::{self, Violation};

/// Bits in a word; so many aliases need no memory of their own. AWS IoT Core grants 8, Event Grid and mosquitto 10.
const WORD: usize = u64::BITS as usize;

/// The aliases of one direction.
#[derive(Debug)]
pub(super) struct Aliases {
    most: u16,
    first: u64,
    /// Aliases above [`WORD`], made when the first of them is set: at most 8 KiB.
    more: Box<[u64]>,
}

impl Aliases {
    /// Aliases of 1 to `most` may be set.
    pub(super) fn new(most: u16) -> Self {
        Self {
            most,
            first: 0,
            more: Box::default(),
        }
    }

    /// A PUBLISH with this alias: it sets it, or with `empty` topic relies on it.
    ///
    /// # Errors
    /// [`rule::ALIAS_MAXIMUM`], [`rule::ALIAS_UNKNOWN`], [`rule::TOPIC_EMPTY`].
    pub(super) fn note(&mut self, alias: Option<u16>, empty: bool) -> Result<(), Violation> {
        let Some(alias) = alias else {
            return if empty {
                Err((&rule::TOPIC_EMPTY).into())
            } else {
                Ok(())
            };
        };
        if alias > self.most {
            return Err(rule::ALIAS_MAXIMUM.above(alias, self.most));
        }
        let index = usize::from(alias.saturating_sub(1));
        let bit = 1_u64 << (index % WORD);
        if index >= WORD && self.more.is_empty() && !empty {
            self.more = vec![0; usize::from(self.most).div_ceil(WORD) - 1].into_boxed_slice();
        }
        let word = match index / WORD {
            0 => Some(&mut self.first),
            n => self.more.get_mut(n - 1),
        };
        match word {
            Some(word) if !empty => *word |= bit,
            Some(word) if *word & bit != 0 => {}
            _ => return Err(rule::ALIAS_UNKNOWN.found(alias)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_is_remembered_for_itself() {
        for most in [1, 64, 65, 128, 129, u16::MAX] {
            let mut a = Aliases::new(most);
            for alias in [1, 2, 63, 64, 65, 66, 127, 128, 129, 65_535]
                .into_iter()
                .filter(|n| *n <= most)
            {
                assert_eq!(
                    a.note(Some(alias), true).unwrap_err().id(),
                    "alias-unknown",
                    "{alias} of {most}"
                );
                a.note(Some(alias), false).unwrap();
                a.note(Some(alias), true).unwrap();
            }
            if most < u16::MAX {
                assert_eq!(a.note(Some(most + 1), false).unwrap_err().id(), "alias-maximum");
            }
        }
        assert_eq!(Aliases::new(0).note(Some(1), false).unwrap_err().id(), "alias-maximum");
        assert_eq!(Aliases::new(0).note(None, true).unwrap_err().id(), "topic-empty");
    }
}
