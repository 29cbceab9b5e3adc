//! The speed benchmark and the soak run and count right; how fast anything is, no test asks (that is `tests/speed/run`, by hand, on a quiet machine),
//! nor whether memory is flat (`tests/soak/run`, for half an hour).
#![cfg(feature = "bench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Twelve seconds with everything in them that the soak does: reloads, changes in the store, cuts, restarts of upstream and of the gateway.
#[test]
fn nothing_accepted_is_lost_in_a_short_soak() {
    let out = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_onyx-bench")).parent().unwrap();
    let done = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/soak/run"))
        .args([
            "--minutes",
            "0.2",
            "--devices",
            "24",
            "--rate",
            "120",
            "--life",
            "2",
            "--every",
            "0.5",
        ])
        .arg("--programs")
        .arg(programs)
        .arg("--out")
        .arg(out.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let wrong = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{wrong}");

    let run: Value = serde_json::from_slice(&std::fs::read(out.path().join("results.json")).unwrap()).unwrap();
    let number = |pointer: &str| {
        let value = run.pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no {pointer} in {run:#}"))
    };
    assert!(number("/load/sent") > 200, "{said}");
    assert_eq!(number("/load/accepted"), number("/load/sent"), "{said}");
    assert_eq!(number("/load/lost"), 0, "{said}");
    // It was a soak: devices broke off in every way, came back to their sessions, and sent again what was open.
    for event in [
        "connected",
        "left_by_disconnect",
        "left_by_end_of_stream",
        "left_by_reset",
        "left_in_silence",
    ] {
        assert!(number(&format!("/load/events/{event}")) > 0, "{event}: {said}");
    }
    assert!(number("/load/sent_again") > 0, "{said}");
    for kind in [
        "SIGHUP",
        "credential rotated",
        "line stalled",
        "upstream restarted",
        "gateway SIGTERM",
        "gateway SIGKILL",
    ] {
        assert_eq!(number(&format!("/done/{kind}")), 1, "{kind}: {said}");
    }
    assert_eq!(run["lives"].as_array().unwrap().len(), 3);
}

/// Devices in this test; the generator's 50 publishers are among them.
const DEVICES: u64 = 60;

#[test]
fn every_message_and_every_connection_is_counted() {
    let out = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_onyx-bench")).parent().unwrap();
    let done = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/speed/run"))
        .args(["--targets", "direct,onyx", "--kinds", "w1,w10,idle,stall"])
        .args(["--quick", "--runs", "1", "--repeats", "0", "--seconds", "0.5"])
        .args(["--steps", "20,60", "--devices", &DEVICES.to_string()])
        .args(["--stall-seconds", "1", "--stall-rate", "500"])
        .arg("--programs")
        .arg(programs)
        .arg("--out")
        .arg(out.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let wrong = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{wrong}");
    for word in ["CPU-s/100k", "KiB/connection at 60", "RSS growth MiB", "onyx"] {
        assert!(said.contains(word), "no {word:?} in\n{said}");
    }

    let results: Value = serde_json::from_slice(&std::fs::read(out.path().join("results.json")).unwrap()).unwrap();
    let runs = results["runs"].as_array().unwrap();
    // Two targets at both windows; idle and stall are of a gateway only.
    assert_eq!(runs.len(), 6, "{said}");
    for run in runs {
        let (kind, result) = (run["kind"].as_str().unwrap(), &run["result"]);
        let number = |pointer: &str| {
            let value = result.pointer(pointer).and_then(Value::as_f64);
            value.unwrap_or_else(|| panic!("no {pointer} in {run:#}"))
        };
        if kind == "idle" {
            for (at, connections) in [(0, 20.0), (1, 60.0)] {
                assert_eq!(number(&format!("/steps/{at}/alive")), connections);
                assert!(number(&format!("/steps/{at}/rss/gateway")) > number("/rss_before/gateway"));
                assert!(number(&format!("/steps/{at}/machine/cpu_seconds/gateway")) > 0.0);
            }
            continue;
        }
        let sent = number("/flow/sent");
        assert!(sent > 100.0, "{run:#}");
        for same in ["/flow/acked", "/flow/arrived"] {
            assert_eq!(number(same), sent, "{same} in {run:#}");
        }
        for none in ["/flow/acked_and_lost", "/flow/arrived_twice"] {
            assert_eq!(number(none), 0.0, "{none} in {run:#}");
        }
        assert!(number("/flow/ack_us/p50") <= number("/flow/ack_us/p99"));
        assert!(number("/machine/cpu_seconds/gateway") > 0.0 && number("/machine/generator_cpu_seconds") > 0.0);
        if kind == "stall" {
            // What was sent when upstream stopped came a second later.
            assert!(number("/flow/arrival_us/max") > 900_000.0, "{run:#}");
            assert!(number("/stall/rss_most/gateway") >= number("/stall/rss_before/gateway"));
        }
    }
}
