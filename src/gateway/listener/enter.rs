//! From a socket to a device that can be heard: PROXY header, then TLS. Runs on the worker that will serve the device, within the one deadline
//! that CONNECT has too (`listen.connect_timeout`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::proxy::{self, Told};
use super::tls::{DoorTls, failed};
use super::{Kind, Visit};
use crate::gateway::guess::Origin;
use crate::gateway::refusal::Refusal;
use crate::gateway::subscriber::PeerCertificate;
use crate::gateway::wire::Wire;

/// Who is at the other end, as far as the door can tell.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where the device calls from; behind a trusted proxy, what its header says.
    pub address: SocketAddr,
    /// The proxy it came through.
    pub via: Option<IpAddr>,
    /// Its certificate, which the handshake has found good.
    pub certificate: Option<PeerCertificate>,
    /// By when its CONNECT must be whole.
    pub deadline: Instant,
    /// How long that was when it came.
    pub patience: Duration,
}

impl Peer {
    /// Whom its refusals are counted against.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::of(self.address.ip())
    }
}

/// First byte of a TLS record with a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// First byte of a CONNECT (MQTT 3.1.1 section 3.1.1).
const CONNECT: u8 = 0x10;

/// Lets a connection in.
///
/// # Errors
/// [`Refusal`].
pub(super) async fn enter(
    mut stream: TcpStream,
    visit: &Visit,
    tls: Option<&DoorTls>,
) -> Result<(Wire, Peer), Refusal> {
    let mut peer = Peer {
        address: visit.address,
        via: None,
        certificate: None,
        deadline: visit.deadline,
        patience: visit.patience,
    };
    let patience = visit.patience.as_secs();
    let steps = async {
        if visit.proxied {
            if let Told::Device(address) = header(&mut stream).await? {
                peer.via = Some(peer.address.ip());
                peer.address = address;
            }
            visit.arrived(&peer)?;
        }
        match (visit.kind, tls) {
            (Kind::Plain, _) => Ok(Wire::Plain(stream)),
            (Kind::Tls, None) => Err(Refusal::DoorTls("the door with TLS has no certificate".to_owned())),
            (Kind::Tls, Some(tls)) => {
                let mut first = [0_u8; 1];
                match stream.peek(&mut first).await {
                    Ok(0) | Err(_) => return Err(Refusal::Gone),
                    Ok(_) if first != [TLS_HANDSHAKE] => {
                        let mut start = [0_u8; proxy::FIXED];
                        let n = stream.peek(&mut start).await.unwrap_or(0);
                        return Err(stranger(start.get(..n).unwrap_or_default(), Kind::Tls));
                    }
                    Ok(_) => {}
                }
                let accepted = TlsAcceptor::from(tls.config.clone()).accept(stream).await;
                accepted.map(Wire::from).map_err(|e| failed(&e))
            }
        }
    };
    let wire = timeout_at(visit.deadline, steps)
        .await
        .map_err(|_| Refusal::Silent(patience))??;
    if let Some(tls) = tls {
        peer.certificate = tls.certificate(&wire, &visit.hall.clock)?;
    }
    Ok((wire, peer))
}

/// The header of a trusted proxy. Not one byte more is read: TLS may come next.
pub(in crate::gateway) async fn header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Told, Refusal> {
    let wrong = |e: proxy::ProxyError| Refusal::Proxy(e.to_string());
    let mut fixed = [0_u8; proxy::FIXED];
    let mut filled = 0;
    while let Some(rest) = fixed.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await {
            Ok(0) | Err(_) => return Err(Refusal::Gone),
            Ok(n) => filled += n,
        }
        let start = fixed.get(..filled).unwrap_or_default();
        // A device that speaks MQTT at once and then waits would otherwise be left to wait.
        if !is_start(start, &proxy::SIGNATURE) {
            let v1 = is_start(start, &proxy::SIGNATURE_1);
            return Err(wrong(if v1 {
                proxy::ProxyError::Version1
            } else {
                proxy::ProxyError::Missing
            }));
        }
    }
    let fixed = proxy::fixed(&fixed).map_err(wrong)?;
    let mut rest = vec![0_u8; fixed.rest];
    stream.read_exact(&mut rest).await.map_err(|_| Refusal::Gone)?;
    proxy::told(fixed, &rest).map_err(wrong)
}

/// Whether these bytes begin with `whole`, as far as both go.
fn is_start(bytes: &[u8], whole: &[u8]) -> bool {
    bytes.iter().zip(whole).all(|(a, b)| a == b)
}

/// What speaks here that should not, by its first bytes.
#[must_use]
pub(in crate::gateway) fn stranger(start: &[u8], kind: Kind) -> Refusal {
    let untrusted = "a PROXY header from an address that is not in listen.proxies: add the load balancer there, or let it send none";
    match (start, kind) {
        ([b'\r', ..], _) if is_start(start, &proxy::SIGNATURE) => Refusal::Proxy(untrusted.to_owned()),
        ([b'P', ..], _) if start.len() >= 6 && is_start(start, &proxy::SIGNATURE_1) => {
            Refusal::Proxy(untrusted.to_owned())
        }
        ([TLS_HANDSHAKE, ..], Kind::Plain) => {
            Refusal::Malformed("it speaks TLS at the plain door: the door with TLS is listen.tls.address".to_owned())
        }
        ([CONNECT, ..], Kind::Tls) => {
            Refusal::DoorTls("it speaks plain MQTT at the door with TLS: the plain one is listen.address".to_owned())
        }
        (_, Kind::Plain) => Refusal::Malformed("the first packet is not CONNECT [MQTT-3.1.0-1]".to_owned()),
        (_, Kind::Tls) => Refusal::DoorTls("the first bytes are no TLS handshake".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_the_wrong_door_is_told_apart() {
        for (start, kind, key, word) in [
            (&proxy::SIGNATURE[..], Kind::Plain, "proxy", "listen.proxies"),
            (b"\r\n", Kind::Tls, "proxy", "listen.proxies"),
            (b"PROXY TCP4 ", Kind::Plain, "proxy", "listen.proxies"),
            (b"PUT / HTTP", Kind::Plain, "malformed", "MQTT-3.1.0-1"),
            (b"\x16\x03\x01", Kind::Plain, "malformed", "listen.tls.address"),
            (b"\x10\x0c", Kind::Tls, "tls", "listen.address"),
            (b"GET / HTTP", Kind::Tls, "tls", "no TLS"),
        ] {
            let refusal = stranger(start, kind);
            assert_eq!(refusal.key(), key, "{start:02x?}");
            assert!(refusal.to_string().contains(word), "{refusal}");
            assert_eq!(refusal.code(), None);
        }
    }
}
