//! The right identity upstream, whoever came before: resumption must not carry one device's identity to the next.

use onyx::mqtt::Connect;

use crate::certs::Kind;
use crate::stage::{A, B, IMSI_A, IMSI_B, Running, Stage, name};

/// Connects, returns how upstream was reached ("TLS 1.3", "TLS 1.3, resumed"), and leaves.
fn call(gateway: &Running, stage: &Stage, source: std::net::Ipv4Addr, id: &str, want: &str) -> String {
    let mut device = gateway.device(source, &Connect::new(id, true, 60));
    let answer = gateway.wait_until("connected", |s| {
        s["connections"]
            .as_array()
            .is_some_and(|l| l.iter().any(|c| c["client_id"] == id && c["upstream"] != "dialling"))
    });
    let line = stage.broker.wait_for(&["New client connected", &format!(" as {id} ")]);
    assert!(
        line.contains(&format!("u'{want}'")),
        "{id} should arrive as {want}: {line}"
    );
    // A round trip, so that the broker's tickets have been read.
    device.send(b"\xc0\x00");
    assert!(device.next().is_some());
    device.send(b"\xe0\x00");
    assert!(device.next().is_none());
    let connections = answer["connections"].as_array().unwrap();
    let mine = connections.iter().find(|c| c["client_id"] == id).unwrap();
    mine["upstream"].as_str().unwrap().to_owned()
}

fn both_devices_in_turn(version: &'static str, want: &str) {
    let stage = Stage::with(Some(version), true, Kind::Ec);
    let gateway = stage.gateway();
    let mut ways = Vec::new();
    for round in 0..6 {
        for (source, imsi, short) in [(A, IMSI_A, "a"), (B, IMSI_B, "b")] {
            let way = call(&gateway, &stage, source, &format!("{short}{round}"), &name(imsi));
            assert!(way.starts_with(want), "{way}");
            ways.push(way);
        }
    }
    assert!(
        ways[..2].iter().all(|w| !w.contains("resumed")),
        "nothing to resume yet: {ways:?}"
    );
    // Without resumption this test would prove nothing.
    let resumed = ways.iter().filter(|w| w.contains("resumed")).count();
    assert_eq!(resumed, 10, "each device resumes its own session: {ways:?}");
}

#[test]
fn identities_do_not_mix_with_tls_1_2() {
    both_devices_in_turn("tlsv1.2", "TLS 1.2");
}

#[test]
fn identities_do_not_mix_with_tls_1_3() {
    both_devices_in_turn("tlsv1.3", "TLS 1.3");
}

#[test]
fn a_rotated_credential_is_used_at_once_and_its_tickets_are_dropped() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    for round in 0..2 {
        call(&gateway, &stage, A, &format!("old{round}"), &name(IMSI_A));
    }
    // Another common name, so that the broker's log tells the certificates apart.
    stage
        .authority
        .device(Kind::Ec, &name(IMSI_A), "rotated", &stage.credentials());
    let way = call(&gateway, &stage, A, "new0", "rotated");
    assert!(!way.contains("resumed"), "{way}");
    assert!(call(&gateway, &stage, A, "new1", "rotated").contains("resumed"));
}

#[test]
fn the_gateways_choice_of_tls_version_is_kept() {
    let stage = Stage::new();
    for (choice, want) in [("1.2", "TLS 1.2"), ("1.3", "TLS 1.3"), ("auto", "TLS 1.3")] {
        let config = stage.config_text(stage.upstream(), &format!("tls = '{choice}'"));
        let gateway = Running::start(&config, stage.dir.path());
        let id = format!("c{}", choice.replace('.', ""));
        assert_eq!(call(&gateway, &stage, A, &id, &name(IMSI_A)), want);
    }
}

#[test]
fn rsa_keys_and_version_1_certificates_are_presented_with_both_versions() {
    for version in ["tlsv1.2", "tlsv1.3"] {
        let stage = Stage::with(Some(version), true, Kind::Rsa);
        stage
            .authority
            .device(Kind::V1, &name(IMSI_B), &name(IMSI_B), &stage.credentials());
        let gateway = stage.gateway();
        call(&gateway, &stage, A, "rsa", &name(IMSI_A));
        call(&gateway, &stage, B, "v1", &name(IMSI_B));
    }
}

#[test]
fn a_credentials_own_authorities_go_before_the_shared_ones() {
    let stage = Stage::new();
    // The shared file knows another authority only.
    let config = stage
        .config_text(stage.upstream(), "")
        .replace("ca/root.pem", "ca/v1root.pem");
    let gateway = Running::start(&config, stage.dir.path());
    let ca = stage.credentials().join(format!("{}.ca.pem", name(IMSI_A)));
    std::fs::copy(stage.authority.file("root.pem"), ca).unwrap();
    call(&gateway, &stage, A, "own", &name(IMSI_A));
    assert_eq!(
        crate::refusals::connack(&gateway, B, &Connect::new("b", true, 60).encode().unwrap()),
        Some(3)
    );
    assert_eq!(gateway.status.refused("upstream_tls"), 1);
}
