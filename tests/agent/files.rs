//! An operator's files, made by openssl in every form that people have: those that can be used connect to mosquitto and to openssl's own
//! server, those that cannot are called by their name by `onyx-agent check`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use onyx::clock::Clock;
use onyx::config::agent::Files;
use onyx::identity::Subscriber;
use onyx::mqtt::Connect;
use onyx::tls::{Client, Versions};
use rustls_pki_types::ServerName;

use crate::certs::{Authority, Kind};
use crate::mosquitto::{Mosquitto, Tls, free_port};
use crate::mosquitto_direct::Broker;
use crate::stage::{Agent, Bench, IMSI, OTHER_IMSI, PATIENCE, Toml, auth_name, onyx_agent, wait_for};

fn openssl(folder: &Path, line: &str) {
    let out = Command::new("openssl")
        .current_dir(folder)
        .args(line.split(' '))
        .output()
        .expect("openssl: apt-get install openssl");
    assert!(
        out.status.success(),
        "openssl {line}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// An authority and one device, in a folder.
struct Desk {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(&dir.path().join("ca"));
        Self { dir, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn openssl(&self, line: &str) {
        openssl(self.dir.path(), line);
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        onyx::files::write_atomically(&self.path(name), content.as_ref(), 0o600).unwrap();
    }

    /// Makes `device.key` as the line says, and `device.pem` for it: leaf and intermediate, or the leaf alone as version 1.
    fn device(&self, key: &str, v1: bool) {
        self.openssl(&format!("{key} -out device.key"));
        self.openssl(&format!(
            "req -new -key device.key -subj /CN={} -out device.csr",
            auth_name()
        ));
        let sign = "x509 -req -in device.csr -CA ca/intermediate.pem -CAkey ca/intermediate.key -CAcreateserial -days 20 -out leaf.pem";
        let extensions = if v1 {
            ""
        } else {
            " -extfile ca/ext.cnf -extensions device"
        };
        self.openssl(&format!("{sign}{extensions}"));
        self.write("device.pem", self.read("leaf.pem") + &self.read("ca/intermediate.pem"));
    }

    fn files(&self) -> Files {
        let template = |name: &str| self.path(name).to_str().unwrap().parse().unwrap();
        Files {
            certificate: template("device.pem"),
            key: template("device.key"),
        }
    }
}

fn who() -> Subscriber {
    Subscriber {
        imsi: IMSI.parse().unwrap(),
        imei: None,
        iccid: None,
    }
}

/// TLS with the files as the agent reads them; what is sent, and what comes back until it is enough.
fn talk(
    desk: &Desk,
    at: SocketAddr,
    versions: Versions,
    send: &[u8],
    enough: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, String> {
    let clock = Clock::new();
    let ca = std::fs::read(desk.authority.file("root.pem")).unwrap();
    let given = desk
        .files()
        .load(&who(), Some(&ca), clock.now().unwrap().0)
        .map_err(|e| e.to_string())?;
    let config = Client {
        identity: Some(&given.identity),
        roots: given.roots,
        versions,
        alpn: &[],
    }
    .build(&clock)
    .unwrap();
    let mut socket = TcpStream::connect(at).map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = rustls::ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    stream.write_all(send).map_err(|e| e.to_string())?;
    let mut got = Vec::new();
    let mut buffer = [0; 4_096];
    while !enough(&got) {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(format!("closed after {:?}", String::from_utf8_lossy(&got))),
            Ok(n) => got.extend_from_slice(&buffer[..n]),
            Err(e) => return Err(format!("{e} after {:?}", String::from_utf8_lossy(&got))),
        }
    }
    Ok(got)
}

/// `openssl s_server`, which requires a certificate and tells over HTTP what it saw.
struct SServer {
    child: Child,
    at: SocketAddr,
}

impl SServer {
    fn start(authority: &Authority) -> Self {
        let (chain, key) = authority.server();
        let port = free_port();
        let child = Command::new("openssl")
            .args([
                "s_server",
                "-www",
                "-Verify",
                "4",
                "-verify_return_error",
                "-accept",
                &format!("127.0.0.1:{port}"),
            ])
            .arg("-CAfile")
            .arg(authority.file("root.pem"))
            .arg("-cert")
            .arg(authority.file("server.pem"))
            .arg("-cert_chain")
            .arg(&chain)
            .arg("-key")
            .arg(&key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let up = || TcpStream::connect(at).ok();
        wait_for("openssl s_server listens", up, String::new);
        Self { child, at }
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The forms of a key, as openssl's commands make them, and the first line of the file.
const FORMS: [(&str, &str); 8] = [
    ("genrsa -traditional", "RSA PRIVATE KEY"),
    ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072", "PRIVATE KEY"),
    ("ecparam -name prime256v1 -genkey -noout", "EC PRIVATE KEY"),
    ("ecparam -name prime256v1 -genkey", "EC PARAMETERS"),
    ("ecparam -name secp384r1 -genkey", "EC PARAMETERS"),
    ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", "PRIVATE KEY"),
    ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384", "PRIVATE KEY"),
    ("genpkey -algorithm ED25519", "PRIVATE KEY"),
];

#[test]
fn every_form_of_key_is_shown_to_openssl_and_mosquitto() {
    let desk = Desk::new();
    let server = SServer::start(&desk.authority);
    let (certificate, key) = (
        desk.authority.file("server-chain.pem"),
        desk.authority.file("server.key"),
    );
    let tls = Tls {
        client_ca: desk.authority.file("root.pem"),
        certificate,
        key,
        version: None,
        identity_as_username: true,
    };
    let broker = Mosquitto::start(desk.dir.path(), Some(tls));
    let mqtt = SocketAddr::from(([127, 0, 0, 1], broker.tls_port));
    for (n, (form, first)) in FORMS.into_iter().enumerate() {
        for v1 in [false, true] {
            desk.device(form, v1);
            assert!(
                desk.read("device.key").starts_with(&format!("-----BEGIN {first}-----")),
                "{form}"
            );
            // As an editor on Windows leaves it, in no order.
            let shuffled = [
                "ca/root.pem",
                "ca/intermediate.pem",
                "leaf.pem",
                "ca/v1root.pem",
                "ca/intermediate.pem",
            ]
            .map(|f| desk.read(f));
            let straight = desk.read("device.pem");
            for text in [straight, format!("\u{feff}{}", shuffled.concat().replace('\n', "\r\n"))] {
                desk.write("device.pem", text);
                for versions in [Versions::Only12, Versions::Only13] {
                    let get = b"GET / HTTP/1.0\r\n\r\n";
                    let end = |got: &[u8]| got.windows(7).any(|w| w == b"</HTML>" || w == b"</html>");
                    let page = talk(&desk, server.at, versions, get, end);
                    let page = page.unwrap_or_else(|e| panic!("{form}, v1 {v1}, {versions:?}: {e}"));
                    let page = String::from_utf8_lossy(&page).into_owned();
                    assert!(page.contains(&auth_name()), "{form} {versions:?}: {page}");
                }
                let id = format!("form-{n}-{v1}");
                let connect = Connect::new(id.clone(), true, 60);
                let bytes = connect.encode().unwrap();
                let got = talk(&desk, mqtt, Versions::Both, &bytes, |got| got.len() >= 4)
                    .unwrap_or_else(|e| panic!("{form}: {e}"));
                assert_eq!(got[..4], [0x20, 2, 0, 0], "{form}");
                broker.wait_for(&[
                    "New client connected",
                    &format!("as {id} ("),
                    &format!("u'{}'", auth_name()),
                ]);
            }
        }
    }
}

#[test]
fn the_agent_puts_a_shuffled_chain_in_order_and_says_so_once() {
    let bench = Bench::new();
    let broker = Broker::new(&bench, Some("tlsv1.2"), true);
    broker
        .authority
        .device(Kind::Rsa, "device", &auth_name(), bench.dir.path());
    let key = bench.path("device.key");
    openssl(bench.dir.path(), "rsa -traditional -in device.key -out pkcs1.key");
    std::fs::rename(bench.path("pkcs1.key"), &key).unwrap();
    assert!(
        std::fs::read_to_string(&key)
            .unwrap()
            .starts_with("-----BEGIN RSA PRIVATE KEY")
    );
    let read = |name: &str| std::fs::read_to_string(bench.path(name)).unwrap();
    let shuffled = [
        read("ca/v1root.pem"),
        read("ca/intermediate.pem"),
        read("ca/device.pem"),
        read("ca/root.pem"),
    ]
    .concat();
    bench.write("device.pem", &shuffled);
    let mut toml = Toml::files("event-grid", broker.tls());
    toml.delivery += "topic = 'exampletopics/topic1'\n";
    let ended = Agent::until(&bench, &toml, 20).delivers(20);
    broker.wait_arrived(20);
    for words in [
        "stood as number 3",
        "are no authorities of this certificate: CN=Root CA for IoT",
    ] {
        assert_eq!(ended.log.matches(words).count(), 1, "{words:?}:\n{}", ended.log);
    }
}

/// `onyx-agent check` of these files with fixed paths: status and what it printed.
fn check(desk: &Desk, credentials: &str, session: &str) -> (bool, String) {
    let d = desk.dir.path().display();
    desk.write(
        "agent.toml",
        format!("client_authname = 'myClient-#{{imsi}}'\nstate_dir = '{d}/state'\n[credentials]\n{credentials}\n[session]\n{session}\n"),
    );
    let (output, out, err) = onyx_agent(&["check", "--config", desk.path("agent.toml").to_str().unwrap()]);
    (output.status.success(), out + &err)
}

fn event_grid(desk: &Desk) -> (bool, String) {
    let d = desk.dir.path().display();
    let credentials = format!("source = 'files'\ncertificate = '{d}/device.pem'\nkey = '{d}/device.key'");
    check(desk, &credentials, "to = 'event-grid'\nhost = 'x.example'")
}

#[test]
fn what_is_no_key_and_no_certificate_is_called_by_its_name() {
    let desk = Desk::new();
    desk.device("genrsa", false);
    let (key, pem) = (desk.read("device.key"), desk.read("device.pem"));
    let (good, said) = event_grid(&desk);
    assert!(good && said.contains("fit, with 1 above it"), "{said}");
    for line in [
        "pkcs8 -topk8 -in device.key -passout pass:secret -out encrypted",
        "rsa -traditional -aes128 -in device.key -passout pass:secret -out legacy",
        "pkey -in device.key -pubout -out public",
        "pkey -in device.key -outform DER -out key.der",
        "rsa -traditional -in device.key -outform DER -out pkcs1.der",
        "req -in device.csr -outform DER -out csr.der",
        "x509 -in leaf.pem -outform DER -out leaf.der",
        "x509 -in leaf.pem -trustout -addtrust clientAuth -out trusted",
        "pkcs12 -export -inkey device.key -in leaf.pem -passout pass:secret -out p12",
        "crl2pkcs7 -nocrl -certfile device.pem -out p7",
        "genrsa -out short 1024",
        "ecparam -name secp521r1 -genkey -noout -out p521",
        "ecparam -name secp256k1 -genkey -noout -out k256",
        "ecparam -name prime256v1 -genkey -noout -param_enc explicit -out explicit",
        "genpkey -algorithm ED448 -out ed448",
        "ecparam -name prime256v1 -out parameters",
        "pkcs12 -in p12 -passin pass:secret -nodes -nocerts -out bag",
        "pkcs12 -in p12 -passin pass:secret -nokeys -out bag.pem",
    ] {
        desk.openssl(line);
    }
    let bytes = |name: &str| std::fs::read(desk.path(name)).unwrap();
    let utf16: Vec<u8> = "\u{feff}"
        .chars()
        .chain(key.chars())
        .flat_map(|c| (c as u16).to_le_bytes())
        .collect();
    let file = desk.path("device.key").display().to_string();
    // What lies in the key's file; what is said of it.
    let keys: Vec<(Vec<u8>, &str, String)> = vec![
        (
            bytes("encrypted"),
            "is encrypted",
            format!("openssl pkey -in {file} -out PLAIN"),
        ),
        (
            bytes("legacy"),
            "is encrypted",
            format!("openssl pkey -in {file} -out PLAIN"),
        ),
        (
            pem.clone().into(),
            "holds a certificate, and a private key is wanted",
            "name the file with the key".into(),
        ),
        (bytes("public"), "holds a public key", "BEGIN PRIVATE KEY".into()),
        (
            bytes("device.csr"),
            "holds a certificate signing request",
            "BEGIN PRIVATE KEY".into(),
        ),
        (
            bytes("key.der"),
            "a private key in binary (DER)",
            format!("openssl pkey -inform DER -in {file}"),
        ),
        (
            bytes("pkcs1.der"),
            "a private key in binary (DER)",
            "-inform DER".into(),
        ),
        (
            bytes("csr.der"),
            "a signing request in binary (DER)",
            "name the file".into(),
        ),
        (
            bytes("leaf.der"),
            "a certificate in binary (DER)",
            "name the file with the key".into(),
        ),
        (
            bytes("p12"),
            "a PKCS#12 container",
            format!("openssl pkcs12 -in {file} -nocerts -nodes"),
        ),
        (bytes("p7"), "certificates as PKCS#7", "".into()),
        (bytes("parameters"), "parameters of a curve without a key", "".into()),
        (
            bytes("short"),
            "an RSA key of less than 2048 bits",
            "openssl ecparam".into(),
        ),
        (bytes("p521"), "on the curve P-521", "EC P-256".into()),
        (bytes("k256"), "on the curve secp256k1", "EC P-256".into()),
        (bytes("explicit"), "its curve is spelt out", "EC P-256".into()),
        (bytes("ed448"), "an Ed448 key", "EC P-256".into()),
        (utf16, "text in UTF-16", "iconv -f UTF-16".into()),
        (b"".into(), "holds nothing", "name the file".into()),
        (b"hello".into(), "there is no private key in", "it must hold".into()),
        (
            format!("{key}{key}").into(),
            "holds 2 private keys",
            "leave only the one".into(),
        ),
        (
            key[..key.len() / 2].into(),
            "it was cut off",
            "copy the key again".into(),
        ),
        (
            key.replacen("MII", "M*I", 1).into(),
            "something that is no base64",
            "copy the key again".into(),
        ),
        (
            key.replacen("MII", "MIA", 1).into(),
            "cannot be used",
            "copy the key again".into(),
        ),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n".into(),
            "OpenSSH's own format",
            "".into(),
        ),
        (
            bytes("ca/root.key"),
            "does not fit the certificate of",
            "from the same request".into(),
        ),
    ];
    let bad = |said: (bool, String), what: &str, cure: &str| {
        let (good, said) = said;
        assert!(!good && said.contains("credentials  BAD"), "{what}: {said}");
        assert!(
            said.contains(what) && said.contains(cure) && said.contains(&*file.replace(".key", ".")),
            "{what} {cure}: {said}"
        );
    };
    for (content, what, cure) in keys {
        desk.write("device.key", content);
        bad(event_grid(&desk), what, &cure);
    }
    // What openssl leaves around a key, and a certificate beside it, harms nobody; text behind it is mentioned.
    for (content, note) in [
        (bytes("bag"), ""),
        (format!("{pem}{key}").into(), ""),
        (format!("{key}trailing words\n").into(), "text behind the last section"),
    ] {
        desk.write("device.key", content);
        let (good, said) = event_grid(&desk);
        assert!(good && said.contains(note), "{said}");
    }
    desk.write("device.key", &key);
    let file = desk.path("device.pem").display().to_string();
    let certificates: Vec<(Vec<u8>, &str, String)> = vec![
        (
            key.clone().into(),
            "holds a private key, and a certificate is wanted",
            "chmod 600".into(),
        ),
        (
            bytes("leaf.der"),
            "a certificate in binary (DER)",
            format!("openssl x509 -inform DER -in {file}"),
        ),
        (
            bytes("p12"),
            "a PKCS#12 container",
            format!("openssl pkcs12 -in {file} -nokeys"),
        ),
        (
            bytes("p7"),
            "certificates as PKCS#7",
            format!("openssl pkcs7 -print_certs -in {file}"),
        ),
        (
            bytes("device.csr"),
            "holds a certificate signing request",
            "answered to this request".into(),
        ),
        (
            bytes("trusted"),
            "OpenSSL's own trusted form",
            format!("openssl x509 -in {file}"),
        ),
        (pem[..pem.len() - 40].into(), "it was cut off", "copy it again".into()),
        (b"x".into(), "there is no certificate in", "BEGIN CERTIFICATE".into()),
        (
            pem.repeat(17).into(),
            "holds more than 32 certificates",
            "not a whole trust store".into(),
        ),
        (
            bytes("ca/root.pem"),
            "does not fit the certificate of",
            "issued for this key".into(),
        ),
    ];
    for (content, what, cure) in certificates {
        desk.write("device.pem", content);
        bad(event_grid(&desk), what, &cure);
    }
    desk.write("device.pem", bytes("bag.pem"));
    assert!(event_grid(&desk).0);
}

#[test]
fn names_are_judged_as_each_service_judges_them() {
    let desk = Desk::new();
    let d = desk.dir.path().display().to_string();
    let device = |name: &str| desk.authority.device(Kind::Ec, "device", name, desk.dir.path());
    let files = format!("certificate = '{d}/device.pem'\nkey = '{d}/device.key'");
    let of = |source: &str, session: &str| check(&desk, &format!("source = '{source}'\n{files}"), session);
    let hub = "to = 'iot-hub'\nhost = 'x.example'";
    // No SIM is there: a name that any SIM could have is fine, whatever its case.
    device(&auth_name().to_uppercase());
    let (good, said) = event_grid(&desk);
    assert!(good, "{said}");
    device("somebody");
    let (good, said) = event_grid(&desk);
    assert!(
        !good && said.contains("client_authname says \"myClient-#{imsi}\", the certificate proves \"somebody\""),
        "{said}"
    );
    assert!(said.contains("→ Event Grid refuses the one for the other"), "{said}");
    let (good, said) = of("files", hub);
    assert!(
        good && said.contains("note") && said.contains("the hub knows this device by the certificate's common name"),
        "{said}"
    );
    let (good, said) = of("files", "to = 'aws-iot'\nhost = 'x.example'");
    assert!(good && !said.contains("somebody\","), "{said}");
    let dps = |more: &str| {
        check(
            &desk,
            &format!("source = 'dps'\nid_scope = '0ne00111111'\n{files}\n{more}"),
            "to = 'iot-hub'",
        )
    };
    assert!(dps("").0);
    let (good, said) = dps("registration_id = 'dev-#{imsi}'");
    assert!(
        !good && said.contains("credentials.registration_id says \"dev-#{imsi}\""),
        "{said}"
    );
    let (good, said) = dps(&format!("ca_file = '{d}/none.pem'"));
    assert!(!good && said.contains("none.pem"), "{said}");
    let fleet = "source = 'aws-fleet'\ntemplate = 'T'";
    let (good, said) = check(
        &desk,
        &format!("{fleet}\n{files}"),
        "to = 'aws-iot'\nhost = 'x.example'",
    );
    assert!(good && said.contains("key and certificate of somebody fit"), "{said}");
    std::fs::remove_file(desk.path("device.key")).unwrap();
    assert!(
        !check(
            &desk,
            &format!("{fleet}\n{files}"),
            "to = 'aws-iot'\nhost = 'x.example'"
        )
        .0
    );
}

#[test]
fn placeholders_are_looked_up_for_every_sim_that_has_files() {
    let desk = Desk::new();
    let d = desk.dir.path().display().to_string();
    let files = format!(
        "source = 'files'\ncertificate = '{d}/dev/myClient-#{{imsi}}.pem'\nkey = '{d}/dev/#{{imsi}}/device.key'"
    );
    let all = || check(&desk, &files, "to = 'event-grid'\nhost = 'x.example'");
    let (good, said) = all();
    assert!(
        !good && said.contains("no file is there for any SIM: none matches"),
        "{said}"
    );
    for imsi in [IMSI, OTHER_IMSI] {
        let name = format!("myClient-{imsi}");
        desk.authority.device(Kind::Ec, &name, &name, &desk.path("dev"));
        std::fs::create_dir(desk.path("dev").join(imsi)).unwrap();
        std::fs::rename(
            desk.path("dev").join(format!("{name}.key")),
            desk.path("dev").join(imsi).join("device.key"),
        )
        .unwrap();
    }
    let (good, said) = all();
    assert!(
        good && said.matches("key and certificate of myClient-29501").count() == 2,
        "{said}"
    );
    // One SIM's certificate in the other's place, and a key that is gone.
    let file = |imsi: &str| desk.path("dev").join(format!("myClient-{imsi}.pem"));
    let (a, b) = (
        std::fs::read(file(IMSI)).unwrap(),
        std::fs::read(file(OTHER_IMSI)).unwrap(),
    );
    std::fs::write(file(OTHER_IMSI), &a).unwrap();
    let (good, said) = all();
    assert!(
        !good && said.matches("does not fit the certificate").count() == 1,
        "{said}"
    );
    std::fs::write(file(OTHER_IMSI), &b).unwrap();
    std::fs::remove_file(desk.path("dev").join(IMSI).join("device.key")).unwrap();
    let (good, said) = all();
    assert!(
        !good && said.contains(&format!("cannot read {d}/dev/{IMSI}/device.key")),
        "{said}"
    );
}

#[test]
fn age_is_told_in_time() {
    let desk = Desk::new();
    desk.device("ecparam -name prime256v1 -genkey -noout", false);
    let sign = "x509 -req -in device.csr -CA ca/intermediate.pem -CAkey ca/intermediate.key -CAcreateserial -out device.pem -extfile ca/ext.cnf -extensions device -days";
    desk.openssl(&format!("{sign} 30"));
    let (good, said) = event_grid(&desk);
    assert!(good && !said.contains("note  the certificate"), "{said}");
    desk.openssl(&format!("{sign} 5"));
    let (good, said) = event_grid(&desk);
    assert!(
        good && said.contains("is valid only until") && said.contains("4 days from now"),
        "{said}"
    );
    desk.openssl(&format!("{sign} -1"));
    let (good, said) = event_grid(&desk);
    assert!(
        !good && said.contains("device.pem expired on 20") && said.contains("nobody renews"),
        "{said}"
    );
}
