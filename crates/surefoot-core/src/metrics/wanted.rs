//! What to sample for a release at this moment.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::query::Series;
use crate::api::analysis::SourceRef;
use crate::api::status::{Phase, RolloutStatus};
use crate::engine;
use crate::plan::{MetricKind, Plan};

/// The sampler's task.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Where to ask.
    pub source: SourceRef,
    /// Whose series.
    pub series: Series,
    /// Where the next tick begins; `None` before there is anything to judge.
    pub ticks_from: Option<Timestamp>,
    /// Whether latencies are judged.
    pub latency: bool,
    /// Whether stable's past is wanted.
    pub baseline: bool,
    /// Users' queries, by metric.
    pub queries: BTreeMap<String, String>,
}

/// What to sample, if anything. Nothing at rest.
#[must_use]
pub fn wanted(plan: &Plan, status: &RolloutStatus, namespace: &str) -> Option<Wanted> {
    let sequential = plan.metrics.iter().any(|m| m.kind.is_sequential());
    let (baseline, ticks) = match status.phase {
        Phase::Preparing => (sequential, false),
        Phase::Stepping | Phase::Paused | Phase::Promoting | Phase::RollingBack => (false, true),
        Phase::Pending | Phase::Healthy | Phase::Degraded => return None,
    };
    let ticks_from = status.engine.as_deref().filter(|_| ticks).and_then(engine::folded_until);
    if !baseline && ticks_from.is_none() {
        return None;
    }
    let judging = matches!(status.phase, Phase::Stepping | Phase::Paused);
    let queries = plan.metrics.iter().filter(|_| judging).filter_map(|m| match &m.kind {
        MetricKind::Query { query, .. } => Some((m.name.clone(), query.clone())),
        _ => None,
    });
    Some(Wanted {
        source: plan.source.clone(),
        series: Series {
            namespace: namespace.to_owned(),
            stable: plan.stable_service.clone(),
            canary: plan.canary_service.clone(),
        },
        ticks_from,
        latency: plan.metrics.iter().any(|m| matches!(m.kind, MetricKind::Latency { .. })),
        baseline,
        queries: queries.collect(),
    })
}
