//! Link, clock, credentials: what stands between a registered modem and a session. Also what `provision` climbs.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::fault::{Fault, REPROVISION_EVERY};
use super::ladder::{Ladder, Rung, State};
use super::watchdog::Pulse;
use crate::clock::{self, Clock};
use crate::cloud::{Kind, Names, aws_iot, beam, event_grid, iot_hub};
use crate::config::agent::{AgentConfig, CredentialsConfig};
use crate::identity::{AuthName, ClientId, Subscriber};
use crate::link::{Link, Via};
use crate::modem::usim::SimDoor;
use crate::provision::operator::{FilesError, read_limited};
use crate::provision::seal::Seal;
use crate::provision::store::Store;
use crate::provision::{Asker, Credentials, Failure, Unusable, way};
use crate::session::Endpoint;
use crate::tls;

/// The longest that looking at the link may take.
const LINK_MAX: Duration = Duration::from_secs(60);
/// Largest packet that is taken from a broker, in bytes: the largest message of the three clouds (Event Grid, 512 KiB) and its header.
const PACKET_MAX: usize = 513 * 1024;

/// Everything a session needs, made once for each set of credentials so that TLS sessions can be resumed.
pub(super) struct Ready {
    pub(super) endpoint: Endpoint,
    pub(super) credentials: Option<Credentials>,
}

/// The three rungs, and what is kept between two climbs.
pub(super) struct Ground {
    pub(super) config: Arc<AgentConfig>,
    pub(super) ladder: Ladder,
    pub(super) clock: Clock,
    pub(super) pulse: Pulse,
    link: Box<dyn Link>,
    sim: SimDoor,
    held: Option<(Subscriber, Arc<Ready>)>,
    /// What is held must be put together again from the files.
    reread: bool,
    reprovisioned: Option<Duration>,
    wants_new: bool,
}

