//! Who could call: all subscribers, as the page lists them. From a store they are read in pages and kept for [`KEEP`], so that somebody
//! who types into the search box does not read the whole table at every key.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::gateway::book::Book;
use crate::gateway::store::{Store, StoreError, SubscriberRecord};
use crate::identity::Imsi;

/// How long what was read is good for.
const KEEP: Duration = Duration::from_secs(5);
/// Most subscribers that are listed; about 300 bytes each while somebody looks.
pub(super) const SUBSCRIBERS_MAX: usize = 200_000;
/// Subscribers read from the store at once.
const PAGE: usize = 1_000;

/// A subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) imsi: Imsi,
    pub(super) name: String,
    pub(super) group: Option<String>,
    pub(super) source: Option<String>,
    pub(super) enabled: bool,
    /// Unix time, and the gateway that saw it: another one than this, perhaps.
    pub(super) last_seen: Option<(Duration, String)>,
}

impl From<SubscriberRecord> for Row {
    fn from(record: SubscriberRecord) -> Self {
        Self {
            imsi: record.imsi,
            name: record.name,
            group: record.group.map(|g| g.to_string()),
            source: record.source.map(|s| s.to_string()),
            enabled: record.enabled,
            last_seen: record.last_seen,
        }
    }
}

/// All subscribers at one moment.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) rows: Vec<Row>,
    /// Why they are not all, or old.
    pub(super) problem: Option<String>,
    at: Duration,
}

/// The newest reading.
#[derive(Debug, Default)]
pub(super) struct Roster(Mutex<Option<Arc<Read>>>);

impl Roster {
    pub(super) async fn read(&self, book: &Book, clock: &Clock) -> Arc<Read> {
        // Whoever comes while another reads waits, and takes the same.
        let mut kept = self.0.lock().await;
        let now = clock.monotonic();
        if let Some(read) = kept.as_ref().filter(|r| now.saturating_sub(r.at) < KEEP) {
            return read.clone();
        }
        let mut read = match book.store() {
            Some(store) => match of_store(store).await {
                Ok(rows) => Read {
                    rows,
                    ..Read::default()
                },
                Err(e) => Read {
                    rows: kept.as_ref().map(|r| r.rows.clone()).unwrap_or_default(),
                    problem: Some(format!("the store does not answer, this is older: {e}")),
                    at: now,
                },
            },
            None => Read {
                rows: of_view(book).await,
                ..Read::default()
            },
        };
        read.at = now;
        if read.rows.len() >= SUBSCRIBERS_MAX {
            read.problem
                .get_or_insert(format!("only the first {SUBSCRIBERS_MAX} subscribers are listed"));
        }
        let read = Arc::new(read);
        *kept = Some(read.clone());
        read
    }
}

async fn of_store(store: &Store) -> Result<Vec<Row>, StoreError> {
    let mut rows: Vec<Row> = Vec::new();
    while rows.len() < SUBSCRIBERS_MAX {
        let after = rows.last().map(|r| r.imsi.clone());
        let page = store.subscribers(after.as_ref(), PAGE).await?;
        let last = page.len() < PAGE;
        rows.extend(page.into_iter().map(Row::from));
        if last {
            break;
        }
    }
    Ok(rows)
}

async fn of_view(book: &Book) -> Vec<Row> {
    let view = book.view().await;
    let row = |known: &crate::gateway::subscriber::Known| Row {
        imsi: known.subscriber.imsi.clone(),
        name: String::new(),
        group: Some(known.group.to_string()),
        source: known.source.map(|s| s.to_string()),
        enabled: true,
        last_seen: None,
    };
    view.directory.iter().take(SUBSCRIBERS_MAX).map(row).collect()
}
