//! The section `[credentials]` of `agent.toml`: where a key and a certificate come from, and how they are kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::reader::Section;
use crate::cloud::Kind;
use crate::identity::NameTemplate;

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

/// SORACOM Krypton's cellular endpoint (SORACOM's article on Krypton and Azure IoT Hub).
pub const KRYPTON_URL: &str = "https://krypton.soracom.io:8036";
/// SORACOM's API endpoint of global coverage, where Krypton takes requests signed by the SIM (soracom/krypton-client-go,
/// `krypton/client.go`); Japan coverage is `https://api.soracom.io`.
pub const SORACOM_API_URL: &str = "https://g.api.soracom.io";
/// Azure DPS's global endpoint (Microsoft, "Device Provisioning Service", HTTPS and MQTT pages).
pub const DPS_HOST: &str = "global.azure-devices-provisioning.net";
/// Largest number of parameters that are sent with a request for credentials.
const PARAMETERS_MAX: usize = 32;

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

/// `[credentials]` with `source = "dps"`.
#[derive(Debug, Clone)]
pub struct DpsConfig {
    /// HTTPS or MQTT.
    pub protocol: DpsProtocol,
    /// The service's host.
    pub host: String,
    /// Dial this instead of resolving the host.
    pub address: Option<SocketAddr>,
    /// Authorities for the service; `None` trusts the system's.
    pub ca_file: Option<PathBuf>,
    /// ID scope, e.g. `0ne00111111`.
    pub id_scope: String,
    /// Registration id; `None` takes the certificate's common name.
    pub registration_id: Option<NameTemplate>,
    /// The certificate and key that attest who we are.
    pub files: Files,
    /// Ask for an operational certificate by a signing request (DPS preview 2025-07-01).
    pub csr: bool,
    /// Limits.
    pub patience: Patience,
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

#[derive(Clone, Copy)]
enum SourceWord {
    None,
    Files,
    Azure,
    Aws,
    Dps,
    Fleet,
}

/// Reads the section; the other half of the answer is how they are kept.
pub(super) fn read(s: &mut Section<'_, '_>) -> (Option<CredentialsConfig>, KeepConfig) {
    s.required_text("source", "krypton-azure");
    let word = s.choice(
        "source",
        SourceWord::None,
        &[
            ("none", SourceWord::None),
            ("files", SourceWord::Files),
            ("krypton-azure", SourceWord::Azure),
            ("krypton-aws", SourceWord::Aws),
            ("dps", SourceWord::Dps),
            ("aws-fleet", SourceWord::Fleet),
        ],
    );
    let config = match word {
        SourceWord::None => return (Some(CredentialsConfig::None), KeepConfig::default()),
        SourceWord::Files => {
            let files = files(s, "/etc/onyx/myClient-#{imsi}.pem", "/etc/onyx/myClient-#{imsi}.key");
            return (files.map(CredentialsConfig::Files), KeepConfig::default());
        }
        SourceWord::Azure => krypton(s, KryptonCloud::Azure).map(CredentialsConfig::Krypton),
        SourceWord::Aws => krypton(s, KryptonCloud::Aws).map(CredentialsConfig::Krypton),
        SourceWord::Dps => dps(s).map(CredentialsConfig::Dps),
        SourceWord::Fleet => fleet(s).map(CredentialsConfig::Fleet),
    };
    (config, keep(s))
}

fn keep(s: &mut Section<'_, '_>) -> KeepConfig {
    let encrypt_with = s.text("encrypt_with");
    // A systemd credential is a file's name (systemd.exec(5), LoadCredential=).
    let is_name = |n: &String| !n.is_empty() && n.len() <= 255 && n != "." && n != ".." && !n.contains('/');
    if encrypt_with.as_ref().is_some_and(|n| !is_name(n)) {
        s.mistake(
            "encrypt_with",
            "is no name of a systemd credential: write for example \"onyx-store-key\", as in LoadCredentialEncrypted=",
        );
    }
    KeepConfig {
        renew_at: s
            .number("renew_at", 10..=95)
            .and_then(|n| u8::try_from(n).ok())
            .unwrap_or(RENEW_AT),
        encrypt_with,
    }
}

fn files(s: &mut Section<'_, '_>, certificate: &str, key: &str) -> Option<Files> {
    s.required_text("certificate", certificate);
    s.required_text("key", key);
    let (certificate, key) = (s.file_template("certificate"), s.file_template("key"));
    Some(Files {
        certificate: certificate?,
        key: key?,
    })
}

fn patience(s: &mut Section<'_, '_>) -> Patience {
    Patience {
        within: timeout(s),
        poll_every: s.duration("poll", S(2), MS(10)..=S(60)),
        polls_max: s
            .number("polls_max", 1..=1_000)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(30),
    }
}

fn timeout(s: &mut Section<'_, '_>) -> Duration {
    s.duration("timeout", S(30), MS(100)..=S(300))
}

fn parameters(s: &mut Section<'_, '_>) -> BTreeMap<String, NameTemplate> {
    let map = s.templates("parameters");
    if map.len() > PARAMETERS_MAX {
        s.mistake("parameters", format!("holds more than {PARAMETERS_MAX}"));
    }
    map
}

fn krypton(s: &mut Section<'_, '_>, cloud: KryptonCloud) -> Option<KryptonConfig> {
    let auth = s.choice(
        "auth",
        KryptonAuth::Cellular,
        &[("cellular", KryptonAuth::Cellular), ("sim", KryptonAuth::Sim)],
    );
    let default = match auth {
        KryptonAuth::Cellular => KRYPTON_URL,
        KryptonAuth::Sim => SORACOM_API_URL,
    };
    let text = s.text("url").unwrap_or_else(|| default.to_owned());
    let url = Url::parse(&text)
        .ok()
        .filter(|u| u.scheme() == "https" && u.host_str().is_some());
    if url.is_none() {
        s.mistake(
            "url",
            format!("{text:?} is not an https address: write for example {default:?}"),
        );
    }
    Some(KryptonConfig {
        cloud,
        auth,
        address: s.parsed("address"),
        ca_file: s.file("ca_file"),
        parameters: parameters(s),
        patience: patience(s),
        url: url?,
    })
}

fn dps(s: &mut Section<'_, '_>) -> Option<DpsConfig> {
    let protocol = s.choice(
        "protocol",
        DpsProtocol::Https,
        &[("https", DpsProtocol::Https), ("mqtt", DpsProtocol::Mqtt)],
    );
    let host = s.text("host").unwrap_or_else(|| DPS_HOST.to_owned());
    if rustls_pki_types::ServerName::try_from(host.as_str()).is_err() {
        s.mistake("host", "is neither a host name nor an IP address");
    }
    let id_scope = s.required_text("id_scope", "0ne00111111");
    // Goes into a path and into an MQTT user name, between slashes.
    if !id_scope.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        s.mistake(
            "id_scope",
            "holds other characters than letters and digits: copy it from the overview of the provisioning service",
        );
    }
    let files = files(s, "/etc/onyx/myClient-#{imsi}.pem", "/etc/onyx/myClient-#{imsi}.key");
    Some(DpsConfig {
        protocol,
        host,
        address: s.parsed("address"),
        ca_file: s.file("ca_file"),
        id_scope,
        registration_id: s.parsed("registration_id"),
        csr: s.boolean("csr", false),
        patience: patience(s),
        files: files?,
    })
}

fn fleet(s: &mut Section<'_, '_>) -> Option<FleetConfig> {
    let template = s.required_text("template", "MyFleetTemplate");
    // templateName of CreateProvisioningTemplate (AWS IoT API reference): 1 to 36 of these; it goes into a topic.
    let is_name = |t: &str| t.len() <= 36 && t.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if !is_name(&template) {
        s.mistake(
            "template",
            "is no name of a provisioning template: 1 to 36 letters, digits, - and _",
        );
    }
    let claim = files(s, "/etc/onyx/claim.pem", "/etc/onyx/claim.key");
    let mut parameters = parameters(s);
    if !s.has("parameters") {
        parameters.extend("#{imei}".parse().ok().map(|t| ("SerialNumber".to_owned(), t)));
    }
    Some(FleetConfig {
        template,
        claim: claim?,
        parameters,
        within: timeout(s),
    })
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
