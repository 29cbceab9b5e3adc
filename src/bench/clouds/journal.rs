//! What the stand-ins saw: events for whoever listens, accepted messages in memory and in `messages.jsonl`.
//!
//! Names appear in full: the stand-ins exist to show which name did not fit which, and the identities on the bench are invented.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tokio::sync::broadcast;

use super::policy::Refusal;
use super::stand_in::{Cloud, Protocol};
use super::visit::{self, Register, Visit};
use crate::clock::Clock;

/// Accepted messages kept in memory; the oldest go first.
pub const MESSAGES_KEPT: usize = 4_096;
/// Bytes of text in the messages kept in memory, on average 16 KiB a message; the oldest go first, the newest one always stays.
pub const BYTES_KEPT: usize = MESSAGES_KEPT * (16 << 10);
/// Events that a slow listener may be behind before it loses some.
pub const EVENTS_BEHIND: usize = 4_096;
/// `messages.jsonl` does not grow beyond this, in bytes.
pub const FILE_MAX: u64 = 256 << 20;

/// A message that a stand-in accepted: a line of `messages.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// When, RFC 3339 with milliseconds, UTC.
    pub time: String,
    /// Which stand-in.
    pub cloud: Cloud,
    /// The publisher's client id.
    pub client_id: String,
    /// The common name of its certificate.
    pub cn: String,
    /// Where it was published.
    pub topic: String,
    /// What was published.
    #[serde(flatten)]
    pub payload: Payload,
    /// 0 or 1.
    pub qos: u8,
    /// What the cloud read out of the message besides: IoT Hub's system and application properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<serde_json::Value>,
}

/// A payload as JSON can hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Payload {
    /// UTF-8.
    #[serde(rename = "payload")]
    Text(String),
    /// Anything else (RFC 4648 section 4).
    #[serde(rename = "payload_base64")]
    Base64(String),
}

impl Payload {
    /// Text if it is, base64 if not.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Base64(STANDARD.encode(bytes)), |t| Self::Text(t.to_owned()))
    }
}

/// Something that a stand-in saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, RFC 3339 with milliseconds, UTC.
    pub time: String,
    /// Which stand-in.
    pub cloud: Cloud,
    /// The same number in all events of one connection; none when it concerns no single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum What {
    /// A device was admitted.
    Connected {
        client_id: String,
        cn: String,
        peer: String,
        sni: Option<String>,
        session_present: bool,
    },
    /// A rule was broken.
    Refused {
        rule: &'static str,
        says: &'static str,
        source: &'static str,
        detail: String,
        look: String,
        client_id: Option<String>,
        peer: String,
    },
    /// A filter was granted.
    Subscribed { client_id: String, filter: String, qos: u8 },
    /// A message was accepted.
    Message {
        client_id: String,
        topic: String,
        bytes: usize,
        qos: u8,
    },
    /// A request to the cloud itself was taken.
    Request {
        client_id: String,
        topic: String,
        bytes: usize,
    },
    /// A message did not fit a subscriber's queue.
    Dropped { client_id: String, topic: String },
    /// A connection ended.
    Disconnected { client_id: String, why: String },
    /// A TCP connection is closed, whatever it was for. Bytes are those on the wire, TLS included.
    Closed {
        client_id: Option<String>,
        peer: String,
        protocol: Protocol,
        bytes_up: u64,
        bytes_down: u64,
        age_ms: u64,
        stalled: bool,
        why: Option<&'static str>,
    },
    /// An HTTP request was answered.
    Http {
        method: String,
        path: String,
        status: u16,
        subscriber: Option<String>,
        fault: Option<String>,
    },
    /// Something a person should know.
    Note { text: String },
}

