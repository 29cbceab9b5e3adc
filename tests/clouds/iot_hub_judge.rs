//! Microsoft's own Python client, unmodified, as a device of the IoT Hub stand-in. Its port is fixed, so each test has a loopback address
//! of its own; the service side is asked with curl.

use std::process::Stdio;

use onyx::bench::clouds::{Cloud, What};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::hub_service::Service;
use crate::judges::{PATIENCE, python, script};
use crate::tools::Bench;

/// A client that does what it is told.
struct Device {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    heard: Vec<Value>,
}

impl Device {
    fn start(b: &Bench, name: &str) -> Self {
        b.clouds.write_device(name).unwrap();
        let gateway = b.clouds.address(Cloud::IotHub).unwrap().ip().to_string();
        let mut c = python();
        c.arg(script("iot_hub.py"));
        c.args([&gateway, b.clouds.hub().unwrap().host(), name, &b.path("ca.pem")]);
        c.args([
            &b.path(&format!("devices/{name}.pem")),
            &b.path(&format!("devices/{name}.key")),
        ]);
        let mut child = c.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()).lines(),
            _child: child,
            heard: Vec::new(),
        }
    }

    async fn tell(&mut self, what: &Value) {
        self.input.write_all(format!("{what}\n").as_bytes()).await.unwrap();
    }

    /// The next thing it says that satisfies `wanted`; what came before is kept for others who ask.
    async fn hear(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.heard.iter().position(&wanted) {
            return self.heard.remove(at);
        }
        let wait = async {
            loop {
                let line = self.output.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("the judge ended without {what}; it said {:?}", self.heard));
                let said: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                if wanted(&said) {
                    return said;
                }
                self.heard.push(said);
            }
        };
        let heard = tokio::time::timeout(PATIENCE, wait).await;
        heard.unwrap_or_else(|_| panic!("the judge never said {what}"))
    }

    async fn event(&mut self, event: &str) -> Value {
        self.hear(event, |said| said["event"] == event).await
    }

    /// Has it do something that has to succeed.
    async fn does(&mut self, mut what: Value, with: Value) {
        let name = what.clone();
        what = json!({"do": what});
        what.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        self.tell(&what).await;
        let end = |said: &Value| said["do"] == name;
        let said = self.hear("the end of what it was told", end).await;
        assert_eq!(said["event"], "done", "{what}: {said}");
    }
}

async fn bench(address: &str) -> Bench {
    let bind = address.parse().unwrap();
    Bench::start(|c| {
        c.bind = bind;
        c.standard_ports = true;
    })
    .await
}

