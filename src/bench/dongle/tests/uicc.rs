//! The way to the card: AT+CSIM, AT+CCHO, AT+CGLA, AT+CCHC, AT+CUAD, AT+CRSM.

use super::{Bench, cme, ok};
use crate::bench::dongle::scenario::Event;

const AID: &str = "A0000000871002";
/// TS 35.208 test set 1's RAND, SQN 1, AMF 8000.
const APDU: &str = "00880081221023553CBE9637A89D218AE64DAE47BF3510AA689C6483718000F48B60145BEACF8E";
const ANSWER: &str =
    "DB08A54211D5E3BA50BF10B40BA9A3C58B2A05BBF0D987B21BF8CB10F769BCD751044604127672711C6D344108EAE4BE823AF9A08B9000";
const ERROR: &str = "\r\nERROR\r\n";

#[test]
fn on_a_logical_channel() {
    let mut bench = Bench::warm("");
    for name in ["CSIM", "CCHO", "CGLA", "CCHC", "CUAD", "CRSM"] {
        assert_eq!(bench.say(&format!("AT+{name}=?\r")), ok(&[]));
        assert_eq!(bench.say(&format!("AT+{name}?\r")), ERROR);
    }
    let list = "+CUAD: 52,\"61184F10A0000000871002FF86FFFF89FFFFFFFF50045553494D\"";
    assert_eq!(bench.say("AT+CUAD\r"), ok(&[list]));
    assert_eq!(bench.say(&format!("AT+CCHO=\"{AID}\"\r")), ok(&["+CCHO: 1"]));
    assert_eq!(
        bench.say(&format!("AT+CGLA=1,78,\"{APDU}\"\r")),
        ok(&["+CGLA: 4,\"6135\""])
    );
    assert_eq!(
        bench.say("AT+CGLA=1,10,\"00C0000035\"\r"),
        ok(&[&format!("+CGLA: 110,\"{ANSWER}\"")])
    );
    // The same challenge again is out of order, and with Le it is none the worse.
    assert_eq!(
        bench.say(&format!("AT+CGLA=1,80,\"{APDU}00\"\r")),
        ok(&["+CGLA: 4,\"6110\""])
    );
    assert_eq!(bench.say("AT+CCHC=1\r"), ok(&[]));
    assert_eq!(bench.say("AT+CCHC=1\r"), cme(21));
    assert_eq!(bench.say("AT+CGLA=1,10,\"00C0000010\"\r"), cme(21));
}

#[test]
fn keys_are_answered_and_not_logged() {
    for verbose in ["", "ATV0\r"] {
        let mut bench = Bench::warm("");
        bench.say(verbose);
        bench.say(&format!("AT+CCHO=\"{AID}\"\r"));
        bench.say(&format!("AT+CGLA=1,78,\"{APDU}\"\r"));
        bench.engine.take_records().for_each(drop);
        let said = bench.say("AT+CGLA=1,10,\"00C0000035\"\r");
        assert!(said.contains(ANSWER), "{said}");
        let logged = bench.engine.take_records().next().unwrap().answer;
        assert_eq!(logged, said.replace(&ANSWER[2..], " (RES, CK and IK are not logged)"));
    }
    // What is no answer to AUTHENTICATE stays as it is.
    let other = "\r\n+COPS: 0,0,\"DB Net\",7\r\n\r\nOK\r\n";
    assert_eq!(crate::bench::dongle::uicc::without_keys(other), other);
}

#[test]
fn on_the_basic_channel() {
    let mut bench = Bench::warm("");
    let authenticate = format!("AT+CSIM=78,\"{APDU}\"\r");
    assert_eq!(bench.say(&authenticate), ok(&["+CSIM: 4,\"6985\""]));
    for (command, answer) in [
        ("AT+CSIM=14,\"00A40000023F00\"\r", "+CSIM: 4,\"611E\""),
        ("AT+CSIM=24,\"00A4040407A0000000871002\"\r", "+CSIM: 4,\"613A\""),
        (authenticate.as_str(), "+CSIM: 4,\"6135\""),
        ("AT+CSIM=10,\"00C0000010\"\r", "+CSIM: 4,\"6C35\""),
    ] {
        let got = bench.say(command);
        if command.contains("3F00") {
            assert!(got.contains("\"61"), "{got}");
        } else {
            assert_eq!(got, ok(&[answer]), "{command}");
        }
    }
    let fetched = format!("+CSIM: 110,\"{ANSWER}\"");
    assert_eq!(bench.say("AT+CSIM=10,\"00c0000035\"\r"), ok(&[&fetched]));
    assert_eq!(
        bench.say(&authenticate.replace("BF3510", "BF3610")),
        ok(&["+CSIM: 4,\"9862\""])
    );
}

