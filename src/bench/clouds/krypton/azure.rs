//! Azure IoT, through the provisioning service behind Krypton: register, then ask until the device is assigned to a hub. The pending status,
//! `assigning`, is that of Azure's service; SORACOM does not publish one.

use std::time::Duration;

use serde_json::{Value, json};

use super::denied::Denied;
use super::request::Request;
use super::{IMSI_PLACEHOLDER, Krypton, check_name, keep};
use crate::bench::clouds::fault::KryptonFault;
use crate::bench::clouds::iot_hub::{Credential, Hub};
use crate::bench::clouds::policy::krypton::REGISTRATION;
use crate::bench::clouds::uuid;
use crate::identity::Imsi;
use crate::pki::Issued;

#[derive(Debug)]
pub(super) struct Registration {
    operation_id: String,
    imsi: Imsi,
    device_id: String,
    host: String,
    polls: u32,
    since: Duration,
    /// Hides its key from `Debug`.
    issued: Option<Issued>,
}

impl Registration {
    /// The answer once the device is assigned.
    fn assigned(&self, issued: &Issued) -> Value {
        json!({
            "operationId": self.operation_id,
            "status": "assigned",
            "deviceId": self.device_id,
            "host": self.host,
            "certificate": issued.chain_pem,
            "privateKey": issued.key_pem.as_str(),
        })
    }
}

impl Krypton {
    /// registerAzureIotDevice.
    pub(super) fn register(&self, imsi: &Imsi, request: Request) -> Result<Value, Denied> {
        let asked = request.parameters();
        let device_id = asked
            .device_id
            .unwrap_or_else(|| self.device_id_pattern.replace(IMSI_PLACEHOLDER, imsi.as_str()));
        check_name("deviceId", &device_id)?;
        // The shape that Azure's provisioning service gives its operation ids.
        let operation_id = format!(
            "5.{:016x}.{}",
            fastrand::u64(..),
            uuid::random(&mut fastrand::Rng::new())
        );
        let registration = Registration {
            operation_id: operation_id.clone(),
            imsi: imsi.clone(),
            device_id,
            host: asked.host.unwrap_or_else(|| self.hosts.iot_hub.clone()),
            polls: 0,
            since: self.clock.monotonic(),
            issued: None,
        };
        keep(&mut self.state().registrations, registration);
        Ok(json!({"operationId": operation_id, "status": "assigning"}))
    }

    /// getAzureIotDeviceRegistrationStatus.
    pub(super) fn status(&self, imsi: &Imsi, operation_id: &str) -> Result<Value, Denied> {
        let mut state = self.state();
        let registration = state
            .registrations
            .iter_mut()
            // Another SIM's registration does not exist for the caller.
            .find(|r| r.operation_id == operation_id && r.imsi == *imsi)
            .ok_or_else(|| {
                let detail = format!("there is no registration {operation_id:?} of this SIM");
                Denied::new(&REGISTRATION, detail)
            })?;
        let plain = |status: &str| json!({"operationId": operation_id, "status": status});
        let asked = |f: KryptonFault| matches!(f, KryptonFault::NeverAssigned | KryptonFault::Failed);
        match self.fault.take(asked) {
            Some(KryptonFault::Failed) => return Ok(plain("failed")),
            Some(_) => return Ok(plain("assigning")),
            None => {}
        }
        registration.polls = registration.polls.saturating_add(1);
        let waited = self.clock.monotonic().saturating_sub(registration.since);
        if registration.polls <= self.assigning_polls || waited < self.assigning_for {
            return Ok(plain("assigning"));
        }
        let issued = match registration.issued.take() {
            Some(issued) => issued,
            None => {
                let issued = self.issue(&registration.device_id)?;
                self.assign(registration)?;
                issued
            }
        };
        let mut assigned = registration.assigned(&issued);
        assigned["rootCaCertificate"] = self.ca.root_pem().into();
        registration.issued = Some(issued);
        Ok(assigned)
    }

    /// bootstrapAzureIotDevice: assigned at once. The Java client that knows it has no field for the root.
    pub(super) fn bootstrap_azure(&self, imsi: &Imsi, request: Request) -> Result<Value, Denied> {
        self.register(imsi, request)?;
        let state = self.state();
        let Some(registration) = state.registrations.back().filter(|r| r.imsi == *imsi) else {
            return Err(Denied::Internal("the registration is gone".into()));
        };
        let issued = self.issue(&registration.device_id)?;
        self.assign(registration)?;
        Ok(registration.assigned(&issued))
    }

    /// The hub learns of the device, as it does when the real Krypton has registered it through DPS; one that it knows stays as it is.
    fn assign(&self, registration: &Registration) -> Result<(), Denied> {
        let here = |hub: &&std::sync::Arc<Hub>| registration.host.eq_ignore_ascii_case(hub.host());
        let Some(hub) = self.hub.get().filter(here) else {
            return Ok(());
        };
        if hub.identity(&registration.device_id).is_ok() {
            return Ok(());
        }
        hub.register(&registration.device_id, Credential::Authority)
            .map_err(|e| Denied::Internal(format!("the hub does not take the device: {e}")))
    }
}
