//! SORACOM Krypton without its HTTP: what a SIM may ask for, and what it gets. Two doors lead here: the cellular one, which knows its caller by
//! the SIM's session, and the internet one, where the caller has proved its SIM to the key service and signs.
//!
//! | file | what it is |
//! |---|---|
//! | `operation` | the paths, and which door has which with which method |
//! | `signed`, `request` | the signature; the bodies |
//! | `group` | the SIM's group configuration, which may forbid things |
//! | `azure`, `aws`, `cognito`, `inventory`, `arc`, `air` | the operations |
//! | `denied` | refusals, as `{code,message}` in two languages |
//!
//! Paths, fields and statuses are those of SORACOM's clients and guides; where they are silent the rule book (`policy/krypton.rs`) says so.
//! `certificate` holds the leaf and the intermediate. `rootCaCertificate` is the authority of the stand-in brokers. Each AWS bootstrap
//! makes new credentials, as the real one does; an Azure registration keeps what it was assigned.

mod air;
mod arc;
mod aws;
mod azure;
mod cognito;
mod denied;
mod group;
mod inventory;
mod operation;
mod request;
pub(super) mod signed;
#[cfg(test)]
mod signed_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::authority::Ca;
use super::fault::{KryptonFault, Switch};
use super::iot_hub::Hub;
use super::keys::{Fresh, KeyService};
use super::policy::krypton::NAME;
use super::stand_in::{Config, Hosts};
use super::subscribers::Subscribers;
use crate::bench::clouds::authority::COMMON_NAME_MAX;
use crate::bench::subscriber::aka::Key;
use crate::clock::Clock;
use crate::identity::Imsi;
use crate::pki::Issued;

pub(crate) use denied::{Denied, Language, body};
pub use group::Group;
pub use operation::Service;
pub(crate) use operation::{Entry, Operation};
use request::Request;

/// Registrations, certificates and Inventory devices kept, of each; the oldest go first.
const KEPT_MAX: usize = 1_000;
/// What a pattern writes for the IMSI (Krypton's group configuration).
const IMSI_PLACEHOLDER: &str = "$imsi";
/// Longest IMSI, in digits.
const IMSI_MAX: usize = 15;
/// PEM around something that is no certificate.
const GARBAGE: &str = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";

/// Who asks.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) imsi: Imsi,
    /// The key it has signed with; none at the cellular door.
    pub(crate) ck: Option<Key>,
}

/// What it gets. Most answers hold a key or a token, so `Debug` tells the kind alone.
pub(crate) enum Answer {
    Json(Value),
    Pem(String),
    Text(String),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Json(_) => "Json(hidden)",
            Self::Pem(_) => "Pem(hidden)",
            Self::Text(_) => "Text(hidden)",
        })
    }
}

/// What Krypton remembers.
#[derive(Debug, Default)]
struct State {
    registrations: VecDeque<azure::Registration>,
    certificates: VecDeque<aws::Certificate>,
    inventory: VecDeque<inventory::Device>,
}

/// Adds to a bounded list.
fn keep<T>(list: &mut VecDeque<T>, one: T) {
    if list.len() >= KEPT_MAX {
        list.pop_front();
    }
    list.push_back(one);
}

/// Krypton and the key service.
#[derive(Debug)]
pub(crate) struct Krypton {
    pub(crate) subscribers: Subscribers,
    pub(crate) fault: Switch<KryptonFault>,
    ca: Arc<Ca>,
    clock: Clock,
    hosts: Hosts,
    /// The hub that Azure's registrations assign to, once it runs.
    hub: OnceLock<Arc<Hub>>,
    group: Group,
    userdata: String,
    device_id_pattern: String,
    thing_name_pattern: String,
    assigning_polls: u32,
    assigning_for: Duration,
    challenge_status: StatusCode,
    keys: Mutex<KeyService>,
    state: Mutex<State>,
}

/// Checks a pattern for names.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), String> {
    if !pattern.contains(IMSI_PLACEHOLDER) {
        return Err(format!(
            "{pattern:?} has no {IMSI_PLACEHOLDER}: every SIM would get the same name"
        ));
    }
    if pattern.replace(IMSI_PLACEHOLDER, &"0".repeat(IMSI_MAX)).len() > COMMON_NAME_MAX {
        return Err(format!(
            "{pattern:?} gives names longer than {COMMON_NAME_MAX} characters"
        ));
    }
    Ok(())
}

impl Krypton {
    pub(crate) fn new(config: &Config, ca: Arc<Ca>, clock: Clock) -> Self {
        Self {
            subscribers: config.subscribers.clone(),
            fault: Switch::new(config.krypton_fault),
            ca,
            clock,
            hosts: config.hosts.clone(),
            hub: OnceLock::new(),
            group: config.krypton_group.clone(),
            userdata: config.userdata.clone(),
            device_id_pattern: config.device_id_pattern.clone(),
            thing_name_pattern: config.thing_name_pattern.clone(),
            assigning_polls: config.assigning_polls,
            assigning_for: config.assigning_for,
            challenge_status: config.challenge_status.code(),
            keys: Mutex::new(KeyService::new(config.sims(), config.sim_plan.clone())),
            state: Mutex::default(),
        }
    }

