//! Stand-ins without sockets and files: new for every input, on ground that all inputs share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::bench::clouds::authority::Ca;
use crate::bench::clouds::aws_iot::{self, Aws};
use crate::bench::clouds::backend::{Backend, Nothing};
use crate::bench::clouds::control::Controls;
use crate::bench::clouds::dps::{self, Dps, DpsMqtt, HubLink};
use crate::bench::clouds::endpoint::Endpoint;
use crate::bench::clouds::iot_hub::{Core, Hub};
use crate::bench::clouds::journal::Journal;
use crate::bench::clouds::policy::aws_iot::AwsIot;
use crate::bench::clouds::policy::beam::Beam;
use crate::bench::clouds::policy::dps as dps_rules;
use crate::bench::clouds::policy::event_grid::{self, EventGrid};
use crate::bench::clouds::policy::iot_hub::IotHub;
use crate::bench::clouds::policy::{Peer, Policy};
use crate::bench::clouds::stand_in::{Cloud, Config};
use crate::bench::clouds::subscribers::Subscribers;
use crate::clock::Clock;
use crate::tls::certificates;

/// The devices that have certificates.
pub(super) const DEVICES: [&str; 2] = ["dev0", "dev1"];

/// What takes long to make.
pub(super) struct Ground {
    pub(super) clock: Clock,
    pub(super) ca: Arc<Ca>,
    pub(super) journal: Arc<Journal>,
    pub(super) chains: [Vec<CertificateDer<'static>>; 2],
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) config: Config,
}

thread_local! {
    static GROUND: Arc<Ground> = Arc::new(Ground::new());
}

impl Ground {
    fn new() -> Self {
        let clock = Clock::new();
        let ca = Ca::in_memory(clock.clone()).expect("an authority");
        let der = |pem: String| certificates(pem.as_bytes(), "the bench's").expect("PEM");
        Self {
            journal: Arc::new(Journal::open(Path::new("/dev/null"), clock.clone()).expect("a journal")),
            chains: DEVICES.map(|name| der(ca.device(name).expect("a device").chain_pem)),
            authorities: der(format!("{}{}", ca.root_pem(), ca.intermediate_pem())),
            ca: Arc::new(ca),
            config: Config::new("/nonexistent"),
            clock,
        }
    }

    /// That of this thread.
    pub(super) fn here() -> Arc<Self> {
        GROUND.with(Arc::clone)
    }

    pub(super) fn peer(&self, device: usize) -> Peer {
        Peer {
            address: ([127, 0, 0, 1], 4_711).into(),
            cn: Some(DEVICES[device].into()),
            chain: self.chains[device].clone(),
            sni: Some("localhost".into()),
            alpn: None,
        }
    }

    fn endpoint(&self, cloud: Cloud, policy: Arc<dyn Policy>, backend: Arc<dyn Backend>) -> Arc<Endpoint> {
        let (journal, clock) = (Arc::clone(&self.journal), self.clock.fork());
        let stop = CancellationToken::new();
        Arc::new(Endpoint::new(cloud, policy, backend, journal, clock, stop))
    }

    pub(super) fn event_grid(&self) -> Arc<Endpoint> {
        let templates = vec![
            "exampletopics/#".to_owned(),
            "only/${client.authenticationName}/+".to_owned(),
        ];
        let settings = event_grid::Settings::default();
        let policy = EventGrid::new(settings, templates).expect("templates");
        self.endpoint(Cloud::EventGrid, Arc::new(policy), Arc::new(Nothing))
    }

    pub(super) fn hub(&self) -> (Arc<Endpoint>, Arc<Hub>) {
        let host = self.config.hosts.iot_hub.clone();
        let core = Arc::new(Core::new(self.authorities.clone(), true));
        let policy = Arc::new(IotHub::new(host.clone()));
        let endpoint = self.endpoint(Cloud::IotHub, policy, Arc::clone(&core) as Arc<dyn Backend>);
        let hub = Arc::new(Hub::new(core, Arc::clone(&endpoint), host));
        (endpoint, hub)
    }

    pub(super) fn aws(&self) -> (Arc<Endpoint>, Arc<Aws>) {
        let aws = aws_iot::open(&self.config, &self.ca, &self.clock).expect("an account");
        let policy = AwsIot::new(self.config.hosts.aws_iot.clone(), Arc::clone(&aws));
        let backend = Arc::clone(&aws) as Arc<dyn Backend>;
        (self.endpoint(Cloud::AwsIot, Arc::new(policy), backend), aws)
    }

    pub(super) fn dps(&self) -> (Arc<Endpoint>, Arc<Dps>) {
        let hubs = vec![self.config.hosts.iot_hub.clone()];
        let dps = Arc::new(Dps::new(self.config.dps.clone(), hubs, self.clock.clone()));
        dps::enrol_authority(&dps, &self.ca.root_pem(), &self.ca.intermediate_pem()).expect("an enrolment");
        let policy = Arc::new(dps_rules::Mqtt::new(self.config.dps.id_scope.clone()));
        let backend = Arc::new(DpsMqtt::new(Arc::clone(&dps)));
        (self.endpoint(Cloud::Dps, policy, backend), dps)
    }

    pub(super) fn beam(&self) -> Arc<Endpoint> {
        let beam = Beam {
            subscribers: Subscribers::default(),
            append_imsi: true,
            imsi_in_topics: true,
        };
        self.endpoint(Cloud::Beam, Arc::new(beam.clone()), Arc::new(beam))
    }

    /// The control endpoint with the owners' requests of every cloud.
    pub(super) fn control(&self) -> axum::Router {
        let (hub_endpoint, hub) = self.hub();
        let (aws_endpoint, aws) = self.aws();
        let (dps_endpoint, dps) = self.dps();
        dps.tell(Arc::new(HubLink(Arc::clone(&hub))));
        let routes = vec![
            ("/aws-iot", aws_iot::control::routes(aws, Arc::clone(&aws_endpoint))),
            ("/dps", dps::routes(dps)),
            ("/iot-hub", crate::bench::clouds::iot_hub::control::routes(hub)),
        ];
        let endpoints: BTreeMap<_, _> = [hub_endpoint, aws_endpoint, dps_endpoint].map(|e| (e.cloud, e)).into();
        let controls = Controls {
            journal: Arc::clone(&self.journal),
            boards: endpoints.keys().map(|c| (*c, Arc::default())).collect(),
            clocks: endpoints.iter().map(|(c, e)| (*c, e.clock.clone())).collect(),
            endpoints,
        };
        // Stopped already: else the stream of events would never end.
        let stop = CancellationToken::new();
        stop.cancel();
        crate::bench::clouds::control::http::router(Arc::new(controls), routes, stop)
    }
}
