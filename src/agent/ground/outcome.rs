//! What sessions and renewals have to say about credentials: failed, refused, proven, renewed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::{Ground, Held, RENEWAL_LOOK, Renewing, blocking};
use crate::agent::endpoint::Ready;
use crate::agent::fault::{Fault, REPROVISION_EVERY};
use crate::agent::keeper::{self, Brought, Errand, Refusal, Trial, View, Which, obtain};
use crate::agent::ladder::Rung;
use crate::backoff::Backoff;
use crate::clock::rfc3339;
use crate::config::agent::CredentialsConfig;
use crate::provision::{renewal, way};
use crate::session::Cause;

impl Ground {
    /// The broker refused the credentials: others are wanted, but not too often.
    pub(in crate::agent) fn refused_by_broker(&mut self) {
        let now = self.clock.monotonic();
        if self
            .reprovisioned
            .is_none_or(|last| now.saturating_sub(last) >= REPROVISION_EVERY)
        {
            self.reprovisioned = Some(now);
            self.refused = Some("the broker refused those on disk");
            let hours = REPROVISION_EVERY.as_secs() / 3_600;
            tracing::warn!("the broker refuses these credentials: others are fetched; this is done once in {hours} h");
        }
    }

    /// A session did not come up, or ended. The answer is whether other credentials may be asked for because of it.
    pub(in crate::agent) fn session_failed(&mut self, cause: Cause) -> bool {
        if matches!(cause, Cause::Identity | Cause::Configuration) {
            // Names, trust or credentials were refused: the files are read again, which somebody may have corrected meanwhile.
            self.reread = true;
        }
        let Some((which, protects)) = self.held.as_ref().map(|h| (h.ready.which, h.protects)) else {
            return false;
        };
        // Why the way there is closed says nothing of credentials that were proven once; a new set may name a wrong host.
        let tells = !matches!(cause, Cause::Route | Cause::Clock);
        let on_trial = which == Which::Candidate || self.trial.is_shelved();
        if (tells || on_trial) && self.trial.failed(which) {
            self.held = None;
            tracing::warn!(
                "{} did not connect in {} tries: the others are tried",
                match which {
                    Which::Candidate => "the new credentials",
                    _ => "the last good credentials",
                },
                keeper::TRIALS_MAX
            );
        }
        self.config.credentials.is_fetched()
            && match which {
                Which::Current => !self.fresh || self.trial.is_over(),
                Which::Candidate => self.trial.is_over() && !protects,
                Which::Memory => self.trial.is_over(),
                Which::Given => false,
            }
    }

    /// A connection proved what is in use: a candidate becomes the current set.
    pub(in crate::agent) async fn session_proven(&mut self) {
        let was_shelved = self.trial.is_shelved();
        self.trial = Trial::default();
        self.fresh = false;
        let Some(held) = &mut self.held else { return };
        let Some(store) = held.store.clone() else { return };
        match held.ready.which {
            Which::Candidate => {
                let done = blocking(move || store.promote()).await;
                match done.map_err(|f| f.cause).and_then(|r| r.map_err(|e| e.to_string())) {
                    Ok(()) => {
                        tracing::info!(
                            "the new credentials are proven by this connection and replace the old, which are kept"
                        );
                        held.ready = Arc::new(Ready {
                            which: Which::Current,
                            ..(*held.ready).clone()
                        });
                        // They are not "not proven yet" for the rest of the session, which may be months.
                        self.ladder.up(Rung::Credentials, &held.ready.describe());
                    }
                    Err(why) => tracing::error!(
                        "the new credentials are proven, but could not be made the current ones: {}; it is tried again at the next \
                         connection",
                        crate::identity::redact_digits(&why)
                    ),
                }
            }
            Which::Current if was_shelved => {
                tracing::warn!(
                    "the last good credentials connect where the new ones did not: the new ones are dropped"
                );
                if let Ok(Err(e)) = blocking(move || store.discard()).await {
                    tracing::error!(
                        "they could not be removed: {}",
                        crate::identity::redact_digits(&e.to_string())
                    );
                }
                self.postpone("the broker did not take the new credentials".to_owned(), None);
            }
            _ => {}
        }
        self.show();
    }

    /// How long until a renewal is to be tried; zero is now, `None` never with what is in use.
    pub(in crate::agent) fn renewal_in(&self) -> Option<Duration> {
        let held = self.held.as_ref()?;
        if held.ready.which != Which::Current || self.trial.is_shelved() || self.renewing.is_some() {
            return None;
        }
        let due = self.renew_from(held)?;
        let (now, _) = self.clock.now()?;
        let pause = self.renew_after.saturating_sub(self.clock.monotonic());
        Some(due.saturating_sub(now).max(pause).min(RENEWAL_LOOK))
    }

