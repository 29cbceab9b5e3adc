//! How to be a TLS client.

use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::resume::OneServer;
use super::{Identity, TlsError, provider};
use crate::clock::Clock;

/// Which versions of TLS to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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
    pub(super) fn list(self) -> &'static [&'static SupportedProtocolVersion] {
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

/// The same way of being a client under another identity, sharing the authorities (a megabyte when they are the system's) and
/// nothing else: the session tickets are a fresh, empty store, because a ticket resumes the session, and so the identity, it was
/// given for. The result is for one server: it keeps the tickets of the one it spoke to last.
#[must_use]
pub fn for_identity(base: &ClientConfig, identity: &Identity) -> Arc<ClientConfig> {
    let mut config = base.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity.key.clone()));
    config.resumption = Resumption::store(Arc::new(OneServer::default()));
    Arc::new(config)
}
