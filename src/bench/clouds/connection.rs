//! One device's connection to an MQTT stand-in: TLS, CONNECT, then packets both ways. Every wait and buffer is bounded; every refusal
//! is reported with the rule that was broken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, ConnectReturnCode, Packet, PubAck, Publish, SubAck, Subscribe, SubscribeReasonCode, UnsubAck,
};
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use super::backend::{Handling, Received};
use super::broker::{AttachError, ConnectionId, FILTERS_MAX, Message};
use super::endpoint::{Admitted, Endpoint};
use super::fault::{MqttFault, Step, Tapped};
use super::journal::What;
use super::policy::{Look, Peer, Publication, Refusal, Session, mqtt};
use super::topic;
use super::visit;
use super::wire::{Stream, Wire};
use crate::mqtt::{Connect, Frame, connack};
use crate::tls::Leaf;

/// The TLS handshake has to be over by then.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// CONNECT has to be there by then, counted from the end of the handshake.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Why a connection ends.
enum End {
    /// The device said goodbye.
    Goodbye,
    /// The device, the network or the stand-in ended it.
    Lost(String),
    /// A rule was broken.
    Refused(Refusal),
}

impl From<String> for End {
    fn from(why: String) -> Self {
        Self::Lost(why)
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Serves a connection from its first byte to its last; without `tls` there is none.
pub(crate) async fn run(
    endpoint: &Endpoint,
    stream: Tapped<TcpStream>,
    tls: Option<Arc<rustls::ServerConfig>>,
    from: SocketAddr,
) {
    let peer_name = from.to_string();
    let refused = |refusal: &Refusal, client_id: Option<&str>| {
        endpoint.journal.refused(endpoint.cloud, refusal, client_id, &peer_name);
    };
    let (stream, peer) = match timeout(HANDSHAKE_MAX, handshake(endpoint, stream, tls, from)).await {
        Ok(Ok(done)) => done,
        Ok(Err(refusal)) => return refused(&refusal, None),
        Err(_) => {
            let detail = format!("it was not over after {} s", HANDSHAKE_MAX.as_secs());
            return refused(&Refusal::new(&mqtt::TLS, Look::Close, detail), None);
        }
    };
    let mut wire = Wire::new(stream, endpoint.policy.limits().packet);
    let connect = match timeout(CONNECT_WAIT, wire.connect()).await {
        Ok(Ok(connect)) => connect,
        Ok(Err(refusal)) => {
            wire.refuse(&refusal).await;
            return refused(&refusal, None);
        }
        Err(_) => {
            let detail = format!("nothing came for {} s", CONNECT_WAIT.as_secs());
            return refused(&Refusal::new(&mqtt::CONNECT_FIRST, Look::Close, detail), None);
        }
    };
    visit::named(&connect.client_id);
    if visit::step(Step::Connect).await.is_err() {
        return;
    }
    let (session, admitted) = match admit(endpoint, &peer, &connect, &peer_name) {
        Ok(both) => both,
        Err(refusal) => {
            wire.refuse(&refusal).await;
            return refused(&refusal, Some(&connect.client_id));
        }
    };
    let connection = admitted.attached.connection;
    let mut attached = Connection {
        endpoint,
        session,
        connection,
        peer: peer_name.clone(),
        silence: endpoint.policy.silence_allowed(connect.keep_alive),
        publishes: 0,
        _guard: Detach {
            endpoint,
            client_id: connect.client_id.clone(),
            connection,
        },
    };
    let end = attached.serve(&mut wire, admitted).await;
    let said_goodbye = matches!(end, End::Goodbye);
    let why = match end {
        End::Goodbye => "DISCONNECT".to_owned(),
        End::Lost(why) => why,
        End::Refused(refusal) => {
            refused(&refusal, Some(&attached.session.client_id));
            format!("rule {} broken", refusal.rule.id)
        }
    };
    if let (false, Some(will)) = (said_goodbye, &connect.will) {
        let message = Message {
            topic: will.topic.as_str().into(),
            payload: will.payload.clone(),
            qos: will.qos.min(1),
        };
        endpoint.publish(&attached.session, &message);
    }
    let session = attached.session.clone();
    drop(attached);
    endpoint.perform(endpoint.backend.gone(&session, &why, endpoint.now()));
    let client_id = session.client_id;
    endpoint
        .journal
        .record(endpoint.cloud, What::Disconnected { client_id, why });
    wire.close().await;
}

async fn handshake(
    endpoint: &Endpoint,
    stream: Tapped<TcpStream>,
    tls: Option<Arc<rustls::ServerConfig>>,
    address: SocketAddr,
) -> Result<(Box<dyn Stream>, Peer), Refusal> {
    let mut peer = Peer {
        address,
        cn: None,
        chain: Vec::new(),
        sni: None,
        alpn: None,
    };
    let Some(tls) = tls else {
        return Ok((Box::new(stream), peer));
    };
    let failed = |e: std::io::Error| Refusal::new(&mqtt::TLS, Look::Close, e.to_string());
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
        .await
        .map_err(failed)?;
    peer.sni = start.client_hello().server_name().map(str::to_owned);
    endpoint.policy.hello(peer.sni.as_deref())?;
    let stream = start.into_stream(tls).await.map_err(failed)?;
    let common = stream.get_ref().1;
    peer.alpn = common.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned());
    peer.chain = common
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|c| c.clone().into_owned())
        .collect();
    if let Some(leaf) = peer.chain.first() {
        peer.cn = Leaf::read(leaf, "the client certificate")
            .map_err(|e| Refusal::new(&mqtt::TLS, Look::Close, e.to_string()))?
            .common_name;
    }
    Ok((Box::new(stream), peer))
}

