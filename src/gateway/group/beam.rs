//! The namespace `SoracomBeam`: a list of `{"key": …, "value": …}` as SORACOM's `putGroupConfigurationParameters` and
//! `soracom groups put-config --namespace SoracomBeam` take it, so that a file written for SORACOM works here as it is.
//!
//! | in the value of `mqtt://beam.soracom.io:1883` | meaning | from |
//! |---|---|---|
//! | `name` | for people | SORACOM's SDK |
//! | `enabled` | whether devices may connect; true if absent (inferred) | SDK |
//! | `destination` | `mqtt://host[:1883]` or `mqtts://host[:8883]`, without placeholders (inferred) | SDK |
//! | `addSubscriberHeader` | `/<IMSI>` is appended to published topics | console's "IMSI", mapping inferred |
//! | `replaceTopic` | `{{imsi}}`, `{{imei}}`, `{{simId}}` in topics | console's option; its key in JSON is inferred |
//! | `username`, `password` | sent upstream; `#{imsi}`, `#{imei}`, `#{simId}` | SDK |
//! | `useClientCredentials` | the device's own login goes upstream | seen in use |
//! | `useClientCert` | the device is proved by a certificate | AWS hands-on |
//! | `clientCerts.default` | `{"$credentialsId": "id-#{imsi}"}`, or `{"ca", "cert", "key"}` as PEM text | hands-on, SDK |
//! | `version` | `201912`, which is also taken when absent (the hands-on has none); older ones pass QoS 0 alone | seen in use |
//!
//! `null` counts as absent, and so does an empty user name, password or id, because a console writes such things (inferred). An unknown
//! key of this entry is a mistake. The other entry points (HTTP, TCP, UDP, web site) are named in a warning each, because one group of
//! SORACOM's may have several and this gateway has only the MQTT one. Beam's options for other protocols are warnings too; those that would
//! change what upstream gets are mistakes when they are on.
//!
//! What contradicts itself is a mistake, not a guess: a client certificate without a credential or without TLS, a fixed user name with
//! the device's own.

use zeroize::Zeroizing;

use super::{Login, Platform, Scheme, Topics, public, secret};
use crate::gateway::json::{Grade, Node, Notes, Object, named};
use crate::identity::{NameTemplate, Numbers};
use rustls_pki_types::ServerName;

/// The namespace's name in SORACOM's API.
pub const NAMESPACE: &str = "SoracomBeam";
/// The key of the MQTT entry point.
pub const MQTT: &str = "mqtt://beam.soracom.io:1883";
/// The platform version that passes everything on (SORACOM Beam documentation, "MQTT entry point").
const FULL: &str = "201912";

/// How devices are proved, as configured.
#[derive(Clone)]
pub(super) enum Proved {
    /// Not by a certificate.
    Not,
    /// By a stored credential.
    Stored(NameTemplate),
    /// By what stands in the configuration.
    Inline {
        certificate: String,
        key: Zeroizing<String>,
        authorities: Option<String>,
    },
}

/// What the MQTT entry point's value says.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) enabled: bool,
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) login: Login,
    pub(super) proved: Proved,
    pub(super) topics: Topics,
    pub(super) platform: Platform,
}

/// Reads the list; `None` when there is no MQTT entry point in it that could be read.
pub(super) fn list(top: &Node<'_, '_>) -> Option<Entry> {
    let mut entry = None;
    let mut keys = std::collections::HashSet::new();
    for item in top.list()? {
        let Some(mut pair) = item.object() else { continue };
        let key = pair.text("key");
        let value = pair.get("value");
        if key.is_none() && pair.get("key").is_none_or(|n| n.is_null()) {
            pair.mistake("has no \"key\": each item is {\"key\": …, \"value\": …}");
        }
        if value.is_none() {
            pair.mistake("has no \"value\": each item is {\"key\": …, \"value\": …}");
        }
        pair.finish();
        let (Some((key, at)), Some(value)) = (key, value) else {
            continue;
        };
        if !keys.insert(key.clone()) {
            at.mistake(format!("{:?} stands in the list twice", named(&key)));
        } else if key == MQTT {
            entry = self::entry(&value);
        } else {
            other(&key, &at);
        }
    }
    entry
}

