//! Garbage collection by owner, and what becomes of a namespace that is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::api::{Api, is_deleting, text, uri};
use crate::store::Event;

/// An object, with the path of its API and its plural.
struct Found {
    path: String,
    plural: String,
    object: Arc<Value>,
}

impl Found {
    fn uri(&self) -> String {
        uri(&self.path, &self.plural, &self.object)
    }

    fn owners(&self) -> &[Value] {
        let owners = self.object["metadata"]["ownerReferences"].as_array();
        owners.map(Vec::as_slice).unwrap_or_default()
    }

    fn has_finalizer(&self, name: &str) -> bool {
        let finalizers = self.object["metadata"]["finalizers"].as_array();
        finalizers.is_some_and(|finalizers| finalizers.iter().any(|finalizer| finalizer == name))
    }
}

/// Whether a write may leave something to collect: one that ends an object or begins to, or that
/// changes whose it is.
pub(super) fn matters(event: &Event) -> bool {
    let owners = |object: &Arc<Value>| object["metadata"].get("ownerReferences").cloned();
    event.after.as_ref().is_none_or(|after| {
        is_deleting(after) || owners(after) != event.before.as_ref().and_then(owners)
    })
}

pub(super) async fn sync(api: &Api) {
    let Some(all) = everything(api).await else { return };
    let by_uid: BTreeMap<&str, &Found> =
        all.iter().map(|found| (text(&found.object["metadata"]["uid"]), found)).collect();
    for found in &all {
        orphan_or_collect(api, found, &by_uid).await;
    }
    for found in all.iter().filter(|found| is_deleting(&found.object)) {
        finish(api, found, &all).await;
        if found.plural == "namespaces" {
            empty(api, found, &all).await;
        }
    }
}

/// Every object of every kind; none if one of the lists can't be had, since what isn't seen might
/// own something.
async fn everything(api: &Api) -> Option<Vec<Found>> {
    let mut all = Vec::new();
    for (path, plural) in api.resources() {
        for object in api.list(&format!("{path}/{plural}")).await? {
            all.push(Found { path: path.clone(), plural: plural.clone(), object });
        }
    }
    Some(all)
}

/// An object none of whose owners is left goes.
async fn orphan_or_collect(api: &Api, found: &Found, by_uid: &BTreeMap<&str, &Found>) {
    let owners = found.owners();
    if owners.is_empty() || is_deleting(&found.object) {
        return;
    }
    let owner = |reference: &Value| by_uid.get(text(&reference["uid"])).copied();
    let waits =
        |owner: &Found| is_deleting(&owner.object) && owner.has_finalizer("foregroundDeletion");
    let solid = |reference: &&Value| owner(reference).is_some_and(|owner| !waits(owner));
    if !owners.iter().any(|reference| solid(&reference)) {
        let uid = &found.object["metadata"]["uid"];
        // What fails is tried again with the next round.
        let _ = api.delete(&found.uri(), uid, None).await;
    }
}

/// Finalizers of the collector itself: `orphan`, and waiting for dependents.
async fn finish(api: &Api, found: &Found, all: &[Found]) {
    let uid = &found.object["metadata"]["uid"];
    let depends = |other: &&Found| other.owners().iter().any(|owner| owner["uid"] == *uid);
    if found.has_finalizer("orphan") {
        for other in all.iter().filter(depends) {
            let kept: Vec<&Value> =
                other.owners().iter().filter(|owner| owner["uid"] != *uid).collect();
            let version = &other.object["metadata"]["resourceVersion"];
            let patch = json!({"metadata": {"resourceVersion": version, "ownerReferences": kept}});
            if api.merge(&other.uri(), &patch).await.is_err() {
                return;
            }
        }
        release(api, found, "orphan").await;
    }
    let blocks = |other: &&Found| {
        let blocks = |owner: &Value| owner["uid"] == *uid && owner["blockOwnerDeletion"] == true;
        other.owners().iter().any(blocks)
    };
    if found.has_finalizer("foregroundDeletion") && !all.iter().any(|other| blocks(&other)) {
        release(api, found, "foregroundDeletion").await;
    }
}

async fn release(api: &Api, found: &Found, finalizer: &str) {
    let list = found.object["metadata"]["finalizers"].as_array().into_iter().flatten();
    let kept: Vec<&Value> = list.filter(|name| *name != finalizer).collect();
    let version = &found.object["metadata"]["resourceVersion"];
    let patch = json!({"metadata": {"resourceVersion": version, "finalizers": kept}});
    let _ = api.merge(&found.uri(), &patch).await;
}

/// A namespace that is deleted takes what it holds with it.
async fn empty(api: &Api, namespace: &Found, all: &[Found]) {
    let name = &namespace.object["metadata"]["name"];
    let inside: Vec<&Found> =
        all.iter().filter(|found| found.object["metadata"]["namespace"] == *name).collect();
    for found in inside.iter().filter(|found| !is_deleting(&found.object)) {
        let uid = &found.object["metadata"]["uid"];
        let _ = api.delete(&found.uri(), uid, None).await;
    }
    if inside.is_empty() {
        let mut object = Value::clone(&namespace.object);
        object["spec"]["finalizers"] = json!([]);
        let _ = api.replace(&(namespace.uri() + "/finalize"), &object).await;
    }
}
