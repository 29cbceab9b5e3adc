//! Dialling the cloud for one device: DNS, TCP, TLS with the device's certificate, CONNECT, and upstream's CONNACK. All of it
//! together has one deadline, `upstream.connect_timeout`.

pub mod tickets;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::group::Upstream;
use super::refusal::Refusal;
use super::socket;
use super::status::{Handshake, Tls};
use crate::mqtt::{Connect, Frame, PacketType, split_frame};
use crate::tls;

/// Size of a CONNACK, in bytes (MQTT 3.1.1 section 3.2); nothing else may come first.
const CONNACK_SIZE: usize = 4;

/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// An open way upstream.
#[derive(Debug)]
pub struct Open {
    /// The encrypted stream.
    pub stream: TlsStream<TcpStream>,
    /// The CONNACK as it came; its return code is 0.
    pub connack: Frame,
    /// What came after it.
    pub rest: BytesMut,
    /// How TLS went.
    pub handshake: Handshake,
}

/// Opens the way and waits for upstream's word.
///
/// # Errors
/// [`Refusal`], with upstream's own code when it refused.
pub async fn open(
    upstream: &Upstream,
    config: Arc<ClientConfig>,
    connect: &Connect,
    write_timeout: std::time::Duration,
) -> Result<Open, Refusal> {
    let mut stage = "looking up its address";
    let way = async {
        let target = upstream.address.clone().unwrap_or_else(|| {
            // An IPv6 address as host needs brackets before its port.
            if upstream.host.contains(':') {
                format!("[{}]:{}", upstream.host, upstream.port)
            } else {
                format!("{}:{}", upstream.host, upstream.port)
            }
        });
        let unreachable = |what: &str, e: std::io::Error| {
            Refusal::Unreachable(format!(
                "{what} {target}: {e}; see [upstream], DNS, routes and firewalls"
            ))
        };
        let addresses = tokio::net::lookup_host(&target)
            .await
            .map_err(|e| unreachable("cannot look up", e))?;
        stage = "connecting";
        let addresses: Vec<_> = addresses.take(ADDRESSES_MAX).collect();
        // A first address that swallows packets leaves time for the others.
        let share = upstream.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut tcp = Err(Refusal::Unreachable(format!("{target} has no address")));
        for address in addresses {
            tcp = match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(result) => result.map_err(|e| unreachable("cannot connect to", e)),
                Err(_) => Err(unreachable("cannot connect to", std::io::ErrorKind::TimedOut.into())),
            };
            if tcp.is_ok() {
                break;
            }
        }
        let tcp = tcp?;
        socket::tune(&tcp, write_timeout);
        stage = "the TLS handshake";
        let name = ServerName::try_from(upstream.host.clone())
            .map_err(|e| Refusal::Tls(format!("upstream.host {:?}: {e}", upstream.host)))?;
        let begun = Instant::now();
        let mut stream = TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(|e| failed(&e, upstream))?;
        let took = begun.elapsed();
        stage = "waiting for CONNACK";
        let bytes = connect.encode().map_err(|e| Refusal::Malformed(e.to_string()))?;
        let sent = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        sent.await.map_err(|e| failed(&e, upstream))?;
        let mut rest = BytesMut::with_capacity(1_024);
        let connack = loop {
            match split_frame(&mut rest, usize::MAX) {
                Ok(Some(frame)) => break frame,
                Ok(None) => {}
                Err(e) => return Err(Refusal::NoAnswer(format!("{} does not speak MQTT: {e}", upstream.host))),
            }
            if rest.first().is_some_and(|b| *b != 0x20) || rest.len() > CONNACK_SIZE {
                return Err(Refusal::NoAnswer(format!(
                    "{} answers CONNECT with something else than CONNACK",
                    upstream.host
                )));
            }
            if stream.read_buf(&mut rest).await.map_err(|e| failed(&e, upstream))? == 0 {
                return Err(Refusal::NoAnswer(format!(
                    "{} closed the connection instead of answering CONNECT: look there for the reason (policy, client id in use, name)",
                    upstream.host
                )));
            }
        };
        let code = match (connack.packet, connack.body()) {
            (PacketType::ConnAck, [_, code]) => *code,
            _ => {
                return Err(Refusal::NoAnswer(format!(
                    "{} answers CONNECT with something else than CONNACK",
                    upstream.host
                )));
            }
        };
        if code != 0 {
            return Err(Refusal::Upstream(code));
        }
        let handshake = handshake(&stream, took);
        Ok(Open {
            stream,
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

fn handshake(stream: &TlsStream<TcpStream>, took: Duration) -> Handshake {
    let session = stream.get_ref().1;
    Handshake::Tls {
        version: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => Tls::V12,
            _ => Tls::V13,
        },
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        took,
    }
}

/// An error of the encrypted stream: TLS trouble is inside the I/O error.
fn failed(error: &std::io::Error, upstream: &Upstream) -> Refusal {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(e) => {
            let (what, cure) = tls::explain(e, &upstream.host);
            Refusal::Tls(format!("{what}: {cure}"))
        }
        None => Refusal::NoAnswer(format!("{} broke the connection off: {error}", upstream.host)),
    }
}
