//! Making certificates: an authority (root and intermediate), device leaves and server certificates, all EC P-256.
//!
//! rcgen's defaults are not taken where they would hurt: serial numbers are random (rcgen derives them from the key, so a re-issue
//! would repeat one), and validity is what the caller says (rcgen's runs to the year 4096). A device leaf has exactly one common name
//! and clientAuth, because Event Grid, DPS and AWS identify a device by it.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use zeroize::Zeroizing;

/// Certificates are valid from this long before they are made, for devices whose clock is a little behind.
const BACKDATE: Duration = Duration::from_secs(3_600);
/// Bytes of randomness in a serial number (RFC 5280 section 4.1.2.2 allows 20; CA/Browser Forum asks for at least 8).
const SERIAL_BYTES: usize = 16;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the certificate for {name:?}: {source}")]
pub struct PkiError {
    name: String,
    source: rcgen::Error,
}

/// A certificate chain and its private key as PEM. The key is never printed.
#[derive(Clone)]
pub struct Issued {
    /// Leaf first, then the intermediate.
    pub chain_pem: String,
    /// The leaf alone (what step CLI writes without `--bundle`).
    pub leaf_pem: String,
    /// PKCS#8.
    pub key_pem: zeroize::Zeroizing<String>,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued(certificate and key)")
    }
}

/// A root and an intermediate that signs the leaves.
pub struct Authority {
    root: Signer,
    intermediate: Signer,
}

/// One certificate that signs others, with its key.
struct Signer {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    fn load(pem: &str, key_pem: &str) -> Result<Self, rcgen::Error> {
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(pem, KeyPair::from_pem(key_pem)?)?,
            pem: pem.to_owned(),
        })
    }

    fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }
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

/// What a leaf is for.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// A device that connects: clientAuth.
    Device,
    /// A server under these DNS names and IP addresses: serverAuth.
    Server(Vec<String>),
}

impl Authority {
    /// Makes a root and an intermediate with new keys. `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn generate(name: &str, now: Duration, valid_for: Duration) -> Result<Self, PkiError> {
        let failed = |source| PkiError {
            name: name.to_owned(),
            source,
        };
        let ca = |common_name: String, path_length: u8| -> Result<CertificateParams, rcgen::Error> {
            let mut params = params(&common_name, now, valid_for)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            Ok(params)
        };
        let make = || -> Result<Self, rcgen::Error> {
            let root = CertifiedIssuer::self_signed(ca(format!("{name} Root CA"), 1)?, KeyPair::generate()?)?;
            let intermediate =
                CertifiedIssuer::signed_by(ca(format!("{name} Intermediate CA"), 0)?, KeyPair::generate()?, &root)?;
            Ok(Self {
                root: Signer::load(&root.pem(), &root.key().serialize_pem())?,
                intermediate: Signer::load(&intermediate.pem(), &intermediate.key().serialize_pem())?,
            })
        };
        make().map_err(failed)
    }

    /// Takes up an authority that was [saved](Self::save). `name` is for the error. Whether the keys fit their certificates is not
    /// looked at here: [`crate::tls::Identity::from_pem`] tells.
    ///
    /// # Errors
    /// [`PkiError`] for damaged certificates or keys.
    pub fn load(name: &str, saved: &SavedAuthority) -> Result<Self, PkiError> {
        let load = || -> Result<Self, rcgen::Error> {
            Ok(Self {
                root: Signer::load(&saved.root_pem, &saved.root_key_pem)?,
                intermediate: Signer::load(&saved.intermediate_pem, &saved.intermediate_key_pem)?,
            })
        };
        load().map_err(|source| PkiError {
            name: name.to_owned(),
            source,
        })
    }

    /// Everything that [`Self::load`] needs, private keys included.
    #[must_use]
    pub fn save(&self) -> SavedAuthority {
        SavedAuthority {
            root_pem: self.root.pem.clone(),
            root_key_pem: self.root.key_pem(),
            intermediate_pem: self.intermediate.pem.clone(),
            intermediate_key_pem: self.intermediate.key_pem(),
        }
    }

    /// The root certificate.
    #[must_use]
    pub fn root_pem(&self) -> String {
        self.root.pem.clone()
    }

    /// The intermediate certificate: what Event Grid wants uploaded, because it signs the leaves.
    #[must_use]
    pub fn intermediate_pem(&self) -> String {
        self.intermediate.pem.clone()
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
        let make = || -> Result<Issued, rcgen::Error> {
            let mut params = match purpose {
                Purpose::Device => params(common_name, now, valid_for)?,
                Purpose::Server(names) => {
                    let mut p = params(common_name, now, valid_for)?;
                    p.subject_alt_names = CertificateParams::new(names.clone())?.subject_alt_names;
                    p
                }
            };
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![match purpose {
                Purpose::Device => ExtendedKeyUsagePurpose::ClientAuth,
                Purpose::Server(_) => ExtendedKeyUsagePurpose::ServerAuth,
            }];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            let leaf_pem = params.signed_by(&key, &self.intermediate.issuer)?.pem();
            Ok(Issued {
                chain_pem: format!("{leaf_pem}{}", self.intermediate.pem),
                leaf_pem,
                key_pem: zeroize::Zeroizing::new(key.serialize_pem()),
            })
        };
        make().map_err(|source| PkiError {
            name: common_name.to_owned(),
            source,
        })
    }

    /// A device certificate for the key and the subject of a signing request (PKCS #10, PEM), whose signature is checked. Nothing else
    /// that it asks for is granted. Answers the leaf as PEM.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn sign_request(&self, csr_pem: &str, now: Duration, valid_for: Duration) -> Result<String, PkiError> {
        let make = || -> Result<String, rcgen::Error> {
            let mut request = CertificateSigningRequestParams::from_pem(csr_pem)?;
            let mut granted = params("", now, valid_for)?;
            granted.distinguished_name = request.params.distinguished_name;
            granted.is_ca = IsCa::ExplicitNoCa;
            granted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            granted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            granted.use_authority_key_identifier_extension = true;
            request.params = granted;
            Ok(request.signed_by(&self.intermediate.issuer)?.pem())
        };
        make().map_err(|source| PkiError {
            name: "a signing request".into(),
            source,
        })
    }
}

