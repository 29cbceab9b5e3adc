//! The program: what it prints, what it answers, how it ends.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::certs::Kind;
use crate::mosquitto::client;
use crate::stage::{A, IMEI, IMSI_A, IMSI_B, Stage, TOKEN, client_id, name};

fn gateway(args: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"));
    command
        .args(args)
        .arg("--config")
        .arg(config)
        .env_remove("NOTIFY_SOCKET")
        .env_remove("JOURNAL_STREAM");
    command
}

fn output(args: &[&str], config: &Path) -> (Output, String) {
    let output = gateway(args, config).output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, text)
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn run_status_and_sigterm() {
    let stage = Stage::new();
    let config = stage.path("gateway.toml");
    std::fs::write(&config, stage.config_text(stage.upstream(), "")).unwrap();
    let notify = std::os::unix::net::UnixDatagram::bind(stage.path("notify")).unwrap();
    notify.set_read_timeout(Some(crate::mosquitto::PATIENCE)).unwrap();
    let mut command = gateway(&["run"], &config);
    command
        .env("NOTIFY_SOCKET", stage.path("notify"))
        .env("WATCHDOG_USEC", "1000000")
        .env_remove("WATCHDOG_PID");
    let mut child = Killed(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let address = line
        .strip_prefix("listening ")
        .expect("the first line")
        .trim()
        .parse()
        .unwrap();
    let mut told = String::new();
    let mut buffer = [0; 512];
    while !(told.contains("READY=1") && told.contains("WATCHDOG=1")) {
        let n = notify.recv(&mut buffer).expect("systemd is told");
        told += &String::from_utf8_lossy(&buffer[..n]);
    }
    let (id, from) = (client_id(IMSI_A), A.to_string());
    let args = [
        "-i", &id, "-V", "mqttv311", "-t", "t", "-m", "m", "-q", "1", "-A", &from,
    ];
    assert!(client("mosquitto_pub", address, &args).status.success());
    let said = client(
        "mosquitto_pub",
        address,
        &[
            "-i",
            "stranger",
            "-u",
            "x",
            "-P",
            "a-token-nobody-has",
            "-t",
            "t",
            "-m",
            "m",
        ],
    );
    assert!(!said.status.success());
    let held = crate::mosquitto::Client::spawn("mosquitto_sub", address, &["-d", "-i", &id, "-t", "t", "-A", &from]);
    held.wait_until(|t| t.contains("Subscribed"));

    let (out, text) = output(&["status", "--json"], &config);
    assert!(out.status.success(), "{text}");
    let status: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (status["open"].as_u64(), status["refused"]["unknown_device"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(status["connections"][0]["imsi"], "29501********01");
    let (_, text) = output(&["status"], &config);
    assert!(text.contains("29501********01 myClient-29501********01-"), "{text}");
    // A second one does not take the first one's port or socket.
    let (out, text) = output(&["run"], &config);
    assert!(
        !out.status.success() && text.contains("another instance already answers"),
        "{text}"
    );

    kill(Pid::from_raw(child.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let mut log = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(child.0.wait().unwrap().success(), "{log}");
    for part in [
        "connected",
        "refused: no subscriber has this address",
        "SIGTERM",
        "stopped: 1 connections ended in order, 0 were cut",
    ] {
        assert!(log.contains(part), "{part:?} is not in\n{log}");
    }
    for secret in [IMSI_A, IMEI, TOKEN, "a-token-nobody-has"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    assert!(!stage.path("status.sock").exists());
    let (out, text) = output(&["status"], &config);
    assert!(
        !out.status.success() && text.contains("no onyx-gateway is running"),
        "{text}"
    );
}

#[test]
fn check_says_what_is_wrong_with_each_subscriber() {
    let stage = Stage::new();
    let config = stage.path("gateway.toml");
    std::fs::write(&config, stage.config_text(stage.upstream(), "")).unwrap();
    let (out, text) = output(&["check"], &config);
    assert!(out.status.success() && text.contains("0 errors"), "{text}");
    // 20 days are left: worth a warning.
    assert!(text.contains("the certificate expires in 19 days"), "{text}");

    stage
        .authority
        .device(Kind::V1, &name(IMSI_A), "another", &stage.credentials());
    std::fs::remove_file(stage.credentials().join(format!("{}.key", name(IMSI_B)))).unwrap();
    let token = stage.path("token");
    std::fs::write(&token, "short").unwrap();
    let (out, text) = output(&["check"], &config);
    assert_eq!(out.status.code(), Some(1), "{text}");
    for want in [
        "X.509 version 1",
        "CN=\"another\"",
        "ERROR   credential: cannot read",
        "must have 16 to 256",
        "2 errors",
    ] {
        assert!(text.contains(want), "{want:?} is not in\n{text}");
    }
    let (out, _) = output(&["check", "--json"], &config);
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (report["worst"].as_str(), report["subscribers"][0]["imsi"].as_str()),
        (Some("error"), Some(IMSI_A))
    );

    std::fs::write(&config, "[listen]\nadress = 'x'\n").unwrap();
    let (out, text) = output(&["check"], &config);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text.contains("gateway.toml:2:1: unknown key \"listen.adress\"; did you mean \"address\"?"),
        "{text}"
    );
    let (out, _) = output(&["check", "--json"], &config);
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (out.status.code(), report["configuration"][0]["line"].as_u64()),
        (Some(1), Some(2))
    );
}

#[test]
fn check_looks_at_the_doors_and_says_what_to_do() {
    let stage = Stage::new();
    let config = stage.path("gateway.toml");
    let secret = |name: &str, text: &str| {
        onyx::files::write_atomically(&stage.path(name), format!("{text}\n").as_bytes(), 0o600).unwrap();
    };
    let chmod = |name: &str, mode: u32| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(stage.path(name), permissions).unwrap();
    };
    let run = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
            .args(args)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    };
    let ca = stage.path("field").display().to_string();
    run(&["ca", "init", "--dir", &ca, "--name", "Field"]);
    run(&[
        "ca",
        "server",
        "--dir",
        &ca,
        "--out",
        stage.dir.path().to_str().unwrap(),
        "gw.example",
    ]);
    secret("api.token", "a-token-of-the-api-0123456789");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = nobody.local_addr().unwrap();
    let text = stage.config_text(stage.upstream(), "")
        + &format!(
            "[listen.tls]\naddress = '127.0.0.1:0'\ncertificate = 'gw.example.pem'\nkey = 'gw.example.key'\nclient_ca = 'ca/clients.pem'\n\
             [api]\naddress = '127.0.0.1:0'\ntoken_file = 'api.token'\n\
             [provisioning]\naddress = '127.0.0.1:0'\ncertificate = 'gw.example.pem'\nkey = 'gw.example.key'\nca = 'field'\n\
             [provisioning.azure.dps]\nid_scope = '0ne1'\naddress = '{there}'\nca_file = 'ca/root.pem'\n"
        );
    std::fs::write(&config, &text).unwrap();
    let (out, said) = output(&["check"], &config);
    assert!(out.status.success(), "{said}");
    for want in [
        "ok      listen.tls.certificate: ",
        "gw.example.key fit each other",
        "days left, until ",
        "ok      listen.tls.key: ",
        // The stage's root has 30 days.
        "WARNING listen.tls.client_ca: of 2 authorities in ",
        "; add its successor",
        "ok      api.token_file: ",
        "ok      provisioning.ca: ",
        "intermediate.key is for its owner alone (mode 600)",
    ] {
        assert!(said.contains(want), "{want:?} is not in\n{said}");
    }
    assert!(!said.contains("provisioning.reach"), "only if asked:\n{said}");
    let (out, said) = output(&["check", "--reach"], &config);
    assert!(
        out.status.success() && said.contains(&format!("ok      provisioning.reach: {there} answers")),
        "{said}"
    );
    drop(nobody);

    // One after another: the verdict, and what to do, in words and in JSON.
    let whole = |name: &str| std::fs::read(stage.path(name)).unwrap();
    let put = |name: &str, bytes: &[u8]| onyx::files::write_atomically(&stage.path(name), bytes, 0o600).unwrap();
    let (key, token, intermediate) = (
        whole("gw.example.key"),
        whole("api.token"),
        whole("field/intermediate.key"),
    );
    let another = std::fs::read(stage.credentials().join(format!("{}.key", name(IMSI_A)))).unwrap();
    type Break<'a> = Box<dyn Fn() + 'a>;
    let cases: [(&str, &str, &str, &str, Break<'_>); 7] = [
        (
            "error",
            "api.token_file",
            "has 5 bytes; it must have 16 to 256",
            "openssl rand -hex 32",
            Box::new(|| secret("api.token", "short")),
        ),
        (
            "error",
            "api.token_file",
            "may be read by others (mode 644)",
            "run 'chmod 600 ",
            Box::new(|| chmod("api.token", 0o644)),
        ),
        (
            "error",
            "listen.tls.certificate",
            "does not fit the certificate",
            "made for it",
            Box::new(|| put("gw.example.key", &another)),
        ),
        (
            "warning",
            "listen.tls.key",
            "may be read by others (mode 640)",
            "run 'chmod 600 ",
            Box::new(|| chmod("gw.example.key", 0o640)),
        ),
        (
            "error",
            "provisioning.key",
            "cannot read",
            "ca server",
            Box::new(|| std::fs::remove_file(stage.path("gw.example.key")).unwrap()),
        ),
        (
            "error",
            "provisioning.ca",
            "is not there, and it signs",
            "bring it back",
            Box::new(|| std::fs::remove_file(stage.path("field/intermediate.key")).unwrap()),
        ),
        (
            "warning",
            "provisioning.ca",
            "may be read by others (mode 644)",
            "run 'chmod 600 ",
            Box::new(|| chmod("field/intermediate.key", 0o644)),
        ),
    ];
    for (level, id, message, cure, harm) in &cases {
        for (name, bytes) in [
            ("gw.example.key", &key),
            ("api.token", &token),
            ("field/intermediate.key", &intermediate),
        ] {
            put(name, bytes);
        }
        harm();
        let (out, said) = output(&["check"], &config);
        assert_eq!(out.status.success(), *level == "warning", "{said}");
        let mark = if *level == "error" { "ERROR  " } else { "WARNING" };
        let line = said
            .lines()
            .find(|l| l.starts_with(&format!("{mark} {id}: ")) && l.contains(message));
        let line = line.unwrap_or_else(|| panic!("{mark} {id} {message:?} is not in\n{said}"));
        assert!(line.contains(cure), "{cure:?} is not in {line}");
        let (out, _) = output(&["check", "--json"], &config);
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let found = report["gateway"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["level"] == *level && f["id"] == *id && f["message"].as_str().unwrap().contains(message));
        let found = found.unwrap_or_else(|| panic!("{id} is not in {report:#}"));
        assert!(found["cure"].as_str().unwrap().contains(cure), "{found}");
    }
    // A host that does not answer, asked for.
    for (name, bytes) in [
        ("gw.example.key", &key),
        ("api.token", &token),
        ("field/intermediate.key", &intermediate),
    ] {
        put(name, bytes);
    }
    let (out, said) = output(&["check", "--reach"], &config);
    assert!(
        !out.status.success() && said.contains(&format!("ERROR   provisioning.reach: {there} cannot be reached")),
        "{said}"
    );
}
