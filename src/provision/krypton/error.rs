//! Why Krypton gave nothing, and what to do about it.

use std::borrow::Cow;
use std::time::Duration;

use super::refusal::Refusal;
use crate::config::agent::KryptonAuth;
use crate::provision::Failure;
use crate::provision::keys::KeysError;
use crate::tls::TlsError;

/// Why Krypton gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KryptonError {
    /// It was not reached.
    #[error("Krypton was not reached: {what}")]
    Unreachable {
        /// What happened, with the host.
        what: String,
        /// At which door.
        door: KryptonAuth,
    },
    /// It was reached, but TLS with it failed.
    #[error("Krypton was not reached: {what}")]
    Tls {
        /// The whole story.
        what: String,
        /// What to do.
        cure: String,
    },
    /// Nothing was sent: the authorities or TLS cannot be used.
    #[error("Krypton is not asked: {}", .0.what())]
    Setup(TlsError),
    /// It says no.
    #[error("Krypton refuses {0}")]
    Refused(Refusal),
    /// It is in trouble itself, or has too much to do.
    #[error("Krypton is in trouble (HTTP {status}): {message}")]
    Trouble {
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
        /// It wants to be left alone for so long.
        after: Option<Duration>,
    },
    /// The answer is not what Krypton sends.
    #[error("the answer is not Krypton's: {0}")]
    Nonsense(String),
    /// Azure's provisioning service ended the registration.
    #[error("the registration ended as {0:?}")]
    Ended(String),
    /// The registration did not end in time.
    #[error("the registration is still {status:?} after {tries} tries")]
    Pending {
        /// The last word.
        status: String,
        /// How often it was asked.
        tries: u32,
    },
    /// The granted parts cannot be used.
    #[error("the granted credentials cannot be used: {0}")]
    Unusable(#[from] TlsError),
    /// The SIM was not authenticated.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The operation is at the other door alone.
    #[error("Krypton's cellular door has no {0}")]
    InternetOnly(&'static str),
    /// A parameter that cannot be sent.
    #[error("{0}")]
    Parameter(String),
}

impl KryptonError {
    /// What a person can do.
    #[must_use]
    pub fn cure(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Tls { cure, .. } => cure,
            Self::Setup(e) => return format!("{} (credentials.ca_file)", e.cure()).into(),
            Self::Unreachable {
                door: KryptonAuth::Cellular,
                ..
            } => {
                "Krypton answers only over the SORACOM line: check that 100.127.0.0/16 is routed through the dongle (link.interface)"
            }
            Self::Unreachable {
                door: KryptonAuth::Sim, ..
            } => {
                "SIM authentication takes any line to the internet, but needs one: check link.interface, the routes, name resolution and \
                 credentials.url"
            }
            Self::Refused(refusal) => refusal.cure(),
            Self::Trouble { .. } => "nothing to do here: it is asked again later",
            Self::Nonsense(_) => {
                "something else answers in Krypton's place: check credentials.url, and for a captive portal on the line"
            }
            Self::Ended(_) => {
                "look at the enrolment in Azure's Device Provisioning Service: is it enabled, and allowed for this device?"
            }
            Self::Pending { .. } => {
                "Azure is slow, or the group's Krypton settings name a wrong DPS scope; it is asked again later"
            }
            Self::Unusable(_) => {
                "look at the certificate settings of the SIM group's Krypton configuration; it is asked again later"
            }
            Self::Keys(e) => e.cure(),
            Self::InternetOnly(_) => "use SIM authentication (--auth sim), which works over any line",
            Self::Parameter(_) => "correct credentials.parameters, or --parameter",
        })
    }

    /// The service wants to be left alone for so long.
    #[must_use]
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Trouble { after, .. } => *after,
            _ => None,
        }
    }
}

impl From<KryptonError> for Failure {
    fn from(e: KryptonError) -> Self {
        Self {
            cause: crate::identity::redact_digits(&e.to_string()),
            cure: e.cure().into_owned(),
            after: e.after(),
            spent: matches!(e, KryptonError::Unusable(_)),
        }
    }
}
