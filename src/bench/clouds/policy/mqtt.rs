//! The rules that every stand-in shares: MQTT 3.1.1 itself, mutual TLS, and the bounds of the bench.

use super::Rule;

const SPEC: &str = "OASIS MQTT 3.1.1";

/// TLS did not come about, most often for want of a client certificate.
pub const TLS: Rule = Rule {
    id: "tls/handshake",
    says: "a TLS handshake with a client certificate from a registered authority comes first",
    source: "X.509 authentication of Event Grid, IoT Hub and AWS IoT Core",
};
/// The certificate names nobody, or several.
pub const COMMON_NAME: Rule = Rule {
    id: "tls/common-name",
    says: "the client certificate has exactly one common name",
    source: "the stand-ins identify a device by it; the clouds' guides make such certificates",
};
/// Something else than CONNECT came first, or nothing.
pub const CONNECT_FIRST: Rule = Rule {
    id: "mqtt/connect-first",
    says: "the first packet is CONNECT, and it comes at once",
    source: "OASIS MQTT 3.1.1 section 3.1, MQTT-3.1.0-1",
};
/// A CONNECT of another version.
pub const VERSION: Rule = Rule {
    id: "mqtt/version",
    says: "CONNECT is of a version that this cloud speaks: 3.1.1 everywhere, 5 at Event Grid and AWS IoT Core",
    source: "OASIS MQTT 3.1.1 and 5.0 section 3.1.2.2; IoT Hub documentation, mqtt-support: no MQTT 5",
};
/// Bytes that are no packet, or no packet a client sends.
pub const MALFORMED: Rule = Rule {
    id: "mqtt/malformed",
    says: "packets follow the specification",
    source: SPEC,
};
/// A packet over the limit.
pub const PACKET_SIZE: Rule = Rule {
    id: "mqtt/packet-size",
    says: "a packet is no larger than this cloud takes",
    source: "the cloud's published limits",
};
/// A topic name or filter that is none.
pub const TOPIC: Rule = Rule {
    id: "mqtt/topic",
    says: "topic names have no wildcards, and wildcards in filters fill whole levels",
    source: "OASIS MQTT 3.1.1 section 4.7",
};
/// Nothing was heard for too long.
pub const KEEP_ALIVE: Rule = Rule {
    id: "mqtt/keep-alive",
    says: "a device shows a sign of life within one and a half keep-alive periods",
    source: "OASIS MQTT 3.1.1 section 3.1.2.10 and the cloud's cap",
};
/// The session of somebody else.
pub const FOREIGN_SESSION: Rule = Rule {
    id: "event-grid/foreign-session",
    says: "a session name that another authentication name holds cannot be taken over",
    source: "Event Grid documentation, mqtt-clients: refused as unauthorized",
};
/// Something of MQTT 5 that the server did not offer.
pub const RECEIVE_MAXIMUM: Rule = Rule {
    id: "mqtt/receive-maximum",
    says: "a device has no more QoS 1 messages under way than the server's receive maximum",
    source: "OASIS MQTT 5.0 section 3.3.4",
};
/// A topic alias that is none.
pub const TOPIC_ALIAS: Rule = Rule {
    id: "mqtt/topic-alias",
    says: "a topic alias is between 1 and the server's maximum, and is known when the topic is left out",
    source: "OASIS MQTT 5.0 section 3.3.2.3.4",
};
/// Enhanced authentication.
pub const AUTHENTICATION: Rule = Rule {
    id: "mqtt/authentication-method",
    says: "a client certificate is the one way of authentication here, there is no AUTH exchange",
    source: "OASIS MQTT 5.0 section 4.12; Event Grid also knows OAUTH2-JWT and custom webhooks, which are not simulated",
};
/// Shared subscriptions.
pub const SHARED: Rule = Rule {
    id: "mqtt/shared-subscription",
    says: "there are no shared subscriptions here",
    source: "Event Grid documentation, mqtt-support; AWS IoT Core has them, the bench has not",
};
/// Subscription identifiers.
pub const IDENTIFIERS: Rule = Rule {
    id: "mqtt/subscription-identifier",
    says: "there are no subscription identifiers here",
    source: "Event Grid documentation, mqtt-support; AWS IoT Core developer guide, MQTT 5",
};
/// An acknowledgement that says no.
pub const NEGATIVE_ACK: Rule = Rule {
    id: "mqtt/negative-puback",
    says: "a device acknowledges messages with success; anything else ends the connection",
    source: "Event Grid documentation, mqtt-support; the others are taken to do the same (inferred)",
};
/// A session that asks for more than its expiry.
pub const SESSION_EXPIRY: Rule = Rule {
    id: "mqtt/session-expiry",
    says: "a session that was to end with its connection does not get an expiry in DISCONNECT",
    source: "OASIS MQTT 5.0 section 3.14.2.2.2",
};
/// Too much in a second.
pub const RATE: Rule = Rule {
    id: "mqtt/rate",
    says: "a connection sends no more messages and bytes in a second than this cloud takes",
    source: "the cloud's published limits",
};
/// A queue that overflowed.
pub const OVERFLOW: Rule = Rule {
    id: "mqtt/queue",
    says: "a session whose queue of unacknowledged messages is full ends",
    source: "Event Grid documentation, client life-cycle events: SessionOverflow",
};
/// A will that waits too long.
pub const WILL_DELAY: Rule = Rule {
    id: "mqtt/will-delay",
    says: "a will waits no longer than this cloud allows",
    source: "Event Grid documentation, mqtt-support: 300 s; that a longer one is refused, and with 0x83, is inferred",
};
/// One session too many.
pub const SESSIONS: Rule = Rule {
    id: "event-grid/sessions",
    says: "an authentication name has so many sessions, connected or away, as the namespace sets",
    source: "Event Grid documentation, mqtt-clients and namespace configuration; the CONNACK codes (3, and 0x97 in MQTT 5) are inferred",
};
/// The bench is full.
pub const FULL: Rule = Rule {
    id: "bench/full",
    says: "a stand-in keeps a bounded number of sessions and subscriptions",
    source: "the bench's own bound",
};
/// A fault that was asked for.
pub const FAULT: Rule = Rule {
    id: "bench/fault",
    says: "this misbehaviour was asked for",
    source: "--mqtt-fault",
};
/// TLS did not come about at a door that asks for no client certificate.
pub const TLS_SERVER_ONLY: Rule = Rule {
    id: "tls/server-only",
    says: "HTTPS begins with a TLS handshake in which the client trusts the server's authority",
    source: "SORACOM Krypton, cellular door",
};
/// No application protocol, or another one.
pub const ALPN: Rule = Rule {
    id: "tls/alpn",
    says: "at a door that protocols share, the TLS handshake names this one (ALPN)",
    source: "AWS IoT Core developer guide, device communication protocols; RFC 7301 section 3.2; that nothing at all is closed after the \
             handshake is inferred",
};

pub(super) static RULES: [&Rule; 24] = [
    &TLS,
    &COMMON_NAME,
    &CONNECT_FIRST,
    &VERSION,
    &MALFORMED,
    &PACKET_SIZE,
    &TOPIC,
    &KEEP_ALIVE,
    &FOREIGN_SESSION,
    &FULL,
    &FAULT,
    &TLS_SERVER_ONLY,
    &ALPN,
    &RECEIVE_MAXIMUM,
    &TOPIC_ALIAS,
    &AUTHENTICATION,
    &SHARED,
    &IDENTIFIERS,
    &NEGATIVE_ACK,
    &SESSION_EXPIRY,
    &RATE,
    &OVERFLOW,
    &WILL_DELAY,
    &SESSIONS,
];
