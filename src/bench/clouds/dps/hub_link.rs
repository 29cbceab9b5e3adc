//! The IoT hub of the bench, as the service sees it: an assigned device is registered there by the thumbprint of what it showed, which is
//! what the real service does (DPS documentation, how-to-roll-certificates: after a new certificate a device registers again, so that
//! its hub learns the new thumbprint). A device to which the service issues certificates is registered by who issues them, and in which
//! name: it may show any of these, and not what it showed to the service.

use std::sync::Arc;

use super::hubs::{Assignment, Hubs};
use crate::bench::clouds::iot_hub::{Credential, Hub};

/// One hub; others that are linked by name are not there.
#[derive(Debug)]
pub(crate) struct HubLink(pub(crate) Arc<Hub>);

impl Hubs for HubLink {
    fn assign(&self, a: &Assignment<'_>) -> Result<(), String> {
        let hub = &self.0;
        let here = |name: &str| name.eq_ignore_ascii_case(hub.host());
        let anew = a.leaves.is_some() && !a.migrate;
        let known = hub.identity(a.device_id).is_ok();
        if known && (a.leaves.is_some_and(here) || (anew && here(a.hub))) {
            hub.remove(a.device_id).map_err(|e| e.to_string())?;
        }
        if !here(a.hub) {
            return Ok(());
        }
        let known = known && !anew;
        let credential = match a.issuer {
            Some((authority, name)) => Credential::Issued {
                authority: authority.clone(),
                common_name: name.to_owned(),
            },
            None => Credential::certificate(a.certificate.ok_or("the device has no certificate")?),
        };
        hub.register(a.device_id, credential).map_err(|e| e.to_string())?;
        if let (false, Some(twin)) = (known, a.initial_twin) {
            hub.update_twin(a.device_id, twin).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}
