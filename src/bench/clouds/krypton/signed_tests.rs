//! The internet door's signatures, by a key that a SIM has proved.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use axum::http::HeaderValue;
use proptest::prelude::*;
use serde_json::json;

use super::super::subscribers::DEFAULT_IMSI;
use super::tests::{headers, krypton, rule, value};
use super::*;
use crate::bench::clouds::keys::Fresh;
use crate::bench::subscriber::Sim;

/// A key that the SIM has proved.
fn proved(k: &Krypton, key_id: &str) -> Key {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let fresh = Fresh {
        rand: [5; 16],
        key_id: key_id.into(),
    };
    let now = Duration::ZERO;
    let ask = json!({"imsi": DEFAULT_IMSI}).to_string();
    let challenge = k.keys().challenge(now, ask.as_bytes(), fresh).unwrap();
    let engine = base64::engine::general_purpose::STANDARD;
    let autn = engine.decode(challenge["autn"].as_str().unwrap()).unwrap();
    let secrets = Sim::default().secrets();
    let (_, agreed) = secrets.meet(&[5; 16], &autn.try_into().unwrap()).unwrap();
    let proof = json!({"res": encode(&agreed.res)}).to_string();
    k.keys().verify(now, key_id, proof.as_bytes()).unwrap();
    agreed.ck
}

fn signed(body: &[u8], timestamp: &str, ck: &Key) -> HeaderMap {
    headers(&[
        ("x-soracom-timestamp", timestamp),
        ("x-soracom-digest-algorithm", "SHA-256"),
        ("x-soracom-signature", &signed::signature(body, timestamp, ck)),
    ])
}

#[test]
fn the_signature_of_the_facts() {
    let ck: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
    let body = br#"{"keyId":"0123456789abcdef","requestParameters":null}"#;
    let signature = signed::signature(body, "1700000000000", &ck);
    assert_eq!(signature, "m+3hoZ4AXHEYCnEjLud9z+F3nILB6HnHiYW+l0PBNt8=");
    // FIPS 180-4, "abc" in pieces.
    let abc = crate::digest::sha256(&[b"a", b"", b"bc"]);
    assert_eq!(abc[..4], [0xba, 0x78, 0x16, 0xbf]);
}

const NOW: Duration = Duration::from_millis(1_700_000_000_000);
const STAMP: &str = "1700000000000";

#[test]
fn both_clients_bodies_are_taken_when_their_signature_fits() {
    let (_dir, k) = krypton(|_| {});
    let ck = proved(&k, "k1");
    for body in [
        r#"{"keyId":"k1","requestParameters":null}"#,
        r#"{"keyId":"k1"}"#,
        r#"{ "requestParameters": {"thingName": "t"}, "keyId": "k1" }"#,
        r#"{"keyId":"k1","keyLength":32,"algorithm":"SHA-256","timestamp":"1700000000000","requestParameters":{"deviceId":"d"}}"#,
        r#"{"keyId":"k1","keyLength":16,"algorithm":"SHA-256","timestamp":"1700000000000","endpoint":"e"}"#,
    ] {
        let headers = signed(body.as_bytes(), STAMP, &ck);
        let (imsi, key) = signed::check(&k.keys(), &headers, body.as_bytes(), NOW).unwrap();
        assert_eq!((imsi.as_str(), key), (DEFAULT_IMSI, ck.clone()), "{body}");
    }
}

