//! The steps as YAML with comments, for a file or for kubectl apply.

use anyhow::{Context, Result};
use serde_json::Value;

use super::propose::Step;

/// Of a line, comments included.
const WIDTH: usize = 100;

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
        let why: String = textwrap(&step.why).iter().map(|line| format!("# {line}\n")).collect();
        let yaml =
            serde_saphyr::to_string(&written(&step.object)).context("an object must be YAML")?;
        Ok(format!("{why}{yaml}"))
    };
    Ok(steps.iter().map(page).collect::<Result<Vec<_>>>()?.join("---\n"))
}

fn textwrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut();
        match last {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() + 3 <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
