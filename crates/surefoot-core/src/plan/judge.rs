//! Who judges a metric, with every default filled in.

use std::time::Duration;

use surefoot_stats::judge::Direction;
use surefoot_stats::judge::mann_whitney::{Effect, MannWhitney, Measure};
use surefoot_stats::threshold::Threshold;

use super::{MetricKind, PlanError, span, text};
use crate::api::analysis::Metric;
use crate::api::judge::{Checks, Compare, CompareDirection, EffectSize, Judge};
use crate::api::text::Percent;

/// The judge of a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum JudgePlan {
    /// Evidence within falseRollback and falsePass.
    Sequential,
    /// A user's query against limits.
    Query,
    /// A value of the canary against a limit.
    Checks(ChecksPlan),
    /// Both versions, by a test that is good for one look.
    Compare(Comparison),
}

/// A value of the canary against a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct ChecksPlan {
    /// Success rate as a fraction, or milliseconds.
    pub limit: Threshold,
    /// How long each check measures.
    pub interval: Duration,
}

/// A test that is good for one look.
#[derive(Debug, Clone, PartialEq)]
pub enum Comparison {
    /// Kayenta's.
    MannWhitney(MannWhitney),
    /// Fisher's exact test, at this level of a look.
    Fisher(f64),
    /// Welch's t-test, at this level of a look.
    Welch(f64, Direction),
    /// Kolmogorov–Smirnov, at this level of a look.
    Ks(f64, Direction),
}

impl Comparison {
    /// Its name in the API.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Comparison::MannWhitney(_) => "mannWhitney",
            Comparison::Fisher(_) => "fisher",
            Comparison::Welch(..) => "welch",
            Comparison::Ks(..) => "ks",
        }
    }
}

/// The judge of a metric of this kind; admission has refused what doesn't go together, and this is
/// what stands when it could not.
pub(super) fn judge(metric: &Metric, kind: &MetricKind) -> Result<JudgePlan, PlanError> {
    let default = match kind {
        MetricKind::Query { .. } => Judge::Threshold,
        _ => Judge::Sequential,
    };
    let judge = metric.judge.unwrap_or(default);
    let invalid = |field: &str, problem: &str, remedy: &str| PlanError::Invalid {
        path: format!("analysis.metrics[{}].{field}", metric.name),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    };
    if judge != Judge::Sequential && metric.importance.is_some() {
        let problem = "it shares the falseRollback budget, which this judge has no part in";
        return Err(invalid("importance", problem, "leave it out"));
    }
    let compares = !matches!(judge, Judge::Sequential | Judge::Threshold);
    if metric.compare.is_some() && !compares {
        let remedy = "set judge to mannWhitney, fisher, welch or ks, or leave it out";
        return Err(invalid("compare", "this judge compares nothing", remedy));
    }
    if metric.checks.is_some() && (judge != Judge::Threshold || metric.prometheus.is_some()) {
        let remedy = "leave it out, or set judge to threshold on successRate or latency";
        return Err(invalid("checks", "this judge has no checks", remedy));
    }
    if !fits(judge, kind) {
        let problem = "what is measured does not fit the judge";
        return Err(invalid("judge", problem, wanted(judge)));
    }
    let compare = metric.compare.clone().unwrap_or_default();
    Ok(match (judge, kind) {
        (_, MetricKind::Query { .. }) => JudgePlan::Query,
        (Judge::Sequential, _) => JudgePlan::Sequential,
        (Judge::Threshold, _) => JudgePlan::Checks(checks(metric, metric.checks.as_ref(), kind)?),
        _ => JudgePlan::Compare(comparison(metric, judge, &compare)?),
    })
}

/// Whether a judge has what it needs and nothing that it would pass over in silence.
fn fits(judge: Judge, kind: &MetricKind) -> bool {
    match kind {
        MetricKind::Query { .. } => judge == Judge::Threshold,
        MetricKind::Abandoned { .. } | MetricKind::Pairs { .. } => judge == Judge::Sequential,
        MetricKind::SuccessRate { max_failure_rate: min, max_drop, max_failure_ratio: ratio } => {
            let relative = max_drop.is_some() || ratio.is_some();
            match judge {
                Judge::Sequential => min.is_some() || relative,
                Judge::Threshold => min.is_some() && !relative,
                _ => min.is_none() && !relative,
            }
        }
        MetricKind::Latency { max_ms, max_slowdown, .. } => match judge {
            Judge::Sequential => max_ms.is_some() || max_slowdown.is_some(),
            Judge::Threshold | Judge::Fisher => max_ms.is_some() && max_slowdown.is_none(),
            _ => max_ms.is_none() && max_slowdown.is_none(),
        },
    }
}

