//! A server-side verifier that asks for a client certificate and for proof that the client has its private key, and leaves the question
//! whether that certificate is a good one to whoever owns the connection.
//!
//! Three services decide that after the handshake, not in it: Azure DPS answers an unknown chain with an HTTP status, AWS IoT Core
//! registers an unknown leaf of a known CA just in time, Event Grid can know a client by its thumbprint alone.
//!
//! The proof is checked here rather than by rustls' helpers, because those parse the certificate as version 3 and so refuse the version 1
//! leaves that `openssl x509 -req` of OpenSSL 3.0 makes. The rules are theirs: in TLS 1.3 the scheme names exactly one algorithm and
//! PKCS #1 v1.5 is not allowed (RFC 8446 section 4.4.3); in TLS 1.2 the curve is not part of the scheme, so each algorithm that fits the
//! key is tried (RFC 8422 section 5.1.1).

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, InvalidMessage, PeerMisbehaved, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Longest chain taken from a client, in certificates beside the leaf.
pub const INTERMEDIATES_MAX: usize = 8;

/// Takes every certificate whose private key the client has.
#[derive(Debug)]
pub(super) struct Proven {
    algorithms: WebPkiSupportedAlgorithms,
    required: bool,
}

impl Proven {
    /// `required`: a client without a certificate is turned away.
    pub(super) fn new(algorithms: WebPkiSupportedAlgorithms, required: bool) -> Self {
        Self { algorithms, required }
    }

    fn check(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
        first_only: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| bad())?;
        let spki = certificate.public_key();
        let key_algorithm = algorithm_identifier(spki.raw).ok_or_else(bad)?;
        let (_, candidates) = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == dss.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let candidates = if first_only {
            candidates.get(..1).unwrap_or(candidates)
        } else {
            candidates
        };
        let fits = candidates
            .iter()
            .filter(|a| a.public_key_alg_id().as_ref() == key_algorithm)
            .any(|a| {
                a.verify_signature(&spki.subject_public_key.data, message, dss.signature())
                    .is_ok()
            });
        if fits {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        }
    }
}

impl ClientCertVerifier for Proven {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.len() > INTERMEDIATES_MAX {
            return Err(InvalidMessage::CertificatePayloadTooLarge.into());
        }
        for der in std::iter::once(end_entity).chain(intermediates) {
            X509Certificate::from_der(der).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check(message, cert, dss, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        use SignatureScheme::{RSA_PKCS1_SHA1, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512};
        if matches!(
            dss.scheme,
            RSA_PKCS1_SHA1 | RSA_PKCS1_SHA256 | RSA_PKCS1_SHA384 | RSA_PKCS1_SHA512
        ) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        self.check(message, cert, dss, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The contents of the first SEQUENCE within a SubjectPublicKeyInfo (RFC 5280 section 4.1): what rustls compares an algorithm with.
fn algorithm_identifier(spki: &[u8]) -> Option<&[u8]> {
    contents(contents(spki)?)
}

/// The contents of the SEQUENCE that `der` begins with (X.690 section 8.1.3, at most two length bytes: 64 KiB).
fn contents(der: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (
            usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])),
            rest.get(2..)?,
        ),
        _ => return None,
    };
    (tag == SEQUENCE).then(|| rest.get(..length)).flatten()
}
