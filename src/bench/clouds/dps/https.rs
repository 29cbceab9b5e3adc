//! The HTTPS side: `PUT …/register`, `GET …/operations/{id}`, `POST …/registrations/{id}`, below `/{id scope}/registrations/`.
//!
//! Every answer carries `x-ms-request-id`, which is the `trackingId` of an error body; a 202 carries `Retry-After` and `Location`. Which
//! address `Location` holds is not documented: here it is the operation's. A body of a GET is ignored, because Microsoft's Node client
//! sends one.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Dps;
use super::message::{Register, Reply};
use super::name::RegistrationId;
use crate::bench::clouds::gate::Gate;
use crate::bench::clouds::https::{self, Caller, Host};
use crate::bench::clouds::journal::{Journal, What};
use crate::bench::clouds::policy::dps::{self as rules, BODY_MAX, Fault, PREVIEW};
use crate::bench::clouds::stand_in::Cloud;

/// A body has to be here by then.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// Seen in Microsoft's logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
/// REST reference: header of every error.
const ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

#[derive(Debug, Clone)]
struct Door {
    dps: Arc<Dps>,
    journal: Arc<Journal>,
}

/// Serves until told to stop.
pub(crate) async fn serve(
    dps: Arc<Dps>,
    journal: Arc<Journal>,
    stop: CancellationToken,
    gate: Gate,
    tls: Arc<rustls::ServerConfig>,
    tasks: TaskTracker,
) -> std::io::Result<()> {
    let host = Host {
        cloud: Cloud::Dps,
        journal: Arc::clone(&journal),
        stop,
        handshake: rules::handshake,
        error: asked_for,
    };
    https::serve(host, devices(dps, journal), gate, tls, tasks).await
}

/// An error that a fault asks for, in the service's shape.
fn asked_for(status: StatusCode) -> Response {
    let status = status.as_u16();
    let body = serde_json::json!({
        "errorCode": u32::from(status) * 1_000,
        "trackingId": "",
        "message": "This answer was asked for by a fault.",
    });
    respond(status, &body)
}

/// The devices' requests.
pub(crate) fn devices(dps: Arc<Dps>, journal: Arc<Journal>) -> Router {
    let door = Door { dps, journal };
    const DEVICE: &str = "/{scope}/registrations/{id}";
    Router::new()
        .route(&format!("{DEVICE}/register"), put(register))
        .route(&format!("{DEVICE}/operations/{{operation}}"), get(operation))
        .route(DEVICE, post(lookup))
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .with_state(door)
}

/// A request's query, as pairs: a name may come more than once, and then it is for us to say what is wrong with that.
#[derive(Debug, Default)]
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(request: &Request) -> Self {
        // Nothing that a query can be is no list of pairs.
        Self(Query::try_from_uri(request.uri()).map_or_else(|_| Vec::new(), |Query(pairs)| pairs))
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// There has to be one api-version.
    fn check_version(&self) -> Result<(), Fault> {
        let fault = |detail| {
            Fault::new(
                &rules::API_VERSION,
                400_001,
                "The api-version is not supported.",
                detail,
            )
        };
        let mut values = self.values("api-version");
        let first = values.next();
        if let Some(second) = values.next() {
            return Err(fault(format!(
                "there are two api-versions, {:?} and {second:?}, expected one",
                first.unwrap_or_default()
            )));
        }
        rules::api_version(first).map_err(fault)
    }

    fn force(&self) -> bool {
        self.values("forceRegistration").any(|v| v == "true")
    }
}

/// What a path names; one whose percent-encoding is not UTF-8 names nothing.
fn names<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Fault> {
    path.map(|Path(names)| names)
        .map_err(|e| Fault::new(&rules::PATH, 400_001, "The path cannot be read.", e.body_text()))
}

/// One request on its way through.
struct Call {
    door: Door,
    caller: Caller,
    method: String,
    path: String,
    host: String,
    parameters: Parameters,
}

impl Call {
    fn new(door: Door, caller: Caller, request: &Request) -> Self {
        let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok());
        Self {
            door,
            caller,
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            host: host.unwrap_or_default().to_owned(),
            parameters: Parameters::of(request),
        }
    }

    /// Scope, version and id, in that order.
    fn check(&self, scope: &str, id: &str) -> Result<RegistrationId, Fault> {
        let wanted = self.door.dps.id_scope();
        if scope != wanted {
            let detail = format!("the id scope is {scope:?}, expected {wanted:?}");
            return Err(Fault::new(
                &rules::ID_SCOPE,
                404_001,
                "The id scope was not found.",
                detail,
            ));
        }
        self.parameters.check_version()?;
        id.parse().map_err(|e: super::name::BadRegistrationId| {
            Fault::new(
                &rules::REGISTRATION_ID,
                400_004,
                "The registration id is not valid.",
                e.to_string(),
            )
        })
    }

    /// Writes the answer, and a line in the journal.
    fn finish(self, id: Option<&str>, outcome: Result<Reply, Fault>) -> Response {
        let tracking_id = self.door.dps.tracking_id();
        let (status, body, retry_after, broken) = match outcome {
            Ok(reply) => (reply.status, reply.body, reply.retry_after, reply.broken),
            Err(fault) => {
                let body = self.door.dps.fault_body(&fault, &tracking_id);
                (fault.status(), body, fault.retry_after, Some(fault.refusal))
            }
        };
        if let Some(refusal) = &broken {
            let peer = self.caller.address.to_string();
            self.door.journal.refused(Cloud::Dps, refusal, id, &peer);
        }
        let mut response = respond(status, &body);
        let headers = response.headers_mut();
        let mut set = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        set(REQUEST_ID, tracking_id);
        if let Some(code) = body.get("errorCode").and_then(Value::as_u64) {
            set(ERROR_CODE, code.to_string());
        }
        if let Some(seconds) = retry_after {
            set(header::RETRY_AFTER, seconds.to_string());
        }
        if let (202, Some(id), Some(operation)) = (status, id, body.get("operationId").and_then(Value::as_str)) {
            let (host, scope) = (&self.host, self.door.dps.id_scope());
            let version = self.parameters.values("api-version").next().unwrap_or_default();
            set(
                header::LOCATION,
                format!("https://{host}/{scope}/registrations/{id}/operations/{operation}?api-version={version}"),
            );
        }
        self.door.journal.record(
            Cloud::Dps,
            What::Http {
                method: self.method,
                path: self.path,
                status,
                subscriber: Some(id.unwrap_or("an unknown device").to_owned()),
                fault: None,
            },
        );
        response
    }
}

