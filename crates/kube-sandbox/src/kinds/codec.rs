//! Reading objects of built-in kinds through Kubernetes' own types: what these don't know is
//! dropped, as the real server drops it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Through a type and back.
pub(super) fn through<T: DeserializeOwned + Serialize>(value: Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(value).map_err(|error| error.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

/// Metadata, with the paths of its unknown fields.
pub(super) fn metadata(value: Value) -> Result<(Value, Vec<String>), String> {
    if value.is_null() {
        return Ok((Value::Object(serde_json::Map::new()), Vec::new()));
    }
    let mut input = value.clone();
    let mut read = through::<ObjectMeta>(value)?;
    // The type knows neither; the server ignores the one and prints the other as it came.
    if let Some(fields) = input.as_object_mut() {
        fields.remove("selfLink");
    }
    let mut unknown = Vec::new();
    differences(&input, &read, &mut "metadata".to_owned(), &mut unknown);
    without_empty(&mut read);
    Ok((read, unknown))
}

/// An object, with the paths of its unknown fields.
pub(super) fn typed(
    mut object: Value,
    read: fn(Value) -> Result<Value, String>,
) -> Result<(Value, Vec<String>), String> {
    without_nulls(&mut object);
    quantities(&mut object);
    let mut known = read(object.clone())?;
    let mut unknown = Vec::new();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("metadata");
    }
    differences(&object, &known, &mut String::new(), &mut unknown);
    without_empty(&mut known);
    Ok((known, unknown))
}

fn differences(input: &Value, known: &Value, path: &mut String, unknown: &mut Vec<String>) {
    let length = path.len();
    match (input, known) {
        (Value::Object(input), Value::Object(known)) => {
            for (name, field) in input {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                match known.get(name) {
                    Some(known) => differences(field, known, path, unknown),
                    None if field.is_null() => {}
                    None => unknown.push(path.clone()),
                }
                path.truncate(length);
            }
        }
        (Value::Array(input), Value::Array(known)) => {
            for (index, (input, known)) in input.iter().zip(known).enumerate() {
                path.push_str(&format!("[{index}]"));
                differences(input, known, path, unknown);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// What a schema gives as default may be empty or null, and means that.
const DEFAULT: &str = "default";

/// A null is a field that isn't there.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, field| name == DEFAULT || !field.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Maps that Kubernetes leaves out when they are empty; other empty objects mean something.
const OMITTED: [&str; 9] = [
    "annotations",
    "binaryData",
    "data",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "requests",
    "stringData",
];

/// Empty lists and maps are left out, as Kubernetes' own types leave them out.
fn without_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.iter_mut().filter(|(name, _)| *name != DEFAULT).for_each(|(_, field)| {
                without_empty(field);
            });
            fields.retain(|name, field| match field {
                _ if name == DEFAULT => true,
                Value::Array(items) => !items.is_empty(),
                Value::Object(inner) => !inner.is_empty() || !OMITTED.contains(&name.as_str()),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty),
        _ => {}
    }
}

/// Quantities may be written as numbers.
fn quantities(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                let holds = matches!(
                    name.as_str(),
                    "limits" | "requests" | "capacity" | "allocatable" | "overhead"
                );
                match field {
                    Value::Object(inner) if holds => inner.values_mut().for_each(text),
                    other => quantities(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(quantities),
        _ => {}
    }
}

fn text(value: &mut Value) {
    if value.is_number() {
        *value = value.to_string().into();
    }
}
