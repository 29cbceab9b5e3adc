#![allow(clippy::unwrap_used)]

use super::*;
use crate::gateway::flow::Terms;
use bytes::Bytes;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub(super) const PUBLISH: &[u8] = b"\x32\x07\x00\x01a\x00\x09hi";
pub(super) const PUBACK: &[u8] = b"\x40\x02\x00\x09";
pub(super) const PING: &[u8] = b"\xc0\x00";
pub(super) const DISCONNECT: &[u8] = b"\xe0\x00";
const IDLE: Duration = Duration::from_secs(90);
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Ran {
    pub(super) end: End,
    pub(super) counts: [u64; 4],
}

fn flow() -> Flow {
    Flow::new(
        Terms {
            max_packet: 1_024,
            idle: IDLE,
        },
        Duration::ZERO,
    )
}

/// A relay with both far ends in hand; pipes of `size` bytes.
fn start_with(judge: impl Judge + Send + 'static, size: usize) -> (DuplexStream, DuplexStream, JoinHandle<Ran>) {
    start_told(judge, size, Arc::default())
}

/// The same, and it can be told to end.
pub(super) fn start_told(
    judge: impl Judge + Send + 'static,
    size: usize,
    told: Arc<Orders>,
) -> (DuplexStream, DuplexStream, JoinHandle<Ran>) {
    let (device, mut near_device) = duplex(size);
    let (upstream, mut near_upstream) = duplex(size);
    let task = tokio::spawn(async move {
        let (up, down) = (Traffic::default(), Traffic::default());
        let bounds = Bounds {
            epoch: Instant::now(),
            write_timeout: PATIENCE,
        };
        let (device, upstream) = ((&mut near_device, Vec::new()), (&mut near_upstream, Vec::new()));
        let end = relay(device, upstream, judge, bounds, (&up, &down), &told).await;
        let counts = [&up.packets, &up.bytes, &down.packets, &down.bytes].map(|a| a.load(Relaxed));
        Ran { end, counts }
    });
    (device, upstream, task)
}

fn start() -> (DuplexStream, DuplexStream, JoinHandle<Ran>) {
    start_with(flow(), 64)
}

