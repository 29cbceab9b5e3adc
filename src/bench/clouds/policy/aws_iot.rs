//! The rule book of AWS IoT Core's message broker, as far as a device with X.509 meets it. What needs the account (certificates, policy
//! documents) is asked of [`Aws`]; the documents that the bench brings along are in [`defaults`](crate::bench::clouds::aws_iot::defaults).
//!
//! In MQTT 3.1.1 a denial closes the connection, which is what AWS is known for but does not write down, and QoS 2 gets no answer at all.
//! In MQTT 5 a denied PUBLISH or SUBSCRIBE is told so in its acknowledgement, and the connection stays; which reason code goes with which
//! rule is from memory of the developer guide's list of reason codes, not looked up.

use std::sync::Arc;
use std::time::Duration;

use super::{Five, Limits, Look, Look5, Peer, Policy, Publication, Refusal, Rule, Session, one_and_a_half, reason};
use crate::bench::clouds::aws_iot::{Aws, registry::fingerprint, reserved};
use crate::bench::clouds::rate::{Excess, Rate, Rates};
use crate::bench::clouds::topic;
use crate::mqtt::Connect;

const PROTOCOLS: &str = "AWS IoT Core developer guide, protocols and transport security";
const QUOTAS: &str = "AWS IoT Core quotas, message broker and protocol limits";
const DENIAL: &str = "AWS IoT Core policies; that a denial closes the connection (AUTH_ERROR) is from experience";

const SNI: Rule = Rule {
    id: "aws-iot/sni",
    says: "the TLS handshake names the endpoint's host (SNI)",
    source: PROTOCOLS,
};
pub(crate) const CERTIFICATE: Rule = Rule {
    id: "aws-iot/certificate",
    says: "the client certificate is registered, or signed by a registered authority with automatic registration",
    source: "AWS IoT Core developer guide, X.509 client certificates; that the connection is closed after the handshake is inferred",
};
pub(crate) const JITR: Rule = Rule {
    id: "aws-iot/first-connection",
    says: "the first connection with a certificate that registers just in time ends, and the next succeeds once it is active",
    source: "AWS blog, just-in-time registration: registers, publishes and disconnects; the same for provisioning is inferred",
};
pub(crate) const STATUS: Rule = Rule {
    id: "aws-iot/certificate-status",
    says: "the client certificate is ACTIVE",
    source: "AWS IoT Core developer guide, activate or deactivate a client certificate; the look is inferred",
};
pub(crate) const VALIDITY: Rule = Rule {
    id: "aws-iot/certificate-validity",
    says: "the client certificate is within its validity",
    source: "inferred: nobody says what AWS does with an expired one",
};
const CLIENT_ID: Rule = Rule {
    id: "aws-iot/client-id",
    says: "a client id has 1 to 128 bytes and does not begin with $",
    source: QUOTAS,
};
const CONNECT: Rule = Rule {
    id: "aws-iot/connect-permission",
    says: "the certificate's policies allow iot:Connect for the client id; the bench's: its common name, also followed by a hyphen and more",
    source: DENIAL,
};
pub(crate) const CONNECT_RATE: Rule = Rule {
    id: "aws-iot/connect-rate",
    says: "there is one CONNECT a second for a client id",
    source: "AWS IoT Core quotas; that the second is closed without CONNACK is inferred",
};
const QOS_2: Rule = Rule {
    id: "aws-iot/qos-2",
    says: "there is no QoS 2: neither PUBLISH nor SUBSCRIBE with it is answered",
    source: PROTOCOLS,
};
const TOPIC_SIZE: Rule = Rule {
    id: "aws-iot/topic-size",
    says: "a topic or filter has at most 256 bytes and 7 slashes; the first three levels of Basic Ingest do not count",
    source: QUOTAS,
};
const PAYLOAD: Rule = Rule {
    id: "aws-iot/payload-size",
    says: "a message has at most 128 KiB",
    source: QUOTAS,
};
const RESERVED: Rule = Rule {
    id: "aws-iot/reserved-topic",
    says: "topics that begin with $ are AWS's: only those that it lists can be published or subscribed to",
    source: "AWS IoT Core developer guide, reserved topics: anything else can result in a terminated connection",
};
const PUBLISH: Rule = Rule {
    id: "aws-iot/publish-permission",
    says: "the certificate's policies allow iot:Publish for the topic",
    source: DENIAL,
};
const RETAIN: Rule = Rule {
    id: "aws-iot/retain-permission",
    says: "RETAIN needs iot:RetainPublish beside iot:Publish, and does not go with reserved topics",
    source: "AWS IoT Core policy actions; quotas, retained messages; the look as any denial's",
};
const SUBSCRIBE: Rule = Rule {
    id: "aws-iot/subscribe-permission",
    says: "the certificate's policies allow iot:Subscribe for the filter",
    source: DENIAL,
};
const FILTERS: Rule = Rule {
    id: "aws-iot/filters-per-subscribe",
    says: "a SUBSCRIBE has at most 8 filters",
    source: QUOTAS,
};
const SUBSCRIPTIONS: Rule = Rule {
    id: "aws-iot/subscriptions",
    says: "a connection has at most 50 subscriptions",
    source: QUOTAS,
};

