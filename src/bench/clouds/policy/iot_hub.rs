//! The rule book of Azure IoT Hub, as far as a device on MQTT 3.1.1 meets it.
//!
//! Where Microsoft's documentation is silent the hub closes, because "MQTT terminates the connection" on errors. Which CONNACK code the
//! hub gives for which mistake is not written down: 5 is used for all. A slash within a property bag has to be percent-encoded, as in
//! all of Microsoft's examples and clients. Who the device is, the hub's [registry](crate::bench::clouds::iot_hub::registry) decides;
//! its rules stand here.

use std::time::Duration;

use super::{Limits, Look, Peer, Policy, Publication, Refusal, Rule, Session};
use crate::bench::clouds::iot_hub::Bag;
use crate::bench::clouds::iot_hub::methods::PAYLOAD_MAX;
use crate::bench::clouds::iot_hub::request::Request;
use crate::mqtt::{Connect, connack};

const MQTT: &str = "IoT Hub documentation, mqtt-support";
const QUOTAS: &str = "IoT Hub documentation, quotas and throttling";

/// The name in the certificate.
pub(in crate::bench::clouds) const CLIENT_ID: Rule = Rule {
    id: "iot-hub/client-id",
    says: "the client id is the device id, and with a certificate from an authority that is the certificate's common name",
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
const REQUEST: Rule = Rule {
    id: "iot-hub/request",
    says: "a device publishes twin requests and method answers to the documented $iothub topics, with ?$rid=",
    source: "IoT Hub documentation, mqtt-support; that others close the connection is inferred",
};
const METHOD_SIZE: Rule = Rule {
    id: "iot-hub/method-size",
    says: "a method's answer has at most 128 KiB",
    source: "IoT Hub documentation, direct methods; that more closes the connection is inferred",
};
const NOT_SIMULATED: Rule = Rule {
    id: "iot-hub/not-simulated",
    says: "certificate requests are good for the real hub, but this stand-in cannot answer them",
    source: "the bench; IoT Hub documentation, certificate management (preview)",
};
/// Nobody of that name.
pub(in crate::bench::clouds) const UNKNOWN_DEVICE: Rule = Rule {
    id: "iot-hub/unknown-device",
    says: "a device is in the hub's identity registry",
    source: "IoT Hub documentation, identity registry; the CONNACK code is inferred",
};
/// A device that somebody switched off.
pub(in crate::bench::clouds) const DISABLED: Rule = Rule {
    id: "iot-hub/disabled",
    says: "a disabled device cannot connect",
    source: "IoT Hub documentation, identity registry; the CONNACK code is inferred",
};
/// Another certificate than the registered ones.
pub(in crate::bench::clouds) const THUMBPRINT: Rule = Rule {
    id: "iot-hub/thumbprint",
    says: "a device that was registered with thumbprints shows one of these certificates",
    source: "IoT Hub documentation, X.509 authentication; the CONNACK code is inferred",
};
/// A certificate that nobody known signed.
pub(in crate::bench::clouds) const AUTHORITY: Rule = Rule {
    id: "iot-hub/authority",
    says: "a device's certificate leads to a registered authority",
    source: "IoT Hub documentation, X.509 CA certificates; that the hub says so after the handshake, by CONNACK, is inferred",
};

pub(super) static RULES: [&Rule; 16] = [
    &CLIENT_ID,
    &USER_NAME,
    &PASSWORD,
    &WILL,
    &TOPIC,
    &QOS_2,
    &SIZE,
    &FILTER,
    &SUBSCRIPTIONS,
    &REQUEST,
    &METHOD_SIZE,
    &NOT_SIMULATED,
    &UNKNOWN_DEVICE,
    &DISABLED,
    &THUMBPRINT,
    &AUTHORITY,
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
/// Where twin responses come (exact strings of [`MQTT`], here and below).
pub(in crate::bench::clouds) const TWIN_RESPONSES: &str = "$iothub/twin/res/#";
/// Where changes of desired properties come.
pub(in crate::bench::clouds) const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
/// Where method calls come.
pub(in crate::bench::clouds) const METHODS: &str = "$iothub/methods/POST/#";
/// Filters besides devicebound.
const FILTERS: [&str; 3] = [TWIN_RESPONSES, DESIRED, METHODS];
/// What the real hub has in preview.
const CERTIFICATE_REQUEST: &str = "$iothub/credentials/POST/issueCertificate/?$rid=";

/// A hub's door.
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

/// The property bag of a device's telemetry topic; `None` if it is no such topic.
pub(in crate::bench::clouds) fn telemetry_bag<'a>(topic: &'a str, device: &str) -> Option<&'a str> {
    let bag = topic
        .strip_prefix("devices/")?
        .strip_prefix(device)?
        .strip_prefix("/messages/events")?;
    if bag.is_empty() {
        Some(bag)
    } else {
        bag.strip_prefix('/')
    }
}

fn read_bag(topic: &str, device: &str) -> Result<Bag, String> {
    let expected = format!("expected \"devices/{device}/messages/events/\"");
    let bag = telemetry_bag(topic, device).ok_or_else(|| format!("the topic is {topic:?}, {expected}"))?;
    Bag::parse(bag).map_err(|e| format!("the property bag {bag:?} has {e}, {expected} and key=value joined by &"))
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
        let refused = Look::ConnAck(connack::NOT_AUTHORIZED);
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
            read_bag(&will.topic, &connect.client_id).map_err(|e| Refusal::new(&WILL, refused, e))?;
        }
        Ok(Session {
            api_version: None,
            client_id: connect.client_id.clone(),
            // Whom the hub takes the device for; whether its certificate says the same is the registry's question.
            owner: connect.client_id.clone(),
            cn: peer.cn.clone().unwrap_or_default(),
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
        if p.topic.starts_with(CERTIFICATE_REQUEST) {
            let detail = format!("{:?}", p.topic);
            return Err(Refusal::new(&NOT_SIMULATED, Look::Close, detail));
        }
        match Request::parse(p.topic) {
            Some(Ok(Request::MethodAnswer { .. })) if p.payload > PAYLOAD_MAX => {
                let detail = format!("{} bytes, expected {PAYLOAD_MAX} at most", p.payload);
                return Err(Refusal::new(&METHOD_SIZE, Look::Close, detail));
            }
            Some(Ok(_)) if p.payload > MESSAGE_MAX => {
                let detail = format!("{} bytes, expected {MESSAGE_MAX} at most", p.payload);
                return Err(Refusal::new(&SIZE, Look::Close, detail));
            }
            Some(Ok(_)) => return Ok(()),
            Some(Err(e)) => {
                let detail = format!("the topic is {:?}: {e}", p.topic);
                return Err(Refusal::new(&REQUEST, Look::Close, detail));
            }
            None => {}
        }
        let bag = read_bag(p.topic, &session.client_id).map_err(|e| Refusal::new(&TOPIC, Look::Close, e))?;
        let size = p.payload + bag.size();
        if size > MESSAGE_MAX {
            let detail = format!("{size} bytes with properties, expected {MESSAGE_MAX} at most");
            return Err(Refusal::new(&SIZE, Look::Close, detail));
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
mod tests;
