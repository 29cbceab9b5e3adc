//! Configurations that were written for SORACOM, used as they are: several groups at one gateway, each with its own destination, names
//! and proofs. Sources are 127.0.31.0/24.

use std::net::Ipv4Addr;

use onyx::mqtt::Connect;

use crate::certs::Kind;
use crate::guide::witness;
use crate::mosquitto::client;
use crate::stage::{IMSI_A, IMSI_B, IMSI_T, Running, Stage, client_id, name};

const AWS: Ipv4Addr = Ipv4Addr::new(127, 0, 31, 1);
const GRID: Ipv4Addr = Ipv4Addr::new(127, 0, 31, 2);
const PLAIN: Ipv4Addr = Ipv4Addr::new(127, 0, 31, 3);
const INLINE: Ipv4Addr = Ipv4Addr::new(127, 0, 31, 4);
const OFF: Ipv4Addr = Ipv4Addr::new(127, 0, 31, 5);

/// The hands-on's `group-config.json`, its endpoint filled in.
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

/// What the Event Grid guide has its reader set in the console.
const EVENT_GRID: &str = r##"[{"key": "mqtt://beam.soracom.io:1883", "value": {
  "name": "Event Grid", "enabled": true,
  "destination": "mqtts://beam-event-grid.japaneast-1.ts.eventgrid.azure.net:8883",
  "username": "myClient-#{imsi}", "useClientCert": true,
  "clientCerts": {"default": {"$credentialsId": "myClient-#{imsi}"}}, "version": "201912"
}}]"##;

