//! What is seen in the cluster, read from raw objects. No judgement here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::RolloutActionSpec;
use crate::api::rollout::{RequestMatch, RolloutSpec};
use crate::claim::{Claim, Rival};
use crate::mark::Mark;
use crate::notify::Trouble;
use crate::plan::PlanError;
use crate::refused::Refused;
use crate::route::subset::{self, Labels};
use crate::route::{self, BREAK_GLASS, OWNER, RouteProblem, Weights, annotation};
use crate::routing::Routing;
use crate::split::SplitProblem;
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
    /// The Service or subset that reaches stable, with its endpoints.
    pub stable: Option<Service>,
    /// The Service or subset that reaches the canary.
    pub canary: Option<Service>,
    /// Whether Services and DestinationRules can tell the two versions apart.
    pub split: Result<(), SplitProblem>,
    /// What of the Rollout's things is another Rollout's.
    pub claim: Option<Claim>,
    /// Other Rollouts that name some of the same things.
    pub rivals: Vec<Rival>,
    /// What the routes say together.
    pub route: Result<Route, RouteProblem>,
    /// Each of them.
    pub routes: Vec<OneRoute>,
    /// Commands for this Rollout (by uid), oldest first.
    pub actions: Vec<Action>,
    /// Somebody brought the traffic back by hand, past every controller.
    pub break_glass: Option<BreakGlass>,
    /// How new templates are held.
    pub hold: HoldMode,
    /// What is known of the delivery of news.
    pub delivery: Delivery,
    /// The namespace is being deleted.
    pub namespace_terminating: bool,
    /// Canary pods are being taken away (evicted, preempted, their node drained) until then.
    pub disrupted_until: Option<Timestamp>,
    /// What the API server refused us last.
    pub refused: Option<Refused>,
}

/// What is known of the delivery of news.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Ids of notices whose Events have been written.
    pub events: BTreeSet<String>,
    /// Channels and ids of the notices that they have.
    pub told: BTreeSet<(String, String)>,
    /// What keeps channels from getting theirs.
    pub troubles: BTreeMap<String, Trouble>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// What is asked for.
    pub spec: RolloutActionSpec,
}

impl Action {
    /// Those of the raw RolloutActions that are for the Rollout, oldest first. One that can't be
    /// read asks for nothing.
    ///
    /// `creationTimestamp` has whole seconds; within one the resourceVersion tells, which is the
    /// order in which the API server took them unless somebody has touched one since, and then the
    /// name, so that every look sees the same order. Nothing unsafe hangs on it: an abort counts
    /// wherever it stands, and what was used up is known by uid.
    #[must_use]
    pub fn list<'v>(
        objects: impl IntoIterator<Item = &'v Value>,
        rollout: &str,
        uid: &str,
    ) -> Vec<Self> {
        let read = |object: &Value| {
            let spec: RolloutActionSpec =
                serde_json::from_value(object.get("spec")?.clone()).ok()?;
            let version = text(object, "/metadata/resourceVersion").parse().unwrap_or(0u64);
            let name = text(object, "/metadata/name");
            let place = (text(object, "/metadata/creationTimestamp"), version, name.clone());
            let action = Self { name, uid: text(object, "/metadata/uid"), spec };
            (action.spec.rollout == rollout && action.spec.uid == uid).then_some((place, action))
        };
        let mut actions: Vec<_> = objects.into_iter().filter_map(read).collect();
        actions.sort_by(|(a, _), (b, _)| a.cmp(b));
        actions.into_iter().map(|(_, action)| action).collect()
    }
}

/// Who brought the traffic back to stable by hand, as an annotation on the route says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakGlass {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// The release that was under way for them.
    pub release: i64,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl BreakGlass {
    /// What the annotation of a raw route says. One that can't be read is taken for the present
    /// release: whoever wrote it was in a hurry.
    #[must_use]
    pub fn of(route: &Value) -> Option<Self> {
        let written = annotation(route, BREAK_GLASS)?;
        Some(serde_json::from_str(written).unwrap_or_else(|_| Self {
            by: "somebody".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            release: i64::MAX,
            reason: None,
        }))
    }
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
    /// The name of the Rollout that it belongs to.
    pub owner: Option<String>,
    /// `spec.selector.matchLabels`.
    pub selector: Labels,
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

/// A Service, or a subset of one, and its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The hash it is pinned to, if it is.
    pub pin: Option<String>,
    /// It is a subset with labels that aren't the Deployment's own.
    pub foreign: bool,
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
    pod.strip_prefix(&pod_prefix(replica_set)).is_some_and(|rest| rest.len() == 5)
}

/// What the names of a ReplicaSet's pods begin with.
#[must_use]
pub fn pod_prefix(replica_set: &str) -> String {
    let mut prefix = format!("{replica_set}-");
    // A name of ours is ASCII: any place is a boundary.
    prefix.truncate(58);
    prefix
}

