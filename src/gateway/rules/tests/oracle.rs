//! rumqttc as a second opinion: what it writes passes and is shown as it was meant, in both versions, cut anywhere.
//!
//! Where rumqttc 0.25.1 cannot be asked, because it is wrong: it reads over reserved header flags, reserved option bits, repeated or
//! misplaced properties and bytes after the last field; it reads a filter or topic with U+0000 or misplaced wildcards; in version 5 it
//! refuses a DISCONNECT without reason code, and writes DISCONNECT and acknowledgements with a byte too many when there is a reason
//! code but no property. So acknowledgements and DISCONNECT of version 5 are not taken from its writer but from vectors.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rumqttc::mqttbytes::{QoS as Qos4, v4};
use rumqttc::v5::mqttbytes::{QoS as Qos5, v5};

use super::*;

fn qos4(n: u8) -> Qos4 {
    [Qos4::AtMostOnce, Qos4::AtLeastOnce, Qos4::ExactlyOnce][usize::from(n)]
}

fn qos5(n: u8) -> Qos5 {
    [Qos5::AtMostOnce, Qos5::AtLeastOnce, Qos5::ExactlyOnce][usize::from(n)]
}

/// A message: topic, QoS, DUP, RETAIN, identifier and payload.
type Message = (String, u8, bool, bool, u16, Vec<u8>);

fn message() -> impl Strategy<Value = Message> {
    let topic = "[a-z$/ é漢]{1,40}";
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (topic, 0_u8..3, any::<bool>(), any::<bool>(), 1_u16.., payload)
}

fn filter() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,5}(/[a-z]{0,5}){0,3}",
        "([a-z]{1,5}/|\\+/){0,3}(#|\\+)",
        "\\$share/[a-z]{1,5}/([a-z]{1,3}|\\+)(/#)?"
    ]
}

fn properties() -> impl Strategy<Value = v5::PublishProperties> {
    let user = prop::collection::vec(
        ("[a-z]{0,9}".prop_map(String::from), "[^\0]{0,9}".prop_map(String::from)),
        0..3,
    );
    let text = prop::option::of("[^\0#+]{0,12}");
    let correlation = prop::option::of(any::<Vec<u8>>().prop_map(Bytes::from));
    let alias = prop::option::of(1_u16..=5);
    (
        prop::option::of(0_u8..2),
        any::<Option<u32>>(),
        alias,
        text.clone(),
        text,
        correlation,
        user,
    )
        .prop_map(
            |(
                payload_format_indicator,
                message_expiry_interval,
                topic_alias,
                response_topic,
                content_type,
                correlation_data,
                user_properties,
            )| {
                v5::PublishProperties {
                    payload_format_indicator,
                    message_expiry_interval,
                    topic_alias,
                    response_topic,
                    correlation_data,
                    user_properties,
                    subscription_identifiers: Vec::new(),
                    content_type,
                }
            },
        )
}

/// What is at the front, having seen that cutting changes nothing.
fn shown<'b>(who: (Level, Direction), bytes: &'b [u8]) -> What<'b> {
    let mut c = Checker::new(who.0, who.1, 1 << 20).with_topic_aliases(5);
    said(&c, bytes).unwrap();
    let look = c.look(bytes).unwrap().unwrap();
    assert_eq!(look.head.size, bytes.len());
    look.what
}

fn same(ours: &What<'_>, bytes: &[u8], (topic, qos, dup, retain, id, payload): &Message) {
    let What::Publish(p) = ours else { panic!("{ours:?}") };
    let dup = *dup && *qos > 0;
    assert_eq!((p.topic, p.qos, p.dup, p.retain), (&topic[..], *qos, dup, *retain));
    assert_eq!(p.id, (*qos > 0).then_some(*id));
    assert_eq!(&bytes[p.head_size..], payload);
}

