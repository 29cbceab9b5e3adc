//! All stand-ins together: started, watched, disturbed and stopped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::authority::{AuthorityError, Ca};
use super::aws_iot::{self, Aws};
use super::backend::{Backend, Nothing};
use super::door::{self, Door};
use super::endpoint::Endpoint;
use super::fault::{KryptonFault, Limited, MqttFault};
use super::journal::{Event, Journal, Message};
use super::krypton::{Krypton, check_pattern};
use super::policy::Policy;
use super::policy::aws_iot::AwsIot;
use super::policy::event_grid::{Admission, EventGrid};
use super::policy::iot_hub::IotHub;
use super::stand_in::{Cloud, Config, Protocol, StandIn};
use crate::clock::Clock;
use crate::files::{PUBLIC, write_atomically};
use crate::pki::Issued;
use crate::tls::{Clients, Identity, Server, TlsError, roots};

/// Connections have this long to end after a stop.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Why the stand-ins do not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option cannot be used.
    #[error("{0}")]
    Option(String),
    /// The directory or a file in it.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// An address or port cannot be had.
    #[error("{cloud} cannot listen on {address}: {source}; is another bench running, or is the port privileged?")]
    Listen {
        /// Which stand-in.
        cloud: Cloud,
        /// Where.
        address: SocketAddr,
        /// What is wrong.
        source: std::io::Error,
    },
    /// No authority or certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// rustls does not take it.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// An MQTT stand-in to be.
struct Stack {
    cloud: Cloud,
    policy: Arc<dyn Policy>,
    backend: Arc<dyn Backend>,
    doors: Vec<Entrance>,
}

/// One of its doors.
struct Entrance {
    protocol: Protocol,
    /// What TLS asks of clients; `None` is a door without TLS.
    clients: Option<Clients>,
    /// Application protocols taken; empty takes any.
    alpn: &'static [&'static str],
}

impl Entrance {
    fn mqtts(clients: Clients) -> Self {
        Self {
            protocol: Protocol::Mqtts,
            clients: Some(clients),
            alpn: &[],
        }
    }

    /// AWS IoT Core's door at 443, which HTTPS shares (developer guide, device communication protocols).
    fn mqtts_by_alpn() -> Self {
        Self {
            protocol: Protocol::MqttsAlpn,
            clients: Some(Clients::Proven),
            alpn: &["x-amzn-mqtt-ca"],
        }
    }
}

fn signed_by(pem: &str) -> Result<Clients, TlsError> {
    Ok(Clients::SignedBy(roots(pem.as_bytes(), "the bench's authority")?))
}

/// The one certificate of a PEM text.
fn certificate(pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| TlsError::BadCertificate {
        what: "the bench's authority".into(),
        why: e.to_string(),
    })
}

