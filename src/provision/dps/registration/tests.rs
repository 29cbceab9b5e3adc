use super::*;
use crate::provision::dps::error::{AFTER_MAX, Attested};

const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;

fn patience() -> Patience {
    Patience {
        within: S(30),
        poll_every: S(2),
        polls_max: 30,
    }
}

fn id() -> RegistrationId {
    "dev-1".parse().unwrap()
}

fn reply(status: u16, seconds: Option<u64>, body: &str) -> Reply {
    Reply {
        status,
        retry_after: seconds.map(S),
        body: body.as_bytes().to_vec(),
    }
}

fn assigning(seconds: Option<u64>) -> Reply {
    reply(202, seconds, r#"{"operationId":"5.a.b","status":"assigning"}"#)
}

fn assigned() -> Reply {
    let body = r#"{"status":"assigned","registrationState":{"assignedHub":"h.example","deviceId":"dev-1"}}"#;
    reply(200, None, body)
}

fn begin(patience: Patience, now: Duration) -> Registration {
    let (registration, step) = Registration::begin(id(), patience, now);
    let ask = Ask::Register;
    assert_eq!(step, Step::Ask { ask, at: now });
    registration
}

/// A question about the operation, and when.
fn polls(step: Step) -> Duration {
    match step {
        Step::Ask {
            ask: Ask::Poll(operation),
            at,
        } => {
            assert_eq!(operation.as_str(), "5.a.b");
            at
        }
        other => panic!("{other:?}"),
    }
}

fn lost() -> DpsError {
    DpsError::Unreachable {
        what: "the line".into(),
        cure: "wait".into(),
        passing: true,
    }
}

#[test]
fn register_poll_assigned() {
    let mut r = begin(patience(), S(100));
    assert_eq!(polls(r.answered(&assigning(Some(3)), S(101), 0.0).unwrap()), S(104));
    // Without Retry-After the configured pause is made, and the id need not be repeated.
    let bare = reply(202, None, r#"{"status":"assigning"}"#);
    assert_eq!(polls(r.answered(&bare, S(105), 0.0).unwrap()), S(107));
    let Step::Assigned(a) = r.answered(&assigned(), S(108), 0.0).unwrap() else {
        panic!("not assigned");
    };
    assert_eq!((a.hub.as_str(), a.device_id.as_str()), ("h.example", "dev-1"));
    // Some are assigned at once.
    let mut r = begin(patience(), S(0));
    assert!(matches!(r.answered(&assigned(), S(1), 0.0), Ok(Step::Assigned(_))));
}

#[test]
fn retry_after_is_honoured_within_bounds() {
    for (says, waits) in [
        (None, 2),
        (Some(0), 2),
        (Some(1), 2),
        (Some(3), 3),
        (Some(59), 59),
        (Some(61), 60),
        (Some(u64::MAX), 60),
    ] {
        let mut r = begin(patience(), S(0));
        assert_eq!(
            polls(r.answered(&assigning(says), S(0), 0.0).unwrap()),
            S(waits),
            "{says:?}"
        );
    }
}

#[test]
fn five_questions_in_ten_seconds_are_never_exceeded() {
    let quick = Patience {
        poll_every: MS(10),
        polls_max: 1_000,
        ..patience()
    };
    for took in [MS(0), MS(1), MS(400), S(3)] {
        let mut r = begin(quick, S(0));
        let mut now = took;
        let mut sent = Vec::new();
        for _ in 0..40 {
            let at = polls(r.answered(&assigning(Some(0)), now, 0.0).unwrap());
            assert!(at >= now);
            // It arrives at any time between being sent and being answered.
            sent.push(at);
            now = at + took;
        }
        for window in sent.windows(POLLS_MAX + 1) {
            let (first_answered, last) = (window[0] + took, window[POLLS_MAX]);
            assert!(last >= first_answered + POLL_WINDOW, "{window:?}");
        }
        assert_eq!(sent[POLLS_MAX - 1], (took + MS(10)) * 5, "and not slower than need be");
    }
}

#[test]
fn questions_are_bounded() {
    let mut r = begin(
        Patience {
            polls_max: 3,
            ..patience()
        },
        S(0),
    );
    let mut now = S(0);
    for _ in 0..3 {
        now = polls(r.answered(&assigning(None), now, 0.0).unwrap());
    }
    let unassigned = reply(202, None, r#"{"status":"unassigned"}"#);
    let e = r.answered(&unassigned, now, 0.0).unwrap_err();
    let want = DpsError::Pending {
        status: "unassigned".into(),
        polls: 3,
    };
    assert_eq!(e, want);
    assert!(e.cure(&Attested::default()).contains("linked IoT hub"));
}

#[test]
fn nothing_is_asked_after_the_deadline() {
    let patience = patience();
    let mut r = begin(patience, S(0));
    let mut now = S(0);
    let e = loop {
        // A slow service, which answers at the last moment and always wants a minute.
        match r.answered(&assigning(Some(60)), now, 0.0) {
            Ok(step) => now = polls(step) + patience.within,
            Err(e) => break e,
        }
    };
    assert!(matches!(e, DpsError::Pending { polls, .. } if polls < 30), "{e}");
    assert!(now <= longest(&patience), "{now:?}");
    assert!(longest(&patience) >= (S(30) + S(3)) * 31);
}

#[test]
fn trouble_is_asked_again_with_growing_waits_and_then_given_up() {
    for status in [408, 429, 500, 503] {
        let trouble = reply(status, None, r#"{"errorCode":1,"message":"slow down"}"#);
        let mut r = begin(patience(), S(0));
        let mut now = S(0);
        for want in [2, 4, 8] {
            match r.answered(&trouble, now, 1.0).unwrap() {
                Step::Ask { ask: Ask::Register, at } => {
                    assert_eq!(at, now + S(want));
                    now = at;
                }
                other => panic!("{other:?}"),
            }
        }
        let e = r.answered(&trouble, now, 1.0).unwrap_err();
        assert!(matches!(e, DpsError::Trouble { status: s, .. } if s == status));
        // A good answer in between starts the count anew.
        let mut r = begin(patience(), S(0));
        for _ in 0..10 {
            r.answered(&trouble, S(0), 0.5).unwrap();
            r.answered(&assigning(None), S(0), 0.5).unwrap();
        }
    }
}

#[test]
fn a_service_that_wants_to_be_left_alone_is() {
    let throttled = |seconds| reply(429, Some(seconds), "{}");
    let mut r = begin(patience(), S(0));
    let step = r.answered(&throttled(30), S(1), 1.0).unwrap();
    assert_eq!(
        step,
        Step::Ask {
            ask: Ask::Register,
            at: S(31)
        }
    );
    let e = r.answered(&throttled(600), S(31), 1.0).unwrap_err();
    assert_eq!(e.failure(&Attested::default()).after, Some(S(600)));
    let e = begin(patience(), S(0))
        .answered(&throttled(1_000_000), S(0), 0.0)
        .unwrap_err();
    assert_eq!(e.failure(&Attested::default()).after, Some(AFTER_MAX));
}

#[test]
fn a_lost_answer_costs_one_more_question_and_a_refusal_none() {
    let mut r = begin(patience(), S(0));
    assert!(matches!(
        r.unanswered(lost(), S(1), 0.0).unwrap(),
        Step::Ask { ask: Ask::Register, .. }
    ));
    polls(r.answered(&assigning(None), S(3), 0.0).unwrap());
    for _ in 0..TROUBLES_MAX {
        polls(r.unanswered(lost(), S(3), 0.0).unwrap());
    }
    assert_eq!(r.unanswered(lost(), S(3), 0.0), Err(lost()));
    for final_ in [
        DpsError::NotLetIn("CONNACK 5".into()),
        DpsError::Nonsense("x".into()),
        DpsError::Unreachable {
            what: "TLS".into(),
            cure: "c".into(),
            passing: false,
        },
    ] {
        assert_eq!(
            begin(patience(), S(0)).unanswered(final_.clone(), S(1), 0.0),
            Err(final_)
        );
    }
    for status in [400, 401, 403, 404, 405, 409, 412, 415] {
        let e = begin(patience(), S(0)).answered(&reply(status, None, ""), S(0), 0.0);
        assert!(matches!(e, Err(DpsError::Refused { .. })));
    }
}

#[test]
fn without_an_operation_id_it_registers_again() {
    let bare = reply(202, Some(1), r#"{"status":"assigning"}"#);
    let mut r = begin(patience(), S(0));
    for _ in 0..TROUBLES_MAX {
        assert!(matches!(
            r.answered(&bare, S(0), 0.0).unwrap(),
            Step::Ask { ask: Ask::Register, .. }
        ));
    }
    let e = r.answered(&bare, S(0), 0.0).unwrap_err();
    assert!(e.to_string().contains("under which operation id"), "{e}");
}

/// Each number that Microsoft's sources name, and each class, has a cure of its own.
#[test]
fn refusals_are_explained() {
    let attested = Attested {
        file: "/etc/onyx/dev.pem".into(),
        leaf_only: true,
        is_v1: true,
    };
    let cure = |status, body: &str| {
        let e = begin(patience(), S(0))
            .answered(&reply(status, None, body), S(0), 0.0)
            .unwrap_err();
        e.cure(&attested)
    };
    let invalid = r#"{"errorCode":401002,"message":"Invalid certificate."}"#;
    for words in [
        "proof of possession",
        "/etc/onyx/dev.pem holds the leaf alone",
        "append the intermediate",
        "version 1",
    ] {
        assert!(cure(401, invalid).contains(words), "{words}: {}", cure(401, invalid));
    }
    let whole = Attested {
        leaf_only: false,
        is_v1: false,
        ..attested.clone()
    };
    let e = begin(patience(), S(0))
        .answered(&reply(401, None, invalid), S(0), 0.0)
        .unwrap_err();
    assert!(e.cure(&whole).contains("without a gap") && !e.cure(&whole).contains("version 1"));
    let failed = |code: u32| {
        let body = format!(r#"{{"status":"failed","registrationState":{{"errorCode":{code},"errorMessage":"m"}}}}"#);
        cure(200, &body)
    };
    assert!(failed(400_207).contains("web hook"));
    assert!(failed(400_208).contains("link an IoT hub"));
    assert!(failed(400_209).contains("may not write to the linked IoT hub"));
    for (status, words) in [
        (400, "credentials.registration_id"),
        (403, "IP filter"),
        (404, "credentials.id_scope"),
        (405, "credentials.host"),
        (409, "same device at the same time"),
        (412, "copy of this certificate"),
        (415, "something else answers"),
        (418, "troubleshooting"),
    ] {
        assert!(cure(status, "").contains(words), "{status}: {}", cure(status, ""));
    }
    // The number's class counts more than the status around it.
    assert!(cure(400, r#"{"errorCode":404001}"#).contains("id_scope with the overview"));
    assert!(cure(200, r#"{"status":"disabled"}"#).contains("enable the enrolment"));
}

proptest::proptest! {
    /// Whatever comes, a registration ends, and within its time.
    #[test]
    fn every_registration_ends_in_time(
        answers in proptest::collection::vec((0_u8..6, 0_u64..100, 0_u64..30), 1..50), unit in 0.0..1.0_f64,
    ) {
        let patience = patience();
        let mut r = begin(patience, S(7));
        let mut now = S(7);
        let mut asked = 0;
        for (kind, after, took) in answers.iter().cycle() {
            now += S(*took);
            let step = match kind {
                0 => r.answered(&assigning(Some(*after)), now, unit),
                1 => r.answered(&reply(202, None, "{}"), now, unit),
                2 => r.answered(&reply(429, Some(*after), "{}"), now, unit),
                3 => r.unanswered(lost(), now, unit),
                4 => r.answered(&reply(500, None, "garbage"), now, unit),
                _ => r.answered(&reply(202, Some(*after), r#"{"operationId":"6.a"}"#), now, unit),
            };
            asked += 1;
            match step {
                Ok(Step::Ask { at, .. }) => now = now.max(at),
                Ok(Step::Assigned(_)) => proptest::prop_assert!(false),
                Err(_) => break,
            }
        }
        proptest::prop_assert!(now - S(7) <= longest(&patience));
        proptest::prop_assert!(asked <= 31 * (TROUBLES_MAX + 1));
    }
}
