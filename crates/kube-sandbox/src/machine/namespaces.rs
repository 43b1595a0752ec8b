//! Namespaces: what they hold goes with them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{How, Machine, meta};
use crate::request::Strictness;
use crate::store::{Key, Resource};

/// Where a namespace lies.
pub(super) fn key(name: &str) -> Key {
    let (namespace, name) = (String::new(), name.to_owned());
    Key { resource: Resource::new("", "namespaces"), namespace, name }
}

/// What the server adds to a new namespace.
pub(super) fn dress(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if object["metadata"]["labels"].is_null() {
        meta::set(object, "labels", json!({}));
    }
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    object["spec"] = json!({"finalizers": ["kubernetes"]});
    object["status"] = json!({"phase": "Active"});
}

impl Machine {
    /// Adds one of the namespaces that every cluster has.
    pub(super) fn add_namespace(&mut self, name: &str, now: Timestamp) {
        let uid = self.dice.uid();
        let mut object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "uid": uid, "creationTimestamp": super::seconds(now)},
        });
        dress(&mut object);
        self.store.put(key(name), object);
    }
}

impl How {
    /// As the server itself writes.
    pub(super) fn own(now: Timestamp) -> How {
        How {
            now,
            manager: "kube-apiserver".into(),
            strictness: Strictness::Ignore,
            dry_run: false,
            scaled: None,
            subresource: None,
        }
    }
}
