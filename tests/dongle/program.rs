//! `onyx-bench dongle` as a program.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::peer::{PATIENCE, Peer};

struct Program {
    child: Child,
    first_line: String,
}

impl Program {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onyx-bench"))
            .arg("dongle")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first_line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first_line)
            .unwrap();
        Self { child, first_line }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn status(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the program does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Processor time used so far, in clock ticks (proc(5): fields 14 and 15, counted after the name in parentheses).
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already ended, if the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_says_where_it_is_answers_and_leaves_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let (link, log) = (dir.path().join("at"), dir.path().join("log.jsonl"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut program = Program::start(&[
        "--link",
        &text(&link),
        "--log",
        &text(&log),
        "--boot-time",
        "0s",
        "--sim-ready-after",
        "0s",
        "--register-after",
        "0s",
        "--imsi",
        "295051111122222",
        "--imei",
        "353338970000001",
        "--iccid",
        "89423100220000123456",
        "--operator",
        "TEST NET",
        "--plmn",
        "00101",
        "--rsrp",
        "-111",
        "--firmware",
        "EG25GGBR07A07M2G",
        "--network-time",
        "2030-01-02T03:04:05Z",
    ]);
    assert_eq!(program.first_line, format!("dongle ready: {}\n", link.display()));
    let mut peer = Peer::open(&link);
    peer.expect("PB DONE\r\n");
    peer.send("ATE0\r");
    peer.expect("OK\r\n");
    for (command, answer) in [
        ("AT+CIMI", "295051111122222"),
        ("AT+CGSN", "353338970000001"),
        ("AT+QCCID", "+QCCID: 89423100220000123456"),
        ("AT+CGMR", "EG25GGBR07A07M2G"),
        ("AT+COPS?", "+COPS: 0,0,\"TEST NET\",7"),
        ("AT+CSQ", "+CSQ: 16,99"),
    ] {
        peer.send(&format!("{command}\r"));
        assert_eq!(peer.expect("\r\n\r\nOK\r\n"), format!("\r\n{answer}\r\n\r\nOK\r\n"));
    }
    peer.send("AT+QENG=\"servingcell\"\r");
    assert!(peer.expect("OK\r\n").contains("\"FDD\",001,01,"));
    peer.send("AT+QLTS=1\r");
    assert!(peer.expect("OK\r\n").contains("+QLTS: \"2030/01/02,03:04:"));

    program.signal(Signal::SIGTERM);
    assert!(program.status().success());
    peer.expect_hang_up();
    assert!(std::fs::symlink_metadata(&link).is_err(), "the link stays");

    let lines: Vec<serde_json::Value> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 9);
    assert_eq!(lines[1]["command"], "AT+CIMI");
    assert_eq!(lines[1]["answer"], "\r\n295051111122222\r\n\r\nOK\r\n");
    assert!(lines[1]["t_ms"].is_u64());
}

#[test]
fn json_for_machines_and_sigint() {
    let mut program = Program::start(&["--json"]);
    let ready: serde_json::Value = serde_json::from_str(&program.first_line).unwrap();
    assert_eq!(ready["event"], "ready");
    assert_eq!(ready["imei"], "123456789011111");
    let path = PathBuf::from(ready["path"].as_str().unwrap());
    let mut peer = Peer::open(&path);
    peer.expect("RDY");
    program.signal(Signal::SIGINT);
    assert!(program.status().success());
}

#[test]
fn a_dongle_at_rest_uses_no_processor_time() {
    let program = Program::start(&[
        "--boot-time",
        "0s",
        "--sim-ready-after",
        "0s",
        "--register-after",
        "0s",
        "--json",
    ]);
    let ready: serde_json::Value = serde_json::from_str(&program.first_line).unwrap();
    let mut peer = Peer::open(Path::new(ready["path"].as_str().unwrap()));
    peer.expect("PB DONE");
    // A host that opened the port and one that closed it again.
    let before = program.ticks();
    std::thread::sleep(Duration::from_millis(500));
    drop(peer);
    std::thread::sleep(Duration::from_millis(500));
    let used = program.ticks() - before;
    // A busy loop would use about 100 ticks in this second.
    assert!(used <= 3, "{used} ticks");
    program.signal(Signal::SIGTERM);
}

/// 3GPP TS 35.208 test set 2.
const SIM: &str = "[sim]\nk = '0396eb317b6d1c36f19c1c84cd6ffd16'\nopc = '53c15671c60a4b731c55b4a441c0bde2'\nimsi = '440101234567890'\n";

#[test]
fn a_card_has_the_secrets_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let (file, log) = (dir.path().join("sim.toml"), dir.path().join("log"));
    std::fs::write(&file, SIM).unwrap();
    let apdu = "008800812210C00D603103DCEE52C4478119494202E810";
    let options = [
        "--sim-k",
        "0396eb317b6d1c36f19c1c84cd6ffd16",
        "--sim-opc",
        "53c15671c60a4b731c55b4a441c0bde2",
    ];
    let by_file = ["--sim", file.to_str().unwrap()];
    for (args, imsi) in [(&by_file[..], "440101234567890"), (&options[..], "295012345678901")] {
        let quick = [
            "--json",
            "--boot-time",
            "0s",
            "--sim-ready-after",
            "0s",
            "--log",
            log.to_str().unwrap(),
        ];
        let program = Program::start(&[args, &quick].concat());
        assert!(!program.first_line.to_lowercase().contains("0396eb"));
        let ready: serde_json::Value = serde_json::from_str(&program.first_line).unwrap();
        let mut peer = Peer::open(Path::new(ready["path"].as_str().unwrap()));
        peer.expect("PB DONE");
        peer.send("ATE0\rAT+CIMI\r");
        peer.expect(imsi);
        peer.expect("OK\r\n");
        peer.send("AT+CCHO=\"A0000000871002\"\r");
        peer.expect("\r\n+CCHO: 1\r\n\r\nOK\r\n");
        // AUTN of set 2 itself: its SQN is too far ahead of a card that begins at 0, so the card asks to be followed.
        let autn = "39F96CD9800FAF175DF5B31807E258B0";
        peer.send(&format!("AT+CGLA=1,78,\"{apdu}{autn}\"\r"));
        peer.expect("\r\n+CGLA: 4,\"6110\"\r\n\r\nOK\r\n");
        peer.send("AT+CGLA=1,10,\"00C0000010\"\r");
        // The card's number is 0, so AUTS begins with AK* of the set.
        peer.expect("+CGLA: 36,\"DC0E30F1197061C1");
        peer.expect("9000\"\r\n\r\nOK\r\n");
    }
}

