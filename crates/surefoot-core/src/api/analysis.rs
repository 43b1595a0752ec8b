//! What is measured and how it is judged; in a Rollout or in a template.

use std::collections::BTreeMap;

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::judge::{Checks, Compare, Judge};
use super::schema::rules;
use super::text::{Number, Percent, Points, Ratio, Span};

/// Metrics that several Rollouts of one namespace use.
#[derive(CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "surefoot.dev",
    version = "v1alpha1",
    kind = "AnalysisTemplate",
    namespaced,
    shortname = "sfat",
    category = "surefoot",
    crates(kube_core = "::kube_core"),
    doc = "Metrics and how they are judged, for the Rollouts of this namespace.",
    printcolumn(name = "Metrics", type_ = "string", json_path = ".spec.metrics[*].name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisTemplateSpec {
    /// Names of the arguments that a Rollout may set, with their defaults; `{{args.NAME}}` in a
    /// metric's text stands for the value. An argument without a default must be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub args: Vec<TemplateArg>,
    /// The metrics.
    #[schemars(length(min = 1, max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub metrics: Vec<Metric>,
}

/// Metrics that Rollouts of every namespace use.
#[derive(CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "surefoot.dev",
    version = "v1alpha1",
    kind = "ClusterAnalysisTemplate",
    shortname = "sfcat",
    category = "surefoot",
    crates(kube_core = "::kube_core"),
    doc = "Metrics and how they are judged, for the Rollouts of every namespace.",
    printcolumn(name = "Metrics", type_ = "string", json_path = ".spec.metrics[*].name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterAnalysisTemplateSpec {
    /// Names of the arguments that a Rollout may set, with their defaults; `{{args.NAME}}` in a
    /// metric's text stands for the value. An argument without a default must be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub args: Vec<TemplateArg>,
    /// The metrics.
    #[schemars(length(min = 1, max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub metrics: Vec<Metric>,
}

/// One argument of a template.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateArg {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z][a-zA-Z0-9_]*$"))]
    pub name: String,
    /// Its value where the Rollout sets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub default: Option<String>,
}

/// How a release is judged.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// The chance of rolling back a release that is no worse than its tolerances allow, over the
    /// whole release however often it is looked at. Above 0%, at most 50%. Default "1%".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = risk_rules()))]
    pub false_rollback: Option<Percent>,
    /// The chance, for each step and metric, of passing a canary that is worse than its tolerance.
    /// Above 0%, at most 50%. Default "5%".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = risk_rules()))]
    pub false_pass: Option<Percent>,
    /// Templates whose metrics are judged beside those of `metrics`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    pub templates: Vec<TemplateRef>,
    /// Metrics of this Rollout. Without any, here and in templates: success rate (maxDrop 0.5pp)
    /// and latency (maxSlowdown 1.5).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub metrics: Vec<Metric>,
    /// Where the metrics are. Default: the ClusterMetricsSource named "default".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<SourceRef>,
    /// What to do when metrics stay away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_data_policy: Option<NoDataPolicy>,
}

/// A template by kind and name.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// AnalysisTemplate (of this namespace) or ClusterAnalysisTemplate.
    pub kind: TemplateKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Values for the template's arguments.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 20))]
    pub args: BTreeMap<String, String>,
}

/// The kinds of template.
#[derive(
    JsonSchema, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum TemplateKind {
    /// Of the Rollout's namespace.
    AnalysisTemplate,
    /// Of the cluster.
    ClusterAnalysisTemplate,
}

/// A metrics source by kind and name.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRef {
    /// MetricsSource (of this namespace) or ClusterMetricsSource.
    pub kind: SourceKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The kinds of metrics source.
#[derive(
    JsonSchema, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum SourceKind {
    /// Of the Rollout's namespace.
    MetricsSource,
    /// Of the cluster.
    ClusterMetricsSource,
}

/// What to do when a step has no usable metrics. Until `after` has passed the step is held; then
/// the policy applies. No data is never a pass and never, by itself, a failed analysis.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NoDataPolicy {
    /// How long to wait. Default "10m".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = span_rules()))]
    pub after: Option<Span>,
    /// What to do then. Default pause; a pause for want of data ends by itself when data come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<NoDataAction>,
}

/// What follows when metrics stay away.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NoDataAction {
    /// Hold the weight and say so.
    Pause,
    /// Bring the traffic back.
    Rollback,
}

