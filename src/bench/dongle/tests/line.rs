//! Echo, line ends, joined commands, forms of results, identity: exact bytes.

use super::{Bench, cme, ok};

#[test]
fn the_echo_ends_with_one_cr() {
    let mut bench = Bench::cold("");
    bench.wait(10_000);
    assert_eq!(bench.say("AT+CSQ\r"), "AT+CSQ\r\r\n+CSQ: 24,99\r\n\r\nOK\r\n");
    assert_eq!(bench.say("AT\r\n"), "AT\r\r\nOK\r\n");
    // The command that ends the echo is still echoed.
    assert_eq!(bench.say("ATE0\r"), "ATE0\r\r\nOK\r\n");
    assert_eq!(bench.say("AT\r"), "\r\nOK\r\n");
}

#[test]
fn identity() {
    let mut bench = Bench::warm("");
    for (command, lines) in [
        ("ATI\r", vec!["Quectel", "EG25", "Revision: EG25GGBR07A08M2G"]),
        ("AT+CGMI\r", vec!["Quectel"]),
        ("AT+GMM\r", vec!["EG25"]),
        ("AT+CGMR\r", vec!["EG25GGBR07A08M2G"]),
        ("AT+QGMR\r", vec!["EG25GGBR07A08M2G_30.203.30.203"]),
        ("AT+CGSN\r", vec!["123456789011111"]),
        ("AT+GSN\r", vec!["123456789011111"]),
        ("AT+CGSN=1\r", vec!["+CGSN: 123456789011111"]),
        ("AT+CIMI\r", vec!["295012345678901"]),
        ("AT+QCCID\r", vec!["+QCCID: 8942310022000012345F"]),
        ("AT+CCID\r", vec!["+CCID: 8942310022000012345F"]),
        ("AT+QCFG=\"usbnet\"\r", vec!["+QCFG: \"usbnet\",0"]),
        ("AT+QURCCFG=\"urcport\"\r", vec!["+QURCCFG: \"urcport\",\"usbat\""]),
        ("AT+CFUN?\r", vec!["+CFUN: 1"]),
        ("AT+CMEE?\r", vec!["+CMEE: 1"]),
    ] {
        assert_eq!(bench.say(command), ok(&lines), "{command}");
    }
}

#[test]
fn upper_and_lower_case_are_alike_and_lf_is_nothing() {
    let mut bench = Bench::warm("");
    assert_eq!(bench.say("at+cgsn\r\n\nAt\r"), ok(&["123456789011111"]) + &ok(&[]));
    assert_eq!(bench.say("\r\r\n"), "");
    assert_eq!(bench.say("\0\0 AT\r"), ok(&[]));
}

#[test]
fn joined_commands_have_one_result_and_the_first_error_ends_them() {
    let mut bench = Bench::warm("");
    assert_eq!(bench.say("AT+CGMI;+CGMM\r"), "\r\nQuectel\r\n\r\nEG25\r\n\r\nOK\r\n");
    assert_eq!(bench.say("AT+CGMI;+NOPE;+CGMM\r"), "\r\nQuectel\r\n\r\nERROR\r\n");
    assert_eq!(bench.say("ATE0Q0V1S0=0&C1+CGMI\r"), ok(&["Quectel"]));
}

#[test]
fn what_is_unknown_is_a_plain_error() {
    let mut bench = Bench::warm("");
    for command in [
        "AT+NOPE\r",
        "AT+CGAUTH=1,1,\"sora\",\"sora\"\r",
        "RDY\r",
        "A\r",
        "ATB7\r",
        "AT+CMEE=3\r",
        "AT~~\r",
    ] {
        assert_eq!(bench.say(command), "\r\nERROR\r\n", "{command}");
    }
    // Text that is no ASCII, cut anywhere.
    assert_eq!(bench.say("Aé+\r"), "\r\nERROR\r\n");
    assert_eq!(bench.say(&("x".repeat(5000) + "\r")), "\r\nERROR\r\n");
    assert_eq!(bench.say("AT\r"), ok(&[]));
}

