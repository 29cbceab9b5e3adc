//! Requests to everything that speaks HTTP: axum's own server over a pipe, with the router of a door behind it.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::serve::Listener;
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::stands::Ground;
use crate::bench::clouds::door::{self, Door};
use crate::bench::clouds::dps;
use crate::bench::clouds::https::Caller;
use crate::bench::clouds::krypton::{Entry, Krypton, signed};
use crate::bench::clouds::subscribers::DEFAULT_IMSI;
use crate::bench::subscriber::Sim;

/// Requests of an input that are sent.
const REQUESTS_MAX: usize = 6;
/// More than any answer has, in bytes.
const ANSWER_MAX: usize = 4 << 20;
/// What the pipe holds, in bytes.
const PIPE: usize = 64 * 1024;
/// A method call may wait for its device, by its own parameters; this is not waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// Connections that are pipes.
struct Pipes(mpsc::Receiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The first byte chooses the door (`k` Krypton, `i` its internet door, `d` DPS, anything else control); then requests, a NUL between
/// them: method and path in the first line, headers in the next ones, an empty line, the body. A header `sign` becomes Krypton's three,
/// `{key}` the id of a key that was proved. A request that begins with `!` is sent as it is.
///
/// # Panics
/// Something is wrong with the code under test.
pub fn http(data: &[u8]) {
    let [which, rest @ ..] = data else { return };
    let ground = Ground::here();
    let krypton = Arc::new(Krypton::new(
        &ground.config,
        Arc::clone(&ground.ca),
        ground.clock.fork(),
    ));
    let key = matches!(which, b'i').then(|| prove(&krypton));
    let door = |entry| {
        door::router(Door {
            krypton: Arc::clone(&krypton),
            journal: Arc::clone(&ground.journal),
            stop: CancellationToken::new(),
            entry,
        })
    };
    let router: Router = match which {
        b'k' => door(Entry::Cellular),
        b'i' => door(Entry::Internet),
        b'd' => dps::https::devices(ground.dps().1, Arc::clone(&ground.journal)),
        _ => ground.control(),
    };
    let peer = ground.peer(0);
    let caller = Caller::by_hand(peer.address, peer.chain.into());
    let router = router.layer(Extension(ConnectInfo(caller)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (send, pipes) = mpsc::channel(1);
        let serving = tokio::spawn(axum::serve(Pipes(pipes), router).into_future());
        for request in rest.split(|b| *b == 0).take(REQUESTS_MAX) {
            let Some(asked) = compose(&ground, key.as_ref(), request) else {
                continue;
            };
            let (mine, theirs) = duplex(PIPE);
            send.send(theirs).await.expect("the server runs");
            let is_raw = request.first() == Some(&b'!');
            if let Ok(answer) = tokio::time::timeout(PATIENCE, exchange(mine, &asked, is_raw)).await {
                assert!(answer.len() < ANSWER_MAX, "{} bytes", answer.len());
                // A handler that panics leaves its connection without an answer.
                assert!(
                    answer.starts_with(b"HTTP/1.1 ") || is_raw,
                    "{:?} got {:?}",
                    String::from_utf8_lossy(&asked),
                    String::from_utf8_lossy(&answer)
                );
                // Nor may it excuse itself: 500 is for the unforeseen.
                assert!(
                    !answer.starts_with(b"HTTP/1.1 500"),
                    "{:?} got {:?}",
                    String::from_utf8_lossy(&asked),
                    String::from_utf8_lossy(&answer)
                );
            }
        }
        serving.abort();
    });
}

async fn exchange(stream: DuplexStream, request: &[u8], ends: bool) -> Vec<u8> {
    let (read, mut write) = tokio::io::split(stream);
    let say = async {
        let _ = write.write_all(request).await;
        // A whole request asks for the end itself; hyper drops one whose client has gone already.
        if ends {
            let _ = write.shutdown().await;
        }
    };
    let hear = async {
        let mut answer = Vec::new();
        let _ = read.take(ANSWER_MAX as u64).read_to_end(&mut answer).await;
        answer
    };
    tokio::join!(say, hear).1
}

/// Id and key of a challenge that the bench's SIM has answered.
fn prove(krypton: &Krypton) -> (String, [u8; 16]) {
    let challenge = krypton
        .challenge(json!({"imsi": DEFAULT_IMSI}).to_string().as_bytes())
        .expect("a challenge");
    let text = |name: &str| challenge[name].as_str().expect("a string").to_owned();
    let bytes = |name: &str| -> [u8; 16] {
        STANDARD
            .decode(text(name))
            .expect("base64")
            .try_into()
            .expect("16 bytes")
    };
    let met = Sim::default().secrets().meet(&bytes("rand"), &bytes("autn"));
    let (_, agreed) = met.expect("its own operator's challenge");
    let proof = json!({"res": STANDARD.encode(agreed.res)}).to_string();
    let _: Value = krypton.verify(&text("keyId"), proof.as_bytes()).expect("a proof");
    (text("keyId"), *agreed.ck)
}

/// The request as bytes; nothing when it is none that HTTP could carry.
fn compose(ground: &Ground, key: Option<&(String, [u8; 16])>, request: &[u8]) -> Option<Vec<u8>> {
    if let [b'!', raw @ ..] = request {
        return Some(raw.to_vec());
    }
    let gap = request.windows(2).position(|w| w == b"\n\n");
    let (head, body) = gap.map_or((request, &[][..]), |at| (&request[..at], &request[at + 2..]));
    let head = std::str::from_utf8(head).ok()?;
    let id = key.map_or("", |(id, _)| id);
    let body = match std::str::from_utf8(body) {
        Ok(text) => text.replace("{key}", id).into_bytes(),
        Err(_) => body.to_vec(),
    };
    let mut lines = head.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let path = path.replace("{key}", id);
    let plain = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
    // What hyper itself refuses is not ours; it comes with `!`.
    if !token(method) || method == "CONNECT" || !plain || path.parse::<axum::http::Uri>().is_err() {
        return None;
    }
    let length = body.len();
    let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n");
    let mut host = "host: localhost\r\n".to_owned();
    for line in lines {
        if let ("sign", Some((_, ck))) = (line, key) {
            let stamp = ground.clock.system().as_millis().to_string();
            let signature = signed::signature(&body, &stamp, ck);
            text += &format!(
                "x-soracom-timestamp: {stamp}\r\nx-soracom-digest-algorithm: SHA-256\r\nx-soracom-signature: {signature}\r\n"
            );
            continue;
        }
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        let framing = ["content-length", "transfer-encoding", "connection", "upgrade", "expect"];
        let visible = value.bytes().all(|b| b >= 0x20 && b != 0x7f);
        if !token(name) || !visible || framing.iter().any(|f| f.eq_ignore_ascii_case(name)) {
            continue;
        }
        if name.eq_ignore_ascii_case("host") {
            host.clear();
        }
        text += &format!("{name}: {value}\r\n");
    }
    let mut bytes = format!("{text}{host}\r\n").into_bytes();
    bytes.extend_from_slice(&body);
    Some(bytes)
}
