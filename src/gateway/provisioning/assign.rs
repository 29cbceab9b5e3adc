//! Where a device of Azure belongs, and the certificate it gets for that place: found out once for each registration, however often and
//! through however many lost answers the device asks.
//!
//! With one host for all the answer is there at once. With DPS the gateway registers the device, attested by the certificate it has
//! just made for it, which takes some seconds; the device hears `assigning` meanwhile. A gateway that has not heard of the operation id
//! (another one took the registration, or it was restarted) begins anew: DPS then updates the same device.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::RootCertStore;
use tokio::sync::Semaphore;

use super::denied::Denied;
use super::issue::Issuer;
use super::operation::{OperationId, Registered};
use crate::clock::Clock;
use crate::config::credentials::DpsService;
use crate::files::read_small;
use crate::gateway::config::AzurePlace;
use crate::link::Via;
use crate::pki::Issued;
use crate::provision::dps::error::{Attested, DpsError};
use crate::provision::dps::name::RegistrationId;
use crate::provision::dps::{Applicant, assign};
use crate::tls::{self, Identity};

/// For so long the same operation id gets the same answer.
pub const KEPT_FOR: Duration = Duration::from_secs(600);
/// Registrations that are kept.
pub const KEPT_MAX: usize = 10_000;
/// Registrations that are asked of DPS at the same time.
const ASKING_MAX: usize = 32;

/// What a device gets.
#[derive(Debug)]
pub struct Given {
    /// The device id.
    pub device_id: String,
    /// The hub, or the namespace's MQTT host.
    pub host: String,
    /// Key and certificate.
    pub issued: Issued,
}

#[derive(Debug, Clone)]
enum Stand {
    Asking,
    Assigned(Arc<Given>),
    Failed(Denied),
}

#[derive(Debug)]
struct Entry {
    since: Duration,
    stand: Stand,
}

/// What is known of an operation id, for all who ask and for the one who finds out.
type Entries = Arc<Mutex<HashMap<OperationId, Entry>>>;

#[derive(Debug, Clone)]
enum Place {
    Host(String),
    Dps(Arc<(DpsService, RootCertStore)>),
}

/// All registrations of late.
#[derive(Debug)]
pub struct Assignments {
    place: Place,
    issuer: Arc<Issuer>,
    clock: Clock,
    entries: Entries,
    asking: Arc<Semaphore>,
    /// What `place` was made from.
    told: String,
}

impl Assignments {
    pub(super) fn new(place: AzurePlace, issuer: Arc<Issuer>, clock: &Clock) -> Result<Self, String> {
        let told = format!("{place:?}");
        let place = match place {
            AzurePlace::Host(host) => Place::Host(host),
            AzurePlace::Dps { service, ca_file } => {
                let roots = match &ca_file {
                    None => tls::system_roots().map_err(|e| format!("provisioning.azure.dps: {e}"))?,
                    Some(path) => {
                        let what = path.display().to_string();
                        let pem = read_small(path, super::FILE_MAX)
                            .map_err(|e| format!("provisioning.azure.dps.ca_file: cannot read {what}: {e}"))?;
                        tls::roots(&pem, &what).map_err(|e| format!("provisioning.azure.dps.ca_file: {e}"))?
                    }
                };
                Place::Dps(Arc::new((service, roots)))
            }
        };
        Ok(Self {
            place,
            issuer,
            clock: clock.clone(),
            entries: Entries::default(),
            asking: Arc::new(Semaphore::new(ASKING_MAX)),
            told,
        })
    }

    /// The same from other files or another place (a reload). Registrations go on, unless devices belong elsewhere now.
    pub(super) fn again(&self, place: AzurePlace, issuer: Arc<Issuer>, clock: &Clock) -> Result<Self, String> {
        let mut new = Self::new(place, issuer, clock)?;
        new.asking = self.asking.clone();
        if new.told == self.told {
            new.entries = self.entries.clone();
        }
        Ok(new)
    }

