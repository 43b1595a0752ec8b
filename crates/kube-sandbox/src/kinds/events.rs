//! Events are one resource in two groups, whose fields have other names.

use serde_json::{Map, Value};

/// Names in the core group, and in `events.k8s.io`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// To the core group's names.
pub(super) fn to_core(event: Value) -> Value {
    let Value::Object(fields) = event else { return event };
    let name = |field: &str| NAMES.iter().find(|(_, other)| *other == field).map(|(name, _)| *name);
    let mut event = renamed(fields, name);
    event.insert("apiVersion".into(), "v1".into());
    for name in ["involvedObject", "source"] {
        event.entry(name).or_insert_with(|| Value::Object(Map::new()));
    }
    for name in ["firstTimestamp", "lastTimestamp"] {
        event.entry(name).or_insert(Value::Null);
    }
    Value::Object(event)
}

/// From the core group's names.
pub(super) fn from_core(event: &Value) -> Value {
    let Value::Object(fields) = event.clone() else { return event.clone() };
    let name = |field: &str| NAMES.iter().find(|(name, _)| *name == field).map(|(_, other)| *other);
    Value::Object(renamed(fields, name))
}

fn renamed(
    fields: Map<String, Value>,
    name: impl Fn(&str) -> Option<&'static str>,
) -> Map<String, Value> {
    let renamed = fields.into_iter().map(|(field, value)| match name(&field) {
        Some(other) => (other.to_owned(), value),
        None => (field, value),
    });
    renamed.collect()
}
