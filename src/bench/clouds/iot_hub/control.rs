//! The service side over HTTP, with the paths, bodies and status codes of IoT Hub's own service REST interface where there are any, so
//! that what a back end sends can be tried with curl. No authorization: the bench is for this machine.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /devices` | every device |
//! | `GET`, `PUT`, `DELETE /devices/{id}` | one device: `status`, `authentication.type`, `authentication.x509Thumbprint` |
//! | `GET`, `PATCH /twins/{id}` | the twin; a patch has `tags` and `properties.desired` |
//! | `POST /twins/{id}/methods` | `methodName`, `payload`, `responseTimeoutInSeconds`, `connectTimeoutInSeconds`; waits for the answer |
//! | `POST /devices/{id}/messages/devicebound` | the body goes to the device |
//! | `DELETE /devices/{id}/commands` | empties the device's queue |
//!
//! Properties of a message are headers as the Azure CLI sends them (`iothub-messageid`, `iothub-correlationid`, `iothub-userid`,
//! `iothub-contenttype`, `iothub-contentencoding`, `iothub-app-NAME`). What headers cannot say, a body of the bench's own media type
//! [`MESSAGE`] can: `{"payload": "text", "system": {"content_type": "…"}, "application": {"name": null}, "ttlSeconds": 60}`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Credential, Hub, HubError, MethodCall, Status, ToDevice};

/// Media type of a message with properties that headers cannot carry.
pub const MESSAGE: &str = "application/vnd.onyx.message+json";
/// Largest request body, in bytes: a method's payload and room for the rest.
const BODY_MAX: usize = super::methods::PAYLOAD_MAX + 16 * 1024;
/// Headers with system properties, and what they are on the wire.
const SYSTEM_HEADERS: [(&str, &str); 5] = [
    ("iothub-messageid", "$.mid"),
    ("iothub-correlationid", "$.cid"),
    ("iothub-userid", "$.uid"),
    ("iothub-contenttype", "$.ct"),
    ("iothub-contentencoding", "$.ce"),
];
/// Headers with the sender's own properties begin so.
const APPLICATION_HEADER: &str = "iothub-app-";

/// An error with the time at which it happened.
struct Failed(HubError, Duration);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = [("iothub-errorcode", self.0.name)];
        (status, code, axum::Json(self.0.body(self.1))).into_response()
    }
}

type Answer<T> = Result<T, Failed>;
type Body = Result<Bytes, BytesRejection>;

impl Hub {
    fn failed(&self, e: HubError) -> Failed {
        Failed(e, self.now().wall)
    }

    fn body(&self, body: Body) -> Answer<Bytes> {
        body.map_err(|e| {
            let too_large = e.status() == StatusCode::PAYLOAD_TOO_LARGE;
            let text = format!("the body cannot be had: {e}; at most {BODY_MAX} bytes are taken");
            self.failed(if too_large {
                HubError::too_large(BODY_MAX + 1, BODY_MAX)
            } else {
                HubError::format(text)
            })
        })
    }

    fn json<T: DeserializeOwned>(&self, body: Body) -> Answer<T> {
        let body = self.body(body)?;
        serde_json::from_slice(&body)
            .map_err(|e| self.failed(HubError::format(format!("the body is not what it should be: {e}"))))
    }
}

/// The service side's routes, from the root of the hub.
pub fn routes(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/devices", get(devices))
        .route("/devices/{id}", get(identity).put(register).delete(remove))
        .route("/devices/{id}/commands", delete(purge))
        .route("/devices/{id}/messages/devicebound", post(send))
        .route("/devices/{id}/messages/deviceBound", post(send))
        .route("/twins/{id}", get(twin).patch(update))
        .route("/twins/{id}/methods", post(call))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(hub)
}

type Service = State<Arc<Hub>>;

async fn devices(State(hub): Service) -> axum::Json<Value> {
    let all = hub.devices().into_iter().filter_map(|id| hub.identity(&id).ok());
    axum::Json(all.collect())
}

async fn identity(State(hub): Service, Path(id): Path<String>) -> Answer<axum::Json<Value>> {
    hub.identity(&id).map(axum::Json).map_err(|e| hub.failed(e))
}

