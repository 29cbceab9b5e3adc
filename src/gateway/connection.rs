//! One device from its first byte to its last: CONNECT, who is it, credential, upstream, relay.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{timeout, timeout_at};

use super::book::Book;
use super::config::Listen;
use super::connect::{self, Granted};
use super::credential::{Credential, CredentialId};
use super::flow::bucket::Buckets;
use super::flow::{Flow, Step};
use super::group::{Group, Proof, Scheme};
use super::history::timeline::{Used, cut};
use super::listener::{CONNECT_MAX, Ended, Hall, Kind, Peer, Stop, Visit, stranger};
use super::refusal::Refusal;
use super::relay::{Bounds, End, Judge, relay};
use super::reload::Current;
use super::status::{Connection, Handshake, Status, Who, ends};
use super::subscriber::{Caller, Directory, Unknown, modem_of};
use super::upstream::tickets::Tickets;
use super::wire::Wire;
use super::{socket, sweep, upstream};
use crate::identity::redact_digits;
use crate::mqtt::{FrameError, Level, peek_frame, split_frame};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The bounds of now; a reload changes them.
    pub(super) listen: Current<Listen>,
    /// What all doors share.
    pub(super) hall: Arc<Hall>,
    /// How everything ends.
    pub(super) stop: Stop,
    pub(super) book: Arc<Book>,
    pub(super) tickets: Tickets,
    pub(super) status: Arc<Status>,
    /// How much each subscriber may still send.
    pub(super) buckets: Buckets,
    /// The zero of every flow's time.
    pub(super) epoch: tokio::time::Instant,
}

/// A device that got through to upstream, and has been told so.
pub(super) struct Through {
    device: Wire,
    from_device: Vec<u8>,
    upstream: Wire,
    from_upstream: Vec<u8>,
    flow: Flow,
}

/// Relays one device to its end. Its end has been logged and counted when this returns.
pub(super) async fn stay(shared: &Shared, connection: &Connection, through: Box<Through>) -> Ended {
    let Through {
        mut device,
        from_device,
        mut upstream,
        from_upstream,
        flow,
    } = *through;
    let bounds = Bounds {
        epoch: shared.epoch,
        write_timeout: shared.listen.get().write_timeout,
    };
    let judge = Noted {
        flow,
        status: &shared.status,
        connection,
    };
    let (near, far) = ((&mut device, from_device), (&mut upstream, from_upstream));
    let going = Going {
        status: &shared.status,
        connection,
        told: false,
    };
    let traffic = (&connection.up, &connection.down);
    let end = relay(near, far, judge, bounds, traffic, &connection.orders).await;
    going.ended(&end);
    Box::pin(async { tokio::join!(socket::close(device), socket::close(upstream)) }).await;
    match end {
        End::Cut(_) => Ended::Cut,
        _ => Ended::InOrder,
    }
}

/// Everything up to the device's CONNACK. Every way that does not lead on has been logged and counted when this returns.
pub(super) async fn enter(
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
    let Admitted {
        upstream,
        from_device,
        from_upstream,
        granted,
        handshake,
        directory,
    } = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            refuse(shared, device, peer, connection, (&who, level), &refusal).await;
            return None;
        }
    };
    shared.status.connected(connection, &handshake);
    let latest = shared.book.latest();
    if !Arc::ptr_eq(&latest.directory, &directory) {
        sweep::judge(connection, &latest.directory);
    }
    let connack = granted.connack.encode().unwrap_or_default();
    let first = timeout(listen.write_timeout, async {
        device.write_all(&connack).await?;
        device.flush().await
    });
    if !matches!(first.await, Ok(Ok(()))) {
        let why = "the device went before its CONNACK";
        shared.status.ended_as(connection, "device_broke", why);
        tokio::join!(socket::close(device), socket::close(upstream));
        return None;
    }
    Some(Box::new(Through {
        device,
        // Of what was read ahead, no more is kept than there is.
        from_device: from_device.to_vec(),
        upstream,
        from_upstream: from_upstream.to_vec(),
        flow: granted.flow(shared.epoch.elapsed()),
    }))
}

/// A flow whose remarks go to the log, with the name of the device.
struct Noted<'a> {
    flow: Flow,
    status: &'a Status,
    connection: &'a Connection,
}

impl Noted<'_> {
    fn told(&self, step: Step) -> Step {
        if let Some(note) = &step.note {
            self.status.remarked(self.connection, &note.to_string());
        }
        step
    }
}

impl Judge for Noted<'_> {
    fn leave(&mut self) {
        self.flow.leave();
    }

    fn is_shut(&self) -> bool {
        self.flow.is_shut()
    }

    fn is_settled(&self) -> bool {
        self.flow.is_settled()
    }

    fn awaited(&self) -> u32 {
        self.flow.awaited()
    }

    fn farewell(&self, reason: u8) -> Option<Bytes> {
        self.flow.farewell(reason)
    }

    fn up(&mut self, front: &[u8], now: Duration) -> Step {
        let step = self.flow.up(front, now);
        self.told(step)
    }

    fn down(&mut self, front: &[u8], now: Duration) -> Step {
        let step = self.flow.down(front, now);
        self.told(step)
    }

    fn deadline(&self) -> Duration {
        self.flow.deadline()
    }

    fn due(&mut self, now: Duration) -> Step {
        let step = self.flow.due(now);
        self.told(step)
    }
}

/// A device that upstream has taken.
struct Admitted {
    upstream: Wire,
    from_device: BytesMut,
    from_upstream: BytesMut,
    granted: Granted,
    handshake: Handshake,
    /// The list by which it was let in.
    directory: Arc<Directory>,
}

