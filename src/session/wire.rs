//! Moving the session's packets over a socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4::{Disconnect, Packet};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::core::{Core, Dead, Event, Settings};
use super::{Cause, DURING_HANDSHAKE, Endpoint, SessionError};
use crate::clock::Clock;
use crate::link::{self, Via};
use crate::mqtt::{Connect, FrameError, connack, split_frame};
use crate::tls;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// First byte of a CONNACK (MQTT 3.1.1 section 3.2.1).
const CONNACK: u8 = 0x20;
/// Bytes asked for from the socket at a time.
const READ_CHUNK: usize = 4096;

/// One connection to a broker. Dropping it closes the socket without DISCONNECT.
pub struct Session {
    stream: Box<dyn Stream>,
    incoming: BytesMut,
    core: Core,
    clock: Clock,
    host: String,
    port: u16,
    answer_within: Duration,
    packet_max: usize,
    proven: bool,
    ready: std::collections::VecDeque<Event>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.host)
    }
}

impl Session {
    /// Dials, does TLS, sends CONNECT and waits for CONNACK. `core` may come from an earlier connection ([`Session::into_core`]).
    ///
    /// # Errors
    /// [`SessionError`]; every wait inside is bounded by the endpoint's limits.
    pub async fn open(endpoint: &Endpoint, via: &Via, clock: &Clock, core: Option<Core>) -> Result<Self, SessionError> {
        let core = core.unwrap_or_else(|| {
            Core::new(Settings {
                window: endpoint.window.max(1),
                keep_alive: Duration::from_secs(endpoint.keep_alive.into()),
                answer_within: endpoint.answer_within,
            })
        });
        let tcp = link::dial(
            via,
            &endpoint.host,
            endpoint.port,
            endpoint.address,
            endpoint.connect_within,
        )
        .await?;
        let stream: Box<dyn Stream> = match &endpoint.tls {
            Some(config) => Box::new(handshake(endpoint, config.clone(), tcp).await?),
            None => Box::new(tcp),
        };
        let mut session = Self {
            stream,
            incoming: BytesMut::with_capacity(READ_CHUNK),
            core,
            clock: clock.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
            answer_within: endpoint.answer_within,
            packet_max: endpoint.packet_max,
            proven: false,
            ready: std::collections::VecDeque::new(),
        };
        session.connect(endpoint).await?;
        Ok(session)
    }

    async fn connect(&mut self, endpoint: &Endpoint) -> Result<(), SessionError> {
        let names = &endpoint.names;
        let mut connect = Connect::new(names.client_id.as_str(), endpoint.clean_session, endpoint.keep_alive);
        connect.username.clone_from(&names.username);
        connect.password = endpoint.password.as_ref().map(|p| Bytes::copy_from_slice(p));
        let bytes = connect.encode().map_err(|e| self.not_mqtt(e.to_string()))?;
        self.write(&bytes).await?;
        let within = endpoint.connect_within;
        let frame = tokio::time::timeout(within, async {
            loop {
                // At the first byte, because a server of another kind may never complete what its bytes announce in MQTT.
                if self.incoming.first().is_some_and(|b| *b != CONNACK) {
                    let what = match &self.incoming[..] {
                        [b'H', b'T', b'T', b'P', ..] => "an HTTP server answers",
                        [0x15, 0x03, ..] => "it answers with a TLS alert, so it wants TLS",
                        _ => "the first packet is not a CONNACK [MQTT-3.2.0-1]",
                    };
                    return Err(self.not_mqtt(what.to_owned()));
                }
                if let Some(frame) = self.frame()? {
                    return Ok::<Bytes, SessionError>(frame);
                }
                self.fill().await?;
            }
        })
        .await
        .map_err(|_| SessionError::Late {
            host: self.host.clone(),
            what: "answer to CONNECT",
            within,
        })??;
        // Read as bytes and not by the codec, which fails on return codes it does not know.
        let session_present = match frame[..] {
            [CONNACK, 0x02, flags, connack::ACCEPTED] => flags & 0x01 != 0,
            [CONNACK, 0x02, _, code] => {
                return Err(SessionError::Refused {
                    host: self.host.clone(),
                    code,
                });
            }
            _ => return Err(self.not_mqtt("the first packet is not a CONNACK [MQTT-3.2.0-1]".to_owned())),
        };
        let now = self.clock.monotonic();
        for packet in self.core.connected(session_present, now) {
            self.send(packet).await?;
        }
        Ok(())
    }

    /// Room for more publishes.
    #[must_use]
    pub fn room(&self) -> usize {
        self.core.room()
    }

