//! What the broker promises.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const T0: Duration = Duration::from_secs(10);

fn limits() -> Limits {
    Limits {
        packet: 1 << 20,
        in_flight: 2,
        queue: 3,
        session_expiry: Duration::from_secs(100),
        hash_covers_parent: true,
        foreign_take_over: false,
    }
}

fn start(clean: bool) -> Start {
    Start {
        clean,
        expiry: if clean { Duration::ZERO } else { limits().session_expiry },
        window: 65_535,
    }
}

fn filter(filter: &str) -> Subscription {
    Subscription {
        filter: filter.into(),
        qos: 1,
        no_local: false,
        retain_as_published: false,
    }
}

fn who(client_id: &str, owner: &str) -> Session {
    Session {
        api_version: None,
        client_id: client_id.into(),
        owner: owner.into(),
        cn: owner.into(),
    }
}

fn message(payload: &'static str, qos: u8) -> Message {
    Message {
        topic: "a/b".into(),
        payload: Bytes::from_static(payload.as_bytes()),
        qos,
        ..Message::default()
    }
}

fn subscriber(b: &mut Broker, clean: bool) -> ConnectionId {
    let c = b.attach(&who("s", "o"), start(clean), T0).unwrap().connection;
    assert!(b.subscribe("s", c, filter("a/+"), RetainHandling::Always, T0));
    c
}

fn drain(b: &mut Broker, c: ConnectionId) -> Vec<(u16, bool, Bytes)> {
    std::iter::from_fn(|| b.next("s", c, T0))
        .map(|o| (o.id, o.dup, o.message.payload))
        .collect()
}

#[test]
fn the_window_holds_until_acknowledged_and_the_queue_is_bounded() {
    let mut b = Broker::new(limits(), Keeping::default());
    let c = subscriber(&mut b, true);
    for p in ["1", "2", "3"] {
        assert_eq!(b.publish(&message(p, 1)).wake, [c]);
    }
    assert_eq!(b.publish(&message("4", 1)).dropped, ["s"]);
    assert_eq!(drain(&mut b, c), [(1, false, "1".into()), (2, false, "2".into())]);
    b.acknowledged("s", c, 1);
    b.acknowledged("s", c, 77);
    assert_eq!(drain(&mut b, c), [(3, false, "3".into())]);
}

#[test]
fn bytes_are_bounded_too() {
    let mut b = Broker::new(limits(), Keeping::default());
    let c = subscriber(&mut b, true);
    let big = Message {
        topic: "a/b".into(),
        payload: vec![0; QUEUE_BYTES_MAX - 3].into(),
        qos: 1,
        ..Message::default()
    };
    assert_eq!(b.publish(&big).wake, [c]);
    assert_eq!(b.publish(&message("x", 0)).dropped, ["s"]);
    assert_eq!(drain(&mut b, c).len(), 1);
    assert_eq!(b.publish(&message("x", 0)).dropped, ["s"], "in flight counts");
    b.acknowledged("s", c, 1);
    assert_eq!(b.publish(&message("x", 0)).wake, [c]);
}

#[test]
fn a_session_that_goes_on_gets_what_it_did_not_acknowledge() {
    let mut b = Broker::new(limits(), Keeping::default());
    let c = subscriber(&mut b, false);
    b.publish(&message("1", 1));
    assert_eq!(drain(&mut b, c).len(), 1);
    b.detach("s", c, T0);
    b.publish(&message("2", 1));
    b.publish(&message("gone", 0));
    let again = b.attach(&who("s", "o"), start(false), T0).unwrap();
    assert!(again.session_present);
    assert_eq!(
        drain(&mut b, again.connection),
        [(1, true, "1".into()), (2, false, "2".into())]
    );
    assert_eq!(b.next("s", c, T0), None, "the old connection gets nothing");
}

