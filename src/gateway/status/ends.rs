//! Why relayed connections ended, as words for counters and JSON.

use crate::gateway::relay::{End, Side};

/// The keys, in the order of the counters.
pub const ENDS: [&str; 13] = [
    "device_disconnected",
    "device_closed",
    "upstream_closed",
    "device_broke",
    "upstream_broke",
    "device_stalled",
    "upstream_stalled",
    "device_silent",
    "device_violation",
    "upstream_violation",
    "gateway_stopped",
    "policy",
    "administrative",
];

/// The key of an end.
#[must_use]
pub fn key(end: &End) -> &'static str {
    let by = |side: &Side, device: &'static str, upstream: &'static str| match side {
        Side::Device => device,
        Side::Upstream => upstream,
    };
    match end {
        End::Disconnected => "device_disconnected",
        End::Closed(side) => by(side, "device_closed", "upstream_closed"),
        End::Broke(side, _) => by(side, "device_broke", "upstream_broke"),
        End::Stalled(side, _) => by(side, "device_stalled", "upstream_stalled"),
        End::Idle(_) => "device_silent",
        End::Violation(side, _) => by(side, "device_violation", "upstream_violation"),
        End::Policy(_) => "policy",
        End::Drained | End::Cut(_) => STOPPED,
        End::Barred(_) => "administrative",
    }
}

/// The key of a connection that the gateway itself ended, because it stops.
pub const STOPPED: &str = "gateway_stopped";

/// Position of a key in [`ENDS`].
#[must_use]
pub(super) fn index(key: &str) -> Option<usize> {
    ENDS.iter().position(|k| *k == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::subscriber::Bar;

    #[test]
    fn every_end_has_a_counter() {
        assert_eq!(index("administrative"), Some(ENDS.len() - 1));
        let error = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        for side in [Side::Device, Side::Upstream] {
            for end in [
                End::Disconnected,
                End::Closed(side),
                End::Broke(side, error()),
                End::Stalled(side, 1),
                End::Idle(1),
                End::Drained,
                End::Cut(1),
                End::Barred(Bar::Removed),
            ] {
                assert!(index(key(&end)).is_some(), "{end}");
            }
        }
        assert!(index(STOPPED).is_some());
        assert!(index("device_violation").is_some() && index("upstream_violation").is_some());
    }
}
