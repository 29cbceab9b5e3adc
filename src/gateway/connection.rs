//! One device from its first byte to its last: CONNECT, who is it, credential, upstream, relay.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{info, warn};

use super::config::{Group, Listen};
use super::connect::{self, Plan};
use super::credentials::Credentials;
use super::refusal::Refusal;
use super::relay::{Limits, relay};
use super::status::{Connection, Status, Who};
use super::subscriber::Directory;
use super::{socket, upstream};
use crate::identity::redact_digits;
use crate::mqtt::{FrameError, connack, peek_frame, split_frame};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) listen: Listen,
    pub(super) group: Group,
    pub(super) directory: Directory,
    pub(super) credentials: Credentials,
    pub(super) status: Arc<Status>,
}

/// A device that got through to upstream.
struct Through {
    way: upstream::Open,
    from_device: BytesMut,
    idle: std::time::Duration,
    who: Who,
}

/// Serves one device to its end. Every way out has been logged and counted when this returns.
pub(super) async fn serve(shared: &Arc<Shared>, mut device: TcpStream, peer: SocketAddr, connection: &Connection) {
    socket::tune(&device, shared.listen.write_timeout);
    let mut who = Who::default();
    let Through {
        mut way,
        from_device,
        idle,
        who,
    } = match admit(shared, &mut device, peer, connection, &mut who).await {
        Ok(through) => through,
        Err(refusal) => {
            refuse(shared, device, peer, &who, &refusal).await;
            return;
        }
    };
    shared.status.count_relayed();
    info!(peer = %peer, imsi = %who.imsi, client_id = %who.client_id, credential = %who.credential, upstream = %who.upstream, "connected");
    let limits = Limits {
        max_packet: shared.listen.max_packet,
        idle,
        write_timeout: shared.listen.write_timeout,
    };
    let first = timeout(limits.write_timeout, device.write_all(&way.connack.bytes)).await;
    let end = if matches!(first, Ok(Ok(()))) {
        let rest = std::mem::take(&mut way.rest);
        let traffic = (&connection.up, &connection.down);
        relay((&mut device, from_device), (&mut way.stream, rest), limits, traffic)
            .await
            .to_string()
    } else {
        "the device went before its CONNACK".to_owned()
    };
    use std::sync::atomic::Ordering::Relaxed;
    info!(
        peer = %peer, imsi = %who.imsi, client_id = %who.client_id,
        up = connection.up.packets.load(Relaxed), down = connection.down.packets.load(Relaxed),
        "ended: {end}"
    );
    tokio::join!(socket::close(device), socket::close(way.stream));
}

async fn admit(
    shared: &Arc<Shared>,
    device: &mut TcpStream,
    peer: SocketAddr,
    connection: &Connection,
    who: &mut Who,
) -> Result<Through, Refusal> {
    let patience = shared.listen.connect_timeout;
    let (asked, from_device) = timeout(patience, first_packet(device, shared.listen.max_packet))
        .await
        .map_err(|_| Refusal::Silent(patience.as_secs()))??;
    who.client_id = shown(&asked.client_id);
    let password = asked.password.clone();
    let (known, by) = shared
        .directory
        .find(peer.ip(), password.as_deref())
        .ok_or(Refusal::Unknown)?;
    who.imsi = known.subscriber.imsi.redacted();
    let Plan {
        connect,
        credential,
        idle,
    } = connect::plan(asked, &known.subscriber, by, &shared.group)?;
    who.credential = credential.redacted();
    "dialling".clone_into(&mut who.upstream);
    connection.set(who.clone());
    let store = shared.clone();
    let looking = tokio::task::spawn_blocking(move || store.credentials.config(&credential));
    let config = tokio::time::timeout(shared.group.upstream.connect_timeout, looking)
        .await
        .map_err(|_| Refusal::Credential("its files could not be read in time: does their disk hang?".to_owned()))?
        .map_err(|e| Refusal::Credential(e.to_string()))?
        .map_err(|e| Refusal::Credential(e.redacted()))?;
    let way = upstream::open(&shared.group.upstream, config, &connect, shared.listen.write_timeout).await?;
    who.upstream.clone_from(&way.tls);
    connection.set(who.clone());
    Ok(Through {
        way,
        from_device,
        idle,
        who: who.clone(),
    })
}

/// The CONNECT, and what the device sent after it (it need not wait for CONNACK: MQTT 3.1.1 section 3.1.4).
async fn first_packet(device: &mut TcpStream, limit: usize) -> Result<(crate::mqtt::Connect, BytesMut), Refusal> {
    let mut buffer = BytesMut::with_capacity(1_024);
    let malformed = |e: FrameError| Refusal::Malformed(e.to_string());
    loop {
        if buffer.first().is_some_and(|b| b >> 4 != 1) {
            return Err(Refusal::Malformed(
                "the first packet is not CONNECT [MQTT-3.1.0-1]".into(),
            ));
        }
        // The buffer grows with what arrives: a stranger does not get to reserve memory by announcing a length.
        let whole = peek_frame(&buffer, limit)
            .map_err(malformed)?
            .is_some_and(|h| h.size <= buffer.len());
        if whole {
            if let Some(frame) = split_frame(&mut buffer, limit).map_err(malformed)? {
                return Ok((connect::read(&frame)?, buffer));
            }
        }
        match device.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Err(Refusal::Gone),
            Ok(_) => {}
        }
    }
}

/// Most characters of a device's own text that go into a log line.
const SHOWN_MAX: usize = 128;

/// A client id for logs and status: digits hidden, nothing that could break a line, and not for ever.
fn shown(client_id: &str) -> String {
    let short: String = client_id.chars().take(SHOWN_MAX).collect();
    redact_digits(&short).escape_debug().to_string()
}

async fn refuse(shared: &Shared, mut device: TcpStream, peer: SocketAddr, who: &Who, refusal: &Refusal) {
    shared.status.count_refused(refusal);
    let reason = refusal.key();
    match refusal.code() {
        Some(code) => {
            warn!(peer = %peer, imsi = %who.imsi, client_id = %who.client_id, reason, connack = code, "refused: {refusal}");
            let _ = timeout(shared.listen.connect_timeout, device.write_all(&connack::packet(code))).await;
        }
        // A port scan or a health check; no device was turned away.
        None if matches!(refusal, Refusal::Gone) => info!(peer = %peer, reason, "ended: {refusal}"),
        None => warn!(peer = %peer, imsi = %who.imsi, client_id = %who.client_id, reason, "refused: {refusal}"),
    }
    socket::close(device).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_cannot_forge_a_log_line() {
        assert_eq!(shown("a\nINFO connected"), "a\\nINFO connected");
        assert_eq!(shown("c-295012345678901"), "c-29501********01");
        assert_eq!(shown(&"x".repeat(60_000)).len(), SHOWN_MAX);
    }
}
