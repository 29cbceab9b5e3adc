//! Credentials over their life: renewed in time, proven before they replace the old, fetched anew when the agent slept too long.

use std::path::PathBuf;
use std::time::Duration;

use onyx::bench::clouds::{Cloud, Clouds, KryptonFault};
use onyx::clock::Clock;
use onyx::files::lock;
use onyx::tls::{Leaf, certificates};

use serde_json::Value;

use crate::krypton::{asked, assert_arrived};
use crate::program::Ended;
use crate::seqs::Arrived;
use crate::stage::{Agent, Bench, IMSI, PATIENCE, Toml, onyx_agent, wait_for};

const N: u64 = 5;
/// A certificate that is due 9 to 9.6 s after it was fetched.
const SHORT: Duration = Duration::from_secs(12);

/// Where a role of the set leads.
fn set(bench: &Bench, role: &str) -> Option<PathBuf> {
    let link = bench.path(&format!("state/credentials/krypton-azure-{IMSI}/{role}"));
    std::fs::canonicalize(link).ok()
}

/// How many sets there were so far: they are numbered from 1.
fn sets(bench: &Bench) -> usize {
    let numbers = ["current", "candidate", "previous"].into_iter().filter_map(|role| {
        let name = set(bench, role)?.file_name()?.to_str()?.to_owned();
        name.strip_prefix("set-")?.parse().ok()
    });
    numbers.max().unwrap_or(0)
}

/// Waits until a role has this certificate: the links are set one after the other.
fn wait_for_role(bench: &Bench, agent: &Agent, role: &str, pem: &str) {
    wait_for(
        &format!("the right {role} set"),
        || certificate(bench, role).filter(|there| there == pem),
        || agent.log(),
    );
}

/// Waits for a current certificate that is another than this one.
fn wait_for_other(bench: &Bench, agent: &Agent, pem: &str) -> String {
    wait_for(
        "another current set",
        || certificate(bench, "current").filter(|there| there != pem),
        || agent.log(),
    )
}

/// Waits until `status` says that a renewal failed: why, and what it says of the credentials.
fn wait_for_failure(agent: &Agent) -> (String, Value) {
    let status = agent.wait_status("a failed renewal", |v| v["credentials"]["renew_failure"].is_string());
    let credentials = status["credentials"].clone();
    (credentials["renew_failure"].as_str().unwrap().to_owned(), credentials)
}

fn certificate(bench: &Bench, role: &str) -> Option<String> {
    std::fs::read_to_string(set(bench, role)?.join("certificate.pem")).ok()
}

/// Stops the agent in order. The samples are numbered from 1 and acknowledged in order, so the first `acknowledged` have arrived, and
/// only those that were taken during the stop may be missing behind them.
fn all_arrived(agent: Agent, bench: &Bench, clouds: &Clouds) -> Ended {
    agent.terminate();
    let ended = agent.ends_well();
    let enough = |all: &[_]| Arrived::of_cloud(all, Cloud::IotHub).count() >= ended.acknowledged;
    bench.rt.block_on(clouds.wait_for_messages(PATIENCE, enough));
    let numbers = Arrived::of_cloud(&clouds.messages(), Cloud::IotHub).numbers();
    let missing: Vec<_> = (1..=ended.acknowledged).filter(|n| !numbers.contains(n)).collect();
    assert!(
        missing.is_empty() && ended.acknowledged > 0,
        "{missing:?}\n{}",
        ended.log
    );
    ended
}

fn until(bench: &Bench) -> Duration {
    let pem = certificate(bench, "current").unwrap();
    let leaf = certificates(pem.as_bytes(), "current").unwrap().remove(0);
    Leaf::read(&leaf, "current").unwrap().not_after
}

