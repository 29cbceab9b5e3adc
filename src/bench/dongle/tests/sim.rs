//! The boot, the card's start and its PIN.

use super::{Bench, cme, ok, urc};
use crate::bench::dongle::scenario::Event;

#[test]
fn the_boot_in_its_order() {
    let mut bench = Bench::cold("boot_time = '300ms'\n[sim]\nready_after = '1s'\n[network]\nregister_after = '2s'");
    assert_eq!(bench.say("AT\r"), "", "nothing answers before RDY");
    assert_eq!(bench.wait(299), "");
    assert_eq!(bench.wait(1), urc("RDY") + &urc("+CFUN: 1"));
    bench.say("ATE0\r");
    assert_eq!(
        bench.say("AT+CPIN?\rAT+CIMI\rAT+QCCID\r"),
        cme(14) + &cme(14) + &cme(14)
    );
    assert_eq!(bench.say("AT+QINISTAT\r"), ok(&["+QINISTAT: 0"]));
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,0"]));
    assert_eq!(bench.wait(699), "");
    assert_eq!(bench.wait(1), urc("+CPIN: READY") + &urc("+QUSIM: 1"));
    assert_eq!(
        bench.say("AT+CPIN?\rAT+QINISTAT\r"),
        ok(&["+CPIN: READY"]) + &ok(&["+QINISTAT: 1"])
    );
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,2"]));
    assert_eq!(bench.wait(200), urc("+QIND: SMS DONE"));
    assert_eq!(bench.wait(200), urc("+QIND: PB DONE"));
    assert_eq!(bench.say("AT+QINISTAT\r"), ok(&["+QINISTAT: 7"]));
    bench.wait(1_599);
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,2"]));
    bench.wait(1);
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,5"]));
    assert_eq!(bench.engine.next_wakeup(), None, "a modem at rest needs no timer");
}

#[test]
fn no_card_and_a_bad_card() {
    let mut bench = Bench::cold("[sim]\nstate = 'absent'");
    assert!(bench.wait(10_000).ends_with(&urc("+CPIN: NOT INSERTED")));
    bench.say("ATE0\r");
    assert_eq!(bench.say("AT+CPIN?\rAT+CIMI\r"), cme(10) + &cme(10));
    assert_eq!(
        bench.say("AT+QSIMSTAT?\rAT+CEREG?\r"),
        ok(&["+QSIMSTAT: 0,0"]) + &ok(&["+CEREG: 0,0"])
    );
    let mut bench = Bench::warm("[sim]\nstate = 'failure'");
    assert_eq!(bench.say("AT+CPIN?\rAT+CIMI\r"), cme(13) + &cme(13));
}

#[test]
fn the_right_pin() {
    let mut bench = Bench::warm("[sim]\nstate = 'pin'\npin = '0042'");
    assert_eq!(bench.say("AT+CPIN?\rAT+CIMI\r"), ok(&["+CPIN: SIM PIN"]) + &cme(11));
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,0"]));
    assert_eq!(
        bench.say("AT+QPINC?\r"),
        ok(&["+QPINC: \"SC\",3,10", "+QPINC: \"P2\",3,10"])
    );
    assert_eq!(
        bench.say("AT+CPIN=\"0042\"\r"),
        ok(&[]) + &urc("+CPIN: READY") + &urc("+QUSIM: 1")
    );
    assert_eq!(bench.say("AT+CIMI\r"), ok(&["295012345678901"]));
    assert_eq!(bench.say("AT+CPIN=\"0042\"\r"), cme(3));
    bench.wait(5_000);
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,5"]));
    // Without power the card forgets that it was unlocked.
    bench.say("AT+CFUN=0\rAT+CFUN=1\r");
    bench.wait(5_000);
    assert_eq!(bench.say("AT+CPIN?\r"), ok(&["+CPIN: SIM PIN"]));
}

