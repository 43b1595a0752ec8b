//! Pruning and defaulting.

use serde_json::Value;

use super::Schema;

/// Drops what the schema doesn't know; `unknown` gets the paths.
pub fn prune(value: &mut Value, schema: &Schema, unknown: &mut Vec<String>) {
    prune_at(value, schema, &mut String::new(), true, unknown);
}

/// What every object has at its root, and embedded ones too.
const ENVELOPE: [&str; 3] = ["apiVersion", "kind", "metadata"];

fn prune_at(
    value: &mut Value,
    schema: &Schema,
    path: &mut String,
    is_object: bool,
    unknown: &mut Vec<String>,
) {
    match value {
        Value::Object(fields) => {
            let envelope = is_object || schema.embedded;
            let keeps = schema.keeps_unknown();
            fields.retain(|name, field| {
                if envelope && ENVELOPE.contains(&name.as_str()) {
                    return true;
                }
                let length = path.len();
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                let known = match schema.field(name) {
                    Some(schema) => {
                        prune_at(field, schema, path, false, unknown);
                        true
                    }
                    None if keeps => true,
                    None => {
                        unknown.push(path.clone());
                        false
                    }
                };
                path.truncate(length);
                known
            });
        }
        Value::Array(items) => {
            let Some(schema) = schema.item() else { return };
            for (index, item) in items.iter_mut().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                prune_at(item, schema, path, false, unknown);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// Fills in defaults; a null where none may be counts as missing. One without default stays, for
/// validation to name it.
pub fn default(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            for (name, schema) in &schema.properties {
                let missing = match fields.get(name) {
                    None => true,
                    Some(Value::Null) => !schema.nullable,
                    Some(_) => false,
                };
                if !missing {
                    continue;
                }
                if let Some(default) = &schema.default {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, field) in fields.iter_mut() {
                if let Some(schema) = schema.field(name) {
                    default(field, schema);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.item() else { return };
            items.iter_mut().for_each(|item| default(item, schema));
        }
        _ => {}
    }
}
