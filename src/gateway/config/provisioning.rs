//! The door for devices that ask for credentials.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;

use super::SECOND;
use super::listen::{DEFAULT_NAME, ListenTls};
use crate::config::Section;
use crate::config::credentials::{DPS_HOST, DpsProtocol, DpsService, Patience, is_id_scope};
use crate::gateway::group::public;
use crate::identity::NameTemplate;

/// What SORACOM Krypton answers, from an authority of your own.
#[derive(Debug, Clone)]
pub struct ProvisioningConfig {
    /// Where to listen.
    pub address: SocketAddr,
    /// The door's own certificate and key, and how devices' certificates are judged; without them it speaks plain HTTP.
    pub tls: Option<ListenTls>,
    /// The folder of the authority that signs (`onyx-gateway ca init`).
    pub ca: PathBuf,
    /// How long a certificate lives, in days.
    pub days: u16,
    /// Certificates a subscriber may get in a day.
    pub per_day: u32,
    /// Azure, if it is served.
    pub azure: Option<AzureProvisioning>,
    /// AWS, if it is served.
    pub aws: Option<AwsProvisioning>,
}

/// Where devices of Azure belong.
#[derive(Debug, Clone)]
pub enum AzurePlace {
    /// All to one host: an IoT hub or an Event Grid namespace where the authority is registered.
    Host(String),
    /// Where the provisioning service says; its enrollment group has the authority.
    Dps {
        /// The service.
        service: DpsService,
        /// Authorities for the service; `None` trusts the system's.
        ca_file: Option<PathBuf>,
    },
}

/// Credentials for Azure.
#[derive(Debug, Clone)]
pub struct AzureProvisioning {
    /// The device id, which is the certificate's common name and DPS's registration id.
    pub device_id: NameTemplate,
    /// Where it belongs.
    pub place: AzurePlace,
    /// The authorities that the device is told to trust; `None` tells it none.
    pub root_ca_file: Option<PathBuf>,
}

/// Credentials for AWS, which registers them when the device first connects (just-in-time).
#[derive(Debug, Clone)]
pub struct AwsProvisioning {
    /// The account's data endpoint.
    pub host: String,
    /// Its region; by default the one in the host's name.
    pub region: String,
    /// The thing's name, which is the client id and the certificate's common name.
    pub thing_name: NameTemplate,
    /// The authorities that the device is told to trust; `None` tells it none.
    pub root_ca_file: Option<PathBuf>,
}

/// The name a device gets when nobody says otherwise; the one of SORACOM's Krypton article for IoT Hub.
const DEVICE_ID: &str = "myDevice-#{imsi}";
/// The same for a thing.
const THING_NAME: &str = "thing-#{imsi}";

pub(super) fn read(mut s: Section<'_, '_>) -> ProvisioningConfig {
    if !s.has("ca") {
        s.required_text("ca", "ca");
    }
    let azure = s.has("azure").then(|| azure(s.section("azure")));
    let aws = s.has("aws").then(|| aws(s.section("aws")));
    if azure.is_none() && aws.is_none() {
        s.mistake(
            "azure",
            "for which cloud? write a section [provisioning.azure] or [provisioning.aws]",
        );
    }
    let tls = match (s.file("certificate"), s.file("key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            s.mistake("certificate", "needs its key: write key = \"gateway.key\"");
            None
        }
        (None, Some(_)) => {
            s.mistake("key", "needs its certificate: write certificate = \"gateway.pem\"");
            None
        }
    };
    let client_ca = s.file("client_ca");
    if client_ca.is_some() && tls.is_none() {
        s.mistake(
            "client_ca",
            "certificates come with TLS only: set certificate and key too",
        );
    }
    let address = s.parsed("address").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8036)));
    let config = ProvisioningConfig {
        address,
        tls: tls.map(|(certificate, key)| ListenTls {
            address,
            certificate,
            key,
            client_ca,
            name: template(&mut s, "name", DEFAULT_NAME),
        }),
        ca: s.file("ca").unwrap_or_default(),
        days: s
            .number("days", 1..=3_650)
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(365),
        per_day: s
            .number("per_day", 1..=10_000)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(10),
        azure,
        aws,
    };
    s.finish();
    config
}

fn host(s: &mut Section<'_, '_>, key: &'static str) -> Option<String> {
    let host = s.text(key)?;
    if ServerName::try_from(host.as_str()).is_err() {
        s.mistake(
            key,
            format!("{:?} is neither a host name nor an IP address", public::host(&host)),
        );
    }
    Some(host)
}

fn template(s: &mut Section<'_, '_>, key: &'static str, default: &str) -> NameTemplate {
    let template = s
        .parsed(key)
        .unwrap_or_else(|| default.parse::<NameTemplate>().unwrap_or_default());
    if !template.is_individual() {
        s.mistake(
            key,
            "has no placeholder, so all devices would get one name: write for example \"device-#{imsi}\"",
        );
    }
    template
}

