//! What a device's certificate says of it.

use std::time::Duration;

use rustls_pki_types::CertificateDer;

use crate::digest::{sha256, unhex};
use crate::gateway::store::Fingerprint;
use crate::identity::{Imsi, NameTemplate, Numbers, redact_digits};
use crate::tls::{Leaf, TlsError};

/// A certificate that a device has shown, after the handshake has found it good.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The subject's common name, if it has exactly one that is text.
    pub common_name: Option<String>,
    /// The IMSI in the common name, if it is written as `listen.tls.name` says.
    pub imsi: Option<Imsi>,
    /// Last moment of validity, since the Unix epoch.
    pub not_after: Duration,
    /// SHA-256 of its DER.
    pub fingerprint: Fingerprint,
}

impl std::fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A device's name often holds its IMSI.
        write!(
            f,
            "PeerCertificate({:?})",
            self.common_name.as_deref().map(redact_digits)
        )
    }
}

impl PeerCertificate {
    /// Reads a leaf; `name` says how a common name tells an IMSI.
    ///
    /// # Errors
    /// [`TlsError::BadCertificate`].
    pub fn of(der: &CertificateDer<'_>, name: &NameTemplate) -> Result<Self, TlsError> {
        let leaf = Leaf::read(der, "the device's certificate")?;
        let numbers = leaf
            .common_name
            .as_deref()
            .and_then(|n| name.read(n, &Numbers::default()));
        Ok(Self {
            imsi: numbers.and_then(|n| n.imsi),
            common_name: leaf.common_name,
            not_after: leaf.not_after,
            fingerprint: Fingerprint(sha256(&[der])),
        })
    }
}

/// Reads a fingerprint as `openssl x509 -fingerprint -sha256` writes it: 32 bytes in hexadecimal, with or without colons, in either case.
///
/// # Errors
/// A sentence that says how it is written.
pub fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    let wrong = || {
        format!(
            "\"{}\" is no SHA-256 fingerprint: write the 64 hexadecimal digits that 'openssl x509 -noout -fingerprint -sha256' prints",
            crate::gateway::json::short(text)
        )
    };
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let bytes = unhex(&digits).and_then(|b| b.try_into().ok());
    bytes.map(Fingerprint).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_as_openssl_writes_them() {
        let hex = "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:FF";
        let mut want: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        want[31] = 255;
        assert_eq!(fingerprint(hex), Ok(Fingerprint(want)));
        assert_eq!(fingerprint(&hex.replace(':', "").to_lowercase()), Ok(Fingerprint(want)));
        let short = &hex[..hex.len() - 1];
        for text in ["", "12", short, &format!("{hex}00"), &hex.replace("FF", "FG")] {
            assert!(fingerprint(text).unwrap_err().contains("64 hexadecimal"), "{text}");
        }
    }
}
