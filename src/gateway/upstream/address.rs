//! From an upstream's name to a TCP connection.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Stage;
use super::lookup::Lookups;
use crate::gateway::group::Upstream;
use crate::gateway::refusal::Refusal;
use crate::gateway::socket;

/// What is dialled: `host:port`.
pub(super) fn target(upstream: &Upstream) -> String {
    match &upstream.address {
        Some(address) => address.clone(),
        // An IPv6 address as host needs brackets before its port.
        None if upstream.host.contains(':') => format!("[{}]:{}", upstream.host, upstream.port),
        None => format!("{}:{}", upstream.host, upstream.port),
    }
}

/// Looks the name up and connects to the first of its addresses that answers; each has its share of the time.
pub(super) async fn dial(
    upstream: &Upstream,
    write_timeout: Duration,
    stage: &mut Stage,
) -> Result<TcpStream, Refusal> {
    let target = target(upstream);
    let unreachable = |what: &str, e: &io::Error| {
        Refusal::Unreachable(format!(
            "{what} {target}: {e}; see [upstream], DNS, routes and firewalls"
        ))
    };
    *stage = Stage::Lookup;
    let found = Lookups::system().find(&target).await;
    let found = found.map_err(|e| unreachable("cannot look up", &e))?;
    *stage = Stage::Tcp;
    // A first address that swallows packets leaves time for the others.
    let share = upstream.connect_timeout / u32::try_from(found.len().max(1)).unwrap_or(1);
    let mut last = Refusal::Unreachable(format!("{target} has no address"));
    for address in found {
        let error = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                socket::tune(&tcp, write_timeout);
                return Ok(tcp);
            }
            Ok(Err(e)) => e,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        last = unreachable("cannot connect to", &error);
    }
    Err(last)
}
