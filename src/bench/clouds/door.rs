//! Krypton's two doors as HTTP: a request goes to [`Krypton`], its answer or refusal goes back, and the journal hears of both.
//!
//! - The cellular door (`krypton.soracom.io:8036`): the caller is the SIM behind its source address.
//! - The internet door (`g.api.soracom.io`, `api.soracom.io`): `/v1/keys` and its `/verify` for everybody, everything else signed.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gate::Gate;
use super::https::{self, Caller, Host};
use super::journal::{Journal, What};
use super::krypton::{Answer, Denied, Entry, Krypton, Language, Operation, body as error_body};
use super::policy::krypton::{BODY_SIZE, METHOD, NO_SIM};
use super::policy::mqtt;
use super::stand_in::Cloud;

/// Largest request body, in bytes: the largest documented one has a handful of names.
const BODY_MAX: usize = 16 * 1024;

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) krypton: Arc<Krypton>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) stop: CancellationToken,
    pub(crate) entry: Entry,
}

/// Serves until told to stop.
pub(crate) async fn serve(
    door: Door,
    gate: Gate,
    tls: Arc<rustls::ServerConfig>,
    tasks: TaskTracker,
) -> std::io::Result<()> {
    let host = Host {
        cloud: door.cloud(),
        journal: Arc::clone(&door.journal),
        stop: door.stop.clone(),
        handshake: |_| &mqtt::TLS_SERVER_ONLY,
        error: asked_for,
    };
    https::serve(host, router(door), gate, tls, tasks).await
}

/// What is behind the door.
pub(super) fn router(door: Door) -> Router {
    Router::new().fallback(around).with_state(door)
}

/// Around every request: one line in the journal.
async fn around(State(door): State<Door>, ConnectInfo(caller): ConnectInfo<Caller>, request: Request) -> Response {
    let peer = caller.address;
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let language = Language::of(request.headers());
    let mut subscriber = door.session(peer).map(|caller| caller.imsi.to_string());
    let answer = door.answer(peer, request, &mut subscriber).await;
    let response = answer.unwrap_or_else(|denied| {
        if let Some(refusal) = denied.refusal() {
            let who = subscriber.as_deref();
            door.journal.refused(door.cloud(), &refusal, who, &peer.to_string());
        }
        denied.response(language)
    });
    door.journal.record(
        door.cloud(),
        What::Http {
            method,
            path,
            status: response.status().as_u16(),
            subscriber,
            fault: None,
        },
    );
    response
}

/// An error that a fault asks for.
fn asked_for(status: StatusCode) -> Response {
    error_body(status, "KRY0000", "this answer was asked for by a fault")
}

impl Door {
    fn cloud(&self) -> Cloud {
        match self.entry {
            Entry::Cellular => Cloud::Krypton,
            Entry::Internet => Cloud::KryptonSim,
        }
    }

    /// Whom the address stands for, at the door where it does.
    fn session(&self, peer: SocketAddr) -> Option<super::krypton::Caller> {
        match self.entry {
            Entry::Cellular => self.krypton.session(peer.ip()),
            Entry::Internet => None,
        }
    }

    /// `subscriber` becomes known on the way.
    async fn answer(
        &self,
        peer: SocketAddr,
        request: Request,
        subscriber: &mut Option<String>,
    ) -> Result<Response, Denied> {
        let session = match (self.entry, self.session(peer)) {
            (Entry::Cellular, None) => {
                let detail = format!("{} does not come in over a SORACOM SIM", peer.ip());
                return Err(Denied::new(&NO_SIM, detail));
            }
            (_, session) => session,
        };
        let (parts, body) = request.into_parts();
        let (method, path) = (parts.method.as_str(), parts.uri.path());
        if let (Entry::Internet, Some(rest)) = (self.entry, path.strip_prefix("/v1/keys")) {
            if rest.is_empty() {
                post(method, path)?;
                let challenge = self.krypton.challenge(&read(body).await?)?;
                return Ok((self.krypton.challenge_status(), axum::Json(challenge)).into_response());
            }
            let key_id = rest.strip_prefix('/').and_then(|rest| rest.strip_suffix("/verify"));
            if let Some(key_id) = key_id.filter(|id| !id.contains('/')) {
                post(method, path)?;
                let verified: Value = self.krypton.verify(key_id, &read(body).await?)?;
                return Ok(axum::Json(verified).into_response());
            }
        }
        let operation = Operation::find(self.entry, method, path)?;
        let body = read(body).await?;
        let caller = match session {
            Some(caller) => caller,
            None => self.krypton.signer(&parts.headers, &body)?,
        };
        *subscriber = Some(caller.imsi.to_string());
        Ok(match self.krypton.perform(&caller, &operation, &body)? {
            Answer::Json(value) => axum::Json(value).into_response(),
            Answer::Text(text) => text.into_response(),
            Answer::Pem(text) => {
                let kind = HeaderValue::from_static("application/x-pem-file");
                ([(header::CONTENT_TYPE, kind)], text).into_response()
            }
        })
    }
}

fn post(method: &str, path: &str) -> Result<(), Denied> {
    if method == "POST" {
        Ok(())
    } else {
        Err(Denied::new(&METHOD, format!("{path} takes POST, not {method}")))
    }
}

async fn read(body: Body) -> Result<Bytes, Denied> {
    to_bytes(body, BODY_MAX).await.map_err(|e| {
        Denied::new(
            &BODY_SIZE,
            format!("the body was not read to its end, {BODY_MAX} bytes at most: {e}"),
        )
    })
}
