//! The port and its link: opening, closing, unplugging, nobody reading.

use std::time::{Duration, Instant};

use onyx::bench::dongle::scenario::{Event, Scenario};
use onyx::bench::dongle::{Config, Dongle, DongleError, PortError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::block_in_place;
use tokio_serial::SerialPortBuilderExt;

use crate::peer::{PATIENCE, Peer, QUICK};

fn config(scenario: &str) -> Config {
    Config {
        scenario: Scenario::parse(scenario).unwrap(),
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_the_host_came_waits_in_the_port() {
    let dongle = Dongle::start(config(QUICK)).unwrap();
    let path = dongle.path().unwrap();
    block_in_place(|| {
        let mut peer = Peer::open(&path);
        let boot = peer.expect("+QIND: PB DONE\r\n");
        assert!(
            boot.starts_with("\r\nRDY\r\n\r\n+CFUN: 1\r\n\r\n+CPIN: READY\r\n"),
            "{boot:?}"
        );
        peer.send("AT+CGSN\r");
        assert_eq!(peer.expect("OK\r\n"), "AT+CGSN\r\r\n123456789011111\r\n\r\nOK\r\n");
        assert_eq!(peer.unread(), b"");
    });
    dongle.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_survives_a_host_that_closes_it() {
    let dongle = Dongle::start(config(QUICK)).unwrap();
    let path = dongle.path().unwrap();
    block_in_place(|| {
        for round in 0..20 {
            let mut peer = Peer::open(&path);
            // ATE0 is kept from round to round: it is the same modem.
            peer.send("ATE0\rAT+CIMI\r");
            assert!(
                peer.expect("295012345678901\r\n\r\nOK\r\n").contains("OK"),
                "round {round}"
            );
        }
    });
    dongle.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unplugging_hangs_the_host_up_and_takes_the_link_away() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("onyx-at");
    let mut dongle = Dongle::start(Config {
        link: Some(link.clone()),
        ..config(QUICK)
    })
    .unwrap();
    assert_eq!(std::fs::read_link(&link).unwrap(), dongle.path().unwrap());
    let mut peer = Peer::open(&link);
    block_in_place(|| peer.expect("RDY"));

    dongle
        .inject(Event::Unplug(Some(Duration::from_millis(200))))
        .await
        .unwrap();
    dongle.wait_plugged(false).await.unwrap();
    block_in_place(|| peer.expect_hang_up());

    let path = dongle.wait_plugged(true).await.unwrap().unwrap();
    assert_eq!(std::fs::read_link(&link).unwrap(), path);
    let mut peer = Peer::open(&link);
    block_in_place(|| {
        peer.expect("RDY");
        peer.expect("+CPIN: READY");
        peer.send("AT\r");
        peer.expect("AT\r\r\nOK\r\n");
    });

    dongle.inject(Event::Unplug(None)).await.unwrap();
    assert_eq!(dongle.path(), None);
    assert!(
        std::fs::symlink_metadata(&link).is_err(),
        "an unplugged dongle has no link"
    );
    dongle.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_or_dropped_dongle_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("onyx-at");
    let with_link = || Config {
        link: Some(link.clone()),
        ..config(QUICK)
    };
    // A link left by a killed simulator is replaced.
    std::os::unix::fs::symlink("/nowhere", &link).unwrap();
    let dongle = Dongle::start(with_link()).unwrap();
    dongle.stop().await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    drop(Dongle::start(with_link()).unwrap());
    let deadline = Instant::now() + PATIENCE;
    while std::fs::symlink_metadata(&link).is_ok() {
        assert!(Instant::now() < deadline, "the link of a dropped dongle stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    // A file that is no link is somebody's own.
    std::fs::write(&link, "mine").unwrap();
    let error = Dongle::start(with_link()).unwrap_err();
    assert!(
        matches!(error, DongleError::Port(PortError::LinkTaken { .. })),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_never_reads_costs_nothing_and_can_come_back() {
    let dongle = Dongle::start(config(QUICK)).unwrap();
    let path = dongle.path().unwrap();
    block_in_place(|| {
        let mut peer = Peer::open(&path);
        peer.expect("PB DONE");
        peer.send("ATE0\r");
        let mut sent = 0;
        let deadline = Instant::now() + PATIENCE;
        // Far more answers than the port and the modem keep.
        while sent < 200_000 {
            match peer.flood("AT+CGSN\r") {
                Ok(count) => sent += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
            assert!(
                Instant::now() < deadline,
                "the dongle stopped reading after {sent} bytes"
            );
        }
        // A cut command line, should there be one, ends here.
        peer.send("\r");
        // The host reads again; what was dropped is lost, the dialogue goes on.
        peer.expect("123456789011111\r\n\r\nOK\r\n");
        let deadline = Instant::now() + PATIENCE;
        loop {
            peer.send("AT+QGMR\r");
            if peer.expect("OK\r\n").contains("EG25GGBR07A08M2G_30.203.30.203") {
                break;
            }
            assert!(Instant::now() < deadline, "the dialogue did not recover");
        }
    });
    dongle.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_and_noise_reach_the_host_as_they_are() {
    let scenario =
        "boot_time = '0s'\n[sim]\nready_after = '0s'\n[line]\nchunk = 1\n[noise]\nnul_at_start = 2\nbetween = '00ff0a'";
    let dongle = Dongle::start(config(scenario)).unwrap();
    let path = dongle.path().unwrap();
    block_in_place(|| {
        let mut peer = Peer::open(&path);
        assert!(peer.expect("RDY").starts_with("\0\0\r\nRDY"));
        peer.expect("PB DONE\r\n");
        peer.send("AT+CGMI\r");
        // The slave is raw: nothing is translated, not even the lone LF.
        assert_eq!(
            peer.expect("OK\r\n"),
            "AT+CGMI\r\0\u{fffd}\n\r\nQuectel\r\n\0\u{fffd}\n\r\nOK\r\n"
        );
    });
    dongle.stop().await.unwrap();
}

/// Opens the port by the library, which locks it. The tests beside this one start programs, and between fork and exec such a child holds
/// copies of all our descriptors, with the lock of the one that was just closed: so a refused lock is asked for again.
async fn open_locked(path: &str) -> tokio_serial::SerialStream {
    let opened = async {
        loop {
            match tokio_serial::new(path, 115_200).open_native_async() {
                Ok(serial) => return serial,
                Err(e) if e.kind == tokio_serial::ErrorKind::NoDevice => tokio::task::yield_now().await,
                Err(e) => panic!("{e}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, opened)
        .await
        .expect("the lock is never free")
}

/// The serial library sets its own termios and takes the port for itself; both must be possible, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_serial_library_can_open_it_again_and_again() {
    let dongle = Dongle::start(config(QUICK)).unwrap();
    let path = dongle.path().unwrap();
    for round in 0..5 {
        let mut serial = open_locked(path.to_str().unwrap()).await;
        serial.write_all(b"ATE0\rAT+CIMI\r").await.unwrap();
        let mut heard = Vec::new();
        let dialogue = async {
            while !String::from_utf8_lossy(&heard).contains("\r\n295012345678901\r\n\r\nOK\r\n") {
                assert_ne!(
                    serial.read_buf(&mut heard).await.unwrap(),
                    0,
                    "hung up in round {round}"
                );
            }
        };
        let result = tokio::time::timeout(PATIENCE, dialogue).await;
        assert!(result.is_ok(), "round {round}: {:?}", String::from_utf8_lossy(&heard));
    }
    dongle.stop().await.unwrap();
}
