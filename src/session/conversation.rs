//! A few questions and answers over MQTT with a provisioning service: connect, subscribe, publish, wait for messages, say goodbye.
//!
//! Unlike [`Session`](super::Session) it keeps nothing for a next connection, and every call waits for its own answer. A service that
//! is silent costs at most the target's limit a call; one that sends what nobody asked for costs no more than that, because the limit
//! is for the whole call and not for a packet. Messages that come while something else is awaited are kept, up to [`KEPT_MAX`]; more
//! break the conversation.
//!
//! There are no pings: the keep-alive of CONNECT has to be longer than the whole conversation can take.
//!
//! An error is the end: a call that ran out of time may have stopped in the middle of a packet. What is left to do is
//! [`Conversation::close`], which says goodbye only if that is still possible.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish, Subscribe, SubscribeReasonCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::SessionError;
use super::transport::{self, Stream, Target};
use crate::link::Via;
use crate::mqtt::{Connect, split_frame};

/// Most messages kept while something else is awaited.
const KEPT_MAX: usize = 16;
/// Largest packet taken, in bytes: three certificates as PEM in JSON are under 16 KiB; AWS IoT Core's largest message is 128 KiB.
const PACKET_MAX: usize = 130 * 1024;
/// Bytes asked for from the socket at a time.
const READ_CHUNK: usize = 4096;
/// How long saying goodbye may take.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection that cannot be written to is read from, for the TLS alert that says why.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);
/// Most topic filters in one SUBSCRIBE (AWS IoT Core quotas: 8; DPS takes one).
pub const FILTERS_MAX: usize = 8;

/// A message from the service.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload, which may hold a private key.
    pub payload: Bytes,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({} bytes)", self.payload.len())
    }
}

/// An open conversation. Dropping it closes the socket without DISCONNECT.
pub struct Conversation {
    stream: Box<dyn Stream>,
    incoming: BytesMut,
    kept: VecDeque<Message>,
    next_id: u16,
    /// The last write was not a whole one: nothing sensible can follow.
    torn: bool,
    target: Target,
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conversation({})", self.target.host)
    }
}