pub(super) static RULES: [&Rule; 17] = [
    &SNI,
    &CERTIFICATE,
    &JITR,
    &STATUS,
    &VALIDITY,
    &CLIENT_ID,
    &CONNECT,
    &CONNECT_RATE,
    &QOS_2,
    &TOPIC_SIZE,
    &PAYLOAD,
    &RESERVED,
    &PUBLISH,
    &RETAIN,
    &SUBSCRIBE,
    &FILTERS,
    &SUBSCRIPTIONS,
];

/// Largest message, in bytes.
pub(crate) const PAYLOAD_MAX: usize = 128 * 1024;
/// Room for fixed header and topic beside the message, in bytes.
const HEADER_ROOM: usize = 1_024;
/// Longest client id, in bytes.
const CLIENT_ID_MAX: usize = 128;
/// Longest topic, in bytes.
const TOPIC_MAX: usize = 256;
/// Most slashes in a topic.
const SLASHES_MAX: usize = 7;
/// Most filters in a SUBSCRIBE.
const FILTERS_MAX: usize = 8;
/// Most subscriptions of a connection.
const SUBSCRIPTIONS_MAX: usize = 50;
/// Keep-alive is kept within these, in seconds; 0 counts as the longest.
const KEEP_ALIVE: std::ops::RangeInclusive<u16> = 30..=1_200;
/// Outbound messages without acknowledgement.
const IN_FLIGHT: usize = 100;
/// Not documented as a number; the bench keeps as many as it may send.
const QUEUE: usize = 1_000;
/// Inbound messages without acknowledgement ([`QUOTAS`]).
const RECEIVE_MAXIMUM: u16 = 100;
/// Topic aliases of a connection; from memory, not looked up.
const TOPIC_ALIASES: u16 = 8;
/// What properties may add to a packet, in bytes; inferred from the 8 KB that user properties may have.
const PROPERTY_ROOM: usize = 8 * 1024;
/// Messages of a connection in a second; the excess is discarded ([`QUOTAS`]).
const PUBLISHES_PER_SECOND: u32 = 100;
/// Bytes of a connection in a second; the excess is delayed ([`QUOTAS`]).
const BYTES_PER_SECOND: u32 = 512 * 1024;
/// Persistent sessions expire after this by default.
const SESSION_EXPIRY: Duration = Duration::from_secs(3_600);

/// An account's message broker.
#[derive(Debug, Clone)]
pub struct AwsIot {
    host: String,
    account: Arc<Aws>,
}

impl AwsIot {
    /// `host` is the endpoint's name, e.g. `onyx-ats.iot.ap-northeast-1.amazonaws.com`.
    #[must_use]
    pub fn new(host: String, account: Arc<Aws>) -> Self {
        Self { host, account }
    }

