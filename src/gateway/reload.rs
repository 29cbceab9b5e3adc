//! Reading the configuration again without dropping a session: SIGHUP, `systemctl reload`, and `POST /v1/gateway/reload`.
//!
//! The whole file is read and everything it names is looked at (tokens, authorities, the certificate of the door with TLS) before anything
//! changes; a mistake anywhere leaves all as it was, and is said with line and column. Then, at once:
//!
//! | what | for whom |
//! |---|---|
//! | subscribers, groups, credentials (and a store's content) | whoever connects from now on |
//! | `listen.*`: bounds, time-outs, proxies, guesses; certificate, key, authorities and name of the door with TLS | the same |
//! | `api.token_file`, `.hosts`, `.open_metrics` | the next request; the old token and its sessions are worth nothing from then on |
//! | `provisioning`: the authority, the door's certificate and key, names, hosts, shares | the next request; registrations under way go on |
//! | `log.filter` | everybody |
//!
//! Who is connected stays connected, but for those who may not be any more: the subscribers that were removed, deactivated or locked to another
//! modem ([`super::sweep`]). A rotated credential or a changed group cuts nobody off. What is named by [`restarts`] takes a restart, which is said by name and changes nothing meanwhile.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::config::{Config, Source};
use super::connection::Shared;
use super::group::Scheme;
use super::http::auth::{Gate, Keys};
use super::listener::DoorTls;
use super::provisioning::Provisioning;
use super::sweep;
use super::upstream::tickets;
use crate::clock::Clock;
use crate::logging;

/// How many may wait for a reload; more are refused.
const WAITING_MAX: usize = 16;

/// What came of it: a line for people, or every mistake.
pub type Outcome = Result<String, String>;

/// Asks for a reload.
#[derive(Debug, Clone)]
pub struct Reload(mpsc::Sender<oneshot::Sender<Outcome>>);

/// The questions, for the one task that reloads.
#[derive(Debug)]
pub struct Reloads(mpsc::Receiver<oneshot::Sender<Outcome>>);

/// Both ends.
#[must_use]
pub fn channel() -> (Reload, Reloads) {
    let (ask, asked) = mpsc::channel(WAITING_MAX);
    (Reload(ask), Reloads(asked))
}

