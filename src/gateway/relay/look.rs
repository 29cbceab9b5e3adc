//! What the flow makes of one read: the steps, gathered so that neighbouring bytes that pass as they are go out in one write.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::End;
use crate::gateway::flow::{Pass, Step};

/// Something to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes of the input.
    Range(Range<usize>),
    /// Others.
    Own(Bytes),
}

impl Piece {
    pub(super) fn of<'a>(&'a self, front: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Range(range) => front.get(range.clone()).unwrap_or_default(),
            Self::Own(bytes) => bytes,
        }
    }
}

/// What goes on, in order. Where nothing is changed that is one range, and nothing is allocated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) before: Vec<Piece>,
    /// The last piece.
    pub(super) run: Range<usize>,
}

impl Pieces {
    fn as_is(&mut self, range: Range<usize>) {
        if self.run.end == range.start {
            self.run.end = range.end;
        } else {
            self.close();
            self.run = range;
        }
    }

    fn own(&mut self, bytes: Bytes) {
        self.close();
        self.before.push(Piece::Own(bytes));
    }

    fn close(&mut self) {
        if !self.run.is_empty() {
            self.before.push(Piece::Range(self.run.clone()));
        }
        self.run = 0..0;
    }
}

/// What became of the front of an input.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Bytes that are done with.
    pub(super) taken: usize,
    pub(super) packets: u64,
    pub(super) pieces: Pieces,
    pub(super) back: Option<BytesMut>,
    /// How long the input must be before another look is worth it; 0 when nothing is left.
    pub(super) wanted: usize,
    pub(super) hold: Option<Duration>,
    pub(super) end: Option<End>,
}

/// Asks about `front` until it is used up, more must come, or a pause or the end was ordered.
pub(super) fn look(front: &[u8], mut ask: impl FnMut(&[u8]) -> Step) -> Looked {
    let mut looked = Looked::default();
    while let Some(rest) = front.get(looked.taken..).filter(|r| !r.is_empty()) {
        let step = ask(rest);
        let took = step.take.min(rest.len());
        match step.pass {
            Pass::Nothing => {}
            Pass::AsIs => looked.pieces.as_is(looked.taken..looked.taken + took),
            Pass::Instead(bytes) => looked.pieces.own(bytes),
        }
        if let Some(back) = step.back {
            looked.back.get_or_insert_default().extend_from_slice(&back);
        }
        looked.taken += took;
        looked.packets += step.packets;
        looked.hold = step.hold;
        looked.end = step.end;
        if looked.end.is_some() || looked.hold.is_some() {
            break;
        }
        if took == 0 {
            looked.wanted = step.wanted.max(rest.len() + 1);
            break;
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(take: usize, pass: Pass) -> Step {
        Step {
            take,
            pass,
            packets: u64::from(take > 0),
            ..Step::default()
        }
    }

    /// Letters pass, digits become `#`, blanks vanish, `?` is answered, `.` wants three bytes, `~` holds, `!` ends.
    fn ask(rest: &[u8]) -> Step {
        match rest[0] {
            b'0'..=b'9' => step(1, Pass::Instead(Bytes::from_static(b"#"))),
            b' ' => step(1, Pass::Nothing),
            b'?' => Step {
                back: Some(Bytes::from_static(b"yes")),
                ..step(1, Pass::Nothing)
            },
            b'.' if rest.len() < 3 => Step {
                wanted: 3,
                ..Step::default()
            },
            b'~' => Step {
                hold: Some(Duration::from_secs(1)),
                ..step(1, Pass::AsIs)
            },
            b'!' => Step {
                end: Some(End::Disconnected),
                ..step(1, Pass::AsIs)
            },
            _ => step(1, Pass::AsIs),
        }
    }

    fn out(front: &str) -> (String, Looked) {
        let looked = look(front.as_bytes(), ask);
        let p = &looked.pieces;
        let mut all: Vec<u8> = p.before.iter().flat_map(|p| p.of(front.as_bytes()).to_vec()).collect();
        all.extend_from_slice(&front.as_bytes()[p.run.clone()]);
        (String::from_utf8(all).unwrap(), looked)
    }

    #[test]
    fn neighbours_are_one_piece() {
        let (text, l) = out("abcdef");
        assert_eq!(
            (text.as_str(), l.pieces.before.len(), l.pieces.run),
            ("abcdef", 0, 0..6)
        );
        assert_eq!((l.taken, l.packets, l.wanted), (6, 6, 0));
    }

    #[test]
    fn the_order_is_kept() {
        let (text, l) = out("ab1cd 2?e3");
        assert_eq!((text.as_str(), l.taken), ("ab#cd#e#", 10));
        assert_eq!(l.back.as_deref(), Some(&b"yes"[..]));
        assert_eq!(l.pieces.before.len(), 6);
    }

    #[test]
    fn looking_stops_where_it_must() {
        let (text, l) = out("ab.x");
        assert_eq!((text.as_str(), l.taken, l.wanted), ("ab", 2, 3));
        let (text, l) = out("ab.xx");
        assert_eq!((text.as_str(), l.taken, l.wanted), ("ab.xx", 5, 0));
        let (text, l) = out("ab~cd");
        assert_eq!(
            (text.as_str(), l.taken, l.hold),
            ("ab~", 3, Some(Duration::from_secs(1)))
        );
        let (text, l) = out("a!b");
        assert_eq!((text.as_str(), l.taken), ("a!", 2));
        assert!(matches!(l.end, Some(End::Disconnected)));
    }
}
