//! awsiotsdk, unmodified, before the AWS IoT Core stand-in: under the endpoint's real name, with the SDK's own ports. It takes an HTTP
//! proxy as an option; [`tunnel`] is one that leads port 443 and port 8883 to the stand-in's doors.

use std::net::SocketAddr;

use onyx::bench::clouds::{Cloud, Hosts, Protocol};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::judges;
use crate::tools::{Bench, command, succeed};

/// Longest request head that the proxy reads, in bytes.
const HEAD_MAX: usize = 4_096;

/// An HTTP proxy that knows CONNECT to one host; answers its port.
async fn tunnel(b: &Bench) -> u16 {
    let door = |p| b.clouds.door(Cloud::AwsIot, p).unwrap();
    let (mqtts, shared) = (door(Protocol::Mqtts), door(Protocol::MqttsAlpn));
    let host = Hosts::default().aws_iot;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(relay(stream, format!("CONNECT {host}:"), mqtts, shared));
        }
    });
    port
}

async fn relay(mut client: TcpStream, expected: String, mqtts: SocketAddr, shared: SocketAddr) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(head.len() < HEAD_MAX, "a head without end");
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let rest = head
        .strip_prefix(&expected)
        .unwrap_or_else(|| panic!("not {expected}: {head}"));
    let door = match rest.split(' ').next() {
        Some("8883") => mqtts,
        Some("443") => shared,
        other => panic!("an unexpected port {other:?}"),
    };
    let mut server = TcpStream::connect(door).await.unwrap();
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await
        .unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

/// The judge for a task, as the device whose credentials are `device`.pem and .key of the directory.
async fn judge(b: &Bench, task: &str, device: &str, client_id: &str) -> Command {
    let port = tunnel(b).await.to_string();
    let mut c = judges::python();
    c.arg(judges::script("aws_iot.py")).arg(task);
    c.args([&Hosts::default().aws_iot, &port, &b.path("ca.pem")]);
    c.args([b.path(&format!("{device}.pem")), b.path(&format!("{device}.key"))]);
    c.arg(client_id);
    c
}

#[tokio::test]
async fn the_sdk_publishes_and_subscribes_at_8883_and_by_alpn_at_443() {
    let b = Bench::start(|c| {
        c.aws_topics = vec!["a/#".into()];
        c.devices = vec!["thing".into()];
    })
    .await;
    let found = judges::run(&mut judge(&b, "publish", "devices/thing", "thing-1").await).await;
    let line = |port: Value| json!({"port": port, "qos": 1, "topic": "a/b", "payload": "hello"});
    assert_eq!(found, [line(json!(8883)), line(Value::Null)]);
    assert_eq!(b.payloads(Cloud::AwsIot), ["hello", "hello"]);
}

#[tokio::test]
async fn the_sdk_in_mqtt_5_is_told_what_is_denied_and_stays() {
    let b = Bench::start(|c| {
        c.aws_topics = vec!["a/#".into()];
        c.devices = vec!["thing".into()];
    })
    .await;
    let found = judges::run(&mut judge(&b, "five", "devices/thing", "thing-1").await).await;
    assert_eq!(
        found,
        [
            json!({"receive_maximum": 100, "qos": 1, "retain": true}),
            // Granted at QoS 1, and not authorised.
            json!({"subscribe": [1, 0x87]}),
            json!({"publish": [0, 0x87]}),
            json!({"topic": "a/b", "content_type": "text/plain", "unit": "C"}),
        ]
    );
    assert_eq!(b.payloads(Cloud::AwsIot), ["hello"]);
}

#[tokio::test]
async fn the_sdk_s_shadow_client() {
    let b = Bench::start(|c| c.devices = vec!["thing".into()]).await;
    let found = judges::run(&mut judge(&b, "shadow", "devices/thing", "thing").await).await;
    assert_eq!(
        found,
        [
            json!({"missing": true, "code": 404, "message": "No shadow exists with name: 'thing'"}),
            json!({"version": 1, "delta": {"interval": 10}, "desired": {"interval": 10}}),
            json!({"reported": {"interval": 60}, "delta": {"interval": 10}, "version": 1}),
            json!({"code": 409, "message": "Version conflict"}),
            json!({"named": 1}),
            json!({"deleted": 1}),
        ]
    );
}

#[tokio::test]
async fn the_sdk_provisions_by_claim_and_comes_back_with_its_own_certificate() {
    let b = Bench::start(|c| {
        c.aws_topics = vec!["a/#".into()];
        c.aws_claims = vec!["claim".into()];
    })
    .await;
    let (csr, key) = (b.path("lamp.csr"), b.path("lamp.csr.key"));
    let mut openssl = command("openssl");
    openssl.args(["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=lamp-2"]);
    succeed(openssl.args(["-keyout", &key, "-out", &csr])).await;
    let mut c = judge(&b, "fleet", "devices/claim", "first-boot").await;
    let found = judges::run(c.args([&csr, &key]).arg(b.dir.path())).await;
    assert_eq!(
        found,
        [
            json!({"status": 400, "code": "InvalidCertificateOwnershipToken"}),
            json!({"thing": "lamp-1"}),
            json!({"thing": "lamp-2"}),
        ]
    );
    assert_eq!(b.payloads(Cloud::AwsIot), ["lamp-1", "lamp-2"]);
}

#[tokio::test]
async fn the_sdk_is_registered_just_in_time_and_let_in_the_second_time() {
    let b = crate::aws_iot_account::with_own_authority(|c| c.aws_topics = vec!["a/#".into()]).await;
    let found = judges::run(&mut judge(&b, "retry", "fleet-lamp", "lamp").await).await;
    assert_eq!(found[0]["first"], false, "{found:?}");
    assert_eq!(found[1], json!({"second": true}));
    assert_eq!(b.payloads(Cloud::AwsIot), ["registered"]);
}
