//! The policy controller: what it makes of HTTPRoutes, it writes on them.
//!
//! As Linkerd's does, it names parents in full, keeps what other controllers have said, takes a route
//! with filters that have no effect all the same, and never says of which generation its word is.

use std::sync::Arc;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::rules;
use super::seen::Seen;
use crate::clock;

const NAME: &str = "linkerd.io/policy-controller";

/// Write statuses whenever something changes.
pub async fn run(seen: Arc<Seen>) {
    let mut changes = seen.changes();
    while changes.changed().await.is_ok() {
        for route in seen.http_routes() {
            let Some(parents) = verdict(&seen, &route) else { continue };
            let name = route["metadata"]["name"].as_str().unwrap_or_default();
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": route["metadata"]["resourceVersion"]},
                "status": {"parents": parents},
            }));
            let parameters = PatchParams::default();
            // One that has been written meanwhile is seen again.
            match seen.routes.patch_status(name, &parameters, &patch).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
                Err(error) => eprintln!("linkerd: status of {name}: {error:#}"),
            }
        }
    }
}

/// The new list of what is said of a route, if it isn't what it says.
fn verdict(seen: &Seen, route: &Value) -> Option<Vec<Value>> {
    if !rules::parses(route) {
        return None;
    }
    let said = route["status"]["parents"].as_array().cloned().unwrap_or_default();
    let (ours, mut all): (Vec<Value>, Vec<Value>) =
        said.into_iter().partition(|parent| parent["controllerName"] == NAME);
    let new: Vec<Value> = rules::parents(route).map(|parent| of(seen, route, parent)).collect();
    if timeless(&ours) == timeless(&new) {
        return None;
    }
    all.extend(new);
    Some(all)
}

/// The same without the times of conditions.
fn timeless(parents: &[Value]) -> Vec<Value> {
    let mut parents = parents.to_vec();
    for parent in &mut parents {
        for condition in parent["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastTransitionTime"] = Value::Null;
        }
    }
    parents
}

fn of(seen: &Seen, route: &Value, parent: &Value) -> Value {
    let service = parent["name"].as_str().unwrap_or_default();
    let accepted = match seen.cluster_ip(service).as_deref() {
        Some(ip) if !["", "None"].contains(&ip) => ("True", "Accepted", ""),
        Some(_) => ("False", "NoMatchingParent", "parent service must have a ClusterIP"),
        None => ("False", "NoMatchingParent", ""),
    };
    let mut named = rules::named(route).into_iter();
    let resolved = named.find_map(|backend| match backend {
        None => Some(("False", "InvalidKind", "")),
        Some(name) if seen.cluster_ip(&name).is_none() => Some(("False", "BackendNotFound", "")),
        Some(_) => None,
    });
    let now = clock::wall().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, (status, reason, message): (&str, &str, &str)| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": now,
        })
    };
    let mut written = json!({
        "group": "core", "kind": "Service", "namespace": seen.namespace, "name": service,
    });
    if !parent["port"].is_null() {
        written["port"] = parent["port"].clone();
    }
    json!({
        "parentRef": written,
        "controllerName": NAME,
        "conditions": [
            condition("Accepted", accepted),
            condition("ResolvedRefs", resolved.unwrap_or(("True", "ResolvedRefs", ""))),
        ],
    })
}
