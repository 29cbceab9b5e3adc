//! The check vectors of SORACOM's clients, and the exchange with a card that computes.

use super::*;
use crate::modem::usim::Keys;

const IMSI: &str = "440101234567890";

fn imsi() -> Imsi {
    IMSI.parse().unwrap()
}

fn key() -> Key {
    let ck = std::array::from_fn(|i| u8::try_from(i).unwrap());
    Key::new(imsi(), Segment::try_from("0123456789abcdef".to_owned()).unwrap(), ck)
}

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        retry_after: None,
        body: Zeroizing::new(body.as_bytes().to_vec()),
    }
}

fn asked(step: Step) -> (String, serde_json::Value) {
    let Step::Ask(request) = step else {
        panic!("{step:?} asks nobody");
    };
    assert!(request.method == Method::Post && request.headers.is_empty());
    (request.path, serde_json::from_slice(&request.body).unwrap())
}

const CHALLENGE: &str = r#"{"keyId":"k-1","rand":"AAAAAAAAAAAAAAAAAAAAAA==","autn":"AQEBAQEBAQEBAQEBAQEBAQ=="}"#;
const SECOND: &str = r#"{"keyId":"k-2","rand":"AgICAgICAgICAgICAgICAg==","autn":"AQEBAQEBAQEBAQEBAQEBAQ=="}"#;

fn good() -> Answer {
    Answer::Keys(Keys {
        res: vec![0xab; 8],
        ck: [7; 16],
        ik: [8; 16],
    })
}

#[test]
fn the_signature_of_the_go_client() {
    // Computed from the client's formula, with a body as it sends it.
    let body = br#"{"keyId":"0123456789abcdef","requestParameters":null}"#;
    let headers = key().sign(body, Duration::from_millis(1_700_000_000_000));
    assert_eq!(
        headers,
        [
            ("x-soracom-timestamp", "1700000000000".to_owned()),
            ("x-soracom-digest-algorithm", "SHA-256".to_owned()),
            (
                "x-soracom-signature",
                "m+3hoZ4AXHEYCnEjLud9z+F3nILB6HnHiYW+l0PBNt8=".to_owned()
            ),
        ]
    );
}

#[test]
fn the_application_key_of_inventory() {
    let nonce = STANDARD.decode("EBESExQVFhcYGRobHB0eHw==").unwrap();
    let derived = key().application_key(&nonce, "1700000000000");
    assert_eq!(derived.reveal(), "d5Q8vpeLlo19ZhvH/9MnFg==");
    assert!(!format!("{derived:?} {:?}", key()).contains("d5Q8"));
}

#[test]
fn a_sim_proves_itself_whatever_the_status_of_the_challenge() {
    for status in [200, 401] {
        let (mut exchange, step) = Exchange::begin(&imsi());
        assert_eq!(asked(step), (KEYS.into(), serde_json::json!({"imsi": IMSI})));
        let Step::Authenticate(challenge) = exchange.answered(&reply(status, CHALLENGE)).unwrap() else {
            panic!();
        };
        assert_eq!((challenge.rand, challenge.autn), ([0; 16], [1; 16]));
        let (path, body) = asked(exchange.authenticated(&good()).unwrap());
        assert_eq!(path, "/v1/keys/k-1/verify");
        assert_eq!(body, serde_json::json!({"res": "q6urq6urq6s="}));
        let Step::Done(key) = exchange.answered(&reply(200, "{}")).unwrap() else {
            panic!();
        };
        assert_eq!((key.id(), *key.ck), ("k-1", [7; 16]));
    }
}

#[test]
fn one_resynchronisation_and_no_second() {
    let (mut exchange, _) = Exchange::begin(&imsi());
    exchange.answered(&reply(401, CHALLENGE)).unwrap();
    let auts = Answer::Resync { auts: [5; 14] };
    let (path, body) = asked(exchange.authenticated(&auts).unwrap());
    assert_eq!(path, KEYS);
    assert_eq!(
        body,
        serde_json::json!({"imsi": IMSI, "rand": "AAAAAAAAAAAAAAAAAAAAAA==", "auts": "BQUFBQUFBQUFBQUFBQU="})
    );
    exchange.answered(&reply(401, SECOND)).unwrap();
    let mut second = Exchange {
        imsi: imsi(),
        state: State::Asked { resync: true },
    };
    second.answered(&reply(401, SECOND)).unwrap();
    assert_eq!(second.authenticated(&auts).unwrap_err(), KeysError::OutOfStep);
    // The new key's name is the one that is verified.
    let (path, _) = asked(exchange.authenticated(&good()).unwrap());
    assert_eq!(path, "/v1/keys/k-2/verify");
}

