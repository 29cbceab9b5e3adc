//! MQTT 3.1.1.

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4;

use super::{Malformed, Out, Packet, Publish, RetainHandling, Wanted, acknowledgement};
use crate::mqtt::{Frame, PacketType, connack};

/// The whole packet is here; its size was checked when it was cut out.
const NO_LIMIT: usize = usize::MAX;

pub(super) fn read(frame: Frame) -> Result<Packet, Malformed> {
    let kind = frame.packet;
    if matches!(kind, PacketType::PubRec | PacketType::PubRel | PacketType::PubComp) {
        return Ok(Packet::Other(kind));
    }
    let bytes = BytesMut::from(frame.bytes.clone());
    let packet = v4::Packet::read(&mut { bytes }, NO_LIMIT).map_err(Malformed::form)?;
    let packet = convert(packet, kind);
    if let Some(why) = ignored(&packet, frame.body()) {
        return Err(Malformed::form(why));
    }
    Ok(packet)
}

/// What rumqttc has read over, if anything.
fn ignored(packet: &Packet, body: &[u8]) -> Option<String> {
    let (known, ids) = match packet {
        Packet::Subscribe { id, filters, .. } => {
            let mut rest = body.get(2..).unwrap_or_default();
            for wanted in filters {
                let (options, left) = rest.get(2 + wanted.filter.len()..)?.split_first()?;
                if *options != wanted.qos {
                    // MQTT-3-8.3-4.
                    return Some(format!("the QoS of {:?} is {options:#04x}", wanted.filter));
                }
                rest = left;
            }
            (body.len() - rest.len(), Some((id, filters.len())))
        }
        Packet::Unsubscribe { id, filters } => {
            let length = 2 + filters.iter().map(|f| 2 + f.len()).sum::<usize>();
            (length, Some((id, filters.len())))
        }
        Packet::PubAck { .. } => (2, None),
        Packet::PingReq | Packet::Disconnect { .. } => (0, None),
        Packet::Publish(_) | Packet::Other(_) => (body.len(), None),
    };
    match ids {
        // MQTT-2.3.1-1, MQTT-3.8.3-3 and MQTT-3.10.3-2.
        Some((0, _)) => Some("its packet identifier is 0".into()),
        Some((_, 0)) => Some("it has no filter".into()),
        _ if body.len() > known => Some(format!(
            "{} bytes are left over after the last field",
            body.len() - known
        )),
        _ => None,
    }
}

fn convert(packet: v4::Packet, kind: PacketType) -> Packet {
    match packet {
        v4::Packet::Publish(p) => Packet::Publish(Publish {
            dup: p.dup,
            qos: p.qos as u8,
            retain: p.retain,
            topic: p.topic,
            id: p.pkid,
            payload: p.payload,
            ..Publish::default()
        }),
        v4::Packet::PubAck(ack) => Packet::PubAck {
            id: ack.pkid,
            reason: 0,
            user_properties: false,
        },
        v4::Packet::Subscribe(s) => Packet::Subscribe {
            id: s.pkid,
            filters: s
                .filters
                .into_iter()
                .map(|f| Wanted {
                    filter: f.path,
                    qos: f.qos as u8,
                    no_local: false,
                    retain_as_published: false,
                    retained: RetainHandling::Always,
                })
                .collect(),
            identifier: false,
            user_properties: false,
        },
        v4::Packet::Unsubscribe(u) => Packet::Unsubscribe {
            id: u.pkid,
            filters: u.topics,
        },
        v4::Packet::PingReq => Packet::PingReq,
        v4::Packet::Disconnect => Packet::Disconnect {
            reason: 0,
            expiry: None,
            user_properties: false,
        },
        _ => Packet::Other(kind),
    }
}

pub(super) fn write(out: &Out, bytes: &mut BytesMut) -> Result<(), Malformed> {
    match out {
        Out::Welcome { present, .. } => bytes.extend_from_slice(&[0x20, 0x02, u8::from(*present), 0x00]),
        Out::Refused(code) => bytes.extend_from_slice(&connack::packet(*code)),
        Out::Publish(p) => {
            let qos = if p.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            let mut publish = v4::Publish::from_bytes(&*p.topic, qos, p.payload.clone());
            publish.pkid = p.id;
            publish.dup = p.dup;
            publish.retain = p.retain;
            publish.write(bytes).map_err(Malformed::form)?;
        }
        Out::PubAck(id, _) => acknowledgement(bytes, 0x40, *id, &[]),
        Out::SubAck(id, codes) => acknowledgement(bytes, 0x90, *id, &[codes]),
        Out::UnsubAck(id, _) => acknowledgement(bytes, 0xb0, *id, &[]),
        Out::PingResp | Out::Disconnect(_) => {}
    }
    Ok(())
}
