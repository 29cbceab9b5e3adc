//! A SIM that asks Krypton, by either door: operations one after the other, with bounded patience.
//!
//! - A service that has too much to do (429, 503) and says for how long is asked again, at most [`BUSY_MAX`] times and only when that is
//!   [`PAUSE_MAX`] or less; otherwise the caller is told how long to wait.
//! - At the internet door requests are signed with the SIM's key. A kept key that is refused is forgotten and the SIM authenticated once
//!   more; a fresh key that is refused is an error. So there is one authentication for each caller, or two if a kept key had become bad.
//! - An Azure registration goes on without us, and an AWS thing is there once it was made: unanswered questions about them are asked again, a
//!   few times in a row, rather than another one made. For an AWS thing also when that is sooner than the service wants: its key was
//!   told once, and to begin anew costs another certificate.

use std::path::Path;
use std::time::Duration;

use super::answer::{
    ArcSession, CognitoCredentials, CognitoToken, Device, Inventory, Metadata, Registration, Thing, Userdata,
    registered, registration,
};
use super::door::{Door, Settings};
use super::error::KryptonError;
use super::operation::{Operation, Parameters, Request};
use super::reply::Reply;
use crate::clock::Clock;
use crate::config::agent::Patience;
use crate::identity::Imsi;
use crate::link::Via;
use crate::modem::usim::SimDoor;
use crate::provision::https::now;
use crate::provision::keys::cache::{Cache, Form};
use crate::provision::keys::{Exchange, Key, Step};

/// A service that is busy is asked again so many times.
pub const BUSY_MAX: u32 = 2;
/// The longest pause on a service's word; a longer one is for whoever called.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);
/// So many questions in a row about what is already begun may go unanswered, or be answered with trouble, before it is given up.
pub const LOST_MAX: u32 = 2;

/// Somebody who asks.
#[derive(Debug)]
pub struct Caller<'a> {
    door: Door,
    clock: &'a Clock,
    sim: Option<Sim<'a>>,
}

/// What the internet door needs.
#[derive(Debug)]
struct Sim<'a> {
    imsi: &'a Imsi,
    modem: &'a SimDoor,
    cache: Cache,
    key: Option<Held>,
}

#[derive(Debug, Clone)]
struct Held {
    key: Key,
    /// Made by this caller, not kept from before.
    fresh: bool,
}

impl<'a> Caller<'a> {
    /// Over the SIM's data session.
    ///
    /// # Errors
    /// [`KryptonError`], when TLS cannot be set up.
    pub fn cellular(settings: Settings, via: &Via, clock: &'a Clock) -> Result<Self, KryptonError> {
        let door = Door::new(settings, via, clock)?;
        Ok(Self { door, clock, sim: None })
    }

    /// By SIM authentication, over any line; the key is kept below the directory `state.0`, in the form `state.1`.
    ///
    /// # Errors
    /// [`KryptonError`], when TLS cannot be set up.
    pub fn sim(
        settings: Settings,
        via: &Via,
        clock: &'a Clock,
        imsi: &'a Imsi,
        modem: &'a SimDoor,
        state: (&Path, Form),
    ) -> Result<Self, KryptonError> {
        let door = Door::new(settings, via, clock)?;
        let cache = Cache::new(state.0, door.endpoint(), imsi, state.1);
        let key = cache.load().map(|key| Held { key, fresh: false });
        let sim = Sim {
            imsi,
            modem,
            cache,
            key,
        };
        Ok(Self {
            door,
            clock,
            sim: Some(sim),
        })
    }

