//! Registrations and their operations, no I/O: what a device's requests are answered with.
//!
//! A register request is decided at once, and its result is kept back: the answer is `assigning` with an operation id, and so are the
//! first status requests, as many or for as long as the set-up says. A device has one operation at a time, that of its last register
//! request.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use super::directory::Directory;
use super::enrollment::{Allocation, Enrollment, Reprovision, WEBHOOK_OK};
use super::hubs::{Assignment, Hubs, NoHubs};
use super::issuance::{Issued, Issuer, Wish};
use super::message::{Register, Reply};
use super::name::RegistrationId;
use super::text::{hash, utc};
use crate::bench::clouds::backend::Now;
use crate::bench::clouds::policy::dps::{self as rules, Fault};
use crate::bench::clouds::policy::{Look, Refusal, Rule};
use crate::bench::clouds::uuid;

/// Registrations kept; the one that was used longest ago goes first.
pub const REGISTRATIONS_MAX: usize = 1_000;
/// Status requests of a device in [`POLL_WINDOW`] (DPS documentation, quotas).
pub const POLLS_MAX: usize = 5;
/// See [`POLLS_MAX`].
pub const POLL_WINDOW: Duration = Duration::from_secs(10);
/// Registrations of a service in [`REGISTER_WINDOW`] (DPS documentation, quotas).
pub const REGISTERS_MAX: usize = 1_000;
/// See [`REGISTERS_MAX`].
pub const REGISTER_WINDOW: Duration = Duration::from_secs(60);
/// The first part of an operation id, as in Microsoft's samples (`5.506603669bd3e2bf.b3602f8f-…`); 4 in older ones.
const OPERATION_GENERATION: u8 = 5;

/// How registrations go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The service's id scope.
    pub id_scope: String,
    /// How many status requests are answered `assigning`.
    pub assigning_polls: u32,
    /// For how long status requests are answered `assigning`.
    pub assigning_for: Duration,
    /// What `Retry-After` says, in whole seconds (3 in Microsoft's documentation).
    pub retry_after: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            id_scope: "0ne00111111".into(),
            assigning_polls: 0,
            assigning_for: Duration::ZERO,
            retry_after: 3,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Assigned {
        hub: String,
        device_id: String,
        substatus: &'static str,
        payload: Option<Value>,
        /// Certificates, if a signing request was sent.
        issued: Vec<String>,
    },
    Failed {
        code: u32,
        message: String,
    },
}

#[derive(Debug)]
struct Record {
    /// As the device wrote it.
    name: String,
    operation: String,
    outcome: Outcome,
    etag: String,
    created: Duration,
    updated: Duration,
    polls_left: u32,
    ready_at: Duration,
    polls: VecDeque<Duration>,
    used: Duration,
}

/// Who is to be allocated.
struct Device<'a> {
    id: &'a RegistrationId,
    certificate: Option<&'a CertificateDer<'a>>,
    issued: Option<Issued>,
}

/// Everything that registering needs.
#[derive(Debug)]
pub struct Registrations {
    setup: Setup,
    /// Linked hubs, by host name.
    pub hubs: Vec<String>,
    /// Who hears of every assignment.
    pub told: Arc<dyn Hubs>,
    records: HashMap<String, Record>,
    registered: VecDeque<Duration>,
    /// Made when it is needed first.
    issuer: Option<Issuer>,
    rng: fastrand::Rng,
}

/// Forgets what is older than `window`; the answer is how many seconds to wait if `most` are left.
fn wait(times: &mut VecDeque<Duration>, most: usize, window: Duration, now: Duration) -> Option<u64> {
    while times.front().is_some_and(|t| now.saturating_sub(*t) >= window) {
        times.pop_front();
    }
    let oldest = times.front().filter(|_| times.len() >= most)?;
    let left = window.saturating_sub(now.saturating_sub(*oldest));
    Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}

