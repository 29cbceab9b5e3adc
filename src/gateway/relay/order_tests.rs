//! What a connection does when it is told to end, in virtual time.

use super::tests::{DISCONNECT, PATIENCE, PING, PUBACK, PUBLISH, Ran, SECOND, expect, start_told};
use super::*;
use crate::gateway::flow::Terms;
use crate::gateway::flow::bucket::Bucket;
use crate::gateway::flow::deal::Deal;
use crate::gateway::group::policy::Policy;
use crate::gateway::group::{Kind, Platform, Rate};
use crate::mqtt::Level;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// QoS 1, packet identifier 9, in MQTT 5.
const PUBLISH_5: &[u8] = b"\x32\x08\x00\x01a\x00\x09\x00hi";
const SHUTTING_DOWN: &[u8] = b"\xe0\x01\x8b";
const ADMINISTRATIVE: &[u8] = b"\xe0\x01\x98";

fn flow(deal: Deal) -> Flow {
    let terms = Terms {
        max_packet: 1 << 20,
        idle: Duration::from_secs(90),
    };
    Flow::with(terms, deal, Duration::ZERO)
}

fn start(level: Level) -> (DuplexStream, DuplexStream, JoinHandle<Ran>, Arc<Orders>) {
    let orders: Arc<Orders> = Arc::default();
    let deal = Deal::new(level, Policy::default(), Platform::Full);
    let (device, upstream, task) = start_told(flow(deal), 1 << 10, orders.clone());
    (device, upstream, task, orders)
}

/// Whatever else comes before the stream ends.
async fn rest(mut from: DuplexStream) -> Vec<u8> {
    let mut all = Vec::new();
    timeout(10 * PATIENCE, from.read_to_end(&mut all))
        .await
        .unwrap()
        .unwrap();
    all
}

