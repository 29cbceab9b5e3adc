//! What of a group's configuration may be shown. A configuration holds passwords, private keys and whatever else somebody put there, and
//! it is shown in answers, exports, remarks and logs: so what may be shown is named here, by key and type, and everything else is
//! [`MASK`]ed. A key that nobody has thought of is a secret.
//!
//! | value | shown |
//! |---|---|
//! | true, false, null, an empty text | always: they hold nothing |
//! | of a known key, and of its type ([`Shown`]) | as it stands |
//! | of a known key, and of another type | masked: it is not what it should be |
//! | of an unknown key or namespace | masked as a whole, with all that is in it |
//! | a URL | its scheme, host and port; login, path, query and fragment are masked |
//! | PEM text, of a certificate too | masked |
//!
//! Names of keys are shown, unless they look like a URL (Beam's entry points do: as a URL then), a login or PEM text.

use rustls_pki_types::ServerName;
use serde_json::{Map, Value};

use super::policy::{Answer, Matter};
use super::{beam, own};
use crate::gateway::credential::CredentialId;
use crate::gateway::json::short;

/// What stands for a secret.
pub const MASK: &str = "********";

/// Longest name of a key that is shown, in characters.
const KEY_MAX: usize = 64;
/// Most digits of a version.
const DIGITS_MAX: usize = 6;
/// Schemes that a configuration may name; another word there may be anything.
const SCHEMES: [&str; 8] = ["mqtt", "mqtts", "http", "https", "tcp", "tcps", "udp", "lora"];

/// The type by which a public key's value is known to hold no secret.
#[derive(Debug, Clone, Copy)]
enum Shown {
    /// True or false.
    Flag,
    /// A number.
    Number,
    /// A name that upstream or people read: no URL, no login, no PEM text.
    Text,
    /// A few digits.
    Digits,
    /// One of a few words.
    Word(fn(&str) -> bool),
    /// A URL.
    Url,
    /// `HOST:PORT`.
    Place,
    /// An object with these keys.
    Keys(&'static [(&'static str, Shown)]),
    /// `policy`.
    Policy,
}

/// The value of any of Beam's entry points.
const ENTRY: &[(&str, Shown)] = &[
    ("name", Shown::Text),
    ("enabled", Shown::Flag),
    ("destination", Shown::Url),
    ("username", Shown::Text),
    ("version", Shown::Digits),
    ("addSubscriberHeader", Shown::Flag),
    ("addEquipmentHeader", Shown::Flag),
    ("addSimIdHeader", Shown::Flag),
    ("addSignature", Shown::Flag),
    ("replaceTopic", Shown::Flag),
    ("skipStatusCode", Shown::Flag),
    ("useAzureIoT", Shown::Flag),
    ("useClientCert", Shown::Flag),
    ("useClientCredentials", Shown::Flag),
    ("clientCerts", Shown::Keys(&[("default", Shown::Keys(STORED))])),
    ("psk", Shown::Keys(STORED)),
];

/// The name of a credential that is kept elsewhere.
const STORED: &[(&str, Shown)] = &[("$credentialsId", Shown::Text)];

/// The keys of `OnyxGateway`.
const OWN: &[(&str, Shown)] = &[
    ("defaultCredentialsId", Shown::Text),
    ("kind", Shown::Word(|w| own::KINDS.iter().any(|(known, _)| *known == w))),
    ("address", Shown::Place),
    (
        "tls",
        Shown::Word(|w| own::VERSIONS.iter().any(|(known, _)| *known == w)),
    ),
    ("alpn", Shown::Text),
    ("connectTimeout", Shown::Number),
    (
        "keepAlive",
        Shown::Keys(&[
            ("min", Shown::Number),
            ("max", Shown::Number),
            ("idleAtZero", Shown::Number),
        ]),
    ),
    (
        "rate",
        Shown::Keys(&[
            ("messages", Shown::Number),
            ("bytes", Shown::Number),
            ("burst", Shown::Number),
        ]),
    ),
    ("policy", Shown::Policy),
];

