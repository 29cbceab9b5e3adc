//! Times and hashes as the service writes them.

use std::time::Duration;

/// RFC 3339 with seven decimals, as the service writes times.
pub(super) fn utc(time: Duration) -> String {
    let whole = crate::clock::rfc3339(Duration::from_secs(time.as_secs()));
    match whole.strip_suffix('Z') {
        Some(seconds) => format!("{seconds}.{:07}Z", time.subsec_nanos() / 100),
        None => whole,
    }
}

/// FNV-1a (its authors' parameters): the same text gives the same number in every run.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}
