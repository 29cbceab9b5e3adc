//! `onyx-gateway ca`, judged by openssl and mosquitto: what it makes is what the clouds' pages ask for.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use onyx::tls::{Identity, Leaf, certificates};
use serde_json::Value;

use crate::mosquitto::{Mosquitto, Tls, client, program};

/// A folder with an authority.
struct Place(tempfile::TempDir);

fn run(args: &[&str]) -> (Output, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
        .arg("ca")
        .args(args)
        .output()
        .unwrap();
    let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

impl Place {
    fn new(more: &[&str]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let (output, out, err) = place.ca("init", &[&["--name", "Field"], more].concat());
        assert!(output.status.success(), "{out}{err}");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("ca").join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn ca(&self, command: &str, more: &[&str]) -> (Output, String, String) {
        let dir = self.path("");
        run(&[&[command, "--dir", dir.to_str().unwrap()], more].concat())
    }

    fn well(&self, command: &str, more: &[&str]) -> String {
        let (output, out, err) = self.ca(command, more);
        assert!(output.status.success(), "ca {command} {more:?}: {out}{err}");
        out
    }

    fn json(&self, command: &str, more: &[&str]) -> Value {
        serde_json::from_str(&self.well(command, &[more, &["--json"]].concat())).unwrap()
    }

    fn refused(&self, command: &str, more: &[&str]) -> String {
        let (output, out, err) = self.ca(command, more);
        assert_eq!((output.status.code(), out.as_str()), (Some(1), ""), "{err}");
        err
    }

    fn openssl(&self, line: &str) -> String {
        let out = Command::new("openssl")
            .current_dir(self.path(""))
            .args(line.split(' '))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "openssl {line}: {text}");
        text
    }

    fn leaf(&self, name: &str) -> Leaf {
        Leaf::read(&certificates(self.read(name).as_bytes(), name).unwrap()[0], name).unwrap()
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn openssl_verifies_all_that_it_makes_by_the_letter_of_the_rfc() {
    for key in ["p256", "p384"] {
        let place = Place::new(&["--key", key]);
        place.well("issue", &["dev-1", "--key", key]);
        place.well("server", &["gw.example", "127.0.0.1", "::1"]);
        let ca = "-x509_strict -CAfile root.pem -untrusted intermediate.pem";
        place.openssl(&format!("verify {ca} -purpose sslclient devices/dev-1.leaf.pem"));
        place.openssl(&format!(
            "verify {ca} -purpose sslserver -verify_hostname gw.example servers/gw.example.leaf.pem"
        ));
        place.openssl(&format!(
            "verify {ca} -purpose sslserver -verify_ip 127.0.0.1 servers/gw.example.leaf.pem"
        ));
        // Event Grid's way: the one that directly signed is the anchor, and the device sends its leaf alone.
        place.openssl(
            "verify -partial_chain -x509_strict -purpose sslclient -CAfile intermediate.pem devices/dev-1.leaf.pem",
        );
        for file in [
            "root.key",
            "intermediate.key",
            "devices/dev-1.key",
            "servers/gw.example.key",
        ] {
            assert_eq!(mode(&place.path(file)), 0o600, "{file}");
            place.openssl(&format!("pkey -check -noout -in {file}"));
        }
        let pair = Identity::from_pem(
            place.read("devices/dev-1.pem").as_bytes(),
            place.read("devices/dev-1.key").as_bytes(),
            "dev-1",
        )
        .unwrap();
        assert_eq!(
            (pair.chain().len(), pair.repairs.len()),
            (2, 0),
            "leaf, then the intermediate"
        );
        assert_eq!(mode(&place.path("")), 0o700);
    }
}

#[test]
fn extensions_serials_and_validity_are_as_they_should_be() {
    let place = Place::new(&["--days-root", "100", "--days-intermediate", "60"]);
    place.well("issue", &["dev-1", "dev-2", "--days", "10"]);
    let show = |file: &str| place.openssl(&format!("x509 -noout -text -in {file}"));
    let want = |file: &str, wants: &[&str], not: &[&str]| {
        let text = show(file);
        assert!(text.contains("Version: 3"), "{text}");
        for w in wants {
            assert!(text.contains(w), "{w:?} is not in {file}:\n{text}");
        }
        for n in not {
            assert!(!text.contains(n), "{n:?} is in {file}:\n{text}");
        }
    };
    let signs = "Certificate Sign, CRL Sign";
    want(
        "root.pem",
        &["CN = Field Root CA", signs, "CA:TRUE, pathlen:1"],
        &["Extended Key"],
    );
    want(
        "intermediate.pem",
        &["Issuer: CN = Field Root CA", signs, "CA:TRUE, pathlen:0"],
        &["Extended Key"],
    );
    want(
        "devices/dev-1.pem",
        &[
            "Issuer: CN = Field Intermediate CA",
            "Subject: CN = dev-1\n",
            "CA:FALSE",
            "Digital Signature\n",
            "TLS Web Client Authentication\n",
            "Authority Key Identifier",
            "ecdsa-with-SHA256",
            "prime256v1",
        ],
        &["Server Auth", "Alternative Name"],
    );
    let files = ["root.pem", "intermediate.pem", "devices/dev-1.pem", "devices/dev-2.pem"];
    let serials: std::collections::BTreeSet<_> = files
        .map(|f| place.openssl(&format!("x509 -noout -serial -in {f}")))
        .into();
    assert_eq!(serials.len(), 4);
    assert!(
        serials.iter().all(|s| s.trim().len() == "serial=".len() + 32),
        "{serials:?}"
    );
    // Nothing outlives what signed it: it is cut, and that is said.
    let said = place.json("issue", &["long", "--days", "61"]);
    let (root, intermediate) = (place.leaf("root.pem"), place.leaf("intermediate.pem"));
    assert!(
        said["note"]
            .as_str()
            .unwrap()
            .contains("nothing may outlive its issuer"),
        "{said}"
    );
    assert_eq!(place.leaf("devices/long.pem").not_after, intermediate.not_after);
    assert!(intermediate.not_after < root.not_after && intermediate.not_before >= root.not_before);
    let other = tempfile::tempdir().unwrap();
    let dir = other.path().join("x");
    let longer = [
        "init",
        "--dir",
        dir.to_str().unwrap(),
        "--name",
        "x",
        "--days-root",
        "10",
        "--days-intermediate",
        "11",
    ];
    let (output, _, err) = run(&longer);
    assert!(
        !output.status.success() && err.contains("cannot be valid longer (11 days) than the root"),
        "{err}"
    );
    assert!(!dir.exists(), "nothing was begun");
}

#[test]
fn nothing_is_overwritten_and_what_was_begun_is_finished() {
    let place = Place::new(&[]);
    let before = place.read("root.pem");
    let err = place.refused("init", &["--name", "Again"]);
    assert!(
        err.contains("root.pem is there already") && err.contains("another directory"),
        "{err}"
    );
    assert_eq!(place.read("root.pem"), before);
    place.well("issue", &["dev-1"]);
    let first = place.read("devices/dev-1.pem");
    let again = place.json("issue", &["dev-1", "dev-2"]);
    assert_eq!(
        (again["kept"].as_u64(), again["issued"].as_u64()),
        (Some(1), Some(1)),
        "{again}"
    );
    assert_eq!(place.read("devices/dev-1.pem"), first);
    assert_eq!(place.json("issue", &["dev-1", "--renew"])["renewed"], 1);
    assert_ne!(place.read("devices/dev-1.pem"), first);
    // Killed after the key: the key stays, and gets its certificate.
    let key = place.read("devices/dev-2.key");
    std::fs::remove_file(place.path("devices/dev-2.pem")).unwrap();
    assert_eq!(place.json("issue", &["dev-2"])["issued"], 1);
    assert_eq!(place.read("devices/dev-2.key"), key);
    Identity::from_pem(place.read("devices/dev-2.pem").as_bytes(), key.as_bytes(), "dev-2").unwrap();
    // A pair that does not fit is told, and a key is never thrown away unasked.
    std::fs::write(place.path("devices/dev-2.key"), place.read("devices/dev-1.key")).unwrap();
    let (output, out, _) = place.ca("issue", &["dev-2"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out.contains("unusable dev-2") && out.contains("does not fit") && out.contains("--renew"),
        "{out}"
    );
    assert_eq!(place.read("devices/dev-2.key"), place.read("devices/dev-1.key"));
    // The root's key may be elsewhere.
    std::fs::rename(place.path("root.key"), place.0.path().join("safe")).unwrap();
    place.well("issue", &["dev-3"]);
    let err = place.refused("verify-code", &["CODE", "--with", "root"]);
    assert!(
        err.contains("root.key is not there") && err.contains("bring it back"),
        "{err}"
    );
    assert_eq!(place.json("show", &[])["root"]["key"], "elsewhere");
    // Another authority's key is no key of this one.
    std::fs::copy(place.path("devices/dev-1.key"), place.path("intermediate.key")).unwrap();
    let err = place.refused("issue", &["dev-4"]);
    assert!(
        err.contains("the private key does not fit the certificate") && err.contains("intermediate.key"),
        "{err}"
    );
}

#[test]
fn names_are_checked_before_anything_is_made() {
    let place = Place::new(&[]);
    let list = place.0.path().join("list");
    std::fs::write(&list, "# fleet\ndev-1\ndev 2\n../up\n").unwrap();
    let err = place.refused("issue", &["DEV-1", "--from-file", list.to_str().unwrap()]);
    for want in [
        "\"dev 2\" has ' '",
        "\"../up\" has '/'",
        "\"DEV-1\" and \"dev-1\" differ in case only",
        "nothing was issued",
    ] {
        assert!(err.contains(want), "{want:?}: {err}");
    }
    assert!(!place.path("devices").exists());
    assert!(place.refused("issue", &[]).contains("no device is named"));
    assert!(
        place
            .refused("issue", &["--from-file", "/nonexistent"])
            .contains("cannot read the names in /nonexistent")
    );
    assert!(
        place
            .refused("server", &["a b"])
            .contains("neither a host name nor an IP address")
    );
    let empty = tempfile::tempdir().unwrap();
    let (_, _, err) = run(&["issue", "x", "--dir", empty.path().to_str().unwrap()]);
    assert!(err.contains("holds no authority") && err.contains("ca init"), "{err}");
}

#[test]
fn a_thousand_devices_from_a_list() {
    let place = Place::new(&[]);
    let list = place.0.path().join("list");
    let names: String = (0..1_000).map(|n| format!("myClient-2950123456{n:05}\n")).collect();
    std::fs::write(&list, names).unwrap();
    let said = place.json("issue", &["--from-file", list.to_str().unwrap()]);
    assert_eq!(
        (said["issued"].as_u64(), said["devices"].as_array().unwrap().len()),
        (Some(1_000), 1_000)
    );
    assert_eq!(
        std::fs::read_dir(place.path("devices")).unwrap().count(),
        3_000,
        "and nothing temporary"
    );
    let again = place.well("issue", &["--from-file", list.to_str().unwrap()]);
    assert!(again.contains("0 issued, 0 renewed, 1000 kept, 0 unusable"), "{again}");
}

#[test]
fn a_device_that_made_its_own_key_keeps_it() {
    let place = Place::new(&[]);
    place.openssl("ecparam -name secp384r1 -genkey -noout -out own.key");
    place.openssl("req -new -key own.key -subj /CN=myClient-1 -out own.csr");
    place.well("sign", &["--csr", place.path("own.csr").to_str().unwrap()]);
    assert!(!place.path("devices/myClient-1.key").exists());
    let own = Identity::from_pem(
        place.read("devices/myClient-1.pem").as_bytes(),
        place.read("own.key").as_bytes(),
        "own",
    )
    .unwrap();
    assert_eq!(
        (own.leaf.common_name.as_deref(), own.chain().len()),
        (Some("myClient-1"), 2)
    );
    place.openssl("verify -x509_strict -purpose sslclient -CAfile root.pem -untrusted intermediate.pem devices/myClient-1.leaf.pem");
    // Only the name is granted.
    place.openssl("req -new -newkey rsa:2048 -nodes -keyout rsa.key -subj /O=Evil/CN=dev-1 -addext subjectAltName=DNS:bank.example -addext basicConstraints=CA:TRUE -out rsa.csr");
    let said = place.json("sign", &["--csr", place.path("rsa.csr").to_str().unwrap()]);
    assert!(said["notes"][0].as_str().unwrap().contains("not granted"), "{said}");
    let text = place.openssl("x509 -noout -text -in devices/dev-1.pem");
    assert!(
        text.contains("Subject: CN = dev-1\n") && text.contains("CA:FALSE"),
        "{text}"
    );
    assert!(!text.contains("bank.example") && !text.contains("Evil"), "{text}");
    // Not a request; damaged; no good name; there already.
    let err = place.refused("sign", &["--csr", place.path("own.key").to_str().unwrap()]);
    assert!(err.contains("holds no certificate signing request"), "{err}");
    let damaged = place.read("own.csr").replacen("MII", "MIJ", 1);
    std::fs::write(place.path("bad.csr"), damaged).unwrap();
    assert!(
        place
            .refused("sign", &["--csr", place.path("bad.csr").to_str().unwrap()])
            .contains("cannot be used")
    );
    place.openssl("req -new -key own.key -subj /CN=a_b/CN=c -out two.csr");
    let two = place.path("two.csr");
    assert!(
        place
            .refused("sign", &["--csr", two.to_str().unwrap()])
            .contains("no common name, or several; say --name NAME")
    );
    place.well("sign", &["--csr", two.to_str().unwrap(), "--name", "c"]);
    let err = place.refused("sign", &["--csr", two.to_str().unwrap(), "--name", "c"]);
    assert!(err.contains("c.pem is there already; --renew replaces it"), "{err}");
}

#[test]
fn what_is_there_for_other_names_or_of_another_authority_is_not_taken_for_what_was_asked() {
    let (place, other) = (Place::new(&[]), Place::new(&[]));
    place.well("issue", &["dev-1"]);
    let devices = place.path("devices");
    let (_, out, err) = other.ca("issue", &["--out", devices.to_str().unwrap(), "dev-1"]);
    assert!(out.contains("dev-1.pem is of another authority"), "{out}{err}");
    let err = place.refused("issue", &["dev-2", "DEV-1"]);
    assert!(err.contains("\"dev-1\" is in") && err.contains("case only"), "{err}");
    assert!(!place.path("devices/dev-2.pem").exists());
    let err = place.refused("issue", &["dev-1.leaf"]);
    assert!(err.contains("another device"), "{err}");
    std::fs::copy(place.path("devices/dev-1.pem"), place.path("devices/dev-3.pem")).unwrap();
    let (output, out, _) = place.ca("issue", &["dev-1", "dev-3"]);
    assert_eq!(output.status.code(), Some(1));
    for want in ["kept     dev-1\n", "dev-3.pem is for \"dev-1\"", "1 kept, 1 unusable"] {
        assert!(out.contains(want), "{want:?}: {out}");
    }

    place.well("server", &["gw.example", "::1"]);
    assert!(
        place
            .well("server", &["GW.example", "--out", place.path("s2").to_str().unwrap()])
            .starts_with("issued")
    );
    assert!(
        place
            .well("server", &["gw.example", "0:0:0:0:0:0:0:1"])
            .starts_with("kept")
    );
    let (output, out, _) = place.ca("server", &["gw.example", "10.0.0.1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out.contains("gw.example.pem is not for 10.0.0.1; --renew replaces both"),
        "{out}"
    );
    place.well("server", &["gw.example", "10.0.0.1", "--renew"]);
    place.well("server", &["dev-1"]);
    let (_, out, _) = place.ca("issue", &["--out", place.path("servers").to_str().unwrap(), "dev-1"]);
    assert!(out.contains("dev-1.pem is a server's certificate"), "{out}");
}

#[test]
fn commands_at_once_leave_no_key_beside_the_certificate_of_another() {
    let place = Place::new(&[]);
    let names: Vec<String> = (0..30).map(|n| format!("d{n}")).collect();
    let out = place.path("race");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let (output, _, err) =
                    place.ca("issue", &[&["--out", out.to_str().unwrap()], names.as_slice()].concat());
                // The one that came too late may have waited long enough, or says so.
                assert!(
                    output.status.success() || err.contains("another 'onyx-gateway ca' is writing into"),
                    "{err}"
                );
            });
        }
    });
    for name in &names {
        let file = |suffix: &str| place.read(&format!("race/{name}.{suffix}"));
        Identity::from_pem(file("pem").as_bytes(), file("key").as_bytes(), name)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 3 * names.len());
}

