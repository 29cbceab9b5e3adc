//! Krypton by the book and beside it, byte by byte: what goes over the wire, and answers that the bench's stand-in does not give:
//! `Retry-After`, redirects, huge and slow bodies, keys refused when they are fresh.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use onyx::clock::Clock;
use onyx::link::Via;
use onyx::modem::usim::{AkaError, Answer, Keys, SimDoor};
use onyx::pki::{Authority, Purpose};
use onyx::provision::keys::cache::Form;
use onyx::provision::krypton::{Caller, KryptonError};
use serde_json::{Value, json};

use crate::krypton_script::{Said, Script};
use crate::stage::{Bench, IMSI, now};

/// CK of the card that everybody here has.
const CK: [u8; 16] = [0x5a; 16];

fn ok(body: impl ToString) -> Said {
    Said::Whole("200 OK", body.to_string())
}

fn registered() -> Said {
    ok(json!({"operationId": "5.abc", "status": "assigning"}))
}

/// A certificate and a key, as a registration gives them.
fn assigned(authority: &Authority) -> Said {
    let time = Clock::new().now().unwrap().0;
    let issued = authority
        .issue("dev", &Purpose::Device, time, Duration::from_secs(86_400))
        .unwrap();
    ok(
        json!({"operationId": "5.abc", "status": "assigned", "deviceId": "dev", "host": "hub.example",
        "certificate": issued.chain_pem, "privateKey": issued.key_pem.as_str(), "rootCaCertificate": authority.root_pem()}),
    )
}

