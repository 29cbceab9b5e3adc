//! Cutting a byte stream into whole MQTT control packets (MQTT 3.1.1 section 2.2), without decoding them.

use bytes::{BufMut, Bytes, BytesMut};

use super::rule::{self, Violation};

/// Longest fixed header, in bytes.
pub const HEADER_MAX: usize = 5;
/// Largest remaining length (MQTT 3.1.1 section 2.2.3, MQTT 5 section 1.5.5).
pub const LENGTH_MAX: usize = 268_435_455;

/// The kinds of packet (MQTT 3.1.1 table 2.1, MQTT 5 table 2-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    /// Version 5 only.
    Auth = 15,
}

impl PacketType {
    /// What a packet of this first byte is; none for the reserved kind 0.
    #[must_use]
    pub fn of(first: u8) -> Option<Self> {
        Self::from_bits(first >> 4)
    }

    fn from_bits(bits: u8) -> Option<Self> {
        use PacketType::{
            Auth, ConnAck, Connect, Disconnect, PingReq, PingResp, PubAck, PubComp, PubRec, PubRel, Publish, SubAck,
            Subscribe, UnsubAck, Unsubscribe,
        };
        Some(match bits {
            1 => Connect,
            2 => ConnAck,
            3 => Publish,
            4 => PubAck,
            5 => PubRec,
            6 => PubRel,
            7 => PubComp,
            8 => Subscribe,
            9 => SubAck,
            10 => Unsubscribe,
            11 => UnsubAck,
            12 => PingReq,
            13 => PingResp,
            14 => Disconnect,
            15 => Auth,
            _ => return None,
        })
    }
}

/// Why bytes are not MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Packet type 0 is reserved; 15, which 3.1.1 reserves too, is AUTH in version 5 and left to who knows the version.
    #[error("packet type {0} is reserved: this is not MQTT")]
    ReservedType(u8),
    /// The remaining length has more than four bytes.
    #[error("the remaining length does not end within four bytes: this is not MQTT")]
    BadLength,
    /// Larger than what is accepted here.
    #[error("a packet of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Size of the whole packet, in bytes.
        size: usize,
        /// The limit it broke, in bytes.
        limit: usize,
    },
}

/// One whole control packet as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which kind.
    pub packet: PacketType,
    /// The whole packet, fixed header included.
    pub bytes: Bytes,
    /// Where the variable header begins.
    pub body_at: usize,
}

impl Frame {
    /// The low four bits of the first byte.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.bytes.first().copied().unwrap_or(0) & 0x0f
    }

    /// Variable header and payload.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.body_at..).unwrap_or(&[])
    }

    /// For a PUBLISH: its quality of service, 0 to 3 (3 is malformed).
    #[must_use]
    pub fn publish_qos(&self) -> u8 {
        (self.flags() >> 1) & 0x03
    }

    /// For a PUBLISH: the topic's bytes.
    #[must_use]
    pub fn publish_topic(&self) -> Option<&[u8]> {
        let body = self.body();
        let length = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
        body.get(2..2 + length)
    }

    /// The packet identifier, where this kind of packet has one.
    #[must_use]
    pub fn packet_id(&self) -> Option<u16> {
        let body = self.body();
        let at = match self.packet {
            PacketType::Publish if self.publish_qos() > 0 => 2 + self.publish_topic()?.len(),
            PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::Subscribe
            | PacketType::SubAck
            | PacketType::Unsubscribe
            | PacketType::UnsubAck => 0,
            _ => return None,
        };
        Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]))
    }
}

/// Where the packet at the front of a buffer ends, known from its fixed header alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Which kind.
    pub packet: PacketType,
    /// Where the variable header begins.
    pub body_at: usize,
    /// Size of the whole packet, fixed header included, in bytes.
    pub size: usize,
}

