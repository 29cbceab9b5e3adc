//! One device's connection to an MQTT stand-in: TLS, CONNECT, then packets both ways. Every wait and buffer is bounded; every refusal
//! is reported with the rule that was broken.

mod publish;
mod serve;
mod subscribe;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use self::serve::{Connection, Goodbye};
use super::backend::Received;
use super::broker::{AttachError, ConnectionId, Message, Start};
use super::codec::{Hello, Hello5, Terms};
use super::endpoint::{Admitted, Ending, Endpoint};
use super::fault::{MqttFault, Step, Tapped};
use super::journal::What;
use super::policy::{Five, Look, Look5, Peer, Publication, Refusal, Session, mqtt, reason};
use super::wire::{Stream, Wire};
use super::{topic, visit};
use crate::mqtt::{PacketType, connack};
use crate::tls::Leaf;

/// The TLS handshake has to be over by then.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// CONNECT has to be there by then, counted from the end of the handshake.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Why a connection ends.
enum End {
    /// The device said goodbye.
    Goodbye(Goodbye),
    /// The device or the network ended it.
    Lost(String),
    /// The stand-in ended it.
    Ended(Ending),
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
    let refused = |refusal: &Refusal| {
        endpoint
            .journal
            .refused(endpoint.cloud, refusal, None, &from.to_string());
    };
    match timeout(HANDSHAKE_MAX, handshake(endpoint, stream, tls, from)).await {
        Ok(Ok((stream, peer))) => talk(endpoint, stream, &peer).await,
        Ok(Err(refusal)) => refused(&refusal),
        Err(_) => {
            let detail = format!("it was not over after {} s", HANDSHAKE_MAX.as_secs());
            refused(&Refusal::new(&mqtt::TLS, Look::Close, detail));
        }
    }
}

/// What follows the handshake: everything that is MQTT.
pub(super) async fn talk(endpoint: &Endpoint, stream: Box<dyn Stream>, peer: &Peer) {
    let peer_name = peer.address.to_string();
    let refused = |refusal: &Refusal, client_id: Option<&str>| {
        endpoint.journal.refused(endpoint.cloud, refusal, client_id, &peer_name);
    };
    let five = endpoint.policy.five();
    let mut wire = Wire::new(stream, endpoint.policy.limits().packet);
    let (acts, greeted) = endpoint.backend.greet(peer, endpoint.now());
    endpoint.perform(acts);
    if let Err(refusal) = greeted {
        wire.close().await;
        return refused(&refusal, None);
    }
    let hello = match timeout(CONNECT_WAIT, wire.connect(five.map(|f| f.property_room))).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(refusal)) => {
            let refusal = wire.refuse(refusal).await;
            wire.close().await;
            return refused(&refusal, None);
        }
        Err(_) => {
            let detail = format!("nothing came for {} s", CONNECT_WAIT.as_secs());
            return refused(&Refusal::new(&mqtt::CONNECT_FIRST, Look::Close, detail), None);
        }
    };
    let client_id = hello.connect.client_id.as_str();
    visit::named(client_id);
    if visit::step(Step::Connect).await.is_err() {
        return;
    }
    let (session, admitted) = match admit(endpoint, peer, &hello, &peer_name) {
        Ok(both) => both,
        Err(refusal) => {
            let refusal = wire.refuse(refusal).await;
            wire.close().await;
            return refused(&refusal, Some(client_id));
        }
    };
    let connection = admitted.attached.connection;
    let guard = Detach {
        endpoint,
        client_id: client_id.to_owned(),
        connection,
    };
    let mut attached = Connection::new(endpoint, session.clone(), connection, peer_name.clone(), &hello);
    let terms = five
        .filter(|_| hello.five.is_some())
        .map(|f| terms(endpoint, &hello, f));
    let end = attached.serve(&mut wire, admitted, terms).await;
    let mut expiry = None;
    let (will_wanted, why) = match end {
        End::Goodbye(goodbye) => {
            expiry = goodbye.expiry;
            if let Some(expiry) = expiry {
                endpoint.broker().set_expiry(client_id, connection, expiry);
            }
            (goodbye.with_will, "DISCONNECT".to_owned())
        }
        End::Lost(why) => (true, why),
        End::Ended(Ending { why, reason }) => {
            if let Some(code) = reason {
                let ending = Refusal::new(&mqtt::FAULT, Look::Close, why).in_5(Look5::Disconnect(code));
                wire.refuse(ending).await;
            }
            (true, why.to_owned())
        }
        End::Refused(refusal) => {
            let refusal = wire.refuse(refusal).await;
            refused(&refusal, Some(client_id));
            (true, format!("rule {} broken", refusal.rule.id))
        }
    };
    let delay = will_delay(endpoint, &hello, expiry);
    if will_wanted && delay.is_zero() {
        publish_will(endpoint, &session, &hello);
    }
    // Before the session is given back: whoever takes it up from now on stops a will that waits.
    let will_waits = will_wanted
        && hello.connect.will.is_some()
        && !delay.is_zero()
        && endpoint.broker().will_waits(client_id, connection);
    drop(guard);
    endpoint.perform(endpoint.backend.gone(&session, &why, endpoint.now()));
    endpoint.journal.record(
        endpoint.cloud,
        What::Disconnected {
            client_id: client_id.to_owned(),
            why,
        },
    );
    wire.close().await;
    drop(wire);
    // The connection's place is held until its will is out: that bounds how many wills wait.
    if will_waits {
        tokio::time::sleep(delay).await;
        let is_due = endpoint.broker().will_is_due(connection);
        if is_due {
            publish_will(endpoint, &session, &hello);
        }
    }
}

