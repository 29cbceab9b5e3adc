//! Random sequences of calls against a map in memory.

use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<u16>),
    Ack(Vec<u8>),
    Peek(u8, u8),
    Tick,
    /// Closed in order.
    Reopen,
    /// Dropped, as by kill -9; the flag says whether the machine restarted too.
    Crash(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => proptest::collection::vec(0u16..700, 1..5).prop_map(Op::Append),
        3 => proptest::collection::vec(any::<u8>(), 1..20).prop_map(Op::Ack),
        3 => (any::<u8>(), 1u8..20).prop_map(|(f, n)| Op::Peek(f, n)),
        1 => Just(Op::Tick),
        1 => Just(Op::Reopen),
        1 => any::<bool>().prop_map(Op::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn behaves_as_a_map(ops in proptest::collection::vec(op(), 1..60), each in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let sync = if each { SyncPolicy::EachAppend } else { SyncPolicy::Interval(Duration::from_secs(1)) };
        let mut options = Options { cursor_acks: 8, ..small(sync) };
        let mut spool = Spool::open(dir.path(), options.clone()).unwrap();
        let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        // Acknowledged, but perhaps not in the cursor: a crash may bring these back, and no others.
        let mut recent: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut given = 0;
        let mut now = Duration::ZERO;
        for op in ops {
            match op {
                Op::Append(lens) => {
                    let batch: Vec<_> = lens.iter().map(|l| payload(u64::from(*l)).repeat(1 + usize::from(*l) / 150)).collect();
                    for (seq, p) in spool.append(&batch, now).unwrap().into_iter().zip(batch) {
                        prop_assert!(seq.get() > given, "{} after {}", seq, given);
                        given = seq.get();
                        model.insert(given, p);
                    }
                }
                Op::Ack(picks) => {
                    let known: Vec<_> = model.keys().copied().filter(|n| *n < spool.durable).collect();
                    if known.is_empty() { continue }
                    let acks: Vec<_> = picks.iter().map(|p| Seq::new(known[usize::from(*p) % known.len()])).collect();
                    let mut fresh = 0;
                    for seq in &acks {
                        if let Some(p) = model.remove(&seq.get()) {
                            recent.insert(seq.get(), p);
                            fresh += 1;
                        }
                    }
                    prop_assert_eq!(spool.ack(&acks, now).unwrap(), fresh);
                    if spool.acks_unwritten == 0 { recent.clear() }
                    prop_assert!(recent.len() < 8 + picks.len());
                }
                Op::Peek(from, count) => {
                    let from = model.keys().nth(usize::from(from) % (model.len() + 1)).copied().unwrap_or(1);
                    let got = spool.peek(Seq::new(from), usize::from(count), usize::MAX).unwrap();
                    let want: Vec<_> = model.range(from..spool.durable.max(from)).take(usize::from(count))
                        .map(|(s, p)| Record { seq: Seq::new(*s), payload: p.clone() }).collect();
                    prop_assert_eq!(got, want);
                }
                Op::Tick => {
                    now += Duration::from_secs(2);
                    spool.tick(now).unwrap();
                    prop_assert_eq!(spool.durable, spool.next);
                }
                Op::Reopen => {
                    spool.close().unwrap();
                    spool = Spool::open(dir.path(), options.clone()).unwrap();
                    recent.clear();
                }
                Op::Crash(reboot) => {
                    drop(spool);
                    if reboot { options.boot = options.boot.map(|b| b + 1) }
                    spool = Spool::open(dir.path(), options.clone()).unwrap();
                    // The files are as the page cache has them: nothing appended is gone.
                    let back: BTreeMap<_, _> = all(&mut spool).into_iter().map(|r| (r.seq.get(), r.payload)).collect();
                    for (n, p) in &back {
                        prop_assert!(model.get(n) == Some(p) || recent.get(n) == Some(p), "{} came from nowhere", n);
                    }
                    prop_assert!(model.keys().all(|n| back.contains_key(n)));
                    model = back;
                    recent.clear();
                }
            }
            prop_assert_eq!(spool.stats().waiting, model.len() as u64);
            prop_assert_eq!(spool.stats().oldest.map(Seq::get), model.keys().next().copied());
        }
        spool.sync().unwrap();
        let want: Vec<_> = model.into_iter().map(|(s, payload)| Record { seq: Seq::new(s), payload }).collect();
        prop_assert_eq!(all(&mut spool), want);
        prop_assert_eq!(spool.stats().lost, 0);
    }
}
