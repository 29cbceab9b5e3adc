//! rustls set-up: the one place that knows rustls.
//!
//! - An [`Identity`] is a private key and the certificate chain that goes with it. It is checked when it is made: the key must fit the
//!   first certificate (rustls leaves that unchecked on the path below), and what a person must know of it (common name, validity,
//!   X.509 version) is read out once.
//! - X.509 **v1** certificates: `openssl x509 -req` of OpenSSL 3.0 and 3.1 (Debian 12, Raspberry Pi OS bookworm) makes version 1
//!   leaves unless it is given extensions, and the clouds take them, but rustls' own set-up refuses to present one
//!   (`UnsupportedCertVersion`, rustls issue 2364). The chain is therefore given to rustls through a resolver, which does not parse it.
//! - The clock is ours ([`crate::clock::Clock`]), because the system clock of a Pi may be decades off at boot.
//! - One [`ClientConfig`] per identity for the life of the process: it holds the session tickets, and sharing one between identities
//!   would let one device resume another's session.

mod proven;

use std::sync::Arc;
use std::time::Duration;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use self::proven::Proven;
use crate::clock::Clock;

pub use proven::INTERMEDIATES_MAX;

/// Why keys, certificates or authorities cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No certificate in the PEM text.
    #[error("there is no certificate in {0}: it must hold -----BEGIN CERTIFICATE-----")]
    NoCertificate(String),
    /// The PEM or DER is damaged.
    #[error("the certificate in {what} is damaged: {why}")]
    BadCertificate {
        /// Where it came from.
        what: String,
        /// What the parser says.
        why: String,
    },
    /// No usable private key in the PEM text.
    #[error(
        "there is no private key in {0}: it must hold -----BEGIN PRIVATE KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY"
    )]
    NoKey(String),
    /// The key is under a pass phrase.
    #[error(
        "the private key in {0} is encrypted: Onyx runs unattended and cannot ask; decrypt it with 'openssl pkey -in KEY -out PLAIN'"
    )]
    EncryptedKey(String),
    /// A kind of key that cannot sign here.
    #[error("the private key in {what} cannot be used: {why}")]
    BadKey {
        /// Where it came from.
        what: String,
        /// What rustls says.
        why: String,
    },
    /// Key and certificate are not a pair.
    #[error("the private key does not fit the certificate of {0}: they are not from the same request")]
    Mismatch(String),
    /// The operating system has no certificate authorities.
    #[error("no certificate authorities were found on this system: install ca-certificates or name a CA file")]
    NoSystemRoots,
    /// rustls refuses the combination.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// The crypto of the whole program: ring.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Which versions of TLS to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versions {
    /// 1.3 and 1.2.
    #[default]
    Both,
    /// 1.2 alone (Azure DPS and IoT Hub document 1.2).
    Only12,
    /// 1.3 alone.
    Only13,
}

impl Versions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        use rustls::version::{TLS12, TLS13};
        static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        static ONLY12: [&SupportedProtocolVersion; 1] = [&TLS12];
        static ONLY13: [&SupportedProtocolVersion; 1] = [&TLS13];
        match self {
            Self::Both => &BOTH,
            Self::Only12 => &ONLY12,
            Self::Only13 => &ONLY13,
        }
    }
}

/// A certificate chain with its private key, known to fit each other.
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    /// What the first certificate says.
    pub leaf: Leaf,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.leaf).finish()
    }
}

/// What a person must know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The subject's common name, if it has exactly one that is text.
    pub common_name: Option<String>,
    /// First moment of validity, since the Unix epoch.
    pub not_before: Duration,
    /// Last moment of validity, since the Unix epoch.
    pub not_after: Duration,
    /// X.509 version 1: no extensions; see the module's notes.
    pub is_v1: bool,
}

impl Leaf {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`TlsError::BadCertificate`]; `what` says where it came from.
    pub fn read(der: &CertificateDer<'_>, what: &str) -> Result<Self, TlsError> {
        let certificate = parse(der, what)?;
        let names: Vec<_> = certificate.subject().iter_common_name().collect();
        let seconds = |t: i64| Duration::from_secs(u64::try_from(t).unwrap_or(0));
        Ok(Self {
            common_name: match names.as_slice() {
                [one] => one.as_str().ok().map(str::to_owned),
                _ => None,
            },
            not_before: seconds(certificate.validity().not_before.timestamp()),
            not_after: seconds(certificate.validity().not_after.timestamp()),
            is_v1: certificate.version() == X509Version::V1,
        })
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>, what: &str) -> Result<X509Certificate<'a>, TlsError> {
    X509Certificate::from_der(der)
        .map(|(_, c)| c)
        .map_err(|e| TlsError::BadCertificate {
            what: what.to_owned(),
            why: format!("what it holds is no X.509 certificate ({e})"),
        })
}

