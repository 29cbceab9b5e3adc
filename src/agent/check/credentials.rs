//! The credentials' part of `check`: the operator's files, and whom the services' answers are to be trusted by.
//!
//! Paths with placeholders are looked up for every SIM that has files: which one will be in the dongle is known to nobody here.

use std::path::Path;
use std::time::Duration;

use super::places::{Place, find};
use super::{Check, Verdict, authorities, check, secret};
use crate::agent::ladder::Rung;
use crate::clock::{Clock, rfc3339};
use crate::config::agent::{AgentConfig, CredentialsConfig, DpsConfig, Files};
use crate::identity::{NameTemplate, Numbers, redact_digits};
use crate::provision::operator::{FilesError, Proof, Remark, proves, read_pair, remarks};
use crate::tls::Identity;

const FILES: &str = "credentials.files";
/// Up to so many good ones are listed; more are counted.
const LISTED_MAX: usize = 8;

fn say(verdict: Verdict, found: impl Into<String>, cure: impl Into<String>) -> Check {
    check(Rung::Credentials, FILES, verdict, found, cure)
}

fn bad(e: &FilesError) -> Check {
    say(Verdict::Bad, e.what(), e.cure())
}

fn note(remark: Remark) -> Check {
    say(Verdict::Note, remark.found, remark.cure)
}

/// All checks of `[credentials]`.
pub(super) fn look(config: &AgentConfig, clock: &Clock) -> Vec<Check> {
    let trust = |path: &Path| authorities(Rung::Credentials, "credentials.ca_file", path, clock);
    match &config.credentials {
        CredentialsConfig::None => Vec::new(),
        CredentialsConfig::Krypton(k) => k.ca_file.iter().map(|p| trust(p)).collect(),
        CredentialsConfig::Dps(dps) => {
            let mut all: Vec<_> = dps.ca_file.iter().map(|p| trust(p)).collect();
            all.extend(pairs(&dps.files, clock, &Name::Registration(dps)));
            all
        }
        CredentialsConfig::Fleet(fleet) => pairs(&fleet.claim, clock, &Name::Free),
        CredentialsConfig::Files(files) => pairs(files, clock, &Name::Broker(config)),
    }
}

/// Which name the certificate has to prove.
enum Name<'a> {
    /// That of the broker, for this SIM.
    Broker(&'a AgentConfig),
    /// DPS's registration id.
    Registration(&'a DpsConfig),
    /// Any: a claim certificate is the whole fleet's.
    Free,
}

impl Name<'_> {
    fn judge(&self, identity: &Identity, of: &Numbers) -> Result<Option<Remark>, FilesError> {
        let leaf = &identity.leaf;
        // Without the SIM the template still says which names there can be: the certificate's own is taken if it is one of them.
        let is_one_of = |template: &NameTemplate, cn: &String| {
            let lower = template.source().to_lowercase().parse::<NameTemplate>();
            lower.is_ok_and(|t| t.read(&cn.to_lowercase(), of).is_some())
        };
        let name = |template: &NameTemplate| {
            let own = leaf.common_name.clone().filter(|cn| is_one_of(template, cn));
            let known = template.fill_known(of).ok();
            known.or(own).unwrap_or_else(|| template.source().to_owned())
        };
        match self {
            Self::Free => Ok(None),
            Self::Registration(dps) => {
                let id = dps.registration_id.as_ref().map(name);
                proves(Proof::Registration(id.as_deref()), identity)
            }
            Self::Broker(config) => {
                let (to, text) = (config.session.to, name(&config.client_authname));
                proves(Proof::Broker { to, name: &text }, identity)
            }
        }
    }
}

fn pairs(files: &Files, clock: &Clock, name: &Name<'_>) -> Vec<Check> {
    let now = clock.now().map(|(now, _)| now);
    if !files.certificate.is_individual() && !files.key.is_individual() {
        let (certificate, key) = (Path::new(files.certificate.source()), Path::new(files.key.source()));
        let mut all = pair(certificate, key, &Numbers::default(), now, name);
        all.push(secret(Rung::Credentials, "credentials.key", key));
        return all;
    }
    let found = find(&files.certificate, &Numbers::default());
    if found.is_empty() {
        return vec![say(
            Verdict::Bad,
            format!(
                "no file is there for any SIM: none matches {}",
                files.certificate.source()
            ),
            "put certificates and keys there, named as credentials.certificate and credentials.key say",
        )];
    }
    let mut all = Vec::new();
    let mut good = 0;
    for at in &found {
        let mut checks = match keys(files, at).as_slice() {
            [key] => {
                let mut checks = pair(&at.path, &key.path, &key.of, now, name);
                checks.push(secret(Rung::Credentials, "credentials.key", &key.path));
                checks
            }
            [] => vec![say(
                Verdict::Bad,
                format!(
                    "{} has no key: no file matches {}",
                    at.path.display(),
                    files.key.source()
                ),
                "put its key there",
            )],
            several => vec![say(
                Verdict::Note,
                format!(
                    "{} could have {} keys; which one is known once the SIM is read",
                    at.path.display(),
                    several.len()
                ),
                "use the same placeholders in credentials.certificate and credentials.key",
            )],
        };
        if checks.iter().all(|c| c.verdict == Verdict::Good) {
            good += 1;
            if found.len() > LISTED_MAX {
                continue;
            }
        }
        checks.retain(|c| c.id == FILES || c.verdict != Verdict::Good);
        all.extend(checks);
    }
    if found.len() > LISTED_MAX {
        all.insert(
            0,
            say(
                Verdict::Good,
                format!("{good} of {} certificates and keys are good", found.len()),
                "",
            ),
        );
    }
    all
}

/// The key's file, if its name follows from what is known; else those it could be.
fn keys(files: &Files, at: &Place) -> Vec<Place> {
    match files.key.fill_known(&at.of) {
        Ok(path) => vec![Place {
            path: path.into(),
            of: at.of.clone(),
        }],
        Err(_) => find(&files.key, &at.of),
    }
}

fn pair(certificate: &Path, key: &Path, of: &Numbers, now: Option<Duration>, name: &Name<'_>) -> Vec<Check> {
    let identity = match read_pair(certificate, key, now) {
        Ok(identity) => identity,
        Err(e) => return vec![bad(&e)],
    };
    let mut notes: Vec<_> = remarks(&identity, now, &certificate.display().to_string());
    match name.judge(&identity, of) {
        Ok(remark) => notes.extend(remark),
        Err(e) => return vec![bad(&e)],
    }
    let leaf = &identity.leaf;
    let subject = redact_digits(leaf.common_name.as_deref().unwrap_or("nobody"));
    let others = match identity.chain().len().saturating_sub(1) {
        0 => "alone".to_owned(),
        n => format!("with {n} above it"),
    };
    let found = format!(
        "key and certificate of {subject} fit, {others}; valid until {}",
        rfc3339(leaf.not_after)
    );
    let mut all = vec![say(Verdict::Good, found, "")];
    all.extend(notes.into_iter().map(note));
    all
}
