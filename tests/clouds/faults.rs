//! Misbehaviour on demand, seen by curl and mosquitto.

use onyx::bench::clouds::{Cloud, KryptonFault, Limited, MqttFault, Protocol, What};

use crate::krypton::{curl, register, registration};
use crate::tools::{Bench, command, output, spawn, succeed};

const REGISTER: &str = "/v1/provisioning/azure/iot/register";

#[tokio::test]
async fn krypton_misbehaves_as_often_as_told() {
    let b = Bench::start(|c| c.krypton_fault = Some("http-500*2".parse().unwrap())).await;
    for want in [500, 500, 200] {
        assert_eq!(curl(&b, &["-X", "POST"], REGISTER).await.0, want);
    }
    let once = |fault| Some(Limited { fault, times: Some(1) });
    b.clouds.set_krypton_fault(once(KryptonFault::Html));
    let (status, body) = curl(&b, &["-i", "-X", "POST"], REGISTER).await;
    assert!(
        status == 200 && body.contains("text/html") && body.contains("<html>"),
        "{body}"
    );
    b.clouds.set_krypton_fault(once(KryptonFault::Empty));
    assert_eq!(curl(&b, &["-X", "POST"], REGISTER).await, (200, String::new()));
    let id = register(&b).await;
    b.clouds.set_krypton_fault(once(KryptonFault::Truncated));
    let (status, cut) = registration(&b, &id).await;
    let (_, whole) = registration(&b, &id).await;
    assert_eq!(status, 200);
    assert!(cut.len() * 2 <= whole.len() && whole.starts_with(&cut) && !cut.is_empty());
    b.clouds.set_krypton_fault(Some(KryptonFault::NeverAssigned.into()));
    let id = register(&b).await;
    for _ in 0..3 {
        assert!(registration(&b, &id).await.1.contains("assigning"));
    }
    b.clouds.set_krypton_fault(None);
    assert!(registration(&b, &id).await.1.contains("assigned"));
}

#[tokio::test]
async fn slow_answers_nothing_and_stop_does_not_wait_for_it() {
    let b = Bench::start(|c| c.krypton_fault = Some(KryptonFault::Slow.into())).await;
    let port = b.port(Cloud::Krypton);
    let mut c = command("curl");
    c.args(["-s", "-m", "1", "--cacert", &b.path("ca.pem")]);
    let out = output(c.arg(format!("https://localhost:{port}{REGISTER}"))).await;
    assert_eq!(out.status.code(), Some(28), "curl's code for a time-out");
    b.clouds.stop().await;
}

#[tokio::test]
async fn bad_certificates_are_bad_to_openssl_too() {
    let b = Bench::start(|_| {}).await;
    for (fault, complaint) in [
        (KryptonFault::Expired, "expired"),
        (KryptonFault::GarbageCertificate, "could not read"),
    ] {
        b.clouds.set_krypton_fault(Some(Limited { fault, times: Some(1) }));
        let id = register(&b).await;
        let res: serde_json::Value = serde_json::from_str(&registration(&b, &id).await.1).unwrap();
        let file = b.path("c.pem");
        std::fs::write(&file, res["certificate"].as_str().unwrap()).unwrap();
        let mut c = command("openssl");
        let out = output(c.args([
            "verify",
            "-CAfile",
            &b.path("ca.pem"),
            "-untrusted",
            &b.path("intermediate.pem"),
            &file,
        ]))
        .await;
        let said = String::from_utf8_lossy(&out.stderr).to_lowercase();
        assert!(
            !out.status.success() && (said.contains(complaint) || said.contains("unable to load")),
            "{said}"
        );
    }
}

fn publisher(b: &Bench) -> tokio::process::Command {
    let mut c = b.mosquitto("mosquitto_pub", Cloud::EventGrid, "127.0.0.1", "name");
    c.args(["-u", "name", "-i", "s", "-t", "exampletopics/a", "-q", "1"]);
    c
}

#[tokio::test]
async fn mqtt_misbehaves_as_told() {
    let mut b = Bench::start(|c| c.mqtt_faults = vec![(Cloud::EventGrid, "refuse-3*1".parse().unwrap())]).await;
    let out = output(publisher(&b).args(["-m", "x"])).await;
    assert!(!out.status.success());
    assert!(b.refusal("bench/fault").await.starts_with("CONNACK 3"));
    succeed(publisher(&b).args(["-m", "first"])).await;

    b.clouds
        .set_mqtt_fault(Cloud::EventGrid, Some(MqttFault::CloseAfterConnack.into()));
    let child = spawn(publisher(&b).args(["-m", "x"]));
    assert_eq!(b.refusal("bench/fault").await, "connection closed");
    drop(child);

    b.clouds
        .set_mqtt_fault(Cloud::EventGrid, Some(MqttFault::NoPuback.into()));
    let mut child = spawn(publisher(&b).args(["-m", "unacknowledged"]));
    let taken = b.event("message", |e| matches!(e.what, What::Message { .. }));
    taken.await;
    assert!(child.try_wait().unwrap().is_none(), "it waits for its PUBACK");
    drop(child);

    let cut = Limited {
        fault: MqttFault::CutAfter(2),
        times: Some(1),
    };
    b.clouds.set_mqtt_fault(Cloud::EventGrid, Some(cut));
    std::fs::write(b.path("lines"), "one\ntwo\nthree\n").unwrap();
    let lines = std::fs::File::open(b.path("lines")).unwrap();
    let child = spawn(publisher(&b).arg("-l").stdin(lines));
    b.refusal("bench/fault").await;
    drop(child);
    assert!(b.payloads(Cloud::EventGrid).contains(&"one".to_owned()));
}

#[tokio::test]
async fn answers_of_the_provisioning_service_are_wrong_when_told() {
    let mut b = Bench::start(|_| {}).await;
    let address = b.clouds.door(Cloud::Dps, Protocol::Https).unwrap();
    let ca = b.path("ca.pem");
    let ask = async || {
        let mut c = command("curl");
        c.args(["-sS", "-w", "\n%{http_code}", "--cacert", &ca]);
        let url = format!("https://{address}/0ne00111111/registrations/dev/operations/1?api-version=2021-06-01");
        let text = succeed(c.arg(url)).await;
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    };
    b.clouds.put_fault(&"dps:http-503*1".parse().unwrap()).unwrap();
    let (status, body) = ask().await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status.as_str(), &body["errorCode"]), ("503", &503_000.into()));
    let seen = b.event("the fault", |e| matches!(e.what, What::Http { .. })).await;
    assert!(seen.to_string().contains("fault http-503"), "{seen}");
    b.clouds.put_fault(&"dps:html*1".parse().unwrap()).unwrap();
    assert!(ask().await.1.contains("<html>"));
    assert_eq!(ask().await.0, "401", "without a certificate, and without a fault");
}
