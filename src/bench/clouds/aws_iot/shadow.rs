//! Device shadows, classic and named, as AWS's shadow service keeps them. No I/O; the time is an argument.
//!
//! A shadow has two sections, `desired` and `reported`, a time stamp for every value in them, and a version that every accepted update
//! raises and that a deletion does not reset. An update is merged into the sections: objects key by key, everything else (arrays too)
//! whole, `null` removes. What `desired` says and `reported` does not say, or says otherwise, is the delta.
//!
//! Every answer is a JSON document; who gets it on which topic is decided by the [service](super). Errors carry AWS's codes and words.
//! Source: AWS IoT Core developer guide, "Device Shadow service documents", "Device Shadow MQTT topics", "Device Shadow error messages".
//!
//! Inferred, because nobody says: a request is in flight for [`SERVICE_TIME`]; levels of nesting are counted within a section; a full
//! bench answers 500.

mod merge;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::merge::{depth, difference, merge, stamps};
use crate::bench::clouds::backend::Now;

/// Largest state document, in bytes (AWS IoT Core quotas, Device Shadow; metadata does not count).
pub const DOCUMENT_MAX: usize = 8 * 1_024;
/// Requests of a connection that may be in flight (AWS IoT Core quotas, Device Shadow).
pub const IN_FLIGHT_MAX: usize = 10;
/// For how long the stand-in counts a request as in flight (inferred: AWS publishes none).
pub const SERVICE_TIME: Duration = Duration::from_millis(100);
/// Longest client token, in bytes (Device Shadow error messages).
const TOKEN_MAX: usize = 64;
/// Deepest nesting of a section (Device Shadow error messages: "maximum is 6").
const DEPTH_MAX: usize = 6;
/// Shadows kept, deleted ones included; the bench's own bound.
pub const SHADOWS_MAX: usize = 1_024;

/// Which shadow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The thing.
    pub thing: String,
    /// A named shadow's name; none is the classic one.
    pub name: Option<String>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The document.
    Get,
    /// A change.
    Update,
    /// The end of it.
    Delete,
}

impl Operation {
    /// The word in topics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// A refusal by the shadow service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowError {
    /// As an HTTP status.
    pub code: u16,
    /// AWS's words.
    pub message: String,
}

fn error(code: u16, message: impl Into<String>) -> ShadowError {
    let message = message.into();
    ShadowError { code, message }
}

/// What a request led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The body for `accepted` or `rejected`.
    pub answer: Result<Value, Value>,
    /// The HTTP status that goes with it.
    pub status: u16,
    /// The body for `update/delta`, if sections differ after an update.
    pub delta: Option<Value>,
    /// The body for `update/documents`, after an update.
    pub documents: Option<Value>,
}

/// One section: its values and, in the same shape, their time stamps.
#[derive(Debug, Clone, Default, PartialEq)]
struct Section {
    values: Map<String, Value>,
    stamps: Map<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Shadow {
    desired: Section,
    reported: Section,
    version: u64,
    deleted: bool,
}

/// Every shadow of the account.
#[derive(Debug, Default)]
pub struct Shadows {
    shadows: HashMap<Key, Shadow>,
    /// When each connection's latest requests came.
    in_flight: HashMap<String, VecDeque<Duration>>,
}

impl Shadow {
    /// `state` or `metadata` with the sections that are there.
    fn sections(&self, pick: impl Fn(&Section) -> &Map<String, Value>) -> Map<String, Value> {
        let mut out = Map::new();
        for (name, section) in [("desired", &self.desired), ("reported", &self.reported)] {
            if !section.values.is_empty() {
                out.insert(name.into(), Value::Object(pick(section).clone()));
            }
        }
        out
    }

    fn delta(&self) -> (Map<String, Value>, Map<String, Value>) {
        difference(&self.desired.values, &self.desired.stamps, &self.reported.values)
    }

    fn state(&self) -> Map<String, Value> {
        self.sections(|s| &s.values)
    }

