//! What `onyx-bench clouds` takes on its command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::dps::registration::Setup;
use super::fault::{KryptonFault, Limited, MqttFault, Spec};
use super::keys::ChallengeStatus;
use super::krypton::Group;
use super::policy::event_grid;
use super::scenario::Scenario;
use super::stand_in::{Cloud, Config, Hosts};
use super::subscribers::Subscribers;
use crate::bench::subscriber;
use crate::config::units;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Where ca.pem, clouds.json, messages.jsonl and devices/ are written; an authority from an earlier run is taken up.
    #[arg(long, value_name = "DIRECTORY", required = true)]
    dir: Option<PathBuf>,
    /// Address to listen on: any of 127.0.0.0/8.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Listen on an address that others can reach.
    #[arg(long)]
    allow_non_loopback: bool,
    /// This stand-in only: krypton, krypton-sim, event-grid, iot-hub, aws-iot, dps or beam; may be repeated.
    #[arg(long, value_name = "CLOUD")]
    only: Vec<Cloud>,
    /// The real ports (8883, 443, 8036, 1883), the stand-ins on addresses in a row; otherwise free ports, see clouds.json.
    #[arg(long)]
    standard_ports: bool,
    /// Write credentials for a device of this name into devices/; may be repeated.
    #[arg(long, value_name = "NAME")]
    device: Vec<String>,
    /// The SIM that Krypton and Beam take every caller for.
    #[arg(long, value_name = "IMSI", conflicts_with = "subscriber")]
    imsi: Option<String>,
    /// The SIM behind a source address (without one: everybody else); may be repeated. Callers without SIM are refused.
    #[arg(long, value_name = "IMSI[@ADDRESS]")]
    subscriber: Vec<String>,
    /// Azure device ids that Krypton gives.
    #[arg(long, value_name = "PATTERN", default_value = "myDevice-$imsi")]
    device_id_pattern: String,
    /// AWS thing names that Krypton gives.
    #[arg(long, value_name = "PATTERN", default_value = "myThing-$imsi")]
    thing_name_pattern: String,
    /// How many status requests Krypton answers "assigning".
    #[arg(long, value_name = "N", default_value_t = 0)]
    assigning_polls: u32,
    /// For how long Krypton answers "assigning", e.g. 3s.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = units::duration)]
    assigning_for: Duration,
    /// A template of Event Grid's topic space, with + # ${client.authenticationName}; may be repeated.
    #[arg(long, value_name = "TEMPLATE", default_value = "exampletopics/#")]
    topic_template: Vec<String>,
    /// Topics that the AWS policy allows; may be repeated.
    #[arg(long, value_name = "FILTER", default_value = "#")]
    aws_topic: Vec<String>,
    /// A policy document for every AWS certificate, in place of the bench's own and of --aws-topic.
    #[arg(long, value_name = "FILE", conflicts_with = "aws_topic")]
    aws_policy: Option<PathBuf>,
    /// An authority that AWS registers certificates of just in time: the first connection ends, the next succeeds; may be repeated.
    #[arg(long, value_name = "PEM-FILE")]
    aws_jitr: Vec<PathBuf>,
    /// Write a claim certificate of this name into devices/, for AWS fleet provisioning; may be repeated.
    #[arg(long, value_name = "NAME")]
    aws_claim: Vec<String>,
    /// An AWS provisioning template, known by its file name without extension; may be repeated. One is there: onyx-bench.
    #[arg(long, value_name = "FILE")]
    aws_template: Vec<PathBuf>,
    /// For how long the certificates of devices are valid, e.g. 90s to see them renewed; at most 100d.
    #[arg(long, value_name = "DURATION", default_value = "100d", value_parser = units::duration)]
    certificate_life: Duration,
    /// Krypton's host name.
    #[arg(long, value_name = "NAME", default_value_t = Hosts::default().krypton)]
    krypton_host: String,
    /// The Event Grid namespace's MQTT host name.
    #[arg(long, value_name = "NAME", default_value_t = Hosts::default().event_grid)]
    event_grid_host: String,
    /// The IoT hub's host name.
    #[arg(long, value_name = "NAME", default_value_t = Hosts::default().iot_hub)]
    iot_hub_host: String,
    /// The AWS IoT Core endpoint's host name.
    #[arg(long, value_name = "NAME", default_value_t = Hosts::default().aws_iot)]
    aws_iot_host: String,
    #[command(flatten)]
    card: subscriber::CardOptions,
    /// The SIMs' plan: the key service refuses those without SIM authentication, such as plan-D.
    #[arg(long, value_name = "PLAN", default_value = "plan01s")]
    sim_plan: String,
    /// The status of the key service's challenges: 200 or 401.
    #[arg(long, value_name = "STATUS", default_value = "401")]
    keys_status: ChallengeStatus,
    /// What the SIMs' group allows Krypton: all, none (no group), disabled, or a list of aws,azure,cognito,inventory,arc.
    #[arg(long, value_name = "LIST", default_value = "all")]
    krypton_group: Group,
    /// The group's user data, as Krypton's internet door gives it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    userdata: String,
    /// The host name of Krypton's internet door.
    #[arg(long, value_name = "NAME", default_value_t = Hosts::default().krypton_sim)]
    krypton_sim_host: String,
    /// Misbehave: http-403, http-404, http-500, html, truncated, empty, slow, wrong-key, expired, garbage-cert, never-assigned, failed;
    /// KIND*N does so N times.
    #[arg(long, value_name = "KIND[*N]")]
    krypton_fault: Option<Limited<KryptonFault>>,
    /// Misbehave in MQTT, on all stand-ins or on one; may be repeated. --fault takes the same names and more.
    #[arg(long, value_name = "[CLOUD:]KIND[*N]")]
    mqtt_fault: Vec<String>,
    /// The IoT hub knows registered devices only; otherwise every certificate of the authority makes its device known.
    #[arg(long)]
    hub_closed: bool,
    /// The device provisioning service's global endpoint.
    #[arg(long, value_name = "NAME", default_value_t = Hosts::default().dps)]
    dps_host: String,
    /// The device provisioning service's id scope.
    #[arg(long, value_name = "SCOPE", default_value_t = Setup::default().id_scope)]
    dps_id_scope: String,
    /// How many status requests the device provisioning service answers "assigning".
    #[arg(long, value_name = "N", default_value_t = Setup::default().assigning_polls)]
    dps_assigning_polls: u32,
    /// For how long the device provisioning service answers "assigning", e.g. 3s.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = units::duration)]
    dps_assigning_for: Duration,
    /// What the device provisioning service's Retry-After says, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = Setup::default().retry_after)]
    dps_retry_after: u64,
    /// Misbehave, in any way there is: see below; may be repeated.
    #[arg(long, value_name = "SPEC")]
    fault: Vec<Spec>,
    /// Beam appends /IMSI to the topics that devices publish to.
    #[arg(long)]
    beam_append_imsi: bool,
    /// Beam puts the IMSI where a topic says {{imsi}}.
    #[arg(long)]
    beam_imsi_in_topics: bool,
    /// What happens when: a TOML file, see below.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Where the control endpoint listens: a loopback address and port; otherwise a free port, see clouds.json.
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
    #[command(flatten)]
    event_grid: EventGridOptions,
    /// JSON lines instead of text.
    #[arg(long)]
    pub(super) json: bool,
    /// Nothing but the first line.
    #[arg(long)]
    pub(super) quiet: bool,
}

