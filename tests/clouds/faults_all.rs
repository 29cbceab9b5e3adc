//! Every fault once on the command line, once by scenario file and once by the control endpoint, each seen by a peer that is not ours:
//! mosquitto_pub, mosquitto_sub, curl, openssl s_client.

use std::process::Stdio;

use futures_util::{StreamExt, stream};

use crate::stage::{Stage, Way, said};
use crate::tools::{LIMIT, Lines, fail, output, spawn, succeed};

/// Benches that run at a time in one of these tests.
const AT_ONCE: usize = 3;

/// Faults of TLS and TCP, seen by openssl.
const OPENSSL: [(&str, &str); 6] = [
    ("iot-hub:refuse-tcp*1", ""),
    ("iot-hub:tls-alert-48", "alert unknown ca"),
    ("iot-hub:cert-expired", "certificate has expired"),
    ("iot-hub:cert-not-yet-valid", "certificate is not yet valid"),
    ("iot-hub:cert-wrong-name", "hostname mismatch"),
    ("iot-hub:cert-unknown-authority", "verif"),
];
/// Stalls of the handshake: how many bytes went up and down before. `None`: some.
const STALLS: [(&str, Option<u64>, Option<u64>); 6] = [
    ("iot-hub:stall@accept", Some(0), Some(0)),
    ("iot-hub:stall@client-hello", None, Some(0)),
    ("iot-hub:stall@server-hello", None, Some(40)),
    ("iot-hub:stall@finished", None, None),
    ("iot-hub:stall-up@100", Some(100), Some(0)),
    ("iot-hub:stall-down@500", None, Some(500)),
];
/// Cuts: where the count stops.
const CUTS: [(&str, &str, u64); 3] = [
    ("iot-hub:cut-up@100", "bytes_up", 100),
    ("iot-hub:cut-down@300", "bytes_down", 300),
    ("iot-hub:cut@700", "both", 700),
];
/// Steps of MQTT: what mosquitto was doing.
const MQTT_STALLS: [&str; 3] = [
    "event-grid:stall@connect",
    "event-grid:stall@subscribe",
    "event-grid:stall@publish",
];
const MQTT: [&str; 9] = [
    "event-grid:refuse-5",
    "event-grid:close-after-connack",
    "event-grid:cut-after-1",
    "event-grid:no-puback",
    "event-grid:no-suback",
    "event-grid:no-pingresp",
    "event-grid:late-acks=1500ms",
    "event-grid:duplicate",
    "event-grid:client-certs-expired",
];
const HTTPS: [&str; 9] = [
    "krypton:http-503",
    "krypton:html",
    "krypton:empty",
    "krypton:truncated",
    "krypton:slow",
    "krypton:stall@request",
    "krypton:stall@response",
    "krypton:throttle=1500",
    "krypton:failed",
];

