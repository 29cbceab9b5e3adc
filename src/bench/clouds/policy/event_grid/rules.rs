//! The rules of a namespace, each with its source.

use crate::bench::clouds::policy::Rule;

const CLIENTS: &str = "Event Grid documentation, mqtt-clients (08/2025)";
const SUPPORT: &str = "Event Grid documentation, mqtt-support (2024)";

pub(super) const CLIENT_ID: Rule = Rule {
    id: "event-grid/client-id",
    says: "the client id is the session name and is not empty",
    source: CLIENTS,
};
pub(super) const USER_NAME: Rule = Rule {
    id: "event-grid/user-name",
    says: "the user name is the client authentication name and equals the certificate's common name, whatever the case",
    source: CLIENTS,
};
pub(super) const AUTH_NAME: Rule = Rule {
    id: "event-grid/authentication-name",
    says: "a client authentication name has 1 to 128 characters",
    source: CLIENTS,
};
pub(super) const QOS_2: Rule = Rule {
    id: "event-grid/qos-2",
    says: "there is no QoS 2",
    source: SUPPORT,
};
pub(super) const TOPIC_SIZE: Rule = Rule {
    id: "event-grid/topic-size",
    says: "a topic or filter has at most 256 bytes and 8 segments",
    source: "Event Grid documentation, quotas and limits",
};
pub(super) const PUBLISHER: Rule = Rule {
    id: "event-grid/publisher-permission",
    says: "a message goes to a topic space that the client may publish to",
    source: "Event Grid documentation, mqtt-troubleshoot-errors: a client without permission is disconnected when publishing",
};
pub(super) const SUBSCRIBER: Rule = Rule {
    id: "event-grid/subscriber-permission",
    says: "a filter lies within a topic space that the client may subscribe to",
    source: "inferred: the service's metrics count failed subscriptions per filter",
};

pub(super) const UNKNOWN: Rule = Rule {
    id: "event-grid/unknown-client",
    says: "the user name is the authentication name of a registered client",
    source: CLIENTS,
};
pub(super) const CERTIFICATE: Rule = Rule {
    id: "event-grid/certificate",
    says: "the certificate's field that the client is registered with carries its authentication name, or its thumbprint is registered",
    source: "Event Grid documentation, mqtt-client-certificate-authentication",
};
pub(super) const AUTHORITY: Rule = Rule {
    id: "event-grid/authority",
    says: "the certificate that signed the client's is registered with the namespace, unless the client is known by its thumbprint",
    source: "Event Grid documentation, mqtt-certificate-chain-client-authentication",
};
pub(super) const USER_PROPERTIES: Rule = Rule {
    id: "event-grid/user-properties",
    says: "user properties go with PUBLISH and with the will, on any other packet they fail the request",
    source: "Event Grid documentation, mqtt-support; the reason 0x83 is inferred",
};
pub(super) const RETAINED: Rule = Rule {
    id: "event-grid/retained-size",
    says: "a message that is to be kept has at most 64 KB",
    source: "Event Grid documentation, mqtt-retain (07/2025)",
};

pub(super) static RULES: [&Rule; 12] = [
    &CLIENT_ID,
    &USER_NAME,
    &AUTH_NAME,
    &QOS_2,
    &TOPIC_SIZE,
    &PUBLISHER,
    &SUBSCRIBER,
    &UNKNOWN,
    &CERTIFICATE,
    &AUTHORITY,
    &USER_PROPERTIES,
    &RETAINED,
];