#[test]
fn lengths_and_digits_have_to_fit() {
    let mut bench = Bench::warm("");
    for bad in [
        "AT+CSIM=12,\"00A40000023F00\"\r",
        "AT+CSIM=13,\"00A40000023F0\"\r",
        "AT+CSIM=14,\"00A40000023F0G\"\r",
        "AT+CSIM=6,\"00A400\"\r",
        "AT+CSIM=0,\"\"\r",
        "AT+CSIM=\"00A40000023F00\"\r",
        "AT+CSIM=-14,\"00A40000023F00\"\r",
        "AT+CGLA=x,14,\"00A40000023F00\"\r",
        "AT+CGLA=14,\"00A40000023F00\"\r",
        "AT+CCHC=\r",
        "AT+CRSM=176\r",
        "AT+CRSM=176,70000\r",
    ] {
        assert_eq!(bench.say(bad), cme(50), "{bad}");
    }
    for bad in [
        "AT+CGLA=0,8,\"00A40000\"\r",
        "AT+CGLA=2,8,\"00A40000\"\r",
        "AT+CCHC=0\r",
        "AT+CCHC=200\r",
    ] {
        assert_eq!(bench.say(bad), cme(21), "{bad}");
    }
    assert_eq!(
        bench.say("AT+CMEE=2;+CSIM=1,\"00\"\r"),
        "\r\n+CME ERROR: incorrect parameters\r\n"
    );
    let too_long = format!("AT+CSIM=524,\"{}\"\r", "00".repeat(262));
    assert_eq!(bench.say(&too_long), "\r\n+CME ERROR: incorrect parameters\r\n");
}

#[test]
fn channels_leak_until_the_card_starts_again() {
    let mut bench = Bench::warm("");
    let open = format!("AT+CCHO=\"{AID}\"\r");
    for number in 1..=3 {
        assert_eq!(bench.say(&open), ok(&[&format!("+CCHO: {number}")]));
    }
    assert_eq!(bench.say(&open), ERROR);
    assert_eq!(bench.say("AT+CCHC=2\r"), ok(&[]));
    // No such application: nothing stays open.
    assert_eq!(bench.say("AT+CCHO=\"A0000000871004\"\r"), ERROR);
    assert_eq!(bench.say("AT+CCHO=\"A00\"\rAT+CCHO=\r"), ERROR.repeat(2));
    assert_eq!(bench.say(&open), ok(&["+CCHO: 2"]));
    assert_eq!(bench.say(&open), ERROR);
    bench.say("AT+CFUN=0\rAT+CFUN=1\r");
    bench.wait(10_000);
    assert_eq!(bench.say(&open), ok(&["+CCHO: 1"]));
}

#[test]
fn a_card_that_is_away_busy_or_locked() {
    let open = format!("AT+CCHO=\"{AID}\"\r");
    let all = format!("AT+CSIM=8,\"00A40000\"\r{open}AT+CUAD\rAT+CRSM=176,12258\r");
    for (scenario, code) in [
        ("[sim]\nstate = 'absent'", 10),
        ("[sim]\nstate = 'failure'", 13),
        ("[sim]\nstate = 'pin'", 11),
        ("[sim]\nstate = 'puk'", 12),
        ("[sim]\nready_after = '60s'", 14),
    ] {
        let mut bench = Bench::warm(scenario);
        assert_eq!(bench.say(&all), cme(code).repeat(4), "{scenario}");
        assert_eq!(bench.say("AT+CSIM=?\r"), ok(&[]));
    }
    let mut bench = Bench::warm("");
    assert_eq!(bench.say(&open), ok(&["+CCHO: 1"]));
    bench.happen(Event::RemoveSim);
    assert_eq!(bench.say("AT+CGLA=1,8,\"00A40000\"\r"), cme(10));
    bench.happen(Event::InsertSim);
    bench.wait(10_000);
    assert_eq!(bench.say("AT+CGLA=1,8,\"00A40000\"\r"), cme(21));
}

