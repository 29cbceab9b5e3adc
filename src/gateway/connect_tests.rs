//! What is kept and what is replaced.

use super::*;
use crate::gateway::group::Kind;
use crate::mqtt::split_frame;
use bytes::BytesMut;

fn group(username: Option<&str>, pass_login: bool) -> Group {
    let mut g = Group::for_tests("localhost", "myClient-#{imsi}");
    g.login = match username {
        Some(t) => Login::Fixed {
            username: t.parse().unwrap(),
            password: None,
        },
        None if pass_login => Login::PassThrough,
        None => Login::None,
    };
    g
}

fn who(imei: Option<&str>) -> Subscriber {
    Subscriber {
        imsi: "295012345678901".parse().unwrap(),
        imei: imei.map(|i| i.parse().unwrap()),
        iccid: None,
    }
}

fn device() -> Connect {
    let mut c = Connect::new("myClient-295012345678901-123456789011111", false, 60);
    c.username = Some("x".into());
    c.password = Some(Bytes::from_static(b"secret"));
    c.will = Some(Will {
        topic: "t".into(),
        payload: Bytes::from_static(&[0, 255]),
        qos: 1,
        retain: true,
        properties: Bytes::new(),
    });
    c
}

#[test]
fn the_login_is_replaced_and_the_rest_kept() {
    let p = plan(
        device(),
        &who(None),
        By::Source,
        &group(Some("myClient-#{imsi}"), false),
    )
    .unwrap();
    let mut want = device();
    want.username = Some("myClient-295012345678901".into());
    want.password = None;
    assert_eq!(p.connect, want);
    assert_eq!(p.names.credential.unwrap().as_str(), "myClient-295012345678901");
    assert_eq!(p.idle, Duration::from_secs(90));
}

#[test]
fn a_login_passes_only_when_asked_and_a_token_never() {
    let login = |by, g: &Group| {
        let c = plan(device(), &who(None), by, g).unwrap().connect;
        (c.username, c.password)
    };
    assert_eq!(login(By::Source, &group(None, false)), (None, None));
    assert_eq!(
        login(By::Source, &group(None, true)),
        (Some("x".into()), Some(Bytes::from_static(b"secret")))
    );
    assert_eq!(login(By::Token, &group(None, true)), (Some("x".into()), None));
    assert_eq!(login(By::Token, &group(None, false)), (None, None));
}

#[test]
fn beams_keep_alive_rule() {
    for (seconds, idle_ms) in [
        (0, Some(1_800_000)),
        (4, None),
        (5, Some(7_500)),
        (1_200, Some(1_800_000)),
        (1_201, None),
    ] {
        assert_eq!(
            idle(seconds, &KeepAlive::default()).map(|d| d.as_millis()),
            idle_ms,
            "{seconds}"
        );
    }
    let mut c = device();
    c.keep_alive = 3;
    let e = plan(c, &who(None), By::Source, &group(None, false)).unwrap_err();
    assert_eq!((e.code(), e.key()), (Some(5), "keep_alive"));
}

#[test]
fn a_missing_number_is_the_operators_fault() {
    let e = plan(device(), &who(None), By::Source, &group(Some("c-#{imei}"), false)).unwrap_err();
    assert_eq!(e.code(), Some(3));
    assert!(e.to_string().contains("#{imei}"), "{e}");
    assert!(
        plan(
            device(),
            &who(Some("123456789011111")),
            By::Source,
            &group(Some("c-#{imei}"), false)
        )
        .is_ok()
    );
}

