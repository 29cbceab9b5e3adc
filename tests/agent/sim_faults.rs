//! The SIM misbehaves, or wants its PIN.

use onyx::bench::clouds::Cloud;
use onyx::bench::dongle::scenario::Event;

use crate::krypton::assert_arrived;
use crate::stage::{Agent, Bench, IMSI, Toml, rung_of};

const N: u64 = 20;

#[test]
fn no_sim_then_one_is_put_in() {
    let bench = Bench::with("[sim]\nstate = 'absent'\n");
    let clouds = bench.clouds();
    let agent = Agent::until(&bench, &Toml::stand_in(&clouds, Cloud::EventGrid), N);
    agent.wait_down("sim", &["no SIM in the dongle"], &["put a SIM in"]);
    let status = agent.wait_status("all accepted", |v| v["delivery"]["accepted"] == N);
    assert_eq!(rung_of(&status, "modem")["state"], "up");
    bench.inject(Event::InsertSim);
    agent.delivers(N);
    assert_arrived(&bench, &clouds, Cloud::EventGrid, N);
}

#[test]
fn a_busy_sim_is_waited_for() {
    let bench = Bench::with("[sim]\nready_after = '3s'\n");
    let clouds = bench.clouds();
    let agent = Agent::until(&bench, &Toml::stand_in(&clouds, Cloud::EventGrid), N);
    let ended = agent.delivers(N);
    assert!(ended.log.contains("the SIM is still starting"), "{}", ended.log);
    assert!(
        !ended.log.contains("\"rung\":\"sim\",\"state\":\"down\""),
        "busy is no fault:\n{}",
        ended.log
    );
    assert_arrived(&bench, &clouds, Cloud::EventGrid, N);
}

fn with_pin(bench: &Bench, toml: &mut Toml, pin: &str) {
    bench.write("pin", &format!("{pin}\n"));
    toml.more = "[sim]\npin_file = 'pin'\n".into();
}

/// Eight digits, which no time in the log has by chance.
#[test]
fn the_right_pin_is_entered_once() {
    let bench = Bench::with("[sim]\nstate = 'pin'\npin = '47110815'\n");
    let clouds = bench.clouds();
    let mut toml = Toml::stand_in(&clouds, Cloud::EventGrid);
    with_pin(&bench, &mut toml, "47110815");
    let ended = Agent::until(&bench, &toml, N).delivers(N);
    assert!(!ended.log.contains("47110815"), "the PIN is in the log");
    assert_eq!(bench.asked("AT+CPIN="), 1);
    assert_arrived(&bench, &clouds, Cloud::EventGrid, N);
}

#[test]
fn a_pin_is_wanted_and_none_is_given() {
    let bench = Bench::with("[sim]\nstate = 'pin'\n");
    let clouds = bench.clouds();
    let agent = Agent::until(&bench, &Toml::stand_in(&clouds, Cloud::EventGrid), N);
    agent.wait_down("sim", &["wants its PIN", "3 attempts left"], &["sim.pin_file"]);
    assert_eq!(bench.asked("AT+CPIN="), 0);
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let bench = Bench::with("[sim]\nstate = 'pin'\npin = '1234'\n");
    let clouds = bench.clouds();
    let mut toml = Toml::stand_in(&clouds, Cloud::EventGrid);
    with_pin(&bench, &mut toml, "9999");
    let agent = Agent::until(&bench, &toml, N);
    agent.wait_down_times(
        "sim",
        &["did not take the PIN", "2 attempts left", "not tried again"],
        &["sim.pin_file"],
        3,
    );
    assert_eq!(bench.asked("AT+CPIN="), 1);
    // A card without this trouble is put in, and what was taken meanwhile is delivered.
    agent.wait_status("all accepted", |v| v["delivery"]["accepted"] == N);
    bench.unplug();
    bench.plug("", IMSI);
    agent.delivers(N);
    assert_arrived(&bench, &clouds, Cloud::EventGrid, N);
}

#[test]
fn the_last_try_is_never_used() {
    let bench = Bench::with("[sim]\nstate = 'pin'\npin_retries = 1\npin = '1234'\n");
    let clouds = bench.clouds();
    let mut toml = Toml::stand_in(&clouds, Cloud::EventGrid);
    with_pin(&bench, &mut toml, "1234");
    let agent = Agent::until(&bench, &toml, N);
    agent.wait_down("sim", &["PIN was not entered", "only 1 attempt"], &["phone"]);
    assert_eq!(bench.asked("AT+CPIN="), 0);
}

#[test]
fn a_locked_sim_names_the_puk() {
    let bench = Bench::with("[sim]\nstate = 'puk'\n");
    let clouds = bench.clouds();
    let agent = Agent::until(&bench, &Toml::stand_in(&clouds, Cloud::EventGrid), N);
    agent.wait_down("sim", &["PUK"], &["PUK", "phone"]);
}
