//! Who may ask the API, and from where.
//!
//! **The token** stands in `api.token_file` (mode 0600, at least [`TOKEN_MIN`] bytes). A request brings it as `Authorization: Bearer …` or
//! as `X-Soracom-Token` (any `X-Soracom-API-Key` beside it is taken, so that a client written for SORACOM works). Such a client logs in
//! first: `POST /v1/auth` with `{"authKeyId": …, "authKey": TOKEN}` gives a session token that ends by itself. It is a keyed digest over
//! its end, made from the token alone, so any gateway with the same token file knows it, none has to remember it, and another token ends
//! all sessions. A reload reads the file again: from that moment the old token opens nothing.
//!
//! **Guesses**: comparing takes the same time wherever texts differ, and an address that guesses wrongly [`GUESSES`] times in a minute is
//! not heard for a while, longer each time ([`crate::gateway::guess`]).
//!
//! **Other sites' pages**: the API sets no cookie and sends no CORS header, so a browser never lends anybody's rights to a foreign page.
//! Besides, a request with the `Origin` of another site, or that a browser calls cross-site (`Sec-Fetch-Site`), is refused; so is one
//! whose `Host` is a name that is not ours, by which DNS rebinding gives itself away (addresses, `localhost` and `api.hosts` are ours). What
//! changes something must be JSON by its content type.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ring::hmac;
use std::sync::Arc;
use tokio::time::Instant;

use super::error::ApiError;
use crate::clock::Clock;
use crate::gateway::config::ApiConfig;
use crate::gateway::guess::{Guesses, Origin, Verdict};
use crate::gateway::listener::http::Asker;
use crate::gateway::reload::Current;
use crate::gateway::subscriber::{TOKEN_MIN, Token};

/// Wrong tokens in a minute after which an address is not heard for a while.
pub const GUESSES: u32 = 10;
/// How long a session lasts when nobody says (SORACOM's API: `tokenTimeoutSeconds`, 86,400 by default).
pub const SESSION: Duration = Duration::from_secs(86_400);
/// The longest (SORACOM's API).
pub const SESSION_MAX: Duration = Duration::from_secs(172_800);
/// What a session token begins with.
const SESSION_MARK: &str = "session.";
/// What SORACOM's clients send the token in.
const SORACOM_TOKEN: HeaderName = HeaderName::from_static("x-soracom-token");
/// What says from where a browser asks (W3C Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("api.token_file: {0}")]
pub struct GateError(String);

/// What a reload changes: the token, and what else `[api]` says of who may ask.
pub(in crate::gateway) struct Keys {
    key: hmac::Key,
    /// The digest of the token under the key of `key`.
    tag: hmac::Tag,
    sessions: hmac::Key,
    hosts: Vec<String>,
    open_metrics: bool,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// Reads the token's file.
    ///
    /// # Errors
    /// [`GateError`]: unreadable, readable by others, too short.
    pub(in crate::gateway) fn read(config: &ApiConfig) -> Result<Self, GateError> {
        let token = Token::read(&config.token_file).map_err(|e| GateError(e.to_string()))?;
        Ok(Self {
            open_metrics: config.open_metrics,
            ..Self::of(token.secret(), &config.hosts)?
        })
    }

    fn is_token(&self, text: &[u8]) -> bool {
        hmac::verify(&self.key, text, self.tag.as_ref()).is_ok()
    }

    fn of(token: &[u8], hosts: &[String]) -> Result<Self, GateError> {
        if token.len() < TOKEN_MIN {
            return Err(GateError(format!("a token has at least {TOKEN_MIN} bytes")));
        }
        let random = ring::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random);
        let key = key.map_err(|_| GateError("the operating system gives no random numbers".to_owned()))?;
        Ok(Self {
            tag: hmac::sign(&key, token),
            key,
            sessions: hmac::Key::new(hmac::HMAC_SHA256, token),
            hosts: hosts.iter().map(|h| h.to_ascii_lowercase()).collect(),
            open_metrics: false,
        })
    }
}

