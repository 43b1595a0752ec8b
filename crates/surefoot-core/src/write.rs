//! Every write that the controller makes, and the request it becomes against the object as freshly
//! read. Each carries the object's resourceVersion, so that a stale one is refused (409).

use json_patch::{Patch, PatchOperation, jsonptr::PointerBuf};
use serde_json::{Map, Value, json};

use crate::api::GROUP;
use crate::api::rollout::{RequestMatch, RouteKind};
use crate::api::status::Revision;
use crate::claim::{self, Rival};
use crate::desired::DeploymentWanted;
use crate::mark::{Mark, WROTE};
use crate::observed::{BreakGlass, HELD, MANAGED};
use crate::route::subset::{self, Labels};
use crate::route::{self, BREAK_GLASS, EPOCH, OWNER, RouteProblem, Signature, annotation};
use crate::routing::Routing;
use crate::template::{self, HASH_LABEL};

/// Our finalizer on Rollouts.
pub const FINALIZER: &str = "surefoot.dev/traffic";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Set or take away our finalizer on the Rollout.
    Finalizer {
        /// Which.
        present: bool,
    },
    /// Make a Service after the model of another.
    CreateService {
        /// Its name.
        name: String,
        /// The model: ports, appProtocol and selector follow it.
        like: String,
        /// The hash that it is pinned to from the first moment, or none.
        hash: Option<String>,
    },
    /// Pin a Service's selector to a hash, or let it go.
    Pin {
        /// The Service.
        service: String,
        /// The hash, or none.
        hash: Option<String>,
    },
    /// Pin a subset of a DestinationRule to a hash, or let it go.
    PinSubset {
        /// The DestinationRule.
        rule: String,
        /// The subset.
        subset: String,
        /// The hash, or none.
        hash: Option<String>,
        /// Labels that take the place of the subset's own.
        labels: Option<Labels>,
    },
    /// Make the canary's ReplicaSet from the Deployment, with no pods.
    CreateReplicaSet {
        /// Its name and hash.
        revision: Revision,
    },
    /// Make an old ReplicaSet of the Deployment the Rollout's.
    TakeOver {
        /// The ReplicaSet.
        replica_set: String,
    },
    /// Set a ReplicaSet's number of pods.
    Scale {
        /// The ReplicaSet.
        replica_set: String,
        /// How many.
        replicas: u32,
    },
    /// Make the canary's ReplicaSet the Deployment's, with its pods.
    Adopt {
        /// The ReplicaSet.
        replica_set: String,
    },
    /// Give a ReplicaSet that was taken over back to the Deployment, without pods.
    GiveBack {
        /// The ReplicaSet.
        replica_set: String,
    },
    /// Delete the canary's ReplicaSet with its pods.
    DeleteReplicaSet {
        /// The ReplicaSet.
        replica_set: String,
        /// The one that was seen, not a namesake.
        uid: String,
    },
    /// Set the weights of the route, and who goes to the canary whatever its weight.
    SetWeight {
        /// The route and its destinations.
        routing: Routing,
        /// The canary's weight, per cent.
        percent: i32,
        /// Requests that go to the canary beside.
        chosen: Vec<RequestMatch>,
    },
    /// Take the Rollout's name off the route.
    Disown {
        /// The route.
        route: Target,
    },
    /// Take the mark of a break-glass abort off the route.
    Mend {
        /// The route.
        route: Target,
    },
    /// Delete a command that isn't kept any longer.
    DeleteAction {
        /// The RolloutAction.
        name: String,
        /// The one that was seen, not a namesake.
        uid: String,
    },
    /// Change the Deployment.
    Deployment {
        /// The Deployment.
        name: String,
        /// What to change.
        wanted: DeploymentWanted,
    },
    /// Put the epoch on an object, so that writes of a leader before us fail.
    Stamp {
        /// The object.
        target: Target,
    },
}

/// Kinds of object that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// surefoot.dev Rollout.
    Rollout,
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 ReplicaSet.
    ReplicaSet,
    /// v1 Service.
    Service,
    /// networking.istio.io VirtualService.
    VirtualService,
    /// gateway.networking.k8s.io HTTPRoute.
    HTTPRoute,
    /// gateway.networking.k8s.io/v1 GRPCRoute.
    GRPCRoute,
    /// networking.istio.io DestinationRule.
    DestinationRule,
    /// surefoot.dev RolloutAction.
    RolloutAction,
}

impl Kind {
    /// What Kubernetes calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Rollout => "Rollout",
            Kind::Deployment => "Deployment",
            Kind::ReplicaSet => "ReplicaSet",
            Kind::Service => "Service",
            Kind::VirtualService => "VirtualService",
            Kind::HTTPRoute => "HTTPRoute",
            Kind::GRPCRoute => "GRPCRoute",
            Kind::DestinationRule => "DestinationRule",
            Kind::RolloutAction => "RolloutAction",
        }
    }

    /// Whether it is a kind of route.
    #[must_use]
    pub fn is_route(self) -> bool {
        matches!(self, Kind::VirtualService | Kind::HTTPRoute | Kind::GRPCRoute)
    }
}

