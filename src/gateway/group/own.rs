//! The namespace `OnyxGateway`: what Beam has no word for. Written like any other namespace, a list of `{"key": …, "value": …}`; in
//! files, `[[group]]` of `gateway.toml` has the same in TOML's words.
//!
//! | key | value | without it |
//! |---|---|---|
//! | `defaultCredentialsId` | the credential that is used while there is none of the expanded id (Beam has this; its name in JSON is not public) | none: the device is refused |
//! | `kind` | `event-grid`, `iot-hub`, `aws-iot`, `standard`: which cloud's rules apply | by the host's domain |
//! | `address` | `HOST:PORT` to dial; the name that is checked stays that of `destination` | `destination` |
//! | `tls` | `auto`, `1.2`, `1.3` | `auto` |
//! | `alpn` | application protocol; `""` is none | `x-amzn-mqtt-ca` for AWS IoT on port 443, else none |
//! | `ca` | PEM text: private authorities of upstream; a credential's own `ca` goes before them | the system's |
//! | `connectTimeout` | seconds, 1 to 120: DNS, TCP, TLS and CONNACK together | 10 |
//! | `keepAlive` | `{"min": 5, "max": 1200, "idleAtZero": 1800}`, seconds | Beam's, as written here |
//! | `rate` | `{"messages": 0, "bytes": 0, "burst": 1}`: a second, of one subscriber; 0 is no limit | none |

use std::time::Duration;

use super::{KeepAlive, Kind, Rate, Trust};
use crate::gateway::credential::CredentialId;
use crate::gateway::json::{Node, Object, short};
use crate::tls::{self, Versions};

/// The namespace's name.
pub const NAMESPACE: &str = "OnyxGateway";

/// What the namespace says; what it does not say is `None`.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Used while the expanded credential is not there.
    pub default_credential: Option<CredentialId>,
    /// Which cloud.
    pub kind: Option<Kind>,
    /// Where to dial.
    pub address: Option<String>,
    /// TLS versions.
    pub versions: Option<Versions>,
    /// Application protocol; empty is none.
    pub alpn: Option<String>,
    /// Private authorities.
    pub trust: Option<Trust>,
    /// How long the way upstream may take.
    pub connect_timeout: Option<Duration>,
    /// Keep-alive and silence.
    pub keep_alive: KeepAlive,
    /// Limits of one subscriber.
    pub rate: Rate,
}

/// How long the way upstream may take when nobody says.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The words for kinds of upstream.
pub(in crate::gateway) const KINDS: [(&str, Kind); 4] = [
    ("event-grid", Kind::EventGrid),
    ("iot-hub", Kind::IotHub),
    ("aws-iot", Kind::AwsIot),
    ("standard", Kind::Standard),
];
/// The words for TLS versions.
pub(in crate::gateway) const VERSIONS: [(&str, Versions); 3] = [
    ("auto", Versions::Both),
    ("1.2", Versions::Only12),
    ("1.3", Versions::Only13),
];

/// Whether it is `HOST:PORT`.
///
/// # Errors
/// A sentence.
pub(in crate::gateway) fn address(text: &str) -> Result<(), String> {
    let fits = text
        .rsplit_once(':')
        .is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok_and(|p| p > 0));
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{:?} is not HOST:PORT: write for example \"192.0.2.1:8883\"",
            short(text)
        ))
    }
}

/// Whether it can be an application protocol's name; the empty one is none.
///
/// # Errors
/// A sentence.
pub(in crate::gateway) fn alpn(text: &str) -> Result<(), String> {
    if text.len() <= 255 {
        Ok(())
    } else {
        Err("a protocol name has 1 to 255 bytes (RFC 7301)".to_owned())
    }
}

fn checked(
    o: &mut Object<'_, '_>,
    key: &'static str,
    check: impl FnOnce(&str) -> Result<(), String>,
) -> Option<String> {
    let (text, node) = o.text(key)?;
    check(&text).map_err(|why| node.mistake(why)).ok().map(|()| text)
}

fn choice<T: Copy>(o: &mut Object<'_, '_>, key: &'static str, words: &[(&str, T)]) -> Option<T> {
    let (text, node) = o.text(key)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if found.is_none() {
        let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        node.mistake(format!("{:?} is none of {}", short(&text), words.join(", ")));
    }
    found
}

fn seconds(o: &mut Object<'_, '_>, key: &'static str, limits: std::ops::RangeInclusive<u32>) -> Option<Duration> {
    let n = o.some(key)?.number(limits)?;
    Some(Duration::from_secs(n.into()))
}

/// Reads the namespace as it is stored: keys with values.
pub(super) fn map(top: &Node<'_, '_>) -> Own {
    top.object().map(read).unwrap_or_default()
}

fn read(mut o: Object<'_, '_>) -> Own {
    let default_credential = o.text("defaultCredentialsId").filter(|(text, _)| !text.is_empty());
    let default_credential =
        default_credential.and_then(|(text, node)| text.parse().map_err(|why: String| node.mistake(why)).ok());
    let ca = o.text("ca").filter(|(text, _)| !text.is_empty());
    let trust = ca.and_then(|(pem, node)| match tls::roots(pem.as_bytes(), "this text") {
        Ok(_) => Some(Trust::Pem(pem)),
        Err(e) => {
            node.mistake(e.to_string());
            None
        }
    });
    let own = Own {
        default_credential,
        kind: choice(&mut o, "kind", &KINDS),
        address: checked(&mut o, "address", address),
        versions: choice(&mut o, "tls", &VERSIONS),
        alpn: checked(&mut o, "alpn", alpn),
        trust,
        connect_timeout: seconds(&mut o, "connectTimeout", 1..=120),
        keep_alive: o.some("keepAlive").and_then(|n| keep_alive(&n)).unwrap_or_default(),
        rate: o.some("rate").and_then(|n| rate(&n)).unwrap_or_default(),
    };
    o.finish();
    own
}

fn keep_alive(node: &Node<'_, '_>) -> Option<KeepAlive> {
    let mut o = node.object()?;
    let beam = KeepAlive::default();
    let mut number = |key, default: u16| {
        let n = o.some(key).and_then(|n| n.number(1..=u16::MAX.into()));
        n.and_then(|n| u16::try_from(n).ok()).unwrap_or(default)
    };
    let (min, max) = (number("min", beam.min), number("max", beam.max));
    let idle_at_zero = seconds(&mut o, "idleAtZero", 1..=86_400).unwrap_or(beam.idle_at_zero);
    if min > max {
        node.mistake(format!("min, {min} s, is longer than max, {max} s"));
    }
    o.finish();
    Some(KeepAlive { min, max, idle_at_zero })
}

fn rate(node: &Node<'_, '_>) -> Option<Rate> {
    let mut o = node.object()?;
    let mut number = |key, limits| o.some(key).and_then(|n| n.number(limits));
    let rate = Rate {
        messages: number("messages", 0..=1_000_000).unwrap_or(0),
        bytes: number("bytes", 0..=1_000_000_000).unwrap_or(0),
        burst: number("burst", 1..=3_600).unwrap_or(1),
    };
    o.finish();
    Some(rate)
}
