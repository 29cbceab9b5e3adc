//! The steps of HTTPS, around whatever answers a request.

use std::future::Future;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};

use super::wire::Step;
use crate::bench::clouds::visit::Visit;

/// Largest answer that can be stopped in the middle, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// Answers a request on this connection, unless a fault holds it at [`Step::Request`] or [`Step::Response`].
pub(crate) async fn steps(visit: Arc<Visit>, answering: impl Future<Output = Response>) -> Response {
    let held = Arc::clone(&visit);
    Arc::clone(&visit)
        .within(async move {
            if held.step(Step::Request).await.is_err() {
                // Nobody gets this: the connection is cut.
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            let response = answering.await;
            if held.stalls_at(Step::Response) {
                half(response, held).await
            } else {
                response
            }
        })
        .await
}

/// The head of an answer and the first half of its body; then nothing, until the connection ends.
async fn half(response: Response, visit: Arc<Visit>) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = to_bytes(body, ANSWER_MAX).await.unwrap_or_default();
    let length = HeaderValue::from(whole.len().max(1));
    parts.headers.insert(header::CONTENT_LENGTH, length);
    let first = stream::once(std::future::ready(Ok::<Bytes, std::io::Error>(
        whole.slice(..whole.len() / 2),
    )));
    let rest = stream::once(async move {
        visit.ended().await;
        Err(std::io::ErrorKind::ConnectionAborted.into())
    });
    Response::from_parts(parts, Body::from_stream(first.chain(rest)))
}