impl Reload {
    /// Reloads and says what came of it.
    ///
    /// # Errors
    /// Every mistake of the new configuration; the old one stays in force.
    pub async fn now(&self) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let gone = || "the gateway is stopping".to_owned();
        self.0
            .try_send(answer)
            .map_err(|_| "too many reloads at once, or the gateway is stopping".to_owned())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Reloads {
    /// The next question; `None` when nobody can ask any more.
    pub async fn next(&mut self) -> Option<oneshot::Sender<Outcome>> {
        self.0.recv().await
    }
}

/// A value that a reload may change; whoever took it before keeps what it was.
#[derive(Debug)]
pub(super) struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    pub(super) fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    pub(super) fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// What differs between two configurations and takes a restart, by the names of the keys.
#[must_use]
pub fn restarts(old: &Config, new: &Config) -> Vec<&'static str> {
    let tls = |c: &Config| c.listen.tls.as_ref().map(|t| t.address);
    let api = (old.api.as_ref(), new.api.as_ref());
    let provisioning = (old.provisioning.as_ref(), new.provisioning.as_ref());
    let source = match (&old.source, &new.source) {
        // The settings of a database; its content is read again.
        (Source::Store(a), Source::Store(b)) => a.database != b.database || format!("{a:?}") != format!("{b:?}"),
        (Source::Files(_), Source::Files(_)) => false,
        _ => true,
    };
    [
        ("listen.address", old.listen.address != new.listen.address),
        ("listen.tls.address", tls(old) != tls(new)),
        ("listen.workers", old.listen.workers != new.listen.workers),
        ("store", source),
        // A door that comes or goes.
        ("api", api.0.is_some() != api.1.is_some()),
        (
            "api.address",
            matches!(api, (Some(a), Some(b)) if a.address != b.address),
        ),
        ("provisioning", provisioning.0.is_some() != provisioning.1.is_some()),
        (
            "provisioning.address",
            matches!(provisioning, (Some(a), Some(b)) if a.address != b.address),
        ),
        // From plain to TLS, or back.
        (
            "provisioning.certificate",
            matches!(provisioning, (Some(a), Some(b)) if a.tls.is_some() != b.tls.is_some()),
        ),
        ("status.socket", old.socket != new.socket),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

/// What is behind the doors for HTTP, as far as a reload changes it.
#[derive(Debug, Clone)]
pub(super) struct Rooms {
    /// Who may ask the API.
    pub(super) gate: Option<Arc<Gate>>,
    /// What devices are given.
    pub(super) provisioning: Option<Arc<Current<Provisioning>>>,
    /// The TLS of that door.
    pub(super) provisioning_tls: Option<Arc<Current<DoorTls>>>,
}

/// What a new configuration names, read and found good.
struct Looked {
    tls: Option<DoorTls>,
    keys: Option<Keys>,
    provisioning: Option<(Provisioning, Option<DoorTls>)>,
}

impl Rooms {
    /// Everything that the files say now. Blocks.
    fn look(&self, new: &Config, clock: &Clock) -> Result<Looked, String> {
        let tls = new
            .listen
            .tls
            .as_ref()
            .map(|tls| DoorTls::read("listen.tls", tls, clock));
        let keys = new.api.as_ref().map(|api| Keys::read(api).map_err(|e| e.to_string()));
        let provisioning = new.provisioning.as_ref().map(|settings| {
            let service = match &self.provisioning {
                Some(running) => running.get().again(settings),
                None => Provisioning::open(settings, clock),
            };
            let tls = settings
                .tls
                .as_ref()
                .map(|tls| DoorTls::read("provisioning", tls, clock));
            Ok::<_, String>((service?, tls.transpose()?))
        });
        Ok(Looked {
            tls: tls.transpose()?,
            keys: keys.transpose()?,
            provisioning: provisioning.transpose()?,
        })
    }

    /// From now on. What comes or goes with a restart only is not there to be changed.
    fn change(&self, keys: Option<Keys>, provisioning: Option<(Provisioning, Option<DoorTls>)>) {
        if let (Some(gate), Some(keys)) = (&self.gate, keys) {
            gate.change(keys);
        }
        let Some((service, tls)) = provisioning else { return };
        if let Some(running) = &self.provisioning {
            running.set(service);
        }
        if let (Some(running), Some(tls)) = (&self.provisioning_tls, tls) {
            running.set(tls);
        }
    }
}

/// Answers every question until nobody can ask any more. `config` is what runs.
pub(super) async fn serve(mut reloads: Reloads, path: &Path, mut config: Config, shared: &Arc<Shared>, rooms: &Rooms) {
    while let Some(answer) = reloads.next().await {
        let outcome = once(path, &mut config, shared, rooms).await;
        match &outcome {
            Ok(said) => info!("{said}"),
            Err(why) => error!("not reloaded, all stays as it was: {why}"),
        }
        let _ = answer.send(outcome);
    }
}

async fn once(path: &Path, config: &mut Config, shared: &Arc<Shared>, rooms: &Rooms) -> Outcome {
    let (path, clock, here) = (path.to_owned(), shared.hall.clock.clone(), rooms.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let new = Config::read(&path).map_err(|e| e.to_string())?;
        logging::check(&new.log).map_err(|e| format!("log.filter: {e}"))?;
        let found = here.look(&new, &clock)?;
        if let Source::Files(files) = &new.source {
            for group in files.groups.iter().filter(|g| g.upstream.scheme == Scheme::Mqtts) {
                // The file may hold other authorities than before.
                tickets::roots(&group.upstream.trust).map_err(|why| format!("upstream.ca_file: {why}"))?;
            }
        }
        Ok::<_, String>((new, found))
    });
    let (new, found) = looked.await.map_err(|e| e.to_string())??;
    let restarts = restarts(config, &new);
    if !restarts.contains(&"store") {
        shared.book.reload(&new).await.map_err(|e| e.to_string())?;
    }
    shared.tickets.clear();
    if let Err(why) = logging::change(&new.log) {
        warn!("log.filter: {why}");
    }
    shared.hall.change(&new.listen, found.tls);
    rooms.change(found.keys, found.provisioning);
    shared.listen.set(new.listen.clone());
    let view = shared.book.view().await;
    let left = sweep::sweep(shared, &view.directory);
    let mut said = format!("reloaded: {} subscribers", view.directory.len());
    if left > 0 {
        said += &format!("; {left} connections ended");
    }
    if !restarts.is_empty() {
        said += &format!("; needs a restart: {}", restarts.join(", "));
    }
    // What takes a restart is still what it was, and must be named next time too.
    let kept = std::mem::replace(config, new);
    (config.listen.address, config.listen.workers) = (kept.listen.address, kept.listen.workers);
    if restarts.contains(&"listen.tls.address") {
        config.listen.tls = kept.listen.tls;
    }
    config.socket = kept.socket;
    match (&mut config.api, kept.api) {
        (Some(new), Some(old)) => new.address = old.address,
        (new, old) => *new = old,
    }
    match (&mut config.provisioning, kept.provisioning) {
        (Some(new), Some(old)) => {
            new.address = old.address;
            if new.tls.is_some() != old.tls.is_some() {
                new.tls = old.tls;
            }
        }
        (new, old) => *new = old,
    }
    if restarts.contains(&"store") {
        config.source = kept.source;
    }
    Ok(said)
}
