//! What time it is. The agent runs under Debian's libfaketime, which puts the wall clock of one program wrong and steps it while it
//! runs, and leaves its monotonic clock alone, as a Pi's kernel does. Dongle and stand-ins have this machine's time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onyx::agent::ladder::Rung;
use onyx::bench::clouds::{Cloud, Clouds};
use serde_json::Value;

use crate::certs::Kind;
use crate::mosquitto_direct::Broker;
use crate::seqs::Arrived;
use crate::stage::{Agent, Bench, IMSI, PATIENCE, Toml, auth_name, rung_of, wait_for};
use crate::through::Gateway;
use crate::wire::Wire;

const YEAR: i64 = 365 * 86_400;
/// Seconds that a right time may differ by: the modem says whole seconds.
const NEAR: f64 = 4.0;

#[allow(clippy::disallowed_methods)]
fn true_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Seconds from now to a time.
#[allow(clippy::cast_possible_truncation)]
fn until(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_second() - true_time() as i64
}

/// A wall clock of its own for one agent.
struct Wrong<'b> {
    bench: &'b Bench,
    library: PathBuf,
}

impl<'b> Wrong<'b> {
    /// Ahead by so many seconds, or behind.
    fn by(bench: &'b Bench, ahead: i64) -> Self {
        let library = std::fs::read_dir("/usr/lib")
            .unwrap()
            .flatten()
            .map(|d| d.path().join("faketime/libfaketimeMT.so.1"))
            .find(|p| p.exists())
            .expect("libfaketime is not installed: run tests/setup");
        let wrong = Self { bench, library };
        wrong.step(ahead);
        wrong
    }

    fn step(&self, ahead: i64) {
        self.bench.write("wall-clock", &format!("{ahead:+}\n"));
    }

