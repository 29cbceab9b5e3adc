//! The doors for devices.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::SECOND;
use crate::config::Section;
use crate::gateway::subscriber::Prefix;
use crate::gateway::workers::WORKERS_MAX;
use crate::identity::NameTemplate;

/// A door with TLS, where a device proves itself by a certificate.
#[derive(Debug, Clone)]
pub struct ListenTls {
    /// Where to listen.
    pub address: SocketAddr,
    /// The gateway's own certificate and intermediates.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of devices' certificates; without it no certificate is asked for.
    pub client_ca: Option<PathBuf>,
    /// How the common name of a device's certificate tells its IMSI: `myClient-#{imsi}`.
    pub name: NameTemplate,
}

/// The doors for devices.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Where to listen; port 0 takes any free port.
    pub address: SocketAddr,
    /// The door with TLS, if there is one.
    pub tls: Option<ListenTls>,
    /// How many devices at once, on all doors.
    pub max_connections: usize,
    /// How many of them may come from one address (of a trusted proxy: from one address behind it).
    pub max_per_address: usize,
    /// Largest packet taken from either side, in bytes.
    pub max_packet: usize,
    /// How long a new connection may take to send its CONNECT, the PROXY header and the TLS handshake included.
    pub connect_timeout: Duration,
    /// How long one write to either side may be stuck before the connection is given up.
    pub write_timeout: Duration,
    /// How long what connections have begun may take to come to an end after SIGTERM.
    pub drain_timeout: Duration,
    /// Load balancers that send a PROXY protocol v2 header; nobody else may.
    pub proxies: Vec<Prefix>,
    /// Refusals after which an address must wait before it is heard again.
    pub guesses: u32,
    /// Threads that serve devices; 0 is one for each core.
    pub workers: usize,
}

/// The common name that `onyx-gateway ca issue` and the guides give a device.
pub(super) const DEFAULT_NAME: &str = "#{imsi}";

pub(super) fn read(mut s: Section<'_, '_>) -> Listen {
    let count = |n: Option<i64>, default: usize| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(default);
    let tls = s.has("tls").then(|| tls(s.section("tls")));
    let listen = Listen {
        address: s.parsed("address").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 1883))),
        tls,
        max_connections: count(s.number("max_connections", 1..=1_000_000), 1_000),
        max_per_address: count(s.number("max_per_address", 1..=1_000_000), 1_000),
        max_packet: usize::try_from(s.size("max_packet", 1 << 20, 256..=256 << 20)).unwrap_or(1 << 20),
        connect_timeout: s.duration("connect_timeout", 10 * SECOND, SECOND..=60 * SECOND),
        write_timeout: s.duration("write_timeout", 60 * SECOND, SECOND..=600 * SECOND),
        drain_timeout: s.duration("drain_timeout", 5 * SECOND, Duration::ZERO..=600 * SECOND),
        proxies: s.list("proxies"),
        guesses: s
            .number("guesses", 1..=10_000)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(10),
        workers: count(
            s.number("workers", 0..=i64::try_from(WORKERS_MAX).unwrap_or(i64::MAX)),
            0,
        ),
    };
    s.finish();
    listen
}

fn tls(mut s: Section<'_, '_>) -> ListenTls {
    for (key, example) in [("certificate", "gateway.pem"), ("key", "gateway.key")] {
        if !s.has(key) {
            match key {
                "certificate" => s.required_text("certificate", example),
                _ => s.required_text("key", example),
            };
        }
    }
    let listen = ListenTls {
        address: s.parsed("address").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8883))),
        certificate: s.file("certificate").unwrap_or_default(),
        key: s.file("key").unwrap_or_default(),
        client_ca: s.file("client_ca"),
        name: s
            .parsed("name")
            .unwrap_or_else(|| DEFAULT_NAME.parse().unwrap_or_default()),
    };
    s.finish();
    listen
}
