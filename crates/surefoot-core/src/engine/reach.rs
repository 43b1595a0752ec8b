//! Which gates can't be met at the traffic there is, told before anybody waits for them.

use std::time::Duration;

use surefoot_stats::Reach;

use super::told::whole;
use super::{Engine, requests_a_second};
use crate::api::rollout::OnInconclusive;
use crate::api::status::{UnreachableGate, WaitingKind};
use crate::plan::{Plan, StepPlan};
use crate::samples::BaselineSample;

/// Judged time from which on a step's own traffic is believed.
const TELLING: Duration = Duration::from_secs(60);

/// Requests a second before the release; `None` where that isn't known.
#[must_use]
pub fn before(baseline: Option<&BaselineSample>) -> Option<f64> {
    let baseline = baseline?;
    requests_a_second(baseline.requests.requests, baseline.over)
}

/// Requests a second of both versions in the step under way, once it has been judged long enough.
#[must_use]
pub fn now(state: &str) -> Option<f64> {
    let engine = Engine::decode(state)?;
    let judged = Duration::from_millis(engine.judged);
    let all = engine.step.canary.n().checked_add(engine.step.stable.n())?;
    requests_a_second(all, judged).filter(|_| judged >= TELLING)
}

/// What of a step's gate can't be met before its maxDuration at so many requests a second, by a
/// canary that does just as stable does. `state` is that of the step's beginning.
#[must_use]
pub fn unreachable(plan: &Plan, state: &str, index: usize, rate: f64) -> Vec<UnreachableGate> {
    let (Some(engine), Some(step)) = (Engine::decode(state), plan.steps.get(index)) else {
        return Vec::new();
    };
    let judged = step.max_duration.saturating_sub(step.settle.max(step.warm_up));
    // The longest maxDuration and any rate of requests are far from overflowing this.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let coming = (rate * judged.as_secs_f64() * f64::from(step.weight) / 100.0).floor() as u64;
    // A step without an end only waits in vain where no traffic would do.
    let endless = step.on_inconclusive == OnInconclusive::Extend;
    let short = |need: u64| need > coming && !endless;
    let gate = |metric: Option<&str>, need: Option<u64>| UnreachableGate {
        metric: metric.map(str::to_owned),
        need: need.map(whole),
        coming: whole(coming),
    };
    let names = plan.metrics.iter().filter(|m| m.is_sequential()).map(|m| m.name.as_str());
    let required = names.enumerate().filter(|(i, _)| {
        let role = engine.policy.metrics.get(*i).map(|m| m.role);
        role == Some(surefoot_stats::Role::Required)
    });
    let mut gates: Vec<UnreachableGate> = required
        .filter_map(|(i, name)| match engine.state.reach(&engine.policy, i) {
            Reach::Requests(need) => short(need).then(|| gate(Some(name), Some(need))),
            Reach::Never => Some(gate(Some(name), None)),
            Reach::Unknown => None,
        })
        .collect();
    if short(step.min_requests) {
        gates.push(gate(None, Some(step.min_requests)));
    }
    gates
}

/// The same in words, with what to change.
#[must_use]
pub fn in_words(gate: &UnreachableGate, step: &StepPlan) -> String {
    let count = |n: i64| crate::words::count(n.unsigned_abs());
    let (weight, span) = (step.weight, crate::words::span(step.max_duration));
    let coming = format!(
        "about {} come within {span} at weight {weight}% of the traffic so far",
        count(gate.coming)
    );
    match (&gate.metric, gate.need) {
        (Some(metric), Some(need)) => format!(
            "{metric}: it takes about {} canary requests to show that the canary is within its \
             tolerance, and {coming}: raise the weight or gate.maxDuration, or widen the metric's \
             tolerance, for the next release",
            count(need)
        ),
        (Some(metric), None) => format!(
            "{metric}: stable itself doesn't keep the objective, so a canary like it can't pass: \
             change the objective for the next release, or compare with maxDrop or maxSlowdown"
        ),
        (None, need) => format!(
            "gate.minRequests is {}, and {coming}: raise the weight or gate.maxDuration, or lower \
             gate.minRequests, for the next release",
            count(need.unwrap_or_default())
        ),
    }
}

/// The wait that a gate makes in vain.
#[must_use]
pub fn waits_for(gate: &UnreachableGate) -> WaitingKind {
    if gate.metric.is_some() { WaitingKind::Evidence } else { WaitingKind::MinRequests }
}
