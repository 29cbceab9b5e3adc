//! A device's life with the hub, without a connection.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::bench::clouds::iot_hub::devicebound::{HANDED_MAX, LIFE};

const NOW: Now = Now {
    monotonic: Duration::from_secs(100),
    wall: Duration::from_secs(1_793_491_200),
};
const DEVICEBOUND: &str = "devices/d/messages/devicebound/#";

fn later(seconds: u64) -> Now {
    Now {
        monotonic: NOW.monotonic + Duration::from_secs(seconds),
        wall: NOW.wall + Duration::from_secs(seconds),
    }
}

fn session() -> Session {
    Session {
        api_version: None,
        client_id: "d".into(),
        owner: "d".into(),
        cn: "d".into(),
    }
}

fn hub() -> Core {
    let core = Core::new(Vec::new(), false);
    core.register("d", Credential::Authority, NOW).unwrap();
    core
}

/// A device that is there, with these subscriptions.
fn with(filters: &[&str]) -> Core {
    let core = hub();
    core.attached(&session(), true, false, NOW);
    core.connected(&session(), NOW);
    for filter in filters {
        core.granted(&session(), filter, 1, NOW);
    }
    core
}

fn publish(core: &Core, topic: &str, payload: &str, now: Now) -> Vec<(String, String)> {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let received = Received {
        topic,
        payload: &payload,
        qos: 1,
        retain: false,
    };
    match core.received(&session(), received, now).unwrap() {
        Handling::Request(acts) => sent(acts),
        other => panic!("{topic} was taken for {other:?}"),
    }
}

/// Topic and payload of what goes to the device.
fn sent(acts: Vec<Act>) -> Vec<(String, String)> {
    let send = acts.into_iter().filter_map(|act| match act {
        Act::Send {
            client_id,
            topic,
            payload,
            ..
        } => {
            assert_eq!(client_id, "d");
            Some((topic.to_string(), String::from_utf8(payload.to_vec()).unwrap()))
        }
        _ => None,
    });
    send.collect()
}

fn message(core: &Core, text: &'static str) -> Vec<(String, String)> {
    sent(core.to_device("d", ToDevice::new(text), NOW).unwrap().1)
}

fn payloads(sent: Vec<(String, String)>) -> Vec<String> {
    sent.into_iter().map(|(_, payload)| payload).collect()
}

