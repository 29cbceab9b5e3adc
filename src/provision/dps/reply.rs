//! What DPS answers, on either protocol, read into what it means. No I/O.
//!
//! Over HTTPS an answer has a status, `Retry-After` and a body; over MQTT the first two are in the topic,
//! `$dps/registrations/res/{status}/?$rid={rid}&retry-after={seconds}`, whose properties come in either order (azure-sdk-for-c tests
//! both). The bodies are the same.
//!
//! | status | body | meaning |
//! |---|---|---|
//! | 202 | `assigning`, `unassigned`, or no word | not yet: ask again with the operation id |
//! | 200 | `assigned` with `assignedHub` and `deviceId` | done |
//! | 200 | `failed` with `errorCode`, `errorMessage` | refused: e.g. no hub is linked |
//! | 200 | `disabled` | refused: the enrolment is disabled |
//! | 408, 429, 5xx | `errorCode` or `code`, `message` or `errorMessage` | trouble: try again |
//! | other 4xx | the same | refused |
//!
//! `unassigned` goes on like `assigning`, as in Microsoft's clients (azure-sdk-for-c: complete is what comes after `assigning`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::error::{DpsError, Said};
use super::name::RegistrationId;
use crate::identity::{ClientId, redact_digits};

/// Largest answer that is read, in bytes: DPS's own limit for a message is 96 KB (DPS documentation, quotas), and a chain of three
/// certificates has under 16.
pub const BODY_MAX: usize = 128 * 1024;
/// Longest quotation of an answer in a message, in characters.
const EXCERPT: usize = 160;
/// Longest operation id, in characters; those seen have 55.
const OPERATION_MAX: usize = 256;
/// Where answers come over MQTT; status and properties follow.
pub const ANSWERS: &str = "$dps/registrations/res/";

/// An answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status, on either protocol.
    pub status: u16,
    /// When to come again.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply({}, {} bytes)", self.status, self.body.len())
    }
}

/// An operation id that is safe in a path and in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationId(String);

impl OperationId {
    fn read(text: &str) -> Result<Self, DpsError> {
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && text.len() <= OPERATION_MAX && text.chars().all(safe) {
            Ok(Self(text.to_owned()))
        } else {
            let shown = excerpt(text.as_bytes());
            Err(DpsError::Nonsense(format!(
                "the operation id {shown:?} cannot be asked for"
            )))
        }
    }

    /// As it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a device belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Host name of the IoT hub.
    pub hub: String,
    /// The device id there.
    pub device_id: ClientId,
    /// `initialAssignment`, `deviceDataMigrated`, `deviceDataReset`, or nothing.
    pub substatus: String,
    /// The certificates that were issued, as they came.
    pub issued: Vec<String>,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Not yet.
    Pending {
        /// What to ask for; an answer may leave it out.
        operation: Option<OperationId>,
        /// The service's word.
        status: String,
    },
    /// Done.
    Assigned(Box<Assigned>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    operation_id: Option<String>,
    status: Option<String>,
    registration_state: Option<State>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    registration_id: Option<String>,
    status: Option<String>,
    substatus: Option<String>,
    assigned_hub: Option<String>,
    device_id: Option<String>,
    error_code: Option<Value>,
    error_message: Option<String>,
    issued_certificate_chain: Option<Vec<String>>,
}

/// Both spellings are read, as iot-identity-service does.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Problem {
    error_code: Option<Value>,
    code: Option<Value>,
    message: Option<String>,
    error_message: Option<String>,
    tracking_id: Option<String>,
}

fn number(value: Option<Value>) -> Option<u32> {
    match value? {
        Value::Number(n) => n.as_u64().and_then(|n| u32::try_from(n).ok()),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    }
}

fn excerpt(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(EXCERPT)
        .collect();
    redact_digits(text.trim())
}

/// The body of an error, or the beginning of what is none.
fn said(body: &[u8]) -> Said {
    let read: Option<Problem> = serde_json::from_slice(body).ok();
    let read = read.unwrap_or_default();
    let short = |text: String| excerpt(text.as_bytes());
    let code = number(read.error_code).or_else(|| number(read.code));
    let message = read.message.or(read.error_message).map(short).filter(|m| !m.is_empty());
    let fallback = || Some(excerpt(body)).filter(|e| !e.is_empty() && code.is_none());
    Said {
        message: message.or_else(fallback),
        code,
        tracking_id: read.tracking_id.map(short).filter(|t| !t.is_empty()),
    }
}

fn nonsense<T>(why: impl Into<String>) -> Result<T, DpsError> {
    Err(DpsError::Nonsense(why.into()))
}

