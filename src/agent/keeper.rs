//! Which of the kept credentials are used, and getting others.
//!
//! ```text
//! nothing good on disk ── fetch ──> current            (there is nothing to protect)
//! current is due       ── fetch ──> candidate ── a connection proved it ──> current, the old one becomes previous
//!                                       └── did not connect in TRIALS_MAX tries ──> shelved: current is used again;
//!                                           when that connects, the candidate was at fault and is dropped
//! ```
//!
//! The decision ([`choose`]) and the counting ([`Trial`]) do no I/O; [`obtain`] asks the service and stages what it grants.

use std::sync::Arc;
use std::time::Duration;

use super::fault::Fault;
use super::ladder::Rung;
use crate::clock::{Clock, rfc3339};
use crate::config::agent::AgentConfig;
use crate::identity::{AuthName, Subscriber, redact_digits};
use crate::link::Via;
use crate::modem::usim::SimDoor;
use crate::provision::store::{Contents, Kept, Store};
use crate::provision::{Asker, Credentials, Failure, Grant, Unusable, way};

/// So many connections in a row with a new set may fail before the old one is tried again: AWS registers a certificate at its first
/// connection, and a hub may hear of a device seconds after its provisioning service.
pub(super) const TRIALS_MAX: u32 = 5;

/// Which set is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The operator's files, or none at all.
    Given,
    /// The one that is kept.
    Current,
    /// A new one that no connection has proven yet.
    Candidate,
    /// A new one that could not be stored.
    Memory,
}

impl Which {
    /// The word in `status`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Current => "current",
            Self::Candidate => "candidate",
            Self::Memory => "memory",
        }
    }
}

/// What to do about the sets on disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This one is good.
    Use(Which),
    /// The current one is damaged, the one before it is good: take that.
    FallBack,
    /// Ask for new ones; why.
    Fetch(String),
    /// They are there, but may not or cannot be opened: others could not be kept either, and each costs a certificate at the cloud.
    Blocked(Unusable),
}

/// Decides. `now` is the time since the Unix epoch; `refused` says that new ones are wanted whatever is there, and why.
pub(super) fn choose(sets: &Contents, now: Duration, trial: &Trial, refused: Option<&str>) -> Step {
    for set in [&sets.current, &sets.candidate] {
        if let Err(e @ (Unusable::Forbidden(_) | Unusable::Sealed(_))) = set {
            return Step::Blocked(e.clone());
        }
    }
    if let Some(why) = refused {
        return Step::Fetch(why.to_owned());
    }
    let usable = |set: &Result<Kept, Unusable>| match set {
        Ok(kept) => kept.credentials.check_time(now),
        Err(e) => Err(e.clone()),
    };
    let current = usable(&sets.current);
    if usable(&sets.candidate).is_ok() && !(trial.shelved && current.is_ok()) {
        return Step::Use(Which::Candidate);
    }
    match current {
        Ok(()) => Step::Use(Which::Current),
        Err(Unusable::Damaged(_)) if usable(&sets.previous).is_ok() => Step::FallBack,
        Err(why) => Step::Fetch(why.to_string()),
    }
}

/// How a new set fares.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trial {
    failures: u32,
    shelved: bool,
}

impl Trial {
    /// A connection failed. True when the other set is to be used from now on: the last good one after the new one, and the other way
    /// round, because the fault may be elsewhere.
    pub(super) fn failed(&mut self, which: Which) -> bool {
        let on_trial = match which {
            Which::Candidate => true,
            Which::Current => self.shelved,
            Which::Given | Which::Memory => false,
        };
        self.failures = self.failures.saturating_add(1);
        let over = on_trial && self.failures >= TRIALS_MAX;
        if over {
            *self = Self {
                failures: 0,
                shelved: which == Which::Candidate,
            };
        }
        over
    }

    /// Whether a set that no connection has proven was refused often enough to ask for another.
    pub(super) fn is_over(&self) -> bool {
        self.shelved || self.failures >= TRIALS_MAX
    }

    /// Whether the new set waits while the last good one is used.
    pub(super) fn is_shelved(&self) -> bool {
        self.shelved
    }
}

/// Whom to ask, and where to put what is granted; everything is owned, so that it can be done beside a session.
#[derive(Debug, Clone)]
pub(super) struct Errand {
    pub(super) config: Arc<AgentConfig>,
    pub(super) clock: Clock,
    pub(super) sim: SimDoor,
    pub(super) store: Store,
    pub(super) who: Subscriber,
    pub(super) auth_name: AuthName,
    pub(super) via: Via,
    /// What could not be kept is not asked for: there are good ones, and each costs a certificate at the cloud.
    pub(super) only_to_keep: bool,
}

