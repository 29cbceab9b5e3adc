//! A gateway whose whole knowledge is in files.

use std::collections::HashMap;
use std::path::PathBuf;

use rustls_pki_types::ServerName;

use super::SECOND;
use crate::config::Section;
use crate::gateway::group::{
    Group, GroupId, KeepAlive, Kind, Login, Platform, Proof, Rate, Scheme, Topics, Trust, Upstream,
};
use crate::gateway::store::Fingerprint;
use crate::gateway::subscriber::{Prefix, fingerprint};
use crate::identity::{NameTemplate, Subscriber};
use crate::tls::Versions;

/// A subscriber as configured.
#[derive(Debug, Clone)]
pub struct Rule {
    /// SIM, modem, card.
    pub subscriber: Subscriber,
    /// Its group.
    pub group: GroupId,
    /// Where it calls from.
    pub source: Option<Prefix>,
    /// The file with its token.
    pub token_file: Option<PathBuf>,
    /// Whether it may connect.
    pub enabled: bool,
    /// Whether only its modem may use the SIM.
    pub imei_lock: bool,
    /// The one certificate it may show at the door with TLS, if one is pinned.
    pub certificate: Option<Fingerprint>,
}

/// All that stands in the file.
#[derive(Debug, Clone)]
pub struct FilesConfig {
    /// The groups: the one of `[upstream]` and `[device]`.
    pub groups: Vec<Group>,
    /// The folder with `<id>.pem`, `<id>.key` and perhaps `<id>.ca.pem`.
    pub folder: PathBuf,
    /// Who may connect.
    pub subscribers: Vec<Rule>,
}

/// `certificates`: there is a door where a certificate tells who a device is.
pub(super) fn read(top: &mut Section<'_, '_>, certificates: bool) -> FilesConfig {
    let upstream = upstream(top.section("upstream"));
    let mut device = top.section("device");
    let username = device.parsed::<NameTemplate>("username");
    let pass_login = device.boolean("pass_login", false);
    if username.is_some() && pass_login {
        device.mistake(
            "pass_login",
            "username is set too, and only one login can go upstream: remove one of them",
        );
    }
    let encrypted = upstream.scheme == Scheme::Mqtts;
    if !device.has("credential") && encrypted {
        device.required_text("credential", "myClient-#{imsi}");
    }
    let credential = device.parsed::<NameTemplate>("credential");
    let group = Group {
        id: GroupId::default(),
        enabled: true,
        upstream,
        login: match username {
            Some(username) => Login::Fixed {
                username,
                password: None,
            },
            None if pass_login => Login::PassThrough,
            None => Login::None,
        },
        proof: match credential {
            Some(id) if encrypted => Proof::Stored {
                id,
                default: device.parsed("default_credential"),
            },
            _ => Proof::None,
        },
        topics: Topics {
            append_imsi: device.boolean("append_imsi", false),
            placeholders: device.boolean("topic_placeholders", false),
        },
        keep_alive: KeepAlive::default(),
        rate: Rate::default(),
        platform: Platform::Full,
    };
    let mut folder = top.section("credentials");
    if !folder.has("folder") && encrypted {
        folder.required_text("folder", "/var/lib/onyx-gateway/credentials");
    }
    let credentials = folder.file("folder").unwrap_or_default();
    folder.finish();
    let subscribers = subscribers(top, &group, certificates);
    device.finish();
    FilesConfig {
        groups: vec![group],
        folder: credentials,
        subscribers,
    }
}

