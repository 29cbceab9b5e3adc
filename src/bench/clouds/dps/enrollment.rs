//! Enrolments as the service's own API writes them: whom the service knows, and what becomes of them.
//!
//! The JSON is that of Azure's `enrollmentGroups` and `enrollments` resources (api-version 2021-10-01), of which the stand-in reads what
//! it acts on; the rest is ignored. Two fields are the bench's: `customAllocationDefinition.answer` is what the web hook would have
//! answered, because the stand-in calls nobody; `credentialPolicy` is the policy of Azure Device Registry by which certificates are
//! issued, which the real enrolment only names.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::bench::clouds::thumbprint::Thumbprint;

/// Certificates of an attestation: primary and secondary.
const SLOTS: [&str; 2] = ["primary", "secondary"];
/// Webhook answers other than this make the allocation fail (DPS documentation, concepts-custom-allocation).
pub const WEBHOOK_OK: u16 = 200;
/// Validity of issued certificates, in days (Azure Device Registry documentation, certificate policies, preview).
pub const ISSUED_DAYS: std::ops::RangeInclusive<u64> = 1..=90;

/// What makes an enrolment unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadEnrollment(pub(super) String);

fn bad<T>(why: impl Into<String>) -> Result<T, BadEnrollment> {
    Err(BadEnrollment(why.into()))
}

/// Which leaf an individual enrolment is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// This certificate.
    Certificate(Vec<u8>),
    /// The certificate with this SHA-256 thumbprint.
    Thumbprint(Thumbprint),
}

/// How a device proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attestation {
    /// By its own certificate (individual enrolments).
    Leaves(Vec<Leaf>),
    /// By a chain to one of these authorities, uploaded with the enrolment (DER).
    Signing(Vec<Vec<u8>>),
    /// By a chain to one of the service's authorities, by name.
    References(Vec<String>),
}

/// What happens to a device that registers again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reprovision {
    /// It may move to another hub and takes its twin along.
    Migrate,
    /// It may move to another hub and starts anew there.
    Reset,
    /// It stays where it is.
    Never,
}

/// What the web hook of a custom allocation answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Its HTTP status.
    #[serde(default = "ok")]
    pub status: u16,
    /// The hub.
    #[serde(default)]
    pub iot_hub_host_name: Option<String>,
    /// What the device gets as `payload`.
    #[serde(default)]
    pub payload: Option<Value>,
    /// The device gets its own payload back.
    #[serde(default)]
    pub echo_payload: bool,
}

fn ok() -> u16 {
    WEBHOOK_OK
}

/// How a hub is chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Allocation {
    /// By a hash of the registration id.
    Hashed,
    /// The first of the list; `static`, and `geoLatency` too, because everything here is equally far.
    First,
    /// By a web hook.
    Custom(Answer),
}

/// An enrolment, of either kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrollment {
    /// Proof of identity.
    pub attestation: Attestation,
    /// The device id, if it is not the registration id (individual enrolments).
    pub device_id: Option<String>,
    /// Whether devices are let in.
    pub enabled: bool,
    /// What re-registration does.
    pub reprovision: Reprovision,
    /// How the hub is chosen.
    pub allocation: Allocation,
    /// Among which; empty: all that are linked.
    pub hubs: Vec<String>,
    /// The twin to begin with.
    pub initial_twin: Option<Value>,
    /// Certificates are issued to its devices, valid for so many days.
    pub issues_for_days: Option<u64>,
    /// Changes with every change.
    pub etag: String,
    /// When it was made and last changed, for people.
    pub times: [String; 2],
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    attestation: AttestationBody,
    #[serde(default)]
    device_id: Option<String>,
    #[serde(default)]
    provisioning_status: Option<Status>,
    #[serde(default)]
    reprovision_policy: Option<Policy>,
    #[serde(default)]
    allocation_policy: Option<AllocationPolicy>,
    #[serde(default)]
    custom_allocation_definition: Option<Custom>,
    #[serde(default)]
    iot_hub_host_name: Option<String>,
    #[serde(default)]
    iot_hubs: Option<Vec<String>>,
    #[serde(default)]
    initial_twin: Option<Value>,
    #[serde(default)]
    credential_policy: Option<CredentialPolicy>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CredentialPolicy {
    validity_in_days: u64,
}

