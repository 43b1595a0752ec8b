//! The Rollout: what users write.
#![expect(
    clippy::duplicated_attributes,
    reason = "every printer column has a name, a type and a path"
)]

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::{Analysis, span_rules};
use super::notice::Notification;
use super::schema::{root_rules, rules};
use super::status::RolloutStatus;
use super::text::{CountOrPercent, Span};

/// How the releases of one Deployment go out.
#[derive(CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "surefoot.dev",
    version = "v1alpha1",
    kind = "Rollout",
    namespaced,
    status = "RolloutStatus",
    shortname = "sfr",
    category = "surefoot",
    crates(kube_core = "::kube_core"),
    derive = "PartialEq",
    doc = "How the releases of one Deployment go out: by which steps, judged by what.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Weight",
        type_ = "integer",
        json_path = ".status.decision.weight",
        description = "per cent of the traffic that the canary may have"
    ),
    printcolumn(name = "Step", type_ = "integer", json_path = ".status.step.index"),
    printcolumn(name = "Release", type_ = "integer", json_path = ".status.release.number"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".spec.targetRef.name",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("!has(self.traffic.split) || !has(self.traffic.split.services) || (self.traffic.split.services.stable != self.traffic.service && self.traffic.split.services.canary != self.traffic.service)",
     "traffic.split.services: neither may be traffic.service, which clients call"),
    ("!has(self.traffic.split) || !has(self.traffic.split.subsets) || !has(self.traffic.apex) || self.traffic.apex != 'stableOnly'",
     "traffic.apex: with subsets both versions are reached by traffic.service itself: leave it at both, or split by services"),
    ("!has(self.traffic.split) || !has(self.traffic.split.subsets) || self.traffic.routes.all(r, r.kind == 'VirtualService')",
     "an HTTPRoute knows no subsets: leave traffic.split.subsets out, or split by services"),
    ("self.traffic.mesh != 'linkerd' || self.traffic.routes.all(r, r.kind != 'VirtualService')",
     "Linkerd reads no VirtualService: name an HTTPRoute or a GRPCRoute of the Service in traffic.routes"),
    ("self.traffic.mesh == 'linkerd' || self.traffic.routes.all(r, r.kind != 'GRPCRoute')",
     "a GRPCRoute is shifted on Linkerd only: name a VirtualService or an HTTPRoute in traffic.routes, which Istio follows for gRPC as well"),
    ("!self.steps.exists(s, s.weight == 0) || (has(self.traffic.apex) && self.traffic.apex == 'stableOnly')",
     "before a preview's release has any weight, traffic.service would reach the canary for callers who don't go by the route: set traffic.apex: stableOnly"),
    ("!has(self.analysis) || (has(self.analysis.templates) && size(self.analysis.templates) > 0) || !has(self.analysis.metrics) || size(self.analysis.metrics) == 0 || self.analysis.metrics.exists(m, !has(m.role) || m.role == 'required') || self.steps.all(s, has(s.approval))",
     "no metric is required, so nothing would ever pass a step: make a metric's role required, or give every step an approval"),
])))]
pub struct RolloutSpec {
    /// The Deployment whose releases these are. It stays the user's own.
    pub target_ref: TargetRef,
    /// Whose traffic is shifted and how.
    pub traffic: Traffic,
    /// The steps, with rising weights; the last is 100.
    #[schemars(length(min = 1, max = 20), extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-validations" = rules(&[
        ("self[size(self) - 1].weight == 100", "the last step must have weight 100"),
        ("self.map(s, s.weight).isSorted() && self.all(a, self.exists_one(b, b.weight == a.weight))", "each step's weight must be above the one before"),
    ])))]
    pub steps: Vec<Step>,
    /// What a step must show before it is left, where the step itself says nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// What is measured, and how sure a verdict must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// What happens when the Deployment's template goes back to one that was promoted lately.
    /// Default immediate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// How long the canary's pods may take to be ready before the release is rolled back.
    /// Default "10m".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = span_rules()))]
    pub progress_deadline: Option<Span>,
    /// How long the old pods stay after all traffic has left them. Default "30s".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = span_rules()))]
    pub scale_down_delay: Option<Span>,
    /// What deleting the Rollout in the middle of a release does to the Deployment's new template.
    /// Default keepStable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<OnDelete>,
    /// Who is told of the releases, and of what. Counts at any time, also in the middle of a
    /// release. A channel that can't be reached never holds a release up; the condition
    /// NotificationsFailing tells of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["channel"]))]
    pub notifications: Vec<Notification>,
    /// Hold every release where it is: no step forward while this is true. Rollback and abort go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// The workload.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// Deployment.
    pub kind: TargetKind,
    /// Its name, in this namespace; at most 46 characters, or the names of its pods would be cut and
    /// no longer tell the versions apart.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = target_rules()))]
    pub name: String,
}

