//! Which stand-ins there are, and how they are configured.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::fault::{KryptonFault, Limited, MqttFault};
use super::policy::event_grid;
use super::subscribers::Subscribers;
use crate::tls::Versions;

/// The clouds that have a stand-in; the names are those in `clouds.json` and `messages.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cloud {
    /// SORACOM Krypton's cellular door.
    Krypton,
    /// Azure Event Grid, MQTT broker of a namespace.
    EventGrid,
    /// Azure IoT Hub.
    IotHub,
    /// AWS IoT Core.
    AwsIot,
    /// Azure's device provisioning service.
    Dps,
    /// SORACOM Beam's MQTT entry point, with a broker of its own behind it.
    Beam,
}

/// What a door speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over TLS on a port that other protocols share, told apart by ALPN.
    MqttsAlpn,
    /// MQTT without TLS.
    Mqtt,
    /// HTTP over TLS.
    Https,
}

impl Protocol {
    /// The port of the real services; `None` where each has its own.
    #[must_use]
    fn standard_port(self) -> u16 {
        match self {
            Self::Mqtts => 8_883,
            Self::MqttsAlpn | Self::Https => 443,
            Self::Mqtt => 1_883,
        }
    }
}

impl Cloud {
    /// Those that speak MQTT.
    pub const MQTT: [Self; 5] = [Self::EventGrid, Self::IotHub, Self::AwsIot, Self::Dps, Self::Beam];

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Krypton => "krypton",
            Self::EventGrid => "event-grid",
            Self::IotHub => "iot-hub",
            Self::AwsIot => "aws-iot",
            Self::Dps => "dps",
            Self::Beam => "beam",
        }
    }

    /// The port of the real service.
    #[must_use]
    pub fn standard_port(self, protocol: Protocol) -> u16 {
        match self {
            Self::Krypton => 8_036,
            _ => protocol.standard_port(),
        }
    }

    /// How many addresses after the first this stand-in gets when ports are standard: one address cannot have port 8883 twice.
    pub(crate) fn address_offset(self) -> u32 {
        match self {
            Self::Krypton | Self::EventGrid | Self::Beam => 0,
            Self::IotHub => 1,
            Self::AwsIot => 2,
            Self::Dps => 3,
        }
    }
}

