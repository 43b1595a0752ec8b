//! What the controller writes: `Rollout.status`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use super::evidence::{
    ArmStatus, BoundKind, CrashGuardStatus, Evidence, MetricStatus, ReleaseEvidence, TestSide,
    TestStatus, UnreachableGate,
};
use super::notice::Notice;
use super::schema::{instant, opaque_object, optional_instant};

/// Where a Rollout stands and why.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutStatus {
    /// What the Rollout is doing.
    pub phase: Phase,
    /// The same in one line, with the reason.
    pub message: String,
    /// The generation of the spec that this status speaks of.
    pub observed_generation: i64,
    /// Ready, Reconciling, Stalled (as kstatus reads them), HoldReady, SpecChangePending,
    /// PromotedWithoutEvidence, GateUnreachable, NotificationsFailing.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The committed decision. No write to a route, ReplicaSet or Service precedes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The latest release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// The version that has been promoted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<Revision>,
    /// The version under test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Revision>,
    /// The step under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepStatus>,
    /// A person has paused the release under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// An undo under way: a template that goes back into the Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undoing>,
    /// UIDs of the commands to the latest release that have done what they can do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub used_actions: Vec<String>,
    /// Somebody else's weights that were put right, the latest of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contest: Option<Contest>,
    /// All that is waited for right now, most important first.
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub waiting_on: Vec<Waiting>,
    /// The evidence so far, by metric.
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub analysis: Vec<MetricStatus>,
    /// The same of the release as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<ReleaseEvidence>,
    /// The last 10 releases that ended, newest first.
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<PastRelease>,
    /// News not yet known to be delivered everywhere, oldest first.
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "atomic"))]
    pub outbox: Vec<Notice>,
    /// When this status was last written for its evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_instant")]
    pub checkpoint_at: Option<Timestamp>,
    /// State of the statistics, of no meaning to readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub engine: Option<String>,
    /// Fields of a newer controller, carried through.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// What a Rollout is doing.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing has been looked at yet, or something is missing before anything can begin.
    #[default]
    Pending,
    /// At rest: the Deployment's template is what runs.
    Healthy,
    /// The canary's pods are being made.
    Preparing,
    /// A step's weight is being set or judged.
    Stepping,
    /// Held at a step; `waitingOn` says what ends it.
    Paused,
    /// All steps have passed; the canary's pods become the Deployment's.
    Promoting,
    /// The traffic goes back to stable.
    RollingBack,
    /// A release failed, or an object the Rollout needs is not as it must be.
    Degraded,
}

impl Phase {
    /// As shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Healthy => "Healthy",
            Phase::Preparing => "Preparing",
            Phase::Stepping => "Stepping",
            Phase::Paused => "Paused",
            Phase::Promoting => "Promoting",
            Phase::RollingBack => "RollingBack",
            Phase::Degraded => "Degraded",
        }
    }
}

/// A condition, as Kubernetes objects have them.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// CamelCase name.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// The generation of the spec that this condition speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// When the status last changed.
    #[schemars(schema_with = "instant")]
    pub last_transition_time: Timestamp,
    /// One word, for machines.
    pub reason: String,
    /// A sentence, for people.
    pub message: String,
}

/// The three values of a condition.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It doesn't.
    False,
    /// Not known.
    Unknown,
}

/// What has been decided and by whom. Written before anything is done about it.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Rises with each decision.
    pub seq: i64,
    /// Rises with each controller that takes the Rollout over.
    pub epoch: i64,
    /// Identity of the controller that decided.
    pub holder: String,
    /// Number of the release, 0 before the first.
    pub release: i64,
    /// Index of the step, from 0.
    pub step: i32,
    /// Per cent of the traffic that the canary may have at most.
    #[schemars(range(min = 0, max = 100))]
    pub weight: i32,
    /// The verdict.
    pub verdict: Verdict,
    /// "surefoot", or the user whose command it was.
    pub actor: String,
    /// Why, in words.
    pub reason: String,
    /// When.
    #[schemars(schema_with = "instant")]
    pub at: Timestamp,
}

/// Verdicts.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// What runs was found running.
    Adopt,
    /// A release begins; no traffic yet.
    Start,
    /// A step passed, and the next one is made ready.
    Pass,
    /// The step's weight may be written.
    Advance,
    /// All steps passed: hand over.
    Promote,
    /// All traffic back to stable; final for its release.
    Rollback,
}