fn wanted(judge: Judge) -> &'static str {
    match judge {
        Judge::Sequential => {
            "give successRate min, maxDrop or maxFailureRatio, latency max or maxSlowdown, \
             abandoned, or a prometheus query with one of stable; a query alone is judged by a \
             threshold"
        }
        Judge::Threshold => "give successRate min alone, latency max alone, or a prometheus query",
        Judge::Fisher => "give successRate: {} or latency max alone",
        _ => "give successRate: {} or latency with a percentile alone",
    }
}

fn checks(
    metric: &Metric,
    written: Option<&Checks>,
    kind: &MetricKind,
) -> Result<ChecksPlan, PlanError> {
    let written = written.cloned().unwrap_or_default();
    // Decimals aren't exact in binary: a value that is the limit lies within.
    const NEXT_TO: f64 = 1e-12;
    let (min, max) = match kind {
        MetricKind::SuccessRate { max_failure_rate, .. } => {
            (max_failure_rate.map(|rate| (1.0 - rate) * (1.0 - NEXT_TO)), None)
        }
        MetricKind::Latency { max_ms, .. } => (None, max_ms.map(|max| max * (1.0 + NEXT_TO))),
        MetricKind::Query { min, max, .. } => (*min, *max),
        MetricKind::Abandoned { .. } | MetricKind::Pairs { .. } => (None, None),
    };
    let path = format!("analysis.metrics[{}].checks.interval", metric.name);
    let interval = span(&path, written.interval.as_ref(), 60)?;
    let limit = Threshold {
        min,
        max,
        failure_limit: written.failure_limit.unwrap_or(3).unsigned_abs(),
        consecutive_limit: written.consecutive_limit.map(i32::unsigned_abs),
    };
    Ok(ChecksPlan { limit, interval })
}

fn comparison(metric: &Metric, judge: Judge, written: &Compare) -> Result<Comparison, PlanError> {
    let path = |field: &str| format!("analysis.metrics[{}].compare.{field}", metric.name);
    let direction = match written.direction {
        None | Some(CompareDirection::Increase) => Direction::Increase,
        Some(CompareDirection::Decrease) => Direction::Decrease,
        Some(CompareDirection::Either) => Direction::Either,
    };
    let confidence = text(path("confidence"), written.confidence.as_ref(), Percent::fraction)?;
    if confidence.is_some_and(|c| !(0.5..1.0).contains(&c)) {
        return Err(PlanError::Invalid {
            path: path("confidence"),
            problem: "it is no confidence to judge with".to_owned(),
            remedy: "use from 50% to below 100%, such as 98%".to_owned(),
        });
    }
    let alpha = 1.0 - confidence.unwrap_or(0.95);
    Ok(match judge {
        Judge::Fisher => Comparison::Fisher(alpha),
        Judge::Welch => Comparison::Welch(alpha, direction),
        Judge::Ks => Comparison::Ks(alpha, direction),
        Judge::MannWhitney | Judge::Sequential | Judge::Threshold => {
            let mut judge = MannWhitney { direction, ..MannWhitney::default() };
            judge.confidence = confidence.unwrap_or(judge.confidence);
            let tolerance = text(path("tolerance"), written.tolerance.as_ref(), Percent::fraction)?;
            judge.tolerance = tolerance.unwrap_or(judge.tolerance);
            judge.effect = Effect::of(match written.effect_size {
                None | Some(EffectSize::MeanRatio) => Measure::MeanRatio,
                Some(EffectSize::Cles) => Measure::Cles,
            });
            let limits = &mut judge.effect.allowed;
            let (up, down) = (&written.allowed_increase, &written.allowed_decrease);
            let up = text(path("allowedIncrease"), up.as_ref(), |n| n.value())?;
            let down = text(path("allowedDecrease"), down.as_ref(), |n| n.value())?;
            limits.increase = up.unwrap_or(limits.increase);
            limits.decrease = down.unwrap_or(limits.decrease);
            judge.validate().map_err(|error| PlanError::Invalid {
                path: path(match error.field {
                    "increase" => "allowedIncrease",
                    "decrease" => "allowedDecrease",
                    field => field,
                }),
                problem: format!("{} can't be judged by", error.value),
                remedy: format!("it must be {}", error.range),
            })?;
            Comparison::MannWhitney(judge)
        }
    })
}
