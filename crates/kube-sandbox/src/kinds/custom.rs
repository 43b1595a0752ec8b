//! Kinds that a `CustomResourceDefinition` defines.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, Generation, Kind, Scale, Shape};
use crate::schema::parse;
use crate::status::Cause;

/// The kinds of a definition: one for each version that is served.
///
/// # Errors
/// What is wrong with the definition, a field each.
pub fn custom(definition: &Value) -> Result<Vec<Kind>, Vec<Cause>> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut causes = name_causes(definition);
    let mut kinds = Vec::new();
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &Value::Null, why));
    }
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        let node = &version["schema"]["openAPIV3Schema"];
        if node.is_null() {
            causes.push(Cause::required(path, "schemas are required"));
            continue;
        }
        match parse(node, &path) {
            Ok(schema) if version["served"] == true => {
                kinds.push(kind(spec, version, text(&version["name"]), Arc::new(schema)));
            }
            Ok(_) => {}
            Err(wrong) => causes.extend(wrong),
        }
    }
    if causes.is_empty() { Ok(kinds) } else { Err(causes) }
}

fn name_causes(definition: &Value) -> Vec<Cause> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut causes = Vec::new();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let expected = format!("{plural}.{group}");
    let name = &definition["metadata"]["name"];
    if *name != expected.as_str() {
        let why = format!("must be spec.names.plural+\".\"+spec.group, {expected:?}");
        causes.push(Cause::invalid("metadata.name", name, why));
    }
    for (path, value) in [
        ("spec.group", &spec["group"]),
        ("spec.names.plural", &spec["names"]["plural"]),
        ("spec.names.kind", &spec["names"]["kind"]),
    ] {
        if value.as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required(path, ""));
        }
    }
    let scopes = [Value::from("Cluster"), Value::from("Namespaced")];
    if !scopes.contains(&spec["scope"]) {
        causes.push(Cause::unsupported("spec.scope", &spec["scope"], &scopes));
    }
    causes
}

fn kind(spec: &Value, version: &Value, name: String, schema: Arc<crate::schema::Schema>) -> Kind {
    let names = &spec["names"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(text).collect()
    };
    let kind = text(&names["kind"]);
    let or = |value: &Value, other: String| value.as_str().map_or(other, str::to_owned);
    let fields = version["selectableFields"].as_array().into_iter().flatten();
    Kind {
        group: text(&spec["group"]),
        version: name,
        list_kind: or(&names["listKind"], format!("{kind}List")),
        plural: text(&names["plural"]),
        singular: or(&names["singular"], kind.to_lowercase()),
        short_names: texts(&names["shortNames"]),
        categories: texts(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        status: !version["subresources"]["status"].is_null(),
        scale: scale(&version["subresources"]["scale"]),
        generation: Generation::Spec,
        unconditional: false,
        returns_deleted: false,
        fields: fields.map(|f| text(&f["jsonPath"]).trim_start_matches('.').to_owned()).collect(),
        columns: columns(&version["additionalPrinterColumns"]),
        shape: Shape::Custom(schema),
        kind,
    }
}

fn scale(node: &Value) -> Option<Scale> {
    let pointer = |name: &str| Some(node[name].as_str()?.replace('.', "/"));
    Some(Scale {
        spec: pointer("specReplicasPath")?,
        status: pointer("statusReplicasPath")?,
        selector: pointer("labelSelectorPath"),
    })
}

fn columns(nodes: &Value) -> Vec<Column> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes = nodes.as_array().into_iter().flatten();
    let column = |node: &Value| Column {
        name: text(&node["name"]),
        kind: text(&node["type"]),
        description: text(&node["description"]),
        priority: node["priority"].as_i64().unwrap_or(0),
        path: text(&node["jsonPath"]),
    };
    nodes.map(column).collect()
}

/// A definition's defaults, and its status once its kinds are served.
pub fn established(definition: &mut Value, now: Timestamp) {
    let spec = &mut definition["spec"];
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    let names = &mut spec["names"];
    if names["singular"].is_null() {
        names["singular"] = kind.to_lowercase().into();
    }
    if names["listKind"].is_null() {
        names["listKind"] = format!("{kind}List").into();
    }
    if spec["conversion"].is_null() {
        spec["conversion"] = json!({"strategy": "None"});
    }
    let accepted = spec["names"].clone();
    let versions = spec["versions"].as_array().into_iter().flatten();
    let stored = versions.filter(|version| version["storage"] == true);
    let stored: Vec<Value> = stored.map(|version| version["name"].clone()).collect();
    let since = crate::machine::seconds(now);
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "lastTransitionTime": since,
            "reason": reason, "message": message,
        })
    };
    definition["status"] = json!({
        "acceptedNames": accepted,
        "storedVersions": stored,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    });
}
