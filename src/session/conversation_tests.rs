//! The far side is a script over a pipe, and time is the test's: a wait takes no time and its length is known to the millisecond.

use std::future::Future;

use bytes::BufMut;
use proptest::prelude::*;
use rumqttc::mqttbytes::v4::SubAck;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::super::Cause;
use super::*;
use crate::clock::Clock;
use crate::pki::{Authority, Purpose};
use crate::tls::{Clients, Identity, Server, Versions};

const WITHIN: Duration = Duration::from_secs(3);
/// Bytes that the pipe holds each way: less than the largest packet.
const PIPE: usize = 16 * 1024;
const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];

fn target() -> Target {
    Target {
        host: "broker.test".into(),
        port: 8883,
        address: None,
        tls: None,
        within: WITHIN,
    }
}

/// The far side's end of the pipe.
struct Peer {
    pipe: DuplexStream,
    incoming: BytesMut,
}

impl Peer {
    async fn say(&mut self, bytes: &[u8]) {
        self.pipe.write_all(bytes).await.unwrap();
    }

    async fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.say(&bytes).await;
    }

    async fn message(&mut self, topic: &str, payload: &[u8]) {
        let mut message = Publish::new(topic, QoS::AtLeastOnce, payload);
        message.pkid = 7;
        self.send(&Packet::Publish(message)).await;
    }

    async fn hear(&mut self) -> Packet {
        loop {
            if let Some(frame) = split_frame(&mut self.incoming, usize::MAX).unwrap() {
                return Packet::read(&mut BytesMut::from(&frame.bytes[..]), usize::MAX).unwrap();
            }
            assert_ne!(self.pipe.read_buf(&mut self.incoming).await.unwrap(), 0, "it hung up");
        }
    }

    /// Waits until the other end is closed.
    async fn end(mut self) {
        while self.pipe.read_buf(&mut self.incoming).await.unwrap() > 0 {}
    }

    async fn connack(&mut self) {
        assert!(matches!(self.hear().await, Packet::Connect(_)));
        self.say(&ACCEPTED).await;
    }

    async fn suback(&mut self) {
        let Packet::Subscribe(asked) = self.hear().await else {
            panic!("no SUBSCRIBE")
        };
        let granted = asked
            .filters
            .iter()
            .map(|_| SubscribeReasonCode::Success(QoS::AtLeastOnce));
        self.send(&Packet::SubAck(SubAck::new(asked.pkid, granted.collect())))
            .await;
    }

    /// Nothing more is said; what comes is read.
    async fn silence(self) {
        self.end().await;
    }
}

/// Runs both sides to their ends.
async fn talk<T, P: Future<Output = ()>>(
    peer: impl FnOnce(Peer) -> P,
    ours: impl AsyncFnOnce(Result<Conversation, SessionError>) -> T,
) -> T {
    let (near, far) = tokio::io::duplex(PIPE);
    let far = peer(Peer {
        pipe: far,
        incoming: BytesMut::new(),
    });
    let near = async {
        let opened = Conversation::over(Box::new(near), &target(), &Connect::new("c", true, 60)).await;
        ours(opened).await
    };
    tokio::join!(near, far).0
}

fn error<T>(result: Result<T, SessionError>) -> SessionError {
    match result {
        Ok(_) => panic!("it went well"),
        Err(e) => e,
    }
}