    /// An Azure device, registered through DPS.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub async fn azure(&mut self, parameters: Parameters, patience: Patience) -> Result<Device, KryptonError> {
        let reply = self.perform(&Operation::RegisterAzureIotDevice(parameters)).await?;
        let status = Operation::AzureRegistration(registered(&reply)?);
        let (mut last, mut lost) = (String::new(), 0);
        for _ in 0..patience.polls_max {
            let reply = self.once(&status).await;
            let mut after = reply.as_ref().ok().and_then(|r| r.retry_after);
            match reply.and_then(|reply| registration(&reply)) {
                Ok(Registration::Assigned(device)) => return Ok(device),
                Ok(Registration::Pending(status)) => (last, lost) = (status, 0),
                // The registration goes on without us: asking again is cheaper than registering again.
                Err(e @ (KryptonError::Unreachable { .. } | KryptonError::Trouble { .. }))
                    if lost < LOST_MAX && e.after().unwrap_or_default() <= PAUSE_MAX =>
                {
                    after = e.after();
                    lost += 1;
                }
                Err(e) => return Err(e),
            }
            pause(after, patience).await;
        }
        Err(KryptonError::Pending {
            status: last,
            tries: patience.polls_max,
        })
    }

    /// An AWS thing. With `skip_certificates` its certificate and AWS's root are fetched one by one.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub async fn aws(
        &mut self,
        mut parameters: Parameters,
        skip_certificates: bool,
        patience: Patience,
    ) -> Result<Device, KryptonError> {
        if skip_certificates {
            parameters.skip_certificates();
        }
        let thing = Thing::read(&self.perform(&Operation::BootstrapAwsIotThing(parameters)).await?)?;
        let fetched = match thing.lacks() {
            None => None,
            Some(id) => {
                let certificate = self.pem(&Operation::AwsCertificate(id.clone()), patience).await?;
                let root = self.pem(&Operation::AwsCaCertificate, patience).await?;
                Some((certificate, root))
            }
        };
        thing.complete(fetched)
    }

    /// A certificate of what is made already.
    async fn pem(&mut self, operation: &Operation, patience: Patience) -> Result<String, KryptonError> {
        let mut lost = 0;
        loop {
            match self.perform(operation).await.and_then(|reply| reply.pem()) {
                Err(e @ (KryptonError::Unreachable { .. } | KryptonError::Trouble { .. })) if lost < LOST_MAX => {
                    lost += 1;
                    pause(e.after(), patience).await;
                }
                other => return other,
            }
        }
    }

    /// An Azure device in one request: the internet door alone has it.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub async fn azure_at_once(&mut self, parameters: Parameters) -> Result<Device, KryptonError> {
        let reply = self.perform(&Operation::BootstrapAzureIotDevice(parameters)).await?;
        match registration(&reply)? {
            Registration::Assigned(device) => Ok(device),
            Registration::Pending(status) => Err(KryptonError::Pending { status, tries: 1 }),
        }
    }

    /// Temporary AWS credentials.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub async fn cognito_credentials(&mut self) -> Result<CognitoCredentials, KryptonError> {
        self.perform(&Operation::CognitoCredentials).await?.json()
    }

    /// An OpenID token.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub async fn cognito_token(&mut self) -> Result<CognitoToken, KryptonError> {
        self.perform(&Operation::CognitoToken).await?.json()
    }

    /// A pre-shared key for Inventory.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub async fn inventory(&mut self, endpoint: Option<String>) -> Result<Inventory, KryptonError> {
        let reply = self.perform(&Operation::BootstrapInventoryDevice(endpoint)).await?;
        // The key that has signed the request: nothing came between.
        let key = self.sim.as_ref().and_then(|sim| sim.key.as_ref());
        Inventory::read(&reply, key.map(|held| &held.key))
    }

    /// A WireGuard configuration.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub async fn arc(&mut self) -> Result<ArcSession, KryptonError> {
        self.perform(&Operation::BootstrapArc).await?.json()
    }

    /// What SORACOM Air knows about the SIM.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub async fn metadata(&mut self) -> Result<Metadata, KryptonError> {
        Metadata::read(&self.perform(&Operation::SubscriberMetadata).await?)
    }

    /// The text that the SIM's group has for its devices.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub async fn userdata(&mut self) -> Result<Userdata, KryptonError> {
        Userdata::read(&self.perform(&Operation::Userdata).await?)
    }

    /// Has an operation done, with patience for a busy service. The answer may be a refusal.
    async fn perform(&mut self, operation: &Operation) -> Result<Reply, KryptonError> {
        let mut busy = 0;
        loop {
            let reply = self.once(operation).await?;
            match wait(&reply).filter(|_| busy < BUSY_MAX) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Ok(reply),
            }
            busy += 1;
        }
    }

    /// The same, once.
    async fn once(&mut self, operation: &Operation) -> Result<Reply, KryptonError> {
        let Some(sim) = &mut self.sim else {
            return self.door.ask(&operation.cellular()?).await;
        };
        loop {
            let held = match &sim.key {
                Some(held) => held.clone(),
                None => {
                    let key = sim.authenticate(&self.door).await?;
                    sim.keep(&key);
                    sim.key.insert(Held { key, fresh: true }).clone()
                }
            };
            let reply = self.door.ask(&operation.signed(&held.key, now(self.clock))).await?;
            let refused = matches!(reply.good(), Err(KryptonError::Refused(r)) if r.is_about_the_key());
            if held.fresh || !refused {
                return Ok(reply);
            }
            tracing::info!(
                "SORACOM no longer takes the kept key (HTTP {}): the SIM is authenticated again",
                reply.status
            );
            sim.forget();
        }
    }
}

/// Waits for as long as configured, or as the service says, within bounds.
async fn pause(after: Option<Duration>, patience: Patience) {
    tokio::time::sleep(after.unwrap_or_default().min(PAUSE_MAX).max(patience.poll_every)).await;
}

/// How long to wait before a busy service is asked again.
fn wait(reply: &Reply) -> Option<Duration> {
    let busy = matches!(reply.status, 429 | 503);
    reply.retry_after.filter(|pause| busy && *pause <= PAUSE_MAX)
}

impl Sim<'_> {
    /// Proves the SIM; at most one resynchronisation.
    async fn authenticate(&self, door: &Door) -> Result<Key, KryptonError> {
        let (mut exchange, mut step) = Exchange::begin(self.imsi);
        loop {
            step = match step {
                Step::Ask(request) => exchange.answered(&patiently(door, &request).await?)?,
                Step::Authenticate(challenge) => {
                    let answer = self.modem.authenticate(challenge).await;
                    exchange.authenticated(&answer.map_err(crate::provision::keys::KeysError::from)?)?
                }
                Step::Done(key) => return Ok(key),
            };
        }
    }

    fn keep(&self, key: &Key) {
        if let Err(e) = self.cache.save(key) {
            let why = crate::identity::redact_digits(&e.to_string());
            tracing::warn!("the SIM's key could not be stored, so the SIM is authenticated again next time: {why}");
        }
    }

    fn forget(&mut self) {
        self.key = None;
        if let Err(e) = self.cache.forget() {
            let why = crate::identity::redact_digits(&e.to_string());
            tracing::warn!("the SIM's old key could not be removed: {why}");
        }
    }
}

/// Asks for what is not signed, with patience for a busy service.
async fn patiently(door: &Door, request: &Request) -> Result<Reply, KryptonError> {
    let mut busy = 0;
    loop {
        let reply = door.ask(request).await?;
        match wait(&reply).filter(|_| busy < BUSY_MAX) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Ok(reply),
        }
        busy += 1;
    }
}