fn admit(endpoint: &Endpoint, peer: &Peer, connect: &Connect, from: &str) -> Result<(Session, Admitted), Refusal> {
    let asked = |f: MqttFault| matches!(f, MqttFault::Refuse(_));
    if let Some(MqttFault::Refuse(code)) = endpoint.fault.take(asked) {
        return Err(Refusal::new(
            &mqtt::FAULT,
            Look::ConnAck(code),
            format!("refuse-{code}"),
        ));
    }
    let session = endpoint.policy.connect(peer, connect)?;
    endpoint.backend.admit(peer, &session, endpoint.now())?;
    let admitted = endpoint.attach(&session, connect.clean_session).map_err(|e| {
        let (rule, code) = match e {
            AttachError::Foreign(_) => (&mqtt::FOREIGN_SESSION, connack::NOT_AUTHORIZED),
            AttachError::Full => (&mqtt::FULL, connack::UNAVAILABLE),
        };
        Refusal::new(rule, Look::ConnAck(code), e.to_string())
    })?;
    endpoint.journal.record(
        endpoint.cloud,
        What::Connected {
            client_id: session.client_id.clone(),
            cn: session.cn.clone(),
            peer: from.to_owned(),
            sni: peer.sni.clone(),
            session_present: admitted.attached.session_present,
        },
    );
    Ok((session, admitted))
}

/// Gives the session back however the connection ends, even when its task is dropped.
struct Detach<'a> {
    endpoint: &'a Endpoint,
    client_id: String,
    connection: ConnectionId,
}

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        self.endpoint.detach(&self.client_id, self.connection);
    }
}

/// An admitted device.
struct Connection<'a> {
    endpoint: &'a Endpoint,
    session: Session,
    connection: ConnectionId,
    peer: String,
    silence: Duration,
    publishes: u32,
    _guard: Detach<'a>,
}

