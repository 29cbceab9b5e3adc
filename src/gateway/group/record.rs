//! From the namespaces of a stored group, or from a `group-config.json`, to a [`Group`], with everything that is wrong told at once.

use std::path::PathBuf;
use std::sync::Arc;

use super::own::{self, Own};
use super::{Group, GroupId, Kind, Proof, Scheme, Trust, Upstream, beam};
use crate::digest::sha256;
use crate::files::read_small;
use crate::gateway::credential::{Credential, CredentialId, Version};
use crate::gateway::json::{Grade, Notes, Remark};
use crate::gateway::store::GroupRecord;
use crate::tls::{self, Identity};

/// Largest `group-config.json` that is read, in bytes.
pub(super) const FILE_MAX: u64 = 1 << 20;
/// Port of AWS IoT Core that wants an application protocol for MQTT with certificates (AWS IoT developer guide, "Device communication
/// protocols").
const AWS_ALPN_PORT: u16 = 443;
/// That protocol's name (the same page).
const AWS_ALPN: &str = "x-amzn-mqtt-ca";
/// SORACOM's namespace for provisioning, which another room reads.
pub const KRYPTON: &str = "SoracomKrypton";

/// What a configuration comes to.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The group; without one, devices of it cannot connect.
    pub group: Option<Group>,
    /// Warnings and mistakes, in the order of the text.
    pub remarks: Vec<Remark>,
    /// Nothing is wrong with what is there, but there is no MQTT entry point yet.
    pub incomplete: bool,
}

impl Judged {
    /// The mistakes alone.
    pub fn mistakes(&self) -> impl Iterator<Item = &Remark> {
        self.remarks.iter().filter(|r| r.grade == Grade::Error)
    }

    /// The warnings alone.
    pub fn warnings(&self) -> impl Iterator<Item = &Remark> {
        self.remarks.iter().filter(|r| r.grade == Grade::Warning)
    }

    /// The mistakes as one text, a line each; `None` when there are none.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        let list: Vec<_> = self.mistakes().map(ToString::to_string).collect();
        (!list.is_empty()).then(|| list.join("\n"))
    }
}

/// Reads a stored group. Its remarks have paths and no positions.
#[must_use]
pub fn judge(record: &GroupRecord) -> Judged {
    let mut remarks = Vec::new();
    let mut entry = None;
    let mut own = Own::default();
    for (namespace, keys) in &record.configuration {
        let text = zeroize::Zeroizing::new(serde_json::to_string(keys).unwrap_or_default());
        let notes = Notes::of_value(&text);
        match (namespace.as_str(), notes.top(namespace)) {
            (beam::NAMESPACE, Some(top)) => entry = beam::map(&top),
            (own::NAMESPACE, Some(top)) => own = own::map(&top),
            (KRYPTON, _) => {}
            (_, Some(top)) => top.say(
                Grade::Warning,
                "this gateway does nothing with this namespace; it reads SoracomBeam, OnyxGateway and SoracomKrypton",
            ),
            (_, None) => {}
        }
        remarks.extend(notes.done());
    }
    finish(&record.id, entry, own, remarks)
}

/// Reads a stored group whose configuration is complete.
///
/// # Errors
/// Its mistakes, a line each, or what is missing.
pub fn from_record(record: &GroupRecord) -> Result<Group, String> {
    let judged = judge(record);
    match (judged.why_not(), judged.group) {
        (None, Some(group)) => Ok(group),
        (Some(why), _) => Err(why),
        (None, None) => Err(missing()),
    }
}

fn missing() -> String {
    format!(
        "has no MQTT entry point: put the key {:?} into its namespace {}",
        beam::MQTT,
        beam::NAMESPACE
    )
}

/// Whether a namespace can be put as it is; an incomplete group is no mistake, for it is built key by key.
///
/// # Errors
/// Its mistakes, a line each.
pub fn may_be_put(record: &GroupRecord) -> Result<(), String> {
    judge(record).why_not().map_or(Ok(()), Err)
}

/// A group in a file: `[[group]]` of `gateway.toml`.
#[derive(Debug, Clone)]
pub struct GroupFile {
    /// Its name.
    pub id: GroupId,
    /// The `group-config.json`.
    pub path: PathBuf,
    /// What `[[group]]` says besides.
    pub own: Own,
}

impl GroupFile {
    /// Reads the file. A file that cannot be read is a mistake as well.
    #[must_use]
    pub fn judge(&self) -> Judged {
        let bytes = read_small(&self.path, FILE_MAX).map(zeroize::Zeroizing::new);
        let text = match &bytes {
            Ok(bytes) => std::str::from_utf8(bytes).map_err(|e| format!("it is not UTF-8: {e}")),
            Err(e) => Err(e.to_string()),
        };
        match text {
            Ok(text) => self.judge_text(text),
            Err(why) => Judged {
                group: None,
                remarks: vec![Remark {
                    grade: Grade::Error,
                    place: None,
                    path: String::new(),
                    message: format!("cannot be read: {why}"),
                }],
                incomplete: false,
            },
        }
    }

    /// Reads a text that came from the file.
    #[must_use]
    pub fn judge_text(&self, text: &str) -> Judged {
        let notes = Notes::of_text(text);
        let entry = beam::file(&notes);
        let mut judged = finish(&self.id, entry, self.own.clone(), notes.done());
        if judged.incomplete {
            judged.remarks.push(Remark {
                grade: Grade::Error,
                place: Some((1, 1)),
                path: String::new(),
                message: missing(),
            });
        }
        judged
    }