/// All certificates of a PEM text, in its order.
///
/// # Errors
/// [`TlsError::NoCertificate`], [`TlsError::BadCertificate`]; `what` says where the text came from.
pub fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError::BadCertificate {
            what: what.to_owned(),
            why: e.to_string(),
        })?;
    if list.is_empty() {
        return Err(TlsError::NoCertificate(what.to_owned()));
    }
    for der in &list {
        parse(der, what)?;
    }
    Ok(list)
}

fn private_key(pem: &[u8], what: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    // PKCS#8 under a pass phrase, and the legacy form of OpenSSL (RFC 1421 header).
    let has = |needle: &[u8]| pem.windows(needle.len()).any(|w| w == needle);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::EncryptedKey(what.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| match e {
        rustls_pki_types::pem::Error::NoItemsFound => TlsError::NoKey(what.to_owned()),
        other => TlsError::BadKey {
            what: what.to_owned(),
            why: other.to_string(),
        },
    })
}

impl Identity {
    /// Reads a chain (leaf first) and its key: PKCS#8, PKCS#1 or SEC1. `what` says where they came from.
    ///
    /// # Errors
    /// [`TlsError`], each naming `what`.
    pub fn from_pem(chain: &[u8], key: &[u8], what: &str) -> Result<Self, TlsError> {
        let chain = certificates(chain, what)?;
        let first = chain.first().ok_or_else(|| TlsError::NoCertificate(what.to_owned()))?;
        let leaf = Leaf::read(first, what)?;
        let signer = provider()
            .key_provider
            .load_private_key(private_key(key, what)?)
            .map_err(|e| TlsError::BadKey {
                what: what.to_owned(),
                why: e.to_string(),
            })?;
        let in_certificate = parse(first, what)?.public_key().raw.to_vec();
        match signer.public_key() {
            Some(public) if public.as_ref() == in_certificate => {}
            _ => return Err(TlsError::Mismatch(what.to_owned())),
        }
        Ok(Self {
            key: Arc::new(CertifiedKey::new(chain, signer)),
            leaf,
        })
    }

    /// Shows this identity to every client.
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(SingleCertAndKey::from(self.key.clone()))
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }
}

/// Authorities from a PEM text.
///
/// # Errors
/// [`TlsError`], naming `what`.
pub fn roots(pem: &[u8], what: &str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for der in certificates(pem, what)? {
        store.add(der).map_err(|e| TlsError::BadCertificate {
            what: what.to_owned(),
            why: e.to_string(),
        })?;
    }
    Ok(store)
}

/// The operating system's authorities (`ca-certificates`).
///
/// # Errors
/// [`TlsError::NoSystemRoots`].
pub fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        Err(TlsError::NoSystemRoots)
    } else {
        Ok(store)
    }
}

/// How to be a TLS client.
#[derive(Debug)]
pub struct Client<'a> {
    /// Whom to present; `None` presents no certificate.
    pub identity: Option<&'a Identity>,
    /// Whom to trust.
    pub roots: RootCertStore,
    /// Which versions to offer.
    pub versions: Versions,
    /// Application protocols to offer, e.g. AWS IoT Core's `x-amzn-mqtt-ca` on port 443.
    pub alpn: &'a [&'a str],
}

impl Client<'_> {
    /// Builds the configuration; keep it for the life of the identity.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    #[allow(clippy::disallowed_methods)] // the one place: it hands our clock over
    pub fn build(self, clock: &Clock) -> Result<Arc<ClientConfig>, TlsError> {
        let setup = |e: rustls::Error| TlsError::Setup(e.to_string());
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(clock.clone()))
            .with_protocol_versions(self.versions.list())
            .map_err(setup)?
            .with_root_certificates(self.roots);
        let mut config = match self.identity {
            Some(identity) => {
                let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(identity.key.clone()));
                builder.with_client_cert_resolver(resolver)
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// Tickets one identity keeps: one server's worth (rustls keeps up to eight a server). rustls' own default reserves room for 256,
/// which is paid for every identity of a gateway.
const TICKETS: usize = 8;

/// The same way of being a client under another identity, sharing the authorities (a megabyte when they are the system's) and
/// nothing else: the session tickets are a fresh, empty store, because a ticket resumes the session, and so the identity, it was
/// given for.
#[must_use]
pub fn for_identity(base: &ClientConfig, identity: &Identity) -> Arc<ClientConfig> {
    let mut config = base.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity.key.clone()));
    config.resumption = Resumption::in_memory_sessions(TICKETS);
    Arc::new(config)
}

