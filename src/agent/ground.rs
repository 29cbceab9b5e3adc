//! Link, clock, credentials: what stands between a registered modem and a session. Also what `provision` climbs.
//!
//! What is decided about credentials is in [`keeper`](super::keeper); here it is done: [`taking`] gets them, [`outcome`] hears how they fared.

mod outcome;
mod taking;

pub(super) use outcome::ended;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::Ready;
use super::fault::{Fault, REPROVISION_EVERY};
use super::keeper::{Brought, Refusal, Trial, View};
use super::ladder::{Ladder, Rung, State};
use super::watchdog::Pulse;
use crate::backoff::{Backoff, Policy};
use crate::clock::Clock;
use crate::config::agent::AgentConfig;
use crate::identity::Subscriber;
use crate::link::{Link, Via};
use crate::modem::usim::SimDoor;
use crate::provision::Credentials;
use crate::provision::renewal::Life;
use crate::provision::store::Store;

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
}

/// Runs what reads or writes files off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let lost = |e: tokio::task::JoinError| Fault::new(Rung::Credentials, e.to_string(), "it is tried again");
    tokio::task::spawn_blocking(work).await.map_err(lost)
}
