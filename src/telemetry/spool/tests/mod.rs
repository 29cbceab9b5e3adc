#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

mod crash;
mod full;
mod handle;
mod kill;
mod model;
mod plain;
mod rate;

use super::*;

const T0: Duration = Duration::ZERO;

/// Small enough that a handful of records fills a segment.
fn small(sync: SyncPolicy) -> Options {
    Options {
        segment_bytes: 4096,
        max_bytes: 1 << 20,
        record_max: 2048,
        sync,
        zero_ahead: 512,
        boot: Some(1),
        ..Options::default()
    }
}

fn all(spool: &mut Spool) -> Vec<Record> {
    spool.peek(Seq::FIRST, usize::MAX, usize::MAX).unwrap()
}

fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|r| r.seq.get()).collect()
}

/// A payload that its number determines.
fn payload(n: u64) -> Vec<u8> {
    let len = 20 + (n * 37 % 150) as usize;
    format!("{{\"n\":{n}}}")
        .into_bytes()
        .into_iter()
        .cycle()
        .take(len)
        .collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn newest_segment(directory: &Path) -> PathBuf {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    names.sort();
    names.pop().unwrap()
}

/// This test program, to be run once more as a child: its path, with the emulator in front when the tests themselves run in one (cargo's
/// variable for the runner; a real Pi has none).
fn this_program() -> Vec<std::ffi::OsString> {
    let runner = if cfg!(target_arch = "arm") {
        std::env::var("CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_RUNNER").unwrap_or_default()
    } else {
        String::new()
    };
    let mut words: Vec<_> = runner.split_whitespace().map(Into::into).collect();
    words.push(std::env::current_exe().unwrap().into());
    words
}
