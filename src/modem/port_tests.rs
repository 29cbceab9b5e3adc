#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! With a real pseudo-terminal of the kernel.

use super::*;
use crate::modem::command::equipment::SerialNumber;
use crate::modem::{Modem, ModemError};
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::mpsc;

fn pty() -> (PtyMaster, PathBuf) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname_r(&master).unwrap().into();
    (master, path)
}

/// A modem on a thread that answers `answers` commands, and hangs up when told.
fn modem_thread(mut master: PtyMaster, answers: usize) -> (std::thread::JoinHandle<()>, mpsc::Sender<()>) {
    let (hang_up, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut line = Vec::new();
        let mut byte = [0];
        let mut left = answers;
        while left > 0 && master.read(&mut byte).is_ok_and(|n| n == 1) {
            line.push(byte[0]);
            if byte[0] == b'\r' {
                let mut out = line.clone();
                out.extend_from_slice(match &line[..] {
                    b"AT\r" => &b"\r\nOK\r\n"[..],
                    b"AT+CGSN\r" => b"\r\n860000000000001\r\n\r\nOK\r\n",
                    _ => b"\r\nERROR\r\n",
                });
                master.write_all(&out).unwrap();
                line.clear();
                left -= 1;
            }
        }
        // Hanging up discards what the other side has not read, so not before it has.
        let _ = told.recv();
    });
    (thread, hang_up)
}

#[tokio::test]
async fn a_modem_on_a_pty_answers_and_its_hang_up_is_noticed() {
    let (master, path) = pty();
    let (thread, hang_up) = modem_thread(master, 2);
    let mut modem = Modem::open(&path).await.unwrap();
    assert_eq!(modem.execute(&SerialNumber).await.unwrap().as_str(), "860000000000001");
    hang_up.send(()).unwrap();
    let gone = modem.listen(Duration::from_secs(10)).await.unwrap_err();
    assert!(
        matches!(&gone, ModemError::Gone { path: p, .. } if *p == path.display().to_string()),
        "{gone}"
    );
    thread.join().unwrap();
}

#[tokio::test]
async fn nobody_else_can_hold_the_port_and_a_closed_one_is_free_again() {
    let (_master, path) = pty();
    let first = open(&path).await.unwrap();
    let error = open(&path).await.unwrap_err();
    assert!(
        matches!(&error, ModemError::Open { advice, .. } if advice.contains("ModemManager")),
        "{error}"
    );
    drop(first);
    open(&path).await.expect("closing happens elsewhere, but soon");
}

#[tokio::test]
async fn a_port_that_is_not_there_or_no_port_gets_advice() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(&dir.path().join("ttyUSB2")).await.unwrap_err();
    assert!(error.to_string().contains("not plugged in"), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = open(&file).await.unwrap_err();
    assert!(error.to_string().contains("serial port"), "{error}");
}

#[tokio::test]
async fn what_waited_in_the_port_is_not_echoed_back() {
    let (mut master, path) = pty();
    master.write_all(b"\r\nRDY\r\n\r\n+CPIN: READY\r\n").unwrap();
    let port = open(&path).await.unwrap();
    // The line discipline echoes while it is not raw, so before the open; nothing may come after it.
    let mut before = [0; 256];
    let fl = OFlag::O_RDWR | OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(fl)).unwrap();
    let _ = master.read(&mut before);
    master.write_all(b"\r\n+QIND: SMS DONE\r\n").unwrap();
    let mut modem = Modem::over(port);
    let heard = modem.listen(Duration::from_secs(5)).await.unwrap();
    assert_eq!(heard, [crate::modem::Urc::Indication("SMS DONE".into())]);
    let mut echo = [0; 16];
    assert!(master.read(&mut echo).is_err(), "the port echoed");
}
