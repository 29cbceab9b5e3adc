//! Every entry point on its seeds and on bytes made from them, the same in every run.

use std::path::Path;

use super::stands::Ground;
use super::{TARGETS, http, session};
use crate::bench::clouds::journal::What;

/// Inputs made for each entry point, beside the seeds themselves.
const ROUNDS: u64 = 300;
/// Longest input made, in bytes.
const INPUT_MAX: usize = 2_048;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// A seed with bytes changed, left out, doubled, or with part of another behind.
fn varied(rng: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..=rng.usize(..6) {
        let at = rng.usize(..=bytes.len());
        let end = (at + rng.usize(..16)).min(bytes.len());
        match rng.u8(..5) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.insert(at, rng.u8(..)),
            2 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            3 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let other = &seeds[rng.usize(..seeds.len())];
                let from = rng.usize(..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes.truncate(INPUT_MAX);
    bytes
}

/// What the journal says about one input.
fn journal(target: fn(&[u8]), input: &[u8]) -> Vec<What> {
    let mut events = Ground::here().journal.subscribe();
    target(input);
    std::iter::from_fn(|| events.try_recv().ok()).map(|e| e.what).collect()
}

fn seed(target: &str, name: &str) -> Vec<u8> {
    std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/seeds")
            .join(target)
            .join(name),
    )
    .unwrap()
}

#[test]
fn seeds_get_past_the_doors() {
    for name in ["krypton-azure", "krypton-aws", "signed", "dps"] {
        let seen = journal(http, &seed("http", name));
        let good = |w: &What| matches!(w, What::Http { status: 200..=202, .. });
        assert!(seen.iter().any(good), "{name}: {seen:#?}");
    }
    for name in [
        "event-grid-4",
        "event-grid-5",
        "hub-twin",
        "hub-methods",
        "hub-messages",
        "aws-shadow",
        "aws-fleet",
        "aws-policy",
        "dps",
        "beam",
    ] {
        let seen = journal(session, &seed("session", name));
        let good = |w: &What| matches!(w, What::Message { .. } | What::Request { .. });
        assert!(seen.iter().any(good), "{name}: {seen:#?}");
        assert!(
            seen.iter().any(|w| matches!(w, What::Subscribed { .. })),
            "{name}: {seen:#?}"
        );
    }
}

fn run(name: &str) {
    let (_, target) = TARGETS.iter().find(|(n, _)| *n == name).unwrap();
    let seeds = seeds(name);
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| target(seed));
    for round in 0..ROUNDS {
        let mut rng = fastrand::Rng::with_seed(round);
        let input = varied(&mut rng, &seeds);
        // Shown when it fails: that is the input to keep.
        println!("{name} {round}: {:?}", input.escape_ascii().to_string());
        target(&input);
    }
}

#[test]
fn packets_of_any_bytes() {
    run("packet");
}

#[test]
fn sessions_of_any_bytes() {
    run("session");
}

#[test]
fn requests_of_any_bytes() {
    run("http");
}

#[test]
fn lines_and_apdus_of_any_bytes() {
    run("modem");
}

#[test]
fn papers_of_any_bytes() {
    run("papers");
}