#[test]
fn what_a_signed_request_can_have_wrong() {
    let (_dir, k) = krypton(|_| {});
    let ck = proved(&k, "k1");
    let unproved = Fresh {
        rand: [6; 16],
        key_id: "k2".into(),
    };
    let ask = json!({"imsi": DEFAULT_IMSI}).to_string();
    k.keys().challenge(Duration::ZERO, ask.as_bytes(), unproved).unwrap();
    let good = br#"{"keyId":"k1"}"#;
    let check = |headers: &HeaderMap, body: &[u8], now| rule(signed::check(&k.keys(), headers, body, now));
    let whole = signed(good, STAMP, &ck);
    for missing in [
        "x-soracom-timestamp",
        "x-soracom-digest-algorithm",
        "x-soracom-signature",
    ] {
        let mut headers = whole.clone();
        headers.remove(missing);
        assert_eq!(check(&headers, good, NOW), "krypton/signature-headers");
        let mut headers = whole.clone();
        headers.append(missing, HeaderValue::from_static("x"));
        assert_eq!(check(&headers, good, NOW), "krypton/signature-headers");
    }
    for stamp in ["", "now", "-1", "1.7e12", "99999999999999999999999"] {
        assert_eq!(
            check(&signed(good, stamp, &ck), good, NOW),
            "krypton/signature-headers",
            "{stamp}"
        );
    }
    let mut headers = whole.clone();
    headers.insert("x-soracom-digest-algorithm", HeaderValue::from_static("SHA-1"));
    assert_eq!(check(&headers, good, NOW), "krypton/digest-algorithm");
    let limit = Duration::from_secs(300);
    let beyond = Duration::from_millis(1);
    for now in [NOW + limit + beyond, NOW - limit - beyond] {
        assert_eq!(check(&whole, good, now), "krypton/clock");
    }
    for now in [NOW + limit, NOW - limit] {
        assert!(signed::check(&k.keys(), &whole, good, now).is_ok());
    }
    for (body, wanted) in [
        (r#"{"keyId":"k3"}"#, "krypton/key-unknown"),
        (r#"{"keyId":""}"#, "krypton/key-unknown"),
        (r#"{"keyId":"k2"}"#, "krypton/key-unverified"),
        ("{}", "krypton/body"),
        ("", "krypton/body"),
        ("{", "krypton/body"),
        (r#"{"keyId":"k1","algorithm":"SHA-1"}"#, "krypton/repeated-fields"),
        (
            r#"{"keyId":"k1","timestamp":"1700000000001"}"#,
            "krypton/repeated-fields",
        ),
    ] {
        let headers = signed(body.as_bytes(), STAMP, &ck);
        assert_eq!(check(&headers, body.as_bytes(), NOW), wanted, "{body}");
    }
    // One more blank, another stamp, another key: nothing fits.
    assert_eq!(check(&whole, br#"{"keyId": "k1"}"#, NOW), "krypton/signature");
    let mut later = whole.clone();
    later.insert("x-soracom-timestamp", HeaderValue::from_static("1700000000001"));
    assert_eq!(check(&later, good, NOW), "krypton/signature");
    let other = Key::from([0; 16]);
    assert_eq!(check(&signed(good, STAMP, &other), good, NOW), "krypton/signature");
}

#[test]
fn inventory_at_the_internet_door_tells_how_to_derive_the_key() {
    let (_dir, k) = krypton(|_| {});
    let ck = proved(&k, "k1");
    let caller = Caller {
        imsi: DEFAULT_IMSI.parse().unwrap(),
        ck: Some(ck),
    };
    let answer = k.perform(
        &caller,
        &Operation::BootstrapInventoryDevice,
        br#"{"keyId":"k1","keyLength":16}"#,
    );
    let answer = value(answer.unwrap());
    assert!(answer["applicationKey"].is_null() && answer["nonce"].is_string() && answer["timestamp"].is_string());
    assert!(k.inventory_key(answer["pskId"].as_str().unwrap()).is_some());
    let long = k.perform(&caller, &Operation::BootstrapInventoryDevice, br#"{"keyLength":33}"#);
    assert_eq!(rule(long), "krypton/body");
}

proptest! {
    /// Whatever the body and the headers are: an answer, a rule, no panic.
    #[test]
    fn no_request_breaks_it(body in prop::collection::vec(any::<u8>(), 0..200), stamp in "[0-9]{0,20}", sign in "[ -~]{0,50}") {
        let (_dir, k) = shared();
        let list = [("x-soracom-timestamp", stamp.as_str()), ("x-soracom-digest-algorithm", "SHA-256"), ("x-soracom-signature", sign.trim())];
        prop_assert!(signed::check(&k.keys(), &headers(&list), &body, NOW).is_err());
        prop_assert!(k.challenge(&body).is_err());
        prop_assert!(k.verify("k", &body).is_err());
        let caller = Caller { imsi: DEFAULT_IMSI.parse().unwrap(), ck: None };
        for operation in [Operation::BootstrapArc, Operation::BootstrapInventoryDevice, Operation::RegisterAzureIotDevice] {
            let _ = k.perform(&caller, &operation, &body);
        }
    }

    /// The same with bodies that are almost right.
    #[test]
    fn nor_do_almost_right_bodies(place in any::<prop::sample::Index>(), byte: u8, pick in 0..5_usize) {
        let (_dir, k) = shared();
        let right = [
            r#"{"imsi":"295012345678901","rand":"AAAAAAAAAAAAAAAAAAAAAA==","auts":"AAAAAAAAAAAAAAAAAAA="}"#,
            r#"{"res":"AAAAAAAAAAA="}"#,
            r#"{"keyId":"k","keyLength":16,"algorithm":"SHA-256","timestamp":"1","endpoint":"e"}"#,
            r#"{"requestParameters":{"thingName":"t","skipCertificates":true}}"#,
            r#"{"imsi":"295012345678901"}"#,
        ];
        let mut body = right[pick].as_bytes().to_vec();
        let place = place.index(body.len());
        body[place] = byte;
        let _ = (k.challenge(&body), k.verify("k", &body));
        let list = [("x-soracom-timestamp", STAMP), ("x-soracom-digest-algorithm", "SHA-256"), ("x-soracom-signature", "AAAA")];
        prop_assert!(signed::check(&k.keys(), &headers(&list), &body, NOW).is_err());
    }
}

/// One Krypton for all cases: making an authority takes longer than any of them.
fn shared() -> &'static (tempfile::TempDir, Krypton) {
    static SHARED: std::sync::OnceLock<(tempfile::TempDir, Krypton)> = std::sync::OnceLock::new();
    SHARED.get_or_init(|| krypton(|_| {}))
}
