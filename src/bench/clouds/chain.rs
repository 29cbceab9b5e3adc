//! From a client's certificate to an authority that somebody registered: the path that Azure DPS, AWS IoT Core and Event Grid look for
//! when the TLS handshake has proved no more than that the client has its key. No I/O; the time is an argument.
//!
//! Signatures are checked by x509-parser, which, unlike webpki, reads version 1 certificates: DPS and AWS take those, so the stand-ins
//! that look here do too. An issuer between the leaf and the authority must be allowed to sign (basicConstraints cA, RFC 5280 section
//! 4.2.1.9) unless it is of version 1, which cannot say so. A registered authority is one because it was registered.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

/// Longest path, in certificates, leaf and authority included.
pub const PATH_MAX: usize = 8;

/// Why a chain is not good enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The client sent none.
    #[error("there is no client certificate")]
    Empty,
    /// Not X.509.
    #[error("certificate {index} of the chain cannot be read")]
    Unreadable {
        /// Position in the chain; 0 is the leaf.
        index: usize,
    },
    /// Outside its validity.
    #[error("{subject:?} is valid from {from} to {to} only")]
    Time {
        /// The certificate's subject.
        subject: String,
        /// First second, RFC 3339.
        from: String,
        /// Last second, RFC 3339.
        to: String,
    },
    /// Something that may not sign has signed.
    #[error("{0:?} is no authority (basicConstraints) but has signed a certificate of the chain")]
    NotAnAuthority(String),
    /// The path ends before a registered authority.
    #[error(
        "the chain ends at {subject:?}, issued by {issuer:?}, which is neither in the chain nor a registered authority"
    )]
    NoAuthority {
        /// Where the path ends.
        subject: String,
        /// Who would have to follow.
        issuer: String,
    },
}

/// A path that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The registered authorities on it, nearest to the leaf first, as indexes into the list that was searched; never empty.
    pub authorities: Vec<usize>,
}

fn read(der: &[u8], index: usize) -> Result<X509Certificate<'_>, ChainError> {
    X509Certificate::from_der(der)
        .map(|(_, c)| c)
        .map_err(|_| ChainError::Unreadable { index })
}

fn valid(certificate: &X509Certificate<'_>, now: Duration) -> Result<(), ChainError> {
    let second = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&second) {
        return Ok(());
    }
    let text = |t: i64| crate::clock::rfc3339(Duration::from_secs(u64::try_from(t).unwrap_or(0)));
    Err(ChainError::Time {
        subject: certificate.subject().to_string(),
        from: text(validity.not_before.timestamp()),
        to: text(validity.not_after.timestamp()),
    })
}

fn signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    certificate.issuer() == issuer.subject() && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

/// Follows `chain` (leaf first, the rest in any order) upward and names every one of `authorities` (DER) on the way. `now` is the time
/// since the Unix epoch.
///
/// # Errors
/// [`ChainError`].
pub fn follow(
    chain: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'_>],
    now: Duration,
) -> Result<Path, ChainError> {
    let certificates = chain
        .iter()
        .enumerate()
        .map(|(i, der)| read(der, i))
        .collect::<Result<Vec<_>, _>>()?;
    // What cannot be read was never registered.
    let anchors: Vec<_> = authorities
        .iter()
        .enumerate()
        .filter_map(|(i, der)| Some((i, read(der, i).ok()?)))
        .collect();
    let mut current = certificates.first().ok_or(ChainError::Empty)?;
    let mut found = Vec::new();
    for _ in 0..PATH_MAX {
        valid(current, now)?;
        if let Some((index, anchor)) = anchors.iter().find(|(_, anchor)| signed_by(current, anchor)) {
            valid(anchor, now)?;
            found.push(*index);
        }
        let self_signed = signed_by(current, current);
        let next = certificates.iter().skip(1).find(|c| signed_by(current, c));
        match next {
            Some(issuer) if !self_signed => {
                // Also above an authority that was found: else the key of any device could vouch for an authority of its own making.
                let registered = anchors.iter().any(|(_, anchor)| anchor.as_raw() == issuer.as_raw());
                if issuer.version() != X509Version::V1 && !issuer.is_ca() && !registered {
                    return Err(ChainError::NotAnAuthority(issuer.subject().to_string()));
                }
                current = issuer;
            }
            _ => break,
        }
    }
    if found.is_empty() {
        return Err(ChainError::NoAuthority {
            subject: current.subject().to_string(),
            issuer: current.issuer().to_string(),
        });
    }
    found.dedup();
    Ok(Path { authorities: found })
}