/// A whole MQTT entry point.
fn entry(inside: &str) -> String {
    format!(r#"[{{"key": "mqtt://beam.soracom.io:1883", "value": {{{inside}}}}}]"#)
}

/// The file with groups and subscribers (`name`, TOML of the group; IMSI, its source, its group).
fn gateway(stage: &Stage, groups: &[(&str, &str, &str)], subscribers: &[(&str, Ipv4Addr, &str)]) -> String {
    let mut out = String::from(
        "[listen]\naddress = '127.0.0.1:0'\n[credentials]\nfolder = 'credentials'\n[status]\nsocket = 'status.sock'\n",
    );
    for (name, json, more) in groups {
        std::fs::write(stage.path(&format!("{name}.json")), json).unwrap();
        out += &format!("[[group]]\nname = '{name}'\nfile = '{name}.json'\n{more}\n");
    }
    for (imsi, source, group) in subscribers {
        out += &format!("[[subscriber]]\nimsi = '{imsi}'\nsource = '{source}'\ngroup = '{group}'\n");
    }
    out
}

fn to_the_broker(stage: &Stage) -> String {
    format!("address = '{}'\nca_file = 'ca/root.pem'", stage.upstream())
}

/// The guides' `mosquitto_pub`; how the broker saw the device.
fn publish(stage: &Stage, gateway: &Running, source: Ipv4Addr, id: &str) -> String {
    let from = source.to_string();
    let args = [
        "-d", "-V", "mqttv311", "-i", id, "-t", "topic", "-m", "test", "-q", "1", "-A", &from,
    ];
    let said = client("mosquitto_pub", gateway.address, &args);
    assert!(
        said.status.success() && said.text.contains("received PUBACK"),
        "{}",
        said.text
    );
    stage.broker.wait_for(&["New client connected", &format!(" as {id} ")])
}

#[test]
fn the_guides_configurations_work_unchanged_side_by_side() {
    let stage = Stage::with(None, false, Kind::Ec);
    let hands_on = format!("handson-aws-iot-{IMSI_A}");
    stage
        .authority
        .device(Kind::Ec, &hands_on, "thing-a", &stage.credentials());
    let broker = to_the_broker(&stage);
    let plain = entry(
        r##""destination": "mqtt://localhost", "username": "u-#{imsi}", "password": "p-#{imsi}", "addSubscriberHeader": true"##,
    );
    let pass = entry(r#""destination": "mqtt://localhost", "useClientCredentials": true, "enabled": true"#);
    let to_plain = format!("address = '{}'", stage.broker.plain());
    let text = gateway(
        &stage,
        &[
            ("aws", HANDS_ON, &broker),
            ("grid", EVENT_GRID, &broker),
            ("plain", &plain, &to_plain),
            ("pass", &pass, &to_plain),
        ],
        &[
            (IMSI_A, AWS, "aws"),
            (IMSI_B, GRID, "grid"),
            (IMSI_T, PLAIN, "plain"),
            ("295012345678904", INLINE, "pass"),
        ],
    );
    let gateway = Running::start(&text, stage.dir.path());
    let watch = witness(stage.broker.plain(), "#", &["-q", "1"]);
    // The hands-on names no user: the certificate is the proof, and mosquitto shows no user name then.
    let line = publish(&stage, &gateway, AWS, "thing-a");
    assert!(!line.contains(", u'"), "{line}");
    let line = publish(&stage, &gateway, GRID, &client_id(IMSI_B));
    assert!(line.contains(&format!("u'{}'", name(IMSI_B))), "{line}");
    let line = publish(&stage, &gateway, PLAIN, "plain-1");
    assert!(line.contains(&format!("u'u-{IMSI_T}'")), "{line}");
    watch.wait_until(|t| t.contains("topic test"));
    // The device's own login, as Beam's useClientCredentials passes it on.
    let mut connect = Connect::new("pass-1", true, 60);
    connect.username = Some("own".into());
    connect.password = Some(bytes::Bytes::from_static(b"secret"));
    drop(gateway.device(INLINE, &connect));
    let line = stage.broker.wait_for(&["New client connected", " as pass-1 "]);
    assert!(line.contains("u'own'"), "{line}");
}

#[test]
fn the_default_credential_serves_until_the_own_one_is_there() {
    // Here mosquitto takes the user name from the certificate, so its log tells which one came.
    let stage = Stage::new();
    stage
        .authority
        .device(Kind::Ec, "first-boot", "first-boot", &stage.credentials());
    let broker = format!("{}\ndefault_credential = 'first-boot'", to_the_broker(&stage));
    let text = gateway(&stage, &[("aws", HANDS_ON, &broker)], &[(IMSI_A, AWS, "aws")]);
    let gateway = Running::start(&text, stage.dir.path());
    let line = publish(&stage, &gateway, AWS, "before");
    assert!(line.contains("u'first-boot'"), "{line}");
    let own = format!("handson-aws-iot-{IMSI_A}");
    stage.authority.device(Kind::Ec, &own, "thing-a", &stage.credentials());
    let line = publish(&stage, &gateway, AWS, "after");
    assert!(line.contains("u'thing-a'"), "{line}");
    // A credential that is there and broken is an error, and not covered up by the default one.
    std::fs::write(stage.credentials().join(format!("{own}.key")), "no key").unwrap();
    let from = AWS.to_string();
    let said = client(
        "mosquitto_pub",
        gateway.address,
        &["-d", "-i", "x", "-t", "t", "-m", "m", "-A", &from],
    );
    assert!(
        !said.status.success() && said.text.contains("CONNACK (3)"),
        "{}",
        said.text
    );
}

#[test]
fn a_certificate_may_stand_in_the_configuration_itself() {
    let stage = Stage::new();
    stage
        .authority
        .device(Kind::Ec, "inline", "inline-device", &stage.path("elsewhere"));
    let pem = |file: &str| std::fs::read_to_string(stage.path(file)).unwrap();
    let value = serde_json::json!([{"key": "mqtt://beam.soracom.io:1883", "value": {
        "destination": "mqtts://localhost", "useClientCert": true,
        "clientCerts": {"default": {
            "ca": pem("ca/root.pem"), "cert": pem("elsewhere/inline.pem"), "key": pem("elsewhere/inline.key"),
        }},
    }}]);
    let address = format!("address = '{}'", stage.upstream());
    let text = gateway(
        &stage,
        &[("inline", &value.to_string(), &address)],
        &[(IMSI_A, INLINE, "inline")],
    );
    let gateway = Running::start(&text, stage.dir.path());
    let line = publish(&stage, &gateway, INLINE, "i-1");
    assert!(line.contains("u'inline-device'"), "{line}");
}

#[test]
fn a_group_that_is_not_enabled_lets_nobody_in() {
    let stage = Stage::new();
    let off = EVENT_GRID.replace("\"enabled\": true", "\"enabled\": false");
    let broker = to_the_broker(&stage);
    let text = gateway(&stage, &[("off", &off, &broker)], &[(IMSI_A, OFF, "off")]);
    let gateway = Running::start(&text, stage.dir.path());
    let from = OFF.to_string();
    let said = client(
        "mosquitto_pub",
        gateway.address,
        &["-d", "-i", "x", "-t", "t", "-m", "m", "-A", &from],
    );
    assert!(
        !said.status.success() && said.text.contains("CONNACK (5)"),
        "{}",
        said.text
    );
    assert_eq!(gateway.status.refused("group_disabled"), 1);
}

#[test]
fn mistakes_in_a_groups_file_stop_the_start_with_their_place() {
    use onyx::clock::Clock;
    use onyx::gateway::{Config, Gateway};
    let stage = Stage::new();
    let bad = HANDS_ON
        .replace("useClientCert", "useClientCrt")
        .replace("true,", "\"yes\",");
    let text = gateway(
        &stage,
        &[("bad", &bad, ""), ("none", "[]", "")],
        &[(IMSI_A, AWS, "bad")],
    );
    // Reading gateway.toml reads no other file.
    let config = Config::from_text(&stage.path("gateway.toml"), text).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let why = runtime
        .block_on(Gateway::bind(config, &Clock::new()))
        .unwrap_err()
        .to_string();
    for want in [
        "group bad:",
        "bad.json:7:18: [0].value.enabled: must be true or false, not a string",
        "bad.json:9:7: [0].value.useClientCrt: unknown key \"useClientCrt\"; did you mean \"useClientCert\"?",
        "none.json:1:1: has no MQTT entry point",
    ] {
        assert!(why.contains(want), "{want:?} is not in\n{why}");
    }
    let text = "[[group]]\nname = 'a'\nfile = 'a.json'\n[[group]]\nname = 'a'\nfile = 'b.json'\naddress = 'x'\n\
                [[subscriber]]\nimsi = '100001'\nsource = '10.0.0.1'\n[[subscriber]]\nimsi = '100002'\nsource = '10.0.0.2'\ngroup = 'b'\n";
    let why = Config::from_text(&stage.path("gateway.toml"), text)
        .unwrap_err()
        .to_string();
    for want in [
        ":5:8: group.name: the same name as [[group]] number 1",
        ":7:11: group.address: is not HOST:PORT",
        "credentials.folder: is missing",
        "subscriber.group: is missing: there are several [[group]]s",
        ":14:9: subscriber.group: there is no group b; did you mean \"a\"?",
    ] {
        assert!(why.contains(want), "{want:?} is not in\n{why}");
    }
}
