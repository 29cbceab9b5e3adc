//! The doors: who is let in by what, PROXY headers from Debian's haproxy, TLS with mosquitto's clients and openssl's, strangers by the
//! thousand, slow ones, and guessing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use onyx::mqtt::Connect;

use crate::certs::{Authority, Kind};
use crate::mosquitto::{Said, client, free_port, program};
use crate::stage::{A, B, IMEI, IMSI_A, IMSI_B, IMSI_T, Running, Stage, TOKEN, name};

/// The load balancer's address towards the gateway.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 71, 1);
/// Nobody's.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 71, 9);
/// The signature of PROXY v2 (haproxy's proxy-protocol.txt, section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Sends the bytes as the first ones; the return code of the CONNACK, or `None` when the connection is closed or reset without one.
fn connack(gateway: &Running, source: Ipv4Addr, bytes: &[u8]) -> Option<u8> {
    let mut stream = gateway.dial(source);
    let _ = stream.write_all(bytes);
    let mut answer = [0; 4];
    match stream.read_exact(&mut answer) {
        Ok(()) => Some(match answer {
            [0x20, 2, 0, code] => code,
            other => panic!("{other:02x?} is no CONNACK"),
        }),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("neither an answer nor an end"),
        Err(_) => None,
    }
}

fn hello(id: &str) -> Vec<u8> {
    Connect::new(id, true, 60).encode().unwrap()
}

fn with_token(id: &str, token: &str) -> Connect {
    let mut connect = Connect::new(id, true, 60);
    connect.username = Some("device".into());
    connect.password = Some(bytes::Bytes::copy_from_slice(token.as_bytes()));
    connect
}

/// A configuration with more keys in `[listen]`, and more after it.
fn config(stage: &Stage, listen: &str, more: &str) -> String {
    let text = stage.config_text(stage.upstream(), "");
    text.replace("[listen]\n", &format!("[listen]\n{listen}\n")) + more
}

/// `[listen.tls]` with a certificate of the stage's authority and its authorities for devices.
fn tls(stage: &Stage) -> String {
    let (certificate, key) = stage.authority.server();
    format!(
        "[listen.tls]\naddress = '127.0.0.1:0'\ncertificate = '{}'\nkey = '{}'\nclient_ca = '{}'\nname = 'myClient-#{{imsi}}'\n",
        certificate.display(),
        key.display(),
        stage.authority.file("clients.pem").display()
    )
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// haproxy from `ports` to the gateway, each with the way it tells whose connection it passes on.
fn haproxy(dir: &Path, to: SocketAddr, ways: &[&str]) -> (Killed, Vec<u16>) {
    let ports: Vec<u16> = ways.iter().map(|_| free_port()).collect();
    let mut conf = "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n".to_owned();
    for (n, (way, port)) in ways.iter().zip(&ports).enumerate() {
        conf += &format!("listen l{n}\n bind 127.0.0.1:{port}\n server gateway {to} source {PROXY} {way}\n");
    }
    let path = dir.join("haproxy.cfg");
    std::fs::write(&path, conf).unwrap();
    let child = Command::new(program("haproxy", "haproxy"))
        .args(["-db", "-f"])
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (Killed(child), ports)
}

fn wait_for_port(port: u16) {
    let begin = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(begin.elapsed() < crate::mosquitto::PATIENCE, "nobody listens on {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn publish(address: SocketAddr, more: &[&str]) -> Said {
    let args = [&["-d", "-V", "mqttv311", "-t", "t", "-m", "m", "-q", "1"], more].concat();
    client("mosquitto_pub", address, &args)
}

#[test]
fn haproxy_tells_who_calls() {
    let stage = Stage::new();
    let gateway = Running::start(&config(&stage, &format!("proxies = ['{PROXY}']"), ""), stage.dir.path());
    let ways = [
        "send-proxy-v2 check inter 100ms",
        "send-proxy-v2-ssl-cn",
        "send-proxy",
        "",
    ];
    let (_haproxy, ports) = haproxy(stage.dir.path(), gateway.address, &ways);
    let at = |n: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[n]));
    for port in &ports {
        wait_for_port(*port);
    }
    let (a, b) = (A.to_string(), B.to_string());
    // Two devices through one proxy, each by the address that its header tells; one with TLVs.
    assert!(publish(at(0), &["-i", "pa", "-A", &a]).status.success());
    assert!(publish(at(1), &["-i", "pb", "-A", &b]).status.success());
    for (id, imsi) in [("pa", IMSI_A), ("pb", IMSI_B)] {
        let line = stage.broker.wait_for(&["New client connected", &format!(" as {id} ")]);
        assert!(line.contains(&format!("u'{}'", name(imsi))), "{line}");
    }
    // A stranger behind the proxy is a stranger.
    assert!(
        publish(at(0), &["-i", "x", "-A", &STRANGER.to_string()])
            .text
            .contains("CONNACK (5)")
    );
    // Version 1 and no header at all are refused by name.
    let before = gateway.status.refused("proxy");
    assert!(!publish(at(2), &["-i", "x", "-A", &a]).status.success());
    assert!(!publish(at(3), &["-i", "x", "-A", &a]).status.success());
    assert!(gateway.status.refused("proxy") >= before + 2);
    // haproxy's own health checks (LOCAL) are no refusals.
    gateway.wait_until("checked", |s| s["refused"]["gone"].as_u64() > Some(2));
}