    fn metadata(&self) -> Map<String, Value> {
        self.sections(|s| &s.stamps)
    }

    fn document(&self) -> Value {
        json!({"state": self.state(), "metadata": self.metadata(), "version": self.version})
    }
}

/// A request's body, as far as every operation reads it.
#[derive(Debug, Default)]
struct Body {
    fields: Map<String, Value>,
    token: Option<String>,
}

fn body(payload: &[u8], operation: Operation) -> Result<Body, ShadowError> {
    if payload.len() > DOCUMENT_MAX {
        return Err(error(413, "The payload exceeds the maximum size allowed"));
    }
    let encoding = "Unsupported documented encoding; supported encoding is UTF-8";
    let text = std::str::from_utf8(payload).map_err(|_| error(415, encoding))?;
    if text.trim().is_empty() && operation != Operation::Update {
        return Ok(Body::default());
    }
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return Err(error(400, "Invalid JSON"));
    };
    let token = match fields.get("clientToken") {
        None | Some(Value::Null) => None,
        Some(Value::String(token)) if token.len() <= TOKEN_MAX => Some(token.clone()),
        Some(_) => return Err(error(400, "Invalid clientToken")),
    };
    Ok(Body { fields, token })
}

/// The sections of an update: absent, `null` (remove it all) or an object.
type Patch<'a> = [(&'static str, Option<&'a Value>); 2];

fn patch(body: &Body) -> Result<Patch<'_>, ShadowError> {
    let state = body.fields.get("state");
    let state = state.ok_or_else(|| error(400, "Missing required node: state"))?;
    let state = state
        .as_object()
        .ok_or_else(|| error(400, "State node must be an object"))?;
    if state.keys().any(|k| k != "desired" && k != "reported") {
        return Err(error(400, "State contains an invalid node"));
    }
    let section = |name: &'static str, message: &str| match state.get(name) {
        Some(v) if !v.is_object() && !v.is_null() => Err(error(400, message)),
        Some(v) if depth(v) > DEPTH_MAX => {
            let message = format!("JSON contains too many levels of nesting; maximum is {DEPTH_MAX}");
            Err(error(400, message))
        }
        found => Ok((name, found)),
    };
    Ok([
        section("desired", "Desired node must be an object")?,
        section("reported", "Reported node must be an object")?,
    ])
}

impl Shadows {
    /// Whether a connection may ask once more now; asking counts.
    fn in_flight(&mut self, client_id: &str, now: Duration) -> Result<(), ShadowError> {
        self.in_flight.retain(|_, times| {
            times.retain(|t| now.saturating_sub(*t) < SERVICE_TIME);
            !times.is_empty()
        });
        let times = self.in_flight.entry(client_id.to_owned()).or_default();
        if times.len() >= IN_FLIGHT_MAX {
            return Err(error(429, "Too many requests"));
        }
        times.push_back(now);
        Ok(())
    }

    /// Does what is asked. `client_id` is the connection's, none for requests from the cloud's side, which have no such limit.
    pub fn handle(
        &mut self,
        client_id: Option<&str>,
        key: &Key,
        operation: Operation,
        payload: &[u8],
        now: Now,
    ) -> Outcome {
        let second = now.wall.as_secs();
        let limited = client_id.map_or(Ok(()), |c| self.in_flight(c, now.monotonic));
        let read = limited.and_then(|()| body(payload, operation));
        let token = read.as_ref().ok().and_then(|b| b.token.clone());
        let done = read.and_then(|body| match operation {
            Operation::Get => self.get(key).map(|answer| (answer, None, None)),
            Operation::Delete => self.delete(key, &body).map(|answer| (answer, None, None)),
            Operation::Update => self.update(key, &body, second),
        });
        let finish = |mut value: Value| {
            if let Some(map) = value.as_object_mut() {
                map.insert("timestamp".into(), second.into());
                if let Some(token) = &token {
                    map.insert("clientToken".into(), token.as_str().into());
                }
            }
            value
        };
        match done {
            Ok((answer, delta, documents)) => Outcome {
                answer: Ok(finish(answer)),
                status: 200,
                delta: delta.map(finish),
                documents: documents.map(finish),
            },
            Err(e) => Outcome {
                answer: Err(finish(json!({"code": e.code, "message": e.message}))),
                status: e.code,
                delta: None,
                documents: None,
            },
        }
    }

