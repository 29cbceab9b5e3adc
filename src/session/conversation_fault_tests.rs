//! Silence, cuts, floods and nonsense at every step.

use bytes::BufMut;
use proptest::prelude::*;

use super::*;

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
