//! The account's own side over HTTP: what an operator does with AWS's API and console, for scenarios and tests. The shapes are AWS's
//! where AWS has one (shadows and publishing: the data plane's HTTPS API), and plain JSON otherwise.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /things/{thing}/shadow?name=`, `POST`, `DELETE` | the document, an update, the end of it |
//! | `POST /topics/{topic}?qos=1` | publishes the body |
//! | `GET /cas`, `POST /cas` | authorities; registers one: `{"caCertificate": PEM, "registration": "jitr"}` |
//! | `GET /registration-code` | what a proof of an authority's key has to say: `{"registrationCode"}` |
//! | `GET /certificates`, `POST /certificates/{id}` | all; changes one: `{"status", "policies", "thing"}`, each optional |
//! | `POST /claims/{name}` | a claim certificate: `{"certificateId", "certificatePem", "privateKey"}` |
//! | `GET /policies`, `GET /policies/{name}`, `PUT` | names; a policy document |
//! | `GET /templates/{name}`, `PUT` | a provisioning template |
//! | `POST /provisioning`, `DELETE` | tells an answer of the provisioning service in advance ([`script`](super::script)); forgets all |
//!
//! A registration is `off`, `jitr` (activated by hand), `jitr-at-once` (by the next connection), or `{"template": NAME}`.
//! An error is `{"message"}` with a status of AWS's kind: 400, 404, 409, 413, 415, 503.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Aws;
use super::document::Document;
use super::possession::{self, Mode};
use super::registry::{Registration, RegistryError, Status};
use super::reserved::is_thing_name;
use super::script::{REPLIES_MAX, Script};
use super::shadow::{Key, Operation};
use super::template::Template;
use crate::bench::clouds::backend::Act;
use crate::bench::clouds::endpoint::Endpoint;
use crate::bench::clouds::policy::aws_iot::PAYLOAD_MAX;
use crate::bench::clouds::topic;
use crate::tls;

#[derive(Debug, Clone)]
struct Control {
    aws: Arc<Aws>,
    endpoint: Arc<Endpoint>,
    code: Arc<str>,
}

struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "message": self.1 }))).into_response()
    }
}

impl From<RegistryError> for Failure {
    fn from(e: RegistryError) -> Self {
        let status = match e {
            RegistryError::Unknown(..) => StatusCode::NOT_FOUND,
            RegistryError::Full(..) => StatusCode::SERVICE_UNAVAILABLE,
            RegistryError::Unreadable(_) | RegistryError::Template(_) => StatusCode::BAD_REQUEST,
        };
        Self(status, e.to_string())
    }
}

fn bad(message: impl ToString) -> Failure {
    Failure(StatusCode::BAD_REQUEST, message.to_string())
}

fn unknown(what: &'static str, name: &str) -> Failure {
    RegistryError::Unknown(what, name.to_owned()).into()
}

fn utf8(body: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(body).map_err(|_| bad("the body is not UTF-8"))
}

/// The routes; to be nested under a path of the control server.
pub(crate) fn routes(aws: Arc<Aws>, endpoint: Arc<Endpoint>) -> Router {
    Router::new()
        .route(
            "/things/{thing}/shadow",
            get(read_shadow).post(update_shadow).delete(delete_shadow),
        )
        .route("/topics/{*topic}", post(publish))
        .route("/cas", get(list_authorities).post(add_authority))
        .route("/registration-code", get(registration_code))
        .route("/certificates", get(list_certificates))
        .route("/certificates/{id}", post(change_certificate))
        .route("/claims/{name}", post(make_claim))
        .route("/policies", get(list_policies))
        .route("/policies/{name}", get(read_policy).put(write_policy))
        .route("/templates/{name}", get(read_template).put(write_template))
        .route("/provisioning", post(tell).delete(untell))
        .layer(DefaultBodyLimit::max(PAYLOAD_MAX))
        .with_state(Control {
            aws,
            endpoint,
            code: possession::code().into(),
        })
}