#[test]
fn a_twin_is_read_and_reported_with_the_request_id_first() {
    let core = with(&[rules::TWIN_RESPONSES]);
    let get = publish(&core, "$iothub/twin/GET/?$rid=a1", " ", NOW);
    assert_eq!(get[0].0, "$iothub/twin/res/200/?$rid=a1");
    let twin: Value = serde_json::from_str(&get[0].1).unwrap();
    assert_eq!(twin, json!({"desired": {"$version": 1}, "reported": {"$version": 1}}));
    let report = "$iothub/twin/PATCH/properties/reported/?$rid=7";
    let done = publish(&core, report, r#"{"t": 1}"#, NOW);
    assert_eq!(
        done,
        [("$iothub/twin/res/204/?$rid=7&$version=2".into(), String::new())]
    );
    for bad in ["{", "[1]", r#"{"a.b": 1}"#] {
        let refused = publish(&core, report, bad, NOW);
        assert_eq!(refused[0].0, "$iothub/twin/res/400/?$rid=7", "{bad}");
        let body: Value = serde_json::from_str(&refused[0].1).unwrap();
        assert!(body["errorCode"].as_u64().unwrap() / 1_000 == 400 && !body["message"].as_str().unwrap().is_empty());
    }
    let twin = core.state().registry.get("d").unwrap().twin.for_device();
    assert_eq!(twin["reported"], json!({"t": 1, "$version": 2}));
}

#[test]
fn too_many_twin_operations_are_throttled() {
    let core = with(&[rules::TWIN_RESPONSES]);
    let statuses = |topic: &str, now: Now| -> Vec<String> {
        let answers = (0..200).map(|_| publish(&core, topic, "{}", now)[0].0.clone());
        answers.map(|t| t.split('/').nth(3).unwrap().to_owned()).collect()
    };
    let count = |all: &[String], status: &str| all.iter().filter(|s| *s == status).count();
    let reads = statuses("$iothub/twin/GET/?$rid=1", NOW);
    assert_eq!((count(&reads, "200"), count(&reads, "429")), (100, 100));
    let report = "$iothub/twin/PATCH/properties/reported/?$rid=1";
    let writes = statuses(report, NOW);
    assert_eq!((count(&writes, "204"), count(&writes, "429")), (50, 150));
    assert_eq!(count(&statuses(report, later(1)), "204"), 50);
}

#[test]
fn desired_properties_go_to_a_device_that_is_there_and_listens() {
    let patch = json!({"properties": {"desired": {"n": 5}}});
    let update = |core: &Core| sent(core.update_twin("d", &patch, NOW).unwrap().1);
    let core = with(&[rules::DESIRED]);
    let want = (
        "$iothub/twin/PATCH/properties/desired/?$version=2".into(),
        r#"{"$version":2,"n":5}"#.into(),
    );
    assert_eq!(update(&core), [want]);
    core.unsubscribed(&session(), rules::DESIRED, NOW);
    assert_eq!(update(&core), []);
    core.granted(&session(), rules::DESIRED, 1, NOW);
    core.gone(&session(), "", NOW);
    assert_eq!(update(&core), [], "not while it is away");
    core.attached(&session(), false, true, NOW);
    assert_eq!(core.connected(&session(), NOW), [], "and not later");
    assert_eq!(update(&core).len(), 1, "the session went on with its subscription");
    assert_eq!(update(&with(&[])), []);
    assert_eq!(core.update_twin("x", &patch, NOW).unwrap_err().code, 404_001);
}

#[test]
fn nothing_is_queued_before_a_device_was_ever_there() {
    let core = hub();
    let (id, acts) = core.to_device("d", ToDevice::new("x"), NOW).unwrap();
    assert!(id.is_none() && matches!(&acts[..], [Act::Note(_)]));
    core.attached(&session(), false, false, NOW);
    assert_eq!(core.granted(&session(), DEVICEBOUND, 1, NOW), []);
}

#[test]
fn messages_wait_for_the_subscription_and_go_when_acknowledged() {
    let core = with(&[]);
    assert_eq!(message(&core, "1"), []);
    let first = sent(core.granted(&session(), DEVICEBOUND, 1, NOW));
    assert_eq!(first.len(), 1);
    for _ in 0..HANDED_MAX {
        message(&core, "more");
    }
    assert_eq!(core.state().registry.get("d").unwrap().inbox.len(), HANDED_MAX + 1);
    let next = core.acknowledged(&session(), &first[0].0, NOW);
    assert_eq!(payloads(sent(next)), ["more"], "the window has room again");
    core.unsubscribed(&session(), DEVICEBOUND, NOW);
    assert_eq!(message(&core, "later"), []);
}

#[test]
fn a_session_keeps_messages_and_a_clean_one_drops_them() {
    let core = with(&[DEVICEBOUND]);
    assert_eq!(payloads(message(&core, "1")), ["1"]);
    core.gone(&session(), "", NOW);
    assert_eq!(message(&core, "2"), [], "it is away");
    // The broker sends again what it had; the hub sends what it had not handed over.
    core.attached(&session(), false, true, NOW);
    assert_eq!(payloads(sent(core.connected(&session(), NOW))), ["2"]);
    core.gone(&session(), "", NOW);
    // The broker has forgotten the session: all of it again, once the device subscribes.
    core.attached(&session(), false, false, NOW);
    assert_eq!(core.connected(&session(), NOW), []);
    assert_eq!(
        payloads(sent(core.granted(&session(), DEVICEBOUND, 1, NOW))),
        ["1", "2"]
    );
    core.gone(&session(), "", NOW);
    core.attached(&session(), true, false, NOW);
    assert_eq!(
        core.granted(&session(), DEVICEBOUND, 1, NOW),
        [],
        "CleanSession 1 drops the queue"
    );
}

#[test]
fn a_qos_0_subscriber_acknowledges_nothing_and_old_messages_expire() {
    let core = with(&[]);
    message(&core, "1");
    assert_eq!(sent(core.granted(&session(), DEVICEBOUND, 0, NOW)).len(), 1);
    assert_eq!(core.state().registry.get("d").unwrap().inbox.len(), 0);
    let core = with(&[]);
    message(&core, "1");
    let after = later(LIFE.as_secs());
    assert_eq!(core.granted(&session(), DEVICEBOUND, 1, after), []);
}

/// Where the outcome of a call will be, and what the device was sent.
type Called = (oneshot::Receiver<Outcome>, Vec<(String, String)>);

fn call(core: &Core) -> Option<Called> {
    let call = MethodCall::new("reboot", json!({"in": 3}));
    core.call("d", &call)
        .unwrap()
        .map(|(outcome, acts)| (outcome, sent(acts)))
}

#[test]
fn methods_run_on_a_device_that_takes_them() {
    assert!(call(&hub()).is_none(), "it is not there");
    assert!(call(&with(&[DEVICEBOUND])).is_none(), "it takes none");
    let core = with(&[rules::METHODS]);
    let (mut outcome, asked) = call(&core).unwrap();
    assert_eq!(asked[0].1, r#"{"in":3}"#);
    let rid = asked[0].0.strip_prefix("$iothub/methods/POST/reboot/?$rid=").unwrap();
    publish(&core, "$iothub/methods/res/200/?$rid=nobody", "{}", NOW);
    assert!(outcome.try_recv().is_err(), "an answer to another call");
    publish(
        &core,
        &format!("$iothub/methods/res/201/?$rid={rid}"),
        r#"{"ok":true}"#,
        NOW,
    );
    let answer = outcome.try_recv().unwrap().unwrap();
    assert_eq!((answer.status, answer.payload), (201, json!({"ok": true})));
    core.unsubscribed(&session(), rules::METHODS, NOW);
    assert!(call(&core).is_none());
}

#[test]
fn a_call_ends_with_the_connection_that_was_asked() {
    let core = with(&[rules::METHODS]);
    let (mut outcome, _) = call(&core).unwrap();
    core.gone(&session(), "", NOW);
    assert_eq!(outcome.try_recv().unwrap().unwrap_err().code, 404_103);
    // Taken over: the new connection comes before the old one has gone.
    let core = with(&[rules::METHODS]);
    let (mut outcome, _) = call(&core).unwrap();
    core.attached(&session(), true, false, NOW);
    assert!(outcome.try_recv().unwrap().is_err());
    core.granted(&session(), rules::METHODS, 1, NOW);
    let (mut outcome, _) = call(&core).unwrap();
    core.gone(&session(), "the old one", NOW);
    assert!(outcome.try_recv().is_err(), "the new one is still asked");
    assert!(call(&core).is_some());
}

#[test]
fn what_ends_connections_says_so() {
    let core = with(&[]);
    let ends = |acts: Vec<Act>| matches!(&acts[..], [Act::End { client_id, .. }] if client_id == "d");
    assert!(
        core.register("d", Credential::Authority, NOW).unwrap().is_empty(),
        "nothing changed"
    );
    let other = Credential::certificate(&CertificateDer::from(vec![1]));
    assert!(ends(core.register("d", other, NOW).unwrap()));
    assert!(ends(core.set_status("d", Status::Disabled).unwrap()));
    assert!(core.set_status("d", Status::Enabled).unwrap().is_empty());
    assert!(matches!(&core.remove("d").unwrap()[..], [Act::Forget { client_id, .. }] if client_id == "d"));
    assert_eq!(core.remove("d").unwrap_err().status(), 404);
    for bad in ["", "a b", "a/b", &"x".repeat(129)] {
        assert_eq!(
            core.register(bad, Credential::Authority, NOW).unwrap_err().status(),
            400,
            "{bad}"
        );
    }
}

#[test]
fn properties_are_read_out_of_telemetry() {
    let core = hub();
    let payload = Bytes::from_static(b"x");
    let of = |topic: &str, retain: bool, will: bool| {
        let received = Received {
            topic,
            payload: &payload,
            qos: 0,
            retain,
        };
        core.properties(&session(), received, will)
    };
    assert_eq!(
        of("devices/d/messages/events/%24.ct=text%2Fplain&a=1", true, false).unwrap(),
        json!({"system": {"content_type": "text/plain"}, "application": {"a": "1", "mqtt-retain": "true"}})
    );
    assert_eq!(
        of("devices/d/messages/events/", false, true).unwrap()["application"],
        json!({"iothub-MessageType": "Will"})
    );
    assert_eq!(of("$iothub/twin/GET/?$rid=1", false, false), None);
}

proptest::proptest! {
    /// Whatever a device publishes to `$iothub/…`, the policy and the hub survive, and the twin stays within its bounds.
    #[test]
    fn any_request_is_survived(
        path in "(twin/(GET|PATCH/properties/reported)|methods/res/-?[0-9]{1,12}|[a-z/]{0,20})/(\\?\\$rid=.{0,20}|.{0,20})",
        payload in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..200),
    ) {
        use crate::bench::clouds::policy::{Policy, Publication, iot_hub::IotHub};
        let core = with(&[rules::TWIN_RESPONSES, rules::METHODS]);
        let topic = format!("$iothub/{path}");
        let publication = Publication { topic: &topic, qos: 0, payload: payload.len() };
        if IotHub::new("h".into()).publish(&session(), publication).is_ok() {
            let payload = Bytes::from(payload);
            let received = Received { topic: &topic, payload: &payload, qos: 0, retain: false };
            let handled = core.received(&session(), received, NOW);
            proptest::prop_assert!(matches!(handled, Ok(Handling::Request(_))), "{topic} passed the policy and is no request");
        }
    }

    /// A merged twin is what RFC 7396 says of the same patches, and stays so whatever came before.
    #[test]
    fn patches_merge_as_rfc_7396_says(patches in proptest::collection::vec(patch(3), 1..6)) {
        let mut twin = crate::bench::clouds::iot_hub::twin::Twin::new(NOW.wall);
        let mut want = json!({});
        for patch in &patches {
            twin.report(patch.to_string().as_bytes(), NOW.wall).unwrap();
            rfc_7396(&mut want, patch);
        }
        let mut got = twin.for_device()["reported"].clone();
        got.as_object_mut().unwrap().remove("$version");
        proptest::prop_assert_eq!(got, want);
    }
}

/// Objects of a few names, nested a little.
fn patch(depth: u32) -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from)
    ];
    let inner = leaf.prop_recursive(depth, 16, 4, |inner| {
        proptest::collection::btree_map("[abc]", inner, 0..4).prop_map(|m| m.into_iter().collect::<Value>())
    });
    proptest::collection::btree_map("[abc]", inner, 0..4).prop_map(|m| m.into_iter().collect::<Value>())
}

/// The algorithm of RFC 7396 section 2, word for word.
fn rfc_7396(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            rfc_7396(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
