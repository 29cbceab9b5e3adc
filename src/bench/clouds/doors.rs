//! What every stand-in needs to let somebody in: a listener on its address, a certificate, its faults and its clock; and an MQTT stand-in as
//! a whole.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::backend::Backend;
use super::endpoint::Endpoint;
use super::fault::{Board, Switch};
use super::gate::{Gate, Place};
use super::policy::Policy;
use super::service::Clouds;
use super::stand_in::{Cloud, Config, JAPAN_API, Protocol, StandIn};
use super::start_error::StartError;
use super::wardrobe::Wardrobe;
use crate::clock::Clock;
use crate::tls::{Clients, Identity, Server, Versions};

/// An MQTT stand-in to be.
pub(super) struct Stack {
    pub(super) cloud: Cloud,
    pub(super) policy: Arc<dyn Policy>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) doors: Vec<Entrance>,
}

/// One of its doors.
pub(super) struct Entrance {
    pub(super) protocol: Protocol,
    /// What TLS asks of clients; `None` is a door without TLS.
    pub(super) clients: Option<Clients>,
    /// Application protocols taken; empty takes any.
    pub(super) alpn: &'static [&'static str],
    /// Versions of TLS, if not those of the configuration.
    pub(super) versions: Option<Versions>,
}

impl Entrance {
    pub(super) fn mqtts(clients: Clients) -> Self {
        Self {
            protocol: Protocol::Mqtts,
            clients: Some(clients),
            alpn: &[],
            versions: None,
        }
    }

    /// A door without TLS.
    pub(super) fn mqtt() -> Self {
        Self {
            protocol: Protocol::Mqtt,
            clients: None,
            alpn: &[],
            versions: None,
        }
    }

    /// AWS IoT Core's door at 443, which HTTPS shares (developer guide, device communication protocols).
    pub(super) fn mqtts_by_alpn() -> Self {
        Self {
            protocol: Protocol::MqttsAlpn,
            clients: Some(Clients::Proven),
            alpn: &["x-amzn-mqtt-ca"],
            versions: None,
        }
    }
}

impl Clouds {
    /// The faults of a stand-in, shared by its doors.
    pub(super) fn board(&mut self, cloud: Cloud) -> Arc<Board> {
        Arc::clone(self.boards.entry(cloud).or_default())
    }

    /// The clock of a stand-in, shared by its doors.
    pub(super) fn clock(&mut self, cloud: Cloud) -> Clock {
        self.clocks.entry(cloud).or_default().clone()
    }

    pub(super) async fn listen(
        &mut self,
        config: &Config,
        cloud: Cloud,
        protocol: Protocol,
    ) -> Result<Gate, StartError> {
        let clock = self.clock(cloud);
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
            .then(|| Wardrobe::new(Arc::clone(&self.ca), clock, names(config, cloud, bound)));
        let place = Place {
            cloud,
            protocol,
            board: self.board(cloud),
            wardrobe: wardrobe.map(Arc::new),
            journal: Arc::clone(&self.journal),
        };
        Gate::new(listener, place).map_err(failed)
    }

    pub(super) fn server_identity(&self, config: &Config, cloud: Cloud, gate: &Gate) -> Result<Identity, StartError> {
        Ok(self.ca.server(names(config, cloud, gate.local_addr()))?)
    }

    pub(super) async fn open_mqtt(&mut self, config: &Config, stack: Stack) -> Result<(), StartError> {
        let clock = &self.clock(stack.cloud);
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
            let gate = self.listen(config, stack.cloud, door.protocol).await?;
            let tls = match door.clients {
                None => None,
                Some(clients) => {
                    let identity = self.server_identity(config, stack.cloud, &gate)?;
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
                .spawn(Arc::clone(&endpoint).serve(gate, tls, self.tasks.clone()));
        }
        self.endpoints.insert(stack.cloud, endpoint);
        Ok(())
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
