//! Every state a power cut can leave of the last write, and every bit flipped.

use super::*;

/// A spool of `n` records in `dir`, not closed; where the last segment's records began and ended.
fn build(dir: &Path, n: u64, sync: SyncPolicy) -> (Segment, Segment) {
    let mut spool = Spool::open(dir, small(sync)).unwrap();
    for i in 1..n {
        spool.append(&[payload(i)], T0).unwrap();
    }
    spool.sync().unwrap();
    let before = spool.last();
    spool.append(&[payload(n)], T0).unwrap();
    let after = spool.last();
    assert_eq!(before.first, after.first, "the last append must not roll");
    (before, after)
}

/// Opens what is there, checks it record by record, appends one more. Answers what was there.
fn survives(dir: &Path, boot: u128, given: u64, what: &str) -> Vec<u64> {
    let options = Options {
        boot: Some(boot),
        ..small(SyncPolicy::EachAppend)
    };
    let mut spool = Spool::open(dir, options.clone()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let records = all(&mut spool);
    for r in &records {
        assert_eq!(r.payload, payload(r.seq.get()), "{what}");
    }
    assert!(records.windows(2).all(|w| w[0].seq < w[1].seq), "{what}");
    assert_eq!(spool.stats().waiting, records.len() as u64, "{what}");
    let fresh = spool.append(&[b"new"], T0).unwrap()[0];
    assert!(fresh.get() > given, "{what}: number {fresh} was given before");
    let mut want = seqs(&records);
    want.push(fresh.get());
    assert_eq!(seqs(&all(&mut spool)), want, "{what}");
    drop(spool);
    let mut spool = Spool::open(dir, options).unwrap();
    assert_eq!(seqs(&all(&mut spool)), want, "{what}: a second time");
    assert_eq!(spool.stats().damaged_segments, 0, "{what}: healed for good");
    want.pop();
    want
}

#[test]
fn every_prefix_of_the_last_write_leaves_what_was_synced() {
    for (sync, untraced) in [
        (SyncPolicy::EachAppend, 0),
        (SyncPolicy::Interval(Duration::from_secs(1)), UNSYNCED_MAX),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let n = 10;
        let (before, after) = build(dir.path(), n, sync);
        let bytes = std::fs::read(newest_segment(dir.path())).unwrap();
        for cut in before.end..=after.end {
            for zeros in [false, true] {
                let work = tempfile::tempdir().unwrap();
                copy(dir.path(), work.path());
                let mut torn = bytes[..cut as usize].to_vec();
                if zeros {
                    torn.resize(bytes.len(), 0);
                }
                std::fs::write(newest_segment(work.path()), &torn).unwrap();
                // A synced append whose bytes are missing never returned; an unsynced one may have.
                let given = if untraced > 0 || cut == after.end { n } else { n - 1 };
                let there = survives(work.path(), 2, given, &format!("{sync:?} cut at {cut}, zeros {zeros}"));
                // A payload's last byte is never zero, so only the whole record is the record.
                assert_eq!(
                    there,
                    (1..=if cut == after.end { n } else { n - 1 }).collect::<Vec<_>>()
                );
            }
        }
    }
}

#[test]
fn the_last_segment_cut_anywhere_gives_its_whole_records() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), 8, SyncPolicy::EachAppend);
    let bytes = std::fs::read(newest_segment(dir.path())).unwrap();
    let mut ends = vec![];
    let mut at = HEADER;
    for n in 1..=8 {
        at += OVERHEAD + payload(n).len() as u64;
        ends.push(at);
    }
    for cut in 0..bytes.len() {
        let work = tempfile::tempdir().unwrap();
        copy(dir.path(), work.path());
        std::fs::write(newest_segment(work.path()), &bytes[..cut]).unwrap();
        let whole = ends.iter().filter(|e| **e <= cut as u64).count() as u64;
        let there = survives(work.path(), 2, whole, &format!("cut at {cut}"));
        assert_eq!(there, (1..=whole).collect::<Vec<_>>(), "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_costs_one_record_and_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let n = 6;
    build(dir.path(), n, SyncPolicy::EachAppend);
    let bytes = std::fs::read(newest_segment(dir.path())).unwrap();
    let content = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    for at in 0..content {
        for bit in [0, 3, 7] {
            let work = tempfile::tempdir().unwrap();
            copy(dir.path(), work.path());
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            std::fs::write(newest_segment(work.path()), &bad).unwrap();
            let there = survives(work.path(), 1, n, &format!("bit {bit} of byte {at}"));
            let want = if at < HEADER as usize { n } else { n - 1 };
            assert_eq!(there.len() as u64, want, "bit {bit} of byte {at}: {there:?}");
            let quarantined = work.path().join(open::QUARANTINE).exists();
            let torn = !there.contains(&n);
            assert_eq!(quarantined, !torn, "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn damage_in_an_old_segment_is_counted_quarantined_within_bounds_and_the_rest_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = small(SyncPolicy::EachAppend);
    options.quarantine_bytes = 6000;
    let mut spool = Spool::open(dir.path(), options.clone()).unwrap();
    for n in 1..=150 {
        spool.append(&[payload(n)], T0).unwrap();
    }
    let segments = spool.segments.clone();
    assert!(segments.len() > 3);
    spool.close().unwrap();
    for s in &segments[..3] {
        let path = dir.path().join(segment::name(s.first));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100..700].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
    }
    let mut spool = Spool::open(dir.path(), options.clone()).unwrap();
    let records = all(&mut spool);
    let stats = spool.stats();
    assert_eq!(stats.damaged_segments, 3);
    assert!(stats.lost > 0 && stats.lost + records.len() as u64 == 150, "{stats:?}");
    assert!(records.iter().all(|r| r.payload == payload(r.seq.get())));
    let kept: u64 = std::fs::read_dir(dir.path().join(open::QUARANTINE))
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(kept > 0 && kept <= 6000, "{kept}");
    spool.close().unwrap();
    let spool = Spool::open(dir.path(), options).unwrap();
    assert_eq!((spool.stats().lost, spool.stats().damaged_segments), (stats.lost, 0));
}

#[test]
fn damage_that_appears_while_running_is_met_by_peek() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap();
    for n in 1..=150 {
        spool.append(&[payload(n)], T0).unwrap();
    }
    for s in [spool.segments[1], spool.last()] {
        let path = dir.path().join(segment::name(s.first));
        let file = File::options().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 30], s.end - 40).unwrap();
    }
    let records = all(&mut spool);
    let stats = spool.stats();
    assert_eq!(stats.damaged_segments, 2);
    assert_eq!(records.len() as u64 + stats.lost, 150);
    assert_eq!(stats.waiting, records.len() as u64);
    assert_eq!(spool.append(&[b"on"], T0).unwrap(), [Seq::new(151)]);
    assert_eq!(all(&mut spool).len(), records.len() + 1);
}

#[test]
fn without_a_cursor_everything_is_resent_under_the_same_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap();
    let id = spool.id();
    for n in 1..=20 {
        spool.append(&[payload(n)], T0).unwrap();
    }
    spool.ack(&[Seq::new(3)], T0).unwrap();
    spool.close().unwrap();
    std::fs::write(dir.path().join(open::CURSOR), [0x55; 8192]).unwrap();
    let mut spool = Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap();
    assert_eq!(spool.id(), id);
    assert_eq!(seqs(&all(&mut spool)), (1..=20).collect::<Vec<_>>());
    assert!(spool.append(&[b"x"], T0).unwrap()[0].get() > 20);
}

#[test]
fn segments_that_vanish_make_it_another_spool() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), 5, SyncPolicy::EachAppend);
    let open = || Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap();
    let id = open().id();
    std::fs::remove_file(newest_segment(dir.path())).unwrap();
    assert_ne!(open().id(), id, "numbers 1 to 5 were given under the old id");
}
