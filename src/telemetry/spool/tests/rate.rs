//! Figures, not promises: `cargo test --release --lib spool::tests::rate -- --ignored --nocapture`.

use super::*;
use crate::clock::Clock;

/// About a sample with host and modem readings.
const PAYLOAD: usize = 240;

fn figure(what: &str, options: Options, count: u64, batch: u64, pace: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let mut spool = Spool::open(dir.path(), options).unwrap();
    let (start, before) = (clock.monotonic(), spool.stats());
    // Virtual time at the device's pace, so that interval syncs and the cursor cost what they cost there.
    let mut now = Duration::ZERO;
    let payload = vec![b'x'; PAYLOAD];
    for _ in 0..count / batch {
        let batch: Vec<_> = (0..batch).map(|_| &payload).collect();
        now += pace;
        spool.append(&batch, now).unwrap();
        if !pace.is_zero() {
            spool.tick(now + pace / 2).unwrap();
            let acks: Vec<_> = spool
                .peek(Seq::FIRST, 100, usize::MAX)
                .unwrap()
                .iter()
                .map(|r| r.seq)
                .collect();
            spool.ack(&acks, now + pace / 2).unwrap();
        }
    }
    let took = clock.monotonic() - start;
    let stats = spool.stats();
    println!(
        "{what}: {:.0} records/s; per 1,000 records {} bytes written in calls ({:.2} x payload), {:.1} syncs",
        count as f64 / took.as_secs_f64(),
        (stats.bytes_written - before.bytes_written) * 1000 / count,
        (stats.bytes_written - before.bytes_written) as f64 / (count * PAYLOAD as u64) as f64,
        (stats.syncs - before.syncs) as f64 * 1000.0 / count as f64,
    );
}

#[test]
#[ignore = "a measurement"]
fn figures() {
    let with = |sync| Options {
        sync,
        ..Options::default()
    };
    let second = Duration::from_secs(1);
    figure(
        "unsynced, one at a time",
        with(SyncPolicy::Interval(Duration::MAX)),
        100_000,
        1,
        Duration::ZERO,
    );
    figure(
        "each append synced, one at a time",
        with(SyncPolicy::EachAppend),
        5_000,
        1,
        Duration::ZERO,
    );
    figure(
        "each append synced, 10 at a time",
        with(SyncPolicy::EachAppend),
        20_000,
        10,
        Duration::ZERO,
    );
    figure(
        "1 s interval, a sample each second, acknowledged",
        with(SyncPolicy::Interval(second)),
        5_000,
        1,
        second,
    );
    figure(
        "1 s interval, a sample each 10 s, acknowledged",
        with(SyncPolicy::Interval(second)),
        5_000,
        1,
        10 * second,
    );
}
