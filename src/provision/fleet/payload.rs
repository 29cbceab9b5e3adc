//! What goes over the topics, as JSON. Source: AWS IoT Core developer guide, "Device provisioning MQTT API".
//!
//! A `certificateOwnershipToken` is as good as the key until it is used, so whatever holds one is wiped and never printed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreateBody<'a> {
    certificate_signing_request: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProvisionBody<'a> {
    certificate_ownership_token: &'a str,
    parameters: &'a BTreeMap<String, String>,
}

/// A certificate that is ours to take.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// Its id at AWS; only ever shown to people.
    #[serde(default)]
    pub certificate_id: String,
    /// The certificate alone, as PEM.
    pub certificate_pem: String,
    /// Proves, for an hour and once, that it was made for us.
    pub certificate_ownership_token: Zeroizing<String>,
}

impl std::fmt::Debug for Created {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Created({})", self.certificate_id)
    }
}

/// What the template has made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// Name of the thing; a template need not make one.
    pub thing_name: Option<String>,
    /// The template's words for the device.
    pub device_configuration: Option<BTreeMap<String, Value>>,
}

/// Why a request was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rejected {
    /// As an HTTP status.
    pub status_code: Option<u16>,
    /// One word.
    pub error_code: Option<String>,
    /// A sentence.
    pub error_message: Option<String>,
}

fn body(what: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, String> {
    serde_json::to_vec(what).map(Zeroizing::new).map_err(|e| e.to_string())
}

/// The request for a certificate.
///
/// # Errors
/// From the encoder, as text.
pub fn create(csr_pem: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    body(&CreateBody {
        certificate_signing_request: csr_pem,
    })
}

/// The request for a thing.
///
/// # Errors
/// From the encoder, as text.
pub fn provision(token: &str, parameters: &BTreeMap<String, String>) -> Result<Zeroizing<Vec<u8>>, String> {
    body(&ProvisionBody {
        certificate_ownership_token: token,
        parameters,
    })
}

/// Reads an answer. The error says where the JSON is wrong and quotes nothing of it.
///
/// # Errors
/// As text.
pub fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|e| {
        use serde_json::error::Category;
        let what = match e.classify() {
            Category::Syntax | Category::Eof => "it is no JSON",
            Category::Data => "a field is missing or of another kind than documented",
            Category::Io => "it cannot be read",
        };
        format!("{what} (column {} of {} bytes)", e.column(), payload.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_documented() {
        let text = |b: Zeroizing<Vec<u8>>| String::from_utf8(b.to_vec()).unwrap();
        assert_eq!(
            text(create("-----BEGIN\nx\n").unwrap()),
            r#"{"certificateSigningRequest":"-----BEGIN\nx\n"}"#
        );
        let parameters = BTreeMap::from([("SerialNumber".to_owned(), "1".to_owned())]);
        assert_eq!(
            text(provision("t", &parameters).unwrap()),
            r#"{"certificateOwnershipToken":"t","parameters":{"SerialNumber":"1"}}"#
        );
    }

    #[test]
    fn answers_are_read_and_bad_ones_are_not_quoted() {
        let made: Created =
            read(br#"{"certificateId":"ab","certificatePem":"p","certificateOwnershipToken":"t0k","more":1}"#).unwrap();
        assert_eq!(
            (made.certificate_pem.as_str(), made.certificate_ownership_token.as_str()),
            ("p", "t0k")
        );
        assert_eq!(format!("{made:?}"), "Created(ab)");
        for (text, thing) in [
            (r#"{"thingName":"lamp","deviceConfiguration":{"a":"b"}}"#, Some("lamp")),
            (r#"{"deviceConfiguration":{},"thingName":null}"#, None),
            ("{}", None),
        ] {
            let registered: Registered = read(text.as_bytes()).unwrap();
            assert_eq!(registered.thing_name.as_deref(), thing, "{text}");
        }
        for bad in [
            "",
            "<html>",
            "[]",
            r#"{"certificateOwnershipToken":"s3cret"}"#,
            r#""s3cret""#,
        ] {
            let why = read::<Created>(bad.as_bytes()).unwrap_err();
            assert!(why.contains("column") && !why.contains("s3cret"), "{why}");
        }
    }
}
