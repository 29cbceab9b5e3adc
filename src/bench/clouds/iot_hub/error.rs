//! What the hub's service side answers when it cannot do what was asked: a number whose first three digits are the HTTP status, a name and
//! a sentence, in the envelope that the service's REST interface uses.

use std::time::Duration;

use serde_json::{Value, json};

/// Why the hub did not do it. The numbers are those of the IoT Hub documentation, "error codes", unless a constructor says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {name}: {message}")]
pub struct HubError {
    /// The hub's number, e.g. 404001.
    pub code: u32,
    /// The hub's name for it, e.g. `DeviceNotFound`; also the header `iothub-errorcode`.
    pub name: &'static str,
    /// What happened to what, and what was expected.
    pub message: String,
}

impl HubError {
    fn new(code: u32, name: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            name,
            message: message.into(),
        }
    }

    /// An argument that cannot be.
    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self::new(400_004, "ArgumentInvalid", message)
    }

    /// A body that is no JSON, or not the JSON that was asked for.
    pub(super) fn format(message: impl Into<String>) -> Self {
        Self::new(400_006, "IotHubFormatError", message)
    }

    /// Nobody of that name.
    pub(super) fn not_found(device: &str) -> Self {
        Self::new(404_001, "DeviceNotFound", format!("there is no device {device:?}"))
    }

    /// The device is not there, or does not take methods.
    pub(super) fn not_online(waited: Duration) -> Self {
        let message = format!(
            "the device was not connected with a subscription to $iothub/methods/POST/# within {} s",
            waited.as_secs()
        );
        Self::new(404_103, "DeviceNotOnline", message)
    }

    /// The device did not answer in time.
    pub(super) fn no_answer(waited: Duration) -> Self {
        let message = format!("the device did not answer within {} s", waited.as_secs());
        Self::new(504_101, "GatewayTimeout", message)
    }

    /// The device answered with something that is no JSON. The number is inferred: the documentation only has the HTTP status 502.
    pub(super) fn bad_answer(message: impl Into<String>) -> Self {
        Self::new(502_001, "BadDeviceResponseReceived", message)
    }

    /// The device went away while it was asked (.NET service client, issue 317: "Device unavailable").
    pub(super) fn gone() -> Self {
        Self::new(404_103, "DeviceNotOnline", "the device disconnected before it answered")
    }

    /// The devicebound queue is full.
    pub(super) fn queue_full(depth: usize) -> Self {
        let message = format!("the device's queue holds {depth} messages already, which is all it may");
        Self::new(403_004, "DeviceMaximumQueueDepthExceeded", message)
    }

    /// A message over its limit.
    pub(super) fn too_large(bytes: usize, limit: usize) -> Self {
        let message = format!("{bytes} bytes, at most {limit} are taken");
        Self::new(413_001, "MessageTooLarge", message)
    }

    /// Too much at a time.
    pub(super) fn throttled(message: impl Into<String>) -> Self {
        Self::new(429_001, "ThrottlingException", message)
    }

    /// More devices than the bench keeps.
    pub(super) fn full(limit: usize) -> Self {
        Self::new(
            403_102,
            "DeviceMaximumReached",
            format!("{limit} devices are registered already"),
        )
    }

    /// The HTTP status: the first three digits of the number.
    #[must_use]
    pub fn status(&self) -> u16 {
        u16::try_from(self.code / 1_000).unwrap_or(500)
    }

    /// The inner object: also the body of an unsuccessful twin response (inferred: the documentation gives the status alone).
    #[must_use]
    pub fn object(&self, wall: Duration) -> Value {
        let time = crate::clock::rfc3339(wall);
        json!({
            "errorCode": self.code,
            "trackingId": format!("onyx-bench-TimeStamp:{time}"),
            "message": self.message,
            "timestampUtc": time,
        })
    }

    /// The body of the REST interface: the inner object as a string within `Message` (seen in azure-iot-sdk-java issue 640).
    #[must_use]
    pub fn body(&self, wall: Duration) -> Value {
        json!({"Message": self.object(wall).to_string(), "ExceptionMessage": ""})
    }
}