/// How long the will waits: no longer than the session lives (MQTT 5 section 3.1.3.2.2), which this connection decides and not one that
/// has taken it over since.
fn will_delay(endpoint: &Endpoint, hello: &Hello, expiry: Option<Duration>) -> Duration {
    let (Some(h), Some(five)) = (&hello.five, endpoint.policy.five()) else {
        return Duration::ZERO;
    };
    let expiry = expiry.unwrap_or_else(|| session_expiry(Some(h), five));
    Duration::from_secs(h.will_delay.into()).min(expiry)
}

fn publish_will(endpoint: &Endpoint, session: &Session, hello: &Hello) {
    let Some(will) = &hello.connect.will else { return };
    let five = hello.five.as_ref();
    let now = endpoint.clock.monotonic();
    let message = Message {
        topic: will.topic.as_str().into(),
        payload: will.payload.clone(),
        qos: will.qos.min(1),
        retain: will.retain,
        from: Some(session.client_id.as_str().into()),
        expires: five
            .and_then(|f| f.will_expiry)
            .map(|seconds| now + Duration::from_secs(seconds.into())),
        properties: five
            .map(|f| &f.will)
            .filter(|p| !p.is_empty())
            .map(|p| Arc::new(p.clone())),
    };
    let publication = Publication {
        topic: &will.topic,
        qos: will.qos,
        payload: will.payload.len(),
    };
    // Whether it may be kept was decided at CONNECT.
    if will.retain && endpoint.policy.retain(session, publication).unwrap_or(false) {
        endpoint.retain(&message);
    }
    let received = Received {
        topic: &message.topic,
        payload: &message.payload,
        qos: message.qos,
        retain: message.retain,
    };
    let properties = endpoint.backend.properties(session, received, true);
    endpoint.publish(session, &message, properties);
}

/// What CONNACK says about this stand-in.
fn terms(endpoint: &Endpoint, hello: &Hello, five: Five) -> Terms {
    let asked = hello.five.as_ref().map_or(0, |h| h.session_expiry);
    let granted = session_expiry(hello.five.as_ref(), five).as_secs();
    let keep_alive = endpoint.policy.keep_alive(hello.connect.keep_alive);
    let packet = endpoint.policy.limits().packet + five.property_room;
    Terms {
        session_expiry: (u64::from(asked) != granted).then_some(u32::try_from(granted).unwrap_or(u32::MAX)),
        receive_maximum: five.receive_maximum,
        packet_maximum: u32::try_from(packet).unwrap_or(u32::MAX),
        topic_alias_maximum: five.topic_alias_maximum,
        retain: five.retain,
        shared: false,
        identifiers: false,
        keep_alive: (keep_alive != hello.connect.keep_alive).then_some(keep_alive),
    }
}