#[test]
fn the_bytes_at_the_cellular_door() {
    let bench = Bench::without_dongle();
    let script = Script::start(&bench, |a| vec![registered(), assigned(a)]);
    let (good, _, err) = script.ask(&["azure", "--parameter", "deviceId=dev"]);
    assert!(good, "{err}");
    let seen = script.seen();
    assert_eq!(
        script.lines(),
        [
            "POST /v1/provisioning/azure/iot/register HTTP/1.1",
            "GET /v1/provisioning/azure/iot/registrations/5.abc HTTP/1.1"
        ]
    );
    assert_eq!(seen[0].body, r#"{"requestParameters":{"deviceId":"dev"}}"#);
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!((seen[1].header("content-type"), &*seen[1].body), (None, ""));
    for one in &seen {
        assert_eq!(one.header("x-soracom-lang"), Some("en"));
        assert!(one.header("user-agent").unwrap().starts_with("onyx-agent/"));
        for none in ["x-soracom-signature", "authorization", "cookie"] {
            assert_eq!(one.header(none), None);
        }
    }
}

#[test]
fn retry_after_is_honoured_and_bounded() {
    let busy = |head| Said::Whole(head, r#"{"code":"X","message":"slow down"}"#.into());
    let bench = Bench::without_dongle();
    // Busy at first, then a registration that is taken (202) and says when to ask, then busy again.
    let script = Script::start(&bench, |a| {
        vec![
            busy("429 Too Many Requests\r\nretry-after: 1"),
            Said::Whole("202 Accepted", json!({"operationId": "5.abc"}).to_string()),
            Said::Whole("202 Accepted\r\nretry-after: 3", r#"{"status":"assigning"}"#.into()),
            busy("503 Service Unavailable\r\nRetry-After: 3"),
            assigned(a),
        ]
    });
    let begin = now();
    let (good, _, err) = script.ask(&["azure"]);
    assert!(good, "{err}");
    assert_eq!(script.seen().len(), 5);
    let took = begin.elapsed();
    // 1 s, and twice the 3 s that the service wants instead of the 2 s of the default.
    assert!(took >= Duration::from_secs(7), "{took:?}");
    // Without a time, or with one that is too long to wait for, the command ends and says so.
    for (head, tail) in [
        ("503 Service Unavailable", ""),
        ("429 Too Many Requests\r\nretry-after: 600", "left alone for 600 s"),
        (
            "503 Service Unavailable\r\nretry-after: 99999999",
            "left alone for 3600 s",
        ),
        (
            "503 Service Unavailable\r\nretry-after: Fri, 31 Dec 2100 23:59:59 GMT",
            "left alone for 3600 s",
        ),
    ] {
        let script = Script::start(&bench, |_| vec![busy(head)]);
        let (good, _, err) = script.ask(&["arc"]);
        assert!(
            !good && err.contains("in trouble (HTTP") && err.contains("slow down") && err.contains(tail),
            "{err}"
        );
        assert_eq!(script.seen().len(), 1, "{head}");
    }
    // So does a registration on its way, which costs nothing to begin again.
    let script = Script::start(&bench, |_| {
        vec![
            Said::Whole("202 Accepted", json!({"operationId": "5.abc"}).to_string()),
            busy("503 Service Unavailable\r\nretry-after: 600"),
        ]
    });
    let (good, _, err) = script.ask(&["azure"]);
    assert!(!good && err.contains("left alone for 600 s"), "{err}");
    assert_eq!(script.seen().len(), 2);
    // A service that is busy for ever is given up.
    let script = Script::start(&bench, |_| vec![busy("429 Too Many Requests\r\nretry-after: 0"); 9]);
    let (good, ..) = script.ask(&["arc"]);
    assert!(!good);
    assert_eq!(script.seen().len(), 3);
}

#[test]
fn redirects_garbage_and_bodies_without_end() {
    let bench = Bench::without_dongle();
    for (said, wants) in [
        (
            Said::Whole("302 Found\r\nlocation: https://localhost/elsewhere", String::new()),
            ["another address (HTTP 302)", "captive portal"],
        ),
        (
            Said::Whole("307 Temporary Redirect\r\nlocation: /again", String::new()),
            ["another address (HTTP 307)", "captive portal"],
        ),
        (ok("\u{0}\u{1}garbage"), ["begins with", "credentials.url"]),
        (ok("[]"), ["begins with \"[]\"", "credentials.url"]),
        (ok("{\"arcAllowedIPs\": 7}"), ["does not fit", "credentials.url"]),
        (
            ok(format!("{{\"x\":\"{}\"}}", "y".repeat(70_000))),
            ["longer than 65536 bytes", "credentials.url"],
        ),
        (Said::Endless, ["longer than 65536 bytes", "credentials.url"]),
        (Said::Drip, ["did not answer within", "SORACOM line"]),
        (
            Said::Whole("204 No Content", String::new()),
            ["it is empty", "credentials.url"],
        ),
    ] {
        let script = Script::start(&bench, |_| vec![said.clone()]);
        let (good, out, err) = script.ask(&["arc", "--timeout", "2"]);
        assert!(!good && out.is_empty(), "{said:?}: {out}");
        for want in wants {
            assert!(err.contains(want), "{said:?}: {want:?} is not in {err}");
        }
        assert_eq!(script.seen().len(), 1, "{said:?}: it is not asked twice");
    }
    // What is made already is not made again because of a trouble on the way.
    let script = Script::start(&bench, |a| {
        let Said::Whole(_, assigned) = assigned(a) else {
            panic!()
        };
        let v: Value = serde_json::from_str(&assigned).unwrap();
        let pem = |field: &str| ok(v[field].as_str().unwrap());
        let thing = json!({"host": "h.example", "clientId": "c", "certificateId": "ab", "privateKey": v["privateKey"]});
        let off = || Said::Whole("500 Off", String::new());
        vec![
            ok(thing),
            off(),
            pem("certificate"),
            off(),
            off(),
            pem("rootCaCertificate"),
        ]
    });
    let (good, _, err) = script.ask(&["aws", "--skip-certificates"]);
    assert!(good, "{err}");
    assert_eq!(script.lines().iter().filter(|l| l.contains("bootstrap")).count(), 1);
    assert_eq!(script.seen().len(), 6);
    // Certificates that are none.
    let thing = json!({"host": "h.example", "clientId": "c", "certificateId": "ab", "privateKey": "SECRET"});
    let script = Script::start(&bench, |_| vec![ok(&thing), ok("{\"certificate\":\"\"}")]);
    let (good, _, err) = script.ask(&["aws", "--skip-certificates"]);
    assert!(
        !good && err.contains("no PEM certificate") && !err.contains("SECRET"),
        "{err}"
    );
}

fn challenge(n: u8) -> Said {
    let rand = ["AAAAAAAAAAAAAAAAAAAAAA==", "AQEBAQEBAQEBAQEBAQEBAQ=="][usize::from(n % 2)];
    Said::Whole(
        "401 Unauthorized",
        json!({"keyId": format!("k{n}"), "rand": rand, "autn": rand}).to_string(),
    )
}

/// A card that gives these answers, in order.
fn card(bench: &Bench, answers: Vec<Result<Answer, AkaError>>) -> SimDoor {
    let (door, mut asks) = SimDoor::new();
    bench.rt.spawn(async move {
        for answer in answers {
            let Some(ask) = asks.recv().await else { return };
            let _ = ask.answer.send(answer);
        }
    });
    door
}

fn keys() -> Result<Answer, AkaError> {
    Ok(Answer::Keys(Keys {
        res: vec![0xab; 8],
        ck: CK,
        ik: [0; 16],
    }))
}

fn caller_asks_arc(bench: &Bench, script: &Script, card: &SimDoor) -> Result<String, KryptonError> {
    let (clock, imsi) = (Clock::new(), IMSI.parse().unwrap());
    let (via, state) = (Via::default(), bench.path("state"));
    bench.rt.block_on(async {
        let mut caller = Caller::sim(script.settings(), &via, &clock, &imsi, card, (&state, Form::Plain))?;
        caller.arc().await.map(|arc| arc.arc_server_endpoint)
    })
}

fn arc() -> Said {
    ok(
        json!({"arcServerPeerPublicKey": "p", "arcServerEndpoint": "h:1", "arcAllowedIPs": [],
        "arcClientPeerPrivateKey": "s", "arcClientPeerIpAddress": "10.0.0.1"}),
    )
}

#[test]
fn signed_requests_are_what_an_independent_signer_makes() {
    let bench = Bench::without_dongle();
    let script = Script::start(&bench, |_| vec![challenge(0), ok("{}"), arc(), arc()]);
    let card = card(&bench, vec![keys()]);
    for _ in 0..2 {
        assert_eq!(caller_asks_arc(&bench, &script, &card).unwrap(), "h:1");
    }
    let seen = script.seen();
    assert_eq!(seen[0].body, json!({"imsi": IMSI}).to_string());
    assert_eq!(seen[1].line(), "POST /v1/keys/k0/verify HTTP/1.1");
    assert_eq!(seen[1].body, r#"{"res":"q6urq6urq6s="}"#);
    for one in &seen[..2] {
        assert_eq!(
            (one.header("content-type"), one.header("x-soracom-signature")),
            (Some("application/json"), None)
        );
    }
    let mut judge = Command::new("python3")
        .args([
            "-B",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judges/krypton_signature.py"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = judge.stdin.take().unwrap();
    for one in &seen[2..] {
        assert_eq!(one.body, r#"{"keyId":"k0","requestParameters":null}"#);
        assert_eq!(one.header("x-soracom-digest-algorithm"), Some("SHA-256"));
        let ck: String = CK.iter().map(|b| format!("{b:02x}")).collect();
        let timestamp = one.header("x-soracom-timestamp").unwrap();
        let now = Clock::new().system().as_millis();
        assert!(now.abs_diff(timestamp.parse().unwrap()) < 60_000, "{timestamp}");
        writeln!(input, "{}", json!({"body": one.body, "timestamp": timestamp, "ck": ck})).unwrap();
    }
    drop(input);
    let said = String::from_utf8(judge.wait_with_output().unwrap().stdout).unwrap();
    let theirs: Vec<Value> = said.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let ours: Vec<_> = seen[2..]
        .iter()
        .map(|s| s.header("x-soracom-signature").unwrap())
        .collect();
    assert_eq!(theirs, ours);
    assert_eq!(ours.len(), 2);
}

#[test]
fn a_fresh_key_that_is_refused_is_an_error_and_not_a_loop() {
    let bench = Bench::without_dongle();
    let no = || Said::Whole("401 Unauthorized", r#"{"code":"X","message":"no"}"#.into());
    let script = Script::start(&bench, |_| {
        vec![challenge(0), ok("{}"), no(), no(), challenge(1), ok("{}"), no()]
    });
    let card = card(&bench, vec![keys(), keys(), keys()]);
    let e = caller_asks_arc(&bench, &script, &card).unwrap_err();
    assert!(matches!(e, KryptonError::Refused(_)), "{e}");
    assert_eq!(script.seen().len(), 3);
    // The key was kept; it is refused again, forgotten, and the next one is refused as well.
    let e = caller_asks_arc(&bench, &script, &card).unwrap_err();
    assert!(e.to_string().contains("refuses (HTTP 401): X: no"), "{e}");
    assert_eq!(script.seen().len(), 7);
}

#[test]
fn the_sim_is_resynchronised_once() {
    let bench = Bench::without_dongle();
    let script = Script::start(&bench, |_| vec![challenge(0), challenge(1), challenge(2)]);
    let auts = || Ok(Answer::Resync { auts: [5; 14] });
    let card = card(&bench, vec![auts(), auts(), auts()]);
    let e = caller_asks_arc(&bench, &script, &card).unwrap_err();
    assert!(e.to_string().contains("out of step"), "{e}");
    let seen = script.seen();
    assert_eq!(seen.len(), 2);
    let body: Value = serde_json::from_str(&seen[1].body).unwrap();
    assert_eq!(
        body,
        json!({"imsi": IMSI, "rand": "AAAAAAAAAAAAAAAAAAAAAA==", "auts": "BQUFBQUFBQUFBQUFBQU="})
    );
}

#[test]
fn nobody_at_the_modem() {
    let bench = Bench::without_dongle();
    let script = Script::start(&bench, |_| vec![challenge(0)]);
    let e = caller_asks_arc(&bench, &script, &SimDoor::nobody()).unwrap_err();
    assert!(
        e.to_string().contains("no modem") && e.cure().contains("onyx-agent modem"),
        "{e}"
    );
}
