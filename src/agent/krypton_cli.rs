//! `onyx-agent krypton …`: one operation of SORACOM Krypton by hand, by either door.
//!
//! The configuration file gives the defaults (door, endpoint, patience, parameters, interface), options win over it, and the cellular door
//! needs no file at all. The modem is opened only if something must be asked of the SIM: for SIM authentication, or to fill `#{imsi}` and
//! its kin. What comes back goes one of three ways ([`output`]): text without secrets, JSON with everything, or files.

mod output;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Url;

use super::card::{self, Card, Need};
use crate::clock::Clock;
use crate::config::agent::{
    AgentConfig, CredentialsConfig, DEFAULT_PATH, KRYPTON_URL, KryptonAuth, KryptonCloud, KryptonConfig, Patience,
    SORACOM_API_URL,
};
use crate::identity::NameTemplate;
use crate::link::Via;
use crate::logging;
use crate::provision::Failure;
use crate::provision::krypton::answer::Device;
use crate::provision::krypton::door::Settings;
use crate::provision::krypton::fields::Fields;
use crate::provision::krypton::operation::Parameters;
use crate::provision::krypton::{Caller, KryptonError};
use crate::provision::operator::read_limited;
use crate::provision::seal::Seal;

/// Limits for those who have no configuration file: those of the file's own defaults.
const PATIENCE: Patience = Patience {
    within: Duration::from_secs(30),
    poll_every: Duration::from_secs(2),
    polls_max: 30,
};
/// The longest that modem and SIM may take to come up: a dongle that was just plugged in needs a minute.
const CARD_WITHIN: Duration = Duration::from_secs(120);

/// `onyx-agent krypton`.
#[derive(Debug, Args)]
pub(super) struct KryptonArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Register a device at Azure IoT Hub: host, device id, certificate, private key
    Azure {
        #[command(flatten)]
        parameters: ParameterArgs,
        /// Register and wait in one request, as an older client of SORACOM's does; with --auth sim alone
        #[arg(long)]
        at_once: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Make a thing at AWS IoT Core: host, client id, certificate, private key
    ///
    /// Every call makes new credentials.
    Aws {
        #[command(flatten)]
        parameters: ParameterArgs,
        /// Fetch the certificates one by one instead of all in one answer
        #[arg(long)]
        skip_certificates: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Get temporary AWS credentials from Amazon Cognito
    CognitoCredentials {
        #[command(flatten)]
        common: Common,
    },
    /// Get an OpenID token from Amazon Cognito
    CognitoToken {
        #[command(flatten)]
        common: Common,
    },
    /// Get a pre-shared key for SORACOM Inventory (LwM2M)
    ///
    /// By SIM authentication the key never travels: both sides derive it.
    Inventory {
        /// The device's own name at Inventory
        #[arg(long, value_name = "NAME")]
        endpoint: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Get a WireGuard configuration for SORACOM Arc
    Arc {
        #[command(flatten)]
        common: Common,
    },
    /// Show what SORACOM Air knows about this SIM; with --auth sim alone
    Metadata {
        #[command(flatten)]
        common: Common,
    },
    /// Show the userdata of this SIM's group; with --auth sim alone
    Userdata {
        #[command(flatten)]
        common: Common,
    },
}

/// How Krypton knows who asks.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum AuthWord {
    /// By the SIM's data session: over the SORACOM line
    Cellular,
    /// By SIM authentication through the modem: over any line; stop a running agent first
    Sim,
}

#[derive(Debug, Args)]
struct ParameterArgs {
    /// A request parameter, which wins over the settings of the SIM's group, e.g. deviceId=dev-#{imsi}; may be given several times
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, NameTemplate)>,
}

#[derive(Debug, Args)]
struct Common {
    /// The configuration file [default: /etc/onyx/agent.toml if it is there]; --auth sim needs one
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How Krypton knows who asks [default: credentials.auth of a Krypton source, else cellular]
    #[arg(long, value_name = "WAY")]
    auth: Option<AuthWord>,
    /// The endpoint [default: credentials.url, else that of the door]
    #[arg(long, value_name = "URL", value_parser = https)]
    url: Option<Url>,
    /// Dial this instead of resolving the endpoint's host
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<SocketAddr>,
    /// Authorities for the endpoint (PEM) [default: credentials.ca_file, else the system's]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Limit for each request [default: credentials.timeout, else 30]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: Option<u64>,
    /// Print the whole answer as one JSON object, for scripts: private keys, tokens and other secrets INCLUDED
    #[arg(long, conflicts_with = "out")]
    json: bool,
    /// Write the answer into this directory: certificate.pem, private.key (0600), ca.pem, answer.json; what is there is never overwritten
    ///
    /// Without this and without --json, secrets are not shown, and new credentials are gone with the command.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn parameter(text: &str) -> Result<(String, NameTemplate), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.parse().map_err(|e| format!("{e}"))?))
}