#[test]
fn wrong_pins_lead_to_the_puk_and_wrong_puks_to_the_end() {
    let mut bench = Bench::warm("[sim]\nstate = 'pin'\npuk = '87654321'\npuk_retries = 2");
    assert_eq!(bench.say("AT+CPIN=\"9999\"\r"), cme(16));
    assert_eq!(bench.say("AT+CPIN=9998\r"), cme(16));
    assert!(bench.say("AT+QPINC?\r").contains("\"SC\",1,2"));
    // A restart gives no try back.
    bench.say("AT+CFUN=1,1\r");
    bench.wait(5_000);
    bench.say("ATE0\r");
    assert!(bench.say("AT+QPINC?\r").contains("\"SC\",1,2"));
    assert_eq!(bench.say("AT+CPIN=\"9997\"\r"), cme(12));
    assert_eq!(bench.say("AT+CPIN?\rAT+CIMI\r"), ok(&["+CPIN: SIM PUK"]) + &cme(12));
    assert_eq!(bench.say("AT+CPIN=\"1234\"\r"), cme(12));
    assert_eq!(bench.say("AT+CPIN=\"11111111\",\"4321\"\r"), cme(16));
    assert_eq!(bench.say("AT+CPIN=\"11111111\",\"4321\"\r"), cme(13));
    assert_eq!(
        bench.say("AT+CPIN=\"87654321\",\"4321\"\rAT+CPIN?\r"),
        cme(13) + &cme(13)
    );
}

#[test]
fn the_puk_gives_a_new_pin() {
    let mut bench = Bench::warm("[sim]\nstate = 'puk'\npuk = '87654321'");
    assert_eq!(bench.say("AT+CPIN?\r"), ok(&["+CPIN: SIM PUK"]));
    assert!(bench.say("AT+CPIN=\"87654321\",\"4321\"\r").starts_with(&ok(&[])));
    assert_eq!(bench.say("AT+CPIN?\r"), ok(&["+CPIN: READY"]));
    bench.say("AT+CFUN=1,1\r");
    bench.wait(5_000);
    assert!(bench.say("ATE0\rAT+CPIN=\"4321\"\r").contains("+CPIN: READY"));
}

#[test]
fn minimum_function_takes_the_card_flight_mode_does_not() {
    let mut bench = Bench::warm("");
    assert_eq!(bench.say("AT+CFUN=4\r"), ok(&[]));
    assert_eq!(
        bench.say("AT+CPIN?\rAT+CEREG?\r"),
        ok(&["+CPIN: READY"]) + &ok(&["+CEREG: 0,0"])
    );
    assert_eq!(bench.say("AT+CFUN=0\r"), ok(&[]) + &urc("+CPIN: NOT READY"));
    assert_eq!(bench.say("AT+CPIN?\rAT+CFUN?\r"), cme(13) + &ok(&["+CFUN: 0"]));
    assert_eq!(bench.say("AT+CFUN=1\rAT+CPIN?\r"), ok(&[]) + &cme(14));
    assert!(bench.wait(5_000).starts_with(&urc("+CPIN: READY")));
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,5"]));
}

#[test]
fn a_restart_is_silent_and_forgets_echo_and_cmee() {
    let mut bench = Bench::warm("");
    bench.say("AT+CMEE=2\rAT+CEREG=2\rAT+CGDCONT=1,\"IP\",\"soracom.io\"\r");
    assert_eq!(bench.say("AT+CFUN=1,1\r"), ok(&[]));
    assert_eq!(bench.say("AT\r"), "");
    assert!(
        bench
            .wait(10_000)
            .starts_with(&(urc("RDY") + &urc("+CFUN: 1") + &urc("+CPIN: READY")))
    );
    assert_eq!(bench.say("AT+CMEE?\r"), "AT+CMEE?\r\r\n+CMEE: 1\r\n\r\nOK\r\n");
    bench.say("ATE0\r");
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,5"]));
    assert!(bench.say("AT+CGDCONT?\r").contains("soracom.io"), "contexts are kept");
}

#[test]
fn taking_the_card_out_and_putting_it_in() {
    let mut bench = Bench::warm("");
    bench.say("AT+QSIMSTAT=1\rAT+CEREG=1\r");
    assert_eq!(
        bench.happen(Event::RemoveSim),
        urc("+QSIMSTAT: 1,0") + &urc("+CPIN: NOT READY") + &urc("+CEREG: 0")
    );
    assert_eq!(bench.say("AT+CIMI\r"), cme(10));
    assert_eq!(bench.happen(Event::InsertSim), urc("+QSIMSTAT: 1,1"));
    assert_eq!(bench.say("AT+CIMI\r"), cme(14));
    let later = bench.wait(5_000);
    assert!(
        later.contains("+CPIN: READY") && later.ends_with(&urc("+CEREG: 5")),
        "{later}"
    );
}
