//! The certificates that DPS issues for a signing request (preview 2025-07-01): put in order, and known to be ours.
//!
//! `issuedCertificateChain` is a list of up to three certificates, and the sources contradict each other on its order: Microsoft's tests
//! have the root first, another's client takes the first for the leaf. So the index means nothing here: the leaf is the certificate for
//! our key, and each next one is whoever issued the one before. Each is base64 of DER; PEM is taken too, because nobody says that it
//! cannot be (inferred).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest, X509Error};

use super::name::RegistrationId;

/// Most certificates that are looked at (documented are up to 3; the rest is room for another hierarchy).
pub const CHAIN_MAX: usize = 8;

/// Why the issued certificates cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuedError {
    /// There are none.
    #[error("the device is assigned, but issuedCertificateChain is missing")]
    Missing,
    /// One is not a certificate.
    #[error("number {index} of issuedCertificateChain is no certificate")]
    Damaged {
        /// Which, from 1.
        index: usize,
    },
    /// More than make sense.
    #[error("issuedCertificateChain holds {0} certificates, more than {CHAIN_MAX}")]
    TooMany(usize),
    /// None is for our key.
    #[error("none of the {0} certificates is for the key of the signing request")]
    NotOurs(usize),
    /// It is for somebody else.
    #[error("the common name is {found:?}, not the registration id that was asked for")]
    Name {
        /// What it says, redacted.
        found: String,
    },
}

impl IssuedError {
    /// What a person can do.
    #[must_use]
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Missing => {
                "give the enrolment a certificate policy (Azure Device Registry, preview), or set credentials.csr = false to use the \
                 operator's certificate at the hub too"
            }
            _ => "look at the certificate policy of the enrolment (preview); credentials.csr = false does without it",
        }
    }
}

fn decode(text: &str) -> Option<CertificateDer<'static>> {
    let text = text.trim();
    if text.starts_with("-----BEGIN") {
        return CertificateDer::from_pem_slice(text.as_bytes()).ok();
    }
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).ok().map(CertificateDer::from)
}

/// Whether `issuer` signed `certificate`. An algorithm that cannot be checked here is left to the hub, whose business it is.
fn issued_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    certificate.issuer() == issuer.subject()
        && matches!(
            certificate.verify_signature(Some(issuer.public_key())),
            Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm)
        )
}

/// The chain as PEM, leaf first, for the key of `request` (PKCS #10, DER) and in the name of `id`. What does not belong to the chain is
/// left out.
///
/// # Errors
/// [`IssuedError`].
pub fn chain(list: &[String], request: &[u8], id: &RegistrationId) -> Result<String, IssuedError> {
    if list.is_empty() {
        return Err(IssuedError::Missing);
    }
    if list.len() > CHAIN_MAX {
        return Err(IssuedError::TooMany(list.len()));
    }
    let ders: Vec<CertificateDer<'static>> = list
        .iter()
        .enumerate()
        .map(|(i, text)| decode(text).ok_or(IssuedError::Damaged { index: i + 1 }))
        .collect::<Result<_, _>>()?;
    let certificates: Vec<X509Certificate<'_>> = ders
        .iter()
        .enumerate()
        .map(|(i, der)| {
            let read = X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty());
            read.map(|(_, c)| c).ok_or(IssuedError::Damaged { index: i + 1 })
        })
        .collect::<Result<_, _>>()?;
    let not_ours = IssuedError::NotOurs(certificates.len());
    let (_, request) = X509CertificationRequest::from_der(request).map_err(|_| not_ours.clone())?;
    let key = request.certification_request_info.subject_pki.raw;
    let mut at = certificates
        .iter()
        .position(|c| c.public_key().raw == key)
        .ok_or(not_ours)?;
    let names: Vec<_> = certificates[at].subject().iter_common_name().collect();
    let name = match names.as_slice() {
        [one] => one.as_str().unwrap_or_default(),
        _ => "",
    };
    if !id.is(name) {
        return Err(IssuedError::Name {
            found: crate::identity::redact_digits(name),
        });
    }
    let mut order = vec![at];
    while let Some(next) = (0..certificates.len())
        .filter(|i| !order.contains(i))
        .find(|i| issued_by(&certificates[at], &certificates[*i]))
    {
        order.push(next);
        at = next;
    }
    Ok(order.iter().map(|i| pem(&ders[*i])).collect())
}

/// A certificate as RFC 7468 writes it.
fn pem(der: &[u8]) -> String {
    const LINE: usize = 64;
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
#[cfg(feature = "agent")]
mod tests;
