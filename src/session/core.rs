//! The MQTT session as a machine without I/O: packets and `now` in, packets and events out.
//!
//! - QoS 1 publishes, at most `window` without acknowledgement. Each is known by the caller's sequence number; the packet id is ours.
//!   The caller's spool keeps the payload until [`Event::Acknowledged`]; this machine keeps it only to send it again.
//! - After a reconnect: if the broker still has the session, what was in flight is sent again in order with DUP set (MQTT-4.4.0-1);
//!   if not, it is forgotten here and the caller reads it from the spool again.
//! - At most `rate` publishes a second, so that a backlog does not run into a broker's limit: AWS IoT Core discards what is over it
//!   without a word, and the missing acknowledgements would look like a dead link.
//! - Silence: a PINGREQ only when nothing was sent for the keep-alive; a link is dead when an answer that is due (PINGRESP, PUBACK)
//!   does not come within `answer_within`, so a dead link is noticed by the traffic itself and not only by pings.
//! - "Connected" is claimed only after a round trip behind CONNACK ([`Event::Proven`]): AWS IoT Core accepts and then drops a client
//!   whose policy does not fit.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish};

/// What the machine must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Most publishes without acknowledgement, at least 1.
    pub window: usize,
    /// The keep-alive of CONNECT; zero never pings.
    pub keep_alive: Duration,
    /// How long an acknowledgement or ping answer may take.
    pub answer_within: Duration,
    /// Most publishes a second, at least 1, after a burst of `window`.
    pub rate: u32,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The broker has taken the message with this sequence number.
    Acknowledged(u64),
    /// The first answer after CONNACK: the session works.
    Proven,
    /// A ping was answered: nothing happens, and the connection lives. Comes at least once in a keep-alive without other events.
    Alive,
    /// The broker sends us something.
    Inbound {
        /// Where it was published.
        topic: String,
        /// What.
        payload: Bytes,
    },
}

/// Why the connection must be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Dead {
    /// An answer did not come.
    #[error("no {what} for {:.1} s: the link is dead or the broker is stuck", waited.as_secs_f32())]
    Silent {
        /// Which answer.
        what: &'static str,
        /// For how long.
        waited: Duration,
    },
    /// The broker broke the protocol.
    #[error("the broker sent {0}, which MQTT 3.1.1 does not allow here")]
    Protocol(&'static str),
}

#[derive(Debug)]
struct InFlight {
    packet: Publish,
    sequence: u64,
    sent: Duration,
}

/// The machine. It outlives connections: make it once, call [`Core::connected`] after every CONNACK.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    in_flight: VecDeque<InFlight>,
    last_id: u16,
    last_sent: Duration,
    ping_sent: Option<Duration>,
    proven: bool,
    /// When the publishes so far would be due, sent at an even `rate` (the "theoretical arrival time" of ITU-T I.371's GCRA).
    due: Duration,
}

