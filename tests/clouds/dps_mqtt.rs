//! The device provisioning service over MQTT: what a client sees on the wire, and mosquitto's clients where they can do it.

use std::sync::Arc;

use bytes::BytesMut;
use onyx::bench::clouds::{Cloud, What};
use onyx::clock::Clock;
use onyx::mqtt::Connect;
use onyx::tls::{Client, Identity, Versions, roots};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, Publish, Subscribe, SubscribeReasonCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tools::{Bench, LIMIT, output, spawn};

const SCOPE: &str = "0ne00111111";
const ANSWERS: &str = "$dps/registrations/res/#";

fn user(id: &str) -> String {
    format!("{SCOPE}/registrations/{id}/api-version=2019-03-31&ClientVersion=test%2F1")
}

/// A connection that shows every byte.
struct Device {
    stream: TlsStream<TcpStream>,
    read: BytesMut,
}

impl Device {
    async fn connect(b: &Bench, name: &str, id: &str, clean: bool) -> Self {
        let issued = b.clouds.issue_device(name).unwrap();
        let identity = Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), name).unwrap();
        let client = Client {
            identity: Some(&identity),
            roots: roots(b.clouds.ca_pem().as_bytes(), "ca").unwrap(),
            versions: Versions::Only12,
            alpn: &[],
        };
        let connector = TlsConnector::from(Arc::clone(&client.build(&Clock::new()).unwrap()));
        let tcp = TcpStream::connect(b.clouds.address(Cloud::Dps).unwrap()).await.unwrap();
        let stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        let mut device = Self {
            stream,
            read: BytesMut::new(),
        };
        let mut connect = Connect::new(id, clean, 60);
        connect.username = Some(user(id));
        device.stream.write_all(&connect.encode().unwrap()).await.unwrap();
        device
    }

    async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next packet, or `None` at the end.
    async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Ok(packet) = Packet::read(&mut self.read, usize::MAX) {
                return Some(packet);
            }
            let read = tokio::time::timeout(LIMIT, self.stream.read_buf(&mut self.read));
            if read.await.expect("no packet in time").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Connected and subscribed; answers whether there was a session and the quality of service granted.
    async fn ready(&mut self, qos: QoS) -> (bool, SubscribeReasonCode) {
        let Some(Packet::ConnAck(connack)) = self.next().await else {
            panic!("no CONNACK")
        };
        let mut subscribe = Subscribe::new(ANSWERS, qos);
        subscribe.pkid = 1;
        self.send(Packet::Subscribe(subscribe)).await;
        let Some(Packet::SubAck(suback)) = self.next().await else {
            panic!("no SUBACK")
        };
        (connack.session_present, suback.return_codes[0])
    }

    /// A request and its answer: topic and body.
    async fn ask(&mut self, topic: &str, body: &str) -> (String, Value) {
        self.send(Packet::Publish(Publish::new(topic, QoS::AtMostOnce, body)))
            .await;
        match self.next().await {
            Some(Packet::Publish(p)) => (p.topic, serde_json::from_slice(&p.payload).unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

fn poll(rid: u32, operation: &Value) -> String {
    let operation = operation.as_str().unwrap();
    format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid={rid}&operationId={operation}")
}

#[tokio::test]
async fn registering_and_polling_have_the_documented_topics() {
    let b = Bench::start(|c| c.dps.assigning_polls = 1).await;
    let mut d = Device::connect(&b, "dev", "dev", true).await;
    d.ready(QoS::AtLeastOnce).await;
    let (topic, body) = d.ask("$dps/registrations/PUT/iotdps-register/?$rid=1", "").await;
    assert_eq!(topic, "$dps/registrations/res/202/?$rid=1&retry-after=3");
    assert_eq!(body["status"], "assigning");
    let (topic, again) = d.ask(&poll(2, &body["operationId"]), " ").await;
    assert_eq!(topic, "$dps/registrations/res/202/?$rid=2&retry-after=3");
    assert_eq!(again, body);
    let (topic, body) = d.ask(&poll(3, &body["operationId"]), "").await;
    assert_eq!(topic, "$dps/registrations/res/200/?$rid=3");
    assert_eq!(body["registrationState"]["assignedHub"], "onyx-hub.azure-devices.net");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_an_answer_and_the_connection_stays() {
    let mut b = Bench::start(|_| {}).await;
    let mut d = Device::connect(&b, "dev", "dev", true).await;
    d.ready(QoS::AtLeastOnce).await;
    let register = "$dps/registrations/PUT/iotdps-register/?$rid=";
    let other = json!({"registrationId": "other"}).to_string();
    let unknown = poll(7, &json!("5.x.y"));
    for (topic, body, answer, rule) in [
        (format!("{register}5"), other.as_str(), "400/?$rid=5", "dps/body"),
        (unknown, "", "404/?$rid=7", "dps/operation"),
    ] {
        let (topic, body) = d.ask(&topic, body).await;
        assert_eq!(topic, format!("$dps/registrations/res/{answer}"));
        assert!(
            body["trackingId"].is_string() && body["timestampUtc"].is_string(),
            "{body}"
        );
        assert!(b.refusal(rule).await.starts_with("status 4"));
    }
    for name in ["onyx-root", "onyx-intermediate"] {
        b.clouds
            .dps()
            .remove(onyx::bench::clouds::dps::directory::Kind::Group, name, None)
            .unwrap();
    }
    let (topic, body) = d.ask(&format!("{register}9"), "").await;
    assert_eq!(topic, "$dps/registrations/res/401/?$rid=9");
    assert_eq!(
        (&body["errorCode"], &body["message"]),
        (&json!(401_002), &json!("Invalid certificate."))
    );
    b.refusal("dps/enrollment").await;
}

#[tokio::test]
async fn sessions_do_not_persist_and_qos_2_is_granted_as_1() {
    let b = Bench::start(|_| {}).await;
    let mut first = Device::connect(&b, "dev", "dev", false).await;
    let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    assert_eq!(first.ready(QoS::ExactlyOnce).await, (false, granted));
    // Over a connection that is still there, and over one that has gone.
    let mut second = Device::connect(&b, "dev", "dev", false).await;
    assert_eq!(second.ready(QoS::AtLeastOnce).await, (false, granted));
    assert!(first.next().await.is_none(), "the first is displaced");
    second.send(Packet::Disconnect).await;
    assert!(second.next().await.is_none());
    let mut third = Device::connect(&b, "dev", "dev", false).await;
    assert_eq!(third.ready(QoS::AtLeastOnce).await, (false, granted));
}

#[tokio::test]
async fn mistakes_on_mqtt_are_refused_at_connect_or_close() {
    let mut b = Bench::start(|_| {}).await;
    let good = user("dev");
    let register = "$dps/registrations/PUT/iotdps-register/?$rid=1";
    let slash = format!("{SCOPE}/registrations/dev/?api-version=2019-03-31");
    let other = "0ne00999999/registrations/dev/api-version=2019-03-31".to_owned();
    let old = format!("{SCOPE}/registrations/dev/api-version=2000-01-01");
    for (id, user, topic, qos, rule, closes) in [
        ("dev2", user("dev2"), register, "0", "dps/common-name", false),
        ("dev", user("dev2"), register, "0", "dps/client-id", false),
        ("dev", slash, register, "0", "dps/user-name", false),
        ("dev", other, register, "0", "dps/id-scope", false),
        ("dev", old, register, "0", "dps/api-version", false),
        ("dev", good.clone(), "telemetry", "1", "dps/topic", true),
        (
            "dev",
            good.clone(),
            "$dps/registrations/PUT/iotdps-register/?rid=1",
            "1",
            "dps/topic",
            true,
        ),
        ("dev", good.clone(), register, "2", "dps/qos-2", true),
    ] {
        let mut c = b.mosquitto("mosquitto_pub", Cloud::Dps, "127.0.0.1", "dev");
        let out = output(c.args(["-i", id, "-u", &user, "-t", topic, "-q", qos, "-m", ""])).await;
        assert!(!out.status.success(), "{rule}");
        let look = b.refusal(rule).await;
        assert_eq!(look == "connection closed", closes, "{rule}: {look}");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(closes || said.contains("not authorised"), "{said}");
    }
    let mut c = b.mosquitto("mosquitto_pub", Cloud::Dps, "127.0.0.1", "dev");
    c.args(["-i", "dev", "-u", &good, "-t", register, "-m", "x", "-P", "secret"]);
    assert!(!output(&mut c).await.status.success());
    b.refusal("dps/password").await;
    let mut c = b.mosquitto("mosquitto_pub", Cloud::Dps, "127.0.0.1", "dev");
    c.args([
        "-i",
        "dev",
        "-u",
        &good,
        "-t",
        register,
        "-m",
        "x",
        "--will-topic",
        "bye",
        "--will-payload",
        "x",
    ]);
    assert!(!output(&mut c).await.status.success());
    b.refusal("dps/will").await;
    let mut c = b.mosquitto("mosquitto_sub", Cloud::Dps, "127.0.0.1", "dev");
    let child = spawn(c.args(["-i", "dev", "-u", &good, "-t", "$dps/#"]));
    assert_eq!(b.refusal("dps/filter").await, "connection closed");
    drop(child);
    // No certificate at all.
    let mut c = crate::tools::command("mosquitto_pub");
    c.args([
        "-h",
        "127.0.0.1",
        "-p",
        &b.port(Cloud::Dps),
        "--cafile",
        &b.path("ca.pem"),
    ]);
    c.args(["-i", "dev", "-u", &good, "-t", register, "-m", "x"]);
    assert!(!output(&mut c).await.status.success());
    b.refusal("dps/certificate").await;
    let connected = b.clouds.stand_ins().iter().filter(|s| s.name == Cloud::Dps).count();
    assert_eq!(connected, 2, "an MQTT door and an HTTPS door");
}

#[tokio::test]
async fn a_request_is_shown_and_is_no_message() {
    let mut b = Bench::start(|_| {}).await;
    let mut d = Device::connect(&b, "dev", "dev", true).await;
    d.ready(QoS::AtLeastOnce).await;
    d.ask("$dps/registrations/PUT/iotdps-register/?$rid=1", "{}").await;
    b.event(
        "request",
        |e| matches!(&e.what, What::Request { client_id, .. } if client_id == "dev"),
    )
    .await;
    assert!(b.clouds.messages().is_empty());
}
