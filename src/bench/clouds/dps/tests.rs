//! The core by the clock of a test: every rule broken, and what keeps them.

mod issuance;

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use super::directory::{Directory, Kind, Owner, StoreError};
use super::enrollment::Enrollment;
use super::message::{Register, Reply};
use super::name::RegistrationId;
use super::registration::{POLLS_MAX, REGISTERS_MAX, REGISTRATIONS_MAX, Registrations, Setup};
use crate::bench::clouds::authority::Ca;
use crate::bench::clouds::backend::Now;
use crate::bench::clouds::policy::dps::{BODY_MAX, Fault, Mqtt, POLL, REGISTER, RULES};
use crate::bench::clouds::policy::testing::{connect, peer};
use crate::bench::clouds::policy::{Look, Peer, Policy, Publication, Refusal};
use crate::clock::Clock;
use crate::mqtt::{Connect, Will};
use crate::tls::certificates;

const HUB: &str = "onyx-hub.azure-devices.net";
const OTHER_HUB: &str = "other-hub.azure-devices.net";
const USER: &str = "0ne00111111/registrations/dev/api-version=2019-03-31";

type Chain = Vec<CertificateDer<'static>>;

struct Stage {
    ca: Ca,
    directory: Directory,
    registrations: Registrations,
    now: Now,
    _dir: tempfile::TempDir,
}

fn id(text: &str) -> RegistrationId {
    text.parse().unwrap()
}

fn der(pem: &str) -> Chain {
    certificates(pem.as_bytes(), "test").unwrap()
}

fn references(name: &str) -> Value {
    json!({"type": "x509", "x509": {"caReferences": {"primary": name}}})
}

impl Stage {
    /// A service that knows nobody.
    fn empty(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::new();
        let now = Now {
            monotonic: Duration::from_secs(1_000),
            wall: clock.system(),
        };
        Self {
            ca: Ca::open(dir.path(), clock).unwrap(),
            directory: Directory::default(),
            registrations: Registrations::new(setup, vec![HUB.into()], fastrand::Rng::with_seed(7)),
            now,
            _dir: dir,
        }
    }

    /// A service with a verified root and a group for it.
    fn new() -> Self {
        let mut s = Self::empty(Setup::default());
        s.authority("root", &s.ca.root_pem(), true);
        s.group("g", json!({"attestation": references("root")})).unwrap();
        s
    }

    fn authority(&mut self, name: &str, pem: &str, verified: bool) {
        let body = json!({"properties": {"certificate": pem, "isVerified": verified}});
        self.directory.put_certificate(name, &body).unwrap();
    }

    fn put(&mut self, kind: Kind, name: &str, body: &Value) -> Result<Value, StoreError> {
        let enrollment = Enrollment::read(body, kind == Kind::Individual, "e1".into(), "now")?;
        self.directory.put(kind, name, enrollment, None, false)
    }

    fn group(&mut self, name: &str, body: Value) -> Result<Value, StoreError> {
        self.put(Kind::Group, name, &body)
    }

    fn individual(&mut self, name: &str, body: Value) -> Result<Value, StoreError> {
        self.put(Kind::Individual, name, &body)
    }

    fn chain(&self, name: &str) -> Chain {
        der(&self.ca.device(name).unwrap().chain_pem)
    }