/// The door-keeper.
pub struct Gate {
    keys: Current<Keys>,
    guesses: Mutex<Guesses>,
    clock: Clock,
    born: Instant,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate(…)")
    }
}

impl Gate {
    /// Reads the token. Reads a file: at the start and at a reload.
    ///
    /// # Errors
    /// [`GateError`]: unreadable, readable by others, too short.
    pub fn open(config: &ApiConfig, clock: &Clock) -> Result<Self, GateError> {
        Ok(Self::with(Keys::read(config)?, clock))
    }

    fn with(keys: Keys, clock: &Clock) -> Self {
        Self {
            keys: Current::new(keys),
            guesses: Mutex::new(Guesses::new(GUESSES)),
            clock: clock.clone(),
            born: Instant::now(),
        }
    }

    /// Another token from now on (a reload). Who sent it too early is heard again.
    pub(in crate::gateway) fn change(&self, keys: Keys) {
        self.keys.set(keys);
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner).forget();
    }

    /// Whether `/metrics` needs no token (`api.open_metrics`).
    #[must_use]
    pub fn opens_metrics(&self) -> bool {
        self.keys.get().open_metrics
    }

    /// Whether this is the token of the file. Its time does not depend on where they differ.
    #[must_use]
    pub fn is_token(&self, text: &[u8]) -> bool {
        self.keys.get().is_token(text)
    }

    /// A session token; without a plausible clock there is no end to write into it, and so no session.
    #[must_use]
    pub fn session(&self, length: Duration) -> Option<String> {
        self.session_of(&self.keys.get(), length)
    }

    fn session_of(&self, keys: &Keys, length: Duration) -> Option<String> {
        let (now, _) = self.clock.now()?;
        let end = format!("{}", (now + length.min(SESSION_MAX)).as_secs());
        let tag = hmac::sign(&keys.sessions, format!("{SESSION_MARK}{end}").as_bytes());
        Some(format!("{SESSION_MARK}{end}.{}", crate::digest::hex(tag.as_ref())))
    }

    fn is_session(&self, text: &str) -> bool {
        let read = || {
            let (end, tag) = text.strip_prefix(SESSION_MARK)?.split_once('.')?;
            let tag = crate::digest::unhex(tag)?;
            hmac::verify(
                &self.keys.get().sessions,
                format!("{SESSION_MARK}{end}").as_bytes(),
                &tag,
            )
            .ok()?;
            let end = Duration::from_secs(end.parse().ok()?);
            let (now, _) = self.clock.now()?;
            Some(now < end)
        };
        read() == Some(true)
    }

    fn knows(&self, text: &[u8]) -> bool {
        self.is_token(text) || std::str::from_utf8(text).is_ok_and(|t| self.is_session(t))
    }

    /// Whether an address is heard now.
    pub(super) fn hears(&self, peer: IpAddr) -> Result<(), ApiError> {
        let now = self.born.elapsed();
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        match guesses.hear(Origin::of(peer), false, now) {
            Verdict::Heard => Ok(()),
            Verdict::Quiet { left, .. } => Err(ApiError::slow_down(left)),
        }
    }

    /// A wrong guess.
    pub(super) fn wrong(&self, peer: IpAddr) -> ApiError {
        let now = self.born.elapsed();
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(quiet) = guesses.refused(Origin::of(peer), now) {
            tracing::warn!(%peer, "the API is guessed at: this address is not heard for {} s", quiet.as_secs());
        }
        ApiError::unknown()
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = host_name(host).to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.keys.get().hosts.iter().any(|h| h == name)
    }

    /// What must be so whoever asks. `is_link`: somebody follows a link to the page, which holds no data and lies in nobody's frame.
    fn is_no_foreign_page(&self, headers: &HeaderMap, is_link: bool) -> Result<(), ApiError> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().and_then(|h| h.to_str().ok()).unwrap_or_default();
        if host.is_empty() || hosts.next().is_some() {
            return Err(ApiError::bad_request("a request has one Host header"));
        }
        if !self.is_ours(host) {
            return Err(ApiError::forbidden(format!(
                "Host {:?} is not a name of this gateway: add it to api.hosts if it is",
                crate::gateway::json::short(host)
            )));
        }
        for origin in headers.get_all(header::ORIGIN) {
            let same = origin
                .to_str()
                .ok()
                .and_then(|o| o.split_once("://"))
                .is_some_and(|(_, o)| o == host);
            if !same {
                return Err(ApiError::forbidden(
                    "pages of other sites may not ask this API".to_owned(),
                ));
            }
        }
        let foreign = |v: &HeaderValue| !matches!(v.as_bytes(), b"same-origin" | b"none");
        if !is_link && headers.get_all(FETCH_SITE).iter().any(foreign) {
            return Err(ApiError::forbidden(
                "pages of other sites may not ask this API".to_owned(),
            ));
        }
        Ok(())
    }
}

