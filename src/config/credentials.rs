//! The section `[credentials]` of `agent.toml`: where a key and a certificate come from, and how they are kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use crate::cloud::Kind;
use crate::identity::NameTemplate;

/// SORACOM Krypton's cellular endpoint (SORACOM's article on Krypton and Azure IoT Hub).
pub const KRYPTON_URL: &str = "https://krypton.soracom.io:8036";
/// SORACOM's API endpoint of global coverage, where Krypton takes requests signed by the SIM (soracom/krypton-client-go,
/// `krypton/client.go`); Japan coverage is `https://api.soracom.io`.
pub const SORACOM_API_URL: &str = "https://g.api.soracom.io";
/// Azure DPS's global endpoint (Microsoft, "Device Provisioning Service", HTTPS and MQTT pages).
pub const DPS_HOST: &str = "global.azure-devices-provisioning.net";

/// Where credentials come from.
#[derive(Debug, Clone)]
pub enum CredentialsConfig {
    /// A gateway adds them: the device has none.
    None,
    /// Files that the operator put there.
    Files(Files),
    /// SORACOM Krypton, by either door.
    Krypton(KryptonConfig),
    /// Azure's Device Provisioning Service, with a certificate of the operator's.
    Dps(DpsConfig),
    /// AWS IoT fleet provisioning by claim, with a certificate that the whole fleet shares.
    Fleet(FleetConfig),
}

/// Which cloud Krypton provisions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KryptonCloud {
    /// Azure IoT Hub, through its Device Provisioning Service.
    Azure,
    /// AWS IoT Core.
    Aws,
}

/// How Krypton knows who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KryptonAuth {
    /// By the SIM's data session: over the SORACOM line only.
    Cellular,
    /// By SIM authentication through the modem, over any line.
    Sim,
}

/// Where the operator's own files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// Certificate chain, leaf first.
    pub certificate: NameTemplate,
    /// Private key.
    pub key: NameTemplate,
}

/// Time limits and counts for asking a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Limit for a request.
    pub within: Duration,
    /// Pause between questions about a registration, when the service says nothing else.
    pub poll_every: Duration,
    /// Most questions about a registration.
    pub polls_max: u32,
}

/// `[credentials]` with a Krypton source.
#[derive(Debug, Clone)]
pub struct KryptonConfig {
    /// For which cloud.
    pub cloud: KryptonCloud,
    /// By which door.
    pub auth: KryptonAuth,
    /// The endpoint.
    pub url: Url,
    /// Dial this instead of resolving the URL's host.
    pub address: Option<SocketAddr>,
    /// Authorities for the endpoint; `None` trusts the system's.
    pub ca_file: Option<PathBuf>,
    /// `requestParameters`, which win over the SIM group's settings.
    pub parameters: BTreeMap<String, NameTemplate>,
    /// Limits.
    pub patience: Patience,
}

/// How DPS is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DpsProtocol {
    /// HTTPS on port 443.
    Https,
    /// MQTT on port 8883.
    Mqtt,
}

/// Azure DPS: where it is, and what is asked of it.
#[derive(Debug, Clone)]
pub struct DpsService {
    /// HTTPS or MQTT.
    pub protocol: DpsProtocol,
    /// The service's host.
    pub host: String,
    /// Dial this instead of resolving the host.
    pub address: Option<SocketAddr>,
    /// ID scope, e.g. `0ne00111111`.
    pub id_scope: String,
    /// Ask for an operational certificate by a signing request (DPS preview 2025-07-01).
    pub csr: bool,
    /// Limits.
    pub patience: Patience,
}

/// `[credentials]` with `source = "dps"`.
#[derive(Debug, Clone)]
pub struct DpsConfig {
    /// The service.
    pub service: DpsService,
    /// Authorities for the service; `None` trusts the system's.
    pub ca_file: Option<PathBuf>,
    /// Registration id; `None` takes the certificate's common name.
    pub registration_id: Option<NameTemplate>,
    /// The certificate and key that attest who we are.
    pub files: Files,
}

/// `[credentials]` with `source = "aws-fleet"`.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// Name of the provisioning template.
    pub template: String,
    /// The claim certificate and key.
    pub claim: Files,
    /// Parameters of the template.
    pub parameters: BTreeMap<String, NameTemplate>,
    /// Limit for each step: connecting, and each answer.
    pub within: Duration,
}

/// How granted credentials are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepConfig {
    /// New ones are asked for after this share of the certificate's life, in percent.
    pub renew_at: u8,
    /// Name of the systemd credential that holds the key under which private keys are encrypted on disk; `None` does not encrypt.
    pub encrypt_with: Option<String>,
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self {
            renew_at: RENEW_AT,
            encrypt_with: None,
        }
    }
}

/// Share of a certificate's life after which a new one is asked for, in percent.
const RENEW_AT: u8 = 80;

impl CredentialsConfig {
    /// The word in the file, also the directory's name.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Files(_) => "files",
            Self::Krypton(k) => match k.cloud {
                KryptonCloud::Azure => "krypton-azure",
                KryptonCloud::Aws => "krypton-aws",
            },
            Self::Dps(_) => "dps",
            Self::Fleet(_) => "aws-fleet",
        }
    }

    /// Whether they are asked for and kept: then they can be renewed, and others can be had when a broker refuses them.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        matches!(self, Self::Krypton(_) | Self::Dps(_) | Self::Fleet(_))
    }

    /// The only broker that fetched credentials are good for.
    #[must_use]
    pub fn is_for(&self) -> Option<Kind> {
        match self {
            Self::None | Self::Files(_) => None,
            Self::Krypton(k) => Some(match k.cloud {
                KryptonCloud::Azure => Kind::IotHub,
                KryptonCloud::Aws => Kind::AwsIot,
            }),
            Self::Dps(_) => Some(Kind::IotHub),
            Self::Fleet(_) => Some(Kind::AwsIot),
        }
    }

    /// Whether the broker's host comes with the credentials.
    #[must_use]
    pub fn names_the_host(&self) -> bool {
        matches!(self, Self::Krypton(_) | Self::Dps(_))
    }
}

/// Whether this can be an id scope: it goes into a path and into an MQTT user name, between slashes.
#[must_use]
pub fn is_id_scope(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

#[cfg(feature = "agent")]
#[path = "credentials_schema.rs"]
mod schema;
#[cfg(feature = "agent")]
pub(super) use schema::read;

#[cfg(test)]
#[cfg(feature = "agent")]
#[path = "credentials_tests.rs"]
mod tests;
