//! `Clients::Proven`: certificates that openssl made, shown by openssl; and what openssl cannot be made to do, by rustls.

use std::path::Path;
use std::sync::Arc;

use onyx::clock::Clock;
use onyx::tls::{Clients, INTERMEDIATES_MAX, Identity, Server, Versions, certificates, provider, roots};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, Error, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certs::{Authority, Kind};
use crate::tools::{LIMIT, command, output, succeed};

/// A server, and an authority that made its certificate and the devices'.
struct Stage {
    dir: tempfile::TempDir,
    authority: Authority,
    acceptor: TlsAcceptor,
    listener: TcpListener,
}

type Shown = Result<Vec<CertificateDer<'static>>, Error>;

impl Stage {
    async fn new(clients: Clients) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(&dir.path().join("ca"));
        let (chain, key) = authority.server();
        let read = |path: &Path| std::fs::read(path).unwrap();
        let identity = Identity::from_pem(&read(&chain), &read(&key), "server").unwrap();
        let server = Server {
            identity: &identity,
            clients,
            versions: Versions::Both,
            alpn: &[],
        };
        let acceptor = TlsAcceptor::from(server.build(&Clock::new()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            dir,
            authority,
            acceptor,
            listener,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// What the next client shows, or why it is refused.
    async fn accept(&self) -> Shown {
        let accepted = async {
            let (stream, _) = self.listener.accept().await.unwrap();
            match self.acceptor.accept(stream).await {
                Ok(stream) => {
                    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
                    Ok(shown.iter().map(|c| c.clone().into_owned()).collect())
                }
                Err(e) => Err(e.into_inner().unwrap().downcast_ref::<Error>().unwrap().clone()),
            }
        };
        tokio::time::timeout(LIMIT, accepted)
            .await
            .expect("no handshake in time")
    }

    /// openssl shows `NAME.pem` by `NAME.key`.
    async fn openssl(&self, name: &str, version: &str) -> Shown {
        let mut c = command("openssl");
        let address = self.listener.local_addr().unwrap().to_string();
        let root = self.authority.file("root.pem");
        c.args([
            "s_client",
            version,
            "-connect",
            &address,
            "-verify_return_error",
            "-CAfile",
        ])
        .arg(root);
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        c.args(["-cert", &cert, "-key", &key]);
        // openssl takes the first certificate of that file; the others come from one of their own.
        let text = String::from_utf8(self.read(&format!("{name}.pem"))).unwrap();
        if let Some(at) = text.rfind("-----BEGIN").filter(|at| *at > 0) {
            let rest = self.path(&format!("{name}-rest.pem"));
            std::fs::write(&rest, &text[at..]).unwrap();
            c.args(["-cert_chain", &rest]);
        }
        let (shown, _) = tokio::join!(self.accept(), output(&mut c));
        shown
    }

    /// rustls shows this chain and signs with that key, whether they fit or not.
    #[allow(clippy::disallowed_methods)] // a peer, not us: it may have the system's clock
    async fn show(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Shown {
        let key = PrivateKeyDer::from_pem_slice(&self.read(key)).unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        let pair = Arc::new(CertifiedKey::new(chain, key));
        let root = std::fs::read(self.authority.file("root.pem")).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots(&root, "root").unwrap())
            .with_client_cert_resolver(Arc::new(Fixed(pair)));
        let connect = async {
            let tcp = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
            // How the client sees it is not the question.
            let _ = TlsConnector::from(Arc::new(config))
                .connect("localhost".try_into().unwrap(), tcp)
                .await;
        };
        tokio::join!(self.accept(), connect).0
    }
}

/// Shows what it is given.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesClientCert for Fixed {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn every_kind_of_certificate_is_proven_in_both_versions_of_tls() {
    let s = Stage::new(Clients::Proven).await;
    for (kind, name) in [(Kind::Ec, "ec"), (Kind::Rsa, "rsa"), (Kind::V1, "v1")] {
        s.authority.device(kind, name, name, s.dir.path());
    }
    // Self-signed, on the other curve.
    for curve in ["secp384r1"] {
        let mut c = command("openssl");
        let (cert, key) = (s.path(&format!("{curve}.pem")), s.path(&format!("{curve}.key")));
        c.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            &format!("ec_paramgen_curve:{curve}"),
            "-nodes",
        ]);
        succeed(c.args([
            "-subj",
            &format!("/CN={curve}"),
            "-days",
            "2",
            "-out",
            &cert,
            "-keyout",
            &key,
        ]))
        .await;
    }
    for name in ["ec", "rsa", "v1", "secp384r1"] {
        for version in ["-tls1_2", "-tls1_3"] {
            let shown = s
                .openssl(name, version)
                .await
                .unwrap_or_else(|e| panic!("{name} {version}: {e}"));
            let expected = certificates(&s.read(&format!("{name}.pem")), name).unwrap();
            assert_eq!(shown, expected, "{name} {version}");
        }
    }
    let is_v1 = |name: &str| {
        let chain = certificates(&s.read(&format!("{name}.pem")), name).unwrap();
        onyx::tls::Leaf::read(&chain[0], name).unwrap().is_v1
    };
    assert!(
        is_v1("v1") && !is_v1("rsa"),
        "OpenSSL 3.2 and later make no version 1 certificates: use an older one"
    );
}

