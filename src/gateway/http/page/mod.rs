//! The page for people, and the JSON behind it.
//!
//! The page is three files in this folder, put into the program as they are: no framework, no build step, nothing from another host,
//! together under [`PAGE_MAX`] bytes. It is served without the token ([`files`]): it holds no data. Everything it shows it asks for with
//! the token ([`routes`]), which it keeps in the tab's sessionStorage and sends as a header, never as a cookie, so no other site's page
//! can ask in its name. Its Content-Security-Policy lets it load, run and ask nothing but these files and this origin, and it puts text
//! from devices into the document as text nodes alone.
//!
//! | question | answer |
//! |---|---|
//! | `GET /v1/gateway/status` | counters, groups, store, process, `health` (what is wrong, worst first), `strangers` (callers nobody knows) |
//! | `GET /v1/gateway/devices?q=&state=&limit=&offset=` | `total`, `online`, `devices`: those online first, then by last seen |
//! | `GET /v1/gateway/device/{imsi}` | the same of one device, with `connections` and `events`, newest first; 404 for a stranger |
//! | `GET /v1/gateway/history?range=` | `hour`, `day` or `fortnight`: `columns`, `points` (rows, oldest first), `refused` by reason |
//! | `GET /v1/gateway/certificates?q=&limit=&offset=` | `classes` by days left, `total`, `certificates`, soonest first |
//!
//! `q` is words that must all occur in a device's IMSI, name, client id, group or address (in a certificate's id or IMSI), whatever the
//! case; at most [`QUERY_MAX`] bytes of it count. With a store, a fleet may be too large to be looked through at every key: there `q` as a
//! whole is how an IMSI, a name or a SIM id begins, or words that occur in the IMSI, client id, group or address of a device that is
//! online or was heard of lately. `offset` reaches to 10,000 there. `state` is `online` or `offline`. `limit` is 1 to [`LIMIT_MAX`], 50 when absent. Times
//! are Unix seconds, with fractions. Numbers of devices are whole here: the reader has the token. What was not understood is answered
//! 400 with `{"code", "message"}`.

mod answers;
mod devices;
mod finding;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;

use super::App;
use super::error::ApiError;

/// Most bytes of the page's files together.
pub const PAGE_MAX: usize = 60 << 10;
/// Most entries of one answer.
pub const LIMIT_MAX: usize = 500;
const LIMIT: usize = 50;
/// Longest search, in bytes.
pub const QUERY_MAX: usize = 200;

const HTML: &str = include_str!("page.html");
const CSS: &str = include_str!("page.css");
const JS: &str = include_str!("page.js");
const ICON: &str = include_str!("icon.svg");

const _: () = assert!(HTML.len() + CSS.len() + JS.len() + ICON.len() <= PAGE_MAX);

/// What the page may do: run and show its own files, ask its own origin; be in no other page's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The page's files, which need no token.
pub fn files() -> Router<Arc<App>> {
    let file = |content: &'static str, kind: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], content) })
    };
    Router::new()
        .route("/", file(HTML, "text/html; charset=utf-8"))
        .route("/page.css", file(CSS, "text/css; charset=utf-8"))
        .route("/page.js", file(JS, "text/javascript; charset=utf-8"))
        .route("/icon.svg", file(ICON, "image/svg+xml"))
        .layer(from_fn(|request: Request, next: Next| async move {
            let mut response = next.run(request).await;
            // A newer program's page must not meet an older one's script.
            guarded(&mut response, "no-cache");
            response
        }))
}

/// What the page asks for, which needs the token.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/gateway/status", get(answers::status))
        .route("/v1/gateway/devices", get(devices::list))
        .route("/v1/gateway/device/{imsi}", get(devices::one))
        .route("/v1/gateway/history", get(answers::history))
        .route("/v1/gateway/certificates", get(answers::certificates))
        .layer(from_fn(|request: Request, next: Next| async move {
            let mut response = next.run(request).await;
            guarded(&mut response, "no-store");
            response
        }))
}

