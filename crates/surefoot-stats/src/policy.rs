//! What a release is judged by; fixed before its first canary request, or the bounds don't hold.

use serde::{Deserialize, Serialize};

use crate::latency::{Baseline, Margins, not_rising};
use crate::{crash, state, vote};

/// The rules of one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Chance of rolling back a release within its tolerances, in (0, 1).
    pub false_rollback: f64,
    /// Chance of passing a metric beyond its tolerance, for each step and metric, in (0, 1).
    pub false_pass: f64,
    /// The canary's share of traffic at each step, in (0, 1], rising, the last 1.
    pub weights: Vec<f64>,
    /// The metrics of the sequential judge.
    pub metrics: Vec<MetricPolicy>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricPolicy {
    /// What its verdict counts for.
    pub role: Role,
    /// Its share of the false-rollback budget before normalising, above 0.
    pub importance: f64,
    /// φ ≥ 1: how many times more its counts vary than those of independent requests. Divides ln e of
    /// every block but in the votes.
    pub phi: f64,
    /// η in (0, 1]: how far its window votes are trusted. Multiplies their ln E.
    pub eta: f64,
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
    /// Pairs of numbers that are no counts.
    Pairs(PairTest),
}

/// Tolerance for pairs of numbers taken at the same time, of which less is better: the canary's is
/// at most so many times stable's, as often as not ([`crate::sign`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairTest {
    /// How many times, above 0.
    pub times: f64,
}

/// Tolerances for the share of bad requests. With none, the canary is only watched for failing more
/// than stable at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CountTest {
    /// Excess over stable's rate, as a fraction in (0, 1]: a budget over all traffic.
    pub max_drop: Option<f64>,
    /// Ratio to stable's rate, at least 1. With `max_drop` the larger tolerance of the two holds.
    pub max_failure_ratio: Option<f64>,
    /// Objective: rate to stay below whatever stable does, in (0, 1); 1 − the least success rate.
    pub max_failure_rate: Option<f64>,
}

/// Tolerances for slow requests. With none, the canary is only watched for being slower at all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyTest {
    /// How many times as long as stable's a request may take, above 1.
    pub max_slowdown: Option<f64>,
    /// A percentile that must stay below a latency, whatever stable does.
    pub objective: Option<Objective>,
    /// Stable's past, at the same boundaries; without it `max_slowdown` can't be judged.
    pub baseline: Option<Baseline>,
    /// Finite boundaries of the histogram, rising, milliseconds.
    pub boundaries: Vec<f64>,
}

/// "The percentile is at most the threshold": at most 1 − percentile of requests are slower.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Milliseconds, above 0.
    pub threshold_ms: f64,
    /// As a fraction in (0, 1): 0.99 for p99.
    pub percentile: f64,
}

/// A policy that can't be kept to.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// A chance that is none.
    #[error("{name} is {value}; write a chance above 0 and below 1")]
    Chance {
        /// Which.
        name: &'static str,
        /// What it is.
        value: f64,
    },
    /// Weights that don't lead to 1.
    #[error("weights must rise within (0, 1] and end with 1")]
    Weights,
    /// A value of a metric outside of its range.
    #[error("metric {metric}: {field} is {value}; it must be {range}")]
    Range {
        /// Index of the metric.
        metric: usize,
        /// Which field.
        field: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// Boundaries that don't rise.
    #[error("metric {metric}: boundary {boundary} does not rise above the one before it")]
    Boundaries {
        /// Index of the metric.
        metric: usize,
        /// Index of the boundary.
        boundary: usize,
    },
    /// A baseline of another histogram.
    #[error("metric {metric}: the baseline's boundaries are not the metric's")]
    BaselineBoundaries {
        /// Index of the metric.
        metric: usize,
    },
    /// A required metric that two perfect arms could never pass.
    #[error(
        "metric {metric} is required but has nothing to pass by; give maxDrop or min (latency: \
         maxSlowdown or max), or make it a guard"
    )]
    NothingToPass {
        /// Index of the metric.
        metric: usize,
    },
}

impl CountTest {
    /// Whether the canary is compared with stable by a tolerance.
    #[must_use]
    pub fn compares(&self) -> bool {
        self.max_drop.is_some() || self.max_failure_ratio.is_some()
    }

    /// Whether plain "no more than stable" is tested: beside an objective (what stable misses too
    /// is no fault of the canary), and wherever no ratio is given.
    pub(crate) fn needs_equal(&self) -> bool {
        self.max_failure_rate.is_some() || self.max_failure_ratio.is_none()
    }

    /// The ratio that can be passed by: above 1, or no evidence could show that it is kept.
    pub(crate) fn pass_ratio(&self) -> Option<f64> {
        self.max_failure_ratio.filter(|r0| *r0 > 1.0)
    }
}

