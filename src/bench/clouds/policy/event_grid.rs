//! The rule book of Azure Event Grid's MQTT broker (namespaces), as far as a device on MQTT 3.1.1 meets it.
//!
//! Authentication is "Subject Matches Authentication Name" with CN-only subjects, and the authority is the intermediate alone, because
//! Event Grid wants the certificate that directly signed the leaf. QoS 2 closes the connection for PUBLISH and SUBSCRIBE alike: the
//! documentation says "failure, connection closed" and makes no difference. Keep-alive over the maximum is capped, not refused
//! (MQTT 3.1.1 has no way to tell the client). Rates, session counts and MQTT 5 are not simulated yet.

use std::time::Duration;

use super::{Limits, Look, Peer, Policy, Publication, Refusal, Rule, Session, one_and_a_half};
use crate::bench::clouds::topic;
use crate::mqtt::{Connect, connack};

const CLIENTS: &str = "Event Grid documentation, mqtt-clients (08/2025)";
const SUPPORT: &str = "Event Grid documentation, mqtt-support (2024)";

const CLIENT_ID: Rule = Rule {
    id: "event-grid/client-id",
    says: "the client id is the session name and is not empty",
    source: CLIENTS,
};
const USER_NAME: Rule = Rule {
    id: "event-grid/user-name",
    says: "the user name is the client authentication name and equals the certificate's common name, whatever the case",
    source: CLIENTS,
};
const AUTH_NAME: Rule = Rule {
    id: "event-grid/authentication-name",
    says: "a client authentication name has 1 to 128 characters",
    source: CLIENTS,
};
const QOS_2: Rule = Rule {
    id: "event-grid/qos-2",
    says: "there is no QoS 2",
    source: SUPPORT,
};
const TOPIC_SIZE: Rule = Rule {
    id: "event-grid/topic-size",
    says: "a topic or filter has at most 256 bytes and 8 segments",
    source: "Event Grid documentation, quotas and limits",
};
const PUBLISHER: Rule = Rule {
    id: "event-grid/publisher-permission",
    says: "a message goes to a topic space that the client may publish to",
    source: "Event Grid documentation, mqtt-troubleshoot-errors: a client without permission is disconnected when publishing",
};
const SUBSCRIBER: Rule = Rule {
    id: "event-grid/subscriber-permission",
    says: "a filter lies within a topic space that the client may subscribe to",
    source: "inferred: the service's metrics count failed subscriptions per filter",
};

pub(super) static RULES: [&Rule; 7] = [
    &CLIENT_ID,
    &USER_NAME,
    &AUTH_NAME,
    &QOS_2,
    &TOPIC_SIZE,
    &PUBLISHER,
    &SUBSCRIBER,
];

/// Largest packet, in bytes ([`SUPPORT`]).
const PACKET_MAX: usize = 512 * 1024;
/// Longest topic or filter, in bytes.
const TOPIC_MAX: usize = 256;
/// Most segments of a topic or filter.
const SEGMENTS_MAX: usize = 8;
/// Longest authentication name, in characters.
const AUTH_NAME_MAX: usize = 128;
/// Longest keep-alive, in seconds.
const KEEP_ALIVE_MAX: u16 = 1_160;
/// Outbound messages without acknowledgement.
const IN_FLIGHT: usize = 16;
/// Messages kept for a session.
const QUEUE: usize = 100;
/// Default session expiry of a namespace.
const SESSION_EXPIRY: Duration = Duration::from_secs(3_600);
/// What a topic-space template writes for the client's authentication name.
const AUTH_NAME_VARIABLE: &str = "${client.authenticationName}";

/// A namespace with one topic space that every client may publish and subscribe to.
#[derive(Debug, Clone)]
pub struct EventGrid {
    templates: Vec<String>,
}

impl EventGrid {
    /// `templates` are those of the topic space: `+`, `#` and `${client.authenticationName}`.
    #[must_use]
    pub fn new(templates: Vec<String>) -> Self {
        Self { templates }
    }

    fn allowed(&self, session: &Session, fits: impl Fn(&str) -> bool) -> bool {
        self.templates
            .iter()
            .any(|t| fits(&t.replace(AUTH_NAME_VARIABLE, &session.owner)))
    }

    fn size(topic: &str, look: Look) -> Result<(), Refusal> {
        let levels = topic::levels(topic);
        if topic.len() > TOPIC_MAX || levels > SEGMENTS_MAX {
            let detail = format!("this one has {} bytes and {levels} segments", topic.len());
            return Err(Refusal::new(&TOPIC_SIZE, look, detail));
        }
        Ok(())
    }
}

