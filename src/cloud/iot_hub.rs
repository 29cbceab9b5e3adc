//! Azure IoT Hub over MQTT 3.1.1. Source: Microsoft Learn, "Communicate with an IoT hub using the MQTT protocol"; quotas page.
//!
//! Client id and device id are the same; the user name carries the hub, the device and the API version; telemetry has one fixed topic
//! with a property bag behind it. One connection per device id, QoS 2 closes the connection.

use super::{Limits, Names, Topic, TopicError};
use crate::identity::ClientId;

/// Keep-alive: the hub waits 1.5 times the value and caps that at 1,767 s, so 1,177 s is the longest that is honoured. A
/// device-to-cloud message has at most 256 KiB, properties included.
/// Device-to-cloud sends: 100 a second for a whole S1 hub.
pub const LIMITS: Limits = Limits {
    keep_alive_min: 1,
    keep_alive_max: 1_177,
    payload_max: 255 * 1024,
    in_flight: 16,
    rate: 50,
    topic_max: 16 * 1024,
    topic_levels: 64,
};

/// The API version of SORACOM's Krypton article and of Microsoft's documentation.
pub const API_VERSION: &str = "2021-04-12";

/// Content type and encoding as system properties, so that message routing can look into the body: `application/json`, `utf-8`,
/// percent-encoded as the property bag demands.
const JSON_PROPERTIES: &str = "$.ct=application%2Fjson&$.ce=utf-8";

/// CONNECT's names for a device of a hub.
///
/// # Errors
/// [`TopicError`]; the device id comes from a service, so it is checked like everything else.
pub fn names(host: &str, device_id: ClientId) -> Result<Names, TopicError> {
    Ok(Names {
        username: Some(format!("{host}/{device_id}/?api-version={API_VERSION}")),
        topic: Topic::new(format!("devices/{device_id}/messages/events/{JSON_PROPERTIES}"), LIMITS)?,
        client_id: device_id,
    })
}
