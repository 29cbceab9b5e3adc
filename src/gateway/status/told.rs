//! What is said when a device comes, is turned away, or goes: a counter, an event in its timeline, and a line in the log, all in one
//! call, so that none of them can be forgotten and all of them agree.
//!
//! The fields of such a line, the same names in all of them (with `--json` they stand in `fields`):
//!
//! | field | what | in |
//! |---|---|---|
//! | `message` | begins with `connected`, `ended:` or `refused:` | all |
//! | `connection` | the number of the connection, counted from 1 since the start; the timeline and the status have the same | all |
//! | `peer` | address and port of the device | all |
//! | `imsi` | with its middle hidden; empty while the device is not known | all |
//! | `client_id` | as the device sent it: digits hidden, cut, escaped | all |
//! | `group` | empty while the device is not known | all |
//! | `credential` | its id, digits hidden | connected |
//! | `upstream` | `TLS 1.3, resumed` | connected |
//! | `handshake_ms` | how long TLS took | connected, where there is TLS |
//! | `reason` | a key of [`crate::gateway::refusal::KEYS`] or [`super::ENDS`] | ended, refused |
//! | `connack` | the code the device was sent; absent where it was sent none | refused |
//! | `more` | how many like it, from the same address, were not told since the last that was | refused |
//! | `up`, `down` | packets from and to the device | ended |
//! | `up_bytes`, `down_bytes` | bytes of MQTT | ended |
//! | `seconds` | how long it was connected | ended |

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use tracing::{info, warn};

use super::{Connection, Handshake, Status, Who, ends, held};
use crate::gateway::history::timeline::{Event, What, cut};
use crate::gateway::refusal::Refusal;
use crate::gateway::relay::{End, Traffic};

impl Status {
    /// The device got through; [`Connection::set`] has said who it is.
    pub(crate) fn connected(&self, connection: &Connection, handshake: &Handshake) {
        connection.now_relayed();
        let who = connection.who().unwrap_or_default();
        held(&self.ledger).relayed(&who.group, handshake);
        let upstream = handshake.to_string();
        let handshake_ms = match handshake {
            Handshake::Tls { took, .. } => u64::try_from(took.as_millis()).ok(),
            Handshake::Plain => None,
        };
        info!(
            connection = connection.id(), peer = %connection.peer(), imsi = %who.imsi, client_id = %who.client_id, group = %who.group,
            credential = %who.credential, upstream = %upstream, handshake_ms,
            "connected"
        );
        self.note(
            connection,
            &who,
            What::Connected {
                upstream: upstream.into(),
            },
        );
    }

    /// It did not. `who` is what is known of it so far; `line` is how many of its kind were not told in the log since the last that
    /// was, or `None` when it is too early for another.
    pub(crate) fn turned_away(&self, connection: &Connection, who: &Who, refusal: &Refusal, line: Option<u64>) {
        let group = Some(who.group.as_str()).filter(|g| !g.is_empty());
        held(&self.ledger).refused(refusal.index(), group);
        let (reason, connack) = (refusal.key(), refusal.code());
        let (id, peer) = (connection.id(), connection.peer());
        // A port scan or a health check: no device was turned away, and it is nobody's story.
        let nobody = matches!(refusal, Refusal::Gone) && who.subscriber.is_none();
        match line {
            Some(more) if nobody => {
                info!(
                    connection = id, %peer, imsi = %who.imsi, client_id = %who.client_id, group = %who.group, reason, more,
                    "ended: {refusal}"
                );
            }
            Some(more) => {
                warn!(
                    connection = id, %peer, imsi = %who.imsi, client_id = %who.client_id, group = %who.group, reason, connack, more,
                    "refused: {refusal}"
                );
            }
            None => {}
        }
        if nobody {
            return;
        }
        let why = cut(&refusal.to_string()).into();
        self.note(connection, who, What::Refused { reason, why });
    }

    /// A caller was turned away before its CONNECT. A port scan is nobody's story.
    pub(crate) fn turned_away_early(&self, from: IpAddr, refusal: &Refusal) {
        held(&self.ledger).refused(refusal.index(), None);
        if matches!(refusal, Refusal::Gone) {
            return;
        }
        self.history.stranger(Event {
            at: self.clock.system(),
            connection: 0,
            peer: (from, 0).into(),
            client_id: "".into(),
            credential: None,
            what: What::Refused {
                reason: refusal.key(),
                why: cut(&refusal.to_string()).into(),
            },
        });
    }

    /// A device that got through is gone.
    pub(crate) fn ended(&self, connection: &Connection, end: &End) {
        self.ended_as(connection, ends::key(end), &end.to_string());
    }

    /// The same for an end that is none of the relay's.
    /// What was done to a device's packets that its owner may want to know (a retained flag cleared, a packet set aside).
    pub(crate) fn remarked(&self, connection: &Connection, remark: &str) {
        let who = connection.who().unwrap_or_default();
        warn!(
            connection = connection.id(), peer = %connection.peer(), imsi = %who.imsi, client_id = %who.client_id, group = %who.group,
            "{remark}"
        );
    }

    /// The end of a connection in other words than a relay's.
    pub(crate) fn ended_as(&self, connection: &Connection, reason: &'static str, why: &str) {
        held(&self.ledger).ended(reason);
        let who = connection.who().unwrap_or_default();
        let load = |t: &Traffic| (t.packets.load(Relaxed), t.bytes.load(Relaxed));
        let ((up, up_bytes), (down, down_bytes)) = (load(&connection.up), load(&connection.down));
        let seconds = connection.age(self.clock.monotonic()).as_secs();
        info!(
            connection = connection.id(), peer = %connection.peer(), imsi = %who.imsi, client_id = %who.client_id, group = %who.group,
            reason, up, down, up_bytes, down_bytes, seconds,
            "ended: {why}"
        );
        let what = What::Ended {
            reason,
            why: cut(why).into(),
            packets: (up, down),
            bytes: (up_bytes, down_bytes),
        };
        self.note(connection, &who, what);
    }

    fn note(&self, connection: &Connection, who: &Who, what: What) {
        let event = Event {
            at: self.clock.system(),
            connection: connection.id(),
            peer: connection.peer(),
            client_id: who.client.clone().unwrap_or_default(),
            credential: who.used.clone(),
            what,
        };
        match &who.subscriber {
            Some(imsi) => self.history.note(imsi, event),
            None => self.history.stranger(event),
        }
    }
}
