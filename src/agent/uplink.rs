//! Link, clock, credentials, session, delivery: the upper half of the ladder, climbed in order and kept.
//!
//! A session in the air does not look down: it lives on while the modem is silent. When it ends, the climb begins again at the link;
//! rungs that still hold are passed at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::dongle::View;
use super::fault::{Fault, REPROVISION_EVERY, Recover, of_session, policy};
use super::ladder::{Ladder, Rung, State};
use super::run::Counters;
use super::watchdog::Pulse;
use crate::backoff::Backoff;
use crate::clock::{self, Clock};
use crate::cloud::{Kind, Names, aws_iot, beam, event_grid, iot_hub};
use crate::config::agent::{AgentConfig, CredentialsConfig, KryptonConfig};
use crate::identity::{AuthName, ClientId, Imsi, Subscriber};
use crate::link::{Link, Via};
use crate::provision::operator::read_limited;
use crate::provision::store::Store;
use crate::provision::{Credentials, Unusable, fetch};
use crate::session::core::Core;
use crate::session::{Endpoint, Event, Session};
use crate::telemetry::sample::stamp;
use crate::telemetry::spool::handle::SpoolHandle;
use crate::telemetry::spool::{Seq, SpoolError};
use crate::tls;

/// How long a stop waits for acknowledgements that are on their way.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Most bytes read from the spool at a time.
const PEEK_BYTES: usize = 256 * 1024;
/// Largest packet that is taken from a broker, in bytes: the largest message of the three clouds (Event Grid, 512 KiB) and its header.
const PACKET_MAX: usize = 513 * 1024;

pub(super) struct Uplink {
    pub(super) config: Arc<AgentConfig>,
    pub(super) ladder: Ladder,
    pub(super) clock: Clock,
    pub(super) view: watch::Receiver<View>,
    pub(super) link: Box<dyn Link>,
    pub(super) spool: SpoolHandle,
    pub(super) counters: Arc<Counters>,
    pub(super) pulse: Pulse,
    pub(super) stop: CancellationToken,
    pub(super) state: Held,
}

/// What is kept between two climbs.
#[derive(Default)]
pub(super) struct Held {
    credentials: Option<(Imsi, Arc<Ready>)>,
    core: Option<(ClientId, Core)>,
    backoffs: HashMap<Rung, Backoff>,
    reprovisioned: Option<Duration>,
    wants_new: bool,
}

/// Everything a session needs, made once for each set of credentials so that TLS sessions can be resumed.
struct Ready {
    endpoint: Endpoint,
    credentials: Option<Credentials>,
}

/// The climb ended because the agent is to stop.
struct Stopped;

impl Uplink {
    pub(super) async fn run(mut self) {
        while let Some(who) = self.wait_for_subscriber().await {
            let fault = match self.climb(&who).await {
                Ok(Stopped) => break,
                Err(fault) => fault,
            };
            let rung = fault.rung;
            let limits = &self.config.session;
            let policy = policy(rung, limits.retry_min, limits.retry_max);
            let now = self.clock.monotonic();
            let backoff = self.state.backoffs.entry(rung).or_insert_with(|| Backoff::new(policy));
            let wait = backoff.failed(now, fastrand::f64());
            self.ladder.down(rung, &fault.cause, &fault.cure, wait);
            match fault.recover {
                Recover::Retry => {}
                Recover::From(below) => self.ladder.climbing(below, &format!("looked at again, because {rung} keeps failing")),
                Recover::Reprovision => self.consider_reprovision(now),
            }
            self.ladder.fall_above(rung);
            if !self.pulse.sleep(wait, &self.stop).await {
                break;
            }
        }
        self.pulse.rest();
    }

    fn consider_reprovision(&mut self, now: Duration) {
        let due = self
            .state
            .reprovisioned
            .is_none_or(|last| now.saturating_sub(last) >= REPROVISION_EVERY);
        if due {
            self.state.reprovisioned = Some(now);
            self.state.wants_new = true;
            tracing::warn!("the broker refuses these credentials: others are fetched, once in {} h", REPROVISION_EVERY.as_secs() / 3_600);
        }
    }

