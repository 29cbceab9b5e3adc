//! The shape of what is printed, and a file that does what files do.

use std::io::Write;

use super::*;

fn args() -> Args {
    Args {
        dir: "d".into(),
        device_id: None,
        properties: Vec::new(),
        content_type: None,
        timeout: 0,
        all: false,
        json: false,
    }
}

const LINE: &str = r#"{"time":"2026-11-01T00:00:00.070Z","cloud":"iot-hub","client_id":"dev-1","cn":"dev-1","topic":"t","payload":"{\"t\": 21.5, \"n\": \"日\"}","qos":1,"properties":{"system":{"content_type":"application/json","content_encoding":"utf-8"},"application":{"a":"b","flag":null}}}"#;

fn shown(args: &Args, line: &str) -> Option<String> {
    args.event(line.as_bytes(), 77).unwrap()
}

#[test]
fn a_message_looks_as_the_azure_cli_prints_it() {
    let want = r#"{
    "event": {
        "origin": "dev-1",
        "module": "",
        "interface": "",
        "component": "",
        "payload": {
            "n": "\u65e5",
            "t": 21.5
        }
    }
}"#;
    assert_eq!(shown(&args(), LINE).unwrap(), want);
    // Without a content type the payload is text.
    let plain = LINE.replace("application/json", "text/plain");
    let event: Value = serde_json::from_str(&shown(&args(), &plain).unwrap()).unwrap();
    assert_eq!(event["event"]["payload"], "{\"t\": 21.5, \"n\": \"日\"}");
    let told = Args {
        content_type: Some("application/json".into()),
        ..args()
    };
    let event: Value = serde_json::from_str(&shown(&told, &plain).unwrap()).unwrap();
    assert_eq!(event["event"]["payload"]["t"], 21.5);
}

#[test]
fn properties_are_printed_on_request() {
    let with = |properties: &[Properties]| -> Value {
        let args = Args {
            properties: properties.to_vec(),
            json: true,
            ..args()
        };
        serde_json::from_str(&shown(&args, LINE).unwrap()).unwrap()
    };
    let (app, system) = (serde_json::json!({"a": "b", "flag": null}), "application/json");
    let all = with(&[Properties::All]);
    assert_eq!(all["event"]["properties"]["application"], app);
    assert_eq!(all["event"]["properties"]["system"]["content_type"], system);
    assert_eq!(all["event"]["annotations"]["iothub-connection-device-id"], "dev-1");
    assert_eq!(
        all["event"]["annotations"]["x-opt-enqueued-time"],
        1_793_491_200_070_i64
    );
    let one = with(&[Properties::App]);
    assert_eq!(one["event"]["properties"], serde_json::json!({"application": app}));
    assert_eq!(one["event"].get("annotations"), None);
    assert_eq!(with(&[Properties::Anno])["event"]["properties"], serde_json::json!({}));
    assert_eq!(with(&[Properties::Sys, Properties::App]), {
        let mut both = all.clone();
        both["event"].as_object_mut().unwrap().remove("annotations");
        both
    });
}

#[test]
fn other_clouds_and_other_devices_are_left_out() {
    let of = |pattern: &str| {
        shown(
            &Args {
                device_id: Some(pattern.into()),
                ..args()
            },
            LINE,
        )
        .is_some()
    };
    assert!(of("dev-1") && of("dev-*") && of("d?v-1") && of("*") && of("*1"));
    assert!(!of("dev") && !of("dev-2") && !of("dev-?1") && !of("*2") && !of(""));
    assert_eq!(shown(&args(), &LINE.replace("iot-hub", "event-grid")), None);
    assert!(args().event(b"{", 0).is_err());
}

fn read(follower: &mut Follower) -> Vec<(String, u64)> {
    let mut lines = Vec::new();
    while follower
        .read(|line, at| lines.push((String::from_utf8_lossy(line).trim_end().to_owned(), at)))
        .unwrap()
    {}
    lines
}

#[test]
fn a_file_that_grows_moves_and_shrinks_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("messages.jsonl");
    let mut f = Follower::new(path.clone());
    f.skip_all().unwrap();
    assert_eq!(read(&mut f), [], "there is no file yet");
    let mut file = File::options().append(true).create(true).open(&path).unwrap();
    file.write_all(b"one\ntw").unwrap();
    assert_eq!(read(&mut f), [("one".into(), 0)]);
    file.write_all(b"o\n").unwrap();
    assert_eq!(read(&mut f), [("two".into(), 4)]);
    // Moved away: what follows is in another file.
    std::fs::rename(&path, dir.path().join("old")).unwrap();
    assert_eq!(read(&mut f), []);
    std::fs::write(&path, "three, which is longer than what was there\n").unwrap();
    assert_eq!(read(&mut f).len(), 1);
    std::fs::write(&path, "four\n").unwrap();
    assert_eq!(read(&mut f), [("four".into(), 0)], "cut short");
    // From now on.
    let mut late = Follower::new(path.clone());
    late.skip_all().unwrap();
    File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"five\n")
        .unwrap();
    assert_eq!(read(&mut late), [("five".into(), 5)]);
}

#[test]
fn a_line_that_never_ends_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("messages.jsonl");
    let mut content = vec![b'x'; LINE_MAX + CHUNK];
    content.extend_from_slice(b"\nnext\n");
    std::fs::write(&path, &content).unwrap();
    let mut f = Follower::new(path);
    let lines = read(&mut f);
    assert_eq!(lines.iter().map(|(l, _)| l.as_str()).collect::<Vec<_>>(), ["", "next"]);
    assert!(f.line.capacity() <= 2 * LINE_MAX);
}
