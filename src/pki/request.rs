//! A signing request (PKCS #10, RFC 2986) that somebody else made, with a key that stays there.

use rcgen::{CertificateParams, CertificateSigningRequestParams, DnType, DnValue};

use super::PkiError;

/// A request whose signature is good: who made it has the key.
#[derive(Debug)]
pub struct Csr(pub(super) CertificateSigningRequestParams);

impl Csr {
    /// Reads a request as PEM and checks its signature.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn from_pem(pem: &str) -> Result<Self, PkiError> {
        CertificateSigningRequestParams::from_pem(pem)
            .map(Self)
            .map_err(PkiError::about("a signing request"))
    }

    /// The only common name of its subject, if it is text.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        let names = self.0.params.distinguished_name.iter();
        let mut names = names.filter(|(kind, _)| **kind == DnType::CommonName);
        match (names.next()?, names.next()) {
            ((_, DnValue::Utf8String(text)), None) => Some(text),
            ((_, DnValue::PrintableString(text)), None) => Some(text.as_str()),
            ((_, DnValue::Ia5String(text)), None) => Some(text.as_str()),
            ((_, DnValue::TeletexString(text)), None) => Some(text.as_str()),
            _ => None,
        }
    }

    /// Whether its subject says more than a common name, or it asks for extensions.
    #[must_use]
    pub fn asks_for_more(&self) -> bool {
        let p = &self.0.params;
        p.distinguished_name.iter().count() > 1
            || !p.subject_alt_names.is_empty()
            || !p.key_usages.is_empty()
            || !p.extended_key_usages.is_empty()
            || p.is_ca != CertificateParams::default().is_ca
    }
}
