//! Puts an operator's certificates in order: the leaf is the one whose public key fits the private key, its issuer follows, then that
//! one's issuer, and so on. TLS 1.2 wants them so (RFC 5246 section 7.4.2), DPS wants every one up to an authority that was verified
//! there, and people concatenate files in any order.
//!
//! - An issuer is a certificate whose subject is the other's issuer, whose key identifier is the one the other names (if both name
//!   one), and whose key made the signature. A signature of a kind that cannot be checked here is taken on the strength of the names.
//! - Of several issuers (cross-signing) the straight way takes one that is not self-signed, because more is above it, then the one
//!   that is valid longest. The others stay, behind the straight way: servers that build paths themselves may need them.
//! - A root at the end stays where it was given: TLS allows to leave it out, and DPS may want it.
//! - What is no authority above the leaf goes; what stands twice goes once. Every certificate is taken at most once, so loops end.

use rustls_pki_types::CertificateDer;
use x509_parser::error::X509Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What had to be put right in an operator's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// The certificate that fits the key did not stand first.
    LeafMoved {
        /// Where it stood, counted from 1.
        stood: usize,
    },
    /// The authorities did not stand in the order leaf, issuer, issuer's issuer.
    Reordered,
    /// So many certificates stood there more than once.
    Duplicates(usize),
    /// Certificates that have nothing to do with the leaf, by their subjects.
    Unrelated(Vec<String>),
    /// This file begins with a byte order mark, which was skipped.
    ByteOrderMark(String),
    /// In this file, text follows the last section, which was skipped.
    StrayText(String),
}

impl std::fmt::Display for Repair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LeafMoved { stood } => {
                write!(
                    f,
                    "the certificate that fits the key was put first; it stood as number {stood}"
                )
            }
            Self::Reordered => f.write_str("the authorities were put in order, each behind what it signed"),
            Self::Duplicates(n) => write!(f, "{n} certificates that stood twice were left out"),
            Self::Unrelated(subjects) => write!(
                f,
                "left out, as they are no authorities of this certificate: {}",
                crate::identity::redact_digits(&subjects.join("; "))
            ),
            Self::ByteOrderMark(file) => {
                write!(
                    f,
                    "the byte order mark at the beginning of {file} was skipped; other programs may not"
                )
            }
            Self::StrayText(file) => write!(f, "text behind the last section of {file} was skipped"),
        }
    }
}

/// A chain in order.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) repairs: Vec<Repair>,
}

struct Node<'a> {
    index: usize,
    certificate: X509Certificate<'a>,
}

impl Node<'_> {
    fn key_id(&self) -> Option<&[u8]> {
        self.certificate
            .extensions()
            .iter()
            .find_map(|e| match e.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
                _ => None,
            })
    }

    fn issuer_key_id(&self) -> Option<&[u8]> {
        self.certificate
            .extensions()
            .iter()
            .find_map(|e| match e.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|i| i.0),
                _ => None,
            })
    }

    fn is_issued_by(&self, issuer: &Node<'_>) -> bool {
        if self.certificate.issuer().as_raw() != issuer.certificate.subject().as_raw() {
            return false;
        }
        if let (Some(wanted), Some(has)) = (self.issuer_key_id(), issuer.key_id()) {
            if wanted != has {
                return false;
            }
        }
        matches!(
            self.certificate.verify_signature(Some(issuer.certificate.public_key())),
            Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm)
        )
    }

    /// What is preferred comes first; the same whatever the order in the file.
    fn rank(&self) -> (bool, std::cmp::Reverse<i64>, &[u8]) {
        (
            self.is_issued_by(self),
            std::cmp::Reverse(self.certificate.validity().not_after.timestamp()),
            self.certificate.as_raw(),
        )
    }
}

/// Puts the certificates in order around the one with this public key (SubjectPublicKeyInfo, DER); `None` if none has it. What cannot
/// be read as a certificate is left out: the caller has read them all.
pub(super) fn order(list: Vec<CertificateDer<'static>>, public_key: &[u8]) -> Option<Ordered> {
    let mut repairs = Vec::new();
    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut twice = 0;
    for (index, der) in list.iter().enumerate() {
        if list.iter().take(index).any(|earlier| earlier == der) {
            twice += 1;
        } else if let Ok((_, certificate)) = X509Certificate::from_der(der) {
            nodes.push(Node { index, certificate });
        }
    }
    // Several with one key are renewals of each other: the one that is valid longest.
    let leaf = (0..nodes.len())
        .filter(|n| {
            nodes
                .get(*n)
                .is_some_and(|n| n.certificate.public_key().raw == public_key)
        })
        .min_by(|a, b| match (nodes.get(*a), nodes.get(*b)) {
            // A renewal by the same authority and a self-signed stand-in of the time before: the former first.
            (Some(a), Some(b)) => a.rank().cmp(&b.rank()),
            _ => std::cmp::Ordering::Equal,
        })?;
    let mut path = vec![nodes.swap_remove(leaf)];
    let mut rest = nodes;
    let mut others: Vec<Node<'_>> = Vec::new();
    // Straight up, and then from whatever was passed over, until nothing more is an issuer of anything.
    let mut at = 0;
    let straight = loop {
        let Some(current) = path.get(at) else { break path.len() };
        let (mut issuers, not): (Vec<_>, Vec<_>) = rest.into_iter().partition(|n| current.is_issued_by(n));
        rest = not;
        issuers.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let mut issuers = issuers.into_iter();
        path.extend(issuers.next());
        others.extend(issuers);
        at += 1;
    };
    let mut at = 0;
    while let Some(current) = others.get(at) {
        let (mut issuers, not): (Vec<_>, Vec<_>) = rest.into_iter().partition(|n| current.is_issued_by(n));
        rest = not;
        issuers.sort_by(|a, b| a.rank().cmp(&b.rank()));
        others.extend(issuers);
        at += 1;
    }
    debug_assert_eq!(straight, path.len());
    path.extend(others);

    let stood: Vec<usize> = path.iter().map(|n| n.index).collect();
    if let Some(first) = stood.first().filter(|i| **i != 0) {
        repairs.push(Repair::LeafMoved { stood: first + 1 });
    }
    if !stood.get(1..).unwrap_or_default().is_sorted() {
        repairs.push(Repair::Reordered);
    }
    if twice > 0 {
        repairs.push(Repair::Duplicates(twice));
    }
    if !rest.is_empty() {
        rest.sort_by_key(|n| n.index);
        repairs.push(Repair::Unrelated(
            rest.iter().map(|n| n.certificate.subject().to_string()).collect(),
        ));
    }
    let chain = stood.iter().filter_map(|i| list.get(*i).cloned()).collect();
    Some(Ordered { chain, repairs })
}

#[cfg(all(test, any(feature = "agent", feature = "gateway")))]
mod tests;
