//! AWS IoT Core over MQTT 3.1.1 with X.509. Sources: AWS IoT Core developer guide, "Device communication protocols"; AWS General
//! Reference, "AWS IoT Core endpoints and quotas".
//!
//! The user name is ignored with a certificate, so none is sent. SNI is required (rustls always sends it for a host name). On port 443
//! the application protocol `x-amzn-mqtt-ca` selects MQTT with a client certificate. QoS 2 gets no answer at all.

use super::{Limits, Names, Topic, TopicError};
use crate::identity::ClientId;

/// Keep-alive 30 to 1,200 s (others are changed to these); message at most 128 KiB; 100 unacknowledged publishes; topic at most 256
/// bytes and 7 slashes, not counting the first three of `$aws/rules/<rule>/`.
/// 100 publishes a second for a connection, and what is over it is discarded without an answer.
pub const LIMITS: Limits = Limits {
    keep_alive_min: 30,
    keep_alive_max: 1_200,
    payload_max: 128 * 1024,
    in_flight: 32,
    rate: 60,
    topic_max: 256,
    topic_levels: 8,
};

/// The port that MQTT shares with HTTPS, told apart by [`ALPN_443`].
pub const PORT_ALPN: u16 = 443;
/// ALPN for MQTT with a client certificate on port 443.
pub const ALPN_443: &str = "x-amzn-mqtt-ca";

/// The application protocols to offer: on [`PORT_ALPN`] AWS IoT Core wants to be told that MQTT is meant.
#[must_use]
pub fn alpn(port: u16) -> &'static [&'static str] {
    if port == PORT_ALPN { &[ALPN_443] } else { &[] }
}

/// Basic Ingest: the first three levels of `$aws/rules/<rule>/…` are not counted.
const RULES_PREFIX: &str = "$aws/rules/";

/// CONNECT's names for a thing.
///
/// # Errors
/// [`TopicError`]; reserved topics other than Basic Ingest are refused here, before AWS closes the connection.
pub fn names(client_id: ClientId, topic: String) -> Result<Names, TopicError> {
    let limits = if topic.starts_with(RULES_PREFIX) {
        Limits {
            topic_levels: LIMITS.topic_levels + 3,
            ..LIMITS
        }
    } else if topic.starts_with('$') {
        return Err(TopicError::Rule(format!(
            "the topic {topic:?} is reserved by AWS IoT Core; publish to one of your own, or to {RULES_PREFIX}<rule>/…"
        )));
    } else {
        LIMITS
    };
    Ok(Names {
        client_id,
        username: None,
        topic: Topic::new(topic, limits)?,
    })
}
