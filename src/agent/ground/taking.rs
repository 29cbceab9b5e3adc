//! Where the credentials of the next session come from: the operator's files, a set on disk, or a service that is asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::outcome::brought;
use super::{Ground, Held, STORE_MAX, blocking};
use crate::agent::endpoint::{Ready, auth_name, session_ca};
use crate::agent::fault::Fault;
use crate::agent::keeper::{Brought, Errand, Step, Trial, Which, choose, obtain};
use crate::agent::ladder::Rung;
use crate::backoff::Backoff;
use crate::config::agent::{CredentialsConfig, Files};
use crate::identity::Subscriber;
use crate::link::Via;
use crate::provision::operator::{FilesError, Proof, proves};
use crate::provision::seal::Seal;
use crate::provision::store::{Contents, Kept, Store};
use crate::provision::{Credentials, Unusable, way};

/// What was chosen, or fetched.
struct Taken {
    credentials: Option<Credentials>,
    which: Which,
    fetched: Duration,
    directory: Option<PathBuf>,
    /// There is a good current set behind this new one.
    protects: bool,
}

impl Taken {
    fn new(kept: Kept, which: Which) -> Self {
        Self {
            credentials: Some(kept.credentials),
            which,
            fetched: kept.fetched,
            directory: Some(kept.directory),
            protects: false,
        }
    }

    /// Credentials without a place on disk.
    fn loose(credentials: Option<Credentials>, which: Which, now: Duration) -> Self {
        Self {
            credentials,
            which,
            fetched: now,
            directory: None,
            protects: false,
        }
    }
}

impl Ground {
    pub(super) async fn credentials(
        &mut self,
        who: &Subscriber,
        via: &Via,
        now: Duration,
    ) -> Result<Arc<Ready>, Fault> {
        self.is_of(who);
        if let Some(renewing) = self.renewing.take_if(|r| r.is_finished()) {
            let brought = brought(renewing.await);
            self.renewed(brought);
        }
        let held = self.held.as_ref().filter(|held| {
            let credentials = held.ready.credentials.as_ref();
            credentials.is_none_or(|c| c.check_time(now).is_ok()) && self.refused.is_none()
        });
        let held = held.map(|held| held.ready.clone());
        if let Some(ready) = held.as_ref().filter(|_| !self.reread) {
            return Ok(ready.clone());
        }
        self.ladder
            .climbing(Rung::Credentials, "looking for a key and a certificate");
        let config = self.config.clone();
        let mut store = None;
        let given = |credentials| Taken::loose(credentials, Which::Given, now);
        let taken = match &config.credentials {
            CredentialsConfig::None => given(None),
            CredentialsConfig::Files(files) => given(Some(self.files(files, who, now, true).await?)),
            fetched => {
                let memory = self
                    .memory
                    .clone()
                    .filter(|c| c.check_time(now).is_ok() && self.refused.is_none());
                let kept = Store::new(&config.state_dir, fetched.source(), &who.imsi, self.seal().await?);
                store = Some(kept.clone());
                match memory {
                    Some(credentials) => Taken::loose(Some(credentials), Which::Memory, now),
                    None => self.kept(kept, who, via, now).await?,
                }
            }
        };
        let Taken {
            credentials,
            which,
            fetched,
            directory,
            protects,
        } = taken;
        let (clock, who_owned) = (self.clock.clone(), who.clone());
        let ready = blocking(move || Ready::new(&config, &clock, &who_owned, credentials, which)).await??;
        let ready = Arc::new(Ready { directory, ..ready });
        self.ladder.up(Rung::Credentials, &ready.describe());
        self.held = Some(Held {
            who: who.clone(),
            via: via.clone(),
            ready: ready.clone(),
            store,
            fetched,
            protects,
        });
        self.reread = false;
        self.show();
        Ok(ready)
    }

    /// Forgets all that was known of another SIM or modem: its refusals, trials and renewals say nothing of this one.
    fn is_of(&mut self, who: &Subscriber) {
        let is_same = |w: &Subscriber| (&w.imsi, &w.imei) == (&who.imsi, &who.imei);
        if !self.whose.replace(who.clone()).as_ref().is_none_or(is_same) {
            (self.held, self.memory, self.renewing) = (None, None, None);
            (self.trial, self.fresh, self.reread) = (Trial::default(), false, false);
            (self.refused, self.reprovisioned) = (None, None);
            self.spent = Backoff::new(self.spent.policy());
            (self.renew_after, self.renew_failure) = (Duration::ZERO, None);
            self.show();
        } else if self.held.as_ref().is_some_and(|held| held.who != *who) {
            // The same SIM, of which more is known now: the names are made anew.
            self.held = None;
        }
    }

