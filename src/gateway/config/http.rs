//! The doors for those who speak HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::Section;

/// For people and programs: SORACOM's API for groups and credentials, metrics, the page.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Where to listen; loopback unless told otherwise.
    pub address: SocketAddr,
    /// The file with the token that every question must bring (mode 0600).
    pub token_file: PathBuf,
    /// Whether `/metrics` may be read without it.
    pub open_metrics: bool,
    /// Names under which the page may be opened besides the address's own (against DNS rebinding).
    pub hosts: Vec<String>,
}

/// For devices: what SORACOM Krypton answers.
#[derive(Debug, Clone)]
pub struct ProvisioningConfig {
    /// Where to listen.
    pub address: SocketAddr,
    /// The folder of the authority that signs (`onyx-gateway ca init`).
    pub ca: PathBuf,
    /// How long a certificate lives, in days.
    pub days: u16,
    /// Certificates a subscriber may get in a day.
    pub per_day: u32,
}

pub(super) fn api(mut s: Section<'_, '_>) -> ApiConfig {
    if !s.has("token_file") {
        s.required_text("token_file", "api.token");
    }
    let api = ApiConfig {
        address: s.parsed("address").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
        token_file: s.file("token_file").unwrap_or_default(),
        open_metrics: s.boolean("open_metrics", false),
        hosts: s.list("hosts"),
    };
    s.finish();
    api
}

pub(super) fn provisioning(mut s: Section<'_, '_>) -> ProvisioningConfig {
    if !s.has("ca") {
        s.required_text("ca", "ca");
    }
    let provisioning = ProvisioningConfig {
        address: s.parsed("address").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8036))),
        ca: s.file("ca").unwrap_or_default(),
        days: s
            .number("days", 1..=3_650)
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(365),
        per_day: s
            .number("per_day", 1..=10_000)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(10),
    };
    s.finish();
    provisioning
}
