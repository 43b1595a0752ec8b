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
    Value::Object(event)
}

/// From the core group's names.
pub(super) fn from_core(event: &Value) -> Value {
    let Value::Object(fields) = event.clone() else { return event.clone() };
    let name = |field: &str| NAMES.iter().find(|(name, _)| *name == field).map(|(_, other)| *other);
    let mut event = renamed(fields, name);
    // Left out here when they say nothing.
    for name in ["reportingController", "reportingInstance"] {
        if event.get(name).is_some_and(|text| text == "") {
            event.remove(name);
        }
    }
    Value::Object(event)
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
