//! Devices: a page of all, and one with its timeline.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use serde_json::{Value, json};

use super::finding::{self, Found, Wanted};
use super::rows::{self, Row};
use super::{Answer, ApiError, App, Ask, occur, unix};
use crate::gateway::history::timeline::{Device, Noted, What};
use crate::gateway::status::Open;
use crate::identity::{IdentityError, Imsi};

/// What is remembered of a device that is worth a line in a list.
pub(super) struct Last {
    at: Duration,
    what: &'static str,
    reason: Option<&'static str>,
    pub(super) client_id: Arc<str>,
    pub(super) peer: String,
    credential: Option<Arc<str>>,
}

impl Last {
    pub(super) fn of(device: &Device) -> Option<Self> {
        let noted = device.events.back()?;
        Some(Self {
            at: noted.event.at,
            what: noted.event.what.word(),
            reason: reason(&noted.event.what),
            client_id: noted.event.client_id.clone(),
            peer: noted.event.peer.to_string(),
            credential: device.credential.as_ref().map(|u| u.id.clone()),
        })
    }
}

fn reason(what: &What) -> Option<&'static str> {
    match what {
        What::Refused { reason, .. } | What::Ended { reason, .. } => Some(reason),
        What::Connected { .. } | What::Rotated => None,
    }
}

/// All that is known of a device, to be searched, sorted and shown.
struct Line<'a> {
    row: &'a Row,
    open: Option<&'a [Open]>,
    last: Option<&'a Last>,
}

impl Line<'_> {
    fn newest(&self) -> Option<&Open> {
        self.open?.last()
    }

    fn seen(&self) -> Option<Duration> {
        let stored = self.row.last_seen.as_ref().map(|(at, _)| *at);
        stored.max(self.last.map(|l| l.at))
    }

    fn client_id(&self) -> &str {
        let open = self.newest().and_then(|o| o.client.as_deref());
        open.or(self.last.map(|l| &*l.client_id)).unwrap_or_default()
    }

    fn peer(&self) -> Option<String> {
        self.newest()
            .map(|o| o.peer.to_string())
            .or_else(|| self.last.map(|l| l.peer.clone()))
    }

    fn hit(&self, words: &[String]) -> bool {
        if words.is_empty() {
            return true;
        }
        let row = self.row;
        let peer = self.peer().unwrap_or_default();
        let (group, source) = (
            row.group.as_deref().unwrap_or_default(),
            row.source.as_deref().unwrap_or_default(),
        );
        occur(
            words,
            [
                row.imsi.as_str(),
                row.name.as_str(),
                self.client_id(),
                group,
                source,
                peer.as_str(),
            ],
        )
    }

    fn json(&self) -> Value {
        let row = self.row;
        let open = self.newest();
        json!({
            "imsi": row.imsi.to_string(),
            "name": row.name,
            "group": row.group,
            "source": row.source,
            "enabled": row.enabled,
            "online": open.is_some(),
            "connections": self.open.map_or(0, <[Open]>::len),
            "client_id": self.client_id(),
            "peer": self.peer(),
            "credential": open.and_then(|o| o.credential.clone()).or_else(|| self.last.and_then(|l| l.credential.as_deref().map(str::to_owned))),
            "since": open.map(|o| unix(o.since)),
            "upstream": open.map(|o| &o.upstream),
            "up": open.map(|o| json!({"packets": o.up.packets, "bytes": o.up.bytes})),
            "down": open.map(|o| json!({"packets": o.down.packets, "bytes": o.down.bytes})),
            "last_seen": self.seen().map(unix),
            "last_gateway": row.last_seen.as_ref().map(|(_, gateway)| gateway),
            "last_event": self.last.map(|l| json!({"what": l.what, "reason": l.reason, "at": unix(l.at)})),
        })
    }
}

/// Open connections by device.
pub(super) fn online(app: &App) -> HashMap<Imsi, Vec<Open>> {
    let mut online: HashMap<Imsi, Vec<Open>> = HashMap::new();
    for open in app.status.of_devices() {
        online.entry(open.imsi.clone()).or_default().push(open);
    }
    online
}

