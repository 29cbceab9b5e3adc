//! What becomes of each packet: passed as it is, passed in another form, answered here, held back, or the end. No I/O.
//!
//! A [`Flow`] is one relayed connection's memory. Bytes and `now` go in, a [`Step`] comes out: how many bytes of the front of the input
//! it concerns, what goes on to the other side, what goes back to the sender, and whether that was the end. The pump
//! ([`super::relay`]) does what the steps say and nothing else.
//!
//! The body of a PUBLISH never waits here to be whole: its head (topic, identifier, properties) is looked at, then its payload goes on
//! as it comes, in steps of [`Pass::AsIs`], so a connection's memory does not grow with its messages.

use std::time::Duration;

use bytes::Bytes;

use super::relay::End;
use super::rules::{self, Direction};

/// What goes on to the other side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pass {
    /// Nothing.
    #[default]
    Nothing,
    /// The bytes that were taken, as they are.
    AsIs,
    /// These in their place.
    Instead(Bytes),
}

/// What becomes of the front of an input.
#[derive(Debug, Default)]
pub struct Step {
    /// So many bytes of the input are done with; 0 when more must come first (see [`Step::wanted`]).
    pub take: usize,
    /// What goes on to the other side.
    pub pass: Pass,
    /// What goes back to the side the input came from.
    pub back: Option<Bytes>,
    /// Whole packets that these bytes finish.
    pub packets: u64,
    /// With `take` 0: how many bytes the buffer must hold before it is worth asking again.
    pub wanted: usize,
    /// Do not read from this side again before this much time has passed (a token bucket is empty).
    pub hold: Option<Duration>,
    /// Write what this step says, then end.
    pub end: Option<End>,
}

/// What a connection is held to.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Largest packet, in bytes.
    pub max_packet: usize,
    /// Longest silence of the device.
    pub idle: Duration,
}

/// One relayed connection.
#[derive(Debug)]
pub struct Flow {
    terms: Terms,
    heard: Duration,
}

impl Flow {
    /// A connection whose CONNACK has just been passed; `now` is monotonic time.
    #[must_use]
    pub fn new(terms: Terms, now: Duration) -> Self {
        Self { terms, heard: now }
    }

    /// Looks at the front of what came from the device.
    pub fn up(&mut self, front: &[u8], now: Duration) -> Step {
        self.heard = now;
        self.look(Direction::Up, front)
    }

    /// Looks at the front of what came from upstream.
    pub fn down(&mut self, front: &[u8], _now: Duration) -> Step {
        self.look(Direction::Down, front)
    }

    /// When [`Flow::due`] wants to be asked, in monotonic time. Ask again after each step.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.heard + self.terms.idle
    }

    /// What is due at `now`: the end of a device that was silent for too long, or a PINGREQ of our own (`pass` goes upstream,
    /// `take` is 0).
    pub fn due(&mut self, now: Duration) -> Step {
        let end = (now >= self.deadline()).then_some(End::Idle(self.terms.idle.as_secs()));
        Step { end, ..Step::default() }
    }

    fn look(&mut self, direction: Direction, front: &[u8]) -> Step {
        let seen = rules::inspect(direction, front, self.terms.max_packet);
        let side = match direction {
            Direction::Up => super::relay::Side::Device,
            Direction::Down => super::relay::Side::Upstream,
        };
        let end = if seen.disconnect {
            Some(End::Disconnected)
        } else if seen.bytes == 0 {
            seen.violation.map(|v| End::Violation(side, v))
        } else {
            None
        };
        Step {
            take: seen.bytes,
            pass: if seen.bytes > 0 { Pass::AsIs } else { Pass::Nothing },
            packets: seen.packets,
            wanted: seen.wanted,
            end,
            ..Step::default()
        }
    }
}
