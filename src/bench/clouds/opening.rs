//! How the stand-ins begin: the authority and the journal first, then each cloud with its doors, the control endpoint last, because it
//! needs to know everything that runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::authority::Ca;
use super::aws_iot;
use super::backend::{Backend, Nothing};
use super::control::{self, Controls};
use super::door::{self, Door};
use super::doors::{Entrance, Stack};
use super::dps::{self, Dps, DpsMqtt, HubLink};
use super::iot_hub;
use super::journal::Journal;
use super::krypton::{Entry, Krypton, check_pattern};
use super::policy::aws_iot::AwsIot;
use super::policy::beam::Beam;
use super::policy::dps as dps_rules;
use super::policy::event_grid::{Admission, EventGrid};
use super::policy::iot_hub::IotHub;
use super::scenario;
use super::service::Clouds;
use super::stand_in::{Cloud, Config, Protocol};
use super::start_error::StartError;
use crate::clock::Clock;
use crate::files::{self, PUBLIC, write_atomically};
use crate::tls::{Clients, Server, TlsError, Versions, certificates, roots};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What the device provisioning service speaks (rule `dps/tls-1.2`).
const DPS_TLS: Versions = Versions::Only12;

/// The one certificate of a PEM text.
fn certificate(pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| TlsError::BadCertificate {
        what: "the bench's authority".into(),
        why: e.to_string(),
    })
}

/// Opens every door and writes what a client needs into the directory.
pub(super) async fn open(config: &Config) -> Result<Clouds, StartError> {
    let mut clouds = bare(config)?;
    clouds.open_stand_ins(config).await?;
    for (cloud, fault) in &config.mqtt_faults {
        clouds.set_mqtt_fault(*cloud, Some(*fault));
    }
    clouds.open_control(config).await?;
    clouds.write_directory()?;
    Ok(clouds)
}

/// Everything but the doors.
fn bare(config: &Config) -> Result<Clouds, StartError> {
    let directory = config.directory.clone();
    let file = |path: PathBuf| move |source| StartError::File { path, source };
    check_pattern(&config.device_id_pattern).map_err(StartError::Option)?;
    check_pattern(&config.thing_name_pattern).map_err(StartError::Option)?;
    std::fs::create_dir_all(&directory).map_err(file(directory.clone()))?;
    let lock = directory.join("lock");
    let lock = files::lock(&lock)
        .map_err(file(lock))?
        .ok_or_else(|| StartError::Taken(directory.clone()))?;
    let clock = Clock::new();
    let ca = Arc::new(Ca::open(&directory, clock.clone())?.with_device_validity(config.certificate_life));
    let log = directory.join("messages.jsonl");
    let journal = Arc::new(Journal::open(&log, clock.clone()).map_err(file(log))?);
    for name in &config.devices {
        ca.write_device(&directory, name)?;
    }
    // Each stand-in's clock can be put wrong without the others'. Krypton is one service with two doors.
    let krypton_clock = clock.fork();
    let (dps_clock, aws_clock) = (clock.fork(), clock.fork());
    let krypton = Arc::new(Krypton::new(config, Arc::clone(&ca), krypton_clock.clone()));
    let hubs = vec![config.hosts.iot_hub.clone()];
    let dps = Arc::new(Dps::new(config.dps.clone(), hubs, dps_clock.clone()));
    dps::enrol_authority(&dps, &ca.root_pem(), &ca.intermediate_pem())
        .map_err(|e| StartError::Option(format!("the bench's own authority cannot be enrolled: {e}")))?;
    let aws = aws_iot::open(config, &ca, &aws_clock).map_err(StartError::Option)?;
    let clocks = [
        (Cloud::Krypton, krypton_clock.clone()),
        (Cloud::KryptonSim, krypton_clock),
        (Cloud::EventGrid, clock.fork()),
        (Cloud::IotHub, clock.fork()),
        (Cloud::AwsIot, aws_clock),
        (Cloud::Dps, dps_clock),
        (Cloud::Beam, clock.fork()),
    ];
    let krypton_board = Arc::clone(krypton.fault.board());
    let boards = Cloud::ALL.map(|cloud| match cloud {
        Cloud::Krypton | Cloud::KryptonSim => (cloud, Arc::clone(&krypton_board)),
        _ => (cloud, Arc::default()),
    });
    let local = Some(config.bind).filter(IpAddr::is_loopback).unwrap_or(LOCALHOST);
    Ok(Clouds {
        controls: Arc::new(Controls {
            journal: Arc::clone(&journal),
            boards: BTreeMap::new(),
            clocks: BTreeMap::new(),
            endpoints: BTreeMap::new(),
        }),
        control: config.control.unwrap_or_else(|| SocketAddr::new(local, 0)),
        ca,
        journal,
        krypton,
        dps,
        aws,
        endpoints: BTreeMap::new(),
        hub: None,
        stand_ins: Vec::new(),
        boards: boards.into_iter().filter(|(c, _)| config.wants(*c)).collect(),
        clocks: clocks.into_iter().filter(|(c, _)| config.wants(*c)).collect(),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        directory,
        _lock: lock,
    })
}

impl Clouds {
    async fn open_stand_ins(&mut self, config: &Config) -> Result<(), StartError> {
        for cloud in Cloud::ALL.into_iter().filter(|c| config.wants(*c)) {
            match cloud {
                Cloud::Krypton | Cloud::KryptonSim => self.open_krypton(config, cloud).await?,
                Cloud::EventGrid => self.open_event_grid(config).await?,
                Cloud::IotHub => self.open_iot_hub(config).await?,
                Cloud::AwsIot => self.open_aws_iot(config).await?,
                Cloud::Dps => self.open_dps(config).await?,
                Cloud::Beam => self.open_beam(config).await?,
            }
        }
        Ok(())
    }