impl LatencyTest {
    /// The boundaries that show harm of the comparison, and R0 at each.
    ///
    /// For a slowdown those that the baseline makes usable ([`Baseline::margin`]), none without a
    /// baseline. Where neither slowdown nor objective is given all of them, with R0 = 1.
    pub fn harm_margins(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let known = self.known();
        let usable = known.map_or(&[][..], |known| known.usable.as_slice());
        usable.iter().copied().chain(self.others(known))
    }

    /// The slowdown's margins, where they are known.
    fn known(&self) -> Option<&Margins> {
        self.baseline.as_ref()?.known(self.max_slowdown?)
    }

    /// Margins that aren't known: of another slowdown than the baseline was asked for first, and of a
    /// latency that is only watched.
    fn others(&self, known: Option<&Margins>) -> impl Iterator<Item = (usize, f64)> + '_ {
        let watched = self.max_slowdown.is_none() && self.objective.is_none();
        let margin = move |i: usize| match self.max_slowdown {
            Some(slowdown) => self.baseline.as_ref()?.margin(i, slowdown),
            None => watched.then_some(1.0),
        };
        let boundaries = if known.is_some() { 0 } else { self.boundaries.len() };
        (0..boundaries).filter_map(move |i| Some((i, margin(i)?)))
    }

    /// Those of [`harm_margins`](Self::harm_margins) that windows vote on: with R0 = 1, or where so
    /// few of stable's requests were slower that R0 times as many are a rare kind as well.
    pub fn vote_margins(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let known = self.known();
        let voted = known.map_or(&[][..], |known| known.voted.as_slice());
        let votes = |(i, r0): &(usize, f64)| match &self.baseline {
            Some(baseline) => baseline.votes(*i, *r0),
            None => vote::applies(*r0, 1.0),
        };
        voted.iter().copied().chain(self.others(known).filter(votes))
    }

    /// The boundary by which the comparison passes, and R0 there ([`Baseline::pass_boundary`]).
    #[must_use]
    pub fn pass_boundary(&self) -> Option<(usize, f64)> {
        self.baseline.as_ref()?.pass_boundary(self.max_slowdown?)
    }

    /// The boundary at which the objective shows harm: the first at or above its threshold, as
    /// requests slower than that are certainly too slow.
    #[must_use]
    pub fn objective_harm_boundary(&self) -> Option<usize> {
        let threshold = self.objective?.threshold_ms;
        self.boundaries.iter().position(|b| *b >= threshold)
    }

    /// The boundary at which the objective passes: the last at or below its threshold, as requests
    /// not slower than that are certainly fast enough.
    #[must_use]
    pub fn objective_pass_boundary(&self) -> Option<usize> {
        let threshold = self.objective?.threshold_ms;
        self.boundaries.iter().rposition(|b| *b <= threshold)
    }

    /// The boundary whose counts stand for the metric when it is shown: the one that it passes by,
    /// else the objective's.
    #[must_use]
    pub fn shown_boundary(&self) -> Option<usize> {
        let pass = self.pass_boundary().map(|(i, _)| i);
        pass.or_else(|| self.objective_pass_boundary()).or_else(|| self.objective_harm_boundary())
    }
}

impl Objective {
    /// The share of requests that may be slower than the threshold, in (0, 1).
    #[must_use]
    pub fn exceedance(&self) -> f64 {
        1.0 - self.percentile
    }
}

