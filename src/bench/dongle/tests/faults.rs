//! Scenarios: late, silent, noisy, gone.

use std::time::Duration;

use super::{Bench, cme, ok, urc};
use crate::bench::dongle::engine::MAX_OUTPUT;
use crate::bench::dongle::scenario::Event;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn late() {
    let mut bench = Bench::warm("");
    bench.happen(Event::Late(SECOND));
    assert_eq!(bench.say("AT+CGMI\rAT+CGMM\r"), "");
    assert_eq!(bench.wait(999), "");
    assert_eq!(bench.wait(1), ok(&["Quectel"]));
    assert_eq!(
        bench.wait(1_000),
        ok(&["EG25"]),
        "the second waited in the input buffer"
    );
}

#[test]
fn silent_for_a_while() {
    let mut bench = Bench::warm("[[event]]\nat = '11s'\ndo = 'silent'\nfor = '5s'");
    bench.wait(1_000);
    assert_eq!(bench.say("AT\r"), "");
    assert_eq!(
        bench.happen(Event::Crash) + &bench.wait(4_999),
        "",
        "not even a boot is heard"
    );
    bench.wait(1);
    assert!(bench.say("AT\r").ends_with("\r\nOK\r\n"));
    bench.happen(Event::Silent(None));
    bench.wait(1_000_000);
    assert_eq!(bench.say("AT\r"), "");
    bench.happen(Event::Talk);
    assert!(bench.say("AT\r").ends_with("\r\nOK\r\n"));
}

#[test]
fn noise_around_and_inside() {
    let scenario = "[noise]\nnul_at_start = 3\nbetween = '00ff'\nurc_inside = '+QIND: PB DONE'\n[line]\necho = 'never'";
    let mut bench = Bench::cold(scenario);
    assert!(bench.wait(300).starts_with("\0\0\0\r\nRDY\r\n"));
    bench.wait(10_000);
    let inside = urc("+QIND: PB DONE");
    assert_eq!(
        bench.say("ATE1+CGMI\r"),
        format!("\0\u{ff}\r\nQuectel\r\n{inside}\0\u{ff}\r\nOK\r\n")
    );
    assert_eq!(
        bench.say("AT\r"),
        format!("\0\u{ff}{inside}\0\u{ff}\r\nOK\r\n"),
        "no echo, whatever ATE says"
    );
}

#[test]
fn only_rubbish() {
    let mut bench = Bench::cold("[noise]\ngarbage_only = true\nseed = 3");
    assert_eq!(bench.wait(10_000), "");
    let first = bench.say("AT\r");
    assert!(!first.is_empty() && !first.contains("OK"), "{first:?}");
    let mut again = Bench::cold("[noise]\ngarbage_only = true\nseed = 3");
    again.wait(10_000);
    assert_eq!(again.say("AT\r"), first, "the same seed, the same rubbish");
    bench.happen(Event::Talk);
    assert!(bench.say("AT\r").ends_with("\r\nOK\r\n"));
}

#[test]
fn the_wrong_form_of_errors() {
    let mut bench = Bench::warm("[sim]\nstate = 'absent'\n[line]\ncme = 'text'");
    assert_eq!(bench.say("AT+CIMI\r"), "\r\n+CME ERROR: SIM not inserted\r\n");
    let mut bench = Bench::warm("[sim]\nstate = 'absent'\n[line]\ncme = 'numeric'");
    bench.say("AT+CMEE=2\r");
    assert_eq!(bench.say("AT+CIMI\r"), cme(10));
}

#[test]
fn other_answers() {
    let scenario = r#"
        [[override]]
        command = "AT+CSQ"
        answer = "+CSQ: 30, 99"
        times = 2
        [[override]]
        command = "AT+CSQ"
        raw = "\u0000\r\n+CS"
        times = 1
        [[override]]
        command = "at+cimi"
        silent = true
        times = 1
        [[override]]
        command = "AT+CPIN?"
        result = "+CME ERROR: SIM failure"
        after = "2s"
        [[override]]
        command = "AT+X"
        answer = "one\ntwo"
        result = ""
    "#;
    let mut bench = Bench::warm(scenario);
    assert_eq!(bench.say("AT+CSQ\rat+csq\r"), ok(&["+CSQ: 30, 99"]).repeat(2));
    assert_eq!(bench.say("AT+CSQ\r"), "\0\r\n+CS");
    assert_eq!(bench.say("AT+CSQ\r"), ok(&["+CSQ: 24,99"]));
    assert_eq!(bench.say("AT+CIMI\r"), "");
    assert_eq!(bench.say("AT+CIMI\r"), ok(&["295012345678901"]));
    assert_eq!(bench.say("AT+CPIN?\r"), "");
    assert_eq!(bench.wait(2_000), "\r\n+CME ERROR: SIM failure\r\n");
    assert_eq!(bench.say("AT+X\r"), "\r\none\r\ntwo\r\n");
}