    fn size(topic: &str, look_5: Look5) -> Result<(), Refusal> {
        let counted = reserved::counted(topic);
        let slashes = topic::levels(counted) - 1;
        if counted.len() > TOPIC_MAX || slashes > SLASHES_MAX {
            let detail = format!("this one has {} bytes and {slashes} slashes", counted.len());
            return Err(Refusal::new(&TOPIC_SIZE, Look::Close, detail).in_5(look_5));
        }
        Ok(())
    }

    fn allowed(
        &self,
        session: &Session,
        (rule, look_5): (&'static Rule, Look5),
        action: &str,
        kind: &str,
        name: &str,
    ) -> Result<(), Refusal> {
        let denial = self.account.denial(session, action, kind, name);
        denial.map_or(Ok(()), |detail| {
            Err(Refusal::new(rule, Look::Close, detail).in_5(look_5))
        })
    }
}

impl Policy for AwsIot {
    fn rules(&self) -> &'static [&'static Rule] {
        &RULES
    }

    fn limits(&self) -> Limits {
        Limits {
            packet: PAYLOAD_MAX + HEADER_ROOM,
            in_flight: IN_FLIGHT,
            queue: QUEUE,
            session_expiry: SESSION_EXPIRY,
            hash_covers_parent: false,
            foreign_take_over: true,
        }
    }

    fn hello(&self, sni: Option<&str>) -> Result<(), Refusal> {
        match sni {
            // `localhost` is what a client on this machine can name without touching the hosts file.
            Some(name) if name.eq_ignore_ascii_case(&self.host) || name == "localhost" => Ok(()),
            Some(name) => {
                let detail = format!("the handshake names {name:?}, expected {:?}", self.host);
                Err(Refusal::new(&SNI, Look::Close, detail))
            }
            None => Err(Refusal::new(
                &SNI,
                Look::Close,
                "the handshake names no host: dial the endpoint by its name, not its address",
            )),
        }
    }

    fn connect(&self, peer: &Peer, connect: &Connect) -> Result<Session, Refusal> {
        let leaf = peer.chain.first().ok_or_else(|| {
            let detail = "there is no client certificate";
            Refusal::new(&CERTIFICATE, Look::Close, detail)
        })?;
        let id = connect.client_id.as_str();
        if id.is_empty() || id.len() > CLIENT_ID_MAX || id.starts_with('$') {
            let detail = format!("the client id is {id:?}");
            return Err(Refusal::new(&CLIENT_ID, Look::Close, detail).in_5(Look5::ConnAck(reason::BAD_CLIENT_ID)));
        }
        let session = Session {
            api_version: None,
            client_id: connect.client_id.clone(),
            owner: fingerprint(leaf),
            cn: peer.cn.clone().unwrap_or_default(),
        };
        let look_5 = Look5::ConnAck(reason::NOT_AUTHORIZED);
        self.allowed(&session, (&CONNECT, look_5), "iot:Connect", "client", id)?;
        if let Some(will) = &connect.will {
            let publication = Publication {
                topic: &will.topic,
                qos: will.qos,
                payload: will.payload.len(),
            };
            self.publish(&session, publication)
                .map_err(|r| Refusal { look: Look::Close, ..r })?;
        }
        Ok(session)
    }

    fn silence_allowed(&self, keep_alive: u16) -> Duration {
        one_and_a_half(self.keep_alive(keep_alive))
    }

    fn publish(&self, session: &Session, p: Publication<'_>) -> Result<(), Refusal> {
        if p.qos > 1 {
            let refusal = Refusal::new(&QOS_2, Look::Silence, "a PUBLISH with QoS 2");
            return Err(refusal.in_5(Look5::Disconnect(reason::QOS)));
        }
        Self::size(p.topic, Look5::Disconnect(reason::TOPIC_INVALID))?;
        if p.payload > PAYLOAD_MAX {
            let detail = format!("{} bytes", p.payload);
            return Err(Refusal::new(&PAYLOAD, Look::Close, detail).in_5(Look5::Disconnect(reason::PACKET_TOO_LARGE)));
        }
        if p.topic.starts_with('$') && reserved::publication(p.topic).is_none() {
            let detail = format!("{:?} is no topic that a client publishes to", p.topic);
            let refusal = Refusal::new(&RESERVED, Look::Close, detail);
            return Err(refusal.in_5(Look5::PubAck(reason::NOT_AUTHORIZED)));
        }
        let look_5 = Look5::PubAck(reason::NOT_AUTHORIZED);
        self.allowed(session, (&PUBLISH, look_5), "iot:Publish", "topic", p.topic)
    }

