//! UUIDs as Azure and AWS write them (RFC 9562).

/// These 128 bits in groups of 8, 4, 4, 4 and 12 digits.
pub(super) fn text(bits: u128) -> String {
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// A random one of version 4 (section 5.4).
pub(super) fn random(rng: &mut fastrand::Rng) -> String {
    text(rng.u128(..) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62)
}