#[derive(Deserialize)]
struct ShadowName {
    name: Option<String>,
}

fn shadow(
    control: &Control,
    thing: String,
    name: Option<String>,
    operation: Operation,
    body: &[u8],
) -> Result<Response, Failure> {
    if !is_thing_name(&thing) || name.as_ref().is_some_and(|n| !is_thing_name(n)) {
        return Err(bad(format!("{thing:?} or {name:?} cannot be a name")));
    }
    let key = Key { thing, name };
    let (outcome, acts) = control.aws.shadow(&key, operation, body, control.endpoint.now());
    control.endpoint.perform(acts);
    let status = StatusCode::from_u16(outcome.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (Ok(body) | Err(body)) = outcome.answer;
    Ok((status, Json(body)).into_response())
}

async fn read_shadow(
    State(control): State<Control>,
    Path(thing): Path<String>,
    Query(q): Query<ShadowName>,
) -> Result<Response, Failure> {
    shadow(&control, thing, q.name, Operation::Get, b"")
}

async fn update_shadow(
    State(control): State<Control>,
    Path(thing): Path<String>,
    Query(q): Query<ShadowName>,
    body: Bytes,
) -> Result<Response, Failure> {
    shadow(&control, thing, q.name, Operation::Update, &body)
}

async fn delete_shadow(
    State(control): State<Control>,
    Path(thing): Path<String>,
    Query(q): Query<ShadowName>,
) -> Result<Response, Failure> {
    shadow(&control, thing, q.name, Operation::Delete, b"")
}

#[derive(Deserialize)]
struct Quality {
    #[serde(default)]
    qos: u8,
}

async fn publish(
    State(control): State<Control>,
    Path(topic): Path<String>,
    Query(quality): Query<Quality>,
    body: Bytes,
) -> Result<Json<Value>, Failure> {
    if !topic::is_name(&topic) || topic.starts_with('$') {
        return Err(bad(format!("{topic:?} is no topic to publish to")));
    }
    if quality.qos > 1 {
        return Err(bad("qos is 0 or 1"));
    }
    control.endpoint.perform(vec![Act::Publish {
        topic: topic.into(),
        payload: body,
        qos: quality.qos,
    }]);
    Ok(Json(
        json!({"message": "OK", "traceId": format!("{:032x}", fastrand::u128(..))}),
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewAuthority {
    ca_certificate: String,
    registration: Wanted,
    #[serde(default)]
    certificate_mode: Mode,
    verification_certificate: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Wanted {
    Off,
    Jitr,
    JitrAtOnce,
    #[serde(untagged)]
    Jitp {
        template: String,
    },
}

impl From<Wanted> for Registration {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Off => Self::Off,
            Wanted::Jitr => Self::Jitr { activate_after: None },
            Wanted::JitrAtOnce => Self::Jitr {
                activate_after: Some(Duration::ZERO),
            },
            Wanted::Jitp { template } => Self::Jitp(template),
        }
    }
}

async fn list_authorities(State(control): State<Control>) -> Json<Value> {
    let list = control.aws.registry(|r| {
        r.authorities()
            .map(|(id, registration)| json!({"certificateId": id, "registration": format!("{registration:?}")}))
            .collect::<Vec<_>>()
    });
    Json(json!({ "certificates": list }))
}

async fn registration_code(State(control): State<Control>) -> Json<Value> {
    Json(json!({ "registrationCode": &*control.code }))
}

async fn add_authority(State(control): State<Control>, body: Bytes) -> Result<Json<Value>, Failure> {
    let asked: NewAuthority = serde_json::from_slice(&body).map_err(bad)?;
    let mut list = tls::certificates(asked.ca_certificate.as_bytes(), "caCertificate").map_err(bad)?;
    if let Some(der) = list.first() {
        let (proof, now) = (asked.verification_certificate.as_deref(), control.endpoint.now().wall);
        possession::check(asked.certificate_mode, proof, der, &control.code, now).map_err(bad)?;
    }
    let id = control
        .aws
        .registry(|r| r.add_authority(list.swap_remove(0), asked.registration.into()))?;
    Ok(Json(json!({ "certificateId": id })))
}

async fn list_certificates(State(control): State<Control>) -> Json<Value> {
    let list = control.aws.registry(|r| {
        r.certificates()
            .map(|c| {
                json!({
                    "certificateId": c.id, "status": c.status, "caCertificateId": c.authority,
                    "policies": c.policies, "things": c.things, "subject": c.subject,
                })
            })
            .collect::<Vec<_>>()
    });
    Json(json!({ "certificates": list }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    status: Option<Status>,
    policies: Option<Vec<String>>,
    thing: Option<String>,
}

async fn change_certificate(
    State(control): State<Control>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Failure> {
    let change: Change = serde_json::from_slice(&body).map_err(bad)?;
    control.aws.registry(|r| {
        if let Some(policies) = change.policies {
            r.attach_policies(&id, policies)?;
        }
        if let Some(thing) = &change.thing {
            r.attach_thing(&id, thing)?;
        }
        if let Some(status) = change.status {
            r.set_status(&id, status)?;
        }
        r.certificate(&id)
            .map(|c| Json(json!({"certificateId": id, "status": c.status, "policies": c.policies, "things": c.things})))
            .ok_or_else(|| unknown("certificate", &id))
    })
}

async fn make_claim(State(control): State<Control>, Path(name): Path<String>) -> Result<Json<Value>, Failure> {
    let issued = control.aws.ca.device(&name).map_err(bad)?;
    let ders = tls::certificates(issued.leaf_pem.as_bytes(), "the claim certificate").map_err(bad)?;
    let der = ders.first().ok_or_else(|| bad("no certificate was made"))?;
    let id = control.aws.claim(der, control.endpoint.now())?;
    Ok(Json(json!({
        "certificateId": id, "certificatePem": issued.chain_pem, "privateKey": issued.key_pem.as_str(),
    })))
}

async fn tell(State(control): State<Control>, body: Bytes) -> Result<Json<Value>, Failure> {
    let entry = serde_json::from_slice(&body).map_err(bad)?;
    if control.aws.script(|s| s.add(entry)) {
        Ok(Json(json!({ "message": "OK" })))
    } else {
        Err(RegistryError::Full("provisioning answers", REPLIES_MAX).into())
    }
}

async fn untell(State(control): State<Control>) -> Json<Value> {
    control.aws.script(Script::clear);
    Json(json!({ "message": "OK" }))
}

async fn list_policies(State(control): State<Control>) -> Json<Value> {
    let names = control
        .aws
        .registry(|r| r.policy_names().map(str::to_owned).collect::<Vec<_>>());
    Json(json!({ "policies": names }))
}

async fn read_policy(State(control): State<Control>, Path(name): Path<String>) -> Result<String, Failure> {
    let text = control.aws.registry(|r| r.policy_text(&name).map(str::to_owned));
    text.ok_or_else(|| unknown("policy", &name))
}

async fn write_policy(
    State(control): State<Control>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Failure> {
    let text = utf8(&body)?;
    let document = Document::parse(text).map_err(bad)?;
    control
        .aws
        .registry(|r| r.put_policy(&name, text.to_owned(), document))?;
    Ok(Json(json!({ "policyName": name })))
}

async fn read_template(State(control): State<Control>, Path(name): Path<String>) -> Result<String, Failure> {
    let text = control.aws.registry(|r| r.template_text(&name).map(str::to_owned));
    text.ok_or_else(|| unknown("template", &name))
}

async fn write_template(
    State(control): State<Control>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Failure> {
    let text = utf8(&body)?;
    let template = Template::parse(text).map_err(bad)?;
    control
        .aws
        .registry(|r| r.put_template(&name, text.to_owned(), template))?;
    Ok(Json(json!({ "templateName": name })))
}
