//! The door for people and programs that speak HTTP.

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
