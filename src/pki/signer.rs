//! One certificate that signs others, with its key.

use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::{Csr, Issued, KeyKind, PkiError, Purpose, Validity};

/// Bytes of randomness in a serial number (RFC 5280 section 4.1.2.2 allows 20; CA/Browser Forum asks for at least 8).
pub(super) const SERIAL_BYTES: usize = 16;

/// A certificate that signs others, with its key.
pub struct Signer {
    pem: String,
    validity: Validity,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// Takes up a certificate and its key, both PEM. Whether they fit is not looked at here: [`crate::tls::Identity::from_pem`] tells.
    ///
    /// # Errors
    /// [`PkiError`] for damaged ones; `name` is for the error.
    pub fn load(name: &str, pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        Self::read(pem, key_pem).map_err(PkiError::about(name))
    }

    pub(super) fn read(pem: &str, key_pem: &str) -> Result<Self, rcgen::Error> {
        let unreadable = || rcgen::Error::CouldNotParseCertificate;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| unreadable())?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| unreadable())?;
        let seconds = |t: i64| Duration::from_secs(u64::try_from(t).unwrap_or(0));
        let validity = Validity {
            from: seconds(certificate.validity().not_before.timestamp()),
            until: seconds(certificate.validity().not_after.timestamp()),
        };
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(pem, KeyPair::from_pem(key_pem)?)?,
            pem: pem.to_owned(),
            validity,
        })
    }

    /// The certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// When the certificate is valid; what it signs may not be valid longer.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The private key, PKCS#8.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// A new key and a certificate for it.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn issue(
        &self,
        common_name: &str,
        purpose: &Purpose,
        validity: Validity,
        kind: KeyKind,
    ) -> Result<Issued, PkiError> {
        let key = kind.generate().map_err(PkiError::about(common_name))?;
        self.leaf(common_name, purpose, validity, key)
    }

    /// A certificate for a key that is there already (PEM).
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn issue_for(
        &self,
        common_name: &str,
        purpose: &Purpose,
        validity: Validity,
        key_pem: &str,
    ) -> Result<Issued, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(PkiError::about(common_name))?;
        self.leaf(common_name, purpose, validity, key)
    }

    fn leaf(&self, common_name: &str, purpose: &Purpose, validity: Validity, key: KeyPair) -> Result<Issued, PkiError> {
        let make = || -> Result<Issued, rcgen::Error> {
            let leaf_pem = leaf_params(common_name, purpose, validity)?
                .signed_by(&key, &self.issuer)?
                .pem();
            Ok(Issued {
                chain_pem: format!("{leaf_pem}{}", self.pem),
                leaf_pem,
                key_pem: Zeroizing::new(key.serialize_pem()),
            })
        };
        make().map_err(PkiError::about(common_name))
    }

    /// A certificate for the key of a request, under this common name and no other; nothing else that the request asks for is granted.
    /// Answers the leaf as PEM.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn certify(
        &self,
        request: &Csr,
        common_name: &str,
        purpose: &Purpose,
        validity: Validity,
    ) -> Result<String, PkiError> {
        leaf_params(common_name, purpose, validity)
            .and_then(|params| self.sign(request, params))
            .map_err(PkiError::about(common_name))
    }

    /// A device certificate for the key and the whole subject of a request.
    pub(super) fn certify_subject(&self, request: &Csr, validity: Validity) -> Result<String, rcgen::Error> {
        let mut params = leaf_params("", &Purpose::Device, validity)?;
        params.distinguished_name = request.subject()?;
        self.sign(request, params)
    }

    fn sign(&self, request: &Csr, params: CertificateParams) -> Result<String, rcgen::Error> {
        Ok(params.signed_by(&request.key, &self.issuer)?.pem())
    }
}

fn leaf_params(common_name: &str, purpose: &Purpose, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(common_name, validity)?;
    if let Purpose::Server(names) = purpose {
        params.subject_alt_names = CertificateParams::new(names.clone())?.subject_alt_names;
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match purpose {
        Purpose::Device => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Purpose::Server(_) => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Purpose::Proof => vec![],
    };
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

pub(super) fn params(common_name: &str, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    validity.put(&mut params);
    let mut serial = [0_u8; SERIAL_BYTES];
    crate::tls::provider()
        .secure_random
        .fill(&mut serial)
        .map_err(|_| rcgen::Error::RingUnspecified)?;
    serial[0] = serial[0] & 0x7f | 0x40; // positive, and never shorter than its bytes
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}