#[derive(Debug, Deserialize)]
struct Authentication {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default, rename = "x509Thumbprint")]
    thumbprint: Prints,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prints {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Identity {
    status: Option<Status>,
    authentication: Option<Authentication>,
}

impl Authentication {
    fn credential(self) -> Result<Credential, HubError> {
        match self.kind.as_deref() {
            None | Some("certificateAuthority") => Ok(Credential::Authority),
            Some("selfSigned") => {
                let both = [self.thumbprint.primary_thumbprint, self.thumbprint.secondary_thumbprint];
                let prints = both.into_iter().flatten().map(|p| p.parse()).collect::<Result<_, _>>();
                prints.map(Credential::Thumbprints).map_err(HubError::argument)
            }
            Some(other) => Err(HubError::argument(format!(
                "authentication.type is {other:?}, this hub has certificateAuthority and selfSigned"
            ))),
        }
    }
}

async fn register(State(hub): Service, Path(id): Path<String>, body: Body) -> Answer<axum::Json<Value>> {
    let wanted: Identity = hub.json(body)?;
    let done = || -> Result<Value, HubError> {
        match wanted.authentication {
            Some(authentication) => hub.register(&id, authentication.credential()?)?,
            // A change of status alone leaves the credential as it is.
            None if hub.identity(&id).is_ok() => {}
            None => hub.register(&id, Credential::Authority)?,
        }
        if let Some(status) = wanted.status {
            hub.set_status(&id, status)?;
        }
        hub.identity(&id)
    };
    done().map(axum::Json).map_err(|e| hub.failed(e))
}

async fn remove(State(hub): Service, Path(id): Path<String>) -> Answer<StatusCode> {
    hub.remove(&id)
        .map(|()| StatusCode::NO_CONTENT)
        .map_err(|e| hub.failed(e))
}

async fn purge(State(hub): Service, Path(id): Path<String>) -> Answer<axum::Json<Value>> {
    let purged = hub.purge(&id).map_err(|e| hub.failed(e))?;
    Ok(axum::Json(json!({"deviceId": id, "totalMessagesPurged": purged})))
}

async fn twin(State(hub): Service, Path(id): Path<String>) -> Answer<axum::Json<Value>> {
    hub.twin(&id).map(axum::Json).map_err(|e| hub.failed(e))
}

async fn update(State(hub): Service, Path(id): Path<String>, body: Body) -> Answer<axum::Json<Value>> {
    let patch: Value = hub.json(body)?;
    hub.update_twin(&id, &patch).map(axum::Json).map_err(|e| hub.failed(e))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Method {
    method_name: String,
    #[serde(default)]
    payload: Value,
    response_timeout_in_seconds: Option<u32>,
    connect_timeout_in_seconds: Option<u32>,
}

async fn call(State(hub): Service, Path(id): Path<String>, body: Body) -> Answer<axum::Json<super::Answer>> {
    let wanted: Method = hub.json(body)?;
    let seconds = |s: Option<u32>| s.map(|s| Duration::from_secs(s.into()));
    let call = MethodCall {
        name: wanted.method_name,
        payload: wanted.payload,
        response_timeout: seconds(wanted.response_timeout_in_seconds),
        connect_timeout: seconds(wanted.connect_timeout_in_seconds),
    };
    hub.call(&id, call).await.map(axum::Json).map_err(|e| hub.failed(e))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    #[serde(default)]
    payload: String,
    #[serde(default)]
    system: BTreeMap<String, Option<String>>,
    #[serde(default)]
    application: BTreeMap<String, Option<String>>,
    ttl_seconds: Option<u32>,
}

impl Envelope {
    fn message(self) -> Result<ToDevice, HubError> {
        let mut message = ToDevice::new(self.payload);
        for (name, value) in &self.system {
            message.system(name, value.as_deref())?;
        }
        for (name, value) in &self.application {
            message.application(name, value.as_deref());
        }
        message.life = self.ttl_seconds.map(|s| Duration::from_secs(s.into()));
        Ok(message)
    }
}

/// A message whose properties are headers.
fn from_headers(headers: &HeaderMap, body: Bytes) -> Result<ToDevice, HubError> {
    let text = |name: &str, value: &HeaderValue| {
        let text = value.to_str().map(str::to_owned);
        text.map_err(|_| HubError::argument(format!("the header {name} has other than printable ASCII characters")))
    };
    let mut message = ToDevice::new(body);
    for (header, wire) in SYSTEM_HEADERS {
        if let Some(value) = headers.get(header) {
            message.system(wire, Some(&text(header, value)?))?;
        }
    }
    for (name, value) in headers {
        if let Some(own) = name.as_str().strip_prefix(APPLICATION_HEADER) {
            message.application(own, Some(&text(name.as_str(), value)?));
        }
    }
    Ok(message)
}

async fn send(State(hub): Service, Path(id): Path<String>, headers: HeaderMap, body: Body) -> Answer<Response> {
    let enveloped = headers.get(header::CONTENT_TYPE).is_some_and(|t| t == MESSAGE);
    let message = if enveloped {
        hub.json::<Envelope>(body)?.message()
    } else {
        from_headers(&headers, hub.body(body)?)
    };
    let mid = message.and_then(|m| hub.send(&id, m)).map_err(|e| hub.failed(e))?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    // No id: nobody will ever get it.
    if let Some(mid) = mid.and_then(|m| HeaderValue::from_str(&m).ok()) {
        response.headers_mut().insert("iothub-messageid", mid);
    }
    Ok(response)
}
