//! One device from its first byte to its last: CONNECT, who is it, credential, upstream, relay.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{timeout, timeout_at};
use tracing::{info, warn};

use super::book::Book;
use super::config::Listen;
use super::connect::{self, Granted};
use super::credential::{Credential, CredentialId};
use super::flow::bucket::Buckets;
use super::flow::{Flow, Step};
use super::group::{Group, Proof, Scheme};
use super::listener::{CONNECT_MAX, Hall, Kind, Peer, Stop, Visit, stranger};
use super::refusal::Refusal;
use super::relay::{Bounds, Judge, relay};
use super::reload::Current;
use super::status::{Connection, Status, Who};
use super::subscriber::{Caller, Unknown};
use super::upstream::tickets::Tickets;
use super::wire::Wire;
use super::{socket, upstream};
use crate::identity::redact_digits;
use crate::mqtt::{ConnAck, FrameError, Level, peek_frame, split_frame};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The bounds of now; a reload changes them.
    pub(super) listen: Current<Listen>,
    /// What all doors share.
    pub(super) hall: Arc<Hall>,
    /// How everything ends. A connection that can tell its device so watches `drain`.
    pub(super) stop: Stop,
    pub(super) book: Arc<Book>,
    pub(super) tickets: Tickets,
    pub(super) status: Arc<Status>,
    /// What each subscriber may still send.
    pub(super) buckets: Buckets,
    /// The zero of every flow's time.
    pub(super) epoch: tokio::time::Instant,
}

/// A device that got through to upstream, and has been told so.
struct Through {
    device: Wire,
    from_device: Vec<u8>,
    upstream: Wire,
    from_upstream: Vec<u8>,
    flow: Flow,
    who: Who,
}

/// Serves one device to its end. Every way out has been logged and counted when this returns.
///
/// What comes before and after the relay is boxed: it is given back while the connection lives, and an idle one is small.
pub(super) async fn serve(shared: &Arc<Shared>, device: Wire, peer: &Peer, visit: &Visit, connection: &Connection) {
    let Some(through) = Box::pin(enter(shared, device, peer, visit, connection)).await else {
        return;
    };
    let Through {
        mut device,
        from_device,
        mut upstream,
        from_upstream,
        flow,
        who,
    } = *through;
    let bounds = Bounds {
        epoch: shared.epoch,
        write_timeout: shared.listen.get().write_timeout,
    };
    let (near, far) = ((&mut device, from_device), (&mut upstream, from_upstream));
    let flow = Noting { flow, peer, who: &who };
    let end = relay(near, far, flow, bounds, (&connection.up, &connection.down)).await;
    ended(peer, &who, connection, &end.to_string());
    Box::pin(async { tokio::join!(socket::close(device), socket::close(upstream)) }).await;
}

/// A flow whose notes go into the log.
struct Noting<'a> {
    flow: Flow,
    peer: &'a Peer,
    who: &'a Who,
}

impl Noting<'_> {
    fn note(&self, mut step: Step) -> Step {
        if let Some(note) = step.note.take() {
            warn!(peer = %self.peer.address, imsi = %self.who.imsi, client_id = %self.who.client_id, "{note}");
        }
        step
    }
}

impl Judge for Noting<'_> {
    fn up(&mut self, front: &[u8], now: Duration) -> Step {
        let step = self.flow.up(front, now);
        self.note(step)
    }

    fn down(&mut self, front: &[u8], now: Duration) -> Step {
        self.flow.down(front, now)
    }

    fn deadline(&self) -> Duration {
        self.flow.deadline()
    }

    fn due(&mut self, now: Duration) -> Step {
        self.flow.due(now)
    }
}

