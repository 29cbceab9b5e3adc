//! What a cloud demands, as values: a [`Policy`] is one cloud's rule book, a [`Rule`] one sentence of it with its source, a [`Refusal`]
//! a rule that was broken, with what broke it and how this cloud shows it. No I/O and no clock.
//!
//! A policy file reads top to bottom as the rule book: first `RULES`, then the numbers, then the decisions in the order in which the
//! broker asks for them. The rules of MQTT itself, which every cloud shares, are in [`mqtt`].

pub mod aws_iot;
pub mod dps;
pub mod beam;
pub mod event_grid;
pub mod iot_hub;
pub mod krypton;
pub mod mqtt;

use std::net::SocketAddr;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use crate::mqtt::Connect;

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

/// How a refusal looks from the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// CONNACK with this code (MQTT 3.1.1 table 3.1), then the connection is closed.
    ConnAck(u8),
    /// The connection is closed without a word.
    Close,
    /// SUBACK with failure (0x80) for this filter; the connection stays.
    SubAckFailure,
    /// No answer at all; the connection stays.
    Silence,
    /// An answer with this status, as in HTTP; the connection stays.
    Answer(u16),
}

impl std::fmt::Display for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConnAck(code) => write!(f, "CONNACK {code} ({})", crate::mqtt::connack::meaning(*code)),
            Self::Close => f.write_str("connection closed"),
            Self::SubAckFailure => f.write_str("SUBACK 128 (failure)"),
            Self::Silence => f.write_str("no answer"),
            Self::Answer(status) => write!(f, "status {status}"),
        }
    }
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
}

impl Refusal {
    /// A broken rule.
    pub fn new(rule: &'static Rule, look: Look, detail: impl Into<String>) -> Self {
        Self {
            rule,
            detail: detail.into(),
            look,
        }
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
}

/// Every rule there is, by rule book, with a title for people.
#[must_use]
pub fn rule_books() -> Vec<(&'static str, &'static [&'static Rule])> {
    vec![
        ("Every MQTT stand-in", &mqtt::RULES),
        ("Azure Event Grid", &event_grid::RULES),
        ("Azure IoT Hub", &iot_hub::RULES),
        ("AWS IoT Core", &aws_iot::RULES),
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
            assert_eq!((refusal.rule.id, refusal.look), (id, look), "{refusal:?}");
            assert!(
                !refusal.rule.source.is_empty() && !refusal.detail.is_empty(),
                "{id} has no source or detail"
            );
            unseen.remove(id);
        }
        assert!(unseen.is_empty(), "no row breaks {unseen:?}");
    }
}
