//! Signing requests: every rule about them broken, and what keeps them.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::identity::AuthName;
use crate::provision::request::{Kind as Key, Request};

const DAY: Duration = Duration::from_secs(86_400);

fn request(kind: Key, name: &str) -> String {
    let request = Request::new(kind, &AuthName::new(name.into()).unwrap()).unwrap();
    STANDARD.encode(request.der)
}

/// A request by openssl.
fn openssl(options: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-new",
        "-nodes",
        "-keyout",
        "/dev/null",
        "-subj",
        "/CN=dev",
        "-outform",
        "DER",
    ]);
    let out = command.args(options).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    STANDARD.encode(out.stdout)
}

fn policy(days: u64) -> Value {
    json!({"attestation": references("root"), "credentialPolicy": {"validityInDays": days}})
}

impl Stage {
    fn with_csr(&mut self, name: &str, csr: &str, preview: bool) -> Result<Reply, Fault> {
        let request = Register {
            csr: Some(csr.to_owned()),
            preview,
            ..Register::default()
        };
        let chain = self.chain(name);
        self.registrations
            .register(&self.directory, &id(name), &chain, request, false, self.now)
    }

    fn issued(&mut self, name: &str, csr: &str) -> Chain {
        let reply = self.with_csr(name, csr, true).unwrap();
        let operation = reply.body["operationId"].as_str().unwrap().to_owned();
        let chain = self.chain(name);
        let reply = self.poll(name, &chain, &operation).unwrap();
        let issued = reply.body["registrationState"]["issuedCertificateChain"]
            .as_array()
            .unwrap();
        let der = |v: &Value| CertificateDer::from(STANDARD.decode(v.as_str().unwrap()).unwrap());
        issued.iter().map(der).collect()
    }
}

#[test]
fn every_rule_about_signing_requests_is_kept() {
    let mut s = Stage::new();
    let good = request(Key::P384, "dev");
    let rule = |reply: Result<Reply, Fault>| {
        let fault = reply.unwrap_err();
        assert_eq!(
            (fault.status(), fault.refusal.look),
            (400, Look::Answer(400)),
            "{fault}"
        );
        assert!(!fault.refusal.detail.is_empty());
        fault.refusal.rule.id
    };
    assert_eq!(rule(s.with_csr("dev", &good, true)), "dps/issuance");
    s.group("g", policy(30)).unwrap();
    assert_eq!(rule(s.with_csr("dev", &good, false)), "dps/csr-version");
    let der = STANDARD.decode(&good).unwrap();
    let with_more = STANDARD.encode([&der[..], &[0]].concat());
    let mut forged = der.clone();
    *forged.last_mut().unwrap() ^= 1;
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{good}\n-----END CERTIFICATE REQUEST-----\n");
    for bad in ["", "?", "AAAA", &good[..40], &pem, &with_more, &STANDARD.encode(forged)] {
        assert_eq!(rule(s.with_csr("dev", bad, true)), "dps/csr", "{bad}");
    }
    for bad in [
        request(Key::P256, "dev"),
        openssl(&["-newkey", "rsa:2048"]),
        openssl(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha256"]),
    ] {
        assert_eq!(rule(s.with_csr("dev", &bad, true)), "dps/csr-key");
    }
    assert_eq!(
        rule(s.with_csr("dev", &request(Key::P384, "dev2"), true)),
        "dps/csr-name"
    );
    // The name's case does not matter, and openssl's requests are as good.
    s.with_csr("dev", &request(Key::P384, "DEV"), true).unwrap();
    let theirs = openssl(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha384"]);
    s.with_csr("dev", &theirs, true).unwrap();
}

#[test]
fn what_is_issued_lives_as_long_as_the_policy_says_and_comes_in_any_order() {
    let mut s = Stage::new();
    for days in [0, 91, u64::MAX] {
        let e = s.group("g", policy(days)).unwrap_err();
        assert!(
            matches!(&e, StoreError::Bad(_)) && e.to_string().contains("1 to 90 days"),
            "{e}"
        );
    }
    let mut first = std::collections::BTreeSet::new();
    for days in [1, 90, 30, 30, 30, 30, 30, 30] {
        s.group("g", policy(days)).unwrap();
        let chain = s.issued("dev", &request(Key::P384, "dev"));
        let leaves: Vec<_> = chain
            .iter()
            .map(|der| crate::tls::Leaf::read(der, "x").unwrap())
            .collect();
        let at = leaves
            .iter()
            .position(|l| l.common_name.as_deref() == Some("dev"))
            .unwrap();
        first.insert(at);
        assert_eq!(chain.len(), 3);
        let until = leaves[at].not_after;
        assert_eq!(until.as_secs(), (s.now.wall + DAY * days.try_into().unwrap()).as_secs());
        // The bench's own authority has nothing to do with it.
        let own = der(&s.ca.root_pem());
        assert!(crate::bench::clouds::chain::follow(&[chain[at].clone()], &own, s.now.wall).is_err());
        s.later(20);
    }
    assert!(first.len() > 1, "the leaf is always at the same place");
    // Without a request nothing is issued.
    let chain = s.chain("dev");
    let body = s.whole("dev", &chain, json!({})).body;
    assert!(
        body["registrationState"].get("issuedCertificateChain").is_none(),
        "{body}"
    );
}
