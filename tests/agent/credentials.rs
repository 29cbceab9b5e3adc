//! `onyx-agent credentials`: what is kept, told, used by others' programs, and forgotten; keys encrypted with a systemd credential.
//!
//! The judges are OpenSSL (do certificate and key fit?), mosquitto and mosquitto_pub (mTLS with the exported files), and systemd-creds.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use onyx::bench::clouds::Cloud;
use onyx::clock::Clock;
use onyx::identity::ClientId;
use onyx::pki::{Authority, Purpose};
use onyx::provision::seal::Seal;
use onyx::provision::store::Store;
use onyx::provision::{Grant, Material};
use serde_json::Value;

use crate::krypton::asked;
use crate::mosquitto::{client, program};
use crate::mosquitto_direct::Broker;
use crate::program::command;
use crate::stage::{Agent, Bench, IMSI, OTHER_IMSI, Toml, assert_discreet, onyx_agent};

const DAY: Duration = Duration::from_secs(86_400);
const AZURE: &str = "krypton-azure";
const FILES: [&str; 3] = ["certificate.pem", "private.key", "ca.pem"];

fn time() -> Duration {
    Clock::new().now().unwrap().0
}

/// A configuration that needs no modem; `more` are further lines at its top.
fn config(bench: &Bench, more: &str) -> String {
    let d = bench.dir.path().display();
    let text = format!(
        "client_authname = 'myClient-#{{imsi}}'\nstate_dir = '{d}/state'\nstatus_socket = '{d}/agent.sock'\n{more}\
         credentials.source = '{AZURE}'\nsession.to = 'iot-hub'\n"
    );
    bench.write("credentials.toml", &text).display().to_string()
}

/// A grant for `device` by an authority that trusts nobody else, valid for `life` from `from`.
fn grant(authority: &Authority, device: &str, root_ca_pem: Option<String>, from: Duration, life: Duration) -> Grant {
    let issued = authority.issue(device, &Purpose::Device, from, life).unwrap();
    Grant {
        host: "localhost".into(),
        client_id: ClientId::new(device.into()).unwrap(),
        material: Material::Issued {
            certificate_pem: issued.chain_pem.clone(),
            private_key_pem: issued.key_pem.clone(),
        },
        root_ca_pem,
    }
}

fn authority() -> Authority {
    Authority::generate("Devices", time() - DAY, 30 * DAY).unwrap()
}

fn store(bench: &Bench, source: &'static str, imsi: &str, seal: Option<Seal>) -> Store {
    Store::new(&bench.path("state"), source, &imsi.parse().unwrap(), seal)
}

