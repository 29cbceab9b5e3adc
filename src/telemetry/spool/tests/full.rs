//! A disk without room. Two children, neither needs root: one under `ulimit -f` (EFBIG in the midst of a write, the same path as
//! ENOSPC), one on a tiny tmpfs in a user namespace of its own (real ENOSPC), left out where the kernel grants none.

use super::*;
use std::process::Command;

const DIR: &str = "ONYX_TEST_SPOOL_FULL";

/// The child's part; does nothing in an ordinary run.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let options = Options {
        segment_bytes: 256 << 10,
        max_bytes: 16 << 20,
        ..small(SyncPolicy::EachAppend)
    };
    let mut spool = Spool::open(Path::new(&dir), options.clone()).unwrap();
    let mut n = 0;
    let error = loop {
        match spool.append(&[payload(n + 1)], T0) {
            Ok(_) => n += 1,
            Err(e) => break e,
        }
        assert!(n < 100_000, "the disk never filled");
    };
    assert!(matches!(error, SpoolError::NoSpace { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("append") || text.contains("make the segment"), "{text}");
    let check = |spool: &mut Spool, n: u64| {
        let records = all(spool);
        assert_eq!(seqs(&records), (1..=n).collect::<Vec<_>>());
        assert!(records.iter().all(|r| r.payload == payload(r.seq.get())));
    };
    check(&mut spool, n);
    let last = spool.last();
    let on_disk = std::fs::metadata(newest_segment(Path::new(&dir))).unwrap().len();
    assert_eq!(on_disk, last.end, "the part that was written is cut off");
    // It goes on failing in the same way, and starts again on a full disk.
    assert!(matches!(
        spool.append(&[vec![1; 2048]], T0),
        Err(SpoolError::NoSpace { .. })
    ));
    drop(spool);
    let mut spool = Spool::open(Path::new(&dir), options).unwrap();
    check(&mut spool, n);
    assert_eq!(spool.stats().torn_bytes, 0);
    if n > 3000 {
        // With more than one segment, acknowledging frees room and appending works again.
        let acks: Vec<_> = (1..=n).map(Seq::new).collect();
        spool.ack(&acks, T0).unwrap();
        assert_eq!(spool.append(&[payload(n + 1)], T0).unwrap(), [Seq::new(n + 1)]);
    }
    println!("child filled the disk with {n} records");
}

fn run(shell: &str, dir: &Path) -> std::process::Output {
    Command::new("sh")
        .args(["-c", shell, "sh"])
        .args(super::this_program())
        .args(["--exact", "telemetry::spool::tests::full::child", "--nocapture"])
        .env(DIR, dir)
        .output()
        .unwrap()
}

fn passed(out: &std::process::Output) {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(out.status.success() && text.contains("child filled the disk"), "{text}");
}

#[test]
fn a_file_size_limit_in_the_midst_of_a_record() {
    let dir = tempfile::tempdir().unwrap();
    // XFSZ ignored: the write then fails with EFBIG instead of killing. 100 blocks of 512 bytes (1,024 in bash): below a segment.
    passed(&run("trap '' XFSZ; ulimit -f 100; exec \"$@\"", dir.path()));
}

#[test]
fn a_full_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let probe = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "tmpfs"])
        .arg(dir.path())
        .output();
    if !probe.is_ok_and(|o| o.status.success()) {
        println!("left out: this kernel grants no user namespace with a tmpfs");
        return;
    }
    passed(&run(
        "exec unshare -rm sh -c 'mount -t tmpfs -o size=700k tmpfs \"$ONYX_TEST_SPOOL_FULL\" && exec \"$@\"' sh \"$@\"",
        dir.path(),
    ));
}
