//! Azure's Device Provisioning Service with X.509: a device that has a certificate learns which IoT hub it belongs to.
//!
//! | file | what it is |
//! |---|---|
//! | [`name`] | registration ids |
//! | [`registration`] | what to ask next and when; no I/O |
//! | [`reply`] | what an answer means; no I/O |
//! | [`issued`] | the certificates that DPS issues, put in order; no I/O |
//! | [`error`] | why there was nothing, and what to do about it |
//! | `https`, `mqtt` | the two doors |
//! | `assign` | asking at a door until there is a hub; a gateway asks for the devices whose certificates it makes |
//! | `device` | a device asks for itself, with the operator's files |
//!
//! The operator's certificate attests who the device is. What is sent is what its file holds, and that has to be the chain from the leaf
//! up to an authority that is verified at the service. Without `csr` the hub takes the same certificate, so the grant names a hub, a
//! device id and the operator's files. With `csr = true` (a preview of Microsoft's, not for production) the device makes a P-384 key and
//! has DPS issue the certificate for the hub; the key never leaves it, and each registration makes another.
//!
//! Sources: Microsoft's documentation of DPS (its HTTPS and MQTT pages, "X.509 certificate attestation", "Quotas and limits",
//! "Troubleshooting", "Certificate issuance"); azure-sdk-for-c, azure-iot-sdk-c and iot-identity-service for the wire.

mod assign;
#[cfg(feature = "agent")]
mod device;
pub mod error;
mod https;
pub mod issued;
#[cfg(feature = "agent")]
mod mqtt;
pub mod name;
pub mod registration;
pub mod reply;

pub use assign::{Applicant, assign};
#[cfg(feature = "agent")]
pub use device::{longest, provision};

#[cfg(feature = "agent")]
use crate::config::credentials::DpsConfig;
use crate::config::credentials::DpsService;

/// The preview that issues certificates (azure-sdk-for-c, branch `feature/dps-csr-preview`).
pub const API_VERSION_CSR: &str = "2025-07-01-preview";
