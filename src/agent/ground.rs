//! Link, clock, credentials: what stands between a registered modem and a session. Also what `provision` climbs.
//!
//! What is decided about credentials is in [`keeper`](super::keeper); here it is done.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::{Ready, auth_name, session_ca};
use super::fault::{Fault, REPROVISION_EVERY};
use super::keeper::{self, Brought, Errand, Refusal, Step, Trial, View, Which, choose, obtain};
use super::ladder::{Ladder, Rung, State};
use super::watchdog::Pulse;
use crate::backoff::{Backoff, Policy};
use crate::clock::{Clock, rfc3339};
use crate::config::agent::{AgentConfig, CredentialsConfig, Files};
use crate::identity::Subscriber;
use crate::link::{Link, Via};
use crate::modem::usim::SimDoor;
use crate::provision::operator::{FilesError, Proof, proves};
use crate::provision::renewal::{self, Life};
use crate::provision::seal::Seal;
use crate::provision::store::{Contents, Kept, Store};
use crate::provision::{Credentials, Unusable, way};
use crate::session::Cause;

/// The longest that looking at the link may take.
const LINK_MAX: Duration = Duration::from_secs(60);
/// What storing may take on top of fetching: waiting for another writer, and a slow card.
const STORE_MAX: Duration = Duration::from_secs(60);
/// A renewal that is far off is looked at again this often, because the clock may be set meanwhile.
const RENEWAL_LOOK: Duration = Duration::from_secs(3_600);
/// What to do when nobody knows what time it is.
const NO_TIME_CURE: &str =
    "wait for the network's time, or allow NTP (timedatectl set-ntp true); TLS cannot be trusted before that";

/// A renewal on its way, beside a session.
pub(super) type Renewing = AbortOnDropHandle<Result<Brought, Refusal>>;

/// The three rungs, and what is kept between two climbs.
pub(super) struct Ground {
    pub(super) config: Arc<AgentConfig>,
    pub(super) ladder: Ladder,
    pub(super) clock: Clock,
    pub(super) pulse: Pulse,
    link: Box<dyn Link>,
    sim: SimDoor,
    view: watch::Sender<View>,
    /// Whose all that follows is.
    whose: Option<Subscriber>,
    held: Option<Held>,
    /// What is held must be put together again from the files.
    reread: bool,
    reprovisioned: Option<Duration>,
    /// New ones are wanted whatever is on disk; why.
    refused: Option<&'static str>,
    trial: Trial,
    /// Fetched by this process, and no connection has proven them.
    fresh: bool,
    /// What could not be stored; it must not cost another fetch.
    memory: Option<Credentials>,
    /// The pauses after certificates that were made for us in vain.
    spent: Backoff,
    /// A renewal on its way. It outlives a session: one that falls again and again must not begin one after the other, each of which costs.
    pub(super) renewing: Option<Renewing>,
    /// No renewal before this monotonic time.
    renew_after: Duration,
    renew_failure: Option<String>,
}

/// What the last climb ended with.
struct Held {
    who: Subscriber,
    via: Via,
    ready: Arc<Ready>,
    /// Where the sets are, for those that are fetched.
    store: Option<Store>,
    /// When they were fetched, since the Unix epoch.
    fetched: Duration,
    /// There is a good current set behind this new one.
    protects: bool,
}

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

impl Held {
    fn life(&self) -> Option<Life> {
        let credentials = self.ready.credentials.as_ref()?;
        Some(Life::new(&credentials.identity.leaf, self.fetched))
    }
}

impl Ground {
    pub(super) fn new(
        config: Arc<AgentConfig>,
        ladder: Ladder,
        clock: Clock,
        pulse: Pulse,
        link: Box<dyn Link>,
        sim: SimDoor,
        view: watch::Sender<View>,
    ) -> Self {
        let spent = Backoff::new(Policy {
            min: config.session.retry_min,
            max: REPROVISION_EVERY,
            stable_after: Duration::ZERO,
        });
        Self {
            config,
            ladder,
            clock,
            pulse,
            link,
            sim,
            view,
            whose: None,
            held: None,
            reread: false,
            reprovisioned: None,
            refused: None,
            trial: Trial::default(),
            fresh: false,
            memory: None,
            spent,
            renewing: None,
            renew_after: Duration::ZERO,
            renew_failure: None,
        }
    }

