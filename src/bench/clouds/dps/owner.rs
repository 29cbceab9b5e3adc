//! What the service's owner does, over plain HTTP on the bench's control server: enrol, upload and verify authorities, link hubs, look.
//!
//! | request | what |
//! |---|---|
//! | `GET PUT DELETE /enrollmentGroups/{name}` | a group (Azure's service API) |
//! | `GET PUT DELETE /enrollments/{id}` | an individual enrolment (Azure's service API) |
//! | `GET DELETE /registrations/{id}` | a registration (Azure's service API) |
//! | `GET PUT DELETE /certificates/{name}` | an authority: `{"properties":{"certificate","isVerified"}}` (Azure's management API) |
//! | `POST /certificates/{name}/generateVerificationCode`, `POST /enrollmentGroups/{name}/verificationCode` | `{"verificationCode"}` |
//! | `POST …/verify` | the proof: `{"certificate"}` |
//! | `GET PUT /iotHubs` | the linked hubs: `["host", …]` |
//!
//! `If-Match` is heeded on PUT and DELETE of enrolments.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Dps;
use super::directory::{Kind, Owner, StoreError};
use super::enrollment::BadEnrollment;
use crate::bench::clouds::policy::dps::BODY_MAX;

type Shared = State<Arc<Dps>>;
type Answer = Result<Json<Value>, StoreError>;

impl IntoResponse for StoreError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({"errorCode": u32::from(self.status()) * 1_000 + 201, "message": self.to_string()});
        (status, Json(body)).into_response()
    }
}

/// The owner's requests.
pub fn routes(dps: Arc<Dps>) -> Router {
    let kind = |kind: Kind| {
        get(move |dps: Shared, name: Path<String>| async move { show(&dps, kind, &name) })
            .put(
                move |dps: Shared, name: Path<String>, headers: HeaderMap, body: Bytes| async move {
                    enrol(&dps, kind, &name, &headers, &body)
                },
            )
            .delete(move |dps: Shared, name: Path<String>, headers: HeaderMap| async move {
                remove(&dps, kind, &name, &headers)
            })
    };
    Router::new()
        .route("/enrollmentGroups/{name}", kind(Kind::Group))
        .route("/enrollments/{id}", kind(Kind::Individual))
        .route("/registrations/{id}", get(registration).delete(forget))
        .route(
            "/certificates/{name}",
            get(certificate).put(put_certificate).delete(remove_certificate),
        )
        .route("/certificates/{name}/generateVerificationCode", post(service_code))
        .route("/certificates/{name}/verify", post(service_verify))
        .route("/enrollmentGroups/{name}/verificationCode", post(group_code))
        .route("/enrollmentGroups/{name}/verify", post(group_verify))
        .route("/iotHubs", get(hubs).put(link))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(dps)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(body).map_err(|e| BadEnrollment(format!("the body cannot be read: {e}")).into())
}

fn if_match(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::IF_MATCH).and_then(|v| v.to_str().ok())
}

fn show(dps: &Dps, kind: Kind, name: &str) -> Answer {
    dps.get(kind, name).map(Json)
}

fn enrol(dps: &Dps, kind: Kind, name: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
    dps.put(kind, name, &read(body)?, if_match(headers)).map(Json)
}

fn remove(dps: &Dps, kind: Kind, name: &str, headers: &HeaderMap) -> Result<StatusCode, StoreError> {
    dps.remove(kind, name, if_match(headers))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn registration(dps: Shared, id: Path<String>) -> Answer {
    dps.registration(&id).map(Json)
}

async fn forget(dps: Shared, id: Path<String>) -> Result<StatusCode, StoreError> {
    dps.forget(&id)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn certificate(dps: Shared, name: Path<String>) -> Answer {
    dps.certificate(&name).map(Json)
}

async fn put_certificate(dps: Shared, name: Path<String>, body: Bytes) -> Answer {
    dps.put_certificate(&name, &read(&body)?).map(Json)
}

async fn remove_certificate(dps: Shared, name: Path<String>) -> Result<StatusCode, StoreError> {
    dps.remove_certificate(&name)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Proof {
    certificate: String,
}

fn code(dps: &Dps, owner: Owner<'_>) -> Answer {
    let code = dps.verification_code(owner)?;
    Ok(Json(json!({"verificationCode": code})))
}

fn verify(dps: &Dps, owner: Owner<'_>, body: &[u8]) -> Result<StatusCode, StoreError> {
    let proof: Proof = read(body)?;
    dps.verify(owner, &proof.certificate)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn service_code(dps: Shared, name: Path<String>) -> Answer {
    code(&dps, Owner::Service(&name))
}

async fn service_verify(dps: Shared, name: Path<String>, body: Bytes) -> Result<StatusCode, StoreError> {
    verify(&dps, Owner::Service(&name), &body)
}

async fn group_code(dps: Shared, name: Path<String>) -> Answer {
    code(&dps, Owner::Group(&name))
}

async fn group_verify(dps: Shared, name: Path<String>, body: Bytes) -> Result<StatusCode, StoreError> {
    verify(&dps, Owner::Group(&name), &body)
}

async fn hubs(dps: Shared) -> Json<Vec<String>> {
    Json(dps.hubs())
}

async fn link(dps: Shared, body: Bytes) -> Result<StatusCode, StoreError> {
    dps.link(read(&body)?)?;
    Ok(StatusCode::NO_CONTENT)
}
