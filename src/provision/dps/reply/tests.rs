use super::*;

/// The bodies of Microsoft's documentation and clients' tests.
const ASSIGNING: &str =
    r#"{"operationId":"5.506603669bd3e2bf.b3602f8f-76fe-4341-9214-bb6cfb891b8a","status":"assigning"}"#;
const ASSIGNED: &str = r#"{"operationId":"5.5066.b3602f8f","status":"assigned","registrationState":{"x509":{},"registrationId":"dev-1",
    "createdDateTimeUtc":"2022-08-27T17:53:19.5143497Z","assignedHub":"MyExampleHub.azure-devices.net","deviceId":"Dev-1",
    "status":"assigned","substatus":"initialAssignment","lastUpdatedDateTimeUtc":"2022-08-27T17:53:19.7519141Z","etag":"..","payload":{"a":[1]}}}"#;
const DISABLED: &str =
    r#"{"operationId":"","status":"disabled","registrationState":{"registrationId":"dev-1","status":"disabled"}}"#;
const FAILED: &str = r#"{"operationId":"4.d0a6","status":"failed","registrationState":{"registrationId":"dev-1","status":"failed",
    "errorCode":400207,"errorMessage":"Custom allocation failed with status code: 400"}}"#;
const INVALID: &str = r#"{"errorCode":401002,"trackingId":"8ad0463c-6427-4479-9dfa-3e8bb7003e9b","message":"Invalid certificate.",
    "timestampUtc":"2020-04-10T05:24:22.4718526Z"}"#;

fn id() -> RegistrationId {
    "DEV-1".parse().unwrap()
}

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        retry_after: None,
        body: body.as_bytes().to_vec(),
    }
}

fn meaning(status: u16, body: &str) -> Result<Meaning, DpsError> {
    reply(status, body).meaning(&id())
}

#[test]
fn the_documented_answers_mean_what_is_documented() {
    let Meaning::Pending { operation, status } = meaning(202, ASSIGNING).unwrap() else {
        panic!("not pending");
    };
    let operation = operation.unwrap();
    assert_eq!(
        operation.as_str(),
        "5.506603669bd3e2bf.b3602f8f-76fe-4341-9214-bb6cfb891b8a"
    );
    assert_eq!(status, "assigning");
    let Meaning::Assigned(a) = meaning(200, ASSIGNED).unwrap() else {
        panic!("not assigned");
    };
    assert_eq!(
        (a.hub.as_str(), a.device_id.as_str(), a.substatus.as_str()),
        ("MyExampleHub.azure-devices.net", "Dev-1", "initialAssignment")
    );
    assert!(a.issued.is_empty());
    assert_eq!(meaning(200, DISABLED), Err(DpsError::Disabled));
    let said = Said {
        code: Some(400_207),
        message: Some("Custom allocation failed with status code: 400".into()),
        tracking_id: None,
    };
    assert_eq!(meaning(200, FAILED), Err(DpsError::Failed(said)));
    let said = Said {
        code: Some(401_002),
        message: Some("Invalid certificate.".into()),
        tracking_id: Some("8ad0463c-6427-4479-9dfa-3e8bb7003e9b".into()),
    };
    assert_eq!(meaning(401, INVALID), Err(DpsError::Refused { status: 401, said }));
}

