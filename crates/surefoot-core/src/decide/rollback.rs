//! The way back: weight 0 first and whatever else is wrong, then the canary's pods, then the pins.

use super::{Case, rest, step};
use crate::api::notice::Reason;
use crate::api::status::{Outcome, PastRelease, Phase, WaitingKind};
use crate::desired::{CanaryWanted, Pin};
use crate::engine;
use crate::observed::{Service, is_pod_of};
use crate::plan::Plan;

pub(super) fn decide(case: &mut Case<'_>, plan: &Plan) {
    desire(case);
    if handed_over(case) {
        return ended(case);
    }
    if !stable_reached(case) || !away(case, plan) {
        return;
    }
    let Some(canary) = case.status.canary.clone() else { return ended(case) };
    case.desired.canary = CanaryWanted::Absent(canary.clone());
    let set = case.seen.replica_set(&canary.replica_set);
    let there = if canary.taken_over {
        set.is_some_and(|s| s.owner == crate::observed::Owner::Rollout)
    } else {
        set.is_some()
    };
    // A ReplicaSet goes at once, its pods later; whatever would reach them must not be let go before.
    let reaches = |service: &Option<Service>| {
        let pods = service.iter().flat_map(|s| &s.endpoints);
        pods.into_iter().any(|e| is_pod_of(&e.pod, &canary.replica_set))
    };
    if there || [&case.seen.canary, &case.seen.apex].into_iter().any(reaches) {
        return case.wait(WaitingKind::CanaryGone, "the canary's pods are going");
    }
    ended(case);
}

/// The canary's pods are the Deployment's already: its controller looks after them and after
/// stable's, and what runs then is found anew. A ReplicaSet that was to be taken over and never was
/// has no pods.
fn handed_over(case: &Case<'_>) -> bool {
    let untouched = case.status.canary.as_ref().is_some_and(|c| c.taken_over)
        && case.canary_set().is_some_and(|s| s.replicas == 0);
    case.adopted() && !untouched
}

/// What is wanted from the first moment on: stable's Service on stable's pods, then weight 0.
pub(super) fn desire(case: &mut Case<'_>) {
    case.desired.canary = CanaryWanted::Leave;
    case.desired.pin_canary = Pin::Leave;
    if handed_over(case) {
        // Either version's pods may be the ones that go.
        case.unpin();
    } else if let Some(stable) = &case.status.stable {
        // Only a hand-over that was stopped has these on other pods.
        let flipped = |service: &Option<Service>| {
            let pin = service.as_ref().and_then(|s| s.pin.as_ref());
            pin.is_some_and(|hash| *hash != stable.hash)
        };
        if flipped(&case.seen.stable) {
            case.desired.pin_stable = Pin::To(stable.hash.clone());
        }
        if flipped(&case.seen.apex) {
            case.desired.pin_apex = Pin::To(stable.hash.clone());
        }
    }
    case.desired.weight = stable_serves(case).then_some(0);
}

/// Stable's Service reaches a ready pod of stable, or nothing is lost by moving all the same.
fn stable_serves(case: &Case<'_>) -> bool {
    let Some(stable) = &case.status.stable else { return true };
    let reached = case.seen.stable.as_ref().map_or(0, |s| s.ready_of(&stable.replica_set));
    let canary = case.seen.canary.as_ref().map_or(0, Service::ready);
    reached > 0 || canary == 0
}

/// Where a pinned Service reaches nothing but stable's pods: one that is turned back from a hand-over
/// takes a moment.
fn turned_back(case: &Case<'_>) -> bool {
    let Some(stable) = &case.status.stable else { return true };
    let turned = |service: &Option<Service>| {
        service.as_ref().filter(|s| s.pin.is_some()).is_none_or(|s| {
            s.pin.as_ref() == Some(&stable.hash) && s.ready() == s.ready_of(&stable.replica_set)
        })
    };
    turned(&case.seen.stable) && turned(&case.seen.apex)
}

fn stable_reached(case: &mut Case<'_>) -> bool {
    if stable_serves(case) {
        return true;
    }
    case.wait(
        WaitingKind::Endpoints,
        "stable has no ready pod to take the traffic; the weight goes to 0 as soon as it has one",
    );
    false
}

/// Whether no traffic goes to the canary any more.
fn away(case: &mut Case<'_>, plan: &Plan) -> bool {
    let route = match &case.seen.route {
        Ok(route) => route.clone(),
        // A route that is gone sends nothing anywhere.
        Err(problem) if problem.is_missing() => return true,
        Err(problem) => {
            case.wait(
                WaitingKind::Prerequisite,
                format!("{problem}. The canary's pods stay until its weight is 0"),
            );
            return false;
        }
    };
    if !route.is_off() {
        case.wait(WaitingKind::RouteWritten, "the route is being written");
        return false;
    }
    let decided = case.status.decision.as_ref().map_or(case.now, |d| d.at);
    let handing_over = case.status.step.as_ref().is_some_and(|s| s.handing_over);
    if handing_over && !turned_back(case) {
        case.wait(WaitingKind::Services, "what reaches stable is being turned back to its pods");
        return false;
    }
    // The weights say nothing of a Service or subset that is turned back under them: only time does.
    let since = if handing_over { route.since.max(decided) } else { route.since };
    let shown = !handing_over
        && case.samples.ticks.iter().any(|t| t.from >= route.since && step::shows(t, 0));
    // Where no weight was ever allowed there is nothing to wait for.
    let never = case.status.step.is_none();
    if !never && !shown && !case.passed(since, plan.propagation_delay) {
        case.wait(WaitingKind::Propagation, "the proxies are taking up the weight");
        return false;
    }
    true
}

/// The canary is gone: unpin, then say how it ended.
fn ended(case: &mut Case<'_>) {
    case.unpin();
    if case.pinned() {
        return case.wait(WaitingKind::Services, "the Services are being unpinned");
    }
    if case.seen.break_glass.is_some() {
        case.desired.mended = true;
        let message = "the mark of the break-glass abort is being taken off the route";
        return case.wait(WaitingKind::RouteWritten, message);
    }
    let canary = case.status.canary.take();
    if let Some(release) = &case.status.release {
        let why = case.status.decision.as_ref().map(|d| d.reason.clone()).unwrap_or_default();
        let mut past = PastRelease {
            number: release.number,
            outcome: Outcome::RolledBack,
            kind: release.kind,
            by: case.status.decision.as_ref().map(|d| d.actor.clone()).unwrap_or_default(),
            replica_set: canary.map(|c| c.replica_set).unwrap_or_default(),
            replaced: None,
            images: release.images.clone(),
            started_at: release.started_at,
            ended_at: case.now,
            why: why.clone(),
            passes: Vec::new(),
            analysis: Vec::new(),
            evidence: None,
        };
        engine::keep(&case.status, &mut past);
        let note = format!("release {}: {why}", release.number);
        rest::remember(&mut case.status.history, past);
        case.notice(Reason::RolledBack, note, true);
    }
    super::reach::forget(case);
    case.status.step = None;
    case.status.engine = None;
    // Whether that is the end, or a new template is waiting, the next look tells.
    case.status.phase = Phase::Degraded;
    if !case.deleting {
        case.wake(case.now);
    }
}
