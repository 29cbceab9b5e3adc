//! A device and a broker on both sides of a flow, with bytes that arrive in any pieces and at any time.
//!
//! The device does what a client does: it publishes with every QoS, keeps what was not acknowledged, repeats it now and then, releases,
//! subscribes to many filters at once. The broker is a cloud's: it takes QoS 1 at most where the cloud does, at most 8 filters in a
//! SUBSCRIBE where it has that rule, delivers messages of its own, and acknowledges when it likes. Both read what comes with rumqttc's
//! decoder and panic at what it refuses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use proptest::prelude::*;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use super::tests::{V3, V5, packet, publish, suback, subscribe};
use super::*;
use crate::gateway::group::policy::Policy;
use crate::gateway::group::topics_for_tests;
use crate::gateway::group::{Kind, Platform};
use crate::mqtt::Level;

/// What a packet says, in either version.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Publish {
        dup: bool,
        qos: u8,
        id: u16,
        topic: String,
        payload: Vec<u8>,
    },
    Ack(PacketType, u16, bool),
    Subscribe(u16, Vec<(String, u8)>),
    SubAck(u16, usize),
    Ping,
    Pong,
    Other,
}

/// Cuts the next packet off and has it read by rumqttc.
fn read(level: Level, bytes: &mut BytesMut) -> Option<Said> {
    if level == V3 {
        use v4::Packet as P;
        let packet = match P::read(bytes, 1 << 20) {
            Ok(p) => p,
            Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => return None,
            Err(e) => panic!("{e}: {:02x?}", &bytes[..bytes.len().min(40)]),
        };
        Some(match packet {
            P::Publish(p) => Said::Publish {
                dup: p.dup,
                qos: p.qos as u8,
                id: p.pkid,
                topic: p.topic,
                payload: p.payload.to_vec(),
            },
            P::PubAck(a) => Said::Ack(PacketType::PubAck, a.pkid, true),
            P::PubRec(a) => Said::Ack(PacketType::PubRec, a.pkid, true),
            P::PubRel(a) => Said::Ack(PacketType::PubRel, a.pkid, true),
            P::PubComp(a) => Said::Ack(PacketType::PubComp, a.pkid, true),
            P::Subscribe(s) => Said::Subscribe(s.pkid, s.filters.into_iter().map(|f| (f.path, f.qos as u8)).collect()),
            P::SubAck(a) => Said::SubAck(a.pkid, a.return_codes.len()),
            P::PingReq => Said::Ping,
            P::PingResp => Said::Pong,
            _ => Said::Other,
        })
    } else {
        use v5::Packet as P;
        let packet = match P::read(bytes, None) {
            Ok(p) => p,
            Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => return None,
            Err(e) => panic!("{e}: {:02x?}", &bytes[..bytes.len().min(40)]),
        };
        Some(match packet {
            P::Publish(p) => Said::Publish {
                dup: p.dup,
                qos: p.qos as u8,
                id: p.pkid,
                topic: String::from_utf8(p.topic.to_vec()).unwrap(),
                payload: p.payload.to_vec(),
            },
            P::PubAck(a) => Said::Ack(PacketType::PubAck, a.pkid, a.reason == v5::PubAckReason::Success),
            P::PubRec(a) => Said::Ack(PacketType::PubRec, a.pkid, a.reason == v5::PubRecReason::Success),
            P::PubRel(a) => Said::Ack(PacketType::PubRel, a.pkid, true),
            P::PubComp(a) => Said::Ack(PacketType::PubComp, a.pkid, true),
            P::Subscribe(s) => Said::Subscribe(s.pkid, s.filters.into_iter().map(|f| (f.path, f.qos as u8)).collect()),
            P::SubAck(a) => Said::SubAck(a.pkid, a.return_codes.len()),
            P::PingReq(_) => Said::Ping,
            P::PingResp(_) => Said::Pong,
            _ => Said::Other,
        })
    }
}

fn ack(kind: u8, id: u16) -> Vec<u8> {
    packet(kind, &id.to_be_bytes())
}

/// Where a message of the device's is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Sent(u8),
    Released,
}

