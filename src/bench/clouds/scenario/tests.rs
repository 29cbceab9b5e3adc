//! Scenario files as people write them, and what they bring.

use std::path::Path;

use super::*;
use crate::bench::clouds::journal::{Event, What};

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse(Path::new("s.toml"), text).map_err(|e| e.to_string())
}

#[test]
fn everything_the_help_names_is_understood() {
    let text = r#"
        [[event]]
        at = "10s"
        cloud = "iot-hub"
        client = "pi-1"
        fault = "no-puback*2"
        [[event]]
        when = { connects = 3, client = "pi-1" }
        restart = "forget-sessions"
        closed_for = "5s"
        [[event]]
        at = "1min"
        clear = true
        [[event]]
        at = "1min"
        clear = "no-puback"
        [[event]]
        when = { messages = 1 }
        cloud = "aws-iot"
        clock = "-400d"
        [[event]]
        at = "2s"
        client = "pi-1"
        cut = true
    "#;
    let events = parse(text).unwrap().events;
    let spec: Spec = "iot-hub:no-puback*2 for client \"pi-1\"".parse().unwrap();
    assert_eq!(
        events[0],
        Planned {
            when: When::At(Duration::from_secs(10)),
            deed: Deed::Fault(spec)
        }
    );
    assert_eq!(
        events[1].deed,
        Deed::Restart {
            cloud: None,
            forget_sessions: true,
            closed_for: Duration::from_secs(5)
        }
    );
    assert_eq!(events[2].deed, Deed::Clear(None, None));
    assert_eq!(events[3].deed, Deed::Clear(None, Some("no-puback".parse().unwrap())));
    assert_eq!(events[4].deed, Deed::Clock(Some(Cloud::AwsIot), -34_560_000_000));
    assert_eq!(events[5].deed, Deed::Cut(None, "pi-1".into()));
    for key in text.lines().filter_map(|l| l.split_once(" =")).map(|(k, _)| k.trim()) {
        assert!(HELP.contains(&format!("{key} =")), "{key} is not in the help");
    }
}

#[test]
fn the_readmes_scenario_and_faults_are_good() {
    let readme = include_str!("../../../../docs/clouds.md");
    let from = readme.find("[[event]]").unwrap();
    let text = readme[from..].split("```").next().unwrap();
    assert_eq!(parse(text).unwrap().events.len(), 2);
    let lines = readme.lines().filter(|l| l.starts_with("onyx-bench clouds"));
    let quoted: Vec<_> = lines.flat_map(|l| l.split('\'').skip(1).step_by(2)).collect();
    assert_eq!(quoted.len(), 4);
    for spec in quoted {
        assert!(spec.parse::<Spec>().is_ok(), "{spec}");
    }
}

#[test]
fn every_fault_of_every_stand_in_is_in_the_help() {
    let words = HELP.replace("...", "…");
    for name in Fault::all_names().split([',', '…']).map(str::trim) {
        assert!(words.contains(name), "{name} is not in the help");
    }
}

#[test]
fn every_mistake_has_its_place_and_all_come_at_once() {
    for (text, wanted) in [
        ("[[event]]\nat = 'soon'\nclear = true\n", "s.toml:2:6: event.at"),
        (
            "[[event]]\nat = '1s'\nfault = 'explode'\n",
            "s.toml:3:9: event.fault: \"explode\" is no fault",
        ),
        (
            "[[event]]\nat = '1s'\ncloud = 'moon'\nclear = true\n",
            "s.toml:3:9: event.cloud",
        ),
        (
            "[[event]]\nat = '1s'\ncloud = 'beam'\nfault = 'cert-expired'\n",
            "beam cannot have cert-expired",
        ),
        (
            "[[event]]\nat = '1s'\nclient = 'd'\nfault = 'stall@accept'\n",
            "before the client id is known",
        ),
        (
            "[[event]]\nat = '1s'\ncloud = 'dps'\nfault = 'iot-hub:no-puback'\n",
            "names another one",
        ),
        ("[[event]]\nat = '1s'\n", "does nothing"),
        ("[[event]]\nclear = true\n", "says when"),
        (
            "[[event]]\nat = '1s'\nwhen = { connects = 1 }\nclear = true\n",
            "not both",
        ),
        ("[[event]]\nwhen = { connects = 0 }\nclear = true\n", "is outside 1"),
        (
            "[[event]]\nwhen = { connects = 1, messages = 2 }\nclear = true\n",
            "counts one thing",
        ),
        (
            "[[event]]\nwhen = { conects = 1 }\nclear = true\n",
            "did you mean \"connects\"",
        ),
        (
            "[[event]]\nat = '1s'\nclear = true\nclock = '+1h'\n",
            "one event does one thing",
        ),
        (
            "[[event]]\nat = '1s'\nclear = true\nclosed_for = '1s'\n",
            "with restart only",
        ),
        ("[[event]]\nat = '1s'\nrestart = 'now'\n", "keep-sessions"),
        ("[[event]]\nat = '1s'\nclock = '2h'\n", "+2h"),
        ("[[event]]\nat = '1s'\ncut = true\n", "needs client"),
        ("[[event]]\nat = '1s'\nclear = false\n", "only true"),
        ("[[event]]\nat = '1s'\nclaer = true\n", "did you mean \"clear\""),
        ("[[event]\n", "s.toml:1:"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    let two = parse("[[event]]\nat = 'x'\nfault = 'y'\n[[event]]\nat = '1s'\nclock = 'z'\n").unwrap_err();
    assert!(
        two.contains("s.toml:2:6") && two.contains("s.toml:3:9") && two.contains("s.toml:6:9"),
        "{two}"
    );
    let many = "[[event]]\nat = '1s'\nclear = true\n".repeat(EVENTS_MAX + 1);
    assert!(parse(&many).unwrap_err().contains("at most 1000"));
}

fn event(cloud: Cloud, client: &str) -> Event {
    Event {
        time: String::new(),
        cloud,
        connection: None,
        what: What::Message {
            client_id: client.into(),
            topic: "t".into(),
            bytes: 0,
            qos: 1,
        },
    }
}

#[test]
fn time_and_events_bring_each_deed_once() {
    let scenario = parse(
        "[[event]]\nat = '10s'\nclear = true\n[[event]]\nat = '5s'\nclock = '+1h'\n\
         [[event]]\nwhen = { messages = 2, client = 'd' }\ncloud = 'iot-hub'\nfault = 'no-puback'\n",
    );
    let mut play = Play::new(scenario.unwrap());
    let seconds = Duration::from_secs;
    assert_eq!(play.next(), Some(seconds(5)));
    assert!(play.due(seconds(4)).is_empty());
    assert_eq!(play.due(seconds(5)), [Deed::Clock(None, 3_600_000)]);
    assert!(play.due(seconds(5)).is_empty());
    for (cloud, client) in [(Cloud::IotHub, "d"), (Cloud::AwsIot, "d"), (Cloud::IotHub, "e")] {
        assert!(play.saw(&event(cloud, client)).is_empty());
    }
    let wanted = "iot-hub:no-puback".parse().unwrap();
    assert_eq!(play.saw(&event(Cloud::IotHub, "d")), [Deed::Fault(wanted)]);
    assert!(play.saw(&event(Cloud::IotHub, "d")).is_empty() && !play.is_over());
    assert_eq!(play.due(seconds(99)), [Deed::Clear(None, None)]);
    assert!(play.is_over());
}