/// The Event Grid namespace.
#[derive(Debug, clap::Args)]
struct EventGridOptions {
    /// Sessions that an authentication name may have, connected or away.
    #[arg(long, value_name = "N", default_value_t = event_grid::Settings::default().sessions_per_name)]
    event_grid_sessions: usize,
    /// Messages of a session in a second; the documentation has both 1000 and 100.
    #[arg(long, value_name = "N", default_value_t = event_grid::Settings::default().publishes_per_second)]
    event_grid_rate: u32,
    /// How long a session outlives its connection at most, e.g. 8h.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = units::duration)]
    event_grid_session_expiry: Duration,
    /// A client with the scheme subject, dns, uri, ip, email, or thumbprint:SHA256; may be repeated. Without one every certificate of the
    /// intermediate is a client.
    #[arg(long, value_name = "NAME:SCHEME[;KEY=VALUE]")]
    event_grid_client: Vec<event_grid::clients::Client>,
    /// A topic space in place of the one of --topic-template; may be repeated.
    #[arg(long, value_name = "NAME=TEMPLATE[,TEMPLATE]")]
    event_grid_space: Vec<event_grid::spaces::TopicSpace>,
    /// Who may do what where: $all, KEY=VALUE of an attribute or a client's name; a space; publisher or subscriber; may be repeated. Without
    /// one everybody may do everything in every space.
    #[arg(long, value_name = "GROUP:SPACE:PERMISSION")]
    event_grid_binding: Vec<event_grid::spaces::Binding>,
}

