//! How a store is, for `status`, metrics and the page.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::group::GroupId;
use crate::identity::redact_digits;

/// Of rows that cannot be read, so many are named where the others are only counted.
pub(super) const DAMAGED_NAMED: usize = 20;

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The number of the last change that is known here.
    pub generation: u64,
    /// Subscribers in the view.
    pub subscribers: usize,
    /// Groups that can be used.
    pub groups: usize,
    /// Groups that cannot, and why.
    pub broken: BTreeMap<GroupId, String>,
    /// Rows that cannot be read: which, and why.
    pub damaged: Vec<String>,
    /// Credentials that are kept.
    pub credentials: usize,
    /// Notes of when devices were last seen that were dropped.
    pub notes_dropped: u64,
    /// Set while the store does not answer.
    pub away: Option<Away>,
}

/// The store does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// For so long.
    pub since: Duration,
    /// Whether that is longer than `store.stale_for`: nobody is let in.
    pub closed: bool,
    /// What it said last.
    pub why: String,
}

impl Health {
    /// Puts it beside what the watch knows of the store (its errors), or where that is not known yet.
    pub fn add_to(&self, store: &mut Value) {
        match (store.as_object_mut(), self.json()) {
            (Some(there), Value::Object(more)) => there.extend(more),
            (_, all) => *store = all,
        }
    }

    /// As the status socket answers it; numbers of devices are redacted.
    #[must_use]
    pub fn json(&self) -> Value {
        let broken: BTreeMap<_, _> = self.broken.iter().map(|(id, why)| (id.as_str(), why)).collect();
        json!({
            "generation": self.generation,
            "subscribers": self.subscribers,
            "groups": self.groups,
            "broken": broken,
            "damaged": self.damaged.len(),
            "damaged_rows": self.damaged.iter().take(DAMAGED_NAMED).map(|d| redact_digits(d)).collect::<Vec<_>>(),
            "credentials": self.credentials,
            "notes_dropped": self.notes_dropped,
            "away": self.away.as_ref().map(|a| json!({"seconds": a.since.as_secs(), "closed": a.closed, "why": a.why})),
        })
    }
}
