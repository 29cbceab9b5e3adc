//! A private key with the certificates that go with it.

use std::sync::Arc;

use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::CertificateDer;

use super::chain::{self, Repair};
use super::pem::{has_bom, has_stray_end, plain};
use super::{Leaf, TlsError, Traits, certificates, key};

/// Most certificates that are read with a key: a leaf and its authorities are four or five, a system's trust store is 150.
pub const CERTIFICATES_MAX: usize = 32;

/// PEM text and where it came from, for messages.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// The text.
    pub text: &'a [u8],
    /// The file's name, or who gave it.
    pub from: &'a str,
}

/// A certificate chain with its private key, known to fit each other.
#[derive(Clone)]
pub struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    /// What the first certificate says.
    pub leaf: Leaf,
    /// What else it says that servers may look at.
    pub traits: Traits,
    /// What had to be put right.
    pub repairs: Vec<Repair>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.leaf).finish()
    }
}

impl Identity {
    /// Reads certificates and their key (PKCS#8, PKCS#1 or SEC1) that came from one place, `what`. See [`Self::of`].
    ///
    /// # Errors
    /// [`TlsError`], each naming `what`.
    pub fn from_pem(certificates: &[u8], key: &[u8], what: &str) -> Result<Self, TlsError> {
        let pem = |text| Pem { text, from: what };
        Self::of(pem(certificates), pem(key))
    }

    /// Reads certificates and their key (PKCS#8, PKCS#1 or SEC1). The leaf is the certificate that the key fits, wherever it stands;
    /// the others are put in order behind it, and [`Self::repairs`] says what was done.
    ///
    /// # Errors
    /// [`TlsError`], each naming where the text came from.
    pub fn of(given: Pem<'_>, key_pem: Pem<'_>) -> Result<Self, TlsError> {
        let list = certificates(given.text, given.from)?;
        if list.len() > CERTIFICATES_MAX {
            return Err(TlsError::TooManyCertificates {
                what: given.from.to_owned(),
                max: CERTIFICATES_MAX,
            });
        }
        let signer = key::read(key_pem.text, key_pem.from)?;
        let mismatch = || {
            TlsError::Mismatch(if given.from == key_pem.from {
                given.from.to_owned()
            } else {
                format!("{} and {}", given.from, key_pem.from)
            })
        };
        let public = signer.public_key().ok_or_else(mismatch)?;
        let ordered = chain::order(list, public.as_ref()).ok_or_else(mismatch)?;
        let first = ordered.chain.first().ok_or_else(mismatch)?;
        let (leaf, traits) = (Leaf::read(first, given.from)?, Traits::read(first, given.from)?);
        let mut repairs = ordered.repairs;
        let mut files = vec![given];
        if key_pem.from != given.from {
            files.push(key_pem);
        }
        for file in files {
            if has_bom(file.text) {
                repairs.push(Repair::ByteOrderMark(file.from.to_owned()));
            }
            if has_stray_end(&plain(file.text)) {
                repairs.push(Repair::StrayText(file.from.to_owned()));
            }
        }
        drop(public);
        Ok(Self {
            key: Arc::new(CertifiedKey::new(ordered.chain, signer)),
            leaf,
            traits,
            repairs,
        })
    }

    /// Shows this identity to every client.
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(SingleCertAndKey::from(self.key.clone()))
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }
}
