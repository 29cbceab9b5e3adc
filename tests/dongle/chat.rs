//! `chat` against the port.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use onyx::bench::dongle::scenario::Scenario;
use onyx::bench::dongle::{Config, Dongle};
use tokio::task::block_in_place;

use crate::peer::QUICK;

/// `chat` says with this status that a time ran out, and with this and higher ones that an ABORT string came (chat(8)).
const TIMED_OUT: i32 = 3;
const FIRST_ABORT: i32 = 4;

/// Runs chat with the port as its terminal; what it heard is in the error output.
fn chat(port: &Path, script: &[&str]) -> Output {
    let open = || OpenOptions::new().read(true).write(true).open(port).unwrap();
    Command::new("chat")
        .args(["-e", "-t", "15"])
        .args(script)
        .stdin(open())
        .stdout(open())
        .stderr(Stdio::piped())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .expect("`chat` is needed for this test and is not there: install Debian's package ppp (apt-get install ppp)")
}

fn heard(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn start(scenario: &str) -> Dongle {
    let scenario = Scenario::parse(scenario).unwrap();
    Dongle::start(Config {
        scenario,
        ..Config::default()
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_reads_who_the_dongle_is() {
    let dongle = start(QUICK);
    let port = dongle.path().unwrap();
    let output = block_in_place(|| {
        chat(
            &port,
            &[
                "",
                "AT",
                "OK",
                "ATE0",
                "OK",
                "ATI",
                "OK",
                "AT+CGSN",
                "OK",
                "AT+CIMI",
                "OK",
                "AT+QCCID",
                "OK",
                "AT+CEREG?",
                "OK",
            ],
        )
    });
    assert_eq!(output.status.code(), Some(0), "{}", heard(&output));
    let heard = heard(&output);
    for line in [
        "Quectel",
        "EG25",
        "Revision: EG25GGBR07A08M2G",
        "123456789011111",
        "295012345678901",
        "+QCCID: 8942310022000012345F",
        "+CEREG: 0,5",
    ] {
        assert!(heard.lines().any(|l| l.trim() == line), "{line} is not in {heard}");
    }
    dongle.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_unlocks_the_card_and_waits_for_the_network() {
    let dongle = start(
        "boot_time = '0s'\n[sim]\nready_after = '0s'\nstate = 'pin'\npin = '4711'\n[network]\nregister_after = '300ms'",
    );
    let port = dongle.path().unwrap();
    let output = block_in_place(|| {
        chat(
            &port,
            &[
                "",
                "ATE0",
                "OK",
                "AT+CEREG=1",
                "OK",
                "AT+CPIN?",
                "SIM PIN",
                "\\d",
                "OK",
                "AT+CPIN=\"4711\"",
                "+CEREG: 5",
                "AT+CIMI",
                "295012345678901",
            ],
        )
    });
    assert_eq!(output.status.code(), Some(0), "{}", heard(&output));
    dongle.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_gives_up_without_a_card_and_on_silence() {
    let dongle = start("boot_time = '0s'\n[sim]\nstate = 'absent'\nready_after = '0s'");
    let port = dongle.path().unwrap();
    let output = block_in_place(|| {
        chat(
            &port,
            &["ABORT", "+CME ERROR: 10", "", "ATE0", "OK", "AT+CPIN?", "READY"],
        )
    });
    assert_eq!(output.status.code(), Some(FIRST_ABORT), "{}", heard(&output));
    dongle
        .inject(onyx::bench::dongle::scenario::Event::Silent(None))
        .await
        .unwrap();
    let output = block_in_place(|| chat(&port, &["TIMEOUT", "1", "", "AT", "OK"]));
    assert_eq!(output.status.code(), Some(TIMED_OUT), "{}", heard(&output));
    dongle.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_dials_and_nobody_is_there_yet() {
    let dongle = start(QUICK);
    let port = dongle.path().unwrap();
    let output = block_in_place(|| {
        chat(
            &port,
            &[
                "ABORT",
                "NO CARRIER",
                "",
                "ATQ0 V1 E1 S0=0 &C1 &D2",
                "OK",
                "AT+CGDCONT=1,\"IP\",\"soracom.io\"",
                "OK",
                "ATD*99***1#",
                "CONNECT",
            ],
        )
    });
    assert_eq!(output.status.code(), Some(FIRST_ABORT), "{}", heard(&output));
    dongle.stop().await.unwrap();
}
