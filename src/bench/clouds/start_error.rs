//! Why the stand-ins do not start, and what to do about it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::authority::AuthorityError;
use super::stand_in::{Cloud, Protocol};
use crate::tls::TlsError;

/// Why the stand-ins do not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option cannot be used.
    #[error("{0}")]
    Option(String),
    /// Another bench is at home there.
    #[error("another bench is running in {0}: stop it, or name another directory with --dir")]
    Taken(PathBuf),
    /// The directory or a file in it.
    #[error("{path}: {source}; name a directory that can be written with --dir")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// An address or port cannot be had.
    #[error(
        "the {} door of {cloud} cannot listen on {address}: {source}; {}",
        protocol.as_str(),
        listen_cure(source, *address)
    )]
    Listen {
        /// Which stand-in.
        cloud: Cloud,
        /// Which of its doors.
        protocol: Protocol,
        /// Where.
        address: SocketAddr,
        /// What is wrong.
        source: std::io::Error,
    },
    /// The control endpoint's address cannot be had.
    #[error("the control endpoint cannot listen on {address}: {source}; name another address with --control")]
    Control {
        /// Where.
        address: SocketAddr,
        /// What is wrong.
        source: std::io::Error,
    },
    /// No authority or certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// rustls does not take it.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What to do about an address that cannot be had.
fn listen_cure(error: &std::io::Error, address: SocketAddr) -> String {
    use std::io::ErrorKind as E;
    match error.kind() {
        E::PermissionDenied => format!(
            "ports below 1024 are the superuser's: run as root, allow it with \
             'sysctl net.ipv4.ip_unprivileged_port_start={}', or leave out --standard-ports",
            address.port()
        ),
        E::AddrInUse => format!(
            "something else has it ('ss -ltnp sport = :{}' tells what): stop that, or take another address with --bind",
            address.port()
        ),
        E::AddrNotAvailable => "this machine has no such address: take one of 127.0.0.0/8 with --bind".into(),
        _ => "take another address with --bind".into(),
    }
}
