//! Pieces of OpenAPI schema that Rust types don't say by themselves.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, ValidationRule,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// CEL rules with their messages, as `x-kubernetes-validations` wants them.
pub(super) fn rules(rules: &[(&str, &str)]) -> Value {
    rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect()
}

/// The same as typed rules, for the root of a definition.
pub(super) fn root_rules(rules: &[(&str, &str)]) -> Vec<ValidationRule> {
    rules
        .iter()
        .map(|(rule, message)| ValidationRule {
            rule: (*rule).to_owned(),
            message: Some((*message).to_owned()),
            ..ValidationRule::default()
        })
        .collect()
}

/// An instant, RFC 3339.
pub(super) fn instant(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// An instant that may be absent.
pub(super) fn optional_instant(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "nullable": true})
}

/// An object that the API server keeps as it is.
pub(super) fn opaque_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Doc comments are wrapped for the source; `kubectl explain` wraps for the terminal.
pub(super) fn unwrap_lines(schema: &mut JSONSchemaProps) {
    if let Some(text) = schema.description.as_mut() {
        let paragraphs = text.split("\n\n").map(|p| p.replace('\n', " "));
        *text = paragraphs.collect::<Vec<_>>().join("\n\n");
    }
    schema.properties.iter_mut().flat_map(|p| p.values_mut()).for_each(unwrap_lines);
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(items)) => unwrap_lines(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(unwrap_lines),
        None => {}
    }
}