fn broken(rule: &'static Rule, detail: impl Into<String>) -> Refusal {
    Refusal::new(rule, Look::Answer(200), detail)
}

impl Registrations {
    /// Nobody has registered yet.
    pub fn new(setup: Setup, hubs: Vec<String>, rng: fastrand::Rng) -> Self {
        Self {
            setup,
            hubs,
            told: Arc::new(NoHubs),
            records: HashMap::new(),
            registered: VecDeque::new(),
            issuer: None,
            rng,
        }
    }

    /// An identifier for one request.
    pub fn tracking_id(&mut self) -> String {
        uuid::random(&mut self.rng)
    }

    pub(super) fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    /// A device registers. `force` (Node's `forceRegistration`) allocates again whatever the re-provision policy says.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn register(
        &mut self,
        directory: &Directory,
        id: &RegistrationId,
        chain: &[CertificateDer<'_>],
        request: Register,
        force: bool,
        now: Now,
    ) -> Result<Reply, Fault> {
        if let Some(seconds) = wait(&mut self.registered, REGISTERS_MAX, REGISTER_WINDOW, now.monotonic) {
            let detail = format!("{REGISTERS_MAX} registrations within {} s", REGISTER_WINDOW.as_secs());
            return Err(throttled(&rules::REGISTER_RATE, detail, seconds));
        }
        self.registered.push_back(now.monotonic);
        let hit = directory.decide(id, chain, now.wall)?;
        if !hit.enrollment.enabled {
            return Ok(Reply {
                status: 200,
                body: json!({
                    "operationId": "",
                    "status": "disabled",
                    "registrationState": {"registrationId": id.as_str(), "status": "disabled"},
                }),
                retry_after: None,
                broken: Some(broken(&rules::DISABLED, format!("{} is disabled", hit.name))),
            });
        }
        let enrollment = hit.enrollment.clone();
        let issued = self.issue(&enrollment, id, &request, now.wall)?;
        let device = Device {
            id,
            certificate: chain.first(),
            issued,
        };
        let outcome = self.allocate(&enrollment, device, request.payload, force);
        let operation = format!(
            "{OPERATION_GENERATION}.{:016x}.{}",
            hash(&self.setup.id_scope),
            uuid::random(&mut self.rng)
        );
        let key = id.key();
        let etag = uuid::random(&mut self.rng);
        let old = self.records.remove(&key);
        self.make_room();
        let record = Record {
            name: id.as_str().to_owned(),
            operation: operation.clone(),
            outcome,
            etag,
            created: old.as_ref().map_or(now.wall, |o| o.created),
            updated: now.wall,
            polls_left: self.setup.assigning_polls,
            ready_at: now.monotonic + self.setup.assigning_for,
            polls: old.map(|o| o.polls).unwrap_or_default(),
            used: now.monotonic,
        };
        self.records.insert(key, record);
        Ok(self.assigning(&operation))
    }

    fn assigning(&self, operation: &str) -> Reply {
        Reply {
            status: 202,
            body: json!({"operationId": operation, "status": "assigning"}),
            retry_after: Some(self.setup.retry_after),
            broken: None,
        }
    }

    fn make_room(&mut self) {
        while self.records.len() >= REGISTRATIONS_MAX {
            let oldest = self.records.iter().min_by_key(|(_, r)| r.used).map(|(k, _)| k.clone());
            match oldest {
                Some(key) => drop(self.records.remove(&key)),
                None => return,
            }
        }
    }

