//! The rule book, line by line.

use super::super::testing::{check, connect, peer};
use super::*;

fn templates() -> Vec<String> {
    vec![
        "exampletopics/#".into(),
        "clients/${client.authenticationName}/+".into(),
    ]
}

fn policy() -> EventGrid {
    EventGrid::new(Settings::default(), templates()).unwrap()
}

fn publish(topic: &str, qos: u8) -> Result<(), Refusal> {
    let session = policy().connect(&peer("Name"), &connect("s", Some("name"))).unwrap();
    policy().publish(&session, Publication { topic, qos, payload: 1 })
}

fn subscribe(filter: &str, qos: u8) -> Result<u8, Refusal> {
    let session = policy().connect(&peer("Name"), &connect("s", Some("NAME"))).unwrap();
    policy().subscribe(&session, filter, qos, 0)
}

/// A namespace with one client, known by what `client` says.
fn registry(client: &str) -> EventGrid {
    let settings = Settings {
        clients: vec![client.parse().unwrap()],
        ..Settings::default()
    };
    EventGrid::new(settings, templates()).unwrap()
}

fn leaf() -> rustls_pki_types::CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    certificate.der().clone()
}

#[test]
fn every_rule_is_kept_and_looks_as_it_should_in_both_versions() {
    let p = policy();
    let close = Look::Close;
    let refused = Look::ConnAck(connack::NOT_AUTHORIZED);
    let not_authorized = Look5::ConnAck(reason::NOT_AUTHORIZED);
    let join = |id: &str, user: Option<&str>| p.connect(&peer("name"), &connect(id, user)).map(|_| ());
    let mut will = connect("s", Some("name"));
    will.will = Some(crate::mqtt::Will {
        topic: "elsewhere".into(),
        payload: "x".into(),
        qos: 1,
        retain: false,
        properties: bytes::Bytes::new(),
    });
    let mut holder = peer("name");
    holder.chain = vec![leaf()];
    let enter = |client: &str| {
        registry(client)
            .connect(&holder, &connect("s", Some("name")))
            .map(|_| ())
    };
    let admission = Admission::new(&Settings::default(), leaf());
    let session = p.connect(&peer("name"), &connect("s", Some("name"))).unwrap();
    let now = Now {
        monotonic: Duration::ZERO,
        wall: Duration::from_secs(1_750_000_000),
    };
    let large = Publication {
        topic: "exampletopics/a",
        qos: 1,
        payload: RETAINED_MAX + 1,
    };
    let long = format!("exampletopics/{}", "a".repeat(243));
    let retained = p.retain(&session, large).map(|_| ());
    let thumbprint = format!("name:thumbprint:{}", "00".repeat(32));
    let qos = Look5::Disconnect(reason::QOS);
    let topic = Look5::PubAck(reason::TOPIC_INVALID);
    let rows = vec![
        (
            "event-grid/client-id",
            Look::ConnAck(connack::BAD_CLIENT_ID),
            Look5::ConnAck(reason::BAD_CLIENT_ID),
            join("", Some("name")),
        ),
        (
            "event-grid/user-name",
            refused,
            not_authorized,
            join("s", Some("another")),
        ),
        (
            "event-grid/authentication-name",
            refused,
            not_authorized,
            join("s", None),
        ),
        (
            "event-grid/authentication-name",
            refused,
            not_authorized,
            join("s", Some(&"n".repeat(129))),
        ),
        // Before CONNACK the wire makes a CONNACK of any reason.
        (
            "event-grid/publisher-permission",
            refused,
            Look5::PubAck(reason::NOT_AUTHORIZED),
            p.connect(&peer("name"), &will).map(|_| ()),
        ),
        ("event-grid/qos-2", close, qos, publish("exampletopics/a", 2)),
        (
            "event-grid/qos-2",
            close,
            qos,
            subscribe("exampletopics/a", 2).map(|_| ()),
        ),
        (
            "event-grid/topic-size",
            close,
            topic,
            publish("exampletopics/2/3/4/5/6/7/8/9", 0),
        ),
        ("event-grid/topic-size", close, topic, publish(&long, 0)),
        (
            "event-grid/topic-size",
            Look::SubAckFailure,
            Look5::SubAck(reason::FILTER_INVALID),
            subscribe("exampletopics/2/3/4/5/6/7/8/#", 0).map(|_| ()),
        ),
        (
            "event-grid/publisher-permission",
            close,
            Look5::PubAck(reason::NOT_AUTHORIZED),
            publish("others/a", 0),
        ),
        (
            "event-grid/publisher-permission",
            close,
            Look5::PubAck(reason::NOT_AUTHORIZED),
            publish("clients/somebody/x", 0),
        ),
        (
            "event-grid/subscriber-permission",
            Look::SubAckFailure,
            Look5::SubAck(reason::NOT_AUTHORIZED),
            subscribe("#", 0).map(|_| ()),
        ),
        (
            "event-grid/unknown-client",
            refused,
            not_authorized,
            enter("other:subject"),
        ),
        ("event-grid/certificate", refused, not_authorized, enter("name:dns")),
        ("event-grid/certificate", refused, not_authorized, enter(&thumbprint)),
        (
            "event-grid/authority",
            refused,
            not_authorized,
            admission.admit(&holder, &session, now),
        ),
        (
            "event-grid/retained-size",
            close,
            Look5::PubAck(reason::QUOTA),
            retained,
        ),
        (
            "event-grid/user-properties",
            close,
            Look5::ConnAck(reason::IMPLEMENTATION),
            p.user_properties(PacketType::Connect),
        ),
        (
            "event-grid/user-properties",
            close,
            Look5::SubAck(reason::IMPLEMENTATION),
            p.user_properties(PacketType::Subscribe),
        ),
        (
            "event-grid/user-properties",
            close,
            Look5::Disconnect(reason::IMPLEMENTATION),
            p.user_properties(PacketType::PubAck),
        ),
    ];
    check(&p, rows.iter().map(|r| (r.0, r.1, r.3.clone())).collect());
    check(&p, rows.into_iter().map(|r| (r.0, Look::In5(r.2), r.3)).collect());
}

