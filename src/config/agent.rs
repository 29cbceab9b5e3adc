//! The schema of `agent.toml`. Its sections are the rungs of the ladder, in their order; `examples/agent.toml` comments every key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::credentials;
use super::reader::{ConfigError, Reader, Section};
use crate::cloud::{Kind, Topic, aws_iot, beam, event_grid};
use crate::identity::NameTemplate;
use crate::logging::Format;
use crate::modem::{Apn, Auth};
use crate::tls::Versions;

pub use super::credentials::{
    CredentialsConfig, DPS_HOST, DpsConfig, DpsProtocol, Files, FleetConfig, KRYPTON_URL, KeepConfig, KryptonAuth,
    KryptonCloud, KryptonConfig, Patience, SORACOM_API_URL,
};

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/onyx/agent.toml";
/// Where a running agent answers when nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/onyx/agent.sock";

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

/// The whole file, checked.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Name that the certificate proves, e.g. `myClient-#{imsi}`.
    pub client_authname: NameTemplate,
    /// Credentials, spool and saved state.
    pub state_dir: PathBuf,
    /// Where `status` asks.
    pub status_socket: PathBuf,
    /// The modem rung.
    pub modem: ModemConfig,
    /// The SIM rung.
    pub sim: SimConfig,
    /// The network rung.
    pub network: NetworkConfig,
    /// The link rung.
    pub link: LinkConfig,
    /// The clock rung.
    pub clock: ClockConfig,
    /// The credentials rung.
    pub credentials: CredentialsConfig,
    /// How granted credentials are kept.
    pub keep: KeepConfig,
    /// The session rung.
    pub session: SessionConfig,
    /// The delivery rung.
    pub delivery: DeliveryConfig,
    /// Log lines.
    pub log: LogConfig,
}

/// `[modem]`
#[derive(Debug, Clone)]
pub struct ModemConfig {
    /// The AT port: interface 2 of the dongle.
    pub port: PathBuf,
    /// How often signal and registration are read.
    pub poll: Duration,
}

/// `[sim]`
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// A file with the PIN, for a SIM that asks for one.
    pub pin_file: Option<PathBuf>,
}

/// `[network]`
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Access point name and login; SORACOM's login is public knowledge.
    pub apn: Option<Apn>,
    /// Whether the link needs the mobile network; if not, the modem serves as a card reader for SIM authentication.
    pub required: bool,
}

/// `[link]`
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The cellular interface, e.g. `wwan0`; `None` takes the system's routes.
    pub interface: Option<String>,
}

/// `[clock]`
#[derive(Debug, Clone)]
pub struct ClockConfig {
    /// Whether a system clock that NTP has set is right.
    pub trust_ntp: bool,
    /// The last confirmed time is taken, carried forward, when nobody has said better for so long.
    pub saved_time_after: Duration,
}

/// `[session]`
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Which kind of broker.
    pub to: Kind,
    /// Its host; `None` takes the one that the credentials name.
    pub host: Option<String>,
    /// Its port.
    pub port: u16,
    /// Dial this instead of resolving the host.
    pub address: Option<SocketAddr>,
    /// Authorities for the broker; `None` takes those of the credentials, or the system's.
    pub ca_file: Option<PathBuf>,
    /// TLS versions.
    pub tls: Versions,
    /// MQTT keep-alive, in seconds.
    pub keep_alive: u16,
    /// Limit for TCP, TLS and CONNACK, each.
    pub connect_within: Duration,
    /// Limit for an acknowledgement.
    pub answer_within: Duration,
    /// Whether the broker forgets the session.
    pub clean: bool,
    /// User name for a gateway that wants one.
    pub username: Option<String>,
    /// File with the password (token) for a gateway.
    pub password_file: Option<PathBuf>,
    /// Shortest pause before connecting again.
    pub retry_min: Duration,
    /// Longest pause before connecting again.
    pub retry_max: Duration,
}

/// `[delivery]`
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// Where samples are published; not for IoT Hub, whose topic is fixed.
    pub topic: String,
    /// Pause between samples.
    pub interval: Duration,
    /// Most publishes without acknowledgement.
    pub window: usize,
    /// Largest spool, in bytes.
    pub spool_max: u64,
    /// Longest time a sample is in memory only.
    pub sync: Duration,
    /// The file system whose free space is measured.
    pub disk: PathBuf,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Filter: `info`, or `info,onyx::modem=debug`.
    pub filter: String,
    /// Text or JSON.
    pub format: Format,
    /// Whether IMSI, IMEI and ICCID are written out in `status`.
    pub identities: bool,
}

