//! Times, identifiers and hashes as the service writes them.

use std::time::Duration;

/// RFC 3339 with seven decimals, as the service writes times.
pub(super) fn utc(time: Duration) -> String {
    let whole = crate::clock::rfc3339(Duration::from_secs(time.as_secs()));
    match whole.strip_suffix('Z') {
        Some(seconds) => format!("{seconds}.{:07}Z", time.subsec_nanos() / 100),
        None => whole,
    }
}

/// A random version 4 UUID (RFC 9562 section 5.4).
pub(super) fn uuid(rng: &mut fastrand::Rng) -> String {
    let bits = rng.u128(..) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// FNV-1a (its authors' parameters): the same text gives the same number in every run.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}
