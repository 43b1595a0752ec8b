//! The definitions as YAML, one file a kind, and the reference of their fields.

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use surefoot_core::api;

/// Every definition as (file name, YAML).
///
/// # Errors
/// When a definition doesn't serialise, which would be a mistake in its types.
pub fn files() -> Result<Vec<(String, String)>> {
    api::crds()
        .into_iter()
        .map(|crd| {
            let name = format!("{}.yaml", crd.spec.names.plural);
            let value = serde_json::to_value(&crd).context("a definition must serialise")?;
            let yaml = serde_saphyr::to_string(&value).context("a definition must be YAML")?;
            Ok((name, yaml))
        })
        .collect()
}

/// The reference of every field, in Markdown, from the same definitions.
///
/// # Errors
/// As [`files`].
pub fn reference() -> Result<String> {
    let mut text = String::from(
        "# Reference\n\nEvery kind and field of `surefoot.dev/v1alpha1`, generated from the types by \
         `make crds`. `kubectl explain` shows the same.\n",
    );
    for crd in api::crds() {
        let names = &crd.spec.names;
        let short = names.short_names.as_deref().unwrap_or_default().join(", ");
        let root = crd.spec.versions.first().and_then(|v| v.schema.as_ref());
        let root = root
            .and_then(|s| s.open_api_v3_schema.clone())
            .context("a definition needs a schema")?;
        let about = root.description.clone().unwrap_or_default();
        text.push_str(&format!(
            "\n## {}\n\n{about} Scope: {}. Short name: `{short}`.\n\n",
            names.kind, crd.spec.scope
        ));
        text.push_str("| field | type | |\n|---|---|---|\n");
        for part in ["spec", "status"] {
            if let Some(schema) = root.properties.as_ref().and_then(|p| p.get(part)) {
                rows(schema, part, &mut text);
            }
        }
    }
    Ok(text)
}

fn rows(schema: &JSONSchemaProps, path: &str, text: &mut String) {
    let required = schema.required.as_deref().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let (kind, inner) = kind(field);
        let about = field.description.as_deref().unwrap_or_default().replace("\n\n", " ");
        let needed = if required.contains(name) { " (required)" } else { "" };
        text.push_str(&format!("| `{path}` | {kind} | {}{needed} |\n", about.replace('|', "\\|")));
        rows(inner, &path, text);
    }
}

/// A field's type in words, and the schema of what is in it.
fn kind(field: &JSONSchemaProps) -> (String, &JSONSchemaProps) {
    let values = field.enum_.iter().flatten();
    let values: Vec<String> =
        values.map(|v| v.0.to_string().replace('"', "")).filter(|v| v != "null").collect();
    if !values.is_empty() {
        return (values.join(", "), field);
    }
    match (field.type_.as_deref(), field.items.as_ref()) {
        (Some("array"), Some(JSONSchemaPropsOrArray::Schema(items))) => {
            (format!("list of {}", kind(items).0), items)
        }
        (Some("string"), _) if field.format.as_deref() == Some("date-time") => {
            ("time".to_owned(), field)
        }
        (Some(kind), _) => (kind.to_owned(), field),
        (None, _) => ("any".to_owned(), field),
    }
}