/// A namespace's keys and values as they may be shown.
#[must_use]
pub fn namespace<'v>(name: &str, keys: impl Iterator<Item = (&'v String, &'v Value)>) -> Value {
    let known = |name_of_key: &str| match name {
        beam::NAMESPACE => Some(Shown::Keys(ENTRY)),
        own::NAMESPACE => find(OWN, name_of_key),
        _ => None,
    };
    object(keys, known)
}

fn find(keys: &[(&str, Shown)], name: &str) -> Option<Shown> {
    keys.iter().find(|(known, _)| *known == name).map(|(_, shown)| *shown)
}

fn object<'v>(keys: impl Iterator<Item = (&'v String, &'v Value)>, known: impl Fn(&str) -> Option<Shown>) -> Value {
    let mut out = Map::new();
    for (name, v) in keys {
        let mut shown = key(name);
        // Two that differ only in what is masked are still two.
        let same = (2..).map(|n| format!("{} ({n})", key(name)));
        for other in same {
            if !out.contains_key(&shown) {
                break;
            }
            shown = other;
        }
        out.insert(shown, value(known(name), v));
    }
    Value::Object(out)
}

fn value(shown: Option<Shown>, v: &Value) -> Value {
    match (shown, v) {
        (_, Value::Null | Value::Bool(_)) => v.clone(),
        (_, Value::String(text)) if text.is_empty() => v.clone(),
        (Some(Shown::Number), Value::Number(_)) => v.clone(),
        (Some(Shown::Text), Value::String(t)) => text(t).into(),
        (Some(Shown::Url), Value::String(t)) => url(t).into(),
        (Some(Shown::Digits), Value::String(t)) if t.len() <= DIGITS_MAX && t.bytes().all(|b| b.is_ascii_digit()) => {
            v.clone()
        }
        (Some(Shown::Word(fits)), Value::String(t)) if fits(t) => v.clone(),
        (Some(Shown::Place), Value::String(t)) if is_place(t) => v.clone(),
        (Some(Shown::Keys(keys)), Value::Object(map)) => object(map.iter(), |name| find(keys, name)),
        (Some(Shown::Policy), Value::Object(map)) => {
            let answer = Shown::Word(|w| w.parse::<Answer>().is_ok());
            object(map.iter(), |name| name.parse::<Matter>().is_ok().then_some(answer))
        }
        _ => MASK.into(),
    }
}

/// A text that is public by its key, unless it holds what no public text holds.
#[must_use]
pub fn text(text: &str) -> String {
    if text.contains("-----") || text.contains("PRIVATE KEY") {
        return MASK.to_owned();
    }
    if text.contains("://") {
        return url(text);
    }
    // A login in front of a host, without a scheme.
    match text.rsplit_once('@') {
        Some((login, _)) if login.contains(':') => MASK.to_owned(),
        _ => text.to_owned(),
    }
}

/// A text in which a host or `HOST:PORT` was expected and something else may stand.
#[must_use]
pub fn host(text: &str) -> String {
    if text.contains("://") {
        url(text)
    } else if text.contains(['@', '/', '?', '#']) || text.contains("-----") {
        MASK.to_owned()
    } else {
        short(text)
    }
}

/// A text as a credential's id.
///
/// # Errors
/// A sentence, which quotes the text when it is public.
pub fn credential(id: &str) -> Result<CredentialId, String> {
    id.parse().map_err(|why: String| {
        if text(id) == id {
            why
        } else {
            "a URL, a login or PEM text is no credential's id".to_owned()
        }
    })
}

/// The name of a key.
#[must_use]
pub fn key(name: &str) -> String {
    if name.contains("://") {
        return url(name);
    }
    if name.contains('@') || name.contains("-----") || name.chars().count() > KEY_MAX {
        return MASK.to_owned();
    }
    name.to_owned()
}

