//! The control endpoint and the subcommands that use it.

use std::process::Stdio;

use serde_json::json;

use crate::stage::{DEVICE, Stage, said};
use crate::tools::{Lines, command, fail, output, spawn, succeed};

#[tokio::test]
async fn status_messages_and_events_tell_what_happened() {
    let mut stage = Stage::start(&[]).await;
    let mut c = command("curl");
    c.args(["-s", "-N", &format!("{}/events", stage.control())])
        .stdout(Stdio::piped());
    let mut follower = spawn(&mut c);
    let mut followed = Lines::of(&mut follower);
    stage.is_followed(&mut followed).await;
    succeed(&mut stage.publisher()).await;
    let closed = stage.closed("event-grid").await;
    let mut same = Vec::new();
    loop {
        let event: serde_json::Value = serde_json::from_str(&followed.next().await).unwrap();
        if event["event"] == "note" {
            continue;
        }
        assert_eq!(event["connection"], closed["connection"], "{event}");
        same.push(event["event"].as_str().unwrap().to_owned());
        if event["event"] == "closed" {
            assert_eq!(event, closed);
            break;
        }
    }
    assert_eq!(same, ["connected", "message", "disconnected", "closed"]);
    let status = stage.ask("GET", "/status", "").await;
    let doors = status["doors"].as_array().unwrap();
    let door = doors.iter().find(|d| d["cloud"] == "event-grid").unwrap();
    assert_eq!(
        (&door["accepted"], &door["connects"], &door["messages"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!((&door["refusals"], &door["connections"]), (&json!(0), &json!(0)));
    assert_eq!(
        (&door["bytes_up"], &door["bytes_down"]),
        (&closed["bytes_up"], &closed["bytes_down"])
    );
    assert!(closed["bytes_up"].as_u64().unwrap() > 1_000 && closed["client_id"] == DEVICE);

    let messages = stage.ask("GET", "/messages?cloud=event-grid", "").await;
    assert_eq!(
        (&messages["messages"][0]["payload"], &messages["next"]),
        (&json!("hello"), &json!(1))
    );
    assert_eq!(
        stage.ask("GET", "/messages?after=1", "").await,
        json!({"messages": [], "next": 1})
    );
    assert_eq!(
        stage.ask("GET", "/messages?cloud=aws-iot", "").await["messages"],
        json!([])
    );
}

#[tokio::test]
async fn nobody_but_programs_of_this_machine() {
    let stage = Stage::start(&[]).await;
    for header in [
        "Host: example.com",
        "Host: 127.0.0.1.example.com",
        "Origin: https://example.com",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        let (status, text) = stage.raw(&["-H", header], "/status").await;
        assert!(
            status == 403 && text.contains("127.0.0.1 or localhost"),
            "{header}: {text}"
        );
    }
    assert_eq!(stage.raw(&["-H", "Host: localhost"], "/status").await.0, 200);
    assert_eq!(stage.raw(&["-H", "Origin: http://127.0.0.1:1"], "/status").await.0, 200);
    assert_eq!(stage.raw(&["-H", "Sec-Fetch-Site: none"], "/status").await.0, 200);
    let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
    c.args(["clouds", "--dir", &stage.path("other"), "--control", "0.0.0.0:0"]);
    let out = output(&mut c).await;
    assert!(
        !out.status.success() && said(&out).contains("for this machine"),
        "{}",
        said(&out)
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_in_json() {
    let stage = Stage::start(&[]).await;
    let big = "x".repeat(70_000);
    for (method, path, body, status, words) in [
        (
            "PUT",
            "/faults",
            r#"{"fault":"iot-hub:explode"}"#,
            400,
            "no fault of iot-hub: write one of",
        ),
        ("PUT", "/faults", r#"{"fault":"dps:no-puback"}"#, 400, "dps"),
        ("PUT", "/faults", r#"{"falt":"x"}"#, 400, "unknown field `falt`"),
        ("PUT", "/faults", "{", 400, "not understood"),
        ("DELETE", "/faults?id=999999", "", 404, "no fault 999999"),
        ("DELETE", "/faults?cloud=moon", "", 400, "none of krypton"),
        ("DELETE", "/faults?id=x", "", 400, "id"),
        ("POST", "/restart", r#"{"closed_for":"9h"}"#, 400, "too long"),
        ("POST", "/clock", r#"{"by":"2h"}"#, 400, "+2h"),
        ("POST", "/clock", "", 400, "not understood"),
        ("POST", "/connections/7/cut", "", 404, "no connection 7"),
        ("POST", "/connections/x/cut", "", 404, "no connection x"),
        ("GET", "/messages?after=x", "", 400, "after"),
        ("GET", "/nothing", "", 404, "GET / tells"),
        ("DELETE", "/status", "", 405, "another method"),
    ] {
        // dps runs only once its stand-in is there; then the fault is a good one.
        if path == "/faults" && body.contains("dps:") && stage.stand_ins().iter().any(|s| s["name"] == "dps") {
            continue;
        }
        let (got, text) = stage.raw(&["-X", method, "-d", body], path).await;
        assert!(
            got == status && text.contains(words),
            "{method} {path} {body}: {got} {text}"
        );
        assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["error"].is_string());
    }
    std::fs::write(stage.path("big"), big).unwrap();
    let data = format!("@{}", stage.path("big"));
    assert_eq!(stage.raw(&["-X", "PUT", "-d", &data], "/faults").await.0, 413);
    assert!(stage.raw(&[], "/").await.1.contains("PUT    /faults"));
}

#[tokio::test]
async fn faults_are_for_whom_they_are_for() {
    let mut stage = Stage::start(&[]).await;
    let put = async |stage: &Stage, fault: &str| {
        let body = json!({"fault": fault}).to_string();
        stage.ask("PUT", "/faults", &body).await["in_force"][0]["id"]
            .as_u64()
            .unwrap()
    };
    // By client id.
    let id = put(&stage, "event-grid:refuse-3 for client \"other\"").await;
    succeed(&mut stage.publisher()).await;
    fail(stage.publisher().args(["-i", "other"])).await;
    let listed = stage.ask("GET", "/faults", "").await;
    assert_eq!(listed["event-grid"][0]["whom"], "client \"other\"");
    assert_eq!(stage.ask("DELETE", &format!("/faults?id={id}"), "").await["cleared"], 1);
    succeed(stage.publisher().args(["-i", "other"])).await;
    // Bytes of one client: counted from the first, cut once it is known.
    put(&stage, "event-grid:cut-down@1 for client \"other\"").await;
    succeed(&mut stage.publisher()).await;
    fail(stage.publisher().args(["-i", "other"])).await;
    stage.ask("DELETE", "/faults?cloud=event-grid", "").await;
    // By address.
    put(&stage, "krypton:http-500 for peer 127.0.84.9").await;
    assert!(stage.krypton(&[]).await.1.contains("\n200 "));
    assert!(stage.krypton(&["--interface", "127.0.84.9"]).await.1.contains("\n500 "));
    // The next two connections.
    put(&stage, "event-grid:refuse-3 for next 2 connections").await;
    fail(&mut stage.publisher()).await;
    fail(&mut stage.publisher()).await;
    succeed(&mut stage.publisher()).await;
    // One that is open already.
    let _subscriber = spawn(&mut stage.mosquitto("mosquitto_sub"));
    let open = stage.event(|e| e["event"] == "subscribed").await;
    let number = open["connection"].as_u64().unwrap();
    put(&stage, &format!("event-grid:cut@1 for connection {number}")).await;
    succeed(stage.publisher().args(["-i", "other"])).await;
    let closed = stage
        .event(|e| e["event"] == "closed" && e["connection"] == number)
        .await;
    assert_eq!(closed["client_id"], DEVICE);
}

#[tokio::test]
async fn a_restart_closes_the_door_and_forgets_when_told() {
    let mut stage = Stage::start(&[]).await;
    let mut subscriber = stage.mosquitto("mosquitto_sub");
    // -c: the session is kept; -W: ends after one second without messages.
    succeed(subscriber.args(["-c", "-E"])).await;
    let present = async |stage: &mut Stage| {
        let mut c = stage.mosquitto("mosquitto_sub");
        succeed(c.args(["-c", "-E"])).await;
        let present = stage.event(|e| e["event"] == "connected").await["session_present"].clone();
        // Whatever comes next is of another connection.
        stage.closed("event-grid").await;
        present
    };
    assert_eq!(
        stage.event(|e| e["event"] == "connected").await["session_present"],
        false
    );
    stage
        .ask("POST", "/restart", r#"{"cloud":"event-grid","closed_for":"10min"}"#)
        .await;
    // A connection that the kernel took before the door was shut is reset; the next one is refused.
    loop {
        let out = output(&mut stage.publisher()).await;
        assert!(!out.status.success(), "the door is open");
        if said(&out).to_lowercase().contains("refused") {
            break;
        }
    }
    let mut c = stage.openssl("iot-hub");
    succeed(&mut c).await;
    // Once the door is open again the session is still there. A shorter time takes the place of the longer one.
    stage
        .ask("POST", "/restart", r#"{"cloud":"event-grid","closed_for":"1ms"}"#)
        .await;
    while !output(&mut stage.openssl("event-grid")).await.status.success() {}
    assert_eq!(present(&mut stage).await, true);
    stage.ask("POST", "/restart", r#"{"forget_sessions":true}"#).await;
    assert_eq!(present(&mut stage).await, false);
    // A restart cuts what is open, in whatever state.
    let open = spawn(&mut stage.mosquitto("mosquitto_sub"));
    stage.event(|e| e["event"] == "subscribed").await;
    stage.ask("POST", "/restart", "{}").await;
    let gone = stage
        .event(|e| e["event"] == "disconnected" && e["why"] == "the stand-in restarts")
        .await;
    assert_eq!(gone["client_id"], DEVICE);
    drop(open);
}

#[tokio::test]
async fn a_clock_that_jumps_makes_certificates_expire() {
    let mut stage = Stage::start(&[]).await;
    let clocks = stage
        .ask("POST", "/clock", r#"{"cloud":"event-grid","by":"+400d"}"#)
        .await;
    assert_eq!(
        clocks["clocks"],
        json!([{"cloud": "event-grid", "ahead_ms": 34_560_000_000_u64}])
    );
    fail(&mut stage.publisher()).await;
    let refused = stage.refused("event-grid").await;
    assert!(refused["detail"].as_str().unwrap().contains("xpired"), "{refused}");
    let clocks = stage.ask("POST", "/clock", r#"{"by":"-400d"}"#).await;
    succeed(&mut stage.publisher()).await;
    // Every other one has jumped back, once: Krypton too, whose two doors have one clock.
    let clocks = clocks["clocks"].as_array().unwrap();
    let one = |cloud: &str| json!({"cloud": cloud, "ahead_ms": -34_560_000_000_i64});
    for cloud in ["krypton", "iot-hub", "aws-iot", "dps", "beam"] {
        assert_eq!(clocks.iter().filter(|c| **c == one(cloud)).count(), 1, "{clocks:?}");
    }
    assert_eq!(clocks.len(), 5, "{clocks:?}");
}

#[tokio::test]
async fn a_device_whose_certificate_has_expired_by_the_reckoning_of_dps_is_refused() {
    let mut stage = Stage::start(&["--fault", "dps:client-certs-expired*1"]).await;
    let doors = stage
        .stand_ins()
        .iter()
        .find(|s| s["name"] == "dps" && s["protocol"] == "https");
    let port = doors.unwrap()["port"].to_string();
    let ask = |stage: &Stage| {
        let mut c = command("curl");
        c.args([
            "-s",
            "-m",
            "20",
            "-w",
            "\n%{http_code}",
            "--tls-max",
            "1.2",
            "-X",
            "PUT",
        ]);
        c.args([
            "--cacert",
            &stage.path("ca.pem"),
            "-H",
            "Content-Type: application/json",
        ]);
        c.args(["--cert", &stage.path(&format!("devices/{DEVICE}.pem"))]);
        c.args(["--key", &stage.path(&format!("devices/{DEVICE}.key"))]);
        c.args(["-d", &json!({"registrationId": DEVICE}).to_string()]);
        c.arg(format!(
            "https://localhost:{port}/0ne00111111/registrations/{DEVICE}/register?api-version=2019-03-31"
        ));
        c
    };
    let said = succeed(&mut ask(&stage)).await;
    assert!(said.ends_with("\n401"), "{said}");
    let refused = stage.refused("dps").await;
    assert!(refused["connection"].is_u64(), "{refused}");
    let said = succeed(&mut ask(&stage)).await;
    assert!(said.ends_with("\n202"), "{said}");
}

#[tokio::test]
async fn the_subcommands_ask_for_people() {
    let mut stage = Stage::start(&[]).await;
    let dir = stage.dir.path().to_str().unwrap().to_owned();
    let bench = |args: &[&str]| {
        let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
        c.arg("clouds").args(args).args(["--dir", &dir]);
        c
    };
    let mut c = bench(&["events"]);
    let mut follower = spawn(c.stdout(Stdio::piped()));
    let mut events = Lines::of(&mut follower);
    stage.is_followed(&mut events).await;
    let said_fault = succeed(&mut bench(&["fault", "event-grid:refuse-5*1", "beam:throttle=100"])).await;
    assert!(
        said_fault.contains("at event-grid: event-grid:refuse-5*1") && said_fault.contains("at beam"),
        "{said_fault}"
    );
    let status = succeed(&mut bench(&["status"])).await;
    assert!(
        status.starts_with("stand-in") && status.contains("at event-grid: refuse-5 for everybody, 1 times"),
        "{status}"
    );
    let json: serde_json::Value = serde_json::from_str(&succeed(&mut bench(&["status", "--json"])).await).unwrap();
    assert_eq!(json["faults"]["beam"][0]["fault"], "throttle=100");
    let cleared = succeed(&mut bench(&["fault", "--clear=beam"])).await;
    assert!(cleared.contains("1 faults taken away"), "{cleared}");
    // The one at Event Grid is left.
    fail(&mut stage.publisher()).await;
    loop {
        let line: serde_json::Value = serde_json::from_str(&events.next().await).unwrap();
        if line["event"] != "note" {
            assert_eq!(line["rule"], "bench/fault", "{line}");
            break;
        }
    }
    stage.refused("event-grid").await;
    succeed(&mut stage.publisher()).await;
    let out = output(&mut bench(&["fault", "moon:refuse-5"])).await;
    assert!(
        !out.status.success() && said(&out).contains("none of krypton"),
        "{}",
        said(&out)
    );
    let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
    let out = output(c.args(["clouds", "status", "--dir", "/nonexistent"])).await;
    assert!(!out.status.success() && said(&out).contains("start onyx-bench clouds --dir /nonexistent"));
}

/// Krypton has two doors and one clock: a jump of everything moves that no further than the others.
#[tokio::test]
async fn all_clocks_jump_by_as_much() {
    let stage = Stage::start(&[]).await;
    let clocks = stage.ask("POST", "/clock", r#"{"by":"+1h"}"#).await;
    let clocks = clocks["clocks"].as_array().unwrap();
    // Krypton's two doors have one clock, which is there once.
    let krypton = |c: &&serde_json::Value| c["cloud"].as_str().is_some_and(|c| c.starts_with("krypton"));
    assert_eq!(clocks.iter().filter(krypton).count(), 1, "{clocks:?}");
    assert!(clocks.iter().all(|c| c["ahead_ms"] == 3_600_000), "{clocks:?}");
}