#[derive(Debug, Deserialize)]
struct AttestationBody {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    x509: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Status {
    Enabled,
    Disabled,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    update_hub_assignment: bool,
    migrate_device_data: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum AllocationPolicy {
    Hashed,
    GeoLatency,
    Static,
    Custom,
}

#[derive(Debug, Deserialize)]
struct Custom {
    answer: Option<Answer>,
}

/// A certificate as people and tools upload it: PEM, base64 of PEM, or base64 of DER.
///
/// # Errors
/// [`BadEnrollment`]: none of the three, or not X.509.
pub fn certificate(text: &str) -> Result<Vec<u8>, BadEnrollment> {
    let text = text.trim();
    let armoured = |t: &str| format!("-----BEGIN CERTIFICATE-----\n{t}\n-----END CERTIFICATE-----\n");
    let from_pem = |t: &str| CertificateDer::from_pem_slice(t.as_bytes()).map(|d| d.to_vec());
    let der = if text.starts_with("-----BEGIN") {
        from_pem(text)
    } else {
        // The decoder of the PEM reader takes base64 of anything; what comes out may be PEM once more.
        from_pem(&armoured(text)).and_then(|inner| match std::str::from_utf8(&inner) {
            Ok(pem) if pem.trim_start().starts_with("-----BEGIN") => from_pem(pem),
            _ => Ok(inner),
        })
    };
    let der = der.map_err(|e| BadEnrollment(format!("a certificate is PEM, or base64 of PEM or DER: {e}")))?;
    X509Certificate::from_der(&der).map_err(|e| BadEnrollment(format!("a certificate is not X.509: {e}")))?;
    Ok(der)
}

impl Attestation {
    fn read(body: &AttestationBody, individual: bool) -> Result<Self, BadEnrollment> {
        if body.kind != "x509" {
            return bad(format!(
                "the attestation is {:?}: this stand-in knows x509 only",
                body.kind
            ));
        }
        let slots = |group: &str| {
            let group = body.x509.get(group)?;
            let found: Vec<Value> = SLOTS
                .iter()
                .filter_map(|slot| group.get(slot).filter(|v| !v.is_null()).cloned())
                .collect();
            (!found.is_empty()).then_some(found)
        };
        let upload = |slot: &Value| match slot.get("certificate").and_then(Value::as_str) {
            Some(text) => certificate(text),
            None => bad("attestation.x509: a certificate is missing"),
        };
        let ways = [
            slots("clientCertificates"),
            slots("signingCertificates"),
            slots("caReferences"),
        ];
        match ways {
            [Some(leaves), None, None] if individual => {
                let leaf = |slot: &Value| match slot.pointer("/info/sha256Thumbprint").and_then(Value::as_str) {
                    Some(print) if slot.get("certificate").is_none_or(Value::is_null) => {
                        print.parse().map(Leaf::Thumbprint).map_err(BadEnrollment)
                    }
                    _ => upload(slot).map(Leaf::Certificate),
                };
                Ok(Self::Leaves(leaves.iter().map(leaf).collect::<Result<_, _>>()?))
            }
            [None, Some(signers), None] => Ok(Self::Signing(signers.iter().map(upload).collect::<Result<_, _>>()?)),
            [None, None, Some(names)] => {
                let name = |slot: &Value| match slot.as_str() {
                    Some(name) => Ok(name.to_owned()),
                    None => bad("attestation.x509.caReferences: not a name"),
                };
                Ok(Self::References(names.iter().map(name).collect::<Result<_, _>>()?))
            }
            _ if individual => {
                bad("attestation.x509 has one of clientCertificates, signingCertificates and caReferences")
            }
            _ => bad("attestation.x509 of a group has one of signingCertificates and caReferences"),
        }
    }

    /// Certificates that were uploaded.
    pub(super) fn uploaded(&self) -> Vec<&[u8]> {
        match self {
            Self::Leaves(leaves) => leaves
                .iter()
                .filter_map(|leaf| match leaf {
                    Leaf::Certificate(der) => Some(der.as_slice()),
                    Leaf::Thumbprint(_) => None,
                })
                .collect(),
            Self::Signing(list) => list.iter().map(Vec::as_slice).collect(),
            Self::References(_) => Vec::new(),
        }
    }

