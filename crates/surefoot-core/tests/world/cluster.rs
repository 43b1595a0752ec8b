//! The native controllers, as small as they can be: Deployment, ReplicaSet with its pods, and
//! EndpointSlice.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use surefoot_core::observed::REVISION;
use surefoot_core::template::{HASH_LABEL, equal, template_digest, with_hash};

use super::store::{Store, number, text};

/// Pods are ready this many seconds after they were made.
const WARM: i64 = 5;
/// The garbage collector takes the pods of a deleted ReplicaSet this many seconds later.
const LINGER: i64 = 10;

#[derive(Debug, Clone)]
struct Pod {
    name: String,
    hash: String,
    born: i64,
    ready: bool,
}

#[derive(Default)]
pub struct Cluster {
    /// By the ReplicaSet's uid.
    pods: BTreeMap<String, Vec<Pod>>,
    /// ReplicaSets that are gone, and since when: their pods go later.
    gone: BTreeMap<String, i64>,
    made: u32,
    /// Until when a version's pods aren't ready, by hash.
    pub broken: BTreeMap<String, i64>,
    /// The mesh's controller.
    pub mesh: Mesh,
}

fn owned(set: &Value, uid: &str) -> bool {
    let owners = set.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|o| text(o, "/uid") == uid)
}

fn never_ready(set: &Value) -> bool {
    text(set, "/spec/template/spec/containers/0/image").ends_with("never-ready")
}

/// What the mesh's controller makes of HTTPRoutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mesh {
    /// It follows them.
    #[default]
    Follows,
    /// It finds something wrong with them.
    Refuses,
    /// It isn't there.
    Silent,
}

/// The mesh's controller looks at HTTPRoutes as they are now, and says what it makes of them.
fn accept(store: &mut Store, mesh: Mesh) {
    if mesh == Mesh::Silent {
        return;
    }
    for route in store.list("HTTPRoute") {
        let condition = |kind: &str| {
            let seen = &route["metadata"]["generation"];
            let (status, reason) = match (mesh, kind) {
                (Mesh::Refuses, "ResolvedRefs") => ("False", "BackendNotFound"),
                _ => ("True", kind),
            };
            json!({"type": kind, "status": status, "reason": reason, "observedGeneration": seen})
        };
        let parents = json!([{
            "parentRef": route["spec"]["parentRefs"][0],
            "controllerName": "istio.io/gateway-controller",
            "conditions": [condition("Accepted"), condition("ResolvedRefs")],
        }]);
        let name = text(&route, "/metadata/name");
        store.edit("HTTPRoute", name, |route| route["status"]["parents"] = parents);
    }
}

impl Cluster {
    /// Every controller once around, at `now` seconds.
    pub fn tick(&mut self, store: &mut Store, now: i64) {
        let deployment = store.names.deployment.clone();
        if let Some(deployment) = store.get("Deployment", &deployment) {
            deploy(store, &deployment);
        }
        self.replicas(store, now);
        self.slices(store);
        accept(store, self.mesh);
        if let Some(deployment) = store.get("Deployment", &deployment) {
            report(store, &deployment);
        }
    }

    /// Pods by their ReplicaSets.
    fn replicas(&mut self, store: &mut Store, now: i64) {
        let sets = store.list("ReplicaSet");
        let lives = |uid: &String| sets.iter().any(|s| text(s, "/metadata/uid") == uid);
        for uid in self.pods.keys().filter(|uid| !lives(uid)) {
            self.gone.entry(uid.clone()).or_insert(now);
        }
        self.pods.retain(|uid, _| lives(uid) || now - self.gone[uid] < LINGER);
        self.gone.retain(|uid, _| self.pods.contains_key(uid));
        for set in sets {
            let name = text(&set, "/metadata/name").to_owned();
            let hash = set["metadata"]["labels"][HASH_LABEL].as_str().unwrap_or("").to_owned();
            let want = usize::try_from(number(&set, "/spec/replicas")).unwrap_or(0);
            let pods = self.pods.entry(text(&set, "/metadata/uid").to_owned()).or_default();
            pods.truncate(want);
            while pods.len() < want {
                self.made += 1;
                let name = format!("{name}-{:05}", self.made);
                pods.push(Pod { name, hash: hash.clone(), born: now, ready: false });
            }
            let down = self.broken.get(&hash).is_some_and(|until| now < *until);
            for pod in pods.iter_mut() {
                pod.ready = now - pod.born >= WARM && !down && !never_ready(&set);
            }
            let ready = pods.iter().filter(|p| p.ready).count();
            let status = json!({"replicas": want, "readyReplicas": ready});
            store.edit("ReplicaSet", &name, |set| set["status"] = status);
        }
    }