#[cfg(test)]
mod tests {
    use super::super::authority::Ca;
    use super::*;
    use crate::clock::Clock;
    use crate::tls::certificates;

    #[test]
    fn the_nearest_authority_comes_first_and_time_and_gaps_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path(), Clock::new()).unwrap();
        let der = |pem: &str| certificates(pem.as_bytes(), "test").unwrap();
        let (root, intermediate) = (der(&ca.root_pem()), der(&ca.intermediate_pem()));
        let now = Clock::new().system();
        let chain = der(&ca.device("d").unwrap().chain_pem);
        let both = [root[0].clone(), intermediate[0].clone()];
        assert_eq!(follow(&chain, &both, now).unwrap().authorities, [1, 0]);
        assert_eq!(follow(&chain[..1], &both, now).unwrap().authorities, [1]);
        assert_eq!(follow(&chain, &root, now).unwrap().authorities, [0]);
        assert!(matches!(
            follow(&chain[..1], &root, now),
            Err(ChainError::NoAuthority { .. })
        ));
        assert_eq!(follow(&[], &both, now), Err(ChainError::Empty));
        let late = now + Duration::from_secs(86_400 * 200);
        assert!(matches!(follow(&chain, &both, late), Err(ChainError::Time { .. })));
        let other = tempfile::tempdir().unwrap();
        let other = Ca::open(other.path(), Clock::new()).unwrap();
        // The same names, other keys.
        let strangers = der(&other.root_pem());
        assert!(matches!(
            follow(&chain, &strangers, now),
            Err(ChainError::NoAuthority { .. })
        ));
        // A leaf that signs: the chain of another leaf with it in between cannot be made with this authority, but garbage can.
        assert_eq!(
            follow(&[CertificateDer::from(vec![0x30, 0])], &both, now),
            Err(ChainError::Unreadable { index: 0 })
        );
    }

    #[test]
    fn the_key_of_a_device_cannot_vouch_for_an_authority_of_its_own_making() {
        use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
        let params = |name: &str, ca: bool| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            if ca {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
            params
        };
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(params("root", true), key()).unwrap();
        let leaf = CertifiedIssuer::signed_by(params("leaf", false), key(), &root).unwrap();
        // An authority that somebody registered, and the same name and key once more, signed by the leaf.
        let own_key = key();
        let own = params("own", true).self_signed(&own_key).unwrap();
        let vouched = params("own", true).signed_by(&own_key, &leaf).unwrap();
        let own_issuer = rcgen::Issuer::new(params("own", true), own_key);
        let device = params("dev", false).signed_by(&key(), &own_issuer).unwrap();
        let chain = [device.der().clone(), vouched.der().clone(), leaf.der().clone()];
        let authorities = [root.der().clone(), own.der().clone()];
        let now = Clock::new().system();
        let refused = follow(&chain, &authorities, now);
        assert_eq!(refused, Err(ChainError::NotAnAuthority("CN=leaf".to_owned())));
        // Without the false witness it is what it is.
        assert_eq!(follow(&chain[..1], &authorities, now).unwrap().authorities, [1]);
    }

    #[test]
    fn a_path_is_bounded() {
        use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
        let params = |name: String| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let mut issuer = CertifiedIssuer::self_signed(params("0".into()), KeyPair::generate().unwrap()).unwrap();
        let root = [issuer.der().clone()];
        let mut chain = Vec::new();
        for n in 1..=PATH_MAX {
            let key = KeyPair::generate().unwrap();
            issuer = CertifiedIssuer::signed_by(params(n.to_string()), key, &issuer).unwrap();
            chain.insert(0, issuer.der().clone());
        }
        let now = Clock::new().system();
        assert_eq!(follow(&chain[1..], &root, now).unwrap().authorities, [0]);
        assert_eq!(follow(&chain, &root, now).unwrap().authorities, [0]);
        let key = KeyPair::generate().unwrap();
        let longer = CertifiedIssuer::signed_by(params("more".into()), key, &issuer).unwrap();
        chain.insert(0, longer.der().clone());
        assert!(matches!(
            follow(&chain, &root, now),
            Err(ChainError::NoAuthority { .. })
        ));
    }
}
