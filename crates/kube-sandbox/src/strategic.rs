//! Strategic merge patch, for built-in kinds: lists whose items have keys are merged.

use serde_json::{Map, Value};

use crate::status::Refusal;

/// The key by which a list's items are told apart; none when the list is one value. `Some("")`
/// stands for lists of plain values that are merged as sets.
fn merge_key(list: &str, parent: &str) -> Option<&'static str> {
    let key = match (parent, list) {
        (_, "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "env") => "name",
        (_, "imagePullSecrets" | "resourceClaims" | "schedulingGates" | "secrets") => "name",
        (_, "volumeMounts") => "mountPath",
        (_, "volumeDevices") => "devicePath",
        (_, "hostAliases") => "ip",
        (_, "topologySpreadConstraints") => "topologyKey",
        (_, "conditions" | "addresses") => "type",
        (_, "ownerReferences") => "uid",
        ("spec", "ports") => "port",
        (_, "ports") => "containerPort",
        (_, "finalizers") => "",
        _ => return None,
    };
    Some(key)
}

/// Merges a patch into an object.
///
/// # Errors
/// When a directive of the patch can't be understood.
pub fn merge(object: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let (Value::Object(fields), Value::Object(patch)) = (&mut *object, patch) else {
        return Err(Refusal::bad_request("a strategic merge patch must be an object"));
    };
    merge_fields(fields, patch, "")
}

fn merge_fields(
    fields: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    parent: &str,
) -> Result<(), Refusal> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *fields = without_directives(patch);
            return Ok(());
        }
        Some("delete") => {
            fields.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(unknown_directive(other)),
    }
    retain_keys(fields, patch);
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        match value {
            Value::Null => {
                fields.remove(name);
            }
            Value::Object(inner) => {
                let field = fields.entry(name.clone()).or_insert(Value::Null);
                if !field.is_object() {
                    *field = Value::Object(Map::new());
                }
                if let Value::Object(field) = field {
                    merge_fields(field, inner, name)?;
                }
                if inner.get("$patch").and_then(Value::as_str) == Some("delete") {
                    fields.remove(name);
                }
            }
            Value::Array(items) => merge_list(fields, name, items, patch, parent)?,
            plain => {
                fields.insert(name.clone(), plain.clone());
            }
        }
    }
    for (name, value) in patch {
        if let (Some(list), Value::Array(gone)) =
            (name.strip_prefix("$deleteFromPrimitiveList/"), value)
            && let Some(Value::Array(items)) = fields.get_mut(list)
        {
            items.retain(|item| !gone.contains(item));
        }
    }
    reorder_untouched(fields, patch, parent);
    Ok(())
}

fn unknown_directive(directive: &str) -> Refusal {
    Refusal::bad_request(format!(
        "unknown patch directive {directive:?}: it must be merge, replace or delete"
    ))
}

