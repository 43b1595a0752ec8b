//! Pod templates as raw JSON: equality, name and images. Never typed structs, which drop the fields
//! they don't know.

use serde_json::Value;

use crate::plan::digest;

/// The label by which a ReplicaSet's pods are told apart.
pub const HASH_LABEL: &str = "pod-template-hash";

/// The template without the hash label, empty maps and nulls: what is compared.
#[must_use]
pub fn normal(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    prune(&mut template);
    template
}

/// Nil equals empty, as for the deployment controller.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|key, v| match v {
                Value::Null => false,
                Value::Array(list) => !list.is_empty(),
                // Elsewhere an empty map means something by being there: `emptyDir: {}`.
                Value::Object(map) => {
                    !map.is_empty()
                        || !matches!(key.as_str(), "labels" | "annotations" | "metadata")
                }
                _ => true,
            });
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

/// Whether two templates mean the same, whatever their hash label.
#[must_use]
pub fn equal(a: &Value, b: &Value) -> bool {
    normal(a) == normal(b)
}

/// A digest of what is compared.
#[must_use]
pub fn template_digest(template: &Value) -> String {
    digest(&normal(template))
}

/// The hash label for a canary made by us: "sf" and 8 hexadecimal digits. Native hashes have no
/// vowel and none of 0, 1 and 3, so almost none can look like this; equality is never decided by it.
#[must_use]
pub fn canary_hash(template: &Value) -> String {
    let digest = template_digest(template);
    format!("sf{}", &digest[..8])
}

/// The images of the template's containers.
#[must_use]
pub fn images(template: &Value) -> Vec<String> {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array);
    let containers = containers.into_iter().flatten().take(20);
    containers.filter_map(|c| c.get("image")?.as_str().map(str::to_owned)).collect()
}

/// The template with the hash label set.
#[must_use]
pub fn with_hash(template: &Value, hash: &str) -> Value {
    let mut template = template.clone();
    template["metadata"]["labels"][HASH_LABEL] = Value::from(hash);
    template
}

/// The template without the hash label, as it stands in a Deployment.
#[must_use]
pub fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equality_ignores_the_hash_and_what_is_empty() {
        let a = json!({"metadata": {"labels": {"app": "x"}, "creationTimestamp": null}, "spec": {"containers": [{"image": "x:1"}]}});
        let b = json!({"metadata": {"labels": {"app": "x", HASH_LABEL: "abc"}, "annotations": {}}, "spec": {"containers": [{"image": "x:1"}], "volumes": []}});
        assert!(equal(&a, &b));
        assert_eq!(template_digest(&a), template_digest(&b));
        let other = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"image": "x:2"}]}});
        assert!(!equal(&a, &other));
        assert!(canary_hash(&a).starts_with("sf") && canary_hash(&a).len() == 10);
    }

    #[test]
    fn a_field_nobody_knows_still_makes_a_difference() {
        let a = json!({"spec": {"containers": [{"image": "x", "newField": 1}]}});
        let b = json!({"spec": {"containers": [{"image": "x", "newField": 2}]}});
        assert!(!equal(&a, &b));
        let disk = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
        assert_eq!(normal(&disk)["spec"]["volumes"][0]["emptyDir"], json!({}));
    }
}
