//! How sections of a shadow are merged and compared.

use serde_json::{Map, Value, json};

/// Time stamps in the shape of a value; nothing for null.
pub(super) fn stamps(value: &Value, second: u64) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) => Some(Value::Object(
            map.iter()
                .filter_map(|(k, v)| Some((k.clone(), stamps(v, second)?)))
                .collect(),
        )),
        Value::Array(list) => Some(Value::Array(list.iter().filter_map(|v| stamps(v, second)).collect())),
        _ => Some(json!({ "timestamp": second })),
    }
}

/// The value without what is null in it.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k.clone(), without_nulls(v)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Merges a patch into a section's values and their time stamps.
pub(super) fn merge(
    values: &mut Map<String, Value>,
    marks: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    second: u64,
) {
    for (key, new) in patch {
        if new.is_null() {
            values.remove(key);
            marks.remove(key);
            continue;
        }
        if let (Value::Object(inner), Some(Value::Object(old)), Some(Value::Object(old_marks))) =
            (new, values.get_mut(key), marks.get_mut(key))
        {
            merge(old, old_marks, inner, second);
            continue;
        }
        values.insert(key.clone(), without_nulls(new));
        if let Some(mark) = stamps(new, second) {
            marks.insert(key.clone(), mark);
        }
    }
}

/// What is in `desired` and not, or differently, in `reported`, with `desired`'s time stamps.
pub(super) fn difference(
    desired: &Map<String, Value>,
    marks: &Map<String, Value>,
    reported: &Map<String, Value>,
) -> (Map<String, Value>, Map<String, Value>) {
    let (mut values, mut stamps) = (Map::new(), Map::new());
    for (key, want) in desired {
        let mark = marks.get(key).cloned().unwrap_or(Value::Null);
        match (want, reported.get(key), &mark) {
            (_, Some(have), _) if have == want => {}
            (Value::Object(want), Some(Value::Object(have)), Value::Object(mark)) => {
                let (v, s) = difference(want, mark, have);
                if !v.is_empty() {
                    values.insert(key.clone(), Value::Object(v));
                    stamps.insert(key.clone(), Value::Object(s));
                }
            }
            _ => {
                values.insert(key.clone(), want.clone());
                stamps.insert(key.clone(), mark);
            }
        }
    }
    (values, stamps)
}

/// Levels of nesting.
pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