impl Reply {
    /// The status and the body of a message that answers the request `rid`; `None`: it answers another.
    ///
    /// # Errors
    /// [`DpsError::Nonsense`] for a topic that is no answer's.
    pub fn from_mqtt(topic: &str, payload: &[u8], rid: u32) -> Result<Option<Self>, DpsError> {
        let bad = || {
            let topic = excerpt(topic.as_bytes());
            DpsError::Nonsense(format!("the topic {topic:?} is no answer's"))
        };
        let (status, query) = topic
            .strip_prefix(ANSWERS)
            .and_then(|rest| rest.split_once("/?"))
            .ok_or_else(bad)?;
        let digits = status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit());
        let status = status.parse().ok().filter(|_| digits).ok_or_else(bad)?;
        let property = |key: &str| query.split('&').find_map(|p| p.strip_prefix(key)?.strip_prefix('='));
        if property("$rid") != Some(rid.to_string().as_str()) {
            return Ok(None);
        }
        Ok(Some(Self {
            status,
            retry_after: property("retry-after")
                .and_then(|s| s.parse().ok())
                .map(Duration::from_secs),
            body: payload.to_vec(),
        }))
    }

    /// What it means for the device `id`.
    ///
    /// # Errors
    /// [`DpsError`].
    pub fn meaning(&self, id: &RegistrationId) -> Result<Meaning, DpsError> {
        let status = self.status;
        match status {
            200..=299 => self.success(id),
            408 | 429 | 500..=599 => Err(DpsError::Trouble {
                status,
                said: said(&self.body),
                after: self.retry_after,
            }),
            400..=499 => Err(DpsError::Refused {
                status,
                said: said(&self.body),
            }),
            300..=399 => nonsense(format!("it leads elsewhere (HTTP {status})")),
            _ => nonsense(format!("there is no status {status}")),
        }
    }

    fn success(&self, id: &RegistrationId) -> Result<Meaning, DpsError> {
        let begins_well = self.body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
        if !begins_well {
            return nonsense(if self.body.is_empty() {
                "it is empty".to_owned()
            } else {
                format!("it begins with {:?}", excerpt(&self.body))
            });
        }
        let body: Body = serde_json::from_slice(&self.body).map_err(|e| {
            DpsError::Nonsense(if e.is_eof() {
                format!("the JSON is cut off after {} bytes", self.body.len())
            } else {
                // What it quotes are scalars of a wrong type.
                format!("the JSON does not fit: {}", excerpt(e.to_string().as_bytes()))
            })
        })?;
        let state = body.registration_state.unwrap_or_default();
        // A disabled enrolment answers with an empty id.
        let operation = body.operation_id.filter(|o| !o.is_empty());
        let operation = operation.map(|o| OperationId::read(&o)).transpose()?;
        let word = body.status.or_else(|| state.status.clone());
        if let Some(other) = state.registration_id.as_ref().filter(|other| !id.is(other)) {
            let other = excerpt(other.as_bytes());
            return nonsense(format!("it is about another device, {other:?}"));
        }
        match word.as_deref() {
            Some("assigned") => assigned(state).map(|a| Meaning::Assigned(Box::new(a))),
            Some("failed") => Err(DpsError::Failed(Said {
                code: number(state.error_code),
                message: state.error_message.map(|m| excerpt(m.as_bytes())),
                tracking_id: None,
            })),
            Some("disabled") => Err(DpsError::Disabled),
            Some(word @ ("assigning" | "unassigned")) => Ok(Meaning::Pending {
                operation,
                status: word.to_owned(),
            }),
            // A word that is not known yet, or none, means what the status means.
            word if self.status == 202 => Ok(Meaning::Pending {
                operation,
                status: excerpt(word.unwrap_or("assigning").as_bytes()),
            }),
            Some(word) => nonsense(format!("{:?} is no end of a registration", excerpt(word.as_bytes()))),
            None => nonsense("it says nothing of the registration's status"),
        }
    }
}

fn assigned(state: State) -> Result<Assigned, DpsError> {
    let (Some(hub), Some(device_id)) = (state.assigned_hub, state.device_id) else {
        return nonsense("it says assigned, but assignedHub or deviceId is missing");
    };
    if rustls_pki_types::ServerName::try_from(hub.as_str()).is_err() {
        let hub = excerpt(hub.as_bytes());
        return nonsense(format!("the hub {hub:?} is no host name"));
    }
    Ok(Assigned {
        device_id: ClientId::new(device_id).map_err(|e| DpsError::Nonsense(e.to_string()))?,
        hub,
        substatus: excerpt(state.substatus.unwrap_or_default().as_bytes()),
        issued: state.issued_certificate_chain.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