fn upstream(mut s: Section<'_, '_>) -> Upstream {
    let host = s.required_text("host", "mynamespace.japaneast-1.ts.eventgrid.azure.net");
    if s.has("host") && ServerName::try_from(host.as_str()).is_err() {
        s.mistake(
            "host",
            format!("{host:?} is neither a host name nor an IP address; the port goes into port"),
        );
    }
    let address = s.text("address");
    if let Some(a) = &address {
        let ok = a
            .rsplit_once(':')
            .is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok_and(|p| p > 0));
        if !ok {
            s.mistake(
                "address",
                format!("{a:?} is not HOST:PORT: write for example \"192.0.2.1:8883\""),
            );
        }
    }
    let alpn = s.text("alpn");
    if alpn.as_ref().is_some_and(|a| a.is_empty() || a.len() > 255) {
        s.mistake("alpn", "a protocol name has 1 to 255 bytes (RFC 7301)");
    }
    let tls = s.choice(
        "tls",
        Some(Versions::Both),
        &[
            ("auto", Some(Versions::Both)),
            ("1.2", Some(Versions::Only12)),
            ("1.3", Some(Versions::Only13)),
            ("off", None),
        ],
    );
    let scheme = if tls.is_some() { Scheme::Mqtts } else { Scheme::Mqtt };
    let default_port = if tls.is_some() { 8_883 } else { 1_883 };
    let kind = s.choice(
        "kind",
        Kind::of_host(&host),
        &[
            ("event-grid", Kind::EventGrid),
            ("iot-hub", Kind::IotHub),
            ("aws-iot", Kind::AwsIot),
            ("standard", Kind::Standard),
        ],
    );
    let upstream = Upstream {
        scheme,
        host,
        port: s
            .number("port", 1..=65_535)
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(default_port),
        address,
        trust: s.file("ca_file").map_or(Trust::System, Trust::File),
        versions: tls.unwrap_or_default(),
        alpn,
        connect_timeout: s.duration("connect_timeout", 10 * SECOND, SECOND..=120 * SECOND),
        kind,
    };
    s.finish();
    upstream
}

fn subscribers(top: &mut Section<'_, '_>, group: &Group, certificates: bool) -> Vec<Rule> {
    let mut list = Vec::new();
    let mut imsis = HashMap::new();
    let mut sources = HashMap::new();
    let mut pins = HashMap::new();
    for (index, mut s) in top.sections("subscriber").into_iter().enumerate() {
        let number = index + 1;
        if !s.has("imsi") {
            s.required_text("imsi", "295012345678901");
        }
        let imsi: Option<crate::identity::Imsi> = s.parsed("imsi");
        let rule = (
            s.parsed("imei"),
            s.parsed("iccid"),
            s.parsed::<Prefix>("source"),
            s.file("token_file"),
        );
        let (imei, iccid, source, token_file) = rule;
        let (enabled, imei_lock) = (s.boolean("enabled", true), s.boolean("imei_lock", false));
        let certificate = s.text("certificate").and_then(|text| {
            let read = fingerprint(&text);
            read.map_err(|why| s.mistake("certificate", why)).ok()
        });
        if let Some(pinned) = certificate {
            if !certificates {
                s.mistake("certificate", "no door asks for certificates: set listen.tls.client_ca");
            }
            if let Some(first) = pins.insert(pinned, number) {
                s.mistake(
                    "certificate",
                    format!("the same certificate as [[subscriber]] number {first}"),
                );
            }
        }
        if imei_lock && !s.has("imei") {
            s.mistake("imei_lock", "which modem? write imei = \"123456789011111\" too");
        }
        // With a door for certificates, a subscriber may be known by its IMSI in one.
        let known = certificates || ["source", "token_file", "certificate"].iter().any(|key| s.has(key));
        if !known {
            s.mistake(
                "source",
                "how is this subscriber known? write source = \"10.8.0.2\" or token_file = \"tokens/device-1\"",
            );
        }
        if let (Some(p), None, None) = (source, &token_file, certificate) {
            if let Some(first) = sources.insert(p, number) {
                s.mistake(
                    "source",
                    format!("{p} is also the source of [[subscriber]] number {first}: give one of them a token_file"),
                );
            }
        }
        if let Some(imsi) = imsi {
            if let Some(first) = imsis.insert(imsi.clone(), number) {
                s.mistake("imsi", format!("the same IMSI as [[subscriber]] number {first}"));
            }
            let subscriber = Subscriber { imsi, imei, iccid };
            if let Err(why) = group.names(&subscriber) {
                s.mistake("imsi", why);
            }
            list.push(Rule {
                subscriber,
                group: group.id.clone(),
                source,
                token_file,
                enabled,
                imei_lock,
                certificate,
            });
        }
        s.finish();
    }
    list
}
