//! A gateway whose knowledge is in a database. Subscribers are read page by page; those with whom all is well are only counted, by group,
//! so that the report of a hundred thousand can be read.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Finding, Level, Report, Subject, finding, look, upstream};
use crate::clock::Clock;
use crate::gateway::config::StoreConfig;
use crate::gateway::credential::CredentialId;
use crate::gateway::group::{self, Grade, Group, GroupId, Names, Proof};
use crate::gateway::store::{Damaged, Store, StoreError, SubscriberRecord};
use crate::tls::{self, Identity};

/// Subscribers that are read at a time.
const PAGE: usize = 500;
/// Most subscribers with findings that are listed; of the others only the number is told.
const LISTED_MAX: usize = 1_000;

/// What became of the subscribers of one group.
#[derive(Default)]
struct Tally {
    all: usize,
    disabled: usize,
    errors: usize,
    warnings: usize,
}

/// Looks at everything in the store. Runs to its end on this thread: not for async ones.
pub(super) fn check(settings: &StoreConfig, clock: &Clock) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut report = Report {
        gateway: vec![],
        subscribers: vec![],
        worst: Level::Ok,
    };
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(read(settings, clock, &mut report));
            runtime.shutdown_background();
            result.map_err(|e| e.to_string())
        }
        Err(e) => Err(e.to_string()),
    };
    if let Err(why) = result {
        report.gateway.push(finding(Level::Error, "store", why));
    }
    let listed = report.subscribers.iter().flat_map(|s| &s.findings);
    report.worst = report
        .gateway
        .iter()
        .chain(listed)
        .map(|f| f.level)
        .max()
        .unwrap_or(Level::Ok);
    report
}

