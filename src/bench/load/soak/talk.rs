//! Packets of both versions that a device writes and reads.

use anyhow::{Context, bail};
use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::super::names::packet_id;
use crate::mqtt::frame::{HEADER_MAX, put_length};
use crate::mqtt::{ConnAck, Connect, Frame, Level, PacketType, split_frame};

/// Largest packet taken, in bytes.
pub(super) const PACKET_MAX: usize = 64 << 10;
/// Session Expiry Interval of a device of version 5 in seconds: longer than any pause.
const SESSION_EXPIRY: u32 = 7_200;
/// PINGREQ.
pub(super) const PING: [u8; 2] = [0xc0, 0];
/// DISCONNECT, normal in both versions.
pub(super) const DISCONNECT: [u8; 2] = [0xe0, 0];
/// DUP of PUBLISH.
const DUP: u8 = 0x08;

/// CONNECT of one who wants its session back.
pub(super) fn connect(level: Level, client_id: &str, keep_alive: u16) -> anyhow::Result<Vec<u8>> {
    let mut connect = Connect::new(client_id, false, keep_alive);
    if level == Level::V5 {
        connect.level = level;
        let mut properties = BytesMut::new();
        properties.put_u8(crate::mqtt::properties::id::SESSION_EXPIRY);
        properties.put_u32(SESSION_EXPIRY);
        connect.properties = properties.freeze();
    }
    connect.encode().context("CONNECT")
}

/// A PUBLISH at QoS 1 whose payload begins with device and sequence number (big-endian).
pub(super) fn publish(level: Level, topic: &str, device: u32, n: u32, dup: bool, payload: usize) -> Vec<u8> {
    let stamp = 8;
    let payload = payload.max(stamp);
    let properties = usize::from(level == Level::V5);
    let length = 2 + topic.len() + 2 + properties + payload;
    let mut out = Vec::with_capacity(length + HEADER_MAX);
    out.put_u8(0x32 | if dup { DUP } else { 0 });
    put_length(&mut out, length);
    out.put_u16(u16::try_from(topic.len()).unwrap_or(u16::MAX));
    out.put_slice(topic.as_bytes());
    out.put_u16(packet_id(n));
    out.put_bytes(0, properties);
    out.put_u32(device);
    out.put_u32(n);
    out.put_bytes(0, payload - stamp);
    out
}

/// What an upstream says to a device here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The message with this packet identifier was taken.
    Accepted(u16),
    /// It was refused, by reason code.
    Refused(u16, u8),
    /// PINGRESP.
    Pong,
    /// Version 5: the connection ends, by reason code.
    Farewell(u8),
}

/// Reads one packet.
pub(super) fn heard(level: Level, frame: &Frame) -> anyhow::Result<Heard> {
    match (frame.packet, frame.body()) {
        (PacketType::PubAck, [high, low]) => Ok(Heard::Accepted(u16::from_be_bytes([*high, *low]))),
        (PacketType::PubAck, [high, low, reason, ..]) if level == Level::V5 => {
            let id = u16::from_be_bytes([*high, *low]);
            // 0x80 and above are failures (MQTT 5 section 2.4); 0x10, no subscriber, is none.
            Ok(if *reason < 0x80 {
                Heard::Accepted(id)
            } else {
                Heard::Refused(id, *reason)
            })
        }
        (PacketType::PingResp, []) => Ok(Heard::Pong),
        (PacketType::Disconnect, body) if level == Level::V5 => Ok(Heard::Farewell(body.first().copied().unwrap_or(0))),
        (other, body) => bail!("{other:?} with {} bytes", body.len()),
    }
}

/// The answer to CONNECT.
pub(super) async fn connack(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    buffer: &mut BytesMut,
    level: Level,
) -> anyhow::Result<ConnAck> {
    let frame = next(stream, buffer).await?;
    if frame.packet != PacketType::ConnAck {
        bail!("{:?} instead of CONNACK", frame.packet);
    }
    ConnAck::decode(level, frame.body()).context("CONNACK")
}

