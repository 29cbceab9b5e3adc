//! Credentials by the days they have left.
//!
//! A scan reads each credential once: those of a store in pages, those of files as the devices' names ask for them. It runs every
//! [`SCAN_EVERY`], and sooner when somebody looks; metrics and the status socket show what the last one found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::gateway::book::Book;
use crate::gateway::credential::CredentialId;
use crate::gateway::group::Proof;
use crate::gateway::store::Store;
use crate::identity::Imsi;

/// How often credentials are looked at when nobody asks.
pub const SCAN_EVERY: Duration = Duration::from_secs(600);
/// Most credentials that one scan looks at; about 200 bytes each.
pub const CREDENTIALS_MAX: usize = 200_000;
/// Credentials that are read from the store at once.
const PAGE: usize = 1_000;
/// Less than this many days left is worth a warning: a month is what it takes to renew a fleet by hand.
pub const SOON_DAYS: i64 = 30;

const DAY: u64 = 86_400;

/// The classes that credentials are counted in: name, and the least days left that belong to it.
pub const CLASSES: [(&str, i64); 6] = [
    ("expired", i64::MIN),
    ("0-6", 0),
    ("7-29", 7),
    ("30-89", 30),
    ("90-364", 90),
    ("365+", 365),
];
/// The class of a credential whose end is not known: it cannot be read, or is no certificate.
pub const UNKNOWN: &str = "unknown";

/// One credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Its id.
    pub id: CredentialId,
    /// Whose it is, where only one device uses it and that is known.
    pub imsi: Option<Imsi>,
    /// End of the certificate's validity, Unix time.
    pub not_after: Option<Duration>,
    /// Why it is unusable.
    pub problem: Option<String>,
}

/// Whole days from `now` to `not_after`; negative from the moment on that it has expired.
#[must_use]
pub fn days_left(not_after: Duration, now: Duration) -> i64 {
    let days = |d: Duration| i64::try_from(d.as_secs() / DAY).unwrap_or(i64::MAX);
    match not_after.checked_sub(now) {
        Some(left) => days(left),
        None => -1 - days(now.saturating_sub(not_after)),
    }
}

impl Expiry {
    /// Its class.
    #[must_use]
    pub fn class(&self, now: Duration) -> &'static str {
        let Some(not_after) = self.not_after else {
            return UNKNOWN;
        };
        let days = days_left(not_after, now);
        let class = CLASSES.iter().rev().find(|(_, least)| days >= *least);
        class.map_or(UNKNOWN, |(name, _)| name)
    }
}

/// What a scan found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Soonest first; what has no end comes first of all, because it is broken.
    pub all: Vec<Expiry>,
    /// When, in monotonic time.
    pub at: Duration,
    /// Why it is not complete.
    pub problem: Option<String>,
}

impl Found {
    fn new(mut all: Vec<Expiry>, at: Duration, problem: Option<String>) -> Self {
        all.sort_by(|a, b| (a.not_after, &a.id).cmp(&(b.not_after, &b.id)));
        Self { all, at, problem }
    }

    /// How many there are of each class, every class named.
    #[must_use]
    pub fn classes(&self, now: Duration) -> Vec<(&'static str, u64)> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for expiry in &self.all {
            *counts.entry(expiry.class(now)).or_default() += 1;
        }
        let names = CLASSES.iter().map(|(name, _)| *name).chain([UNKNOWN]);
        names
            .map(|name| (name, counts.get(name).copied().unwrap_or(0)))
            .collect()
    }

    /// The end that comes first and is still to come, or the newest that has passed.
    #[must_use]
    pub fn soonest(&self) -> Option<Duration> {
        self.all.iter().find_map(|e| e.not_after)
    }
}

/// The newest scan.
#[derive(Debug, Default)]
pub struct Expiries {
    found: Mutex<Option<Arc<Found>>>,
    /// One scan at a time; those who wait for it take its result.
    scanning: tokio::sync::Mutex<()>,
}

impl Expiries {
    /// What the last scan found.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a scan found that is not older than `age`; scans if there is none.
    pub async fn fresh(&self, book: &Book, clock: &Clock, age: Duration) -> Arc<Found> {
        let young = || self.last().filter(|f| clock.monotonic().saturating_sub(f.at) <= age);
        if let Some(found) = young() {
            return found;
        }
        let _one = self.scanning.lock().await;
        if let Some(found) = young() {
            return found;
        }
        let found = Arc::new(scan(book, clock).await);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        found
    }
}

