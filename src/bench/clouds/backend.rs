//! What a cloud does with what its broker took, beyond passing it on: twins and methods, shadows, provisioning. A [`Backend`] is such a
//! service without I/O and without a clock; it says what is to happen as [`Act`]s, and the [endpoint](super::endpoint) does it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::policy::{Peer, Refusal, Session};

/// The time, both ways of counting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since some moment in the past; never goes back. For time-outs, rates and expiry.
    pub monotonic: Duration,
    /// Since the Unix epoch. For time stamps and certificates.
    pub wall: Duration,
}

/// Something that is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A message for one session, which it gets if it subscribed to the topic.
    Send {
        /// Whose session.
        client_id: String,
        /// Where.
        topic: Arc<str>,
        /// What.
        payload: Bytes,
        /// 0 or 1; the subscription may lower it.
        qos: u8,
    },
    /// A message for everybody who subscribed to it.
    Publish {
        /// Where.
        topic: Arc<str>,
        /// What.
        payload: Bytes,
        /// 0 or 1.
        qos: u8,
    },
    /// A connection ends.
    End {
        /// Whose.
        client_id: String,
        /// Why, for the journal.
        why: &'static str,
    },
    /// A session is forgotten, and its connection ends.
    Forget {
        /// Whose.
        client_id: String,
        /// Why, for the journal.
        why: &'static str,
    },
    /// Something a person should know.
    Note(String),
    /// A rule was broken and the device is told so in an answer; its connection stays.
    Report {
        /// Whose request.
        client_id: String,
        /// The rule.
        refusal: Refusal,
    },
}

/// What becomes of a publication that the policy let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handling {
    /// It is telemetry: written down and passed to subscribers.
    Message,
    /// It is telemetry under another topic.
    MessageAs(Arc<str>),
    /// It was a request to the cloud itself: not written down as a message, nobody else sees it.
    Request(Vec<Act>),
}

/// A publication as it came.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Where.
    pub topic: &'a str,
    /// What.
    pub payload: &'a Bytes,
    /// 0 or 1.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
}

/// The service behind a broker. Every method may be called from several tasks at once.
pub trait Backend: Send + Sync + std::fmt::Debug {
    /// A TLS handshake is over; nothing of MQTT has been read. The acts are done whatever the verdict.
    fn greet(&self, _peer: &Peer, _now: Now) -> (Vec<Act>, Result<(), Refusal>) {
        (Vec::new(), Ok(()))
    }

    /// A device that the policy lets in; the last word.
    ///
    /// # Errors
    /// The broken rule.
    fn admit(&self, _peer: &Peer, _session: &Session, _now: Now) -> Result<(), Refusal> {
        Ok(())
    }

    /// A device has its session, CONNACK was not sent yet. `clean` is what it asked for, `present` whether an earlier session goes on.
    fn attached(&self, _session: &Session, _clean: bool, _present: bool, _now: Now) {}

    /// A device is connected, CONNACK was sent.
    fn connected(&self, _session: &Session, _now: Now) -> Vec<Act> {
        Vec::new()
    }

    /// A filter was granted with this quality of service, SUBACK was sent.
    fn granted(&self, _session: &Session, _filter: &str, _qos: u8, _now: Now) -> Vec<Act> {
        Vec::new()
    }

    /// A filter was given up.
    fn unsubscribed(&self, _session: &Session, _filter: &str, _now: Now) -> Vec<Act> {
        Vec::new()
    }

    /// What this cloud reads out of a message besides its payload, for the journal; `will` says that it is one.
    fn properties(&self, _session: &Session, _received: Received<'_>, _will: bool) -> Option<serde_json::Value> {
        None
    }

    /// A publication came.
    ///
    /// # Errors
    /// The broken rule.
    fn received(&self, _session: &Session, _received: Received<'_>, _now: Now) -> Result<Handling, Refusal> {
        Ok(Handling::Message)
    }

    /// A device acknowledged a QoS 1 message that was sent to it.
    fn acknowledged(&self, _session: &Session, _topic: &str, _now: Now) -> Vec<Act> {
        Vec::new()
    }

    /// A connection ended; `why` is what the journal says.
    fn gone(&self, _session: &Session, _why: &str, _now: Now) -> Vec<Act> {
        Vec::new()
    }
}

/// No service: a broker and nothing else (Event Grid).
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Backend for Nothing {}
