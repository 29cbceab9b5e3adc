//! Ids that a service has made and that go into a path again.

use serde::{Deserialize, Serialize};

/// Longest id, in characters: DPS's operation ids, the longest that are known, have 56.
const LENGTH_MAX: usize = 256;

/// One segment of a path, made of characters that need no escape there (RFC 3986 section 2.3) or of the colon: whatever a service says, its
/// id leads to no other path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Segment(String);

/// Why an id is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the id {0:?} cannot be asked for: it is not 1 to {LENGTH_MAX} letters, digits, '.', '-', '_', '~' or ':'")]
pub struct SegmentError(String);

impl Segment {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Segment {
    type Error = SegmentError;
    fn try_from(id: String) -> Result<Self, SegmentError> {
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~' | ':');
        // "." and ".." are steps, no names.
        if id.is_empty() || id.len() > LENGTH_MAX || !id.chars().all(safe) || id == "." || id == ".." {
            return Err(SegmentError(super::reply::excerpt(id.as_bytes())));
        }
        Ok(Self(id))
    }
}

impl From<Segment> for String {
    fn from(segment: Segment) -> Self {
        segment.0
    }
}

impl std::fmt::Display for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_leads_elsewhere() {
        for good in ["5.50b3f-76fe_1", "a", "x:y~z"] {
            assert_eq!(Segment::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a?b",
            "a%2f",
            "a b",
            "é",
            &"a".repeat(257),
        ] {
            assert!(Segment::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
