//! The device provisioning service before Microsoft's own clients, unmodified, at their fixed ports. Each test has addresses of its own.

use std::net::{IpAddr, Ipv4Addr};

use onyx::bench::clouds::dps::directory::Kind;
use onyx::bench::clouds::{Cloud, Protocol};
use serde_json::{Value, json};

use crate::judges;
use crate::tools::Bench;

const SCOPE: &str = "0ne00111111";
const HUB: &str = "onyx-hub.azure-devices.net";

/// A bench at the real ports of this address and the next ones, with a device.
async fn bench(last: u8) -> (Bench, [String; 2]) {
    let b = Bench::start(|c| {
        c.bind = IpAddr::V4(Ipv4Addr::new(127, 0, 82, last));
        c.standard_ports = true;
        c.hub_open = false;
        c.dps.retry_after = 1;
    })
    .await;
    b.clouds.write_device("device1").unwrap();
    let files = ["pem", "key"].map(|suffix| b.path(&format!("devices/device1.{suffix}")));
    (b, files)
}

/// Gives the bench's devices a custom allocation.
fn custom(b: &Bench, answer: &Value) {
    let body = json!({
        "attestation": {"type": "x509", "x509": {"caReferences": {"primary": "onyx-intermediate"}}},
        "allocationPolicy": "custom", "customAllocationDefinition": {"answer": answer},
    });
    b.clouds
        .dps()
        .put(Kind::Group, "onyx-intermediate", &body, None)
        .unwrap();
}

async fn python(b: &Bench, files: &[String; 2], name: &str, expected: &str) -> Vec<Value> {
    let mut judge = judges::python();
    judge.arg(judges::script("dps_mqtt.py"));
    let at = |cloud| b.clouds.door(cloud, Protocol::Mqtts).unwrap().ip().to_string();
    judge.args([&at(Cloud::Dps), &at(Cloud::IotHub), SCOPE, name]);
    judge.args(files).arg(b.path("ca.pem")).arg(expected);
    judges::run(&mut judge).await
}

#[tokio::test]
async fn microsofts_python_client_is_assigned_over_mqtt_and_sends_telemetry() {
    let (b, files) = bench(1).await;
    custom(&b, &json!({"iotHubHostName": HUB, "echoPayload": true}));
    let printed = python(&b, &files, "device1", "assigned").await;
    let state = json!({"status": "assigned", "hub": HUB, "device": "device1", "sub_status": "initialAssignment",
        "payload": {"model": "garden"}});
    assert_eq!(printed, [state, json!({"sent": 3})]);
    let want: Vec<String> = (0..3)
        .map(|n| json!({"number": n}).to_string().replace(':', ": "))
        .collect();
    assert_eq!(b.payloads(Cloud::IotHub), want);
}

#[tokio::test]
async fn microsofts_python_client_is_told_why_it_is_refused() {
    let (mut b, files) = bench(11).await;
    for name in ["onyx-root", "onyx-intermediate"] {
        b.clouds.dps().remove(Kind::Group, name, None).unwrap();
    }
    let printed = python(&b, &files, "device1", "refused").await;
    // The client passes on the status and keeps the error number to itself.
    let cause = printed[0]["cause"].as_str().unwrap();
    assert!(cause.ends_with("service error status code 401"), "{printed:?}");
    b.refusal("dps/enrollment").await;
    // Another name than the certificate's is refused at CONNECT.
    let printed = python(&b, &files, "device2", "refused").await;
    assert_eq!(printed[0]["error"], "CredentialError", "{printed:?}");
    b.refusal("dps/common-name").await;
}

async fn node(b: &Bench, files: &[String; 2]) -> Value {
    let mut judge = judges::node();
    judge.env("NODE_EXTRA_CA_CERTS", b.path("ca.pem"));
    let service = b.clouds.door(Cloud::Dps, Protocol::Https).unwrap();
    assert_eq!(service.port(), 443);
    judge.arg(judges::script("dps_https.js")).arg(service.ip().to_string());
    judge.args([SCOPE, "device1"]).args(files);
    judges::run(&mut judge).await.remove(0)
}

#[tokio::test]
async fn microsofts_node_client_is_assigned_over_https() {
    let (b, files) = bench(21).await;
    custom(&b, &json!({"iotHubHostName": HUB, "echoPayload": true}));
    let result = node(&b, &files).await;
    for (field, value) in [("status", "assigned"), ("assignedHub", HUB), ("deviceId", "device1")] {
        assert_eq!(result[field], value, "{result}");
    }
    assert_eq!(result["payload"], json!({"model": "garden"}), "{result}");
    assert_eq!(b.clouds.hub().unwrap().devices(), ["device1"]);
}

#[tokio::test]
async fn microsofts_node_client_is_told_why_it_is_refused() {
    let (b, files) = bench(31).await;
    for name in ["onyx-root", "onyx-intermediate"] {
        b.clouds.dps().remove(Kind::Group, name, None).unwrap();
    }
    let result = node(&b, &files).await;
    assert_eq!(result["error"], "UnauthorizedError", "{result}");
    assert!(b.clouds.hub().unwrap().devices().is_empty());
}
