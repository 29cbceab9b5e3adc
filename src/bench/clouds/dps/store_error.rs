//! The kinds of enrolment, and why the service's own API refuses something.

use super::enrollment::BadEnrollment;

/// Why the service's own API refuses something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// What was sent.
    #[error(transparent)]
    Bad(#[from] BadEnrollment),
    /// There is no such thing.
    #[error("{0} does not exist")]
    NotFound(String),
    /// It contradicts something that is there.
    #[error("{0}")]
    Conflict(String),
    /// If-Match named another state.
    #[error("the etag is {0} by now")]
    Changed(String),
    /// No room.
    #[error("there are {0} already, which is the most")]
    Full(usize),
}

impl StoreError {
    /// The HTTP status (DPS documentation, how-to-troubleshoot-dps).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Bad(_) => 400,
            Self::NotFound(_) => 404,
            Self::Conflict(_) | Self::Full(_) => 409,
            Self::Changed(_) => 412,
        }
    }
}

/// The kinds of enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For everybody below an authority.
    Group,
    /// For one registration id.
    Individual,
}

impl Kind {
    /// What the resource calls its name.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Group => "enrollmentGroupId",
            Self::Individual => "registrationId",
        }
    }
}