/// Reads the namespace as it is stored: keys with values.
pub(super) fn map(top: &Node<'_, '_>) -> Option<Entry> {
    let object = top.object()?;
    let mut entry = None;
    for (key, value) in object.each() {
        if key == MQTT {
            entry = self::entry(value);
        } else {
            other(key, value);
        }
    }
    entry
}

/// Reads the text of a file: the list.
pub(super) fn file(notes: &Notes<'_>) -> Option<Entry> {
    list(&notes.top("")?)
}

/// The other entry points of Beam.
fn other(key: &str, at: &Node<'_, '_>) {
    let scheme = key.split_once("://").map(|(s, _)| s);
    if matches!(
        scheme,
        Some("http" | "https" | "tcp" | "udp" | "lora" | "sigfox" | "sms")
    ) {
        let message = format!(
            "{:?} is another entry point of Beam; this gateway has the MQTT one alone and does nothing with it",
            named(key)
        );
        at.say(Grade::Warning, message);
    } else {
        let near = crate::config::reader::near(key, std::iter::once(MQTT));
        at.mistake(format!(
            "unknown key {:?}{near}: the MQTT entry point is {MQTT:?}",
            named(key)
        ));
    }
}

/// Beam's options that do nothing for MQTT ("Header manipulation" in its documentation: only the IMSI is there for MQTT).
const WITHOUT_EFFECT: [&str; 4] = [
    "addEquipmentHeader",
    "addSimIdHeader",
    "skipStatusCode",
    "customHeaders",
];
/// Beam's options that would change what upstream gets, which this gateway has no word for.
const NOT_HERE: [&str; 4] = ["addSignature", "psk", "useAzureIoT", "azureIoTCentral"];

fn entry(value: &Node<'_, '_>) -> Option<Entry> {
    let mut o = value.object()?;
    o.text("name");
    let enabled = o.boolean("enabled", true);
    let destination = destination(&mut o, enabled);
    let topics = Topics {
        append_imsi: o.boolean("addSubscriberHeader", false),
        placeholders: o.boolean("replaceTopic", false),
    };
    let platform = platform(&mut o);
    let login = login(&mut o);
    let encrypted = destination.as_ref().is_none_or(|(s, _, _)| *s == Scheme::Mqtts);
    let proved = proved(&mut o, encrypted);
    for key in WITHOUT_EFFECT {
        if let Some(node) = o.get(key).filter(|n| !n.is_off()) {
            node.say(
                Grade::Warning,
                "has no effect at the MQTT entry point, at SORACOM and here",
            );
        }
    }
    for key in NOT_HERE {
        if let Some(node) = o.get(key).filter(|n| !n.is_off()) {
            node.mistake("this gateway has no such option: remove it, or set it to false");
        }
    }
    o.finish();
    let (scheme, host, port) = destination?;
    Some(Entry {
        enabled,
        scheme,
        host,
        port,
        login: login?,
        proved: proved?,
        topics,
        platform: platform?,
    })
}

fn destination(o: &mut Object<'_, '_>, enabled: bool) -> Option<(Scheme, String, u16)> {
    let Some((url, at)) = o.text("destination").filter(|(url, _)| !url.is_empty()) else {
        if o.some("destination").is_none_or(|n| n.is_off()) {
            let off = if enabled {
                ""
            } else {
                ", also for an entry that is not enabled"
            };
            o.mistake(format!(
                "destination is missing{off}: write for example \"mqtts://host:8883\""
            ));
        }
        return None;
    };
    url_of(&url)
        .map_err(|why| at.mistake(format!("{:?} {why}", public::url(&url))))
        .ok()
}

