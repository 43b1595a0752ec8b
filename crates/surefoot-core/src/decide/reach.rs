//! A gate that can't be met at this traffic is said at the step's beginning, as a wait and a
//! condition; nothing is made easier for it.

use super::Case;
use super::outcome::set;
use crate::api::notice::Reason;
use crate::api::status::{ConditionStatus, UnreachableGate, Waiting, WaitingKind};
use crate::engine::reach;
use crate::plan::{Plan, StepPlan};

const CONDITION: &str = "GateUnreachable";

/// What of the step's gate can't be met at `rate` requests a second, where that is known.
pub(super) fn look(
    case: &Case<'_>,
    plan: &Plan,
    index: usize,
    rate: Option<f64>,
) -> Vec<UnreachableGate> {
    // An undo isn't judged.
    let judged = !plan.metrics.is_empty();
    let state = case.status.engine.as_deref().filter(|_| judged);
    let found = rate.zip(state).map(|(rate, state)| reach::unreachable(plan, state, index, rate));
    found.unwrap_or_default()
}

/// Tell people at the step's beginning.
pub(super) fn tell(case: &mut Case<'_>, step: &StepPlan) {
    let gates = case.status.step.as_ref().map(|s| s.unreachable.clone()).unwrap_or_default();
    condition(case, &gates, step);
    let said: Vec<String> = gates.iter().map(|g| reach::in_words(g, step)).collect();
    if !said.is_empty() {
        case.notice(Reason::GateUnreachable, said.join("; "), true);
    }
}

/// More traffic than before the step makes reachable what wasn't; less of it is seen in how long the
/// evidence takes.
pub(super) fn again(case: &mut Case<'_>, plan: &Plan, index: usize, step: &StepPlan) {
    let known = case.status.step.as_ref().is_some_and(|s| !s.unreachable.is_empty());
    if !known {
        return;
    }
    let Some(rate) = case.status.engine.as_deref().and_then(reach::now) else { return };
    let still = look(case, plan, index, Some(rate));
    let Some(status) = case.status.step.as_mut() else { return };
    let before = status.unreachable.len();
    status.unreachable.retain(|gate| still.iter().any(|g| g.metric == gate.metric));
    if status.unreachable.len() < before {
        let gates = status.unreachable.clone();
        condition(case, &gates, step);
    }
}

/// Before the waits that are in vain; a wait of its own would outlast them.
pub(super) fn wait(case: &Case<'_>, step: &StepPlan, lacking: &[Waiting]) -> Vec<Waiting> {
    let gates = case.status.step.iter().flat_map(|s| &s.unreachable);
    let unmet = |gate: &&UnreachableGate| {
        let kind = reach::waits_for(gate);
        lacking.iter().any(|w| w.kind == kind && (gate.metric.is_none() || w.name == gate.metric))
    };
    gates
        .filter(unmet)
        .map(|gate| Waiting {
            kind: WaitingKind::GateUnreachable,
            name: gate.metric.clone(),
            have: Some(gate.coming),
            need: gate.need,
            message: reach::in_words(gate, step),
            until: None,
        })
        .collect()
}

/// The condition as it is now; none where there never was one.
fn condition(case: &mut Case<'_>, gates: &[UnreachableGate], step: &StepPlan) {
    let now = case.now;
    let said: Vec<String> = gates.iter().map(|g| reach::in_words(g, step)).collect();
    if !said.is_empty() {
        let said: String = said.join("; ").chars().take(1000).collect();
        set(&mut case.status, now, CONDITION, ConditionStatus::True, "LittleTraffic", &said);
    } else if case.status.conditions.iter().any(|c| c.kind == CONDITION) {
        let said = "the step's gate can be met at this traffic";
        set(&mut case.status, now, CONDITION, ConditionStatus::False, "Reachable", said);
    }
}

/// No step is under way any more.
pub(super) fn forget(case: &mut Case<'_>) {
    case.status.conditions.retain(|c| c.kind != CONDITION);
}