impl From<RouteKind> for Kind {
    fn from(kind: RouteKind) -> Self {
        match kind {
            RouteKind::VirtualService => Kind::VirtualService,
            RouteKind::HTTPRoute => Kind::HTTPRoute,
            RouteKind::GRPCRoute => Kind::GRPCRoute,
        }
    }
}

/// An object, in the Rollout's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// What goes to the API server.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// POST of a new object.
    Create(Value),
    /// PATCH with a JSON Patch.
    Patch(Patch),
    /// PATCH of the scale subresource.
    Scale(Patch),
    /// DELETE with preconditions.
    Delete {
        /// `preconditions.uid`.
        uid: String,
        /// `preconditions.resourceVersion`.
        version: String,
    },
}

/// Why a write isn't made. None of these is a failed release: look again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A later controller has taken the object over.
    #[error("{kind:?} {name} carries epoch {theirs}, ours is {ours}: another controller leads")]
    Fenced {
        /// Kind of the object.
        kind: Kind,
        /// Its name.
        name: String,
        /// The epoch found.
        theirs: i64,
        /// Ours.
        ours: i64,
    },
    /// The object belongs to another Rollout.
    #[error("{kind:?} {name} belongs to Rollout {owner}")]
    Claimed {
        /// Kind of the object.
        kind: Kind,
        /// Its name.
        name: String,
        /// Whose it is.
        owner: String,
    },
    /// The object is gone, or its model is.
    #[error("{kind:?} {name} is gone")]
    Gone {
        /// Kind of the object.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The object isn't what the decision saw.
    #[error("{0}")]
    Changed(String),
    /// The route can't be edited.
    #[error(transparent)]
    Route(#[from] RouteProblem),
}

/// What every request carries of its author.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// Name of the Rollout.
    pub rollout: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Name of the Deployment.
    pub deployment: &'a str,
    /// Epoch of the committed decision.
    pub epoch: i64,
    /// Other Rollouts that name the same route or Deployment.
    pub rivals: &'a [Rival],
    /// Its release, and the weight that it allows.
    pub allowed: Mark,
}

impl Write {
    /// The object that is written.
    #[must_use]
    pub fn target(&self, author: Author<'_>) -> Target {
        let (kind, name) = match self {
            Write::Finalizer { .. } => (Kind::Rollout, author.rollout),
            Write::CreateService { name, .. } => (Kind::Service, name.as_str()),
            Write::Pin { service, .. } => (Kind::Service, service.as_str()),
            Write::CreateReplicaSet { revision } => {
                (Kind::ReplicaSet, revision.replica_set.as_str())
            }
            Write::TakeOver { replica_set }
            | Write::Scale { replica_set, .. }
            | Write::Adopt { replica_set }
            | Write::GiveBack { replica_set }
            | Write::DeleteReplicaSet { replica_set, .. } => {
                (Kind::ReplicaSet, replica_set.as_str())
            }
            Write::SetWeight { routing, .. } => return routing.target(),
            Write::Disown { route } | Write::Mend { route } => return route.clone(),
            Write::PinSubset { rule, .. } => (Kind::DestinationRule, rule.as_str()),
            Write::DeleteAction { name, .. } => (Kind::RolloutAction, name.as_str()),
            Write::Deployment { name, .. } => (Kind::Deployment, name.as_str()),
            Write::Stamp { target } => return target.clone(),
        };
        Target { kind, name: name.to_owned() }
    }

    /// Another object that must be read freshly to make the request: the model of a new one, or the
    /// Deployment that a ReplicaSet goes to.
    #[must_use]
    pub fn also(&self, author: Author<'_>) -> Option<Target> {
        let (kind, name) = match self {
            Write::CreateService { like, .. } => (Kind::Service, like.as_str()),
            Write::CreateReplicaSet { .. }
            | Write::TakeOver { .. }
            | Write::Adopt { .. }
            | Write::GiveBack { .. } => (Kind::Deployment, author.deployment),
            _ => return None,
        };
        Some(Target { kind, name: name.to_owned() })
    }

    /// Whether the object is made by this write.
    #[must_use]
    pub fn creates(&self) -> bool {
        matches!(self, Write::CreateService { .. } | Write::CreateReplicaSet { .. })
    }

