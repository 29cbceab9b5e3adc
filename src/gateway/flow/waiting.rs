//! Subscriptions that upstream is asked for in parts, and those that stand in line behind them.
//!
//! The parts of one SUBSCRIBE go up one after the other, over several round trips. Another SUBSCRIBE or UNSUBSCRIBE that went up meanwhile
//! could overtake a part that names the same filter, and the device would be left with what it had just ended (or with the QoS it had just
//! changed). So while there are parts that have not gone up, all that follows waits in line here, and goes up behind the last of them, in the
//! device's order. Messages, acknowledgements and PINGREQs do not wait: nothing about them depends on it (MQTT 3.1.1 section 4.6 orders
//! messages among themselves).

use bytes::{Bytes, BytesMut};

use super::subscribe::{Next, PENDING_MAX, Pending};

/// One that has not gone up yet.
#[derive(Debug)]
struct Later {
    id: u16,
    packet: Bytes,
    /// What is to be put together of its answers, unless upstream's own fits.
    pending: Option<Pending>,
}

/// What a SUBACK leads to.
#[derive(Debug)]
pub(super) enum Answered {
    /// It is none of these, and passes.
    Other,
    /// The device hears nothing yet, and this goes up.
    Up(Bytes),
    /// The device gets this in its place.
    Down(Vec<u8>),
}

/// All of one connection: at most [`PENDING_MAX`].
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Upstream has been asked for these, or for a part of them.
    open: Vec<Pending>,
    later: Vec<Later>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.later.is_empty()
    }

    /// Whether that packet identifier belongs to one that waits.
    pub(super) fn has(&self, id: u16) -> bool {
        self.open.iter().any(|p| p.id() == id) || self.later.iter().any(|l| l.id == id)
    }

    /// Whether there are parts that have not gone up.
    fn is_cutting(&self) -> bool {
        self.open.iter().any(Pending::has_parts)
    }

    fn bytes(&self) -> usize {
        let later = |l: &Later| l.packet.len() + l.pending.as_ref().map_or(0, Pending::bytes);
        self.open.iter().map(Pending::bytes).sum::<usize>() + self.later.iter().map(later).sum::<usize>()
    }

    /// Takes one in; true when it goes up now, false when it is kept for its turn. `most` bounds all that is kept, in bytes.
    ///
    /// # Errors
    /// How many there are already, when there are too many.
    pub(super) fn add(&mut self, id: u16, packet: &[u8], pending: Option<Pending>, most: usize) -> Result<bool, usize> {
        let (now, count) = (!self.is_cutting(), self.open.len() + self.later.len());
        let more = pending.as_ref().map_or(0, Pending::bytes) + if now { 0 } else { packet.len() };
        if (pending.is_some() || !now) && (count >= PENDING_MAX || self.bytes() + more > most) {
            return Err(count);
        }
        if now {
            self.open.extend(pending);
        } else {
            let packet = Bytes::copy_from_slice(packet);
            self.later.push(Later { id, packet, pending });
        }
        Ok(now)
    }

    /// A SUBACK of upstream's.
    pub(super) fn answered(&mut self, id: u16, codes: &[u8]) -> Answered {
        let Some(at) = self.open.iter().position(|p| p.id() == id) else {
            return Answered::Other;
        };
        match self.open.get_mut(at).map(|p| p.answered(codes)) {
            None => Answered::Other,
            Some(Next::Ask(part)) => Answered::Up(self.with_line(part)),
            Some(Next::Answer(suback)) => {
                self.open.swap_remove(at);
                Answered::Down(suback)
            }
        }
    }

    /// A part, and what stood in line behind it, up to the next one that is cut.
    fn with_line(&mut self, part: Bytes) -> Bytes {
        if self.is_cutting() || self.later.is_empty() {
            return part;
        }
        let mut up = BytesMut::from(&part[..]);
        while !self.is_cutting() && !self.later.is_empty() {
            let Later { packet, pending, .. } = self.later.remove(0);
            up.extend_from_slice(&packet);
            self.open.extend(pending);
        }
        if self.later.is_empty() {
            self.later = Vec::new();
        }
        up.freeze()
    }
}