impl What {
    /// A broken rule.
    pub(crate) fn refused(refusal: &Refusal, client_id: Option<&str>, peer: &str) -> Self {
        Self::Refused {
            rule: refusal.rule.id,
            says: refusal.rule.says,
            source: refusal.rule.source,
            detail: refusal.detail.clone(),
            look: refusal.look.to_string(),
            client_id: client_id.map(str::to_owned),
            peer: peer.to_owned(),
        }
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:<11} ", self.time, self.cloud)?;
        match &self.what {
            What::Connected {
                client_id,
                cn,
                peer,
                sni,
                session_present,
            } => {
                let sni = sni.as_ref().map(|s| format!(" asking for {s}")).unwrap_or_default();
                let session = if *session_present { ", session goes on" } else { "" };
                write!(
                    f,
                    "connected {client_id:?}, certificate {cn:?}, from {peer}{sni}{session}"
                )
            }
            What::Refused {
                rule,
                says,
                detail,
                look,
                client_id,
                peer,
                ..
            } => {
                let who = client_id.as_ref().map(|c| format!(" {c:?}")).unwrap_or_default();
                write!(f, "REFUSED{who} from {peer}: {detail} [{rule}: {says}] -> {look}")
            }
            What::Subscribed { client_id, filter, qos } => {
                write!(f, "subscribed {client_id:?} to {filter:?} at QoS {qos}")
            }
            What::Message {
                client_id,
                topic,
                bytes,
                qos,
            } => write!(f, "message from {client_id:?} to {topic:?}, {bytes} bytes, QoS {qos}"),
            What::Request {
                client_id,
                topic,
                bytes,
            } => write!(f, "request from {client_id:?} at {topic:?}, {bytes} bytes"),
            What::Dropped { client_id, topic } => {
                write!(
                    f,
                    "DROPPED a message for {client_id:?} from {topic:?}: its queue is full"
                )
            }
            What::Disconnected { client_id, why } => write!(f, "disconnected {client_id:?}: {why}"),
            What::Closed {
                client_id,
                peer,
                bytes_up,
                bytes_down,
                age_ms,
                stalled,
                why,
                ..
            } => {
                let who = client_id.as_ref().map(|c| format!(" {c:?}")).unwrap_or_default();
                let seconds = *age_ms as f64 / 1_000.0;
                write!(
                    f,
                    "closed{who} from {peer}: {bytes_up} bytes up, {bytes_down} down, {seconds:.1} s"
                )?;
                if *stalled {
                    f.write_str(", held still by a fault")?;
                }
                why.map_or(Ok(()), |why| write!(f, ", {why}"))
            }
            What::Http {
                method,
                path,
                status,
                subscriber,
                fault,
            } => {
                let who = subscriber.as_deref().unwrap_or("no SIM");
                let fault = fault.as_ref().map(|k| format!(" (fault {k})")).unwrap_or_default();
                write!(f, "{method} {path} -> {status} for {who}{fault}")
            }
            What::Note { text } => f.write_str(text),
        }
    }
}

#[derive(Debug)]
struct Log {
    file: File,
    size: u64,
    /// The last line was written in part (the disk was full): it is ended before the next, so that it spoils no other.
    torn: bool,
}

impl Log {
    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        let size = self.size + line.len() as u64;
        if size > FILE_MAX {
            return Err(std::io::Error::other(format!(
                "it has reached {FILE_MAX} bytes; this message is not in it: move the file away and start again"
            )));
        }
        if self.torn {
            self.write(b"\n")?;
        }
        self.write(line)
    }

    /// As `write_all`, but it knows how much was written when the disk is full.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.size += count as u64;
                    self.torn = rest.get(count - 1) != Some(&b'\n');
                    rest = rest.get(count..).unwrap_or_default();
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Where everything is written down.
#[derive(Debug)]
pub struct Journal {
    clock: Clock,
    events: broadcast::Sender<Event>,
    messages: Mutex<Kept>,
    log: Mutex<Log>,
    register: Register,
}

#[derive(Debug, Default)]
struct Kept {
    /// Each with the length of its line.
    list: VecDeque<(Message, usize)>,
    /// Messages accepted so far, those forgotten included.
    total: u64,
    /// Bytes of the lines in the list.
    bytes: usize,
}