    /// The request that makes this write, given the object (`fresh`) and the other one (`also`) as
    /// just read. `None` when nothing is left to do.
    ///
    /// # Errors
    /// When the object isn't what the decision believed; nothing must be written then.
    pub fn request(
        &self,
        fresh: Option<&Value>,
        also: Option<&Value>,
        author: Author<'_>,
    ) -> Result<Option<Request>, Refusal> {
        let target = self.target(author);
        let gone = || Refusal::Gone { kind: target.kind, name: target.name.clone() };
        match self {
            Write::CreateService { name, hash, .. } => {
                let model = also.ok_or_else(gone)?;
                let create = || Request::Create(service(name, hash.as_deref(), model, author));
                return Ok(fresh.is_none().then(create));
            }
            Write::CreateReplicaSet { revision } => {
                let model = also.ok_or_else(gone)?;
                let template = model.pointer("/spec/template").unwrap_or(&Value::Null);
                // A hash of ours is of the template that the release is for.
                let later = template::canary_hash(template) != revision.hash;
                if fresh.is_none() && !revision.taken_over && later {
                    let changed =
                        "the Deployment has a new template: its pods aren't this release's";
                    return Err(Refusal::Changed(changed.to_owned()));
                }
                let create = || Request::Create(replica_set(revision, model, author));
                return Ok(fresh.is_none().then(create));
            }
            _ => {}
        }
        if matches!(self, Write::DeleteAction { .. }) && fresh.is_none() {
            return Ok(None);
        }
        let fresh = fresh.ok_or_else(gone)?;
        if target.kind != Kind::Rollout {
            fence(fresh, &target, author.epoch)?;
            unclaimed(fresh, &target, author.rivals)?;
        }
        match self {
            Write::SetWeight { routing, percent, chosen } => {
                let namespace = author.namespace;
                rises(fresh, routing, namespace, *percent, chosen)?;
                let wrote = Mark { weight: *percent, ..author.allowed };
                let sign = Signature { rollout: author.rollout, epoch: author.epoch, wrote };
                let edit = route::edit(fresh, routing, namespace, *percent, chosen, sign)?;
                Ok(edit.map(Request::Patch))
            }
            Write::DeleteReplicaSet { uid, .. } | Write::DeleteAction { uid, .. } => {
                let version = version(fresh);
                if fresh.pointer("/metadata/uid").and_then(Value::as_str) != Some(uid) {
                    return Err(gone());
                }
                Ok(Some(Request::Delete { uid: uid.clone(), version }))
            }
            Write::Scale { replicas, .. } => {
                let mut edit = Edit::of(fresh);
                edit.set(&["spec", "replicas"], json!(replicas));
                Ok(edit.patch().map(Request::Scale))
            }
            _ => {
                let mut edit = Edit::of(fresh);
                self.edit(&mut edit, also, author)?;
                Ok(edit.patch().map(Request::Patch))
            }
        }
    }

    fn edit(
        &self,
        edit: &mut Edit<'_>,
        also: Option<&Value>,
        author: Author<'_>,
    ) -> Result<(), Refusal> {
        match self {
            Write::Finalizer { present } => {
                let list = edit.fresh.pointer("/metadata/finalizers").and_then(Value::as_array);
                let mut list = list.cloned().unwrap_or_default();
                list.retain(|f| f != FINALIZER);
                if *present {
                    list.push(json!(FINALIZER));
                }
                edit.set(&["metadata", "finalizers"], Value::Array(list));
            }
            Write::Pin { hash: Some(hash), .. } => {
                edit.set(&["spec", "selector", HASH_LABEL], json!(hash));
                edit.own(author.rollout, true);
            }
            Write::Pin { hash: None, .. } => {
                edit.remove(&["spec", "selector", HASH_LABEL]);
                edit.own(author.rollout, false);
            }
            Write::PinSubset { subset, hash, labels, .. } => {
                pin_subset(edit, subset, hash.as_deref(), labels.as_ref())?;
                let others = edit.fresh.pointer("/spec/subsets").and_then(Value::as_array);
                let others = others.into_iter().flatten().filter(|s| s["name"] != json!(subset));
                let pinned =
                    |s: &Value| s.pointer("/labels").is_some_and(|l| l.get(HASH_LABEL).is_some());
                edit.own(author.rollout, hash.is_some() || others.into_iter().any(pinned));
            }
            Write::Disown { .. } => edit.remove(&["metadata", "annotations", OWNER]),
            Write::TakeOver { .. } => {
                edit.set(&["metadata", "ownerReferences"], owner_rollout(author))
            }
            Write::Adopt { .. } => {
                let deployment = deployment(also, author)?;
                let ours = edit.fresh.pointer("/spec/template").unwrap_or(&Value::Null);
                let theirs = deployment.pointer("/spec/template").unwrap_or(&Value::Null);
                if !template::equal(ours, theirs) {
                    let changed = "the Deployment's template has changed: not adopting";
                    return Err(Refusal::Changed(changed.to_owned()));
                }
                if deployment.pointer("/spec/paused") != Some(&Value::Bool(true)) {
                    let resumed = "the Deployment isn't paused: not adopting";
                    return Err(Refusal::Changed(resumed.to_owned()));
                }
                let replicas = deployment.pointer("/spec/replicas").and_then(Value::as_u64);
                let replicas = replicas.unwrap_or(1);
                let max = replicas + surge(deployment, replicas);
                edit.set(&["metadata", "ownerReferences"], owner_deployment(deployment));
                edit.set(
                    &["metadata", "annotations", DESIRED_REPLICAS],
                    json!(replicas.to_string()),
                );
                edit.set(&["metadata", "annotations", MAX_REPLICAS], json!(max.to_string()));
            }
            Write::GiveBack { .. } => {
                let deployment = deployment(also, author)?;
                edit.set(&["metadata", "ownerReferences"], owner_deployment(deployment));
            }
            Write::Deployment { wanted, .. } => {
                let now = edit.fresh.pointer("/spec/template").unwrap_or(&Value::Null);
                if wanted.seen.as_ref().is_some_and(|seen| *seen != template::template_digest(now))
                {
                    let changed = "the Deployment has a new template: it isn't let go with that";
                    return Err(Refusal::Changed(changed.to_owned()));
                }
                if let Some(template) = &wanted.template {
                    edit.set(&["spec", "template"], template.clone());
                }
                match wanted.managed {
                    Some(true) => {
                        edit.set(&["metadata", "labels", MANAGED], json!("true"));
                        edit.set(&["metadata", "annotations", OWNER], json!(author.rollout));
                    }
                    Some(false) => {
                        edit.remove(&["metadata", "labels", MANAGED]);
                        edit.remove(&["metadata", "annotations", EPOCH]);
                        edit.remove(&["metadata", "annotations", OWNER]);
                    }
                    None => {}
                }
                match wanted.paused {
                    Some(true) => edit.set(&["spec", "paused"], json!(true)),
                    Some(false) => edit.remove(&["spec", "paused"]),
                    None => {}
                }
                if wanted.unheld {
                    edit.remove(&["metadata", "annotations", HELD]);
                }
            }
            Write::Mend { .. } => edit.remove(&["metadata", "annotations", BREAK_GLASS]),
            Write::Stamp { target } => {
                let epoch = json!(author.epoch.to_string());
                edit.set(&["metadata", "annotations", EPOCH], epoch);
                if target.kind.is_route() {
                    edit.set(&["metadata", "annotations", OWNER], json!(author.rollout));
                }
                // Somebody who replaced the route took the mark away: what was allowed is the best
                // that is known of it.
                if target.kind.is_route() && Mark::of(edit.fresh).is_none() {
                    let mark = json!(author.allowed.to_string());
                    edit.set(&["metadata", "annotations", WROTE], mark);
                }
            }
            // Those that aren't edits have been dealt with.
            Write::CreateService { .. }
            | Write::CreateReplicaSet { .. }
            | Write::Scale { .. }
            | Write::DeleteReplicaSet { .. }
            | Write::DeleteAction { .. }
            | Write::SetWeight { .. } => {}
        }
        Ok(())
    }
}