impl EventGridOptions {
    fn settings(&self) -> event_grid::Settings {
        event_grid::Settings {
            sessions_per_name: self.event_grid_sessions,
            publishes_per_second: self.event_grid_rate,
            session_expiry: self.event_grid_session_expiry,
            clients: self.event_grid_client.clone(),
            spaces: self.event_grid_space.clone(),
            bindings: self.event_grid_binding.clone(),
        }
    }
}

fn mqtt_faults(list: &[String]) -> Result<Vec<(Cloud, Limited<MqttFault>)>, String> {
    let mut faults = Vec::new();
    for text in list {
        let (clouds, fault) = match text.split_once(':') {
            None => (Cloud::MQTT.to_vec(), text.as_str()),
            Some((name, fault)) => {
                let found = Cloud::MQTT.iter().find(|c| c.as_str() == name);
                let cloud =
                    found.ok_or_else(|| format!("{name:?} is none of event-grid, iot-hub, aws-iot, dps, beam"))?;
                (vec![*cloud], fault)
            }
        };
        let fault: Limited<MqttFault> = fault.parse()?;
        faults.extend(clouds.into_iter().map(|c| (c, fault)));
    }
    Ok(faults)
}

impl Options {
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let dir = self
            .dir
            .as_ref()
            .context("--dir is missing: where is everything to be written?")?;
        let mut config = Config::new(dir);
        config.bind = self.bind;
        config.allow_non_loopback = self.allow_non_loopback;
        config.only.clone_from(&self.only);
        config.standard_ports = self.standard_ports;
        config.hosts = Hosts {
            krypton: self.krypton_host.clone(),
            event_grid: self.event_grid_host.clone(),
            iot_hub: self.iot_hub_host.clone(),
            aws_iot: self.aws_iot_host.clone(),
            krypton_sim: self.krypton_sim_host.clone(),
            dps: self.dps_host.clone(),
            ..Hosts::default()
        };
        if let Some(imsi) = &self.imsi {
            config.subscribers = Subscribers::everybody(imsi.parse()?);
        } else if !self.subscriber.is_empty() {
            config.subscribers = Subscribers::parse(&self.subscriber).map_err(anyhow::Error::msg)?;
        }
        config.device_id_pattern.clone_from(&self.device_id_pattern);
        config.thing_name_pattern.clone_from(&self.thing_name_pattern);
        config.assigning_polls = self.assigning_polls;
        config.assigning_for = self.assigning_for;
        config.topic_templates.clone_from(&self.topic_template);
        config.aws_topics.clone_from(&self.aws_topic);
        config.devices.clone_from(&self.device);
        config.aws_policy.clone_from(&self.aws_policy);
        config.aws_jitr.clone_from(&self.aws_jitr);
        config.aws_claims.clone_from(&self.aws_claim);
        config.aws_templates.clone_from(&self.aws_template);
        config.sims = self.card.sims()?;
        config.sim_plan.clone_from(&self.sim_plan);
        config.challenge_status = self.keys_status;
        config.krypton_group = self.krypton_group.clone();
        config.userdata.clone_from(&self.userdata);
        config.certificate_life = self.certificate_life;
        config.krypton_fault = self.krypton_fault;
        config.hub_open = !self.hub_closed;
        config.dps = Setup {
            id_scope: self.dps_id_scope.clone(),
            assigning_polls: self.dps_assigning_polls,
            assigning_for: self.dps_assigning_for,
            retry_after: self.dps_retry_after,
        };
        config.mqtt_faults = mqtt_faults(&self.mqtt_fault).map_err(anyhow::Error::msg)?;
        config.beam_append_imsi = self.beam_append_imsi;
        config.beam_imsi_in_topics = self.beam_imsi_in_topics;
        config.faults.clone_from(&self.fault);
        if let Some(path) = &self.scenario {
            config.scenario = Scenario::open(path)?;
        }
        config.control = self.control;
        config.event_grid = self.event_grid.settings();
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_go_to_one_or_to_all() {
        let all = mqtt_faults(&["refuse-5*2".into()]).unwrap();
        assert_eq!(all.len(), Cloud::MQTT.len());
        let one = mqtt_faults(&["iot-hub:no-puback".into()]).unwrap();
        assert_eq!(one, [(Cloud::IotHub, MqttFault::NoPuback.into())]);
        for bad in ["krypton:no-puback", "x", ":refuse-5"] {
            assert!(mqtt_faults(&[bad.into()]).is_err(), "{bad}");
        }
    }
}
