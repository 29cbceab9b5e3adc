//! The subscriber upstream. It asks for QoS 0: it stands for the cloud's consumer and must not slow the broker by acknowledging.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::device::{Run, answer, connect};
use super::names::ALL_TOPICS;
use crate::mqtt::frame::{packet, put_field};
use crate::mqtt::{PacketType, peek_frame};

/// Largest packet taken, in bytes.
const PACKET_MAX: usize = 1 << 20;
/// Read at once, in bytes.
const READ: usize = 64 << 10;

/// Subscribed to everything that devices publish.
#[derive(Debug)]
pub(super) struct Listener(TcpStream);

/// SUBSCRIBE, packet 1, to all that devices publish.
pub(super) fn subscribe(qos: u8) -> anyhow::Result<Vec<u8>> {
    let mut body = vec![0, 1];
    put_field(&mut body, ALL_TOPICS.as_bytes())?;
    Ok(packet(0x82, &[&body, &[qos]])?)
}

impl Listener {
    pub(super) async fn open(at: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = connect(at, Ipv4Addr::LOCALHOST, "listener").await?;
        stream.write_all(&subscribe(0)?).await?;
        if answer(&mut stream, PacketType::SubAck).await? != [0, 1, 0] {
            bail!("upstream does not grant the subscription to {ALL_TOPICS}");
        }
        Ok(Self(stream))
    }

    /// Enters what arrives into the books; ends only with an error.
    pub(super) async fn serve(mut self, run: Rc<Run>) -> anyhow::Result<std::convert::Infallible> {
        let mut buffer = BytesMut::with_capacity(READ);
        loop {
            buffer.reserve(READ);
            if self.0.read_buf(&mut buffer).await.context("the listener was cut")? == 0 {
                bail!("the listener was cut");
            }
            let now = run.now();
            let mut ledger = run.ledger.borrow_mut();
            while let Some(head) = peek_frame(&buffer, PACKET_MAX)?.filter(|h| h.size <= buffer.len()) {
                if head.packet == PacketType::Publish {
                    let body = buffer.get(head.body_at..head.size).unwrap_or(&[]);
                    let (device, n, sent) = message(body).context("a message that no device of ours sent")?;
                    ledger.arrival(usize::try_from(device)?, n, sent, now);
                }
                buffer.advance(head.size);
            }
        }
    }
}

/// Device, sequence number and time of sending of a QoS 0 PUBLISH.
fn message(body: &[u8]) -> Option<(u32, u32, u64)> {
    let (topic, rest) = body.split_first_chunk::<2>()?;
    stamp(rest.get(usize::from(u16::from_be_bytes(*topic))..)?)
}

/// The beginning of a payload.
pub(super) fn stamp(payload: &[u8]) -> Option<(u32, u32, u64)> {
    let (device, rest) = payload.split_first_chunk::<4>()?;
    let (n, rest) = rest.split_first_chunk::<4>()?;
    let (sent, _) = rest.split_first_chunk::<8>()?;
    Some((
        u32::from_be_bytes(*device),
        u32::from_be_bytes(*n),
        u64::from_be_bytes(*sent),
    ))
}
