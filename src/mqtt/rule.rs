//! The rules of the specification that a packet can break, each with a stable id, one sentence and its number in both versions.
//!
//! A [`Violation`] is a rule, the packet that broke it, and the number found there. It never repeats the packet's own text: topics and
//! client identifiers hold subscribers' numbers, and a log line is no place for a stranger's bytes.
//!
//! Numbers in brackets like `MQTT-3.3.1-4` are the normative statements of OASIS MQTT 3.1.1 (appendix B) and OASIS MQTT 5.0 (appendix
//! B); where a MUST has no number of its own the section stands for it.

use super::reason;
use super::{FrameError, Level, PacketType};

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable, for logs and metrics.
    pub id: &'static str,
    /// What has to be.
    pub sentence: &'static str,
    /// Where 3.1.1 says so; empty when 3.1.1 has no such rule.
    pub v3: &'static str,
    /// Where 5 says so; empty when 5 has no such rule.
    pub v5: &'static str,
    /// The reason code that version 5 answers with (MQTT 5 section 4.13).
    pub reason: u8,
}

/// A broken rule; the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static Rule,
    /// By the rules of which version.
    pub level: Level,
    /// Which kind of packet broke it, if that is known.
    pub packet: Option<PacketType>,
    /// The offending value, where it is a number.
    pub found: Option<u32>,
    /// The bound it broke, where that is not in the rule's sentence.
    pub allowed: Option<u32>,
}

impl Violation {
    /// The same with the packet it was found in.
    #[must_use]
    pub fn in_packet(self, level: Level, packet: PacketType) -> Self {
        Self {
            level,
            packet: Some(packet),
            ..self
        }
    }

    /// The rule's id, for logs and metrics.
    #[must_use]
    pub fn id(&self) -> &'static str {
        self.rule.id
    }

    /// The rule's number in the specification of this connection's version.
    #[must_use]
    pub fn number(&self) -> &'static str {
        match self.level {
            Level::V3 => self.rule.v3,
            Level::V5 => self.rule.v5,
        }
    }

    /// The reason code for DISCONNECT or CONNACK of version 5.
    #[must_use]
    pub fn reason(&self) -> u8 {
        self.rule.reason
    }
}

impl From<&'static Rule> for Violation {
    fn from(rule: &'static Rule) -> Self {
        Self {
            rule,
            level: Level::V5,
            packet: None,
            found: None,
            allowed: None,
        }
    }
}

impl From<FrameError> for Violation {
    fn from(error: FrameError) -> Self {
        let number = |n: usize| Some(u32::try_from(n).unwrap_or(u32::MAX));
        match error {
            FrameError::ReservedType(found) => PACKET_TYPE.found(found),
            FrameError::BadLength => Self::from(&REMAINING_LENGTH),
            FrameError::TooLarge { size, limit } => Self {
                found: number(size),
                allowed: number(limit),
                ..Self::from(&PACKET_SIZE)
            },
        }
    }
}

impl Rule {
    /// Broken by this value.
    #[must_use]
    pub fn found(&'static self, found: impl Into<u32>) -> Violation {
        Violation {
            found: Some(found.into()),
            ..self.into()
        }
    }

