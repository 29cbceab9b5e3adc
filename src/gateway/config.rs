//! `gateway.toml`: every key with its default and unit is in `examples/gateway.toml`.
//!
//! Relative paths are relative to the directory of the file they stand in. Reading the file reads no other file: certificates, keys and
//! tokens are looked at by [`super::check`] and when they are used.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::ServerName;

use super::connect::names;
use super::subscriber::Prefix;
use crate::config::{ConfigError, Reader, Section};
use crate::identity::{NameTemplate, Subscriber};
use crate::tls::Versions;

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/onyx/gateway.toml";
/// Where `onyx-gateway status` asks when nobody says otherwise; systemd's RuntimeDirectory makes the directory.
pub const DEFAULT_SOCKET: &str = "/run/onyx-gateway/status.sock";

/// The door for devices.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Where to listen; port 0 takes any free port.
    pub address: SocketAddr,
    /// How many devices at once.
    pub max_connections: usize,
    /// Largest packet taken from either side, in bytes.
    pub max_packet: usize,
    /// How long a new connection may take to send its CONNECT.
    pub connect_timeout: Duration,
    /// How long one write to either side may be stuck before the connection is given up.
    pub write_timeout: Duration,
}

/// The cloud.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its name, for DNS, SNI and the check of its certificate.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `host:port` or `IP:port` to dial instead of looking up `host`; the name that is checked stays `host`.
    pub address: Option<String>,
    /// Authorities to trust; `None` trusts the operating system's.
    pub ca_file: Option<PathBuf>,
    /// Which TLS versions.
    pub versions: Versions,
    /// Application protocol to ask for.
    pub alpn: Option<String>,
    /// How long DNS, TCP, TLS and CONNACK may take together.
    pub connect_timeout: Duration,
}

/// What devices share: the entry point's settings (SORACOM calls the holder of such settings a group).
#[derive(Debug, Clone)]
pub struct Group {
    /// Where their data goes.
    pub upstream: Upstream,
    /// The user name that upstream sees.
    pub username: Option<NameTemplate>,
    /// Whether the device's own login goes upstream (`useClientCredentials` at Beam).
    pub pass_login: bool,
    /// Which credential proves the device.
    pub credential: NameTemplate,
}

/// A subscriber as configured.
#[derive(Debug, Clone)]
pub struct Rule {
    /// SIM, modem, card.
    pub subscriber: Subscriber,
    /// Where it calls from.
    pub source: Option<Prefix>,
    /// The file with its token.
    pub token_file: Option<PathBuf>,
}

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The door.
    pub listen: Listen,
    /// The entry point's settings.
    pub group: Group,
    /// The folder with `<id>.pem`, `<id>.key` and perhaps `<id>.ca.pem`.
    pub credentials: PathBuf,
    /// Who may connect.
    pub subscribers: Vec<Rule>,
    /// The status socket, if it is named in the file.
    pub socket: Option<PathBuf>,
    /// Log level or filter.
    pub log: String,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake in it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Reader::open(path)?.read(schema)
    }

    /// Reads a text that came from `path`.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake in it.
    pub fn from_text(path: &Path, text: impl Into<String>) -> Result<Self, ConfigError> {
        Reader::from_text(path, text.into()).read(schema)
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn schema(top: &mut Section<'_, '_>) -> Config {
    let listen = listen(top.section("listen"));
    let upstream = upstream(top.section("upstream"));
    let mut device = top.section("device");
    let username = device.parsed::<NameTemplate>("username");
    let pass_login = device.boolean("pass_login", false);
    if username.is_some() && pass_login {
        device.mistake(
            "pass_login",
            "username is set too, and only one login can go upstream: remove one of them",
        );
    }
    if !device.has("credential") {
        device.required_text("credential", "myClient-#{imsi}");
    }
    let credential = device.parsed::<NameTemplate>("credential");
    let group = Group {
        upstream,
        username,
        pass_login,
        credential: credential.unwrap_or_else(empty_template),
    };
    let mut folder = top.section("credentials");
    if !folder.has("folder") {
        folder.required_text("folder", "/var/lib/onyx-gateway/credentials");
    }
    let credentials = folder.file("folder").unwrap_or_default();
    folder.finish();
    let subscribers = subscribers(top, &group);
    device.finish();
    let mut status = top.section("status");
    let socket = status.file("socket");
    status.finish();
    let mut log = top.section("log");
    let filter = log.text("filter").unwrap_or_else(|| "info".to_owned());
    log.finish();
    Config {
        listen,
        group,
        credentials,
        subscribers,
        socket,
        log: filter,
    }
}

/// Stands in for a template with a mistake; the mistake is reported and nothing is started.
fn empty_template() -> NameTemplate {
    #[allow(clippy::expect_used)] // a constant without placeholders
    "none".parse().expect("a name without placeholders is a template")
}

fn listen(mut s: Section<'_, '_>) -> Listen {
    let listen = Listen {
        address: s.parsed("address").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 1883))),
        max_connections: usize::try_from(s.number("max_connections", 1..=1_000_000).unwrap_or(1_000)).unwrap_or(1_000),
        max_packet: usize::try_from(s.size("max_packet", 1 << 20, 256..=256 << 20)).unwrap_or(1 << 20),
        connect_timeout: s.duration("connect_timeout", 10 * SECOND, SECOND..=60 * SECOND),
        write_timeout: s.duration("write_timeout", 60 * SECOND, SECOND..=600 * SECOND),
    };
    s.finish();
    listen
}

