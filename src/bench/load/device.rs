//! One publisher's connection: a socket, what waits to be written, what waits for its PUBACK.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::ledger::{Ledger, Phase};
use super::names::{self, packet_id};
use crate::mqtt::frame::{HEADER_MAX, put_length};
use crate::mqtt::{Connect, PacketType, peek_frame, split_frame};

/// A gateway that has not let a device in after this time has failed.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Keep-alive of every device in seconds: none pings in a measurement unless it is told to.
const KEEP_ALIVE: u16 = 600;
/// Largest packet taken: what a device gets is small.
const PACKET_MAX: usize = 64 << 10;
/// A device keeps back what it would send while so many bytes wait for its socket.
const OUT_MAX: usize = 1 << 20;
/// At most so many messages wait for their PUBACK: below the number of packet identifiers.
const UNACKED_MAX: usize = 60_000;
/// Device, sequence number and time of sending: the least payload, in bytes.
pub(super) const STAMP: usize = 4 + 4 + 8;

/// Opens a connection from `source` and sends CONNECT; done when CONNACK says yes.
pub(super) async fn connect(to: SocketAddr, source: Ipv4Addr, client_id: &str) -> anyhow::Result<TcpStream> {
    let work = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        let mut stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        let connect = Connect::new(client_id, true, KEEP_ALIVE);
        stream.write_all(&connect.encode().context("CONNECT")?).await?;
        let answer = answer(&mut stream, PacketType::ConnAck).await?;
        if answer.last() != Some(&0) {
            bail!("CONNACK {answer:?}");
        }
        Ok(stream)
    };
    let done = timeout(CONNECT_LIMIT, work).await;
    done.unwrap_or_else(|_| bail!("no CONNACK within {} s", CONNECT_LIMIT.as_secs()))
        .with_context(|| format!("{client_id} cannot connect from {source} to {to}"))
}

/// Reads one packet, which must be of that kind and alone; answers its body.
pub(super) async fn answer(stream: &mut TcpStream, kind: PacketType) -> anyhow::Result<Vec<u8>> {
    let mut buffer = BytesMut::with_capacity(64);
    loop {
        if let Some(frame) = split_frame(&mut buffer, PACKET_MAX)? {
            if frame.packet != kind || !buffer.is_empty() {
                bail!("{:?} instead of {kind:?}", frame.packet);
            }
            return Ok(frame.body().to_vec());
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            bail!("closed before {kind:?}");
        }
    }
}

/// What all devices of a run share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) ledger: RefCell<Ledger>,
    pub(super) began: Instant,
    /// Bytes of a message's payload.
    pub(super) payload: usize,
    /// Messages of one device that may wait for their PUBACK in a closed loop; `None` in an open one.
    pub(super) window: Option<usize>,
}

impl Run {
    /// Nanoseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A publisher.
#[derive(Debug)]
pub(super) struct Device {
    number: u32,
    topic: String,
    stream: TcpStream,
    run: Rc<Run>,
    state: RefCell<State>,
    /// Something waits for the socket.
    blocked: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u32,
    out: BytesMut,
    /// Sequence number and time of sending of what has no PUBACK yet.
    unacked: VecDeque<(u32, u64)>,
}

impl Device {
    pub(super) async fn open(number: u32, to: SocketAddr, run: Rc<Run>) -> anyhow::Result<Self> {
        let stream = connect(to, names::source(number), &names::name(number)).await?;
        Ok(Self {
            number,
            topic: names::topic(number),
            stream,
            run,
            state: RefCell::default(),
            blocked: Notify::new(),
        })
    }

    /// Publishes one message now. In an open loop a device whose buffer is full keeps it back, and that is counted.
    pub(super) fn publish(&self) -> anyhow::Result<()> {
        if !self.put(1) {
            self.run.ledger.borrow_mut().held_back += 1;
        }
        self.flush()
    }

    /// Appends messages to what waits to be written; false when there was no room for all.
    fn put(&self, count: usize) -> bool {
        let mut state = self.state.borrow_mut();
        let now = self.run.now();
        for _ in 0..count {
            if state.out.len() > OUT_MAX || state.unacked.len() >= UNACKED_MAX {
                return false;
            }
            let n = state.next;
            state.next += 1;
            state.unacked.push_back((n, now));
            encode(&mut state.out, &self.topic, self.number, n, now, self.run.payload);
            self.run.ledger.borrow_mut().sent += 1;
        }
        true
    }