/// The next packet. Cancelling it loses nothing.
pub(super) async fn next(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> anyhow::Result<Frame> {
    loop {
        if let Some(frame) = split_frame(buffer, PACKET_MAX)? {
            return Ok(frame);
        }
        if stream.read_buf(buffer).await? == 0 {
            bail!("closed");
        }
    }
}

/// Packet identifier, DUP, device and sequence number of a PUBLISH of 3.1.1 at QoS 1.
pub(super) fn arrival(frame: &Frame) -> Option<(u16, bool, u32, u32)> {
    let body: Bytes = frame.bytes.slice(frame.body_at..);
    let topic = usize::from(u16::from_be_bytes(*body.first_chunk()?));
    let (id, payload) = body.get(2 + topic..)?.split_first_chunk()?;
    let (device, rest) = payload.split_first_chunk()?;
    let n = rest.first_chunk()?;
    let dup = frame.flags() & DUP != 0;
    Some((
        u16::from_be_bytes(*id),
        dup,
        u32::from_be_bytes(*device),
        u32::from_be_bytes(*n),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_writes_the_receiver_reads_and_an_independent_codec_too() {
        use rumqttc::{mqttbytes::v4, v5::mqttbytes::v5};
        for (payload, dup) in [(8, false), (100, true), (20_000, false)] {
            let out = publish(Level::V3, "b/7/up", 7, 65_534, dup, payload);
            let v4::Packet::Publish(p) = v4::Packet::read(&mut BytesMut::from(&out[..]), PACKET_MAX).unwrap() else {
                panic!("no PUBLISH")
            };
            assert_eq!(
                (&p.topic[..], p.pkid, p.dup, p.payload.len()),
                ("b/7/up", 65_535, dup, payload)
            );
            let frame = split_frame(&mut BytesMut::from(&out[..]), PACKET_MAX).unwrap().unwrap();
            assert_eq!(arrival(&frame), Some((65_535, dup, 7, 65_534)));

            let out = publish(Level::V5, "b/7/up", 7, 3, dup, payload);
            let read = v5::Packet::read(&mut BytesMut::from(&out[..]), Some(64 << 10)).unwrap();
            let v5::Packet::Publish(p) = read else {
                panic!("no PUBLISH")
            };
            assert_eq!((p.pkid, p.dup, p.payload.len(), p.properties), (4, dup, payload, None));
        }
        assert_eq!((packet_id(0), packet_id(65_534), packet_id(65_535)), (1, 65_535, 1));
    }

    #[test]
    fn a_device_of_each_version_asks_for_its_session() {
        for level in [Level::V3, Level::V5] {
            let bytes = connect(level, "dev", 10).unwrap();
            let frame = split_frame(&mut BytesMut::from(&bytes[..]), PACKET_MAX)
                .unwrap()
                .unwrap();
            let read = Connect::decode(frame.body()).unwrap();
            assert_eq!((read.level, read.clean_session, read.keep_alive), (level, false, 10));
            assert_eq!(read.properties.len(), if level == Level::V5 { 5 } else { 0 });
        }
    }

    #[test]
    fn what_upstream_says() {
        let say = |level, bytes: &[u8]| heard(level, &split_frame(&mut BytesMut::from(bytes), 99).unwrap().unwrap());
        assert_eq!(say(Level::V3, &[0x40, 2, 1, 2]).unwrap(), Heard::Accepted(0x0102));
        assert_eq!(
            say(Level::V5, &[0x40, 4, 1, 2, 0x10, 0]).unwrap(),
            Heard::Accepted(0x0102)
        );
        assert_eq!(
            say(Level::V5, &[0x40, 3, 1, 2, 0x97]).unwrap(),
            Heard::Refused(0x0102, 0x97)
        );
        assert_eq!(say(Level::V5, &[0xe0, 2, 0x8b, 0]).unwrap(), Heard::Farewell(0x8b));
        assert_eq!(say(Level::V5, &[0xe0, 0]).unwrap(), Heard::Farewell(0));
        assert_eq!(say(Level::V3, &[0xd0, 0]).unwrap(), Heard::Pong);
        assert!(say(Level::V3, &[0x40, 3, 1, 2, 0]).is_err() && say(Level::V3, &[0xe0, 0]).is_err());
    }
}
