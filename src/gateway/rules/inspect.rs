//! Whole packets of 3.1.1 at the front of a buffer, by way of a [`Checker`]; for the flow of today.

use super::{Checker, Direction, Violation, What};
use crate::mqtt::{Level, peek_frame};

/// What [`inspect`] found at the front of a buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass {
    /// So many bytes, whole packets all, may go on.
    pub bytes: usize,
    /// So many packets are in them.
    pub packets: u64,
    /// The last of them is a DISCONNECT: what follows is not looked at.
    pub disconnect: bool,
    /// What follows them breaks a rule.
    pub violation: Option<Violation>,
    /// The incomplete packet that follows has this size in bytes, if that is known yet.
    pub wanted: usize,
}

/// Looks at the packets at the front of `buffer`. `limit` bounds one packet, in bytes.
#[must_use]
pub fn inspect(direction: Direction, buffer: &[u8], limit: usize) -> Pass {
    let mut checker = Checker::new(Level::V3, direction, limit);
    let mut pass = Pass::default();
    while let Some(rest) = buffer.get(pass.bytes..) {
        match checker.look(rest) {
            Ok(Some(look)) if look.head.size <= rest.len() => {
                pass.bytes += look.head.size;
                pass.packets += 1;
                if matches!(look.what, What::Disconnect { .. }) {
                    pass.disconnect = true;
                    break;
                }
            }
            Ok(_) => {
                pass.wanted = peek_frame(rest, limit).ok().flatten().map_or(0, |head| head.size);
                break;
            }
            Err(violation) => {
                pass.violation = Some(violation);
                break;
            }
        }
    }
    pass
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISH: &[u8] = b"\x32\x07\x00\x01a\x00\x09hi";
    const PING: &[u8] = b"\xc0\x00";
    const DISCONNECT: &[u8] = b"\xe0\x00";

    fn up(bytes: &[u8]) -> Pass {
        inspect(Direction::Up, bytes, 1024)
    }

    #[test]
    fn whole_packets_go_on_and_the_rest_waits() {
        let all = [PUBLISH, PING, PUBLISH].concat();
        for cut in 0..=all.len() {
            let p = up(&all[..cut]);
            let want = [0, 9, 11, 20].into_iter().filter(|n| *n <= cut).max().unwrap();
            assert_eq!((p.bytes, p.violation), (want, None), "cut at {cut}");
        }
        assert_eq!(up(&all[..3]).wanted, 9);
        let p = up(&[PING, DISCONNECT, b"\x00garbage"].concat());
        assert_eq!((p.bytes, p.packets, p.disconnect, p.violation), (4, 2, true, None));
    }

    #[test]
    fn what_precedes_a_violation_still_goes_on() {
        let p = up(&[PUBLISH, b"\x10\x02ab"].concat());
        assert_eq!(p.bytes, 9);
        assert!(p.violation.unwrap().to_string().contains("MQTT-3.1.0-2"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived_and_only_whole_packets_pass(bytes: Vec<u8>, down: bool) {
            let d = if down { Direction::Down } else { Direction::Up };
            let p = inspect(d, &bytes, 256);
            proptest::prop_assert!(p.bytes <= bytes.len() && p.wanted <= 256);
            let again = inspect(d, &bytes[..p.bytes], 256);
            proptest::prop_assert_eq!((again.bytes, again.packets, again.violation), (p.bytes, p.packets, None));
        }
    }
}