#[test]
fn mistakes_are_told_in_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("bad.toml");
    std::fs::write(&scenario, "[sim]\nready_afer = '1s'\n").unwrap();
    let sim = dir.path().join("sim.toml");
    std::fs::write(&sim, SIM).unwrap();
    let sim = sim.to_str().unwrap();
    for (args, wanted) in [
        (
            vec!["--scenario", scenario.to_str().unwrap()],
            vec!["bad.toml", "line 2, column 1", "ready_afer"],
        ),
        (
            vec!["--scenario", "/nonexistent/x.toml"],
            vec!["cannot read the scenario /nonexistent/x.toml"],
        ),
        (vec!["--imsi", "12"], vec!["14 or 15 digits"]),
        (vec!["--sim-k", "00", "--sim-opc", "00"], vec!["K has 2 characters"]),
        (vec!["--sim-k", "00112233445566778899aabbccddeeff"], vec!["--sim-opc"]),
        (
            vec!["--sim", "/nonexistent/sim.toml"],
            vec!["cannot read the SIM file /nonexistent/sim.toml"],
        ),
        (
            vec!["--sim", sim, "--sim", sim],
            vec!["a dongle has one card", "not 2 times"],
        ),
        (vec!["--register-after", "soon"], vec!["1500ms"]),
        (
            vec!["--link", "/nonexistent/at"],
            vec!["cannot make the link /nonexistent/at"],
        ),
        (
            vec!["--log", "/nonexistent/log"],
            vec!["cannot write the log /nonexistent/log"],
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_onyx-bench"))
            .arg("dongle")
            .args(&args)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{args:?}");
        for part in wanted {
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }
}

#[test]
fn the_help_describes_scenarios() {
    let output = Command::new(env!("CARGO_BIN_EXE_onyx-bench"))
        .args(["dongle", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8_lossy(&output.stdout);
    for part in [
        "--sim-ready-after",
        "[[event]]",
        "lose-network",
        "[[override]]",
        "[usim]",
        "--sim-k",
    ] {
        assert!(help.contains(part), "{part} is not in {help}");
    }
}
