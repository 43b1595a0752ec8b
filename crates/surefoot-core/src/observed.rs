//! What is seen in the cluster, read from raw objects. No judgement here.

use jiff::Timestamp;
use serde_json::Value;

use crate::api::RolloutActionSpec;
use crate::api::rollout::RolloutSpec;
use crate::mark::Mark;
use crate::plan::PlanError;
use crate::route::{RouteProblem, Weights};
use crate::template::HASH_LABEL;

/// Label on a Deployment whose new templates are held.
pub const MANAGED: &str = "surefoot.dev/managed";
/// Annotation that the admission policy sets together with `spec.paused`.
pub const HELD: &str = "surefoot.dev/held";
/// Annotation of the deployment controller on ReplicaSets it has looked at.
pub const REVISION: &str = "deployment.kubernetes.io/revision";

/// Everything that a decision looks at, at one moment.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The spec with templates filled in, or why it can't be.
    pub spec: Result<RolloutSpec, PlanError>,
    /// The Deployment.
    pub deployment: Option<Deployment>,
    /// ReplicaSets that the Deployment or the Rollout owns, oldest first.
    pub replica_sets: Vec<ReplicaSet>,
    /// The Service that clients call.
    pub apex: Option<Service>,
    /// The Service that reaches stable, with its endpoints.
    pub stable: Option<Service>,
    /// The Service that reaches the canary.
    pub canary: Option<Service>,
    /// The route.
    pub route: Result<Route, RouteProblem>,
    /// Commands for this Rollout (by uid), oldest first.
    pub actions: Vec<RolloutActionSpec>,
    /// How new templates are held.
    pub hold: HoldMode,
    /// Ids of Events known to be delivered.
    pub delivered: Vec<String>,
    /// The namespace is being deleted.
    pub namespace_terminating: bool,
    /// Canary pods are being taken away (evicted, preempted, their node drained) until then.
    pub disrupted_until: Option<Timestamp>,
}

/// How new templates are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldMode {
    /// An admission policy pauses the Deployment in the request that changes its template.
    Policy {
        /// A dry run has shown that it bites.
        ready: bool,
    },
    /// The Deployment stays paused at rest.
    PausedAtRest,
}

/// A Deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed_generation: i64,
    /// `spec.replicas`.
    pub replicas: u32,
    /// `spec.paused`.
    pub paused: bool,
    /// Our label is on it.
    pub managed: bool,
    /// Our policy held it.
    pub held: bool,
    /// `spec.template`, raw.
    pub template: Value,
    /// `status.updatedReplicas`.
    pub updated: u32,
    /// `status.replicas`.
    pub total: u32,
    /// `status.availableReplicas`.
    pub available: u32,
}

/// A ReplicaSet.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaSet {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Its controller.
    pub owner: Owner,
    /// Its `pod-template-hash`.
    pub hash: String,
    /// `spec.template`, raw.
    pub template: Value,
    /// `spec.replicas`.
    pub replicas: u32,
    /// `status.replicas`: pods that aren't terminating.
    pub current: u32,
    /// `status.readyReplicas`.
    pub ready: u32,
    /// The deployment controller has numbered it.
    pub numbered: bool,
    /// It is being deleted.
    pub deleting: bool,
}

/// Whose a ReplicaSet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The Deployment's.
    Deployment,
    /// The Rollout's.
    Rollout,
}

fn disruption(pod: &Value) -> Option<&Value> {
    let conditions = pod.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|c| {
        c.get("type").is_some_and(|t| t == "DisruptionTarget")
            && c.get("status").is_some_and(|s| s == "True")
    })
}

/// Whether a pod is being taken away by something that doesn't blame it, as its condition
/// DisruptionTarget tells.
#[must_use]
pub fn is_disrupted(pod: &Value) -> bool {
    disruption(pod).is_some()
}

/// Until when: the end of its grace, or when it was marked as long as it isn't deleted.
#[must_use]
pub fn disrupted_until(pod: &Value) -> Option<Timestamp> {
    let marked = disruption(pod)?.get("lastTransitionTime");
    pod.pointer("/metadata/deletionTimestamp").or(marked)?.as_str()?.parse().ok()
}

/// A Service and its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The hash its selector is pinned to, if it is.
    pub pin: Option<String>,
    /// Its pods.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the pod.
    pub pod: String,
    /// It takes traffic.
    pub ready: bool,
}

impl Service {
    /// How many ready pods of the ReplicaSet it reaches.
    #[must_use]
    pub fn ready_of(&self, replica_set: &str) -> u32 {
        let ready = self.endpoints.iter().filter(|e| e.ready && is_pod_of(&e.pod, replica_set));
        u32::try_from(ready.count()).unwrap_or(u32::MAX)
    }

    /// How many ready pods it reaches.
    #[must_use]
    pub fn ready(&self) -> u32 {
        u32::try_from(self.endpoints.iter().filter(|e| e.ready).count()).unwrap_or(u32::MAX)
    }
}