    /// Writes what the socket takes.
    fn flush(&self) -> anyhow::Result<()> {
        let mut state = self.state.borrow_mut();
        while !state.out.is_empty() {
            match self.stream.try_write(&state.out) {
                Ok(n) => state.out.advance(n),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.blocked.notify_one();
                    break;
                }
                Err(e) => return Err(e).with_context(|| format!("device {} cannot send", self.number)),
            }
        }
        Ok(())
    }

    /// Fills the window, in a closed loop.
    fn fill(&self) -> anyhow::Result<()> {
        let open = self.run.ledger.borrow().phase != Phase::Drain;
        if let Some(window) = self.run.window.filter(|_| open) {
            let under_way = self.state.borrow().unacked.len();
            self.put(window.saturating_sub(under_way));
        }
        self.flush()
    }

    /// Takes PUBACKs and goes on publishing; ends only with an error.
    pub(super) async fn serve(&self) -> anyhow::Result<std::convert::Infallible> {
        let mut buffer = BytesMut::with_capacity(4 << 10);
        loop {
            self.fill()?;
            let interest = if self.state.borrow().out.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            tokio::select! {
                biased;
                ready = self.stream.ready(interest) => ready.map(drop)?,
                () = self.blocked.notified(), if !interest.is_writable() => continue,
            }
            match self.stream.try_read_buf(&mut buffer) {
                Ok(0) => bail!("device {} was cut", self.number),
                Ok(_) => self.take(&mut buffer)?,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e).with_context(|| format!("device {} was cut", self.number)),
            }
        }
    }

    fn take(&self, buffer: &mut BytesMut) -> anyhow::Result<()> {
        let now = self.run.now();
        let mut state = self.state.borrow_mut();
        let mut ledger = self.run.ledger.borrow_mut();
        while let Some(head) = peek_frame(buffer, PACKET_MAX)? {
            if buffer.len() < head.size {
                break;
            }
            let id = match (head.packet, buffer.get(head.body_at..head.size)) {
                (PacketType::PubAck, Some([high, low, ..])) => u16::from_be_bytes([*high, *low]),
                (other, _) => bail!("device {} got {other:?} instead of PUBACK", self.number),
            };
            // Brokers acknowledge in order (MQTT 3.1.1 section 4.6), so the first is the one.
            let at = state.unacked.iter().position(|(n, _)| packet_id(*n) == id);
            let (n, sent) = at
                .and_then(|at| state.unacked.remove(at))
                .with_context(|| format!("device {} got a PUBACK for {id}, which it did not send", self.number))?;
            ledger.ack(usize::try_from(self.number)?, n, sent, now);
            buffer.advance(head.size);
        }
        Ok(())
    }
}

/// A PUBLISH at QoS 1 whose payload begins with device, sequence number and time of sending (big-endian), filled up with zeros.
fn encode(out: &mut BytesMut, topic: &str, device: u32, n: u32, sent: u64, payload: usize) {
    let payload = payload.max(STAMP);
    let length = 2 + topic.len() + 2 + payload;
    out.reserve(length + HEADER_MAX);
    out.put_u8(0x32);
    put_length(out, length);
    out.put_u16(u16::try_from(topic.len()).unwrap_or(u16::MAX));
    out.put_slice(topic.as_bytes());
    out.put_u16(packet_id(n));
    out.put_u32(device);
    out.put_u32(n);
    out.put_u64(sent);
    out.put_bytes(0, payload - STAMP);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::listener::stamp;

    #[test]
    fn what_a_device_writes_the_listener_reads() {
        for payload in [STAMP, 100, 200, 20_000] {
            let mut out = BytesMut::new();
            encode(&mut out, "b/7/up", 7, 65_534, 99, payload);
            let frame = split_frame(&mut out, 1 << 20).unwrap().unwrap();
            assert_eq!((frame.packet, frame.publish_qos()), (PacketType::Publish, 1));
            assert_eq!((frame.packet_id(), out.len()), (Some(65_535), 0));
            assert_eq!(frame.body().len(), 2 + 6 + 2 + payload);
            assert_eq!(stamp(&frame.body()[8 + 2..]), Some((7, 65_534, 99)));
        }
        assert_eq!((packet_id(0), packet_id(65_534), packet_id(65_535)), (1, 65_535, 1));
    }
}
