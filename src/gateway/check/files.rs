//! A gateway whose whole knowledge is in files.

use std::os::unix::fs::PermissionsExt;

use super::{Level, Report, Subject, finding, look, upstream};
use crate::clock::Clock;
use crate::gateway::book::{self, BookError, Paths};
use crate::gateway::config::{FilesConfig, Rule};
use crate::gateway::group::{Grade, Group, Names, Proof};
use crate::gateway::subscriber::{Token, TokenError};

pub(super) fn check(config: &FilesConfig, clock: &Clock) -> Report {
    let mut gateway = vec![];
    let mut groups: Vec<Group> = config.groups.clone();
    for file in &config.group_files {
        let judged = file.judge();
        gateway.extend(judged.remarks.iter().map(|r| {
            let level = match r.grade {
                Grade::Warning => Level::Warning,
                Grade::Error => Level::Error,
            };
            finding(level, "group", file.told(r))
        }));
        groups.extend(judged.group);
    }
    for group in &groups {
        gateway.push(upstream(group));
        if let Proof::Stored { id, .. } = &group.proof {
            if !id.is_individual() && config.subscribers.len() > 1 {
                gateway.push(finding(
                    Level::Warning,
                    "subscribers",
                    format!(
                        "group {}: the credential has no #{{imsi}}: upstream cannot tell the devices apart",
                        group.id
                    ),
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
    } else if let Err(BookError::Token(e @ TokenError::Twice { .. })) = book::view(config) {
        gateway.push(finding(Level::Error, "subscribers", e.to_string()));
    }
    let subscribers = config.subscribers.iter().map(|r| subject(config, &groups, r, clock));
    let subscribers: Vec<Subject> = subscribers.collect();
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

fn subject(config: &FilesConfig, groups: &[Group], rule: &Rule, clock: &Clock) -> Subject {
    let mut findings = Vec::new();
    if let Some(path) = &rule.token_file {
        findings.push(match Token::read(path) {
            Ok(_) => finding(Level::Ok, "token", path.display().to_string()),
            Err(e) => finding(Level::Error, "token", e.to_string()),
        });
    }
    let group = groups.iter().find(|g| g.id == rule.group);
    let names = match group.map(|g| g.names(&rule.subscriber)) {
        Some(Ok(names)) => names,
        Some(Err(why)) => {
            findings.push(finding(Level::Error, "name", why));
            Names::default()
        }
        None => {
            let why = format!("its group {} cannot be used, see above", rule.group);
            findings.push(finding(Level::Error, "group", why));
            Names::default()
        }
    };
    if let Some(id) = &names.credential {
        let mut paths = Paths::of(&config.folder, id);
        if let Some(Proof::Stored {
            default: Some(default), ..
        }) = group.map(|g| &g.proof)
        {
            if !paths.certificate.exists() && !paths.key.exists() {
                let message = format!("there is none of its own yet, {} is used", default.as_str());
                findings.push(finding(Level::Warning, "credential", message));
                paths = Paths::of(&config.folder, default);
            }
        }
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
