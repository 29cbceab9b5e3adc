//! The rule book of Azure IoT Hub, as far as a device on MQTT 3.1.1 meets it.
//!
//! Where Microsoft's documentation is silent the hub closes, because "MQTT terminates the connection" on errors. Which CONNACK code the
//! hub gives for which mistake is not written down: 5 is used for all. A slash within a property bag has to be percent-encoded, as in
//! all of Microsoft's examples and clients. Twins, methods and cloud-to-device messages may be subscribed
//! to; requests on `$iothub/…` are refused under a rule of the bench, loudly, until the stand-in can answer them.

use std::time::Duration;

use super::{Limits, Look, Peer, Policy, Publication, Refusal, Rule, Session};
use crate::mqtt::{Connect, connack};

const MQTT: &str = "IoT Hub documentation, mqtt-support";
const QUOTAS: &str = "IoT Hub documentation, quotas and throttling";

const CLIENT_ID: Rule = Rule {
    id: "iot-hub/client-id",
    says: "the client id is the device id, and with X.509 that is the certificate's common name",
    source: MQTT,
};
const USER_NAME: Rule = Rule {
    id: "iot-hub/user-name",
    says: "the user name is {hub host}/{device id}/?api-version=…",
    source: MQTT,
};
const PASSWORD: Rule = Rule {
    id: "iot-hub/password",
    says: "with X.509 there is no password",
    source: MQTT,
};
const WILL: Rule = Rule {
    id: "iot-hub/will",
    says: "a will goes to the telemetry topic",
    source: MQTT,
};
const TOPIC: Rule = Rule {
    id: "iot-hub/topic",
    says: "a device publishes to devices/{device id}/messages/events/ with an optional property bag of key=value joined by &",
    source: "IoT Hub documentation, mqtt-support; that other topics close the connection is inferred",
};
const QOS_2: Rule = Rule {
    id: "iot-hub/qos-2",
    says: "a PUBLISH with QoS 2 closes the connection",
    source: MQTT,
};
const SIZE: Rule = Rule {
    id: "iot-hub/message-size",
    says: "a device-to-cloud message has at most 256 KiB",
    source: QUOTAS,
};
const FILTER: Rule = Rule {
    id: "iot-hub/filter",
    says: "a device subscribes to its devicebound messages, twin responses, desired properties or methods only",
    source: MQTT,
};
const SUBSCRIPTIONS: Rule = Rule {
    id: "iot-hub/subscriptions",
    says: "a connection has at most 5 subscriptions",
    source: MQTT,
};
const NOT_SIMULATED: Rule = Rule {
    id: "iot-hub/not-simulated",
    says: "twin requests and method answers are good for the real hub, but this stand-in cannot answer them yet",
    source: "the bench",
};

pub(super) static RULES: [&Rule; 10] = [
    &CLIENT_ID,
    &USER_NAME,
    &PASSWORD,
    &WILL,
    &TOPIC,
    &QOS_2,
    &SIZE,
    &FILTER,
    &SUBSCRIPTIONS,
    &NOT_SIMULATED,
];

/// Largest device-to-cloud message, in bytes ([`QUOTAS`]).
const MESSAGE_MAX: usize = 256 * 1024;
/// Room for fixed header, topic and property bag beside the message, in bytes (a topic has at most 65,535).
const HEADER_ROOM: usize = 64 * 1024 + 16;
/// Most subscriptions of a connection.
const SUBSCRIPTIONS_MAX: usize = 5;
/// The hub waits no longer than this for a sign of life.
const SILENCE_MAX: Duration = Duration::from_secs(1_767);
/// Cloud-to-device messages queued for one device ([`QUOTAS`]).
const QUEUE: usize = 50;
/// Not documented; the bench sends one window of Event Grid's size.
const IN_FLIGHT: usize = 16;
/// Not documented for sessions; a cloud-to-device message lives one hour by default.
const SESSION_EXPIRY: Duration = Duration::from_secs(3_600);
/// Filters besides devicebound (exact strings of [`MQTT`]).
const FILTERS: [&str; 3] = [
    "$iothub/twin/res/#",
    "$iothub/twin/PATCH/properties/desired/#",
    "$iothub/methods/POST/#",
];
/// What a device may publish besides telemetry.
const REQUESTS: [&str; 4] = [
    "$iothub/twin/GET/?$rid=",
    "$iothub/twin/PATCH/properties/reported/?$rid=",
    "$iothub/methods/res/",
    "$iothub/credentials/POST/issueCertificate/?$rid=",
];

/// A hub that knows every device with a certificate of its authority.
#[derive(Debug, Clone)]
pub struct IotHub {
    host: String,
}

impl IotHub {
    /// `host` is the hub's name, e.g. `onyx-hub.azure-devices.net`.
    #[must_use]
    pub fn new(host: String) -> Self {
        Self { host }
    }
}

