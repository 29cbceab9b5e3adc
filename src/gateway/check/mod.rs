//! Is everything in place before a device calls? The doors' files, each subscriber's names, token and credential, as values that can be
//! printed or sent.
//!
//! | file | what is looked at |
//! |---|---|
//! | `doors` | `[listen.tls]`, `[api]`, `[provisioning]`: certificates, keys, tokens, authorities |
//! | | where the gateway knows its devices from: |
//! | `files` | `gateway.toml`, groups' files and a folder |
//! | `store` | a database |

mod doors;
mod files;
mod store;

use std::time::Duration;

use serde::Serialize;

use super::config::{Config, Source};
use super::group::{Group, Trust};
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
    /// What it was: a key of `gateway.toml` (`listen.tls.key`, `api.token_file`, `provisioning.ca` and so on), `provisioning.reach`, `store`, `group`, `known_by`, `upstream`, `subscribers`, `token`, `credential`, `validity`, `version`, `name`, `key_mode`, `damaged`.
    pub id: &'static str,
    /// What is so; where there is no `cure`, what to do as well.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

impl Finding {
    /// The same with what to do.
    fn cured(self, cure: impl Into<String>) -> Self {
        Self {
            cure: Some(cure.into()),
            ..self
        }
    }
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
                let cure = f.cure.as_deref().map(|c| format!("; {c}")).unwrap_or_default();
                let _ = writeln!(text, "{indent}{mark} {}: {}{cure}", f.id, f.message);
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
        cure: None,
    }
}

/// Looks at everything the configuration names. Reads files, or a database, and runs to its end on this thread. With `reach`, the hosts
/// that `[provisioning]` sends devices to are called too.
#[must_use]
pub fn check(config: &Config, clock: &Clock, reach: bool) -> Report {
    let doors = doors::check(config, clock, reach);
    let mut report = match &config.source {
        Source::Files(files) => files::check(files, clock),
        Source::Store(settings) => store::check(settings, clock),
    };
    let worst = doors.iter().map(|f| f.level).max();
    report.worst = report.worst.max(worst.unwrap_or(Level::Ok));
    report.gateway.splice(0..0, doors);
    report
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
