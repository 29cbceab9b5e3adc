//! Whom the hub knows: devices by name, each enabled or disabled and with the credential it has to show. An open registry also takes
//! in every device that comes with a certificate of a registered authority, as if somebody had created it first.

use std::collections::BTreeMap;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::device::Device;
use super::error::HubError;
use crate::bench::clouds::chain;
use crate::bench::clouds::policy::iot_hub as rules;
use crate::bench::clouds::policy::{Look, Peer, Refusal, Session};
use crate::bench::clouds::thumbprint::Thumbprint;
use crate::mqtt::connack;

/// Devices that the bench keeps; the real hub has a million.
pub const DEVICES_MAX: usize = 1_024;
/// Longest device id, in characters (IoT Hub documentation, identity registry).
const ID_MAX: usize = 128;
/// What a device id may have besides ASCII letters and digits (ibid.).
const ID_CHARACTERS: &str = "-.+%_#*?!(),:=@$'";
/// Certificates that a self-signed device may alternate between (ibid.: primary and secondary thumbprint).
pub const THUMBPRINTS_MAX: usize = 2;
/// Authorities that can be registered besides the bench's own.
const AUTHORITIES_MAX: usize = 64;

/// Whether a device may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It may.
    Enabled,
    /// It may not, and what it had stays.
    Disabled,
}

/// What a device has to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A certificate from a registered authority whose common name is the device id.
    Authority,
    /// One of these certificates, whoever signed them and whatever their common name.
    Thumbprints(Vec<Thumbprint>),
    /// A certificate that this authority issued in this name, and no other's: what DPS issues for a signing request.
    Issued {
        /// The authority at the top.
        authority: CertificateDer<'static>,
        /// The common name.
        common_name: String,
    },
}

impl Credential {
    /// One certificate and no other.
    #[must_use]
    pub fn certificate(der: &CertificateDer<'_>) -> Self {
        Self::Thumbprints(vec![Thumbprint::of(der)])
    }
}

/// The devices and who vouches for them.
#[derive(Debug)]
pub(super) struct Registry {
    devices: BTreeMap<String, Device>,
    authorities: Vec<CertificateDer<'static>>,
    open: bool,
    generations: u64,
}

/// Whether this can be a device's name.
fn check_id(id: &str) -> Result<(), HubError> {
    let good = |c: char| c.is_ascii_alphanumeric() || ID_CHARACTERS.contains(c);
    if id.is_empty() || id.len() > ID_MAX || !id.chars().all(good) {
        return Err(HubError::argument(format!(
            "{id:?} is no device id: 1 to {ID_MAX} ASCII letters, digits and {ID_CHARACTERS}"
        )));
    }
    Ok(())
}

impl Registry {
    pub(super) fn new(authorities: Vec<CertificateDer<'static>>, open: bool) -> Self {
        Self {
            devices: BTreeMap::new(),
            authorities,
            open,
            generations: 0,
        }
    }

    pub(super) fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    pub(super) fn trust(&mut self, authority: CertificateDer<'static>) -> Result<(), HubError> {
        if self.authorities.contains(&authority) {
            return Ok(());
        }
        if self.authorities.len() >= AUTHORITIES_MAX {
            return Err(HubError::argument(format!(
                "{AUTHORITIES_MAX} authorities are registered already"
            )));
        }
        self.authorities.push(authority);
        Ok(())
    }

    /// Creates a device, or gives a known one another credential and enables it.
    pub(super) fn register(
        &mut self,
        id: &str,
        credential: Credential,
        wall: Duration,
    ) -> Result<&mut Device, HubError> {
        check_id(id)?;
        if let Credential::Thumbprints(list) = &credential {
            if list.is_empty() || list.len() > THUMBPRINTS_MAX {
                let message = format!("{} thumbprints; a device has 1 to {THUMBPRINTS_MAX}", list.len());
                return Err(HubError::argument(message));
            }
        }
        if !self.devices.contains_key(id) {
            if self.devices.len() >= DEVICES_MAX {
                return Err(HubError::full(DEVICES_MAX));
            }
            self.generations += 1;
        }
        let generation = self.generations;
        let device = self
            .devices
            .entry(id.to_owned())
            .or_insert_with(|| Device::new(credential.clone(), generation, wall));
        device.credential = credential;
        device.status = Status::Enabled;
        Ok(device)
    }

    pub(super) fn remove(&mut self, id: &str) -> Result<(), HubError> {
        self.devices
            .remove(id)
            .map(|_| ())
            .ok_or_else(|| HubError::not_found(id))
    }

    pub(super) fn get(&self, id: &str) -> Result<&Device, HubError> {
        self.devices.get(id).ok_or_else(|| HubError::not_found(id))
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Result<&mut Device, HubError> {
        self.devices.get_mut(id).ok_or_else(|| HubError::not_found(id))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &String> {
        self.devices.keys()
    }

    /// The last word on a CONNECT.
    pub(super) fn admit(&mut self, peer: &Peer, session: &Session, wall: Duration) -> Result<(), Refusal> {
        let id = &session.client_id;
        let refused = |rule, detail: String| Err(Refusal::new(rule, Look::ConnAck(connack::NOT_AUTHORIZED), detail));
        match self.devices.get(id) {
            Some(device) => {
                match &device.credential {
                    Credential::Thumbprints(list) => {
                        let shown = peer.chain.first().map(|leaf| Thumbprint::of(leaf));
                        if !shown.is_some_and(|s| list.contains(&s)) {
                            let shown = shown.map_or_else(|| "none".to_owned(), |s| s.to_string());
                            let known: Vec<_> = list.iter().map(ToString::to_string).collect();
                            let detail = format!(
                                "the certificate's thumbprint is {shown}, expected {}",
                                known.join(" or ")
                            );
                            return refused(&rules::THUMBPRINT, detail);
                        }
                    }
                    Credential::Authority => vouched(peer, &self.authorities, session, id, wall)?,
                    Credential::Issued { authority, common_name } => {
                        vouched(peer, std::slice::from_ref(authority), session, common_name, wall)?;
                    }
                }
                if device.status == Status::Disabled {
                    return refused(&rules::DISABLED, format!("device {id:?} is disabled"));
                }
            }
            None if self.open => {
                vouched(peer, &self.authorities, session, id, wall)?;
                self.register(id, Credential::Authority, wall)
                    .map(|_| ())
                    .or_else(|e| {
                        refused(
                            &rules::UNKNOWN_DEVICE,
                            format!("device {id:?} cannot be registered: {e}"),
                        )
                    })?;
            }
            None => {
                return refused(
                    &rules::UNKNOWN_DEVICE,
                    format!("there is no device {id:?} in the registry"),
                );
            }
        }
        Ok(())
    }
}

/// A certificate of one of these authorities in this name.
fn vouched(
    peer: &Peer,
    authorities: &[CertificateDer<'static>],
    session: &Session,
    name: &str,
    wall: Duration,
) -> Result<(), Refusal> {
    let look = Look::ConnAck(connack::NOT_AUTHORIZED);
    chain::follow(&peer.chain, authorities, wall).map_err(|e| Refusal::new(&rules::AUTHORITY, look, e.to_string()))?;
    if session.cn == name {
        return Ok(());
    }
    let detail = format!(
        "the client id is {:?}, the certificate's common name {:?}, expected {name:?}",
        session.client_id, session.cn
    );
    Err(Refusal::new(&rules::CLIENT_ID, look, detail))
}
