//! Every rule of the book, broken.

use super::super::testing::{check, connect};
use super::*;
use crate::bench::clouds::aws_iot::registry::{Registration, Status};
use crate::bench::clouds::aws_iot::testing::{Account, HOST, at};
use crate::bench::clouds::backend::Backend;
use bytes::Bytes;

#[test]
fn every_rule_is_kept() {
    let a = Account::new(&["a/#", "b"]);
    let p = &a.policy;
    let session = a.session("thing", "thing-1");
    let join = |id: &str| p.connect(&a.greeted("thing"), &connect(id, None)).map(|_| ());
    let publish = |topic: &str, qos: u8, payload: usize| p.publish(&session, Publication { topic, qos, payload });
    let subscribe = |filter: &str, qos: u8, held: usize| p.subscribe(&session, filter, qos, held).map(|_| ());
    let greet = |peer: &Peer| a.aws.greet(peer, at(0)).1;
    let stranger = Account::new(&["#"]);
    let jit = Account::with(&["#"], Registration::Jitr { activate_after: None });
    let off = Account::with(&["#"], Registration::Off);
    let new = jit.peer("thing");
    let mut expired = a.peer("thing");
    expired.chain = vec![crate::bench::clouds::aws_iot::testing::der(
        &a.ca.expired_device("thing").unwrap().leaf_pem,
    )];
    let retain = |topic: &str| {
        let payload = 0;
        let p = Publication { topic, qos: 1, payload };
        a.policy.retain(&session, p).map(|_| ())
    };
    let twice = || {
        let peer = a.peer("thing");
        a.aws.admit(&peer, &session, at(5_000)).unwrap();
        a.aws.admit(&peer, &session, at(5_999))
    };
    let will = || {
        let mut c = connect("thing", None);
        c.will = Some(crate::mqtt::Will {
            topic: "c".into(),
            payload: Bytes::new(),
            qos: 0,
            retain: false,
            properties: bytes::Bytes::new(),
        });
        p.connect(&a.greeted("thing"), &c).map(|_| ())
    };
    let close = Look::Close;
    check(
        p,
        vec![
            ("aws-iot/sni", close, p.hello(None)),
            ("aws-iot/sni", close, p.hello(Some("example.com"))),
            ("aws-iot/certificate", close, greet(&stranger.peer("thing"))),
            ("aws-iot/certificate", close, off.aws.greet(&off.peer("thing"), at(0)).1),
            ("aws-iot/certificate", close, {
                let none = super::super::testing::peer("thing");
                p.connect(&none, &connect("thing", None)).map(|_| ())
            }),
            ("aws-iot/first-connection", close, jit.aws.greet(&new, at(0)).1),
            ("aws-iot/certificate-status", close, jit.aws.greet(&new, at(0)).1),
            (
                "aws-iot/certificate-status",
                close,
                greet(&a.in_state("i", Status::Inactive)),
            ),
            (
                "aws-iot/certificate-status",
                close,
                greet(&a.in_state("r", Status::Revoked)),
            ),
            ("aws-iot/certificate-validity", close, greet(&expired)),
            ("aws-iot/client-id", close, join("")),
            ("aws-iot/client-id", close, join("$thing")),
            ("aws-iot/client-id", close, join(&format!("thing-{}", "1".repeat(123)))),
            ("aws-iot/connect-permission", close, join("another")),
            ("aws-iot/connect-permission", close, join("thing2")),
            ("aws-iot/connect-rate", close, twice()),
            ("aws-iot/qos-2", Look::Silence, publish("a/b", 2, 1)),
            ("aws-iot/qos-2", Look::Silence, subscribe("a/b", 2, 0)),
            ("aws-iot/topic-size", close, publish("a/1/2/3/4/5/6/7/8", 0, 1)),
            (
                "aws-iot/topic-size",
                close,
                publish("$aws/rules/r/a/1/2/3/4/5/6/7/8", 0, 1),
            ),
            (
                "aws-iot/topic-size",
                close,
                subscribe(&format!("a/{}", "b".repeat(255)), 0, 0),
            ),
            ("aws-iot/payload-size", close, publish("a/b", 0, PAYLOAD_MAX + 1)),
            ("aws-iot/reserved-topic", close, publish("$SYS/a", 0, 1)),
            (
                "aws-iot/reserved-topic",
                close,
                publish("$aws/things/thing/shadow/get/accepted", 0, 1),
            ),
            ("aws-iot/reserved-topic", close, subscribe("$SYS/#", 0, 0)),
            ("aws-iot/publish-permission", close, publish("c", 0, 1)),
            (
                "aws-iot/publish-permission",
                close,
                publish("$aws/things/other/shadow/update", 0, 1),
            ),
            ("aws-iot/publish-permission", close, publish("$aws/rules/r/a", 0, 1)),
            ("aws-iot/publish-permission", close, will()),
            ("aws-iot/retain-permission", close, retain("c")),
            (
                "aws-iot/retain-permission",
                close,
                retain("$aws/things/thing/shadow/get"),
            ),
            ("aws-iot/subscribe-permission", close, subscribe("#", 0, 0)),
            (
                "aws-iot/subscribe-permission",
                close,
                subscribe("$aws/events/presence/connected/+", 0, 0),
            ),
            ("aws-iot/filters-per-subscribe", close, p.subscribe_packet(9)),
            (
                "aws-iot/publish-permission",
                Look::In5(Look5::PubAck(reason::NOT_AUTHORIZED)),
                publish("c", 1, 1),
            ),
            (
                "aws-iot/subscribe-permission",
                Look::In5(Look5::SubAck(reason::NOT_AUTHORIZED)),
                subscribe("c", 1, 0),
            ),
            (
                "aws-iot/connect-permission",
                Look::In5(Look5::ConnAck(reason::NOT_AUTHORIZED)),
                join("another"),
            ),
            ("aws-iot/subscriptions", Look::SubAckFailure, subscribe("a/b", 0, 50)),
        ],
    );
}

