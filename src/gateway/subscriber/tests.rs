use super::*;

const IMEI: &str = "123456789011111";

fn known(imsi: &str, source: Option<&str>, token: Option<&str>) -> Known {
    Known {
        subscriber: Subscriber {
            imsi: imsi.parse().unwrap(),
            imei: Some(IMEI.parse().unwrap()),
            iccid: None,
        },
        group: GroupId::default(),
        enabled: true,
        imei_lock: false,
        source: source.map(|s| s.parse().unwrap()),
        token: token.map(|t| Secret::Token(Token::new(t.as_bytes()))),
        certificate: None,
    }
}

fn certificate(common_name: &str, byte: u8) -> PeerCertificate {
    PeerCertificate {
        imsi: common_name.strip_prefix("dev-").and_then(|n| n.parse().ok()),
        not_after: std::time::Duration::MAX,
        common_name: Some(common_name.to_owned()),
        fingerprint: Fingerprint([byte; 32]),
    }
}

fn caller<'a>(address: &str, password: Option<&'a str>, certificate: Option<&'a PeerCertificate>) -> Caller<'a> {
    Caller {
        address: address.parse().unwrap(),
        password: password.map(str::as_bytes),
        client_id: "c",
        certificate,
    }
}

fn who(d: &Directory, caller: &Caller<'_>) -> Option<(String, By)> {
    d.find(caller).ok().map(|(k, by)| (k.subscriber.imsi.to_string(), by))
}

fn find(d: &Directory, address: &str, password: Option<&str>) -> Option<(String, By)> {
    who(d, &caller(address, password, None))
}

#[test]
fn tokens_first_then_the_longest_prefix() {
    let d = Directory::new(vec![
        known("100001", Some("10.0.0.0/8"), None),
        known("100002", Some("10.1.0.0/16"), None),
        known("100003", Some("10.1.2.3"), None),
        known("100004", None, Some("the-token-of-number-four")),
        known("100005", Some("10.9.0.0/16"), Some("the-token-of-number-five")),
        known("100006", Some("2001:db8::/32"), None),
    ]);
    let source = |n: &str| Some((n.to_owned(), By::Source));
    assert_eq!(find(&d, "10.7.7.7", None), source("100001"));
    assert_eq!(find(&d, "10.1.7.7", None), source("100002"));
    assert_eq!(find(&d, "10.1.2.3", Some("a login for the cloud")), source("100003"));
    assert_eq!(find(&d, "::ffff:10.1.2.3", None), source("100003"));
    assert_eq!(find(&d, "2001:db8::1", None), source("100006"));
    assert_eq!(find(&d, "192.0.2.1", None), None);
    let four = Some("the-token-of-number-four");
    assert_eq!(find(&d, "192.0.2.1", four), Some(("100004".into(), By::Token)));
    assert_eq!(find(&d, "10.1.2.3", four), Some(("100004".into(), By::Token)));
    let five = Some("the-token-of-number-five");
    assert_eq!(find(&d, "10.9.1.1", five), Some(("100005".into(), By::Token)));
    assert_eq!(find(&d, "10.1.2.3", five), None, "a stolen token is nobody's");
    assert_eq!(
        find(&d, "10.9.1.1", None),
        source("100001"),
        "a source with a token needs the token"
    );
}

#[test]
fn certificates_pinned_or_by_name() {
    let mut pinned = known("100002", None, None);
    pinned.certificate = Some(Fingerprint([2; 32]));
    let mut bound = known("100003", Some("10.0.0.0/8"), None);
    bound.certificate = Some(Fingerprint([3; 32]));
    let all = vec![
        known("100001", None, Some("the-token-of-number-one")),
        pinned,
        bound,
        known("100004", Some("10.4.0.0/16"), None),
    ];
    let d = Directory::new(all);
    let by = |c: &PeerCertificate, address: &str, token| who(&d, &caller(address, token, Some(c)));
    let hit = |n: &str, by| Some((n.to_owned(), by));
    assert_eq!(
        by(&certificate("dev-100001", 9), "192.0.2.1", None),
        hit("100001", By::Certificate)
    );
    assert_eq!(
        by(&certificate("whoever", 2), "192.0.2.1", None),
        hit("100002", By::Certificate)
    );
    assert_eq!(
        by(&certificate("dev-100002", 9), "192.0.2.1", None),
        None,
        "the right name on another certificate than the pinned one"
    );
    assert_eq!(
        by(&certificate("x", 3), "10.0.0.9", None),
        hit("100003", By::Certificate)
    );
    assert_eq!(
        by(&certificate("x", 3), "192.0.2.1", None),
        None,
        "a key that was carried off"
    );
    assert_eq!(by(&certificate("dev-100004", 9), "192.0.2.1", None), None);
    assert_eq!(by(&certificate("dev-999999", 9), "192.0.2.1", None), None);
    // A token goes before a certificate, and a certificate of nobody does not harm the source.
    let token = Some("the-token-of-number-one");
    assert_eq!(
        by(&certificate("whoever", 2), "192.0.2.1", token),
        hit("100001", By::Token)
    );
    assert_eq!(
        by(&certificate("whoever", 9), "10.4.0.1", None),
        hit("100004", By::Source)
    );
    // A pinned certificate is needed, so the source alone says nothing.
    assert_eq!(find(&d, "10.0.0.9", None), None);
}

