//! An admitted device: packets come, messages go, until one side has enough.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{End, Hello};
use crate::bench::clouds::broker::{ConnectionId, Outgoing};
use crate::bench::clouds::codec::{Out, Packet, Publish, Terms, Version};
use crate::bench::clouds::endpoint::{Admitted, Endpoint};
use crate::bench::clouds::fault::MqttFault;
use crate::bench::clouds::journal::What;
use crate::bench::clouds::policy::{Look, Look5, Refusal, Session, mqtt, reason};
use crate::bench::clouds::rate::{Meter, Verdict};
use crate::bench::clouds::wire::Wire;
use crate::mqtt::{Frame, PacketType};

/// How the device said goodbye.
pub(super) struct Goodbye {
    /// The will is wanted all the same (MQTT 5, reason 0x04).
    pub(super) with_will: bool,
    /// The session's expiry is changed.
    pub(super) expiry: Option<Duration>,
}

/// An admitted device.
pub(super) struct Connection<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) session: Session,
    pub(super) connection: ConnectionId,
    pub(super) version: Version,
    peer: String,
    silence: Duration,
    /// Whether the session was to outlive the connection.
    persistent: bool,
    /// PUBLISH packets so far.
    pub(super) publishes: u32,
    /// QoS 1 messages that were not acknowledged, by a fault or a rate.
    pub(super) owed: usize,
    pub(super) meter: Meter,
    /// Topic aliases of this connection; no more than the policy's maximum.
    pub(super) aliases: HashMap<u16, String>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        endpoint: &'a Endpoint,
        session: Session,
        connection: ConnectionId,
        peer: String,
        hello: &Hello,
    ) -> Self {
        Self {
            endpoint,
            session,
            connection,
            version: hello.version(),
            peer,
            silence: endpoint.policy.silence_allowed(hello.connect.keep_alive),
            persistent: hello.five.as_ref().is_some_and(|five| five.session_expiry > 0),
            publishes: 0,
            owed: 0,
            meter: Meter::new(endpoint.policy.rates(), endpoint.clock.monotonic()),
            aliases: HashMap::new(),
        }
    }

    pub(super) async fn serve(&mut self, wire: &mut Wire, admitted: Admitted, terms: Option<Terms>) -> End {
        match self.packets(wire, admitted, terms).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn packets(
        &mut self,
        wire: &mut Wire,
        mut admitted: Admitted,
        terms: Option<Terms>,
    ) -> Result<std::convert::Infallible, End> {
        let present = admitted.attached.session_present;
        wire.send(&Out::Welcome { present, terms }).await?;
        let endpoint = self.endpoint;
        if let Some(fault) = endpoint.fault.take(|f| f == MqttFault::CloseAfterConnack) {
            return Err(fault_end(fault));
        }
        endpoint.perform(endpoint.backend.connected(&self.session, endpoint.now()));
        let mut deadline = Instant::now() + self.silence;
        // Nothing is read before this time: bytes came faster than the cloud takes them.
        let mut resume = Instant::now();
        loop {
            while let Some(frame) = wire.frame()? {
                deadline = Instant::now() + self.silence;
                self.packet(wire, frame).await?;
            }
            self.send_waiting(wire).await?;
            let read = async {
                sleep_until(resume).await;
                wire.fill().await
            };
            tokio::select! {
                ended = admitted.end.changed() => {
                    let ending = ended.ok().and_then(|()| *admitted.end.borrow());
                    return Err(ending.map_or_else(|| End::Lost("the session was taken away".to_owned()), End::Ended));
                }
                () = admitted.wake.notified() => {}
                read = timeout_at(deadline.max(resume + self.silence), read) => match read {
                    Ok(Ok(0)) => return Err(End::Lost("the connection was closed without DISCONNECT".into())),
                    Ok(Ok(count)) => resume = self.measured(count)?,
                    Ok(Err(e)) => return Err(End::Lost(e.to_string())),
                    Err(_) => {
                        let detail = format!("nothing was heard for {} s", self.silence.as_secs_f64());
                        let refusal = Refusal::new(&mqtt::KEEP_ALIVE, Look::Close, detail);
                        return Err(refusal.in_5(Look5::Disconnect(reason::KEEP_ALIVE)).into());
                    }
                },
            }
        }
    }

    /// Bytes came; answers when the next may be read.
    fn measured(&mut self, count: usize) -> Result<Instant, End> {
        let now = Instant::now();
        match self.meter.bytes(count, self.endpoint.clock.monotonic()) {
            Verdict::Take | Verdict::Discard => Ok(now),
            Verdict::Wait(time) => Ok(now + time),
            Verdict::Close => Err(too_much(format!("{count} bytes more than fit into this second")).into()),
        }
    }

    async fn send_waiting(&mut self, wire: &mut Wire) -> Result<(), End> {
        loop {
            let now = self.endpoint.clock.monotonic();
            // The lock is gone before anything is sent.
            let next = self
                .endpoint
                .broker()
                .next(&self.session.client_id, self.connection, now);
            let Some(Outgoing { id, dup, message }) = next else {
                return Ok(());
            };
            if !self.endpoint.policy.receive(&self.session, &message.topic) {
                let mut broker = self.endpoint.broker();
                broker.acknowledged(&self.session.client_id, self.connection, id);
                continue;
            }
            let mut publish = Publish {
                dup,
                qos: message.qos,
                retain: message.retain,
                topic: message.topic.to_string(),
                id,
                payload: message.payload,
                alias: None,
                // A part of a second counts as one: zero would be none at all.
                expiry: message.expires.map(|at| {
                    let left = at.saturating_sub(now).as_secs_f64().ceil() as u64;
                    u32::try_from(left.max(1)).unwrap_or(u32::MAX)
                }),
                properties: message.properties.map(|p| (*p).clone()).unwrap_or_default(),
            };
            if id != 0 && self.endpoint.fault.take(|f| f == MqttFault::Duplicate).is_some() {
                wire.send(&Out::Publish(publish.clone())).await?;
                publish.dup = true;
            }
            if !wire.send(&Out::Publish(publish)).await? {
                // Larger than the device takes: it counts as delivered (MQTT 5, MQTT-3.1.2-25).
                let topic = message.topic.to_string();
                let client_id = self.session.client_id.clone();
                self.endpoint
                    .broker()
                    .acknowledged(&self.session.client_id, self.connection, id);
                self.endpoint
                    .journal
                    .record(self.endpoint.cloud, What::Dropped { client_id, topic });
            }
        }
    }

    /// Reports a refusal that leaves the connection open.
    pub(super) fn report(&self, mut refusal: Refusal, look_5: Look5) {
        if self.version == Version::V5 {
            refusal.look = Look::In5(look_5);
        }
        self.endpoint
            .journal
            .refused(self.endpoint.cloud, &refusal, Some(&self.session.client_id), &self.peer);
    }

    async fn packet(&mut self, wire: &mut Wire, frame: Frame) -> Result<(), End> {
        match wire.parse(frame)? {
            Packet::Publish(publish) => self.publish(wire, publish).await,
            Packet::Subscribe {
                id,
                filters,
                identifier,
                user_properties,
            } => self.subscribe(wire, id, &filters, identifier, user_properties).await,
            Packet::Unsubscribe { id, filters } => self.unsubscribe(wire, id, &filters).await,
            Packet::PubAck {
                id,
                reason,
                user_properties,
            } => self.acknowledged(id, reason, user_properties),
            Packet::PingReq if self.swallowed(MqttFault::NoPingresp).await => Ok(()),
            Packet::PingReq => {
                wire.send(&Out::PingResp).await?;
                Ok(())
            }
            Packet::Disconnect {
                reason,
                expiry,
                user_properties,
            } => Err(self.goodbye(reason, expiry, user_properties)),
            // The QoS 2 dance (there is none here), a second CONNECT (MQTT-3.1.0-2), and what only a server sends.
            Packet::Other(kind) => {
                let detail = format!("an unexpected {kind:?}");
                let refusal = Refusal::new(&mqtt::MALFORMED, Look::Close, detail);
                Err(refusal.in_5(Look5::Disconnect(reason::PROTOCOL_ERROR)).into())
            }
        }
    }

    /// Whether a fault swallows an acknowledgement; another one makes it late.
    pub(super) async fn swallowed(&self, by: MqttFault) -> bool {
        let late = self.endpoint.fault.take(|f| matches!(f, MqttFault::Late(_)));
        if let Some(MqttFault::Late(late)) = late {
            tokio::time::sleep(late).await;
        }
        self.endpoint.fault.take(|f| f == by).is_some()
    }

    fn acknowledged(&mut self, id: u16, code: u8, user_properties: bool) -> Result<(), End> {
        if user_properties {
            self.endpoint.policy.user_properties(PacketType::PubAck)?;
        }
        if code != reason::SUCCESS {
            let detail = format!("PUBACK of message {id} says that it was not taken");
            let refusal = Refusal::new(&mqtt::NEGATIVE_ACK, Look::Close, detail);
            return Err(refusal.in_5(Look5::Disconnect(reason::IMPLEMENTATION)).into());
        }
        let endpoint = self.endpoint;
        let of = endpoint
            .broker()
            .acknowledged(&self.session.client_id, self.connection, id);
        if let Some(message) = of {
            let acts = endpoint
                .backend
                .acknowledged(&self.session, &message.topic, endpoint.now());
            endpoint.perform(acts);
        }
        Ok(())
    }

    fn goodbye(&self, code: u8, expiry: Option<u32>, user_properties: bool) -> End {
        if user_properties {
            if let Err(refusal) = self.endpoint.policy.user_properties(PacketType::Disconnect) {
                return refusal.into();
            }
        }
        let expiry = expiry.map(|seconds| Duration::from_secs(seconds.into()));
        if !self.persistent && expiry.is_some_and(|e| !e.is_zero()) {
            let detail = "DISCONNECT sets an expiry, CONNECT set none";
            let refusal = Refusal::new(&mqtt::SESSION_EXPIRY, Look::Close, detail);
            return refusal.in_5(Look5::Disconnect(reason::PROTOCOL_ERROR)).into();
        }
        let most = self.endpoint.policy.five().map(|f| f.session_expiry_max);
        End::Goodbye(Goodbye {
            // Any reason but a normal end is a reason for the will (MQTT 5, section 3.14.4).
            with_will: code != reason::SUCCESS,
            expiry: expiry.map(|e| most.map_or(e, |m| e.min(m))),
        })
    }
}

pub(super) fn fault_end(fault: MqttFault) -> End {
    Refusal::new(&mqtt::FAULT, Look::Close, fault.to_string())
        .in_5(Look5::Close)
        .into()
}

/// More than this cloud takes in a second.
pub(super) fn too_much(detail: String) -> Refusal {
    Refusal::new(&mqtt::RATE, Look::Close, detail).in_5(Look5::Disconnect(reason::QUOTA))
}
