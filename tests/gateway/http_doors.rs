//! The doors for HTTP: what a reload changes at them, and who is nobody there. curl asks, openssl looks. Sources are 127.0.89.0/24.

use std::path::Path;
use std::process::Command;

use onyx::mqtt::Connect;

use crate::mosquitto::program;
use crate::stage::{A, IMSI_A, IMSI_T, Running, Stage, TOKEN};

/// The token of the API, before and after.
const FIRST: &str = "first-api-token-0123456789";
const SECOND: &str = "second-api-token-0123456789";
/// A load balancer's address.
const BALANCER: &str = "127.0.89.2";
/// A device's.
const DEVICE: &str = "127.0.89.3";

fn secret(path: &Path, text: &str) {
    onyx::files::write_atomically(path, format!("{text}\n").as_bytes(), 0o600).unwrap();
}

/// `onyx-gateway ca …`.
fn ca(args: &[&str]) {
    let said = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
        .arg("ca")
        .args(args)
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// An authority below the stage's folder, in the place of the one that was there.
fn authority(stage: &Stage, name: &str) {
    let dir = stage.path("field");
    let _ = std::fs::remove_dir_all(&dir);
    ca(&["init", "--dir", dir.to_str().unwrap(), "--name", name]);
}

/// curl's status and body.
fn curl(args: &[&str]) -> (u16, String) {
    let said = Command::new(program("curl", "curl"))
        .args(["-sS", "-k", "-m", "20", "-w", "\n%{http_code}"])
        .args(args)
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8(said.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

const AWS: &str = "[provisioning.aws]\nhost = 'x-ats.iot.eu-west-1.amazonaws.com'\n";

#[test]
fn a_reload_rotates_token_authority_and_certificate_and_drops_nobody() {
    let stage = Stage::new();
    secret(&stage.path("api.token"), FIRST);
    authority(&stage, "Before");
    let (certificate, key) = stage.authority.server();
    let text = stage
        .config_text(stage.upstream(), "")
        .replace("status.sock", "own.sock")
        + "[api]\naddress = '127.0.0.1:0'\ntoken_file = 'api.token'\n"
        + &format!(
            "[provisioning]\naddress = '127.0.0.1:0'\nca = 'field'\nper_day = 2\ncertificate = '{}'\nkey = '{}'\n{AWS}",
            certificate.display(),
            key.display()
        );
    let file = stage.path("gateway.toml");
    std::fs::write(&file, &text).unwrap();
    let gateway = Running::start(&text, stage.dir.path());
    let mut live = gateway.device(A, &Connect::new("live", true, 60));
    let (api, door) = (gateway.api.unwrap(), gateway.provisioning.unwrap());
    let asks = |token: &str| {
        let bearer = format!("Authorization: Bearer {token}");
        curl(&["-H", &bearer, &format!("http://{api}/metrics")]).0
    };
    let login = serde_json::json!({"authKeyId": "x", "authKey": FIRST}).to_string();
    let json = "Content-Type: application/json";
    let (status, said) = curl(&["-H", json, "-d", &login, &format!("http://{api}/v1/auth")]);
    assert_eq!(status, 200, "{said}");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let session = said["token"].as_str().unwrap().to_owned();
    assert_eq!((asks(FIRST), asks(&session), asks(SECOND)), (200, 200, 401));

    let bearer = format!("Authorization: Bearer {TOKEN}");
    let bootstrap = || {
        curl(&[
            "-X",
            "POST",
            "-H",
            &bearer,
            &format!("https://{door}/v1/provisioning/aws/iot/bootstrap"),
        ])
    };
    let issuer = |answer: &str| {
        let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
        let pem = stage.path("got.pem");
        std::fs::write(&pem, answer["certificate"].as_str().unwrap()).unwrap();
        let said = Command::new(program("openssl", "openssl"))
            .args(["x509", "-noout", "-issuer", "-in"])
            .arg(&pem)
            .output()
            .unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    let shown = || {
        let said = Command::new(program("openssl", "openssl"))
            .args(["s_client", "-connect", &door.to_string(), "-servername", "localhost"])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let from = said.find("-----BEGIN CERTIFICATE").expect("a certificate");
        said[from..from + said[from..].find("-----END").unwrap()].to_owned()
    };
    let (status, answer) = bootstrap();
    assert_eq!(status, 200, "{answer}");
    assert!(issuer(&answer).contains("Before"), "{}", issuer(&answer));
    let before = shown();

    // The files change; nothing does before the reload.
    secret(&stage.path("api.token"), SECOND);
    authority(&stage, "After");
    stage.authority.server();
    assert_eq!((asks(FIRST), asks(SECOND)), (200, 401));
    let said = gateway.reload().unwrap();
    assert!(!said.contains("restart"), "{said}");
    assert_eq!((asks(FIRST), asks(&session), asks(SECOND)), (401, 401, 200));
    assert_ne!(shown(), before);
    let (status, answer) = bootstrap();
    assert_eq!(status, 200, "{answer}");
    assert!(issuer(&answer).contains("After"), "{}", issuer(&answer));
    // Two a day: what was given out before the reload counts.
    assert_eq!(bootstrap().0, 429);
    // Who was here is here.
    assert!(live.publish(1, false, "t", b"m"));
    assert_eq!(live.next().expect("a PUBACK").bytes[0], 0x40);

    // What takes a restart is named, and the rest of its section is taken.
    let moved = text
        .replace(
            "[api]\naddress = '127.0.0.1:0'",
            "[api]\nopen_metrics = true\naddress = '127.0.0.1:1998'",
        )
        .replace(
            "[provisioning]\naddress = '127.0.0.1:0'",
            "[provisioning]\naddress = '127.0.0.1:1997'",
        );
    assert_ne!(moved, text);
    std::fs::write(&file, moved).unwrap();
    let said = gateway.reload().unwrap();
    assert!(
        said.ends_with("needs a restart: api.address, provisioning.address"),
        "{said}"
    );
    assert_eq!(curl(&[&format!("http://{api}/metrics")]).0, 200, "open now");
    // A mistake in any of the files leaves all as it was.
    std::fs::write(&file, &text).unwrap();
    secret(&stage.path("api.token"), "short");
    let e = gateway.reload().unwrap_err();
    assert!(e.contains("api.token_file") && e.contains("5 bytes"), "{e}");
    assert_eq!(asks(SECOND), 200);
    secret(&stage.path("api.token"), FIRST);
    std::fs::remove_file(stage.path("field/intermediate.key")).unwrap();
    let e = gateway.reload().unwrap_err();
    assert!(e.contains("provisioning.ca"), "{e}");
    assert_eq!((asks(SECOND), curl(&[&format!("http://{api}/metrics")]).0), (200, 200));
}

#[test]
fn nobody_is_known_by_a_balancers_address() {
    let stage = Stage::new();
    authority(&stage, "Field");
    // The first subscriber's range holds the balancer and the device; the third has a token and a source.
    let text = stage
        .config_text(stage.upstream(), "")
        .replace(
            "[listen]\n",
            &format!("[listen]\nproxies = ['{BALANCER}']\nguesses = 3\n"),
        )
        .replace(&format!("source = '{A}'"), "source = '127.0.89.0/24'")
        .replace(
            "[status]",
            "[[subscriber]]\nimsi = '295012345678904'\nsource = '127.0.89.0/24'\ntoken_file = 'bound'\n[status]",
        )
        + &format!("[provisioning]\naddress = '127.0.0.1:0'\nca = 'field'\n{AWS}");
    secret(&stage.path("bound"), "token-bound-to-its-source");
    let gateway = Running::start(&text, stage.dir.path());
    let url = format!(
        "http://{}/v1/provisioning/aws/iot/bootstrap",
        gateway.provisioning.unwrap()
    );
    let ask = |from: &str, token: Option<&str>| {
        let bearer = token.map(|t| format!("Authorization: Bearer {t}"));
        let header: Vec<&str> = bearer.iter().flat_map(|b| ["-H", b.as_str()]).collect();
        curl(&[&["-X", "POST", "--interface", from, &url], &header[..]].concat())
    };
    let name = |answer: &str| serde_json::from_str::<serde_json::Value>(answer).unwrap()["clientId"].clone();
    let (status, answer) = ask(DEVICE, None);
    assert_eq!(
        (status, name(&answer)),
        (200, format!("thing-{IMSI_A}").into()),
        "{answer}"
    );
    // As often as it likes: nothing was guessed.
    for _ in 0..5 {
        let (status, answer) = ask(BALANCER, None);
        assert_eq!(status, 401, "{answer}");
        assert!(answer.contains("load balancer (listen.proxies)"), "{answer}");
    }
    let (status, answer) = ask(BALANCER, Some(TOKEN));
    assert_eq!(
        (status, name(&answer)),
        (200, format!("thing-{IMSI_T}").into()),
        "{answer}"
    );
    // Where its device is, nobody can tell through the balancer.
    let (status, answer) = ask(BALANCER, Some("token-bound-to-its-source"));
    assert!(status == 401 && answer.contains("load balancer"), "{answer}");
    assert_eq!(ask(DEVICE, Some("token-bound-to-its-source")).0, 200);
    // A wrong token is a guess, and does not fall back on the address.
    for n in 0..3 {
        let (status, answer) = ask(BALANCER, Some(&format!("wrong-token-number-{n}")));
        assert!(status == 401 && answer.contains("no subscriber"), "{answer}");
    }
    assert_eq!(ask(BALANCER, Some(TOKEN)).0, 429, "guesses are counted");
    assert_eq!(ask(DEVICE, Some("token-bound-to-its-source")).0, 200);
}