impl Policy {
    /// Whether the policy can be kept to. Everything else in this crate takes a valid one.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let chances = [("false_rollback", self.false_rollback), ("false_pass", self.false_pass)];
        if let Some((name, value)) = chances.into_iter().find(|(_, p)| !(*p > 0.0 && *p < 1.0)) {
            return Err(PolicyError::Chance { name, value });
        }
        let rising = not_rising(&self.weights).is_none();
        if !rising || self.weights.last().is_none_or(|w| w.to_bits() != 1f64.to_bits()) {
            return Err(PolicyError::Weights);
        }
        self.metrics.iter().enumerate().try_for_each(|(i, metric)| metric.validate(i))
    }

    /// ln of the evidence that rolls back: ln(1/`false_rollback`).
    #[must_use]
    pub fn harm_threshold(&self) -> f64 {
        -self.false_rollback.ln()
    }

    /// ln of the evidence that passes: ln(1/`false_pass`).
    #[must_use]
    pub fn pass_threshold(&self) -> f64 {
        -self.false_pass.ln()
    }

    /// Whether stable has traffic at a step, so that the canary can be compared.
    #[must_use]
    pub fn has_stable_traffic(&self, step: usize) -> bool {
        self.weights.get(step).is_some_and(|w| *w < 1.0)
    }

    /// The excess failure rate to pass a step by: `max_drop` over the *next* step's weight, at most
    /// 1, because it is a budget of failures over all traffic. At the last step that has stable
    /// traffic the next weight is 1 and all of `max_drop` must be kept.
    ///
    /// Only for passing: harm is always measured against `max_drop` itself.
    #[must_use]
    pub fn pass_margin(&self, step: usize, max_drop: f64) -> f64 {
        let next = self.weights.get(step.saturating_add(1)).copied().unwrap_or(1.0);
        (max_drop / next).min(1.0)
    }

    /// A metric's share of the false-rollback budget, in \[0, 1\]: its importance among required and
    /// guard metrics, of what the crash guard leaves. 0 for one that only observes.
    #[must_use]
    pub fn share(&self, metric: usize) -> f64 {
        let judged = |m: &&MetricPolicy| m.role != Role::Observe;
        let total: f64 = self.metrics.iter().filter(judged).map(|m| m.importance).sum();
        let own = self.metrics.get(metric).filter(judged).map_or(0.0, |m| m.importance);
        if own > 0.0 { (1.0 - crash::SHARE) * own / total } else { 0.0 }
    }

    /// No [`State`](crate::State) of this policy is longer than this many bytes in postcard's format,
    /// however much it has folded.
    #[must_use]
    pub fn state_bytes_bound(&self) -> usize {
        state::bytes_bound(self)
    }
}

/// What is wrong with φ or η, its value, and what it may be.
pub(crate) fn valid_dispersion(phi: f64, eta: f64) -> Option<(&'static str, f64, &'static str)> {
    if !(phi >= 1.0 && phi.is_finite()) {
        return Some(("phi", phi, "a finite number of at least 1, that of independent requests"));
    }
    (!(eta > 0.0 && eta <= 1.0)).then_some(("eta", eta, "in (0, 1]"))
}

