//! Why a registration gave nothing, and what a person can do about it.

use std::time::Duration;

use super::issued::IssuedError;
use super::name::NameError;
use crate::provision::Failure;
use crate::provision::operator::FilesError;
use crate::tls::TlsError;

/// Longest time that a [`Failure`] asks to be left alone, whatever the service said: an unattended device tries again within the hour.
pub const AFTER_MAX: Duration = Duration::from_secs(3_600);

/// What of the attestation can be the reason of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attested {
    /// The certificate file, for messages.
    pub file: String,
    /// It holds one certificate only.
    pub leaf_only: bool,
    /// The leaf is X.509 version 1.
    pub is_v1: bool,
}

/// What a service's error says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// The service's own number: a thousandth of it is the HTTP status it belongs to (azure-sdk-for-c,
    /// `az_iot_provisioning_client.c`).
    pub code: Option<u32>,
    /// Its sentence, redacted.
    pub message: Option<String>,
    /// By what Microsoft's support finds the request.
    pub tracking_id: Option<String>,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let message = self.message.as_deref().unwrap_or("no message");
        match self.code {
            Some(code) => write!(f, "{code} {message}")?,
            None => f.write_str(message)?,
        }
        match &self.tracking_id {
            Some(id) => write!(f, " (trackingId {id})"),
            None => Ok(()),
        }
    }
}