#[test]
fn the_proof_says_the_code_and_is_signed_by_the_key_in_question() {
    let place = Place::new(&[]);
    // As long as DPS's and AWS's codes are.
    for code in ["A".repeat(48), "b0".repeat(32)] {
        place.well("verify-code", &[&code, "--out", place.path("p.pem").to_str().unwrap()]);
        place.well(
            "verify-code",
            &[
                &format!(" {code}\n"),
                "--with",
                "root",
                "--out",
                place.path("r.pem").to_str().unwrap(),
            ],
        );
        for (file, by) in [
            ("p.pem", "-partial_chain -CAfile intermediate.pem"),
            ("r.pem", "-CAfile root.pem"),
        ] {
            assert_eq!(place.leaf(file).common_name.as_ref(), Some(&code));
            place.openssl(&format!("verify -x509_strict {by} {file}"));
            std::fs::remove_file(place.path(file)).unwrap();
        }
    }
    // A slip of the finger costs no authority.
    for file in ["root.key", "intermediate.key", "intermediate.pem"] {
        let before = place.read(file);
        let err = place.refused("verify-code", &["XYZ", "--out", place.path(file).to_str().unwrap()]);
        assert!(err.contains("is there already and is not replaced"), "{err}");
        assert_eq!(place.read(file), before);
    }
    let printed = place.well("verify-code", &["XYZ"]);
    assert!(
        printed.starts_with("-----BEGIN CERTIFICATE-----") && !printed.contains("KEY"),
        "{printed}"
    );
    assert_eq!(place.json("verify-code", &["XYZ"])["code"], "XYZ");
    for bad in ["", "a b", &"x".repeat(65), "ä"] {
        assert!(
            place
                .refused("verify-code", &[bad])
                .contains("cannot be a verification code"),
            "{bad:?}"
        );
    }
}

