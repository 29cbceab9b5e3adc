//! The commands that work on a store, as an operator types them. Sources are 127.0.33.0/24.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::api::store_config;
use crate::mosquitto::client;
use crate::stage::{A, IMSI_A, IMSI_B, IMSI_T, Running, Stage, TOKEN, client_id, name};

fn run(stage: &Stage, config: &str, args: &[&str]) -> (Output, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
        .args(args)
        .args(["--config", config])
        .current_dir(stage.dir.path())
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    (out, text)
}

fn good(stage: &Stage, args: &[&str]) -> String {
    let (out, text) = run(stage, "gateway.toml", args);
    assert!(out.status.success(), "{args:?}: {text}");
    text
}

fn bad(stage: &Stage, args: &[&str], want: &str) {
    let (out, text) = run(stage, "gateway.toml", args);
    assert!(
        !out.status.success() && text.contains(want),
        "{args:?}: {want:?} is not in {text}"
    );
}

fn with_store() -> Stage {
    let stage = Stage::new();
    std::fs::write(stage.path("gateway.toml"), store_config(&stage)).unwrap();
    stage
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn from_an_empty_store_to_a_message() {
    let stage = with_store();
    write(
        &stage.path("group-config.json"),
        r##"[{"key": "mqtt://beam.soracom.io:1883", "value": {"destination": "mqtts://localhost:8883", "username": "myClient-#{imsi}",
            "useClientCert": true, "clientCerts": {"default": {"$credentialsId": "myClient-#{imsi}"}}}}]"##,
    );
    assert!(good(&stage, &["group", "create", "--id", "grid", "--name", "Event Grid"]).contains("created group grid"));
    bad(&stage, &["group", "create", "--id", "grid"], "already");
    let put = |body: &str| -> Vec<String> {
        [
            "group",
            "put-config",
            "--namespace",
            "SoracomBeam",
            "--group-id",
            "grid",
            "--body",
            body,
        ]
        .map(str::to_owned)
        .into()
    };
    let args = put("@group-config.json");
    good(&stage, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let address = format!(r#"[{{"key": "address", "value": "{}"}}]"#, stage.upstream());
    good(
        &stage,
        &[
            "group",
            "put-config",
            "--namespace",
            "OnyxGateway",
            "--group-id",
            "grid",
            "--body",
            &address,
        ],
    );
    write(
        &stage.path("bad.json"),
        "[{\"key\": \"mqtt://beam.soracom.io:1883\",\n\"value\": {\"destinatio\": 1}}]",
    );
    let args = put("@bad.json");
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    bad(
        &stage,
        &args,
        "2:11: [0].value.destinatio: unknown key \"destinatio\"; did you mean \"destination\"?",
    );

    let (cert, key) = (
        format!("credentials/{}.pem", name(IMSI_A)),
        format!("credentials/{}.key", name(IMSI_A)),
    );
    let id = name(IMSI_A);
    let create = [
        "credential",
        "create",
        "--type",
        "x509",
        "--credentials-id",
        &id,
        "--cert",
        &cert,
        "--key",
        &key,
        "--ca",
        "ca/root.pem",
    ];
    assert!(good(&stage, &create).contains(&format!("created {id} x509 until ")));
    bad(&stage, &create, "already");
    let other = format!("credentials/{}.key", name(IMSI_B));
    let mixed = [
        "credential",
        "update",
        "--credentials-id",
        &id,
        "--cert",
        &cert,
        "--key",
        &other,
    ];
    bad(&stage, &mixed, "credentials.key");

    let from = A.to_string();
    assert!(
        good(
            &stage,
            &[
                "subscriber",
                "add",
                IMSI_A,
                "--group",
                "grid",
                "--source",
                &from,
                "--name",
                "pi"
            ]
        )
        .contains("pi")
    );
    bad(&stage, &["subscriber", "add", IMSI_A], "already");
    bad(
        &stage,
        &["subscriber", "add", IMSI_B, "--group", "gird"],
        "there is no group gird",
    );
    bad(&stage, &["group", "remove", "grid"], "grid");
    let (out, text) = run(&stage, "gateway.toml", &["check"]);
    assert!(
        out.status.success() && text.contains("grid") && text.contains("0 errors"),
        "{text}"
    );

    let gateway = Running::start(
        &std::fs::read_to_string(stage.path("gateway.toml")).unwrap(),
        stage.dir.path(),
    );
    let publish = |args: &[&str]| {
        let id = client_id(IMSI_A);
        let all = [
            &["-d", "-V", "mqttv311", "-i", &id, "-t", "t", "-m", "m", "-q", "1"][..],
            args,
        ]
        .concat();
        client("mosquitto_pub", gateway.address, &all)
    };
    let said = publish(&["-A", &from]);
    assert!(said.text.contains("received PUBACK"), "{}", said.text);
    stage
        .broker
        .wait_for(&["New client connected", &format!("u'{}'", name(IMSI_A))]);
    // Everything below happens while the gateway runs.
    let token: Value = serde_json::from_str(&good(&stage, &["token", "new", IMSI_A, "--json"])).unwrap();
    let token = token["token"].as_str().unwrap();
    assert_eq!(token.len(), 32);
    good(&stage, &["subscriber", "set", IMSI_A, "--without", "source"]);
    assert!(publish(&["-u", "x", "-P", token]).text.contains("received PUBACK"));
    good(&stage, &["subscriber", "set", IMSI_A, "--enabled", "false"]);
    assert!(publish(&["-u", "x", "-P", token]).text.contains("CONNACK (5)"));
    let list: Value = serde_json::from_str(&good(&stage, &["subscriber", "list", "--json"])).unwrap();
    assert_eq!(
        (list[0]["status"].as_str(), list[0]["hasToken"].as_bool()),
        (Some("inactive"), Some(true))
    );
    assert!(!good(&stage, &["subscriber", "show", IMSI_A]).contains(token));
    bad(&stage, &["subscriber", "show", IMSI_T], "there is no subscriber");
    good(&stage, &["subscriber", "remove", IMSI_A]);
    assert!(good(&stage, &["subscriber", "list"]).contains("there are none"));
}

#[test]
fn a_gateway_in_files_moves_into_a_store_and_the_store_into_another() {
    let stage = with_store();
    write(&stage.path("old.toml"), &stage.config_text(stage.upstream(), ""));
    // In files, the commands say where things stand.
    let (out, text) = run(&stage, "old.toml", &["subscriber", "list"]);
    assert!(
        !out.status.success() && text.contains("stand in old.toml and its folder"),
        "{text}"
    );
    let said = good(&stage, &["import", "old.toml"]);
    assert!(
        said.contains("imported 3 subscribers, 1 groups and 3 credentials"),
        "{said}"
    );
    // Twice is once.
    good(&stage, &["import", "old.toml"]);
    let plain = good(&stage, &["export"]);
    let sealed = good(&stage, &["export", "--secrets", "--key-file", "parcel.key"]);
    let text = std::fs::read_to_string(stage.path("gateway.toml")).unwrap();
    write(
        &stage.path("other.toml"),
        &text.replace("store.db", "other.db").replace("store.key", "other.key"),
    );
    write(&stage.path("plain.json"), &plain);
    write(&stage.path("sealed.json"), &sealed);

    let (out, said) = run(&stage, "other.toml", &["import", "plain.json"]);
    assert!(out.status.success(), "{said}");
    assert!(
        said.contains("3 subscribers, 1 groups and 0 credentials") && said.contains("has no secret here: put it again"),
        "{said}"
    );
    assert!(said.contains(&format!("subscriber {IMSI_T} had a token")), "{said}");
    let (out, said) = run(
        &stage,
        "other.toml",
        &["import", "sealed.json", "--key-file", "parcel.key"],
    );
    assert!(out.status.success() && said.contains("and 3 credentials"), "{said}");
    write(&stage.path("wrong.key"), "0123456789abcdef0123456789abcdef");
    std::fs::set_permissions(
        stage.path("wrong.key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let (out, said) = run(
        &stage,
        "other.toml",
        &["import", "sealed.json", "--key-file", "wrong.key"],
    );
    assert!(
        !out.status.success() && said.contains("sealed under another key"),
        "{said}"
    );

    // Both serve; the token is known where the file was imported.
    for (config, args) in [
        ("gateway.toml", &["-u", "x", "-P", TOKEN][..]),
        ("other.toml", &["-A", "127.0.0.11"]),
    ] {
        let gateway = Running::start(&std::fs::read_to_string(stage.path(config)).unwrap(), stage.dir.path());
        let id = format!("from-{config}");
        let all = [
            &["-d", "-V", "mqttv311", "-i", &id, "-t", "t", "-m", "m", "-q", "1"][..],
            args,
        ]
        .concat();
        let said = client("mosquitto_pub", gateway.address, &all);
        assert!(said.text.contains("received PUBACK"), "{config}: {}", said.text);
    }
    let (_, said) = run(&stage, "gateway.toml", &["store", "rekey"]);
    assert!(said.contains("sealed 3 credentials"), "{said}");
    assert!(good(&stage, &["store", "info"]).contains("3 subscribers, 1 groups, 3 credentials"));
    assert!(good(&stage, &["check"]).contains("0 errors"));
}
