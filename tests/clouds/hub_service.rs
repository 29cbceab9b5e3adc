//! The IoT hub's service side over HTTP, asked with curl.

use onyx::bench::clouds::Clouds;
use onyx::bench::clouds::iot_hub::control;
use serde_json::Value;

use crate::tools::{command, succeed};

/// The service side of a running bench, on a free port.
pub(crate) struct Service {
    base: String,
}

impl Service {
    pub(crate) async fn of(clouds: &Clouds) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let routes = control::routes(clouds.hub().unwrap().clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { base }
    }

    /// Status and body, which is JSON or nothing; `more` are further arguments of curl.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<&str>, more: &[&str]) -> (u16, Value) {
        let mut c = command("curl");
        c.args(["-sS", "--max-time", "60", "-X", method, "-w", "\n%{http_code}"]);
        c.args(body.iter().flat_map(|b| ["--data-binary", b])).args(more);
        let said = succeed(c.arg(format!("{}{path}", self.base))).await;
        let (body, status) = said.rsplit_once('\n').unwrap();
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(body).unwrap()
        };
        (status.parse().unwrap(), body)
    }

    /// The body of a request that has to succeed.
    pub(crate) async fn good(&self, method: &str, path: &str, body: Option<&str>) -> Value {
        let (status, answer) = self.ask(method, path, body, &[]).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Status and error number of a request that has to fail.
    async fn bad(&self, method: &str, path: &str, body: Option<&str>) -> (u16, u64) {
        let (status, answer) = self.ask(method, path, body, &[]).await;
        let inner: Value = serde_json::from_str(answer["Message"].as_str().unwrap()).unwrap();
        assert!(!inner["message"].as_str().unwrap().is_empty() && inner["timestampUtc"].is_string());
        (status, inner["errorCode"].as_u64().unwrap())
    }
}

mod tests {
    use onyx::bench::clouds::{Cloud, What};

    use super::*;
    use crate::tools::{Bench, fail};

    const USER: &str = "onyx-hub.azure-devices.net/dev/?api-version=2021-04-12";

