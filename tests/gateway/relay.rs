//! The relay against a real broker: nothing acknowledged is lost, a side that stands still costs little, and everything MQTT has comes
//! through.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onyx::mqtt::{Connect, Frame, PacketType};

use crate::guide::witness;
use crate::mosquitto::{Client, PATIENCE, client};
use crate::stage::{A, B, Device, Running, Stage, Wire};

const SUBACK: PacketType = PacketType::SubAck;

/// The program, so that its memory can be measured.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    fn start(stage: &Stage, config: &str) -> Self {
        let path = stage.path("gateway.toml");
        std::fs::write(&path, config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
            .args(["run", "--config"])
            .arg(&path)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("JOURNAL_STREAM")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening ").expect("the first line").trim().parse();
        thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self {
            child,
            address: address.unwrap(),
        }
    }

    /// Resident memory, in KiB.
    fn rss(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn device(&self, source: Ipv4Addr, connect: &Connect) -> Device {
        Device::connected(crate::stage::dial(self.address, source), connect)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A whole PUBLISH; `id` is left out at QoS 0.
fn publish(qos: u8, id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    if qos > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    let mut packet = vec![0x30 | qos << 1];
    let mut length = body.len();
    loop {
        let more = if length > 127 { 0x80 } else { 0 };
        packet.push(u8::try_from(length & 0x7f).unwrap() | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn subscribe(device: &mut Device, filter: &str, qos: u8) {
    let length = u8::try_from(filter.len()).unwrap();
    let mut packet = vec![0x82, 5 + length, 0, 1, 0, length];
    packet.extend_from_slice(filter.as_bytes());
    packet.push(qos);
    device.send(&packet);
    let answer = device.next().unwrap();
    assert_eq!((answer.packet, answer.body()), (SUBACK, &[0, 1, qos][..]));
}

fn next(device: &mut Device, want: PacketType) -> Frame {
    let frame = device.next().unwrap_or_else(|| panic!("the end instead of {want:?}"));
    assert_eq!(frame.packet, want, "{frame:?}");
    frame
}

/// Everything that comes on `s/#`, as (sender, sequence number), until `enough`.
fn collect(witness: &mut Device, enough: impl Fn(&BTreeSet<(String, u16)>) -> bool) -> BTreeSet<(String, u16)> {
    let mut seen = BTreeSet::new();
    while !enough(&seen) {
        let frame = next(witness, PacketType::Publish);
        let topic = String::from_utf8(frame.publish_topic().unwrap().to_vec()).unwrap();
        let mut parts = topic.split('/').skip(1);
        seen.insert((parts.next().unwrap().to_owned(), parts.next().unwrap().parse().unwrap()));
    }
    seen
}

const STALLED: u16 = 10;
const EACH: u16 = 2_000;
const STALL: Duration = Duration::from_secs(5);
/// What 5 s of an upstream that stands still may cost (the owner's figure), in KiB.
const STALL_RSS: usize = 10 << 10;

/// Upstream stands still while ten devices have 40 MB to say: the gateway takes what fits on the way, keeps next to nothing itself, and
/// what was acknowledged arrives.
#[test]
fn an_upstream_that_stands_still_costs_little_and_loses_nothing() {
    let stage = Stage::new();
    let config = stage
        .config_text(stage.upstream(), "")
        .replace("write_timeout = '2s'", "write_timeout = '60s'");
    let gateway = Program::start(&stage, &config);
    let mut witness = Device::connected(TcpStream::connect(stage.broker.plain()).unwrap(), &Connect::new("w", true, 0));
    subscribe(&mut witness, "s/#", 0);
    let mut devices: Vec<Device> = (0..STALLED)
        .map(|n| gateway.device(A, &Connect::new(format!("d{n}"), true, 60)))
        .collect();
    let before = gateway.rss();
    let broker = Pid::from_raw(i32::try_from(stage.broker.pid()).unwrap());
    kill(broker, Signal::SIGSTOP).unwrap();
    let begin = Instant::now();
    let acked = AtomicUsize::new(0);
    let most = thread::scope(|scope| {
        for (n, device) in devices.iter_mut().enumerate() {
            let mut writer = device.stream.try_clone().unwrap();
            scope.spawn(move || {
                let payload = [b'x'; 2_000];
                for id in 1..=EACH {
                    writer.write_all(&publish(1, id, &format!("s/{n}/{id}"), &payload)).unwrap();
                }
            });
            let acked = &acked;
            scope.spawn(move || {
                let mut left: BTreeSet<u16> = (1..=EACH).collect();
                while !left.is_empty() {
                    let id = next(device, PacketType::PubAck).packet_id().unwrap();
                    assert!(left.remove(&id), "{id} was acknowledged twice");
                    acked.fetch_add(1, Relaxed);
                }
            });
        }
        let mut most = 0;
        while begin.elapsed() < STALL {
            most = most.max(gateway.rss());
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(acked.load(Relaxed), 0, "nobody but upstream acknowledges");
        kill(broker, Signal::SIGCONT).unwrap();
        let all = usize::from(STALLED) * usize::from(EACH);
        let seen = collect(&mut witness, |seen| seen.len() == all);
        assert_eq!(seen.len(), all);
        most.max(gateway.rss())
    });
    println!("before {before} KiB, at most {most} KiB, after {} KiB", gateway.rss());
    assert!(most - before < STALL_RSS, "{before} KiB before, {most} KiB in the stall");
    assert_eq!(acked.load(Relaxed), usize::from(STALLED) * usize::from(EACH));
}

/// Both lines are cut again and again while sequence numbers flow; what was acknowledged is there in the end.
#[test]
fn cuts_on_both_sides_lose_nothing_that_was_acknowledged() {
    let stage = Stage::new();
    let far = Wire::new(stage.upstream());
    let gateway = Running::start(&stage.config_text(far.address, ""), stage.dir.path());
    let mut witness = Device::connected(TcpStream::connect(stage.broker.plain()).unwrap(), &Connect::new("w", true, 0));
    subscribe(&mut witness, "s/#", 0);
    let mut acked = BTreeSet::new();
    for round in 0_u16..8 {
        let mut device = gateway.device(A, &Connect::new("cut", true, 60));
        for id in round * 100 + 1..=round * 100 + 100 {
            device.send(&publish(1, id, &format!("s/0/{id}"), b"x"));
        }
        for n in 0..50 {
            acked.insert(next(&mut device, PacketType::PubAck).packet_id().unwrap());
            if n == 30 && round % 2 == 0 {
                far.cut();
                break;
            }
        }
        if round % 2 == 1 {
            device.stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
        // What was on its way back counts as acknowledged, too.
        while let Some(frame) = device.next() {
            acked.insert(frame.packet_id().unwrap());
        }
    }
    assert!(acked.len() >= 8 * 31, "{}", acked.len());
    collect(&mut witness, |seen| acked.iter().all(|id| seen.contains(&("0".to_owned(), *id))));
    gateway.wait_until("all are gone", |s| s["open"] == 0);
}

#[test]
fn qos_2_is_upstreams_and_the_devices_own() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let mut device = gateway.device(A, &Connect::new("two", true, 60));
    subscribe(&mut device, "two", 2);
    device.send(&publish(2, 9, "two", b"once"));
    let mut seen = Vec::new();
    // Both halves of the way may come in any order.
    while seen.len() < 4 {
        let frame = device.next().unwrap();
        match frame.packet {
            PacketType::PubRec => device.send(b"\x62\x02\x00\x09"),
            PacketType::Publish => {
                assert_eq!((frame.publish_qos(), frame.publish_topic()), (2, Some(&b"two"[..])));
                let [high, low] = frame.packet_id().unwrap().to_be_bytes();
                device.send(&[0x50, 2, high, low]);
            }
            PacketType::PubRel => {
                let [high, low] = frame.packet_id().unwrap().to_be_bytes();
                device.send(&[0x70, 2, high, low]);
            }
            PacketType::PubComp => assert_eq!(frame.packet_id(), Some(9)),
            other => panic!("{other:?}"),
        }
        seen.push(format!("{:?}", frame.packet));
    }
    seen.sort();
    assert_eq!(seen, ["PubComp", "PubRec", "PubRel", "Publish"]);
}

#[test]
fn a_persistent_session_waits_upstream() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let connect = Connect::new("keeps", false, 60);
    let mut device = gateway.device(A, &connect);
    subscribe(&mut device, "inbox", 1);
    device.send(b"\xe0\x00");
    assert!(device.next().is_none());
    stage.broker.wait_for(&["keeps", "disconnected"]);
    let said = client("mosquitto_pub", stage.broker.plain(), &["-t", "inbox", "-m", "later", "-q", "1"]);
    assert!(said.status.success(), "{}", said.text);
    let mut device = Device::new(gateway.dial(A));
    device.send(&connect.encode().unwrap());
    assert_eq!(next(&mut device, PacketType::ConnAck).body(), [1, 0], "session present");
    let frame = next(&mut device, PacketType::Publish);
    assert_eq!((frame.publish_topic(), frame.publish_qos()), (Some(&b"inbox"[..]), 1));
    assert!(frame.body().ends_with(b"later"));
}

/// Two megabytes up and down again, byte for byte.
#[test]
fn a_large_payload_comes_through_both_ways() {
    let stage = Stage::new();
    let config = stage
        .config_text(stage.upstream(), "")
        .replace("max_packet = '256KiB'", "max_packet = '4MiB'");
    let gateway = Running::start(&config, stage.dir.path());
    let mut device = gateway.device(A, &Connect::new("large", true, 60));
    subscribe(&mut device, "large", 0);
    let payload: Vec<u8> = (0..2_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    device.send(&publish(1, 5, "large", &payload));
    let mut frames = [device.next_up_to(4 << 20).unwrap(), device.next_up_to(4 << 20).unwrap()];
    frames.sort_by_key(|f| f.packet == PacketType::PubAck);
    assert_eq!(frames[1].packet_id(), Some(5));
    assert!(frames[0].body().ends_with(&payload), "every byte in its place");
}

#[test]
fn a_plain_upstream_needs_no_certificate() {
    let stage = Stage::new();
    let plain = stage.broker.plain();
    let config = stage.config_text(plain, "tls = 'off'").replace("ca_file = 'ca/root.pem'\n", "");
    let gateway = Running::start(&config, stage.dir.path());
    let mut device = gateway.device(A, &Connect::new("plain", true, 60));
    device.send(&publish(1, 3, "t", b"m"));
    assert_eq!(next(&mut device, PacketType::PubAck).packet_id(), Some(3));
    let status = gateway.wait_until("it is shown", |s| s["connections"][0]["client_id"] == "plain");
    assert_eq!(status["connections"][0]["upstream"], "plain");
}

/// A device that reads slowly gets all, and its neighbour does not notice.
#[test]
fn a_slow_device_gets_everything() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let mut slow = gateway.device(A, &Connect::new("slow", true, 60));
    subscribe(&mut slow, "flood", 1);
    let mut other = gateway.device(B, &Connect::new("other", true, 60));
    let file = stage.path("flood");
    std::fs::write(&file, vec![b'x'; 200_000]).unwrap();
    let path = file.display().to_string();
    let flood = ["-t", "flood", "-f", &path, "--repeat", "60", "-q", "1"];
    assert!(Client::spawn("mosquitto_pub", stage.broker.plain(), &flood).wait().status.success());
    let mut pieces = [0; 4_096];
    let mut got = 0;
    let want = 60 * 200_000;
    while got < want {
        let n = slow.stream.read(&mut pieces).unwrap();
        assert!(n > 0, "cut off after {got} bytes");
        got += n;
        if got % 64 == 0 {
            other.send(b"\xc0\x00");
            next(&mut other, PacketType::PingResp);
        }
    }
}

/// Who ends without DISCONNECT has a will; who says DISCONNECT, even as its last bytes before a reset, has not.
#[test]
fn wills_follow_the_devices_last_word() {
    let stage = Stage::new();
    let gateway = stage.gateway();
    let witness = witness(stage.broker.plain(), "will/#", &["-q", "1", "-i", "w", "-c"]);
    let with_will = |id: &str| {
        let mut connect = Connect::new(id, true, 60);
        connect.will = Some(onyx::mqtt::Will {
            topic: format!("will/{id}"),
            payload: "gone".into(),
            qos: 1,
            retain: false,
            properties: bytes::Bytes::new(),
        });
        connect
    };
    let mut said = gateway.device(A, &with_will("said"));
    said.send(&[&publish(1, 1, "t", b"m")[..], b"\xe0\x00"].concat());
    nix::sys::socket::setsockopt(
        &said.stream,
        nix::sys::socket::sockopt::Linger,
        &nix::libc::linger { l_onoff: 1, l_linger: 0 },
    )
    .unwrap();
    stage.broker.wait_for(&["Received DISCONNECT from said"]);
    drop(said);
    drop(gateway.device(A, &with_will("silent")));
    let text = witness.wait_until(|t| t.contains("will/silent gone"));
    assert!(!text.contains("will/said"), "{text}");
}

const MANY: usize = 500;
/// More than a release build needs (its figure is in docs/speed.md), in KiB.
const IDLE_RSS: usize = 48;

#[test]
fn five_hundred_devices_idle_in_little_memory() {
    let stage = Stage::new();
    let gateway = Program::start(&stage, &stage.config_text(stage.upstream(), ""));
    let mut devices = vec![gateway.device(B, &Connect::new("first", true, 600))];
    let before = gateway.rss();
    for n in 0..MANY {
        devices.push(gateway.device(A, &Connect::new(format!("idle{n}"), true, 600)));
    }
    for device in &mut devices {
        device.send(b"\xc0\x00");
        next(device, PacketType::PingResp);
    }
    let each = (gateway.rss() - before) / MANY;
    println!("{each} KiB for each of {MANY} idle connections (this build)");
    assert!(each < IDLE_RSS, "{each} KiB for each");
    assert!(PATIENCE > STALL);
}
