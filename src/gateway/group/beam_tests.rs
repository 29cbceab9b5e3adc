use std::path::PathBuf;

use proptest::prelude::*;

use crate::gateway::group::own::Own;
use crate::gateway::group::{Grade, Group, GroupFile, Judged, Kind, Login, Platform, Proof, Scheme, Topics};
use crate::identity::Subscriber;

fn judged(text: &str) -> Judged {
    let file = GroupFile {
        id: "g".parse().unwrap(),
        path: PathBuf::from("group-config.json"),
        own: Own::default(),
    };
    file.judge_text(text)
}

fn good(text: &str) -> Group {
    let judged = judged(text);
    assert_eq!(judged.remarks, [], "{text}");
    judged.group.unwrap()
}

/// One MQTT entry point with this inside.
fn entry(inside: &str) -> String {
    format!("[{{\"key\":\"mqtt://beam.soracom.io:1883\",\"value\":{{{inside}}}}}]")
}

fn said(text: &str) -> Vec<String> {
    let judged = judged(text);
    let broken = judged.mistakes().next().is_some();
    assert_eq!(broken, judged.group.is_none(), "{:?}", judged.remarks);
    judged.remarks.iter().map(ToString::to_string).collect()
}

fn why_not(inside: &str) -> String {
    judged(&entry(inside))
        .why_not()
        .unwrap_or_else(|| panic!("{inside} is taken"))
}

/// The AWS hands-on's file, with an endpoint in the place of its placeholder.
const HANDS_ON: &str = r##"[
  {
    "key": "mqtt://beam.soracom.io:1883",
    "value": {
      "name": "AWS IoT",
      "destination": "mqtts://a1b2c3d4e5f6g7-ats.iot.ap-northeast-1.amazonaws.com:8883",
      "enabled": true,
      "addSubscriberHeader": false,
      "useClientCert": true,
      "clientCerts": {
        "default": {
          "$credentialsId": "handson-aws-iot-#{imsi}"
        }
      }
    }
  }
]"##;

#[test]
fn the_hands_on_is_taken_as_it_is() {
    let group = good(HANDS_ON);
    let up = &group.upstream;
    assert_eq!((up.scheme, up.port, up.kind), (Scheme::Mqtts, 8_883, Kind::AwsIot));
    assert_eq!(up.host, "a1b2c3d4e5f6g7-ats.iot.ap-northeast-1.amazonaws.com");
    assert!(group.enabled && matches!(group.login, Login::None) && up.alpn.is_none());
    assert_eq!((group.topics, group.platform), (Topics::default(), Platform::Full));
    let Proof::Stored { id, default: None } = &group.proof else {
        panic!("{:?}", group.proof)
    };
    assert_eq!(id.source(), "handson-aws-iot-#{imsi}");
}

#[test]
fn the_event_grid_guide_and_every_key_that_beam_has() {
    let group = good(&entry(
        r##""name": "Event Grid", "enabled": true, "destination": "mqtts://ns.japaneast-1.ts.eventgrid.azure.net:8883",
        "username": "myClient-#{imsi}", "password": "p-#{imei}-#{simId}", "useClientCredentials": false, "useClientCert": true,
        "clientCerts": {"default": {"$credentialsId": "myClient-#{imsi}"}}, "addSubscriberHeader": true, "replaceTopic": true,
        "version": "201912", "skipStatusCode": false, "addSignature": false, "psk": null, "customHeaders": {}"##,
    ));
    assert_eq!(group.upstream.kind, Kind::EventGrid);
    assert!(group.topics.append_imsi && group.topics.placeholders);
    let mut who = Subscriber {
        imsi: "295012345678901".parse().unwrap(),
        imei: Some("123456789011111".parse().unwrap()),
        iccid: Some("8942310022000012345".parse().unwrap()),
    };
    let names = group.names(&who).unwrap();
    assert_eq!(names.username.unwrap(), "myClient-295012345678901");
    assert_eq!(
        names.password.unwrap().as_str(),
        "p-123456789011111-8942310022000012345"
    );
    assert_eq!(names.credential.unwrap().as_str(), "myClient-295012345678901");
    who.iccid = None;
    let why = group.names(&who).unwrap_err();
    assert!(
        why.contains("password: the name needs #{iccid}") && !why.contains("p-"),
        "{why}"
    );
    assert!(!format!("{group:?}").contains("p-#{"));
}