fn upstream(mut s: Section<'_, '_>) -> Upstream {
    let host = s.required_text("host", "mynamespace.japaneast-1.ts.eventgrid.azure.net");
    if s.has("host") && ServerName::try_from(host.as_str()).is_err() {
        s.mistake(
            "host",
            format!("{host:?} is neither a host name nor an IP address; the port goes into port"),
        );
    }
    let address = s.text("address");
    if let Some(a) = &address {
        let ok = a
            .rsplit_once(':')
            .is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok_and(|p| p > 0));
        if !ok {
            s.mistake(
                "address",
                format!("{a:?} is not HOST:PORT: write for example \"192.0.2.1:8883\""),
            );
        }
    }
    let alpn = s.text("alpn");
    if alpn.as_ref().is_some_and(|a| a.is_empty() || a.len() > 255) {
        s.mistake("alpn", "a protocol name has 1 to 255 bytes (RFC 7301)");
    }
    let upstream = Upstream {
        host,
        port: s
            .number("port", 1..=65_535)
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(8_883),
        address,
        ca_file: s.file("ca_file"),
        versions: s.choice(
            "tls",
            Versions::Both,
            &[
                ("auto", Versions::Both),
                ("1.2", Versions::Only12),
                ("1.3", Versions::Only13),
            ],
        ),
        alpn,
        connect_timeout: s.duration("connect_timeout", 10 * SECOND, SECOND..=120 * SECOND),
    };
    s.finish();
    upstream
}

fn subscribers(top: &mut Section<'_, '_>, group: &Group) -> Vec<Rule> {
    let mut list = Vec::new();
    let mut imsis = HashMap::new();
    let mut sources = HashMap::new();
    for (index, mut s) in top.sections("subscriber").into_iter().enumerate() {
        let number = index + 1;
        if !s.has("imsi") {
            s.required_text("imsi", "295012345678901");
        }
        let imsi: Option<crate::identity::Imsi> = s.parsed("imsi");
        let rule = (
            s.parsed("imei"),
            s.parsed("iccid"),
            s.parsed::<Prefix>("source"),
            s.file("token_file"),
        );
        let (imei, iccid, source, token_file) = rule;
        if !s.has("source") && !s.has("token_file") {
            s.mistake(
                "source",
                "how is this subscriber known? write source = \"10.8.0.2\" or token_file = \"tokens/device-1\"",
            );
        }
        if let (Some(p), None) = (source, &token_file) {
            if let Some(first) = sources.insert(p, number) {
                s.mistake(
                    "source",
                    format!("{p} is also the source of [[subscriber]] number {first}: give one of them a token_file"),
                );
            }
        }
        if let Some(imsi) = imsi {
            if let Some(first) = imsis.insert(imsi.clone(), number) {
                s.mistake("imsi", format!("the same IMSI as [[subscriber]] number {first}"));
            }
            let subscriber = Subscriber { imsi, imei, iccid };
            if let Err(why) = names(&subscriber, group) {
                s.mistake("imsi", why);
            }
            list.push(Rule {
                subscriber,
                source,
                token_file,
            });
        }
        s.finish();
    }
    list
}

