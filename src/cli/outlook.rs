//! What would decide a release, one way or the other.

use surefoot_core::api::analysis::{MetricRole, NoDataAction};
use surefoot_core::api::rollout::OnInconclusive;
use surefoot_core::api::status::{Hold, HoldReason, MetricStatus, Phase, StepStatus};
use surefoot_core::plan::{JudgePlan, MetricPlan, Plan, StepPlan};
use surefoot_core::words;

use super::times::{clock, left};
use super::view::View;

/// A way in which it may go on: its name and what leads there.
pub type Way = (&'static str, String);

/// Every way in which it may go on from here; empty where no release is under way.
#[must_use]
pub fn outlook(view: &View<'_>) -> Vec<Way> {
    match view.status.phase {
        Phase::Stepping | Phase::Paused => judged(view),
        Phase::Preparing => vec![
            ("forward", "the canary's pods are ready: step 0 begins".to_owned()),
            ("back", "they aren't in time; a new template; an abort".to_owned()),
        ],
        Phase::Promoting => vec![
            ("forward", "the waits above end: the tested pods are the Deployment's".to_owned()),
            ("back", "until they are: a new template; an abort".to_owned()),
        ],
        Phase::Healthy => {
            let deployment = &view.rollout.spec.target_ref.name;
            vec![("next", format!("a new template of Deployment {deployment} begins a release"))]
        }
        Phase::Pending | Phase::RollingBack | Phase::Degraded => Vec::new(),
    }
}

fn judged(view: &View<'_>) -> Vec<Way> {
    let (Some(plan), Some(step)) = (&view.plan, &view.status.step) else { return Vec::new() };
    let Some(gate) = plan.steps.get(view.step()) else { return Vec::new() };
    let forward = ("forward", forward(view, plan, gate, step));
    let back = if gate.is_preview() { back_from_preview(plan) } else { back(view) };
    let mut ways = vec![forward, ("back", back)];
    let judged = !gate.is_preview() || queries(plan).any(|m| m.role == MetricRole::Required);
    if !judged {
        return ways;
    }
    if step.hold.is_none() {
        // Paused, a step has all the time it takes.
        let inconclusive = inconclusive(view, gate, step).filter(|_| view.status.pause.is_none());
        ways.extend(inconclusive.map(|way| ("else", way)));
        ways.push(("no data", no_data(plan)));
    }
    ways
}

fn forward(view: &View<'_>, plan: &Plan, gate: &StepPlan, step: &StepStatus) -> String {
    let next = match plan.steps.get(view.step() + 1) {
        Some(next) => format!("on to {}", words::weight(next.weight)),
        None => "all steps passed, the canary is promoted".to_owned(),
    };
    if let Some(hold) = &step.hold {
        return format!("{}: {next}", held(hold));
    }
    if view.status.pause.is_some() {
        return format!("a person resumes the release and the gate is met: {next}");
    }
    if plan.metrics.is_empty() && !gate.approval {
        return format!("the weight is in force: {next}");
    }
    let minimum = words::span(gate.min_duration);
    let mut needed: Vec<String>;
    if gate.is_preview() {
        let asked = queries(plan).filter(|m| m.role == MetricRole::Required);
        needed = asked.map(|m| format!("{} passes", m.name)).collect();
        needed.push(format!("{minimum} ready"));
    } else {
        needed = required(&view.status.analysis);
        needed.push(format!("{minimum} judged"));
        needed.push(format!("{} canary requests", words::count(gate.min_requests)));
    }
    if gate.approval && step.approved_by.is_none() {
        needed.push("a person promotes".to_owned());
    }
    format!("{}: {next}", needed.join("; "))
}

fn held(hold: &Hold) -> &'static str {
    match hold.reason {
        HoldReason::Inconclusive => "a person promotes, or resumes and the gate is met",
        HoldReason::NoData => "metrics come back and the gate is met, or a person promotes",
        HoldReason::WeightLowered => {
            "a person resumes, or the step's weight is back, and the gate is met"
        }
        HoldReason::TrafficOwnershipConflict => {
            "the other writer leaves the weights alone and a person resumes"
        }
    }
}

fn required(metrics: &[MetricStatus]) -> Vec<String> {
    let required = metrics.iter().filter(|m| m.role == "required");
    required.map(|m| format!("{} passes", m.name)).collect()
}

/// The metrics that need no traffic.
fn queries(plan: &Plan) -> impl Iterator<Item = &MetricPlan> {
    plan.metrics.iter().filter(|metric| metric.judge == JudgePlan::Query)
}

fn back_from_preview(plan: &Plan) -> String {
    let counted = queries(plan).filter(|m| m.role != MetricRole::Observe);
    let mut ways: Vec<String> =
        counted.map(|m| format!("{} is outside of its limits too often", m.name)).collect();
    let deadline = words::span(plan.progress_deadline);
    ways.push(format!("the canary has no ready pod for {deadline}"));
    ways.push("a new template; an abort".to_owned());
    ways.join("; ")
}

fn back(view: &View<'_>) -> String {
    let counted = || view.status.analysis.iter().filter(|m| m.role != "observe");
    let mut ways = Vec::new();
    if counted().any(|m| m.harm.is_some()) {
        ways.push("harm reaches 100% (all metrics' evidence counts together)".to_owned());
    }
    let limits: Vec<&str> =
        counted().filter(|m| m.harm.is_none()).map(|m| m.name.as_str()).collect();
    if !limits.is_empty() {
        ways.push(format!("{} is outside of its limits too often", limits.join(" or ")));
    }
    ways.push("the canary fails far more than stable (crash guard)".to_owned());
    ways.push("a new template; an abort".to_owned());
    ways.join("; ")
}

fn inconclusive(view: &View<'_>, gate: &StepPlan, step: &StepStatus) -> Option<String> {
    let end = step.started_at?.checked_add(gate.max_duration).ok()?;
    let then = match gate.on_inconclusive {
        OnInconclusive::Pause => "the step is held for a person",
        OnInconclusive::Rollback => "all traffic goes back to stable",
        OnInconclusive::Extend => "the step goes on all the same",
        OnInconclusive::Promote => "the step is left without the evidence",
    };
    let (at, left) = (clock(end, view.now), left(end, view.now));
    Some(format!("evidence lacks at {at} ({left}): {then}"))
}

fn no_data(plan: &Plan) -> String {
    let then = match plan.no_data_then {
        NoDataAction::Pause => "the step is held",
        NoDataAction::Rollback => "all traffic goes back to stable",
    };
    format!("none for {}: {then}", words::span(plan.no_data_after))
}
