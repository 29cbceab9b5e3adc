//! DPS refuses or misbehaves: the line names the credentials rung, the cause and what to do; samples wait and arrive when all is well.

use onyx::bench::clouds::dps::directory::Kind;
use onyx::bench::clouds::{Cloud, Clouds};
use serde_json::json;

use crate::dps::{HUB, PROTOCOLS, clouds_with, group, issues, registers, toml};
use crate::krypton::assert_arrived;
use crate::stage::{Agent, Bench, auth_name, rung_of};

/// Samples taken while the fault lasts.
const N: u64 = 10;

fn heals(
    protocol: &str,
    more: &str,
    breaks: impl FnOnce(&Clouds),
    mends: impl FnOnce(&Clouds),
    why: &[&str],
    cure: &[&str],
) {
    let bench = Bench::new();
    let clouds = clouds_with(&bench, |_| {});
    breaks(&clouds);
    let mut toml = toml(&clouds, protocol);
    toml.credentials += "timeout = '500ms'\npolls_max = 2\n";
    toml.credentials += more;
    let agent = Agent::until(&bench, &toml, N);
    agent.wait_down("credentials", why, cure);
    let status = agent.wait_status("all accepted", |v| v["delivery"]["accepted"] == N);
    assert_eq!(status["delivery"]["acknowledged"], 0);
    assert_eq!(rung_of(&status, "session")["state"], "below");
    assert!(!bench.path("state/credentials").exists(), "nothing unusable is kept");
    mends(&clouds);
    agent.delivers(N);
    assert_arrived(&bench, &clouds, Cloud::IotHub, N);
}

fn fault(protocol: &str, spec: &str, why: &[&str], cure: &[&str]) {
    heals(
        protocol,
        "",
        |clouds| drop(clouds.put_fault(&spec.parse().unwrap()).unwrap()),
        |clouds| assert!(clouds.controls().clear(Some(Cloud::Dps)).unwrap() > 0),
        why,
        cure,
    );
}

const NEAREST: &str = "onyx-intermediate";

#[test]
fn a_disabled_enrolment() {
    for protocol in PROTOCOLS {
        heals(
            protocol,
            "",
            |clouds| group(clouds, NEAREST, &json!({"provisioningStatus": "disabled"})),
            |clouds| group(clouds, NEAREST, &json!({})),
            &["\"disabled\"", "enrolment of this device is disabled"],
            &["enable the enrolment"],
        );
    }
}

#[test]
fn a_failed_allocation() {
    for protocol in PROTOCOLS {
        let hook = json!({"allocationPolicy": "custom", "customAllocationDefinition": {"answer": {"status": 400}}});
        heals(
            protocol,
            "",
            |clouds| group(clouds, NEAREST, &hook),
            |clouds| group(clouds, NEAREST, &json!({})),
            &["\"failed\"", "400207 Custom allocation failed with status code: 400"],
            &["web hook of the enrolment's custom allocation"],
        );
    }
}

#[test]
fn no_hub_is_linked() {
    for protocol in PROTOCOLS {
        heals(
            protocol,
            "",
            |clouds| clouds.dps().link(Vec::new()).unwrap(),
            |clouds| clouds.dps().link(vec![HUB.into()]).unwrap(),
            &["\"failed\"", "400208"],
            &["link an IoT hub"],
        );
    }
}

#[test]
fn nobody_enrolled_the_device() {
    for protocol in PROTOCOLS {
        heals(
            protocol,
            "",
            |clouds| {
                for name in [NEAREST, "onyx-root"] {
                    clouds.dps().remove(Kind::Group, name, None).unwrap();
                }
            },
            |clouds| group(clouds, "onyx-root", &json!({})),
            &["DPS refuses (status 401)", "401002 Invalid certificate.", "trackingId"],
            &["proof of possession", "without a gap"],
        );
    }
}

#[test]
fn a_file_with_the_leaf_alone() {
    let bench = Bench::new();
    let clouds = clouds_with(&bench, |_| {});
    // DPS knows the root; who signed the leaf it would have to learn from the device.
    clouds.dps().remove(Kind::Group, NEAREST, None).unwrap();
    clouds.dps().remove_certificate(NEAREST).unwrap();
    let file = format!("clouds/devices/{}.pem", auth_name());
    let whole = std::fs::read_to_string(bench.path(&file)).unwrap();
    let (leaf, _) = whole.split_once("-----END CERTIFICATE-----\n").unwrap();
    bench.write(&file, &format!("{leaf}-----END CERTIFICATE-----\n"));
    let agent = Agent::until(&bench, &toml(&clouds, "https"), N);
    agent.wait_down(
        "credentials",
        &["401002"],
        &["holds the leaf alone", "append the intermediate"],
    );
    bench.write(&file, &whole);
    agent.delivers(N);
}

