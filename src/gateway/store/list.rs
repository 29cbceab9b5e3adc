//! Lists in pages. A row that cannot be read takes no other with it: the page has those that can be, and names those that cannot.

use super::tx::{Fail, Row};
use crate::gateway::group::GroupId;

/// Most rows of one page.
pub const PAGE_MAX: usize = 10_000;

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// What it is a row of: `subscriber`, `group` or `credential`.
    pub what: &'static str,
    /// Its key, as it stands there; a subscriber's is its IMSI in full, so this is for the operator's eyes.
    pub id: String,
    /// What is wrong, and what to do. Never what stands there.
    pub why: String,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.what, self.id, self.why)
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows that can be read.
    pub items: Vec<T>,
    /// Those that cannot.
    pub damaged: Vec<Damaged>,
    /// The key that the next page begins after; `None` at the end. A page is full with its damaged rows, so it may have fewer items.
    pub next: Option<String>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            damaged: Vec::new(),
            next: None,
        }
    }
}

impl<T> Page<T> {
    /// Takes what was read of one row.
    pub(super) fn take(&mut self, read: Result<T, Damaged>) {
        match read {
            Ok(item) => self.items.push(item),
            Err(damaged) => self.damaged.push(damaged),
        }
    }

    /// The same list of something else.
    pub fn map<U>(self, how: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(how).collect(),
            damaged: self.damaged,
            next: self.next,
        }
    }
}

/// Which subscribers are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this group.
    pub group: Option<GroupId>,
    /// Those that may connect, or those that may not.
    pub enabled: Option<bool>,
    /// Those of this name.
    pub name: Option<Named>,
}

/// A name that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// This one.
    Is(String),
    /// Those that begin so.
    Begins(String),
}

/// The key to go on from, if these rows filled a page of `limit`. A damaged key must not lead in a circle: keys only grow.
pub(super) fn next(rows: &[Row], after: &str, limit: i64) -> Option<String> {
    let full = i64::try_from(rows.len()).is_ok_and(|n| n >= limit);
    rows.last()
        .filter(|_| full)?
        .first_text()
        .filter(|last| last.as_str() > after)
}

/// A page's size as SQL takes it.
pub(super) fn page_limit(limit: usize) -> i64 {
    i64::try_from(limit.clamp(1, PAGE_MAX)).unwrap_or(1)
}

/// What is wrong with a row, whose key was read already.
pub(super) fn damaged(what: &'static str, id: &str, e: Fail) -> Damaged {
    Damaged {
        what,
        id: id.to_owned(),
        why: e.into_error().to_string(),
    }
}
