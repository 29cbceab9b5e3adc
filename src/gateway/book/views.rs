//! Views of a store: of everything in it, and of a view before with what changed since.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::health::DAMAGED_NAMED;
use super::{NO_GROUP, View};
use crate::gateway::group::{self, Group, GroupId};
use crate::gateway::store::{Changes, GroupRecord, Snapshot, Store, SubscriberRecord, TokenDigest};
use crate::gateway::subscriber::{Digester, Directory, Known, Secret};
use crate::identity::redact_digits;

/// Rows that cannot be read, in words; those that were not there `before` are logged, the first ones of them.
pub(super) fn told(snapshot: &Snapshot, before: &[String]) -> Vec<String> {
    let all: Vec<String> = snapshot.damaged.iter().map(ToString::to_string).collect();
    for why in all.iter().filter(|why| !before.contains(why)).take(DAMAGED_NAMED) {
        tracing::error!("{}", redact_digits(why));
    }
    all
}

/// The view of a snapshot; what was broken `before` is not logged again.
pub(super) fn build(snapshot: Snapshot, store: &Store, before: &BTreeMap<GroupId, String>) -> View {
    let (groups, broken) = of_groups(snapshot.groups, snapshot.broken.into_iter().collect(), before);
    let subscribers = snapshot.subscribers.into_iter();
    let known = subscribers
        .filter_map(|(record, digest)| known(record, digest))
        .collect();
    View {
        directory: directory(known, store),
        groups,
        broken,
        closed: None,
    }
}

/// The view before with what changed since.
pub(super) fn rebuild(before: &View, changes: Changes) -> View {
    let now = changes.subscribers.into_iter();
    let now = now.filter_map(|(record, digest)| known(record, digest)).collect();
    let (groups, broken) = match changes.groups {
        Some(groups) => of_groups(groups, BTreeMap::new(), &before.broken),
        None => (before.groups.clone(), before.broken.clone()),
    };
    View {
        directory: Arc::new(before.directory.changed(&changes.about, now)),
        groups,
        broken,
        closed: None,
    }
}

type Groups = HashMap<GroupId, Arc<Group>>;

/// Those that can be used, and why the others cannot.
fn of_groups(
    records: Vec<GroupRecord>,
    mut broken: BTreeMap<GroupId, String>,
    before: &BTreeMap<GroupId, String>,
) -> (Groups, BTreeMap<GroupId, String>) {
    let mut groups = HashMap::new();
    for record in records {
        match group::from_record(&record) {
            Ok(group) => {
                groups.insert(record.id, Arc::new(group));
            }
            Err(why) => {
                broken.insert(record.id, why);
            }
        }
    }
    for (id, why) in &broken {
        if before.get(id) != Some(why) {
            tracing::error!(
                "group {id} cannot be used, and its devices are refused: {}",
                redact_digits(why)
            );
        }
    }
    if let Ok(id) = NO_GROUP.parse::<GroupId>() {
        broken.insert(id, "the subscriber is in no group: put it into one".to_owned());
    }
    (groups, broken)
}

fn directory(known: Vec<Known>, store: &Store) -> Arc<Directory> {
    let key = store.token_key();
    Arc::new(Directory::with(known, Digester::new(move |token| key.digest(token))))
}

fn known(record: SubscriberRecord, digest: Option<TokenDigest>) -> Option<Known> {
    let group = record.group.clone().or_else(|| NO_GROUP.parse().ok())?;
    Some(Known {
        subscriber: record.subscriber(),
        group,
        enabled: record.enabled,
        imei_lock: record.imei_lock,
        source: record.source,
        token: digest.map(Secret::Digest),
        certificate: record.certificate,
    })
}