    /// One slice a Service.
    fn slices(&self, store: &mut Store) {
        for service in store.list("Service") {
            let name = text(&service, "/metadata/name");
            let pin = service["spec"]["selector"][HASH_LABEL].as_str();
            let pods = self.pods.values().flatten().filter(|p| pin.is_none_or(|pin| p.hash == pin));
            let endpoints: Vec<Value> = pods
                .map(|p| {
                    json!({
                        "targetRef": {"kind": "Pod", "name": p.name},
                        "conditions": {"ready": p.ready},
                    })
                })
                .collect();
            let slice = format!("{name}-slice");
            if store.get("EndpointSlice", &slice).is_none() {
                let labels = json!({"kubernetes.io/service-name": name});
                let made = json!({
                    "kind": "EndpointSlice", "metadata": {"name": slice, "labels": labels},
                    "endpoints": [],
                });
                store.create(made).expect("it isn't there");
            }
            store.edit("EndpointSlice", &slice, |slice| slice["endpoints"] = json!(endpoints));
        }
    }
}

/// Its own ReplicaSets, oldest first.
fn sets_of(store: &Store, deployment: &Value) -> Vec<Arc<Value>> {
    let uid = text(deployment, "/metadata/uid");
    let mut sets: Vec<_> = store.list("ReplicaSet").into_iter().filter(|s| owned(s, uid)).collect();
    sets.sort_by_key(|s| text(s, "/metadata/creationTimestamp").to_owned());
    sets
}

fn newest(sets: &[Arc<Value>], deployment: &Value) -> Option<Arc<Value>> {
    let template = &deployment["spec"]["template"];
    sets.iter().find(|s| equal(&s["spec"]["template"], template)).cloned()
}

fn scale(store: &mut Store, set: &Value, replicas: i64) {
    let (name, size) = (text(set, "/metadata/name"), number(set, "/spec/replicas"));
    if size != replicas {
        store.edit("ReplicaSet", name, |set| set["spec"]["replicas"] = json!(replicas));
    }
}

/// The deployment controller: while paused it makes nothing new, scales the one active ReplicaSet,
/// and brings the old ones to 0 once the new one is full.
fn deploy(store: &mut Store, deployment: &Value) {
    let replicas = number(deployment, "/spec/replicas");
    let paused = deployment["spec"]["paused"] == json!(true);
    let mut sets = sets_of(store, deployment);
    let mut new = newest(&sets, deployment);
    if new.is_none() && !paused {
        new = Some(native(store, deployment));
        sets = sets_of(store, deployment);
    }
    if let Some(new) = &new {
        let name = text(new, "/metadata/name");
        store.edit("ReplicaSet", name, |set| {
            set["metadata"]["annotations"][REVISION] = json!("1");
        });
    }
    let full = |set: &Value| {
        number(set, "/spec/replicas") == replicas
            && number(set, "/status/readyReplicas") >= replicas
    };
    let active: Vec<_> = sets.iter().filter(|s| number(s, "/spec/replicas") > 0).collect();
    let olds = |new: &Value| {
        let uid = text(new, "/metadata/uid").to_owned();
        sets.iter().filter(move |s| text(s, "/metadata/uid") != uid)
    };
    match (&new, paused) {
        (Some(new), false) => {
            scale(store, new, replicas);
            if full(new) {
                olds(new).for_each(|old| scale(store, old, 0));
            }
        }
        (_, true) if active.len() <= 1 => {
            let chosen = active.first().copied().or(new.as_ref()).or(sets.last());
            if let Some(chosen) = chosen {
                scale(store, chosen, replicas);
            }
        }
        (Some(new), true) if full(new) => olds(new).for_each(|old| scale(store, old, 0)),
        // Scaled while an adopted one and old ones stand side by side: each its share.
        (Some(new), true) => scale(store, new, replicas),
        _ => {}
    }
}

fn native(store: &mut Store, deployment: &Value) -> Arc<Value> {
    let template = &deployment["spec"]["template"];
    let hash = format!("n{}", &template_digest(template)[..8]);
    let name = format!("{}-{hash}", text(deployment, "/metadata/name"));
    let set = json!({
        "kind": "ReplicaSet",
        "metadata": {
            "name": name, "labels": {"app": "shop", HASH_LABEL: hash}, "annotations": {},
            "ownerReferences": [{
                "kind": "Deployment", "uid": text(deployment, "/metadata/uid"), "controller": true,
            }],
        },
        "spec": {"replicas": 0, "template": with_hash(template, &hash)},
    });
    store.create(set).expect("its name is its template's")
}

/// `status` of the Deployment.
fn report(store: &mut Store, deployment: &Value) {
    let sets = sets_of(store, deployment);
    let sum = |field: &str| sets.iter().map(|s| number(s, field)).sum::<i64>();
    let updated = newest(&sets, deployment).map_or(0, |s| number(&s, "/status/replicas"));
    let status = json!({
        "observedGeneration": number(deployment, "/metadata/generation"),
        "replicas": sum("/status/replicas"),
        "updatedReplicas": updated,
        "availableReplicas": sum("/status/readyReplicas"),
    });
    let name = text(deployment, "/metadata/name");
    store.edit("Deployment", name, |deployment| deployment["status"] = status);
}
