//! QoS 2 for a device whose upstream has QoS 1 at most (MQTT 3.1.1 section 4.3.3, method A, with upstream's PUBACK as the store).
//!
//! | the device sends | and here is | goes up | goes back |
//! |---|---|---|---|
//! | PUBLISH 2, id | nothing | PUBLISH 1, same id | - |
//! | PUBLISH 2, id | it, on its way | nothing: TCP has not lost it | - (its PUBREC comes with the PUBACK) |
//! | PUBLISH 2, id | it, arrived | nothing | PUBREC |
//! | PUBREL, id | it, arrived | nothing | PUBCOMP, and it is forgotten |
//! | PUBREL, id | nothing | nothing | PUBCOMP: of an earlier connection |
//! | PUBREL, id | it, on its way | - | the end: nothing was received yet that could be released |
//!
//! Upstream's PUBACK of such an id becomes PUBREC. So nothing is acknowledged that upstream did not acknowledge. The state dies with the
//! connection: a PUBLISH that is repeated on the next goes up again, and "exactly once" is then "at least once".

/// Most messages with QoS 2 between PUBLISH and PUBREL; each costs four bytes. Ten times what AWS IoT Core takes in flight.
pub(super) const EXACTLY_MAX: usize = 1_024;

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It went up.
    Sent,
    /// Upstream acknowledged it.
    Arrived,
}

/// What becomes of a PUBLISH with QoS 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// It goes up with QoS 1.
    New,
    /// It is on its way.
    Again,
    /// It has arrived: PUBREC.
    Received,
    /// There are too many.
    Full,
}

/// The messages between PUBLISH and PUBREL.
#[derive(Debug, Default)]
pub(super) struct Exactly {
    all: Vec<(u16, Stage)>,
}

impl Exactly {
    fn at(&self, id: u16) -> Option<usize> {
        self.all.iter().position(|(i, _)| *i == id)
    }

    pub(super) fn publish(&mut self, id: u16) -> Published {
        match self.at(id).and_then(|at| self.all.get(at)) {
            Some((_, Stage::Sent)) => Published::Again,
            Some((_, Stage::Arrived)) => Published::Received,
            None if self.all.len() >= EXACTLY_MAX => Published::Full,
            None => {
                self.all.push((id, Stage::Sent));
                Published::New
            }
        }
    }

    /// Upstream's PUBACK: whether the device is to get PUBREC in its place.
    pub(super) fn acknowledged(&mut self, id: u16) -> bool {
        let entry = self.all.iter_mut().find(|(i, s)| *i == id && *s == Stage::Sent);
        entry.map(|(_, stage)| *stage = Stage::Arrived).is_some()
    }

    /// The device's PUBREL: whether PUBCOMP may be said.
    pub(super) fn release(&mut self, id: u16) -> bool {
        match self.at(id) {
            None => true,
            Some(at) => {
                let arrived = self.all.get(at).is_some_and(|(_, s)| *s == Stage::Arrived);
                if arrived {
                    self.all.swap_remove(at);
                }
                arrived
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let mut e = Exactly::default();
        assert!(e.release(7), "of an earlier connection");
        assert_eq!(e.publish(7), Published::New);
        assert_eq!(e.publish(7), Published::Again);
        assert!(!e.release(7), "not yet received");
        assert!(!e.acknowledged(8), "an ordinary PUBACK");
        assert!(e.acknowledged(7));
        assert!(!e.acknowledged(7), "once");
        assert_eq!(e.publish(7), Published::Received);
        assert!(e.release(7));
        assert_eq!(e.publish(7), Published::New);
    }

    #[test]
    fn it_is_bounded() {
        let mut e = Exactly::default();
        for id in 1..=1_024 {
            assert_eq!(e.publish(id), Published::New);
        }
        assert_eq!(e.publish(2_000), Published::Full);
        assert!(e.acknowledged(5) && e.release(5));
        assert_eq!(e.publish(2_000), Published::New);
        assert!(e.all.capacity() * size_of::<(u16, Stage)>() <= 4 * EXACTLY_MAX);
    }
}
