//! What a cloud demands, as values: a [`Policy`] is one cloud's rule book, a [`Rule`] one sentence of it with its source, a [`Refusal`]
//! a rule that was broken, with what broke it and how this cloud shows it. No I/O and no clock.
//!
//! A policy file reads top to bottom as the rule book: first `RULES`, then the numbers, then the decisions in the order in which the
//! broker asks for them. The rules of MQTT itself, which every cloud shares, are in [`mqtt`].

pub mod aws_iot;
pub mod beam;
pub mod dps;
pub mod event_grid;
pub mod iot_hub;
pub mod krypton;
mod look;
pub mod mqtt;

pub use look::{Look, Look5, reason};

use std::net::SocketAddr;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::rate::Rates;
use crate::mqtt::{Connect, PacketType};

/// One sentence of a rule book.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Cloud and subject, e.g. `event-grid/qos-2`; stable, tests and users look for it.
    pub id: &'static str,
    /// What the cloud demands.
    pub says: &'static str,
    /// Where that is written, or why it is believed.
    pub source: &'static str,
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub rule: &'static Rule,
    /// What broke it: the offending value and the expected one.
    pub detail: String,
    /// What the device sees.
    pub look: Look,
    /// What a device sees that speaks MQTT 5.
    pub look_5: Look5,
}

impl Refusal {
    /// A broken rule.
    pub fn new(rule: &'static Rule, look: Look, detail: impl Into<String>) -> Self {
        Self {
            rule,
            detail: detail.into(),
            look,
            look_5: look.in_5(),
        }
    }

    /// The same refusal, with its look in MQTT 5.
    #[must_use]
    pub fn in_5(self, look_5: Look5) -> Self {
        Self { look_5, ..self }
    }
}

/// Who is on the connection, as the TLS handshake and CONNECT tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where from.
    pub address: SocketAddr,
    /// The leaf's common name, if it has exactly one that is text.
    pub cn: Option<String>,
    /// The certificates that were presented, leaf first; empty on a door without TLS. Whether anybody verified them depends on the door.
    pub chain: Vec<CertificateDer<'static>>,
    /// The host name asked for in the TLS handshake (SNI); none when the client dialled an address.
    pub sni: Option<String>,
    /// The application protocol agreed on in the TLS handshake (ALPN).
    pub alpn: Option<String>,
}

impl Peer {
    /// The common name, which most clouds know a device by.
    ///
    /// # Errors
    /// [`mqtt::COMMON_NAME`] is broken.
    pub fn common_name(&self) -> Result<&str, Refusal> {
        self.cn
            .as_deref()
            .ok_or_else(|| Refusal::new(&mqtt::COMMON_NAME, Look::Close, "it has none, or several"))
    }
}

/// Who has been admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The MQTT client identifier.
    pub client_id: String,
    /// Whom this cloud takes the device for; a session belongs to it.
    pub owner: String,
    /// The certificate's common name; empty when this cloud needs none.
    pub cn: String,
    /// The version of the service's interface that CONNECT asks for, where it matters later.
    pub api_version: Option<String>,
}

/// What a PUBLISH asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication<'a> {
    /// The topic name, already known to be one.
    pub topic: &'a str,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Size of the payload, in bytes.
    pub payload: usize,
}

/// What a cloud's limits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest MQTT packet taken, in bytes.
    pub packet: usize,
    /// QoS 1 messages that may be on their way to a device without acknowledgement.
    pub in_flight: usize,
    /// Messages kept for a device that is slow or away.
    pub queue: usize,
    /// How long a session outlives its connection.
    pub session_expiry: Duration,
    /// Whether `a/#` covers `a`.
    pub hash_covers_parent: bool,
    /// Whether another owner may take over a session name.
    pub foreign_take_over: bool,
}

