#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! The facade against a scripted peer: a table of commands and answers, as a modem with echo on at first.

use super::*;
use crate::clock::rfc3339;
use crate::modem::command::context::Auth;
use crate::modem::error::Recovery;
use crate::modem::registration::RegStatus;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Answers by a table, `ERROR` to everything else; keeps what it heard. An entry is used up if another for the same command follows.
struct Peer {
    heard: Arc<Mutex<Vec<String>>>,
}

const USUAL: &[(&str, &str)] = &[
    ("AT", "OK"),
    ("ATE0", "OK"),
    ("AT+CMEE=2", "OK"),
    ("AT+CEREG=2", "OK"),
    ("ATI", "Quectel|EG25|Revision: EG25GGBR07A08M2G||OK"),
    ("AT+QGMR", "EG25GGBR07A08M2G_30.203.30.203||OK"),
    ("AT+CGSN", "860000000000001||OK"),
];

fn peer(table: &[(&str, &str)]) -> (Modem<DuplexStream>, Peer) {
    let (ours, mut theirs) = duplex(256);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let mut table: Vec<(String, String)> = table
        .iter()
        .chain(USUAL)
        .map(|(c, a)| ((*c).to_owned(), a.replace('|', "\r\n")))
        .collect();
    tokio::spawn(async move {
        let mut line = Vec::new();
        let mut echo = true;
        while let Ok(byte) = theirs.read_u8().await {
            if echo {
                theirs.write_u8(byte).await.unwrap();
            }
            if byte != b'\r' {
                line.push(byte);
                continue;
            }
            let command = String::from_utf8(std::mem::take(&mut line)).unwrap();
            echo &= command != "ATE0";
            let mut matching = table
                .iter()
                .enumerate()
                .filter(|(_, (c, _))| *c == command)
                .map(|(i, _)| i);
            let (first, more) = (matching.next(), matching.next().is_some());
            let answer = match first {
                Some(i) if more => table.remove(i).1,
                Some(i) => table[i].1.clone(),
                None => "ERROR".to_owned(),
            };
            log.lock().unwrap().push(command);
            if theirs.write_all(format!("\r\n{answer}\r\n").as_bytes()).await.is_err() {
                return;
            }
        }
    });
    (Modem::over(ours), Peer { heard })
}

impl Peer {
    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
    fn count(&self, start: &str) -> usize {
        self.heard().iter().filter(|l| l.starts_with(start)).count()
    }
}

#[tokio::test(start_paused = true)]
async fn identify_configures_and_reads() {
    let (mut modem, peer) = peer(&[("AT+CTZU?", "+CTZU: 0||OK"), ("AT+CTZU=1", "OK")]);
    let e = modem.identify().await.unwrap();
    assert_eq!((e.manufacturer.as_str(), e.model.as_str()), ("Quectel", "EG25-G"));
    assert_eq!(e.firmware, "EG25GGBR07A08M2G_30.203.30.203");
    assert_eq!(e.imei.as_str(), "860000000000001");
    assert_eq!(&peer.heard()[..3], ["AT", "ATE0", "AT+CMEE=2"]);
    assert_eq!(peer.count("AT+CTZU=1"), 1);
}

#[tokio::test(start_paused = true)]
async fn identify_survives_old_firmware_and_a_modem_that_is_just_booting() {
    let (mut modem, peer) = peer(&[
        ("AT+QGMR", "ERROR"),
        ("AT+CMEE=2", "RDY"),
        ("AT+CMEE=2", "OK"),
        ("AT+CEREG=2", "ERROR"),
        ("AT+CTZU?", "+CTZU: 1||OK"),
    ]);
    assert_eq!(modem.identify().await.unwrap().firmware, "EG25GGBR07A08M2G");
    assert_eq!(peer.count("ATE0"), 2, "configured again from the start");
    assert_eq!(peer.count("AT+CTZU="), 0, "no needless write");
}

#[tokio::test(start_paused = true)]
async fn a_reboot_is_told_once_and_identify_heals_it() {
    let (mut modem, _peer) = peer(&[
        ("AT+CSQ", "RDY"),
        ("AT+CSQ", "OK||RDY"),
        ("AT+CPIN?", "+CPIN: READY||OK"),
    ]);
    modem.identify().await.unwrap();
    let error = modem.signal().await.unwrap_err();
    assert!(
        matches!(error, ModemError::Rebooted) && error.recovery() == Recovery::Resync,
        "{error}"
    );
    assert_eq!(modem.sim().await.unwrap(), SimState::Ready);
    modem.identify().await.unwrap();
    // RDY after the answer: the next command does not reach a modem that has lost its settings.
    let _ = modem.execute(&SignalQuality).await;
    assert!(matches!(modem.sim().await, Err(ModemError::Rebooted)));
    modem.identify().await.unwrap();
    assert_eq!(modem.sim().await.unwrap(), SimState::Ready);
}