#[tokio::test]
async fn a_certificate_without_its_key_proves_nothing() {
    let s = Stage::new(Clients::Proven).await;
    for (kind, name) in [
        (Kind::Ec, "mine"),
        (Kind::Ec, "yours"),
        (Kind::Rsa, "rsa"),
        (Kind::Rsa, "rsa2"),
        (Kind::V1, "v1"),
    ] {
        s.authority.device(kind, name, name, s.dir.path());
    }
    let chain = |name: &str| certificates(&s.read(&format!("{name}.pem")), name).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (shown, key) in [
            ("yours", "mine"),
            ("rsa", "rsa2"),
            ("v1", "rsa"),
            ("yours", "rsa"),
            ("rsa", "mine"),
        ] {
            let refused = s.show(chain(shown), &format!("{key}.key"), &[version]).await;
            let bad = Err(Error::InvalidCertificate(CertificateError::BadSignature));
            assert_eq!(refused, bad, "{shown} with the key of {key}, {version:?}");
            // The same with its own key is taken.
            assert_eq!(
                s.show(chain(shown), &format!("{shown}.key"), &[version]).await,
                Ok(chain(shown))
            );
        }
    }
}

#[tokio::test]
async fn a_chain_is_bounded_and_has_to_be_x509() {
    let s = Stage::new(Clients::Proven).await;
    s.authority.device(Kind::Ec, "dev", "dev", s.dir.path());
    let chain = certificates(&s.read("dev.pem"), "dev").unwrap();
    let (leaf, intermediate) = (chain[0].clone(), chain[1].clone());
    let long = |n: usize| {
        let mut chain = vec![leaf.clone()];
        chain.extend(std::iter::repeat_n(intermediate.clone(), n));
        chain
    };
    let versions = [&rustls::version::TLS13];
    let longest = s.show(long(INTERMEDIATES_MAX), "dev.key", &versions).await;
    assert_eq!(longest.unwrap().len(), 1 + INTERMEDIATES_MAX);
    let over = s.show(long(INTERMEDIATES_MAX + 1), "dev.key", &versions).await;
    assert!(matches!(over, Err(Error::InvalidMessage(_))), "{over:?}");
    for garbage in [
        vec![leaf.clone(), CertificateDer::from(vec![0x30, 0])],
        vec![CertificateDer::from(vec![1; 50])],
    ] {
        let refused = s.show(garbage, "dev.key", &versions).await;
        assert_eq!(refused, Err(Error::InvalidCertificate(CertificateError::BadEncoding)));
    }
}

#[tokio::test]
async fn no_certificate_is_for_doors_that_say_so() {
    for (clients, taken) in [(Clients::Proven, false), (Clients::ProvenIfSent, true)] {
        let s = Stage::new(clients).await;
        let mut c = command("openssl");
        let address = s.listener.local_addr().unwrap().to_string();
        c.args(["s_client", "-tls1_2", "-connect", &address, "-CAfile"])
            .arg(s.authority.file("root.pem"));
        let (shown, _) = tokio::join!(s.accept(), output(&mut c));
        assert_eq!(shown.is_ok(), taken, "{shown:?}");
        assert!(!taken || shown.unwrap().is_empty());
    }
}
