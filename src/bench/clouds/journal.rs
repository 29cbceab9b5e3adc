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
use super::visit::{self, Register};
use crate::clock::Clock;

/// Accepted messages kept in memory; the oldest go first.
pub const MESSAGES_KEPT: usize = 4_096;
/// Their topics and payloads together, in bytes: 4,096 messages of IoT Hub's largest size would be a gigabyte.
pub const MESSAGES_BYTES_MAX: usize = 64 << 20;
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
    /// What it takes in memory, in bytes, roughly.
    fn size(&self) -> usize {
        let (Payload::Text(payload) | Payload::Base64(payload)) = &self.payload;
        let names = self.client_id.len() + self.cn.len() + self.topic.len();
        // The properties were in the topic (IoT Hub's bag) and are no larger.
        payload.len() + names + self.properties.as_ref().map_or(0, |_| self.topic.len()) + size_of::<Self>()
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
    /// What they take in memory, in bytes, roughly.
    bytes: usize,
    /// Messages accepted so far, those forgotten included.
    total: u64,
}

impl Kept {
    /// The newest message stays whatever its size.
    fn keep(&mut self, message: Message) {
        self.bytes += message.size();
        self.list.push_back(message);
        self.total += 1;
        while self.list.len() > MESSAGES_KEPT || (self.bytes > MESSAGES_BYTES_MAX && self.list.len() > 1) {
            self.bytes -= self.list.pop_front().map_or(0, |oldest| oldest.size());
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

    /// Something happened, on the connection that this task serves if it serves one.
    pub fn record(&self, cloud: Cloud, what: What) {
        self.register.saw(&what);
        self.record_for(cloud, visit::current().map(|v| v.number), what);
    }

    /// Something happened on this connection.
    pub(crate) fn record_for(&self, cloud: Cloud, connection: Option<u64>, what: What) {
        let time = rfc3339_millis(self.clock.system());
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
        self.record(
            cloud,
            What::Refused {
                rule: refusal.rule.id,
                says: refusal.rule.says,
                source: refusal.rule.source,
                detail: refusal.detail.clone(),
                look: refusal.look.to_string(),
                client_id: client_id.map(str::to_owned),
                peer: peer.to_owned(),
            },
        );
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
            kept.keep(message);
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

    #[test]
    fn messages_in_memory_are_bounded_by_number_and_bytes() {
        let message = |size: usize| Message {
            time: String::new(),
            cloud: Cloud::IotHub,
            client_id: "c".into(),
            cn: "c".into(),
            topic: "t".into(),
            payload: Payload::Text("x".repeat(size)),
            qos: 0,
            properties: None,
        };
        let mut kept = Kept::default();
        for _ in 0..100 {
            kept.keep(message(1 << 20));
            assert!(kept.bytes <= MESSAGES_BYTES_MAX);
        }
        assert_eq!((kept.list.len(), kept.total), (63, 100));
        for _ in 0..=MESSAGES_KEPT {
            kept.keep(message(0));
        }
        assert_eq!(
            (kept.list.len(), kept.bytes),
            (MESSAGES_KEPT, MESSAGES_KEPT * message(0).size())
        );
        kept.keep(message(2 * MESSAGES_BYTES_MAX));
        assert_eq!(kept.list.len(), 1);
        kept.keep(message(0));
        assert_eq!((kept.list.len(), kept.bytes), (1, message(0).size()));
    }

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(
            rfc3339_millis(Duration::from_millis(1_793_491_200_070)),
            "2026-11-01T00:00:00.070Z"
        );
    }
}
