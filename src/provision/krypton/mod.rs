//! SORACOM Krypton, cellular door: what is asked and how the answers read. No I/O.
//!
//! The caller is known by its SIM session, so requests carry no credentials. Sources: SORACOM's article on Krypton and Azure IoT Hub;
//! soracom/krypton-client-go (paths); the result classes of soracom-krypton-client-for-java (field names).
//!
//! - Azure: `POST …/azure/iot/register` gives an operation id; `GET …/azure/iot/registrations/<id>` is asked until the answer holds a
//!   certificate and a host. The words for "pending" are not documented, so any success without them is pending, except DPS's own
//!   words for the end: `failed` and `disabled`.
//! - AWS: `POST …/aws/iot/bootstrap` gives everything at once. Every call makes new credentials, so it is called once and the result
//!   is kept.
//!
//! Errors have the shape of all SORACOM APIs, `{"code": …, "message": …}`.

use serde::Deserialize;
use zeroize::Zeroizing;

pub mod door;

use std::time::Duration;

use super::operator::read_limited;
use super::{Asker, Failure, Grant, Material};
use crate::config::agent::KryptonConfig;
use crate::identity::{ClientId, redact_digits};
use crate::tls::TlsError;

/// Register a device at DPS.
pub const AZURE_REGISTER: &str = "/v1/provisioning/azure/iot/register";
/// Ask how the registration went; the operation id follows.
pub const AZURE_REGISTRATIONS: &str = "/v1/provisioning/azure/iot/registrations/";
/// Make a thing with certificate and key.
pub const AWS_BOOTSTRAP: &str = "/v1/provisioning/aws/iot/bootstrap";
/// Longest answer that is read, in bytes: three PEM texts are under 8 KiB.
pub const BODY_MAX: usize = 64 * 1024;
/// Longest excerpt of an unexpected answer in a message, in characters.
const EXCERPT: usize = 80;

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status code.
    pub status: u16,
    /// The body, at most [`BODY_MAX`] bytes.
    pub body: Vec<u8>,
}

/// Gets credentials.
///
/// # Errors
/// [`Failure`].
pub async fn provision(config: &KryptonConfig, asker: Asker<'_>) -> Result<Grant, Failure> {
    let ca_pem = config
        .ca_file
        .as_deref()
        .map(read_limited)
        .transpose()
        .map_err(|e| Failure {
            cause: e.to_string(),
            cure: "check credentials.ca_file".to_owned(),
            after: None,
        })?;
    let settings = door::Settings {
        cloud: config.cloud,
        url: config.url.clone(),
        address: config.address,
        ca_pem,
        within: config.patience.within,
        poll_every: config.patience.poll_every,
        polls_max: config.patience.polls_max,
    };
    let failure = |e: KryptonError| Failure {
        cause: e.to_string(),
        cure: e.cure().to_owned(),
        after: None,
    };
    door::fetch(&settings, asker.via, asker.clock).await.map_err(failure)
}

/// The longest that [`provision`] can take.
#[must_use]
pub fn longest(config: &KryptonConfig) -> Duration {
    (config.patience.within + config.patience.poll_every) * (config.patience.polls_max + 1)
}