/// A release: one new template and what became of it.
#[derive(JsonSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Rises with each release.
    pub number: i64,
    /// Names the canary's objects. Equality is never decided by it.
    pub template_hash: String,
    /// What kind of release it is.
    pub kind: ReleaseKind,
    /// Images of the new template, for people.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub images: Vec<String>,
    /// The Deployment's generation when its template was last seen to be this release's.
    #[serde(default)]
    pub deployment_generation: i64,
    /// Digest of the template, to see after its ReplicaSet is gone that it has changed; believed
    /// only when the Deployment's generation has changed too.
    #[serde(default)]
    pub template_digest: String,
    /// When it began.
    #[schemars(schema_with = "instant")]
    pub started_at: Timestamp,
    /// Digest of `plan`.
    pub plan_hash: String,
    /// The spec that this release follows, with templates filled in; edits count from the next one.
    #[schemars(schema_with = "opaque_object")]
    pub plan: Value,
    /// Who promoted it through all of its steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_by: Option<String>,
    /// Steps that have passed.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub passes: Vec<StepPass>,
}

/// Kinds of release.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseKind {
    /// A template that is new.
    #[default]
    New,
    /// A template that was promoted lately.
    Undo,
    /// A template that was rolled back and that a person tries again. Each try has a chance of its
    /// own to pass by luck.
    Retry,
}

/// The record that a step passed; the weight rises only after it.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepPass {
    /// Index of the step.
    pub step: i32,
    /// Its weight.
    pub weight: i32,
    /// Digest of the plan that it passed under.
    pub plan_hash: String,
    /// "surefoot", or the user who promoted.
    pub actor: String,
    /// On what evidence, in words.
    pub evidence: String,
    /// When.
    #[schemars(schema_with = "instant")]
    pub at: Timestamp,
}

/// A version: its ReplicaSet.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Name of the ReplicaSet.
    pub replica_set: String,
    /// Its `pod-template-hash`.
    pub hash: String,
    /// Images, for people.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub images: Vec<String>,
    /// An old ReplicaSet of the Deployment that was taken over, to be given back on rollback.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken_over: bool,
}

/// The step under way.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Its index, from 0.
    pub index: i32,
    /// Its weight.
    pub weight: i32,
    /// When the step was begun, its pods not yet ready.
    #[schemars(schema_with = "instant")]
    pub begun_at: Timestamp,
    /// When the weight was confirmed to be in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_instant")]
    pub started_at: Option<Timestamp>,
    /// From when on metrics are judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_instant")]
    pub judged_from: Option<Timestamp>,
    /// Ready canary pods when last counted; more of them begin a new warm-up.
    #[serde(default)]
    pub ready_pods: u32,
    /// Its weight was not ours any more and is being written again, as somebody asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restoring: bool,
    /// It may be left without enough evidence, and people have been told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub evidence_waived: bool,
    /// What of its gate can't be met at the traffic that was known when it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 21), extend("x-kubernetes-list-type" = "atomic"))]
    pub unreachable: Vec<UnreachableGate>,
    /// maxDuration has passed, the plan says to look on, and people have been told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
    /// People have been told that it waits for their approval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approval_asked: bool,
    /// Who approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// The step is held, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Since when the canary has had no ready pod, while stable has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_instant")]
    pub empty_since: Option<Timestamp>,
    /// Since when there have been no usable metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_instant")]
    pub dark_since: Option<Timestamp>,
    /// Seconds of this step without usable metrics; maxDuration doesn't count them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dark_seconds: i64,
    /// All steps have passed: what reached stable may reach the tested pods.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handing_over: bool,
    /// Since when the weights of the hand-over have been in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_instant")]
    pub handed_over_at: Option<Timestamp>,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// A hold that only a command (or, for no data, the data) ends.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// Since when.
    #[schemars(schema_with = "instant")]
    pub since: Timestamp,
    /// In words.
    pub message: String,
}

/// Why a step is held.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldReason {
    /// maxDuration passed without enough evidence.
    Inconclusive,
    /// No usable metrics for longer than noDataPolicy allows.
    NoData,
    /// Somebody lowered the canary's weight on the route, or took chosen requests off it.
    WeightLowered,
    /// Somebody keeps undoing what is written to the route.
    TrafficOwnershipConflict,
}

/// Somebody else's weights on the route, above what is allowed and put right.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contest {
    /// Who wrote them, by the route's field managers.
    pub manager: String,
    /// How often within a minute of each other; at 5 it is a fight.
    #[schemars(range(min = 1, max = 5))]
    pub count: i32,
    /// When the last one was put right.
    #[schemars(schema_with = "instant")]
    pub at: Timestamp,
    /// The route's resourceVersion then: each edit counts once, however often it takes to undo it.
    pub version: String,
}