fn session_expiry(hello: Option<&Hello5>, five: Five) -> Duration {
    Duration::from_secs(hello.map_or(0, |h| h.session_expiry).into()).min(five.session_expiry_max)
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
    let failed = |e: std::io::Error| Refusal::new(endpoint.policy.handshake(&e), Look::Close, e.to_string());
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
        .await
        .map_err(failed)?;
    peer.sni = start.client_hello().server_name().map(str::to_owned);
    endpoint.policy.hello(peer.sni.as_deref())?;
    let offered: Vec<String> = start.client_hello().alpn().map_or_else(Vec::new, |list| {
        list.map(|p| String::from_utf8_lossy(p).into_owned()).collect()
    });
    let spoken = tls.alpn_protocols.clone();
    let named = |p: &String| spoken.iter().any(|s| s == p.as_bytes());
    let other = !spoken.is_empty() && !offered.iter().any(named);
    let alpn = || {
        let spoken: Vec<_> = spoken.iter().map(|s| String::from_utf8_lossy(s)).collect();
        let detail = format!("the handshake names {offered:?}, expected {spoken:?}");
        Refusal::new(&mqtt::ALPN, Look::Close, detail)
    };
    // rustls refuses another protocol (no_application_protocol), but lets one pass that names none.
    let stream = start.into_stream(tls).await;
    let stream = stream.map_err(|e| if other { alpn() } else { failed(e) })?;
    if other {
        return Err(alpn());
    }
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

fn admit(endpoint: &Endpoint, peer: &Peer, hello: &Hello, from: &str) -> Result<(Session, Admitted), Refusal> {
    let asked = |f: MqttFault| matches!(f, MqttFault::Refuse(_));
    if let Some(MqttFault::Refuse(code)) = endpoint.fault.take(asked) {
        return Err(Refusal::new(
            &mqtt::FAULT,
            Look::ConnAck(code),
            format!("refuse-{code}"),
        ));
    }
    let session = endpoint.policy.connect(peer, &hello.connect)?;
    let mut start = Start {
        clean: hello.connect.clean_session,
        expiry: if hello.connect.clean_session {
            Duration::ZERO
        } else {
            endpoint.policy.limits().session_expiry
        },
        window: usize::from(u16::MAX),
    };
    if let (Some(h), Some(five)) = (&hello.five, endpoint.policy.five()) {
        check_5(endpoint, h, five)?;
        start.expiry = session_expiry(Some(h), five);
        start.window = h.receive_maximum.into();
    }
    check_will(endpoint, &session, hello)?;
    endpoint.backend.admit(peer, &session, endpoint.now())?;
    let admitted = endpoint.attach(&session, start).map_err(|e| {
        let (rule, code, code_5) = match e {
            AttachError::Foreign(_) => (&mqtt::FOREIGN_SESSION, connack::NOT_AUTHORIZED, reason::NOT_AUTHORIZED),
            AttachError::TooMany { .. } => (&mqtt::SESSIONS, connack::UNAVAILABLE, reason::QUOTA),
            AttachError::Full => (&mqtt::FULL, connack::UNAVAILABLE, reason::UNAVAILABLE),
        };
        Refusal::new(rule, Look::ConnAck(code), e.to_string()).in_5(Look5::ConnAck(code_5))
    })?;
    let present = admitted.attached.session_present;
    endpoint
        .backend
        .attached(&session, hello.connect.clean_session, present, endpoint.now());
    endpoint.journal.record(
        endpoint.cloud,
        What::Connected {
            client_id: session.client_id.clone(),
            cn: session.cn.clone(),
            peer: from.to_owned(),
            sni: peer.sni.clone(),
            session_present: present,
        },
    );
    Ok((session, admitted))
}

/// What only a CONNECT of version 5 can ask for.
fn check_5(endpoint: &Endpoint, hello: &Hello5, five: Five) -> Result<(), Refusal> {
    if let Some(method) = &hello.authentication {
        let detail = format!("the authentication method is {method:?}");
        let refusal = Refusal::new(&mqtt::AUTHENTICATION, Look::Close, detail);
        return Err(refusal.in_5(Look5::ConnAck(reason::BAD_METHOD)));
    }
    if hello.user_properties {
        endpoint.policy.user_properties(PacketType::Connect)?;
    }
    let longest = five.will_delay_max.as_secs();
    if u64::from(hello.will_delay) > longest {
        let detail = format!("the will waits {} s, at most {longest} s are allowed", hello.will_delay);
        let refusal = Refusal::new(&mqtt::WILL_DELAY, Look::Close, detail);
        return Err(refusal.in_5(Look5::ConnAck(reason::IMPLEMENTATION)));
    }
    Ok(())
}

/// The will's topic has to be one, and one that is to be kept has to be such that it can be.
fn check_will(endpoint: &Endpoint, session: &Session, hello: &Hello) -> Result<(), Refusal> {
    let Some(will) = &hello.connect.will else {
        return Ok(());
    };
    if !topic::is_name(&will.topic) {
        let detail = format!("the will's topic {:?} is no topic name", will.topic);
        return Err(Refusal::new(&mqtt::TOPIC, Look::Close, detail).in_5(Look5::ConnAck(reason::TOPIC_INVALID)));
    }
    if will.retain {
        let publication = Publication {
            topic: &will.topic,
            qos: will.qos,
            payload: will.payload.len(),
        };
        endpoint.policy.retain(session, publication)?;
    }
    Ok(())
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