/// Why Krypton gave no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KryptonError {
    /// It was not reached.
    #[error("Krypton was not reached: {0}")]
    Unreachable(String),
    /// It was reached, but TLS with it failed.
    #[error("Krypton was not reached: {what}")]
    Tls {
        /// The whole story.
        what: String,
        /// What to do.
        cure: String,
    },
    /// It says no.
    #[error("Krypton refuses (HTTP {status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// It is in trouble itself.
    #[error("Krypton is in trouble (HTTP {status}): {message}")]
    Trouble {
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The answer is not what Krypton sends.
    #[error("the answer is not Krypton's: {0}")]
    Nonsense(String),
    /// Azure's provisioning service ended the registration.
    #[error("the registration ended as {0:?}")]
    Ended(String),
    /// The registration did not end in time.
    #[error("the registration is still {status:?} after {tries} tries")]
    Pending {
        /// The last word.
        status: String,
        /// How often it was asked.
        tries: u32,
    },
    /// The granted parts cannot be used.
    #[error("the granted credentials cannot be used: {0}")]
    Unusable(#[from] TlsError),
}

impl KryptonError {
    /// What a person can do.
    #[must_use]
    pub fn cure(&self) -> &str {
        match self {
            Self::Tls { cure, .. } => cure,
            Self::Unreachable(_) => {
                "Krypton answers only over the SORACOM line: check that 100.127.0.0/16 is routed through the dongle (link.interface)"
            }
            Self::Refused { .. } => {
                "is this SIM in a group whose SORACOM Krypton settings are enabled, with valid Azure or AWS credentials?"
            }
            Self::Trouble { .. } => "nothing to do here: it is asked again later",
            Self::Nonsense(_) => {
                "something else answers in Krypton's place: check credentials.url, and for a captive portal on the line"
            }
            Self::Ended(_) => {
                "look at the enrolment in Azure's Device Provisioning Service: is it enabled, and allowed for this device?"
            }
            Self::Pending { .. } => {
                "Azure is slow, or the group's Krypton settings name a wrong DPS scope; it is asked again later"
            }
            Self::Unusable(_) => {
                "look at the certificate settings of the SIM group's Krypton configuration; it is asked again later"
            }
        }
    }
}

#[derive(Deserialize)]
struct Problem {
    code: Option<String>,
    message: Option<String>,
}

fn excerpt(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(EXCERPT)
        .collect();
    redact_digits(text.trim())
}

/// Takes the JSON out of a successful answer, or says what the answer was instead. Private keys never reach a message: only answers
/// that are not JSON objects are quoted, and of these the beginning.
fn json<'a, T: Deserialize<'a>>(reply: &'a Reply) -> Result<T, KryptonError> {
    let looks_like_json = reply.body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if !(200..300).contains(&reply.status) {
        let message = match serde_json::from_slice::<Problem>(&reply.body) {
            Ok(Problem { code, message }) if code.is_some() || message.is_some() => redact_digits(&format!(
                "{}: {}",
                code.as_deref().unwrap_or("no code"),
                message.as_deref().unwrap_or("no message")
            )),
            _ => excerpt(&reply.body),
        };
        let status = reply.status;
        return Err(if (400..500).contains(&status) && status != 408 && status != 429 {
            KryptonError::Refused { status, message }
        } else {
            KryptonError::Trouble { status, message }
        });
    }
    if !looks_like_json {
        return Err(KryptonError::Nonsense(if reply.body.is_empty() {
            "it is empty".to_owned()
        } else {
            format!("it begins with {:?}", excerpt(&reply.body))
        }));
    }
    serde_json::from_slice(&reply.body).map_err(|e| {
        KryptonError::Nonsense(if e.is_eof() {
            format!("the JSON is cut off after {} bytes", reply.body.len())
        } else {
            // serde_json quotes no values except scalars of a wrong type; a key is a string, never a wrong scalar.
            format!("the JSON does not fit: {e}")
        })
    })
}

/// An operation id that is safe in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationId(String);

impl OperationId {
    /// The path to ask.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{AZURE_REGISTRATIONS}{}", self.0)
    }
}

/// Reads the answer to register.
///
/// # Errors
/// [`KryptonError`].
pub fn azure_registered(reply: &Reply) -> Result<OperationId, KryptonError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Registered {
        operation_id: String,
    }
    let Registered { operation_id: id } = json(reply)?;
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~' | ':');
    if id.is_empty() || id.len() > 256 || !id.chars().all(safe) {
        return Err(KryptonError::Nonsense(format!(
            "the operation id {:?} cannot be asked for",
            excerpt(id.as_bytes())
        )));
    }
    Ok(OperationId(id))
}

/// How a registration stands.
#[derive(Debug)]
pub enum Registration {
    /// Not yet; with DPS's word for it.
    Pending(String),
    /// Done.
    Assigned(Grant),
}

/// Reads the answer about a registration.
///
/// # Errors
/// [`KryptonError`].
pub fn azure_registration(reply: &Reply) -> Result<Registration, KryptonError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        status: Option<String>,
        certificate: Option<String>,
        private_key: Option<Zeroizing<String>>,
        root_ca_certificate: Option<String>,
        device_id: Option<String>,
        host: Option<String>,
    }
    let s: Status = json(reply)?;
    let status = s.status.unwrap_or_default();
    match (s.certificate, s.private_key, s.host, s.device_id) {
        (Some(certificate_pem), Some(private_key_pem), Some(host), Some(device_id)) => {
            grant(host, device_id, certificate_pem, private_key_pem, s.root_ca_certificate).map(Registration::Assigned)
        }
        _ if matches!(status.as_str(), "failed" | "disabled") => Err(KryptonError::Ended(status)),
        _ if status == "assigned" => Err(KryptonError::Nonsense(
            "it says assigned, but certificate, privateKey, host or deviceId is missing".to_owned(),
        )),
        _ => Ok(Registration::Pending(status)),
    }
}