    /// Sequence numbers still in flight.
    pub fn in_flight(&self) -> impl Iterator<Item = u64> + '_ {
        self.core.in_flight()
    }

    /// Publishes; the caller has looked at [`Session::room`], without room nothing happens and the answer is false.
    ///
    /// # Errors
    /// [`SessionError`]: the connection is gone.
    pub async fn publish(&mut self, sequence: u64, topic: &str, payload: Bytes) -> Result<bool, SessionError> {
        let now = self.clock.monotonic();
        match self.core.publish(sequence, topic, payload, now) {
            Some(packet) => self.send(packet).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// The next event. May be dropped while waiting without losing anything.
    ///
    /// # Errors
    /// [`SessionError`]: the connection is gone.
    pub async fn next(&mut self) -> Result<Event, SessionError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            while let Some(frame) = self.frame()? {
                let mut bytes = BytesMut::from(&frame[..]);
                let packet = Packet::read(&mut bytes, self.packet_max).map_err(|e| self.not_mqtt(e.to_string()))?;
                let now = self.clock.monotonic();
                let (events, answer) = self.core.received(packet, now).map_err(|dead| self.dead(dead))?;
                self.proven |= events.contains(&Event::Proven);
                self.ready.extend(events);
                if let Some(answer) = answer {
                    self.send(answer).await?;
                }
            }
            if !self.ready.is_empty() {
                continue;
            }
            let now = self.clock.monotonic();
            if let Some(ping) = self.core.tick(now).map_err(|dead| self.dead(dead))? {
                self.send(ping).await?;
            }
            match self.core.deadline().map(|d| d.saturating_sub(now)) {
                Some(wait) => {
                    // Late is fine: the loop looks at the clock again.
                    tokio::time::timeout(wait.max(Duration::from_millis(1)), self.fill())
                        .await
                        .unwrap_or(Ok(()))?;
                }
                None => self.fill().await?,
            }
        }
    }

    /// Says goodbye and closes; bounded.
    pub async fn close(mut self) {
        let _ = self.send(Packet::Disconnect).await;
        let _ = tokio::time::timeout(self.answer_within, self.stream.shutdown()).await;
    }

    /// The protocol state, for the next connection of the same client.
    #[must_use]
    pub fn into_core(self) -> Core {
        self.core
    }

    fn frame(&mut self) -> Result<Option<Bytes>, SessionError> {
        match split_frame(&mut self.incoming, self.packet_max) {
            Ok(frame) => Ok(frame.map(|f| f.bytes)),
            Err(e @ (FrameError::ReservedType(_) | FrameError::BadLength | FrameError::TooLarge { .. })) => {
                Err(self.not_mqtt(e.to_string()))
            }
        }
    }

    /// Reads once; cancel-safe.
    async fn fill(&mut self) -> Result<(), SessionError> {
        self.incoming.reserve(READ_CHUNK);
        match self.stream.read_buf(&mut self.incoming).await {
            Ok(0) => Err(self.closed(None)),
            Ok(_) => Ok(()),
            Err(e) => Err(self.broken(&e)),
        }
    }

    async fn send(&mut self, packet: Packet) -> Result<(), SessionError> {
        let mut out = BytesMut::new();
        if packet == Packet::Disconnect {
            // rumqttc's writer for DISCONNECT is on the packet's own type.
            Disconnect.write(&mut out).map_err(|e| self.not_mqtt(e.to_string()))?;
        } else {
            packet
                .write(&mut out, usize::MAX)
                .map_err(|e| self.not_mqtt(e.to_string()))?;
        }
        self.write(&out).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let within = self.answer_within;
        let result = tokio::time::timeout(within, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await;
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(self.broken(&e)),
            Err(_) => Err(self.dead(Dead::Silent {
                what: "room to send",
                waited: within,
            })),
        }
    }

    fn dead(&self, dead: Dead) -> SessionError {
        SessionError::Dead {
            host: self.host.clone(),
            dead,
        }
    }

    fn not_mqtt(&self, why: String) -> SessionError {
        SessionError::NotMqtt {
            host: self.host.clone(),
            port: self.port,
            why,
        }
    }

    fn closed(&self, why: Option<String>) -> SessionError {
        SessionError::Closed {
            host: self.host.clone(),
            when: if self.proven {
                "after it worked"
            } else {
                "before it worked"
            },
            why,
        }
    }

    /// In TLS 1.3 a server refuses our certificate only after the handshake looks done: the alert comes with the first read.
    fn broken(&self, e: &std::io::Error) -> SessionError {
        match tls_error(e) {
            Some(inner) => tls_fault(inner, &self.host),
            None => self.closed(Some(e.to_string())),
        }
    }
}

fn tls_error(e: &std::io::Error) -> Option<&rustls::Error> {
    e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

fn tls_fault(error: &rustls::Error, host: &str) -> SessionError {
    use rustls::CertificateError as C;
    let (what, cure) = tls::explain(error, host);
    let cause = match error {
        rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. })
        | rustls::Error::FailedToGetCurrentTime => Cause::Clock,
        e if tls::refuses_our_certificate(e) => Cause::Identity,
        rustls::Error::InvalidCertificate(_) => Cause::Configuration,
        _ => Cause::Broker,
    };
    let cure = match cause {
        Cause::Configuration => format!("{cure} (session.host, session.ca_file)"),
        _ => cure,
    };
    SessionError::Tls { what, cure, cause }
}

async fn handshake(
    endpoint: &Endpoint,
    config: Arc<rustls::ClientConfig>,
    tcp: tokio::net::TcpStream,
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, SessionError> {
    let host = &endpoint.host;
    let name = ServerName::try_from(host.clone()).map_err(|_| SessionError::Tls {
        what: format!("{host:?} is neither a host name nor an IP address"),
        cure: "check session.host".to_owned(),
        cause: Cause::Configuration,
    })?;
    let within = endpoint.connect_within;
    match tokio::time::timeout(within, TlsConnector::from(config).connect(name, tcp)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) => Err(match tls_error(&e) {
            Some(inner) => tls_fault(inner, host),
            None => SessionError::Closed {
                host: host.clone(),
                when: DURING_HANDSHAKE,
                why: Some(e.to_string()),
            },
        }),
        Err(_) => Err(SessionError::Late {
            host: host.clone(),
            what: "end of the TLS handshake",
            within,
        }),
    }
}
