//! Registration ids: by which name a device asks DPS for its hub.

use std::str::FromStr;

use crate::tls::Leaf;

/// Most characters of a registration id with X.509: it is the certificate's common name, which has at most 64 (X.520
/// `ub-common-name`, RFC 5280 appendix A). DPS itself takes 128.
pub const REGISTRATION_ID_MAX: usize = 64;

/// Who registers: 1 to 64 letters, digits, `-`, `.`, `_` and `:`, the last a letter, a digit or `-` (DPS documentation, "X.509
/// certificate attestation"). Upper and lower case are the same.
#[derive(Clone)]
pub struct RegistrationId(String);

/// Why there is no registration id. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a registration id.
    #[error("{name:?} is no registration id: {problem}")]
    Bad {
        /// The name, redacted.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The certificate proves no name.
    #[error("the certificate has no common name, or several: DPS takes it for the registration id")]
    NoCommonName,
    /// The certificate proves another name.
    #[error("the registration id is {id:?}, but the certificate's common name is {common_name:?}: DPS wants the same")]
    Mismatch {
        /// What was configured, redacted.
        id: String,
        /// What the certificate says, redacted.
        common_name: String,
    },
}

impl NameError {
    /// What a person can do.
    #[must_use]
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Bad { .. } => {
                "write another credentials.registration_id, and give the device a certificate whose common name is the same"
            }
            Self::NoCommonName => {
                "make the device's certificate anew with one common name (CN) in its subject: the registration id"
            }
            Self::Mismatch { .. } => {
                "leave credentials.registration_id out, which takes the certificate's common name, or give the device the certificate \
                 that was made for this id"
            }
        }
    }
}

impl FromStr for RegistrationId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
        let problem = if text.is_empty() {
            "it is empty"
        } else if !text.chars().all(good) {
            "it has other characters than letters, digits and - . _ :"
        } else if text.len() > REGISTRATION_ID_MAX {
            "it is longer than the 64 characters of a certificate's common name"
        } else if !text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-') {
            "its last character is neither a letter nor a digit nor -"
        } else {
            return Ok(Self(text.to_owned()));
        };
        let name: String = text.chars().take(2 * REGISTRATION_ID_MAX).collect();
        Err(NameError::Bad {
            name: redacted(&name),
            problem,
        })
    }
}

fn redacted(name: &str) -> String {
    crate::identity::redact_digits(name)
}

impl RegistrationId {
    /// The id that was configured, or else the certificate's common name; they have to agree.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn attested(configured: Option<&str>, leaf: &Leaf) -> Result<Self, NameError> {
        let common_name = leaf.common_name.as_deref().ok_or(NameError::NoCommonName)?;
        let id: Self = configured.unwrap_or(common_name).parse()?;
        if id.is(common_name) {
            Ok(id)
        } else {
            Err(NameError::Mismatch {
                id: redacted(&id.0),
                common_name: redacted(common_name),
            })
        }
    }

    /// As it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether that names the same device.
    #[must_use]
    pub fn is(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }
}

impl PartialEq for RegistrationId {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for RegistrationId {}

impl std::fmt::Debug for RegistrationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegistrationId({})", redacted(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn leaf(common_name: Option<&str>) -> Leaf {
        Leaf {
            common_name: common_name.map(str::to_owned),
            not_before: Duration::ZERO,
            not_after: Duration::MAX,
            ..Leaf::default()
        }
    }

    #[test]
    fn ids_follow_the_documented_rule() {
        for good in ["a", "Device-1", "a.b_c:d-", "-a", ".a", &"x".repeat(64)] {
            assert_eq!(good.parse::<RegistrationId>().unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", "empty"),
            ("a.", "last character"),
            ("a_", "last character"),
            ("a:", "last character"),
            ("a b", "other characters"),
            ("gerät", "other characters"),
            ("a/b", "other characters"),
            ("a+", "other characters"),
            ("a\n", "other characters"),
            (&"x".repeat(65), "64 characters"),
        ] {
            let e = bad.parse::<RegistrationId>().unwrap_err();
            assert!(e.to_string().contains(why) && !e.cure().is_empty(), "{bad:?}: {e}");
        }
    }

    #[test]
    fn the_certificate_decides_and_case_does_not_matter() {
        let of = |id: Option<&str>, cn| RegistrationId::attested(id, &leaf(cn));
        assert_eq!(of(None, Some("Dev-1")).unwrap().as_str(), "Dev-1");
        assert_eq!(of(Some("dev-1"), Some("Dev-1")).unwrap().as_str(), "dev-1");
        assert_eq!(of(Some("dev-1"), None), Err(NameError::NoCommonName));
        let e = of(Some("myClient-295012345678901"), Some("myClient-295012345678902")).unwrap_err();
        let text = e.to_string();
        assert!(
            text.contains("common name is") && !text.contains("295012345678901"),
            "{text}"
        );
        assert!(e.cure().contains("leave credentials.registration_id out"));
        assert!(matches!(of(None, Some("a b")), Err(NameError::Bad { .. })));
        let id = of(None, Some("myClient-295012345678901")).unwrap();
        assert!(!format!("{id:?}").contains("295012345678901"));
    }

    proptest::proptest! {
        #[test]
        fn a_taken_id_is_safe_in_a_path_and_a_topic(text in ".{0,80}") {
            if let Ok(id) = text.parse::<RegistrationId>() {
                proptest::prop_assert!(!id.as_str().contains(['/', '?', '#', '+', '&', '%', ' ']));
                proptest::prop_assert!(id.as_str() != "." && id.as_str() != "..");
            }
        }
    }
}