    /// The group.
    ///
    /// # Errors
    /// Every mistake: file, line and column, path.
    pub fn read(&self) -> Result<(Group, Vec<String>), String> {
        let judged = self.judge();
        let tell = |r: &Remark| self.told(r);
        let mistakes: Vec<_> = judged.mistakes().map(tell).collect();
        let warnings = judged.warnings().map(tell).collect();
        match judged.group {
            Some(group) if mistakes.is_empty() => Ok((group, warnings)),
            _ => Err(mistakes.join("\n")),
        }
    }

    /// A remark with the file's name in front.
    #[must_use]
    pub fn told(&self, remark: &Remark) -> String {
        let colon = if remark.place.is_some() { ":" } else { ": " };
        format!("{}{colon}{remark}", self.path.display())
    }
}

fn finish(id: &GroupId, entry: Option<beam::Entry>, own: Own, mut remarks: Vec<Remark>) -> Judged {
    let broken = remarks.iter().any(|r| r.grade == Grade::Error);
    let Some(entry) = entry.filter(|_| !broken) else {
        return Judged {
            group: None,
            remarks,
            incomplete: !broken,
        };
    };
    let mut say = |grade, path: &str, message: String| {
        remarks.push(Remark {
            grade,
            place: None,
            path: path.to_owned(),
            message,
        });
    };
    let stored = matches!(entry.proved, beam::Proved::Stored(_));
    if own.default_credential.is_some() && !stored {
        let message = "is not used: no credential of the store proves this group's devices".to_owned();
        say(Grade::Warning, "OnyxGateway.defaultCredentialsId", message);
    }
    if entry.scheme == Scheme::Mqtt && (own.trust.is_some() || own.alpn.is_some() || own.versions.is_some()) {
        let message = "ca, alpn and tls are not used: the destination is mqtt://, without TLS".to_owned();
        say(Grade::Warning, own::NAMESPACE, message);
    }
    if let beam::Proved::Stored(template) = &entry.proved {
        if !template.is_individual() {
            let message = "has no placeholder: upstream cannot tell the devices apart by their certificates".to_owned();
            say(Grade::Warning, "clientCerts.default.$credentialsId", message);
        }
    }
    let proof = match proof(id, &entry.proved, own.default_credential) {
        Ok(proof) => Some(proof),
        Err(why) => {
            say(Grade::Error, "clientCerts.default", why);
            None
        }
    };
    let kind = own.kind.unwrap_or_else(|| Kind::of_host(&entry.host));
    let alpn = match own.alpn {
        Some(alpn) => (!alpn.is_empty()).then_some(alpn),
        None => (kind == Kind::AwsIot && entry.port == AWS_ALPN_PORT).then(|| AWS_ALPN.to_owned()),
    };
    let group = proof.map(|proof| Group {
        id: id.clone(),
        enabled: entry.enabled,
        upstream: Upstream {
            scheme: entry.scheme,
            host: entry.host,
            port: entry.port,
            address: own.address,
            trust: own.trust.unwrap_or(Trust::System),
            versions: own.versions.unwrap_or_default(),
            alpn,
            connect_timeout: own.connect_timeout.unwrap_or(own::CONNECT_TIMEOUT),
            kind,
        },
        login: entry.login,
        proof,
        topics: entry.topics,
        keep_alive: own.keep_alive,
        rate: own.rate,
        platform: entry.platform,
    });
    Judged {
        group,
        remarks,
        incomplete: false,
    }
}

fn proof(id: &GroupId, proved: &beam::Proved, default: Option<CredentialId>) -> Result<Proof, String> {
    Ok(match proved {
        beam::Proved::Not => Proof::None,
        beam::Proved::Stored(template) => Proof::Stored {
            id: template.clone(),
            default,
        },
        beam::Proved::Inline {
            certificate,
            key,
            authorities,
        } => {
            let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes(), "cert and key")
                .map_err(|e| e.to_string())?;
            let roots = authorities.as_deref().map(|pem| tls::roots(pem.as_bytes(), "ca"));
            let version = sha256(&[
                certificate.as_bytes(),
                &[0],
                key.as_bytes(),
                &[0],
                authorities.as_deref().unwrap_or_default().as_bytes(),
            ]);
            Proof::Inline(Arc::new(Credential {
                id: CredentialId::inline(id),
                version: Version(version.to_vec()),
                identity,
                authorities: roots.transpose().map_err(|e| e.to_string())?,
            }))
        }
    })
}

/// Reads all groups of files; every file's mistakes at once.
///
/// # Errors
/// The first group with a mistake, and the mistakes of all.
pub fn read_files(files: &[GroupFile]) -> Result<(Vec<Group>, Vec<String>), (GroupId, String)> {
    let (mut groups, mut warnings, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = None;
    for file in files {
        match file.read() {
            Ok((group, more)) => {
                groups.push(group);
                warnings.extend(more);
            }
            Err(why) => {
                first.get_or_insert(file.id.clone());
                mistakes.push(why);
            }
        }
    }
    match first {
        None => Ok((groups, warnings)),
        Some(id) => Err((id, mistakes.join("\n"))),
    }
}
