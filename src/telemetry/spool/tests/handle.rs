//! The thread and its queue.

use super::*;
use crate::clock::Clock;

#[tokio::test]
async fn many_callers_share_one_owner_and_few_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap();
    let syncs = spool.stats().syncs;
    let handle = SpoolHandle::start(spool, Clock::new()).unwrap();
    let tasks: Vec<_> = (0..400u64)
        .map(|n| {
            let h = handle.clone();
            tokio::spawn(async move { (h.append(vec![payload(n)]).await.unwrap()[0], n) })
        })
        .collect();
    let mut given = std::collections::BTreeMap::new();
    for t in tasks {
        let (seq, n) = t.await.unwrap();
        assert!(given.insert(seq, n).is_none());
    }
    assert_eq!(*handle.durable().borrow(), Seq::new(401));
    let records = handle.peek(Seq::FIRST, 1000, usize::MAX).await.unwrap();
    assert_eq!(records.len(), 400);
    assert!(records.iter().all(|r| r.payload == payload(given[&r.seq])));
    let stats = handle.stats().await.unwrap();
    assert!(stats.syncs - syncs < 400, "{stats:?}");
    assert_eq!(handle.ack(given.keys().copied().collect()).await.unwrap(), 400);
    handle.close().await.unwrap();
    assert!(matches!(handle.stats().await, Err(SpoolError::Closed)));
    let spool = Spool::open(dir.path(), small(SyncPolicy::EachAppend)).unwrap();
    assert_eq!(spool.stats().waiting, 0);
}

#[tokio::test]
async fn the_interval_sync_happens_by_itself_and_is_announced() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(SyncPolicy::Interval(Duration::from_millis(20)));
    let handle = SpoolHandle::start(Spool::open(dir.path(), options.clone()).unwrap(), Clock::new()).unwrap();
    let mut durable = handle.durable();
    let seq = handle.append(vec![b"a".to_vec()]).await.unwrap()[0];
    tokio::time::timeout(Duration::from_secs(10), durable.wait_for(|d| *d > seq))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(handle.peek(Seq::FIRST, 9, 99).await.unwrap().len(), 1);
    let seq = handle.append_durably(vec![b"b".to_vec()]).await.unwrap()[0];
    assert!(*handle.durable().borrow() > seq);
    assert!(matches!(
        handle.append(vec![vec![0; 5000]]).await,
        Err(SpoolError::RecordTooLarge { .. })
    ));
    // Dropped without close: the thread closes the spool; then, and only then, the announcements end.
    drop(handle);
    while durable.changed().await.is_ok() {}
    let spool = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            match Spool::open(dir.path(), options.clone()) {
                Err(SpoolError::Locked(_)) => tokio::task::yield_now().await,
                other => break other.unwrap(),
            }
        }
    });
    assert_eq!(spool.await.unwrap().stats().waiting, 2);
}
