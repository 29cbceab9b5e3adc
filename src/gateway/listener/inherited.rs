//! Sockets that systemd opened for us (`onyx-gateway.socket`): they stay open while the program is restarted, and who connects in between is
//! served after it. Protocol and names: sd_listen_fds(3), systemd.socket(5) (`FileDescriptorName=`).
//!
//! A name is a door's: [`NAMES`]. Several sockets may have one name (IPv4 and IPv6). A door that has a socket from systemd does not use its
//! address in `gateway.toml`.

use std::collections::HashMap;
use std::net::TcpListener;

/// The names of the doors: plain MQTT, MQTT over TLS, the API, provisioning.
pub const NAMES: [&str; 4] = ["mqtt", "mqtts", "api", "provisioning"];

/// Why a socket that systemd passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// The variables LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES are no good.
    #[error("systemd's sockets cannot be read: {0}")]
    Variables(std::io::Error),
    /// Not one of [`NAMES`].
    #[error(
        "systemd passes a socket named {0:?}: set FileDescriptorName= in its .socket unit to one of mqtt, mqtts, api, provisioning"
    )]
    Name(String),
    /// No listening TCP socket.
    #[error(
        "the socket {name:?} that systemd passes cannot be used: {source}; it must be a ListenStream= with a TCP port"
    )]
    Socket {
        /// Its name.
        name: String,
        /// What the operating system says.
        source: std::io::Error,
    },
}

/// The sockets that were passed, by name.
#[derive(Debug, Default)]
pub struct Inherited(HashMap<String, Vec<TcpListener>>);

impl Inherited {
    /// Takes what systemd has passed to this process. Once a process.
    ///
    /// # Errors
    /// [`InheritedError`].
    pub fn take() -> Result<Self, InheritedError> {
        let names: Vec<String> = sd_notify::listen_fds_with_names()
            .map_err(InheritedError::Variables)?
            .map(|(_, name)| name)
            .collect();
        let mut passed = listenfd::ListenFd::from_env();
        let mut sockets: HashMap<String, Vec<TcpListener>> = HashMap::new();
        for (index, name) in names.into_iter().enumerate() {
            if !NAMES.contains(&name.as_str()) {
                return Err(InheritedError::Name(name));
            }
            let socket = passed.take_tcp_listener(index).and_then(|socket| {
                let socket = socket.ok_or(std::io::ErrorKind::NotFound)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            match socket {
                Ok(socket) => sockets.entry(name).or_default().push(socket),
                Err(source) => return Err(InheritedError::Socket { name, source }),
            }
        }
        Ok(Self(sockets))
    }

    /// The sockets of one door.
    pub(in crate::gateway) fn of(&mut self, name: &str) -> Vec<TcpListener> {
        self.0.remove(name).unwrap_or_default()
    }

    /// The names of those that no door has taken.
    pub(in crate::gateway) fn left(self) -> Vec<String> {
        self.0.into_keys().collect()
    }
}
