//! What a reader of the module's promises would try first.

use super::*;

#[test]
fn what_goes_in_comes_out_in_order_and_acknowledged_records_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap();
    let id = spool.id();
    for n in 1..=200 {
        assert_eq!(spool.append(&[payload(n)], T0).unwrap(), [Seq::new(n)]);
    }
    let records = all(&mut spool);
    assert_eq!(seqs(&records), (1..=200).collect::<Vec<_>>());
    assert!(records.iter().all(|r| r.payload == payload(r.seq.get())));
    assert_eq!(seqs(&spool.peek(Seq::new(7), 3, usize::MAX).unwrap()), [7, 8, 9]);
    let two = payload(1).len() + payload(2).len();
    assert_eq!(seqs(&spool.peek(Seq::FIRST, 99, two).unwrap()), [1, 2]);
    assert_eq!(seqs(&spool.peek(Seq::FIRST, 99, 1).unwrap()), [1], "never nothing");
    // Every other one, backwards, some twice.
    let acks: Vec<_> = (1..=200).rev().filter(|n| n % 2 == 0).map(Seq::new).collect();
    assert_eq!(spool.ack(&acks, T0).unwrap(), 100);
    assert_eq!(spool.ack(&acks, T0).unwrap(), 0);
    assert_eq!(spool.ack(&[Seq::new(201), Seq::new(0)], T0).unwrap(), 0, "never given");
    let odd: Vec<_> = (1..=200).filter(|n| n % 2 == 1).collect();
    assert_eq!(seqs(&all(&mut spool)), odd);
    spool.close().unwrap();
    let mut spool = Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap();
    assert_eq!(spool.id(), id);
    assert_eq!(seqs(&all(&mut spool)), odd, "a clean restart resends nothing");
    let rest: Vec<_> = odd.into_iter().map(Seq::new).collect();
    spool.ack(&rest, T0).unwrap();
    assert_eq!((spool.stats().waiting, spool.stats().segments), (0, 1));
    spool.close().unwrap();
    let mut spool = Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap();
    assert_eq!(
        spool.append(&[b"x"], T0).unwrap(),
        [Seq::new(201)],
        "drained, restarted, not reused"
    );
}

#[test]
fn under_an_interval_nothing_is_shown_before_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let s = Duration::from_secs;
    let mut spool = Spool::open(dir.path(), small(SyncPolicy::Interval(s(1)))).unwrap();
    spool.append(&[b"a"], s(10)).unwrap();
    assert_eq!(all(&mut spool), []);
    assert_eq!(spool.next_tick(), Some(s(11)));
    spool.tick(s(11) - Duration::from_millis(1)).unwrap();
    assert_eq!(all(&mut spool), []);
    spool.tick(s(11)).unwrap();
    assert_eq!(seqs(&all(&mut spool)), [1]);
    assert_eq!(spool.next_tick(), None);
    spool.append(&[b"x"; 10], s(12)).unwrap();
    spool.append(&[b"y"], s(13)).unwrap();
    assert_eq!(spool.stats().durable, Seq::new(13));
    let before = spool.stats().syncs;
    for n in 0..UNSYNCED_MAX {
        spool.append(&[n.to_le_bytes()], s(14)).unwrap();
        assert!(spool.next - spool.durable <= UNSYNCED_MAX);
    }
    assert!(spool.stats().syncs > before);
}

#[test]
fn a_full_spool_drops_its_oldest_segment_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_bytes: 4 * 4096,
        ..small(SyncPolicy::EachAppend)
    };
    let mut spool = Spool::open(dir.path(), options.clone()).unwrap();
    for n in 1..=1000 {
        spool.append(&[payload(n)], T0).unwrap();
        let stats = spool.stats();
        assert!(stats.bytes <= options.max_bytes, "{stats:?}");
        assert_eq!(stats.waiting + stats.dropped, n);
    }
    let on_disk: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.path().extension().is_some_and(|x| x == "seg"))
        .map(|e| e.metadata().unwrap().len())
        .sum();
    assert_eq!(on_disk, spool.stats().bytes);
    let left = all(&mut spool);
    assert_eq!(left.len() as u64, spool.stats().waiting);
    assert_eq!(left.last().unwrap().seq, Seq::new(1000));
    assert!(left.windows(2).all(|w| w[1].seq == w[0].seq.next()));
    let dropped = spool.stats().dropped;
    spool.close().unwrap();
    assert_eq!(Spool::open(dir.path(), options).unwrap().stats().dropped, dropped);
}

#[test]
fn limits_and_a_second_owner_are_refused_with_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap();
    let e = Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap_err();
    assert!(
        matches!(e, SpoolError::Locked(_)) && e.to_string().contains("another process"),
        "{e}"
    );
    let e = spool.append(&[vec![0; 2049]], T0).unwrap_err();
    assert!(matches!(e, SpoolError::RecordTooLarge { size: 2049, max: 2048 }), "{e}");
    let e = spool.append(&[[0; 2000], [0; 2000], [0; 2000]], T0).unwrap_err();
    assert!(matches!(e, SpoolError::BatchTooLarge { .. }), "{e}");
    assert_eq!(spool.append(&[vec![0; 2048]], T0).unwrap(), [Seq::FIRST]);
    assert_eq!(
        spool.append(&[b""], T0).unwrap(),
        [Seq::new(2)],
        "an empty payload is one"
    );
    assert_eq!(all(&mut spool).len(), 2);
    let narrow = Options {
        max_bytes: 5000,
        ..small(SyncPolicy::EachAppend)
    };
    assert!(matches!(Spool::open(dir.path(), narrow), Err(SpoolError::Options(_))));
}

#[test]
fn strange_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("README"), "mine").unwrap();
    std::fs::create_dir(dir.path().join(segment::name(5))).unwrap();
    let mut spool = Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap();
    spool.append(&[b"x"], T0).unwrap();
    assert_eq!(all(&mut spool).len(), 1);
    assert_eq!(std::fs::read(dir.path().join("README")).unwrap(), b"mine");
}

#[test]
fn draining_reads_each_byte_about_once() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        boot: Some(1),
        ..Options::default()
    };
    let mut spool = Spool::open(dir.path(), options).unwrap();
    for n in (0..50_000).step_by(100) {
        let batch: Vec<_> = (n..n + 100).map(payload).collect();
        spool.append(&batch, T0).unwrap();
    }
    spool.sync().unwrap();
    let (mut from, mut count, mut walked) = (Seq::FIRST, 0, 0);
    loop {
        let records = spool.peek(from, 10, usize::MAX).unwrap();
        let Some(last) = records.last() else { break };
        count += records.len();
        // A peek that went back to the segment's beginning would show here.
        let (first, wanted, at) = spool.reader.known[1].unwrap();
        let begin = spool.reader.known[0].unwrap();
        assert!(wanted <= last.seq.get() + 1 && first >= begin.0);
        walked += if first == begin.0 { at - begin.2 } else { at };
        from = last.seq.next();
    }
    assert_eq!(count, 50_000);
    assert!(walked <= spool.stats().bytes + 1, "{walked}");
}
