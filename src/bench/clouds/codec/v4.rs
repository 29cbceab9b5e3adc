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
    let packet = v4::Packet::read(&mut BytesMut::from(frame.bytes), NO_LIMIT).map_err(Malformed::form)?;
    Ok(match packet {
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
    })
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
