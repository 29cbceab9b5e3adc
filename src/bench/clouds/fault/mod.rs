//! Misbehaviour on demand. One grammar for the command line, the scenario file and the control endpoint:
//!
//! ```text
//! [CLOUD:]KIND[*N] [for client "ID" | for peer ADDRESS[:PORT] | for connection NUMBER | for next N connections]
//! ```
//!
//! Without a cloud, every stand-in that can have the fault has it. `*N` limits how often: connections for what concerns a connection as a
//! whole, otherwise single answers. `for next N connections` picks the first N that come after the fault was asked for.
//!
//! | file | what it is |
//! |---|---|
//! | [`wire`] | faults of the byte stream and of TLS: names and meaning |
//! | [`kinds`] | faults of MQTT and of HTTPS answers |
//! | [`spec`] | the grammar, and whom a fault is for |
//! | [`board`] | the faults in force at one stand-in |
//! | `tap` | what a connection's bytes may do, no I/O |
//! | `tapped` | the same as a byte stream between TCP and TLS |
//! | `http` | steps of HTTPS and faults of whole answers, around a router |

pub(crate) mod answer;
pub mod board;
pub(crate) mod http;
pub mod kinds;
pub mod spec;
mod tap;
mod tapped;
pub mod wire;

use std::fmt;
use std::str::FromStr;

pub use board::{Board, InForce, Switch};
pub use kinds::{KryptonFault, MqttFault};
pub use spec::{Limited, Spec, Whom};
pub(crate) use tap::Tap;
pub(crate) use tapped::Tapped;
pub use wire::{CertificateFault, Place, Step, WireFault};

use super::stand_in::Cloud;

/// Anything that a stand-in can do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// With the bytes of a connection, or its TLS.
    Wire(WireFault),
    /// With certificates.
    Certificate(CertificateFault),
    /// With MQTT.
    Mqtt(MqttFault),
    /// With the answers of an HTTPS door.
    Krypton(KryptonFault),
}

/// A kind of fault that has a [`Switch`] of its own.
pub trait Kind: Copy {
    /// This kind, if the fault is one.
    fn of(fault: Fault) -> Option<Self>;
    /// As a fault.
    fn fault(self) -> Fault;
}

macro_rules! kind {
    ($kind:ty, $variant:ident) => {
        impl Kind for $kind {
            fn of(fault: Fault) -> Option<Self> {
                match fault {
                    Fault::$variant(kind) => Some(kind),
                    _ => None,
                }
            }

            fn fault(self) -> Fault {
                Fault::$variant(self)
            }
        }
    };
}

kind!(WireFault, Wire);
kind!(CertificateFault, Certificate);
kind!(MqttFault, Mqtt);
kind!(KryptonFault, Krypton);

/// Whether a stand-in has an MQTT door.
fn mqtt(cloud: Cloud) -> bool {
    Cloud::MQTT.contains(&cloud)
}

/// Whether a stand-in has an HTTPS door.
fn https(cloud: Cloud) -> bool {
    !mqtt(cloud) || cloud == Cloud::Dps
}

/// Whether a stand-in has a door with TLS.
fn tls(cloud: Cloud) -> bool {
    cloud != Cloud::Beam
}

impl Fault {
    /// Whether this stand-in can have it.
    #[must_use]
    pub fn fits(self, cloud: Cloud) -> bool {
        match self {
            Self::Wire(fault) => match fault.step() {
                None => true,
                Some(Step::Accept) => true,
                Some(Step::ClientHello | Step::ServerHello | Step::Finished) => tls(cloud),
                Some(Step::Connect | Step::Subscribe | Step::Publish) => mqtt(cloud),
                Some(Step::Request | Step::Response) => https(cloud),
            },
            Self::Certificate(CertificateFault::Clients) => mqtt(cloud) && tls(cloud),
            Self::Certificate(_) => tls(cloud),
            Self::Mqtt(_) => mqtt(cloud),
            Self::Krypton(fault) => {
                matches!(cloud, Cloud::Krypton | Cloud::KryptonSim) || (fault.concerns_whole_answers() && https(cloud))
            }
        }
    }

    /// Whether it happens before the client id is known, so that it cannot be for one client.
    #[must_use]
    pub fn before_connect(self) -> bool {
        match self {
            Self::Wire(fault) => {
                matches!(fault, WireFault::RefuseTcp | WireFault::Alert(_))
                    || matches!(
                        fault.step(),
                        Some(
                            Step::Accept
                                | Step::ClientHello
                                | Step::ServerHello
                                | Step::Finished
                                | Step::Request
                                | Step::Response
                        )
                    )
            }
            Self::Certificate(_) | Self::Krypton(_) => true,
            Self::Mqtt(_) => false,
        }
    }

    /// What this stand-in can have, for people.
    #[must_use]
    pub fn names(cloud: Cloud) -> String {
        let mut names = vec![wire::BYTE_NAMES];
        if tls(cloud) {
            names.extend([wire::TLS_NAMES, wire::CERTIFICATE_NAMES]);
        }
        if mqtt(cloud) {
            if tls(cloud) {
                names.push(wire::CLIENT_CERTIFICATE_NAMES);
            }
            names.extend([wire::MQTT_STEPS, kinds::MQTT_NAMES]);
        }
        if https(cloud) {
            names.extend([wire::HTTPS_STEPS, kinds::ANSWER_NAMES]);
        }
        if cloud == Cloud::Krypton {
            names.push(kinds::CREDENTIAL_NAMES);
        }
        names.join(", ")
    }

    /// Every name there is, for people.
    #[must_use]
    pub fn all_names() -> String {
        [
            wire::BYTE_NAMES,
            wire::TLS_NAMES,
            wire::CERTIFICATE_NAMES,
            wire::CLIENT_CERTIFICATE_NAMES,
            wire::MQTT_STEPS,
            kinds::MQTT_NAMES,
            wire::HTTPS_STEPS,
            kinds::ANSWER_NAMES,
            kinds::CREDENTIAL_NAMES,
        ]
        .join(", ")
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(fault) = WireFault::read(text)? {
            return Ok(Self::Wire(fault));
        }
        if let Some(fault) = CertificateFault::read(text) {
            return Ok(Self::Certificate(fault));
        }
        if let Ok(fault) = text.parse() {
            return Ok(Self::Mqtt(fault));
        }
        if let Ok(fault) = text.parse() {
            return Ok(Self::Krypton(fault));
        }
        Err(format!("{text:?} is no fault: write one of {}", Self::all_names()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(fault) => fault.fmt(f),
            Self::Certificate(fault) => fault.fmt(f),
            Self::Mqtt(fault) => fault.fmt(f),
            Self::Krypton(fault) => fault.fmt(f),
        }
    }
}
