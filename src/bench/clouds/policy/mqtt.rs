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
    says: "this stand-in speaks MQTT 3.1.1 (protocol level 4)",
    source: "OASIS MQTT 3.1.1 section 3.1.2.2; IoT Hub has no MQTT 5, Event Grid's and AWS's MQTT 5 is not simulated",
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
    source: "--fault, a scenario file or the control endpoint",
};
/// TLS did not come about at a door that asks for no client certificate.
pub const TLS_SERVER_ONLY: Rule = Rule {
    id: "tls/server-only",
    says: "HTTPS begins with a TLS handshake in which the client trusts the server's authority",
    source: "SORACOM Krypton, cellular door",
};
