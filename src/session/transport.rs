//! From a name to a stream that an MQTT packet can be written to: TCP, TLS, and the bytes of CONNACK. Every wait is bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{Cause, DURING_HANDSHAKE, SessionError};
use crate::link::{self, Via};
use crate::mqtt::connack;
use crate::tls;

/// A connection, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// First byte of a CONNACK (MQTT 3.1.1 section 3.2.1).
const CONNACK: u8 = 0x20;

/// Where to connect to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name of the broker: for TLS, and to resolve.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Dial this instead of resolving `host`.
    pub address: Option<SocketAddr>,
    /// TLS, or `None` for plain MQTT.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Limit for TCP, for TLS and for CONNACK, each.
    pub within: Duration,
}

/// Dials, and does TLS if the target wants it.
pub(super) async fn open(target: &Target, via: &Via) -> Result<Box<dyn Stream>, SessionError> {
    let tcp = link::dial(via, &target.host, target.port, target.address, target.within).await?;
    Ok(match &target.tls {
        Some(config) => Box::new(handshake(target, config.clone(), tcp).await?),
        None => Box::new(tcp),
    })
}

/// Looks at the first bytes from a broker; an error says what they are instead of a CONNACK. At the first byte, because a server of
/// another kind may never complete what its bytes announce in MQTT.
pub(super) fn can_be_connack(incoming: &[u8]) -> Result<(), String> {
    match incoming {
        [] | [CONNACK, ..] => Ok(()),
        [b'H', b'T', b'T', b'P', ..] => Err("an HTTP server answers".to_owned()),
        [0x15, 0x03, ..] => Err("it answers with a TLS alert, so it wants TLS".to_owned()),
        _ => Err("the first packet is not a CONNACK [MQTT-3.2.0-1]".to_owned()),
    }
}

/// Reads a whole CONNACK, as bytes and not by the codec, which fails on return codes it does not know. The answer is whether the broker
/// has kept the session.
pub(super) fn connack(frame: &[u8], host: &str, port: u16) -> Result<bool, SessionError> {
    match *frame {
        [CONNACK, 0x02, flags, connack::ACCEPTED] => Ok(flags & 0x01 != 0),
        [CONNACK, 0x02, _, code] => Err(SessionError::Refused {
            host: host.to_owned(),
            code,
        }),
        _ => Err(SessionError::NotMqtt {
            host: host.to_owned(),
            port,
            why: "the first packet is not a CONNACK [MQTT-3.2.0-1]".to_owned(),
        }),
    }
}

/// What rustls says in an error of the stream, if it does. In TLS 1.3 a server refuses our certificate only after the handshake looks
/// done: the alert comes with the first read.
pub(super) fn tls_alert(e: &std::io::Error, host: &str) -> Option<SessionError> {
    tls_error(e).map(|inner| tls_fault(inner, host))
}

fn tls_error(e: &std::io::Error) -> Option<&rustls::Error> {
    e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

fn tls_fault(error: &rustls::Error, host: &str) -> SessionError {
    use rustls::CertificateError as C;
    let (what, cure) = tls::explain(error, host);
    let cause = match error {
        rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. })
        | rustls::Error::FailedToGetCurrentTime => Cause::Clock,
        e if tls::refuses_our_certificate(e) => Cause::Identity,
        rustls::Error::InvalidCertificate(_) => Cause::Configuration,
        _ => Cause::Broker,
    };
    let cure = match cause {
        Cause::Configuration => format!("{cure} (session.host, session.ca_file)"),
        _ => cure,
    };
    SessionError::Tls { what, cure, cause }
}

async fn handshake(
    target: &Target,
    config: Arc<rustls::ClientConfig>,
    tcp: tokio::net::TcpStream,
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, SessionError> {
    let host = &target.host;
    let name = ServerName::try_from(host.clone()).map_err(|_| SessionError::Tls {
        what: format!("{host:?} is neither a host name nor an IP address"),
        cure: "check session.host".to_owned(),
        cause: Cause::Configuration,
    })?;
    let within = target.within;
    match tokio::time::timeout(within, TlsConnector::from(config).connect(name, tcp)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) => Err(match tls_error(&e) {
            Some(inner) => tls_fault(inner, host),
            None => SessionError::Closed {
                host: host.clone(),
                when: DURING_HANDSHAKE,
                why: Some(e.to_string()),
            },
        }),
        Err(_) => Err(SessionError::Late {
            host: host.clone(),
            what: "end of the TLS handshake",
            within,
        }),
    }
}
