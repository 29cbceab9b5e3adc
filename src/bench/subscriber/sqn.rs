//! Sequence numbers: 48 bits, SEQ of 43 and IND of 5 (3GPP TS 33.102 annex C).
//!
//! The scheme is the one with an index (annex C.1.1.1, C.1.2, C.2.1) and the values of profile 2 (C.3.2: no time in the numbers, an array of
//! 32, a jump of at most 2^28); the optional age limit L is not used. The HSS counts SEQ up by one and takes the next IND for each
//! challenge. The USIM remembers the highest SEQ for each IND, so that challenges that overtake each other are still good, once each.
//!
//! When both have lost step, the USIM answers AUTS with the highest number it has accepted, and the HSS goes on from there (section 6.3.5).

use std::str::FromStr;

use serde::Deserialize;

/// Bits of IND (TS 33.102 annex C.3).
const IND_BITS: u32 = 5;
/// How many INDs there are: the size of the USIM's array.
const ARRAY: usize = 1 << IND_BITS;
/// Bits of a sequence number (TS 33.102 section 6.3.2).
const BITS: u32 = 48;
/// Highest SEQ.
const SEQ_MAX: u64 = (1 << (BITS - IND_BITS)) - 1;
/// A SEQ further ahead than this is not believed (Delta in TS 33.102 annex C.2.1; 2^28 in C.3).
pub const JUMP_MAX: u64 = 1 << 28;

/// A sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Sqn(u64);

impl Sqn {
    /// From its parts; `None` when SEQ has more than 43 bits or IND more than 5.
    #[must_use]
    pub fn new(seq: u64, ind: u8) -> Option<Self> {
        (seq <= SEQ_MAX && usize::from(ind) < ARRAY).then(|| Self(seq << IND_BITS | u64::from(ind)))
    }

    /// As it stands in AUTN and AUTS.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 6]) -> Self {
        Self(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// As it stands in AUTN and AUTS.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 6] {
        let [_, _, bytes @ ..] = self.0.to_be_bytes();
        bytes
    }

    /// The part that grows.
    #[must_use]
    pub fn seq(self) -> u64 {
        self.0 >> IND_BITS
    }

    /// The place in the USIM's array.
    #[must_use]
    pub fn ind(self) -> u8 {
        // Five bits fit.
        (self.0 & (ARRAY as u64 - 1)) as u8
    }

    /// What the HSS gives away next: SEQ and IND one further. `None` when the card has used up all its numbers.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let ind = (usize::from(self.ind()) + 1) % ARRAY;
        Self::new(self.seq() + 1, u8::try_from(ind).ok()?)
    }
}

impl FromStr for Sqn {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let good = text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit());
        good.then(|| u64::from_str_radix(text, 16).ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no sequence number: write 12 hexadecimal digits"))
    }
}

impl TryFrom<String> for Sqn {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What a USIM has accepted so far.
#[derive(Clone, Debug)]
pub struct Window {
    /// Highest SEQ for each IND; `None` before the first.
    seqs: [Option<u64>; ARRAY],
    /// The number with the highest SEQ of all: SQN_MS.
    highest: Sqn,
}

impl Window {
    /// A USIM that has accepted `start` and everything before it; with 0 it is new and has accepted nothing, not even 0.
    #[must_use]
    pub fn new(start: Sqn) -> Self {
        Self {
            seqs: [(start != Sqn::default()).then_some(start.seq()); ARRAY],
            highest: start,
        }
    }

    /// Accepts a number, once; false: it has been used, is too old or too far ahead.
    pub fn accept(&mut self, sqn: Sqn) -> bool {
        let Some(held) = self.seqs.get_mut(usize::from(sqn.ind())) else {
            return false;
        };
        let too_far = sqn.seq() > self.highest.seq().saturating_add(JUMP_MAX);
        if held.is_some_and(|held| sqn.seq() <= held) || too_far {
            return false;
        }
        *held = Some(sqn.seq());
        if sqn.seq() > self.highest.seq() {
            self.highest = sqn;
        }
        true
    }

    /// What AUTS tells: the highest number accepted.
    #[must_use]
    pub fn sqn_ms(&self) -> Sqn {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqn(seq: u64, ind: u8) -> Sqn {
        Sqn::new(seq, ind).unwrap()
    }

    #[test]
    fn parts_and_bytes() {
        let n: Sqn = "ff9bb4d0b607".parse().unwrap();
        assert_eq!(n.to_bytes(), [0xff, 0x9b, 0xb4, 0xd0, 0xb6, 0x07]);
        assert_eq!(Sqn::from_bytes(n.to_bytes()), n);
        assert_eq!((n.ind(), n.seq()), (7, 0xff9b_b4d0_b607 >> 5));
        assert_eq!(sqn(0, 31).next().unwrap(), sqn(1, 0));
        assert_eq!(sqn(SEQ_MAX, 3).next(), None);
        assert!(Sqn::new(SEQ_MAX + 1, 0).is_none() && Sqn::new(0, 32).is_none());
        for bad in ["", "1", "00000000000g", "0000000000000", "+00000000000"] {
            assert!(bad.parse::<Sqn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_is_good_once_and_may_come_late() {
        let mut w = Window::new(Sqn::default());
        let mut given = vec![Sqn::default().next().unwrap()];
        for _ in 0..9 {
            given.push(given.last().unwrap().next().unwrap());
        }
        // The tenth overtakes the others.
        given.rotate_right(1);
        for n in &given {
            assert!(w.accept(*n), "{n:?}");
        }
        for n in &given {
            assert!(!w.accept(*n), "{n:?} again");
        }
        assert_eq!(w.sqn_ms(), given[0]);
    }

    #[test]
    fn too_old_and_too_far_ahead() {
        let mut w = Window::new(sqn(100, 0));
        assert!(!w.accept(sqn(100, 4)) && !w.accept(sqn(3, 4)));
        assert!(!w.accept(sqn(100 + JUMP_MAX + 1, 1)));
        assert!(w.accept(sqn(100 + JUMP_MAX, 1)));
        assert!(w.accept(sqn(101, 2)), "old, but the first of its index");
        assert_eq!(w.sqn_ms(), sqn(100 + JUMP_MAX, 1));
        let mut new = Window::new(Sqn::default());
        assert!(new.accept(Sqn::default()) && !new.accept(Sqn::default()));
        let mut end = Window::new(sqn(SEQ_MAX, 0));
        assert!(!end.accept(sqn(SEQ_MAX, 1)));
    }
}
