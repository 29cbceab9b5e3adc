//! An HTTPS server that says what it was told to say, for answers that the bench's Krypton does not give.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onyx::clock::Clock;
use onyx::config::agent::KryptonAuth;
use onyx::pki::{Authority, Purpose};
use onyx::provision::krypton::door::Settings;
use onyx::tls::{Clients, Identity, Server, Versions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::stage::{Bench, onyx_agent};

/// Longest request head that is read, in bytes.
const HEAD_MAX: usize = 8_192;
/// What is answered next.
#[derive(Debug, Clone)]
pub enum Said {
    /// Status line and headers, body.
    Whole(&'static str, String),
    /// The head of a long body, and a byte of it now and then.
    Drip,
    /// A body that does not end.
    Endless,
}

#[derive(Debug, Clone)]
pub struct Seen {
    pub head: String,
    pub body: String,
}

impl Seen {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.head.lines().skip(1).filter_map(|l| l.split_once(": "));
        found
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
            .next()
    }
}

/// An HTTPS server that answers in the order in which it was told, one request a connection.
pub struct Script {
    address: SocketAddr,
    ca: String,
    ca_pem: Vec<u8>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Script {
    pub fn start(bench: &Bench, answers: impl FnOnce(&Authority) -> Vec<Said>) -> Self {
        let time = Clock::new().now().unwrap().0;
        let day = Duration::from_secs(86_400);
        let authority = Authority::generate("Script", time - day, 9 * day).unwrap();
        let purpose = Purpose::Server(vec!["localhost".into()]);
        let issued = authority.issue("localhost", &purpose, time - day, 2 * day).unwrap();
        let identity =
            Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), "the script").unwrap();
        let tls = Server {
            identity: &identity,
            clients: Clients::Anybody,
            versions: Versions::Both,
            alpn: &["http/1.1"],
        };
        let acceptor = TlsAcceptor::from(tls.build(&Clock::new()).unwrap());
        let listener = bench.rt.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let answers: Arc<Mutex<VecDeque<Said>>> = Arc::new(Mutex::new(answers(&authority).into()));
        let kept = seen.clone();
        bench.rt.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, answers.clone(), kept.clone()));
            }
        });
        let ca = bench.write("script-ca.pem", &authority.root_pem());
        Self {
            address,
            ca: ca.display().to_string(),
            ca_pem: authority.root_pem().into_bytes(),
            seen,
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|s| s.line().to_owned()).collect()
    }

    /// The program, by the cellular door.
    pub fn ask(&self, args: &[&str]) -> (bool, String, String) {
        let (url, at) = (
            format!("https://localhost:{}", self.address.port()),
            self.address.to_string(),
        );
        let endpoint = ["--url", &url, "--address", &at, "--ca-file", &self.ca];
        let (output, out, err) = onyx_agent(&[&["krypton"], args, &endpoint].concat());
        (output.status.success(), out, err)
    }

    pub fn settings(&self) -> Settings {
        Settings {
            door: KryptonAuth::Sim,
            url: format!("https://localhost:{}", self.address.port()).parse().unwrap(),
            address: Some(self.address),
            ca_pem: Some(self.ca_pem.clone()),
            within: Duration::from_secs(20),
        }
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    answers: Arc<Mutex<VecDeque<Said>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        assert!(head.len() < HEAD_MAX, "a head without end");
        head.push(byte);
    }
    let mut one = Seen {
        head: String::from_utf8(head).unwrap(),
        body: String::new(),
    };
    let length = one.header("content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    one.body = String::from_utf8(body).unwrap();
    seen.lock().unwrap().push(one);
    let answer = answers.lock().unwrap().pop_front();
    match answer.unwrap_or(Said::Whole("500 Off script", String::new())) {
        Said::Whole(head, body) => {
            let text = format!(
                "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Said::Drip => {
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
                .await;
            // Until the client has gone.
            while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Said::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{").await;
            while stream.write_all(&[b' '; 4096]).await.is_ok() {}
        }
    }
}