    fn show(&self) -> Value {
        let slots = |values: Vec<Value>| Value::Object(SLOTS.iter().map(|s| (*s).to_owned()).zip(values).collect());
        let x509 = match self {
            Self::Leaves(leaves) => {
                let show = |leaf: &Leaf| match leaf {
                    Leaf::Certificate(der) => info(der),
                    Leaf::Thumbprint(print) => json!({"info": {"sha256Thumbprint": print.to_string()}}),
                };
                json!({"clientCertificates": slots(leaves.iter().map(show).collect())})
            }
            Self::Signing(list) => json!({"signingCertificates": slots(list.iter().map(|d| info(d)).collect())}),
            Self::References(names) => json!({"caReferences": slots(names.iter().map(|n| json!(n)).collect())}),
        };
        json!({"type": "x509", "x509": x509})
    }
}

/// A certificate as the service shows it: what it says, and not itself.
pub(super) fn info(der: &[u8]) -> Value {
    let Ok((_, c)) = X509Certificate::from_der(der) else {
        return Value::Null;
    };
    let time = |t: i64| crate::clock::rfc3339(std::time::Duration::from_secs(u64::try_from(t).unwrap_or(0)));
    json!({"info": {
        "subjectName": c.subject().to_string(),
        "issuerName": c.issuer().to_string(),
        "sha256Thumbprint": Thumbprint::of(&CertificateDer::from(der)).to_string(),
        "notBeforeUtc": time(c.validity().not_before.timestamp()),
        "notAfterUtc": time(c.validity().not_after.timestamp()),
        "serialNumber": c.raw_serial_as_string().replace(':', "").to_uppercase(),
        "version": c.version().0 + 1,
    }})
}

impl Enrollment {
    /// Reads a resource; `individual` or a group. `etag` and `now` (for people) are for the new state.
    ///
    /// # Errors
    /// [`BadEnrollment`].
    pub fn read(body: &Value, individual: bool, etag: String, now: &str) -> Result<Self, BadEnrollment> {
        let body = Body::deserialize(body).map_err(|e| BadEnrollment(format!("the enrolment cannot be read: {e}")))?;
        let allocation = match (body.allocation_policy, body.custom_allocation_definition) {
            (Some(AllocationPolicy::Custom), Some(Custom { answer: Some(answer) })) => Allocation::Custom(answer),
            (Some(AllocationPolicy::Custom), _) => {
                return bad(
                    "this stand-in calls no web hook: customAllocationDefinition.answer says what it would answer",
                );
            }
            (Some(AllocationPolicy::Static | AllocationPolicy::GeoLatency), _) => Allocation::First,
            (Some(AllocationPolicy::Hashed) | None, _) => Allocation::Hashed,
        };
        let reprovision = match body.reprovision_policy {
            Some(p) if !p.update_hub_assignment => Reprovision::Never,
            Some(p) if !p.migrate_device_data => Reprovision::Reset,
            _ => Reprovision::Migrate,
        };
        let issues_for_days = body.credential_policy.map(|p| p.validity_in_days);
        if let Some(days) = issues_for_days.filter(|d| !ISSUED_DAYS.contains(d)) {
            return bad(format!(
                "credentialPolicy.validityInDays is {days}: a policy issues for 1 to 90 days"
            ));
        }
        let mut hubs = body.iot_hubs.unwrap_or_default();
        hubs.extend(body.iot_hub_host_name.filter(|h| !hubs.contains(h)));
        Ok(Self {
            attestation: Attestation::read(&body.attestation, individual)?,
            device_id: body.device_id.filter(|_| individual),
            enabled: body.provisioning_status != Some(Status::Disabled),
            reprovision,
            allocation,
            hubs,
            initial_twin: body.initial_twin,
            issues_for_days,
            etag,
            times: [now.to_owned(), now.to_owned()],
        })
    }

    /// The resource.
    #[must_use]
    pub fn show(&self, key: &str, name: &str) -> Value {
        let (update, migrate) = match self.reprovision {
            Reprovision::Migrate => (true, true),
            Reprovision::Reset => (true, false),
            Reprovision::Never => (false, false),
        };
        let allocation = match self.allocation {
            Allocation::Hashed => "hashed",
            Allocation::First => "static",
            Allocation::Custom(_) => "custom",
        };
        json!({
            key: name,
            "deviceId": self.device_id,
            "attestation": self.attestation.show(),
            "provisioningStatus": if self.enabled { "enabled" } else { "disabled" },
            "reprovisionPolicy": {"updateHubAssignment": update, "migrateDeviceData": migrate},
            "allocationPolicy": allocation,
            "iotHubs": self.hubs,
            "initialTwin": self.initial_twin,
            "credentialPolicy": self.issues_for_days.map(|days| json!({"validityInDays": days})),
            "etag": self.etag,
            "createdDateTimeUtc": self.times[0],
            "lastUpdatedDateTimeUtc": self.times[1],
        })
    }
}
