//! The rule book of SORACOM Beam's MQTT entry point: plain MQTT 3.1.1 from a device that is known by its SIM.
//!
//! Behind the real one there is a broker of the customer's; here it is one without rules of its own. Beam keeps no session, the broker
//! does. User name and password are not looked at, because Beam replaces them by the group's credentials. On the real network the cellular
//! session tells whose SIM it is; on the bench the source address does ([`Subscribers`]).
//!
//! Two options change topics ([`Beam`]): the IMSI at the end of what a device publishes, and `{{imsi}}` within the topics of publications
//! (the real one replaces it in subscriptions as well; this one does not).

use std::sync::Arc;
use std::time::Duration;

use super::{Limits, Look, Peer, Policy, Publication, Refusal, Rule, Session, one_and_a_half};
use crate::bench::clouds::backend::{Backend, Handling, Now, Received};
use crate::bench::clouds::subscribers::Subscribers;
use crate::mqtt::{Connect, connack};

const LIMITATIONS: &str = "SORACOM Beam documentation, limitations";

const SUBSCRIBER: Rule = Rule {
    id: "beam/subscriber",
    says: "a device comes in over a SORACOM SIM whose group has Beam switched on",
    source: "SORACOM hands-on, chapter 7: no connection at all; that it is closed at CONNECT and not before is the bench's choice",
};
const KEEP_ALIVE: Rule = Rule {
    id: "beam/keep-alive",
    says: "the keep-alive is 0 or 5 to 1200 seconds",
    source: LIMITATIONS,
};
const CLIENT_ID: Rule = Rule {
    id: "beam/client-id",
    says: "the client id is not empty",
    source: "inferred: it passes through to the broker, and Event Grid and AWS want one",
};
const QOS_2: Rule = Rule {
    id: "beam/qos-2",
    says: "QoS 2 is not guaranteed, and a broker without it closes the connection",
    source: LIMITATIONS,
};

pub(super) static RULES: [&Rule; 4] = [&SUBSCRIBER, &KEEP_ALIVE, &CLIENT_ID, &QOS_2];

/// Shortest and longest keep-alive, in seconds; 0 is allowed as well ([`LIMITATIONS`]).
const KEEP_ALIVE_RANGE: std::ops::RangeInclusive<u16> = 5..=1_200;
/// A silent connection without keep-alive is cut after this long ([`LIMITATIONS`]).
const IDLE_MAX: Duration = Duration::from_secs(30 * 60);
/// Largest packet, in bytes: the entry point names no limit, the bench needs one.
const PACKET_MAX: usize = 1 << 20;
/// QoS 1 messages on their way to a device: the broker behind is the bench's own.
const IN_FLIGHT: usize = 20;
/// Messages kept for a device: the same.
const QUEUE: usize = 1_000;
/// How long that broker keeps a session.
const SESSION_EXPIRY: Duration = Duration::from_secs(86_400);
/// What topics write for the IMSI.
const IMSI_VARIABLE: &str = "{{imsi}}";

/// One group's Beam.
#[derive(Debug, Clone)]
pub struct Beam {
    /// Whose SIM a caller has.
    pub subscribers: Subscribers,
    /// `topic` becomes `topic/IMSI` when a device publishes (`addSubscriberHeader`).
    pub append_imsi: bool,
    /// `{{imsi}}` in the topic of a publication becomes the IMSI.
    pub imsi_in_topics: bool,
}

impl Policy for Beam {
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
            foreign_take_over: true,
        }
    }

    fn connect(&self, peer: &Peer, connect: &Connect) -> Result<Session, Refusal> {
        let address = peer.address.ip();
        let Some(imsi) = self.subscribers.find(address) else {
            let detail = format!("{address} is no SIM's: --subscriber IMSI@{address} makes it one");
            return Err(Refusal::new(&SUBSCRIBER, Look::Close, detail));
        };
        let seconds = connect.keep_alive;
        if seconds != 0 && !KEEP_ALIVE_RANGE.contains(&seconds) {
            let detail = format!("the keep-alive is {seconds} s, expected 0 or 5 to 1200");
            return Err(Refusal::new(
                &KEEP_ALIVE,
                Look::ConnAck(connack::NOT_AUTHORIZED),
                detail,
            ));
        }
        if connect.client_id.is_empty() {
            let look = Look::ConnAck(connack::BAD_CLIENT_ID);
            return Err(Refusal::new(&CLIENT_ID, look, "the client id is empty"));
        }
        Ok(Session {
            api_version: None,
            client_id: connect.client_id.clone(),
            owner: imsi.to_string(),
            cn: String::new(),
        })
    }

    fn silence_allowed(&self, keep_alive: u16) -> Duration {
        match keep_alive {
            0 => IDLE_MAX,
            seconds => one_and_a_half(seconds),
        }
    }

    fn publish(&self, _session: &Session, p: Publication<'_>) -> Result<(), Refusal> {
        if p.qos > 1 {
            return Err(Refusal::new(&QOS_2, Look::Close, "a PUBLISH with QoS 2"));
        }
        Ok(())
    }

    fn subscribe(&self, _session: &Session, _filter: &str, qos: u8, _held: usize) -> Result<u8, Refusal> {
        Ok(qos.min(1))
    }
}

