#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::modem::command::equipment::{Attention, SerialNumber};
use crate::modem::command::network::SignalQuality;
use crate::modem::error::Recovery;
use tokio::io::{DuplexStream, duplex};

/// Reads one command, up to its `<CR>`.
async fn command(peer: &mut DuplexStream) -> Option<String> {
    let mut line = Vec::new();
    loop {
        match peer.read_u8().await {
            Ok(b'\r') => return Some(String::from_utf8(line).unwrap()),
            Ok(b) => line.push(b),
            Err(_) => return None,
        }
    }
}

async fn say(peer: &mut DuplexStream, text: &str) {
    peer.write_all(text.as_bytes()).await.unwrap();
}

/// Answers the `AT` of a resync.
async fn attend(peer: &mut DuplexStream) {
    assert_eq!(command(peer).await.unwrap(), "AT");
    say(peer, "AT\r\r\nOK\r\n").await;
}

fn pair() -> (Modem<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(64);
    (Modem::over(ours), theirs)
}

#[tokio::test(start_paused = true)]
async fn a_command_resynchronises_first_and_then_asks() {
    let (mut modem, mut peer) = pair();
    let script = async {
        attend(&mut peer).await;
        assert_eq!(command(&mut peer).await.unwrap(), "AT+CGSN");
        say(
            &mut peer,
            "AT+CGSN\r\r\n+QIND: SMS DONE\r\n\r\n860000000000001\r\n\r\nOK\r\n",
        )
        .await;
    };
    let (imei, ()) = tokio::join!(modem.execute(&SerialNumber), script);
    assert_eq!(imei.unwrap().as_str(), "860000000000001");
    assert_eq!(modem.take_urcs(), (vec![Urc::Indication("SMS DONE".into())], 0));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_swallowed() {
    let (mut modem, mut peer) = pair();
    let script = async {
        attend(&mut peer).await;
        assert_eq!(command(&mut peer).await.unwrap(), "AT+CSQ");
        // Far too late: the next thing the modem hears is a lone AT.
        assert_eq!(command(&mut peer).await.unwrap(), "AT");
        say(&mut peer, "\r\n+CSQ: 1,99\r\n\r\nOK\r\n").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        say(&mut peer, "\r\nOK\r\n").await;
        assert_eq!(command(&mut peer).await.unwrap(), "AT+CSQ");
        say(&mut peer, "\r\n+CSQ: 31,99\r\n\r\nOK\r\n").await;
    };
    let ask = async {
        let started = Instant::now();
        let late = modem.execute(&SignalQuality).await.unwrap_err();
        assert!(
            matches!(&late, ModemError::Timeout { command, .. } if command == "AT+CSQ"),
            "{late}"
        );
        assert_eq!(late.recovery(), Recovery::Resync);
        assert!(started.elapsed() < SignalQuality.timeout() + Duration::from_secs(1));
        modem.execute(&SignalQuality).await
    };
    assert_eq!(tokio::join!(ask, script).0.unwrap(), Some(-51));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_question_leaves_no_answer_behind() {
    let (mut modem, mut peer) = pair();
    let script = async {
        attend(&mut peer).await;
        assert_eq!(command(&mut peer).await.unwrap(), "AT+CSQ");
        assert_eq!(command(&mut peer).await.unwrap(), "AT");
        say(&mut peer, "\r\n+CSQ: 1,99\r\n\r\nOK\r\n\r\nOK\r\n").await;
        assert_eq!(command(&mut peer).await.unwrap(), "AT+CSQ");
        say(&mut peer, "\r\n+CSQ: 99,99\r\n\r\nOK\r\n").await;
    };
    let ask = async {
        assert!(
            timeout(Duration::from_secs(1), modem.execute(&SignalQuality))
                .await
                .is_err()
        );
        modem.execute(&SignalQuality).await
    };
    assert_eq!(tokio::join!(ask, script).0.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn silence_garbage_and_a_full_pipe_end_in_time() {
    let (mut modem, peer) = pair();
    let error = modem.execute(&Attention).await.unwrap_err();
    assert!(matches!(error, ModemError::Unresponsive { .. }), "{error}");
    assert_eq!(error.recovery(), Recovery::Reopen);
    drop(peer);

    let (mut modem, mut peer) = pair();
    let script = async {
        while command(&mut peer).await.is_some() {
            peer.write_all(b"\x93\x00\xff\x10 460000000000001\r\n").await.unwrap();
        }
    };
    let ask = async move { modem.execute(&Attention).await.unwrap_err() };
    let error = tokio::join!(ask, script).0;
    let ModemError::Garbage { sample, .. } = &error else {
        panic!("{error}")
    };
    assert!(
        sample.contains("\\x93") && !sample.contains("460000000000001"),
        "{sample}"
    );

    let (ours, _peer) = duplex(1);
    let error = Modem::over(ours).execute(&Attention).await.unwrap_err();
    assert!(matches!(error, ModemError::Stuck { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_is_noticed_at_once_in_every_state() {
    let (mut modem, peer) = pair();
    drop(peer);
    assert!(matches!(modem.execute(&Attention).await, Err(ModemError::Gone { .. })));

    let (mut modem, mut peer) = pair();
    let script = async move {
        attend(&mut peer).await;
        command(&mut peer).await.unwrap();
        drop(peer);
    };
    let error = tokio::join!(modem.execute(&SerialNumber), script).0.unwrap_err();
    assert!(matches!(error, ModemError::Gone { .. }) && error.recovery() == Recovery::Reopen);

    let (mut modem, peer) = pair();
    drop(peer);
    assert!(matches!(
        modem.listen(Duration::from_secs(60)).await,
        Err(ModemError::Gone { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn refusals_and_nonsense() {
    let (mut modem, mut peer) = pair();
    let script = async {
        attend(&mut peer).await;
        for answer in ["+CME ERROR: 14", "+CME ERROR: SIM busy", "+CMS ERROR: 314"] {
            command(&mut peer).await.unwrap();
            say(&mut peer, &format!("\r\n{answer}\r\n")).await;
        }
        command(&mut peer).await.unwrap();
        say(&mut peer, "\r\nOK\r\n").await;
        // An answer without content may have been somebody else's: back in step first.
        attend(&mut peer).await;
        command(&mut peer).await.unwrap();
        say(&mut peer, "\r\nOK\r\n").await;
    };
    let ask = async {
        for _ in 0..3 {
            let error = modem.execute(&SerialNumber).await.unwrap_err();
            assert_eq!(error.refusal(), Some(&CmeError::SimBusy));
            assert_eq!(error.recovery(), Recovery::Retry);
        }
        let error = modem.execute(&SerialNumber).await.unwrap_err();
        assert!(matches!(error, ModemError::Unparsable { .. }), "{error}");
        modem.execute(&Attention).await.unwrap();
    };
    tokio::join!(ask, script);
}

#[tokio::test(start_paused = true)]
async fn codes_nobody_takes_are_bounded() {
    let (mut modem, mut peer) = pair();
    let script = async {
        attend(&mut peer).await;
        command(&mut peer).await.unwrap();
        for n in 0..200 {
            say(&mut peer, &format!("\r\n+QIND: {n}\r\n")).await;
        }
        say(&mut peer, "\r\nOK\r\n").await;
    };
    tokio::join!(modem.execute(&Attention), script).0.unwrap();
    let (urcs, dropped) = modem.take_urcs();
    assert_eq!((urcs.len(), dropped), (URCS_MAX, 200 - URCS_MAX as u64));
    assert_eq!(urcs.last(), Some(&Urc::Indication("199".into())));
}

#[tokio::test(start_paused = true)]
async fn listening_ends_with_a_code_or_with_time() {
    let (mut modem, mut peer) = pair();
    assert_eq!(modem.listen(Duration::from_secs(30)).await.unwrap(), []);
    let script = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        say(&mut peer, "\r\n+QSIMSTAT: 1,0\r\n").await;
    };
    let (heard, ()) = tokio::join!(modem.listen(Duration::from_secs(30)), script);
    assert_eq!(heard.unwrap(), [Urc::SimStatus("1,0".into())]);
}