/// Reads the fixed header at the front of `bytes`, or `None` when it is not complete. `limit` bounds the whole packet in bytes.
///
/// # Errors
/// [`FrameError`]: the stream cannot be followed any further and must be closed.
pub fn peek_frame(bytes: &[u8], limit: usize) -> Result<Option<Head>, FrameError> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let packet = PacketType::from_bits(first >> 4).ok_or(FrameError::ReservedType(first >> 4))?;
    let mut length = 0_usize;
    let mut body_at = None;
    for (index, &byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            body_at = Some(index + 2);
            break;
        }
        if index == 3 {
            return Err(FrameError::BadLength);
        }
    }
    let Some(body_at) = body_at else {
        return Ok(None);
    };
    let size = body_at + length;
    if size > limit {
        return Err(FrameError::TooLarge { size, limit });
    }
    Ok(Some(Head { packet, body_at, size }))
}

/// Takes the next whole packet off the front of `buffer`, or `None` when more bytes are needed. `limit` bounds the whole packet in
/// bytes; it is checked as soon as the length is known, before the body has arrived.
///
/// # Errors
/// [`FrameError`]: the stream cannot be followed any further and must be closed.
pub fn split_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let Some(Head { packet, body_at, size }) = peek_frame(buffer, limit)? else {
        return Ok(None);
    };
    if buffer.len() < size {
        buffer.reserve(size - buffer.len());
        return Ok(None);
    }
    Ok(Some(Frame {
        packet,
        bytes: buffer.split_to(size).freeze(),
        body_at,
    }))
}

/// Appends a variable byte integer (MQTT 3.1.1 section 2.2.3, MQTT 5 section 1.5.5). The caller keeps `length` at [`LENGTH_MAX`] or below.
pub(crate) fn put_length(out: &mut impl BufMut, mut length: usize) {
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        out.put_u8(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            return;
        }
    }
}

/// Appends a string or binary field with its length in front.
///
/// # Errors
/// [`rule::FIELD_SIZE`].
pub(crate) fn put_field(out: &mut Vec<u8>, field: &[u8]) -> Result<(), Violation> {
    let length = u16::try_from(field.len()).map_err(|_| &rule::FIELD_SIZE)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(field);
    Ok(())
}

/// A packet of this first byte and what follows its remaining length.
///
/// # Errors
/// [`rule::WHOLE_SIZE`].
pub(crate) fn packet(first: u8, parts: &[&[u8]]) -> Result<Vec<u8>, Violation> {
    let length = parts.iter().map(|p| p.len()).sum();
    if length > LENGTH_MAX {
        return Err((&rule::WHOLE_SIZE).into());
    }
    let mut out = Vec::with_capacity(HEADER_MAX + length);
    out.push(first);
    put_length(&mut out, length);
    for part in parts {
        out.extend_from_slice(part);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_gives_the_same_frames() {
        let bytes: &[u8] = &[0xc0, 0, 0x32, 7, 0, 1, b'a', 0, 9, b'h', b'i', 0xe0, 0];
        for cut in 0..=bytes.len() {
            let mut buffer = BytesMut::new();
            let mut got = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                buffer.extend_from_slice(part);
                while let Some(f) = split_frame(&mut buffer, 100).unwrap() {
                    got.push(f);
                }
            }
            assert_eq!(
                got.iter().map(|f| f.packet).collect::<Vec<_>>(),
                [PacketType::PingReq, PacketType::Publish, PacketType::Disconnect]
            );
            assert_eq!(got[1].publish_topic(), Some(&b"a"[..]));
            assert_eq!((got[1].publish_qos(), got[1].packet_id()), (1, Some(9)));
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn limits_and_nonsense_are_named() {
        let mut b = BytesMut::from(&[0x30, 0xff, 0xff, 0x7f][..]);
        assert!(matches!(
            split_frame(&mut b, 1024),
            Err(FrameError::TooLarge { limit: 1024, .. })
        ));
        let mut b = BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0xff][..]);
        assert_eq!(split_frame(&mut b, 1024), Err(FrameError::BadLength));
        let mut b = BytesMut::from(&b"\x00GET"[..]);
        assert_eq!(split_frame(&mut b, 1024), Err(FrameError::ReservedType(0)));
        assert_eq!(split_frame(&mut BytesMut::new(), 1024), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(f)) = split_frame(&mut buffer, 4096) {
                let _ = (f.publish_topic(), f.packet_id(), f.body());
            }
        }
    }
}
