//! Scenarios as people write them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::time::Duration;

use super::*;

#[test]
fn an_empty_scenario_is_a_healthy_dongle() {
    assert_eq!(Scenario::parse("").unwrap(), Scenario::default());
}

#[test]
fn everything_the_help_names_is_understood() {
    let text = r#"
        boot_time = "1s"
        latency = "20ms"
        [sim]
        state = "pin"
        ready_after = "3s"
        pin = "0000"
        pin_retries = 2
        puk = "11111111"
        puk_retries = 9
        [usim]
        csim = "refused"
        ccho = "bare"
        cgla = "refused"
        channels = 2
        aid = "whole"
        le = "6700"
        toolkit = true
        cuad = "error"
        get_response = "fetched"
        unselected = "6982"
        kc = false
        sqn_ahead = 40
        mac_failure = true
        [network]
        registration = "denied"
        register_after = "4s"
        denied_cause = "Illegal UE"
        required_apn = "du.soracom.io"
        rsrp = -120
        time = "2026-11-21T12:00:00Z"
        zone_quarters = -12
        [line]
        echo = "never"
        cme = "text"
        chunk = 3
        reset = "replug"
        [noise]
        nul_at_start = 4
        between = "00 ff"
        urc_inside = "RING"
        garbage_only = true
        seed = 7
        [[event]]
        at = "1s"
        do = "silent"
        for = "2s"
        [[event]]
        at = "2s"
        do = "deny"
        cause = "Illegal ME"
        [[event]]
        at = "3s"
        do = "late"
        by = "1s"
        [[event]]
        at = "3s"
        do = "bytes"
        hex = "0dFf"
        [[override]]
        command = "AT+CSQ"
        answer = "+CSQ: 30, 99"
        times = 2
    "#;
    let scenario = Scenario::parse(text).unwrap();
    assert_eq!(
        (scenario.usim.ccho, scenario.usim.unselected),
        (Ccho::Bare, Unselected::Security)
    );
    assert_eq!(scenario.noise.between, Hex(vec![0, 255]));
    assert_eq!(scenario.events[0].event, Event::Silent(Some(Duration::from_secs(2))));
    assert_eq!(scenario.events[1].event, Event::Deny("Illegal ME".into()));
    assert_eq!(scenario.events[3].event, Event::Bytes(vec![13, 255]));
    assert_eq!(scenario.overrides[0].result, "OK");
    assert_eq!(scenario.network.registration, Registration::Denied);
    for key in text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, _)| key.trim())
    {
        assert!(HELP.contains(&format!("{key} =")), "{key} is not in the help");
    }
}

#[test]
fn every_kind_of_event_is_in_the_help_and_can_be_read() {
    for (kind, more) in [
        ("silent", ""),
        ("talk", ""),
        ("late", "by = '1s'"),
        ("garbage", ""),
        ("lose-network", "for = '1s'"),
        ("find-network", ""),
        ("deny", ""),
        ("signal", "rsrp = -1"),
        ("remove-sim", ""),
        ("insert-sim", ""),
        ("crash", ""),
        ("unplug", ""),
        ("plug", ""),
        ("urc", "text = 'RING'"),
        ("bytes", "hex = '00'"),
    ] {
        let text = format!("[[event]]\nat = '1s'\ndo = '{kind}'\n{more}\n");
        assert!(Scenario::parse(&text).is_ok(), "{text}");
        assert!(HELP.contains(kind), "{kind}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, wanted) in [
        ("[sim]\nstat = 'pin'\n", "line 2, column 1"),
        ("[sim]\nstate = 'pni'\n", "line 2, column 9"),
        ("latency = 'soon'\n", "1500ms"),
        (
            "[[event]]\nat = '1s'\ndo = 'crash'\nfor = '2s'\n",
            "`for` means nothing",
        ),
        ("[[event]]\nat = '1s'\ndo = 'late'\n", "needs `by`"),
        ("[[event]]\nat = '1s'\ndo = 'dance'\n", "line 3"),
        ("[noise]\nbetween = '0'\n", "hexadecimal"),
        ("[network]\ntime = 'noon'\n", "RFC 3339"),
    ] {
        let error = Scenario::parse(text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn the_number_of_events_is_bounded() {
    let text = "[[event]]\nat = '1s'\ndo = 'talk'\n".repeat(MAX_ENTRIES + 1);
    assert!(Scenario::parse(&text).unwrap_err().to_string().contains("at most 1000"));
}
