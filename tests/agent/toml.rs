//! Configuration files, written as a user writes them.

use std::net::SocketAddr;
use std::path::PathBuf;

use onyx::bench::clouds::{Cloud, Clouds};

use crate::stage::Bench;

/// `agent.toml`, section by section.
#[derive(Clone)]
pub struct Toml {
    pub top: String,
    pub credentials: String,
    pub session: String,
    pub delivery: String,
    pub more: String,
}

impl Toml {
    pub fn new(credentials: &str, session: &str) -> Self {
        Self {
            top: "client_authname = 'myClient-#{imsi}'\nstate_dir = 'state'\nstatus_socket = 'agent.sock'\n".into(),
            credentials: credentials.into(),
            session: format!("retry_min = '50ms'\nretry_max = '1s'\n{session}"),
            delivery: "interval = '20ms'\n".into(),
            more: String::new(),
        }
    }

    /// Plain, to a broker in Beam's place.
    pub fn gateway(address: SocketAddr) -> Self {
        let session = format!("to = 'gateway'\nhost = '{}'\nport = {}\n", address.ip(), address.port());
        Self::new("source = 'none'\n", &session).topic()
    }

    /// Files made by openssl, to a broker at `address` that calls itself localhost.
    pub fn files(kind: &str, address: SocketAddr) -> Self {
        let credentials = "source = 'files'\ncertificate = 'device.pem'\nkey = 'device.key'\n";
        let session = format!(
            "to = '{kind}'\nhost = 'localhost'\nport = {}\naddress = '{address}'\nca_file = 'ca/root.pem'\n",
            address.port()
        );
        Self::new(credentials, &session)
    }

    /// To a stand-in with the certificate that it issued for [`auth_name`].
    pub fn stand_in(clouds: &Clouds, cloud: Cloud) -> Self {
        let at = clouds.address(cloud).unwrap();
        let host = clouds
            .stand_ins()
            .iter()
            .find(|s| s.name == cloud)
            .unwrap()
            .host
            .clone();
        let credentials = "source = 'files'\ncertificate = 'clouds/devices/myClient-#{imsi}.pem'\nkey = 'clouds/devices/myClient-#{imsi}.key'\n";
        let session = format!(
            "to = '{cloud}'\nhost = '{host}'\nport = {}\naddress = '{at}'\nca_file = 'clouds/ca.pem'\n",
            at.port()
        );
        Self::new(credentials, &session).topic()
    }

    /// Credentials from Krypton for IoT Hub or AWS.
    pub fn krypton(clouds: &Clouds, cloud: Cloud) -> Self {
        let (krypton, broker) = (clouds.address(Cloud::Krypton).unwrap(), clouds.address(cloud).unwrap());
        let (source, hub) = match cloud {
            Cloud::IotHub => ("krypton-azure", true),
            _ => ("krypton-aws", false),
        };
        let host = &clouds
            .stand_ins()
            .iter()
            .find(|s| s.name == Cloud::Krypton)
            .unwrap()
            .host;
        let credentials = format!(
            "source = '{source}'\nurl = 'https://{host}:{}'\naddress = '{krypton}'\nca_file = 'clouds/ca.pem'\npoll = '50ms'\n",
            krypton.port()
        );
        let session = format!("to = '{cloud}'\nport = {}\naddress = '{broker}'\n", broker.port());
        let toml = Self::new(&credentials, &session);
        if hub { toml } else { toml.topic() }
    }

    fn topic(mut self) -> Self {
        self.delivery += "topic = 'exampletopics/topic1'\n";
        self
    }

    pub fn text(&self, bench: &Bench) -> String {
        format!(
            "{}\n[modem]\nport = '{}'\npoll = '1s'\n[credentials]\n{}\n[session]\n{}\n[delivery]\n{}\n{}\n[log]\nfilter = 'debug'\nformat = 'json'\n",
            self.top,
            bench.port().display(),
            self.credentials,
            self.session,
            self.delivery,
            self.more
        )
    }

    pub fn write(&self, bench: &Bench) -> PathBuf {
        bench.write("agent.toml", &self.text(bench))
    }
}
