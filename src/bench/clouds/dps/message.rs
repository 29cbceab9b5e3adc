//! What a device sends and what it is answered, as JSON.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::name::RegistrationId;
use super::text::utc;
use crate::bench::clouds::policy::Refusal;
use crate::bench::clouds::policy::dps::{self as rules, BODY_MAX, Fault};

/// A good answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// 200 or 202.
    pub status: u16,
    /// The JSON body.
    pub body: Value,
    /// When to come again, in seconds.
    pub retry_after: Option<u64>,
    /// A rule that was broken although the status is 200: disabled, failed.
    pub broken: Option<Refusal>,
}

/// The error body of the service.
#[must_use]
pub fn fault_body(fault: &Fault, tracking_id: &str, wall: Duration) -> Value {
    json!({
        "errorCode": fault.code,
        "trackingId": tracking_id,
        "message": fault.message,
        "timestampUtc": utc(wall),
    })
}

/// What a device asks for when it registers.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Register {
    /// Whom for; must be the caller.
    #[serde(default)]
    pub registration_id: Option<String>,
    /// For the allocation.
    #[serde(default)]
    pub payload: Option<Value>,
    /// A signing request, base64 of DER.
    #[serde(default)]
    pub csr: Option<String>,
    /// Whether it came with the api-version that knows signing requests.
    #[serde(skip)]
    pub preview: bool,
}

fn bad_body(detail: impl Into<String>) -> Fault {
    Fault::new(&rules::BODY, 400_004, "The request body is not valid.", detail)
}

impl Register {
    /// Reads a body. One of white space is nothing where `may_be_empty` (MQTT).
    ///
    /// # Errors
    /// 400.
    pub fn read(body: &[u8], id: &RegistrationId, may_be_empty: bool) -> Result<Self, Fault> {
        if body.len() > BODY_MAX {
            let detail = format!("{} bytes, at most {BODY_MAX} are taken", body.len());
            return Err(Fault::new(
                &rules::SIZE,
                400_004,
                "The request body is too large.",
                detail,
            ));
        }
        if may_be_empty && body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let read: Map<String, Value> =
            serde_json::from_slice(body).map_err(|e| bad_body(format!("not a JSON object: {e}")))?;
        let read = Self::deserialize(Value::Object(read)).map_err(|e| bad_body(e.to_string()))?;
        match &read.registration_id {
            Some(other) if !id.is(other) => Err(bad_body(format!(
                "the registrationId is {other:?}, the request is for {id}"
            ))),
            _ => Ok(read),
        }
    }
}