#[test]
fn a_crash_is_a_boot_out_of_the_blue() {
    let mut bench = Bench::warm("[[event]]\nat = '20s'\ndo = 'crash'");
    bench.wait(10_000);
    assert_eq!(bench.say("AT\r"), "");
    assert!(bench.wait(300).starts_with(&urc("RDY")));
    bench.say("ATE0\r");
    assert_eq!(bench.say("AT+CPIN?\r"), cme(14));
}

#[test]
fn unplugging_and_plugging() {
    let mut bench = Bench::warm("[[event]]\nat = '20s'\ndo = 'unplug'\nfor = '5s'");
    bench.wait(10_000);
    assert!(!bench.engine.is_plugged());
    assert_eq!(bench.say("AT\r"), "");
    bench.wait(4_999);
    assert!(!bench.engine.is_plugged());
    bench.wait(1);
    assert!(bench.engine.is_plugged());
    assert!(bench.wait(300).starts_with(&urc("RDY")));
    bench.happen(Event::Unplug(None));
    bench.wait(1_000_000);
    assert!(!bench.engine.is_plugged());
    bench.happen(Event::Plug);
    assert!(bench.engine.is_plugged());
}

#[test]
fn a_reset_can_take_the_port_away() {
    let mut bench = Bench::warm("[line]\nreset = 'replug'");
    assert_eq!(bench.say("AT+CFUN=1,1\r"), ok(&[]));
    bench.wait(500);
    assert!(!bench.engine.is_plugged());
    bench.wait(1_500);
    assert!(bench.engine.is_plugged());
    assert!(bench.wait(300).starts_with(&urc("RDY")));
}

#[test]
fn power_down() {
    let mut bench = Bench::warm("");
    assert_eq!(bench.say("AT+QPOWD=1\r"), ok(&[]));
    assert_eq!(bench.wait(1_000), urc("POWERED DOWN"));
    assert_eq!(bench.say("AT\r") + &bench.wait(1_000_000), "");
    bench.happen(Event::Plug);
    assert!(bench.wait(300).starts_with(&urc("RDY")));
}

#[test]
fn the_network_comes_and_goes_by_the_scenario() {
    let mut bench = Bench::warm("[[event]]\nat = '20s'\ndo = 'lose-network'\nfor = '10s'");
    bench.say("AT+CEREG=1\r");
    assert_eq!(bench.wait(10_000), urc("+CEREG: 2"));
    assert_eq!(bench.wait(11_999), "");
    assert_eq!(bench.wait(1), urc("+CEREG: 5"));
}

#[test]
fn lines_and_bytes_out_of_the_blue() {
    let mut bench = Bench::warm("");
    assert_eq!(bench.happen(Event::Urc("RING".into())), urc("RING"));
    assert_eq!(bench.happen(Event::Bytes(vec![0, 255])), "\0\u{ff}");
}

#[test]
fn output_nobody_reads_is_bounded_and_dropped_whole() {
    let mut bench = Bench::warm("");
    for _ in 0..MAX_OUTPUT {
        bench.engine.input(bench.now, b"AT+CGSN\r");
    }
    assert!(bench.engine.output().len() <= MAX_OUTPUT && bench.engine.dropped() > 0);
    assert!(bench.take().ends_with("\r\nOK\r\n"), "no answer is cut");
    assert_eq!(bench.say("AT\r"), ok(&[]));
}

#[test]
fn every_command_and_answer_is_recorded() {
    let mut bench = Bench::warm("");
    bench.engine.take_records().for_each(drop);
    bench.say("AT+CGMI\r");
    let records: Vec<_> = bench.engine.take_records().collect();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].at, records[0].command.as_str()), (bench.now, "AT+CGMI"));
    assert_eq!(records[0].answer, ok(&["Quectel"]));
}

#[test]
fn input_during_an_answer_is_kept_up_to_a_bound() {
    let mut bench = Bench::warm("");
    bench.happen(Event::Late(SECOND));
    bench.say("AT\r");
    // A line of 5000 bytes fills the input buffer (4096 bytes); the command after it no longer fits.
    bench.say(&("x".repeat(5_000) + "\rAT+CGMI\r"));
    assert_eq!(bench.wait(1_000), ok(&[]));
    assert_eq!(bench.wait(10_000), "", "neither the CR nor the command was kept");
    bench.say("\r");
    assert_eq!(
        bench.wait(1_000) + &bench.wait(1_000),
        "\r\nERROR\r\n",
        "what was kept is a line too long"
    );
}

#[test]
fn a_later_unplugging_replaces_the_earlier_ones_end() {
    let mut bench = Bench::warm("");
    bench.happen(Event::Unplug(Some(SECOND)));
    bench.happen(Event::Unplug(None));
    bench.wait(60_000);
    assert!(!bench.engine.is_plugged());
    bench.happen(Event::Unplug(Some(SECOND)));
    bench.happen(Event::Plug);
    bench.wait(500);
    bench.say("ATE0\r");
    bench.wait(10_000);
    assert_eq!(bench.say("AT\r"), ok(&[]), "the dongle did not boot a second time");
}
