//! The documents of AWS's guide, merge and delta, and every error.

use super::*;

const T: u64 = 1_700_000_000;

fn now(ms: u64) -> Now {
    Now {
        monotonic: Duration::from_millis(ms),
        wall: Duration::from_secs(T),
    }
}

fn key() -> Key {
    Key {
        thing: "lamp".into(),
        name: None,
    }
}

fn ask(s: &mut Shadows, operation: Operation, payload: &str) -> Outcome {
    s.handle(None, &key(), operation, payload.as_bytes(), now(0))
}

fn update(s: &mut Shadows, payload: &str) -> Outcome {
    let outcome = ask(s, Operation::Update, payload);
    assert_eq!(outcome.status, 200, "{:?}", outcome.answer);
    outcome
}

fn refused(outcome: Outcome) -> (u16, String) {
    let answer = outcome.answer.unwrap_err();
    assert_eq!(answer["code"], outcome.status);
    assert_eq!(answer["timestamp"], T);
    (outcome.status, answer["message"].as_str().unwrap().to_owned())
}

#[test]
fn the_guide_s_delta_with_time_stamps_and_token() {
    let mut s = Shadows::default();
    update(&mut s, r#"{"state": {"reported": {"color": "GREEN", "engine": "ON"}}}"#);
    let o = update(
        &mut s,
        r#"{"state": {"desired": {"color": "RED", "state": "STOP"}}, "clientToken": "t1"}"#,
    );
    let stamp = json!({ "timestamp": T });
    assert_eq!(
        o.answer.unwrap(),
        json!({"state": {"desired": {"color": "RED", "state": "STOP"}},
               "metadata": {"desired": {"color": stamp, "state": stamp}},
               "version": 2, "timestamp": T, "clientToken": "t1"})
    );
    assert_eq!(
        o.delta.unwrap(),
        json!({"state": {"color": "RED", "state": "STOP"}, "metadata": {"color": stamp, "state": stamp},
               "version": 2, "timestamp": T, "clientToken": "t1"})
    );
    let documents = o.documents.unwrap();
    assert_eq!(documents["previous"]["version"], 1);
    assert_eq!(documents["current"]["state"]["desired"]["color"], "RED");
    assert_eq!(documents["clientToken"], "t1");
    let got = ask(&mut s, Operation::Get, "").answer.unwrap();
    assert_eq!(got["state"]["delta"], json!({"color": "RED", "state": "STOP"}));
    assert_eq!(got["metadata"]["reported"]["engine"], stamp);
    assert_eq!(got["version"], 2);
    let agreed = update(&mut s, r#"{"state": {"reported": {"color": "RED", "state": "STOP"}}}"#);
    assert_eq!(agreed.delta, None);
    let got = ask(&mut s, Operation::Get, r#"{"clientToken": "t2"}"#).answer.unwrap();
    assert_eq!(got["clientToken"], "t2");
    assert!(got["state"].get("delta").is_none());
}

#[test]
fn nested_objects_are_merged_arrays_replaced_and_null_removes() {
    let mut s = Shadows::default();
    let white = r#"{"state": {"desired": {"lights": {"color": {"r": 255, "g": 255, "b": 255}}, "list": [1, 2]}}}"#;
    update(&mut s, white);
    let o = update(
        &mut s,
        r#"{"state": {"reported": {"lights": {"color": {"r": 255, "g": 0, "b": 255}}, "list": [1]}}}"#,
    );
    assert_eq!(
        o.delta.unwrap()["state"],
        json!({"lights": {"color": {"g": 255}}, "list": [1, 2]})
    );
    let o = update(
        &mut s,
        r#"{"state": {"desired": {"lights": {"color": {"g": null}}, "list": [3]}}}"#,
    );
    let current = &o.documents.as_ref().unwrap()["current"];
    assert_eq!(
        current["state"]["desired"],
        json!({"lights": {"color": {"r": 255, "b": 255}}, "list": [3]})
    );
    assert_eq!(current["metadata"]["desired"]["list"], json!([{ "timestamp": T }]));
    assert!(current["metadata"]["desired"]["lights"]["color"].get("g").is_none());
    assert_eq!(o.delta.unwrap()["state"], json!({"list": [3]}));
    let o = update(&mut s, r#"{"state": {"desired": null}}"#);
    assert!(o.documents.unwrap()["current"]["state"].get("desired").is_none());
    assert_eq!(o.delta, None);
}

#[test]
fn versions_conflict_and_survive_a_deletion() {
    let mut s = Shadows::default();
    update(&mut s, r#"{"state": {"reported": {"a": 1}}}"#);
    let stale = ask(
        &mut s,
        Operation::Update,
        r#"{"state": {"reported": {"a": 2}}, "version": 7}"#,
    );
    assert_eq!(refused(stale), (409, "Version conflict".into()));
    update(&mut s, r#"{"state": {"reported": {"a": 2}}, "version": 1}"#);
    let gone = ask(&mut s, Operation::Delete, r#"{"clientToken": "x"}"#)
        .answer
        .unwrap();
    assert_eq!(gone, json!({"version": 2, "timestamp": T, "clientToken": "x"}));
    let (code, message) = refused(ask(&mut s, Operation::Get, ""));
    assert_eq!((code, message.as_str()), (404, "No shadow exists with name: 'lamp'"));
    assert_eq!(refused(ask(&mut s, Operation::Delete, "")).0, 404);
    let again = update(&mut s, r#"{"state": {"reported": {"b": 1}}}"#);
    assert_eq!(again.answer.unwrap()["version"], 3);
    assert_eq!(
        ask(&mut s, Operation::Get, "").answer.unwrap()["state"],
        json!({"reported": {"b": 1}})
    );
}

#[test]
fn named_shadows_are_apart() {
    let mut s = Shadows::default();
    let named = Key {
        name: Some("config".into()),
        ..key()
    };
    let o = s.handle(
        None,
        &named,
        Operation::Update,
        br#"{"state": {"desired": {"a": 1}}}"#,
        now(0),
    );
    assert_eq!(o.status, 200);
    assert_eq!(refused(ask(&mut s, Operation::Get, "")).0, 404);
    let missing = Key {
        name: Some("other".into()),
        ..key()
    };
    let o = s.handle(None, &missing, Operation::Get, b"", now(0));
    assert_eq!(refused(o).1, "No shadow exists with name: 'other'");
}

#[test]
fn every_error_is_aws_s() {
    let mut s = Shadows::default();
    let deep = r#"{"state": {"desired": {"1": {"2": {"3": {"4": {"5": {"6": {"7": 0}}}}}}}}}"#;
    let token = format!(r#"{{"state": {{}}, "clientToken": "{}"}}"#, "t".repeat(65));
    for (payload, code, message) in [
        ("{", 400, "Invalid JSON"),
        ("[]", 400, "Invalid JSON"),
        ("", 400, "Invalid JSON"),
        ("{}", 400, "Missing required node: state"),
        (r#"{"state": 1}"#, 400, "State node must be an object"),
        (r#"{"state": {"desired": 1}}"#, 400, "Desired node must be an object"),
        (r#"{"state": {"reported": []}}"#, 400, "Reported node must be an object"),
        (r#"{"state": {"other": {}}}"#, 400, "State contains an invalid node"),
        (r#"{"state": {}, "version": "1"}"#, 400, "Invalid version"),
        (r#"{"state": {}, "clientToken": 1}"#, 400, "Invalid clientToken"),
        (&token, 400, "Invalid clientToken"),
        (deep, 400, "JSON contains too many levels of nesting; maximum is 6"),
    ] {
        let got = refused(ask(&mut s, Operation::Update, payload));
        assert_eq!(got, (code, message.to_owned()), "{payload}");
    }
    let o = s.handle(None, &key(), Operation::Update, b"\xff", now(0));
    assert_eq!(refused(o).0, 415);
}

#[test]
fn a_document_that_has_grown_too_large_is_refused_and_unchanged() {
    let mut s = Shadows::default();
    let big = |name: &str| format!(r#"{{"state": {{"reported": {{"{name}": "{}"}}}}}}"#, "x".repeat(5_000));
    update(&mut s, &big("a"));
    let (code, message) = refused(ask(&mut s, Operation::Update, &big("b")));
    assert_eq!(
        (code, message.as_str()),
        (413, "The payload exceeds the maximum size allowed")
    );
    assert_eq!(ask(&mut s, Operation::Get, "").answer.unwrap()["version"], 1);
    let (code, _) = refused(ask(&mut s, Operation::Update, &" ".repeat(DOCUMENT_MAX + 1)));
    assert_eq!(code, 413);
}

#[test]
fn more_than_ten_in_flight_on_a_connection_are_refused() {
    let mut s = Shadows::default();
    let mut get = |client: &str, ms: u64| s.handle(Some(client), &key(), Operation::Get, b"", now(ms)).status;
    for _ in 0..IN_FLIGHT_MAX {
        assert_eq!(get("a", 0), 404);
    }
    assert_eq!(get("a", 99), 429);
    assert_eq!(get("b", 99), 404, "another connection");
    assert_eq!(get("a", 100), 404, "the first ten are done");
}

#[test]
fn the_number_of_shadows_is_bounded() {
    let mut s = Shadows::default();
    let mut put = |i: usize| {
        let key = Key {
            thing: i.to_string(),
            name: None,
        };
        s.handle(None, &key, Operation::Update, br#"{"state": {}}"#, now(0))
            .status
    };
    assert!((0..SHADOWS_MAX).all(|i| put(i) == 200));
    assert_eq!(put(SHADOWS_MAX), 500);
    assert_eq!(put(0), 200);
}

proptest::proptest! {
    /// Whatever is sent, nothing panics, and reporting what is desired leaves no delta.
    #[test]
    fn reporting_what_is_desired_ends_the_difference(
        any in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        values in proptest::collection::btree_map("[a-c]", 0..3_i32, 0..3),
    ) {
        let mut s = Shadows::default();
        let _ = s.handle(None, &key(), Operation::Update, &any, now(0));
        let mut s = Shadows::default();
        update(&mut s, &json!({"state": {"desired": {"n": values, "m": 1}}}).to_string());
        let o = update(&mut s, &json!({"state": {"reported": {"n": values, "m": 1}}}).to_string());
        proptest::prop_assert_eq!(o.delta, None);
    }
}