pub(super) async fn expect(from: &mut DuplexStream, want: &[u8]) {
    let mut got = vec![0; want.len()];
    timeout(10 * PATIENCE, from.read_exact(&mut got))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(got, want);
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_as_they_are_and_acknowledgements_only_from_upstream() {
    let (mut device, mut upstream, task) = start();
    device.write_all(&PUBLISH[..4]).await.unwrap();
    device.write_all(&PUBLISH[4..]).await.unwrap();
    expect(&mut upstream, PUBLISH).await;
    let silence = timeout(PATIENCE, device.read(&mut [0; 4])).await;
    assert!(silence.is_err(), "nobody but upstream acknowledges");
    upstream.write_all(PUBACK).await.unwrap();
    expect(&mut device, PUBACK).await;
    device.write_all(DISCONNECT).await.unwrap();
    let Ran { end, counts } = task.await.unwrap();
    assert!(matches!(end, End::Disconnected), "{end}");
    assert_eq!(counts, [2, 11, 1, 4]);
    expect(&mut upstream, DISCONNECT).await;
}

#[tokio::test(start_paused = true)]
async fn every_cut_gives_the_same_bytes() {
    let all = [PUBLISH, PING, PUBLISH, PUBLISH, PING].concat();
    for cut in 0..=all.len() {
        let (mut device, mut upstream, _task) = start();
        device.write_all(&all[..cut]).await.unwrap();
        tokio::task::yield_now().await;
        device.write_all(&all[cut..]).await.unwrap();
        expect(&mut upstream, &all).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_device_is_cut_and_a_pinging_one_is_not() {
    let (mut device, mut upstream, task) = start();
    let begin = Instant::now();
    for _ in 0..5 {
        sleep(PATIENCE).await;
        device.write_all(PING).await.unwrap();
        expect(&mut upstream, PING).await;
    }
    let end = task.await.unwrap().end;
    assert!(matches!(end, End::Idle(90)), "{end}");
    assert_eq!(begin.elapsed().as_secs(), 5 * 60 + 90);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_side_has_a_deadline_and_little_is_taken_for_it() {
    let (mut device, _upstream, task) = start();
    let begin = Instant::now();
    let writer = tokio::spawn(async move { while device.write_all(PUBLISH).await.is_ok() {} });
    let Ran { end, counts } = task.await.unwrap();
    assert!(matches!(end, End::Stalled(Side::Upstream, 60)), "{end}");
    assert!(
        counts[1] <= 2 * 64,
        "what upstream's pipe holds, and one read: {counts:?}"
    );
    assert_eq!(begin.elapsed().as_secs(), 60);
    writer.await.unwrap();
}

/// A device whose upstream does not take its bytes is not silent: it is not listened to.
#[tokio::test(start_paused = true)]
async fn who_waits_for_upstream_is_not_idle() {
    let judge = Flow::new(
        Terms {
            max_packet: 1_024,
            idle: 7 * SECOND,
        },
        Duration::ZERO,
    );
    let (mut device, mut upstream, task) = start_with(judge, 64);
    let bytes = PUBLISH.repeat(20);
    let sent = bytes.clone();
    let device = tokio::spawn(async move {
        device.write_all(&sent).await.unwrap();
        device
    });
    sleep(30 * SECOND).await;
    assert!(!task.is_finished(), "stalled for half of its deadline");
    expect(&mut upstream, &bytes).await;
    let _device = device.await.unwrap();
    assert!(matches!(task.await.unwrap().end, End::Idle(7)), "and now it is silent");
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
        sleep(50 * SECOND).await;
        device.read_exact(part).await.unwrap();
        device.write_all(PING).await.unwrap();
    }
    assert!(got == packet && begin.elapsed() > 10 * PATIENCE);
    drop((device, upstream.await.unwrap()));
    assert!(matches!(task.await.unwrap().end, End::Closed(_) | End::Broke(..)));
}

/// Both sides send and neither reads at first: each direction stops by itself, and all arrives.
#[tokio::test(start_paused = true)]
async fn a_stalled_direction_leaves_the_other_alone() {
    let (device, upstream, _task) = start();
    let up = PUBLISH.repeat(1_000);
    let down = PUBACK.repeat(1_000);
    let (mut from_device, mut to_device) = tokio::io::split(device);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let (up_sent, down_sent) = (up.clone(), down.clone());
    let writers = tokio::spawn(async move {
        let (a, b) = tokio::join!(to_device.write_all(&up_sent), to_upstream.write_all(&down_sent));
        a.and(b).unwrap();
        (to_device, to_upstream)
    });
    // Upstream takes nothing for a while; what goes down passes all the same.
    let mut got = vec![0; down.len()];
    timeout(PATIENCE / 2, from_device.read_exact(&mut got))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(got, down);
    let mut got = vec![0; up.len()];
    from_upstream.read_exact(&mut got).await.unwrap();
    assert_eq!(got, up);
    writers.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn violations_and_closings_name_their_side() {
    let (mut device, _u, task) = start();
    device.write_all(b"\x10\x00").await.unwrap();
    assert!(matches!(task.await.unwrap().end, End::Violation(Side::Device, _)));
    let (_d, mut upstream, task) = start();
    upstream.write_all(b"\x20\x02\x00\x00").await.unwrap();
    assert!(matches!(task.await.unwrap().end, End::Violation(Side::Upstream, _)));
    let (_d, upstream, task) = start();
    drop(upstream);
    assert!(matches!(task.await.unwrap().end, End::Closed(Side::Upstream)));
    let (device, _u, task) = start();
    drop(device);
    assert!(matches!(task.await.unwrap().end, End::Closed(Side::Device)));
}

/// The device resets while an answer is on its way to it; its DISCONNECT came before.
#[tokio::test(start_paused = true)]
async fn a_disconnect_behind_a_broken_line_is_read() {
    let (mut device, mut upstream, task) = start();
    device.write_all(&[PUBLISH, DISCONNECT].concat()).await.unwrap();
    drop(device);
    upstream.write_all(PUBACK).await.unwrap();
    expect(&mut upstream, &[PUBLISH, DISCONNECT].concat()).await;
    assert!(matches!(task.await.unwrap().end, End::Disconnected));
}

/// One byte, one step: `A` is answered, `H` held for a second, `X` changed, `E` ends; the rest passes.
struct Letters;

impl Judge for Letters {
    fn leave(&mut self) {}

    fn is_shut(&self) -> bool {
        false
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn awaited(&self) -> u32 {
        0
    }

    fn farewell(&self, _reason: u8) -> Option<Bytes> {
        None
    }

    fn up(&mut self, front: &[u8], _now: Duration) -> Step {
        let step = Step {
            take: 1,
            packets: 1,
            pass: Pass::AsIs,
            ..Step::default()
        };
        match front[0] {
            b'A' => Step {
                pass: Pass::Nothing,
                back: Some(Bytes::from_static(b"answer ")),
                ..step
            },
            b'H' => Step {
                hold: Some(SECOND),
                ..step
            },
            b'X' => Step {
                pass: Pass::Instead(Bytes::from_static(b"<x>")),
                ..step
            },
            b'E' => Step {
                end: Some(End::Disconnected),
                back: Some(Bytes::from_static(b"bye")),
                ..step
            },
            _ => step,
        }
    }

    fn down(&mut self, front: &[u8], _now: Duration) -> Step {
        Step {
            take: front.len(),
            pass: Pass::AsIs,
            ..Step::default()
        }
    }

    fn deadline(&self) -> Duration {
        2 * IDLE
    }

    fn due(&mut self, _now: Duration) -> Step {
        Step {
            pass: Pass::Instead(Bytes::from_static(b"ping")),
            end: Some(End::Idle(1)),
            ..Step::default()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_changes_and_the_last_words_arrive_in_order() {
    let (mut device, mut upstream, task) = start_with(Letters, 64);
    device.write_all(b"abXcXXdAefAgE not looked at").await.unwrap();
    expect(&mut upstream, b"ab<x>c<x><x>defgE").await;
    expect(&mut device, b"answer answer bye").await;
    let Ran { end, counts } = task.await.unwrap();
    assert!(matches!(end, End::Disconnected), "{end}");
    assert_eq!(counts[..2], [13, 13]);
    assert_eq!(upstream.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hold_stops_one_side_for_its_time() {
    let (mut device, mut upstream, _task) = start_with(Letters, 64);
    let begin = Instant::now();
    device.write_all(b"aHbHc").await.unwrap();
    expect(&mut upstream, b"aH").await;
    assert!(begin.elapsed() < SECOND);
    upstream.write_all(b"down").await.unwrap();
    expect(&mut device, b"down").await;
    assert!(begin.elapsed() < SECOND, "the other direction goes on");
    expect(&mut upstream, b"bH").await;
    assert_eq!(begin.elapsed().as_secs(), 1);
    expect(&mut upstream, b"c").await;
    assert_eq!(begin.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_its_answers_is_not_read_for_ever() {
    let (mut device, _upstream, task) = start_with(Letters, 64);
    let writer = tokio::spawn(async move { while device.write_all(b"AAAAAAAA").await.is_ok() {} });
    let Ran { end, counts } = task.await.unwrap();
    assert!(matches!(end, End::Stalled(Side::Device, 60)), "{end}");
    let answers = counts[1] * 7;
    assert!(
        answers < BACK_MAX as u64 + 64 * 7 + 64 + 7,
        "{answers} bytes of answers"
    );
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_done_and_ends_in_words() {
    let (_device, mut upstream, task) = start_with(Letters, 64);
    expect(&mut upstream, b"ping").await;
    assert!(matches!(task.await.unwrap().end, End::Idle(1)));
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_is_looked_at_first() {
    let (mut device, mut near_device) = duplex(64);
    let (mut upstream, mut near_upstream) = duplex(64);
    device.write_all(b"\x00\x09hi").await.unwrap();
    let (up, down) = (Traffic::default(), Traffic::default());
    let bounds = Bounds {
        epoch: Instant::now(),
        write_timeout: PATIENCE,
    };
    let orders = Orders::default();
    let before = [PING, &PUBLISH[..5]].concat();
    let relay = relay(
        (&mut near_device, before),
        (&mut near_upstream, PUBACK.to_vec()),
        flow(),
        bounds,
        (&up, &down),
        &orders,
    );
    let far = async {
        expect(&mut upstream, &[PING, PUBLISH].concat()).await;
        expect(&mut device, PUBACK).await;
        drop(upstream);
    };
    let (end, ()) = tokio::join!(relay, far);
    assert!(matches!(end, End::Closed(Side::Upstream)), "{end}");
}

/// A pipe that counts how often it is read, and how often in vain.
struct Counted(DuplexStream, Arc<[AtomicU64; 2]>);

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(cx, into);
        self.1[usize::from(read.is_pending())].fetch_add(1, Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_and_its_answer_cost_two_reads_and_four_looks_for_more() {
    const MESSAGES: u64 = 100;
    let (mut device, near_device) = duplex(64);
    let (mut upstream, near_upstream) = duplex(64);
    let counts: Arc<[AtomicU64; 2]> = Arc::default();
    let mut near = [near_device, near_upstream].map(|pipe| Counted(pipe, counts.clone()));
    let task = tokio::spawn(async move {
        let (up, down, orders) = (Traffic::default(), Traffic::default(), Orders::default());
        let bounds = Bounds {
            epoch: Instant::now(),
            write_timeout: PATIENCE,
        };
        let [device, upstream] = &mut near;
        relay(
            (device, Vec::new()),
            (upstream, Vec::new()),
            flow(),
            bounds,
            (&up, &down),
            &orders,
        )
        .await
    });
    for _ in 0..MESSAGES {
        device.write_all(PUBLISH).await.unwrap();
        expect(&mut upstream, PUBLISH).await;
        upstream.write_all(PUBACK).await.unwrap();
        expect(&mut device, PUBACK).await;
    }
    let [reads, vain] = [&counts[0], &counts[1]].map(|n| n.load(Relaxed));
    assert_eq!(reads, 2 * MESSAGES);
    // Each of the two wakes looks at the side that has nothing and, after its message, at the side that woke it; the first wake of all at both.
    assert!(vain <= 4 * MESSAGES + 2, "{vain}");
    drop(device);
    assert!(matches!(task.await.unwrap(), End::Closed(Side::Device)));
}

#[test]
fn a_relay_is_small() {
    type Wire = crate::gateway::wire::Wire;
    fn size<F: Future>(
        _: impl FnOnce(&'static mut Wire, &'static mut Wire, &'static Traffic, &'static Orders) -> F,
    ) -> usize {
        size_of::<F>()
    }
    let size = size(|d, u, t, o| {
        relay(
            (d, Vec::new()),
            (u, Vec::new()),
            flow(),
            Bounds {
                epoch: Instant::now(),
                write_timeout: PATIENCE,
            },
            (t, t),
            o,
        )
    });
    assert!(
        size <= 2_048,
        "{size} bytes, of which a flow may have {}",
        crate::gateway::flow::FLOW_MAX
    );
}