    fn register(&mut self, name: &str, chain: &[CertificateDer<'_>], body: Value) -> Result<Reply, Fault> {
        let request = Register::read(body.to_string().as_bytes(), &id(name), false)?;
        self.registrations
            .register(&self.directory, &id(name), chain, request, false, self.now)
    }

    fn poll(&mut self, name: &str, chain: &[CertificateDer<'_>], operation: &str) -> Result<Reply, Fault> {
        self.registrations
            .poll(&self.directory, &id(name), chain, operation, self.now)
    }

    fn later(&mut self, seconds: u64) {
        self.now.monotonic += Duration::from_secs(seconds);
        self.now.wall += Duration::from_secs(seconds);
    }

    /// Registers and asks once: the final answer.
    fn whole(&mut self, name: &str, chain: &[CertificateDer<'_>], body: Value) -> Reply {
        let reply = self.register(name, chain, body).unwrap();
        assert_eq!((reply.status, &reply.body["status"]), (202, &json!("assigning")));
        let operation = reply.body["operationId"].as_str().unwrap().to_owned();
        self.poll(name, chain, &operation).unwrap()
    }
}

#[test]
fn a_device_of_a_group_is_assigned_as_documented() {
    let mut s = Stage::new();
    let chain = s.chain("Device-1");
    let reply = s
        .register("device-1", &chain, json!({"registrationId": "Device-1"}))
        .unwrap();
    assert_eq!((reply.status, reply.retry_after), (202, Some(3)));
    let operation = reply.body["operationId"].as_str().unwrap().to_owned();
    let parts: Vec<_> = operation.split('.').collect();
    assert_eq!(
        parts.iter().map(|p| p.len()).collect::<Vec<_>>(),
        [1, 16, 36],
        "5.506603669bd3e2bf.b3602f8f-76fe-4341-9214-bb6cfb891b8a and {operation}"
    );
    let reply = s.poll("device-1", &chain, &operation).unwrap();
    assert_eq!((reply.status, reply.retry_after), (200, None));
    assert_eq!(reply.body["operationId"], operation);
    let state = &reply.body["registrationState"];
    for (field, value) in [
        ("status", "assigned"),
        ("substatus", "initialAssignment"),
        ("assignedHub", HUB),
        ("deviceId", "device-1"),
        ("registrationId", "device-1"),
    ] {
        assert_eq!(state[field], value, "{field}");
    }
    assert_eq!(state["x509"], json!({}));
    assert!(state.get("payload").is_none(), "only a web hook answers a payload");
    let time = state["createdDateTimeUtc"].as_str().unwrap();
    assert_eq!(time.len(), "2022-08-27T17:53:19.5143497Z".len(), "{time}");
}

#[test]
fn every_rule_is_kept() {
    let mut rows: Vec<(&'static str, Look, Result<(), Refusal>)> = Vec::new();
    let refused = Look::ConnAck(crate::mqtt::connack::NOT_AUTHORIZED);
    let policy = Mqtt::new("0ne00111111".into());
    let shown = || Peer {
        chain: vec![CertificateDer::from(vec![0])],
        ..peer("dev")
    };
    let join = |c: &Connect| policy.connect(&shown(), c).map(|_| ());
    rows.push(("dps/client-id", refused, join(&connect("dev2", Some(USER)))));
    rows.push(("dps/registration-id", refused, join(&connect("dev.", Some(USER)))));
    for bad in [
        "0ne00111111/registrations/dev/?api-version=2019-03-31",
        "0ne00111111/registrations/dev",
        "0ne00111111/registration/dev/api-version=2019-03-31",
        "0ne00111111/registrations/dev/ClientVersion=x",
    ] {
        rows.push(("dps/user-name", refused, join(&connect("dev", Some(bad)))));
    }
    rows.push(("dps/user-name", refused, join(&connect("dev", None))));
    let other = "0ne00999999/registrations/dev/api-version=2019-03-31";
    rows.push(("dps/id-scope", refused, join(&connect("dev", Some(other)))));
    let other = "0ne00111111/registrations/dev/api-version=2018-01-01";
    rows.push(("dps/api-version", refused, join(&connect("dev", Some(other)))));
    let mut c = connect("dev", Some(USER));
    c.password = Some("SharedAccessSignature".into());
    rows.push(("dps/password", refused, join(&c)));
    let mut c = connect("dev", Some(USER));
    c.will = Some(Will {
        topic: "bye".into(),
        payload: "x".into(),
        qos: 0,
        retain: false,
        properties: bytes::Bytes::new(),
    });
    rows.push(("dps/will", refused, join(&c)));
    let good = connect("dev", Some(USER));
    rows.push((
        "dps/certificate",
        refused,
        policy.connect(&peer("dev"), &good).map(|_| ()),
    ));
    let mut stranger = shown();
    stranger.cn = Some("other".into());
    rows.push(("dps/common-name", refused, policy.connect(&stranger, &good).map(|_| ())));
    let session = policy.connect(&shown(), &good).unwrap();
    let publish = |topic: &str, qos: u8, payload: usize| policy.publish(&session, Publication { topic, qos, payload });
    rows.push(("dps/topic", Look::Close, publish("devices/dev/messages/events/", 0, 1)));
    rows.push(("dps/qos-2", Look::Close, publish(REGISTER, 2, 1)));
    rows.push(("dps/message-size", Look::Close, publish(POLL, 1, BODY_MAX + 1)));
    rows.push((
        "dps/filter",
        Look::Close,
        policy.subscribe(&session, "$dps/#", 0, 0).map(|_| ()),
    ));

    let answer = |reply: Result<Reply, Fault>| match reply {
        Ok(reply) => reply.broken.map_or(Ok(()), Err),
        Err(fault) => {
            assert_eq!(fault.refusal.look, Look::Answer(fault.status()), "{fault}");
            Err(fault.refusal)
        }
    };
    let mut s = Stage::new();
    let chain = s.chain("dev");
    let bad_request = Look::Answer(400);
    let unauthorized = Look::Answer(401);
    for body in [
        json!([]),
        json!("x"),
        json!({"registrationId": "other"}),
        json!({"registrationId": 1}),
    ] {
        rows.push(("dps/body", bad_request, answer(s.register("dev", &chain, body))));
    }
    let large = json!({"payload": "x".repeat(BODY_MAX)});
    rows.push((
        "dps/message-size",
        bad_request,
        answer(s.register("dev", &chain, large)),
    ));
    rows.push((
        "dps/certificate",
        unauthorized,
        answer(s.register("dev", &[], json!({}))),
    ));
    // Without the intermediate the chain does not reach the root.
    rows.push((
        "dps/certificate",
        unauthorized,
        answer(s.register("dev", &chain[..1], json!({}))),
    ));
    rows.push((
        "dps/common-name",
        unauthorized,
        answer(s.register("dev2", &chain, json!({}))),
    ));
    let expired = der(&s.ca.expired_device("dev").unwrap().chain_pem);
    rows.push((
        "dps/certificate",
        unauthorized,
        answer(s.register("dev", &expired, json!({}))),
    ));
    rows.push((
        "dps/operation",
        Look::Answer(404),
        answer(s.poll("dev", &chain, "5.x.y")),
    ));
    let reply = s.register("dev", &chain, json!({})).unwrap();
    rows.push((
        "dps/operation",
        Look::Answer(404),
        answer(s.poll("dev", &chain, "5.x.y")),
    ));
    let operation = reply.body["operationId"].as_str().unwrap();
    for _ in 1..POLLS_MAX {
        s.poll("dev", &chain, operation).unwrap();
    }
    rows.push((
        "dps/poll-rate",
        Look::Answer(429),
        answer(s.poll("dev", &chain, operation)),
    ));
    s.group(
        "g",
        json!({"attestation": references("root"), "provisioningStatus": "disabled"}),
    )
    .unwrap();
    rows.push((
        "dps/disabled",
        Look::Answer(200),
        answer(s.register("dev", &chain, json!({}))),
    ));
    let hook = json!({"attestation": references("root"), "allocationPolicy": "custom",
        "customAllocationDefinition": {"answer": {"status": 400}}});
    s.group("g", hook).unwrap();
    rows.push((
        "dps/allocation",
        Look::Answer(200),
        answer(Ok(s.whole("dev3", &s.chain("dev3"), json!({})))),
    ));
    s.directory.remove(Kind::Group, "g", None).unwrap();
    rows.push((
        "dps/enrollment",
        unauthorized,
        answer(s.register("dev", &chain, json!({}))),
    ));
    let mut s = Stage::empty(Setup::default());
    s.authority("root", &s.ca.root_pem(), false);
    s.group("g", json!({"attestation": references("root")})).unwrap();
    let chain = s.chain("dev");
    rows.push((
        "dps/possession",
        unauthorized,
        answer(s.register("dev", &chain, json!({}))),
    ));
    for _ in 1..REGISTERS_MAX {
        let _ = s.register("dev", &[], json!({}));
    }
    rows.push((
        "dps/register-rate",
        Look::Answer(429),
        answer(s.register("dev", &chain, json!({}))),
    ));

    let mut unseen: std::collections::BTreeSet<_> = RULES.iter().map(|r| r.id).collect();
    for (rule, look, verdict) in rows {
        let refusal = verdict.expect_err(rule);
        assert_eq!((refusal.rule.id, refusal.look), (rule, look), "{refusal:?}");
        assert!(!refusal.rule.source.is_empty() && !refusal.detail.is_empty(), "{rule}");
        unseen.remove(rule);
    }
    // Five are about signing requests: `issuance` breaks them. Four are about HTTP and TLS: tests/clouds/dps.rs breaks them.
    let requests = ["csr", "csr-key", "csr-name", "csr-version", "issuance"];
    let elsewhere = requests.into_iter().chain(["media-type", "method", "path", "tls-1.2"]);
    let elsewhere: Vec<_> = elsewhere.map(|rule| format!("dps/{rule}")).collect();
    assert_eq!(unseen.into_iter().collect::<Vec<_>>(), elsewhere);
}

#[test]
fn what_keeps_the_rules_of_mqtt_is_taken() {
    let policy = Mqtt::new("0ne00111111".into());
    let shown = Peer {
        chain: vec![CertificateDer::from(vec![0])],
        ..peer("DEV")
    };
    for user in [
        USER,
        "0ne00111111/registrations/dev/api-version=2021-06-01&ClientVersion=prov_device_client%2f1.0",
        "0ne00111111/registrations/DEV/api-version=2021-10-01",
    ] {
        policy.connect(&shown, &connect("dev", Some(user))).unwrap();
    }
    let session = policy.connect(&shown, &connect("dev", Some(USER))).unwrap();
    assert_eq!(policy.subscribe(&session, "$dps/registrations/res/#", 2, 0), Ok(1));
    assert_eq!(policy.limits().session_expiry, Duration::ZERO);
    assert_eq!(policy.silence_allowed(60), Duration::from_secs(90));
}

#[test]
fn rates_end_when_their_window_does_and_say_when() {
    let mut s = Stage::new();
    let chain = s.chain("dev");
    let reply = s.register("dev", &chain, json!({})).unwrap();
    let operation = reply.body["operationId"].as_str().unwrap().to_owned();
    for _ in 0..POLLS_MAX {
        s.poll("dev", &chain, &operation).unwrap();
    }
    s.later(4);
    let fault = s.poll("dev", &chain, &operation).unwrap_err();
    assert_eq!((fault.status(), fault.retry_after), (429, Some(6)));
    // Another device is not meant.
    let other = s.chain("dev2");
    s.whole("dev2", &other, json!({}));
    s.later(6);
    s.poll("dev", &chain, &operation).unwrap();
}

#[test]
fn assigning_lasts_for_polls_and_for_a_time() {
    let mut s = Stage::empty(Setup {
        assigning_polls: 2,
        assigning_for: Duration::from_secs(30),
        retry_after: 7,
        ..Setup::default()
    });
    s.authority("root", &s.ca.root_pem(), true);
    s.group("g", json!({"attestation": references("root")})).unwrap();
    let chain = s.chain("dev");
    let reply = s.register("dev", &chain, json!({})).unwrap();
    let operation = reply.body["operationId"].as_str().unwrap().to_owned();
    s.later(31);
    for expected in [202, 202, 200] {
        let reply = s.poll("dev", &chain, &operation).unwrap();
        assert_eq!(reply.status, expected);
        assert_eq!(reply.retry_after, (expected == 202).then_some(7));
    }
    let reply = s.register("dev", &chain, json!({})).unwrap();
    let operation = reply.body["operationId"].as_str().unwrap().to_owned();
    s.later(29);
    for _ in 0..3 {
        assert_eq!(s.poll("dev", &chain, &operation).unwrap().status, 202);
    }
    s.later(1);
    assert_eq!(s.poll("dev", &chain, &operation).unwrap().status, 200);
}

#[test]
fn an_individual_enrolment_beats_the_group_and_the_nearest_authority_the_farther() {
    let mut s = Stage::new();
    s.authority("near", &s.ca.intermediate_pem(), true);
    s.group("far", json!({"attestation": references("root")})).unwrap_err(); // "g" has it
    s.group(
        "near",
        json!({"attestation": references("near"), "provisioningStatus": "disabled"}),
    )
    .unwrap();
    let chain = s.chain("dev");
    assert_eq!(s.register("dev", &chain, json!({})).unwrap().body["status"], "disabled");
    let leaf = json!({"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": s.ca.root_pem()}}}});
    s.individual("DEV", json!({"attestation": leaf, "deviceId": "shed"}))
        .unwrap();
    let fault = s.register("dev", &chain, json!({})).unwrap_err();
    assert_eq!(
        (fault.code, fault.refusal.rule.id),
        (401_002, "dps/enrollment"),
        "first hit decides"
    );
    let print = crate::bench::clouds::thumbprint::Thumbprint::of(&chain[0]).to_string();
    let leaf =
        json!({"type": "x509", "x509": {"clientCertificates": {"primary": {"info": {"sha256Thumbprint": print}}}}});
    s.individual("dev", json!({"attestation": leaf, "deviceId": "shed"}))
        .unwrap();
    // The leaf alone is enough: nobody asks who signed it.
    let reply = s.whole("dev", &chain[..1], json!({}));
    assert_eq!(reply.body["registrationState"]["deviceId"], "shed");
    s.individual("dev", json!({"attestation": references("root")}))
        .unwrap_err();
    s.directory.remove(Kind::Group, "g", None).unwrap();
    s.individual("dev", json!({"attestation": references("root")})).unwrap();
    let reply = s.whole("dev", &chain, json!({}));
    assert_eq!(reply.body["registrationState"]["deviceId"], "dev");
    assert_eq!(s.register("dev", &chain[..1], json!({})).unwrap_err().code, 401_002);
}

#[test]
fn possession_is_proved_by_a_certificate_for_the_code() {
    let mut s = Stage::empty(Setup::default());
    s.authority("near", &s.ca.intermediate_pem(), false);
    s.group("g", json!({"attestation": references("near")})).unwrap();
    let chain = s.chain("dev");
    let mut rng = fastrand::Rng::with_seed(1);
    let owner = Owner::Service("near");
    let proof = |s: &Stage, cn: &str| s.ca.device(cn).unwrap().leaf_pem;
    assert!(matches!(
        s.directory.verify(owner, &proof(&s, "x"), s.now.wall),
        Err(StoreError::Conflict(_))
    ));
    let code = s.directory.verification_code(owner, &mut rng).unwrap();
    assert_eq!(code.len(), 48);
    assert!(
        s.directory
            .verify(owner, &proof(&s, "x"), s.now.wall)
            .unwrap_err()
            .to_string()
            .contains(&code)
    );
    let other = Stage::empty(Setup::default());
    let foreign = s.directory.verify(owner, &proof(&other, &code), s.now.wall);
    assert!(foreign.unwrap_err().to_string().contains("not signed"));
    assert_eq!(
        s.register("dev", &chain, json!({})).unwrap_err().refusal.rule.id,
        "dps/possession"
    );
    s.directory.verify(owner, &proof(&s, &code), s.now.wall).unwrap();
    assert_eq!(s.whole("dev", &chain, json!({})).body["status"], "assigned");
}

#[test]
fn an_intermediate_of_a_group_is_vouched_for_by_the_verified_root_above_it() {
    let mut s = Stage::empty(Setup::default());
    s.authority("root", &s.ca.root_pem(), false);
    let pem = s.ca.intermediate_pem();
    let signing = json!({"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": pem}}}});
    s.group("g", json!({"attestation": signing})).unwrap();
    let mut chain = s.chain("dev");
    chain.truncate(2);
    let rule = |r: Result<Reply, Fault>| r.unwrap_err().refusal.rule.id;
    assert_eq!(rule(s.register("dev", &chain, json!({}))), "dps/possession");
    s.authority("root", &s.ca.root_pem(), true);
    s.register("dev", &chain, json!({})).unwrap();
    // The leaf alone does not show that the root is above.
    assert_eq!(rule(s.register("dev", &chain[..1], json!({}))), "dps/possession");
    let code = s
        .directory
        .verification_code(Owner::Group("g"), &mut fastrand::Rng::with_seed(2))
        .unwrap();
    let proof = s.ca.device(&code).unwrap().leaf_pem;
    s.directory.verify(Owner::Group("g"), &proof, s.now.wall).unwrap();
    s.register("dev", &chain[..1], json!({})).unwrap();
}