    /// Waits until the modem says who we are and that it is registered; `None` when the agent is to stop.
    async fn wait_for_subscriber(&mut self) -> Option<Subscriber> {
        loop {
            {
                let view = self.view.borrow_and_update();
                if let Some(who) = view.subscriber.clone().filter(|_| view.registered) {
                    return Some(who);
                }
            }
            // The dongle's task has promises of its own.
            self.pulse.rest();
            tokio::select! {
                () = self.stop.cancelled() => return None,
                changed = self.view.changed() => if changed.is_err() { return None },
            }
        }
    }

    async fn climb(&mut self, who: &Subscriber) -> Result<Stopped, Fault> {
        let via = self.link().await?;
        let now = self.time()?;
        let ready = self.credentials(who, &via, now).await?;
        let session = self.session(&ready, &via).await?;
        self.deliver(session, &ready).await
    }

    async fn link(&mut self) -> Result<Via, Fault> {
        if self.ladder.state(Rung::Link) != State::Up {
            self.ladder.climbing(Rung::Link, "looking for the way out");
        }
        self.pulse.promise(Duration::from_secs(60));
        let via = self.link.climb().await.map_err(|f| Fault::new(Rung::Link, f.cause, f.cure))?;
        self.ladder.up(Rung::Link, &format!("through {via}"));
        Ok(via)
    }

    fn time(&self) -> Result<Duration, Fault> {
        match self.clock.now() {
            Some((now, source)) => {
                self.ladder.up(Rung::Clock, &source.to_string());
                Ok(now)
            }
            None => Err(Fault::new(
                Rung::Clock,
                format!(
                    "the system clock says {} and neither NTP nor the network has said better",
                    clock::rfc3339(self.clock.system())
                ),
                "wait for the network's time, or allow NTP (timedatectl set-ntp true); TLS cannot be trusted before that",
            )),
        }
    }

    // ---- credentials ----

    async fn credentials(&mut self, who: &Subscriber, via: &Via, now: Duration) -> Result<Arc<Ready>, Fault> {
        if let Some((imsi, ready)) = &self.state.credentials {
            let fresh = ready.credentials.as_ref().is_none_or(|c| c.check_time(now).is_ok());
            if *imsi == who.imsi && fresh && !self.state.wants_new {
                return Ok(ready.clone());
            }
        }
        self.ladder.climbing(Rung::Credentials, "looking for a key and a certificate");
        let config = self.config.clone();
        let credentials = match &config.credentials {
            CredentialsConfig::None => None,
            CredentialsConfig::Files(files) => {
                let ca = self.session_ca()?;
                let loaded = files.load(who, ca.as_deref(), now);
                Some(loaded.map_err(|e| {
                    Fault::new(
                        Rung::Credentials,
                        e.to_string(),
                        "put a valid certificate (PEM, leaf first) and its key where credentials.certificate and credentials.key say",
                    )
                })?)
            }
            CredentialsConfig::Krypton(krypton) => {
                let store = Store::new(&config.state_dir, config.credentials.source(), &who.imsi);
                let wants_new = std::mem::take(&mut self.state.wants_new);
                match store.load(now) {
                    Ok(credentials) if !wants_new => Some(credentials),
                    reason => {
                        let reason = reason.err().map_or("the broker refused those on disk".to_owned(), |u: Unusable| u.to_string());
                        Some(self.fetch(krypton, &store, via, now, &reason).await?)
                    }
                }
            }
        };
        let ready = Arc::new(self.ready(who, credentials)?);
        self.ladder.up(Rung::Credentials, &describe(ready.credentials.as_ref()));
        self.state.credentials = Some((who.imsi.clone(), ready.clone()));
        self.state.core = None;
        Ok(ready)
    }

