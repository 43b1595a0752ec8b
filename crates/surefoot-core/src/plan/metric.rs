//! What is measured and against which tolerance, with every default filled in.

use surefoot_stats::calibration::{ASSUMED_ETA, ASSUMED_PHI};

use super::judge::{JudgePlan, judge};
use super::{PlanError, text};
use crate::api::analysis::{Metric, MetricRole, PrometheusQuery};
use crate::api::judge::Judge;
use crate::api::rollout::Mesh;
use crate::api::text::{Number, Percent, Points, Ratio, Span};
use crate::metrics::vocabulary;

/// One metric.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricPlan {
    /// Its name.
    pub name: String,
    /// What its verdict counts for.
    pub role: MetricRole,
    /// Required by default only: where stable's latencies can't be compared, a metric that nobody
    /// asked for becomes a guard for the release instead of blocking it.
    pub implicit: bool,
    /// Its share of the false-rollback budget before normalising.
    pub importance: f64,
    /// φ and η, where the Rollout gives them; else they are measured or assumed.
    pub calibration: Option<(f64, f64)>,
    /// What is measured.
    pub kind: MetricKind,
    /// Who judges it.
    pub judge: JudgePlan,
}

impl MetricPlan {
    /// Whether the sequential engine judges it, within falseRollback and falsePass.
    #[must_use]
    pub fn is_sequential(&self) -> bool {
        self.judge == JudgePlan::Sequential
    }

    /// Whether a release waits for the mesh's own counts because of it. A guard that nobody asked
    /// for looks where there are some.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        match self.kind {
            MetricKind::Query { .. } | MetricKind::Pairs { .. } => false,
            MetricKind::Abandoned { .. } => !self.implicit,
            MetricKind::SuccessRate { .. } | MetricKind::Latency { .. } => true,
        }
    }
}

/// What is measured and against which tolerance.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricKind {
    /// Share of failed requests.
    SuccessRate {
        /// Highest failure rate allowed in any case.
        max_failure_rate: Option<f64>,
        /// Highest excess of the failure rate over stable's.
        max_drop: Option<f64>,
        /// Highest ratio of the failure rates.
        max_failure_ratio: Option<f64>,
    },
    /// Share of slow requests.
    Latency {
        /// The percentile of `max_ms`, as a fraction.
        percentile: f64,
        /// Highest latency at the percentile, milliseconds.
        max_ms: Option<f64>,
        /// Highest slowdown against stable.
        max_slowdown: Option<f64>,
    },
    /// Share of requests whose client went away before the answer.
    Abandoned {
        /// Highest ratio to stable's share; `None`: no more than stable.
        max_ratio: Option<f64>,
    },
    /// Pairs of numbers, the canary's and stable's at the same instant; less is better.
    Pairs {
        /// PromQL of the canary's.
        query: String,
        /// PromQL of stable's.
        stable: String,
        /// How many times stable's the canary's may be.
        times: f64,
    },
    /// One number against fixed limits.
    Query {
        /// PromQL.
        query: String,
        /// Lowest value allowed.
        min: Option<f64>,
        /// Highest value allowed.
        max: Option<f64>,
        /// How many answers may lie outside.
        failure_limit: u32,
    },
}

/// The name of the metric that guards what nobody has asked for.
const ABANDONED: &str = "abandoned";
/// Its importance. Clients that leave are rare, and of those who do most have met what the other
/// metrics see as well: it takes little of their shares.
const ABANDONED_IMPORTANCE: f64 = 0.2;

