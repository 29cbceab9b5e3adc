//! A device twin: tags and desired properties, which the service side writes, and reported properties, which the device writes. No I/O.
//!
//! A patch is merged (IoT Hub documentation, device twins): members are replaced one by one, objects are descended into, `null` removes.
//! Each section has a `$version` that grows with every patch and `$metadata` that says when what was written. Patches are checked whole
//! before anything is changed.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::error::HubError;

/// Largest tags, in bytes as the hub counts ([`size`]).
pub const TAGS_MAX: usize = 8 * 1024;
/// Largest desired, and largest reported properties, in bytes as the hub counts ([`size`]).
pub const SECTION_MAX: usize = 32 * 1024;
/// Deepest nesting of objects in a section.
pub const DEPTH_MAX: usize = 10;
/// Longest key, in bytes.
const KEY_MAX: usize = 1024;
/// Longest string, in bytes.
const STRING_MAX: usize = 4 * 1024;
/// Integers lie within plus and minus this.
const INTEGER_MAX: i64 = 4_503_599_627_370_496;
/// What the service side may send back as it got it; the hub writes these itself.
const READ_ONLY: [&str; 2] = ["$version", "$metadata"];

/// The size of a section: names and strings by their characters without control characters, numbers 8, booleans 4 bytes each (IoT Hub
/// documentation, device twins, "Device twin size").
#[must_use]
pub fn size(value: &Value) -> usize {
    let text = |s: &str| s.chars().filter(|c| !c.is_control()).map(char::len_utf8).sum::<usize>();
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(s) => text(s),
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(map) => map.iter().map(|(k, v)| text(k) + size(v)).sum(),
    }
}

fn check_key(key: &str) -> Result<(), HubError> {
    let bad = |c: char| c.is_control() || matches!(c, '.' | '$' | ' ');
    if key.is_empty() || key.len() > KEY_MAX || key.chars().any(bad) {
        return Err(HubError::argument(format!(
            "{key:?} cannot be a property's name: 1 to {KEY_MAX} bytes without control characters, dot, dollar and space"
        )));
    }
    Ok(())
}

fn check(value: &Value, depth: usize) -> Result<(), HubError> {
    if depth > DEPTH_MAX {
        return Err(HubError::argument(format!(
            "the properties are nested deeper than {DEPTH_MAX} levels"
        )));
    }
    match value {
        Value::Object(map) => map.iter().try_for_each(|(key, inner)| {
            check_key(key)?;
            check(inner, depth + 1)
        }),
        Value::Array(list) => list.iter().try_for_each(|inner| check(inner, depth + 1)),
        Value::String(s) if s.len() > STRING_MAX => Err(HubError::argument(format!(
            "a string of {} bytes, at most {STRING_MAX} are taken",
            s.len()
        ))),
        Value::Number(n) if !in_range(n) => Err(HubError::argument(format!(
            "the integer {n} is not within ±{INTEGER_MAX}"
        ))),
        _ => Ok(()),
    }
}

/// Numbers that are no integers have no bounds of the hub's.
fn in_range(n: &serde_json::Number) -> bool {
    n.is_f64() || n.as_i64().is_some_and(|i| (-INTEGER_MAX..=INTEGER_MAX).contains(&i))
}

/// Merges a checked patch: `meta` runs along with `target`.
fn merge(target: &mut Map<String, Value>, meta: &mut Map<String, Value>, patch: &Map<String, Value>, stamp: &str) {
    meta.insert("$lastUpdated".into(), stamp.into());
    for (key, new) in patch {
        match new {
            Value::Null => {
                target.remove(key);
                meta.remove(key);
            }
            Value::Object(inner) => {
                let slot = target.entry(key.clone()).or_insert(Value::Null);
                let marks = meta.entry(key.clone()).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = json!({});
                    *marks = json!({});
                }
                if let (Value::Object(slot), Value::Object(marks)) = (slot, marks) {
                    merge(slot, marks, inner, stamp);
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
                meta.insert(key.clone(), json!({"$lastUpdated": stamp}));
            }
        }
    }
}

/// Desired or reported properties.
#[derive(Debug, Clone)]
pub struct Section {
    values: Map<String, Value>,
    metadata: Map<String, Value>,
    version: u64,
}

impl Section {
    fn new(wall: Duration) -> Self {
        let mut metadata = Map::new();
        metadata.insert("$lastUpdated".into(), crate::clock::rfc3339(wall).into());
        Self {
            values: Map::new(),
            metadata,
            version: 1,
        }
    }

