//! Registration, signal and contexts.

use super::{Bench, cme, ok, urc};
use crate::bench::dongle::scenario::Event;

#[test]
fn the_read_form_has_the_mode_and_the_unsolicited_form_has_not() {
    let mut bench = Bench::warm("[network]\nregister_after = '1s'");
    for name in ["CREG", "CGREG", "CEREG"] {
        assert_eq!(bench.say(&format!("AT+{name}=?\r")), ok(&[&format!("+{name}: (0-2)")]));
        assert_eq!(bench.say(&format!("AT+{name}?\r")), ok(&[&format!("+{name}: 0,5")]));
        bench.say(&format!("AT+{name}=1\r"));
        assert_eq!(bench.say(&format!("AT+{name}?\r")), ok(&[&format!("+{name}: 1,5")]));
    }
    bench.say("AT+CREG=0\rAT+CEREG=2\r");
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 2,5,\"1E2F\",\"2B3C4D5\",7"]));
    assert_eq!(
        bench.happen(Event::LoseNetwork(None)),
        urc("+CGREG: 2") + &urc("+CEREG: 2")
    );
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 2,2"]));
    bench.happen(Event::FindNetwork);
    assert_eq!(
        bench.wait(1_000),
        urc("+CGREG: 5") + &urc("+CEREG: 5,\"1E2F\",\"2B3C4D5\",7")
    );
    assert_eq!(bench.say("AT+CEREG=7\r"), "\r\nERROR\r\n");
}

#[test]
fn unsolicited_lines_come_between_echo_and_answer() {
    let mut bench = Bench::cold("latency = '3s'\nboot_time = '0s'");
    bench.wait(0);
    assert_eq!(bench.say("AT+CPIN?\r"), "AT+CPIN?\r");
    let text = bench.wait(3_000);
    assert!(
        text.starts_with(&urc("+CPIN: READY")) && text.ends_with(&ok(&["+CPIN: READY"])),
        "{text}"
    );
}

#[test]
fn what_a_registered_modem_tells() {
    let mut bench = Bench::warm("[network]\nregistration = 'home'\nrsrp = -101");
    for (command, line) in [
        ("AT+CEREG?\r", "+CEREG: 0,1"),
        ("AT+CSQ\r", "+CSQ: 21,99"),
        ("AT+QCSQ\r", "+QCSQ: \"LTE\",-70,-101,160,-10"),
        (
            "AT+QENG=\"servingcell\"\r",
            "+QENG: \"servingcell\",\"NOCONN\",\"LTE\",\"FDD\",440,10,2B3C4D5,301,276,1,5,5,1E2F,-101,-10,-70,12,27",
        ),
        ("AT+QNWINFO\r", "+QNWINFO: \"FDD LTE\",\"44010\",\"LTE BAND 1\",276"),
        ("AT+COPS?\r", "+COPS: 0,0,\"NTT DOCOMO\",7"),
        ("AT+CGATT?\r", "+CGATT: 1"),
        ("AT+CGACT?\r", "+CGACT: 1,1"),
        ("AT+CGPADDR=1\r", "+CGPADDR: 1,\"10.76.51.180\""),
    ] {
        assert_eq!(bench.say(command), ok(&[line]), "{command}");
    }
    bench.say("AT+COPS=3,2\r");
    assert_eq!(bench.say("AT+COPS?\r"), ok(&["+COPS: 0,2,\"44010\",7"]));
    bench.happen(Event::Signal(-140));
    assert_eq!(bench.say("AT+CSQ\r"), ok(&["+CSQ: 2,99"]));
    bench.happen(Event::Signal(i16::MIN));
    assert_eq!(bench.say("AT+CSQ\r"), ok(&["+CSQ: 0,99"]));
}

#[test]
fn what_a_searching_modem_tells() {
    let mut bench = Bench::warm("[network]\nregistration = 'none'");
    bench.wait(600_000);
    for (command, line) in [
        ("AT+CEREG?\r", "+CEREG: 0,2"),
        ("AT+CSQ\r", "+CSQ: 99,99"),
        ("AT+QCSQ\r", "+QCSQ: \"NOSERVICE\""),
        ("AT+QENG=\"servingcell\"\r", "+QENG: \"servingcell\",\"SEARCH\""),
        ("AT+QNWINFO\r", "+QNWINFO: No Service"),
        ("AT+COPS?\r", "+COPS: 0"),
        ("AT+CGATT?\r", "+CGATT: 0"),
        ("AT+CGPADDR=1\r", "+CGPADDR: 1,\"0.0.0.0\""),
    ] {
        assert_eq!(bench.say(command), ok(&[line]), "{command}");
    }
    assert_eq!(bench.say("AT+CGCONTRDP=1\r"), ok(&[]));
    assert_eq!(bench.say("AT+CGACT=1,1\r"), cme(30));
}

#[test]
fn a_refusal_has_a_cause() {
    let mut bench = Bench::warm("[network]\nregistration = 'denied'\ndenied_cause = 'Illegal UE'");
    assert_eq!(
        bench.say("AT+CEREG?\rAT+CEER\r"),
        ok(&["+CEREG: 0,3"]) + &ok(&["+CEER: Illegal UE"])
    );
    assert!(bench.say("AT+QENG=\"servingcell\"\r").contains("\"LIMSRV\",\"LTE\""));
    bench.happen(Event::FindNetwork);
    bench.wait(5_000);
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,5"]));
    bench.happen(Event::Deny("Illegal ME".into()));
    assert_eq!(
        bench.say("AT+CEREG?\rAT+CEER\r"),
        ok(&["+CEREG: 0,3"]) + &ok(&["+CEER: Illegal ME"])
    );
}

