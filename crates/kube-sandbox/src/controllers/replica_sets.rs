//! ReplicaSets: as many pods as they ask for.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::api::{
    Api, count, has_condition, is_deleting, number, owned_by, same_namespace, text, uri,
};
use super::claim::Claim;
use crate::selectors::Selector;

const APPS: &str = "/apis/apps/v1";
const CORE: &str = "/api/v1";
/// More pods than this are made with the next round, as the real controller has bursts.
const BURST: usize = 500;

pub(super) async fn sync(api: &Api, now: Timestamp) -> Option<Timestamp> {
    let sets = api.list("/apis/apps/v1/replicasets").await?;
    let pods = api.list("/api/v1/pods").await?;
    let mut next = None;
    for set in &sets {
        let own = claim(api, set, &pods).await;
        if !is_deleting(set) {
            manage(api, set, &own).await;
        }
        let at = report(api, set, &own, now).await;
        next = [next, at].into_iter().flatten().min();
    }
    next
}

/// The pods of a set: it adopts those without owner and lets go of those that no longer fit.
async fn claim<'a>(api: &Api, set: &Value, pods: &'a [Arc<Value>]) -> Vec<&'a Value> {
    let selector = Selector::of_workload(&set["spec"]["selector"]);
    let mut own = Vec::new();
    for pod in pods.iter().filter(|pod| same_namespace(pod, set)) {
        let claim = Claim::of(set, &selector, pod);
        if matches!(claim, Claim::Own | Claim::Adopt) {
            own.push(&**pod);
        }
        if let Some(patch) = claim.patch(pod, owned_by(set, "apps/v1", "ReplicaSet")) {
            // Another round sees to it if this one was too late.
            let _ = api.merge(&uri(CORE, "pods", pod), &patch).await;
        }
    }
    own
}

fn is_active(pod: &Value) -> bool {
    !is_deleting(pod) && !matches!(text(&pod["status"]["phase"]), "Failed" | "Succeeded")
}

async fn manage(api: &Api, set: &Value, own: &[&Value]) {
    let wanted = usize::try_from(number(&set["spec"]["replicas"])).unwrap_or(0);
    let mut active: Vec<&Value> = own.iter().copied().filter(|pod| is_active(pod)).collect();
    let namespace = text(&set["metadata"]["namespace"]);
    for _ in active.len()..wanted.min(active.len() + BURST) {
        let made = api.create(&format!("{CORE}/namespaces/{namespace}/pods"), &pod(set)).await;
        if let Ok(pod) = made {
            let note = format!("Created pod: {}", text(&pod["metadata"]["name"]));
            api.event(set, "ReplicaSet", "apps/v1", "SuccessfulCreate", &note).await;
        }
    }
    // Those go first that serve least: not ready, then younger.
    active.sort_by_key(|pod| {
        let created = text(&pod["metadata"]["creationTimestamp"]).to_owned();
        (
            has_condition(pod, "Ready"),
            std::cmp::Reverse(created),
            text(&pod["metadata"]["name"]).to_owned(),
        )
    });
    for pod in active.iter().take(active.len().saturating_sub(wanted)) {
        let gone = api.delete(&uri(CORE, "pods", pod), &pod["metadata"]["uid"], None).await;
        if gone.is_ok() {
            let note = format!("Deleted pod: {}", text(&pod["metadata"]["name"]));
            api.event(set, "ReplicaSet", "apps/v1", "SuccessfulDelete", &note).await;
        }
    }
}

/// A new pod of a set's template.
fn pod(set: &Value) -> Value {
    let template = &set["spec"]["template"];
    let mut metadata = json!({
        "generateName": format!("{}-", text(&set["metadata"]["name"])),
        "ownerReferences": owned_by(set, "apps/v1", "ReplicaSet"),
    });
    for name in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(name) {
            metadata[name] = value.clone();
        }
    }
    json!({"metadata": metadata, "spec": template["spec"]})
}

/// Since when a pod is ready.
fn ready_since(pod: &Value) -> Option<Timestamp> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|c| c["type"] == "Ready" && c["status"] == "True")?;
    ready["lastTransitionTime"].as_str()?.parse().ok()
}

/// Writes the status; when it will change by time alone.
async fn report(api: &Api, set: &Value, own: &[&Value], now: Timestamp) -> Option<Timestamp> {
    let least = SignedDuration::from_secs(number(&set["spec"]["minReadySeconds"]));
    let active: Vec<&Value> = own.iter().copied().filter(|pod| is_active(pod)).collect();
    let ready: Vec<Timestamp> = active.iter().filter_map(|pod| ready_since(pod)).collect();
    let ends: Vec<Timestamp> =
        ready.iter().filter_map(|since| since.checked_add(least).ok()).collect();
    let available = ends.iter().filter(|end| **end <= now).count();
    let fit = Selector::of_workload(&json!({
        "matchLabels": set["spec"]["template"]["metadata"]["labels"],
    }));
    let labelled = active.iter().filter(|pod| fit.matches(pod)).count();
    let size = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let mut status = json!({
        "replicas": active.len(), "observedGeneration": set["metadata"]["generation"],
    });
    count(&mut status, "fullyLabeledReplicas", size(labelled));
    count(&mut status, "readyReplicas", size(ready.len()));
    count(&mut status, "availableReplicas", size(available));
    if let Some(conditions) = set["status"].get("conditions") {
        status["conditions"] = conditions.clone();
    }
    if set["status"] != status {
        let mut set = set.clone();
        set["status"] = status;
        // A conflict means that there is a newer state to look at.
        let _ = api.replace(&(uri(APPS, "replicasets", &set) + "/status"), &set).await;
    }
    ends.into_iter().filter(|end| *end > now).min()
}