    /// How a registration stands; `None` while it is being found out. A refusal of the service is told once, then asking begins anew.
    pub(super) async fn ask(&self, id: &OperationId, registered: &Registered) -> Result<Option<Arc<Given>>, Denied> {
        let now = self.clock.monotonic();
        {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.retain(|_, e| now.saturating_sub(e.since) < KEPT_FOR);
            match entries.get(id).map(|e| e.stand.clone()) {
                Some(Stand::Asking) => return Ok(None),
                Some(Stand::Assigned(given)) => return Ok(Some(given)),
                Some(Stand::Failed(why)) => {
                    entries.remove(id);
                    return Err(why);
                }
                None if entries.len() >= KEPT_MAX => return Err(Denied::Busy),
                None => {}
            }
            let stand = Stand::Asking;
            entries.insert(id.clone(), Entry { since: now, stand });
        }
        let forget = Forget {
            entries: self.entries.clone(),
            id: id.clone(),
        };
        let issued = self
            .issuer
            .issue(&registered.imsi, &registered.device_id, &self.clock)?;
        match &self.place {
            Place::Host(host) => Ok(Some(forget.keep(Given {
                device_id: registered.device_id.clone(),
                host: host.clone(),
                issued,
            }))),
            Place::Dps(dps) => {
                let Ok(permit) = self.asking.clone().try_acquire_owned() else {
                    return Err(Denied::Busy);
                };
                let (dps, clock, name) = (dps.clone(), self.clock.clone(), registered.device_id.clone());
                tokio::spawn(async move {
                    let (service, roots) = &*dps;
                    match by_dps(service, roots, &name, issued, &clock).await {
                        Ok(given) => {
                            forget.keep(given);
                        }
                        Err(why) => {
                            tracing::warn!("DPS did not assign {}: {why}", crate::identity::redact_digits(&name));
                            forget.fail(why);
                        }
                    }
                    drop(permit);
                });
                Ok(None)
            }
        }
    }
}

/// Takes an entry away again unless something came of it: a task that is cancelled must not leave a device waiting for ever.
struct Forget {
    entries: Entries,
    id: OperationId,
}

impl Forget {
    fn set(&self, stand: Stand) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&self.id) {
            entry.stand = stand;
        }
    }

    fn keep(self, given: Given) -> Arc<Given> {
        let given = Arc::new(given);
        self.set(Stand::Assigned(given.clone()));
        given
    }

    fn fail(self, why: Denied) {
        self.set(Stand::Failed(why));
    }
}

impl Drop for Forget {
    fn drop(&mut self) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(
            entries.get(&self.id),
            Some(Entry {
                stand: Stand::Asking,
                ..
            })
        ) {
            entries.remove(&self.id);
        }
    }
}

async fn by_dps(
    service: &DpsService,
    roots: &RootCertStore,
    name: &str,
    issued: Issued,
    clock: &Clock,
) -> Result<Given, Denied> {
    let here = |e: String| Denied::Here(e);
    let id: RegistrationId = name.parse().map_err(|e: crate::provision::dps::name::NameError| {
        Denied::Name(format!("{e}; see provisioning.azure.device_id"))
    })?;
    let identity = Identity::from_pem(
        issued.chain_pem.as_bytes(),
        issued.key_pem.as_bytes(),
        "the new certificate",
    )
    .map_err(|e| here(e.to_string()))?;
    let applicant = Applicant {
        id: &id,
        identity: &identity,
        roots,
        via: &Via { interface: None },
        clock,
    };
    let assigned = assign(service, applicant, None).await.map_err(|e: DpsError| {
        let failure = e.failure(&Attested::default());
        Denied::Refused(format!("{}; {}", failure.cause, failure.cure))
    })?;
    Ok(Given {
        device_id: assigned.device_id.to_string(),
        host: assigned.hub,
        issued,
    })
}
