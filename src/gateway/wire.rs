//! One way to a device or to a cloud, plain or encrypted: the type that the relay and both of its ends share.
//!
//! The encrypted variant is boxed: a connection is moved from the door to its worker and into its relay, and what is moved is two words.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::{CommonState, HandshakeKind, ProtocolVersion};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// An open connection.
#[derive(Debug)]
pub enum Wire {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over it, as client or as server; the handshake is done.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// The socket below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// What TLS knows of this connection; `None` for a plain one.
    #[must_use]
    pub fn session(&self) -> Option<&CommonState> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.get_ref().1),
        }
    }

    /// The certificates the other side has proved to hold the key of, leaf first.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.session()?.peer_certificates()
    }

    /// `plain`, `TLS 1.3`, `TLS 1.3, resumed` and so on: for logs and status.
    #[must_use]
    pub fn shown(&self) -> &'static str {
        let Some(session) = self.session() else {
            return "plain";
        };
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        match (session.protocol_version(), resumed) {
            (Some(ProtocolVersion::TLSv1_2), false) => "TLS 1.2",
            (Some(ProtocolVersion::TLSv1_2), true) => "TLS 1.2, resumed",
            (Some(ProtocolVersion::TLSv1_3), false) => "TLS 1.3",
            (Some(ProtocolVersion::TLSv1_3), true) => "TLS 1.3, resumed",
            (_, false) => "TLS",
            (_, true) => "TLS, resumed",
        }
    }
}

impl From<TcpStream> for Wire {
    fn from(tcp: TcpStream) -> Self {
        Self::Plain(tcp)
    }
}

impl From<tokio_rustls::client::TlsStream<TcpStream>> for Wire {
    fn from(tls: tokio_rustls::client::TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(tls.into()))
    }
}

impl From<tokio_rustls::server::TlsStream<TcpStream>> for Wire {
    fn from(tls: tokio_rustls::server::TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(tls.into()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, into),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, pieces),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_is_small_to_move() {
        assert!(size_of::<Wire>() <= 40, "{}", size_of::<Wire>());
    }
}
