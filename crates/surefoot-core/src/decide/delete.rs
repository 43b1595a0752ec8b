//! The Rollout is being deleted and no release is under way any more: leave the Deployment to its
//! user, the Services where they are, and go.

use super::Case;
use crate::api::notice::Reason;
use crate::api::rollout::OnDelete;
use crate::api::status::WaitingKind;
use crate::observed::HoldMode;
use crate::plan::Plan;
use crate::routing::Side;
use crate::template::{equal, template_digest, without_hash};

pub(super) fn decide(case: &mut Case<'_>, plan: &Plan) {
    if !case.has_finalizer() {
        return;
    }
    let seen = case.seen;
    let adopted = case.status.stable.is_some();
    // Without the Deployment nothing need be put right.
    let others = seen.claim.is_some();
    if seen.deployment.is_none() || !adopted || others {
        case.desired.finalizer = Some(false);
        return;
    }
    let routes = || seen.routes.iter().filter_map(|one| one.found.as_ref().ok());
    if routes().next().is_some() {
        case.desired.weight = Some(0);
    }
    case.desired.mended = true;
    case.unpin();
    case.desired.disowned = true;
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
    let resumed = held_template || !ours || !deployment.paused;
    let done = !case.pinned()
        && !deployment.managed
        && !deployment.held
        && resumed
        && routes().all(|route| route.is_off() && route.owner.is_none());
    if !done {
        return case
            .wait(WaitingKind::Services, "the Deployment and the Services are being let go");
    }
    // Afterwards nothing is left to be delivered from.
    if case.bids_farewell() {
        let message = "what happened is being told on the channels of spec.notifications";
        return case.wait(WaitingKind::Notifications, message);
    }
    let [stable, canary] = [Side::Stable, Side::Canary].map(|side| plan.routing.destination(side));
    let note = format!("{stable} and {canary} stay, since the route names them");
    if !case.status.outbox.iter().any(|n| n.reason == Reason::Deleted) {
        case.notice(Reason::Deleted, note, false);
    }
    case.desired.finalizer = Some(false);
}
