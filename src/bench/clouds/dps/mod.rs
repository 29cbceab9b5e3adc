//! Azure's Device Provisioning Service: a device shows its certificate and is told which IoT hub it belongs to.
//!
//! | file | what it is |
//! |---|---|
//! | [`name`] | registration ids |
//! | [`enrollment`] | enrolments as the service's own API writes them |
//! | [`directory`] | authorities, groups, individuals; which of them decides about a device |
//! | [`message`] | what a device sends and is answered |
//! | [`registration`] | registrations and operations: which answer it is |
//! | `issuance` | certificates for signing requests (preview) |
//! | [`hubs`] | what is asked of an IoT hub |
//! | `mqtt` | requests and answers as MQTT topics: the [backend](super::backend) of the MQTT stand-in |
//! | `https` | the same over HTTPS |
//! | `hub_link` | the bench's IoT hub, told of every assignment |
//! | `owner` | what the service's owner does: enrol, verify, link, over HTTP |
//!
//! The rules, each with its source, are in [`policy::dps`](super::policy::dps). At its start the stand-in knows the bench's root and
//! intermediate as verified authorities with a group each, so that the bench's devices are assigned without further ado.
//!
//! Two things differ from the real service: everybody is assigned among the hubs of one bench, and attestation is by X.509 only.

pub mod directory;
pub mod enrollment;
pub(super) mod https;
mod hub_link;
pub mod hubs;
mod issuance;
pub mod message;
mod mqtt;
pub mod name;
mod owner;
pub mod registration;
mod store_error;
#[cfg(test)]
mod tests;
mod text;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use self::directory::{Directory, Kind, Owner, StoreError};
use self::enrollment::Enrollment;
use self::hubs::Hubs;
use self::message::{Register, Reply, fault_body};
use self::name::RegistrationId;
use self::registration::{Registrations, Setup};
use super::backend::Now;
use super::policy::dps::Fault;
use super::{uuid, visit};
use crate::clock::Clock;

pub(crate) use https::serve;
pub(crate) use hub_link::HubLink;
pub(crate) use mqtt::DpsMqtt;
pub use owner::routes;

#[derive(Debug)]
struct State {
    directory: Directory,
    registrations: Registrations,
}

/// One service: what both of its doors and its owner share.
#[derive(Debug)]
pub struct Dps {
    id_scope: String,
    clock: Clock,
    state: Mutex<State>,
}

impl Dps {
    /// A service that knows nobody yet. `hubs` are the linked ones, by host name.
    #[must_use]
    pub fn new(setup: Setup, hubs: Vec<String>, clock: Clock) -> Self {
        Self {
            id_scope: setup.id_scope.clone(),
            clock,
            state: Mutex::new(State {
                directory: Directory::default(),
                registrations: Registrations::new(setup, hubs, fastrand::Rng::new()),
            }),
        }
    }

    /// The id scope.
    #[must_use]
    pub fn id_scope(&self) -> &str {
        &self.id_scope
    }

    /// From now on `told` hears of every assignment.
    pub(crate) fn tell(&self, told: Arc<dyn Hubs>) {
        self.state().registrations.told = told;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both halves of the state at once.
    fn with<T>(&self, act: impl FnOnce(&mut Directory, &mut Registrations) -> T) -> T {
        let mut state = self.state();
        let State {
            directory,
            registrations,
        } = &mut *state;
        act(directory, registrations)
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.clock.monotonic(),
            wall: self.clock.system() + visit::clock_ahead(),
        }
    }

    pub(crate) fn tracking_id(&self) -> String {
        self.state().registrations.tracking_id()
    }

    pub(crate) fn fault_body(&self, fault: &Fault, tracking_id: &str) -> Value {
        fault_body(fault, tracking_id, self.clock.system())
    }

