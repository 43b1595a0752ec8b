//! What a release is judged by; fixed before its first canary request.

use serde::{Deserialize, Serialize};

use crate::latency::Baseline;

/// Share of the false-rollback budget that the crash guard takes.
pub const CRASH_SHARE: f64 = 0.1;
/// Difference of failure rates that the crash guard tolerates.
pub const CRASH_DIFFERENCE: f64 = 0.1;

/// The rules of one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Chance of rolling back a release within its tolerances, in (0, 1).
    pub false_rollback: f64,
    /// Chance of passing a metric beyond its tolerance, a step, in (0, 1).
    pub false_pass: f64,
    /// The canary's weight at each step, in (0, 1], rising.
    pub weights: Vec<f64>,
    /// φ ≥ 1: how many times more counts vary than independent requests would.
    pub dispersion: f64,
    /// The metrics.
    pub metrics: Vec<MetricPolicy>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricPolicy {
    /// What its verdict counts for.
    pub role: Role,
    /// Its share of the false-rollback budget before normalising.
    pub importance: f64,
    /// What is tested.
    pub test: Test,
}

/// What a metric's verdict counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Must pass, and may roll back.
    Required,
    /// May roll back.
    Guard,
    /// Only shown.
    Observe,
}

/// What is tested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Test {
    /// Bad requests among all.
    Counts(CountTest),
    /// Slow requests, from a histogram.
    Latency(LatencyTest),
}

/// Tolerances for the share of bad requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CountTest {
    /// Excess over stable's share, a budget over all traffic.
    pub max_drop: Option<f64>,
    /// Ratio to stable's share, above 1.
    pub max_ratio: Option<f64>,
    /// Share to hold in any case, in (0, 1).
    pub max_rate: Option<f64>,
}

impl CountTest {
    /// Whether the canary is compared with stable.
    #[must_use]
    pub fn compares(&self) -> bool {
        self.max_drop.is_some() || self.max_ratio.is_some()
    }
}

/// Tolerances for slow requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyTest {
    /// Finite boundaries of the histogram, rising, milliseconds.
    pub boundaries: Vec<f64>,
    /// How many times slower than stable, above 1.
    pub max_slowdown: Option<f64>,
    /// A percentile that must stay below a latency.
    pub objective: Option<Objective>,
    /// Stable's past; without it slowdown can't be judged.
    pub baseline: Option<Baseline>,
}

/// "The percentile is at most the threshold."
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Milliseconds.
    pub threshold: f64,
    /// As a fraction, in (0, 1).
    pub percentile: f64,
}

impl LatencyTest {
    /// The boundary by which the comparison passes.
    #[must_use]
    pub fn pass_boundary(&self) -> Option<usize> {
        self.baseline.as_ref()?.pass_boundary(self.max_slowdown?)
    }
}

impl Policy {
    /// ln of the evidence that rolls back.
    #[must_use]
    pub fn harm_bound(&self) -> f64 {
        -self.false_rollback.ln()
    }

    /// ln of the evidence that passes.
    #[must_use]
    pub fn pass_bound(&self) -> f64 {
        -self.false_pass.ln()
    }

    /// Whether a step leaves stable without traffic, so that nothing can be compared.
    #[must_use]
    pub fn is_alone(&self, step: usize) -> bool {
        self.weights.get(step).is_some_and(|w| *w >= 1.0)
    }

    /// The excess tolerated at a step: the budget over all traffic spread over the canary's share of
    /// it at the next step; all of it at the last step that is compared.
    #[must_use]
    pub fn drop_at(&self, step: usize, max_drop: f64) -> f64 {
        let next = self.weights.get(step + 1).copied().unwrap_or(1.0);
        (max_drop / next).min(1.0)
    }

    /// A metric's share of the false-rollback budget; with the crash guard's they sum to 1.
    #[must_use]
    pub fn share(&self, metric: usize) -> f64 {
        let judged = |m: &&MetricPolicy| m.role != Role::Observe;
        let total: f64 = self.metrics.iter().filter(judged).map(|m| m.importance).sum();
        let own = self.metrics.get(metric).filter(judged).map_or(0.0, |m| m.importance);
        if total > 0.0 { (1.0 - CRASH_SHARE) * own / total } else { 0.0 }
    }
}
