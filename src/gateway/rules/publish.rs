//! The head of a PUBLISH (MQTT 3.1.1 and 5 section 3.3), as far as it has arrived.

use super::{Direction, Progress, Publish};
use crate::mqtt::properties::{self, Place, Properties, Value, id};
use crate::mqtt::reader::{Reader, VARIABLE_BYTES};
use crate::mqtt::rule::{self, Violation};
use crate::mqtt::{Head, Level, text};

/// Looks at the head. Each rule is asked as soon as its bytes are there, in their order, so that cutting changes nothing.
pub(super) fn see(
    front: &[u8],
    head: Head,
    level: Level,
    direction: Direction,
) -> Result<Progress<Publish<'_>>, Violation> {
    let first = front.first().copied().unwrap_or(0);
    let qos = (first >> 1) & 0x03;
    let up = direction == Direction::Up;
    // Bytes of the packet beyond what was asked for are never looked at: they may be the next packet's.
    let arrived = front.get(..head.size).unwrap_or(front);
    let has = |end: usize| match end {
        end if end > head.size => Err(Violation::from(&rule::TRUNCATED)),
        end => Ok(end <= arrived.len()),
    };

    let topic_begin = head.body_at + 2;
    if !has(topic_begin)? {
        return Ok(Progress::Needs(topic_begin));
    }
    let length = Reader(arrived.get(head.body_at..).unwrap_or_default()).two()?;
    let id_at = topic_begin + usize::from(length);
    let after_id = id_at + if qos > 0 { 2 } else { 0 };
    if !has(after_id)? {
        return Ok(Progress::Needs(after_id));
    }
    let mut r = Reader(arrived.get(topic_begin..).unwrap_or_default());
    let topic = r.bytes(usize::from(length))?;
    let topic = if up {
        text::topic_name(topic)?
    } else {
        text::text(topic)?
    };
    if up && level == Level::V3 && topic.is_empty() {
        return Err((&rule::TOPIC_EMPTY).into());
    }
    let id = if qos > 0 { Some(r.two()?) } else { None };
    if id == Some(0) {
        return Err((&rule::PACKET_ID).into());
    }

    let mut publish = Publish {
        dup: first & 0x08 != 0,
        qos,
        retain: first & 0x01 != 0,
        topic,
        topic_at: topic_begin..id_at,
        id,
        id_at,
        properties: Properties::default(),
        properties_at: after_id..after_id,
        alias: None,
        head_size: after_id,
    };
    if level == Level::V3 {
        return Ok(Progress::Done(publish));
    }
    let length_ends = |b: &u8| b & 0x80 == 0;
    let size = match r.0.iter().take(VARIABLE_BYTES).position(length_ends) {
        Some(last) => last + 1,
        None if r.0.len() >= VARIABLE_BYTES => return Err((&rule::REMAINING_LENGTH).into()),
        None => {
            let wanted = after_id + r.0.len() + 1;
            has(wanted)?;
            return Ok(Progress::Needs(wanted));
        }
    };
    let length = r.variable()? as usize;
    let begin = after_id + size;
    let end = begin + length;
    match has(end) {
        Ok(true) => {}
        Ok(false) => return Ok(Progress::Needs(end)),
        Err(_) => return Err((&rule::PROPERTY_LENGTH).into()),
    }
    let section = r.bytes(length)?;
    publish.properties = if up {
        properties::check(section, Place::Publish)?
    } else {
        properties::walk(section)?
    };
    publish.properties_at = begin..end;
    publish.head_size = end;
    publish.alias = match publish.properties.find(id::TOPIC_ALIAS) {
        Some(Value::Two(alias)) => Some(alias),
        _ => None,
    };
    Ok(Progress::Done(publish))
}
