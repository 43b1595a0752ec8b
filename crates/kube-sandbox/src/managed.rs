//! `managedFields`: who wrote which field. Server-side apply isn't in scope, so that every entry is
//! an `Update`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::machine::seconds;
use crate::schema::{ListType, Schema};

/// Paths in the notation of `fieldsV1`, with the values that stand there; none where it is enough that
/// something does.
type Leaves<'a> = BTreeMap<String, Option<&'a Value>>;

/// Between the steps of a path: it comes in no name.
const STEP: char = '\u{1f}';

/// Records that `manager` made `object` out of `old`.
pub fn wrote(
    kind: &Kind,
    object: &mut Value,
    old: Option<&Value>,
    manager: &str,
    subresource: Option<&str>,
    now: Timestamp,
) {
    let before = old.map(|old| leaves(kind, old)).unwrap_or_default();
    let after = leaves(kind, object);
    let is_changed = |path: &String, value: &Option<&Value>| before.get(path) != Some(value);
    let changed: BTreeSet<String> = after
        .iter()
        .filter(|(path, value)| is_changed(path, value))
        .map(|(path, _)| path.clone())
        .collect();
    let gone = |path: &String| !after.contains_key(path);
    let mut entries = Vec::new();
    let mut ours = None;
    for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
        let mut paths = paths(&entry["fieldsV1"]);
        let is_ours = entry["manager"] == manager && entry["subresource"].as_str() == subresource;
        if is_ours {
            ours = Some((entry["time"].clone(), paths));
            continue;
        }
        let count = paths.len();
        paths.retain(|path| !gone(path) && (is_shared(path) || !changed.contains(path)));
        if paths.is_empty() {
            continue;
        }
        let mut entry = entry.clone();
        if paths.len() != count {
            entry["fieldsV1"] = tree(&paths);
        }
        entries.push(entry);
    }
    let (time, mut paths) = ours.unwrap_or_default();
    let count = paths.len();
    paths.retain(|path| !gone(path));
    let is_new = paths.len() != count || !changed.is_empty();
    paths.extend(changed);
    paths.sort();
    paths.dedup();
    if !paths.is_empty() {
        let time = if is_new { seconds(now).into() } else { time };
        entries.push(entry(kind, manager, subresource, time, &paths));
    }
    set(object, entries);
}

fn entry(
    kind: &Kind,
    manager: &str,
    subresource: Option<&str>,
    time: Value,
    paths: &[String],
) -> Value {
    let mut entry = json!({
        "manager": manager, "operation": "Update", "apiVersion": kind.api_version(),
        "fieldsType": "FieldsV1", "fieldsV1": tree(paths),
    });
    if !time.is_null() {
        entry["time"] = time;
    }
    if let Some(subresource) = subresource {
        entry["subresource"] = subresource.into();
    }
    entry
}

/// Who an entry's manager is: of two entries with the same only the last counts.
fn identity(entry: &Value) -> [&Value; 3] {
    [&entry["manager"], &entry["apiVersion"], &entry["subresource"]]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Sets the entries in the real server's order: those without time first.
fn set(object: &mut Value, mut entries: Vec<Value>) {
    entries.sort_by(|one, other| {
        let order = |entry: &Value| {
            ["time", "manager", "apiVersion", "subresource"]
                .map(|name| text(&entry[name]).to_owned())
        };
        order(one).cmp(&order(other))
    });
    if entries.is_empty() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
    } else {
        object["metadata"]["managedFields"] = entries.into();
    }
}

/// Whether anybody's fields are recorded. Once there are none, there never are again.
pub fn is_tracked(object: &Value) -> bool {
    object["metadata"]["managedFields"].as_array().is_some_and(|entries| !entries.is_empty())
}

/// Drops what the real server drops with each write: what a write by way of the scale left twice, and
/// what is owned by way of another group's API.
pub fn tidy(kind: &Kind, object: &mut Value) {
    let Some(entries) = object["metadata"]["managedFields"].as_array() else { return };
    let group = |entry: &Value| {
        let version = text(&entry["apiVersion"]);
        version.split_once('/').map_or(String::new(), |(group, _)| group.to_owned())
    };
    let ours: Vec<&Value> = entries.iter().filter(|entry| group(entry) == kind.group).collect();
    let kept = ours.iter().enumerate().filter(|(index, entry)| {
        !ours[index + 1..].iter().any(|later| identity(later) == identity(entry))
    });
    let kept: Vec<Value> = kept.map(|(_, entry)| Value::clone(entry)).collect();
    if kept.len() != entries.len() {
        set(object, kept);
    }
}