/// One of the routes, as it is read alone.
#[derive(Debug, Clone, PartialEq)]
pub struct OneRoute {
    /// The traffic by this route alone.
    pub routing: Routing,
    /// What it says.
    pub found: Result<Route, RouteProblem>,
    /// Somebody broke the glass on it.
    pub broken: bool,
    /// As it was read; null where it isn't there.
    pub raw: Value,
    /// Its namespace.
    pub namespace: String,
}

impl OneRoute {
    /// Whether exactly the chosen requests go to the canary whatever its weight.
    ///
    /// # Errors
    /// See [`route::carries`].
    pub fn carries(&self, chosen: &[RequestMatch]) -> Result<bool, RouteProblem> {
        route::carries(&self.raw, &self.routing, &self.namespace, chosen)
    }

    /// Whether nobody has changed our entries for these requests; see [`route::is_untouched`].
    #[must_use]
    pub fn is_untouched(&self, chosen: &[RequestMatch]) -> bool {
        route::is_untouched(&self.raw, &self.routing, &self.namespace, chosen)
    }
}

/// The route; of several what they say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its weights.
    pub weights: Weights,
    /// Some requests go to the canary whatever its weight, by an entry of ours.
    pub chosen: bool,
    /// Since when this process has seen these weights.
    pub since: Timestamp,
    /// Its longest timeout, seconds.
    pub timeout: Option<f64>,
    /// Whether the mesh does what it says.
    pub fit: Result<(), RouteProblem>,
    /// Whether the mesh has taken it up as it is now; else what it says.
    pub accepted: Result<(), String>,
    /// Who last changed it besides us, by its field managers.
    pub manager: Option<String>,
    /// The Rollout that it belongs to, by its annotation.
    pub owner: Option<String>,
    /// Its resourceVersion.
    pub version: String,
    /// What we wrote last on it.
    pub wrote: Option<Mark>,
}

impl Route {
    /// Whether the canary gets nothing by it.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.weights.canary_percent() == Some(0) && !self.chosen
    }

    /// What several routes say together: they are moved as one, so that each weight counts, and the mesh
    /// follows all or none. One that isn't there sends nothing anywhere; no weight rises without it.
    ///
    /// # Errors
    /// What is wrong with the first that is there and can't be read, or with the first of all when none
    /// is there.
    #[must_use]
    pub fn together(routes: &[OneRoute]) -> Option<Result<Self, RouteProblem>> {
        let unreadable = |one: &&OneRoute| one.found.as_ref().is_err_and(|p| !p.is_missing());
        if let Some(one) = routes.iter().find(unreadable) {
            return Some(one.found.clone());
        }
        let missing = routes.iter().find_map(|one| one.found.as_ref().err());
        let mut found = routes.iter().filter_map(|one| one.found.as_ref().ok());
        let Some(mut all) = found.next().cloned() else {
            return missing.map(|problem| Err(problem.clone()));
        };
        for one in found {
            all.weights.0.extend(&one.weights.0);
            all.chosen |= one.chosen;
            all.since = all.since.max(one.since);
            // None: as long as a route lets a request take that sets no timeout.
            all.timeout = all.timeout.zip(one.timeout).map(|(a, b)| a.max(b));
            all.fit = all.fit.and(one.fit.clone());
            all.accepted = all.accepted.and(one.accepted.clone());
            all.owner = all.owner.or(one.owner.clone());
        }
        if let Some(problem) = missing {
            all.fit = Err(problem.clone());
        }
        Some(Ok(all))
    }
}

fn count(object: &Value, pointer: &str) -> u32 {
    object.pointer(pointer).and_then(Value::as_u64).and_then(|n| n.try_into().ok()).unwrap_or(0)
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
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
            owner: annotation(object, OWNER).map(str::to_owned),
            selector: object
                .pointer("/spec/selector/matchLabels")
                .and_then(Value::as_object)
                .map(subset::texts)
                .unwrap_or_default(),
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
        let name = text(object, "/metadata/name");
        Self { name, pin: pin.map(str::to_owned), foreign: false, endpoints }
    }

    /// Read a subset of `apex` from a raw DestinationRule: of the Service's endpoints those whose
    /// pods carry the hash that the subset is pinned to. `None` when the rule has no such subset.
    #[must_use]
    pub fn of_subset(
        rule: &Value,
        subset: &str,
        apex: &Service,
        sets: &[ReplicaSet],
        selector: &Labels,
    ) -> Option<Self> {
        let labels = subset::labels(rule, subset)?;
        let pin = labels.get(HASH_LABEL).cloned();
        let selected = |endpoint: &&Endpoint| {
            let of = |set: &ReplicaSet| is_pod_of(&endpoint.pod, &set.name);
            pin.as_ref().is_none_or(|hash| sets.iter().any(|set| set.hash == *hash && of(set)))
        };
        let endpoints = apex.endpoints.iter().filter(selected).cloned().collect();
        let own = subset::without_hash(&labels);
        let foreign = own.iter().any(|(key, value)| selector.get(key) != Some(value));
        Some(Self { name: subset.to_owned(), pin, foreign, endpoints })
    }
}

