//! SHA-256 (FIPS 180-4), and hexadecimal digits both ways.

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// A hash, in bytes.
pub(crate) type Hash = [u8; SHA256_OUTPUT_LEN];

/// SHA-256 of the pieces, one after the other.
pub(crate) fn sha256(pieces: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for piece in pieces {
        context.update(piece);
    }
    let mut out = [0; SHA256_OUTPUT_LEN];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Two digits a byte, in capitals.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

/// Bytes from two digits each, in capitals or not; `None` for anything else.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    if digits.len() % 2 != 0 {
        return None;
    }
    let nibble = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_bytes() {
        assert_eq!(unhex("00aF"), Some(vec![0x00, 0xaf]));
        assert_eq!(hex(&[0x00, 0xaf]), "00AF");
        for bad in ["0", "0x", "+a", "é"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_published_vector() {
        // FIPS 180-4, "abc", whole and in pieces.
        assert!(hex(&sha256(&[b"abc"])).starts_with("BA7816BF8F01CFEA"));
        assert_eq!(sha256(&[b"a", b"", b"bc"]), sha256(&[b"abc"]));
    }
}