async fn read(settings: &StoreConfig, clock: &Clock, report: &mut Report) -> Result<(), StoreError> {
    let store = Store::open_to_read(settings, clock).await?;
    report.gateway.push(finding(
        Level::Ok,
        "store",
        format!("{:?} opens with its key", settings.database),
    ));
    let mut groups = BTreeMap::new();
    let all = store.groups().await?;
    damaged(report, &all.damaged);
    for record in all.items {
        let judged = group::judge(&record);
        report.gateway.extend(judged.remarks.iter().map(|r| {
            let level = match r.grade {
                Grade::Warning => Level::Warning,
                Grade::Error => Level::Error,
            };
            finding(level, "group", format!("group {}: {r}", record.id))
        }));
        if judged.incomplete {
            let message = format!(
                "group {}: there is no MQTT entry point yet, its devices are refused",
                record.id
            );
            report.gateway.push(finding(Level::Warning, "group", message));
        }
        if let Some(group) = &judged.group {
            report.gateway.push(upstream(group));
        }
        groups.insert(record.id, judged.group);
    }
    let mut tallies: BTreeMap<Option<GroupId>, Tally> = BTreeMap::new();
    let (mut after, mut unlisted) = (None, 0_usize);
    loop {
        let page = store.subscribers(after.as_deref(), PAGE).await?;
        damaged(report, &page.damaged);
        after = page.next;
        for s in &page.items {
            let tally = tallies.entry(s.group.clone()).or_default();
            tally.all += 1;
            tally.disabled += usize::from(!s.enabled);
            let subject = subject(&store, &groups, s, clock).await?;
            let worst = subject.findings.iter().map(|f| f.level).max().unwrap_or(Level::Ok);
            tally.errors += usize::from(worst == Level::Error);
            tally.warnings += usize::from(worst == Level::Warning);
            if worst > Level::Ok && report.subscribers.len() < LISTED_MAX {
                report.subscribers.push(subject);
            } else if worst > Level::Ok {
                unlisted += 1;
            }
        }
        if after.is_none() {
            break;
        }
    }
    loop {
        let page = store.proven_credentials(after.as_deref(), PAGE).await?;
        damaged(report, &page.damaged);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    summary(report, &tallies, unlisted);
    Ok(())
}

/// Rows that cannot be read, one finding each. The first ones are named, and all are counted.
fn damaged(report: &mut Report, rows: &[Damaged]) {
    for row in rows {
        let count = report.gateway.iter().filter(|f| f.id == "damaged").count();
        match count.cmp(&LISTED_MAX) {
            Ordering::Less => report.gateway.push(finding(Level::Error, "damaged", row.to_string())),
            Ordering::Equal => report.gateway.push(finding(
                Level::Error,
                "damaged",
                "and more rows that are not named here: restore the database's backup",
            )),
            Ordering::Greater => return,
        }
    }
}

fn summary(report: &mut Report, tallies: &BTreeMap<Option<GroupId>, Tally>, unlisted: usize) {
    if tallies.is_empty() {
        let message = "there are none: every device would be refused; 'onyx-gateway subscriber add' adds one";
        report.gateway.push(finding(Level::Error, "subscribers", message));
    }
    for (group, t) in tallies {
        let level = match t {
            Tally { errors: 1.., .. } => Level::Error,
            Tally { warnings: 1.., .. } => Level::Warning,
            _ => Level::Ok,
        };
        let group = group
            .as_ref()
            .map_or("without a group".to_owned(), |g| format!("in group {g}"));
        let message = format!(
            "{} {group}: {} disabled, {} with errors, {} with warnings",
            t.all, t.disabled, t.errors, t.warnings
        );
        report.gateway.push(finding(level, "subscribers", message));
    }
    if unlisted > 0 {
        let message = format!("{unlisted} more subscribers with findings are not listed here");
        report.gateway.push(finding(Level::Error, "subscribers", message));
    }
}

async fn subject(
    store: &Store,
    groups: &BTreeMap<GroupId, Option<Group>>,
    s: &SubscriberRecord,
    clock: &Clock,
) -> Result<Subject, StoreError> {
    let mut findings = Vec::new();
    let mut names = Names::default();
    let group = match s.group.as_ref().map(|id| (id, groups.get(id).and_then(Option::as_ref))) {
        None => {
            findings.push(finding(Level::Warning, "group", "it is in no group, and is refused"));
            None
        }
        Some((id, None)) => {
            findings.push(finding(
                Level::Error,
                "group",
                format!("its group {id} cannot be used, see above"),
            ));
            None
        }
        Some((_, Some(group))) => Some(group),
    };
    if s.source.is_none() && !s.has_token && s.certificate.is_none() {
        let message = "it has no source, token or certificate: only a certificate with its IMSI could tell who it is";
        findings.push(finding(Level::Warning, "known_by", message));
    }
    match group.map(|g| g.names(&s.subscriber())) {
        Some(Ok(made)) => names = made,
        Some(Err(why)) => findings.push(finding(Level::Error, "name", why)),
        None => {}
    }
    if let (Some(id), Some(group)) = (&names.credential, group) {
        credential(store, id, group, names.username.as_deref(), clock, &mut findings).await?;
    }
    Ok(Subject {
        imsi: s.imsi.to_string(),
        username: names.username,
        credential: names.credential.map(|c| c.as_str().to_owned()),
        findings,
    })
}

async fn credential(
    store: &Store,
    id: &CredentialId,
    group: &Group,
    username: Option<&str>,
    clock: &Clock,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    // One that does not open concerns its devices, and no others.
    let read = async |id: &CredentialId| match store.credential(id).await {
        Err(StoreError::Broken(why)) => Ok(Err(why)),
        other => other.map(Ok),
    };
    let mut found = match read(id).await? {
        Ok(found) => found,
        Err(why) => {
            findings.push(finding(Level::Error, "credential", why));
            return Ok(());
        }
    };
    if let (
        None,
        Proof::Stored {
            default: Some(default), ..
        },
    ) = (&found, &group.proof)
    {
        found = match read(default).await? {
            Ok(found) => found,
            Err(why) => {
                findings.push(finding(Level::Error, "credential", why));
                return Ok(());
            }
        };
        if found.is_some() {
            let message = format!("there is none of its own yet, {} is used", default.as_str());
            findings.push(finding(Level::Warning, "credential", message));
        }
    }
    let Some(found) = found else {
        let message = format!(
            "there is no credential {}: 'onyx-gateway credential create' makes it",
            id.as_str()
        );
        findings.push(finding(Level::Error, "credential", message));
        return Ok(());
    };
    match identity(&found.secret) {
        Ok(identity) => {
            findings.push(finding(Level::Ok, "credential", "certificate and key fit each other"));
            look(&identity, username, clock, findings);
        }
        Err(why) => findings.push(finding(Level::Error, "credential", why)),
    }
    Ok(())
}

#[derive(Deserialize)]
struct Secret {
    key: Zeroizing<String>,
    cert: String,
    ca: Option<String>,
}

fn identity(secret: &str) -> Result<Identity, String> {
    let read: Secret =
        serde_json::from_str(secret).map_err(|e| format!("it is damaged (line {}): put it again", e.line()))?;
    if let Some(ca) = &read.ca {
        tls::roots(ca.as_bytes(), "ca").map_err(|e| e.to_string())?;
    }
    Identity::from_pem(read.cert.as_bytes(), read.key.as_bytes(), "cert and key").map_err(|e| e.to_string())
}
