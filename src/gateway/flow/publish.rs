//! What becomes of a device's PUBLISH: nothing, another head before the same payload, or discarded with an answer.

use super::deal::{Deal, Offence, shown};
use super::exactly::{Exactly, Published};
use crate::gateway::group::policy::{Answer, Matter};
use crate::gateway::rules::{Look, Publish};
use crate::mqtt::frame::put_length;
use crate::mqtt::reason;

/// The head of a PUBLISH, already checked: all that stands before its payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'b> {
    /// The first byte: kind, DUP, QoS, RETAIN.
    pub(super) first: u8,
    /// The topic; empty when an alias stands for it.
    pub(super) topic: &'b [u8],
    /// The packet identifier, for QoS 1 and 2.
    pub(super) id: Option<u16>,
    /// MQTT 5: the properties, with their length in front.
    pub(super) properties: &'b [u8],
    /// MQTT 5: whether it sets or uses a topic alias.
    pub(super) alias: bool,
    /// Size of the head, fixed header included, in bytes.
    pub(super) size: usize,
    /// Bytes of payload that follow.
    pub(super) payload: usize,
}

/// What becomes of it.
#[derive(Debug)]
pub(super) enum Fate {
    /// Head and payload go on as they are.
    AsIs,
    /// Another head goes before the payload.
    Head(Vec<u8>),
    /// Both are discarded, and perhaps this is answered.
    Drop(Option<[u8; 5]>, usize),
}

/// The retain bit of the first byte.
const RETAIN: u8 = 0x01;

impl<'b> Head<'b> {
    /// Of a packet that was looked at.
    pub(super) fn of(look: &Look<'_>, publish: &Publish<'b>, packet: &'b [u8]) -> Self {
        let after_id = publish.id_at + if publish.id.is_some() { 2 } else { 0 };
        Self {
            first: packet.first().copied().unwrap_or(0),
            topic: publish.topic.as_bytes(),
            id: publish.id,
            properties: packet.get(after_id..publish.head_size).unwrap_or(&[]),
            alias: publish.alias.is_some(),
            size: publish.head_size,
            payload: look.head.size.saturating_sub(publish.head_size),
        }
    }

    fn qos(&self) -> u8 {
        (self.first >> 1) & 3
    }

    fn written(&self, first: u8, topic: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(9 + topic.len() + self.properties.len());
        out.push(first);
        let id = if self.id.is_some() { 2 } else { 0 };
        put_length(&mut out, 2 + topic.len() + id + self.properties.len() + self.payload);
        let length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(topic);
        out.extend(self.id.into_iter().flat_map(u16::to_be_bytes));
        out.extend_from_slice(self.properties);
        out
    }
}

/// The bytes of PUBACK, PUBREC or PUBCOMP, and how many of them count.
fn ack(first: u8, id: u16, code: u8) -> (Option<[u8; 5]>, usize) {
    let [high, low] = id.to_be_bytes();
    if code == reason::SUCCESS {
        (Some([first, 2, high, low, 0]), 4)
    } else {
        (Some([first, 3, high, low, code]), 5)
    }
}

/// First byte of PUBACK, PUBREC and PUBCOMP.
pub(super) const PUBACK: u8 = 0x40;
pub(super) const PUBREC: u8 = 0x50;
pub(super) const PUBCOMP: u8 = 0x70;

/// A PUBLISH that upstream would not take: the answer in MQTT 5, or the end.
fn refused(
    deal: &Deal,
    head: &Head<'_>,
    matter: Matter,
    (ack_code, end_code): (u8, u8),
    why: String,
) -> Result<Fate, Offence> {
    let offence = Offence::new(matter, end_code, why);
    // An alias that upstream never hears of would break the next PUBLISH that uses it.
    let told = deal.is_five() && deal.answer(matter) != Answer::Close && !head.alias;
    match (head.qos(), head.id) {
        (1, Some(id)) if told => {
            let (bytes, length) = ack(PUBACK, id, ack_code);
            Ok(Fate::Drop(bytes, length))
        }
        (2, Some(id)) if told => {
            let (bytes, length) = ack(PUBREC, id, ack_code);
            Ok(Fate::Drop(bytes, length))
        }
        _ => Err(offence),
    }
}