impl Observed {
    /// A namespace in which there is nothing of what the spec names.
    #[must_use]
    pub fn nothing(spec: RolloutSpec, hold: HoldMode) -> Self {
        let routing = Routing::of(&spec.traffic);
        Self {
            spec: Ok(spec),
            deployment: None,
            replica_sets: Vec::new(),
            apex: None,
            stable: None,
            canary: None,
            split: Ok(()),
            claim: None,
            rivals: Vec::new(),
            route: Err(routing.problem(route::missing(routing.kind))),
            routes: Vec::new(),
            actions: Vec::new(),
            break_glass: None,
            hold,
            delivery: Delivery::default(),
            namespace_terminating: false,
            disrupted_until: None,
            refused: None,
        }
    }

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
    use serde_json::json;

    use super::*;
    use crate::route::{Fault, Pair};

    #[test]
    fn several_routes_say_together_what_the_worst_of_them_says() {
        let spec: crate::api::rollout::Traffic = serde_json::from_value(json!({
            "mesh": "istio", "service": "shop",
            "routes": [{"kind": "VirtualService", "name": "a"}, {"kind": "HTTPRoute", "name": "b"}],
        }))
        .unwrap();
        let routing = Routing::of(&spec);
        let one = |canary: i64, second: i64, timeout: Option<f64>| {
            Ok(Route {
                weights: Weights(vec![Pair { stable: 100 - canary, canary }]),
                chosen: false,
                since: Timestamp::from_second(second).unwrap(),
                timeout,
                fit: Ok(()),
                accepted: Ok(()),
                manager: None,
                owner: None,
                version: String::new(),
                wrote: None,
            })
        };
        let together = |found: [Result<Route, RouteProblem>; 2]| {
            let each = routing.each().zip(found);
            let each = each.map(|(routing, found)| OneRoute {
                routing,
                found,
                broken: false,
                raw: Value::Null,
                namespace: String::new(),
            });
            Route::together(&each.collect::<Vec<_>>()).unwrap()
        };
        let both = together([one(10, 5, Some(2.0)), one(10, 9, Some(3.0))]).unwrap();
        assert_eq!((both.weights.canary_percent(), both.timeout), (Some(10), Some(3.0)));
        assert_eq!(both.since.as_second(), 9);
        let apart = together([one(10, 5, None), one(50, 9, Some(3.0))]).unwrap();
        let weights = &apart.weights;
        assert_eq!((weights.canary_percent(), weights.highest(), apart.timeout), (None, 50, None));
        // What isn't there gets no requests, and nothing goes on without it.
        let gone = || Err(routing.problem(route::missing(routing.kind)));
        let half = together([one(10, 5, None), gone()]).unwrap();
        assert!(half.weights.canary_percent() == Some(10) && half.fit.is_err());
        assert!(together([gone(), gone()]).unwrap_err().is_missing());
        // What is there and can't be read may send requests anywhere.
        let odd = || Err(routing.problem(Fault::Delegates));
        assert!(together([one(10, 5, None), odd()]).is_err());
    }

    fn action(name: &str, second: u8, version: &str, uid: &str) -> Value {
        json!({
            "metadata": {
                "name": name, "uid": format!("uid of {name}"), "resourceVersion": version,
                "creationTimestamp": format!("2030-01-01T00:00:{second:02}Z"),
            },
            "spec": {
                "rollout": "shop", "uid": uid, "release": 1, "step": 0, "action": "pause",
                "requestedBy": "jo",
            },
        })
    }

    #[test]
    fn commands_have_one_order_whatever_their_names() {
        let objects = [
            action("a", 2, "8", "u"),
            action("z", 1, "9", "u"),
            action("b", 1, "10", "u"),
            action("namesake", 1, "1", "other"),
        ];
        let names = |objects: &[Value]| -> Vec<String> {
            Action::list(objects, "shop", "u").into_iter().map(|a| a.name).collect()
        };
        assert_eq!(names(&objects), ["z", "b", "a"]);
        let turned: Vec<Value> = objects.iter().rev().cloned().collect();
        assert_eq!(names(&turned), ["z", "b", "a"]);
        assert!(Action::list(&objects, "other", "u").is_empty());
    }

    #[test]
    fn a_broken_glass_that_nobody_can_read_is_one_all_the_same() {
        let route = |text: &str| json!({"metadata": {"annotations": {BREAK_GLASS: text}}});
        assert_eq!(BreakGlass::of(&json!({"metadata": {}})), None);
        assert_eq!(BreakGlass::of(&route("help")).map(|g| g.release), Some(i64::MAX));
        let glass = BreakGlass {
            by: "jo".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            release: 3,
            reason: Some("fire".to_owned()),
        };
        let written = serde_json::to_string(&glass).unwrap();
        assert_eq!(BreakGlass::of(&route(&written)), Some(glass));
    }

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