fn respond(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, kind, Body::from(body.to_string())).into_response()
}

/// A body has to be JSON and may say so in a charset; `Content-Encoding: utf-8` is none, but Microsoft's own commands send it.
fn media_type(headers: &HeaderMap) -> Result<(), Fault> {
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let refuse = |detail: String| Fault::new(&rules::MEDIA_TYPE, 415_001, "The media type is not supported.", detail);
    let kind = text(header::CONTENT_TYPE);
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(refuse(format!(
            "the Content-Type is {kind:?}, expected \"application/json\""
        )));
    }
    let coding = text(header::CONTENT_ENCODING);
    match coding.to_ascii_lowercase().as_str() {
        "" | "utf-8" | "identity" => Ok(()),
        _ => Err(refuse(format!(
            "the Content-Encoding is {coding:?}, expected none or \"utf-8\""
        ))),
    }
}

async fn read_body(request: Request) -> Result<Vec<u8>, Fault> {
    let too_large = |e: axum::Error| {
        let detail = format!("the body was not taken ({e}), at most {BODY_MAX} bytes are");
        Fault::new(&rules::SIZE, 400_004, "The request body is too large.", detail)
    };
    match timeout(BODY_WAIT, to_bytes(request.into_body(), BODY_MAX)).await {
        Ok(read) => read.map(|b| b.to_vec()).map_err(too_large),
        Err(_) => {
            let detail = format!("the body was not there after {} s", BODY_WAIT.as_secs());
            Err(Fault::new(
                &rules::BODY,
                400_004,
                "The request body is not valid.",
                detail,
            ))
        }
    }
}

/// A request with the device's name in the path and again in the body; `then` answers it.
async fn named(
    door: Door,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
    then: impl FnOnce(&Call, &RegistrationId, Register) -> Result<Reply, Fault>,
) -> Response {
    let call = Call::new(door, caller, &request);
    let (scope, id) = match names(path) {
        Ok(names) => names,
        Err(fault) => return call.finish(None, Err(fault)),
    };
    let outcome = async {
        let id = call.check(&scope, &id)?;
        media_type(request.headers())?;
        let body = Register::read(&read_body(request).await?, &id, false)?;
        then(&call, &id, body)
    }
    .await;
    call.finish(Some(&id), outcome)
}

async fn register(
    State(door): State<Door>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    named(door, caller, path, request, |call, id, mut body| {
        body.preview = call.parameters.values("api-version").eq([PREVIEW]);
        let force = call.parameters.force();
        call.door.dps.register(id, &call.caller.chain, body, force)
    })
    .await
}

async fn operation(
    State(door): State<Door>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let call = Call::new(door, caller, &request);
    let (scope, id, operation) = match names(path) {
        Ok(names) => names,
        Err(fault) => return call.finish(None, Err(fault)),
    };
    let outcome = call
        .check(&scope, &id)
        .and_then(|id| call.door.dps.poll(&id, &call.caller.chain, &operation));
    call.finish(Some(&id), outcome)
}

async fn lookup(
    State(door): State<Door>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    named(door, caller, path, request, |call, id, _| {
        call.door.dps.lookup(id, &call.caller.chain)
    })
    .await
}

async fn no_path(State(door): State<Door>, ConnectInfo(caller): ConnectInfo<Caller>, request: Request) -> Response {
    let call = Call::new(door, caller, &request);
    let detail = format!("the path is {:?}", request.uri().path());
    call.finish(
        None,
        Err(Fault::new(&rules::PATH, 404_001, "The path was not found.", detail)),
    )
}

async fn no_method(State(door): State<Door>, ConnectInfo(caller): ConnectInfo<Caller>, request: Request) -> Response {
    let call = Call::new(door, caller, &request);
    let detail = format!("{} {:?}", request.method(), request.uri().path());
    call.finish(
        None,
        Err(Fault::new(
            &rules::METHOD,
            405_001,
            "The method is not allowed.",
            detail,
        )),
    )
}
