//! Krypton misbehaves: the line names the credentials rung, the cause and what to do; samples wait and arrive when it is well again.

use onyx::bench::clouds::{Cloud, KryptonFault};

use crate::krypton::assert_arrived;
use crate::stage::{Agent, Bench, Toml, rung_of};

/// Samples taken while the fault lasts.
const N: u64 = 20;

fn heals(fault: KryptonFault, cloud: Cloud, why: &[&str], cure: &[&str]) {
    let bench = Bench::new();
    let clouds = bench.clouds();
    clouds.set_krypton_fault(Some(fault.into()));
    let mut toml = Toml::krypton(&clouds, cloud);
    toml.credentials += "timeout = '500ms'\npolls_max = 3\n";
    let agent = Agent::until(&bench, &toml, N);
    agent.wait_down("credentials", why, cure);
    // Every sample is taken meanwhile, and nothing above is said to be up.
    let status = agent.wait_status("all accepted", |v| v["delivery"]["accepted"] == N);
    assert_eq!(status["delivery"]["acknowledged"], 0);
    for above in ["session", "delivery"] {
        assert_eq!(rung_of(&status, above)["state"], "below");
    }
    assert_eq!(rung_of(&status, "network")["state"], "up");
    assert!(!bench.path("state/credentials").exists(), "nothing unusable is kept");
    clouds.set_krypton_fault(None);
    agent.delivers(N);
    let arrived = assert_arrived(&bench, &clouds, cloud, N);
    assert_eq!(arrived.numbers(), (1..=N).collect());
}

#[test]
fn http_403() {
    let why = ["Krypton refuses (HTTP 403)"];
    heals(
        KryptonFault::Http(403),
        Cloud::IotHub,
        &why,
        &["Krypton settings are enabled"],
    );
}

#[test]
fn http_404() {
    let why = ["Krypton refuses (HTTP 404)"];
    heals(KryptonFault::Http(404), Cloud::AwsIot, &why, &["group"]);
}

#[test]
fn http_500() {
    let why = ["Krypton is in trouble (HTTP 500)"];
    heals(KryptonFault::Http(500), Cloud::IotHub, &why, &["asked again later"]);
}

#[test]
fn a_web_page() {
    let why = ["not Krypton's", "begins with", "html"];
    heals(
        KryptonFault::Html,
        Cloud::AwsIot,
        &why,
        &["credentials.url", "captive portal"],
    );
}

#[test]
fn cut_json() {
    let why = ["not Krypton's", "cut off after"];
    heals(KryptonFault::Truncated, Cloud::IotHub, &why, &["credentials.url"]);
}

#[test]
fn nothing_in_the_answer() {
    heals(
        KryptonFault::Empty,
        Cloud::AwsIot,
        &["not Krypton's", "it is empty"],
        &["credentials.url"],
    );
}

#[test]
fn no_answer() {
    let why = ["Krypton was not reached", "did not answer"];
    heals(KryptonFault::Slow, Cloud::IotHub, &why, &["SORACOM line"]);
}

#[test]
fn a_key_that_does_not_fit() {
    for cloud in [Cloud::IotHub, Cloud::AwsIot] {
        let why = ["cannot be used", "private key does not fit the certificate"];
        heals(
            KryptonFault::WrongKey,
            cloud,
            &why,
            &["SIM group's Krypton configuration"],
        );
    }
}

#[test]
fn a_certificate_that_is_none() {
    let why = ["cannot be used", "certificate", "damaged"];
    heals(
        KryptonFault::GarbageCertificate,
        Cloud::AwsIot,
        &why,
        &["Krypton configuration"],
    );
}

#[test]
fn an_expired_certificate() {
    let why = ["cannot be used", "expired on"];
    heals(KryptonFault::Expired, Cloud::IotHub, &why, &["Krypton configuration"]);
}

#[test]
fn a_registration_that_never_ends() {
    let why = ["still \"assigning\" after 3 tries"];
    heals(
        KryptonFault::NeverAssigned,
        Cloud::IotHub,
        &why,
        &["Azure is slow", "DPS scope"],
    );
}

#[test]
fn a_registration_that_fails() {
    let why = ["ended as \"failed\""];
    heals(KryptonFault::Failed, Cloud::IotHub, &why, &["enrolment"]);
}

#[test]
fn an_authority_that_is_not_kryptons() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let good = bench.path("clouds/ca.pem");
    std::fs::create_dir(bench.path("other")).unwrap();
    std::fs::copy(&good, bench.path("other/right.pem")).unwrap();
    let stranger = onyx::pki::Authority::generate(
        "Stranger",
        onyx::clock::Clock::new().now().unwrap().0,
        std::time::Duration::from_secs(86_400),
    )
    .unwrap();
    let ca = bench.write("other/ca.pem", &stranger.root_pem());
    let mut toml = Toml::krypton(&clouds, Cloud::IotHub);
    toml.credentials = toml.credentials.replace("clouds/ca.pem", "other/ca.pem");
    let agent = Agent::until(&bench, &toml, N);
    agent.wait_down(
        "credentials",
        &[
            "Krypton was not reached",
            "TLS with krypton.soracom.io",
            "UnknownIssuer",
        ],
        &["credentials.ca_file"],
    );
    // The file is read again at every try.
    std::fs::copy(bench.path("other/right.pem"), ca).unwrap();
    agent.delivers(N);
    assert_arrived(&bench, &clouds, Cloud::IotHub, N);
}

#[test]
fn nobody_at_kryptons_address() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let mut toml = Toml::krypton(&clouds, Cloud::IotHub);
    let at = clouds.address(Cloud::Krypton).unwrap();
    let wire = crate::wire::Wire::new(at);
    let nobody = crate::mosquitto::free_port();
    toml.credentials = toml
        .credentials
        .replace(&format!("address = '{at}'"), &format!("address = '127.0.0.1:{nobody}'"));
    let agent = Agent::until(&bench, &toml, N);
    agent.wait_down(
        "credentials",
        &["Krypton was not reached", "onnection refused"],
        &["SORACOM line", "100.127.0.0/16"],
    );
    agent.kill();
    toml.credentials = toml
        .credentials
        .replace(&format!("127.0.0.1:{nobody}"), &wire.address.to_string());
    // Those accepted before the kill are in the spool, and go first.
    let before = Agent::start(&bench, &toml, &[]);
    let status = before.wait_status("the old ones are delivered", |v| {
        v["delivery"]["acknowledged"].as_u64().unwrap() > N
            && v["delivery"]["spool"]["oldest"].as_u64().unwrap_or(u64::MAX) > N
    });
    assert!(status["delivery"]["spool"]["lost"] == 0, "{status}");
    before.terminate();
    before.ends_well();
    let numbers = crate::seqs::Arrived::of_cloud(&clouds.messages(), Cloud::IotHub).numbers();
    assert!(numbers.len() as u64 > N && numbers.first() == Some(&1), "{numbers:?}");
}
