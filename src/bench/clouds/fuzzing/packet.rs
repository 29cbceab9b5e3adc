//! The frame splitter, CONNECT and the codec of both versions.

use bytes::BytesMut;

use crate::bench::clouds::codec::{self, Out, Packet, RetainHandling, Version};
use crate::mqtt::{Connect, Frame, PacketType, split_frame};

/// Largest packet taken, in bytes.
const LIMIT: usize = 8 * 1024;
/// The buffer may double when it grows, and it holds one packet and one piece.
const BUFFER_MAX: usize = 4 * LIMIT;
/// Longest piece that the stream is cut into, in bytes.
const PIECE_MAX: usize = 61;

/// The first byte says which version, the second how the rest is cut.
///
/// # Panics
/// Something is wrong with the code under test.
pub fn packet(data: &[u8]) {
    let [how, cut, rest @ ..] = data else { return };
    let version = if how & 1 == 0 { Version::V4 } else { Version::V5 };
    let (mut cut, mut rest) = (*cut, rest);
    let mut buffer = BytesMut::new();
    while !rest.is_empty() {
        let (piece, left) = rest.split_at((1 + usize::from(cut) % PIECE_MAX).min(rest.len()));
        cut = cut.wrapping_mul(5).wrapping_add(17);
        rest = left;
        buffer.extend_from_slice(piece);
        loop {
            match split_frame(&mut buffer, LIMIT) {
                Ok(Some(frame)) => whole(version, &frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(buffer.capacity() <= BUFFER_MAX, "{} bytes", buffer.capacity());
    }
}

fn split(bytes: &[u8]) -> Frame {
    let mut buffer = BytesMut::from(bytes);
    let frame = split_frame(&mut buffer, usize::MAX).expect("a frame").expect("whole");
    assert!(buffer.is_empty(), "{} bytes too many", buffer.len());
    frame
}

fn whole(version: Version, frame: &Frame) {
    if frame.packet == PacketType::Connect {
        for five in [false, true] {
            if let Ok(hello) = codec::read_connect(frame, five) {
                assert!(five || hello.five.is_none());
                let names = [Some(&hello.connect.client_id), hello.connect.username.as_ref()];
                assert!(names.into_iter().flatten().all(|n| !n.contains('\0')), "{hello:?}");
                // Version 5 has more freedom: a password without a user name.
                if hello.five.is_none() {
                    connect(&hello.connect);
                }
            }
        }
    }
    let Ok(packet) = codec::read(version, frame.clone()) else {
        return;
    };
    if let Packet::Publish(publish) = &packet {
        assert_eq!(publish.qos > 0, publish.id > 0, "{publish:?}");
        // In 3.1.1 a U+0000 is for `topic::is_name` to find.
        assert!(version == Version::V4 || !publish.topic.contains('\0'), "{publish:?}");
        if publish.qos < 2 {
            let again = codec::write(version, &Out::Publish(publish.clone())).expect("what was read can be written");
            assert_eq!(codec::read(version, split(&again)).as_ref(), Ok(&packet));
        }
    }
    if version == Version::V4 {
        if let Some(body) = body_4(&packet) {
            assert_eq!(frame.body(), body, "{packet:?} is not all there was");
        }
    } else {
        let end = end_5(&packet);
        assert!(
            frame.body().ends_with(&end),
            "{:x?} ends otherwise than {packet:?}",
            frame.body()
        );
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("a short text");
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

/// What a packet of version 5 has to have had after its properties.
fn end_5(packet: &Packet) -> Vec<u8> {
    let mut end = Vec::new();
    match packet {
        Packet::Publish(p) => end.extend_from_slice(&p.payload),
        Packet::Subscribe { id, filters, .. } => {
            assert!(*id > 0 && !filters.is_empty());
            for wanted in filters {
                text(&mut end, &wanted.filter);
                let retained = match wanted.retained {
                    RetainHandling::Always => 0,
                    RetainHandling::WhenNew => 0x10,
                    RetainHandling::Never => 0x20,
                };
                let flags = u8::from(wanted.no_local) << 2 | u8::from(wanted.retain_as_published) << 3;
                end.push(wanted.qos | flags | retained);
            }
        }
        Packet::Unsubscribe { id, filters } => {
            assert!(*id > 0 && !filters.is_empty());
            filters.iter().for_each(|filter| text(&mut end, filter));
        }
        _ => {}
    }
    end
}

fn connect(connect: &Connect) {
    let bytes = connect.encode().expect("what was read can be written");
    let again = Connect::decode(split(&bytes).body()).expect("what was written can be read");
    // An empty client id stands for a clean session.
    assert_eq!(&again, connect);
}

/// What a packet of 3.1.1 has to have been; none where nothing is read of it.
fn body_4(packet: &Packet) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    match packet {
        Packet::Publish(p) => {
            text(&mut body, &p.topic);
            if p.qos > 0 {
                body.extend_from_slice(&p.id.to_be_bytes());
            }
            body.extend_from_slice(&p.payload);
        }
        Packet::PubAck { id, .. } => body.extend_from_slice(&id.to_be_bytes()),
        Packet::Subscribe { id, filters, .. } => {
            assert!(*id > 0 && !filters.is_empty());
            body.extend_from_slice(&id.to_be_bytes());
            for wanted in filters {
                text(&mut body, &wanted.filter);
                body.push(wanted.qos);
            }
        }
        Packet::Unsubscribe { id, filters } => {
            assert!(*id > 0 && !filters.is_empty());
            body.extend_from_slice(&id.to_be_bytes());
            filters.iter().for_each(|filter| text(&mut body, filter));
        }
        Packet::PingReq | Packet::Disconnect { .. } => {}
        Packet::Other(_) => return None,
    }
    Some(body)
}
