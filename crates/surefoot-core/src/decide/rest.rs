//! At rest: finding what runs, waiting for a new template, beginning a release.

use std::time::Duration;

use super::commands::said;
use super::{CONTROLLER, Case, is_immediate, step, undo};
use crate::api::action::ActionKind;
use crate::api::notice::Reason;
use crate::api::rollout::RolloutSpec;
use crate::api::status::{
    Outcome, PastRelease, Phase, Release, ReleaseKind, Revision, Verdict, WaitingKind,
};
use crate::desired::Pin;
use crate::observed::{Action, Deployment, HoldMode, Owner, ReplicaSet, Route};
use crate::plan::{Plan, digest};
use crate::route::CHOSEN;
use crate::routing::Side;
use crate::split::SplitProblem;
use crate::template::{canary_hash, equal, images, template_digest};

/// How soon a thing that is another Rollout's is looked at again.
const CLAIM_AGAIN: Duration = Duration::from_secs(10);
/// How many ended releases are remembered; a template promoted in one of them is an undo.
pub const HISTORY: usize = 10;

pub(super) fn decide(case: &mut Case<'_>, plan: &Plan) {
    let seen = case.seen;
    let Some(deployment) = &seen.deployment else {
        let missing = format!("Deployment {:?} doesn't exist: create it", plan.deployment);
        return case.fail("TargetMissing", &missing);
    };
    if seen.apex.is_none() {
        let missing = format!("Service {:?} doesn't exist: create it", plan.routing.service);
        return case.fail("ServiceMissing", &missing);
    }
    if let Some(claim) = &seen.claim {
        // A rival that goes away wakes nobody.
        case.wake(super::after(case.now, CLAIM_AGAIN));
        return case.fail("Claimed", &claim.to_string());
    }
    case.desired.services = true;
    if !shaped(case, plan) {
        return;
    }
    glass(case);
    let stable = case.status.stable.as_ref().and_then(|s| seen.replica_set(&s.replica_set));
    let Some(stable) = stable.filter(|set| set.owner == Owner::Deployment) else {
        return adopt(case, deployment);
    };
    if undo::under_way(case, deployment) {
        return;
    }
    if equal(&stable.template, &deployment.template) {
        rest(case);
        let asked: Vec<_> = case.asked(ActionKind::Retry).collect();
        let why = "the Deployment has stable's template: there is nothing to try again";
        asked.into_iter().for_each(|action| case.ignore(action, why));
        return undo::at_rest(case, deployment, stable);
    }
    changed(case, deployment, stable, plan);
}

/// Whether Services, subsets and route have the shape that a release begins with; brings them into
/// it where the user says so.
fn shaped(case: &mut Case<'_>, plan: &Plan) -> bool {
    match &case.seen.split {
        Ok(()) => {}
        Err(SplitProblem::SubsetLabels { .. }) if plan.adopt => {
            case.desired.pin_stable = Pin::Off;
            case.desired.pin_canary = Pin::Off;
            case.wait(WaitingKind::Services, "the subsets get the Deployment's own selector");
            return false;
        }
        Err(problem) => {
            case.fail("SplitUnusable", &problem.to_string());
            return false;
        }
    }
    let unchoosable = step::unchoosable(case, &plan.steps);
    let first = case.status.stable.is_none();
    let bad = match &case.seen.route {
        Ok(Route { fit: Err(problem), .. }) | Err(problem) => {
            case.fail("RouteUnusable", &problem.to_string());
            return false;
        }
        Ok(_) if let Some(problem) = unchoosable => {
            case.fail("RouteUnusable", &problem.to_string());
            return false;
        }
        Ok(route) if first => (!route.is_off()).then(|| {
            let left =
                if route.chosen { format!(" beside an entry {CHOSEN}") } else { String::new() };
            format!("{}{left}", route.weights.words())
        }),
        Ok(_) => None,
    };
    let Some(found) = bad else { return true };
    if !plan.adopt {
        let remedy = format!(
            "the route's weights are {found}: write 100 for {} and 0 for {} before the first \
             release, or set traffic.adopt: true",
            plan.routing.destination(Side::Stable),
            plan.routing.destination(Side::Canary)
        );
        case.fail("StartingWeights", &remedy);
    } else if case.seen.stable.as_ref().is_some_and(|service| service.ready() > 0) {
        case.desired.weight = Some(0);
        case.wait(WaitingKind::RouteWritten, "all traffic goes to stable before the first release");
    } else {
        case.wait(WaitingKind::Endpoints, "stable must have a ready pod to take all traffic");
    }
    false
}

/// Somebody broke the glass and nothing is under way, or not any more.
fn glass(case: &mut Case<'_>) {
    let Some(glass) = &case.seen.break_glass else { return };
    case.desired.mended = true;
    if !case.status.outbox.iter().any(|n| n.reason == Reason::BreakGlass) {
        let note = format!("no release was under way for the break-glass abort by {}", glass.by);
        case.notice(Reason::BreakGlass, note, true);
    }
}