#[test]
fn bad_certificates_behind_a_proxy_count_for_whom_the_header_names() {
    let stage = Stage::new();
    let devices = stage.path("devices");
    let strangers = Authority::new(&stage.path("strangers"));
    strangers.device(Kind::Ec, "stranger", &name(IMSI_A), &devices);
    stage.authority.device(Kind::Ec, "good", &name(IMSI_A), &devices);
    let listen = format!("proxies = ['{PROXY}']\nguesses = 3");
    let text = config(&stage, &listen, &tls(&stage)).replace(&format!("source = '{A}'"), "");
    let gateway = Running::start(&text, stage.dir.path());
    let (_haproxy, ports) = haproxy(stage.dir.path(), gateway.tls.unwrap(), &["send-proxy-v2"]);
    wait_for_port(ports[0]);
    let ca = stage.authority.file("root.pem").display().to_string();
    let knock = |id: &str, source: Ipv4Addr| {
        let path = |suffix: &str| devices.join(format!("{id}.{suffix}")).display().to_string();
        let (cert, key, source) = (path("pem"), path("key"), source.to_string());
        let args = [
            "-h",
            "localhost",
            "-i",
            id,
            "--cafile",
            &ca,
            "--cert",
            &cert,
            "--key",
            &key,
            "-A",
            &source,
        ];
        publish((Ipv4Addr::LOCALHOST, ports[0]).into(), &args)
    };
    for n in 1..=3 {
        assert!(!knock("stranger", STRANGER).status.success());
        gateway.wait_until("counted", |s| s["refused"]["certificate"] == n);
    }
    // Its address is not heard any more, not even with a good certificate; the neighbour behind the same proxy is.
    assert!(!knock("good", STRANGER).status.success());
    gateway.wait_until("not heard", |s| s["refused"]["guessing"] == 1);
    let said = knock("good", A);
    assert!(said.status.success(), "{}", said.text);
}

#[test]
fn headers_that_may_not_come_or_are_wrong() {
    let stage = Stage::new();
    let gateway = Running::start(&config(&stage, &format!("proxies = ['{PROXY}']"), ""), stage.dir.path());
    let header = |family: u8, address: Ipv4Addr| {
        let mut bytes = [SIGNATURE, &[0x21, family, 0, 12]].concat();
        bytes.extend(address.octets());
        bytes.extend([127, 0, 0, 1, 0x12, 0x34, 0x07, 0x5b]);
        bytes
    };
    // From an address that is not trusted, a header gets nobody in, also not its own subscriber.
    for source in [A, STRANGER] {
        let bytes = [header(0x11, A), hello("x")].concat();
        assert_eq!(connack(&gateway, source, &bytes), None);
        assert_eq!(
            connack(&gateway, source, b"PROXY TCP4 127.0.0.11 127.0.0.1 1 2\r\n"),
            None
        );
    }
    gateway.wait_until("counted", |s| s["refused"]["proxy"] == 4);
    // From a trusted one: without an address, and none at all.
    assert_eq!(connack(&gateway, PROXY, &[header(0x00, A), hello("x")].concat()), None);
    assert_eq!(connack(&gateway, PROXY, &hello("x")), None);
    gateway.wait_until("counted", |s| s["refused"]["proxy"] == 6);
    assert_eq!(
        connack(&gateway, PROXY, &[header(0x11, A), hello("x")].concat()),
        Some(0)
    );
    // Half a header, and then nothing.
    assert_eq!(connack(&gateway, PROXY, &header(0x11, A)[..20]), None);
    gateway.wait_until("counted", |s| s["refused"]["silent"] == 1);
}

