//! The flow against a scripted modem, on stopped time: what is sent in which order, time limits, and what the log has of it all. (Against a
//! simulated card: tests/agent/sim_auth.rs.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{AkaError, Answer, Asked, Challenge, LeftOpen};
use crate::modem::Modem;

/// TS 35.208 test set 1, with SQN 1 and AMF 8000.
const RAND: &str = "23553CBE9637A89D218AE64DAE47BF35";
const AUTN: &str = "AA689C6483718000F48B60145BEACF8E";
const RES: &str = "A54211D5E3BA50BF";
const CK: &str = "B40BA9A3C58B2A05BBF0D987B21BF8CB";
const IK: &str = "F769BCD751044604127672711C6D3441";
const CCHO: &str = "AT+CCHO=\"A0000000871002\"";
const ERROR: &str = "ERROR";

fn challenge() -> Challenge {
    let bytes = |digits: &str| crate::digest::unhex(digits).unwrap().try_into().unwrap();
    Challenge {
        rand: bytes(RAND),
        autn: bytes(AUTN),
    }
}

/// A command to the card on channel 1.
fn cgla(apdu: &str) -> String {
    format!("AT+CGLA=1,{},\"{apdu}\"", apdu.len())
}

fn authenticate(le: &str) -> String {
    cgla(&format!("008800812210{RAND}10{AUTN}{le}"))
}

/// The card's answer.
fn card(name: &str, data: &str) -> String {
    format!("+{name}: {},\"{data}\"\r\n\r\nOK", data.len())
}

fn keys() -> String {
    format!("DB08{RES}10{CK}10{IK}9000")
}

/// A command, and what comes back after how many milliseconds; an empty text is silence.
type Script = Vec<(String, u64, String)>;

/// Plays the modem: in the order of the script, `AT` answered at any time unless it is silent. What was sent and is not in the script is the
/// answer.
async fn play(mut peer: DuplexStream, script: Script) -> Vec<String> {
    let mut script = script.into_iter();
    let mut strange = Vec::new();
    let mut line = Vec::new();
    let mut next = script.next();
    while let Ok(byte) = peer.read_u8().await {
        if byte != b'\r' {
            line.push(byte);
            continue;
        }
        let command = String::from_utf8(std::mem::take(&mut line)).unwrap();
        let (after, answer) = match &next {
            Some((wanted, after, answer)) if *wanted == command => {
                let found = (*after, answer.clone());
                next = script.next();
                found
            }
            _ if command == "AT" => (0, "OK".to_owned()),
            _ => {
                strange.push(command);
                (0, ERROR.to_owned())
            }
        };
        tokio::time::sleep(Duration::from_millis(after)).await;
        if !answer.is_empty() && peer.write_all(format!("\r\n{answer}\r\n").as_bytes()).await.is_err() {
            break;
        }
    }
    strange.extend(next.map(|(command, ..)| format!("never sent: {command}")));
    strange
}

fn step(command: impl Into<String>, answer: impl Into<String>) -> (String, u64, String) {
    (command.into(), 0, answer.into())
}

/// One ask against a script; everything else that was sent is `ERROR`.
async fn ask(script: Script) -> (Asked, LeftOpen, Vec<String>) {
    let (ours, theirs) = duplex(64);
    let player = tokio::spawn(play(theirs, script));
    let mut modem = Modem::over(ours);
    let mut left_open = LeftOpen::Nothing;
    let asked = modem.authenticate(&challenge(), &mut left_open).await;
    drop(modem);
    (asked, left_open, player.await.unwrap())
}

fn assert_keys(asked: &Asked) {
    let Ok(Answer::Keys(keys)) = &asked.answer else {
        panic!("{asked:?}")
    };
    let hex = crate::digest::hex;
    assert!(hex(&keys.res) == RES && hex(&keys.ck) == CK && hex(&keys.ik) == IK);
}

#[tokio::test(start_paused = true)]
async fn the_shortest_way() {
    let (asked, left_open, strange) = ask(vec![
        step(CCHO, "+CCHO: 1\r\n\r\nOK"),
        step(authenticate("00"), card("CGLA", "6135")),
        step(cgla("00C0000035"), card("CGLA", &keys())),
        step("AT+CCHC=1", "OK"),
    ])
    .await;
    assert_keys(&asked);
    assert_eq!((left_open, strange), (LeftOpen::Nothing, vec![]));
}