#[test]
fn a_certificate_is_renewed_again_and_again_and_no_sample_is_lost() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.certificate_life = SHORT);
    let toml = Toml::krypton(&clouds, Cloud::IotHub);
    let mut events = clouds.events();
    let agent = Agent::start(&bench, &toml, &[]);
    let first = wait_for("a first set", || certificate(&bench, "current"), || agent.log());
    let status = agent.wait_status("the renewal in status", |v| v["credentials"]["renew_from"].is_string());
    let c = &status["credentials"];
    assert_eq!(
        (c["source"].as_str(), c["set"].as_str()),
        (Some("krypton-azure"), Some("current"))
    );
    let (from, to) = (c["renew_from"].as_str().unwrap(), c["not_after"].as_str().unwrap());
    assert!(c["not_before"].as_str().unwrap() < from && from < to, "{c}");
    let second = wait_for_other(&bench, &agent, &first);
    wait_for_role(&bench, &agent, "previous", &first);
    let proven = agent.wait_status("a proven set that says so", |v| {
        let rung = v["ladder"]
            .as_array()
            .and_then(|l| l.iter().find(|r| r["rung"] == "credentials"));
        rung.is_some_and(|r| r["why"].as_str().is_some_and(|why| why.starts_with("certificate of")))
    });
    assert_eq!(proven["credentials"]["set"], "current", "{proven}");
    let third = wait_for_other(&bench, &agent, &second);
    wait_for_role(&bench, &agent, "previous", &second);
    assert_ne!(third, first);
    let ended = all_arrived(agent, &bench, &clouds);
    // A renewal may have been on its way when the agent was stopped.
    let (asked, sets) = (asked(&mut events), sets(&bench));
    assert!(
        sets >= 3 && (sets..=sets + 1).contains(&asked),
        "{asked} requests for {sets} sets"
    );
    assert!(ended.log.contains("are proven by this connection"), "{}", ended.log);
}

#[test]
fn a_new_set_that_does_not_connect_gives_way_to_the_old() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.certificate_life = Duration::from_secs(120));
    let mut toml = Toml::krypton(&clouds, Cloud::IotHub);
    toml.credentials += "renew_at = 10\n";
    let agent = Agent::start(&bench, &toml, &[]);
    let first = wait_for("a first set", || certificate(&bench, "current"), || agent.log());
    agent.wait_acknowledged(1);
    // From the next connection on, which is the one with the new set, the hub refuses as many as the trial takes.
    clouds.put_fault(&"iot-hub:refuse-5*5".parse().unwrap()).unwrap();
    wait_for(
        "the new set dropped",
        || agent.log().contains("the new ones are dropped").then_some(()),
        || agent.log(),
    );
    assert_eq!(certificate(&bench, "current"), Some(first));
    wait_for(
        "no candidate left",
        || set(&bench, "candidate").is_none().then_some(()),
        || agent.log(),
    );
    let (_, credentials) = wait_for_failure(&agent);
    assert!(credentials["renew_next"].is_string(), "{credentials}");
    all_arrived(agent, &bench, &clouds);
}

#[test]
fn while_nobody_renews_the_old_set_goes_on_and_the_next_try_comes_by_itself() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.certificate_life = Duration::from_secs(60));
    let mut toml = Toml::krypton(&clouds, Cloud::IotHub);
    toml.credentials += "renew_at = 10\n";
    let agent = Agent::start(&bench, &toml, &[]);
    let first = wait_for("a first set", || certificate(&bench, "current"), || agent.log());
    clouds.put_fault(&"krypton:http-500*1".parse().unwrap()).unwrap();
    let (why, _) = wait_for_failure(&agent);
    assert!(why.contains("HTTP 500"), "{why}");
    assert_eq!(certificate(&bench, "current").as_ref(), Some(&first));
    wait_for_other(&bench, &agent, &first);
    all_arrived(agent, &bench, &clouds);
}

#[test]
fn an_agent_that_was_off_for_longer_than_the_certificate_lived_provisions_again() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.certificate_life = Duration::from_secs(4));
    let toml = Toml::krypton(&clouds, Cloud::IotHub);
    let mut events = clouds.events();
    Agent::until(&bench, &toml, N).delivers(N);
    assert_eq!(asked(&mut events), 1);
    let end = until(&bench);
    let clock = Clock::new();
    wait_for(
        "expired",
        || clock.now().filter(|(now, _)| *now > end),
        || "the clock stands".to_owned(),
    );
    let ended = Agent::until(&bench, &toml, N).delivers(N);
    assert!(ended.log.contains("the certificate expired on"), "{}", ended.log);
    assert_eq!(asked(&mut events), 1);
    assert_arrived(&bench, &clouds, Cloud::IotHub, 2 * N);
}

