//! Dialling the cloud for one device: its address, TCP, TLS with the device's certificate, CONNECT, and upstream's CONNACK. All of it
//! together has one deadline, `upstream.connect_timeout`.
//!
//! | file | step |
//! |---|---|
//! | `address` | name to address to TCP |
//! | `lookup` | names, within bounds |
//! | [`tickets`] | whom to trust and whom to be: configurations for TLS, with their session tickets |
//! | this one | the steps in order, and TLS itself |
//! | `hello` | CONNECT and CONNACK |

mod address;
mod hello;
mod lookup;
pub mod tickets;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::group::{Kind, Upstream};
use super::refusal::Refusal;
use super::status::Handshake;
use super::wire::Wire;
use crate::cloud::aws_iot;
use crate::mqtt::{ConnAck, Level};
use crate::tls;

/// An open way upstream.
#[derive(Debug)]
pub struct Open {
    /// The connection.
    pub wire: Wire,
    /// Upstream's word, which may be a refusal.
    pub connack: ConnAck,
    /// What came after it.
    pub rest: BytesMut,
    /// How TLS went.
    pub handshake: Handshake,
}

/// How far the way is, for words about a deadline.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Lookup,
    Tcp,
    Tls,
    ConnAck,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lookup => "looking up its address",
            Self::Tcp => "connecting",
            Self::Tls => "the TLS handshake",
            Self::ConnAck => "waiting for CONNACK",
        })
    }
}

/// The application protocol to ask for: the configured one, or the one that AWS IoT Core wants on its HTTPS port.
#[must_use]
pub fn alpn(upstream: &Upstream) -> Option<&str> {
    let by_kind = match upstream.kind {
        Kind::AwsIot => aws_iot::alpn(upstream.port).first().copied(),
        _ => None,
    };
    upstream.alpn.as_deref().or(by_kind)
}

/// Opens the way, says `connect` (a whole packet of this version) and waits for upstream's word. Without a `config` it is plain MQTT.
///
/// # Errors
/// [`Refusal`]; what upstream itself says is no error here.
pub async fn open(
    upstream: &Upstream,
    config: Option<Arc<ClientConfig>>,
    connect: (&[u8], Level),
    write_timeout: Duration,
) -> Result<Open, Refusal> {
    let mut stage = Stage::Lookup;
    let way = async {
        let tcp = address::dial(upstream, write_timeout, &mut stage).await?;
        let begun = Instant::now();
        let mut wire = match config {
            None => Wire::Plain(tcp),
            Some(config) => {
                stage = Stage::Tls;
                encrypt(upstream, config, tcp).await?
            }
        };
        let handshake = Handshake::of(&wire, begun.elapsed());
        stage = Stage::ConnAck;
        let (connack, rest) = hello::hello(&mut wire, connect, upstream).await?;
        Ok(Open {
            wire,
            connack,
            rest,
            handshake,
        })
    };
    let deadline = upstream.connect_timeout;
    match tokio::time::timeout(deadline, way).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::Unreachable(format!(
            "{}:{}: {stage} took longer than {} s (upstream.connect_timeout)",
            upstream.host,
            upstream.port,
            deadline.as_secs()
        ))),
    }
}

async fn encrypt(upstream: &Upstream, config: Arc<ClientConfig>, tcp: TcpStream) -> Result<Wire, Refusal> {
    let name = ServerName::try_from(upstream.host.clone())
        .map_err(|e| Refusal::Tls(format!("upstream.host {:?}: {e}", upstream.host)))?;
    let stream = TlsConnector::from(config).connect(name, tcp).await;
    stream.map(Wire::from).map_err(|e| failed(&e, upstream))
}

/// An error of the stream: TLS trouble is inside the I/O error.
fn failed(error: &std::io::Error, upstream: &Upstream) -> Refusal {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(e) => {
            let (what, cure) = tls::explain(e, &upstream.host);
            Refusal::Tls(format!("{what}: {cure}"))
        }
        None => Refusal::NoAnswer(format!("{} broke the connection off: {error}", upstream.host)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::group::Group;

    #[test]
    fn aws_is_asked_for_mqtt_on_the_https_port() {
        let mut u = Group::for_tests("x-ats.iot.eu-west-1.amazonaws.com", "c").upstream;
        assert_eq!(alpn(&u), None);
        u.port = 443;
        assert_eq!(alpn(&u), None, "not AWS");
        u.kind = Kind::AwsIot;
        assert_eq!(alpn(&u), Some("x-amzn-mqtt-ca"));
        u.alpn = Some("mqtt".into());
        assert_eq!(alpn(&u), Some("mqtt"), "what is configured goes first");
        (u.alpn, u.port) = (None, 8_883);
        assert_eq!(alpn(&u), None);
    }
}
