//! What is kept and what is replaced.

use super::*;
use crate::mqtt::{Will, split_frame};
use bytes::{Bytes, BytesMut};

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
        assert_eq!(idle(seconds).map(|d| d.as_millis()), idle_ms, "{seconds}");
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
fn only_a_connect_of_3_1_1_opens_the_door() {
    let frame = |bytes: &[u8]| split_frame(&mut BytesMut::from(bytes), 1024).unwrap().unwrap();
    assert_eq!(read(&frame(b"\xc0\x00")).unwrap_err().code(), None);
    assert_eq!(
        read(&frame(b"\x11\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"))
            .unwrap_err()
            .key(),
        "malformed"
    );
    let five = read(&frame(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00")).unwrap_err();
    assert_eq!((five.code(), five.key()), (Some(1), "version"));
    assert_eq!(read(&frame(&device().encode().unwrap())).unwrap(), device());
}
