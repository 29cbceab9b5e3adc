//! Certificates of `onyx-gateway ca` before the clouds' rules: uploaded and proved as their pages say, and used by Microsoft's own
//! clients and mosquitto. openssl and step have no part in it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use onyx::bench::clouds::dps::directory::{Kind, Owner};
use onyx::bench::clouds::{Cloud, Config, Protocol};
use serde_json::{Value, json};

use crate::judges;
use crate::tools::{Bench, command, fail, succeed};

const SCOPE: &str = "0ne00111111";
const HUB: &str = "onyx-hub.azure-devices.net";

/// An authority and a device of it, made by the program.
struct Made(tempfile::TempDir);

impl Made {
    async fn new(device: &str) -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        made.ca("init", &["--name", "Field"]).await;
        made.ca("issue", &[device]).await;
        made
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    async fn ca(&self, what: &str, more: &[&str]) -> String {
        let mut c = command(env!("CARGO_BIN_EXE_onyx-gateway"));
        succeed(c.args(["ca", what, "--dir", &self.path("")]).args(more)).await
    }

    /// mosquitto_pub with the device's key and this certificate.
    fn publish(&self, b: &Bench, cloud: Cloud, certificate: &str, name: &str) -> tokio::process::Command {
        let mut c = command("mosquitto_pub");
        c.args(["-h", "localhost", "-p", &b.port(cloud), "--cafile", &b.path("ca.pem")]);
        c.args([
            "--cert",
            &self.path(certificate),
            "--key",
            &self.path(&format!("devices/{name}.key")),
        ]);
        c.args([
            "-i",
            name,
            "-u",
            name,
            "-t",
            "exampletopics/topic1",
            "-q",
            "1",
            "-m",
            "hello",
        ]);
        c
    }
}

async fn azure(last: u8) -> Bench {
    Bench::start(|c: &mut Config| {
        c.bind = IpAddr::V4(Ipv4Addr::new(127, 0, 95, last));
        c.standard_ports = true;
        c.hub_open = false;
        c.dps.retry_after = 1;
    })
    .await
}

/// Microsoft's Python client over MQTT.
async fn python(b: &Bench, made: &Made, certificate: &str, expected: &str) -> Vec<Value> {
    let mut judge = judges::python();
    let at = |cloud| b.clouds.door(cloud, Protocol::Mqtts).unwrap().ip().to_string();
    judge.arg(judges::script("dps_mqtt.py"));
    judge.args([&at(Cloud::Dps), &at(Cloud::IotHub), SCOPE, "device1"]);
    judge
        .args([
            made.path(certificate),
            made.path("devices/device1.key"),
            b.path("ca.pem"),
        ])
        .arg(expected);
    judges::run(&mut judge).await
}

/// Microsoft's Node client over HTTPS.
async fn node(b: &Bench, made: &Made) -> Value {
    let mut judge = judges::node();
    judge.env("NODE_EXTRA_CA_CERTS", b.path("ca.pem"));
    let service = b.clouds.door(Cloud::Dps, Protocol::Https).unwrap();
    judge.arg(judges::script("dps_https.js")).arg(service.ip().to_string());
    judge
        .args([SCOPE, "device1"])
        .args(["pem", "key"].map(|s| made.path(&format!("devices/device1.{s}"))));
    judges::run(&mut judge).await.remove(0)
}

/// Uploads `file`, has it proved with the key of `with`, and lets both clients register; DPS has to refuse until then.
async fn dps(last: u8, file: &str, with: &str) -> (Bench, Made) {
    let (mut b, made) = (azure(last).await, Made::new("device1").await);
    let dps = b.clouds.dps().clone();
    dps.put_certificate("field", &json!({"properties": {"certificate": made.read(file)}}))
        .unwrap();
    let group = json!({"attestation": {"type": "x509", "x509": {"caReferences": {"primary": "field"}}}});
    dps.put(Kind::Group, "field", &group, None).unwrap();
    python(&b, &made, "devices/device1.pem", "refused").await;
    b.refusal("dps/possession").await;

    let code = dps.verification_code(Owner::Service("field")).unwrap();
    let other = if with == "root" { "intermediate" } else { "root" };
    let wrong = made.ca("verify-code", &[&code, "--with", other]).await;
    let e = dps.verify(Owner::Service("field"), &wrong).unwrap_err().to_string();
    assert!(e.contains("not signed by the authority"), "{e}");
    let proof = made.ca("verify-code", &[&code, "--with", with]).await;
    dps.verify(Owner::Service("field"), &proof).unwrap();

    let printed = python(&b, &made, "devices/device1.pem", "assigned").await;
    assert_eq!(
        (&printed[0]["status"], &printed[0]["hub"]),
        (&json!("assigned"), &json!(HUB)),
        "{printed:?}"
    );
    assert_eq!(printed[1], json!({"sent": 3}));
    assert_eq!(b.payloads(Cloud::IotHub).len(), 3);
    let result = node(&b, &made).await;
    assert_eq!(
        (&result["status"], &result["deviceId"]),
        (&json!("assigned"), &json!("device1")),
        "{result}"
    );
    (b, made)
}