proptest! {
    #[test]
    fn a_publish_of_3_1_1(m in message()) {
        let (topic, qos, dup, retain, id, payload) = &m;
        let mut p = v4::Publish::new(topic, qos4(*qos), payload.clone());
        (p.dup, p.retain, p.pkid) = (*dup && *qos > 0, *retain, *id);
        let mut bytes = BytesMut::new();
        p.write(&mut bytes).unwrap();
        same(&shown(UP3, &bytes), &bytes, &m);
        same(&shown(DOWN3, &bytes), &bytes, &m);
    }

    #[test]
    fn a_publish_of_5(m in message(), more in properties()) {
        let (topic, qos, dup, retain, id, payload) = &m;
        let p = v5::Publish {
            dup: *dup && *qos > 0,
            qos: qos5(*qos),
            retain: *retain,
            topic: topic.clone().into(),
            pkid: if *qos > 0 { *id } else { 0 },
            payload: payload.clone().into(),
            properties: Some(more.clone()),
        };
        let mut bytes = BytesMut::new();
        p.write(&mut bytes).unwrap();
        for who in [UP5, DOWN5] {
            let ours = shown(who, &bytes);
            same(&ours, &bytes, &m);
            let What::Publish(ours) = ours else { unreachable!() };
            prop_assert_eq!(ours.alias, more.topic_alias);
            prop_assert_eq!(ours.properties.byte(id::PAYLOAD_FORMAT), more.payload_format_indicator);
            prop_assert_eq!(ours.properties.four(id::MESSAGE_EXPIRY), more.message_expiry_interval);
            prop_assert_eq!(ours.properties.text(id::RESPONSE_TOPIC), more.response_topic.as_deref());
            prop_assert_eq!(ours.properties.text(id::CONTENT_TYPE), more.content_type.as_deref());
            let user: Vec<_> = ours.properties.iter().filter(|p| p.id == id::USER).map(|p| p.value).collect();
            let theirs: Vec<_> = more.user_properties.iter().map(|(k, v)| Value::Pair(k, v)).collect();
            prop_assert_eq!(user, theirs);
        }
    }

    #[test]
    fn subscriptions(filters in prop::collection::vec((filter(), 0_u8..3), 1..6), pkid in 1_u16..) {
        let want: Vec<_> = filters.iter().map(|(f, q)| (&f[..], *q)).collect();
        let mut bytes = BytesMut::new();
        let four = filters.iter().map(|(f, q)| v4::SubscribeFilter::new(f.clone(), qos4(*q)));
        let mut s = v4::Subscribe::new_many(four);
        s.pkid = pkid;
        s.write(&mut bytes).unwrap();
        let What::Subscribe(ours) = shown(UP3, &bytes) else { panic!() };
        prop_assert_eq!((ours.id, ours.filters.collect::<Vec<_>>()), (pkid, want.clone()));

        let mut bytes = BytesMut::new();
        let five = filters.iter().map(|(f, q)| v5::Filter::new(f.clone(), qos5(*q)));
        let mut s = v5::Subscribe::new_many(five, Some(v5::SubscribeProperties { id: Some(300), user_properties: vec![("k".into(), "v".into())] }));
        s.pkid = pkid;
        s.write(&mut bytes).unwrap();
        let What::Subscribe(ours) = shown(UP5, &bytes) else { panic!() };
        prop_assert_eq!(ours.properties.four(id::SUBSCRIPTION_IDENTIFIER), Some(300));
        prop_assert_eq!((ours.id, ours.filters.collect::<Vec<_>>()), (pkid, want));

        let names: Vec<_> = filters.iter().map(|(f, _)| (&f[..], 0)).collect();
        let mut bytes = BytesMut::new();
        let topics = filters.iter().map(|(f, _)| f.clone()).collect();
        v4::Unsubscribe { pkid, topics }.write(&mut bytes).unwrap();
        let What::Unsubscribe(ours) = shown(UP3, &bytes) else { panic!() };
        prop_assert_eq!((ours.id, ours.filters.collect::<Vec<_>>()), (pkid, names));
    }

    #[test]
    fn acknowledgements_of_3_1_1(pkid in 1_u16.., codes in prop::collection::vec(0_u8..3, 1..6)) {
        let mut bytes = BytesMut::new();
        v4::PubAck::new(pkid).write(&mut bytes).unwrap();
        v4::PubRec::new(pkid).write(&mut bytes).unwrap();
        v4::PubRel::new(pkid).write(&mut bytes).unwrap();
        v4::PubComp::new(pkid).write(&mut bytes).unwrap();
        for (packet, kind) in bytes.chunks(4).zip([PacketType::PubAck, PacketType::PubRec, PacketType::PubRel, PacketType::PubComp]) {
            for who in [UP3, DOWN3, UP5, DOWN5] {
                prop_assert_eq!(shown(who, packet), What::Ack { kind, id: pkid, reason: None });
            }
        }
        let mut bytes = BytesMut::new();
        let granted = codes.iter().map(|c| v4::SubscribeReasonCode::Success(qos4(*c))).collect();
        v4::SubAck::new(pkid, granted).write(&mut bytes).unwrap();
        prop_assert_eq!(shown(DOWN3, &bytes), What::SubAck { id: pkid, codes: &codes });
    }

    /// Bytes that are no packet: nothing panics, and only whole packets are ever passed.
    #[test]
    fn any_bytes_are_survived(how: u8, most: u8, bytes: Vec<u8>) {
        super::super::fuzzing::checker(&[&[how, most], &bytes[..]].concat());
        super::super::fuzzing::connect(&[&[how], &bytes[..]].concat());
    }
}
