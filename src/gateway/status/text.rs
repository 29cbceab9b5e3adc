//! The answer of a status socket, for people.

use std::fmt::Write as _;

use serde_json::Value;

fn s(v: &Value) -> &str {
    v.as_str().unwrap_or("-")
}

fn n(v: &Value) -> u64 {
    v.as_u64().unwrap_or(0)
}

/// Lines for a terminal.
#[must_use]
pub fn text(answer: &Value) -> String {
    let mut out = format!(
        "listening on {}, subscribers: {}, upstream: {}\nconnections: {} open now, {} relayed in {} s\n",
        s(&answer["listening"]),
        n(&answer["subscribers"]),
        s(&answer["upstream"]),
        n(&answer["open"]),
        n(&answer["relayed"]),
        n(&answer["seconds"]),
    );
    let list = |key: &str| answer[key].as_array().into_iter().flatten();
    for finding in list("health") {
        let _ = writeln!(out, "{}: {}", s(&finding["level"]), s(&finding["text"]));
    }
    for (word, key) in [("refused", "refused"), ("ended", "ended")] {
        for (reason, count) in answer[key].as_object().into_iter().flatten() {
            if n(count) > 0 {
                let _ = writeln!(out, "{word}, {reason}: {}", n(count));
            }
        }
    }
    let tls = &answer["handshakes"];
    if n(&tls["full"]) + n(&tls["resumed"]) > 0 {
        let _ = writeln!(
            out,
            "TLS with upstream: {} whole handshakes, {} resumed",
            n(&tls["full"]),
            n(&tls["resumed"])
        );
    }
    if answer["slow_addresses"].is_u64() {
        let _ = writeln!(out, "addresses slowed for guessing: {}", n(&answer["slow_addresses"]));
    }
    if let Some(store) = answer["store"].as_object() {
        let last = store
            .get("last_error")
            .and_then(Value::as_str)
            .map(|e| format!("; last error: {e}"));
        let generation = store.get("generation").and_then(Value::as_u64);
        let _ = writeln!(
            out,
            "store: generation {}, {} errors{}",
            generation.map_or("-".to_owned(), |g| g.to_string()),
            store.get("errors").map_or(0, n),
            last.unwrap_or_default()
        );
    }
    for (group, g) in answer["groups"].as_object().into_iter().flatten() {
        let _ = writeln!(
            out,
            "group {group}: {} open, {} relayed, {} refused; up {} packets {} bytes, down {} packets {} bytes",
            n(&g["open"]),
            n(&g["relayed"]),
            n(&g["refused"]),
            n(&g["up"]["packets"]),
            n(&g["up"]["bytes"]),
            n(&g["down"]["packets"]),
            n(&g["down"]["bytes"]),
        );
    }
    for c in list("connections") {
        let _ = writeln!(
            out,
            "{} {} from {} since {} ({} s): {}; up {} packets {} bytes, down {} packets {} bytes",
            s(&c["imsi"]),
            s(&c["client_id"]),
            s(&c["peer"]),
            s(&c["since"]),
            n(&c["seconds"]),
            s(&c["upstream"]),
            n(&c["up"]["packets"]),
            n(&c["up"]["bytes"]),
            n(&c["down"]["packets"]),
            n(&c["down"]["bytes"]),
        );
    }
    let listed = list("connections").count() as u64;
    if n(&answer["open"]) > listed {
        let _ = writeln!(out, "and {} more", n(&answer["open"]) - listed);
    }
    out
}
