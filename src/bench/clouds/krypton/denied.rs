//! What a request is refused with: `{"code","message"}`, in the language asked for.

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::bench::clouds::authority::AuthorityError;
use crate::bench::clouds::policy::krypton::Article;
use crate::bench::clouds::policy::{Look, Refusal};

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// A rule was broken.
    Rule(&'static Article, String),
    /// The stand-in itself has failed.
    Internal(String),
}

impl Denied {
    pub(crate) fn new(article: &'static Article, detail: impl Into<String>) -> Self {
        Self::Rule(article, detail.into())
    }

    /// The broken rule, for the journal.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Rule(article, detail) => {
                let look = Look::Answer(article.status);
                Some(Refusal::new(&article.rule, look, detail.clone()))
            }
            Self::Internal(_) => None,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Rule(article, _) => StatusCode::from_u16(article.status).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(crate) fn response(&self, language: Language) -> Response {
        match self {
            Self::Rule(article, detail) => {
                let message = match language {
                    Language::En => detail,
                    Language::Ja => article.ja,
                };
                body(self.status(), &article.code(), message)
            }
            Self::Internal(message) => body(self.status(), "KRY0500", message),
        }
    }
}

impl From<AuthorityError> for Denied {
    fn from(e: AuthorityError) -> Self {
        Self::Internal(e.to_string())
    }
}

/// An error body.
pub(crate) fn body(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({"code": code, "message": message}))).into_response()
}

/// The language of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    En,
    Ja,
}

impl Language {
    /// By the header `X-Soracom-Lang`; English for everything but `ja`.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get("x-soracom-lang") {
            Some(value) if value.as_bytes().eq_ignore_ascii_case(b"ja") => Self::Ja,
            _ => Self::En,
        }
    }
}