/// The running stand-ins. Dropping them stops them too, without waiting.
#[derive(Debug)]
pub struct Clouds {
    directory: PathBuf,
    ca: Arc<Ca>,
    journal: Arc<Journal>,
    krypton: Arc<Krypton>,
    aws: Arc<Aws>,
    endpoints: BTreeMap<Cloud, Arc<Endpoint>>,
    stand_ins: Vec<StandIn>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Clouds {
    /// Opens every door and writes what a client needs into the directory.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let directory = config.directory.clone();
        let file = |path: PathBuf| move |source| StartError::File { path, source };
        check_pattern(&config.device_id_pattern).map_err(StartError::Option)?;
        check_pattern(&config.thing_name_pattern).map_err(StartError::Option)?;
        std::fs::create_dir_all(&directory).map_err(file(directory.clone()))?;
        let clock = Clock::new();
        let ca = Arc::new(Ca::open(&directory, clock.clone())?);
        let log = directory.join("messages.jsonl");
        let journal = Arc::new(Journal::open(&log, clock.clone()).map_err(file(log))?);
        let krypton = Arc::new(Krypton::new(&config, Arc::clone(&ca), clock.clone()));
        for name in &config.devices {
            ca.write_device(&directory, name)?;
        }
        let aws = aws_iot::open(&config, &ca, &clock).map_err(StartError::Option)?;
        let mut clouds = Self {
            ca,
            journal,
            krypton,
            aws: Arc::clone(&aws),
            endpoints: BTreeMap::new(),
            stand_ins: Vec::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            directory,
        };
        clouds.open_krypton(&config, &clock).await?;
        let both = format!("{}{}", clouds.ca.root_pem(), clouds.ca.intermediate_pem());
        // Event Grid is given the certificate that directly signs the leaves, and no root.
        let signer = clouds.ca.intermediate_pem();
        let event_grid =
            EventGrid::new(config.event_grid.clone(), config.topic_templates.clone()).map_err(StartError::Option)?;
        // A client that is known by its thumbprint may have a certificate of any authority, so TLS cannot ask for one.
        let (clients, backend): (Clients, Arc<dyn Backend>) = if config.event_grid.has_thumbprint() {
            let authority = certificate(&signer)?;
            (Clients::Proven, Arc::new(Admission::new(&config.event_grid, authority)))
        } else {
            (signed_by(&signer)?, Arc::new(Nothing))
        };
        clouds
            .open_mqtt(
                &config,
                Stack {
                    cloud: Cloud::EventGrid,
                    policy: Arc::new(event_grid),
                    backend,
                    doors: vec![Entrance::mqtts(clients)],
                },
                &clock,
            )
            .await?;
        clouds
            .open_mqtt(
                &config,
                Stack {
                    cloud: Cloud::IotHub,
                    policy: Arc::new(IotHub::new(config.hosts.iot_hub.clone())),
                    backend: Arc::new(Nothing),
                    doors: vec![Entrance::mqtts(signed_by(&both)?)],
                },
                &clock,
            )
            .await?;
        clouds
            .open_mqtt(
                &config,
                Stack {
                    cloud: Cloud::AwsIot,
                    policy: Arc::new(AwsIot::new(config.hosts.aws_iot.clone(), Arc::clone(&aws))),
                    backend: aws,
                    // Whose certificate it is, and whether it is a good one, the account decides after the handshake.
                    doors: vec![Entrance::mqtts(Clients::Proven), Entrance::mqtts_by_alpn()],
                },
                &clock,
            )
            .await?;
        for (cloud, fault) in &config.mqtt_faults {
            clouds.set_mqtt_fault(*cloud, Some(*fault));
        }
        clouds.write_directory()?;
        Ok(clouds)
    }

    async fn listen(&mut self, config: &Config, cloud: Cloud, protocol: Protocol) -> Result<TcpListener, StartError> {
        let (ip, port) = config.place(cloud, protocol).map_err(StartError::Option)?;
        let address = SocketAddr::new(ip, port);
        let failed = |source| StartError::Listen { cloud, address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        self.stand_ins.push(StandIn {
            name: cloud,
            host: config.hosts.of(cloud).to_owned(),
            address: bound.ip(),
            port: bound.port(),
            protocol,
        });
        Ok(listener)
    }

    /// A certificate for the host name, for `localhost` and for the address, because a client that is pointed at the address checks that.
    fn server_identity(&self, config: &Config, cloud: Cloud, listener: &TcpListener) -> Result<Identity, StartError> {
        let mut names = vec![config.hosts.of(cloud).to_owned(), "localhost".to_owned()];
        names.extend(listener.local_addr().ok().map(|a| a.ip().to_string()));
        Ok(self.ca.server(names)?)
    }

    async fn open_krypton(&mut self, config: &Config, clock: &Clock) -> Result<(), StartError> {
        let listener = self.listen(config, Cloud::Krypton, Protocol::Https).await?;
        let identity = self.server_identity(config, Cloud::Krypton, &listener)?;
        let tls = Server {
            identity: &identity,
            clients: Clients::Anybody,
            versions: config.tls,
            alpn: &[],
        }
        .build(clock)?;
        let door = Door {
            krypton: Arc::clone(&self.krypton),
            journal: Arc::clone(&self.journal),
            stop: self.stop.clone(),
        };
        self.tasks.spawn(door::serve(door, listener, tls, self.tasks.clone()));
        Ok(())
    }

    async fn open_mqtt(&mut self, config: &Config, stack: Stack, clock: &Clock) -> Result<(), StartError> {
        let endpoint = Arc::new(Endpoint::new(
            stack.cloud,
            stack.policy,
            stack.backend,
            Arc::clone(&self.journal),
            clock.clone(),
            self.stop.clone(),
        ));
        for door in stack.doors {
            let listener = self.listen(config, stack.cloud, door.protocol).await?;
            let tls = match door.clients {
                None => None,
                Some(clients) => {
                    let identity = self.server_identity(config, stack.cloud, &listener)?;
                    let server = Server {
                        identity: &identity,
                        clients,
                        versions: config.tls,
                        alpn: door.alpn,
                    };
                    Some(server.build(clock)?)
                }
            };
            self.tasks
                .spawn(Arc::clone(&endpoint).serve(listener, tls, self.tasks.clone()));
        }
        self.endpoints.insert(stack.cloud, endpoint);
        Ok(())
    }

    fn write_directory(&self) -> Result<(), StartError> {
        let path = self.directory.join("clouds.json");
        let content = serde_json::json!({
            "ca": "ca.pem",
            "intermediate": "intermediate.pem",
            "messages": "messages.jsonl",
            "stand_ins": self.stand_ins,
        });
        write_atomically(&path, format!("{content:#}\n").as_bytes(), PUBLIC)
            .map_err(|source| StartError::File { path, source })
    }

    /// Where everything is written.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Every stand-in.
    #[must_use]
    pub fn stand_ins(&self) -> &[StandIn] {
        &self.stand_ins
    }

    /// Where one stand-in listens: its first door.
    #[must_use]
    pub fn address(&self, cloud: Cloud) -> Option<SocketAddr> {
        let found = self.stand_ins.iter().find(|s| s.name == cloud)?;
        Some(SocketAddr::new(found.address, found.port))
    }

    /// Where one door of a stand-in is.
    #[must_use]
    pub fn door(&self, cloud: Cloud, protocol: Protocol) -> Option<SocketAddr> {
        let found = self
            .stand_ins
            .iter()
            .find(|s| s.name == cloud && s.protocol == protocol)?;
        Some(SocketAddr::new(found.address, found.port))
    }

    /// The root that every stand-in's certificate leads to.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.ca.root_pem()
    }

