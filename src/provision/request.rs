//! A key made on the device and a signing request (PKCS #10, RFC 2986) for it: the private key never leaves the device.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use zeroize::Zeroizing;

use crate::identity::AuthName;

/// Which kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ECDSA on P-256 with SHA-256: short, and taken by all three clouds.
    P256,
    /// ECDSA on P-384 with SHA-384: the only kind that DPS issues certificates for (preview 2025-07-01).
    P384,
}

/// A key and the request to certify it.
pub struct Request {
    /// PKCS#8 PEM; never printed.
    pub private_key_pem: Zeroizing<String>,
    /// The request as PEM.
    pub pem: String,
    /// The request as DER.
    pub der: Vec<u8>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
}

impl Request {
    /// Makes a key and a request whose subject is `common_name` alone: the clouds decide on everything else.
    ///
    /// # Errors
    /// From the random source or the encoder, as text.
    pub fn new(kind: Kind, common_name: &AuthName) -> Result<Self, String> {
        let make = || -> Result<Self, rcgen::Error> {
            let key = KeyPair::generate_for(match kind {
                Kind::P256 => &PKCS_ECDSA_P256_SHA256,
                Kind::P384 => &PKCS_ECDSA_P384_SHA384,
            })?;
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, common_name.as_str());
            let request = params.serialize_request(&key)?;
            Ok(Self {
                private_key_pem: Zeroizing::new(key.serialize_pem()),
                pem: request.pem()?,
                der: request.der().to_vec(),
            })
        };
        make().map_err(|e| format!("a key and a signing request cannot be made: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// OpenSSL reads the request, checks its signature, and sees one name and no extension.
    #[test]
    fn openssl_takes_the_request() {
        for (kind, curve) in [(Kind::P256, "prime256v1"), (Kind::P384, "secp384r1")] {
            let request = Request::new(kind, &AuthName::new("myClient-1".into()).unwrap()).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("r.pem");
            std::fs::write(&path, &request.pem).unwrap();
            let out = Command::new("openssl")
                .args(["req", "-noout", "-verify", "-text", "-in"])
                .arg(&path)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success() && text.contains("verify OK"), "{text}");
            assert!(
                text.contains(curve) && text.contains("Subject: CN = myClient-1"),
                "{text}"
            );
            assert!(!text.contains("X509v3"), "{text}");
            assert!(request.private_key_pem.contains("PRIVATE KEY") && !format!("{request:?}").contains("KEY"));
        }
    }
}