fn params(common_name: &str, now: Duration, valid_for: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let second = |t: Duration| Duration::from_secs(t.as_secs());
    params.not_before = epoch + second(now.saturating_sub(BACKDATE));
    params.not_after = epoch + second(now.saturating_add(valid_for));
    let mut serial = [0_u8; SERIAL_BYTES];
    let _ = rustls::crypto::ring::default_provider().secure_random.fill(&mut serial);
    serial[0] = serial[0] & 0x7f | 0x40; // positive, and never shorter than its bytes
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{Identity, certificates};
    use x509_parser::prelude::FromDer;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn leaves_fit_their_keys_and_say_who_they_are() {
        let ca = Authority::generate("Test", NOW, 100 * DAY).unwrap();
        let issued = ca.issue("myClient-1", &Purpose::Device, NOW, DAY).unwrap();
        let id = Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), "test").unwrap();
        assert_eq!(id.leaf.common_name.as_deref(), Some("myClient-1"));
        assert_eq!((id.leaf.not_before, id.leaf.not_after), (NOW - BACKDATE, NOW + DAY));
        assert!(!id.leaf.is_v1);
        assert_eq!(id.chain().len(), 2);
    }

    #[test]
    fn another_key_is_noticed() {
        let ca = Authority::generate("Test", NOW, DAY).unwrap();
        let a = ca.issue("a", &Purpose::Device, NOW, DAY).unwrap();
        let b = ca.issue("a", &Purpose::Device, NOW, DAY).unwrap();
        let e = Identity::from_pem(a.chain_pem.as_bytes(), b.key_pem.as_bytes(), "a.pem").unwrap_err();
        assert_eq!(e, crate::tls::TlsError::Mismatch("a.pem".into()));
    }

    #[test]
    fn a_saved_authority_goes_on_where_it_was() {
        let ca = Authority::generate("Test", NOW, 100 * DAY).unwrap();
        let again = Authority::load("Test", &ca.save()).unwrap();
        assert_eq!(again.root_pem(), ca.root_pem());
        let issued = again.issue("d", &Purpose::Device, NOW, DAY).unwrap();
        let chain = certificates(issued.chain_pem.as_bytes(), "x").unwrap();
        let parse = |der| x509_parser::certificate::X509Certificate::from_der(der).unwrap().1;
        let (leaf, intermediate) = (parse(&chain[0]), parse(&chain[1]));
        assert_eq!(leaf.issuer().as_raw(), intermediate.subject().as_raw());
        leaf.verify_signature(Some(intermediate.public_key())).unwrap();
        let mut damaged = ca.save();
        damaged.intermediate_key_pem = String::from("no key").into();
        assert!(Authority::load("Test", &damaged).is_err());
    }

    #[test]
    fn a_request_gets_its_key_and_subject_certified_and_nothing_else() {
        let ca = Authority::generate("Test", NOW, 100 * DAY).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::new(vec!["server.example".into()]).unwrap();
        wish.distinguished_name = rcgen::DistinguishedName::new();
        wish.distinguished_name.push(DnType::CommonName, "thing-1");
        wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
        let leaf = ca.sign_request(&csr, NOW, DAY).unwrap();
        let id = Identity::from_pem(leaf.as_bytes(), key.serialize_pem().as_bytes(), "test").unwrap();
        assert_eq!(id.leaf.common_name.as_deref(), Some("thing-1"));
        assert_eq!(id.leaf.not_after, NOW + DAY);
        let der = certificates(leaf.as_bytes(), "x").unwrap().remove(0);
        let (_, read) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
        assert!(read.subject_alternative_name().unwrap().is_none() && !read.is_ca());
        let usage = read.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        for bad in ["", "no request", &leaf] {
            assert!(ca.sign_request(bad, NOW, DAY).is_err());
        }
    }

    #[test]
    fn two_issues_never_share_a_serial() {
        let ca = Authority::generate("Test", NOW, DAY).unwrap();
        let serial = |pem: &str| {
            let der = certificates(pem.as_bytes(), "x").unwrap().remove(0);
            x509_parser::certificate::X509Certificate::from_der(&der)
                .unwrap()
                .1
                .raw_serial()
                .to_vec()
        };
        let a = ca.issue("a", &Purpose::Device, NOW, DAY).unwrap();
        let b = ca.issue("a", &Purpose::Device, NOW, DAY).unwrap();
        assert_ne!(serial(&a.leaf_pem), serial(&b.leaf_pem));
        assert_eq!(serial(&a.leaf_pem).len(), SERIAL_BYTES);
    }
}
