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
use super::control::{self, Controls};
use super::door::{self, Door};
use super::dps::{self, Dps, DpsMqtt, HubLink};
use super::endpoint::Endpoint;
use super::fault::{Board, KryptonFault, Limited, MqttFault, Spec, Switch};
use super::gate::{Gate, Place};
use super::iot_hub;
use super::journal::{Event, Journal, Message};
use super::krypton::{Entry, Krypton, check_pattern};
use super::policy::Policy;
use super::policy::aws_iot::AwsIot;
use super::policy::beam::Beam;
use super::policy::dps as dps_rules;
use super::policy::event_grid::{Admission, EventGrid};
use super::policy::iot_hub::IotHub;
use super::scenario;
use super::stand_in::{Cloud, Config, JAPAN_API, Protocol, StandIn};
use super::wardrobe::Wardrobe;
use crate::clock::Clock;
use crate::files::{PUBLIC, write_atomically};
use crate::pki::Issued;
use crate::tls::{Clients, Identity, Server, TlsError, Versions, certificates, roots};

const LOCALHOST: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Connections have this long to end after a stop.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What the device provisioning service speaks (rule `dps/tls-1.2`).
const DPS_TLS: Versions = Versions::Only12;

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
    #[error(
        "the {} door of {cloud} cannot listen on {address}: {source}; {}",
        protocol.as_str(),
        listen_cure(source, *address)
    )]
    Listen {
        /// Which stand-in.
        cloud: Cloud,
        /// Which of its doors.
        protocol: Protocol,
        /// Where.
        address: SocketAddr,
        /// What is wrong.
        source: std::io::Error,
    },
    /// The control endpoint's address cannot be had.
    #[error("the control endpoint cannot listen on {address}: {source}; name another address with --control")]
    Control {
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

/// What to do about an address that cannot be had.
fn listen_cure(error: &std::io::Error, address: SocketAddr) -> String {
    use std::io::ErrorKind as E;
    match error.kind() {
        E::PermissionDenied => format!(
            "ports below 1024 are the superuser's: run as root, allow it with \
             'sysctl net.ipv4.ip_unprivileged_port_start={}', or leave out --standard-ports",
            address.port()
        ),
        E::AddrInUse => format!(
            "something else has it ('ss -ltnp sport = :{}' tells what): stop that, or take another address with --bind",
            address.port()
        ),
        E::AddrNotAvailable => "this machine has no such address: take one of 127.0.0.0/8 with --bind".into(),
        _ => "take another address with --bind".into(),
    }
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
    /// Versions of TLS, if not those of the configuration.
    versions: Option<Versions>,
}

impl Entrance {
    fn mqtts(clients: Clients) -> Self {
        Self {
            protocol: Protocol::Mqtts,
            clients: Some(clients),
            alpn: &[],
            versions: None,
        }
    }

    /// AWS IoT Core's door at 443, which HTTPS shares (developer guide, device communication protocols).
    fn mqtts_by_alpn() -> Self {
        Self {
            protocol: Protocol::MqttsAlpn,
            clients: Some(Clients::Proven),
            alpn: &["x-amzn-mqtt-ca"],
            versions: None,
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
    dps: Arc<Dps>,
    aws: Arc<Aws>,
    endpoints: BTreeMap<Cloud, Arc<Endpoint>>,
    hub: Option<Arc<iot_hub::Hub>>,
    stand_ins: Vec<StandIn>,
    boards: BTreeMap<Cloud, Arc<Board>>,
    clocks: BTreeMap<Cloud, Clock>,
    tasks: TaskTracker,
    stop: CancellationToken,
    controls: Arc<Controls>,
    control: SocketAddr,
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
        let hubs = vec![config.hosts.iot_hub.clone()];
        let dps = Arc::new(Dps::new(config.dps.clone(), hubs, clock.clone()));
        dps::enrol_authority(&dps, &ca.root_pem(), &ca.intermediate_pem())
            .map_err(|e| StartError::Option(format!("the bench's own authority cannot be enrolled: {e}")))?;
        let krypton_clock = clock.fork();
        let krypton = Arc::new(Krypton::new(&config, Arc::clone(&ca), krypton_clock.clone()));
        let krypton_board = Arc::clone(krypton.fault.board());
        for name in &config.devices {
            ca.write_device(&directory, name)?;
        }
        let nothing_yet = Controls {
            journal: Arc::clone(&journal),
            boards: BTreeMap::new(),
            clocks: BTreeMap::new(),
            endpoints: BTreeMap::new(),
        };
        let control = config.control.unwrap_or_else(|| {
            SocketAddr::new(
                if config.bind.is_loopback() {
                    config.bind
                } else {
                    LOCALHOST
                },
                0,
            )
        });
        let aws = aws_iot::open(&config, &ca, &clock).map_err(StartError::Option)?;
        let mut clouds = Self {
            controls: Arc::new(nothing_yet),
            control,
            ca,
            journal,
            krypton,
            dps,
            aws: Arc::clone(&aws),
            endpoints: BTreeMap::new(),
            hub: None,
            stand_ins: Vec::new(),
            // Krypton is one service with two doors.
            boards: BTreeMap::from([
                (Cloud::Krypton, Arc::clone(&krypton_board)),
                (Cloud::KryptonSim, krypton_board),
            ]),
            clocks: BTreeMap::from([
                (Cloud::Krypton, krypton_clock.clone()),
                (Cloud::KryptonSim, krypton_clock),
            ]),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            directory,
        };
        clouds.open_krypton(&config, Cloud::Krypton, &clock).await?;
        clouds.open_krypton(&config, Cloud::KryptonSim, &clock).await?;
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
        clouds.open_iot_hub(&config, &both, &clock).await?;
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
        clouds.open_dps(&config, &clock).await?;
        let beam = Beam {
            subscribers: config.subscribers.clone(),
            append_imsi: config.beam_append_imsi,
            imsi_in_topics: config.beam_imsi_in_topics,
        };
        clouds
            .open_mqtt(
                &config,
                Stack {
                    cloud: Cloud::Beam,
                    policy: Arc::new(beam.clone()),
                    backend: Arc::new(beam),
                    doors: vec![Entrance {
                        protocol: Protocol::Mqtt,
                        clients: None,
                        alpn: &[],
                        versions: None,
                    }],
                },
                &clock,
            )
            .await?;
        for (cloud, fault) in &config.mqtt_faults {
            clouds.set_mqtt_fault(*cloud, Some(*fault));
        }
        clouds.open_control(&config).await?;
        clouds.write_directory()?;
        Ok(clouds)
    }

    /// The hub judges certificates itself, after the handshake: a registered device may have one that no authority signed.
    async fn open_iot_hub(&mut self, config: &Config, authorities: &str, clock: &Clock) -> Result<(), StartError> {
        let authorities = certificates(authorities.as_bytes(), "the bench's authority")?;
        let core = Arc::new(iot_hub::Core::new(authorities, config.hub_open));
        let stack = Stack {
            cloud: Cloud::IotHub,
            policy: Arc::new(IotHub::new(config.hosts.iot_hub.clone())),
            backend: Arc::clone(&core) as Arc<dyn Backend>,
            doors: vec![Entrance::mqtts(Clients::Proven)],
        };
        self.open_mqtt(config, stack, clock).await?;
        self.hub = self.endpoints.get(&Cloud::IotHub).map(|endpoint| {
            let host = config.hosts.iot_hub.clone();
            Arc::new(iot_hub::Hub::new(core, Arc::clone(endpoint), host))
        });
        Ok(())
    }

    /// Last: it needs to know everything that runs.
    async fn open_control(&mut self, config: &Config) -> Result<(), StartError> {
        let address = self.control;
        if !address.ip().is_loopback() {
            let why = format!(
                "the control endpoint cannot be at {address}: it is for this machine, write for example --control 127.0.0.1:9000"
            );
            return Err(StartError::Option(why));
        }
        self.controls = Arc::new(Controls {
            journal: Arc::clone(&self.journal),
            boards: self.boards.clone(),
            clocks: self.clocks.clone(),
            endpoints: self.endpoints.clone(),
        });
        for spec in &config.faults {
            self.controls.put(spec).map_err(StartError::Option)?;
        }
        let failed = |source| StartError::Control { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        self.control = listener.local_addr().map_err(failed)?;
        // What the owner of each cloud does, under its name.
        let mut stand_ins = vec![
            ("/aws-iot", self.aws_iot_routes()),
            ("/dps", dps::routes(Arc::clone(&self.dps))),
        ];
        stand_ins.extend(
            self.hub
                .as_ref()
                .map(|hub| ("/iot-hub", iot_hub::control::routes(Arc::clone(hub)))),
        );
        let serving = control::http::serve(listener, Arc::clone(&self.controls), stand_ins, self.stop.clone());
        self.tasks.spawn(serving);
        let playing = scenario::run(
            config.scenario.clone(),
            Arc::clone(&self.controls),
            self.events(),
            self.stop.clone(),
        );
        self.tasks.spawn(playing);
        Ok(())
    }

    /// The faults of a stand-in, shared by its doors.
    fn board(&mut self, cloud: Cloud) -> Arc<Board> {
        Arc::clone(self.boards.entry(cloud).or_default())
    }

    /// The clock of a stand-in, shared by its doors; it can be put wrong without the others.
    fn clock(&mut self, cloud: Cloud, common: &Clock) -> Clock {
        self.clocks.entry(cloud).or_insert_with(|| common.fork()).clone()
    }

    async fn listen(
        &mut self,
        config: &Config,
        cloud: Cloud,
        protocol: Protocol,
        clock: &Clock,
    ) -> Result<Gate, StartError> {
        let (ip, port) = config.place(cloud, protocol).map_err(StartError::Option)?;
        let address = SocketAddr::new(ip, port);
        let failed = |source| StartError::Listen {
            cloud,
            protocol,
            address,
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        self.stand_ins.push(StandIn {
            name: cloud,
            host: config.hosts.of(cloud).to_owned(),
            address: bound.ip(),
            port: bound.port(),
            protocol,
        });
        let wardrobe = (protocol != Protocol::Mqtt)
            .then(|| Wardrobe::new(Arc::clone(&self.ca), clock.clone(), names(config, cloud, bound)));
        let place = Place {
            cloud,
            protocol,
            board: self.board(cloud),
            wardrobe: wardrobe.map(Arc::new),
            journal: Arc::clone(&self.journal),
        };
        Gate::new(listener, place).map_err(failed)
    }

    fn server_identity(&self, config: &Config, cloud: Cloud, gate: &Gate) -> Result<Identity, StartError> {
        Ok(self.ca.server(names(config, cloud, gate.local_addr()))?)
    }

    async fn open_krypton(&mut self, config: &Config, cloud: Cloud, clock: &Clock) -> Result<(), StartError> {
        let clock = &self.clock(cloud, clock);
        let listener = self.listen(config, cloud, Protocol::Https, clock).await?;
        let identity = self.server_identity(config, cloud, &listener)?;
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
            entry: match cloud {
                Cloud::KryptonSim => Entry::Internet,
                _ => Entry::Cellular,
            },
        };
        self.tasks.spawn(door::serve(door, listener, tls, self.tasks.clone()));
        Ok(())
    }

    /// Both doors take whoever has the key of some certificate, or no certificate: which is good enough is decided request by request.
    async fn open_dps(&mut self, config: &Config, clock: &Clock) -> Result<(), StartError> {
        if let Some(hub) = &self.hub {
            self.dps.tell(Arc::new(HubLink(Arc::clone(hub))));
        }
        let stack = Stack {
            cloud: Cloud::Dps,
            policy: Arc::new(dps_rules::Mqtt::new(config.dps.id_scope.clone())),
            backend: Arc::new(DpsMqtt::new(Arc::clone(&self.dps))),
            doors: vec![Entrance {
                versions: Some(DPS_TLS),
                ..Entrance::mqtts(Clients::ProvenIfSent)
            }],
        };
        self.open_mqtt(config, stack, clock).await?;
        let clock = &self.clock(Cloud::Dps, clock);
        let gate = self.listen(config, Cloud::Dps, Protocol::Https, clock).await?;
        let identity = self.server_identity(config, Cloud::Dps, &gate)?;
        let tls = Server {
            identity: &identity,
            clients: Clients::ProvenIfSent,
            versions: DPS_TLS,
            alpn: &[],
        }
        .build(clock)?;
        let (dps, journal) = (Arc::clone(&self.dps), Arc::clone(&self.journal));
        let (stop, tasks) = (self.stop.clone(), self.tasks.clone());
        self.tasks.spawn(dps::serve(dps, journal, stop, gate, tls, tasks));
        Ok(())
    }

    async fn open_mqtt(&mut self, config: &Config, stack: Stack, clock: &Clock) -> Result<(), StartError> {
        let clock = &self.clock(stack.cloud, clock);
        let mut endpoint = Endpoint::new(
            stack.cloud,
            stack.policy,
            stack.backend,
            Arc::clone(&self.journal),
            clock.clone(),
            self.stop.clone(),
        );
        endpoint.fault = Switch::on(self.board(stack.cloud));
        let endpoint = Arc::new(endpoint);
        for door in stack.doors {
            let listener = self.listen(config, stack.cloud, door.protocol, clock).await?;
            let tls = match door.clients {
                None => None,
                Some(clients) => {
                    let identity = self.server_identity(config, stack.cloud, &listener)?;
                    let server = Server {
                        identity: &identity,
                        clients,
                        versions: door.versions.unwrap_or(config.tls),
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
            "control": self.control_url(),
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

    /// The hand on the running stand-ins.
    #[must_use]
    pub fn controls(&self) -> &Arc<Controls> {
        &self.controls
    }

    /// Where the control endpoint answers.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// Puts a fault in force, beside those that are.
    ///
    /// # Errors
    /// A stand-in that does not run; too many faults.
    pub fn put_fault(&self, spec: &Spec) -> Result<Vec<control::Put>, String> {
        self.controls.put(spec)
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

    /// The device provisioning service: enrolments and registrations.
    #[must_use]
    pub fn dps(&self) -> &Arc<Dps> {
        &self.dps
    }

    /// The service side of the IoT hub; always there once the stand-ins run.
    #[must_use]
    pub fn hub(&self) -> Option<&Arc<iot_hub::Hub>> {
        self.hub.as_ref()
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
    #[must_use]
    pub fn aws_iot_routes(&self) -> axum::Router {
        let endpoint = self.endpoints.get(&Cloud::AwsIot).map(Arc::clone);
        endpoint.map_or_else(axum::Router::new, |e| {
            aws_iot::control::routes(Arc::clone(&self.aws), e)
        })
    }

    /// The application key of a device that Krypton has bootstrapped for Inventory, in base64; both sides must have come to the same.
    #[must_use]
    pub fn inventory_key(&self, psk_id: &str) -> Option<String> {
        self.krypton.inventory_key(psk_id)
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
        self.journal.register().cut_stalled("the stand-ins stop");
        self.tasks.close();
        let _ = tokio::time::timeout(STOP_MAX, self.tasks.wait()).await;
    }
}

/// What a door's certificate is for: the host name, `localhost`, and the address, because a client that is pointed at it checks that.
fn names(config: &Config, cloud: Cloud, address: SocketAddr) -> Vec<String> {
    let mut names = vec![
        config.hosts.of(cloud).to_owned(),
        "localhost".to_owned(),
        address.ip().to_string(),
    ];
    if cloud == Cloud::KryptonSim {
        names.push(JAPAN_API.to_owned());
    }
    names
}

impl Drop for Clouds {
    fn drop(&mut self) {
        self.stop.cancel();
        self.journal.register().cut_stalled("the stand-ins stop");
    }
}
