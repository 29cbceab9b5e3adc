//! Moving the session's packets over a socket.
//!
//! [`Session::next`] is waited for beside other things and may be dropped at any await without losing or tearing a packet: what is to
//! be sent waits in a buffer that only whole packets enter, and both directions are served together, so a broker that does not read
//! cannot keep us from hearing its acknowledgements. The buffer is bounded by the window: at most that many messages are in it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4::Packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::core::{Core, Dead, Event, Settings};
use super::transport::{self, Stream};
use super::{Endpoint, SessionError};
use crate::clock::Clock;
use crate::link::Via;
use crate::mqtt::{Connect, split_frame};

/// Bytes asked for from the socket at a time.
const READ_CHUNK: usize = 4096;
/// How long saying goodbye may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// One connection to a broker. Dropping it closes the socket without DISCONNECT.
pub struct Session {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    incoming: BytesMut,
    outgoing: BytesMut,
    /// Written, but perhaps still in TLS's own buffer.
    unflushed: bool,
    /// Since when nothing of `outgoing` could be written.
    stuck_since: Option<Duration>,
    core: Core,
    clock: Clock,
    host: String,
    port: u16,
    answer_within: Duration,
    packet_max: usize,
    proven: bool,
    ready: VecDeque<Event>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.host)
    }
}

impl Session {
    /// Dials, does TLS, sends CONNECT and waits for CONNACK. `core` may come from an earlier connection ([`Session::into_core`]); it is
    /// taken only by a session that comes up.
    ///
    /// # Errors
    /// [`SessionError`]; every wait inside is bounded by the endpoint's limits.
    pub async fn open(
        endpoint: &Endpoint,
        via: &Via,
        clock: &Clock,
        core: &mut Option<Core>,
    ) -> Result<Self, SessionError> {
        let stream = transport::open(&endpoint.target(), via).await?;
        let (reader, writer) = tokio::io::split(stream);
        let fresh = || {
            Core::new(Settings {
                window: endpoint.window.max(1),
                keep_alive: Duration::from_secs(endpoint.keep_alive.into()),
                answer_within: endpoint.answer_within,
                rate: endpoint.rate,
            })
        };
        let mut session = Self {
            reader,
            writer,
            incoming: BytesMut::with_capacity(READ_CHUNK),
            outgoing: BytesMut::new(),
            unflushed: false,
            stuck_since: None,
            core: core.take().unwrap_or_else(fresh),
            clock: clock.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
            answer_within: endpoint.answer_within,
            packet_max: endpoint.packet_max,
            proven: false,
            ready: VecDeque::new(),
        };
        match session.connect(endpoint).await {
            Ok(()) => Ok(session),
            Err(e) => {
                *core = Some(session.core);
                Err(e)
            }
        }
    }

    async fn connect(&mut self, endpoint: &Endpoint) -> Result<(), SessionError> {
        let names = &endpoint.names;
        let mut connect = Connect::new(names.client_id.as_str(), endpoint.clean_session, endpoint.keep_alive);
        connect.username.clone_from(&names.username);
        connect.password = endpoint.password.as_ref().map(|p| Bytes::copy_from_slice(p));
        let bytes = connect.encode().map_err(|e| self.not_mqtt(e.to_string()))?;
        self.outgoing.extend_from_slice(&bytes);
        let within = endpoint.connect_within;
        let frame = tokio::time::timeout(within, async {
            loop {
                transport::can_be_connack(&self.incoming).map_err(|why| self.not_mqtt(why))?;
                if let Some(frame) = self.frame()? {
                    return Ok::<Bytes, SessionError>(frame);
                }
                self.exchange(within).await?;
            }
        })
        .await
        .map_err(|_| SessionError::Late {
            host: self.host.clone(),
            what: "answer to CONNECT",
            within,
        })??;
        let session_present = transport::connack(&frame, &self.host, self.port)?;
        let now = self.clock.monotonic();
        for packet in self.core.connected(session_present, now) {
            self.queue(&packet)?;
        }
        Ok(())
    }

    /// Room for more publishes.
    #[must_use]
    pub fn room(&self) -> usize {
        self.core.room(self.clock.monotonic())
    }

    /// When only the rate forbids another publish: how long until it is allowed.
    #[must_use]
    pub fn paced(&self) -> Option<Duration> {
        self.core.paced(self.clock.monotonic())
    }

