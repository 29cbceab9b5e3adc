//! Faults that concern whole answers of HTTPS, whoever gives them: an error status, a captive portal's page, nothing, half, or silence.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;

use super::{Board, KryptonFault, Switch};
use crate::bench::clouds::journal::{Journal, What};
use crate::bench::clouds::stand_in::Cloud;

/// Largest answer that can be cut in the middle, in bytes.
const ANSWER_MAX: usize = 256 * 1024;
/// How long the fault `slow` keeps silent.
const STALL: Duration = Duration::from_secs(300);
/// What a captive portal might say.
const PORTAL: &str =
    "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in to this network.</body></html>\n";

/// What the faults of a stand-in's answers need to know.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    pub(crate) cloud: Cloud,
    pub(crate) board: Arc<Board>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) stop: CancellationToken,
    /// An error of this status in the stand-in's own words.
    pub(crate) error: fn(StatusCode) -> Response,
}

/// Around every request: a fault that is in force, and the journal's line about it.
pub(crate) async fn around(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    use KryptonFault::{
        Empty, Expired, Failed, GarbageCertificate, Html, Http, NeverAssigned, Slow, Truncated, WrongKey,
    };
    let faults = Switch::<KryptonFault>::on(Arc::clone(&answers.board));
    let Some(fault) = faults.take(KryptonFault::concerns_whole_answers) else {
        return next.run(request).await;
    };
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let response = match fault {
        Http(status) => (answers.error)(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)),
        Html => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PORTAL).into_response(),
        Slow => {
            tokio::select! {
                () = answers.stop.cancelled() => {}
                () = tokio::time::sleep(STALL) => {}
            }
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Truncated => half(next.run(request).await).await,
        Empty => StatusCode::OK.into_response(),
        // These do not concern whole answers and were not taken.
        WrongKey | Expired | GarbageCertificate | NeverAssigned | Failed => next.run(request).await,
    };
    answers.journal.record(
        answers.cloud,
        What::Http {
            method,
            path,
            status: response.status().as_u16(),
            subscriber: None,
            fault: Some(fault.to_string()),
        },
    );
    response
}

/// The first half of an answer, as if that were all.
async fn half(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = to_bytes(body, ANSWER_MAX).await.unwrap_or_default();
    let first = whole.slice(..whole.len() / 2);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(first))
}