/// Whether `topic` is the device's telemetry topic, with or without a property bag.
fn is_telemetry(topic: &str, device: &str) -> bool {
    let bag = topic
        .strip_prefix("devices/")
        .and_then(|rest| rest.strip_prefix(device))
        .and_then(|rest| rest.strip_prefix("/messages/events"));
    match bag {
        Some("" | "/") => true,
        // A key alone is a null value, as in the hub's own devicebound bags.
        Some(bag) => bag.strip_prefix('/').is_some_and(|properties| {
            !properties.contains('/')
                && properties
                    .split('&')
                    .all(|pair| !pair.is_empty() && !pair.starts_with('='))
        }),
        None => false,
    }
}

impl Policy for IotHub {
    fn rules(&self) -> &'static [&'static Rule] {
        &RULES
    }

    fn limits(&self) -> Limits {
        Limits {
            packet: MESSAGE_MAX + HEADER_ROOM,
            in_flight: IN_FLIGHT,
            queue: QUEUE,
            session_expiry: SESSION_EXPIRY,
            hash_covers_parent: true,
            foreign_take_over: false,
        }
    }

    fn connect(&self, peer: &Peer, connect: &Connect) -> Result<Session, Refusal> {
        let cn = peer.common_name()?;
        let refused = Look::ConnAck(connack::NOT_AUTHORIZED);
        if connect.client_id != cn {
            let detail = format!(
                "the client id is {:?}, the certificate's common name {:?}",
                connect.client_id, cn
            );
            return Err(Refusal::new(&CLIENT_ID, refused, detail));
        }
        let name = connect.username.as_deref().unwrap_or_default();
        let mut parts = name.splitn(3, '/');
        let good = parts.next().is_some_and(|h| h.eq_ignore_ascii_case(&self.host))
            && parts.next() == Some(connect.client_id.as_str())
            && parts
                .next()
                .and_then(|query| query.strip_prefix("?api-version="))
                .is_some_and(|version| !version.is_empty() && !version.starts_with('&'));
        if !good {
            let detail = format!(
                "the user name is {name:?}, expected \"{}/{}/?api-version=2021-04-12\"",
                self.host, connect.client_id
            );
            return Err(Refusal::new(&USER_NAME, refused, detail));
        }
        if connect.password.as_ref().is_some_and(|p| !p.is_empty()) {
            return Err(Refusal::new(&PASSWORD, refused, "a password was sent"));
        }
        if let Some(will) = &connect.will {
            if !is_telemetry(&will.topic, &connect.client_id) {
                let detail = format!("the will's topic is {:?}", will.topic);
                return Err(Refusal::new(&WILL, refused, detail));
            }
        }
        Ok(Session {
            client_id: connect.client_id.clone(),
            owner: cn.to_owned(),
            cn: cn.to_owned(),
        })
    }

    fn silence_allowed(&self, keep_alive: u16) -> Duration {
        match keep_alive {
            0 => SILENCE_MAX,
            seconds => super::one_and_a_half(seconds).min(SILENCE_MAX),
        }
    }

    fn publish(&self, session: &Session, p: Publication<'_>) -> Result<(), Refusal> {
        if p.qos > 1 {
            return Err(Refusal::new(&QOS_2, Look::Close, "a PUBLISH with QoS 2"));
        }
        if p.payload > MESSAGE_MAX {
            let detail = format!("{} bytes", p.payload);
            return Err(Refusal::new(&SIZE, Look::Close, detail));
        }
        if REQUESTS.iter().any(|r| p.topic.starts_with(r)) {
            let detail = format!("{:?}", p.topic);
            return Err(Refusal::new(&NOT_SIMULATED, Look::Close, detail));
        }
        if !is_telemetry(p.topic, &session.client_id) {
            let detail = format!(
                "the topic is {:?}, expected \"devices/{}/messages/events/\"",
                p.topic, session.client_id
            );
            return Err(Refusal::new(&TOPIC, Look::Close, detail));
        }
        Ok(())
    }

    fn subscribe(&self, session: &Session, filter: &str, qos: u8, held: usize) -> Result<u8, Refusal> {
        let devicebound = format!("devices/{}/messages/devicebound/#", session.client_id);
        if filter != devicebound && !FILTERS.contains(&filter) {
            let detail = format!("{filter:?}; a device may subscribe to {devicebound:?} and {FILTERS:?}");
            return Err(Refusal::new(&FILTER, Look::Close, detail));
        }
        if held >= SUBSCRIPTIONS_MAX {
            let detail = format!("{held} are there already");
            return Err(Refusal::new(&SUBSCRIPTIONS, Look::Close, detail));
        }
        Ok(qos.min(1)) // QoS 2 is granted as QoS 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, connect, peer};
    use super::*;

    const HOST: &str = "onyx-hub.azure-devices.net";
    const USER: &str = "onyx-hub.azure-devices.net/dev/?api-version=2021-04-12";

    fn publish(topic: &str, qos: u8, payload: usize) -> Result<(), Refusal> {
        let p = IotHub::new(HOST.into());
        let session = p.connect(&peer("dev"), &connect("dev", Some(USER))).unwrap();
        p.publish(&session, Publication { topic, qos, payload })
    }

    fn subscribe(filter: &str, qos: u8, held: usize) -> Result<u8, Refusal> {
        let p = IotHub::new(HOST.into());
        let session = p.connect(&peer("dev"), &connect("dev", Some(USER))).unwrap();
        p.subscribe(&session, filter, qos, held)
    }

    #[test]
    fn every_rule_is_kept() {
        let p = IotHub::new(HOST.into());
        let refused = Look::ConnAck(connack::NOT_AUTHORIZED);
        let join = |c: &Connect| p.connect(&peer("dev"), c).map(|_| ());
        let mut rows = vec![("iot-hub/client-id", refused, join(&connect("other", Some(USER))))];
        for bad in [
            None,
            Some("dev"),
            Some("onyx-hub.azure-devices.net/dev"),
            Some("onyx-hub.azure-devices.net/dev/"),
            Some("onyx-hub.azure-devices.net/dev/api-version=2021-04-12"),
            Some("onyx-hub.azure-devices.net/other/?api-version=2021-04-12"),
            Some("another.azure-devices.net/dev/?api-version=2021-04-12"),
            Some("onyx-hub.azure-devices.net/dev/?api-version="),
        ] {
            rows.push(("iot-hub/user-name", refused, join(&connect("dev", bad))));
        }
        let mut password = connect("dev", Some(USER));
        password.password = Some("SharedAccessSignature".into());
        rows.push(("iot-hub/password", refused, join(&password)));
        let mut will = connect("dev", Some(USER));
        will.will = Some(crate::mqtt::Will {
            topic: "bye".into(),
            payload: "x".into(),
            qos: 0,
            retain: false,
        });
        rows.push(("iot-hub/will", refused, join(&will)));
        for bad in [
            "exampletopics/a",
            "devices/other/messages/events/",
            "devices/dev/messages/devicebound/",
            "devices/dev/messages/events/a=1/b",
            "devices/dev/messages/events/=1",
            "devices/dev/messages/events/a=1&&b=2",
            "devices/dev/messages/eventsx",
        ] {
            rows.push(("iot-hub/topic", Look::Close, publish(bad, 0, 1)));
        }
        let events = "devices/dev/messages/events/";
        rows.push(("iot-hub/qos-2", Look::Close, publish(events, 2, 1)));
        rows.push(("iot-hub/message-size", Look::Close, publish(events, 0, MESSAGE_MAX + 1)));
        rows.push((
            "iot-hub/filter",
            Look::Close,
            subscribe("devices/other/messages/devicebound/#", 0, 0).map(|_| ()),
        ));
        rows.push((
            "iot-hub/subscriptions",
            Look::Close,
            subscribe("$iothub/twin/res/#", 0, 5).map(|_| ()),
        ));
        rows.push((
            "iot-hub/not-simulated",
            Look::Close,
            publish("$iothub/twin/GET/?$rid=1", 0, 0),
        ));
        check(&p, rows);
    }

    #[test]
    fn what_keeps_the_rules_is_taken() {
        let p = IotHub::new(HOST.into());
        for user in [
            USER,
            // Microsoft's Python client; its own device type follows.
            "onyx-hub.azure-devices.net/dev/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%28x%29",
            "ONYX-HUB.azure-devices.net/dev/?api-version=2020-09-30",
        ] {
            p.connect(&peer("dev"), &connect("dev", Some(user))).unwrap();
        }
        for topic in [
            "devices/dev/messages/events/",
            "devices/dev/messages/events/$.ct=application%2Fjson&$.ce=utf-8",
            "devices/dev/messages/events/%24.mid=id%201%2F2&%24.ct=application%2Fjson&a=%E6%97%A5&b%20key=v%26",
            "devices/dev/messages/events/flag&empty=",
        ] {
            assert_eq!(publish(topic, 1, MESSAGE_MAX), Ok(()), "{topic}");
        }
        assert_eq!(subscribe("devices/dev/messages/devicebound/#", 2, 4), Ok(1));
        assert_eq!(p.silence_allowed(0), SILENCE_MAX);
        assert_eq!(p.silence_allowed(1_740), SILENCE_MAX);
        assert_eq!(p.silence_allowed(100), Duration::from_secs(150));
    }
}