/// Everything up to the device's CONNACK.
async fn enter(
    shared: &Arc<Shared>,
    mut device: Wire,
    peer: &Peer,
    visit: &Visit,
    connection: &Connection,
) -> Option<Box<Through>> {
    let listen = shared.listen.get();
    let mut who = Who::default();
    let mut level = Level::default();
    let admitted = admit(shared, &mut device, peer, visit, connection, (&mut who, &mut level)).await;
    let (
        Admitted {
            way,
            from_device,
            granted,
        },
        connack,
    ) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            refuse(shared, device, peer, (&who, level), &refusal).await;
            return None;
        }
    };
    shared.status.count_relayed();
    info!(peer = %peer.address, imsi = %who.imsi, client_id = %who.client_id, credential = %who.credential, upstream = %who.upstream, "connected");
    let first = timeout(listen.write_timeout, async {
        device.write_all(&connack).await?;
        device.flush().await
    });
    if !matches!(first.await, Ok(Ok(()))) {
        ended(peer, &who, connection, "the device went before its CONNACK");
        tokio::join!(socket::close(device), socket::close(way.wire));
        return None;
    }
    Some(Box::new(Through {
        device,
        // Of what was read ahead, no more is kept than there is.
        from_device: from_device.to_vec(),
        upstream: way.wire,
        from_upstream: way.rest.to_vec(),
        flow: granted.flow(shared.epoch.elapsed()),
        who,
    }))
}

fn ended(peer: &Peer, who: &Who, connection: &Connection, end: &str) {
    info!(
        peer = %peer.address, imsi = %who.imsi, client_id = %who.client_id,
        up = connection.up.packets.load(Relaxed), down = connection.down.packets.load(Relaxed),
        "ended: {end}"
    );
}

/// A device that upstream has taken.
struct Admitted {
    way: upstream::Open,
    from_device: BytesMut,
    granted: Granted,
}

async fn admit(
    shared: &Arc<Shared>,
    device: &mut Wire,
    peer: &Peer,
    visit: &Visit,
    connection: &Connection,
    (who, level): (&mut Who, &mut Level),
) -> Result<(Admitted, Vec<u8>), Refusal> {
    let listen = shared.listen.get();
    let limit = listen.max_packet.min(CONNECT_MAX);
    let (asked, from_device) = timeout_at(peer.deadline, first_packet(device, visit.kind, limit))
        .await
        .map_err(|_| Refusal::Silent(peer.patience.as_secs()))??;
    *level = asked.level;
    who.client_id = shown(&asked.client_id);
    let password = asked.password.clone();
    let view = shared.book.view().await;
    let found = view.directory.find(&Caller {
        address: peer.address.ip(),
        password: password.as_deref(),
        client_id: &asked.client_id,
        certificate: peer.certificate.as_ref(),
    });
    let (known, by) = found.map_err(|unknown| match unknown {
        Unknown::Nobody => Refusal::Unknown,
        Unknown::Disabled(known) => {
            who.imsi = known.subscriber.imsi.redacted();
            Refusal::Disabled
        }
        Unknown::Imei(known) => {
            who.imsi = known.subscriber.imsi.redacted();
            Refusal::Imei
        }
    })?;
    visit.place.keep()?;
    shared.hall.welcomed(peer.origin());
    who.imsi = known.subscriber.imsi.redacted();
    let group = view
        .group(&known.group)
        .ok_or_else(|| Refusal::Credential(redact_digits(&view.why_no_group(&known.group))))?;
    if !group.enabled {
        return Err(Refusal::GroupDisabled(group.id.to_string()));
    }
    let plan = connect::plan(asked, &known.subscriber, by, group)?;
    let credential = plan.names.credential.as_ref();
    who.credential = credential.map(CredentialId::redacted).unwrap_or_default();
    "dialling".clone_into(&mut who.upstream);
    connection.set(who.clone());
    let config = proof(shared, group, credential);
    let config = timeout(group.upstream.connect_timeout, config).await.map_err(|_| {
        Refusal::Credential("it could not be read in time: does its disk or database hang?".to_owned())
    })??;
    let bytes = plan.connect.encode().map_err(|e| Refusal::Malformed(e.to_string()))?;
    let way = upstream::open(&group.upstream, config, &bytes, listen.write_timeout).await?;
    way.wire.shown().clone_into(&mut who.upstream);
    connection.set(who.clone());
    let broken = |what: String| Refusal::NoAnswer(format!("{}: {what}", group.upstream.host));
    let connack = ConnAck::decode(*level, way.connack.body()).map_err(|v| broken(v.to_string()))?;
    let mut granted = plan.granted(connack, listen.max_packet)?;
    let bucket = shared
        .buckets
        .of(&known.subscriber.imsi, group.rate, shared.epoch.elapsed());
    granted.deal = granted.deal.limited(bucket);
    let connack = granted.connack.encode().map_err(|v| broken(v.to_string()))?;
    Ok((
        Admitted {
            way,
            from_device,
            granted,
        },
        connack,
    ))
}

