//! A root and an intermediate that signs the leaves.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyUsagePurpose};
use zeroize::Zeroizing;

use super::signer::params;
use super::{Csr, Issued, KeyKind, PkiError, Purpose, Signer, Validity};

/// What an authority is to be.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The common names are `<name> Root CA` and `<name> Intermediate CA`.
    pub name: &'a str,
    /// The kind of both keys.
    pub kind: KeyKind,
    /// The time, since the Unix epoch.
    pub now: Duration,
    /// How long the root is valid.
    pub root_for: Duration,
    /// How long the intermediate is valid, at most as long as the root.
    pub intermediate_for: Duration,
}

/// A root and an intermediate that signs the leaves.
pub struct Authority {
    root: Signer,
    intermediate: Signer,
}

/// An [`Authority`] as PEM, for keeping it: the keys belong into files that only their owner can read.
#[derive(Clone)]
pub struct SavedAuthority {
    /// The root certificate.
    pub root_pem: String,
    /// The root's key, PKCS#8.
    pub root_key_pem: Zeroizing<String>,
    /// The intermediate certificate.
    pub intermediate_pem: String,
    /// The intermediate's key, PKCS#8.
    pub intermediate_key_pem: Zeroizing<String>,
}

impl std::fmt::Debug for SavedAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SavedAuthority(certificates and keys)")
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Makes a root and an intermediate with new keys of EC P-256, both valid for so long. `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn generate(name: &str, now: Duration, valid_for: Duration) -> Result<Self, PkiError> {
        Self::plan(&Plan {
            name,
            kind: KeyKind::P256,
            now,
            root_for: valid_for,
            intermediate_for: valid_for,
        })
    }

    /// Makes a root and an intermediate with new keys.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn plan(plan: &Plan<'_>) -> Result<Self, PkiError> {
        let ca = |what: &str, path_length: u8, valid_for: Duration| -> Result<CertificateParams, rcgen::Error> {
            let valid = Validity::new(plan.now, valid_for.min(plan.root_for));
            let mut params = params(&format!("{} {what}", plan.name), valid)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.use_authority_key_identifier_extension = true;
            Ok(params)
        };
        let make = || -> Result<Self, rcgen::Error> {
            let root = CertifiedIssuer::self_signed(ca("Root CA", 1, plan.root_for)?, plan.kind.generate()?)?;
            let intermediate = CertifiedIssuer::signed_by(
                ca("Intermediate CA", 0, plan.intermediate_for)?,
                plan.kind.generate()?,
                &root,
            )?;
            Ok(Self {
                root: Signer::read(&root.pem(), &root.key().serialize_pem())?,
                intermediate: Signer::read(&intermediate.pem(), &intermediate.key().serialize_pem())?,
            })
        };
        make().map_err(PkiError::about(plan.name))
    }

    /// Takes up an authority that was [saved](Self::save). `name` is for the error. Whether the keys fit their certificates is not
    /// looked at here: [`crate::tls::Identity::from_pem`] tells.
    ///
    /// # Errors
    /// [`PkiError`] for damaged certificates or keys.
    pub fn load(name: &str, saved: &SavedAuthority) -> Result<Self, PkiError> {
        Ok(Self {
            root: Signer::load(name, &saved.root_pem, &saved.root_key_pem)?,
            intermediate: Signer::load(name, &saved.intermediate_pem, &saved.intermediate_key_pem)?,
        })
    }

    /// Everything that [`Self::load`] needs, private keys included.
    #[must_use]
    pub fn save(&self) -> SavedAuthority {
        SavedAuthority {
            root_pem: self.root_pem(),
            root_key_pem: self.root.key_pem(),
            intermediate_pem: self.intermediate_pem(),
            intermediate_key_pem: self.intermediate.key_pem(),
        }
    }

    /// The root certificate.
    #[must_use]
    pub fn root_pem(&self) -> String {
        self.root.pem().to_owned()
    }

    /// The intermediate certificate: what Event Grid wants uploaded, because it signs the leaves.
    #[must_use]
    pub fn intermediate_pem(&self) -> String {
        self.intermediate.pem().to_owned()
    }

    /// A new key and a certificate for it.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn issue(
        &self,
        common_name: &str,
        purpose: &Purpose,
        now: Duration,
        valid_for: Duration,
    ) -> Result<Issued, PkiError> {
        let valid = Validity::new(now, valid_for);
        self.intermediate.issue(common_name, purpose, valid, KeyKind::P256)
    }

    /// A device certificate for the key and the subject of a signing request (PKCS #10, PEM), whose signature is checked. Nothing else
    /// that it asks for is granted. Answers the leaf as PEM.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn sign_request(&self, csr_pem: &str, now: Duration, valid_for: Duration) -> Result<String, PkiError> {
        let request = Csr::from_pem(csr_pem)?;
        self.intermediate
            .certify_subject(&request, Validity::new(now, valid_for))
            .map_err(PkiError::about("a signing request"))
    }
}