#[test]
fn defaults_and_small_forms() {
    let group = good(&entry(r#""destination": "mqtt://10.1.2.3""#));
    assert_eq!((group.upstream.scheme, group.upstream.port), (Scheme::Mqtt, 1_883));
    assert!(matches!((&group.login, &group.proof), (Login::None, Proof::None)));
    assert!(group.enabled);
    let group = good(&entry(
        r#""destination": "MQTTS://[2001:db8::1]/", "enabled": false, "username": "", "version": "201801""#,
    ));
    assert_eq!(
        (group.upstream.host.as_str(), group.upstream.port),
        ("2001:db8::1", 8_883)
    );
    assert_eq!((group.enabled, group.platform), (false, Platform::Old));
    let group = good(&entry(
        r#""destination": "mqtts://x.iot.eu-west-1.amazonaws.com:443", "useClientCredentials": true"#,
    ));
    assert!(matches!(group.login, Login::PassThrough));
    assert_eq!(group.upstream.alpn.as_deref(), Some("x-amzn-mqtt-ca"));
}

#[test]
fn every_mistake_has_a_place_a_path_and_a_cure() {
    let text = "[\n  {\"key\": \"mqtt://beam.soracom.io:1883\", \"value\": {\n    \"destnation\": \"mqtts://h.example\",\n    \
                \"enabled\": \"yes\",\n    \"usrname\": \"x\", \"password\": 7,\n    \"clientCerts\": {\"defualt\": {}}}},\n  \
                {\"key\": \"http://beam.soracom.io:8888/\", \"value\": {}},\n  {\"kye\": \"x\", \"value\": {}},\n  17\n]";
    let list = said(text);
    for want in [
        "2:51: [0].value: destination is missing",
        "3:5: [0].value.destnation: unknown key \"destnation\"; did you mean \"destination\"?",
        "4:16: [0].value.enabled: must be true or false, not a string",
        "5:5: [0].value.usrname: unknown key \"usrname\"; did you mean \"username\"?",
        "5:33: [0].value.password: must be a string, not a number",
        "6:21: [0].value.clientCerts.defualt: unknown key \"defualt\"; did you mean \"default\"?",
        "7:11: [1].key: \"http://beam.soracom.io:8888/\" is another entry point of Beam",
        "8:3: [2]: has no \"key\"",
        "8:4: [2].kye: unknown key \"kye\"; did you mean \"key\"?",
        "9:3: [3]: must be an object, not a number",
    ] {
        assert!(
            list.iter().any(|l| l.starts_with(want)),
            "{want:?} is not in\n{}",
            list.join("\n")
        );
    }
    assert_eq!(list.len(), 10, "{}", list.join("\n"));
}

#[test]
fn contradictions_are_told() {
    let to = r#""destination": "mqtts://h.example""#;
    for (inside, want) in [
        (r#""useClientCert": true"#, "useClientCert: there is no credential"),
        (
            r#""useClientCert": true, "clientCerts": {"default": {}}"#,
            "there is no credential",
        ),
        (r#""useClientCredentials": true, "username": "u""#, "only one login"),
        (r#""password": "p""#, "only with a user name"),
        (r##""username": "#{imis}""##, "unknown placeholder #{imis}"),
        (r##""username": "u", "password": "#{imsi""##, "never closed"),
        (
            r##""useClientCert": true, "clientCerts": {"default": {"$credentialsId": "../#{imsi}"}}"##,
            "begins with '.'",
        ),
        (
            r#""useClientCert": true, "clientCerts": {"default": {"$credentialsId": "a", "key": "b"}}"#,
            "keep one of them",
        ),
        (
            r#""useClientCert": true, "clientCerts": {"default": {"cert": "a"}}"#,
            "needs both cert and key",
        ),
        (
            r#""useClientCert": true, "clientCerts": {"default": {"cert": "a", "key": "b"}}"#,
            "clientCerts.default: ",
        ),
        (r#""version": "1""#, "no platform version"),
        (r#""addSignature": true"#, "no such option"),
    ] {
        let why = why_not(&format!("{to}, {inside}"));
        assert!(
            why.contains(want) && why.lines().count() == 1,
            "{want:?} is not in {why}"
        );
    }
    let why = why_not(
        r#""destination": "mqtt://h", "useClientCert": true, "clientCerts": {"default": {"$credentialsId": "a"}}"#,
    );
    assert!(why.contains("proves nothing without TLS"), "{why}");
    for (url, want) in [
        ("", "is missing"),
        ("h.example:8883", "is no URL"),
        ("https://h.example", "neither mqtt"),
        ("mqtts://h.example/path", "more than a host"),
        ("mqtts://u:p@h.example", "more than a host"),
        ("mqtts://h.example:0", "no port"),
        ("mqtts://h.example:+1", "no port"),
        ("mqtts://a b", "neither a host"),
        ("mqtts://#{imsi}.example", "has a placeholder"),
        ("mqtts://[::1", "neither a host"),
    ] {
        let why = why_not(&format!("\"destination\": \"{url}\""));
        assert!(why.contains(want), "{url}: {why}");
    }
    assert!(judged("[]").why_not().unwrap().contains("no MQTT entry point"));
    assert!(
        judged("{}")
            .why_not()
            .unwrap()
            .contains("must be a list, not an object")
    );
}

#[test]
fn what_does_nothing_is_a_warning() {
    let text = entry(
        r##""destination": "mqtts://h.example", "addSimIdHeader": true, "version": "209901",
        "useClientCert": false, "clientCerts": {"default": {"$credentialsId": "c"}}"##,
    );
    let judged = judged(&text);
    assert!(judged.group.is_some());
    let list: Vec<_> = judged.remarks.iter().map(|r| (r.grade, r.message.as_str())).collect();
    assert_eq!(list.len(), 3, "{list:?}");
    assert!(list.iter().all(|(grade, _)| *grade == Grade::Warning));
}

#[test]
fn a_secret_is_in_no_remark() {
    for inside in [
        r#""destination": "mqtts://h", "password": "hunter2", "usernam": "x""#,
        r##""destination": "mqtts://h", "username": "x", "password": "hunter2#{hunter2}""##,
        r#""destination": "mqtts://h", "useClientCert": true, "clientCerts": {"default": {"cert": "hunter2", "key": "hunter2"}}"#,
        r#""destination": "mqtts://h", "password": ["hunter2"]"#,
        r#""destination": "mqtts://h", "password": "hunter2""#,
    ] {
        let text = entry(inside);
        let judged = judged(&text);
        assert!(
            !judged.remarks.is_empty() && !format!("{judged:?}").contains("hunter2"),
            "{judged:?}"
        );
        // Cut off anywhere, the text is no JSON, and that is told without it.
        for end in 0..text.len() {
            assert!(
                !format!(
                    "{:?}",
                    super::super::GroupFile::judge_text(
                        &GroupFile {
                            id: "g".parse().unwrap(),
                            path: PathBuf::new(),
                            own: Own::default(),
                        },
                        text.get(..end).unwrap_or_default()
                    )
                )
                .contains("hunter2")
            );
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_taken_or_told(text in "\\PC{0,200}") {
        prop_assert!(judged(&text).group.is_some() || judged(&text).why_not().is_some());
    }

    #[test]
    fn any_value_of_any_key_is_taken_or_told(
        key in prop::sample::select(vec!["destination", "username", "password", "version", "clientCerts", "enabled", "name", "x"]),
        value in prop::sample::select(vec![
            "1", "-1.5e400", "null", "true", "\"\"", "\"mqtt://h\"", "\"\\ud800\"", "{}", "[]", "{\"default\":{\"key\":1}}", "\"#{\"",
        ]),
    ) {
        let text = entry(&format!("\"{key}\":{value},\"useClientCert\":true"));
        let judged = judged(&text);
        prop_assert_eq!(judged.group.is_some(), judged.why_not().is_none());
    }
}
