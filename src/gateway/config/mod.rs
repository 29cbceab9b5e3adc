//! `gateway.toml`: every key with its default and unit is in `examples/gateway.toml`.
//!
//! Relative paths are relative to the directory of the file they stand in. Reading the file reads no other file: certificates, keys,
//! tokens and groups' JSON are looked at by [`super::check`] and when they are used.
//!
//! | file | sections |
//! |---|---|
//! | `listen` | `[listen]`, `[listen.tls]`: the doors for devices |
//! | `files` | `[upstream]`, `[device]`, `[credentials]`, `[[subscriber]]`: a gateway whose whole knowledge is in files |
//! | `store` | `[store]`: a gateway whose knowledge is in a database |
//! | `http` | `[api]`, `[provisioning]`: the doors for people, programs and devices that speak HTTP |

mod files;
mod http;
mod listen;
mod store;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use files::{FilesConfig, Rule};
pub use http::{ApiConfig, ProvisioningConfig};
pub use listen::{Listen, ListenTls};
pub use store::{Database, StoreConfig};

use crate::config::{ConfigError, Reader, Section};

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/onyx/gateway.toml";
/// Where `onyx-gateway status` asks when nobody says otherwise; systemd's RuntimeDirectory makes the directory.
pub const DEFAULT_SOCKET: &str = "/run/onyx-gateway/status.sock";

/// Where the gateway knows its devices from.
#[derive(Debug, Clone)]
pub enum Source {
    /// This file and a folder of credentials.
    Files(FilesConfig),
    /// A database.
    Store(StoreConfig),
}

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The doors.
    pub listen: Listen,
    /// Who may connect, and how they are proved.
    pub source: Source,
    /// The interface for people and programs, if there is one.
    pub api: Option<ApiConfig>,
    /// The Krypton-compatible interface for devices, if there is one.
    pub provisioning: Option<ProvisioningConfig>,
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
    let listen = listen::read(top.section("listen"));
    let in_files = ["upstream", "device", "credentials", "subscriber"];
    let named = in_files.into_iter().find(|key| top.has(key));
    let source = match named {
        Some(key) => {
            if top.has("store") {
                top.mistake(
                    "store",
                    format!(
                        "[store] and [{key}] stand in one file: a gateway knows its devices from a database or from this file, \
                         not from both; 'onyx-gateway import' takes this file's into the database"
                    ),
                );
                store::read(top.section("store"));
            }
            let certificates = listen.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
            Source::Files(files::read(top, certificates))
        }
        None => Source::Store(store::read(top.section("store"))),
    };
    let api = top.has("api").then(|| http::api(top.section("api")));
    let provisioning = top
        .has("provisioning")
        .then(|| http::provisioning(top.section("provisioning")));
    let mut status = top.section("status");
    let socket = status.file("socket");
    status.finish();
    let mut log = top.section("log");
    let filter = log.text("filter").unwrap_or_else(|| "info".to_owned());
    log.finish();
    Config {
        listen,
        source,
        api,
        provisioning,
        socket,
        log: filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::group::Login;

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::from_text(Path::new(DEFAULT_PATH), text)
    }

    const SMALL: &str =
        "[upstream]\nhost='h.example'\n[device]\ncredential='c-#{imsi}'\n[credentials]\nfolder='creds'\n";

    #[test]
    fn the_example_file_is_valid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gateway.toml");
        let config = Config::read(&path).unwrap_or_else(|e| panic!("{e}"));
        let Source::Files(files) = config.source else {
            panic!("files")
        };
        let Login::Fixed { username, .. } = &files.groups[0].login else {
            panic!("a fixed login")
        };
        assert_eq!(username.source(), "myClient-#{imsi}");
        assert!(!files.subscribers.is_empty());
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
        let Source::Files(files) = c.source else {
            panic!("files")
        };
        assert_eq!(files.groups[0].upstream.port, 8_883);
        assert!(matches!(files.groups[0].login, Login::None));
        assert_eq!(files.folder, Path::new("/etc/onyx/creds"));
        assert!(files.subscribers.is_empty());
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