/// Judges a PUBLISH. `most` is the largest packet that the listener takes; `note` gets what the operator should know.
pub(super) fn publish(
    deal: &Deal,
    exactly: &mut Exactly,
    head: &Head<'_>,
    most: usize,
    note: &mut Option<String>,
) -> Result<Fate, Offence> {
    let bounds = deal.bounds();
    let size = head.size + head.payload;
    let most = deal.publish_most(most);
    let large = |got: usize, what: &str, most: usize| {
        let why = format!("a PUBLISH with {what} of {got} bytes, and at most {most} are taken");
        refused(
            deal,
            head,
            Matter::LargePublish,
            (reason::QUOTA_EXCEEDED, reason::PACKET_TOO_LARGE),
            why,
        )
    };
    if size > most {
        return large(size, "a size", most);
    }
    if head.payload > bounds.payload && deal.answer(Matter::LargePublish) != Answer::Pass {
        return large(head.payload, "a payload", bounds.payload);
    }
    let mut first = head.first;
    if head.qos() > deal.publish_qos() {
        let adapt = deal.answer(Matter::PublishQos2) == Answer::Adapt && deal.publish_qos() == 1 && !deal.is_five();
        if !adapt {
            let why = format!(
                "a PUBLISH with QoS {}, and upstream takes {}",
                head.qos(),
                deal.publish_qos()
            );
            return Err(Offence::new(Matter::PublishQos2, reason::QOS_NOT_SUPPORTED, why));
        }
        first = first & !0x06 | 0x02;
    }
    if first & RETAIN != 0 {
        match deal.retain() {
            Answer::Pass | Answer::Refuse => {}
            Answer::Adapt => {
                first &= !RETAIN;
                note.get_or_insert_with(|| "the retain flag is cleared (policy retain = adapt)".to_owned());
            }
            Answer::Close => {
                let why = "a PUBLISH is to be retained, and upstream does not".to_owned();
                return Err(Offence::new(Matter::Retain, reason::RETAIN_NOT_SUPPORTED, why));
            }
        }
    }
    let mut rewritten = None;
    if !head.topic.is_empty() {
        let invalid = (reason::TOPIC_NAME_INVALID, reason::TOPIC_NAME_INVALID);
        rewritten = match deal.rewrite().map_or(Ok(None), |r| r.published(head.topic)) {
            Ok(rewritten) => rewritten,
            Err(missing) => return refused(deal, head, Matter::TopicShape, invalid, missing.to_string()),
        };
        let topic = rewritten.as_deref().unwrap_or(head.topic);
        let found = deal
            .shape(Matter::TopicShape, topic)
            .map(|why| (Matter::TopicShape, why));
        let found = found.or_else(|| deal.foreign(topic).map(|why| (Matter::DollarTopic, why)));
        if let Some((matter, why)) = found {
            return refused(
                deal,
                head,
                matter,
                invalid,
                format!("the topic {}: {why}", shown(topic)),
            );
        }
    }
    let grown = rewritten
        .as_ref()
        .map_or(0, |t| t.len().saturating_sub(head.topic.len()));
    if grown > 0 && size + grown > most {
        return large(size + grown, "a size with its rewritten topic", most);
    }
    // Remembered last: what was refused above was never sent.
    if let (true, Some(id)) = (head.qos() == 2 && first & 0x06 == 0x02, head.id) {
        match exactly.publish(id) {
            Published::New => {}
            Published::Again => return Ok(Fate::Drop(None, 0)),
            Published::Received => {
                let (bytes, length) = ack(PUBREC, id, reason::SUCCESS);
                return Ok(Fate::Drop(bytes, length));
            }
            Published::Full => {
                let why = format!(
                    "more than {} messages with QoS 2 and no PUBREL",
                    super::exactly::EXACTLY_MAX
                );
                return Err(Offence::new(Matter::PublishQos2, reason::RECEIVE_MAXIMUM_EXCEEDED, why));
            }
        }
    }
    if first == head.first && rewritten.is_none() {
        return Ok(Fate::AsIs);
    }
    Ok(Fate::Head(
        head.written(first, rewritten.as_deref().unwrap_or(head.topic)),
    ))
}