/// A browser that opens the page as a document of its own (Fetch Metadata, `Sec-Fetch-Mode` and `Sec-Fetch-Dest`).
fn is_link(request: &Request) -> bool {
    let is = |name: &str, value: &str| {
        request
            .headers()
            .get(name)
            .is_some_and(|v| v.as_bytes() == value.as_bytes())
    };
    request.method() == axum::http::Method::GET
        && request.uri().path() == "/"
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document")
}

/// `host` of `host:port`, `[v6]:port`.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whoever has shown the token keeps the connection's place.
fn stays(request: &Request) {
    if let Some(ConnectInfo(asker)) = request.extensions().get::<ConnectInfo<Asker>>() {
        asker.stays();
    }
}

/// Where a request comes from; the door puts it there.
pub(super) fn peer(request: &Request) -> IpAddr {
    let info = request.extensions().get::<ConnectInfo<SocketAddr>>();
    info.map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(a)| a.ip())
}

/// For every request: no foreign page, JSON where something changes, nothing cached.
pub(super) async fn doorstep(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut answer = match gate
        .is_no_foreign_page(request.headers(), is_link(&request))
        .and_then(|()| is_json(&request))
    {
        Ok(()) => next.run(request).await,
        Err(e) => e.into_response(),
    };
    let headers = answer.headers_mut();
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// A form of another site cannot send this content type.
fn is_json(request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let empty = !headers.contains_key(header::TRANSFER_ENCODING)
        && headers.get(header::CONTENT_LENGTH).is_none_or(|n| n.as_bytes() == b"0");
    if matches!(*request.method(), Method::GET | Method::HEAD) || empty {
        return Ok(());
    }
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        let why = "send the body with 'Content-Type: application/json'".to_owned();
        Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", why))
    }
}

/// For what needs the token.
pub(super) async fn inside(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let peer = peer(&request);
    if gate.opens_metrics() && request.uri().path() == super::metrics::PATH {
        return next.run(request).await;
    }
    if let Err(e) = gate.hears(peer) {
        return e.into_response();
    }
    let headers = request.headers();
    let bearer = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let bearer = bearer.and_then(|v| {
        v.split_at_checked(7)
            .filter(|(b, _)| b.eq_ignore_ascii_case(b"bearer "))
    });
    let given = bearer
        .map(|(_, t)| t.trim_ascii())
        .or(headers.get(SORACOM_TOKEN).map(HeaderValue::as_bytes));
    match given {
        Some(token) if gate.knows(token) => {
            stays(&request);
            next.run(request).await
        }
        Some(_) => gate.wrong(peer).into_response(),
        None => ApiError::unknown().into_response(),
    }
}

