//! The modem misbehaves: the modem rung says so, samples are taken meanwhile, and all goes well once the fault is gone.

use onyx::bench::clouds::Cloud;
use onyx::bench::dongle::scenario::Event;

use crate::krypton::assert_arrived;
use crate::mosquitto::Mosquitto;
use crate::mosquitto_direct::witness;
use crate::seqs::Arrived;
use crate::stage::{Agent, Bench, OTHER_IMSI, Toml, rung_of};

const N: u64 = 20;

/// Starts with a dongle by `scenario`; after the fault was seen on `rung`, `heal` heals it and all samples arrive.
fn heals(scenario: &str, rung: &str, why: &[&str], cure: &[&str], heal: impl FnOnce(&Bench)) {
    let bench = Bench::with(scenario);
    let clouds = bench.clouds();
    let agent = Agent::until(&bench, &Toml::stand_in(&clouds, Cloud::EventGrid), N);
    agent.wait_down(rung, why, cure);
    let status = agent.wait_status("all accepted", |v| v["delivery"]["accepted"] == N);
    assert_eq!(rung_of(&status, "session")["state"], "below");
    heal(&bench);
    agent.delivers(N);
    let arrived = assert_arrived(&bench, &clouds, Cloud::EventGrid, N);
    assert_eq!(arrived.numbers(), (1..=N).collect());
}

#[test]
fn silent() {
    heals(
        "[[event]]\nat = '0s'\ndo = 'silent'\n",
        "modem",
        &["does not answer AT"],
        &["AT port", "power cycle"],
        |bench| bench.inject(Event::Talk),
    );
}

#[test]
fn garbage() {
    heals(
        "[noise]\ngarbage_only = true\n",
        "modem",
        &["garbage"],
        &["AT port (USB interface 2)", "ModemManager"],
        |bench| bench.inject(Event::Talk),
    );
}

#[test]
fn absent_then_plugged_in() {
    let bench = Bench::without_dongle();
    let clouds = bench.clouds();
    let agent = Agent::until(&bench, &Toml::stand_in(&clouds, Cloud::EventGrid), N);
    agent.wait_down("modem", &["cannot open", "onyx-at"], &["plug"]);
    bench.plug("", crate::stage::IMSI);
    agent.delivers(N);
    assert_arrived(&bench, &clouds, Cloud::EventGrid, N);
}

#[test]
fn unplugged_and_plugged_in_again_while_the_session_lives() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let witness = witness(&mosquitto);
    let agent = Agent::start(&bench, &Toml::gateway(mosquitto.plain()), &[]);
    agent.wait_acknowledged(5);
    bench.inject(Event::Unplug(None));
    agent.wait_down_times("modem", &["onyx-at"], &[], 1);
    // The session does not need the AT port.
    let before = agent.status().unwrap()["delivery"]["acknowledged"].as_u64().unwrap();
    let status = agent.wait_acknowledged(before + 10);
    assert_eq!(rung_of(&status, "session")["state"], "up");
    assert_eq!(rung_of(&status, "modem")["state"], "down");
    bench.inject(Event::Plug);
    agent.wait_up("modem");
    let status = agent.wait_status("the network is up", |v| rung_of(v, "network")["state"] == "up");
    assert_eq!(rung_of(&status, "delivery")["state"], "up");
    agent.terminate();
    let ended = agent.wait();
    assert!(ended.status.success());
    let text = witness.wait_until(|t| Arrived::of_witness(t).count() >= ended.acknowledged);
    assert_eq!(
        Arrived::of_witness(&text).duplicates,
        0,
        "one session from begin to end"
    );
    let connects = mosquitto
        .log()
        .iter()
        .filter(|l| l.contains("New client connected") && l.contains("myClient"))
        .count();
    assert_eq!(connects, 1);
}

#[test]
fn a_crash_of_the_modem_is_survived() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let agent = Agent::start(&bench, &Toml::gateway(mosquitto.plain()), &[]);
    agent.wait_acknowledged(5);
    let identified = bench.asked("ATI");
    bench.inject(Event::Crash);
    crate::stage::wait_for(
        "identified again",
        || (bench.asked("ATI") > identified).then_some(()),
        || agent.log(),
    );
    agent.wait_up("network");
    let before = agent.status().unwrap()["delivery"]["acknowledged"].as_u64().unwrap();
    agent.wait_acknowledged(before + 5);
}

#[test]
fn the_network_lost_and_found_while_the_session_lives() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let witness = witness(&mosquitto);
    let agent = Agent::start(&bench, &Toml::gateway(mosquitto.plain()), &[]);
    agent.wait_acknowledged(5);
    bench.inject(Event::LoseNetwork(None));
    agent.wait_status("the network is down", |v| rung_of(v, "network")["state"] == "down");
    // The bench's broker is not behind the lost network, so the session shows whether the agent tore it down.
    let before = agent.status().unwrap()["delivery"]["acknowledged"].as_u64().unwrap();
    let status = agent.wait_acknowledged(before + 5);
    assert_eq!(rung_of(&status, "session")["state"], "up");
    bench.inject(Event::FindNetwork);
    agent.wait_up("network");
    agent.terminate();
    let ended = agent.wait();
    let text = witness.wait_until(|t| Arrived::of_witness(t).count() >= ended.acknowledged);
    assert_eq!(Arrived::of_witness(&text).duplicates, 0);
}

/// A refusal is left alone for at least a minute, but the modem's own announcement ends the wait at once.
#[test]
fn refused_by_the_network() {
    let bench = Bench::with("[network]\nregistration = 'denied'\ndenied_cause = 'Illegal UE'\n");
    let clouds = bench.clouds();
    let agent = Agent::until(&bench, &Toml::stand_in(&clouds, Cloud::EventGrid), N);
    let why = ["the network refuses this SIM", "Illegal UE"];
    let line = agent.wait_down_times("network", &why, &["SORACOM console", "APN"], 1);
    assert!(line["retry_in_s"].as_u64().unwrap() > 30, "{line}");
    agent.wait_status("all accepted", |v| v["delivery"]["accepted"] == N);
    bench.inject(Event::FindNetwork);
    agent.delivers(N);
    let arrived = assert_arrived(&bench, &clouds, Cloud::EventGrid, N);
    assert_eq!(arrived.numbers(), (1..=N).collect());
}

#[test]
fn another_sim_while_it_runs_ends_the_session_under_the_old_name() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let witness = witness(&mosquitto);
    let agent = Agent::start(&bench, &Toml::gateway(mosquitto.plain()), &[]);
    agent.wait_acknowledged(5);
    bench.unplug();
    bench.plug("", OTHER_IMSI);
    mosquitto.wait_for(&["New client connected", &format!("as myClient-{OTHER_IMSI}-")]);
    mosquitto.wait_for(&["Received DISCONNECT from", &crate::stage::client_id()]);
    let before = agent.status().unwrap()["delivery"]["acknowledged"].as_u64().unwrap();
    agent.wait_acknowledged(before + 5);
    agent.terminate();
    let ended = agent.wait();
    assert!(ended.log.contains("another SIM is in the dongle"), "{}", ended.log);
    // Those taken in the last moment may still wait in the spool.
    let text = witness.wait_until(|t| Arrived::of_witness(t).count() >= ended.acknowledged);
    let numbers = Arrived::of_witness(&text).numbers();
    assert_eq!(
        numbers,
        (1..=*numbers.last().unwrap()).collect(),
        "nothing was left out at the change"
    );
}