/// What an [`Errand`] brought.
pub(super) enum Brought {
    /// It is on disk as the candidate.
    Staged(Kept),
    /// It could not be stored.
    Memory(Credentials),
}

/// Why it brought nothing.
pub(super) struct Refusal {
    pub(super) fault: Fault,
    /// The service wants to be left alone for so long.
    pub(super) after: Option<Duration>,
    /// It cost a certificate.
    pub(super) spent: bool,
}

impl From<Failure> for Refusal {
    fn from(f: Failure) -> Self {
        Self {
            fault: Fault::new(Rung::Credentials, f.cause, f.cure),
            after: f.after,
            spent: f.spent,
        }
    }
}

/// Asks for new credentials, checks them and stages them. Bounded by [`way::longest`], and what the disk takes.
pub(super) async fn obtain(errand: Errand) -> Result<Brought, Refusal> {
    let asker = Asker {
        who: &errand.who,
        auth_name: &errand.auth_name,
        via: &errand.via,
        clock: &errand.clock,
        sim: &errand.sim,
        state_dir: &errand.config.state_dir,
        seal: errand.store.seal(),
    };
    if errand.only_to_keep {
        let store = errand.store.clone();
        let rehearsed = tokio::task::spawn_blocking(move || store.rehearse()).await;
        rehearsed.map_err(std::io::Error::other).and_then(|r| r).map_err(|e| {
            Refusal::from(Failure {
                cause: format!("new credentials could not be stored, so none are asked for: {e}"),
                cure: "look at the disk that holds state_dir: full, read-only or broken?".to_owned(),
                after: None,
                spent: false,
            })
        })?;
    }
    let grant = way::fetch(&errand.config, asker).await?;
    let now = errand.clock.now().map_or_else(|| errand.clock.system(), |(t, _)| t);
    let store = errand.store.clone();
    let kept = tokio::task::spawn_blocking(move || keep(&store, &grant, now)).await;
    let lost = |e: tokio::task::JoinError| Refusal {
        fault: Fault::new(Rung::Credentials, e.to_string(), "it is tried again"),
        after: None,
        spent: true,
    };
    Ok(kept.map_err(lost)??)
}

/// Checks and stages. Reads and writes files: not for async threads.
fn keep(store: &Store, grant: &Grant, now: Duration) -> Result<Brought, Failure> {
    let unusable = |why: String| {
        Failure {
        cause: format!("the granted credentials cannot be used: {why}"),
        cure: "look at the certificate settings of the provisioning service (the SIM group's Krypton configuration), and whether this \
               machine's clock is right; it is asked again later"
            .to_owned(),
        after: None,
        spent: true,
    }
    };
    let credentials = grant
        .check("the service's answer")
        .map_err(|e| unusable(e.to_string()))?;
    // Nothing that cannot be used may replace what is on disk.
    credentials.check_time(now).map_err(|e| unusable(e.to_string()))?;
    Ok(match store.stage(grant, now) {
        Ok(kept) => Brought::Staged(kept),
        Err(why) => {
            // Better connected and asking again at the next start than not connected.
            tracing::error!(
                "the new credentials could not be stored: {}; free or repair the disk",
                redact_digits(&why.to_string())
            );
            Brought::Memory(credentials)
        }
    })
}

/// What `status` says of the credentials.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(super) struct View {
    /// `credentials.source`.
    pub(super) source: &'static str,
    /// Which set is in use: `given`, `current`, `candidate` or `memory`.
    pub(super) set: Option<&'static str>,
    /// RFC 3339.
    pub(super) not_before: Option<String>,
    /// RFC 3339.
    pub(super) not_after: Option<String>,
    /// From when on new ones are asked for, RFC 3339; none for what nobody renews.
    pub(super) renew_from: Option<String>,
    /// The next try after one that failed, RFC 3339.
    pub(super) renew_next: Option<String>,
    /// Why the last try to renew failed.
    pub(super) renew_failure: Option<String>,
}

impl View {
    /// Nothing is in use yet.
    pub(super) fn nothing(source: &'static str) -> Self {
        Self {
            source,
            ..Self::default()
        }
    }

    /// Notes when the certificate is valid.
    pub(super) fn of(source: &'static str, which: Which, credentials: Option<&Credentials>) -> Self {
        let leaf = credentials.map(|c| &c.identity.leaf);
        Self {
            source,
            set: Some(which.word()),
            not_before: leaf.map(|l| rfc3339(l.not_before)),
            not_after: leaf.map(|l| rfc3339(l.not_after)),
            ..Self::default()
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
