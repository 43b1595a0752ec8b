//! The steps as YAML with comments, for a file or for kubectl apply.

use anyhow::{Context, Result};
use serde_json::Value;

use super::propose::Step;
use crate::cli::page::wrap;

/// Of a line, comments included.
const WIDTH: usize = 100;
/// Begins a comment.
const MARK: &str = "# ";

/// What only the server writes, and what kubectl keeps for itself.
const OF_THE_SERVER: [&str; 5] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"];

/// The object as somebody would write it.
fn written(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(all) = object.as_object_mut() {
        all.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !OF_THE_SERVER.contains(&key.as_str()));
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        if let Some(annotations) = annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        metadata.retain(|_, value| *value != serde_json::json!({}));
    }
    object
}

/// All of them, in the order in which they are to be applied.
///
/// # Errors
/// When an object is no YAML.
pub fn pages(steps: &[Step]) -> Result<String> {
    let page = |step: &Step| -> Result<String> {
        let why: String = wrap(&step.why, WIDTH - MARK.len())
            .iter()
            .map(|line| format!("{MARK}{line}\n"))
            .collect();
        let yaml =
            serde_saphyr::to_string(&written(&step.object)).context("an object must be YAML")?;
        Ok(format!("{why}{yaml}"))
    };
    Ok(steps.iter().map(page).collect::<Result<Vec<_>>>()?.join("---\n"))
}