/// `POST /v1/auth`.
pub(super) async fn login(Extension(gate): Extension<Arc<Gate>>, request: Request) -> Result<Response, ApiError> {
    let peer = peer(&request);
    gate.hears(peer)?;
    let body = super::soracom::body(request).await?;
    let asked: Login = serde_json::from_str(&body).map_err(|_| {
        ApiError::bad_request("write {\"authKeyId\": \"…\", \"authKey\": TOKEN}; other ways to log in are not here")
    })?;
    // One look at the keys: a reload between two would give the old token's owner a session of the new one.
    let keys = gate.keys.get();
    if !keys.is_token(asked.auth_key.as_bytes()) {
        return Err(gate.wrong(peer));
    }
    let length = asked.token_timeout_seconds.map_or(SESSION, Duration::from_secs);
    let token = gate.session_of(&keys, length).ok_or_else(|| {
        let why =
            "this machine's clock is not plausible, so a session has no end: send the token itself as X-Soracom-Token";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_clock", why.to_owned())
    })?;
    let answer = serde_json::json!({"apiKey": "onyx-gateway", "operatorId": "OP0000000000", "token": token});
    Ok(axum::Json(answer).into_response())
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Login {
    auth_key: zeroize::Zeroizing<String>,
    token_timeout_seconds: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        let keys = Keys::of(b"0123456789abcdef", &["gw.example".to_owned()]).unwrap();
        Gate::with(keys, &Clock::new())
    }

    #[test]
    fn tokens_and_sessions() {
        let gate = gate();
        assert!(gate.is_token(b"0123456789abcdef"));
        assert!(!gate.is_token(b"0123456789abcdeg") && !gate.is_token(b""));
        let session = gate.session(SESSION).unwrap();
        assert!(gate.knows(session.as_bytes()));
        // Another gateway with the same token knows it, one with another token does not.
        assert!(self::gate().knows(session.as_bytes()));
        let other = self::gate();
        other.change(Keys::of(b"0123456789abcdeX", &[]).unwrap());
        assert!(!other.knows(session.as_bytes()) && !other.is_token(b"0123456789abcdef"));
        assert!(other.is_token(b"0123456789abcdeX"));
        assert!(other.knows(other.session(SESSION).unwrap().as_bytes()));
        assert!(
            !gate.knows(gate.session(Duration::ZERO).unwrap().as_bytes()),
            "it has ended"
        );
        let longer = session.replacen("session.", "session.9", 1);
        assert!(!gate.knows(longer.as_bytes()));
        assert!(Keys::of(b"short", &[]).is_err());
        assert!(!format!("{gate:?}").contains("0123"));
    }

    #[test]
    fn foreign_pages_are_told_by_host_origin_and_fetch_site() {
        let gate = gate();
        let ask = |list: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (k, v) in list {
                headers.append(HeaderName::from_static(k), HeaderValue::from_static(v));
            }
            gate.is_no_foreign_page(&headers, false).is_ok()
        };
        for good in [
            "127.0.0.1:8080",
            "localhost",
            "[::1]:8080",
            "gw.example:8080",
            "GW.example.",
            "10.1.2.3",
        ] {
            let host = HeaderValue::from_static(good);
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host);
            assert!(gate.is_no_foreign_page(&headers, false).is_ok(), "{good}");
        }
        assert!(!ask(&[("host", "evil.example")]));
        assert!(!ask(&[("host", "127.0.0.1.evil.example:8080")]));
        assert!(!ask(&[]) && !ask(&[("host", "localhost"), ("host", "localhost")]));
        let here = ("host", "localhost:8080");
        assert!(ask(&[
            here,
            ("origin", "http://localhost:8080"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!ask(&[here, ("origin", "http://evil.example")]));
        assert!(!ask(&[here, ("origin", "http://localhost:9999")]));
        assert!(!ask(&[here, ("origin", "null")]));
        assert!(!ask(&[here, ("sec-fetch-site", "cross-site")]));
        assert!(!ask(&[here, ("sec-fetch-site", "same-site")]));
    }
}