/// Why a registration gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DpsError {
    /// The device cannot say who it is; nothing was sent.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The attestation certificate or its key cannot be used; nothing was sent.
    #[error("the attestation certificate cannot be used: {}", .0.what())]
    Files(#[from] FilesError),
    /// The file of authorities cannot be read; nothing was sent.
    #[error("{}", .0.what())]
    Authorities(FilesError),
    /// The authorities or TLS cannot be used; nothing was sent.
    #[error("{}", .0.what())]
    Setup(#[from] TlsError),
    /// This machine failed, not the service.
    #[error("{0}")]
    Here(String),
    /// There was no answer; asking again may help when it is `passing`.
    #[error("DPS was not reached: {what}")]
    Unreachable {
        /// The whole story.
        what: String,
        /// What to do.
        cure: String,
        /// Whether it may be better in a moment.
        passing: bool,
    },
    /// TLS or MQTT refuses the device before it can ask.
    #[error("DPS refuses the device: {0}")]
    NotLetIn(String),
    /// The service says no.
    #[error("DPS refuses (status {status}): {said}")]
    Refused {
        /// HTTP status, on either protocol.
        status: u16,
        /// What it says.
        said: Said,
    },
    /// The service is in trouble or wants to be left alone.
    #[error("DPS is in trouble (status {status}): {said}")]
    Trouble {
        /// HTTP status, on either protocol.
        status: u16,
        /// What it says.
        said: Said,
        /// How long it wants to be left alone.
        after: Option<Duration>,
    },
    /// The registration failed.
    #[error("DPS ended the registration as \"failed\": {0}")]
    Failed(Said),
    /// The enrolment is disabled.
    #[error("DPS ended the registration as \"disabled\": the enrolment of this device is disabled")]
    Disabled,
    /// It did not end in time.
    #[error("the registration is still {status:?} after {polls} questions")]
    Pending {
        /// The last word.
        status: String,
        /// How often it was asked.
        polls: u32,
    },
    /// The answer is not what DPS sends.
    #[error("the answer is not DPS's: {0}")]
    Nonsense(String),
    /// The certificate that was asked for is not there or not good.
    #[error("the certificate that DPS issued cannot be used: {0}")]
    Issued(#[from] IssuedError),
}

/// The chain's demands, as DPS documents them ("X.509 certificate attestation").
fn chain_cure(attested: &Attested) -> String {
    let mut cure = "upload the CA certificate to the provisioning service and verify it (proof of possession), make an enrolment group \
                    for it or an individual enrolment for this very certificate, and check that the certificate has not expired"
        .to_owned();
    if attested.leaf_only {
        cure += &format!(
            "; {} holds the leaf alone: with an enrolment group it must hold the chain from the leaf up to the verified CA (append \
             the intermediate certificates, nearest first)",
            attested.file
        );
    } else {
        cure += &format!("; the chain in {} must lead up to that CA without a gap", attested.file);
    }
    if attested.is_v1 {
        cure += "; the leaf is X.509 version 1: sign it anew with extensions (onyx-gateway ca, or openssl x509 -req … -extfile)";
    }
    cure
}

/// The number's own meaning, where Microsoft's sources tell it (azure-sdk-for-c and azure-iot-sdk-c).
fn known(code: u32) -> Option<&'static str> {
    Some(match code {
        400_207 => {
            "the web hook of the enrolment's custom allocation failed: look at that function's log in Azure; it decides which hub a \
             device gets"
        }
        400_208 => "link an IoT hub to the provisioning service, and check that the enrolment may use it",
        400_209 => {
            "the provisioning service may not write to the linked IoT hub: renew the link with a policy that has the rights \
             RegistryWrite and ServiceConnect"
        }
        _ => return None,
    })
}

fn refused_cure(status: u16, said: &Said, attested: &Attested) -> String {
    let code = said.code.unwrap_or(0);
    // The class of the number says more than the status: a failed registration is an answer of status 200.
    let class = match code / 1_000 {
        0 => u32::from(status),
        class => class,
    };
    if let Some(cure) = known(code) {
        return cure.to_owned();
    }
    match class {
        401 => chain_cure(attested),
        403 => "look at the provisioning service: its IP filter and its network access, and whether the enrolment is enabled".into(),
        404 => "compare credentials.id_scope with the overview of the provisioning service, and look whether this device, or its CA, is \
                enrolled there"
            .into(),
        400 => "compare credentials.id_scope and credentials.registration_id with the provisioning service; credentials.csr needs the \
                preview of certificate issuance there"
            .into(),
        405 | 415 => "something else answers in DPS's place: check credentials.host".into(),
        409 | 412 => "somebody registers the same device at the same time: look whether another device has a copy of this certificate".into(),
        _ => "look the number up in Microsoft's page on troubleshooting DPS; it is asked again later".into(),
    }
}

impl DpsError {
    /// What a person can do.
    #[must_use]
    pub fn cure(&self, attested: &Attested) -> String {
        match self {
            Self::Name(e) => e.cure().to_owned(),
            Self::Files(e) => format!("{} (credentials.certificate, credentials.key)", e.cure()),
            Self::Authorities(e) => format!("{} (credentials.ca_file)", e.cure()),
            Self::Setup(e) => format!("{} (credentials.ca_file)", e.cure()),
            Self::Here(_) => "it is tried again later".into(),
            Self::Unreachable { cure, .. } => cure.clone(),
            Self::NotLetIn(_) => format!(
                "compare credentials.id_scope with the overview of the provisioning service; {}",
                chain_cure(attested)
            ),
            Self::Refused { status, said } => refused_cure(*status, said, attested),
            Self::Failed(said) => refused_cure(400, said, attested),
            Self::Trouble { status: 429, .. } => {
                "too many devices register at once, or this one too often: it is asked again later".into()
            }
            Self::Trouble { .. } => "nothing to do here: it is asked again later".into(),
            Self::Disabled => {
                "enable the enrolment of this device, or the enrolment group of its CA, in the provisioning service"
                    .into()
            }
            Self::Pending { status, .. } if status == "unassigned" => {
                "look whether the enrolment names an allocation policy and a linked IoT hub; it is asked again later"
                    .into()
            }
            Self::Pending { .. } => "Azure is slow: it is asked again later".into(),
            Self::Nonsense(_) => {
                "something else answers in DPS's place: check credentials.host, and for a captive portal on the line"
                    .into()
            }
            Self::Issued(e) => e.cure().to_owned(),
        }
    }

    /// As what the ladder takes; nothing in it identifies a subscriber.
    #[must_use]
    pub fn failure(&self, attested: &Attested) -> Failure {
        Failure {
            cause: crate::identity::redact_digits(&self.to_string()),
            cure: crate::identity::redact_digits(&self.cure(attested)),
            after: match self {
                Self::Trouble { after, .. } => after.map(|a| a.min(AFTER_MAX)),
                _ => None,
            },
            spent: matches!(self, Self::Issued(_)),
        }
    }
}