#[test]
fn registering_again_follows_the_policy() {
    let enrolled = |update: bool, migrate: bool, hub: &str| {
        json!({"attestation": references("root"), "iotHubs": [hub],
            "reprovisionPolicy": {"updateHubAssignment": update, "migrateDeviceData": migrate}})
    };
    for (update, migrate, hub, substatus) in [
        (true, true, OTHER_HUB, "deviceDataMigrated"),
        (true, false, OTHER_HUB, "deviceDataReset"),
        (false, false, HUB, "initialAssignment"),
    ] {
        let mut s = Stage::new();
        s.registrations.hubs.push(OTHER_HUB.into());
        s.group("g", enrolled(update, migrate, HUB)).unwrap();
        let chain = s.chain("dev");
        let first = s.whole("dev", &chain, json!({})).body;
        assert_eq!(first["registrationState"]["assignedHub"], HUB);
        s.group("g", enrolled(update, migrate, OTHER_HUB)).unwrap();
        s.later(60);
        let second = s.whole("dev", &chain, json!({})).body;
        let state = |field: &str| second["registrationState"][field].as_str().unwrap();
        assert_eq!((state("assignedHub"), state("substatus")), (hub, substatus));
        assert_eq!(
            second["registrationState"]["createdDateTimeUtc"],
            first["registrationState"]["createdDateTimeUtc"]
        );
        assert_ne!(second["operationId"], first["operationId"]);
    }
}

