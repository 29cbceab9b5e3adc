//! The namespace `OnyxGateway`: what Beam has no word for. Written like any other namespace, a list of `{"key": …, "value": …}`; in
//! files, `[[group]]` of `gateway.toml` has the same in TOML's words ([`super::words`] reads both).
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
//! | `policy` | `{"retain": "adapt", …}`: what becomes of what upstream would punish, see [`super::policy`] | by `kind` |
//! | `rate` | `{"messages": 0, "bytes": 0, "burst": 1}`: a second, of one subscriber; 0 is no limit | none |

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::policy::{Answer, Matter, Policy};
use super::{KeepAlive, Kind, Rate, Trust, public, words};
use crate::gateway::credential::CredentialId;
use crate::gateway::json::{Node, Object};
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
    /// Answers other than the usual ones of the upstream's kind.
    pub policy: Vec<(Matter, Answer)>,
}

impl Own {
    /// What a group of `[upstream]` and `[device]` says that Beam has no word for.
    pub(in crate::gateway) fn of(group: &super::Group) -> Self {
        let upstream = &group.upstream;
        let default_credential = match &group.proof {
            super::Proof::Stored { default, .. } => default.clone(),
            _ => None,
        };
        Self {
            default_credential,
            kind: Some(upstream.kind),
            address: upstream.address.clone(),
            versions: Some(upstream.versions),
            alpn: Some(upstream.alpn.clone().unwrap_or_default()),
            trust: Some(upstream.trust.clone()),
            connect_timeout: Some(upstream.connect_timeout),
            keep_alive: group.keep_alive,
            rate: group.rate,
            policy: Matter::all()
                .into_iter()
                .map(|m| (m, group.policy.answer(m)))
                .filter(|(m, a)| *a != Policy::of(upstream.kind).answer(*m))
                .collect(),
        }
    }
}

/// The namespace that says this; authorities in a file become part of it.
///
/// # Errors
/// When that file cannot be read.
pub(in crate::gateway) fn written(own: &Own) -> Result<BTreeMap<String, Value>, String> {
    let mut out = BTreeMap::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(key.to_owned(), value);
        }
    };
    let version = |v| {
        VERSIONS
            .iter()
            .find(|(_, known)| *known == v)
            .map(|(word, _)| Value::from(*word))
    };
    let ca = match &own.trust {
        None | Some(Trust::System) => None,
        Some(Trust::Pem(pem)) => Some(pem.clone()),
        Some(Trust::File(path)) => {
            Some(std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?)
        }
    };
    put(
        "defaultCredentialsId",
        own.default_credential.as_ref().map(|id| id.as_str().into()),
    );
    put("kind", own.kind.map(|k| k.word().into()));
    put("address", own.address.as_deref().map(Value::from));
    put("tls", own.versions.and_then(version));
    put("alpn", own.alpn.as_deref().map(Value::from));
    put("ca", ca.map(Value::from));
    put("connectTimeout", own.connect_timeout.map(|d| d.as_secs().into()));
    let k = own.keep_alive;
    let differs = k != KeepAlive::default();
    put(
        "keepAlive",
        differs.then(|| json!({"min": k.min, "max": k.max, "idleAtZero": k.idle_at_zero.as_secs()})),
    );
    let r = own.rate;
    let limits = r.messages > 0 || r.bytes > 0;
    put(
        "rate",
        limits.then(|| json!({"messages": r.messages, "bytes": r.bytes, "burst": r.burst.max(1)})),
    );
    let answers = own.policy.iter().map(|(m, a)| (m.word().to_owned(), a.word().into()));
    let answers: serde_json::Map<String, Value> = answers.collect();
    put("policy", (!answers.is_empty()).then(|| answers.into()));
    Ok(out)
}

/// How long the way upstream may take when nobody says.
pub(in crate::gateway) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
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
        Err("is not HOST:PORT: write for example \"192.0.2.1:8883\"".to_owned())
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
        node.mistake(format!("is none of {}", words.join(", ")));
    }
    found
}

/// Reads the namespace as it is stored: keys with values.
pub(super) fn map(top: &Node<'_, '_>) -> Own {
    top.object().map(read).unwrap_or_default()
}

fn read(mut o: Object<'_, '_>) -> Own {
    let default_credential = o.text("defaultCredentialsId").filter(|(text, _)| !text.is_empty());
    let default_credential =
        default_credential.and_then(|(text, node)| public::credential(&text).map_err(|why| node.mistake(why)).ok());
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
        connect_timeout: words::connect_timeout(&mut o),
        keep_alive: inner(&mut o, "keepAlive", words::keep_alive),
        rate: inner(&mut o, "rate", words::rate),
        policy: inner(&mut o, "policy", words::policy),
    };
    o.finish();
    own
}

fn inner<'t, 'n, T: Default>(
    o: &mut Object<'t, 'n>,
    key: &'static str,
    read: impl FnOnce(&mut Object<'t, 'n>) -> T,
) -> T {
    let Some(mut inner) = o.some(key).and_then(|n| n.object()) else {
        return T::default();
    };
    let value = read(&mut inner);
    inner.finish();
    value
}
