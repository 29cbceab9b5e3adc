//! Status, history and certificates.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Map, Value, json};

use super::{Answer, ApiError, App, Ask, occur, unix};
use crate::gateway::history::series::{Range, Slot};
use crate::gateway::history::timeline::{Noted, What};
use crate::gateway::refusal::KEYS;
use crate::gateway::status::expiry::{Expiry, days_left};

/// How old a scan of the credentials may be for somebody who looks.
const CERTIFICATES_AGE: Duration = Duration::from_secs(30);

pub(super) async fn status(State(app): State<Arc<App>>) -> Answer {
    app.status.sample();
    let mut answer = app.status.common(&app.status.counts());
    let strangers: Vec<Value> = app.status.history().strangers().iter().map(stranger).collect();
    answer["strangers"] = strangers.into();
    answer["now"] = unix(app.clock.system()).into();
    Ok(Json(answer))
}

fn stranger(noted: &Noted) -> Value {
    let (reason, why) = match &noted.event.what {
        What::Refused { reason, why } => (*reason, &**why),
        other => (other.word(), ""),
    };
    json!({
        "address": noted.event.peer.ip().to_canonical().to_string(),
        "client_id": &*noted.event.client_id,
        "reason": reason,
        "why": why,
        "times": noted.times,
        "first": unix(noted.first),
        "last": unix(noted.event.at),
    })
}

/// The columns of a point.
const COLUMNS: [&str; 8] = [
    "time",
    "seconds",
    "open",
    "up_bytes",
    "down_bytes",
    "up_packets",
    "down_packets",
    "relayed",
];

pub(super) async fn history(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let ask = Ask::read(query.as_deref())?;
    let range = match ask.range.as_deref() {
        None => Range::Hour,
        Some(word) => Range::of_word(word).ok_or_else(|| {
            let words: Vec<&str> = Range::ALL.into_iter().map(Range::word).collect();
            ApiError::bad_request(&format!("range must be one of {}", words.join(", ")))
        })?,
    };
    app.status.sample();
    let answer = app.status.history().series(range);
    // Slots are in monotonic time; people live in the other.
    let (system, monotonic) = (app.clock.system(), app.status.clock().monotonic());
    let start = |index: usize| {
        let at = answer.first + range.step() * u32::try_from(index).unwrap_or(u32::MAX);
        unix((system + at).saturating_sub(monotonic))
    };
    let point = |(index, s): (usize, &Slot)| {
        let seconds = f64::from(s.covered_ms) / 1e3;
        json!([
            start(index),
            seconds,
            s.open,
            s.up_bytes,
            s.down_bytes,
            s.up_packets,
            s.down_packets,
            s.relayed
        ])
    };
    let mut refused = Map::new();
    for (reason, key) in KEYS.iter().enumerate() {
        let of = |s: &Slot| s.refused.get(reason).copied().unwrap_or(0);
        if answer.slots.iter().any(|s| of(s) > 0) {
            refused.insert((*key).to_owned(), answer.slots.iter().map(of).collect());
        }
    }
    Ok(Json(json!({
        "range": range.word(),
        "step_seconds": range.step().as_secs(),
        "slots_max": range.slots(),
        "now": unix(system),
        "columns": COLUMNS,
        "points": answer.slots.iter().enumerate().map(point).collect::<Vec<_>>(),
        "refused": refused,
    })))
}

pub(super) async fn certificates(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let ask = Ask::read(query.as_deref())?;
    let (limit, words) = (ask.limit()?, ask.words());
    let found = app
        .status
        .expiries()
        .fresh(&app.book, &app.clock, CERTIFICATES_AGE)
        .await;
    let now = app.clock.system();
    let shown = |e: &Expiry| {
        json!({
            "id": e.id.as_str(),
            "imsi": e.imsi.as_ref().map(ToString::to_string),
            "not_after": e.not_after.map(unix),
            "days_left": e.not_after.map(|t| days_left(t, now)),
            "class": e.class(now),
            "problem": e.problem,
        })
    };
    let hits = || {
        found
            .all
            .iter()
            .filter(|e| occur(&words, [e.id.as_str(), e.imsi.as_ref().map_or("", |i| i.as_str())]))
    };
    let classes: Vec<Value> = found
        .classes(now)
        .into_iter()
        .map(|(name, count)| json!({"name": name, "count": count}))
        .collect();
    Ok(Json(json!({
        "classes": classes,
        "total": hits().count(),
        "offset": ask.offset,
        "certificates": hits().skip(ask.offset).take(limit).map(shown).collect::<Vec<_>>(),
        "seconds_ago": app.clock.monotonic().saturating_sub(found.at).as_secs(),
        "problem": found.problem,
    })))
}
