#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;

const MS: fn(u64) -> Duration = Duration::from_millis;
const LONG: Duration = Duration::from_secs(5);

fn in_step() -> Dialogue {
    let mut d = Dialogue::default();
    assert_eq!(d.resync(MS(0)), b"AT\r");
    assert!(d.receive(b"AT\r\r\nOK\r\n", MS(1)).is_empty());
    assert_eq!(d.next_deadline(), Some(MS(1) + QUIET));
    assert_eq!(d.tick(MS(1) + QUIET), [Event::Done(Outcome::InStep)]);
    d
}

fn answered(lines: &[&str], code: Final) -> Event {
    Event::Done(Outcome::Answered {
        lines: lines.iter().map(|l| (*l).to_owned()).collect(),
        code,
        cut: false,
        garbage: None,
    })
}

fn urc(line: &str) -> Event {
    Event::Unsolicited(Urc::parse(line).unwrap_or_else(|| Urc::Other(line.to_owned())))
}

/// Command, what it expects, wire, information lines, unsolicited codes, result.
type Case = (
    &'static str,
    Expect,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    Final,
);

fn cases() -> Vec<Case> {
    let cpin = Expect::Prefix("+CPIN:");
    vec![
        (
            "AT+CSQ",
            Expect::Prefix("+CSQ:"),
            "AT+CSQ\r\r\n+CSQ: 21,99\r\n\r\nOK\r\n",
            &["+CSQ: 21,99"],
            &[],
            Final::Ok,
        ),
        (
            "AT+CSQ",
            Expect::Prefix("+CSQ:"),
            "\r\n+CSQ: 21,99\r\n\r\nOK\r\n",
            &["+CSQ: 21,99"],
            &[],
            Final::Ok,
        ),
        ("ATE0", Expect::Nothing, "ATE0\r\r\nOK\r\n", &[], &[], Final::Ok),
        // A code between the echo and the answer, in either order; a refused command has no answer lines.
        (
            "AT+CPIN?",
            cpin,
            "AT+CPIN?\r\r\n+CPIN: READY\r\n\r\n+CME ERROR: SIM failure\r\n",
            &[],
            &["+CPIN: READY"],
            Final::Cme("SIM failure".into()),
        ),
        (
            "AT+CPIN?",
            cpin,
            "\r\n+CME ERROR: 14\r\n\r\n+CPIN: READY\r\n",
            &[],
            &["+CPIN: READY"],
            Final::Cme("14".into()),
        ),
        (
            "AT+CGSN",
            Expect::Bare("+CGSN:"),
            "\r\n+QIND: PB DONE\r\n\r\n860000000000001\r\n\r\n+CREG: 1\r\n\r\nOK\r\n",
            &["860000000000001"],
            &["+QIND: PB DONE", "+CREG: 1"],
            Final::Ok,
        ),
        (
            "AT+CEREG?",
            Expect::Registration(crate::modem::registration::Domain::Eps),
            "\r\n+CEREG: 5\r\n\r\n+CEREG: 0,5\r\n\r\nOK\r\n",
            &["+CEREG: 0,5"],
            &["+CEREG: 5"],
            Final::Ok,
        ),
        // Codes after the end belong to nobody.
        (
            "AT",
            Expect::Nothing,
            "\r\nOK\r\n\r\n+CIEV: 7,1\r\n\r\n+CRING: VOICE\r\n",
            &[],
            &["+CIEV: 7,1", "+CRING: VOICE"],
            Final::Ok,
        ),
        (
            "AT+FOO",
            Expect::Nothing,
            "\r\nCOMMAND NOT SUPPORT\r\n",
            &[],
            &[],
            Final::NotSupported,
        ),
        (
            "AT+CGSN",
            Expect::Bare("+CGSN:"),
            "\r\n+CMS ERROR: 310\r\n",
            &[],
            &[],
            Final::Cms("310".into()),
        ),
        (
            "ATI",
            Expect::Bare("Revision:"),
            "ATI\r\r\nQuectel\r\nEG25\r\nRevision: EG25GGBR07A08M2G\r\n\r\nOK\r\n",
            &["Quectel", "EG25", "Revision: EG25GGBR07A08M2G"],
            &[],
            Final::Ok,
        ),
    ]
}