/// Kinds of workload.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetKind {
    /// apps/v1 Deployment.
    Deployment,
}

/// Whose traffic is shifted and how.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// The mesh, whose routes and whose metrics are used.
    pub mesh: Mesh,
    /// The Service that clients call.
    #[schemars(length(min = 1, max = 56), extend("x-kubernetes-validations" = local_rules()))]
    pub service: String,
    /// The routes whose weights are shifted, such as one within the mesh and one of a gateway. Several are
    /// moved as one: a step counts when all have its weight.
    #[schemars(length(min = 1, max = 5), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    pub routes: Vec<RouteRef>,
    /// The two destinations. Default: Services named after `service` with "-stable" and "-canary".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Whom callers reach that don't go by the route (those outside of the mesh): both versions,
    /// by their number of pods, or stable only. Default both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apex: Option<Apex>,
    /// Bring a route that isn't 100/0, or subsets that tell versions apart by labels of their own,
    /// into the shape that releases begin with. Without it such a Rollout waits for you to do that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
    /// A weight counts as in force this long after it was written, or once the metrics show it.
    /// Default "15s".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = span_rules()))]
    pub propagation_delay: Option<Span>,
}

/// Meshes.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mesh {
    /// Istio.
    Istio,
    /// Linkerd. Its routes are HTTPRoutes of the Service that clients call.
    Linkerd,
}

/// A route by kind and name.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRef {
    /// VirtualService, HTTPRoute or GRPCRoute.
    pub kind: RouteKind,
    /// Its name, in this namespace.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = local_rules()))]
    pub name: String,
    /// Names of the http routes, or of a route's rules, whose weights are shifted, all alike. May
    /// be left out where there is one only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub http: Vec<String>,
}

/// Kinds of route.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteKind {
    /// networking.istio.io/v1 VirtualService with http routes to the two destinations.
    VirtualService,
    /// gateway.networking.k8s.io/v1 HTTPRoute of the Service that clients call, or (Istio) of a Gateway,
    /// with rules to the two Services.
    HTTPRoute,
    /// gateway.networking.k8s.io/v1 GRPCRoute of the Service that clients call, with rules to the two
    /// Services; on Linkerd, where gRPC by an HTTPRoute would be judged by its HTTP status.
    GRPCRoute,
}

impl RouteKind {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::VirtualService, Self::HTTPRoute, Self::GRPCRoute];
}

/// Whom callers reach that don't go by the route.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Apex {
    /// Both versions, by their number of pods.
    #[default]
    Both,
    /// Stable: the Service is pinned to it while a release is under way.
    StableOnly,
}

/// What the two versions are told apart by: exactly one of the two ways.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("has(self.services) != has(self.subsets)", "give exactly one of services and subsets"),
])))]
pub struct Split {
    /// One Service each. They are made when absent and stay when the Rollout is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<SplitServices>,
    /// One subset each of `service`. The DestinationRule is yours; only the two subsets' label
    /// `pod-template-hash` is set during a release. The two versions are then told apart in the
    /// metrics by what their own proxies report, by pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsets: Option<SplitSubsets>,
}

/// The two subsets.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("self.stable != self.canary", "stable and canary must be two subsets"),
])))]
pub struct SplitSubsets {
    /// Name of the DestinationRule, in this namespace.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = local_rules()))]
    pub destination_rule: String,
    /// Name of the subset that reaches the stable version.
    #[schemars(length(min = 1, max = 63))]
    pub stable: String,
    /// Name of the subset that reaches the canary.
    #[schemars(length(min = 1, max = 63))]
    pub canary: String,
}

/// The two Services.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("self.stable != self.canary", "stable and canary must be two Services"),
])))]
pub struct SplitServices {
    /// Reaches the stable version.
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = local_rules()))]
    pub stable: String,
    /// Reaches the canary.
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = local_rules()))]
    pub canary: String,
}

/// One step.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("(self.weight == 0) == (has(self.preview) && self.preview)", "only a preview has weight 0, and a preview has no other: write {weight: 0, preview: true}, or a weight of 1 or more"),
    ("!has(self.match) || (self.weight > 0 && self.weight < 100)", "match is for a weight from 1 to 99: a preview has no traffic by the route, and at 100 all requests go to the canary"),
])))]
pub struct Step {
    /// Per cent of the traffic that goes to the canary; 0 of a preview only.
    #[schemars(range(min = 0, max = 100))]
    pub weight: i32,
    /// Before any traffic: the canary is up and reached by its own Service alone, for people and tests.
    /// The first step only, with weight 0. It is left after `gate.minDuration`, once the required
    /// metrics with a `prometheus` query pass; others have nothing to judge yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preview: bool,
    /// Requests that go to the canary whatever its weight, while the step lasts: those that meet one of
    /// these. The others are split by the weight.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub matches: Vec<RequestMatch>,
    /// How many canary pods: "2" or "25%" of the Deployment's replicas. Default: enough for the
    /// weight (of a preview for the next step's), and two where the Deployment has as many. At weight 100
    /// always all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<CountOrPercent>,
    /// The step is left only when a person says so with `kubectl surefoot promote`, beside what the
    /// gate demands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What this step must show before it is left; what it leaves out is as `spec.gate` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
}