#[test]
fn only_the_certificate_of_the_key_signs() {
    let place = Place::new(&[]);
    let intermediate = place.read("intermediate.pem");
    std::fs::write(place.path("intermediate.pem"), place.read("root.pem") + &intermediate).unwrap();
    let err = place.refused("verify-code", &["XYZ"]);
    assert!(
        err.contains("the first certificate in") && err.contains("put that one first"),
        "{err}"
    );
    std::fs::write(place.path("intermediate.pem"), intermediate + &place.read("root.pem")).unwrap();
    place.well("verify-code", &["XYZ", "--out", place.path("p.pem").to_str().unwrap()]);
    place.openssl("verify -x509_strict -partial_chain -CAfile intermediate.pem p.pem");
}

#[test]
fn show_says_what_openssl_says_and_where_each_file_goes() {
    let place = Place::new(&[]);
    let text = place.well("show", &[]);
    let json = place.json("show", &[]);
    for who in ["root", "intermediate"] {
        for (digest, key) in [("sha1", "sha1"), ("sha256", "sha256")] {
            let said = place.openssl(&format!("x509 -noout -fingerprint -{digest} -in {who}.pem"));
            let want = said.trim().split('=').next_back().unwrap().replace(':', "");
            let got = json[who][key].as_str().unwrap();
            assert!(got.eq_ignore_ascii_case(&want) && text.contains(got), "{got} {want}");
        }
        assert_eq!(
            (json[who]["expired"].as_bool(), json[who]["key"].as_str()),
            (Some(false), Some("here"))
        );
    }
    for want in [
        "Field Root CA",
        "days left",
        "Azure Event Grid: ",
        "Azure DPS",
        "AWS IoT Core",
        "verify-code",
        "intermediate.pem",
    ] {
        assert!(text.contains(want), "{want:?}: {text}");
    }
    std::fs::write(place.path("root.pem"), "rubbish").unwrap();
    assert!(place.refused("show", &[]).contains("there is no certificate in"));
}

