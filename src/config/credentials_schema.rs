//! Reading the section `[credentials]`.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;

use super::{
    CredentialsConfig, DPS_HOST, DpsConfig, DpsProtocol, DpsService, Files, FleetConfig, KRYPTON_URL, KeepConfig,
    KryptonAuth, KryptonCloud, KryptonConfig, Patience, RENEW_AT, SORACOM_API_URL, is_id_scope,
};
use crate::config::reader::Section;
use crate::identity::NameTemplate;

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

/// Largest number of parameters that are sent with a request for credentials.
const PARAMETERS_MAX: usize = 32;

#[derive(Clone, Copy)]
enum SourceWord {
    None,
    Files,
    Azure,
    Aws,
    Dps,
    Fleet,
}

/// Reads the section; the other half of the answer is how they are kept.
pub(in crate::config) fn read(s: &mut Section<'_, '_>) -> (Option<CredentialsConfig>, KeepConfig) {
    s.required_text("source", "krypton-azure");
    let word = s.choice(
        "source",
        SourceWord::None,
        &[
            ("none", SourceWord::None),
            ("files", SourceWord::Files),
            ("krypton-azure", SourceWord::Azure),
            ("krypton-aws", SourceWord::Aws),
            ("dps", SourceWord::Dps),
            ("aws-fleet", SourceWord::Fleet),
        ],
    );
    let config = match word {
        SourceWord::None => return (Some(CredentialsConfig::None), KeepConfig::default()),
        SourceWord::Files => {
            let files = files(s, "/etc/onyx/myClient-#{imsi}.pem", "/etc/onyx/myClient-#{imsi}.key");
            return (files.map(CredentialsConfig::Files), KeepConfig::default());
        }
        SourceWord::Azure => krypton(s, KryptonCloud::Azure).map(CredentialsConfig::Krypton),
        SourceWord::Aws => krypton(s, KryptonCloud::Aws).map(CredentialsConfig::Krypton),
        SourceWord::Dps => dps(s).map(CredentialsConfig::Dps),
        SourceWord::Fleet => fleet(s).map(CredentialsConfig::Fleet),
    };
    (config, keep(s))
}

fn keep(s: &mut Section<'_, '_>) -> KeepConfig {
    let encrypt_with = s.text("encrypt_with");
    // A systemd credential is a file's name (systemd.exec(5), LoadCredential=).
    let is_name = |n: &String| !n.is_empty() && n.len() <= 255 && n != "." && n != ".." && !n.contains('/');
    if encrypt_with.as_ref().is_some_and(|n| !is_name(n)) {
        s.mistake(
            "encrypt_with",
            "is no name of a systemd credential: write for example \"onyx-store-key\", as in LoadCredentialEncrypted=",
        );
    }
    KeepConfig {
        renew_at: s
            .number("renew_at", 10..=95)
            .and_then(|n| u8::try_from(n).ok())
            .unwrap_or(RENEW_AT),
        encrypt_with,
    }
}

fn files(s: &mut Section<'_, '_>, certificate: &str, key: &str) -> Option<Files> {
    s.required_text("certificate", certificate);
    s.required_text("key", key);
    let (certificate, key) = (s.file_template("certificate"), s.file_template("key"));
    Some(Files {
        certificate: certificate?,
        key: key?,
    })
}

fn patience(s: &mut Section<'_, '_>) -> Patience {
    Patience {
        within: timeout(s),
        poll_every: s.duration("poll", S(2), MS(10)..=S(60)),
        polls_max: s
            .number("polls_max", 1..=1_000)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(30),
    }
}

fn timeout(s: &mut Section<'_, '_>) -> Duration {
    s.duration("timeout", S(30), MS(100)..=S(300))
}

fn parameters(s: &mut Section<'_, '_>) -> BTreeMap<String, NameTemplate> {
    let map = s.templates("parameters");
    if map.len() > PARAMETERS_MAX {
        s.mistake("parameters", format!("holds more than {PARAMETERS_MAX}"));
    }
    map
}

fn krypton(s: &mut Section<'_, '_>, cloud: KryptonCloud) -> Option<KryptonConfig> {
    let auth = s.choice(
        "auth",
        KryptonAuth::Cellular,
        &[("cellular", KryptonAuth::Cellular), ("sim", KryptonAuth::Sim)],
    );
    let default = match auth {
        KryptonAuth::Cellular => KRYPTON_URL,
        KryptonAuth::Sim => SORACOM_API_URL,
    };
    let text = s.text("url").unwrap_or_else(|| default.to_owned());
    let url = Url::parse(&text)
        .ok()
        .filter(|u| u.scheme() == "https" && u.host_str().is_some());
    if url.is_none() {
        s.mistake(
            "url",
            format!("{text:?} is not an https address: write for example {default:?}"),
        );
    }
    Some(KryptonConfig {
        cloud,
        auth,
        address: s.parsed("address"),
        ca_file: s.file("ca_file"),
        parameters: parameters(s),
        patience: patience(s),
        url: url?,
    })
}

fn dps(s: &mut Section<'_, '_>) -> Option<DpsConfig> {
    let protocol = s.choice(
        "protocol",
        DpsProtocol::Https,
        &[("https", DpsProtocol::Https), ("mqtt", DpsProtocol::Mqtt)],
    );
    let host = s.text("host").unwrap_or_else(|| DPS_HOST.to_owned());
    if rustls_pki_types::ServerName::try_from(host.as_str()).is_err() {
        s.mistake("host", "is neither a host name nor an IP address");
    }
    let id_scope = s.required_text("id_scope", "0ne00111111");
    if s.has("id_scope") && !is_id_scope(&id_scope) {
        s.mistake(
            "id_scope",
            "holds other characters than letters and digits: copy it from the overview of the provisioning service",
        );
    }
    let files = files(s, "/etc/onyx/myClient-#{imsi}.pem", "/etc/onyx/myClient-#{imsi}.key");
    Some(DpsConfig {
        service: DpsService {
            protocol,
            host,
            address: s.parsed("address"),
            id_scope,
            csr: s.boolean("csr", false),
            patience: patience(s),
        },
        ca_file: s.file("ca_file"),
        registration_id: s.parsed("registration_id"),
        files: files?,
    })
}

fn fleet(s: &mut Section<'_, '_>) -> Option<FleetConfig> {
    let template = s.required_text("template", "MyFleetTemplate");
    // templateName of CreateProvisioningTemplate (AWS IoT API reference): 1 to 36 of these; it goes into a topic.
    let is_name = |t: &str| t.len() <= 36 && t.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if !is_name(&template) {
        s.mistake(
            "template",
            "is no name of a provisioning template: 1 to 36 letters, digits, - and _",
        );
    }
    let claim = files(s, "/etc/onyx/claim.pem", "/etc/onyx/claim.key");
    let mut parameters = parameters(s);
    if !s.has("parameters") {
        parameters.extend("#{imei}".parse().ok().map(|t| ("SerialNumber".to_owned(), t)));
    }
    Some(FleetConfig {
        template,
        claim: claim?,
        parameters,
        within: timeout(s),
    })
}