#[cfg(test)]
impl Group {
    /// A group with defaults, for the unit tests of this room.
    pub(super) fn for_tests(host: &str, credential: &str) -> Self {
        Self {
            upstream: Upstream {
                host: host.to_owned(),
                port: 8_883,
                address: None,
                ca_file: None,
                versions: Versions::Both,
                alpn: None,
                connect_timeout: 5 * SECOND,
            },
            username: None,
            pass_login: false,
            credential: credential.parse().unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::from_text(Path::new(DEFAULT_PATH), text)
    }

    const SMALL: &str =
        "[upstream]\nhost='h.example'\n[device]\ncredential='c-#{imsi}'\n[credentials]\nfolder='creds'\n";

    #[test]
    fn the_example_file_is_valid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gateway.toml");
        let config = Config::read(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.group.username.unwrap().source(), "myClient-#{imsi}");
        assert!(!config.subscribers.is_empty());
    }

    #[test]
    fn every_commented_key_of_the_example_is_known_and_its_value_the_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gateway.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let full: String = text
            .lines()
            .map(|l| match l.strip_prefix("#: ") {
                Some(key) => format!("{key}\n"),
                None => format!("{l}\n"),
            })
            .collect();
        assert_ne!(full, text);
        let full = Config::from_text(&path, full).unwrap_or_else(|e| panic!("{e}"));
        let plain = Config::read(&path).unwrap();
        assert_eq!(format!("{:?}", full.listen), format!("{:?}", plain.listen));
        assert_eq!(full.log, plain.log);
        assert_eq!(full.socket, Some(DEFAULT_SOCKET.into()));
    }

    #[test]
    fn defaults() {
        let c = read(SMALL).unwrap();
        assert_eq!(c.listen.address.to_string(), "127.0.0.1:1883");
        assert_eq!((c.listen.max_connections, c.listen.max_packet), (1_000, 1 << 20));
        assert_eq!((c.group.upstream.port, c.group.pass_login), (8_883, false));
        assert_eq!(c.credentials, Path::new("/etc/onyx/creds"));
        assert!(c.subscribers.is_empty());
    }

    #[test]
    fn all_mistakes_come_at_once_with_line_and_column() {
        let text = format!(
            "{SMALL}[listen]\naddress = 'here'\nmax_packets = '1MiB'\n[[subscriber]]\nimsi = '29501x'\nsource = '10.0.0.1/8'\n\
             [[subscriber]]\nimsi = '100001'\n[[subscriber]]\nimsi = '100001'\nsource = '10.0.0.1'\n\
             [[subscriber]]\nimsi = '100002'\nsource = '10.0.0.1'\n"
        );
        let e = read(&text).unwrap_err().to_string();
        for want in [
            "gateway.toml:8:11: listen.address:",
            "gateway.toml:9:1: unknown key \"listen.max_packets\"; did you mean \"max_packet\"?",
            "gateway.toml:11:8: subscriber.imsi: the IMSI must be digits only, character 6 is not",
            "gateway.toml:12:10: subscriber.source: \"10.0.0.1/8\" has bits after its prefix",
            "subscriber.source: how is this subscriber known?",
            "gateway.toml:16:8: subscriber.imsi: the same IMSI as [[subscriber]] number 2",
            "gateway.toml:20:10: subscriber.source: 10.0.0.1 is also the source of [[subscriber]] number 3",
            "7 mistakes",
        ] {
            assert!(e.contains(want), "{want:?} is not in\n{e}");
        }
    }

    #[test]
    fn names_are_checked_before_any_device_calls() {
        let sub = "[[subscriber]]\nimsi='100001'\nsource='10.0.0.1'\n";
        let with = |device: &str| {
            let text = SMALL.replace("credential='c-#{imsi}'", device) + sub;
            read(&text).map(|_| ()).unwrap_err().to_string()
        };
        assert!(with("credential='../#{imsi}'").contains("begins with '.'"));
        assert!(with("credential='a/#{imsi}'").contains("credential folder"));
        assert!(with("credential='c-#{imei}'").contains("#{imei}"));
        assert!(with("credential='c'\nusername='u'\npass_login=true").contains("only one login"));
        assert!(with("username='u'").contains("device.credential: is missing"));
    }
}
