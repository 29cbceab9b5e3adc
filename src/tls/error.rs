//! Why keys, certificates or authorities cannot be used: what was found, and what to do about it.

use super::pem::{Found, Wanted};

/// Why keys, certificates or authorities cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsError {
    /// No certificate in the PEM text.
    NoCertificate(String),
    /// The PEM or DER is damaged.
    BadCertificate {
        /// Where it came from.
        what: String,
        /// What the parser says.
        why: String,
    },
    /// More certificates than anybody needs.
    TooManyCertificates {
        /// Where they came from.
        what: String,
        /// How many there may be.
        max: usize,
    },
    /// No usable private key in the PEM text.
    NoKey(String),
    /// More than one private key: nobody says which.
    SeveralKeys {
        /// Where they came from.
        what: String,
        /// How many.
        count: usize,
    },
    /// The key is under a pass phrase.
    EncryptedKey(String),
    /// A kind of key that cannot sign here.
    BadKey {
        /// Where it came from.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something else was put there.
    Other {
        /// Where it came from.
        what: String,
        /// What belongs there.
        wanted: Wanted,
        /// What is there.
        found: Found,
    },
    /// Key and certificate are not a pair.
    Mismatch(String),
    /// The operating system has no certificate authorities.
    NoSystemRoots,
    /// rustls refuses the combination.
    Setup(String),
}

impl TlsError {
    /// What was found, without what to do.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::NoCertificate(what) => format!("there is no certificate in {what}"),
            Self::BadCertificate { what, why } => format!("the certificate in {what} is damaged: {why}"),
            Self::TooManyCertificates { what, max } => format!("{what} holds more than {max} certificates"),
            Self::NoKey(what) => format!("there is no private key in {what}"),
            Self::SeveralKeys { what, count } => format!("{what} holds {count} private keys"),
            Self::EncryptedKey(what) => format!("the private key in {what} is encrypted"),
            Self::BadKey { what, why } => format!("the private key in {what} cannot be used: {why}"),
            Self::Other { what, wanted, found } => {
                format!("{what} holds {}, and {} is wanted there", found.words(), wanted.words())
            }
            Self::Mismatch(what) => format!("the private key does not fit the certificate of {what}"),
            Self::NoSystemRoots => "no certificate authorities were found on this system".to_owned(),
            Self::Setup(why) => format!("TLS cannot be set up: {why}"),
        }
    }

    /// What a person can do.
    #[must_use]
    pub fn cure(&self) -> String {
        match self {
            Self::NoCertificate(_) => "it must hold -----BEGIN CERTIFICATE-----".to_owned(),
            Self::BadCertificate { .. } => {
                "copy it again, whole, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----".to_owned()
            }
            Self::TooManyCertificates { .. } => {
                "leave the device's certificate and those of its authorities in it, not a whole trust store".to_owned()
            }
            Self::NoKey(_) => {
                "it must hold -----BEGIN PRIVATE KEY-----, -----BEGIN RSA PRIVATE KEY----- or -----BEGIN EC PRIVATE KEY-----"
                    .to_owned()
            }
            Self::SeveralKeys { .. } => "leave only the one that the certificate was made for".to_owned(),
            Self::EncryptedKey(what) => format!(
                "Onyx runs unattended and cannot ask for the pass phrase; decrypt it with 'openssl pkey -in {what} -out PLAIN' and \
                 chmod 600 PLAIN"
            ),
            Self::BadKey { .. } => "make a key of EC P-256 (openssl ecparam -name prime256v1 -genkey -noout) or RSA 2048, and a \
                 certificate for it; or copy the key again if it was damaged on the way"
                .to_owned(),
            Self::Other { what, wanted, found } => found.cure(*wanted, what),
            Self::Mismatch(_) => {
                "they are not from the same request: put the certificate there that was issued for this key".to_owned()
            }
            Self::NoSystemRoots => "install ca-certificates or name a CA file".to_owned(),
            Self::Setup(_) => String::new(),
        }
    }
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, cure) = (self.what(), self.cure());
        if cure.is_empty() {
            f.write_str(&what)
        } else {
            write!(f, "{what}: {cure}")
        }
    }
}

impl std::error::Error for TlsError {}
