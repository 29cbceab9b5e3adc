//! Each row of the policy's table, and what a flow says to a device.

use super::*;
use crate::gateway::flow::bucket::Bucket;
use crate::gateway::flow::topics::Rewrite;
use crate::gateway::group::policy::{Answer, Policy};
use crate::gateway::group::{Kind, Platform, Rate, Topics};
use crate::identity::Subscriber;
use crate::mqtt::Level;
use crate::mqtt::frame::put_length;
use std::sync::Arc;

pub(super) const V3: Level = Level::V3;
pub(super) const V5: Level = Level::V5;
const IMSI: &str = "295012345678901";

pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    put_length(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

fn field(text: &[u8]) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

/// `flags` are the first byte's low bits.
pub(super) fn publish(level: Level, flags: u8, id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    publish_with(level, flags, id, topic, &[], payload)
}

fn publish_with(level: Level, flags: u8, id: u16, topic: &str, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = field(topic.as_bytes());
    if flags & 6 != 0 {
        body.extend(id.to_be_bytes());
    }
    if level == V5 {
        body.push(properties.len().try_into().unwrap());
        body.extend_from_slice(properties);
    }
    body.extend_from_slice(payload);
    packet(0x30 | flags, &body)
}

pub(super) fn subscribe(level: Level, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(level, id, &[], filters)
}

fn subscribe_with(level: Level, id: u16, properties: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if level == V5 {
        body.push(properties.len().try_into().unwrap());
        body.extend_from_slice(properties);
    }
    for (filter, qos) in filters {
        body.extend(field(filter.as_bytes()));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub(super) fn suback(level: Level, id: u16, codes: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if level == V5 { &[0] } else { &[] };
    packet(0x90, &[&id.to_be_bytes(), properties, codes].concat())
}

fn deal_of(level: Level, kind: Kind) -> Deal {
    Deal::new(level, Policy::of(kind), Platform::Full)
}

fn with(level: Level, kind: Kind, matter: Matter, answer: Answer) -> Deal {
    let mut policy = Policy::of(kind);
    policy.set(matter, answer).unwrap();
    Deal::new(level, policy, Platform::Full)
}

const TERMS: Terms = Terms {
    max_packet: 1 << 20,
    idle: Duration::from_secs(90),
};
const T0: Duration = Duration::ZERO;

fn flow(deal: Deal) -> Flow {
    Flow::with(TERMS, deal, T0)
}

/// All that became of an input.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) on: Vec<u8>,
    pub(super) back: Vec<u8>,
    pub(super) end: Option<String>,
    pub(super) notes: Vec<String>,
    pub(super) steps: usize,
}

pub(super) fn all(mut step: impl FnMut(&[u8]) -> Step, mut input: &[u8]) -> Out {
    let mut out = Out::default();
    loop {
        let s = step(input);
        out.steps += 1;
        match s.pass {
            Pass::Nothing => {}
            Pass::AsIs => out.on.extend_from_slice(&input[..s.take]),
            Pass::Instead(b) => out.on.extend_from_slice(&b),
        }
        out.back.extend(s.back.unwrap_or_default());
        out.notes.extend(s.note);
        input = &input[s.take..];
        out.end = s.end.map(|e| e.to_string());
        if s.take == 0 || out.end.is_some() {
            return out;
        }
    }
}

fn up(f: &mut Flow, input: &[u8]) -> Out {
    all(|b| f.up(b, T0), input)
}

fn down(f: &mut Flow, input: &[u8]) -> Out {
    all(|b| f.down(b, T0), input)
}

fn passes(deal: Deal, input: &[u8]) {
    let out = up(&mut flow(deal), input);
    assert_eq!((out.on.as_slice(), out.back.is_empty(), out.end), (input, true, None));
}

fn ends(deal: Deal, input: &[u8], why: &str, goodbye: &[u8]) {
    let out = up(&mut flow(deal), input);
    let end = out.end.unwrap_or_default();
    assert!(end.contains(why), "{end:?} should say {why:?}");
    assert_eq!((out.on, out.back.as_slice()), (vec![], goodbye));
}

#[test]
fn a_flow_is_small() {
    assert!(size_of::<Flow>() <= FLOW_MAX, "{}", size_of::<Flow>());
    assert!(size_of::<Deal>() <= 256, "{}", size_of::<Deal>());
}

#[test]
fn packets_that_need_nothing_are_one_step_and_no_copy() {
    let one = publish(V3, 2, 7, "a/b", b"hello");
    let input = [&one[..], b"\xc0\x00", &one, b"\x40\x02\x00\x09", &one[..5]].concat();
    let mut f = flow(deal_of(V3, Kind::AwsIot));
    let step = f.up(&input, T0);
    assert_eq!((step.take, &step.pass, step.packets), (input.len() - 5, &Pass::AsIs, 4));
    assert!(step.wanted > 5 && step.end.is_none() && step.back.is_none());
}

#[test]
fn a_payload_streams_through_as_it_comes() {
    let big = publish(V5, 2, 7, "t", &[b'x'; 300_000]);
    let mut f = flow(deal_of(V5, Kind::EventGrid));
    let mut taken = 0;
    for part in big.chunks(1_000) {
        let step = f.up(part, T0);
        assert_eq!((step.take, step.pass), (part.len(), Pass::AsIs));
        taken += step.take;
        assert_eq!(step.packets, u64::from(taken == big.len()));
    }
}

#[test]
fn qos_2_goes_up_as_qos_1_and_is_received_when_upstream_has_it() {
    let mut f = flow(deal_of(V3, Kind::AwsIot));
    let sent = up(&mut f, &publish(V3, 4, 7, "t", b"x"));
    assert_eq!((sent.on, sent.back), (publish(V3, 2, 7, "t", b"x"), vec![]));
    let again = up(&mut f, &publish(V3, 0xc, 7, "t", b"x"));
    assert_eq!((again.on, again.back), (vec![], vec![]), "it is on its way");
    assert_eq!(down(&mut f, b"\x40\x02\x00\x07").on, b"\x50\x02\x00\x07");
    assert_eq!(
        down(&mut f, b"\x40\x02\x00\x08").on,
        b"\x40\x02\x00\x08",
        "an ordinary PUBACK"
    );
    let again = up(&mut f, &publish(V3, 0xc, 7, "t", b"x"));
    assert_eq!(
        (again.on.as_slice(), again.back.as_slice()),
        (&b""[..], &b"\x50\x02\x00\x07"[..])
    );
    let rel = up(&mut f, b"\x62\x02\x00\x07");
    assert_eq!(
        (rel.on.as_slice(), rel.back.as_slice()),
        (&b""[..], &b"\x70\x02\x00\x07"[..])
    );
    let early = up(
        &mut f,
        &[publish(V3, 4, 9, "t", b"x"), b"\x62\x02\x00\x09".to_vec()].concat(),
    );
    assert!(early.end.unwrap().contains("PUBREC has not come") && early.back.is_empty());
}

#[test]
fn qos_2_passes_closes_or_is_an_error_of_mqtt_5() {
    passes(deal_of(V3, Kind::Standard), &publish(V3, 4, 7, "t", b"x"));
    passes(deal_of(V5, Kind::Standard), &publish(V5, 4, 7, "t", b"x"));
    ends(
        with(V3, Kind::IotHub, Matter::PublishQos2, Answer::Close),
        &publish(V3, 4, 7, "t", b"x"),
        "publish_qos2: a PUBLISH with QoS 2, and upstream takes 1",
        b"",
    );
    ends(
        deal_of(V5, Kind::EventGrid),
        &publish(V5, 4, 7, "t", b"x"),
        "QoS 2",
        b"\xe0\x01\x9b",
    );
}

#[test]
fn too_many_messages_of_qos_2_end_it() {
    let mut f = flow(deal_of(V3, Kind::AwsIot));
    for id in 1..=1_024 {
        assert!(up(&mut f, &publish(V3, 4, id, "t", b"")).end.is_none());
    }
    assert!(
        up(&mut f, &publish(V3, 4, 1_025, "t", b""))
            .end
            .unwrap()
            .contains("1024")
    );
}

#[test]
fn retained_messages_pass_are_cleared_or_end_it() {
    let kept = publish(V3, 3, 7, "t", b"x");
    passes(deal_of(V3, Kind::EventGrid), &kept);
    let mut f = flow(with(V3, Kind::EventGrid, Matter::Retain, Answer::Adapt));
    let out = up(&mut f, &[kept.clone(), kept.clone()].concat());
    assert_eq!(out.on, publish(V3, 2, 7, "t", b"x").repeat(2));
    assert_eq!((out.notes.len(), out.steps), (1, 2), "said once, written at once");
    // Another matter is told as well, and the first not again.
    let deep = subscribe(V3, 7, &[("1/2/3/4/5/6/7/8/9", 0)]);
    let out = up(&mut f, &[deep.clone(), kept.clone(), deep].concat());
    assert_eq!(out.notes.len(), 1, "{:?}", out.notes);
    assert!(out.notes[0].contains("levels"), "{:?}", out.notes);
    let close = |level| with(level, Kind::EventGrid, Matter::Retain, Answer::Close);
    ends(close(V3), &kept, "retain", b"");
    ends(close(V5), &publish(V5, 3, 7, "t", b"x"), "retain", b"\xe0\x01\x9a");
}

#[test]
fn topics_of_the_wrong_shape_are_told_or_end_it() {
    let deep = "1/2/3/4/5/6/7/8/9";
    for kind in [Kind::AwsIot, Kind::EventGrid] {
        ends(
            deal_of(V3, kind),
            &publish(V3, 2, 7, deep, b"x"),
            "9 levels, and at most 8",
            b"",
        );
        ends(
            deal_of(V5, kind),
            &publish(V5, 0, 0, deep, b"x"),
            "9 levels",
            b"\xe0\x01\x90",
        );
        let out = up(
            &mut flow(deal_of(V5, kind)),
            &[publish(V5, 2, 7, deep, b"x"), publish(V5, 2, 8, "t", b"y")].concat(),
        );
        assert_eq!(
            (out.back.as_slice(), out.on),
            (&b"\x40\x03\x00\x07\x90"[..], publish(V5, 2, 8, "t", b"y"))
        );
        let close = with(V5, kind, Matter::TopicShape, Answer::Close);
        ends(close, &publish(V5, 2, 7, deep, b"x"), "levels", b"\xe0\x01\x90");
    }
    ends(
        deal_of(V3, Kind::AwsIot),
        &publish(V3, 0, 0, "$SYS/x", b""),
        "dollar_topic",
        b"",
    );
    passes(
        deal_of(V3, Kind::AwsIot),
        &publish(V3, 0, 0, "$aws/rules/r/1/2/3/4/5/6/7/8", b""),
    );
    passes(deal_of(V3, Kind::Standard), &publish(V3, 0, 0, deep, b""));
}

#[test]
fn a_refused_publish_that_sets_an_alias_ends_it() {
    let set = publish_with(V5, 2, 7, "1/2/3/4/5/6/7/8/9", b"\x23\x00\x01", b"x");
    let deal = deal_of(V5, Kind::AwsIot).aliases(5);
    ends(deal, &set, "9 levels", b"\xe0\x01\x90");
}

#[test]
fn large_messages_are_told_and_discarded_as_they_come_or_end_it() {
    for (kind, most) in [
        (Kind::AwsIot, 128 << 10),
        (Kind::IotHub, 256 << 10),
        (Kind::EventGrid, (512 << 10) - 8),
    ] {
        passes(deal_of(V3, kind), &publish(V3, 2, 7, "t", &vec![b'x'; most - 8]));
        let large = vec![b'x'; most + 1];
        ends(deal_of(V3, kind), &publish(V3, 2, 7, "t", &large), "large_publish", b"");
        ends(
            deal_of(V5, kind),
            &publish(V5, 0, 7, "t", &large),
            "large_publish",
            b"\xe0\x01\x95",
        );
        let mut f = flow(deal_of(V5, kind));
        let (mut on, mut back) = (vec![], vec![]);
        let input = [publish(V5, 2, 7, "t", &large), publish(V5, 2, 8, "t", b"y")].concat();
        let mut at = 0;
        while at < input.len() {
            let step = f.up(&input[at..input.len().min(at + 5_000)], T0);
            assert!(step.end.is_none() && step.take > 0);
            if let Pass::Instead(b) = step.pass {
                on.extend_from_slice(&b);
            } else if step.pass == Pass::AsIs {
                on.extend_from_slice(&input[at..at + step.take]);
            }
            back.extend(step.back.unwrap_or_default());
            at += step.take;
        }
        assert_eq!(
            (on, back.as_slice()),
            (publish(V5, 2, 8, "t", b"y"), &b"\x40\x03\x00\x07\x97"[..])
        );
    }
    let small = Terms {
        max_packet: 100,
        ..TERMS
    };
    let mut f = Flow::with(small.clone(), Deal::default(), T0);
    assert!(
        f.up(&publish(V3, 0, 0, "t", &[0; 100]), T0)
            .end
            .unwrap()
            .to_string()
            .contains("at most 100")
    );
    let mut f = Flow::with(small, deal_of(V5, Kind::Standard), T0);
    let two = publish(V5, 4, 7, "t", &[0; 100]);
    assert_eq!(
        f.up(&two, T0).back.unwrap(),
        &b"\x50\x03\x00\x07\x97"[..],
        "a PUBREC for QoS 2"
    );
    let long = "x".repeat(101);
    assert!(
        up(&mut f, &subscribe(V5, 1, &[(&long, 0)]))
            .end
            .unwrap()
            .contains("packet-size")
    );
}

#[test]
fn a_subscribe_is_cut_and_answered_as_one() {
    let filters: Vec<String> = (0..20).map(|n| format!("f/{n}")).collect();
    let asked: Vec<(&str, u8)> = filters.iter().map(|f| (f.as_str(), 1)).collect();
    for level in [V3, V5] {
        let mut f = flow(deal_of(level, Kind::AwsIot));
        let first = up(&mut f, &subscribe(level, 7, &asked));
        assert_eq!((first.on, first.back), (subscribe(level, 7, &asked[..8]), vec![]));
        let second = down(&mut f, &suback(level, 7, &[1; 8]));
        assert_eq!((second.on, second.back), (vec![], subscribe(level, 7, &asked[8..16])));
        let third = down(&mut f, &suback(level, 7, &[0x80, 1, 1, 1, 1, 1, 1, 0]));
        assert_eq!((third.on, third.back), (vec![], subscribe(level, 7, &asked[16..])));
        let other = up(&mut f, &subscribe(level, 8, &asked[..3]));
        assert_eq!(other.on, subscribe(level, 8, &asked[..3]));
        let last = down(&mut f, &suback(level, 7, &[1, 1]));
        let mut codes = [1; 20];
        (codes[8], codes[15]) = (0x80, 0);
        codes[18..].fill(0x80);
        assert_eq!(last.on, suback(level, 7, &codes), "what upstream leaves out has failed");
        assert_eq!(
            down(&mut f, &suback(level, 8, &[1, 1, 1])).on,
            suback(level, 8, &[1, 1, 1])
        );
    }
    let refuse = with(V3, Kind::AwsIot, Matter::ManyFilters, Answer::Refuse);
    let mut f = flow(refuse);
    assert_eq!(
        up(&mut f, &subscribe(V3, 7, &asked[..9])).on,
        subscribe(V3, 7, &asked[..8])
    );
    assert_eq!(
        down(&mut f, &suback(V3, 7, &[1; 8])).on,
        suback(V3, 7, &[1, 1, 1, 1, 1, 1, 1, 1, 0x80])
    );
    passes(deal_of(V3, Kind::EventGrid), &subscribe(V3, 7, &asked));
}

#[test]
fn refused_filters_are_answered_in_their_place() {
    let deep = "1/2/3/4/5/6/7/8/9";
    let asked = [("a", 2), (deep, 0), ("$share/g/b", 1), ("c", 0)];
    let mut f = flow(deal_of(V3, Kind::EventGrid));
    let out = up(&mut f, &subscribe(V3, 7, &asked));
    assert_eq!(out.on, subscribe(V3, 7, &[("a", 1), ("c", 0)]), "QoS 2 is lowered");
    assert!(out.notes[0].contains("levels"), "{:?}", out.notes);
    assert_eq!(
        out.notes[0].matches("a filter was refused").count(),
        2,
        "each has its reason: {:?}",
        out.notes
    );
    assert_eq!(
        down(&mut f, &suback(V3, 7, &[1, 0])).on,
        suback(V3, 7, &[1, 0x80, 0x80, 0])
    );
    let mut f = flow(deal_of(V5, Kind::EventGrid));
    up(&mut f, &subscribe(V5, 7, &asked));
    assert_eq!(
        down(&mut f, &suback(V5, 7, &[1, 0])).on,
        suback(V5, 7, &[1, 0x8f, 0x9e, 0])
    );
    let none = up(&mut f, &subscribe(V5, 9, &[(deep, 1)]));
    assert_eq!(
        (none.on, none.back),
        (vec![], suback(V5, 9, &[0x8f])),
        "upstream is not asked"
    );
    let ids = up(&mut f, &subscribe_with(V5, 9, b"\x0b\x05", &[("a", 1), ("b", 0)]));
    assert_eq!(ids.back, suback(V5, 9, &[0xa1, 0xa1]));
    let mut f = flow(deal_of(V3, Kind::AwsIot));
    assert_eq!(
        up(&mut f, &subscribe(V3, 9, &[("$SYS/#", 1)])).back,
        suback(V3, 9, &[0x80])
    );
    passes(
        deal_of(V3, Kind::AwsIot),
        &subscribe(V3, 9, &[("$share/g/a", 1), ("$aws/things/+/jobs/#", 0)]),
    );
    let qos = with(V3, Kind::AwsIot, Matter::SubscribeQos2, Answer::Refuse);
    assert_eq!(
        up(&mut flow(qos), &subscribe(V3, 9, &[("a", 2)])).back,
        suback(V3, 9, &[0x80])
    );
    for (matter, filter) in [
        (Matter::FilterShape, deep),
        (Matter::SharedSubscription, "$share/g/a"),
        (Matter::DollarTopic, "$x"),
    ] {
        let deal = with(V5, Kind::IotHub, matter, Answer::Close);
        let deal = if matter == Matter::FilterShape {
            with(V5, Kind::AwsIot, matter, Answer::Close)
        } else {
            deal
        };
        let out = up(&mut flow(deal), &subscribe(V5, 1, &[("a", 0), (filter, 0)]));
        assert!(out.end.unwrap().starts_with(matter.word()) && out.back[0] == 0xe0);
    }
    let close = with(V5, Kind::AwsIot, Matter::SubscriptionId, Answer::Close);
    ends(
        close,
        &subscribe_with(V5, 1, b"\x0b\x05", &[("a", 0)]),
        "subscription_id",
        b"\xe0\x01\xa1",
    );
}

#[test]
fn subscribes_in_pieces_are_not_for_ever_more() {
    let filters = [("a", 0); 9];
    let mut f = flow(deal_of(V3, Kind::AwsIot));
    for id in 1..=16 {
        assert!(up(&mut f, &subscribe(V3, id, &filters)).end.is_none());
    }
    assert!(
        up(&mut f, &subscribe(V3, 17, &filters))
            .end
            .unwrap()
            .contains("16 SUBSCRIBEs")
    );
    assert!(
        up(&mut f, &subscribe(V3, 3, &filters[..1]))
            .end
            .unwrap()
            .contains("identifier 3")
    );
}

/// Whatever names a filter that is still to go up goes up behind it.
#[test]
fn nothing_overtakes_a_part_that_has_not_gone_up() {
    let filters: Vec<String> = (0..20).map(|n| format!("f/{n}")).collect();
    let asked: Vec<(&str, u8)> = filters.iter().map(|f| (f.as_str(), 1)).collect();
    for level in [V3, V5] {
        let unsubscribe = |id: u16| {
            let mut body = id.to_be_bytes().to_vec();
            body.extend(if level == V5 { vec![0] } else { vec![] });
            body.extend(field(b"f/19"));
            packet(0xa2, &body)
        };
        let mut f = flow(deal_of(level, Kind::AwsIot));
        up(&mut f, &subscribe(level, 7, &asked));
        let message = publish(level, 2, 10, "t", b"x");
        let pipelined = [
            unsubscribe(8),
            message.clone(),
            subscribe(level, 9, &asked[19..]),
            subscribe(level, 11, &asked[..9]),
            unsubscribe(12),
            b"\xc0\x00".to_vec(),
        ];
        assert_eq!(up(&mut f, &pipelined.concat()).on, [&message[..], b"\xc0\x00"].concat());
        assert_eq!(
            down(&mut f, &suback(level, 7, &[1; 8])).back,
            subscribe(level, 7, &asked[8..16])
        );
        let last = down(&mut f, &suback(level, 7, &[1; 8])).back;
        let behind = [
            subscribe(level, 7, &asked[16..]),
            unsubscribe(8),
            subscribe(level, 9, &asked[19..]),
            subscribe(level, 11, &asked[..8]),
        ];
        assert_eq!(last, behind.concat(), "up to the next one that is cut");
        assert_eq!(down(&mut f, &suback(level, 7, &[1; 4])).on, suback(level, 7, &[1; 20]));
        assert_eq!(down(&mut f, &suback(level, 9, &[1])).on, suback(level, 9, &[1]));
        let rest = down(&mut f, &suback(level, 11, &[1; 8])).back;
        assert_eq!(rest, [subscribe(level, 11, &asked[8..9]), unsubscribe(12)].concat());
        assert!(!f.is_settled() && !f.waiting.is_empty());
        down(&mut f, &suback(level, 11, &[1]));
        let free = subscribe(level, 13, &asked[..1]);
        assert_eq!(up(&mut f, &free).on, free, "nobody stands in line any more");
        let unsuback = |id: u8| {
            if level == V5 {
                vec![0xb0, 4, 0, id, 0, 0]
            } else {
                vec![0xb0, 2, 0, id]
            }
        };
        for answer in [
            unsuback(8),
            unsuback(12),
            suback(level, 13, &[1]),
            b"\x40\x02\x00\x0a".to_vec(),
        ] {
            assert!(!f.is_settled());
            assert_eq!(down(&mut f, &answer).on, answer);
        }
        assert!(f.is_settled() && f.waiting.is_empty());
    }
}

#[test]
fn who_stands_in_line_is_counted_and_bounded() {
    let filters = [("a", 0); 9];
    let unsubscribe = |id: u16| packet(0xa2, &[&id.to_be_bytes()[..], &field(b"a")].concat());
    let mut f = flow(deal_of(V3, Kind::AwsIot));
    up(&mut f, &subscribe(V3, 1, &filters));
    for id in 2..=16 {
        let out = up(&mut f, &unsubscribe(id));
        assert!(out.end.is_none() && out.on.is_empty());
    }
    assert_eq!(f.awaited(), 16);
    let again = up(&mut f, &unsubscribe(16)).end.unwrap();
    assert!(again.contains("identifier 16"), "{again}");
    let more = up(&mut f, &unsubscribe(17)).end.unwrap();
    assert!(more.contains("16 SUBSCRIBEs"), "{more}");
    let terms = Terms {
        max_packet: 1_024,
        ..TERMS
    };
    let mut f = Flow::with(terms, deal_of(V3, Kind::AwsIot), T0);
    up(&mut f, &subscribe(V3, 1, &filters));
    let long = packet(
        0xa2,
        &[&2_u16.to_be_bytes()[..], &field(&[b'a'; 250]).repeat(4)].concat(),
    );
    let ends: Vec<_> = (2..=4)
        .map(|id| {
            let mut packet = long.clone();
            packet[4] = id;
            up(&mut f, &packet).end.is_some()
        })
        .collect();
    assert_eq!(ends, [false, false, true], "twice the largest packet is kept");
}

#[test]
fn beams_old_platform_has_qos_0_alone() {
    let old = || Deal::new(V3, Policy::default(), Platform::Old);
    passes(old(), &publish(V3, 0, 0, "t", b"x"));
    ends(old(), &publish(V3, 2, 7, "t", b"x"), "QoS 1, and upstream takes 0", b"");
    let out = up(&mut flow(old()), &subscribe(V3, 7, &[("a", 2), ("b", 1), ("c", 0)]));
    assert_eq!(out.on, subscribe(V3, 7, &[("a", 0), ("b", 0), ("c", 0)]));
}

fn rewriting(level: Level, kind: Kind, append_imsi: bool) -> Deal {
    let who = Subscriber {
        imsi: IMSI.parse().unwrap(),
        imei: None,
        iccid: None,
    };
    let topics = Topics {
        append_imsi,
        placeholders: true,
    };
    deal_of(level, kind).rewriting(Rewrite::new(topics, &who)).aliases(10)
}

#[test]
fn topics_are_rewritten_both_for_publishing_and_subscribing() {
    for level in [V3, V5] {
        let mut f = flow(rewriting(level, Kind::Standard, true));
        let out = up(
            &mut f,
            &[publish(level, 2, 7, "d/{{imsi}}", b"x"), publish(level, 0, 0, "e", b"")].concat(),
        );
        let want = [
            publish(level, 2, 7, &format!("d/{IMSI}/{IMSI}"), b"x"),
            publish(level, 0, 0, &format!("e/{IMSI}"), b""),
        ];
        assert_eq!((out.on, out.steps), (want.concat(), 2), "in one go");
        let out = up(&mut f, &subscribe(level, 7, &[("c/{{imsi}}/#", 1), ("e", 0)]));
        assert_eq!(out.on, subscribe(level, 7, &[(&format!("c/{IMSI}/#"), 1), ("e", 0)]));
        assert_eq!(down(&mut f, &suback(level, 7, &[1, 0])).on, suback(level, 7, &[1, 0]));
        let delivered = publish(level, 0, 0, &format!("c/{IMSI}/x"), b"x");
        assert_eq!(down(&mut f, &delivered).on, delivered, "the real topic comes down");
        let un = |filter: &str| {
            let properties: &[u8] = if level == V5 { &[0] } else { &[] };
            packet(
                0xa2,
                &[b"\x00\x09", properties, &field(filter.as_bytes()), &field(b"z")].concat(),
            )
        };
        assert_eq!(up(&mut f, &un("c/{{imsi}}")).on, un(&format!("c/{IMSI}")));
        passes(rewriting(level, Kind::Standard, false), &un("plain"));
        let mut f = flow(rewriting(level, Kind::Standard, false));
        let failed = if level == V5 { 0x8f } else { 0x80 };
        let out = up(&mut f, &subscribe(level, 7, &[("{{imei}}", 1)]));
        assert_eq!(out.back, suback(level, 7, &[failed]));
        assert!(out.notes[0].contains("add its IMEI"));
    }
    ends(
        rewriting(V3, Kind::Standard, false),
        &publish(V3, 2, 7, "{{imei}}", b""),
        "add its IMEI",
        b"",
    );
    let long = format!("{{{{imsi}}}}/{}", "x".repeat(65_520));
    ends(
        rewriting(V3, Kind::Standard, true),
        &publish(V3, 0, 7, &long, b""),
        "at most 65535",
        b"",
    );
    let end = up(
        &mut flow(rewriting(V3, Kind::AwsIot, true)),
        &publish(V3, 0, 7, &"{{imsi}}".repeat(30), b""),
    )
    .end
    .unwrap();
    assert!(end.contains("topic_shape") && !end.contains(IMSI), "{end}");
}

#[test]
fn aliases_keep_working_under_rewriting() {
    let mut f = flow(rewriting(V5, Kind::Standard, false));
    let set = publish_with(V5, 0, 0, "d/{{imsi}}", b"\x23\x00\x02", b"x");
    let used = publish_with(V5, 0, 0, "", b"\x23\x00\x02", b"y");
    let out = up(&mut f, &[set, used.clone()].concat());
    let want = publish_with(V5, 0, 0, &format!("d/{IMSI}"), b"\x23\x00\x02", b"x");
    assert_eq!(out.on, [want, used].concat());
}

#[test]
fn our_own_pings_keep_upstream_awake_and_only_their_answers_are_swallowed() {
    let s = Duration::from_secs;
    let mut f = Flow::with(
        Terms {
            idle: s(1_800),
            ..TERMS
        },
        deal_of(V3, Kind::EventGrid).pinging(Some(1_160)),
        s(0),
    );
    assert_eq!(f.deadline(), s(870));
    let due = f.due(s(870));
    assert_eq!(
        (due.pass, due.take, due.end.is_none()),
        (Pass::Instead(Bytes::from_static(b"\xc0\x00")), 0, true)
    );
    assert_eq!(all(|b| f.up(b, s(871)), b"\xc0\x00").on, b"\xc0\x00");
    assert_eq!(f.down(b"\xd0\x00", s(872)).pass, Pass::Nothing, "ours");
    assert_eq!(f.down(b"\xd0\x00", s(872)).pass, Pass::AsIs, "the device's");
    assert_eq!(f.due(s(1_000)).pass, Pass::Nothing);
    let half = publish(V3, 0, 0, "t", b"0123456789");
    assert_eq!(f.up(&half[..10], s(1_000)).take, 10);
    assert_eq!(f.deadline(), s(2_800), "nothing goes into the middle of a PUBLISH");
    assert_eq!(f.due(s(2_000)).pass, Pass::Nothing);
    assert_eq!(f.up(&half[10..], s(2_000)).take, half.len() - 10);
    assert!(matches!(f.due(s(3_799)).pass, Pass::Instead(_)));
    assert!(matches!(f.due(s(3_800)).end, Some(End::Idle(1_800))));
    for _ in 0..63 {
        assert!(f.up(b"\xc0\x00", s(3_800)).end.is_none());
    }
    assert!(
        f.up(b"\xc0\x00", s(3_800))
            .end
            .unwrap()
            .to_string()
            .contains("64 PINGREQs")
    );
}

#[test]
fn a_silent_device_of_mqtt_5_is_told() {
    let mut f = flow(deal_of(V5, Kind::Standard));
    assert_eq!(f.deadline(), TERMS.idle);
    let due = f.due(TERMS.idle);
    assert_eq!(due.back.unwrap(), &b"\xe0\x01\x8d"[..]);
    assert!(matches!(due.end, Some(End::Idle(90))));
}

#[test]
fn over_the_rate_it_waits_and_loses_nothing() {
    let rate = Rate {
        messages: 2,
        bytes: 0,
        burst: 1,
    };
    let mut f = flow(deal_of(V3, Kind::Standard).limited(Some(Arc::new(Bucket::new(rate, T0)))));
    let one = publish(V3, 2, 7, "t", b"x");
    let input = one.repeat(5);
    let (mut at, mut now, mut steps) = (0, T0, 0);
    while at < input.len() {
        let step = f.up(&input[at..], now);
        assert!(step.take <= 2 * one.len() && step.end.is_none());
        at += step.take;
        now += step.hold.unwrap_or_default();
        assert!(f.due(now).end.is_none(), "who is held is not silent");
        steps += 1;
    }
    assert!(
        (Duration::from_millis(1_500)..Duration::from_secs(3)).contains(&now),
        "{now:?} in {steps} steps"
    );
    let long = Rate {
        messages: 0,
        bytes: 1,
        burst: 1,
    };
    let mut f = flow(deal_of(V3, Kind::Standard).limited(Some(Arc::new(Bucket::new(long, T0)))));
    assert_eq!(f.up(&input, T0).take, input.len(), "one read may be owed");
    let hold = f.up(&input, T0).hold.unwrap();
    assert!(hold > Duration::from_secs(5) && f.deadline() == TERMS.idle + hold);
}

/// What has begun goes on, and what keeps or ends the connection does not wait; everything else does.
#[test]
fn an_empty_bucket_holds_what_begins_and_nothing_else() {
    let rate = Rate {
        messages: 1,
        bytes: 10,
        burst: 1,
    };
    let bucket = Arc::new(Bucket::new(rate, T0));
    let deal = deal_of(V3, Kind::Standard).limited(Some(bucket.clone()));
    let mut f = flow(deal.pinging(Some(60)));
    let large = publish(V3, 2, 7, "t", &[b'x'; 5_000]);
    for piece in large.chunks(1_000) {
        let step = f.up(piece, T0);
        assert_eq!((step.take, step.hold), (piece.len(), None), "admitted is admitted");
    }
    for held in [
        publish(V3, 0, 0, "t", b"x"),
        subscribe(V3, 8, &[("a", 0)]),
        b"\x40\x02\x00\x01".to_vec(),
    ] {
        let step = f.up(&held, T0);
        assert!(step.take == 0 && step.hold.is_some(), "{held:02x?}");
    }
    assert_eq!(f.up(b"\xc0\x00", T0).take, 2);
    assert!(f.up(b"\xc0\x00", T0).hold.is_some(), "one is on its way");
    assert_eq!(f.down(b"\xd0\x00", T0).pass, Pass::AsIs);
    assert_eq!(f.up(b"\xc0\x00", T0).take, 2);
    let paid = Duration::from_secs(501);
    assert!(bucket.ask(paid).is_ok());
    assert_eq!(f.up(&subscribe(V3, 8, &[("a", 0)]), paid).hold, None);
    assert!(matches!(f.up(b"\xe0\x00", T0).end, Some(End::Disconnected)));
}

#[test]
fn nothing_is_said_in_the_middle_of_a_publish() {
    let mut f = flow(deal_of(V3, Kind::AwsIot));
    up(&mut f, &publish(V3, 4, 7, "t", b""));
    let coming = publish(V3, 0, 0, "c", &[b'x'; 100]);
    down(&mut f, &[b"\x40\x02\x00\x07", &coming[..50]].concat());
    let release = up(&mut f, b"\x62\x02\x00\x07");
    assert!(release.back.is_empty() && release.on.is_empty());
    let rest = down(&mut f, &coming[50..]);
    assert_eq!(rest.on, [&coming[50..], b"\x70\x02\x00\x07"].concat());
    let filters = [("a", 0); 9];
    up(&mut f, &subscribe(V3, 3, &filters));
    let going = publish(V3, 0, 0, "u", &[b'y'; 100]);
    up(&mut f, &going[..50]);
    assert!(down(&mut f, &suback(V3, 3, &[0; 8])).back.is_empty());
    assert_eq!(
        up(&mut f, &going[50..]).on,
        [&going[50..], &subscribe(V3, 3, &filters[..1])].concat()
    );
    down(&mut f, &coming[..50]);
    let mut held = false;
    for _ in 0..1_100 {
        held |= f.up(b"\x62\x02\x00\x09", T0).hold.is_some();
    }
    assert!(held && f.owed_device.len() <= OWED_MAX + 4);
}

#[test]
fn what_precedes_the_end_still_goes_on_and_the_rule_is_named() {
    let good = publish(V3, 2, 7, "t", b"x");
    let out = up(&mut flow(Deal::default()), &[&good[..], b"\x10\x02ab"].concat());
    assert_eq!(out.on, good);
    assert!(out.end.unwrap().contains("connect-again"));
    let out = up(&mut flow(deal_of(V5, Kind::Standard)), b"\x20\x03\x00\x00\x00");
    assert_eq!(out.back, b"\xe0\x01\x82");
    let out = down(&mut flow(Deal::default()), b"\x82\x06\x00\x01\x00\x01a\x00");
    assert!(out.end.unwrap().starts_with("upstream broke a rule"));
    let gone = down(&mut flow(deal_of(V5, Kind::Standard)), b"\xe0\x01\x8b");
    assert_eq!(gone.on, b"\xe0\x01\x8b");
    assert!(gone.end.unwrap().contains("upstream closed"));
    let bye = up(&mut flow(Deal::default()), &[b"\xe0\x00", &good[..]].concat());
    assert_eq!(
        (bye.on.as_slice(), bye.end.as_deref()),
        (&b"\xe0\x00"[..], Some("the device disconnected"))
    );
}

#[test]
fn no_payload_and_no_whole_number_is_printed() {
    let mut f = flow(rewriting(V3, Kind::AwsIot, true));
    let step = f.up(&publish(V3, 4, 7, "t/{{imsi}}", b"my secret"), T0);
    let text = format!("{f:?}{:?}", step.end);
    assert!(!text.contains("my secret") && !text.contains(IMSI), "{text}");
}