#[test]
fn a_web_hook_chooses_and_answers_a_payload() {
    let mut s = Stage::new();
    let hook = |answer: Value| json!({"attestation": references("root"), "allocationPolicy": "custom", "customAllocationDefinition": {"answer": answer}});
    let body = || json!({"payload": {"temperature": "hot"}});
    let chain = s.chain("dev");
    s.group("g", hook(json!({"iotHubHostName": HUB, "echoPayload": true})))
        .unwrap();
    assert_eq!(
        s.whole("dev", &chain, body()).body["registrationState"]["payload"],
        json!({"temperature": "hot"})
    );
    s.group("g", hook(json!({"iotHubHostName": HUB, "payload": {"k": 1}})))
        .unwrap();
    assert_eq!(
        s.whole("dev", &chain, body()).body["registrationState"]["payload"],
        json!({"k": 1})
    );
    for (answer, code) in [
        (json!({"status": 400}), 400_207),
        (json!({"status": 200}), 400_207),
        (json!({"iotHubHostName": OTHER_HUB}), 400_209),
    ] {
        s.group("g", hook(answer)).unwrap();
        s.later(60);
        let reply = s.whole("dev", &chain, body());
        assert_eq!((reply.status, &reply.body["status"]), (200, &json!("failed")));
        assert_eq!(reply.body["registrationState"]["errorCode"], code);
    }
    s.group("g", json!({"attestation": references("root")})).unwrap();
    s.registrations.hubs.clear();
    s.later(60);
    let reply = s.whole("dev", &chain, body());
    assert_eq!(reply.body["registrationState"]["errorCode"], 400_208);
    let no_answer = json!({"attestation": references("root"), "allocationPolicy": "custom",
        "customAllocationDefinition": {"webhookUrl": "https://example.net/", "apiVersion": "2019-03-31"}});
    assert_eq!(s.group("g", no_answer).unwrap_err().status(), 400);
}

