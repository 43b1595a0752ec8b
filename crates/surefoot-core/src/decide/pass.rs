//! A step passes: the record first, then the next step, or the hand-over.

use super::{Case, promote, step};
use crate::api::notice::Reason;
use crate::api::status::{Phase, StepPass, Verdict};
use crate::plan::Plan;
use crate::words;

/// Whether the release may go a step forward; what stops it is said.
fn may_pass(case: &mut Case<'_>) -> bool {
    if !case.rollout.spec.paused && case.status.pause.is_none() {
        return true;
    }
    case.status.phase = Phase::Paused;
    case.status.waiting_on.clear();
    case.stopped("the step has passed; ");
    false
}

/// Put a step's pass on record.
fn put(case: &mut Case<'_>, plan: &Plan, index: usize, actor: &str, evidence: &str) {
    let at = case.now;
    let (Some(step), Some(release)) = (plan.steps.get(index), case.status.release.as_mut()) else {
        return;
    };
    release.passes.push(StepPass {
        step: i32::try_from(index).unwrap_or(i32::MAX),
        weight: step.weight,
        plan_hash: release.plan_hash.clone(),
        actor: actor.to_owned(),
        evidence: evidence.to_owned(),
        at,
    });
}

/// The step has passed: on to the next, or to the hand-over.
pub(super) fn pass(case: &mut Case<'_>, plan: &Plan, index: usize, actor: &str, evidence: String) {
    if !may_pass(case) {
        return;
    }
    let Some(step) = plan.steps.get(index) else { return };
    put(case, plan, index, actor, &evidence);
    let weight = words::weight(step.weight);
    case.record(Verdict::Pass, step.weight, actor, format!("step {index} passed: {evidence}"));
    case.notice(Reason::StepPassed, format!("step {index} ({weight}): {evidence}"), false);
    case.status.waiting_on.clear();
    if index + 1 < plan.steps.len() {
        case.desired.weight = Some(step.weight);
        step::enter(case, plan, index + 1);
    } else {
        promote::begin(case, actor);
    }
}

/// A person has promoted the release as a whole: this step and those up to the last pass by their
/// word. The last one's pods must be ready and its weight in force like any other's.
pub(super) fn pass_full(case: &mut Case<'_>, plan: &Plan, index: usize, who: &str) {
    let evidence = format!("the whole release was promoted by {who}");
    let last = plan.steps.len().saturating_sub(1);
    let Some(step) = plan.steps.get(index).filter(|_| index < last) else {
        return pass(case, plan, index, who, evidence);
    };
    if !may_pass(case) {
        return;
    }
    (index..last).for_each(|i| put(case, plan, i, who, &evidence));
    let which = if index + 1 == last {
        format!("step {index}")
    } else {
        format!("steps {index} to {}", last - 1)
    };
    case.record(Verdict::Pass, step.weight, who, format!("{which} passed: {evidence}"));
    case.notice(Reason::StepPassed, format!("{which}: {evidence}"), false);
    case.status.waiting_on.clear();
    case.desired.weight = Some(step.weight);
    step::enter(case, plan, last);
}