    /// Sequence numbers still in flight.
    pub fn in_flight(&self) -> impl Iterator<Item = u64> + '_ {
        self.core.in_flight()
    }

    /// Publishes; it is sent while [`Session::next`] is waited for. The caller has looked at [`Session::room`]: without room nothing
    /// happens and the answer is false.
    ///
    /// # Errors
    /// [`SessionError::NotMqtt`] for what cannot be written as a packet.
    pub fn publish(&mut self, sequence: u64, topic: &str, payload: Bytes) -> Result<bool, SessionError> {
        let now = self.clock.monotonic();
        match self.core.publish(sequence, topic, payload, now) {
            Some(packet) => self.queue(&packet).map(|()| true),
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
            // One at a time: what a packet says is handed out before a later one can end the connection.
            if let Some(frame) = self.frame()? {
                let mut bytes = BytesMut::from(&frame[..]);
                let packet = Packet::read(&mut bytes, self.packet_max).map_err(|e| self.not_mqtt(e.to_string()))?;
                let now = self.clock.monotonic();
                let (events, answer) = self.core.received(packet, now).map_err(|dead| self.dead(dead))?;
                self.proven |= events.contains(&Event::Proven);
                self.ready.extend(events);
                if let Some(answer) = answer {
                    self.queue(&answer)?;
                }
                continue;
            }
            let now = self.clock.monotonic();
            if let Some(ping) = self.core.tick(now).map_err(|dead| self.dead(dead))? {
                self.queue(&ping)?;
            }
            let wait = self
                .core
                .deadline()
                .map_or(self.answer_within, |d| d.saturating_sub(now));
            self.exchange(wait).await?;
        }
    }

    /// Says goodbye and closes; bounded.
    pub async fn close(mut self) {
        let goodbye = async {
            self.queue(&Packet::Disconnect)?;
            while !self.outgoing.is_empty() || self.unflushed {
                write_some(&mut self.writer, &mut self.outgoing, &mut self.unflushed)
                    .await
                    .map_err(|e| self.broken(&e))?;
            }
            let _ = self.writer.shutdown().await;
            Ok::<(), SessionError>(())
        };
        let _ = tokio::time::timeout(CLOSE_WITHIN, goodbye).await;
    }

    /// The protocol state, for the next connection of the same client.
    #[must_use]
    pub fn into_core(self) -> Core {
        self.core
    }

    fn frame(&mut self) -> Result<Option<Bytes>, SessionError> {
        split_frame(&mut self.incoming, self.packet_max)
            .map(|frame| frame.map(|f| f.bytes))
            .map_err(|e| self.not_mqtt(e.to_string()))
    }

    fn queue(&mut self, packet: &Packet) -> Result<(), SessionError> {
        let written = packet.write(&mut self.outgoing, usize::MAX);
        written.map(|_| ()).map_err(|e| self.not_mqtt(e.to_string()))
    }

    /// Reads or writes once, or waits for at most `wait`; cancel-safe.
    async fn exchange(&mut self, wait: Duration) -> Result<(), SessionError> {
        let now = self.clock.monotonic();
        let sends = !self.outgoing.is_empty() || self.unflushed;
        let mut wait = wait.max(Duration::from_millis(1));
        if sends {
            let stuck = now.saturating_sub(*self.stuck_since.get_or_insert(now));
            if stuck >= self.answer_within {
                return Err(self.dead(Dead::Silent {
                    what: "room to send",
                    waited: stuck,
                }));
            }
            wait = wait.min(self.answer_within - stuck);
        }
        self.incoming.reserve(READ_CHUNK);
        tokio::select! {
            read = self.reader.read_buf(&mut self.incoming) => match read {
                Ok(0) => Err(self.closed(None)),
                Ok(_) => Ok(()),
                Err(e) => Err(self.broken(&e)),
            },
            written = write_some(&mut self.writer, &mut self.outgoing, &mut self.unflushed), if sends => {
                self.stuck_since = None;
                written.map_err(|e| self.broken(&e))
            }
            () = tokio::time::sleep(wait) => Ok(()),
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
                super::AFTER_IT_WORKED
            } else {
                "before it worked"
            },
            why,
        }
    }

    fn broken(&self, e: &std::io::Error) -> SessionError {
        transport::tls_alert(e, &self.host).unwrap_or_else(|| self.closed(Some(e.to_string())))
    }
}

/// Writes a part of `outgoing`, and flushes once it is empty; cancel-safe, because nothing leaves `outgoing` before the stream took it.
async fn write_some(
    writer: &mut WriteHalf<Box<dyn Stream>>,
    outgoing: &mut BytesMut,
    unflushed: &mut bool,
) -> std::io::Result<()> {
    if !outgoing.is_empty() {
        *unflushed = true;
        if writer.write_buf(outgoing).await? == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
    }
    if outgoing.is_empty() {
        writer.flush().await?;
        *unflushed = false;
    }
    Ok(())
}