/// Those written, else the usual ones, and the guard on abandoned requests unless it is among them, or
/// the mesh counts none.
pub(super) fn plans(written: &[Metric], mesh: Mesh) -> Result<Vec<MetricPlan>, PlanError> {
    let mut plans = written_plans(written)?;
    if plans.is_empty() {
        plans = default_metrics();
    }
    if !vocabulary(mesh).counts_abandoned() {
        let asked = plans.iter().find(|p| matches!(p.kind, MetricKind::Abandoned { .. }));
        return asked.map_or(Ok(()), |plan| Err(uncounted(&plan.name))).map(|()| plans);
    }
    if plans.iter().any(|plan| matches!(plan.kind, MetricKind::Abandoned { .. })) {
        return Ok(plans);
    }
    if plans.iter().any(|plan| plan.name == ABANDONED) {
        return Err(PlanError::Invalid {
            path: format!("analysis.metrics[{ABANDONED}]"),
            problem: "this is the name of the guard on requests that clients gave up".to_owned(),
            remedy: "give the metric another name, or make it that guard: abandoned: {}".to_owned(),
        });
    }
    plans.push(MetricPlan {
        name: ABANDONED.to_owned(),
        role: MetricRole::Guard,
        implicit: true,
        importance: ABANDONED_IMPORTANCE,
        calibration: None,
        kind: MetricKind::Abandoned { max_ratio: None },
        judge: JudgePlan::Sequential,
    });
    Ok(plans)
}

/// No zero may stand for what nobody counts.
fn uncounted(metric: &str) -> PlanError {
    PlanError::Invalid {
        path: format!("analysis.metrics[{metric}].abandoned"),
        problem: "this mesh's proxies don't count requests whose client went away".to_owned(),
        remedy: "remove it, and give the route a timeout: what that ends counts as failed"
            .to_owned(),
    }
}

fn written_plans(written: &[Metric]) -> Result<Vec<MetricPlan>, PlanError> {
    let mut plans: Vec<MetricPlan> = Vec::with_capacity(written.len());
    for metric in written {
        if plans.iter().any(|p| p.name == metric.name) {
            return Err(PlanError::Invalid {
                path: format!("analysis.metrics[{}]", metric.name),
                problem: "two metrics have this name".to_owned(),
                remedy: "rename one, here or in the template".to_owned(),
            });
        }
        plans.push(metric_plan(metric)?);
    }
    if plans.len() > 20 {
        return Err(PlanError::Invalid {
            path: "analysis.metrics".to_owned(),
            problem: format!("{} metrics with those of the templates", plans.len()),
            remedy: "use at most 20".to_owned(),
        });
    }
    Ok(plans)
}

/// Success rate within half a percentage point of stable's and latency within half as much again.
fn default_metrics() -> Vec<MetricPlan> {
    let plan = |name: &str, kind| MetricPlan {
        name: name.to_owned(),
        role: MetricRole::Required,
        implicit: true,
        importance: 1.0,
        calibration: None,
        kind,
        judge: JudgePlan::Sequential,
    };
    vec![
        plan(
            "success-rate",
            MetricKind::SuccessRate {
                max_failure_rate: None,
                max_drop: Some(0.005),
                max_failure_ratio: None,
            },
        ),
        plan(
            "latency",
            MetricKind::Latency { percentile: 0.99, max_ms: None, max_slowdown: Some(1.5) },
        ),
    ]
}

