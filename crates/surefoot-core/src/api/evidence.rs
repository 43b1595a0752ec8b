//! The evidence of a release, as its status has it. Numbers that are no counts are text: the API has
//! no floats.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A metric's evidence.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricStatus {
    /// Its name.
    pub name: String,
    /// required, guard or observe.
    pub role: String,
    /// Continue, Pass, Harm, NoData or NotComparable.
    pub verdict: String,
    /// The canary's requests and bad ones in this step, judged time only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<ArmStatus>,
    /// Stable's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<ArmStatus>,
    /// Where the ratio of the canary's rate to stable's lies, with 1 − falseRollback confidence
    /// however often one looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<String>,
    /// Milliseconds, where bad requests are those slower than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slower_than: Option<String>,
    /// Evidence of harm, as the natural logarithm of the e-value; text, since the API has no floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm: Option<Evidence>,
    /// Its share of the budget for false rollbacks, a fraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// φ: how many times more its counts are taken to vary than those of independent requests; at
    /// least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispersion: Option<String>,
    /// Where its dispersion is from: so much of stable's past before the canary, or assumed and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub calibration: Option<String>,
    /// η: the minutes' votes on harm count to this power, in (0, 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vote_exponent: Option<String>,
    /// ln E of harm since each step began, in order. What counts is the mean of E over all steps,
    /// with 1 for a step that hasn't begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub harm_by_step: Vec<String>,
    /// Evidence that the canary is within its tolerance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<Evidence>,
    /// About how many more canary requests would pass the step if both versions went on as they did
    /// in it; absent where they never would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_to_pass: Option<i64>,
    /// The tests that the evidence is made of, since this step began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub tests: Vec<TestStatus>,
    /// What a reader should know: the boundary judged, why something can't be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Counts of one version.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArmStatus {
    /// Requests.
    pub requests: i64,
    /// Bad ones: failed, or slower than the boundary.
    pub bad: i64,
    /// Their share.
    pub rate: String,
    /// Where the true share lies, with 1 − falseRollback confidence however often one looks.
    pub interval: String,
}

/// Evidence against a hypothesis and how much decides.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// ln E now.
    pub log_e: String,
    /// ln E that decides.
    pub needed: String,
}

/// One of the tests that a metric's evidence is made of.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestStatus {
    /// What its evidence speaks for.
    pub side: TestSide,
    /// What the canary is held against.
    pub bound: BoundKind,
    /// The bound: a difference of rates, a ratio of rates, or a rate.
    pub value: String,
    /// Stable's rate, predicted from its requests so far; of a Difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<String>,
    /// Milliseconds, where bad requests are those slower than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slower_than: Option<String>,
    /// Requests and bad ones of the canary, then of stable; of Pairs all, those in which the canary's
    /// number was too high, and zeros.
    #[schemars(length(min = 4, max = 4))]
    pub counts: Vec<i64>,
    /// ln E since this step began, added up block by block, of requests each by itself.
    pub log_e: String,
    /// The same if these counts had come in one block: what a reader can compute from what is here.
    pub in_one_block: String,
    /// ln E of the minutes' votes on the same null since this step began, before the exponent. Where
    /// there is one, both have half of the say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub votes: Option<String>,
}

/// What a test's evidence speaks for.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TestSide {
    /// The canary is beyond the bound.
    Harm,
    /// The canary is within it.
    Safety,
}

/// What a canary is held against.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BoundKind {
    /// Stable's rate and so much more.
    Difference,
    /// So many times stable's rate.
    Ratio,
    /// A rate of its own, whatever stable does.
    Objective,
    /// So many times stable's number, as often as not.
    Pairs,
}

/// A part of a step's gate that can't be met at the traffic that was known when the step began.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnreachableGate {
    /// The metric; none for gate.minRequests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Canary requests that it takes; absent where no number of them would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<i64>,
    /// Canary requests that come before maxDuration.
    pub coming: i64,
}

/// The evidence of a release as a whole.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseEvidence {
    /// Evidence of harm over all metrics and the crash guard, each by its share; the largest that it
    /// was after any block, as that decides.
    pub harm: Evidence,
    /// The crash guard's own, which looks at all requests since the release had traffic.
    pub crash_guard: CrashGuardStatus,
    /// Chance of rolling back a release within its tolerances, a fraction.
    pub false_rollback: String,
    /// Chance of passing a metric beyond its tolerance, for each step, a fraction.
    pub false_pass: String,
    /// Steps of the release.
    pub steps: i64,
    /// The step that the metrics' counts are of.
    pub step: i64,
    /// Its weight.
    pub weight: i64,
    /// Seconds of it that have been judged.
    pub judged_seconds: i64,
    /// Canary requests in those.
    pub canary_requests: i64,
}

/// What the crash guard has seen.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CrashGuardStatus {
    /// ln E.
    pub log_e: String,
    /// Its share of the budget for false rollbacks, a fraction.
    pub budget: String,
    /// Difference of failure rates that it tolerates, a fraction.
    pub tolerates: String,
    /// Requests and failed ones of the canary, then of stable.
    #[schemars(length(max = 4))]
    pub counts: Vec<i64>,
}
