//! The far side is a script over a pipe, and time is the test's: a wait takes no time and its length is known to the millisecond.

use std::future::Future;

use rumqttc::mqttbytes::v4::SubAck;
use tokio::io::DuplexStream;
use tokio::time::Instant;

use super::*;

#[path = "conversation_fault_tests.rs"]
mod faults;
#[path = "conversation_tls_tests.rs"]
mod tls;

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