    /// Broken by this value, which has this bound.
    #[must_use]
    pub fn above(&'static self, found: impl Into<u32>, allowed: impl Into<u32>) -> Violation {
        Violation {
            allowed: Some(allowed.into()),
            ..self.found(found)
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.packet {
            Some(packet) => write!(f, "{packet:?} breaks ")?,
            None => f.write_str("the stream breaks ")?,
        }
        f.write_str(self.rule.id)?;
        match self.number() {
            "" => {}
            number => write!(f, " [{number} of MQTT {}]", self.level)?,
        }
        write!(f, ": {}", self.rule.sentence)?;
        match (self.found, self.allowed) {
            (Some(found), Some(allowed)) => write!(f, "; here it is {found} and the bound is {allowed}"),
            (Some(found), None) => write!(f, "; here it is {found}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Violation {}

macro_rules! rules {
    ($($name:ident $id:literal $sentence:literal, $v3:literal, $v5:literal, $reason:ident;)*) => {
        $(
            #[doc = $sentence]
            pub static $name: Rule = Rule { id: $id, sentence: $sentence, v3: $v3, v5: $v5, reason: reason::$reason };
        )*
        /// Every rule, in the order of the specification.
        pub static ALL: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    // Any packet.
    PACKET_TYPE "packet-type" "packet types are 1 to 14, and 15 in version 5", "table 2.1", "table 2-1", MALFORMED;
    REMAINING_LENGTH "remaining-length" "a remaining length ends within four bytes", "section 2.2.3", "section 1.5.5", MALFORMED;
    LENGTH_FORM "length-form" "a variable byte integer has as few bytes as its value needs", "", "MQTT-1.5.5-1", MALFORMED;
    PACKET_SIZE "packet-size" "no packet is larger than what this side takes", "", "MQTT-3.2.2-15", PACKET_TOO_LARGE;
    FLAGS "flags" "the reserved flags of the fixed header are 0", "MQTT-2.2.2-2", "MQTT-2.1.3-1", MALFORMED;
    SENDER "sender" "this kind of packet comes from the other side only", "table 2.1", "table 2-1", PROTOCOL_ERROR;
    TRUNCATED "truncated" "a packet holds all of its fields", "section 2.3", "section 4.13", MALFORMED;
    LEFT_OVER "left-over" "a packet ends with its last field", "section 2.2.3", "section 4.13", MALFORMED;
    TEXT "text" "a string is UTF-8 without surrogates", "MQTT-1.5.3-1", "MQTT-1.5.4-1", MALFORMED;
    NUL "nul" "a string does not contain U+0000", "MQTT-1.5.3-2", "MQTT-1.5.4-2", MALFORMED;
    PACKET_ID "packet-id" "PUBLISH above QoS 0, SUBSCRIBE and UNSUBSCRIBE have a packet identifier other than 0", "MQTT-2.3.1-1", "MQTT-2.2.1-3", PROTOCOL_ERROR;
    ACK_ID "ack-id" "an acknowledgement has the packet identifier of its packet, and that is never 0", "MQTT-2.3.1-6", "MQTT-2.2.1-5", PROTOCOL_ERROR;
    // CONNECT.
    CONNECT_FIRST "connect-first" "the first packet is CONNECT", "MQTT-3.1.0-1", "MQTT-3.1.0-1", PROTOCOL_ERROR;
    CONNECT_AGAIN "connect-again" "there is no second CONNECT", "MQTT-3.1.0-2", "MQTT-3.1.0-2", PROTOCOL_ERROR;
    CONNECT_RESERVED "connect-reserved" "the reserved flag of CONNECT is 0", "MQTT-3.1.2-3", "MQTT-3.1.2-3", MALFORMED;
    WILL_FLAGS "will-flags" "without a will, its QoS and its RETAIN are 0", "MQTT-3.1.2-13, MQTT-3.1.2-15", "MQTT-3.1.2-11, MQTT-3.1.2-13", MALFORMED;
    WILL_QOS "will-qos" "the QoS of a will is 0, 1 or 2", "MQTT-3.1.2-14", "MQTT-3.1.2-12", MALFORMED;
    PASSWORD_ALONE "password-alone" "there is no password without a user name", "MQTT-3.1.2-22", "", MALFORMED;
    RECEIVE_MAXIMUM_ZERO "receive-maximum-zero" "Receive Maximum is not 0", "", "section 3.1.2.11.3", PROTOCOL_ERROR;
    MAXIMUM_PACKET_ZERO "maximum-packet-zero" "Maximum Packet Size is not 0", "", "section 3.1.2.11.4", PROTOCOL_ERROR;
    REQUEST_RESPONSE "request-response" "Request Response Information is 0 or 1", "", "section 3.1.2.11.6", PROTOCOL_ERROR;
    REQUEST_PROBLEM "request-problem" "Request Problem Information is 0 or 1", "", "section 3.1.2.11.7", PROTOCOL_ERROR;
    AUTH_DATA "auth-data" "there is no Authentication Data without an Authentication Method", "", "section 3.1.2.11.10", PROTOCOL_ERROR;
    // CONNACK.
    CONNACK_AGAIN "connack-again" "there is no second CONNACK", "section 3.2", "MQTT-3.2.0-2", PROTOCOL_ERROR;
    CONNACK_FLAGS "connack-flags" "the flags of CONNACK are 0 or 1", "section 3.2.2.1", "MQTT-3.2.2-1", MALFORMED;
    GRANTED_QOS "granted-qos" "a client does not send a higher QoS than the server's Maximum QoS", "", "MQTT-3.2.2-11", QOS_NOT_SUPPORTED;
    GRANTED_RETAIN "granted-retain" "a client does not set RETAIN when the server's Retain Available is 0", "", "MQTT-3.2.2-14", RETAIN_NOT_SUPPORTED;
    // PUBLISH.
    QOS "qos" "QoS is 0, 1 or 2", "MQTT-3.3.1-4", "MQTT-3.3.1-4", MALFORMED;
    DUP "dup" "DUP is 0 with QoS 0", "MQTT-3.3.1-2", "MQTT-3.3.1-2", MALFORMED;
    TOPIC_EMPTY "topic-empty" "a topic name has at least one character, unless an alias of version 5 stands for it", "MQTT-4.7.3-1", "section 3.3.2.1", PROTOCOL_ERROR;
    TOPIC_WILDCARD "topic-wildcard" "a topic name has no wildcards", "MQTT-3.3.2-2", "MQTT-3.3.2-2", TOPIC_NAME_INVALID;
    PAYLOAD_FORMAT "payload-format" "Payload Format Indicator is 0 or 1", "", "section 3.3.2.3.2", PROTOCOL_ERROR;
    ALIAS_ZERO "alias-zero" "a topic alias is not 0", "", "MQTT-3.3.2-8", TOPIC_ALIAS_INVALID;
    ALIAS_MAXIMUM "alias-maximum" "a topic alias is not above what the server takes", "", "MQTT-3.3.2-9", TOPIC_ALIAS_INVALID;
    ALIAS_UNKNOWN "alias-unknown" "a topic alias that stands for a topic was set before on this connection", "", "section 3.3.2.3.4", PROTOCOL_ERROR;
    RESPONSE_TOPIC "response-topic" "a response topic has no wildcards", "", "MQTT-3.3.2-14", PROTOCOL_ERROR;
    IDENTIFIER_UP "identifier-up" "a PUBLISH from a client has no Subscription Identifier", "", "MQTT-3.3.4-6", PROTOCOL_ERROR;
    RECEIVE_MAXIMUM "receive-maximum" "a client has no more PUBLISH without acknowledgement than the server's Receive Maximum", "", "MQTT-3.3.4-7", RECEIVE_MAXIMUM_EXCEEDED;
    // Acknowledgements.
    PUBACK_REASON "puback-reason" "PUBACK has one of its own reason codes", "", "MQTT-3.4.2-1", PROTOCOL_ERROR;
    PUBREC_REASON "pubrec-reason" "PUBREC has one of its own reason codes", "", "MQTT-3.5.2-1", PROTOCOL_ERROR;
    PUBREL_FLAGS "pubrel-flags" "the flags of PUBREL are 0010", "MQTT-3.6.1-1", "MQTT-3.6.1-1", MALFORMED;
    PUBREL_REASON "pubrel-reason" "PUBREL has one of its own reason codes", "", "MQTT-3.6.2-1", PROTOCOL_ERROR;
    PUBCOMP_REASON "pubcomp-reason" "PUBCOMP has one of its own reason codes", "", "MQTT-3.7.2-1", PROTOCOL_ERROR;
    // SUBSCRIBE and UNSUBSCRIBE.
    SUBSCRIBE_FLAGS "subscribe-flags" "the flags of SUBSCRIBE are 0010", "MQTT-3.8.1-1", "MQTT-3.8.1-1", MALFORMED;
    SUBSCRIBE_EMPTY "subscribe-empty" "SUBSCRIBE has at least one topic filter", "MQTT-3.8.3-3", "MQTT-3.8.3-2", PROTOCOL_ERROR;
    SUBSCRIBE_OPTIONS "subscribe-options" "the reserved bits of a topic filter's options are 0", "MQTT-3-8.3-4", "MQTT-3.8.3-5", MALFORMED;
    SUBSCRIBE_QOS "subscribe-qos" "the QoS asked for is 0, 1 or 2", "MQTT-3-8.3-4", "section 3.8.3.1", PROTOCOL_ERROR;
    RETAIN_HANDLING "retain-handling" "Retain Handling is 0, 1 or 2", "", "section 3.8.3.1", PROTOCOL_ERROR;
    NO_LOCAL_SHARED "no-local-shared" "a shared subscription does not ask for No Local", "", "MQTT-3.8.3-4", PROTOCOL_ERROR;
    IDENTIFIER_ZERO "identifier-zero" "a Subscription Identifier is not 0", "", "section 3.8.2.1.2", PROTOCOL_ERROR;
    UNSUBSCRIBE_FLAGS "unsubscribe-flags" "the flags of UNSUBSCRIBE are 0010", "MQTT-3.10.1-1", "MQTT-3.10.1-1", MALFORMED;
    UNSUBSCRIBE_EMPTY "unsubscribe-empty" "UNSUBSCRIBE has at least one topic filter", "MQTT-3.10.3-2", "MQTT-3.10.3-2", PROTOCOL_ERROR;
    FILTER_EMPTY "filter-empty" "a topic filter has at least one character", "MQTT-4.7.3-1", "MQTT-4.7.3-1", TOPIC_FILTER_INVALID;
    FILTER_HASH "filter-hash" "# is alone in the last level of a topic filter", "MQTT-4.7.1-2", "MQTT-4.7.1-1", TOPIC_FILTER_INVALID;
    FILTER_PLUS "filter-plus" "+ is alone in its level of a topic filter", "MQTT-4.7.1-3", "MQTT-4.7.1-2", TOPIC_FILTER_INVALID;
    SHARE_NAME "share-name" "the name of a shared subscription has at least one character", "", "MQTT-4.8.2-1", TOPIC_FILTER_INVALID;
    SHARE_FORM "share-form" "the name of a shared subscription has no wildcards, and a / and a topic filter follow it", "", "MQTT-4.8.2-2", TOPIC_FILTER_INVALID;
    // DISCONNECT and AUTH.
    DISCONNECT_REASON "disconnect-reason" "DISCONNECT has one of the reason codes of a client", "", "MQTT-3.14.2-1", PROTOCOL_ERROR;
    SESSION_EXPIRY_RAISED "session-expiry-raised" "a session without expiry in CONNECT gets none in DISCONNECT", "", "section 3.14.2.2.2", PROTOCOL_ERROR;
    AUTH_REASON "auth-reason" "AUTH has one of the reason codes of a client", "", "MQTT-3.15.2-1", PROTOCOL_ERROR;
    AUTH_METHOD "auth-method" "AUTH names its Authentication Method", "", "section 3.15.2.2.2", PROTOCOL_ERROR;
    AUTH_UNASKED "auth-unasked" "there is no AUTH when CONNECT had no Authentication Method", "", "MQTT-4.12.0-7", PROTOCOL_ERROR;
    // Properties.
    PROPERTY_LENGTH "property-length" "the properties end within their packet", "", "section 2.2.2.1", MALFORMED;
    PROPERTY_UNKNOWN "property-unknown" "a property is one of table 2-4", "", "section 2.2.2.2", MALFORMED;
    PROPERTY_PLACE "property-place" "a property belongs to this kind of packet", "", "section 2.2.2.2", MALFORMED;
    PROPERTY_VALUE "property-value" "a property's value ends within the properties", "", "section 2.2.2.2", MALFORMED;
    PROPERTY_TWICE "property-twice" "a property other than User Property comes once", "", "section 2.2.2.2", PROTOCOL_ERROR;
    // What was read cannot be written.
    FIELD_SIZE "field-size" "a string or binary field has at most 65,535 bytes", "section 1.5.3", "section 1.5.4", MALFORMED;
    WHOLE_SIZE "whole-size" "a packet has at most 268,435,455 bytes after its fixed header", "section 2.2.3", "section 1.5.5", PACKET_TOO_LARGE;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_every_rule_has_a_source() {
        let mut ids: Vec<_> = ALL.iter().map(|r| r.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ALL.len());
        for rule in ALL {
            assert!(!rule.v3.is_empty() || !rule.v5.is_empty(), "{rule:?}");
            assert!(rule.reason >= 0x80, "{rule:?}");
            assert!(rule.id.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{rule:?}");
        }
    }

    #[test]
    fn a_violation_names_rule_packet_number_and_value() {
        let v = QOS.found(3_u8).in_packet(Level::V3, PacketType::Publish);
        assert_eq!(
            v.to_string(),
            "Publish breaks qos [MQTT-3.3.1-4 of MQTT 3.1.1]: QoS is 0, 1 or 2; here it is 3"
        );
        let v = ALIAS_MAXIMUM
            .above(9_u16, 5_u16)
            .in_packet(Level::V5, PacketType::Publish);
        assert!(v.to_string().ends_with("here it is 9 and the bound is 5"), "{v}");
        assert_eq!(v.reason(), 0x94);
    }
}