#[tokio::test]
async fn telemetry_messages_twins_and_methods_work_with_the_genuine_client() {
    let mut b = bench("127.0.81.1").await;
    let service = Service::of(&b.clouds).await;
    let mut d = Device::start(&b, "dev:1");
    d.does("connect".into(), json!({})).await;
    d.does(
        "send".into(),
        json!({"data": r#"{"t": 1}"#, "custom": {"a": "日本", "b key": "v&=+/"}}),
    )
    .await;
    let messages = b.clouds.messages();
    assert_eq!(
        messages[0].properties,
        Some(json!({
            "system": {"message_id": "id 1/2", "content_type": "application/json", "content_encoding": "utf-8"},
            "application": {"a": "日本", "b key": "v&=+/"},
        }))
    );
    assert_eq!((messages[0].qos, messages[0].client_id.as_str()), (1, "dev:1"));

    // Not listening yet: no methods.
    let methods = "/twins/dev:1/methods";
    let echo = r#"{"methodName": "echo", "payload": {"x": [1, null]}, "responseTimeoutInSeconds": 30}"#;
    assert_eq!(service.ask("POST", methods, Some(echo), &[]).await.0, 404);
    d.does("listen".into(), json!({})).await;
    assert_eq!(
        service.good("POST", methods, Some(echo)).await,
        json!({"status": 200, "payload": {"got": {"x": [1, null]}}})
    );
    assert_eq!(d.event("method").await["payload"], json!({"x": [1, null]}));
    let unknown = service.good("POST", methods, Some(r#"{"methodName": "no"}"#)).await;
    assert_eq!(unknown, json!({"status": 404, "payload": {"got": null}}));
    let silence = r#"{"methodName": "silence", "responseTimeoutInSeconds": 5}"#;
    let (both, other) = tokio::join!(
        service.ask("POST", methods, Some(silence), &[]),
        service.good("POST", methods, Some(echo))
    );
    assert_eq!(
        (both.0, &other["status"]),
        (504, &json!(200)),
        "a slow call holds up no other"
    );

    let envelope = json!({
        "payload": "hello",
        "system": {"message_id": "m/1", "correlation_id": "c", "content_type": "text/plain"},
        "application": {"null": null, "empty": "", "v": "1 2"},
    });
    let kind = format!("content-type: {}", onyx::bench::clouds::iot_hub::control::MESSAGE);
    let path = "/devices/dev:1/messages/devicebound";
    assert_eq!(
        service
            .ask("POST", path, Some(&envelope.to_string()), &["-H", &kind])
            .await
            .0,
        204
    );
    let c2d = d.event("c2d").await;
    assert_eq!(
        (&c2d["data"], &c2d["mid"], &c2d["cid"]),
        (&json!("hello"), &json!("m/1"), &json!("c"))
    );
    assert_eq!(c2d["custom"], json!({"null": null, "empty": "", "v": "1 2"}));

    d.does(
        "report".into(),
        json!({"patch": {"fw": "1.0", "nested": {"a": 1, "b": 2}}}),
    )
    .await;
    d.does("report".into(), json!({"patch": {"nested": {"a": null}}})).await;
    let patch = r#"{"tags": {"site": "x"}, "properties": {"desired": {"interval": 5}}}"#;
    let twin = service.good("PATCH", "/twins/dev:1", Some(patch)).await;
    assert_eq!(twin["properties"]["reported"]["nested"], json!({"b": 2}));
    assert_eq!(twin["connectionState"], "Connected");
    assert_eq!(d.event("desired").await["patch"], json!({"interval": 5, "$version": 2}));
    d.does("twin".into(), json!({})).await;
    assert_eq!(
        d.event("twin").await["twin"],
        json!({
            "desired": {"interval": 5, "$version": 2},
            "reported": {"fw": "1.0", "nested": {"b": 2}, "$version": 3},
        })
    );
    // A name that the hub does not take, and too much of it: the client learns of it, the connection stays.
    d.tell(&json!({"do": "report", "patch": {"a.b": 1}})).await;
    let failed = d.event("failed").await;
    assert!(failed["cause"].as_str().unwrap().contains("400"), "{failed}");
    b.clouds.hub().unwrap().throttle_twins(0, 0);
    d.tell(&json!({"do": "twin"})).await;
    let failed = d.event("failed").await;
    assert_eq!(failed["do"], "twin");
    assert!(failed["cause"].as_str().unwrap().contains("429"), "{failed}");
    d.does("send".into(), json!({"data": "still here", "custom": {}})).await;
    d.tell(&json!({"do": "end"})).await;
    d.event("ended").await;
    b.event(
        "a goodbye",
        |e| matches!(&e.what, What::Disconnected { why, .. } if why == "DISCONNECT"),
    )
    .await;
}

#[tokio::test]
async fn a_second_client_takes_over_from_the_first() {
    let mut b = bench("127.0.81.11").await;
    let (mut first, mut second) = (Device::start(&b, "dev"), Device::start(&b, "dev"));
    first.does("connect".into(), json!({})).await;
    second.does("connect".into(), json!({})).await;
    // The first notices and comes back, which is a take-over again.
    for what in ["the take-over", "the one in return"] {
        b.event(what, |e| e.to_string().contains("taken over")).await;
    }
}

#[tokio::test]
async fn a_client_comes_back_after_a_restart_and_gets_what_it_missed() {
    let mut b = bench("127.0.81.21").await;
    let service = Service::of(&b.clouds).await;
    let mut d = Device::start(&b, "dev");
    d.does("connect".into(), json!({})).await;
    d.does("listen".into(), json!({})).await;
    b.clouds.restart_mqtt(false);
    b.event("the cut", |e| e.to_string().contains("the stand-in restarts"))
        .await;
    service
        .good("POST", "/devices/dev/messages/devicebound", Some("while you were out"))
        .await;
    // Read from the journal: the client's handler for its state looks at it when it gets round to it, and may find it back already.
    let back =
        |what: &What| matches!(what, What::Connected { client_id, session_present: true, .. } if client_id == "dev");
    b.event("a return", |e| back(&e.what)).await;
    assert_eq!(d.event("c2d").await["data"], "while you were out");
    // The session went on with its subscriptions, so methods work at once.
    let echo = r#"{"methodName": "echo", "payload": 1, "connectTimeoutInSeconds": 30}"#;
    assert_eq!(
        service.good("POST", "/twins/dev/methods", Some(echo)).await["status"],
        200
    );
}