    async fn fetch(&self, config: &KryptonConfig, store: &Store, via: &Via, now: Duration, reason: &str) -> Result<Credentials, Fault> {
        self.ladder.climbing(
            Rung::Credentials,
            &format!("{reason}: asking Krypton at {}", config.url.host_str().unwrap_or("?")),
        );
        self.pulse.promise((config.within + config.poll_every) * (config.polls_max + 1));
        let settings = krypton_settings(config)?;
        let fault = |e: crate::provision::krypton::KryptonError| Fault::new(Rung::Credentials, e.to_string(), e.cure());
        let grant = fetch::fetch(&settings, via, &self.clock).await.map_err(fault)?;
        let credentials = grant.check("Krypton's answer").map_err(|e| fault(e.into()))?;
        let (store, now_saved) = (store.clone(), now);
        let saved = tokio::task::spawn_blocking(move || store.save(&grant, now_saved)).await;
        if let Err(why) = saved.map_err(std::io::Error::other).and_then(|r| r) {
            // Better connected and asking again at the next start than not connected.
            tracing::error!("the new credentials could not be stored and are used from memory: {why}; free or repair the disk");
        }
        Ok(credentials)
    }

    fn session_ca(&self) -> Result<Option<Vec<u8>>, Fault> {
        let fault = |e: crate::provision::operator::FilesError| Fault::new(Rung::Credentials, e.to_string(), "check session.ca_file");
        self.config.session.ca_file.as_deref().map(|path| read_limited(path).map_err(fault)).transpose()
    }

    /// Puts names, trust and limits together.
    fn ready(&self, who: &Subscriber, credentials: Option<Credentials>) -> Result<Ready, Fault> {
        let config = &self.config.session;
        let names = names(&self.config, who, credentials.as_ref())?;
        let host = config.host.clone().or_else(|| credentials.as_ref().and_then(|c| c.host.clone()));
        let host = host.ok_or_else(|| Fault::new(Rung::Credentials, "nobody says which host to connect to", "set session.host"))?;
        let tls = match &credentials {
            None => None,
            Some(c) => {
                let roots = match self.session_ca()? {
                    Some(pem) => tls::roots(&pem, "session.ca_file").map_err(|e| Fault::new(Rung::Credentials, e.to_string(), "check session.ca_file"))?,
                    None => c.roots.clone(),
                };
                let alpn: &[&str] = match (config.to, config.port) {
                    (Kind::AwsIot, 443) => &[aws_iot::ALPN_443],
                    _ => &[],
                };
                let client = tls::Client {
                    identity: Some(&c.identity),
                    roots,
                    versions: config.tls,
                    alpn,
                };
                Some(client.build(&self.clock).map_err(|e| Fault::new(Rung::Credentials, e.to_string(), "check the files of the credentials"))?)
            }
        };
        let password = config
            .password_file
            .as_deref()
            .map(|path| read_limited(path).map(|p| Zeroizing::new(p.trim_ascii().to_vec())))
            .transpose()
            .map_err(|e| Fault::new(Rung::Credentials, e.to_string(), "check session.password_file"))?;
        Ok(Ready {
            endpoint: Endpoint {
                host,
                port: config.port,
                address: config.address,
                tls,
                names,
                password,
                keep_alive: config.keep_alive,
                clean_session: config.clean,
                connect_within: config.connect_within,
                answer_within: config.answer_within,
                window: self.config.delivery.window,
                packet_max: PACKET_MAX,
            },
            credentials,
        })
    }

    // ---- session and delivery ----

    async fn session(&mut self, ready: &Ready, via: &Via) -> Result<Session, Fault> {
        let endpoint = &ready.endpoint;
        self.ladder.climbing(
            Rung::Session,
            &format!("connecting to {}:{} as {}", endpoint.host, endpoint.port, endpoint.names.client_id.redacted()),
        );
        self.pulse.promise(endpoint.connect_within * 3 + endpoint.answer_within);
        let client_id = endpoint.names.client_id.clone();
        let core = self.state.core.take().filter(|(id, _)| *id == client_id).map(|(_, core)| core);
        Session::open(endpoint, via, &self.clock, core).await.map_err(|e| self.session_fault(&e))
    }

    fn session_fault(&self, e: &crate::session::SessionError) -> Fault {
        let failures = self.state.backoffs.get(&Rung::Session).map_or(0, Backoff::failures);
        of_session(e, failures, matches!(self.config.credentials, CredentialsConfig::Krypton(_)))
    }