/// One metric and its judge. Exactly one of successRate, latency, abandoned and prometheus.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("[has(self.successRate), has(self.latency), has(self.abandoned), has(self.prometheus)].filter(x, x).size() == 1",
     "give exactly one of successRate, latency, abandoned and prometheus"),
    ("!has(self.abandoned) || !has(self.judge) || self.judge == 'sequential'",
     "abandoned requests are judged by sequential alone: leave judge out"),
    ("!has(self.abandoned) || !has(self.role) || self.role != 'required' || has(self.abandoned.maxRatio)",
     "that no more requests are abandoned than of stable's can't be shown: leave role out, it guards; or give maxRatio"),
    ("(has(self.role) && self.role != 'required') || (has(self.judge) && self.judge != 'sequential') || !has(self.successRate) || has(self.successRate.maxDrop) || has(self.successRate.min)",
     "a required success rate needs maxDrop or min: with two perfect versions a ratio alone never passes"),
    ("!has(self.importance) || ((!has(self.prometheus) || has(self.prometheus.stable)) && (!has(self.judge) || self.judge == 'sequential'))",
     "importance shares the falseRollback budget, which only sequential metrics have part in: leave it out"),
    ("!has(self.prometheus) || !has(self.judge) || self.judge == (has(self.prometheus.stable) ? 'sequential' : 'threshold')",
     "a query gives one number, which a threshold judges, or sequential beside stable's: leave judge out"),
    ("(has(self.judge) && self.judge != 'sequential') || !has(self.successRate) || has(self.successRate.min) || has(self.successRate.maxDrop) || has(self.successRate.maxFailureRatio)",
     "give at least one of min, maxDrop and maxFailureRatio"),
    ("(has(self.judge) && self.judge != 'sequential') || !has(self.latency) || has(self.latency.max) || has(self.latency.maxSlowdown)",
     "give at least one of max and maxSlowdown"),
    ("!has(self.judge) || self.judge != 'threshold' || !has(self.successRate) || (has(self.successRate.min) && !has(self.successRate.maxDrop) && !has(self.successRate.maxFailureRatio))",
     "a threshold on the success rate is its min alone; maxDrop and maxFailureRatio are judge sequential's"),
    ("!has(self.judge) || self.judge != 'threshold' || !has(self.latency) || (has(self.latency.max) && !has(self.latency.maxSlowdown))",
     "a threshold on the latency is its max alone; maxSlowdown is judge sequential's"),
    ("!has(self.judge) || self.judge in ['sequential', 'threshold'] || !has(self.successRate) || (!has(self.successRate.min) && !has(self.successRate.maxDrop) && !has(self.successRate.maxFailureRatio))",
     "this judge compares the versions without min, maxDrop and maxFailureRatio: leave them out (successRate: {}), or use judge sequential"),
    ("!has(self.judge) || !(self.judge in ['mannWhitney', 'welch', 'ks']) || !has(self.latency) || (!has(self.latency.max) && !has(self.latency.maxSlowdown))",
     "this judge compares percentiles of both versions: leave max and maxSlowdown out, or use judge sequential or threshold"),
    ("!has(self.judge) || self.judge != 'fisher' || !has(self.latency) || (has(self.latency.max) && !has(self.latency.maxSlowdown) && !has(self.latency.percentile))",
     "fisher compares how many requests are slower than max: give max alone"),
    ("!has(self.compare) || (has(self.judge) && self.judge in ['mannWhitney', 'fisher', 'welch', 'ks'])",
     "compare is for the judges mannWhitney, fisher, welch and ks: set judge to one of them, or leave it out"),
    ("!has(self.compare) || !has(self.judge) || self.judge == 'mannWhitney' || !(has(self.compare.tolerance) || has(self.compare.effectSize) || has(self.compare.allowedIncrease) || has(self.compare.allowedDecrease))",
     "tolerance, effectSize, allowedIncrease and allowedDecrease are mannWhitney's: leave them out"),
    ("!has(self.compare) || !has(self.judge) || self.judge != 'fisher' || !has(self.compare.direction)",
     "fisher is one-sided, it looks for more failures: leave direction out"),
    ("!has(self.checks) || (has(self.judge) && self.judge == 'threshold' && !has(self.prometheus))",
     "checks are for judge threshold on successRate or latency; a query has its own failureLimit"),
    ("!has(self.calibration) || ((!has(self.prometheus) || has(self.prometheus.stable)) && (!has(self.judge) || self.judge == 'sequential'))",
     "calibration is for the sequential judge: leave it out"),
])))]
pub struct Metric {
    /// Name, shown in status and explain.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What the verdict counts for. Default required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<MetricRole>,
    /// How it is judged. Default sequential; a query's is threshold. The others are those of other
    /// tools, for those who come from there, and stand outside of falseRollback and falsePass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Judge>,
    /// How the judges mannWhitney, fisher, welch and ks compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
    /// How judge threshold checks a success rate or latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Checks>,
    /// How its counts hang together, where that was measured on a longer past than the controller
    /// reads (`surefoot backtest`). Default: measured on the last two hours before each release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<MetricCalibration>,
    /// Share of the falseRollback budget, relative to the other sequential metrics. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub importance: Option<i32>,
    /// Requests that don't fail: HTTP status below 500, gRPC status other than 2, 4, 13, 14, 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// Requests that aren't slow, from the mesh's latency histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Requests whose client went away before the answer (Istio's response code 0, flag DC), which are
    /// left out of the success rate. Every release is guarded by them, against stable's share and
    /// with a fifth of another metric's importance; named here to change that: another importance,
    /// a ratio that is tolerated, or role observe. Default role guard. Linkerd counts no such requests:
    /// there is no such guard there, and to ask for it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned: Option<Abandoned>,
    /// A number of your own, against fixed limits or against stable's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusQuery>,
}

