use super::*;

fn read(text: &str) -> Result<(String, Duration, i64), ConfigError> {
    Reader::from_text(Path::new("a.toml"), text.to_owned()).read(|top| {
        let name = top.required_text("name", "x");
        let mut s = top.section("modem");
        let wait = s.duration(
            "wait",
            Duration::from_secs(5),
            Duration::from_secs(1)..=Duration::from_secs(60),
        );
        let baud = s.number("baud", 1..=4_000_000).unwrap_or(115_200);
        s.finish();
        (name, wait, baud)
    })
}

#[test]
fn all_mistakes_come_at_once_with_their_places() {
    let e = read("nam = \"x\"\n[modem]\n  wait = \"2h\"\n  baud = \"fast\"\n").unwrap_err();
    let text = e.to_string();
    for want in [
        "a.toml:1:1: name: is missing: write for example name = \"x\"",
        "a.toml:1:1: unknown key \"nam\"; did you mean \"name\"?",
        "a.toml:3:10: modem.wait: \"2h\" is outside 1s to 60s",
        "a.toml:4:10: modem.baud: must be a whole number, not string",
        "4 mistakes in a.toml",
    ] {
        assert!(text.contains(want), "{want:?} is not in\n{text}");
    }
}

#[test]
fn defaults_and_values() {
    assert_eq!(
        read("name=\"a\"").unwrap(),
        ("a".into(), Duration::from_secs(5), 115_200)
    );
    assert_eq!(
        read("name='a'\n[modem]\nwait='7s'\nbaud=9_600").unwrap(),
        ("a".into(), Duration::from_secs(7), 9600)
    );
    assert!(
        read("name=1")
            .unwrap_err()
            .to_string()
            .contains("a.toml:1:6: name must be a string")
    );
    assert!(read("name='a'\nmodem=3").unwrap_err().to_string().contains("2:7"));
}

#[test]
fn relative_paths_start_at_the_file() {
    let read = |text: &str| {
        Reader::from_text(Path::new("/etc/onyx/a.toml"), text.to_owned())
            .read(|top| (top.file("a"), top.file_template("b").map(|t| t.source().to_owned())))
            .unwrap()
    };
    let (a, b) = read("a = 'ca.pem'\nb = 'keys/#{imsi}.pem'");
    assert_eq!(a, Some("/etc/onyx/ca.pem".into()));
    assert_eq!(b.as_deref(), Some("/etc/onyx/keys/#{imsi}.pem"));
    assert_eq!(read("a = '/ca.pem'").0, Some("/ca.pem".into()));
}

#[test]
fn syntax_errors_have_a_place() {
    let text = read("name = \"x\"\n[modem\n").unwrap_err().to_string();
    assert!(text.contains("a.toml:2:"), "{text}");
}

proptest::proptest! {
    #[test]
    fn any_text_is_survived(text: String) { let _ = read(&text); }
}
