//! Which stand-ins there are, and how they are configured.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::dps::registration::Setup;
use super::fault::{KryptonFault, Limited, MqttFault, Spec};
use super::keys::ChallengeStatus;
use super::krypton::Group;
use super::policy::event_grid;
use super::scenario::Scenario;
use super::subscribers::Subscribers;
use crate::bench::subscriber::Sim;
use crate::identity::Imsi;
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
    /// SORACOM Krypton's internet door, with the key service.
    KryptonSim,
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
    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mqtts => "mqtts",
            Self::MqttsAlpn => "mqtts-alpn",
            Self::Mqtt => "mqtt",
            Self::Https => "https",
        }
    }

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
    /// All of them, in the order in which they begin: DPS after the hub that it assigns to.
    pub const ALL: [Self; 7] = [
        Self::Krypton,
        Self::KryptonSim,
        Self::EventGrid,
        Self::IotHub,
        Self::AwsIot,
        Self::Dps,
        Self::Beam,
    ];
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
            Self::KryptonSim => "krypton-sim",
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
            Self::Krypton | Self::EventGrid | Self::Beam | Self::KryptonSim => 0,
            Self::IotHub => 1,
            Self::AwsIot => 2,
            Self::Dps => 3,
        }
    }
}

impl std::str::FromStr for Cloud {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|c| c.as_str() == name);
        found.ok_or_else(|| format!("{name:?} is none of {}", Self::ALL.map(Self::as_str).join(", ")))
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

/// The internet door's other name: SIMs of the Japanese coverage.
pub const JAPAN_API: &str = "api.soracom.io";

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
    /// Krypton's internet door; its certificate carries [`JAPAN_API`] as well.
    pub krypton_sim: String,
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
            krypton_sim: "g.api.soracom.io".into(),
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
            Cloud::KryptonSim => &self.krypton_sim,
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
    /// Which stand-ins there are; none named is all.
    pub only: Vec<Cloud>,
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
    /// For how long the devices' certificates that are granted are valid.
    pub certificate_life: Duration,
    /// What Krypton does wrong.
    pub krypton_fault: Option<Limited<KryptonFault>>,
    /// The secrets of SIMs that are not the test SIM. One without a number stands for every subscriber that has none of its own.
    pub sims: Vec<Sim>,
    /// The plan of all SIMs: not every one allows SIM authentication.
    pub sim_plan: String,
    /// The status of the key service's challenges.
    pub challenge_status: ChallengeStatus,
    /// What the SIMs' group allows Krypton to do.
    pub krypton_group: Group,
    /// The group's user data, which Krypton's internet door hands out.
    pub userdata: String,
    /// What MQTT stand-ins do wrong.
    pub mqtt_faults: Vec<(Cloud, Limited<MqttFault>)>,
    /// How the device provisioning service registers.
    pub dps: Setup,
    /// Whether the IoT hub takes every device with a certificate of the authority, or only those that were registered with it.
    pub hub_open: bool,
    /// Beam puts the IMSI at the end of the topics that devices publish to.
    pub beam_append_imsi: bool,
    /// Beam puts the IMSI where a publication's topic says `{{imsi}}`.
    pub beam_imsi_in_topics: bool,
    /// Further faults, of any kind.
    pub faults: Vec<Spec>,
    /// What happens when.
    pub scenario: Scenario,
    /// Where the control endpoint listens: a loopback address; `None` takes a free port.
    pub control: Option<SocketAddr>,
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
            only: Vec::new(),
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
            sims: Vec::new(),
            sim_plan: "plan01s".into(),
            challenge_status: ChallengeStatus::default(),
            krypton_group: Group::default(),
            userdata: String::new(),
            certificate_life: super::authority::DEVICE_VALIDITY,
            mqtt_faults: Vec::new(),
            dps: Setup::default(),
            hub_open: true,
            beam_append_imsi: false,
            beam_imsi_in_topics: false,
            faults: Vec::new(),
            scenario: Scenario::default(),
            control: None,
            aws_policy: None,
            aws_jitr: Vec::new(),
            aws_claims: Vec::new(),
            aws_templates: Vec::new(),
            event_grid: event_grid::Settings::default(),
        }
    }

    /// Every subscriber with its SIM: those who call the cellular door, and those whose SIM is given.
    pub(crate) fn sims(&self) -> Vec<(Imsi, Sim)> {
        let nameless = self.sims.iter().find(|sim| sim.imsi.is_none());
        let usual = nameless.cloned().unwrap_or_default();
        let of_callers = self.subscribers.all().map(|imsi| (imsi.clone(), usual.clone()));
        let own = |sim: &Sim| sim.imsi.clone().map(|imsi| (imsi, sim.clone()));
        // Later ones win.
        of_callers.chain(self.sims.iter().filter_map(own)).collect()
    }

    /// Whether there is to be this stand-in.
    pub(crate) fn wants(&self, cloud: Cloud) -> bool {
        self.only.is_empty() || self.only.contains(&cloud)
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
    fn every_subscriber_has_a_sim_and_a_file_wins() {
        let mut c = Config::new("d");
        c.subscribers = Subscribers::parse(&["440101111111111@127.0.0.9".into(), "440102222222222".into()]).unwrap();
        let imsis = |c: &Config| {
            c.sims()
                .into_iter()
                .map(|(imsi, _)| imsi.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(imsis(&c), ["440101111111111", "440102222222222"]);
        let named = Sim {
            imsi: Some("440102222222222".parse().unwrap()),
            amf: crate::bench::subscriber::Amf([1, 2]),
            ..Sim::default()
        };
        let nameless = Sim {
            amf: crate::bench::subscriber::Amf([3, 4]),
            ..Sim::default()
        };
        c.sims = vec![named, nameless];
        let amfs: std::collections::BTreeMap<_, _> =
            c.sims().into_iter().map(|(i, s)| (i.to_string(), s.amf.0)).collect();
        assert_eq!((amfs["440101111111111"], amfs["440102222222222"]), ([3, 4], [1, 2]));
    }

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
            c.place(Cloud::KryptonSim, Protocol::Https).unwrap(),
            ("127.0.0.77".parse().unwrap(), 443)
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
