//! Azure's Device Provisioning Service with X.509: a device that has a certificate learns which IoT hub it belongs to.
//!
//! | file | what it is |
//! |---|---|
//! | [`name`] | registration ids |
//! | [`registration`] | what to ask next and when; no I/O |
//! | [`reply`] | what an answer means; no I/O |
//! | [`issued`] | the certificates that DPS issues, put in order; no I/O |
//! | [`error`] | why there was nothing, and what to do about it |
//! | `https`, `mqtt` | the two doors |
//!
//! The operator's certificate attests who the device is. What is sent is what its file holds, and that has to be the chain from the leaf
//! up to an authority that is verified at the service. Without `csr` the hub takes the same certificate, so the grant names a hub, a
//! device id and the operator's files. With `csr = true` (a preview of Microsoft's, not for production) the device makes a P-384 key and
//! has DPS issue the certificate for the hub; the key never leaves it, and each registration makes another.
//!
//! Sources: Microsoft's documentation of DPS (its HTTPS and MQTT pages, "X.509 certificate attestation", "Quotas and limits",
//! "Troubleshooting", "Certificate issuance"); azure-sdk-for-c, azure-iot-sdk-c and iot-identity-service for the wire.

pub mod error;
mod https;
pub mod issued;
mod mqtt;
pub mod name;
pub mod registration;
pub mod reply;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use serde_json::json;

use self::error::{Attested, DpsError};
use self::name::RegistrationId;
use self::registration::{Registration, Step};
use self::reply::{Assigned, Reply};
use super::operator::{FilesError, read_limited};
use super::request::{Kind, Request};
use super::{Asker, Failure, Grant, Material};
use crate::config::agent::{DpsConfig, DpsProtocol};
use crate::identity::{AuthName, Subscriber};
use crate::tls::{self, Identity};

/// The preview that issues certificates (azure-sdk-for-c, branch `feature/dps-csr-preview`).
pub const API_VERSION_CSR: &str = "2025-07-01-preview";

/// Registers the device and waits until it is assigned to a hub. Bounded by [`longest`].
///
/// # Errors
/// [`Failure`].
pub async fn provision(config: &DpsConfig, asker: Asker<'_>) -> Result<Grant, Failure> {
    let mut attested = Attested::default();
    let outcome = run(config, asker, &mut attested).await;
    outcome.map_err(|e| e.failure(&attested))
}

/// The longest that [`provision`] can take.
#[must_use]
pub fn longest(config: &DpsConfig) -> Duration {
    registration::longest(&config.patience)
}

/// Everything that is needed before the first byte is sent.
struct Prepared {
    id: RegistrationId,
    identity: Identity,
    roots: RootCertStore,
    ca_pem: Option<String>,
    request: Option<Request>,
}

async fn run(config: &DpsConfig, asker: Asker<'_>, attested: &mut Attested) -> Result<Grant, DpsError> {
    let Some((now, _)) = asker.clock.now() else {
        return Err(DpsError::Here("nobody knows what time it is".into()));
    };
    // Files and key generation stay off the async threads.
    let (own, who) = (config.clone(), asker.who.clone());
    let prepared = tokio::task::spawn_blocking(move || {
        let mut attested = Attested::default();
        (prepare(&own, &who, now, &mut attested), attested)
    });
    let (prepared, seen) = prepared.await.map_err(|e| DpsError::Here(e.to_string()))?;
    *attested = seen;
    let prepared = prepared?;
    let assigned = register(config, asker, &prepared).await?;
    tracing::info!(
        hub = assigned.hub,
        "DPS has assigned this device ({})",
        assigned.substatus
    );
    grant(prepared, *assigned)
}