impl MetricPolicy {
    fn validate(&self, metric: usize) -> Result<(), PolicyError> {
        let range = |field, value: Option<f64>, range, fits: fn(f64) -> bool| match value {
            Some(value) if !(value.is_finite() && fits(value)) => {
                Err(PolicyError::Range { metric, field, value, range })
            }
            _ => Ok(()),
        };
        range("importance", Some(self.importance), "above 0", |v| v > 0.0)?;
        if let Some((field, value, range)) = valid_dispersion(self.phi, self.eta) {
            return Err(PolicyError::Range { metric, field, value, range });
        }
        let passable = match &self.test {
            Test::Counts(test) => {
                // The lower limits keep every intermediate result a normal number.
                range("max_drop", test.max_drop, "in [1e-9, 1]", |v| (1e-9..=1.0).contains(&v))?;
                range("max_failure_ratio", test.max_failure_ratio, "in [1, 1e6]", |v| {
                    (1.0..=1e6).contains(&v)
                })?;
                range("max_failure_rate", test.max_failure_rate, "in [1e-9, 1)", |v| {
                    (1e-9..1.0).contains(&v)
                })?;
                test.max_drop.is_some() || test.max_failure_rate.is_some()
            }
            Test::Latency(test) => {
                range("max_slowdown", test.max_slowdown, "above 1", |v| v > 1.0)?;
                let (percentile, threshold) =
                    (test.objective.map(|o| o.percentile), test.objective.map(|o| o.threshold_ms));
                range("percentile", percentile, "a fraction in (0, 1)", |v| v > 0.0 && v < 1.0)?;
                range("threshold_ms", threshold, "above 0", |v| v > 0.0)?;
                if let Some(boundary) = not_rising(&test.boundaries) {
                    return Err(PolicyError::Boundaries { metric, boundary });
                }
                if test.baseline.as_ref().is_some_and(|b| b.boundaries() != test.boundaries) {
                    return Err(PolicyError::BaselineBoundaries { metric });
                }
                test.max_slowdown.is_some() || test.objective.is_some()
            }
            Test::Pairs(test) => {
                range("times", Some(test.times), "above 0", |v| v > 0.0)?;
                true
            }
        };
        if self.role == Role::Required && !passable {
            return Err(PolicyError::NothingToPass { metric });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::SlowArm;

    fn counts(role: Role, importance: f64, test: CountTest) -> MetricPolicy {
        MetricPolicy { role, importance, phi: 3.0, eta: 1.0, test: Test::Counts(test) }
    }

    fn policy(metrics: Vec<MetricPolicy>) -> Policy {
        Policy { false_rollback: 0.01, false_pass: 0.05, weights: vec![0.1, 0.5, 1.0], metrics }
    }

    const DROP: CountTest =
        CountTest { max_drop: Some(0.005), max_failure_ratio: None, max_failure_rate: None };

    #[test]
    fn shares_are_of_what_the_crash_guard_leaves() {
        let p = policy(vec![
            counts(Role::Required, 2.0, DROP),
            counts(Role::Observe, 5.0, DROP),
            counts(Role::Guard, 1.0, CountTest::default()),
        ]);
        assert_eq!(p.validate(), Ok(()));
        assert!((p.share(0) - 0.6).abs() < 1e-15 && (p.share(2) - 0.3).abs() < 1e-15);
        assert_eq!((p.share(1), p.share(3)), (0.0, 0.0));
    }

    #[test]
    fn the_margin_to_pass_is_a_budget_over_all_traffic() {
        let p = policy(vec![]);
        assert!((p.pass_margin(0, 0.005) - 0.01).abs() < 1e-15);
        assert_eq!(p.pass_margin(1, 0.005), 0.005);
        assert_eq!(p.pass_margin(0, 0.9), 1.0);
    }

    #[test]
    fn what_cannot_be_kept_to_is_refused() {
        let with = |change: fn(&mut Policy)| {
            let mut p = policy(vec![counts(Role::Required, 1.0, DROP)]);
            change(&mut p);
            p.validate().unwrap_err().to_string()
        };
        assert!(with(|p| p.false_rollback = 0.0).contains("false_rollback"));
        assert!(with(|p| p.false_pass = f64::NAN).contains("false_pass"));
        for phi in [0.9, f64::INFINITY, f64::NAN] {
            let mut p = policy(vec![counts(Role::Guard, 1.0, DROP)]);
            p.metrics[0].phi = phi;
            assert!(p.validate().unwrap_err().to_string().contains("phi"));
        }
        for eta in [0.0, 1.1, f64::NAN] {
            let mut p = policy(vec![counts(Role::Guard, 1.0, DROP)]);
            p.metrics[0].eta = eta;
            assert!(p.validate().unwrap_err().to_string().contains("eta"));
        }
        for weights in [vec![], vec![0.5], vec![0.5, 0.5, 1.0], vec![0.0, 1.0], vec![0.5, 1.0, 2.0]]
        {
            assert_eq!(Policy { weights, ..policy(vec![]) }.validate(), Err(PolicyError::Weights));
        }
        assert!(with(|p| p.metrics[0].importance = 0.0).contains("importance"));
        let ratio = CountTest { max_failure_ratio: Some(2.0), ..CountTest::default() };
        let alone = policy(vec![counts(Role::Required, 1.0, ratio)]);
        assert_eq!(alone.validate(), Err(PolicyError::NothingToPass { metric: 0 }));
        assert_eq!(policy(vec![counts(Role::Guard, 1.0, ratio)]).validate(), Ok(()));
        let ratio = CountTest { max_failure_ratio: Some(0.9), ..DROP };
        assert!(policy(vec![counts(Role::Guard, 1.0, ratio)]).validate().is_err());
    }

    #[test]
    fn a_latency_reads_the_boundaries_that_are_certain() {
        let objective = Objective { threshold_ms: 300.0, percentile: 0.99 };
        let mut test = LatencyTest {
            objective: Some(objective),
            boundaries: vec![100.0, 250.0, 500.0],
            ..LatencyTest::default()
        };
        assert_eq!(
            (test.objective_harm_boundary(), test.objective_pass_boundary()),
            (Some(2), Some(1))
        );
        assert_eq!(test.harm_margins().count(), 0);
        test.objective = Some(Objective { threshold_ms: 50.0, ..objective });
        assert_eq!(
            (test.objective_harm_boundary(), test.objective_pass_boundary()),
            (Some(0), None)
        );
        test.objective = Some(Objective { threshold_ms: 501.0, ..objective });
        assert_eq!(
            (test.objective_harm_boundary(), test.objective_pass_boundary()),
            (None, Some(2))
        );
        test.objective = None;
        assert_eq!(test.harm_margins().collect::<Vec<_>>(), [(0, 1.0), (1, 1.0), (2, 1.0)]);
        test.max_slowdown = Some(1.2);
        assert_eq!(test.harm_margins().count(), 0, "no baseline: nothing to compare by");
        test.baseline =
            Baseline::new(vec![100.0, 250.0], SlowArm::new(10, vec![4, 2]).unwrap()).ok();
        let metric = MetricPolicy {
            role: Role::Guard,
            importance: 1.0,
            phi: 3.0,
            eta: 1.0,
            test: Test::Latency(test),
        };
        let refused = policy(vec![metric]).validate();
        assert_eq!(refused, Err(PolicyError::BaselineBoundaries { metric: 0 }));
    }
}