/// Records that `manager` wrote the number of replicas at `pointer` by way of the scale. The real
/// server then gives each owner of the number an entry of its own for it, without time; and none to a
/// manager whose number nobody owned before.
pub fn scaled(kind: &Kind, object: &mut Value, old: &Value, manager: &str, pointer: &str) {
    let path: Vec<String> = pointer.split('/').skip(1).map(|name| format!("f:{name}")).collect();
    let path = path.join(&STEP.to_string());
    let mut owners: Vec<(String, Option<String>)> = Vec::new();
    let mut entries = Vec::new();
    for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
        let mut paths = paths(&entry["fieldsV1"]);
        let count = paths.len();
        paths.retain(|other| *other != path);
        if paths.len() == count {
            entries.push(entry.clone());
            continue;
        }
        let subresource = entry["subresource"].as_str().map(str::to_owned);
        owners.push((text(&entry["manager"]).to_owned(), subresource));
        if !paths.is_empty() {
            let mut entry = entry.clone();
            entry["fieldsV1"] = tree(&paths);
            entries.push(entry);
        }
    }
    let number = |object: &Value| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    if number(object) != number(old) && !owners.is_empty() {
        owners.clear();
        // A scale of 0 has no number.
        if number(object) != 0 {
            owners.push((manager.to_owned(), Some("scale".to_owned())));
        }
    }
    for (manager, subresource) in owners {
        let path = std::slice::from_ref(&path);
        entries.push(entry(kind, &manager, subresource.as_deref(), Value::Null, path));
    }
    set(object, entries);
}

/// That a map is there can be several managers' doing.
fn is_shared(path: &str) -> bool {
    path == "." || path.strip_suffix('.').is_some_and(|path| path.ends_with(STEP))
}

/// Metadata that isn't anybody's.
const UNOWNED: [&str; 11] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generateName",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn leaves<'a>(kind: &Kind, object: &'a Value) -> Leaves<'a> {
    let mut leaves = Leaves::new();
    let mut path = String::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        with(&mut path, "f:", name, |path| match name.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if !UNOWNED.contains(&name.as_str()) {
                        with(path, "f:", name, |path| {
                            collect(value, None, name, kind.is_custom(), path, &mut leaves);
                        });
                    }
                }
            }
            _ => {
                let schema = kind.schema().and_then(|schema| schema.field(name));
                collect(value, schema, name, kind.is_custom(), path, &mut leaves);
            }
        });
    }
    leaves
}

/// Fields of built-in kinds that are structs, not maps: that they are there is nobody's doing.
const STRUCTS: [&str; 6] = ["metadata", "selector", "spec", "status", "strategy", "template"];

fn collect<'a>(
    value: &'a Value,
    schema: Option<&Schema>,
    name: &str,
    custom: bool,
    path: &mut String,
    leaves: &mut Leaves<'a>,
) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            if custom || !STRUCTS.contains(&name) {
                with(path, "", ".", |path| leaves.insert(path.clone(), None));
            }
            for (name, field) in fields {
                let schema = schema.and_then(|schema| schema.field(name));
                with(path, "f:", name, |path| {
                    collect(field, schema, name, custom, path, leaves);
                });
            }
        }
        Value::Array(items) => {
            let Some(keys) = keys(schema, name, custom) else {
                leaves.insert(path.clone(), Some(value));
                return;
            };
            with(path, "", ".", |path| leaves.insert(path.clone(), None));
            for item in items {
                let schema = schema.and_then(Schema::item);
                with(path, "", &step(item, &keys), |path| {
                    if keys.is_empty() {
                        leaves.insert(path.clone(), None);
                    } else {
                        collect(item, schema, "", custom, path, leaves);
                    }
                });
            }
        }
        plain => {
            leaves.insert(path.clone(), Some(plain));
        }
    }
}