/// `$retainKeys`: all other fields go.
fn retain_keys(fields: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if let Some(Value::Array(keys)) = patch.get("$retainKeys") {
        fields.retain(|name, _| keys.iter().any(|key| key == name.as_str()));
    }
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    let kept = patch.iter().filter(|(name, value)| !name.starts_with('$') && !value.is_null());
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn merge_list(
    fields: &mut Map<String, Value>,
    name: &str,
    items: &[Value],
    patch: &Map<String, Value>,
    parent: &str,
) -> Result<(), Refusal> {
    let current = match fields.get_mut(name) {
        Some(Value::Array(current)) => std::mem::take(current),
        _ => Vec::new(),
    };
    let before = current.clone();
    let merged = match merge_key(name, parent) {
        None => items.to_vec(),
        Some("") => {
            let mut merged = current;
            let fresh: Vec<Value> =
                items.iter().filter(|item| !merged.contains(item)).cloned().collect();
            merged.extend(fresh);
            merged
        }
        Some(key) => merge_keyed(current, items, key, name)?,
    };
    let order = patch.get(&format!("$setElementOrder/{name}")).and_then(Value::as_array);
    let merged = match merge_key(name, parent) {
        Some(key) => ordered(merged, order.map_or(items, Vec::as_slice), &before, key),
        None => merged,
    };
    fields.insert(name.to_owned(), Value::Array(merged));
    Ok(())
}

fn merge_keyed(
    mut current: Vec<Value>,
    items: &[Value],
    key: &str,
    list: &str,
) -> Result<Vec<Value>, Refusal> {
    let replaces = items.iter().any(|item| item["$patch"] == "replace");
    if replaces {
        let kept = items.iter().filter(|item| item["$patch"] != "replace");
        return Ok(kept.cloned().collect());
    }
    for item in items {
        let id = &item[key];
        if id.is_null() {
            return Err(Refusal::bad_request(format!(
                "map: {item} does not contain declared merge key: {key}"
            )));
        }
        let place = current.iter().position(|other| other[key] == *id);
        match (item["$patch"].as_str(), place) {
            (Some("delete"), Some(place)) => {
                current.remove(place);
            }
            (Some("delete"), None) => {}
            (Some("merge") | None, Some(place)) => {
                if let (Value::Object(fields), Value::Object(patch)) = (&mut current[place], item) {
                    merge_fields(fields, patch, list)?;
                }
            }
            (Some("merge") | None, None) => {
                let mut fresh = Map::new();
                if let Value::Object(patch) = item {
                    merge_fields(&mut fresh, patch, list)?;
                }
                current.push(Value::Object(fresh));
            }
            (Some(other), _) => return Err(unknown_directive(other)),
        }
    }
    Ok(current)
}

/// `$setElementOrder` may also come without the list itself.
fn reorder_untouched(fields: &mut Map<String, Value>, patch: &Map<String, Value>, parent: &str) {
    for (directive, order) in patch {
        let Some(list) = directive.strip_prefix("$setElementOrder/") else { continue };
        let (Value::Array(order), Some(key)) = (order, merge_key(list, parent)) else { continue };
        if patch.contains_key(list) {
            continue;
        }
        if let Some(Value::Array(items)) = fields.get_mut(list) {
            let before = std::mem::take(items);
            let sorted = ordered(before.clone(), order, &before, key);
            *items = sorted;
        }
    }
}

/// The items that the patch names come as it names them; each other one before the first of them
/// that stood behind it, or else at the end.
fn ordered(items: Vec<Value>, order: &[Value], before: &[Value], key: &str) -> Vec<Value> {
    let id = |item: &Value| if key.is_empty() { item.clone() } else { item[key].clone() };
    let place = |list: &[Value], item: &Value| list.iter().position(|o| id(o) == id(item));
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    let mut from = 0;
    for item in others {
        let own = place(before, &item);
        let behind = |other: &Value| own.is_some_and(|own| place(before, other) > Some(own));
        let found = named[from..].iter().position(behind);
        let at = found.map_or(named.len(), |found| from + found);
        named.insert(at, item);
        from = at + 1;
    }
    named
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut object: Value, patch: Value) -> Value {
        merge(&mut object, &patch).unwrap();
        object
    }

    #[test]
    fn containers_are_merged_by_name() {
        let object = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}});
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
            "containers": [{"name": "a", "image": "2"}],
        }});
        assert_eq!(
            merged(object, patch),
            json!({"spec": {"containers": [{"name": "b", "image": "1"}, {"name": "a", "image": "2"}]}})
        );
    }

    #[test]
    fn items_are_deleted_by_directive_and_nulls_delete_fields() {
        let object =
            json!({"spec": {"volumes": [{"name": "a"}, {"name": "b"}], "x": 1, "args": [1, 2]}});
        let patch = json!({"spec": {"volumes": [{"name": "a", "$patch": "delete"}], "x": null, "args": [3]}});
        assert_eq!(
            merged(object, patch),
            json!({"spec": {"volumes": [{"name": "b"}], "args": [3]}})
        );
    }

    #[test]
    fn replace_and_retain_keys() {
        let object = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        assert_eq!(
            merged(object.clone(), patch),
            json!({"spec": {"strategy": {"type": "Recreate"}}})
        );
        let patch = json!({"spec": {"strategy": {"$patch": "replace", "type": "X"}}});
        assert_eq!(merged(object, patch), json!({"spec": {"strategy": {"type": "X"}}}));
    }

    #[test]
    fn finalizers_are_a_set() {
        let object = json!({"metadata": {"finalizers": ["a", "b"]}});
        let patch = json!({"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["b", "c"],
        }});
        assert_eq!(merged(object, patch), json!({"metadata": {"finalizers": ["b", "c"]}}));
    }

    #[test]
    fn unknown_directives_and_missing_keys_are_refused() {
        let mut object = json!({"spec": {"containers": [{"name": "a"}]}});
        assert!(merge(&mut object, &json!({"spec": {"$patch": "odd"}})).is_err());
        assert!(merge(&mut object, &json!({"spec": {"containers": [{"image": "x"}]}})).is_err());
        assert!(merge(&mut object, &json!([])).is_err());
    }
}
