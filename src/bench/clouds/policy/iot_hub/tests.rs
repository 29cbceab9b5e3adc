//! The table rule → verdict, and what has to be let through.

use rustls_pki_types::CertificateDer;

use super::super::testing::{check, connect, peer};
use super::*;
use crate::bench::clouds::authority::Ca;
use crate::bench::clouds::backend::{Backend, Now};
use crate::bench::clouds::iot_hub::{Core, Credential};
use crate::clock::Clock;
use crate::tls::certificates;

const HOST: &str = "onyx-hub.azure-devices.net";
const USER: &str = "onyx-hub.azure-devices.net/dev/?api-version=2021-04-12";

fn session() -> Session {
    IotHub::new(HOST.into())
        .connect(&peer("dev"), &connect("dev", Some(USER)))
        .unwrap()
}

fn publish(topic: &str, qos: u8, payload: usize) -> Result<(), Refusal> {
    IotHub::new(HOST.into()).publish(&session(), Publication { topic, qos, payload })
}

fn subscribe(filter: &str, qos: u8, held: usize) -> Result<u8, Refusal> {
    IotHub::new(HOST.into()).subscribe(&session(), filter, qos, held)
}

fn at_the_door() -> Vec<(&'static str, Look, Result<(), Refusal>)> {
    let p = IotHub::new(HOST.into());
    let refused = Look::ConnAck(connack::NOT_AUTHORIZED);
    let join = |c: &Connect| p.connect(&peer("dev"), c).map(|_| ());
    let mut rows = Vec::new();
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
        properties: bytes::Bytes::new(),
    });
    rows.push(("iot-hub/will", refused, join(&will)));
    rows
}

/// The registry's rules, with certificates of two authorities of which the hub knows one.
fn at_the_registry() -> Vec<(&'static str, Look, Result<(), Refusal>)> {
    let clock = Clock::new();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [ours, theirs] = dirs.each_ref().map(|d| Ca::open(d.path(), clock.clone()).unwrap());
    let der = |pem: &str| certificates(pem.as_bytes(), "test").unwrap();
    let chain = |ca: &Ca, name: &str| -> Vec<CertificateDer<'static>> { der(&ca.device(name).unwrap().chain_pem) };
    let now = Now {
        monotonic: clock.monotonic(),
        wall: clock.system(),
    };
    let refused = Look::ConnAck(connack::NOT_AUTHORIZED);
    let admit = |core: &Core, id: &str, cn: &str, chain: &[CertificateDer<'static>]| {
        let mut peer = peer(cn);
        peer.chain = chain.to_vec();
        let session = Session {
            api_version: None,
            client_id: id.into(),
            owner: id.into(),
            cn: cn.into(),
        };
        core.admit(&peer, &session, now)
    };
    let open = Core::new(der(&ours.root_pem()), true);
    let (dev, stranger) = (chain(&ours, "dev"), chain(&theirs, "dev"));
    assert_eq!(admit(&open, "dev", "dev", &dev), Ok(()));
    let mut rows = vec![
        ("iot-hub/client-id", refused, admit(&open, "other", "dev", &dev)),
        ("iot-hub/authority", refused, admit(&open, "dev2", "dev2", &stranger)),
        ("iot-hub/authority", refused, admit(&open, "dev", "dev", &stranger)),
        ("iot-hub/authority", refused, admit(&open, "dev3", "dev3", &[])),
    ];
    let closed = Core::new(der(&ours.root_pem()), false);
    rows.push(("iot-hub/unknown-device", refused, admit(&closed, "dev", "dev", &dev)));
    closed.register("dev", Credential::Authority, now).unwrap();
    assert_eq!(admit(&closed, "dev", "dev", &dev), Ok(()));
    closed
        .set_status("dev", crate::bench::clouds::iot_hub::Status::Disabled)
        .unwrap();
    rows.push(("iot-hub/disabled", refused, admit(&closed, "dev", "dev", &dev)));
    // By thumbprint, who signed and the common name do not matter.
    closed
        .register("other", Credential::certificate(&stranger[0]), now)
        .unwrap();
    assert_eq!(admit(&closed, "other", "dev", &stranger), Ok(()));
    rows.push(("iot-hub/thumbprint", refused, admit(&closed, "other", "dev", &dev)));
    rows
}

