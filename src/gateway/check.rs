//! Is everything in place before a device calls? Each subscriber's names, token and credential, as values that can be printed or sent.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde::Serialize;

use super::book::{self, Paths};
use super::config::{Config, FilesConfig, Rule, Source};
use super::group::{Group, Proof, Trust};
use super::subscriber::{Token, TokenError};
use super::upstream::tickets;
use crate::clock::{Clock, rfc3339};
use crate::tls::Identity;

/// A certificate with less than this left is worth a warning.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(30 * 86_400);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, or may work; look at it.
    Warning,
    /// This device cannot get through.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// What it was: `upstream`, `subscribers`, `token`, `credential`, `validity`, `version`, `name`, `key_mode`.
    pub id: &'static str,
    /// What is so, and what to do.
    pub message: String,
}

/// A subscriber and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// The IMSI in full: this is for the operator's eyes, not for a log.
    pub imsi: String,
    /// The user name upstream will see.
    pub username: Option<String>,
    /// The credential's id.
    pub credential: Option<String>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What concerns all devices.
    pub gateway: Vec<Finding>,
    /// One entry for each subscriber.
    pub subscribers: Vec<Subject>,
    /// The worst level.
    pub worst: Level,
}

impl Report {
    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let put = |indent: &str, list: &[Finding]| {
            let mut text = String::new();
            for f in list {
                let mark = match f.level {
                    Level::Ok => "ok     ",
                    Level::Warning => "WARNING",
                    Level::Error => "ERROR  ",
                };
                let _ = writeln!(text, "{indent}{mark} {}: {}", f.id, f.message);
            }
            text
        };
        out.push_str(&put("", &self.gateway));
        for s in &self.subscribers {
            let _ = writeln!(out, "subscriber {}", s.imsi);
            out.push_str(&put("  ", &s.findings));
        }
        let count = |level| {
            let all = self
                .gateway
                .iter()
                .chain(self.subscribers.iter().flat_map(|s| &s.findings));
            all.filter(|f| f.level == level).count()
        };
        let _ = writeln!(
            out,
            "{} errors, {} warnings",
            count(Level::Error),
            count(Level::Warning)
        );
        out
    }
}

fn finding(level: Level, id: &'static str, message: impl Into<String>) -> Finding {
    Finding {
        level,
        id,
        message: message.into(),
    }
}

/// Looks at everything the configuration names. Reads files, and nothing else.
#[must_use]
pub fn check(config: &Config, clock: &Clock) -> Report {
    match &config.source {
        Source::Files(files) => check_files(files, clock),
        Source::Store(_) => Report {
            gateway: vec![],
            subscribers: vec![],
            worst: Level::Ok,
        },
    }
}

fn check_files(config: &FilesConfig, clock: &Clock) -> Report {
    let mut gateway = vec![];
    for group in &config.groups {
        gateway.push(upstream(group));
        if let Proof::Stored { id, .. } = &group.proof {
            if !id.is_individual() && config.subscribers.len() > 1 {
                gateway.push(finding(
                    Level::Warning,
                    "subscribers",
                    "device.credential has no #{imsi}: upstream cannot tell the devices apart",
                ));
            }
        }
    }
    if config.subscribers.is_empty() {
        gateway.push(finding(
            Level::Error,
            "subscribers",
            "there are none: every device would be refused; add a [[subscriber]]",
        ));
    } else if let Err(e @ TokenError::Twice { .. }) = book::view(config) {
        gateway.push(finding(Level::Error, "subscribers", e.to_string()));
    }
    let subscribers: Vec<Subject> = config.subscribers.iter().map(|r| subject(config, r, clock)).collect();
    let levels = gateway
        .iter()
        .chain(subscribers.iter().flat_map(|s| &s.findings))
        .map(|f| f.level);
    let worst = levels.max().unwrap_or(Level::Ok);
    Report {
        gateway,
        subscribers,
        worst,
    }
}

