//! Every operation of Krypton by the built program; text without secrets; files that never replace others; and what was granted used by
//! those who did not grant it: azure-iot-device and mosquitto_pub.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use onyx::bench::clouds::Cloud;
use serde_json::{Value, json};

use crate::judges;
use crate::krypton_door::{ALL, Door, asked, is_pem, looks_right};
use crate::stage::{Bench, IMSI};

/// What has its own place in an answer and must never be in the text form.
const SECRETS: [&str; 6] = [
    "privateKey",
    "secretKey",
    "sessionToken",
    "token",
    "applicationKey",
    "arcClientPeerPrivateKey",
];

#[test]
fn the_cellular_door_needs_no_file_and_has_all_but_airs() {
    let bench = Bench::without_dongle();
    let clouds = bench.clouds_with(|c| c.assigning_polls = 1);
    let door = Door::cellular(&bench, &clouds);
    let mut events = clouds.events();
    for operation in &ALL[..6] {
        looks_right(operation, &door.json(operation, &[]));
    }
    let all = asked(&mut events);
    assert_eq!(
        all.iter()
            .filter(|a| a.starts_with("GET /v1/provisioning/azure/iot/registrations/5."))
            .count(),
        2
    );
    assert_eq!(all.len(), 3 + 5, "{all:?}");
    let v = door.json("inventory", &["--endpoint", "sensor"]);
    assert_eq!(
        clouds.inventory_key(v["pskId"].as_str().unwrap()).unwrap(),
        v["applicationKey"]
    );
    assert!(v["pskId"].as_str().unwrap().starts_with("sensor-"));
    asked(&mut events);
    for (operation, more) in [("metadata", &[][..]), ("userdata", &[]), ("azure", &["--at-once"])] {
        door.fails(operation, more, &["cellular door has no", "--auth sim"]);
    }
    door.fails(
        "azure",
        &["--parameter", "deviceId=d-#{imsi}"],
        &["needs the modem", "--config"],
    );
    door.fails(
        "metadata",
        &["--auth", "sim"],
        &["SIM authentication needs the modem", "--config"],
    );
    assert!(asked(&mut events).is_empty());
}

#[test]
fn the_text_form_shows_no_secret_and_says_how_to_get_them() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.userdata = "from the group\n".into());
    let (cellular, sim) = (Door::cellular(&bench, &clouds), Door::sim(&bench, &clouds));
    for operation in ALL {
        let door = if ["metadata", "userdata"].contains(&operation) {
            &sim
        } else {
            &cellular
        };
        let (good, out, err) = door.ask(operation, &[]);
        assert!(good, "{err}");
        assert!(!out.contains("BEGIN"), "{out}");
        for secret in SECRETS {
            if let Some(line) = out.lines().find(|l| l.split(' ').next() == Some(secret)) {
                assert!(line.ends_with("(secret)"), "{line}");
                assert!(out.contains("--out DIR") && out.contains("--json"), "{out}");
            }
        }
        match operation {
            "userdata" => assert_eq!(out, "from the group\n"),
            "metadata" => assert!(out.contains("plan01s") && !out.contains("--out"), "{out}"),
            "azure" => assert!(out.contains(&format!("of myDevice-{IMSI}, valid 20")), "{out}"),
            _ => assert!(out.contains("(secret)"), "{out}"),
        }
    }
}

#[test]
fn aws_piece_by_piece_and_by_another_name() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let mut events = clouds.events();
    for (door, doors) in [(Door::cellular(&bench, &clouds), 0), (Door::sim(&bench, &clouds), 2)] {
        let whole = door.json("aws", &["--parameter", "thingName=my:thing_1-a"]);
        asked(&mut events);
        let pieces = door.json("aws", &["--skip-certificates", "--parameter", "thingName=my:thing_1-a"]);
        let all = asked(&mut events);
        let id = pieces["certificateId"].as_str().unwrap();
        assert_eq!(
            all,
            [
                "POST /v1/provisioning/aws/iot/bootstrap".to_owned(),
                format!("POST /v1/provisioning/aws/iot/certificates/{id}"),
                "POST /v1/provisioning/aws/iot/ca_certificate".to_owned(),
            ],
            "{doors}"
        );
        for v in [&whole, &pieces] {
            assert_eq!(v["clientId"], "my:thing_1-a");
            assert!(is_pem(&v["certificate"]) && is_pem(&v["privateKey"]));
        }
        assert_eq!(
            whole["rootCaCertificate"].as_str().unwrap().trim(),
            pieces["rootCaCertificate"].as_str().unwrap().trim()
        );
        assert_ne!(whole["certificate"], pieces["certificate"], "every call makes new ones");
        door.fails("aws", &["--parameter", "thingName=my thing"], &["thingName", "letters"]);
        assert!(asked(&mut events).is_empty());
        door.fails(
            "azure",
            &["--parameter", "deviceId=a b"],
            &["refuses (HTTP 400)", "deviceId", "--parameter"],
        );
        asked(&mut events);
    }
}

