//! The bytes of a connection to an MQTT stand-in: packets in and out, each bounded in size and time.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::codec::{self, ConnectRefused, Hello, LEVEL_5, Malformed, Out, Packet, Version};
use super::policy::{Look, Look5, Refusal, mqtt, reason};
use crate::mqtt::{ConnectError, Frame, FrameError, PacketType, connack, split_frame};

/// A device that takes nothing for this long is let go.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// Bytes read from a connection at a time.
const READ_CHUNK: usize = 16 * 1024;

/// A byte stream, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The byte stream and what has been read of it.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    limit: usize,
    version: Version,
    /// Largest packet that the device takes, in bytes.
    theirs: usize,
    /// CONNACK has been sent.
    welcomed: bool,
}

fn malformed(what: &str, e: &Malformed) -> Refusal {
    let code = match e {
        Malformed::Form(_) => reason::MALFORMED,
        Malformed::Protocol(_) => reason::PROTOCOL_ERROR,
    };
    Refusal::new(&mqtt::MALFORMED, Look::Close, format!("{what}: {e}")).in_5(Look5::Disconnect(code))
}

impl Wire {
    /// `limit` bounds a packet, in bytes.
    pub(super) fn new(stream: Box<dyn Stream>, limit: usize) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            limit,
            version: Version::V4,
            theirs: usize::MAX,
            welcomed: false,
        }
    }

    /// Reads a packet that was cut out by [`Self::frame`].
    pub(super) fn parse(&self, frame: Frame) -> Result<Packet, Refusal> {
        let kind = frame.packet;
        codec::read(self.version, frame).map_err(|e| malformed(&format!("{kind:?}"), &e))
    }

    /// The next whole packet that is here already.
    pub(super) fn frame(&mut self) -> Result<Option<Frame>, Refusal> {
        split_frame(&mut self.buffer, self.limit).map_err(|e| {
            let (rule, code) = match e {
                FrameError::TooLarge { .. } => (&mqtt::PACKET_SIZE, reason::PACKET_TOO_LARGE),
                FrameError::ReservedType(_) | FrameError::BadLength => (&mqtt::MALFORMED, reason::MALFORMED),
            };
            Refusal::new(rule, Look::Close, e.to_string()).in_5(Look5::Disconnect(code))
        })
    }

    /// Reads once; 0 is the end. The buffer never holds more than one packet and one chunk, because whole packets are taken out first.
    pub(super) async fn fill(&mut self) -> std::io::Result<usize> {
        self.buffer.reserve(READ_CHUNK);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// The packet that has to come first; `five` says whether MQTT 5 is spoken, and what properties may add to a packet.
    pub(super) async fn connect(&mut self, five: Option<usize>) -> Result<Hello, Refusal> {
        let first = |detail: String| Refusal::new(&mqtt::CONNECT_FIRST, Look::Close, detail).in_5(Look5::Close);
        let frame = loop {
            if let Some(frame) = self.frame()? {
                break frame;
            }
            match self.fill().await {
                Ok(0) => return Err(first("the connection was closed".into())),
                Ok(_) => {}
                // With TLS 1.3 a client without certificate learns so here, and this side from its alert or reset.
                Err(e) => return Err(Refusal::new(&mqtt::TLS, Look::Close, e.to_string())),
            }
        };
        if frame.packet != PacketType::Connect {
            return Err(first(format!("a {:?} came first", frame.packet)));
        }
        match codec::read_connect(&frame, five.is_some()) {
            Ok(hello) => {
                self.version = hello.version();
                if let Some(five) = &hello.five {
                    self.theirs = five.packet_maximum.map_or(usize::MAX, |m| m as usize);
                }
                if self.version == Version::V5 {
                    self.limit += five.unwrap_or(0);
                }
                Ok(hello)
            }
            Err(ConnectRefused::Five(e)) => {
                self.version = Version::V5;
                Err(malformed("CONNECT", &e))
            }
            Err(ConnectRefused::Four(e @ ConnectError::Protocol { level, .. })) => {
                let look = if level >= LEVEL_5 {
                    Look::In5(Look5::ConnAck(reason::UNSUPPORTED_VERSION))
                } else {
                    Look::ConnAck(connack::BAD_PROTOCOL)
                };
                Err(Refusal::new(&mqtt::VERSION, look, e.to_string()))
            }
            Err(ConnectRefused::Four(e)) => Err(Refusal::new(&mqtt::MALFORMED, Look::Close, e.to_string())),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = timeout(WRITE_MAX, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(format!("cannot send: {e}")),
            Err(_) => Err(format!("it took nothing for {} s", WRITE_MAX.as_secs())),
        }
    }

    /// Sends a packet, unless it is larger than the device takes (MQTT 5 section 3.1.2.11.4): the answer is whether it was sent. The
    /// error says why the connection is lost.
    pub(super) async fn send(&mut self, out: &Out) -> Result<bool, String> {
        self.send_as(self.version, out).await
    }

    async fn send_as(&mut self, version: Version, out: &Out) -> Result<bool, String> {
        let bytes = codec::write(version, out).map_err(|e| format!("cannot write a packet: {e}"))?;
        if bytes.len() > self.theirs {
            return Ok(false);
        }
        self.welcomed |= matches!(out, Out::Welcome { .. });
        self.write(&bytes).await?;
        Ok(true)
    }

    /// Shows a refusal of the connection as the cloud does; the answer is the refusal as it looked.
    pub(super) async fn refuse(&mut self, refusal: Refusal) -> Refusal {
        let look = match (self.version, refusal.look, refusal.look_5.reason()) {
            (Version::V4, look, _) => look,
            (Version::V5, Look::In5(look), _) => Look::In5(look),
            (Version::V5, _, None) => Look::In5(Look5::Close),
            (Version::V5, _, Some(code)) if self.welcomed => Look::In5(Look5::Disconnect(code)),
            (Version::V5, _, Some(code)) => Look::In5(Look5::ConnAck(code)),
        };
        let _ = match look {
            Look::ConnAck(code) => self.send_as(Version::V4, &Out::Refused(code)).await,
            Look::In5(Look5::ConnAck(code)) => self.send_as(Version::V5, &Out::Refused(code)).await,
            Look::In5(Look5::Disconnect(code)) => self.send_as(Version::V5, &Out::Disconnect(code)).await,
            _ => Ok(false),
        };
        Refusal { look, ..refusal }
    }

    /// Says goodbye on the TLS level and closes.
    pub(super) async fn close(&mut self) {
        let _ = timeout(WRITE_MAX, self.stream.shutdown()).await;
    }
}
