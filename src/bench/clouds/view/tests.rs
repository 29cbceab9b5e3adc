//! What is shown, and that showing it holds up nothing.

use super::super::stand_in::{Cloud, Protocol};
use super::*;

#[test]
fn a_line_is_one_line_and_no_command() {
    assert_eq!(printable("a \u{1b}[2J\nb\u{9b}é"), "a \u{fffd}[2J\u{fffd}b\u{fffd}é");
}

#[test]
fn the_table_is_as_wide_as_its_numbers() {
    let door = DoorCounts {
        cloud: Cloud::IotHub,
        protocol: Protocol::Mqtts,
        address: "127.0.0.1:8883".parse().unwrap(),
        connections: 1,
        accepted: 2,
        connects: 2,
        refusals: 3,
        messages: 4,
        bytes_up: 12_345_678_901,
        bytes_down: 6,
    };
    let lines = doors(std::slice::from_ref(&door));
    assert_eq!(
        lines[0],
        "stand-in  door   address         connections  messages  refusals     bytes up  bytes down"
    );
    assert_eq!(
        lines[1],
        "iot-hub   mqtts  127.0.0.1:8883            1         4         3  12345678901           6"
    );
    let answer = json!({
        "doors": [door],
        "connections": [{"connection": 7, "client_id": "d", "peer": "127.0.0.1:9", "cloud": "iot-hub",
            "bytes_up": 1, "bytes_down": 2, "stalled": true}],
        "faults": {"beam": [{"id": 3, "fault": "throttle=9", "whom": "everybody", "left": 2}]},
        "clocks": [{"cloud": "dps", "ahead_ms": -5}],
    });
    let text = status(&answer);
    assert!(text.starts_with(&lines.join("\n")), "{text}");
    for wanted in [
        "connection 7 \"d\" from 127.0.0.1:9 at iot-hub: 1 bytes up, 2 down, held still by a fault",
        "fault 3 at beam: throttle=9 for everybody, 2 times",
        "clock of dps: -5 ms ahead",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn a_reader_that_does_not_read_holds_up_nothing() {
    let (release, released) = mpsc::channel::<()>();
    let (saw, seen) = mpsc::channel();
    let mut view = View::new(Form::Json);
    let writer = Writer::start(move |show| {
        let _ = released.recv();
        if let Show::Line(line) = show {
            let _ = saw.send(line);
        }
    });
    view.writer = Some(writer.unwrap());
    for n in 0..EVENTS_BEHIND + 10 {
        view.show(Show::Line(n.to_string()));
    }
    // One may be in the writer's hand already.
    assert!((9..=10).contains(&view.lost), "{}", view.lost);
    view.lost(5);
    assert!((14..=15).contains(&view.lost), "{}", view.lost);
    let lost = view.lost;
    // The reader reads again: the count comes in the place of what was lost.
    drop(release);
    while view.lost > 0 {
        view.show_lost();
    }
    let told = json!({"event": "lost", "events": lost}).to_string();
    assert_eq!(seen.recv().unwrap(), "0");
    // Until the count has been read, the queue may be as full as before.
    while seen.recv().unwrap() != told {}
    view.show(Show::Line("after".into()));
    view.end();
    assert_eq!(seen.iter().collect::<Vec<_>>(), ["after"]);
}

#[test]
fn the_end_does_not_wait_for_a_reader() {
    let (_held, release) = mpsc::channel::<()>();
    let mut view = View::new(Form::Text);
    let writer = Writer::start(move |_| {
        let _ = release.recv();
    });
    view.writer = Some(writer.unwrap());
    view.show(Show::Line("never read".into()));
    view.end();
    assert!(view.writer.is_none());
}