    /// Delivers until the session ends or the agent is to stop.
    async fn deliver(&mut self, mut session: Session, ready: &Ready) -> Result<Stopped, Fault> {
        let mut durable = self.spool.durable();
        // What was in flight is sent again by the session itself where the broker kept it; the rest comes from the spool.
        let mut next = session.in_flight().max().map_or(Seq::FIRST, |s| Seq::new(s).next());
        let mut more = true;
        loop {
            self.pulse.promise(Duration::from_secs(ready.endpoint.keep_alive.into()) + ready.endpoint.answer_within * 2);
            if more && session.room() > 0 {
                match self.send(&mut session, ready, &mut next).await {
                    Ok(sent) => more = sent,
                    Err(fault) => return Err(self.end(session, fault)),
                }
                continue;
            }
            tokio::select! {
                event = session.next() => match event {
                    Ok(event) => {
                        more |= matches!(event, Event::Acknowledged(_));
                        if let Err(fault) = self.happened(event, ready).await {
                            return Err(self.end(session, fault));
                        }
                    }
                    Err(e) => {
                        let fault = self.session_fault(&e);
                        return Err(self.end(session, fault));
                    }
                },
                changed = durable.changed() => {
                    if changed.is_err() {
                        return Err(self.end(session, spool_fault(&SpoolError::Closed)));
                    }
                    more = true;
                }
                () = self.stop.cancelled() => {
                    self.goodbye(session, ready).await;
                    return Ok(Stopped);
                }
            }
        }
    }

    /// Publishes what waits in the spool, as far as there is room. False when nothing waits.
    async fn send(&mut self, session: &mut Session, ready: &Ready, next: &mut Seq) -> Result<bool, Fault> {
        let limits = self.config.session.to.limits();
        let records = self
            .spool
            .peek(*next, session.room(), PEEK_BYTES)
            .await
            .map_err(|e| spool_fault(&e))?;
        if records.is_empty() {
            return Ok(false);
        }
        for record in records {
            *next = record.seq.next();
            let payload = match stamp(self.spool.id(), record.seq, &record.payload) {
                Ok(payload) if payload.len() <= limits.payload_max => payload,
                other => {
                    let why = match other {
                        Err(e) => e.to_string(),
                        Ok(p) => format!("it has {} bytes, the broker takes {}", p.len(), limits.payload_max),
                    };
                    tracing::error!(seq = record.seq.get(), "a sample cannot be sent and is set aside: {why}");
                    self.counters.set_aside.fetch_add(1, Ordering::Relaxed);
                    self.spool.ack(vec![record.seq]).await.map_err(|e| spool_fault(&e))?;
                    continue;
                }
            };
            let topic = ready.endpoint.names.topic.as_str();
            session
                .publish(record.seq.get(), topic, Bytes::from(payload))
                .await
                .map_err(|e| self.session_fault(&e))?;
        }
        Ok(true)
    }

    async fn happened(&mut self, event: Event, ready: &Ready) -> Result<(), Fault> {
        match event {
            Event::Proven => {
                let now = self.clock.monotonic();
                let limits = &self.config.session;
                let policy = policy(Rung::Session, limits.retry_min, limits.retry_max);
                self.state.backoffs.entry(Rung::Session).or_insert_with(|| Backoff::new(policy)).is_up(now);
                self.ladder.up(Rung::Session, &format!("{}:{} answers", ready.endpoint.host, ready.endpoint.port));
                if self.ladder.state(Rung::Delivery) != State::Up {
                    self.ladder.climbing(Rung::Delivery, "waiting for the first acknowledgement");
                }
            }
            Event::Acknowledged(seq) => {
                self.spool.ack(vec![Seq::new(seq)]).await.map_err(|e| spool_fault(&e))?;
                let count = self.counters.acknowledged.fetch_add(1, Ordering::Relaxed) + 1;
                self.counters.last_acknowledged.store(self.clock.monotonic().as_secs(), Ordering::Relaxed);
                self.ladder.up(Rung::Delivery, "samples are acknowledged");
                if self.counters.exit_after.is_some_and(|n| count >= n) {
                    self.stop.cancel();
                }
            }
            Event::Inbound { topic, payload } => {
                tracing::info!(topic = crate::identity::redact_digits(&topic), bytes = payload.len(), "a message came that nobody subscribed to");
            }
        }
        Ok(())
    }