#[test]
fn the_right_apn_matters_only_when_the_scenario_says_so() {
    let mut bench = Bench::warm("[network]\nrequired_apn = 'soracom.io'");
    assert_eq!(
        bench.say("AT+CEREG?\rAT+CEER\r"),
        ok(&["+CEREG: 0,3"]) + &ok(&["+CEER: Missing or unknown APN"])
    );
    bench.say("AT+QICSGP=1,1,\"soracom.io\",\"sora\",\"sora\",1\r");
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,5"]));
}

#[test]
fn contexts() {
    let mut bench = Bench::warm("");
    let zeros = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0";
    assert_eq!(
        bench.say("AT+CGDCONT?\r"),
        ok(&[&format!("+CGDCONT: 1,\"IPV4V6\",\"\",\"{zeros}\",0,0,0,0")])
    );
    assert_eq!(bench.say("AT+CGDCONT=1,\"IP\",\"soracom.io\"\r"), ok(&[]));
    assert_eq!(
        bench.say("AT+CGDCONT?\r"),
        ok(&["+CGDCONT: 1,\"IP\",\"soracom.io\",\"0.0.0.0\",0,0,0,0"])
    );
    assert_eq!(
        bench.say("AT+QICSGP=1\r"),
        ok(&["+QICSGP: 1,\"soracom.io\",\"\",\"\",0"])
    );
    assert_eq!(
        bench.say("AT+QICSGP=2,1,\"du.soracom.io\",\"sora\",\"sora\",2\r"),
        ok(&[])
    );
    assert_eq!(
        bench.say("AT+QICSGP=2\r"),
        ok(&["+QICSGP: 1,\"du.soracom.io\",\"sora\",\"sora\",2"])
    );
    assert_eq!(bench.say("AT+CGACT?\r"), ok(&["+CGACT: 1,1", "+CGACT: 2,0"]));
    assert_eq!(bench.say("AT+CGACT=1,2\rAT+CGACT=0,1\r"), ok(&[]) + &ok(&[]));
    assert_eq!(bench.say("AT+CGACT?\r"), ok(&["+CGACT: 1,0", "+CGACT: 2,1"]));
    assert!(
        bench
            .say("AT+CGCONTRDP=2\r")
            .contains("+CGCONTRDP: 2,5,\"du.soracom.io\",\"10.76.51.180\"")
    );
    for wrong in [
        "AT+CGDCONT=17,\"IP\",\"a\"\r",
        "AT+CGDCONT=\r",
        "AT+QICSGP=1,9,\"a\"\r",
        "AT+CGACT=1,9\r",
        "AT+CGPADDR=5\r",
    ] {
        assert_eq!(bench.say(wrong), "\r\nERROR\r\n", "{wrong}");
    }
}

#[test]
fn leaving_the_network_and_coming_back() {
    let mut bench = Bench::warm("[network]\nregister_after = '1s'");
    for (leave, back) in [
        ("AT+COPS=2\r", "AT+COPS=0\r"),
        ("AT+CGATT=0\r", "AT+CGATT=1\r"),
        ("AT+CFUN=4\r", "AT+CFUN=1\r"),
    ] {
        bench.say(leave);
        assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,0"]), "{leave}");
        bench.say(back);
        assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,2"]), "{back}");
        bench.wait(1_000);
        assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,5"]), "{back}");
    }
    assert_eq!(bench.say("AT+COPS=1,2,\"99999\"\r"), cme(30));
}

#[test]
fn unsolicited_lines_can_go_to_another_port() {
    let mut bench = Bench::warm("");
    bench.say("AT+CEREG=1;+QURCCFG=\"urcport\",\"usbmodem\"\r");
    assert_eq!(bench.happen(Event::LoseNetwork(None)), "");
    bench.say("AT+QURCCFG=\"urcport\",\"all\"\r");
    bench.happen(Event::FindNetwork);
    assert_eq!(bench.wait(5_000), urc("+CEREG: 5"));
}

#[test]
fn a_context_closed_by_hand_is_open_again_after_the_next_registration() {
    let mut bench = Bench::warm("");
    bench.say("AT+CGACT=0,1\r");
    assert_eq!(bench.say("AT+CGACT?\r"), ok(&["+CGACT: 1,0"]));
    bench.say("AT+CFUN=4\rAT+CFUN=1\r");
    assert_eq!(bench.say("AT+CGACT?\r"), ok(&["+CGACT: 1,0"]), "not before");
    bench.wait(5_000);
    assert_eq!(bench.say("AT+CGACT?\r"), ok(&["+CGACT: 1,1"]));
}

#[test]
fn an_interrupted_search_begins_again() {
    let mut bench = Bench::warm("[network]\nregister_after = '2s'");
    bench.say("AT+CFUN=4\rAT+CFUN=1\r");
    bench.wait(1_500);
    bench.say("AT+CFUN=4\rAT+CFUN=1\r");
    bench.wait(1_999);
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,2"]));
    bench.wait(1);
    assert_eq!(bench.say("AT+CEREG?\r"), ok(&["+CEREG: 0,5"]));
}