#[test]
fn every_way_to_fail_has_its_own_words() {
    let fails = |resync: bool, status: u16, body: &str| {
        let mut exchange = Exchange {
            imsi: imsi(),
            state: State::Asked { resync },
        };
        exchange.answered(&reply(status, body)).unwrap_err()
    };
    let plan = r#"{"code":"KEY0403","message":"the SIM has the plan \"plan-D\""}"#;
    let e = fails(false, 403, plan);
    assert!(
        e.to_string()
            .contains("gives no challenge for this SIM (HTTP 403): KEY0403: the SIM has"),
        "{e}"
    );
    for name in [
        "plan01s,",
        "plan01s-LDV",
        "planP1",
        "planX3",
        "plan-K2",
        "plan-D",
        "cellular",
    ] {
        assert!(e.cure().contains(name), "{}", e.cure());
    }
    for (resync, status, body, want) in [
        (false, 404, "", "gives no challenge"),
        (
            false,
            401,
            r#"{"code":"X","message":"no"}"#,
            "gives no challenge for this SIM (HTTP 401): X: no",
        ),
        (false, 401, "<html>", "gives no challenge"),
        (false, 401, &CHALLENGE[..60], "cut off after 60 bytes"),
        (false, 401, "{}", "missing field"),
        (
            true,
            400,
            r#"{"message":"auts"}"#,
            "does not follow the SIM's sequence number (HTTP 400): no code: auts",
        ),
        (true, 401, "", "does not follow"),
        (false, 500, "", "is in trouble (HTTP 500)"),
        (false, 429, "", "is in trouble (HTTP 429)"),
        (false, 302, "", "another address"),
        (false, 200, "<html>", "begins with"),
        (false, 200, "{}", "missing field"),
        (false, 200, &CHALLENGE.replace("AA==", "AAAA"), "rand is not 16 bytes"),
        (false, 401, &CHALLENGE.replace("AQ==", "AQE="), "autn is not 16 bytes"),
        (false, 200, &CHALLENGE.replace("k-1", "../k"), "cannot be asked for"),
    ] {
        let e = fails(resync, status, body);
        assert!(e.to_string().contains(want), "{want:?} is not in {e}");
        assert!(!e.cure().is_empty());
    }
    for (status, want) in [
        (401, "does not take the SIM's answer (HTTP 401)"),
        (410, "does not take the SIM's answer (HTTP 410)"),
        (503, "is in trouble (HTTP 503)"),
    ] {
        let mut exchange = Exchange {
            imsi: imsi(),
            state: State::Proving { key: key() },
        };
        let e = exchange.answered(&reply(status, "")).unwrap_err();
        assert!(e.to_string().contains(want), "{e}");
    }
    let words = [
        AkaError::Mac,
        AkaError::Nobody,
        AkaError::Modem("the modem has no AT+CSIM".into()),
    ]
    .map(|e| KeysError::from(e).to_string());
    assert!(words[0].contains("9862") && words[1].contains("no modem") && words[2].contains("AT+CSIM"));
}

proptest::proptest! {
    #[test]
    fn any_answer_is_survived(status in 0u16..700, body: Vec<u8>, resync: bool) {
        let r = Reply { status, retry_after: None, body: Zeroizing::new(body) };
        for state in [State::Asked { resync }, State::Proving { key: key() }] {
            let _ = Exchange { imsi: imsi(), state }.answered(&r);
        }
    }
}

/// Both sides compute: the bench's key service is the other half.
#[cfg(feature = "bench")]
#[test]
fn a_card_that_is_ahead_is_followed() {
    use crate::bench::subscriber::Sim;
    use crate::bench::subscriber::sqn::{Sqn, Window};
    let secrets = Sim::default().secrets();
    let (mut hss, mut window) = (Sqn::default(), Window::new(Sqn::new(4_000, 9).unwrap()));
    let (mut exchange, mut step) = Exchange::begin(&imsi());
    let mut agreed = None;
    let mut challenges = 0;
    let key = loop {
        step = match step {
            Step::Ask(request) if request.path == KEYS => {
                let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
                if let Some(auts) = body["auts"].as_str() {
                    let bytes = |text: &str| STANDARD.decode(text).unwrap();
                    let rand = bytes(body["rand"].as_str().unwrap()).try_into().unwrap();
                    hss = secrets.sqn_of(&rand, &bytes(auts).try_into().unwrap()).unwrap();
                }
                hss = hss.next().unwrap();
                challenges += 1;
                let rand = [challenges; 16];
                let (autn, theirs) = secrets.challenge(&rand, hss, crate::bench::subscriber::TEST_AMF);
                agreed = Some(theirs);
                let body = serde_json::json!({
                    "keyId": format!("k{challenges}"), "rand": STANDARD.encode(rand), "autn": STANDARD.encode(autn),
                });
                exchange.answered(&reply(401, &body.to_string())).unwrap()
            }
            Step::Ask(request) => {
                let res = STANDARD.encode(agreed.as_ref().unwrap().res);
                assert_eq!(request.body, serde_json::json!({"res": res}).to_string().into_bytes());
                exchange.answered(&reply(200, "{}")).unwrap()
            }
            Step::Authenticate(c) => {
                let (sqn, ours) = secrets.meet(&c.rand, &c.autn).unwrap();
                let answer = if window.accept(sqn) {
                    Answer::Keys(Keys {
                        res: ours.res.to_vec(),
                        ck: *ours.ck,
                        ik: *ours.ik,
                    })
                } else {
                    let auts = secrets.auts(&c.rand, window.sqn_ms());
                    Answer::Resync { auts }
                };
                exchange.authenticated(&answer).unwrap()
            }
            Step::Done(key) => break key,
        };
    };
    assert_eq!((key.id(), challenges), ("k2", 2));
    assert_eq!(*key.ck, *agreed.unwrap().ck);
}
