//! What an operator may do with a store, and how it is written as JSON. The command line ([`super::cli`]) and the HTTP API
//! ([`super::http`]) are two ways to the same room, so that they check the same, say the same, and keep the same secret.
//!
//! | file | what |
//! |---|---|
//! | `credentials` | SORACOM's credential sets of type `x509` |
//! | `groups` | groups with their configuration; secrets in it are masked |
//! | `subscribers` | subscribers in the spirit of SORACOM's |
//! | `transfer` | a whole store as one JSON text: out with secrets sealed or left out, and in again |
//!
//! Shapes are those of SORACOM's public API definition (`soracom-api.en.yaml`, version 20260604): times are Unix milliseconds, an error is
//! `{"code", "message"}`. What SORACOM's API has no word for stands beside in the same style, and nothing secret ever comes back.

pub mod credentials;
pub mod groups;
pub mod subscribers;
pub mod transfer;

use std::time::Duration;

use serde_json::{Value, json};

use super::group::Remark;
use super::store::{Damaged, StoreError};

/// Largest body or file that is read, in bytes: a group's configuration with certificates in it.
pub const BODY_MAX: usize = 256 << 10;
/// Most items in a page (SORACOM's API: 100).
pub const PAGE_MAX: usize = 100;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// What was asked for is wrong: every mistake, a line each.
    #[error("{0}")]
    Wrong(String),
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl AdminError {
    /// One mistake.
    pub(super) fn wrong(why: impl Into<String>) -> Self {
        Self::Wrong(why.into())
    }
}

/// For what is judged inside of a change.
impl From<AdminError> for StoreError {
    fn from(e: AdminError) -> Self {
        match e {
            AdminError::Wrong(why) => Self::Refused(why),
            AdminError::Store(e) => e,
        }
    }
}

/// A row that cannot be read, as it stands in a list: its key under the name that it has there, and what is wrong.
#[must_use]
pub fn damaged(d: &Damaged) -> Value {
    let key = match d.what {
        "subscriber" => "imsi",
        "group" => "groupId",
        _ => "credentialsId",
    };
    json!({key: d.id, "damaged": d.why})
}

/// All remarks that are mistakes, as one error.
pub(super) fn mistakes(remarks: &[Remark]) -> Result<(), AdminError> {
    let list: Vec<String> = remarks
        .iter()
        .filter(|r| r.grade == super::group::Grade::Error)
        .map(ToString::to_string)
        .collect();
    if list.is_empty() {
        Ok(())
    } else {
        Err(AdminError::Wrong(list.join("\n")))
    }
}

/// Unix milliseconds, as SORACOM's API writes times.
#[must_use]
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
