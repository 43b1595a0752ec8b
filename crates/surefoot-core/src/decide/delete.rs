//! The Rollout is being deleted and no release is under way any more: leave the Deployment to its
//! user, the Services where they are, and go.

use super::Case;
use crate::api::rollout::OnDelete;
use crate::api::status::WaitingKind;
use crate::desired::Pin;
use crate::observed::HoldMode;
use crate::plan::Plan;
use crate::template::{equal, template_digest, without_hash};

pub(super) fn decide(case: &mut Case<'_>, plan: &Plan) {
    if !case.has_finalizer() {
        return;
    }
    let seen = case.seen;
    let adopted = case.status.stable.is_some();
    // Without the Deployment nothing need be put right.
    if seen.deployment.is_none() || !adopted {
        case.desired.finalizer = Some(false);
        return;
    }
    if seen.route.is_ok() {
        case.desired.weight = Some(0);
    }
    case.desired.pin_stable = Pin::Off;
    case.desired.pin_canary = Pin::Off;
    let Some(deployment) = &seen.deployment else { return };
    let stable = case.status.stable.as_ref().and_then(|s| seen.replica_set(&s.replica_set));
    let held_template = stable.is_some_and(|s| !equal(&s.template, &deployment.template));
    let revert = held_template && plan.on_delete == OnDelete::Revert;
    if let (true, Some(stable)) = (revert, stable) {
        // The policy holds this write like any other change of the template; it is resumed next.
        case.desired.deployment.seen = Some(template_digest(&deployment.template));
        case.desired.deployment.template = Some(without_hash(&stable.template));
        return case.wait(WaitingKind::Template, "the Deployment gets stable's template back");
    }
    case.desired.deployment.seen = Some(template_digest(&deployment.template));
    let ours = deployment.held || seen.hold == HoldMode::PausedAtRest;
    case.desired.deployment.managed = Some(false);
    case.desired.deployment.unheld = true;
    if !held_template && ours {
        case.desired.deployment.paused = Some(false);
    }
    let pinned = [&seen.stable, &seen.canary].into_iter().flatten().any(|s| s.pin.is_some());
    let resumed = held_template || !ours || !deployment.paused;
    let done = !pinned
        && !deployment.managed
        && !deployment.held
        && resumed
        && seen.route.as_ref().map_or(true, |r| r.weights.canary_percent() == Some(0));
    if !done {
        return case
            .wait(WaitingKind::Services, "the Deployment and the Services are being let go");
    }
    let note = format!(
        "Services {} and {} stay, since the route names them",
        plan.stable_service, plan.canary_service
    );
    if !case.status.outbox.iter().any(|n| n.reason == "Deleted") {
        case.notice("Deleted", note, false);
    }
    case.desired.finalizer = Some(false);
}
