//! One device from its first byte to its last: CONNECT, who is it, credential, upstream, relay.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{info, warn};

use super::book::Book;
use super::config::Listen;
use super::connect::{self, Plan};
use super::credential::{Credential, CredentialId};
use super::flow::{Flow, Terms};
use super::group::{Group, Proof};
use super::refusal::Refusal;
use super::relay::{Bounds, relay};
use super::status::{Connection, Status, Who};
use super::upstream::tickets::Tickets;
use super::{socket, upstream};
use crate::identity::redact_digits;
use crate::mqtt::{FrameError, connack, peek_frame, split_frame};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) listen: Listen,
    pub(super) book: Arc<Book>,
    pub(super) tickets: Tickets,
    pub(super) status: Arc<Status>,
    /// The zero of every flow's time.
    pub(super) epoch: tokio::time::Instant,
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
    let bounds = Bounds {
        epoch: shared.epoch,
        write_timeout: shared.listen.write_timeout,
    };
    let terms = Terms {
        max_packet: shared.listen.max_packet,
        idle,
    };
    let flow = Flow::new(terms, shared.epoch.elapsed());
    let first = timeout(bounds.write_timeout, device.write_all(&way.connack.bytes)).await;
    let end = if matches!(first, Ok(Ok(()))) {
        let (from_device, rest) = (Vec::from(from_device), Vec::from(std::mem::take(&mut way.rest)));
        let traffic = (&connection.up, &connection.down);
        relay(
            (&mut device, from_device),
            (&mut way.stream, rest),
            flow,
            bounds,
            traffic,
        )
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
    let view = shared.book.view().await;
    let caller = super::subscriber::Caller {
        address: peer.ip(),
        password: password.as_deref(),
        client_id: &asked.client_id,
        certificate: None,
    };
    let (known, by) = view.directory.find(&caller).map_err(|e| match e {
        super::subscriber::Unknown::Nobody => Refusal::Unknown,
        super::subscriber::Unknown::Disabled(_) => Refusal::Disabled,
        super::subscriber::Unknown::Imei(_) => Refusal::Imei,
    })?;
    who.imsi = known.subscriber.imsi.redacted();
    let group = view
        .group(&known.group)
        .ok_or_else(|| Refusal::Credential(redact_digits(&view.why_no_group(&known.group))))?;
    if !group.enabled {
        return Err(Refusal::GroupDisabled(group.id.to_string()));
    }
    let Plan { connect, names, idle } = connect::plan(asked, &known.subscriber, by, group)?;
    who.credential = names
        .credential
        .as_ref()
        .map(CredentialId::redacted)
        .unwrap_or_default();
    "dialling".clone_into(&mut who.upstream);
    connection.set(who.clone());
    let config = proof(shared, group, names.credential.as_ref());
    let config = timeout(group.upstream.connect_timeout, config).await.map_err(|_| {
        Refusal::Credential("it could not be read in time: does its disk or database hang?".to_owned())
    })??;
    let way = upstream::open(&group.upstream, config, &connect, shared.listen.write_timeout).await?;
    who.upstream.clone_from(&way.tls);
    connection.set(who.clone());
    shared.book.connected(&known.subscriber.imsi, names.credential.as_ref());
    Ok(Through {
        way,
        from_device,
        idle,
        who: who.clone(),
    })
}

/// The TLS configuration with what proves the device.
async fn proof(
    shared: &Arc<Shared>,
    group: &Arc<Group>,
    id: Option<&CredentialId>,
) -> Result<Arc<rustls::ClientConfig>, Refusal> {
    let credential = match (&group.proof, id) {
        (Proof::Stored { default, .. }, Some(id)) => Some(stored(shared, id, default.as_ref()).await?),
        (Proof::Inline(credential), _) => Some(credential.clone()),
        _ => None,
    };
    let (shared, group) = (shared.clone(), group.clone());
    let made = tokio::task::spawn_blocking(move || shared.tickets.config(&group.upstream, credential.as_deref()));
    made.await
        .map_err(|e| Refusal::Credential(e.to_string()))?
        .map_err(Refusal::Credential)
}

/// The credential of that id, or the default one while there is none.
async fn stored(
    shared: &Shared,
    id: &CredentialId,
    default: Option<&CredentialId>,
) -> Result<Arc<Credential>, Refusal> {
    for id in std::iter::once(id).chain(default) {
        match shared.book.credential(id).await {
            Ok(Some(credential)) => return Ok(credential),
            Ok(None) => {}
            Err(e) => return Err(Refusal::Credential(e.redacted())),
        }
    }
    Err(Refusal::Credential(format!(
        "there is no credential {}: add it, or a default one",
        id.redacted()
    )))
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