    /// Begins to renew, beside the session. When there is nobody to ask it is looked at again later.
    pub(in crate::agent) fn renew(&mut self) {
        let held = self.held.as_ref();
        let parts = held.and_then(|h| Some((&h.who, h.store.clone()?, &h.via)));
        match parts.map(|(who, store, via)| self.errand(who, store, via)) {
            Some(Ok(errand)) => {
                tracing::info!("the certificate is to be renewed: {}", way::describe(&self.config));
                let errand = Errand {
                    only_to_keep: true,
                    ..errand
                };
                self.renewing = Some(AbortOnDropHandle::new(tokio::spawn(obtain(errand))));
            }
            Some(Err(fault)) => self.postpone(fault.cause, None),
            None => self.postpone("nothing is in use".to_owned(), None),
        }
    }

    /// A renewal ended. True when there is a new set to connect with.
    pub(in crate::agent) fn renewed(&mut self, result: Result<Brought, Refusal>) -> bool {
        let (why, after) = match result {
            Ok(Brought::Staged(kept)) => {
                (self.renew_failure, self.spent) = (None, Backoff::new(self.spent.policy()));
                let used = self.held.as_ref().and_then(|held| held.ready.directory.as_ref());
                if used == Some(&kept.directory) {
                    return false; // between two sessions it was taken from the disk
                }
                // What failed before has nothing to do with the new set.
                (self.held, self.trial) = (None, Trial::default());
                return true;
            }
            // The old ones are good, and on the disk.
            Ok(Brought::Memory(_)) => (
                "the new credentials could not be stored; free or repair the disk that holds state_dir".to_owned(),
                Some(self.waste()),
            ),
            Err(refusal) => {
                let after = self.after(&refusal);
                (format!("{}; {}", refusal.fault.cause, refusal.fault.cure), after)
            }
        };
        self.postpone(why, after);
        self.show();
        false
    }

    /// How long to wait after a refusal before the service is asked again, if it or what it cost says so.
    pub(super) fn after(&mut self, refusal: &Refusal) -> Option<Duration> {
        let wait = refusal.spent.then(|| self.waste());
        refusal.after.max(wait)
    }

    /// A certificate was made for us in vain: how long to wait before the next.
    pub(super) fn waste(&mut self) -> Duration {
        self.spent.failed(self.clock.monotonic(), fastrand::f64())
    }

    fn postpone(&mut self, why: String, after: Option<Duration>) {
        let life = self.held.as_ref().and_then(Held::life);
        let now = self.clock.now().map_or_else(|| self.clock.system(), |(t, _)| t);
        let pause = life.map_or(RENEWAL_LOOK, |life| renewal::pause(life, now, after));
        tracing::warn!(
            "the credentials are not renewed: {}; next try in {} s",
            crate::identity::redact_digits(&why),
            pause.as_secs()
        );
        self.renew_after = self.clock.monotonic().saturating_add(pause);
        self.renew_failure = Some(crate::identity::redact_digits(&why));
    }

    /// The moment from which what is in use is renewed; `None` for what nobody renews.
    fn renew_from(&self, held: &Held) -> Option<Duration> {
        let ours = match &self.config.credentials {
            CredentialsConfig::Krypton(_) | CredentialsConfig::Fleet(_) => true,
            // Without a signing request the certificate is the operator's.
            CredentialsConfig::Dps(dps) => dps.service.csr,
            CredentialsConfig::None | CredentialsConfig::Files(_) => false,
        };
        let life = held.life()?;
        ours.then(|| renewal::due(life, self.config.keep.renew_at, held.who.imsi.as_str()))
    }

    /// Tells `status`.
    pub(super) fn show(&self) {
        let source = self.config.credentials.source();
        let view = self.held.as_ref().map_or_else(
            || View::nothing(source),
            |held| {
                let pause = self.renew_after.saturating_sub(self.clock.monotonic());
                let next = self.clock.now().map(|(now, _)| rfc3339(now.saturating_add(pause)));
                View {
                    renew_from: self.renew_from(held).map(rfc3339),
                    renew_next: next.filter(|_| !pause.is_zero()),
                    renew_failure: self.renew_failure.clone(),
                    ..View::of(source, held.ready.which, held.ready.credentials.as_ref())
                }
            },
        );
        self.view.send_replace(view);
    }
}

/// What a renewal brought; one that died brought nothing.
pub(super) fn brought(ended: Result<Result<Brought, Refusal>, tokio::task::JoinError>) -> Result<Brought, Refusal> {
    ended.unwrap_or_else(|e| {
        Err(Refusal {
            fault: Fault::new(Rung::Credentials, e.to_string(), "it is tried again"),
            after: None,
            spent: false,
        })
    })
}

/// Waits for a renewal to end; for ever, if there is none.
pub(in crate::agent) async fn ended(renewing: &mut Option<Renewing>) -> Result<Brought, Refusal> {
    match renewing {
        None => std::future::pending().await,
        Some(handle) => {
            let ended = handle.await;
            *renewing = None;
            brought(ended)
        }
    }
}