    #[tokio::test]
    async fn devices_are_created_disabled_and_deleted() {
        let mut b = Bench::start(|c| c.hub_open = false).await;
        let service = Service::of(&b.clouds).await;
        let publish = |b: &Bench| {
            let mut c = b.mosquitto("mosquitto_pub", Cloud::IotHub, "127.0.0.1", "dev");
            c.args([
                "-i",
                "dev",
                "-u",
                USER,
                "-q",
                "1",
                "-t",
                "devices/dev/messages/events/",
                "-m",
                "x",
            ]);
            c
        };
        fail(&mut publish(&b)).await;
        assert!(b.refusal("iot-hub/unknown-device").await.contains("CONNACK 5"));
        assert_eq!(service.bad("GET", "/devices/dev", None).await, (404, 404_001));
        let made = service
            .good("PUT", "/devices/dev", Some(r#"{"deviceId": "dev"}"#))
            .await;
        assert_eq!(
            (&made["status"], &made["connectionState"]),
            (&"enabled".into(), &"Disconnected".into())
        );
        assert_eq!(made["authentication"]["type"], "certificateAuthority");
        succeed(&mut publish(&b)).await;

        let mut there = b.mosquitto("mosquitto_sub", Cloud::IotHub, "127.0.0.1", "dev");
        there.args(["-i", "dev", "-u", USER, "-t", "devices/dev/messages/devicebound/#"]);
        let _there = crate::tools::spawn(&mut there);
        b.subscribed().await;
        assert_eq!(
            service.good("GET", "/devices/dev", None).await["connectionState"],
            "Connected"
        );
        let disabled = service
            .good("PUT", "/devices/dev", Some(r#"{"status": "disabled"}"#))
            .await;
        assert_eq!(disabled["status"], "disabled");
        b.event("the end of its connection", |e| {
            e.to_string().contains("the device was disabled")
        })
        .await;
        fail(&mut publish(&b)).await;
        assert!(b.refusal("iot-hub/disabled").await.contains("CONNACK 5"));
        assert_eq!(service.good("GET", "/devices", None).await.as_array().unwrap().len(), 1);
        service.good("DELETE", "/devices/dev", None).await;
        assert_eq!(service.bad("DELETE", "/devices/dev", None).await, (404, 404_001));
    }

    #[tokio::test]
    async fn a_deleted_device_leaves_no_session_behind() {
        let mut b = Bench::start(|_| {}).await;
        let service = Service::of(&b.clouds).await;
        let listen = |b: &Bench| {
            let mut c = b.mosquitto("mosquitto_sub", Cloud::IotHub, "127.0.0.1", "dev");
            c.args(["-c", "-E", "-i", "dev", "-u", USER, "-q", "1"]);
            c.args(["-t", "devices/dev/messages/devicebound/#"]);
            c
        };
        for (present, then_delete) in [(false, false), (true, true), (false, false)] {
            succeed(&mut listen(&b)).await;
            let event = b
                .event("a connection", |e| matches!(e.what, What::Connected { .. }))
                .await;
            let What::Connected { session_present, .. } = event.what else {
                unreachable!()
            };
            assert_eq!(session_present, present);
            b.event("its end", |e| matches!(e.what, What::Disconnected { .. }))
                .await;
            if then_delete {
                service.good("DELETE", "/devices/dev", None).await;
                service.good("PUT", "/devices/dev", Some("{}")).await;
            }
        }
        // One that is there is sent away.
        let mut there = b.mosquitto("mosquitto_sub", Cloud::IotHub, "127.0.0.1", "dev");
        there.args([
            "-c",
            "-i",
            "dev",
            "-u",
            USER,
            "-t",
            "devices/dev/messages/devicebound/#",
        ]);
        let _there = crate::tools::spawn(&mut there);
        b.subscribed().await;
        service.good("DELETE", "/devices/dev", None).await;
        b.event("the end of its connection", |e| {
            e.to_string().contains("the device was deleted")
        })
        .await;
    }

    #[tokio::test]
    async fn a_registered_certificate_needs_no_authority_and_others_are_refused() {
        let mut b = Bench::start(|_| {}).await;
        let service = Service::of(&b.clouds).await;
        let (key, cert) = (b.path("self.key"), b.path("self.pem"));
        let mut make = command("openssl");
        make.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]);
        make.args(["-subj", "/CN=whoever", "-keyout", &key, "-out", &cert])
            .stderr(std::process::Stdio::null());
        succeed(&mut make).await;
        let publish = |b: &Bench| {
            let mut c = command("mosquitto_pub");
            c.args([
                "-h",
                "127.0.0.1",
                "-p",
                &b.port(Cloud::IotHub),
                "--cafile",
                &b.path("ca.pem"),
            ]);
            c.args(["--cert", &cert, "--key", &key, "-i", "dev", "-u", USER, "-q", "1"]);
            c.args(["-t", "devices/dev/messages/events/", "-m", "x"]);
            c
        };
        fail(&mut publish(&b)).await;
        b.refusal("iot-hub/authority").await;
        let print = succeed(command("openssl").args(["x509", "-in", &cert, "-noout", "-fingerprint", "-sha256"])).await;
        let print = print.trim().split_once('=').unwrap().1;
        let body = format!(
            r#"{{"authentication": {{"type": "selfSigned", "x509Thumbprint": {{"primaryThumbprint": "{print}"}}}}}}"#
        );
        let made = service.good("PUT", "/devices/dev", Some(&body)).await;
        let shown = made["authentication"]["x509Thumbprint"]["primaryThumbprint"]
            .as_str()
            .unwrap();
        assert_eq!(shown, print.replace(':', ""));
        succeed(&mut publish(&b)).await;
        // The device's old certificate of the authority is no longer the one.
        let mut c = b.mosquitto("mosquitto_pub", Cloud::IotHub, "127.0.0.1", "dev");
        c.args(["-i", "dev", "-u", USER, "-t", "devices/dev/messages/events/", "-m", "x"]);
        fail(&mut c).await;
        b.refusal("iot-hub/thumbprint").await;
    }

    #[tokio::test]
    async fn mistakes_have_the_hubs_numbers() {
        let b = Bench::start(|_| {}).await;
        let service = Service::of(&b.clouds).await;
        service.good("PUT", "/devices/dev", Some("{}")).await;
        let large = b.path("large");
        std::fs::write(&large, vec![b' '; 200 * 1024]).unwrap();
        let large = format!("@{large}");
        for (method, path, body, want) in [
            ("PUT", "/devices/a%20b", Some("{}"), (400, 400_004)),
            ("PUT", "/devices/dev", Some("{"), (400, 400_006)),
            ("PUT", "/devices/dev", Some(r#"{"status": "asleep"}"#), (400, 400_006)),
            (
                "PUT",
                "/devices/dev",
                Some(r#"{"authentication": {"type": "sas"}}"#),
                (400, 400_004),
            ),
            (
                "PUT",
                "/devices/dev",
                Some(r#"{"authentication": {"type": "selfSigned"}}"#),
                (400, 400_004),
            ),
            ("PUT", "/devices/dev", Some(large.as_str()), (413, 413_001)),
            ("GET", "/twins/nobody", None, (404, 404_001)),
            ("PATCH", "/twins/dev", Some("[]"), (400, 400_004)),
            (
                "PATCH",
                "/twins/dev",
                Some(r#"{"properties": {"desired": {"a.b": 1}}}"#),
                (400, 400_004),
            ),
            (
                "POST",
                "/twins/dev/methods",
                Some(r#"{"methodName": "m"}"#),
                (404, 404_103),
            ),
            (
                "POST",
                "/twins/nobody/methods",
                Some(r#"{"methodName": "m"}"#),
                (404, 404_001),
            ),
            (
                "POST",
                "/twins/dev/methods",
                Some(r#"{"methodName": "m", "responseTimeoutInSeconds": 4}"#),
                (400, 400_004),
            ),
            ("POST", "/twins/dev/methods", Some("{}"), (400, 400_006)),
            (
                "POST",
                "/devices/nobody/messages/devicebound",
                Some("x"),
                (404, 404_001),
            ),
        ] {
            assert_eq!(service.bad(method, path, body).await, want, "{method} {path} {body:?}");
        }
        let (status, _) = service.ask("GET", "/nothing", None, &["-o", "/dev/null"]).await;
        assert_eq!(status, 404);
    }

    #[tokio::test]
    async fn a_session_of_mosquitto_keeps_fifty_messages_and_no_more() {
        let mut b = Bench::start(|_| {}).await;
        let service = Service::of(&b.clouds).await;
        service.good("PUT", "/devices/dev", Some("{}")).await;
        let path = "/devices/dev/messages/devicebound";
        // Never there: taken and dropped, as the documentation says.
        service.good("POST", path, Some("lost")).await;
        let sub = |b: &Bench| {
            let mut c = b.mosquitto("mosquitto_sub", Cloud::IotHub, "127.0.0.1", "dev");
            c.args([
                "-c",
                "-i",
                "dev",
                "-u",
                USER,
                "-q",
                "2",
                "-t",
                "devices/dev/messages/devicebound/#",
            ]);
            c
        };
        let said = succeed(sub(&b).args(["-E", "-d"])).await;
        assert!(said.contains("Subscribed (mid: 1): 1"), "QoS 2 is granted as 1: {said}");
        b.event("its end", |e| e.to_string().contains("disconnected")).await;
        let envelope = r#"{"payload": "first", "system": {"correlation_id": "c/1"}, "application": {"n": null, "e": "", "v": "1"}}"#;
        let kind = format!("content-type: {}", control::MESSAGE);
        let (status, _) = service.ask("POST", path, Some(envelope), &["-H", &kind]).await;
        assert_eq!(status, 204);
        for n in 1..50 {
            let (status, _) = service
                .ask("POST", path, Some(&n.to_string()), &["-H", "iothub-app-k: v"])
                .await;
            assert_eq!(status, 204);
        }
        assert_eq!(service.bad("POST", path, Some("51")).await, (403, 403_004));
        assert_eq!(
            service.good("GET", "/devices/dev", None).await["cloudToDeviceMessageCount"],
            50
        );
        let said = succeed(sub(&b).args(["-C", "50", "-v"])).await;
        let lines: Vec<_> = said.lines().collect();
        let (topic, payload) = lines[0].rsplit_once(' ').unwrap();
        assert_eq!(payload, "first");
        let bag = topic.strip_prefix("devices/dev/messages/devicebound/").unwrap();
        assert!(
            bag.contains("%24.to=%2Fdevices%2Fdev%2Fmessages%2Fdevicebound"),
            "{bag}"
        );
        assert!(
            bag.starts_with("%24.mid=") && bag.ends_with("&%24.cid=c%2F1&e=&n&v=1"),
            "{bag}"
        );
        assert!(lines[49].ends_with("&k=v 49"), "{}", lines[49]);
        // CleanSession 1 drops what waits.
        service.good("POST", path, Some("dropped")).await;
        let mut clean = b.mosquitto("mosquitto_sub", Cloud::IotHub, "127.0.0.1", "dev");
        succeed(clean.args([
            "-E",
            "-i",
            "dev",
            "-u",
            USER,
            "-t",
            "devices/dev/messages/devicebound/#",
        ]))
        .await;
        assert_eq!(
            service.good("GET", "/devices/dev", None).await["cloudToDeviceMessageCount"],
            0
        );
        let purged = service.good("DELETE", "/devices/dev/commands", None).await;
        assert_eq!(purged["totalMessagesPurged"], 0);
    }
}