impl std::fmt::Display for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A door of a stand-in: an entry of `clouds.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandIn {
    /// Which cloud.
    pub name: Cloud,
    /// The host name in its certificate, which looks like the real one.
    pub host: String,
    /// Where it listens.
    pub address: IpAddr,
    /// On which port.
    pub port: u16,
    /// What it speaks there.
    pub protocol: Protocol,
}

/// The host names of the stand-ins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// Krypton.
    pub krypton: String,
    /// The Event Grid namespace's MQTT host.
    pub event_grid: String,
    /// The IoT hub.
    pub iot_hub: String,
    /// The AWS IoT Core data endpoint.
    pub aws_iot: String,
    /// The global endpoint of the device provisioning service.
    pub dps: String,
    /// Beam.
    pub beam: String,
}

impl Default for Hosts {
    fn default() -> Self {
        Self {
            krypton: "krypton.soracom.io".into(),
            event_grid: "onyx.japaneast-1.ts.eventgrid.azure.net".into(),
            iot_hub: "onyx-hub.azure-devices.net".into(),
            aws_iot: "onyx-ats.iot.ap-northeast-1.amazonaws.com".into(),
            dps: "global.azure-devices-provisioning.net".into(),
            beam: "beam.soracom.io".into(),
        }
    }
}

impl Hosts {
    /// One of them.
    #[must_use]
    pub fn of(&self, cloud: Cloud) -> &str {
        match cloud {
            Cloud::Krypton => &self.krypton,
            Cloud::EventGrid => &self.event_grid,
            Cloud::IotHub => &self.iot_hub,
            Cloud::AwsIot => &self.aws_iot,
            Cloud::Dps => &self.dps,
            Cloud::Beam => &self.beam,
        }
    }
}

/// How the stand-ins are set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where authority, `clouds.json` and `messages.jsonl` are.
    pub directory: PathBuf,
    /// The first address to listen on.
    pub bind: IpAddr,
    /// Whether others than this machine may come in.
    pub allow_non_loopback: bool,
    /// The real services' ports, each MQTT stand-in on an address of its own.
    pub standard_ports: bool,
    /// TLS versions taken.
    pub tls: Versions,
    /// Host names.
    pub hosts: Hosts,
    /// Who calls Krypton.
    pub subscribers: Subscribers,
    /// Azure device id; `$imsi` stands for the IMSI.
    pub device_id_pattern: String,
    /// AWS thing name; `$imsi` stands for the IMSI.
    pub thing_name_pattern: String,
    /// How many status requests are answered `assigning`.
    pub assigning_polls: u32,
    /// For how long status requests are answered `assigning`.
    pub assigning_for: Duration,
    /// The templates of Event Grid's topic space.
    pub topic_templates: Vec<String>,
    /// Topics that AWS's policy allows.
    pub aws_topics: Vec<String>,
    /// Devices to write credentials for.
    pub devices: Vec<String>,
    /// What Krypton does wrong.
    pub krypton_fault: Option<Limited<KryptonFault>>,
    /// What MQTT stand-ins do wrong.
    pub mqtt_faults: Vec<(Cloud, Limited<MqttFault>)>,
    /// A policy document for every AWS certificate, in place of the bench's own.
    pub aws_policy: Option<PathBuf>,
    /// Authorities (PEM files) whose certificates AWS registers just in time.
    pub aws_jitr: Vec<PathBuf>,
    /// Claim certificates to write credentials for.
    pub aws_claims: Vec<String>,
    /// Provisioning templates (JSON files).
    pub aws_templates: Vec<PathBuf>,
    /// How the Event Grid namespace is set up.
    pub event_grid: event_grid::Settings,
}

impl Config {
    /// Everything at its default: loopback, free ports, one subscriber for everybody.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            allow_non_loopback: false,
            standard_ports: false,
            tls: Versions::Both,
            hosts: Hosts::default(),
            subscribers: Subscribers::default(),
            device_id_pattern: "myDevice-$imsi".into(),
            thing_name_pattern: "myThing-$imsi".into(),
            assigning_polls: 0,
            assigning_for: Duration::ZERO,
            topic_templates: vec!["exampletopics/#".into()],
            aws_topics: vec!["#".into()],
            devices: Vec::new(),
            krypton_fault: None,
            mqtt_faults: Vec::new(),
            aws_policy: None,
            aws_jitr: Vec::new(),
            aws_claims: Vec::new(),
            aws_templates: Vec::new(),
            event_grid: event_grid::Settings::default(),
        }
    }

    /// Where a stand-in is to listen; port 0 takes a free one.
    pub(crate) fn place(&self, cloud: Cloud, protocol: Protocol) -> Result<(IpAddr, u16), String> {
        if !self.bind.is_loopback() && !self.allow_non_loopback {
            return Err(format!(
                "{} is not a loopback address: the stand-ins are for this machine; --allow-non-loopback opens them to others",
                self.bind
            ));
        }
        if !self.standard_ports {
            return Ok((self.bind, 0));
        }
        let offset = cloud.address_offset();
        let address = match self.bind {
            IpAddr::V4(first) => first
                .to_bits()
                .checked_add(offset)
                .map(|a| IpAddr::V4(Ipv4Addr::from_bits(a))),
            IpAddr::V6(_) if offset == 0 => Some(self.bind),
            IpAddr::V6(_) => None,
        };
        address
            .filter(|a| a.is_loopback() || self.allow_non_loopback)
            .map(|a| (a, cloud.standard_port(protocol)))
            .ok_or_else(|| {
                format!(
                    "standard ports need four IPv4 addresses in a row: {} has no {offset} more after it",
                    self.bind
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_loopback_and_in_a_row() {
        let mut c = Config::new("d");
        assert_eq!(
            c.place(Cloud::AwsIot, Protocol::Mqtts).unwrap(),
            ("127.0.0.1".parse().unwrap(), 0)
        );
        c.standard_ports = true;
        c.bind = "127.0.0.77".parse().unwrap();
        assert_eq!(
            c.place(Cloud::Krypton, Protocol::Https).unwrap(),
            ("127.0.0.77".parse().unwrap(), 8036)
        );
        assert_eq!(
            c.place(Cloud::EventGrid, Protocol::Mqtts).unwrap(),
            ("127.0.0.77".parse().unwrap(), 8883)
        );
        assert_eq!(
            c.place(Cloud::AwsIot, Protocol::Mqtts).unwrap(),
            ("127.0.0.79".parse().unwrap(), 8883)
        );
        c.bind = "127.255.255.254".parse().unwrap();
        assert!(c.place(Cloud::AwsIot, Protocol::Mqtts).is_err());
        c.bind = "::1".parse().unwrap();
        assert!(c.place(Cloud::Krypton, Protocol::Https).is_ok() && c.place(Cloud::IotHub, Protocol::Mqtts).is_err());
        c.bind = "192.0.2.1".parse().unwrap();
        assert!(
            c.place(Cloud::Krypton, Protocol::Https)
                .unwrap_err()
                .contains("--allow-non-loopback")
        );
        c.allow_non_loopback = true;
        assert!(c.place(Cloud::Krypton, Protocol::Https).is_ok());
    }
}