#[test]
fn disabled_and_locked_ones_are_told_apart() {
    let mut off = known("100001", Some("10.0.0.1"), None);
    off.enabled = false;
    let mut locked = known("100002", Some("10.0.0.2"), None);
    locked.imei_lock = true;
    let mut hopeless = known("100003", Some("10.0.0.3"), None);
    (hopeless.imei_lock, hopeless.subscriber.imei) = (true, None);
    let d = Directory::new(vec![off, locked, hopeless]);
    assert!(matches!(
        d.find(&caller("10.0.0.1", None, None)),
        Err(Unknown::Disabled(_))
    ));
    assert!(matches!(d.find(&caller("10.0.0.9", None, None)), Err(Unknown::Nobody)));
    let with_id = |address: &str, id: &str| {
        d.find(&Caller {
            client_id: id,
            ..caller(address, None, None)
        })
        .is_ok()
    };
    let named = format!("myClient-100002-{IMEI}");
    for (id, good) in [
        (IMEI, true),
        (named.as_str(), true),
        ("", false),
        ("myClient-100002-123456789011112", false),
        (&format!("9{IMEI}"), false),
        (&format!("{named} "), false),
    ] {
        assert_eq!(with_id("10.0.0.2", id), good, "{id}");
    }
    assert!(!with_id("10.0.0.3", IMEI), "a lock without an IMEI opens to nobody");
}

#[test]
fn a_stores_digests_are_found_by_its_digester() {
    let digester = Digester::keyed(b"the store's key");
    let mut one = known("100001", None, None);
    one.token = Some(Secret::Digest(digester.digest(b"the-token-of-number-one")));
    let d = Directory::with(vec![one.clone()], digester);
    let hit = Some(("100001".to_owned(), By::Token));
    assert_eq!(find(&d, "192.0.2.1", Some("the-token-of-number-one")), hit);
    assert_eq!(find(&d, "192.0.2.1", Some("the-token-of-number-two")), None);
    let other = Directory::with(vec![one], Digester::keyed(b"another key"));
    assert_eq!(find(&other, "192.0.2.1", Some("the-token-of-number-one")), None);
}

#[test]
fn ten_thousand_tokens_are_each_found() {
    let token = |n: u32| format!("the-token-of-number-{n}");
    let all = (0..10_000)
        .map(|n| known(&format!("1{n:05}"), None, Some(&token(n))))
        .collect();
    let d = Directory::new(all);
    for n in 0..10_000 {
        assert_eq!(find(&d, "192.0.2.1", Some(&token(n))).unwrap().0, format!("1{n:05}"));
    }
}

#[test]
fn who_may_stay() {
    let other = "999999999999999";
    let imsi = |n: &str| n.parse::<crate::identity::Imsi>().unwrap();
    let modem = |id: &str| modem_of(id);
    let mut locked = known("100002", None, None);
    locked.imei_lock = true;
    let mut off = known("100003", None, None);
    off.enabled = false;
    let mut nobodys = known("100004", None, None);
    (nobodys.imei_lock, nobodys.subscriber.imei) = (true, None);
    // How they are recognised does not matter any more.
    let d = Directory::new(vec![known("100001", Some("10.0.0.1"), None), locked, off, nobodys]);
    for (number, client, want) in [
        ("100001", "anything", None),
        ("100002", IMEI, None),
        ("100002", &format!("c-{IMEI}"), None),
        ("100002", &format!("c-{other}"), Some(Bar::Locked)),
        ("100002", &format!("c{IMEI}"), Some(Bar::Locked)),
        ("100002", "", Some(Bar::Locked)),
        ("100003", IMEI, Some(Bar::Disabled)),
        ("100004", "c", Some(Bar::Locked)),
        ("100005", IMEI, Some(Bar::Removed)),
    ] {
        assert_eq!(
            d.bars(&imsi(number), modem(client).as_ref()),
            want,
            "{number} {client:?}"
        );
    }
    assert_eq!(modem_of(&format!("é{}", &IMEI[1..])), None, "cut inside a character");
}
