//! A server that does not want our certificate, over real sockets.

use tokio::net::TcpListener;

use super::super::super::Cause;
use super::*;
use crate::clock::Clock;
use crate::pki::{Authority, Purpose};
use crate::tls::{Clients, Identity, Server, Versions};

/// A TLS server on loopback with a client that it does not know.
async fn refused_after_the_handshake(version: Versions, reads: bool) -> SessionError {
    let clock = Clock::new();
    let now = clock.system();
    let day = Duration::from_secs(86_400);
    let made = |name: &str, purpose: &Purpose| {
        let authority = Authority::generate(name, now, 2 * day).unwrap();
        let issued = authority.issue("device", purpose, now, day).unwrap();
        let identity = Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), name).unwrap();
        (
            identity,
            crate::tls::roots(authority.root_pem().as_bytes(), name).unwrap(),
        )
    };
    let names = Purpose::Server(vec!["broker.test".into()]);
    let ((server, server_roots), (client, _)) = (made("Server", &names), made("Stranger", &Purpose::Device));
    let config = Server {
        identity: &server,
        clients: Clients::SignedBy(server_roots.clone()),
        versions: version,
        alpn: &[],
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(config.build(&clock).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        if reads {
            assert!(acceptor.accept(stream).await.is_err());
        } else {
            // The handshake by hand, and then a reset: what was not read is thrown away.
            assert!(acceptor.accept(&mut stream).await.is_err());
            stream.set_zero_linger().unwrap();
        }
    };
    let target = Target {
        address: Some(address),
        tls: Some(
            crate::tls::Client {
                identity: Some(&client),
                roots: server_roots,
                versions: version,
                alpn: &[],
            }
            .build(&clock)
            .unwrap(),
        ),
        ..target()
    };
    let connect = Connect::new("c", true, 60);
    let via = Via::default();
    let (opened, ()) = tokio::join!(Conversation::open(&target, &via, &connect), serve);
    error(opened)
}

#[tokio::test]
async fn an_alert_after_the_handshake_is_about_our_certificate() {
    for version in [Versions::Only13, Versions::Only12] {
        let e = refused_after_the_handshake(version, true).await;
        assert_eq!(e.cause(), Cause::Identity, "{version:?}: {e}");
        assert!(e.cure().contains("refuses our certificate"), "{}", e.cure());
    }
}

#[tokio::test]
async fn a_reset_after_the_handshake_is_an_end_and_no_riddle() {
    let e = refused_after_the_handshake(Versions::Only13, false).await;
    // The alert may have come before the reset or not.
    assert!(
        matches!(e, SessionError::Closed { .. }) || e.cause() == Cause::Identity,
        "{e}"
    );
}