fn upstream(group: &Group) -> Finding {
    let host = &group.upstream.host;
    match tickets::roots(&group.upstream.trust) {
        Ok(_) => {
            let trust = match &group.upstream.trust {
                Trust::System => "the system's authorities".to_owned(),
                Trust::File(path) => path.display().to_string(),
                Trust::Pem(_) => "authorities of its own".to_owned(),
            };
            finding(Level::Ok, "upstream", format!("{host} trusted by {trust}"))
        }
        Err(e) => finding(Level::Error, "upstream", e),
    }
}

fn subject(config: &FilesConfig, rule: &Rule, clock: &Clock) -> Subject {
    let mut findings = Vec::new();
    if let Some(path) = &rule.token_file {
        findings.push(match Token::read(path) {
            Ok(_) => finding(Level::Ok, "token", path.display().to_string()),
            Err(e) => finding(Level::Error, "token", e.to_string()),
        });
    }
    let group = config.groups.iter().find(|g| g.id == rule.group);
    let names = match group.map(|g| g.names(&rule.subscriber)) {
        Some(Ok(names)) => names,
        Some(Err(why)) => {
            findings.push(finding(Level::Error, "name", why));
            super::group::Names::default()
        }
        None => {
            let why = format!("there is no group {}", rule.group);
            findings.push(finding(Level::Error, "name", why));
            super::group::Names::default()
        }
    };
    if let Some(id) = &names.credential {
        let paths = Paths::of(&config.folder, id);
        match paths.load() {
            Ok((identity, roots)) => {
                let ca = if roots.is_some() {
                    ", with its own authorities"
                } else {
                    ""
                };
                findings.push(finding(
                    Level::Ok,
                    "credential",
                    format!("{} and its key fit each other{ca}", paths.certificate.display()),
                ));
                look(&identity, names.username.as_deref(), clock, &mut findings);
            }
            Err(e) => findings.push(finding(Level::Error, "credential", e.to_string())),
        }
        if let Ok(meta) = std::fs::metadata(&paths.key) {
            let mode = meta.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                let path = paths.key.display();
                findings.push(finding(
                    Level::Warning,
                    "key_mode",
                    format!("{path} may be read by others (mode {mode:03o}): run 'chmod 600 {path}'"),
                ));
            }
        }
    }
    Subject {
        imsi: rule.subscriber.imsi.to_string(),
        username: names.username,
        credential: names.credential.map(|c| c.as_str().to_owned()),
        findings,
    }
}

fn look(identity: &Identity, username: Option<&str>, clock: &Clock, findings: &mut Vec<Finding>) {
    let leaf = &identity.leaf;
    let until = rfc3339(leaf.not_after);
    findings.push(match clock.now().map(|(now, _)| now) {
        None => finding(
            Level::Warning,
            "validity",
            "this machine's clock is not plausible, so expiry cannot be judged: set it",
        ),
        Some(now) if now > leaf.not_after => finding(
            Level::Error,
            "validity",
            format!("the certificate expired at {until}: issue a new one"),
        ),
        Some(now) if now < leaf.not_before => finding(
            Level::Error,
            "validity",
            format!(
                "the certificate is valid from {} only: is this machine's clock right?",
                rfc3339(leaf.not_before)
            ),
        ),
        Some(now) if leaf.not_after - now < EXPIRY_WARNING => {
            let days = (leaf.not_after - now).as_secs() / 86_400;
            finding(
                Level::Warning,
                "validity",
                format!("the certificate expires in {days} days, at {until}: issue a new one"),
            )
        }
        Some(_) => finding(Level::Ok, "validity", format!("until {until}")),
    });
    if leaf.is_v1 {
        findings.push(finding(
            Level::Warning,
            "version",
            "this is an X.509 version 1 certificate, without the extensions some servers ask for: sign it again with \
             'openssl x509 -req -extfile FILE', FILE holding 'extendedKeyUsage = clientAuth'",
        ));
    }
    if let Some(username) = username {
        findings.push(match &leaf.common_name {
            Some(cn) if cn == username => finding(Level::Ok, "name", format!("user name and common name are both {cn:?}")),
            Some(cn) => finding(
                Level::Warning,
                "name",
                format!("the certificate says CN={cn:?}, the user name will be {username:?}: Event Grid's \"Subject Matches Authentication Name\" refuses that"),
            ),
            None => finding(Level::Warning, "name", "the certificate has no single common name to compare with the user name"),
        });
    }
}
