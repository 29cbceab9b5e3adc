//! Certificates by signing request (DPS preview), with nothing of ours on the device's side: openssl makes the key and the request and
//! judges the chain, curl asks, mosquitto_pub connects with what was issued.

use onyx::bench::clouds::Cloud;
use onyx::bench::clouds::dps::directory::Kind;
use serde_json::json;

use crate::dps::Answer;
use crate::tools::{Bench, command, fail, succeed};

const HOST: &str = "global.azure-devices-provisioning.net";
const SCOPE: &str = "0ne00111111";
const HUB: &str = "onyx-hub.azure-devices.net";
const PREVIEW: &str = "2025-07-01-preview";

/// Lets the bench's devices have certificates for 30 days.
fn allow(b: &Bench) {
    let body = json!({
        "attestation": {"type": "x509", "x509": {"caReferences": {"primary": "onyx-intermediate"}}},
        "credentialPolicy": {"validityInDays": 30},
    });
    let dps = b.clouds.dps();
    dps.put(Kind::Group, "onyx-intermediate", &body, None).unwrap();
}

fn publish(b: &Bench, name: &str, cert: &str, key: &str) -> tokio::process::Command {
    let mut c = command("mosquitto_pub");
    c.args(["-h", "127.0.0.1", "-p", &b.port(Cloud::IotHub), "-q", "1"]);
    c.args(["--cafile", &b.path("ca.pem"), "--cert", cert, "--key", key, "-i", name]);
    c.args(["-u", &format!("{HUB}/{name}/?api-version=2021-04-12")]);
    c.args(["-t", &format!("devices/{name}/messages/events/"), "-m", "hello"]);
    c
}

#[tokio::test]
async fn openssl_and_mosquitto_take_what_is_issued() {
    let mut b = Bench::start(|c| c.hub_open = false).await;
    allow(&b);
    let (cert, key) = b.device("dev");
    let (own_key, csr) = (b.path("own.key"), b.path("own.csr"));
    let mut c = command("openssl");
    c.args([
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
        "-sha384",
        "-nodes",
    ]);
    c.args(["-keyout", &own_key, "-subj", "/CN=dev", "-outform", "DER", "-out", &csr]);
    succeed(&mut c).await;
    let mut c = command("openssl");
    let base64 = succeed(c.args(["base64", "-A", "-in", &csr])).await;

    let register = |version: &str| {
        let mut c = b.curl(Some((&cert, &key)));
        c.args(["-X", "PUT", "-H", "Content-Type: application/json"]);
        c.args(["-d", &json!({"registrationId": "dev", "csr": base64}).to_string()]);
        c.arg(format!(
            "https://{HOST}/{SCOPE}/registrations/dev/register?api-version={version}"
        ));
        c
    };
    let old = Answer::parse(&succeed(&mut register("2021-06-01")).await);
    assert_eq!((old.status, &old.body["errorCode"]), (400, &json!(400_004)));
    let first = Answer::parse(&succeed(&mut register(PREVIEW)).await);
    assert_eq!(first.status, 202, "{first:?}");
    b.refusal("dps/csr-version").await;
    let operation = first.body["operationId"].as_str().unwrap();
    let last = b.poll(&cert, &key, "dev", operation).await;
    let chain = last.body["registrationState"]["issuedCertificateChain"]
        .as_array()
        .unwrap();
    assert_eq!(chain.len(), 3);

    // Who is who, by what openssl says of each.
    let (mut leaf, mut intermediate, mut root) = (String::new(), String::new(), String::new());
    for (n, der) in chain.iter().enumerate() {
        let text = b.path(&format!("{n}.b64"));
        std::fs::write(&text, der.as_str().unwrap()).unwrap();
        let (der, pem) = (b.path(&format!("{n}.der")), b.path(&format!("{n}.pem")));
        let mut c = command("openssl");
        succeed(c.args(["base64", "-d", "-A", "-in", &text, "-out", &der])).await;
        let mut c = command("openssl");
        succeed(c.args(["x509", "-inform", "DER", "-in", &der, "-out", &pem])).await;
        let mut c = command("openssl");
        let said = succeed(c.args(["x509", "-noout", "-subject", "-issuer", "-in", &pem])).await;
        let names: Vec<_> = said
            .lines()
            .filter_map(|l| l.split_once("CN").map(|(_, n)| n.to_owned()))
            .collect();
        let slot = match (names[0] == names[1], names[0].ends_with("dev")) {
            (true, _) => &mut root,
            (_, true) => &mut leaf,
            _ => &mut intermediate,
        };
        assert!(slot.is_empty(), "{said}");
        *slot = pem;
    }
    let mut c = command("openssl");
    c.args([
        "verify",
        "-purpose",
        "sslclient",
        "-CAfile",
        &root,
        "-untrusted",
        &intermediate,
        &leaf,
    ]);
    assert!(succeed(&mut c).await.contains(": OK"));
    let mut c = command("openssl");
    let dates = succeed(c.args(["x509", "-noout", "-checkend", &(29 * 86_400).to_string(), "-in", &leaf])).await;
    assert!(dates.contains("will not expire"), "{dates}");
    let mut c = command("openssl");
    fail(c.args(["x509", "-noout", "-checkend", &(31 * 86_400).to_string(), "-in", &leaf])).await;

    // The hub takes what was issued, and no longer what attested.
    let bundle = b.path("bundle.pem");
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    std::fs::write(&bundle, read(&leaf) + &read(&intermediate)).unwrap();
    succeed(&mut publish(&b, "dev", &bundle, &own_key)).await;
    assert_eq!(b.payloads(Cloud::IotHub), ["hello"]);
    fail(&mut publish(&b, "dev", &cert, &key)).await;
    b.refusal("iot-hub/authority").await;
}
