//! The IoT Hub stand-in.

use onyx::bench::clouds::iot_hub::ToDevice;
use onyx::bench::clouds::{Cloud, Payload, What};
use serde_json::{Value, json};

use crate::judges;
use crate::krypton::{register, registration};
use crate::tools::{Bench, LIMIT, command, fail, output, spawn, succeed};

const HUB: &str = "onyx-hub.azure-devices.net";

#[tokio::test]
async fn the_krypton_article_from_the_first_line_to_the_last() {
    let b = Bench::start(|_| {}).await;
    let id = register(&b).await;
    let res: Value = serde_json::from_str(&registration(&b, &id).await.1).unwrap();
    let text = |field: &str| res[field].as_str().unwrap().to_owned();
    for (field, file) in [
        ("certificate", "certificate.pem"),
        ("privateKey", "privatekey.pem"),
        ("rootCaCertificate", "rootCaCertificate.pem"),
    ] {
        std::fs::write(b.path(file), text(field)).unwrap();
    }
    let (host, device) = (text("host"), text("deviceId"));
    let mut c = command("mosquitto_pub");
    c.args(["-d", "-h", "127.0.0.1", "-p", &b.port(Cloud::IotHub)]);
    c.args([
        "--cafile",
        &b.path("rootCaCertificate.pem"),
        "--cert",
        &b.path("certificate.pem"),
    ]);
    c.args(["--key", &b.path("privatekey.pem"), "-i", &device]);
    c.args(["-u", &format!("{host}/{device}/?api-version=2021-04-12")]);
    c.args(["-t", &format!("devices/{device}/messages/events/")]);
    c.args(["-m", r#"{ "message": "Hello from Device with Krypton" }"#]);
    let said = succeed(&mut c).await;
    assert!(said.contains("received CONNACK (0)"), "{said}");
    assert!(b.clouds.wait_for_messages(LIMIT, |m| !m.is_empty()).await);
    let line = std::fs::read_to_string(b.path("messages.jsonl")).unwrap();
    let line: Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!(line["cloud"], "iot-hub");
    assert_eq!(
        (&line["client_id"], &line["cn"]),
        (&device.clone().into(), &device.clone().into())
    );
    assert_eq!(line["topic"], format!("devices/{device}/messages/events/"));
    assert_eq!(line["payload"], r#"{ "message": "Hello from Device with Krypton" }"#);
    assert_eq!(line["qos"], 0);
}

#[tokio::test]
async fn mistakes_are_refused_as_the_hub_does() {
    let mut b = Bench::start(|_| {}).await;
    let user = format!("{HUB}/dev/?api-version=2021-04-12");
    let other = format!("{HUB}/dev2/?api-version=2021-04-12");
    let events = "devices/dev/messages/events/";
    for (id, user, topic, qos, rule, shown) in [
        ("dev", "dev", events, "1", "iot-hub/user-name", "not authorised"),
        (
            "dev2",
            other.as_str(),
            events,
            "1",
            "iot-hub/client-id",
            "not authorised",
        ),
        ("dev", &user, "exampletopics/a", "1", "iot-hub/topic", ""),
        ("dev", &user, events, "2", "iot-hub/qos-2", ""),
    ] {
        let mut c = b.mosquitto("mosquitto_pub", Cloud::IotHub, "127.0.0.1", "dev");
        c.args(["-i", id, "-u", user, "-t", topic, "-q", qos, "-m", "x"]);
        if shown.is_empty() {
            fail(&mut c).await;
            assert_eq!(b.refusal(rule).await, "connection closed");
        } else {
            let out = output(&mut c).await;
            assert!(!out.status.success());
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(said.contains(shown), "{said}");
            b.refusal(rule).await;
        }
    }
    assert!(b.payloads(Cloud::IotHub).is_empty());
}

#[tokio::test]
async fn binary_payloads_and_property_bags_arrive() {
    let b = Bench::start(|_| {}).await;
    std::fs::write(b.path("payload"), [0xff, 0x00, 0xfe]).unwrap();
    let mut c = b.mosquitto("mosquitto_pub", Cloud::IotHub, "127.0.0.1", "dev");
    c.args([
        "-i",
        "dev",
        "-u",
        &format!("{HUB}/dev/?api-version=2021-04-12"),
        "-q",
        "1",
    ]);
    c.args([
        "-t",
        "devices/dev/messages/events/$.ct=application%2Foctet-stream&k=v",
        "-f",
        &b.path("payload"),
    ]);
    succeed(&mut c).await;
    let messages = b.clouds.messages();
    assert_eq!(messages[0].payload, Payload::Base64("/wD+".into()));
    assert_eq!(messages[0].qos, 1);
    let want = json!({"system": {"content_type": "application/octet-stream"}, "application": {"k": "v"}});
    assert_eq!(messages[0].properties, Some(want));
}

#[tokio::test]
async fn retain_is_a_property_and_a_will_is_telemetry() {
    let mut b = Bench::start(|_| {}).await;
    let user = format!("{HUB}/dev/?api-version=2021-04-12");
    let events = "devices/dev/messages/events/";
    let mut c = b.mosquitto("mosquitto_pub", Cloud::IotHub, "127.0.0.1", "dev");
    succeed(c.args(["-i", "dev", "-u", &user, "-q", "1", "-r", "-t", events, "-m", "kept?"])).await;
    let kept = b.clouds.messages().remove(0);
    assert_eq!(kept.properties.unwrap()["application"], json!({"mqtt-retain": "true"}));

    let mut c = b.mosquitto("mosquitto_sub", Cloud::IotHub, "127.0.0.1", "dev");
    c.args(["-i", "dev", "-u", &user, "-t", "$iothub/methods/POST/#"]);
    c.args(["--will-topic", &format!("{events}who=me"), "--will-payload", "gone"]);
    let mut child = spawn(&mut c);
    b.subscribed().await;
    child.kill().await.unwrap();
    assert!(b.clouds.wait_for_messages(LIMIT, |m| m.len() == 2).await);
    let will = b.clouds.messages().remove(1);
    assert_eq!(will.payload, Payload::Text("gone".into()));
    let properties = will.properties.unwrap();
    assert_eq!(
        properties["application"],
        json!({"who": "me", "iothub-MessageType": "Will"})
    );
}

#[tokio::test]
async fn a_message_has_256_kib_and_no_more() {
    let mut b = Bench::start(|_| {}).await;
    let user = format!("{HUB}/dev/?api-version=2021-04-12");
    for (size, taken) in [(256 * 1024, true), (256 * 1024 + 1, false)] {
        std::fs::write(b.path("payload"), vec![b'x'; size]).unwrap();
        let mut c = b.mosquitto("mosquitto_pub", Cloud::IotHub, "127.0.0.1", "dev");
        c.args([
            "-i",
            "dev",
            "-u",
            &user,
            "-q",
            "1",
            "-t",
            "devices/dev/messages/events/",
            "-f",
            &b.path("payload"),
        ]);
        if taken {
            succeed(&mut c).await;
        } else {
            fail(&mut c).await;
            assert_eq!(b.refusal("iot-hub/message-size").await, "connection closed");
        }
    }
    assert_eq!(b.payloads(Cloud::IotHub).len(), 1);
}

#[tokio::test]
async fn a_twin_request_is_no_telemetry() {
    let mut b = Bench::start(|_| {}).await;
    let user = format!("{HUB}/dev/?api-version=2021-04-12");
    let get = "$iothub/twin/GET/?$rid=42";
    let mut c = b.mosquitto("mosquitto_pub", Cloud::IotHub, "127.0.0.1", "dev");
    succeed(c.args(["-i", "dev", "-u", &user, "-q", "1", "-t", get, "-n"])).await;
    let wanted = |what: &What| matches!(what, What::Request { topic, .. } if topic == get);
    b.event("the request", |e| wanted(&e.what)).await;
    assert!(b.clouds.messages().is_empty());
    let mut c = b.mosquitto("mosquitto_pub", Cloud::IotHub, "127.0.0.1", "dev");
    fail(c.args(["-i", "dev", "-u", &user, "-q", "1", "-t", "$iothub/twin/GET/", "-n"])).await;
    assert_eq!(b.refusal("iot-hub/request").await, "connection closed");
}

#[tokio::test]
async fn a_twin_request_without_the_subscription_has_no_answer() {
    let mut b = Bench::start(|_| {}).await;
    let user = format!("{HUB}/dev/?api-version=2021-04-12");
    let get = "$iothub/twin/GET/?$rid=7";
    b.clouds.write_device("dev").unwrap();
    for listens in [true, false] {
        let own = ["devices/dev/messages/devicebound/#", "$iothub/twin/res/#"][usize::from(listens)];
        let mut judge = judges::python();
        judge.arg(judges::script("mqtt_request.py"));
        judge.args(["127.0.0.1", &b.port(Cloud::IotHub), &b.path("ca.pem")]);
        judge.args([b.path("devices/dev.pem"), b.path("devices/dev.key")]);
        judge.args(["dev", &user, own, get]);
        let asked = async {
            b.event(
                "the request",
                |e| matches!(&e.what, What::Request { topic, .. } if topic == get),
            )
            .await;
            if !listens {
                // An answer would be there before this.
                let hub = b.clouds.hub().unwrap();
                hub.send("dev", ToDevice::new("nothing but this")).unwrap().unwrap();
            }
        };
        let (printed, ()) = tokio::join!(judges::run(&mut judge), asked);
        let text = |field: &str| printed[0][field].as_str().unwrap().to_owned();
        if listens {
            assert_eq!(text("topic"), "$iothub/twin/res/200/?$rid=7");
            let twin: Value = serde_json::from_str(&text("payload")).unwrap();
            assert_eq!(twin, json!({"desired": {"$version": 1}, "reported": {"$version": 1}}));
        } else {
            assert!(
                text("topic").starts_with("devices/dev/messages/devicebound/"),
                "{printed:?}"
            );
            assert_eq!(text("payload"), "nothing but this");
        }
    }
    assert!(b.clouds.messages().is_empty());
}

#[tokio::test]
async fn certificates_of_the_walk_through_are_taken_once_their_root_is_registered() {
    let mut b = Bench::start(|_| {}).await;
    let openssl = |line: &str| {
        let mut c = command("openssl");
        c.args(line.split(' '))
            .current_dir(b.dir.path())
            .stderr(std::process::Stdio::null());
        c
    };
    // Without extensions: version 1 with OpenSSL 3.0.
    let new = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for line in [
        format!("{new} -subj /CN=root -keyout r.key -out r.csr"),
        "x509 -req -in r.csr -signkey r.key -days 2 -out r.pem".into(),
        format!("{new} -subj /CN=dev -keyout d.key -out d.csr"),
        "x509 -req -in d.csr -CA r.pem -CAkey r.key -CAcreateserial -days 2 -out d.pem".into(),
    ] {
        succeed(&mut openssl(&line)).await;
    }
    let publish = |b: &Bench| {
        let mut c = command("mosquitto_pub");
        c.args([
            "-h",
            "127.0.0.1",
            "-p",
            &b.port(Cloud::IotHub),
            "--cafile",
            &b.path("ca.pem"),
            "-i",
            "dev",
        ]);
        c.args([
            "--cert",
            &b.path("d.pem"),
            "--key",
            &b.path("d.key"),
            "-q",
            "1",
            "-m",
            "x",
        ]);
        c.args([
            "-u",
            &format!("{HUB}/dev/?api-version=2021-04-12"),
            "-t",
            "devices/dev/messages/events/",
        ]);
        c
    };
    fail(&mut publish(&b)).await;
    assert!(b.refusal("iot-hub/authority").await.contains("CONNACK 5"));
    let root = onyx::tls::certificates(&std::fs::read(b.path("r.pem")).unwrap(), "r.pem").unwrap();
    b.clouds.hub().unwrap().trust(root[0].clone()).unwrap();
    succeed(&mut publish(&b)).await;
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_under_the_hubs_name() {
    let b = Bench::start(|_| {}).await;
    b.clouds.write_device("dev").unwrap();
    let address = b.clouds.address(Cloud::IotHub).unwrap().to_string();
    for (version, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let mut c = command("openssl");
        c.args(["s_client", "-brief", version, "-connect", &address, "-servername", HUB]);
        c.args([
            "-verify_hostname",
            HUB,
            "-verify_return_error",
            "-CAfile",
            &b.path("ca.pem"),
        ]);
        c.args(["-cert", &b.path("devices/dev.pem"), "-key", &b.path("devices/dev.key")]);
        let out = output(&mut c).await;
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        assert!(said.contains("Verification: OK") && said.contains(shown), "{said}");
        assert!(said.contains(&format!("Verified peername: {HUB}")), "{said}");
    }
}
