//! Request bodies, in every shape that SORACOM's clients send: nothing, `{"requestParameters":…}` at the cellular door; with `keyId` at
//! the internet door, from the Go client with `requestParameters` (or null), from the Java client with `keyLength`, `algorithm`, `timestamp`
//! and its parameters beside them or nested.

use serde::Deserialize;

use super::denied::Denied;
use crate::bench::clouds::policy::krypton::BODY;

/// What a request may say. Fields that the bench has no use for are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request {
    pub(super) key_id: Option<String>,
    /// Java client.
    pub(super) algorithm: Option<String>,
    /// Java client: decimal milliseconds.
    pub(super) timestamp: Option<String>,
    /// Java client: how many bytes of application key it wants.
    pub(super) key_length: Option<usize>,
    /// Inventory, at the top level.
    pub(super) endpoint: Option<String>,
    request_parameters: Option<Parameters>,
    #[serde(flatten)]
    merged: Parameters,
}

/// Parameters that override the group's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Parameters {
    pub(super) device_id: Option<String>,
    pub(super) host: Option<String>,
    pub(super) thing_name: Option<String>,
    pub(super) skip_certificates: bool,
}

impl Request {
    /// Reads a body; an empty one asks for nothing special.
    ///
    /// # Errors
    /// When it is no such JSON.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Denied> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        serde_json::from_slice(body).map_err(|e| Denied::new(&BODY, format!("the body is not what is expected: {e}")))
    }

    /// The nested parameters, or those beside `keyId`.
    pub(super) fn parameters(self) -> Parameters {
        self.request_parameters.unwrap_or(self.merged)
    }
}