#[test]
fn clients_are_admitted_as_they_are_registered() {
    let mut holder = peer("Name");
    holder.chain = vec![leaf()];
    let session = registry("NaMe:subject;room=7")
        .connect(&holder, &connect("s", Some("name")))
        .unwrap();
    assert_eq!(session.owner, "NaMe", "the registered case");
    let print = registry("x:dns").settings.clients[0].recognises(&holder.chain[0], None);
    assert!(print.is_err());
    let settings = |lines: &[&str]| Settings {
        bindings: lines.iter().map(|b| b.parse().unwrap()).collect(),
        ..Settings::default()
    };
    let one = EventGrid::new(settings(&["$all:default:publisher"]), templates()).unwrap();
    let session = one.connect(&holder, &connect("s", Some("name"))).unwrap();
    let publication = Publication {
        topic: "exampletopics/a",
        qos: 1,
        payload: 1,
    };
    assert_eq!(one.publish(&session, publication), Ok(()));
    assert!(one.subscribe(&session, "exampletopics/a", 1, 0).is_err());
    assert!(EventGrid::new(settings(&["$all:lost:publisher"]), templates()).is_err());
    assert!(EventGrid::new(Settings::default(), vec!["a#".into()]).is_err());
    let long = Settings {
        session_expiry: SESSION_EXPIRY_MAX + Duration::from_secs(1),
        ..Settings::default()
    };
    assert!(EventGrid::new(long, templates()).is_err());
}

#[test]
fn what_keeps_the_rules_is_taken() {
    assert_eq!(publish("exampletopics/2/3/4/5/6/7/8", 1), Ok(()));
    assert_eq!(publish("clients/Name/x", 0), Ok(()), "the variable keeps its case");
    assert_eq!(publish(&format!("exampletopics/{}", "a".repeat(242)), 0), Ok(()));
    assert_eq!(subscribe("exampletopics/+", 1), Ok(1));
    assert_eq!(policy().silence_allowed(0), Duration::from_secs(1_740));
    assert_eq!(policy().silence_allowed(60_000), Duration::from_secs(1_740));
    assert_eq!(policy().silence_allowed(60), Duration::from_secs(90));
}