#[test]
fn every_dialogue_comes_out_the_same_however_it_is_cut() {
    for (line, expect, wire, lines, urcs, code) in cases() {
        let wire = wire.as_bytes();
        let mut want: Vec<Event> = urcs.iter().map(|u| urc(u)).collect();
        want.push(answered(lines, code));
        want.sort_by_key(|e| format!("{e:?}"));
        let check = |pieces: Vec<&[u8]>, how: String| {
            let mut d = in_step();
            d.send(line, expect, MS(1_000), LONG).unwrap();
            let mut got: Vec<Event> = pieces.into_iter().flat_map(|p| d.receive(p, MS(1_100))).collect();
            got.sort_by_key(|e| format!("{e:?}"));
            assert_eq!(got, want, "{line} {how}");
            assert!(d.is_in_step());
        };
        for cut in 0..=wire.len() {
            check(vec![&wire[..cut], &wire[cut..]], format!("cut at {cut}"));
        }
        check(wire.chunks(1).collect(), "byte by byte".into());
    }
}

#[test]
fn a_code_in_the_middle_of_every_answer_changes_nothing() {
    for intruder in [
        "+QIND: SMS DONE",
        "+CMTI: \"ME\",1",
        "+CEREG: 5,\"1E2F\",\"2B3C4D5\",7",
        "+CGEV: NW DETACH",
        "RING",
    ] {
        for (line, expect, wire, lines, _, code) in cases() {
            // Between any two lines of the answer.
            for (at, _) in wire.match_indices("\r\n") {
                let mixed = format!("{}\r\n{intruder}\r\n{}", &wire[..at], &wire[at..]);
                let mut d = in_step();
                d.send(line, expect, MS(1_000), LONG).unwrap();
                let got = d.receive(mixed.as_bytes(), MS(1_001));
                assert!(got.contains(&urc(intruder)), "{mixed:?}: {got:?}");
                assert!(got.contains(&answered(lines, code.clone())), "{mixed:?}: {got:?}");
            }
        }
    }
}

#[test]
fn one_command_at_a_time() {
    let mut d = Dialogue::default();
    assert_eq!(d.send("AT", Expect::Nothing, MS(0), LONG), Err(NotReady::OutOfStep));
    let mut d2 = in_step();
    assert_eq!(d2.send("AT", Expect::Nothing, MS(0), LONG).unwrap(), b"AT\r");
    assert_eq!(d2.send("AT", Expect::Nothing, MS(0), LONG), Err(NotReady::Busy));
    d2.abandon();
    assert_eq!(d2.send("AT", Expect::Nothing, MS(0), LONG), Err(NotReady::OutOfStep));
    d.resync(MS(0));
    assert_eq!(d.send("AT", Expect::Nothing, MS(0), LONG), Err(NotReady::Busy));
}

#[test]
fn a_late_answer_is_never_the_next_commands_answer() {
    let mut d = in_step();
    d.send("AT+COPS?", Expect::Prefix("+COPS:"), MS(1_000), LONG).unwrap();
    assert!(d.tick(MS(5_999)).is_empty());
    assert_eq!(
        d.tick(MS(6_000)),
        [Event::Done(Outcome::TimedOut {
            waited: LONG,
            garbage: None
        })]
    );
    // Late while out of step, …
    assert!(
        d.receive(b"\r\n+COPS: 0,0,\"OLD\",7\r\n\r\nOK\r\n", MS(6_100))
            .is_empty()
    );
    assert!(!d.is_in_step());
    d.resync(MS(7_000));
    // … and a second time during the resync, its OK before that of AT.
    assert!(
        d.receive(b"\r\n+COPS: 0,0,\"OLD\",7\r\n\r\nOK\r\n", MS(7_100))
            .is_empty()
    );
    assert!(d.tick(MS(7_299)).is_empty());
    assert!(d.receive(b"\r\nOK\r\n", MS(7_299)).is_empty(), "the OK of AT itself");
    assert!(d.tick(MS(7_300)).is_empty(), "not quiet for long enough");
    assert_eq!(d.tick(MS(7_499)), [Event::Done(Outcome::InStep)]);
    d.send("AT+COPS?", Expect::Prefix("+COPS:"), MS(8_000), LONG).unwrap();
    assert_eq!(
        d.receive(b"\r\n+COPS: 0,0,\"NEW\",7\r\n\r\nOK\r\n", MS(8_001)),
        [answered(&["+COPS: 0,0,\"NEW\",7"], Final::Ok)]
    );
    assert!(d.strays() >= 1);
}