/// The TLS configuration with what proves the device; none for a plain upstream.
async fn proof(
    shared: &Arc<Shared>,
    group: &Arc<Group>,
    id: Option<&CredentialId>,
) -> Result<Option<Arc<rustls::ClientConfig>>, Refusal> {
    if group.upstream.scheme == Scheme::Mqtt {
        return Ok(None);
    }
    let credential = match (&group.proof, id) {
        (Proof::Stored { default, .. }, Some(id)) => Some(stored(shared, id, default.as_ref()).await?),
        (Proof::Inline(credential), _) => Some(credential.clone()),
        _ => None,
    };
    if let Some(ready) = shared.tickets.ready(&group.upstream, credential.as_deref()) {
        return Ok(Some(ready));
    }
    let (shared, group) = (shared.clone(), group.clone());
    let made = tokio::task::spawn_blocking(move || shared.tickets.config(&group.upstream, credential.as_deref()));
    made.await
        .map_err(|e| Refusal::Credential(e.to_string()))?
        .map(Some)
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
async fn first_packet(
    device: &mut Wire,
    kind: Kind,
    limit: usize,
) -> Result<(crate::mqtt::Connect, BytesMut), Refusal> {
    let mut buffer = BytesMut::with_capacity(1_024);
    let malformed = |e: FrameError| Refusal::Malformed(e.to_string());
    loop {
        if buffer.first().is_some_and(|b| b >> 4 != 1) {
            return Err(match kind {
                Kind::Plain => stranger(&buffer, kind),
                Kind::Tls => Refusal::Malformed("the first packet is not CONNECT [MQTT-3.1.0-1]".into()),
            });
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

async fn refuse(shared: &Shared, mut device: Wire, peer: &Peer, (who, level): (&Who, Level), refusal: &Refusal) {
    shared.status.count_refused(refusal);
    if matches!(refusal, Refusal::Unknown | Refusal::Imei) {
        shared.hall.guessed(peer.origin());
    }
    let reason = refusal.key();
    // Anybody can be refused as often as he likes; a subscriber's troubles are always told.
    let line = if who.imsi.is_empty() {
        shared.hall.say(peer.origin(), reason)
    } else {
        Some(0)
    };
    let connack = refusal.connack(level);
    match (connack.as_ref().map(|c| c.code), line) {
        (_, None) => {}
        // A port scan or a health check; no device was turned away.
        (None, Some(more)) if matches!(refusal, Refusal::Gone) => {
            info!(peer = %peer.address, reason, more, "ended: {refusal}");
        }
        (connack, Some(more)) => {
            warn!(peer = %peer.address, imsi = %who.imsi, client_id = %who.client_id, reason, connack, more, "refused: {refusal}");
        }
    }
    if let Some(bytes) = connack.and_then(|c| c.encode().ok()) {
        let _ = timeout(shared.listen.get().connect_timeout, device.write_all(&bytes)).await;
    }
    socket::close(device).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        type Lent<T> = &'static T;
        fn size<F: Future>(
            _: impl FnOnce(Lent<Arc<Shared>>, Wire, Lent<Peer>, Lent<Visit>, Lent<Connection>) -> F,
        ) -> usize {
            size_of::<F>()
        }
        let size = size(serve);
        assert!(size <= 2_048, "{size} bytes");
    }

    #[test]
    fn a_client_id_cannot_forge_a_log_line() {
        assert_eq!(shown("a\nINFO connected"), "a\\nINFO connected");
        assert_eq!(shown("c-295012345678901"), "c-29501********01");
        assert_eq!(shown(&"x".repeat(60_000)).len(), SHOWN_MAX);
    }
}
