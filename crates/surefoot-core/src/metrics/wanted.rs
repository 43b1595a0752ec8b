//! What to sample for a release at this moment.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::query::{By, POD_LABELS, Series, pods_like};
use super::replica::Pinned;
use crate::api::analysis::SourceRef;
use crate::api::rollout::Apex;
use crate::api::status::{Phase, Revision, RolloutStatus};
use crate::engine;
use crate::plan::{MetricKind, MetricPlan, Plan};
use crate::routing::Side;

/// The sampler's task.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Where to ask.
    pub source: SourceRef,
    /// Whose series.
    pub series: Series,
    /// The canary's pods by their own proxies, to see what reaches them past the route.
    pub reached: Option<Series>,
    /// Stable's pods by their own proxies, for their past one by one.
    pub pods: Option<Series>,
    /// Where the next tick begins; `None` before there is anything to judge.
    pub ticks_from: Option<Timestamp>,
    /// Whether latencies are judged.
    pub latency: bool,
    /// Whether stable's past is wanted.
    pub baseline: bool,
    /// Users' queries, by metric.
    pub queries: BTreeMap<String, Question>,
}

/// A user's query, placeholders filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Of the canary, or of whatever it asks for.
    pub query: String,
    /// Of stable, to be asked for the same instant.
    pub stable: Option<String>,
}

impl Wanted {
    /// The same, of the replicas that are read.
    #[must_use]
    pub fn reading(&self, pinned: &Pinned) -> Self {
        let mut wanted = self.clone();
        wanted.series.pinned.clone_from(pinned);
        let by_pod = wanted.reached.iter_mut().chain(&mut wanted.pods);
        by_pod.for_each(|series| series.pinned.clone_from(pinned));
        wanted
    }
}

/// What to sample, if anything. Nothing at rest.
#[must_use]
pub fn wanted(plan: &Plan, status: &RolloutStatus, namespace: &str) -> Option<Wanted> {
    let counted = plan.metrics.iter().any(MetricPlan::is_counted);
    let (baseline, ticks) = match status.phase {
        Phase::Preparing => (counted, false),
        Phase::Stepping | Phase::Paused | Phase::Promoting | Phase::RollingBack => (false, true),
        Phase::Pending | Phase::Healthy | Phase::Degraded => return None,
    };
    // What people ask of a preview is not counted.
    let preview = status.step.as_ref().is_some_and(|step| step.weight == 0);
    let ticks = ticks && !preview;
    let ticks_from = status.engine.as_deref().filter(|_| ticks).and_then(engine::folded_until);
    let judging = matches!(status.phase, Phase::Stepping | Phase::Paused);
    let compares = status.step.as_ref().is_some_and(|step| (1..100).contains(&step.weight));
    let filled = |query: &str| filled(query, status);
    let queries = plan.metrics.iter().filter(|_| judging).filter_map(|m| match &m.kind {
        MetricKind::Query { query, .. } => {
            Some((m.name.clone(), Question { query: filled(query), stable: None }))
        }
        MetricKind::Pairs { query, stable, .. } if compares => {
            let stable = Some(filled(stable));
            Some((m.name.clone(), Question { query: filled(query), stable }))
        }
        _ => None,
    });
    let queries: BTreeMap<String, Question> = queries.collect();
    if !baseline && ticks_from.is_none() && queries.is_empty() {
        return None;
    }
    Some(Wanted {
        source: plan.source.clone(),
        series: series(plan, status, namespace)?,
        reached: reached(plan, status, namespace).filter(|_| judging),
        pods: by_pod(plan, status, namespace).filter(|_| baseline),
        ticks_from,
        latency: plan.metrics.iter().any(|m| matches!(m.kind, MetricKind::Latency { .. })),
        baseline,
        queries,
    })
}

/// What stands in users' queries for the pods of a version: a regular expression of their names.
pub const PLACEHOLDERS: [(&str, Side); 2] =
    [("{{canaryPods}}", Side::Canary), ("{{stablePods}}", Side::Stable)];

fn filled(query: &str, status: &RolloutStatus) -> String {
    let mut query = query.to_owned();
    for (placeholder, side) in PLACEHOLDERS {
        let revision = match side {
            Side::Canary => &status.canary,
            Side::Stable => &status.stable,
        };
        // Where it isn't known yet, no pod's name is like this.
        let set = revision.as_ref().map_or("", |revision| &revision.replica_set);
        query = query.replace(placeholder, &pods_like(set));
    }
    query
}