#[test]
fn the_door_with_tls_takes_certificates_tokens_and_nothing_else() {
    let stage = Stage::new();
    let devices = stage.path("devices");
    for imsi in [IMSI_A, IMSI_B] {
        stage.authority.device(Kind::Ec, &name(imsi), &name(imsi), &devices);
    }
    let strangers = Authority::new(&stage.path("strangers"));
    strangers.device(Kind::Ec, "stranger", &name(IMSI_A), &devices);
    // Known by the certificate alone: neither source nor token.
    let text = config(&stage, "", &tls(&stage)).replace(&format!("source = '{A}'"), "");
    let gateway = Running::start(&text, stage.dir.path());
    let door = gateway.tls.unwrap();
    let ca = stage.authority.file("root.pem").display().to_string();
    let publish = |id: &str, more: &[&str]| {
        let args = ["-h", "localhost", "-i", id, "--cafile", &ca];
        self::publish(door, &[&args[..], more].concat())
    };
    let files = |id: &str| {
        let path = |suffix: &str| devices.join(format!("{id}.{suffix}")).display().to_string();
        (path("pem"), path("key"))
    };
    let (cert, key) = files(&name(IMSI_A));
    for version in ["tlsv1.2", "tlsv1.3"] {
        let id = format!("cert-{version}");
        let said = publish(&id, &["--cert", &cert, "--key", &key, "--tls-version", version]);
        assert!(said.status.success(), "{}", said.text);
        let line = stage.broker.wait_for(&["New client connected", &format!(" as {id} ")]);
        assert!(line.contains(&format!("u'{}'", name(IMSI_A))), "{line}");
    }
    // Without a certificate, by token; without either, nobody.
    assert!(publish("token", &["-u", "x", "-P", TOKEN]).status.success());
    stage
        .broker
        .wait_for(&["New client connected", " as token ", &format!("u'{}'", name(IMSI_T))]);
    assert!(publish("nobody", &[]).text.contains("CONNACK (5)"));
    // The other subscriber has a source, and calls from elsewhere.
    let (cert, key) = files(&name(IMSI_B));
    assert!(
        publish("elsewhere", &["--cert", &cert, "--key", &key])
            .text
            .contains("CONNACK (5)")
    );
    let from = B.to_string();
    assert!(
        publish("there", &["--cert", &cert, "--key", &key, "-A", &from])
            .status
            .success()
    );
    // The right name from a wrong authority.
    let (cert, key) = files("stranger");
    assert!(!publish("stranger", &["--cert", &cert, "--key", &key]).status.success());
    gateway.wait_until("refused", |s| s["refused"]["certificate"] == 1);
    // openssl asks: the chain is whole, and a certificate is asked for.
    let asked = Command::new(program("openssl", "openssl"))
        .args([
            "s_client",
            "-connect",
            &door.to_string(),
            "-servername",
            "localhost",
            "-CAfile",
            &ca,
            "-verify_return_error",
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&asked.stdout);
    assert!(
        text.contains("Verify return code: 0 (ok)") && text.contains("Acceptable client certificate CA names"),
        "{text}"
    );
    // Plain MQTT there, and TLS at the plain door.
    let mut plain = TcpStream::connect(door).unwrap();
    plain.write_all(&hello("x")).unwrap();
    assert_eq!(plain.read(&mut [0; 8]).unwrap_or(0), 0);
    gateway.wait_until("refused", |s| s["refused"]["tls"].as_u64() >= Some(1));
    assert_eq!(connack(&gateway, A, b"\x16\x03\x01\x00\x05hello"), None);
    assert_eq!(gateway.status.refused("malformed"), 1);
}

#[test]
fn a_pinned_certificate_a_locked_modem_and_a_disabled_subscriber() {
    let stage = Stage::new();
    let devices = stage.path("devices");
    for id in ["pinned", "other"] {
        stage.authority.device(Kind::Ec, id, &name(IMSI_A), &devices);
    }
    let path = |id: &str, suffix: &str| devices.join(format!("{id}.{suffix}")).display().to_string();
    let said = Command::new(program("openssl", "openssl"))
        .args([
            "x509",
            "-noout",
            "-fingerprint",
            "-sha256",
            "-in",
            &path("pinned", "pem"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let fingerprint = said.trim().split_once('=').unwrap().1;
    let text = config(&stage, "", &tls(&stage))
        .replace(&format!("source = '{A}'"), &format!("certificate = '{fingerprint}'"))
        .replace(
            "source = '127.0.0.20/30'",
            &format!("source = '{B}'\nimei = '{IMEI}'\nimei_lock = true"),
        )
        .replace("token_file = 'token'", "token_file = 'token'\nenabled = false");
    let gateway = Running::start(&text, stage.dir.path());
    let ca = stage.authority.file("root.pem").display().to_string();
    for (id, good) in [("pinned", true), ("other", false)] {
        let (cert, key) = (path(id, "pem"), path(id, "key"));
        let args = [
            "-h",
            "localhost",
            "-i",
            id,
            "--cafile",
            &ca,
            "--cert",
            &cert,
            "--key",
            &key,
        ];
        let said = publish(gateway.tls.unwrap(), &args);
        assert_eq!(said.status.success(), good, "{}", said.text);
    }
    assert_eq!(gateway.status.refused("unknown_device"), 1);
    assert_eq!(connack(&gateway, B, &hello("some-client")), Some(5));
    assert_eq!(
        connack(&gateway, B, &hello(&format!("{}-{IMEI}", name(IMSI_B)))),
        Some(0)
    );
    assert_eq!(gateway.status.refused("imei_mismatch"), 1);
    assert_eq!(
        connack(&gateway, STRANGER, &with_token("t", TOKEN).encode().unwrap()),
        Some(5)
    );
    assert_eq!(gateway.status.refused("disabled"), 1);
}

#[test]
fn a_connect_byte_by_byte_and_one_that_is_too_large_are_cut() {
    let stage = Stage::new();
    let gateway = Running::start(
        &config(&stage, "", "").replace("connect_timeout = '2s'", "connect_timeout = '1s'"),
        stage.dir.path(),
    );
    let begin = Instant::now();
    let mut slow = gateway.dial(A);
    slow.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    // A CONNECT of 200 bytes at 20 a second would take ten seconds.
    let bytes = hello(&"x".repeat(186));
    let cut = bytes.iter().position(|byte| {
        std::thread::sleep(Duration::from_millis(50));
        slow.write_all(&[*byte]).is_err() || matches!(slow.read(&mut [0; 8]), Ok(0))
    });
    let took = begin.elapsed();
    assert!(
        cut.is_some() && took >= Duration::from_secs(1) && took < Duration::from_secs(4),
        "{took:?}"
    );
    assert_eq!(gateway.status.refused("silent"), 1);
    // 300 KiB are announced: not one byte of it is waited for.
    assert_eq!(connack(&gateway, A, b"\x10\x80\xe0\x12"), None);
    assert_eq!(gateway.status.refused("malformed"), 1);
}

#[test]
fn two_thousand_silent_strangers_do_not_keep_a_device_out() {
    let stage = Stage::new();
    let text = config(&stage, "max_connections = 400", "").replace("connect_timeout = '2s'", "connect_timeout = '60s'");
    let gateway = Running::start(&text, stage.dir.path());
    let mut strangers = Vec::with_capacity(2_000);
    // A device that is in stays in; one that comes in the middle of it gets in.
    let mut early = gateway.device(A, &Connect::new("early", true, 60));
    for n in 0..2_000 {
        strangers.push(gateway.dial(STRANGER));
        if n == 1_000 {
            let mut device = gateway.device(B, &Connect::new("middle", true, 60));
            assert!(device.publish(1, false, "t", b"m"));
            assert_eq!(device.next().expect("a PUBACK").bytes[0], 0x40);
        }
    }
    // A waiting device's place is not the first to go: the crowd's own are.
    let mut waiting = gateway.dial(B);
    for _ in 0..200 {
        strangers.push(gateway.dial(STRANGER));
    }
    waiting.write_all(&hello("late")).unwrap();
    let mut answer = [0; 4];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
    assert!(early.publish(1, false, "t", b"m"));
    assert_eq!(early.next().expect("a PUBACK").bytes[0], 0x40);
    // Each of the crowd made room for the next, but for the quarter of 400 that is there now; on a slow machine some are turned away
    // ("full") because those who were told to go have not gone yet.
    let count = |s: &serde_json::Value, key: &str| s["refused"][key].as_u64().unwrap_or_default();
    gateway.wait_until("they went", |s| {
        count(s, "evicted") + count(s, "full") >= 2_200 - 100 && s["open"].as_u64() <= Some(103)
    });
}

#[test]
fn one_address_holds_so_many_and_no_more() {
    let stage = Stage::new();
    let gateway = Running::start(&config(&stage, "max_per_address = 2", ""), stage.dir.path());
    let _held = [1, 2].map(|n| gateway.device(A, &Connect::new(format!("a{n}"), true, 60)));
    assert_eq!(connack(&gateway, A, b""), None);
    assert_eq!(gateway.status.refused("too_many_from_address"), 1);
    assert_eq!(connack(&gateway, B, &hello("b")), Some(0));
}

#[test]
fn guessing_is_slowed_and_good_devices_behind_the_same_address_get_in() {
    let stage = Stage::new();
    let gateway = Running::start(&config(&stage, "guesses = 3", ""), stage.dir.path());
    let guess = |source, n: u32| {
        let connect = with_token("g", &format!("wrong-token-number-{n}"));
        connack(&gateway, source, &connect.encode().unwrap())
    };
    for n in 0..3 {
        assert_eq!(guess(STRANGER, n), Some(5));
    }
    // Not heard: the right token would not help.
    let right = with_token("t", TOKEN).encode().unwrap();
    let mut quiet = gateway.dial(STRANGER);
    let _ = quiet.write_all(&right);
    assert_eq!(quiet.read(&mut [0; 4]).unwrap_or(0), 0);
    assert_eq!(
        (
            gateway.status.refused("guessing"),
            gateway.status.refused("unknown_device")
        ),
        (1, 3)
    );
    assert_eq!(connack(&gateway, A, &hello("a")), Some(0), "others do not notice");
    // Another address, where a good device is connected already: guessing goes on slowly, and a good one gets in.
    let nat = Ipv4Addr::new(127, 0, 71, 10);
    let _good = gateway.device(nat, &with_token("good", TOKEN));
    for n in 0..3 {
        assert_eq!(guess(nat, n), Some(5));
    }
    let begin = Instant::now();
    let mut tries = 0;
    loop {
        let mut stream = gateway.dial(nat);
        let _ = stream.write_all(&right);
        let mut answer = [0; 4];
        if stream.read_exact(&mut answer).is_ok() {
            assert_eq!(answer, [0x20, 2, 0, 0]);
            break;
        }
        tries += 1;
        assert!(begin.elapsed() < Duration::from_secs(5), "{tries} tries");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Once heard, the next is closed again.
    let mut stream = gateway.dial(nat);
    let _ = stream.write_all(&right);
    assert_eq!(stream.read(&mut [0; 4]).unwrap_or(0), 0);
}

#[test]
fn a_reload_changes_what_it_can_and_drops_nobody() {
    let stage = Stage::new();
    let file = stage.path("gateway.toml");
    let text = config(&stage, "", &tls(&stage));
    let gateway = Running::start(&text, stage.dir.path());
    let mut live = gateway.device(A, &Connect::new("live", true, 60));
    // The door's certificate is another one from now on.
    let ca = stage.authority.file("root.pem").display().to_string();
    let serial = || {
        let door = gateway.tls.unwrap().to_string();
        let shown = Command::new(program("openssl", "openssl"))
            .args([
                "s_client",
                "-connect",
                &door,
                "-servername",
                "localhost",
                "-CAfile",
                &ca,
            ])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let from = shown.find("-----BEGIN CERTIFICATE").expect("a certificate");
        shown[from..from + shown[from..].find("-----END").unwrap()].to_owned()
    };
    let before = serial();
    stage.authority.server();
    let stranger = Ipv4Addr::new(127, 0, 71, 20);
    assert_eq!(connack(&gateway, stranger, &hello("new")), Some(5));
    let new = "295012345678909";
    stage
        .authority
        .device(Kind::Ec, &name(new), &name(new), &stage.credentials());
    let more = format!("[[subscriber]]\nimsi = '{new}'\nsource = '{stranger}'\n");
    let text = text.replace("[status]", &format!("{more}[status]"));
    std::fs::write(
        &file,
        text.replace("max_packet = '256KiB'", "max_packet = '64KiB'\nmax_per_address = 3"),
    )
    .unwrap();
    let said = gateway.reload().unwrap();
    assert!(said.contains("reloaded: 4 subscribers"), "{said}");
    assert_eq!(connack(&gateway, stranger, &hello("new")), Some(0));
    assert_ne!(serial(), before);
    // Who was here is here.
    assert!(live.publish(1, false, "t", b"m"));
    assert_eq!(live.next().expect("a PUBACK").bytes[0], 0x40);
    // What takes a restart is named.
    std::fs::write(&file, text.replace("'127.0.0.1:0'\ndrain", "'127.0.0.1:1999'\ndrain")).unwrap();
    let said = gateway.reload().unwrap();
    assert!(said.contains("needs a restart: listen.address"), "{said}");
    // A mistake, of whatever kind, leaves all as it was.
    for (wrong, why) in [
        (
            text.replace("max_packet", "max_packets"),
            "gateway.toml:7:1: unknown key \"listen.max_packets\"",
        ),
        (text.replace("ca/root.pem", "ca/none.pem"), "upstream.ca_file"),
        (text.replace("server.key", "root.key"), "listen.tls"),
        (
            text.replace("token_file = 'token'", "token_file = 'none'"),
            "cannot read the token file",
        ),
        (format!("{text}[log]\nfilter = 'what=ever=this'\n"), "log.filter"),
    ] {
        // Less than before, and none of it counts.
        std::fs::write(&file, wrong.replace(&more, "")).unwrap();
        let e = gateway.reload().unwrap_err();
        assert!(e.contains(why), "{why:?} is not in {e}");
        assert_eq!(connack(&gateway, stranger, &hello("new")), Some(0));
    }
    assert!(live.publish(2, false, "t", b"m"));
    assert_eq!(live.next().expect("a PUBACK").bytes[0], 0x40);
}

#[test]
fn ipv6_devices_are_known_by_their_address() {
    if TcpListener::bind("[::1]:0").is_err() {
        panic!("this machine has no IPv6 loopback, which this test needs");
    }
    let stage = Stage::new();
    let text = config(&stage, "", "")
        .replace("address = '127.0.0.1:0'", "address = '[::]:0'")
        .replace("source = '127.0.0.20/30'", "source = '::1'");
    let gateway = Running::start(&text, stage.dir.path());
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), gateway.address.port());
    assert!(publish(at("::1"), &["-i", "six"]).status.success());
    stage
        .broker
        .wait_for(&["New client connected", " as six ", &format!("u'{}'", name(IMSI_B))]);
    // The same socket takes IPv4, in IPv6 clothes.
    assert!(
        publish(at("127.0.0.1"), &["-i", "four", "-A", &A.to_string()])
            .status
            .success()
    );
    stage
        .broker
        .wait_for(&["New client connected", " as four ", &format!("u'{}'", name(IMSI_A))]);
}

#[test]
fn the_api_is_served_within_bounds_and_asks_for_its_token() {
    let stage = Stage::new();
    let token = stage.path("api.token");
    onyx::files::write_atomically(&token, b"a-token-of-the-api-0123456789\n", 0o600).unwrap();
    let more = format!("[api]\naddress = '127.0.0.1:0'\ntoken_file = '{}'\n", token.display());
    let mut gateway = Running::start(&config(&stage, "", &more), stage.dir.path());
    let api = gateway.api.expect("the API's address");
    let ask = |head: &str| {
        let mut stream = TcpStream::connect(api).unwrap();
        stream.set_read_timeout(Some(crate::mosquitto::PATIENCE)).unwrap();
        write!(stream, "{head}host: {api}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let answer = ask("GET /v1/credentials HTTP/1.1\r\n");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let answer = ask("PUT /v1/credentials/x HTTP/1.1\r\ncontent-length: 100000000\r\n");
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(gateway.stop(), 0);
    assert!(
        TcpStream::connect(api).is_err(),
        "the door is closed when the gateway has stopped"
    );
}
