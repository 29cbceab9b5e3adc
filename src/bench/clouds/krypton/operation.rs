//! Which operation is where: the table of paths, which are the same at both doors, with the method that each door takes.

use super::denied::Denied;
use crate::bench::clouds::policy::krypton::{METHOD, PATH};

/// What can be asked for. Names are those of SORACOM's clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    BootstrapAwsIotThing,
    /// One certificate, for those who skipped it.
    AwsCertificate(String),
    AwsCaCertificate,
    RegisterAzureIotDevice,
    GetAzureIotDeviceRegistrationStatus(String),
    /// Of an older Java client: registers and waits in one go.
    BootstrapAzureIotDevice,
    CognitoSessionCredentials,
    CognitoOpenIdToken,
    BootstrapInventoryDevice,
    BootstrapArc,
    SubscriberMetadata,
    Userdata,
}

/// How the caller came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Over the SIM's session.
    Cellular,
    /// Over the internet, with a signature.
    Internet,
}

/// A row: the path after `/v1/provisioning/`, with `*` for one segment, and the methods at the cellular and the internet door.
type Row = (&'static str, Option<&'static str>, Option<&'static str>);

const POST: Option<&str> = Some("POST");
const GET: Option<&str> = Some("GET");

/// Sources: SORACOM's Go and Java clients for the internet door; articles, nRF samples and soratun for the cellular one. That the two AWS
/// certificate paths exist at the internet door is inferred; Azure's bootstrap is known from the Java client alone.
const TABLE: [Row; 12] = [
    ("aws/iot/bootstrap", POST, POST),
    ("aws/iot/certificates/*", POST, POST),
    ("aws/iot/ca_certificate", POST, POST),
    ("azure/iot/register", POST, POST),
    ("azure/iot/registrations/*", GET, POST),
    ("azure/iot/bootstrap", None, POST),
    ("aws/cognito/credentials", POST, POST),
    ("aws/cognito/open_id_tokens", POST, POST),
    ("soracom/inventory/bootstrap", POST, POST),
    ("soracom/arc/bootstrap", POST, POST),
    ("soracom/air/subscriber_metadata", None, POST),
    ("soracom/air/userdata", None, POST),
];

impl Operation {
    /// The operation behind a path.
    ///
    /// # Errors
    /// When there is none at this door, or it wants another method.
    pub(crate) fn find(entry: Entry, method: &str, path: &str) -> Result<Self, Denied> {
        let nothing = || Denied::new(&PATH, format!("there is no {path} here"));
        let rest = path.strip_prefix("/v1/provisioning/").ok_or_else(nothing)?;
        let (row, id) = TABLE
            .iter()
            .find_map(|row| matches(row.0, rest).map(|id| (row, id)))
            .ok_or_else(nothing)?;
        let wanted = match entry {
            Entry::Cellular => row.1,
            Entry::Internet => row.2,
        };
        let wanted = wanted.ok_or_else(nothing)?;
        if method != wanted {
            return Err(Denied::new(&METHOD, format!("{path} takes {wanted}, not {method}")));
        }
        Ok(match row.0 {
            "aws/iot/bootstrap" => Self::BootstrapAwsIotThing,
            "aws/iot/certificates/*" => Self::AwsCertificate(id.to_owned()),
            "aws/iot/ca_certificate" => Self::AwsCaCertificate,
            "azure/iot/register" => Self::RegisterAzureIotDevice,
            "azure/iot/registrations/*" => Self::GetAzureIotDeviceRegistrationStatus(id.to_owned()),
            "azure/iot/bootstrap" => Self::BootstrapAzureIotDevice,
            "aws/cognito/credentials" => Self::CognitoSessionCredentials,
            "aws/cognito/open_id_tokens" => Self::CognitoOpenIdToken,
            "soracom/inventory/bootstrap" => Self::BootstrapInventoryDevice,
            "soracom/arc/bootstrap" => Self::BootstrapArc,
            "soracom/air/subscriber_metadata" => Self::SubscriberMetadata,
            "soracom/air/userdata" => Self::Userdata,
            _ => return Err(nothing()),
        })
    }

    /// The part of the group's Krypton configuration that it needs.
    pub(super) fn service(&self) -> Option<Service> {
        match self {
            Self::BootstrapAwsIotThing | Self::AwsCertificate(_) | Self::AwsCaCertificate => Some(Service::Aws),
            Self::RegisterAzureIotDevice
            | Self::GetAzureIotDeviceRegistrationStatus(_)
            | Self::BootstrapAzureIotDevice => Some(Service::Azure),
            Self::CognitoSessionCredentials | Self::CognitoOpenIdToken => Some(Service::Cognito),
            Self::BootstrapInventoryDevice => Some(Service::Inventory),
            Self::BootstrapArc => Some(Service::Arc),
            Self::SubscriberMetadata | Self::Userdata => None,
        }
    }
}

/// The segment that stands for `*` (empty when there is none), if the path fits.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    match pattern.strip_suffix('*') {
        None => (pattern == path).then_some(""),
        Some(prefix) => path
            .strip_prefix(prefix)
            .filter(|id| !id.is_empty() && !id.contains('/')),
    }
}

/// What a group's Krypton configuration can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// AWS IoT.
    Aws,
    /// Azure IoT.
    Azure,
    /// Amazon Cognito.
    Cognito,
    /// SORACOM Inventory.
    Inventory,
    /// SORACOM Arc.
    Arc,
}

impl Service {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Aws, Self::Azure, Self::Cognito, Self::Inventory, Self::Arc];

    /// The name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Cognito => "cognito",
            Self::Inventory => "inventory",
            Self::Arc => "arc",
        }
    }
}

impl std::str::FromStr for Service {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|s| s.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is none of aws, azure, cognito, inventory, arc"))
    }
}
