//! The key service and the virtual HSS, with a card that is the other half of the agreement.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::bench::subscriber::sqn::Window;

const NUMBER: &str = "295012345678901";
const NOW: Duration = Duration::from_secs(1_000);

fn service(sqn: Sqn) -> KeyService {
    let sim = Sim { sqn, ..Sim::default() };
    KeyService::new([(NUMBER.parse().unwrap(), sim)], "plan01s".into())
}

fn fresh(n: u8) -> Fresh {
    Fresh {
        rand: [n; 16],
        key_id: format!("key-{n}"),
    }
}

fn body(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn ask() -> Vec<u8> {
    body(&json!({"imsi": NUMBER}))
}

/// A card: its window, and what it makes of a challenge.
struct Card(Window);

impl Card {
    fn meet(&mut self, challenge: &Value) -> Result<Agreed, Value> {
        let secrets = Sim::default().secrets();
        let rand = decode("rand", challenge["rand"].as_str().unwrap()).unwrap();
        let autn = decode("autn", challenge["autn"].as_str().unwrap()).unwrap();
        let (sqn, agreed) = secrets.meet(&rand, &autn).unwrap();
        if self.0.accept(sqn) {
            return Ok(agreed);
        }
        let auts = STANDARD.encode(secrets.auts(&rand, self.0.sqn_ms()));
        Err(json!({"imsi": NUMBER, "rand": challenge["rand"], "auts": auts}))
    }
}

fn rule<T: std::fmt::Debug>(outcome: Result<T, Denied>) -> (&'static str, u16) {
    let denied = outcome.unwrap_err();
    let refusal = denied.refusal().unwrap();
    assert!(!refusal.detail.is_empty() && !refusal.rule.source.is_empty());
    (refusal.rule.id, denied.status().as_u16())
}

#[test]
fn a_sim_proves_itself_with_res_or_xres() {
    for field in ["res", "xres"] {
        let mut s = service(Sqn::default());
        let mut card = Card(Window::new(Sqn::default()));
        let challenge = s.challenge(NOW, &ask(), fresh(1)).unwrap();
        assert_eq!(challenge["keyId"], "key-1");
        let agreed = card.meet(&challenge).unwrap();
        assert_eq!(rule(s.key("key-1")), ("krypton/key-unverified", 401));
        let proof = body(&json!({field: STANDARD.encode(agreed.res)}));
        s.verify(NOW, "key-1", &proof).unwrap();
        let (imsi, ck) = s.key("key-1").unwrap();
        assert_eq!((imsi.as_str(), ck), (NUMBER, agreed.ck));
        assert_eq!(rule(s.verify(NOW, "key-1", &proof)), ("keys/replayed", 409));
        assert_eq!(rule(s.key("key-2")), ("krypton/key-unknown", 401));
    }
}

#[test]
fn a_card_that_is_ahead_brings_the_hss_with_it() {
    let mut s = service(Sqn::new(7, 7).unwrap());
    let mut card = Card(Window::new(Sqn::new(4_000, 9).unwrap()));
    let challenge = s.challenge(NOW, &ask(), fresh(1)).unwrap();
    let auts = card.meet(&challenge).unwrap_err();
    // Somebody else's answer changes nothing.
    let mut wrong = auts.clone();
    wrong["auts"] = STANDARD.encode([0; 14]).into();
    assert_eq!(rule(s.challenge(NOW, &body(&wrong), fresh(2))), ("keys/resync", 400));
    wrong = auts.clone();
    wrong["rand"] = STANDARD.encode([9; 16]).into();
    assert_eq!(rule(s.challenge(NOW, &body(&wrong), fresh(2))), ("keys/resync", 400));
    let second = s.challenge(NOW, &body(&auts), fresh(3)).unwrap();
    let agreed = card.meet(&second).unwrap();
    let proof = body(&json!({"res": STANDARD.encode(agreed.res)}));
    assert_eq!(rule(s.verify(NOW, "key-1", &proof)), ("keys/challenge", 404));
    s.verify(NOW, "key-3", &proof).unwrap();
    assert!(s.key("key-3").is_ok());
    assert_eq!(
        rule(s.challenge(NOW, &body(&auts), fresh(4))),
        ("keys/resync", 400),
        "used up"
    );
    // From now on they are in step.
    let next = s.challenge(NOW, &ask(), fresh(5)).unwrap();
    card.meet(&next).unwrap();
}

#[test]
fn one_wrong_res_and_the_challenge_is_gone() {
    let mut s = service(Sqn::default());
    let challenge = s.challenge(NOW, &ask(), fresh(1)).unwrap();
    let wrong = body(&json!({"res": STANDARD.encode([0; 8])}));
    assert_eq!(rule(s.verify(NOW, "key-1", &wrong)), ("keys/response", 401));
    let agreed = Card(Window::new(Sqn::default())).meet(&challenge).unwrap();
    let right = body(&json!({"res": STANDARD.encode(agreed.res)}));
    assert_eq!(rule(s.verify(NOW, "key-1", &right)), ("keys/challenge", 404));
    // A prefix of RES is not RES.
    let challenge = s.challenge(NOW, &ask(), fresh(2)).unwrap();
    let agreed = Card(Window::new(Sqn::default())).meet(&challenge).unwrap();
    let short = body(&json!({"res": STANDARD.encode(&agreed.res[..4])}));
    assert_eq!(rule(s.verify(NOW, "key-2", &short)), ("keys/response", 401));
}

#[test]
fn a_challenge_gets_old() {
    let mut s = service(Sqn::default());
    let mut card = Card(Window::new(Sqn::default()));
    let challenge = s.challenge(NOW, &ask(), fresh(1)).unwrap();
    let proof = body(&json!({"res": STANDARD.encode(card.meet(&challenge).unwrap().res)}));
    let late = NOW + CHALLENGE_LIFE + Duration::from_millis(1);
    assert_eq!(rule(s.verify(late, "key-1", &proof)), ("keys/expired", 410));
    let challenge = s.challenge(NOW, &ask(), fresh(2)).unwrap();
    let proof = body(&json!({"res": STANDARD.encode(card.meet(&challenge).unwrap().res)}));
    s.verify(NOW + CHALLENGE_LIFE, "key-2", &proof).unwrap();
    assert!(s.key("key-2").is_ok(), "a proved key does not get old");
}

#[test]
fn who_and_what_is_refused() {
    let mut s = service(Sqn::default());
    for (text, wanted) in [
        (r#"{"imsi":"295012345678902"}"#, ("keys/imsi", 404)),
        (r#"{"imsi":"x"}"#, ("keys/imsi", 404)),
        ("", ("keys/body", 400)),
        ("{}", ("keys/body", 400)),
        (r#"{"imsi":295012345678901}"#, ("keys/body", 400)),
        (
            r#"{"imsi":"295012345678901","rand":"AAAAAAAAAAAAAAAAAAAAAA=="}"#,
            ("keys/body", 400),
        ),
        (
            r#"{"imsi":"295012345678901","rand":"AAAA","auts":"AAAA"}"#,
            ("keys/body", 400),
        ),
        (
            r#"{"imsi":"295012345678901","rand":"AAAAAAAAAAAAAAAAAAAAAA","auts":"AAAAAAAAAAAAAAAAAAA="}"#,
            ("keys/body", 400),
        ),
    ] {
        assert_eq!(rule(s.challenge(NOW, text.as_bytes(), fresh(1))), wanted, "{text}");
    }
    s.challenge(NOW, &ask(), fresh(1)).unwrap();
    for text in [
        "",
        "{}",
        r#"{"res":"AA==","xres":"AA=="}"#,
        r#"{"res":"AA"}"#,
        r#"{"res":1}"#,
    ] {
        assert_eq!(
            rule(s.verify(NOW, "key-1", text.as_bytes())),
            ("keys/body", 400),
            "{text}"
        );
    }
    let sim = (NUMBER.parse().unwrap(), Sim::default());
    let mut domestic = KeyService::new([sim], "plan-D".into());
    assert_eq!(rule(domestic.challenge(NOW, &ask(), fresh(1))), ("keys/plan", 403));
    let mut worn = service(Sqn::from_bytes([0xff; 6]));
    assert_eq!(rule(worn.challenge(NOW, &ask(), fresh(1))), ("keys/exhausted", 500));
}

#[test]
fn the_table_is_bounded() {
    let mut s = service(Sqn::default());
    for n in 0..KEPT_MAX + 5 {
        let fresh = Fresh {
            rand: [0; 16],
            key_id: n.to_string(),
        };
        s.challenge(NOW, &ask(), fresh).unwrap();
    }
    assert_eq!(s.entries.len(), KEPT_MAX);
    assert_eq!(rule(s.key("4")), ("krypton/key-unknown", 401));
    assert_eq!(rule(s.key("5")), ("krypton/key-unverified", 401));
}