pub(super) async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let ask = Ask::read(query.as_deref())?;
    let (limit, words) = (ask.limit()?, ask.words());
    let only = match ask.state.as_deref() {
        None | Some("") => None,
        Some("online") => Some(true),
        Some("offline") => Some(false),
        Some(_) => return Err(ApiError::bad_request("state must be online or offline")),
    };
    let wanted = Wanted {
        ask: &ask,
        limit,
        words: &words,
        only,
    };
    let found = match app.book.store() {
        Some(store) if words.is_empty() => finding::all(&app, store, &wanted).await?,
        Some(store) => finding::typed(&app, store, &wanted).await?,
        None => Found {
            rows: rows::of_files(&app.book).await,
            total: None,
            online: 0,
            problem: None,
        },
    };
    let online = online(&app);
    let last: HashMap<&Imsi, Last> = found.rows.iter().filter_map(|row| last_of(&app, row)).collect();
    let mut lines: Vec<Line<'_>> = found
        .rows
        .iter()
        .map(|row| Line {
            row,
            open: online.get(&row.imsi).map(Vec::as_slice),
            last: last.get(&row.imsi),
        })
        .collect();
    let (total, online, skip) = match found.total {
        // A page of them, in its order.
        Some(total) => (total, found.online, 0),
        None => {
            // The store has found by itself what it could.
            let files = app.book.store().is_none();
            lines.retain(|line| only.is_none_or(|want| line.open.is_some() == want) && (!files || line.hit(&words)));
            lines.sort_by_cached_key(|l| (l.open.is_none(), Reverse(l.seen()), l.row.imsi.clone()));
            let online = lines.iter().filter(|l| l.open.is_some()).count();
            (lines.len(), online, ask.offset)
        }
    };
    Ok(Json(json!({
        "total": total,
        "online": online,
        "offset": ask.offset,
        "devices": lines.iter().skip(skip).take(limit).map(Line::json).collect::<Vec<_>>(),
        "problem": found.problem,
        "now": unix(app.clock.system()),
    })))
}

fn last_of<'a>(app: &App, row: &'a Row) -> Option<(&'a Imsi, Last)> {
    let device = app.status.history().device(&row.imsi)?;
    Some((&row.imsi, Last::of(&device)?))
}

pub(super) async fn one(State(app): State<Arc<App>>, Path(imsi): Path<String>) -> Answer {
    let imsi: Imsi = imsi
        .parse()
        .map_err(|e: IdentityError| ApiError::bad_request(&e.to_string()))?;
    let row = match app.book.store() {
        Some(store) => store.subscriber(&imsi).await?.map(Row::from),
        None => rows::of_files(&app.book).await.into_iter().find(|r| r.imsi == imsi),
    };
    let row = &row.ok_or_else(|| ApiError::missing(format!("subscriber {imsi}")))?;
    let online = online(&app);
    let open = online.get(&imsi).map(Vec::as_slice);
    let device = app.status.history().device(&imsi).unwrap_or_default();
    let last = Last::of(&device);
    let line = Line {
        row,
        open,
        last: last.as_ref(),
    };
    let mut answer = line.json();
    let each = open.unwrap_or_default().iter();
    answer["open"] = each
        .map(|o| {
            json!({
                "connection": o.id,
                "peer": o.peer.to_string(),
                "client_id": o.client.as_deref(),
                "since": unix(o.since),
                "upstream": o.upstream,
                "up": {"packets": o.up.packets, "bytes": o.up.bytes},
                "down": {"packets": o.down.packets, "bytes": o.down.bytes},
            })
        })
        .collect();
    answer["events"] = device.events.iter().rev().map(event).collect();
    answer["now"] = unix(app.clock.system()).into();
    Ok(Json(answer))
}

fn event(noted: &Noted) -> Value {
    let e = &noted.event;
    let mut value = json!({
        "at": unix(e.at),
        "first": unix(noted.first),
        "times": noted.times,
        "what": e.what.word(),
        "reason": reason(&e.what),
        "connection": e.connection,
        "peer": e.peer.to_string(),
        "client_id": &*e.client_id,
        "credential": e.credential.as_ref().map(|u| &*u.id),
        "credential_version": e.credential.as_ref().map(|u| format!("{:08x}", u.version >> 32)),
    });
    match &e.what {
        What::Connected { upstream } => value["upstream"] = (**upstream).into(),
        What::Refused { why, .. } => value["why"] = (**why).into(),
        What::Ended {
            why, packets, bytes, ..
        } => {
            value["why"] = (**why).into();
            value["up"] = json!({"packets": packets.0, "bytes": bytes.0});
            value["down"] = json!({"packets": packets.1, "bytes": bytes.1});
        }
        What::Rotated => {}
    }
    value
}