impl Core {
    /// A machine that was never connected.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            in_flight: VecDeque::new(),
            last_id: 0,
            last_sent: Duration::ZERO,
            ping_sent: None,
            proven: false,
            due: Duration::ZERO,
        }
    }

    /// CONNACK said yes. Returns what must be sent: a PINGREQ as proof, and what was in flight if the broker remembers it.
    pub fn connected(&mut self, session_present: bool, now: Duration) -> Vec<Packet> {
        self.last_sent = now;
        self.proven = false;
        self.ping_sent = None;
        let mut out = Vec::new();
        if session_present {
            for f in &mut self.in_flight {
                f.packet.dup = true;
                f.sent = now;
                out.push(Packet::Publish(f.packet.clone()));
            }
        } else {
            self.in_flight.clear();
        }
        if out.is_empty() {
            self.ping_sent = Some(now);
            out.push(Packet::PingReq);
        }
        out
    }

    /// Sequence numbers that are in flight, oldest first.
    pub fn in_flight(&self) -> impl Iterator<Item = u64> + '_ {
        self.in_flight.iter().map(|f| f.sequence)
    }

    /// How many more may be published now.
    #[must_use]
    pub fn room(&self, now: Duration) -> usize {
        let free = self.settings.window.saturating_sub(self.in_flight.len());
        let interval = self.interval().as_nanos();
        let left = self.burst().saturating_sub(self.due.saturating_sub(now)).as_nanos() / interval.max(1);
        free.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// When there is a place in the window, but the rate has to be kept: how long until one more may be published.
    #[must_use]
    pub fn paced(&self, now: Duration) -> Option<Duration> {
        let full = self.in_flight.len() >= self.settings.window;
        let wait = (self.due + self.interval()).saturating_sub(now.saturating_add(self.burst()));
        (!full && !wait.is_zero()).then_some(wait)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.settings.rate.max(1)
    }

    fn burst(&self) -> Duration {
        self.interval() * u32::try_from(self.settings.window.max(1)).unwrap_or(u32::MAX)
    }

    /// Publishes at QoS 1; `None` when there is no room.
    pub fn publish(&mut self, sequence: u64, topic: &str, payload: Bytes, now: Duration) -> Option<Packet> {
        if self.room(now) == 0 {
            return None;
        }
        self.due = self.due.max(now) + self.interval();
        let mut packet = Publish::from_bytes(topic, QoS::AtLeastOnce, payload);
        packet.pkid = self.free_id();
        self.in_flight.push_back(InFlight {
            packet: packet.clone(),
            sequence,
            sent: now,
        });
        self.last_sent = now;
        Some(Packet::Publish(packet))
    }

    /// A packet id that is not in flight (MQTT-2.3.1-2; never 0).
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.in_flight.iter().all(|f| f.packet.pkid != self.last_id) {
                return self.last_id;
            }
        }
    }

    /// A packet came. Returns events, and an answer to send.
    ///
    /// # Errors
    /// [`Dead::Protocol`]: close the connection.
    pub fn received(&mut self, packet: Packet, now: Duration) -> Result<(Vec<Event>, Option<Packet>), Dead> {
        let mut events = Vec::new();
        let mut answer = None;
        match packet {
            Packet::PubAck(ack) => {
                // An unknown id is an acknowledgement of a publish from before a lost session: harmless.
                if let Some(at) = self.in_flight.iter().position(|f| f.packet.pkid == ack.pkid) {
                    if let Some(f) = self.in_flight.remove(at) {
                        events.push(Event::Acknowledged(f.sequence));
                    }
                }
            }
            Packet::PingResp => {
                self.ping_sent = None;
                events.push(Event::Alive);
            }
            Packet::Publish(p) => {
                match p.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => {
                        self.last_sent = now;
                        answer = Some(Packet::PubAck(PubAck::new(p.pkid)));
                    }
                    QoS::ExactlyOnce => return Err(Dead::Protocol("a PUBLISH of QoS 2, which was never subscribed")),
                }
                events.push(Event::Inbound {
                    topic: p.topic,
                    payload: p.payload,
                });
            }
            Packet::SubAck(_) | Packet::UnsubAck(_) => {}
            Packet::ConnAck(_) => return Err(Dead::Protocol("a second CONNACK")),
            Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => {
                return Err(Dead::Protocol("a packet of QoS 2"));
            }
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq
            | Packet::Disconnect => {
                return Err(Dead::Protocol("a packet that only clients send"));
            }
        }
        if !self.proven {
            self.proven = true;
            events.insert(0, Event::Proven);
        }
        Ok((events, answer))
    }

    /// Time passes. Returns a PINGREQ when one is due.
    ///
    /// # Errors
    /// [`Dead::Silent`]: close the connection.
    pub fn tick(&mut self, now: Duration) -> Result<Option<Packet>, Dead> {
        let patience = self.settings.answer_within;
        for (since, what) in [
            (self.ping_sent, "answer to a ping"),
            (self.in_flight.front().map(|f| f.sent), "acknowledgement"),
        ] {
            if let Some(waited) = since.map(|s| now.saturating_sub(s)).filter(|w| *w >= patience) {
                return Err(Dead::Silent { what, waited });
            }
        }
        let keep_alive = self.settings.keep_alive;
        if !keep_alive.is_zero() && self.ping_sent.is_none() && now.saturating_sub(self.last_sent) >= keep_alive {
            self.ping_sent = Some(now);
            self.last_sent = now;
            return Ok(Some(Packet::PingReq));
        }
        Ok(None)
    }

    /// When [`Core::tick`] must be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let patience = self.settings.answer_within;
        let ping = (!self.settings.keep_alive.is_zero() && self.ping_sent.is_none())
            .then(|| self.last_sent.saturating_add(self.settings.keep_alive));
        let answers = [self.ping_sent, self.in_flight.front().map(|f| f.sent)];
        answers
            .into_iter()
            .flatten()
            .map(|s| s.saturating_add(patience))
            .chain(ping)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn core(window: usize) -> Core {
        Core::new(Settings {
            window,
            keep_alive: S(60),
            answer_within: S(10),
            rate: 100_000,
        })
    }

    fn id(p: &Packet) -> (u16, bool) {
        match p {
            Packet::Publish(p) => (p.pkid, p.dup),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn proof_comes_before_the_claim() {
        let mut c = core(2);
        assert_eq!(c.connected(false, S(0)), [Packet::PingReq]);
        assert_eq!(
            c.received(Packet::PingResp, S(1)).unwrap().0,
            [Event::Proven, Event::Alive]
        );
        assert_eq!(c.received(Packet::PingResp, S(1)).unwrap().0, [Event::Alive]);
    }

    #[test]
    fn the_window_holds_and_acknowledgements_may_come_in_any_order() {
        let mut c = core(2);
        c.connected(false, S(0));
        let a = id(&c.publish(10, "t", Bytes::new(), S(0)).unwrap()).0;
        let b = id(&c.publish(11, "t", Bytes::new(), S(0)).unwrap()).0;
        assert_eq!(c.publish(12, "t", Bytes::new(), S(0)), None);
        let (events, _) = c.received(Packet::PubAck(PubAck::new(b)), S(1)).unwrap();
        assert_eq!(events, [Event::Proven, Event::Acknowledged(11)]);
        let (events, _) = c.received(Packet::PubAck(PubAck::new(b)), S(1)).unwrap();
        assert_eq!(events, [], "a second acknowledgement counts nothing");
        assert_eq!(
            c.received(Packet::PubAck(PubAck::new(a)), S(1)).unwrap().0,
            [Event::Acknowledged(10)]
        );
        assert_eq!(c.room(S(1_000)), 2);
    }

    #[test]
    fn a_kept_session_is_resent_in_order_with_dup_and_a_lost_one_is_forgotten() {
        let mut c = core(3);
        c.connected(false, S(0));
        for seq in 1..=3 {
            c.publish(seq, "t", Bytes::new(), S(0)).unwrap();
        }
        let again = c.connected(true, S(5));
        assert_eq!(
            again.iter().map(id).collect::<Vec<_>>(),
            [(1, true), (2, true), (3, true)]
        );
        assert_eq!(c.in_flight().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(c.connected(false, S(6)), [Packet::PingReq]);
        assert_eq!(c.room(S(1_000)), 3);
    }

    #[test]
    fn pings_only_in_silence_and_a_dead_link_is_noticed() {
        let mut c = core(2);
        c.connected(false, S(0));
        c.received(Packet::PingResp, S(1)).unwrap();
        assert_eq!(c.deadline(), Some(S(60)));
        c.publish(1, "t", Bytes::new(), S(50)).unwrap();
        assert_eq!(c.tick(S(59)), Ok(None));
        c.received(Packet::PubAck(PubAck::new(1)), S(59)).unwrap();
        assert_eq!(c.tick(S(60)), Ok(None), "traffic puts the ping off");
        assert_eq!(c.tick(S(110)), Ok(Some(Packet::PingReq)));
        assert_eq!(c.deadline(), Some(S(120)));
        assert!(matches!(
            c.tick(S(120)),
            Err(Dead::Silent {
                what: "answer to a ping",
                ..
            })
        ));
        c.connected(false, S(200));
        c.received(Packet::PingResp, S(200)).unwrap();
        c.publish(2, "t", Bytes::new(), S(200)).unwrap();
        assert!(matches!(
            c.tick(S(210)),
            Err(Dead::Silent {
                what: "acknowledgement",
                ..
            })
        ));
    }

    #[test]
    fn the_rate_holds_after_a_burst() {
        let mut c = Core::new(Settings {
            window: 4,
            keep_alive: S(60),
            answer_within: S(10),
            rate: 10,
        });
        c.connected(false, S(0));
        let mut sent = Vec::new();
        let mut now = S(5);
        for seq in 0..24 {
            while c.room(now) == 0 {
                now += c.paced(now).unwrap();
            }
            let packet = id(&c.publish(seq, "t", Bytes::new(), now).unwrap()).0;
            c.received(Packet::PubAck(PubAck::new(packet)), now).unwrap();
            sent.push(now);
        }
        assert_eq!(sent[3], S(5), "the first four go at once");
        assert_eq!(sent[23] - sent[3], S(2), "then ten a second");
        assert_eq!(c.paced(S(60)), None, "after a rest there is a burst again");
    }

    #[test]
    fn packet_ids_wrap_past_zero_and_skip_those_in_flight() {
        let mut c = core(2);
        c.connected(false, S(0));
        c.publish(1, "t", Bytes::new(), S(0)).unwrap(); // id 1 stays in flight
        for seq in 2..=65_535_u64 {
            let packet = id(&c.publish(seq, "t", Bytes::new(), S(seq)).unwrap()).0;
            c.received(Packet::PubAck(PubAck::new(packet)), S(seq)).unwrap();
        }
        assert_eq!(id(&c.publish(70_000, "t", Bytes::new(), S(70_000)).unwrap()).0, 2);
    }

    #[test]
    fn inbound_is_acknowledged_and_nonsense_closes() {
        let mut c = core(2);
        c.connected(false, S(0));
        let mut p = Publish::new("down", QoS::AtLeastOnce, "x");
        p.pkid = 7;
        let (events, answer) = c.received(Packet::Publish(p), S(1)).unwrap();
        assert_eq!(answer, Some(Packet::PubAck(PubAck::new(7))));
        assert!(matches!(&events[1], Event::Inbound { topic, .. } if topic == "down"));
        assert!(c.received(Packet::PingReq, S(1)).is_err());
        assert!(c.received(Packet::Disconnect, S(1)).is_err());
    }
}