#[test]
fn modems_differ() {
    let open = format!("AT+CCHO=\"{AID}\"\r");
    let authenticate = format!("AT+CSIM=78,\"{APDU}\"\r");
    assert_eq!(Bench::warm("[usim]\nccho = 'bare'").say(&open), ok(&["1"]));
    let mut bench = Bench::warm("[usim]\nccho = 'error'\ncuad = 'error'");
    assert_eq!(bench.say(&open), ERROR);
    assert_eq!(bench.say("AT+CUAD\r"), ERROR);
    assert_eq!(
        bench.say("AT+CSIM=24,\"00A4040407A0000000871002\"\r"),
        ok(&["+CSIM: 4,\"613A\""])
    );
    assert_eq!(Bench::warm("[usim]\ncsim = 'refused'").say(&authenticate), cme(3));
    let mut bench = Bench::warm("[usim]\nunselected = 'answer'\nget_response = 'fetched'");
    assert_eq!(bench.say(&authenticate), ok(&[&format!("+CSIM: 110,\"{ANSWER}\"")]));
    let mut bench = Bench::warm("[usim]\nunselected = '6982'");
    assert_eq!(bench.say(&authenticate), ok(&["+CSIM: 4,\"6982\""]));
    let mut bench = Bench::warm("[usim]\nunselected = 'answer'\nmac_failure = true");
    assert_eq!(bench.say(&authenticate), ok(&["+CSIM: 4,\"9862\""]));
    let mut bench = Bench::warm("[usim]\nunselected = 'answer'\nsqn_ahead = 9\nget_response = 'fetched'");
    let auts = bench.say(&authenticate);
    assert!(auts.contains("+CSIM: 36,\"DC0E") && auts.contains("9000\""), "{auts}");
}

#[test]
fn they_differ_in_more() {
    let open = format!("AT+CCHO=\"{AID}\"\r");
    let whole = "A0000000871002FF86FFFF89FFFFFFFF";
    let mut bench = Bench::warm("[usim]\nchannels = 0\ncsim = 'absent'");
    assert_eq!(bench.say(&open), ERROR);
    assert_eq!(bench.say("AT+CSIM=?\r"), ERROR);
    assert_eq!(bench.say(&format!("AT+CSIM=78,\"{APDU}\"\r")), ERROR);
    let mut bench = Bench::warm("[usim]\nchannels = 1\ncgla = 'refused'");
    assert_eq!(bench.engine.open_channels(), 0);
    assert_eq!(bench.say(&open), ok(&["+CCHO: 1"]));
    assert_eq!(bench.say(&open), ERROR);
    assert_eq!(bench.engine.open_channels(), 1);
    assert_eq!(bench.say(&format!("AT+CGLA=1,78,\"{APDU}\"\r")), cme(3));
    let mut bench = Bench::warm("[usim]\naid = 'whole'");
    assert_eq!(bench.say(&open), ERROR);
    assert_eq!(bench.engine.open_channels(), 0, "nothing stays open");
    assert_eq!(
        bench.say("AT+CSIM=24,\"00A4040407A0000000871002\"\r"),
        ok(&["+CSIM: 4,\"6A82\""])
    );
    assert_eq!(bench.say(&format!("AT+CCHO=\"{whole}\"\r")), ok(&["+CCHO: 1"]));
    for (le, with) in [("error", ERROR.to_owned()), ("6700", ok(&["+CSIM: 4,\"6700\""]))] {
        let mut bench = Bench::warm(&format!("[usim]\nunselected = 'answer'\nle = '{le}'\ntoolkit = true"));
        assert_eq!(bench.say(&format!("AT+CSIM=80,\"{APDU}00\"\r")), with);
        assert_eq!(
            bench.say(&format!("AT+CSIM=78,\"{APDU}\"\r")),
            ok(&["+CSIM: 4,\"6135\""])
        );
        let fetched = bench.say("AT+CSIM=10,\"00C0000035\"\r");
        assert!(fetched.ends_with("910B\"\r\n\r\nOK\r\n"), "{fetched}");
    }
}

#[test]
fn files_by_crsm() {
    let mut bench = Bench::warm("");
    for (command, answer) in [
        ("176,12258,0,0,10", "144,0,\"982413002200002143F5\""),
        ("176,28423,0,0,9", "144,0,\"082959103254769810\""),
        ("176,28423,0,0,200", "108,9"),
        ("176,28589", "108,4"),
        ("176,28589,0,9,1", "107,0"),
        (
            "178,12032,1,4,26",
            "144,0,\"61184F10A0000000871002FF86FFFF89FFFFFFFF50045553494D\"",
        ),
        ("178,12032,2,4,26", "106,131"),
        ("178,12032,1,4,0", "108,26"),
        ("176,12032,0,0,1", "105,129"),
        ("176,1,0,0,1", "106,130"),
        ("214,28423,0,0,1", "109,0"),
    ] {
        assert_eq!(
            bench.say(&format!("AT+CRSM={command}\r")),
            ok(&[&format!("+CRSM: {answer}")]),
            "{command}"
        );
    }
    assert!(bench.say("AT+CRSM=192,28423\r").contains("+CRSM: 144,0,\"62"));
}
