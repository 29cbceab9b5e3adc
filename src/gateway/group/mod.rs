//! A group: what the devices of one owner share. SORACOM's word for it, and SORACOM's meaning: where their data goes, under which name,
//! proved by which credential, with which changes to topics.
//!
//! A [`Group`] is a configuration that was read and found good; where it came from is the business of others:
//!
//! | file | where it comes from |
//! |---|---|
//! | `beam` | the namespace `SoracomBeam`, as SORACOM's API and `soracom groups put-config` write it |
//! | `own` | the namespace `OnyxGateway`: what Beam has no word for (private authorities, limits, policies) |
//! | `words` | what is written in two languages: the namespace's JSON and TOML |
//! | `record` | both together: stored groups, and files with a group's configuration |
//! | [`public`] | what of it may be shown |
//! | `secret` | passwords with placeholders |
//! | [`super::config`] | `[upstream]` and `[device]` of `gateway.toml` |

pub mod beam;
mod kind;
pub mod own;
pub mod policy;
pub mod public;
mod record;
mod secret;
pub(in crate::gateway) mod words;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use super::json::{Grade, Remark};
pub use record::{GroupFile, Judged, KRYPTON, from_record, judge, may_be_put, read_files};

use super::credential::{Credential, CredentialId};
use crate::identity::{NameTemplate, Subscriber};
use crate::tls::Versions;

/// Reads a list of Beam's keys for its remarks alone.
pub(super) fn look_at_beam(top: &super::json::Node<'_, '_>) {
    let _ = beam::list(top);
}

/// The name of a group; SORACOM's are UUIDs, ours may be any short word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(String);

/// Longest name of a group, in bytes.
const GROUP_ID_MAX: usize = 64;

impl GroupId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for GroupId {
    /// The group of those for whom none is named.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for GroupId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if (1..=GROUP_ID_MAX).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            let shown: String = text.chars().take(GROUP_ID_MAX).collect();
            Err(format!(
                "{shown:?} is no name for a group: 1 to {GROUP_ID_MAX} letters, digits, '-', '_' and '.'"
            ))
        }
    }
}

/// Which cloud this is; decides what may be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Azure Event Grid namespaces.
    EventGrid,
    /// Azure IoT Hub.
    IotHub,
    /// AWS IoT Core.
    AwsIot,
    /// A broker that keeps the whole standard: mosquitto and its like.
    #[default]
    Standard,
}

/// Encrypted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// `mqtt://`: no encryption, no certificate.
    Mqtt,
    /// `mqtts://`.
    #[default]
    Mqtts,
}

/// Whom to trust as upstream when its credential names no authority.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Trust {
    /// The operating system's authorities.
    #[default]
    System,
    /// A PEM file.
    File(PathBuf),
    /// PEM text.
    Pem(String),
}

/// The cloud.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Encrypted or not.
    pub scheme: Scheme,
    /// Its name, for DNS, SNI and the check of its certificate.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `host:port` or `IP:port` to dial instead of looking up `host`; the name that is checked stays `host`.
    pub address: Option<String>,
    /// Authorities to trust.
    pub trust: Trust,
    /// Which TLS versions.
    pub versions: Versions,
    /// Application protocol to ask for.
    pub alpn: Option<String>,
    /// How long DNS, TCP, TLS and CONNACK may take together.
    pub connect_timeout: Duration,
    /// What it is.
    pub kind: Kind,
}

impl Upstream {
    /// `host:port`, and where it is dialled if that is another place.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.address {
            Some(address) => format!("{} at {address}", self.host),
            None => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The login that upstream sees.
#[derive(Clone, Default)]
pub enum Login {
    /// None: X.509 is the proof.
    #[default]
    None,
    /// A name, perhaps with a password; both may have placeholders.
    Fixed {
        /// The user name.
        username: NameTemplate,
        /// The password as configured; its placeholders are filled in by [`Group::names`].
        password: Option<Zeroizing<String>>,
    },
    /// The device's own (`useClientCredentials` at Beam).
    PassThrough,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Fixed { username, password } => f
                .debug_struct("Fixed")
                .field("username", &username.source())
                .field("password", &password.as_ref().map(|_| "…"))
                .finish(),
            Self::PassThrough => f.write_str("PassThrough"),
        }
    }
}

/// What proves the device to upstream.
#[derive(Debug, Clone, Default)]
pub enum Proof {
    /// No certificate (`useClientCert` is false).
    #[default]
    None,
    /// A credential from the store (`$credentialsId`).
    Stored {
        /// Its id, with placeholders.
        id: NameTemplate,
        /// The one that is used while there is none of that id.
        default: Option<CredentialId>,
    },
    /// Certificate and key that stand in the configuration itself.
    Inline(Arc<Credential>),
}

