#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::digest::{hex, unhex};
use proptest::prelude::*;

/// TS 35.208 section 4.3.1, test set 1: RAND and the answer (RES, CK, IK); AUTN is for SQN 1, AMF 8000.
const RAND: &str = "23553CBE9637A89D218AE64DAE47BF35";
const AUTN: &str = "AA689C6483718000F48B60145BEACF8E";
const RES_SET_1: &str = "A54211D5E3BA50BF";
const CK_SET_1: &str = "B40BA9A3C58B2A05BBF0D987B21BF8CB";
const IK_SET_1: &str = "F769BCD751044604127672711C6D3441";
const KC_SET_1: &str = "EAE4BE823AF9A08B";

fn bytes(digits: &str) -> Vec<u8> {
    unhex(&digits.replace(' ', "")).unwrap()
}

fn set_1() -> Answer {
    Answer::Keys(Keys {
        res: bytes(RES_SET_1),
        ck: bytes(CK_SET_1).try_into().unwrap(),
        ik: bytes(IK_SET_1).try_into().unwrap(),
    })
}

#[test]
fn the_command_is_the_published_one() {
    let challenge = Challenge {
        rand: bytes(RAND).try_into().unwrap(),
        autn: bytes(AUTN).try_into().unwrap(),
    };
    let want = "00880081221023553CBE9637A89D218AE64DAE47BF3510AA689C6483718000F48B60145BEACF8E";
    assert_eq!(hex(&command(&challenge, false)), want);
    assert_eq!(hex(&command(&challenge, true)), format!("{want}00"));
    assert_eq!((want.len(), command(&challenge, true).len() * 2), (78, 80));
}

#[test]
fn keys_with_and_without_kc() {
    for kc in [String::new(), format!("08 {KC_SET_1}")] {
        let data = bytes(&format!("DB 08 {RES_SET_1} 10 {CK_SET_1} 10 {IK_SET_1} {kc}"));
        for sw in [0x9000, 0x9100, 0x910B] {
            assert_eq!(answer(&data, sw), Ok(set_1()), "{kc} {sw:04X}");
        }
    }
    for length in 0..=20 {
        let data = [
            &[0xDB, length][..],
            &vec![7; length.into()],
            &bytes(&format!("10 {CK_SET_1} 10 {IK_SET_1}")),
        ]
        .concat();
        match answer(&data, 0x9000) {
            Ok(Answer::Keys(keys)) => assert!((4..=16).contains(&length) && keys.res == vec![7; length.into()]),
            Err(AkaError::Nonsense(_)) => assert!(!(4..=16).contains(&length)),
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn keys_are_not_printed() {
    let shown = format!("{:?} {:?}", set_1(), answer(&bytes("DB 08 A54211D5E3BA50BF"), 0x9000));
    for secret in ["A5", "165", "B4", "180", "F7", "247"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn a_number_that_is_not_fresh_gives_auts() {
    let auts = "0102030405060708090A0B0C0D0E";
    let got = answer(&bytes(&format!("DC 0E {auts}")), 0x9000);
    let want = bytes(auts).try_into().unwrap();
    assert_eq!(got, Ok(Answer::Resync { auts: want }));
}

#[test]
fn refusals() {
    assert_eq!(answer(&[], 0x9862), Err(AkaError::Mac));
    for sw in [0x6985, 0x6982, 0x6E00, 0x6D00, 0x6700, 0x6F00, 0x9864, 0x9300, 0x0000] {
        let want = AkaError::Status {
            what: "AUTHENTICATE",
            sw,
        };
        assert_eq!(
            answer(&bytes("DC 0E 0102030405060708090A0B0C0D0E"), sw),
            Err(want),
            "{sw:04X}"
        );
    }
}

#[test]
fn cut_or_longer_by_a_byte_is_nonsense() {
    let whole = [
        format!("DB 08 {RES_SET_1} 10 {CK_SET_1} 10 {IK_SET_1} 08 {KC_SET_1}"),
        "DC 0E 0102030405060708090A0B0C0D0E".to_owned(),
    ];
    let without_kc = bytes(&whole[0]).len() - 9;
    for (kind, digits) in whole.iter().enumerate() {
        let data = bytes(digits);
        assert!(answer(&data, 0x9000).is_ok());
        for end in 0..data.len() {
            let got = answer(&data[..end], 0x9000);
            if kind == 0 && end == without_kc {
                assert_eq!(got, Ok(set_1()), "that is the answer without Kc");
            } else {
                assert!(matches!(got, Err(AkaError::Nonsense(_))), "{kind} {end}: {got:?}");
            }
        }
        let longer = [&data[..], &[0]].concat();
        assert!(matches!(answer(&longer, 0x9000), Err(AkaError::Nonsense(_))));
    }
    for bad in [
        "9000",
        "DD0E",
        "DB",
        "DC",
        "DC 0D 0102030405060708090A0B0C0D",
        "DC 0F 0102030405060708090A0B0C0D0E0F",
    ] {
        assert!(
            matches!(answer(&bytes(bad), 0x9000), Err(AkaError::Nonsense(_))),
            "{bad}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(data in prop::collection::vec(any::<u8>(), 0..300), sw in any::<u16>()) {
        let _ = answer(&data, sw);
    }

    #[test]
    fn nor_do_almost_right_ones(place in 0..54_usize, value in any::<u8>(), end in 0..54_usize) {
        let mut data = bytes(&format!("DB 08 {RES_SET_1} 10 {CK_SET_1} 10 {IK_SET_1} 08 {KC_SET_1}"));
        if let Some(byte) = data.get_mut(place) {
            *byte = value;
        }
        data.truncate(end);
        if let Ok(Answer::Keys(keys)) = answer(&data, 0x9000) {
            prop_assert!((4..=16).contains(&keys.res.len()));
        }
    }
}
