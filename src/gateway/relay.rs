//! Both directions of one connection, after both CONNACKs: read, look ([`super::rules`]), write, nothing kept.
//!
//! What makes this safe is what it does not do. It makes no packet of its own: a PUBACK that reaches a device came from upstream, so
//! an acknowledged message has arrived (a bridge that acknowledges first lost most of them in our measurements). It does not
//! queue: bytes read are written before more are read, so a slow side slows its peer through TCP and nobody else. A connection holds at
//! most one packet and one read of each direction.
//!
//! When the device goes without DISCONNECT, upstream sees the connection close without DISCONNECT, and publishes the will.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};

use super::rules::{Direction, Violation, inspect};

/// Bytes read at once, at least.
const READ: usize = 4 << 10;
/// An empty buffer that grew beyond this is given back, in bytes.
const KEEP: usize = 16 << 10;

/// The bounds of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest packet, in bytes.
    pub max_packet: usize,
    /// Longest silence of the device.
    pub idle: Duration,
    /// Longest time one write may be stuck.
    pub write_timeout: Duration,
}

/// What has passed one way.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Whole packets.
    pub packets: AtomicU64,
    /// Bytes of MQTT, without TLS and TCP.
    pub bytes: AtomicU64,
}

/// Why a relayed connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The device said DISCONNECT.
    #[error("the device disconnected")]
    Disconnected,
    /// A side closed its connection.
    #[error("{0} closed the connection")]
    Closed(Side),
    /// A side's connection broke.
    #[error("the connection to {0} broke: {1}")]
    Broke(Side, std::io::Error),
    /// A side stopped reading.
    #[error("{0} took nothing for {1} s (listen.write_timeout)")]
    Stalled(Side, u64),
    /// Silence.
    #[error("the device was silent for {0} s, one and a half times its keep-alive")]
    Idle(u64),
    /// A side broke a rule.
    #[error("{0} broke a rule: {1}")]
    Violation(Side, Violation),
    /// The device wants what this connection cannot have.
    #[error("{0}")]
    Policy(super::flow::deal::Offence),
}

/// The two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The device.
    Device,
    /// The cloud.
    Upstream,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Device => "the device",
            Self::Upstream => "upstream",
        })
    }
}

/// Relays until one side ends; then both can be closed. The buffers hold what was read of either side already.
pub async fn relay<D, U>(
    (device, from_device): (&mut D, BytesMut),
    (upstream, from_upstream): (&mut U, BytesMut),
    limits: Limits,
    (up, down): (&Traffic, &Traffic),
) -> End
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut device_in, mut device_out) = tokio::io::split(device);
    let (mut upstream_in, mut upstream_out) = tokio::io::split(upstream);
    tokio::select! {
        end = pump(Direction::Up, &mut device_in, &mut upstream_out, from_device, limits, up) => end,
        end = pump(Direction::Down, &mut upstream_in, &mut device_out, from_upstream, limits, down) => end,
    }
}

async fn pump<R, W>(
    direction: Direction,
    from: &mut R,
    to: &mut W,
    mut buffer: BytesMut,
    limits: Limits,
    traffic: &Traffic,
) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (reader, writer) = match direction {
        Direction::Up => (Side::Device, Side::Upstream),
        Direction::Down => (Side::Upstream, Side::Device),
    };
    // Only the device's silence counts: upstream may have nothing to say for days.
    let idle = (direction == Direction::Up).then_some(limits.idle);
    let mut heard = Instant::now();
    let alarm = sleep_until(heard + limits.idle);
    tokio::pin!(alarm);
    loop {
        let pass = inspect(direction, &buffer, limits.max_packet);
        if let Some(whole) = buffer.get(..pass.bytes).filter(|b| !b.is_empty()) {
            match write_whole(to, whole, limits.write_timeout).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return End::Broke(writer, e),
                Err(_) => return End::Stalled(writer, limits.write_timeout.as_secs()),
            }
            traffic.packets.fetch_add(pass.packets, Relaxed);
            traffic.bytes.fetch_add(pass.bytes as u64, Relaxed);
            buffer.advance(pass.bytes);
        }
        if pass.disconnect {
            return End::Disconnected;
        }
        if let Some(violation) = pass.violation {
            return End::Violation(reader, violation);
        }
        if buffer.is_empty() && buffer.capacity() > KEEP {
            buffer = BytesMut::new();
        }
        buffer.reserve(READ.max(pass.wanted.saturating_sub(buffer.len())));
        loop {
            tokio::select! {
                biased;
                read = from.read_buf(&mut buffer) => match read {
                    Ok(0) => return End::Closed(reader),
                    Ok(_) => break,
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return End::Closed(reader),
                    Err(e) => return End::Broke(reader, e),
                },
                // Set again when it fires, not at each read: timers cost, and reads are many.
                () = &mut alarm, if idle.is_some() => {
                    if heard.elapsed() >= limits.idle {
                        return End::Idle(limits.idle.as_secs());
                    }
                    alarm.as_mut().reset(heard + limits.idle);
                }
            }
        }
        heard = Instant::now();
    }
}