fn metric_plan(metric: &Metric) -> Result<MetricPlan, PlanError> {
    let path = |field: &str| format!("analysis.metrics[{}].{field}", metric.name);
    let role = metric.role.unwrap_or(match metric.abandoned {
        Some(_) => MetricRole::Guard,
        None => MetricRole::Required,
    });
    let given = (&metric.success_rate, &metric.latency, &metric.abandoned, &metric.prometheus);
    let kind = match given {
        (Some(rate), None, None, None) => {
            let kind = MetricKind::SuccessRate {
                max_failure_rate: text(
                    path("successRate.min"),
                    rate.min.as_ref(),
                    Percent::fraction,
                )?
                .map(|min| 1.0 - min),
                max_drop: text(
                    path("successRate.maxDrop"),
                    rate.max_drop.as_ref(),
                    Points::fraction,
                )?,
                max_failure_ratio: text(
                    path("successRate.maxFailureRatio"),
                    rate.max_failure_ratio.as_ref(),
                    Ratio::value,
                )?,
            };
            if let MetricKind::SuccessRate { max_failure_rate, max_drop: None, .. } = kind
                && role == MetricRole::Required
                && metric.judge.is_none_or(|judge| judge == Judge::Sequential)
                && max_failure_rate.is_none()
            {
                return Err(PlanError::Invalid {
                    path: path("successRate"),
                    problem: "a required metric can't pass on a ratio: two perfect versions never \
                              show one"
                        .to_owned(),
                    remedy: "give maxDrop or min".to_owned(),
                });
            }
            if let MetricKind::SuccessRate { max_failure_rate: Some(rate), .. } = kind
                && !(rate > 0.0 && rate < 1.0)
            {
                return Err(PlanError::Invalid {
                    path: path("successRate.min"),
                    problem: "neither 0% nor 100% can be judged".to_owned(),
                    remedy: "use a value between, such as \"99.9%\"".to_owned(),
                });
            }
            kind
        }
        (None, Some(latency), None, None) => MetricKind::Latency {
            percentile: f64::from(latency.percentile.unwrap_or(99)) / 100.0,
            max_ms: text(path("latency.max"), latency.max.as_ref(), Span::duration)?
                .map(|max| max.as_secs_f64() * 1000.0),
            max_slowdown: text(
                path("latency.maxSlowdown"),
                latency.max_slowdown.as_ref(),
                Ratio::value,
            )?,
        },
        (None, None, Some(abandoned), None) => {
            let path = path("abandoned.maxRatio");
            let max_ratio = text(path, abandoned.max_ratio.as_ref(), Ratio::value)?;
            if role == MetricRole::Required && max_ratio.is_none() {
                return Err(PlanError::Invalid {
                    path: format!("analysis.metrics[{}].role", metric.name),
                    problem: "that no more are abandoned than of stable's can't be shown"
                        .to_owned(),
                    remedy: "leave role out: it guards; or give maxRatio".to_owned(),
                });
            }
            MetricKind::Abandoned { max_ratio }
        }
        (
            None,
            None,
            None,
            Some(PrometheusQuery { query, stable: Some(stable), max_ratio, .. }),
        ) => {
            let times = text(path("prometheus.maxRatio"), max_ratio.as_ref(), Ratio::value)?;
            MetricKind::Pairs {
                query: query.clone(),
                stable: stable.clone(),
                times: times.unwrap_or(1.0),
            }
        }
        (None, None, None, Some(query)) => MetricKind::Query {
            query: query.query.clone(),
            min: text(path("prometheus.min"), query.min.as_ref(), |n| n.value())?,
            max: text(path("prometheus.max"), query.max.as_ref(), |n| n.value())?,
            failure_limit: query.failure_limit.unwrap_or(3).unsigned_abs(),
        },
        _ => {
            return Err(PlanError::Invalid {
                path: format!("analysis.metrics[{}]", metric.name),
                problem:
                    "not exactly one of successRate, latency, abandoned and prometheus is given"
                        .to_owned(),
                remedy: "give exactly one".to_owned(),
            });
        }
    };
    Ok(MetricPlan {
        name: metric.name.clone(),
        role,
        implicit: false,
        importance: f64::from(metric.importance.unwrap_or(1)),
        calibration: calibration(metric)?,
        judge: judge(metric, &kind)?,
        kind,
    })
}

fn calibration(metric: &Metric) -> Result<Option<(f64, f64)>, PlanError> {
    let Some(given) = &metric.calibration else { return Ok(None) };
    let path = |field: &str| format!("analysis.metrics[{}].calibration.{field}", metric.name);
    let read = |field, number: Option<&Number>| text(path(field), number, Number::value);
    let phi = read("dispersion", Some(&given.dispersion))?.unwrap_or(ASSUMED_PHI);
    let eta = read("voteExponent", given.vote_exponent.as_ref())?.unwrap_or(ASSUMED_ETA);
    let wrong = |field, problem: String, remedy: &str| {
        Err(PlanError::Invalid { path: path(field), problem, remedy: remedy.to_owned() })
    };
    if !(1.0..=1e6).contains(&phi) {
        return wrong("dispersion", format!("{phi} can't be"), "use a value from 1 to 1000000");
    }
    if !(eta > 0.0 && eta <= 1.0) {
        return wrong("voteExponent", format!("{eta} can't be"), "use a value above 0, at most 1");
    }
    Ok(Some((phi, eta)))
}