/// As the facts have it of an EC20: the channel refused, then SELECT on the basic one.
#[tokio::test(start_paused = true)]
async fn the_longest_way() {
    let whole = "A0000000871002FF86FFFF89FFFFFFFF";
    let csim = |apdu: &str| format!("AT+CSIM={},\"{apdu}\"", apdu.len());
    let apdu = format!("008800812210{RAND}10{AUTN}");
    let (asked, left_open, strange) = ask(vec![
        step(CCHO, "+CME ERROR: 3"),
        step("AT+CCHC=1", "+CME ERROR: 21"),
        step("AT+CCHC=2", "OK"),
        step("AT+CCHC=3", ERROR),
        step(CCHO, ERROR),
        step("AT+CUAD", ERROR),
        step(csim("00A40000023F00"), card("CSIM", "6A86")),
        step(csim("00A40004022F00"), card("CSIM", "6121")),
        step(csim("00C0000021"), card("CSIM", "62009000")),
        step(csim("00B2010400"), card("CSIM", "6C1A")),
        step(
            csim("00B201041A"),
            card("CSIM", &format!("61184F10{whole}50045553494D9000")),
        ),
        step(format!("AT+CCHO=\"{whole}\""), ERROR),
        step(csim("00A40000023F00"), card("CSIM", "6A86")),
        step(csim("00A4040407A0000000871002"), card("CSIM", "613A")),
        step(csim("00C000003A"), card("CSIM", "6200910B")),
        step(csim(&format!("{apdu}00")), ERROR),
        step(csim(&apdu), card("CSIM", "6135")),
        step(csim("00C0000035"), card("CSIM", "6C35")),
        step(csim("00C0000035"), card("CSIM", &keys())),
    ])
    .await;
    assert_keys(&asked);
    assert_eq!((left_open, strange), (LeftOpen::Nothing, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_does_not_close_is_told_with_the_answer() {
    let (asked, left_open, strange) = ask(vec![
        step(CCHO, "1\r\n\r\nOK"),
        step(authenticate("00"), card("CGLA", &keys())),
        step("AT+CCHC=1", ""),
    ])
    .await;
    assert!(asked.trouble.is_some(), "{asked:?}");
    assert!(matches!(asked.answer, Ok(Answer::Keys(_))), "{asked:?}");
    assert!(matches!(left_open, LeftOpen::One(_)), "{left_open:?}");
    assert_eq!(strange, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_card_may_take_five_seconds_for_every_command() {
    let mut script = vec![
        step(CCHO, "+CCHO: 1\r\n\r\nOK"),
        step(authenticate("00"), card("CGLA", "6135")),
        step(cgla("00C0000035"), card("CGLA", &keys())),
        step("AT+CCHC=1", "OK"),
    ];
    script.iter_mut().for_each(|(_, after, _)| *after = 5_000);
    assert_keys(&ask(script).await.0);
}

/// Whatever is said, and however badly or late, the log at its finest has neither keys nor challenge.
#[tokio::test(start_paused = true)]
async fn the_log_has_no_secrets() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let into = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || into.clone())
        .finish();
    // With one dispatcher in the program, tracing asks the thread that meets a call site first, which may be another test's, and
    // remembers its "nobody listens" for all; with two it asks both.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let _guard = tracing::subscriber::set_default(subscriber);

    let mut told = String::new();
    let open = || step(CCHO, "+CCHO: 1\r\n\r\nOK");
    let fetch = || step(authenticate("00"), card("CGLA", "6135"));
    let garbled = card("CGLA", &keys()).replace("DB08", "\u{1}\u{2}");
    for script in [
        vec![
            open(),
            fetch(),
            step(cgla("00C0000035"), card("CGLA", &keys())),
            step("AT+CCHC=1", "OK"),
        ],
        // Too late: in the resynchronisation, and after it.
        vec![open(), fetch(), (cgla("00C0000035"), 7_500, card("CGLA", &keys()))],
        vec![
            open(),
            fetch(),
            step(cgla("00C0000035"), ""),
            ("AT+CCHC=1".into(), 0, card("CGLA", &keys())),
        ],
        // Garbled, too short, cut.
        vec![open(), fetch(), step(cgla("00C0000035"), garbled)],
        vec![
            open(),
            fetch(),
            step(cgla("00C0000035"), card("CGLA", &keys()).replace("08A5", "A5")),
        ],
        vec![
            open(),
            fetch(),
            step(cgla("00C0000035"), format!("+CGLA: 94,\"{}\r\n\r\nOK", &keys()[..60])),
        ],
        vec![
            open(),
            fetch(),
            step(cgla("00C0000035"), format!("{}\r\n\r\nOK", keys())),
        ],
        vec![
            open(),
            fetch(),
            step(cgla("00C0000035"), format!("+CSIM: 1,\"{}\r\n\r\nERROR", keys())),
        ],
        vec![
            open(),
            fetch(),
            step(cgla("00C0000035"), card("CGLA", &keys().replace("9000", "6F00"))),
        ],
    ] {
        let (asked, ..) = ask(script).await;
        told += &format!("{asked:?}\n");
        if let Err(e) = &asked.answer {
            told += &format!("{e} {}\n", e.cure());
        }
        if let Some(e) = &asked.trouble {
            told += &format!("{e}\n");
        }
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("the card answers 9000"), "nothing was logged");
    for (name, text) in [("log", &log), ("told", &told)] {
        let text = text.to_uppercase();
        for secret in [RES, CK, IK, RAND, AUTN] {
            // A piece is enough to give it away.
            for start in [0, secret.len() - 8] {
                assert!(
                    !text.contains(&secret[start..start + 8]),
                    "{secret} is in the {name}:\n{text}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_mac_failure_is_no_reason_for_another_way() {
    let (asked, _, strange) = ask(vec![
        step(CCHO, "+CCHO: 3\r\n\r\nOK"),
        step(authenticate("00").replace("=1,", "=3,"), card("CGLA", "9862")),
        step("AT+CCHC=3", "OK"),
    ])
    .await;
    assert_eq!((asked.answer, strange), (Err(AkaError::Mac), vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_challenge_that_the_card_has_worked_on_is_not_given_to_it_again() {
    let (asked, left_open, strange) = ask(vec![
        step(CCHO, "+CCHO: 1\r\n\r\nOK"),
        step(authenticate("00"), card("CGLA", "6135")),
        step(cgla("00C0000035"), ERROR),
        step("AT+CCHC=1", "OK"),
    ])
    .await;
    assert!(matches!(&asked.answer, Err(AkaError::Unfetched(_))), "{asked:?}");
    assert!(asked.trouble.is_none());
    assert_eq!((left_open, strange), (LeftOpen::Nothing, vec![]));
}
