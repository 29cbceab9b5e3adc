//! The door with TLS: who the gateway is, whose certificates it takes, and what a device's certificate says.
//!
//! A device without a certificate may come in and be known by its token; one with a certificate that leads to no authority of
//! `listen.tls.client_ca` is refused in the handshake. The files are read at the start and at each reload; devices that are connected
//! stay so. A reload makes a new configuration with its own session cache, so nobody resumes a session that a removed authority let in.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::clock::Clock;
use crate::files::read_small;
use crate::gateway::book::FILE_MAX;
use crate::gateway::config::ListenTls;
use crate::gateway::refusal::Refusal;
use crate::gateway::subscriber::PeerCertificate;
use crate::gateway::wire::Wire;
use crate::identity::NameTemplate;
use crate::tls::{self, Clients, Identity, Pem, Versions};

/// What the door with TLS works with.
#[derive(Debug, Clone)]
pub struct DoorTls {
    /// For the handshake.
    pub(super) config: Arc<ServerConfig>,
    name: NameTemplate,
}

impl DoorTls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it.
    pub fn read(settings: &ListenTls, clock: &Clock) -> Result<Self, String> {
        let file = |key: &str, path: &Path| {
            read_small(path, FILE_MAX)
                .map(zeroize::Zeroizing::new)
                .map_err(|e| format!("listen.tls.{key}: cannot read {}: {e}", path.display()))
        };
        let certificate = file("certificate", &settings.certificate)?;
        let key = file("key", &settings.key)?;
        let (shown, key_shown) = (
            settings.certificate.display().to_string(),
            settings.key.display().to_string(),
        );
        let identity = Identity::of(
            Pem {
                text: &certificate,
                from: &shown,
            },
            Pem {
                text: &key,
                from: &key_shown,
            },
        )
        .map_err(|e| format!("listen.tls: {e}"))?;
        let clients = match &settings.client_ca {
            None => Clients::Anybody,
            Some(path) => {
                let pem = file("client_ca", path)?;
                let roots = tls::roots(&pem, &path.display().to_string());
                Clients::SignedByIfSent(roots.map_err(|e| format!("listen.tls.client_ca: {e}"))?)
            }
        };
        let server = tls::Server {
            identity: &identity,
            clients,
            versions: Versions::Both,
            alpn: &[],
        };
        Ok(Self {
            config: server.build(clock).map_err(|e| format!("listen.tls: {e}"))?,
            name: settings.name.clone(),
        })
    }

    /// What the device's certificate says, if it has shown one. A session that was resumed brings the certificate of its first handshake,
    /// which may have expired since.
    pub(super) fn certificate(&self, wire: &Wire, clock: &Clock) -> Result<Option<PeerCertificate>, Refusal> {
        let Some(leaf) = wire.peer_certificates().and_then(<[_]>::first) else {
            return Ok(None);
        };
        let certificate = PeerCertificate::of(leaf, &self.name).map_err(|e| Refusal::Certificate(e.to_string()))?;
        match clock.now() {
            Some((now, _)) if now > certificate.not_after => Err(Refusal::Certificate(
                "the device resumes a session whose certificate has expired: issue it a new one".to_owned(),
            )),
            _ => Ok(Some(certificate)),
        }
    }
}

/// Why a handshake failed, in words: the TLS error is inside the I/O error.
pub(super) fn failed(error: &std::io::Error) -> Refusal {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => Refusal::Certificate(format!(
            "the device's certificate is refused ({why:?}): is its authority in listen.tls.client_ca, and is it a valid version 3 certificate?"
        )),
        Some(e) => Refusal::DoorTls(format!("the TLS handshake with the device failed: {e}")),
        None => Refusal::Gone,
    }
}