/// Changes to topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Topics {
    /// `/<IMSI>` is appended to what the device publishes (`addSubscriberHeader`).
    pub append_imsi: bool,
    /// `{{imsi}}`, `{{imei}}` and `{{simId}}` are filled in, in both directions.
    pub placeholders: bool,
}

/// Which keep-alives are taken, and what silence ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// Shortest other than 0, in seconds.
    pub min: u16,
    /// Longest, in seconds.
    pub max: u16,
    /// Longest silence of a device with keep-alive 0.
    pub idle_at_zero: Duration,
}

impl Default for KeepAlive {
    /// SORACOM Beam's rule ("Limitations" in its documentation): 0 or 5 to 1,200 s; 30 minutes at 0.
    fn default() -> Self {
        Self {
            min: 5,
            max: 1_200,
            idle_at_zero: Duration::from_secs(30 * 60),
        }
    }
}

/// How much one subscriber may send; 0 is no limit. Both are token buckets that hold one `burst` of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// PUBLISH packets a second from the device.
    pub messages: u32,
    /// Bytes of MQTT a second from the device.
    pub bytes: u32,
    /// Seconds' worth that may come at once; at least 1.
    pub burst: u32,
}

impl Default for Rate {
    /// No limit.
    fn default() -> Self {
        Self {
            messages: 0,
            bytes: 0,
            burst: 1,
        }
    }
}

/// Beam's platform version: what it passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Platform {
    /// `201912`: QoS 0 and 1, wills and all other features.
    #[default]
    Full,
    /// Older: QoS 0 alone, and no will.
    Old,
}

/// What devices share.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name.
    pub id: GroupId,
    /// Whether its devices may connect.
    pub enabled: bool,
    /// Where their data goes.
    pub upstream: Upstream,
    /// The login upstream sees.
    pub login: Login,
    /// What proves the device.
    pub proof: Proof,
    /// Changes to topics.
    pub topics: Topics,
    /// Keep-alive and silence.
    pub keep_alive: KeepAlive,
    /// Limits of one subscriber.
    pub rate: Rate,
    /// Beam's version.
    pub platform: Platform,
    /// What becomes of what upstream would punish.
    pub policy: policy::Policy,
}

/// What a group makes of one subscriber.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// The user name upstream sees, if it is a fixed one.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Zeroizing<String>>,
    /// Which stored credential proves it.
    pub credential: Option<CredentialId>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field(
                "username",
                &self.username.as_deref().map(crate::identity::redact_digits),
            )
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("credential", &self.credential)
            .finish()
    }
}

impl Group {
    /// The names of a subscriber.
    ///
    /// # Errors
    /// A sentence: a number is missing, or the name cannot be a credential's.
    pub fn names(&self, who: &Subscriber) -> Result<Names, String> {
        let fill = |what: &str, t: &NameTemplate| {
            t.fill(who)
                .map_err(|e| format!("{what} = {:?}: {e}; add it to the subscriber", t.source()))
        };
        let mut names = Names::default();
        if let Login::Fixed { username, password } = &self.login {
            names.username = Some(fill("username", username)?);
            names.password = match password {
                Some(password) => Some(secret::fill(password, who).map_err(|e| secret::explain(&e))?),
                None => None,
            };
        }
        if let Proof::Stored { id, .. } = &self.proof {
            names.credential = Some(fill("credential", id)?.parse()?);
        }
        Ok(names)
    }
}

/// Placeholders filled for the guide's subscriber.
#[cfg(test)]
pub(super) fn topics_for_tests() -> Option<super::flow::topics::Rewrite> {
    let who = Subscriber {
        imsi: "295012345678901".parse().unwrap(),
        imei: None,
        iccid: None,
    };
    let topics = Topics {
        append_imsi: false,
        placeholders: true,
    };
    super::flow::topics::Rewrite::new(topics, &who)
}

#[cfg(test)]
impl Group {
    /// A group with defaults, for the unit tests of this room.
    pub(super) fn for_tests(host: &str, credential: &str) -> Self {
        Self {
            id: GroupId::default(),
            enabled: true,
            upstream: Upstream {
                scheme: Scheme::Mqtts,
                host: host.to_owned(),
                port: 8_883,
                address: None,
                trust: Trust::System,
                versions: Versions::Both,
                alpn: None,
                connect_timeout: Duration::from_secs(5),
                kind: Kind::Standard,
            },
            login: Login::None,
            proof: Proof::Stored {
                id: credential.parse().unwrap(),
                default: None,
            },
            topics: Topics::default(),
            keep_alive: KeepAlive::default(),
            rate: Rate::default(),
            platform: Platform::Full,
            policy: policy::Policy::default(),
        }
    }
}