struct Pair {
    level: Level,
    kind: Kind,
    rewritten: bool,
    flow: Flow,
    now: Duration,
    /// On the way: from the device, to upstream, from upstream, to the device.
    lines: [BytesMut; 4],
    next: u16,
    open: BTreeMap<u16, (State, Vec<u8>)>,
    /// Payloads the device holds for acknowledged or refused.
    acknowledged: BTreeSet<u16>,
    refused: BTreeSet<u16>,
    subscribed: BTreeMap<u16, usize>,
    pings: i32,
    /// The broker's.
    arrived: BTreeSet<u16>,
    confirmed: BTreeSet<u16>,
    answers: VecDeque<(Option<u16>, Vec<u8>)>,
    received: BTreeSet<u16>,
    delivered: u16,
    taken: u16,
    most_owed: usize,
    /// What has arrived and was not taken, down and up.
    kept: [usize; 2],
}

/// A payload that tells which message it is, whatever its packet identifier.
fn payload(message: u16, length: usize) -> Vec<u8> {
    [&message.to_be_bytes()[..], &vec![b'.'; length]].concat()
}

impl Pair {
    fn new(level: Level, kind: Kind, rewritten: bool) -> Self {
        let mut deal = Deal::new(level, Policy::of(kind), Platform::Full).pinging(Some(100));
        if rewritten {
            deal = deal.rewriting(topics_for_tests());
        }
        let terms = Terms {
            max_packet: 256 << 10,
            idle: Duration::from_secs(1 << 30),
        };
        Self {
            level,
            kind,
            rewritten,
            flow: Flow::with(terms, deal, Duration::ZERO),
            now: Duration::ZERO,
            lines: Default::default(),
            next: 0,
            open: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            refused: BTreeSet::new(),
            subscribed: BTreeMap::new(),
            pings: 0,
            arrived: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            answers: VecDeque::new(),
            received: BTreeSet::new(),
            delivered: 0,
            taken: 0,
            most_owed: 0,
            kept: [0; 2],
        }
    }

    fn grants_qos2(&self) -> bool {
        self.kind == Kind::Standard
    }

    fn device_publishes(&mut self, qos: u8, length: usize) {
        let qos = if self.level == V5 && !self.grants_qos2() {
            qos.min(1)
        } else {
            qos
        };
        self.next += 1;
        let id = self.next;
        let bytes = publish(
            self.level,
            qos << 1,
            id,
            if self.rewritten { "d/{{imsi}}" } else { "d" },
            &payload(id, length),
        );
        self.lines[0].extend_from_slice(&bytes);
        if qos > 0 {
            self.open.insert(id, (State::Sent(qos), bytes));
        }
    }

    /// What a client does of its own on a connection that lives: MQTT 3.1.1 lets it repeat, MQTT 5 does not.
    fn device_repeats(&mut self) {
        let first = self.open.iter().find(|(_, (s, _))| matches!(s, State::Sent(2)));
        if let (Some((_, (_, bytes))), true) = (first, self.level == V3 && !self.grants_qos2()) {
            let mut bytes = bytes.clone();
            bytes[0] |= 8;
            self.lines[0].extend_from_slice(&bytes);
        }
    }

    fn device_subscribes(&mut self, filters: usize) {
        self.next += 1;
        let names: Vec<String> = (0..filters)
            .map(|n| {
                if n % 5 == 4 {
                    "1/2/3/4/5/6/7/8/9".into()
                } else {
                    format!("f/{n}")
                }
            })
            .collect();
        let asked: Vec<(&str, u8)> = names.iter().map(|n| (n.as_str(), 2)).collect();
        self.lines[0].extend_from_slice(&subscribe(self.level, self.next, &asked));
        self.subscribed.insert(self.next, filters);
    }

    fn device_reads(&mut self) {
        while let Some(said) = read(self.level, &mut self.lines[3]) {
            match said {
                Said::Publish { payload, .. } => {
                    assert_eq!(payload[..2], self.taken.to_be_bytes(), "in order");
                    self.taken += 1;
                }
                Said::Ack(PacketType::PubRec, id, true) => {
                    // A message that was repeated may be answered twice.
                    match self.open.get_mut(&id) {
                        Some((state, _)) => *state = State::Released,
                        None => assert!(self.acknowledged.contains(&id), "an answer to something sent"),
                    }
                    self.acknowledged.insert(id);
                    self.lines[0].extend_from_slice(&ack(0x62, id));
                }
                Said::Ack(PacketType::PubAck | PacketType::PubRec, id, false) => {
                    self.open.remove(&id).expect("an answer to something sent");
                    self.refused.insert(id);
                }
                Said::Ack(PacketType::PubAck, id, true) => {
                    assert_eq!(
                        self.open.remove(&id).expect("an answer to something sent").0,
                        State::Sent(1)
                    );
                    self.acknowledged.insert(id);
                }
                Said::Ack(PacketType::PubComp, id, true) => {
                    if let Some((state, _)) = self.open.remove(&id) {
                        assert_eq!(state, State::Released);
                    }
                }
                Said::SubAck(id, codes) => assert_eq!(self.subscribed.remove(&id), Some(codes)),
                Said::Pong => self.pings -= 1,
                said => panic!("a device does not get {said:?}"),
            }
        }
        assert!(self.pings >= 0, "an answer that the device did not ask for");
    }

