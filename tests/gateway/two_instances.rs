//! Two gateways as programs, one PostgreSQL: any of them serves any device, a change through one is the other's at the next connect, one may
//! be killed, and the database may go away and come back.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onyx::clock::Clock;
use onyx::gateway::store::{Store, SubscriberRecord, TokenChange};
use serde_json::json;
use zeroize::Zeroizing;

use crate::certs::Kind;
use crate::mosquitto::{Client, client, free_port};
use crate::postgres::Postgres;
use crate::stage::{IMEI, IMSI_A, IMSI_B, Stage, client_id, name};
use crate::store::{runtime, settings, subscriber, yes};

pub const A: Ipv4Addr = Ipv4Addr::new(127, 0, 57, 11);
pub const B: Ipv4Addr = Ipv4Addr::new(127, 0, 57, 22);

/// A gateway as a program.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    fn start(stage: &Stage, name: &str, url: &str) -> Self {
        let config = stage.path(&format!("{name}.toml"));
        // Its address is its name in what it writes, so it is not left to the operating system.
        let port = free_port();
        let text = format!(
            "[listen]\naddress = '127.0.0.1:{port}'\n[store]\ndatabase = '{url}'\nkey_file = 'store.key'\n[status]\nsocket = '{name}.sock'\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"));
        command
            .args(["run", "--config"])
            .arg(&config)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("JOURNAL_STREAM");
        let log = std::fs::File::create(stage.path(&format!("{name}.log"))).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.strip_prefix("listening ").unwrap_or_else(|| {
            panic!(
                "{}",
                std::fs::read_to_string(stage.path(&format!("{name}.log"))).unwrap()
            )
        });
        let address = address.trim().parse().unwrap();
        Self { child, address }
    }

    fn signal(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes one message at QoS 1 and waits for its PUBACK.
fn publish(to: SocketAddr, from: Ipv4Addr, imsi: &str, message: &str) -> bool {
    let (id, from) = (client_id(imsi), from.to_string());
    let args = [
        "-i", &id, "-V", "mqttv311", "-t", "t", "-m", message, "-q", "1", "-A", &from,
    ];
    client("mosquitto_pub", to, &args).status.success()
}

pub async fn fill(stage: &Stage, store: &Store) {
    let group = "fleet".parse().unwrap();
    store.put_group(&group, "").await.unwrap();
    let beam = json!({
        "name": "x", "enabled": true, "destination": format!("mqtts://localhost:{}", stage.broker.tls_port),
        "username": "myClient-#{imsi}", "useClientCert": true,
        "clientCerts": {"default": {"$credentialsId": "myClient-#{imsi}"}}
    });
    let pairs = vec![("mqtt://beam.soracom.io:1883".to_owned(), beam)];
    store
        .put_configuration(&group, "SoracomBeam", pairs, yes())
        .await
        .unwrap();
    for imsi in [IMSI_A, IMSI_B] {
        credential(stage, store, imsi).await;
    }
    store
        .put_subscriber(&device(IMSI_A, A), TokenChange::Keep)
        .await
        .unwrap();
}

pub async fn credential(stage: &Stage, store: &Store, imsi: &str) {
    let read = |file: String| std::fs::read_to_string(stage.credentials().join(file)).unwrap();
    let secret = json!({
        "key": read(format!("{}.key", name(imsi))), "cert": read(format!("{}.pem", name(imsi))),
        "ca": std::fs::read_to_string(stage.authority.file("root.pem")).unwrap()
    });
    let id = name(imsi).parse().unwrap();
    store
        .put_credential(&id, "x509", "", Zeroizing::new(secret.to_string()), None, false)
        .await
        .unwrap();
}

pub fn device(imsi: &str, from: Ipv4Addr) -> SubscriberRecord {
    SubscriberRecord {
        imei: Some(IMEI.parse().unwrap()),
        imei_lock: true,
        group: Some("fleet".parse().unwrap()),
        source: Some(from.to_string().parse().unwrap()),
        ..subscriber(imsi)
    }
}

#[test]
fn any_gateway_serves_any_device_and_one_may_be_killed() {
    let stage = Stage::new();
    let server = Postgres::shared();
    let url = server.url(&server.database());
    let runtime = runtime();
    let settings = settings(
        stage.dir.path(),
        &format!("database = '{url}'\nkey_file = 'store.key'\n"),
    );
    let store = runtime.block_on(Store::open(&settings, &Clock::new())).unwrap();
    runtime.block_on(fill(&stage, &store));
    let mut one = Program::start(&stage, "one", &url);
    let mut two = Program::start(&stage, "two", &url);
    let (first, second) = (one.address, two.address);
    assert!(publish(first, A, IMSI_A, "1") && publish(second, A, IMSI_A, "2"));

    // A change is everybody's at the next connect: a new device, a removed one, a rotated credential.
    assert!(!publish(first, B, IMSI_B, "not yet"));
    runtime
        .block_on(store.put_subscriber(&device(IMSI_B, B), TokenChange::Keep))
        .unwrap();
    assert!(publish(second, B, IMSI_B, "3") && publish(first, B, IMSI_B, "4"));
    let off = SubscriberRecord {
        enabled: false,
        ..device(IMSI_B, B)
    };
    runtime.block_on(store.put_subscriber(&off, TokenChange::Keep)).unwrap();
    assert!(!publish(first, B, IMSI_B, "no more") && !publish(second, B, IMSI_B, "no more"));
    runtime
        .block_on(store.put_subscriber(&device(IMSI_B, B), TokenChange::Keep))
        .unwrap();
    stage
        .authority
        .device(Kind::Ec, &name(IMSI_B), "rotated", &stage.credentials());
    runtime.block_on(credential(&stage, &store, IMSI_B));
    assert!(publish(second, B, IMSI_B, "5"));
    stage.broker.wait_for(&["New client connected", "u'rotated'"]);

    // A group that is broken is out by itself.
    let bad = vec![(
        "mqtt://beam.soracom.io:1883".to_owned(),
        json!({"enabled": true, "destination": "nonsense"}),
    )];
    runtime.block_on(async {
        let id = "bad".parse().unwrap();
        store.put_group(&id, "").await.unwrap();
        store.put_configuration(&id, "SoracomBeam", bad, yes()).await.unwrap();
    });
    assert!(publish(first, A, IMSI_A, "6"));
    let log = std::fs::read_to_string(stage.path("one.log")).unwrap();
    assert!(log.contains("group bad cannot be used"), "{log}");

    // One is killed while devices are on it: they come back on the other.
    let held = Client::spawn(
        "mosquitto_sub",
        first,
        &["-d", "-i", &client_id(IMSI_A), "-t", "t", "-A", &A.to_string()],
    );
    held.wait_until(|t| t.contains("Subscribed"));
    one.signal(Signal::SIGKILL);
    let again = Client::spawn(
        "mosquitto_sub",
        second,
        &["-d", "-i", &client_id(IMSI_A), "-t", "t", "-A", &A.to_string()],
    );
    again.wait_until(|t| t.contains("Subscribed"));
    assert!(publish(second, B, IMSI_B, "to the one who came back"));
    again.wait_until(|t| t.contains("to the one who came back"));
    // And it comes back itself, to the same store.
    let mut one = Program::start(&stage, "one", &url);
    assert!(publish(one.address, B, IMSI_B, "7"));
    drop(again);
    // Who was seen, and where, is in the store when they end.
    two.signal(Signal::SIGTERM);
    one.signal(Signal::SIGTERM);
    let seen = runtime.block_on(store.subscribers(None, 10)).unwrap().items;
    let at: Vec<_> = seen.iter().map(|s| s.last_seen.clone().unwrap_or_default().1).collect();
    assert!(
        at[0].ends_with(&second.to_string()) && at[1].ends_with(&one.address.to_string()),
        "{at:?}"
    );
    let used = runtime.block_on(store.credentials(None, 10)).unwrap().items;
    assert!(used.iter().all(|c| c.last_used.is_some()), "{used:?}");
    let log = std::fs::read_to_string(stage.path("two.log")).unwrap();
    for secret in [IMSI_A, IMSI_B, IMEI] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[test]
fn the_database_goes_away_and_comes_back_under_load() {
    let stage = Stage::new();
    let server = Postgres::start(None);
    let url = server.url(&server.database());
    let runtime = runtime();
    let settings = settings(
        stage.dir.path(),
        &format!("database = '{url}'\nkey_file = 'store.key'\n"),
    );
    let store = runtime.block_on(Store::open(&settings, &Clock::new())).unwrap();
    runtime.block_on(fill(&stage, &store));
    let gateways = [Program::start(&stage, "one", &url), Program::start(&stage, "two", &url)];
    let [first, second] = [gateways[0].address, gateways[1].address];
    assert!(publish(first, A, IMSI_A, "warm") && publish(second, A, IMSI_A, "warm"));
    let witness = Client::spawn(
        "mosquitto_sub",
        stage.broker.plain(),
        &["-d", "-q", "1", "-t", "t", "-i", "witness"],
    );
    witness.wait_until(|t| t.contains("Subscribed"));
    // A known device calls all the time, at one gateway and the other.
    let (stop, sent, failed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let load = std::thread::spawn({
        let (stop, sent, failed) = (stop.clone(), sent.clone(), failed.clone());
        move || {
            while !stop.load(SeqCst) {
                let n = sent.load(SeqCst);
                let to = [first, second][n % 2];
                if publish(to, A, IMSI_A, &format!("message-{n}.")) {
                    sent.fetch_add(1, SeqCst);
                } else {
                    failed.fetch_add(1, SeqCst);
                }
            }
        }
    });
    let wait_for = |more: usize| {
        let until = sent.load(SeqCst) + more;
        while sent.load(SeqCst) < until && failed.load(SeqCst) == 0 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    wait_for(6);
    server.stop();
    wait_for(12);
    // Status tells.
    let status = || -> serde_json::Value {
        let mut status = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"));
        status.args(["status", "--json", "--socket"]);
        let said = status.arg(stage.path("one.sock")).output().unwrap();
        serde_json::from_slice(&said.stdout).unwrap()
    };
    let said = status();
    assert!(
        said["store"]["away"]["why"].is_string() && said["store"]["away"]["closed"] == false,
        "{said}"
    );
    server.again();
    wait_for(6);
    server.restart("immediate");
    wait_for(6);
    stop.store(true, SeqCst);
    load.join().unwrap();
    let (sent, failed) = (sent.load(SeqCst), failed.load(SeqCst));
    assert_eq!(
        failed,
        0,
        "of {sent}: {}",
        std::fs::read_to_string(stage.path("one.log")).unwrap()
    );
    witness.wait_until(|t| (0..sent).all(|n| t.contains(&format!("message-{n}."))));
    // A change after it is seen again, as soon as the gateway has asked.
    runtime
        .block_on(store.put_subscriber(&device(IMSI_B, B), TokenChange::Keep))
        .unwrap();
    // Before it has asked, the new device would be a stranger there, and its address slowed for guessing.
    let began = std::time::Instant::now();
    while !status()["store"]["away"].is_null() {
        assert!(
            began.elapsed() < crate::mosquitto::PATIENCE,
            "the store stays away: {}",
            status()
        );
    }
    assert!(publish(first, B, IMSI_B, "new"));
    let log = std::fs::read_to_string(stage.path("one.log")).unwrap();
    let told = log.matches("the store does not answer").count();
    assert!(
        (1..=3).contains(&told),
        "once for each time it went away, not for each device ({told}):\n{log}"
    );
    assert!(log.contains("the store answers again"), "{log}");
}
