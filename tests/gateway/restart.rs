//! The program's ends and beginnings: reload by SIGHUP as systemd wants it, draining at SIGTERM, and a port that systemd holds over a restart.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onyx::mqtt::{Connect, split_frame};

use crate::mosquitto::{Client, PATIENCE, free_port, program};
use crate::stage::{A, B, Stage};

/// The program, with its log.
struct Program {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    notify: std::os::unix::net::UnixDatagram,
}

fn gateway(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"));
    command.args(["run", "--config"]).arg(config);
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"] {
        command.env_remove(name);
    }
    command
}

/// Collects what a program writes, line by line.
fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let log: Arc<Mutex<String>> = Arc::default();
    let into = log.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = into.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
    log
}

fn wait_until(what: &str, mut enough: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !enough() {
        assert!(begin.elapsed() < PATIENCE, "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Program {
    fn start(stage: &Stage, text: &str) -> Self {
        let config = stage.path("gateway.toml");
        std::fs::write(&config, text).unwrap();
        let notify = std::os::unix::net::UnixDatagram::bind(stage.path("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = gateway(&config);
        command.env("NOTIFY_SOCKET", stage.path("notify"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = collect(child.stderr.take().unwrap());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .strip_prefix("listening ")
            .unwrap_or_else(|| panic!("{line}{}", log.lock().unwrap()));
        Self {
            address: address.trim().parse().unwrap(),
            child,
            log,
            notify,
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Reads what systemd is told until one message has all of these.
    fn told(&self, parts: &[&str]) -> String {
        let mut buffer = [0; 1_024];
        loop {
            let n = self.notify.recv(&mut buffer).expect("systemd is told");
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if parts.iter().all(|p| text.contains(p)) {
                return text;
            }
        }
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for its end; the whole log.
    fn end(mut self) -> String {
        let mut status = None;
        wait_until("ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{}", self.log());
        wait_until("said so", || self.log().contains("stopped: "));
        self.log()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A device that calls from `source`.
fn dial(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        socket.connect(to).await.unwrap()
    });
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn packet(stream: &mut TcpStream) -> Option<u8> {
    let mut buffer = BytesMut::new();
    loop {
        if let Some(frame) = split_frame(&mut buffer, 1 << 16).unwrap() {
            return Some(frame.bytes[0]);
        }
        let mut bytes = [0; 256];
        match stream.read(&mut bytes) {
            Ok(n) if n > 0 => buffer.extend_from_slice(&bytes[..n]),
            _ => return None,
        }
    }
}

fn device(source: Ipv4Addr, to: SocketAddr, id: &str) -> TcpStream {
    let mut stream = dial(source, to);
    stream.write_all(&Connect::new(id, true, 60).encode().unwrap()).unwrap();
    assert_eq!(packet(&mut stream), Some(0x20));
    stream
}

/// A PUBLISH at QoS 1 and its PUBACK.
fn round_trip(stream: &mut TcpStream) {
    stream.write_all(b"\x32\x06\x00\x01t\x00\x07m").unwrap();
    assert_eq!(packet(stream), Some(0x40));
}

#[test]
fn sighup_reloads_as_systemd_wants_it() {
    let stage = Stage::new();
    let text = stage.config_text(stage.upstream(), "") + "[log]\nfilter = 'info'\n";
    let program = Program::start(&stage, &text);
    program.told(&["READY=1"]);
    let mut live = device(A, program.address, "live");
    assert!(!program.log().contains("DEBUG"));
    let config = stage.path("gateway.toml");
    // A mistake: told by line and column, and systemd hears that the reload is over.
    std::fs::write(&config, text.replace("imsi =", "imsy =")).unwrap();
    program.signal(Signal::SIGHUP);
    let begun = program.told(&["RELOADING=1", "MONOTONIC_USEC="]);
    assert!(begun.lines().any(|l| {
        l.strip_prefix("MONOTONIC_USEC=")
            .is_some_and(|n| n.parse::<u64>().is_ok())
    }));
    program.told(&["READY=1", "STATUS=not reloaded"]);
    wait_until("logged", || program.log().contains("not reloaded, all stays as it was"));
    assert!(program.log().contains("gateway.toml:") && program.log().contains("unknown key \"subscriber.imsy\""));
    round_trip(&mut live);
    // A good one.
    std::fs::write(&config, text.replace("'info'", "'warn'")).unwrap();
    program.signal(Signal::SIGHUP);
    program.told(&["RELOADING=1"]);
    program.told(&["READY=1", "STATUS=reloaded: 3 subscribers"]);
    round_trip(&mut live);
    // The log is quieter from now on: nobody reads that this device came.
    let mut other = device(B, program.address, "quiet-device");
    round_trip(&mut other);
    assert!(!program.log().contains("quiet-device"), "{}", program.log());
}

/// What the gateway says of itself now.
fn status(stage: &Stage) -> serde_json::Value {
    let asked = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
        .args(["status", "--json", "--socket"])
        .arg(stage.path("status.sock"))
        .output()
        .unwrap();
    serde_json::from_slice(&asked.stdout).unwrap_or_default()
}

#[test]
fn sigterm_drains_and_says_how_many() {
    let stage = Stage::new();
    let text = stage
        .config_text(stage.upstream(), "")
        .replace("drain_timeout = '0s'", "drain_timeout = '60s'");
    let program = Program::start(&stage, &text);
    let mut devices = [(A, "a1"), (B, "b")].map(|(from, id)| device(from, program.address, id));
    let mut five = dial(A, program.address);
    let mut connect = Connect::new("five", true, 60);
    connect.level = onyx::mqtt::Level::V5;
    five.write_all(&connect.encode().unwrap()).unwrap();
    assert_eq!(packet(&mut five), Some(0x20));
    let source = A.to_string();
    let real = Client::spawn(
        "mosquitto_sub",
        program.address,
        &["-d", "-V", "mqttv5", "-i", "real", "-t", "none", "-A", &source],
    );
    real.wait_until(|text| text.contains("Subscribed"));
    // One that has begun a message, which is not whole yet.
    let mut busy = device(A, program.address, "busy");
    let message = b"\x32\x0c\x00\x01t\x00\x07message";
    busy.write_all(&message[..10]).unwrap();
    let mut stranger = dial(B, program.address);
    wait_until("all are there", || {
        let status = status(&stage);
        let busy = |c: &serde_json::Value| c["client_id"] == "busy" && c["up"]["bytes"] == 10;
        status["open"] == 6 && status["connections"].as_array().is_some_and(|all| all.iter().any(busy))
    });
    for device in &mut devices {
        round_trip(device);
    }
    let begin = Instant::now();
    program.signal(Signal::SIGTERM);
    program.told(&["STOPPING=1"]);
    // Who has not said CONNECT goes at once, and so does everybody who has nothing under way: in MQTT 5 with a word.
    assert_eq!(stranger.read(&mut [0; 1]).unwrap_or(0), 0);
    for device in &mut devices {
        assert_eq!(device.read(&mut [0; 1]).unwrap(), 0, "a clean end");
    }
    let mut word = Vec::new();
    five.read_to_end(&mut word).unwrap();
    assert_eq!(word, b"\xe0\x01\x8b");
    real.wait_until(|text| text.contains("Received DISCONNECT (139)"));
    wait_until("closed the door", || TcpStream::connect(program.address).is_err());
    // The one with a message under way is waited for, and gets its PUBACK.
    busy.write_all(&message[10..]).unwrap();
    assert_eq!((packet(&mut busy), packet(&mut busy)), (Some(0x40), None));
    let log = program.end();
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert!(
        log.contains("stopped: 5 connections ended in order, 1 were cut"),
        "{log}"
    );
    // Nobody says DISCONNECT in a device's stead.
    for id in ["a1", "b", "five", "real", "busy"] {
        stage.broker.wait_for(&[&format!("Client {id} closed its connection")]);
    }
}

#[test]
fn a_second_sigterm_ends_it_at_once_and_so_does_the_time() {
    let stage = Stage::new();
    for (timeout, signals) in [("600s", 2), ("1s", 1)] {
        let _ = std::fs::remove_file(stage.path("notify"));
        let text = stage.config_text(stage.upstream(), "");
        let program = Program::start(
            &stage,
            &text.replace("drain_timeout = '0s'", &format!("drain_timeout = '{timeout}'")),
        );
        // It holds out in the middle of a message.
        let mut held = device(A, program.address, "held");
        held.write_all(b"\x32\x0b\x00\x01t\x00\x07m").unwrap();
        wait_until("the message has begun", || status(&stage)["up"]["bytes"] == 8);
        let begin = Instant::now();
        program.signal(Signal::SIGTERM);
        program.told(&["STOPPING=1"]);
        if signals == 2 {
            wait_until("it drains", || program.log().contains("may come to an end"));
            program.signal(Signal::SIGTERM);
        }
        assert_eq!(packet(&mut held), None);
        let log = program.end();
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
        assert!(
            log.contains("stopped: 0 connections ended in order, 1 were cut"),
            "{log}"
        );
    }
}

#[test]
fn a_port_that_systemd_holds_is_open_over_a_restart() {
    let stage = Stage::new();
    let config = stage.path("gateway.toml");
    // The configured port is not the one: a socket from systemd goes before it.
    std::fs::write(&config, stage.config_text(stage.upstream(), "")).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    // systemd-socket-activate opens the socket and becomes this script, which keeps it open as systemd does, and starts the program twice.
    // LISTEN_PID must be the program's own (sd_listen_fds(3)).
    let script = stage.path("service.sh");
    let line = format!(
        "sh -c 'LISTEN_PID=$$ exec {} run --config {}'\n",
        env!("CARGO_BIN_EXE_onyx-gateway"),
        config.display()
    );
    let again = stage.path("again");
    let text = format!(
        "echo \"ready $$\"\n{line}echo stopped\nwhile [ ! -e {} ]; do sleep 0.05; done\n{line}",
        again.display()
    );
    std::fs::write(&script, text).unwrap();
    let mut child = Command::new(program("systemd-socket-activate", "systemd"))
        .args(["--fdname=mqtt", "-l", &address.to_string(), "sh"])
        .arg(&script)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (out, log) = (
        collect(child.stdout.take().unwrap()),
        collect(child.stderr.take().unwrap()),
    );
    let said = |what: &str| out.lock().unwrap().matches(what).count();
    let group = Killed(child);
    // It is started by the first device, which it serves.
    wait_until("it listens", || log.lock().unwrap().contains("Listening on"));
    let mut first = device(A, address, "first");
    round_trip(&mut first);
    assert_eq!(said(&format!("listening {address}")), 1, "{}", out.lock().unwrap());
    let running = || -> i32 {
        let asked = Command::new("pgrep")
            .args(["-f", "-n"])
            .arg(format!("run --config {}", config.display()))
            .output();
        String::from_utf8(asked.unwrap().stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    kill(Pid::from_raw(running()), Signal::SIGTERM).unwrap();
    wait_until("stopped", || said("stopped") == 1);
    assert_eq!(packet(&mut first), None);
    // Nobody serves; a device connects and says what it has to say.
    let mut between = dial(B, address);
    between
        .write_all(&Connect::new("between", true, 60).encode().unwrap())
        .unwrap();
    std::fs::write(&again, "").unwrap();
    assert_eq!(packet(&mut between), Some(0x20), "{}", log.lock().unwrap());
    round_trip(&mut between);
    stage.broker.wait_for(&["New client connected", " as between "]);
    assert_eq!(said(&format!("listening {address}")), 2);
    kill(Pid::from_raw(running()), Signal::SIGTERM).unwrap();
    drop(group);
}

/// A program that ends by itself soon, or is killed.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            if let Ok(Some(_)) = self.0.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_socket_without_a_door_is_refused_by_name() {
    let stage = Stage::new();
    let config = stage.path("gateway.toml");
    std::fs::write(&config, stage.config_text(stage.upstream(), "")).unwrap();
    for (name, why) in [
        ("unknown", "set FileDescriptorName="),
        ("mqtts", "which gateway.toml does not have"),
    ] {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut child = Command::new(program("systemd-socket-activate", "systemd"))
            .args([
                &format!("--fdname={name}"),
                "-l",
                &address.to_string(),
                env!("CARGO_BIN_EXE_onyx-gateway"),
            ])
            .args(["run", "--config"])
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = collect(child.stderr.take().unwrap());
        let _ends = Killed(child);
        wait_until("it listens", || log.lock().unwrap().contains("Listening on"));
        let _caller = TcpStream::connect(address).unwrap();
        wait_until("refused by name", || log.lock().unwrap().contains(why));
    }
}
