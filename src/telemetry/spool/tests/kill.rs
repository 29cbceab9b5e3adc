//! kill -9 at random moments: every append that returned is there, every number is new.

use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

const DIR: &str = "ONYX_TEST_SPOOL_KILL";
const ROUNDS: u32 = 50;

fn options() -> Options {
    Options {
        boot: None,
        cursor_acks: 16,
        ..small(SyncPolicy::Interval(Duration::from_millis(1)))
    }
}

/// The child: appends, acknowledges the older ones, and reports each number given and each acknowledged, until it is killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let mut spool = Spool::open(Path::new(&dir), options()).unwrap();
    let mut out = std::io::stdout().lock();
    for step in 0.. {
        let now = Duration::from_micros(300 * step);
        let next = spool.stats().next.get();
        let given = spool.append(&[payload(next), payload(next + 1)], now).unwrap();
        writeln!(out, "\n+{} {}", given[0], given[1]).unwrap();
        if step % 4 == 3 {
            let acks: Vec<_> = spool.peek(Seq::FIRST, 7, 4096).unwrap().iter().map(|r| r.seq).collect();
            for a in &acks {
                write!(out, "\n?{a}").unwrap();
            }
            spool.ack(&acks, now).unwrap();
            for a in &acks {
                write!(out, "\n-{a}").unwrap();
            }
        }
        out.flush().unwrap();
    }
}

#[test]
fn nothing_that_was_appended_is_gone_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let (mut waiting, mut maybe) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    let mut highest = 0u64;
    for round in 0..ROUNDS {
        let program = super::this_program();
        let mut child = Command::new(&program[0])
            .args(&program[1..])
            .args(["--exact", "telemetry::spool::tests::kill::child", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let lines = fastrand::u32(1..200);
        let mut text = String::new();
        for _ in 0..lines {
            assert!(
                reader.read_line(&mut text).unwrap() > 0,
                "the child ended by itself: {}",
                {
                    let mut e = String::new();
                    child.stderr.take().unwrap().read_to_string(&mut e).unwrap();
                    e
                }
            );
        }
        child.kill().unwrap();
        child.wait().unwrap();
        reader.read_to_string(&mut text).unwrap();
        // The last line may be cut; without it a record or an acknowledgement is merely not claimed.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            if let Some(pair) = line.strip_prefix('+') {
                for n in pair.split(' ').map(|n| n.parse::<u64>().unwrap()) {
                    assert!(n > highest, "round {round}: {n} was given before");
                    highest = n;
                    waiting.insert(n);
                }
            } else if let Some(n) = line.strip_prefix('?').or(line.strip_prefix('-')) {
                // Acknowledged, or about to be when it was killed.
                let n = n.parse().unwrap();
                waiting.remove(&n);
                maybe.insert(n);
            }
        }
        let mut spool = Spool::open(dir.path(), options()).unwrap();
        spool.sync().unwrap();
        let there: std::collections::BTreeSet<_> = all(&mut spool)
            .into_iter()
            .map(|r| {
                assert_eq!(r.payload, payload(r.seq.get()));
                r.seq.get()
            })
            .collect();
        let missing: Vec<_> = waiting.difference(&there).collect();
        // An acknowledgement may have happened before its line was written, at most one peek's worth.
        assert!(
            missing.len() <= 7 && missing.iter().zip(&waiting).all(|(a, b)| *a == b),
            "round {round}: {missing:?}"
        );
        for n in missing.into_iter().copied().collect::<Vec<_>>() {
            waiting.remove(&n);
            maybe.insert(n);
        }
        let again = there.intersection(&maybe).count();
        assert!(
            again < 16 + 2 * 7,
            "round {round}: {again} acknowledged records came back"
        );
        // Appended but not claimed: they count from now on.
        waiting.extend(there);
        maybe.clear();
        highest = highest.max(spool.stats().next.get() - 1);
        assert_eq!(spool.stats().lost, 0);
        spool.close().unwrap();
    }
    assert!(highest > u64::from(ROUNDS));
}