/// `mqtt://host`, `mqtts://host:port`; the default ports are 1883 and 8883 (IANA: `mqtt`, `secure-mqtt`).
fn url_of(url: &str) -> Result<(Scheme, String, u16), String> {
    let example = "write for example \"mqtts://host:8883\"";
    if url.contains("#{") {
        return Err("has a placeholder; the destination is the same for all devices of a group".to_owned());
    }
    let (scheme, rest) = url.split_once("://").ok_or(format!("is no URL: {example}"))?;
    let (scheme, default) = match scheme.to_ascii_lowercase().as_str() {
        "mqtts" => (Scheme::Mqtts, 8_883),
        "mqtt" => (Scheme::Mqtt, 1_883),
        _ => return Err(format!("begins with neither mqtt:// nor mqtts://: {example}")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@']) {
        return Err(format!("has more than a host and a port: {example}"));
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (
            host,
            Some(port.strip_prefix(':').ok_or(format!("is no URL: {example}"))?),
        ),
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None => default,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => port,
            _ => return Err("has no port from 1 to 65535 behind its last ':'".to_owned()),
        },
    };
    if ServerName::try_from(host).is_err() {
        return Err("names neither a host nor an IP address".to_owned());
    }
    Ok((scheme, host.to_owned(), port))
}

/// Six digits of year and month; `None` is a mistake that was told.
fn platform(o: &mut Object<'_, '_>) -> Option<Platform> {
    let Some(node) = o.some("version").filter(|n| !n.is_off()) else {
        return Some(Platform::Full);
    };
    let version = node.text()?;
    if version.len() != 6 || !version.bytes().all(|b| b.is_ascii_digit()) {
        node.mistake(format!("is no platform version: write \"{FULL}\""));
        return None;
    }
    Some(match version.as_str().cmp(FULL) {
        std::cmp::Ordering::Less => Platform::Old,
        std::cmp::Ordering::Equal => Platform::Full,
        std::cmp::Ordering::Greater => {
            node.say(
                Grade::Warning,
                format!("{version} is newer than what this gateway knows; it does what {FULL} does"),
            );
            Platform::Full
        }
    })
}

/// A template, if it stands there and can be read; the outer `None` is a mistake that was told.
#[allow(clippy::option_option)]
fn template(o: &mut Object<'_, '_>, key: &'static str) -> Option<Option<NameTemplate>> {
    let Some(node) = o.some(key) else { return Some(None) };
    let text = node.text()?;
    if text.is_empty() {
        return Some(None);
    }
    match text.parse() {
        Ok(t) => Some(Some(t)),
        Err(e) if public::text(&text) == text => {
            node.mistake(format!("{e}"));
            None
        }
        // It quotes what it stumbled over.
        Err(_) => {
            node.mistake("is no name with placeholders; known are #{imsi}, #{imei} and #{simId}");
            None
        }
    }
}

fn login(o: &mut Object<'_, '_>) -> Option<Login> {
    let username = template(o, "username");
    let password = match o.some("password") {
        None => Some(None),
        Some(node) => node.text().map(Zeroizing::new).and_then(|p| match secret::check(&p) {
            Ok(()) => Some((!p.is_empty()).then_some(p)),
            Err(why) => {
                node.mistake(why);
                None
            }
        }),
    };
    let pass = o.boolean("useClientCredentials", false);
    let (username, password) = (username?, password?);
    if pass && (username.is_some() || password.is_some()) {
        if let Some(node) = o.get("useClientCredentials") {
            node.mistake("username or password is set too, and only one login can go upstream: remove one of them");
        }
        return None;
    }
    match (username, password) {
        _ if pass => Some(Login::PassThrough),
        (Some(username), password) => Some(Login::Fixed { username, password }),
        (None, None) => Some(Login::None),
        (None, Some(_)) => {
            if let Some(node) = o.get("password") {
                node.mistake("MQTT allows a password only with a user name [MQTT-3.1.2-22]: set username too");
            }
            None
        }
    }
}