#[test]
fn every_rule_is_kept() {
    let mut rows = at_the_door();
    rows.extend(at_the_registry());
    for bad in [
        "exampletopics/a",
        "devices/other/messages/events/",
        "devices/dev/messages/devicebound/",
        "devices/dev/messages/events/a=1/b",
        "devices/dev/messages/events/=1",
        "devices/dev/messages/events/a=1&&b=2",
        "devices/dev/messages/events/a=%zz",
        "devices/dev/messages/eventsx",
    ] {
        rows.push(("iot-hub/topic", Look::Close, publish(bad, 0, 1)));
    }
    let events = "devices/dev/messages/events/";
    let with_bag = "devices/dev/messages/events/a=bc";
    rows.push(("iot-hub/qos-2", Look::Close, publish(events, 2, 1)));
    rows.push(("iot-hub/message-size", Look::Close, publish(events, 0, MESSAGE_MAX + 1)));
    rows.push((
        "iot-hub/message-size",
        Look::Close,
        publish(with_bag, 0, MESSAGE_MAX - 2),
    ));
    let report = "$iothub/twin/PATCH/properties/reported/?$rid=1";
    rows.push(("iot-hub/message-size", Look::Close, publish(report, 0, MESSAGE_MAX + 1)));
    let other = "devices/other/messages/devicebound/#";
    rows.push(("iot-hub/filter", Look::Close, subscribe(other, 0, 0).map(|_| ())));
    rows.push(("iot-hub/filter", Look::Close, subscribe("$iothub/#", 0, 0).map(|_| ())));
    let fifth = subscribe(TWIN_RESPONSES, 0, 5).map(|_| ());
    rows.push(("iot-hub/subscriptions", Look::Close, fifth));
    for bad in [
        "$iothub/twin/GET/",
        "$iothub/twin/DELETE/?$rid=1",
        "$iothub/methods/res/x/?$rid=1",
    ] {
        rows.push(("iot-hub/request", Look::Close, publish(bad, 0, 0)));
    }
    let answer = "$iothub/methods/res/200/?$rid=1";
    rows.push(("iot-hub/method-size", Look::Close, publish(answer, 0, PAYLOAD_MAX + 1)));
    let csr = "$iothub/credentials/POST/issueCertificate/?$rid=1";
    rows.push(("iot-hub/not-simulated", Look::Close, publish(csr, 0, 0)));
    check(&IotHub::new(HOST.into()), rows);
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
        "devices/dev/messages/events",
        "devices/dev/messages/events/$.ct=application%2Fjson&$.ce=utf-8",
        "devices/dev/messages/events/%24.mid=id%201%2F2&%24.ct=application%2Fjson&a=%E6%97%A5&b%20key=v%26",
        "devices/dev/messages/events/flag&empty=",
        "$iothub/twin/GET/?$rid=1",
        "$iothub/twin/PATCH/properties/reported/?$rid=1",
    ] {
        assert_eq!(publish(topic, 1, MESSAGE_MAX - 64), Ok(()), "{topic}");
    }
    assert_eq!(publish("devices/dev/messages/events/", 1, MESSAGE_MAX), Ok(()));
    assert_eq!(publish("devices/dev/messages/events/a=bc", 1, MESSAGE_MAX - 3), Ok(()));
    assert_eq!(publish("$iothub/methods/res/200/?$rid=1", 0, PAYLOAD_MAX), Ok(()));
    assert_eq!(subscribe("devices/dev/messages/devicebound/#", 2, 4), Ok(1));
    assert_eq!(p.silence_allowed(0), SILENCE_MAX);
    assert_eq!(p.silence_allowed(1_740), SILENCE_MAX);
    assert_eq!(p.silence_allowed(100), Duration::from_secs(150));
}