fn guarded(response: &mut Response, cache: &'static str) {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, cache),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// What may be asked of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Ask {
    q: String,
    state: Option<String>,
    range: Option<String>,
    limit: Option<usize>,
    offset: usize,
}

type Answer = Result<Json<Value>, ApiError>;

impl Ask {
    fn read(query: Option<&str>) -> Result<Self, ApiError> {
        let uri = format!("/?{}", query.unwrap_or_default());
        let uri = uri
            .parse()
            .map_err(|e| ApiError::bad_request(&format!("the query cannot be read: {e}")))?;
        let axum::extract::Query(ask): axum::extract::Query<Self> =
            axum::extract::Query::try_from_uri(&uri).map_err(|e| ApiError::bad_request(&e.body_text()))?;
        Ok(ask)
    }

    fn limit(&self) -> Result<usize, ApiError> {
        match self.limit.unwrap_or(LIMIT) {
            n @ 1..=LIMIT_MAX => Ok(n),
            n => Err(ApiError::bad_request(&format!(
                "limit = {n}: it must be 1 to {LIMIT_MAX}"
            ))),
        }
    }

    /// What was typed, as far as it counts.
    fn phrase(&self) -> &str {
        let end = (0..=QUERY_MAX.min(self.q.len()))
            .rev()
            .find(|i| self.q.is_char_boundary(*i));
        end.and_then(|end| self.q.get(..end)).unwrap_or_default().trim()
    }

    /// The words that must occur, in small letters.
    fn words(&self) -> Vec<String> {
        self.phrase()
            .to_lowercase()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }
}

/// Whether all words occur in one of the texts each.
fn occur<'a>(words: &[String], texts: impl IntoIterator<Item = &'a str>) -> bool {
    if words.is_empty() {
        return true;
    }
    let texts: Vec<String> = texts.into_iter().map(str::to_lowercase).collect();
    words
        .iter()
        .all(|word| texts.iter().any(|text| text.contains(word.as_str())))
}

fn unix(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    #[test]
    fn the_page_is_small_and_asks_nobody_else() {
        for text in [HTML, CSS, JS] {
            for other in ["http://", "https://", "//cdn", "@import", "url("] {
                let rest = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!rest.contains(other), "{other}");
            }
        }
        assert!(
            !HTML.contains("<style") && !HTML.contains(" style=") && !HTML.contains("onclick"),
            "the policy forbids them"
        );
        for hole in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ] {
            assert!(!JS.contains(hole), "{hole}");
        }
    }

    #[test]
    fn questions_are_read_or_refused() {
        let ask = Ask::read(Some("q=295%20Foo&limit=7&offset=3&state=online")).unwrap();
        assert_eq!(
            (ask.limit().unwrap(), ask.offset, ask.words()),
            (7, 3, vec!["295".to_owned(), "foo".to_owned()])
        );
        assert_eq!(Ask::read(None).unwrap().limit().unwrap(), LIMIT);
        assert!(Ask::read(Some("limit=0")).unwrap().limit().is_err());
        assert!(Ask::read(Some("limit=501")).unwrap().limit().is_err());
        for bad in ["limit=x", "offset=-1", "limits=1"] {
            let refused = Ask::read(Some(bad)).unwrap_err().into_response();
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{bad}");
        }
        let long = Ask {
            q: "ß".repeat(1_000),
            ..Ask::default()
        };
        assert_eq!(long.words()[0].len(), QUERY_MAX);
    }

    #[test]
    fn all_words_must_occur_somewhere() {
        let words = |q: &str| {
            Ask {
                q: q.into(),
                ..Ask::default()
            }
            .words()
        };
        let texts = ["295012345678901", "Pump 7, Basel", "10.1.0.7"];
        for (q, hit) in [
            ("", true),
            ("basel", true),
            ("PUMP 10.1", true),
            ("pump zürich", false),
            ("67", true),
        ] {
            assert_eq!(occur(&words(q), texts), hit, "{q}");
        }
    }
}
