//! Objects as tables, which is how kubectl prints them.

mod builtin;
mod cells;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::{Column, Kind};
use crate::status::Refusal;

/// In which form a client wants an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    #[default]
    Whole,
    /// As the rows of a table.
    Table,
    /// Its metadata alone.
    Metadata,
}

impl Form {
    /// By the `Accept` header: the first that can be had.
    ///
    /// # Errors
    /// 406 when there is none.
    pub fn wanted(accept: &str) -> Result<Form, Refusal> {
        if accept.is_empty() {
            return Ok(Form::Whole);
        }
        for choice in accept.split(',') {
            let parts: Vec<&str> = choice.split(';').map(str::trim).collect();
            let media = parts.first().copied().unwrap_or_default();
            if !matches!(media, "application/json" | "application/*" | "*/*" | "text/plain") {
                continue;
            }
            let form = parts.iter().find_map(|part| part.strip_prefix("as="));
            match form {
                None => return Ok(Form::Whole),
                Some("Table") => return Ok(Form::Table),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => {
                    return Ok(Form::Metadata);
                }
                Some("APIGroupDiscoveryList") => return Ok(Form::Whole),
                Some(_) => {}
            }
        }
        let message =
            format!("only the following media types are accepted: application/json, not {accept}");
        Err(Refusal::new(406, "NotAcceptable", message))
    }

    /// Brings an object or a list into this form.
    pub fn apply(self, value: &mut Value, kind: &Kind, now: Timestamp, include: Option<&str>) {
        match self {
            Form::Whole => {}
            Form::Table => *value = table(value, kind, now, include),
            Form::Metadata => *value = bare(value),
        }
    }
}

fn bare(value: &Value) -> Value {
    let of = |object: &Value, kind: &str| {
        json!({
            "kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
        })
    };
    let Some(items) = value["items"].as_array() else { return of(value, "PartialObjectMetadata") };
    let mut list = of(value, "PartialObjectMetadataList");
    without_empty_token(&mut list["metadata"]);
    list["items"] = match items.len() {
        0 => Value::Null,
        _ => items.iter().map(|item| of(item, "PartialObjectMetadata")).collect(),
    };
    list
}

/// Where there are no more pages, these lists have no `continue`.
fn without_empty_token(metadata: &mut Value) {
    if metadata["continue"] == ""
        && let Some(fields) = metadata.as_object_mut()
    {
        fields.remove("continue");
    }
}

fn table(value: &Value, kind: &Kind, now: Timestamp, include: Option<&str>) -> Value {
    let objects = match value["items"].as_array() {
        Some(items) => items.iter().collect(),
        None => vec![value],
    };
    let columns = columns(kind);
    let rows: Vec<Value> =
        objects.into_iter().map(|object| row(object, kind, &columns, now, include)).collect();
    let heads: Vec<Value> = columns.iter().map(head).collect();
    let mut metadata = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
    for name in ["continue", "remainingItemCount"] {
        if let Some(found) = value["metadata"].get(name) {
            metadata[name] = found.clone();
        }
    }
    without_empty_token(&mut metadata);
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": heads, "rows": rows,
    })
}

/// The columns of a kind: its own behind its name.
fn columns(kind: &Kind) -> Vec<Column> {
    if !kind.is_custom() {
        return builtin::columns(&kind.plural);
    }
    let mut columns = vec![column("Name", "string")];
    if kind.columns.is_empty() {
        let path = ".metadata.creationTimestamp".to_owned();
        columns.push(Column { path, ..column("Age", "date") });
    }
    columns.extend(kind.columns.iter().cloned());
    columns
}

fn column(name: &str, kind: &str) -> Column {
    Column {
        name: name.into(),
        kind: kind.into(),
        description: String::new(),
        priority: 0,
        path: String::new(),
    }
}

fn head(column: &Column) -> Value {
    let format = if column.name == "Name" { "name" } else { "" };
    let description = if column.description.is_empty() && !column.path.is_empty() {
        format!("Custom resource definition column (in JSONPath format): {}", column.path)
    } else {
        column.description.clone()
    };
    json!({
        "name": column.name, "type": column.kind, "format": format,
        "description": description, "priority": column.priority,
    })
}

fn row(
    object: &Value,
    kind: &Kind,
    columns: &[Column],
    now: Timestamp,
    include: Option<&str>,
) -> Value {
    let cells: Vec<Value> = if kind.is_custom() {
        columns.iter().map(|column| cells::custom(object, column, now)).collect()
    } else {
        builtin::cells(&kind.plural, &kind.stored(object.clone()), now)
    };
    let mut row = json!({"cells": cells});
    if let Some(conditions) = builtin::conditions(&kind.plural, object) {
        row["conditions"] = conditions;
    }
    match include {
        Some("None") => {}
        Some("Object") => {
            let mut whole = object.clone();
            whole["kind"] = kind.kind.clone().into();
            whole["apiVersion"] = kind.api_version().into();
            row["object"] = whole;
        }
        _ => row["object"] = bare(&json!({"metadata": object["metadata"]})),
    }
    row
}
