//! What Krypton can be asked for, and how at each door. No I/O.
//!
//! | operation | path below `/v1/provisioning` | cellular door | internet door |
//! |---|---|---|---|
//! | AWS thing | `aws/iot/bootstrap` | POST, empty or `{"requestParameters"}` | POST, signed |
//! | its certificate | `aws/iot/certificates/{id}` | POST | POST, signed (inferred) |
//! | AWS's root | `aws/iot/ca_certificate` | POST | POST, signed (inferred) |
//! | Azure registration | `azure/iot/register` | POST | POST, signed |
//! | how it went | `azure/iot/registrations/{id}` | **GET** | **POST**, signed |
//! | Azure, in one request | `azure/iot/bootstrap` | not known | POST, signed (Java client) |
//! | Cognito credentials | `aws/cognito/credentials` | POST | POST, signed |
//! | Cognito token | `aws/cognito/open_id_tokens` | POST | POST, signed |
//! | Inventory | `soracom/inventory/bootstrap` | POST | POST, signed |
//! | Arc | `soracom/arc/bootstrap` | POST `{}` | POST, signed |
//! | subscriber metadata | `soracom/air/subscriber_metadata` | – | POST, signed |
//! | userdata | `soracom/air/userdata` | – | POST, signed |
//!
//! Sources: krypton-client-go `operations.go`, `ProvisioningApiEndpoint.java`, SORACOM's article on Krypton and IoT Hub, soratun. Signed
//! bodies have the shape of the Go client: `{"keyId","requestParameters"}`, the latter null where nothing is asked for and left out by
//! the AWS operations and Azure's status; Inventory's `endpoint` stands beside `keyId`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::error::KryptonError;
use super::segment::Segment;
use crate::identity::redact_digits;
use crate::provision::keys::Key;

const ROOT: &str = "/v1/provisioning";
/// `thingName` has at most so many characters of `[A-Za-z0-9:_-]` (AWS IoT, CreateThing).
const THING_NAME_MAX: usize = 128;
/// Parameters that are true or false; all others are text (`BootstrapAzureDeviceParams.java`; the nRF sample for `skipCertificates`).
const BOOLEANS: [&str; 2] = [SKIP_CERTIFICATES, "registerDevice"];
/// AWS: the certificates are fetched one by one.
const SKIP_CERTIFICATES: &str = "skipCertificates";

/// `requestParameters`: they win over the settings of the SIM's group.
#[derive(Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Parameters(BTreeMap<String, Value>);

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Their texts name the subscriber.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Parameters {
    /// Checks parameters.
    ///
    /// # Errors
    /// [`KryptonError::Parameter`], naming it.
    pub fn new(given: impl IntoIterator<Item = (String, String)>) -> Result<Self, KryptonError> {
        let wrong = |what: String| Err(KryptonError::Parameter(redact_digits(&what)));
        let mut map = BTreeMap::new();
        for (name, text) in given {
            let value = match text.as_str() {
                "true" if BOOLEANS.contains(&name.as_str()) => Value::Bool(true),
                "false" if BOOLEANS.contains(&name.as_str()) => Value::Bool(false),
                _ if BOOLEANS.contains(&name.as_str()) => {
                    return wrong(format!("the parameter {name} is {text:?}: it must be true or false"));
                }
                _ if name == "thingName" && !is_thing_name(&text) => {
                    return wrong(format!(
                        "the parameter thingName is {text:?}: it must have 1 to {THING_NAME_MAX} letters, digits, ':', '_' and '-'"
                    ));
                }
                _ => Value::String(text),
            };
            if name.is_empty() {
                return wrong("a parameter has no name".to_owned());
            }
            map.insert(name, value);
        }
        Ok(Self(map))
    }

    /// Asks AWS's bootstrap for an answer without certificates.
    pub fn skip_certificates(&mut self) {
        self.0.insert(SKIP_CERTIFICATES.to_owned(), Value::Bool(true));
    }

    fn some(&self) -> Option<&Self> {
        (!self.0.is_empty()).then_some(self)
    }
}

fn is_thing_name(text: &str) -> bool {
    (1..=THING_NAME_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'-'))
}

/// What can be asked for; names are those of SORACOM's clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// bootstrapAwsIotThing. Every call makes new credentials.
    BootstrapAwsIotThing(Parameters),
    /// A certificate that the bootstrap has left out.
    AwsCertificate(Segment),
    /// AWS's root certificate.
    AwsCaCertificate,
    /// registerAzureIotDevice.
    RegisterAzureIotDevice(Parameters),
    /// getAzureIotDeviceRegistrationStatus.
    AzureRegistration(Segment),
    /// bootstrapAzureIotDevice, which an older client has: register and wait in one request.
    BootstrapAzureIotDevice(Parameters),
    /// generateAmazonCognitoSessionCredentials.
    CognitoCredentials,
    /// generateAmazonCognitoOpenIdToken.
    CognitoToken,
    /// bootstrapInventoryDevice, with the device's own name.
    BootstrapInventoryDevice(Option<String>),
    /// bootstrapArc.
    BootstrapArc,
    /// getSubscriberMetadata.
    SubscriberMetadata,
    /// getUserdata.
    Userdata,
}