    /// The certificates for a signing request, if there is one.
    fn issue(
        &mut self,
        e: &Enrollment,
        id: &RegistrationId,
        request: &Register,
        now: Duration,
    ) -> Result<Option<Issued>, Fault> {
        let Some(csr) = &request.csr else { return Ok(None) };
        let refused = |rule, detail: &str| Fault::new(rule, 400_004, "Certificates are not issued.", detail);
        if !request.preview {
            return Err(refused(&rules::CSR_VERSION, "csr came with another api-version"));
        }
        let wish = Wish::read(csr, id)?;
        let no_policy = || refused(&rules::ISSUANCE, "the enrolment has no credentialPolicy");
        let days = e.issues_for_days.ok_or_else(no_policy)?;
        let issuer = match self.issuer.take() {
            Some(issuer) => issuer,
            None => Issuer::new(now)?,
        };
        let issued = issuer.issue(wish, days, now, &mut self.rng);
        self.issuer = Some(issuer);
        issued.map(Some)
    }

    /// Where a device goes.
    fn allocate(&self, e: &Enrollment, device: Device<'_>, payload: Option<Value>, force: bool) -> Outcome {
        let Device {
            id,
            certificate,
            issued,
        } = device;
        let before = match self.records.get(&id.key()).map(|r| &r.outcome) {
            Some(Outcome::Assigned { hub, .. }) => Some(hub.clone()),
            _ => None,
        };
        let failed = |code, message: String| Outcome::Failed { code, message };
        let mut echoed = None;
        let hub = match (&before, e.reprovision, &e.allocation) {
            (Some(stays), Reprovision::Never, _) if !force => stays.clone(),
            (_, _, Allocation::Custom(answer)) => {
                if answer.status != WEBHOOK_OK {
                    let message = format!("Custom allocation failed with status code: {}", answer.status);
                    return failed(400_207, message);
                }
                echoed = if answer.echo_payload {
                    payload
                } else {
                    answer.payload.clone()
                };
                match &answer.iot_hub_host_name {
                    Some(hub) => hub.clone(),
                    None => return failed(400_207, "Custom allocation answered without iotHubHostName".into()),
                }
            }
            (_, _, policy) => {
                let choice = if e.hubs.is_empty() { &self.hubs } else { &e.hubs };
                let at = match (policy, u64::try_from(choice.len())) {
                    (Allocation::Hashed, Ok(n)) if n > 0 => usize::try_from(hash(&id.key()) % n).unwrap_or(0),
                    _ => 0,
                };
                match choice.get(at) {
                    Some(hub) => hub.clone(),
                    None => return failed(400_208, "No IoT hub is linked to this service.".into()),
                }
            }
        };
        if !self.hubs.contains(&hub) {
            return failed(400_209, format!("The IoT hub {hub} is not linked to this service."));
        }
        let device_id = e.device_id.clone().unwrap_or_else(|| id.as_str().to_owned());
        let moves = before.filter(|b| *b != hub);
        let migrate = e.reprovision != Reprovision::Reset;
        let told = self.told.assign(&Assignment {
            hub: &hub,
            device_id: &device_id,
            certificate,
            issuer: issued.as_ref().map(|i| (&i.root, i.name.as_str())),
            initial_twin: e.initial_twin.as_ref(),
            leaves: moves.as_deref(),
            migrate,
        });
        if let Err(why) = told {
            return failed(400_209, format!("The IoT hub {hub} does not take the device: {why}"));
        }
        Outcome::Assigned {
            substatus: match (moves, migrate) {
                (None, _) => "initialAssignment",
                (Some(_), true) => "deviceDataMigrated",
                (Some(_), false) => "deviceDataReset",
            },
            hub,
            device_id,
            payload: echoed,
            issued: issued.map(|i| i.chain).unwrap_or_default(),
        }
    }