#[test]
fn the_status_look_up_tells_without_an_operation() {
    let mut s = Stage::new();
    let chain = s.chain("dev");
    let ask = |s: &mut Stage| {
        s.registrations
            .state(&s.directory, &id("dev"), &chain, s.now)
            .unwrap()
            .body
    };
    assert_eq!(ask(&mut s)["status"], "unassigned");
    s.register("dev", &chain, json!({})).unwrap();
    assert_eq!(ask(&mut s)["assignedHub"], HUB);
    assert!(s.registrations.forget("DEV"));
    assert_eq!(ask(&mut s)["status"], "unassigned");
}

#[test]
fn tables_are_bounded() {
    let mut s = Stage::new();
    let pem = s.ca.root_pem();
    let full = |r: Result<Value, StoreError>| assert!(matches!(r, Err(StoreError::Full(_))), "{r:?}");
    for n in 1..super::directory::AUTHORITIES_MAX {
        s.authority(&format!("c{n}"), &pem, false);
    }
    let body = json!({"properties": {"certificate": pem}});
    full(s.directory.put_certificate("more", &body));
    let by_print = |n: usize| json!({"attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"info": {"sha256Thumbprint": format!("{n:064x}")}}}}}});
    for n in 0..super::directory::INDIVIDUALS_MAX {
        s.individual(&format!("i{n}"), by_print(n)).unwrap();
    }
    full(s.individual("more", by_print(9_999)));
    s.individual("i7", by_print(9_999)).unwrap();
    // The registration used longest ago makes room.
    let chain = s.chain("first");
    s.register("first", &chain, json!({})).unwrap();
    let print = crate::bench::clouds::thumbprint::Thumbprint::of(&chain[0]).to_string();
    for n in 0..REGISTRATIONS_MAX {
        s.later(1);
        let name = format!("i{}", n % super::directory::INDIVIDUALS_MAX);
        let chain = s.chain(&name);
        let print = crate::bench::clouds::thumbprint::Thumbprint::of(&chain[0]).to_string();
        let leaf =
            json!({"type": "x509", "x509": {"clientCertificates": {"primary": {"info": {"sha256Thumbprint": print}}}}});
        s.individual(&name, json!({"attestation": leaf})).unwrap();
        s.register(&name, &chain, json!({})).unwrap();
    }
    assert!(
        s.registrations.show("first").is_none() && s.registrations.show("i0").is_some(),
        "{print}"
    );
}

#[test]
fn certificates_are_taken_in_the_ways_people_upload_them() {
    let s = Stage::empty(Setup::default());
    let pem = s.ca.root_pem();
    let der = super::enrollment::certificate(&pem).unwrap();
    let inner: String = pem.lines().filter(|l| !l.starts_with("---")).collect();
    assert_eq!(super::enrollment::certificate(&inner).unwrap(), der);
    for bad in [
        "",
        "x",
        "AAAA",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(super::enrollment::certificate(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn an_etag_guards_a_change_and_a_used_authority_stays() {
    let mut s = Stage::new();
    let e =
        |etag: &str| Enrollment::read(&json!({"attestation": references("root")}), false, etag.into(), "t").unwrap();
    let put = |s: &mut Stage, m: Option<&str>| s.directory.put(Kind::Group, "g", e("e2"), m, false).map(drop);
    assert_eq!(put(&mut s, Some("stale")).unwrap_err().status(), 412);
    put(&mut s, Some("\"e1\"")).unwrap();
    assert_eq!(put(&mut s, Some("e1")).unwrap_err().status(), 412);
    put(&mut s, Some("*")).unwrap();
    assert_eq!(s.directory.remove_certificate("root").unwrap_err().status(), 409);
    assert_eq!(s.directory.remove(Kind::Group, "no", None).unwrap_err().status(), 404);
    s.directory.remove(Kind::Group, "g", Some("e2")).unwrap();
    s.directory.remove_certificate("root").unwrap();
    assert_eq!(
        s.group("g", json!({"attestation": references("root")}))
            .unwrap_err()
            .status(),
        404
    );
}

/// How often each parser is given something at random.
const CASES: u32 = 4_096;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(CASES))]

    #[test]
    fn bodies_of_any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = Register::read(&bytes, &id("dev"), true);
        let _ = super::enrollment::certificate(&String::from_utf8_lossy(&bytes));
        let chain = [CertificateDer::from(bytes)];
        let nobody = Directory::default();
        let decided = nobody.decide(&id("dev"), &chain, Duration::ZERO);
        proptest::prop_assert_eq!(decided.unwrap_err().code, 401_002);
    }

    #[test]
    fn json_of_any_shape_is_enrolled_or_refused(
        key in "attestation|x509|type|iotHubs|reprovisionPolicy|deviceId|[a-z]{0,5}",
        text in ".{0,40}",
        number in proptest::prelude::any::<i64>(),
    ) {
        for value in [json!(text), json!(number), json!([text]), json!({key.clone(): text}), Value::Null] {
            let attestation = json!({"type": "x509", "x509": {"clientCertificates": {"primary": value}}});
            for body in [json!({key.clone(): value}), json!({"attestation": attestation, key.clone(): value})] {
                let _ = Enrollment::read(&body, true, String::new(), "");
            }
            let _ = Register::read(json!({"registrationId": value, "payload": value}).to_string().as_bytes(), &id("dev"), false);
        }
    }
}