/// What is known of a metric before a release.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("self.dispersion.startsWith('{{') || (double(self.dispersion) >= 1.0 && double(self.dispersion) <= 1000000.0)",
     "dispersion is at least 1, that of independent requests, and at most 1000000"),
    ("!has(self.voteExponent) || self.voteExponent.startsWith('{{') || (double(self.voteExponent) > 0.0 && double(self.voteExponent) <= 1.0)",
     "voteExponent is above 0 and at most 1, full trust"),
])))]
pub struct MetricCalibration {
    /// φ: how many times more its counts vary than those of independent requests: "1.4".
    pub dispersion: Number,
    /// η: the minutes' votes on harm count to this power: "0.8". Default "1".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vote_exponent: Option<Number>,
}

/// What a metric's verdict counts for.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MetricRole {
    /// Must pass before a step is left, and may roll back.
    Required,
    /// May roll back.
    Guard,
    /// Only shown.
    Observe,
}

/// Tolerances for the share of failed requests.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuccessRate {
    /// The success rate to hold in any case: "99.5%". While stable has traffic, a canary that
    /// misses it no worse than stable does is not rolled back for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Percent>,
    /// How many percentage points below stable's the success rate may lie, as a budget over all
    /// traffic: "0.5pp".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_drop: Option<Points>,
    /// How many times stable's failure rate the canary's may be: "1.5".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failure_ratio: Option<Ratio>,
}

/// Tolerance for requests whose client went away before the answer.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Abandoned {
    /// How many times stable's share the canary's may be: "1.5". Default: no more than stable's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ratio: Option<Ratio>,
}

/// Tolerances for slow requests.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("!has(self.maxSlowdown) || has(self.max) || !has(self.percentile)", "percentile belongs to max"),
])))]
pub struct Latency {
    /// The percentile that `max` is for, or that mannWhitney, welch and ks compare. Default 99.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub percentile: Option<i32>,
    /// The latency that the percentile must not pass: "500ms". Judged at the boundaries of the
    /// mesh's histogram around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = span_rules()))]
    pub max: Option<Span>,
    /// How many times slower than stable the canary may be: "1.5". Judged by the share of slow
    /// requests at the boundaries of the mesh's histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_slowdown: Option<Ratio>,
}

/// A query that gives one number, asked about every 15 seconds, and held against fixed limits or
/// against stable's number. A limit stands outside of falseRollback and falsePass: nothing is
/// promised about how often it errs. Beside stable's number it is judged sequentially: is the
/// canary's above so many times stable's more often than not? `{{canaryPods}}` and `{{stablePods}}` in a query
/// become regular expressions of the names of their pods.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("has(self.stable) || has(self.min) || has(self.max)", "give at least one of min and max, or stable's query"),
    ("has(self.stable) == has(self.maxRatio)", "stable and maxRatio belong together: give both or neither"),
    ("!has(self.stable) || (!has(self.min) && !has(self.max) && !has(self.failureLimit))",
     "min, max and failureLimit are for a query alone: leave them out beside stable"),
])))]
pub struct PrometheusQuery {
    /// PromQL with exactly one series as its answer.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// PromQL with exactly one series as its answer: stable's number, of which less is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub stable: Option<String>,
    /// How many times stable's number the canary's may be: "1.2".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ratio: Option<Ratio>,
    /// The number must not be below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Number>,
    /// The number must not be above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Number>,
    /// How many answers of a step may lie outside before the release is rolled back. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub failure_limit: Option<i32>,
}

fn risk_rules() -> serde_json::Value {
    rules(&[(
        "self.endsWith('%') && double(self.replace('%', '')) > 0.0 && double(self.replace('%', '')) <= 50.0",
        "must be more than 0% and at most 50%, such as 1%",
    )])
}

pub(super) fn span_rules() -> serde_json::Value {
    rules(&[(
        "self.startsWith('{{') || (duration(self) > duration('0s') && duration(self) <= duration('24h'))",
        "must be more than 0s and at most 24h",
    )])
}