    /// Climbs the three rungs; those that hold are passed at once.
    pub(super) async fn climb(&mut self, who: &Subscriber) -> Result<(Via, Arc<Ready>), Fault> {
        let via = self.link().await?;
        let now = self.time()?;
        let ready = self.credentials(who, &via, now).await?;
        Ok((via, ready))
    }

    /// The next climb fetches new credentials, whatever is on disk.
    pub(super) fn want_new(&mut self) {
        self.refused = Some("new ones are wanted");
    }

    /// Whether this process has fetched some that no connection has proven yet.
    pub(super) fn has_new(&self) -> bool {
        self.fresh
    }

    /// The broker refused the credentials: others are wanted, but not too often.
    pub(super) fn refused_by_broker(&mut self) {
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
    pub(super) fn session_failed(&mut self, cause: Cause) -> bool {
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
    pub(super) async fn session_proven(&mut self) {
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
    pub(super) fn renewal_in(&self) -> Option<Duration> {
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
    pub(super) fn renew(&mut self) {
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
    pub(super) fn renewed(&mut self, result: Result<Brought, Refusal>) -> bool {
        let (why, after) = match result {
            Ok(Brought::Staged(kept)) => {
                (self.renew_failure, self.spent) = (None, Backoff::new(self.spent.policy()));
                let used = self.held.as_ref().and_then(|held| held.ready.directory.as_ref());
                if used == Some(&kept.directory) {
                    return false; // between two sessions it was taken from the disk
                }
                self.held = None;
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
    fn after(&mut self, refusal: &Refusal) -> Option<Duration> {
        let wait = refusal.spent.then(|| self.waste());
        refusal.after.max(wait)
    }

    /// A certificate was made for us in vain: how long to wait before the next.
    fn waste(&mut self) -> Duration {
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
            CredentialsConfig::Dps(dps) => dps.csr,
            CredentialsConfig::None | CredentialsConfig::Files(_) => false,
        };
        let life = held.life()?;
        ours.then(|| renewal::due(life, self.config.keep.renew_at, held.who.imsi.as_str()))
    }

    /// Tells `status`.
    fn show(&self) {
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

    async fn link(&mut self) -> Result<Via, Fault> {
        if self.ladder.state(Rung::Link) != State::Up {
            self.ladder.climbing(Rung::Link, "looking for the way out");
        }
        self.pulse.promise(LINK_MAX);
        let via = self
            .link
            .climb()
            .await
            .map_err(|f| Fault::new(Rung::Link, f.cause, f.cure))?;
        self.ladder.up(Rung::Link, &format!("through {via}"));
        Ok(via)
    }

    fn time(&self) -> Result<Duration, Fault> {
        let view = self.clock.view();
        match view.now {
            Some((now, _)) => {
                self.ladder.up(Rung::Clock, &view.why());
                Ok(now)
            }
            None => Err(Fault::new(Rung::Clock, view.why(), NO_TIME_CURE)),
        }
    }

    async fn credentials(&mut self, who: &Subscriber, via: &Via, now: Duration) -> Result<Arc<Ready>, Fault> {
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
            CredentialsConfig::Dps(dps) if !dps.csr => Some(self.files(&dps.files, who, now, false).await?.identity),
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

    fn errand(&self, who: &Subscriber, store: Store, via: &Via) -> Result<Errand, Fault> {
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

/// What a renewal brought; one that died brought nothing.
fn brought(ended: Result<Result<Brought, Refusal>, tokio::task::JoinError>) -> Result<Brought, Refusal> {
    ended.unwrap_or_else(|e| {
        Err(Refusal {
            fault: Fault::new(Rung::Credentials, e.to_string(), "it is tried again"),
            after: None,
            spent: false,
        })
    })
}

/// Waits for a renewal to end; for ever, if there is none.
pub(super) async fn ended(renewing: &mut Option<Renewing>) -> Result<Brought, Refusal> {
    match renewing {
        None => std::future::pending().await,
        Some(handle) => {
            let ended = handle.await;
            *renewing = None;
            brought(ended)
        }
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

/// Runs what reads or writes files off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let lost = |e: tokio::task::JoinError| Fault::new(Rung::Credentials, e.to_string(), "it is tried again");
    tokio::task::spawn_blocking(work).await.map_err(lost)
}
