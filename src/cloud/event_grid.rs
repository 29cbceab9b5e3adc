//! Azure Event Grid namespace, MQTT broker. Sources: Microsoft Learn, "MQTT broker" pages of Event Grid (support, clients, client
//! certificate authentication, quotas), and SORACOM's guide "Azure Event Grid with MQTT (X.509 CA certificates)".
//!
//! The client id is the session's name and must be unique in the namespace; the user name is the client authentication name and must
//! match the field of the certificate that the client's validation scheme names. QoS 2 is not supported.

use super::{Limits, Names, Topic, TopicError};
use crate::identity::{AuthName, ClientId};

/// Keep-alive at most 1,160 s; packet at most 512 KiB (the rest of the packet is left room for); topic at most 256 bytes and 8
/// segments (Event Grid quotas). In-flight: the broker itself stops at 16 towards a client; we keep to the same.
/// At most 100 messages a second from a session (older quota page; 1,000 on a newer one).
pub const LIMITS: Limits = Limits {
    keep_alive_min: 1,
    keep_alive_max: 1_160,
    payload_max: 512 * 1024 - 1024,
    in_flight: 16,
    rate: 80,
    topic_max: 256,
    topic_levels: 8,
};

/// The topic of SORACOM's guide.
pub const DEFAULT_TOPIC: &str = "exampletopics/topic1";

/// CONNECT's names for a client.
///
/// # Errors
/// [`TopicError`] when the namespace would refuse the topic.
pub fn names(auth_name: &AuthName, client_id: ClientId, topic: String) -> Result<Names, TopicError> {
    Ok(Names {
        client_id,
        username: Some(auth_name.as_str().to_owned()),
        topic: Topic::new(topic, LIMITS)?,
    })
}
