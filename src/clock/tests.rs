#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn the_floor_is_the_release_or_the_build() {
    assert_eq!(rfc3339(RELEASED), "2026-11-01T00:00:00Z");
    for says_nothing in [
        None,
        Some(""),
        Some("0"),
        Some("1"),
        Some("315532800"),
        Some("-5"),
        Some("now"),
    ] {
        assert_eq!(built(says_nothing), RELEASED, "{says_nothing:?}");
    }
    assert_eq!(rfc3339(built(Some("1800000000"))), "2027-01-15T08:00:00Z");
    assert!(FLOOR >= RELEASED);
    assert!(std::panic::catch_unwind(|| built(Some("9999999999"))).is_err());
}

#[test]
fn a_fork_jumps_alone() {
    let clock = Clock::new();
    let fork = clock.fork();
    let clone = fork.clone();
    fork.jump(86_400_000 * 400);
    assert!(clone.system() > clock.system() + 399 * DAY);
    assert!(clone.now().unwrap().0 > clock.now().unwrap().0 + 399 * DAY);
    fork.jump(-86_400_000 * 401);
    assert!(clone.system() < clock.system());
    assert!(clone.monotonic() < DAY && clock.skew() == 0);
    fork.jump(i64::MIN);
    assert_eq!(fork.system(), Duration::ZERO);
}

#[test]
fn network_time_is_checked_and_moves_on() {
    let clock = Clock::new();
    clock.trust_ntp(false);
    assert!(!clock.heard_network(Duration::from_secs(315_964_815)));
    let view = clock.view();
    assert_eq!(view.refused, Some(Duration::from_secs(315_964_815)));
    assert!(clock.heard_network(FLOOR + 9_000 * DAY));
    let view = clock.view();
    let (now, source) = view.now.unwrap();
    assert_eq!(source, Source::Carried(Witness::Network));
    assert!(now >= FLOOR + 9_000 * DAY);
    assert_eq!((view.refused, view.network), (None, Some(now)));
    assert!(view.system_ahead_s().unwrap() < 0, "unless it is 2051");
    assert!(
        view.why()
            .starts_with("network time from the modem; the system clock says 20")
    );
}

#[test]
fn the_kernels_word_outranks_the_file_and_trust_outranks_both() {
    let clock = Clock::new();
    clock.heard_kernel(Some(true));
    assert_eq!(clock.now().unwrap().1, Source::Ntp);
    clock.heard_kernel(Some(false));
    assert_eq!(clock.now().unwrap().1, Source::Confirmed(Witness::Ntp));
    let clock = Clock::new();
    clock.heard_kernel(Some(true));
    clock.trust_ntp(false);
    assert_eq!(clock.now().unwrap().1, Source::System);
}

#[test]
fn the_reasons_say_what_is_wrong() {
    let view = View {
        now: None,
        system: Duration::from_secs(100),
        network: None,
        refused: None,
        saved: None,
        floor: FLOOR,
    };
    let nobody = "neither NTP nor the network has said better";
    assert_eq!(
        view.why(),
        format!("the system clock says 1970-01-01T00:01:40Z, which cannot be; {nobody}")
    );
    let time = RELEASED + 100 * DAY;
    let behind = View {
        system: time - DAY,
        saved: Some(Saved { time, by: Witness::Ntp }),
        floor: time - TOLERANCE,
        refused: Some(time - 2 * DAY),
        ..view
    };
    assert_eq!(
        behind.why(),
        "the system clock says 2027-02-08T00:00:00Z, which is before 2027-02-09T00:00:00Z, the last time that was confirmed; the network says 2027-02-07T00:00:00Z, which cannot be either, and NTP nothing"
    );
    assert_eq!(behind.system_ahead_s(), None);
    let slow = View {
        now: Some((time, Source::Carried(Witness::Network))),
        ..view
    };
    assert_eq!(
        slow.why(),
        "network time from the modem; the system clock says 1970-01-01"
    );
    assert_eq!(
        slow.system_ahead_s(),
        Some(100 - i64::try_from(time.as_secs()).unwrap())
    );
    let good = View {
        now: Some((time, Source::Ntp)),
        system: time,
        ..view
    };
    assert_eq!(good.why(), "system clock, synchronised by NTP");
}