/// The epoch stamped on an object, 0 where there is none.
#[must_use]
pub fn epoch_of(object: &Value) -> i64 {
    annotation(object, EPOCH).and_then(|epoch| epoch.parse().ok()).unwrap_or(0)
}

fn fence(fresh: &Value, target: &Target, ours: i64) -> Result<(), Refusal> {
    let theirs = epoch_of(fresh);
    if theirs > ours {
        return Err(Refusal::Fenced { kind: target.kind, name: target.name.clone(), theirs, ours });
    }
    Ok(())
}

/// What carries another living Rollout's name is that one's.
fn unclaimed(fresh: &Value, target: &Target, rivals: &[Rival]) -> Result<(), Refusal> {
    match claim::theirs(rivals, target, annotation(fresh, OWNER)) {
        None => Ok(()),
        Some(rival) => Err(Refusal::Claimed {
            kind: target.kind,
            name: target.name.clone(),
            owner: rival.name.clone(),
        }),
    }
}

/// The hash among a subset's labels; of the rule nothing else changes.
fn pin_subset(
    edit: &mut Edit<'_>,
    subset: &str,
    hash: Option<&str>,
    labels: Option<&Labels>,
) -> Result<(), Refusal> {
    let place = subset::place(edit.fresh, subset)
        .ok_or_else(|| Refusal::Changed(format!("the subset {subset} is gone")))?;
    let place = place.to_string();
    let path = ["spec", "subsets", &place];
    let before = edit.ops.len();
    if let Some(labels) = labels {
        let hash = hash.map(|hash| (HASH_LABEL.to_owned(), hash.to_owned()));
        let labels: Labels = labels.clone().into_iter().chain(hash).collect();
        edit.set(&[&path[..], &["labels"]].concat(), json!(labels));
    } else if let Some(hash) = hash {
        edit.set(&[&path[..], &["labels", HASH_LABEL]].concat(), json!(hash));
    } else {
        edit.remove(&[&path[..], &["labels", HASH_LABEL]].concat());
    }
    if edit.ops.len() > before {
        // The resourceVersion says so too; this says it of the very thing that is meant.
        edit.test_first(&[&path[..], &["name"]].concat(), json!(subset));
    }
    Ok(())
}