    /// Keeps what outlives the connection.
    fn end(&mut self, session: Session, fault: Fault) -> Fault {
        if let Some((_, ready)) = &self.state.credentials {
            self.state.core = Some((ready.endpoint.names.client_id.clone(), session.into_core()));
        }
        fault
    }

    /// Waits a little for acknowledgements on their way, then says goodbye.
    async fn goodbye(&mut self, mut session: Session, ready: &Ready) {
        self.pulse.promise(STOP_WITHIN * 2);
        let _ = tokio::time::timeout(STOP_WITHIN, async {
            while session.in_flight().next().is_some() {
                match session.next().await {
                    Ok(event) => {
                        if self.happened(event, ready).await.is_err() {
                            break;
                        }
                    }
                    Err(_) => break,
                }
            }
        })
        .await;
        let _ = tokio::time::timeout(STOP_WITHIN, session.close()).await;
    }
}

fn spool_fault(e: &SpoolError) -> Fault {
    Fault::new(Rung::Delivery, e.to_string(), "look at the disk that holds state_dir: full, read-only or broken?")
}

fn describe(credentials: Option<&Credentials>) -> String {
    match credentials {
        None => "none needed: the gateway adds them".to_owned(),
        Some(c) => {
            let leaf = &c.identity.leaf;
            format!(
                "certificate of {}, valid until {}{}",
                leaf.common_name.as_deref().map_or_else(|| "an unnamed subject".to_owned(), crate::identity::redact_digits),
                clock::rfc3339(leaf.not_after),
                if leaf.is_v1 {
                    "; it is X.509 version 1: sign it with extensions (openssl x509 -req … -extfile), or some servers refuse it"
                } else {
                    ""
                }
            )
        }
    }
}

/// Reads the files that the settings name.
pub(super) fn krypton_settings(config: &KryptonConfig) -> Result<fetch::Settings, Fault> {
    let ca_pem = config
        .ca_file
        .as_deref()
        .map(read_limited)
        .transpose()
        .map_err(|e| Fault::new(Rung::Credentials, e.to_string(), "check credentials.ca_file"))?;
    Ok(fetch::Settings {
        cloud: config.cloud,
        url: config.url.clone(),
        address: config.address,
        ca_pem,
        within: config.within,
        poll_every: config.poll_every,
        polls_max: config.polls_max,
    })
}

/// The names for CONNECT, by the rules of the broker.
pub(super) fn names(config: &AgentConfig, who: &Subscriber, credentials: Option<&Credentials>) -> Result<Names, Fault> {
    let fault = |e: String| Fault::new(Rung::Credentials, e, "check client_authname and delivery.topic");
    let auth_name = config.client_authname.fill(who).map_err(|e| fault(e.to_string()))?;
    let auth_name = AuthName::new(auth_name).map_err(|e| fault(e.to_string()))?;
    let imei = who.imei.as_ref().ok_or_else(|| fault("the modem's IMEI is not known".to_owned()))?;
    let own = ClientId::from_parts(&auth_name, imei).map_err(|e| fault(e.to_string()))?;
    let given = credentials.and_then(|c| c.client_id.clone());
    let topic = config.delivery.topic.clone();
    let session = &config.session;
    let names = match session.to {
        Kind::EventGrid => event_grid::names(&auth_name, own, topic),
        Kind::AwsIot => aws_iot::names(given.unwrap_or(own), topic),
        Kind::Gateway => beam::names(own, session.username.clone(), topic),
        Kind::IotHub => {
            let host = session.host.clone().or_else(|| credentials.and_then(|c| c.host.clone())).unwrap_or_default();
            let common_name = || credentials.and_then(|c| c.identity.leaf.common_name.clone());
            // A hub knows a device by the certificate's common name, which is also its id; Krypton says the id outright.
            let device = given.or_else(|| common_name().and_then(|cn| ClientId::new(cn).ok())).unwrap_or(own);
            iot_hub::names(&host, device)
        }
    };
    names.map_err(|e| fault(e.to_string()))
}