/// One cloud's rule book.
pub trait Policy: Send + Sync + std::fmt::Debug {
    /// Every rule that this policy can name.
    fn rules(&self) -> &'static [&'static Rule];

    /// The numbers.
    fn limits(&self) -> Limits;

    /// Whether the TLS handshake may go on, given the name the client asked for.
    ///
    /// # Errors
    /// The broken rule.
    fn hello(&self, _sni: Option<&str>) -> Result<(), Refusal> {
        Ok(())
    }

    /// The rule that a failed TLS handshake has broken.
    fn handshake(&self, _error: &std::io::Error) -> &'static Rule {
        &mqtt::TLS
    }

    /// Whether a device may connect.
    ///
    /// # Errors
    /// The broken rule.
    fn connect(&self, peer: &Peer, connect: &Connect) -> Result<Session, Refusal>;

    /// How long the broker waits for a sign of life, given the CONNECT's keep-alive in seconds (0: none was promised).
    fn silence_allowed(&self, keep_alive: u16) -> Duration;

    /// Whether a message is taken.
    ///
    /// # Errors
    /// The broken rule.
    fn publish(&self, session: &Session, publication: Publication<'_>) -> Result<(), Refusal>;

    /// Whether a SUBSCRIBE with this many filters is looked at at all.
    ///
    /// # Errors
    /// The broken rule.
    fn subscribe_packet(&self, _filters: usize) -> Result<(), Refusal> {
        Ok(())
    }

    /// Which quality of service a filter gets; `held` filters are subscribed to already.
    ///
    /// # Errors
    /// The broken rule.
    fn subscribe(&self, session: &Session, filter: &str, qos: u8, held: usize) -> Result<u8, Refusal>;

    /// Whether a message may be delivered to a device that subscribed to its topic; if not, it is left out without a word.
    fn receive(&self, _session: &Session, _topic: &str) -> bool {
        true
    }

    /// The terms of MQTT 5; `None` when this cloud speaks 3.1.1 alone.
    fn five(&self) -> Option<Five> {
        None
    }

    /// Whether a packet may carry user properties; PUBLISH and the will always may.
    ///
    /// # Errors
    /// The broken rule.
    fn user_properties(&self, _packet: PacketType) -> Result<(), Refusal> {
        Ok(())
    }

    /// The keep-alive that counts, given what CONNECT asks for, both in seconds.
    fn keep_alive(&self, asked: u16) -> u16 {
        asked
    }

    /// Whether a message with RETAIN is kept. One that may not be kept may still be published.
    ///
    /// # Errors
    /// The broken rule, when the message is refused for its RETAIN.
    fn retain(&self, _session: &Session, _publication: Publication<'_>) -> Result<bool, Refusal> {
        Ok(false)
    }

    /// What the broker keeps, beyond [`Limits`].
    fn keeping(&self) -> Keeping {
        Keeping::default()
    }

    /// What a connection may send in a second.
    fn rates(&self) -> Rates {
        Rates::default()
    }
}

/// How a cloud speaks MQTT 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Five {
    /// Longest session expiry.
    pub session_expiry_max: Duration,
    /// QoS 1 messages without acknowledgement that the cloud takes.
    pub receive_maximum: u16,
    /// Highest topic alias that a device may use.
    pub topic_alias_maximum: u16,
    /// Longest will delay.
    pub will_delay_max: Duration,
    /// Whether messages can be kept.
    pub retain: bool,
    /// What properties may add to the largest packet, in bytes.
    pub property_room: usize,
}

/// What a broker keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Sessions of one owner, connected or away; `None` is as many as the bench has.
    pub sessions_per_owner: Option<usize>,
    /// A QoS 1 message that does not fit its queue ends the session; otherwise the message is dropped.
    pub overflow_ends: bool,
}

/// Every rule there is, by rule book, with a title for people.
#[must_use]
pub fn rule_books() -> Vec<(&'static str, &'static [&'static Rule])> {
    vec![
        ("Every MQTT stand-in", &mqtt::RULES),
        ("Azure Event Grid", &event_grid::RULES),
        ("Azure IoT Hub", &iot_hub::RULES),
        ("AWS IoT Core", &aws_iot::RULES),
        ("SORACOM Beam", &beam::RULES),
        ("SORACOM Krypton and its key service", &krypton::RULES),
        ("Azure Device Provisioning Service", &dps::RULES),
    ]
}

/// One and a half times the keep-alive (MQTT 3.1.1 section 3.1.2.10).
#[must_use]
pub fn one_and_a_half(keep_alive_seconds: u16) -> Duration {
    Duration::from_millis(u64::from(keep_alive_seconds) * 1_500)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Tables rule → verdict.
    use super::*;

    pub(crate) fn peer(cn: &str) -> Peer {
        Peer {
            address: ([127, 0, 0, 1], 1).into(),
            cn: Some(cn.into()),
            chain: Vec::new(),
            sni: Some("localhost".into()),
            alpn: None,
        }
    }

    pub(crate) fn connect(client_id: &str, username: Option<&str>) -> Connect {
        let mut c = Connect::new(client_id, true, 60);
        c.username = username.map(str::to_owned);
        c
    }

    /// Checks every row and that every rule of the book was broken at least once.
    pub(crate) fn check(policy: &dyn Policy, rows: Vec<(&'static str, Look, Result<(), Refusal>)>) {
        let mut unseen: std::collections::BTreeSet<_> = policy.rules().iter().map(|r| r.id).collect();
        for (id, look, verdict) in rows {
            let refusal = verdict.expect_err(id);
            let shown = if let Look::In5(_) = look {
                Look::In5(refusal.look_5)
            } else {
                refusal.look
            };
            assert_eq!((refusal.rule.id, shown), (id, look), "{refusal:?}");
            assert!(
                !refusal.rule.source.is_empty() && !refusal.detail.is_empty(),
                "{id} has no source or detail"
            );
            unseen.remove(id);
        }
        assert!(unseen.is_empty(), "no row breaks {unseen:?}");
    }
}