impl Backend for Beam {
    fn received(&self, session: &Session, received: Received<'_>, _now: Now) -> Result<Handling, Refusal> {
        let mut topic = received.topic.to_owned();
        if self.imsi_in_topics {
            topic = topic.replace(IMSI_VARIABLE, &session.owner);
        }
        if self.append_imsi {
            topic = format!("{topic}/{}", session.owner);
        }
        if topic == received.topic {
            return Ok(Handling::Message);
        }
        Ok(Handling::MessageAs(Arc::from(topic)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, connect, peer};
    use super::*;
    use bytes::Bytes;

    const IMSI: &str = "440103123456789";

    fn beam() -> Beam {
        Beam {
            subscribers: Subscribers::parse(&[format!("{IMSI}@127.0.0.1")]).unwrap(),
            append_imsi: true,
            imsi_in_topics: true,
        }
    }

    fn with_keep_alive(seconds: u16) -> Result<Session, Refusal> {
        let mut c = connect("dev", None);
        c.keep_alive = seconds;
        beam().connect(&peer("x"), &c)
    }

    #[test]
    fn every_rule() {
        let mut stranger = peer("x");
        stranger.address = ([127, 0, 0, 9], 1).into();
        let session = with_keep_alive(0).unwrap();
        let publish = |qos| {
            let p = Publication {
                topic: "t",
                qos,
                payload: 1,
            };
            beam().publish(&session, p)
        };
        check(
            &beam(),
            vec![
                (
                    "beam/subscriber",
                    Look::Close,
                    beam().connect(&stranger, &connect("dev", None)).map(drop),
                ),
                ("beam/keep-alive", Look::ConnAck(5), with_keep_alive(4).map(drop)),
                ("beam/keep-alive", Look::ConnAck(5), with_keep_alive(1_201).map(drop)),
                (
                    "beam/client-id",
                    Look::ConnAck(2),
                    beam().connect(&peer("x"), &connect("", None)).map(drop),
                ),
                ("beam/qos-2", Look::Close, publish(2)),
            ],
        );
        assert!(publish(1).is_ok());
        for good in [0, 5, 1_200] {
            assert_eq!(with_keep_alive(good).unwrap().owner, IMSI);
        }
        assert_eq!(beam().silence_allowed(0), Duration::from_secs(1_800));
        assert_eq!(beam().silence_allowed(10), Duration::from_secs(15));
    }

    #[test]
    fn the_imsi_gets_into_topics_as_configured() {
        let session = with_keep_alive(0).unwrap();
        let handled = |b: Beam, topic: &str| {
            let received = Received {
                topic,
                payload: &Bytes::new(),
                qos: 1,
                retain: false,
            };
            let now = Now {
                monotonic: Duration::ZERO,
                wall: Duration::ZERO,
            };
            match b.received(&session, received, now).unwrap() {
                Handling::MessageAs(topic) => topic.to_string(),
                _ => "as it is".into(),
            }
        };
        assert_eq!(handled(beam(), "a/{{imsi}}"), format!("a/{IMSI}/{IMSI}"));
        let plain = Beam {
            append_imsi: false,
            ..beam()
        };
        assert_eq!(handled(plain.clone(), "a/{{imsi}}"), format!("a/{IMSI}"));
        assert_eq!(handled(plain, "a/b"), "as it is");
        let other = Beam {
            imsi_in_topics: false,
            ..beam()
        };
        assert_eq!(handled(other, "{{imsi}}"), format!("{{{{imsi}}}}/{IMSI}"));
    }
}