fn https(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    if url.scheme() == "https" && url.host_str().is_some() {
        Ok(url)
    } else {
        Err(format!("it is not an https address: write for example {KRYPTON_URL}"))
    }
}

impl What {
    fn common(&self) -> &Common {
        match self {
            Self::Azure { common, .. }
            | Self::Aws { common, .. }
            | Self::CognitoCredentials { common }
            | Self::CognitoToken { common }
            | Self::Inventory { common, .. }
            | Self::Arc { common }
            | Self::Metadata { common }
            | Self::Userdata { common } => common,
        }
    }

    fn cloud(&self) -> Option<(KryptonCloud, &ParameterArgs)> {
        match self {
            Self::Azure { parameters, .. } => Some((KryptonCloud::Azure, parameters)),
            Self::Aws { parameters, .. } => Some((KryptonCloud::Aws, parameters)),
            _ => None,
        }
    }
}

/// Everything that is settled before anybody is asked.
struct Plan {
    config: Option<Arc<AgentConfig>>,
    settings: Settings,
    patience: Patience,
    via: Via,
    parameters: BTreeMap<String, NameTemplate>,
}

impl Plan {
    fn new(what: &What) -> anyhow::Result<Self> {
        let common = what.common();
        let config = load(common.config.as_deref())?;
        let of_file = config.as_ref().and_then(|c| match &c.credentials {
            CredentialsConfig::Krypton(krypton) => Some(krypton),
            _ => None,
        });
        let door = match common.auth {
            Some(AuthWord::Cellular) => KryptonAuth::Cellular,
            Some(AuthWord::Sim) => KryptonAuth::Sim,
            None => of_file.map_or(KryptonAuth::Cellular, |k| k.auth),
        };
        // The file's endpoint is that of its own door.
        let same: Option<&KryptonConfig> = of_file.filter(|k| k.auth == door && common.url.is_none());
        let default = match door {
            KryptonAuth::Cellular => KRYPTON_URL,
            KryptonAuth::Sim => SORACOM_API_URL,
        };
        let url = match (&common.url, same) {
            (Some(url), _) => url.clone(),
            (None, Some(k)) => k.url.clone(),
            (None, None) => Url::parse(default).context("the built-in endpoint")?,
        };
        let ca_file = common.ca_file.as_deref().or(same.and_then(|k| k.ca_file.as_deref()));
        let mut patience = of_file.map_or(PATIENCE, |k| k.patience);
        if let Some(seconds) = common.timeout {
            patience.within = Duration::from_secs(seconds);
        }
        let mut parameters = BTreeMap::new();
        if let Some((cloud, given)) = what.cloud() {
            let configured = of_file.filter(|k| k.cloud == cloud).map(|k| k.parameters.clone());
            parameters.extend(configured.unwrap_or_default());
            parameters.extend(given.parameters.iter().cloned());
        }
        Ok(Self {
            settings: Settings {
                door,
                url,
                address: common.address.or(same.and_then(|k| k.address)),
                ca_pem: ca_file.map(read_limited).transpose()?,
                within: patience.within,
            },
            patience,
            via: Via {
                interface: config.as_ref().and_then(|c| c.link.interface.clone()),
            },
            parameters,
            config: config.map(Arc::new),
        })
    }

    /// Opens the modem, if the SIM must be asked for something.
    async fn card(&self, clock: &Clock) -> anyhow::Result<Option<Card>> {
        let individual = self.parameters.values().any(NameTemplate::is_individual);
        let why = match self.settings.door {
            KryptonAuth::Sim => "SIM authentication",
            KryptonAuth::Cellular if individual => "a parameter with #{imsi} or its kin",
            KryptonAuth::Cellular => return Ok(None),
        };
        let Some(config) = self.config.clone() else {
            bail!(
                "{why} needs the modem, and no configuration file says where it is: write {DEFAULT_PATH}, or name a file with --config"
            );
        };
        // The port has one user at a time, and waiting for it would say less.
        if crate::control::ask("onyx-agent", &config.status_socket).is_ok() {
            bail!(
                "{why} needs the modem, which the running agent holds: stop it first (systemctl stop onyx-agent), and start it afterwards"
            );
        }
        let card = card::open(config, clock, Need::Card, CARD_WITHIN).await;
        card.with_context(|| format!("{why} needs the modem")).map(Some)
    }