#[tokio::test]
async fn microsofts_clients_register_with_the_intermediate_alone_uploaded_and_proved() {
    let (b, made) = dps(1, "intermediate.pem", "intermediate").await;
    // The leaf alone leads to the intermediate, too.
    let printed = python(&b, &made, "devices/device1.leaf.pem", "assigned").await;
    assert_eq!(printed[0]["status"], "assigned", "{printed:?}");
}

#[tokio::test]
async fn microsofts_clients_register_with_the_root_alone_uploaded_and_proved() {
    let (mut b, made) = dps(11, "root.pem", "root").await;
    // The leaf alone does not lead up to the verified root.
    python(&b, &made, "devices/device1.leaf.pem", "refused").await;
    b.refusal("dps/certificate").await;
}

#[tokio::test]
async fn event_grid_takes_devices_of_the_uploaded_intermediate() {
    let name = "myClient-295012345678901";
    let (made, stranger) = (Made::new(name).await, Made::new(name).await);
    // What the bench finds in its directory is what was uploaded to the namespace.
    let b = Bench::start(|c| {
        let to = |file: &str| Path::new(&c.directory).join(file);
        for (from, file) in [("root", "ca"), ("intermediate", "intermediate")] {
            for suffix in ["pem", "key"] {
                std::fs::copy(made.path(&format!("{from}.{suffix}")), to(&format!("{file}.{suffix}"))).unwrap();
            }
        }
    })
    .await;
    for certificate in [format!("devices/{name}.leaf.pem"), format!("devices/{name}.pem")] {
        succeed(&mut made.publish(&b, Cloud::EventGrid, &certificate, name)).await;
    }
    assert_eq!(b.payloads(Cloud::EventGrid), ["hello", "hello"]);
    fail(&mut stranger.publish(&b, Cloud::EventGrid, &format!("devices/{name}.pem"), name)).await;
}

async fn curl(method: &str, url: &str, body: &Value) -> (String, Value) {
    let mut c = command("curl");
    c.args(["-sS", "-X", method, "-w", "\n%{http_code}", url]);
    if !body.is_null() {
        c.args(["-d", &body.to_string()]);
    }
    let said = succeed(&mut c).await;
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn aws_registers_the_authority_by_its_code_and_the_device_just_in_time() {
    let mut b = Bench::start(|_| {}).await;
    let made = Made::new("lamp").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let app = b.clouds.aws_iot_routes();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let mut lamp = made.publish(&b, Cloud::AwsIot, "devices/lamp.pem", "lamp");
    fail(&mut lamp).await;
    b.refusal("aws-iot/certificate").await;

    let code = curl("GET", &format!("{base}/registration-code"), &Value::Null).await.1;
    let code = code["registrationCode"].as_str().unwrap().to_owned();
    let register = |proof: Value| {
        json!({"caCertificate": made.read("intermediate.pem"), "registration": "jitr-at-once", "certificateMode": "DEFAULT",
               "verificationCertificate": proof})
    };
    let cas = format!("{base}/cas");
    for (proof, why) in [
        (Value::Null, "needs a verificationCertificate"),
        (
            json!(made.ca("verify-code", &["x"]).await),
            "expected the registration code",
        ),
        (
            json!(made.ca("verify-code", &[&code, "--with", "root"]).await),
            "not signed by the authority",
        ),
    ] {
        let (status, said) = curl("POST", &cas, &register(proof)).await;
        assert_eq!(status, "400");
        assert!(said["message"].as_str().unwrap().contains(why), "{said}");
    }
    let proof = json!(made.ca("verify-code", &[&code]).await);
    assert_eq!(curl("POST", &cas, &register(proof)).await.0, "200");

    // The first connection registers the certificate and is closed, the next one is let in.
    fail(&mut made.publish(&b, Cloud::AwsIot, "devices/lamp.pem", "lamp")).await;
    b.refusal("aws-iot/first-connection").await;
    succeed(&mut made.publish(&b, Cloud::AwsIot, "devices/lamp.pem", "lamp")).await;
    assert_eq!(b.payloads(Cloud::AwsIot), ["hello"]);
}