#[test]
fn sessions_end_by_clean_start_expiry_and_forgetting() {
    let mut b = Broker::new(limits(), Keeping::default());
    let c = subscriber(&mut b, false);
    b.detach("s", c, T0);
    assert!(!b.attach(&who("s", "o"), start(true), T0).unwrap().session_present);
    let c = subscriber(&mut b, false);
    b.detach("s", c, T0);
    assert!(
        !b.attach(&who("s", "o"), start(false), T0 + Duration::from_secs(100))
            .unwrap()
            .session_present
    );
    b.forget();
    assert_eq!(b.publish(&message("1", 1)), Routed::default());
}

#[test]
fn take_over_displaces_and_foreigners_are_refused() {
    let mut b = Broker::new(limits(), Keeping::default());
    let first = b.attach(&who("s", "o"), start(true), T0).unwrap();
    let second = b.attach(&who("s", "O"), start(true), T0).unwrap();
    assert_eq!(second.displaced, Some(first.connection));
    b.detach("s", first.connection, T0);
    assert!(
        b.subscribe("s", second.connection, filter("a"), RetainHandling::Always, T0),
        "the late goodbye of the displaced does no harm"
    );
    assert_eq!(
        b.attach(&who("s", "p"), start(true), T0),
        Err(AttachError::Foreign("O".into()))
    );
    let loose = Limits {
        foreign_take_over: true,
        ..limits()
    };
    let mut aws = Broker::new(loose, Keeping::default());
    aws.attach(&who("s", "o"), start(true), T0).unwrap();
    assert!(aws.attach(&who("s", "p"), start(true), T0).unwrap().displaced.is_some());
}

#[test]
fn the_number_of_sessions_is_bounded() {
    let mut b = Broker::new(limits(), Keeping::default());
    for i in 0..SESSIONS_MAX {
        b.attach(&who(&i.to_string(), "o"), start(false), T0).unwrap();
    }
    assert_eq!(b.attach(&who("more", "o"), start(false), T0), Err(AttachError::Full));
    assert!(b.attach(&who("0", "o"), start(false), T0).is_ok());
}

#[test]
fn an_owner_has_so_many_sessions_and_those_away_count() {
    let keeping = Keeping {
        sessions_per_owner: Some(1),
        ..Keeping::default()
    };
    let mut b = Broker::new(limits(), keeping);
    let first = b.attach(&who("a", "Name"), start(false), T0).unwrap();
    b.detach("a", first.connection, T0);
    let refused = b.attach(&who("b", "name"), start(true), T0);
    assert!(
        matches!(refused, Err(AttachError::TooMany { held: 1, limit: 1, .. })),
        "{refused:?}"
    );
    assert!(b.attach(&who("b", "other"), start(true), T0).is_ok());
    assert!(b.attach(&who("a", "name"), start(false), T0).unwrap().session_present);
    // Once it has expired, there is room again.
    let again = b.attach(&who("a", "name"), start(false), T0).unwrap();
    b.detach("a", again.connection, T0);
    assert!(
        b.attach(&who("c", "name"), start(true), T0 + limits().session_expiry)
            .is_ok()
    );
}

#[test]
fn an_overflow_ends_the_session_where_the_cloud_does_so() {
    let keeping = Keeping {
        overflow_ends: true,
        ..Keeping::default()
    };
    let mut b = Broker::new(limits(), keeping);
    let c = subscriber(&mut b, false);
    for p in ["1", "2", "3"] {
        b.publish(&message(p, 1));
    }
    assert_eq!(b.publish(&message("x", 0)).dropped, ["s"], "QoS 0 is dropped");
    let routed = b.publish(&message("4", 1));
    assert_eq!(routed.overflowed, [("s".to_owned(), Some(c))]);
    assert_eq!(b.connection("s"), None);
    assert_eq!(drain(&mut b, c), []);
}