async fn scan(book: &Book, clock: &Clock) -> Found {
    let (all, mut problem) = match book.store() {
        Some(store) => of_store(store).await.unwrap_or_else(|e| (Vec::new(), Some(e))),
        None => (of_files(book).await, None),
    };
    if all.len() >= CREDENTIALS_MAX {
        problem = Some(format!("only the first {CREDENTIALS_MAX} credentials were looked at"));
    }
    Found::new(all, clock.monotonic(), problem)
}

/// What can be read, and what is wrong with the others.
async fn of_store(store: &Store) -> Result<(Vec<Expiry>, Option<String>), String> {
    let (mut all, mut looked_at) = (Vec::new(), 0);
    let (mut after, mut damaged) = (None, Vec::new());
    while looked_at < CREDENTIALS_MAX {
        let page = store
            .credentials(after.as_deref(), PAGE)
            .await
            .map_err(|e| e.to_string())?;
        looked_at += page.items.len() + page.damaged.len();
        // A user name with a password never expires.
        let with_end = page.items.into_iter().filter(|c| c.not_after.is_some());
        all.extend(with_end.map(|c| Expiry {
            id: c.id,
            imsi: None,
            not_after: c.not_after,
            problem: None,
        }));
        damaged.extend(page.damaged);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let problem = match damaged.first() {
        _ if looked_at >= CREDENTIALS_MAX => {
            Some(format!("only the first {CREDENTIALS_MAX} credentials were looked at"))
        }
        Some(first) => Some(format!("{} credentials cannot be read: {first}", damaged.len())),
        None => None,
    };
    Ok((all, problem))
}

async fn of_files(book: &Book) -> Vec<Expiry> {
    let view = book.view().await;
    let mut wanted: BTreeMap<CredentialId, BTreeSet<Imsi>> = BTreeMap::new();
    let mut optional = BTreeSet::new();
    for known in view.directory.iter() {
        let Some(group) = view.group(&known.group) else {
            continue;
        };
        let Ok(names) = group.names(&known.subscriber) else {
            continue;
        };
        let Some(id) = names.credential else { continue };
        if let Proof::Stored {
            default: Some(default), ..
        } = &group.proof
        {
            wanted.entry(default.clone()).or_default();
            optional.insert(id.clone());
        }
        wanted.entry(id).or_default().insert(known.subscriber.imsi.clone());
        if wanted.len() >= CREDENTIALS_MAX {
            break;
        }
    }
    let mut all = Vec::with_capacity(wanted.len());
    for (id, users) in wanted {
        let imsi = users.first().filter(|_| users.len() == 1).cloned();
        let (not_after, problem) = match book.credential(&id).await {
            Ok(Some(credential)) => (Some(credential.identity.leaf.not_after), None),
            Ok(None) if optional.contains(&id) => continue,
            Ok(None) => (None, Some("it is missing: add it, or a default one".to_owned())),
            Err(e) => (None, Some(e.to_string())),
        };
        all.push(Expiry {
            id,
            imsi,
            not_after,
            problem,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(id: &str, not_after: Option<u64>) -> Expiry {
        Expiry {
            id: id.parse().unwrap(),
            imsi: None,
            not_after: not_after.map(Duration::from_secs),
            problem: None,
        }
    }

    #[test]
    fn days_are_whole_and_the_last_second_counts() {
        let now = Duration::from_secs(1_000 * DAY);
        for (end, days, class) in [
            (999 * DAY, -2, "expired"),
            (1_000 * DAY - 1, -1, "expired"),
            (1_000 * DAY, 0, "0-6"),
            (1_007 * DAY - 1, 6, "0-6"),
            (1_007 * DAY, 7, "7-29"),
            (1_030 * DAY, 30, "30-89"),
            (1_365 * DAY, 365, "365+"),
        ] {
            assert_eq!(days_left(Duration::from_secs(end), now), days, "{end}");
            assert_eq!(expiry("c", Some(end)).class(now), class, "{end}");
        }
        assert_eq!(expiry("c", None).class(now), UNKNOWN);
    }

    #[test]
    fn soonest_first_and_every_class_is_named() {
        let day = |n: u64| Some(n * DAY);
        let all = vec![
            expiry("b", day(50)),
            expiry("a", day(12)),
            expiry("x", None),
            expiry("c", day(12)),
        ];
        let found = Found::new(all, Duration::ZERO, None);
        let ids: Vec<&str> = found.all.iter().map(|e| e.id.as_str()).collect();
        assert_eq!(ids, ["x", "a", "c", "b"]);
        assert_eq!(found.soonest(), day(12).map(Duration::from_secs));
        let classes = found.classes(Duration::from_secs(10 * DAY));
        assert_eq!(classes.iter().map(|(_, n)| n).sum::<u64>(), 4);
        assert_eq!(classes.len(), CLASSES.len() + 1);
        assert_eq!(classes[1], ("0-6", 2));
    }
}