#[tokio::test(start_paused = true)]
async fn every_state_of_the_sim() {
    for (answer, want) in [
        ("+CPIN: READY||OK", SimState::Ready),
        ("+CME ERROR: 14", SimState::Busy),
        ("+CME ERROR: SIM busy", SimState::Busy),
        ("+CPIN: NOT READY||OK", SimState::Busy),
        ("+CME ERROR: 10", SimState::Absent),
        ("+CME ERROR: SIM not inserted", SimState::Absent),
        ("+CPIN: SIM PIN||OK", SimState::PinRequired { retries_left: Some(3) }),
        (
            "+CME ERROR: SIM PIN required",
            SimState::PinRequired { retries_left: Some(3) },
        ),
        ("+CPIN: SIM PUK||OK", SimState::PukRequired),
        ("+CPIN: READY||+CME ERROR: SIM failure", SimState::Failure),
        ("+CPIN: PH-NET PIN||OK", SimState::Other("PH-NET PIN".into())),
        ("ERROR", SimState::Other("ERROR without a cause".into())),
    ] {
        let (mut modem, _peer) = peer(&[("AT+CPIN?", answer), ("AT+QPINC?", "+QPINC: \"SC\",3,10||OK")]);
        assert_eq!(modem.sim().await.unwrap(), want, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_pin_attempt_is_never_used() {
    let pin: Pin = "1234".parse().unwrap();
    for (retries, want) in [
        ("+QPINC: \"SC\",1,10||OK", Some(1)),
        ("+QPINC: \"SC\",0,10||OK", Some(0)),
        ("ERROR", None),
    ] {
        let (mut modem, peer) = peer(&[("AT+QPINC?", retries), ("AT+CPIN=\"1234\"", "OK")]);
        let error = modem.enter_pin(&pin).await.unwrap_err();
        assert!(
            matches!(error, ModemError::PinGuarded { left } if left == want),
            "{error}"
        );
        assert_eq!(error.recovery(), Recovery::Person);
        assert_eq!(peer.count("AT+CPIN="), 0);
    }
    let (mut modem, peer) = peer(&[
        ("AT+QPINC?", "+QPINC: \"SC\",3,10||OK"),
        ("AT+CPIN=\"1234\"", "+CME ERROR: 16"),
    ]);
    let error = modem.enter_pin(&pin).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&CmeError::IncorrectPassword));
    assert!(!error.to_string().contains("1234"), "{error}");
    assert_eq!((peer.count("AT+CPIN="), error.recovery()), (1, Recovery::Person));
}

#[tokio::test(start_paused = true)]
async fn subscriber_and_network() {
    let (mut modem, _peer) = peer(&[
        ("AT+CIMI", "295050000000001||OK"),
        ("AT+QCCID", "+QCCID: 8981100000000000001F||OK"),
        ("AT+CEREG?", "+CEREG: 2,2||OK"),
        ("AT+CGREG?", "+CGREG: 0,5||OK"),
        ("AT+COPS?", "+COPS: 0,0,\"NTT DOCOMO\",7||OK"),
        ("AT+CEER", "+CEER: EMM cause 15||OK"),
    ]);
    let who = modem.subscriber().await.unwrap();
    assert_eq!(who.imsi.as_str(), "295050000000001");
    assert_eq!(who.imei.unwrap().as_str(), "860000000000001");
    assert_eq!(who.iccid.unwrap().as_str(), "8981100000000000001");
    assert_eq!(
        modem.registration().await.unwrap().status,
        RegStatus::Roaming,
        "by the packet registration"
    );
    assert_eq!(modem.operator().await.unwrap().unwrap().name, "NTT DOCOMO");
    assert_eq!(modem.last_failure().await.unwrap(), "EMM cause 15");

    let (mut modem, _peer) = peer(&[("AT+CEREG?", "+CEREG: 2,3||OK")]);
    assert_eq!(modem.registration().await.unwrap().status, RegStatus::Denied);
}

#[tokio::test(start_paused = true)]
async fn signal_from_qeng_or_from_csq() {
    let qeng =
        "+QENG: \"servingcell\",\"NOCONN\",\"LTE\",\"FDD\",440,10,2B3C4D5,121,1850,3,5,5,1E2F,-98,-11,-67,14,27||OK";
    let (mut modem, peer_full) = peer(&[("AT+QENG=\"servingcell\"", qeng)]);
    let s = modem.signal().await.unwrap();
    assert_eq!(
        (s.rsrp_dbm, s.rsrq_db, s.rssi_dbm, s.sinr_db, s.band),
        (Some(-98), Some(-11), Some(-67), Some(14), Some(3))
    );
    assert_eq!(peer_full.count("AT+CSQ"), 0);
    for qeng in ["ERROR", "+QENG: \"servingcell\",\"SEARCH\"||OK", "OK"] {
        let (mut modem, _peer) = peer(&[("AT+QENG=\"servingcell\"", qeng), ("AT+CSQ", "+CSQ: 21,99||OK")]);
        let s = modem.signal().await.unwrap();
        assert_eq!((s.rsrp_dbm, s.rssi_dbm), (None, Some(-71)), "{qeng}");
    }
}

#[tokio::test(start_paused = true)]
async fn network_time_from_whichever_knows() {
    let cclk = "+CCLK: \"26/11/21,21:00:00+36\"||OK";
    for (qlts, cclk, ctzu, want) in [
        (
            "+QLTS: \"2026/11/21,12:00:00+36,0\"||OK",
            "ERROR",
            "ERROR",
            Some("2026-11-21T12:00:00Z"),
        ),
        ("+QLTS: \"\"||OK", "+CCLK: \"80/01/06,00:00:15+00\"||OK", "ERROR", None),
        ("ERROR", cclk, "+CTZU: 1||OK", Some("2026-11-21T21:00:00Z")),
        ("ERROR", cclk, "+CTZU: 3||OK", Some("2026-11-21T12:00:00Z")),
        ("ERROR", cclk, "ERROR", Some("2026-11-21T12:00:00Z")),
        ("ERROR", cclk, "+CTZU: 0||OK", None),
        ("ERROR", "ERROR", "ERROR", None),
    ] {
        let (mut modem, _peer) = peer(&[("AT+QLTS=1", qlts), ("AT+CCLK?", cclk), ("AT+CTZU?", ctzu)]);
        let got = modem.network_time().await.unwrap().map(rfc3339);
        assert_eq!(got.as_deref(), want, "{qlts} {cclk} {ctzu}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_apn_is_written_only_when_it_differs_and_then_checked() {
    let apn = Apn::new("soracom.io", "sora", "sora", Auth::Pap).unwrap();
    let (right, wrong) = (
        "+QICSGP: 1,\"soracom.io\",\"sora\",\"sora\",1||OK",
        "+QICSGP: 1,\"\",\"\",\"\",0||OK",
    );
    let write = "AT+QICSGP=1,1,\"soracom.io\",\"sora\",\"sora\",1";

    let (mut modem, same) = peer(&[("AT+QICSGP=1", right), (write, "OK")]);
    assert!(!modem.set_apn(&apn).await.unwrap());
    assert_eq!(same.count("AT+QICSGP=1,"), 0);

    let (mut modem, differs) = peer(&[("AT+QICSGP=1", wrong), ("AT+QICSGP=1", right), (write, "OK")]);
    assert!(modem.set_apn(&apn).await.unwrap());
    assert_eq!(differs.count(write), 1);

    let (mut modem, _deaf) = peer(&[("AT+QICSGP=1", wrong), (write, "OK")]);
    let error = modem.set_apn(&apn).await.unwrap_err();
    assert!(matches!(error, ModemError::NotKept { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn radio_and_restart() {
    let (mut modem, peer) = peer(&[
        ("AT+CFUN?", "+CFUN: 1||OK"),
        ("AT+CFUN=4", "OK"),
        ("AT+CFUN=1,1", "OK||RDY"),
    ]);
    modem.radio(true).await.unwrap();
    assert_eq!(peer.count("AT+CFUN="), 0, "it is on");
    modem.radio(false).await.unwrap();
    assert_eq!(peer.count("AT+CFUN=4"), 1);
    modem.identify().await.unwrap();
    modem.restart().await.unwrap();
    modem
        .radio(true)
        .await
        .expect("the RDY after our own restart is no surprise");
}