    async fn open_event_grid(&mut self, config: &Config) -> Result<(), StartError> {
        // Event Grid is given the certificate that directly signs the leaves, and no root.
        let signer = self.ca.intermediate_pem();
        let policy =
            EventGrid::new(config.event_grid.clone(), config.topic_templates.clone()).map_err(StartError::Option)?;
        // A client that is known by its thumbprint may have a certificate of any authority, so TLS cannot ask for one.
        let (clients, backend): (Clients, Arc<dyn Backend>) = if config.event_grid.has_thumbprint() {
            let authority = certificate(&signer)?;
            (Clients::Proven, Arc::new(Admission::new(&config.event_grid, authority)))
        } else {
            let authority = roots(signer.as_bytes(), "the bench's authority")?;
            (Clients::SignedBy(authority), Arc::new(Nothing))
        };
        let stack = Stack {
            cloud: Cloud::EventGrid,
            policy: Arc::new(policy),
            backend,
            doors: vec![Entrance::mqtts(clients)],
        };
        self.open_mqtt(config, stack).await
    }

    /// Whose certificate it is, and whether it is a good one, the account decides after the handshake.
    async fn open_aws_iot(&mut self, config: &Config) -> Result<(), StartError> {
        let aws = Arc::clone(&self.aws);
        let stack = Stack {
            cloud: Cloud::AwsIot,
            policy: Arc::new(AwsIot::new(config.hosts.aws_iot.clone(), Arc::clone(&aws))),
            backend: aws,
            doors: vec![Entrance::mqtts(Clients::Proven), Entrance::mqtts_by_alpn()],
        };
        self.open_mqtt(config, stack).await
    }

    async fn open_beam(&mut self, config: &Config) -> Result<(), StartError> {
        let beam = Beam {
            subscribers: config.subscribers.clone(),
            append_imsi: config.beam_append_imsi,
            imsi_in_topics: config.beam_imsi_in_topics,
        };
        let stack = Stack {
            cloud: Cloud::Beam,
            policy: Arc::new(beam.clone()),
            backend: Arc::new(beam),
            doors: vec![Entrance::mqtt()],
        };
        self.open_mqtt(config, stack).await
    }

    /// The hub judges certificates itself, after the handshake: a registered device may have one that no authority signed.
    async fn open_iot_hub(&mut self, config: &Config) -> Result<(), StartError> {
        let authorities = format!("{}{}", self.ca.root_pem(), self.ca.intermediate_pem());
        let authorities = certificates(authorities.as_bytes(), "the bench's authority")?;
        let core = Arc::new(iot_hub::Core::new(authorities, config.hub_open));
        let stack = Stack {
            cloud: Cloud::IotHub,
            policy: Arc::new(IotHub::new(config.hosts.iot_hub.clone())),
            backend: Arc::clone(&core) as Arc<dyn Backend>,
            doors: vec![Entrance::mqtts(Clients::Proven)],
        };
        self.open_mqtt(config, stack).await?;
        self.hub = self.endpoints.get(&Cloud::IotHub).map(|endpoint| {
            let host = config.hosts.iot_hub.clone();
            Arc::new(iot_hub::Hub::new(core, Arc::clone(endpoint), host))
        });
        if let Some(hub) = &self.hub {
            self.krypton.assigns_to(Arc::clone(hub));
        }
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
        let mut stand_ins = Vec::new();
        if config.wants(Cloud::AwsIot) {
            stand_ins.push(("/aws-iot", self.aws_iot_routes()));
        }
        if config.wants(Cloud::Dps) {
            stand_ins.push(("/dps", dps::routes(Arc::clone(&self.dps))));
        }
        if let Some(hub) = &self.hub {
            stand_ins.push(("/iot-hub", iot_hub::control::routes(Arc::clone(hub))));
        }
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

    async fn open_krypton(&mut self, config: &Config, cloud: Cloud) -> Result<(), StartError> {
        let gate = self.listen(config, cloud, Protocol::Https).await?;
        let identity = self.server_identity(config, cloud, &gate)?;
        let tls = Server {
            identity: &identity,
            clients: Clients::Anybody,
            versions: config.tls,
            alpn: &[],
        }
        .build(&self.clock(cloud))?;
        let door = Door {
            krypton: Arc::clone(&self.krypton),
            journal: Arc::clone(&self.journal),
            stop: self.stop.clone(),
            entry: match cloud {
                Cloud::KryptonSim => Entry::Internet,
                _ => Entry::Cellular,
            },
        };
        self.tasks.spawn(door::serve(door, gate, tls, self.tasks.clone()));
        Ok(())
    }

    /// Both doors take whoever has the key of some certificate, or no certificate: which is good enough is decided request by request.
    async fn open_dps(&mut self, config: &Config) -> Result<(), StartError> {
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
        self.open_mqtt(config, stack).await?;
        let gate = self.listen(config, Cloud::Dps, Protocol::Https).await?;
        let identity = self.server_identity(config, Cloud::Dps, &gate)?;
        let tls = Server {
            identity: &identity,
            clients: Clients::ProvenIfSent,
            versions: DPS_TLS,
            alpn: &[],
        }
        .build(&self.clock(Cloud::Dps))?;
        let (dps, journal) = (Arc::clone(&self.dps), Arc::clone(&self.journal));
        let (stop, tasks) = (self.stop.clone(), self.tasks.clone());
        self.tasks.spawn(dps::serve(dps, journal, stop, gate, tls, tasks));
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
}
