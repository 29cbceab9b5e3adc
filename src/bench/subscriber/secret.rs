//! K and OPc: 128 bits each, read from 32 hexadecimal digits. They have no `Display`, `Debug` hides them, and dropping overwrites them.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of K and of OPc, in bytes (3GPP TS 35.206 section 2.3).
const LENGTH: usize = 16;

/// Why a text is no key. The text itself is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Too long or too short.
    #[error("{what} has {got} characters: it must be 32 hexadecimal digits")]
    Length {
        /// K or OPc.
        what: &'static str,
        /// How many characters came.
        got: usize,
    },
    /// Something else than a hexadecimal digit.
    #[error("{what} must be 32 hexadecimal digits: character {position} is none")]
    NotHex {
        /// K or OPc.
        what: &'static str,
        /// Counted from 1.
        position: usize,
    },
}

fn parse(what: &'static str, text: &str) -> Result<[u8; LENGTH], SecretError> {
    if let Some(position) = text.chars().position(|c| !c.is_ascii_hexdigit()) {
        let position = position + 1;
        return Err(SecretError::NotHex { what, position });
    }
    if text.len() != 2 * LENGTH {
        let got = text.len();
        return Err(SecretError::Length { what, got });
    }
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        // Checked above: every character is a digit.
        *byte = pair.iter().fold(0, |value, digit| {
            let digit = char::from(*digit).to_digit(16).unwrap_or_default();
            value << 4 | u8::try_from(digit).unwrap_or_default()
        });
    }
    Ok(bytes)
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident, $what:literal, $test:expr) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop, Deserialize)]
        #[serde(try_from = "Zeroizing<String>")]
        pub struct $name([u8; LENGTH]);

        impl $name {
            pub(super) fn test() -> Self {
                Self($test)
            }

            pub(super) fn bytes(&self) -> &[u8; LENGTH] {
                &self.0
            }

            #[cfg(test)]
            pub(crate) fn from_bytes(bytes: [u8; LENGTH]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = SecretError;
            fn from_str(text: &str) -> Result<Self, SecretError> {
                parse($what, text).map(Self)
            }
        }

        impl TryFrom<Zeroizing<String>> for $name {
            type Error = SecretError;
            fn try_from(text: Zeroizing<String>) -> Result<Self, SecretError> {
                text.parse()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($what, "(hidden)"))
            }
        }
    };
}

secret!(
    /// The subscriber key K, known to the card and its operator alone.
    K,
    "K",
    [
        0x46, 0x5b, 0x5c, 0xe8, 0xb1, 0x99, 0xb4, 0x9f, 0xaa, 0x5f, 0x0a, 0x2e, 0xe2, 0x38, 0xa6, 0xbc
    ]
);
secret!(
    /// OPc, the operator's variant of MILENAGE after K has been mixed in.
    Opc,
    "OPc",
    [
        0xcd, 0x63, 0xcb, 0x71, 0x95, 0x4a, 0x9f, 0x4e, 0x48, 0xa5, 0x99, 0x4e, 0x37, 0xa0, 0x2b, 0xaf
    ]
);
