use super::*;

fn imsi(n: usize) -> Imsi {
    format!("{:015}", 295_010_000_000_000_u64 + n as u64).parse().unwrap()
}

fn event(at: u64, what: What) -> Event {
    Event {
        at: Duration::from_secs(at),
        connection: at,
        peer: ([10, 0, 0, 1], 40_000).into(),
        client_id: "c".into(),
        credential: None,
        what,
    }
}

fn connected() -> What {
    What::Connected {
        upstream: "TLS 1.3".into(),
    }
}

fn refused(reason: &'static str) -> What {
    What::Refused {
        reason,
        why: "because".into(),
    }
}

fn ended() -> What {
    What::Ended {
        reason: "device_closed",
        why: "the device closed".into(),
        packets: (1, 2),
        bytes: (3, 4),
    }
}

fn words(device: &Device) -> Vec<&'static str> {
    device.events.iter().map(|n| n.event.what.word()).collect()
}

#[test]
fn a_devices_story_is_told_in_order_and_the_newest_part_of_it_is_kept() {
    let mut t = Timelines::default();
    for at in 0..100 {
        t.note(&imsi(1), event(at, if at % 2 == 0 { connected() } else { ended() }));
    }
    let device = t.device(&imsi(1)).unwrap();
    assert_eq!(device.events.len(), EVENTS_MAX);
    assert_eq!(device.seen(), Some(Duration::from_secs(99)));
    assert_eq!(words(device)[..2], ["connected", "ended"]);
    assert_eq!(t.events, EVENTS_MAX);
}

#[test]
fn what_repeats_is_one_event_with_a_count() {
    let mut t = Timelines::default();
    t.note(&imsi(1), event(1, connected()));
    t.note(&imsi(1), event(2, ended()));
    for at in 3..10_003 {
        t.note(&imsi(1), event(at, refused("credential")));
    }
    t.note(&imsi(1), event(2_000_000, refused("upstream_tls")));
    let device = t.device(&imsi(1)).unwrap();
    assert_eq!(words(device), ["connected", "ended", "refused", "refused"]);
    let noted = &device.events[2];
    assert_eq!(
        (noted.times, noted.first, noted.event.at),
        (10_000, Duration::from_secs(3), Duration::from_secs(10_002))
    );
    let mut other = event(2_000_001, refused("upstream_tls"));
    other.client_id = "d".into();
    t.note(&imsi(1), other);
    assert_eq!(
        t.device(&imsi(1)).unwrap().events.len(),
        5,
        "another client id is another story"
    );
}

#[test]
fn another_version_of_a_credential_is_told() {
    let mut t = Timelines::default();
    let with = |at, version| Event {
        credential: Some(Used {
            id: "myClient".into(),
            version,
        }),
        ..event(at, connected())
    };
    for (at, version) in [(1, 7), (2, 7), (3, 8), (4, 8)] {
        t.note(&imsi(1), with(at, version));
    }
    let device = t.device(&imsi(1)).unwrap();
    assert_eq!(
        words(device),
        ["connected", "connected", "rotated", "connected", "connected"]
    );
    assert_eq!(device.events[2].event.at, Duration::from_secs(3));
    assert_eq!(device.credential.as_ref().unwrap().version, 8);
}

#[test]
fn over_days_of_a_large_fleet_the_bounds_hold_and_the_least_recently_heard_go() {
    let mut t = Timelines::default();
    let fleet = DEVICES_MAX + 5_000;
    // Eight days: each device connects once a day; one speaks all the time.
    for day in 0..8_u64 {
        for n in 0..fleet {
            let at = day * 86_400 + n as u64;
            t.note(&imsi(n), event(at, connected()));
            if n % 100 == 0 {
                t.note(&imsi(0), event(at, ended()));
            }
        }
        assert!(
            t.devices.len() <= DEVICES_MAX && t.events <= ALL_EVENTS_MAX,
            "day {day}"
        );
        assert_eq!(t.devices.len(), t.heard.len());
        assert_eq!(t.events, t.devices.values().map(|d| d.events.len()).sum::<usize>());
    }
    assert!(t.device(&imsi(0)).is_some(), "it speaks all the time");
    assert!(t.device(&imsi(fleet - 1)).is_some());
    assert!(t.device(&imsi(1)).is_none(), "longest ago of all");
}

#[test]
fn the_total_of_events_is_bounded_too() {
    let mut t = Timelines::default();
    let talkers = ALL_EVENTS_MAX / EVENTS_MAX + 100;
    for n in 0..talkers {
        for at in 0..EVENTS_MAX as u64 {
            t.note(&imsi(n), event(at, if at % 2 == 0 { connected() } else { ended() }));
        }
    }
    assert_eq!(t.events, ALL_EVENTS_MAX);
    assert_eq!(t.devices.len(), ALL_EVENTS_MAX / EVENTS_MAX);
}

#[test]
fn strangers_are_few_and_counted() {
    let mut t = Timelines::default();
    for n in 0..1_000_u16 {
        let [high, low] = n.to_be_bytes();
        let mut knock = event(u64::from(n), refused("unknown_device"));
        knock.peer = ([10, 1, high, low], 1_000 + n).into();
        t.stranger(knock);
        let mut patient = event(u64::from(n), refused("unknown_device"));
        patient.peer = ([10, 2, 0, 1], 2_000 + n).into();
        t.stranger(patient);
    }
    let strangers = t.strangers();
    assert_eq!(strangers.len(), STRANGERS_MAX);
    assert_eq!(
        (strangers[0].times, strangers[0].event.peer.ip().to_string()),
        (1_000, "10.2.0.1".to_owned())
    );
    assert_eq!(strangers[1].times, 1);
}

#[test]
fn texts_are_cut_between_characters() {
    assert_eq!(cut("short"), "short");
    assert_eq!(cut(&"ß".repeat(1_000)).len(), TEXT_MAX);
    assert_eq!(cut(&format!("x{}", "ß".repeat(1_000))).len(), TEXT_MAX - 1);
}