impl AgentConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Reader::open(path)?.read(Self::from_section)
    }

    /// Reads and checks a text; `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Reader::from_text(path, text.to_owned()).read(Self::from_section)
    }

    fn from_section(top: &mut Section<'_, '_>) -> Self {
        top.required_text("client_authname", "myClient-#{imsi}");
        let client_authname: Option<NameTemplate> = top.parsed("client_authname");
        if client_authname.as_ref().is_some_and(|t| !t.is_individual()) {
            top.mistake(
                "client_authname",
                "has no placeholder: every device would have the same name; write for example \"myClient-#{imsi}\"",
            );
        }
        let state_dir = top.file("state_dir").unwrap_or_else(|| "/var/lib/onyx".into());
        let status_socket = top.file("status_socket").unwrap_or_else(|| DEFAULT_SOCKET.into());
        // sun_path of unix(7) has 108 bytes, the zero included.
        if status_socket.as_os_str().len() > 107 {
            top.mistake(
                "status_socket",
                "is longer than the 107 bytes that a socket's path may have",
            );
        }
        let modem = section(top, "modem", modem);
        let sim = section(top, "sim", |s| SimConfig {
            pin_file: s.file("pin_file"),
        });
        let network = section(top, "network", network);
        let link = section(top, "link", |s| {
            s.choice("kind", (), &[("external", ())]);
            // IFNAMSIZ of Linux is 16, the zero included (netdevice(7)).
            if let Some(name) = s.text("interface") {
                if name.is_empty() || name.len() > 15 || name.contains(|c: char| c == '/' || c.is_whitespace()) {
                    s.mistake(
                        "interface",
                        format!("{name:?} is no interface name; 'ip link' lists those that are there"),
                    );
                }
            }
            LinkConfig {
                interface: s.text("interface"),
            }
        });
        let clock = section(top, "clock", |s| ClockConfig {
            trust_ntp: s.boolean("trust_ntp", true),
            // timesyncd asks again after 34 minutes at most, but every 30 s while nobody answers (timesyncd.conf(5)).
            saved_time_after: s.duration("saved_time_after", S(600), S(1)..=S(365 * 86_400)),
        });
        let (credentials, keep) = section(top, "credentials", credentials::read);
        let source_is_none = matches!(credentials, Some(CredentialsConfig::None));
        let needs_host = !credentials.as_ref().is_some_and(CredentialsConfig::names_the_host);
        let mut s = top.section("session");
        let session = session(&mut s, needs_host);
        if session.to.is_direct() && source_is_none && s.has("to") {
            s.mistake(
                "to",
                format!(
                    "{} wants a certificate: set credentials.source, or connect through a gateway (to = \"gateway\")",
                    session.to
                ),
            );
        }
        if !session.to.is_direct() && (!source_is_none) && s.has("to") {
            s.mistake(
                "to",
                "a gateway adds the credentials itself: set credentials.source = \"none\"",
            );
        }
        let (source, is_for) = credentials.as_ref().map_or(("", None), |c| (c.source(), c.is_for()));
        if let Some(want) = is_for.filter(|want| session.to.is_direct() && session.to != *want) {
            s.mistake(
                "to",
                format!("{source} gives credentials for {want}, not for {}", session.to),
            );
        }
        s.finish();
        let delivery = section(top, "delivery", |s| delivery(s, session.to));
        let log = section(top, "log", |s| LogConfig {
            filter: log_filter(s),
            format: s.choice(
                "format",
                Format::Text,
                &[("text", Format::Text), ("json", Format::Json)],
            ),
            identities: s.boolean("identities", false),
        });
        Self {
            client_authname: client_authname.unwrap_or_default(),
            state_dir,
            status_socket,
            modem,
            sim,
            network,
            link,
            clock,
            credentials: credentials.unwrap_or(CredentialsConfig::None),
            keep,
            session,
            delivery,
            log,
        }
    }
}

fn section<T>(top: &mut Section<'_, '_>, key: &'static str, read: impl FnOnce(&mut Section<'_, '_>) -> T) -> T {
    let mut s = top.section(key);
    let value = read(&mut s);
    s.finish();
    value
}

fn log_filter(s: &mut Section<'_, '_>) -> String {
    let filter = s.text("filter").unwrap_or_else(|| "info".into());
    if let Err(e) = crate::logging::check(&filter) {
        s.mistake("filter", e);
    }
    filter
}

fn modem(s: &mut Section<'_, '_>) -> ModemConfig {
    ModemConfig {
        port: s.file("port").unwrap_or_else(|| "/dev/onyx-at".into()),
        poll: s.duration("poll", S(60), S(1)..=S(3_600)),
    }
}