    fn filled(&self, card: Option<&Card>) -> anyhow::Result<Parameters> {
        let text = |(name, template): (&String, &NameTemplate)| {
            let text = match card {
                Some(card) => template
                    .fill(&card.who)
                    .with_context(|| format!("the parameter {name} cannot be filled"))?,
                None => template.source().to_owned(),
            };
            anyhow::Ok((name.clone(), text))
        };
        let list: Vec<_> = self.parameters.iter().map(text).collect::<Result<_, _>>()?;
        Parameters::new(list).map_err(explain)
    }
}

/// The configuration: the named file must be there, the default one may be missing.
fn load(path: Option<&Path>) -> anyhow::Result<Option<AgentConfig>> {
    let path = match path {
        Some(path) => path,
        None if Path::new(DEFAULT_PATH).exists() => Path::new(DEFAULT_PATH),
        None => return Ok(None),
    };
    let config = AgentConfig::load(path)?;
    logging::start(&config.log.filter, config.log.format)
        .map_err(anyhow::Error::msg)
        .context("log.filter")?;
    Ok(Some(config))
}

fn explain(e: KryptonError) -> anyhow::Error {
    let Failure { cause, cure, after, .. } = e.into();
    match after {
        Some(after) => anyhow!("{cause}. {cure}. It asks to be left alone for {} s", after.as_secs()),
        None => anyhow!("{cause}. {cure}"),
    }
}

/// Runs the command.
///
/// # Errors
/// What happened and what to do, in a sentence.
pub(super) async fn main(args: KryptonArgs) -> anyhow::Result<ExitCode> {
    let what = args.what;
    let common = what.common();
    // Every question may make something at the cloud: what could keep us from keeping it is looked at before.
    let directory = match &common.out {
        Some(directory) => Some(output::Directory::prepare(directory)?),
        None => None,
    };
    let plan = Plan::new(&what)?;
    let clock = Clock::new();
    let card = plan.card(&clock).await?;
    let answer = ask(&what, &plan, card.as_ref(), &clock).await;
    if let Some(card) = card {
        card.close().await;
    }
    let fields = answer?;
    match directory {
        Some(directory) => directory.write(&fields)?,
        None if common.json => output::json(&fields)?,
        None => output::text(&fields)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(what: &What, plan: &Plan, card: Option<&Card>, clock: &Clock) -> anyhow::Result<Fields> {
    let parameters = plan.filled(card)?;
    let settings = plan.settings.clone();
    let caller = match (plan.settings.door, card, &plan.config) {
        (KryptonAuth::Sim, Some(card), Some(config)) => {
            // By hand systemd may have given no key: then SORACOM's is used and not kept.
            let form = Seal::configured(&config.keep).into();
            let state = (config.state_dir.as_path(), form);
            Caller::sim(settings, &plan.via, clock, &card.who.imsi, &card.sim, state)
        }
        _ => Caller::cellular(settings, &plan.via, clock),
    };
    let mut caller = caller.map_err(explain)?;
    let fields = match what {
        What::Azure { at_once, .. } => {
            let device = if *at_once {
                caller.azure_at_once(parameters).await
            } else {
                caller.azure(parameters, plan.patience).await
            };
            usable(device, clock)?.azure()
        }
        What::Aws { skip_certificates, .. } => {
            let device = caller.aws(parameters, *skip_certificates, plan.patience).await;
            usable(device, clock)?.aws()
        }
        What::CognitoCredentials { .. } => caller.cognito_credentials().await.map_err(explain)?.into(),
        What::CognitoToken { .. } => caller.cognito_token().await.map_err(explain)?.into(),
        What::Inventory { endpoint, .. } => caller.inventory(endpoint.clone()).await.map_err(explain)?.into(),
        What::Arc { .. } => caller.arc().await.map_err(explain)?.into(),
        What::Metadata { .. } => caller.metadata().await.map_err(explain)?.into(),
        What::Userdata { .. } => caller.userdata().await.map_err(explain)?.into(),
    };
    Ok(fields)
}

/// Looks at new credentials as a session would, before anybody relies on them.
fn usable(device: Result<Device, KryptonError>, clock: &Clock) -> anyhow::Result<Device> {
    let device = device.map_err(explain)?;
    let grant = device.clone().grant().map_err(explain)?;
    let credentials = grant.check("Krypton's answer").map_err(|e| explain(e.into()))?;
    let now = clock.now().map_or_else(|| clock.system(), |(time, _)| time);
    credentials.check_time(now).map_err(|e| {
        anyhow!(
            "the granted credentials cannot be used: {e}. Look at the certificate settings of the SIM group's Krypton configuration, and \
             whether this machine's clock is right"
        )
    })?;
    Ok(device)
}