#[tokio::test(start_paused = true)]
async fn an_idle_device_leaves_at_once_and_upstream_hears_no_disconnect() {
    for (level, word) in [(Level::V3, &b""[..]), (Level::V5, SHUTTING_DOWN)] {
        let (mut device, mut upstream, task, orders) = start(level);
        device.write_all(PING).await.unwrap();
        expect(&mut upstream, PING).await;
        let begin = Instant::now();
        orders.give(Order::Drain);
        let Ran { end, .. } = task.await.unwrap();
        assert!(matches!(end, End::Drained), "{end}");
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!(rest(device).await, word);
        assert_eq!(rest(upstream).await, b"");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_before_the_first_byte_is_carried_out() {
    let orders: Arc<Orders> = Arc::default();
    orders.give(Order::Drain);
    let (device, _upstream, task) = start_told(flow(Deal::default()), 64, orders);
    assert!(matches!(task.await.unwrap().end, End::Drained));
    assert_eq!(rest(device).await, b"");
}

#[tokio::test(start_paused = true)]
async fn what_upstream_owes_comes_first_and_nothing_new_is_begun() {
    let (mut device, mut upstream, task, orders) = start(Level::V5);
    device.write_all(PUBLISH_5).await.unwrap();
    expect(&mut upstream, PUBLISH_5).await;
    orders.give(Order::Drain);
    sleep(SECOND).await;
    // Acknowledgements of what upstream delivers, and PINGREQ, still pass; a PUBLISH does not, nor what is behind it.
    device
        .write_all(&[PUBACK, PING, PUBLISH_5, PING].concat())
        .await
        .unwrap();
    expect(&mut upstream, &[PUBACK, PING].concat()).await;
    // Silence longer than the keep-alive allows ends nobody who is not listened to.
    sleep(2 * PATIENCE).await;
    assert!(!task.is_finished());
    upstream.write_all(b"\x30\x05\x00\x01b\x00x").await.unwrap();
    expect(&mut device, b"\x30\x05\x00\x01b\x00x").await;
    upstream.write_all(PUBACK).await.unwrap();
    assert!(matches!(task.await.unwrap().end, End::Drained));
    assert_eq!(rest(device).await, [PUBACK, SHUTTING_DOWN].concat());
    assert_eq!(rest(upstream).await, b"");
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_answer_is_waited_for() {
    // SUBSCRIBE, UNSUBSCRIBE, PUBREL; with what upstream answers.
    let cases: [(&[u8], &[u8]); 3] = [
        (b"\x82\x06\x00\x07\x00\x01a\x00", b"\x90\x03\x00\x07\x00"),
        (b"\xa2\x05\x00\x07\x00\x01a", b"\xb0\x02\x00\x07"),
        (b"\x62\x02\x00\x07", b"\x70\x02\x00\x07"),
    ];
    for (question, answer) in cases {
        let (mut device, mut upstream, task, orders) = start(Level::V3);
        device.write_all(question).await.unwrap();
        expect(&mut upstream, question).await;
        orders.give(Order::Drain);
        sleep(PATIENCE).await;
        assert!(!task.is_finished(), "{question:02x?} waits for its answer");
        upstream.write_all(answer).await.unwrap();
        assert!(matches!(task.await.unwrap().end, End::Drained));
        assert_eq!(rest(device).await, answer);
    }
}

/// A broker forgets a message without PUBREL when a session that does not persist ends, and the device has its PUBREC.
#[tokio::test(start_paused = true)]
async fn qos_2_is_waited_for_to_its_end() {
    let [publish, pubrec, pubrel, pubcomp] = [
        &b"\x34\x06\x00\x01a\x00\x07x"[..],
        b"\x50\x02\x00\x07",
        b"\x62\x02\x00\x07",
        b"\x70\x02\x00\x07",
    ];
    let (mut device, mut upstream, task, orders) = start(Level::V3);
    device.write_all(publish).await.unwrap();
    expect(&mut upstream, publish).await;
    orders.give(Order::Drain);
    for (from, to, packet) in [(false, true, pubrec), (true, false, pubrel), (false, true, pubcomp)] {
        sleep(SECOND).await;
        assert!(!task.is_finished(), "before {packet:02x?}");
        if from {
            device.write_all(packet).await.unwrap();
        } else {
            upstream.write_all(packet).await.unwrap();
        }
        if to {
            expect(&mut device, packet).await;
        } else {
            expect(&mut upstream, packet).await;
        }
    }
    assert!(matches!(task.await.unwrap().end, End::Drained));
    // Who is not listened to any more is not waited for either: something new was begun instead of PUBREL.
    let (mut device, mut upstream, task, orders) = start(Level::V3);
    device.write_all(publish).await.unwrap();
    expect(&mut upstream, publish).await;
    orders.give(Order::Drain);
    upstream.write_all(pubrec).await.unwrap();
    expect(&mut device, pubrec).await;
    device.write_all(PUBLISH).await.unwrap();
    assert!(matches!(task.await.unwrap().end, End::Drained));
    // MQTT 5: a PUBREC that refuses is the end of it.
    let (mut device, mut upstream, task, orders) = start(Level::V5);
    let (publish, pubrec) = (b"\x34\x07\x00\x01a\x00\x07\x00x", b"\x50\x03\x00\x07\x87");
    device.write_all(publish).await.unwrap();
    expect(&mut upstream, publish).await;
    orders.give(Order::Drain);
    upstream.write_all(pubrec).await.unwrap();
    expect(&mut device, pubrec).await;
    assert!(matches!(task.await.unwrap().end, End::Drained));
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_has_begun_is_finished() {
    for cut in 1..PUBLISH.len() {
        let (mut device, mut upstream, task, orders) = start(Level::V3);
        device.write_all(&PUBLISH[..cut]).await.unwrap();
        sleep(SECOND).await;
        orders.give(Order::Drain);
        sleep(SECOND).await;
        // The head is whole, so it has gone up, with one byte of payload or none.
        if cut < 7 {
            assert!(task.is_finished(), "at {cut} nothing has begun upstream");
            assert_eq!(rest(upstream).await, b"");
            continue;
        }
        device.write_all(&[&PUBLISH[cut..], PUBLISH].concat()).await.unwrap();
        expect(&mut upstream, PUBLISH).await;
        upstream.write_all(PUBACK).await.unwrap();
        assert!(matches!(task.await.unwrap().end, End::Drained));
        assert_eq!((rest(device).await, rest(upstream).await), (PUBACK.to_vec(), vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_publish_on_its_way_to_the_device_is_finished() {
    let (mut device, mut upstream, task, orders) = start(Level::V5);
    let coming = b"\x30\x08\x00\x01b\x00wxyz";
    upstream.write_all(&coming[..7]).await.unwrap();
    expect(&mut device, &coming[..7]).await;
    orders.give(Order::Drain);
    sleep(SECOND).await;
    assert!(!task.is_finished());
    upstream.write_all(&coming[7..]).await.unwrap();
    assert!(matches!(task.await.unwrap().end, End::Drained));
    assert_eq!(rest(device).await, [&coming[7..], SHUTTING_DOWN].concat());
}

#[tokio::test(start_paused = true)]
async fn a_device_that_says_goodbye_meanwhile_is_heard() {
    let (mut device, mut upstream, task, orders) = start(Level::V3);
    device.write_all(PUBLISH).await.unwrap();
    expect(&mut upstream, PUBLISH).await;
    orders.give(Order::Drain);
    sleep(SECOND).await;
    device.write_all(DISCONNECT).await.unwrap();
    expect(&mut upstream, DISCONNECT).await;
    assert!(matches!(task.await.unwrap().end, End::Disconnected));
}

#[tokio::test(start_paused = true)]
async fn who_holds_out_is_cut_and_told() {
    let (mut device, mut upstream, task, orders) = start(Level::V5);
    device.write_all(&PUBLISH_5.repeat(3)).await.unwrap();
    expect(&mut upstream, &PUBLISH_5.repeat(3)).await;
    orders.give(Order::Drain);
    sleep(SECOND).await;
    // What is there is still passed.
    upstream.write_all(PUBACK).await.unwrap();
    expect(&mut device, PUBACK).await;
    let begin = Instant::now();
    orders.give(Order::Now);
    let Ran { end, .. } = task.await.unwrap();
    assert!(matches!(end, End::Cut(2)), "{end}");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(rest(device).await, SHUTTING_DOWN);
    assert_eq!(rest(upstream).await, b"");
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_not_written_to_for_long() {
    let orders: Arc<Orders> = Arc::default();
    let deal = Deal::new(Level::V5, Policy::default(), Platform::Full);
    let (_device, mut upstream, task) = start_told(flow(deal), 64, orders.clone());
    let writer = tokio::spawn(async move {
        let coming = b"\x30\x06\x00\x01b\x00xx";
        while upstream.write_all(coming).await.is_ok() {}
    });
    sleep(SECOND).await;
    orders.give(Order::Drain);
    sleep(SECOND).await;
    let begin = Instant::now();
    orders.give(Order::Now);
    let end = task.await.unwrap().end;
    assert!(matches!(end, End::Drained | End::Cut(_) | End::Stalled(..)), "{end}");
    assert!(begin.elapsed() <= FLUSH_MAX, "{:?}", begin.elapsed());
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_may_not_stay_goes_at_once() {
    for (level, publish, word) in [(Level::V3, PUBLISH, &b""[..]), (Level::V5, PUBLISH_5, ADMINISTRATIVE)] {
        let (mut device, mut upstream, task, orders) = start(level);
        device.write_all(publish).await.unwrap();
        expect(&mut upstream, publish).await;
        orders.give(Order::Leave(Bar::Disabled));
        let end = task.await.unwrap().end;
        assert!(matches!(end, End::Barred(Bar::Disabled)), "{end}");
        assert!(end.to_string().contains("deactivated"));
        assert_eq!((rest(device).await, rest(upstream).await), (word.to_vec(), vec![]));
    }
}

/// A body that is owed is not held, so upstream never waits for the rest of it; then the gateway's own PINGREQs keep the connection, and the
/// device's PINGREQ is answered.
#[tokio::test(start_paused = true)]
async fn a_poor_bucket_starves_no_keep_alive() {
    const KEEP_ALIVE: u16 = 10;
    let patience = SECOND * u32::from(KEEP_ALIVE) * 3 / 2;
    // 16 KiB take 82 s, and a message a second may come.
    let rate = Rate {
        messages: 1,
        bytes: 200,
        burst: 1,
    };
    let bucket = Arc::new(Bucket::new(rate, Duration::ZERO));
    let deal = Deal::new(Level::V3, Policy::of(Kind::Standard), Platform::Full);
    let deal = deal.limited(Some(bucket)).pinging(Some(KEEP_ALIVE));
    let (mut device, mut upstream, task) = start_told(flow(deal), READ, Arc::default());
    let mut large = b"\x32\x85\x80\x04\x00\x01a\x00\x09".to_vec();
    large.resize(4 + 65_541, b'x');
    let (sent, far) = (large.clone(), Instant::now());
    let device = tokio::spawn(async move {
        device.write_all(&sent).await.unwrap();
        device.write_all(PING).await.unwrap();
        expect(&mut device, &[PUBACK, b"\xd0\x00"].concat()).await;
        // The next message waits until the first is paid.
        device.write_all(PUBLISH).await.unwrap();
        expect(&mut device, PUBACK).await;
        device
    });
    let mut got = vec![0; large.len()];
    timeout(patience, upstream.read_exact(&mut got)).await.unwrap().unwrap();
    assert!(got == large);
    upstream.write_all(PUBACK).await.unwrap();
    expect(&mut upstream, PING).await;
    assert!(far.elapsed() < SECOND, "all of that without a pause");
    upstream.write_all(b"\xd0\x00").await.unwrap();
    // As a cloud does it: whoever says nothing whole for one and a half times the keep-alive is closed.
    let mut pings = 0_u32;
    loop {
        let mut first = [0; 2];
        timeout(patience, upstream.read_exact(&mut first))
            .await
            .expect("upstream hears something in time")
            .unwrap();
        if first != PING {
            let mut others = vec![0; PUBLISH.len() - 2];
            upstream.read_exact(&mut others).await.unwrap();
            assert_eq!([&first[..], &others].concat(), PUBLISH);
            break;
        }
        pings += 1;
        upstream.write_all(b"\xd0\x00").await.unwrap();
    }
    let waited = far.elapsed();
    assert!(
        (SECOND * 300..SECOND * 360).contains(&waited),
        "64 KiB at 200 a second: {waited:?}"
    );
    assert!(pings >= 30, "{pings}");
    upstream.write_all(PUBACK).await.unwrap();
    let _device = device.await.unwrap();
    assert!(!task.is_finished());
}