/// Reads the answer to bootstrap.
///
/// # Errors
/// [`KryptonError`].
pub fn aws_bootstrapped(reply: &Reply) -> Result<Grant, KryptonError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bootstrap {
        host: String,
        client_id: String,
        certificate: String,
        private_key: Zeroizing<String>,
        root_ca_certificate: Option<String>,
    }
    let b: Bootstrap = json(reply)?;
    grant(b.host, b.client_id, b.certificate, b.private_key, b.root_ca_certificate)
}

fn grant(
    host: String,
    client_id: String,
    certificate_pem: String,
    private_key_pem: Zeroizing<String>,
    root_ca_pem: Option<String>,
) -> Result<Grant, KryptonError> {
    if rustls_pki_types::ServerName::try_from(host.as_str()).is_err() {
        return Err(KryptonError::Nonsense(format!(
            "the host {:?} is no host name",
            excerpt(host.as_bytes())
        )));
    }
    let client_id = ClientId::new(client_id).map_err(|e| KryptonError::Nonsense(e.to_string()))?;
    let grant = Grant {
        host,
        client_id,
        material: Material::Issued {
            certificate_pem,
            private_key_pem,
        },
        root_ca_pem: root_ca_pem.filter(|pem| !pem.trim().is_empty()),
    };
    grant.check("Krypton's answer")?;
    Ok(grant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_articles_two_requests() {
        let id = azure_registered(&reply(200, r#"{"operationId":"5.50b3f-76fe_1","status":"assigning"}"#)).unwrap();
        assert_eq!(id.path(), "/v1/provisioning/azure/iot/registrations/5.50b3f-76fe_1");
        let r = azure_registration(&reply(202, r#"{"operationId":"x","status":"assigning"}"#)).unwrap();
        assert!(matches!(r, Registration::Pending(s) if s == "assigning"));
    }

    #[test]
    fn every_bad_answer_gets_its_own_words() {
        for (status, body, want) in [
            (
                403,
                r#"{"code":"SEM0001","message":"SIM is not in a group"}"#,
                "refuses (HTTP 403): SEM0001: SIM is not in a group",
            ),
            (404, "<html>not here</html>", "refuses (HTTP 404): <html>not here"),
            (500, "", "in trouble (HTTP 500)"),
            (
                429,
                r#"{"code":"X","message":"slow down"}"#,
                "in trouble (HTTP 429): X: slow down",
            ),
            (302, "", "in trouble (HTTP 302)"),
            (
                200,
                "<!DOCTYPE html><title>Wi-Fi login</title>",
                "begins with \"<!DOCTYPE html>",
            ),
            (200, "", "it is empty"),
            (200, r#"{"operationId":"5.5"#, "cut off after 19 bytes"),
            (200, r#"{"status":"assigning"}"#, "missing field `operationId`"),
            (200, r#"{"operationId":"../../evil?x"}"#, "cannot be asked for"),
            (200, r#"{"operationId":7}"#, "does not fit"),
        ] {
            let e = azure_registered(&reply(status, body)).unwrap_err();
            assert!(e.to_string().contains(want), "{want:?} is not in {e}");
            assert!(!e.cure().is_empty());
        }
        let ended = azure_registration(&reply(200, r#"{"status":"disabled"}"#)).unwrap_err();
        assert_eq!(ended, KryptonError::Ended("disabled".into()));
        let e = azure_registration(&reply(200, r#"{"status":"assigned","deviceId":"a"}"#)).unwrap_err();
        assert!(e.to_string().contains("is missing"));
    }

    #[test]
    fn secrets_and_subscribers_stay_out_of_messages() {
        let key = "-----BEGIN PRIVATE KEY-----SECRET";
        let e = aws_bootstrapped(&reply(
            200,
            &format!(r#"{{"privateKey":"{key}","host":"h","clientId":"c","certificate":"no"}}"#),
        ))
        .unwrap_err();
        assert!(!format!("{e} {e:?}").contains("SECRET"), "{e}");
        let e = azure_registered(&reply(403, r#"{"code":"X","message":"IMSI 295012345678901 unknown"}"#)).unwrap_err();
        assert!(!e.to_string().contains("295012345678901"), "{e}");
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_survived(status in 0u16..700, body: Vec<u8>) {
            let r = Reply { status, body };
            let _ = azure_registered(&r);
            let _ = azure_registration(&r);
            let _ = aws_bootstrapped(&r);
        }
    }
}