    /// The IoT hub runs.
    pub(crate) fn assigns_to(&self, hub: Arc<Hub>) {
        // There is one hub in a bench.
        let _ = self.hub.set(hub);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self) -> MutexGuard<'_, KeyService> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The SIM whose session this address stands for.
    pub(crate) fn session(&self, address: IpAddr) -> Option<Caller> {
        let imsi = self.subscribers.find(address)?.clone();
        Some(Caller { imsi, ck: None })
    }

    /// The SIM that has signed a request.
    ///
    /// # Errors
    /// The broken rule.
    pub(crate) fn signer(&self, headers: &HeaderMap, body: &[u8]) -> Result<Caller, Denied> {
        let (imsi, ck) = signed::check(&self.keys(), headers, body, self.clock.system())?;
        Ok(Caller { imsi, ck: Some(ck) })
    }

    /// `POST /v1/keys`.
    ///
    /// # Errors
    /// The broken rule.
    pub(crate) fn challenge(&self, body: &[u8]) -> Result<Value, Denied> {
        self.keys().challenge(self.clock.monotonic(), body, Fresh::random())
    }

    /// The status that a challenge has.
    pub(crate) fn challenge_status(&self) -> StatusCode {
        self.challenge_status
    }

    /// `POST /v1/keys/{keyId}/verify`.
    ///
    /// # Errors
    /// The broken rule.
    pub(crate) fn verify(&self, key_id: &str, body: &[u8]) -> Result<Value, Denied> {
        self.keys().verify(self.clock.monotonic(), key_id, body)
    }

    /// Does what is asked for.
    ///
    /// # Errors
    /// The broken rule.
    pub(crate) fn perform(&self, caller: &Caller, operation: &Operation, body: &[u8]) -> Result<Answer, Denied> {
        let request = Request::parse(body)?;
        self.group.allows(operation.service())?;
        let imsi = &caller.imsi;
        Ok(match operation {
            Operation::BootstrapAwsIotThing => Answer::Json(self.bootstrap_aws(imsi, request)?),
            Operation::AwsCertificate(id) => Answer::Pem(self.certificate(imsi, id)?),
            Operation::AwsCaCertificate => Answer::Pem(self.ca.root_pem()),
            Operation::RegisterAzureIotDevice => Answer::Json(self.register(imsi, request)?),
            Operation::GetAzureIotDeviceRegistrationStatus(id) => Answer::Json(self.status(imsi, id)?),
            Operation::BootstrapAzureIotDevice => Answer::Json(self.bootstrap_azure(imsi, request)?),
            Operation::CognitoSessionCredentials => Answer::Json(self.session_credentials(imsi)),
            Operation::CognitoOpenIdToken => Answer::Json(self.open_id_token(imsi)),
            Operation::BootstrapInventoryDevice => Answer::Json(self.inventory(caller, request)?),
            Operation::BootstrapArc => Answer::Json(self.arc(imsi)),
            Operation::SubscriberMetadata => Answer::Json(self.subscriber_metadata(imsi)),
            Operation::Userdata => Answer::Text(self.userdata.clone()),
        })
    }

    fn issue(&self, name: &str) -> Result<Issued, Denied> {
        use KryptonFault::{Expired, GarbageCertificate, WrongKey};
        let asked = |f: KryptonFault| matches!(f, WrongKey | Expired | GarbageCertificate);
        Ok(match self.fault.take(asked) {
            Some(Expired) => self.ca.expired_device(name)?,
            Some(WrongKey) => Issued {
                key_pem: self.ca.device(name)?.key_pem,
                ..self.ca.device(name)?
            },
            Some(_) => Issued {
                chain_pem: GARBAGE.into(),
                leaf_pem: GARBAGE.into(),
                ..self.ca.device(name)?
            },
            None => self.ca.device(name)?,
        })
    }
}

/// Letters, digits, colon, underscore, hyphen and, for device ids, dot (AWS CreateThing; Azure IoT Hub device identity). AWS allows 128
/// characters, but the stand-in puts the name into a certificate.
fn check_name(field: &str, name: &str) -> Result<(), Denied> {
    let good = !name.is_empty()
        && name.len() <= COMMON_NAME_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":_-.".contains(&b))
        && !name.starts_with('.');
    if good {
        Ok(())
    } else {
        let detail = format!("{field} {name:?} is not 1 to {COMMON_NAME_MAX} letters, digits, ':', '_', '-' or '.'");
        Err(Denied::new(&NAME, detail))
    }
}