#[test]
fn mosquitto_knows_the_devices_by_their_names() {
    let place = Place::new(&[]);
    place.well("issue", &["myClient-295012345678901"]);
    place.well("server", &["localhost", "127.0.0.1"]);
    let tls = Tls {
        client_ca: place.path("root.pem"),
        certificate: place.path("servers/localhost.pem"),
        key: place.path("servers/localhost.key"),
        version: None,
        identity_as_username: true,
    };
    let broker = Mosquitto::start(place.0.path(), Some(tls));
    let path = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (
        path("root.pem"),
        path("devices/myClient-295012345678901.pem"),
        path("devices/myClient-295012345678901.key"),
    );
    let mut args = vec![
        "--cafile", &ca, "--cert", &cert, "--key", &key, "-i", "one", "-q", "1", "-t", "t", "-m", "hello",
    ];
    let at = ([127, 0, 0, 1], broker.tls_port).into();
    let said = client("mosquitto_pub", at, &args);
    assert!(said.status.success(), "{}", said.text);
    broker.wait_for(&["New client connected", "as one (", "u'myClient-295012345678901'"]);
    // The leaf alone is not enough for a broker that has the root alone.
    let leaf = path("devices/myClient-295012345678901.leaf.pem");
    args[3] = &leaf;
    assert!(!client("mosquitto_pub", at, &args).status.success());
    assert!(program("mosquitto", "mosquitto").exists());
}