#[test]
fn an_echo_storm_ends() {
    let mut d = Dialogue::default();
    d.resync(MS(0));
    for t in (0..400).step_by(40) {
        assert!(d.receive(b"RD\r\r\nERROR\r\nD\r\r\nERROR\r\n", MS(t)).is_empty());
    }
    let due = d.next_deadline().unwrap();
    assert!(due <= MS(400) + QUIET, "asks again soon after an ERROR: {due:?}");
    assert_eq!(d.tick(due), [Event::Write(b"AT\r".to_vec())]);
    assert!(d.receive(b"AT\r\r\nOK\r\n", due).is_empty());
    assert_eq!(d.tick(due + QUIET), [Event::Done(Outcome::InStep)]);
}

#[test]
fn silence_ends_the_resync_after_five_tries() {
    let mut d = Dialogue::default();
    d.resync(MS(0));
    for _ in 1..RESYNC_TRIES {
        let now = d.next_deadline().unwrap();
        assert_eq!(d.tick(now), [Event::Write(b"AT\r".to_vec())]);
    }
    let now = d.next_deadline().unwrap();
    let lost = Event::Done(Outcome::Lost {
        waited: RESYNC_WAIT * RESYNC_TRIES,
        garbage: None,
    });
    assert_eq!(d.tick(now), [lost]);
    assert!(!d.is_in_step() && d.next_deadline().is_none());
}

#[test]
fn a_line_that_is_never_quiet_ends_the_resync_too() {
    let mut d = Dialogue::default();
    d.resync(MS(0));
    let mut now = MS(0);
    let end = loop {
        now += MS(50);
        let mut events = d.receive(b"\r\nOK\r\n\xff\xfe\r\n", now);
        events.extend(d.tick(now));
        if let Some(event) = events.pop() {
            break event;
        }
        assert!(now <= RESYNC_MAX);
    };
    assert!(
        matches!(end, Event::Done(Outcome::Lost { garbage: Some(_), .. })),
        "{end:?}"
    );
}

#[test]
fn a_reboot_ends_the_command() {
    let mut d = in_step();
    d.send("AT+QENG=\"servingcell\"", Expect::Prefix("+QENG:"), MS(1_000), LONG)
        .unwrap();
    assert_eq!(
        d.receive(b"\r\n+QENG: \"serv\r\nRDY\r\n", MS(1_001)),
        [Event::Unsolicited(Urc::Ready), Event::Done(Outcome::Interrupted)]
    );
    assert!(!d.is_in_step());
}

#[test]
fn garbage_is_reported_and_an_endless_answer_is_cut() {
    let mut d = in_step();
    d.send("AT+CSQ", Expect::Prefix("+CSQ:"), MS(1_000), LONG).unwrap();
    assert!(d.receive(b"\x80\x81\x82\r\n", MS(1_001)).is_empty());
    assert!(matches!(
        &d.tick(MS(6_000))[..],
        [Event::Done(Outcome::TimedOut { garbage: Some(g), .. })] if g == "\\x80\\x81\\x82"
    ));
    let mut d = in_step();
    d.send("AT+CSQ", Expect::Prefix("+CSQ:"), MS(1_000), LONG).unwrap();
    for _ in 0..1_000 {
        assert!(d.receive(b"+CSQ: 1,2\r\n", MS(1_001)).is_empty());
    }
    let end = d.receive(b"OK\r\n", MS(1_002));
    assert!(
        matches!(&end[..], [Event::Done(Outcome::Answered { lines, cut: true, .. })] if lines.len() == ANSWER_LINES_MAX)
    );
}

proptest! {
    #[test]
    fn any_bytes_at_any_time_are_survived_and_every_wait_ends(
        chunks in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..200), 0u64..3_000), 0..40),
        start in any::<bool>(),
    ) {
        let mut d = if start { in_step() } else { Dialogue::default() };
        let mut now = MS(1_000);
        if d.send("AT+CIMI", Expect::Bare("+CIMI:"), now, LONG).is_err() {
            d.resync(now);
        }
        for (bytes, pause) in chunks {
            let events = d.receive(&bytes, now);
            prop_assert!(events.len() <= 2 * bytes.len() + ANSWER_LINES_MAX);
            now += MS(pause);
            d.tick(now);
        }
        // Left alone, it comes to rest within its named limits.
        for _ in 0..=RESYNC_TRIES + 1 {
            let Some(deadline) = d.next_deadline() else { break };
            prop_assert!(deadline <= now + LONG.max(RESYNC_MAX));
            now = now.max(deadline);
            d.tick(now);
        }
        prop_assert_eq!(d.next_deadline(), None);
    }
}
