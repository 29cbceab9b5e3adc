//! Certificates made by the openssl command line, as users make them.
#![allow(unreachable_pub, dead_code)] // shared: no test target uses all of it

use std::path::{Path, PathBuf};
use std::process::Command;

/// The kinds of device certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// EC P-256, signed by the intermediate.
    Ec,
    /// RSA-2048, signed by the intermediate.
    Rsa,
    /// RSA-2048 and X.509 version 1, signed by a version 1 root: what the DPS walk-through's commands give with OpenSSL 3.0.
    V1,
}

/// An authority: a root, an intermediate, and a version 1 root, in one folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

const EXTENSIONS: &str = "\
[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = unused\n\
[root]\nbasicConstraints = critical, CA:TRUE, pathlen:1\nkeyUsage = critical, keyCertSign, cRLSign\nsubjectKeyIdentifier = hash\n\
[intermediate]\nbasicConstraints = critical, CA:TRUE, pathlen:0\nkeyUsage = critical, keyCertSign, cRLSign\n\
subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n\
[device]\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = clientAuth\nauthorityKeyIdentifier = keyid\n\
[server]\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = serverAuth\nsubjectAltName = DNS:localhost, IP:127.0.0.1, \
  DNS:a1b2c3d4e5f6g7-ats.iot.ap-northeast-1.amazonaws.com, DNS:beam-event-grid.japaneast-1.ts.eventgrid.azure.net\n";

impl Authority {
    /// Makes all three.
    pub fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("folder");
        std::fs::write(folder.join("ext.cnf"), EXTENSIONS).expect("ext.cnf");
        let a = Self {
            folder: folder.to_owned(),
        };
        a.key("root", Kind::Ec);
        let args = [
            "req",
            "-x509",
            "-new",
            "-key",
            "root.key",
            "-config",
            "ext.cnf",
            "-extensions",
            "root",
        ];
        a.run(
            &[
                &args[..],
                &["-subj", "/CN=Test Root", "-days", "30", "-out", "root.pem"],
            ]
            .concat(),
        );
        a.key("intermediate", Kind::Ec);
        a.request("intermediate", "Test Intermediate");
        a.sign("intermediate", "root", "intermediate");
        // The commands of the DPS walk-through.
        a.run(&["genrsa", "-out", "v1root.key", "2048"]);
        a.run(&[
            "req",
            "-new",
            "-sha256",
            "-key",
            "v1root.key",
            "-out",
            "v1root.csr",
            "-subj",
            "/CN=Root CA for IoT",
        ]);
        let args = [
            "x509",
            "-req",
            "-sha256",
            "-days",
            "3650",
            "-in",
            "v1root.csr",
            "-signkey",
            "v1root.key",
        ];
        a.run(&[&args[..], &["-out", "v1root.pem"]].concat());
        let bundle = [a.read("root.pem"), a.read("v1root.pem")].concat();
        std::fs::write(a.file("clients.pem"), bundle).expect("clients.pem");
        a
    }

    /// A file of this authority: `root.pem`, or `clients.pem` with both roots.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).expect(name)
    }

    fn run(&self, args: &[&str]) {
        let output = Command::new("openssl")
            .args(args)
            .current_dir(&self.folder)
            .output()
            .unwrap_or_else(|e| panic!("openssl: {e}: apt-get install openssl"));
        assert!(
            output.status.success(),
            "openssl {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn key(&self, name: &str, kind: Kind) {
        let file = format!("{name}.key");
        match kind {
            Kind::Ec => self.run(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &file]),
            Kind::Rsa | Kind::V1 => self.run(&["genrsa", "-out", &file, "2048"]),
        }
    }

    fn request(&self, name: &str, common_name: &str) {
        let (key, csr, subject) = (
            format!("{name}.key"),
            format!("{name}.csr"),
            format!("/CN={common_name}"),
        );
        self.run(&["req", "-new", "-key", &key, "-out", &csr, "-subj", &subject]);
    }

    fn sign(&self, name: &str, by: &str, extensions: &str) {
        let (csr, ca, ca_key, out) = (
            format!("{name}.csr"),
            format!("{by}.pem"),
            format!("{by}.key"),
            format!("{name}.pem"),
        );
        let args = [
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-out",
            &out,
        ];
        self.run(
            &[
                &args[..],
                &["-days", "20", "-extfile", "ext.cnf", "-extensions", extensions],
            ]
            .concat(),
        );
    }

    /// A server's chain and key, for `localhost` and 127.0.0.1.
    pub fn server(&self) -> (PathBuf, PathBuf) {
        self.key("server", Kind::Ec);
        self.request("server", "localhost");
        self.sign("server", "intermediate", "server");
        let chain = [self.read("server.pem"), self.read("intermediate.pem")].concat();
        std::fs::write(self.file("server-chain.pem"), chain).expect("chain");
        (self.file("server-chain.pem"), self.file("server.key"))
    }

    /// A device's certificate with this common name, written as `<id>.pem` and `<id>.key` into `into`, each by a rename.
    pub fn device(&self, kind: Kind, id: &str, common_name: &str, into: &Path) {
        std::fs::create_dir_all(into).expect("folder");
        self.key(id, kind);
        self.request(id, common_name);
        let chain = if kind == Kind::V1 {
            let (csr, out) = (format!("{id}.csr"), format!("{id}.pem"));
            let args = [
                "x509",
                "-req",
                "-in",
                &csr,
                "-CA",
                "v1root.pem",
                "-CAkey",
                "v1root.key",
                "-CAcreateserial",
            ];
            self.run(&[&args[..], &["-out", &out, "-days", "365"]].concat());
            self.read(&out)
        } else {
            self.sign(id, "intermediate", "device");
            [self.read(&format!("{id}.pem")), self.read("intermediate.pem")].concat()
        };
        for (suffix, content, mode) in [("key", self.read(&format!("{id}.key")), 0o600), ("pem", chain, 0o644)] {
            onyx::files::write_atomically(&into.join(format!("{id}.{suffix}")), content.as_bytes(), mode)
                .expect("write");
        }
    }
}