    /// How often it was written, counted from 1.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Merges a patch; the answer is the new version.
    ///
    /// # Errors
    /// A name, value, depth or size that the hub does not take; then nothing has changed.
    pub fn patch(&mut self, patch: &Map<String, Value>, wall: Duration) -> Result<u64, HubError> {
        let (mut values, mut metadata) = (self.values.clone(), self.metadata.clone());
        merge_checked(&mut values, &mut metadata, patch, SECTION_MAX, wall)?;
        (self.values, self.metadata) = (values, metadata);
        self.version += 1;
        Ok(self.version)
    }

    /// What a device gets to see.
    fn short(&self) -> Value {
        let mut out = self.values.clone();
        out.insert("$version".into(), self.version.into());
        out.into()
    }

    /// What the service side gets to see.
    fn long(&self) -> Value {
        let mut out = self.values.clone();
        out.insert("$metadata".into(), self.metadata.clone().into());
        out.insert("$version".into(), self.version.into());
        out.into()
    }
}

fn merge_checked(
    values: &mut Map<String, Value>,
    metadata: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    limit: usize,
    wall: Duration,
) -> Result<(), HubError> {
    for (key, value) in patch {
        check_key(key)?;
        check(value, 1)?;
    }
    merge(values, metadata, patch, &crate::clock::rfc3339(wall));
    let total: usize = values
        .iter()
        .map(|(k, v)| size(&Value::String(k.clone())) + size(v))
        .sum();
    if total > limit {
        return Err(HubError::argument(format!(
            "the section would have {total} bytes, at most {limit} are taken"
        )));
    }
    Ok(())
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Twin {
    tags: Map<String, Value>,
    /// Written by the service side.
    pub desired: Section,
    /// Written by the device.
    pub reported: Section,
    version: u64,
}

/// The answer to a service-side patch.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// The new version of the desired properties.
    pub version: u64,
    /// What the device is told: the patch with its version.
    pub notice: Value,
}

impl Twin {
    /// An empty one.
    #[must_use]
    pub fn new(wall: Duration) -> Self {
        Self {
            tags: Map::new(),
            desired: Section::new(wall),
            reported: Section::new(wall),
            version: 1,
        }
    }

    /// What a device's GET answers: both sections with their versions, no tags, no metadata.
    #[must_use]
    pub fn for_device(&self) -> Value {
        json!({"desired": self.desired.short(), "reported": self.reported.short()})
    }

    /// `tags`, `properties`, `version` and `etag` of the service side's document.
    #[must_use]
    pub fn for_service(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("etag".into(), format!("v{}", self.version).into());
        out.insert("version".into(), self.version.into());
        out.insert("tags".into(), self.tags.clone().into());
        let properties = json!({"desired": self.desired.long(), "reported": self.reported.long()});
        out.insert("properties".into(), properties);
        out
    }

    /// The device's patch; the answer is the new version.
    ///
    /// # Errors
    /// What the hub does not take.
    pub fn report(&mut self, body: &[u8], wall: Duration) -> Result<u64, HubError> {
        let patch: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|e| HubError::format(format!("the reported properties are no JSON object: {e}")))?;
        let version = self.reported.patch(&patch, wall)?;
        self.version += 1;
        Ok(version)
    }

    /// The service side's patch: `{"tags": {…}, "properties": {"desired": {…}}}`. The answer is what to tell the device, if anything.
    ///
    /// # Errors
    /// What the hub does not take; then nothing has changed.
    pub fn update(&mut self, patch: &Value, wall: Duration) -> Result<Option<Desired>, HubError> {
        let object = |value: Option<&Value>, name: &str| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map.clone())),
            Some(_) => Err(HubError::argument(format!("{name} is no object"))),
        };
        if !patch.is_object() {
            return Err(HubError::argument("the twin patch is no object"));
        }
        let properties = object(patch.get("properties"), "properties")?.unwrap_or_default();
        let mut next = self.clone();
        if let Some(tags) = object(patch.get("tags"), "tags")? {
            merge_checked(&mut next.tags, &mut Map::new(), &tags, TAGS_MAX, wall)?;
        }
        let desired = match object(properties.get("desired"), "properties.desired")? {
            None => None,
            Some(mut desired) => {
                desired.retain(|key, _| !READ_ONLY.contains(&key.as_str()));
                let version = next.desired.patch(&desired, wall)?;
                desired.insert("$version".into(), version.into());
                Some(Desired {
                    version,
                    notice: desired.into(),
                })
            }
        };
        next.version += 1;
        *self = next;
        Ok(desired)
    }
}

#[cfg(test)]
mod tests;