#[test]
fn numbers_for_results_quiet_and_back_to_the_factory() {
    let mut bench = Bench::warm("");
    assert_eq!(bench.say("ATV0\r"), "0\r");
    assert_eq!(bench.say("AT+CGMI\r"), "Quectel\r\n0\r");
    assert_eq!(bench.say("AT+NOPE\r"), "4\r");
    assert_eq!(bench.say("ATV1Q1\r"), "");
    assert_eq!(bench.say("AT\r"), "");
    assert_eq!(bench.say("AT&F\r"), ok(&[]));
    assert_eq!(bench.say("AT\r"), "AT\r\r\nOK\r\n");
}

#[test]
fn a_stored_profile_comes_back() {
    let mut bench = Bench::warm("");
    bench.say("AT+CMEE=2;&W\r");
    bench.say("AT+CMEE=0\rATE1\r");
    bench.say("ATZ\r");
    assert_eq!(bench.say("AT+CMEE?\r"), ok(&["+CMEE: 2"]));
}

#[test]
fn repeating_needs_no_cr() {
    let mut bench = Bench::warm("");
    bench.say("AT+CGMI\r");
    assert_eq!(bench.say("A/"), ok(&["Quectel"]));
}

#[test]
fn the_three_forms_of_an_error() {
    let mut bench = Bench::warm("[sim]\nstate = 'absent'");
    assert_eq!(bench.say("AT+CIMI\r"), cme(10));
    bench.say("AT+CMEE=2\r");
    assert_eq!(bench.say("AT+CIMI\r"), "\r\n+CME ERROR: SIM not inserted\r\n");
    bench.say("AT+CMEE=0\r");
    assert_eq!(bench.say("AT+CIMI\r"), "\r\nERROR\r\n");
}

#[test]
fn dialling_finds_nobody_yet() {
    assert_eq!(Bench::warm("").say("ATD*99***1#\r"), "\r\nNO CARRIER\r\n");
}

#[test]
fn the_same_bytes_however_they_are_cut() {
    let input = "AT\rATE0\rATI\r\nAT+CMEE=2\rAT+CGSN;+CIMI;+NOPE\rA/\0garbage\r\rAT+CEREG=2\rAT+CEREG?\r\
                 AT+QENG=\"servingcell\"\rAT+CGDCONT=1,\"IP\",\"soracom.io\"\rAT+CGDCONT?\rAT+CFUN=4\rAT+CPIN?\r";
    for scenario in ["", "latency = '10ms'"] {
        let run = |cut: usize| {
            let mut bench = Bench::cold(scenario);
            bench.wait(10_000);
            let (head, tail) = input.split_at(cut);
            bench.say(head) + &bench.say(tail) + &bench.wait(1_000)
        };
        let whole = run(0);
        assert!(whole.contains("295012345678901"), "{whole}");
        for cut in 1..input.len() {
            assert_eq!(run(cut), whole, "cut at {cut}");
        }
        let mut bench = Bench::cold(scenario);
        bench.wait(10_000);
        let bytewise: String = input.chars().map(|c| bench.say(&c.to_string())).collect();
        assert_eq!(bytewise + &bench.wait(1_000), whole);
    }
}

#[test]
fn a_network_scan_takes_time_and_any_byte_ends_it() {
    let mut bench = Bench::warm("");
    assert_eq!(bench.say("AT+COPS=?\r\n"), "");
    assert_eq!(
        bench.wait(2_000),
        ok(&["+COPS: (2,\"NTT DOCOMO\",\"NTT DOCOMO\",\"44010\",7),,(0-4),(0-2)"])
    );
    assert_eq!(bench.say("AT+COPS=?\r"), "");
    assert_eq!(bench.say("x"), "\r\nERROR\r\n");
    assert_eq!(bench.wait(5_000), "");
    assert_eq!(bench.say("AT\r"), ok(&[]));
}
