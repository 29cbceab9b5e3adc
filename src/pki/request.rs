//! A signing request (PKCS #10, RFC 2986) that somebody else made, with a key that stays there.
//!
//! rcgen's own reader is not used for the key: it takes the curve from the request's signature algorithm, so that a P-384 key in a
//! request signed with SHA-256 (openssl's default) would be certified as a P-256 key, which nobody could use.

use rcgen::{CertificateSigningRequestParams, DistinguishedName, Error, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::PkiError;

/// A request whose signature is good: who made it has the key.
#[derive(Debug, Clone)]
pub struct Csr {
    der: CertificateSigningRequestDer<'static>,
    common_name: Option<String>,
    asks_for_more: bool,
    pub(super) key: SubjectPublicKeyInfo,
}

impl Csr {
    /// Reads a request as PEM and checks its signature.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn from_pem(pem: &str) -> Result<Self, PkiError> {
        Self::read(pem).map_err(PkiError::about("a signing request"))
    }

    fn read(pem: &str) -> Result<Self, Error> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| Error::CouldNotParseCertificationRequest)?;
        let (_, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| Error::CouldNotParseCertificationRequest)?;
        request
            .verify_signature()
            .map_err(|_| Error::InvalidCertificationRequestSignature)?;
        let info = &request.certification_request_info;
        let names: Vec<_> = info.subject.iter_common_name().collect();
        let common_name = match names.as_slice() {
            [one] => one.as_str().ok().map(str::to_owned),
            _ => None,
        };
        let extensions = request.requested_extensions().is_some_and(|mut e| e.next().is_some());
        let asks_for_more = extensions || info.subject.iter_attributes().count() > names.len();
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)?;
        Ok(Self {
            common_name,
            asks_for_more,
            key,
            der,
        })
    }

    /// The only common name of its subject, if it is text.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Whether its subject says more than a common name, or it asks for extensions.
    #[must_use]
    pub fn asks_for_more(&self) -> bool {
        self.asks_for_more
    }

    /// The whole subject.
    pub(super) fn subject(&self) -> Result<DistinguishedName, Error> {
        CertificateSigningRequestParams::from_der(&self.der).map(|r| r.params.distinguished_name)
    }
}