    pub(crate) fn register(
        &self,
        id: &RegistrationId,
        chain: &[CertificateDer<'_>],
        request: Register,
        force: bool,
    ) -> Result<Reply, Fault> {
        self.with(|directory, registrations| registrations.register(directory, id, chain, request, force, self.now()))
    }

    pub(crate) fn poll(
        &self,
        id: &RegistrationId,
        chain: &[CertificateDer<'_>],
        operation: &str,
    ) -> Result<Reply, Fault> {
        self.with(|directory, registrations| registrations.poll(directory, id, chain, operation, self.now()))
    }

    pub(crate) fn lookup(&self, id: &RegistrationId, chain: &[CertificateDer<'_>]) -> Result<Reply, Fault> {
        self.with(|directory, registrations| registrations.state(directory, id, chain, self.now()))
    }

    /// Uploads an authority: `{"properties":{"certificate":PEM or base64,"isVerified":bool}}`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_certificate(&self, name: &str, body: &Value) -> Result<Value, StoreError> {
        self.state().directory.put_certificate(name, body)
    }

    /// Shows an authority.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn certificate(&self, name: &str) -> Result<Value, StoreError> {
        self.state().directory.certificate(name)
    }

    /// Removes an authority.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove_certificate(&self, name: &str) -> Result<(), StoreError> {
        self.state().directory.remove_certificate(name)
    }

    /// A new verification code for an authority.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn verification_code(&self, owner: Owner<'_>) -> Result<String, StoreError> {
        self.with(|directory, registrations| directory.verification_code(owner, registrations.rng()))
    }

    /// Takes the certificate that proves possession of an authority's key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn verify(&self, owner: Owner<'_>, proof: &str) -> Result<(), StoreError> {
        self.state().directory.verify(owner, proof, self.clock.system())
    }

    /// Creates or replaces an enrolment from Azure's JSON; `if_match` is the etag it has to have. `attestation.x509.isVerified` is the
    /// bench's: certificates uploaded with a group need no proof.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put(&self, kind: Kind, name: &str, body: &Value, if_match: Option<&str>) -> Result<Value, StoreError> {
        let now = crate::clock::rfc3339(self.clock.system());
        let mut state = self.state();
        let etag = uuid::random(state.registrations.rng());
        let verified = body.pointer("/attestation/x509/isVerified") == Some(&Value::Bool(true));
        let enrollment = Enrollment::read(body, kind == Kind::Individual, etag, &now)?;
        state.directory.put(kind, name, enrollment, if_match, verified)
    }

    /// Shows an enrolment, an individual one with its registration.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn get(&self, kind: Kind, name: &str) -> Result<Value, StoreError> {
        let state = self.state();
        let missing = || StoreError::NotFound(format!("{} {name:?}", kind.key()));
        let mut shown = state
            .directory
            .get(kind, name)
            .ok_or_else(missing)?
            .show(kind.key(), name);
        if let (Kind::Individual, Some(shown)) = (kind, shown.as_object_mut()) {
            shown.insert("registrationState".into(), json!(state.registrations.show(name)));
        }
        Ok(shown)
    }

    /// Removes an enrolment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove(&self, kind: Kind, name: &str, if_match: Option<&str>) -> Result<(), StoreError> {
        self.state().directory.remove(kind, name, if_match)
    }

    /// The registration of a device.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn registration(&self, id: &str) -> Result<Value, StoreError> {
        let found = self.state().registrations.show(id);
        found.ok_or_else(|| StoreError::NotFound(format!("the registration {id:?}")))
    }

    /// Forgets the registration of a device.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn forget(&self, id: &str) -> Result<(), StoreError> {
        if self.state().registrations.forget(id) {
            Ok(())
        } else {
            Err(StoreError::NotFound(format!("the registration {id:?}")))
        }
    }

    /// The linked hubs.
    #[must_use]
    pub fn hubs(&self) -> Vec<String> {
        self.state().registrations.hubs.clone()
    }

    /// Links these hubs and no others.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn link(&self, hubs: Vec<String>) -> Result<(), StoreError> {
        if hubs.len() > HUBS_MAX {
            return Err(StoreError::Full(HUBS_MAX));
        }
        self.state().registrations.hubs = hubs;
        Ok(())
    }
}

/// Makes the bench's own devices known: root and intermediate are verified, and each has a group.
pub(crate) fn enrol_authority(dps: &Dps, root_pem: &str, intermediate_pem: &str) -> Result<(), StoreError> {
    for (name, pem) in [("onyx-root", root_pem), ("onyx-intermediate", intermediate_pem)] {
        let certificate = json!({"properties": {"certificate": pem, "isVerified": true}});
        dps.put_certificate(name, &certificate)?;
        let attestation = json!({"type": "x509", "x509": {"caReferences": {"primary": name}}});
        dps.put(Kind::Group, name, &json!({"attestation": attestation}), None)?;
    }
    Ok(())
}

/// Linked hubs of a service (DPS documentation, quotas).
pub const HUBS_MAX: usize = 50;
