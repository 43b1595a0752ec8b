//! Which judge a metric has, and what the judges of other tools need to know.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::span_rules;
use super::schema::rules;
use super::text::{Number, Percent, Span};

/// The judges. All but sequential are those of other tools, for metrics that come from there: they
/// stand outside of falseRollback and falsePass, as none of them may be looked at repeatedly without
/// erring more often than it says.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Judge {
    /// Evidence that may be looked at as often as wanted.
    Sequential,
    /// Kayenta's: Mann-Whitney test on the values of blocks.
    MannWhitney,
    /// Fisher's exact test on the counts of the step.
    Fisher,
    /// Welch's t-test on the values of blocks.
    Welch,
    /// Kolmogorov-Smirnov test on the values of blocks.
    Ks,
    /// A value of the canary against a fixed limit, as in Flagger and Argo Rollouts.
    Threshold,
}

/// How mannWhitney, fisher, welch and ks compare the versions. They look for the first time when the
/// step's minDuration and minRequests are met, and then again after each minDuration.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("!has(self.confidence) || self.confidence.startsWith('{{') || (double(self.confidence.replace('%', '')) >= 50.0 && double(self.confidence.replace('%', '')) < 100.0)",
     "confidence must be from 50% to below 100%, such as 98%"),
])))]
pub struct Compare {
    /// Which difference of the failure share or latency is bad. Default increase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<CompareDirection>,
    /// Confidence of a single look: 100% less its chance to condemn a canary that doesn't differ.
    /// Default "98%" for mannWhitney (Kayenta's), else "95%".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Percent>,
    /// For mannWhitney: share of the estimated shift that its interval must lie beyond. Default
    /// "25%" (Kayenta's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Percent>,
    /// For mannWhitney: how the size of a difference is measured. Default meanRatio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect_size: Option<EffectSize>,
    /// For mannWhitney: an effect below this is no harm: "1.2". Default that of no difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_increase: Option<Number>,
    /// For mannWhitney: an effect above this is no harm: "0.8". Default that of no difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_decrease: Option<Number>,
}

/// Which difference is bad.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CompareDirection {
    /// More failures, or slower.
    Increase,
    /// Fewer, or faster.
    Decrease,
    /// Both.
    Either,
}

/// How the size of a difference is measured.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EffectSize {
    /// The canary's mean over stable's: 1 without a difference.
    MeanRatio,
    /// The chance that a value of the canary is above one of stable: 0.5 without a difference.
    Cles,
}

/// How often a threshold on successRate.min or latency.max is checked and may be missed. Flagger's
/// interval is the same; its threshold is one more than failureLimit (it rolls back *at* that many).
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checks {
    /// How many checks of a step may miss the limit before the release is rolled back. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub failure_limit: Option<i32>,
    /// How many in a row may. Default any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive_limit: Option<i32>,
    /// How long each check measures; the next begins where it ends. Default "1m".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = span_rules()))]
    pub interval: Option<Span>,
}
