//! An upstream that does not want our certificate, and has gone before we said a word.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock::Clock;
use crate::gateway::group::Group;
use crate::pki::{Authority, Purpose};
use crate::tls::{self, Client, Clients, Identity, Server, Versions};

/// With TLS 1.3 our side of the handshake is over before upstream has looked at the certificate. Its alert is read, and the reset behind it
/// has arrived, before CONNECT is written: the refusal is about TLS all the same.
#[tokio::test]
async fn an_alert_that_is_followed_by_a_reset_is_still_heard() {
    let clock = Clock::new();
    let (now, day) = (clock.system(), Duration::from_secs(86_400));
    let made = |name: &str, purpose: &Purpose| {
        let authority = Authority::generate(name, now, 2 * day).unwrap();
        let issued = authority.issue("device", purpose, now, day).unwrap();
        let identity = Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), name).unwrap();
        (authority, identity)
    };
    let (ca, server) = made("Server", &Purpose::Server(vec!["localhost".into()]));
    let (_, stranger) = made("Stranger", &Purpose::Device);
    let roots = || tls::roots(ca.root_pem().as_bytes(), "Server").unwrap();
    let config = Server {
        identity: &server,
        clients: Clients::SignedBy(roots()),
        versions: Versions::Only13,
        alpn: &[],
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(config.build(&clock).unwrap());
    let config = Client {
        identity: Some(&stranger),
        roots: roots(),
        versions: Versions::Only13,
        alpn: &[],
    };
    let connector = tokio_rustls::TlsConnector::from(config.build(&clock).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    let name = "localhost".try_into().unwrap();
    let (refused, connected) = tokio::join!(acceptor.accept(&mut accepted), connector.connect(name, tcp));
    assert!(refused.is_err());
    let mut wire = Wire::from(connected.unwrap());
    accepted.set_zero_linger().unwrap();
    drop(accepted);
    // The reset is there: loopback delivers it before close returns, and the socket tells of it.
    while wire.tcp().take_error().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let upstream = Group::for_tests("localhost", "x").upstream;
    let connect = crate::mqtt::Connect::new("x", true, 60).encode().unwrap();
    let refusal = hello(&mut wire, (&connect, Level::V3), &upstream).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Tls(_)), "{refusal:?}");
}