async fn all(way: Way) {
    let openssl = OPENSSL.map(|(f, _)| f);
    let stalls = STALLS.map(|(f, _, _)| f);
    let cuts = CUTS.map(|(f, _, _)| f);
    let every = openssl.into_iter().chain(stalls).chain(cuts).chain(MQTT_STALLS);
    let every = every.chain(MQTT).chain(HTTPS);
    let runs = stream::iter(every).map(|fault| async move {
        let mut stage = Stage::with(way, fault).await;
        shows(&mut stage, fault).await;
    });
    runs.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn by_command_line() {
    all(Way::CommandLine).await;
}

#[tokio::test]
async fn by_scenario_file() {
    all(Way::Scenario).await;
}

#[tokio::test]
async fn by_the_control_endpoint() {
    all(Way::Control).await;
}

async fn shows(stage: &mut Stage, fault: &str) {
    if let Some((_, complaint)) = OPENSSL.iter().find(|(f, _)| *f == fault) {
        let out = output(&mut stage.openssl("iot-hub")).await;
        let text = said(&out).to_lowercase();
        assert!(!out.status.success() && text.contains(complaint), "{fault}: {text}");
        if fault.ends_with("*1") {
            let refused = stage.refused("iot-hub").await;
            assert_eq!(refused["detail"], "refuse-tcp");
            succeed(&mut stage.openssl("iot-hub")).await;
        }
    } else if let Some((_, up, down)) = STALLS.iter().find(|(f, _, _)| *f == fault) {
        let mut peer = stage.openssl("iot-hub");
        let (got_up, got_down) = stalled(stage, "iot-hub", &mut peer).await;
        assert!(up.map_or(got_up > 0, |n| n == got_up), "{fault}: {got_up} up");
        assert!(
            down.map_or(got_down > 40, |n| n == got_down),
            "{fault}: {got_down} down"
        );
    } else if let Some((_, what, n)) = CUTS.iter().find(|(f, _, _)| *f == fault) {
        fail(&mut stage.openssl("iot-hub")).await;
        let closed = stage.closed("iot-hub").await;
        let count = |key: &str| closed[key].as_u64().unwrap();
        let got = match *what {
            "both" => count("bytes_up") + count("bytes_down"),
            one => count(one),
        };
        assert_eq!(got, *n, "{fault}: {closed}");
    } else if MQTT_STALLS.contains(&fault) {
        let mut peer = if fault.ends_with("subscribe") {
            stage.mosquitto("mosquitto_sub")
        } else {
            stage.publisher()
        };
        let (up, down) = stalled(stage, "event-grid", &mut peer).await;
        assert!(up > 500 && down > 500, "TLS came about: {up}, {down}");
    } else if fault.starts_with("event-grid:") {
        mqtt(stage, fault.trim_start_matches("event-grid:")).await;
    } else {
        https(stage, fault.trim_start_matches("krypton:")).await;
    }
}

/// Runs a peer until a fault holds its connection still; how many bytes went up and down before.
async fn stalled(stage: &mut Stage, cloud: &str, peer: &mut tokio::process::Command) -> (u64, u64) {
    let mut child = spawn(peer.stdout(Stdio::null()).stderr(Stdio::null()));
    let is = |v: &serde_json::Value| {
        v["connections"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["stalled"] == true)
    };
    let status = stage.until("/status", is).await;
    assert!(child.try_wait().unwrap().is_none(), "the connection stays open");
    let open = &status["connections"][0];
    assert_eq!(open["cloud"], cloud);
    let number = open["connection"].as_u64().unwrap();
    cut(stage, &open["connection"]).await;
    let closed = stage.closed(cloud).await;
    assert_eq!(
        (&closed["stalled"], &closed["connection"]),
        (&true.into(), &number.into())
    );
    (open["bytes_up"].as_u64().unwrap(), open["bytes_down"].as_u64().unwrap())
}

async fn cut(stage: &Stage, connection: &serde_json::Value) {
    stage.ask("POST", &format!("/connections/{connection}/cut"), "").await;
}

async fn mqtt(stage: &mut Stage, fault: &str) {
    match fault {
        "refuse-5" => {
            let out = output(&mut stage.publisher()).await;
            assert_eq!(out.status.code(), Some(5), "{}", said(&out));
        }
        "close-after-connack" | "cut-after-1" => {
            let _trying = spawn(&mut stage.publisher());
            let refused = stage.refused("event-grid").await;
            assert_eq!(
                (&refused["rule"], &refused["detail"]),
                (&"bench/fault".into(), &fault.into())
            );
        }
        "no-puback" => {
            let mut waiting = spawn(stage.publisher().stderr(Stdio::null()));
            let taken = stage.event(|e| e["event"] == "message").await;
            // Whoever has its PUBACK has ended well by now; whoever waits for it loses its connection.
            cut(stage, &taken["connection"]).await;
            let ended = tokio::time::timeout(LIMIT, waiting.wait()).await.expect("it goes on");
            assert!(!ended.unwrap().success(), "it has its PUBACK");
        }
        "no-suback" => {
            // -E: ends well as soon as the SUBACK is there.
            let mut waiting = spawn(stage.mosquitto("mosquitto_sub").arg("-E").stderr(Stdio::null()));
            let granted = stage.event(|e| e["event"] == "subscribed").await;
            cut(stage, &granted["connection"]).await;
            let ended = tokio::time::timeout(LIMIT, waiting.wait()).await.expect("it goes on");
            assert!(!ended.unwrap().success(), "it has its SUBACK");
        }
        "no-pingresp" => {
            // Five seconds are the least that mosquitto takes; it gives up when the answer to its ping is overdue.
            let mut c = stage.mosquitto("mosquitto_sub");
            let _trying = spawn(c.args(["-k", "5"]));
            let first = stage.event(|e| e["event"] == "connected").await;
            let closed = stage.closed("event-grid").await;
            assert_eq!(first["connection"], closed["connection"]);
            assert!(closed["age_ms"].as_u64().unwrap() >= 5_000, "{closed}");
        }
        "late-acks=1500ms" => {
            succeed(&mut stage.publisher()).await;
            let closed = stage.closed("event-grid").await;
            assert!(closed["age_ms"].as_u64().unwrap() >= 1_500, "{closed}");
        }
        "duplicate" => {
            let mut c = stage.mosquitto("mosquitto_sub");
            let mut child = spawn(c.args(["-C", "2"]).stdout(Stdio::piped()));
            let mut lines = Lines::of(&mut child);
            stage.event(|e| e["event"] == "subscribed").await;
            let mut publisher = stage.publisher();
            // Another session of the same device.
            succeed(publisher.args(["-i", "other"])).await;
            assert_eq!(
                (lines.next().await, lines.next().await),
                ("hello".into(), "hello".into())
            );
        }
        "client-certs-expired" => {
            fail(&mut stage.publisher()).await;
            let refused = stage.refused("event-grid").await;
            let detail = refused["detail"].as_str().unwrap();
            assert!(
                refused["rule"] == "tls/handshake" && detail.contains("xpired"),
                "{refused}"
            );
        }
        other => panic!("{other} is not tested"),
    }
}

async fn https(stage: &mut Stage, fault: &str) {
    let (out, text) = stage
        .krypton(if fault == "slow" || fault.starts_with("stall") {
            &["-m", "1"]
        } else {
            &[]
        })
        .await;
    let code = out.status.code();
    match fault {
        "http-503" => assert!(text.contains("\n503 "), "{text}"),
        "html" => assert!(text.contains("<html>"), "{text}"),
        "empty" => assert!(text.starts_with("\n200 "), "{text}"),
        "truncated" => assert!(!text.contains('}') && text.contains("\n200 "), "{text}"),
        // curl's code for a time-out.
        "slow" => assert_eq!(code, Some(28), "{text}"),
        "stall@request" => assert!(code == Some(28) && text.starts_with('\n'), "{text}"),
        "stall@response" => assert!(
            code == Some(28) && text.starts_with("{\"") && !text.contains('}'),
            "{text}"
        ),
        "throttle=1500" => {
            let seconds: f64 = text.rsplit_once(' ').unwrap().1.trim().parse().unwrap();
            assert!(code == Some(0) && seconds >= 1.0, "{text}");
        }
        "failed" => {
            let id = text.split('"').nth(3).unwrap();
            let (host, port) = stage.address("krypton");
            let mut c = crate::tools::command("curl");
            c.args(["-s", "--cacert", &stage.path("ca.pem")]);
            let url = format!("https://{host}:{port}/v1/provisioning/azure/iot/registrations/{id}");
            assert!(succeed(c.arg(url)).await.contains("failed"));
        }
        other => panic!("{other} is not tested"),
    }
}