impl Conversation {
    /// Dials, does TLS, sends CONNECT and waits for CONNACK.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn open(target: &Target, via: &Via, connect: &Connect) -> Result<Self, SessionError> {
        Self::over(transport::open(target, via).await?, target, connect).await
    }

    async fn over(stream: Box<dyn Stream>, target: &Target, connect: &Connect) -> Result<Self, SessionError> {
        let mut talk = Self {
            stream,
            incoming: BytesMut::with_capacity(READ_CHUNK),
            kept: VecDeque::new(),
            next_id: 1,
            torn: false,
            target: target.clone(),
        };
        let bytes = connect.encode().map_err(|e| talk.not_mqtt(e.to_string()))?;
        talk.write(&bytes).await?;
        let within = target.within;
        let frame = tokio::time::timeout(within, async {
            loop {
                transport::can_be_connack(&talk.incoming).map_err(|why| talk.not_mqtt(why))?;
                match talk.frame()? {
                    Some(frame) => return Ok::<Bytes, SessionError>(frame),
                    None => talk.read().await?,
                }
            }
        })
        .await
        .map_err(|_| late(target, "answer to CONNECT", within))??;
        transport::connack(&frame, &target.host, target.port)?;
        Ok(talk)
    }

    /// Subscribes to the filters (1 to [`FILTERS_MAX`]) at QoS 1, in one packet, and waits until all are granted.
    ///
    /// # Errors
    /// [`SessionError::NotAllowed`] for the first that is refused; others of the connection.
    pub async fn subscribe(&mut self, filters: &[&str]) -> Result<(), SessionError> {
        if !(1..=FILTERS_MAX).contains(&filters.len()) {
            let why = format!("{} topic filters do not go into one SUBSCRIBE", filters.len());
            return Err(self.not_mqtt(why));
        }
        let wanted = filters.iter().map(|f| rumqttc::mqttbytes::v4::SubscribeFilter {
            path: (*f).to_owned(),
            qos: QoS::AtLeastOnce,
        });
        let mut packet = Subscribe::new_many(wanted);
        packet.pkid = self.id();
        let pkid = packet.pkid;
        self.send(&Packet::Subscribe(packet)).await?;
        let within = self.target.within;
        let granted = self
            .until("answer to SUBSCRIBE", within, |packet| match packet {
                Packet::SubAck(ack) if ack.pkid == pkid => Some(ack.return_codes.clone()),
                _ => None,
            })
            .await?;
        let refused = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Failure);
        let host = &self.target.host;
        let codes = granted.iter().map(Some).chain(std::iter::repeat(None));
        match filters.iter().zip(codes).find(|(_, code)| code.is_none_or(refused)) {
            None => Ok(()),
            Some((filter, _)) => Err(SessionError::NotAllowed {
                host: host.clone(),
                filter: (*filter).to_owned(),
            }),
        }
    }

    /// Publishes at QoS 1 and waits for the acknowledgement.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), SessionError> {
        let pkid = self.request(topic, payload).await?;
        let within = self.target.within;
        self.until("acknowledgement", within, |packet| match packet {
            Packet::PubAck(ack) if ack.pkid == pkid => Some(()),
            _ => None,
        })
        .await
    }

    /// Publishes at QoS 1 and does not wait for the acknowledgement: for requests whose answer says more than a PUBACK could, and may
    /// come before it. Answers the packet id.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn request(&mut self, topic: &str, payload: &[u8]) -> Result<u16, SessionError> {
        let mut packet = Publish::new(topic, QoS::AtLeastOnce, payload);
        packet.pkid = self.id();
        let pkid = packet.pkid;
        self.send(&Packet::Publish(packet)).await?;
        Ok(pkid)
    }

    /// The next message, one that came earlier first.
    ///
    /// # Errors
    /// [`SessionError`]; `within` is the limit.
    pub async fn message(&mut self, within: Duration) -> Result<Message, SessionError> {
        self.answer(within, Some).await
    }

    /// What `wanted` makes of the first message that it takes; others are dropped. `within` is the limit for all of them together.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn answer<T>(
        &mut self,
        within: Duration,
        mut wanted: impl FnMut(Message) -> Option<T>,
    ) -> Result<T, SessionError> {
        let target = self.target.clone();
        let found = async {
            loop {
                while let Some(message) = self.kept.pop_front() {
                    if let Some(found) = wanted(message) {
                        return Ok(found);
                    }
                }
                self.packet().await?;
            }
        };
        tokio::time::timeout(within, found)
            .await
            .unwrap_or_else(|_| Err(late(&target, "answer", within)))
    }

    /// Says goodbye and closes; bounded.
    pub async fn close(mut self) {
        let _ = tokio::time::timeout(CLOSE_WITHIN, async {
            if !self.torn {
                self.send(&Packet::Disconnect).await?;
            }
            self.stream.shutdown().await.map_err(|e| self.broken(&e))
        })
        .await;
    }

    fn id(&mut self) -> u16 {
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(1);
        id
    }

    /// Waits for the packet that `wanted` takes.
    async fn until<T>(
        &mut self,
        what: &'static str,
        within: Duration,
        mut wanted: impl FnMut(&Packet) -> Option<T>,
    ) -> Result<T, SessionError> {
        let target = self.target.clone();
        let found = async {
            loop {
                if let Some(found) = self.packet().await?.as_ref().and_then(&mut wanted) {
                    return Ok(found);
                }
            }
        };
        tokio::time::timeout(within, found)
            .await
            .unwrap_or_else(|_| Err(late(&target, what, within)))
    }

    /// Takes the next packet; a message is kept and acknowledged, and is no answer.
    async fn packet(&mut self) -> Result<Option<Packet>, SessionError> {
        let frame = loop {
            match self.frame()? {
                Some(frame) => break frame,
                None => self.read().await?,
            }
        };
        let packet =
            Packet::read(&mut BytesMut::from(&frame[..]), PACKET_MAX).map_err(|e| self.not_mqtt(e.to_string()))?;
        let message = match packet {
            Packet::Publish(message) => message,
            Packet::PubAck(_) | Packet::SubAck(_) | Packet::PingResp => return Ok(Some(packet)),
            other => {
                let name = format!("{other:?}");
                let name = name.split(['(', ' ']).next().unwrap_or_default();
                return Err(self.not_mqtt(format!("it sent a {name}, which has no place here")));
            }
        };
        // Nobody subscribed above QoS 1 [MQTT-3.8.4-6].
        if message.qos == QoS::ExactlyOnce {
            return Err(self.not_mqtt("it sent a message at QoS 2".to_owned()));
        }
        if self.kept.len() == KEPT_MAX {
            return Err(self.not_mqtt(format!("it sent over {KEPT_MAX} messages that nobody asked for")));
        }
        if message.qos == QoS::AtLeastOnce {
            self.send(&Packet::PubAck(PubAck::new(message.pkid))).await?;
        }
        self.kept.push_back(Message {
            topic: message.topic,
            payload: message.payload,
        });
        Ok(None)
    }

    fn frame(&mut self) -> Result<Option<Bytes>, SessionError> {
        split_frame(&mut self.incoming, PACKET_MAX)
            .map(|frame| frame.map(|f| f.bytes))
            .map_err(|e| self.not_mqtt(e.to_string()))
    }

    async fn read(&mut self) -> Result<(), SessionError> {
        self.incoming.reserve(READ_CHUNK);
        match self.stream.read_buf(&mut self.incoming).await {
            Ok(0) => Err(self.closed(None)),
            Ok(_) => Ok(()),
            Err(e) => Err(self.broken(&e)),
        }
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), SessionError> {
        let mut bytes = BytesMut::new();
        packet
            .write(&mut bytes, PACKET_MAX)
            .map_err(|e| self.not_mqtt(e.to_string()))?;
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let within = self.target.within;
        self.torn = true;
        let written = tokio::time::timeout(within, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await
        .map_err(|_| late(&self.target, "room to send", within))?;
        match written {
            Ok(()) => {
                self.torn = false;
                Ok(())
            }
            Err(e) => Err(self.last_words(&e).await),
        }
    }

    /// Why the connection cannot be written to any more. A server that refuses our certificate in TLS 1.3 says so and hangs up; when
    /// that is faster than our CONNECT, the write fails, and its reason waits to be read.
    async fn last_words(&mut self, e: &std::io::Error) -> SessionError {
        let mut unread = BytesMut::new();
        let reason = tokio::time::timeout(LAST_WORDS_WITHIN, async {
            loop {
                unread.clear();
                match self.stream.read_buf(&mut unread).await {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(e) => return transport::tls_alert(&e, &self.target.host),
                }
            }
        })
        .await;
        reason.ok().flatten().unwrap_or_else(|| self.broken(e))
    }

    fn not_mqtt(&self, why: String) -> SessionError {
        SessionError::NotMqtt {
            host: self.target.host.clone(),
            port: self.target.port,
            why,
        }
    }

    fn closed(&self, why: Option<String>) -> SessionError {
        SessionError::Closed {
            host: self.target.host.clone(),
            when: "before it answered",
            why,
        }
    }

    fn broken(&self, e: &std::io::Error) -> SessionError {
        transport::tls_alert(e, &self.target.host).unwrap_or_else(|| self.closed(Some(e.to_string())))
    }
}

fn late(target: &Target, what: &'static str, within: Duration) -> SessionError {
    SessionError::Late {
        host: target.host.clone(),
        what,
        within,
    }
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