/// Nothing to do but to keep things as they are.
fn rest(case: &mut Case<'_>) {
    case.status.phase = Phase::Healthy;
    case.rest_deployment();
    case.desired.weight = Some(0);
    case.unpin();
    if case.seen.hold == (HoldMode::Policy { ready: false }) {
        case.wait(
            WaitingKind::HoldReady,
            "the admission policy that holds new templates doesn't act on this Deployment: install \
             deploy/policies.yaml, or run the controller with --hold=paused",
        );
    }
    // No release can begin on such a route: better to know before one wants to.
    step::followed(case, &[]);
}

/// What runs is stable: at the first look, and after a native rollout that went past us.
fn adopt(case: &mut Case<'_>, deployment: &Deployment) {
    let current = current(case, deployment).cloned();
    let (Some(set), true) = (current, deployment.settled()) else {
        let message = "the Deployment's own rollout must end first: what runs then is stable";
        case.wait(WaitingKind::NativeRollout, message);
        return;
    };
    let first = case.status.stable.is_none();
    let now = Revision {
        replica_set: set.name.clone(),
        hash: set.hash.clone(),
        images: images(&set.template),
        taken_over: false,
    };
    if !first {
        outside(case, &now);
    }
    let reason = format!("{} was found running", now.replica_set);
    case.status.stable = Some(now);
    case.status.canary = None;
    case.status.undo = None;
    case.status.phase = Phase::Healthy;
    // A rollback stays on record for its release.
    let rolled_back = case.status.decision.as_ref().is_some_and(|d| d.verdict == Verdict::Rollback);
    if !rolled_back {
        case.record(Verdict::Adopt, 0, CONTROLLER, reason.clone());
    }
    if first {
        case.notice(Reason::Adopted, reason, false);
    }
    rest(case);
}

fn outside(case: &mut Case<'_>, now: &Revision) {
    let why = "rolled out natively, without steps, while no release was held".to_owned();
    case.notice(Reason::ReleasedOutside, format!("{} {why}", now.replica_set), true);
    let number = case.status.release.as_ref().map_or(0, |r| r.number);
    remember(
        &mut case.status.history,
        PastRelease {
            number,
            outcome: Outcome::Outside,
            kind: ReleaseKind::New,
            by: String::new(),
            replica_set: now.replica_set.clone(),
            replaced: case.status.stable.as_ref().map(|s| s.replica_set.clone()),
            images: now.images.clone(),
            started_at: case.now,
            ended_at: case.now,
            why,
            passes: Vec::new(),
            analysis: Vec::new(),
            evidence: None,
        },
    );
}

pub(super) fn remember(history: &mut Vec<PastRelease>, past: PastRelease) {
    history.insert(0, past);
    history.truncate(HISTORY);
}

/// The Deployment's ReplicaSet of its own template; the oldest, as the deployment controller has it.
fn current<'a>(case: &'a Case<'_>, deployment: &Deployment) -> Option<&'a ReplicaSet> {
    let mut sets = case.seen.replica_sets.iter();
    sets.find(|s| {
        s.owner == Owner::Deployment && !s.deleting && equal(&s.template, &deployment.template)
    })
}

/// The Deployment's template isn't stable's.
fn changed(case: &mut Case<'_>, deployment: &Deployment, stable: &ReplicaSet, plan: &Plan) {
    let held = match case.seen.hold {
        HoldMode::Policy { .. } => deployment.paused && deployment.held,
        HoldMode::PausedAtRest => deployment.paused,
    };
    if !held {
        if deployment.settled() && !deployment.paused {
            return adopt(case, deployment);
        }
        let message = if deployment.paused {
            "the Deployment is paused by somebody else with a new template: resume it to roll out \
             natively, or set the template again to release it in steps"
        } else {
            "the new template was not held and rolls out natively: what runs then is stable"
        };
        return case.wait(WaitingKind::NativeRollout, message);
    }
    // A hand-over that could no longer be stopped: what was tested runs.
    let runs = current(case, deployment).is_some_and(|s| s.ready > 0) && stable.current == 0;
    if runs && deployment.settled() {
        return adopt(case, deployment);
    }
    let failed = failed_before(case, deployment);
    if failed && undo::failed(case, deployment, stable) {
        case.status.phase = Phase::Degraded;
        case.desired.weight = Some(0);
        return;
    }
    let retry = case.asked(ActionKind::Retry).next().filter(|_| failed);
    if failed && retry.is_none() {
        case.status.phase = Phase::Degraded;
        case.status.undo = None;
        // A scale changes the generation and not the template.
        if let Some(release) = case.status.release.as_mut() {
            release.deployment_generation = deployment.generation;
        }
        case.desired.weight = Some(0);
        return case.wait(
            WaitingKind::Template,
            "stable serves everything; set the Deployment's template to something new, or `kubectl \
             surefoot retry` or `undo`",
        );
    }
    if case.rollout.spec.paused {
        return case.wait(WaitingKind::Paused, "spec.paused is true: the new template waits");
    }
    if !case.seen.route.as_ref().is_ok_and(Route::is_off) {
        case.desired.weight = Some(0);
        return case
            .wait(WaitingKind::RouteWritten, "all traffic must be on stable before a release");
    }
    if case.seen.break_glass.is_some() {
        let message = "the mark of a break-glass abort is being taken off the route";
        return case.wait(WaitingKind::RouteWritten, message);
    }
    if step::followed(case, &[]) {
        begin(case, deployment, stable, plan, retry);
    }
}