/// What a request must be to go to the canary: all of it.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestMatch {
    /// Headers by their names, in lower case: at most 64 letters, digits, - _ and . each.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8))]
    pub headers: BTreeMap<String, TextMatch>,
}

/// What a text must be; exactly one of these.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("has(self.exact) != has(self.regex)", "give exactly one of exact and regex"),
])))]
pub struct TextMatch {
    /// This.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub exact: Option<String>,
    /// A regular expression (RE2) that the whole of it matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub regex: Option<String>,
}

/// A person's approval; written `approval: {}`.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {}

/// What a step must show before it is left, beside the pass of every required metric.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// How much time the judged metrics must cover, without what is excluded. Default "2m".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = span_rules()))]
    pub min_duration: Option<Span>,
    /// When the evidence is still not enough after this, the step is inconclusive. Default "1h".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = span_rules()))]
    pub max_duration: Option<Span>,
    /// How many requests the canary must have served in this step. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_requests: Option<i64>,
    /// What follows when a step is inconclusive. Default pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_inconclusive: Option<OnInconclusive>,
    /// How much after a change of weight is left out of the judgement. Default "30s".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = span_rules()))]
    pub settle: Option<Span>,
    /// How much after the first traffic of a new canary pod is left out of the judgement, for
    /// caches and compilers to warm up. The crash guard watches all the same. Default "90s".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = span_rules()))]
    pub warm_up: Option<Span>,
}

/// What follows when a step is inconclusive.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnInconclusive {
    /// Hold the weight until a person promotes or aborts.
    Pause,
    /// Bring the traffic back.
    Rollback,
    /// Go on collecting evidence.
    Extend,
    /// Go on to the next step without the evidence; the condition PromotedWithoutEvidence says so.
    Promote,
}

/// What happens when the template goes back to one that was promoted lately.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Undo {
    /// All traffic at once, without judging, as soon as its pods are ready.
    Immediate,
    /// The same steps as any release.
    Steps,
}

/// What deleting the Rollout in the middle of a release does to the Deployment's new template.
/// Either way all traffic is on stable first, and the Deployment is the user's alone afterwards.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnDelete {
    /// Stable pods go on; the new template stays in the Deployment, paused:
    /// `kubectl rollout resume` rolls it out natively.
    KeepStable,
    /// The Deployment gets stable's template back and runs on as before.
    Revert,
}

/// References stay in the namespace.
fn local_rules() -> serde_json::Value {
    rules(&[LOCAL])
}

const LOCAL: (&str, &str) = (
    "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
    "must be the name of an object of this namespace: lower case letters, digits, '-' and '.' only, without a namespace before it",
);

fn target_rules() -> serde_json::Value {
    let long = "the Deployment's name is longer than 46 characters: names of its pods would be cut and no longer tell the versions apart";
    rules(&[LOCAL, ("size(self) <= 46", long)])
}

/// Rules on the whole object that fence off a controller that lost the lead. They stand at the
/// root, because rules further down are skipped when their node is absent
/// (`protocol.md`, the order of writes).
const FENCE: &[(&str, &str)] = &[
    (
        "!has(oldSelf.status) || !has(oldSelf.status.decision) || (has(self.status) && has(self.status.decision) && self.status.decision.epoch >= oldSelf.status.decision.epoch && self.status.decision.seq >= oldSelf.status.decision.seq)",
        "stale leader: status.decision stays, and its epoch and seq never fall",
    ),
    (
        "!has(oldSelf.status) || !has(oldSelf.status.decision) || oldSelf.status.decision.verdict != 'Rollback' || (has(self.status) && has(self.status.decision) && (self.status.decision.release > oldSelf.status.decision.release || (self.status.decision.release == oldSelf.status.decision.release && self.status.decision.verdict == 'Rollback' && self.status.decision.weight == 0)))",
        "a rollback is final for its release",
    ),
];

/// The definition of Rollout, with its fence.
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    let mut crd = Rollout::crd();
    for version in &mut crd.spec.versions {
        if let Some(root) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            root.x_kubernetes_validations = Some(root_rules(FENCE));
        }
    }
    crd
}