    /// Gives a program this clock.
    fn dress(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.bench.path("wall-clock"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }

    /// An agent that has this clock, and programs of the test's own before the system's.
    fn start(&self, toml: &Toml, args: &[&str]) -> Agent {
        let config = toml.write(self.bench);
        let path = format!(
            "{}:{}",
            self.bench.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        Agent::spawn(self.bench, &config, args, |c: &mut Command| {
            self.dress(c);
            c.env("PATH", path);
        })
    }
}

/// To Event Grid's stand-in over TLS; this machine's own NTP has no say.
fn toml(clouds: &Clouds) -> Toml {
    let mut toml = Toml::stand_in(clouds, Cloud::EventGrid);
    toml.more += "[clock]\ntrust_ntp = false\n";
    toml
}

/// A `timedatectl` that answers what stands in a file, as systemd's does: `yes` or `no`.
fn timedatectl(bench: &Bench, answer: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(bench.path("bin")).unwrap();
    bench.write("synchronised", answer);
    let says = bench.path("synchronised");
    let wanted = "show --property=NTPSynchronized --value";
    let script = bench.write(
        "bin/timedatectl",
        &format!(
            "#!/bin/sh\n[ \"$*\" = '{wanted}' ] || exit 1\ncat '{}'\n",
            says.display()
        ),
    );
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn saved_file(bench: &Bench) -> String {
    std::fs::read_to_string(bench.path("state/clock")).unwrap_or_default()
}

fn saved_before(bench: &Bench, text: &str) {
    std::fs::create_dir_all(bench.path("state")).unwrap();
    bench.write("state/clock", text);
}

fn arrived(bench: &Bench, clouds: &Clouds, n: u64) -> Arrived {
    let enough = |all: &[_]| Arrived::of_cloud(all, Cloud::EventGrid).count() >= n;
    bench.rt.block_on(clouds.wait_for_messages(PATIENCE, enough));
    Arrived::of_cloud(&clouds.messages(), Cloud::EventGrid)
}

/// Samples `1..=n` are there, each measured between `begin` and now, one after the other.
fn assert_times(arrived: &Arrived, n: u64, begin: f64) {
    assert!(
        (1..=n).all(|seq| arrived.numbers().contains(&seq)),
        "of {n} there are {:?}",
        arrived.numbers()
    );
    let mut last = begin - NEAR;
    for ((_, seq), payload) in &arrived.samples {
        let v: Value = serde_json::from_str(payload).unwrap();
        let ts = v["ts"]
            .as_f64()
            .unwrap_or_else(|| panic!("{seq} has no time: {payload}"))
            / 1_000.0;
        assert!(ts < true_time() + NEAR, "{seq}: {ts}");
        assert!(ts > last - NEAR, "{seq}: {ts} after {last}");
        last = ts;
    }
}

fn time_of(status: &Value) -> f64 {
    let time: jiff::Timestamp = status["time"].as_str().unwrap().parse().unwrap();
    time.as_second() as f64
}

/// Seconds that the agent says its system clock is ahead.
fn is_ahead(status: &Value, by: i64) -> bool {
    status["clock"]["system_ahead_s"]
        .as_i64()
        .is_some_and(|s| s.abs_diff(by) < 60)
}

fn dialled(agent: &Agent) -> usize {
    agent.log().matches("\"connecting to ").count()
}

#[test]
fn steps_of_years_while_it_delivers_change_nothing() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let toml = toml(&clouds);
    let wrong = Wrong::by(&bench, 0);
    let begin = true_time();
    let agent = wrong.start(&toml, &[]);
    agent.wait_acknowledged(5);
    for (steps, years) in (1..).zip([10, -30, 60, -56, 0]) {
        let (before, dials) = (agent.status().unwrap(), dialled(&agent));
        wrong.step(years * YEAR);
        let status = agent.wait_status("the step seen", |v| is_ahead(v, years * YEAR));
        let count = |v: &Value| v["delivery"]["acknowledged"].as_u64().unwrap();
        let after = agent.wait_acknowledged(count(&status) + 10);
        let source = if years == 0 { "system-confirmed" } else { "network" };
        assert_eq!(after["clock"]["source"], source);
        assert!((time_of(&after) - true_time()).abs() < NEAR, "{after}");
        assert!(
            after["running_s"].as_f64().unwrap() <= true_time() - begin + NEAR,
            "{after}"
        );
        // No deadline fired: the session is the same, and nothing failed.
        for rung in Rung::ALL.map(Rung::word) {
            let line = rung_of(&after, rung);
            assert_eq!(line["state"], "up", "{line}");
            assert_eq!(line["since"], rung_of(&before, rung)["since"], "{line}");
        }
        assert_eq!(dialled(&agent), dials);
        wait_for(
            "the step said",
            || (agent.log().matches("the system clock was stepped").count() == steps).then_some(()),
            || agent.log(),
        );
        // The rung says who vouches for the time by now.
        agent.wait_status("the rung's reason", |v| {
            let why = rung_of(v, "clock")["why"].as_str().unwrap().to_owned();
            if years == 0 {
                why == "system clock, which the network's time confirms"
            } else {
                why.starts_with("network time from the modem; the system clock says ")
            }
        });
        // A new handshake checks certificates by the time that is trusted.
        clouds.restart_mqtt(false);
        let status = wait_for(
            "connected again",
            || {
                let status = agent.status()?;
                (dialled(&agent) > dials && rung_of(&status, "session")["state"] == "up").then_some(status)
            },
            || agent.log(),
        );
        agent.wait_acknowledged(count(&status) + 5);
        assert!((time_of(&status) - true_time()).abs() < NEAR, "{status}");
    }
    agent.terminate();
    let ended = agent.ends_well();
    // What it complains of is what was done to it: the connections that were cut, and a machine without a thermometer.
    for line in ended
        .log
        .lines()
        .filter(|l| l.contains("\"WARN\"") || l.contains("\"ERROR\""))
    {
        let known = ["closed the connection after it worked", "CPU temperature"];
        assert!(known.iter().any(|k| line.contains(k)), "{line}");
    }
    // What was left at the end goes out with the next run: not one sample is lost.
    let left = ended.accepted - ended.acknowledged;
    wrong.step(-20 * YEAR);
    wrong
        .start(&toml, &["--exit-after", &(left + 3).to_string()])
        .ends_well();
    assert_times(&arrived(&bench, &clouds, ended.accepted), ended.accepted, begin);
}

/// The gateway's clock is a server's, and may be put right, or wrong, all the same.
#[test]
fn steps_of_years_at_the_gateway_end_no_connection() {
    let bench = Bench::new();
    let broker = Broker::new(&bench, Some("tlsv1.3"), true);
    let credentials = bench.path("credentials");
    broker
        .authority
        .device(Kind::Ec, &auth_name(), &auth_name(), &credentials);
    let wrong = Wrong::by(&bench, 0);
    let gateway = Gateway::spawn(&bench, &broker, |c| wrong.dress(c));
    let n = 200;
    let agent = Agent::until(&bench, &Toml::gateway(gateway.address), n);
    let mut acknowledged = 5;
    for years in [0, 10, -30, 60, -56] {
        wrong.step(years * YEAR);
        let status = agent.wait_acknowledged(acknowledged + 10);
        acknowledged = status["delivery"]["acknowledged"].as_u64().unwrap();
    }
    assert_eq!(dialled(&agent), 1);
    agent.delivers(n);
    let arrived = broker.wait_arrived(n);
    assert_eq!((arrived.numbers(), arrived.duplicates), ((1..=n).collect(), 0));
    let log = std::fs::read_to_string(bench.path("gateway.log")).unwrap();
    let last = log.lines().last().unwrap();
    assert!(
        last.starts_with("1970-") && last.contains("the device disconnected"),
        "{log}"
    );
}

/// Wakes with a wrong clock, and measures before there is a network.
fn wakes_wrong(ahead: i64) {
    let bench = Bench::with("[network]\nregister_after = '2s'\n");
    let clouds = bench.clouds();
    let n = 150;
    let begin = true_time();
    let agent = Wrong::by(&bench, ahead).start(&toml(&clouds), &["--exit-after", &n.to_string()]);
    agent.wait_status("samples before there is a network", |v| {
        v["delivery"]["accepted"].as_u64().unwrap() >= 3 && rung_of(v, "network")["state"] != "up"
    });
    let status = agent.wait_up("session");
    assert_eq!(status["failures"], Value::Null, "{status}");
    let status = agent.status().unwrap();
    assert_eq!(status["clock"]["source"], "network");
    assert_eq!(status["clock"]["confirmed"], true);
    assert!(is_ahead(&status, ahead), "{status}");
    assert!((time_of(&status) - true_time()).abs() < NEAR, "{status}");
    agent.delivers(n);
    assert_times(&arrived(&bench, &clouds, n), n, begin);
    assert!(saved_file(&bench).ends_with("Z network\n"), "{:?}", saved_file(&bench));
}

#[test]
fn wakes_in_1970() {
    wakes_wrong(until("1970-01-01T00:01:00Z"));
}

#[test]
fn wakes_in_2090() {
    wakes_wrong(until("2090-01-01T00:00:00Z"));
}

/// Nothing is wrong with such a time by itself: what was measured by it is corrected all the same.
#[test]
fn wakes_a_year_ahead() {
    wakes_wrong(YEAR);
}

#[test]
fn without_a_plausible_time_nobody_is_dialled() {
    let bench = Bench::with("[network]\ntime = 'none'\n");
    let clouds = bench.clouds();
    let at = clouds.address(Cloud::EventGrid).unwrap();
    let wire = Wire::new(at);
    let mut toml = toml(&clouds);
    toml.session = toml
        .session
        .replace(&format!("address = '{at}'"), &format!("address = '{}'", wire.address));
    let n = 30;
    let begin = true_time();
    let agent = Wrong::by(&bench, until("1970-01-01T00:01:00Z")).start(&toml, &["--exit-after", &n.to_string()]);
    let why = [
        "the system clock says 1970-01-01T00:0",
        "which cannot be; neither NTP nor the network has said better",
    ];
    agent.wait_down_times("clock", &why, &["wait for the network's time, or allow NTP"], 4);
    let status = agent.wait_status("all measured", |v| v["delivery"]["accepted"] == n);
    assert_eq!(status["time"], Value::Null);
    assert_eq!(status["clock"]["source"], Value::Null);
    assert_eq!(wire.connections(), 0, "no TLS before the time is plausible");
    assert_eq!(saved_file(&bench), "");
    bench.unplug();
    bench.plug("", IMSI);
    agent.delivers(n);
    assert!(wire.connections() >= 1);
    assert_times(&arrived(&bench, &clouds, n), n, begin);
}

/// The network says the time moments after it let the modem in, and the modem is otherwise asked once an hour.
#[test]
fn a_network_time_that_comes_late_is_not_waited_for_an_hour() {
    let not_yet = "[[override]]\ncommand = 'AT+QLTS=1'\nanswer = '+QLTS: \"\"'\ntimes = 1\n\
                   [[override]]\ncommand = 'AT+CCLK?'\nanswer = '+CCLK: \"80/01/06,00:00:15+00\"'\ntimes = 1\n";
    let bench = Bench::with(not_yet);
    let clouds = bench.clouds();
    let wrong = Wrong::by(&bench, until("1970-01-01T00:01:00Z"));
    let text = toml(&clouds).text(&bench).replace("poll = '1s'", "poll = '1h'");
    let config = bench.write("agent.toml", &text);
    let agent = Agent::spawn(&bench, &config, &["--exit-after", "5"], |c| wrong.dress(c));
    let ended = agent.delivers(5);
    // The log keeps what the status shows for 40 ms only.
    assert!(ended.log.contains("the system clock says 1970-01-01T"), "{}", ended.log);
    assert_eq!(bench.asked("QLTS"), 2);
}

/// A day before the last confirmed time cannot be; and where nobody ever says better, the last confirmed time is better than none.
#[test]
fn the_last_confirmed_time_is_a_floor_and_the_last_resort() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let mut toml = toml(&clouds);
    Agent::until(&bench, &toml, 3).delivers(3);
    let saved = saved_file(&bench);
    assert!(saved.ends_with("Z network\n"), "{saved:?}");
    bench.unplug();
    bench.plug("[network]\ntime = 'none'\n", IMSI);

    let wrong = Wrong::by(&bench, -86_400);
    let agent = wrong.start(&toml, &[]);
    let day = saved.split_whitespace().next().unwrap();
    agent.wait_down(
        "clock",
        &["which is before", day, "last time that was confirmed"],
        &["allow NTP"],
    );
    agent.terminate();
    agent.ends_well();
    assert_eq!(saved_file(&bench), saved, "what nobody confirms is not saved");

    toml.more += "saved_time_after = '2s'\n";
    let agent = wrong.start(&toml, &[]);
    agent.wait_down_times("clock", &["which is before", day], &[], 1);
    let status = agent.wait_acknowledged(3);
    assert_eq!(status["clock"]["source"], "saved");
    assert_eq!(status["clock"]["confirmed"], false);
    let why = rung_of(&status, "clock")["why"].as_str().unwrap().to_owned();
    assert!(why.starts_with("last confirmed time, from before the restart"), "{why}");
    assert!((true_time() - time_of(&status)) < PATIENCE.as_secs_f64(), "{status}");
    // Whoever says better is believed at once.
    bench.unplug();
    bench.plug("", IMSI);
    agent.wait_status("the network's time", |v| v["clock"]["source"] == "network");
    agent.terminate();
    agent.ends_well();
}

#[test]
fn a_saved_time_that_cannot_be_is_ignored_and_replaced() {
    for text in [
        "",
        "yesterday\n",
        "2099-01-01T00:00:00Z ntp\n",
        "1980-01-06T00:00:00Z network\n",
    ] {
        let bench = Bench::new();
        let clouds = bench.clouds();
        saved_before(&bench, text);
        let ended = Agent::until(&bench, &toml(&clouds), 3).delivers(3);
        assert!(
            ended.log.contains("state/clock is ignored: it ")
                && ended.log.contains("the next confirmed time replaces it"),
            "{text:?}: {}",
            ended.log
        );
        assert!(
            saved_file(&bench).ends_with("Z network\n"),
            "{text:?}: {:?}",
            saved_file(&bench)
        );
    }
}

#[test]
fn ntp_is_believed_before_the_network_and_after_a_step_by_hand() {
    // The network is years ahead.
    let bench = Bench::with("[network]\ntime = '2040-01-01T00:00:00Z'\n");
    let clouds = bench.clouds();
    timedatectl(&bench, "yes\n");
    let toml = Toml::stand_in(&clouds, Cloud::EventGrid);
    // In an earlier run that network was believed.
    saved_before(&bench, "2040-01-01T00:00:00Z network\n");
    let wrong = Wrong::by(&bench, 0);
    let agent = wrong.start(&toml, &[]);
    let status = agent.wait_status("NTP's word", |v| v["clock"]["source"] == "ntp");
    assert!(status["clock"]["network"].is_null() || status["clock"]["network"].as_str().unwrap().starts_with("2040"));
    agent.wait_acknowledged(5);
    wait_for(
        "NTP's time saved",
        || saved_file(&bench).ends_with("Z ntp\n").then_some(()),
        || saved_file(&bench),
    );
    assert!(saved_file(&bench).as_str() < "2040");
    // Stepped by hand: the kernel withdraws its word, and what NTP said before is carried on.
    bench.write("synchronised", "no\n");
    wrong.step(-10 * YEAR);
    let status = agent.wait_status("NTP carried on", |v| v["clock"]["source"] == "ntp-carried");
    assert!((time_of(&status) - true_time()).abs() < NEAR, "{status}");
    let n = status["delivery"]["acknowledged"].as_u64().unwrap();
    clouds.restart_mqtt(false);
    agent.wait_acknowledged(n + 20);
    // Set right again, before NTP says so, but after the kernel was asked about the step.
    wait_for(
        "the step seen",
        || agent.log().contains("the system clock was stepped").then_some(()),
        || agent.log(),
    );
    wrong.step(0);
    agent.wait_status("confirmed by NTP's word", |v| {
        v["clock"]["source"] == "system-confirmed"
    });
    agent.terminate();
    agent.ends_well();
}

/// What a network says may be wrong by years, and nobody may be there to contradict it. It can take it back.
#[test]
fn a_network_that_lied_can_correct_itself() {
    let bench = Bench::with("[network]\ntime = '2070-01-01T00:00:00Z'\n");
    let clouds = bench.clouds();
    let agent = Agent::start(&bench, &toml(&clouds), &[]);
    // The stand-in's certificate has expired by then: the clock is named, and no credentials are thrown away.
    agent.wait_status("certificates held against 2070", |v| {
        let (clock, session) = (rung_of(v, "clock"), rung_of(v, "session"));
        [clock, session].iter().any(|l| {
            l["state"] == "down"
                && l["why"].as_str().unwrap().contains("xpired")
                && l["cure"].as_str().unwrap().contains("clock")
        }) || rung_of(v, "credentials")["why"].as_str().unwrap().contains("expired")
    });
    wait_for(
        "saved",
        || saved_file(&bench).starts_with("2070").then_some(()),
        String::new,
    );
    bench.unplug();
    bench.plug("", IMSI);
    let status = agent.wait_acknowledged(5);
    assert!((time_of(&status) - true_time()).abs() < NEAR, "{status}");
    wait_for(
        "replaced",
        || (saved_file(&bench).as_str() < "2070").then_some(()),
        String::new,
    );
    agent.terminate();
    agent.ends_well();
}

/// Clippy (clippy.toml) forbids rustls' own set-up everywhere but in `src/tls.rs`. reqwest's cannot be forbidden, because that is how our
/// set-up is handed over: here each use must do so.
#[test]
fn nobody_sets_tls_up_without_our_clock() {
    fn sources(directory: &Path, all: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.path().is_dir() {
                sources(&entry.path(), all);
            } else if entry.path().extension().is_some_and(|e| e == "rs") {
                all.push(entry.path());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lint = std::fs::read_to_string(root.join("clippy.toml")).unwrap();
    for side in ["Client", "Server"] {
        for way in ["", "_with_provider", "_with_protocol_versions", "_with_details"] {
            let path = format!("\"rustls::{side}Config::builder{way}\"");
            assert!(lint.contains(&path), "clippy.toml no longer forbids {path}");
        }
    }
    let mut all = Vec::new();
    sources(&root.join("src"), &mut all);
    let (mut builders, mut set_ups) = (0, 0);
    for path in all {
        let text = std::fs::read_to_string(&path).unwrap();
        let code: String = text
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        for way in ["Client::builder()", "ClientBuilder::new()"] {
            for (at, _) in code.match_indices(way) {
                builders += 1;
                let statement = code[at..].split(';').next().unwrap();
                assert!(
                    statement.contains(".tls_backend_preconfigured("),
                    "{}: a reqwest client without onyx::tls::Client: {statement}",
                    path.display()
                );
            }
        }
        for way in ["ClientConfig::builder", "ServerConfig::builder"] {
            for (at, _) in code.match_indices(way) {
                set_ups += 1;
                assert!(
                    path.parent().unwrap().ends_with("src/tls")
                        && code[at..]
                            .split(';')
                            .next()
                            .unwrap()
                            .contains("Arc::new(clock.clone())"),
                    "{}: rustls set up without our clock",
                    path.display()
                );
            }
        }
        for way in ["reqwest::get", "Client::new()"] {
            assert!(
                !(code.contains(way) && code.contains("reqwest")),
                "{}: {way} sets TLS up without our clock",
                path.display()
            );
        }
        assert!(!code.contains("DefaultTimeProvider"), "{}", path.display());
    }
    assert!(
        builders >= 2 && set_ups == 2,
        "{builders} and {set_ups}: the search finds nothing any more"
    );
}

/// The two sides of `src/tls.rs` ask the clock that they were given: the same certificates, years on, are refused.
#[test]
fn both_sides_of_tls_ask_the_clock_they_were_given() {
    use onyx::clock::Clock;
    use onyx::tls::{Client, Clients, Identity, Server, Versions, roots};
    let dir = tempfile::tempdir().unwrap();
    let authority = crate::certs::Authority::new(dir.path());
    authority.server();
    authority.device(Kind::Ec, "device", "device", &dir.path().join("made"));
    let read = |name: &str| std::fs::read(authority.file(name)).unwrap();
    let identity = |chain: &str, key: &str| Identity::from_pem(&read(chain), &read(key), chain).unwrap();
    let rt = tokio::runtime::Runtime::new().unwrap();
    let meet = |years_client: i64, years_server: i64| {
        let clock = |years: i64| {
            let clock = Clock::new();
            clock.jump(years * YEAR * 1_000);
            clock
        };
        let client = Client {
            identity: Some(&identity("made/device.pem", "made/device.key")),
            roots: roots(&read("root.pem"), "root").unwrap(),
            versions: Versions::Both,
            alpn: &[],
        }
        .build(&clock(years_client))
        .unwrap();
        let server = Server {
            identity: &identity("server-chain.pem", "server.key"),
            clients: Clients::SignedBy(roots(&read("root.pem"), "root").unwrap()),
            versions: Versions::Both,
            alpn: &[],
        }
        .build(&clock(years_server))
        .unwrap();
        rt.block_on(async {
            let (near, far) = tokio::io::duplex(1 << 16);
            let connect = tokio_rustls::TlsConnector::from(client).connect("localhost".try_into().unwrap(), near);
            let accept = tokio_rustls::TlsAcceptor::from(server).accept(far);
            let (c, s) = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(connect, accept) })
                .await
                .unwrap();
            (c.err().map(|e| e.to_string()), s.err().map(|e| e.to_string()))
        })
    };
    assert_eq!(meet(0, 0), (None, None));
    let (client, _) = meet(40, 0);
    assert!(client.as_ref().is_some_and(|e| e.contains("xpired")), "{client:?}");
    let (_, server) = meet(0, 40);
    assert!(server.as_ref().is_some_and(|e| e.contains("xpired")), "{server:?}");
}