#[test]
fn only_a_connect_opens_the_door() {
    let frame = |bytes: &[u8]| split_frame(&mut BytesMut::from(bytes), 1024).unwrap().unwrap();
    assert_eq!(read(&frame(b"\xc0\x00")).unwrap_err().code(), None);
    let flags = read(&frame(b"\x11\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")).unwrap_err();
    assert_eq!(flags.key(), "malformed");
    let five = read(&frame(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00")).unwrap();
    assert_eq!(five.level, Level::V5);
    let six = read(&frame(b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x3c\x00\x00\x00")).unwrap_err();
    assert_eq!((six.code(), six.key()), (Some(1), "version"));
    assert_eq!(read(&frame(&device().encode().unwrap())).unwrap(), device());
}

fn of(kind: Kind) -> Group {
    let mut g = group(None, false);
    g.upstream.kind = kind;
    g.policy = Policy::of(kind);
    g
}

fn planned(connect: Connect, g: &Group) -> Result<Plan, Refusal> {
    plan(connect, &who(None), By::Source, g)
}

fn five() -> Connect {
    Connect {
        level: Level::V5,
        ..device()
    }
}

#[test]
fn a_password_is_filled_and_its_errors_tell_nothing_of_it() {
    let mut g = group(None, false);
    let with = |password: &str| Login::Fixed {
        username: "u".parse().unwrap(),
        password: Some(password.to_owned().into()),
    };
    g.login = with("pw-#{imsi}");
    let p = planned(device(), &g).unwrap();
    assert_eq!(p.connect.password.as_deref(), Some(&b"pw-295012345678901"[..]));
    for (password, why) in [
        ("hush-#{imei}", "add it"),
        ("hush#{", "never closed"),
        ("hush#{hush}", "unknown placeholder"),
    ] {
        g.login = with(password);
        let e = planned(device(), &g).unwrap_err().to_string();
        assert!(e.contains(why) && !e.contains("hush"), "{e}");
    }
}

#[test]
fn a_group_has_its_own_bounds_of_keep_alive() {
    let mut g = group(None, false);
    g.keep_alive = KeepAlive {
        min: 1,
        max: 10,
        idle_at_zero: Duration::from_secs(7),
    };
    let with = |seconds| Connect {
        keep_alive: seconds,
        ..device()
    };
    assert_eq!(planned(with(0), &g).unwrap().idle, Duration::from_secs(7));
    assert_eq!(planned(with(3), &g).unwrap().idle, Duration::from_millis(4_500));
    assert!(
        planned(with(11), &g)
            .unwrap_err()
            .to_string()
            .contains("0 or 1 to 10 s")
    );
}

#[test]
fn upstream_gets_its_longest_keep_alive_and_our_pings() {
    let granted = |g: &Group, seconds| {
        let p = planned(
            Connect {
                keep_alive: seconds,
                ..device()
            },
            g,
        )?;
        let connack = ConnAck {
            level: Level::V3,
            session_present: true,
            code: 0,
            properties: Bytes::new(),
        };
        let granted = p.granted(connack, 1_000)?;
        assert!(granted.connack.session_present && granted.terms.max_packet == 1_000);
        Ok::<_, Refusal>((
            p.connect.keep_alive,
            granted.deal.keep_alive(),
            granted.terms.idle.as_secs(),
        ))
    };
    let grid = of(Kind::EventGrid);
    assert_eq!(granted(&grid, 1_200), Ok((1_160, Some(1_160), 1_800)));
    assert_eq!(granted(&grid, 0), Ok((1_160, Some(1_160), 1_800)));
    assert_eq!(granted(&grid, 60), Ok((60, None, 90)));
    assert_eq!(granted(&of(Kind::IotHub), 0), Ok((1_177, Some(1_177), 1_800)));
    assert_eq!(granted(&of(Kind::Standard), 0), Ok((0, None, 1_800)));
    let mut limited = of(Kind::Standard);
    limited.rate.messages = 1;
    assert_eq!(granted(&limited, 60), Ok((60, Some(60), 90)), "who is held cannot ping");
    let mut refuse = of(Kind::AwsIot);
    refuse.policy.set(Matter::KeepAlive, Answer::Refuse).unwrap();
    let e = granted(&refuse, 0).unwrap_err();
    assert_eq!((e.key(), e.code()), ("policy", Some(5)));
}

#[test]
fn wills_are_rewritten_limited_or_refused() {
    let will = |topic: &str, qos| {
        let mut c = device();
        c.will = Some(Will {
            topic: topic.into(),
            qos,
            ..c.will.unwrap()
        });
        c
    };
    let mut g = of(Kind::AwsIot);
    g.topics = crate::gateway::group::Topics {
        append_imsi: true,
        placeholders: true,
    };
    let sent = planned(will("w/{{imsi}}", 2), &g).unwrap().connect.will.unwrap();
    assert_eq!(
        (sent.topic.as_str(), sent.qos, sent.retain),
        ("w/295012345678901/295012345678901", 1, true)
    );
    let e = planned(will("{{imei}}", 0), &g).unwrap_err();
    assert!(e.code() == Some(3) && e.to_string().contains("add its IMEI"), "{e}");
    g.policy.set(Matter::WillRetain, Answer::Adapt).unwrap();
    assert!(!planned(will("w", 0), &g).unwrap().connect.will.unwrap().retain);
    let e = planned(will("1/2/3/4/5/6/7/8", 0), &g).unwrap_err();
    assert!(e.to_string().contains("9 levels"), "{e}");
    for (matter, code) in [(Matter::WillRetain, 0x9a), (Matter::WillQos2, 0x9b)] {
        let mut g = of(Kind::AwsIot);
        g.policy.set(matter, Answer::Refuse).unwrap();
        let e = planned(will("w", 2), &g).unwrap_err();
        assert_eq!(
            (e.connack(Level::V3).unwrap().code, e.connack(Level::V5).unwrap().code),
            (5, code)
        );
    }
    assert_eq!(
        planned(will("w", 2), &of(Kind::Standard))
            .unwrap()
            .connect
            .will
            .unwrap()
            .qos,
        2
    );
    let mut old = of(Kind::Standard);
    old.platform = Platform::Old;
    assert_eq!(planned(will("w", 0), &old).unwrap().connect.will, None);
    let mut large = will("w", 0);
    large.will.as_mut().unwrap().payload = vec![0; 60_000].into();
    assert!(planned(large, &of(Kind::AwsIot)).is_ok());
}

#[test]
fn empty_client_ids_and_mqtt_5_go_where_they_are_taken() {
    let empty = Connect::new("", true, 60);
    assert!(planned(empty.clone(), &of(Kind::Standard)).is_ok());
    for kind in [Kind::AwsIot, Kind::EventGrid, Kind::IotHub] {
        let e = planned(empty.clone(), &of(kind)).unwrap_err();
        assert_eq!(
            (e.connack(Level::V3).unwrap().code, e.connack(Level::V5).unwrap().code),
            (2, 0x85)
        );
    }
    let e = planned(five(), &of(Kind::IotHub)).unwrap_err();
    assert_eq!((e.key(), e.connack(Level::V5).unwrap().code), ("version", 0x84));
    for kind in [Kind::AwsIot, Kind::EventGrid, Kind::Standard] {
        assert_eq!(planned(five(), &of(kind)).unwrap().connect.level, Level::V5);
    }
}

fn connack(properties: &[(u8, Value<'_>)]) -> ConnAck {
    let mut section = Vec::new();
    for (id, value) in properties {
        properties::put(&mut section, *id, *value).unwrap();
    }
    ConnAck {
        level: Level::V5,
        session_present: false,
        code: 0,
        properties: section.into(),
    }
}

#[test]
fn what_mqtt_5_is_told_is_the_lower_of_both() {
    let p = planned(five(), &of(Kind::EventGrid)).unwrap();
    let theirs = connack(&[
        (id::RECEIVE_MAXIMUM, Value::Two(16)),
        (id::MAXIMUM_QOS, Value::Byte(1)),
        (id::TOPIC_ALIAS_MAXIMUM, Value::Two(10)),
        (id::SERVER_KEEP_ALIVE, Value::Two(30)),
        (id::ASSIGNED_CLIENT_ID, Value::Text("given")),
        (id::SHARED_AVAILABLE, Value::Byte(1)),
        (id::USER, Value::Pair("a", "b")),
    ]);
    let granted = p.granted(theirs, 1 << 20).unwrap();
    let told = granted.connack.properties();
    assert_eq!(
        (told.two(id::RECEIVE_MAXIMUM), told.two(id::TOPIC_ALIAS_MAXIMUM)),
        (Some(16), Some(10))
    );
    assert_eq!(
        (told.byte(id::MAXIMUM_QOS), told.four(id::MAXIMUM_PACKET)),
        (Some(1), Some(512 << 10))
    );
    assert_eq!(
        (told.byte(id::SHARED_AVAILABLE), told.byte(id::IDENTIFIERS_AVAILABLE)),
        (Some(0), Some(0))
    );
    assert_eq!(
        (told.two(id::SERVER_KEEP_ALIVE), told.text(id::ASSIGNED_CLIENT_ID)),
        (Some(30), Some("given"))
    );
    assert_eq!(told.byte(id::RETAIN_AVAILABLE), None);
    assert_eq!(
        granted.terms.idle,
        Duration::from_secs(45),
        "Server Keep Alive is what the device obeys"
    );
    // Our own packet is read back by the rules for CONNACK, so it has each property once.
    let bytes = granted.connack.encode().unwrap();
    assert_eq!(ConnAck::decode(Level::V5, &bytes[2..]).unwrap(), granted.connack);

    let mut g = of(Kind::Standard);
    g.topics.append_imsi = true;
    g.policy.set(Matter::Retain, Answer::Adapt).unwrap();
    let p = planned(five(), &g).unwrap();
    let theirs = connack(&[
        (id::MAXIMUM_PACKET, Value::Four(1_000)),
        (id::RETAIN_AVAILABLE, Value::Byte(0)),
    ]);
    let granted = p.granted(theirs, 1 << 20).unwrap();
    let told = granted.connack.properties();
    assert_eq!(
        (told.four(id::MAXIMUM_PACKET), told.byte(id::RETAIN_AVAILABLE)),
        (Some(936), Some(1))
    );
    assert_eq!(told.byte(id::MAXIMUM_QOS), None, "none is 2");
}

#[test]
fn what_upstream_does_not_grant_the_flow_does_not_let_through() {
    let flow = |properties: &[(u8, Value<'_>)]| {
        let p = planned(five(), &of(Kind::Standard)).unwrap();
        p.granted(connack(properties), 1 << 20).unwrap().flow(Duration::ZERO)
    };
    let qos1 = b"\x32\x06\x00\x01t\x00\x07\x00";
    let said = |mut f: Flow, bytes: &[u8]| {
        let step = f.up(bytes, Duration::ZERO);
        (
            step.back.map(|b| b[2]),
            step.end.map(|e| e.to_string()).unwrap_or_default(),
        )
    };
    assert_eq!(said(flow(&[]), qos1), (None, String::new()));
    let (code, why) = said(flow(&[(id::MAXIMUM_QOS, Value::Byte(0))]), qos1);
    assert!(code == Some(0x9b) && why.contains("upstream takes 0"), "{why}");
    let (code, why) = said(
        flow(&[(id::RETAIN_AVAILABLE, Value::Byte(0))]),
        b"\x31\x04\x00\x01t\x00",
    );
    assert!(code == Some(0x9a) && why.contains("retain"), "{why}");
    let two = [&qos1[..], b"\x32\x06\x00\x01t\x00\x08\x00"].concat();
    let (code, why) = said(flow(&[(id::RECEIVE_MAXIMUM, Value::Two(1))]), &two);
    assert!(code == Some(0x93) && why.contains("receive-maximum"), "{why}");
    let mut f = flow(&[(id::RECEIVE_MAXIMUM, Value::Two(1))]);
    for _ in 0..3 {
        assert!(f.up(qos1, Duration::ZERO).end.is_none());
        assert_eq!(f.down(b"\x40\x02\x00\x07", Duration::ZERO).take, 4);
    }
    let (code, _) = said(
        flow(&[(id::MAXIMUM_PACKET, Value::Four(10))]),
        b"\x30\x0a\x00\x01t\x00xxxxxx",
    );
    assert_eq!(code, Some(0x95));
    let alias = b"\x30\x07\x00\x01t\x03\x23\x00\x01";
    assert_eq!(said(flow(&[(id::TOPIC_ALIAS_MAXIMUM, Value::Two(1))]), alias).0, None);
    assert_eq!(said(flow(&[]), alias).0, Some(0x94));
}

#[test]
fn upstreams_refusals_are_the_devices() {
    let p = planned(five(), &of(Kind::Standard)).unwrap();
    let e = p.granted(ConnAck::refusal(Level::V5, 5), 1).unwrap_err();
    assert_eq!(
        (e.clone(), e.connack(Level::V5).unwrap().code),
        (Refusal::Upstream5(0x87), 0x87)
    );
    let e = p.granted(ConnAck::refusal(Level::V3, 1), 1).unwrap_err();
    assert_eq!(
        (e.clone(), e.connack(Level::V5).unwrap().code),
        (Refusal::Upstream(1), 0x84)
    );
}
