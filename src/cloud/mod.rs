//! What each broker demands: user name, client id, topics, limits. No I/O.
//!
//! Each cloud is a file that reads as its rule book, with the source of every rule. What they share:
//!
//! | | user name | client id | topic |
//! |---|---|---|---|
//! | [`event_grid`] | authentication name = certificate subject | `<client_authname>-<imei>` | of a topic space |
//! | [`iot_hub`] | `<hub>/<device>/?api-version=…` | device id | fixed by the hub |
//! | [`aws_iot`] | none | thing name, or `<client_authname>-<imei>` | allowed by policy |
//! | [`beam`] | none (the gateway adds it) | `<client_authname>-<imei>` | the upstream cloud's |

pub mod aws_iot;
pub mod beam;
pub mod event_grid;
pub mod iot_hub;
mod topic;

pub use topic::{Topic, TopicError};

use crate::identity::ClientId;

/// The kinds of broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Azure Event Grid namespace, directly.
    EventGrid,
    /// Azure IoT Hub, directly.
    IotHub,
    /// AWS IoT Core, directly.
    AwsIot,
    /// A gateway that adds the credentials: `onyx-gateway`, or SORACOM Beam.
    Gateway,
}

impl Kind {
    /// The words of the configuration file.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("event-grid", Self::EventGrid),
        ("iot-hub", Self::IotHub),
        ("aws-iot", Self::AwsIot),
        ("gateway", Self::Gateway),
    ];

    /// Whether the connection is TLS with our certificate.
    #[must_use]
    pub fn is_direct(self) -> bool {
        self != Self::Gateway
    }

    /// The port when none is configured.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Gateway => beam::PORT,
            _ => MQTTS_PORT,
        }
    }

    /// The limits of this broker.
    #[must_use]
    pub fn limits(self) -> Limits {
        match self {
            Self::EventGrid => event_grid::LIMITS,
            Self::IotHub => iot_hub::LIMITS,
            Self::AwsIot => aws_iot::LIMITS,
            Self::Gateway => beam::LIMITS,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EventGrid => "Azure Event Grid",
            Self::IotHub => "Azure IoT Hub",
            Self::AwsIot => "AWS IoT Core",
            Self::Gateway => "gateway",
        })
    }
}

/// MQTT over TLS (IANA `secure-mqtt`); all three clouds use it.
pub const MQTTS_PORT: u16 = 8883;

/// What a broker punishes when it is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Shortest keep-alive that is taken as it is, in seconds.
    pub keep_alive_min: u16,
    /// Longest keep-alive that is taken as it is, in seconds.
    pub keep_alive_max: u16,
    /// Largest message, in bytes of payload.
    pub payload_max: usize,
    /// Most publishes without acknowledgement at a time.
    pub in_flight: usize,
    /// Most publishes a second; below the broker's own limit, because time is not the same everywhere.
    pub rate: u32,
    /// Longest topic, in bytes.
    pub topic_max: usize,
    /// Most levels of a topic (one more than its slashes).
    pub topic_levels: usize,
}

/// What goes into CONNECT, and where samples go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The client identifier.
    pub client_id: ClientId,
    /// The user name, where the broker wants one.
    pub username: Option<String>,
    /// Where samples are published.
    pub topic: Topic,
}