/// The two methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET, without a body.
    Get,
    /// POST, with a body that may be empty.
    Post,
}

/// An HTTP request, except for what all have in common (`Content-Type: application/json` with POST, `X-Soracom-Lang: en`).
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// GET or POST.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The very bytes of the body.
    pub body: Vec<u8>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // IMSI, RES, a key's name and signatures are in the rest.
        write!(f, "Request({:?}, {} bytes)", self.method, self.body.len())
    }
}

/// The fields of a body; the order does not matter to SORACOM, which sees the bytes signed.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    /// `Some(None)` is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_parameters: Option<Option<&'a Parameters>>,
}

impl Body<'_> {
    fn bytes(&self) -> Vec<u8> {
        // Strings and booleans: serialising them cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Operation {
    /// The path, the same at both doors.
    #[must_use]
    pub fn path(&self) -> String {
        let rest = match self {
            Self::BootstrapAwsIotThing(_) => "aws/iot/bootstrap",
            Self::AwsCertificate(id) => return format!("{ROOT}/aws/iot/certificates/{id}"),
            Self::AwsCaCertificate => "aws/iot/ca_certificate",
            Self::RegisterAzureIotDevice(_) => "azure/iot/register",
            Self::AzureRegistration(id) => return format!("{ROOT}/azure/iot/registrations/{id}"),
            Self::BootstrapAzureIotDevice(_) => "azure/iot/bootstrap",
            Self::CognitoCredentials => "aws/cognito/credentials",
            Self::CognitoToken => "aws/cognito/open_id_tokens",
            Self::BootstrapInventoryDevice(_) => "soracom/inventory/bootstrap",
            Self::BootstrapArc => "soracom/arc/bootstrap",
            Self::SubscriberMetadata => "soracom/air/subscriber_metadata",
            Self::Userdata => "soracom/air/userdata",
        };
        format!("{ROOT}/{rest}")
    }

    fn parameters(&self) -> Option<&Parameters> {
        match self {
            Self::BootstrapAwsIotThing(p) | Self::RegisterAzureIotDevice(p) | Self::BootstrapAzureIotDevice(p) => {
                p.some()
            }
            _ => None,
        }
    }

    fn endpoint(&self) -> Option<&str> {
        match self {
            Self::BootstrapInventoryDevice(name) => name.as_deref(),
            _ => None,
        }
    }

    /// The request at the cellular door, which knows its caller by the SIM's session.
    ///
    /// # Errors
    /// [`KryptonError::InternetOnly`].
    pub fn cellular(&self) -> Result<Request, KryptonError> {
        let method = match self {
            Self::AzureRegistration(_) => Method::Get,
            Self::BootstrapAzureIotDevice(_) => {
                return Err(KryptonError::InternetOnly("Azure bootstrap in one request"));
            }
            Self::SubscriberMetadata => return Err(KryptonError::InternetOnly("subscriber metadata")),
            Self::Userdata => return Err(KryptonError::InternetOnly("userdata")),
            _ => Method::Post,
        };
        let body = match (self, self.parameters(), self.endpoint()) {
            (Self::BootstrapArc, ..) => b"{}".to_vec(),
            (_, None, None) => Vec::new(),
            (_, parameters, endpoint) => Body {
                key_id: None,
                endpoint,
                request_parameters: parameters.map(Some),
            }
            .bytes(),
        };
        Ok(Request {
            method,
            path: self.path(),
            body,
            headers: Vec::new(),
        })
    }

    /// The request at the internet door, signed at this time since the Unix epoch.
    #[must_use]
    pub fn signed(&self, key: &Key, now: Duration) -> Request {
        let parameters = self.parameters();
        let null_is_said = !matches!(
            self,
            Self::BootstrapAwsIotThing(_)
                | Self::AwsCertificate(_)
                | Self::AwsCaCertificate
                | Self::AzureRegistration(_)
        );
        let body = Body {
            key_id: Some(key.id()),
            endpoint: self.endpoint(),
            request_parameters: (null_is_said || parameters.is_some()).then_some(parameters),
        }
        .bytes();
        let headers = key.sign(&body, now).into();
        Request {
            method: Method::Post,
            path: self.path(),
            body,
            headers,
        }
    }
}
