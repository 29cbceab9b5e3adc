//! Subscribers, as the page lists them: from a store those that are wanted ([`super::finding`]), from files all.

use std::time::Duration;

use crate::gateway::book::Book;
use crate::gateway::store::SubscriberRecord;
use crate::gateway::subscriber::Known;
use crate::identity::Imsi;

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

/// All that `gateway.toml` knows; they are in memory.
pub(super) async fn of_files(book: &Book) -> Vec<Row> {
    let view = book.view().await;
    let row = |known: &Known| Row {
        imsi: known.subscriber.imsi.clone(),
        name: String::new(),
        group: Some(known.group.to_string()),
        source: known.source.map(|s| s.to_string()),
        enabled: true,
        last_seen: None,
    };
    view.directory.iter().map(row).collect()
}
