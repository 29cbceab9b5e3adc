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
        Value::Number(n)
            if n.as_f64()
                .is_none_or(|f| n.as_i64().is_none() && !n.is_f64() || out_of_range(n, f)) =>
        {
            Err(HubError::argument(format!(
                "the integer {n} is not within ±{INTEGER_MAX}"
            )))
        }
        _ => Ok(()),
    }
}

fn out_of_range(n: &serde_json::Number, _as_float: f64) -> bool {
    n.as_i64().is_some_and(|i| !(-INTEGER_MAX..=INTEGER_MAX).contains(&i))
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
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(1_793_491_200);

    fn twin() -> Twin {
        Twin::new(T)
    }

    fn report(t: &mut Twin, patch: &Value) -> Result<u64, HubError> {
        t.report(patch.to_string().as_bytes(), T)
    }

    #[test]
    fn patches_are_merged_and_null_removes() {
        let mut t = twin();
        assert_eq!(report(&mut t, &json!({"a": 1, "b": {"c": 2, "d": [1, 2]}})), Ok(2));
        assert_eq!(
            report(&mut t, &json!({"b": {"c": null, "e": "x"}, "a": {"f": true}})),
            Ok(3)
        );
        assert_eq!(
            t.for_device()["reported"],
            json!({"a": {"f": true}, "b": {"d": [1, 2], "e": "x"}, "$version": 3})
        );
        // A null within a new object leaves nothing behind.
        assert_eq!(report(&mut t, &json!({"a": null, "g": {"h": null}})), Ok(4));
        assert_eq!(
            t.for_device()["reported"],
            json!({"b": {"d": [1, 2], "e": "x"}, "g": {}, "$version": 4})
        );
        assert_eq!(t.for_device()["desired"], json!({"$version": 1}));
    }

    #[test]
    fn metadata_says_when_and_only_to_the_service_side() {
        let mut t = twin();
        report(&mut t, &json!({"a": {"b": 1}})).unwrap();
        t.report(br#"{"a":{"c":2}}"#, T + Duration::from_secs(1)).unwrap();
        let seen = t.for_service();
        assert_eq!(
            seen["properties"]["reported"]["$metadata"],
            json!({
                "$lastUpdated": "2026-11-01T00:00:01Z",
                "a": {
                    "$lastUpdated": "2026-11-01T00:00:01Z",
                    "b": {"$lastUpdated": "2026-11-01T00:00:00Z"},
                    "c": {"$lastUpdated": "2026-11-01T00:00:01Z"},
                },
            })
        );
        assert_eq!((seen["version"].clone(), seen["etag"].clone()), (json!(3), json!("v3")));
        assert!(!t.for_device().to_string().contains("lastUpdated"));
    }

    #[test]
    fn what_the_hub_does_not_take_changes_nothing() {
        let mut deep = json!(1);
        for _ in 0..DEPTH_MAX {
            deep = json!({"a": deep});
        }
        let mut t = twin();
        report(&mut t, &json!({"deep": deep["a"]})).unwrap();
        let before = t.for_device();
        for (bad, says) in [
            (json!({"deep": {"a": deep}}), "nested deeper than 10"),
            (json!({"a.b": 1}), "cannot be a property's name"),
            (json!({"$version": 1}), "cannot be a property's name"),
            (json!({"x": {"": 1}}), "cannot be a property's name"),
            (json!({"x": "y".repeat(4_097)}), "4097 bytes"),
            (json!({"x": 4_503_599_627_370_497_i64}), "not within"),
            (json!({"x": u64::MAX}), "not within"),
            (json!([1]), "no JSON object"),
        ] {
            let e = report(&mut t, &bad).unwrap_err();
            assert!(e.to_string().contains(says) && e.status() == 400, "{bad}: {e}");
        }
        assert!(t.report(b"{", T).unwrap_err().to_string().contains("no JSON"));
        assert!(t.report(&[b'['; 100_000], T).is_err(), "deep nesting is no crash");
        assert_eq!(t.for_device(), before);
    }

    #[test]
    fn a_section_is_bounded_as_the_hub_counts() {
        assert_eq!(
            size(&json!({"ab": "cdé\u{1}", "n": 1.5, "t": true, "z": null, "l": [1, false]})),
            2 + 4 + 9 + 5 + 1 + 13
        );
        let mut t = twin();
        // 8 strings of 4,095 bytes with names of one byte fill the section exactly.
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            report(&mut t, &json!({name: "x".repeat(4_095)})).unwrap();
        }
        let e = report(&mut t, &json!({"i": ""})).unwrap_err();
        assert!(e.to_string().contains("32769 bytes"), "{e}");
        assert_eq!(report(&mut t, &json!({"a": null, "i": ""})), Ok(10));
    }

    #[test]
    fn the_service_side_writes_tags_and_desired_properties() {
        let mut t = twin();
        let patch = json!({"tags": {"site": "a"}, "properties": {"desired": {"n": 5, "gone": null, "$version": 77, "$metadata": {}}}});
        let told = t.update(&patch, T).unwrap().unwrap();
        assert_eq!(
            (told.version, told.notice),
            (2, json!({"n": 5, "gone": null, "$version": 2}))
        );
        assert_eq!(t.for_device()["desired"], json!({"n": 5, "$version": 2}));
        assert_eq!(t.update(&json!({"tags": {"site": null}}), T), Ok(None));
        assert_eq!(t.for_service()["tags"], json!({}));
        for bad in [
            json!([]),
            json!({"properties": 1}),
            json!({"tags": "x"}),
            json!({"properties": {"desired": []}}),
        ] {
            assert!(t.update(&bad, T).is_err(), "{bad}");
        }
        assert!(
            t.update(
                &json!({"tags": {"a": "x".repeat(4_000), "b": "x".repeat(4_000), "c": "x".repeat(400)}}),
                T
            )
            .is_err()
        );
        assert_eq!(t.for_service()["tags"], json!({}));
    }
}
