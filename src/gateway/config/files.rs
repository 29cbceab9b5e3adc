//! A gateway whose whole knowledge is in files.

use std::collections::HashMap;
use std::path::PathBuf;

use rustls_pki_types::ServerName;

use crate::config::Section;
use crate::gateway::group::own::{self, Own};
use crate::gateway::group::policy::Policy;
use crate::gateway::group::{
    Group, GroupFile, GroupId, Kind, Login, Platform, Proof, Scheme, Topics, Trust, Upstream, public, words,
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
    /// The group of `[upstream]` and `[device]`, if they are there.
    pub groups: Vec<Group>,
    /// The groups of `[[group]]`, which stand in files of their own.
    pub group_files: Vec<GroupFile>,
    /// The folder with `<id>.pem`, `<id>.key` and perhaps `<id>.ca.pem`.
    pub folder: PathBuf,
    /// Who may connect.
    pub subscribers: Vec<Rule>,
}

/// `certificates`: there is a door where a certificate tells who a device is.
pub(super) fn read(top: &mut Section<'_, '_>, certificates: bool) -> FilesConfig {
    let here = top.has("upstream") || top.has("device") || !top.has("group");
    let group = here.then(|| default_group(top));
    let group_files = group_files(top, here);
    let needs_folder = !group_files.is_empty() || group.as_ref().is_some_and(|g| g.upstream.scheme == Scheme::Mqtts);
    let mut folder = top.section("credentials");
    if !folder.has("folder") && needs_folder {
        folder.required_text("folder", "/var/lib/onyx-gateway/credentials");
    }
    let credentials = folder.file("folder").unwrap_or_default();
    folder.finish();
    let subscribers = subscribers(top, group.as_ref(), &group_files, certificates);
    FilesConfig {
        groups: group.into_iter().collect(),
        group_files,
        folder: credentials,
        subscribers,
    }
}

/// `[upstream]` and `[device]`: the group of those subscribers who name none.
fn default_group(top: &mut Section<'_, '_>) -> Group {
    let upstream = upstream(top.section("upstream"));
    let policy = policy(top.section("policy"), upstream.kind);
    let rate = section(top.section("rate"), words::rate);
    let keep_alive = section(top.section("keep_alive"), words::keep_alive);
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
        keep_alive,
        rate,
        platform: Platform::Full,
        policy,
    };
    device.finish();
    group
}

/// `[[group]]`: a name, a file as SORACOM's `group-config.json`, and what such a file has no word for.
fn group_files(top: &mut Section<'_, '_>, default_is_here: bool) -> Vec<GroupFile> {
    let mut list = Vec::new();
    let mut names = HashMap::new();
    for (index, mut s) in top.sections("group").into_iter().enumerate() {
        let number = index + 1;
        for (key, example) in [("name", "aws"), ("file", "group-config.json")] {
            if !s.has(key) {
                match key {
                    "name" => s.required_text("name", example),
                    _ => s.required_text("file", example),
                };
            }
        }
        let id = s.parsed::<GroupId>("name");
        let path = s.file("file");
        let own = Own {
            default_credential: s.parsed("default_credential"),
            kind: s.choice("kind", None, &own::KINDS.map(|(word, kind)| (word, Some(kind)))),
            address: address(&mut s),
            versions: s.choice("tls", None, &own::VERSIONS.map(|(word, v)| (word, Some(v)))),
            alpn: s.text("alpn"),
            trust: s.file("ca_file").map(Trust::File),
            connect_timeout: words::connect_timeout(&mut s),
            keep_alive: section(s.section("keep_alive"), words::keep_alive),
            rate: section(s.section("rate"), words::rate),
            policy: section(s.section("policy"), words::policy),
        };
        if let Some(Err(why)) = own.alpn.as_deref().map(own::alpn) {
            s.mistake("alpn", why);
        }
        if let (Some(id), Some(path)) = (id, path) {
            if default_is_here && id == GroupId::default() {
                s.mistake(
                    "name",
                    format!("{id} is the group of [upstream] and [device]: give this one another name"),
                );
            }
            if let Some(first) = names.insert(id.clone(), number) {
                s.mistake("name", format!("the same name as [[group]] number {first}"));
            }
            list.push(GroupFile { id, path, own });
        }
        s.finish();
    }
    list
}

fn address(s: &mut Section<'_, '_>) -> Option<String> {
    let address = s.text("address");
    if let Some(Err(why)) = address.as_deref().map(own::address) {
        s.mistake("address", why);
    }
    address
}

fn upstream(mut s: Section<'_, '_>) -> Upstream {
    let host = s.required_text("host", "mynamespace.japaneast-1.ts.eventgrid.azure.net");
    if s.has("host") && ServerName::try_from(host.as_str()).is_err() {
        s.mistake(
            "host",
            format!(
                "{:?} is neither a host name nor an IP address; the port goes into port",
                public::host(&host)
            ),
        );
    }
    let address = address(&mut s);
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
    let kind = s.choice("kind", Kind::of_host(&host), &own::KINDS);
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
        connect_timeout: words::connect_timeout(&mut s).unwrap_or(own::CONNECT_TIMEOUT),
        kind,
    };
    s.finish();
    upstream
}

/// `[policy]`: a line for each [`Matter`](crate::gateway::group::policy::Matter) that is to be answered in another way than is usual for
/// the upstream's kind.
fn policy(mut s: Section<'_, '_>, kind: Kind) -> Policy {
    let mut policy = Policy::of(kind);
    for (matter, answer) in words::policy(&mut s) {
        if let Err(why) = policy.set(matter, answer) {
            s.mistake(matter.word(), why);
        }
    }
    s.finish();
    policy
}

/// A section that is read by the words of all groups.
fn section<'t, 'i, T>(mut s: Section<'t, 'i>, read: impl FnOnce(&mut Section<'t, 'i>) -> T) -> T {
    let value = read(&mut s);
    s.finish();
    value
}

fn subscribers(
    top: &mut Section<'_, '_>,
    default: Option<&Group>,
    files: &[GroupFile],
    certificates: bool,
) -> Vec<Rule> {
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
            let group = group_of(&mut s, default, files);
            // The groups of files are not read here; 'check' tells what they make of this subscriber.
            if let Some(Err(why)) = default.filter(|d| d.id == group).map(|d| d.names(&subscriber)) {
                s.mistake("imsi", why);
            }
            list.push(Rule {
                subscriber,
                group,
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

/// The group a subscriber names; without a name the one of `[upstream]`, or the only one there is.
fn group_of(s: &mut Section<'_, '_>, default: Option<&Group>, files: &[GroupFile]) -> GroupId {
    let Some(id) = s.parsed::<GroupId>("group") else {
        return match (default, files) {
            (None, [only]) => only.id.clone(),
            (None, [_, _, ..]) if !s.has("group") => {
                s.mistake(
                    "group",
                    "is missing: there are several [[group]]s, which one is this subscriber in?",
                );
                GroupId::default()
            }
            _ => GroupId::default(),
        };
    };
    let known: Vec<_> = default
        .map(|d| &d.id)
        .into_iter()
        .chain(files.iter().map(|f| &f.id))
        .collect();
    if !known.contains(&&id) {
        let near = crate::config::reader::near(id.as_str(), known.iter().map(|k| k.as_str()));
        s.mistake(
            "group",
            format!("there is no group {id}{near}: add a [[group]] with that name"),
        );
    }
    id
}
