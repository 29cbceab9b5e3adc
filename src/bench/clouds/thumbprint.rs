//! The SHA-256 of a certificate, by which Azure and AWS know one that no authority vouches for. Microsoft's samples take it from `openssl
//! x509 -fingerprint -sha256` and `step certificate fingerprint`, with and without colons; AWS gives it to a certificate as its id.

use std::str::FromStr;

use crate::digest::{Hash, hex, sha256, unhex};

/// The SHA-256 of a certificate. It is written in capitals, as IoT Hub does, or with `{:x}` in small letters, as AWS does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbprint(Hash);

impl Thumbprint {
    /// Of this certificate (DER).
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(sha256(&[certificate]))
    }
}

impl std::fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl std::fmt::LowerHex for Thumbprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0).to_lowercase())
    }
}

impl FromStr for Thumbprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = unhex(&text.replace(':', ""));
        let hash = bytes.and_then(|b| b.try_into().ok());
        hash.map(Self)
            .ok_or_else(|| format!("{text:?} is no SHA-256 thumbprint: 64 hexadecimal digits (SHA-1 is not taken)"))
    }
}
