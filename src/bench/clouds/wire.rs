//! The bytes of a connection to an MQTT stand-in: packets in and out, each bounded in size and time.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::Packet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::policy::{Look, Refusal, mqtt};
use crate::mqtt::{Connect, ConnectError, Frame, FrameError, PacketType, connack, split_frame};

/// A device that takes nothing for this long is let go.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// Bytes read from a connection at a time.
const READ_CHUNK: usize = 16 * 1024;
/// CONNACK of MQTT 5 with reason 0x84, unsupported protocol version (OASIS MQTT 5.0 sections 3.1.2.2 and 3.2.2.2).
const CONNACK_5_UNSUPPORTED: [u8; 5] = [0x20, 0x03, 0x00, 0x84, 0x00];
/// First protocol level whose CONNACK has properties.
const LEVEL_5: u8 = 5;

/// A byte stream, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The byte stream and what has been read of it.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    limit: usize,
}

impl Wire {
    /// `limit` bounds a packet, in bytes.
    pub(super) fn new(stream: Box<dyn Stream>, limit: usize) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            limit,
        }
    }

    /// Reads a packet that was cut out by [`Self::frame`].
    pub(super) fn parse(&self, frame: Frame) -> Result<Packet, Refusal> {
        let kind = frame.packet;
        Packet::read(&mut BytesMut::from(frame.bytes), self.limit)
            .map_err(|e| Refusal::new(&mqtt::MALFORMED, Look::Close, format!("{kind:?}: {e}")))
    }

    /// The next whole packet that is here already.
    pub(super) fn frame(&mut self) -> Result<Option<Frame>, Refusal> {
        split_frame(&mut self.buffer, self.limit).map_err(|e| {
            let rule = match e {
                FrameError::TooLarge { .. } => &mqtt::PACKET_SIZE,
                FrameError::ReservedType(_) | FrameError::BadLength => &mqtt::MALFORMED,
            };
            Refusal::new(rule, Look::Close, e.to_string())
        })
    }

    /// Reads once; 0 is the end. The buffer never holds more than one packet and one chunk, because whole packets are taken out first.
    pub(super) async fn fill(&mut self) -> std::io::Result<usize> {
        self.buffer.reserve(READ_CHUNK);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// The packet that has to come first.
    pub(super) async fn connect(&mut self) -> Result<Connect, Refusal> {
        let first = |detail: String| Refusal::new(&mqtt::CONNECT_FIRST, Look::Close, detail);
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
        Connect::decode(frame.body()).map_err(|e| match e {
            ConnectError::Protocol { level, .. } => {
                let code = if level >= LEVEL_5 {
                    CONNACK_5_UNSUPPORTED[3]
                } else {
                    connack::BAD_PROTOCOL
                };
                Refusal::new(&mqtt::VERSION, Look::ConnAck(code), e.to_string())
            }
            ConnectError::Malformed(_) => Refusal::new(&mqtt::MALFORMED, Look::Close, e.to_string()),
        })
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

    /// Sends a packet; the error says why the connection is lost.
    pub(super) async fn send(&mut self, packet: Packet) -> Result<(), String> {
        let mut bytes = BytesMut::new();
        packet
            .write(&mut bytes, usize::MAX)
            .map_err(|e| format!("cannot write a packet: {e}"))?;
        self.write(&bytes).await
    }

    /// Shows a refusal of the connection as the cloud does, and closes.
    pub(super) async fn refuse(&mut self, refusal: &Refusal) {
        if let Look::ConnAck(code) = refusal.look {
            let _ = if code == CONNACK_5_UNSUPPORTED[3] {
                self.write(&CONNACK_5_UNSUPPORTED).await
            } else {
                self.write(&connack::packet(code)).await
            };
        }
        self.close().await;
    }

    /// Says goodbye on the TLS level and closes.
    pub(super) async fn close(&mut self) {
        let _ = timeout(WRITE_MAX, self.stream.shutdown()).await;
    }
}