/// The template is that of the release that was rolled back.
fn failed_before(case: &Case<'_>, deployment: &Deployment) -> bool {
    let (Some(release), Some(decision)) = (&case.status.release, &case.status.decision) else {
        return false;
    };
    decision.verdict == Verdict::Rollback
        && decision.release == release.number
        && (release.deployment_generation == deployment.generation
            || release.template_digest == template_digest(&deployment.template))
}

/// Which try of its template a retry is.
fn tries(history: &[PastRelease]) -> usize {
    let retries = history.iter().take_while(|p| p.kind == ReleaseKind::Retry);
    retries.count() + 2
}

/// The latest release of these images that was rolled back and not promoted since; what runs the same
/// images again may pass by luck.
fn failed_with(history: &[PastRelease], images: &[String]) -> Option<i64> {
    let last = history.iter().find(|p| p.images == images)?;
    (last.outcome == Outcome::RolledBack).then_some(last.number)
}

fn ordinal(n: usize) -> String {
    match n {
        2 => "second time".to_owned(),
        3 => "third time".to_owned(),
        n => format!("{n}th time"),
    }
}

fn begin(
    case: &mut Case<'_>,
    deployment: &Deployment,
    stable: &ReplicaSet,
    plan: &Plan,
    retry: Option<&Action>,
) {
    let spec: &RolloutSpec = match &case.seen.spec {
        Ok(spec) => spec,
        Err(error) => return case.fail("InvalidSpec", &error.to_string()),
    };
    let reused = current(case, deployment).cloned();
    let promoted = |set: &ReplicaSet| {
        let mut past = case.status.history.iter();
        past.any(|p| {
            let was_stable = p.replica_set == set.name || p.replaced.as_ref() == Some(&set.name);
            p.outcome != Outcome::RolledBack && was_stable
        })
    };
    let undo = reused.as_ref().is_some_and(promoted);
    let kind = match retry {
        Some(_) => ReleaseKind::Retry,
        None if undo => ReleaseKind::Undo,
        None => ReleaseKind::New,
    };
    let hash =
        reused.as_ref().map_or_else(|| canary_hash(&deployment.template), |s| s.hash.clone());
    let revision = Revision {
        replica_set: reused
            .as_ref()
            .map_or_else(|| format!("{}-{hash}", plan.deployment), |s| s.name.clone()),
        hash: hash.clone(),
        images: images(&deployment.template),
        taken_over: reused.is_some(),
    };
    let failed = failed_with(&case.status.history, &revision.images);
    let number = case.status.release.as_ref().map_or(0, |r| r.number) + 1;
    let frozen = super::frozen(spec);
    case.status.release = Some(Release {
        number,
        template_hash: hash,
        kind,
        images: revision.images.clone(),
        deployment_generation: deployment.generation,
        template_digest: template_digest(&deployment.template),
        started_at: case.now,
        plan_hash: digest(&frozen),
        plan: frozen,
        promoted_by: None,
        passes: Vec::new(),
    });
    case.status.canary = Some(revision);
    case.status.step = None;
    case.status.engine = None;
    case.status.analysis.clear();
    case.status.evidence = None;
    case.status.conditions.retain(|c| c.kind != "PromotedWithoutEvidence");
    super::reach::forget(case);
    case.status.used_actions.clear();
    case.status.pause = None;
    let undoing = case.status.undo.take();
    case.status.phase = Phase::Preparing;
    let what = match retry {
        Some(action) => format!(
            "tried again {}, for the {}: each try has a chance of its own to pass by luck",
            said(action),
            ordinal(tries(&case.status.history))
        ),
        None if is_immediate(kind, plan) => "undo, at once".to_owned(),
        None => match failed {
            Some(number) => {
                format!("a new template, with images that release {number} failed with")
            }
            None => "a new template".to_owned(),
        },
    };
    let images = images(&deployment.template).join(", ");
    let reason = format!("{what}: {images}");
    let who = retry.map(|action| action.spec.requested_by.clone()).or(undoing.map(|u| u.by));
    case.record(Verdict::Start, 0, who.as_deref().unwrap_or(CONTROLLER), reason.clone());
    case.notice(Reason::Started, format!("release {number}: {reason}"), false);
    case.desired.pin_stable = Pin::To(stable.hash.clone());
    case.wait(WaitingKind::Services, "the two versions are being told apart");
}
