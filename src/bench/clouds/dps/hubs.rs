//! What the service asks of the IoT hubs that it assigns devices to.

use rustls_pki_types::CertificateDer;
use serde_json::Value;

/// What an IoT hub is told about a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment<'a> {
    /// The hub's host name.
    pub hub: &'a str,
    /// The device id.
    pub device_id: &'a str,
    /// What it showed.
    pub certificate: Option<&'a CertificateDer<'a>>,
    /// Who issues its certificates, and in which name, if it does not show the one above at the hub.
    pub issuer: Option<(&'a CertificateDer<'static>, &'a str)>,
    /// The twin to begin with.
    pub initial_twin: Option<&'a Value>,
    /// The hub that the device leaves, when it moves.
    pub leaves: Option<&'a str>,
    /// Its twin goes with it; else it begins anew.
    pub migrate: bool,
}

/// The hubs that devices are assigned to.
pub trait Hubs: Send + Sync + std::fmt::Debug {
    /// A device is assigned; it may be known already.
    ///
    /// # Errors
    /// What the hub has against it.
    fn assign(&self, assignment: &Assignment<'_>) -> Result<(), String>;
}

/// Hubs that need not be told.
#[derive(Debug, Clone, Copy)]
pub struct NoHubs;

impl Hubs for NoHubs {
    fn assign(&self, _assignment: &Assignment<'_>) -> Result<(), String> {
        Ok(())
    }
}