    /// The certificate that signs devices.
    #[must_use]
    pub fn intermediate_pem(&self) -> String {
        self.ca.intermediate_pem()
    }

    /// Credentials for a device of this name, not written anywhere.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn issue_device(&self, name: &str) -> Result<Issued, AuthorityError> {
        self.ca.device(name)
    }

    /// Credentials for a device of this name, in the directory's `devices/NAME.pem` and `devices/NAME.key`.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn write_device(&self, name: &str) -> Result<Issued, AuthorityError> {
        self.ca.write_device(&self.directory, name)
    }

    /// The accepted messages still in memory, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.journal.messages()
    }

    /// Everything the stand-ins see from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.journal.subscribe()
    }

    /// Waits until the accepted messages in memory satisfy `enough`; the answer is whether they did before `limit` was over.
    pub async fn wait_for_messages(&self, limit: Duration, enough: impl Fn(&[Message]) -> bool) -> bool {
        let mut events = self.events();
        let wait = async {
            while !enough(&self.messages()) {
                // Having missed some is as good as having seen one.
                if let Err(broadcast::error::RecvError::Closed) = events.recv().await {
                    break;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }

    /// The account behind the AWS IoT Core stand-in.
    #[must_use]
    pub fn aws_iot(&self) -> &Arc<Aws> {
        &self.aws
    }

    /// The account's HTTP routes, to be nested into a server; see [`aws_iot::control`].
    pub fn aws_iot_routes(&self) -> axum::Router {
        let endpoint = self.endpoints.get(&Cloud::AwsIot).map(Arc::clone);
        endpoint.map_or_else(axum::Router::new, |e| {
            aws_iot::control::routes(Arc::clone(&self.aws), e)
        })
    }

    /// What Krypton does wrong from now on.
    pub fn set_krypton_fault(&self, fault: Option<Limited<KryptonFault>>) {
        self.krypton.fault.set(fault);
    }

    /// What an MQTT stand-in does wrong from now on; Krypton has none of these.
    pub fn set_mqtt_fault(&self, cloud: Cloud, fault: Option<Limited<MqttFault>>) {
        if let Some(endpoint) = self.endpoints.get(&cloud) {
            endpoint.fault.set(fault);
        }
    }

    /// Cuts every MQTT connection, as a restarting broker does; with `forget_sessions` subscriptions and queues are gone too.
    pub fn restart_mqtt(&self, forget_sessions: bool) {
        for endpoint in self.endpoints.values() {
            endpoint.restart(forget_sessions);
        }
    }

    /// Ends every connection and closes every door.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(STOP_MAX, self.tasks.wait()).await;
    }
}

impl Drop for Clouds {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
