//! How bytes reach the network: the rung between "registered" and everything that opens a socket.
//!
//! A [`Link`] climbs (brings IP up), tells whether it still holds, and says by which interface sockets must go ([`Via`]). `external`
//! leaves the work to NetworkManager, systemd-networkd or whoever else does it; PPP and ECM fill the same trait.

mod external;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

pub use external::External;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the link is not up, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct LinkFault {
    /// What happened.
    pub cause: String,
    /// What a person can do.
    pub cure: String,
}

/// By which way sockets go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Via {
    /// Bind to this interface (`SO_BINDTODEVICE`); `None` takes the system's routes.
    pub interface: Option<String>,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(name) => write!(f, "interface {name}"),
            None => f.write_str("the system's routes"),
        }
    }
}

/// Something that carries IP.
pub trait Link: Send + Sync {
    /// Brings the link up, or finds that it is up; quick when it is.
    fn climb(&mut self) -> BoxFuture<'_, Result<Via, LinkFault>>;
}

/// Why no TCP connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name is unknown.
    #[error("the name {host} cannot be resolved: {source}")]
    Resolve {
        /// Which name.
        host: String,
        /// What the resolver says.
        source: std::io::Error,
    },
    /// No address answered.
    #[error("{address} does not answer: {source}")]
    Connect {
        /// The last address that was tried.
        address: SocketAddr,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("{host} port {port} did not answer within {:.1} s", within.as_secs_f32())]
    Timeout {
        /// Which host.
        host: String,
        /// Which port.
        port: u16,
        /// The limit.
        within: Duration,
    },
}

/// Opens a TCP connection along `via`. `address` is dialled instead of resolving `host`, when given. The whole takes at most `within`.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    via: &Via,
    host: &str,
    port: u16,
    address: Option<SocketAddr>,
    within: Duration,
) -> Result<TcpStream, DialError> {
    let attempt = async {
        let candidates: Vec<SocketAddr> = match (address, host.parse::<IpAddr>()) {
            (Some(address), _) => vec![address],
            (None, Ok(ip)) => vec![SocketAddr::new(ip, port)],
            (None, Err(_)) => tokio::net::lookup_host((host, port))
                .await
                .map_err(|source| DialError::Resolve {
                    host: host.to_owned(),
                    source,
                })?
                .collect(),
        };
        let mut failure = DialError::Resolve {
            host: host.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::NotFound, "no address"),
        };
        // An address that swallows packets (often the IPv6 one) leaves time for those after it; the last has all that is left.
        let share = within / u32::try_from(candidates.len().max(1)).unwrap_or(u32::MAX);
        let last = candidates.last().copied();
        for address in candidates {
            let attempt = connect(via, address);
            let connected = if Some(address) == last {
                attempt.await
            } else {
                let late = |_| Err(std::io::ErrorKind::TimedOut.into());
                tokio::time::timeout(share, attempt).await.unwrap_or_else(late)
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(source) => failure = DialError::Connect { address, source },
            }
        }
        Err(failure)
    };
    tokio::time::timeout(within, attempt).await.unwrap_or_else(|_| {
        Err(DialError::Timeout {
            host: host.to_owned(),
            port,
            within,
        })
    })
}

async fn connect(via: &Via, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(interface) = &via.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