fn proved(o: &mut Object<'_, '_>, encrypted: bool) -> Option<Proved> {
    let wanted = o.boolean("useClientCert", false);
    let certs = o.some("clientCerts").filter(|n| !n.is_off());
    let read = match &certs {
        Some(node) => {
            let mut all = node.object()?;
            let inner = all.some("default").filter(|n| !n.is_off());
            let proved = inner.map_or(Some(Proved::Not), |n| certificate(&n));
            all.finish();
            proved?
        }
        None => Proved::Not,
    };
    let say = |o: &mut Object<'_, '_>, message: &str| {
        if let Some(node) = o.get("useClientCert") {
            node.mistake(message);
        }
    };
    match (wanted, read) {
        (false, Proved::Not) => Some(Proved::Not),
        (false, _) => {
            if let Some(node) = certs {
                node.say(Grade::Warning, "is not used, because useClientCert is not true");
            }
            Some(Proved::Not)
        }
        (true, _) if !encrypted => {
            say(
                o,
                "a certificate proves nothing without TLS: set destination to mqtts://, or this to false",
            );
            None
        }
        (true, Proved::Not) => {
            say(
                o,
                "there is no credential: set clientCerts to {\"default\": {\"$credentialsId\": \"myClient-#{imsi}\"}}",
            );
            None
        }
        (true, proved) => Some(proved),
    }
}

fn certificate(node: &Node<'_, '_>) -> Option<Proved> {
    let mut o = node.object()?;
    let id = template(&mut o, "$credentialsId");
    let mut pem = |key| o.text(key).filter(|(text, _)| !text.is_empty());
    let (ca, cert, key) = (pem("ca"), pem("cert"), pem("key").map(|(k, n)| (Zeroizing::new(k), n)));
    let inline = ca.is_some() || cert.is_some() || key.is_some();
    let at_id = o.get("$credentialsId");
    let proved = match (id, cert, key) {
        (None, _, _) => None,
        (Some(Some(_)), _, _) if inline => {
            node.mistake("$credentialsId and a certificate in the configuration itself: keep one of them");
            None
        }
        (Some(Some(id)), _, _) => fits_an_id(&id)
            .map_err(|why| at_id.unwrap_or(node.clone()).mistake(why))
            .ok()
            .map(|()| Proved::Stored(id)),
        (Some(None), Some((certificate, _)), Some((key, _))) => Some(Proved::Inline {
            certificate,
            key,
            authorities: ca.map(|(text, _)| text),
        }),
        (Some(None), None, None) if !inline => Some(Proved::Not),
        (Some(None), _, _) => {
            node.mistake("a certificate in the configuration itself needs both cert and key, as PEM text");
            None
        }
    };
    o.finish();
    proved
}

/// Whether the filled template can be a credential's id: tried with numbers as long as they may be.
pub(super) fn fits_an_id(template: &NameTemplate) -> Result<(), String> {
    let longest = Numbers {
        imsi: "999999999999999".parse().ok(),
        imei: "999999999999999".parse().ok(),
        iccid: "99999999999999999999".parse().ok(),
    };
    let id = template.fill_known(&longest).map_err(|e| e.to_string())?;
    public::credential(&id).map(|_| ())
}

/// The MQTT entry point's value that says what this group says.
pub(in crate::gateway) fn written(group: &super::Group) -> serde_json::Value {
    use super::Proof;
    let upstream = &group.upstream;
    let scheme = match upstream.scheme {
        Scheme::Mqtt => "mqtt",
        Scheme::Mqtts => "mqtts",
    };
    let host = if upstream.host.contains(':') {
        format!("[{}]", upstream.host)
    } else {
        upstream.host.clone()
    };
    let mut out = serde_json::json!({
        "name": group.id.as_str(),
        "destination": format!("{scheme}://{host}:{}", upstream.port),
        "enabled": group.enabled,
        "addSubscriberHeader": group.topics.append_imsi,
        "replaceTopic": group.topics.placeholders,
        "useClientCredentials": matches!(group.login, Login::PassThrough),
        "useClientCert": matches!(group.proof, Proof::Stored { .. }),
        "version": FULL,
    });
    if let Login::Fixed { username, password } = &group.login {
        out["username"] = username.source().into();
        if let Some(password) = password {
            out["password"] = password.as_str().into();
        }
    }
    if let Proof::Stored { id, .. } = &group.proof {
        out["clientCerts"] = serde_json::json!({"default": {"$credentialsId": id.source()}});
    }
    out
}

#[cfg(test)]
#[path = "beam_tests.rs"]
mod tests;
