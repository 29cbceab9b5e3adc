//! Fleet provisioning by claim: a device that has nothing but a claim certificate asks for its own certificate, proves with a token that
//! it is the one who got it, and has a template make it a thing. No I/O; the time is an argument.
//!
//! 1. `$aws/certificates/create/json` (key and certificate) or `create-from-csr/json` (certificate alone): the new certificate is
//!    PENDING_ACTIVATION, the token is good for [`TOKEN_LIFE`] and for one success. When it runs out unused, the certificate is deleted.
//! 2. `$aws/provisioning-templates/{name}/provision/json` with the token and parameters: the [template](super::template) decides.
//!
//! Answers go to the connection that asked, and only if it subscribed before. A refusal is `{statusCode, errorCode, errorMessage}`.
//! Sources: AWS IoT Core developer guide, "Device provisioning MQTT API"; the code `InvalidCertificateOwnershipToken` and its first
//! message: aws-iot-device-sdk-js-v2 issue 69. The other codes and words are inferred. CBOR is refused, in CBOR, with 415 (inferred).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::registry::{Registry, RegistryError, Status};
use crate::bench::clouds::authority::Ca;
use crate::bench::clouds::backend::Now;
use crate::tls;

/// How long a token is good for ("expires after one hour").
pub const TOKEN_LIFE: Duration = Duration::from_secs(3_600);
/// Tokens that are good at a time; the oldest go first. The bench's own bound.
pub const TOKENS_MAX: usize = 256;
/// The common name of a certificate whose key AWS made.
const COMMON_NAME: &str = "AWS IoT Certificate";

/// A refusal by the provisioning service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Deserialize)]
#[error("{status} {code}: {message}")]
#[serde(deny_unknown_fields)]
pub struct ProvisioningError {
    /// As an HTTP status.
    #[serde(rename = "statusCode")]
    pub status: u16,
    /// One word.
    #[serde(rename = "errorCode")]
    pub code: String,
    /// A sentence.
    #[serde(rename = "errorMessage")]
    pub message: String,
}

impl ProvisioningError {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self { status, code, message }
    }

    /// For a request in CBOR.
    #[must_use]
    pub fn cbor() -> Self {
        Self::new(
            415,
            "UnsupportedPayloadFormat",
            "this stand-in speaks JSON only: use the topic that ends with json",
        )
    }

    /// The body for `rejected`.
    #[must_use]
    pub fn json(&self) -> Bytes {
        json!({"statusCode": self.status, "errorCode": self.code, "errorMessage": self.message})
            .to_string()
            .into()
    }

    /// The same in CBOR (RFC 8949 section 3): a map of three, with texts shorter than 256 bytes and a 16-bit number.
    #[must_use]
    pub fn to_cbor(&self) -> Bytes {
        fn text(out: &mut Vec<u8>, text: &str) {
            let mut end = text.len().min(255);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let text = text.get(..end).unwrap_or_default();
            out.extend([0x78, u8::try_from(text.len()).unwrap_or(u8::MAX)]);
            out.extend(text.as_bytes());
        }
        let mut out = vec![0xa3];
        text(&mut out, "statusCode");
        out.push(0x19);
        out.extend(self.status.to_be_bytes());
        text(&mut out, "errorCode");
        text(&mut out, &self.code);
        text(&mut out, "errorMessage");
        text(&mut out, &self.message);
        out.into()
    }
}

#[derive(Debug)]
struct Token {
    text: String,
    certificate: String,
    until: Duration,
}

/// The tokens that are good.
#[derive(Debug, Default)]
pub struct Tokens(VecDeque<Token>);

fn object(payload: &[u8]) -> Result<serde_json::Map<String, Value>, ProvisioningError> {
    match serde_json::from_slice(payload) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(ProvisioningError::new(
            400,
            "InvalidPayload",
            "the payload is no JSON object",
        )),
    }
}

impl Tokens {
    /// Forgets tokens that have run out, and certificates that nobody claimed with them.
    fn clear(&mut self, registry: &mut Registry, now: Duration) {
        while self.0.len() > TOKENS_MAX || self.0.front().is_some_and(|t| t.until <= now) {
            let Some(token) = self.0.pop_front() else { return };
            let unused = registry.certificate(&token.certificate);
            if unused.is_some_and(|c| c.status == Status::PendingActivation) {
                registry.remove(&token.certificate);
            }
        }
    }