/// Do something one step further down.
fn with<T>(path: &mut String, kind: &str, step: &str, act: impl FnOnce(&mut String) -> T) {
    let length = path.len();
    if !path.is_empty() {
        path.push(STEP);
    }
    path.push_str(kind);
    path.push_str(step);
    act(path);
    path.truncate(length);
}

/// The keys of a list's items; none for lists that are one value, no keys for sets.
fn keys(schema: Option<&Schema>, name: &str, custom: bool) -> Option<Vec<String>> {
    let owned = |keys: &[&str]| Some(keys.iter().map(|&key| key.to_owned()).collect());
    match name {
        "ownerReferences" => return owned(&["uid"]),
        "finalizers" => return owned(&[]),
        _ => {}
    }
    if custom {
        return match schema?.list_type() {
            ListType::Atomic => None,
            ListType::Set => Some(Vec::new()),
            ListType::Map(keys) => Some(keys.clone()),
        };
    }
    match name {
        "containers" | "initContainers" | "env" | "volumes" => owned(&["name"]),
        "conditions" => owned(&["type"]),
        "volumeMounts" => owned(&["mountPath"]),
        // Those of containers and of Services: an item has one of the first two.
        "ports" => owned(&["containerPort", "port", "protocol"]),
        _ => None,
    }
}

fn step(item: &Value, keys: &[String]) -> String {
    if keys.is_empty() {
        return format!("v:{item}");
    }
    let key: Map<String, Value> =
        keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone()))).collect();
    format!("k:{}", Value::Object(key))
}

fn tree<'a>(paths: impl IntoIterator<Item = &'a String>) -> Value {
    let mut tree = Value::Object(Map::new());
    for path in paths {
        let mut place = &mut tree;
        for step in path.split(STEP) {
            if !place[step].is_object() {
                place[step] = Value::Object(Map::new());
            }
            place = &mut place[step];
        }
    }
    tree
}

fn paths(tree: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(tree, &mut String::new(), &mut found);
    found
}

fn walk(tree: &Value, path: &mut String, found: &mut Vec<String>) {
    let Some(steps) = tree.as_object().filter(|steps| !steps.is_empty()) else {
        if !path.is_empty() {
            found.push(path.clone());
        }
        return;
    };
    for (step, inner) in steps {
        with(path, "", step, |path| walk(inner, path, found));
    }
}

/// Whether two objects differ in nothing but the times of `managedFields`: to write what is there
/// already is no write.
pub fn is_same(new: &Value, old: &Value) -> bool {
    let alike = |one: &Value, other: &Value| match (one.as_array(), other.as_array()) {
        (Some(one), Some(other)) if one.len() == other.len() => {
            one.iter().zip(other).all(|(one, other)| is_same_but(one, other, "time"))
        }
        _ => one == other,
    };
    let (ours, theirs) = (&new["metadata"], &old["metadata"]);
    alike(&ours["managedFields"], &theirs["managedFields"])
        && is_same_but(ours, theirs, "managedFields")
        && is_same_but(new, old, "metadata")
}

/// Whether two objects have the same fields, one of them left aside.
fn is_same_but(one: &Value, other: &Value, aside: &str) -> bool {
    let fields = |object: &Value| {
        object.as_object().map_or(0, |o| o.len() - usize::from(o.contains_key(aside)))
    };
    fields(one) == fields(other)
        && one
            .as_object()
            .into_iter()
            .flatten()
            .all(|(name, value)| name == aside || other.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_again_with_another_time_is_the_same() {
        let object = |time: &str, size: u8, manager: &str| {
            serde_json::json!({
                "metadata": {"name": "a", "managedFields": [{"manager": manager, "time": time}]},
                "spec": {"size": size},
            })
        };
        let old = object("2026-01-01T00:00:00Z", 1, "kubectl");
        assert!(
            is_same(&old, &old) && is_same(&object("2026-01-02T00:00:00Z", 1, "kubectl"), &old)
        );
        assert!(!is_same(&object("2026-01-01T00:00:00Z", 2, "kubectl"), &old));
        assert!(!is_same(&object("2026-01-01T00:00:00Z", 1, "helm"), &old));
        let mut more = old.clone();
        more["metadata"]["labels"] = serde_json::json!({});
        assert!(!is_same(&more, &old) && !is_same(&old, &more));
    }
}
