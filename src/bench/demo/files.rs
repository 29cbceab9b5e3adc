//! The configuration that the demo writes: the same files that a user would write, with the stand-ins' addresses.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::bench::clouds::{Cloud, Clouds, StandIn};
use crate::files::{PUBLIC, write_atomically};

/// Where everything is.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    pub(super) fn port(&self) -> PathBuf {
        self.directory.join("onyx-at")
    }

    pub(super) fn clouds(&self) -> PathBuf {
        self.directory.join("clouds")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.jsonl"))
    }

    pub(super) fn direct(&self) -> PathBuf {
        self.directory.join("agent-direct.toml")
    }

    pub(super) fn through(&self) -> PathBuf {
        self.directory.join("agent-gateway.toml")
    }

    pub(super) fn gateway_config(&self) -> PathBuf {
        self.directory.join("gateway.toml")
    }

    fn ca(&self) -> PathBuf {
        self.clouds().join("ca.pem")
    }

    /// Directly: Krypton, then IoT Hub.
    pub(super) fn write_direct(&self, clouds: &Clouds) -> anyhow::Result<()> {
        let krypton = stand_in(clouds, Cloud::Krypton)?;
        let hub = stand_in(clouds, Cloud::IotHub)?;
        let text = format!(
            "{}[credentials]\nsource = \"krypton-azure\"\nurl = \"https://{}:{}\"\naddress = \"{}:{}\"\nca_file = {}\npoll = \"200ms\"\n\n\
             [session]\nto = \"iot-hub\"\nport = {}\naddress = \"{}:{}\"\n\n[delivery]\ninterval = \"100ms\"\n\n{LOG}",
            self.head("direct"),
            krypton.host,
            krypton.port,
            krypton.address,
            krypton.port,
            quoted(&self.ca()),
            hub.port,
            hub.address,
            hub.port,
        );
        write(&self.direct(), &text)
    }

    /// Through the gateway that listens at `gateway`.
    pub(super) fn write_through(&self, gateway: SocketAddr) -> anyhow::Result<()> {
        let text = format!(
            "{}[credentials]\nsource = \"none\"\n\n[session]\nto = \"gateway\"\nhost = \"{}\"\nport = {}\n\n\
             [delivery]\ntopic = \"exampletopics/topic1\"\ninterval = \"100ms\"\n\n{LOG}",
            self.head("gateway"),
            gateway.ip(),
            gateway.port(),
        );
        write(&self.through(), &text)
    }

    fn head(&self, way: &str) -> String {
        format!(
            "# Written by onyx-bench demo; examples/agent.toml explains every key.\nclient_authname = \"myClient-#{{imsi}}\"\n\
             state_dir = {}\nstatus_socket = {}\n\n[modem]\nport = {}\n\n",
            quoted(&self.directory.join(format!("state-{way}"))),
            quoted(&self.directory.join("agent.sock")),
            quoted(&self.port()),
        )
    }

    /// The gateway, with the demo's one SIM, known by its address, and that SIM's certificate.
    pub(super) fn write_gateway(&self, clouds: &Clouds, auth_name: &str) -> anyhow::Result<()> {
        let cloud = stand_in(clouds, Cloud::EventGrid)?;
        let imsi = auth_name.trim_start_matches("myClient-");
        let text = format!(
            "# Written by onyx-bench demo; examples/gateway.toml explains every key.\n[listen]\naddress = \"127.0.0.1:0\"\n\n\
             [upstream]\nhost = \"{}\"\nport = {}\naddress = \"{}:{}\"\nca_file = {}\n\n\
             [device]\nusername = \"myClient-#{{imsi}}\"\ncredential = \"myClient-#{{imsi}}\"\n\n[credentials]\nfolder = {}\n\n\
             [[subscriber]]\nimsi = \"{imsi}\"\nsource = \"127.0.0.1\"\n\n[status]\nsocket = {}\n",
            cloud.host,
            cloud.port,
            cloud.address,
            cloud.port,
            quoted(&self.ca()),
            quoted(&self.clouds().join("devices")),
            quoted(&self.directory.join("gateway.sock")),
        );
        write(&self.gateway_config(), &text)
    }
}

const LOG: &str = "[log]\nformat = \"json\"\n";

fn stand_in(clouds: &Clouds, cloud: Cloud) -> anyhow::Result<&StandIn> {
    clouds
        .stand_ins()
        .iter()
        .find(|s| s.name == cloud)
        .with_context(|| format!("there is no stand-in for {cloud}"))
}

/// A TOML string; JSON's escapes are among TOML's.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    write_atomically(path, text.as_bytes(), PUBLIC).with_context(|| format!("cannot write {}", path.display()))
}
