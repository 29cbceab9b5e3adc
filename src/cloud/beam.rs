//! A gateway that adds the credentials: SORACOM Beam's MQTT entry point, or `onyx-gateway`. Source: SORACOM Beam documentation, "MQTT
//! entry point" and "limitations".
//!
//! Plain MQTT 3.1.1; no user name is needed, because the gateway knows the SIM by the line. Keep-alive must be 0 or 5 to 1,200 s, or
//! the answer is CONNACK 5; Beam cuts an idle client after 1.5 times the keep-alive. The topic must suit the cloud behind it.

use super::{Limits, Names, Topic, TopicError};
use crate::identity::ClientId;

/// SORACOM Beam's host.
pub const HOST: &str = "beam.soracom.io";
/// SORACOM Beam's MQTT port.
pub const PORT: u16 = 1883;

/// Keep-alive by Beam's rule, capped at what every cloud behind it honours (Event Grid's 1,160 s); payload and topic by the strictest
/// cloud behind it (AWS: 128 KiB, 256 bytes, 8 levels).
/// The rate suits every cloud behind it.
pub const LIMITS: Limits = Limits {
    keep_alive_min: 5,
    keep_alive_max: 1_160,
    payload_max: 128 * 1024,
    in_flight: 16,
    rate: 50,
    topic_max: 256,
    topic_levels: 8,
};

/// CONNECT's names through a gateway. `username` is for gateways that want a login.
///
/// # Errors
/// [`TopicError`].
pub fn names(client_id: ClientId, username: Option<String>, topic: String) -> Result<Names, TopicError> {
    Ok(Names {
        client_id,
        username,
        topic: Topic::new(topic, LIMITS)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::{aws_iot, event_grid, iot_hub};
    use crate::identity::AuthName;

    fn id(text: &str) -> ClientId {
        ClientId::new(text.into()).unwrap()
    }

    #[test]
    fn names_are_those_of_the_guides() {
        let auth = AuthName::new("myClient-295012345678901".into()).unwrap();
        let client = id("myClient-295012345678901-123456789011111");
        let n = event_grid::names(&auth, client.clone(), "exampletopics/topic1".into()).unwrap();
        assert_eq!(n.username.as_deref(), Some("myClient-295012345678901"));
        let n = iot_hub::names("hub.azure-devices.net", id("myDevice-1")).unwrap();
        assert_eq!(
            n.username.as_deref(),
            Some("hub.azure-devices.net/myDevice-1/?api-version=2021-04-12")
        );
        assert!(n.topic.as_str().starts_with("devices/myDevice-1/messages/events/"));
        assert_eq!(aws_iot::names(client, "a/b".into()).unwrap().username, None);
    }

    #[test]
    fn topics_that_a_cloud_would_punish_are_refused() {
        let auth = AuthName::new("a".into()).unwrap();
        for (topic, why) in [
            ("", "empty"),
            ("a/+/b", "subscribing"),
            ("a/b/c/d/e/f/g/h/i", "9 levels"),
            (&"x".repeat(257), "257 bytes"),
        ] {
            let e = event_grid::names(&auth, id("a"), topic.into()).unwrap_err().to_string();
            assert!(e.contains(why), "{e}");
        }
        assert!(
            aws_iot::names(id("a"), "$aws/things/x/shadow/update".into())
                .unwrap_err()
                .to_string()
                .contains("reserved")
        );
        assert!(aws_iot::names(id("a"), "$aws/rules/r/1/2/3/4/5/6/7/8".into()).is_ok());
        assert!(names(id("a"), None, "a/b/c/d/e/f/g/h".into()).is_ok());
    }
}