/// A person's pause.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Who.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    #[schemars(schema_with = "instant")]
    pub since: Timestamp,
}

/// A template on its way back into the Deployment.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Undoing {
    /// Who asked for it.
    pub by: String,
    /// The ReplicaSet whose template it is.
    pub replica_set: String,
    /// Digest of the template that it replaces: any other one is somebody's newer wish and stays.
    pub instead_of: String,
}

impl HoldReason {
    /// Whether the weight on the route isn't ours: `resume` writes it again, `promote` says nothing.
    #[must_use]
    pub fn is_about_weights(self) -> bool {
        matches!(self, HoldReason::WeightLowered | HoldReason::TrafficOwnershipConflict)
    }
}

/// One thing that is waited for.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// What it is.
    pub kind: WaitingKind,
    /// The metric or object, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How much there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub have: Option<i64>,
    /// How much is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<i64>,
    /// In words, with what would end the wait.
    pub message: String,
    /// When it ends at the latest, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_instant")]
    pub until: Option<Timestamp>,
}

/// Everything that can be waited for.
#[derive(
    JsonSchema, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum WaitingKind {
    /// The Deployment, Service or route is missing or not as it must be.
    Prerequisite,
    /// The Deployment's own rollout is still going on.
    NativeRollout,
    /// The API server refuses a write: a right, a quota, an admission policy.
    Refused,
    /// The admission policy that holds new templates does not bite yet.
    HoldReady,
    /// The two Services must reach the right pods.
    Services,
    /// The canary's ReplicaSet must exist.
    CanaryCreated,
    /// Canary pods must be ready.
    CanaryReady,
    /// A record of stable's latency and failures before the canary.
    Baseline,
    /// The route must carry the weight.
    RouteWritten,
    /// The mesh must follow the route as it is now.
    RouteAccepted,
    /// The weight must be in force.
    Propagation,
    /// The time after a change that is not judged.
    WarmUp,
    /// What the gate needs doesn't come at this traffic.
    GateUnreachable,
    /// The metric's evidence must suffice.
    Evidence,
    /// minDuration of judged time.
    MinDuration,
    /// minRequests of the canary.
    MinRequests,
    /// Requests begun before may still run into the route's timeout.
    SlowRequests,
    /// Metrics are missing, partial or wrong.
    Metrics,
    /// The canary's share of the requests is far from its weight.
    ExposureMismatch,
    /// Requests that don't go by the route reach the canary.
    Leak,
    /// A person's approval.
    Approval,
    /// `spec.paused`.
    Paused,
    /// A person has paused the release: `resume` ends it.
    Resume,
    /// A person's decision on an inconclusive step.
    Decision,
    /// Somebody lowered the weight on the route.
    WeightLowered,
    /// Somebody else keeps writing the route's weights.
    TrafficOwnership,
    /// All canary pods have gone; the weight is 0 until they are back.
    Endpoints,
    /// The time the old pods stay for open connections.
    ScaleDownDelay,
    /// The deployment controller must see the ReplicaSet it got.
    Adoption,
    /// Old pods must be gone.
    OldPods,
    /// Canary pods must be gone.
    CanaryGone,
    /// The Deployment's template must change (or go back to stable's).
    Template,
    /// A Rollout that goes away first sends what it has to say, for a few seconds.
    Notifications,
}

/// A release that ended.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastRelease {
    /// Its number.
    pub number: i64,
    /// Promoted, RolledBack or Outside.
    pub outcome: Outcome,
    /// What kind of release it was.
    #[serde(default)]
    pub kind: ReleaseKind,
    /// "surefoot", or the user whose command ended it; empty where that isn't known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Its ReplicaSet.
    pub replica_set: String,
    /// The ReplicaSet whose place it took; going back to that is an undo too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
    /// Its images.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub images: Vec<String>,
    /// When it began.
    #[schemars(schema_with = "instant")]
    pub started_at: Timestamp,
    /// When it ended.
    #[schemars(schema_with = "instant")]
    pub ended_at: Timestamp,
    /// Why it ended so.
    pub why: String,
    /// Steps that had passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub passes: Vec<StepPass>,
    /// The evidence when it ended, of the first metrics and without their tests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub analysis: Vec<MetricStatus>,
    /// The same of the release as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<ReleaseEvidence>,
}

/// How a release ended.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All traffic, and the Deployment's.
    Promoted,
    /// Back on stable.
    RolledBack,
    /// Rolled out natively while the Rollout was not watching.
    Outside,
}
