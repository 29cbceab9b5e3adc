//! The MQTT session: dial, TLS, CONNECT, publish, acknowledge, inbound messages.
//!
//! [`core`] is the protocol machine without I/O; [`wire`] moves its packets over a socket, which [`transport`] opens;
//! [`conversation`] is for the few questions and answers of a provisioning service. A session ends with a [`SessionError`],
//! which says what a person would want to know and, as [`Cause`], what kind of recovery makes sense; the decision is the ladder's.

pub mod conversation;
pub mod core;
mod transport;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::cloud::Names;
use crate::link::DialError;
use crate::mqtt::connack;

pub use self::core::Event;
pub use transport::Target;
pub use wire::Session;

/// Where and how to connect.
#[derive(Clone)]
pub struct Endpoint {
    /// Name of the broker: for TLS, and to resolve.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Dial this instead of resolving `host`.
    pub address: Option<SocketAddr>,
    /// TLS, or `None` for plain MQTT to a gateway.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Names for CONNECT.
    pub names: Names,
    /// Password, for gateways that identify devices by a token.
    pub password: Option<zeroize::Zeroizing<Vec<u8>>>,
    /// Keep-alive in seconds, within the broker's limits.
    pub keep_alive: u16,
    /// Whether the broker forgets the session at each CONNECT.
    pub clean_session: bool,
    /// Limit for TCP, for TLS and for CONNACK, each.
    pub connect_within: Duration,
    /// Limit for an acknowledgement or a ping's answer, and for a write.
    pub answer_within: Duration,
    /// Most publishes without acknowledgement.
    pub window: usize,
    /// Most publishes a second.
    pub rate: u32,
    /// Largest packet that is taken, in bytes.
    pub packet_max: usize,
}

impl Endpoint {
    /// The part that opens a stream.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            host: self.host.clone(),
            port: self.port,
            address: self.address,
            tls: self.tls.clone(),
            within: self.connect_within,
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({}:{}, {:?})", self.host, self.port, self.names.client_id)
    }
}

/// State of a connection in [`SessionError::Closed`].
const DURING_HANDSHAKE: &str = "during the TLS handshake";
/// State of a connection that had proved itself.
const AFTER_IT_WORKED: &str = "after it worked";

/// What kind of recovery makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The way there: try again, and look at the link after a while.
    Route,
    /// The far side was reached but did not do its part: try again later.
    Broker,
    /// The broker does not accept who we are: other credentials may help.
    Identity,
    /// Our time makes certificates look wrong.
    Clock,
    /// A person must change something: trust, names, topic.
    Configuration,
}

/// Why a session did not come up, or ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No TCP connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS refused by either side.
    #[error("{what}")]
    Tls {
        /// The whole story.
        what: String,
        /// What to do.
        cure: String,
        /// Which recovery.
        cause: Cause,
    },
    /// CONNACK with a code other than 0.
    #[error("the broker {host} refuses the connection: {} (CONNACK {code})", connack::meaning(*code))]
    Refused {
        /// Which broker.
        host: String,
        /// The return code.
        code: u8,
    },
    /// An answer took too long.
    #[error("{host}: no {what} within {:.1} s", within.as_secs_f32())]
    Late {
        /// Which broker.
        host: String,
        /// What was awaited.
        what: &'static str,
        /// The limit.
        within: Duration,
    },
    /// The connection was closed, before or after it worked.
    #[error("{host} closed the connection {when}{}", why.as_ref().map_or(String::new(), |w| format!(": {w}")))]
    Closed {
        /// Which broker.
        host: String,
        /// In which state.
        when: &'static str,
        /// What the kernel says, if anything.
        why: Option<String>,
    },
    /// The far side is silent or breaks the protocol.
    #[error("{host}: {dead}")]
    Dead {
        /// Which broker.
        host: String,
        /// Why.
        dead: self::core::Dead,
    },
    /// A subscription was refused (SUBACK 0x80, MQTT 3.1.1 section 3.9.3).
    #[error("{host} refuses the subscription to {filter}")]
    NotAllowed {
        /// Which broker.
        host: String,
        /// The topic filter.
        filter: String,
    },
    /// Bytes that are not MQTT.
    #[error("{host} port {port} does not speak MQTT: {why}")]
    NotMqtt {
        /// Which broker.
        host: String,
        /// Which port.
        port: u16,
        /// What the parser says.
        why: String,
    },
}

impl SessionError {
    /// Which recovery makes sense.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Dial(_) => Cause::Route,
            Self::Tls { cause, .. } => *cause,
            Self::Refused { code, .. } => match *code {
                connack::BAD_CREDENTIALS | connack::NOT_AUTHORIZED => Cause::Identity,
                connack::BAD_PROTOCOL | connack::BAD_CLIENT_ID => Cause::Configuration,
                _ => Cause::Broker,
            },
            Self::NotMqtt { .. } | Self::NotAllowed { .. } => Cause::Configuration,
            Self::Late { .. } | Self::Closed { .. } | Self::Dead { .. } => Cause::Broker,
        }
    }

    /// Whether it may be the broker's answer to who we are: it refused the certificate or the client, or dropped us without a word
    /// before anything worked.
    #[must_use]
    pub fn may_be_about_who_we_are(&self) -> bool {
        match self {
            Self::Closed { when, .. } => *when != AFTER_IT_WORKED,
            other => other.cause() == Cause::Identity,
        }
    }

    /// What a person can do.
    #[must_use]
    pub fn cure(&self) -> String {
        match self {
            Self::Dial(DialError::Resolve { .. }) => {
                "check session.host and the DNS of the cellular link ('resolvectl query HOST')".into()
            }
            Self::Dial(_) => "check session.host and session.port, the SIM's group, and whether a firewall is between".into(),
            Self::Tls { cure, .. } => cure.clone(),
            Self::Refused { code, .. } => match *code {
                connack::NOT_AUTHORIZED => {
                    "is this device registered there under this name, its CA uploaded, and (through a gateway) its credential stored?"
                }
                connack::BAD_CREDENTIALS => "check the user name that the cloud expects",
                connack::BAD_CLIENT_ID => "check client_authname: the broker does not take the client id made from it",
                connack::BAD_PROTOCOL => "this broker does not speak MQTT 3.1.1: check session.host and session.port",
                _ => "the broker or what is behind it is down: nothing to do here but wait",
            }
            .into(),
            Self::Late { .. } => "the line is very slow, or the port is not the broker's: check session.port".into(),
            Self::Closed { when, .. } if *when == AFTER_IT_WORKED => {
                "a network change, a restart of the broker, or another client with the same client id".into()
            }
            Self::Closed { when, .. } if *when == DURING_HANDSHAKE => {
                "does this port speak TLS? Check session.host and session.port; a firewall between may also cut TLS".into()
            }
            Self::Closed { .. } => {
                "the broker drops us without a word: check that client id, user name and topic are allowed for this device".into()
            }
            Self::Dead { .. } => "the radio may have lost the line; a new connection is tried".into(),
            Self::NotAllowed { .. } => "allow this device the topic in the cloud's policy".into(),
            Self::NotMqtt { .. } => "check session.host, session.port and whether the port wants TLS (session.to)".into(),
        }
    }
}
