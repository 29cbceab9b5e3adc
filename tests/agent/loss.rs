//! What was accepted arrives, whatever falls: connections, the broker, the agent itself.

use crate::mosquitto::Mosquitto;
use crate::mosquitto_direct::witness;
use crate::seqs::Arrived;
use crate::stage::{Agent, Bench, Toml, rung_of};
use crate::wire::Wire;

#[test]
fn five_hundred_samples_over_a_line_that_breaks_again_and_again() {
    const N: u64 = 500;
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let witness = witness(&mosquitto);
    let wire = Wire::new(mosquitto.plain());
    // Every connection is cut at this byte, wherever in a message that is: some thirty samples fit in front of it.
    wire.cut_after(12_345);
    let mut toml = Toml::gateway(wire.address);
    toml.delivery = toml.delivery.replace("'20ms'", "'10ms'");
    Agent::until(&bench, &toml, N).delivers(N);
    let text = witness.wait_until(|t| Arrived::of_witness(t).count() >= N);
    let arrived = Arrived::of_witness(&text);
    assert_eq!(arrived.numbers(), (1..=N).collect());
    assert!(wire.cuts() >= 9, "only {} cuts", wire.cuts());
    // Only what was in flight at a cut can come twice: at most one window for each.
    assert!(
        arrived.duplicates as u64 <= wire.cuts() * 16,
        "{} copies",
        arrived.duplicates
    );
    println!("{N} samples, {} cuts, {} copies", wire.cuts(), arrived.duplicates);
}

#[test]
fn the_broker_is_killed_and_started_while_samples_flow() {
    let bench = Bench::new();
    let mut mosquitto = Mosquitto::start(bench.dir.path(), None);
    let agent = Agent::start(&bench, &Toml::gateway(mosquitto.plain()), &[]);
    let acknowledged = |v: &serde_json::Value| v["delivery"]["acknowledged"].as_u64().unwrap();
    let mut so_far = 0;
    for _ in 0..3 {
        agent.wait_acknowledged(so_far + 10);
        mosquitto.stop();
        let down = agent.wait_status("the session is down", |v| rung_of(v, "session")["state"] == "down");
        so_far = acknowledged(&down);
        assert!(mosquitto.start_again(), "the port was taken meanwhile");
    }
    agent.wait_acknowledged(so_far + 10);
    agent.terminate();
    let ended = agent.wait();
    assert!(ended.status.success());
    // A witness would fall with the broker, so the brokers' logs are the witness; they show no content.
    let log = mosquitto.log();
    let count = |what: &str| log.iter().filter(|l| l.contains(what)).count() as u64;
    assert!(count("Sending PUBACK to myClient") >= ended.acknowledged);
    assert!(count("New client connected") >= 4);
}

#[test]
fn killed_at_ten_moments_nothing_accepted_is_lost_and_no_number_is_used_twice() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let witness = witness(&mosquitto);
    let mut toml = Toml::gateway(mosquitto.plain());
    toml.delivery = toml.delivery.replace("'20ms'", "'10ms'") + "sync = '0s'\n";
    let mut accepted = 0;
    for moment in [3, 47, 12, 80, 5, 31, 66, 20, 9, 55] {
        let agent = Agent::start(&bench, &toml, &[]);
        let status = agent.wait_status("some are accepted", |v| {
            v["delivery"]["accepted"].as_u64().unwrap() >= moment
        });
        agent.kill();
        accepted += status["delivery"]["accepted"].as_u64().unwrap();
    }
    toml.delivery = toml.delivery.replace("'10ms'", "'1h'");
    let last = Agent::start(&bench, &toml, &[]);
    let status = last.wait_status("all that waited is delivered", |v| {
        v["delivery"]["acknowledged"].as_u64().unwrap() > 0 && v["delivery"]["spool"]["waiting"] == 0
    });
    assert_eq!(status["delivery"]["spool"]["lost"], 0, "{status}");
    let next = status["delivery"]["spool"]["next"].as_u64().unwrap();
    last.terminate();
    last.ends_well();
    // `of_witness` compares the contents of equal numbers. What was acknowledged just before a kill may come a second time.
    let text = witness.wait_until(|t| Arrived::of_witness(t).numbers().contains(&(next - 1)));
    let arrived = Arrived::of_witness(&text);
    let spools: std::collections::BTreeSet<_> = arrived.samples.keys().map(|(s, _)| s).collect();
    assert_eq!(spools.len(), 1, "the spool was made once");
    assert_eq!(
        arrived.numbers(),
        (1..next).collect(),
        "every number ever given arrived"
    );
    assert!(arrived.count() >= accepted, "{} of {accepted}", arrived.count());
    // The spool writes its cursor every 256 acknowledgements or 60 s: that much may come again after a kill, and the window.
    assert!(arrived.duplicates <= 10 * (256 + 16), "{} copies", arrived.duplicates);
    println!(
        "{accepted} seen accepted before ten kills, {} arrived, {} copies",
        arrived.count(),
        arrived.duplicates
    );
}