#[test]
fn what_goes_on_may_leave_things_out() {
    for (status, body, word) in [
        (202, r#"{"status":"assigning"}"#, "assigning"),
        (202, "{}", "assigning"),
        (200, r#"{"status":"unassigned"}"#, "unassigned"),
        (202, r#"{"operationId":"","status":"thinking"}"#, "thinking"),
        (202, r#"{"registrationState":{"status":"unassigned"}}"#, "unassigned"),
    ] {
        let want = Meaning::Pending {
            operation: None,
            status: word.into(),
        };
        assert_eq!(meaning(status, body).unwrap(), want, "{body}");
    }
}

#[test]
fn every_bad_answer_gets_its_own_words() {
    for (status, body, want) in [
        (200, "", "it is empty"),
        (200, "[]", "begins with \"[]\""),
        (200, "<!DOCTYPE html><title>Wi-Fi", "begins with \"<!DOCTYPE html>"),
        (202, r#"{"operationId":"5.5"#, "cut off after 19 bytes"),
        (202, r#"{"operationId":7}"#, "does not fit"),
        (202, r#"{"operationId":"../evil"}"#, "cannot be asked for"),
        (202, r#"{"operationId":"a/b"}"#, "cannot be asked for"),
        (202, r#"{"operationId":"a&$rid=1"}"#, "cannot be asked for"),
        (202, r##"{"operationId":"#"}"##, "cannot be asked for"),
        (200, r#"{"status":"finished"}"#, "no end of a registration"),
        (200, "{}", "says nothing of the registration's status"),
        (200, r#"{"status":"assigned"}"#, "is missing"),
        (
            200,
            r#"{"status":"assigned","registrationState":{"assignedHub":"a b","deviceId":"d"}}"#,
            "no host name",
        ),
        (
            200,
            r#"{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":"a/b"}}"#,
            "topics and user names",
        ),
        (
            200,
            r#"{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":"d","registrationId":"dev-2"}}"#,
            "about another device",
        ),
        (302, "", "leads elsewhere (HTTP 302)"),
        (700, "", "no status 700"),
        (100, "", "no status 100"),
    ] {
        let e = meaning(status, body).unwrap_err();
        assert!(matches!(e, DpsError::Nonsense(_)), "{body}: {e}");
        assert!(e.to_string().contains(want), "{want:?} is not in {e}");
    }
}

/// Every status of Microsoft's table, in both spellings of the error's body.
#[test]
fn statuses_are_refusals_or_trouble() {
    for body in [
        r#"{"errorCode":N,"message":"why"}"#,
        r#"{"code":N,"errorMessage":"why"}"#,
        r#"{"errorCode":"N","code":"x","message":"why"}"#,
    ] {
        for status in [400_u16, 401, 403, 404, 405, 409, 412, 415] {
            let body = body.replace('N', &(u32::from(status) * 1_000 + 1).to_string());
            let e = meaning(status, &body).unwrap_err();
            let DpsError::Refused { status: s, said } = &e else {
                panic!("{e}");
            };
            assert_eq!((*s, said.code), (status, Some(u32::from(status) * 1_000 + 1)));
            assert!(e.to_string().contains("why"), "{e}");
        }
        for status in [408, 429, 500, 502, 503, 504] {
            let mut r = reply(status, body);
            r.retry_after = Some(Duration::from_secs(7));
            let e = r.meaning(&id()).unwrap_err();
            assert!(
                matches!(e, DpsError::Trouble { after: Some(a), .. } if a.as_secs() == 7),
                "{e}"
            );
        }
    }
    let e = meaning(404, "<html>IMSI 295012345678901 is not here</html>").unwrap_err();
    let text = e.to_string();
    assert!(
        text.contains("is not here") && !text.contains("295012345678901"),
        "{text}"
    );
}

#[test]
fn answers_over_mqtt_are_read_in_either_order() {
    let of = |topic: &str| Reply::from_mqtt(topic, b"{}", 7);
    let good = |status, seconds: Option<u64>| {
        Ok(Some(Reply {
            status,
            retry_after: seconds.map(Duration::from_secs),
            body: b"{}".to_vec(),
        }))
    };
    assert_eq!(
        of("$dps/registrations/res/202/?$rid=7&retry-after=3"),
        good(202, Some(3))
    );
    assert_eq!(
        of("$dps/registrations/res/202/?retry-after=120&$rid=7"),
        good(202, Some(120))
    );
    assert_eq!(of("$dps/registrations/res/202/?a=b&$rid=7&c"), good(202, None));
    assert_eq!(of("$dps/registrations/res/200/?$rid=7"), good(200, None));
    assert_eq!(of("$dps/registrations/res/429/?$rid=7&retry-after=x"), good(429, None));
    for other in ["?$rid=6", "?$rid=77", "?rid=7", "?retry-after=7", "?", "?$rid="] {
        assert_eq!(of(&format!("$dps/registrations/res/200/{other}")), Ok(None), "{other}");
    }
    for bad in [
        "",
        "$dps/registrations/res/",
        "$dps/registrations/res/200",
        "$dps/registrations/res/200?$rid=7",
        "$dps/registrations/res/2e2/?$rid=7",
        "$dps/registrations/res/+20/?$rid=7",
        "$dps/registrations/res/2000/?$rid=7",
        "$dps/registrations/PUT/iotdps-register/?$rid=7",
        "$iothub/twin/res/200/?$rid=7",
    ] {
        assert!(matches!(of(bad), Err(DpsError::Nonsense(_))), "{bad}");
    }
}

#[test]
fn an_answer_cut_at_any_byte_is_never_an_assignment() {
    for (status, whole) in [
        (200, ASSIGNED),
        (202, ASSIGNING),
        (200, DISABLED),
        (200, FAILED),
        (401, INVALID),
    ] {
        assert!(!matches!(meaning(status, whole), Err(DpsError::Nonsense(_))));
        for at in 0..whole.len() {
            let e = meaning(status, &whole[..at]).unwrap_err();
            if status == 401 {
                assert!(matches!(e, DpsError::Refused { status: 401, .. }), "{at}: {e}");
            } else {
                assert!(matches!(e, DpsError::Nonsense(_)), "{at}: {e}");
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_answer_is_survived_and_quoted_shortly(status: u16, body: Vec<u8>, text in ".*", topic in ".*") {
        for body in [body, text.into_bytes()] {
            let r = Reply { status, retry_after: None, body };
            if let Err(e) = r.meaning(&id()) {
                proptest::prop_assert!(e.to_string().chars().count() < 1_000);
            }
        }
        let _ = Reply::from_mqtt(&topic, b"", 1);
        let _ = Reply::from_mqtt(&format!("{ANSWERS}{topic}"), b"", 1);
        let _ = Reply::from_mqtt(&format!("{ANSWERS}200/?{topic}"), b"", 1);
    }

    #[test]
    fn any_json_of_the_right_names_is_survived(
        word in "(assigned|assigning|failed|disabled|unassigned|.{0,9})",
        operation in "(5\\.[a-z]{3}|.{0,9})", hub in "(h\\.example|.{0,9})", device in "(d|.{0,9})", code: u64, cert in ".{0,9}",
    ) {
        let body = serde_json::json!({"operationId": operation, "status": word, "registrationState": {
            "assignedHub": hub, "deviceId": device, "errorCode": code, "errorMessage": cert, "issuedCertificateChain": [cert]}});
        for status in [200, 202, 401, 429] {
            let r = reply(status, &body.to_string());
            if let Ok(Meaning::Assigned(a)) = r.meaning(&id()) {
                proptest::prop_assert_eq!((status < 300, word.as_str()), (true, "assigned"));
                proptest::prop_assert!(rustls_pki_types::ServerName::try_from(a.hub.as_str()).is_ok());
            }
        }
    }
}