/// Writes all of `bytes`. The patience is for each piece: a slow side that takes some is not a stalled one.
async fn write_whole<W: AsyncWrite + Unpin>(
    to: &mut W,
    mut bytes: &[u8],
    patience: Duration,
) -> Result<std::io::Result<()>, Elapsed> {
    while !bytes.is_empty() {
        match timeout(patience, to.write(bytes)).await? {
            Ok(0) => return Ok(Err(std::io::ErrorKind::WriteZero.into())),
            Ok(n) => bytes = bytes.get(n..).unwrap_or(&[]),
            Err(e) => return Ok(Err(e)),
        }
    }
    timeout(patience, to.flush()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    const PUBLISH: &[u8] = b"\x32\x07\x00\x01a\x00\x09hi";
    const PUBACK: &[u8] = b"\x40\x02\x00\x09";

    fn limits() -> Limits {
        Limits {
            max_packet: 1_024,
            idle: Duration::from_secs(90),
            write_timeout: Duration::from_secs(60),
        }
    }

    /// A relay with both far ends in hand; pipes of 64 bytes.
    fn start() -> (
        tokio::io::DuplexStream,
        tokio::io::DuplexStream,
        tokio::task::JoinHandle<(End, [u64; 4])>,
    ) {
        let (device, mut near_device) = duplex(64);
        let (upstream, mut near_upstream) = duplex(64);
        let task = tokio::spawn(async move {
            let (up, down) = (Traffic::default(), Traffic::default());
            let end = relay(
                (&mut near_device, BytesMut::new()),
                (&mut near_upstream, BytesMut::new()),
                limits(),
                (&up, &down),
            )
            .await;
            let n = [&up.packets, &up.bytes, &down.packets, &down.bytes].map(|a| a.load(Relaxed));
            (end, n)
        });
        (device, upstream, task)
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_as_they_are_and_acknowledgements_only_from_upstream() {
        let (mut device, mut upstream, task) = start();
        device.write_all(&PUBLISH[..4]).await.unwrap();
        device.write_all(&PUBLISH[4..]).await.unwrap();
        let mut got = [0; 9];
        upstream.read_exact(&mut got).await.unwrap();
        assert_eq!(got, PUBLISH);
        let mut answer = [0; 4];
        let silence = timeout(Duration::from_secs(60), device.read(&mut answer)).await;
        assert!(silence.is_err(), "nobody but upstream acknowledges");
        upstream.write_all(PUBACK).await.unwrap();
        device.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, PUBACK);
        device.write_all(b"\xe0\x00").await.unwrap();
        let (end, counts) = task.await.unwrap();
        assert!(matches!(end, End::Disconnected), "{end}");
        assert_eq!(counts, [2, 11, 1, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_device_is_cut_and_a_pinging_one_is_not() {
        let (mut device, mut upstream, task) = start();
        let begin = Instant::now();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            device.write_all(b"\xc0\x00").await.unwrap();
            upstream.read_exact(&mut [0; 2]).await.unwrap();
        }
        let (end, _) = task.await.unwrap();
        assert!(matches!(end, End::Idle(90)), "{end}");
        assert_eq!(begin.elapsed().as_secs(), 5 * 60 + 90);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_side_has_a_deadline() {
        let (mut device, _upstream, task) = start();
        let writer = tokio::spawn(async move { while device.write_all(PUBLISH).await.is_ok() {} });
        let (end, counts) = task.await.unwrap();
        assert!(matches!(end, End::Stalled(Side::Upstream, 60)), "{end}");
        assert!(counts[1] <= 64, "only what upstream's pipe holds was taken: {counts:?}");
        writer.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_side_is_waited_for() {
        let (mut device, mut upstream, task) = start();
        let packet = [&b"\x30\xc8\x03\x00\x01a"[..], &[b'x'; 453]].concat();
        upstream.write_all(&packet[..64]).await.unwrap();
        let begin = Instant::now();
        let sender = packet.clone();
        let upstream = tokio::spawn(async move {
            upstream.write_all(&sender[64..]).await.unwrap();
            upstream
        });
        let mut got = vec![0; packet.len()];
        for part in got.chunks_mut(32) {
            tokio::time::sleep(Duration::from_secs(50)).await;
            device.read_exact(part).await.unwrap();
            device.write_all(b"\xc0\x00").await.unwrap();
        }
        assert!(got == packet && begin.elapsed() > 10 * limits().write_timeout);
        drop((device, upstream.await.unwrap()));
        assert!(matches!(task.await.unwrap().0, End::Closed(_) | End::Broke(..)));
    }

    #[tokio::test(start_paused = true)]
    async fn violations_and_closings_name_their_side() {
        let (mut device, _u, task) = start();
        device.write_all(b"\x10\x00").await.unwrap();
        assert!(matches!(task.await.unwrap().0, End::Violation(Side::Device, _)));
        let (_d, mut upstream, task) = start();
        upstream.write_all(b"\x20\x02\x00\x00").await.unwrap();
        assert!(matches!(task.await.unwrap().0, End::Violation(Side::Upstream, _)));
        let (_d, upstream, task) = start();
        drop(upstream);
        assert!(matches!(task.await.unwrap().0, End::Closed(Side::Upstream)));
        let (device, _u, task) = start();
        drop(device);
        assert!(matches!(task.await.unwrap().0, End::Closed(Side::Device)));
    }
}