#[test]
fn another_name_than_the_certificates_is_noticed_before_anything_is_sent() {
    let bench = Bench::new();
    let clouds = clouds_with(&bench, |_| {});
    for (name, why, cure) in [
        (
            "other-#{imsi}",
            "the certificate's common name is",
            "leave credentials.registration_id out",
        ),
        (
            "a b",
            "is no registration id",
            "write another credentials.registration_id",
        ),
    ] {
        let mut toml = toml(&clouds, "https");
        toml.credentials += &format!("registration_id = '{name}'\n");
        let mut events = clouds.events();
        let agent = Agent::start(&bench, &toml, &[]);
        agent.wait_down("credentials", &[why], &[cure]);
        agent.kill();
        let seen = std::iter::from_fn(|| events.try_recv().ok()).find(|e| e.cloud == Cloud::Dps);
        assert!(seen.is_none(), "{seen:?}");
    }
}

#[test]
fn another_id_scope() {
    for (protocol, why) in [("https", "status 404"), ("mqtt", "CONNACK 5")] {
        let bench = Bench::new();
        let clouds = clouds_with(&bench, |_| {});
        let mut toml = toml(&clouds, protocol);
        toml.credentials = toml.credentials.replace("0ne00111111", "0ne00222222");
        Agent::start(&bench, &toml, &[]).wait_down("credentials", &["DPS refuses", why], &["credentials.id_scope"]);
    }
}

#[test]
fn certificates_are_asked_for_and_nobody_issues_them() {
    for protocol in PROTOCOLS {
        heals(
            protocol,
            "csr = true\n",
            |_| {},
            issues,
            &["DPS refuses (status 400)", "Certificates are not issued"],
            &["credentials.csr needs the preview"],
        );
    }
}

#[test]
fn a_service_that_never_assigns() {
    let bench = Bench::new();
    let clouds = clouds_with(&bench, |c| c.dps.assigning_polls = 10_000);
    for protocol in PROTOCOLS {
        let mut toml = toml(&clouds, protocol);
        toml.credentials += "polls_max = 2\n";
        let agent = Agent::start(&bench, &toml, &[]);
        agent.wait_down_times(
            "credentials",
            &["still \"assigning\" after 2 questions"],
            &["Azure is slow"],
            1,
        );
        agent.kill();
    }
}

#[test]
fn answers_of_https_that_are_none() {
    for (spec, why, cure) in [
        ("dps:http-429", "DPS is in trouble (status 429)", "too many devices"),
        ("dps:http-500", "DPS is in trouble (status 500)", "asked again later"),
        ("dps:http-403", "DPS refuses (status 403): 403000", "IP filter"),
        ("dps:html", "begins with", "captive portal"),
        ("dps:truncated", "cut off after", "credentials.host"),
        ("dps:empty", "it is empty", "credentials.host"),
        ("dps:slow", "did not answer within 0.5 s", "port 443"),
        ("dps:refuse-tcp", "DPS was not reached", "credentials.host"),
        ("dps:cert-unknown-authority", "TLS with", "credentials.ca_file"),
        (
            "dps:tls-alert-48",
            "DPS refuses the device",
            "verify it (proof of possession)",
        ),
    ] {
        fault("https", spec, &[why], &[cure]);
    }
}

#[test]
fn answers_of_mqtt_that_are_none() {
    for (spec, why, cure) in [
        ("dps:refuse-5", "DPS refuses the device", "credentials.id_scope"),
        ("dps:refuse-3", "CONNACK 3", "asked again later"),
        ("dps:close-after-connack", "closed the connection", "asked again later"),
        (
            "dps:no-suback",
            "no answer to SUBSCRIBE within 0.5 s",
            "asked again later",
        ),
        ("dps:no-puback", "no acknowledgement within 0.5 s", "asked again later"),
        ("dps:cut-after-1", "closed the connection", "asked again later"),
        ("dps:refuse-tcp", "DPS was not reached", "port 8883"),
        ("dps:cert-unknown-authority", "TLS with", "credentials.ca_file"),
        ("dps:cert-not-yet-valid", "TLS with", "clock is behind"),
        (
            "dps:tls-alert-48",
            "DPS refuses the device",
            "verify it (proof of possession)",
        ),
    ] {
        fault("mqtt", spec, &[why], &[cure]);
    }
}

/// One lost answer, one trouble, one cut in the middle: the same registration goes on and the ladder never hears of it.
#[test]
fn a_passing_fault_costs_a_question_and_no_rung() {
    for (protocol, spec) in [
        ("https", "dps:http-503*2"),
        ("https", "dps:slow*1"),
        ("mqtt", "dps:cut-after-2*1"),
        ("mqtt", "dps:refuse-3*2"),
    ] {
        let bench = Bench::new();
        let clouds = clouds_with(&bench, |c| c.dps.assigning_polls = 1);
        clouds.put_fault(&spec.parse().unwrap()).unwrap();
        let mut toml = toml(&clouds, protocol);
        toml.credentials += "timeout = '500ms'\n";
        let mut events = clouds.events();
        let ended = Agent::until(&bench, &toml, N).delivers(N);
        assert!(
            !ended.log.contains("\"rung\":\"credentials\",\"state\":\"down\""),
            "{}",
            ended.log
        );
        assert!(registers(&mut events) <= 3, "{protocol} {spec}");
        assert_arrived(&bench, &clouds, Cloud::IotHub, N);
        assert!(
            clouds.controls().faults().values().all(Vec::is_empty),
            "{spec} never happened"
        );
    }
}