/// What would be sampled of stable's past if a release began now; for a forecast. `None` where nothing
/// is counted, or nothing is known of stable yet.
#[must_use]
pub fn past(plan: &Plan, status: &RolloutStatus, namespace: &str) -> Option<Wanted> {
    let mut begun = status.clone();
    begun.phase = Phase::Preparing;
    // There is no canary yet; no pod's name begins like this.
    let none = |stable: Revision| Revision { replica_set: String::new(), ..stable };
    begun.canary = begun.stable.clone().map(none);
    wanted(plan, &begun, namespace)
}

/// Where each version has a Service the callers' proxies tell; subsets of one are told apart by
/// their pods' own.
fn series(plan: &Plan, status: &RolloutStatus, namespace: &str) -> Option<Series> {
    let services = [Side::Stable, Side::Canary].map(|side| plan.routing.own_service(side));
    if let [Some(stable), Some(canary)] = services {
        return Some(of(plan, namespace, [stable, canary], By::Service));
    }
    by_pod(plan, status, namespace)
}

fn by_pod(plan: &Plan, status: &RolloutStatus, namespace: &str) -> Option<Series> {
    let versions = [status.stable.as_ref()?, status.canary.as_ref()?];
    let by = By::Pod { label: POD_LABELS[0].to_owned() };
    Some(of(plan, namespace, versions.map(|revision| revision.replica_set.as_str()), by))
}

fn of(plan: &Plan, namespace: &str, [stable, canary]: [&str; 2], by: By) -> Series {
    Series {
        mesh: plan.routing.mesh,
        route: plan.routing.kind,
        namespace: namespace.to_owned(),
        service: plan.routing.service.clone(),
        stable: stable.to_owned(),
        canary: canary.to_owned(),
        by,
        pinned: Pinned::default(),
    }
}

/// Subsets are told apart by their pods anyway, and with stableOnly nobody comes past the route.
fn reached(plan: &Plan, status: &RolloutStatus, namespace: &str) -> Option<Series> {
    let weight = status.step.as_ref().map_or(100, |step| step.weight);
    let open = plan.routing.apex == Apex::Both && plan.routing.rule().is_none() && weight < 100;
    by_pod(plan, status, namespace).filter(|_| open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_pods_are_filled_in_and_pairs_wait_for_two_versions() {
        let spec = "
targetRef: {kind: Deployment, name: shop}
traffic: {mesh: istio, service: shop, routes: [{kind: VirtualService, name: shop}]}
analysis:
  metrics:
  - {name: success, successRate: {maxDrop: 1pp}}
  - {name: mine, prometheus: {query: 'max(q{pod=~\"{{canaryPods}}\"})', max: '3'}}
  - {name: pair, prometheus: {query: 'q{p=~\"{{canaryPods}}\"}', stable: 'q{p=~\"{{stablePods}}\"}', maxRatio: '1.2'}}
steps: [{weight: 10}, {weight: 100}]
";
        let plan = Plan::of(&serde_saphyr::from_str(spec).unwrap()).unwrap();
        let asked = |weight: i32| {
            let status = serde_json::from_value(serde_json::json!({
                "phase": "Stepping",
                "engine": engine::begin(&plan, None, Timestamp::UNIX_EPOCH),
                "stable": {"hash": "6c", "replicaSet": "shop-6c"},
                "canary": {"hash": "7d", "replicaSet": "shop.v2-7d"},
                "step": {"index": 0, "weight": weight, "begunAt": "2026-01-01T00:00:00Z"},
            }));
            let wanted = wanted(&plan, &status.unwrap(), "shop").unwrap();
            assert_eq!(
                wanted.ticks_from.is_none(),
                weight == 0,
                "a preview's requests don't count"
            );
            wanted.queries
        };
        let both = asked(10);
        assert_eq!(both["mine"].query, r#"max(q{pod=~"shop[.]v2-7d-.{5}"})"#);
        assert_eq!(both["pair"].stable.as_deref(), Some(r#"q{p=~"shop-6c-.{5}"}"#));
        for weight in [0, 100] {
            let alone: Vec<String> = asked(weight).into_keys().collect();
            assert_eq!(alone, ["mine"], "at {weight}% there is nothing to compare with");
        }
    }
}
