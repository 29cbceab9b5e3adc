//! HTTP for devices that ask for credentials: who asks, for what, and the answer.
//!
//! A device is known as at the MQTT doors ([`Directory::find`](crate::gateway::subscriber::Directory::find)): by its address, by its
//! token, or by its certificate on the door's TLS. A subscriber that is locked to its modem gets nothing here: nobody tells the IMEI, and
//! what is given out opens the cloud's own door.
//!
//! The PROXY protocol is not read here, so the address of whoever comes from `listen.proxies` is the load balancer's: nobody is known
//! by it, and nobody whose source is told is taken through it. A token or a certificate (the balancer must pass TLS on) is needed there.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::Provisioning;
use super::denied::Denied;
use super::operation::OperationId;
use super::request::Parameters;
use crate::gateway::book::{Book, NO_GROUP};
use crate::gateway::guess::Origin;
use crate::gateway::listener::Hall;
use crate::gateway::listener::http::Asker;
use crate::gateway::reload::Current;
use crate::gateway::subscriber::{By, Caller, Known, Unknown};
use crate::identity::Subscriber;

/// Largest body that is read, in bytes; clients send some hundred.
const BODY_MAX: usize = 16 << 10;
/// Where Krypton's operations begin.
const ROOT: &str = "/v1/provisioning/";

/// What the answers are made from.
#[derive(Debug)]
pub struct Door {
    /// Who may ask.
    pub(in crate::gateway) book: Arc<Book>,
    /// What they get.
    pub(in crate::gateway) provisioning: Arc<Current<Provisioning>>,
    /// Guessing here and at the MQTT doors is one and the same.
    pub(in crate::gateway) hall: Arc<Hall>,
}

/// What Krypton answers; each connection brings an [`Asker`].
pub fn routes(door: Arc<Door>) -> Router {
    Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(door)
}

async fn answer(
    State(door): State<Arc<Door>>,
    ConnectInfo(asker): ConnectInfo<Asker>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut imsi = String::new();
    let outcome = reply(&door, &asker, &method, uri.path(), &headers, &body, &mut imsi).await;
    // The path may end in an operation id, which holds the IMSI.
    let operation = operation(uri.path());
    match outcome {
        Ok(answer) => {
            info!(peer = %asker.peer, imsi, operation, "provisioning: answered");
            answer
        }
        Err(denied) => {
            let why = crate::identity::redact_digits(&denied.to_string());
            warn!(peer = %asker.peer, imsi, operation, status = denied.status(), "provisioning: refused: {why}");
            refusal(&denied)
        }
    }
}

/// The operation's name for logs: the path's fixed part.
fn operation(path: &str) -> &'static str {
    match path.strip_prefix(ROOT) {
        Some("azure/iot/register") => "azure register",
        Some(p) if p.starts_with("azure/iot/registrations/") => "azure registration",
        Some("aws/iot/bootstrap") => "aws bootstrap",
        Some(p) if p.starts_with("aws/iot/certificates/") => "aws certificate",
        Some("aws/iot/ca_certificate") => "aws root",
        _ => "unknown",
    }
}

fn refusal(denied: &Denied) -> Response {
    let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(denied.body())).into_response();
    if let Some(seconds) = denied.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if matches!(denied, Denied::Unknown | Denied::Proxied) {
        let challenge = axum::http::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

async fn reply(
    door: &Door,
    asker: &Asker,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
    imsi: &mut String,
) -> Result<Response, Denied> {
    // Devices send neither; a page in a browser that runs at a device's address cannot leave them out.
    if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
        return Err(Denied::NoPath("answer for pages in a browser".to_owned()));
    }
    let origin = Origin::of(asker.peer.ip());
    door.hall.hear(origin).map_err(|_| Denied::Guessing)?;
    let who = who(door, asker, headers).await.inspect_err(|denied| {
        if *denied == Denied::Unknown {
            door.hall.guessed(origin);
        }
    })?;
    door.hall.welcomed(origin);
    asker.stays();
    *imsi = who.imsi.redacted();
    let no_path = || Denied::NoPath(format!("{method} {}", path.chars().take(200).collect::<String>()));
    let operation = path.strip_prefix(ROOT).ok_or_else(no_path)?;
    let provisioning = door.provisioning.get();
    let post = *method == Method::POST;
    match operation {
        "azure/iot/register" if post => {
            let asked = Parameters::read(body)?;
            json(&provisioning.register(&who, &asked)?)
        }
        "aws/iot/bootstrap" if post => {
            let asked = Parameters::read(body)?;
            let made = tokio::task::spawn_blocking(move || provisioning.bootstrap(&who, &asked));
            json(&made.await.map_err(|e| Denied::Here(e.to_string()))??)
        }
        "aws/iot/ca_certificate" if post => text(provisioning.aws_root()?),
        other => {
            if let Some(id) = other.strip_prefix("azure/iot/registrations/") {
                // GET at the cellular door, POST from clients written for the other one.
                if *method == Method::GET || post {
                    return json(&provisioning.registration(&who, &OperationId::new(id)).await?);
                }
            }
            if let Some(id) = other.strip_prefix("aws/iot/certificates/").filter(|_| post) {
                return text(provisioning.certificate(&who, id)?);
            }
            let kryptons = ["aws/cognito/", "soracom/", "azure/iot/bootstrap"];
            if kryptons.iter().any(|p| other.starts_with(p)) {
                return Err(Denied::NotHere(other.chars().take(100).collect()));
            }
            Err(no_path())
        }
    }
}

