//! A device asks DPS for itself, attested by the operator's files.

use std::time::Duration;

use rustls::RootCertStore;

use super::assign::{Applicant, assign};
use super::error::{Attested, DpsError};
use super::name::RegistrationId;
use super::reply::Assigned;
use super::{DpsConfig, issued, registration};
use crate::identity::{AuthName, Subscriber};
use crate::provision::operator::{FilesError, read_limited};
use crate::provision::request::{Kind, Request};
use crate::provision::{Asker, Failure, Grant, Material};
use crate::tls::{self, Identity};

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
    registration::longest(&config.service.patience)
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
    let applicant = Applicant {
        id: &prepared.id,
        identity: &prepared.identity,
        roots: &prepared.roots,
        via: asker.via,
        clock: asker.clock,
    };
    let csr = prepared.request.as_ref().map(|r| r.der.as_slice());
    let assigned = assign(&config.service, applicant, csr).await?;
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
    let request = match config.service.csr {
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
