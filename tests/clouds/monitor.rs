//! `onyx-bench clouds monitor`, the program.

use std::path::Path;
use std::process::Stdio;

use onyx::bench::clouds::{Cloud, Clouds, Config};
use serde_json::{Value, json};

use crate::tools::{LIMIT, Lines, command, output, spawn, succeed};

const USER: &str = "onyx-hub.azure-devices.net/dev/?api-version=2021-04-12";

async fn publish(clouds: &Clouds, dir: &Path, payload: &str) {
    clouds.write_device("dev").unwrap();
    let mut c = command("mosquitto_pub");
    let port = clouds.address(Cloud::IotHub).unwrap().port().to_string();
    c.args([
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-i",
        "dev",
        "-u",
        USER,
        "-q",
        "1",
        "-m",
        payload,
    ]);
    c.arg("--cafile").arg(dir.join("ca.pem"));
    c.arg("--cert").arg(dir.join("devices/dev.pem"));
    c.arg("--key").arg(dir.join("devices/dev.key"));
    c.args([
        "-t",
        "devices/dev/messages/events/$.ct=application%2Fjson&$.ce=utf-8&k=v",
    ]);
    succeed(&mut c).await;
}

/// One document with its indentation.
async fn document(lines: &mut Lines) -> String {
    let mut text = String::new();
    loop {
        let line = lines.next().await;
        text += &line;
        text.push('\n');
        if line == "}" {
            return text;
        }
    }
}

#[tokio::test]
async fn messages_are_printed_as_they_come_and_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let clouds = Clouds::start(Config::new(dir)).await.unwrap();
    publish(&clouds, dir, "[0]").await;
    let monitor = |more: &[&str]| {
        let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
        c.args(["clouds", "monitor", "--dir"]).arg(dir).args(more);
        c.stdout(Stdio::piped()).stderr(Stdio::piped());
        c
    };
    let mut child = spawn(&mut monitor(&["--device-id", "d*"]));
    let mut said = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stderr.take().unwrap()));
    let first = tokio::time::timeout(LIMIT, said.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        first,
        "Starting event monitor, filtering on device: d*, use ctrl-c to stop..."
    );
    let mut lines = Lines::of(&mut child);
    publish(&clouds, dir, r#"{"t": 21.5}"#).await;
    let want = r#"{
    "event": {
        "origin": "dev",
        "module": "",
        "interface": "",
        "component": "",
        "payload": {
            "t": 21.5
        }
    }
}
"#;
    assert_eq!(document(&mut lines).await, want, "and not the message from before");
    clouds.stop().await;
    let clouds = Clouds::start(Config::new(dir)).await.unwrap();
    publish(&clouds, dir, "2").await;
    assert!(document(&mut lines).await.contains("\"payload\": 2"));
    succeed(command("kill").args(["-INT", &child.id().unwrap().to_string()])).await;
    assert!(
        tokio::time::timeout(LIMIT, child.wait())
            .await
            .unwrap()
            .unwrap()
            .success()
    );

    let all = ["--all", "--json", "--properties", "all", "--timeout", "1"];
    let out = output(&mut monitor(&all)).await;
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let payloads: Vec<_> = events.iter().map(|e| e["event"]["payload"].clone()).collect();
    assert_eq!(payloads, [json!([0]), json!({"t": 21.5}), json!(2)]);
    let properties = &events[0]["event"]["properties"];
    assert_eq!(properties["application"], json!({"k": "v"}));
    assert_eq!(
        properties["system"],
        json!({"content_type": "application/json", "content_encoding": "utf-8"})
    );
    assert_eq!(events[0]["event"]["annotations"]["iothub-connection-device-id"], "dev");
    let out = output(&mut monitor(&["--all", "--device-id", "other", "--timeout", "1"])).await;
    assert!(out.status.success() && out.stdout.is_empty());
}