impl Connection<'_> {
    async fn serve(&mut self, wire: &mut Wire, admitted: Admitted) -> End {
        match self.packets(wire, admitted).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn packets(&mut self, wire: &mut Wire, mut admitted: Admitted) -> Result<std::convert::Infallible, End> {
        let present = admitted.attached.session_present;
        wire.send(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, present)))
            .await?;
        if let Some(fault) = self.endpoint.fault.take(|f| f == MqttFault::CloseAfterConnack) {
            return Err(fault_end(fault));
        }
        let endpoint = self.endpoint;
        endpoint.perform(endpoint.backend.connected(&self.session, endpoint.now()));
        let mut deadline = Instant::now() + self.silence;
        loop {
            while let Some(frame) = wire.frame()? {
                deadline = Instant::now() + self.silence;
                self.packet(wire, frame).await?;
            }
            loop {
                // The lock is gone before anything is sent.
                let next = self.endpoint.broker().next(&self.session.client_id, self.connection);
                let Some(out) = next else { break };
                let mut publish = Publish::from_bytes(&*out.message.topic, qos(out.message.qos), out.message.payload);
                publish.pkid = out.id;
                publish.dup = out.dup;
                if publish.pkid != 0 && self.endpoint.fault.take(|f| f == MqttFault::Duplicate).is_some() {
                    wire.send(Packet::Publish(publish.clone())).await?;
                    publish.dup = true;
                }
                wire.send(Packet::Publish(publish)).await?;
            }
            tokio::select! {
                ended = admitted.end.changed() => {
                    let why = ended.ok().and_then(|()| *admitted.end.borrow());
                    return Err(End::Lost(why.unwrap_or("the session was taken away").to_owned()));
                }
                () = admitted.wake.notified() => {}
                read = timeout_at(deadline, wire.fill()) => match read {
                    Ok(Ok(0)) => return Err(End::Lost("the connection was closed without DISCONNECT".into())),
                    Ok(Ok(_)) => {}
                    Ok(Err(e)) => return Err(End::Lost(e.to_string())),
                    Err(_) => {
                        let detail = format!("nothing was heard for {} s", self.silence.as_secs_f64());
                        return Err(Refusal::new(&mqtt::KEEP_ALIVE, Look::Close, detail).into());
                    }
                },
            }
        }
    }

    fn report(&self, refusal: &Refusal) {
        self.endpoint
            .journal
            .refused(self.endpoint.cloud, refusal, Some(&self.session.client_id), &self.peer);
    }

    async fn packet(&mut self, wire: &mut Wire, frame: Frame) -> Result<(), End> {
        let kind = frame.packet;
        let packet = wire.parse(frame)?;
        match packet {
            Packet::Publish(publish) => self.publish(wire, publish).await,
            Packet::Subscribe(subscribe) => self.subscribe(wire, subscribe).await,
            Packet::Unsubscribe(unsubscribe) => {
                for filter in &unsubscribe.topics {
                    self.endpoint
                        .broker()
                        .unsubscribe(&self.session.client_id, self.connection, filter);
                }
                Ok(wire.send(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid))).await?)
            }
            Packet::PubAck(ack) => {
                let endpoint = self.endpoint;
                let of = endpoint
                    .broker()
                    .acknowledged(&self.session.client_id, self.connection, ack.pkid);
                if let Some(message) = of {
                    let acts = endpoint
                        .backend
                        .acknowledged(&self.session, &message.topic, endpoint.now());
                    endpoint.perform(acts);
                }
                Ok(())
            }
            Packet::PingReq if self.swallowed(MqttFault::NoPingresp).await => Ok(()),
            Packet::PingReq => Ok(wire.send(Packet::PingResp).await?),
            Packet::Disconnect => Err(End::Goodbye),
            // The QoS 2 dance (there is none here), a second CONNECT (MQTT-3.1.0-2), and what only a server sends.
            _ => {
                let detail = format!("an unexpected {kind:?}");
                Err(Refusal::new(&mqtt::MALFORMED, Look::Close, detail).into())
            }
        }
    }

    /// Whether a fault swallows an acknowledgement; another one makes it late.
    async fn swallowed(&self, by: MqttFault) -> bool {
        let late = self.endpoint.fault.take(|f| matches!(f, MqttFault::Late(_)));
        if let Some(MqttFault::Late(late)) = late {
            tokio::time::sleep(late).await;
        }
        self.endpoint.fault.take(|f| f == by).is_some()
    }

    async fn publish(&mut self, wire: &mut Wire, publish: Publish) -> Result<(), End> {
        visit::step(Step::Publish).await?;
        self.publishes += 1;
        let count = self.publishes;
        if let Some(fault) = self.endpoint.fault.take(|f| f == MqttFault::CutAfter(count)) {
            return Err(fault_end(fault));
        }
        if !topic::is_name(&publish.topic) {
            let detail = format!("{:?} is no topic name", publish.topic);
            return Err(Refusal::new(&mqtt::TOPIC, Look::Close, detail).into());
        }
        let publication = Publication {
            topic: &publish.topic,
            qos: publish.qos as u8,
            payload: publish.payload.len(),
        };
        if let Err(refusal) = self.endpoint.policy.publish(&self.session, publication) {
            if refusal.look == Look::Silence {
                self.report(&refusal);
                return Ok(());
            }
            return Err(refusal.into());
        }
        let message = Message {
            topic: publish.topic.as_str().into(),
            // A copy of its own size: the read buffer is not kept alive by what waits in queues.
            payload: Bytes::copy_from_slice(&publish.payload),
            qos: publish.qos as u8,
        };
        let endpoint = self.endpoint;
        let received = Received {
            topic: &message.topic,
            payload: &message.payload,
            qos: message.qos,
            retain: publish.retain,
        };
        match endpoint.backend.received(&self.session, received, endpoint.now())? {
            Handling::Message => endpoint.publish(&self.session, &message),
            Handling::MessageAs(topic) => {
                let message = Message { topic, ..message };
                endpoint.publish(&self.session, &message);
            }
            Handling::Request(acts) => {
                endpoint.journal.record(
                    endpoint.cloud,
                    What::Request {
                        client_id: self.session.client_id.clone(),
                        topic: publish.topic.clone(),
                        bytes: message.payload.len(),
                    },
                );
                endpoint.perform(acts);
            }
        }
        if publish.qos == QoS::AtMostOnce || self.swallowed(MqttFault::NoPuback).await {
            return Ok(());
        }
        Ok(wire.send(Packet::PubAck(PubAck::new(publish.pkid))).await?)
    }

    async fn subscribe(&mut self, wire: &mut Wire, subscribe: Subscribe) -> Result<(), End> {
        visit::step(Step::Subscribe).await?;
        self.endpoint.policy.subscribe_packet(subscribe.filters.len())?;
        if subscribe.filters.len() > FILTERS_MAX {
            let detail = format!("a SUBSCRIBE with {} filters", subscribe.filters.len());
            return Err(Refusal::new(&mqtt::FULL, Look::Close, detail).into());
        }
        let mut codes = Vec::new();
        let mut granted = Vec::new();
        for wanted in &subscribe.filters {
            if !topic::is_filter(&wanted.path) {
                let detail = format!("{:?} is no topic filter", wanted.path);
                return Err(Refusal::new(&mqtt::TOPIC, Look::Close, detail).into());
            }
            let client_id = &self.session.client_id;
            let (held, known) = self.endpoint.broker().subscriptions(client_id, &wanted.path);
            let held = held - usize::from(known);
            let verdict = self
                .endpoint
                .policy
                .subscribe(&self.session, &wanted.path, wanted.qos as u8, held);
            let code = match verdict {
                Ok(level) => {
                    let room = self
                        .endpoint
                        .broker()
                        .subscribe(client_id, self.connection, &wanted.path, level);
                    if room {
                        granted.push((wanted.path.clone(), level));
                        SubscribeReasonCode::Success(qos(level))
                    } else {
                        let detail = format!("no room for {:?}", wanted.path);
                        self.report(&Refusal::new(&mqtt::FULL, Look::SubAckFailure, detail));
                        SubscribeReasonCode::Failure
                    }
                }
                Err(refusal) => match refusal.look {
                    Look::SubAckFailure => {
                        self.report(&refusal);
                        SubscribeReasonCode::Failure
                    }
                    Look::Silence => {
                        self.report(&refusal);
                        return Ok(());
                    }
                    Look::Close | Look::ConnAck(_) => return Err(refusal.into()),
                },
            };
            codes.push(code);
        }
        if !self.swallowed(MqttFault::NoSuback).await {
            wire.send(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await?;
        }
        for (filter, qos) in granted {
            let endpoint = self.endpoint;
            let acts = endpoint.backend.subscribed(&self.session, &filter, endpoint.now());
            let client_id = self.session.client_id.clone();
            endpoint
                .journal
                .record(endpoint.cloud, What::Subscribed { client_id, filter, qos });
            endpoint.perform(acts);
        }
        Ok(())
    }
}

fn fault_end(fault: MqttFault) -> End {
    Refusal::new(&mqtt::FAULT, Look::Close, fault.to_string()).into()
}

fn qos(level: u8) -> QoS {
    if level == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
}
