//! What the stand-ins saw: events for whoever listens, accepted messages in memory and in `messages.jsonl`.
//!
//! Names appear in full: the stand-ins exist to show which name did not fit which, and the identities on the bench are invented.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
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
/// Bytes of topics and payloads of the messages kept in memory; the oldest go first, the last one stays whatever its size.
pub const MESSAGES_BYTES_KEPT: usize = 64 << 20;
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

impl Message {
    /// What it takes in memory, in bytes, but for what is always short.
    fn size(&self) -> usize {
        let (Payload::Text(payload) | Payload::Base64(payload)) = &self.payload;
        self.topic.len() + payload.len()
    }
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
        write!(f, "{} {:<10} ", self.time, self.cloud)?;
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
    list: VecDeque<Message>,
    /// Messages accepted so far, those forgotten included.
    total: u64,
    /// Of what is in the list.
    bytes: usize,
}

impl Kept {
    fn push(&mut self, message: Message) {
        self.bytes += message.size();
        self.list.push_back(message);
        self.total += 1;
        while self.list.len() > MESSAGES_KEPT || (self.bytes > MESSAGES_BYTES_KEPT && self.list.len() > 1) {
            let Some(oldest) = self.list.pop_front() else { return };
            self.bytes -= oldest.size();
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
            log: Mutex::new(Log { file, size }),
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
        messages.list.iter().cloned().collect()
    }

    /// The messages still in memory after number `after` (the first one is number 1), with their numbers, oldest first.
    pub fn messages_after(&self, after: u64) -> Vec<(u64, Message)> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let first = messages.total - messages.list.len() as u64 + 1;
        let numbered = (first..).zip(messages.list.iter());
        numbered
            .filter(|(number, _)| *number > after)
            .map(|(number, message)| (number, message.clone()))
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
        if let Err(problem) = self.append(&message) {
            let text = format!("messages.jsonl: {problem}");
            self.record(cloud, What::Note { text });
        }
        {
            let mut kept = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(message);
        }
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

    fn append(&self, message: &Message) -> Result<(), String> {
        let mut line = serde_json::to_vec(message).map_err(|e| e.to_string())?;
        line.push(b'\n');
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let size = log.size + line.len() as u64;
        if size > FILE_MAX {
            return Err(format!(
                "it has reached {FILE_MAX} bytes; this message is not in it: move the file away and start again"
            ));
        }
        log.file.write_all(&line).map_err(|e| e.to_string())?;
        log.size = size;
        Ok(())
    }
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

    fn message(payload: String) -> Message {
        Message {
            time: String::new(),
            cloud: Cloud::Beam,
            client_id: "c".into(),
            cn: String::new(),
            topic: "t".into(),
            payload: Payload::Text(payload),
            qos: 0,
            properties: None,
        }
    }

    #[test]
    fn memory_has_an_end_in_messages_and_in_bytes() {
        let mut kept = Kept::default();
        for number in 0..MESSAGES_KEPT + 3 {
            kept.push(message(number.to_string()));
        }
        assert_eq!(kept.list.len(), MESSAGES_KEPT);
        assert_eq!(kept.list[0].payload, Payload::Text("3".into()));
        let quarter = "x".repeat(MESSAGES_BYTES_KEPT / 4);
        for _ in 0..5 {
            kept.push(message(quarter.clone()));
        }
        // Four quarters and their topics are more than there is room for.
        assert_eq!((kept.list.len(), kept.total), (3, MESSAGES_KEPT as u64 + 8));
        kept.push(message("x".repeat(MESSAGES_BYTES_KEPT)));
        assert_eq!(kept.list.len(), 1, "the last one stays");
        kept.push(message("small".into()));
        assert_eq!((kept.list.len(), kept.bytes), (1, 6));
    }

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(
            rfc3339_millis(Duration::from_millis(1_793_491_200_070)),
            "2026-11-01T00:00:00.070Z"
        );
    }
}
