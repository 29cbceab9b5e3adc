//! Errors in SORACOM's shape: a status, and `{"code": …, "message": …}`.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::gateway::admin::AdminError;
use crate::gateway::store::StoreError;

/// A refusal.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry: Option<Duration>,
}

impl ApiError {
    /// Any.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: String) -> Self {
        Self {
            status,
            code,
            message,
            retry: None,
        }
    }

    /// 400.
    pub(super) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message.to_owned())
    }

    /// 401.
    pub(super) fn unknown() -> Self {
        let message = "send the token of api.token_file as 'Authorization: Bearer …' or 'X-Soracom-Token: …'";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message.to_owned())
    }

    /// 403.
    pub(super) fn forbidden(message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404.
    pub(super) fn missing(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {what}"))
    }

    /// 405.
    pub(super) fn bad_method() -> Self {
        let message = "this address takes other methods: see the table in the documentation of the API";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message.to_owned())
    }

    /// 429.
    pub(super) fn slow_down(left: Duration) -> Self {
        let seconds = left.as_secs() + 1;
        let message = format!("too many wrong tokens came from this address: try again in {seconds} s");
        Self {
            retry: Some(left),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_guesses", message)
        }
    }
}

impl From<AdminError> for ApiError {
    fn from(e: AdminError) -> Self {
        match e {
            AdminError::Wrong(why) => Self::new(StatusCode::BAD_REQUEST, "bad_request", why),
            AdminError::Store(e) => e.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        let (status, code) = match &e {
            StoreError::Missing(_) => (StatusCode::NOT_FOUND, "not_found"),
            StoreError::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            StoreError::Refused(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            StoreError::Unreachable(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unreachable"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "store_broken"),
        };
        if status.is_server_error() {
            tracing::warn!(
                "the API cannot answer: {}",
                crate::identity::redact_digits(&e.to_string())
            );
        }
        Self::new(status, code, e.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut answer = (self.status, Json(json!({"code": self.code, "message": self.message}))).into_response();
        if let Some(left) = self.retry {
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(left.as_secs() + 1));
        }
        answer
    }
}
