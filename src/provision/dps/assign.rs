//! Asking DPS for one applicant until there is a hub, or a reason why not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use serde_json::json;

use super::DpsService;
use super::error::DpsError;
use super::https;
#[cfg(feature = "agent")]
use super::mqtt;
use super::name::RegistrationId;
use super::registration::{Registration, Step};
use super::reply::{Assigned, Reply};
use crate::clock::Clock;
use crate::link::Via;
use crate::tls::Identity;

/// Who is to be assigned, and how the service is reached.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// The registration id.
    pub id: &'a RegistrationId,
    /// What attests it.
    pub identity: &'a Identity,
    /// Whom to trust as the service.
    pub roots: &'a RootCertStore,
    /// The way out.
    pub via: &'a Via,
    /// The time.
    pub clock: &'a Clock,
}

/// One of the two doors; a build without the agent has HTTPS alone.
enum Door {
    Https(Box<https::Door>),
    #[cfg(feature = "agent")]
    Mqtt(Box<mqtt::Door>),
}

impl Door {
    fn open(config: &DpsService, who: Applicant<'_>, body: Vec<u8>) -> Result<Self, DpsError> {
        let (id, identity, roots) = (who.id, who.identity, who.roots.clone());
        #[cfg(feature = "agent")]
        if config.protocol == crate::config::credentials::DpsProtocol::Mqtt {
            let door = mqtt::Door::new(config, id, identity, roots, body, who.via, who.clock)?;
            return Ok(Self::Mqtt(Box::new(door)));
        }
        let door = https::Door::new(config, id, identity, roots, body, who.via, who.clock)?;
        Ok(Self::Https(Box::new(door)))
    }

    async fn ask(&mut self, ask: &super::registration::Ask) -> Result<Reply, DpsError> {
        match self {
            Self::Https(door) => door.ask(ask).await,
            #[cfg(feature = "agent")]
            Self::Mqtt(door) => door.ask(ask).await,
        }
    }

    async fn close(self) {
        match self {
            Self::Https(_) => {}
            #[cfg(feature = "agent")]
            Self::Mqtt(door) => door.close().await,
        }
    }
}

/// Registers an applicant and waits until it is assigned to a hub. Bounded by [`super::registration::longest`]. `csr` is a signing
/// request in DER.
///
/// # Errors
/// [`DpsError`].
pub async fn assign(config: &DpsService, who: Applicant<'_>, csr: Option<&[u8]>) -> Result<Box<Assigned>, DpsError> {
    let mut body = json!({"registrationId": who.id.as_str()});
    if let (Some(csr), Some(body)) = (csr, body.as_object_mut()) {
        body.insert("csr".to_owned(), json!(STANDARD.encode(csr)));
    }
    let clock = who.clock;
    let mut door = Door::open(config, who, body.to_string().into_bytes())?;
    let (mut registration, mut step) = Registration::begin(who.id.clone(), config.patience, clock.monotonic());
    let assigned = loop {
        let (ask, at) = match step {
            Step::Assigned(assigned) => break assigned,
            Step::Ask { ask, at } => (ask, at),
        };
        tokio::time::sleep(at.saturating_sub(clock.monotonic())).await;
        let reply = door.ask(&ask).await;
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
    door.close().await;
    Ok(assigned)
}
