//! CONNECT goes, CONNACK comes, of either version. What it means is decided elsewhere ([`crate::gateway::connect`]).

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::failed;
use crate::gateway::group::Upstream;
use crate::gateway::refusal::Refusal;
use crate::gateway::wire::Wire;
use crate::mqtt::{ConnAck, Level, split_frame};

/// Largest CONNACK, in bytes: version 3.1.1 has 4, version 5 may send a reason and user properties.
pub(super) const CONNACK_MAX: usize = 16 << 10;
/// A CONNACK's first byte (MQTT 3.1.1 and 5, section 3.2.1).
const CONNACK_FIRST: u8 = 0x20;
/// Bytes read at once: a CONNACK, and what a broker sends right behind it.
const READ: usize = 1_024;

/// Says CONNECT and waits for the answer. What came behind it is the second value.
pub(super) async fn hello(
    wire: &mut Wire,
    (connect, level): (&[u8], Level),
    upstream: &Upstream,
) -> Result<(ConnAck, BytesMut), Refusal> {
    let broken = |e: std::io::Error| failed(&e, upstream);
    let nonsense = || {
        Refusal::NoAnswer(format!(
            "{} answers CONNECT with something else than CONNACK",
            upstream.host
        ))
    };
    let sent = send(wire, connect).await;
    let mut rest = BytesMut::with_capacity(READ);
    if let Err(unsent) = sent {
        // With TLS 1.3 upstream judges our certificate when the handshake is over on this side: its alert may have come, and the connection
        // be reset behind it, before CONNECT was written. The alert is the reason; the failed write is what followed from it.
        let read = wire.read_buf(&mut rest).await;
        return Err(broken(read.err().filter(is_tls).unwrap_or(unsent)));
    }
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
    let connack = ConnAck::decode(level, connack.body());
    let connack = connack.map_err(|e| Refusal::NoAnswer(format!("{} sends a wrong CONNACK: {e}", upstream.host)))?;
    Ok((connack, rest))
}

async fn send(wire: &mut Wire, connect: &[u8]) -> std::io::Result<()> {
    wire.write_all(connect).await?;
    wire.flush().await
}

/// Whether TLS itself complains, not the connection below it.
fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|e| e.is::<rustls::Error>())
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