#[test]
fn what_provision_fetched_is_used_by_the_next_run_and_proven_by_it() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let toml = Toml::krypton(&clouds, Cloud::IotHub);
    Agent::until(&bench, &toml, N).delivers(N);
    let first = certificate(&bench, "current").unwrap();
    let config = toml.write(&bench);
    let (output, out, err) = onyx_agent(&["provision", "--force", "--json", "--config", config.to_str().unwrap()]);
    assert!(output.status.success(), "{out}{err}");
    assert_eq!(
        certificate(&bench, "current").as_ref(),
        Some(&first),
        "nothing proved the new set yet"
    );
    let second = certificate(&bench, "candidate").unwrap();
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
    let directory = std::fs::canonicalize(shown["directory"].as_str().unwrap()).unwrap();
    assert_eq!(Some(directory), set(&bench, "candidate"));
    Agent::until(&bench, &toml, N).delivers(N);
    assert_eq!(certificate(&bench, "current"), Some(second));
    assert_eq!(certificate(&bench, "previous"), Some(first));
    assert_eq!(set(&bench, "candidate"), None);
    assert_arrived(&bench, &clouds, Cloud::IotHub, 2 * N);
}

/// The hub's connections are cut again and again while a renewal is on its way: it goes on beside the next one, because each that is
/// begun costs a certificate.
#[test]
fn a_renewal_outlives_the_session_beside_which_it_began() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.certificate_life = Duration::from_secs(60));
    let mut toml = Toml::krypton(&clouds, Cloud::IotHub);
    toml.credentials += "renew_at = 10\npolls_max = 1000\n";
    let mut events = clouds.events();
    let agent = Agent::start(&bench, &toml, &[]);
    let first = wait_for("a first set", || certificate(&bench, "current"), || agent.log());
    agent.wait_acknowledged(1);
    clouds.set_krypton_fault(Some(KryptonFault::NeverAssigned.into()));
    wait_for(
        "the renewal",
        || agent.log().contains("is to be renewed").then_some(()),
        || agent.log(),
    );
    for _ in 0..3 {
        clouds.restart_mqtt(false);
        agent.wait_status("the session gone", |v| v["ladder"][6]["state"] != "up");
        let before = agent.wait_up("session");
        assert_eq!(before["rung"], "session");
        let so_far = agent.status().unwrap()["delivery"]["acknowledged"].as_u64().unwrap();
        agent.wait_acknowledged(so_far + 1);
    }
    assert_eq!(certificate(&bench, "current").as_ref(), Some(&first));
    clouds.set_krypton_fault(None);
    wait_for_other(&bench, &agent, &first);
    all_arrived(agent, &bench, &clouds);
    assert_eq!(asked(&mut events), 2, "the first and the new one");
}

#[test]
fn a_renewal_that_could_not_be_kept_costs_no_certificate() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.certificate_life = Duration::from_secs(120));
    let mut toml = Toml::krypton(&clouds, Cloud::IotHub);
    toml.credentials += "renew_at = 10\n";
    let mut events = clouds.events();
    let agent = Agent::start(&bench, &toml, &[]);
    let first = wait_for("a first set", || certificate(&bench, "current"), || agent.log());
    // Somebody writes there and does not end.
    let path = bench.path(&format!("state/credentials/krypton-azure-{IMSI}/.lock"));
    let lock = wait_for("the lock", || lock(&path).unwrap(), || agent.log());
    let (why, _) = wait_for_failure(&agent);
    assert!(
        why.contains("none are asked for") && why.contains("another onyx-agent"),
        "{why}"
    );
    assert_eq!(asked(&mut events), 1, "the first alone");
    drop(lock);
    wait_for_other(&bench, &agent, &first);
    all_arrived(agent, &bench, &clouds);
}

/// What Krypton grants cannot be used, and each grant costs a certificate: the pauses grow beyond those of connections.
#[test]
fn certificates_that_cannot_be_used_are_asked_for_ever_more_seldom() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    clouds.set_krypton_fault(Some(KryptonFault::WrongKey.into()));
    let toml = Toml::krypton(&clouds, Cloud::AwsIot);
    let agent = Agent::start(&bench, &toml, &[]);
    // session.retry_max is one second.
    agent.wait_status("a longer pause", |v| {
        v["ladder"][5]["retry_in_s"].as_f64().is_some_and(|s| s > 2.0)
    });
    agent.terminate();
    agent.ends_well();
}

#[test]
fn by_force_one_is_fetched_whatever_else_is_wrong() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let mut toml = Toml::krypton(&clouds, Cloud::IotHub);
    Agent::until(&bench, &toml, N).delivers(N);
    let mut events = clouds.events();
    toml.session += "ca_file = 'nowhere.pem'\n";
    let config = toml.write(&bench);
    let (output, _, err) = onyx_agent(&[
        "provision",
        "--force",
        "--timeout",
        "14",
        "--config",
        config.to_str().unwrap(),
    ]);
    assert!(!output.status.success() && err.contains("session.ca_file"), "{err}");
    assert_eq!(asked(&mut events), 1, "{err}");
}