/// Whether the weight may be set, which any may that doesn't rise. It doesn't rise where somebody has
/// brought the traffic back by hand since the decision was made, whatever that says, nor on a route
/// that the mesh no longer follows. A controller that comes back in the middle of a step, or one that
/// has lost the lead, reads the route right before it writes, and its lock on the resourceVersion holds
/// for what it read.
fn rises(
    route: &Value,
    routing: &Routing,
    namespace: &str,
    percent: i32,
    chosen: &[RequestMatch],
) -> Result<(), Refusal> {
    let now = route::read(route, routing, namespace).ok().and_then(|w| w.canary_percent());
    let more =
        !chosen.is_empty() && !route::carries(route, routing, namespace, chosen).unwrap_or(false);
    if percent == 0 || now.is_some_and(|now| percent < now || (percent == now && !more)) {
        return Ok(());
    }
    if BreakGlass::of(route).is_some() {
        let broken = "somebody broke the glass: the weight isn't raised";
        return Err(Refusal::Changed(broken.to_owned()));
    }
    Ok(route::fit(route, routing, namespace)?)
}

fn deployment<'v>(also: Option<&'v Value>, author: Author<'_>) -> Result<&'v Value, Refusal> {
    also.ok_or_else(|| Refusal::Gone { kind: Kind::Deployment, name: author.deployment.to_owned() })
}

fn version(object: &Value) -> String {
    let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    version.unwrap_or_default().to_owned()
}

/// JSON Patch operations against a fresh object; what is so already is left out.
struct Edit<'a> {
    fresh: &'a Value,
    ops: Vec<PatchOperation>,
    made: Vec<String>,
}

impl<'a> Edit<'a> {
    fn of(fresh: &'a Value) -> Self {
        Self { fresh, ops: Vec::new(), made: Vec::new() }
    }

    fn push(&mut self, op: Value) {
        self.ops.extend(serde_json::from_value::<PatchOperation>(op));
    }

    fn set(&mut self, path: &[&str], value: Value) {
        let pointer = PointerBuf::from_tokens(path.iter().copied());
        if self.fresh.pointer(pointer.as_str()) == Some(&value) {
            return;
        }
        // A map that isn't there, or is null, must be made before something is put into it.
        let parent = PointerBuf::from_tokens(path[..path.len() - 1].iter().copied()).to_string();
        let absent = self.fresh.pointer(&parent).is_none_or(Value::is_null);
        if absent && !self.made.contains(&parent) {
            self.push(json!({"op": "add", "path": parent, "value": {}}));
            self.made.push(parent);
        }
        self.push(json!({"op": "add", "path": pointer.to_string(), "value": value}));
    }

    /// Whose it is, while it is pinned.
    fn own(&mut self, rollout: &str, pinned: bool) {
        if pinned {
            self.set(&["metadata", "annotations", OWNER], json!(rollout));
        } else {
            self.remove(&["metadata", "annotations", OWNER]);
        }
    }

    fn test_first(&mut self, path: &[&str], value: Value) {
        let pointer = PointerBuf::from_tokens(path.iter().copied()).to_string();
        let test = json!({"op": "test", "path": pointer, "value": value});
        if let Ok(test) = serde_json::from_value(test) {
            self.ops.insert(0, test);
        }
    }

    fn remove(&mut self, path: &[&str]) {
        let pointer = PointerBuf::from_tokens(path.iter().copied());
        if self.fresh.pointer(pointer.as_str()).is_some() {
            self.push(json!({"op": "remove", "path": pointer.to_string()}));
        }
    }

    fn patch(self) -> Option<Patch> {
        if self.ops.is_empty() {
            return None;
        }
        let path = "/metadata/resourceVersion";
        let lock = json!({"op": "replace", "path": path, "value": version(self.fresh)});
        let lock = serde_json::from_value::<PatchOperation>(lock).ok()?;
        Some(Patch(std::iter::once(lock).chain(self.ops).collect()))
    }
}

fn owner_rollout(author: Author<'_>) -> Value {
    json!([{
        "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "Rollout",
        "name": author.rollout, "uid": author.uid,
        "controller": true, "blockOwnerDeletion": true,
    }])
}

fn owner_deployment(deployment: &Value) -> Value {
    json!([{
        "apiVersion": "apps/v1", "kind": "Deployment",
        "name": deployment.pointer("/metadata/name"), "uid": deployment.pointer("/metadata/uid"),
        "controller": true, "blockOwnerDeletion": true,
    }])
}

/// maxSurge in pods, as the deployment controller resolves it.
fn surge(deployment: &Value, replicas: u64) -> u64 {
    match deployment.pointer("/spec/strategy/rollingUpdate/maxSurge") {
        Some(Value::Number(n)) => n.as_u64().unwrap_or(0),
        Some(Value::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            (replicas * percent).div_ceil(100)
        }
        _ => 0,
    }
}

