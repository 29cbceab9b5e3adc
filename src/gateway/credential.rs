//! A credential: what proves a device to upstream, under a name, in one version.
//!
//! The version is the heart of it. A TLS session ticket resumes the session, and with it the identity, it was given for; so tickets are
//! kept by upstream, credential **and version** ([`super::upstream`]), and a credential that was rotated or revoked takes its tickets
//! with it.

use std::fmt;
use std::str::FromStr;

use rustls::RootCertStore;

use crate::tls::Identity;

/// Longest credential id, in characters (with its suffix it must fit a file name of 255 bytes).
const ID_MAX: usize = 128;

/// The name of a credential: a plain file name, never a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialId(String);

impl CredentialId {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a certificate that stands in a group's configuration itself. It begins with '.', which no stored one's may.
    pub(super) fn inline(group: &super::group::GroupId) -> Self {
        Self(format!(".inline-{group}"))
    }

    /// The id with long digit runs hidden, for logs.
    #[must_use]
    pub fn redacted(&self) -> String {
        crate::identity::redact_digits(&self.0)
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialId({})", self.redacted())
    }
}

impl FromStr for CredentialId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let problem = if text.is_empty() {
            "is empty"
        } else if text.chars().count() > ID_MAX || text.len() > 240 {
            "is longer than 128 characters"
        } else if text.starts_with('.') {
            "begins with '.'"
        } else if text.contains(['/', '\\']) || text.chars().any(char::is_control) {
            "has '/', '\\' or control characters, which could lead out of the credential folder"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(format!(
            "the credential id \"{}\" {problem}",
            super::json::short(&crate::identity::redact_digits(text))
        ))
    }
}

/// What tells one state of a credential from the next. Equal versions have equal content; a newer one is not greater, only other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(pub(super) Vec<u8>);

/// An X.509 credential that was read and found good.
#[derive(Clone)]
pub struct Credential {
    /// Its name.
    pub id: CredentialId,
    /// Which state of it this is.
    pub version: Version,
    /// Key and certificate.
    pub identity: Identity,
    /// Private authorities of upstream, which go before the group's.
    pub authorities: Option<RootCertStore>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, {:?})", self.id.redacted(), self.identity.leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_in_the_folder() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/x",
            ".hidden",
            "a\\b",
            "a\0b",
            "a\nb",
            &"x".repeat(129),
        ] {
            assert!(bad.parse::<CredentialId>().is_err(), "{bad:?}");
        }
        // Whoever sends a long one is not sent it back.
        let said = "x".repeat(100_000).parse::<CredentialId>().unwrap_err();
        assert!(said.len() < 400 && said.contains("longer than 128"), "{said}");
        assert!("myClient-295012345678901".parse::<CredentialId>().is_ok());
    }
}
