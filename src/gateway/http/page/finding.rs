//! Which devices a question of the page is about, and which of them are shown, when subscribers are in a store.
//!
//! The store has as many as it has, so none of this reads all of them. Who is online, and who was heard of lately, is in this program's
//! memory; the store adds the rest in the order in which it has an index:
//!
//! - **Nothing typed**: those online, then those last seen, then those never seen; each page reads as far as it reaches, and one cannot
//!   reach farther than [`OFFSET_MAX`].
//! - **Something typed**: those whose IMSI, name or SIM id begins so (by the store's indexes), and those online or heard of lately in whose
//!   IMSI, client id, group or address all the words occur; at most [`SEARCH_MAX`] of each kind.

use std::collections::{HashMap, HashSet};

use super::devices::{Last, online};
use super::rows::Row;
use super::{ApiError, App, Ask, occur};
use crate::gateway::status::Open;
use crate::gateway::store::{Page, SEARCH_MAX, Store, SubscriberRecord};
use crate::identity::Imsi;

/// The farthest that one can turn pages.
pub(super) const OFFSET_MAX: usize = 10_000;

/// What is shown.
pub(super) struct Found {
    /// In the order in which they are shown, if that is settled; else all hits, to be sorted.
    pub(super) rows: Vec<Row>,
    /// How many there are, where `rows` are a page of them.
    pub(super) total: Option<usize>,
    /// Of these, how many are online.
    pub(super) online: usize,
    /// What is not shown, and why.
    pub(super) problem: Option<String>,
}

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) ask: &'a Ask,
    pub(super) limit: usize,
    pub(super) words: &'a [String],
    /// Only those online, or only those not.
    pub(super) only: Option<bool>,
}

fn problem(damaged: &Page<SubscriberRecord>, more: bool) -> Option<String> {
    if let Some(first) = damaged.damaged.first() {
        let count = damaged.damaged.len();
        return Some(format!("{count} of these cannot be read: {first}"));
    }
    more.then(|| format!("there are more than the {SEARCH_MAX} that are searched: type more of it"))
}

/// With nothing typed.
pub(super) async fn all(app: &App, store: &Store, wanted: &Wanted<'_>) -> Result<Found, ApiError> {
    let offset = wanted.ask.offset;
    if offset > OFFSET_MAX {
        return Err(ApiError::bad_request(&format!(
            "offset = {offset}: pages reach to {OFFSET_MAX}; search for it instead"
        )));
    }
    let open = online(app);
    let mut here: Vec<(&Imsi, Option<&Open>)> = open.iter().map(|(imsi, list)| (imsi, list.last())).collect();
    here.sort_by_key(|(imsi, open)| (std::cmp::Reverse(open.map(|o| o.since)), *imsi));
    let end = offset + wanted.limit;
    let mut order: Vec<Imsi> = if wanted.only == Some(false) {
        Vec::new()
    } else {
        here.iter().map(|(imsi, _)| (*imsi).clone()).collect()
    };
    if wanted.only != Some(true) && order.len() < end {
        // Those online stand among those seen last.
        let latest = store.latest_subscribers(end - order.len() + open.len()).await?;
        order.extend(latest.into_iter().filter(|imsi| !open.contains_key(imsi)));
    }
    let picked: Vec<Imsi> = order.into_iter().skip(offset).take(wanted.limit).collect();
    let page = store.subscribers_among(&picked).await?;
    let problem = problem(&page, false);
    let mut rows: HashMap<Imsi, Row> = page.items.into_iter().map(|s| (s.imsi.clone(), s.into())).collect();
    let everybody = app.book.view().await.directory.len();
    let (total, online) = match wanted.only {
        None => (everybody, open.len()),
        Some(true) => (open.len(), open.len()),
        Some(false) => (everybody.saturating_sub(open.len()), 0),
    };
    Ok(Found {
        rows: picked.iter().filter_map(|imsi| rows.remove(imsi)).collect(),
        total: Some(total),
        online,
        problem,
    })
}

/// With something typed: all hits.
pub(super) async fn typed(app: &App, store: &Store, wanted: &Wanted<'_>) -> Result<Found, ApiError> {
    let (hits, mut more) = store.search_subscribers(wanted.ask.phrase(), SEARCH_MAX).await?;
    let known: HashSet<Imsi> = hits.items.iter().map(|s| s.imsi.clone()).collect();
    let mut others = remembered(app, wanted.words).await;
    others.retain(|imsi| !known.contains(imsi));
    more |= others.len() > SEARCH_MAX;
    others.truncate(SEARCH_MAX);
    let mut page = store.subscribers_among(&others).await?;
    page.damaged.splice(..0, hits.damaged);
    let problem = problem(&page, more);
    let rows = hits.items.into_iter().chain(page.items).map(Row::from).collect();
    Ok(Found {
        rows,
        total: None,
        online: 0,
        problem,
    })
}

/// Those of this program's memory in whom all the words occur, those online first.
async fn remembered(app: &App, words: &[String]) -> Vec<Imsi> {
    let view = app.book.view().await;
    let hit = |imsi: &Imsi, client: &str, peer: &str| {
        let known = view.directory.of_imsi(imsi);
        let group = known.map_or("", |k| k.group.as_str());
        let source = known.and_then(|k| k.source).map(|s| s.to_string()).unwrap_or_default();
        occur(words, [imsi.as_str(), client, peer, group, source.as_str()])
    };
    let open = online(app);
    let mut found: Vec<Imsi> = open
        .iter()
        .filter(|(imsi, list)| {
            list.iter()
                .any(|o| hit(imsi, o.client.as_deref().unwrap_or_default(), &o.peer.to_string()))
        })
        .map(|(imsi, _)| imsi.clone())
        .collect();
    found.sort();
    app.status.history().each_device(|imsi, device| {
        let last = Last::of(device).filter(|_| !open.contains_key(imsi));
        if last.is_some_and(|l| hit(imsi, &l.client_id, &l.peer)) {
            found.push(imsi.clone());
        }
    });
    found
}