    /// Takes one of the sets on disk, or asks for a new one.
    async fn kept(&mut self, store: Store, who: &Subscriber, via: &Via, now: Duration) -> Result<Taken, Fault> {
        let own = match &self.config.clone().credentials {
            CredentialsConfig::Dps(dps) if !dps.service.csr => {
                Some(self.files(&dps.files, who, now, false).await?.identity)
            }
            _ => None,
        };
        let sets = {
            let store = store.clone();
            blocking(move || {
                // Sets of an earlier version, and keys from before encryption was switched on.
                if let Err(e) = store.upgrade() {
                    let why = crate::identity::redact_digits(&e.to_string());
                    tracing::warn!(
                        "the sets on disk could not be brought up to date: {why}; they are used as they are"
                    );
                }
                store.read(own.as_ref())
            })
            .await?
        };
        let refused = self.refused.take();
        let damaged = |e: Unusable| Fault::new(Rung::Credentials, e.to_string(), "it is read again");
        match choose(&sets, now, &self.trial, refused) {
            Step::Blocked(why) => {
                if refused.is_some() {
                    self.reprovisioned = None; // not got, so not counted
                }
                Err(blocked(&why))
            }
            Step::Use(which) => {
                let protects = which == Which::Candidate && is_good(&sets.current, now);
                let set = if which == Which::Candidate {
                    sets.candidate
                } else {
                    sets.current
                };
                let taken = |kept| Taken {
                    protects,
                    ..Taken::new(kept, which)
                };
                set.map(taken).map_err(damaged)
            }
            Step::FallBack => {
                tracing::warn!("the current credentials are damaged: those before them are taken up again");
                if let Err(e) = blocking(move || store.fall_back()).await? {
                    // They connect all the same.
                    let why = crate::identity::redact_digits(&e.to_string());
                    tracing::error!("the disk does not take that: {why}; they are used as they are");
                }
                sets.previous
                    .map(|kept| Taken::new(kept, Which::Current))
                    .map_err(damaged)
            }
            Step::Fetch(reason) => {
                let fetched = self.fetch(&sets, store, who, via, now, &reason).await;
                if fetched.is_err() && refused.is_some() {
                    // Not got, so not counted: when the broker refuses the old ones again, this is tried again.
                    self.reprovisioned = None;
                }
                fetched
            }
        }
    }

    async fn fetch(
        &mut self,
        sets: &Contents,
        store: Store,
        who: &Subscriber,
        via: &Via,
        now: Duration,
        reason: &str,
    ) -> Result<Taken, Fault> {
        self.ladder
            .climbing(Rung::Credentials, &format!("{reason}: {}", way::describe(&self.config)));
        // Two at once would cost two certificates.
        self.renewing = None;
        self.pulse
            .promise(way::longest(&self.config.credentials).saturating_add(STORE_MAX));
        let errand = self.errand(who, store.clone(), via)?;
        let brought = match obtain(errand).await {
            Ok(brought) => brought,
            Err(refusal) => {
                let after = self.after(&refusal);
                return Err(Fault { after, ..refusal.fault });
            }
        };
        (self.trial, self.fresh, self.memory) = (Trial::default(), true, None);
        self.spent = Backoff::new(self.spent.policy());
        Ok(match brought {
            Brought::Memory(credentials) => {
                self.memory = Some(credentials.clone());
                tracing::warn!("they are used from memory, and others are asked for at the next start");
                Taken::loose(Some(credentials), Which::Memory, now)
            }
            Brought::Staged(kept) => {
                if is_good(&sets.current, now) {
                    Taken {
                        protects: true,
                        ..Taken::new(kept, Which::Candidate)
                    }
                } else {
                    // There is nothing to protect.
                    blocking(move || store.promote()).await?.map_err(|e| unstored(&e))?;
                    Taken::new(kept, Which::Current)
                }
            }
        })
    }

    /// The operator's files. Those that a broker is to see must prove the name that it knows us by.
    async fn files(&self, files: &Files, who: &Subscriber, now: Duration, broker: bool) -> Result<Credentials, Fault> {
        let (config, files, who) = (self.config.clone(), files.clone(), who.clone());
        blocking(move || {
            let fault = |e: FilesError| Fault::new(Rung::Credentials, e.what(), e.cure());
            let ca = session_ca(&config)?;
            let credentials = files.load(&who, ca.as_deref(), now).map_err(fault)?;
            if broker {
                let name = auth_name(&config, &who)?;
                let proof = Proof::Broker {
                    to: config.session.to,
                    name: name.as_str(),
                };
                if let Some(remark) = proves(proof, &credentials.identity).map_err(fault)? {
                    remark.warn_once();
                }
            }
            Ok(credentials)
        })
        .await?
    }

    async fn seal(&self) -> Result<Option<Seal>, Fault> {
        let keep = self.config.keep.clone();
        let seal = blocking(move || Seal::configured(&keep)).await?;
        seal.map_err(|e| Fault::new(Rung::Credentials, e.to_string(), e.cure()))
    }

    pub(super) fn errand(&self, who: &Subscriber, store: Store, via: &Via) -> Result<Errand, Fault> {
        Ok(Errand {
            config: self.config.clone(),
            clock: self.clock.clone(),
            sim: self.sim.clone(),
            store,
            who: who.clone(),
            auth_name: auth_name(&self.config, who)?,
            via: via.clone(),
            only_to_keep: false,
        })
    }
}

fn is_good(set: &Result<Kept, Unusable>, now: Duration) -> bool {
    set.as_ref().is_ok_and(|kept| kept.credentials.check_time(now).is_ok())
}

fn blocked(why: &Unusable) -> Fault {
    let cure = match why {
        Unusable::Sealed(_) => {
            "give the service the systemd credential that they were encrypted with (credentials.encrypt_with), or remove them with \
             'onyx-agent credentials forget': then new ones are fetched"
        }
        _ => {
            "give state_dir back to the service's user: chown -R onyx:onyx /var/lib/onyx (a command run as root may have made them)"
        }
    };
    Fault::new(Rung::Credentials, why.to_string(), cure)
}

fn unstored(e: &std::io::Error) -> Fault {
    Fault::new(
        Rung::Credentials,
        format!("the credentials cannot be stored: {e}"),
        "look at the disk that holds state_dir: full, read-only or broken?",
    )
}
