//! Certificates that the service issues for signing requests (preview 2025-07-01).
//!
//! The issuing authority is the service's own and no other's: whoever trusts the bench's authority does not trust it, so that a client
//! which goes on with the certificate it came with is noticed at the hub. The chain is answered in a random order, because the sources
//! contradict each other on which comes first: a client has to find out by itself.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_SIG_ECDSA_WITH_SHA384};
use x509_parser::prelude::FromDer;

use super::name::RegistrationId;
use crate::bench::clouds::policy::Rule;
use crate::bench::clouds::policy::dps::{self as rules, Fault};
use crate::pki::{Authority, PkiError};
use crate::tls;

const DAY: Duration = Duration::from_secs(86_400);
/// The authority lives this long; it is made anew with each service.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(3_650 * DAY.as_secs());

/// What was issued for a signing request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Issued {
    /// Leaf, intermediate and root in any order, each base64 of DER.
    pub(super) chain: Vec<String>,
    /// Who is to be trusted.
    pub(super) root: CertificateDer<'static>,
    /// The common name.
    pub(super) name: String,
}

/// Who issues.
#[derive(Debug)]
pub(super) struct Issuer(Authority);

fn refused(rule: &'static Rule, detail: impl Into<String>) -> Fault {
    Fault::new(rule, 400_004, "The certificate signing request is not valid.", detail)
}

fn trouble(why: impl std::fmt::Display) -> Fault {
    Fault::new(
        &rules::CSR,
        500_001,
        "The certificate could not be issued.",
        why.to_string(),
    )
}

/// A signing request that keeps the rules.
#[derive(Debug)]
pub(super) struct Wish {
    pem: String,
    name: String,
}

impl Wish {
    /// Reads the `csr` of a register request.
    ///
    /// # Errors
    /// 400.
    pub(super) fn read(text: &str, id: &RegistrationId) -> Result<Self, Fault> {
        let der = STANDARD
            .decode(text)
            .map_err(|e| refused(&rules::CSR, format!("csr is not base64: {e}")))?;
        let (rest, request) = X509CertificationRequest::from_der(&der)
            .map_err(|e| refused(&rules::CSR, format!("csr is no PKCS #10 request: {e}")))?;
        if !rest.is_empty() {
            return Err(refused(&rules::CSR, format!("{} bytes follow the request", rest.len())));
        }
        let info = &request.certification_request_info;
        let key = &info.subject_pki.algorithm;
        let curve = key.parameters.as_ref().and_then(|p| p.as_oid().ok());
        let signed = &request.signature_algorithm.algorithm;
        if key.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve.as_ref() != Some(&OID_NIST_EC_P384) {
            let detail = format!("the key is {} on {curve:?}, expected EC on P-384", key.algorithm);
            return Err(refused(&rules::CSR_KEY, detail));
        }
        if *signed != OID_SIG_ECDSA_WITH_SHA384 {
            let detail = format!("the request is signed with {signed}, expected ECDSA with SHA-384");
            return Err(refused(&rules::CSR_KEY, detail));
        }
        request
            .verify_signature()
            .map_err(|e| refused(&rules::CSR, format!("the signature of csr is not by its key: {e}")))?;
        let names: Vec<_> = info
            .subject
            .iter_common_name()
            .filter_map(|n| n.as_str().ok())
            .collect();
        match names.as_slice() {
            [name] if id.is(name) => Ok(Self {
                pem: format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n"),
                name: (*name).to_owned(),
            }),
            other => {
                let detail = format!("the common name of csr is {other:?}, the registration id is {id}");
                Err(refused(&rules::CSR_NAME, detail))
            }
        }
    }
}

impl Issuer {
    /// A new one. `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// 500.
    pub(super) fn new(now: Duration) -> Result<Self, Fault> {
        Authority::generate("Onyx bench issuing", now, AUTHORITY_VALIDITY)
            .map(Self)
            .map_err(trouble)
    }

    /// Issues what was wished for. `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// 500.
    pub(super) fn issue(&self, wish: Wish, days: u64, now: Duration, rng: &mut fastrand::Rng) -> Result<Issued, Fault> {
        let days = DAY * u32::try_from(days).unwrap_or(1);
        let leaf = self
            .0
            .sign_request(&wish.pem, now, days)
            .map_err(|e: PkiError| trouble(e))?;
        let pem = format!("{leaf}{}{}", self.0.intermediate_pem(), self.0.root_pem());
        let ders = tls::certificates(pem.as_bytes(), "what was issued").map_err(trouble)?;
        let mut chain: Vec<String> = ders.iter().map(|der| STANDARD.encode(der)).collect();
        rng.shuffle(&mut chain);
        Ok(Issued {
            chain,
            root: ders.last().cloned().ok_or_else(|| trouble("there is no root"))?,
            name: wish.name,
        })
    }
}
