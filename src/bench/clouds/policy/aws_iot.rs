//! The rule book of AWS IoT Core's message broker, as far as a device with X.509 meets it.
//!
//! AWS attaches a policy document to a certificate. The stand-in's is fixed and plain, with the certificate's common name as the thing:
//!
//! - `iot:Connect` on `client/<CN>` and `client/<CN>-*` (Onyx appends the IMEI to the name);
//! - `iot:Publish`, `iot:Receive` and `iot:Subscribe` on the topics given by option, by default all that are not reserved (`$aws/…`).
//!
//! A denial closes the connection, which is what AWS is known for but does not write down. QoS 2 gets no answer at all. Shadows, jobs,
//! fleet provisioning and the limits that discard or delay (100 messages and 512 KiB per second, one CONNECT per second and client id)
//! are not simulated yet.

use std::time::Duration;

use super::{Five, Limits, Look, Peer, Policy, Publication, Refusal, Rule, Session, one_and_a_half};
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
const CLIENT_ID: Rule = Rule {
    id: "aws-iot/client-id",
    says: "a client id has 1 to 128 bytes and does not begin with $",
    source: QUOTAS,
};
const CONNECT: Rule = Rule {
    id: "aws-iot/connect-permission",
    says: "the certificate's policy allows iot:Connect for its common name and names that begin with it and a hyphen",
    source: DENIAL,
};
const QOS_2: Rule = Rule {
    id: "aws-iot/qos-2",
    says: "there is no QoS 2: neither PUBLISH nor SUBSCRIBE with it is answered",
    source: PROTOCOLS,
};
const TOPIC_SIZE: Rule = Rule {
    id: "aws-iot/topic-size",
    says: "a topic or filter has at most 256 bytes and 7 slashes",
    source: QUOTAS,
};
const PAYLOAD: Rule = Rule {
    id: "aws-iot/payload-size",
    says: "a message has at most 128 KiB",
    source: QUOTAS,
};
const PUBLISH: Rule = Rule {
    id: "aws-iot/publish-permission",
    says: "the certificate's policy allows iot:Publish for the topic",
    source: DENIAL,
};
const SUBSCRIBE: Rule = Rule {
    id: "aws-iot/subscribe-permission",
    says: "the certificate's policy allows iot:Subscribe for the filter",
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

static RULES: [&Rule; 10] = [
    &SNI,
    &CLIENT_ID,
    &CONNECT,
    &QOS_2,
    &TOPIC_SIZE,
    &PAYLOAD,
    &PUBLISH,
    &SUBSCRIBE,
    &FILTERS,
    &SUBSCRIPTIONS,
];

/// Largest message, in bytes.
const PAYLOAD_MAX: usize = 128 * 1024;
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

/// An account with one thing for every certificate of its authority.
#[derive(Debug, Clone)]
pub struct AwsIot {
    host: String,
    topics: Vec<String>,
}

impl AwsIot {
    /// `host` is the endpoint's name, e.g. `onyx-ats.iot.ap-northeast-1.amazonaws.com`; `topics` are what the policy allows.
    #[must_use]
    pub fn new(host: String, topics: Vec<String>) -> Self {
        Self { host, topics }
    }

    fn size(topic: &str) -> Result<(), Refusal> {
        let slashes = topic::levels(topic) - 1;
        if topic.len() > TOPIC_MAX || slashes > SLASHES_MAX {
            let detail = format!("this one has {} bytes and {slashes} slashes", topic.len());
            return Err(Refusal::new(&TOPIC_SIZE, Look::Close, detail));
        }
        Ok(())
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
        let cn = peer.common_name()?;
        let id = connect.client_id.as_str();
        if id.is_empty() || id.len() > CLIENT_ID_MAX || id.starts_with('$') {
            let detail = format!("the client id is {id:?}");
            return Err(Refusal::new(&CLIENT_ID, Look::Close, detail));
        }
        if id != cn && !id.strip_prefix(cn).is_some_and(|rest| rest.starts_with('-')) {
            let detail = format!("the client id is {id:?}, the certificate's common name {cn:?}");
            return Err(Refusal::new(&CONNECT, Look::Close, detail));
        }
        let session = Session {
            client_id: connect.client_id.clone(),
            owner: cn.to_owned(),
            cn: cn.to_owned(),
        };
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
        one_and_a_half(match keep_alive {
            0 => *KEEP_ALIVE.end(),
            seconds => seconds.clamp(*KEEP_ALIVE.start(), *KEEP_ALIVE.end()),
        })
    }

    fn publish(&self, _session: &Session, p: Publication<'_>) -> Result<(), Refusal> {
        if p.qos > 1 {
            return Err(Refusal::new(&QOS_2, Look::Silence, "a PUBLISH with QoS 2"));
        }
        Self::size(p.topic)?;
        if p.payload > PAYLOAD_MAX {
            let detail = format!("{} bytes", p.payload);
            return Err(Refusal::new(&PAYLOAD, Look::Close, detail));
        }
        // The permission is not the broker's filter: the policy document's `a/*` is written `a/#` here.
        if !self.topics.iter().any(|t| topic::matches(t, p.topic, true)) {
            let detail = format!("{:?} is in none of {:?}", p.topic, self.topics);
            return Err(Refusal::new(&PUBLISH, Look::Close, detail));
        }
        Ok(())
    }

    fn subscribe_packet(&self, filters: usize) -> Result<(), Refusal> {
        if filters > FILTERS_MAX {
            let detail = format!("this one has {filters}");
            return Err(Refusal::new(&FILTERS, Look::Close, detail));
        }
        Ok(())
    }

    fn subscribe(&self, _session: &Session, filter: &str, qos: u8, held: usize) -> Result<u8, Refusal> {
        if qos > 1 {
            return Err(Refusal::new(&QOS_2, Look::Silence, "a SUBSCRIBE with QoS 2"));
        }
        Self::size(filter)?;
        if !self.topics.iter().any(|t| topic::covers(t, filter)) {
            let detail = format!("{filter:?} is not within {:?}", self.topics);
            return Err(Refusal::new(&SUBSCRIBE, Look::Close, detail));
        }
        if held >= SUBSCRIPTIONS_MAX {
            let detail = format!("{held} are there already");
            return Err(Refusal::new(&SUBSCRIPTIONS, Look::SubAckFailure, detail));
        }
        Ok(qos)
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

    fn retain(&self, _session: &Session, p: Publication<'_>) -> Result<bool, Refusal> {
        Ok(!p.topic.starts_with('$'))
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
mod tests {
    use super::super::testing::{check, connect, peer};
    use super::*;

    const HOST: &str = "onyx-ats.iot.ap-northeast-1.amazonaws.com";

    fn policy(topics: &[&str]) -> AwsIot {
        AwsIot::new(HOST.into(), topics.iter().map(|&t| t.into()).collect())
    }

    fn session() -> Session {
        policy(&["#"])
            .connect(&peer("thing"), &connect("thing-1", Some("?SDK=x")))
            .unwrap()
    }

    fn publish(topic: &str, qos: u8, payload: usize) -> Result<(), Refusal> {
        policy(&["a/#", "b"]).publish(&session(), Publication { topic, qos, payload })
    }

    fn subscribe(filter: &str, qos: u8, held: usize) -> Result<(), Refusal> {
        policy(&["a/#"]).subscribe(&session(), filter, qos, held).map(|_| ())
    }

    #[test]
    fn every_rule_is_kept() {
        let p = policy(&["#"]);
        let join = |id: &str| p.connect(&peer("thing"), &connect(id, None)).map(|_| ());
        let close = Look::Close;
        check(
            &p,
            vec![
                ("aws-iot/sni", close, p.hello(None)),
                ("aws-iot/sni", close, p.hello(Some("example.com"))),
                ("aws-iot/client-id", close, join("")),
                ("aws-iot/client-id", close, join("$thing")),
                ("aws-iot/client-id", close, join(&format!("thing-{}", "1".repeat(123)))),
                ("aws-iot/connect-permission", close, join("another")),
                ("aws-iot/connect-permission", close, join("thing2")),
                ("aws-iot/qos-2", Look::Silence, publish("a/b", 2, 1)),
                ("aws-iot/qos-2", Look::Silence, subscribe("a/b", 2, 0)),
                ("aws-iot/topic-size", close, publish("a/1/2/3/4/5/6/7/8", 0, 1)),
                (
                    "aws-iot/topic-size",
                    close,
                    subscribe(&format!("a/{}", "b".repeat(255)), 0, 0),
                ),
                ("aws-iot/payload-size", close, publish("a/b", 0, PAYLOAD_MAX + 1)),
                ("aws-iot/publish-permission", close, publish("c", 0, 1)),
                (
                    "aws-iot/publish-permission",
                    close,
                    publish("$aws/things/thing/shadow/update", 0, 1),
                ),
                ("aws-iot/subscribe-permission", close, subscribe("#", 0, 0)),
                ("aws-iot/filters-per-subscribe", close, p.subscribe_packet(9)),
                ("aws-iot/subscriptions", Look::SubAckFailure, subscribe("a/b", 0, 50)),
            ],
        );
    }

    #[test]
    fn what_keeps_the_rules_is_taken() {
        let p = policy(&["#"]);
        assert_eq!(p.hello(Some(HOST)), Ok(()));
        assert_eq!(p.hello(Some("localhost")), Ok(()));
        assert!(p.connect(&peer("thing"), &connect("thing", None)).is_ok());
        assert_eq!(publish("a/1/2/3/4/5/6/7", 1, PAYLOAD_MAX), Ok(()));
        assert_eq!(subscribe("a/+/#", 1, 49), Ok(()));
        assert_eq!(p.subscribe_packet(8), Ok(()));
        for (asked, seconds) in [(0, 1_800), (5, 45), (60, 90), (1_201, 1_800)] {
            assert_eq!(p.silence_allowed(asked), Duration::from_secs(seconds), "{asked}");
        }
    }
}
