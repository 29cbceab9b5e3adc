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
    store(&answer["store"], &mut out);
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

/// How the store is: what it holds, what of it cannot be read, its errors, and how long it has been away.
fn store(store: &Value, out: &mut String) {
    if !store.is_object() {
        return;
    }
    let errors = n(&store["errors"]);
    let _ = write!(
        out,
        "store: generation {}, {errors} errors",
        store["generation"].as_u64().map_or("-".to_owned(), |g| g.to_string())
    );
    if let Some(error) = store["last_error"].as_str() {
        let _ = write!(out, "; last error at {}: {error}", s(&store["last_error_at"]));
    }
    let _ = writeln!(out);
    let away = &store["away"];
    if away.is_object() {
        let doing = if away["closed"] == true {
            "nobody is let in any more (store.stale_for)"
        } else {
            "devices are let in as it was known last"
        };
        let (seconds, why) = (n(&away["seconds"]), s(&away["why"]));
        let _ = writeln!(out, "store: away for {seconds} s, {doing}: {why}");
    }
    for (group, why) in store["broken"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "store: group {group} cannot be used: {}", s(why));
    }
    let named = store["damaged_rows"].as_array().map_or(&[][..], Vec::as_slice);
    for row in named {
        let _ = writeln!(out, "store: damaged: {}", s(row));
    }
    let damaged = n(&store["damaged"]);
    if damaged > named.len() as u64 {
        let _ = writeln!(
            out,
            "store: {damaged} damaged rows in all: 'onyx-gateway check' names them"
        );
    }
    if n(&store["notes_dropped"]) > 0 {
        let _ = writeln!(
            out,
            "store: {} notes of when devices were last seen were dropped",
            n(&store["notes_dropped"])
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_store_in_trouble_says_all_that_its_json_says() {
        let mut answer = json!({"store": {
            "generation": 7, "errors": 3, "last_error": "connection refused", "last_error_at": "2026-01-01T00:00:00Z",
            "away": {"seconds": 125, "closed": false, "why": "PostgreSQL does not answer"},
            "broken": {"fleet": "its configuration does not open"}, "damaged": 30, "damaged_rows": ["subscriber …01: its IMEI is none"],
            "notes_dropped": 4,
        }});
        let said = text(&answer);
        for want in [
            "store: generation 7, 3 errors; last error at 2026-01-01T00:00:00Z: connection refused\n",
            "store: away for 125 s, devices are let in as it was known last: PostgreSQL does not answer\n",
            "store: group fleet cannot be used: its configuration does not open\n",
            "store: damaged: subscriber …01: its IMEI is none\n",
            "store: 30 damaged rows in all: 'onyx-gateway check' names them\n",
            "store: 4 notes of when devices were last seen were dropped\n",
        ] {
            assert!(said.contains(want), "{want:?} is not in {said}");
        }
        answer["store"]["away"]["closed"] = true.into();
        assert!(text(&answer).contains("nobody is let in any more"));
        assert!(!text(&json!({"store": null})).contains("store"));
        let well = text(&json!({"store": {"generation": 1, "errors": 0}}));
        assert!(well.contains("store: generation 1, 0 errors\n"), "{well}");
    }
}