/// Server names the certificate must carry and the time by our clock, in one sentence for people, with what to do.
#[must_use]
pub fn explain(error: &rustls::Error, host: &str) -> (String, String) {
    use rustls::CertificateError as C;
    let cure = match error {
        rustls::Error::InvalidCertificate(c) => match c {
            C::UnknownIssuer => {
                "the server's certificate is not signed by an authority we trust: check the CA file, and that this is the right server"
            }
            C::Expired | C::ExpiredContext { .. } => {
                "the server's certificate has expired, or this machine's clock is ahead"
            }
            C::NotValidYet | C::NotValidYetContext { .. } => {
                "this machine's clock is behind: wait for network time or NTP"
            }
            C::NotValidForName | C::NotValidForNameContext { .. } => {
                "the server's certificate is for another name: check the host"
            }
            _ => "look at the server with 'openssl s_client -connect HOST:PORT -servername HOST'",
        },
        e if refuses_our_certificate(e) => {
            "the server refuses our certificate: is its CA registered there, and the device enabled?"
        }
        rustls::Error::AlertReceived(alert) => {
            use rustls::AlertDescription as A;
            match alert {
                A::ProtocolVersion => "the server wants another TLS version: see session.tls",
                A::NoApplicationProtocol => "the server refuses the application protocol (ALPN): check the port",
                A::UnrecognisedName => "the server does not know this host name: check the host",
                _ => "look into the server's log for the reason",
            }
        }
        rustls::Error::InvalidMessage(_) => "this port does not speak TLS: check host and port",
        rustls::Error::FailedToGetCurrentTime => "nobody knows what time it is: wait for network time or NTP",
        _ => "try 'openssl s_client -connect HOST:PORT -servername HOST' for details",
    };
    (format!("TLS with {host}: {error}"), cure.to_owned())
}

/// Whether the far side's TLS alert is about our certificate: then other credentials may help, and waiting will not.
#[must_use]
pub fn refuses_our_certificate(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as A;
    matches!(
        error,
        rustls::Error::AlertReceived(
            A::UnknownCA
                | A::BadCertificate
                | A::CertificateUnknown
                | A::CertificateExpired
                | A::CertificateRevoked
                | A::AccessDenied
                | A::CertificateRequired
                | A::DecryptError
        )
    )
}

/// What a TLS server asks of its clients.
#[derive(Debug)]
pub enum Clients {
    /// No certificate.
    Anybody,
    /// A certificate that leads to one of these authorities; anything else ends the handshake.
    SignedBy(RootCertStore),
    /// A certificate and proof of its key; whether it is a good one is decided by whoever reads
    /// [`peer_certificates`](rustls::CommonState::peer_certificates), who must not forget to. Version 1 is taken.
    Proven,
    /// The same, and clients without a certificate too.
    ProvenIfSent,
}

/// How to be a TLS server (bench; later the gateway's listener).
#[derive(Debug)]
pub struct Server<'a> {
    /// Whom to be.
    pub identity: &'a Identity,
    /// What is asked of clients.
    pub clients: Clients,
    /// Which versions to take.
    pub versions: Versions,
    /// Application protocols taken; empty takes any.
    pub alpn: &'a [&'a str],
}

impl Server<'_> {
    /// Builds the configuration: stateful resumption and one ticket a handshake, which is the cheapest on a metered line
    /// (818 bytes for a resumed TLS 1.3 handshake instead of 2,077).
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    #[allow(clippy::disallowed_methods)] // the one place: it hands our clock over
    pub fn build(self, clock: &Clock) -> Result<Arc<ServerConfig>, TlsError> {
        let builder = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
            .with_protocol_versions(self.versions.list())
            .map_err(|e| TlsError::Setup(e.to_string()))?;
        let builder = match self.clients {
            Clients::SignedBy(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                    .build()
                    .map_err(|e| TlsError::Setup(e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            clients @ (Clients::Proven | Clients::ProvenIfSent) => {
                let required = matches!(clients, Clients::Proven);
                let verifier = Proven::new(provider().signature_verification_algorithms, required);
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
            Clients::Anybody => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(self.identity.key.clone())));
        config.send_tls13_tickets = 1;
        config.alpn_protocols = self.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}
