//! Faults of the byte stream, of TLS and of certificates: their names and what they mean.
//!
//! Bytes are counted on the wire, TLS included: `up` is what came from the client, `down` what went to it.

use std::fmt;

/// Names that every stand-in can have, for people.
pub(super) const BYTE_NAMES: &str = "refuse-tcp, cut@BYTES, cut-up@BYTES, cut-down@BYTES, stall@BYTES, stall-up@BYTES, stall-down@BYTES, throttle=BYTES-PER-SECOND, stall@accept";
/// Names for doors with TLS.
pub(super) const TLS_NAMES: &str =
    "tls-alert-0 … tls-alert-255, stall@client-hello, stall@server-hello, stall@finished";
/// Names for doors with TLS.
pub(super) const CERTIFICATE_NAMES: &str = "cert-expired, cert-not-yet-valid, cert-wrong-name, cert-unknown-authority";
/// Names for doors that ask for client certificates.
pub(super) const CLIENT_CERTIFICATE_NAMES: &str = "client-certs-expired";
/// Steps of MQTT.
pub(super) const MQTT_STEPS: &str = "stall@connect, stall@subscribe, stall@publish";
/// Steps of HTTPS.
pub(super) const HTTPS_STEPS: &str = "stall@request, stall@response";

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// TCP is there, nothing was read.
    Accept,
    /// The ClientHello was read, nothing was answered.
    ClientHello,
    /// The server's first flight has begun and is not finished.
    ServerHello,
    /// Everything but the server's protected last flight was sent: TLS 1.2's Finished, TLS 1.3's flight after ServerHello.
    Finished,
    /// CONNECT was read, there is no CONNACK.
    Connect,
    /// SUBSCRIBE was read.
    Subscribe,
    /// PUBLISH was read.
    Publish,
    /// An HTTP request was read, there is no answer.
    Request,
    /// The answer's head and the first half of its body were sent.
    Response,
}

impl Step {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Accept, "accept"),
        (Self::ClientHello, "client-hello"),
        (Self::ServerHello, "server-hello"),
        (Self::Finished, "finished"),
        (Self::Connect, "connect"),
        (Self::Subscribe, "subscribe"),
        (Self::Publish, "publish"),
        (Self::Request, "request"),
        (Self::Response, "response"),
    ];

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(s, _)| *s == self).map_or("", |(_, name)| name)
    }

    fn read(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(s, _)| *s)
    }
}

/// A place in the byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A step.
    Step(Step),
    /// After this many bytes from the client.
    Up(u64),
    /// After this many bytes to the client.
    Down(u64),
    /// After this many bytes in both directions together.
    Both(u64),
}

/// What the byte stream does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireFault {
    /// The connection is reset (RST) as soon as it was accepted.
    RefuseTcp,
    /// A fatal TLS alert with this description answers the ClientHello (RFC 8446 section 6).
    Alert(u8),
    /// From this place on nothing is read and nothing is written; the connection stays open.
    Stall(Place),
    /// The connection is cut here; never at a step.
    Cut(Place),
    /// At most this many bytes a second in each direction.
    Throttle(u32),
}

impl WireFault {
    /// The step it waits for, if it does.
    #[must_use]
    pub fn step(self) -> Option<Step> {
        match self {
            Self::Stall(Place::Step(step)) | Self::Cut(Place::Step(step)) => Some(step),
            Self::Alert(_) => Some(Step::ClientHello),
            _ => None,
        }
    }

    /// Whether the bytes decide, not the protocol above them.
    #[must_use]
    pub fn is_for_the_tap(self) -> bool {
        !matches!(
            self.step(),
            Some(Step::Connect | Step::Subscribe | Step::Publish | Step::Request | Step::Response)
        ) && self != Self::RefuseTcp
    }

    /// Reads a name; `None` when it is that of something else.
    pub(super) fn read(text: &str) -> Result<Option<Self>, String> {
        if text == "refuse-tcp" {
            return Ok(Some(Self::RefuseTcp));
        }
        if let Some(code) = text.strip_prefix("tls-alert-") {
            let wrong = |_| format!("{code:?} is no alert description: write 0 to 255, for example tls-alert-40");
            return code.parse().map(|c| Some(Self::Alert(c))).map_err(wrong);
        }
        if let Some(rate) = text.strip_prefix("throttle=") {
            return match rate.parse() {
                Ok(rate) if rate > 0 => Ok(Some(Self::Throttle(rate))),
                _ => Err(format!(
                    "{rate:?} is no speed: write bytes a second, for example throttle=1000"
                )),
            };
        }
        let Some((name, place)) = text.split_once('@') else {
            return Ok(None);
        };
        let bytes = place.parse::<u64>();
        let (stalls, direction): (bool, fn(u64) -> Place) = match name {
            "stall" => (true, Place::Both),
            "stall-up" => (true, Place::Up),
            "stall-down" => (true, Place::Down),
            "cut" => (false, Place::Both),
            "cut-up" => (false, Place::Up),
            "cut-down" => (false, Place::Down),
            _ => return Ok(None),
        };
        match (bytes, Step::read(place)) {
            (Ok(n), _) if stalls => Ok(Some(Self::Stall(direction(n)))),
            (Ok(n), _) => Ok(Some(Self::Cut(direction(n)))),
            (_, Some(step)) if name == "stall" => Ok(Some(Self::Stall(Place::Step(step)))),
            _ if name == "stall" => {
                let steps: Vec<_> = Step::ALL.iter().map(|(_, name)| *name).collect();
                Err(format!(
                    "{place:?} is neither a number of bytes nor a step: write one of {}",
                    steps.join(", ")
                ))
            }
            _ => Err(format!(
                "{place:?} is no number of bytes: write for example {name}@4096"
            )),
        }
    }
}

impl fmt::Display for WireFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, place) = match self {
            Self::RefuseTcp => return f.write_str("refuse-tcp"),
            Self::Alert(code) => return write!(f, "tls-alert-{code}"),
            Self::Throttle(rate) => return write!(f, "throttle={rate}"),
            Self::Stall(place) => ("stall", place),
            Self::Cut(place) => ("cut", place),
        };
        match place {
            Place::Step(step) => write!(f, "{word}@{}", step.as_str()),
            Place::Up(n) => write!(f, "{word}-up@{n}"),
            Place::Down(n) => write!(f, "{word}-down@{n}"),
            Place::Both(n) => write!(f, "{word}@{n}"),
        }
    }
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CertificateFault {
    /// The server's has expired.
    Expired,
    /// The server's is not valid yet.
    NotYetValid,
    /// The server's is for another name.
    WrongName,
    /// The server's is from an authority that nobody knows.
    UnknownAuthority,
    /// Every client's has expired by the stand-in's reckoning.
    Clients,
}

impl CertificateFault {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Expired, "cert-expired"),
        (Self::NotYetValid, "cert-not-yet-valid"),
        (Self::WrongName, "cert-wrong-name"),
        (Self::UnknownAuthority, "cert-unknown-authority"),
        (Self::Clients, "client-certs-expired"),
    ];

    pub(super) fn read(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(f, _)| *f)
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(s, _)| s == self).map_or("", |(_, name)| name))
    }
}