#[test]
fn kept_messages_come_with_a_subscription_as_it_wants_them() {
    let mut b = Broker::new(limits(), Keeping::default());
    assert!(b.retain(&message("old", 1), T0));
    assert!(b.retain(&message("kept", 1), T0));
    let c = b.attach(&who("s", "o"), start(true), T0).unwrap().connection;
    for (handling, want) in [
        (RetainHandling::Never, 0),
        (RetainHandling::WhenNew, 0),
        (RetainHandling::Always, 1),
    ] {
        assert!(b.subscribe("s", c, filter("a/+"), handling, T0));
        let got: Vec<_> = std::iter::from_fn(|| b.next("s", c, T0)).collect();
        assert_eq!(got.len(), want, "{handling:?}");
        assert!(got.iter().all(|o| o.message.retain && o.message.payload == "kept"));
    }
    b.unsubscribe("s", c, "a/+");
    b.acknowledged("s", c, 1);
    assert!(b.subscribe("s", c, filter("a/+"), RetainHandling::WhenNew, T0));
    assert_eq!(drain(&mut b, c).len(), 1);
    // An empty one takes it away, and one that has expired is none.
    assert!(b.retain(&message("", 1), T0));
    let short = Message {
        expires: Some(T0 + Duration::from_secs(1)),
        ..message("short", 0)
    };
    assert!(b.retain(&short, T0));
    assert!(b.subscribe(
        "s",
        c,
        filter("a/+"),
        RetainHandling::Always,
        T0 + Duration::from_secs(1)
    ));
    assert_eq!(drain(&mut b, c), []);
}

#[test]
fn kept_messages_are_bounded_in_number_and_bytes() {
    let mut b = Broker::new(limits(), Keeping::default());
    let at = |i: usize, size: usize| Message {
        topic: format!("t/{i}").into(),
        payload: vec![0; size].into(),
        ..Message::default()
    };
    for i in 0..RETAINED_MAX {
        assert!(b.retain(&at(i, 1), T0));
    }
    assert!(!b.retain(&at(RETAINED_MAX, 1), T0));
    assert!(
        b.retain(&at(0, 2), T0),
        "a new one of the same topic takes the old one's place"
    );
    let mut b = Broker::new(limits(), Keeping::default());
    assert!(!b.retain(&at(0, RETAINED_BYTES_MAX), T0));
    assert!(b.retain(&at(0, RETAINED_BYTES_MAX - 3), T0));
    assert!(!b.retain(&at(1, 1), T0));
}

#[test]
fn own_messages_expiry_and_flags_are_kept_apart() {
    let mut b = Broker::new(limits(), Keeping::default());
    let c = b.attach(&who("s", "o"), start(true), T0).unwrap().connection;
    let subscription = Subscription {
        no_local: true,
        retain_as_published: true,
        ..filter("a/b")
    };
    assert!(b.subscribe("s", c, subscription, RetainHandling::Always, T0));
    let own = Message {
        from: Some("s".into()),
        ..message("own", 1)
    };
    assert_eq!(b.publish(&own), Routed::default());
    let stale = Message {
        expires: Some(T0),
        ..message("stale", 1)
    };
    let flagged = Message {
        retain: true,
        from: Some("other".into()),
        ..message("flagged", 1)
    };
    b.publish(&stale);
    b.publish(&flagged);
    let got = b.next("s", c, T0).unwrap();
    assert!(got.message.retain && got.message.payload == "flagged", "{got:?}");
}

#[test]
fn a_window_of_the_device_s_own_is_respected() {
    let mut b = Broker::new(limits(), Keeping::default());
    let one = Start {
        window: 1,
        ..start(false)
    };
    let c = b.attach(&who("s", "o"), one, T0).unwrap().connection;
    assert!(b.subscribe("s", c, filter("a/+"), RetainHandling::Always, T0));
    b.publish(&message("1", 1));
    b.publish(&message("2", 1));
    assert_eq!(drain(&mut b, c), [(1, false, "1".into())]);
    b.acknowledged("s", c, 1);
    assert_eq!(drain(&mut b, c), [(2, false, "2".into())]);
    let again = b.attach(&who("s", "o"), one, T0).unwrap().connection;
    assert!(b.goes_on("s", c), "the session is taken up");
    assert!(!b.goes_on("s", again));
    b.attach(&who("s", "o"), start(true), T0).unwrap();
    assert!(!b.goes_on("s", again), "a clean start is another session");
}