/// A URL's scheme, host and port; the rest is masked. Where it cannot be told which part is which, all behind the scheme is.
#[must_use]
pub fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return MASK.to_owned();
    };
    let scheme = scheme.to_ascii_lowercase();
    if !SCHEMES.contains(&scheme.as_str()) {
        return MASK.to_owned();
    }
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (login, place) = match authority.rsplit_once('@') {
        Some((_, place)) => (true, place),
        None => (false, authority),
    };
    // An '@' further back may end a password that has a '/' in it.
    if tail.contains('@') || !(is_host(place) || is_place(place)) {
        return format!("{scheme}://{MASK}");
    }
    let login = if login { format!("{MASK}@") } else { String::new() };
    let tail = match tail {
        "" | "/" => tail.to_owned(),
        _ => format!("/{MASK}"),
    };
    format!("{scheme}://{login}{place}{tail}")
}

fn is_place(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        is_host(host) && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

fn is_host(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    ServerName::try_from(inner.unwrap_or(text)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::gateway::group::{GroupFile, judge};
    use crate::gateway::store::GroupRecord;

    const SECRET: &str = "hunter2";

    fn shown(name: &str, value: &Value) -> Value {
        let keys: BTreeMap<String, Value> = serde_json::from_value(value.clone()).unwrap();
        namespace(name, keys.iter())
    }

    #[test]
    fn what_is_public_is_shown_as_it_stands() {
        let entry = json!({
            "name": "AWS IoT", "enabled": true, "destination": "mqtts://h.example:8883", "username": "myClient-#{imsi}",
            "version": "201912", "addSubscriberHeader": false, "useClientCert": true, "replaceTopic": false, "password": "",
            "clientCerts": {"default": {"$credentialsId": "c-#{imsi}"}}, "psk": null,
        });
        let whole = json!({"mqtt://beam.soracom.io:1883": entry, "http://beam.soracom.io:8888/": {"enabled": false}});
        assert_eq!(shown("SoracomBeam", &whole), whole);
        let own = json!({
            "defaultCredentialsId": "first", "kind": "aws-iot", "address": "192.0.2.1:8883", "tls": "1.2", "alpn": "x-amzn-mqtt-ca",
            "connectTimeout": 10, "keepAlive": {"min": 5, "max": 1200, "idleAtZero": 1800},
            "rate": {"messages": 1, "bytes": 2, "burst": 3}, "policy": {"retain": "adapt"},
        });
        assert_eq!(shown("OnyxGateway", &own), own);
    }

    #[test]
    fn urls_show_scheme_host_and_port_alone() {
        for (text, want) in [
            ("mqtts://h.example:8883", "mqtts://h.example:8883"),
            ("MQTTS://h.example/", "mqtts://h.example/"),
            (
                "https://[2001:db8::1]:443/hunter2",
                "https://[2001:db8::1]:443/********",
            ),
            ("mqtts://hunter2@h.example", "mqtts://********@h.example"),
            ("mqtts://u:hunter2@h.example:8883", "mqtts://********@h.example:8883"),
            ("mqtts://u:hunter2@x@h.example", "mqtts://********@h.example"),
            ("mqtts://u:hunt/er2@h.example", "mqtts://********"),
            ("mqtts://u:hunt#er2@h.example", "mqtts://********"),
            ("https://h.example?token=hunter2", "https://h.example/********"),
            ("https://h.example/a?b=c@hunter2", "https://********"),
            ("https://h.example#hunter2", "https://h.example/********"),
            ("https://h.example\\hunter2", "https://h.example/********"),
            ("https://h.example:hunter2", "https://********"),
            ("hunter2://h.example", "********"),
            ("u:hunter2@h.example", "********"),
        ] {
            assert_eq!(url(text), want, "{text}");
        }
        assert_eq!(text("ops@h.example"), "ops@h.example");
        assert_eq!(text("u:hunter2@h.example"), MASK);
        assert_eq!(host("u:hunter2@h.example"), MASK);
        assert_eq!(host("h.example:8883"), "h.example:8883");
    }

    /// The keys whose text is public whatever it is.
    const TEXTS: [&str; 5] = ["name", "username", "$credentialsId", "defaultCredentialsId", "alpn"];

    /// A secret under every key there is and some there are not, alone and within objects and lists.
    fn everywhere() -> Vec<(String, Value)> {
        let mut names: Vec<&str> = ENTRY.iter().chain(OWN).map(|(name, _)| *name).collect();
        names.extend([
            "password",
            "ca",
            "cert",
            "key",
            "default",
            "customHeaders",
            "azureIoTCentral",
        ]);
        names.extend([
            "min",
            "messages",
            "retain",
            "apiToken",
            "Authorization",
            "webhook",
            "x y",
            "pin",
        ]);
        names.retain(|name| !TEXTS.contains(name));
        let values = [
            json!(SECRET),
            json!([SECRET]),
            json!({"value": SECRET}),
            json!({"default": {"key": SECRET, "cert": SECRET, "ca": SECRET}}),
            json!({"default": SECRET}),
            json!({"retain": SECRET, "min": SECRET, "messages": SECRET}),
            json!(format!("mqtts://u:{SECRET}@h.example")),
            json!(format!("mqtts://h.example/{SECRET}?a={SECRET}#{SECRET}")),
            json!(format!(
                "-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"
            )),
        ];
        let mut out = Vec::new();
        for name in names {
            out.extend(values.iter().map(|v| (name.to_owned(), v.clone())));
        }
        // In the public texts, a URL's login and a key are still secrets.
        for name in TEXTS {
            out.extend(values.iter().skip(6).map(|v| (name.to_owned(), v.clone())));
        }
        out.push((format!("mqtt://u:{SECRET}@beam.soracom.io:1883"), json!({})));
        out.push((format!("http://beam.soracom.io:8888/{SECRET}"), json!({})));
        out
    }

    #[test]
    fn a_secret_is_nowhere_to_be_seen_whatever_its_key() {
        let good = json!({"destination": "mqtts://h.example"});
        for (name, v) in everywhere() {
            let mut entry = good.clone();
            entry[&name] = v.clone();
            let record = |namespace: &str, keys: Value| GroupRecord {
                id: "g".parse().unwrap(),
                name: "g".into(),
                configuration: [(namespace.to_owned(), serde_json::from_value(keys).unwrap())].into(),
                created: std::time::Duration::ZERO,
                updated: std::time::Duration::ZERO,
            };
            for record in [
                record("SoracomBeam", json!({"mqtt://beam.soracom.io:1883": entry})),
                record("SoracomBeam", json!({"http://beam.soracom.io:8888": entry})),
                record("SoracomBeam", json!({&name: v})),
                record("OnyxGateway", json!({&name: v})),
                record("SoracomKrypton", json!({&name: v})),
                record("SoracomAir", json!({&name: v})),
            ] {
                let answer = crate::gateway::admin::groups::shown(&record).to_string();
                assert!(!answer.contains(SECRET), "{name} {v}: {answer}");
                let remarks = judge(&record).remarks;
                assert!(!format!("{remarks:?}").contains(SECRET), "{name} {v}: {remarks:?}");
                assert!(!format!("{record:?}").contains(SECRET));
            }
            let file = GroupFile {
                id: "g".parse().unwrap(),
                path: "g.json".into(),
                own: own::Own::default(),
            };
            for list in [
                json!([{"key": "mqtt://beam.soracom.io:1883", "value": entry}]),
                json!([{"key": &name, "value": v}]),
                json!([{"key": &name, "value": v}, {"key": &name, "value": v}]),
                json!([{&name: v}]),
            ] {
                let remarks = file.judge_text(&list.to_string()).remarks;
                assert!(!format!("{remarks:?}").contains(SECRET), "{list}: {remarks:?}");
            }
        }
    }

    proptest! {
        /// Whatever stands before, between and behind: a login is never shown.
        #[test]
        fn no_login_is_ever_shown(a in "[ -~]{0,6}", b in "[ -~]{0,6}", c in "[ -~]{0,6}") {
            let login = format!("mqtts://{a}hunter2{b}@{c}");
            prop_assert!(!url(&login).contains(SECRET), "{}", url(&login));
            prop_assert!(!text(&login).contains(SECRET) && !host(&login).contains(SECRET) && !key(&login).contains(SECRET));
        }
    }
}
