//! Preparing: stable pinned first, then the canary's pods, then a record of stable.

use std::time::Duration;

use super::{Case, between, step};
use crate::api::rollout::Apex;
use crate::api::status::{ReleaseKind, Waiting, WaitingKind};
use crate::desired::{CanaryWanted, Pin};
use crate::plan::{MetricPlan, Plan};
use crate::template::equal;

/// How long a release waits for a record of stable's past before it goes on without.
const BASELINE_PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn decide(case: &mut Case<'_>, plan: &Plan) {
    if case.interrupted() {
        return;
    }
    // Whatever is there before the first step is somebody else's, and reaches no pod.
    if case.seen.route.as_ref().is_ok_and(|r| r.weights.highest() > 0 || r.chosen) {
        case.desired.weight = Some(0);
    }
    if !pin(case, plan) {
        return;
    }
    let Some(ready) = canary(case, plan, 0) else { return };
    if !ready {
        return;
    }
    if !baseline(case, plan) {
        return;
    }
    step::enter(case, plan, 0);
}

/// Pin both Services (or subsets) to their versions; whether both are.
pub(super) fn pin(case: &mut Case<'_>, plan: &Plan) -> bool {
    let (Some(stable), Some(canary)) = (&case.status.stable, &case.status.canary) else {
        case.fail(
            "InvalidStatus",
            "status.stable and status.canary are written by the controller alone",
        );
        return false;
    };
    case.desired.services = true;
    // Somebody who resumes the Deployment now would roll the new template out behind our back.
    case.desired.deployment.paused = Some(true);
    case.desired.pin_stable = Pin::To(stable.hash.clone());
    case.desired.pin_canary = Pin::To(canary.hash.clone());
    let alone = plan.routing.apex == Apex::StableOnly;
    if alone {
        case.desired.pin_apex = Pin::To(stable.hash.clone());
    }
    let pinned = |service: &Option<crate::observed::Service>, hash: &String| {
        service.as_ref().is_some_and(|s| s.pin.as_ref() == Some(hash))
    };
    let done = pinned(&case.seen.stable, &stable.hash)
        && pinned(&case.seen.canary, &canary.hash)
        && (!alone || pinned(&case.seen.apex, &stable.hash));
    if !done {
        // A subset that somebody takes away in the middle of a release can't be pinned.
        match &case.seen.split {
            Err(problem) => case.wait(WaitingKind::Prerequisite, problem.to_string()),
            Ok(()) => case.wait(WaitingKind::Services, "the two versions are being told apart"),
        }
    }
    done
}

/// Want the canary's pods for a step; whether enough of them are ready. `None` when the release
/// was rolled back for them.
pub(super) fn canary(case: &mut Case<'_>, plan: &Plan, index: usize) -> Option<bool> {
    let (Some(revision), Some(deployment)) = (case.status.canary.clone(), &case.seen.deployment)
    else {
        return Some(false);
    };
    let Some(step) = plan.steps.get(index) else { return Some(false) };
    let need = step.pods(deployment.replicas);
    let wanted = |replicas| CanaryWanted::Pods { revision: revision.clone(), replicas };
    let since = case.status.step.as_ref().map(|s| s.begun_at);
    let since = since.or(case.status.release.as_ref().map(|r| r.started_at)).unwrap_or(case.now);
    let Some(set) = case.seen.replica_set(&revision.replica_set) else {
        if case.passed(since, plan.progress_deadline) {
            let why = format!("ReplicaSet {} couldn't be made", revision.replica_set);
            case.roll_back(super::CONTROLLER, why);
            return None;
        }
        case.desired.canary = wanted(0);
        case.wait(
            WaitingKind::CanaryCreated,
            format!("ReplicaSet {} is being made", revision.replica_set),
        );
        return Some(false);
    };
    if !equal(&set.template, &deployment.template) {
        let why = format!(
            "ReplicaSet {} has another template than the Deployment: an admission webhook changes \
             one of them (TemplateMutated)",
            set.name
        );
        case.roll_back(super::CONTROLLER, why);
        return None;
    }
    case.desired.canary = wanted(need);
    let service = case.seen.canary.as_ref();
    let have = service.map_or(0, |s| s.ready_of(&revision.replica_set)).min(set.ready);
    if need == 0 {
        // Nobody waits for pods that nobody wants, and no traffic may go where there are none.
        let message = "the Deployment is scaled to 0: the release goes on when it has replicas";
        case.wait(WaitingKind::CanaryReady, message);
        return Some(false);
    }
    if have >= need {
        return Some(true);
    }
    if case.passed(since, plan.progress_deadline) {
        let why = format!(
            "{have} of {need} canary pods were ready after {}",
            crate::words::span(between(since, case.now))
        );
        case.roll_back(super::CONTROLLER, why);
        return None;
    }
    case.waiting(Waiting {
        kind: WaitingKind::CanaryReady,
        name: Some(revision.replica_set),
        have: Some(have.into()),
        need: Some(need.into()),
        message: format!("{have} of {need} canary pods are ready"),
        until: Some(super::after(since, plan.progress_deadline)),
    });
    Some(false)
}

/// Whether stable's past is on record, or has been waited for long enough.
fn baseline(case: &mut Case<'_>, plan: &Plan) -> bool {
    let judged = plan.metrics.iter().any(MetricPlan::is_counted);
    let immediate = case.status.release.as_ref().is_some_and(|r| r.kind == ReleaseKind::Undo)
        && plan.metrics.is_empty();
    if !judged || immediate || case.samples.baseline.is_some() {
        return true;
    }
    let since = case.status.release.as_ref().map_or(case.now, |r| r.started_at);
    if case.passed(since, BASELINE_PATIENCE) {
        return true;
    }
    case.wait(
        WaitingKind::Baseline,
        "stable's latest requests are being read, to know what is usual before the canary",
    );
    false
}
