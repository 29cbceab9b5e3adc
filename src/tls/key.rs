//! Reading a private key: PKCS#8, PKCS#1 (`RSA PRIVATE KEY`, as AWS's console gives) and SEC1 (`EC PRIVATE KEY`, as step writes, also
//! behind the `EC PARAMETERS` block of `openssl ecparam`). ring signs with RSA of 2048 to 4096 bits, EC P-256 and P-384, and Ed25519.

use std::sync::Arc;

use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::{Error as PemError, PemObject};

use super::TlsError;
use super::pem::{Wanted, identify, is_key, labels, plain};

/// Reads the key; `what` says where it came from.
pub(super) fn read(pem: &[u8], what: &str) -> Result<Arc<dyn SigningKey>, TlsError> {
    let der = private_key(pem, what)?;
    let why = why_not(&der);
    super::provider()
        .key_provider
        .load_private_key(der)
        .map_err(|e| TlsError::BadKey {
            what: what.to_owned(),
            why: why.map_or_else(|| e.to_string(), str::to_owned),
        })
}

fn private_key(pem: &[u8], what: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = plain(pem);
    let labels = labels(&text);
    // PKCS#8 under a pass phrase, and the legacy form of OpenSSL (RFC 1421 header).
    let legacy = text
        .split(|b| *b == b'\n')
        .any(|l| l.starts_with(b"Proc-Type: 4,ENCRYPTED"));
    if legacy || labels.contains(&"ENCRYPTED PRIVATE KEY") {
        return Err(TlsError::EncryptedKey(what.to_owned()));
    }
    match labels.iter().filter(|l| is_key(l)).count() {
        1 => {}
        0 => {
            return Err(match identify(pem, Wanted::Key) {
                Some(found) => TlsError::Other {
                    what: what.to_owned(),
                    wanted: Wanted::Key,
                    found,
                },
                None => TlsError::NoKey(what.to_owned()),
            });
        }
        count => {
            return Err(TlsError::SeveralKeys {
                what: what.to_owned(),
                count,
            });
        }
    }
    let bad = |why: String| TlsError::BadKey {
        what: what.to_owned(),
        why,
    };
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| match e {
        PemError::MissingSectionEnd { .. } => bad("it ends before its -----END line: it was cut off".to_owned()),
        PemError::Base64Decode(_) => bad("between its BEGIN and END lines is something that is no base64".to_owned()),
        PemError::NoItemsFound => TlsError::NoKey(what.to_owned()),
        other => bad(other.to_string()),
    })
}

/// Kinds of key that ring has no signature for, by what is in their encoding.
const NOT_FOR_US: [(&[u8], &str); 6] = [
    // 1.3.132.0.35, .33 and .10 (RFC 5480 section 2.1.1.1, SEC 2).
    (
        &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
        "it is on the curve P-521, which cannot be used here",
    ),
    (
        &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21],
        "it is on the curve P-224, which cannot be used here",
    ),
    (
        &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a],
        "it is on the curve secp256k1, which TLS does not know",
    ),
    // 1.2.840.10045.1.1, prime-field: the curve is spelt out instead of named (RFC 3279 section 2.3.5).
    (
        &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x01, 0x01],
        "its curve is spelt out instead of named (openssl's -param_enc explicit)",
    ),
    // 1.3.101.113 (RFC 8410).
    (
        &[0x06, 0x03, 0x2b, 0x65, 0x71],
        "it is an Ed448 key, which cannot be used here",
    ),
    // 1.2.840.113549.1.1.10 (RFC 4055).
    (
        &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a],
        "it is an RSA key for PSS alone, which cannot be used here",
    ),
];
/// rsaEncryption, 1.2.840.113549.1.1.1.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// An RSA key's encoding is about 4.6 bits long for each bit of its modulus: 2048 bits take 1,190 bytes, 4096 bits 2,350.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 1_100..=2_450;

fn why_not(der: &PrivateKeyDer<'_>) -> Option<&'static str> {
    let bytes = der.secret_der();
    // The algorithm stands in front in PKCS#8, behind the key in SEC1, which is short.
    let has = |needle: &[u8]| {
        bytes.len() < 400 && bytes.windows(needle.len()).any(|w| w == needle)
            || bytes
                .get(..40)
                .is_some_and(|head| head.windows(needle.len()).any(|w| w == needle))
    };
    if matches!(der, PrivateKeyDer::Pkcs1(_)) || has(RSA) {
        return match bytes.len() {
            n if n < *RSA_BYTES.start() => Some("it is an RSA key of less than 2048 bits"),
            n if n > *RSA_BYTES.end() => Some("it is an RSA key of more than 4096 bits"),
            _ => None,
        };
    }
    NOT_FOR_US.iter().find(|(oid, _)| has(oid)).map(|(_, why)| *why)
}