/// A Service that selects what `model` selects. It is nobody's: deleting the Rollout must not take
/// away a host that the user's route names.
fn service(name: &str, hash: Option<&str>, model: &Value, author: Author<'_>) -> Value {
    let ports = model.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let ports: Vec<Value> = ports
        .into_iter()
        .map(|mut port| {
            if let Some(port) = port.as_object_mut() {
                port.remove("nodePort");
            }
            port
        })
        .collect();
    let annotations = model.pointer("/metadata/annotations").and_then(Value::as_object);
    let of_the_mesh = |key: &str| key.contains("istio.io/");
    let annotations: Map<String, Value> = annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| of_the_mesh(key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .chain([(EPOCH.to_owned(), json!(author.epoch.to_string()))])
        .collect();
    let mut selector = model.pointer("/spec/selector").cloned().unwrap_or_else(|| json!({}));
    if let Some(selector) = selector.as_object_mut() {
        selector.remove(HASH_LABEL);
        selector.extend(hash.map(|hash| (HASH_LABEL.to_owned(), json!(hash))));
    }
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name, "namespace": author.namespace, "annotations": annotations,
            "labels": {"app.kubernetes.io/managed-by": "surefoot"},
        },
        "spec": {"selector": selector, "ports": ports},
    })
}

/// The canary's ReplicaSet: the Deployment's template and one label more, no pods yet.
fn replica_set(revision: &Revision, deployment: &Value, author: Author<'_>) -> Value {
    let hash = revision.hash.as_str();
    let spec = |field: &str| deployment.pointer(&format!("/spec/{field}")).cloned();
    let template = template::with_hash(&spec("template").unwrap_or_default(), hash);
    let mut selector = spec("selector").unwrap_or_default();
    selector["matchLabels"][HASH_LABEL] = json!(hash);
    let labels = template.pointer("/metadata/labels").cloned().unwrap_or_default();
    let mut body = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": revision.replica_set, "namespace": author.namespace, "labels": labels,
            "annotations": {EPOCH: author.epoch.to_string()},
            "ownerReferences": owner_rollout(author),
        },
        "spec": {"replicas": 0, "selector": selector, "template": template},
    });
    if let Some(seconds) = spec("minReadySeconds") {
        body["spec"]["minReadySeconds"] = seconds;
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHOR: Author<'_> = Author {
        rollout: "shop",
        uid: "u1",
        namespace: "prod",
        deployment: "shop",
        epoch: 4,
        rivals: &[],
        allowed: Mark { release: 2, weight: 10 },
    };

    fn routing() -> Routing {
        let traffic = "{mesh: istio, service: shop, routes: [{kind: VirtualService, name: shop}]}";
        Routing::of(&serde_saphyr::from_str(traffic).unwrap())
    }

    fn apply(mut object: Value, request: Option<Request>) -> Value {
        match request {
            Some(Request::Patch(patch) | Request::Scale(patch)) => {
                json_patch::patch(&mut object, &patch).unwrap();
                object
            }
            other => panic!("not a patch: {other:?}"),
        }
    }

    fn deployment() -> Value {
        json!({
            "metadata": {"name": "shop", "uid": "d1", "resourceVersion": "9"},
            "spec": {
                "replicas": 4, "paused": true, "minReadySeconds": 5, "selector": {"matchLabels": {"app": "shop"}},
                "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
                "template": {"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"image": "shop:v2", "newField": 1}]}},
            },
        })
    }

    fn revision() -> Revision {
        Revision {
            replica_set: "shop-sf1".into(),
            hash: "sf1".into(),
            images: vec![],
            taken_over: false,
        }
    }

    /// The same, of the Deployment's template.
    fn decided() -> Revision {
        let hash = template::canary_hash(&deployment()["spec"]["template"]);
        Revision { hash, ..revision() }
    }

    #[test]
    fn a_canary_is_not_made_of_a_template_that_came_later() {
        let write = Write::CreateReplicaSet { revision: decided() };
        let mut later = deployment();
        later["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:v3");
        let refused = write.request(None, Some(&later), AUTHOR);
        assert!(matches!(refused, Err(Refusal::Changed(_))), "{refused:?}");
        assert!(matches!(write.request(None, Some(&deployment()), AUTHOR), Ok(Some(_))));
    }

    #[test]
    fn the_canary_is_the_deployments_template_and_one_label() {
        let write = Write::CreateReplicaSet { revision: decided() };
        let Ok(Some(Request::Create(set))) = write.request(None, Some(&deployment()), AUTHOR)
        else {
            panic!("no creation")
        };
        assert_eq!(set["spec"]["replicas"], 0);
        assert_eq!(set["spec"]["minReadySeconds"], 5);
        assert_eq!(
            set["spec"]["selector"]["matchLabels"],
            json!({"app": "shop", HASH_LABEL: decided().hash})
        );
        assert!(template::equal(&set["spec"]["template"], &deployment()["spec"]["template"]));
        assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["newField"], 1);
        assert_eq!(write.request(Some(&set), Some(&deployment()), AUTHOR), Ok(None));
    }

    #[test]
    fn adoption_carries_the_annotations_of_the_deployment_controller() {
        let write = Write::CreateReplicaSet { revision: decided() };
        let Ok(Some(Request::Create(mut set))) = write.request(None, Some(&deployment()), AUTHOR)
        else {
            panic!("no creation")
        };
        set["metadata"]["resourceVersion"] = json!("12");
        let adopt = Write::Adopt { replica_set: "shop-sf1".into() };
        let adopted =
            apply(set.clone(), adopt.request(Some(&set), Some(&deployment()), AUTHOR).unwrap());
        assert_eq!(adopted["metadata"]["annotations"][DESIRED_REPLICAS], "4");
        assert_eq!(adopted["metadata"]["annotations"][MAX_REPLICAS], "5");
        assert_eq!(adopted["metadata"]["ownerReferences"][0]["uid"], "d1");

        let mut newer = deployment();
        newer["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:v3");
        let refused = adopt.request(Some(&set), Some(&newer), AUTHOR);
        assert!(matches!(refused, Err(Refusal::Changed(_))), "{refused:?}");
    }

    #[test]
    fn where_the_glass_is_broken_no_weight_is_raised() {
        let destination =
            |host: &str, weight| json!({"destination": {"host": host}, "weight": weight});
        let route = |weight: i64, epoch: &str| {
            json!({
                "metadata": {
                    "name": "shop", "resourceVersion": "5",
                    "annotations": {BREAK_GLASS: "{}", EPOCH: epoch},
                },
                "spec": {"http": [{"route": [
                    destination("shop-stable", 100 - weight), destination("shop-canary", weight),
                ]}]},
            })
        };
        let set = |percent| Write::SetWeight { routing: routing(), percent, chosen: Vec::new() };
        // A leader that has decided for 50% and comes to write it, whatever its epoch.
        for epoch in ["3", "4"] {
            let refused = set(50).request(Some(&route(0, epoch)), None, AUTHOR);
            assert!(matches!(refused, Err(Refusal::Changed(_))), "{refused:?}");
        }
        // Nor are requests chosen beside a weight that is there already.
        let chosen = json!([{"headers": {"x-canary": {"exact": "true"}}}]);
        let chosen = serde_json::from_value(chosen).unwrap();
        let choose = Write::SetWeight { routing: routing(), percent: 10, chosen };
        let refused = choose.request(Some(&route(10, "4")), None, AUTHOR);
        assert!(matches!(refused, Err(Refusal::Changed(_))), "{refused:?}");
        // A weight that comes down may bring a choice.
        assert!(choose.request(Some(&route(50, "4")), None, AUTHOR).is_ok_and(|r| r.is_some()));
        let lowered =
            apply(route(50, "4"), set(0).request(Some(&route(50, "4")), None, AUTHOR).unwrap());
        assert_eq!(lowered["spec"]["http"][0]["route"][1]["weight"], 0);
        let mend = Write::Mend { route: routing().target() };
        let mended = apply(lowered.clone(), mend.request(Some(&lowered), None, AUTHOR).unwrap());
        let annotations = json!({EPOCH: "4", OWNER: "shop", WROTE: "2/0"});
        assert_eq!(mended["metadata"]["annotations"], annotations);
        assert_eq!(mend.request(Some(&mended), None, AUTHOR), Ok(None));
        assert!(set(50).request(Some(&mended), None, AUTHOR).is_ok_and(|r| r.is_some()));
    }

    #[test]
    fn only_the_command_that_was_seen_is_deleted() {
        let action = json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "3"}});
        let delete = |uid: &str| {
            let write = Write::DeleteAction { name: "a".into(), uid: uid.into() };
            write.request(Some(&action), None, AUTHOR)
        };
        let expected = Request::Delete { uid: "u".into(), version: "3".into() };
        assert_eq!(delete("u"), Ok(Some(expected)));
        assert!(matches!(delete("v"), Err(Refusal::Gone { .. })));
    }

    #[test]
    fn an_object_of_a_later_epoch_is_left_alone() {
        let service = json!({"metadata": {"name": "s", "resourceVersion": "1", "annotations": {EPOCH: "5"}}, "spec": {"selector": {"app": "x"}}});
        let pin = Write::Pin { service: "s".into(), hash: Some("h".into()) };
        let refused = pin.request(Some(&service), None, AUTHOR);
        assert!(matches!(refused, Err(Refusal::Fenced { theirs: 5, ours: 4, .. })), "{refused:?}");
    }

    #[test]
    fn what_carries_a_rivals_name_is_left_alone() {
        let route = Target { kind: Kind::VirtualService, name: "shop".into() };
        let rivals = ["other".to_owned()].map(|name| Rival {
            name,
            older: false,
            things: [route.clone()].into(),
        });
        let author = Author { rivals: &rivals, ..AUTHOR };
        let route = |owner: &str| json!({"metadata": {"name": "shop", "resourceVersion": "1", "annotations": {OWNER: owner, BREAK_GLASS: ""}}});
        let mend = Write::Mend { route: routing().target() };
        let refused = mend.request(Some(&route("other")), None, author);
        assert!(matches!(refused, Err(Refusal::Claimed { .. })), "{refused:?}");
        for free in ["shop", "gone"] {
            assert!(mend.request(Some(&route(free)), None, author).is_ok_and(|r| r.is_some()));
        }
    }

    #[test]
    fn pods_go_only_to_a_deployment_that_is_paused() {
        let set = json!({"metadata": {"resourceVersion": "1"}, "spec": {"template": deployment()["spec"]["template"]}});
        let mut resumed = deployment();
        resumed["spec"]["paused"] = json!(false);
        let adopt = Write::Adopt { replica_set: "shop-sf1".into() };
        let refused = adopt.request(Some(&set), Some(&resumed), AUTHOR);
        assert!(matches!(refused, Err(Refusal::Changed(_))), "{refused:?}");
        assert!(adopt.request(Some(&set), Some(&deployment()), AUTHOR).is_ok());
    }

    #[test]
    fn a_subset_that_has_moved_fails_the_test_operation() {
        let rule = json!({"metadata": {"resourceVersion": "1"}, "spec": {"subsets": [
            {"name": "stable", "labels": {"app": "shop"}}, {"name": "canary", "labels": {}},
        ]}});
        let pin = Write::PinSubset {
            rule: "shop".into(),
            subset: "stable".into(),
            hash: Some("h".into()),
            labels: None,
        };
        let request = pin.request(Some(&rule), None, AUTHOR).unwrap();
        let pinned = apply(rule.clone(), request.clone());
        let labels = json!({"app": "shop", HASH_LABEL: "h"});
        assert_eq!(pinned["spec"]["subsets"][0]["labels"], labels);
        assert_eq!(pinned["spec"]["subsets"][1], rule["spec"]["subsets"][1]);
        let Some(Request::Patch(patch)) = request else { panic!("no patch") };
        let mut moved = rule;
        moved["spec"]["subsets"].as_array_mut().unwrap().swap(0, 1);
        assert!(json_patch::patch(&mut moved, &patch).is_err());
    }

    #[test]
    fn edits_lock_the_version_and_say_nothing_twice() {
        let service = json!({"metadata": {"name": "s", "resourceVersion": "1"}, "spec": {"selector": {"app": "x"}}});
        let pin = Write::Pin { service: "s".into(), hash: Some("h".into()) };
        let request = pin.request(Some(&service), None, AUTHOR).unwrap();
        let text = format!("{request:?}");
        assert!(text.contains("resourceVersion"), "{text}");
        let pinned = apply(service, request);
        assert_eq!(pinned["spec"]["selector"], json!({"app": "x", HASH_LABEL: "h"}));
        assert_eq!(pin.request(Some(&pinned), None, AUTHOR), Ok(None));
        let off = Write::Pin { service: "s".into(), hash: None };
        let free = apply(pinned.clone(), off.request(Some(&pinned), None, AUTHOR).unwrap());
        assert_eq!(free["spec"]["selector"], json!({"app": "x"}));
    }

    #[test]
    fn a_route_tells_what_we_wrote_last() {
        let destination = |service: &str| json!({"destination": {"host": service}});
        let route = json!({
            "metadata": {"name": "shop", "resourceVersion": "1"},
            "spec": {"http": [{"route": [destination("shop-stable"), destination("shop-canary")]}]},
        });
        let write = Write::SetWeight { routing: routing(), percent: 0, chosen: Vec::new() };
        let written = apply(route.clone(), write.request(Some(&route), None, AUTHOR).unwrap());
        assert_eq!(Mark::of(&written), Some(Mark { release: 2, weight: 0 }));
        let stamp =
            Write::Stamp { target: Target { kind: Kind::VirtualService, name: "shop".into() } };
        let stamped = apply(route.clone(), stamp.request(Some(&route), None, AUTHOR).unwrap());
        assert_eq!(Mark::of(&stamped), Some(AUTHOR.allowed));
        // A later controller takes over what an earlier one wrote.
        let later = Author { epoch: 5, allowed: Mark { release: 2, weight: 50 }, ..AUTHOR };
        let taken = apply(written.clone(), stamp.request(Some(&written), None, later).unwrap());
        assert_eq!((epoch_of(&taken), Mark::of(&taken)), (5, Mark::of(&written)));
    }

    #[test]
    fn a_made_service_belongs_to_nobody_and_has_no_node_port() {
        let apex = json!({"metadata": {"annotations": {"networking.istio.io/exportTo": ".", "other/x": "y"}}, "spec": {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 80, "nodePort": 30000, "appProtocol": "http"}]}});
        let write = |hash| Write::CreateService { name: "x-stable".into(), like: "x".into(), hash };
        let pinned = write(Some("h1".into())).request(None, Some(&apex), AUTHOR);
        let Ok(Some(Request::Create(pinned))) = pinned else { panic!("no creation") };
        assert_eq!(pinned["spec"]["selector"], json!({"app": "x", "pod-template-hash": "h1"}));
        let write = write(None);
        let Ok(Some(Request::Create(made))) = write.request(None, Some(&apex), AUTHOR) else {
            panic!("no creation")
        };
        assert_eq!(
            made["spec"]["ports"],
            json!([{"name": "http", "port": 80, "appProtocol": "http"}])
        );
        assert_eq!(made["spec"]["selector"], json!({"app": "x"}));
        assert!(made.pointer("/metadata/ownerReferences").is_none());
        assert_eq!(made["metadata"]["annotations"]["networking.istio.io/exportTo"], ".");
        assert!(made["metadata"]["annotations"].get("other/x").is_none());
    }
}