/// Whether a pod's name is one that the ReplicaSet gives: its own, cut to what a generated name may
/// hold (58 characters), and five more.
#[must_use]
pub fn is_pod_of(pod: &str, replica_set: &str) -> bool {
    let base = format!("{replica_set}-");
    let base = base.get(..58).unwrap_or(&base);
    pod.strip_prefix(base).is_some_and(|rest| rest.len() == 5)
}

/// The route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its weights.
    pub weights: Weights,
    /// Since when this process has seen these weights.
    pub since: Timestamp,
    /// Its timeout, seconds.
    pub timeout: Option<f64>,
    /// Who last changed it besides us, by its field managers.
    pub manager: Option<String>,
    /// Its resourceVersion.
    pub version: String,
    /// What we wrote last on it.
    pub wrote: Option<Mark>,
}

fn count(object: &Value, pointer: &str) -> u32 {
    object.pointer(pointer).and_then(Value::as_u64).and_then(|n| n.try_into().ok()).unwrap_or(0)
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

impl Deployment {
    /// Read a raw Deployment.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        Self {
            uid: text(object, "/metadata/uid"),
            generation: object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0),
            observed_generation: object
                .pointer("/status/observedGeneration")
                .and_then(Value::as_i64)
                .unwrap_or(0),
            replicas: count(object, "/spec/replicas"),
            paused: object.pointer("/spec/paused").and_then(Value::as_bool).unwrap_or(false),
            managed: object
                .pointer("/metadata/labels")
                .and_then(|l| l.get(MANAGED))
                .is_some_and(|v| v == "true"),
            held: annotation(object, HELD).is_some(),
            template: object.pointer("/spec/template").cloned().unwrap_or(Value::Null),
            updated: count(object, "/status/updatedReplicas"),
            total: count(object, "/status/replicas"),
            available: count(object, "/status/availableReplicas"),
        }
    }

    /// Whether nothing of its own rollout is left to do.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.observed_generation >= self.generation
            && self.total == self.replicas
            && (self.updated == self.replicas || self.paused)
    }
}

impl ReplicaSet {
    /// Read a raw ReplicaSet; `None` when its controller is neither of the two.
    #[must_use]
    pub fn of(object: &Value, deployment_uid: &str, rollout_uid: &str) -> Option<Self> {
        let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
        let controller = owners.iter().find(|o| o.get("controller") == Some(&Value::Bool(true)))?;
        let owner = match controller.get("uid")?.as_str()? {
            uid if uid == deployment_uid => Owner::Deployment,
            uid if uid == rollout_uid => Owner::Rollout,
            _ => return None,
        };
        Some(Self {
            name: text(object, "/metadata/name"),
            uid: text(object, "/metadata/uid"),
            owner,
            hash: object
                .pointer("/metadata/labels")
                .and_then(|l| l.get(HASH_LABEL))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            template: object.pointer("/spec/template").cloned().unwrap_or(Value::Null),
            replicas: count(object, "/spec/replicas"),
            current: count(object, "/status/replicas"),
            ready: count(object, "/status/readyReplicas"),
            numbered: annotation(object, REVISION).is_some(),
            deleting: object.pointer("/metadata/deletionTimestamp").is_some(),
        })
    }
}

impl Service {
    /// Read a raw Service and its EndpointSlices.
    #[must_use]
    pub fn of(object: &Value, slices: &[Value]) -> Self {
        let endpoints = slices
            .iter()
            .filter_map(|s| s.get("endpoints")?.as_array())
            .flatten()
            .filter(|e| e.pointer("/targetRef/kind").is_some_and(|k| k == "Pod"))
            .map(|e| Endpoint {
                pod: text(e, "/targetRef/name"),
                // Absent means ready (discovery/v1).
                ready: e.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true),
            })
            .collect();
        let pin = object.pointer("/spec/selector").and_then(|s| s.get(HASH_LABEL)?.as_str());
        Self { name: text(object, "/metadata/name"), pin: pin.map(str::to_owned), endpoints }
    }
}

impl Observed {
    /// The ReplicaSet of this name.
    #[must_use]
    pub fn replica_set(&self, name: &str) -> Option<&ReplicaSet> {
        self.replica_sets.iter().find(|r| r.name == name)
    }

    /// The canary's share that the route gives, in per cent, where it can be read.
    #[must_use]
    pub fn weight(&self) -> Option<i32> {
        self.route.as_ref().ok()?.weights.canary_percent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_evicted_pod_is_disrupted_until_its_grace_ends() {
        let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"});
        let mut pod = json!({"status": {"conditions": [condition("Ready")]}});
        assert_eq!((is_disrupted(&pod), disrupted_until(&pod)), (false, None));
        pod["status"]["conditions"] = json!([condition("Ready"), condition("DisruptionTarget")]);
        assert_eq!(disrupted_until(&pod), "2030-01-01T00:00:00Z".parse().ok());
        pod["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:30Z");
        assert_eq!(disrupted_until(&pod), "2030-01-01T00:00:30Z".parse().ok());
    }
}