fn network(s: &mut Section<'_, '_>) -> NetworkConfig {
    let name = s.text("apn").unwrap_or_else(|| "soracom.io".to_owned());
    let user = s.text("user").unwrap_or_else(|| "sora".to_owned());
    let password = s.text("password").unwrap_or_else(|| "sora".to_owned());
    let auth = s.choice(
        "auth",
        Auth::Pap,
        &[
            ("none", Auth::None),
            ("pap", Auth::Pap),
            ("chap", Auth::Chap),
            ("either", Auth::Both),
        ],
    );
    let apn = Apn::new(&name, &user, &password, auth);
    if let Err(e) = &apn {
        s.mistake("apn", e.to_string());
    }
    NetworkConfig {
        apn: apn.ok(),
        required: s.boolean("required", true),
    }
}

fn session(s: &mut Section<'_, '_>, needs_host: bool) -> SessionConfig {
    s.required_text("to", "iot-hub");
    let to = s.choice("to", Kind::Gateway, &Kind::WORDS);
    let host = match s.text("host") {
        None if to == Kind::Gateway => Some(beam::HOST.to_owned()),
        None if needs_host && s.has("to") => {
            s.mistake("host", format!("is missing: {to}'s host name is known to nobody else"));
            None
        }
        host => host,
    };
    if host
        .as_ref()
        .is_some_and(|h| rustls_pki_types::ServerName::try_from(h.as_str()).is_err())
    {
        s.mistake(
            "host",
            "is neither a host name nor an IP address; the port goes under session.port",
        );
    }
    let limits = to.limits();
    let keep_alive_default = S(u64::from(limits.keep_alive_max.min(600)));
    let keep_alive = s.duration(
        "keep_alive",
        keep_alive_default,
        S(limits.keep_alive_min.into())..=S(limits.keep_alive_max.into()),
    );
    // AWS IoT Core takes one CONNECT a second from a client id; the first pause is at least half of this.
    let retry_min = s.duration("retry_min", S(2), MS(50)..=S(60));
    let retry_max = s.duration("retry_max", S(300), S(1)..=S(3_600));
    if retry_min > retry_max {
        s.mistake("retry_min", "is longer than retry_max");
    }
    let username = s.text("username");
    let password_file = s.file("password_file");
    if to != Kind::Gateway && (username.is_some() || password_file.is_some()) {
        s.mistake(
            "username",
            format!("{to} takes its user name from the certificate's owner: remove username and password_file"),
        );
    }
    if password_file.is_some() && username.is_none() {
        s.mistake(
            "password_file",
            "MQTT allows a password only with a user name [MQTT-3.1.2-22]: set username too",
        );
    }
    SessionConfig {
        to,
        host,
        port: s
            .number("port", 1..=65_535)
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(to.default_port()),
        address: s.parsed("address"),
        ca_file: s.file("ca_file"),
        tls: s.choice(
            "tls",
            Versions::Both,
            &[
                ("any", Versions::Both),
                ("1.2", Versions::Only12),
                ("1.3", Versions::Only13),
            ],
        ),
        keep_alive: u16::try_from(keep_alive.as_secs()).unwrap_or(limits.keep_alive_max),
        connect_within: s.duration("connect_timeout", S(60), MS(100)..=S(300)),
        answer_within: s.duration("answer_timeout", S(30), MS(100)..=S(300)),
        clean: s.boolean("clean", true),
        username,
        password_file,
        retry_min,
        retry_max,
    }
}

fn delivery(s: &mut Section<'_, '_>, to: Kind) -> DeliveryConfig {
    let limits = to.limits();
    let topic = s.text("topic");
    match (&topic, to) {
        (Some(_), Kind::IotHub) => s.mistake("topic", "IoT Hub's telemetry topic is fixed: remove this line"),
        (Some(topic), Kind::AwsIot) => {
            let probe = crate::identity::ClientId::new("x".into()).ok();
            if let Some(Err(e)) = probe.map(|id| aws_iot::names(id, topic.clone())) {
                s.mistake("topic", e.to_string());
            }
        }
        (Some(topic), _) => {
            if let Err(e) = Topic::new(topic.clone(), limits) {
                s.mistake("topic", e.to_string());
            }
        }
        (None, _) => {}
    }
    let window = i64::try_from(limits.in_flight).unwrap_or(i64::MAX);
    DeliveryConfig {
        topic: topic.unwrap_or_else(|| event_grid::DEFAULT_TOPIC.to_owned()),
        interval: s.duration("interval", S(10), MS(10)..=S(86_400)),
        window: s
            .number("window", 1..=window)
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(limits.in_flight),
        spool_max: s.size("spool_max", 64 << 20, (1 << 20)..=(16 << 30)),
        sync: s.duration("sync", S(1), MS(0)..=S(60)),
        disk: s.file("disk").unwrap_or_else(|| "/".into()),
    }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
