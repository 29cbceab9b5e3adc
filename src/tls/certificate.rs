//! Certificates: what a person must know of one, lists of them, and the authorities one trusts.

use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::TlsError;
use super::pem::{Wanted, identify, plain};
use crate::identity::redact_digits;

/// What a person must know of a certificate.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Leaf {
    /// The subject's common name, if it has exactly one that is text.
    pub common_name: Option<String>,
    /// First moment of validity, since the Unix epoch.
    pub not_before: Duration,
    /// Last moment of validity, since the Unix epoch.
    pub not_after: Duration,
    /// X.509 version 1: no extensions; see the module's notes.
    pub is_v1: bool,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A device's name often holds its IMSI.
        f.debug_struct("Leaf")
            .field("common_name", &self.common_name.as_deref().map(redact_digits))
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .field("is_v1", &self.is_v1)
            .finish()
    }
}

/// What else servers may look at.
#[derive(Clone, PartialEq, Eq)]
pub struct Traits {
    /// Its own issuer, as `openssl req -x509` makes it.
    pub is_self_signed: bool,
    /// Why some servers refuse it as a client's, if they do.
    pub unfit: Option<Unfit>,
    /// Other names it proves: DNS names, addresses of mail and IP, URIs.
    pub names: Vec<String>,
}

impl std::fmt::Debug for Traits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.names.iter().map(|name| redact_digits(name)).collect();
        f.debug_struct("Traits")
            .field("is_self_signed", &self.is_self_signed)
            .field("unfit", &self.unfit)
            .field("names", &names)
            .finish()
    }
}

/// Why servers refuse a certificate as a client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is an authority's (basicConstraints CA:TRUE, RFC 5280 section 4.2.1.9).
    Authority,
    /// Its extended key usage leaves out clientAuth (RFC 5280 section 4.2.1.12).
    NotForClients,
}

impl Leaf {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`TlsError::BadCertificate`]; `what` says where it came from.
    pub fn read(der: &CertificateDer<'_>, what: &str) -> Result<Self, TlsError> {
        let certificate = parse(der, what)?;
        let names: Vec<_> = certificate.subject().iter_common_name().collect();
        let seconds = |t: i64| Duration::from_secs(u64::try_from(t).unwrap_or(0));
        Ok(Self {
            common_name: match names.as_slice() {
                [one] => one.as_str().ok().map(str::to_owned),
                _ => None,
            },
            not_before: seconds(certificate.validity().not_before.timestamp()),
            not_after: seconds(certificate.validity().not_after.timestamp()),
            is_v1: certificate.version() == X509Version::V1,
        })
    }
}

impl Traits {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`TlsError::BadCertificate`]; `what` says where it came from.
    pub fn read(der: &CertificateDer<'_>, what: &str) -> Result<Self, TlsError> {
        let certificate = parse(der, what)?;
        Ok(Self {
            is_self_signed: certificate.issuer() == certificate.subject() && certificate.verify_signature(None).is_ok(),
            unfit: unfit(&certificate),
            names: other_names(&certificate),
        })
    }
}

fn unfit(certificate: &X509Certificate<'_>) -> Option<Unfit> {
    if certificate.is_ca() {
        return Some(Unfit::Authority);
    }
    let usage = certificate.extended_key_usage().ok()??.value;
    (!usage.client_auth && !usage.any).then_some(Unfit::NotForClients)
}

fn other_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(n) | GeneralName::RFC822Name(n) | GeneralName::URI(n) => Some((*n).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|b| std::net::IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|b| std::net::IpAddr::from(b).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>, what: &str) -> Result<X509Certificate<'a>, TlsError> {
    X509Certificate::from_der(der)
        .map(|(_, c)| c)
        .map_err(|e| TlsError::BadCertificate {
            what: what.to_owned(),
            why: format!("what it holds is no X.509 certificate ({e})"),
        })
}

/// All certificates of a PEM text, in its order.
///
/// # Errors
/// [`TlsError::NoCertificate`], [`TlsError::BadCertificate`], [`TlsError::Other`]; `what` says where the text came from.
pub fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |why: String| TlsError::BadCertificate {
        what: what.to_owned(),
        why,
    };
    let text = plain(pem);
    let list: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| match e {
            PemError::MissingSectionEnd { .. } => bad("it ends before its -----END line: it was cut off".to_owned()),
            PemError::Base64Decode(_) => {
                bad("between its BEGIN and END lines is something that is no base64".to_owned())
            }
            other => bad(other.to_string()),
        })?;
    if list.is_empty() {
        return Err(match identify(pem, Wanted::Certificate) {
            Some(found) => TlsError::Other {
                what: what.to_owned(),
                wanted: Wanted::Certificate,
                found,
            },
            None => TlsError::NoCertificate(what.to_owned()),
        });
    }
    for der in &list {
        parse(der, what)?;
    }
    Ok(list)
}

/// Authorities from a PEM text.
///
/// # Errors
/// [`TlsError`], naming `what`.
pub fn roots(pem: &[u8], what: &str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for der in certificates(pem, what)? {
        store.add(der).map_err(|e| TlsError::BadCertificate {
            what: what.to_owned(),
            why: e.to_string(),
        })?;
    }
    Ok(store)
}

/// The operating system's authorities (`ca-certificates`).
///
/// # Errors
/// [`TlsError::NoSystemRoots`].
pub fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        Err(TlsError::NoSystemRoots)
    } else {
        Ok(store)
    }
}
