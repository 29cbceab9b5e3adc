//! All stand-ins together: started, watched, disturbed and stopped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::authority::{AuthorityError, Ca};
use super::backend::{Backend, Nothing};
use super::control::{self, Controls};
use super::door::{self, Door};
use super::endpoint::Endpoint;
use super::fault::{Board, KryptonFault, Limited, MqttFault, Spec, Switch};
use super::gate::{Gate, Place};
use super::journal::{Event, Journal, Message};
use super::krypton::{Krypton, check_pattern};
use super::policy::Policy;
use super::policy::aws_iot::AwsIot;
use super::policy::beam::Beam;
use super::policy::event_grid::EventGrid;
use super::policy::iot_hub::IotHub;
use super::scenario;
use super::stand_in::{Cloud, Config, Protocol, StandIn};
use super::wardrobe::Wardrobe;
use crate::clock::Clock;
use crate::files::{PUBLIC, write_atomically};
use crate::pki::Issued;
use crate::tls::{Clients, Identity, Server, TlsError, roots};

const LOCALHOST: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
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
}

impl Entrance {
    fn mqtts(clients: Clients) -> Self {
        Self {
            protocol: Protocol::Mqtts,
            clients: Some(clients),
            alpn: &[],
        }
    }
}

fn signed_by(pem: &str) -> Result<Clients, TlsError> {
    Ok(Clients::SignedBy(roots(pem.as_bytes(), "the bench's authority")?))
}

/// The running stand-ins. Dropping them stops them too, without waiting.
#[derive(Debug)]
pub struct Clouds {
    directory: PathBuf,
    ca: Arc<Ca>,
    journal: Arc<Journal>,
    krypton: Arc<Krypton>,
    endpoints: BTreeMap<Cloud, Arc<Endpoint>>,
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
        let mut clouds = Self {
            controls: Arc::new(nothing_yet),
            control,
            ca,
            journal,
            krypton,
            endpoints: BTreeMap::new(),
            stand_ins: Vec::new(),
            boards: BTreeMap::from([(Cloud::Krypton, krypton_board)]),
            clocks: BTreeMap::from([(Cloud::Krypton, krypton_clock)]),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            directory,
        };
        clouds.open_krypton(&config).await?;
        let both = format!("{}{}", clouds.ca.root_pem(), clouds.ca.intermediate_pem());
        // Event Grid is given the certificate that directly signs the leaves, and no root.
        let signer = clouds.ca.intermediate_pem();
        clouds
            .open_mqtt(
                &config,
                Stack {
                    cloud: Cloud::EventGrid,
                    policy: Arc::new(EventGrid::new(config.topic_templates.clone())),
                    backend: Arc::new(Nothing),
                    doors: vec![Entrance::mqtts(signed_by(&signer)?)],
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
                    policy: Arc::new(AwsIot::new(config.hosts.aws_iot.clone(), config.aws_topics.clone())),
                    backend: Arc::new(Nothing),
                    doors: vec![Entrance::mqtts(signed_by(&both)?)],
                },
                &clock,
            )
            .await?;
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
        // The stand-ins' own control routers come here.
        let stand_ins = Vec::new();
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

    async fn open_krypton(&mut self, config: &Config) -> Result<(), StartError> {
        let clock = &self.clock(Cloud::Krypton, &Clock::new());
        let listener = self.listen(config, Cloud::Krypton, Protocol::Https, clock).await?;
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
    vec![
        config.hosts.of(cloud).to_owned(),
        "localhost".to_owned(),
        address.ip().to_string(),
    ]
}

impl Drop for Clouds {
    fn drop(&mut self) {
        self.stop.cancel();
        self.journal.register().cut_stalled("the stand-ins stop");
    }
}