    fn subscribe_packet(&self, filters: usize) -> Result<(), Refusal> {
        if filters > FILTERS_MAX {
            let detail = format!("this one has {filters}");
            return Err(Refusal::new(&FILTERS, Look::Close, detail).in_5(Look5::Disconnect(reason::QUOTA)));
        }
        Ok(())
    }

    fn subscribe(&self, session: &Session, filter: &str, qos: u8, held: usize) -> Result<u8, Refusal> {
        if qos > 1 {
            return Err(Refusal::new(&QOS_2, Look::Silence, "a SUBSCRIBE with QoS 2"));
        }
        Self::size(filter, Look5::SubAck(reason::FILTER_INVALID))?;
        if filter.starts_with('$') && !reserved::subscription(filter) {
            let detail = format!("{filter:?} is no topic that a client subscribes to");
            let refusal = Refusal::new(&RESERVED, Look::Close, detail);
            return Err(refusal.in_5(Look5::SubAck(reason::NOT_AUTHORIZED)));
        }
        let look_5 = Look5::SubAck(reason::NOT_AUTHORIZED);
        self.allowed(session, (&SUBSCRIBE, look_5), "iot:Subscribe", "topicfilter", filter)?;
        if held >= SUBSCRIPTIONS_MAX {
            let detail = format!("{held} are there already");
            return Err(Refusal::new(&SUBSCRIPTIONS, Look::SubAckFailure, detail).in_5(Look5::SubAck(reason::QUOTA)));
        }
        Ok(qos)
    }

    /// iot:Receive, asked for every delivery. Basic Ingest passes the broker by: only a rule sees it.
    fn receive(&self, session: &Session, topic: &str) -> bool {
        !topic.starts_with("$aws/rules/") && self.account.denial(session, "iot:Receive", "topic", topic).is_none()
    }

    fn five(&self) -> Option<Five> {
        Some(Five {
            session_expiry_max: SESSION_EXPIRY,
            receive_maximum: RECEIVE_MAXIMUM,
            topic_alias_maximum: TOPIC_ALIASES,
            // No number is published; MQTT's own.
            will_delay_max: Duration::from_secs(u64::from(u32::MAX)),
            retain: true,
            property_room: PROPERTY_ROOM,
        })
    }

    fn keep_alive(&self, asked: u16) -> u16 {
        match asked {
            0 => *KEEP_ALIVE.end(),
            seconds => seconds.clamp(*KEEP_ALIVE.start(), *KEEP_ALIVE.end()),
        }
    }

    fn retain(&self, session: &Session, p: Publication<'_>) -> Result<bool, Refusal> {
        if p.topic.starts_with('$') {
            let detail = format!("{:?} is a reserved topic", p.topic);
            return Err(Refusal::new(&RETAIN, Look::Close, detail).in_5(Look5::PubAck(reason::NOT_AUTHORIZED)));
        }
        let look_5 = Look5::PubAck(reason::NOT_AUTHORIZED);
        self.allowed(session, (&RETAIN, look_5), "iot:RetainPublish", "topic", p.topic)?;
        Ok(true)
    }

    fn rates(&self) -> Rates {
        let rate = |per_second, excess| Some(Rate { per_second, excess });
        Rates {
            publishes: rate(PUBLISHES_PER_SECOND, Excess::Discard),
            bytes: rate(BYTES_PER_SECOND, Excess::Delay),
        }
    }
}

#[cfg(test)]
#[path = "aws_iot_tests.rs"]
mod tests;