#[test]
fn files_are_written_once_with_their_modes_and_never_over_others() {
    let bench = Bench::without_dongle();
    let clouds = bench.clouds();
    let door = Door::cellular(&bench, &clouds);
    let modes = |dir: &str| -> Vec<(String, u32)> {
        let mut all: Vec<_> = std::fs::read_dir(bench.path(dir))
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| {
                (
                    e.file_name().into_string().unwrap(),
                    e.metadata().unwrap().permissions().mode() & 0o777,
                )
            })
            .collect();
        all.sort();
        all
    };
    let out = |dir: &str| bench.path(dir).display().to_string();
    let (good, text, err) = door.ask("azure", &["--out", &out("new/azure")]);
    assert!(good, "{err}");
    assert!(text.contains("private.key") && !text.contains("BEGIN"), "{text}");
    let wanted = [
        ("answer.json", 0o600),
        ("ca.pem", 0o644),
        ("certificate.pem", 0o644),
        ("private.key", 0o600),
    ];
    let wanted: Vec<_> = wanted.iter().map(|(n, m)| ((*n).to_owned(), *m)).collect();
    assert_eq!(modes("new/azure"), wanted);
    let mode = std::fs::metadata(bench.path("new/azure")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    let answer = std::fs::read_to_string(bench.path("new/azure/answer.json")).unwrap();
    let v: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (&v["deviceId"], &v["privateKey"]),
        (&json!(format!("myDevice-{IMSI}")), &Value::Null)
    );
    // Once more: refused before anybody is asked, whatever the operation; nothing changes.
    let mut events = clouds.events();
    let before = std::fs::read(bench.path("new/azure/private.key")).unwrap();
    for operation in ["azure", "aws", "arc"] {
        door.fails(
            operation,
            &["--out", &out("new/azure")],
            &["private.key is there already", "nothing was asked"],
        );
    }
    assert!(asked(&mut events).is_empty());
    assert_eq!(std::fs::read(bench.path("new/azure/private.key")).unwrap(), before);
    assert_eq!(modes("new/azure"), wanted);
    // Secrets that are no PEM go into the private answer.
    let (good, _, err) = door.ask("cognito-token", &["--out", &out("token")]);
    assert!(good, "{err}");
    assert_eq!(modes("token"), [("answer.json".to_owned(), 0o600)]);
    bench.write("file", "");
    door.fails("arc", &["--out", &out("file/x")], &["cannot be made"]);
}

/// Microsoft's own client connects with what the program wrote, and publishes.
#[test]
fn azure_iot_device_uses_what_was_written() {
    let bench = Bench::new();
    // Its port is fixed, so the stand-ins have addresses of their own.
    let clouds = bench.clouds_with(|c| {
        c.bind = "127.0.93.1".parse().unwrap();
        c.standard_ports = true;
        c.only = vec![Cloud::Krypton, Cloud::KryptonSim, Cloud::IotHub];
    });
    for (n, door) in [Door::cellular(&bench, &clouds), Door::sim(&bench, &clouds)]
        .into_iter()
        .enumerate()
    {
        let dir = bench.path(&format!("azure-{n}"));
        let (good, _, err) = door.ask("azure", &["--out", dir.to_str().unwrap()]);
        assert!(good, "{err}");
        let v: Value = serde_json::from_slice(&std::fs::read(dir.join("answer.json")).unwrap()).unwrap();
        let hub = clouds.address(Cloud::IotHub).unwrap().ip().to_string();
        let told = bench.write(
            "told",
            "{\"do\":\"connect\"}\n{\"do\":\"send\",\"data\":\"from the judge\",\"custom\":{}}\n{\"do\":\"disconnect\"}\n{\"do\":\"end\"}\n",
        );
        let mut judge = judges::python();
        judge
            .arg(judges::script("iot_hub.py"))
            .args([&hub, v["host"].as_str().unwrap(), v["deviceId"].as_str().unwrap()])
            .args([dir.join("ca.pem"), dir.join("certificate.pem"), dir.join("private.key")])
            .stdin(Stdio::from(std::fs::File::open(told).unwrap()));
        let said = bench.rt.block_on(judges::run(&mut judge));
        let done: Vec<_> = said.iter().filter(|s| s["event"] == "done").map(|s| &s["do"]).collect();
        assert_eq!(done, ["connect", "send", "disconnect"], "{said:?}");
        let messages = clouds.messages();
        assert_eq!(messages.len(), n + 1);
        assert_eq!(messages[n].client_id, format!("myDevice-{IMSI}"));
    }
}

#[test]
fn mosquitto_pub_uses_what_was_written() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    for (n, (door, more)) in [
        (Door::cellular(&bench, &clouds), &[][..]),
        (Door::cellular(&bench, &clouds), &["--skip-certificates"]),
        (Door::sim(&bench, &clouds), &[]),
        (Door::sim(&bench, &clouds), &["--skip-certificates"]),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = bench.path(&format!("aws-{n}"));
        // A thing of its own each: AWS takes one CONNECT a second from a client id.
        let thing = format!("thingName=thing-{n}");
        let (good, _, err) = door.ask(
            "aws",
            &[&["--out", dir.to_str().unwrap(), "--parameter", &thing], more].concat(),
        );
        assert!(good, "{err}");
        let v: Value = serde_json::from_slice(&std::fs::read(dir.join("answer.json")).unwrap()).unwrap();
        let path = |name: &str| dir.join(name).display().to_string();
        let port = clouds.address(Cloud::AwsIot).unwrap().port().to_string();
        // A name, because mosquitto sends SNI for names only; the stand-in's certificate has this one too.
        let out = std::process::Command::new(crate::mosquitto::program("mosquitto_pub", "mosquitto-clients"))
            .args(["-h", "localhost", "-p", &port, "-i", v["clientId"].as_str().unwrap()])
            .args([
                "--cafile",
                &path("ca.pem"),
                "--cert",
                &path("certificate.pem"),
                "--key",
                &path("private.key"),
            ])
            .args(["-t", "exampletopics/x", "-q", "1", "-m", "from mosquitto_pub"])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let messages = clouds.messages();
        assert_eq!((messages.len(), &messages[n].client_id), (n + 1, &format!("thing-{n}")));
    }
}
