//! The fuzzing targets on their seeds and on bytes made from them, the same in every run.

use std::path::Path;

use super::super::fuzzing::{TARGETS, checker, connect};
use super::*;

/// Inputs made for each entry point, beside the seeds themselves.
const ROUNDS: usize = 1_000;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// One to four bytes of the seed changed, left out, put in, or cut off after.
fn varied(rng: &mut fastrand::Rng, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=rng.usize(..4) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..8) {
            0 => bytes.truncate(at),
            1 | 2 => bytes.insert(at, rng.u8(..)),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            _ if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            _ => {}
        }
    }
    bytes
}

#[test]
fn seeds_and_what_is_made_of_them() {
    for (number, (name, target)) in TARGETS.iter().enumerate() {
        let seeds = seeds(name);
        assert!(seeds.len() > 4, "{name}");
        seeds.iter().for_each(|seed| target(seed));
        let mut rng = fastrand::Rng::with_seed(number as u64);
        for _ in 0..ROUNDS {
            let seed = &seeds[rng.usize(..seeds.len())];
            let input = varied(&mut rng, seed);
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(outcome.is_ok(), "{name} fails on {input:02x?}");
        }
    }
}

/// Seeds get past the doors: every packet of a seed passes.
#[test]
fn seeds_are_good_to_their_end() {
    for seed in seeds("checker") {
        checker(&seed);
        let [how, most, stream @ ..] = &seed[..] else { panic!() };
        let level = if how & 1 == 0 { Level::V3 } else { Level::V5 };
        let direction = if how & 2 == 0 { Direction::Up } else { Direction::Down };
        let mut c = Checker::new(level, direction, 8_192)
            .with_topic_aliases(u16::from(*most))
            .with_authentication(how & 4 != 0)
            .with_session_expiry(how & 8 != 0);
        let (mut rest, mut packets) = (stream, 0);
        while !rest.is_empty() {
            let look = c.look(rest).unwrap().unwrap_or_else(|| panic!("{rest:02x?}"));
            rest = &rest[look.head.size..];
            packets += 1;
        }
        assert!(packets >= 2);
    }
    for seed in seeds("connect") {
        connect(&seed);
        let good = match seed[0] {
            0 => Connect::decode(&seed[1..]).is_ok() || seed.starts_with(b"\0\0\x06MQIsdp"),
            1 => ConnAck::decode(Level::V3, &seed[1..]).is_ok(),
            _ => ConnAck::decode(Level::V5, &seed[1..]).is_ok(),
        };
        assert!(good, "{seed:02x?}");
    }
}