#[tokio::test(start_paused = true)]
async fn questions_and_answers_with_a_message_that_comes_early() {
    let peer = |mut peer: Peer| async move {
        let Packet::Connect(connect) = peer.hear().await else {
            panic!("no CONNECT")
        };
        assert_eq!(
            (connect.client_id.as_str(), connect.keep_alive, connect.clean_session),
            ("c", 60, true)
        );
        // Every byte alone.
        for byte in ACCEPTED {
            peer.say(&[byte]).await;
        }
        let Packet::Subscribe(asked) = peer.hear().await else {
            panic!("no SUBSCRIBE")
        };
        let paths: Vec<_> = asked.filters.iter().map(|f| (f.path.as_str(), f.qos)).collect();
        assert_eq!(paths, [("a", QoS::AtLeastOnce), ("b", QoS::AtLeastOnce)]);
        peer.message("a", b"early").await;
        peer.send(&Packet::PingResp).await;
        let codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce); 2];
        // One that answers nothing comes first.
        peer.send(&Packet::SubAck(SubAck::new(99, codes.clone()))).await;
        peer.send(&Packet::SubAck(SubAck::new(asked.pkid, codes))).await;
        assert_eq!(peer.hear().await, Packet::PubAck(PubAck::new(7)));
        let Packet::Publish(question) = peer.hear().await else {
            panic!("no PUBLISH")
        };
        assert_eq!(
            (question.topic.as_str(), question.qos, question.dup),
            ("q", QoS::AtLeastOnce, false)
        );
        peer.message("b", b"before its acknowledgement").await;
        peer.send(&Packet::PubAck(PubAck::new(question.pkid))).await;
        assert_eq!(peer.hear().await, Packet::PubAck(PubAck::new(7)));
        assert_eq!(peer.hear().await, Packet::Disconnect);
        peer.end().await;
    };
    talk(peer, async |opened| {
        let mut talk = opened.unwrap();
        talk.subscribe(&["a", "b"]).await.unwrap();
        talk.publish("q", b"?").await.unwrap();
        assert_eq!(talk.message(WITHIN).await.unwrap().payload, "early");
        let topic = talk
            .answer(WITHIN, |m| (m.topic == "b").then_some(m.topic))
            .await
            .unwrap();
        assert_eq!(topic, "b");
        talk.close().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_has_its_code() {
    for code in [1_u8, 2, 3, 4, 5, 6, 255] {
        let peer = |mut peer: Peer| async move {
            peer.hear().await;
            peer.say(&[0x20, 2, 0, code]).await;
            peer.end().await;
        };
        let e = talk(peer, async |opened| error(opened)).await;
        assert!(matches!(&e, SessionError::Refused { code: c, .. } if *c == code), "{e}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_connack_is_named_at_once() {
    for (bytes, why) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "an HTTP server answers"),
        (&[0x15, 0x03, 0x03, 0, 2, 2, 40], "wants TLS"),
        (&[0x40, 2, 0, 1], "not a CONNACK"),
        (&[0x30], "not a CONNACK"),
        (&[0x20, 3, 0, 0, 0], "not a CONNACK"),
        (&[0x20, 0xff, 0xff, 0xff, 0xff], "does not speak MQTT"),
        (&[0x20, 0xff, 0xff, 0x7f], "larger than the limit"),
    ] {
        let peer = |mut peer: Peer| async move {
            peer.hear().await;
            peer.say(bytes).await;
            peer.end().await;
        };
        let begin = Instant::now();
        let e = talk(peer, async |opened| error(opened)).await;
        assert!(
            matches!(e, SessionError::NotMqtt { .. }) && e.to_string().contains(why),
            "{bytes:?}: {e}"
        );
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_is_not_granted_is_named() {
    for codes in [
        vec![
            SubscribeReasonCode::Success(QoS::AtLeastOnce),
            SubscribeReasonCode::Failure,
        ],
        vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)],
    ] {
        let peer = |mut peer: Peer| async move {
            peer.connack().await;
            peer.hear().await;
            peer.send(&Packet::SubAck(SubAck::new(1, codes))).await;
            peer.end().await;
        };
        let e = talk(peer, async |opened| error(opened.unwrap().subscribe(&["a", "b"]).await)).await;
        assert!(
            matches!(&e, SessionError::NotAllowed { filter, .. } if filter == "b"),
            "{e}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_a_subscribe_is_not_sent() {
    let peer = |mut peer: Peer| async move {
        peer.connack().await;
        assert_eq!(peer.hear().await, Packet::Disconnect);
        peer.end().await;
    };
    talk(peer, async |opened| {
        let mut talk = opened.unwrap();
        error(talk.subscribe(&[]).await);
        error(talk.subscribe(&["a"; FILTERS_MAX + 1]).await);
        talk.close().await;
    })
    .await;
}

/// One call of a conversation, to be failed.
#[derive(Debug, Clone, Copy)]
enum Call {
    Open,
    Subscribe,
    Publish,
    Message,
}

const CALLS: [Call; 4] = [Call::Open, Call::Subscribe, Call::Publish, Call::Message];

/// The far side goes along until `call`, then does `fault`.
async fn fails<P: Future<Output = ()>>(call: Call, fault: impl FnOnce(Peer) -> P) -> (SessionError, Duration) {
    let peer = |mut peer: Peer| async move {
        if !matches!(call, Call::Open) {
            peer.connack().await;
        }
        if matches!(call, Call::Publish | Call::Message) {
            peer.suback().await;
        }
        peer.hear().await; // the packet that asks
        fault(peer).await;
    };
    talk(peer, async |opened| {
        let begin = Instant::now();
        let e = match (call, opened) {
            (Call::Open, opened) => error(opened),
            (Call::Subscribe, Ok(mut talk)) => error(talk.subscribe(&["a"]).await),
            (_, Ok(mut talk)) => {
                talk.subscribe(&["a"]).await.unwrap();
                if matches!(call, Call::Publish) {
                    error(talk.publish("q", b"?").await)
                } else {
                    talk.request("q", b"?").await.unwrap();
                    error(talk.message(WITHIN).await)
                }
            }
            (_, Err(e)) => panic!("{e}"),
        };
        // Failed in opening: then the wait was before `begin`.
        (e, begin.elapsed())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn silence_costs_the_limit_at_each_step() {
    let begin = Instant::now();
    for (call, what) in CALLS
        .into_iter()
        .zip(["answer to CONNECT", "answer to SUBSCRIBE", "acknowledgement", "answer"])
    {
        let (e, _) = fails(call, Peer::silence).await;
        assert!(
            matches!(&e, SessionError::Late { what: w, within, .. } if *w == what && *within == WITHIN),
            "{call:?}: {e}"
        );
    }
    assert_eq!(begin.elapsed(), WITHIN * 4);
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_seen_at_once_at_each_step() {
    let begin = Instant::now();
    for call in CALLS {
        for bytes in [&[][..], &[0x20], &[0x90, 3, 0], &[0x40, 2], &[0x30, 0x20, 0]] {
            if matches!(call, Call::Open) && bytes.first().is_some_and(|b| *b != 0x20) {
                continue;
            }
            let (e, _) = fails(call, |mut peer| async move { peer.say(bytes).await }).await;
            assert!(matches!(e, SessionError::Closed { .. }), "{call:?} {bytes:?}: {e}");
        }
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn packets_that_have_no_place_end_it() {
    let mut at_qos_2 = Publish::new("a", QoS::ExactlyOnce, "x");
    at_qos_2.pkid = 3;
    for (packet, why) in [
        (Packet::Connect(rumqttc::mqttbytes::v4::Connect::new("x")), "a Connect"),
        (Packet::PingReq, "a PingReq"),
        (Packet::Disconnect, "a Disconnect"),
        (Packet::Publish(at_qos_2), "at QoS 2"),
    ] {
        for call in [Call::Subscribe, Call::Publish, Call::Message] {
            let packet = packet.clone();
            let fault = |mut peer: Peer| async move {
                peer.send(&packet).await;
                peer.end().await;
            };
            let (e, _) = fails(call, fault).await;
            assert!(
                matches!(e, SessionError::NotMqtt { .. }) && e.to_string().contains(why),
                "{call:?}: {e}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_kept_up_to_the_bound() {
    for (sent, enough) in [(KEPT_MAX, true), (KEPT_MAX + 1, false)] {
        let peer = |mut peer: Peer| async move {
            peer.connack().await;
            let Packet::Subscribe(asked) = peer.hear().await else {
                panic!("no SUBSCRIBE")
            };
            for n in 0..sent {
                peer.message("a", n.to_string().as_bytes()).await;
            }
            let granted = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
            peer.send(&Packet::SubAck(SubAck::new(asked.pkid, granted))).await;
            peer.end().await;
        };
        talk(peer, async |opened| {
            let mut talk = opened.unwrap();
            let subscribed = talk.subscribe(&["a"]).await;
            if !enough {
                let e = error(subscribed);
                assert!(e.to_string().contains("over 16 messages"), "{e}");
                return;
            }
            subscribed.unwrap();
            for n in 0..sent {
                assert_eq!(talk.message(WITHIN).await.unwrap().payload, n.to_string());
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_what_nobody_wants_ends_with_the_limit() {
    let flood = |mut peer: Peer| async move {
        peer.connack().await;
        let mut message = BytesMut::new();
        let packet = Publish::new("a", QoS::AtMostOnce, vec![b'x'; 1_000]);
        Packet::Publish(packet).write(&mut message, usize::MAX).unwrap();
        // For ever: until the other end is gone. A little of time passes with each, as on a line.
        while peer.pipe.write_all(&message).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let begin = Instant::now();
    let e = talk(flood, async |opened| {
        let mut talk = opened.unwrap();
        let e = error(talk.answer(WITHIN, |_| None::<()>).await);
        assert!(talk.kept.len() <= 1);
        e
    })
    .await;
    assert!(matches!(e, SessionError::Late { .. }), "{e}");
    assert!(begin.elapsed() < WITHIN + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_packet_over_the_bound_is_refused_before_it_has_come() {
    for call in [Call::Subscribe, Call::Publish, Call::Message] {
        let fault = |mut peer: Peer| async move {
            let mut head = vec![0x30];
            crate::mqtt::frame::put_length(&mut head, PACKET_MAX);
            peer.say(&head).await;
            peer.end().await;
        };
        let (e, waited) = fails(call, fault).await;
        assert!(e.to_string().contains("larger than the limit of 133120"), "{e}");
        assert_eq!(waited, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_costs_the_limit() {
    let deaf = |mut peer: Peer| async move {
        peer.connack().await;
        tokio::time::sleep(WITHIN * 10).await;
    };
    let e = talk(deaf, async |opened| {
        let mut talk = opened.unwrap();
        let begin = Instant::now();
        let e = error(talk.request("q", &[0; 4 * PIPE]).await);
        assert_eq!(begin.elapsed(), WITHIN);
        // The goodbye is bounded too, and no packet follows half of another.
        assert!(talk.torn);
        talk.close().await;
        assert!(begin.elapsed() <= WITHIN + CLOSE_WITHIN);
        e
    })
    .await;
    assert!(
        matches!(
            e,
            SessionError::Late {
                what: "room to send",
                ..
            }
        ),
        "{e}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_bytes_make_it_panic(
        frames in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..12)), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = BytesMut::new();
        for (first, body) in &frames {
            bytes.put_u8(*first);
            bytes.put_u8(u8::try_from(body.len()).unwrap());
            bytes.put_slice(body);
        }
        bytes.put_slice(&tail);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let peer = |mut peer: Peer| async move {
                peer.connack().await;
                peer.say(&bytes).await;
            };
            talk(peer, async |opened| {
                let mut talk = opened.unwrap();
                while talk.message(WITHIN).await.is_ok() {}
            }).await;
        });
    }
}

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