impl Ground {
    pub(super) fn new(
        config: Arc<AgentConfig>,
        ladder: Ladder,
        clock: Clock,
        pulse: Pulse,
        link: Box<dyn Link>,
        sim: SimDoor,
    ) -> Self {
        Self {
            config,
            ladder,
            clock,
            pulse,
            link,
            sim,
            held: None,
            reread: false,
            reprovisioned: None,
            wants_new: false,
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
        self.wants_new = true;
    }

    /// The broker refused the credentials: others are wanted, but not too often.
    pub(super) fn refused_by_broker(&mut self) {
        let now = self.clock.monotonic();
        if self
            .reprovisioned
            .is_none_or(|last| now.saturating_sub(last) >= REPROVISION_EVERY)
        {
            self.reprovisioned = Some(now);
            self.wants_new = true;
            let hours = REPROVISION_EVERY.as_secs() / 3_600;
            tracing::warn!("the broker refuses these credentials: others are fetched; this is done once in {hours} h");
        }
    }

    /// Names, trust or credentials were refused: the next climb reads the files again, which somebody may have corrected meanwhile.
    pub(super) fn reread(&mut self) {
        self.reread = true;
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

    async fn credentials(&mut self, who: &Subscriber, via: &Via, now: Duration) -> Result<Arc<Ready>, Fault> {
        let held = self.held.as_ref().filter(|(whose, ready)| {
            let fresh = ready.credentials.as_ref().is_none_or(|c| c.check_time(now).is_ok());
            whose == who && fresh && !self.wants_new
        });
        let held = held.map(|(_, ready)| ready.clone());
        if let Some(ready) = held.as_ref().filter(|_| !self.reread) {
            return Ok(ready.clone());
        }
        self.ladder
            .climbing(Rung::Credentials, "looking for a key and a certificate");
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
            // Also those that could not be stored: they must not cost another fetch.
            _ if held.is_some() => held.and_then(|ready| ready.credentials.clone()),
            _ => {
                let seal = Seal::configured(&config.keep)
                    .map_err(|e| Fault::new(Rung::Credentials, e.to_string(), e.cure()))?;
                let store = Store::new(&config.state_dir, config.credentials.source(), &who.imsi, seal);
                let wants_new = std::mem::take(&mut self.wants_new);
                let own = way::own(&config.credentials, who, now);
                let kept = store.read(own.as_ref()).current.map(|kept| kept.credentials);
                match kept.and_then(|c| c.check_time(now).map(|()| c)) {
                    Ok(credentials) if !wants_new => Some(credentials),
                    // Every fetch makes new ones at the cloud; without a place to keep them that would be one at each start.
                    Err(e @ Unusable::Forbidden(_)) => {
                        return Err(Fault::new(
                            Rung::Credentials,
                            e.to_string(),
                            "give state_dir back to the service's user: chown -R onyx:onyx /var/lib/onyx (a command run as root may have \
                             made them)",
                        ));
                    }
                    Err(e @ Unusable::Sealed(_)) => {
                        return Err(Fault::new(
                            Rung::Credentials,
                            e.to_string(),
                            "give the service the systemd credential that they were encrypted with (credentials.encrypt_with)",
                        ));
                    }
                    reason => {
                        let reason = reason
                            .err()
                            .map_or("the broker refused those on disk".to_owned(), |u: Unusable| {
                                u.to_string()
                            });
                        let fetched = self.fetch(who, &store, via, now, &reason).await;
                        if fetched.is_err() {
                            // Not got, so not counted: when the broker refuses the old ones again, this is tried again.
                            self.reprovisioned = None;
                        }
                        Some(fetched?)
                    }
                }
            }
        };
        let ready = Arc::new(self.ready(who, credentials)?);
        self.ladder.up(Rung::Credentials, &describe(ready.credentials.as_ref()));
        self.held = Some((who.clone(), ready.clone()));
        self.reread = false;
        Ok(ready)
    }

    async fn fetch(
        &self,
        who: &Subscriber,
        store: &Store,
        via: &Via,
        now: Duration,
        reason: &str,
    ) -> Result<Credentials, Fault> {
        let fault = |f: Failure| Fault::new(Rung::Credentials, f.cause, f.cure);
        self.ladder
            .climbing(Rung::Credentials, &format!("{reason}: {}", way::describe(&self.config)));
        self.pulse.promise(way::longest(&self.config.credentials));
        let auth_name = auth_name(&self.config, who)?;
        let asker = Asker {
            who,
            auth_name: &auth_name,
            via,
            clock: &self.clock,
            sim: &self.sim,
            state_dir: &self.config.state_dir,
        };
        let grant = way::fetch(&self.config, asker).await.map_err(fault)?;
        let credentials = grant.check("the service's answer").map_err(|e| {
            Fault::new(
                Rung::Credentials,
                e.to_string(),
                "look at the service's settings; it is asked again later",
            )
        })?;
        // Nothing that cannot be used may replace what is on disk.
        credentials.check_time(now).map_err(|e| {
            Fault::new(
                Rung::Credentials,
                format!("the granted credentials cannot be used: {e}"),
                "look at the certificate settings of the SIM group's Krypton configuration, and whether this machine's clock is right; \
                 it is asked again later",
            )
        })?;
        let (store, now_saved) = (store.clone(), now);
        let saved = tokio::task::spawn_blocking(move || {
            store.stage(&grant, now_saved)?;
            store.promote()
        })
        .await;
        if let Err(why) = saved.map_err(std::io::Error::other).and_then(|r| r) {
            // Better connected and asking again at the next start than not connected.
            tracing::error!(
                "the new credentials could not be stored and are used from memory: {}; free or repair the disk",
                crate::identity::redact_digits(&why.to_string())
            );
        }
        Ok(credentials)
    }

    fn session_ca(&self) -> Result<Option<Vec<u8>>, Fault> {
        let fault = |e: FilesError| Fault::new(Rung::Credentials, e.to_string(), "check session.ca_file");
        self.config
            .session
            .ca_file
            .as_deref()
            .map(|path| read_limited(path).map_err(fault))
            .transpose()
    }

    /// Puts names, trust and limits together.
    fn ready(&self, who: &Subscriber, credentials: Option<Credentials>) -> Result<Ready, Fault> {
        let config = &self.config.session;
        let names = names(&self.config, who, credentials.as_ref())?;
        let host = config
            .host
            .clone()
            .or_else(|| credentials.as_ref().and_then(|c| c.host.clone()));
        let host = host.ok_or_else(|| {
            Fault::new(
                Rung::Credentials,
                "nobody says which host to connect to",
                "set session.host",
            )
        })?;
        let tls =
            match &credentials {
                None => None,
                Some(c) => {
                    let roots = match self.session_ca()? {
                        Some(pem) => tls::roots(&pem, "session.ca_file")
                            .map_err(|e| Fault::new(Rung::Credentials, e.to_string(), "check session.ca_file"))?,
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
                    Some(client.build(&self.clock).map_err(|e| {
                        Fault::new(Rung::Credentials, e.to_string(), "check the files of the credentials")
                    })?)
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
                rate: config.to.limits().rate,
                packet_max: PACKET_MAX,
            },
            credentials,
        })
    }
}

fn describe(credentials: Option<&Credentials>) -> String {
    match credentials {
        None => "none needed: the gateway adds them".to_owned(),
        Some(c) => {
            let leaf = &c.identity.leaf;
            format!(
                "certificate of {}, valid until {}{}",
                leaf.common_name
                    .as_deref()
                    .map_or_else(|| "an unnamed subject".to_owned(), crate::identity::redact_digits),
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

/// The name that the certificate proves.
fn auth_name(config: &AgentConfig, who: &Subscriber) -> Result<AuthName, Fault> {
    let fault = |e: String| Fault::new(Rung::Credentials, e, "check client_authname");
    let name = config.client_authname.fill(who).map_err(|e| fault(e.to_string()))?;
    AuthName::new(name).map_err(|e| fault(e.to_string()))
}

/// The names for CONNECT, by the rules of the broker.
pub(super) fn names(config: &AgentConfig, who: &Subscriber, credentials: Option<&Credentials>) -> Result<Names, Fault> {
    let fault = |e: String| Fault::new(Rung::Credentials, e, "check client_authname and delivery.topic");
    let auth_name = auth_name(config, who)?;
    let imei = who
        .imei
        .as_ref()
        .ok_or_else(|| fault("the modem's IMEI is not known".to_owned()))?;
    let own = ClientId::from_parts(&auth_name, imei).map_err(|e| fault(e.to_string()))?;
    let given = credentials.and_then(|c| c.client_id.clone());
    let topic = config.delivery.topic.clone();
    let session = &config.session;
    let names = match session.to {
        Kind::EventGrid => event_grid::names(&auth_name, own, topic),
        Kind::AwsIot => aws_iot::names(given.unwrap_or(own), topic),
        Kind::Gateway => beam::names(own, session.username.clone(), topic),
        Kind::IotHub => {
            let host = session
                .host
                .clone()
                .or_else(|| credentials.and_then(|c| c.host.clone()))
                .unwrap_or_default();
            let common_name = || credentials.and_then(|c| c.identity.leaf.common_name.clone());
            // A hub knows a device by the certificate's common name, which is also its id; Krypton says the id outright.
            let device = given
                .or_else(|| common_name().and_then(|cn| ClientId::new(cn).ok()))
                .unwrap_or(own);
            iot_hub::names(&host, device)
        }
    };
    names.map_err(|e| fault(e.to_string()))
}