#[test]
fn a_will_waits_until_the_session_is_taken_up() {
    let mut b = Broker::new(limits(), Keeping::default());
    let first = b.attach(&who("s", "o"), start(false), T0).unwrap().connection;
    assert!(b.will_waits("s", first));
    b.detach("s", first, T0);
    let brief = Start {
        expiry: Duration::ZERO,
        ..start(false)
    };
    let second = b.attach(&who("s", "o"), brief, T0).unwrap();
    assert!(second.session_present);
    b.detach("s", second.connection, T0);
    assert!(!b.will_is_due(first), "taken up, though it has ended since");
    let third = b.attach(&who("s", "o"), start(false), T0).unwrap().connection;
    assert!(b.will_waits("s", third));
    b.attach(&who("s", "o"), start(true), T0).unwrap();
    assert!(
        b.will_is_due(third) && !b.will_is_due(third),
        "a clean start is no going on"
    );
    let fourth = b.attach(&who("s", "o"), start(false), T0).unwrap().connection;
    b.attach(&who("s", "o"), start(false), T0).unwrap();
    assert!(!b.will_waits("s", fourth), "taken over");
    let fifth = b.attach(&who("s", "o"), start(true), T0).unwrap().connection;
    assert!(b.will_waits("s", fifth));
    b.forget();
    assert!(!b.will_is_due(fifth), "forgotten with the session");
}

/// What happens to a broker, for the property below.
#[derive(Debug, Clone)]
enum Step {
    Attach(u8, bool),
    Detach(u8),
    Subscribe(u8),
    Publish(u8, usize),
    Next(u8),
    Ack(u8, u16),
}

proptest! {
    /// Whatever happens: windows and queues hold, identifiers are unique, no session has more bytes than it may.
    #[test]
    fn bounds_hold_whatever_happens(steps in proptest::collection::vec(prop_oneof![
        (0u8..3, any::<bool>()).prop_map(|(s, c)| Step::Attach(s, c)),
        (0u8..3).prop_map(Step::Detach),
        (0u8..3).prop_map(Step::Subscribe),
        (0u8..2, 0usize..400_000).prop_map(|(q, n)| Step::Publish(q, n)),
        (0u8..3).prop_map(Step::Next),
        (0u8..3, 1u16..5).prop_map(|(s, i)| Step::Ack(s, i)),
    ], 0..120)) {
        let mut b = Broker::new(limits(), Keeping::default());
        let mut held: [Option<ConnectionId>; 3] = [None; 3];
        let name = |s: u8| format!("s{s}");
        for step in steps {
            match step {
                Step::Attach(s, clean) => {
                    held[usize::from(s)] = b.attach(&who(&name(s), "o"), start(clean), T0).ok().map(|a| a.connection);
                }
                Step::Detach(s) => if let Some(c) = held[usize::from(s)].take() { b.detach(&name(s), c, T0) },
                Step::Subscribe(s) => if let Some(c) = held[usize::from(s)] {
                    prop_assert!(b.subscribe(&name(s), c, filter("a/b"), RetainHandling::Always, T0));
                },
                Step::Publish(qos, size) => { b.publish(&Message { payload: vec![0; size].into(), ..message("", qos) }); }
                Step::Next(s) => if let Some(c) = held[usize::from(s)] { b.next(&name(s), c, T0); },
                Step::Ack(s, id) => if let Some(c) = held[usize::from(s)] { b.acknowledged(&name(s), c, id); },
            }
            for state in b.sessions.values() {
                state.check(&limits());
            }
        }
    }
}
