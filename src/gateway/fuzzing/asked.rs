//! A line of requests as bytes, as a person can write them into a seed:
//!
//! ```text
//! 4 PUT /v1/groups/g/configuration/SoracomBeam
//! header: value
//!
//! body
//! =====
//! 1 GET /v1/groups/g
//! ```
//!
//! The first byte of each is its door, [`Door`]; half of all bytes bring the right token. `@TOKEN@` and the other [`Marks`] stand for what no fuzzer
//! would guess. What hyper would refuse, or does itself, does not come here: it is no request, or its length is written anew.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};

/// Most requests in one line. They are fewer than an address may guess before it is not heard.
pub(super) const REQUESTS_MAX: usize = 8;
const _: () = assert!(REQUESTS_MAX < crate::gateway::http::auth::GUESSES as usize);
/// What stands between two requests.
const BETWEEN: &[u8] = b"\n=====\n";

/// What a request gets beside the headers that it has, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Nothing.
    Bare,
    /// A Host that is ours, and a content type.
    Host,
    /// And a token that is wrong.
    Wrong,
    /// And the right one.
    Bearer,
    /// And the right one, as SORACOM's clients send it.
    Soracom,
    /// And a session's.
    Session,
}

impl Door {
    fn of(byte: u8) -> Self {
        match byte % 8 {
            0 => Self::Bare,
            1 | 2 => Self::Host,
            3 => Self::Wrong,
            4 | 7 => Self::Bearer,
            5 => Self::Soracom,
            _ => Self::Session,
        }
    }

    pub(super) fn is_right(self) -> bool {
        matches!(self, Self::Bearer | Self::Soracom | Self::Session)
    }
}

/// What stands for what.
#[derive(Debug, Default)]
pub(super) struct Marks(pub(super) Vec<(&'static str, Vec<u8>)>);

impl Marks {
    pub(super) fn get(&self, mark: &str) -> &[u8] {
        let found = self.0.iter().find(|(m, _)| *m == mark);
        &found.unwrap().1
    }

    fn filled(&self, text: &[u8]) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), text);
        while let Some(at) = rest.iter().position(|b| *b == b'@') {
            let (before, marked) = rest.split_at(at);
            out.extend(before);
            let found = self.0.iter().find(|(mark, _)| marked.starts_with(mark.as_bytes()));
            let (with, length) = found.map_or((&b"@"[..], 1), |(mark, with)| (with, mark.len()));
            out.extend(with);
            rest = marked.get(length..).unwrap();
        }
        out.extend(rest);
        out
    }
}

