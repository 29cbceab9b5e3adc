//! What Azure IoT Hub does beyond taking telemetry: a registry of devices, device twins, direct methods and cloud-to-device messages.
//!
//! | file | what it is |
//! |---|---|
//! | [`registry`], `device` | who may connect, with which credential |
//! | [`bag`] | the properties in a topic |
//! | [`request`] | what a device publishes to `$iothub/…` |
//! | [`twin`] | tags, desired and reported properties |
//! | [`methods`] | calls that wait for their answer |
//! | [`devicebound`] | the queue of messages to a device |
//! | `core` | all of it together behind the broker, no I/O and no clock |
//! | [`error`] | the hub's error numbers |
//! | [`control`] | the service side's HTTP interface |
//!
//! [`Hub`] is the service side for Rust: what a back end does with Azure's service client. What it sends goes to devices that are there;
//! twins are not pushed later, so a device reads its twin again after it has connected.

pub mod bag;
pub mod control;
mod core;
mod device;
pub mod devicebound;
pub mod error;
pub mod methods;
pub mod registry;
pub mod request;
pub mod twin;

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde_json::Value;

pub use self::bag::Bag;
pub(crate) use self::core::Core;
pub use self::devicebound::ToDevice;
pub use self::error::HubError;
pub use self::methods::{Answer, MethodCall};
pub use self::registry::{Credential, Status};
use super::backend::{Act, Now};
use super::endpoint::Endpoint;

/// The service side of the IoT Hub stand-in.
#[derive(Debug)]
pub struct Hub {
    core: Arc<Core>,
    endpoint: Arc<Endpoint>,
    host: String,
}

impl Hub {
    pub(crate) fn new(core: Arc<Core>, endpoint: Arc<Endpoint>, host: String) -> Self {
        Self { core, endpoint, host }
    }

    /// The hub's host name: what DPS assigns devices to.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    fn now(&self) -> Now {
        self.endpoint.now()
    }

    fn done(&self, acts: Vec<Act>) {
        self.endpoint.perform(acts);
    }

    /// Whether devices that nobody registered may connect with a certificate of a registered authority; they are registered then.
    pub fn set_open(&self, open: bool) {
        self.core.state().registry.set_open(open);
    }

    /// Takes certificates that lead to this authority, besides those of the bench's own.
    ///
    /// # Errors
    /// There are too many.
    pub fn trust(&self, authority: CertificateDer<'static>) -> Result<(), HubError> {
        self.core.state().registry.trust(authority)
    }

    /// Creates a device, or gives a known one this credential; it is enabled either way, and its twin and messages stay. If the
    /// credential is another one than before, its connection ends.
    ///
    /// # Errors
    /// A name that is none, too many devices or thumbprints.
    pub fn register(&self, device: &str, credential: Credential) -> Result<(), HubError> {
        self.done(self.core.register(device, credential, self.now())?);
        Ok(())
    }

    /// Enables or disables a device; disabling ends its connection.
    ///
    /// # Errors
    /// There is no such device.
    pub fn set_status(&self, device: &str, status: Status) -> Result<(), HubError> {
        self.done(self.core.set_status(device, status)?);
        Ok(())
    }

    /// Disables a device and ends its connection.
    ///
    /// # Errors
    /// There is no such device.
    pub fn disable(&self, device: &str) -> Result<(), HubError> {
        self.set_status(device, Status::Disabled)
    }

    /// Forgets a device with its twin and its messages, and ends its connection. On an open hub it may come back.
    ///
    /// # Errors
    /// There is no such device.
    pub fn remove(&self, device: &str) -> Result<(), HubError> {
        self.done(self.core.remove(device)?);
        Ok(())
    }

    /// Every device's name.
    #[must_use]
    pub fn devices(&self) -> Vec<String> {
        self.core.state().registry.ids().cloned().collect()
    }

    /// The registry's document of a device.
    ///
    /// # Errors
    /// There is no such device.
    pub fn identity(&self, device: &str) -> Result<Value, HubError> {
        Ok(self.core.state().registry.get(device)?.identity(device))
    }

    /// The whole twin.
    ///
    /// # Errors
    /// There is no such device.
    pub fn twin(&self, device: &str) -> Result<Value, HubError> {
        Ok(self.core.state().registry.get(device)?.twin_document(device))
    }

    /// Merges `{"tags": {…}, "properties": {"desired": {…}}}` into a twin, tells the device if it listens, and answers the twin. The
    /// initial twin of a DPS enrolment goes this way too.
    ///
    /// # Errors
    /// There is no such device, or the patch is not taken.
    pub fn update_twin(&self, device: &str, patch: &Value) -> Result<Value, HubError> {
        let (twin, acts) = self.core.update_twin(device, patch, self.now())?;
        self.done(acts);
        Ok(twin)
    }

    /// Queues a message to a device; the answer is its message id, or `None` if it was dropped because the device has never connected.
    ///
    /// # Errors
    /// There is no such device, its queue is full, or the message is not taken.
    pub fn send(&self, device: &str, message: ToDevice) -> Result<Option<String>, HubError> {
        let (id, acts) = self.core.to_device(device, message, self.now())?;
        self.done(acts);
        Ok(id)
    }

    /// Empties a device's queue; the answer is how many messages were dropped. What the broker is sending already still arrives.
    ///
    /// # Errors
    /// There is no such device.
    pub fn purge(&self, device: &str) -> Result<usize, HubError> {
        Ok(self.core.state().registry.get_mut(device)?.inbox.clear())
    }

    /// Calls a method and waits for the device's answer.
    ///
    /// # Errors
    /// There is no such device, it is not there or takes no methods, does not answer in time or with no JSON, or the call is not taken.
    pub async fn call(&self, device: &str, call: MethodCall) -> Result<Answer, HubError> {
        call.check()?;
        let mut changes = self.core.changes();
        let wait = call.connect_timeout.unwrap_or_default();
        let begun = async {
            loop {
                if let Some(begun) = self.core.call(device, &call)? {
                    return Ok(begun);
                }
                if wait.is_zero() || changes.changed().await.is_err() {
                    return Err(HubError::not_online(wait));
                }
            }
        };
        let (outcome, acts) = match wait {
            Duration::ZERO => begun.await?,
            wait => tokio::time::timeout(wait, begun)
                .await
                .unwrap_or_else(|_| Err(HubError::not_online(wait)))?,
        };
        self.done(acts);
        let limit = call.response_timeout.unwrap_or(methods::RESPONSE_TIMEOUT);
        match tokio::time::timeout(limit, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(HubError::gone()),
            Err(_) => Err(HubError::no_answer(limit)),
        }
    }

    /// Other limits for twin operations, in requests a second for the whole hub, so that 429 can be tried.
    pub fn throttle_twins(&self, reads: u32, writes: u32) {
        self.core.throttle_twins(reads, writes);
    }
}