fn prepare(config: &DpsConfig, who: &Subscriber, now: Duration, attested: &mut Attested) -> Result<Prepared, DpsError> {
    let ca_pem = config.ca_file.as_deref().map(read_limited).transpose();
    let ca_pem = ca_pem.map_err(DpsError::Authorities)?;
    // Read here too, because an error has to name this section's key.
    let roots = ca_pem
        .as_deref()
        .map(|pem| tls::roots(pem, "credentials.ca_file"))
        .transpose()?;
    attested.file = config.files.paths(who)?.0.display().to_string();
    let loaded = config.files.load(who, ca_pem.as_deref(), now)?;
    attested.leaf_only = loaded.identity.chain().len() == 1;
    attested.is_v1 = loaded.identity.leaf.is_v1;
    let configured = config.registration_id.as_ref().map(|t| t.fill(who)).transpose();
    let configured = configured.map_err(|e| FilesError::Unusable(e.to_string()))?;
    let id = RegistrationId::attested(configured.as_deref(), &loaded.identity.leaf)?;
    let request = match config.csr {
        true => {
            let name = AuthName::new(id.as_str().to_owned()).map_err(|e| DpsError::Here(e.to_string()))?;
            Some(Request::new(Kind::P384, &name).map_err(DpsError::Here)?)
        }
        false => None,
    };
    let text = |pem: Vec<u8>| String::from_utf8_lossy(&pem).into_owned();
    Ok(Prepared {
        id,
        identity: loaded.identity,
        roots: roots.unwrap_or(loaded.roots),
        ca_pem: ca_pem.map(text),
        request,
    })
}

/// One of the two doors.
enum Door {
    Https(Box<https::Door>),
    Mqtt(Box<mqtt::Door>),
}

async fn register(config: &DpsConfig, asker: Asker<'_>, prepared: &Prepared) -> Result<Box<Assigned>, DpsError> {
    let mut body = json!({"registrationId": prepared.id.as_str()});
    if let (Some(request), Some(body)) = (&prepared.request, body.as_object_mut()) {
        body.insert("csr".to_owned(), json!(STANDARD.encode(&request.der)));
    }
    let body = body.to_string().into_bytes();
    let (id, identity, roots) = (&prepared.id, &prepared.identity, prepared.roots.clone());
    let (via, clock) = (asker.via, asker.clock);
    let mut door = match config.protocol {
        DpsProtocol::Https => Door::Https(Box::new(https::Door::new(
            config, id, identity, roots, body, via, clock,
        )?)),
        DpsProtocol::Mqtt => Door::Mqtt(Box::new(mqtt::Door::new(
            config, id, identity, roots, body, via, clock,
        )?)),
    };
    let (mut registration, mut step) = Registration::begin(id.clone(), config.patience, clock.monotonic());
    let assigned = loop {
        let (ask, at) = match step {
            Step::Assigned(assigned) => break assigned,
            Step::Ask { ask, at } => (ask, at),
        };
        tokio::time::sleep(at.saturating_sub(clock.monotonic())).await;
        let reply: Result<Reply, DpsError> = match &mut door {
            Door::Https(door) => door.ask(&ask).await,
            Door::Mqtt(door) => door.ask(&ask).await,
        };
        let (now, unit) = (clock.monotonic(), fastrand::f64());
        step = match reply {
            Ok(reply) => {
                let after = reply.retry_after.map(|a| a.as_secs());
                tracing::debug!(status = reply.status, retry_after_s = after, "DPS answers");
                registration.answered(&reply, now, unit)?
            }
            Err(why) => {
                tracing::debug!("{}", crate::identity::redact_digits(&why.to_string()));
                registration.unanswered(why, now, unit)?
            }
        };
    };
    if let Door::Mqtt(door) = door {
        door.close().await;
    }
    Ok(assigned)
}

fn grant(prepared: Prepared, assigned: Assigned) -> Result<Grant, DpsError> {
    let material = match prepared.request {
        None => Material::Files {
            identity: prepared.identity,
        },
        Some(request) => Material::Issued {
            certificate_pem: issued::chain(&assigned.issued, &request.der, &prepared.id)?,
            private_key_pem: request.private_key_pem,
        },
    };
    Ok(Grant {
        host: assigned.hub,
        client_id: assigned.device_id,
        material,
        // A private stand-in's hub has the same authority; `session.ca_file` wins over it anyway.
        root_ca_pem: prepared.ca_pem,
    })
}
