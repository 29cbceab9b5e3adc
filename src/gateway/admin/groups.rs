//! Groups: SORACOM's `Group` with its namespaces.
//!
//! **Masking.** A configuration may hold passwords and private keys. Whatever shows a group shows only what is known to be public
//! ([`public`]), and [`MASK`] in the place of everything else. A configuration that was shown and is put back would make the mask the
//! password, so a mask is refused where it is put.

use serde_json::{Value, json};

use super::{AdminError, millis, mistakes};
use crate::gateway::group::{self, GroupId, Judged, beam, own, public};
use crate::gateway::json::Notes;
use crate::gateway::store::{GroupRecord, Store};

pub use crate::gateway::group::public::MASK;
pub(super) fn has_mask(value: &Value) -> bool {
    match value {
        // A whole value, or a part of a URL.
        Value::String(text) => text == MASK || (text.contains(MASK) && text.contains("://")),
        Value::Array(list) => list.iter().any(has_mask),
        Value::Object(map) => map.iter().any(|(k, v)| k.contains(MASK) || has_mask(v)),
        _ => false,
    }
}

/// A group as SORACOM's `Group`, masked. `remarks` are our own: what is wrong or odd about its configuration.
#[must_use]
pub fn shown(record: &GroupRecord) -> Value {
    let mut configuration = serde_json::Map::new();
    for (namespace, keys) in &record.configuration {
        configuration.insert(namespace.clone(), public::namespace(namespace, keys.iter()));
    }
    let judged = group::judge(record);
    json!({
        "groupId": record.id.as_str(),
        "createdTime": millis(record.created),
        "lastModifiedTime": millis(record.updated),
        "configuration": configuration,
        "tags": {"name": record.name},
        "remarks": remarks(&judged),
    })
}

/// What there is to say about a group's configuration, a line each.
#[must_use]
pub fn remarks(judged: &Judged) -> Vec<String> {
    let mut out: Vec<String> = judged.remarks.iter().map(ToString::to_string).collect();
    if judged.incomplete {
        out.push(format!(
            "{}: there is no {:?} yet: its devices are refused",
            beam::NAMESPACE,
            beam::MQTT
        ));
    }
    out
}

/// Reads a list of `{"key", "value"}`, as `putGroupConfigurationParameters` takes it. What the keys mean is judged when they are put.
///
/// # Errors
/// Every mistake, with its place in the text.
pub fn pairs(namespace: &str, body: &str) -> Result<Vec<(String, Value)>, AdminError> {
    let notes = Notes::of_text(body);
    let mut out = Vec::new();
    let top = notes.top("");
    if namespace == beam::NAMESPACE {
        // Positions are known here, and not any more when the stored group is judged.
        if let Some(top) = &top {
            group::look_at_beam(top);
        }
    }
    let items = match &top {
        Some(top) if namespace == beam::NAMESPACE => top.clone().list_quietly(),
        Some(top) => top.list().unwrap_or_default(),
        None => Vec::new(),
    };
    for item in items {
        let Some(pair) = item.pair(namespace != beam::NAMESPACE) else {
            continue;
        };
        let (key, value) = pair;
        let Some(value) = value.value() else { continue };
        if has_mask(&value) || key.contains(MASK) {
            item.mistake(format!(
                "has {MASK:?}, which stands for a secret (or what is not known to be public) when a group is shown: write the thing itself"
            ));
        }
        out.push((key, value));
    }
    mistakes(&notes.done())?;
    if out.is_empty() {
        return Err(AdminError::wrong(
            "the list is empty: write [{\"key\": …, \"value\": …}]",
        ));
    }
    Ok(out)
}

/// Puts a namespace's keys; the others stay.
///
/// # Errors
/// [`AdminError::Wrong`] with every mistake in what the group would be.
pub async fn put(store: &Store, id: &GroupId, namespace: &str, body: &str) -> Result<GroupRecord, AdminError> {
    namespace_fits(namespace)?;
    let pairs = pairs(namespace, body)?;
    let judge = std::sync::Arc::new(group::may_be_put);
    Ok(store.put_configuration(id, namespace, pairs, judge).await?)
}

/// Longest name of a namespace, in bytes.
const NAMESPACE_MAX: usize = 64;

fn namespace_fits(namespace: &str) -> Result<(), AdminError> {
    if !namespace.is_empty() && namespace.len() <= NAMESPACE_MAX && namespace.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    Err(AdminError::wrong(format!(
        "{:?} is no namespace: this gateway reads {}, {} and {}",
        crate::gateway::json::short(namespace),
        beam::NAMESPACE,
        own::NAMESPACE,
        group::KRYPTON
    )))
}

/// A new group's id in the shape of SORACOM's.
///
/// # Errors
/// When the operating system gives no random numbers.
pub fn new_id() -> Result<GroupId, AdminError> {
    let hex = super::subscribers::random_hex::<16>()?;
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    let id = format!(
        "{}-{}-{}-{}-{}",
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32)
    );
    id.parse().map_err(AdminError::Wrong)
}

/// Makes a group: `{"tags": {"name": "…"}}`, `createGroup` of SORACOM's API, with `groupId` as our own addition.
///
/// # Errors
/// Every mistake, with its place.
pub async fn create(store: &Store, body: &str) -> Result<GroupRecord, AdminError> {
    let notes = Notes::of_text(body);
    let (mut id, mut name) = (None, String::new());
    if let Some(mut o) = notes.top("").and_then(|top| top.object()) {
        if let Some((text, node)) = o.text("groupId") {
            match text.parse::<GroupId>() {
                Ok(parsed) => id = Some(parsed),
                Err(why) => node.mistake(why),
            }
        }
        if let Some(mut tags) = o.some("tags").and_then(|n| n.object()) {
            name = tags.text("name").map(|(text, _)| text).unwrap_or_default();
            tags.finish();
        }
        if let Some(node) = o.some("configuration").filter(|n| !n.is_off()) {
            node.mistake("is put afterwards, a namespace at a time: PUT /v1/groups/ID/configuration/SoracomBeam");
        }
        o.finish();
    }
    mistakes(&notes.done())?;
    let id = match id {
        Some(id) => id,
        None => new_id()?,
    };
    make(store, &id, &name).await
}

/// Makes a group that is not there yet.
///
/// # Errors
/// [`AdminError`].
pub async fn make(store: &Store, id: &GroupId, name: &str) -> Result<GroupRecord, AdminError> {
    Ok(store.make_group(id, name).await?)
}
