//! Making certificates: an authority (root and intermediate), device leaves, server certificates and proofs of possession.
//!
//! rcgen's defaults are not taken where they would hurt: serial numbers are random (rcgen derives them from the key, so a re-issue
//! would repeat one), and validity is what the caller says (rcgen's runs to the year 4096). A device leaf has exactly one common name
//! and clientAuth, because Event Grid, DPS and AWS identify a device by it.
//!
//! | file | subject |
//! |---|---|
//! | `authority` | a root and an intermediate together |
//! | `signer` | one certificate that signs others |
//! | `request` | a signing request that somebody else made |
//! | `validity` | from when until when |

mod authority;
mod request;
mod signer;
mod validity;

#[cfg(test)]
mod tests;

use rcgen::KeyPair;
use zeroize::Zeroizing;

pub use authority::{Authority, Plan, SavedAuthority};
pub use request::Csr;
pub use signer::Signer;
pub use validity::Validity;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the certificate for {name:?}: {source}")]
pub struct PkiError {
    name: String,
    source: rcgen::Error,
}

impl PkiError {
    fn about(name: &str) -> impl FnOnce(rcgen::Error) -> Self {
        let name = name.to_owned();
        move |source| Self { name, source }
    }
}

/// Kinds of key that are made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// ECDSA on P-256 with SHA-256: short, and taken by all three clouds.
    #[default]
    P256,
    /// ECDSA on P-384 with SHA-384.
    P384,
}

impl KeyKind {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        KeyPair::generate_for(match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        })
    }
}

/// A certificate chain and its private key as PEM. The key is never printed.
#[derive(Clone)]
pub struct Issued {
    /// Leaf first, then the one that signed it.
    pub chain_pem: String,
    /// The leaf alone (what step CLI writes without `--bundle`).
    pub leaf_pem: String,
    /// PKCS#8.
    pub key_pem: Zeroizing<String>,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued(certificate and key)")
    }
}

/// What a leaf is for.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// A device that connects: clientAuth.
    Device,
    /// A server under these DNS names and IP addresses: serverAuth.
    Server(Vec<String>),
    /// A proof that the authority's key is at hand: its common name is the code that a cloud has given, and it is good for nothing
    /// else (Microsoft, "How to do proof of possession for X.509 CA certificates"; AWS, "Register your CA certificate").
    Proof,
}
