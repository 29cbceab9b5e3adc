//! A key and a certificate for a subscriber, made by the gateway's authority.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::denied::Denied;
use super::operation::{OperationId, Registered, Sealer};
use crate::clock::Clock;
use crate::digest::{hex, sha256};
use crate::gateway::ca::{Place, Who};
use crate::gateway::config::ProvisioningConfig;
use crate::identity::Imsi;
use crate::pki::{Issued, KeyKind, Purpose, Signer, Validity};

/// A day: the window of `provisioning.per_day`.
const DAY: Duration = Duration::from_secs(86_400);
/// Subscribers whose share is remembered; beyond it, those that asked longest ago are forgotten.
const ASKERS_MAX: usize = 100_000;
/// Certificates kept for callers that asked for the key alone.
const REMEMBERED_MAX: usize = 1_000;
/// Longest common name (RFC 5280 appendix A.1, `ub-common-name`), in characters.
const COMMON_NAME_MAX: usize = 64;

#[derive(Debug, Default)]
struct State {
    /// When each subscriber got its last certificates, oldest first.
    shares: HashMap<Imsi, VecDeque<Duration>>,
    remembered: VecDeque<(Imsi, String, String)>,
}

/// The authority at work.
pub struct Issuer {
    signer: Mutex<Signer>,
    sealer: Sealer,
    folder: PathBuf,
    life: Duration,
    per_day: u32,
    /// What every issuer after this one goes on with.
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({})", self.folder.display())
    }
}

impl Issuer {
    pub(super) fn open(config: &ProvisioningConfig) -> Result<Self, String> {
        let place = Place::open(&config.ca).map_err(|e| format!("provisioning.ca: {e:#}"))?;
        let signer = place
            .signer(Who::Intermediate)
            .map_err(|e| format!("provisioning.ca: {e:#}"))?;
        let key_pem = signer.key_pem();
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|_| "provisioning.ca: the intermediate's key cannot be read".to_owned())?;
        let sealer = Sealer::new(key.secret_der()).map_err(|e| format!("provisioning.ca: {e}"))?;
        Ok(Self {
            signer: Mutex::new(signer),
            sealer,
            folder: config.ca.clone(),
            life: DAY * u32::from(config.days),
            per_day: config.per_day,
            state: Arc::default(),
        })
    }

    /// The authority as it is now (a reload); what subscribers got today counts on.
    pub(super) fn again(&self, config: &ProvisioningConfig) -> Result<Self, String> {
        Ok(Self {
            state: self.state.clone(),
            ..Self::open(config)?
        })
    }

    pub(super) fn seal(&self, registered: &Registered) -> Result<OperationId, Denied> {
        check_name(&registered.device_id)?;
        Ok(self.sealer.seal(registered))
    }

    pub(super) fn unseal(&self, id: &OperationId, now: Duration) -> Result<Registered, Denied> {
        self.sealer.unseal(id, now).ok_or(Denied::NoOperation)
    }

    /// A key and a certificate under this name.
    pub(super) fn issue(&self, who: &Imsi, name: &str, clock: &Clock) -> Result<Issued, Denied> {
        check_name(name)?;
        let Some((now, _)) = clock.now() else {
            return Err(Denied::Here(
                "nobody knows what time it is: set this host's clock".into(),
            ));
        };
        self.count(who, clock.monotonic())?;
        let signer = self.signer.lock().unwrap_or_else(PoisonError::into_inner);
        let validity = Validity::new(now, self.life).within(signer.validity()).ok_or_else(|| {
            Denied::Here(format!(
                "the authority in {} is not valid now: make a new one",
                self.folder.display()
            ))
        })?;
        signer
            .issue(name, &Purpose::Device, validity, KeyKind::P256)
            .map_err(|e| Denied::Here(e.to_string()))
    }

    /// Takes one of the subscriber's share.
    fn count(&self, who: &Imsi, now: Duration) -> Result<(), Denied> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.shares.len() >= ASKERS_MAX && !state.shares.contains_key(who) {
            let oldest = state.shares.iter().min_by_key(|(_, at)| at.back().copied());
            if let Some(oldest) = oldest.map(|(imsi, _)| imsi.clone()) {
                state.shares.remove(&oldest);
            }
        }
        let share = state.shares.entry(who.clone()).or_default();
        while share.front().is_some_and(|at| now.saturating_sub(*at) >= DAY) {
            share.pop_front();
        }
        if share.len() >= usize::try_from(self.per_day).unwrap_or(usize::MAX) {
            return Err(Denied::TooMany(self.per_day));
        }
        share.push_back(now);
        Ok(())
    }

    /// Keeps a certificate for a caller that asks for it afterwards.
    pub(super) fn remember(&self, who: &Imsi, id: &str, chain_pem: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.remembered.len() >= REMEMBERED_MAX {
            state.remembered.pop_front();
        }
        state
            .remembered
            .push_back((who.clone(), id.to_owned(), chain_pem.to_owned()));
    }

    pub(super) fn remembered(&self, who: &Imsi, id: &str) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = state.remembered.iter().find(|(w, i, _)| w == who && i == id);
        found.map(|(_, _, pem)| pem.clone())
    }
}

fn check_name(name: &str) -> Result<(), Denied> {
    if name.chars().count() > COMMON_NAME_MAX {
        return Err(Denied::Name(format!(
            "the name has {} characters; a certificate's common name has {COMMON_NAME_MAX} at most (RFC 5280): shorten \
             device_id or thing_name at the gateway",
            name.chars().count()
        )));
    }
    Ok(())
}

/// AWS's id of a certificate: SHA-256 of its DER, in hexadecimal (AWS IoT API reference, `certificateId`).
pub(super) fn certificate_id(leaf_pem: &str) -> Option<String> {
    let der = CertificateDer::from_pem_slice(leaf_pem.as_bytes()).ok()?;
    Some(hex(&sha256(&[&der])).to_lowercase())
}
