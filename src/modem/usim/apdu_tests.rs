#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::digest::unhex;
use proptest::prelude::*;

fn bytes(digits: &str) -> Vec<u8> {
    unhex(digits).unwrap()
}

type Ended = Result<(Vec<u8>, u16), AkaError>;

/// Goes through the rounds with these answers: the commands that were sent after the first one, and how it ended.
fn talk(command: &str, answers: &[&str]) -> (Vec<Vec<u8>>, Ended) {
    let mut exchange = Exchange::new(&bytes(command));
    let mut sent = Vec::new();
    for (at, answer) in answers.iter().enumerate() {
        match exchange.heard(&bytes(answer)) {
            Ok(Next::Send(next)) => {
                assert_eq!(exchange.command(), &*next);
                sent.push(next.to_vec());
            }
            Ok(Next::Done { data, sw }) => {
                assert_eq!(at + 1, answers.len(), "it ended early");
                return (sent, Ok((data.to_vec(), sw)));
            }
            Err(e) => return (sent, Err(e)),
        }
    }
    panic!("it has not ended")
}

#[test]
fn an_answer_at_once_or_fetched_or_of_another_length() {
    const SELECT: &str = "00A4040407A0000000871002";
    for (command, answers, sent, data, sw) in [
        // Firmware that fetches by itself.
        (SELECT, &["DB01029000"][..], &[][..], "DB0102", 0x9000),
        (SELECT, &["9000"], &[], "", 0x9000),
        (SELECT, &["6A82"], &[], "", 0x6A82),
        (SELECT, &["6102", "01029000"], &["00C0000002"], "0102", 0x9000),
        // In two pieces; data may come with the first one.
        (
            SELECT,
            &["016102", "02036101", "049000"],
            &["00C0000002", "00C0000001"],
            "01020304",
            0x9000,
        ),
        // A wrong length in GET RESPONSE, 00 for 256.
        (
            SELECT,
            &["6100", "6C02", "01029000"],
            &["00C0000000", "00C0000002"],
            "0102",
            0x9000,
        ),
        // A SIM toolkit command waits.
        (SELECT, &["6102", "0102910B"], &["00C0000002"], "0102", 0x910B),
        ("00B2010400", &["6C1A", "019000"], &["00B201041A"], "01", 0x9000),
        ("00B20104", &["6C1A", "019000"], &["00B201041A"], "01", 0x9000),
        ("008800810210AA00", &["6C35", "9000"], &["008800810210AA35"], "", 0x9000),
        ("008800810210AA", &["6C35", "9000"], &["008800810210AA35"], "", 0x9000),
        // The class byte is kept: it has the channel.
        ("01A4040400", &["6101", "019000"], &["01C0000001"], "01", 0x9000),
    ] {
        let want: Vec<_> = sent.iter().map(|s| bytes(s)).collect();
        assert_eq!(
            talk(command, answers),
            (want, Ok((bytes(data), sw))),
            "{command} {answers:?}"
        );
    }
}

#[test]
fn a_card_that_never_ends_is_given_up() {
    for answer in ["6110", "6C10", "016101"] {
        let (sent, ended) = talk("00A4000000", &[answer; 20]);
        assert_eq!(sent.len(), usize::from(ROUNDS_MAX), "{answer}");
        assert!(matches!(ended, Err(AkaError::Nonsense(_))), "{ended:?}");
    }
    let (_, ended) = talk("00A4000000", &["90"]);
    assert!(matches!(ended, Err(AkaError::Nonsense(_))), "{ended:?}");
    assert!(matches!(
        Exchange::new(&[]).heard(&[0; 259]),
        Err(AkaError::Nonsense(_))
    ));
}

#[test]
fn a_line_with_a_wrong_length_or_no_digits_is_nonsense_and_repeats_nothing() {
    const GOOD: &str = " 8,\"DB016135\"";
    assert_eq!(**decode(GOOD).unwrap(), bytes("DB016135"));
    assert_eq!(**decode("8,db016135").unwrap(), bytes("DB016135"));
    for end in 0..GOOD.len() - 1 {
        assert!(decode(&GOOD[..end]).is_err(), "{}", &GOOD[..end]);
    }
    // Without the last quote nothing is missing.
    assert!(decode(&GOOD[..GOOD.len() - 1]).is_ok());
    for bad in [
        "",
        ",",
        "8",
        "x,\"DB016135\"",
        "-8,\"DB016135\"",
        "7,\"DB01613\"",
        "10,\"DB016135\"",
        "8,\"DB01613G\"",
        "8,\"DB01é13\"",
        "8,\"+B016135\"",
        "2,\"90\"",
        "0,\"\"",
        "99999999999999999999,\"90\"",
    ] {
        let Err(AkaError::Nonsense(why)) = decode(bad) else {
            panic!("{bad:?} was read")
        };
        assert!(!why.contains("DB01"), "{why}");
    }
    let longest = "A".repeat(2 * ANSWER_MAX);
    assert!(decode(&format!("{},\"{longest}\"", longest.len())).is_ok());
    assert!(decode(&format!("{},\"{longest}AA\"", longest.len() + 2)).is_err());
}

proptest! {
    #[test]
    fn no_line_panics(line in "\\PC*") {
        let _ = decode(&line);
    }

    #[test]
    fn nor_any_digits(length in 0..600_usize, digits in "[0-9A-Fa-fG\",]{0,600}") {
        let _ = decode(&format!("{length},\"{digits}\""));
        if let Ok(read) = decode(&format!("{},\"{digits}\"", digits.len())) {
            prop_assert_eq!(Some(read.to_vec()), unhex(&digits));
        }
    }

    #[test]
    fn every_exchange_ends(command in prop::collection::vec(any::<u8>(), 0..300), answers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 8), sw1 in prop::collection::vec(0x60..0x6E_u8, 8)) {
        let mut exchange = Exchange::new(&command);
        let mut ended = false;
        for (mut answer, sw1) in answers.into_iter().zip(sw1) {
            if let Some(at) = answer.len().checked_sub(2) {
                answer[at] = sw1;
            }
            match exchange.heard(&answer) {
                Ok(Next::Send(next)) => prop_assert!(next.len() <= 262),
                Ok(Next::Done { sw, .. }) => {
                    prop_assert!(sw >> 8 != 0x61 && sw >> 8 != 0x6C);
                    ended = true;
                    break;
                }
                Err(_) => {
                    ended = true;
                    break;
                }
            }
        }
        prop_assert!(ended);
    }
}