/// Answers hold private keys: nobody on the way may keep them.
fn json(value: &serde_json::Value) -> Result<Response, Denied> {
    let mut response = axum::Json(value).into_response();
    let no_store = axum::http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    Ok(response)
}

fn text(pem: String) -> Result<Response, Denied> {
    Ok(([(CONTENT_TYPE, "application/x-pem-file")], pem).into_response())
}

async fn who(door: &Door, asker: &Asker, headers: &HeaderMap) -> Result<Subscriber, Denied> {
    let view = door.book.view().await;
    let token = token(headers);
    let address: IpAddr = asker.peer.ip();
    let caller = Caller {
        address,
        password: token.as_deref().map(Vec::as_slice),
        client_id: "",
        certificate: asker.certificate.as_ref(),
    };
    let proxied = door.hall.trusts(address);
    if proxied && caller.password.is_none() && caller.certificate.is_none() {
        return Err(Denied::Proxied);
    }
    let known: &Known = match view.directory.find(&caller) {
        // A token of nobody's is a guess, whatever the balancer's address would say.
        Ok((_, By::Source)) if proxied => return Err(Denied::Unknown),
        Ok((known, _)) | Err(Unknown::Imei(known) | Unknown::Disabled(known)) if proxied && known.source.is_some() => {
            return Err(Denied::Proxied);
        }
        Ok((known, _)) => known,
        Err(Unknown::Imei(_)) => return Err(Denied::Imei),
        Err(Unknown::Disabled(_)) => return Err(Denied::Disabled),
        Err(Unknown::Nobody) => return Err(Denied::Unknown),
    };
    // A group whose configuration is broken may still be provisioned: what is wrong there concerns the relay.
    match view.group(&known.group) {
        Some(group) if !group.enabled => Err(Denied::Disabled),
        Some(_) => Ok(known.subscriber.clone()),
        None if view.closed.is_some() => Err(Denied::Busy),
        None if known.group.as_str() == NO_GROUP => Err(Denied::Disabled),
        None => Ok(known.subscriber.clone()),
    }
}

/// `Authorization: Bearer TOKEN`, or the password of `Basic` (RFC 6750, RFC 7617).
fn token(headers: &HeaderMap) -> Option<Zeroizing<Vec<u8>>> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let at = value.iter().position(|b| *b == b' ')?;
    let (scheme, rest) = (value.get(..at)?, value.get(at + 1..)?.trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(Zeroizing::new(rest.to_vec()));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let login = Zeroizing::new(STANDARD.decode(rest).ok()?);
    let colon = login.iter().position(|b| *b == b':')?;
    Some(Zeroizing::new(login.get(colon + 1..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_in_two_ways() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            token(&headers).map(|t| String::from_utf8(t.to_vec()).unwrap())
        };
        assert_eq!(with("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(with("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(
            with(&format!("Basic {}", STANDARD.encode("device:a:b"))).as_deref(),
            Some("a:b")
        );
        for nothing in ["Bearer", "Basic !!", "Basic YWJj", "Digest x"] {
            assert_eq!(with(nothing), None, "{nothing}");
        }
    }
}
