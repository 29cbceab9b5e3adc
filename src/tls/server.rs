//! How to be a TLS server.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};

use super::proven::Proven;
use super::{Identity, TlsError, Versions, provider};
use crate::clock::Clock;

/// What a TLS server asks of its clients.
#[derive(Debug)]
pub enum Clients {
    /// No certificate.
    Anybody,
    /// A certificate that leads to one of these authorities; anything else ends the handshake.
    SignedBy(RootCertStore),
    /// The same, and clients without a certificate too.
    SignedByIfSent(RootCertStore),
    /// A certificate and proof of its key; whether it is a good one is decided by whoever reads
    /// [`peer_certificates`](rustls::CommonState::peer_certificates), who must not forget to. Version 1 is taken.
    Proven,
    /// The same, and clients without a certificate too.
    ProvenIfSent,
}

/// How to be a TLS server (the bench's clouds, the gateway's door).
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
            Clients::SignedBy(roots) => builder.with_client_cert_verifier(signed_by(roots, true)?),
            Clients::SignedByIfSent(roots) => builder.with_client_cert_verifier(signed_by(roots, false)?),
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

/// Leads to one of `roots`, or ends the handshake.
fn signed_by(roots: RootCertStore, required: bool) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = if required {
        verifier
    } else {
        verifier.allow_unauthenticated()
    };
    verifier.build().map_err(|e| TlsError::Setup(e.to_string()))
}
