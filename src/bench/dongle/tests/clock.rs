//! Time. The bench is switched on at 2026-11-21T12:00:00Z; warm means ten seconds later. Registration is at 3 s.

use super::{Bench, ok};

#[test]
fn before_the_network_told_the_clock_is_in_1980() {
    let mut bench = Bench::warm("[network]\ntime = 'none'");
    for command in ["AT+QLTS\r", "AT+QLTS=0\r", "AT+QLTS=1\r", "AT+QLTS=2\r"] {
        assert_eq!(bench.say(command), ok(&["+QLTS: \"\""]), "{command}");
    }
    bench.say("AT+CTZU=1\r");
    bench.wait(5_000);
    assert_eq!(bench.say("AT+CCLK?\r"), ok(&["+CCLK: \"80/01/06,00:00:15+00\""]));
}

#[test]
fn the_network_time_is_gmt_with_the_zone_beside_it() {
    let mut bench = Bench::warm("");
    assert_eq!(bench.say("AT+QLTS=1\r"), ok(&["+QLTS: \"2026/11/21,12:00:10+36,0\""]));
    assert_eq!(bench.say("AT+QLTS=2\r"), ok(&["+QLTS: \"2026/11/21,21:00:10+36,0\""]));
    assert_eq!(bench.say("AT+QLTS\r"), ok(&["+QLTS: \"2026/11/21,12:00:03+36,0\""]));
    assert_eq!(bench.say("AT+QLTS=3\r"), "\r\nERROR\r\n");
}

#[test]
fn the_modems_clock_follows_only_when_asked() {
    let mut bench = Bench::warm("[network]\nzone_quarters = -14");
    assert_eq!(
        bench.say("AT+CTZU?\rAT+CTZU=?\r"),
        ok(&["+CTZU: 0"]) + &ok(&["+CTZU: (0,1,3)"])
    );
    assert_eq!(bench.say("AT+CCLK?\r"), ok(&["+CCLK: \"80/01/06,00:00:10+00\""]));
    bench.say("AT+CTZU=1\r");
    assert_eq!(bench.say("AT+CCLK?\r"), ok(&["+CCLK: \"26/11/21,12:00:10-14\""]));
    bench.say("AT+CTZU=3\r");
    assert_eq!(bench.say("AT+CCLK?\r"), ok(&["+CCLK: \"26/11/21,08:30:10-14\""]));
    assert_eq!(bench.say("AT+CTZU=2\r"), "\r\nERROR\r\n");
    // The setting is kept over a restart, the time is not.
    bench.say("AT+CFUN=1,1\r");
    bench.wait(400);
    bench.say("ATE0\r");
    assert_eq!(
        bench.say("AT+CTZU?\rAT+CCLK?\r"),
        ok(&["+CTZU: 3"]) + &ok(&["+CCLK: \"80/01/06,00:00:00+00\""])
    );
}

#[test]
fn the_clock_can_be_set_by_hand() {
    let mut bench = Bench::warm("[network]\ntime = 'none'");
    assert_eq!(bench.say("AT+CCLK=\"26/02/28,23:59:50+36\"\r"), ok(&[]));
    bench.wait(15_000);
    assert_eq!(bench.say("AT+CCLK?\r"), ok(&["+CCLK: \"26/03/01,00:00:05+36\""]));
    for wrong in ["26/02/30,00:00:00+36", "26/02/28,00:00:00", "x", "26/02/28,00:00:00+99"] {
        assert_eq!(bench.say(&format!("AT+CCLK=\"{wrong}\"\r")), "\r\nERROR\r\n", "{wrong}");
    }
}

#[test]
fn a_time_of_the_scenarios_own() {
    let mut bench = Bench::warm("[network]\ntime = '1999-12-31T23:59:55Z'\nzone_quarters = 0");
    assert_eq!(bench.say("AT+QLTS=1\r"), ok(&["+QLTS: \"2000/01/01,00:00:05+00,0\""]));
}