impl Kept {
    /// `bytes` is the length of its line.
    fn push(&mut self, message: Message, bytes: usize) {
        self.list.push_back((message, bytes));
        self.total += 1;
        self.bytes += bytes;
        while self.list.len() > 1 && (self.list.len() > MESSAGES_KEPT || self.bytes > BYTES_KEPT) {
            self.bytes -= self.list.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }
}

impl Journal {
    /// Appends to `path`.
    ///
    /// # Errors
    /// From the file system.
    pub fn open(path: &Path, clock: Clock) -> std::io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            clock,
            events: broadcast::Sender::new(EVENTS_BEHIND),
            messages: Mutex::default(),
            log: Mutex::new(Log {
                file,
                size,
                torn: size > 0 && !ends_a_line(path)?,
            }),
            register: Register::default(),
        })
    }

    /// The doors and the connections that are open.
    pub fn register(&self) -> &Register {
        &self.register
    }

    /// Events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The messages still in memory, oldest first.
    pub fn messages(&self) -> Vec<Message> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.list.iter().map(|(message, _)| message.clone()).collect()
    }

    /// The messages still in memory after number `after` (the first one is number 1), with their numbers, oldest first.
    pub fn messages_after(&self, after: u64) -> Vec<(u64, Message)> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let first = messages.total - messages.list.len() as u64 + 1;
        let numbered = (first..).zip(messages.list.iter());
        numbered
            .filter(|(number, _)| *number > after)
            .map(|(number, (message, _))| (number, message.clone()))
            .collect()
    }

    /// Something happened, on the connection that this task serves if it serves one of this stand-in.
    pub fn record(&self, cloud: Cloud, what: What) {
        let visit = visit::current().filter(|v| v.cloud == cloud);
        self.record_of(cloud, visit.as_deref(), what);
    }

    /// Something happened on this connection, or on none, whatever this task serves.
    pub(crate) fn record_of(&self, cloud: Cloud, visit: Option<&Visit>, what: What) {
        if let Some(visit) = visit {
            self.register.saw(visit, &what);
        }
        let time = rfc3339_millis(self.clock.system());
        let connection = visit.map(|v| v.number);
        // Nobody listening is no error.
        let _ = self.events.send(Event {
            time,
            cloud,
            connection,
            what,
        });
    }

    /// A rule was broken.
    pub fn refused(&self, cloud: Cloud, refusal: &Refusal, client_id: Option<&str>, peer: &str) {
        self.record(cloud, What::refused(refusal, client_id, peer));
    }

    /// A message was accepted. It is in the file when this returns (a line to the page cache, no sync: cheap enough to do here).
    pub fn message(
        &self,
        cloud: Cloud,
        who: &super::policy::Session,
        topic: &str,
        payload: &[u8],
        qos: u8,
        properties: Option<serde_json::Value>,
    ) {
        let message = Message {
            time: rfc3339_millis(self.clock.system()),
            cloud,
            client_id: who.client_id.clone(),
            cn: who.cn.clone(),
            topic: topic.to_owned(),
            payload: Payload::new(payload),
            qos,
            properties,
        };
        let (bytes, written) = match serde_json::to_vec(&message) {
            Ok(mut line) => {
                line.push(b'\n');
                (line.len(), self.append(&line))
            }
            Err(e) => (payload.len(), Err(e.into())),
        };
        if let Err(problem) = written {
            let text = format!("messages.jsonl: {problem}");
            self.record(cloud, What::Note { text });
        }
        self.messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(message, bytes);
        self.record(
            cloud,
            What::Message {
                client_id: who.client_id.clone(),
                topic: topic.to_owned(),
                bytes: payload.len(),
                qos,
            },
        );
    }

    /// Adds its line to the file.
    fn append(&self, line: &[u8]) -> std::io::Result<()> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).append(line)
    }
}

/// Whether the last byte of a file that is not empty is the end of a line; it is not when a full disk or the machine stopped an earlier run.
fn ends_a_line(path: &Path) -> std::io::Result<bool> {
    let mut last = [0];
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn rfc3339_millis(time: Duration) -> String {
    i64::try_from(time.as_millis())
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| crate::clock::rfc3339(time), |t| format!("{t:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_base64() {
        assert_eq!(Payload::new(b"foob"), Payload::Text("foob".into()));
        // RFC 4648 section 4, with padding.
        assert_eq!(Payload::new(&[0xff, 0xfe]), Payload::Base64("//4=".into()));
    }

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(
            rfc3339_millis(Duration::from_millis(1_793_491_200_070)),
            "2026-11-01T00:00:00.070Z"
        );
    }

    fn hello(payload: &str) -> Message {
        Message {
            time: String::new(),
            cloud: Cloud::IotHub,
            client_id: "d".into(),
            cn: "d".into(),
            topic: "t".into(),
            payload: Payload::new(payload.as_bytes()),
            qos: 1,
            properties: None,
        }
    }

    #[test]
    fn memory_is_bounded_by_number_and_by_bytes() {
        let mut kept = Kept::default();
        for _ in 0..MESSAGES_KEPT + 1 {
            kept.push(hello("x"), 1);
        }
        assert_eq!((kept.list.len(), kept.bytes), (MESSAGES_KEPT, MESSAGES_KEPT));
        kept.push(hello("large"), BYTES_KEPT - 10);
        assert_eq!((kept.list.len(), kept.bytes), (11, BYTES_KEPT));
        // One that is larger than all there may be is kept alone.
        kept.push(hello("too large"), BYTES_KEPT + 1);
        assert_eq!((kept.list.len(), kept.bytes), (1, BYTES_KEPT + 1));
        kept.push(hello("y"), 1);
        assert_eq!(kept.list.iter().map(|(m, _)| m).collect::<Vec<_>>(), [&hello("y")]);
        assert_eq!(kept.total, MESSAGES_KEPT as u64 + 4);
    }

    #[test]
    fn a_line_that_was_cut_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("messages.jsonl");
        std::fs::write(&path, "{\"whole\": 1}\n{\"cut").unwrap();
        for _ in 0..2 {
            let journal = Journal::open(&path, Clock::new()).unwrap();
            journal.append(b"{}\n").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"whole\": 1}\n{\"cut\n{}\n{}\n");
    }
}