    fn find(&mut self, key: &Key) -> Result<&mut Shadow, ShadowError> {
        let name = key.name.as_deref().unwrap_or(&key.thing);
        self.shadows
            .get_mut(key)
            .filter(|s| !s.deleted)
            .ok_or_else(|| error(404, format!("No shadow exists with name: '{name}'")))
    }

    fn get(&mut self, key: &Key) -> Result<Value, ShadowError> {
        let shadow = self.find(key)?;
        let (mut state, mut metadata) = (shadow.state(), shadow.metadata());
        let (delta, marks) = shadow.delta();
        if !delta.is_empty() {
            state.insert("delta".into(), Value::Object(delta));
            metadata.insert("delta".into(), Value::Object(marks));
        }
        Ok(json!({"state": state, "metadata": metadata, "version": shadow.version}))
    }

    fn delete(&mut self, key: &Key, body: &Body) -> Result<Value, ShadowError> {
        let shadow = self.find(key)?;
        check_version(body, shadow.version)?;
        let version = shadow.version;
        *shadow = Shadow {
            version,
            deleted: true,
            ..Shadow::default()
        };
        Ok(json!({ "version": version }))
    }

    #[allow(clippy::type_complexity)] // accepted, delta, documents: named where they go, in `handle`
    fn update(
        &mut self,
        key: &Key,
        body: &Body,
        second: u64,
    ) -> Result<(Value, Option<Value>, Option<Value>), ShadowError> {
        let patch = patch(body)?;
        let previous = self.shadows.get(key).cloned().unwrap_or_default();
        check_version(body, previous.version)?;
        if !self.shadows.contains_key(key) && self.shadows.len() >= SHADOWS_MAX {
            return Err(error(500, "Internal service failure"));
        }
        let mut shadow = previous.clone();
        let (mut echo, mut marks) = (Map::new(), Map::new());
        for (name, change) in patch {
            let Some(change) = change else { continue };
            let section = if name == "desired" {
                &mut shadow.desired
            } else {
                &mut shadow.reported
            };
            match change.as_object() {
                Some(map) => merge(&mut section.values, &mut section.stamps, map, second),
                None => *section = Section::default(),
            }
            echo.insert(name.into(), change.clone());
            marks.extend(stamps(change, second).map(|m| (name.to_owned(), m)));
        }
        let size = Value::Object(shadow.state()).to_string().len();
        if size > DOCUMENT_MAX {
            return Err(error(413, "The payload exceeds the maximum size allowed"));
        }
        shadow.version += 1;
        shadow.deleted = false;
        let accepted = json!({"state": echo, "metadata": marks, "version": shadow.version});
        let (delta, delta_marks) = shadow.delta();
        let delta =
            (!delta.is_empty()).then(|| json!({"state": delta, "metadata": delta_marks, "version": shadow.version}));
        let documents = json!({"previous": previous.document(), "current": shadow.document()});
        self.shadows.insert(key.clone(), shadow);
        Ok((accepted, delta, Some(documents)))
    }
}

fn check_version(body: &Body, version: u64) -> Result<(), ShadowError> {
    match body.fields.get("version") {
        None | Some(Value::Null) => Ok(()),
        Some(v) => match v.as_u64() {
            None => Err(error(400, "Invalid version")),
            Some(asked) if asked != version => Err(error(409, "Version conflict")),
            Some(_) => Ok(()),
        },
    }
}

#[cfg(test)]
#[path = "shadow_tests.rs"]
mod tests;