    /// A device asks for its operation.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn poll(
        &mut self,
        directory: &Directory,
        id: &RegistrationId,
        chain: &[CertificateDer<'_>],
        operation: &str,
        now: Now,
    ) -> Result<Reply, Fault> {
        directory.decide(id, chain, now.wall)?;
        let unknown = |detail| Fault::new(&rules::OPERATION, 404_001, "The operation was not found.", detail);
        let record = self
            .records
            .get_mut(&id.key())
            .ok_or_else(|| unknown(format!("{id} has not registered")))?;
        record.used = now.monotonic;
        if let Some(seconds) = wait(&mut record.polls, POLLS_MAX, POLL_WINDOW, now.monotonic) {
            let detail = format!("{POLLS_MAX} status requests within {} s", POLL_WINDOW.as_secs());
            return Err(throttled(&rules::POLL_RATE, detail, seconds));
        }
        record.polls.push_back(now.monotonic);
        if record.operation != operation {
            let detail = format!("{operation:?} is not the last operation of {id}");
            return Err(unknown(detail));
        }
        if record.polls_left > 0 || now.monotonic < record.ready_at {
            record.polls_left = record.polls_left.saturating_sub(1);
            let operation = record.operation.clone();
            return Ok(self.assigning(&operation));
        }
        let (status, state, refusal) = record.show();
        Ok(Reply {
            status: 200,
            body: json!({"operationId": operation, "status": status, "registrationState": state}),
            retry_after: None,
            broken: refusal,
        })
    }

    /// A device asks how its registration stands, without an operation (REST reference, device-registration-status-lookup).
    ///
    /// # Errors
    /// [`Fault`].
    pub fn state(
        &mut self,
        directory: &Directory,
        id: &RegistrationId,
        chain: &[CertificateDer<'_>],
        now: Now,
    ) -> Result<Reply, Fault> {
        directory.decide(id, chain, now.wall)?;
        let body = match self.records.get(&id.key()) {
            None => json!({"registrationId": id.as_str(), "status": "unassigned"}),
            Some(r) if r.polls_left > 0 || now.monotonic < r.ready_at => {
                json!({"registrationId": r.name, "createdDateTimeUtc": utc(r.created), "status": "assigning"})
            }
            Some(r) => r.show().1,
        };
        Ok(Reply {
            status: 200,
            body,
            retry_after: None,
            broken: None,
        })
    }

    /// The registration of a device, for the service's owner; `None` if there is none.
    #[must_use]
    pub fn show(&self, id: &str) -> Option<Value> {
        self.records.get(&id.to_ascii_lowercase()).map(|r| r.show().1)
    }

    /// Forgets a registration; the answer is whether there was one.
    pub fn forget(&mut self, id: &str) -> bool {
        self.records.remove(&id.to_ascii_lowercase()).is_some()
    }
}

fn throttled(rule: &'static Rule, detail: String, seconds: u64) -> Fault {
    let mut fault = Fault::new(rule, 429_001, "Operations are being throttled.", detail);
    fault.retry_after = Some(seconds);
    fault
}

impl Record {
    /// Status, registration state, and the rule that was broken if it failed.
    fn show(&self) -> (&'static str, Value, Option<Refusal>) {
        let mut state = json!({
            "x509": {},
            "registrationId": self.name,
            "createdDateTimeUtc": utc(self.created),
            "lastUpdatedDateTimeUtc": utc(self.updated),
            "etag": self.etag,
        });
        let mut add = |key: &str, value: Value| {
            if let Some(state) = state.as_object_mut() {
                state.insert(key.to_owned(), value);
            }
        };
        match &self.outcome {
            Outcome::Assigned {
                hub,
                device_id,
                substatus,
                payload,
                issued,
            } => {
                add("status", json!("assigned"));
                add("substatus", json!(substatus));
                add("assignedHub", json!(hub));
                add("deviceId", json!(device_id));
                if let Some(payload) = payload {
                    add("payload", payload.clone());
                }
                if !issued.is_empty() {
                    add("issuedCertificateChain", json!(issued));
                }
                ("assigned", state, None)
            }
            Outcome::Failed { code, message } => {
                add("status", json!("failed"));
                add("errorCode", json!(code));
                add("errorMessage", json!(message));
                let refusal = broken(&rules::ALLOCATION, format!("{code}: {message}"));
                ("failed", state, Some(refusal))
            }
        }
    }
}
