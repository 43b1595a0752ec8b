//! The native controllers: Deployment, ReplicaSet with its pods, EndpointSlice. What they do follows
//! every write at once; pods are ready when they are made. That they may take their time is left to
//! the random walks, and keeps this search small.

use std::sync::Arc;

use serde_json::{Value, json};
use surefoot_core::observed::REVISION;
use surefoot_core::template::{HASH_LABEL, equal, template_digest, with_hash};
use surefoot_core::trace::{Event, Names};
use surefoot_core::write::Kind;

use crate::shared::{Object, number, text};
use crate::store::{APP, Objects, Store};

/// Every controller, until none has anything left to do.
pub(crate) fn settle(store: &mut Store, names: &Names) {
    loop {
        let before = store.objects.clone();
        if let Some(deployment) = store.get(Kind::Deployment, APP).cloned() {
            deploy(store, names, &deployment);
        }
        for set in list(store) {
            let want = number(&set, "/spec/replicas");
            let status = json!({"replicas": want, "readyReplicas": want});
            let name = text(&set, "/metadata/name");
            store.edit(names, Kind::ReplicaSet, name, |set| set["status"] = status);
        }
        if let Some(deployment) = store.get(Kind::Deployment, APP).cloned() {
            report(store, names, &deployment);
        }
        if Arc::ptr_eq(&before, &store.objects) || before == store.objects {
            break;
        }
    }
    for service in store.list(Kind::Service).cloned().collect::<Vec<_>>() {
        let mut slice = slice(&store.objects, &service);
        slice["metadata"]["resourceVersion"] = json!("0");
        store.see(Event::of(&slice, false, names));
    }
}

/// The EndpointSlice of a Service, as it follows from Services and ReplicaSets.
pub(crate) fn slice(objects: &Objects, service: &Value) -> Value {
    let pin = service["spec"]["selector"][HASH_LABEL].as_str();
    let name = text(service, "/metadata/name");
    let sets = objects.iter().filter(|(t, _)| t.kind == Kind::ReplicaSet).map(|(_, set)| set);
    let sets =
        sets.filter(|set| pin.is_none_or(|pin| set["metadata"]["labels"][HASH_LABEL] == pin));
    let pods = sets.flat_map(|set| {
        let set_name = text(set, "/metadata/name");
        (0..number(set, "/status/readyReplicas")).map(move |n| format!("{set_name}-{n:05}"))
    });
    let endpoints: Vec<Value> = pods
        .map(
            |pod| json!({"targetRef": {"kind": "Pod", "name": pod}, "conditions": {"ready": true}}),
        )
        .collect();
    json!({
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-slice"), "namespace": crate::store::NAMESPACE,
            "labels": {"kubernetes.io/service-name": name},
        },
        "endpoints": endpoints,
    })
}

fn list(store: &Store) -> Vec<Object> {
    let mut sets: Vec<Object> = store.list(Kind::ReplicaSet).cloned().collect();
    sets.sort_by(|a, b| {
        let born = |set: &Object| text(set, "/metadata/creationTimestamp").to_owned();
        born(a).cmp(&born(b))
    });
    sets
}

/// The Deployment's own, oldest first.
fn sets_of(store: &Store, deployment: &Value) -> Vec<Object> {
    let uid = text(deployment, "/metadata/uid");
    let owned = |set: &Object| {
        let owners = set.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        owners.into_iter().flatten().any(|o| text(o, "/uid") == uid)
    };
    list(store).into_iter().filter(owned).collect()
}

fn newest(sets: &[Object], deployment: &Value) -> Option<Object> {
    let template = &deployment["spec"]["template"];
    sets.iter().find(|s| equal(&s["spec"]["template"], template)).cloned()
}

fn scale(store: &mut Store, names: &Names, set: &Value, replicas: i64) {
    let name = text(set, "/metadata/name");
    store.edit(names, Kind::ReplicaSet, name, |set| set["spec"]["replicas"] = json!(replicas));
}

/// While paused it makes nothing new, scales the one active ReplicaSet, and brings the old ones to 0
/// once the new one is full.
fn deploy(store: &mut Store, names: &Names, deployment: &Value) {
    let replicas = number(deployment, "/spec/replicas");
    let paused = deployment["spec"]["paused"] == json!(true);
    let mut sets = sets_of(store, deployment);
    let mut new = newest(&sets, deployment);
    if new.is_none() && !paused {
        new = native(store, names, deployment);
        sets = sets_of(store, deployment);
    }
    if let Some(new) = &new {
        let name = text(new, "/metadata/name");
        store.edit(names, Kind::ReplicaSet, name, |set| {
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
            scale(store, names, new, replicas);
            if full(new) {
                olds(new).for_each(|old| scale(store, names, old, 0));
            }
        }
        (_, true) if active.len() <= 1 => {
            let chosen = active.first().copied().or(new.as_ref()).or(sets.last());
            if let Some(chosen) = chosen {
                scale(store, names, chosen, replicas);
            }
        }
        (Some(new), true) if full(new) => {
            olds(new).for_each(|old| scale(store, names, old, 0));
        }
        (Some(new), true) => scale(store, names, new, replicas),
        _ => {}
    }
}

fn native(store: &mut Store, names: &Names, deployment: &Value) -> Option<Object> {
    let template = &deployment["spec"]["template"];
    let hash = format!("n{}", &template_digest(template)[..8]);
    let set = json!({
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{APP}-{hash}"), "labels": {"app": APP, HASH_LABEL: hash},
            "annotations": {},
            "ownerReferences": [{
                "kind": "Deployment", "uid": text(deployment, "/metadata/uid"), "controller": true,
            }],
        },
        "spec": {"replicas": 0, "template": with_hash(template, &hash)},
    });
    store.create(names, Kind::ReplicaSet, set).ok()
}

/// `status` of the Deployment.
fn report(store: &mut Store, names: &Names, deployment: &Value) {
    let sets = sets_of(store, deployment);
    let sum = |field: &str| sets.iter().map(|s| number(s, field)).sum::<i64>();
    let updated = newest(&sets, deployment).map_or(0, |s| number(&s, "/status/replicas"));
    let status = json!({
        "observedGeneration": number(deployment, "/metadata/generation"),
        "replicas": sum("/status/replicas"),
        "updatedReplicas": updated,
        "availableReplicas": sum("/status/readyReplicas"),
    });
    store.edit(names, Kind::Deployment, APP, |deployment| deployment["status"] = status);
}
