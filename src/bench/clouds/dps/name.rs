//! Registration ids.

use std::str::FromStr;

/// Most characters of a registration id (DPS documentation, concepts-service: registration ID).
pub const REGISTRATION_ID_MAX: usize = 128;

/// Who registers: 1 to 128 letters, digits, `-`, `.`, `_` and `:`, the last a letter, a digit or `-`. Upper and lower case are the same.
/// With X.509 it is the certificate's common name, so that it has at most 64 characters in effect.
#[derive(Debug, Clone)]
pub struct RegistrationId(String);

/// What is wrong with a registration id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no registration id: 1 to {REGISTRATION_ID_MAX} letters, digits, '-', '.', '_', ':', with a letter, digit or '-' at the end"
)]
pub struct BadRegistrationId(String);

impl FromStr for RegistrationId {
    type Err = BadRegistrationId;

    fn from_str(text: &str) -> Result<Self, BadRegistrationId> {
        let good = text.len() <= REGISTRATION_ID_MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b))
            && text
                .bytes()
                .last()
                .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadRegistrationId(text.chars().take(REGISTRATION_ID_MAX + 1).collect()))
        }
    }
}

impl RegistrationId {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is known by.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// Whether that names the same.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.0.eq_ignore_ascii_case(text)
    }
}

impl PartialEq for RegistrationId {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl std::fmt::Display for RegistrationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_documented_rule() {
        for good in ["a", "Device-1", "a.b_c:d-", &"x".repeat(128)] {
            assert!(good.parse::<RegistrationId>().is_ok(), "{good}");
        }
        for bad in ["", "a.", "a_", "a:", "a b", "gerät", "a/b", "a$b", &"x".repeat(129)] {
            assert!(bad.parse::<RegistrationId>().is_err(), "{bad}");
        }
        assert_eq!("DEV-1".parse::<RegistrationId>(), "dev-1".parse());
    }
}