/// Keeps a good current set.
fn keep(bench: &Bench, source: &'static str, imsi: &str) {
    let store = store(bench, source, imsi, None);
    let grant = grant(&authority(), &format!("dev-{imsi}"), None, time(), DAY);
    store.stage(&grant, time()).unwrap();
    store.promote().unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn shown(config: &str) -> Value {
    let (output, out, err) = onyx_agent(&["credentials", "show", "--json", "--config", config]);
    assert!(output.status.success(), "{err}");
    serde_json::from_str(&out).unwrap()
}

fn openssl(args: &[&str], file: &Path) -> String {
    let output = Command::new(program("openssl", "openssl"))
        .args(args)
        .arg("-in")
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// OpenSSL finds a certificate, and the key that fits it.
fn openssl_approves(folder: &Path) {
    let certificate = openssl(&["x509", "-noout", "-pubkey"], &folder.join("certificate.pem"));
    let key = openssl(&["pkey", "-pubout"], &folder.join("private.key"));
    assert_eq!(certificate, key);
    assert!(key.starts_with("-----BEGIN PUBLIC KEY-----"));
}

#[test]
fn show_tells_of_every_sim_source_and_role_and_why_a_set_cannot_be_used() {
    let bench = Bench::without_dongle();
    let config = config(&bench, "");
    let (output, out, _) = onyx_agent(&["credentials", "show", "--config", &config]);
    assert!(
        output.status.success() && out.starts_with("no credentials are kept below"),
        "{out}"
    );
    keep(&bench, AZURE, IMSI);
    let azure = store(&bench, AZURE, IMSI, None);
    let old = grant(&authority(), "expired", None, time() - DAY, Duration::from_secs(60));
    azure.stage(&old, time()).unwrap();
    keep(&bench, "aws-fleet", OTHER_IMSI);
    let fleet = store(&bench, "aws-fleet", OTHER_IMSI, None);
    std::fs::write(fleet.current().join("ca.pem"), "torn").unwrap();
    let v = shown(&config);
    assert_eq!(v["source"], AZURE);
    let list = v["identities"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    let (fleet, azure) = (&list[0], &list[1]);
    assert_eq!(
        (fleet["source"].as_str(), azure["source"].as_str()),
        (Some("aws-fleet"), Some(AZURE))
    );
    let torn = &fleet["roles"]["current"];
    assert_eq!(torn["usable"], false);
    assert!(torn["why"].as_str().unwrap().contains("ca.pem"), "{torn}");
    assert!(fleet["roles"]["previous"].is_null());
    let current = &azure["roles"]["current"];
    assert_eq!(
        (&current["usable"], &current["why"], &current["sealed"]),
        (&true.into(), &Value::Null, &false.into())
    );
    assert_eq!(current["common_name"], "dev-29501********01");
    assert_eq!(current["host"], "localhost");
    let candidate = &azure["roles"]["candidate"];
    assert_eq!(
        (&candidate["usable"], candidate["client_id"].as_str()),
        (&false.into(), Some("expired"))
    );
    assert!(candidate["why"].as_str().unwrap().contains("expired on"), "{candidate}");
    let (_, out, err) = onyx_agent(&["credentials", "show", "--config", &config]);
    for want in [
        "krypton-azure of SIM 29501********01",
        "dev-29501********01 at localhost",
        "NOT USABLE: the certificate expired",
        "in clear",
    ] {
        assert!(out.contains(want), "{want:?} is not in\n{out}{err}");
    }
    assert_discreet(&(out + &err + &v.to_string()));
    // What it says of the key's file is what is there.
    assert_eq!(current["key_mode"], "0600");
    let key = store(&bench, AZURE, IMSI, None).current().join("private.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (_, out, _) = onyx_agent(&["credentials", "show", "--config", &config]);
    assert!(out.contains("OTHER USERS MAY READ IT: chmod 600"), "{out}");
    // A slip in the source must not look like a source that is empty.
    let (output, _, err) = onyx_agent(&[
        "credentials",
        "forget",
        "--yes",
        "--source",
        "krypton",
        "--config",
        &config,
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err.contains("krypton-azure, krypton-aws, dps, aws-fleet"), "{err}");
    let open = self::config(&bench, "log.identities = true\n");
    assert_eq!(shown(&open)["identities"][1]["imsi"], IMSI);
}

/// What Onyx keeps is used by another program, against another broker.
#[test]
fn exported_files_are_taken_by_openssl_and_mosquitto_pub() {
    let bench = Bench::without_dongle();
    let config = config(&bench, "");
    let devices = authority();
    let broker = Broker::trusting(&bench, None, true, &devices.root_pem());
    let roots = std::fs::read_to_string(broker.authority.file("root.pem")).unwrap();
    let store = store(&bench, AZURE, IMSI, None);
    store
        .stage(&grant(&devices, "exported-device", Some(roots), time(), DAY), time())
        .unwrap();
    // Not proven by a connection yet: nothing to export.
    let folder = bench.path("exported");
    let args = [
        "credentials",
        "export",
        "--config",
        &config,
        "--out",
        folder.to_str().unwrap(),
    ];
    let (output, _, err) = onyx_agent(&args);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("proven by a connection") && !folder.exists(), "{err}");
    store.promote().unwrap();
    let (output, out, err) = onyx_agent(&args);
    assert!(output.status.success(), "{err}");
    assert!(
        out.contains("mosquitto_pub -h localhost") && out.contains("exported-device"),
        "{out}"
    );
    assert_eq!((mode(&folder), mode(&folder.join("private.key"))), (0o700, 0o600));
    openssl_approves(&folder);
    let [certificate, key, ca] = FILES.map(|f| folder.join(f).display().to_string());
    let said = client(
        "mosquitto_pub",
        broker.tls(),
        &[
            "--cafile",
            &ca,
            "--cert",
            &certificate,
            "--key",
            &key,
            "-i",
            "exported",
            "-q",
            "1",
            "-t",
            "from/export",
            "-m",
            "hello from the export",
        ],
    );
    assert!(said.status.success(), "{}", said.text);
    broker.witness.wait_until(|text| text.contains("hello from the export"));
    // mosquitto takes the name from the certificate.
    broker
        .mosquitto
        .wait_for(&["New client connected", "as exported (", "u'exported-device'"]);
    // A second time: what is there stays.
    std::fs::write(folder.join("ca.pem"), "mine").unwrap();
    for gone in ["certificate.pem", "private.key"] {
        std::fs::remove_file(folder.join(gone)).unwrap();
    }
    let (output, _, err) = onyx_agent(&args);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("ca.pem is there already"), "{err}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "all or nothing");
    assert_eq!(std::fs::read_to_string(folder.join("ca.pem")).unwrap(), "mine");
}

#[test]
fn export_refuses_a_folder_of_others_and_asks_which_when_there_are_several() {
    let bench = Bench::without_dongle();
    let config = config(&bench, "");
    keep(&bench, AZURE, IMSI);
    keep(&bench, AZURE, OTHER_IMSI);
    let folder = bench.path("out");
    let export = |more: &[&str]| {
        let mut args = vec![
            "credentials",
            "export",
            "--config",
            &config,
            "--out",
            folder.to_str().unwrap(),
        ];
        args.extend(more);
        let (output, out, err) = onyx_agent(&args);
        (output.status.code(), out, err)
    };
    let (status, _, err) = export(&[]);
    assert!(
        status == Some(1) && err.contains("several are kept") && err.contains("--sim"),
        "{err}"
    );
    assert_discreet(&err);
    let (status, _, err) = export(&["--sim", "295012345678999"]);
    assert!(status == Some(1) && err.contains("credentials show"), "{err}");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (status, _, err) = export(&["--sim", OTHER_IMSI]);
    assert!(status == Some(1) && err.contains("other users may write"), "{err}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (status, _, err) = export(&["--sim", OTHER_IMSI, "--source", AZURE]);
    assert_eq!(status, Some(0), "{err}");
    assert_eq!(mode(&folder.join("private.key")), 0o600);
    assert!(
        !folder.join("ca.pem").exists(),
        "the system's authorities are trusted: there is no file of them"
    );
    let subject = openssl(&["x509", "-noout", "-subject"], &folder.join("certificate.pem"));
    assert!(subject.contains(OTHER_IMSI), "{subject}");
}

#[test]
fn forget_removes_what_is_meant_and_asks_before() {
    let bench = Bench::without_dongle();
    let config = config(&bench, "");
    for (source, imsi) in [(AZURE, IMSI), ("krypton-aws", IMSI), (AZURE, OTHER_IMSI)] {
        keep(&bench, source, imsi);
    }
    let key = |imsi: &str| bench.path(&format!("state/credentials/soracom-key-{imsi}.json"));
    for imsi in [IMSI, OTHER_IMSI] {
        std::fs::write(key(imsi), "{}").unwrap();
    }
    let forget = |more: &[&str]| {
        let mut args = vec!["credentials", "forget", "--config", &config];
        args.extend(more);
        let (output, out, err) = onyx_agent(&args);
        assert_discreet(&(out.clone() + &err));
        (output.status.code(), out, err)
    };
    let left = || shown(&config)["identities"].as_array().unwrap().len();
    let (status, _, err) = forget(&["--yes"]);
    assert!(
        status == Some(1) && err.contains("--sim") && err.contains("--all"),
        "{err}"
    );
    let (status, _, err) = forget(&["--sim", IMSI]);
    assert!(status == Some(1) && err.contains("--yes"), "{err}");
    assert_eq!(left(), 3);
    let (status, out, err) = forget(&["--sim", IMSI, "--source", "krypton-aws", "--yes"]);
    assert!(
        status == Some(0) && out.starts_with("removed: krypton-aws of"),
        "{out}{err}"
    );
    assert!(!out.contains("is running"), "{out}");
    assert_eq!(left(), 2);
    let (status, out, err) = forget(&["--sim", OTHER_IMSI, "--yes"]);
    assert!(status == Some(0) && out.contains("SORACOM key"), "{out}{err}");
    assert!(left() == 1 && !key(OTHER_IMSI).exists());
    let (status, ..) = forget(&["--all", "--yes"]);
    assert!(status == Some(0) && left() == 0);
    assert_eq!(std::fs::read_dir(bench.path("state/credentials")).unwrap().count(), 0);
    let (status, out, _) = forget(&["--all"]);
    assert!(status == Some(0) && out.contains("nothing to forget"), "{out}");
}

/// On a terminal it asks, and takes no for an answer.
#[test]
fn forget_on_a_terminal_asks() {
    let bench = Bench::without_dongle();
    let config = config(&bench, "");
    keep(&bench, AZURE, IMSI);
    for (answer, code, left) in [("n", 1, 1), ("", 1, 1), ("y", 0, 0)] {
        let command = format!(
            "{} credentials forget --config {config}",
            env!("CARGO_BIN_EXE_onyx-agent")
        );
        let typed = format!(
            "printf '{answer}\\n' | {} --quiet --return --echo never --command '{command}' /dev/null",
            program("script", "bsdutils").display()
        );
        let output = Command::new("sh").args(["-c", &typed]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("[y/N]"), "{said}");
        assert_eq!(output.status.code(), Some(code), "{answer}: {said}");
        assert_eq!(shown(&config)["identities"].as_array().unwrap().len(), left);
    }
}

#[test]
fn forgotten_beside_a_running_agent_they_are_fetched_after_its_restart() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let toml = Toml::krypton(&clouds, Cloud::IotHub);
    let mut events = clouds.events();
    let agent = Agent::start(&bench, &toml, &[]);
    agent.wait_acknowledged(2);
    assert_eq!(asked(&mut events), 1);
    let (output, out, err) = onyx_agent(&["credentials", "forget", "--yes", "--config", &config(&bench, "")]);
    assert!(output.status.success(), "{err}");
    assert!(
        out.contains("onyx-agent is running") && out.contains("restart"),
        "{out}"
    );
    let before = agent.status().unwrap()["delivery"]["acknowledged"].as_u64().unwrap();
    agent.wait_acknowledged(before + 2);
    agent.terminate();
    agent.ends_well();
    assert_eq!(asked(&mut events), 0, "it had them in memory");
    let agent = Agent::start(&bench, &toml, &[]);
    agent.wait_up("session");
    assert_eq!(asked(&mut events), 1, "they were fetched again");
    agent.terminate();
    agent.ends_well();
}

/// `systemd-creds encrypt`, and decrypt into a folder as systemd does it for the service; tells systemd 252 and later apart by trying.
fn decrypted_by_systemd(bench: &Bench, name: &str, secret: &[u8]) -> PathBuf {
    let creds = program("systemd-creds", "systemd");
    let run = |args: &[&str]| -> Output { Command::new(&creds).args(args).output().unwrap() };
    let plain = bench.path("plain").display().to_string();
    let encrypted = bench.path("encrypted").display().to_string();
    std::fs::write(&plain, secret).unwrap();
    let named = format!("--name={name}");
    // Neither a TPM nor the right to read the host's key is needed for the key that is none.
    let done = ["tpm2-absent", "null"].iter().any(|key| {
        run(&["encrypt", &format!("--with-key={key}"), &named, &plain, &encrypted])
            .status
            .success()
    });
    assert!(done, "systemd-creds encrypts nothing");
    assert!(
        !std::fs::read(&encrypted)
            .unwrap()
            .windows(secret.len())
            .any(|w| w == secret)
            || secret.is_empty()
    );
    let folder = bench.path("run-credentials");
    std::fs::create_dir_all(&folder).unwrap();
    let into = folder.join(name).display().to_string();
    let done = [&["decrypt"][..], &["decrypt", "--allow-null"]].iter().any(|words| {
        let args: Vec<_> = words
            .iter()
            .copied()
            .chain([named.as_str(), &encrypted, &into])
            .collect();
        run(&args).status.success()
    });
    assert!(done, "systemd-creds decrypts nothing");
    assert_eq!(std::fs::read(&into).unwrap(), secret);
    folder
}

/// The whole way: a key that systemd-creds encrypted, an agent that fetches, seals and uses, a person who looks and exports.
#[test]
fn a_systemd_credential_seals_what_the_agent_fetches() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let mut toml = Toml::krypton(&clouds, Cloud::IotHub);
    toml.credentials += "encrypt_with = 'onyx-store-key'\n";
    let secret: Vec<u8> = (0..32).map(|_| fastrand::u8(..)).collect();
    let folder = decrypted_by_systemd(&bench, "onyx-store-key", &secret);
    let mut events = clouds.events();
    let run = || {
        let path = toml.write(&bench);
        Agent::spawn(&bench, &path, &["--exit-after", "3"], |c| {
            c.env("CREDENTIALS_DIRECTORY", &folder);
        })
        .delivers(3)
    };
    run();
    assert_eq!(asked(&mut events), 1);
    let set = bench.path(&format!("state/credentials/{AZURE}-{IMSI}/current"));
    assert!(set.join("private.key.sealed").exists() && !set.join("private.key").exists());
    assert_eq!(mode(&set.join("private.key.sealed")), 0o600);
    run();
    assert_eq!(asked(&mut events), 0, "what was sealed is used");
    // By hand, without the key: everything but the key can be told, and how to get at it.
    let config = config(&bench, "credentials.encrypt_with = 'onyx-store-key'\n");
    let current = shown(&config)["identities"][0]["roles"]["current"].clone();
    assert_eq!((&current["sealed"], &current["usable"]), (&true.into(), &false.into()));
    let why = current["why"].as_str().unwrap();
    assert!(
        why.contains("$CREDENTIALS_DIRECTORY") && why.contains("LoadCredentialEncrypted=onyx-store-key"),
        "{why}"
    );
    let out = bench.path("out");
    let args = [
        "credentials",
        "export",
        "--config",
        &config,
        "--out",
        out.to_str().unwrap(),
    ];
    let (output, _, err) = onyx_agent(&args);
    assert!(
        output.status.code() == Some(1) && err.contains("encrypted") && !out.exists(),
        "{err}"
    );
    let output = command(&args).env("CREDENTIALS_DIRECTORY", &folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    openssl_approves(&out);
}

/// Another key, a short one, none, or encryption switched off: said with its cure, nothing is fetched, nothing is overwritten.
#[test]
fn a_key_that_does_not_open_them_costs_no_fetch() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let mut toml = Toml::krypton(&clouds, Cloud::IotHub);
    let plain = toml.credentials.clone();
    toml.credentials += "encrypt_with = 'onyx-store-key'\n";
    let folder = bench.path("run-credentials");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("onyx-store-key"), [1; 32]).unwrap();
    let spawn = |toml: &Toml, set: bool, args: &[&str]| {
        let path = toml.write(&bench);
        Agent::spawn(&bench, &path, args, |c| {
            c.env_remove("CREDENTIALS_DIRECTORY");
            if set {
                c.env("CREDENTIALS_DIRECTORY", &folder);
            }
        })
    };
    spawn(&toml, true, &["--exit-after", "3"]).delivers(3);
    let mut events = clouds.events();
    let sealed = bench.path(&format!("state/credentials/{AZURE}-{IMSI}/current/private.key.sealed"));
    let before = std::fs::read(&sealed).unwrap();
    let off = Toml {
        credentials: plain,
        ..toml.clone()
    };
    let cases: [(&Toml, Option<&[u8]>, &str); 4] = [
        (&toml, Some(&[2; 32]), "another key"),
        (&toml, Some(&[2; 31]), "31 bytes"),
        (&toml, None, "systemd gave this process none"),
        (&off, Some(&[1; 32]), "encrypt_with is not set"),
    ];
    for (toml, key, want) in cases {
        if let Some(key) = key {
            std::fs::write(folder.join("onyx-store-key"), key).unwrap();
        }
        let agent = spawn(toml, key.is_some(), &[]);
        agent.wait_down("credentials", &[want], &[]);
        agent.terminate();
        agent.ends_well();
        assert_eq!(asked(&mut events), 0, "{want}");
        assert_eq!(std::fs::read(&sealed).unwrap(), before, "{want}");
    }
    std::fs::write(folder.join("onyx-store-key"), [1; 32]).unwrap();
    let agent = spawn(&toml, true, &[]);
    agent.wait_up("session");
    agent.terminate();
    agent.ends_well();
    assert_eq!(asked(&mut events), 0);
}
