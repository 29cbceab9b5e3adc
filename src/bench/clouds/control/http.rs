//! The control endpoint's HTTP.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::few::{Asked, Few, REQUEST_MAX};
use super::{Controls, closed_for, offset};
use crate::bench::clouds::fault::Spec;
use crate::bench::clouds::stand_in::Cloud;

/// Largest request body, in bytes.
pub(crate) const BODY_MAX: usize = 64 * 1024;
/// Largest body that is read before a route says what it takes, in bytes: more than any of them does.
const READ_MAX: usize = 256 * 1024;
/// Connections at a time; further ones wait.
const CONNECTIONS_MAX: usize = 32;
/// Messages in one answer; the rest is asked for with `after`.
const MESSAGES_AT_ONCE: usize = 1_000;

/// An error as JSON.
#[derive(Debug)]
struct Wrong(StatusCode, String);

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self(StatusCode::BAD_REQUEST, why)
    }
}

type Answer = Result<Json<Value>, Wrong>;

#[derive(Clone)]
struct Shared {
    controls: Arc<Controls>,
    stop: CancellationToken,
}

/// The place for the stand-ins' own control routers: each is nested under its name, behind the same check of `Host` and `Origin` and the
/// same limit of bodies. To add one, give [`serve`] a further `("/iot-hub", router)`.
fn nested(router: Router, stand_ins: Vec<(&'static str, Router)>) -> Router {
    stand_ins
        .into_iter()
        .fold(router, |all, (path, one)| all.nest(path, one))
}

/// Serves until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    controls: Arc<Controls>,
    stand_ins: Vec<(&'static str, Router)>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let door = Few::new(listener, CONNECTIONS_MAX, stop.clone());
    let service = router(controls, stand_ins, stop.clone()).into_make_service_with_connect_info::<Asked>();
    axum::serve(door, service)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
}

/// Everything that the endpoint answers.
pub(crate) fn router(
    controls: Arc<Controls>,
    stand_ins: Vec<(&'static str, Router)>,
    stop: CancellationToken,
) -> Router {
    let shared = Shared { controls, stop };
    let own = Router::new()
        .route("/", get(|| async { include_str!("help.txt") }))
        .route("/status", get(status))
        .route("/events", get(events))
        .route("/messages", get(messages))
        .route("/faults", get(faults).put(put_fault).delete(delete_faults))
        .route("/restart", post(restart))
        .route("/clock", post(clock))
        .route("/connections/{number}/cut", post(cut))
        .with_state(shared);
    nested(own, stand_ins)
        .fallback(|uri: Uri| async move {
            Wrong(
                StatusCode::NOT_FOUND,
                format!("there is no {} here: GET / tells what there is", uri.path()),
            )
        })
        .method_not_allowed_fallback(|| async {
            Wrong(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path takes another method: GET / tells which".into(),
            )
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn(from_here))
}

/// Whether an authority (`Host`, or the part of an origin after `://`) is this machine.
fn is_loopback(authority: &str) -> bool {
    let host = authority.parse::<axum::http::uri::Authority>();
    host.is_ok_and(|a| {
        let host = a.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// The header by which a browser tells whose doing a request is (W3C Fetch Metadata); programs that are none do not send it.
const FETCH_SITE: &str = "sec-fetch-site";

/// Nobody but programs of this machine: a web page has an `Origin`, or a `Host` that is its own name, or (a picture that it shows has
/// neither) its browser says that it is of another site. A person who writes the address into a browser is let in.
async fn from_here(
    asked: Option<Extension<ConnectInfo<Asked>>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    if let Some(Extension(ConnectInfo(asked))) = asked {
        asked.set();
    }
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let host = text(header::HOST.as_str()).is_some_and(is_loopback);
    let origin = text(header::ORIGIN.as_str()).is_none_or(|o| o.split_once("://").is_some_and(|(_, a)| is_loopback(a)));
    let site = text(FETCH_SITE).is_none_or(|s| matches!(s, "none" | "same-origin"));
    if !(host && origin && site) {
        let why = "Host and Origin must be those of this machine: 127.0.0.1 or localhost";
        return Wrong(StatusCode::FORBIDDEN, why.into()).into_response();
    }
    let (parts, body) = request.into_parts();
    let (status, why) = match timeout(REQUEST_MAX, to_bytes(body, READ_MAX)).await {
        Ok(Ok(body)) => return next.run(Request::from_parts(parts, body.into())).await,
        Ok(Err(e)) => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body was not read to its end, {READ_MAX} bytes at most: {e}"),
        ),
        Err(_) => (
            StatusCode::REQUEST_TIMEOUT,
            format!("the body was not there after {} s", REQUEST_MAX.as_secs()),
        ),
    };
    Wrong(status, why).into_response()
}

fn read<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, Wrong> {
    serde_json::from_slice(body).map_err(|e| Wrong(StatusCode::BAD_REQUEST, format!("the body is not understood: {e}")))
}

fn cloud(name: Option<&String>) -> Result<Option<Cloud>, String> {
    name.map(|n| n.parse()).transpose()
}

async fn status(State(shared): State<Shared>) -> Answer {
    let status = serde_json::to_value(shared.controls.status()).map_err(|e| e.to_string())?;
    Ok(Json(status))
}

async fn events(State(shared): State<Shared>) -> Response {
    let events = shared.controls.journal.subscribe();
    let lines = stream::unfold((events, shared.stop), |(mut events, stop)| async move {
        let event = tokio::select! {
            () = stop.cancelled() => return None,
            event = events.recv() => event,
        };
        let mut line = match event {
            Ok(event) => serde_json::to_string(&event).ok()?,
            Err(RecvError::Lagged(n)) => json!({"event": "lost", "events": n}).to_string(),
            Err(RecvError::Closed) => return None,
        };
        line.push('\n');
        Some((Ok::<_, std::convert::Infallible>(line), (events, stop)))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(lines)).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    cloud: Option<String>,
    after: Option<u64>,
}

async fn messages(
    State(shared): State<Shared>,
    which: Result<Query<Which>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Query(which) = which.map_err(|e| e.body_text())?;
    let cloud = cloud(which.cloud.as_ref())?;
    let mut list = shared.controls.journal.messages_after(which.after.unwrap_or(0));
    list.retain(|(_, m)| cloud.is_none_or(|c| c == m.cloud));
    list.truncate(MESSAGES_AT_ONCE);
    let next = list.last().map_or(which.after.unwrap_or(0), |(number, _)| *number);
    let mut shown = Vec::new();
    for (number, message) in list {
        let mut value = serde_json::to_value(message).map_err(|e| e.to_string())?;
        value["number"] = number.into();
        shown.push(value);
    }
    Ok(Json(json!({"messages": shown, "next": next})))
}

async fn faults(State(shared): State<Shared>) -> Json<Value> {
    Json(json!(shared.controls.faults()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewFault {
    fault: String,
}

async fn put_fault(State(shared): State<Shared>, body: Bytes) -> Answer {
    let asked: NewFault = read(&body)?;
    let spec: Spec = asked.fault.parse()?;
    let put = shared.controls.put(&spec)?;
    Ok(Json(json!({"fault": spec.to_string(), "in_force": put})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldFault {
    cloud: Option<String>,
    id: Option<u64>,
}

async fn delete_faults(
    State(shared): State<Shared>,
    which: Result<Query<OldFault>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Query(which) = which.map_err(|e| e.body_text())?;
    let cleared = match which.id {
        Some(id) if shared.controls.remove(id) => 1,
        Some(id) => return Err(Wrong(StatusCode::NOT_FOUND, format!("no fault {id} is in force"))),
        None => shared.controls.clear(cloud(which.cloud.as_ref())?)?,
    };
    Ok(Json(json!({"cleared": cleared})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Restart {
    cloud: Option<String>,
    forget_sessions: bool,
    closed_for: Option<String>,
}

async fn restart(State(shared): State<Shared>, body: Bytes) -> Answer {
    let asked: Restart = if body.is_empty() {
        Restart::default()
    } else {
        read(&body)?
    };
    let closed = asked
        .closed_for
        .as_deref()
        .map(closed_for)
        .transpose()?
        .unwrap_or(Duration::ZERO);
    let cloud = cloud(asked.cloud.as_ref())?;
    shared.controls.restart(cloud, asked.forget_sessions, closed)?;
    Ok(Json(json!({"restarted": asked.cloud})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jump {
    #[serde(default)]
    cloud: Option<String>,
    by: String,
}

async fn clock(State(shared): State<Shared>, body: Bytes) -> Answer {
    let asked: Jump = read(&body)?;
    let by = offset(&asked.by)?;
    shared.controls.jump(cloud(asked.cloud.as_ref())?, by)?;
    Ok(Json(json!({"clocks": shared.controls.status().clocks})))
}

async fn cut(State(shared): State<Shared>, Path(number): Path<String>) -> Answer {
    let known = number.parse().is_ok_and(|n| shared.controls.cut(n));
    if !known {
        let why = format!("no connection {number} is open: GET /status lists them");
        return Err(Wrong(StatusCode::NOT_FOUND, why));
    }
    Ok(Json(json!({"cut": number})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for good in [
            "localhost",
            "localhost:80",
            "LOCALHOST:1",
            "127.0.0.1:9",
            "127.9.9.9",
            "[::1]:80",
        ] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "127.0.0.1.example.com",
            "localhost.example.com:80",
            "192.0.2.1",
            "[::2]",
            "null",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