/// Tells of a relayed connection's end, whichever way it ends: a gateway that stops drops the task that serves it.
struct Going<'a> {
    status: &'a Status,
    connection: &'a Connection,
    told: bool,
}

impl Going<'_> {
    fn ended(mut self, end: &End) {
        self.told = true;
        self.status.ended(self.connection, end);
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.status
                .ended_as(self.connection, ends::STOPPED, "the gateway stops");
        }
    }
}

async fn admit(
    shared: &Arc<Shared>,
    device: &mut Wire,
    peer: &Peer,
    visit: &Visit,
    connection: &Connection,
    (who, level): (&mut Who, &mut Level),
) -> Result<Admitted, Refusal> {
    let listen = shared.listen.get();
    let limit = listen.max_packet.min(CONNECT_MAX);
    let (asked, from_device) = timeout_at(peer.deadline, first_packet(device, visit.kind, limit))
        .await
        .map_err(|_| Refusal::Silent(peer.patience.as_secs()))??;
    *level = asked.level;
    who.client_id = shown(&asked.client_id);
    who.client = Some(cut(&asked.client_id).into());
    who.modem = modem_of(&asked.client_id);
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
            who.is(known);
            Refusal::Disabled
        }
        Unknown::Imei(known) => {
            who.is(known);
            Refusal::Imei
        }
    })?;
    visit.place.keep()?;
    shared.hall.welcomed(peer.origin());
    who.is(known);
    let group = view
        .group(&known.group)
        .ok_or_else(|| Refusal::Credential(redact_digits(&view.why_no_group(&known.group))))?;
    if !group.enabled {
        return Err(Refusal::GroupDisabled(group.id.to_string()));
    }
    let plan = connect::plan(asked, &known.subscriber, by, group)?;
    let id = plan.names.credential.as_ref();
    let proved = id.cloned();
    who.credential = id.map(CredentialId::redacted).unwrap_or_default();
    "dialling".clone_into(&mut who.upstream);
    connection.set(who.clone());
    let config = proof(shared, group, id);
    let (config, used) = timeout(group.upstream.connect_timeout, config).await.map_err(|_| {
        Refusal::Credential("it could not be read in time: does its disk or database hang?".to_owned())
    })??;
    let bytes = plan.connect.encode().map_err(|e| Refusal::Malformed(e.to_string()))?;
    let hello = (&bytes[..], plan.connect.level);
    let way = upstream::open(&group.upstream, config, hello, listen.write_timeout).await?;
    let granted = plan.granted(way.connack, listen.max_packet)?;
    let now = shared.epoch.elapsed();
    let bucket = shared.buckets.of(&known.subscriber.imsi, group.rate, now);
    who.used = used;
    who.upstream = way.handshake.to_string();
    connection.set(who.clone());
    shared.book.connected(&known.subscriber.imsi, proved.as_ref());
    Ok(Admitted {
        upstream: way.wire,
        from_device,
        from_upstream: way.rest,
        handshake: way.handshake,
        directory: view.directory.clone(),
        granted: Granted {
            deal: granted.deal.limited(bucket),
            ..granted
        },
    })
}

/// The TLS configuration with what proves the device; none for a plain upstream.
async fn proof(
    shared: &Arc<Shared>,
    group: &Arc<Group>,
    id: Option<&CredentialId>,
) -> Result<(Option<Arc<rustls::ClientConfig>>, Option<Used>), Refusal> {
    if group.upstream.scheme == Scheme::Mqtt {
        return Ok((None, None));
    }
    let credential = match (&group.proof, id) {
        (Proof::Stored { default, .. }, Some(id)) => Some(stored(shared, id, default.as_ref()).await?),
        (Proof::Inline(credential), _) => Some(credential.clone()),
        _ => None,
    };
    let used = credential.as_deref().map(Used::of);
    if let Some(ready) = shared.tickets.ready(&group.upstream, credential.as_deref()) {
        return Ok((Some(ready), used));
    }
    let (shared, group) = (shared.clone(), group.clone());
    let made = tokio::task::spawn_blocking(move || shared.tickets.config(&group.upstream, credential.as_deref()));
    let config = made.await.map_err(|e| Refusal::Credential(e.to_string()))?;
    Ok((Some(config.map_err(Refusal::Credential)?), used))
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

async fn refuse(
    shared: &Shared,
    mut device: Wire,
    peer: &Peer,
    connection: &Connection,
    (who, level): (&Who, Level),
    refusal: &Refusal,
) {
    if matches!(refusal, Refusal::Unknown | Refusal::Imei) {
        shared.hall.guessed(peer.origin());
    }
    // Anybody can be refused as often as he likes; a subscriber's troubles are always told.
    let line = if who.imsi.is_empty() {
        shared.hall.say(peer.origin(), refusal.key())
    } else {
        Some(0)
    };
    shared.status.turned_away(connection, who, refusal, line);
    if let Some(Ok(answer)) = refusal.connack(level).map(|c| c.encode()) {
        let answered = async {
            device.write_all(&answer).await?;
            device.flush().await
        };
        let _ = timeout(shared.listen.get().connect_timeout, answered).await;
    }
    socket::close(device).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        fn size<F: Future>(_: impl FnOnce(&'static Shared, &'static Connection, Box<Through>) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(stay);
        assert!(size <= 2_048, "{size} bytes");
    }

    #[test]
    fn a_client_id_cannot_forge_a_log_line() {
        assert_eq!(shown("a\nINFO connected"), "a\\nINFO connected");
        assert_eq!(shown("c-295012345678901"), "c-29501********01");
        assert_eq!(shown(&"x".repeat(60_000)).len(), SHOWN_MAX);
    }
}