    fn keep(&mut self, registry: &mut Registry, leaf_pem: &str, now: Now) -> Result<Value, ProvisioningError> {
        let failed = |e: String| ProvisioningError::new(500, "InternalFailure", e);
        let der = tls::certificates(leaf_pem.as_bytes(), "the new certificate").map_err(|e| failed(e.to_string()))?;
        let der = der.first().ok_or_else(|| failed("no certificate was made".into()))?;
        let certificate = registry
            .register(der, Status::PendingActivation, None, now.wall)
            .map_err(|e| failed(e.to_string()))?;
        let text: String = (0..8).map(|_| format!("{:016x}", fastrand::u64(..))).collect();
        self.0.push_back(Token {
            text: text.clone(),
            certificate: certificate.clone(),
            until: now.monotonic + TOKEN_LIFE,
        });
        self.clear(registry, now.monotonic);
        Ok(json!({
            "certificateId": certificate,
            "certificatePem": leaf_pem,
            "certificateOwnershipToken": text,
        }))
    }

    /// CreateKeysAndCertificate: an empty payload, or an object as the SDKs send it.
    ///
    /// # Errors
    /// [`ProvisioningError`].
    pub fn create_keys(
        &mut self,
        registry: &mut Registry,
        ca: &Ca,
        payload: &[u8],
        now: Now,
    ) -> Result<Value, ProvisioningError> {
        self.clear(registry, now.monotonic);
        if !payload.is_empty() {
            object(payload)?;
        }
        let issued = ca
            .device(COMMON_NAME)
            .map_err(|e| ProvisioningError::new(500, "InternalFailure", e.to_string()))?;
        let mut answer = self.keep(registry, &issued.leaf_pem, now)?;
        answer["privateKey"] = issued.key_pem.as_str().into();
        Ok(answer)
    }

    /// CreateCertificateFromCsr.
    ///
    /// # Errors
    /// [`ProvisioningError`].
    pub fn create_from_csr(
        &mut self,
        registry: &mut Registry,
        ca: &Ca,
        payload: &[u8],
        now: Now,
    ) -> Result<Value, ProvisioningError> {
        self.clear(registry, now.monotonic);
        let body = object(payload)?;
        let invalid = |m: String| ProvisioningError::new(400, "InvalidCertificateSigningRequest", m);
        let csr = body
            .get("certificateSigningRequest")
            .and_then(Value::as_str)
            .ok_or_else(|| invalid("certificateSigningRequest is missing".into()))?;
        let leaf = ca.sign_request(csr).map_err(|e| invalid(e.to_string()))?;
        self.keep(registry, &leaf, now)
    }

    /// RegisterThing.
    ///
    /// # Errors
    /// [`ProvisioningError`].
    pub fn provision(
        &mut self,
        registry: &mut Registry,
        template: &str,
        payload: &[u8],
        now: Now,
    ) -> Result<Value, ProvisioningError> {
        self.clear(registry, now.monotonic);
        let body = object(payload)?;
        let bad_token = |m: &str| ProvisioningError::new(400, "InvalidCertificateOwnershipToken", m);
        let token = match body.get("certificateOwnershipToken") {
            Some(Value::String(token)) if !token.is_empty() => token,
            _ => return Err(bad_token("Certificate ownership token cannot be empty.")),
        };
        let mut parameters = BTreeMap::new();
        for (name, value) in body.get("parameters").and_then(Value::as_object).into_iter().flatten() {
            let text = value.as_str().ok_or_else(|| {
                ProvisioningError::new(400, "InvalidParameters", format!("the parameter {name:?} is no text"))
            })?;
            parameters.insert(name.clone(), text.to_owned());
        }
        let position = self.0.iter().position(|t| t.text == *token);
        let position = position.ok_or_else(|| bad_token("Certificate ownership token is unknown, used or expired."))?;
        let certificate = self.0.get(position).map(|t| t.certificate.clone()).unwrap_or_default();
        let done = registry
            .provision(template, &certificate, parameters)
            .map_err(|e| match e {
                RegistryError::Unknown("template", _) => ProvisioningError::new(404, "ResourceNotFound", e.to_string()),
                other => ProvisioningError::new(400, "InvalidParameters", other.to_string()),
            })?;
        self.0.remove(position);
        Ok(json!({"deviceConfiguration": done.device_configuration, "thingName": done.thing}))
    }
}