#[test]
fn what_keeps_the_rules_is_taken() {
    let a = Account::new(&["a/#"]);
    let p = &a.policy;
    assert_eq!(p.hello(Some(HOST)), Ok(()));
    assert_eq!(p.hello(Some("localhost")), Ok(()));
    let session = a.session("thing", "thing");
    let publish = |topic: &str| {
        let payload = PAYLOAD_MAX;
        p.publish(&session, Publication { topic, qos: 1, payload })
    };
    assert_eq!(publish("a/1/2/3/4/5/6/7"), Ok(()));
    assert_eq!(publish("$aws/things/thing/shadow/name/config/update"), Ok(()));
    assert_eq!(p.subscribe(&session, "a/+/#", 1, 49), Ok(1));
    assert_eq!(
        p.subscribe(&session, "$aws/things/thing/shadow/update/delta", 1, 0),
        Ok(1)
    );
    assert_eq!(p.subscribe_packet(8), Ok(()));
    assert!(p.receive(&session, "a/b") && !p.receive(&session, "c") && !p.receive(&session, "$aws/rules/r/a"));
    a.aws.admit(&a.peer("thing"), &session, at(5_000)).unwrap();
    a.aws.admit(&a.peer("thing"), &session, at(6_000)).unwrap();
    for (asked, seconds) in [(0, 1_800), (5, 45), (60, 90), (1_201, 1_800)] {
        assert_eq!(p.silence_allowed(asked), Duration::from_secs(seconds), "{asked}");
    }
    // Basic Ingest: its first three levels do not count, and the policy has to name it.
    let ingest = Account::new(&["$aws/rules/r/#"]);
    let session = ingest.session("thing", "thing");
    let topic = "$aws/rules/r/1/2/3/4/5/6/7/8";
    let p = Publication {
        topic,
        qos: 0,
        payload: 1,
    };
    assert_eq!(ingest.policy.publish(&session, p), Ok(()));
}
