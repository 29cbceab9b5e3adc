//! Start and end, and what the service manager is told.

use std::os::unix::net::UnixDatagram;

use crate::mosquitto::Mosquitto;
use crate::stage::{Agent, Bench, PATIENCE, Toml, client_id, onyx_agent};

#[test]
fn sigterm_says_goodbye_and_ends_well() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let agent = Agent::start(&bench, &Toml::gateway(mosquitto.plain()), &[]);
    agent.wait_acknowledged(3);
    agent.terminate();
    let ended = agent.wait();
    assert!(ended.status.success(), "{}", ended.log);
    assert!(ended.log.contains("SIGTERM: stopping") && ended.log.contains("onyx-agent ends"));
    mosquitto.wait_for(&["Received DISCONNECT from", &client_id()]);
    assert!(!bench.path("agent.sock").exists());
}

#[test]
fn sigterm_ends_it_on_every_rung() {
    let bench = Bench::without_dongle();
    let nobody = ([127, 0, 0, 1], crate::mosquitto::free_port()).into();
    let agent = Agent::start(&bench, &Toml::gateway(nobody), &[]);
    agent.wait_down_times("modem", &[], &[], 1);
    agent.terminate();
    agent.ends_well();
    bench.plug("[network]\nregistration = 'none'\n", crate::stage::IMSI);
    let agent = Agent::start(&bench, &Toml::gateway(nobody), &[]);
    agent.wait_status("searching", |v| {
        crate::stage::rung_of(v, "network")["why"]
            .as_str()
            .unwrap()
            .contains("searching")
    });
    agent.terminate();
    agent.ends_well();
    bench.unplug();
    bench.plug("", crate::stage::IMSI);
    let agent = Agent::start(&bench, &Toml::gateway(nobody), &[]);
    agent.wait_down("session", &[], &[]);
    agent.terminate();
    agent.ends_well();
}

#[test]
fn a_second_instance_is_refused() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let mut toml = Toml::gateway(mosquitto.plain());
    let first = Agent::start(&bench, &toml, &[]);
    first.wait_acknowledged(1);
    // The same state directory.
    let second = Agent::start(&bench, &toml, &[]).wait();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        second.log.contains("in use by another process; stop the other agent"),
        "{}",
        second.log
    );
    // Another state directory, the same socket.
    toml.top = toml.top.replace("'state'", "'state-2'");
    let third = Agent::start(&bench, &toml, &[]).wait();
    assert_eq!(third.status.code(), Some(1));
    assert!(
        third.log.contains("another instance already answers on"),
        "{}",
        third.log
    );
    assert!(third.log.contains("status_socket"), "{}", third.log);
    // The first one took no harm.
    let before = first.status().unwrap()["delivery"]["acknowledged"].as_u64().unwrap();
    first.wait_acknowledged(before + 3);
}

#[test]
fn a_socket_left_by_a_kill_is_replaced() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let toml = Toml::gateway(mosquitto.plain());
    let agent = Agent::start(&bench, &toml, &[]);
    agent.wait_acknowledged(1);
    agent.kill();
    assert!(bench.path("agent.sock").exists());
    let (output, _, err) = onyx_agent(&["status", "--socket", bench.path("agent.sock").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let agent = Agent::start(&bench, &toml, &[]);
    agent.wait_acknowledged(1);
}

#[test]
fn run_takes_exactly_as_many_as_it_was_told() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    Agent::until(&bench, &Toml::gateway(mosquitto.plain()), 7).delivers(7);
    let log = mosquitto.log();
    assert_eq!(
        log.iter()
            .filter(|l| l.contains("Received PUBLISH from myClient"))
            .count(),
        7
    );
}

#[test]
fn the_service_manager_is_told() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let socket = UnixDatagram::bind(bench.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = Toml::gateway(mosquitto.plain()).write(&bench);
    let agent = Agent::spawn(&bench, &config, &[], |c| {
        c.env("NOTIFY_SOCKET", bench.path("notify"))
            .env("WATCHDOG_USEC", "1500000");
    });
    let mut told = String::new();
    let mut until = |enough: &dyn Fn(&str) -> bool| {
        let mut bytes = [0; 4096];
        while !enough(&told) {
            let n = socket
                .recv(&mut bytes)
                .unwrap_or_else(|e| panic!("{e}; told so far:\n{told}"));
            told += std::str::from_utf8(&bytes[..n]).unwrap();
            if !told.ends_with('\n') {
                told.push('\n');
            }
        }
        told.clone()
    };
    // Ready although nothing is up yet: being offline is no failure.
    let first = until(&|t| t.contains("READY=1"));
    assert!(!first.contains("all rungs are up"), "{first}");
    until(&|t| t.contains("STATUS=all rungs are up"));
    until(&|t| t.matches("WATCHDOG=1").count() >= 3);
    agent.terminate();
    until(&|t| t.contains("STOPPING=1"));
    agent.ends_well();
    crate::stage::assert_discreet(&told);
}

#[test]
fn the_watchdog_is_fed_while_the_modem_is_absent() {
    let bench = Bench::without_dongle();
    let socket = UnixDatagram::bind(bench.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = Toml::gateway(([127, 0, 0, 1], 9).into()).write(&bench);
    let _agent = Agent::spawn(&bench, &config, &[], |c| {
        c.env("NOTIFY_SOCKET", bench.path("notify"))
            .env("WATCHDOG_USEC", "900000");
    });
    let mut told = String::new();
    let mut bytes = [0; 4096];
    while !(told.contains("STATUS=modem down: cannot open") && told.matches("WATCHDOG=1").count() >= 5) {
        let n = socket.recv(&mut bytes).unwrap();
        told += std::str::from_utf8(&bytes[..n]).unwrap();
    }
}

/// An agent that writes into files without a name would lose everything at its end and look well until then.
#[test]
fn a_spool_that_is_deleted_under_it_ends_it_and_the_next_start_makes_a_new_one() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let toml = Toml::gateway(mosquitto.plain());
    let agent = Agent::start(&bench, &toml, &[]);
    agent.wait_acknowledged(3);
    std::fs::remove_dir_all(bench.path("state/spool")).unwrap();
    let ended = agent.wait();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    assert!(ended.log.contains("was removed while it was in use"), "{}", ended.log);
    Agent::until(&bench, &toml, 5).delivers(5);
}

/// `| head` and the like: the reader has what it wanted, and nobody is told otherwise.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let bench = Bench::new();
    let config = Toml::gateway(([127, 0, 0, 1], 1).into()).write(&bench);
    let script = r#""$0" check --config "$1" | true; exit "${PIPESTATUS[0]}""#;
    let output = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_onyx-agent")])
        .arg(&config)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.is_empty(), "{:?} {text}", output.status);
    let full = std::process::Command::new(env!("CARGO_BIN_EXE_onyx-agent"))
        .args(["check", "--config"])
        .arg(&config)
        .stdout(std::fs::File::create("/dev/full").unwrap())
        .output()
        .unwrap();
    assert_eq!(full.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&full.stderr).contains("cannot write to standard output"));
}