    fn broker_reads(&mut self) {
        while let Some(said) = read(self.level, &mut self.lines[1]) {
            match said {
                Said::Publish {
                    qos,
                    id,
                    topic,
                    payload,
                    dup,
                } => {
                    assert_eq!(topic, if self.rewritten { "d/295012345678901" } else { "d" });
                    let message = u16::from_be_bytes([payload[0], payload[1]]);
                    assert!(qos < 2 || self.grants_qos2(), "a cloud would have closed");
                    let limit = Policy::of(self.kind).bounds().payload;
                    assert!(payload.len() <= limit, "a cloud would have closed");
                    assert!(!dup, "nothing was repeated upstream");
                    match qos {
                        0 => {}
                        1 => self.answers.push_back((Some(message), ack(0x40, id))),
                        _ if self.received.insert(id) => self.answers.push_back((Some(message), ack(0x50, id))),
                        _ => self.answers.push_back((None, ack(0x50, id))),
                    }
                    self.arrived.insert(message);
                }
                Said::Ack(PacketType::PubRel, id, true) => {
                    assert!(self.grants_qos2(), "a cloud does not know PUBREL");
                    self.received.remove(&id);
                    self.answers.push_back((None, ack(0x70, id)));
                }
                Said::Subscribe(id, filters) => {
                    assert!(
                        filters.len() <= 8 || self.kind != Kind::AwsIot,
                        "a cloud would have closed"
                    );
                    assert!(self.grants_qos2() || filters.iter().all(|(f, q)| *q < 2 && f.starts_with("f/")));
                    let codes: Vec<u8> = filters.iter().map(|(_, q)| *q).collect();
                    self.answers.push_back((None, suback(self.level, id, &codes)));
                }
                Said::Ping => self.answers.push_back((None, vec![0xd0, 0])),
                said => panic!("upstream does not get {said:?}"),
            }
        }
    }

    fn broker_answers(&mut self) {
        if let Some((message, bytes)) = self.answers.pop_front() {
            self.confirmed.extend(message);
            self.lines[2].extend_from_slice(&bytes);
        }
    }

    fn broker_delivers(&mut self, length: usize) {
        let bytes = publish(self.level, 0, 0, "c", &payload(self.delivered, length));
        self.lines[2].extend_from_slice(&bytes);
        self.delivered += 1;
    }

    /// The pump: so many more bytes of one direction arrive, and what they lead to is done.
    fn pump(&mut self, up: bool, more: usize) {
        let (from, to, back) = if up { (0, 1, 3) } else { (2, 3, 1) };
        let kept = self.kept[usize::from(up)];
        let arrived = kept.saturating_add(more).min(self.lines[from].len());
        let front = self.lines[from].split_to(arrived);
        let mut at = 0;
        loop {
            let rest = &front[at..];
            let step = if up {
                self.flow.up(rest, self.now)
            } else {
                self.flow.down(rest, self.now)
            };
            assert!(step.end.is_none(), "{:?}", step.end);
            match step.pass {
                Pass::Nothing => {}
                Pass::AsIs => self.lines[to].extend_from_slice(&rest[..step.take]),
                Pass::Instead(b) => self.lines[to].extend_from_slice(&b),
            }
            self.lines[back].extend_from_slice(&step.back.unwrap_or_default());
            at += step.take;
            self.most_owed = self.most_owed.max(self.flow.owed_device.len());
            if step.take == 0 {
                assert!(
                    rest.is_empty() || step.hold.is_some() || step.wanted > rest.len(),
                    "it waits for nothing"
                );
                break;
            }
        }
        let mut left = BytesMut::from(&front[at..]);
        self.kept[usize::from(up)] = left.len();
        left.unsplit(self.lines[from].split());
        self.lines[from] = left;
    }