impl Policy for EventGrid {
    fn rules(&self) -> &'static [&'static Rule] {
        &RULES
    }

    fn limits(&self) -> Limits {
        Limits {
            packet: PACKET_MAX,
            in_flight: IN_FLIGHT,
            queue: QUEUE,
            session_expiry: SESSION_EXPIRY,
            hash_covers_parent: true,
            foreign_take_over: false,
        }
    }

    fn connect(&self, peer: &Peer, connect: &Connect) -> Result<Session, Refusal> {
        let cn = peer.common_name()?;
        if connect.client_id.is_empty() {
            return Err(Refusal::new(
                &CLIENT_ID,
                Look::ConnAck(connack::BAD_CLIENT_ID),
                "the client id is empty",
            ));
        }
        let name = connect.username.as_deref().unwrap_or_default();
        let refused = Look::ConnAck(connack::NOT_AUTHORIZED);
        if name.is_empty() || name.chars().count() > AUTH_NAME_MAX {
            let detail = format!("the user name has {} characters", name.chars().count());
            return Err(Refusal::new(&AUTH_NAME, refused, detail));
        }
        if name.to_lowercase() != cn.to_lowercase() {
            let detail = format!("the user name is {name:?}, the certificate's common name {:?}", cn);
            return Err(Refusal::new(&USER_NAME, refused, detail));
        }
        let session = Session {
            client_id: connect.client_id.clone(),
            // Registered under the certificate's spelling: comparison ignores case, topic variables keep it.
            owner: cn.to_owned(),
            cn: cn.to_owned(),
        };
        if let Some(will) = &connect.will {
            self.publish(
                &session,
                Publication {
                    topic: &will.topic,
                    qos: will.qos,
                    payload: will.payload.len(),
                },
            )
            .map_err(|r| Refusal { look: refused, ..r })?;
        }
        Ok(session)
    }

    fn silence_allowed(&self, keep_alive: u16) -> Duration {
        one_and_a_half(match keep_alive {
            0 => KEEP_ALIVE_MAX,
            seconds => seconds.min(KEEP_ALIVE_MAX),
        })
    }

    fn publish(&self, session: &Session, p: Publication<'_>) -> Result<(), Refusal> {
        if p.qos > 1 {
            return Err(Refusal::new(&QOS_2, Look::Close, "a PUBLISH with QoS 2"));
        }
        Self::size(p.topic, Look::Close)?;
        if !self.allowed(session, |template| topic::matches(template, p.topic, true)) {
            let detail = format!("{:?} is in none of {:?}", p.topic, self.templates);
            return Err(Refusal::new(&PUBLISHER, Look::Close, detail));
        }
        Ok(())
    }

    fn subscribe(&self, session: &Session, filter: &str, qos: u8, _held: usize) -> Result<u8, Refusal> {
        if qos > 1 {
            return Err(Refusal::new(&QOS_2, Look::Close, "a SUBSCRIBE with QoS 2"));
        }
        Self::size(filter, Look::SubAckFailure)?;
        if !self.allowed(session, |template| topic::covers(template, filter)) {
            let detail = format!("{filter:?} is not within {:?}", self.templates);
            return Err(Refusal::new(&SUBSCRIBER, Look::SubAckFailure, detail));
        }
        Ok(qos)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, connect, peer};
    use super::*;

    fn policy() -> EventGrid {
        EventGrid::new(vec![
            "exampletopics/#".into(),
            "clients/${client.authenticationName}/+".into(),
        ])
    }

    fn publish(topic: &str, qos: u8) -> Result<(), Refusal> {
        let session = policy().connect(&peer("Name"), &connect("s", Some("name"))).unwrap();
        policy().publish(&session, Publication { topic, qos, payload: 1 })
    }

    fn subscribe(filter: &str, qos: u8) -> Result<u8, Refusal> {
        let session = policy().connect(&peer("Name"), &connect("s", Some("NAME"))).unwrap();
        policy().subscribe(&session, filter, qos, 0)
    }

    #[test]
    fn every_rule_is_kept() {
        let p = policy();
        let refused = Look::ConnAck(connack::NOT_AUTHORIZED);
        let join = |id: &str, user: Option<&str>| p.connect(&peer("name"), &connect(id, user)).map(|_| ());
        let mut will = connect("s", Some("name"));
        will.will = Some(crate::mqtt::Will {
            topic: "elsewhere".into(),
            payload: "x".into(),
            qos: 1,
            retain: false,
        });
        check(
            &p,
            vec![
                (
                    "event-grid/client-id",
                    Look::ConnAck(connack::BAD_CLIENT_ID),
                    join("", Some("name")),
                ),
                ("event-grid/user-name", refused, join("s", Some("another"))),
                ("event-grid/authentication-name", refused, join("s", None)),
                (
                    "event-grid/authentication-name",
                    refused,
                    join("s", Some(&"n".repeat(129))),
                ),
                (
                    "event-grid/publisher-permission",
                    refused,
                    p.connect(&peer("name"), &will).map(|_| ()),
                ),
                ("event-grid/qos-2", Look::Close, publish("exampletopics/a", 2)),
                (
                    "event-grid/qos-2",
                    Look::Close,
                    subscribe("exampletopics/a", 2).map(|_| ()),
                ),
                (
                    "event-grid/topic-size",
                    Look::Close,
                    publish("exampletopics/2/3/4/5/6/7/8/9", 0),
                ),
                (
                    "event-grid/topic-size",
                    Look::Close,
                    publish(&format!("exampletopics/{}", "a".repeat(243)), 0),
                ),
                (
                    "event-grid/topic-size",
                    Look::SubAckFailure,
                    subscribe("exampletopics/2/3/4/5/6/7/8/#", 0).map(|_| ()),
                ),
                ("event-grid/publisher-permission", Look::Close, publish("others/a", 0)),
                (
                    "event-grid/publisher-permission",
                    Look::Close,
                    publish("clients/somebody/x", 0),
                ),
                (
                    "event-grid/subscriber-permission",
                    Look::SubAckFailure,
                    subscribe("#", 0).map(|_| ()),
                ),
            ],
        );
    }

    #[test]
    fn what_keeps_the_rules_is_taken() {
        assert_eq!(publish("exampletopics/2/3/4/5/6/7/8", 1), Ok(()));
        assert_eq!(publish("clients/Name/x", 0), Ok(()), "the variable keeps its case");
        assert_eq!(publish(&format!("exampletopics/{}", "a".repeat(242)), 0), Ok(()));
        assert_eq!(subscribe("exampletopics/+", 1), Ok(1));
        assert_eq!(policy().silence_allowed(0), Duration::from_secs(1_740));
        assert_eq!(policy().silence_allowed(60_000), Duration::from_secs(1_740));
        assert_eq!(policy().silence_allowed(60), Duration::from_secs(90));
    }
}