/// One request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) door: Door,
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// Those that it has of its own.
    own: HeaderMap,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Asked {
    /// All that are whole.
    pub(super) fn all(data: &[u8], marks: &Marks) -> Vec<Self> {
        let (mut all, mut rest) = (Vec::new(), data);
        for _ in 0..REQUESTS_MAX {
            let end = rest.windows(BETWEEN.len()).position(|w| w == BETWEEN);
            all.extend(Self::one(rest.get(..end.unwrap_or(rest.len())).unwrap(), marks));
            match end {
                Some(end) => rest = rest.get(end + BETWEEN.len()..).unwrap(),
                None => break,
            }
        }
        all
    }

    fn one(text: &[u8], marks: &Marks) -> Option<Self> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let (head, body) = match text.windows(2).position(|w| w == b"\n\n") {
            Some(at) => (text.get(..at)?, text.get(at + 2..)?),
            None => (text, &b""[..]),
        };
        let mut lines = head.split(|b| *b == b'\n');
        let (door, first) = lines.next()?.split_first()?;
        let mut words = first.trim_ascii().split(|b| *b == b' ');
        let method = Method::from_bytes(words.next()?).ok()?;
        let uri = Uri::try_from(words.next()?).ok()?;
        let mut own = HeaderMap::new();
        for line in lines {
            let at = line.iter().position(|b| *b == b':')?;
            let name = HeaderName::from_bytes(line.get(..at)?).ok()?;
            let value = HeaderValue::from_bytes(&marks.filled(line.get(at + 1..)?.trim_ascii())).ok()?;
            if name != header::CONTENT_LENGTH {
                own.append(name, value);
            }
        }
        let body = marks.filled(body);
        let (door, mut headers) = (Door::of(*door), own.clone());
        if !body.is_empty() && !headers.contains_key(header::TRANSFER_ENCODING) {
            headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        let mut give = |name: HeaderName, value: &[u8]| {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        };
        if door != Door::Bare {
            give(header::HOST, b"localhost:8080");
            give(header::CONTENT_TYPE, b"application/json");
        }
        let bearer = |token: &[u8]| [b"Bearer ", token].concat();
        match door {
            Door::Bare | Door::Host => {}
            Door::Wrong => give(header::AUTHORIZATION, b"Bearer 0123456789abcdef0123456789abcdef"),
            Door::Bearer => give(header::AUTHORIZATION, &bearer(marks.get("@TOKEN@"))),
            Door::Soracom => give(HeaderName::from_static("x-soracom-token"), marks.get("@TOKEN@")),
            Door::Session => give(header::AUTHORIZATION, &bearer(marks.get("@SESSION@"))),
        }
        Some(Self {
            door,
            method,
            uri,
            own,
            headers,
            body,
        })
    }

    /// As the door for HTTP hands it to the router.
    pub(super) fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    }

    /// Whether it says nothing itself about who asks, and from where.
    pub(super) fn is_plain(&self) -> bool {
        self.own.is_empty()
    }

    /// Whether this stands anywhere in it.
    pub(super) fn has(&self, text: &[u8]) -> bool {
        self.in_public(text)
            || self.headers.values().any(|v| contains(v.as_bytes(), text))
            || contains(&self.body, text)
    }

    /// Whether this stands where an answer may repeat it: anywhere but in the two headers for tokens, and at the keys of a body that are for secrets.
    pub(super) fn tells(&self, text: &[u8]) -> bool {
        if self.in_public(text) {
            return true;
        }
        let count = self.body.windows(text.len()).filter(|w| *w == text).count();
        let hidden = || {
            let body = serde_json::from_slice(&self.body).unwrap_or_default();
            let text = std::str::from_utf8(text).unwrap();
            at_secret_keys(&body, text)
        };
        count > 0 && count != hidden()
    }

    fn in_public(&self, text: &[u8]) -> bool {
        let mut public = self
            .own
            .iter()
            .filter(|(name, _)| **name != header::AUTHORIZATION && name.as_str() != "x-soracom-token");
        contains(self.uri.to_string().as_bytes(), text) || public.any(|(_, value)| contains(value.as_bytes(), text))
    }

    /// Whether a page of another site sends it, by what a browser says: any `Origin` that does not end in our own `Host`.
    pub(super) fn is_foreign(&self) -> bool {
        let host = self
            .headers
            .get(header::HOST)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let same = |origin: &HeaderValue| {
            origin
                .as_bytes()
                .strip_suffix(host)
                .is_some_and(|o| o.ends_with(b"://"))
        };
        let site = self.headers.get_all("sec-fetch-site");
        !self.headers.get_all(header::ORIGIN).iter().all(same)
            || (self.uri.path() != "/" && site.iter().any(|s| contains(s.as_bytes(), b"cross-site")))
    }
}

/// How often a text stands at keys for secrets: a password, a token, a private key beside its certificate.
fn at_secret_keys(value: &serde_json::Value, text: &str) -> usize {
    match value {
        serde_json::Value::Array(list) => list.iter().map(|v| at_secret_keys(v, text)).sum(),
        serde_json::Value::Object(map) => {
            let is_secret = |key: &str| {
                matches!(key, "password" | "token" | "authKey") || (key == "key" && map.contains_key("cert"))
            };
            let of = |(key, value): (&String, &serde_json::Value)| match value.as_str() {
                Some(there) if is_secret(key) => there.matches(text).count(),
                _ => at_secret_keys(value, text),
            };
            map.iter().map(of).sum()
        }
        _ => 0,
    }
}

/// Whether one lies in the other.
pub(super) fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|w| w == part)
}
