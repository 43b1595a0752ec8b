//! Undo: a template goes back into the Deployment, by a person's word. The controller writes it and
//! what follows is what follows any other change of the template: stable's own is recognised and
//! nothing restarts, that of the version before is held and released as an undo.

use super::Case;
use super::commands::said;
use crate::api::action::ActionKind;
use crate::api::notice::Reason;
use crate::api::status::{Outcome, Undoing, WaitingKind};
use crate::observed::{Action, Deployment, HoldMode, Owner, ReplicaSet};
use crate::template::{equal, template_digest, without_hash};

/// The release under way ends, and stable's template comes back when it has: what the undo needs of
/// the status, and why the release is rolled back.
pub(super) fn interrupt(case: &mut Case<'_>) -> Option<(String, String)> {
    let action = case.asked(ActionKind::Undo).next()?;
    let digest = case.status.release.as_ref()?.template_digest.clone();
    let stable = case.status.stable.as_ref()?.replica_set.clone();
    begin(case, action, stable, digest);
    Some((action.spec.requested_by.clone(), format!("undone {}", said(action))))
}

fn begin(case: &mut Case<'_>, action: &Action, replica_set: String, instead_of: String) {
    case.use_up(action);
    let by = action.spec.requested_by.clone();
    case.status.undo = Some(Undoing { by, replica_set, instead_of });
}

/// After a rollback: stable's template comes back. Whether that was asked for.
pub(super) fn failed(case: &mut Case<'_>, deployment: &Deployment, stable: &ReplicaSet) -> bool {
    let Some(action) = case.asked(ActionKind::Undo).next() else { return false };
    begin(case, action, stable.name.clone(), template_digest(&deployment.template));
    case.notice(Reason::Undoing, format!("stable's template comes back, {}", said(action)), false);
    under_way(case, deployment)
}

/// At rest, stable's template being the Deployment's: an undo that led here has got there, and one
/// that is asked for now means the version before.
pub(super) fn at_rest(case: &mut Case<'_>, deployment: &Deployment, stable: &ReplicaSet) {
    if case.status.undo.take().is_some() {
        // Whoever said it twice meant it once.
        return case.use_up_all(&[ActionKind::Undo]);
    }
    let Some(action) = case.asked(ActionKind::Undo).next() else { return };
    if case.seen.hold == (HoldMode::Policy { ready: false }) {
        let why = "the admission policy that holds new templates doesn't act on this Deployment";
        return case.ignore(action, why);
    }
    let Some(before) = before(case, stable) else {
        let why = "the version before stable isn't known, or its ReplicaSet is gone \
                   (revisionHistoryLimit)";
        return case.ignore(action, why);
    };
    let note = format!("the template of {} comes back, {}", before.name, said(action));
    begin(case, action, before.name.clone(), template_digest(&deployment.template));
    case.notice(Reason::Undoing, note, false);
    under_way(case, deployment);
}

/// The ReplicaSet of the version that stable replaced.
fn before<'a>(case: &Case<'a>, stable: &ReplicaSet) -> Option<&'a ReplicaSet> {
    let mut past = case.status.history.iter();
    let last = past.find(|p| p.outcome != Outcome::RolledBack)?;
    let name = last.replaced.as_ref().filter(|_| last.replica_set == stable.name)?;
    let set = case.seen.replica_set(name).filter(|set| set.owner == Owner::Deployment)?;
    (!set.deleting && !equal(&set.template, &stable.template)).then_some(set)
}

/// Write the template, once; whether that is what there is to do. A template that somebody has set
/// since stays.
pub(super) fn under_way(case: &mut Case<'_>, deployment: &Deployment) -> bool {
    let Some(undo) = case.status.undo.clone() else { return false };
    let set = case.seen.replica_set(&undo.replica_set);
    let Some(set) = set.filter(|set| set.owner == Owner::Deployment && !set.deleting) else {
        return given_up(case, &undo, "its ReplicaSet is gone");
    };
    if equal(&set.template, &deployment.template) {
        return false;
    }
    let now = template_digest(&deployment.template);
    if now != undo.instead_of {
        return given_up(case, &undo, "the Deployment has been given another template meanwhile");
    }
    case.desired.deployment.seen = Some(now);
    case.desired.deployment.template = Some(without_hash(&set.template));
    // The policy pauses it in the same request; should it be gone, nothing rolls out all the same.
    case.desired.deployment.paused = Some(true);
    case.desired.deployment.unheld = false;
    let message = format!("the Deployment gets the template of {} back, by {}", set.name, undo.by);
    case.wait(WaitingKind::Template, message);
    true
}

fn given_up(case: &mut Case<'_>, undo: &Undoing, why: &str) -> bool {
    case.status.undo = None;
    let note =
        format!("undo by {}: the template of {} stays away: {why}", undo.by, undo.replica_set);
    case.notice(Reason::Ignored, note, true);
    false
}
