//! CONNECT goes, CONNACK comes. Of either version: a CONNACK's first two bytes are flags and code in both (MQTT 3.1.1 and 5, section
//! 3.2.2), and its properties, which only version 5 has, go on to the device as they came.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::failed;
use crate::gateway::group::Upstream;
use crate::gateway::refusal::Refusal;
use crate::gateway::wire::Wire;
use crate::mqtt::{Frame, PacketType, split_frame};

/// Largest CONNACK, in bytes: version 3.1.1 has 4, version 5 may send a reason and user properties.
pub(super) const CONNACK_MAX: usize = 16 << 10;
/// A CONNACK's first byte (MQTT 3.1.1 and 5, section 3.2.1).
const CONNACK_FIRST: u8 = 0x20;
/// Bytes read at once: a CONNACK, and what a broker sends right behind it.
const READ: usize = 1_024;

/// Says CONNECT and waits for the answer. What came behind it is the second value.
pub(super) async fn hello(wire: &mut Wire, connect: &[u8], upstream: &Upstream) -> Result<(Frame, BytesMut), Refusal> {
    let broken = |e: std::io::Error| failed(&e, upstream);
    let nonsense = || {
        Refusal::NoAnswer(format!(
            "{} answers CONNECT with something else than CONNACK",
            upstream.host
        ))
    };
    wire.write_all(connect).await.map_err(broken)?;
    wire.flush().await.map_err(broken)?;
    let mut rest = BytesMut::with_capacity(READ);
    let connack = loop {
        if rest.first().is_some_and(|first| *first != CONNACK_FIRST) {
            return Err(nonsense());
        }
        match split_frame(&mut rest, CONNACK_MAX) {
            Ok(Some(frame)) => break frame,
            Ok(None) => rest.reserve(READ),
            Err(e) => return Err(Refusal::NoAnswer(format!("{} does not speak MQTT: {e}", upstream.host))),
        }
        if wire.read_buf(&mut rest).await.map_err(broken)? == 0 {
            return Err(Refusal::NoAnswer(format!(
                "{} closed the connection instead of answering CONNECT: look there for the reason (policy, client id in use, name)",
                upstream.host
            )));
        }
    };
    match (connack.packet, connack.body()) {
        (PacketType::ConnAck, [_, 0, ..]) => Ok((connack, rest)),
        (PacketType::ConnAck, [_, code, ..]) => Err(Refusal::Upstream(*code)),
        _ => Err(nonsense()),
    }
}