    fn pass_time(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        let step = self.flow.due(self.now);
        assert!(step.end.is_none() && step.back.is_none());
        if let Pass::Instead(b) = step.pass {
            self.lines[1].extend_from_slice(&b);
        }
    }

    /// Until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.pump(true, usize::MAX);
            self.broker_reads();
            self.broker_answers();
            self.pump(false, usize::MAX);
            self.device_reads();
            if self.answers.is_empty() && self.lines.iter().all(|l| !l.has_remaining()) {
                return;
            }
        }
        panic!(
            "it never settles: {:?}",
            self.lines.iter().map(BytesMut::len).collect::<Vec<_>>()
        );
    }
}

#[derive(Debug, Clone)]
enum Act {
    Publish(u8, usize),
    Repeat,
    Subscribe(usize),
    Ping,
    Deliver(usize),
    Answer,
    Up(usize),
    Down(usize),
    Read,
    Time(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let length = || prop_oneof![8 => 0_usize..60, 2 => 500_usize..5_000, 1 => Just(140_000_usize)];
    let piece = || prop_oneof![3 => 1_usize..40, 2 => 40_usize..2_000, 1 => Just(usize::MAX)];
    prop_oneof![
        4 => (0_u8..3, length()).prop_map(|(q, n)| Act::Publish(q, n)),
        1 => Just(Act::Repeat),
        1 => (1_usize..30).prop_map(Act::Subscribe),
        1 => Just(Act::Ping),
        2 => length().prop_map(Act::Deliver),
        6 => Just(Act::Answer),
        8 => piece().prop_map(Act::Up),
        8 => piece().prop_map(Act::Down),
        4 => Just(Act::Read),
        1 => (0_u64..200).prop_map(Act::Time),
    ]
}

fn play(level: Level, kind: Kind, rewritten: bool, acts: Vec<Act>) -> Pair {
    let mut p = Pair::new(level, kind, rewritten);
    // A payload that AWS does not take ends a connection of MQTT 3.1.1, and QoS 0 ends it in both: those have tests of their own.
    let large = |qos: u8, n: usize| {
        if kind == Kind::AwsIot && (level == V3 || qos == 0) {
            n.min(100_000)
        } else {
            n
        }
    };
    for act in acts {
        match act {
            Act::Publish(q, n) => p.device_publishes(q, large(q, n)),
            Act::Repeat => p.device_repeats(),
            Act::Subscribe(n) => p.device_subscribes(n),
            Act::Ping => {
                p.pings += 1;
                p.lines[0].extend_from_slice(b"\xc0\x00");
            }
            Act::Deliver(n) => p.broker_delivers(n),
            Act::Answer => p.broker_answers(),
            Act::Up(n) => p.pump(true, n),
            Act::Down(n) => p.pump(false, n),
            Act::Read => {
                p.broker_reads();
                p.device_reads();
            }
            Act::Time(s) => p.pass_time(s),
        }
        // Nothing is acknowledged that upstream has not acknowledged.
        assert!(
            p.acknowledged.is_subset(&p.confirmed),
            "{:?}",
            p.acknowledged.difference(&p.confirmed)
        );
    }
    p.settle();
    p
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn what_upstream_acknowledged_is_what_the_device_holds_for_acknowledged(
        five: bool,
        kind in prop_oneof![Just(Kind::AwsIot), Just(Kind::EventGrid), Just(Kind::Standard)],
        rewritten: bool,
        acts in proptest::collection::vec(act(), 1..120),
    ) {
        let p = play(if five { V5 } else { V3 }, kind, rewritten, acts);
        prop_assert_eq!(&p.acknowledged, &p.confirmed);
        prop_assert!(p.acknowledged.is_subset(&p.arrived));
        prop_assert!(p.refused.is_disjoint(&p.arrived), "what was refused never went up");
        prop_assert!(p.open.is_empty(), "everything ends: {:?}", p.open.keys().collect::<Vec<_>>());
        prop_assert!(p.subscribed.is_empty() && p.pings == 0);
        prop_assert_eq!(p.taken, p.delivered);
        prop_assert!(p.most_owed <= 2 * OWED_MAX, "{}", p.most_owed);
        prop_assert!(p.flow.waiting.is_empty() && p.flow.is_settled() && p.flow.owed_upstream.len() == 0);
    }
}