fn azure(mut s: Section<'_, '_>) -> AzureProvisioning {
    let place = if s.has("dps") {
        if s.has("host") {
            s.mistake(
                "host",
                "the provisioning service tells the host: remove either host or dps",
            );
            s.text("host");
        }
        dps(s.section("dps"))
    } else {
        if !s.has("host") {
            s.required_text("host", "my-hub.azure-devices.net");
        }
        AzurePlace::Host(host(&mut s, "host").unwrap_or_default())
    };
    let azure = AzureProvisioning {
        device_id: template(&mut s, "device_id", DEVICE_ID),
        place,
        root_ca_file: s.file("root_ca_file"),
    };
    s.finish();
    azure
}

fn dps(mut s: Section<'_, '_>) -> AzurePlace {
    let id_scope = s.required_text("id_scope", "0ne00111111");
    if s.has("id_scope") && !is_id_scope(&id_scope) {
        s.mistake(
            "id_scope",
            "holds other characters than letters and digits: copy it from the overview of the provisioning service",
        );
    }
    let place = AzurePlace::Dps {
        service: DpsService {
            protocol: DpsProtocol::Https,
            host: host(&mut s, "host").unwrap_or_else(|| DPS_HOST.to_owned()),
            address: s.parsed("address"),
            id_scope,
            csr: false,
            patience: Patience {
                within: s.duration("timeout", 10 * SECOND, SECOND..=60 * SECOND),
                poll_every: s.duration("poll", 2 * SECOND, Duration::from_millis(10)..=60 * SECOND),
                polls_max: 10,
            },
        },
        ca_file: s.file("ca_file"),
    };
    s.finish();
    place
}

fn aws(mut s: Section<'_, '_>) -> AwsProvisioning {
    if !s.has("host") {
        s.required_text("host", "a1b2c3d4e5f6g7-ats.iot.ap-northeast-1.amazonaws.com");
    }
    let host = host(&mut s, "host").unwrap_or_default();
    let region = s.text("region").or_else(|| region(&host)).unwrap_or_default();
    if region.is_empty() && !host.is_empty() {
        s.mistake(
            "region",
            format!(
                "is not told by {:?}: write for example region = \"ap-northeast-1\"",
                public::host(&host)
            ),
        );
    }
    let aws = AwsProvisioning {
        thing_name: template(&mut s, "thing_name", THING_NAME),
        root_ca_file: s.file("root_ca_file"),
        region,
        host,
    };
    s.finish();
    aws
}

/// The region in `PREFIX-ats.iot.REGION.amazonaws.com` (AWS IoT Core, "Device data endpoints").
fn region(host: &str) -> Option<String> {
    let mut parts = host.split('.').skip_while(|p| *p != "iot");
    parts.next()?;
    let region = parts.next()?;
    (parts.next()? == "amazonaws").then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::gateway::config::Config;

    fn read(provisioning: &str) -> Result<ProvisioningConfig, String> {
        let text = format!("[provisioning]\nca = 'ca'\n{provisioning}");
        let config = Config::from_text(Path::new("/etc/onyx/gateway.toml"), text).map_err(|e| e.to_string())?;
        Ok(config.provisioning.unwrap())
    }

    #[test]
    fn both_clouds_and_their_defaults() {
        let c = read(
            "[provisioning.azure]\nhost='h.azure-devices.net'\n[provisioning.aws]\nhost='x-ats.iot.eu-west-1.amazonaws.com'\n",
        )
        .unwrap();
        assert_eq!(
            (c.address.port(), c.days, c.per_day, c.tls.is_none()),
            (8036, 365, 10, true)
        );
        assert_eq!(c.ca, Path::new("/etc/onyx/ca"));
        assert_eq!(c.aws.unwrap().region, "eu-west-1");
        let azure = c.azure.unwrap();
        assert_eq!(azure.device_id.source(), DEVICE_ID);
        assert!(matches!(azure.place, AzurePlace::Host(h) if h == "h.azure-devices.net"));
        let c = read("[provisioning.azure.dps]\nid_scope='0ne1'\n").unwrap();
        assert!(matches!(c.azure.unwrap().place, AzurePlace::Dps { service, .. } if service.host == DPS_HOST));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, why) in [
            ("", "for which cloud?"),
            ("[provisioning.azure]\n", "azure.host: is missing"),
            (
                "[provisioning.azure]\nhost='h'\ndevice_id='one'\n",
                "all devices would get one name",
            ),
            (
                "[provisioning.azure]\nhost='h'\n[provisioning.azure.dps]\nid_scope='0ne'\n",
                "remove either host or dps",
            ),
            ("[provisioning.azure.dps]\nid_scope='a/b'\n", "letters and digits"),
            (
                "[provisioning.aws]\nhost='broker.example'\n",
                "aws.region: is not told by",
            ),
            (
                "certificate='c'\n[provisioning.aws]\nhost='broker.example'\nregion='r'\n",
                "needs its key",
            ),
            ("client_ca='c'\n[provisioning.azure]\nhost='h'\n", "come with TLS only"),
        ] {
            let e = read(text).unwrap_err();
            assert!(e.contains(why), "{e} should say {why:?}");
        }
    }
}
